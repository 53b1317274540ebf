//! What the migration gate is on each target that has one: `before-deploy` with the new image, run to
//! its end before anything else changes.

use std::time::Duration;

use super::target::Permit;
use crate::error::{Cause, Code, Error, Kind, Result};

/// What is left of the deploy's time for taking a migration away that does not end.
const LAST: Duration = Duration::from_secs(5);
/// What runs and who is served is as before.
const UNCHANGED: &str = "what ran before still runs";

/// Runs a migration as long as the deploy has time for it. `name` is what it is to the platform.
///
/// # Errors
/// As `running`; timed out when it does not end.
pub async fn run_in_time(
    permit: Permit<'_>,
    name: &str,
    running: impl Future<Output = Result<()>>,
) -> Result<()> {
    let end = permit.deadline().checked_sub(LAST).unwrap_or(permit.deadline());
    tokio::time::timeout_at(end.into(), running).await.unwrap_or_else(|_| {
        let headline = format!("cannot wait for `before-deploy` any longer; {UNCHANGED}");
        Err(Error::new(Kind::TimedOut, headline)
            .code(Code::DeadlineExceeded)
            .why(format!("{name} has not ended"))
            .fix("give it longer with --timeout"))
    })
}

/// The gate's no.
pub fn describe_failure(causes: Vec<Cause>) -> Error {
    Error::new(Kind::Gate, format!("cannot go past `before-deploy`: it failed; {UNCHANGED}"))
        .code(Code::MigrationFailed)
        .causes(causes)
        .fix("correct before-deploy.command of service.yaml, or what it runs")
}
