//! GitHub's REST API over HTTP: who we are to it, and trying again what may pass.
//!
//! <https://docs.github.com/en/rest/using-the-rest-api>

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, LINK, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::refusal::{Limits, Said};
use crate::cli::Environ;
use crate::error::{Cannot, Error, Kind, Result, chain};
use crate::patience::{Patience, chance};
use crate::report::Report;

/// Tries after the first one where nobody listens: an address that is wrong does not get right.
const SELDOM: u32 = 2;
/// Redirects that one request follows.
const MOVES: usize = 3;

/// The API of one GitHub, as somebody or as nobody.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
    patience: Patience,
    report: Report,
}

/// An answer that will not change by asking again.
pub struct Answer {
    pub body: Vec<u8>,
    /// The next page of a list.
    pub next: Option<Url>,
}

/// A request.
pub struct Request<'a> {
    pub method: Method,
    pub url: Url,
    pub accept: &'a str,
    pub body: Option<&'a Value>,
    /// What it is for, for messages: `creating the tag v1.4.0`.
    pub attempt: &'a str,
}

impl Client {
    /// A client of GITHUB_API_URL with the token that the job was given: the input `github-token`,
    /// else GITHUB_TOKEN.
    ///
    /// # Errors
    /// Bad input, when GITHUB_API_URL is no web address.
    pub fn open(environ: &Environ, report: &Report) -> Result<Client> {
        let address = environ.get("GITHUB_API_URL").unwrap_or("https://api.github.com");
        let base = Url::parse(address).ok().filter(|url| !url.cannot_be_a_base());
        let base = base.ok_or_else(|| {
            Error::input(format!("GITHUB_API_URL {address} is no web address"))
                .fix("leave it out for github.com, or write https://HOST/api/v3")
        })?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(20))
            .redirect(Policy::none())
            .user_agent(concat!("cicd/", env!("CARGO_PKG_VERSION")))
            .build()
            .cannot(|| "make an HTTP client".into())?;
        let token = environ
            .get("INPUT_GITHUB-TOKEN")
            .or_else(|| environ.get("GITHUB_TOKEN"))
            .map(str::to_string);
        if let Some(token) = &token {
            report.mask(token);
        }
        Ok(Client { http, base, token, patience: Patience::DEFAULT, report: report.clone() })
    }

    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The address of a path; each segment is escaped as a whole, slashes in it too.
    pub fn url<'a>(
        &self,
        segments: impl IntoIterator<Item = &'a str>,
        query: &[(&str, &str)],
    ) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Sends a request until it is answered for good: what may pass (5xx, rate limits, a lost
    /// connection) is tried again, with the pauses that GitHub asks for. Whoever writes must be
    /// able to stand that the first try was done already.
    ///
    /// # Errors
    /// When nobody answers, or not in time. What GitHub refuses is the inner result.
    pub async fn send(&self, request: &Request<'_>) -> Result<Result<Answer, Said>> {
        let (mut again, attempt) = (0, request.attempt);
        loop {
            again += 1;
            let (error, asked) = match self.once(request).await {
                Once::Answered(answer) => return Ok(answer),
                Once::Lost(error) => return Err(error),
                Once::Passing { error, asked } => (error, asked),
                Once::Unreachable(error) if again <= SELDOM => (error, None),
                Once::Unreachable(error) => return Err(error),
            };
            let Some(pause) = self.patience.pause(again, asked, chance()) else {
                return Err(error);
            };
            self.report
                .trace(format!("cannot {attempt}: {error}; again in {:.1} s", pause.as_secs_f64()));
            tokio::time::sleep(pause).await;
        }
    }

    /// All pages of a list, at most `pages`.
    ///
    /// # Errors
    /// As [`Client::send`]; refused, when GitHub says no.
    pub async fn list<T: DeserializeOwned>(
        &self,
        url: Url,
        pages: usize,
        attempt: &str,
    ) -> Result<Vec<T>> {
        let (mut found, mut next) = (Vec::new(), Some(url));
        for _ in 0..pages {
            let Some(url) = next else { break };
            let answer = self
                .send(&Request::get(url, attempt))
                .await?
                .map_err(|said| said.into_error(attempt))?;
            found.extend(read::<Vec<T>>(&answer.body, attempt)?);
            next = answer.next;
        }
        Ok(found)
    }

    async fn once(&self, request: &Request<'_>) -> Once {
        let (mut url, mut moves) = (request.url.clone(), 0);
        let answer = loop {
            let answer = match self.ask(request, &url).await {
                Ok(answer) => answer,
                Err(error) => return unanswered(error, request.attempt),
            };
            match self.moved(request, &url, &answer) {
                Some(to) if moves < MOVES => (url, moves) = (to, moves + 1),
                _ => break answer,
            }
        };
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = match answer.bytes().await {
            Ok(body) => body.to_vec(),
            Err(error) => return unanswered(error, request.attempt),
        };
        if status.is_success() {
            let next = self.next(&headers).map_err(|url| elsewhere(&url, request.attempt));
            return match next {
                Ok(next) => Once::Answered(Ok(Answer { body, next })),
                Err(error) => Once::Lost(error),
            };
        }
        let said = Said::read(status.as_u16(), &body);
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let limits = Limits {
            retry_after: text(RETRY_AFTER.as_str()),
            remaining: text("x-ratelimit-remaining"),
            reset: text("x-ratelimit-reset"),
            date: text(DATE.as_str()),
        };
        match said.passing(&limits) {
            Some(asked) if matches!(said.status, 403 | 429) => {
                Once::Passing { error: limits.into_error(request.attempt, &said.words), asked }
            }
            Some(asked) => Once::Passing { error: said.into_error(request.attempt), asked },
            None => Once::Answered(Err(said)),
        }
    }

    async fn ask(&self, request: &Request<'_>, url: &Url) -> reqwest::Result<reqwest::Response> {
        let mut sent = self
            .http
            .request(request.method.clone(), url.clone())
            .header("accept", request.accept)
            .header("x-github-api-version", "2022-11-28");
        if let Some(body) = request.body {
            sent = sent.json(body);
        }
        if let Some(token) = &self.token {
            sent = sent.bearer_auth(token);
        }
        sent.send().await
    }

    /// Where a repository that was renamed is now: GitHub answers 301 to who reads and 307 to who
    /// writes. A write that is answered anything else was not done, so it is never turned into a
    /// read.
    /// <https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects>
    fn moved(&self, request: &Request<'_>, from: &Url, answer: &reqwest::Response) -> Option<Url> {
        let follows = match answer.status().as_u16() {
            301 | 302 => request.method == Method::GET,
            307 | 308 => true,
            _ => false,
        };
        let to = from.join(answer.headers().get(LOCATION)?.to_str().ok()?).ok()?;
        (follows && self.is_ours(&to)).then_some(to)
    }

    /// Where `Link` says the next page is; an address elsewhere is the error.
    fn next(&self, headers: &HeaderMap) -> std::result::Result<Option<Url>, Url> {
        let found = || {
            let links = headers.get(LINK)?.to_str().ok()?;
            let link = links.split(',').find(|link| link.contains("rel=\"next\""))?;
            Url::parse(link.split_once('<')?.1.split_once('>')?.0).ok()
        };
        match found() {
            Some(url) if !self.is_ours(&url) => Err(url),
            next => Ok(next),
        }
    }

    /// The token goes nowhere else than where it was given to.
    fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }
}

