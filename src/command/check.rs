//! `check`: everything that can be read without a network, in one report.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::Context;
use super::deploy::{WantedImage, find_image, open_ledger, open_site, resolve_environment};
use super::render::render_settings;
use super::version::list_environments;
use crate::check::rules::{ContextFiles, DockerfileFacts, lint_dockerfile};
use crate::check::service::{Neighbour, lint_neighbours, lint_service};
use crate::check::workflow::{WorkflowFacts, lint_workflow};
use crate::check::{Finding, Level, dockerfile::Dockerfile, frontend};
use crate::cli::{CheckArgs, RenderArgs};
use crate::config::read_service;
use crate::config::service::Service;
use crate::config::settings::LOCAL;
use crate::deploy::{Image, site};
use crate::digest::Digest;
use crate::error::{Cause, Code, Error, Kind, Place, Refusals, Result};
use crate::git;
use crate::ledger::Freeze;
use crate::report::Markdown;

/// Reads service.yaml, platform.yaml, the Dockerfile and the workflows that call the pipeline; with
/// an environment, also looks whether a deploy to it would be refused.
///
/// # Errors
/// Bad input when one of them cannot work, with a cause for each finding that says so; else as the
/// environment refuses.
pub async fn check_repository(context: &Context, arguments: &CheckArgs) -> Result<()> {
    let service = context.service()?;
    let platform = context.platform().await?;
    let step = context.report.step("check");
    let environments = list_environments(&service, false)?;
    // What a target cannot be told is refused here, not after a build.
    let nothing = RenderArgs { iam: None, digest: None, version: None };
    for name in environments.iter().filter(|_| platform.is_some()) {
        render_settings(context, &service, platform.as_ref(), name, &nothing)?;
    }
    render_settings(context, &service, None, LOCAL, &nothing)?;
    // Where a pull request has one of its own there is nothing to plan.
    let is_preview = |name: &String| {
        let mut all = platform.iter().flat_map(|platform| &platform.environments);
        all.any(|(known, found)| known.as_str() == name && found.preview.is_some())
    };
    let planned: Vec<&String> = environments.iter().filter(|name| !is_preview(name)).collect();
    context.give(&json!({ "environments": planned, "has-tests": service.test.is_some() }));

    let mut found = check_service(context, &service)?;
    found.extend(check_dockerfile(context, &service, &arguments.allow_frontend)?);
    found.extend(check_build_arguments(context, &service, &arguments.allow_frontend)?);
    found.extend(check_workflows(context)?);
    let refusals = match &context.shared.environment {
        Some(environment) if environment != LOCAL => {
            find_refusals(context, environment, arguments).await
        }
        _ => Vec::new(),
    };
    report_findings(context, &found, &refusals)?;
    let rest = match found.len() {
        0 => String::new(),
        1 => ", 1 warning".to_string(),
        warnings => format!(", {warnings} warnings"),
    };
    let named = match environments.is_empty() {
        true => "no environments".to_string(),
        false => format!("environments {}", environments.join(", ")),
    };
    step.done(format!("{}: {named}{rest}", service.name));
    Ok(())
}

/// What a deploy to an environment would be refused for. Nothing is written, and no lock is taken.
async fn find_refusals(context: &Context, environment: &str, arguments: &CheckArgs) -> Vec<Error> {
    let mut refusals = Refusals::default();
    refusals.keep(look_at_ledger(context, environment).await);
    refusals.keep(look_at_target(context, environment, arguments).await);
    let refused = refusals.conclude(Some(())).err();
    refused.iter().flat_map(Error::each).cloned().collect()
}

/// Whether the ledger can be read; says so when somebody froze the environment.
async fn look_at_ledger(context: &Context, environment: &str) -> Result<()> {
    let (_, ledger) = open_ledger(context, environment).await?;
    ledger.read_head().await?;
    if let Some(freeze) = ledger.read_freeze().await? {
        let Freeze { who, until, reason, .. } = freeze;
        context.report.warn(format!("{environment} is frozen by {who} until {until}: {reason}"));
    }
    Ok(())
}

