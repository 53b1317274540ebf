//! Taking a preview down, under its lock.

use jiff::Timestamp;

use super::engine::{Intent, now, result_of, timestamp};
use super::target::{Permit, State, Target};
use crate::error::{Error, Kind, Result};
use crate::ledger::{AcquireTerms, CauseCode, Lease, Ledger, Record, RecordResult, Run};
use crate::report::Report;

/// Whose a preview is, and how long it stays.
pub struct PreviewTerms<'a> {
    pub service: &'a str,
    pub number: u64,
    pub expires: Timestamp,
}

/// A preview that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewSeen {
    /// Its pull request.
    pub number: u64,
    /// When it may be removed. `None` if nobody can tell: it stays.
    pub expires: Option<Timestamp>,
}

/// Removes what the last run applied, or, where the ledger does not say, what `rendered` names.
/// Waits for a deploy that is under way. Returns what was removed, which is recorded.
///
/// # Errors
/// Superseded when another run holds the lock until the end; as the target refuses.
pub async fn remove_preview<T: Target>(
    target: &T,
    rendered: State<T::Documents>,
    ledger: &Ledger,
    intent: &Intent<'_>,
    report: &Report,
) -> Result<Vec<String>> {
    let deadline = now() + intent.timeout;
    let hold = intent.interrupt.hold();
    let run = Run {
        kind: intent.kind,
        target: T::NAME.to_string(),
        version: rendered.image.version.clone(),
        commit: intent.commit.clone(),
        who: intent.who.clone(),
        run: intent.link.clone(),
        started: timestamp(),
        pipeline_version: crate::VERSION.to_string(),
        ..Run::default()
    };
    let terms = AcquireTerms { newer_than: &|_| true, deadline };
    let lease = tokio::select! {
        biased;
        signal = hold.signalled() => return Err(signal.error()),
        lease = ledger.acquire(run, terms) => lease?,
    };
    let removing = async {
        let last = lease.head().last.as_ref().and_then(|last| last.state_hash.as_ref());
        let stored = match last {
            Some(hash) => ledger.find_state(hash).await?,
            None => None,
        };
        let applied = stored.and_then(|bytes| State::from_json(&bytes, T::NAME).ok());
        target.remove(&applied.unwrap_or(rendered), Permit::new(&lease, deadline)).await
    };
    let removed = tokio::select! {
        biased;
        signal = hold.signalled() => Err(signal.error()),
        removed = tokio::time::timeout_at(deadline.into(), removing) => removed.unwrap_or_else(|_| {
            Err(Error::new(Kind::TimedOut, "cannot remove the preview in time")
                .fix("run it again: it goes on with what is left"))
        }),
    };
    if let Some(record) = make_record(&lease, &removed)
        && let Err(error) = lease.record(record, None, false).await
    {
        report.warn(format!("the ledger lacks that the preview was removed: {error}"));
        return removed;
    }
    if let Err(error) = lease.release().await {
        report.warn(format!("the lock stays until it is over: {error}"));
    }
    removed
}

/// The record of a removal. `None` where nothing was there, or the target refused.
fn make_record(lease: &Lease, removed: &Result<Vec<String>>) -> Option<Record> {
    let is_nothing = match removed {
        Ok(objects) => objects.is_empty(),
        Err(error) => error.kind == Kind::Refused,
    };
    if is_nothing && lease.killed().is_none() {
        return None;
    }
    let mut record = lease.draft_record();
    if let Some(last) = &lease.head().last {
        record.run.version.clone_from(&last.run.version);
        record.run.digest.clone_from(&last.run.digest);
    }
    let cause = removed.as_ref().err().and_then(|error| error.code);
    Some(Record {
        result: removed.as_ref().map_or_else(result_of, |_| RecordResult::Removed),
        causes: cause.map(CauseCode::Known).into_iter().collect(),
        changed: removed.as_ref().cloned().unwrap_or_default(),
        ..record
    })
}
