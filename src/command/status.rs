//! `status`: what runs in an environment, what the ledger says of it, and who holds its lock.

use serde_json::json;

use super::Context;
use super::deploy::open_site;
use super::intent::who_runs;
use crate::cli::StatusArgs;
use crate::error::Result;

pub async fn show_status(context: &Context, arguments: &StatusArgs) -> Result<()> {
    let environment = context.environment()?;
    let site = open_site(context, environment, None).await?;
    let running = site.read_running().await?;
    let mut lines = vec![running.in_words(&site.settings.name, environment)];
    context.give(&running);
    // Without a ledger (platform.yaml names none yet) what runs is all there is to say.
    let ledger = match site.ledger() {
        Err(error) if arguments.record => return Err(error),
        ledger => ledger,
    };
    if let Ok(ledger) = ledger {
        let head = ledger.read_head().await?;
        if let Some(last) = &head.last {
            lines.push(format!(
                "record {}: {} {}, by {}",
                last.number,
                last.result.word(),
                last.run.version,
                last.run.who
            ));
            context.give(&json!({ "record": last.number, "result": last.result }));
        }
        if let Some(good) = &head.good {
            context.give(&json!({ "good-record": good.number }));
            match site.read_drift(good).await {
                Ok(drift) => {
                    if !drift.is_empty() {
                        lines.push(format!(
                            "differs from record {}: {}",
                            good.number,
                            drift.join(", ")
                        ));
                    }
                    context.give(&json!({ "drift": drift }));
                    if arguments.record {
                        let who = who_runs(&context.environ);
                        ledger.keep_drift(good.number, who, drift).await?;
                    }
                }
                Err(error) if arguments.record => return Err(error),
                Err(error) => context.report.trace(format!("cannot tell the drift: {error}")),
            }
        }
        // A run that was killed holds nothing once its lock is over.
        let lock = ledger.read_lock().await?.filter(|lock| !lock.over);
        if let Some(holder) = lock.and_then(|lock| lock.holder) {
            lines.push(format!(
                "locked by {}, in phase {}",
                holder.describe(),
                holder.phase.word()
            ));
            context.give(&json!({ "lock": holder }));
        }
        if let Some(freeze) = ledger.read_freeze().await? {
            lines.push(format!(
                "frozen by {} until {}: {}",
                freeze.who, freeze.until, freeze.reason
            ));
            context.give(&json!({ "freeze": freeze }));
        }
    }
    context.report.print(&lines.join("\n"), &mut std::io::stdout());
    Ok(())
}
