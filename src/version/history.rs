//! What git knows: the last version below HEAD and the commits since. Reads, never writes, never fetches.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::revision::walk::Sorting;
use gix::traverse::commit::simple::CommitTimeOrder;
use semver::Version;

use super::bump::Commit;
use super::commit;
use crate::error::{Error, Result, chain};

/// How far commits' clocks may be off before an ancestor is taken for none: a day, as git itself allows.
const CLOCK_SKEW: i64 = 86_400;

/// The last version that HEAD contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    pub tag: String,
    pub version: Version,
    pub at: ObjectId,
}

/// A tag that names a version, and the commit it stands at.
struct Tagged {
    name: String,
    version: Version,
    at: ObjectId,
    time: i64,
}

fn unreadable(what: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::unexpected(format!("cannot read {what}")).why(chain(error))
}

/// Finds the highest version tag that `head` contains: `prefix` and a full semantic version, nothing else.
///
/// # Errors
/// Refused when the history was cut off before that could be known.
pub fn base(repository: &gix::Repository, head: ObjectId, prefix: &str) -> Result<Option<Base>> {
    let mut tags = version_tags(repository, prefix)?;
    // The highest first; of two names of one version (1.0.0 and 1.0.0+build) any is as good.
    tags.sort_by(|a, b| b.version.cmp_precedence(&a.version).then_with(|| a.name.cmp(&b.name)));
    let mut walk = Ancestors::of(repository, head)?;
    for tag in tags {
        if walk.contains(tag.at, tag.time)? {
            return Ok(Some(Base { tag: tag.name, version: tag.version, at: tag.at }));
        }
    }
    if repository.is_shallow().unwrap_or(false) {
        return Err(shallow("no version tag is in the part of the history that is here"));
    }
    Ok(None)
}

fn version_tags(repository: &gix::Repository, prefix: &str) -> Result<Vec<Tagged>> {
    let mut found = Vec::new();
    let platform = repository.references().map_err(|error| unreadable("the tags", &error))?;
    let tags = platform.tags().map_err(|error| unreadable("the tags", &error))?;
    for reference in tags {
        let Ok(mut reference) = reference else { continue };
        let name = reference.name().shorten().to_string();
        let Some(Ok(version)) = name.strip_prefix(prefix).map(Version::parse) else { continue };
        // A tag of a tree or of a missing commit names no version of this history.
        let Ok(commit) = reference.peel_to_commit() else { continue };
        let time = commit.time().map_or(0, |time| time.seconds);
        found.push(Tagged { name, version, at: commit.id, time });
    }
    Ok(found)
}

/// The ancestors of a commit, walked newest first and only as far back as the questions asked of it need.
struct Ancestors<'r> {
    walk: gix::revision::Walk<'r>,
    seen: HashSet<ObjectId>,
    /// The commit time the walk has come to; nothing newer will follow, but for clock skew.
    reached: i64,
    ended: bool,
}

impl<'r> Ancestors<'r> {
    fn of(repository: &'r gix::Repository, head: ObjectId) -> Result<Self> {
        let walk = repository
            .rev_walk([head])
            .sorting(Sorting::ByCommitTime(CommitTimeOrder::NewestFirst))
            .all()
            .map_err(|error| unreadable("the history", &error))?;
        Ok(Ancestors { walk, seen: HashSet::new(), reached: i64::MAX, ended: false })
    }

    fn contains(&mut self, commit: ObjectId, time: i64) -> Result<bool> {
        loop {
            if self.seen.contains(&commit) {
                return Ok(true);
            }
            if self.ended || self.reached < time.saturating_sub(CLOCK_SKEW) {
                return Ok(false);
            }
            match self.walk.next() {
                Some(Ok(info)) => {
                    self.reached = self.reached.min(info.commit_time.unwrap_or(self.reached));
                    self.seen.insert(info.id);
                }
                Some(Err(error)) => return Err(unreadable("the history", &error)),
                None => self.ended = true,
            }
        }
    }
}

