//! One AWS session per step: in GitHub Actions from the job's OIDC token and STS, elsewhere from
//! the SDK's default chain. Credentials live in memory only; they are never written to the
//! environment, to a file or to an argument.

pub mod bucket;
pub mod call;
pub mod document;
pub mod policy;
pub mod query;
mod trust;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sts::error::ProvideErrorMetadata;

use crate::cli::Environ;
use crate::error::{Error, Result, chain};
use crate::github::oidc;
use crate::http;
use crate::report::Report;
use trust::DeniedRole;

/// What STS expects as the token's audience.
/// <https://docs.github.com/en/actions/how-tos/secure-your-work/security-harden-deployments/oidc-in-aws>
const AUDIENCE: &str = "sts.amazonaws.com";

/// A role that a job's token is exchanged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role<'a> {
    pub arn: &'a str,
    /// The session may only read, whatever the role itself may do.
    pub reads_only: bool,
}

impl Role<'_> {
    /// What a session may do, when that is less than the role may: the actions in it are those that
    /// both allow.
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies.html#policies_session>
    fn session_policy(self) -> Option<String> {
        self.reads_only.then(read_only_policy)
    }
}

/// What a plan looks at, and no value of a secret. At most 2048 characters, as STS takes no more.
fn read_only_policy() -> String {
    let everywhere = [
        "apigateway:GET",
        "application-autoscaling:Describe*",
        "ec2:Describe*",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGet*",
        "ecr:Describe*",
        "ecr:Get*",
        "ecr:List*",
        "ecs:Describe*",
        "ecs:List*",
        "eks:Describe*",
        "eks:List*",
        "elasticloadbalancing:Describe*",
        "iam:GetRole",
        "iam:SimulatePrincipalPolicy",
        "inspector2:List*",
        "logs:Describe*",
        "logs:GetLogEvents",
        "scheduler:GetSchedule",
        "s3:GetBucket*",
        "s3:GetEncryptionConfiguration",
        "s3:GetLifecycleConfiguration",
        "s3:ListAllMyBuckets",
        "s3:ListBucket",
        "secretsmanager:DescribeSecret",
        "secretsmanager:ListSecrets",
        "servicequotas:Get*",
        "ssm:DescribeParameters",
        "tag:Get*",
    ];
    serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            { "Effect": "Allow", "Action": everywhere, "Resource": "*" },
            // What this program itself wrote down of deploys.
            { "Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:*:s3:::*/cicd/*" },
        ],
    })
    .to_string()
}

/// An open session in one region.
#[derive(Clone)]
pub struct Session {
    config: SdkConfig,
    report: Report,
    /// The account of the role that was assumed.
    account: Option<String>,
}

impl Session {
    /// Opens a session in `region`. With `role` and a job that may ask for an OIDC token, the role
    /// is assumed by it; outside GitHub the credentials of the SDK's default chain are used as they
    /// are.
    ///
    /// # Errors
    /// Refused, with the YAML or the trust policy to add, when the job has no OIDC token or STS
    /// will not give the role.
    pub async fn open(
        region: &str,
        role: Option<Role<'_>>,
        environ: &Environ,
        report: &Report,
    ) -> Result<Session> {
        require_safe_endpoints(environ)?;
        let region = Region::new(region.to_string());
        let defaults = || {
            aws_config::defaults(BehaviorVersion::latest())
                .region(region.clone())
                .timeout_config(limit_time())
                .retry_config(limit_retries())
        };
        let report = report.clone();
        let Some(role) = role else {
            return Ok(Session { config: defaults().load().await, report, account: None });
        };
        match oidc::fetch_token(environ, AUDIENCE, &report).await? {
            Some(token) => {
                let anonymous = defaults().no_credentials().load().await;
                let credentials = assume(&anonymous, role, &token, environ).await?;
                let provider = SharedCredentialsProvider::new(credentials);
                let config = defaults().credentials_provider(provider).load().await;
                Ok(Session { config, report, account: account_of(role.arn) })
            }
            None if environ.on_github() => Err(Error::refused(format!(
                "cannot get an OIDC token for this job, and {} is assumed by one",
                role.arn
            ))
                .why("ACTIONS_ID_TOKEN_REQUEST_URL is not set: the job lacks the permission id-token: write")
                .fix("add to the job, and to the caller's job that `uses:` this workflow:\npermissions:\n  id-token: write\n  contents: read")),
            None => Ok(Session { config: defaults().load().await, report, account: None }),
        }
    }

    /// For the client of an SDK: `aws_sdk_ecs::Client::new(session.config())`.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Where the retries of this session's calls are told.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The account that this session is of. None when STS does not say.
    pub async fn account(&self) -> Option<String> {
        if let Some(account) = &self.account {
            return Some(account.clone());
        }
        let answer = aws_sdk_sts::Client::new(&self.config).get_caller_identity().send().await;
        answer.ok()?.account
    }

    /// Who this session is to IAM, by ARN: the role behind it, else the user. None when STS does
    /// not say.
    /// <https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html>
    pub async fn principal(&self) -> Option<String> {
        let answer =
            aws_sdk_sts::Client::new(&self.config).get_caller_identity().send().await.ok()?;
        answer.arn().map(principal_of)
    }
}

/// The account in an ARN.
pub fn account_of(arn: &str) -> Option<String> {
    arn.split(':').nth(4).filter(|account| !account.is_empty()).map(str::to_string)
}

