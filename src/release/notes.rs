//! The notes of a release from its changes, in GitHub's Markdown. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The longest text that GitHub takes, in characters.
pub const LIMIT: usize = 125_000;

/// One thing that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub sha: String,
    /// The author's name and e-mail address, as the commit has them.
    pub author: String,
    pub email: String,
    pub pull_request: Option<u64>,
    /// `feat`, `fix`…, in lower case; `None` if the commit is no conventional one.
    pub kind: Option<String>,
    pub scope: Option<String>,
    pub breaking: bool,
    pub description: String,
    /// The text of a BREAKING CHANGE footer.
    pub breaking_change: Option<String>,
}

/// The range of commits that the notes cover.
#[derive(Clone, Copy, Debug)]
pub struct Range<'a> {
    /// The repository's web address.
    pub web: &'a str,
    pub tag: &'a str,
    /// `None` for the first release.
    pub previous: Option<&'a str>,
}

const SECTIONS: [(&str, &str); 4] =
    [("feat", "Features"), ("fix", "Fixes"), ("perf", "Performance"), ("revert", "Reverts")];

/// Renders the notes: breaking changes first, then by type and scope, cut between two changes at
/// GitHub's limit. `accounts` has the accounts of authors by commit.
pub fn render_notes(
    changes: &[Change],
    accounts: &BTreeMap<String, String>,
    range: &Range<'_>,
) -> String {
    let Range { web, tag, previous } = range;
    let end = match previous {
        Some(previous) => {
            format!(
                "\n**Full changelog**: [{}...{}]({web}/compare/{})\n",
                escape_markdown(previous),
                escape_markdown(tag),
                escape_path(&format!("{previous}...{tag}"))
            )
        }
        None => format!("\nThe first release: [all commits]({web}/commits/{})\n", escape_path(tag)),
    };
    let rank = |change: &Change| match (change.breaking, &change.kind) {
        (true, _) => 0,
        (_, Some(kind)) => {
            SECTIONS.iter().position(|(name, _)| name == kind).unwrap_or(SECTIONS.len()) + 1
        }
        _ => SECTIONS.len() + 1,
    };
    let mut sorted: Vec<&Change> = changes.iter().collect();
    sorted.sort_by_key(|change| {
        (
            rank(change),
            change.kind.clone().filter(|_| rank(change) > SECTIONS.len()),
            change.scope.clone(),
        )
    });
    let mut notes = String::new();
    let mut left = LIMIT - end.chars().count() - 100;
    let mut section = None;
    for (position, change) in sorted.iter().enumerate() {
        let mut entry = String::new();
        if section.replace(rank(change)) != Some(rank(change)) {
            let title = match rank(change) {
                0 => "Breaking changes",
                rank => SECTIONS.get(rank - 1).map_or("Other changes", |(_, title)| title),
            };
            let _ = write!(entry, "{}### {title}\n\n", if notes.is_empty() { "" } else { "\n" });
        }
        entry.push_str(&format_change(change, rank(change), accounts, web));
        let length = entry.chars().count();
        if length > left {
            let _ = writeln!(
                notes,
                "\n_{} more: GitHub takes no longer notes._",
                sorted.len() - position
            );
            break;
        }
        left -= length;
        notes.push_str(&entry);
    }
    notes + &end
}

/// Formats a change: `- **api:** export ([#12](…), [`4f1c2a0`](…)) by @ada`.
fn format_change(
    change: &Change,
    rank: usize,
    accounts: &BTreeMap<String, String>,
    web: &str,
) -> String {
    // Sections of one type need not say it.
    let kind = change.kind.as_deref().filter(|_| rank > SECTIONS.len());
    let label = match (kind, change.scope.as_deref()) {
        (Some(kind), Some(scope)) => {
            format!("**{}({}):** ", escape_markdown(kind), escape_markdown(scope))
        }
        (Some(one), None) | (None, Some(one)) => format!("**{}:** ", escape_markdown(one)),
        (None, None) => String::new(),
    };
    let mut description = change.description.trim();
    let mut links = Vec::new();
    if let Some(number) = change.pull_request {
        description =
            description.strip_suffix(&format!("(#{number})")).unwrap_or(description).trim_end();
        links.push(format!("[#{number}]({web}/pull/{number})"));
    }
    let short: String = change.sha.chars().take(7).collect();
    links.push(format!("[`{short}`]({web}/commit/{})", change.sha));
    let by = match read_account(&change.email)
        .or_else(|| accounts.get(&change.sha).cloned())
        .filter(|login| is_login(login))
    {
        Some(login) => format!(" by @{login}"),
        None if change.author.is_empty() => String::new(),
        None => format!(" by {}", escape_markdown(&change.author)),
    };
    let mut line =
        format!("- {label}{} ({}){by}\n", escape_markdown(description), links.join(", "));
    if let Some(breaking) =
        change.breaking_change.as_deref().filter(|breaking| *breaking != description)
    {
        let _ = writeln!(line, "\n  > {}\n", escape_markdown(breaking));
    }
    line
}

