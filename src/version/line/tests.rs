//! Facts of a history → the version that comes next.

use super::*;

fn version(text: &str) -> Version {
    Version::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What is known of a case, in short.
#[derive(Clone, Copy, Default)]
struct Case<'a> {
    branch: Option<&'a str>,
    pull_request: Option<u64>,
    /// The versions that HEAD contains.
    here: &'a [&'a str],
    /// The versions of other branches.
    elsewhere: &'a [&'a str],
    bump: Option<Bump>,
    commits: u64,
}

/// The version, with `!` when it is released; or what is refused.
fn decided(case: &Case<'_>, allow_1_0: bool) -> String {
    let settings = service::Version::default();
    let mut here: Vec<Version> = case.here.iter().map(|text| version(text)).collect();
    here.sort();
    let known: Vec<Version> =
        here.iter().cloned().chain(case.elsewhere.iter().map(|text| version(text))).collect();
    let line = Line::of(case.branch, Some("trunk"), &settings);
    let highest = here.last();
    let stable = here.iter().rev().find(|version| version.pre.is_empty());
    let base = if matches!(line, Line::Channel(_)) { highest } else { stable.or(highest) };
    let facts = VersionFacts {
        line,
        branch: case.branch,
        pull_request: case.pull_request,
        at_head: base.filter(|_| case.commits == 0),
        highest,
        base,
        known: &known,
        bump: case.bump.unwrap_or(Bump::None),
        commits: case.commits,
        overtaken: false,
    };
    match decide_version(&facts, &version("0.1.0"), allow_1_0) {
        Ok(decision) => {
            format!("{}{}", decision.version, if decision.release { "!" } else { "" })
        }
        Err(NoVersion::OutOfLine { range, version, .. }) => format!("{version} is not in {range}"),
        Err(NoVersion::Overflow { after }) => format!("nothing after {after}"),
    }
}

#[test]
fn branches_have_their_lines() {
    let settings = service::Version {
        channels: [("develop".into(), "dev".to_string().try_into().expect("an identifier"))]
            .into_iter()
            .collect(),
        ..service::Version::default()
    };
    let maintenance =
        |branch: &str, major, minor| Line::Maintenance { branch: branch.into(), major, minor };
    let cases = [
        (None, Line::Main),
        (Some("main"), Line::Main),
        (Some("master"), Line::Main),
        (Some("trunk"), Line::Main),
        (Some("1.x"), maintenance("1.x", 1, None)),
        (Some("1.4.x"), maintenance("1.4.x", 1, Some(4))),
        (Some("develop"), Line::Channel("dev".into())),
        (Some("beta"), Line::Topic),
        (Some("1.4.2.x"), Line::Topic),
        (Some("x"), Line::Topic),
        (Some(".x"), Line::Topic),
        (Some("v1.x"), Line::Topic),
        (Some("feature/x"), Line::Topic),
    ];
    for (branch, line) in cases {
        assert_eq!(Line::of(branch, Some("trunk"), &settings), line, "{branch:?}");
    }
    assert_eq!(
        Line::of(Some("beta"), Some("beta"), &service::Version::default()),
        Line::Channel("beta".into())
    );
}

