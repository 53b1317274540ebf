//! From an OCI layout to a registry: ECR, or any that speaks the OCI distribution protocol.
//!
//! [`push`] decides and does; [`upload`] streams one blob; [`client`] speaks HTTP and has patience;
//! [`ecr`] is ECR's own API, and [`repository`] how a repository there should be; [`gate`] waits
//! for findings, [`scan`] judges them and [`origin`] knows where they come from.

mod address;
mod cause;
mod challenge;
mod client;
mod ecr;
mod gate;
mod lanes;
#[cfg(test)]
mod mutations;
mod origin;
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
use crate::patience::Patience;
use crate::report::{Report, human};
use address::Address;
use client::{Client, Identity};
use ecr::{Ecr, There};
pub use origin::Recipe;
use push::{Facts, Plan};
pub use repository::plan::Owner;
use repository::plan::Settings;

/// A registry's own word for how long to wait is kept, up to ten minutes: a push has a deadline of
/// its own.
const PATIENCE: Patience = Patience { longest: Duration::from_secs(600), ..Patience::DEFAULT };

/// What to push.
#[derive(Clone, Debug)]
pub struct Request {
    pub layout: PathBuf,
    pub tags: Vec<String>,
    /// The digest the layout must have.
    pub digest: Option<String>,
    /// Another repository of the same registry, whose blobs need not be uploaded again.
    pub mount_from: Option<String>,
    /// The longest time it may take, all in all.
    pub timeout: Duration,
    pub plan: bool,
    /// Bring a repository that is there to what platform.yaml says of it.
    pub repair: bool,
    pub owner: Owner,
    /// What findings keep the tags from being set; none: nobody looks for findings.
    pub scan: Option<service::Scan>,
    /// The Dockerfile, where there is one: findings are told by its lines.
    pub recipe: Option<Recipe>,
}

/// What was pushed, or with [`Request::plan`] would be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pushed {
    /// `planned`, when nothing was pushed because only a plan was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    /// `HOST/NAME`, as images are named.
    pub repository: String,
    pub digest: String,
    pub tags: Vec<String>,
    /// Of blobs and manifests, as they are stored.
    pub uploaded_bytes: u64,
    /// What the registry had already.
    pub skipped_bytes: u64,
}

impl Pushed {
    /// For people: where it is, and how much of it had to travel.
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
                    "planned, nothing was pushed: {image}{tags}, {uploaded} to upload, {skipped} there already"
                )
            }
            None if self.uploaded_bytes == 0 => format!("{image}{tags}, all of it there already"),
            None => format!("{image}{tags}, {uploaded} uploaded, {skipped} there already"),
        }
    }
}

/// How an image in a registry is looked for.
#[derive(Clone, Debug)]
pub enum Wanted {
    Tag(String),
    Digest(String),
}

/// An image that is there.
#[derive(Clone, Debug)]
pub struct Found {
    pub digest: String,
    /// The version tag it carries, when there is one.
    pub tag: Option<String>,
    /// Whether it carries no tag at all.
    pub is_untagged: bool,
}

/// Pushes to `HOST[:PORT]/NAME`, without any AWS call and without a login.
///
/// # Errors
/// Bad input: the layout, a tag or the repository. Refused: a tag is taken, or the registry does
/// not let us. Timed out or unexpected: the registry is not well, after patience.
pub async fn push_to(repository: &str, request: &Request, report: &Report) -> Result<Pushed> {
    within(request.timeout, async {
        let (layout, tags) = checked(request)?;
        let address = Address::parse(repository)?;
        let from = request.mount_from.as_deref();
        let client = Client::open(address, Identity::Anonymous, PATIENCE, from, report).await?;
        let facts = push::observe(&client, &layout, &tags).await?;
        let plan = push::plan(&layout, &client.address().shown(), &facts)?;
        push(&client, &layout, &tags, &plan, request, report).await
    })
    .await
}

