//! A version's commits, told to people: as lines, and as a Markdown table. Pure.

use super::bump::{Bump, short};
use super::{Change, Version};

/// How many commits a table shows: what a job summary takes, and more than anybody reads.
const ROWS: usize = 500;

/// Every commit with its verdict, newest first; the deciding one is marked.
pub fn lines(version: &Version) -> Vec<String> {
    let line = |change: &Change| {
        let mark = if is_deciding(version, change) { "→" } else { " " };
        format!("{mark} {} {:5} {} ({})", short(&change.sha), change.bump.name(), change.title, change.why)
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
            escaped(&change.title),
            escaped(&change.why)
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

/// What anybody wrote, as text that Markdown leaves alone: no markup, no link, no mention, no end of a cell.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '@' => escaped.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' | '(' | ')' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_text() {
        let cases = [
            ("feat: a", "feat: a"),
            ("fix(api): a | b", "fix\\(api\\): a \\| b"),
            ("<img src=x> @ada #12", "&lt;img src=x> &#64;ada \\#12"),
            ("a\u{1b}[31m\tb", "a \\[31m b"),
            ("![x](y)", "\\!\\[x\\]\\(y\\)"),
        ];
        for (text, expected) in cases {
            assert_eq!(escaped(text), expected);
        }
    }
}
