//! The next semantic version of a service, from its git history.
//!
//! [`history`], [`range`] and [`paths`] read git, [`commit`] reads messages, [`bump`] and [`line`]
//! decide; nothing here writes, but for [`fetch`], which adds what a checkout lacks.

mod bump;
mod commit;
mod explain;
mod fetch;
mod history;
mod line;
mod paths;
mod range;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::service;
use crate::error::{Error, Result};
use crate::git;
use crate::report::Report;
use bump::{Commit, Verdict, short};
use history::{Ancestors, Failure, Missing, VersionTag};
use line::{Decision, Facts, Line, Outside};

pub use bump::Bump;
pub use commit::Header;

/// What to find the version of.
#[derive(Clone, Debug)]
pub struct Request {
    /// The folder of service.yaml: `paths` are relative to it.
    pub folder: PathBuf,
    pub settings: service::Version,
    /// Number of the pull request this is a preview for.
    pub pull_request: Option<u64>,
    /// The branch whose line of versions this is, where the checkout itself cannot tell.
    pub branch: Option<String>,
    /// The repository's default branch, where the checkout itself cannot tell.
    pub default_branch: Option<String>,
    /// Tags known from elsewhere, in place of those of the checkout. One whose commit is not here
    /// is no base.
    pub tags: Option<Vec<Tag>>,
    /// Whether git may fetch the history that the checkout lacks.
    pub fetch: bool,
}

/// A tag and the commit it stands at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub name: String,
    /// In full, hexadecimal.
    pub commit: String,
}

/// A version, and everything that follows from it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Version {
    /// `1.4.0`, a snapshot `1.3.3-main.4`, or a preview `1.4.0-pr.12.7`.
    pub version: String,
    /// The version's git tag.
    pub tag: String,
    /// The version as a Docker tag.
    pub docker_tag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_tag: Option<String>,
    pub bump: Bump,
    /// Whether this commit is to be tagged and released.
    pub release: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deciding_commit: Option<Deciding>,
    /// How many commits since the previous tag count: those that touch the paths.
    pub commits: u64,
    /// Those commits, newest first.
    #[serde(skip)]
    pub changes: Vec<Change>,
    /// What a person should know, though it stops nothing.
    #[serde(skip)]
    pub notices: Vec<String>,
    /// The tag of a version that was released from a later commit and holds this one, so that this
    /// one needs none.
    #[serde(skip)]
    pub overtaken_by: Option<String>,
    /// Whether this is what merging a pull request would make.
    #[serde(skip)]
    pub preview: bool,
}

/// The commit that decided the bump: the oldest of those with the highest one.
#[derive(Clone, Debug, Serialize)]
pub struct Deciding {
    pub sha: String,
    pub subject: String,
}

/// A commit since the previous version, and what it counts for.
#[derive(Clone, Debug)]
pub struct Change {
    /// In full, hexadecimal.
    pub sha: String,
    pub author: String,
    pub email: String,
    /// The commit's subject, or the title of the pull request that the commit merges.
    pub title: String,
    /// The pull request that the commit came with: from `(#12)` at the end of its title, or from
    /// the merge around it.
    pub pull_request: Option<u64>,
    /// What it adds to the version's notes; none when it was taken back, or only repeats another
    /// commit.
    pub headers: Vec<Header>,
    pub bump: Bump,
    pub why: String,
    /// Taken back by a later commit of these, or a commit that does nothing but that.
    pub taken_back: bool,
}

impl Version {
    /// The version and why, in a line.
    pub fn in_words(&self) -> String {
        let since = match &self.previous_tag {
            Some(tag) => format!("{} commits since {tag}", self.commits),
            None => format!("{} commits, no version before", self.commits),
        };
        match &self.deciding_commit {
            Some(deciding) => {
                format!(
                    "{}: {since}, decided by {} {}",
                    self.version,
                    short(&deciding.sha),
                    deciding.subject
                )
            }
            None if self.release => {
                format!("{}: {since}, the prereleases become stable", self.version)
            }
            None => format!("{}: {since}, none of them releases", self.version),
        }
    }

    /// Whether this is no release but a snapshot or a preview.
    pub fn is_snapshot(&self) -> bool {
        semver::Version::parse(&self.version).is_ok_and(|version| !version.pre.is_empty())
    }

    /// Every commit with its verdict, newest first; the deciding one is marked.
    pub fn explain(&self) -> Vec<String> {
        explain::lines(self)
    }

    /// [`Version::explain`] as a Markdown table.
    pub fn table(&self) -> String {
        explain::table(self)
    }
}

