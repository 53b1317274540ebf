//! Reads a service's records: what is new since the index was written, and what could not be read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Track};
use crate::error::Result;
use crate::ledger::store::Store;
use crate::ledger::{Drift, keys};

/// An object that could not be read: it is left out, and named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Broken {
    pub key: String,
    pub why: String,
}

/// All that is known of a service's records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Records {
    pub tracks: Vec<Track>,
    pub broken: Vec<Broken>,
    /// Per ledger, `ENVIRONMENT/DESTINATION`, the number of the last record that was looked at.
    pub seen: BTreeMap<String, u64>,
}

/// The last record's number in each ledger of a service, by `ENVIRONMENT/DESTINATION`. `None` where
/// the head does not say it, which is no reason to leave the records out.
pub type Heads = BTreeMap<String, Option<u64>>;

/// The services that have a ledger.
///
/// # Errors
/// Refused with `ledger-unavailable`, as all here.
pub async fn list_services(store: &Store) -> Result<Vec<String>> {
    store.list_folders(keys::ROOT).await
}

/// Reads the heads of a service's ledgers, in `environments` alone if any are named.
pub async fn list_heads(store: &Store, service: &str, environments: &[String]) -> Result<Heads> {
    #[derive(Deserialize)]
    struct Head {
        last: Last,
    }
    #[derive(Deserialize)]
    struct Last {
        number: u64,
    }
    let below = format!("{}{service}/", keys::ROOT);
    let mut names = Vec::new();
    for environment in store.list_folders(&below).await? {
        if !environments.is_empty() && !environments.contains(&environment) {
            continue;
        }
        let destinations = store.list_folders(&format!("{below}{environment}/")).await?;
        names.extend(destinations.iter().map(|destination| format!("{environment}/{destination}")));
    }
    let heads = names.iter().map(|name| keys::head_key(&folder_of(service, name))).collect();
    let numbers = store.read_all(heads).await?.into_iter().map(|head| {
        let head: Option<Head> = serde_json::from_slice(&head?).ok();
        head.map(|head| head.last.number)
    });
    Ok(names.into_iter().zip(numbers).collect())
}

/// What was seen of drift in each ledger of a service that somebody looked at, by
/// `ENVIRONMENT/DESTINATION`.
pub type Drifts = BTreeMap<String, Drift>;

/// Reads what was seen of drift. What cannot be read is named.
pub async fn read_drifts(
    store: &Store,
    service: &str,
    heads: &Heads,
) -> Result<(Drifts, Vec<Broken>)> {
    let of = |ledger: &String| keys::drift_key(&folder_of(service, ledger));
    let found = store.read_all(heads.keys().map(of).collect()).await?;
    let (mut drifts, mut broken) = (Drifts::new(), Vec::new());
    for (ledger, bytes) in heads.keys().zip(found) {
        match bytes.as_deref().map(serde_json::from_slice) {
            Some(Ok(drift)) => drop(drifts.insert(ledger.clone(), drift)),
            Some(Err(error)) => broken.push(Broken { key: of(ledger), why: error.to_string() }),
            None => {}
        }
    }
    Ok((drifts, broken))
}

/// Whether everything that the heads name was looked at.
pub fn has_seen_all(seen: &BTreeMap<String, u64>, heads: &Heads) -> bool {
    let is_seen = |(ledger, last): (&String, &Option<u64>)| {
        last.is_some_and(|last| seen.get(ledger).is_some_and(|seen| *seen >= last))
    };
    seen.len() == heads.len() && heads.iter().all(is_seen)
}

fn split_name(ledger: &str) -> (&str, &str) {
    ledger.split_once('/').unwrap_or((ledger, ""))
}

/// What the keys of a service's ledger begin with.
fn folder_of(service: &str, ledger: &str) -> String {
    let (environment, destination) = split_name(ledger);
    keys::ledger_folder(service, environment, destination)
}

/// Reads the records that `known` does not have yet.
pub async fn read_new_records(
    store: &Store,
    service: &str,
    heads: &Heads,
    known: Records,
) -> Result<Records> {
    let mut records = known;
    // What is gone from the ledger is gone from here.
    records.seen.retain(|ledger, _| heads.contains_key(ledger));
    records.tracks.retain(|track| {
        heads.contains_key(&format!("{}/{}", track.environment, track.destination))
    });
    for (ledger, last) in heads {
        let seen = records.seen.get(ledger).copied().unwrap_or_default();
        if last.is_some_and(|last| seen >= last) {
            continue;
        }
        let folder = folder_of(service, ledger);
        let after = match seen {
            0 => String::new(),
            seen => keys::record_key(&folder, seen),
        };
        let new = store.list(&keys::record_folder(&folder), &after).await?;
        let found = store.read_all(new.clone()).await?;
        let (environment, destination) = split_name(ledger);
        let at = records
            .tracks
            .iter()
            .position(|track| track.environment == environment && track.destination == destination);
        let at = at.unwrap_or_else(|| {
            records.tracks.push(Track {
                environment: environment.to_string(),
                destination: destination.to_string(),
                entries: Vec::new(),
            });
            records.tracks.len() - 1
        });
        let mut newest = seen;
        for (key, bytes) in new.into_iter().zip(found) {
            newest = newest.max(keys::read_record_number(&key).unwrap_or_default());
            match bytes.as_deref().map(serde_json::from_slice::<Entry>) {
                Some(Ok(entry)) if entry.number > 0 => records.tracks[at].entries.push(entry),
                Some(Ok(_)) => records.broken.push(Broken { key, why: "it has no number".into() }),
                Some(Err(error)) => {
                    records.broken.push(Broken { key, why: error.to_string() });
                }
                None => records.broken.push(Broken { key, why: "it is gone".into() }),
            }
        }
        records.tracks[at].entries.sort_by_key(|entry| entry.number);
        records.seen.insert(ledger.clone(), newest);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_head_names_is_looked_at_each_time() {
        let heads = |last: Option<u64>| Heads::from([("staging/docker".to_string(), last)]);
        let seen = BTreeMap::from([("staging/docker".to_string(), 4)]);
        for (heads, all) in [
            (heads(Some(4)), true),
            // A head is written after its record.
            (heads(Some(3)), true),
            (heads(Some(5)), false),
            (heads(None), false),
            (Heads::new(), false),
        ] {
            assert_eq!(has_seen_all(&seen, &heads), all, "{heads:?}");
        }
    }
}
