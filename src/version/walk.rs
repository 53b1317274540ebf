//! The ancestors of commits, walked newest first and only as far back as a question needs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gix::ObjectId;
use gix::hashtable::{HashMap, HashSet};

use super::objects::{CLOCK_SKEW, CommitReader, OLDER_IN_A_ROW};
use crate::error::Result;

/// What was walked, and what is to be walked next.
pub struct Ancestors<'r> {
    reader: CommitReader<'r>,
    /// By time, then by their places in `found`.
    queue: BinaryHeap<(i64, Reverse<usize>)>,
    /// Every commit that was come upon, and its parents until it is walked.
    found: Vec<(ObjectId, Vec<ObjectId>)>,
    queued: HashSet<ObjectId>,
    /// The commits that were walked, each with its place in the walk.
    seen: HashMap<ObjectId, usize>,
    /// Their times, in the same order.
    times: Vec<i64>,
}

impl<'r> Ancestors<'r> {
    /// The commits that `tips` contain, themselves included.
    ///
    /// # Errors
    /// Refused, when a commit cannot be read.
    pub fn of(repository: &'r gix::Repository, tips: &[ObjectId]) -> Result<Self> {
        let mut ancestors = Ancestors {
            reader: CommitReader::of(repository),
            queue: BinaryHeap::new(),
            found: Vec::new(),
            queued: HashSet::default(),
            seen: HashMap::default(),
            times: Vec::new(),
        };
        tips.iter().try_for_each(|tip| ancestors.enqueue(*tip))?;
        Ok(ancestors)
    }

    fn enqueue(&mut self, id: ObjectId) -> Result<()> {
        if self.queued.insert(id) {
            let node = self.reader.node(id)?;
            self.queue.push((node.time, Reverse(self.found.len())));
            self.found.push((id, node.parents));
        }
        Ok(())
    }

    /// Walks one commit; `None` at the end of the history.
    fn walk_one(&mut self) -> Result<Option<i64>> {
        let Some((time, Reverse(at))) = self.queue.pop() else { return Ok(None) };
        let (id, parents) = (self.found[at].0, std::mem::take(&mut self.found[at].1));
        self.seen.insert(id, self.times.len());
        self.times.push(time);
        for parent in parents {
            self.enqueue(parent)?;
        }
        Ok(Some(time))
    }

    /// Whether a commit of this time is one of the ancestors, as far as clocks can be trusted: the
    /// walk ends where it has long been among older commits.
    ///
    /// # Errors
    /// Refused, when a commit cannot be read.
    pub fn contains(&mut self, commit: ObjectId, time: i64) -> Result<bool> {
        let older = |walked: i64| walked < time.saturating_sub(CLOCK_SKEW);
        let recent = self.times.iter().rev().take(OLDER_IN_A_ROW);
        let mut in_a_row = recent.take_while(|walked| older(**walked)).count();
        while !self.seen.contains_key(&commit) {
            if in_a_row >= OLDER_IN_A_ROW {
                return Ok(false);
            }
            let Some(walked) = self.walk_one()? else { return Ok(false) };
            in_a_row = if older(walked) { in_a_row + 1 } else { 0 };
        }
        Ok(true)
    }

    /// Walks to the end of the history, so that what was not found by now is not in it.
    ///
    /// # Errors
    /// Refused, when a commit cannot be read.
    pub fn exhaust(&mut self) -> Result<()> {
        while self.walk_one()?.is_some() {}
        Ok(())
    }

    /// A walked commit's place in the walk: lower is nearer to the tips.
    pub fn place(&self, commit: &ObjectId) -> Option<usize> {
        self.seen.get(commit).copied()
    }
}
