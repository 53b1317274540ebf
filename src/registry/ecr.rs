//! ECR's own API: its token, its repositories and its images. The only room that names its SDK.
//!
//! <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/Welcome.html>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::types::{
    DescribeImagesFilter, EncryptionConfiguration, EncryptionType, EnhancedImageScanFinding,
    ImageDetail, ImageIdentifier, ImageScanFinding, ImageScanningConfiguration, ImageStatus,
    ImageStatusFilter, ImageTagMutability, ImageTagMutabilityExclusionFilter,
    ImageTagMutabilityExclusionFilterType, Repository, ScanFrequency, Tag, VulnerablePackage,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

use super::repository::lifecycle::{self, Image};
use super::repository::plan::{Change, Facts, Scanned, Settings};
use super::scan::{Finding, Scan};
use super::{Found, Wanted};
use crate::aws::{Session, allow_statement, refusal};
use crate::config::platform;
use crate::config::service::Severity;
use crate::error::{Cannot, Error, Kind, Result};
use crate::layout::{Digest, INDEXES};
use crate::patience::{Patience, chance};
use crate::report::Report;

/// More pages than this are not read: each has up to a thousand findings or images.
const MOST_PAGES: usize = 100;
/// As many images as BatchGetImage takes.
const BATCH: usize = 100;
/// How long a repository is new: longer than the patience for one request.
const NEW: Duration = Duration::from_secs(20);

/// One repository of an ECR registry, which may not be there yet.
pub struct Ecr {
    client: aws_sdk_ecr::Client,
    registry: platform::Registry,
    account: String,
    region: String,
    host: String,
    name: String,
    /// When the repository was created, in case this push saw that.
    created: OnceLock<Instant>,
}

/// Whether a repository is there.
#[derive(Clone, Debug)]
pub enum There {
    No,
    /// We may not ask. The push will tell.
    Perhaps,
    /// As far as its description goes.
    Yes(Facts),
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

    /// Notes the time; gives what it was given.
    #[expect(clippy::disallowed_methods, reason = "the one clock of a new repository")]
    fn was_created(&self, by_us: bool) -> bool {
        self.created.get_or_init(Instant::now);
        by_us
    }

    /// Whether the repository may not be known yet to all of ECR: it is created behind
    /// CreateRepository's answer.
    /// <https://github.com/hashicorp/terraform-provider-aws/issues/3849>
    pub fn is_new(&self) -> bool {
        self.created.get().is_some_and(|created| created.elapsed() < NEW)
    }

