//! A commit's message → what it says about the next version. Pure.
//!
//! Conventional Commits 1.0.0 (<https://www.conventionalcommits.org/en/v1.0.0/>), read as the text
//! says and not wider: a colon *and* a space, types in any case, `!` on any type and scope,
//! BREAKING CHANGE and BREAKING-CHANGE in upper case only and only as a footer. Beside it, what git
//! and GitHub write themselves: reverts, merges of pull requests, squash merges with the list of
//! their commits, and the commits that release tools leave behind.

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

/// Which commit a revert takes back, as far as its message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reverted {
    /// Hexadecimal digits, seven or more, in lower case.
    pub commits: Vec<String>,
    /// The pull request that GitHub's button reverted.
    pub pull_request: Option<u64>,
    /// The title that was quoted.
    pub title: Option<String>,
}

/// Reads a message.
pub fn read(message: &str) -> Message {
    let message = message.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let (subject, body) = message.trim_start().split_once('\n').unwrap_or((message.trim(), ""));
    let subject = subject.trim_end();
    let merged = merged_pull_request(subject);
    let (title, body) = match merged {
        // GitHub puts the pull request's title below.
        Some(_) => {
            let body = body.trim_start();
            body.split_once('\n')
                .map_or((body.trim_end(), ""), |(title, body)| (title.trim_end(), body))
        }
        None => (subject, body),
    };
    let squashed = squashed_pull_request(title);
    let mut read = Message {
        subject: subject.to_string(),
        title: title.to_string(),
        pull_request: merged.or(squashed),
        ..Message::default()
    };
    let mut header = header(title);
    if header.as_ref().is_some_and(is_release) {
        read.release = true;
        return read;
    }
    let (body, list) =
        if squashed.is_some() { split_list(body) } else { (body.to_string(), Vec::new()) };
    read.reverts = reverted(title, &body, header.as_ref());
    let (listed, notes) = read_list(&list);
    read.listed = listed;
    let notes: Vec<String> = breaking_change(&body).into_iter().chain(notes).collect();
    if let Some(header) = header.as_mut().or(read.listed.first_mut()).filter(|_| !notes.is_empty())
    {
        header.breaking = true;
        header.breaking_change = Some(notes.join("\n"));
    }
    read.header = header;
    read
}

/// `type(scope)!: description`
fn header(line: &str) -> Option<Header> {
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
    let word =
        !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    (word && !description.is_empty()).then(|| Header {
        kind: kind.to_ascii_lowercase(),
        scope,
        breaking,
        description: description.to_string(),
        breaking_change: None,
    })
}

/// The text of the footers that call a commit breaking. A footer begins at the start of a line, and
/// its value ends where the next footer begins (items 8 to 10, and the grammar of the
/// specification's own parser).
fn breaking_change(body: &str) -> Option<String> {
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for line in body.lines() {
        if let Some((token, value)) = footer(line) {
            inside = matches!(token, "BREAKING CHANGE" | "BREAKING-CHANGE");
            if inside {
                found.push(value.to_string());
            }
        } else if let Some(text) = found.last_mut().filter(|_| inside) {
            text.push('\n');
            text.push_str(line);
        }
    }
    let found: Vec<&str> =
        found.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
    (!found.is_empty()).then(|| found.join("\n"))
}

/// `Token: value` or `Token #value`. Git takes blanks off the ends of lines, so that a breaking
/// change which is told from the next line on leaves `BREAKING CHANGE:` alone.
fn footer(line: &str) -> Option<(&str, &str)> {
    if let Some(token @ ("BREAKING CHANGE" | "BREAKING-CHANGE")) = line.strip_suffix(':') {
        return Some((token, ""));
    }
    let end = [line.find(": "), line.find(" #")].into_iter().flatten().min()?;
    let token = &line[..end];
    let word = !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (word || token == "BREAKING CHANGE").then(|| (token, &line[end + 2..]))
}

/// `chore(release): 1.2.3`, `chore(main): release 1.2.3`, `bump: version 1.2.2 → 1.2.3`: what
/// semantic-release, release-please, commit-and-tag-version and commitizen write.
fn is_release(header: &Header) -> bool {
    let names_version = header.description.split_whitespace().any(|word| {
        let word = word.rsplit_once(['v', '@']).map_or(word, |(_, version)| version);
        semver::Version::parse(word).is_ok()
    });
    let says_release = header.scope.as_deref() == Some("release")
        || header
            .description
            .split(' ')
            .next()
            .is_some_and(|word| matches!(word, "release" | "version"));
    let by_a_tool = matches!(header.kind.as_str(), "chore" | "build" | "ci" | "release" | "bump")
        && !header.breaking;
    by_a_tool && says_release && names_version
}