/// `arn:aws:sts::1:assumed-role/NAME/SESSION` is the role `arn:aws:iam::1:role/NAME`; others are
/// themselves.
fn principal_of(arn: &str) -> String {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", partition, "sts", _, account, resource] => {
            match resource.split('/').collect::<Vec<_>>().as_slice() {
                ["assumed-role", role, _] => format!("arn:{partition}:iam::{account}:role/{role}"),
                _ => arn.to_string(),
            }
        }
        _ => arn.to_string(),
    }
}

/// The addresses that the SDK is sent to instead of AWS get the job's token and the session's, and
/// answer with passwords.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
fn require_safe_endpoints(environ: &Environ) -> Result<()> {
    let endpoints = environ.iter().filter(|(name, _)| name.starts_with("AWS_ENDPOINT_URL"));
    endpoints.into_iter().try_for_each(|(name, value)| http::parse_safe(name, value).map(drop))
}

/// Returns what the SDK tries again by itself, where no deploy writes: with backoff and jitter, what
/// its own classification calls transient or throttled.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html>
fn limit_retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3)
}

/// Returns the timeouts of every SDK client: by itself the SDK bounds only connecting, and a silent
/// endpoint would hold a deploy for ever.
fn limit_time() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(20))
        .operation_timeout(Duration::from_secs(60))
        .build()
}

/// STS AssumeRoleWithWebIdentity.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>
async fn assume(
    config: &SdkConfig,
    role: Role<'_>,
    token: &oidc::Token,
    environ: &Environ,
) -> Result<Credentials> {
    let (policy, role) = (role.session_policy(), role.arn);
    let run = environ.get("GITHUB_RUN_ID").unwrap_or("0");
    let answer = aws_sdk_sts::Client::new(config)
        .assume_role_with_web_identity()
        .role_arn(role)
        .role_session_name(format!("cicd-{run}"))
        .web_identity_token(token.value())
        .set_policy(policy)
        .send()
        .await;
    let answer = answer.map_err(|error| {
        let claims = token.claims();
        let region = config.region().map_or("", |region| region.as_ref());
        let denied = DeniedRole { arn: role, region, claims: claims.as_ref() };
        explain_denied(&denied, &error)
    })?;
    let given = answer
        .credentials()
        .ok_or_else(|| Error::unexpected("cannot read the answer of STS: it has no credentials"))?;
    let expiry = std::time::SystemTime::try_from(*given.expiration()).ok();
    Ok(Credentials::new(
        given.access_key_id(),
        given.secret_access_key(),
        Some(given.session_token().to_string()),
        expiry,
        "github-oidc",
    ))
}

/// A role that STS did not give, or did not answer for, as our error.
fn explain_denied<E, R>(
    denied: &DeniedRole<'_>,
    error: &aws_sdk_sts::error::SdkError<E, R>,
) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    use aws_sdk_sts::error::SdkError;
    if matches!(error, SdkError::DispatchFailure(_) | SdkError::TimeoutError(_)) {
        return Error::refused(format!("cannot reach STS for {}: no answer", denied.arn))
            .why(chain(error))
            .fix(denied.remedy_unreachable());
    }
    let code = error.code().unwrap_or_default();
    let why = match error.message() {
        Some(message) => format!("{code}: {message}"),
        None => chain(error),
    };
    let why = match denied.claims {
        Some(claims) => format!("{why}; {}", trust::describe_claims(claims)),
        None => why,
    };
    let refused =
        Error::refused(format!("cannot assume {}: STS does not give it to this job", denied.arn));
    let fixes = denied.remedies(code, &why);
    fixes.into_iter().fold(refused.why(why), Error::fix)
}

/// The IAM statement that allows `actions` on `resource`, on one line.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_statement.html>
pub fn allow_statement(actions: &[&str], resource: &str) -> String {
    serde_json::json!({ "Effect": "Allow", "Action": actions, "Resource": resource }).to_string()
}

/// What AWS said, as our error: see [`call::Fault::to_error`].
pub fn refusal<E>(attempt: String, action: &str, error: &aws_sdk_sts::error::SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    call::Fault::of(error).to_error(&attempt, action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_reads_only_may_write_nothing() {
        let whole = Role { arn: "arn:aws:iam::1:role/r", reads_only: false };
        assert_eq!(whole.session_policy(), None);
        let role = Role { reads_only: true, ..whole };
        let text = role.session_policy().expect("a policy");
        assert!(text.len() <= 2048, "{} characters", text.len());
        let policy: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let actions = policy["Statement"][0]["Action"].as_array().expect("a list");
        let reads = ["Get", "List", "Describe", "BatchGet", "BatchCheck", "Simulate", "GET"];
        for action in actions.iter().map(|action| action.as_str().expect("a text")) {
            let (_, verb) = action.split_once(':').expect("a service");
            assert!(reads.iter().any(|read| verb.starts_with(read)), "{action} does not read");
        }
        assert!(!text.contains("GetSecretValue") && !text.contains("ssm:Get"), "{text}");
    }

    #[test]
    fn a_token_goes_to_no_endpoint_without_tls() {
        let cases = [
            ("AWS_ENDPOINT_URL", "http://localhost:4566", true),
            ("AWS_ENDPOINT_URL", "http://10.0.0.7:4566", false),
            ("AWS_ENDPOINT_URL_STS", "http://sts.example", false),
            ("AWS_ENDPOINT_URL_ECR", "http://10.0.0.7", false),
            ("AWS_ENDPOINT_URL_ECR", "http://[::1]:4566", true),
            ("AWS_ENDPOINT_URL_STS", "https://sts.example", true),
        ];
        for (name, value, safe) in cases {
            let environ = Environ::new([(name.to_string(), value.to_string())]);
            assert_eq!(require_safe_endpoints(&environ).is_ok(), safe, "{name}={value}");
        }
    }

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
