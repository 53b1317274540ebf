//! Which commits touch the paths that a version is of. Reads trees, never files.
//!
//! A commit is compared with its first parent, so that a merge counts by all that it brings, and by
//! what nobody committed before it. A folder that was moved is followed to where it was.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use gix::ObjectId;
use gix::objs::TreeRefIter;
use gix::objs::tree::EntryMode;

use super::history::{Failure, Missing, unreadable};

/// How many trees are looked at to find where a folder came from, and how much of it must have been
/// there: git's own half.
const TREES: usize = 20_000;
const ENOUGH: f64 = 0.5;

/// What a path is in a tree.
type Entry = (ObjectId, EntryMode);

/// A commit, as far as comparing it needs.
pub struct Touched {
    id: ObjectId,
    tree: ObjectId,
    first_parent: Option<ObjectId>,
}

impl Touched {
    /// # Errors
    /// Unexpected, when the commit is no commit.
    pub fn of(commit: &gix::Commit<'_>) -> Result<Self, Failure> {
        let tree = commit.tree_id().map_err(|error| unreadable("a commit", &error))?.detach();
        Ok(Touched {
            id: commit.id,
            tree,
            first_parent: commit.parent_ids().next().map(|id| id.detach()),
        })
    }
}

/// The paths, and what is known of them.
pub struct Paths<'r> {
    repository: &'r gix::Repository,
    /// Each as its names, from the root down.
    paths: Vec<Vec<OsString>>,
    /// What a path's names from a depth on are below a tree.
    known: HashMap<(ObjectId, usize, usize), Option<Entry>>,
}

impl<'r> Paths<'r> {
    pub fn of(repository: &'r gix::Repository, paths: &[PathBuf]) -> Self {
        let paths = paths.iter().map(|path| path.iter().map(OsString::from).collect()).collect();
        Paths { repository, paths, known: HashMap::new() }
    }

    /// Of each commit, whether it touches one of the paths, or a place that one of them was moved
    /// from.
    ///
    /// # Errors
    /// Missing trees; unexpected, when something cannot be read.
    pub fn touched(mut self, commits: &[Touched]) -> Result<Vec<bool>, Failure> {
        let trees: HashMap<ObjectId, ObjectId> =
            commits.iter().map(|commit| (commit.id, commit.tree)).collect();
        let mut pairs = Vec::new();
        for commit in commits {
            let before = match commit.first_parent {
                Some(parent) => Some(match trees.get(&parent) {
                    Some(tree) => *tree,
                    None => {
                        let parent = self
                            .repository
                            .find_commit(parent)
                            .map_err(|error| unreadable("a commit", &error))?;
                        parent.tree_id().map_err(|error| unreadable("a commit", &error))?.detach()
                    }
                }),
                None => None,
            };
            pairs.push((before, commit.tree));
        }
        let mut touched = vec![false; commits.len()];
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

    /// What the names of a path from `depth` on are below a tree.
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
        let found = find(self.repository, tree, name)?;
        let found = match found {
            Some((id, mode)) if !last && mode.is_tree() => self.entry(id, path, depth + 1)?,
            Some(_) if !last => None,
            found => found,
        };
        self.known.insert(key, found);
        Ok(found)
    }

    /// Where `moved`, which is new in the tree `after`, was in the tree `before`: what is gone and
    /// holds most of the same files.
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
                Some(tree) => entries(self.repository, tree)?.into_iter().collect(),
                None => HashMap::new(),
            };
            budget = budget.saturating_sub(1);
            if budget == 0 {
                return Ok(None);
            }
            for (name, entry) in entries(self.repository, before)? {
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

    /// The contents of every file at or below an entry.
    fn files(&self, entry: Entry, budget: &mut usize) -> Result<HashSet<ObjectId>, Failure> {
        let mut files = HashSet::new();
        let mut open = vec![entry];
        while let Some((id, mode)) = open.pop() {
            if !mode.is_tree() {
                files.insert(id);
            } else if *budget > 0 {
                *budget -= 1;
                open.extend(entries(self.repository, id)?.into_iter().map(|(_, entry)| entry));
            }
        }
        Ok(files)
    }
}

/// The tree's own entries.
fn entries(
    repository: &gix::Repository,
    tree: ObjectId,
) -> Result<Vec<(OsString, Entry)>, Failure> {
    let tree = read(repository, tree)?;
    TreeRefIter::from_bytes(&tree.data, tree.id.kind())
        .map(|entry| {
            let entry = entry.map_err(|error| unreadable("a tree", &error))?;
            Ok((OsString::from_vec(entry.filename.to_vec()), (entry.oid.to_owned(), entry.mode)))
        })
        .collect()
}

/// The tree's entry of one name.
fn find(
    repository: &gix::Repository,
    tree: ObjectId,
    name: &OsString,
) -> Result<Option<Entry>, Failure> {
    let tree = read(repository, tree)?;
    for entry in TreeRefIter::from_bytes(&tree.data, tree.id.kind()) {
        let entry = entry.map_err(|error| unreadable("a tree", &error))?;
        if entry.filename == name.as_bytes() {
            return Ok(Some((entry.oid.to_owned(), entry.mode)));
        }
    }
    Ok(None)
}

fn read(repository: &gix::Repository, tree: ObjectId) -> Result<gix::Object<'_>, Failure> {
    match repository.try_find_object(tree) {
        Ok(Some(tree)) => Ok(tree),
        Ok(None) => Err(Failure::Missing(Missing::Trees)),
        Err(error) => Err(unreadable("a tree", &error).into()),
    }
}
