//! `deploy`: brings an image into an environment.

use std::path::Path;

use serde_json::json;

use super::Context;
use super::announce::announce_deploy;
use super::guard::{refuse_run, refuse_unproven};
use super::intent::{make_intent, read_run_facts};
use crate::cli::DeployArgs;
use crate::config::preview::make_preview;
use crate::config::settings::{self, Destination, Settings, Target};
use crate::deploy::{self, Image, Outcome, Site, SiteOptions, site};
use crate::digest::Digest;
use crate::error::{Code, Error, Kind, Result};
use crate::github::runner;
use crate::ledger::{Ledger, RecordKind};
use crate::{registry, version};

pub async fn deploy_image(context: &Context, arguments: &DeployArgs) -> Result<()> {
    let environment = context.environment()?;
    let step = context.report.step("deploy");
    let (settings, destination) = resolve_environment(context, environment).await?;
    refuse_run(context, environment, &destination)?;
    let wanted = WantedImage {
        digest: arguments.digest.as_ref(),
        version: arguments.version.as_deref(),
        layout: &arguments.layout,
    };
    let image = find_image(context, &settings, &destination, &wanted).await?;
    // Said before the deploy, so that a failed one says what it was about.
    context.give(&json!({
        "target": destination.target.name(), "version": image.version, "digest": image.digest
    }));
    refuse_platform(context, &settings, &destination, &image).await?;
    refuse_unproven(context, &settings, &destination, &image).await?;
    let site = open_site(context, environment, Some(&arguments.layout)).await?;
    if !context.shared.plan {
        site.make_room().await?;
    }
    let facts = read_run_facts(context);
    let intent =
        make_intent(context, &facts, RecordKind::Deploy, &arguments.reason, arguments.timeout);
    let named = (image.version.clone(), image.digest.clone());
    let named = (named.0.as_str(), Some(&named.1));
    let announcement = announce_deploy(context, &site, named, &intent).await;
    let result = site.deploy_image(image, intent).await;
    announcement.conclude(&result).await;
    conclude_deploy(context, step, &result?);
    Ok(())
}

/// Says how a deploy ended, to people and to machines.
pub fn conclude_deploy(context: &Context, step: crate::report::Step, outcome: &Outcome) {
    step.done(outcome.in_words());
    if let Some(url) = &outcome.url {
        context.report.print(url, &mut std::io::stdout());
    }
    context.give(outcome);
}

/// The pull request that this run is for, or that a person names.
pub fn pull_request_of(context: &Context) -> Option<u64> {
    context.shared.pull_request.or_else(|| runner::pull_request(&context.environ))
}

/// What the two files say of an environment.
pub async fn resolve_environment(
    context: &Context,
    environment: &str,
) -> Result<(Settings, Destination)> {
    resolve_for(context, environment, pull_request_of(context)).await
}

/// The same; where each pull request has an environment of its own, that of this one.
async fn resolve_for(
    context: &Context,
    environment: &str,
    pull_request: Option<u64>,
) -> Result<(Settings, Destination)> {
    let mut settings = settings::resolve(&context.service()?, environment)?;
    let mut destination = settings::destination(context.platform().await?.as_ref(), environment)?;
    if let Some(number) = pull_request {
        make_preview(&mut settings, &mut destination, number)?;
    }
    Ok((settings, destination))
}

/// Opens an environment: its target and its ledger.
pub async fn open_site(
    context: &Context,
    environment: &str,
    layout: Option<&Path>,
) -> Result<Site> {
    open_site_for(context, environment, pull_request_of(context), layout).await
}

/// The same; where each pull request has an environment of its own, that of this one.
pub async fn open_site_for(
    context: &Context,
    environment: &str,
    pull_request: Option<u64>,
    layout: Option<&Path>,
) -> Result<Site> {
    let (settings, destination) = resolve_for(context, environment, pull_request).await?;
    let platform = context.platform().await?;
    let session = match destination.target {
        Target::Local => None,
        _ => Some(context.session_of(&destination, &destination.region).await?),
    };
    Site::open(SiteOptions {
        settings,
        destination,
        session,
        records: platform.as_ref().and_then(|platform| platform.records.as_ref()),
        sources: context.sources(),
        layout: layout.map(Path::to_path_buf),
        environ: &context.environ,
        report: &context.report,
    })
    .await
}

/// Opens the ledger of an environment alone: it can be read, and the environment frozen, while the
/// cluster does not answer.
pub async fn open_ledger(context: &Context, environment: &str) -> Result<(Settings, Ledger)> {
    let (settings, destination) = resolve_environment(context, environment).await?;
    let platform = context.platform().await?;
    let session = match destination.target {
        Target::Local => None,
        _ => Some(context.session_of(&destination, &destination.region).await?),
    };
    let place = site::LedgerPlace {
        service: &settings.name,
        environment: &settings.environment,
        destination: &destination,
        session: session.as_ref(),
        records: platform.as_ref().and_then(|platform| platform.records.as_ref()),
    };
    let ledger = site::open_ledger(&place, &context.environ, &context.report).await?;
    let ledger = ledger.ok_or_else(|| site::missing_ledger(&destination))?;
    Ok((settings, ledger))
}

