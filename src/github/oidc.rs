//! The job's OIDC token.
//!
//! <https://docs.github.com/en/actions/reference/security/oidc>

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::cli::Environ;
use crate::error::{Cannot, Error, Kind, Result, chain};
use crate::http::{self, Broken};
use crate::report::Report;
use crate::retry::{self, Attempt, RetryPolicy};

/// The longest answer with a token that is read, in bytes.
const LIMIT: usize = 64 * 1024;

/// The time in which GitHub must answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A token is wanted by a step that waits for it: three tries, within seconds.
const RETRIES: RetryPolicy = RetryPolicy { attempts: 3, ..RetryPolicy::DEFAULT };

/// A token as GitHub signed it. Its debug form is `***`.
pub struct Token(String);

impl Token {
    pub fn value(&self) -> &str {
        &self.0
    }

    /// The claims, which trust policies are written against. STS checks the signature.
    pub fn claims(&self) -> Option<Claims> {
        let payload = self.0.split('.').nth(1)?;
        let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// What a token says of its job.
/// <https://docs.github.com/en/actions/reference/security/oidc#oidc-token-claims>
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Claims {
    pub sub: String,
    pub iss: Option<String>,
    pub repository: Option<String>,
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    pub environment: Option<String>,
    pub job_workflow_ref: Option<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Fetches a token for `audience`; `None` if the job may not ask for one.
///
/// # Errors
/// Refused, if GitHub refuses; unexpected, if it does not answer after all retries.
pub async fn fetch_token(
    environ: &Environ,
    audience: &str,
    report: &Report,
) -> Result<Option<Token>> {
    let (Some(url), Some(bearer)) = (
        environ.get("ACTIONS_ID_TOKEN_REQUEST_URL"),
        environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
    ) else {
        return Ok(None);
    };
    report.mask(bearer);
    let mut url = http::parse_safe("ACTIONS_ID_TOKEN_REQUEST_URL", url)?;
    url.query_pairs_mut().append_pair("audience", audience);
    let client = http::start_client_to(&url).timeout(TIMEOUT).build();
    let client = client.cannot(|| "make an HTTP client".into())?;
    let answer = retry::run(&RETRIES, None, report, async |_| {
        let sent = client.get(url.clone()).bearer_auth(bearer).send().await;
        let (status, body) = match sent {
            Ok(answer) => (Some(answer.status().as_u16()), http::read_body(answer, LIMIT).await),
            Err(error) => (None, Err(Broken::Off(error))),
        };
        let body = body.map_err(|broken| match broken {
            Broken::Off(error) => chain(&error.without_url()),
            Broken::TooLong(limit) => format!("the answer has more than {limit} bytes"),
        });
        classify_answer(status, body)
    })
    .await?;
    report.mask(&answer);
    Ok(Some(Token(answer)))
}

/// Decides what the retry loop does about an answer: its status, `None` if there was none, and its
/// body, or why there is none.
fn classify_answer(status: Option<u16>, body: Result<Vec<u8>, String>) -> Attempt<String> {
    #[derive(Deserialize)]
    struct Answer {
        value: String,
    }
    let error =
        |kind, why: String| Error::new(kind, "cannot get an OIDC token from GitHub").why(why);
    let retry = |why| Attempt::Retry {
        why: error(Kind::Unexpected, why).fix("run the job again"),
        after: None,
    };
    match (status, body) {
        (Some(200..=299), Ok(body)) => match serde_json::from_slice::<Answer>(&body) {
            Ok(answer) if !answer.value.is_empty() => Attempt::Done(answer.value),
            _ => retry("the answer has no token".into()),
        },
        (Some(408 | 425 | 429 | 500..) | None, Ok(_)) => {
            retry(format!("HTTP {}", status.unwrap_or_default()))
        }
        (Some(status), Ok(_)) => Attempt::Refused(
            error(Kind::Refused, format!("HTTP {status}"))
                .fix("run the job again, and give it `permissions: {id-token: write}`"),
        ),
        (_, Err(why)) => retry(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_read_in_both_forms() {
        for subject in [
            "repo:clinicult/patients:environment:staging",
            "repo:clinicult@7/patients@9:ref:refs/heads/main",
        ] {
            let payload = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{subject}","aud":"x"}}"#));
            let claims = Token(format!("h.{payload}.s")).claims().expect("claims");
            assert_eq!(claims.sub, subject);
        }
        for bad in ["", "a.b.c", "no-dots"] {
            assert_eq!(Token(bad.into()).claims(), None);
        }
    }

    #[test]
    fn a_token_does_not_show_itself() {
        assert_eq!(format!("{:?}", Token("secret".into())), "***");
    }

    #[test]
    fn every_answer_is_classified() {
        let token = r#"{"value":"h.p.s","count":1}"#;
        let cases = [
            (Some(200), Ok(token), "done"),
            (Some(200), Ok("{}"), "retry"),
            (Some(200), Ok(r#"{"value":""}"#), "retry"),
            (Some(200), Ok("<html>"), "retry"),
            (Some(200), Err("broke off"), "retry"),
            (Some(302), Ok(""), "refuse"),
            (Some(401), Ok(""), "refuse"),
            (Some(403), Ok(token), "refuse"),
            (Some(408), Ok(""), "retry"),
            (Some(429), Ok(""), "retry"),
            (Some(500), Ok(""), "retry"),
            (Some(503), Err("broke off"), "retry"),
            (None, Err("timed out"), "retry"),
        ];
        for (status, body, expected) in cases {
            let body = body.map(|text| text.as_bytes().to_vec()).map_err(str::to_string);
            let found = match classify_answer(status, body.clone()) {
                Attempt::Done(value) => {
                    assert_eq!(value, "h.p.s");
                    "done"
                }
                Attempt::Retry { .. } => "retry",
                Attempt::Reauthorize { .. } => "reauthorize",
                Attempt::Refused(error) => {
                    assert_eq!(error.kind, Kind::Refused);
                    "refuse"
                }
            };
            assert_eq!(found, expected, "{status:?} {body:?}");
        }
    }
}
