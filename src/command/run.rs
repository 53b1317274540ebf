//! `run`: all steps in order, the way the workflow does.

use super::Context;
use super::build_image::build_image;
use super::deploy::deploy_image;
use super::push_ecr::{check_push, push_ecr};
use super::version::show_version;
use crate::cli::{BuildImageArgs, DeployArgs, PushEcrArgs, RunArgs, VersionArgs};
use crate::config::settings::{self, LOCAL};
use crate::config::values::Span;
use crate::error::Result;

/// No build of a service takes longer; one that does hangs. `build-image --timeout` has the same default.
const BUILD_TIMEOUT: Span = Span(std::time::Duration::from_secs(60 * 60));

pub async fn run_all_steps(context: &Context, arguments: &RunArgs) -> Result<()> {
    let environment = context.environment()?;
    let local = environment == LOCAL;
    let service = context.service()?;
    // What is wrong with the files is said before a minute is spent on a build.
    settings::resolve(&service, environment)?;
    settings::destination(context.platform().await?.as_ref(), environment)?;

    let tag = show_version(context, &VersionArgs::default()).await?.docker_tag;
    if !local {
        check_push(context, std::slice::from_ref(&tag), None).await?;
    }
    let build = BuildImageArgs {
        compare: None,
        layout: arguments.layout.clone(),
        version: Some(tag.clone()),
        from: None,
        only: None,
        join: None,
        skip_contract: arguments.skip_contract,
        no_cache: arguments.no_cache,
        cache: None,
        builder_image: arguments.builder_image.clone(),
        allow_frontend: arguments.allow_frontend.clone(),
        timeout: BUILD_TIMEOUT,
    };
    let digest = build_image(context, &build).await?;
    if context.shared.plan {
        context
            .report
            .detail("the rest is planned from what would be built: run it without --plan");
        return Ok(());
    }
    if !local {
        let push = PushEcrArgs {
            layout: arguments.layout.clone(),
            tags: vec![tag.clone()],
            repository: None,
            preflight: false,
            repair: false,
            digest: digest.clone(),
            mount_from: None,
            timeout: arguments.timeout,
        };
        push_ecr(context, &push).await?;
    }
    let deploy = DeployArgs {
        digest,
        version: Some(tag),
        layout: arguments.layout.clone(),
        timeout: arguments.timeout,
        reason: None,
    };
    deploy_image(context, &deploy).await
}
