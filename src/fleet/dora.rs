//! The four figures of delivery (DORA) from records. Pure.
//!
//! <https://dora.dev/guides/dora-metrics-four-keys/>. What is counted, in this program's words:
//! - A **change** is a deploy or promotion that says something about what it brought: it was deployed, rolled back, failed, timed
//!   out or killed. One that was interrupted or superseded is none, nor is one that brought what ran already.
//! - **Deployment frequency**: changes that were deployed, a week.
//! - **Lead time**: from the time of the commit to the end of the deploy that first brought its image there.
//! - **Change failure rate**: the share of changes that failed: not deployed, or deployed and taken back by a `rollback` before
//!   the next change.
//! - **Time to restore**: from the start of a change that failed to the end of the first record after which a good version ran
//!   again, which is its own where it was rolled back automatically.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::civil::Date;
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Track};
use super::text::{show_share, show_span};
use crate::digest::Digest;
use crate::ledger::RecordKind;

/// What was brought once, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    pub ended: Timestamp,
    pub deployed: bool,
    pub failed: bool,
    /// In seconds; `None` where the commit's time is not known, and after the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead: Option<f64>,
    /// In seconds, of one that failed; `None` while no good version ran again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<f64>,
}

/// The times of commits, by the digest of the image that was built of each: a promotion knows only
/// the digest.
pub fn list_commit_times(tracks: &[Track]) -> HashMap<&Digest, Timestamp> {
    let entries = tracks.iter().flat_map(|track| &track.entries);
    let deploys = entries.filter(|entry| entry.kind == RecordKind::Deploy);
    let known = deploys.filter_map(|entry| Some((entry.digest.as_ref()?, entry.committed?)));
    let mut times = HashMap::new();
    for (digest, time) in known {
        times.entry(digest).and_modify(|before| *before = time.min(*before)).or_insert(time);
    }
    times
}

/// How many commits the history has that an image was built of, by its digest, as
/// [`list_commit_times`].
pub fn list_histories(tracks: &[Track]) -> HashMap<&Digest, u64> {
    let entries = tracks.iter().flat_map(|track| &track.entries);
    let deploys = entries.filter(|entry| entry.kind == RecordKind::Deploy);
    deploys.filter_map(|entry| Some((entry.digest.as_ref()?, entry.commits?))).collect()
}

/// The changes of a track, oldest first.
pub fn list_changes(track: &Track, committed: &HashMap<&Digest, Timestamp>) -> Vec<Change> {
    let judged: Vec<&Entry> = track.entries.iter().filter(|entry| entry.is_judged()).collect();
    let mut running: Option<(&Option<Digest>, &Option<String>)> = None;
    let mut seen = HashSet::new();
    let mut changes = Vec::new();
    for (at, entry) in judged.iter().enumerate() {
        let brought = (&entry.digest, &entry.config_hash);
        let is_nothing_new = entry.is_deployed() && running == Some(brought);
        if entry.is_deployed() {
            running = Some(brought);
        }
        if !matches!(entry.kind, RecordKind::Deploy | RecordKind::Promote) || is_nothing_new {
            continue;
        }
        let later = &judged[at + 1..];
        let is_taken_back = later.first().is_some_and(|next| next.kind == RecordKind::Rollback);
        let failed = !entry.is_deployed() || is_taken_back;
        let restoring = match entry.is_deployed() {
            true => later.iter().find(|next| next.leaves_good()),
            false => judged[at..].iter().find(|next| next.leaves_good()),
        };
        let is_first = entry.is_deployed() && seen.insert(&entry.digest);
        let commit = entry.digest.as_ref().filter(|_| is_first);
        let commit = commit.and_then(|digest| committed.get(digest));
        changes.push(Change {
            ended: entry.ended,
            deployed: entry.is_deployed(),
            failed,
            lead: commit.map(|commit| seconds_between(*commit, entry.ended)),
            restored: restoring
                .filter(|_| failed)
                .map(|restoring| seconds_between(entry.started, restoring.ended)),
        });
    }
    changes
}

