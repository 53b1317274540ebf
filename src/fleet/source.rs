//! Reads a service's records: what is new since the index was written, and what could not be read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Track};
use crate::error::Result;
use crate::ledger::store::Store;

/// What all ledgers begin with.
const ROOT: &str = "cicd/";

/// A record that could not be read: it is left out, and named.
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

/// The services that have a ledger.
///
/// # Errors
/// Refused with `ledger-unavailable`, as all here.
pub async fn list_services(store: &Store) -> Result<Vec<String>> {
    store.list_folders(ROOT).await
}

/// The last record's number in each ledger of a service, by `ENVIRONMENT/DESTINATION`.
pub async fn list_heads(store: &Store, service: &str) -> Result<BTreeMap<String, u64>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Head {
        last: Last,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Last {
        number: u64,
    }
    let below = format!("{ROOT}{service}/");
    let mut names = Vec::new();
    for environment in store.list_folders(&below).await? {
        let destinations = store.list_folders(&format!("{below}{environment}/")).await?;
        names.extend(destinations.iter().map(|destination| format!("{environment}/{destination}")));
    }
    let keys = names.iter().map(|name| format!("{below}{name}/head.json")).collect();
    let heads = store.read_all(keys).await?.into_iter().map(|head| {
        // A head that is not there, or broken, is no reason to leave the records out.
        let head = head.and_then(|bytes| serde_json::from_slice::<Head>(&bytes).ok());
        head.map_or(u64::MAX, |head| head.last.number)
    });
    Ok(names.into_iter().zip(heads).collect())
}

/// Reads the records that `known` does not have yet.
pub async fn read_new_records(
    store: &Store,
    service: &str,
    heads: &BTreeMap<String, u64>,
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
        if seen >= *last {
            continue;
        }
        let folder = format!("{ROOT}{service}/{ledger}/records/");
        let after = match seen {
            0 => String::new(),
            seen => format!("{folder}{seen:08}.json"),
        };
        let keys = store.list(&folder, &after).await?;
        let found = store.read_all(keys.clone()).await?;
        let (environment, destination) = ledger.split_once('/').unwrap_or((ledger, ""));
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
        for (key, bytes) in keys.into_iter().zip(found) {
            newest = newest.max(number_of(&key).unwrap_or_default());
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

/// The number in `…/records/00000042.json`.
fn number_of(key: &str) -> Option<u64> {
    key.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()
}
