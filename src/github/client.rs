//! GitHub's REST API by octocrab: one client with its token, its bounds and its retries. octocrab
//! sends through our own HTTP client, so that proxies and certificates are the same everywhere.
//!
//! <https://docs.github.com/en/rest/using-the-rest-api>

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
};
use http::{Method, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{LengthLimitError, Limited};
use octocrab::service::middleware::auth_header::AuthHeaderLayer;
use octocrab::service::middleware::base_uri::BaseUriLayer;
use octocrab::service::middleware::reqwest_connector::ReqwestConnector;
use octocrab::{
    AuthState, FromResponse, OctoBody, Octocrab, OctocrabBuilder, Page, map_github_error,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_http::map_response_body::MapResponseBodyLayer;
use url::Url;

use super::refusal::{Failure, Limits, Refusal, classify_failure};
use crate::cli::Environ;
use crate::error::{Cannot, Error, Result, chain};
use crate::http::{parse_safe, start_client_to};
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

/// An answer whose body is read up to [`LIMIT`].
type ApiResponse = http::Response<BoxBody<Bytes, octocrab::Error>>;

/// The API of one GitHub, with a token or without.
pub struct Client {
    octocrab: Octocrab,
    base: Url,
    has_token: bool,
    retry: RetryPolicy,
    report: Report,
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
    /// GITHUB_TOKEN. It needs a runtime, as octocrab starts a task for its queue.
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
        let uri: Uri = base.as_str().parse().cannot(|| format!("use GITHUB_API_URL {address}"))?;
        let uploads = upload_address(&base).as_str().parse();
        let uploads: Uri = uploads.cannot(|| format!("use GITHUB_API_URL {address}"))?;
        let http = start_client_to(&base).timeout(TIMEOUT).build();
        let http = http.cannot(|| "make an HTTP client".into())?;
        if let Some(token) = token {
            report.mask(token);
        }
        let header = token.map(format_bearer).transpose()?;
        let Ok(octocrab) = OctocrabBuilder::new_empty()
            .with_service(ReqwestConnector::new(http))
            .with_layer(&MapResponseBodyLayer::new(|body| Limited::new(body, LIMIT)))
            .with_layer(&BaseUriLayer::new(uri.clone()))
            .with_layer(&AuthHeaderLayer::new(header, uri, uploads))
            .with_auth(AuthState::None)
            .build();
        let (retry, report) = (RetryPolicy::DEFAULT, report.clone());
        Ok(Client { octocrab, base, has_token: token.is_some(), retry, report })
    }

    pub fn has_token(&self) -> bool {
        self.has_token
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
    pub async fn send<T: FromResponse>(&self, call: &ApiCall<'_>) -> Result<Result<T, Refusal>> {
        self.retry(call, async |response| T::from_response(response).await).await
    }

    /// Uploads bytes to where GitHub said.
    ///
    /// # Errors
    /// As [`Client::send`]; refused, if the address is none of this GitHub's.
    pub async fn upload<T: FromResponse>(
        &self,
        url: Url,
        bytes: &Bytes,
        attempt: &str,
    ) -> Result<Result<T, Refusal>> {
        if !self.is_ours(&url) && url.origin() != upload_address(&self.base).origin() {
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
        self.retry(call, async |response| self.octocrab.body_to_string(response).await).await
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
            let page = self.send::<Page<T>>(&ApiCall::get(url, attempt)).await?;
            let page = page.map_err(|refusal| refusal.into_error(attempt))?;
            next = page.next.map(|next| self.check_next(&next, attempt)).transpose()?;
            found.extend(page.items);
        }
        Ok(found)
    }

    async fn retry<T>(
        &self,
        call: &ApiCall<'_>,
        read: impl AsyncFn(ApiResponse) -> octocrab::Result<T>,
    ) -> Result<Result<T, Refusal>> {
        retry::run(&self.retry, None, &self.report, async |this| {
            let answered = match self.exchange(call).await {
                Ok(response) => read(response).await,
                Err(error) => Err(error),
            };
            match answered {
                Ok(answer) => Attempt::Done(Ok(answer)),
                Err(error) => {
                    classify_failure(read_failure(&error), call.attempt, this.number).map(Err)
                }
            }
        })
        .await
    }

    /// Sends a request once, and where GitHub redirects it to. octocrab's and reqwest's own
    /// redirects would turn a write into a read.
    async fn exchange(&self, call: &ApiCall<'_>) -> octocrab::Result<ApiResponse> {
        let (mut url, mut redirects) = (call.url.clone(), 0);
        loop {
            let request = http::Request::builder()
                .method(call.method.clone())
                .uri(url.as_str())
                .header(ACCEPT, call.accept);
            let request = match call.body {
                Body::None => self.octocrab.build_request(request, None::<&()>)?,
                Body::Json(body) => self.octocrab.build_request(request, Some(body))?,
                Body::Bytes(bytes) => {
                    let request = request.header(CONTENT_TYPE, "application/octet-stream");
                    let request = self.octocrab.build_request(request, None::<&()>)?;
                    let mut request = request.map(|_| OctoBody::from(bytes.clone()));
                    // octocrab writes the length of no body.
                    request.headers_mut().insert(CONTENT_LENGTH, bytes.len().into());
                    request
                }
            };
            let response = self.octocrab.execute(request).await?;
            match self.find_redirect(call, &url, response.status(), response.headers()) {
                Some(to) if redirects < MOST_REDIRECTS => (url, redirects) = (to, redirects + 1),
                _ => return map_github_error(response).await,
            }
        }
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
    fn check_next(&self, next: &Uri, attempt: &str) -> Result<Url> {
        let url = self.base.join(&next.to_string()).ok();
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

/// Reads what went wrong from octocrab's error.
fn read_failure(error: &octocrab::Error) -> Failure<'_> {
    if let octocrab::Error::GitHub { source, .. } = error {
        let errors = source.errors.as_deref().unwrap_or_default();
        let text = |name: &str| source.headers.as_ref()?.get(name)?.to_str().ok();
        return Failure::Answered {
            refusal: Refusal::new(source.status_code.as_u16(), &source.message, errors),
            limits: Limits {
                retry_after: text(RETRY_AFTER.as_str()),
                remaining: text("x-ratelimit-remaining"),
                reset: text("x-ratelimit-reset"),
                date: text(DATE.as_str()),
            },
        };
    }
    if find_source::<LengthLimitError>(error).is_some() {
        return Failure::Unreadable { why: format!("it has more than {LIMIT} bytes") };
    }
    match find_source::<reqwest::Error>(error) {
        Some(error) if error.is_connect() => Failure::Unreachable { why: chain(error) },
        Some(error) => Failure::Lost { why: chain(error), timed_out: error.is_timeout() },
        None => Failure::Unreadable { why: chain(error) },
    }
}

fn find_source<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
