//! Messages → what they mean and what they count for alone, each with the source of its rule.

use super::super::bump::{self, Bump, Commit};
use super::*;
use crate::config::service;

/// A message's meaning in short: `feat(api)!` for a header, `+ …` for listed ones, `revert …`,
/// `release`, `-` for nothing.
fn short(message: &Message) -> String {
    let one = |header: &Header| {
        let scope = header.scope.as_ref().map(|scope| format!("({scope})")).unwrap_or_default();
        format!("{}{scope}{}", header.kind, if header.breaking { "!" } else { "" })
    };
    let mut parts: Vec<String> = message.header.iter().map(one).collect();
    parts.extend(message.listed.iter().map(|header| format!("+{}", one(header))));
    if let Some(reverts) = &message.reverts {
        let commits: Vec<&str> = reverts.commits.iter().map(|id| &id[..7]).collect();
        let number = reverts.pull_request.map(|number| format!(" #{number}")).unwrap_or_default();
        parts.push(format!(
            "takes back [{}]{number} {}",
            commits.join(" "),
            reverts.title.as_deref().unwrap_or("-")
        ));
    }
    if message.release {
        parts.push("release".into());
    }
    if parts.is_empty() { "-".into() } else { parts.join(" ") }
}

/// What a message counts for when it is the only commit since the last version.
fn alone(message: &Message, parents: usize) -> Bump {
    let commit = Commit {
        id: "0".repeat(40),
        parents: vec!["1".repeat(40); parents],
        message: message.clone(),
        counts: true,
        ..Commit::default()
    };
    bump::judge_commits(&[commit], &service::Version::default())[0].bump
}

const NONE: Bump = Bump::None;
const PATCH: Bump = Bump::Patch;
const MINOR: Bump = Bump::Minor;
const MAJOR: Bump = Bump::Major;

/// A message, its meaning and its bump in short, and the source of the rule.
struct Row {
    message: &'static str,
    meaning: &'static str,
    bump: Bump,
    source: &'static str,
}

const fn row(
    message: &'static str,
    meaning: &'static str,
    bump: Bump,
    source: &'static str,
) -> Row {
    Row { message, meaning, bump, source }
}