/// Never below 0, as the clocks of two machines made them.
fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// How some times are spread, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Spread {
    pub count: usize,
    pub minimum: f64,
    pub quarter: f64,
    pub median: f64,
    pub three_quarters: f64,
    pub ninety: f64,
    pub maximum: f64,
}

impl Spread {
    /// `None` of nothing. Between two values it is interpolated linearly.
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |share: f64| {
            let place = share * last as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Some(Spread {
            count: values.len(),
            minimum: values[0],
            quarter: at(0.25),
            median: at(0.5),
            three_quarters: at(0.75),
            ninety: at(0.9),
            maximum: values[last],
        })
    }
}

/// The figures of some changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Figures {
    pub changes: usize,
    pub deployed: usize,
    pub failed: usize,
    /// Of 1; `None` without a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_rate: Option<f64>,
    /// Deployed changes a week, over the weeks from the first change to the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead_time: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_restore: Option<Spread>,
}

impl Figures {
    /// The figures of all of these changes.
    pub fn of<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Figures {
        let changes: Vec<&Change> = changes.into_iter().collect();
        let count = |is: fn(&Change) -> bool| changes.iter().filter(|one| is(one)).count();
        let (deployed, failed) = (count(|one| one.deployed), count(|one| one.failed));
        let weeks = changes.iter().map(|one| week_of(one.ended));
        let span = weeks.clone().min().zip(weeks.max());
        let weeks = span.map(|(first, last)| {
            let days = first.until(last).map_or(0, |span| span.get_days());
            f64::from(days / 7 + 1)
        });
        Figures {
            changes: changes.len(),
            deployed,
            failed,
            failure_rate: (!changes.is_empty()).then(|| failed as f64 / changes.len() as f64),
            weekly: weeks.map(|weeks| deployed as f64 / weeks),
            lead_time: Spread::of(changes.iter().filter_map(|one| one.lead).collect()),
            time_to_restore: Spread::of(changes.iter().filter_map(|one| one.restored).collect()),
        }
    }

    /// The figures for people, a line each.
    pub fn in_words(&self) -> String {
        let spread = |spread: &Option<Spread>| match spread {
            Some(spread) => format!(
                "{} (median; half between {} and {}; {} known)",
                show_span(spread.median),
                show_span(spread.quarter),
                show_span(spread.three_quarters),
                spread.count
            ),
            None => "not known".to_string(),
        };
        let rate = self.failure_rate.map_or("none".to_string(), show_share);
        format!(
            "deployment frequency  {:.1} a week, {} changes\nlead time             {}\n\
             change failure rate   {rate}, {} of {} changes\ntime to restore       {}",
            self.weekly.unwrap_or_default(),
            self.deployed,
            spread(&self.lead_time),
            self.failed,
            self.changes,
            spread(&self.time_to_restore),
        )
    }

    /// The figures of each week in which something ended, by its Monday.
    pub fn by_week<'a>(changes: impl IntoIterator<Item = &'a Change>) -> BTreeMap<Date, Figures> {
        let mut weeks: BTreeMap<Date, Vec<&Change>> = BTreeMap::new();
        for change in changes {
            weeks.entry(week_of(change.ended)).or_default().push(change);
        }
        weeks.into_iter().map(|(week, changes)| (week, Figures::of(changes))).collect()
    }
}

