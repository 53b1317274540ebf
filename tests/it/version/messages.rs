//! `cicd version` on messages that quote others, and on chains of reverts across releases.

use super::{SERVICE, repository, version};
use crate::support::Repository;

/// The bump that a message asks for as the only commit since a version.
fn bump(message: &str) -> (String, String) {
    let repository = repository(SERVICE);
    repository.git(&["tag", "v1.0.0"]);
    repository.git(&["commit", "-q", "--allow-empty", "--cleanup=verbatim", "-m", message]);
    let run = version(&repository).ended(0);
    (run.json()["bump"].as_str().expect("a bump").to_string(), run.stderr)
}

#[test]
fn what_is_quoted_asks_for_nothing() {
    let notes = "### Release Notes\n\n#### v2.0.0\n\nBREAKING CHANGE: node 18 is gone\n\n* feat!: padding\n";
    let cases = [
        ("docs: a\n\n```\nBREAKING CHANGE: b\n```\n\nas the guide says.".to_string(), "none"),
        ("docs: a\n\n> BREAKING CHANGE: b".into(), "none"),
        ("docs: a\n\n- BREAKING CHANGE: b".into(), "none"),
        ("docs: a\n\n| BREAKING CHANGE: | b |\n|---|---|\n".into(), "none"),
        ("docs: a\n\n<details>\n\nBREAKING CHANGE: b\n\n</details>".into(), "none"),
        ("docs: a\n\n<!--\nBREAKING CHANGE: describe it here\n-->".into(), "none"),
        ("docs: a\n\n~~~\nThis reverts commit 0123456789.\n~~~".into(), "none"),
        (format!("chore(deps): update left-pad (#12)\n\n{notes}\n---\n\nmore"), "none"),
        (
            format!("fix(deps): update left-pad (#12)\n\n{notes}\n---\n\nBREAKING CHANGE: ours"),
            "major",
        ),
        (format!("chore: update (#12)\n\n* chore(deps): update left-pad\n\n{notes}"), "none"),
        ("fix: a\n\n```\ncode\n```\n\nBREAKING CHANGE: b".into(), "major"),
        ("fix: a\n\nBREAKING CHANGE: b\n\n```\ncode\n```".into(), "major"),
    ];
    for (message, expected) in cases {
        assert_eq!(bump(&message).0, expected, "{message:?}");
    }
}

#[test]
fn a_breaking_mark_that_nobody_hears_is_told() {
    for message in ["✨ feat!: a", "feat (api)!: a", "feat!:a", "words\n\nBREAKING CHANGE: b"] {
        let (bump, said) = bump(message);
        assert_eq!(bump, "none", "{message:?}");
        assert!(said.contains("says that it breaks something"), "{message:?}: {said}");
    }
    for message in ["ci/cd!: a", "функция!: a", "fix-ci!: a", "feat(api)!: a"] {
        assert_eq!(bump(message).0, "major", "{message:?}");
    }
}

/// A commit that takes back HEAD, as git does it; returns its id.
fn revert(repository: &Repository, title: &str) -> String {
    let head = repository.git(&["rev-parse", "HEAD"]);
    repository.commit(&format!("{title}\n\nThis reverts commit {head}."))
}

#[test]
fn what_was_taken_back_in_a_release_and_holds_again_counts_as_itself() {
    let titles = [
        ("feat: a", "Reapply \"feat: a\"", "minor"),
        ("feat: a", "Revert \"Revert \"feat: a\"\"", "minor"),
        ("feat: a", "revert: revert: feat: a", "minor"),
        ("feat: a", "Reapply \"feat: a\" (#14)", "minor"),
        ("feat!: a", "Reapply \"feat!: a\"", "major"),
        ("fix: a", "Reapply \"fix: a\"", "patch"),
        // Whatever the title, git's line says what is taken back: the revert.
        ("feat: a", "Take it in again", "minor"),
    ];
    for (feature, again, expected) in titles {
        let repository = repository(SERVICE);
        repository.commit(feature);
        repository.git(&["tag", "v1.0.0"]);
        revert(&repository, &format!("Revert \"{feature}\""));
        let taken_back = version(&repository).ended(0).json();
        assert_eq!(taken_back["bump"], "patch", "{feature}");
        repository.git(&["tag", "v1.0.1"]);
        revert(&repository, again);
        assert_eq!(version(&repository).ended(0).json()["bump"], expected, "{again}");
        // Taken back before it is released once more.
        revert(&repository, &format!("Revert \"{again}\""));
        assert_eq!(version(&repository).ended(0).json()["bump"], "none", "{again}");
    }
}
