//! The smoke check: a request to the service, once it is healthy, on the way in as on the way back.

use std::time::{Duration, Instant};

use super::{Eks, EksDocuments};
use crate::deploy::target::State;
use crate::error::{Code, Error, Kind, Result};
use crate::retry::{self, Attempt, RetryPolicy};

/// Requests to a service that is healthy, until one is answered with 2xx.
const SMOKE_CHECKS: RetryPolicy = RetryPolicy {
    attempts: 10,
    first_pause: Duration::from_secs(1),
    longest_pause: Duration::from_secs(1),
    jitter: 0.0,
};
/// All of them together.
const SMOKE_TIME: Duration = Duration::from_secs(30);

impl Eks {
    /// Asks the service of `state` through the API server until it answers 2xx. Returns whether it
    /// could be asked: who may not, or does not reach its pods, believes their probes, which ask the
    /// same path.
    ///
    /// # Errors
    /// [`Kind::Broken`] with the last answer, when it answers otherwise.
    pub(super) async fn check_smoke(&self, state: &State<EksDocuments>) -> Result<bool> {
        let (name, path) = (&state.service, &state.health.path);
        let silent = |said: String| {
            let headline =
                format!("cannot reach {name} on {path} through its Service, though it is ready");
            Error::new(Kind::Broken, headline).code(Code::SmokeCheckFailed).why(said).fix(
                "see that `port` and `health.path` in service.yaml are those of the container, and \
                 that its Service selects its pods",
            )
        };
        let mut shut_out = None;
        let deadline = Some(now() + SMOKE_TIME);
        let asked = retry::run(&SMOKE_CHECKS, deadline, &self.report, async |_| {
            let answer = self.api.ask_service(name, state.port, path).await;
            shut_out = answer.as_ref().err().and_then(|failure| failure.says_shut_out());
            let said = match answer {
                Ok(200..=299) => return Attempt::Done(true),
                Err(failure) if failure.code() == Some(403) => return Attempt::Done(false),
                Ok(status) => format!("it answers {status}"),
                Err(failure) => failure.error.to_string(),
            };
            Attempt::Retry { why: silent(said), after: None }
        })
        .await;
        match (asked, shut_out) {
            (Err(_), Some(why)) => {
                self.report.warn(format!(
                    "cannot ask {name} through the API server, which does not reach its pods: {why}; \
                     their probes are answered. Let the control plane's security group reach the \
                     nodes on port {}",
                    state.port
                ));
                Ok(false)
            }
            // The time that is over is that of the smoke check alone.
            (asked, _) => asked.map_err(|error| Error { kind: Kind::Broken, ..error }),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the deadline of the smoke check starts here")]
fn now() -> Instant {
    Instant::now()
}