/// `CC n` is item n of Conventional Commits 1.0.0; `grammar` that of its own parser.
const MESSAGES: &[Row] = &[
    // The header.
    row("feat: a", "feat", MINOR, "CC 2"),
    row("fix: a", "fix", PATCH, "CC 3"),
    row("perf: a", "perf", PATCH, "CC 14 lets other types be; ours: faster is worth having"),
    row("docs: a", "docs", NONE, "CC 14"),
    row("chore: a", "chore", NONE, "CC 14"),
    row("refactor: a", "refactor", NONE, "CC 14"),
    row(
        "build(deps): bump x from 1 to 2",
        "build(deps)",
        NONE,
        "CC 14: what Dependabot writes by default",
    ),
    row(
        "fix(deps): update x to v2",
        "fix(deps)",
        PATCH,
        "CC 3: what Renovate writes for what is shipped; a bot's fix is a fix",
    ),
    row("feat(api): a", "feat(api)", MINOR, "CC 4"),
    row("feat(api, web): a", "feat(api, web)", MINOR, "CC 4: a scope is a text in parentheses"),
    row("feat(a/b-c): a", "feat(a/b-c)", MINOR, "CC 4"),
    row("feat(): a", "-", NONE, "CC 4: a scope is a noun"),
    row("feat(a: b", "-", NONE, "CC 4: surrounded by parentheses"),
    row("feat((a)): b", "-", NONE, "CC 4"),
    row("feat:a", "-", NONE, "CC 1 and 5: a colon and a space"),
    row("feat : a", "-", NONE, "CC 1: the colon is terminal"),
    row("feat a", "-", NONE, "CC 1"),
    row("feat: ", "-", NONE, "CC 5: a description must follow"),
    row("feat:\ta", "-", NONE, "CC 1: a space, and a tab is none"),
    row("feat:  a", "feat", MINOR, "ours: a second space is nobody's meaning"),
    row("a feat: b", "-", NONE, "CC 1: commits are prefixed with a type"),
    row("docs: explain feat!: x", "docs", NONE, "CC 1: only what stands in front"),
    row("feature: a", "feature", NONE, "CC 2: the type is `feat`"),
    row("fixup! feat: a", "-", NONE, "git commit --fixup: no type"),
    row(": a", "-", NONE, "CC 1"),
    row("", "-", NONE, "git commit --allow-empty-message"),
    row("just words", "-", NONE, "CC 1"),
    row(
        "just words\n\nBREAKING CHANGE: b",
        "-",
        NONE,
        "CC 1: a footer of a commit without a type has no meaning",
    ),
    row("✨ feat: a", "-", NONE, "CC 1"),
    // Breaking changes.
    row("feat!: a", "feat!", MAJOR, "CC 13"),
    row("chore!: a", "chore!", MAJOR, "CC 13 with 14: any type"),
    row("fix(parser)!: a", "fix(parser)!", MAJOR, "CC 13: immediately before the colon"),
    row("feat!(a): b", "-", NONE, "CC 13: immediately before the colon"),
    row("feat! : a", "-", NONE, "CC 13"),
    row("feat!!: a", "-", NONE, "CC 13: one"),
    row("fix: a\n\nBREAKING CHANGE: b", "fix!", MAJOR, "CC 12"),
    row("docs: a\n\nBREAKING CHANGE: b", "docs!", MAJOR, "CC 12 with 14: any type"),
    row("fix: a\n\nBREAKING-CHANGE: b", "fix!", MAJOR, "CC 16"),
    row("fix: a\n\nBREAKING CHANGE #1", "fix!", MAJOR, "CC 8: the other separator"),
    row(
        "fix: a\n\nbody\n\nReviewed-by: Z\nBREAKING CHANGE: b\n  more",
        "fix!",
        MAJOR,
        "CC 10: a value ends at the next token",
    ),
    row(
        "fix: a\n\nBREAKING CHANGE: b\n\nstill b\n\nRefs: #1",
        "fix!",
        MAJOR,
        "CC 10: values hold newlines",
    ),
    row("fix: a\nBREAKING CHANGE: b", "fix!", MAJOR, "grammar: newlines before a footer are free"),
    row("fix: a\n\nbody\nBREAKING CHANGE: b", "fix!", MAJOR, "grammar: a footer ends the body"),
    row(
        "fix: a\n\nBREAKING CHANGE:\nb",
        "fix!",
        MAJOR,
        "CC 10, and git strips the blank before the newline",
    ),
    row("fix: a\n\nBREAKING CHANGE:\n", "fix", PATCH, "CC 12: a description must follow"),
    row("fix: a\n\nBREAKING CHANGE: ", "fix", PATCH, "CC 12"),
    row("fix: a\n\nBREAKING CHANGES: b", "fix", PATCH, "CC 12: another token"),
    row("fix: a\n\nBREAKING: b", "fix", PATCH, "CC 12"),
    row("fix: a\n\nbreaking change: b", "fix", PATCH, "CC 15: this one in upper case only"),
    row("fix: a\n\nBreaking-Change: b", "fix", PATCH, "CC 15 with 16"),
    row("fix: a\n\nBREAKING CHANGE:b", "fix", PATCH, "CC 12: a colon and a space"),
    row("fix: a\n\nBREAKING CHANGE - b", "fix", PATCH, "CC 12"),
    row(
        "fix: a\n\nThis is no BREAKING CHANGE: at all",
        "fix",
        PATCH,
        "CC 8: a footer begins with its token",
    ),
    row("fix: a\n\n> BREAKING CHANGE: quoted", "fix", PATCH, "CC 8"),
    row("fix: a\n\n  BREAKING CHANGE: indented", "fix", PATCH, "CC 8"),
    row("fix: BREAKING CHANGE: b", "fix", PATCH, "CC 11: in the prefix or in a footer"),
    // Case, and bytes that editors leave.
    row("FEAT: a", "feat", MINOR, "CC 15"),
    row("Fix(API): a", "fix(API)", PATCH, "CC 15"),
    row("\u{feff}feat: a", "feat", MINOR, "ours: a byte order mark is no text"),
    row(
        "feat: a\r\n\r\nBREAKING CHANGE: b\r\n",
        "feat!",
        MAJOR,
        "ours: a line may end as on Windows",
    ),
    row("\nfeat: a", "feat", MINOR, "git stripspace: leading empty lines are none"),
    // Squash merges, as GitHub writes them.
    row("feat: a (#12)", "feat", MINOR, "GitHub: the title and the number"),
    row(
        "fix: a (#12)\n\n* feat: b\n\n* fix!: c",
        "fix +feat +fix!",
        MAJOR,
        "GitHub lists the commits; ours: the most that anybody said",
    ),
    row(
        "Some words (#12)\n\n* feat: b\n* docs: c",
        "+feat +docs",
        MINOR,
        "GitHub: a free title above commits that say more",
    ),
    row("docs: a (#12)\n\n* wip\n\n* wip", "docs", NONE, "GitHub"),
    row(
        "fix: a (#12)\n\n* fix: b\n\nBREAKING CHANGE: c\n\n* docs: d",
        "fix +fix! +docs",
        MAJOR,
        "GitHub copies each commit's body; CC 12",
    ),
    row(
        "fix: a (#12)\n\n* wip\n\nBREAKING CHANGE: c",
        "fix!",
        MAJOR,
        "ours: a listed commit without a type speaks for the whole",
    ),
    row(
        "docs: a (#12)\n\n* feat: b\n\n* Revert \"feat: b\"\n\nThis reverts commit 0123456.",
        "docs",
        NONE,
        "ours: taken back before it was merged",
    ),
    row(
        "docs: a (#12)\n\n* Revert \"feat: z\"",
        "docs +revert",
        PATCH,
        "ours: takes back what was released",
    ),
    row("docs: a (#12)\n\n- feat: b", "docs", NONE, "GitHub's list has stars; a dash is prose"),
    row("fix: a\n\n* feat: b", "fix", PATCH, "ours: no number, no squash, so a list is prose"),
    row(
        "fix: a (#12)\n\n---------\n\nCo-authored-by: Ada <ada@example.org>",
        "fix",
        PATCH,
        "GitHub's line before the co-authors",
    ),
    row("fix: a (see #12)", "fix", PATCH, "GitHub's form only"),
    // Merges.
    row(
        "Merge pull request #1 from o/b\n\nfeat: title",
        "feat",
        MINOR,
        "GitHub puts the title below",
    ),
    row("Merge pull request #1 from o/b\n\ntitle\n\nfeat: c", "-", NONE, "GitHub: one title"),
    row("Merge pull request #1 from o/feat: x", "-", NONE, "CC 1"),
    row(
        "Merge pull request #1 from o/b\n\nfeat: title\n\nBREAKING CHANGE: c",
        "feat!",
        MAJOR,
        "GitHub, CC 12",
    ),
    row("Merge branch 'feat: x' into main", "-", NONE, "git merge"),
    row(
        "Merge branch 'b'\n\n* b:\n  feat: x",
        "-",
        NONE,
        "git merge --log: the commits are there themselves",
    ),
    // Reverts. The specification leaves them open.
    row(
        "Revert \"feat: a\"\n\nThis reverts commit 0123456789abcdef0123456789abcdef01234567.",
        "takes back [0123456] feat: a",
        PATCH,
        "git revert; ours: what was released is taken back by a patch",
    ),
    row(
        "Revert \"feat: a\" (#13)\n\nReverts o/r#12",
        "takes back [] #12 feat: a",
        PATCH,
        "GitHub's button",
    ),
    row(
        "revert: feat: a\n\nRefs: 676104e, A215868",
        "revert takes back [676104e a215868] feat: a",
        PATCH,
        "CC, its example",
    ),
    row("revert!: feat: a", "revert! takes back [] feat: a", MAJOR, "CC 13"),
    row(
        "Revert \"Revert \"feat: a\"\"\n\nThis reverts commit ABCDEF0.",
        "takes back [abcdef0] Revert \"feat: a\"",
        MINOR,
        "git revert, before 2.43; ours: what holds again counts",
    ),
    row(
        "Reapply \"feat: a\"\n\nThis reverts commit abcdef0.",
        "takes back [abcdef0] Revert \"feat: a\"",
        MINOR,
        "git revert, since 2.43",
    ),
    row(
        "fix: undo a\n\nThis reverts commit abcdef0 (feat: a, 2026-11-01).",
        "fix takes back [abcdef0] -",
        PATCH,
        "git revert --reference",
    ),
    row(
        "Revert \"Merge pull request #1 from o/b\"\n\nThis reverts commit abcdef0, reversing\nchanges made to 1234567.",
        "takes back [abcdef0] Merge pull request #1 from o/b",
        PATCH,
        "git revert -m 1",
    ),
    row(
        "docs: how to revert\n\nThis reverts commit zzz.",
        "docs",
        NONE,
        "git: an id is hexadecimal",
    ),
    row(
        "Take two back\n\nThis reverts commits 0123456, 1234567 and 89abcde.",
        "takes back [0123456 1234567 89abcde] -",
        PATCH,
        "ours: people revert several at once",
    ),
    row(
        "Take it back\n\nThis reverts commit 0123456, reversing changes made to 89abcde.",
        "takes back [0123456] -",
        PATCH,
        "git revert -m 1, on one line",
    ),
    row(
        "docs: a\n\nThis reverts commits 0123456..89abcde.",
        "docs",
        NONE,
        "ours: no range is read",
    ),
    row(
        "fix: undo the export (#13)\n\nReverts o/r#12",
        "fix takes back [] #12 -",
        PATCH,
        "GitHub's button, below a title of one's own",
    ),
    row(
        "Undo (#13)\n\nReverts https://github.com/o/r/pull/12.",
        "takes back [] #12 -",
        PATCH,
        "GitHub's button; people paste the address",
    ),
    row("docs: a\n\nReverts #12 in part", "docs", NONE, "ours: prose"),
    row(
        "Reland \"feat: a\"\n\nThis is a reland of commit 0123456.",
        "takes back [] Revert \"feat: a\"",
        MINOR,
        "Gerrit's users' word for it",
    ),
    // What a body quotes is nobody's word.
    row(
        "fix: a\n\n- ```js\n  b()\n  ```\n\nBREAKING CHANGE: c",
        "fix!",
        MAJOR,
        "CommonMark: code in a list ends with its fence",
    ),
    row(
        "docs: a\n\n* ```\n  never closed\n\nBREAKING CHANGE: c",
        "docs!",
        MAJOR,
        "CommonMark: or with the list",
    ),
    row("fix: a\n\nBREAKING CHANGE: None.", "fix", PATCH, "ours: a form's answer"),
    row("fix: a\n\nBREAKING CHANGE: n/a", "fix", PATCH, "ours: a form's answer"),
    row("fix: a\n\nBREAKING CHANGE: no more v1", "fix!", MAJOR, "CC 12"),
    row("docs: a\n\n```\nBREAKING CHANGE: b\n```\n\nc", "docs", NONE, "CommonMark: fenced code"),
    row("docs: a\n\n> BREAKING CHANGE: b", "docs", NONE, "CommonMark: a block quote"),
    row(
        "docs: a\n\n<!-- BREAKING CHANGE: b\nBREAKING CHANGE: c -->",
        "docs",
        NONE,
        "HTML: a comment",
    ),
    row("docs: a\n\n~~~\nThis reverts commit 0123456.\n~~~", "docs", NONE, "CommonMark"),
    row("fix: a\n\n```\nb\n```\n\nBREAKING CHANGE: c", "fix!", MAJOR, "CC 8: behind the body"),
    row("chore: a (#12)\n\nwords\n\n* feat: b", "chore", NONE, "GitHub's list begins the body"),
    row(
        "chore: a (#12)\n\n* fix: b\n\nwords:\n\n* feat: c\n* feat: d",
        "chore +fix",
        PATCH,
        "GitHub sets commits apart by empty lines",
    ),
    // Types of other signs.
    row("ci/cd!: a", "ci/cd!", MAJOR, "grammar: no white space, parentheses or colons"),
    row("ФИКС!: a", "фикс!", MAJOR, "grammar; CC 15"),
    row("\"feat!: a\" was wrong", "-", NONE, "ours: a quotation is no type"),
    row("Revert feat!: a", "takes back [] feat!: a", PATCH, "ours: people leave the marks out"),
    row("Revert \"Reapply \"feat: a\"\"", "takes back [] Reapply \"feat: a\"", PATCH, "git revert"),
    // Release tools.
    row(
        "chore(release): 1.2.3 [skip ci]\n\n### Features\n\n* feat: a",
        "release",
        NONE,
        "semantic-release/git",
    ),
    row(
        "chore(main): release 1.2.3 (#45)\n\n* feat: a\n\nBREAKING CHANGE: b",
        "release",
        NONE,
        "release-please",
    ),
    row(
        "chore(main): release api 1.2.3",
        "release",
        NONE,
        "release-please, one of several packages",
    ),
    row("chore: release v2.0.0", "release", NONE, "cargo-release"),
    row("bump: version 1.2.2 → 1.2.3", "release", NONE, "commitizen"),
    row(
        "fix(release): 1.2.3 lacked a file",
        "fix(release)",
        PATCH,
        "ours: no release tool calls its commit a fix",
    ),
    row(
        "build(release)!: require node 20.0.0",
        "build(release)!",
        MAJOR,
        "CC 13: no release tool calls its commit breaking",
    ),
    row(
        "build(release): require node 20.0.0\n\nBREAKING CHANGE: 18 is gone",
        "build(release)!",
        MAJOR,
        "CC 12: the version is another's",
    ),
    row("chore(release): publish v1.2.3", "release", NONE, "lerna"),
    row(
        "chore(release): notes say more",
        "chore(release)",
        NONE,
        "ours: a release names its version",
    ),
];

