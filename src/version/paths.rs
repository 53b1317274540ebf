//! Which commits touch the paths that a version is of. Reads trees, never files.
//!
//! A commit is compared with its first parent, so that a merge counts by all that it brings, and by
//! what nobody committed before it. A folder that was moved is followed to where it was.

mod globs;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::objs::TreeRefIter;
use gix::objs::tree::EntryMode;

use super::objects::{Failure, Missing, name_unreadable};

/// How many trees are looked at to find where a folder came from, and how much of it must have been
/// there: git's own half.
const TREES: usize = 20_000;
const ENOUGH: f64 = 0.5;

/// What a path is in a tree.
type Entry = (ObjectId, EntryMode);

/// One of `version.paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// As service.yaml has it.
    pub written: PathBuf,
    /// The names from the repository's root down; those of a glob may hold `*`, `?` and `[…]`.
    pub parts: Vec<OsString>,
    /// What it names does not count: `!docs`.
    pub excluded: bool,
    glob: bool,
}

impl PathRule {
    pub fn new(written: &Path, mut parts: Vec<OsString>, excluded: bool) -> Self {
        // `src/**` is the folder.
        while parts.last().is_some_and(|part| part == "**")
            || parts.ends_with(&["**".into(), "*".into()])
        {
            parts.pop();
        }
        let glob = parts.iter().any(has_wildcard);
        PathRule { written: written.to_path_buf(), parts, excluded, glob }
    }
}

fn has_wildcard(part: &OsString) -> bool {
    part.as_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// Splits `!path`, as GitHub's filters and git's patterns write what is left out, into the path and
/// whether it is left out.
pub fn split_exclusion(path: &Path) -> (bool, PathBuf) {
    match path.as_os_str().as_bytes().strip_prefix(b"!") {
        Some(rest) if !rest.is_empty() => (true, OsString::from_vec(rest.to_vec()).into()),
        _ => (false, path.to_path_buf()),
    }
}

/// Judges of each commit whether it touches one of the paths.
///
/// # Errors
/// Missing trees; unexpected, when something cannot be read.
pub fn judge_touched(
    repository: &gix::Repository,
    rules: &[PathRule],
    commits: &[Touched],
) -> Result<Vec<bool>, Failure> {
    let pairs = pair_trees(repository, commits)?;
    if rules.iter().any(|rule| rule.glob || rule.excluded) {
        return globs::judge_pairs(repository, rules, &pairs);
    }
    let paths = rules.iter().map(|rule| rule.parts.clone()).collect();
    Paths { repository, paths, known: HashMap::new() }.judge_pairs(&pairs)
}

/// A path that does not do what it looks like, as service.yaml has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misnamed {
    /// Nothing has this name.
    Nothing(String),
    /// A symbolic link, which does not change with what it leads to.
    Link(String),
}

/// Finds the paths that name nothing, or a link, in a commit's tree. Of a tree that is not here
/// nobody knows.
pub fn find_misnamed(
    repository: &gix::Repository,
    head: ObjectId,
    rules: &[PathRule],
) -> Vec<Misnamed> {
    let Some(tree) = repository.find_commit(head).ok().and_then(|head| head.tree_id().ok()) else {
        return Vec::new();
    };
    let judge = |rule: &PathRule| {
        let written = rule.written.display().to_string();
        if rule.glob {
            let unmatched = globs::is_unmatched(repository, tree.detach(), rule).unwrap_or(false);
            return unmatched.then_some(Misnamed::Nothing(written));
        }
        let mut open = Some((tree.detach(), EntryMode::from(gix::objs::tree::EntryKind::Tree)));
        for part in &rule.parts {
            open = match open {
                Some((tree, mode)) if mode.is_tree() => find_entry(repository, tree, part).ok()?,
                _ => None,
            };
        }
        match open {
            None => Some(Misnamed::Nothing(written)),
            Some((_, mode)) if mode.is_link() => Some(Misnamed::Link(written)),
            Some(_) => None,
        }
    };
    rules.iter().filter_map(judge).collect()
}

