//! What a deploy would be refused for, without one: no lock is taken and nothing is written.

use super::{Goal, Target, adopts_what_runs, read_good};
use crate::deploy::target::State;
use crate::error::Result;
use crate::ledger::Ledger;
use crate::report::Report;

/// Observes and plans as the preflight does.
///
/// # Errors
/// As the target refuses, all at once. A ledger that cannot be read is no matter here.
pub async fn check_ahead<T: Target>(
    target: &T,
    wanted: State<T::Documents>,
    ledger: Option<&Ledger>,
    report: &Report,
) -> Result<()> {
    let head = match ledger {
        Some(ledger) => ledger.read_head().await.unwrap_or_default(),
        None => Default::default(),
    };
    let good = match (ledger, &head.good) {
        (Some(ledger), Some(entry)) => read_good::<T>(ledger, entry, report).await?,
        _ => None,
    };
    let goal =
        Goal { wanted, good, left: Vec::new(), adopts: adopts_what_runs(&head), migrates: true };
    target.plan(&goal, target.observe(&goal).await?).map(drop)
}
