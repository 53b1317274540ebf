//! A commit's body → its lines, and which of them only quote. Pure.
//!
//! A squash merge's body is often the pull request's description: Markdown with code, tables, HTML
//! and the release notes of what it updates. Such text shows footers and lists of commits that
//! are not this commit's (items 8 to 10 of Conventional Commits 1.0.0 put footers at the end of the
//! commit's own text; blocks are those of <https://spec.commonmark.org/0.31.2/>).

use std::collections::HashMap;

/// A line of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub text: &'a str,
    /// It shows what somebody else said, or how something is written.
    pub quoted: bool,
}

impl Line<'_> {
    pub fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }
}

/// Begins Renovate's description of an update, all of which is about the dependency.
const RENOVATE: &str = "This PR contains the following updates:";

/// HTML elements that GitHub renders as a block of foreign text.
const ELEMENTS: [&str; 7] = ["blockquote", "code", "details", "ol", "pre", "table", "ul"];

/// Splits a body into lines and marks those that only quote.
pub fn mark_quotes(body: &str) -> Vec<Line<'_>> {
    let texts: Vec<&str> = body.lines().collect();
    let mut quoted = vec![false; texts.len()];
    mark_blocks(&texts, &mut quoted);
    mark_tables(&texts, &mut quoted);
    mark_release_notes(&texts, &mut quoted);
    texts.into_iter().zip(quoted).map(|(text, quoted)| Line { text, quoted }).collect()
}

/// A block that is open, and what ends it.
enum Block {
    /// Fenced code: the fence's character, its length, and how far in the list is that it is of.
    Fence(char, usize, usize),
    /// An HTML element, and how many of its kind are open.
    Element(&'static str, usize),
    Comment,
}

/// Marks code blocks, block quotes, HTML elements and comments.
fn mark_blocks(texts: &[&str], quoted: &mut [bool]) {
    let mut open: Option<Block> = None;
    let closed = find_last_closed(texts);
    for (at, text) in texts.iter().enumerate() {
        let line = text.trim_start();
        let indent = text.len() - line.len();
        // Code in a list ends with the point that it is of.
        let left = |block: &Block| matches!(block, Block::Fence(_, _, inside) if indent < *inside && !line.is_empty());
        open = open.filter(|block| !left(block));
        quoted[at] = open.is_some();
        open = match open {
            Some(Block::Fence(sign, length, inside)) => {
                let closes = fence_of(line).is_some_and(|(other, count, rest)| {
                    other == sign && count >= length && rest.trim().is_empty()
                });
                (!closes).then_some(Block::Fence(sign, length, inside))
            }
            Some(Block::Element(name, depth)) => {
                let depth = depth_after(line, name, depth);
                (depth > 0).then_some(Block::Element(name, depth))
            }
            Some(Block::Comment) => open_comment(text, true).then_some(Block::Comment),
            None if indent > 3 || text.starts_with('\t') || line.starts_with('>') => {
                quoted[at] = true;
                None
            }
            None => {
                let block = open_block(line, |name| closed.get(name).is_some_and(|end| *end > at));
                quoted[at] =
                    block.is_some() || line.starts_with("<!--") || element_of(line).is_some();
                block
            }
        };
    }
}

/// Finds the last line that closes an element of each name.
fn find_last_closed(texts: &[&str]) -> HashMap<&'static str, usize> {
    let mut closed = HashMap::new();
    for (at, text) in texts.iter().enumerate().filter(|(_, text)| text.contains("</")) {
        let text = text.to_ascii_lowercase();
        let names = ELEMENTS.iter().filter(|name| text.contains(&format!("</{name}")));
        closed.extend(names.map(|name| (*name, at)));
    }
    closed
}

