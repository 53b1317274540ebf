//! What git knows: the versions that HEAD contains and the commits since. Reads, never writes,
//! never fetches.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::revision::walk::Sorting;
use gix::traverse::commit::simple::CommitTimeOrder;
use semver::Version;

use super::Tag;
use super::bump::Commit;
use super::commit;
use super::paths::{Paths, Touched};
use super::range;
use crate::error::{Error, Result, chain};

/// How far commits' clocks may be off before an ancestor is taken for none: a day, as git itself
/// allows, and this many older commits in a row.
pub(super) const CLOCK_SKEW: i64 = 86_400;
pub(super) const OLDER_IN_A_ROW: usize = 1_000;

/// Room for the objects that a walk comes to twice.
const OBJECT_CACHE: usize = 8 * 1024 * 1024;

/// From this many commits on, a walk is worth a look into the commit-graph. Its entries lie in the
/// order of their ids, so that even a short walk would pull most of the file into memory.
const LONG_WALK: usize = 5_000;

/// Why the checkout cannot tell, though the repository it came from can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The history is cut off before the last version.
    Commits,
    /// Trees are left out, and `paths` needs them.
    Trees,
    /// No version tag is here, and nobody said that there is none.
    Tags,
    /// The history is cut off below the last version that is here; a higher one may lie behind the
    /// cut.
    Higher,
}

impl Missing {
    /// What is missing, in the plural.
    pub fn name(self) -> &'static str {
        match self {
            Missing::Commits | Missing::Higher => "commits",
            Missing::Trees => "trees",
            Missing::Tags => "tags",
        }
    }

    pub fn why(self) -> &'static str {
        match self {
            Missing::Commits => "the checkout is shallow: its history ends before the last version",
            Missing::Trees => {
                "the checkout has no trees of older commits, and version.paths asks what they touch"
            }
            Missing::Tags => "the remote has version tags, and this checkout has none",
            Missing::Higher => {
                "the checkout is shallow, and a higher version may lie behind its end"
            }
        }
    }
}

/// What reading the history ends in, where it does not end well.
#[derive(Debug)]
pub enum Failure {
    Missing(Missing),
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

/// A tag that names a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionTag {
    pub name: String,
    pub version: Version,
    /// A commit, or an annotated tag of one.
    target: ObjectId,
}

pub(super) fn unreadable(what: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::unexpected(format!("cannot read {what}")).why(chain(error))
}

/// The tags that name a version, the highest first: `prefix` and a full semantic version, nothing
/// else. `given` replaces those of the checkout.
///
/// # Errors
/// Unexpected, when the references cannot be read.
pub fn version_tags(
    repository: &gix::Repository,
    prefix: &str,
    given: Option<&[Tag]>,
) -> Result<Vec<VersionTag>> {
    let read =
        |name: &str| name.strip_prefix(prefix).and_then(|version| Version::parse(version).ok());
    let mut found = Vec::new();
    if let Some(given) = given {
        for tag in given {
            if let (Some(version), Ok(commit)) =
                (read(&tag.name), ObjectId::from_hex(tag.commit.as_bytes()))
            {
                found.push(VersionTag { name: tag.name.clone(), version, target: commit });
            }
        }
    } else {
        let platform = repository.references().map_err(|error| unreadable("the tags", &error))?;
        for reference in platform.tags().map_err(|error| unreadable("the tags", &error))? {
            let Ok(reference) = reference else { continue };
            let name = reference.name().shorten().to_string();
            if let (Some(version), Some(id)) = (read(&name), reference.try_id()) {
                found.push(VersionTag { name, version, target: id.detach() });
            }
        }
    }
    // Of two names of one version (1.0.0 and 1.0.0+build) any is as good, but always the same one.
    found.sort_by(|a, b| b.version.cmp_precedence(&a.version).then_with(|| a.name.cmp(&b.name)));
    Ok(found)
}

impl VersionTag {
    /// Whether it stands anywhere: a given tag of the null id is only a name that is taken.
    pub fn stands(&self) -> bool {
        !self.target.is_null()
    }

    /// The commit a tag stands at, and its time. None for a tag of a tree or of a commit that is
    /// not here.
    fn commit(&self, repository: &gix::Repository) -> Option<(ObjectId, i64)> {
        let commit = repository.find_object(self.target).ok()?.peel_to_commit().ok()?;
        Some((commit.id, commit.time().ok()?.seconds))
    }
}

