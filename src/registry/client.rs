//! One repository of a registry over HTTP: its requests, their authorisation and their retries.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::address::Address;
use super::cause::{Cause, find_cause};
use super::challenge::Challenge;
use super::ecr::Ecr;
use super::fault::{Fault, Refusal, classify_fault};
use super::lanes::Lanes;
use crate::error::{Cannot, Error, Kind, Result, chain};
use crate::http::{self, Broken};
use crate::layout::Digest;
use crate::report::Report;
use crate::retry::{self, Attempt, RetryPolicy, Try};

/// More of an error's body than this is not read.
const ERROR_LIMIT: usize = 16 * 1024;

/// Who pushes.
#[derive(Debug)]
pub enum Identity {
    /// Nobody, or whoever the registry's token service takes us for without a password.
    Anonymous,
    /// The AWS session, by ECR's own token.
    Ecr(Arc<Ecr>),
}

/// What a request is for, for messages.
#[derive(Clone, Debug)]
pub struct Task {
    /// A verb and its object: `upload sha256:…`.
    pub attempt: String,
    /// The IAM actions that ECR wants for it.
    pub needs: &'static [&'static str],
}

/// How long the client waits.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    pub retry: RetryPolicy,
    /// How long an upload may stand still, and how long any other request may take.
    pub idle: Duration,
}

impl Waits {
    pub const DEFAULT: Waits = Waits { retry: RetryPolicy::DEFAULT, idle: Duration::from_secs(60) };
}

/// A client of one repository.
pub struct Client {
    http: reqwest::Client,
    address: Address,
    identity: Identity,
    waits: Waits,
    lanes: Lanes,
    /// Another repository of this registry, whose blobs are mounted instead of being uploaded.
    mount_from: Option<String>,
    /// Locked during a renewal, so that parallel uploads renew it once.
    authorization: Mutex<Authorization>,
    report: Report,
}

/// What authorises requests now.
struct Authorization {
    header: Option<HeaderValue>,
    /// Counts renewals from 0: a registry may return the same token again.
    number: u32,
}

/// An authorisation that the registry refused.
struct RefusedAuthorization {
    challenge: Option<String>,
    used: Option<u32>,
    why: String,
}

