//! `history`: who deployed what, when, why and with which result.

use serde_json::json;

use super::Context;
use super::deploy::open_ledger;
use crate::cli::HistoryArgs;
use crate::error::Result;
use crate::fleet;
use crate::ledger::Record;

pub async fn show_history(context: &Context, arguments: &HistoryArgs) -> Result<()> {
    let environment = context.environment()?;
    let (settings, ledger) = open_ledger(context, environment).await?;
    if arguments.dora {
        let figures = fleet::measure(ledger.store(), &settings.name, environment).await?;
        context.report.print(&figures.in_words(), &mut std::io::stdout());
        context.give(&json!({ "delivery": figures }));
        return Ok(());
    }
    let records = ledger.list_records(arguments.limit).await?;
    let text = match records.is_empty() {
        true => format!("{} was never deployed to {environment}", settings.name),
        false => records.iter().map(describe_record).collect::<Vec<_>>().join("\n"),
    };
    context.report.print(&text, &mut std::io::stdout());
    context.give(&json!({ "records": records }));
    Ok(())
}

/// A record in a line for people.
fn describe_record(record: &Record) -> String {
    let run = &record.run;
    let part = |label: &str, value: Option<&str>| {
        value.map(|value| format!(", {label}{value}")).unwrap_or_default()
    };
    format!(
        "{:>5}  {}  {:<11}  {} {}, by {}{}{}",
        record.number,
        run.started.strftime("%Y-%m-%d %H:%M:%SZ"),
        record.result.word(),
        run.kind.word(),
        run.version,
        run.who,
        part("", run.reason.as_deref()),
        part("", run.run.url.as_deref()),
    )
}