/// What to deploy, as it was asked for.
pub struct WantedImage<'a> {
    pub digest: Option<&'a Digest>,
    pub version: Option<&'a str>,
    pub layout: &'a Path,
}

/// The image to deploy: by digest, else by version in ECR, else (local) what the layout holds.
pub async fn find_image(
    context: &Context,
    settings: &Settings,
    destination: &Destination,
    wanted: &WantedImage<'_>,
) -> Result<Image> {
    let repository = site::image_repository(settings, destination);
    let Some(registry) = &destination.registry else {
        let layout = crate::layout::Layout::open(wanted.layout)?;
        let digest = layout.root().digest.clone();
        if let Some(expected) = wanted.digest.filter(|expected| **expected != digest) {
            return Err(Error::input(format!("cannot deploy {}", wanted.layout.display()))
                .why(format!("it holds {digest}, not {expected}"))
                .fix("build it again, or leave out --digest"));
        }
        let version = wanted.version.unwrap_or(digest.short()).to_string();
        return Ok(Image { repository, digest, version });
    };
    let name = settings::repository(registry, &settings.owner.service);
    let service = context.service()?;
    let given = wanted.version.map(|given| version_of(given, &service.version.prefix));
    let looked_for = match (wanted.digest, given) {
        // A pull request plans an image that it never pushes; whoever deploys must find it there.
        (Some(digest), Some(version)) if context.shared.plan => {
            let version = version::docker_tag(version);
            return Ok(Image { repository, digest: digest.clone(), version });
        }
        (Some(digest), _) => registry::Wanted::Digest(digest.clone()),
        (None, Some(version)) => registry::Wanted::Tag(version::docker_tag(version)),
        (None, None) => {
            return Err(Error::input(
                "cannot choose an image: neither --digest nor --version names it",
            )
            .fix("give --digest sha256:…, as push-ecr printed it, or --version V"));
        }
    };
    // With the environment's role: the registry's trusts the job that pushes, not the one that
    // deploys.
    let session = context.session_of(destination, &registry.region).await?;
    let found =
        registry::find_image(&session, registry, &name, &looked_for, &context.report).await?;
    // Tags are what the gate gives.
    if found.is_untagged && service.scan.is_some() {
        return Err(Error::new(Kind::Gate, format!("cannot deploy {}", found.digest))
            .code(Code::ScanFindings)
            .why("it has no tag: the scan of its push found something, or did not end")
            .fix("push it again: `cicd push-ecr` says what was found, and gives it its tag"));
    }
    let given = given.map(version::docker_tag);
    let version = given.or(found.tag).unwrap_or_else(|| found.digest.short().to_string());
    Ok(Image { repository, digest: found.digest, version })
}

/// Refuses an image that could not be started: ECS runs its tasks on the architecture of their
/// definition, and Kubernetes its pods on the nodes of `image.platforms`.
async fn refuse_platform(
    context: &Context,
    settings: &Settings,
    destination: &Destination,
    image: &Image,
) -> Result<()> {
    let wanted = match &destination.target {
        Target::Eks(_) => settings.platforms.clone(),
        Target::Ecs { .. } => vec![deploy::ecs::platform_of(settings)?.to_string()],
        Target::Local => return Ok(()),
    };
    let Some(registry) = &destination.registry else { return Ok(()) };
    let name = settings::repository(registry, &settings.owner.service);
    let session = context.session_of(destination, &registry.region).await?;
    let found = registry::find_platforms(&session, registry, &name, &image.digest, &context.report);
    let Some(found) = found.await else { return Ok(()) };
    let lacks: Vec<&str> =
        wanted.iter().filter(|one| !found.contains(one)).map(String::as_str).collect();
    if lacks.is_empty() {
        return Ok(());
    }
    let (wanted, found) = (wanted.join(", "), found.join(", "));
    let headline = format!("cannot deploy {}: it is not for {}", image.digest, lacks.join(", "));
    Err(Error::refused(headline)
        .code(Code::ImageNotFound)
        .why(format!("it is for {found}, and is to run on {wanted}"))
        .fix(format!("build it for that: image: {{platforms: [{wanted}]}} in service.yaml"))
        .fix("or let it run on what it is for, by the same key"))
}

/// The version that a person means: a release's tag names one too.
fn version_of<'a>(given: &'a str, prefix: &str) -> &'a str {
    let of_tag = given.strip_prefix(prefix).filter(|rest| semver::Version::parse(rest).is_ok());
    of_tag.unwrap_or(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_its_version() {
        for (given, prefix, version) in [
            ("1.4.0", "v", "1.4.0"),
            ("v1.4.0", "v", "1.4.0"),
            ("api-v1.4.0-beta.1", "api-v", "1.4.0-beta.1"),
            ("v1.4.0", "api-v", "v1.4.0"),
            ("v1", "v", "v1"),
            ("1.3.3-main.4", "v", "1.3.3-main.4"),
        ] {
            assert_eq!(version_of(given, prefix), version, "{given}");
        }
    }
}
