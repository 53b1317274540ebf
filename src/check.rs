//! What can be said of a repository's files without running anything: service.yaml, the
//! Dockerfile and the workflows that call the pipeline. Pure: from text to [`Finding`]s.

pub mod dockerfile;
pub mod frontend;
pub mod rules;
pub mod service;
pub mod shipped;
pub mod workflow;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Worth a change; nothing stops.
    Warn,
    /// It does not work, or must not: `check` says no.
    Fail,
}

/// One thing that a rule found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The rule's name, by which it can be ignored: `# cicd: ignore=base-unpinned` on the line
    /// above.
    pub rule: &'static str,
    pub level: Level,
    /// Counts from 1.
    pub line: u64,
    /// What was found.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}
