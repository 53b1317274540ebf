//! Work that keeps a core busy, beside the commands that wait: it ends soon when nobody waits for
//! it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::error::{Error, Result};

/// Nobody is held up for longer by work that was told to stop; GitHub's runner gives 7.5 s after
/// SIGINT.
const STOPPING: Duration = Duration::from_secs(5);

/// Whether work is to stop.
#[derive(Clone, Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// To be asked every few MiB.
    ///
    /// # Errors
    /// `Other`, when it is time to stop.
    pub fn check(&self) -> std::io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(std::io::Error::other("stopped")),
            false => Ok(()),
        }
    }

    #[cfg(test)]
    pub fn never() -> Stop {
        Stop(Arc::default())
    }

    #[cfg(test)]
    pub fn at_once() -> Stop {
        Stop(Arc::new(AtomicBool::new(true)))
    }
}

/// Stops the work when it is dropped, and waits until it has, so that nothing is written to a
/// folder that is being removed.
struct Waiting {
    stop: Stop,
    ended: mpsc::Receiver<()>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.stop.0.store(true, Ordering::Relaxed);
        // An error is the end of the thread, too.
        let _ = self.ended.recv_timeout(STOPPING);
    }
}

/// Runs `work` on a thread of its own.
///
/// # Errors
/// What the work fails with.
pub async fn run<T: Send + 'static>(
    work: impl FnOnce(&Stop) -> Result<T> + Send + 'static,
) -> Result<T> {
    let stop = Stop(Arc::default());
    let (result, finished) = tokio::sync::oneshot::channel();
    let (running, ended) = mpsc::channel();
    let _waiting = Waiting { stop: stop.clone(), ended };
    std::thread::spawn(move || {
        // Nobody takes the result when the run was interrupted.
        let _ = result.send(work(&stop));
        drop(running);
    });
    finished.await.unwrap_or_else(|_| {
        Err(Error::unexpected(
            "cannot end the work: its thread ended \
        without a result",
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_gives_its_result() {
        assert_eq!(run(|_| Ok(7)).await.expect("a number"), 7);
        assert_eq!(run::<()>(|_| Err(Error::input("bad"))).await.expect_err("bad").message, "bad");
        run::<()>(|_| panic!("as it must not")).await.expect_err("no result");
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_has_ended_before_the_next_step() {
        let ended = Arc::new(AtomicBool::new(false));
        let set = ended.clone();
        let working = run(move |stop| {
            while stop.check().is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(50));
            set.store(true, Ordering::Relaxed);
            Ok(())
        });
        tokio::time::timeout(Duration::from_millis(20), working)
            .await
            .expect_err("it works until it is told to stop");
        assert!(ended.load(Ordering::Relaxed));
    }
}