#[test]
fn messages_mean_what_their_sources_say() {
    assert!(MESSAGES.len() >= 60, "{}", MESSAGES.len());
    for Row { message, meaning, bump, source } in MESSAGES {
        let read = read_message(message);
        assert_eq!(short(&read), *meaning, "{message:?} ({source})");
        let parents = if read.subject.starts_with("Merge ") { 2 } else { 1 };
        assert_eq!(alone(&read, parents), *bump, "{message:?} ({source})");
    }
}

#[test]
fn no_message_is_too_odd_to_read() {
    // Every text of up to five of these pieces: nothing panics, and what has no header at the front
    // says nothing.
    let pieces = [
        "feat",
        "(",
        ")",
        "!",
        ": ",
        "\n",
        "BREAKING CHANGE",
        " (#1)",
        "* ",
        "Revert \"",
        "\"",
        "ä",
        "\n```\n",
        "\n<!--",
        "\n# ",
        "|-|",
    ];
    let mut texts = vec![String::new()];
    for _ in 0..4 {
        texts = texts
            .iter()
            .flat_map(|text| pieces.iter().map(move |piece| format!("{text}{piece}")))
            .collect();
        for text in &texts {
            let read = read_message(text);
            assert!(read.header.is_none() || read.title.contains(": "), "{text:?}");
        }
    }
}

