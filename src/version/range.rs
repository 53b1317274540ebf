//! The commits that one commit contains and another does not. Reads commits, never trees.
//!
//! Commits' clocks are wrong more often than one would think, so time only says where to look
//! first: whatever turns out to be contained takes all that is below it along, also what was taken
//! for new before.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use gix::ObjectId;
use gix::hashtable::HashMap;

use super::history::{CLOCK_SKEW, OLDER_IN_A_ROW, unreadable};
use crate::error::Result;

/// A commit that was come to.
struct Node {
    time: i64,
    parents: Vec<ObjectId>,
    /// The base contains it.
    old: bool,
    /// Its parents were come to as well.
    passed: bool,
}

/// What was come to, and what is to be looked at next: the newest.
struct Range<'r> {
    repository: &'r gix::Repository,
    /// Where a shallow history ends.
    cut: &'r HashSet<ObjectId>,
    nodes: HashMap<ObjectId, Node>,
    queue: BinaryHeap<(i64, Reverse<usize>, ObjectId)>,
    /// How many commits in the queue are not known to be old.
    open: usize,
}

/// The commits that `head` contains and `base` does not: no commit before one that came after it,
/// else the newest first.
///
/// # Errors
/// Unexpected, when a commit cannot be read.
pub fn since(
    repository: &gix::Repository,
    head: ObjectId,
    base: Option<ObjectId>,
    cut: &HashSet<ObjectId>,
) -> Result<Vec<ObjectId>> {
    let mut range =
        Range { repository, cut, nodes: HashMap::default(), queue: BinaryHeap::new(), open: 0 };
    if let Some(base) = base {
        range.reach(base, true)?;
    }
    range.reach(head, false)?;
    while range.open > 0 {
        range.pass()?;
    }
    let sorted = range.sorted();
    if let Some(base) = base {
        range.settle(base, &sorted)?;
    }
    Ok(sorted.into_iter().filter(|id| !range.nodes[id].old).collect())
}

impl Range<'_> {
    /// Comes to a commit from one that is `old` or not.
    fn reach(&mut self, id: ObjectId, old: bool) -> Result<()> {
        if self.nodes.contains_key(&id) {
            if old {
                self.take_along(id);
            }
            return Ok(());
        }
        let commit =
            self.repository.find_commit(id).map_err(|error| unreadable("the history", &error))?;
        let time = commit.time().map_err(|error| unreadable("the history", &error))?.seconds;
        let parents = if self.cut.contains(&id) {
            Vec::new()
        } else {
            commit.parent_ids().map(|id| id.detach()).collect()
        };
        self.queue.push((time, Reverse(self.nodes.len()), id));
        self.nodes.insert(id, Node { time, parents, old, passed: false });
        self.open += usize::from(!old);
        Ok(())
    }

    /// Goes on from the newest commit of the queue to its parents. Gives its time, and none at the
    /// end.
    fn pass(&mut self) -> Result<Option<i64>> {
        let Some((time, _, id)) = self.queue.pop() else { return Ok(None) };
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(None) };
        node.passed = true;
        let old = node.old;
        self.open -= usize::from(!old);
        for parent in node.parents.clone() {
            self.reach(parent, old)?;
        }
        Ok(Some(time))
    }

    /// What the base contains, with all below it that was come to.
    fn take_along(&mut self, id: ObjectId) {
        let mut below = vec![id];
        while let Some(id) = below.pop() {
            if let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.old) {
                node.old = true;
                self.open -= usize::from(!node.passed);
                below.extend(&node.parents);
            }
        }
    }

    /// What was taken for new, each after all that came after it.
    fn sorted(&self) -> Vec<ObjectId> {
        let new = || self.nodes.iter().filter(|(_, node)| !node.old);
        let mut children: HashMap<ObjectId, usize> = new().map(|(id, _)| (*id, 0)).collect();
        for parent in new().flat_map(|(_, node)| &node.parents) {
            children.entry(*parent).and_modify(|count| *count += 1);
        }
        let entry = |id: ObjectId| (self.nodes[&id].time, id);
        let mut ready: BinaryHeap<_> =
            children.iter().filter(|(_, count)| **count == 0).map(|(id, _)| entry(*id)).collect();
        let mut sorted = Vec::with_capacity(children.len());
        while let Some((_, id)) = ready.pop() {
            sorted.push(id);
            for parent in &self.nodes[&id].parents {
                if let Some(count) = children.get_mut(parent) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(entry(*parent));
                    }
                }
            }
        }
        sorted
    }

    /// Looks on below the base for what was taken for new, as far back as it may be. What comes
    /// after the base is new for sure; a line of commits on top of it costs nothing here.
    fn settle(&mut self, base: ObjectId, sorted: &[ObjectId]) -> Result<()> {
        let mut after = HashSet::from([base]);
        let mut oldest = i64::MAX;
        for id in sorted.iter().rev() {
            let node = &self.nodes[id];
            if node.parents.iter().any(|parent| after.contains(parent)) {
                after.insert(*id);
            } else {
                oldest = oldest.min(node.time);
            }
        }
        let mut older_in_a_row = 0;
        while oldest < i64::MAX && older_in_a_row < OLDER_IN_A_ROW {
            let Some(time) = self.pass()? else { break };
            older_in_a_row =
                if time < oldest.saturating_sub(CLOCK_SKEW) { older_in_a_row + 1 } else { 0 };
        }
        Ok(())
    }
}
