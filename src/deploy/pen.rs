//! What a run writes to AWS with: leave for each try, and a note of how far the writes have gone.

use std::cell::Cell;
use std::time::Instant;

use super::target::Permit;
use crate::aws::call::Leave;
use crate::error::Result;

/// How far the writes of a run have gone, each counted that may have been done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    #[default]
    Nothing,
    /// Something was made or changed beside what runs: a bucket, a revision, a tag.
    Beside,
    /// What runs, or where users' requests go, may have changed.
    Running,
}

/// Writes by it are counted.
#[derive(Clone, Copy)]
pub struct Pen<'a> {
    permit: Permit<'a>,
    extent: &'a Cell<Extent>,
    reaches: Extent,
}

impl<'a> Pen<'a> {
    pub fn new(permit: Permit<'a>, extent: &'a Cell<Extent>) -> Pen<'a> {
        Pen { permit, extent, reaches: Extent::Beside }
    }

    /// For writes that change what runs, or where users' requests go.
    pub fn reaching_users(self) -> Pen<'a> {
        Pen { reaches: Extent::Running, ..self }
    }
}

impl Leave for Pen<'_> {
    type Mark = Extent;

    async fn check(&self) -> Result<()> {
        self.permit.check().await
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.permit.deadline())
    }

    fn begin(&self) -> Extent {
        let before = self.extent.get();
        self.extent.set(before.max(self.reaches));
        before
    }

    fn undo(&self, before: Extent) {
        self.extent.set(before);
    }
}
