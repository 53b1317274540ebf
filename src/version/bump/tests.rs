//! Lines of commits → what they ask for, and versions → the next ones.

use super::*;

/// A line of commits, newest first.
fn commits(messages: &[&str]) -> Vec<Commit> {
    let count = messages.len();
    let id = |at: usize| format!("{:040x}", 0xabc_0000_0000_u64 + (count - at) as u64);
    let commit = |(at, message): (usize, &&str)| Commit {
        id: id(at),
        parents: vec![id(at + 1)],
        message: commit::read_message(message),
        counts: true,
        ..Commit::default()
    };
    messages.iter().enumerate().map(commit).collect()
}

/// A history by names: `(name, parents, message)`, newest first.
fn graph(history: &[(&str, &str, &str)]) -> Vec<Commit> {
    let commit = |(name, parents, message): &(&str, &str, &str)| Commit {
        id: name.repeat(40),
        parents: parents.split_whitespace().map(|name| name.repeat(40)).collect(),
        message: commit::read_message(message),
        counts: true,
        ..Commit::default()
    };
    history.iter().map(commit).collect()
}

fn bumps(commits: &[Commit]) -> Vec<Bump> {
    judge_commits(commits, &service::Version::default())
        .iter()
        .map(|verdict| verdict.bump)
        .collect()
}

fn highest(messages: &[&str]) -> Bump {
    bumps(&commits(messages)).into_iter().max().unwrap_or(Bump::None)
}

#[test]
fn reverts_cancel_within_the_range() {
    // Newest first.
    let cases: &[(&[&str], Bump)] = &[
        (&["Revert \"feat: a\"", "feat: a"], Bump::None),
        (&["revert: feat: a", "feat: a", "fix: b"], Bump::Patch),
        (&["Revert \"Revert \"feat: a\"\"", "Revert \"feat: a\"", "feat: a"], Bump::Minor),
        (&["Reapply \"feat: a\"", "Revert \"feat: a\"", "feat: a"], Bump::Minor),
        (
            &[
                "Revert \"Reapply \"feat: a\"\"",
                "Reapply \"feat: a\"",
                "Revert \"feat: a\"",
                "feat: a",
            ],
            Bump::None,
        ),
        (&["fix: undo it (#13)\n\nReverts o/r#12", "feat: a (#12)"], Bump::Patch),
        (&["Undo it (#13)\n\nReverts o/r#12", "feat: a (#12)"], Bump::None),
        (&["Reland \"feat: a\"", "Revert \"feat: a\"", "feat: a"], Bump::Minor),
        (&["Revert \"feat: a\""], Bump::Patch),
        (&["feat: a", "Revert \"feat: a\"", "feat: a"], Bump::Minor),
        (&["Revert \"feat!: a\"", "feat!: a", "fix: c"], Bump::Patch),
        // GitHub quotes the pull request's title, and says its number.
        (&["Revert \"feat: a\" (#13)\n\nReverts o/r#12", "feat: a (#12)"], Bump::None),
        (&["Revert \"feat: a\"", "feat: a (#12)"], Bump::None),
        (&["Revert \"feat: a (#12)\" (#13)\n\nReverts o/r#12", "feat: a (#12)"], Bump::None),
        (&["Revert \"feat: a\" (#13)\n\nReverts o/r#11", "feat: b (#12)"], Bump::Minor),
        // What a revert says beside it counts.
        (&["revert!: feat: a", "feat: a"], Bump::Major),
    ];
    for (messages, bump) in cases {
        assert_eq!(highest(messages), *bump, "{messages:?}");
    }
}