/// A commit's tree, and that of its first parent.
type TreePair = (Option<ObjectId>, ObjectId);

fn pair_trees(repository: &gix::Repository, commits: &[Touched]) -> Result<Vec<TreePair>, Failure> {
    let trees: HashMap<ObjectId, ObjectId> =
        commits.iter().map(|commit| (commit.id, commit.tree)).collect();
    let mut pairs = Vec::new();
    for commit in commits {
        let before = match commit.first_parent {
            Some(parent) => Some(match trees.get(&parent) {
                Some(tree) => *tree,
                None => Touched::of(repository, parent)?.tree,
            }),
            None => None,
        };
        pairs.push((before, commit.tree));
    }
    Ok(pairs)
}

/// A commit, as far as comparing it needs.
pub struct Touched {
    id: ObjectId,
    tree: ObjectId,
    first_parent: Option<ObjectId>,
}

impl Touched {
    /// # Errors
    /// Unexpected, when the commit cannot be read.
    pub fn of(repository: &gix::Repository, id: ObjectId) -> Result<Self, Failure> {
        let unreadable = |error: gix::Error| name_unreadable("a commit", &error);
        let commit = repository.find_commit(id).map_err(unreadable)?;
        let tree = commit.tree_id().map_err(unreadable)?.detach();
        let first_parent = commit.parent_ids().next().map(|id| id.detach());
        Ok(Touched { id, tree, first_parent })
    }

    /// All that lies between two commits, taken as one.
    ///
    /// # Errors
    /// Unexpected, when the commit cannot be read.
    pub fn since(
        repository: &gix::Repository,
        base: ObjectId,
        id: ObjectId,
    ) -> Result<Self, Failure> {
        Ok(Touched { first_parent: Some(base), ..Touched::of(repository, id)? })
    }

    /// The commit that it is compared with.
    pub fn first_parent(&self) -> Option<ObjectId> {
        self.first_parent
    }
}

/// Paths without wildcards, and what is known of them.
struct Paths<'r> {
    repository: &'r gix::Repository,
    /// Each as its names, from the root down.
    paths: Vec<Vec<OsString>>,
    /// What a path's names from a depth on are below a tree.
    known: HashMap<(ObjectId, usize, usize), Option<Entry>>,
}

