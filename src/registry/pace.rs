//! How many large blobs are sent at once: one where more would not go faster, so that a push which is
//! cut off has whole blobs behind it instead of a part of each. A registry that takes more over
//! several connections gets them.
//!
//! A blob waits for its turn with its upload session open, and gives the turn back when its last byte
//! has left: while the registry stores it, the next one has the line.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::lanes::MOST;
use crate::report::Bar;

/// In bytes. What is smaller is soon there, and waits for answers more than for the line.
const LARGE: u64 = 4 * 1024 * 1024;
/// Bytes a second of one connection: more than a line of 200 Mbit/s takes, and then as many at once as
/// the lanes allow.
const FAST: f64 = 30_000_000.0;
/// What the system takes before it says how fast the line is.
const BUFFERED: u64 = 16 * 1024 * 1024;
/// How much faster twice as many have to be.
const GAIN: f64 = 1.25;

/// How many at once, and how that changes; without I/O.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Width {
    turns: usize,
    /// Bytes a second with half as many turns.
    before: Option<f64>,
    /// Whether more were tried, and did not help.
    is_settled: bool,
}

impl Width {
    const NEW: Width = Width { turns: 1, before: None, is_settled: false };

    /// The width after a blob, when all turns together sent so many bytes a second.
    fn after(self, rate: f64) -> Width {
        if self.is_settled {
            return self;
        }
        match self.before {
            Some(before) if rate < before * GAIN => {
                Width { turns: self.turns / 2, before: None, is_settled: true }
            }
            _ if self.turns >= MOST => Width { is_settled: true, ..self },
            _ => Width { turns: self.turns * 2, before: Some(rate), is_settled: false },
        }
    }
}

/// The uploads of one push: their bar, and when the next large blob may be sent.
pub struct Pace {
    bar: Bar,
    turns: Arc<Semaphore>,
    sending: Mutex<Sending>,
}

struct Sending {
    width: Width,
    /// Of all blobs, since the push began.
    sent: u64,
    /// When the first byte left.
    began: Option<Instant>,
    /// When the width was last changed, and how much was sent by then.
    since: Option<(Instant, u64)>,
}

/// The right to send one large blob, until it is dropped.
pub struct Turn {
    pace: Arc<Pace>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Pace {
    pub fn new(bar: Bar) -> Pace {
        let sending = Sending { width: Width::NEW, sent: 0, began: None, since: None };
        Pace {
            bar,
            turns: Arc::new(Semaphore::new(Width::NEW.turns)),
            sending: Mutex::new(sending),
        }
    }

    /// Counts bytes that were sent. A first blob that goes fast is no reason to wait for the others.
    pub fn add(&self, bytes: u64) {
        self.bar.add(bytes);
        let now = Instant::now();
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        sending.sent += bytes;
        let began = *sending.began.get_or_insert(now);
        if !sending.width.is_settled
            && rate_of(sending.sent.saturating_sub(BUFFERED), now - began) >= FAST
        {
            let wider = Width { turns: MOST, before: None, is_settled: true };
            self.turns.add_permits(wider.turns - sending.width.turns);
            sending.width = wider;
        }
    }

    /// Waits until a blob of this size may be sent. `None` if it is no large one.
    pub async fn wait(self: &Arc<Pace>, size: u64) -> Option<Turn> {
        if size < LARGE {
            return None;
        }
        // The semaphore is never closed.
        let permit = self.turns.clone().acquire_owned().await.ok();
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if self.turns.available_permits() == 0 && sending.since.is_none() {
            sending.since = Some((Instant::now(), sending.sent));
        }
        drop(sending);
        Some(Turn { pace: self.clone(), permit })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let pace = &self.pace;
        let mut sending = pace.sending.lock().unwrap_or_else(PoisonError::into_inner);
        // Only while all turns are taken does the rate say something of their number.
        let Some((since, sent)) = sending.since.take() else { return };
        let width = sending.width;
        sending.width = width.after(rate_of(sending.sent - sent, since.elapsed()));
        match sending.width.turns.cmp(&width.turns) {
            std::cmp::Ordering::Less => permit.forget(),
            _ => pace.turns.add_permits(sending.width.turns - width.turns),
        }
    }
}

/// Bytes a second; nothing in no time is nothing.
fn rate_of(bytes: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if bytes == 0 { 0.0 } else { bytes as f64 / seconds.max(f64::EPSILON) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Format, Report, Verbosity};

    const PAUSE: Duration = Duration::from_millis(50);

    #[test]
    fn more_at_once_are_tried_and_kept_only_where_they_are_faster() {
        // Per case: the rates that the widths have, in their order, and the widths.
        let cases: [(&[f64], &[usize]); 4] = [
            (&[12.0, 12.0, 12.0], &[2, 1, 1]),
            (&[12.0, 24.0, 25.0, 25.0], &[2, 4, 2, 2]),
            (&[1.0, 2.0, 4.0, 8.0, 16.0, 1.0], &[2, 4, 8, 16, 16, 16]),
            (&[10.0, 12.4], &[2, 1]),
        ];
        for (rates, widths) in cases {
            let mut width = Width::NEW;
            let found: Vec<usize> = rates
                .iter()
                .map(|rate| {
                    width = width.after(*rate);
                    width.turns
                })
                .collect();
            assert_eq!(found, widths, "{rates:?}");
        }
    }

    #[tokio::test]
    async fn one_large_blob_is_sent_at_once_until_the_line_is_known_to_be_fast() {
        let report = Report::to(Box::new(std::io::sink()), Format::Json, Verbosity::Quiet, false);
        let pace = Arc::new(Pace::new(report.bytes("push", 1)));
        let turn = async |size| tokio::time::timeout(PAUSE, pace.wait(size)).await;
        let first = turn(LARGE).await.expect("the first").expect("a large one");
        pace.add(LARGE);
        assert!(turn(LARGE).await.is_err(), "it waits");
        assert!(turn(LARGE - 1).await.expect("at once").is_none(), "a small one is not held up");
        // Twice as many are tried, and gain nothing.
        drop(first);
        let (second, third) = (turn(LARGE).await.expect("two"), turn(LARGE).await.expect("two"));
        tokio::time::sleep(PAUSE).await;
        pace.add(LARGE);
        drop(second);
        assert!(turn(LARGE).await.is_err(), "one again");
        drop(third);
        let _fourth = turn(LARGE).await.expect("its turn");
        assert!(turn(LARGE).await.is_err(), "one again");

        let fast = Arc::new(Pace::new(report.bytes("push", 1)));
        let _first = fast.wait(LARGE).await;
        fast.add(BUFFERED + 60_000_000);
        for _ in 1..MOST {
            std::mem::forget(fast.wait(LARGE).await.expect("as many as there are lanes"));
        }
    }
}