#[test]
fn a_revert_by_id_takes_back_that_commit_and_no_namesake() {
    let mut list = commits(&["placeholder", "feat: a", "fix: a", "feat: a"]);
    list[0].message =
        commit::read_message(&format!("Revert \"feat: a\"\n\nThis reverts commit {}.", list[3].id));
    assert_eq!(bumps(&list), [Bump::None, Bump::Minor, Bump::Patch, Bump::None]);
    list[0].message = commit::read_message(&format!(
        "fix: undo\n\nThis reverts commit {}.\nThis reverts commit {}.",
        list[3].id, list[1].id
    ));
    assert_eq!(bumps(&list), [Bump::Patch, Bump::None, Bump::Patch, Bump::None]);
    let said = judge_commits(&list, &service::Version::default());
    assert_eq!(
        said.iter().map(|verdict| verdict.taken_back).collect::<Vec<_>>(),
        [false, true, false, true],
        "a fix stays"
    );
    // Of two, one was released.
    list[0].message =
        commit::read_message(&format!("revert: two\n\nRefs: {}, 1234567", list[1].id));
    assert_eq!(bumps(&list), [Bump::Patch, Bump::None, Bump::Patch, Bump::Minor]);
}

#[test]
fn a_merge_and_what_it_brings_count_once() {
    use Bump::{Major, Minor, None, Patch};
    let merge = "Merge pull request #12 from o/b\n\n";
    let with = |title: &str| format!("{merge}{title}");
    let cases: &[(&str, &str, &str, [Bump; 3])] = &[
        // The merge's title, then the commits it brings, newest first → the three verdicts.
        ("feat: a", "feat: a", "wip", [None, Minor, None]),
        ("feat: a", "fix: b", "wip", [Minor, Patch, None]),
        ("fix: a", "feat!: b", "wip", [Patch, Major, None]),
        ("words", "feat: b", "fix: c", [None, Minor, Patch]),
        // Taken back by the same merge that tells of it.
        ("feat: a", "Revert \"feat: a\"", "feat: a", [None, None, None]),
        ("Revert \"feat: z\"", "Revert \"feat: z\"", "wip", [None, Patch, None]),
        (
            "Revert \"feat: z\"",
            "Revert \"Merge pull request #9 from o/z\"",
            "wip",
            [None, Patch, None],
        ),
        ("Revert \"feat: z\"", "wip", "wip", [Patch, None, None]),
    ];
    for (title, second, first, expected) in cases {
        let title = with(title);
        let list = graph(&[("a", "b c", &title), ("c", "d", second), ("d", "b", first)]);
        assert_eq!(bumps(&list), expected, "{title:?} {second:?} {first:?}");
    }
    // GitHub may end a merge's title with the pull request's number, too.
    let list = graph(&[("a", "b c", "feat: a (#12)"), ("c", "b", "feat: a")]);
    assert_eq!(bumps(&list), [None, Minor]);
    // What a merge outside says is not said by a namesake beside it.
    let list = graph(&[("a", "b c", &with("feat: a")), ("b", "d", "feat: a"), ("c", "d", "wip")]);
    assert_eq!(bumps(&list), [Minor, Minor, None]);
}

#[test]
fn a_merge_is_taken_back_with_all_that_it_brought() {
    let revert = format!(
        "Revert \"Merge pull request #12 from o/b\"\n\nThis reverts commit {}, reversing\nchanges made to b.",
        "c".repeat(40)
    );
    let list = graph(&[
        ("a", "b", &revert),
        ("b", "c", "fix: after"),
        ("c", "f d", "Merge pull request #12 from o/b\n\nfeat: title"),
        ("d", "e 9", "Merge branch 'inner'"),
        ("9", "e", "feat!: inner"),
        ("e", "f", "feat: b"),
        ("f", "0", "fix: before"),
    ]);
    let found = judge_commits(&list, &service::Version::default());
    use Bump::{None, Patch};
    assert_eq!(bumps(&list), [None, Patch, None, None, None, None, Patch]);
    let taken: Vec<bool> = found.iter().map(|verdict| verdict.taken_back).collect();
    assert_eq!(taken, [true, false, true, true, true, true, false]);
    let numbers: Vec<Option<u64>> = found.iter().map(|verdict| verdict.pull_request).collect();
    assert_eq!(
        numbers,
        [Option::None, Option::None, Some(12), Some(12), Some(12), Some(12), Option::None]
    );
}

