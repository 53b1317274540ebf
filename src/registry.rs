//! From an OCI layout to a registry: ECR, or any that speaks the OCI distribution protocol.
//!
//! [`push`] plans and pushes; [`upload`] streams one blob; [`client`] speaks HTTP, and [`fault`]
//! classifies answers for the retry loop; [`ecr`] is ECR's own API, and [`repository`] compares a
//! repository there with its settings; [`gate`] waits for findings, [`scan`] judges them and
//! [`origin`] names their layers.

mod address;
mod cause;
mod challenge;
mod client;
mod ecr;
mod ensure;
mod fault;
#[cfg(test)]
mod fuzz;
mod gate;
mod growth;
mod iam;
mod lanes;
mod manifest;
#[cfg(test)]
mod mutations;
mod origin;
mod pace;
mod preflight;
mod push;
mod referrers;
mod repository;
mod scan;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::aws::Session;
use crate::config::settings::repository as repository_of;
use crate::config::{platform, service};
use crate::error::{Error, Kind, Result};
use crate::layout::{Digest, Layout};
use crate::report::{Report, human};
use crate::retry::RetryPolicy;
use address::Address;
use client::{Client, Identity, Waits};
pub use ecr::images::{FoundImage, Wanted};
use ecr::{Ecr, Presence};
pub use growth::{Growth, compare_image};
pub use iam::render_push_policy;
pub use origin::Recipe;
use push::{PushFacts, PushPlan};
pub use repository::plan::Owner;
use repository::plan::RepositorySettings;

/// A push waits as long as a registry asks for, up to ten minutes: it has a deadline of its own.
const PUSH_WAITS: Waits = Waits {
    retry: RetryPolicy { longest_pause: Duration::from_secs(600), ..RetryPolicy::DEFAULT },
    ..Waits::DEFAULT
};

/// What to push.
#[derive(Clone, Debug)]
pub struct PushRequest {
    pub layout: PathBuf,
    pub tags: Vec<String>,
    /// The digest that the layout must have.
    pub digest: Option<Digest>,
    /// Another repository of the same registry, whose blobs need not be uploaded again.
    pub mount_from: Option<String>,
    /// The longest time that the whole push may take.
    pub timeout: Duration,
    pub plan: bool,
    /// Whether an existing repository gets the settings of platform.yaml.
    pub repair: bool,
    pub owner: Owner,
    /// The rules by which findings stop the tags; `None` if nobody looks for findings.
    pub scan: Option<service::Scan>,
    /// The Dockerfile, whose lines name the origin of findings.
    pub recipe: Option<Recipe>,
}

/// What was pushed, or with [`PushRequest::plan`] would be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pushed {
    /// `planned`, if nothing was pushed because only a plan was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    /// `HOST/NAME`, as images are named.
    pub repository: String,
    pub digest: Digest,
    pub tags: Vec<String>,
    /// The size of blobs and manifests, as they are stored.
    pub uploaded_bytes: u64,
    /// The size of what the registry had already.
    pub skipped_bytes: u64,
}

impl Pushed {
    /// Describes the push for people: where the image is, and how much of it was uploaded.
    pub fn in_words(&self) -> String {
        let image = format!("{}@{}", self.repository, self.digest);
        let tags = if self.tags.is_empty() {
            String::new()
        } else {
            format!(" as {}", self.tags.join(", "))
        };
        let (uploaded, skipped) =
            (human::bytes(self.uploaded_bytes), human::bytes(self.skipped_bytes));
        match self.status {
            Some(_) => {
                format!(
                    "planned, nothing was pushed: {image}{tags}, {uploaded} to upload, {skipped} \
                     there already"
                )
            }
            None if self.uploaded_bytes == 0 => format!("{image}{tags}, all of it there already"),
            None => format!("{image}{tags}, {uploaded} uploaded, {skipped} there already"),
        }
    }
}

/// Pushes to `HOST[:PORT]/NAME`, without any AWS call and without a login.
///
/// # Errors
/// Bad input: the layout, a tag or the repository. Refused: a tag is taken, or the registry refuses
/// us. Timed out or unexpected: the registry's last answer after all retries.
pub async fn push_to(repository: &str, request: &PushRequest, report: &Report) -> Result<Pushed> {
    limit_time(request.timeout, async {
        let (layout, tags) = check_request(request)?;
        let address = Address::parse(repository)?;
        let from = request.mount_from.as_deref();
        let client = Client::open(address, Identity::Anonymous, PUSH_WAITS, from, report).await?;
        let facts = push::observe_push(&client, &layout, &tags).await?;
        let plan = push::plan_push(&layout, &client.address().shown(), &facts)?;
        run_plan(&client, &layout, &tags, &plan, request, report).await
    })
    .await
}