/// The block that a line opens and does not close. `closes` knows whether an element is closed below.
fn open_block(line: &str, closes: impl Fn(&str) -> bool) -> Option<Block> {
    let inside = length_of_marks(line);
    if let Some((sign, length, rest)) = fence_of(&line[inside..]) {
        // A backtick behind the fence makes it code within a line.
        let is_block = sign == '~' || !rest.contains('`');
        return is_block.then_some(Block::Fence(sign, length, inside));
    }
    if let Some(name) = element_of(line) {
        let depth = depth_after(line, name, 0);
        // An element that never ends is a word of a sentence.
        return (depth > 0 && closes(name)).then_some(Block::Element(name, depth));
    }
    open_comment(line, false).then_some(Block::Comment)
}

/// How much of a line are the marks of lists that begin on it: `- `, `* `, `12. `.
fn length_of_marks(line: &str) -> usize {
    let mut rest = line;
    loop {
        let behind = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let mark = match rest.len() - behind.len() {
            0 => rest.strip_prefix(['-', '*', '+']),
            1..=9 => behind.strip_prefix(['.', ')']),
            _ => None,
        };
        match mark.filter(|mark| mark.starts_with(' ')) {
            Some(mark) => rest = mark.trim_start(),
            None => return line.len() - rest.len(),
        }
    }
}

/// The character of a code fence, how many of them there are, and the rest of the line.
fn fence_of(line: &str) -> Option<(char, usize, &str)> {
    let sign = line.chars().next().filter(|sign| matches!(sign, '`' | '~'))?;
    let rest = line.trim_start_matches(sign);
    let length = line.len() - rest.len();
    (length >= 3).then_some((sign, length, rest))
}

/// The HTML element that a line begins with.
fn element_of(line: &str) -> Option<&'static str> {
    let tag = line.strip_prefix('<')?.to_ascii_lowercase();
    let name = ELEMENTS.iter().find(|name| {
        let rest = tag.strip_prefix(*name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['>', ' ', '\t', '/']))
    })?;
    Some(name)
}

/// How many elements of a name are open behind a line.
fn depth_after(line: &str, name: &str, depth: usize) -> usize {
    let line = line.to_ascii_lowercase();
    let opened = line.matches(&format!("<{name}")).count();
    (depth + opened).saturating_sub(line.matches(&format!("</{name}")).count())
}

/// Whether an HTML comment is open behind a line.
fn open_comment(line: &str, open: bool) -> bool {
    let (mut rest, mut open) = (line, open);
    while let Some((_, behind)) = rest.split_once(if open { "-->" } else { "<!--" }) {
        (rest, open) = (behind, !open);
    }
    open
}

/// Marks the rows of tables, which end at an empty line.
fn mark_tables(texts: &[&str], quoted: &mut [bool]) {
    let mut inside = false;
    for at in 1..texts.len() {
        if is_delimiter_row(texts[at]) && texts[at - 1].contains('|') {
            quoted[at - 1] = true;
            inside = true;
        }
        inside &= !texts[at].trim().is_empty();
        quoted[at] |= inside;
    }
}

/// `|---|:--:|`, the second row of every table.
fn is_delimiter_row(text: &str) -> bool {
    let sign = |c: char| matches!(c, '|' | '-' | ':' | ' ');
    text.contains('|') && text.contains('-') && text.chars().all(sign)
}

/// Marks what stands below a heading of release notes, to the next heading that is not below it or
/// to a line across the page; and Renovate's descriptions to their ends.
fn mark_release_notes(texts: &[&str], quoted: &mut [bool]) {
    let of_github = texts.iter().any(|text| text.contains(" by @"));
    let mut inside: Option<usize> = None;
    for at in 0..texts.len() {
        if quoted[at] {
            continue;
        }
        if texts[at].trim_start().starts_with(RENOVATE) {
            quoted[at..].fill(true);
            return;
        }
        let above = at.checked_sub(1).map_or("", |above| texts[above]);
        if let Some((level, title)) = heading_of(texts[at], above) {
            let begins = is_release_notes(title, of_github);
            if begins && inside.is_none_or(|outer| level <= outer) {
                inside = Some(level);
            } else if inside.is_some_and(|outer| level <= outer) {
                inside = None;
            }
        } else if is_rule(texts[at]) {
            inside = None;
        }
        quoted[at] = inside.is_some();
    }
}