impl<'a> Request<'a> {
    pub fn get(url: Url, attempt: &'a str) -> Request<'a> {
        Request {
            method: Method::GET,
            url,
            accept: "application/vnd.github+json",
            body: None,
            attempt,
        }
    }

    pub fn write(method: Method, url: Url, body: &'a Value, attempt: &'a str) -> Request<'a> {
        Request { method, url, accept: "application/vnd.github+json", body: Some(body), attempt }
    }
}

/// What one try ended in.
enum Once {
    Answered(Result<Answer, Said>),
    /// An answer that we cannot read to its end.
    Lost(Error),
    Passing {
        error: Error,
        asked: Option<Duration>,
    },
    Unreachable(Error),
}

fn unanswered(error: reqwest::Error, attempt: &str) -> Once {
    let (timed_out, unreachable) = (error.is_timeout(), error.is_connect());
    let kind = if timed_out { Kind::TimedOut } else { Kind::Unexpected };
    let why = chain(&error.without_url());
    let error = Error::new(kind, format!("cannot {attempt}")).why(why);
    match unreachable {
        true => {
            Once::Unreachable(error.fix("see that GITHUB_API_URL is right and reachable from here"))
        }
        false => Once::Passing {
            error: error.fix("run it again: it goes on from what is there"),
            asked: None,
        },
    }
}

/// Half a list would be a wrong answer.
fn elsewhere(url: &Url, attempt: &str) -> Error {
    Error::refused(format!(
        "cannot {attempt}: the next page is said to be at {}",
        url.origin().ascii_serialization()
    ))
    .why("the token is for GITHUB_API_URL only, and goes nowhere else")
    .fix("set GITHUB_API_URL to the address that this GitHub calls itself")
}

/// An answer's body as what it should be.
///
/// # Errors
/// Unexpected, when it is something else.
pub fn read<T: DeserializeOwned>(body: &[u8], attempt: &str) -> Result<T> {
    serde_json::from_slice(body).cannot(|| format!("{attempt}: read the answer"))
}
