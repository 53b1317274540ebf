//! `version`: the next version, and the environments that it goes to by itself.

use std::path::Path;

use serde_json::json;

use super::Context;
use super::deploy::pull_request_of;
use super::guard::{judge_run, read_run_reference};
use crate::cli::VersionArgs;
use crate::config::service::Service;
use crate::config::settings::{self, LOCAL};
use crate::error::Result;
use crate::report::Markdown;
use crate::{git, github, version};

/// What to ask for the version of the service whose service.yaml stands in `folder`.
pub fn version_request(
    context: &Context,
    service: &Service,
    folder: &Path,
) -> version::VersionRequest {
    version::VersionRequest {
        folder: std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf()),
        settings: service.version.clone(),
        pull_request: pull_request_of(context),
        branch: github::runner::branch(&context.environ),
        default_branch: github::runner::default_branch(&context.environ),
        of_tag: matches!(
            github::runner::reference(&context.environ),
            Some(github::runner::Reference::Tag(_))
        ),
        tags: None,
        fetch: (!context.shared.plan).then(|| git::Git::new(&context.environ)),
    }
}

pub async fn next_version(
    context: &Context,
    service: &Service,
    folder: &Path,
) -> Result<version::Version> {
    let request = version_request(context, service, folder);
    let version = version::find_next_version(&request, &context.report).await?;
    version.notices.iter().for_each(|notice| context.report.warn(notice));
    if let Some(tag) = &version.overtaken_by {
        context.report.warn(format!("{tag} was released from a later commit and holds this one"));
    }
    Ok(version)
}

pub async fn show_version(context: &Context, arguments: &VersionArgs) -> Result<version::Version> {
    let service = context.service()?;
    let step = context.report.step("version");
    let version = next_version(context, &service, &context.folder()).await?;
    if arguments.explain {
        for line in version.explain() {
            context.report.detail(line);
        }
    }
    step.done(version.in_words());
    let headline = Markdown::default().own("**Version** ").code(&version.version);
    let words = version.in_words();
    let why = words.strip_prefix(&format!("{}: ", version.version)).unwrap_or(&words);
    context.report.summarise(headline.own(": ").text(why));
    if version.preview {
        context.report.summarise(version.table());
    }
    context.report.print(&version.version, &mut std::io::stdout());
    context.give(&version);
    let environments = automatic_environments(context, &service, version.is_snapshot()).await?;
    if context.environ.on_github() {
        let line = match environments.is_empty() {
            true => "It goes to no environment by itself.".to_string(),
            false => format!("It goes to {}.", environments.join(", then ")),
        };
        context.report.summarise(Markdown::default().text(&line));
    }
    context.give(&json!({ "environments": environments }));
    Ok(version)
}

/// Lists the environments that a version goes to by itself, in order: those that take it, and that
/// this run may deploy to.
async fn automatic_environments(
    context: &Context,
    service: &Service,
    snapshot: bool,
) -> Result<Vec<String>> {
    let run = read_run_reference(context);
    let platform = match run.reference {
        Some(_) => context.platform().await?,
        None => None,
    };
    let mut environments = list_environments(service, snapshot)?;
    environments.retain(|environment| {
        let of_platform = platform.as_ref().and_then(|platform| {
            let mut all = platform.environments.iter();
            all.find(|(name, _)| name.as_str() == environment)
        });
        if of_platform.is_some_and(|(_, found)| found.preview.is_some()) {
            return false;
        }
        let branches = of_platform.map_or(&[][..], |(_, found)| found.branches.as_slice());
        let why = judge_run(&run, branches);
        if let Some(why) = &why {
            context.report.detail(format!("not deployed to {environment}: {why}"));
        }
        why.is_none()
    });
    Ok(environments)
}

/// Lists the environments of a service that take a version, in order: all of them, or for a snapshot
/// those that take snapshots.
///
/// # Errors
/// Bad input when service.yaml contradicts itself.
pub fn list_environments(service: &Service, snapshot: bool) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in service.environments.keys().map(|name| name.as_str()).filter(|name| *name != LOCAL)
    {
        let settings = settings::resolve(service, name)?;
        if settings.snapshots || !snapshot {
            found.push(name.to_string());
        }
    }
    Ok(found)
}

/// Returns the version that was given, or the next one from history.
pub async fn version_or_next(
    context: &Context,
    service: &Service,
    given: Option<&str>,
) -> Result<String> {
    match given {
        Some(version) => Ok(version.to_string()),
        None => Ok(next_version(context, service, &context.folder()).await?.docker_tag),
    }
}
