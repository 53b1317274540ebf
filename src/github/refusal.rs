//! What GitHub's answers mean: pass in a moment, done before, a name that is used up, or no, with
//! the fix. Pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::Deserialize;

use crate::error::{Error, Kind};
use crate::patience::asked;

/// More of an answer's words than this is not shown.
const SHOWN: usize = 400;

/// An answer that is no success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub status: u16,
    /// GitHub's message and those of its errors, on one line.
    pub words: String,
    /// `already_exists`, `custom`:
    /// <https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api>
    pub codes: Vec<String>,
}

/// The headers that say when to come back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    pub retry_after: Option<&'a str>,
    pub remaining: Option<&'a str>,
    /// Seconds since 1970.
    pub reset: Option<&'a str>,
    pub date: Option<&'a str>,
}

/// What a refusal of a write is, to who wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// There is one of that name.
    Exists,
    /// The name belonged to an immutable release: it can never be used again.
    Burned,
    /// A ref would not go forward but aside.
    NotForward,
    /// A ref of that name may not be made: a ruleset forbids it, or the name belonged to an
    /// immutable release. Only who publishes a release is told which.
    Restricted,
    /// No; see [`Said::into_error`].
    No,
}

impl Said {
    /// Reads the body of an answer.
    pub fn read(status: u16, body: &[u8]) -> Said {
        #[derive(Default, Deserialize)]
        struct Body {
            #[serde(default)]
            message: String,
            #[serde(default)]
            errors: Vec<serde_json::Value>,
        }
        let read = serde_json::from_slice::<Body>(body);
        let (mut words, errors) = match read {
            Ok(body) => (body.message, body.errors),
            Err(_) => (String::from_utf8_lossy(body).into_owned(), Vec::new()),
        };
        let mut codes = Vec::new();
        for error in errors {
            // An error is a text, or an object with a code and mostly a message.
            let field = |name: &str| error.get(name).and_then(serde_json::Value::as_str);
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
        Said { status, words, codes }
    }

    /// Whether the same request may get another answer in a moment, and after how long GitHub wants
    /// to be asked again.
    /// <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit>
    pub fn passing(&self, limits: &Limits<'_>) -> Option<Option<Duration>> {
        let limited = limits.retry_after.is_some()
            || limits.remaining == Some("0")
            || self.says(&["rate limit", "abuse detection"]);
        match self.status {
            429 | 403 if limited => Some(Some(limits.wait())),
            408 | 425 | 429 | 500 | 502 | 503 | 504 => Some(asked(limits.retry_after, limits.date)),
            _ => None,
        }
    }

    pub fn meaning(&self) -> Meaning {
        let code = |wanted: &str| self.codes.iter().any(|code| code == wanted);
        match self.status {
            // First: GitHub says it of refs and of releases, with different codes.
            403 | 422 if self.says(&["immutable release"]) => Meaning::Burned,
            422 if self.says(&["already exists"]) || code("already_exists") => Meaning::Exists,
            422 if self.says(&["creations being restricted"]) && !self.says(&["pre_receive"]) => {
                Meaning::Restricted
            }
            422 if self.says(&["not a fast forward", "not a fast-forward"]) => Meaning::NotForward,
            _ => Meaning::No,
        }
    }

    /// The refusal of `attempt` (`create the tag v1.4.0 in clinicult/patients`) as our error, with
    /// the fix.
    pub fn into_error(self, attempt: &str) -> Error {
        let fix = match self.status {
            401 => {
                "the token is wrong or has expired: in a workflow leave out `github-token`; on a laptop set GITHUB_TOKEN anew"
            }
            300..=399 => {
                "the repository has another name now: write that one (--github-repository, or `git remote set-url origin`)"
            }
            403 if self.says(&["saml"]) => {
                "the organisation wants single sign-on: authorise the token for it (Settings → Developer settings → the token → Configure SSO)"
            }
            403 if self.says(&["ip allow list"]) => {
                "the organisation lets in known addresses only: put this runner's on its list of allowed addresses"
            }
            403 | 422
                if self.says(&[
                    "rule violation",
                    "repository rule",
                    "being restricted",
                    "protected",
                ]) =>
            {
                "a ruleset forbids it (Settings → Rules → Rulesets, those that target tags): leave the service's tags out of it, or put a GitHub App on \
                 its bypass list and hand that app's token in as `github-token`; a tag of an immutable release can never be moved, with no ruleset at all"
            }
            403 if self.says(&["archived"]) => {
                "the repository is archived: unarchive it to release from it"
            }
            403 | 404 if self.says(&["`workflows` permission"]) => {
                "the job's own token may not tag a commit with other workflow files than the default branch has: release from the default branch, or hand \
                 in the token of a GitHub App with `workflows: write` as `github-token`"
            }
            403 => {
                "the token may not write: give the job `permissions: {contents: write}`, and the workflow that calls service.yml, too; a token of your own \
                 needs Contents: write"
            }
            404 => {
                "see that the repository's name is right, and that the token may read it: a job needs `permissions: {contents: write}`; GitHub answers 404 \
                 to who may not know that it is there"
            }
            409 | 422 if self.says(&["no commit found", "object does not exist", "is empty"]) => {
                "GitHub does not have this commit: `git push` first"
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
    /// What GitHub asks for: Retry-After, else the reset of the limit that is used up, else the
    /// minute that its guide names.
    fn wait(&self) -> Duration {
        let reset = || {
            let reset: i64 = self.reset.filter(|_| self.remaining == Some("0"))?.parse().ok()?;
            let now = rfc2822::parse(self.date?).ok()?.timestamp().as_second();
            // The second that is named is over a second later.
            Some(Duration::from_secs(u64::try_from(reset.saturating_sub(now)).unwrap_or(0) + 1))
        };
        asked(self.retry_after, self.date).or_else(reset).unwrap_or(Duration::from_secs(60))
    }

    /// The limit is used up for longer than anybody waits.
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

    fn said(status: u16, body: &str) -> Said {
        Said::read(status, body.as_bytes())
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
            let said = said(422, body);
            assert_eq!(
                (said.words.as_str(), said.codes.join(" ").as_str()),
                (words, codes),
                "{body}"
            );
        }
        assert_eq!(said(500, &"ä".repeat(9000)).words.chars().count(), SHOWN);
    }

    #[test]
    fn what_passes_is_told_from_what_does_not_and_how_long_it_takes() {
        let date = Some("Mon, 23 Nov 2026 03:26:13 GMT");
        let none = Limits::default();
        let after = |retry_after| Limits { retry_after: Some(retry_after), date, ..none };
        let used_up = Limits { remaining: Some("0"), reset: Some("1795404383"), date, ..none };
        // None: it does not pass; Some(None): our own pauses.
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
            let said = Said { status: *status, words: words.to_string(), codes: vec![] };
            let expected = expected.map(|wait| wait.map(Duration::from_secs));
            assert_eq!(said.passing(limits), expected, "{status} {words} {limits:?}");
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
            let said = said(*status, body);
            assert_eq!(said.meaning(), *meaning, "{body}");
            let error = said.into_error("create the tag v1");
            assert_eq!(error.kind, *kind, "{body}: {error}");
            assert!(error.advice().contains(fix), "{body}: {:?}", error.fixes);
        }
    }
}
