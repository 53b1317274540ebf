//! One repository of ECR by ECR's own API: its token, its description, its images and findings.
//! Only this file and those below it name the SDK.
//!
//! <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/Welcome.html>

mod findings;
pub mod images;
mod manage;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

use super::repository::plan::RepositoryFacts;
use crate::aws::{Session, allow_statement, refusal};
use crate::config::platform;
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::report::Report;

/// Pages of a list that are read at most; each has up to a thousand findings or images.
const MOST_PAGES: usize = 100;
/// The time for which a repository counts as new: longer than the retries of one request last.
const NEW: Duration = Duration::from_secs(20);

/// One repository of an ECR registry, which may not exist yet.
pub struct Ecr {
    client: aws_sdk_ecr::Client,
    registry: platform::Registry,
    account: String,
    region: String,
    host: String,
    name: String,
    /// The time at which this push created the repository, or lost the race to create it.
    created: OnceLock<Instant>,
}

/// Whether a repository exists.
#[derive(Clone, Debug)]
pub enum Presence {
    Absent,
    /// The role may not ask; the push finds out.
    Unknown,
    /// The repository exists; its description fills a part of the facts.
    Present(RepositoryFacts),
}

impl std::fmt::Debug for Ecr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ecr({}/{})", self.host, self.name)
    }
}

impl Ecr {
    pub fn new(session: &Session, registry: &platform::Registry, name: &str) -> Ecr {
        Ecr {
            client: aws_sdk_ecr::Client::new(session.config()),
            registry: registry.clone(),
            account: registry.account.to_string(),
            region: registry.region.clone(),
            host: registry.host(),
            name: name.to_string(),
            created: OnceLock::new(),
        }
    }

    /// Records the creation time and returns `by_us`.
    #[expect(clippy::disallowed_methods, reason = "the one clock of a new repository")]
    fn record_creation(&self, by_us: bool) -> bool {
        self.created.get_or_init(Instant::now);
        by_us
    }

    /// Whether some parts of ECR may not know the repository yet: ECR finishes creating it after
    /// CreateRepository's answer.
    /// <https://github.com/hashicorp/terraform-provider-aws/issues/3849>
    pub fn is_new(&self) -> bool {
        self.created.get().is_some_and(|created| created.elapsed() < NEW)
    }

    /// Returns the header that authorises requests to the registry for twelve hours. The report
    /// masks it, and it stays in memory.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>
    ///
    /// # Errors
    /// Refused, with the IAM statement, if the session may not log in.
    pub async fn authorization(&self, report: &Report) -> Result<HeaderValue> {
        let attempt = || format!("log in to ECR at {}", self.host);
        let answer = self.client.get_authorization_token().send().await;
        let answer =
            answer.map_err(|error| refusal(attempt(), "ecr:GetAuthorizationToken", &error))?;
        let token = answer.authorization_data().iter().find_map(|data| data.authorization_token());
        let odd = |why: &str| Error::unexpected(format!("cannot {}", attempt())).why(why);
        let token = token.ok_or_else(|| odd("ECR answered without a token"))?;
        report.mask(token);
        let decoded = STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((_, password)) = decoded.as_deref().and_then(|decoded| decoded.split_once(':'))
        {
            report.mask(password);
        }
        let mut value = HeaderValue::from_str(&format!("Basic {token}"))
            .map_err(|_| odd("the token has characters that no header may have"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The repository's name, without the host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An `aws ecr` command for the repository.
    pub fn command(&self, verb: &str) -> String {
        format!(
            "aws ecr {verb} --region {} --registry-id {} --repository-name {}",
            self.region, self.account, self.name
        )
    }

    /// The command that starts a scan.
    pub fn start_scan_command(&self, digest: &Digest) -> String {
        format!("{} --image-id imageDigest={digest}", self.command("start-image-scan"))
    }

    /// The command that makes ECR scan every push from now on.
    pub fn scan_on_push_command(&self) -> String {
        format!(
            "{} --image-scanning-configuration scanOnPush=true",
            self.command("put-image-scanning-configuration")
        )
    }

    /// The command that creates the repository as [`Ecr::create`] does, without its AWS tags, which
    /// `--repair` sets.
    pub fn create_command(&self) -> String {
        let platform::Registry { mutable_tags, kms_key, .. } = &self.registry;
        let exclusion = if mutable_tags.is_empty() {
            ""
        } else {
            "_WITH_EXCLUSION --image-tag-mutability-exclusion-filters"
        };
        let filters: String =
            mutable_tags.iter().map(|one| format!(" 'filterType=WILDCARD,filter={one}'")).collect();
        let kms = kms_key
            .as_ref()
            .map(|key| format!(" --encryption-configuration encryptionType=KMS,kmsKey={key}"));
        format!(
            "{} --image-tag-mutability IMMUTABLE{exclusion}{filters} \
             --image-scanning-configuration scanOnPush=true{}",
            self.command("create-repository"),
            kms.unwrap_or_default()
        )
    }

    /// The fix that allows `actions` on the repository.
    pub fn allow_fix(&self, actions: &[&str]) -> String {
        format!("add to the role's policy: {}", allow_statement(actions, &self.arn()))
    }

    /// Turns ECR's error into ours; a denial has the IAM statement for `action` on the repository.
    fn explain<E>(&self, attempt: String, action: &str, error: &SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let refused = refusal(attempt, action, error);
        if is_denied(error.code()) { refused.only_fix(self.allow_fix(&[action])) } else { refused }
    }

    /// As [`Ecr::explain`], for settings: a value that ECR rejects stands in platform.yaml.
    fn explain_setting<E>(&self, attempt: String, action: &str, error: &SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        const REJECTED: [&str; 3] =
            ["InvalidParameterException", "InvalidTagParameterException", "ValidationException"];
        let refused = self.explain(attempt, action, error);
        match error.code() {
            Some(code) if REJECTED.contains(&code) => Error {
                kind: Kind::Input,
                ..refused.fix(
                    "correct `kms-key`, `mutable-tags`, `lifecycle` or `tags` below `registry` in \
                     platform.yaml",
                )
            },
            _ => refused,
        }
    }

    fn arn(&self) -> String {
        format_arn(&self.region, &self.account, &self.name)
    }
}

/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html>
fn format_arn(region: &str, account: &str, name: &str) -> String {
    let partition = match region.split('-').take(2).collect::<Vec<_>>()[..] {
        ["cn", ..] => "aws-cn",
        ["us", "gov"] => "aws-us-gov",
        _ => "aws",
    };
    format!("arn:{partition}:ecr:{region}:{account}:repository/{name}")
}

fn is_denied(code: Option<&str>) -> bool {
    matches!(code, Some("AccessDenied" | "AccessDeniedException"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_of_the_regions_partition() {
        for (region, partition) in [
            ("eu-west-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("us-east-1", "aws"),
        ] {
            assert_eq!(
                format_arn(region, "111122223333", "a/b"),
                format!("arn:{partition}:ecr:{region}:111122223333:repository/a/b")
            );
        }
    }
}
