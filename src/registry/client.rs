//! One repository over HTTP: who we are to it, what its answers mean, and trying again.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, DATE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::address::{self, Address};
use super::cause::{self, Cause};
use super::challenge::Challenge;
use super::ecr::Ecr;
use super::lanes::Lanes;
use crate::error::{Cannot, Error, Kind, Result, chain};
use crate::layout::Digest;
use crate::patience::{Patience, asked, chance};
use crate::report::Report;

/// More of an error's body than this is not read.
const ERROR_LIMIT: usize = 16 * 1024;
/// More of it than this is not shown.
const SHOWN: usize = 400;

/// Tries after the first one, where nobody listens, or nobody says a word in time: each of these
/// takes long enough.
const SELDOM: u32 = 2;

/// A longer pause than this is told, so that nobody takes it for a standstill.
const SHORT: Duration = Duration::from_secs(10);

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
    /// `uploading sha256:…`
    pub attempt: String,
    /// The IAM actions that ECR wants for it.
    pub needs: &'static [&'static str],
}

/// Why one try did not succeed.
#[derive(Debug)]
pub enum Fault {
    /// It may go away by itself. Without a status there was no answer.
    Passing { status: Option<StatusCode>, why: String, asked: Option<Duration> },
    /// We ask too much at a time.
    Throttled { why: String, asked: Option<Duration> },
    /// Nobody listens there, or no such host: an address that is wrong does not get right.
    Unreachable { why: String },
    /// There was no answer in time.
    Still { why: String },
    /// 401.
    Unauthorised { challenge: Option<String>, used: Option<u32>, why: String },
    /// The registry said no, in words: it will say so again.
    Answered { status: StatusCode, why: String },
    /// It will not go away.
    Final(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Final(error)
    }
}

/// A repository that is spoken to.
pub struct Client {
    http: reqwest::Client,
    address: Address,
    identity: Identity,
    patience: Patience,
    lanes: Lanes,
    /// Another repository of this registry, whose blobs are taken instead of being uploaded.
    mount_from: Option<String>,
    /// Held while it is renewed, so that four uploads renew it once.
    authorization: Mutex<Authorization>,
    report: Report,
}

/// What authorises requests now.
struct Authorization {
    header: Option<HeaderValue>,
    /// Which one it is, from 0: a registry may give the same one again.
    number: u32,
}

