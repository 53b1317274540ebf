//! What a commit takes back, by the words of git, GitHub and people. Pure.

use super::body::Line;
use super::{Header, read_header};

/// How many reverts around a title are read, and how many commits one message may take back: more
/// than anybody means, and few enough for a message that was made to keep us busy.
const LAYERS: usize = 100;
const COMMITS: usize = 100;

/// The shortest id of a commit.
const SHORTEST: usize = 7;

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

/// A title under its reverts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwrapped<'a> {
    /// How many reverts stand around it: with an even number of them it holds again.
    pub reverts: usize,
    pub title: &'a str,
}

impl Reverted {
    /// Returns the header of what holds again through this commit: `feat: a` of `Reapply "feat: a"`.
    /// `None` if the commit takes something back.
    pub fn reapplied(&self) -> Option<Header> {
        let title = self.title.as_deref()?;
        // The commit itself is one revert more.
        let Unwrapped { reverts, title } = unwrap_title(title);
        if reverts % 2 == 0 { None } else { read_header(title) }
    }

    /// Returns the header that the commit has in a version's notes: of what holds again, or of what
    /// is taken back; `title` is the commit's own, for where it quotes none.
    pub fn header(&self, title: &str) -> Header {
        self.reapplied().unwrap_or_else(|| Header {
            kind: "revert".into(),
            scope: None,
            breaking: false,
            description: self.title.as_deref().unwrap_or(title).to_string(),
            breaking_change: None,
        })
    }
}

/// Takes a title out of the reverts around it, as many as anybody means.
pub fn unwrap_title(title: &str) -> Unwrapped<'_> {
    let mut found = Unwrapped { reverts: 0, title };
    for _ in 0..LAYERS {
        let Some((reverts, inner)) = unwrap_once(found.title) else { break };
        found = Unwrapped { reverts: found.reverts + reverts, title: inner };
    }
    found
}

/// Takes a title out of the revert around it: `Revert "…"` in git's and GitHub's words, `Reapply "…"`
/// in git's since 2.43 and `revert: …` in those of Conventional Commits. A `Reapply` is two reverts.
/// <https://git-scm.com/docs/git-revert#_description>
fn unwrap_once(title: &str) -> Option<(usize, &str)> {
    let words = |word: &str| {
        let (first, rest) = title.split_at_checked(word.len())?;
        first.eq_ignore_ascii_case(word).then_some(rest)
    };
    let (reverts, rest) = match (words("revert"), words("reapply").or_else(|| words("reland"))) {
        (Some(rest), _) => (1, rest),
        (_, Some(rest)) => (2, rest),
        _ => return None,
    };
    if let Some(rest) = rest.strip_prefix(' ') {
        return Some((reverts, strip_quotes(rest).or_else(|| bare_title(rest))?));
    }
    // `revert(api)!: feat: a`
    let header = read_header(title)?;
    let known = matches!(header.kind.as_str(), "revert" | "reapply");
    let (_, inner) = title.split_once(": ").filter(|_| known)?;
    let inner = inner.trim();
    Some((reverts, strip_quotes(inner).unwrap_or(inner)))
}

