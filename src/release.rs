//! A commit's tag and its release on GitHub.
//!
//! A run observes the tags, decides the version on them, creates the tag without force, publishes
//! the release and moves the floating tags. A run that comes second observes again. Every write can
//! be repeated, so the next run finishes what a killed one began. [`tag`] and [`notes`] decide.

pub mod notes;
pub mod tag;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use semver::Version;
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::github::publication::{Asset, BesideFile};
use crate::github::repository::{Release, Repository, Tag, Write};
use crate::report::Report;
use crate::retry::RetryPolicy;
use crate::retry::policy::random_share;
use notes::{Change, Range};

/// Rounds in which another run may take the decided name, before this one gives up.
const ROUNDS: u32 = 10;

/// What to release.
#[derive(Clone, Debug)]
pub struct ReleaseRequest {
    /// The commit that is released.
    pub commit: String,
    /// Files that only the tag has: then it stands at a commit on top of `commit`.
    pub files: Vec<BesideFile>,
    /// What people download from the release.
    pub assets: Vec<Asset>,
    /// The text before the version in a tag.
    pub prefix: String,
    /// Whether `v1` and `v1.4` follow the release.
    pub floating: bool,
    /// A text that replaces the notes from the commits.
    pub notes: Option<String>,
    /// The branch that is released from; `None` if it is not known.
    pub branch: Option<String>,
    pub plan: bool,
    /// The longest time that the whole step may take.
    pub timeout: Duration,
}

/// The version that was decided on the tags.
#[derive(Clone, Debug)]
pub struct Decision {
    pub tag: String,
    pub previous_tag: Option<String>,
    /// Whether the commit is released at all.
    pub release: bool,
    pub changes: Vec<Change>,
    /// Notices for a person, which stop nothing.
    pub notices: Vec<String>,
    /// The tag of a later version that contains the commit already.
    pub overtaken_by: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Released,
    Planned,
    /// There was nothing to do.
    Unchanged,
    /// A later version contains the commit.
    Superseded,
}

/// The result of the step.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Released {
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The refs and releases that were written, or with `--plan` would be.
    pub changed: Vec<String>,
    /// The notes of a release that was published, or would be.
    #[serde(skip)]
    pub notes: Option<String>,
    #[serde(skip)]
    words: String,
}

impl Released {
    pub fn in_words(&self) -> &str {
        &self.words
    }

    fn superseded(later: String) -> Released {
        let words = format!("{later} was released from a later commit and contains this one");
        Released { tag: Some(later), ..Released::nothing(Status::Superseded, words) }
    }

    fn nothing(status: Status, words: String) -> Released {
        Released {
            status,
            version: None,
            tag: None,
            url: None,
            changed: Vec::new(),
            notes: None,
            words,
        }
    }
}

/// Everything that is to be done for a commit, as data; [`ReleaseStep::apply`] does it.
struct ReleasePlan {
    tag: String,
    version: Version,
    /// Whether the tag must be created.
    create: bool,
    /// The page of the release, if it exists already.
    page: Option<String>,
    release: Release,
    floating: Vec<tag::Floating>,
}

impl ReleasePlan {
    fn changes(&self) -> Vec<String> {
        let tag = self.create.then(|| format!("refs/tags/{}", self.tag));
        let release = self.page.is_none().then(|| format!("release {}", self.tag));
        let floating = self.floating.iter().map(|floating| format!("refs/tags/{}", floating.name));
        tag.into_iter().chain(release).chain(floating).collect()
    }
}

/// Why another round follows.
#[derive(Clone, Copy)]
enum Again {
    /// Another run was faster.
    Faster,
    /// GitHub says that a release of the tag exists, and shows none.
    Hidden,
}

/// The end of a round.
enum Round {
    Done(Box<Released>),
    /// The repository changed meanwhile: observe again.
    Again(Again),
    /// The name can never be used.
    Burned(String),
}

struct ReleaseStep<'a> {
    request: &'a ReleaseRequest,
    repository: &'a Repository,
    report: &'a Report,
    /// The commit that the tag stands at: the released one, or the one on top of it.
    tagged: String,
    /// The notices that were shown, each once in all rounds.
    said: RefCell<BTreeSet<String>>,
}