impl Client {
    /// Opens a client. With [`Identity::Ecr`] the token is fetched at once: without it nothing can
    /// be done there.
    ///
    /// # Errors
    /// Refused, when ECR gives no token.
    pub async fn open(
        address: Address,
        identity: Identity,
        patience: Patience,
        mount_from: Option<&str>,
        report: &Report,
    ) -> Result<Client> {
        // A redirected look-up must not leave TLS. Credentials do not follow to another host:
        // reqwest sees to that.
        let redirect =
            reqwest::redirect::Policy::custom(|attempt| match attempt.previous().len() {
                0..=5 if address::is_safe(attempt.url()) => attempt.follow(),
                _ => attempt.stop(),
            });
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .redirect(redirect)
            .user_agent(concat!("cicd/", env!("CARGO_PKG_VERSION")))
            .build()
            .cannot(|| "make an HTTP client".into())?;
        let header = match &identity {
            Identity::Anonymous => None,
            Identity::Ecr(ecr) => Some(ecr.authorization(report).await?),
        };
        let report = report.clone();
        Ok(Client {
            http,
            address,
            identity,
            patience,
            lanes: Lanes::new(),
            mount_from: mount_from.map(str::to_string),
            authorization: Mutex::new(Authorization { header, number: 0 }),
            report,
        })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When an image was pushed, where the registry says it: it is only told to people.
    pub async fn pushed(&self, digest: &Digest) -> Option<String> {
        match &self.identity {
            Identity::Ecr(ecr) => ecr.pushed(digest.as_str()).await,
            Identity::Anonymous => None,
        }
    }

    /// How many requests may be under way.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// The repository that blobs may be mounted from.
    pub fn mount_from(&self) -> Option<&str> {
        self.mount_from.as_deref()
    }

    pub fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Tries `once` until it succeeds, says no for good, or the patience is at its end. A 401
    /// renews the authorisation once and is no try of its own. `once` is told how many tries there
    /// were before it.
    ///
    /// # Errors
    /// What the last try said: what was being done, where, why, and the fix.
    pub async fn patiently<T>(
        &self,
        task: &Task,
        once: impl AsyncFn(u32) -> Result<T, Fault>,
    ) -> Result<T> {
        let (mut tries, mut failures, mut renewed) = (0, 0, false);
        loop {
            let fault = match once(tries).await {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            tries += 1;
            let fault = match fault {
                Fault::Unauthorised { challenge, used, why } if !renewed => {
                    match self.renew(challenge.as_deref(), used, why).await {
                        Ok(()) => {
                            renewed = true;
                            continue;
                        }
                        Err(fault) => fault,
                    }
                }
                Fault::Unauthorised { .. } => fault,
                // It was authorised: what is over later may be renewed again.
                fault => {
                    renewed = false;
                    fault
                }
            };
            let (why, asked) = match &fault {
                Fault::Passing { why, asked, .. } => (why.clone(), *asked),
                Fault::Throttled { why, asked } => {
                    self.lanes.narrow();
                    (why.clone(), *asked)
                }
                Fault::Still { why } | Fault::Unreachable { why } if failures < SELDOM => {
                    (why.clone(), None)
                }
                Fault::Answered { status, why } if self.is_early(*status, why) => {
                    (why.clone(), None)
                }
                _ => return Err(self.explain(task, fault, tries)),
            };
            failures += 1;
            let Some(pause) = self.patience.pause(failures, asked, chance()) else {
                return Err(self.explain(task, fault, tries));
            };
            let again =
                format!("cannot {}: {why}; again in {:.1} s", task.attempt, pause.as_secs_f64());
            match pause > SHORT {
                true => self.report.detail(again),
                false => self.report.trace(again),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether the registry says that there is no such repository only because it was created a
    /// moment ago.
    fn is_early(&self, status: StatusCode, why: &str) -> bool {
        let is_new = matches!(&self.identity, Identity::Ecr(ecr) if ecr.is_new());
        is_new && cause::of(Some(status.as_u16()), why) == Cause::Repository
    }

    /// A request to the repository, authorised when it goes to the registry itself; gives by which
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

    /// Sends a request without a large body. None is: there is no such thing (404).
    pub async fn small(
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
            .timeout(self.patience.still)
            .send()
            .await
            .map_err(unanswered)?;
        if is_look && answer.status() == StatusCode::NOT_FOUND {
            // A missing repository and a missing blob look alike to HEAD; the first write tells
            // them apart.
            return Ok(None);
        }
        // Storage that a look for a blob was sent on to, and that does not say yes: uploading is
        // always right.
        if rest.starts_with("blobs/")
            && is_look
            && !self.address.is_origin_of(answer.url())
            && !answer.status().is_success()
        {
            return Ok(None);
        }
        judge(answer, used).await.map(Some)
    }

    /// Gets a new authorisation, unless another request did so since `used` was taken.
    async fn renew(
        &self,
        challenge: Option<&str>,
        used: Option<u32>,
        why: String,
    ) -> Result<(), Fault> {
        let mut now = self.authorization.lock().await;
        if used != Some(now.number) {
            return Ok(());
        }
        let unauthorised =
            || Fault::Answered { status: StatusCode::UNAUTHORIZED, why: why.clone() };
        now.header = match &self.identity {
            Identity::Ecr(ecr) => Some(ecr.authorization(&self.report).await?),
            Identity::Anonymous => match challenge.and_then(Challenge::parse) {
                Some(challenge) => Some(self.anonymous_token(&challenge).await?),
                None => return Err(unauthorised()),
            },
        };
        now.number += 1;
        Ok(())
    }

    /// Asks the registry's token service for what it gives to everybody.
    /// <https://distribution.github.io/distribution/spec/auth/token/>
    async fn anonymous_token(&self, challenge: &Challenge) -> Result<HeaderValue, Fault> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let url = challenge.url(self.address.name(), self.mount_from())?;
        let answer =
            self.http.get(url).timeout(self.patience.still).send().await.map_err(unanswered)?;
        let answer = judge(answer, None).await?;
        let answer: Answer = serde_json::from_slice(&body(answer, ERROR_LIMIT).await?)
            .cannot(|| "read the answer of the registry's token service".into())?;
        let token = answer.token.or(answer.access_token).unwrap_or_default();
        self.report.mask(&token);
        bearer(&token)
    }

    /// A fault as our error.
    fn explain(&self, task: &Task, fault: Fault, tries: u32) -> Error {
        let (at, diagnosed) = (self.address.shown(), self.diagnose(task, &fault));
        let attempt = format!("cannot {} at {at}", task.attempt);
        let often = if tries > 1 { format!(" ({tries} tries)") } else { String::new() };
        match fault {
            Fault::Final(error) => error,
            Fault::Still { why } => Error::new(Kind::TimedOut, attempt)
                .why(format!("{why}{often}"))
                .fix("run it again: what was uploaded is not uploaded twice"),
            Fault::Passing { why, asked, .. } | Fault::Throttled { why, asked } => {
                let asked = asked
                    .map(|asked| format!("; it asks for {} s of patience", asked.as_secs()))
                    .unwrap_or_default();
                let error = Error::unexpected(attempt).why(format!("{why}{asked}{often}"));
                match (&self.identity, diagnosed) {
                    (Identity::Ecr(_), Some((_, fix))) => error.fix(fix),
                    (Identity::Ecr(_), None) => {
                        error.fix("run it again: what was uploaded is not uploaded twice")
                    }
                    (Identity::Anonymous, _) => error.fix(format!(
                        "see that {at} is right and reachable from here, and run it again"
                    )),
                }
            }
            Fault::Unreachable { why } => Error::unexpected(attempt)
                .why(format!("{why}{often}"))
                .fix(format!("see that {at} is the right address, and reachable from here")),
            Fault::Unauthorised { why, .. } | Fault::Answered { why, .. } => {
                let error = match &diagnosed {
                    Some((cause, _)) if cause.is_refusal() => Error::refused(attempt).why(why),
                    _ => Error::unexpected(attempt).why(format!("{why}{often}")),
                };
                let cause = diagnosed.as_ref().map(|(cause, _)| *cause);
                match (&self.identity, cause) {
                    (Identity::Ecr(_), _) => match diagnosed {
                        Some((_, fix)) => error.fix(fix),
                        None => error,
                    },
                    (Identity::Anonymous, Some(Cause::Repository)) => {
                        error.fix("create the repository first: this registry makes none by itself")
                    }
                    (Identity::Anonymous, Some(Cause::Permission | Cause::Forbidden | Cause::OtherAccount | Cause::Expired)) => error.fix(
                        "this registry wants a login, and --repository has none: push to one that lets everybody, or to ECR through platform.yaml",
                    ),
                    (Identity::Anonymous, _) => error,
                }
            }
        }
    }

    /// The cause behind a fault, and what to do about it; none where nothing is known.
    fn diagnose(&self, task: &Task, fault: &Fault) -> Option<(Cause, String)> {
        let cause = match fault {
            Fault::Passing { status, why, .. } => {
                cause::of(status.map(|status| status.as_u16()), why)
            }
            Fault::Answered { status, why, .. } => cause::of(Some(status.as_u16()), why),
            Fault::Unauthorised { why, .. } => cause::of(Some(401), why),
            _ => return None,
        };
        let (allow, create) = match &self.identity {
            Identity::Ecr(ecr) => {
                let creating =
                    ecr.permission(&["ecr:DescribeRepositories", "ecr:CreateRepository"]);
                let create = format!(
                    "create the repository: {}\nor let this do it: {creating}",
                    ecr.creation()
                );
                (ecr.permission(task.needs), create)
            }
            Identity::Anonymous => Default::default(),
        };
        cause.fix(&allow, &create).map(|fix| (cause, fix))
    }
}

/// An answer that is a success, or what is wrong with it.
pub async fn judge(answer: Response, used: Option<u32>) -> Result<Response, Fault> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let header = |name| {
        answer
            .headers()
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
            .map(str::to_string)
    };
    let challenge = header(WWW_AUTHENTICATE);
    let asked = asked(header(RETRY_AFTER).as_deref(), header(DATE).as_deref());
    let (codes, why) = said(status, &body(answer, ERROR_LIMIT).await.unwrap_or_default());
    if status == StatusCode::UNAUTHORIZED
        || cause::of(Some(status.as_u16()), &why) == Cause::Expired
    {
        return Err(Fault::Unauthorised { challenge, used, why });
    }
    Err(match (is_throttling(status, &codes, &why), is_passing(status, &codes)) {
        (true, _) => Fault::Throttled { why, asked },
        (_, true) => Fault::Passing { status: Some(status), why, asked },
        _ => Fault::Answered { status, why },
    })
}

/// A request that got no answer. The URL is left out: an upload's has a secret state in it.
pub fn unanswered(error: reqwest::Error) -> Fault {
    let (timed_out, unreachable) = (error.is_timeout(), error.is_connect());
    let why = chain(&error.without_url());
    match (timed_out, unreachable) {
        (_, true) => Fault::Unreachable { why },
        (true, _) => Fault::Still { why },
        _ => Fault::Passing { status: None, why, asked: None },
    }
}

/// Whether the registry asks for fewer requests at a time. ECR says so with 400, too.
fn is_throttling(status: StatusCode, codes: &[String], why: &str) -> bool {
    match status.as_u16() {
        429 | 503 => true,
        400 => codes.iter().any(|code| code == "TOOMANYREQUESTS") || why.contains("Throttling"),
        _ => false,
    }
}

/// Whether the same request may get another answer in a moment.
fn is_passing(status: StatusCode, codes: &[String]) -> bool {
    let any = |wanted: &[&str]| codes.iter().any(|code| wanted.contains(&code.as_str()));
    match status.as_u16() {
        408 | 425 | 500 | 502 | 504 => true,
        // The session is gone or has other bytes: a fresh one has not.
        416 => true,
        404 => any(&["BLOB_UPLOAD_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN"]),
        // A manifest's check can be behind the blobs that were just put.
        400 => any(&["BLOB_UPLOAD_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN"]),
        _ => false,
    }
}

/// The codes and the words of a registry's error.
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>
fn said(status: StatusCode, body: &[u8]) -> (Vec<String>, String) {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: Option<String>,
    }
    let errors =
        serde_json::from_slice::<Errors>(body).map(|errors| errors.errors).unwrap_or_default();
    let words: Vec<String> = errors
        .iter()
        .map(|one| format!("{}: {}", one.code, one.message.as_deref().unwrap_or("no reason given")))
        .collect();
    let words = match words.is_empty() {
        true => String::from_utf8_lossy(body).into_owned(),
        false => words.join("; "),
    };
    let words: String = words
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(SHOWN)
        .collect();
    let why =
        if words.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {words}") };
    (errors.into_iter().map(|one| one.code).collect(), why)
}

/// The body of an answer.
///
/// # Errors
/// A passing fault, when the answer breaks off; a final one, when it has more than `limit` bytes.
pub async fn body(answer: Response, limit: usize) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(unanswered)?);
        if body.len() > limit {
            return Err(Fault::Final(Error::unexpected(format!(
                "the registry answers with more than {limit} bytes"
            ))));
        }
    }
    Ok(body)
}

