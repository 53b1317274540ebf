//! The one error type of the product: what happened, where, why, and the fix, with the exit code it ends in.
//!
//! Pure modules may have small enums of their own; whatever leaves a step is an [`Error`].

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of end this is. Each kind is one row of the exit table in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something this program did not foresee.
    Unexpected,
    /// Flags, service.yaml, platform.yaml or manifests are wrong.
    Input,
    /// Refused before anything changed: credentials, permission, a missing cluster, repository or secret, a tag conflict.
    Refused,
    /// The deploy failed and the last good state is back.
    RolledBack,
    /// The deploy failed and what runs is neither the new nor the last good.
    Broken,
    /// A deadline passed.
    TimedOut,
    /// Another run holds the lock, or a newer one has been here.
    Superseded,
    /// A gate said no: scan findings, image contract, failed migration.
    Gate,
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Kind {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Unexpected => 1,
            Kind::Input => 2,
            Kind::Refused => 3,
            Kind::RolledBack => 4,
            Kind::Broken => 5,
            Kind::TimedOut => 6,
            Kind::Superseded => 7,
            Kind::Gate => 8,
            Kind::Interrupted => 130,
            Kind::Terminated => 143,
        }
    }

    /// The kind's name in machine output.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Unexpected => "unexpected",
            Kind::Input => "bad-input",
            Kind::Refused => "refused",
            Kind::RolledBack => "rolled-back",
            Kind::Broken => "broken",
            Kind::TimedOut => "timed-out",
            Kind::Superseded => "superseded",
            Kind::Gate => "gate",
            Kind::Interrupted | Kind::Terminated => "interrupted",
        }
    }
}

/// A place in a file. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub line: u64,
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// One reason why a deploy failed, as machine output shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cause {
    /// What failed: `Pod/patients-5d9…/patients`, `Task/1f2c…/patients`.
    pub object: String,
    /// Why, in the platform's own words: `CrashLoopBackOff`, `CannotPullContainerError: …`.
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The container's last lines, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log_tail: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Error {
    pub kind: Kind,
    /// What happened, with the names of the things it happened to.
    pub message: String,
    pub place: Option<Place>,
    /// Why it happened: usually the words of whoever refused.
    pub why: Option<String>,
    /// What to do: a command, the YAML to add, the IAM action to allow.
    pub fix: Option<String>,
    pub causes: Vec<Cause>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), place: None, why: None, fix: None, causes: Vec::new() }
    }
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }
    pub fn unexpected(message: impl Into<String>) -> Self {
        Self::new(Kind::Unexpected, message)
    }
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }
    pub fn why(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
    pub fn causes(mut self, causes: Vec<Cause>) -> Self {
        self.causes = causes;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(why) = &self.why {
            write!(f, ": {why}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Error::unexpected(format!("{error:#}"))
    }
}

/// Names what was being done when a foreign error came up: `fs::read(p).doing(|| format!("reading {p}"))?`.
pub trait Doing<T> {
    /// An unexpected failure while doing `what`, with the whole chain of sources as the reason.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: std::error::Error> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::unexpected(what()).why(chain(&error)))
    }
}

/// An error and its sources on one line, without saying a sentence twice.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}
