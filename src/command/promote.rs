//! `promote`: deploys to one environment what runs healthy in another, by digest.

use super::Context;
use super::announce::announce_deploy;
use super::deploy::{WantedImage, conclude_deploy, find_image, open_site, resolve_environment};
use super::guard::{refuse_run, refuse_unproven};
use super::intent::{make_intent, read_run_facts};
use crate::cli::PromoteArgs;
use crate::deploy::RunState;
use crate::error::{Error, Result};
use crate::ledger::RecordKind;

pub async fn promote(context: &Context, arguments: &PromoteArgs) -> Result<()> {
    let (from, to) = (arguments.from.as_str(), arguments.to.as_str());
    if from == to {
        return Err(Error::input(format!("cannot promote {from} to itself"))
            .fix("name two environments: --from staging --to production"));
    }
    let step = context.report.step("promote");
    let source = open_site(context, from, None).await?;
    let head = source.ledger()?.read_head().await?;
    let running = source.read_running().await?;
    let refused = |why: String| {
        Error::refused(format!(
            "cannot promote {from}: it runs no version that is known to be good"
        ))
        .why(why)
        .fix(format!("deploy to {from} first, and see that `cicd status` says it is ready"))
    };
    let good = head.good.ok_or_else(|| refused("the ledger has no good record there".into()))?;
    if running.state != RunState::Ready {
        return Err(refused(format!("it is {} now", running.state.word())));
    }
    let digest = good.run.digest.as_ref().ok_or_else(|| {
        refused(format!("its last good record {} names no image that is known here", good.number))
    })?;
    if let Some(runs) = running.digest.filter(|runs| runs != digest) {
        return Err(refused(format!(
            "{runs} runs there, and the last good record {} is {digest}",
            good.number
        )));
    }
    let (settings, destination) = resolve_environment(context, to).await?;
    refuse_run(context, to, &destination)?;
    let layout = std::path::PathBuf::from("target/image");
    let wanted =
        WantedImage { digest: Some(digest), version: Some(&good.run.version), layout: &layout };
    let image = find_image(context, &settings, &destination, &wanted).await?;
    context.report.detail(format!("{} of {from} (record {})", image.version, good.number));
    refuse_unproven(context, &settings, &destination, &image).await?;
    let site = open_site(context, to, Some(&layout)).await?;
    let facts = read_run_facts(context);
    let mut intent =
        make_intent(context, &facts, RecordKind::Promote, &arguments.reason, arguments.timeout);
    // What is promoted was built from that commit, whatever is checked out now.
    intent.commit = good.run.commit.clone();
    let named = (good.run.version.as_str(), Some(digest));
    let announcement = announce_deploy(context, &site, named, &intent).await;
    let result = site.deploy_image(image, intent).await;
    announcement.conclude(&result).await;
    conclude_deploy(context, step, &result?);
    Ok(())
}
