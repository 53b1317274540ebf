//! Brings an image into an environment: observe, plan, apply, watch, prove; back to the last good
//! when it fails.
//!
//! What all targets share is here; each target's folder implements [`Backend`]. The decisions
//! (`plan`, `verdict`) are pure functions from facts; everything that changes something is in a
//! target's `apply`, `roll_back` or `storage`.

pub mod ecs;
pub mod eks;
pub mod local;
mod probe;
pub mod storage;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::settings::{Destination, Settings};
use crate::error::{Cause, Error, Kind, Result};
use crate::report::Report;
pub use probe::answers;

/// The image that is deployed: always by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Host and name, without tag:
    /// `111122223333.dkr.ecr.eu-west-1.amazonaws.com/clinicult/patients`.
    pub repository: String,
    /// `sha256:…` of the root manifest.
    pub digest: String,
    /// The version people know it by, safe as a Docker tag.
    pub version: String,
}

impl Image {
    /// The address everything runs it by: `repository@sha256:…`.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }
}

/// How many looks in a row may fail before the deploy does.
const BLIND_LOOKS: u32 = 5;

/// One deploy: what, where, and how long it may take.
#[derive(Clone, Debug)]
pub struct Order {
    pub settings: Settings,
    pub destination: Destination,
    pub image: Image,
    /// Bound on watching and proving together.
    pub timeout: Duration,
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

/// What a look at the target tells. A target's `verdict` module derives it from facts, without I/O.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not there yet; what is being waited for, in a few words.
    Progressing(String),
    /// The new version is what runs, all of it, healthy. With the revision's name where the target
    /// has one.
    Ready { revision: String },
    /// It will not get there.
    Failed(Vec<Cause>),
}

/// What roll_back reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The last good version runs again, or never stopped; with its revision's name.
    LastGood(String),
    /// There was none: the first deploy. What was created is left for looking at, or removed: said
    /// in words.
    Nothing(String),
}

/// A plan: plain data, made without I/O.
pub trait Plan {
    /// What would change, in the order of apply. Empty: nothing to do.
    fn changes(&self) -> &[Change];
    /// The revision that runs before the change.
    fn previous_revision(&self) -> Option<String>;
}

/// A target. All methods that take a plan get the one [`Backend::plan`] made in this run.
pub trait Backend {
    /// What stands there now: everything the plan needs.
    type Facts;
    type Plan: Plan;

    /// Reads, and refuses what can be refused before the first write (missing cluster, permission,
    /// namespace): exit 3.
    async fn observe(&self) -> Result<Self::Facts>;
    /// Pure.
    fn plan(&self, facts: Self::Facts) -> Result<Self::Plan>;
    /// Does what the plan says, and nothing else.
    async fn apply(&self, plan: &Self::Plan) -> Result<()>;
    /// Whether apply may have changed something that runs. Asked when it failed: then the way back
    /// is taken.
    fn wrote(&self) -> bool;
    /// One look at how far it is: facts → verdict.
    async fn look(&self, plan: &Self::Plan) -> Result<Verdict>;
    /// Back to what ran before, after a failure.
    async fn roll_back(&self, plan: &Self::Plan) -> Result<Restored>;
    /// The address under which users reach the service, when a request to its health path answered
    /// 2xx there.
    async fn prove(&self, plan: &Self::Plan) -> Result<Option<String>>;
    /// After success: what the next deploy wants to know (the last good state), and leftovers of
    /// the old version removed. Not called when nothing changed.
    async fn settle(&self, plan: &Self::Plan) -> Result<()>;
    /// Time between two looks.
    fn interval(&self) -> Duration;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Deployed,
    Unchanged,
    Planned,
}

/// What a deploy that did not fail gives to machines.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    pub status: Status,
    pub target: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    pub version: String,
    pub digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_revision: Option<String>,
    pub changed: Vec<String>,
    pub seconds: f64,
}