/// The ancestors of commits, walked newest first and only as far back as the questions asked of it
/// need.
pub struct Ancestors<'r> {
    repository: &'r gix::Repository,
    walk: gix::revision::Walk<'r>,
    seen: HashSet<ObjectId>,
    /// The times of the commits that were walked.
    times: Vec<i64>,
    tips: Vec<ObjectId>,
    /// How many commits the walk has come to, and whether it uses the commit-graph by now.
    walked: usize,
    long: bool,
    ended: bool,
}

impl<'r> Ancestors<'r> {
    /// # Errors
    /// Unexpected, when the commit cannot be read.
    pub fn of(repository: &'r gix::Repository, tips: Vec<ObjectId>) -> Result<Self> {
        let walk = walk(repository, &tips, false)?;
        let (seen, times) = (HashSet::new(), Vec::new());
        Ok(Ancestors { repository, walk, seen, times, tips, walked: 0, long: false, ended: false })
    }

    /// The first of `tags` that is `wanted` and stands at one of the ancestors, with its commit.
    ///
    /// # Errors
    /// Unexpected, when a commit cannot be read.
    pub fn first<'t>(
        &mut self,
        tags: &'t [VersionTag],
        wanted: impl Fn(&Version) -> bool,
    ) -> Result<Option<(&'t VersionTag, ObjectId)>> {
        for tag in tags.iter().filter(|tag| wanted(&tag.version)) {
            let Some((at, time)) = tag.commit(self.repository) else { continue };
            if self.contains(at, time)? {
                return Ok(Some((tag, at)));
            }
        }
        Ok(None)
    }

    fn contains(&mut self, commit: ObjectId, time: i64) -> Result<bool> {
        let older = |walked: &&i64| **walked < time.saturating_sub(CLOCK_SKEW);
        let mut in_a_row = self.times.iter().rev().take(OLDER_IN_A_ROW).take_while(older).count();
        loop {
            if self.seen.contains(&commit) {
                return Ok(true);
            }
            if self.ended || in_a_row >= OLDER_IN_A_ROW {
                return Ok(false);
            }
            if self.walked == LONG_WALK && !self.long {
                // From the start, which is quick with the commit-graph.
                self.walk = walk(self.repository, &self.tips, true)?;
                (self.walked, self.long) = (0, true);
                self.times.clear();
                in_a_row = 0;
            }
            match self.walk.next() {
                Some(Ok(info)) => {
                    self.walked += 1;
                    let walked = info.commit_time.unwrap_or(i64::MAX);
                    in_a_row = if older(&&walked) { in_a_row + 1 } else { 0 };
                    self.times.push(walked);
                    self.seen.insert(info.id);
                }
                Some(Err(error)) => return Err(unreadable("the history", &error)),
                None => self.ended = true,
            }
        }
    }
}

/// The first of `tags` whose commit is here and contains `head`.
///
/// # Errors
/// Unexpected, when a commit cannot be read.
pub fn first_after<'t>(
    repository: &gix::Repository,
    tags: &[&'t VersionTag],
    head: &str,
    time: i64,
) -> Result<Option<&'t VersionTag>> {
    let Ok(head) = ObjectId::from_hex(head.as_bytes()) else { return Ok(None) };
    let here: Vec<(&VersionTag, ObjectId)> =
        tags.iter().filter_map(|tag| tag.commit(repository).map(|(at, _)| (*tag, at))).collect();
    let contain = |tips: Vec<ObjectId>| Ancestors::of(repository, tips)?.contains(head, time);
    // Mostly none does, and one walk for all says so.
    if here.is_empty() || !contain(here.iter().map(|(_, at)| *at).collect())? {
        return Ok(None);
    }
    for (tag, at) in here {
        if contain(vec![at])? {
            return Ok(Some(tag));
        }
    }
    Ok(None)
}

/// The default branch of the remote, as a clone remembers it.
pub fn default_branch(repository: &gix::Repository) -> Option<String> {
    let head = repository.find_reference("refs/remotes/origin/HEAD").ok()?;
    let name = head.target().try_name()?.as_bstr().to_string();
    name.strip_prefix("refs/remotes/origin/").map(str::to_string)
}

/// Whether the history is cut off somewhere.
pub fn is_shallow(repository: &gix::Repository) -> bool {
    repository.is_shallow().unwrap_or(false)
}

