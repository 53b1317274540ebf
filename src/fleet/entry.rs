//! A record as the fleet's figures and pages need it. Pure.
//!
//! It is read from the JSON of a record, and is no [`crate::ledger::Record`]: that one keeps fields it does not
//! know, for which serde holds each field twice, and a million are to be read in seconds.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, read_known};
use crate::ledger::{PhaseTime, RecordKind, RecordResult, RunLink, StateHash};

/// See [`crate::ledger::Record`], whose fields these are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Entry {
    pub number: u64,
    pub kind: RecordKind,
    pub version: String,
    #[serde(deserialize_with = "read_known", skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commits: Option<u64>,
    pub who: String,
    pub run: RunLink,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub started: Timestamp,
    pub ended: Timestamp,
    pub pipeline_version: String,
    pub result: RecordResult,
    pub good: bool,
    pub phases: Vec<PhaseTime>,
    /// Stable words, such as `probe-failed`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<StateHash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl Entry {
    /// Whether the run says something about what it brought: one that was stopped or overtaken does
    /// not.
    pub fn is_judged(&self) -> bool {
        !matches!(
            self.result,
            RecordResult::Interrupted
                | RecordResult::Superseded
                | RecordResult::Removed
                | RecordResult::Other
        )
    }

    /// Whether what it brought ran in the end.
    pub fn is_deployed(&self) -> bool {
        self.result == RecordResult::Deployed
    }

    /// Whether nothing ran after it.
    pub fn is_removed(&self) -> bool {
        self.result == RecordResult::Removed
    }

    /// Whether a good version runs after it: its own, or the one that is back.
    pub fn leaves_good(&self) -> bool {
        matches!(self.result, RecordResult::Deployed | RecordResult::RolledBack)
    }
}

/// All records of one service in one place, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Track {
    pub environment: String,
    /// `eks.CLUSTER.NAMESPACE`, `ecs.CLUSTER` or `docker`.
    pub destination: String,
    pub entries: Vec<Entry>,
}

impl Track {
    /// The record whose version runs now: the last good one, unless it was removed since.
    pub fn running(&self) -> Option<&Entry> {
        let removed = self.entries.iter().rposition(|entry| entry.is_removed());
        let since = removed.map_or(0, |at| at + 1);
        self.entries[since..].iter().rev().find(|entry| entry.good)
    }

    /// The last record that says something, if it failed.
    pub fn failed(&self) -> Option<&Entry> {
        let last = self.entries.iter().rev().find(|entry| entry.is_judged() || entry.is_removed());
        last.filter(|last| !last.is_deployed() && !last.is_removed())
    }
}
