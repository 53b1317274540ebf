//! The repository that is pushed to: created if it is missing, compared with its settings, and
//! repaired on request. [`plan`] decides, [`lifecycle`] decides what is kept.

use super::ecr::{Ecr, Presence};
use super::repository::drift::Change;
use super::repository::lifecycle::{self, ImageList};
use super::repository::plan::{self, Repair, RepositoryFacts, RepositorySettings, Scanned};
use crate::error::{Error, Kind, Result};
use crate::report::Report;

const DESCRIBE: &str = "ecr:DescribeRepositories";
const LIFECYCLE: &str = "ecr:GetLifecyclePolicy";
const TAGS: &str = "ecr:ListTagsForResource";
const SCANNING: &str = "ecr:BatchGetRepositoryScanningConfiguration";

/// Reads what the repository's description lacks. What may not be read stays unknown, with a
/// warning.
///
/// # Errors
/// With `repair`: refused, with the IAM statement, if we may not look; nothing is repaired by
/// guess.
pub async fn complete_facts(
    ecr: &Ecr,
    presence: Presence,
    settings: &RepositorySettings,
    repair: bool,
    report: &Report,
) -> Result<Presence> {
    let allow = || ecr.allow_fix(&[DESCRIBE, LIFECYCLE, TAGS, SCANNING]);
    let mut facts = match presence {
        Presence::Present(facts) => facts,
        Presence::Unknown if repair => {
            return Err(Error::refused(format!("cannot repair {}", ecr.name()))
                .why("it may not be described")
                .fix(allow()));
        }
        Presence::Unknown => {
            report.warn(format!(
                "{} may not be described: whether it is as platform.yaml says is not known; {}",
                ecr.name(),
                allow()
            ));
            return Ok(Presence::Unknown);
        }
        Presence::Absent => return Ok(Presence::Absent),
    };
    let lifecycle = async {
        match settings.keep {
            Some(_) => ecr.lifecycle_policy().await.map(Some),
            None => Ok(None),
        }
    };
    let scanned = async {
        match facts.scanned {
            Scanned::Yes => Ok(Scanned::Yes),
            _ => ecr.scanned_by_registry().await,
        }
    };
    let (lifecycle, tags, scanned) = tokio::join!(lifecycle, ecr.tags(), scanned);
    let mut unseen = Unseen::default();
    facts.lifecycle = unseen.take_errors(LIFECYCLE, lifecycle).flatten();
    facts.tags = unseen.take_errors(TAGS, tags);
    facts.scanned = unseen.take_errors(SCANNING, scanned).unwrap_or(Scanned::Unknown);
    match unseen.merge(ecr) {
        Some(error) if repair => return Err(error),
        Some(error) => report.warn(format!(
            "{}: whether {} is as platform.yaml says is not known; {}",
            error.message,
            ecr.name(),
            error.fixes.into_iter().next().or(error.why).unwrap_or_default()
        )),
        None => {}
    }
    Ok(Presence::Present(facts))
}