/// Releases a commit; `decide` returns the version that the given tags lead to.
///
/// # Errors
/// Refused, with the fix, if GitHub refuses; superseded, if other runs took the name in every
/// round; timed out.
pub async fn run_release(
    request: &ReleaseRequest,
    repository: &Repository,
    decide: impl AsyncFn(Vec<Tag>) -> Result<Decision>,
    report: &Report,
) -> Result<Released> {
    if !request.plan && !repository.has_token() {
        return Err(Error::refused("cannot release without a token").fix(
            "in a workflow give the job `permissions: {contents: write}`; on a laptop set \
             GITHUB_TOKEN: GITHUB_TOKEN=$(gh auth token)",
        ));
    }
    let releasing = async {
        let tagged = match request.files.is_empty() || request.plan {
            true => request.commit.clone(),
            false => repository.commit_beside(&request.commit, &request.files).await?,
        };
        let said = RefCell::default();
        ReleaseStep { request, repository, report, tagged, said }.rounds(decide).await
    };
    match tokio::time::timeout(request.timeout, releasing).await {
        Ok(ended) => ended,
        Err(_) => Err(Error::new(
            Kind::TimedOut,
            format!(
                "cannot finish the release: it took longer than {} s",
                request.timeout.as_secs()
            ),
        )
        .fix("run it again: it goes on from what is there")
        .fix("or give it more time: --timeout 10m")),
    }
}

