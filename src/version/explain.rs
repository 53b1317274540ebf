//! A version's commits, told to people: as lines, and as a Markdown table. Pure.

use super::bump::{Bump, shorten_id};
use super::{Change, Version};
use crate::report::Markdown;

/// How many commits a table shows: what a job summary takes, and more than anybody reads.
const ROWS: usize = 500;

/// Every commit with its verdict, newest first; the deciding one is marked.
pub fn lines(version: &Version) -> Vec<String> {
    let line = |change: &Change| {
        let mark = if is_deciding(version, change) { "→" } else { " " };
        format!(
            "{mark} {} {:5} {} ({})",
            shorten_id(&change.sha),
            change.bump.name(),
            change.title,
            change.why
        )
    };
    version.changes.iter().map(line).collect()
}

/// The same as a table.
pub fn table(version: &Version) -> Markdown {
    let mut table = Markdown::default();
    table = table.own("\n| commit | bump | title | why |\n|---|---|---|---|\n");
    for change in version.changes.iter().take(ROWS) {
        let bold = if is_deciding(version, change) { "**" } else { "" };
        let bump = if change.bump == Bump::None { "–" } else { change.bump.name() };
        table = table.own("| ").code(shorten_id(&change.sha)).own(" | ");
        table = table.own(bold).own(bump).own(bold).own(" | ");
        table = table.own(bold).text(&change.title).own(bold).own(" | ");
        table = table.text(&change.why).own(" |\n");
    }
    match version.changes.len().checked_sub(ROWS).filter(|more| *more > 0) {
        Some(more) => table.own("\nand ").text(&more.to_string()).own(" more before these.\n"),
        None => table,
    }
}

fn is_deciding(version: &Version, change: &Change) -> bool {
    version.deciding_commit.as_ref().is_some_and(|deciding| deciding.sha == change.sha)
}
