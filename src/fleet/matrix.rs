//! What runs where: a service's summary, of which the fleet's pages are made. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::dora::{Change, list_changes, list_commit_times, list_histories};
use super::entry::{Entry, Track};
use super::source::Drifts;
use crate::digest::Digest;
use crate::ledger::{Drift, RecordResult};

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
    /// The same in commits, where both records know how many their history has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commits_behind: Option<u64>,
    /// What somebody changed by hand since, when it was last looked for. `None` if nothing was found,
    /// or nobody looked since the last good record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drifted>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Drifted {
    pub looked: Timestamp,
    pub differences: Vec<String>,
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

impl Cell {
    /// How far it is behind the environment before, in commits or else in images, for people; `None`
    /// if it is not.
    pub fn distance(&self) -> Option<String> {
        let images = self.behind.filter(|images| *images > 0)?;
        let (count, of) = match self.commits_behind.filter(|commits| *commits > 0) {
            Some(commits) => (commits.to_string(), "commit"),
            None => (images.to_string(), "image"),
        };
        Some(format!("{count} {of}{}", if count == "1" { "" } else { "s" }))
    }
}

/// Sums a service up. `environments` are in the order in which a version goes through them; the last
/// one is production.
pub fn summarise(
    name: &str,
    tracks: &[Track],
    drifts: &Drifts,
    environments: &[String],
) -> Summary {
    let place = |track: &Track| {
        environments.iter().position(|name| *name == track.environment).unwrap_or(usize::MAX)
    };
    let mut ordered: Vec<&Track> = tracks.iter().collect();
    ordered.sort_by_key(|track| (place(track), &track.environment, &track.destination));
    let histories = list_histories(tracks);
    let cells = ordered.iter().map(|track| {
        let running = track.running();
        let behind = running.and_then(|running| {
            let before = place(track).checked_sub(1).and_then(|at| environments.get(at))?;
            let mut before = ordered.iter().filter(|track| track.environment == *before);
            before.find_map(|before| count_behind(running, before, &histories))
        });
        let drift = drifts.get(&format!("{}/{}", track.environment, track.destination));
        Cell {
            environment: track.environment.clone(),
            destination: track.destination.clone(),
            running: running.map(Running::from),
            failed: track.failed().map(Failed::from),
            behind: behind.map(|(images, _)| images),
            commits_behind: behind.and_then(|(_, commits)| commits),
            drift: running.zip(drift).and_then(|(running, drift)| find_drift(running, drift)),
        }
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

/// How many other images ran well in `before` since `running` did, and how many commits lie in between.
fn count_behind(
    running: &Entry,
    before: &Track,
    histories: &HashMap<&Digest, u64>,
) -> Option<(usize, Option<u64>)> {
    let good: Vec<&Entry> = before.entries.iter().filter(|entry| entry.good).collect();
    let ours = running.digest.as_ref()?;
    let same = good.iter().rposition(|entry| entry.digest.as_ref() == Some(ours))?;
    let images: HashSet<_> = good[same + 1..].iter().map(|entry| &entry.digest).collect();
    let length = |digest: Option<&Digest>| histories.get(digest?).copied();
    let theirs = before.running().and_then(|entry| length(entry.digest.as_ref()));
    let commits = theirs.zip(length(Some(ours)));
    Some((images.len(), commits.and_then(|(theirs, ours)| theirs.checked_sub(ours))))
}

/// What a look found that was after the record that runs.
fn find_drift(running: &Entry, drift: &Drift) -> Option<Drifted> {
    let is_of_it = drift.record == running.number && !drift.differences.is_empty();
    is_of_it.then(|| Drifted { looked: drift.looked, differences: drift.differences.clone() })
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
    use crate::ledger::RecordKind;

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
            let summary = summarise("patients", &tracks, &Drifts::new(), &environments);
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

    #[test]
    fn a_cell_says_how_many_commits_it_is_behind_and_what_was_changed_by_hand() {
        let environments = ["staging".to_string(), "production".to_string()];
        let found = ["Deployment patients".to_string()];
        // Per case: the commits that the histories of a, b and c have, the record that a look was of,
        // and what is said.
        let cases: [([Option<u64>; 3], u64, Option<&str>, bool); 5] = [
            ([Some(10), Some(12), Some(17)], 1, Some("7 commits"), true),
            ([Some(10), None, Some(11)], 2, Some("1 commit"), false),
            ([None, Some(12), Some(17)], 0, Some("2 images"), false),
            ([Some(10), Some(12), None], 1, Some("2 images"), true),
            // Staging went back to another branch.
            ([Some(10), Some(12), Some(9)], 1, Some("2 images"), true),
        ];
        for (commits, looked_at, distance, is_drifting) in cases {
            let mut staging =
                track("staging", &["a", "b", "c"].map(|digest| (digest, RecordResult::Deployed)));
            for (entry, commits) in staging.entries.iter_mut().zip(commits) {
                entry.commits = commits;
            }
            // A promotion knows the commit of the workflow, and not the image's.
            let mut production = track("production", &[("a", RecordResult::Deployed)]);
            production.entries[0].kind = RecordKind::Promote;
            production.entries[0].commits = Some(99);
            let drift =
                Drift { record: looked_at, differences: found.to_vec(), ..Drift::default() };
            let drifts = Drifts::from([("production/docker".to_string(), drift)]);
            let summary = summarise("patients", &[staging, production], &drifts, &environments);
            let cell = &summary.cells[1];
            let drift = cell.drift.as_ref().map(|drift| drift.differences.as_slice());
            assert_eq!(
                (cell.distance().as_deref(), drift),
                (distance, is_drifting.then_some(&found[..])),
                "{commits:?}, {looked_at}"
            );
        }
    }
}