/// `Merge pull request #12 from owner/branch`: GitHub's subject of a merge.
fn merged_pull_request(subject: &str) -> Option<u64> {
    let (number, _) = subject.strip_prefix("Merge pull request #")?.split_once(" from ")?;
    number.parse().ok()
}

/// `Title (#12)`: GitHub ends the title of a squash merge with the pull request's number.
fn squashed_pull_request(title: &str) -> Option<u64> {
    title.strip_suffix(')')?.rsplit_once(" (#")?.1.parse().ok()
}

/// A title without the pull request's number that GitHub put behind it; none when it has none.
pub fn without_number(title: &str) -> Option<&str> {
    squashed_pull_request(title)?;
    title.rsplit_once(" (#").map(|(bare, _)| bare)
}

/// A commit in the list of a squash merge.
struct Listed {
    title: String,
    body: String,
}

/// The body of a squash merge: its own text, and the commits that GitHub lists as `* title`, oldest
/// first. The line of dashes before the co-authors ends the list.
fn split_list(body: &str) -> (String, Vec<Listed>) {
    let mut own = String::new();
    let mut list: Vec<Listed> = Vec::new();
    let mut ended = false;
    for line in body.lines() {
        ended |= line.len() >= 9 && line.bytes().all(|b| b == b'-');
        let text = match (line.strip_prefix("* "), list.last_mut()) {
            (Some(title), _) if !ended => {
                list.push(Listed { title: title.trim().to_string(), body: String::new() });
                continue;
            }
            (_, Some(last)) if !ended => &mut last.body,
            _ => &mut own,
        };
        text.push_str(line);
        text.push('\n');
    }
    (own, list)
}

/// The headers of listed commits without those that are taken back within the list, and the
/// breaking changes of commits that have no header: those are the whole merge's.
fn read_list(list: &[Listed]) -> (Vec<Header>, Vec<String>) {
    let mut gone = vec![false; list.len()];
    let mut headers = Vec::new();
    let mut notes = Vec::new();
    // The newest first, so that a revert of a revert lets the first commit stand again.
    for at in (0..list.len()).rev() {
        if gone[at] {
            continue;
        }
        let Listed { title, body } = &list[at];
        let mut header = header(title);
        let quoted = quoted(title).or_else(|| {
            header.as_ref().filter(|h| h.kind == "revert").map(|h| h.description.clone())
        });
        if let Some(quoted) = &quoted {
            if let Some(target) =
                (0..at).rev().find(|other| !gone[*other] && list[*other].title == *quoted)
            {
                gone[target] = true;
                continue;
            }
            let revert = || Header {
                kind: "revert".into(),
                scope: None,
                breaking: false,
                description: quoted.clone(),
                breaking_change: None,
            };
            header = header.or_else(|| Some(revert()));
        }
        match (header, breaking_change(body)) {
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

/// The title that a revert quotes: `Revert "…"`, and `Reapply "…"`, as git calls the revert of a
/// revert since 2.43.
fn quoted(title: &str) -> Option<String> {
    let inner = |prefix| {
        title
            .strip_prefix(prefix)
            .and_then(|rest: &str| rest.rsplit_once('"'))
            .map(|(inner, _)| inner)
    };
    match (inner("Revert \""), inner("Reapply \"")) {
        (Some(inner), _) => Some(inner.to_string()),
        (_, Some(inner)) => Some(format!("Revert \"{inner}\"")),
        _ => None,
    }
}

/// `Revert "…"` as git and GitHub write it, the type `revert`, or git's line `This reverts commit
/// …` below any title.
fn reverted(title: &str, body: &str, header: Option<&Header>) -> Option<Reverted> {
    let conventional = header.filter(|header| header.kind == "revert");
    let mut found = Reverted {
        title: quoted(title).or_else(|| conventional.map(|h| h.description.clone())),
        ..Reverted::default()
    };
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("This reverts commit ") {
            found
                .commits
                .extend(rest.split(|c: char| !c.is_ascii_hexdigit()).next().map(str::to_string));
        } else if let Some(rest) = line.strip_prefix("Refs: ").filter(|_| conventional.is_some()) {
            found.commits.extend(rest.split([',', ' ']).map(str::to_string));
        } else if let Some(rest) = line.strip_prefix("Reverts ").filter(|_| found.title.is_some()) {
            // `Reverts owner/repository#12`
            found.pull_request =
                rest.rsplit_once('#').and_then(|(_, number)| number.trim().parse().ok());
        }
    }
    found.commits.retain(|text| {
        (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
    });
    found.commits.iter_mut().for_each(|text| text.make_ascii_lowercase());
    (found.title.is_some() || !found.commits.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests;
