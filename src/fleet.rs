//! The fleet page: what runs where, how well we deliver, and why it fails, from the ledgers of all
//! services. `docs/fleet.md` says what is counted.
//!
//! The figures (`dora`, `matrix`) and the pages (`page`) are pure. Only records that are new are read:
//! `index` keeps what was read before.

mod chart;
pub mod dora;
mod entry;
mod index;
mod matrix;
mod page;
mod source;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use indexmap::IndexMap;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use crate::deploy::diff::compare_documents;
use crate::error::{Cannot, Error, Result};
use crate::ledger::freeze::Freezes;
use crate::ledger::keys;
use crate::ledger::store::Store;
use dora::Figures;
use entry::Track;
use index::{Index, Known, replace_file};
use matrix::{Summary, summarise};
use page::service::Differences;
use page::{Frame, Place, frame_page};
pub use source::Broken;
use source::{Drifts, Heads, Records, has_seen_all};

/// How many services are read at a time.
const AT_ONCE: usize = 16;
/// The newest records of a place whose difference to the one before is shown.
const COMPARED: usize = 3;

/// What a report is made of, and where it goes.
pub struct Request {
    pub store: Store,
    /// The site's folder.
    pub to: PathBuf,
    pub index: PathBuf,
    /// In the order in which a version goes through them; the last is production, and no others are
    /// read, as those of pull requests. Empty: all that are found, by name, with `production` last.
    pub environments: Vec<String>,
    pub now: Timestamp,
}

/// All that the pages of the organisation are made of.
pub struct Fleet {
    pub services: Vec<Summary>,
    pub environments: Vec<String>,
    pub freezes: Freezes,
    pub broken: Vec<Broken>,
    pub made: Timestamp,
    /// How many services have records that the index did not know.
    pub changed: usize,
}

/// The same figures for machines.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FleetFigures<'a> {
    pub made: Timestamp,
    pub environments: &'a [String],
    pub records: usize,
    pub broken: &'a [Broken],
    pub delivery: Figures,
    pub weeks: BTreeMap<String, Figures>,
    pub causes: IndexMap<String, usize>,
    pub pipelines: IndexMap<String, usize>,
    pub services: Vec<ServiceFigures<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceFigures<'a> {
    pub name: &'a str,
    pub records: usize,
    pub cells: &'a [matrix::Cell],
    pub delivery: Figures,
    pub pipeline_version: &'a str,
}

/// The figures of one service in one environment, as the page has them.
///
/// # Errors
/// As [`write_site`].
pub async fn measure(store: &Store, service: &str, environment: &str) -> Result<Figures> {
    let heads = source::list_heads(store, service, &[]).await?;
    let records = source::read_new_records(store, service, &heads, Records::default()).await?;
    let environments = [environment.to_string()];
    let summary = summarise(service, &records.tracks, &Drifts::new(), &environments);
    Ok(Figures::of(&summary.changes))
}

/// Reads what is new, and writes the site.
///
/// # Errors
/// Refused with `ledger-unavailable`, when the records cannot be listed or read; unexpected, when the
/// site cannot be written. A record that is broken is left out and named.
pub async fn write_site(request: Request) -> Result<Fleet> {
    let request = Arc::new(request);
    let store = &request.store;
    let names = source::list_services(store).await?;
    let ledgers = stream::iter(names).map(async |name| {
        let heads = source::list_heads(store, &name, &request.environments).await?;
        let (drifts, unread) = source::read_drifts(store, &name, &heads).await?;
        Ok::<_, Error>(Ledgers { name, heads, drifts, unread })
    });
    let mut ledgers: Vec<Ledgers> = ledgers.buffered(AT_ONCE).try_collect().await?;
    ledgers.retain(|ledgers| !ledgers.heads.is_empty());
    let found = ledgers.iter().flat_map(|ledgers| ledgers.heads.keys());
    let environments = Arc::new(order_environments(&request.environments, found));
    let index = Arc::new(Index::new(&request.index, index_key(&request, &environments)));
    let mut known: BTreeMap<String, Known> =
        index.read_fleet().into_iter().map(|known| (known.summary.name.clone(), known)).collect();
    let mut changed = 0;
    let mut unread = Vec::new();
    let tasks: Vec<_> = ledgers
        .into_iter()
        .map(|mut ledgers| {
            unread.append(&mut ledgers.unread);
            let known = known.remove(&ledgers.name);
            let page = page_of(&request.to, &ledgers.name);
            let known =
                known.filter(|known| has_seen_all(&known.seen, &ledgers.heads) && page.exists());
            changed += usize::from(known.is_none());
            let known = known.filter(|known| known.drifts == ledgers.drifts);
            (ledgers, known)
        })
        .collect();
    let services = stream::iter(tasks).map(|(ledgers, known)| {
        let (request, index) = (request.clone(), index.clone());
        let environments = environments.clone();
        async move {
            let Some(known) = known else {
                let work = make_service(request, index, environments, ledgers);
                return tokio::spawn(work).await.cannot(|| "read the records".into())?;
            };
            Ok::<Known, Error>(known)
        }
    });
    let services: Vec<Known> = services.buffered(AT_ONCE).try_collect().await?;
    let (freezes, unread_freezes) = read_freezes(store).await?;
    unread.extend(unread_freezes);
    let broken = services.iter().flat_map(|known| known.broken.clone());
    let fleet = Fleet {
        environments: environments.to_vec(),
        freezes,
        broken: broken.chain(unread).collect(),
        services: services.iter().map(|known| known.summary.clone()).collect(),
        made: request.now,
        changed,
    };
    write_pages(&fleet, &request.to)?;
    index.write_fleet(services)?;
    Ok(fleet)
}

