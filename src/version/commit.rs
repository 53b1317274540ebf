//! A commit's message → what it says about the next version. Pure.
//!
//! Conventional Commits 1.0.0 (<https://www.conventionalcommits.org/en/v1.0.0/>), read as the text says and not wider: a
//! colon *and* a space, types in any case, `!` on any type and scope, BREAKING CHANGE and BREAKING-CHANGE in upper case
//! only and only as a footer.

/// A message, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The first line, without a byte order mark.
    pub subject: String,
    pub meaning: Meaning,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A conventional commit, or a squash of several: then the headers of all, the title's first.
    Changes(Vec<Header>),
    /// Takes back another commit.
    Reverts(Reverted),
    /// Nothing that can be read.
    Other,
}

/// What the first line of a conventional commit says, and whether a footer calls it breaking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// In lower case.
    pub kind: String,
    pub scope: Option<String>,
    pub breaking: bool,
    pub description: String,
}

/// Which commit a revert takes back, as far as its message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reverted {
    /// Hexadecimal digits, seven or more, in lower case.
    pub commits: Vec<String>,
    /// The subject that was quoted.
    pub subject: Option<String>,
}

/// Reads a message.
pub fn read(message: &str) -> Message {
    let message = message.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let (subject, body) = message.split_once('\n').unwrap_or((&message, ""));
    let subject = subject.trim_end();
    let meaning = match reverted(subject, body) {
        Some(reverted) => Meaning::Reverts(reverted),
        None => changes(subject, body),
    };
    Message { subject: subject.to_string(), meaning }
}

fn changes(subject: &str, body: &str) -> Meaning {
    let breaking = has_breaking_footer(body);
    let mut headers: Vec<Header> = header(subject).into_iter().collect();
    if is_squash(subject) {
        headers.extend(body.lines().filter_map(|line| line.strip_prefix("* ")).filter_map(header));
    }
    match headers.first_mut() {
        Some(first) => {
            first.breaking |= breaking;
            Meaning::Changes(headers)
        }
        None => Meaning::Other,
    }
}

/// `type(scope)!: description`
fn header(line: &str) -> Option<Header> {
    let (before, description) = line.split_once(": ")?;
    let description = description.trim();
    let (before, breaking) = before.strip_suffix('!').map_or((before, false), |before| (before, true));
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
    let word = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    (word && !description.is_empty()).then(|| Header {
        kind: kind.to_ascii_lowercase(),
        scope,
        breaking,
        description: description.to_string(),
    })
}

/// Whether a footer calls the commit breaking. A footer's value ends where the next footer begins, so every line that
/// starts with the token counts.
fn has_breaking_footer(body: &str) -> bool {
    body.lines().any(|line| {
        let rest = line.strip_prefix("BREAKING CHANGE").or_else(|| line.strip_prefix("BREAKING-CHANGE"));
        rest.is_some_and(|rest| {
            rest.strip_prefix(": ").or_else(|| rest.strip_prefix(" #")).is_some_and(|value| !value.trim().is_empty())
        })
    })
}

