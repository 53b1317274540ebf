//! A version's commits, told to people: as lines, and as a Markdown table. Pure.

use super::bump::{Bump, short};
use super::{Change, Version};
use crate::report::markdown;

/// How many commits a table shows: what a job summary takes, and more than anybody reads.
const ROWS: usize = 500;

/// Every commit with its verdict, newest first; the deciding one is marked.
pub fn lines(version: &Version) -> Vec<String> {
    let line = |change: &Change| {
        let mark = if is_deciding(version, change) { "→" } else { " " };
        format!(
            "{mark} {} {:5} {} ({})",
            short(&change.sha),
            change.bump.name(),
            change.title,
            change.why
        )
    };
    version.changes.iter().map(line).collect()
}

/// The same as a Markdown table.
pub fn table(version: &Version) -> String {
    let mut text = String::from("\n| commit | bump | title | why |\n|---|---|---|---|\n");
    for change in version.changes.iter().take(ROWS) {
        let bold = if is_deciding(version, change) { "**" } else { "" };
        text.push_str(&format!(
            "| `{}` | {bold}{}{bold} | {bold}{}{bold} | {} |\n",
            short(&change.sha),
            if change.bump == Bump::None { "–" } else { change.bump.name() },
            markdown::text(&change.title),
            markdown::text(&change.why)
        ));
    }
    if let Some(more) = version.changes.len().checked_sub(ROWS).filter(|more| *more > 0) {
        text.push_str(&format!("\nand {more} more before these.\n"));
    }
    text
}

fn is_deciding(version: &Version, change: &Change) -> bool {
    version.deciding_commit.as_ref().is_some_and(|deciding| deciding.sha == change.sha)
}