/// What is read of a service each time.
struct Ledgers {
    name: String,
    heads: Heads,
    drifts: Drifts,
    unread: Vec<Broken>,
}

/// Reads a service's new records, and writes its page.
async fn make_service(
    request: Arc<Request>,
    index: Arc<Index>,
    environments: Arc<Vec<String>>,
    ledgers: Ledgers,
) -> Result<Known> {
    let Ledgers { name, heads, drifts, .. } = ledgers;
    let before = index.read_records(&name);
    let mut records = source::read_new_records(&request.store, &name, &heads, before).await?;
    // The page begins with production.
    let place = |track: &Track| environments.iter().position(|name| *name == track.environment);
    records.tracks.sort_by_key(|track| std::cmp::Reverse(place(track)));
    let summary = summarise(&name, &records.tracks, &drifts, &environments);
    let differences = compare_states(&request.store, &name, &records.tracks).await?;
    let content = page::service::show_service(&summary, &records.tracks, &differences);
    let made = text::show_time(request.now);
    let frame = Frame { made: &made, place: Place::Service };
    let page = frame_page(&frame, &text::show_line(&name), &content);
    replace_file(&page_of(&request.to, &name), page.as_bytes())?;
    index.write_records(&name, &records)?;
    let Records { broken, seen, .. } = records;
    Ok(Known { summary, seen, drifts, broken })
}

/// What differs between the states of the newest records.
async fn compare_states(store: &Store, service: &str, tracks: &[Track]) -> Result<Differences> {
    let mut wanted = Vec::new();
    for (at, track) in tracks.iter().enumerate() {
        for pair in track.entries.windows(2).rev().take(COMPARED) {
            let (Some(old), Some(new)) = (&pair[0].state_hash, &pair[1].state_hash) else {
                continue;
            };
            if old != new {
                let (environment, destination) = (&track.environment, &track.destination);
                let ledger = keys::ledger_folder(service, environment, destination);
                let key = |hash| keys::state_key(&ledger, hash);
                wanted.push(((at, pair[1].number), [key(old), key(new)]));
            }
        }
    }
    let keys = wanted.iter().flat_map(|(_, keys)| keys.clone()).collect();
    let states = store.read_all(keys).await?;
    let open = |bytes: &Option<Vec<u8>>| {
        let json = flate2::read::GzDecoder::new(bytes.as_deref()?);
        serde_json::from_reader::<_, serde_json::Value>(json).ok()
    };
    let pairs = wanted.into_iter().zip(states.chunks(2));
    Ok(pairs
        .filter_map(|((place, _), pair)| {
            Some((place, compare_documents(&open(&pair[0])?, &open(&pair[1])?, &[])))
        })
        .collect())
}

/// The freezes, or why they cannot be read.
async fn read_freezes(store: &Store) -> Result<(Freezes, Option<Broken>)> {
    let found = store.read_all(vec![keys::FREEZES.to_string()]).await?;
    let Some(bytes) = found.into_iter().next().flatten() else { return Ok(Default::default()) };
    Ok(match serde_json::from_slice(&bytes) {
        Ok(freezes) => (freezes, None),
        Err(error) => {
            let broken = Broken { key: keys::FREEZES.into(), why: error.to_string() };
            (Freezes::default(), Some(broken))
        }
    })
}

fn write_pages(fleet: &Fleet, to: &Path) -> Result<()> {
    let made = text::show_time(fleet.made);
    let frame = Frame { made: &made, place: Place::Top };
    let pages = [
        ("index.html", "What runs where", page::matrix::show_matrix(fleet)),
        ("delivery.html", "Delivery", page::delivery::show_delivery(fleet)),
        ("causes.html", "Causes of failed deploys", page::delivery::show_causes(fleet)),
        ("pipelines.html", "Pipelines in use", page::delivery::show_pipelines(fleet)),
    ];
    for (file, title, content) in &pages {
        replace_file(&to.join(file), frame_page(&frame, title, content).as_bytes())?;
    }
    let figures = serde_json::to_vec(&fleet.figures()).cannot(|| "write the figures".into())?;
    replace_file(&to.join("figures.json"), &figures)
}

