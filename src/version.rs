//! The next semantic version of a service, from its git history.
//!
//! [`observe`] asks git by [`history`], [`walk`], [`range`], [`paths`] and [`objects`]; [`commit`]
//! reads messages, [`names`] the names of tags; [`bump`] and [`line`] decide, and [`conclude`] puts
//! it together. Nothing here writes, but for [`fetch`], which adds what a checkout lacks.

mod bump;
mod changed;
mod commit;
mod conclude;
mod explain;
mod fetch;
#[cfg(test)]
mod fuzz;
mod history;
mod line;
mod names;
mod objects;
mod observe;
mod paths;
mod range;
mod walk;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::service;
use crate::error::{Error, Result};
use crate::git;
use crate::report::{Markdown, Report};
use bump::shorten_id;
use objects::{Failure, Missing};
use observe::observe_history;

pub use bump::Bump;
pub use changed::{ServicePaths, find_changed};
pub use commit::Header;

/// What to find the version of.
#[derive(Clone, Debug)]
pub struct VersionRequest {
    /// The folder of service.yaml: `paths` are relative to it.
    pub folder: PathBuf,
    pub settings: service::Version,
    /// Number of the pull request this is a preview for.
    pub pull_request: Option<u64>,
    /// The branch whose line of versions this is, where the checkout itself cannot tell.
    pub branch: Option<String>,
    /// The repository's default branch, where the checkout itself cannot tell.
    pub default_branch: Option<String>,
    /// The run is of a tag, not of a branch: it is of the main line where the default branch has its
    /// commit, and else of none.
    pub of_tag: bool,
    /// Tags known from elsewhere, in place of those of the checkout. One whose commit is not here
    /// is no base.
    pub tags: Option<Vec<Tag>>,
    /// What fetches the history that the checkout lacks; `None` where nothing may be written.
    pub fetch: Option<git::Git>,
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
    /// What the commit adds to the version's notes; nothing if it was taken back, or only repeats
    /// another commit.
    pub headers: Vec<Header>,
    pub bump: Bump,
    pub why: String,
    /// A later commit of these takes this one back, or this one does nothing but take back.
    pub taken_back: bool,
}

impl Version {
    /// Tells the version and why, in a line.
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
                    shorten_id(&deciding.sha),
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

    /// Tells every commit's verdict, newest first; the deciding one is marked.
    pub fn explain(&self) -> Vec<String> {
        explain::lines(self)
    }

    /// [`Version::explain`] as a Markdown table.
    pub fn table(&self) -> Markdown {
        explain::table(self)
    }
}

/// Writes a version as a Docker tag: `+` becomes `-`, at most 128 characters.
pub fn docker_tag(version: &str) -> String {
    version.replace('+', "-").chars().take(128).collect()
}

/// Finds the next version.
///
/// # Errors
/// Refused when too little of the history is here to know it, when its tags say that there must be
/// a version before and not which, or the branch may not have it; bad input when there is no
/// commit.
pub async fn find_next_version(request: &VersionRequest, report: &Report) -> Result<Version> {
    let request = &with_merge_queue(request.clone());
    let (missing, root, revision, remote, highest) = {
        let repository = open_repository(request)?;
        let head = git::head(&repository)?;
        let (missing, highest) = match observe_history(&repository, &head, request) {
            Ok(seen) => match seen.doubt {
                Some(missing) => (missing, seen.highest),
                None => {
                    let known = Supplied::default();
                    return conclude::conclude_version(&repository, &head, request, &seen, known);
                }
            },
            Err(Failure::Missing(missing)) => (missing, None),
            Err(Failure::Error(error)) => return Err(error),
        };
        (missing, head.root, head.revision, git::main_remote(&repository), highest)
    };
    let remote = remote.as_deref().unwrap_or("origin");
    let from = |git| fetch::Source { git, root: &root, head: &revision, remote };
    let from = request.fetch.as_ref().map(from);
    let supplied = supply_missing(missing, highest.as_ref(), &root, from, request, report).await?;
    let repository = open_repository(request)?;
    let head = git::head(&repository)?;
    match observe_history(&repository, &head, request) {
        Ok(seen) => conclude::conclude_version(&repository, &head, request, &seen, supplied),
        Err(Failure::Missing(missing)) => Err(refuse_missing(missing)),
        Err(Failure::Error(error)) => Err(error),
    }
}

fn open_repository(request: &VersionRequest) -> Result<gix::Repository> {
    let mut repository = git::open(&request.folder)?;
    git::refuse_grafts(&repository)?;
    objects::remember_objects(&mut repository);
    Ok(repository)
}

/// Takes a merge queue's branch for what it is: the trial of a pull request.
fn with_merge_queue(mut request: VersionRequest) -> VersionRequest {
    if let Some((base, number)) = request.branch.as_deref().and_then(read_merge_queue) {
        (request.branch, request.pull_request) = (Some(base.to_string()), Some(number));
    }
    request
}