/// Pushes to the service's repository in an ECR registry. One that is not there is created; one
/// that is not as platform.yaml says is told of, and with [`Request::repair`] changed.
///
/// # Errors
/// As [`push_to`]; a refusal names the IAM action to allow.
pub async fn push_to_ecr(
    session: &Session,
    registry: &platform::Registry,
    request: &Request,
    report: &Report,
) -> Result<Pushed> {
    within(request.timeout, async {
        let (layout, tags) = checked(request)?;
        let settings = Settings::of(registry, &request.owner)?;
        let name = repository_of(registry, &request.owner.service);
        let address = Address::ecr(registry.host(), &name, registry.endpoint.as_deref())?;
        let ecr = Arc::new(Ecr::new(session, registry, &name));
        let there = ecr.repository(report).await?;
        let (identity, from) = (Identity::Ecr(ecr.clone()), request.mount_from.as_deref());
        let client = Client::open(address, identity, PATIENCE, from, report).await?;
        let observe = async {
            match there {
                There::No => Ok(Facts::nothing(&tags)),
                _ => push::observe(&client, &layout, &tags).await,
            }
        };
        let look = repository::look(&ecr, there.clone(), &settings, request.repair, report);
        let (facts, there) = tokio::try_join!(observe, look)?;
        let plan = push::plan(&layout, &client.address().shown(), &facts)?;
        // Before the image: what it is pushed into scans it or not.
        repository::ensure(&ecr, &there, &settings, request.repair, request.plan, report).await?;
        warn_of_loss(&ecr, &layout, &tags, &facts, &settings, report).await;
        push(&client, &layout, &tags, &plan, request, report).await
    })
    .await
}

/// Says when the repository's lifecycle policy would remove the image although somebody counts on
/// it.
async fn warn_of_loss(
    ecr: &Ecr,
    layout: &Layout,
    tags: &[String],
    facts: &Facts,
    settings: &Settings,
    report: &Report,
) {
    let root = &layout.root().digest;
    let mut all = tags.to_vec();
    // It was pushed before, and is to get another name.
    if facts.present.contains(root) && facts.tags.iter().any(|(_, there)| there.is_none()) {
        match ecr.tags_of(root.as_str()).await {
            Ok(there) => all.extend(there),
            Err(error) => report.warn(format!(
                "{}: whether a lifecycle policy removes it for a tag that it has already is not known; {}",
                error.message,
                error.fixes.into_iter().next().or(error.why).unwrap_or_default()
            )),
        }
    }
    if let Some(loss) = settings.loses_a_release(&all) {
        report.warn(loss);
    }
    if let (true, Some(keep)) = (tags.is_empty(), &settings.keep) {
        report.warn(format!(
            "no tag is set, and {} keeps an image without one for {} days, also when it runs somewhere: give it a --tag",
            ecr.name(),
            keep.untagged.0
        ));
    }
}

/// Sees before a build that the tags are free for an image of the commit `revision` in
/// `HOST[:PORT]/NAME`. Gives those that it may not look for.
///
/// # Errors
/// Refused, when one is taken by an image of another commit.
pub async fn preflight(
    repository: &str,
    tags: &[String],
    revision: &str,
    report: &Report,
) -> Result<Vec<String>> {
    tags.iter().try_for_each(|tag| address::check_tag(tag))?;
    let client = Client::open(
        Address::parse(repository)?,
        Identity::Anonymous,
        Patience::DEFAULT,
        None,
        report,
    )
    .await?;
    free_for(&client, tags, revision, report).await
}

/// As [`preflight`], in the service's repository of an ECR registry. One that is not there has no
/// tags.
///
/// # Errors
/// As [`preflight`]; a refusal names the IAM action to allow. Bad input, when platform.yaml
/// endangers the service's releases.
pub async fn preflight_ecr(
    session: &Session,
    registry: &platform::Registry,
    owner: &Owner,
    tags: &[String],
    revision: &str,
    report: &Report,
) -> Result<Vec<String>> {
    tags.iter().try_for_each(|tag| address::check_tag(tag))?;
    Settings::of(registry, owner)?;
    let name = repository_of(registry, &owner.service);
    let address = Address::ecr(registry.host(), &name, registry.endpoint.as_deref())?;
    let ecr = Arc::new(Ecr::new(session, registry, &name));
    if let There::No = ecr.repository(report).await? {
        return Ok(vec![]);
    }
    let client = Client::open(address, Identity::Ecr(ecr), Patience::DEFAULT, None, report).await?;
    free_for(&client, tags, revision, report).await
}

