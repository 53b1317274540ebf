//! The number of parallel requests: one more after a round of successes, half as many if the
//! registry throttles (additive increase, multiplicative decrease).
//!
//! <https://www.rfc-editor.org/rfc/rfc5681#section-3.1>

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Docker begins with five at a time, skopeo with six.
pub const FIRST: usize = 6;
/// More gain nothing, and each holds a file, a connection and its buffers.
pub const MOST: usize = 16;

/// The limit of parallel requests, and how it changes; without I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Width {
    lanes: usize,
    /// Lanes that close as soon as their request ends.
    closing: usize,
    /// Successes since the last change.
    passed: usize,
}

/// What becomes of a lane whose request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Open,
    /// The lane stays open, and one opens beside it.
    Widened,
    Closed,
}

impl Width {
    const NEW: Width = Width { lanes: FIRST, closing: 0, passed: 0 };

    /// Records the end of a request.
    fn leave(&mut self, succeeded: bool) -> Left {
        if self.closing > 0 {
            self.closing -= 1;
            return Left::Closed;
        }
        self.passed += usize::from(succeeded);
        if self.passed < self.lanes || self.lanes == MOST {
            return Left::Open;
        }
        (self.passed, self.lanes) = (0, self.lanes + 1);
        Left::Widened
    }

    /// Halves the limit. All requests that are under way are throttled by the same overload, which
    /// counts once.
    fn narrow(&mut self) {
        if self.closing == 0 {
            self.closing = self.lanes / 2;
            self.lanes -= self.closing;
        }
        self.passed = 0;
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Lanes {
    width: Arc<Mutex<Width>>,
    free: Arc<Semaphore>,
}

/// The right to send one request, until it is dropped.
#[derive(Debug)]
pub struct Lane {
    lanes: Lanes,
    permit: Option<OwnedSemaphorePermit>,
    succeeded: bool,
}

impl Lanes {
    pub fn new() -> Lanes {
        Lanes { width: Arc::new(Mutex::new(Width::NEW)), free: Arc::new(Semaphore::new(FIRST)) }
    }

    /// Waits for a free lane.
    pub async fn enter(&self) -> Lane {
        // The semaphore is never closed.
        let permit = self.free.clone().acquire_owned().await.ok();
        Lane { lanes: self.clone(), permit, succeeded: false }
    }

    /// Halves the number of parallel requests, as the registry throttles.
    pub fn narrow(&self) {
        self.width.lock().unwrap_or_else(PoisonError::into_inner).narrow();
    }
}

impl Lane {
    /// Frees the lane after a success.
    pub fn done(mut self) {
        self.succeeded = true;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let left =
            self.lanes.width.lock().unwrap_or_else(PoisonError::into_inner).leave(self.succeeded);
        match left {
            Left::Open => drop(permit),
            Left::Widened => self.lanes.free.add_permits(1),
            Left::Closed => permit.forget(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_road_widens_by_one_a_round_and_halves_on_a_complaint() {
        let mut width = Width::NEW;
        let round =
            |width: &mut Width| (0..width.lanes).map(|_| width.leave(true)).collect::<Vec<_>>();
        assert_eq!(round(&mut width).last(), Some(&Left::Widened));
        assert_eq!(width.lanes, FIRST + 1);
        assert!((0..100).all(|_| width.leave(false) == Left::Open), "a failure does not widen it");
        for _ in 0..100 {
            round(&mut width);
        }
        assert_eq!(width.lanes, MOST, "and it ends");

        // Sixteen are under way, and all of them are throttled.
        for _ in 0..MOST {
            width.narrow();
        }
        assert_eq!((width.lanes, width.closing), (8, 8), "one complaint");
        let left: Vec<Left> = (0..9).map(|_| width.leave(true)).collect();
        assert_eq!((&left[..8], left[8]), (&[Left::Closed; 8][..], Left::Open));
        for _ in 0..9 {
            width.narrow();
            while width.closing > 0 {
                width.leave(true);
            }
        }
        assert_eq!(width.lanes, 1, "never none");
        assert_eq!(width.leave(true), Left::Widened);
    }

    #[tokio::test]
    async fn as_many_are_let_in_as_there_are_lanes() {
        let lanes = Lanes::new();
        let mut inside = Vec::new();
        for _ in 0..FIRST {
            inside.push(lanes.enter().await);
        }
        assert_eq!(lanes.free.available_permits(), 0);
        lanes.narrow();
        inside.clear();
        assert_eq!(lanes.free.available_permits(), FIRST - FIRST / 2);
        for _ in 0..FIRST - FIRST / 2 {
            lanes.enter().await.done();
        }
        assert_eq!(lanes.free.available_permits(), FIRST - FIRST / 2 + 1);
    }
}
