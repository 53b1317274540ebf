//! GitHub's REST API: one client with its token, its bounds and its retries.
//!
//! <https://docs.github.com/en/rest/using-the-rest-api>

use std::time::Duration;

use http::Method;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, DATE, HeaderMap, HeaderValue, LINK, LOCATION, RETRY_AFTER,
};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::refusal::{Failure, Limits, Refusal, classify_failure};
use crate::cli::Environ;
use crate::error::{Cannot, Error, Result, chain};
use crate::http::{Broken, parse_safe, read_body, start_client};
use crate::report::Report;
use crate::retry::{self, Attempt, RetryPolicy};

/// Redirects that one request follows.
const MOST_REDIRECTS: usize = 3;
/// The longest answer that is read, in bytes: a page of a list has a hundred entries.
const LIMIT: usize = 16 * 1024 * 1024;
/// The time in which GitHub must answer one request.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The media type of GitHub's answers.
const JSON: &str = "application/vnd.github+json";

/// The API of one GitHub, with a token or without.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    /// The token as a header.
    authorization: Option<HeaderValue>,
    retry: RetryPolicy,
    report: Report,
}

/// One answer, with a body of at most [`LIMIT`] bytes.
struct ApiAnswer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// One request.
pub struct ApiCall<'a> {
    pub method: Method,
    pub url: Url,
    pub accept: &'a str,
    pub body: Option<&'a Value>,
    /// What the request is for, as a verb and its object: `create the tag v1.4.0`.
    pub attempt: &'a str,
}

impl Client {
    /// Opens a client of GITHUB_API_URL with the job's token: the input `github-token`, else
    /// GITHUB_TOKEN.
    ///
    /// # Errors
    /// Bad input, if GITHUB_API_URL is no web address or may get no token, or the token is broken.
    pub fn open(environ: &Environ, report: &Report) -> Result<Client> {
        let address = environ.get("GITHUB_API_URL").unwrap_or("https://api.github.com");
        let base = parse_safe("GITHUB_API_URL", address)?;
        let http = start_client().timeout(TIMEOUT).build();
        let http = http.cannot(|| "make an HTTP client".into())?;
        let token = environ.get("INPUT_GITHUB-TOKEN").or_else(|| environ.get("GITHUB_TOKEN"));
        if let Some(token) = token {
            report.mask(token);
        }
        let authorization = token.map(format_bearer).transpose()?;
        let (retry, report) = (RetryPolicy::DEFAULT, report.clone());
        Ok(Client { http, base, authorization, retry, report })
    }

    pub fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// Builds the address of a path. Each segment is escaped as a whole, its slashes too.
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

    /// Sends a request until its answer is final. 5xx, rate limits and lost connections are tried
    /// again, so a write must be one that may be done twice.
    ///
    /// # Errors
    /// If nobody answers, or not in time. A refusal is the inner result.
    pub async fn send<T: DeserializeOwned>(
        &self,
        call: &ApiCall<'_>,
    ) -> Result<Result<T, Refusal>> {
        let read =
            |answer: ApiAnswer| serde_json::from_slice(&answer.body).map_err(|error| chain(&error));
        self.retry(call, read).await
    }