async fn look_at_target(context: &Context, environment: &str, arguments: &CheckArgs) -> Result<()> {
    let (settings, destination) = resolve_environment(context, environment).await?;
    let mut refusals = Refusals::default();
    let mut image = Image {
        repository: site::image_repository(&settings, &destination),
        digest: Digest::placeholder(),
        version: "0.0.0".into(),
    };
    if arguments.digest.is_some() || arguments.version.is_some() {
        let wanted = WantedImage {
            digest: arguments.digest.as_ref(),
            version: arguments.version.as_deref(),
            layout: Path::new(""),
        };
        let found = find_image(context, &settings, &destination, &wanted).await;
        image = refusals.keep(found).unwrap_or(image);
    }
    let looked = async { open_site(context, environment, None).await?.check_ahead(image).await };
    let looked = refusals.keep(looked.await);
    refusals.conclude(looked)
}

type FoundAt = (PathBuf, Finding);

fn check_service(context: &Context, service: &Service) -> Result<Vec<FoundAt>> {
    let file = &context.shared.service;
    let text = context.tree().read(file).map_err(|denied| denied.into_error("read", file))?;
    let mut findings = lint_service(service, &text);
    if let Some((own, neighbours)) = read_neighbours(context) {
        findings.extend(lint_neighbours(service, &text, &own, &neighbours));
    }
    Ok(findings.into_iter().map(|finding| (tidy_path(file), finding)).collect())
}

/// The other services of the repository, and this one's file from its root. One that cannot be read
/// is left to its own check.
fn read_neighbours(context: &Context) -> Option<(PathBuf, Vec<Neighbour>)> {
    let repository = git::open(&context.folder()).ok()?;
    let root = git::head(&repository).ok()?.root.canonicalize().ok()?;
    let file = context.shared.service.canonicalize().ok()?;
    let own = file.strip_prefix(&root).ok()?.to_path_buf();
    let tree = context.tree();
    let is_named = |path: &Path| path.file_name().is_some_and(|name| name == "service.yaml");
    let others = git::list_tracked(&repository, is_named).into_iter();
    let neighbours: Vec<Neighbour> = others
        .filter(|other| *other != own)
        .filter_map(|file| {
            let service = read_service(&root.join(&file), &tree).ok()?;
            Some(Neighbour { file, service })
        })
        .collect();
    Some((own, neighbours))
}

fn check_dockerfile(
    context: &Context,
    service: &Service,
    allowed: &[String],
) -> Result<Vec<FoundAt>> {
    let folder = context.folder().join(&service.image.context);
    let file = tidy_path(&folder.join(&service.image.dockerfile));
    let tree = context.tree();
    let text = tree.read(&file).map_err(|denied| match denied.is_missing() {
        true => Error::input(format!("cannot find {}", file.display())).why(denied).fix(
            "`cicd init` writes one; or say where it is: \
             `image: {context: ., dockerfile: Dockerfile}` in service.yaml",
        ),
        false => denied.into_error("read", &file),
    })?;
    let beside = |name: &Path| tree.read(name).ok();
    let own = PathBuf::from(format!("{}.dockerignore", file.display()));
    let ignore = beside(&own).or_else(|| beside(&folder.join(".dockerignore")));
    let facts = DockerfileFacts {
        dockerfile: &Dockerfile::parse(&text),
        target: service.image.target.as_deref(),
        arguments: service
            .image
            .build_args
            .iter()
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect(),
        port: service.port.get(),
        ignore: ignore.as_deref(),
        context: list_context(&folder),
    };
    let mut findings = frontend::lint_frontend(&text, allowed);
    findings.extend(lint_dockerfile(&facts));
    Ok(findings.into_iter().map(|finding| (file.clone(), finding)).collect())
}

fn check_build_arguments(
    context: &Context,
    service: &Service,
    allowed: &[String],
) -> Result<Vec<FoundAt>> {
    let file = &context.shared.service;
    let text = context.tree().read(file).map_err(|denied| denied.into_error("read", file))?;
    let arguments = &service.image.build_args;
    let value = arguments.iter().find(|(name, _)| name.as_str() == frontend::ARGUMENT);
    let findings = frontend::lint_argument(value.map(|(_, value)| value.as_str()), &text, allowed);
    Ok(findings.into_iter().map(|finding| (tidy_path(file), finding)).collect())
}

/// A context of more files is not looked through.
const MOST_FILES: usize = 20_000;

/// The paths of a build context; `None` if there are too many. What is in .git and node_modules
/// is nobody's source.
fn list_context(folder: &Path) -> Option<ContextFiles> {
    let mut files = ContextFiles {
        git_ignore: crate::inside::read_named(&folder.join(".gitignore")).ok(),
        ..ContextFiles::default()
    };
    let mut open = vec![(folder.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            // A link is one file of the context, wherever it leads.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && ![".git", "node_modules"].contains(&name.as_str()) {
                open.push((entry.path(), format!("{path}/")));
            }
            files.paths.insert(path);
        }
        if files.paths.len() > MOST_FILES {
            return None;
        }
    }
    Some(files)
}

