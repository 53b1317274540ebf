//! What runs where: a service's summary, of which the fleet's pages are made. Pure.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::dora::{Change, list_changes, list_commit_times};
use super::entry::{Entry, Track};
use crate::digest::Digest;
use crate::ledger::RecordResult;

/// What runs of a service in one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cell {
    pub environment: String,
    pub destination: String,
    /// The last good record; `None` before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// The last record that says something, where it did not bring what runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
    /// How many other images ran well in the environment before this one since what runs here did.
    /// `None` in the first environment, and where what runs here never ran there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Running {
    pub number: u64,
    pub version: String,
    pub digest: Option<Digest>,
    pub since: Timestamp,
    pub who: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failed {
    pub number: u64,
    pub version: String,
    pub result: RecordResult,
    pub causes: Vec<String>,
    pub ended: Timestamp,
}

/// A service in short: enough for every page but its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Summary {
    pub name: String,
    pub cells: Vec<Cell>,
    /// Those of the last environment.
    pub changes: Vec<Change>,
    /// How many records of any environment name each cause.
    pub causes: BTreeMap<String, usize>,
    /// The version of this program in the newest record.
    pub pipeline_version: String,
    pub records: usize,
}

/// Sums a service up. `environments` are in the order in which a version goes through them; the last
/// one is production.
pub fn summarise(name: &str, tracks: &[Track], environments: &[String]) -> Summary {
    let place = |track: &Track| {
        environments.iter().position(|name| *name == track.environment).unwrap_or(usize::MAX)
    };
    let mut ordered: Vec<&Track> = tracks.iter().collect();
    ordered.sort_by_key(|track| (place(track), &track.environment, &track.destination));
    let cells = ordered.iter().map(|track| Cell {
        environment: track.environment.clone(),
        destination: track.destination.clone(),
        running: track.running().map(Running::from),
        failed: track.failed().map(Failed::from),
        behind: track.running().and_then(|running| {
            let before = place(track).checked_sub(1).and_then(|at| environments.get(at))?;
            let mut before = ordered.iter().filter(|track| track.environment == *before);
            before.find_map(|before| count_behind(running, before))
        }),
    });
    let times = list_commit_times(tracks);
    let production = environments.last();
    let changes = ordered
        .iter()
        .filter(|track| Some(&track.environment) == production)
        .flat_map(|track| list_changes(track, &times));
    let mut causes = BTreeMap::new();
    let entries = || tracks.iter().flat_map(|track| &track.entries);
    for cause in entries().flat_map(|entry| &entry.causes) {
        *causes.entry(cause.clone()).or_default() += 1;
    }
    let newest = entries().max_by_key(|entry| entry.ended);
    Summary {
        name: name.to_string(),
        cells: cells.collect(),
        changes: changes.collect(),
        causes,
        pipeline_version: newest.map(|entry| entry.pipeline_version.clone()).unwrap_or_default(),
        records: entries().count(),
    }
}

/// How many other images ran well in `before` since `running` did.
fn count_behind(running: &Entry, before: &Track) -> Option<usize> {
    let good: Vec<&Entry> = before.entries.iter().filter(|entry| entry.good).collect();
    let ours = running.digest.as_ref()?;
    let same = good.iter().rposition(|entry| entry.digest.as_ref() == Some(ours))?;
    Some(good[same + 1..].iter().map(|entry| &entry.digest).collect::<HashSet<_>>().len())
}

impl From<&Entry> for Running {
    fn from(entry: &Entry) -> Running {
        Running {
            number: entry.number,
            version: entry.version.clone(),
            digest: entry.digest.clone(),
            since: entry.ended,
            who: entry.who.clone(),
            url: entry.url.clone(),
        }
    }
}

impl From<&Entry> for Failed {
    fn from(entry: &Entry) -> Failed {
        Failed {
            number: entry.number,
            version: entry.version.clone(),
            result: entry.result,
            causes: entry.causes.clone(),
            ended: entry.ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(environment: &str, records: &[(&str, RecordResult)]) -> Track {
        let entries = records.iter().zip(1..).map(|((digest, result), number)| Entry {
            number,
            digest: Some(Digest::of(digest.as_bytes())),
            result: *result,
            good: *result == RecordResult::Deployed,
            ..Entry::default()
        });
        Track {
            environment: environment.into(),
            destination: "docker".into(),
            entries: entries.collect(),
        }
    }

    #[test]
    fn a_cell_says_what_runs_what_failed_and_how_far_behind_it_is() {
        use RecordResult::{Deployed, Failed, Interrupted, Removed, RolledBack};
        let environments = ["staging".to_string(), "production".to_string()];
        let staging =
            [("a", Deployed), ("b", Deployed), ("b", Deployed), ("c", Deployed), ("d", Failed)];
        // Per case: what runs in production, its last failure, and how far it is behind.
        type Case<'a> =
            (&'a [(&'a str, RecordResult)], Option<&'a str>, Option<u64>, Option<usize>);
        let cases: [Case<'_>; 8] = [
            (&[], None, None, None),
            (&[("a", Deployed)], Some("a"), None, Some(2)),
            (&[("a", Deployed), ("c", RolledBack)], Some("a"), Some(2), Some(2)),
            (&[("a", Deployed), ("c", Interrupted)], Some("a"), None, Some(2)),
            (&[("c", Deployed)], Some("c"), None, Some(0)),
            (&[("x", Deployed)], Some("x"), None, None),
            (&[("a", Deployed), ("c", Failed), ("a", Removed)], None, None, None),
            (&[("a", Removed), ("c", Deployed)], Some("c"), None, Some(0)),
        ];
        for (production, running, failed, behind) in cases {
            let tracks = [track("production", production), track("staging", &staging)];
            let summary = summarise("patients", &tracks, &environments);
            let names: Vec<&str> =
                summary.cells.iter().map(|cell| cell.environment.as_str()).collect();
            assert_eq!(names, ["staging", "production"]);
            let cell = &summary.cells[1];
            assert_eq!(
                (
                    cell.running.as_ref().and_then(|running| running.digest.clone()),
                    cell.failed.as_ref().map(|failed| failed.number),
                    cell.behind
                ),
                (running.map(|digest| Digest::of(digest.as_bytes())), failed, behind),
                "{production:?}"
            );
            assert_eq!(summary.cells[0].failed.as_ref().map(|failed| failed.number), Some(5));
            assert_eq!(summary.records, production.len() + staging.len());
        }
    }
}