/// `version` as a Docker tag: `+` becomes `-`, at most 128 characters.
pub fn docker_tag(version: &str) -> String {
    version.replace('+', "-").chars().take(128).collect()
}

/// Finds the next version.
///
/// # Errors
/// Refused when too little of the history is here to know it, or the branch may not have it; bad
/// input when there is no commit.
pub async fn next(request: &Request, report: &Report) -> Result<Version> {
    let (missing, root, revision, highest) = {
        let repository = open(request)?;
        let head = git::head(&repository)?;
        let (missing, highest) = match observe(&repository, &head, request) {
            Ok(seen) => match seen.doubt {
                Some(missing) => (missing, seen.highest),
                None => return conclude(&repository, &head, request, &seen, Vec::new()),
            },
            Err(Failure::Missing(missing)) => (missing, None),
            Err(Failure::Error(error)) => return Err(error),
        };
        (missing, head.root, head.revision, highest)
    };
    let notices = supply(missing, highest.as_ref(), &root, &revision, request, report).await?;
    let repository = open(request)?;
    let head = git::head(&repository)?;
    match observe(&repository, &head, request) {
        Ok(seen) => conclude(&repository, &head, request, &seen, notices),
        Err(Failure::Missing(missing)) => Err(too_little(missing)),
        Err(Failure::Error(error)) => Err(error),
    }
}

fn open(request: &Request) -> Result<gix::Repository> {
    let mut repository = git::open(&request.folder)?;
    history::remember_objects(&mut repository);
    Ok(repository)
}

/// Fetches what is missing, where that may be, and gives what a person should know of it. `highest`
/// is the highest version that HEAD is known to contain.
async fn supply(
    missing: Missing,
    highest: Option<&semver::Version>,
    root: &Path,
    head: &str,
    request: &Request,
    report: &Report,
) -> Result<Vec<String>> {
    let trees = missing == Missing::Trees || asks_for_trees(root, request)?;
    if let Some(doubt) = in_doubt(missing, &request.settings.prefix) {
        let prefix = &request.settings.prefix;
        let counts = |name: &String| {
            let version = name
                .strip_prefix(prefix.as_str())
                .and_then(|version| semver::Version::parse(version).ok());
            version.is_some_and(|version| highest.is_none_or(|highest| version > *highest))
        };
        match if request.fetch { fetch::remote_tags(root, prefix).await } else { None } {
            Some(names) if names.iter().any(counts) => {}
            Some(_) => return Ok(Vec::new()),
            None => return Ok(vec![doubt]),
        }
    }
    if !request.fetch {
        return Err(too_little(missing));
    }
    report.detail(format!("this checkout lacks {}: fetching them", missing.name()));
    match fetch::fetch(root, head, missing, trees).await {
        Ok(()) => Ok(Vec::new()),
        Err(error) => Err(too_little(missing).why(format!("{}: {}", missing.why(), error))),
    }
}

/// What to say where the remote alone could tell whether something is missing, and it cannot be
/// asked.
fn in_doubt(missing: Missing, prefix: &str) -> Option<String> {
    match missing {
        // A repository without a version is one before its first release, unless its tags were left
        // behind.
        Missing::Tags => Some(format!(
            "no tag `{prefix}1.2.3` is here, and the remote could not be asked: this is the first version, unless the checkout \
             left the tags out (actions/checkout takes them with fetch-depth: 0)"
        )),
        Missing::Higher => Some(
            "the checkout is shallow, and the remote could not be asked: this is right unless a version higher than the last one \
             lies behind the checkout's end (fetch-depth: 0 leaves no doubt)"
                .into(),
        ),
        Missing::Commits | Missing::Trees => None,
    }
}

/// Whether `paths` ask what commits touch.
fn asks_for_trees(root: &Path, request: &Request) -> Result<bool> {
    Ok(!history::paths_from_root(root, &request.folder, &request.settings.paths)?.is_empty())
}

fn too_little(missing: Missing) -> Error {
    let filter = if missing == Missing::Trees {
        "blob:none"
    } else {
        "'tree:0' # with version.paths: blob:none"
    };
    Error::refused("too little of the history is here to know the next version").why(missing.why()).fix(format!(
        "check out the whole history, without its files' old versions:\n- uses: actions/checkout@v6\n  with:\n    fetch-depth: 0\n    filter: {filter}"
    ))
}

/// What git knows.
struct Observed {
    line: Line,
    branch: Option<String>,
    tags: Vec<VersionTag>,
    at_head: Option<semver::Version>,
    highest: Option<semver::Version>,
    base: Option<(String, semver::Version)>,
    commits: Vec<Commit>,
    /// What may be missing, as far as only the remote can tell.
    doubt: Option<Missing>,
}

