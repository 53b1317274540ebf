//! What is wrong with one try of a request, and whether the retry loop tries again. Pure.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use super::cause::{Cause, find_cause};
use crate::error::Error;
use crate::retry::Attempt;
use crate::retry::policy::read_retry_after;

/// More of a registry's words than this is not shown.
const SHOWN: usize = 400;

/// Tries where nobody listens, or nobody answers in time: each of them takes long enough.
const FEW: u32 = 3;

/// The codes of a blob or a session that a registry may know in a moment.
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>
const NOT_YET_KNOWN: [&str; 3] = ["BLOB_UPLOAD_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN"];

/// Why one try did not succeed.
#[derive(Debug)]
pub enum Fault {
    /// It may go away by itself. Without a status there was no answer.
    Transient { status: Option<StatusCode>, why: String, after: Option<Duration> },
    /// The registry gets too many requests at a time.
    Throttled { why: String, after: Option<Duration> },
    /// Nobody listens at the address, or the host is unknown.
    Unreachable { why: String },
    /// No answer came in time.
    Stalled { why: String },
    /// 401, or a token that ran out. `used` is the number of the refused authorisation.
    Unauthorised { challenge: Option<String>, used: Option<u32>, why: String },
    /// The registry refused in words, and will do so again.
    Answered { status: StatusCode, why: String },
    /// It will not go away.
    Final(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Final(error)
    }
}

/// An answer that is no success.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    pub status: StatusCode,
    /// `WWW-Authenticate`.
    pub challenge: Option<&'a str>,
    /// The number of the authorisation that the request had.
    pub used: Option<u32>,
    pub retry_after: Option<&'a str>,
    pub date: Option<&'a str>,
    pub body: &'a [u8],
}

impl Refusal<'_> {
    /// The fault that the answer stands for.
    pub fn into_fault(self) -> Fault {
        let after = read_retry_after(self.retry_after, self.date);
        let (status, used) = (self.status, self.used);
        let (codes, why) = read_words(status, self.body);
        let expired = find_cause(Some(status.as_u16()), &why) == Cause::Expired;
        if status == StatusCode::UNAUTHORIZED || expired {
            let challenge = self.challenge.map(str::to_string);
            return Fault::Unauthorised { challenge, used, why };
        }
        match (is_throttled(status, &codes, &why), is_transient(status, &codes)) {
            (true, _) => Fault::Throttled { why, after },
            (_, true) => Fault::Transient { status: Some(status), why, after },
            _ => Fault::Answered { status, why },
        }
    }
}

/// Decides what the retry loop does about the fault of try number `number` (from 1). `is_new` says
/// that the repository was just created; `why` is the error if no try is left.
pub fn classify_fault<T>(fault: &Fault, number: u32, is_new: bool, why: Error) -> Attempt<T> {
    match fault {
        Fault::Transient { after, .. } | Fault::Throttled { after, .. } => {
            Attempt::Retry { why, after: *after }
        }
        Fault::Stalled { .. } | Fault::Unreachable { .. } if number < FEW => {
            Attempt::Retry { why, after: None }
        }
        // ECR finishes creating a repository after it said so.
        Fault::Answered { status, why: words }
            if is_new && find_cause(Some(status.as_u16()), words) == Cause::Repository =>
        {
            Attempt::Retry { why, after: None }
        }
        Fault::Unauthorised { .. } => Attempt::Reauthorize { why },
        Fault::Stalled { .. }
        | Fault::Unreachable { .. }
        | Fault::Answered { .. }
        | Fault::Final(_) => Attempt::Refused(why),
    }
}

/// Whether the registry asks for fewer requests at a time. ECR says so with 400, too.
fn is_throttled(status: StatusCode, codes: &[String], why: &str) -> bool {
    match status.as_u16() {
        429 | 503 => true,
        400 => codes.iter().any(|code| code == "TOOMANYREQUESTS") || why.contains("Throttling"),
        _ => false,
    }
}

/// Whether the same request may get another answer in a moment.
fn is_transient(status: StatusCode, codes: &[String]) -> bool {
    match status.as_u16() {
        408 | 425 | 500 | 502 | 504 => true,
        // The upload session is gone, or has other bytes: a new one has not.
        416 => true,
        // The check of a manifest can be behind the blobs that were just uploaded.
        400 | 404 => codes.iter().any(|code| NOT_YET_KNOWN.contains(&code.as_str())),
        _ => false,
    }
}