impl Fleet {
    /// The figures for machines.
    pub fn figures(&self) -> FleetFigures<'_> {
        let all = || self.services.iter().flat_map(|service| &service.changes);
        let weeks = |(week, figures): (Date, Figures)| (week.to_string(), figures);
        FleetFigures {
            made: self.made,
            environments: &self.environments,
            records: self.services.iter().map(|service| service.records).sum(),
            broken: &self.broken,
            delivery: Figures::of(all()),
            weeks: Figures::by_week(all()).into_iter().map(weeks).collect(),
            causes: rank_causes(&self.services)
                .into_iter()
                .map(|(cause, count, _)| (cause, count))
                .collect(),
            pipelines: rank_pipelines(&self.services)
                .into_iter()
                .map(|(version, services)| (version, services.len()))
                .collect(),
            services: self
                .services
                .iter()
                .map(|service| ServiceFigures {
                    name: &service.name,
                    records: service.records,
                    cells: &service.cells,
                    delivery: Figures::of(&service.changes),
                    pipeline_version: &service.pipeline_version,
                })
                .collect(),
        }
    }
}

/// The causes, the most frequent first, each with its services, the most frequent first.
fn rank_causes(services: &[Summary]) -> Vec<(String, usize, Vec<(&str, usize)>)> {
    let mut causes: BTreeMap<&str, Vec<(&str, usize)>> = BTreeMap::new();
    for service in services {
        for (cause, count) in &service.causes {
            causes.entry(cause).or_default().push((&service.name, *count));
        }
    }
    let mut ranked: Vec<_> = causes
        .into_iter()
        .map(|(cause, mut services)| {
            services.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let count = services.iter().map(|(_, count)| count).sum();
            (cause.to_string(), count, services)
        })
        .collect();
    ranked.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
    ranked
}

/// The versions of this program in use, the newest first, with the services that use them. One that
/// is no version comes last.
fn rank_pipelines(services: &[Summary]) -> Vec<(String, Vec<&str>)> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for service in services.iter().filter(|service| !service.pipeline_version.is_empty()) {
        versions.entry(&service.pipeline_version).or_default().push(&service.name);
    }
    let mut ranked: Vec<_> = versions.into_iter().collect();
    ranked
        .sort_by_cached_key(|(version, _)| std::cmp::Reverse(semver::Version::parse(version).ok()));
    ranked.into_iter().map(|(version, services)| (version.to_string(), services)).collect()
}

/// Those that were named, then the others that were found, by name and with `production` last.
fn order_environments<'a>(
    named: &[String],
    ledgers: impl Iterator<Item = &'a String>,
) -> Vec<String> {
    let found: BTreeSet<&str> =
        ledgers.filter_map(|ledger| Some(ledger.split_once('/')?.0)).collect();
    if !named.is_empty() {
        return named.to_vec();
    }
    let mut order: Vec<String> = found.into_iter().map(str::to_string).collect();
    order.sort_by_key(|name| name == "production");
    order
}

/// What makes an index another one.
fn index_key(request: &Request, environments: &[String]) -> String {
    let source = request.store.describe("");
    format!("{} {source} {}", crate::VERSION, environments.join(","))
}

fn page_of(to: &Path, service: &str) -> PathBuf {
    to.join("services").join(format!("{}.html", text::file_name(service)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn production_is_last_unless_somebody_says_otherwise() {
        let ledgers = ["production/a", "staging/a", "dev/b"].map(str::to_string);
        let order = |named: &[&str]| {
            let named: Vec<String> = named.iter().map(|name| name.to_string()).collect();
            order_environments(&named, ledgers.iter())
        };
        assert_eq!(order(&[]), ["dev", "staging", "production"]);
        assert_eq!(order(&["staging", "live"]), ["staging", "live"]);
    }

    #[test]
    fn the_newest_pipeline_is_first_and_what_is_none_last() {
        let versions = ["1.9.0", "1.10.0", "main", "1.9.0"];
        let services: Vec<Summary> = versions
            .iter()
            .map(|version| Summary { pipeline_version: version.to_string(), ..Summary::default() })
            .collect();
        let ranked: Vec<(String, usize)> = rank_pipelines(&services)
            .into_iter()
            .map(|(version, services)| (version, services.len()))
            .collect();
        assert_eq!(ranked, [("1.10.0".into(), 1), ("1.9.0".into(), 2), ("main".into(), 1)]);
    }
}