/// A heading's level and title, `## Title` or `Title` above a line of dashes.
fn heading_of<'a>(line: &'a str, above: &'a str) -> Option<(usize, &'a str)> {
    let title = line.trim_start_matches('#');
    let level = line.len() - title.len();
    if (1..=6).contains(&level) && title.starts_with([' ', '\t']) {
        return Some((level, title.trim()));
    }
    let underlined = |sign: char| line.len() >= 3 && line.trim_end().chars().all(|c| c == sign);
    let level = if underlined('=') { 1 } else { 2 };
    let titled = !above.trim().is_empty() && (underlined('=') || underlined('-'));
    titled.then_some((level, above.trim()))
}

/// A line across the page.
fn is_rule(line: &str) -> bool {
    let sign = |sign: char| {
        let count = line.matches(sign).count();
        count >= 3 && line.chars().all(|c| c == sign || c == ' ')
    };
    sign('-') || sign('*') || sign('_')
}

/// Whether a heading is one of release notes: by its words, or a version such as `[v2.0.0](…)`.
fn is_release_notes(title: &str, of_github: bool) -> bool {
    let title = title.to_lowercase().replace('’', "'");
    let words = title.trim_start_matches(|c: char| !c.is_alphanumeric());
    let said = ["release notes", "changelog", "change log", "full changelog"];
    let by_github = ["what's changed", "whats changed", "what's new", "new contributors"];
    let version = words.strip_prefix('v').unwrap_or(words);
    let numbers: String = version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    // `2.` may number a chapter; `v2` is a version.
    let least = if version == words { 2 } else { 0 };
    said.iter().any(|said| words.starts_with(said))
        || (of_github && by_github.iter().any(|said| words.starts_with(said)))
        || (numbers.starts_with(|c: char| c.is_ascii_digit())
            && numbers.matches('.').count() >= least)
}

/// A commit in the list of a squash merge.
#[derive(Debug)]
pub struct Listed<'a> {
    pub title: &'a str,
    pub body: Vec<Line<'a>>,
}