/// Reads the codes and the words of a registry's error.
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>
fn read_words(status: StatusCode, body: &[u8]) -> (Vec<String>, String) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal<'_> {
        Refusal {
            status: StatusCode::from_u16(status).expect("a status"),
            challenge: None,
            used: Some(4),
            retry_after: Some("7"),
            date: None,
            body: body.as_bytes(),
        }
    }

    /// What the retry loop would do.
    fn decide(fault: &Fault, number: u32, is_new: bool) -> String {
        match classify_fault::<()>(fault, number, is_new, Error::unexpected("cannot push")) {
            Attempt::Done(()) => "done".into(),
            Attempt::Retry { after: None, .. } => "retry".into(),
            Attempt::Retry { after: Some(after), .. } => format!("retry in {}", after.as_secs()),
            Attempt::Reauthorize { .. } => "reauthorize".into(),
            Attempt::Refused(_) => "refuse".into(),
        }
    }

    #[test]
    fn every_answer_is_classified() {
        let cases = [
            (401, "", "reauthorize"),
            (403, r#"{"errors":[{"code":"DENIED"}]}"#, "refuse"),
            (
                403,
                r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired."}]}"#,
                "reauthorize",
            ),
            (408, "", "retry in 7"),
            (425, "", "retry in 7"),
            (429, "", "retry in 7"),
            (500, "", "retry in 7"),
            (501, "", "refuse"),
            (502, "<html>", "retry in 7"),
            (503, "<html>", "retry in 7"),
            (504, "", "retry in 7"),
            (416, "", "retry in 7"),
            (404, r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}"#, "retry in 7"),
            (404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no"}]}"#, "refuse"),
            (400, r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#, "retry in 7"),
            (400, r#"{"__type":"ThrottlingException"}"#, "retry in 7"),
            (400, r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#, "retry in 7"),
            (400, r#"{"errors":[{"code":"TAG_INVALID","message":"immutable"}]}"#, "refuse"),
            (400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#, "refuse"),
            (413, "", "refuse"),
            (307, "", "refuse"),
        ];
        for (status, body, expected) in cases {
            let fault = refusal(status, body).into_fault();
            assert_eq!(decide(&fault, 1, false), expected, "{status} {body}");
            // The number of tries is the policy's business, not the answer's.
            assert_eq!(decide(&fault, 9, false), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_throttled_request_is_told_from_one_that_failed() {
        for (status, body, throttled) in [
            (429, "", true),
            (503, "", true),
            (400, r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#, true),
            (500, "", false),
            (408, "", false),
        ] {
            let fault = refusal(status, body).into_fault();
            assert_eq!(matches!(fault, Fault::Throttled { .. }), throttled, "{status}");
        }
    }

    #[test]
    fn what_gets_no_answer_is_tried_a_few_times() {
        let why = || "no".to_string();
        let stalled = Fault::Stalled { why: why() };
        let unreachable = Fault::Unreachable { why: why() };
        let broken = Fault::Transient { status: None, why: why(), after: None };
        let done = Fault::Final(Error::input("broken"));
        let unknown = refusal(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#).into_fault();
        struct Case<'a> {
            fault: &'a Fault,
            number: u32,
            is_new: bool,
            expected: &'a str,
        }
        let case = |fault, number, is_new, expected| Case { fault, number, is_new, expected };
        let cases = [
            case(&stalled, 1, false, "retry"),
            case(&stalled, 2, false, "retry"),
            case(&stalled, 3, false, "refuse"),
            case(&unreachable, 2, false, "retry"),
            case(&unreachable, 3, true, "refuse"),
            case(&broken, 3, false, "retry"),
            case(&broken, 99, false, "retry"),
            case(&unknown, 1, true, "retry"),
            case(&unknown, 1, false, "refuse"),
            case(&done, 1, true, "refuse"),
        ];
        for Case { fault, number, is_new, expected } in cases {
            assert_eq!(decide(fault, number, is_new), expected, "{fault:?} {number}");
        }
    }

    #[test]
    fn a_registrys_words_are_shown_tamed() {
        let (codes, why) = read_words(
            StatusCode::FORBIDDEN,
            br#"{"errors":[{"code":"DENIED","message":"not\n::error::you\u001b[31m"}]}"#,
        );
        assert_eq!(codes, ["DENIED"]);
        assert_eq!(why, "HTTP 403 Forbidden: DENIED: not ::error::you[31m");
        let (_, why) = read_words(StatusCode::BAD_GATEWAY, "ä".repeat(9000).as_bytes());
        assert!(why.chars().count() < 450);
        assert_eq!(read_words(StatusCode::NOT_FOUND, b"").1, "HTTP 404 Not Found");
    }
}
