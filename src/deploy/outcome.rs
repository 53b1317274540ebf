//! What a deploy hands to machines and says to people. Pure.

use std::time::Duration;

use serde::Serialize;

use super::Image;
use crate::digest::Digest;
use crate::ledger::PhaseTime;

/// How a deploy that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Deployed,
    Unchanged,
    Planned,
}

/// The outputs of `deploy`, `rollback` and `promote`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    pub status: Status,
    pub target: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    pub version: String,
    pub digest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_revision: Option<String>,
    /// The objects that were changed, or would be.
    pub changed: Vec<String>,
    /// The number of the ledger's record that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseTime>,
    pub seconds: f64,
}

impl Outcome {
    /// An outcome that says nothing but what was deployed, and how long it took.
    pub fn new(status: Status, target: &'static str, image: &Image, elapsed: Duration) -> Outcome {
        Outcome {
            status,
            target,
            url: None,
            version: image.version.clone(),
            digest: image.digest.clone(),
            revision: None,
            previous_revision: None,
            changed: Vec::new(),
            record: None,
            phases: Vec::new(),
            seconds: round_seconds(elapsed),
        }
    }

    /// The outcome in a line for people.
    pub fn in_words(&self) -> String {
        let status = match self.status {
            Status::Deployed => "deployed",
            Status::Unchanged => "unchanged",
            Status::Planned => "planned",
        };
        let part = |label: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(", {label}{value}")).unwrap_or_default()
        };
        let revision = part("revision ", &self.revision);
        let record = part("record ", &self.record.map(|record| record.to_string()));
        let url = part("", &self.url);
        format!("{status} {} on {}{revision}{record}{url}", self.version, self.target)
    }
}

/// Seconds with one digit after the point: what a timeline shows.
pub fn round_seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}
