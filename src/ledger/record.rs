//! One deploy as it stays in the ledger: who brought what where, and how it ended. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::nonce::Nonce;
use super::state::StateHash;
use crate::digest::{Digest, read_known};
use crate::error::Code;

/// The version of the objects' form that this program writes. A reader takes a higher one, and a
/// writer refuses to replace it.
pub const FORMAT: u32 = 1;

/// Where a run can be looked at: GitHub's `GITHUB_*` variables, or nothing on a laptop.
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RunLink {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `OWNER/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Counts the runs of one workflow: `GITHUB_RUN_NUMBER`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Counts the attempts of one run, from 1: `GITHUB_RUN_ATTEMPT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
}

/// Why something is deployed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    #[default]
    Deploy,
    Rollback,
    Promote,
    /// A preview is taken down.
    Remove,
    /// A word of a later version of this program.
    #[serde(other)]
    Other,
}

/// A phase of a deploy, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    #[default]
    Lock,
    Migrate,
    Apply,
    Watch,
    Verify,
    Rollback,
    Record,
    /// A word of a later version of this program.
    #[serde(other)]
    Other,
}

impl Phase {
    /// The phase's word, as serde writes it.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Lock => "lock",
            Phase::Migrate => "migrate",
            Phase::Apply => "apply",
            Phase::Watch => "watch",
            Phase::Verify => "verify",
            Phase::Rollback => "rollback",
            Phase::Record => "record",
            Phase::Other => "other",
        }
    }
}

/// How long a phase took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    pub name: Phase,
    pub seconds: f64,
}

/// How a deploy ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordResult {
    Deployed,
    /// It failed, and the last good state is back.
    RolledBack,
    /// What ran is gone: a preview that was taken down.
    Removed,
    #[default]
    Failed,
    TimedOut,
    Interrupted,
    Superseded,
    /// The run ended without a word; whoever took its lock wrote the record.
    Killed,
    /// A word of a later version of this program.
    #[serde(other)]
    Other,
}

impl RecordResult {
    /// The result's word, as serde writes it.
    pub fn word(self) -> &'static str {
        match self {
            RecordResult::Deployed => "deployed",
            RecordResult::RolledBack => "rolled-back",
            RecordResult::Removed => "removed",
            RecordResult::Failed => "failed",
            RecordResult::TimedOut => "timed-out",
            RecordResult::Interrupted => "interrupted",
            RecordResult::Superseded => "superseded",
            RecordResult::Killed => "killed",
            RecordResult::Other => "other",
        }
    }
}

impl RecordKind {
    /// The kind's word, as serde writes it.
    pub fn word(self) -> &'static str {
        match self {
            RecordKind::Deploy => "deploy",
            RecordKind::Rollback => "rollback",
            RecordKind::Promote => "promote",
            RecordKind::Remove => "remove",
            RecordKind::Other => "other",
        }
    }
}

/// A cause of a failure: a stable word of ours, or one of a later version of this program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CauseCode {
    Known(Code),
    Other(String),
}

/// What a run brings, and who runs it: known before the lock is taken, and the same in the lock and
/// in the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Run {
    pub kind: RecordKind,
    /// `eks`, `ecs` or `local`.
    pub target: String,
    pub version: String,
    /// The image's; `None` where a later version of this program wrote another kind.
    #[serde(deserialize_with = "read_known", skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// When that commit was made: the time to production is counted from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<Timestamp>,
    /// How many commits the history of that commit has: how far two versions are apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commits: Option<u64>,
    /// The person or machine behind the run: `GITHUB_ACTOR`, or `user@host`.
    pub who: String,
    pub run: RunLink,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The state that it is to reach. The ledger has it if the run could leave something behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brings: Option<StateHash>,
    /// The command of `before-deploy`, if what it does cannot be taken back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub irreversible: Vec<String>,
    pub started: Timestamp,
    /// The version of this program.
    pub pipeline_version: String,
}

/// `records/00000042.json`: written once, at the end of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Record {
    pub format: u32,
    pub number: u64,
    pub service: String,
    pub environment: String,
    #[serde(flatten)]
    pub run: Run,
    pub result: RecordResult,
    /// Whether what this run brought is a way back for later ones.
    pub good: bool,
    pub ended: Timestamp,
    pub phases: Vec<PhaseTime>,
    /// The phase in which a killed run was last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub killed_in: Option<Phase>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<CauseCode>,
    /// The hash of the resolved settings, by which a run without a change is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    /// What was applied: the name of an object below `states/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<StateHash>,
    /// The number of the record before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<u64>,
    /// The platform's own name of what ran in the end: an ECS revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The objects that were changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Where users reach the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The fencing number of the lock under which this was written.
    pub fence: u64,
    pub nonce: Nonce,
    /// Fields of a later version of this program.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}