/// The Monday of a time's week, in UTC.
pub fn week_of(time: Timestamp) -> Date {
    let day = time.to_zoned(TimeZone::UTC).date();
    let back = i64::from(day.weekday().to_monday_zero_offset());
    day.checked_sub(jiff::Span::new().days(back)).unwrap_or(day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::RecordResult;

    /// `KIND RESULT DIGEST`, an hour apart; each takes a minute. The commit is an hour older.
    fn track(lines: &[&str]) -> Track {
        let begin: Timestamp = "2026-11-02T00:00:00Z".parse().expect("a time");
        let entries = lines.iter().enumerate().map(|(at, line)| {
            let words: Vec<&str> = line.split(' ').collect();
            let started = begin + jiff::SignedDuration::from_hours(at as i64);
            let word = |text: &str| serde_json::Value::String(text.into());
            Entry {
                number: at as u64 + 1,
                kind: serde_json::from_value(word(words[0])).expect("a kind"),
                result: serde_json::from_value(word(words[1])).expect("a result"),
                good: words[1] == "deployed",
                digest: Some(Digest::of(words[2].as_bytes())),
                committed: Some(started - jiff::SignedDuration::from_hours(1)),
                started,
                ended: started + jiff::SignedDuration::from_mins(1),
                ..Entry::default()
            }
        });
        Track { entries: entries.collect(), ..Track::default() }
    }

    fn changes(lines: &[&str]) -> Vec<Change> {
        let track = track(lines);
        let times = std::slice::from_ref(&track);
        list_changes(&track, &list_commit_times(times))
    }

    #[test]
    fn a_change_fails_and_is_restored_as_the_words_above_say() {
        // Per case: changes, deployed, failed, and the seconds to each restore.
        let cases: [(&[&str], usize, usize, usize, &[f64]); 9] = [
            (&[], 0, 0, 0, &[]),
            (&["deploy deployed a", "deploy deployed b"], 2, 2, 0, &[]),
            (&["deploy deployed a", "deploy rolled-back b"], 2, 1, 1, &[60.0]),
            (&["deploy deployed a", "deploy failed b"], 2, 1, 1, &[]),
            (
                &["deploy failed a", "deploy timed-out b", "deploy deployed c"],
                3,
                1,
                2,
                &[7260.0, 3660.0],
            ),
            (
                &["deploy deployed a", "deploy deployed b", "rollback deployed a"],
                2,
                2,
                1,
                &[3660.0],
            ),
            (&["deploy deployed a", "deploy interrupted b", "deploy superseded b"], 1, 1, 0, &[]),
            (&["deploy deployed a", "deploy deployed a"], 1, 1, 0, &[]),
            (&["promote deployed a", "deploy killed b", "rollback deployed a"], 2, 1, 1, &[3660.0]),
        ];
        for (lines, all, deployed, failed, restored) in cases {
            let found = changes(lines);
            let figures = Figures::of(&found);
            let times: Vec<f64> = found.iter().filter_map(|one| one.restored).collect();
            assert_eq!(
                (figures.changes, figures.deployed, figures.failed, times.as_slice()),
                (all, deployed, failed, restored),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn the_lead_time_is_that_of_the_first_time() {
        let found = changes(&["deploy deployed a", "deploy deployed b", "deploy deployed a"]);
        let leads: Vec<Option<f64>> = found.iter().map(|one| one.lead).collect();
        assert_eq!(leads, [Some(3660.0), Some(3660.0), None]);
    }

    #[test]
    fn a_promotion_has_the_commit_of_its_digest() {
        let staging = track(&["deploy deployed a"]);
        let mut production = track(&["promote deployed a"]);
        production.entries[0].committed = None;
        let tracks = [staging, production];
        let found = list_changes(&tracks[1], &list_commit_times(&tracks));
        assert_eq!(found[0].lead, Some(3660.0));
    }

    #[test]
    fn a_week_begins_on_monday_in_utc() {
        for (time, monday) in [
            ("2026-11-29T23:59:59Z", "2026-11-23"),
            ("2026-11-30T00:00:00Z", "2026-11-30"),
            ("2027-01-01T12:00:00Z", "2026-12-28"),
        ] {
            assert_eq!(week_of(time.parse().expect("a time")).to_string(), monday);
        }
    }

    #[test]
    fn a_spread_is_interpolated() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]).expect("values");
        assert_eq!((spread.minimum, spread.quarter, spread.median), (1.0, 1.75, 2.5));
        assert_eq!((spread.three_quarters, spread.maximum, spread.count), (3.25, 4.0, 4));
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(RecordResult::default(), RecordResult::Failed);
    }
}
