//! Answers that no registry should give; see [`crate::fuzz`].

use reqwest::{Response, Url};

use super::address::Address;
use super::challenge::Challenge;
use super::{cause, client};
use crate::fuzz::{HEADERS, bytes_of, text_of, try_inputs};
use crate::http::{is_loopback, is_safe};
use crate::layout::Digest;

const CHALLENGES: [&str; 16] = [
    "Bearer ",
    "bearer\t",
    "Basic ",
    "realm=\"https://auth.example/token\"",
    "realm=\"http://169.254.169.254/latest\"",
    "realm=\"http://localhost:1/\"",
    "realm=https://a",
    "realm=\"",
    "service=\"registry\"",
    "scope=\"repository:a/b:pull,push\"",
    ",",
    "=",
    "\"",
    "\\\"",
    "error=\"invalid_token\"",
    "https://user:password@[::1]:99999/",
];

#[test]
fn no_challenge_sends_a_token_elsewhere() {
    try_inputs(text_of(&CHALLENGES), |header| {
        let Some(challenge) = Challenge::parse(&header) else { return };
        let registry = Url::parse("https://registry.example").expect("a URL");
        if let Ok(url) = challenge.url(&registry, "a/b", Some("c/d")) {
            assert!(is_safe(&url) && !is_loopback(&url), "{url}");
        }
    });
}

const LOCATIONS: [&str; 14] = [
    "/v2/a/b/blobs/uploads/1?_state=x",
    "https://storage.example/x?signature=y",
    "http://127.0.0.1:2375/containers",
    "http://169.254.169.254/latest/meta-data",
    "//evil.example/x",
    "\\\\evil.example\\x",
    "https://registry.example/v2/",
    "https://registry.example@evil.example/",
    "https://registry.example:443/",
    "file:///etc/passwd",
    "javascript:x",
    "../../..",
    "?",
    "#",
];

#[test]
fn no_upload_leaves_tls() {
    try_inputs(text_of(&LOCATIONS), |location| {
        let address = Address::parse("registry.example/a/b").expect("an address");
        if let Ok(url) = address.upload(&location, &Digest::of(b"")) {
            assert!(is_safe(&url) && !is_loopback(&url), "{url}");
        }
        let _ = Address::parse(&location);
    });
}

const ANSWERS: [&str; 14] = [
    "{\"errors\": [",
    "{\"code\": \"NAME_UNKNOWN\", \"message\": \"no\"}",
    "{\"code\": \"TOOMANYREQUESTS\"}",
    "{\"code\": 7}",
    "{\"code\": \"DENIED\", \"detail\": [{\"Type\": \"repository\"}]}",
    "{\"__type\": \"ThrottlingException\"}",
    "{\"token\": \"x\", \"access_token\": 1}",
    "The repository with name 'a' does not exist in the registry with id '1'",
    "not authorized to perform: ecr:InitiateLayerUpload on resource: arn:aws:ecr",
    "no basic auth credentials",
    "<html>",
    "]}",
    ",",
    "\n",
];

#[test]
fn any_answer_is_judged() {
    let header = || proptest::option::of(text_of(&HEADERS));
    let answer = (100..600_u16, bytes_of(&ANSWERS), header(), header(), text_of(&CHALLENGES));
    try_inputs(answer, |(status, body, retry_after, date, challenge)| {
        let words = String::from_utf8_lossy(&body).into_owned();
        let _ = cause::find_cause(Some(status), &words).fix("allow it", "create it");
        let mut answer = http::Response::builder().status(status);
        let named = [("retry-after", retry_after), ("date", date)];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (name, value) in named.chain([("www-authenticate", challenge)]) {
            if let Ok(value) = http::HeaderValue::from_str(&value) {
                answer = answer.header(name, value);
            }
        }
        let answer: Response = answer.body(body).expect("an answer").into();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _ = runtime.block_on(client::check_success(answer, None)).is_ok();
    });
}
