//! A commit's message → what it says about the next version. Pure.
//!
//! Conventional Commits 1.0.0 (<https://www.conventionalcommits.org/en/v1.0.0/>), read as the text
//! says and not wider: a colon *and* a space, types in any case, `!` on any type and scope,
//! BREAKING CHANGE and BREAKING-CHANGE in upper case only and only as a footer. Beside it, what git
//! and GitHub write themselves: reverts, merges of pull requests, squash merges with the list of
//! their commits, and the commits that release tools leave behind.

mod body;
mod revert;

use std::collections::HashMap;

use body::{Line, Listed};
pub use revert::Reverted;

/// A message, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The first line, without a byte order mark.
    pub subject: String,
    /// What the commit calls itself: the subject, or the title of the pull request that it merges.
    pub title: String,
    /// The title's header.
    pub header: Option<Header>,
    /// The headers of the commits that a squash merge lists, without those that cancel each other
    /// in the list.
    pub listed: Vec<Header>,
    /// Which commit this one takes back.
    pub reverts: Option<Reverted>,
    /// The number of the pull request that the commit came with, as its message says.
    pub pull_request: Option<u64>,
    /// A release tool's own commit, `chore(release): 1.2.3`. Whatever its text repeats was counted
    /// before.
    pub release: bool,
    /// The message marks something as breaking and is no conventional commit, so that it counts for
    /// nothing.
    pub unheard: bool,
}

/// What the first line of a conventional commit says, and whether a footer calls it breaking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// In lower case.
    pub kind: String,
    pub scope: Option<String>,
    pub breaking: bool,
    pub description: String,
    /// The text of the BREAKING CHANGE footer, where there is one.
    pub breaking_change: Option<String>,
}

/// Reads a message.
pub fn read_message(message: &str) -> Message {
    let message = message.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let (subject, body) = message.trim_start().split_once('\n').unwrap_or((message.trim(), ""));
    let subject = subject.trim_end();
    let merged = find_merged_number(subject);
    let (title, body) = match merged {
        // GitHub puts the pull request's title below.
        Some(_) => {
            let body = body.trim_start();
            body.split_once('\n')
                .map_or((body.trim_end(), ""), |(title, body)| (title.trim_end(), body))
        }
        None => (subject, body),
    };
    let squashed = find_squashed_number(title);
    let mut read = Message {
        subject: subject.to_string(),
        title: title.to_string(),
        pull_request: merged.or(squashed),
        ..Message::default()
    };
    let mut header = read_header(title);
    if header.as_ref().is_some_and(is_release) {
        read.release = true;
        return read;
    }
    let lines = body::mark_quotes(body);
    let (own, list) =
        if squashed.is_some() { body::split_list(lines) } else { (lines, Vec::new()) };
    read.reverts = revert::read_reverted(title, &own);
    let (listed, notes) = read_list(&list);
    read.listed = listed;
    let notes: Vec<String> = read_breaking_change(&own).into_iter().chain(notes).collect();
    if let Some(header) = header.as_mut().or(read.listed.first_mut()).filter(|_| !notes.is_empty())
    {
        header.breaking = true;
        header.breaking_change = Some(notes.join("\n"));
    } else {
        let merges = subject.starts_with("Merge ") && merged.is_none();
        read.unheard = header.is_none()
            && read.reverts.is_none()
            && !merges
            && (!notes.is_empty() || marks_breaking(title));
    }
    read.header = header;
    read
}

/// Reads `type(scope)!: description`. A type is what the grammar of the specification's own parser
/// takes for one: anything without white space, parentheses and colons
/// (<https://github.com/conventional-commits/parser#the-grammar>).
pub fn read_header(line: &str) -> Option<Header> {
    let (before, description) = line.split_once(": ")?;
    let description = description.trim();
    let (before, breaking) =
        before.strip_suffix('!').map_or((before, false), |before| (before, true));
    let (kind, scope) = match before.split_once('(') {
        Some((kind, rest)) => {
            let scope = rest.strip_suffix(')')?;
            if scope.trim().is_empty() || scope.contains(['(', ')']) {
                return None;
            }
            (kind, Some(scope.to_string()))
        }
        None => (before, None),
    };
    // A quotation mark begins a quotation, and not a type.
    let other =
        |c: char| c.is_whitespace() || matches!(c, '(' | ')' | ':' | '!' | '"' | '`' | '\'');
    let word = !kind.is_empty() && !kind.contains(other);
    (word && !description.is_empty()).then(|| Header {
        kind: kind.to_lowercase(),
        scope,
        breaking,
        description: description.to_string(),
        breaking_change: None,
    })
}

/// Whether a title that is no header marks something as breaking all the same: `✨ feat!: a`.
fn marks_breaking(title: &str) -> bool {
    title
        .match_indices("!:")
        .any(|(at, _)| title[..at].ends_with(|c: char| c.is_alphanumeric() || c == ')'))
}