/// Gives the tags of which it is not known.
async fn free_for(
    client: &Client,
    tags: &[String],
    revision: &str,
    report: &Report,
) -> Result<Vec<String>> {
    let (mut refused, mut unknown) = (Vec::new(), Vec::new());
    for tag in tags {
        let mut there = match preflight::look(client, tag).await {
            Ok(Some(there)) => there,
            Ok(None) => continue,
            Err(error) if error.kind == Kind::Refused => {
                let fix = error.fixes.into_iter().next().or(error.why).unwrap_or_default();
                report.warn(format!(
                    "{}: whether {tag} is free, the push will tell; {fix}",
                    error.message
                ));
                unknown.push(tag.clone());
                continue;
            }
            Err(error) => return Err(error),
        };
        there.pushed = client.pushed(&there.digest).await;
        let image = format!("{}:{tag}", client.address().shown());
        match preflight::verdict(&image, &there, revision) {
            Ok(words) => report.detail(words),
            Err(error) => refused.push(error),
        }
    }
    preflight::together(refused).map_or(Ok(unknown), Err)
}

/// A push that ends in time, one way or the other.
async fn within(
    timeout: Duration,
    pushing: impl Future<Output = Result<Pushed>>,
) -> Result<Pushed> {
    tokio::time::timeout(timeout, pushing).await.unwrap_or_else(|_| {
        Err(Error::new(Kind::TimedOut, format!("the push took longer than {} s", timeout.as_secs()))
            .why("no tag was set of what is not there as a whole")
            .fix("run it again: what was uploaded is not uploaded twice; or give it more time: --timeout 1h"))
    })
}

/// Finds an image in an ECR registry, to be deployed. One that its repository's lifecycle policy
/// removes while it runs is warned of.
///
/// # Errors
/// Refused, when there is none or it may not be looked for; bad input for what is no digest.
pub async fn find(
    session: &Session,
    registry: &platform::Registry,
    name: &str,
    wanted: &Wanted,
    report: &Report,
) -> Result<Found> {
    let ecr = Ecr::new(session, registry, name);
    let found = ecr.find(wanted).await?;
    if let (true, platform::Lifecycle::Keep(keep)) = (found.is_untagged, &registry.lifecycle) {
        report.warn(repository::lifecycle::deployed_untagged(name, &found.digest, keep, |verb| {
            ecr.command(verb)
        }));
    }
    Ok(found)
}

/// All that can be wrong before anybody is asked: the layout, its digest, the tags. Each tag once.
fn checked(request: &Request) -> Result<(Layout, Vec<String>)> {
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
    let wanted = request.digest.as_deref().map(Digest::parse).transpose()?;
    let layout = Layout::open(&request.layout)?;
    let found = &layout.root().digest;
    match wanted.filter(|wanted| wanted != found) {
        Some(wanted) => {
            Err(Error::input(format!("{} holds {found}, not {wanted}", request.layout.display()))
                .fix("build it again, or leave out --digest"))
        }
        None => Ok((layout, tags)),
    }
}

async fn push(
    client: &Client,
    layout: &Layout,
    tags: &[String],
    plan: &Plan,
    request: &Request,
    report: &Report,
) -> Result<Pushed> {
    let repository = client.address().shown();
    let mut mounted = 0;
    if let (Identity::Ecr(ecr), Some(_)) = (client.identity(), &request.scan) {
        // Whoever may not look is told so before anything is uploaded.
        ecr.scan(layout.root().digest.as_str()).await?;
    }
    if request.plan {
        report.detail(plan.in_words());
    } else {
        if !plan.is_nothing() {
            mounted = push::upload(client, layout, plan, report).await?;
        }
        // What was pushed before is asked about again: there may be new findings since.
        match (client.identity(), &request.scan) {
            (Identity::Ecr(ecr), Some(rules)) => {
                gate::pass(ecr, layout, rules, request.recipe.as_ref(), report).await?
            }
            (Identity::Anonymous, Some(_)) => {
                report.warn(format!("{repository} is not ECR: nothing is known of findings"))
            }
            (_, None) => {}
        }
        push::set_tags(client, layout, plan).await?;
    }
    Ok(Pushed {
        status: request.plan.then_some("planned"),
        repository,
        digest: layout.root().digest.to_string(),
        tags: tags.to_vec(),
        uploaded_bytes: plan.upload_bytes - mounted,
        skipped_bytes: plan.skip_bytes + mounted,
    })
}
