//! An ECR repository as a whole: described, created, and changed.

use std::collections::BTreeMap;

use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType, Repository,
    ScanFrequency, Tag,
};

use super::{Ecr, Presence, is_denied};
use crate::aws::allow_statement;
use crate::error::{Cannot, Result};
use crate::registry::repository::drift::Change;
use crate::registry::repository::plan::{RepositoryFacts, RepositorySettings, Scanned};
use crate::report::Report;
use crate::retry::{self, Attempt, RetryPolicy};

/// What a role needs on the key that encrypts a repository.
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/encryption-at-rest.html>
const USE_KEY: [&str; 3] = ["kms:DescribeKey", "kms:CreateGrant", "kms:RetireGrant"];

impl Ecr {
    /// Reads the repository's description. A role that may not ask pushes to what exists: the push
    /// finds out.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeRepositories.html>
    ///
    /// # Errors
    /// Unexpected, if ECR does not answer; refused, for credentials that are not valid.
    pub async fn repository(&self, report: &Report) -> Result<Presence> {
        let request = self
            .client
            .describe_repositories()
            .registry_id(&self.account)
            .repository_names(&self.name);
        let error = match request.send().await {
            Ok(answer) => {
                let described = answer.repositories().first();
                return Ok(described.map_or(Presence::Absent, |described| {
                    Presence::Present(read_repository(described))
                }));
            }
            Err(error) => error,
        };
        match error.code() {
            Some("RepositoryNotFoundException") => Ok(Presence::Absent),
            code if is_denied(code) => {
                report
                    .trace(format!("{} may not be described, and is assumed to exist", self.name));
                Ok(Presence::Unknown)
            }
            _ => {
                let attempt = format!("describe ECR repository {}", self.name);
                Err(self.explain(attempt, "ecr:DescribeRepositories", &error))
            }
        }
    }

    /// Reads whether the registry's own rules scan what is pushed here. Enhanced scanning ignores
    /// the repository's setting.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchGetRepositoryScanningConfiguration.html>
    ///
    /// # Errors
    /// Refused, with the IAM statement, if we may not look.
    pub async fn scanned_by_registry(&self) -> Result<Scanned> {
        let request =
            self.client.batch_get_repository_scanning_configuration().repository_names(&self.name);
        // The call takes no registry: it answers for a repository of this name in the caller's own.
        let answer = request.send().await.map_err(|error| {
            let attempt = format!("read how ECR scans {}", self.name);
            self.explain(attempt, "ecr:BatchGetRepositoryScanningConfiguration", &error)
        })?;
        let ours = answer
            .scanning_configurations()
            .iter()
            .find(|one| one.repository_arn() == Some(&self.arn()));
        Ok(match ours.map(|one| one.scan_frequency()) {
            Some(Some(ScanFrequency::ContinuousScan | ScanFrequency::ScanOnPush)) => Scanned::Yes,
            Some(_) => Scanned::No,
            None => Scanned::ByRulesUnseen,
        })
    }

    /// Reads the text of the repository's lifecycle policy; `None` if it has none.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetLifecyclePolicy.html>
    ///
    /// # Errors
    /// Refused, with the IAM statement, if we may not look.
    pub async fn lifecycle_policy(&self) -> Result<Option<String>> {
        let request = self
            .client
            .get_lifecycle_policy()
            .registry_id(&self.account)
            .repository_name(&self.name);
        match request.send().await {
            Ok(answer) => Ok(answer.lifecycle_policy_text().map(str::to_string)),
            Err(error) if error.code() == Some("LifecyclePolicyNotFoundException") => Ok(None),
            Err(error) => {
                let attempt = format!("read the lifecycle policy of {}", self.name);
                Err(self.explain(attempt, "ecr:GetLifecyclePolicy", &error))
            }
        }
    }

    /// Reads the repository's AWS tags.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ListTagsForResource.html>
    ///
    /// # Errors
    /// Refused, with the IAM statement, if we may not look.
    pub async fn tags(&self) -> Result<BTreeMap<String, String>> {
        let request = self.client.list_tags_for_resource().resource_arn(self.arn());
        let answer = request.send().await.map_err(|error| {
            let attempt = format!("read the tags of ECR repository {}", self.name);
            self.explain(attempt, "ecr:ListTagsForResource", &error)
        })?;
        let tags = answer.tags().iter();
        Ok(tags.map(|tag| (tag.key().to_string(), tag.value().to_string())).collect())
    }

    /// Creates the repository without its lifecycle policy, which needs a call of its own. Returns
    /// whether this run created it: another one may have been faster.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html>
    ///
    /// # Errors
    /// Refused, with the IAM statement, and the command for someone who may.
    pub async fn create(&self, settings: &RepositorySettings) -> Result<bool> {
        let scanning = ImageScanningConfiguration::builder().scan_on_push(true).build();
        let request = self
            .client
            .create_repository()
            .registry_id(&self.account)
            .repository_name(&self.name)
            .image_tag_mutability(mutability_of(settings))
            .set_image_tag_mutability_exclusion_filters(write_filters(settings)?)
            .image_scanning_configuration(scanning)
            .set_encryption_configuration(write_encryption(settings)?)
            .set_tags(Some(write_tags(&settings.tags)?));
        let Err(error) = request.send().await else { return Ok(self.record_creation(true)) };
        let (attempt, action) =
            (format!("create ECR repository {}", self.name), "ecr:CreateRepository");
        match error.code() {
            Some("RepositoryAlreadyExistsException") => Ok(self.record_creation(false)),
            Some("KmsException") => {
                let key = settings.kms_key.as_deref().unwrap_or("*");
                Err(self.explain(attempt, action, &error).only_fix(format!(
                    "name a key of {} as `registry.kms-key` in platform.yaml, and add to the \
                     role's policy: {}",
                    self.region,
                    allow_statement(&USE_KEY, key)
                )))
            }
            code if is_denied(code) => Err(self
                .explain(attempt, action, &error)
                .only_fix(self.allow_fix(&[action, "ecr:TagResource"]))
                .fix(format!("or have it created: {}", self.create_command()))),
            _ => Err(self.explain_setting(attempt, action, &error)),
        }
    }