#[test]
fn a_breaking_change_is_told_in_full() {
    let cases = [
        ("fix: a\n\nBREAKING CHANGE: b\n  and c\n\nd\nRefs: #1", Some("b\n  and c\n\nd")),
        ("fix: a\n\nBREAKING CHANGE: b\nBREAKING-CHANGE #c", Some("b\nc")),
        ("fix: a\n\nBREAKING CHANGE: b\nNote: c", Some("b")),
        (
            "fix: a (#1)\n\n* fix: b\n\nBREAKING CHANGE: c\n\n* docs: d\n\n---------\n\nCo-authored-by: A <a@b>",
            None,
        ),
        ("feat!: a", None),
    ];
    for (message, text) in cases {
        assert_eq!(
            read_message(message).header.expect("a header").breaking_change.as_deref(),
            text,
            "{message:?}"
        );
    }
    let listed = read_message(cases[3].0).listed;
    assert_eq!(listed[0].breaking_change.as_deref(), Some("c"), "the list's own");
}

#[test]
fn a_pull_request_has_its_number() {
    let cases = [
        ("feat: a (#12)", Some(12)),
        ("feat: a (#12) (#13)", Some(13)),
        ("Merge pull request #14 from o/b\n\nfeat: a", Some(14)),
        ("feat: a (#x)", None),
        ("feat: a #12", None),
    ];
    for (message, number) in cases {
        assert_eq!(read_message(message).pull_request, number, "{message:?}");
    }
}

#[test]
fn a_long_message_is_read_at_once() {
    // What is read more often than once per line would take minutes here.
    let pieces = [
        "<details>\n",
        "|-|\n",
        "```\n",
        "* Revert \"a\"\n\n",
        "revert: ",
        "Revert \"",
        "<!--",
        "# v1.2.3\n",
    ];
    for piece in pieces {
        for start in ["", "fix: a (#1)\n\n"] {
            let message = format!("{start}{}", piece.repeat(50_000));
            assert!(read_message(&message).subject.len() <= message.len(), "{piece:?}");
        }
    }
}