#[test]
fn facts_become_versions() {
    use Bump::{Major, Minor, Patch};
    let case = |branch, here, elsewhere, bump, commits| Case {
        branch: Some(branch),
        pull_request: None,
        here,
        elsewhere,
        bump,
        commits,
    };
    let cases: &[(Case<'_>, &str)] = &[
        // The main line.
        (case("main", &["1.3.2"], &[], Some(Minor), 2), "1.4.0!"),
        (case("main", &["1.3.2"], &[], None, 4), "1.3.3-main.4"),
        (case("main", &["1.3.2"], &[], None, 0), "1.3.2"),
        (case("main", &[], &[], Some(Minor), 1), "0.1.0!"),
        (case("main", &[], &[], None, 1), "0.1.0-main.1"),
        (case("main", &["0.3.0"], &[], Some(Major), 1), "0.4.0!"),
        (
            Case {
                branch: None,
                here: &["1.3.2"],
                bump: Some(Patch),
                commits: 1,
                ..Case::default()
            },
            "1.3.3!",
        ),
        (
            Case { branch: None, here: &["1.3.2"], commits: 1, ..Case::default() },
            "1.3.3-snapshot.1",
        ),
        // What was a prerelease becomes stable, and nothing goes back behind it.
        (case("main", &["2.0.0-rc.2"], &[], Some(Patch), 1), "2.0.0!"),
        (case("main", &["2.0.0-rc.2"], &[], None, 1), "2.0.0!"),
        (case("main", &["1.9.0", "2.0.0-rc.2"], &[], Some(Minor), 9), "2.0.0!"),
        (case("main", &["1.9.0", "2.0.0-rc.2"], &[], Some(Major), 9), "2.0.0!"),
        (case("main", &["1.9.0", "1.9.1-rc.1"], &[], Some(Minor), 9), "1.10.0!"),
        // Other branches, and pull requests.
        (case("feature/x", &["1.3.2"], &[], Some(Minor), 1), "1.4.0-feature-x.1"),
        (case("feature/x", &["1.3.2", "1.4.0-rc.1"], &[], Some(Minor), 1), "1.4.1-feature-x.1"),
        (
            Case { pull_request: Some(12), ..case("main", &["1.3.2"], &[], Some(Minor), 7) },
            "1.4.0-pr.12.7",
        ),
        (
            Case {
                pull_request: Some(12),
                ..case("beta", &["1.3.2"], &["1.4.0-beta.1"], Some(Minor), 7)
            },
            "1.4.0-pr.12.7",
        ),
        (
            Case { pull_request: Some(12), ..case("1.3.x", &["1.3.2"], &[], Some(Minor), 7) },
            "1.4.0 is not in >=1.3.0 <1.4.0",
        ),
        // Maintenance: a ceiling and a floor.
        (case("1.3.x", &["1.3.2"], &["2.0.0"], Some(Patch), 1), "1.3.3!"),
        (case("1.3.x", &["1.3.2"], &[], Some(Minor), 1), "1.4.0 is not in >=1.3.0 <1.4.0"),
        (case("1.x", &["1.3.2"], &[], Some(Minor), 1), "1.4.0!"),
        (case("1.x", &["1.3.2"], &[], Some(Major), 1), "2.0.0 is not in >=1.0.0 <2.0.0"),
        (case("1.x", &["1.3.2"], &[], None, 3), "1.3.3-1.x.3"),
        (case("1.x", &["1.3.2", "2.0.0"], &[], Some(Patch), 1), "2.0.1 is not in >=1.0.0 <2.0.0"),
        (case("2.x", &["1.3.2"], &[], Some(Patch), 1), "1.3.3 is not in >=2.0.0 <3.0.0"),
        (case("1.x", &["1.3.2"], &["1.4.0"], Some(Minor), 1), "1.5.0!"),
        (case("1.3.x", &["1.3.2"], &["1.3.3", "1.3.4"], Some(Patch), 1), "1.3.5!"),
        // Channels count from the tags there are.
        (case("beta", &["1.3.2"], &[], Some(Minor), 1), "1.4.0-beta.1!"),
        (case("beta", &["1.3.2", "1.4.0-beta.1"], &[], Some(Patch), 1), "1.4.0-beta.2!"),
        (case("beta", &["1.3.2", "1.4.0-beta.9"], &[], Some(Minor), 1), "1.4.0-beta.10!"),
        (case("beta", &["1.3.2", "1.4.0-beta.2"], &[], Some(Major), 1), "2.0.0-beta.1!"),
        (case("beta", &["1.3.2"], &["1.4.0-beta.1"], Some(Minor), 1), "1.4.0-beta.2!"),
        (case("beta", &["1.3.2", "1.4.0-beta.1"], &[], None, 3), "1.4.0-beta.1.3"),
        (case("beta", &["1.3.2"], &[], None, 3), "1.3.3-beta.0.3"),
        (case("beta", &["1.3.2", "1.4.0-beta.1"], &["1.4.0"], Some(Patch), 1), "1.4.1-beta.1!"),
        (case("beta", &["1.3.2", "1.4.0-alpha.3"], &[], None, 1), "1.4.0-beta.1!"),
        (case("beta", &["1.3.2", "1.4.0-rc.1"], &[], Some(Patch), 1), "1.4.1-beta.1!"),
        (case("next", &[], &[], Some(Minor), 1), "0.1.0-next.1!"),
        // A tag of another history is passed over.
        (case("main", &["1.3.2"], &["1.4.0"], Some(Minor), 1), "1.5.0!"),
        (case("main", &["1.3.2"], &["1.4.0+build"], Some(Minor), 1), "1.5.0!"),
        (case("main", &["1.3.2"], &["3.0.0"], Some(Minor), 1), "1.4.0!"),
        (case("main", &[], &["0.1.0"], Some(Minor), 1), "0.2.0!"),
    ];
    for (case, expected) in cases {
        let Case { branch, here, elsewhere, bump, .. } = case;
        assert_eq!(decided(case, false), *expected, "{branch:?} {here:?} {elsewhere:?} {bump:?}");
    }
    assert_eq!(decided(&case("main", &["0.3.0"], &[], Some(Major), 1), true), "1.0.0!");
    assert_eq!(
        decided(&case("0.x", &["0.3.0"], &[], Some(Major), 1), true),
        "1.0.0 is not in >=0.0.0 <1.0.0"
    );
}

/// Exhaustive over lines, versions that are here and elsewhere, bumps and counts.
#[test]
fn versions_only_go_up() {
    let pool = [
        "0.1.0",
        "0.9.9",
        "1.0.0-alpha.1",
        "1.0.0-beta.2",
        "1.0.0-rc.9",
        "1.0.0-rc.10",
        "1.0.0",
        "1.3.2",
        "1.4.0-beta.1",
        "2.0.0",
    ];
    let branches =
        [None, Some("main"), Some("1.x"), Some("1.3.x"), Some("beta"), Some("next"), Some("topic")];
    let mut seen = 0;
    for subset in 0..1_u32 << pool.len() {
        // One of four in the highest bits stands elsewhere.
        let here: Vec<&str> =
            (0..pool.len()).filter(|at| subset >> at & 1 == 1).map(|at| pool[at]).collect();
        let elsewhere: Vec<&str> =
            (0..pool.len()).filter(|at| subset >> at & 1 == 0).map(|at| pool[at]).collect();
        for branch in branches {
            let mut last: Option<Version> = None;
            for bump in [None, Some(Bump::Patch), Some(Bump::Minor), Some(Bump::Major)] {
                let case = Case {
                    branch,
                    pull_request: None,
                    here: &here,
                    elsewhere: &elsewhere,
                    bump,
                    commits: 3,
                };
                let text = decided(&case, false);
                let Ok(found) = Version::parse(text.trim_end_matches('!')) else { continue };
                let released = text.ends_with('!');
                seen += 1;
                let known = || here.iter().chain(&elsewhere).map(|text| version(text));
                assert!(
                    here.iter().all(|text| found > version(text)),
                    "{branch:?} {here:?} {bump:?}: {text}"
                );
                assert!(
                    !released || known().all(|known| known != found),
                    "{here:?} {elsewhere:?}: {text}"
                );
                assert!(!released || branch != Some("topic"), "{text}");
                // A larger change never makes a smaller version, among releases as among
                // snapshots.
                if bump.is_some() {
                    assert!(
                        last.as_ref().is_none_or(|last| found >= *last),
                        "{branch:?} {here:?} {bump:?}: {text}"
                    );
                    last = Some(found.clone());
                }
                // A snapshot comes before the release that it leads to.
                if released && branch.is_some_and(|branch| branch.starts_with(['m', '1'])) {
                    let snapshot = bump::make_prerelease(&found, "main", 3);
                    assert!(snapshot < found, "{snapshot} {found}");
                }
            }
        }
    }
    assert!(seen > 10_000, "{seen}");
}