    /// Brings the repository nearer to its settings.
    ///
    /// # Errors
    /// Refused, with the IAM statement, if we may not.
    pub async fn change(
        &self,
        change: &Change,
        settings: &RepositorySettings,
        report: &Report,
    ) -> Result<()> {
        let (attempt, action) = (format!("change ECR repository {}", self.name), change.action());
        match change {
            Change::Mutability => {
                let request = self
                    .client
                    .put_image_tag_mutability()
                    .registry_id(&self.account)
                    .repository_name(&self.name)
                    .image_tag_mutability(mutability_of(settings))
                    .set_image_tag_mutability_exclusion_filters(write_filters(settings)?);
                let sent = request.send().await.map(drop);
                sent.map_err(|error| self.explain_setting(attempt, action, &error))
            }
            Change::ScanOnPush => {
                let scanning = ImageScanningConfiguration::builder().scan_on_push(true).build();
                let request = self
                    .client
                    .put_image_scanning_configuration()
                    .registry_id(&self.account)
                    .repository_name(&self.name)
                    .image_scanning_configuration(scanning);
                let sent = request.send().await.map(drop);
                sent.map_err(|error| self.explain_setting(attempt, action, &error))
            }
            Change::Lifecycle(policy) => {
                let request = self
                    .client
                    .put_lifecycle_policy()
                    .registry_id(&self.account)
                    .repository_name(&self.name)
                    .lifecycle_policy_text(policy);
                retry::run(&RetryPolicy::DEFAULT, None, report, async |_| {
                    let Err(error) = request.clone().send().await else {
                        return Attempt::Done(());
                    };
                    let why = self.explain_setting(attempt.clone(), action, &error);
                    match error.code() {
                        Some("RepositoryNotFoundException") if self.is_new() => {
                            Attempt::Retry { why, after: None }
                        }
                        _ => Attempt::Refused(why),
                    }
                })
                .await
            }
            Change::Tags(tags) => {
                let request = self
                    .client
                    .tag_resource()
                    .resource_arn(self.arn())
                    .set_tags(Some(write_tags(tags)?));
                let sent = request.send().await.map(drop);
                sent.map_err(|error| self.explain_setting(attempt, action, &error))
            }
        }
    }
}

fn read_repository(repository: &Repository) -> RepositoryFacts {
    let filters = repository.image_tag_mutability_exclusion_filters().iter();
    let encryption = repository.encryption_configuration();
    let scanning = repository.image_scanning_configuration();
    RepositoryFacts {
        mutability: repository
            .image_tag_mutability()
            .map_or("MUTABLE", |word| word.as_str())
            .to_string(),
        excluded: filters.map(|one| one.filter().to_string()).collect(),
        scanned: match scanning.map(ImageScanningConfiguration::scan_on_push) {
            Some(true) => Scanned::Yes,
            Some(false) => Scanned::No,
            None => Scanned::Unknown,
        },
        encryption: encryption.map_or("AES256", |one| one.encryption_type().as_str()).to_string(),
        kms_key: encryption.and_then(EncryptionConfiguration::kms_key).map(str::to_string),
        ..RepositoryFacts::default()
    }
}

fn mutability_of(settings: &RepositorySettings) -> ImageTagMutability {
    ImageTagMutability::from(settings.mutability())
}

/// Writes the filters; ECR rejects an empty list.
fn write_filters(
    settings: &RepositorySettings,
) -> Result<Option<Vec<ImageTagMutabilityExclusionFilter>>> {
    let wildcard = ImageTagMutabilityExclusionFilterType::Wildcard;
    let filter = |pattern: &String| {
        let filter = ImageTagMutabilityExclusionFilter::builder()
            .filter_type(wildcard.clone())
            .filter(pattern);
        filter.build().cannot(|| format!("write the filter {pattern}"))
    };
    let filters = settings.mutable_tags.iter().map(filter).collect::<Result<Vec<_>>>()?;
    Ok(Some(filters).filter(|filters| !filters.is_empty()))
}

fn write_encryption(settings: &RepositorySettings) -> Result<Option<EncryptionConfiguration>> {
    let Some(key) = &settings.kms_key else { return Ok(None) };
    let encryption = EncryptionConfiguration::builder()
        .encryption_type(EncryptionType::Kms)
        .kms_key(key)
        .build();
    encryption.map(Some).cannot(|| format!("encrypt with {key}"))
}

fn write_tags(tags: &BTreeMap<String, String>) -> Result<Vec<Tag>> {
    let tag = |(key, value)| {
        Tag::builder().key(key).value(value).build().cannot(|| format!("write the tag {key}"))
    };
    tags.iter().map(tag).collect()
}
