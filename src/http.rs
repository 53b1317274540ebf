//! HTTP as this program speaks it: the one place that makes a client.
//!
//! The rules of the wire: secrets go over TLS, or to this machine; an answer is read up to a bound;
//! nobody is waited for without end. Proxies come from the environment (`HTTPS_PROXY`, `NO_PROXY`),
//! certificates from the system or from `SSL_CERT_FILE` and `SSL_CERT_DIR`.

use std::time::Duration;

use futures::StreamExt;
use reqwest::redirect::Policy;
use reqwest::{ClientBuilder, Response, Url};

use crate::error::{Error, Result};

/// The longest time until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Redirects that one request follows where it may.
const MOST_REDIRECTS: usize = 5;

/// A client that goes where it is sent by us only: no answer sends it elsewhere. The caller sets
/// the time that an answer may take.
pub fn start_client() -> ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::none())
        .user_agent(format!("cicd/{}", crate::VERSION))
}

/// [`start_client`], for a place that is known: what stays on this machine goes through no proxy,
/// which would hear it.
pub fn start_client_to(url: &Url) -> ClientBuilder {
    let client = start_client();
    if is_loopback(url) { client.no_proxy() } else { client }
}

/// Follows a redirect that neither leaves TLS nor leads from elsewhere to this machine. Credentials
/// do not follow to another host: the library sees to that.
pub fn follow_safely() -> Policy {
    Policy::custom(|attempt| {
        let (known, to) = (attempt.previous(), attempt.url());
        let allowed = known.last().is_some_and(|from| may_lead(from, to));
        if allowed && known.len() <= MOST_REDIRECTS { attempt.follow() } else { attempt.stop() }
    })
}

/// Whether an answer from `from` may send us on to `to`: by TLS, and to this machine only when it
/// is this machine that says so.
pub fn may_lead(from: &Url, to: &Url) -> bool {
    is_safe(to) && (!is_loopback(to) || is_loopback(from))
}

/// Whether secrets may go there: TLS, or a loopback that nobody else hears.
pub fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => is_loopback(url),
        _ => false,
    }
}

/// Whether a URL leads to this machine, and names it by an address or by `localhost`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Reads the address of something that gets a secret. `name` is what the address is called.
///
/// # Errors
/// Bad input, when it is no web address, or one without TLS that is not this machine.
pub fn parse_safe(name: &str, address: &str) -> Result<Url> {
    let wrong = |why: &str| {
        Error::input(format!("cannot use {name} `{}`", address.escape_default()))
            .why(why)
            .fix(format!("set {name} to https://HOST; http:// is for localhost only"))
    };
    let url = Url::parse(address).map_err(|error| wrong(&error.to_string()))?;
    match () {
        () if url.cannot_be_a_base() || !url.has_host() => Err(wrong("it names no host")),
        () if !is_safe(&url) => Err(wrong("credentials do not go over plain HTTP")),
        () => Ok(url),
    }
}

/// Why a body is not there.
#[derive(Debug)]
pub enum Broken {
    /// The answer broke off, or did not come in time.
    Off(reqwest::Error),
    /// It is longer than the bound, which is given in bytes.
    TooLong(usize),
}

/// Reads the body of an answer, at most `limit` bytes.
///
/// # Errors
/// When it breaks off or is longer; the rest is not read.
pub async fn read_body(answer: Response, limit: usize) -> Result<Vec<u8>, Broken> {
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(Broken::Off)?;
        if body.len() + chunk.len() > limit {
            return Err(Broken::TooLong(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_by_tls_or_stay_on_this_machine() {
        let cases = [
            ("https://api.github.com", true),
            ("http://127.0.0.1:4566", true),
            ("http://[::1]:4566", true),
            ("http://localhost:4566", true),
            ("http://10.0.0.7:4566", false),
            ("http://localhost.evil.example", false),
            ("http://127.0.0.1.evil.example", false),
            ("http://127.0.0.1@evil.example", false),
            ("http://169.254.169.254/latest", false),
            ("ftp://127.0.0.1", false),
            ("https:", false),
            ("mailto:a@b", false),
            ("unix:///run/x", false),
            ("", false),
        ];
        for (address, safe) in cases {
            let parsed = parse_safe("the endpoint", address);
            assert_eq!(parsed.is_ok(), safe, "{address}");
            assert!(parsed.is_ok() || parsed.expect_err("bad").kind.exit_code() == 2, "{address}");
        }
    }

    #[test]
    fn a_redirect_leads_neither_from_tls_nor_to_this_machine() {
        let cases = [
            ("https://a.example/x", "https://b.example/y", true),
            ("https://a.example/x", "http://a.example/x", false),
            ("https://a.example/x", "http://127.0.0.1:2375/x", false),
            ("https://a.example/x", "https://localhost/x", false),
            ("http://localhost:5000/x", "http://127.0.0.1:5001/x", true),
            ("http://localhost:5000/x", "http://169.254.169.254/x", false),
        ];
        for (from, to, allowed) in cases {
            let url = |text| Url::parse(text).expect("a URL");
            assert_eq!(may_lead(&url(from), &url(to)), allowed, "{from} → {to}");
        }
    }
}
