//! The repository that is pushed to: created when it is not there, compared with how it should be, and repaired when that is
//! asked for. [`plan`] decides.

pub mod plan;

use super::ecr::{Ecr, There};
use crate::error::{Error, Result};
use crate::report::Report;
use plan::{Change, Drift, Fix, Settings};

/// Looks at what its description does not tell. What may not be looked at stays unknown, and is said.
///
/// # Errors
/// With `repair`: refused, with the IAM action, when we may not look; nothing is repaired by guess.
pub async fn look(ecr: &Ecr, there: There, settings: &Settings, repair: bool, report: &Report) -> Result<There> {
    let mut facts = match there {
        There::Yes(facts) => facts,
        There::Perhaps if repair => {
            return Err(Error::refused(format!("{} cannot be repaired: it may not be described", ecr.name()))
                .fix(ecr.permission(&["ecr:DescribeRepositories"])));
        }
        other => return Ok(other),
    };
    let lifecycle = async {
        match settings.keep {
            Some(_) => ecr.lifecycle_policy().await.map(Some),
            None => Ok(None),
        }
    };
    let scanned = async {
        match facts.scanned {
            Some(true) => Ok(true),
            _ => ecr.scanned_by_registry().await,
        }
    };
    let (lifecycle, tags, scanned) = tokio::join!(lifecycle, ecr.tags(), scanned);
    facts.lifecycle = seen(lifecycle, repair, report)?.flatten();
    facts.tags = seen(tags, repair, report)?;
    facts.scanned = seen(scanned, repair, report)?;
    Ok(There::Yes(facts))
}

/// A push goes on without having seen whether the repository is as it should be.
fn seen<T>(looked: Result<T>, repair: bool, report: &Report) -> Result<Option<T>> {
    match looked {
        Ok(seen) => Ok(Some(seen)),
        Err(error) if repair => Err(error),
        Err(error) => {
            let fix = error.fix.as_deref().or(error.why.as_deref()).unwrap_or_default();
            report.detail(format!("{}: whether it is as it should be is not known; {fix}", error.message));
            Ok(None)
        }
    }
}

/// Sees to it that the repository is there, and says in what it is not as it should be; with `repair` it changes that. With
/// `plan` it only says what it would do.
///
/// # Errors
/// Refused, with the IAM action or the command for someone who may.
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
            report.detail(format!("would create the repository {}: {}", ecr.name(), settings.in_words()));
            Ok(())
        }
        There::No => create(ecr, settings, report).await,
        There::Yes(facts) => {
            for drift in plan::drifts(facts, settings) {
                amend(ecr, &drift, settings, repair, plan, report).await?;
            }
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
        let fix = error.fix.or(error.why).unwrap_or_default();
        report.warn(format!(
            "{} has no lifecycle policy: {}; {fix}; then run this with --repair",
            ecr.name(),
            error.message
        ));
    }
    Ok(())
}

async fn amend(ecr: &Ecr, drift: &Drift, settings: &Settings, repair: bool, plan: bool, report: &Report) -> Result<()> {
    let (name, what) = (ecr.name(), &drift.what);
    match &drift.fix {
        Fix::ByHand(fix) => report.warn(format!("{name}: {what}; {fix}")),
        Fix::Repair(change) if !repair => report.warn(format!(
            "{name}: {what}; run this once with --repair (in a workflow `repair: true`), which needs `{}`",
            change.action()
        )),
        Fix::Repair(change) if plan => report.detail(format!("would repair {name}: {what}{}", change.warning())),
        Fix::Repair(change) => {
            ecr.change(change, settings).await?;
            report.detail(format!("repaired {name}: {what}{}", change.warning()));
        }
    }
    Ok(())
}