fn observe(
    repository: &gix::Repository,
    head: &git::Head,
    request: &Request,
) -> Result<Observed, Failure> {
    let at = repository
        .head_id()
        .map_err(|error| Error::unexpected("cannot read HEAD").why(error))?
        .detach();
    let settings = &request.settings;
    let paths = history::paths_from_root(&head.root, &request.folder, &settings.paths)?;
    let branch = request.branch.clone().or_else(|| head.branch.clone());
    let default = request.default_branch.clone().or_else(|| history::default_branch(repository));
    let line = Line::of(branch.as_deref(), default.as_deref(), settings);
    let tags = history::version_tags(repository, &settings.prefix, request.tags.as_deref())?;

    let shallow = history::is_shallow(repository);
    let mut walk = Ancestors::of(repository, vec![at])?;
    let highest = walk.first(&tags, |_| true)?;
    let base = match highest {
        // What a prerelease held is not out yet for those who take stable versions.
        Some((tag, _)) if !tag.version.pre.is_empty() && !matches!(line, Line::Channel(_)) => {
            let stable = walk.first(&tags, |version| version.pre.is_empty())?;
            if stable.is_none() && shallow {
                return Err(Failure::Missing(Missing::Commits));
            }
            stable.or(highest)
        }
        None if shallow => return Err(Failure::Missing(Missing::Commits)),
        highest => highest,
    };
    // Behind the cut it may be contained as well.
    if shallow
        && highest
            .is_some_and(|(highest, _)| tags[0].version.cmp_precedence(&highest.version).is_gt())
    {
        return Err(Failure::Missing(Missing::Commits));
    }
    let doubt = match request.tags {
        None if tags.is_empty() && repository.find_remote("origin").is_ok() => Some(Missing::Tags),
        None if shallow && highest.is_some() => Some(Missing::Higher),
        _ => None,
    };
    let standing = [highest, base].into_iter().flatten().find(|(_, commit)| *commit == at);
    let base_at = base.map(|(_, commit)| commit);
    let mut observed = Observed {
        line,
        branch,
        at_head: standing.map(|(tag, _)| tag.version.clone()),
        highest: highest.map(|(tag, _)| tag.version.clone()),
        base: base.map(|(tag, _)| (tag.name.clone(), tag.version.clone())),
        commits: Vec::new(),
        doubt,
        tags: Vec::new(),
    };
    observed.commits = history::since(repository, at, base_at, &paths)?;
    observed.tags = tags;
    // GitHub's trial merge of a pull request is nobody's commit.
    if request.pull_request.is_some() && observed.commits.first().is_some_and(is_trial_merge) {
        observed.commits[0].trial = true;
        observed.commits[0].counts = false;
    }
    Ok(observed)
}

/// `Merge <head> into <base>`, as GitHub makes it for `refs/pull/12/merge`.
fn is_trial_merge(commit: &Commit) -> bool {
    matches!(commit.parents.as_slice(), [base, head] if commit.message.subject == format!("Merge {head} into {base}"))
}