/// The body of a squash merge: its own text, and the commits that GitHub lists as `* title`, oldest
/// first. The list begins the body, and a line of dashes before the co-authors ends it.
///
/// A point of a list within a commit's own text is none of them: GitHub sets commits apart by empty
/// lines, and nothing is listed behind a heading.
pub fn split_list(lines: Vec<Line<'_>>) -> (Vec<Line<'_>>, Vec<Listed<'_>>) {
    let point = |line: &Line<'_>| !line.quoted && line.text.starts_with("* ");
    let ends = |line: &Line<'_>| {
        !line.quoted && line.text.len() >= 9 && line.text.bytes().all(|b| b == b'-')
    };
    if !lines.iter().find(|line| !line.is_blank()).is_some_and(point) {
        return (lines, Vec::new());
    }
    let mut list: Vec<Listed<'_>> = Vec::new();
    let (mut told, mut headed) = (false, false);
    for (at, line) in lines.iter().enumerate() {
        if ends(line) {
            return (lines[at..].to_vec(), list);
        }
        let apart = |other: Option<&Line<'_>>| other.is_none_or(|o| o.is_blank() || ends(o));
        let alone = apart(at.checked_sub(1).map(|above| &lines[above])) && apart(lines.get(at + 1));
        if point(line) && !headed && (!told || alone) {
            list.push(Listed { title: line.text[2..].trim(), body: Vec::new() });
            told = false;
        } else if let Some(last) = list.last_mut() {
            told |= !line.is_blank();
            headed |= !line.quoted && heading_of(line.text, "").is_some();
            last.body.push(*line);
        }
    }
    (Vec::new(), list)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that are the commit's own words, without empty ones.
    fn own(body: &str) -> Vec<&str> {
        let lines = mark_quotes(body).into_iter();
        lines.filter(|line| !line.quoted && !line.is_blank()).map(|line| line.text).collect()
    }

    #[test]
    fn what_only_quotes_is_known() {
        let cases: &[(&str, &[&str])] = &[
            ("a\n```\nb\n```\nc", &["a", "c"]),
            ("a\n```text\nb\n~~~\nc\n````\nd", &["a", "d"]),
            ("~~~\nb\n```\n~~~\nc", &["c"]),
            ("``` a `b` ```\nc", &["``` a `b` ```", "c"]),
            ("a\n```\nnever closed", &["a"]),
            ("- ```js\n  a\n  ```\nb", &["b"]),
            ("1. ~~~\n   a\n\n   ~~~\n\nb", &["b"]),
            ("- * ```\n    a\nb", &["b"]),
            ("- a\n- b ```c```", &["- a", "- b ```c```"]),
            ("> a\n>b\nc", &["c"]),
            ("    a\n\tb\nc", &["c"]),
            ("| a | b |\n|---|---|\n| c | d |\n\ne", &["e"]),
            ("a | b\n-- | :-:\nc: d | e\n\nf", &["f"]),
            ("a | b\nc", &["a | b", "c"]),
            ("<details>\n<summary>a</summary>\n\nb\n</details>\nc", &["c"]),
            ("<details><details>\n</details>\na\n</details>\nb", &["b"]),
            ("<DETAILS open>\na\n</DETAILS>\nb", &["b"]),
            ("<details> is an element\na", &["a"]),
            ("<detailsx>\na\n</detailsx>", &["<detailsx>", "a", "</detailsx>"]),
            ("<pre>a</pre>\nb", &["b"]),
            ("<!-- a -->\nb\n<!-- c\nd\n--> e\nf", &["b", "f"]),
            ("a <!-- b\nc\n-->\nd", &["d"]),
            (
                "### Release Notes\na\n#### Deeper\nb\n### Configuration\nc",
                &["### Configuration", "c"],
            ),
            ("## [v2.0.0](https://example.org) (2026-01-01)\na\n\n---\nb", &["---", "b"]),
            ("Changelog\n---------\na\n\n***\nb", &["Changelog", "***", "b"]),
            ("## What's changed\na", &["## What's changed", "a"]),
            ("## What's Changed\na by @octo in https://example.org", &[]),
            ("## v2\na", &[]),
            ("## 2. How\na", &["## 2. How", "a"]),
            ("## Summary\na", &["## Summary", "a"]),
            ("a\n\nThis PR contains the following updates:\n\nb", &["a"]),
        ];
        for (body, expected) in cases {
            assert_eq!(own(body), *expected, "{body:?}");
        }
    }

    #[test]
    fn a_list_of_commits_begins_the_body() {
        let cases: &[(&str, &[&str])] = &[
            ("\n* a\n\n* b", &["a", "b"]),
            ("* a\n* b\n* c", &["a", "b", "c"]),
            ("* a\n\ntext\n\n* b\n\n* c", &["a", "b", "c"]),
            ("* a\n\ntext:\n\n* point\n* point\n\n* b", &["a", "b"]),
            ("* a\n\n## Head\n\n* point", &["a"]),
            ("* a\n\n```\n\n* shown\n\n```\n\n* b", &["a", "b"]),
            ("* a\n\n---------\n\n* b", &["a"]),
            ("text\n\n* point", &[]),
            ("# Head\n\n* point", &[]),
            ("- point", &[]),
            ("", &[]),
        ];
        for (body, titles) in cases {
            let (_, list) = split_list(mark_quotes(body));
            let found: Vec<&str> = list.iter().map(|listed| listed.title).collect();
            assert_eq!(found, *titles, "{body:?}");
        }
    }
}
