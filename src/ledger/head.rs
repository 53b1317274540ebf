//! `head.json`: the last record, and the last good one. Here is where the last good is stored. Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::nonce::Nonce;
use super::protocol::HeadMark;
use super::record::{FORMAT, Record, RecordResult, Run};
use super::state::StateHash;

/// A record in short: enough to compare with, and to roll back to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct HeadEntry {
    pub number: u64,
    pub result: RecordResult,
    #[serde(flatten)]
    pub run: Run,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<StateHash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl From<&Record> for HeadEntry {
    fn from(record: &Record) -> HeadEntry {
        HeadEntry {
            number: record.number,
            result: record.result,
            run: record.run.clone(),
            config_hash: record.config_hash.clone(),
            state_hash: record.state_hash.clone(),
            revision: record.revision.clone(),
            url: record.url.clone(),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Head {
    pub format: u32,
    /// The last record, however it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<HeadEntry>,
    /// The last record whose run saw its deploy through to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good: Option<HeadEntry>,
    pub fence: u64,
    pub nonce: Nonce,
    /// Fields of a later version of this program.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Head {
    /// What the protocol needs to know of it.
    pub fn mark(&self) -> HeadMark {
        let number = |entry: &Option<HeadEntry>| entry.as_ref().map_or(0, |entry| entry.number);
        HeadMark {
            fence: self.fence,
            nonce: self.nonce,
            last: number(&self.last),
            good: number(&self.good),
        }
    }

    /// The head that `mark` stands for, of this one's entries and those of `records`. `None` if a
    /// record is missing, which would be a mistake in this program.
    pub fn advanced(&self, mark: &HeadMark, records: &[Record]) -> Option<Head> {
        let find = |number: u64| {
            let known = [&self.last, &self.good].into_iter().flatten();
            let known = known.into_iter().find(|entry| entry.number == number).cloned();
            let record = records.iter().find(|record| record.number == number);
            record.map(HeadEntry::from).or(known)
        };
        let entry = |number: u64| match number {
            0 => Some(None),
            number => find(number).map(Some),
        };
        Some(Head {
            format: FORMAT,
            last: entry(mark.last)?,
            good: entry(mark.good)?,
            fence: mark.fence,
            nonce: mark.nonce,
            other: self.other.clone(),
        })
    }
}