/// What git knows → the version.
fn conclude(
    repository: &gix::Repository,
    head: &git::Head,
    request: &Request,
    seen: &Observed,
    mut notices: Vec<String>,
) -> Result<Version> {
    let settings = &request.settings;
    let verdicts = bump::judge(&seen.commits, settings);
    let initial = semver::Version::parse(&settings.initial).map_err(|error| {
        Error::input(format!("version.initial `{}` is not a semantic version", settings.initial))
            .why(error)
            .fix("initial: 0.1.0")
    })?;
    let known: Vec<semver::Version> = seen.tags.iter().map(|tag| tag.version.clone()).collect();
    let counted = || seen.commits.iter().zip(&verdicts).filter(|(commit, _)| commit.counts);
    let bump = counted().map(|(_, verdict)| verdict.bump).max().unwrap_or(Bump::None);
    let deciding = counted().rfind(|(_, verdict)| verdict.bump == bump && bump > Bump::None);
    let deciding = deciding.map(|(commit, _)| Deciding {
        sha: commit.id.clone(),
        subject: commit.message.title.clone(),
    });
    let mut facts = Facts {
        line: seen.line.clone(),
        branch: seen.branch.as_deref(),
        pull_request: request.pull_request,
        at_head: seen.at_head.as_ref(),
        highest: seen.highest.as_ref(),
        base: seen.base.as_ref().map(|(_, version)| version),
        known: &known,
        bump,
        commits: seen.commits.iter().filter(|commit| !commit.trial).count() as u64,
        overtaken: false,
    };
    let decide = |facts: &Facts<'_>| {
        line::decide(facts, &initial, settings.allow_1_0)
            .map_err(|outside| out_of_line(&outside, deciding.as_ref()))
    };
    let mut decision = decide(&facts)?;
    // A version that has its tag elsewhere: either a later run was faster, or the history was
    // rewritten.
    let elsewhere = |version: &semver::Version| {
        seen.tags
            .iter()
            .find(|tag| tag.version.cmp_precedence(version).is_eq())
            .expect("a known version has a tag")
    };
    let skipped = std::mem::take(&mut decision.skipped);
    let mut overtaken_by = None;
    // The lowest first: the one that was made next.
    let ahead = |version: &semver::Version| {
        decision.release && *version > decision.version && seen.line.has(version)
    };
    let ahead = seen.tags.iter().rev().filter(|tag| ahead(&tag.version));
    let ahead: Vec<&VersionTag> = skipped.iter().map(elsewhere).chain(ahead).collect();
    if let Some(tag) = history::first_after(repository, &ahead, &head.revision, head.time)? {
        overtaken_by = Some(tag.name.clone());
        facts.overtaken = true;
        decision = decide(&facts)?;
    }
    if !facts.overtaken {
        // Of a name that stands nowhere, whoever gave it says why.
        notices.extend(skipped.iter().map(elsewhere).filter(|tag| tag.stands()).map(|tag| {
            format!(
                "{} stands at a commit that is not part of this history, so the version after it is taken",
                tag.name
            )
        }));
    }
    let Decision { version, release, .. } = decision;
    let version = version.to_string();
    Ok(Version {
        tag: format!("{}{version}", settings.prefix),
        docker_tag: docker_tag(&version),
        version,
        previous_tag: seen.base.as_ref().map(|(tag, _)| tag.clone()),
        bump,
        release,
        deciding_commit: deciding,
        commits: counted().count() as u64,
        changes: counted().map(|(commit, verdict)| change(commit, verdict)).collect(),
        notices,
        overtaken_by,
        preview: request.pull_request.is_some(),
    })
}

fn change(commit: &Commit, verdict: &Verdict) -> Change {
    Change {
        sha: commit.id.clone(),
        author: commit.author.clone(),
        email: commit.email.clone(),
        title: commit.message.title.clone(),
        pull_request: verdict.pull_request,
        headers: verdict.headers.clone(),
        bump: verdict.bump,
        why: verdict.why.clone(),
        taken_back: verdict.taken_back,
    }
}

fn out_of_line(outside: &Outside, deciding: Option<&Deciding>) -> Error {
    let Outside { branch, range, version } = outside;
    let error = Error::refused(format!(
        "branch {branch} has versions {range} only, and the next one would be {version}"
    ));
    match deciding {
        Some(deciding) => error
            .why(format!("{} {}", short(&deciding.sha), deciding.subject))
            .fix("release that commit from the main branch and revert it here; or, if it changes less than its title says, say so in a revert and a new commit"),
        None => error.fix(format!("tag the version that {branch} goes on from")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On this project's own repository: whatever its history is, HEAD is a commit.
    #[tokio::test]
    async fn tags_from_elsewhere_replace_those_of_the_checkout() {
        use crate::report::{Format, Verbosity};
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let head =
            git::head(&git::open(&folder).expect("a repository")).expect("a commit").revision;
        let tag = |name: &str, commit: &str| Tag { name: name.into(), commit: commit.into() };
        let tags = vec![
            tag("v3.0.0", &head),
            tag("v2.0.0", &head),
            // Of a commit that is not here, of no commit, and of another prefix.
            tag("v4.0.0", &"f".repeat(40)),
            tag("v5.0.0", "zzz"),
            tag("w6.0.0", &head),
        ];
        let request = Request {
            folder,
            settings: service::Version::default(),
            pull_request: None,
            branch: Some("main".into()),
            default_branch: None,
            tags: Some(tags),
            fetch: false,
        };
        let report = Report::to(Box::new(std::io::sink()), Format::Human, Verbosity::Quiet, false);
        let found = next(&request, &report).await.expect("a version");
        assert_eq!(
            (found.version.as_str(), found.release, found.previous_tag.as_deref()),
            ("3.0.0", false, Some("v3.0.0"))
        );
        assert!(found.changes.is_empty() && found.notices.is_empty(), "{found:?}");
    }

    #[test]
    fn a_docker_tag_is_short_and_has_no_plus() {
        assert_eq!(docker_tag("1.0.0+build.1"), "1.0.0-build.1");
        assert_eq!(docker_tag(&"1".repeat(200)).len(), 128);
    }
}
