//! `cicd`: from a commit to a service that answers. Snapshots the environment once, parses, runs,
//! ends with an exit code.

mod aws;
mod check;
mod cli;
mod command;
mod config;
mod deploy;
mod digest;
mod docker;
mod dockerignore;
mod error;
mod fleet;
#[cfg(test)]
mod fuzz;
mod generate;
mod git;
mod github;
mod http;
mod image;
mod inside;
mod interrupt;
mod layout;
mod ledger;
mod owner;
mod redact;
mod registry;
mod release;
mod report;
mod retry;
mod spawn;
mod untrusted;
mod version;
mod xml;

use std::ffi::OsString;
use std::process::ExitCode;

use cli::{Cli, Environ, Parsed};
use error::{Error, Kind, Result};
use interrupt::{GRACE, Interrupt, Signal};
use report::{Format, Outputs, Report, Verbosity};

/// The version of this program: that of its release; what is built elsewhere is 0.x.
pub const VERSION: &str = match option_env!("CICD_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

fn main() -> ExitCode {
    let environ = environment();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match cli::parse(arguments.clone(), &environ) {
        Ok(Parsed::Text(text)) => {
            let report = Report::new(Format::Human, Verbosity::Normal);
            report.print(&text, &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Ok(Parsed::Command(cli)) => run(&cli, environ),
        Err(error) => {
            // What could not be parsed may still have said how it wants to be told.
            let report = Report::new(
                cli::format_asked_for(&arguments, &environ).unwrap_or(default_format(&environ)),
                Verbosity::Normal,
            );
            report.result(&failure(&error), &mut std::io::stdout());
            report.last_error(&error);
            ExitCode::from(error.kind.exit_code())
        }
    }
}

fn default_format(environ: &Environ) -> Format {
    if environ.on_github() { Format::Github } else { Format::Human }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment() -> Environ {
    let text = |value: OsString| value.to_string_lossy().into_owned();
    Environ::new(std::env::vars_os().map(|(name, value)| (text(name), text(value))))
}

fn run(cli: &Cli, environ: Environ) -> ExitCode {
    let format = cli.shared.output.unwrap_or(default_format(&environ));
    let verbosity = match (cli.shared.quiet, cli.shared.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let report = Report::new(format, verbosity);
    let context = command::Context {
        shared: cli.shared.clone(),
        environ,
        report: report.clone(),
        outputs: Default::default(),
        interrupt: Interrupt::default(),
        reads_only: cli.shared.plan
            || matches!(cli.command, cli::Command::Check(_) | cli::Command::BuildImage(_)),
    };
    let result =
        run_interruptible(command::run_command(&cli.command, &context), &context.interrupt);
    if let Err(error) = &result {
        // What a signal stopped could not say so itself.
        if !report.has_verdict() {
            command::summary::write_verdict(&context, &cli.command, Some(error));
        }
        context.outputs.borrow_mut().append(&mut failure(error));
    }
    let outputs = report.masked(context.outputs.take());
    let handed = github::runner::hand_over(&context.environ, &outputs, &report.summary());
    report.result(&outputs, &mut std::io::stdout());
    match result.and(handed) {
        Ok(()) => {
            report.conclude();
            ExitCode::SUCCESS
        }
        Err(error) => {
            report.last_error(&error);
            ExitCode::from(error.kind.exit_code())
        }
    }
}

/// Runs a command until it ends or a signal comes. GitHub's runner sends SIGINT, 7.5 s later
/// SIGTERM, 2.5 s later KILL. Dropping a command stops its writes at once; one that holds a lock is
/// given a moment to record where it stopped.
fn run_interruptible(
    command: impl Future<Output = Result<()>>,
    interrupt: &Interrupt,
) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::unexpected("cannot start").why(error))?;
    let result = runtime.block_on(async {
        let listen = |kind| {
            signal(kind).map_err(|error| Error::unexpected("cannot listen for signals").why(error))
        };
        let mut interrupts = listen(SignalKind::interrupt())?;
        let mut terminations = listen(SignalKind::terminate())?;
        let mut command = std::pin::pin!(command);
        let signal = tokio::select! {
            result = &mut command => return result,
            _ = interrupts.recv() => Signal::Interrupt,
            _ = terminations.recv() => Signal::Terminate,
        };
        let ended = match interrupt.send(signal) {
            true => tokio::time::timeout(GRACE, command).await.ok(),
            false => None,
        };
        ended.unwrap_or_else(|| Err(signal.error()))
    });
    runtime.shutdown_background();
    result
}

/// What machines get of what was refused beside the first.
fn describe_refusal(error: &Error) -> serde_json::Value {
    serde_json::json!({
        "kind": error.kind.name(), "message": error.to_string(), "code": error.code,
        "fix": error.advice(),
    })
}

/// What machines get of a failure.
fn failure(error: &Error) -> Outputs {
    let mut details = serde_json::json!({
        "kind": error.kind.name(),
        "message": error.to_string(),
        "causes": error.causes,
    });
    if let Some(details) = details.as_object_mut() {
        if let Some(code) = error.code {
            details.insert("code".into(), serde_json::json!(code));
        }
        if !error.fixes.is_empty() {
            details.insert("fix".into(), error.advice().into());
        }
        if !error.beside.is_empty() {
            let beside: Vec<_> = error.beside.iter().map(describe_refusal).collect();
            details.insert("beside".into(), beside.into());
        }
    }
    let status = match error.kind {
        Kind::RolledBack => "rolled-back",
        Kind::Superseded => "superseded",
        Kind::Interrupted | Kind::Terminated => "interrupted",
        _ => "failed",
    };
    report::outputs(&serde_json::json!({ "status": status, "error": details }))
}
