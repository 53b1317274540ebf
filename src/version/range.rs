//! The commits that one commit contains and another does not. Reads commits, never trees.
//!
//! Commits' clocks are wrong more often than one would think, so time only says where to look
//! first: a commit that turns out to be contained marks all its ancestors, also those that were
//! taken for new before.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gix::ObjectId;
use gix::hashtable::{HashMap, HashSet};

use super::objects::{CLOCK_SKEW, CommitNode, CommitReader, OLDER_IN_A_ROW};
use crate::error::Result;

/// A commit that the walk reached.
struct Visited {
    time: i64,
    parents: Vec<ObjectId>,
    /// The base contains it.
    old: bool,
    /// The walk reached its parents as well.
    passed: bool,
}

/// The commits that the walk reached, and those to go on from: the newest first.
struct Range<'r, 'a> {
    reader: &'a mut CommitReader<'r>,
    nodes: HashMap<ObjectId, Visited>,
    queue: BinaryHeap<(i64, Reverse<usize>, ObjectId)>,
    /// How many commits in the queue are not known to be old.
    open: usize,
}

/// The commits that `head` contains and `base` does not: no commit before one that came after it,
/// else the newest first.
///
/// # Errors
/// Refused, when a commit cannot be read.
pub fn list_range(
    reader: &mut CommitReader<'_>,
    head: ObjectId,
    base: Option<ObjectId>,
) -> Result<Vec<ObjectId>> {
    let mut range = Range { reader, nodes: HashMap::default(), queue: BinaryHeap::new(), open: 0 };
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

impl Range<'_, '_> {
    /// Adds a commit that was reached from one that is `old` or not.
    fn reach(&mut self, id: ObjectId, old: bool) -> Result<()> {
        if self.nodes.contains_key(&id) {
            if old {
                self.mark_old(id);
            }
            return Ok(());
        }
        let CommitNode { time, parents } = self.reader.node(id)?;
        self.queue.push((time, Reverse(self.nodes.len()), id));
        self.nodes.insert(id, Visited { time, parents, old, passed: false });
        self.open += usize::from(!old);
        Ok(())
    }

    /// Passes from the newest commit of the queue to its parents. Returns its time, `None` at the
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

    /// Marks `id` and every visited ancestor as contained in the base.
    fn mark_old(&mut self, id: ObjectId) {
        let mut below = vec![id];
        while let Some(id) = below.pop() {
            if let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.old) {
                node.old = true;
                self.open -= usize::from(!node.passed);
                below.extend(&node.parents);
            }
        }
    }

    /// The commits that are taken for new, each behind all that came after it.
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

    /// Walks on below the base in search of commits that were taken for new. What comes after the
    /// base is new for sure, so that a line of commits on top of it costs nothing here.
    fn settle(&mut self, base: ObjectId, sorted: &[ObjectId]) -> Result<()> {
        let mut after = HashSet::from_iter([base]);
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
