//! `deploy`: brings an image into an environment.

use std::path::Path;

use serde_json::json;

use super::Context;
use crate::aws::Session;
use crate::cli::DeployArgs;
use crate::config::settings::{self, Destination, Settings, Target};
use crate::deploy::{self, Image, Order, Outcome, ecs::Ecs, eks::Eks, local::Local};
use crate::error::{Error, Result};
use crate::{registry, version};

pub async fn deploy_image(context: &Context, arguments: &DeployArgs) -> Result<()> {
    let service = context.service()?;
    let environment = context.environment()?;
    let settings = settings::resolve(&service, environment)?;
    let platform = context.platform().await?;
    let destination = settings::destination(platform.as_ref(), environment)?;
    let step = context.report.step("deploy");
    let image = find_image(context, &settings, &destination, arguments).await?;
    // Said before the deploy, so that a failed one says what it was about.
    context.give(&json!({ "target": destination.target.name(), "version": image.version, "digest": image.digest }));
    let order = Order { settings, destination, image, timeout: arguments.timeout.0 };
    let outcome = deploy_to(context, &order, &arguments.layout).await?;
    let words = outcome.in_words();
    step.done(&words);
    context.report.summarise(format!(
        "**{}** {} → {environment}: {words}",
        order.settings.name, order.image.version
    ));
    if let Some(url) = &outcome.url {
        context.report.print(url, &mut std::io::stdout());
    }
    context.give(&outcome);
    Ok(())
}

pub async fn deploy_to(context: &Context, order: &Order, layout: &Path) -> Result<Outcome> {
    let (plan_only, report) = (context.shared.plan, &context.report);
    match &order.destination.target {
        Target::Local => {
            let local = Local::open(order, Some(layout), &context.environ, report).await?;
            deploy::run(&local, order, plan_only, report).await
        }
        Target::Eks(cluster) => {
            let session = environment_session(context, &order.destination).await?;
            let eks = Eks::open(order, cluster, &context.folder(), &session).await?;
            deploy::run(&eks, order, plan_only, report).await
        }
        Target::Ecs { ecs, api_gateway } => {
            let session = environment_session(context, &order.destination).await?;
            let ecs = Ecs::open(order, ecs, api_gateway.as_ref(), &session).await?;
            deploy::run(&ecs, order, plan_only, report).await
        }
    }
}

pub async fn environment_session(context: &Context, destination: &Destination) -> Result<Session> {
    Session::open(
        &destination.region,
        destination.role.as_deref(),
        &context.environ,
        &context.report,
    )
    .await
}

/// The image to deploy: by digest, else by version in ECR, else (local) what the layout holds.
pub async fn find_image(
    context: &Context,
    settings: &Settings,
    destination: &Destination,
    arguments: &DeployArgs,
) -> Result<Image> {
    let Some(registry) = &destination.registry else {
        let layout = crate::layout::Layout::open(&arguments.layout)?;
        let digest = layout.root().digest.to_string();
        if let Some(wanted) = &arguments.digest
            && *wanted != digest
        {
            return Err(Error::input(format!(
                "{} holds {digest}, not {wanted}",
                arguments.layout.display()
            ))
            .fix("build it again, or leave out --digest"));
        }
        let version = arguments.version.clone().unwrap_or_else(|| short_digest(&digest));
        return Ok(Image { repository: settings.name.clone(), digest, version });
    };
    let name = settings::repository(registry, &settings.name);
    let repository = format!("{}/{name}", registry.host());
    let wanted = match (&arguments.digest, &arguments.version) {
        // A pull request plans an image that it never pushes; whoever deploys must find it there.
        (Some(digest), Some(version)) if context.shared.plan => {
            return Ok(Image {
                repository,
                digest: digest.clone(),
                version: version::docker_tag(version),
            });
        }
        (Some(digest), _) => registry::Wanted::Digest(digest.clone()),
        (None, Some(version)) => registry::Wanted::Tag(version::docker_tag(version)),
        (None, None) => {
            return Err(Error::input("neither --digest nor --version says what to deploy")
                .fix("give --digest sha256:…, as push-ecr printed it, or --version V"));
        }
    };
    // With the environment's role: the registry's trusts the job that pushes, not the one that deploys.
    let session = Session::open(
        &registry.region,
        destination.role.as_deref(),
        &context.environ,
        &context.report,
    )
    .await?;
    let found = registry::find(&session, registry, &name, &wanted, &context.report).await?;
    let given = arguments.version.as_deref().map(version::docker_tag);
    let version = given.or(found.tag).unwrap_or_else(|| short_digest(&found.digest));
    Ok(Image { repository, digest: found.digest, version })
}

/// Enough of a digest to know it by, safe as a label and as a tag.
pub fn short_digest(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}