/// Reads `gh-readonly-queue/BASE/pr-12-SHA` as the branch that is merged into and the number.
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows#merge_group>
fn read_merge_queue(branch: &str) -> Option<(&str, u64)> {
    let (base, entry) = branch.strip_prefix("gh-readonly-queue/")?.rsplit_once('/')?;
    let (number, _) = entry.strip_prefix("pr-")?.split_once('-')?;
    Some((base, number.parse().ok()?))
}

/// What the remote had to say.
#[derive(Debug, Default)]
struct Supplied {
    /// What a person should know.
    notices: Vec<String>,
    /// The names of tags that stayed there.
    names: Vec<String>,
}

/// Fetches what is missing, where that is allowed. `highest` is the highest version that HEAD is
/// known to contain.
async fn supply_missing(
    missing: Missing,
    highest: Option<&semver::Version>,
    root: &Path,
    from: Option<fetch::Source<'_>>,
    request: &VersionRequest,
    report: &Report,
) -> Result<Supplied> {
    let trees = missing == Missing::Trees || asks_for_trees(root, request)?;
    if let Some(doubt) = describe_doubt(missing, &request.settings.prefix) {
        let prefix = &request.settings.prefix;
        let counts = |name: &String| {
            let version = names::read_version(name, prefix);
            version.is_some_and(|version| highest.is_none_or(|highest| version > *highest))
        };
        // Where no version is here, tags of any name may tell of one.
        let behind = Some(prefix.as_str()).filter(|_| missing != Missing::Tags);
        let names = match &from {
            Some(from) => fetch::remote_tags(from, behind).await,
            None => None,
        };
        match names {
            Some(names) if names.iter().any(counts) => {}
            Some(names) => return Ok(Supplied { names, ..Supplied::default() }),
            None => return Ok(Supplied { notices: vec![doubt], ..Supplied::default() }),
        }
    }
    let Some(from) = from else { return Err(refuse_missing(missing)) };
    report.detail(format!("this checkout lacks {}: fetching them", missing.name()));
    match fetch::fetch_history(&from, missing, trees).await {
        Ok(()) => Ok(Supplied::default()),
        Err(error) => Err(refuse_missing(missing).why(format!("{}: {}", missing.why(), error))),
    }
}

/// Describes the doubt where the remote alone could tell whether something is missing, and it cannot
/// be asked.
fn describe_doubt(missing: Missing, prefix: &str) -> Option<String> {
    match missing {
        // A repository without a version is one before its first release, unless its tags were left
        // behind.
        Missing::Tags => Some(format!(
            "no tag `{prefix}1.2.3` is here, and the remote could not be asked: this is the first \
             version, unless the checkout left the tags out (actions/checkout takes them with \
             fetch-depth: 0)"
        )),
        Missing::Higher => Some(
            "the checkout is shallow, and the remote could not be asked: this is right unless a \
             version higher than the last one lies behind the checkout's end (fetch-depth: 0 leaves \
             no doubt)"
                .into(),
        ),
        Missing::Commits | Missing::Trees => None,
    }
}

/// Whether `paths` ask what commits touch.
fn asks_for_trees(root: &Path, request: &VersionRequest) -> Result<bool> {
    Ok(!history::resolve_paths(root, &request.folder, &request.settings.paths)?.is_empty())
}

fn refuse_missing(missing: Missing) -> Error {
    let filter = if missing == Missing::Trees {
        "blob:none"
    } else {
        "'tree:0' # with version.paths: blob:none"
    };
    Error::refused("cannot find the next version").why(missing.why()).fix(format!(
        "check out the whole history, without its files' old versions:\n\
         - uses: actions/checkout@v6\n  with:\n    fetch-depth: 0\n    filter: {filter}"
    ))
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
        let request = VersionRequest {
            folder,
            settings: service::Version::default(),
            pull_request: None,
            branch: Some("main".into()),
            default_branch: None,
            of_tag: false,
            tags: Some(tags),
            fetch: None,
        };
        let report = Report::to(Box::new(std::io::sink()), Format::Human, Verbosity::Quiet, false);
        let found = find_next_version(&request, &report).await.expect("a version");
        assert_eq!(
            (found.version.as_str(), found.release, found.previous_tag.as_deref()),
            ("3.0.0", false, Some("v3.0.0"))
        );
        assert!(found.changes.is_empty() && found.notices.is_empty(), "{found:?}");
    }

    #[test]
    fn a_merge_queue_tries_a_pull_request() {
        let cases = [
            ("gh-readonly-queue/main/pr-12-0123abc", Some(("main", 12))),
            ("gh-readonly-queue/1.x/hot/pr-7-0123abc", Some(("1.x/hot", 7))),
            ("gh-readonly-queue/main/pr-x-0123abc", None),
            ("gh-readonly-queue/main", None),
            ("main", None),
        ];
        for (branch, read) in cases {
            assert_eq!(read_merge_queue(branch), read, "{branch}");
        }
    }

    #[test]
    fn a_docker_tag_is_short_and_has_no_plus() {
        assert_eq!(docker_tag("1.0.0+build.1"), "1.0.0-build.1");
        assert_eq!(docker_tag(&"1".repeat(200)).len(), 128);
    }
}