/// Reads the account from the address that GitHub gives to authors who hide theirs:
/// `7+ada@users.noreply.github.com`.
fn read_account(email: &str) -> Option<String> {
    let name = email.strip_suffix("@users.noreply.github.com")?;
    Some(name.split_once('+').map_or(name, |(_, login)| login).to_string())
}

/// Whether a name can be an account that GitHub notifies. The names of bots cannot.
pub fn is_login(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 39
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// Whether the account of a change's author must be read from GitHub.
pub fn needs_account(change: &Change) -> bool {
    read_account(&change.email).is_none()
}

/// Escapes somebody else's words for Markdown: no HTML, no link or image of theirs, and nobody is
/// notified. Code between backticks stays code.
fn escape_markdown(words: &str) -> String {
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let words: String = words.chars().filter(|c| !c.is_control() && !TURNS.contains(c)).collect();
    let ticks = words.matches('`').count();
    let code = ticks.is_multiple_of(2) && !words.contains("``");
    let mut inside = false;
    let mut safe = String::with_capacity(words.len());
    for (at, c) in words.chars().enumerate() {
        match c {
            '`' if code => {
                inside = !inside;
                safe.push(c);
            }
            _ if inside => safe.push(c),
            '@' => safe.push_str("@\u{200b}"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '\\' | '*' | '_' | '[' | ']' | '`' | '~' | '|' => safe.extend(['\\', c]),
            // GitHub turns addresses into links by itself.
            '/' if safe.ends_with(":/") => safe.push_str("\u{200b}/"),
            '.' if ends_with_www(&safe) => safe.push_str("\u{200b}."),
            '#' | '-' | '+' if at == 0 => safe.extend(['\\', c]),
            c => safe.push(c),
        }
    }
    safe
}

/// Characters that change the direction of the text behind them, and so disguise it.
const TURNS: [char; 9] = [
    '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}',
    '\u{2069}',
];

fn ends_with_www(text: &str) -> bool {
    text.len() >= 3
        && text.is_char_boundary(text.len() - 3)
        && text[text.len() - 3..].eq_ignore_ascii_case("www")
}

/// The characters of a URL's path that need an escape.
const PATH: percent_encoding::AsciiSet =
    percent_encoding::NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'/');

fn escape_path(part: &str) -> String {
    percent_encoding::utf8_percent_encode(part, &PATH).to_string()
}

/// Adds an entry for `tag` to a changelog, above older versions and below unreleased changes.
/// `None` if it has one already.
pub fn update_changelog(file: &str, tag: &str, notes: &str) -> Option<String> {
    let heading = format!("## {tag}");
    if file.lines().any(|line| line == heading) {
        return None;
    }
    let is_older =
        |line: &str| line.starts_with("## ") && !line.to_ascii_lowercase().contains("unreleased");
    let mut at = 0;
    for line in file.split_inclusive('\n') {
        if is_older(line) {
            break;
        }
        at += line.len();
    }
    let (head, rest) = file.split_at(at);
    let head = if head.trim().is_empty() {
        "# Changelog".to_string()
    } else {
        head.trim_end().to_string()
    };
    let rest = if rest.is_empty() { String::new() } else { format!("\n{rest}") };
    Some(format!("{head}\n\n{heading}\n\n{}\n{rest}", notes.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "https://github.com/clinicult/patients";

    fn change(kind: &str, scope: &str, description: &str) -> Change {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
        Change {
            sha: "4f1c2a09".repeat(5),
            author: "Ada L.".into(),
            email: "ada@example.org".into(),
            kind: some(kind),
            scope: some(scope),
            description: description.into(),
            ..Change::default()
        }
    }

    #[test]
    fn notes_are_grouped_linked_and_in_order() {
        let changes = [
            change("docs", "", "how to"),
            Change { pull_request: Some(12), ..change("fix", "web", "a button (#12)") },
            Change {
                email: "7+bob@users.noreply.github.com".into(),
                ..change("feat", "api", "export")
            },
            change("", "", "no convention"),
            change("feat", "", "import"),
            Change {
                breaking: true,
                breaking_change: Some("write\nto v2".into()),
                ..change("feat", "api", "no v1")
            },
        ];
        let commit = format!("[`4f1c2a0`]({WEB}/commit/{})", "4f1c2a09".repeat(5));
        let accounts = BTreeMap::from([("4f1c2a09".repeat(5), "ada".to_string())]);
        let range = Range { web: WEB, tag: "api/v1.4.0", previous: Some("api/v1.3.2") };
        assert_eq!(
            render_notes(&changes, &accounts, &range),
            format!(
                "### Breaking changes\n\n- **api:** no v1 ({commit}) by @ada\n\n  > write to v2\n\n\n### Features\n\n- import ({commit}) by @ada\n\
                 - **api:** export ({commit}) by @bob\n\n### Fixes\n\n- **web:** a button ([#12]({WEB}/pull/12), {commit}) by @ada\n\n\
                 ### Other changes\n\n- no convention ({commit}) by @ada\n- **docs:** how to ({commit}) by @ada\n\n\
                 **Full changelog**: [api/v1.3.2...api/v1.4.0]({WEB}/compare/api/v1.3.2...api/v1.4.0)\n"
            )
        );
        let first = render_notes(&[], &BTreeMap::new(), &Range { previous: None, ..range });
        assert_eq!(
            first,
            format!("\nThe first release: [all commits]({WEB}/commits/api/v1.4.0)\n")
        );
    }

    #[test]
    fn long_notes_are_cut_between_changes() {
        let mut changes = vec![change("fix", "", &"ä".repeat(300)); 1000];
        changes.push(Change { breaking: true, ..change("feat", "", "it breaks") });
        let notes = render_notes(
            &changes,
            &BTreeMap::new(),
            &Range { web: WEB, tag: "v2.0.0", previous: Some("v1.0.0") },
        );
        assert!(notes.chars().count() <= LIMIT, "{}", notes.chars().count());
        assert!(
            notes.contains("it breaks") && notes.contains(" more: GitHub takes no longer notes._")
        );
        assert!(notes.ends_with(&format!("({WEB}/compare/v1.0.0...v2.0.0)\n")));
    }

    #[test]
    fn words_of_others_only_show() {
        let cases = [
            ("thanks @org/team", "thanks @\u{200b}org/team"),
            ("<img src=x> & more", "&lt;img src=x&gt; &amp; more"),
            ("![x](http://x) *y* _z_", "!\\[x\\](http:/\u{200b}/x) \\*y\\* \\_z\\_"),
            ("add `--foo <x>` flag", "add `--foo <x>` flag"),
            ("one ` tick @ada", "one \\` tick @\u{200b}ada"),
            ("``a`` <b>", "\\`\\`a\\`\\` &lt;b&gt;"),
            (
                "see https://x.example or WWW.x.example",
                "see https:/\u{200b}/x.example or WWW\u{200b}.x.example",
            ),
            ("`curl https://x`", "`curl https://x`"),
            ("fix \u{202e}gnp.exe", "fix gnp.exe"),
            ("# heading\n- list \u{1b}[31m", "\\# heading - list \\[31m"),
        ];
        for (words, expected) in cases {
            assert_eq!(escape_markdown(words), expected, "{words}");
        }
    }

    #[test]
    fn accounts_come_from_addresses() {
        let cases = [
            ("7+ada@users.noreply.github.com", Some("ada")),
            ("ada@users.noreply.github.com", Some("ada")),
            ("ada@example.org", None),
        ];
        for (email, expected) in cases {
            assert_eq!(read_account(email).as_deref(), expected);
        }
        let bot = Change {
            email: "49+dependabot[bot]@users.noreply.github.com".into(),
            author: "dependabot[bot]".into(),
            ..change("fix", "", "a")
        };
        assert!(
            format_change(&bot, 2, &BTreeMap::new(), WEB).ends_with("by dependabot\\[bot\\]\n")
        );
    }

    #[test]
    fn a_changelog_gets_an_entry_once() {
        let cases = [
            ("", "# Changelog\n\n## v2\n\nN\n"),
            ("# Log\n\nWords.\n\n## v1\n\nO\n", "# Log\n\nWords.\n\n## v2\n\nN\n\n## v1\n\nO\n"),
            (
                "# Log\n\n## [Unreleased]\n\n- x\n\n## v1\n",
                "# Log\n\n## [Unreleased]\n\n- x\n\n## v2\n\nN\n\n## v1\n",
            ),
        ];
        for (file, expected) in cases {
            assert_eq!(update_changelog(file, "v2", "N\n").as_deref(), Some(expected), "{file}");
            assert_eq!(update_changelog(expected, "v2", "N\n"), None);
        }
    }
}