/// The commits that `tips` contain, newest first.
fn walk<'r>(
    repository: &'r gix::Repository,
    tips: &[ObjectId],
    graph: bool,
) -> Result<gix::revision::Walk<'r>> {
    repository
        .rev_walk(tips.iter().copied())
        .sorting(Sorting::ByCommitTime(CommitTimeOrder::NewestFirst))
        .use_commit_graph(if graph { None } else { Some(false) })
        .all()
        .map_err(|error| unreadable("the history", &error))
}

/// Opens the room for objects that both walks, of the tags and of the commits, come to.
pub fn remember_objects(repository: &mut gix::Repository) {
    repository.object_cache_size_if_unset(OBJECT_CACHE);
}

/// The commits that `head` contains and `base` does not, newest first, each with whether it touches
/// `paths`.
///
/// # Errors
/// What is missing, when the history was cut off within the range or trees are left out.
pub fn since(
    repository: &gix::Repository,
    head: ObjectId,
    base: Option<ObjectId>,
    paths: &[PathBuf],
) -> Result<Vec<Commit>, Failure> {
    let cut = repository.shallow_commits().ok().flatten();
    let cut: HashSet<ObjectId> = cut.iter().flat_map(|cut| cut.iter().copied()).collect();
    let mut commits = Vec::new();
    let mut touched = Vec::new();
    for id in range::since(repository, head, base, &cut)? {
        if cut.contains(&id) {
            return Err(Failure::Missing(Missing::Commits));
        }
        let commit = repository.find_commit(id).map_err(|error| unreadable("a commit", &error))?;
        let author = commit.author().map_err(|error| unreadable("a commit", &error))?;
        let message = String::from_utf8_lossy(commit.message_raw_sloppy()).into_owned();
        commits.push(Commit {
            id: id.to_string(),
            author: author.name.to_string(),
            email: author.email.to_string(),
            parents: commit.parent_ids().map(|id| id.to_string()).collect(),
            message: commit::read(&message),
            counts: true,
            trial: false,
        });
        if !paths.is_empty() {
            touched.push(Touched::of(&commit)?);
        }
    }
    if cut.is_empty() {
        forget_rewritten(repository, base, &mut commits)?;
    }
    if !paths.is_empty() {
        let counts = Paths::of(repository, paths).touched(&touched)?;
        commits.iter_mut().zip(counts).for_each(|(commit, counts)| commit.counts = counts);
    }
    Ok(commits)
}

/// A rebase gives commits new ids and leaves the old ones in the messages of reverts. Such a revert
/// is known by the title that it quotes, so an id that is in nobody's history goes where there is a
/// commit of that title.
fn forget_rewritten(
    repository: &gix::Repository,
    base: Option<ObjectId>,
    commits: &mut [Commit],
) -> Result<()> {
    let titles: HashSet<String> =
        commits.iter().map(|commit| commit.message.title.clone()).collect();
    let ids: BTreeSet<String> = commits.iter().map(|commit| commit.id.clone()).collect();
    for commit in commits {
        let Some(reverts) = commit.message.reverts.as_mut() else { continue };
        if !reverts.title.as_ref().is_some_and(|title| titles.contains(title)) {
            continue;
        }
        let mut kept = Vec::new();
        for id in std::mem::take(&mut reverts.commits) {
            let here = ids.range(id.clone()..).next().is_some_and(|known| known.starts_with(&id));
            if here || is_released(repository, base, &id)? {
                kept.push(id);
            }
        }
        reverts.commits = kept;
    }
    Ok(())
}

/// Whether `base` contains the commit of this id, which may be a short one.
fn is_released(repository: &gix::Repository, base: Option<ObjectId>, id: &str) -> Result<bool> {
    let found = gix::hash::Prefix::from_hex(id)
        .ok()
        .and_then(|id| repository.objects.lookup_prefix(id, None).ok());
    let (Some(base), Some(Some(Ok(id)))) = (base, found) else { return Ok(false) };
    let Some(time) = repository.find_commit(id).ok().and_then(|commit| commit.time().ok()) else {
        return Ok(false);
    };
    Ancestors::of(repository, vec![base])?.contains(id, time.seconds)
}

/// `paths` of service.yaml, which stands in `folder`, as paths from the repository's root. Empty:
/// everything.
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
    let folder = real(folder)
        .strip_prefix(real(root))
        .map(Path::to_path_buf)
        .map_err(|_| outside(folder))?;
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
