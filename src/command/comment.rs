//! The step's summary as a section of the pull request's comment.

use super::Context;
use crate::cli::Command;
use crate::github::comments::Commented;
use crate::github::repository::Repository;
use crate::github::runner;

/// Says the summary so far in the comment of the pull request that this run is for, if it is for
/// one. Nothing fails by it: the job summary says the same.
pub async fn comment_summary(context: &Context, command: &Command) {
    let environ = &context.environ;
    let summary = context.report.summary();
    let Some(number) = runner::pull_request(environ).filter(|_| !summary.trim().is_empty()) else {
        return;
    };
    if runner::from_fork(environ) {
        context.report.detail("no comment: the token of a fork's pull request only reads");
        return;
    }
    // What was deployed is gone: the same section says so.
    let step = if matches!(command, Command::Remove(_)) { "deploy" } else { command.name() };
    let name = match &context.shared.environment {
        Some(environment) => format!("{step} {environment}"),
        None => step.to_string(),
    };
    let of = context.shared.service.display().to_string();
    // A section that a later run did not come to is told from the others by it.
    let commit = runner::head_commit(environ);
    let summary = match commit.filter(|commit| commit.bytes().all(|b| b.is_ascii_hexdigit())) {
        Some(commit) => format!("{}\n\n<sub>{commit}</sub>", summary.trim_end()),
        None => summary,
    };
    let said = match Repository::open(None, None, environ, &context.report) {
        Ok(repository) => repository.comment(number, &of, &name, &summary).await,
        Err(error) => Err(error),
    };
    match said {
        Ok(Commented::Written | Commented::Unchanged) => {}
        Ok(Commented::Denied) => context.report.detail(
            "no comment on the pull request: the job needs `permissions: {pull-requests: write}`",
        ),
        Err(error) => context.report.warn(format!("no comment on the pull request: {error}")),
    }
}
