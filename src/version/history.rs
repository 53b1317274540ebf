//! What git knows: the versions that HEAD contains and the commits since. Reads, never writes,
//! never fetches.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use semver::Version;

use super::Tag;
use super::bump::Commit;
use super::names;
use super::objects::{CommitReader, Failure, Missing};
use super::paths::{self, PathRule, Touched};
use super::range::list_range;
use super::walk::Ancestors;
use crate::error::{Error, Result};
use crate::git;

/// How many commits a release may have beside the history that its tag is of.
const BESIDE: usize = 20;

/// A tag that names a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionTag {
    pub name: String,
    pub version: Version,
    /// A commit, or an annotated tag of one.
    target: ObjectId,
}

/// The tags of a repository.
#[derive(Clone, Debug, Default)]
pub struct Tags {
    /// Those that name a version of the prefix, the highest first.
    pub versions: Vec<VersionTag>,
    /// The names of all, also of those that are known from elsewhere.
    pub names: Vec<String>,
}

impl VersionTag {
    /// Whether it stands anywhere: a given tag of the null id is only a name that is taken.
    pub fn stands(&self) -> bool {
        !self.target.is_null()
    }

    /// Whether the commit is here.
    pub fn is_here(&self, repository: &gix::Repository) -> bool {
        self.commit(repository).is_some()
    }

    /// The commit a tag stands at. `None` for a tag of a tree or of a commit that is not here.
    fn commit(&self, repository: &gix::Repository) -> Option<ObjectId> {
        Some(repository.find_object(self.target).ok()?.peel_to_commit().ok()?.id)
    }
}

/// Reads the tags: a version is the `prefix` and a full semantic version, nothing else. `given`
/// replaces the versions of the checkout.
///
/// # Errors
/// Unexpected, when the references cannot be read.
pub fn read_tags(
    repository: &gix::Repository,
    prefix: &str,
    given: Option<&[Tag]>,
) -> Result<Tags> {
    let here = git::list_tags(repository)?;
    let mut tags =
        Tags { names: here.iter().map(|(name, _)| name.clone()).collect(), ..Tags::default() };
    let id = |tag: &Tag| ObjectId::from_hex(tag.commit.as_bytes()).ok();
    let standing = match given {
        Some(given) => {
            tags.names.extend(given.iter().map(|tag| tag.name.clone()));
            given.iter().filter_map(|tag| Some((tag.name.clone(), id(tag)?))).collect()
        }
        None => here,
    };
    tags.versions = standing
        .into_iter()
        .filter_map(|(name, target)| {
            let version = names::read_version(&name, prefix)?;
            Some(VersionTag { name, version, target })
        })
        .collect();
    tags.versions
        .sort_by(|a, b| b.version.cmp_precedence(&a.version).then_with(|| a.name.cmp(&b.name)));
    Ok(tags)
}