    /// As [`Client::send`], for an answer that is plain text.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_for_text(&self, call: &ApiCall<'_>) -> Result<Result<String, Refusal>> {
        let read =
            |answer: ApiAnswer| String::from_utf8(answer.body).map_err(|error| chain(&error));
        self.retry(call, read).await
    }

    /// Reads all pages of a list, at most `pages`.
    ///
    /// # Errors
    /// As [`Client::send`]; refused, if GitHub refuses.
    pub async fn list<T: DeserializeOwned>(
        &self,
        url: Url,
        pages: usize,
        attempt: &str,
    ) -> Result<Vec<T>> {
        let read = |answer: ApiAnswer| {
            let items = serde_json::from_slice::<Vec<T>>(&answer.body);
            items.map(|items| (items, find_next(&answer.headers))).map_err(|error| chain(&error))
        };
        let (mut found, mut next) = (Vec::new(), Some(url));
        for _ in 0..pages {
            let Some(url) = next else { break };
            let page = self.retry(&ApiCall::get(url, attempt), read).await?;
            let (items, link) = page.map_err(|refusal| refusal.into_error(attempt))?;
            next = link.map(|link| self.check_next(&link, attempt)).transpose()?;
            found.extend(items);
        }
        Ok(found)
    }

    async fn retry<T>(
        &self,
        call: &ApiCall<'_>,
        read: impl Fn(ApiAnswer) -> Result<T, String>,
    ) -> Result<Result<T, Refusal>> {
        retry::run(&self.retry, None, &self.report, async |this| {
            let answer = match self.exchange(call).await {
                Ok(answer) => answer,
                Err(failure) => {
                    return classify_failure(failure, call.attempt, this.number).map(Err);
                }
            };
            if !answer.status.is_success() {
                let failure = read_refusal(&answer);
                return classify_failure(failure, call.attempt, this.number).map(Err);
            }
            match read(answer) {
                Ok(read) => Attempt::Done(Ok(read)),
                Err(why) => {
                    let failure = Failure::Unreadable { why };
                    classify_failure(failure, call.attempt, this.number).map(Err)
                }
            }
        })
        .await
    }

    /// Sends a request once, and where GitHub redirects it to. reqwest's own redirects would turn a
    /// write into a read.
    async fn exchange(&self, call: &ApiCall<'_>) -> Result<ApiAnswer, Failure<'static>> {
        let (mut url, mut redirects) = (call.url.clone(), 0);
        let response = loop {
            let response = self.send_once(call, &url).await.map_err(read_failure)?;
            match self.find_redirect(call, &url, response.status(), response.headers()) {
                Some(to) if redirects < MOST_REDIRECTS => (url, redirects) = (to, redirects + 1),
                _ => break response,
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_body(response, LIMIT).await.map_err(|broken| match broken {
            Broken::Off(error) => read_failure(error),
            Broken::TooLong(limit) => {
                Failure::Unreadable { why: format!("it has more than {limit} bytes") }
            }
        })?;
        Ok(ApiAnswer { status, headers, body })
    }

    async fn send_once(&self, call: &ApiCall<'_>, url: &Url) -> reqwest::Result<Response> {
        let mut request = self
            .http
            .request(call.method.clone(), url.clone())
            .header(ACCEPT, call.accept)
            .header("x-github-api-version", "2022-11-28");
        if let Some(body) = call.body {
            request = request.json(body);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.send().await
    }

    /// Returns where a renamed repository is now: GitHub answers 301 to a read and 307 to a write.
    /// A write with another answer was not done, so it must not become a read.
    /// <https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects>
    fn find_redirect(
        &self,
        call: &ApiCall<'_>,
        from: &Url,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Url> {
        let follows = match status.as_u16() {
            301 | 302 => call.method == Method::GET,
            307 | 308 => true,
            _ => false,
        };
        let to = from.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
        (follows && self.is_ours(&to)).then_some(to)
    }

    /// Returns the address of the next page. One elsewhere is an error, as half a list would be a
    /// wrong answer.
    fn check_next(&self, next: &str, attempt: &str) -> Result<Url> {
        let url = self.base.join(next).ok();
        url.filter(|url| self.is_ours(url)).ok_or_else(|| {
            Error::refused(format!("cannot {attempt}"))
                .why(format!(
                    "the next page is said to be at {next}, and the token is for GITHUB_API_URL only"
                ))
                .fix("set GITHUB_API_URL to the address that this GitHub calls itself")
        })
    }

    /// Whether the token may go to an address: only to where it belongs.
    fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }
}

impl<'a> ApiCall<'a> {
    pub fn get(url: Url, attempt: &'a str) -> ApiCall<'a> {
        ApiCall { method: Method::GET, url, accept: JSON, body: None, attempt }
    }

    pub fn write(method: Method, url: Url, body: &'a Value, attempt: &'a str) -> ApiCall<'a> {
        ApiCall { method, url, accept: JSON, body: Some(body), attempt }
    }
}

fn format_bearer(token: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        Error::input("cannot use the GitHub token")
            .why("it has characters that no header may have, such as a line end")
            .fix("set GITHUB_TOKEN, or the input `github-token`, to the token alone")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads the address of the next page from `Link`.
/// <https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api>
fn find_next(headers: &HeaderMap) -> Option<String> {
    let links = headers.get(LINK)?.to_str().ok()?;
    let link = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(link.split_once('<')?.1.split_once('>')?.0.to_string())
}

/// Reads an answer that is no success.
fn read_refusal(answer: &ApiAnswer) -> Failure<'_> {
    #[derive(Default, Deserialize)]
    struct Body {
        #[serde(default)]
        message: String,
        #[serde(default)]
        errors: Vec<Value>,
    }
    let body = serde_json::from_slice::<Body>(&answer.body).unwrap_or_else(|_| Body {
        message: String::from_utf8_lossy(&answer.body).into_owned(),
        errors: Vec::new(),
    });
    let text = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    Failure::Answered {
        refusal: Refusal::new(answer.status.as_u16(), &body.message, &body.errors),
        limits: Limits {
            retry_after: text(RETRY_AFTER.as_str()),
            remaining: text("x-ratelimit-remaining"),
            reset: text("x-ratelimit-reset"),
            date: text(DATE.as_str()),
        },
    }
}

/// Reads why a request has no answer.
fn read_failure(error: reqwest::Error) -> Failure<'static> {
    let (timed_out, unreachable) = (error.is_timeout(), error.is_connect());
    let why = chain(&error.without_url());
    match unreachable {
        true => Failure::Unreachable { why },
        false => Failure::Lost { why, timed_out },
    }
}
