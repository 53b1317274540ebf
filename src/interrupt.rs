//! Signals (Ctrl-C, a cancelled job), as the commands see them.
//!
//! A command that nobody else depends on is dropped at once. One that holds something which must be
//! put right first (a lock) takes a [`Hold`]; `main` then waits for it, for a bounded time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::{Error, Kind};

/// How long `main` waits for holders. GitHub's runner kills 7.5 s after SIGINT.
pub const GRACE: Duration = Duration::from_secs(6);

/// What asked this process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C, or a run that was cancelled.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// What a command that it ended ends with.
    pub fn error(self) -> Error {
        let (kind, name) = match self {
            Signal::Interrupt => (Kind::Interrupted, "SIGINT"),
            Signal::Terminate => (Kind::Terminated, "SIGTERM"),
        };
        Error::new(kind, format!("interrupted by {name}")).fix(
            "run it again: it goes on from what this one left, and `cicd status` shows what runs",
        )
    }
}

/// Whether a signal came. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Interrupt {
    sender: Arc<watch::Sender<Option<Signal>>>,
    holds: Arc<AtomicUsize>,
}

impl Default for Interrupt {
    fn default() -> Self {
        Interrupt { sender: Arc::new(watch::Sender::new(None)), holds: Arc::default() }
    }
}

impl Interrupt {
    /// Tells every holder; returns whether there is one to wait for.
    pub fn send(&self, signal: Signal) -> bool {
        self.sender.send_replace(Some(signal));
        self.holds.load(Ordering::SeqCst) > 0
    }

    /// Has `main` wait for this command when a signal comes, until the hold is dropped.
    pub fn hold(&self) -> Hold {
        self.holds.fetch_add(1, Ordering::SeqCst);
        Hold { signals: self.sender.subscribe(), holds: self.holds.clone() }
    }
}

/// See [`Interrupt::hold`].
#[derive(Debug)]
pub struct Hold {
    signals: watch::Receiver<Option<Signal>>,
    holds: Arc<AtomicUsize>,
}

impl Hold {
    /// Waits until a signal comes.
    pub async fn signalled(&self) -> Signal {
        let mut signals = self.signals.clone();
        // The sender lives as long as the context that this came from.
        match signals.wait_for(Option::is_some).await {
            Ok(signal) => signal.unwrap_or(Signal::Terminate),
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.fetch_sub(1, Ordering::SeqCst);
    }
}
