//! `init`: from a bare repository to one that the pipeline takes.

use std::time::Duration;

use serde_json::json;

use super::Context;
use crate::cli::InitArgs;
use crate::docker::Engine;
use crate::error::Result;
use crate::git;
use crate::image::scaffold;

/// A registry that does not answer in this time leaves the base image unpinned, which is said.
const PIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes what is missing, or shows it with `--plan`.
///
/// # Errors
/// Bad input when nothing says how the service is built.
pub async fn init_repository(context: &Context, arguments: &InitArgs) -> Result<()> {
    let step = context.report.step("init");
    let branch = git::default_branch(&context.folder()).or_else(|| current_branch(context));
    let repository = scaffold::Repository::read(&context.folder(), context.tree(), branch)?;
    let base = arguments.base.as_ref().map(ToString::to_string);
    let mut base = base.or(repository.base()).unwrap_or_default();
    // Asked only when the Dockerfile is written: an unpinned one that stands there is not to be
    // called different for it.
    let writes_dockerfile = |plan: &scaffold::InitPlan| {
        plan.writes.iter().any(|(path, _)| path.ends_with("Dockerfile"))
    };
    let mut plan = repository.plan(&base, arguments.force)?;
    if writes_dockerfile(&plan) && !base.contains('@') {
        match pin_image(context, &base).await {
            Some(pinned) => base = pinned,
            None => plan.notes.push(format!(
                "{base} is not pinned, as no registry said its digest here: FROM {base}@sha256:…"
            )),
        }
        let notes = std::mem::take(&mut plan.notes);
        plan = scaffold::InitPlan { notes, ..repository.plan(&base, arguments.force)? };
    }
    for fact in &plan.facts {
        context.report.detail(fact);
    }
    for note in &plan.notes {
        context.report.warn(note);
    }
    for path in &plan.kept {
        context.report.detail(format!(
            "{} is there already, and stays; --force writes over it",
            path.display()
        ));
    }
    let changed: Vec<String> =
        plan.writes.iter().map(|(path, _)| path.display().to_string()).collect();
    let status = match (changed.is_empty(), context.shared.plan) {
        (true, _) => "unchanged",
        (false, true) => "planned",
        (false, false) => "written",
    };
    if context.shared.plan {
        context.report.print(&plan.diff, &mut std::io::stdout());
        context.give(&json!({ "rendered": plan.diff }));
    } else {
        scaffold::write_plan(&plan)?;
    }
    context.give(&json!({ "status": status, "changed": changed }));
    step.done(if changed.is_empty() {
        "nothing to do".to_string()
    } else {
        format!("{status}: {}", changed.join(", "))
    });
    Ok(())
}

/// The branch that is checked out: the best that is known of a repository without a remote.
fn current_branch(context: &Context) -> Option<String> {
    let repository = git::open(&context.folder()).ok()?;
    let name = repository.head_name().ok()??;
    Some(name.shorten().to_string())
}

/// An image with the digest that its registry says, asked through the engine.
async fn pin_image(context: &Context, image: &str) -> Option<String> {
    let asked = async {
        let engine = Engine::connect(context.environ.get("DOCKER_HOST")).await.ok()?;
        engine.digest(image).await
    };
    let digest = tokio::time::timeout(PIN_TIMEOUT, asked).await.ok().flatten()?;
    Some(format!("{image}@{digest}"))
}
