//! `lock.json`: who holds an environment, under which fencing number, and since when it is over.
//! Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::nonce::Nonce;
use super::protocol::LockMark;
use super::record::{FORMAT, Phase, Record, RecordResult, Run};

/// The lock expiry: how long a lock lasts from its last renewal on. [`Lock::end`] is the time of it.
pub const TERM: Duration = Duration::from_secs(20);
/// Terms that are believed: nobody is held up for longer by what stands in an object.
const LONGEST_TERM: Duration = Duration::from_secs(120);
/// HTTP dates count whole seconds, so that two of them tell a time to one second.
/// <https://www.rfc-editor.org/rfc/rfc9110#field.date>
const GRAIN: Duration = Duration::from_secs(1);

/// A process of this machine, so that another one there sees at once that it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Process {
    pub host: String,
    /// The boot and the PID namespace in which `pid` means something.
    pub boot: String,
    pub namespace: String,
    pub pid: u32,
    /// In clock ticks since the boot: field 22 of `/proc/PID/stat`.
    /// <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
    pub started: u64,
}

/// The run that holds the lock: its record as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Holder {
    /// The number of the record that this run will write.
    pub number: u64,
    #[serde(flatten)]
    pub run: Run,
    /// When it took the lock, by the store's clock.
    pub since: Timestamp,
    /// Where it was at its last renewal.
    pub phase: Phase,
    /// Only where the ledger is a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

impl Holder {
    /// The record of a run whose lock was taken over at `ended`, by the store's clock.
    pub fn killed_record(&self, service: &str, environment: &str, ended: Timestamp) -> Record {
        Record {
            format: FORMAT,
            number: self.number,
            service: service.to_string(),
            environment: environment.to_string(),
            run: self.run.clone(),
            result: RecordResult::Killed,
            ended,
            killed_in: Some(self.phase),
            previous: self.number.checked_sub(1).filter(|number| *number > 0),
            ..Record::default()
        }
    }

    /// Who this is, for people: `ada, run 7 of patients (https://…)`.
    pub fn describe(&self) -> String {
        let mut text = self.run.who.clone();
        if let Some(number) = self.run.run.number {
            text.push_str(&format!(", run {number}"));
        }
        if let Some(attempt) = self.run.run.attempt.filter(|attempt| *attempt > 1) {
            text.push_str(&format!(" (attempt {attempt})"));
        }
        match (&self.run.run.url, &self.process) {
            (Some(url), _) => text.push_str(&format!(", {url}")),
            (None, Some(process)) => {
                text.push_str(&format!(", process {} on {}", process.pid, process.host));
            }
            (None, None) => {}
        }
        text
    }
}

/// See the module. The object is never deleted: a released lock keeps its fencing number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Lock {
    pub format: u32,
    /// Grows by one each time the lock is taken.
    pub fence: u64,
    /// `None` if the lock is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// From the object's own `Last-Modified` on.
    pub term_seconds: u64,
    /// When the lock is over unless it is renewed: what the holder reckons, for people to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Runs that ended without a word and have no record yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unclosed: Vec<Holder>,
    /// Who released the lock last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_by: Option<Holder>,
    pub nonce: Nonce,
    /// When it was read, its term was over or its holder's process had ended: nobody holds it.
    #[serde(skip)]
    pub over: bool,
    /// Fields of a later version of this program.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Lock {
    /// How long this lock lasts from its last renewal on.
    pub fn term(&self) -> Duration {
        Duration::from_secs(self.term_seconds).min(LONGEST_TERM)
    }

    /// When it is over, if it was last renewed at `modified`.
    pub fn end(&self, modified: Timestamp) -> Timestamp {
        let term = SignedDuration::try_from(self.term()).unwrap_or(SignedDuration::ZERO);
        modified.checked_add(term).unwrap_or(Timestamp::MAX)
    }

    /// Whether it is over at `now`. Both times are the store's own: what this machine's clock says
    /// does not matter.
    pub fn is_over(&self, modified: Timestamp, now: Timestamp) -> bool {
        let age = Duration::try_from(now.duration_since(modified)).unwrap_or(Duration::ZERO);
        age >= self.term() + GRAIN
    }

    /// What the protocol needs to know of it.
    pub fn mark(&self) -> LockMark {
        LockMark {
            fence: self.fence,
            nonce: self.nonce,
            holder: self.holder.as_ref().map(|holder| holder.number),
            unclosed: self.unclosed.iter().map(|holder| holder.number).collect(),
        }
    }

    /// The lock that `mark` stands for, of the holders in `known`. `None` if one is missing, which
    /// would be a mistake in this program.
    pub fn of(mark: &LockMark, known: &[Holder], term: Duration) -> Option<Lock> {
        let find = |number: u64| known.iter().find(|holder| holder.number == number).cloned();
        let holder = match mark.holder {
            Some(number) => Some(find(number)?),
            None => None,
        };
        let unclosed = mark.unclosed.iter().map(|number| find(*number));
        Some(Lock {
            format: FORMAT,
            fence: mark.fence,
            nonce: mark.nonce,
            holder,
            term_seconds: term.as_secs(),
            unclosed: unclosed.collect::<Option<Vec<Holder>>>()?,
            ..Lock::default()
        })
    }
}

/// For how long after the start of its last renewal a holder may write: two thirds of the term.
pub fn writing_time(term: Duration) -> Duration {
    term * 2 / 3
}

/// How long after the start of a renewal the next one begins: a third of the term.
pub fn renewal_interval(term: Duration) -> Duration {
    term / 3
}