/// Strips the quotation marks at the front and behind the last word.
fn strip_quotes(text: &str) -> Option<&str> {
    let open = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`' | '“' | '‘'))?;
    let close = match open {
        '“' => '”',
        '‘' => '’',
        same => same,
    };
    text[open.len_utf8()..].rsplit_once(close).map(|(inner, _)| inner)
}

/// Returns a title that stands without quotation marks, which only a conventional one may.
fn bare_title(text: &str) -> Option<&str> {
    read_header(text).map(|_| text)
}

/// Reads what a commit takes back, by its title or by git's line `This reverts commit …`.
pub fn read_reverted(title: &str, body: &[Line<'_>]) -> Option<Reverted> {
    let conventional = read_header(title).is_some_and(|header| header.kind == "revert");
    let quoted = unwrap_once(title).map(|(reverts, inner)| match reverts {
        2 => format!("Revert \"{inner}\""),
        _ => inner.to_string(),
    });
    let mut found = Reverted { title: quoted, ..Reverted::default() };
    for line in body.iter().filter(|line| !line.quoted) {
        if let Some(rest) = line.text.strip_prefix("This reverts commit") {
            let rest = rest.strip_prefix('s').unwrap_or(rest);
            found.commits.extend(rest.strip_prefix(' ').map(read_ids).unwrap_or_default());
        } else if let Some(rest) = line.text.strip_prefix("Refs: ").filter(|_| conventional) {
            found.commits.extend(rest.split([',', ' ']).map(str::to_string));
        } else if let Some((repository, number)) =
            line.text.strip_prefix("Reverts ").and_then(read_pull_request)
            // GitHub's button names the repository, whatever title people give the pull request.
            && (found.title.is_some() || !repository.is_empty())
        {
            found.pull_request = Some(number);
        }
    }
    found.commits.retain(|text| {
        (SHORTEST..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
    });
    found.commits.truncate(COMMITS);
    found.commits.iter_mut().for_each(|text| text.make_ascii_lowercase());
    let takes_back =
        found.title.is_some() || !found.commits.is_empty() || found.pull_request.is_some();
    takes_back.then_some(found)
}

/// Reads the commits at the beginning of a text: `1234567, 89abcde and 0123456.` The one that
/// `reversing changes made to` names is none of them, nor are the ends of a range.
fn read_ids(text: &str) -> Vec<String> {
    let (mut ids, mut rest) = (Vec::new(), text);
    loop {
        let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        if end < SHORTEST {
            return ids;
        }
        ids.push(rest[..end].to_string());
        rest = &rest[end..];
        if rest.strip_prefix("..").is_some_and(|other| !other.trim().is_empty()) {
            return Vec::new();
        }
        let next = [", and ", " and ", ", ", " & "].iter().find_map(|and| rest.strip_prefix(and));
        match next {
            Some(next) => rest = next,
            None => return ids,
        }
    }
}

/// Reads `owner/repository#12`, `#12` or a pull request's address as repository and number.
fn read_pull_request(text: &str) -> Option<(&str, u64)> {
    let text = text.trim().trim_end_matches('.');
    let (repository, number) = text.rsplit_once('#').or_else(|| text.rsplit_once("/pull/"))?;
    let is_name = !repository.contains(char::is_whitespace)
        && (repository.is_empty() || repository.contains('/'));
    Some((repository, number.parse().ok().filter(|_| is_name)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_found_under_its_reverts() {
        let cases = [
            ("feat: a", 0, "feat: a"),
            ("Revert \"feat: a\"", 1, "feat: a"),
            ("Revert \"feat: a\" (#13)", 1, "feat: a"),
            ("Revert \"feat: a (#12)\" (#13)", 1, "feat: a (#12)"),
            ("revert \"feat: a\"", 1, "feat: a"),
            ("Revert 'feat: a'", 1, "feat: a"),
            ("Revert “feat: a”", 1, "feat: a"),
            ("Revert feat(api): a", 1, "feat(api): a"),
            ("Revert the clock", 0, "Revert the clock"),
            ("Reverting \"a\"", 0, "Reverting \"a\""),
            ("Reapply \"feat: a\"", 2, "feat: a"),
            ("Revert \"Revert \"feat: a\"\"", 2, "feat: a"),
            ("Reland \"feat: a\"", 2, "feat: a"),
            ("Revert \"Reapply \"feat: a\"\"", 3, "feat: a"),
            ("revert: feat: a", 1, "feat: a"),
            ("revert(api)!: \"feat: a\"", 1, "feat: a"),
            ("revert: revert: feat: a", 2, "feat: a"),
            ("reapply: feat: a", 2, "feat: a"),
            ("revert: Revert \"feat: a\"", 2, "feat: a"),
            ("Revert \"Say \"hello\"\"", 1, "Say \"hello\""),
            ("Revert \"\"", 1, ""),
            ("Revert \"", 0, "Revert \""),
            ("Révert \"a\"", 0, "Révert \"a\""),
        ];
        for (title, reverts, inner) in cases {
            assert_eq!(unwrap_title(title), Unwrapped { reverts, title: inner }, "{title}");
        }
    }
}
