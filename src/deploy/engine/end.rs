//! How a run that failed ends: in words, and in the ledger. Pure.

use crate::deploy::target::State;
use crate::error::{Error, Kind, Result};
use crate::ledger::RecordResult;

/// Where a rollback ended.
pub enum WentBack {
    ToGood { revision: String },
    ToNothing(String),
}

/// The error of a run that was rolled back, or could not be.
pub fn describe_rollback<D>(
    wanted: &State<D>,
    error: Error,
    rolled_back: Result<WentBack>,
) -> Error {
    let name = format!("{} {} in {}", wanted.service, wanted.image.version, wanted.environment);
    let failure = error.message.clone();
    match rolled_back {
        Ok(WentBack::ToGood { revision }) => Error {
            kind: match error.kind {
                Kind::TimedOut => Kind::TimedOut,
                _ => Kind::RolledBack,
            },
            message: format!("{name}: {failure}; revision {revision} runs as before"),
            ..error
        },
        Ok(WentBack::ToNothing(words)) => Error {
            kind: match error.kind {
                Kind::TimedOut => Kind::TimedOut,
                _ => Kind::Broken,
            },
            message: format!(
                "{name}: {failure}; there is no earlier version to go back to: {words}"
            ),
            ..error
        },
        Err(rollback) if rollback.kind == Kind::Superseded => Error {
            kind: Kind::Superseded,
            message: format!("{name}: {failure}; {}", rollback.message),
            fixes: [error.fixes, rollback.fixes].concat(),
            ..error
        },
        Err(rollback) => Error {
            kind: Kind::Broken,
            message: format!("{name}: {failure}; and the rollback failed: {rollback}"),
            fixes: [error.fixes, rollback.fixes].concat(),
            causes: [error.causes, rollback.causes].concat(),
            ..error
        },
    }
}

/// Whether it says no before anything is changed.
pub fn is_refusal(error: &Error) -> bool {
    matches!(error.kind, Kind::Refused | Kind::Input)
}

/// How a failed run stands in the ledger.
pub fn result_of(error: &Error) -> RecordResult {
    match error.kind {
        Kind::RolledBack => RecordResult::RolledBack,
        Kind::TimedOut => RecordResult::TimedOut,
        Kind::Superseded => RecordResult::Superseded,
        Kind::Interrupted | Kind::Terminated => RecordResult::Interrupted,
        _ => RecordResult::Failed,
    }
}

pub fn say_unrecorded(error: Error) -> Error {
    let kind = match error.kind {
        // Something was changed.
        Kind::Refused => Kind::Unexpected,
        kind => kind,
    };
    Error {
        kind,
        message: format!("the new version runs, but the ledger lacks it: {}", error.message),
        ..error
    }
    .fix("run the deploy again: it finds what runs and records it")
}