/// Pushes to the service's repository in an ECR registry. A missing one is created; one that
/// differs from platform.yaml is reported, and with [`PushRequest::repair`] changed.
///
/// # Errors
/// As [`push_to`]; a refusal has the IAM statement to add.
pub async fn push_to_ecr(
    session: &Session,
    registry: &platform::Registry,
    request: &PushRequest,
    report: &Report,
) -> Result<Pushed> {
    limit_time(request.timeout, async {
        let (layout, tags) = check_request(request)?;
        let settings = RepositorySettings::of(registry, &request.owner)?;
        let name = repository_of(registry, &request.owner.service);
        let address = Address::ecr(registry.host(), &name, registry.endpoint.as_deref())?;
        let ecr = Arc::new(Ecr::new(session, registry, &name));
        let presence = ecr.repository(report).await?;
        let (identity, from) = (Identity::Ecr(ecr.clone()), request.mount_from.as_deref());
        let client = Client::open(address, identity, PUSH_WAITS, from, report).await?;
        let observe = async {
            match presence {
                Presence::Absent => Ok(PushFacts::nothing(&tags)),
                _ => push::observe_push(&client, &layout, &tags).await,
            }
        };
        let look =
            ensure::complete_facts(&ecr, presence.clone(), &settings, request.repair, report);
        let (facts, presence) = tokio::try_join!(observe, look)?;
        let plan = push::plan_push(&layout, &client.address().shown(), &facts)?;
        // The repository comes before the image, as its settings decide whether ECR scans it.
        ensure::ensure_repository(&ecr, &presence, &settings, request.repair, request.plan, report)
            .await?;
        warn_of_loss(&ecr, &layout, &tags, &facts, &settings, report).await;
        run_plan(&client, &layout, &tags, &plan, request, report).await
    })
    .await
}

/// Warns if the repository's lifecycle policy would remove the image although somebody counts on
/// it.
async fn warn_of_loss(
    ecr: &Ecr,
    layout: &Layout,
    tags: &[String],
    facts: &PushFacts,
    settings: &RepositorySettings,
    report: &Report,
) {
    let root = &layout.root().digest;
    let mut all = tags.to_vec();
    // The image was pushed before, and gets another name.
    if facts.present.contains(root) && facts.tags.iter().any(|(_, there)| there.is_none()) {
        match ecr.tags_of(root).await {
            Ok(there) => all.extend(there),
            Err(error) => report.warn(format!(
                "{}: whether a lifecycle policy removes the image for a tag that it has already \
                 is not known; {}",
                error.message,
                first_advice(&error)
            )),
        }
    }
    if let Some(loss) = settings.loses_a_release(&all) {
        report.warn(loss);
    }
    if let (true, Some(keep)) = (tags.is_empty(), &settings.keep) {
        report.warn(format!(
            "no tag is set, and {} keeps an image without one for {} days, even if it runs \
             somewhere: give it a --tag",
            ecr.name(),
            keep.untagged.0
        ));
    }
}

/// Returns what to show of an error beside a warning: its first fix, else its reason.
fn first_advice(error: &Error) -> String {
    error.fixes.first().or(error.why.as_ref()).cloned().unwrap_or_default()
}

/// Checks before a build that the tags are free for an image of the commit `revision` in
/// `HOST[:PORT]/NAME`. Returns those that it may not look up.
///
/// # Errors
/// Refused, if an image of another commit has one.
pub async fn check_tags_at(
    repository: &str,
    tags: &[String],
    revision: &str,
    report: &Report,
) -> Result<Vec<String>> {
    tags.iter().try_for_each(|tag| address::check_tag(tag))?;
    let address = Address::parse(repository)?;
    let client = Client::open(address, Identity::Anonymous, Waits::DEFAULT, None, report).await?;
    check_tags_free(&client, tags, revision, report).await
}

/// As [`check_tags_at`], in the service's repository of an ECR registry. A missing one has no tags.
///
/// # Errors
/// As [`check_tags_at`]; a refusal has the IAM statement to add. Bad input, if platform.yaml
/// endangers the service's releases.
pub async fn check_tags_in_ecr(
    session: &Session,
    registry: &platform::Registry,
    owner: &Owner,
    tags: &[String],
    revision: &str,
    report: &Report,
) -> Result<Vec<String>> {
    tags.iter().try_for_each(|tag| address::check_tag(tag))?;
    RepositorySettings::of(registry, owner)?;
    let name = repository_of(registry, &owner.service);
    let address = Address::ecr(registry.host(), &name, registry.endpoint.as_deref())?;
    let ecr = Arc::new(Ecr::new(session, registry, &name));
    if let Presence::Absent = ecr.repository(report).await? {
        return Ok(vec![]);
    }
    let client = Client::open(address, Identity::Ecr(ecr), Waits::DEFAULT, None, report).await?;
    check_tags_free(&client, tags, revision, report).await
}

