//! GitHub's REST API: one client with its token, its bounds and its retries.
//!
//! <https://docs.github.com/en/rest/using-the-rest-api>

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, LINK, LOCATION, RETRY_AFTER,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::refusal::{Failure, Limits, Refusal, classify_failure};
use crate::cli::Environ;
use crate::error::{Cannot, Error, Result, chain};
use crate::http::{Broken, parse_safe, read_body, start_client_to};
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
    /// The header that carries the token.
    token: Option<HeaderValue>,
    retry: RetryPolicy,
    report: Report,
}

/// A complete answer: its status says whether it is a success.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// What a request carries.
#[derive(Clone, Copy)]
pub enum Body<'a> {
    None,
    Json(&'a Value),
    Bytes(&'a Bytes),
}

/// One request.
pub struct ApiCall<'a> {
    pub method: Method,
    pub url: Url,
    pub accept: &'a str,
    pub body: Body<'a>,
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
        let token = environ.get("INPUT_GITHUB-TOKEN").or_else(|| environ.get("GITHUB_TOKEN"));
        Client::open_with(token, environ, report)
    }

    /// Opens a client with a token of its own.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn open_with(token: Option<&str>, environ: &Environ, report: &Report) -> Result<Client> {
        let address = environ.get("GITHUB_API_URL").unwrap_or("https://api.github.com");
        let base = parse_safe("GITHUB_API_URL", address)?;
        let http = start_client_to(&base).timeout(TIMEOUT).build();
        let http = http.cannot(|| "make an HTTP client".into())?;
        if let Some(token) = token {
            report.mask(token);
        }
        let token = token.map(format_bearer).transpose()?;
        let (retry, report) = (RetryPolicy::DEFAULT, report.clone());
        Ok(Client { http, base, token, retry, report })
    }

    pub fn has_token(&self) -> bool {
        self.token.is_some()
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
        self.retry(call, |answer| answer.json()).await
    }

    /// Uploads bytes to where GitHub said.
    ///
    /// # Errors
    /// As [`Client::send`]; refused, if the address is none of this GitHub's.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        url: Url,
        bytes: &Bytes,
        attempt: &str,
    ) -> Result<Result<T, Refusal>> {
        if !self.may_get_token(&url) {
            return Err(Error::refused(format!("cannot {attempt}")).why(format!(
                "GitHub says to send it to {url}, and the token is for GITHUB_API_URL only"
            )));
        }
        let body = Body::Bytes(bytes);
        self.send(&ApiCall { method: Method::POST, url, accept: JSON, body, attempt }).await
    }

    /// As [`Client::send`], for an answer that is plain text.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_for_text(&self, call: &ApiCall<'_>) -> Result<Result<String, Refusal>> {
        self.retry(call, |answer| String::from_utf8(answer.body).map_err(|error| error.to_string()))
            .await
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
        let (mut found, mut next) = (Vec::new(), Some(url));
        for _ in 0..pages {
            let Some(url) = next else { break };
            let read = |answer: Answer| Ok((answer.next_page(), answer.json::<Vec<T>>()?));
            let page = self.retry(&ApiCall::get(url, attempt), read).await?;
            let (link, items) = page.map_err(|refusal| refusal.into_error(attempt))?;
            next = link.map(|next| self.check_next(&next, attempt)).transpose()?;
            found.extend(items);
        }
        Ok(found)
    }

    /// `read` takes what it wants of a success, or says why it cannot.
    async fn retry<T>(
        &self,
        call: &ApiCall<'_>,
        read: impl Fn(Answer) -> Result<T, String>,
    ) -> Result<Result<T, Refusal>> {
        retry::run(&self.retry, None, &self.report, async |this| {
            let decide = |failure| classify_failure(failure, call.attempt, this.number).map(Err);
            match self.exchange(call).await {
                Ok(answer) if answer.status.is_success() => match read(answer) {
                    Ok(found) => Attempt::Done(Ok(found)),
                    Err(why) => decide(Failure::Unreadable { why }),
                },
                Ok(answer) => decide(answer.failure()),
                Err(failure) => decide(failure),
            }
        })
        .await
    }

    /// Sends a request once, and where GitHub redirects it to. reqwest's own redirects would turn a
    /// write into a read.
    async fn exchange(&self, call: &ApiCall<'_>) -> Result<Answer, Failure<'static>> {
        let (mut url, mut redirects) = (call.url.clone(), 0);
        loop {
            let answer =
                self.request(call, &url).send().await.map_err(|error| find_failure(&error))?;
            match self.find_redirect(call, &url, &answer) {
                Some(to) if redirects < MOST_REDIRECTS => (url, redirects) = (to, redirects + 1),
                _ => return Answer::of(answer).await,
            }
        }
    }

    fn request(&self, call: &ApiCall<'_>, url: &Url) -> RequestBuilder {
        let request =
            self.http.request(call.method.clone(), url.clone()).header(ACCEPT, call.accept);
        let request = match &self.token {
            Some(token) if self.may_get_token(url) => request.header(AUTHORIZATION, token),
            _ => request,
        };
        match call.body {
            Body::None => request,
            Body::Json(body) => request.json(body),
            Body::Bytes(bytes) => {
                request.header(CONTENT_TYPE, "application/octet-stream").body(bytes.clone())
            }
        }
    }

    /// Returns where a renamed repository is now: GitHub answers 301 to a read and 307 to a write.
    /// A write with another answer was not done, so it must not become a read.
    /// <https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects>
    fn find_redirect(&self, call: &ApiCall<'_>, from: &Url, answer: &Response) -> Option<Url> {
        let follows = match answer.status().as_u16() {
            301 | 302 => call.method == Method::GET,
            307 | 308 => true,
            _ => false,
        };
        let to = from.join(answer.headers().get(LOCATION)?.to_str().ok()?).ok()?;
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

    /// Whether an address is one of the API that this client is for.
    fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Whether the token may go to an address: only to where it belongs.
    fn may_get_token(&self, url: &Url) -> bool {
        self.is_ours(url) || url.origin() == upload_address(&self.base).origin()
    }
}

impl Answer {
    /// Reads an answer to its end, up to [`LIMIT`].
    async fn of(answer: Response) -> Result<Answer, Failure<'static>> {
        let (status, headers) = (answer.status(), answer.headers().clone());
        match read_body(answer, LIMIT).await {
            Ok(body) => Ok(Answer { status, headers, body }),
            Err(Broken::Off(error)) => Err(find_failure(&error)),
            Err(Broken::TooLong(limit)) => {
                Err(Failure::Unreadable { why: format!("it has more than {limit} bytes") })
            }
        }
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body).map_err(|error| error.to_string())
    }

    /// Where the list goes on. An address may have a comma, so links are told apart by their `<`.
    /// <https://datatracker.ietf.org/doc/html/rfc8288#section-3>
    fn next_page(&self) -> Option<String> {
        let links = self.headers.get(LINK)?.to_str().ok()?.split('<').skip(1);
        let mut links = links.filter_map(|link| link.split_once('>'));
        let is_next = |part: &str| matches!(part.trim(), "rel=\"next\"" | "rel=next");
        let next = links.find(|(_, parameters)| parameters.split([';', ',']).any(is_next));
        next.map(|(address, _)| address.to_string())
    }

    /// What an answer says that is no success: mostly a message and errors, else its text.
    /// <https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api>
    fn failure(&self) -> Failure<'_> {
        #[derive(Default, Deserialize)]
        struct Said {
            message: Option<String>,
            errors: Option<Value>,
        }
        let said: Said = self.json().unwrap_or_default();
        let message = said.message.unwrap_or_else(|| {
            let text = String::from_utf8_lossy(&self.body).trim().to_string();
            let reason = self.status.canonical_reason().unwrap_or_default();
            if text.is_empty() { reason.to_string() } else { text }
        });
        let errors = match said.errors {
            Some(Value::Array(errors)) => errors,
            one => one.into_iter().collect(),
        };
        let text = |name: &str| self.headers.get(name)?.to_str().ok();
        Failure::Answered {
            refusal: Refusal::new(self.status.as_u16(), &message, &errors),
            limits: Limits {
                retry_after: text(RETRY_AFTER.as_str()),
                remaining: text("x-ratelimit-remaining"),
                reset: text("x-ratelimit-reset"),
                date: text(DATE.as_str()),
            },
        }
    }
}

