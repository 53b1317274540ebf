//! What the ledger has of the runs before: the last good state, and what those since may have left
//! that came to nothing.

use futures::future::try_join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::deploy::target::{Good, State, Target};
use crate::deploy::{Action, Change};
use crate::error::{Error, Result};
use crate::ledger::{Head, HeadEntry, Ledger, Record, StateHash};
use crate::report::Report;

/// Runs that are looked at, the last ones: as many in a row that come to nothing are rare.
const RUNS: u64 = 10;

/// The last good state. One that is lost, or that this version cannot read, is no way back, and no
/// reason to stop.
pub async fn read_good<T: Target>(
    ledger: &Ledger,
    entry: &HeadEntry,
    report: &Report,
) -> Result<Option<Good<T::Documents>>> {
    let Some(hash) = &entry.state_hash else { return Ok(None) };
    let state = match ledger.find_state(hash).await? {
        Some(json) => State::from_json(&json, T::NAME),
        None => Err(Error::refused(format!("cannot find state {hash} in the ledger any more"))),
    };
    Ok(match state {
        Ok(state) => Some(Good { state, revision: entry.revision.clone() }),
        Err(error) => {
            report.warn(format!(
                "this deploy has no way back to {} (record {}): {error}",
                entry.run.version, entry.number
            ));
            None
        }
    })
}

/// The states that the runs since the last good one were to reach, and which the ledger has.
///
/// # Errors
/// Refused when the ledger cannot be read. A state that this version does not understand is left out.
pub async fn read_left<D: Serialize + DeserializeOwned>(
    ledger: &Ledger,
    head: &Head,
    killed: Option<&Record>,
    target: &str,
) -> Result<Vec<State<D>>> {
    let (last, good) = (head.mark().last, head.mark().good);
    let newest = last.max(killed.map(|record| record.number).unwrap_or_default());
    let oldest = newest.saturating_sub(RUNS).max(good) + 1;
    let hashes = (oldest..=newest).map(|number| find_brought(ledger, head, killed, number));
    let hashes = try_join_all(hashes).await?.into_iter().flatten();
    let states = try_join_all(hashes.map(|hash| async move { ledger.find_state(&hash).await }));
    let states = states.await?.into_iter().flatten();
    Ok(states.filter_map(|json| State::from_json(&json, target).ok()).collect())
}

/// The state that a run was to reach.
async fn find_brought(
    ledger: &Ledger,
    head: &Head,
    killed: Option<&Record>,
    number: u64,
) -> Result<Option<StateHash>> {
    let last = head.last.as_ref().filter(|last| last.number == number);
    let killed = killed.filter(|killed| killed.number == number);
    Ok(match (last, killed) {
        (Some(last), _) => last.run.brings.clone(),
        (None, Some(killed)) => killed.run.brings.clone(),
        (None, None) => ledger.read_record(number).await?.and_then(|record| record.run.brings),
    })
}

/// Keeps the state before anything is made that nothing else would name, were the run killed.
///
/// # Errors
/// Refused when the ledger does not take it.
pub async fn keep_wanted<D: Serialize + DeserializeOwned>(
    ledger: &Ledger,
    wanted: &State<D>,
    changes: &[Change],
) -> Result<()> {
    if changes.iter().any(|change| change.action == Action::Create) {
        ledger.keep_state(&wanted.to_json()?).await?;
    }
    Ok(())
}
