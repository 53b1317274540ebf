//! `lock` and `unlock`: a person freezes an environment, and ends that.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::Context;
use super::deploy::{open_ledger, resolve_environment};
use super::guard::refuse_run;
use super::intent::who_runs;
use crate::cli::{LockArgs, UnlockArgs};
use crate::error::{Error, Result};
use crate::ledger::Freeze;

/// Freezes an environment.
pub async fn lock_environment(context: &Context, arguments: &LockArgs) -> Result<()> {
    let environment = context.environment()?;
    let (settings, ledger) = open_ledger(context, environment).await?;
    let step = context.report.step("lock");
    let reason = arguments.reason.as_deref().map(str::trim).unwrap_or_default();
    if reason.is_empty() {
        return Err(Error::input("cannot freeze without a reason")
            .fix("say why, for whoever is refused: --reason \"the database is being moved\""));
    }
    let since = now();
    let span = SignedDuration::try_from(arguments.duration.0).unwrap_or(SignedDuration::MAX);
    let until = since.checked_add(span).map_err(|error| {
        Error::input("cannot freeze for so long")
            .why(error)
            .fix("lock for a shorter time: --for 24h")
    })?;
    let freeze = Freeze {
        service: settings.name.clone(),
        environment: environment.to_string(),
        who: who_runs(&context.environ),
        reason: reason.to_string(),
        since,
        until,
        ..Freeze::default()
    };
    let what = describe_scope(&settings.name, environment, arguments.all_services);
    context.give(&json!({ "holder": freeze.who, "until": freeze.until.to_string() }));
    if context.shared.plan {
        step.done(format!("would freeze {what} until {until}"));
        context.give(&json!({ "status": "planned" }));
        return Ok(());
    }
    ledger.freeze(freeze, arguments.all_services).await?;
    step.done(format!("{what} is frozen until {until}: {reason}"));
    context.give(&json!({ "status": "locked" }));
    Ok(())
}

/// Ends a freeze.
pub async fn unlock_environment(context: &Context, arguments: &UnlockArgs) -> Result<()> {
    let environment = context.environment()?;
    let (_, destination) = resolve_environment(context, environment).await?;
    refuse_run(context, environment, &destination)?;
    let (settings, ledger) = open_ledger(context, environment).await?;
    let step = context.report.step("unlock");
    let what = describe_scope(&settings.name, environment, arguments.all_services);
    if context.shared.plan {
        step.done(format!("would end the freeze of {what}"));
        context.give(&json!({ "status": "planned" }));
        return Ok(());
    }
    let ended = ledger.unfreeze(arguments.all_services).await?;
    match ended {
        Some(freeze) => {
            step.done(format!("{what} is open; {} had frozen it: {}", freeze.who, freeze.reason));
            context.give(&json!({ "status": "unlocked" }));
        }
        None => {
            step.done(format!("{what} was not frozen"));
            context.give(&json!({ "status": "unchanged" }));
        }
    }
    Ok(())
}

fn describe_scope(service: &str, environment: &str, all_services: bool) -> String {
    match all_services {
        true => format!("{environment}, for every service"),
        false => format!("{service} in {environment}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "a freeze begins now")]
fn now() -> Timestamp {
    Timestamp::now()
}
