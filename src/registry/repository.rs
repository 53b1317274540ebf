//! The repository that is pushed to: created when it is not there, compared with how it should be,
//! and repaired when that is asked for. [`plan`] decides, [`lifecycle`] on what is kept.

pub mod lifecycle;
pub mod plan;

use super::ecr::{Ecr, There};
use crate::error::{Error, Kind, Result};
use crate::report::Report;
use lifecycle::Images;
use plan::{Change, Facts, Repair, Scanned, Settings};

const DESCRIBE: &str = "ecr:DescribeRepositories";
const LIFECYCLE: &str = "ecr:GetLifecyclePolicy";
const TAGS: &str = "ecr:ListTagsForResource";
const SCANNING: &str = "ecr:BatchGetRepositoryScanningConfiguration";

/// Looks at what its description does not tell. What may not be looked at stays unknown, and is
/// warned of.
///
/// # Errors
/// With `repair`: refused, with the IAM action, when we may not look; nothing is repaired by guess.
pub async fn look(
    ecr: &Ecr,
    there: There,
    settings: &Settings,
    repair: bool,
    report: &Report,
) -> Result<There> {
    let mut facts = match there {
        There::Yes(facts) => facts,
        There::Perhaps if repair => {
            return Err(Error::refused(format!(
                "{} cannot be repaired: it may not be described",
                ecr.name()
            ))
            .fix(ecr.permission(&[DESCRIBE, LIFECYCLE, TAGS, SCANNING])));
        }
        There::Perhaps => {
            report.warn(format!(
                "{} may not be described: whether it is as platform.yaml says is not known; {}",
                ecr.name(),
                ecr.permission(&[DESCRIBE, LIFECYCLE, TAGS, SCANNING])
            ));
            return Ok(There::Perhaps);
        }
        There::No => return Ok(There::No),
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
    facts.lifecycle = unseen.sort(LIFECYCLE, lifecycle).flatten();
    facts.tags = unseen.sort(TAGS, tags);
    facts.scanned = unseen.sort(SCANNING, scanned).unwrap_or(Scanned::Unknown);
    match unseen.together(ecr) {
        Some(error) if repair => return Err(error),
        Some(error) => report.warn(format!(
            "{}: whether {} is as platform.yaml says is not known; {}",
            error.message,
            ecr.name(),
            error.fixes.into_iter().next().or(error.why).unwrap_or_default()
        )),
        None => {}
    }
    Ok(There::Yes(facts))
}

/// The looks that came to nothing, each with its IAM action.
#[derive(Default)]
struct Unseen(Vec<(&'static str, Error)>);

impl Unseen {
    fn sort<T>(&mut self, action: &'static str, looked: Result<T>) -> Option<T> {
        looked.map_err(|error| self.0.push((action, error))).ok()
    }

    /// All of them as one error, as one statement allows them all.
    fn together(self, ecr: &Ecr) -> Option<Error> {
        let denied = self.0.iter().all(|(_, error)| error.kind == Kind::Refused);
        let actions: Vec<&str> = self.0.iter().map(|(action, _)| *action).collect();
        let message =
            self.0.iter().map(|(_, error)| error.message.as_str()).collect::<Vec<_>>().join("; ");
        let first = self.0.first().map(|(_, error)| error.clone())?;
        let together = Error { message, ..first };
        Some(if denied { together.fix(ecr.permission(&actions)) } else { together })
    }
}

/// Sees to it that the repository is there, and says in what it is not as it should be; with
/// `repair` it changes that. With `plan` it only says what it would do.
///
/// # Errors
/// Refused, with the IAM action or the command for someone who may; and before anything is changed,
/// when a new lifecycle policy would take images that are there now.
pub async fn ensure(
    ecr: &Ecr,
    there: &There,
    settings: &Settings,
    repair: bool,
    plan: bool,
    report: &Report,
) -> Result<()> {
    match there {
        There::Perhaps => Ok(()),
        There::No if plan => {
            report.detail(format!(
                "would create the repository {}: {}",
                ecr.name(),
                settings.in_words()
            ));
            Ok(())
        }
        There::No => create(ecr, settings, report).await,
        There::Yes(facts) => {
            let drifts = plan::drifts(facts, settings);
            let (repairs, by_hand) = plan::sort(ecr.name(), &drifts);
            if repair {
                spare_images(ecr, facts, &repairs).await?;
                amend(ecr, &repairs, settings, plan, report).await?;
            } else if let Some(told) = plan::warning(ecr.name(), &repairs) {
                report.warn(told);
            }
            by_hand.iter().for_each(|told| report.warn(told));
            Ok(())
        }
    }
}

async fn create(ecr: &Ecr, settings: &Settings, report: &Report) -> Result<()> {
    if !ecr.create(settings).await? {
        report.detail(format!("another run created the repository {} a moment ago", ecr.name()));
        return Ok(());
    }
    report.detail(format!("created the repository {}: {}", ecr.name(), settings.in_words()));
    let Some(policy) = settings.lifecycle_policy() else { return Ok(()) };
    // The image can be pushed without it: what is missing stays known, as a drift.
    if let Err(error) = ecr.change(&Change::Lifecycle(policy), settings).await {
        let fix = error.fixes.into_iter().next().or(error.why).unwrap_or_default();
        report.warn(format!(
            "{} has no lifecycle policy: {}; {fix}; then run this with --repair",
            ecr.name(),
            error.message
        ));
    }
    Ok(())
}

/// Refuses a new lifecycle policy that would take images that are there now: one of them may run.
#[expect(
    clippy::disallowed_methods,
    reason = "the one clock of a repair; what is lost is decided by the time as a fact"
)]
async fn spare_images(ecr: &Ecr, facts: &Facts, repairs: &[Repair<'_>]) -> Result<()> {
    let Some(after) = repairs.iter().find_map(|repair| repair.change.lifecycle()) else {
        return Ok(());
    };
    let all = ecr.images().await?;
    let children = ecr.children(&lifecycle::indexes(&all)).await?;
    let images = Images { all, children, at: jiff::Timestamp::now() };
    let before = facts.lifecycle.as_ref().and_then(|before| before.as_deref());
    // Asking the registry in between can take minutes.
    if ecr.lifecycle_policy().await?.as_deref() != before {
        return Err(Error::refused(format!(
            "somebody else just changed the lifecycle policy of {}",
            ecr.name()
        ))
        .why("it is not what it was when this began to look")
        .fix("run this again"));
    }
    lifecycle::refusal(ecr.name(), &lifecycle::losses(before, after, &images), |verb| {
        ecr.command(verb)
    })
    .map_or(Ok(()), Err)
}

async fn amend(
    ecr: &Ecr,
    repairs: &[Repair<'_>],
    settings: &Settings,
    plan: bool,
    report: &Report,
) -> Result<()> {
    let name = ecr.name();
    for Repair { what, change } in repairs {
        if plan {
            report.detail(format!("would repair {name}: {what}"));
        } else {
            ecr.change(change, settings).await?;
            report.detail(format!("repaired {name}: {what}"));
        }
    }
    Ok(())
}
