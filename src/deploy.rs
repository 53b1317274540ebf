//! Brings an image into an environment: observe, plan, lock, migrate, apply, watch, verify, record;
//! back to the last good state when that fails.
//!
//! [`engine`] runs the phases, [`target`] says what a target is, [`site`] opens one with its
//! ledger. The decisions (`plan`, `verdict`) are pure functions from facts; everything that changes
//! something is in a target's `apply`, `roll_back` and `clean_up`, or in `storage`.

mod any_target;
pub mod diff;
pub mod ecs;
pub mod eks;
pub mod engine;
mod iam;
pub mod local;
mod migration;
mod outcome;
mod pen;
mod probe;
mod removal;
pub mod site;
pub mod storage;
pub mod target;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::settings::{Destination, Settings};
use crate::digest::Digest;
use crate::inside::Tree;
pub use any_target::{render_offline, render_policies};
pub use engine::Intent;
pub use iam::render_report_policy;
pub use outcome::Outcome;
pub use site::{Site, SiteOptions};

/// The image that is deployed: always by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Image {
    /// Host and name, without tag:
    /// `111122223333.dkr.ecr.eu-west-1.amazonaws.com/clinicult/patients`.
    pub repository: String,
    /// The digest of the root manifest.
    pub digest: Digest,
    /// The version people know it by, safe as a Docker tag.
    pub version: String,
}

impl Image {
    /// The address everything runs it by: `repository@sha256:…`.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }
}

/// What service.yaml and platform.yaml say of a deploy, with the image: what a target renders.
#[derive(Clone, Debug)]
pub struct Order {
    pub settings: Settings,
    pub destination: Destination,
    pub image: Image,
}

/// Where service.yaml stands: the files that it names are below, and inside the work tree.
#[derive(Clone, Debug)]
pub struct Sources {
    pub folder: PathBuf,
    pub tree: Tree,
}

/// What apply will do to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub action: Action,
    /// `Deployment/patients`, `Service/patients`, `TaskDefinition/patients`.
    pub object: String,
    /// What differs, a line each: `spec.replicas: 1 → 2`. Never a secret's value.
    pub details: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    Update,
    Delete,
}

/// How what runs in an environment is: a target's verdict in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    Ready,
    Progressing,
    Failed,
    #[default]
    Absent,
}

impl RunState {
    /// The state's word, as serde writes it.
    pub fn word(self) -> &'static str {
        match self {
            RunState::Ready => "ready",
            RunState::Progressing => "progressing",
            RunState::Failed => "failed",
            RunState::Absent => "absent",
        }
    }
}

/// What runs in an environment, as `status` says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Running {
    pub target: &'static str,
    pub state: RunState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Copies that are ready, and copies that are wanted.
    pub ready: u32,
    pub wanted: u32,
}

/// `name` where it has at most `limit` characters, else its beginning and a hash of the whole:
/// names that AWS limits stay unique and readable.
pub fn short_name(name: &str, limit: usize) -> String {
    if name.len() <= limit {
        return name.to_string();
    }
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    let hash: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let kept: String = name.chars().take(limit.saturating_sub(hash.len() + 1)).collect();
    format!("{}-{hash}", kept.trim_end_matches('-'))
}

impl Running {
    /// The state in a line for people.
    pub fn in_words(&self, name: &str, environment: &str) -> String {
        if self.state == RunState::Absent {
            return format!("{name} does not run in {environment}");
        }
        let part = |label: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{label}{value}")).unwrap_or_default()
        };
        format!(
            "{name} in {environment} ({}): {}, {} of {} ready{}{}{}{}",
            self.target,
            self.state.word(),
            self.ready,
            self.wanted,
            part(", version ", &self.version),
            part(", revision ", &self.revision),
            part(", ", &self.url),
            part(", ", &self.digest.as_ref().map(Digest::to_string))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_and_stays_unique() {
        assert_eq!(short_name("patients-staging", 32), "patients-staging");
        let one = short_name(&format!("{}-staging", "a".repeat(63)), 32);
        let two = short_name(&format!("{}-production", "a".repeat(63)), 32);
        assert!(one.len() <= 32 && two.len() <= 32 && one != two, "{one} {two}");
        let dashed = short_name(&format!("{}--------{}", "a".repeat(20), "b".repeat(30)), 32);
        assert!(!dashed.contains("--"), "{dashed}");
    }
}
