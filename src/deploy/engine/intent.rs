//! What a run is asked to do, and which of two runs is the newer one. Pure but for `is_ancestor`.

use std::cmp::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Code, Error, Kind, Result};
use crate::interrupt::Interrupt;
use crate::ledger::{Head, RecordKind, Run, RunLink};

/// Who deploys, why, and how long it may take.
pub struct Intent<'a> {
    pub kind: RecordKind,
    pub link: RunLink,
    pub who: String,
    pub commit: Option<String>,
    /// When the commit was made, if that is known.
    pub committed: Option<Timestamp>,
    /// How many commits its history has, if all are known.
    pub commits: Option<u64>,
    /// An event started it, and not a person: such a run may be older than what is deployed.
    pub is_automatic: bool,
    pub reason: Option<String>,
    /// The command of `before-deploy`, if what it does cannot be taken back.
    pub irreversible: Vec<String>,
    /// Bound on the way in, and anew on the way back.
    pub timeout: Duration,
    /// Only show what would change.
    pub plan_only: bool,
    pub is_ancestor: &'a Ancestry<'a>,
    pub interrupt: &'a Interrupt,
}

/// Whether the first commit is an ancestor of the second. `None` when nobody can tell.
pub type Ancestry<'a> = dyn Fn(&str, &str) -> Option<bool> + Sync + 'a;

/// Orders two runs: by their commits where one contains the other, else by the run numbers of one
/// workflow. `None` when neither says anything.
pub fn compare_runs(ours: &Run, theirs: &Run, is_ancestor: &Ancestry<'_>) -> Option<Ordering> {
    if let (Some(our_commit), Some(their_commit)) = (&ours.commit, &theirs.commit)
        && our_commit != their_commit
    {
        if is_ancestor(our_commit, their_commit) == Some(true) {
            return Some(Ordering::Less);
        }
        if is_ancestor(their_commit, our_commit) == Some(true) {
            return Some(Ordering::Greater);
        }
    }
    let (ours, theirs) = (&ours.run, &theirs.run);
    let is_same_workflow = ours.workflow.is_some()
        && (&ours.workflow, &ours.repository) == (&theirs.workflow, &theirs.repository);
    let order = ours.number?.cmp(&theirs.number?);
    is_same_workflow.then_some(order)
}

/// Refuses a run whose commit or number is older than that of the last record. A person who starts
/// a deploy by hand, a rollback and a promotion say themselves what they want.
pub fn refuse_older(ours: &Run, intent: &Intent<'_>, head: &Head) -> Result<()> {
    let Some(last) = head.last.as_ref() else { return Ok(()) };
    if !intent.is_automatic || intent.kind != RecordKind::Deploy {
        return Ok(());
    }
    if compare_runs(ours, &last.run, intent.is_ancestor) != Some(Ordering::Less) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Superseded,
        format!(
            "cannot deploy {}: a newer run deployed {} before (record {})",
            ours.version, last.run.version, last.number
        ),
    )
    .code(Code::OlderRun)
    .why(match &last.run.run.url {
        Some(url) => format!("the newer one is {url}, by {}", last.run.who),
        None => format!("{} started the newer one", last.run.who),
    })
    .fix(
        "do nothing if that is right; to go back on purpose: `cicd rollback --to VERSION`, or start \
         the deploy by hand (workflow_dispatch)",
    ))
}