impl ReleaseStep<'_> {
    async fn rounds(&self, decide: impl AsyncFn(Vec<Tag>) -> Result<Decision>) -> Result<Released> {
        let mut burned = Vec::new();
        let (mut wrote, mut last) = (Vec::new(), Again::Faster);
        for round in 1..=ROUNDS {
            let ended = self
                .round(&decide, &burned, &mut wrote)
                .await
                .map_err(|error| explain_after_writes(error, &wrote))?;
            match ended {
                Round::Done(released) => return Ok(*released),
                Round::Burned(name) => {
                    self.report.warn(format!(
                        "{name} belonged to an immutable release and can never be used again: the \
                         version after it is taken"
                    ));
                    burned.push(name);
                }
                Round::Again(why) => {
                    last = why;
                    self.report.detail(match why {
                        Again::Faster => "another run was faster: looking again",
                        Again::Hidden => {
                            "GitHub does not show the release that it says exists: looking again"
                        }
                    });
                    let pause = RetryPolicy::DEFAULT.pause(round.min(3), None, random_share());
                    let pause = pause.unwrap_or_default();
                    tokio::time::sleep(pause).await;
                }
            }
        }
        let error = match last {
            Again::Faster => Error::new(
                Kind::Superseded,
                format!("cannot release: other runs took the next version {ROUNDS} times"),
            )
            .fix("run it again when they are done: it goes on from what is there"),
            Again::Hidden => Error::refused("cannot publish the release")
                .why("GitHub says that one of this tag exists, and shows none: it may be a draft")
                .fix(format!(
                    "publish or delete the draft at {}/releases, then run it again",
                    self.repository.web()
                )),
        };
        Err(explain_after_writes(error, &wrote))
    }

    /// Observes, decides and applies.
    async fn round(
        &self,
        decide: &impl AsyncFn(Vec<Tag>) -> Result<Decision>,
        burned: &[String],
        wrote: &mut Vec<String>,
    ) -> Result<Round> {
        let (tagged, prefix) = (&self.tagged, &self.request.prefix);
        let tags = self.repository.tags(prefix).await?;
        let mut decided = None;
        let mut own = tag::find_own(&tags, prefix, tagged, burned);
        if own.as_ref().is_some_and(|(_, version)| !version.pre.is_empty()) {
            // A prerelease of another channel is not what this branch releases.
            let decision = self.decide(decide, &tags, burned).await?;
            let next = tag::parse_version(prefix, &decision.tag).filter(|_| decision.release);
            own = own.filter(|(_, own)| {
                next.is_none_or(|next| tag::channel_of(own) == tag::channel_of(&next))
            });
            decided = Some(decision);
        }
        let page = match &own {
            Some((tag, _)) => self.repository.release(&tag.name).await?,
            None => None,
        };
        let create = own.is_none();
        let (name, version, decision) = match own {
            Some((tag, version)) if page.is_some() => (tag.name.clone(), version, None),
            own => {
                let decision = match decided {
                    Some(decision) => decision,
                    None => self.decide(decide, &tags, burned).await?,
                };
                match own {
                    Some((tag, version)) => (tag.name.clone(), version, Some(decision)),
                    None if let Some(later) = decision.overtaken_by => {
                        return Ok(end_round(Released::superseded(later)));
                    }
                    None if !decision.release => {
                        let words =
                            "nothing to release: no commit since the last version asks for one";
                        return Ok(end_round(Released::nothing(Status::Unchanged, words.into())));
                    }
                    None => match tag::parse_version(prefix, &decision.tag) {
                        Some(version) => (decision.tag.clone(), version, Some(decision)),
                        None => {
                            return Err(Error::unexpected(format!(
                                "cannot release {}: it names no version",
                                decision.tag
                            )));
                        }
                    },
                }
            }
        };
        if create && let Some(later) = self.later(&tags, decision.as_ref(), &version).await? {
            return Ok(end_round(Released::superseded(later.name)));
        }
        let notes = match &decision {
            Some(decision) => self.notes(&name, decision).await?,
            None => String::new(),
        };
        let release = Release {
            tag: name.clone(),
            commit: tagged.clone(),
            notes,
            prerelease: !version.pre.is_empty(),
            latest: tag::is_latest(&tags, prefix, &version),
        };
        let floating = match self.request.floating {
            true => tag::plan_floating(&tags, prefix, &version, tagged),
            false => Vec::new(),
        };
        self.apply(ReleasePlan { tag: name, version, create, page, release, floating }, wrote).await
    }

    /// Decides the version on the tags without those of this commit.
    async fn decide(
        &self,
        decide: &impl AsyncFn(Vec<Tag>) -> Result<Decision>,
        tags: &[Tag],
        burned: &[String],
    ) -> Result<Decision> {
        let decision = decide(tag::hide_own(tags, &self.tagged, burned)).await?;
        let mut said = self.said.borrow_mut();
        for notice in &decision.notices {
            if said.insert(notice.clone()) {
                self.report.warn(notice);
            }
        }
        drop(said);
        Ok(decision)
    }

    async fn apply(&self, plan: ReleasePlan, wrote: &mut Vec<String>) -> Result<Round> {
        let changes = plan.changes();
        let ReleasePlan { tag, version, create, page, release, floating } = plan;
        let notes = page.is_none().then(|| release.notes.clone());
        let mut released = Released {
            version: Some(version.to_string()),
            tag: Some(tag.clone()),
            url: page,
            notes,
            ..Released::nothing(Status::Unchanged, format!("{tag} is released already"))
        };
        if self.request.plan {
            changes.iter().for_each(|change| self.report.detail(format!("would write {change}")));
            if !changes.is_empty() {
                (released.status, released.words) =
                    (Status::Planned, format!("would release {tag}"));
            }
            released.changed = changes;
            return Ok(end_round(released));
        }
        if create {
            let created = match self.repository.create_tag(&tag, &release.commit).await? {
                // Only a publication tells whether a ruleset forbids the tag or its name is used
                // up. If GitHub publishes, the tag exists, too: the next round finds it.
                Write::Restricted => {
                    let (told, _) = self.publish(&release).await?;
                    if told == Write::Done {
                        wrote.extend([format!("refs/tags/{tag}"), format!("release {tag}")]);
                        return Ok(Round::Again(Again::Faster));
                    }
                    told
                }
                created => created,
            };
            match created {
                Write::Burned => return Ok(Round::Burned(tag)),
                Write::Done => wrote.push(format!("refs/tags/{tag}")),
                Write::Exists | Write::NotForward | Write::Restricted => {
                    return Ok(Round::Again(Again::Faster));
                }
            }
        }
        if released.url.is_none() {
            let published = self.publish(&release).await?;
            match published {
                (Write::Burned, _) => return Ok(Round::Burned(tag)),
                (Write::Done, page) => {
                    wrote.push(format!("release {tag}"));
                    released.url = page;
                }
                // Another run of this commit published it, or a try whose answer was lost.
                _ => match self.repository.release(&tag).await? {
                    None => return Ok(Round::Again(Again::Hidden)),
                    page => released.url = page,
                },
            }
        }
        if !floating.is_empty() {
            self.float(&version, wrote).await?;
        }
        released.changed = std::mem::take(wrote);
        if !released.changed.is_empty() {
            (released.status, released.words) =
                (Status::Released, format!("{tag} at {}", self.repository.web()));
        }
        Ok(end_round(released))
    }

    async fn publish(&self, release: &Release) -> Result<(Write, Option<String>)> {
        match self.request.assets.as_slice() {
            [] => self.repository.publish(release).await,
            assets => self.repository.publish_with(release, assets).await,
        }
    }

    /// Moves the floating tags to our commit, unless a higher version has them by now.
    ///
    /// GitHub moves them forward only. Where lines have parted (1.4.1 on a branch, then 1.5.0
    /// elsewhere), the higher version decides, on tags that were just read.
    async fn float(&self, version: &Version, wrote: &mut Vec<String>) -> Result<()> {
        let (commit, prefix) = (&self.tagged, &self.request.prefix);
        let mut aside = Vec::new();
        for _ in 0..ROUNDS {
            let tags = self.repository.tags(prefix).await?;
            let moves = tag::plan_floating(&tags, prefix, version, commit);
            if moves.is_empty() {
                return Ok(());
            }
            for tag::Floating { name, from } in moves {
                let ended = match from {
                    None => self.repository.create_tag(&name, commit).await?,
                    Some(_) => {
                        self.repository.move_tag(&name, commit, aside.contains(&name)).await?
                    }
                };
                match ended {
                    Write::Done => wrote.push(format!("refs/tags/{name}")),
                    Write::NotForward => aside.push(name),
                    Write::Exists => {}
                    Write::Burned | Write::Restricted => {
                        return Err(Error::refused(format!(
                            "cannot create or move the tag {name}"
                        ))
                        .why("a ruleset forbids it, or it belonged to an immutable release")
                        .fix(
                            "put a GitHub App on the ruleset's bypass list and hand that app's \
                                 token in as `github-token`, or leave out version.floating in \
                                 service.yaml",
                        ));
                    }
                }
            }
        }
        self.report.warn(format!(
            "the floating tags of {version} do not stand at its commit yet: run it again"
        ));
        Ok(())
    }

    /// Finds the tag of a later version of this branch whose commit contains ours: then nothing is
    /// left to release.
    async fn later(
        &self,
        tags: &[Tag],
        decision: Option<&Decision>,
        next: &Version,
    ) -> Result<Option<Tag>> {
        let ReleaseRequest { commit, prefix, branch, .. } = self.request;
        let previous = decision.and_then(|decision| decision.previous_tag.as_deref());
        let base = previous.and_then(|name| tag::parse_version(prefix, name));
        for later in tag::find_later(tags, prefix, &self.tagged, base.as_ref(), next) {
            if !self.repository.contains(&later.commit, commit).await? {
                continue;
            }
            // A fix of 1.x that main released, too, must still be released as 1.x.
            // What has files of its own stands beside every branch.
            let ours = match branch.as_ref().filter(|_| self.request.files.is_empty()) {
                Some(branch) => self.repository.contains(branch, &later.commit).await?,
                None => true,
            };
            if ours {
                return Ok(Some(later.clone()));
            }
        }
        Ok(None)
    }

    async fn notes(&self, tag: &str, decision: &Decision) -> Result<String> {
        if let Some(notes) = &self.request.notes {
            return Ok(notes.clone());
        }
        let accounts = match decision.changes.iter().any(notes::needs_account) {
            true => self.repository.authors(&self.request.commit).await.unwrap_or_else(|error| {
                self.report.warn(format!("the notes name authors without their accounts: {error}"));
                BTreeMap::new()
            }),
            false => BTreeMap::new(),
        };
        let web = self.repository.web();
        let range = Range { web: &web, tag, previous: decision.previous_tag.as_deref() };
        Ok(notes::render_notes(&decision.changes, &accounts, &range))
    }
}

fn end_round(released: Released) -> Round {
    Round::Done(Box::new(released))
}

/// Turns a refusal after a write into an unexpected error: exit 3 means that nothing changed.
fn explain_after_writes(error: Error, wrote: &[String]) -> Error {
    match (error.kind, wrote) {
        (Kind::Refused, [_, ..]) => Error {
            kind: Kind::Unexpected,
            message: format!("{} ({} is there)", error.message, wrote.join(", ")),
            ..error
        },
        _ => error,
    }
}