/// The reads that failed, each with its IAM action.
#[derive(Default)]
struct Unseen(Vec<(&'static str, Error)>);

impl Unseen {
    fn take_errors<T>(&mut self, action: &'static str, read: Result<T>) -> Option<T> {
        read.map_err(|error| self.0.push((action, error))).ok()
    }

    /// Merges all errors into one, as one IAM statement allows all of the actions.
    fn merge(self, ecr: &Ecr) -> Option<Error> {
        let denied = self.0.iter().all(|(_, error)| error.kind == Kind::Refused);
        let actions: Vec<&str> = self.0.iter().map(|(action, _)| *action).collect();
        let message =
            self.0.iter().map(|(_, error)| error.message.as_str()).collect::<Vec<_>>().join("; ");
        let first = self.0.first().map(|(_, error)| error.clone())?;
        let merged = Error { message, ..first };
        Some(if denied { merged.only_fix(ecr.allow_fix(&actions)) } else { merged })
    }
}

/// Creates a missing repository, and reports how an existing one differs from its settings; with
/// `repair` it changes that. With `plan` it only says what it would do.
///
/// # Errors
/// Refused, with the IAM statement or the command for someone who may. Refused before any change,
/// if a new lifecycle policy would remove images that exist now.
pub async fn ensure_repository(
    ecr: &Ecr,
    presence: &Presence,
    settings: &RepositorySettings,
    repair: bool,
    plan: bool,
    report: &Report,
) -> Result<()> {
    match presence {
        Presence::Unknown => Ok(()),
        Presence::Absent if plan => {
            report.detail(format!(
                "would create the repository {}: {}",
                ecr.name(),
                settings.in_words()
            ));
            Ok(())
        }
        Presence::Absent => create_repository(ecr, settings, report).await,
        Presence::Present(facts) => {
            let drifts = plan::find_drifts(facts, settings);
            let (repairs, by_hand) = plan::sort_drifts(ecr.name(), &drifts);
            if repair {
                spare_images(ecr, facts, &repairs).await?;
                make_repairs(ecr, &repairs, settings, plan, report).await?;
            } else if let Some(told) = plan::format_drift_warning(ecr.name(), &repairs) {
                report.warn(told);
            }
            by_hand.iter().for_each(|told| report.warn(told));
            Ok(())
        }
    }
}

async fn create_repository(
    ecr: &Ecr,
    settings: &RepositorySettings,
    report: &Report,
) -> Result<()> {
    if !ecr.create(settings).await? {
        report.detail(format!("another run created the repository {} a moment ago", ecr.name()));
        return Ok(());
    }
    report.detail(format!("created the repository {}: {}", ecr.name(), settings.in_words()));
    let Some(policy) = settings.lifecycle_policy() else { return Ok(()) };
    // The image can be pushed without a policy: the next push reports the drift.
    if let Err(error) = ecr.change(&Change::Lifecycle(policy), settings, report).await {
        let fix = error.fixes.into_iter().next().or(error.why).unwrap_or_default();
        report.warn(format!(
            "{} has no lifecycle policy: {}; {fix}; then run this with --repair",
            ecr.name(),
            error.message
        ));
    }
    Ok(())
}

/// Refuses a new lifecycle policy that would remove images that exist now: one of them may run.
#[expect(
    clippy::disallowed_methods,
    reason = "the one clock of a repair; what is lost is decided by the time as a fact"
)]
async fn spare_images(ecr: &Ecr, facts: &RepositoryFacts, repairs: &[Repair<'_>]) -> Result<()> {
    let Some(after) = repairs.iter().find_map(|repair| repair.change.lifecycle()) else {
        return Ok(());
    };
    let all = ecr.images().await?;
    let children = ecr.children(&lifecycle::select_indexes(&all)).await?;
    let images = ImageList { all, children, at: jiff::Timestamp::now() };
    let before = facts.lifecycle.as_ref().and_then(|before| before.as_deref());
    // Reading the images can take minutes.
    if ecr.lifecycle_policy().await?.as_deref() != before {
        return Err(Error::refused(format!(
            "cannot change the lifecycle policy of {}",
            ecr.name()
        ))
        .why("somebody else just changed it")
        .fix("run this again"));
    }
    let losses = lifecycle::find_losses(before, after, &images);
    lifecycle::explain_losses(ecr.name(), &losses, |verb| ecr.command(verb)).map_or(Ok(()), Err)
}

async fn make_repairs(
    ecr: &Ecr,
    repairs: &[Repair<'_>],
    settings: &RepositorySettings,
    plan: bool,
    report: &Report,
) -> Result<()> {
    let name = ecr.name();
    for Repair { what, change } in repairs {
        if plan {
            report.detail(format!("would repair {name}: {what}"));
        } else {
            ecr.change(change, settings, report).await?;
            report.detail(format!("repaired {name}: {what}"));
        }
    }
    Ok(())
}
