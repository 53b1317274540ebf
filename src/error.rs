//! The one error type of the product: what happened, where, why, and the fix, with the exit code it
//! ends in.
//!
//! Pure modules may have small enums of their own; whatever leaves a step is an [`Error`].

pub mod codes;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of end this is. Each kind is one row of the exit table in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something this program did not foresee.
    Unexpected,
    /// Flags, service.yaml, platform.yaml or manifests are wrong.
    Input,
    /// Refused before anything that runs was changed: credentials, permission, a missing cluster, repository or
    /// secret, a tag conflict.
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
    /// The process's exit code: README.md has the table of exit codes.
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

/// A stable word for a failure. Once published, a code keeps its name and its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The image, or its tag or platform, is not in the registry.
    ImageNotFound,
    /// The node or task may not pull the image, or does not reach the registry.
    ImagePullRefused,
    /// A container ended although it should keep running.
    ContainerExited,
    /// A container was killed because it used more memory than it may.
    OutOfMemory,
    /// The container runs and does not answer its health check.
    ProbeFailed,
    /// No node, instance or capacity takes the workload.
    Unschedulable,
    /// A secret, or a key of it, is missing or unreadable.
    SecretUnavailable,
    /// Permission was denied.
    AccessDenied,
    /// The platform cannot start the container: what it needs beside the image is out of reach, such
    /// as a file system, a network interface or the place of its logs.
    StartFailed,
    /// The platform itself gave the rollout up, or went back, without a cause that can be seen.
    RolloutFailed,
    /// A quota of the account or the namespace is used up.
    QuotaExceeded,
    /// The command `before-deploy` failed.
    MigrationFailed,
    /// The service does not answer at the address that users use.
    SmokeCheckFailed,
    /// Nothing of the above came within the deadline.
    DeadlineExceeded,
    /// Another run holds the lock.
    LockHeld,
    /// A person froze the environment.
    Frozen,
    /// A newer run deployed meanwhile, or before.
    OlderRun,
    /// What `before-deploy` did since cannot be taken back.
    IrreversibleMigration,
    /// The run's branch may not deploy to the environment.
    BranchNotAllowed,
    /// The image was not good in the environment that comes before.
    NotProven,
    /// The ledger cannot be read or written.
    LedgerUnavailable,
    /// The image contract is broken.
    ContractBroken,
    TestsFailed,
    /// The scan of the image found what may not be deployed.
    ScanFindings,
}

/// One reason why a deploy failed, as machine output shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cause {
    /// The stable word for it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
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
    /// What to do, each begun with a verb: a command, the YAML or the IAM statement to add.
    pub fixes: Vec<String>,
    pub causes: Vec<Cause>,
    /// What was refused at the same time: all of it has to be mended.
    pub beside: Vec<Error>,
    /// A stable word for this failure, which machines count by: see docs/errors.md.
    pub code: Option<Code>,
    /// The foreign error behind it.
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            place: None,
            why: None,
            fixes: Vec::new(),
            causes: Vec::new(),
            beside: Vec::new(),
            code: None,
            source: None,
        }
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
    /// Adds a fix; an error may have several.
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fixes.push(fix.into());
        self
    }
    /// Replaces the fixes by this one.
    pub fn only_fix(mut self, fix: impl Into<String>) -> Self {
        self.fixes = vec![fix.into()];
        self
    }
    pub fn code(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }
    pub fn source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
    /// All fixes as one text, a line each; empty where there is none.
    pub fn advice(&self) -> String {
        self.fixes.join("\n")
    }
    pub fn causes(mut self, causes: Vec<Cause>) -> Self {
        self.causes = causes;
        self
    }
    /// This error as one of several causes: its headline, why and fixes.
    pub fn as_cause(&self) -> Cause {
        let fix = (!self.fixes.is_empty()).then(|| self.advice());
        let (object, reason) = match (&self.why, self.message.split_once(": ")) {
            (Some(why), _) => (self.message.as_str(), why.as_str()),
            (None, Some((object, reason))) => (object, reason),
            (None, None) => (self.message.as_str(), self.kind.name()),
        };
        let (object, reason) = (object.to_string(), reason.to_string());
        Cause { code: self.code, object, reason, fix, ..Cause::default() }
    }
    /// This error and those beside it, each by itself.
    pub fn each(&self) -> impl Iterator<Item = &Error> {
        std::iter::once(self).chain(&self.beside)
    }
}

/// What several looks refuse, so that all of it is said at once.
#[derive(Debug, Default)]
pub struct Refusals(Vec<Error>);

impl Refusals {
    /// Keeps an error; returns what went well.
    pub fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    /// What was found, where nothing was refused.
    ///
    /// # Errors
    /// The first refusal, with the others beside it: what could not be asked at all counts less.
    pub fn conclude<T>(self, found: Option<T>) -> Result<T> {
        let all = self.0.into_iter().flat_map(|mut error| {
            let beside = std::mem::take(&mut error.beside);
            std::iter::once(error).chain(beside)
        });
        let (mut refusals, others): (Vec<Error>, Vec<Error>) =
            all.partition(|error| error.kind != Kind::Unexpected);
        refusals.extend(others);
        let mut told = BTreeSet::new();
        refusals.retain(|error| told.insert(error.to_string()));
        if let Some(found) = found.filter(|_| refusals.is_empty()) {
            return Ok(found);
        }
        if refusals.is_empty() {
            return Err(Error::unexpected("cannot tell what was found: nothing was refused"));
        }
        let first = refusals.remove(0);
        Err(Error { beside: refusals, ..first })
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

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Error::unexpected(format!("{error:#}"))
    }
}

/// Turns a foreign error into ours: `fs::read(p).cannot(|| format!("read {p}"))?`.
pub trait Cannot<T> {
    /// An unexpected failure with the headline `cannot {attempt}: {the chain of sources}`. `attempt`
    /// is a verb and its object: `read service.yaml`.
    fn cannot(self, attempt: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: std::error::Error + Send + Sync + 'static> Cannot<T> for std::result::Result<T, E> {
    fn cannot(self, attempt: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            Error::unexpected(format!("cannot {}", attempt())).why(chain(&error)).source(error)
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_refusals_are_one_error_that_says_all_of_them() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.keep(Ok(1)), Some(1));
        refusals.keep::<()>(Err(Error::unexpected("lost")));
        refusals.keep::<()>(Err(Error::unexpected("lost")));
        refusals.keep::<()>(Err(Error { beside: vec![Error::input("b")], ..Error::refused("a") }));
        let error = refusals.conclude(Some(())).expect_err("refused");
        let said: Vec<&str> = error.each().map(|one| one.message.as_str()).collect();
        assert_eq!((error.kind, said), (Kind::Refused, vec!["a", "b", "lost"]));
        assert_eq!(Refusals::default().conclude(Some(2)).ok(), Some(2));
    }
}