/// GitHub ends the title of a squash merge with the pull request's number, and lists the commits as bullets.
fn is_squash(subject: &str) -> bool {
    let number = subject.strip_suffix(')').and_then(|text| text.rsplit_once(" (#"));
    number.is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// `Revert "…"` as git and GitHub write it, or the type `revert`.
fn reverted(subject: &str, body: &str) -> Option<Reverted> {
    let quoted =
        subject.strip_prefix("Revert \"").and_then(|rest| rest.rsplit_once('"').map(|(quoted, _)| quoted.to_string()));
    let conventional = header(subject).filter(|header| header.kind == "revert").map(|header| header.description);
    let subject = quoted.or(conventional)?;
    let mut commits = Vec::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("This reverts commit ") {
            commits.extend(rest.split(|c: char| !c.is_ascii_hexdigit()).next().map(str::to_string));
        } else if let Some(rest) = line.strip_prefix("Refs: ") {
            commits.extend(rest.split([',', ' ']).map(str::to_string));
        }
    }
    commits.retain(|text| (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit()));
    let commits = commits.into_iter().map(|text| text.to_ascii_lowercase()).collect();
    Some(Reverted { commits, subject: Some(subject) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message's meaning in short: `feat(api)!` for a header, `revert …`, `-` for nothing.
    fn short(message: &str) -> String {
        match read(message).meaning {
            Meaning::Other => "-".into(),
            Meaning::Reverts(reverted) => {
                format!("revert [{}] {:?}", reverted.commits.join(" "), reverted.subject.unwrap_or_default())
            }
            Meaning::Changes(headers) => headers
                .iter()
                .map(|h| {
                    let scope = h.scope.as_ref().map(|scope| format!("({scope})")).unwrap_or_default();
                    format!("{}{scope}{}", h.kind, if h.breaking { "!" } else { "" })
                })
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[test]
    fn messages_mean_what_the_specification_says() {
        let cases = [
            // Specification items 1 to 5: the header.
            ("feat: a", "feat"),
            ("fix: a", "fix"),
            ("feat(api): a", "feat(api)"),
            ("fix(parser)!: a", "fix(parser)!"),
            ("chore!: a", "chore!"),
            ("feat:a", "-"),
            ("feat : a", "-"),
            ("feat: ", "-"),
            ("feat(): a", "-"),
            ("feat(a: b", "-"),
            ("feat! : a", "-"),
            ("feat!(a): b", "-"),
            ("a feat: b", "-"),
            ("docs: explain feat!: x", "docs"),
            (": a", "-"),
            ("", "-"),
            ("just words", "-"),
            // Item 15: any case, but not of BREAKING CHANGE.
            ("FEAT: a", "feat"),
            ("Fix(API): a", "fix(API)"),
            // Items 8 to 16: footers.
            ("fix: a\n\nBREAKING CHANGE: b", "fix!"),
            ("fix: a\n\nBREAKING-CHANGE: b", "fix!"),
            ("fix: a\n\nBREAKING CHANGE #1", "fix!"),
            ("fix: a\n\nbody\n\nReviewed-by: Z\nBREAKING CHANGE: b\n  more", "fix!"),
            ("fix: a\nBREAKING CHANGE: b", "fix!"),
            ("fix: a\n\nBREAKING CHANGES: b", "fix"),
            ("fix: a\n\nbreaking change: b", "fix"),
            ("fix: a\n\nBREAKING CHANGE:b", "fix"),
            ("fix: a\n\nBREAKING CHANGE: ", "fix"),
            ("fix: a\n\nThis is no BREAKING CHANGE: at all", "fix"),
            ("fix: a\n\n> BREAKING CHANGE: quoted", "fix"),
            // Bytes that editors leave.
            ("\u{feff}feat: a", "feat"),
            ("feat: a\r\n\r\nBREAKING CHANGE: b\r\n", "feat!"),
            // Squash merges: the title and each bullet; bullets elsewhere are prose.
            ("fix: a (#12)\n\n* feat: b\n\n* fix!: c", "fix feat fix!"),
            ("Some words (#12)\n\n* feat: b\n* docs: c", "feat docs"),
            ("fix: a\n\n* feat: b", "fix"),
            ("Merge pull request #1 from o/b\n\nfeat: title", "-"),
            // Reverts.
            (
                "Revert \"feat: a\"\n\nThis reverts commit 0123456789abcdef0123456789abcdef01234567.",
                "revert [0123456789abcdef0123456789abcdef01234567] \"feat: a\"",
            ),
            ("Revert \"feat: a\" (#13)\n\nReverts o/r#12", "revert [] \"feat: a\""),
            ("revert: feat: a\n\nRefs: 676104e, A215868", "revert [676104e a215868] \"feat: a\""),
            (
                "Revert \"Revert \"feat: a\"\"\n\nThis reverts commit ABCDEF0.",
                "revert [abcdef0] \"Revert \\\"feat: a\\\"\"",
            ),
        ];
        for (message, meaning) in cases {
            assert_eq!(short(message), meaning, "{message:?}");
        }
    }
}
