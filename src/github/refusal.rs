//! What GitHub's answers mean: worth a retry, done before, a name that is used up, or a refusal
//! with its fix. Pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::Value;

use crate::error::{Error, Kind};
use crate::retry::Attempt;
use crate::retry::policy::read_retry_after;

/// More of an answer's words than this is not shown.
const SHOWN: usize = 400;

/// Tries where nobody listens: a wrong address stays wrong.
const FEW: u32 = 3;

/// An answer that is no success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// GitHub's message and those of its errors, on one line.
    pub words: String,
    /// `already_exists`, `custom`:
    /// <https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api>
    pub codes: Vec<String>,
}

/// The headers that say when the next request may succeed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    pub retry_after: Option<&'a str>,
    pub remaining: Option<&'a str>,
    /// Seconds since 1970.
    pub reset: Option<&'a str>,
    pub date: Option<&'a str>,
}

/// Why one try of a request has no result.
#[derive(Clone, Debug)]
pub enum Failure<'a> {
    Answered {
        refusal: Refusal,
        limits: Limits<'a>,
    },
    /// Nobody listens at the address, or the host is unknown.
    Unreachable {
        why: String,
    },
    /// The connection broke, or no answer came in time.
    Lost {
        why: String,
        timed_out: bool,
    },
    /// The answer is complete, and not what it should be.
    Unreadable {
        why: String,
    },
}

/// What the refusal of a write means to the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Something of that name exists.
    Exists,
    /// The name belonged to an immutable release, and can never be used again.
    Burned,
    /// The ref would move aside, not forward.
    NotForward,
    /// A ruleset forbids the ref, or its name belonged to an immutable release. Only the
    /// publication of a release tells which.
    Restricted,
    /// A refusal; see [`Refusal::into_error`].
    No,
}

/// Decides what the retry loop does after try number `number` (from 1) of `attempt`. A refusal that
/// stays the same is a result.
pub fn classify_failure(failure: Failure<'_>, attempt: &str, number: u32) -> Attempt<Refusal> {
    let headline = || format!("cannot {attempt}");
    let again = "run it again: it goes on from what is there";
    match failure {
        Failure::Answered { refusal, limits } => match refusal.retry_after(&limits) {
            None => Attempt::Done(refusal),
            Some(after) if matches!(refusal.status, 403 | 429) => {
                Attempt::Retry { why: limits.into_error(attempt, &refusal.words), after }
            }
            Some(after) => Attempt::Retry { why: refusal.into_error(attempt), after },
        },
        Failure::Unreachable { why } => {
            let why = Error::unexpected(headline())
                .why(why)
                .fix("see that GITHUB_API_URL is right and reachable from here");
            match number < FEW {
                true => Attempt::Retry { why, after: None },
                false => Attempt::Refused(why),
            }
        }
        Failure::Lost { why, timed_out } => {
            let kind = if timed_out { Kind::TimedOut } else { Kind::Unexpected };
            Attempt::Retry { why: Error::new(kind, headline()).why(why).fix(again), after: None }
        }
        Failure::Unreadable { why } => Attempt::Refused(
            Error::unexpected(headline()).why(format!("GitHub's answer cannot be read: {why}")),
        ),
    }
}

impl Refusal {
    /// Reads an answer: its message, and its errors, which are texts or objects with a code and
    /// mostly a message.
    pub fn new(status: u16, message: &str, errors: &[Value]) -> Refusal {
        let (mut words, mut codes) = (message.to_string(), Vec::new());
        for error in errors {
            let field = |name: &str| error.get(name).and_then(Value::as_str);
            let text = match (error.as_str(), field("message"), field("field"), field("code")) {
                (Some(text), ..) | (_, Some(text), ..) => text.to_string(),
                (_, _, Some(name), Some(code)) => format!("{name} {code}"),
                (_, _, _, Some(code)) => code.to_string(),
                _ => continue,
            };
            codes.extend(field("code").map(str::to_string));
            words = if words.is_empty() { text } else { format!("{words}; {text}") };
        }
        let words: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = words.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        Refusal { status, words, codes }
    }