/// Finds the highest of `tags` that is `wanted` and stands at one of the ancestors, with its commit.
/// Of several tags of one version (1.0.0+1 and 1.0.0+2) that is the one nearest to the tips.
///
/// # Errors
/// Refused, when a commit cannot be read.
pub fn find_highest<'t>(
    repository: &gix::Repository,
    ancestors: &mut Ancestors<'_>,
    tags: &'t [VersionTag],
    wanted: impl Fn(&Version) -> bool,
) -> Result<Option<(&'t VersionTag, ObjectId)>> {
    let mut reader = CommitReader::of(repository);
    let same = |a: &VersionTag, b: &VersionTag| a.version.cmp_precedence(&b.version).is_eq();
    for group in tags.chunk_by(same) {
        let mut contained = Vec::new();
        for tag in group.iter().filter(|tag| wanted(&tag.version)) {
            let Some(at) = tag.commit(repository) else { continue };
            if ancestors.contains(at, reader.node(at)?.time)? {
                contained.push((tag, at));
            }
        }
        if let Some(found) = contained.into_iter().min_by_key(|(_, at)| ancestors.place(at)) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Finds the first of `tags` whose commit is here and contains `head`.
///
/// # Errors
/// Refused, when a commit cannot be read.
pub fn find_later<'t>(
    repository: &gix::Repository,
    tags: &[&'t VersionTag],
    head: &str,
) -> Result<Option<&'t VersionTag>> {
    let Ok(head) = ObjectId::from_hex(head.as_bytes()) else { return Ok(None) };
    let time = CommitReader::of(repository).node(head)?.time;
    let here: Vec<(&VersionTag, ObjectId)> =
        tags.iter().filter_map(|tag| tag.commit(repository).map(|at| (*tag, at))).collect();
    let contain = |tips: &[ObjectId]| Ancestors::of(repository, tips)?.contains(head, time);
    // Mostly none does, and one walk for all says so.
    let tips: Vec<ObjectId> = here.iter().map(|(_, at)| *at).collect();
    if here.is_empty() || !contain(&tips)? {
        return Ok(None);
    }
    for (tag, at) in here {
        if contain(&[at])? {
            return Ok(Some(tag));
        }
    }
    Ok(None)
}

/// Finds the first of `tags` that stands at one of the commits.
pub fn find_among<'t>(
    repository: &gix::Repository,
    tags: &[&'t VersionTag],
    commits: &[Commit],
) -> Option<(&'t VersionTag, ObjectId)> {
    let ids: HashSet<&str> = commits.iter().map(|commit| commit.id.as_str()).collect();
    let mut here = tags.iter().filter_map(|tag| Some((*tag, tag.commit(repository)?)));
    here.find(|(_, at)| ids.contains(at.to_string().as_str()))
}

/// The commits of a release that was made beside the history of `head`, newest first: a tool
/// committed on a commit of this history, tagged that, and never merged it. `None` if the tag's
/// commit has more than a few commits of its own, or contains `head` itself.
///
/// # Errors
/// Refused, when a commit cannot be read.
pub fn list_beside(
    repository: &gix::Repository,
    ancestors: &mut Ancestors<'_>,
    tag: &VersionTag,
    head: ObjectId,
) -> Result<Option<(ObjectId, Vec<Commit>)>> {
    let Some(at) = tag.commit(repository) else { return Ok(None) };
    let mut reader = CommitReader::of(repository);
    let mut beside = Vec::new();
    let mut open = vec![at];
    while let Some(id) = open.pop() {
        let node = reader.node(id)?;
        if id == head || node.parents.is_empty() || beside.len() == BESIDE {
            return Ok(None);
        }
        beside.push(id);
        for parent in node.parents {
            let time = reader.node(parent)?.time;
            if parent == head {
                return Ok(None);
            }
            if !beside.contains(&parent)
                && !open.contains(&parent)
                && !ancestors.contains(parent, time)?
            {
                open.push(parent);
            }
        }
    }
    let commits: Result<Vec<Commit>> = beside.into_iter().map(|id| reader.commit(id)).collect();
    Ok(Some((at, commits?)))
}

/// Lists the commits that `head` contains and `base` does not, newest first, each with whether it
/// touches `paths`.
///
/// # Errors
/// What is missing, when the history was cut off within the range or trees are left out.
pub fn list_commits(
    repository: &gix::Repository,
    head: ObjectId,
    base: Option<ObjectId>,
    paths: &[PathRule],
) -> Result<Vec<Commit>, Failure> {
    let mut reader = CommitReader::of(repository);
    let mut commits = Vec::new();
    let mut touched = Vec::new();
    for id in list_range(&mut reader, head, base)? {
        if reader.is_cut(&id) {
            return Err(Failure::Missing(Missing::Commits));
        }
        commits.push(reader.commit(id)?);
        if !paths.is_empty() {
            touched.push(Touched::of(repository, id)?);
        }
    }
    if !reader.is_shallow() {
        resolve_reverted(repository, &mut reader, base, &mut commits)?;
    }
    if !paths.is_empty() {
        let counts = paths::judge_touched(repository, paths, &touched)?;
        commits.iter_mut().zip(counts).for_each(|(commit, counts)| commit.counts = counts);
    }
    Ok(commits)
}

/// Makes sure that each revert says what it takes back.
///
/// A rebase gives commits new ids and leaves the old ones in the messages of reverts. Such a revert
/// is known by the title that it quotes, so an id that is in nobody's history goes where there is a
/// commit of that title. A revert that quotes no title gets that of the commit it names.
fn resolve_reverted(
    repository: &gix::Repository,
    reader: &mut CommitReader<'_>,
    base: Option<ObjectId>,
    commits: &mut [Commit],
) -> Result<()> {
    if commits.iter().all(|commit| commit.message.reverts.is_none()) {
        return Ok(());
    }
    let titles: HashSet<String> =
        commits.iter().map(|commit| commit.message.title.clone()).collect();
    let ids: BTreeSet<String> = commits.iter().map(|commit| commit.id.clone()).collect();
    for commit in commits {
        let Some(reverts) = commit.message.reverts.as_mut() else { continue };
        if reverts.title.is_none()
            && let [id] = reverts.commits.as_slice()
            && let Some(id) = find_commit(repository, id)
        {
            reverts.title = Some(reader.commit(id)?.message.title);
            continue;
        }
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

/// Finds the commit of an id, which may be a short one.
fn find_commit(repository: &gix::Repository, id: &str) -> Option<ObjectId> {
    let prefix = gix::hash::Prefix::from_hex(id).ok()?;
    let id = repository.objects.lookup_prefix(prefix, None).ok()??.ok()?;
    Some(repository.find_commit(id).ok()?.id)
}

/// Whether `base` contains the commit of this id.
fn is_released(repository: &gix::Repository, base: Option<ObjectId>, id: &str) -> Result<bool> {
    let (Some(base), Some(id)) = (base, find_commit(repository, id)) else { return Ok(false) };
    let time = CommitReader::of(repository).node(id)?.time;
    Ancestors::of(repository, &[base])?.contains(id, time)
}

/// Resolves `paths` of service.yaml, which stands in `folder`, to paths from the repository's root.
/// Empty: everything.
///
/// # Errors
/// Bad input when a path leads out of the repository.
pub fn resolve_paths(root: &Path, folder: &Path, paths: &[PathBuf]) -> Result<Vec<PathRule>> {
    let outside = |path: &Path| {
        Error::input(format!(
            "cannot take version.paths: {} leads out of the repository",
            path.display()
        ))
        .fix("name folders and files of this repository, relative to service.yaml")
    };
    // Both may be reached through links; what git knows is where they really are.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let elsewhere = |_| {
        Error::input(format!("cannot find {} in the work tree", folder.display()))
            .why(format!("its git repository has its files in {}", root.display()))
            .fix("run it in one of its work trees: git worktree list")
    };
    let folder = real(folder).strip_prefix(real(root)).map(Path::to_path_buf).map_err(elsewhere)?;
    let mut found = Vec::new();
    for path in paths {
        let (excluded, bare) = paths::split_exclusion(path);
        let mut parts: Vec<std::ffi::OsString> = Vec::new();
        for part in folder.join(&bare).components() {
            match part {
                std::path::Component::Normal(name) => parts.push(name.to_owned()),
                std::path::Component::CurDir => {}
                std::path::Component::ParentDir => {
                    parts.pop().ok_or_else(|| outside(path))?;
                }
                _ => return Err(outside(path)),
            }
        }
        found.push(PathRule::new(path, parts, excluded));
    }
    let everything = |rule: &PathRule| rule.parts.is_empty() && !rule.excluded;
    if found.iter().any(everything) && found.iter().all(|rule| !rule.excluded) {
        return Ok(Vec::new());
    }
    Ok(found)
}
