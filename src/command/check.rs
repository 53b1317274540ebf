//! `check`: everything that can be read without a network, in one report.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::Context;
use super::render::render_settings;
use super::version::automatic_environments;
use crate::check::{Finding, Level, dockerfile::Dockerfile, rules, workflow};
use crate::cli::RenderArgs;
use crate::config::service::Service;
use crate::config::settings::LOCAL;
use crate::error::{Cause, Error, Place, Result};

/// Reads service.yaml, platform.yaml, the Dockerfile and the workflows that call the pipeline.
///
/// # Errors
/// Bad input when one of them cannot work, with a cause for each finding that says so.
pub async fn check_repository(context: &Context) -> Result<()> {
    let service = context.service()?;
    let platform = context.platform().await?;
    let step = context.report.step("check");
    let environments = automatic_environments(&service, false)?;
    // What a target cannot be told is refused here, not after a build.
    let nothing = RenderArgs { digest: None, version: None };
    for name in environments.iter().filter(|_| platform.is_some()) {
        render_settings(context, &service, platform.as_ref(), name, &nothing)?;
    }
    render_settings(context, &service, None, LOCAL, &nothing)?;
    context.give(&json!({ "environments": environments }));

    let mut found = of_dockerfile(context, &service)?;
    found.extend(of_workflows(context)?);
    tell(context, &found)?;
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

type Found = (PathBuf, Finding);

fn of_dockerfile(context: &Context, service: &Service) -> Result<Vec<Found>> {
    let folder = context.folder().join(&service.image.context);
    let file = tidy(&folder.join(&service.image.dockerfile));
    let text = std::fs::read_to_string(&file).map_err(|error| {
        Error::input(format!("there is no {}", file.display())).why(error).fix(
            "`cicd init` writes one; or say where it is: `image: {context: ., dockerfile: Dockerfile}` in service.yaml",
        )
    })?;
    let beside = |name: &Path| std::fs::read_to_string(name).ok();
    let own = PathBuf::from(format!("{}.dockerignore", file.display()));
    let ignore = beside(&own).or_else(|| beside(&folder.join(".dockerignore")));
    let facts = rules::Facts {
        dockerfile: &Dockerfile::parse(&text),
        target: service.image.target.as_deref(),
        port: service.port.get(),
        ignore: ignore.as_deref(),
    };
    Ok(rules::lint(&facts).into_iter().map(|finding| (file.clone(), finding)).collect())
}

fn of_workflows(context: &Context) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let Some(root) = repository(&context.folder()) else { return Ok(found) };
    let Ok(entries) = std::fs::read_dir(root.join(".github/workflows")) else { return Ok(found) };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "yml" || end == "yaml"));
    files.sort();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let file = tidy(&file);
        let findings = workflow::lint(&text, &file, |name| root.join(name).is_file())?;
        found.extend(findings.into_iter().map(|finding| (file.clone(), finding)));
    }
    Ok(found)
}

/// A path as people write it, and as GitHub finds it for an annotation: without its `.` parts.
fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != std::path::Component::CurDir).collect()
}

/// The root of the git repository that a folder is in, written from that folder: `.`, `..`,
/// `../..`.
fn repository(folder: &Path) -> Option<PathBuf> {
    let depth =
        folder.canonicalize().ok()?.ancestors().position(|above| above.join(".git").exists())?;
    let above: PathBuf = std::iter::repeat_n("..", depth).collect();
    Some(folder.join(above))
}

/// Says every finding at its place; those that cannot work together are the error.
fn tell(context: &Context, found: &[Found]) -> Result<()> {
    let report = &context.report;
    let mut listed = Vec::new();
    let mut causes = Vec::new();
    for (file, finding) in found {
        let Finding { rule, level, line, message, fix } = finding;
        let place = Place { file: file.clone(), line: *line, column: 1 };
        let at = format!("{}:{line}", file.display());
        report.summarise(format!(
            "- {} `{at}` **{rule}**: {message}",
            if *level == Level::Fail { "✗" } else { "!" }
        ));
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
    context.give(&json!({ "findings": listed }));
    match causes.len() {
        0 => Ok(()),
        count => Err(Error::input(format!("{count} of {} findings must be corrected first", found.len()))
            .causes(causes)
            .fix("each is said above with its fix; a rule that does not fit is ignored by `# cicd: ignore=RULE` on the line before")),
    }
}
