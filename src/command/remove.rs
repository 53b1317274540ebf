//! `remove`: takes a preview down, or those that are over.

use serde_json::json;

use super::Context;
use super::announce::retire_preview;
use super::deploy::{open_site_for, pull_request_of};
use super::guard::refuse_run;
use super::intent::{make_intent, read_run_facts};
use crate::cli::RemoveArgs;
use crate::deploy::Site;
use crate::error::{Error, Result};
use crate::ledger::RecordKind;
use crate::report::Markdown;

/// Removes the preview of one pull request, or with `--expired` each that is over.
///
/// # Errors
/// Bad input for an environment that is no preview; as [`Site::remove_preview`].
pub async fn remove_previews(context: &Context, arguments: &RemoveArgs) -> Result<()> {
    let environment = context.environment()?;
    let step = context.report.step("remove");
    let base = open_site_for(context, environment, None, None).await?;
    if base.destination.preview.is_none() {
        return Err(Error::input(format!("cannot remove {environment}: it is no preview"))
            .why("only an environment that each pull request has one of is ever removed")
            .fix(format!(
                "if it is one, in platform.yaml: environments: {{{environment}: {{preview: {{}}}}}}"
            )));
    }
    refuse_run(context, environment, &base.destination)?;
    let numbers = match arguments.expired {
        true => base.list_expired().await?,
        false => vec![pull_request_of(context).ok_or_else(|| {
            Error::input("cannot choose a preview: no pull request is named")
                .fix("say which one: --pull-request NUMBER, or all that are over: --expired")
        })?],
    };
    let mut changed = Vec::new();
    for number in &numbers {
        let site = open_site_for(context, environment, Some(*number), None).await?;
        if context.shared.plan {
            context.report.detail(format!("would remove {}", site.settings.environment));
            continue;
        }
        changed.extend(remove_one(context, &site, arguments).await?);
    }
    let status = match (context.shared.plan, changed.is_empty()) {
        (true, _) => "planned",
        (false, true) => "unchanged",
        (false, false) => "removed",
    };
    context.give(&json!({ "status": status, "changed": changed }));
    step.done(match changed.is_empty() {
        true => "nothing to do".to_string(),
        false => format!("removed {}", changed.join(", ")),
    });
    Ok(())
}

async fn remove_one(context: &Context, site: &Site, arguments: &RemoveArgs) -> Result<Vec<String>> {
    let name = &site.settings.environment;
    let facts = read_run_facts(context);
    let reason = None;
    let intent = make_intent(context, &facts, RecordKind::Remove, &reason, arguments.timeout);
    let removed = site.remove_preview(&intent).await?;
    retire_preview(context, site).await;
    let line = Markdown::default().own("**Preview** ").code(name);
    context.report.summarise(match removed.is_empty() {
        true => line.own(" is not there."),
        false => line.own(" was removed: ").text(&removed.join(", ")),
    });
    Ok(removed.into_iter().map(|object| format!("{name} {object}")).collect())
}