impl<'a> ApiCall<'a> {
    pub fn get(url: Url, attempt: &'a str) -> ApiCall<'a> {
        ApiCall { method: Method::GET, url, accept: JSON, body: Body::None, attempt }
    }

    pub fn write(method: Method, url: Url, body: &'a Value, attempt: &'a str) -> ApiCall<'a> {
        ApiCall { method, url, accept: JSON, body: Body::Json(body), attempt }
    }
}

/// Where files are uploaded to: a host of its own on github.com, the API's elsewhere.
/// <https://docs.github.com/en/rest/releases/assets#upload-a-release-asset>
fn upload_address(base: &Url) -> Url {
    let mut url = base.clone();
    if base.host_str() == Some("api.github.com") && url.set_host(Some("uploads.github.com")).is_ok()
    {
        return url;
    }
    base.clone()
}

fn format_bearer(token: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        Error::input("cannot use the GitHub token")
            .why("it has characters that no header may have, such as a line end")
            .fix("set GITHUB_TOKEN, or the input `github-token` or `platform-token`, to the token alone")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn find_failure(error: &reqwest::Error) -> Failure<'static> {
    let why = chain(error);
    match error.is_connect() {
        true => Failure::Unreachable { why },
        false => Failure::Lost { why, timed_out: error.is_timeout() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: HeaderMap, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, headers, body: body.into() }
    }

    #[test]
    fn a_list_goes_on_where_its_link_says() {
        let page = "https://api.github.com/repositories/1/tags?page=2";
        for (link, next) in [
            (format!("<{page}>; rel=\"next\", <{page}0>; rel=\"last\""), Some(page)),
            (format!("<{page}0>; rel=\"last\",<{page}>;rel=\"next\""), Some(page)),
            (format!("<{page}>; title=\"a\"; rel=next"), Some(page)),
            ("</x?after=a,b;c>; rel=\"next\"".into(), Some("/x?after=a,b;c")),
            (format!("<{page}>; rel=\"prev\", <{page}>; rel=\"first\""), None),
            (String::new(), None),
        ] {
            let value = HeaderValue::from_str(&link).expect("a header");
            let answer = answer(200, HeaderMap::from_iter([(LINK, value)]), "[]");
            assert_eq!(answer.next_page().as_deref(), next, "{link}");
        }
        assert_eq!(answer(200, HeaderMap::new(), "[]").next_page(), None);
    }

    #[test]
    fn a_refusal_is_read_whatever_form_it_has() {
        for (body, words) in [
            (r#"{"message":"Not Found","status":"404"}"#, "Not Found"),
            (r#"{"message":"No","errors":["a text"]}"#, "No; a text"),
            (r#"{"message":"No","errors":"a text"}"#, "No; a text"),
            (r#"{"message":"No","errors":null}"#, "No"),
            ("<html>bad</html>", "<html>bad</html>"),
            ("", "Not Found"),
        ] {
            let answer = answer(404, HeaderMap::new(), body);
            let Failure::Answered { refusal, .. } = answer.failure() else { panic!("{body}") };
            assert_eq!((refusal.status, refusal.words.as_str()), (404, words), "{body}");
        }
    }
}
