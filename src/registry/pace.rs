//! How many large blobs are under way at once: two where the line is what takes the time, so that a
//! push that is cut off has whole blobs behind it instead of a part of each; all that the lanes allow
//! where it is not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::report::Bar;

/// In bytes. What is smaller is soon there, and waits for answers more than for the line.
const LARGE: u64 = 4 * 1024 * 1024;
/// While one is stored, the next one uses the line.
const SLOW_LINE: usize = 2;
/// Bytes a second: more than a line of 200 Mbit/s takes.
const FAST: u64 = 30_000_000;
/// What the system takes before it says how fast the line is.
const BUFFERED: u64 = 16 * 1024 * 1024;
const POLL: Duration = Duration::from_millis(25);

/// The uploads of one push: their bar, and when another large blob may begin.
pub struct Pace {
    bar: Bar,
    sent: AtomicU64,
    large: Mutex<LargeBlobs>,
}

#[derive(Debug, Default)]
struct LargeBlobs {
    under_way: usize,
    /// When the first one began.
    since: Option<Instant>,
}

/// A large blob that is under way, until it is dropped.
pub struct LargeBlob<'a>(&'a Pace);

impl Pace {
    pub fn new(bar: Bar) -> Pace {
        Pace { bar, sent: AtomicU64::new(0), large: Mutex::default() }
    }

    /// Counts bytes that were sent.
    pub fn add(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.bar.add(bytes);
    }

    /// Waits until a blob of this size may begin. `None` if it is no large one.
    pub async fn enter(&self, size: u64) -> Option<LargeBlob<'_>> {
        if size < LARGE {
            return None;
        }
        while !self.try_enter() {
            tokio::time::sleep(POLL).await;
        }
        Some(LargeBlob(self))
    }

    fn try_enter(&self) -> bool {
        let mut large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *large.since.get_or_insert_with(Instant::now);
        let may_begin = large.under_way < SLOW_LINE
            || is_fast(self.sent.load(Ordering::Relaxed), since.elapsed());
        large.under_way += usize::from(may_begin);
        may_begin
    }
}

impl Drop for LargeBlob<'_> {
    fn drop(&mut self) {
        self.0.large.lock().unwrap_or_else(PoisonError::into_inner).under_way -= 1;
    }
}

/// Whether a line that took so much in this time is a fast one.
fn is_fast(sent: u64, time: Duration) -> bool {
    let taken = u128::from(sent.saturating_sub(BUFFERED));
    taken > 0 && taken * 1000 >= u128::from(FAST) * time.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Format, Report, Verbosity};

    const MB: u64 = 1_000_000;

    #[test]
    fn a_line_is_fast_when_more_went_out_than_fits_into_buffers() {
        let cases = [
            (0, 0, false),
            (8 * MB, 100, false),
            (16 * MB, 0, false),
            (40 * MB, 200, true),
            (40 * MB, 2000, false),
            (125 * MB, 10_000, false),
            (1000 * MB, 10_000, true),
        ];
        for (sent, milliseconds, fast) in cases {
            let found = is_fast(sent, Duration::from_millis(milliseconds));
            assert_eq!(found, fast, "{sent} bytes in {milliseconds} ms");
        }
    }

    #[tokio::test]
    async fn two_large_blobs_are_under_way_until_the_line_is_known_to_be_fast() {
        let report = Report::to(Box::new(std::io::sink()), Format::Json, Verbosity::Quiet, false);
        let pace = Pace::new(report.bytes("push", 1));
        let wait = POLL * 4;
        let enters = async |size| tokio::time::timeout(wait, pace.enter(size)).await.ok().flatten();
        let first = enters(LARGE).await.expect("the first");
        let _second = enters(LARGE).await.expect("the second");
        assert!(enters(LARGE).await.is_none(), "it waits");
        let small = tokio::time::timeout(wait, pace.enter(LARGE - 1)).await;
        assert!(small.expect("at once").is_none(), "a small one is not held up");
        drop(first);
        let _third = enters(LARGE).await.expect("one has ended");
        pace.add(1000 * MB);
        let _fourth = enters(LARGE).await.expect("the line is fast");
    }
}
