//! The job's OIDC token.
//!
//! <https://docs.github.com/en/actions/reference/security/oidc>

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::cli::Environ;
use crate::error::{Cannot, Error, Result};
use crate::report::Report;

/// A token as GitHub signed it. Shows itself as `***`.
pub struct Token(String);

impl Token {
    pub fn value(&self) -> &str {
        &self.0
    }

    /// The `sub` claim, which trust policies are written against. Read without checking the
    /// signature: STS does that.
    pub fn subject(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Claims {
            sub: String,
        }
        let payload = self.0.split('.').nth(1)?;
        let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
        serde_json::from_slice::<Claims>(&bytes).ok().map(|claims| claims.sub)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Asks for a token for `audience`; none where the job has not been given the means.
///
/// # Errors
/// Unexpected, when GitHub does not answer or refuses three times.
pub async fn token(environ: &Environ, audience: &str, report: &Report) -> Result<Option<Token>> {
    #[derive(Deserialize)]
    struct Answer {
        value: String,
    }
    let (Some(url), Some(bearer)) = (
        environ.get("ACTIONS_ID_TOKEN_REQUEST_URL"),
        environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
    ) else {
        return Ok(None);
    };
    report.mask(bearer);
    let mut url = url::Url::parse(url).cannot(|| "read ACTIONS_ID_TOKEN_REQUEST_URL".into())?;
    url.query_pairs_mut().append_pair("audience", audience);
    let client = reqwest::Client::builder()
        .timeout(std::time::Duration::from_secs(10))
        .build()
        .cannot(|| "make an HTTP client".into())?;
    let mut last = None;
    for attempt in 0..3_u64 {
        tokio::time::sleep(std::time::Duration::from_millis(500 * attempt)).await;
        let answer = client
            .get(url.clone())
            .bearer_auth(bearer)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        match answer {
            Ok(answer) => {
                let answer: Answer =
                    answer.json().await.cannot(|| "read GitHub's OIDC token".into())?;
                report.mask(&answer.value);
                return Ok(Some(Token(answer.value)));
            }
            Err(error) => last = Some(error.without_url()),
        }
    }
    let why = last.map(|error| crate::error::chain(&error)).unwrap_or_default();
    Err(Error::unexpected("GitHub gave no OIDC token in three tries")
        .why(why)
        .fix("run the job again"))
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
            assert_eq!(Token(format!("h.{payload}.s")).subject().as_deref(), Some(subject));
        }
        for bad in ["", "a.b.c", "no-dots"] {
            assert_eq!(Token(bad.into()).subject(), None);
        }
    }

    #[test]
    fn a_token_does_not_show_itself() {
        assert_eq!(format!("{:?}", Token("secret".into())), "***");
    }
}