/// The commits that `head` contains and `base` does not, newest first; with `paths` only those that touch one of them.
///
/// # Errors
/// Refused when the history was cut off within the range.
pub fn since(
    repository: &gix::Repository,
    head: ObjectId,
    base: Option<ObjectId>,
    paths: &[PathBuf],
) -> Result<Vec<Commit>> {
    let cut = repository.shallow_commits().ok().flatten();
    let walk = repository
        .rev_walk([head])
        .with_hidden(base)
        .sorting(Sorting::ByCommitTime(CommitTimeOrder::NewestFirst))
        .all()
        .map_err(|error| unreadable("the history", &error))?;
    let mut commits = Vec::new();
    for info in walk {
        let info = info.map_err(|error| unreadable("the history", &error))?;
        if cut.as_ref().is_some_and(|cut| cut.contains(&info.id)) {
            return Err(shallow("the history is cut off before the last version"));
        }
        let commit = info.object().map_err(|error| unreadable("a commit", &error))?;
        if touches(&commit, paths)? {
            let message = String::from_utf8_lossy(commit.message_raw_sloppy()).into_owned();
            commits.push(Commit { id: info.id.to_string(), message: commit::read(&message) });
        }
    }
    Ok(commits)
}

/// Whether a commit changes anything below one of `paths`, against its first parent. No path: any commit does.
fn touches(commit: &gix::Commit<'_>, paths: &[PathBuf]) -> Result<bool> {
    if paths.is_empty() {
        return Ok(true);
    }
    let no_tree = |error: &(dyn std::error::Error + 'static)| {
        Error::refused("the commits' trees are not here, and `version.paths` needs them")
            .why(chain(error))
            .fix("check out with `filter: blob:none` instead of `tree:0`")
    };
    let tree = commit.tree().map_err(|error| no_tree(&error))?;
    let parent = match commit.parent_ids().next() {
        Some(id) => {
            let parent = id.object().map_err(|error| unreadable("a commit", &error))?.into_commit();
            Some(parent.tree().map_err(|error| no_tree(&error))?)
        }
        None => None,
    };
    for path in paths {
        let entry = |tree: &gix::Tree<'_>| {
            tree.lookup_entry_by_path(path)
                .map(|entry| entry.map(|entry| (entry.object_id(), entry.mode())))
                .map_err(|error| no_tree(&error))
        };
        let before = parent.as_ref().map(entry).transpose()?.flatten();
        if entry(&tree)? != before {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `paths` of service.yaml, which stands in `folder`, as paths from the repository's root. Empty: everything.
///
/// # Errors
/// Bad input when a path leads out of the repository.
pub fn paths_from_root(root: &Path, folder: &Path, paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let outside = |path: &Path| {
        Error::input(format!("version.paths: {} leads out of the repository", path.display()))
            .fix("name folders and files of this repository, relative to service.yaml")
    };
    // Both may be reached through links; what git knows is where they really are.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let folder = real(folder).strip_prefix(real(root)).map(Path::to_path_buf).map_err(|_| outside(folder))?;
    let mut found = Vec::new();
    for path in paths {
        let mut parts: Vec<std::ffi::OsString> = Vec::new();
        for part in folder.join(path).components() {
            match part {
                std::path::Component::Normal(name) => parts.push(name.to_owned()),
                std::path::Component::CurDir => {}
                std::path::Component::ParentDir => {
                    parts.pop().ok_or_else(|| outside(path))?;
                }
                _ => return Err(outside(path)),
            }
        }
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        found.push(parts.iter().collect());
    }
    Ok(found)
}

fn shallow(message: &str) -> Error {
    Error::refused(format!("{message}, so the next version cannot be known"))
        .why("the checkout is shallow")
        .fix("check out the whole history, without its files' old versions:\n- uses: actions/checkout\n  with: {fetch-depth: 0, filter: 'tree:0'}")
}
