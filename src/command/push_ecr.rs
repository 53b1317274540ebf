//! `push-ecr`: pushes the layout, and with `--preflight` says before the build what would be
//! refused.

use super::Context;
use crate::cli::PushEcrArgs;
use crate::config::platform::Platform;
use crate::config::service::Service;
use crate::error::{Error, Result};
use crate::report::Markdown;
use crate::{git, registry};

/// Refuses before a build what the push would refuse after it.
pub async fn check_push(
    context: &Context,
    tags: &[String],
    repository: Option<&str>,
) -> Result<()> {
    let service = context.service()?;
    let head = git::head(&git::open(&context.folder())?)?;
    let step = context.report.step("preflight");
    let unknown = match repository {
        Some(repository) => {
            registry::check_tags_at(repository, tags, &head.revision, &context.report).await?
        }
        None => {
            let platform = require_platform(context.platform().await?)?;
            let session = context.registry_session(&platform).await?;
            let (registry, report) = (&platform.registry, &context.report);
            let owner = repository_owner(&service, head.source);
            registry::check_tags_in_ecr(&session, registry, &owner, tags, &head.revision, report)
                .await?
        }
    };
    step.done(match unknown.as_slice() {
        [] => format!("{} can be pushed", tags.join(", ")),
        unknown => format!("whether {} can be pushed is not known", unknown.join(", ")),
    });
    Ok(())
}

pub async fn push_ecr(context: &Context, arguments: &PushEcrArgs) -> Result<()> {
    if arguments.preflight {
        return check_push(context, &arguments.tags, arguments.repository.as_deref()).await;
    }
    let service = context.service()?;
    let step = context.report.step("push-ecr");
    // A layout can be pushed without a clone; a clone names the sources of the repository.
    let head = git::open(&context.folder()).and_then(|repository| git::head(&repository)).ok();
    let request = registry::PushRequest {
        layout: arguments.layout.clone(),
        tags: arguments.tags.clone(),
        digest: arguments.digest.clone(),
        mount_from: arguments.mount_from.clone(),
        timeout: arguments.timeout.0,
        plan: context.shared.plan,
        repair: arguments.repair,
        owner: repository_owner(&service, head.and_then(|head| head.source)),
        scan: service.scan.clone(),
        recipe: read_recipe(context, &service),
    };
    let pushed = match &arguments.repository {
        Some(repository) => registry::push_to(repository, &request, &context.report).await?,
        None => {
            let platform = require_platform(context.platform().await?)?;
            let session = context.registry_session(&platform).await?;
            registry::push_to_ecr(&session, &platform.registry, &request, &context.report).await?
        }
    };
    step.done(pushed.in_words());
    let name = format!("{}@{}", pushed.repository, pushed.digest);
    let headline = Markdown::default().own("**Pushed** ").code(&name).own(" as ");
    context.report.summarise(headline.text(&pushed.tags.join(", ")));
    context.give(&pushed);
    Ok(())
}

/// Whose repository it is in ECR, with the web address of its sources.
pub fn repository_owner(service: &Service, source: Option<String>) -> registry::Owner {
    let channels = service.version.channels.values().map(ToString::to_string).collect();
    registry::Owner { service: service.name.to_string(), source, channels }
}

/// The service's Dockerfile. A layout may be pushed where there is none.
pub fn read_recipe(context: &Context, service: &Service) -> Option<registry::Recipe> {
    let file = service.image.context.join(&service.image.dockerfile);
    let text = context.tree().read(&context.folder().join(&file)).ok()?;
    let shown = file.strip_prefix(".").unwrap_or(&file).display().to_string();
    Some(registry::Recipe { file: shown, text, target: service.image.target.clone() })
}

pub fn require_platform(platform: Option<Platform>) -> Result<Platform> {
    platform.ok_or_else(|| {
        Error::input("cannot choose a registry: there is no platform.yaml")
            .fix("name it with --platform FILE, or push anywhere with --repository HOST/NAME")
    })
}
