//! `version --services`: the services of a repository that a run's commits touch, each with its
//! next version.

use std::path::Path;

use serde::Serialize;
use serde_json::json;

use super::Context;
use super::check::{find_root, tidy_path};
use super::version::next_version;
use crate::check::service::{Neighbour, lint_neighbours};
use crate::config::read_service;
use crate::dockerignore::matches_glob;
use crate::error::{Error, Place, Result};
use crate::report::Markdown;
use crate::version::{ServicePaths, find_changed};
use crate::{git, github};

/// A service as the jobs of a workflow get it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ListedService {
    name: String,
    /// Its file, from the repository's root: the input `service` of its jobs.
    file: String,
    version: String,
    tag: String,
    docker_tag: String,
    release: bool,
}

/// Lists the services whose files `pattern` names and which the run's commits touch.
///
/// # Errors
/// Bad input when there is none at all, when two have one name, or when they share their tags.
pub async fn list_services(context: &Context, pattern: &str) -> Result<()> {
    let step = context.report.step("version");
    let repository = git::open(&context.folder())?;
    let root = find_root(&context.folder()).unwrap_or_default();
    let services = read_services(context, &repository, &root, pattern)?;
    refuse_shared(context, &root, &services)?;
    let paths = |service: &Neighbour| ServicePaths {
        file: root.join(&service.file),
        paths: service.service.version.paths.clone(),
    };
    let paths: Vec<ServicePaths> = services.iter().map(paths).collect();
    let base = github::runner::base_commit(&context.environ);
    let of_pull_request = github::runner::pull_request(&context.environ).is_some();
    let changed = find_changed(&repository, base.as_deref(), of_pull_request, &paths)?;
    let mut listed = Vec::new();
    for (Neighbour { file, service }, _) in services.iter().zip(changed).filter(|(_, yes)| *yes) {
        let folder = root.join(file.parent().unwrap_or(Path::new("")));
        let found = next_version(context, service, &folder).await?;
        context.report.detail(format!("{}: {}", file.display(), found.in_words()));
        listed.push(ListedService {
            name: service.name.to_string(),
            file: file.display().to_string(),
            version: found.version,
            tag: found.tag,
            docker_tag: found.docker_tag,
            release: found.release,
        });
    }
    let count = format!("{} of {} services", listed.len(), services.len());
    step.done(&count);
    context.report.summarise(Markdown::default().own("**Changed** ").text(&count));
    for ListedService { name, version, file, .. } in &listed {
        let line = Markdown::default().own("- ").code(name).own(" ").code(version).own(" ");
        context.report.summarise(line.text(file));
        context.report.print(file, &mut std::io::stdout());
    }
    context.give(&json!({ "services": listed }));
    Ok(())
}

/// Reads the services whose files the pattern names, by their files.
fn read_services(
    context: &Context,
    repository: &gix::Repository,
    root: &Path,
    pattern: &str,
) -> Result<Vec<Neighbour>> {
    let mut files =
        git::list_tracked(repository, |path| matches_glob(pattern, &path.to_string_lossy()));
    files.sort();
    if files.is_empty() {
        return Err(Error::input(format!("cannot find a service: no file is named {pattern}"))
            .why("files count that git has, by their paths from the repository's root")
            .fix("write a pattern of their paths: services/*/service.yaml"));
    }
    let tree = context.tree();
    let read = |file: std::path::PathBuf| {
        let service = read_service(&tidy_path(&root.join(&file)), &tree)?;
        Ok(Neighbour { file, service })
    };
    files.into_iter().map(read).collect()
}

/// Refuses services that would take each other's image or version.
fn refuse_shared(context: &Context, root: &Path, services: &[Neighbour]) -> Result<()> {
    for (at, Neighbour { file, service }) in services.iter().enumerate() {
        let (earlier, others) = (&services[..at], &services[at + 1..]);
        let path = tidy_path(&root.join(file));
        if let Some(twin) = earlier.iter().find(|other| other.service.name == service.name) {
            return Err(Error::input(format!(
                "cannot tell {} from {}: both are named {}",
                file.display(),
                twin.file.display(),
                service.name
            ))
            .at(Place { file: path, line: 1, column: 1 })
            .fix("give each service a name of its own: it names its images and what runs"));
        }
        let text = context.tree().read(&path).map_err(|denied| denied.into_error("read", &path))?;
        if let Some(finding) = lint_neighbours(service, &text, file, others).into_iter().next() {
            let place = Place { file: path, line: finding.line, column: 1 };
            return Err(Error::input(format!("cannot version {} alone", service.name))
                .why(finding.message)
                .at(place)
                .fix(finding.fix));
        }
    }
    Ok(())
}
