//! The one retry loop: every client says by its own pure `classify_…` what an answer means, and
//! this loop decides whether and when to try again.

pub mod policy;

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use crate::error::{Error, Kind, Result};
use crate::report::Report;
pub use policy::RetryPolicy;

/// A longer pause is reported, so that nobody takes it for a standstill.
const SHORT: Duration = Duration::from_secs(10);

/// What one try ended in.
#[derive(Debug)]
pub enum Attempt<T> {
    Done(T),
    /// The same request may succeed later. `why` is the error if no try is left; `after` is the
    /// pause that the server asks for.
    Retry {
        why: Error,
        after: Option<Duration>,
    },
    /// The authorisation is missing or over: the next try renews it first.
    Reauthorize {
        why: Error,
    },
    /// The answer stays the same, however often the request is sent.
    Refused(Error),
}

impl<T> Attempt<T> {
    /// Maps the result of an attempt that is done.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Attempt<U> {
        match self {
            Attempt::Done(done) => Attempt::Done(map(done)),
            Attempt::Retry { why, after } => Attempt::Retry { why, after },
            Attempt::Reauthorize { why } => Attempt::Reauthorize { why },
            Attempt::Refused(error) => Attempt::Refused(error),
        }
    }
}

/// The try that is about to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try {
    /// Counts from 1.
    pub number: u32,
    /// Whether the authorisation must be renewed before the request is sent.
    pub renew: bool,
}

/// Tries until an attempt is done or refused, or the policy or the deadline forbids another one.
///
/// `deadline` bounds everything: an attempt that is under way then is dropped, and a pause that
/// would pass it is not waited for. Whoever writes must look up what a dropped attempt did.
///
/// # Errors
/// The last attempt's own error; timed out, if the deadline passed.
pub async fn run<T>(
    policy: &RetryPolicy,
    deadline: Option<Instant>,
    report: &Report,
    mut attempt: impl AsyncFnMut(Try) -> Attempt<T>,
) -> Result<T> {
    let mut retries = 0;
    let mut this = Try { number: 1, renew: false };
    let mut last: Option<Error> = None;
    loop {
        let ended = match deadline {
            None => attempt(this).await,
            Some(deadline) => match timeout_at(deadline.into(), attempt(this)).await {
                Ok(ended) => ended,
                Err(_) => return Err(deadline_error(last)),
            },
        };
        let (why, after) = match ended {
            Attempt::Done(done) => return Ok(done),
            Attempt::Refused(error) => return Err(error),
            // A renewed authorisation that is refused as well is refused for good.
            Attempt::Reauthorize { why } if this.renew => return Err(why),
            Attempt::Reauthorize { why } => {
                last = Some(why);
                this = Try { number: this.number + 1, renew: true };
                continue;
            }
            Attempt::Retry { why, after } => (why, after),
        };
        retries += 1;
        let Some(pause) = policy.pause(retries, after, policy::random_share()) else {
            return Err(why);
        };
        if deadline.is_some_and(|deadline| !fits_before(pause, deadline)) {
            return Err(deadline_error(Some(why)));
        }
        let told = format!("{why}; retry in {:.1} s", pause.as_secs_f64());
        if pause > SHORT {
            report.detail(told)
        } else {
            report.trace(told)
        }
        sleep(pause).await;
        last = Some(why);
        this = Try { number: this.number + 1, renew: false };
    }
}

/// As [`run`], without a deadline, for what is tried in a task of its own: the compiler cannot tell
/// of an async closure that it may be sent to another thread. An attempt is told its number, from 1.
///
/// # Errors
/// The last attempt's own error.
pub async fn run_in_task<T, F: Future<Output = Attempt<T>>>(
    policy: &RetryPolicy,
    attempt: impl Fn(u32) -> F,
) -> Result<T> {
    let mut retries = 0;
    loop {
        let (why, after) = match attempt(retries + 1).await {
            Attempt::Done(done) => return Ok(done),
            Attempt::Refused(error) | Attempt::Reauthorize { why: error } => return Err(error),
            Attempt::Retry { why, after } => (why, after),
        };
        retries += 1;
        match policy.pause(retries, after, policy::random_share()) {
            Some(pause) => sleep(pause).await,
            None => return Err(why),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one clock of the retries")]
fn fits_before(pause: Duration, deadline: Instant) -> bool {
    pause < deadline.saturating_duration_since(Instant::now())
}

/// The last error as one of time: its fixes stay true.
fn deadline_error(last: Option<Error>) -> Error {
    match last {
        Some(error) => {
            let why = match &error.why {
                Some(why) => format!("{why}; the deadline passed"),
                None => "the deadline passed".into(),
            };
            Error { kind: Kind::TimedOut, ..error }.why(why)
        }
        None => Error::new(Kind::TimedOut, "cannot finish a request: the deadline passed"),
    }
}

#[cfg(test)]
mod tests;