/// Reads the text of the footers that call a commit breaking. A footer begins at the start of a line, and
/// its value ends where the next footer begins (items 8 to 10, and the grammar of the
/// specification's own parser).
fn read_breaking_change(body: &[Line<'_>]) -> Option<String> {
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for line in body {
        if let Some((token, value)) = read_footer(line.text).filter(|_| !line.quoted) {
            inside = matches!(token, "BREAKING CHANGE" | "BREAKING-CHANGE");
            if inside {
                found.push(value.to_string());
            }
        } else if let Some(text) = found.last_mut().filter(|_| inside) {
            text.push('\n');
            text.push_str(line.text);
        }
    }
    let says = |text: &&str| !text.is_empty() && !says_none(text);
    let found: Vec<&str> = found.iter().map(|text| text.trim()).filter(says).collect();
    (!found.is_empty()).then(|| found.join("\n"))
}

/// Whether a form was filled in with the answer that nothing breaks.
fn says_none(text: &str) -> bool {
    let text = text.trim_end_matches('.').to_lowercase();
    ["none", "no", "n/a", "nothing", "not applicable", "-"].contains(&text.as_str())
}

/// Reads `Token: value` or `Token #value`. Git takes blanks off the ends of lines, so that a breaking
/// change which is told from the next line on leaves `BREAKING CHANGE:` alone.
fn read_footer(line: &str) -> Option<(&str, &str)> {
    if let Some(token @ ("BREAKING CHANGE" | "BREAKING-CHANGE")) = line.strip_suffix(':') {
        return Some((token, ""));
    }
    let end = [line.find(": "), line.find(" #")].into_iter().flatten().min()?;
    let token = &line[..end];
    let word = !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (word || token == "BREAKING CHANGE").then(|| (token, &line[end + 2..]))
}

/// Whether a header is a release tool's: `chore(release): 1.2.3`, `chore(main): release 1.2.3` or
/// `bump: version 1.2.2 → 1.2.3`, by semantic-release, release-please and commitizen.
fn is_release(header: &Header) -> bool {
    let names_version = header.description.split_whitespace().any(|word| {
        let word = word.rsplit_once(['v', '@']).map_or(word, |(_, version)| version);
        semver::Version::parse(word).is_ok()
    });
    let first = header.description.split(' ').next().unwrap_or_default();
    let says_release = matches!(first, "release" | "version")
        || header.scope.as_deref() == Some("release")
            && (matches!(first, "bump" | "cut" | "prepare" | "publish")
                || first.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit())
                || first.contains('@'));
    let by_a_tool = matches!(header.kind.as_str(), "chore" | "build" | "ci" | "release" | "bump")
        && !header.breaking;
    by_a_tool && says_release && names_version
}

/// Finds the number in GitHub's subject of a merge, `Merge pull request #12 from owner/branch`.
fn find_merged_number(subject: &str) -> Option<u64> {
    let (number, _) = subject.strip_prefix("Merge pull request #")?.split_once(" from ")?;
    number.parse().ok()
}

/// Finds the number that GitHub puts behind the title of a squash merge: `Title (#12)`.
fn find_squashed_number(title: &str) -> Option<u64> {
    title.strip_suffix(')')?.rsplit_once(" (#")?.1.parse().ok()
}

/// Strips the pull request's number that GitHub put behind a title; `None` if there is none.
pub fn strip_number(title: &str) -> Option<&str> {
    find_squashed_number(title)?;
    title.rsplit_once(" (#").map(|(bare, _)| bare)
}

/// Reads the headers of listed commits without those that are taken back within the list, and the
/// breaking changes of commits that have no header: those are the whole merge's.
fn read_list(list: &[Listed<'_>]) -> (Vec<Header>, Vec<String>) {
    let mut gone = vec![false; list.len()];
    let mut by_title: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, listed) in list.iter().enumerate() {
        by_title.entry(listed.title).or_default().push(at);
    }
    let mut headers = Vec::new();
    let mut notes = Vec::new();
    // The newest first, so that a revert of a revert lets the first commit stand again.
    for at in (0..list.len()).rev() {
        if gone[at] {
            continue;
        }
        let Listed { title, body } = &list[at];
        let mut header = read_header(title);
        if let Some(reverted) = revert::read_reverted(title, &[])
            && let Some(quoted) = &reverted.title
        {
            // Newer namesakes were passed for good.
            let older = by_title.get_mut(quoted.as_str());
            let target = older.and_then(|older| {
                while older.last().is_some_and(|last| *last >= at || gone[*last]) {
                    older.pop();
                }
                older.pop()
            });
            if let Some(target) = target {
                gone[target] = true;
                continue;
            }
            header =
                header.filter(|header| header.breaking).or_else(|| Some(reverted.header(title)));
        }
        match (header, read_breaking_change(body)) {
            (Some(mut header), note) => {
                header.breaking |= note.is_some();
                header.breaking_change = note;
                headers.push(header);
            }
            (None, note) => notes.extend(note),
        }
    }
    headers.reverse();
    notes.reverse();
    (headers, notes)
}

#[cfg(test)]
mod tests;