    /// Whether the same request may succeed later, and the pause that GitHub asks for.
    /// <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit>
    pub fn retry_after(&self, limits: &Limits<'_>) -> Option<Option<Duration>> {
        let limited = limits.retry_after.is_some()
            || limits.remaining == Some("0")
            || self.says(&["rate limit", "abuse detection"]);
        match self.status {
            429 | 403 if limited => Some(Some(limits.pause())),
            408 | 425 | 429 | 500 | 502 | 503 | 504 => {
                Some(read_retry_after(limits.retry_after, limits.date))
            }
            _ => None,
        }
    }

    pub fn meaning(&self) -> Meaning {
        let code = |wanted: &str| self.codes.iter().any(|code| code == wanted);
        match self.status {
            // GitHub says this of refs and of releases, with different codes.
            403 | 422 if self.says(&["immutable release"]) => Meaning::Burned,
            422 if self.says(&["already exists"]) || code("already_exists") => Meaning::Exists,
            422 if self.says(&["creations being restricted"]) && !self.says(&["pre_receive"]) => {
                Meaning::Restricted
            }
            422 if self.says(&["not a fast forward", "not a fast-forward"]) => Meaning::NotForward,
            _ => Meaning::No,
        }
    }

    /// Turns the refusal of `attempt` (`create the tag v1.4.0 in clinicult/patients`) into our
    /// error, with the fix.
    pub fn into_error(self, attempt: &str) -> Error {
        let fix = match self.status {
            401 => {
                "in a workflow leave out `github-token`, on a laptop set GITHUB_TOKEN anew: the token \
                 is wrong or has expired"
            }
            300..=399 => {
                "write the repository's new name (--github-repository, or `git remote set-url origin`)"
            }
            403 if self.says(&["saml"]) => {
                "authorise the token for the organisation's single sign-on (Settings → Developer \
                 settings → the token → Configure SSO)"
            }
            403 if self.says(&["ip allow list"]) => {
                "put this runner's address on the organisation's list of allowed addresses"
            }
            403 | 422
                if self.says(&[
                    "rule violation",
                    "repository rule",
                    "being restricted",
                    "protected",
                ]) =>
            {
                "leave the service's tags out of the ruleset that forbids it (Settings → Rules → \
                 Rulesets, those that target tags), or put a GitHub App on its bypass list and hand \
                 that app's token in as `github-token`; a tag of an immutable release can never be \
                 moved, with no ruleset at all"
            }
            403 if self.says(&["archived"]) => "unarchive the repository to release from it",
            403 | 404 if self.says(&["`workflows` permission"]) => {
                "release from the default branch, or hand in the token of a GitHub App with \
                 `workflows: write` as `github-token`: the job's own token may not tag a commit with \
                 other workflow files than the default branch has"
            }
            403 => {
                "give the job `permissions: {contents: write}`, and the workflow that calls \
                 service.yml, too; a token of your own needs Contents: write"
            }
            404 => {
                "see that the repository's name is right, and that the token may read it: a job \
                 needs `permissions: {contents: write}`; GitHub answers 404 for what the token may \
                 not know of"
            }
            409 | 422 if self.says(&["no commit found", "object does not exist", "is empty"]) => {
                "push the commit to GitHub first: `git push`"
            }
            _ => "",
        };
        let why = match self.words.is_empty() {
            true => format!("GitHub answered HTTP {}", self.status),
            false => format!("GitHub answered HTTP {}: {}", self.status, self.words),
        };
        match fix {
            "" => Error::unexpected(format!("cannot {attempt}"))
                .why(why)
                .fix("run it again: it goes on from what is there"),
            fix => Error::refused(format!("cannot {attempt}: refused")).why(why).fix(fix),
        }
    }