/// Exhaustive: every line of up to four commits of these, grown by every other one.
#[test]
fn more_commits_never_lower_the_bump_unless_they_take_back() {
    let pool = ["feat: a", "fix: b", "docs: c", "chore!: d", "words", "fix: a (#1)\n\n* feat: b"];
    let back = ["Revert \"feat: a\"", "Revert \"Revert \"feat: a\"\""];
    let mut lines: Vec<Vec<&str>> = vec![Vec::new()];
    for _ in 0..4 {
        let mut longer = Vec::new();
        for line in &lines {
            let before = highest(line);
            for extra in pool.iter().chain(&back) {
                let grown: Vec<&str> = std::iter::once(extra).chain(line).copied().collect();
                let after = highest(&grown);
                assert!(after >= before || back.contains(extra), "{grown:?}");
                // What takes back lowers no further than to what the others say.
                let others = line
                    .iter()
                    .filter(|message| !message.contains("feat: a"))
                    .copied()
                    .collect::<Vec<_>>();
                assert!(after >= highest(&others), "{grown:?}");
                longer.push(grown);
            }
        }
        lines = longer;
    }
}

#[test]
fn bumps_can_be_set_per_type() {
    let mut settings = service::Version::default();
    settings.bumps.insert("Docs".into(), BumpName::Patch);
    settings.bumps.insert("feat".into(), BumpName::None);
    let verdicts = judge_commits(&commits(&["docs: a", "feat: b", "feat!: c"]), &settings);
    assert_eq!(
        verdicts.iter().map(|v| v.bump).collect::<Vec<_>>(),
        [Bump::Patch, Bump::None, Bump::Major]
    );
}

#[test]
fn the_next_version_follows_the_base() {
    let cases = [
        ("1.3.2", Bump::Major, false, "2.0.0"),
        ("1.3.2", Bump::Minor, false, "1.4.0"),
        ("1.3.2", Bump::Patch, false, "1.3.3"),
        ("1.3.2", Bump::None, false, "1.3.2"),
        ("0.3.2", Bump::Major, false, "0.4.0"),
        ("0.3.2", Bump::Major, true, "1.0.0"),
        ("0.3.2", Bump::Minor, true, "0.4.0"),
        ("2.0.0-rc.10", Bump::Patch, false, "2.0.0"),
        ("2.0.0-rc.10", Bump::Major, false, "2.0.0"),
        ("1.4.0-rc.1", Bump::Minor, false, "1.4.0"),
        ("1.4.0-rc.1", Bump::Major, false, "2.0.0"),
        ("1.4.1-rc.1", Bump::Minor, false, "1.5.0"),
        ("1.4.1-rc.1", Bump::Patch, false, "1.4.1"),
    ];
    for (base, bump, allow, expected) in cases {
        let base = Version::parse(base).expect("a version");
        let found = step_version(&base, bump, allow).expect("a version").to_string();
        assert_eq!(found, expected, "{base} {bump:?}");
    }
}

#[test]
fn a_prerelease_is_valid_and_below_its_version() {
    let version = Version::new(1, 3, 3);
    let cases = [
        ("main", 4, "1.3.3-main.4"),
        ("feature/patient export", 1, "1.3.3-feature-patient-export.1"),
        ("pr.12", 7, "1.3.3-pr.12.7"),
        ("007", 1, "1.3.3-n007.1"),
        ("--x--", 1, "1.3.3-x.1"),
        ("äö", 2, "1.3.3-snapshot.2"),
        ("", 2, "1.3.3-snapshot.2"),
    ];
    for (label, count, expected) in cases {
        let made = make_prerelease(&version, label, count);
        assert_eq!(made.to_string(), expected);
        assert!(made < version);
    }
    // Where a long name is cut, nothing is left that a version may not hold.
    for at in 60..=90 {
        let made = make_prerelease(&version, &format!("{}.00a-b", "x".repeat(at)), 1).to_string();
        assert!(made.starts_with("1.3.3-x") && made.ends_with(".1"), "{made}");
    }
    assert!(make_prerelease(&version, &"long/".repeat(100), 123_456).to_string().len() <= 128);
}