fn check_workflows(context: &Context) -> Result<Vec<FoundAt>> {
    let mut found = Vec::new();
    let Some(root) = find_root(&context.folder()) else { return Ok(found) };
    let Ok(entries) = std::fs::read_dir(root.join(".github/workflows")) else { return Ok(found) };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "yml" || end == "yaml"));
    files.sort();
    let branch = git::default_branch(&context.folder());
    for file in files {
        let Ok(text) = context.tree().read(&file) else { continue };
        let file = tidy_path(&file);
        let exists = |name: &str| root.join(name).is_file();
        let facts = WorkflowFacts { exists: &exists, branch: branch.as_deref() };
        let findings = lint_workflow(&text, &file, &facts)?;
        found.extend(findings.into_iter().map(|finding| (file.clone(), finding)));
    }
    Ok(found)
}

/// A path as people write it, and as GitHub finds it for an annotation: without its `.` parts.
pub fn tidy_path(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != std::path::Component::CurDir).collect()
}

/// The root of the git repository that a folder is in, written from that folder: `.`, `..`,
/// `../..`.
pub fn find_root(folder: &Path) -> Option<PathBuf> {
    let depth =
        folder.canonicalize().ok()?.ancestors().position(|above| above.join(".git").exists())?;
    let above: PathBuf = std::iter::repeat_n("..", depth).collect();
    Some(folder.join(above))
}

/// Reports every finding at its place; those that cannot work together are the error. So are the
/// refusals of an environment, each with what it says itself.
fn report_findings(context: &Context, found: &[FoundAt], refusals: &[Error]) -> Result<()> {
    let report = &context.report;
    let mut listed = Vec::new();
    let mut causes = Vec::new();
    for (file, finding) in found {
        let Finding { rule, level, line, message, fix } = finding;
        let place = Place { file: file.clone(), line: *line, column: 1 };
        let at = format!("{}:{line}", file.display());
        // Those that must be corrected are in the table of the verdict.
        if *level == Level::Warn {
            let headline = Markdown::default().own("- ").code(&at).own(" **").own(rule);
            report.summarise(headline.own("**: ").text(message));
        }
        let mut entry = serde_json::to_value(finding).unwrap_or_default();
        entry["file"] = json!(file);
        listed.push(entry);
        match level {
            Level::Warn => report.warn_at(format!("{message} ({rule}); {fix}"), &place),
            Level::Fail => {
                report.error(&Error::input(format!("{message} ({rule})")).at(place).fix(fix));
                let cause = Cause {
                    object: at,
                    reason: format!("{rule}: {message}"),
                    fix: Some(fix.clone()),
                    ..Cause::default()
                };
                causes.push(cause);
            }
        }
    }
    for refusal in refusals {
        report.error(refusal);
        listed.push(json!({
            "rule": refusal.code.map_or_else(|| refusal.kind.name().to_string(), Code::word),
            "level": Level::Fail,
            "environment": context.shared.environment,
            "message": refusal.to_string(),
            "fix": refusal.advice(),
        }));
        causes.push(refusal.as_cause());
    }
    context.give(&json!({ "findings": listed }));
    let broken = found.iter().filter(|(_, finding)| finding.level == Level::Fail).count();
    match causes.len() {
        0 => Ok(()),
        all if broken == 0 => Err(refuse_environment(context, all, refusals).causes(causes)),
        count => Err(Error::input(format!(
            "cannot build or run this service: {count} of {} findings must be corrected first",
            found.len() + refusals.len()
        ))
        .causes(causes)
        .fix(
            "correct each as it is said above; a rule that does not fit is ignored by `# cicd: \
             ignore=RULE` on the line before",
        )),
    }
}

/// The verdict on an environment: of the kind that the first refusal is.
fn refuse_environment(context: &Context, count: usize, refusals: &[Error]) -> Error {
    let environment = context.shared.environment.as_deref().unwrap_or_default();
    let things = if count == 1 { "1 thing is".into() } else { format!("{count} things are") };
    let kind = refusals.first().map_or(Kind::Refused, |first| first.kind);
    Error::new(kind, format!("cannot deploy to {environment}: {things} in the way"))
        .fix("mend each as it is said above, then check again")
}