    fn says(&self, any: &[&str]) -> bool {
        let words = self.words.to_ascii_lowercase();
        any.iter().any(|text| words.contains(text))
    }
}

impl Limits<'_> {
    /// The pause that GitHub asks for: Retry-After, else until the reset of a limit that is used
    /// up, else the minute that its guide names.
    fn pause(&self) -> Duration {
        let reset = || {
            let reset: i64 = self.reset.filter(|_| self.remaining == Some("0"))?.parse().ok()?;
            let now = rfc2822::parse(self.date?).ok()?.timestamp().as_second();
            // The named second ends a second later.
            Some(Duration::from_secs(u64::try_from(reset.saturating_sub(now)).unwrap_or(0) + 1))
        };
        let asked = read_retry_after(self.retry_after, self.date);
        asked.or_else(reset).unwrap_or(Duration::from_secs(60))
    }

    /// The error if the limit lasts longer than the retries.
    pub fn into_error(self, attempt: &str, words: &str) -> Error {
        let until = self
            .reset
            .and_then(|reset| reset.parse().ok())
            .and_then(|at| Timestamp::from_second(at).ok());
        let fix = match until {
            Some(until) => format!("run it again after {until}: it goes on from what is there"),
            None => "run it again in a few minutes: it goes on from what is there".into(),
        };
        Error::new(Kind::TimedOut, format!("cannot {attempt}"))
            .why(format!("GitHub limits the rate of requests: {words}"))
            .fix(fix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The refusal of an answer with this body, which is JSON or stands for its own message.
    fn refusal(status: u16, body: &str) -> Refusal {
        let read: Value = serde_json::from_str(body).unwrap_or_default();
        let errors = read["errors"].as_array().cloned().unwrap_or_default();
        Refusal::new(status, read["message"].as_str().unwrap_or(body), &errors)
    }

    #[test]
    fn words_are_read_from_every_form_and_tamed() {
        let cases = [
            (r#"{"message":"Reference already exists"}"#, "Reference already exists", ""),
            (
                r#"{"message":"Validation Failed","errors":[{"resource":"Release","code":"already_exists","field":"tag_name"}]}"#,
                "Validation Failed; tag_name already_exists",
                "already_exists",
            ),
            (
                r#"{"message":"Validation Failed","errors":[{"code":"custom","message":"tag_name was used by an immutable release"}]}"#,
                "Validation Failed; tag_name was used by an immutable release",
                "custom",
            ),
            (r#"{"message":"No","errors":["a text"]}"#, "No; a text", ""),
            ("<html>\n bad\u{1b}[31m </html>", "<html> bad[31m </html>", ""),
            ("", "", ""),
        ];
        for (body, words, codes) in cases {
            let refusal = refusal(422, body);
            assert_eq!(
                (refusal.words.as_str(), refusal.codes.join(" ").as_str()),
                (words, codes),
                "{body}"
            );
        }
        assert_eq!(refusal(500, &"ä".repeat(9000)).words.chars().count(), SHOWN);
    }

    #[test]
    fn what_passes_is_told_from_what_does_not_and_how_long_it_takes() {
        let date = Some("Mon, 23 Nov 2026 03:26:13 GMT");
        let none = Limits::default();
        let after = |retry_after| Limits { retry_after: Some(retry_after), date, ..none };
        let used_up = Limits { remaining: Some("0"), reset: Some("1795404383"), date, ..none };
        // None: no retry; Some(None): a retry after our own backoff.
        let cases: &[(u16, &str, Limits<'_>, Option<Option<u64>>)] = &[
            (403, "You have exceeded a secondary rate limit", after("7"), Some(Some(7))),
            (403, "You have exceeded a secondary rate limit", none, Some(Some(60))),
            (403, "You have triggered an abuse detection mechanism", none, Some(Some(60))),
            (403, "API rate limit exceeded for installation", used_up, Some(Some(11))),
            (429, "", used_up, Some(Some(11))),
            (429, "", after("0"), Some(Some(0))),
            (429, "", none, Some(None)),
            (502, "", none, Some(None)),
            (503, "", after("3"), Some(Some(3))),
            (403, "Resource not accessible by integration", none, None),
            (
                403,
                "Resource not accessible by integration",
                Limits { remaining: Some("59"), ..none },
                None,
            ),
            (422, "Reference already exists", none, None),
            (404, "Not Found", none, None),
            (501, "", none, None),
        ];
        for (status, words, limits, expected) in cases {
            let refusal = refusal(*status, words);
            let expected = expected.map(|wait| wait.map(Duration::from_secs));
            assert_eq!(refusal.retry_after(limits), expected, "{status} {words} {limits:?}");
        }
        let error = used_up.into_error("create the tag v1", "API rate limit exceeded");
        assert_eq!(
            (error.kind, error.advice().contains("2026-11-23T03:26:23Z")),
            (Kind::TimedOut, true)
        );
    }

    #[test]
    fn every_refusal_has_its_meaning_and_its_fix() {
        use Meaning::*;
        let cases: &[(u16, &str, Meaning, Kind, &str)] = &[
            (401, r#"{"message":"Bad credentials"}"#, No, Kind::Refused, "GITHUB_TOKEN"),
            (
                403,
                r#"{"message":"Resource not accessible by integration"}"#,
                No,
                Kind::Refused,
                "permissions: {contents: write}",
            ),
            (
                422,
                r#"{"message":"Repository rule violations found\n\nCannot create ref due to creations being restricted.\n\n"}"#,
                Restricted,
                Kind::Refused,
                "bypass list",
            ),
            (
                422,
                r#"{"message":"Validation Failed","errors":[{"resource":"Release","code":"custom","field":"pre_receive","message":"pre_receive Repository rule violations found\n\nCannot create ref due to creations being restricted.\n\n"},{"resource":"Release","code":"custom","message":"Published releases must have a valid tag"}]}"#,
                No,
                Kind::Refused,
                "bypass list",
            ),
            (
                422,
                r#"{"message":"Validation Failed","errors":[{"resource":"Release","code":"custom","field":"pre_receive","message":"pre_receive Repository rule violations found\n\nCannot create ref due to creations being restricted.\n\n"},{"resource":"Release","code":"custom","field":"tag_name","message":"tag_name was used by an immutable release"},{"resource":"Release","code":"custom","message":"Published releases must have a valid tag"}]}"#,
                Burned,
                Kind::Refused,
                "",
            ),
            (
                422,
                r#"{"message":"Repository rule violations found\n\nCannot update this protected ref.\n\n","status":"422"}"#,
                No,
                Kind::Refused,
                "immutable release",
            ),
            (
                403,
                r#"{"message":"Resource protected by organization SAML enforcement. You must grant your Personal Access token access to this organization."}"#,
                No,
                Kind::Refused,
                "SSO",
            ),
            (
                403,
                r#"{"message":"Although you appear to have the correct authorization credentials, the `clinicult` organization has an IP allow list enabled, and your IP address is not permitted to access this resource."}"#,
                No,
                Kind::Refused,
                "allowed addresses",
            ),
            (301, r#"{"message":"Moved Permanently"}"#, No, Kind::Refused, "--github-repository"),
            (
                403,
                r#"{"message":"Protected tag: creation is not allowed"}"#,
                No,
                Kind::Refused,
                "Rulesets",
            ),
            (
                403,
                r#"{"message":"Repository was archived so is read-only."}"#,
                No,
                Kind::Refused,
                "unarchive",
            ),
            (
                403,
                r#"{"message":"refusing to allow a GitHub App to create or update workflow `.github/workflows/ci.yml` without `workflows` permission"}"#,
                No,
                Kind::Refused,
                "workflows: write",
            ),
            (404, r#"{"message":"Not Found"}"#, No, Kind::Refused, "contents: write"),
            (422, r#"{"message":"Object does not exist"}"#, No, Kind::Refused, "git push"),
            (409, r#"{"message":"Git Repository is empty."}"#, No, Kind::Refused, "git push"),
            (422, r#"{"message":"Reference already exists"}"#, Exists, Kind::Unexpected, "again"),
            (
                422,
                r#"{"message":"Validation Failed","errors":[{"code":"already_exists","field":"tag_name"}]}"#,
                Exists,
                Kind::Unexpected,
                "again",
            ),
            (
                422,
                r#"{"message":"Validation Failed","errors":[{"code":"custom","message":"tag_name was used by an immutable release"}]}"#,
                Burned,
                Kind::Unexpected,
                "again",
            ),
            (
                422,
                r#"{"message":"Update is not a fast forward"}"#,
                NotForward,
                Kind::Unexpected,
                "again",
            ),
            (418, "", No, Kind::Unexpected, "again"),
        ];
        for (status, body, meaning, kind, fix) in cases {
            let refusal = refusal(*status, body);
            assert_eq!(refusal.meaning(), *meaning, "{body}");
            let error = refusal.into_error("create the tag v1");
            assert_eq!(error.kind, *kind, "{body}: {error}");
            assert!(error.advice().contains(fix), "{body}: {:?}", error.fixes);
        }
    }

    #[test]
    fn every_failure_is_classified() {
        struct Case {
            failure: Failure<'static>,
            number: u32,
            expected: &'static str,
            kind: Option<Kind>,
        }
        let answered = |status, body, retry_after| Failure::Answered {
            refusal: refusal(status, body),
            limits: Limits { retry_after, ..Limits::default() },
        };
        let why = || "no".to_string();
        let unreachable = || Failure::Unreachable { why: why() };
        let lost = |timed_out| Failure::Lost { why: why(), timed_out };
        let case = |failure, number, expected, kind| Case { failure, number, expected, kind };
        let limited = "API rate limit exceeded";
        let cases = [
            case(answered(404, "Not Found", None), 1, "result", None),
            case(answered(301, "Moved", None), 1, "result", None),
            case(answered(422, "Reference already exists", None), 9, "result", None),
            case(answered(502, "", None), 1, "retry", Some(Kind::Unexpected)),
            case(answered(503, "", Some("3")), 9, "retry in 3", Some(Kind::Unexpected)),
            case(answered(429, limited, None), 1, "retry in 60", Some(Kind::TimedOut)),
            case(answered(403, limited, Some("7")), 1, "retry in 7", Some(Kind::TimedOut)),
            case(unreachable(), 2, "retry", Some(Kind::Unexpected)),
            case(unreachable(), 3, "refuse", Some(Kind::Unexpected)),
            case(lost(false), 9, "retry", Some(Kind::Unexpected)),
            case(lost(true), 9, "retry", Some(Kind::TimedOut)),
            case(Failure::Unreadable { why: why() }, 1, "refuse", Some(Kind::Unexpected)),
        ];
        for Case { failure, number, expected, kind } in cases {
            let shown = format!("{failure:?} {number}");
            let (found, error) = match classify_failure(failure, "read the tags", number) {
                Attempt::Done(_) => ("result".to_string(), None),
                Attempt::Retry { why, after: None } => ("retry".into(), Some(why)),
                Attempt::Retry { why, after: Some(after) } => {
                    (format!("retry in {}", after.as_secs()), Some(why))
                }
                Attempt::Reauthorize { why } => ("reauthorize".into(), Some(why)),
                Attempt::Refused(why) => ("refuse".into(), Some(why)),
            };
            assert_eq!(
                (found.as_str(), error.as_ref().map(|e| e.kind)),
                (expected, kind),
                "{shown}"
            );
            let headline = |error: &Error| error.message.starts_with("cannot read the tags");
            assert!(error.as_ref().is_none_or(headline), "{shown}: {error:?}");
        }
    }
}
