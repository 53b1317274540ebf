//! `release`: tags the commit and publishes the release.

use std::path::{Component, Path, PathBuf};

use serde_json::json;

use super::Context;
use super::version::version_request;
use crate::cli::ReleaseArgs;
use crate::error::{Cannot, Error, Result};
use crate::github::publication::{Asset, BesideFile};
use crate::report::Markdown;
use crate::{git, github, inside, owner, release, version};

pub async fn release_commit(context: &Context, arguments: &ReleaseArgs) -> Result<()> {
    let service = context.service()?;
    let step = context.report.step("release");
    let event = context.environ.get("GITHUB_EVENT_NAME").unwrap_or_default();
    if event.starts_with("pull_request") {
        step.done("nothing to release: this is a pull request");
        context.give(&json!({ "status": "unchanged", "release": false }));
        return Ok(());
    }
    let notes = arguments.notes_file.as_deref().map(read_notes).transpose()?;
    let head = git::head(&git::open(&context.folder())?)?;
    let asked = arguments.github_repository.as_deref();
    let repository = github::repository::Repository::open(
        asked,
        head.source.as_deref(),
        &context.environ,
        &context.report,
    )?;
    let version = version_request(context, &service, &context.folder());
    let request = release::ReleaseRequest {
        files: read_beside(context, &arguments.with)?,
        assets: read_assets(&arguments.asset)?,
        commit: head.revision,
        prefix: service.version.prefix.clone(),
        floating: service.version.floating,
        notes,
        branch: version.branch.clone().or(head.branch),
        plan: context.shared.plan,
        timeout: arguments.timeout.0,
    };
    let decide = async |tags: Vec<github::repository::Tag>| {
        let tags = tags
            .into_iter()
            .map(|tag| version::Tag { name: tag.name, commit: tag.commit })
            .collect();
        let found = version::find_next_version(
            &version::VersionRequest { tags: Some(tags), ..version.clone() },
            &context.report,
        )
        .await?;
        Ok(decide_release(found))
    };
    let released = release::run_release(&request, &repository, decide, &context.report).await?;
    step.done(released.in_words());
    let headline = Markdown::default().own("**Release** ");
    context.report.summarise(headline.text(released.in_words()));
    if let (Some(file), Some(tag), Some(notes)) =
        (&arguments.changelog, &released.tag, &released.notes)
        && !context.shared.plan
    {
        let old = if file.exists() { read_text(file)? } else { String::new() };
        if let Some(new) = release::notes::update_changelog(&old, tag, notes) {
            std::fs::write(file, new).cannot(|| format!("write {}", file.display()))?;
            owner::give_to_owner(file);
        }
    }
    let shown = if context.shared.plan { &released.notes } else { &released.url };
    shown.iter().for_each(|text| context.report.print(text, &mut std::io::stdout()));
    context.give(&released);
    context.give(&json!({ "release": released.version.is_some() }));
    if let Some(version) = &released.version {
        let tag = version::docker_tag(version);
        // Another merge, or a name that is used up, can change the version after the image's push.
        if let Some(pushed) = arguments.version.as_ref().filter(|pushed| **pushed != tag) {
            context.report.warn(format!(
                "the image was pushed as {pushed}, and its commit is released as {tag}: deploy it by \
                 its digest, as service.yml does, or by the version {pushed}; `cicd push-ecr --tag \
                 {tag}` gives it the other name too"
            ));
        }
        context.give(&json!({ "docker-tag": tag }));
    }
    Ok(())
}

/// Reads the files that only the tag gets, as they lie in the work tree.
fn read_beside(context: &Context, files: &[PathBuf]) -> Result<Vec<BesideFile>> {
    let tree = context.tree();
    let mut read = Vec::new();
    for file in files {
        let inside = file.is_relative()
            && file.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(Error::input(format!("cannot release {}", file.display())).fix(
                "name it from the root of the repository, without `.` and `..`: --with action.yml",
            ));
        }
        let text = tree.read(file).map_err(|denied| denied.into_error("read", file))?;
        read.push(BesideFile { path: file.display().to_string(), text });
    }
    Ok(read)
}

/// Reads what people download.
fn read_assets(files: &[PathBuf]) -> Result<Vec<Asset>> {
    let mut assets: Vec<Asset> = Vec::new();
    for file in files {
        let bytes = std::fs::read(file).cannot(|| format!("read {}", file.display()))?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        if bytes.is_empty() || assets.iter().any(|asset| asset.name == name) {
            let why = if bytes.is_empty() { "it is empty" } else { "another one has its name" };
            return Err(Error::input(format!("cannot release {}", file.display())).why(why));
        }
        assets.push(Asset { name, bytes: bytes.into() });
    }
    Ok(assets)
}

/// Turns a version into a decision: one change for each header of its commits.
pub fn decide_release(version: version::Version) -> release::Decision {
    let mut changes = Vec::new();
    for change in version.changes.into_iter().filter(|change| !change.taken_back) {
        for header in change.headers {
            changes.push(release::notes::Change {
                sha: change.sha.clone(),
                author: change.author.clone(),
                email: change.email.clone(),
                pull_request: change.pull_request,
                kind: Some(header.kind),
                scope: header.scope,
                breaking: header.breaking,
                description: header.description,
                breaking_change: header.breaking_change,
            });
        }
    }
    release::Decision {
        tag: version.tag,
        previous_tag: version.previous_tag,
        release: version.release,
        changes,
        notices: version.notices,
        overtaken_by: version.overtaken_by,
    }
}

pub fn read_notes(file: &Path) -> Result<String> {
    let notes = read_text(file)?;
    match notes.chars().count() {
        length if length > release::notes::LIMIT => {
            let (file, most) = (file.display(), release::notes::LIMIT);
            Err(Error::input(format!("cannot publish {file}: it has {length} characters"))
                .fix(format!("shorten it to {most}, which is all GitHub takes: link to the rest")))
        }
        _ => Ok(notes),
    }
}

pub fn read_text(file: &Path) -> Result<String> {
    inside::read_named(file).map_err(|denied| denied.into_error("read", file))
}
