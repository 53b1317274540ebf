//! The verdict of a command, at the head of the job summary.

use std::path::Path;

use super::Context;
use crate::cli::{Command, Environ};
use crate::digest::Digest;
use crate::error::Error;
use crate::github::runner;
use crate::report::summary::{Links, StepEnd};

/// Where the workflow that deploys by hand is in a service's repository: see workflows/deploy.yml.
const BY_HAND: &str = ".github/workflows/deploy.yml";

/// Says how a command ended, for whoever opens the job summary first.
pub fn write_verdict(context: &Context, command: &Command, error: Option<&Error>) {
    let service = context.service().ok().map(|service| service.name.to_string());
    let outputs = context.report.masked(context.outputs.borrow().clone());
    let end = StepEnd {
        step: command.name(),
        service: service.as_deref(),
        wanted: wanted_by(command),
        environment: destination_of(context, command),
        outputs: &outputs,
        course: &context.report.course(),
        error,
        links: &find_links(&context.environ),
    };
    if let Some(verdict) = end.render() {
        context.report.summarise_verdict(&verdict);
    }
}

/// The environment that a command brings something to.
pub fn destination_of<'a>(context: &'a Context, command: &'a Command) -> Option<&'a str> {
    match command {
        Command::Deploy(_) | Command::Rollback(_) | Command::Run(_) => {
            context.shared.environment.as_deref()
        }
        Command::Promote(arguments) => Some(&arguments.to),
        _ => None,
    }
}

/// What a command was asked to bring there, in the words of who asked.
fn wanted_by(command: &Command) -> Option<&str> {
    match command {
        Command::Deploy(arguments) => {
            arguments.version.as_deref().or(arguments.digest.as_ref().map(Digest::as_str))
        }
        Command::Rollback(arguments) if arguments.to != "previous" => Some(&arguments.to),
        _ => None,
    }
}

fn find_links(environ: &Environ) -> Links {
    let has_file = |root: &str| Path::new(root).join(BY_HAND).is_file();
    let by_hand = environ.get("GITHUB_WORKSPACE").filter(|root| has_file(root));
    let repository = runner::repository_url(environ).filter(|_| by_hand.is_some());
    Links {
        run: runner::run_url(environ),
        by_hand: repository.map(|url| format!("{url}/actions/workflows/deploy.yml")),
    }
}
