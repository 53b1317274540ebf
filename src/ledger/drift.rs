//! `drift.json`: what somebody changed by hand since the last good record, when `status` last looked.
//! Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What differed from the last good record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Drift {
    pub format: u32,
    /// The number of the record that it was compared with: a later one makes this void.
    pub record: u64,
    pub looked: Timestamp,
    pub who: String,
    /// The objects, or what of them; none if nothing differed.
    pub differences: Vec<String>,
    /// Fields of a later version of this program.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}
