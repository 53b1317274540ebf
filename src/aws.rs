//! One AWS session per step: in GitHub Actions from the job's OIDC token and STS, elsewhere from the SDK's default chain.
//! Credentials live in memory only; they are never written to the environment, to a file or to an argument.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sts::error::ProvideErrorMetadata;

use crate::cli::Environ;
use crate::error::{Error, Result, chain};
use crate::github::oidc;
use crate::report::Report;

/// What STS expects as the token's audience.
/// <https://docs.github.com/en/actions/how-tos/secure-your-work/security-harden-deployments/oidc-in-aws>
const AUDIENCE: &str = "sts.amazonaws.com";

/// An open session in one region.
#[derive(Clone)]
pub struct Session {
    config: SdkConfig,
}

impl Session {
    /// Opens a session in `region`. With `role` and a job that may ask for an OIDC token, the role is assumed by it;
    /// outside GitHub the credentials of the SDK's default chain are used as they are.
    ///
    /// # Errors
    /// Refused, with the YAML or the trust policy to add, when the job has no OIDC token or STS will not give the role.
    pub async fn open(region: &str, role: Option<&str>, environ: &Environ, report: &Report) -> Result<Session> {
        let region = Region::new(region.to_string());
        let defaults =
            || aws_config::defaults(BehaviorVersion::latest()).region(region.clone()).timeout_config(patience());
        let Some(role) = role else {
            return Ok(Session { config: defaults().load().await });
        };
        match oidc::token(environ, AUDIENCE, report).await? {
            Some(token) => {
                let anonymous = defaults().no_credentials().load().await;
                let credentials = assume(&anonymous, role, &token, environ).await?;
                let provider = SharedCredentialsProvider::new(credentials);
                Ok(Session { config: defaults().credentials_provider(provider).load().await })
            }
            None if environ.on_github() => Err(Error::refused(format!("this job cannot get an OIDC token, and {role} is assumed by one"))
                .why("ACTIONS_ID_TOKEN_REQUEST_URL is not set: the job lacks the permission id-token: write")
                .fix("add to the job, and to the caller's job that `uses:` this workflow:\npermissions:\n  id-token: write\n  contents: read")),
            None => Ok(Session { config: defaults().load().await }),
        }
    }

    /// For the client of an SDK: `aws_sdk_ecs::Client::new(session.config())`.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Who this session is to IAM, by ARN: the role behind it, else the user. None when STS does not say.
    /// <https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html>
    pub async fn principal(&self) -> Option<String> {
        let answer = aws_sdk_sts::Client::new(&self.config).get_caller_identity().send().await.ok()?;
        answer.arn().map(principal_of)
    }
}

/// `arn:aws:sts::1:assumed-role/NAME/SESSION` is the role `arn:aws:iam::1:role/NAME`; others are themselves.
fn principal_of(arn: &str) -> String {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", partition, "sts", _, account, resource] => match resource.split('/').collect::<Vec<_>>().as_slice() {
            ["assumed-role", role, _] => format!("arn:{partition}:iam::{account}:role/{role}"),
            _ => arn.to_string(),
        },
        _ => arn.to_string(),
    }
}

/// How long a call may take: by itself the SDK bounds only connecting, and a silent endpoint would hold a deploy for ever.
fn patience() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(20))
        .operation_timeout(Duration::from_secs(60))
        .build()
}

/// STS AssumeRoleWithWebIdentity.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>
async fn assume(config: &SdkConfig, role: &str, token: &oidc::Token, environ: &Environ) -> Result<Credentials> {
    let run = environ.get("GITHUB_RUN_ID").unwrap_or("0");
    let answer = aws_sdk_sts::Client::new(config)
        .assume_role_with_web_identity()
        .role_arn(role)
        .role_session_name(format!("cicd-{run}"))
        .web_identity_token(token.value())
        .send()
        .await;
    let answer = answer.map_err(|error| {
        let code = error.code().unwrap_or_default().to_string();
        let refused = Error::refused(format!("STS does not give {role} to this job")).why(match error.message() {
            Some(message) => format!("{code}: {message}"),
            None => chain(&error),
        });
        match code.as_str() {
            "AccessDenied" => refused.fix(format!(
                "let the role's trust policy allow exactly this token: \"token.actions.githubusercontent.com:sub\": \"{}\", \
                 \"token.actions.githubusercontent.com:aud\": \"{AUDIENCE}\"",
                token.subject().unwrap_or_else(|| "unknown".into())
            )),
            "InvalidIdentityToken" => refused.fix(
                "create the IAM OIDC identity provider for https://token.actions.githubusercontent.com in the role's account",
            ),
            "ExpiredTokenException" => refused.fix("run the job again: the token was older than its five minutes"),
            _ => refused.fix("see that the role exists and that its trust policy names GitHub's identity provider"),
        }
    })?;
    let given = answer.credentials().ok_or_else(|| Error::unexpected("STS answered without credentials"))?;
    let expiry = std::time::SystemTime::try_from(*given.expiration()).ok();
    Ok(Credentials::new(
        given.access_key_id(),
        given.secret_access_key(),
        Some(given.session_token().to_string()),
        expiry,
        "github-oidc",
    ))
}

/// What AWS said, as our error: a denial names the IAM action to allow, everything else is unexpected.
///
/// `doing` says what was being done; `action` is the IAM action of the call: `ecs:DescribeServices`.
pub fn refusal<E, R>(doing: String, action: &str, error: &aws_sdk_sts::error::SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    let code = error.code().unwrap_or_default();
    let why = match error.message() {
        Some(message) => format!("{code}: {message}"),
        None => chain(error),
    };
    match code {
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "AccessDeniedError" => {
            Error::refused(doing).why(why).fix(format!("allow `{action}` in the role's policy"))
        }
        "ExpiredToken" | "ExpiredTokenException" | "UnrecognizedClientException" | "InvalidClientTokenId" => {
            Error::refused(doing).why(why).fix("the AWS credentials are not valid (any more): run the job again, or log in anew")
        }
        _ if matches!(error, aws_sdk_sts::error::SdkError::ConstructionFailure(_)) || why.contains("no providers in chain") => {
            Error::refused(doing).why(why).fix("there are no AWS credentials: in a job add `permissions: {id-token: write}` and a `role` in platform.yaml; on a laptop log in")
        }
        _ => Error::unexpected(doing).why(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_principal_is_the_role_behind_a_session() {
        let cases = [
            (
                "arn:aws:sts::111122223333:assumed-role/cicd-staging/cicd-7",
                "arn:aws:iam::111122223333:role/cicd-staging",
            ),
            ("arn:aws-cn:sts::1:assumed-role/r/s", "arn:aws-cn:iam::1:role/r"),
            ("arn:aws:iam::111122223333:user/ada", "arn:aws:iam::111122223333:user/ada"),
            ("arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:root"),
            ("what", "what"),
        ];
        for (arn, expected) in cases {
            assert_eq!(principal_of(arn), expected);
        }
    }
}
