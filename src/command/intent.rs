//! Who runs this command, from which commit, and how two commits stand to each other: what the
//! ledger records and what tells an older run from a newer one.

use std::path::Path;

use jiff::Timestamp;

use super::Context;
use crate::cli::Environ;
use crate::config::values::Span;
use crate::deploy::Intent;
use crate::git;
use crate::github::runner;
use crate::ledger::{RecordKind, RunLink};

/// The run that this process is of.
pub struct RunFacts {
    pub link: RunLink,
    /// GitHub's actor, or the user of this machine.
    pub who: String,
    pub commit: Option<String>,
    pub committed: Option<Timestamp>,
    /// How many commits its history has.
    pub commits: Option<u64>,
    /// Whether an event started it, and not a person.
    pub is_automatic: bool,
    is_ancestor: Box<dyn Fn(&str, &str) -> Option<bool> + Sync>,
}

/// Reads the run's facts from the environment and from the clone that service.yaml stands in. What
/// is not known is left out.
pub fn read_run_facts(context: &Context) -> RunFacts {
    let environ = &context.environ;
    let folder = context.folder();
    let repository = git::open(&folder).ok();
    let head = repository.as_ref().and_then(|repository| git::head(repository).ok());
    let commit =
        environ.get("GITHUB_SHA").map(str::to_string).or_else(|| head.map(|head| head.revision));
    let known = repository.as_ref().zip(commit.as_deref());
    let committed = known.and_then(|(repository, commit)| git::time_of_commit(repository, commit));
    let commits = known.and_then(|(repository, commit)| git::count_commits(repository, commit));
    let event = environ.get("GITHUB_EVENT_NAME");
    let link = link_of_run(environ);
    RunFacts {
        is_automatic: link.number.is_some() && event != Some("workflow_dispatch"),
        link,
        who: who_runs(environ),
        commit,
        committed,
        commits,
        is_ancestor: Box::new(move |one, other| {
            git::is_ancestor(&git::open(&folder).ok()?, one, other)
        }),
    }
}

/// The intent of a command that deploys.
pub fn make_intent<'a>(
    context: &'a Context,
    facts: &'a RunFacts,
    kind: RecordKind,
    reason: &Option<String>,
    timeout: Span,
) -> Intent<'a> {
    Intent {
        kind,
        link: facts.link.clone(),
        who: facts.who.clone(),
        commit: facts.commit.clone(),
        committed: facts.committed,
        commits: facts.commits,
        is_automatic: facts.is_automatic,
        reason: reason.clone(),
        irreversible: Vec::new(),
        timeout: timeout.0,
        plan_only: context.shared.plan,
        is_ancestor: &*facts.is_ancestor,
        interrupt: &context.interrupt,
    }
}

/// Where the run can be looked at.
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>
fn link_of_run(environ: &Environ) -> RunLink {
    let text = |name: &str| environ.get(name).map(str::to_string);
    let number = |name: &str| environ.get(name).and_then(|number| number.parse().ok());
    RunLink {
        url: runner::run_url(environ),
        repository: text("GITHUB_REPOSITORY"),
        workflow: text("GITHUB_WORKFLOW"),
        number: number("GITHUB_RUN_NUMBER"),
        attempt: number("GITHUB_RUN_ATTEMPT"),
    }
}

/// GitHub's actor, or the user of this machine.
pub fn who_runs(environ: &Environ) -> String {
    let user = || {
        let name = environ.get("USER").or_else(|| environ.get("LOGNAME")).unwrap_or("somebody");
        let host = std::fs::read_to_string(Path::new("/etc/hostname")).unwrap_or_default();
        match host.trim() {
            "" => name.to_string(),
            host => format!("{name}@{host}"),
        }
    };
    environ.get("GITHUB_ACTOR").map_or_else(user, str::to_string)
}