/// Runs one deploy, or with `plan_only` shows what it would do.
///
/// # Errors
/// Whatever the target refuses; [`Kind::RolledBack`] when the new version failed and the last good
/// one runs; [`Kind::Broken`] when that could not be reached; [`Kind::TimedOut`] when neither came
/// in time.
pub async fn run<B: Backend>(
    backend: &B,
    order: &Order,
    plan_only: bool,
    report: &Report,
) -> Result<Outcome> {
    let started = now();
    let plan = backend.plan(backend.observe().await?)?;
    for change in plan.changes() {
        report.detail(line(change, plan_only));
        for detail in &change.details {
            report.detail(format!("    {detail}"));
        }
    }
    let changed: Vec<String> = plan.changes().iter().map(|change| change.object.clone()).collect();
    let outcome = |status, url, revision| Outcome {
        status,
        target: order.destination.target.name(),
        url,
        version: order.image.version.clone(),
        digest: order.image.digest.clone(),
        revision,
        previous_revision: plan.previous_revision(),
        changed: changed.clone(),
        seconds: (started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
    };
    if plan_only {
        return Ok(outcome(Status::Planned, None, plan.previous_revision()));
    }
    let writes = !changed.is_empty();
    if writes && let Err(error) = backend.apply(&plan).await {
        // What fails half-way is undone at once: nobody else will.
        return Err(if backend.wrote() {
            back(backend, &plan, order, error, report).await
        } else {
            error
        });
    }
    let said = RefCell::new(String::new());
    let reached =
        match tokio::time::timeout(order.timeout, reach(backend, &plan, &said, report)).await {
            Ok(reached) => reached,
            Err(_) => Err(Error::new(
                Kind::TimedOut,
                format!("not ready after {} s", order.timeout.as_secs()),
            )
            .why(said.take())
            .fix("give it longer with --timeout, if it only needs time")),
        };
    match reached {
        Ok((url, revision)) => {
            if writes {
                backend.settle(&plan).await?;
            }
            let status = if writes { Status::Deployed } else { Status::Unchanged };
            Ok(outcome(status, url, Some(revision)))
        }
        // What runs is what ran before this run: there is nothing to go back to.
        Err(error) if !writes => Err(error),
        // Somebody newer runs there: going back would undo their deploy.
        Err(error) if error.kind == Kind::Superseded => Err(error),
        Err(error) => Err(back(backend, &plan, order, error, report).await),
    }
}

/// Watches until the new version is ready, then has it answer. What is being waited for is in
/// `said`.
async fn reach<B: Backend>(
    backend: &B,
    plan: &B::Plan,
    said: &RefCell<String>,
    report: &Report,
) -> Result<(Option<String>, String)> {
    let mut blind = 0;
    let revision = loop {
        match backend.look(plan).await {
            Ok(Verdict::Ready { revision }) => break revision,
            Ok(Verdict::Failed(causes)) => {
                return Err(Error::new(Kind::Broken, "the new version does not run").causes(causes));
            }
            Ok(Verdict::Progressing(state)) => {
                blind = 0;
                if state != *said.borrow() {
                    report.detail(&state);
                    said.replace(state);
                }
            }
            // A look that fails says nothing of the version that comes up.
            Err(error) if error.kind == Kind::Unexpected && blind < BLIND_LOOKS => {
                blind += 1;
                report.trace(format!("cannot look: {error}"));
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(backend.interval()).await;
    };
    Ok((backend.prove(plan).await?, revision))
}

/// Goes back to the last good version and says what that came to.
async fn back<B: Backend>(
    backend: &B,
    plan: &B::Plan,
    order: &Order,
    error: Error,
    report: &Report,
) -> Error {
    // The reason comes first, before the way back takes its time.
    for cause in &error.causes {
        report.warn(format!("{}: {}", cause.object, cause.reason));
    }
    let name = format!(
        "{} {} in {}",
        order.settings.name, order.image.version, order.settings.environment
    );
    let failure = error.message.clone();
    match backend.roll_back(plan).await {
        Ok(Restored::LastGood(revision)) => Error {
            kind: if error.kind == Kind::TimedOut { Kind::TimedOut } else { Kind::RolledBack },
            message: format!("{name}: {failure}; revision {revision} runs as before"),
            ..error
        },
        Ok(Restored::Nothing(what)) => Error {
            kind: if error.kind == Kind::TimedOut { Kind::TimedOut } else { Kind::Broken },
            message: format!(
                "{name}: {failure}; there is no earlier version to go back to: {what}"
            ),
            ..error
        },
        Err(undo) => Error {
            // Another deploy took over meanwhile: what runs is its business.
            kind: if undo.kind == Kind::Superseded { Kind::Superseded } else { Kind::Broken },
            message: format!("{name}: {failure}; and going back failed: {undo}"),
            fixes: if undo.fixes.is_empty() { error.fixes.clone() } else { undo.fixes.clone() },
            ..error
        },
    }
}

fn line(change: &Change, plan_only: bool) -> String {
    let verb = match (change.action, plan_only) {
        (Action::Create, true) => "would create",
        (Action::Update, true) => "would update",
        (Action::Delete, true) => "would delete",
        (Action::Create, false) => "create",
        (Action::Update, false) => "update",
        (Action::Delete, false) => "delete",
    };
    format!("{verb} {}", change.object)
}

/// What runs in an environment, as `status` says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Running {
    pub target: &'static str,
    /// `ready`, `progressing`, `failed` or `absent`.
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
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

#[expect(
    clippy::disallowed_methods,
    reason = "how long a deploy took is an output, never a decision"
)]
fn now() -> Instant {
    Instant::now()
}

impl Outcome {
    /// The outcome in a line for people.
    pub fn in_words(&self) -> String {
        let status = match self.status {
            Status::Deployed => "deployed",
            Status::Unchanged => "unchanged",
            Status::Planned => "planned",
        };
        let revision = self
            .revision
            .as_ref()
            .map(|revision| format!(", revision {revision}"))
            .unwrap_or_default();
        let url = self.url.as_ref().map(|url| format!(", {url}")).unwrap_or_default();
        format!("{status} {} on {}{revision}{url}", self.version, self.target)
    }
}

impl Running {
    /// The state in a line for people.
    pub fn in_words(&self, name: &str, environment: &str) -> String {
        if self.state == "absent" {
            return format!("{name} does not run in {environment}");
        }
        let part = |label: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{label}{value}")).unwrap_or_default()
        };
        format!(
            "{name} in {environment} ({}): {}, {} of {} ready{}{}{}{}",
            self.target,
            self.state,
            self.ready,
            self.wanted,
            part(", version ", &self.version),
            part(", revision ", &self.revision),
            part(", ", &self.url),
            part(", ", &self.digest)
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