/// Returns the tags that may not be looked up.
async fn check_tags_free(
    client: &Client,
    tags: &[String],
    revision: &str,
    report: &Report,
) -> Result<Vec<String>> {
    let (mut refused, mut unknown) = (Vec::new(), Vec::new());
    for tag in tags {
        let mut there = match preflight::look_up_tag(client, tag).await {
            Ok(Some(there)) => there,
            Ok(None) => continue,
            Err(error) if error.kind == Kind::Refused => {
                report.warn(format!(
                    "{}: whether {tag} is free, the push will tell; {}",
                    error.message,
                    first_advice(&error)
                ));
                unknown.push(tag.clone());
                continue;
            }
            Err(error) => return Err(error),
        };
        there.pushed = client.pushed(&there.digest).await;
        let image = format!("{}:{tag}", client.address().shown());
        match preflight::judge_taken_tag(&image, &there, revision) {
            Ok(words) => report.detail(words),
            Err(error) => refused.push(error),
        }
    }
    preflight::merge_refusals(refused).map_or(Ok(unknown), Err)
}

/// Ends a push that takes too long.
async fn limit_time(
    timeout: Duration,
    pushing: impl Future<Output = Result<Pushed>>,
) -> Result<Pushed> {
    tokio::time::timeout(timeout, pushing).await.unwrap_or_else(|_| {
        let seconds = timeout.as_secs();
        Err(Error::new(
            Kind::TimedOut,
            format!("cannot finish the push: it took longer than {seconds} s"),
        )
        .why("no tag of a partial image was set")
        .fix("run it again: uploaded blobs are not uploaded twice")
        .fix("or give it more time: --timeout 1h"))
    })
}

/// Finds an image to deploy in an ECR registry. Warns of one that the repository's lifecycle policy
/// removes while it runs.
///
/// # Errors
/// Refused, if there is none or it may not be looked for.
pub async fn find_image(
    session: &Session,
    registry: &platform::Registry,
    name: &str,
    wanted: &Wanted,
    report: &Report,
) -> Result<FoundImage> {
    let ecr = Ecr::new(session, registry, name);
    let found = ecr.find(wanted).await?;
    if let (true, platform::Lifecycle::Keep(keep)) = (found.is_untagged, &registry.lifecycle) {
        let aws = |verb: &str| ecr.command(verb);
        let digest = &found.digest;
        report.warn(repository::lifecycle::format_untagged_warning(
            name,
            digest.as_str(),
            keep,
            aws,
        ));
    }
    Ok(found)
}

/// The platforms that an image of an ECR registry is for. What cannot be read says nothing.
pub async fn find_platforms(
    session: &Session,
    registry: &platform::Registry,
    name: &str,
    digest: &Digest,
    report: &Report,
) -> Option<Vec<String>> {
    let looking = async {
        let address = Address::ecr(registry.host(), name, registry.endpoint.as_deref())?;
        let ecr = Arc::new(Ecr::new(session, registry, name));
        let identity = Identity::Ecr(ecr);
        let client = Client::open(address, identity, Waits::DEFAULT, None, report).await?;
        preflight::look_up_platforms(&client, digest).await
    };
    looking.await.unwrap_or_else(|error| {
        report.trace(error.to_string());
        None
    })
}

/// Checks what can be wrong before any request: the layout, its digest, the tags. Returns each tag
/// once.
fn check_request(request: &PushRequest) -> Result<(Layout, Vec<String>)> {
    let mut tags: Vec<String> = Vec::new();
    for tag in &request.tags {
        address::check_tag(tag)?;
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    if let Some(from) = &request.mount_from {
        address::check_name(from)?;
    }
    let layout = Layout::open(&request.layout)?;
    let found = &layout.root().digest;
    match request.digest.as_ref().filter(|wanted| *wanted != found) {
        Some(wanted) => Err(Error::input(format!("cannot push {}", request.layout.display()))
            .why(format!("it holds {found}, not {wanted}"))
            .fix("build it again, or leave out --digest")),
        None => Ok((layout, tags)),
    }
}

async fn run_plan(
    client: &Client,
    layout: &Layout,
    tags: &[String],
    plan: &PushPlan,
    request: &PushRequest,
    report: &Report,
) -> Result<Pushed> {
    let repository = client.address().shown();
    let mut mounted = 0;
    if let (Identity::Ecr(ecr), Some(_)) = (client.identity(), &request.scan) {
        // A role that may not read findings is refused before anything is uploaded.
        ecr.scan(&layout.root().digest).await?;
    }
    if request.plan {
        report.detail(plan.in_words());
    } else {
        if !plan.is_nothing() {
            mounted = push::upload_image(client, layout, plan, report).await?;
        }
        // An image that was pushed before may have new findings.
        match (client.identity(), &request.scan) {
            (Identity::Ecr(ecr), Some(rules)) => {
                gate::check_findings(ecr, layout, rules, request.recipe.as_ref(), report).await?
            }
            (Identity::Anonymous, Some(_)) => {
                report.warn(format!("{repository} is not ECR, and its findings are not known"))
            }
            (_, None) => {}
        }
        push::set_tags(client, layout, plan).await?;
    }
    Ok(Pushed {
        status: request.plan.then_some("planned"),
        repository,
        digest: layout.root().digest.clone(),
        tags: tags.to_vec(),
        uploaded_bytes: plan.upload_bytes - mounted,
        skipped_bytes: plan.skip_bytes + mounted,
    })
}