    /// The header that authorises requests to the registry for twelve hours. It is made known to
    /// the report as a secret, and kept in memory only.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>
    ///
    /// # Errors
    /// Refused, with the IAM action, where the session may not have one.
    pub async fn authorization(&self, report: &Report) -> Result<HeaderValue> {
        let attempt = || format!("log in to ECR at {}", self.host);
        let answer = self.client.get_authorization_token().send().await;
        let answer =
            answer.map_err(|error| refusal(attempt(), "ecr:GetAuthorizationToken", &error))?;
        let token = answer.authorization_data().iter().find_map(|data| data.authorization_token());
        let token = token.ok_or_else(|| {
            Error::unexpected(format!("cannot {}", attempt())).why("it answered without one")
        })?;
        report.mask(token);
        let decoded = STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((_, password)) = decoded.as_deref().and_then(|decoded| decoded.split_once(':'))
        {
            report.mask(password);
        }
        let mut value = HeaderValue::from_str(&format!("Basic {token}")).map_err(|_| {
            Error::unexpected(format!("cannot {}", attempt()))
                .why("what it gave cannot be a header")
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The repository's name, without the host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the repository is described. A role that may not ask is taken to push to what is there:
    /// the push will tell.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeRepositories.html>
    ///
    /// # Errors
    /// Unexpected, when ECR does not answer; refused, for credentials that are not valid.
    pub async fn repository(&self, report: &Report) -> Result<There> {
        let request = self
            .client
            .describe_repositories()
            .registry_id(&self.account)
            .repository_names(&self.name);
        let error = match request.send().await {
            Ok(answer) => {
                return Ok(answer
                    .repositories()
                    .first()
                    .map_or(There::No, |one| There::Yes(described(one))));
            }
            Err(error) => error,
        };
        match error.code() {
            Some("RepositoryNotFoundException") => Ok(There::No),
            code if is_denied(code) => {
                report
                    .trace(format!("{} may not be described: it is taken to be there", self.name));
                Ok(There::Perhaps)
            }
            _ => Err(self.refused(
                format!("describe ECR repository {}", self.name),
                "ecr:DescribeRepositories",
                &error,
            )),
        }
    }

    /// Whether the registry's own rules have what is pushed here scanned, whatever the repository
    /// says: enhanced scanning asks nobody else.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchGetRepositoryScanningConfiguration.html>
    ///
    /// # Errors
    /// Refused, with the IAM action, when we may not look.
    pub async fn scanned_by_registry(&self) -> Result<Scanned> {
        let request =
            self.client.batch_get_repository_scanning_configuration().repository_names(&self.name);
        // It takes no registry: what it tells is of the caller's own, and of another account's
        // repository nothing, or of one that has the same name here.
        let answer = request.send().await.map_err(|error| {
            let attempt = format!("read how ECR scans {}", self.name);
            self.refused(attempt, "ecr:BatchGetRepositoryScanningConfiguration", &error)
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

    /// The text of the repository's lifecycle policy; none when it has none.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetLifecyclePolicy.html>
    ///
    /// # Errors
    /// Refused, with the IAM action, when we may not look.
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
                Err(self.refused(attempt, "ecr:GetLifecyclePolicy", &error))
            }
        }
    }

    /// The repository's AWS tags.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ListTagsForResource.html>
    ///
    /// # Errors
    /// Refused, with the IAM action, when we may not look.
    pub async fn tags(&self) -> Result<BTreeMap<String, String>> {
        let answer =
            self.client.list_tags_for_resource().resource_arn(self.arn()).send().await.map_err(
                |error| {
                    self.refused(
                        format!("read the tags of ECR repository {}", self.name),
                        "ecr:ListTagsForResource",
                        &error,
                    )
                },
            )?;
        Ok(answer
            .tags()
            .iter()
            .map(|tag| (tag.key().to_string(), tag.value().to_string()))
            .collect())
    }

    /// Creates the repository as it should be, but for its lifecycle policy, which wants a call of
    /// its own. Whether it was us: another run may have been a moment faster.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html>
    ///
    /// # Errors
    /// Refused, with the IAM actions or the command for someone who may.
    pub async fn create(&self, settings: &Settings) -> Result<bool> {
        let scanning = ImageScanningConfiguration::builder().scan_on_push(true).build();
        let request =
            self.client.create_repository().registry_id(&self.account).repository_name(&self.name);
        let request = request
            .image_tag_mutability(mutability(settings))
            .set_image_tag_mutability_exclusion_filters(filters(settings)?)
            .image_scanning_configuration(scanning)
            .set_encryption_configuration(encryption(settings)?)
            .set_tags(Some(aws_tags(&settings.tags)?));
        let Err(error) = request.send().await else { return Ok(self.was_created(true)) };
        let attempt = format!("create ECR repository {}", self.name);
        match error.code() {
            Some("RepositoryAlreadyExistsException") => Ok(self.was_created(false)),
            Some("KmsException") => Err(self.refused(attempt, "ecr:CreateRepository", &error).only_fix(format!(
                "`registry.kms-key` in platform.yaml must be a key of {} that the role may use: allow `kms:DescribeKey`, \
                 `kms:CreateGrant` and `kms:RetireGrant` on it",
                self.region
            ))),
            code if is_denied(code) => Err(self.refused(attempt, "ecr:CreateRepository", &error).only_fix(format!(
                "{}\nor have it created: {}",
                self.permission(&["ecr:CreateRepository", "ecr:TagResource"]),
                self.creation()
            ))),
            _ => Err(self.not_taken(attempt, "ecr:CreateRepository", &error)),
        }
    }

    /// Brings the repository nearer to how it should be.
    ///
    /// # Errors
    /// Refused, with the IAM action, when we may not.
    pub async fn change(&self, change: &Change, settings: &Settings) -> Result<()> {
        let (attempt, action) = (format!("change ECR repository {}", self.name), change.action());
        match change {
            Change::Mutability => {
                let request = self.client.put_image_tag_mutability().registry_id(&self.account);
                let request =
                    request.repository_name(&self.name).image_tag_mutability(mutability(settings));
                let request =
                    request.set_image_tag_mutability_exclusion_filters(filters(settings)?);
                request
                    .send()
                    .await
                    .map(drop)
                    .map_err(|error| self.not_taken(attempt, action, &error))
            }
            Change::ScanOnPush => {
                let scanning = ImageScanningConfiguration::builder().scan_on_push(true).build();
                let request =
                    self.client.put_image_scanning_configuration().registry_id(&self.account);
                let request =
                    request.repository_name(&self.name).image_scanning_configuration(scanning);
                request
                    .send()
                    .await
                    .map(drop)
                    .map_err(|error| self.not_taken(attempt, action, &error))
            }
            Change::Lifecycle(policy) => {
                let request = self.client.put_lifecycle_policy().registry_id(&self.account);
                let request = request.repository_name(&self.name).lifecycle_policy_text(policy);
                let mut tries = 0;
                loop {
                    let Err(error) = request.clone().send().await else { return Ok(()) };
                    let is_early =
                        self.is_new() && error.code() == Some("RepositoryNotFoundException");
                    tries += 1;
                    match Patience::DEFAULT.pause(tries, None, chance()).filter(|_| is_early) {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => return Err(self.not_taken(attempt, action, &error)),
                    }
                }
            }
            Change::Tags(tags) => {
                let request = self
                    .client
                    .tag_resource()
                    .resource_arn(self.arn())
                    .set_tags(Some(aws_tags(tags)?));
                request
                    .send()
                    .await
                    .map(drop)
                    .map_err(|error| self.not_taken(attempt, action, &error))
            }
        }
    }

    /// The image with this tag or digest.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html>
    ///
    /// # Errors
    /// Refused, when there is none, or it may not be looked for.
    pub async fn find(&self, wanted: &Wanted) -> Result<Found> {
        let (identifier, shown) = match wanted {
            Wanted::Tag(tag) => (
                ImageIdentifier::builder().image_tag(tag),
                format!("{}/{}:{tag}", self.host, self.name),
            ),
            Wanted::Digest(digest) => {
                let digest = Digest::parse(digest)?;
                (
                    ImageIdentifier::builder().image_digest(digest.as_str()),
                    format!("{}/{}@{digest}", self.host, self.name),
                )
            }
        };
        let missing = |why: &str| {
            Error::refused(format!("there is no image {shown}")).why(why).fix(self.remedy(wanted))
        };
        let request =
            self.client.describe_images().registry_id(&self.account).repository_name(&self.name);
        let answer =
            request.image_ids(identifier.build()).send().await.map_err(|error| {
                match error.code() {
                    Some("ImageNotFoundException") => missing("ECR has no such tag or digest"),
                    Some("RepositoryNotFoundException") => missing("ECR has no such repository"),
                    _ => self.refused(format!("find {shown} in ECR"), "ecr:DescribeImages", &error),
                }
            })?;
        // The manifests below an index may come in the same answer: the one that was asked for is
        // the one that is wanted.
        let found = answer.image_details().iter().find(|image| match wanted {
            Wanted::Tag(tag) => image.image_tags().contains(tag),
            Wanted::Digest(digest) => image.image_digest() == Some(digest),
        });
        let found = found.ok_or_else(|| missing("ECR answered without it"))?;
        let digest = found.image_digest().ok_or_else(|| {
            Error::unexpected(format!("cannot find the digest of {shown} in ECR"))
        })?;
        let tag = match wanted {
            Wanted::Tag(tag) => Some(tag.clone()),
            Wanted::Digest(_) => version_tag(found.image_tags()),
        };
        Ok(Found {
            is_untagged: found.image_tags().is_empty(),
            digest: Digest::parse(digest)
                .map_err(|error| Error::new(Kind::Unexpected, error.message))?
                .to_string(),
            tag,
        })
    }

    /// When an image was pushed; none when ECR does not say, as it is only told to people.
    pub async fn pushed(&self, digest: &str) -> Option<String> {
        let at = *self.image(digest).await.ok()??.image_pushed_at()?;
        jiff::Timestamp::from_second(at.secs()).ok().map(|at| at.to_string())
    }

    /// All tags of an image.
    ///
    /// # Errors
    /// Refused, with the IAM action, when we may not look.
    pub async fn tags_of(&self, digest: &str) -> Result<Vec<String>> {
        Ok(self.image(digest).await?.map(|image| image.image_tags().to_vec()).unwrap_or_default())
    }

    async fn image(&self, digest: &str) -> Result<Option<ImageDetail>> {
        let request =
            self.client.describe_images().registry_id(&self.account).repository_name(&self.name);
        let image = ImageIdentifier::builder().image_digest(digest).build();
        let answer = request.image_ids(image).send().await.map_err(|error| {
            self.refused(format!("find {digest} in ECR"), "ecr:DescribeImages", &error)
        })?;
        let mut images = answer.image_details.unwrap_or_default().into_iter();
        Ok(images.find(|image| image.image_digest() == Some(digest)))
    }

    /// All images of the repository, with what is kept beside them.
    ///
    /// # Errors
    /// Refused, with the IAM action, when we may not look; or when there are too many to look at.
    pub async fn images(&self) -> Result<Vec<Image>> {
        let (mut images, mut next) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let request = self
                .client
                .describe_images()
                .registry_id(&self.account)
                .repository_name(&self.name);
            // Without it, only what is active is told, and what is being brought back from the
            // archive is not.
            let any = DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
            let request = request.filter(any).max_results(1000).set_next_token(next);
            let page = request.send().await.map_err(|error| {
                self.refused(
                    format!("list the images of {}", self.name),
                    "ecr:DescribeImages",
                    &error,
                )
            })?;
            images.extend(page.image_details().iter().map(listed));
            next = page.next_token().map(str::to_string);
            if next.is_none() {
                return Ok(images);
            }
        }
        Err(Error::refused(format!(
            "{} has more images than are looked at, which are {}",
            self.name,
            images.len()
        ))
        .why("so which of them a lifecycle policy would remove is not known")
        .fix(format!("remove what nobody needs: {}", self.command("batch-delete-image"))))
    }

    /// What these indexes refer to.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchGetImage.html>
    ///
    /// # Errors
    /// Refused, with the IAM action, when we may not look.
    pub async fn children(&self, indexes: &[String]) -> Result<BTreeSet<String>> {
        let mut children = BTreeSet::new();
        for batch in indexes.chunks(BATCH) {
            let ids = batch
                .iter()
                .map(|digest| ImageIdentifier::builder().image_digest(digest).build())
                .collect();
            let request = self
                .client
                .batch_get_image()
                .registry_id(&self.account)
                .repository_name(&self.name);
            let request = request
                .set_image_ids(Some(ids))
                .set_accepted_media_types(Some(INDEXES.map(String::from).to_vec()));
            let answer = request.send().await.map_err(|error| {
                self.refused(
                    format!("read the indexes of {}", self.name),
                    "ecr:BatchGetImage",
                    &error,
                )
            })?;
            let manifests = answer.images().iter().filter_map(|image| image.image_manifest());
            children.extend(manifests.flat_map(lifecycle::children));
        }
        Ok(children)
    }

    /// What ECR says of an image's scan now, all pages of it. An image that is not there was never
    /// scanned.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImageScanFindings.html>
    ///
    /// # Errors
    /// Refused, with the IAM actions, when we may not look.
    pub async fn scan(&self, digest: &str) -> Result<Scan> {
        let image = ImageIdentifier::builder().image_digest(digest).build();
        let (mut scan, mut next) = (Scan::default(), None);
        for _ in 0..MOST_PAGES {
            let request = self
                .client
                .describe_image_scan_findings()
                .registry_id(&self.account)
                .repository_name(&self.name);
            let request = request.image_id(image.clone()).max_results(1000).set_next_token(next);
            let page = match request.send().await {
                Ok(page) => page,
                Err(error)
                    if matches!(
                        error.code(),
                        Some(
                            "ScanNotFoundException"
                                | "ImageNotFoundException"
                                | "RepositoryNotFoundException"
                        )
                    ) =>
                {
                    return Ok(Scan::default());
                }
                Err(error) => {
                    let attempt = format!("read the scan findings of {digest}");
                    let refused = self.refused(attempt, "ecr:DescribeImageScanFindings", &error);
                    return Err(match is_denied(error.code()) {
                        true => refused.fix(format!(
                            "{}\nand where scanning is enhanced, `inspector2:ListCoverage` and `inspector2:ListFindings` on `*`",
                            self.permission(&["ecr:DescribeImageScanFindings"])
                        )),
                        false => refused,
                    });
                }
            };
            if let Some(status) = page.image_scan_status() {
                scan.status = status.status().map(|status| status.as_str().to_string());
                scan.description = status.description().unwrap_or_default().to_string();
            }
            if let Some(found) = page.image_scan_findings() {
                let counts =
                    found.finding_severity_counts().into_iter().flat_map(|counts| counts.values());
                scan.counted = counts.map(|count| usize::try_from(*count).unwrap_or(0)).sum();
                scan.completed = found.image_scan_completed_at().is_some();
                scan.listed += found.findings().len() + found.enhanced_findings().len();
                scan.findings.extend(found.findings().iter().map(basic));
                scan.findings.extend(found.enhanced_findings().iter().flat_map(enhanced));
            }
            next = page.next_token().map(str::to_string);
            if next.is_none() {
                return Ok(scan);
            }
        }
        Err(Error::unexpected(format!(
            "ECR has more than {MOST_PAGES} pages of findings of {digest}"
        )))
    }

    /// An `aws ecr` command for the repository.
    pub fn command(&self, verb: &str) -> String {
        format!(
            "aws ecr {verb} --region {} --registry-id {} --repository-name {}",
            self.region, self.account, self.name
        )
    }

    /// The command that starts a scan.
    pub fn start_scan(&self, digest: &str) -> String {
        format!("{} --image-id imageDigest={digest}", self.command("start-image-scan"))
    }

    /// The command that has every push scanned from now on.
    pub fn scan_on_push(&self) -> String {
        format!(
            "{} --image-scanning-configuration scanOnPush=true",
            self.command("put-image-scanning-configuration")
        )
    }

    fn remedy(&self, wanted: &Wanted) -> String {
        let list = format!(
            "see what there is: {} --query 'imageDetails[].imageTags'",
            self.command("describe-images")
        );
        match wanted {
            Wanted::Tag(tag) => format!("push it first: cicd push-ecr --tag {tag}\n{list}"),
            Wanted::Digest(_) => format!("push it first: cicd push-ecr\n{list}"),
        }
    }

    /// What ECR said, as our error; a denial has the policy statement that allows `action` on the
    /// repository.
    fn refused<E, R>(&self, attempt: String, action: &str, error: &SdkError<E, R>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let refused = refusal(attempt, action, error);
        if is_denied(error.code()) { refused.only_fix(self.permission(&[action])) } else { refused }
    }

    /// As [`Ecr::refused`], for settings: what ECR does not take stands in platform.yaml.
    fn not_taken<E, R>(&self, attempt: String, action: &str, error: &SdkError<E, R>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let refused = self.refused(attempt, action, error);
        match error.code() {
            Some("InvalidParameterException" | "InvalidTagParameterException" | "ValidationException") => Error {
                kind: Kind::Input,
                ..refused
                    .fix("correct `kms-key`, `mutable-tags`, `lifecycle` or `tags` below `registry` in platform.yaml")
            },
            _ => refused,
        }
    }

    /// The policy statement that allows `actions` on the repository.
    pub fn permission(&self, actions: &[&str]) -> String {
        format!("add to the role's policy: {}", allow_statement(actions, &self.arn()))
    }

    /// The command that creates the repository as [`Ecr::create`] does, but for its tags, which
    /// `--repair` sets.
    pub fn creation(&self) -> String {
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
            "{} --image-tag-mutability IMMUTABLE{exclusion}{filters} --image-scanning-configuration scanOnPush=true{}",
            self.command("create-repository"),
            kms.unwrap_or_default()
        )
    }

    fn arn(&self) -> String {
        arn(&self.region, &self.account, &self.name)
    }
}

fn described(repository: &Repository) -> Facts {
    let filters = repository.image_tag_mutability_exclusion_filters().iter();
    let encryption = repository.encryption_configuration();
    Facts {
        mutability: repository
            .image_tag_mutability()
            .map_or("MUTABLE", |word| word.as_str())
            .to_string(),
        excluded: filters.map(|one| one.filter().to_string()).collect(),
        scanned: match repository
            .image_scanning_configuration()
            .map(ImageScanningConfiguration::scan_on_push)
        {
            Some(true) => Scanned::Yes,
            Some(false) => Scanned::No,
            None => Scanned::Unknown,
        },
        encryption: encryption.map_or("AES256", |one| one.encryption_type().as_str()).to_string(),
        kms_key: encryption.and_then(EncryptionConfiguration::kms_key).map(str::to_string),
        ..Facts::default()
    }
}

fn listed(image: &ImageDetail) -> Image {
    let media_type = image.image_manifest_media_type().unwrap_or_default();
    Image {
        digest: image.image_digest().unwrap_or_default().to_string(),
        tags: image.image_tags().to_vec(),
        pushed: image.image_pushed_at().and_then(|at| jiff::Timestamp::from_second(at.secs()).ok()),
        is_index: INDEXES.contains(&media_type),
        subject: image.subject_manifest_digest().map(str::to_string),
        is_archived: image.image_status() == Some(&ImageStatus::Archived),
    }
}

fn mutability(settings: &Settings) -> ImageTagMutability {
    ImageTagMutability::from(settings.mutability())
}

/// What is not set is asked for as such: an empty list is none.
fn filters(settings: &Settings) -> Result<Option<Vec<ImageTagMutabilityExclusionFilter>>> {
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

fn encryption(settings: &Settings) -> Result<Option<EncryptionConfiguration>> {
    let Some(key) = &settings.kms_key else { return Ok(None) };
    let encryption = EncryptionConfiguration::builder()
        .encryption_type(EncryptionType::Kms)
        .kms_key(key)
        .build();
    encryption.map(Some).cannot(|| format!("encrypt with {key}"))
}

fn aws_tags(tags: &BTreeMap<String, String>) -> Result<Vec<Tag>> {
    let tag = |(key, value)| {
        Tag::builder().key(key).value(value).build().cannot(|| format!("write the tag {key}"))
    };
    tags.iter().map(tag).collect()
}

/// A finding of a basic scan: the package stands in attributes, and nobody says in which version it
/// is fixed.
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageScanFinding.html>
fn basic(finding: &ImageScanFinding) -> Finding {
    let attribute = |name: &str| {
        let found = finding.attributes().iter().find(|attribute| attribute.key() == name);
        found.and_then(|attribute| attribute.value()).map(str::to_string)
    };
    Finding {
        severity: Severity::of_scan(finding.severity().map_or("", |severity| severity.as_str())),
        id: finding.name().unwrap_or("without a name").to_string(),
        package: attribute("package_name").unwrap_or_default(),
        installed: attribute("package_version").unwrap_or_default(),
        fixed: None,
        layer: None,
    }
}

/// A finding of Inspector, once for each of its packages. One that was closed or suppressed there
/// is none here.
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_EnhancedImageScanFinding.html>
fn enhanced(finding: &EnhancedImageScanFinding) -> Vec<Finding> {
    if matches!(finding.status(), Some("CLOSED" | "SUPPRESSED")) {
        return Vec::new();
    }
    let details = finding.package_vulnerability_details();
    let id = details
        .and_then(|details| details.vulnerability_id())
        .or(finding.title())
        .unwrap_or("without a name");
    let one = |package: Option<&VulnerablePackage>| Finding {
        severity: Severity::of_scan(finding.severity().unwrap_or_default()),
        id: id.to_string(),
        package: package.and_then(VulnerablePackage::name).unwrap_or_default().to_string(),
        installed: package.and_then(VulnerablePackage::version).unwrap_or_default().to_string(),
        // Inspector says so in words where there is none.
        fixed: package
            .and_then(|package| package.fixed_in_version())
            .filter(|v| *v != "NotAvailable")
            .map(str::to_string),
        layer: package.and_then(VulnerablePackage::source_layer_hash).map(str::to_string),
    };
    match details.map(|details| details.vulnerable_packages()).unwrap_or_default() {
        [] => vec![one(None)],
        packages => packages.iter().map(|package| one(Some(package))).collect(),
    }
}

/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html>
fn arn(region: &str, account: &str, name: &str) -> String {
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

/// The highest version among tags, when one of them is a version.
fn version_tag(tags: &[String]) -> Option<String> {
    let versions = tags
        .iter()
        .filter_map(|tag| semver::Version::parse(tag).ok().map(|version| (version, tag)));
    versions.max_by(|one, other| one.0.cmp(&other.0)).map(|(_, tag)| tag.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_is_the_images() {
        let cases: [(&[&str], Option<&str>); 5] = [
            (&["latest", "1.4.0", "1.10.0", "1.9.0"], Some("1.10.0")),
            (&["1.3.3-main.4", "1.3.3-main.12"], Some("1.3.3-main.12")),
            (&["1.4.0", "1.4.0-pr.12.7"], Some("1.4.0")),
            (&["latest", "v1", "1.4"], None),
            (&[], None),
        ];
        for (tags, expected) in cases {
            let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
            assert_eq!(version_tag(&tags).as_deref(), expected, "{tags:?}");
        }
    }

    #[test]
    fn arns_are_of_the_regions_partition() {
        for (region, partition) in [
            ("eu-west-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("us-east-1", "aws"),
        ] {
            assert_eq!(
                arn(region, "111122223333", "a/b"),
                format!("arn:{partition}:ecr:{region}:111122223333:repository/a/b")
            );
        }
    }
}
