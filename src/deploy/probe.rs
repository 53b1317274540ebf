//! The smoke check of ECS: asks a URL until it answers, as users do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::error::{Cannot, Code, Error, Kind, Result, chain};
use crate::http;
use crate::report::Report;
use crate::retry::{self, Attempt, RetryPolicy};

/// One request more each half second, so that a service counts as healthy soon after it is.
const RETRIES: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first_pause: Duration::from_millis(500),
    longest_pause: Duration::from_millis(500),
    jitter: 0.0,
};

/// What a service was asked, and by whom it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// By the service, with 2xx.
    Well,
    /// By whoever lets requests through in front of it: 401 or 403.
    Guarded(u16),
}

/// A URL that is asked.
pub struct Probe {
    url: String,
    client: reqwest::Client,
}

impl Probe {
    /// # Errors
    /// Unexpected for what is no URL.
    pub fn new(url: &str) -> Result<Probe> {
        Ok(Probe { client: client(url)?, url: url.to_string() })
    }

    /// Sends one request, whatever comes of it.
    pub async fn knock(&self) {
        let _ = self.client.get(&self.url).send().await;
    }

    /// Waits until the URL answers 2xx, at most for `within`. What answers 401 or 403 is believed
    /// where `is_guarded` says that it is not the service.
    ///
    /// # Errors
    /// [`Kind::Broken`] with the last answer when it does not.
    pub async fn wait_for_answer(
        &self,
        within: Duration,
        is_guarded: impl AsyncFn() -> bool,
        report: &Report,
    ) -> Result<Answered> {
        let url = &self.url;
        let silent = |why: String| {
            Error::new(Kind::Broken, format!("cannot reach {url}: it does not answer"))
                .code(Code::SmokeCheckFailed)
                .why(why)
                .fix(
                    "see that the service answers its health path with the whole path in front of \
                     it, and that security groups let the request through",
                )
        };
        let deadline = now() + within.max(RETRIES.first_pause);
        let asked = retry::run(&RETRIES, Some(deadline), report, async |_| {
            let why = match self.client.get(url).send().await {
                Ok(answer) if answer.status().is_success() => {
                    return Attempt::Done(Answered::Well);
                }
                Ok(answer) => {
                    let status = answer.status();
                    if matches!(status.as_u16(), 401 | 403) && is_guarded().await {
                        return Attempt::Done(Answered::Guarded(status.as_u16()));
                    }
                    format!("it answered {status}")
                }
                Err(error) => chain(&error.without_url()),
            };
            Attempt::Retry { why: silent(why), after: None }
        });
        asked.await.map_err(|error| match error.code {
            // The deadline is that of the check alone.
            Some(_) => Error { kind: Kind::Broken, ..error },
            None => silent("nothing came back in time".into()),
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "a smoke check has a time of its own")]
fn now() -> Instant {
    Instant::now()
}

/// Names below `.localhost` are this machine by definition (RFC 6761, section 6.3), and not every
/// resolver knows.
fn client(url: &str) -> Result<reqwest::Client> {
    let mut builder = http::start_client().timeout(Duration::from_secs(10));
    let parsed = url::Url::parse(url).cannot(|| format!("read {url}"))?;
    if let Some(host) = parsed.host_str().filter(|host| host.ends_with(".localhost")) {
        let port = parsed.port_or_known_default().unwrap_or(80);
        builder = builder.resolve(host, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    builder.build().cannot(|| "make an HTTP client".into())
}