fn bearer(token: &str) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        Fault::Final(Error::unexpected("the registry's token service gave no token"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// What manifests may be answered in: as they were pushed.
pub fn accept_manifests() -> HeaderMap {
    let types = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                 application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(types))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        let cases = [
            (429, "", true),
            (500, "", true),
            (503, "<html>", true),
            (416, "", true),
            (404, r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}"#, true),
            (404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no"}]}"#, false),
            (400, r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#, true),
            (400, r#"{"__type":"ThrottlingException"}"#, true),
            (400, r#"{"errors":[{"code":"TAG_INVALID","message":"immutable"}]}"#, false),
            (400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#, false),
            (403, r#"{"errors":[{"code":"DENIED"}]}"#, false),
            (413, "", false),
            (501, "", false),
        ];
        for (status, body, expected) in cases {
            let status = StatusCode::from_u16(status).expect("a status");
            let (codes, why) = said(status, body.as_bytes());
            let again = is_throttling(status, &codes, &why) || is_passing(status, &codes);
            assert_eq!(again, expected, "{status} {body}");
        }
    }

    #[test]
    fn a_registrys_words_are_shown_tamed() {
        let (codes, why) = said(
            StatusCode::FORBIDDEN,
            br#"{"errors":[{"code":"DENIED","message":"not\n::error::you\u001b[31m"}]}"#,
        );
        assert_eq!(codes, ["DENIED"]);
        assert_eq!(why, "HTTP 403 Forbidden: DENIED: not ::error::you[31m");
        let (_, why) = said(StatusCode::BAD_GATEWAY, "ä".repeat(9000).as_bytes());
        assert!(why.chars().count() < 450);
        assert_eq!(said(StatusCode::NOT_FOUND, b"").1, "HTTP 404 Not Found");
    }
}