impl Client {
    /// Opens a client. [`Identity::Ecr`] fetches its token at once: nothing works without it.
    ///
    /// # Errors
    /// Refused, if ECR returns no token.
    pub async fn open(
        address: Address,
        identity: Identity,
        waits: Waits,
        mount_from: Option<&str>,
        report: &Report,
    ) -> Result<Client> {
        let header = match &identity {
            Identity::Anonymous => None,
            Identity::Ecr(ecr) => Some(ecr.authorization(report).await?),
        };
        Ok(Client {
            http: http::start_client_to(address.origin())
                .redirect(http::follow_safely())
                .build()
                .cannot(|| "make an HTTP client".into())?,
            address,
            identity,
            waits,
            lanes: Lanes::new(),
            mount_from: mount_from.map(str::to_string),
            authorization: Mutex::new(Authorization { header, number: 0 }),
            report: report.clone(),
        })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The time at which an image was pushed; `None` if the registry does not say, as only people
    /// read it.
    pub async fn pushed(&self, digest: &Digest) -> Option<String> {
        match &self.identity {
            Identity::Ecr(ecr) => ecr.pushed(digest).await,
            Identity::Anonymous => None,
        }
    }

    /// The limit of parallel requests.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// The repository that blobs may be mounted from.
    pub fn mount_from(&self) -> Option<&str> {
        self.mount_from.as_deref()
    }

    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Runs `once` in the retry loop. A 401 renews the authorisation before the next try.
    ///
    /// # Errors
    /// The last try's error, with its reason and the fix.
    pub async fn retry<T>(
        &self,
        task: &Task,
        once: impl AsyncFn(Try) -> Result<T, Fault>,
    ) -> Result<T> {
        let mut refused: Option<RefusedAuthorization> = None;
        retry::run(&self.waits.retry, None, &self.report, async |this| {
            if let (true, Some(stale)) = (this.renew, refused.take())
                && let Err(fault) = self.renew(stale).await
            {
                return self.classify(task, fault, this);
            }
            match once(this).await {
                Ok(done) => Attempt::Done(done),
                Err(fault) => {
                    if let Fault::Unauthorised { challenge, used, why } = &fault {
                        let (challenge, used, why) = (challenge.clone(), *used, why.clone());
                        refused = Some(RefusedAuthorization { challenge, used, why });
                    }
                    self.classify(task, fault, this)
                }
            }
        })
        .await
    }

    fn classify<T>(&self, task: &Task, fault: Fault, this: Try) -> Attempt<T> {
        if let Fault::Throttled { .. } = fault {
            self.lanes.narrow();
        }
        let is_new = matches!(&self.identity, Identity::Ecr(ecr) if ecr.is_new());
        let why = self.explain(task, &fault, this.number);
        classify_fault(&fault, this.number, is_new, why)
    }

    /// Begins a request, authorised if it goes to the registry itself. Returns the number of the
    /// authorisation, too.
    pub async fn request(&self, method: Method, url: Url) -> (RequestBuilder, Option<u32>) {
        let is_origin = self.address.is_origin_of(&url);
        let request = self.http.request(method, url);
        if !is_origin {
            return (request, None);
        }
        let now = self.authorization.lock().await;
        match &now.header {
            Some(header) => (request.header(AUTHORIZATION, header.clone()), Some(now.number)),
            None => (request, Some(now.number)),
        }
    }

    /// Sends a request without a large body. `None` if there is no such thing (404).
    pub async fn send(
        &self,
        method: Method,
        rest: &str,
        more: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Option<Response>, Fault> {
        let is_look = method == Method::HEAD || method == Method::GET;
        let (request, used) = self.request(method, self.address.url(rest)).await;
        let answer = request
            .headers(more)
            .body(body)
            .timeout(self.waits.idle)
            .send()
            .await
            .map_err(explain_no_answer)?;
        if is_look && answer.status() == StatusCode::NOT_FOUND {
            // HEAD says the same of a missing repository and a missing blob; the first write tells
            // them apart.
            return Ok(None);
        }
        // A redirect to storage that does not say yes proves nothing: uploading is always right.
        if rest.starts_with("blobs/")
            && is_look
            && !self.address.is_origin_of(answer.url())
            && !answer.status().is_success()
        {
            return Ok(None);
        }
        check_success(answer, used).await.map(Some)
    }

    /// Gets a new authorisation, unless another request did so since `refused` was sent.
    async fn renew(&self, refused: RefusedAuthorization) -> Result<(), Fault> {
        let RefusedAuthorization { challenge, used, why } = refused;
        let mut now = self.authorization.lock().await;
        if used != Some(now.number) {
            return Ok(());
        }
        now.header = match &self.identity {
            Identity::Ecr(ecr) => Some(ecr.authorization(&self.report).await?),
            Identity::Anonymous => match challenge.as_deref().and_then(Challenge::parse) {
                Some(challenge) => Some(self.fetch_anonymous_token(&challenge).await?),
                None => return Err(Fault::Answered { status: StatusCode::UNAUTHORIZED, why }),
            },
        };
        now.number += 1;
        Ok(())
    }

    /// Fetches the token that the registry's token service returns to everybody.
    /// <https://distribution.github.io/distribution/spec/auth/token/>
    async fn fetch_anonymous_token(&self, challenge: &Challenge) -> Result<HeaderValue, Fault> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let url = challenge.url(self.address.origin(), self.address.name(), self.mount_from())?;
        let sent = self.http.get(url).timeout(self.waits.idle).send().await;
        let answer = check_success(sent.map_err(explain_no_answer)?, None).await?;
        let answer: Answer = serde_json::from_slice(&read_body(answer, ERROR_LIMIT).await?)
            .cannot(|| "read the answer of the registry's token service".into())?;
        let token = answer.token.or(answer.access_token).unwrap_or_default();
        self.report.mask(&token);
        format_bearer(&token)
    }

    /// The error for a fault of try number `tries`.
    fn explain(&self, task: &Task, fault: &Fault, tries: u32) -> Error {
        let (at, diagnosed) = (self.address.shown(), self.diagnose(task, fault));
        let headline = format!("cannot {} at {at}", task.attempt);
        let often = if tries > 1 { format!(" ({tries} tries)") } else { String::new() };
        let again = "run it again: uploaded blobs are not uploaded twice";
        match fault {
            Fault::Final(error) => error.clone(),
            Fault::Stalled { why } => {
                Error::new(Kind::TimedOut, headline).why(format!("{why}{often}")).fix(again)
            }
            Fault::Transient { why, after, .. } | Fault::Throttled { why, after } => {
                let after = after
                    .map(|after| format!("; it asks for a pause of {} s", after.as_secs()))
                    .unwrap_or_default();
                let error = Error::unexpected(headline).why(format!("{why}{after}{often}"));
                match (&self.identity, diagnosed) {
                    (Identity::Ecr(_), Some((_, fix))) => error.fix(fix),
                    (Identity::Ecr(_), None) => error.fix(again),
                    (Identity::Anonymous, _) => error.fix(format!(
                        "see that {at} is right and reachable from here, and run it again"
                    )),
                }
            }
            Fault::Unreachable { why } => Error::unexpected(headline)
                .why(format!("{why}{often}"))
                .fix(format!("see that {at} is the right address, and reachable from here")),
            Fault::Unauthorised { why, .. } | Fault::Answered { why, .. } => {
                let error = match &diagnosed {
                    Some((cause, _)) if cause.is_refusal() => Error::refused(headline).why(why),
                    _ => Error::unexpected(headline).why(format!("{why}{often}")),
                };
                match (&self.identity, diagnosed) {
                    (Identity::Ecr(_), Some((_, fix))) => error.fix(fix),
                    (Identity::Anonymous, Some((cause, _))) => {
                        cause.anonymous_fix().into_iter().fold(error, Error::fix)
                    }
                    _ => error,
                }
            }
        }
    }

    /// The cause behind a fault, and its fix; `None` if nothing is known.
    fn diagnose(&self, task: &Task, fault: &Fault) -> Option<(Cause, String)> {
        let cause = match fault {
            Fault::Transient { status, why, .. } => {
                find_cause(status.map(|status| status.as_u16()), why)
            }
            Fault::Answered { status, why, .. } => find_cause(Some(status.as_u16()), why),
            Fault::Unauthorised { why, .. } => find_cause(Some(401), why),
            _ => return None,
        };
        let (allow, create) = match &self.identity {
            Identity::Ecr(ecr) => {
                let creating = ecr.allow_fix(&["ecr:DescribeRepositories", "ecr:CreateRepository"]);
                let create = format!(
                    "create the repository: {}\nor let this do it: {creating}",
                    ecr.create_command()
                );
                (ecr.allow_fix(task.needs), create)
            }
            Identity::Anonymous => Default::default(),
        };
        cause.fix(&allow, &create).map(|fix| (cause, fix))
    }
}

/// Returns a successful answer, or the fault that another one stands for.
pub async fn check_success(answer: Response, used: Option<u32>) -> Result<Response, Fault> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let (status, headers) = (answer.status(), answer.headers().clone());
    let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let refusal = Refusal {
        status,
        challenge: header(WWW_AUTHENTICATE),
        used,
        retry_after: header(RETRY_AFTER),
        date: header(DATE),
        body: &read_body(answer, ERROR_LIMIT).await.unwrap_or_default(),
    };
    Err(refusal.into_fault())
}

/// Returns the fault of a request without an answer. Its URL is left out: the one of an upload has
/// a secret state in it.
pub fn explain_no_answer(error: reqwest::Error) -> Fault {
    let (timed_out, unreachable) = (error.is_timeout(), error.is_connect());
    let why = chain(&error.without_url());
    match (timed_out, unreachable) {
        (_, true) => Fault::Unreachable { why },
        (true, _) => Fault::Stalled { why },
        _ => Fault::Transient { status: None, why, after: None },
    }
}

/// Reads the body of an answer.
///
/// # Errors
/// A transient fault, if the answer breaks off; a final one, if it is longer than `limit` bytes.
pub async fn read_body(answer: Response, limit: usize) -> Result<Vec<u8>, Fault> {
    http::read_body(answer, limit).await.map_err(|broken| match broken {
        Broken::Off(error) => explain_no_answer(error),
        Broken::TooLong(limit) => Fault::Final(
            Error::unexpected("cannot read the registry's answer")
                .why(format!("it has more than {limit} bytes")),
        ),
    })
}

fn format_bearer(token: &str) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        Fault::Final(
            Error::unexpected("cannot log in to the registry")
                .why("its token service answered without a token"),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