impl Paths<'_> {
    /// Judges of each commit whether it touches one of the paths, or a place that one of them was
    /// moved from.
    fn judge_pairs(mut self, pairs: &[TreePair]) -> Result<Vec<bool>, Failure> {
        let mut touched = vec![false; pairs.len()];
        // Grows while it is walked: a path that came from elsewhere adds where it was.
        let mut path = 0;
        while path < self.paths.len() {
            for (at, (before, after)) in pairs.iter().enumerate() {
                let now = self.entry(*after, path, 0)?;
                let was = match before {
                    Some(before) => self.entry(*before, path, 0)?,
                    None => None,
                };
                if now == was {
                    continue;
                }
                touched[at] = true;
                if let (Some(now), None, Some(before)) = (now, was, before)
                    && let Some(old) = self.moved_from(*before, *after, now)?
                    && !self.paths.contains(&old)
                {
                    self.paths.push(old);
                }
            }
            path += 1;
        }
        Ok(touched)
    }

    /// Finds what the names of a path from `depth` on are below a tree.
    fn entry(
        &mut self,
        tree: ObjectId,
        path: usize,
        depth: usize,
    ) -> Result<Option<Entry>, Failure> {
        let key = (tree, path, depth);
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let (name, last) = (&self.paths[path][depth], depth + 1 == self.paths[path].len());
        let found = find_entry(self.repository, tree, name)?;
        let found = match found {
            Some((id, mode)) if !last && mode.is_tree() => self.entry(id, path, depth + 1)?,
            Some(_) if !last => None,
            found => found,
        };
        self.known.insert(key, found);
        Ok(found)
    }

    /// Finds where `moved`, which is new in the tree `after`, was in the tree `before`: what is gone
    /// and holds most of the same files.
    fn moved_from(
        &self,
        before: ObjectId,
        after: ObjectId,
        moved: Entry,
    ) -> Result<Option<Vec<OsString>>, Failure> {
        let mut budget = TREES;
        let wanted = self.files(moved, &mut budget)?;
        let mut best = (0.0, None);
        let mut open = vec![(Vec::new(), before, Some(after))];
        while let Some((folder, before, after)) = open.pop() {
            let now: HashMap<OsString, Entry> = match after {
                Some(tree) => list_entries(self.repository, tree)?.into_iter().collect(),
                None => HashMap::new(),
            };
            budget = budget.saturating_sub(1);
            if budget == 0 {
                return Ok(None);
            }
            for (name, entry) in list_entries(self.repository, before)? {
                let there = now.get(&name);
                if there == Some(&entry) {
                    continue;
                }
                let mut place: Vec<OsString> = folder.clone();
                place.push(name.clone());
                if there.is_none() && entry.1.is_tree() == moved.1.is_tree() {
                    let files = self.files(entry, &mut budget)?;
                    let common = files.intersection(&wanted).count() as f64;
                    let share = common / files.len().max(wanted.len()).max(1) as f64;
                    if share > best.0 {
                        best = (share, Some(place.clone()));
                    }
                }
                if entry.1.is_tree() {
                    let after = there.filter(|there| there.1.is_tree()).map(|there| there.0);
                    open.push((place, entry.0, after));
                }
            }
        }
        Ok(best.1.filter(|_| best.0 >= ENOUGH))
    }

    /// Lists the contents of every file at or below an entry.
    fn files(&self, entry: Entry, budget: &mut usize) -> Result<HashSet<ObjectId>, Failure> {
        let mut files = HashSet::new();
        let mut open = vec![entry];
        while let Some((id, mode)) = open.pop() {
            if !mode.is_tree() {
                files.insert(id);
            } else if *budget > 0 {
                *budget -= 1;
                open.extend(list_entries(self.repository, id)?.into_iter().map(|(_, entry)| entry));
            }
        }
        Ok(files)
    }
}

/// Lists a tree's own entries.
fn list_entries(
    repository: &gix::Repository,
    tree: ObjectId,
) -> Result<Vec<(OsString, Entry)>, Failure> {
    let tree = read_tree(repository, tree)?;
    TreeRefIter::from_bytes(&tree.data, tree.id.kind())
        .map(|entry| {
            let entry = entry.map_err(|error| name_unreadable("a tree", &error))?;
            Ok((OsString::from_vec(entry.filename.to_vec()), (entry.oid.to_owned(), entry.mode)))
        })
        .collect()
}

/// Finds a tree's entry by its name.
fn find_entry(
    repository: &gix::Repository,
    tree: ObjectId,
    name: &OsString,
) -> Result<Option<Entry>, Failure> {
    let tree = read_tree(repository, tree)?;
    for entry in TreeRefIter::from_bytes(&tree.data, tree.id.kind()) {
        let entry = entry.map_err(|error| name_unreadable("a tree", &error))?;
        if entry.filename == name.as_bytes() {
            return Ok(Some((entry.oid.to_owned(), entry.mode)));
        }
    }
    Ok(None)
}

fn read_tree(repository: &gix::Repository, tree: ObjectId) -> Result<gix::Object<'_>, Failure> {
    match repository.try_find_object(tree) {
        Ok(Some(tree)) => Ok(tree),
        Ok(None) => Err(Failure::Missing(Missing::Trees)),
        Err(error) => Err(name_unreadable("a tree", &error).into()),
    }
}
