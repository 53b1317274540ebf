//! Which line of versions a branch makes, and what the next version on it is called. Pure.

use semver::{Prerelease, Version};

use super::bump::{self, Bump};
use crate::config::service;

/// What a branch releases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Stable versions, and whatever comes next.
    Main,
    /// `1.x` or `1.4.x`: stable versions below a ceiling.
    Maintenance { branch: String, major: u64, minor: Option<u64> },
    /// Prereleases under this identifier: `2.0.0-beta.1`.
    Channel(String),
    /// Nothing: a topic branch has snapshots only.
    Topic,
}

impl Line {
    /// The line of a branch. Where no branch is known (a detached HEAD), what is checked out is
    /// taken for the main line.
    pub fn of(branch: Option<&str>, default: Option<&str>, settings: &service::Version) -> Line {
        let Some(branch) = branch else { return Line::Main };
        if let Some(identifier) = settings.channels.get(branch) {
            return Line::Channel(identifier.to_string());
        }
        if matches!(branch, "main" | "master") || default == Some(branch) {
            return Line::Main;
        }
        let number = |text: &str| {
            text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
        };
        let numbers: Option<Vec<u64>> =
            branch.strip_suffix(".x").and_then(|numbers| numbers.split('.').map(number).collect());
        match numbers.as_deref() {
            Some([major]) => {
                Line::Maintenance { branch: branch.into(), major: *major, minor: None }
            }
            Some([major, minor]) => {
                Line::Maintenance { branch: branch.into(), major: *major, minor: Some(*minor) }
            }
            _ => Line::Topic,
        }
    }

    /// Whether what this line makes goes into a version, so that its tag stands for it.
    pub fn has(&self, version: &Version) -> bool {
        match self {
            Line::Main => version.pre.is_empty(),
            Line::Maintenance { major, minor, .. } => {
                version.pre.is_empty()
                    && version.major == *major
                    && minor.is_none_or(|minor| version.minor == minor)
            }
            Line::Channel(identifier) => {
                version.pre.is_empty() || version.pre.split('.').next() == Some(identifier)
            }
            Line::Topic => false,
        }
    }
}

/// What is known when a version is to be found.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    pub line: Line,
    pub branch: Option<&'a str>,
    pub pull_request: Option<u64>,
    /// The version that stands at HEAD itself.
    pub at_head: Option<&'a Version>,
    /// The highest version of any kind that HEAD contains.
    pub highest: Option<&'a Version>,
    /// The version that the commits are counted from.
    pub base: Option<&'a Version>,
    /// Every version that has a tag, on whatever branch.
    pub known: &'a [Version],
    /// What the commits since the base ask for.
    pub bump: Bump,
    /// How many commits HEAD has since the base, whether they count or not.
    pub commits: u64,
    /// HEAD is part of a version that was released from a later commit.
    pub overtaken: bool,
}

/// What the facts come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub version: Version,
    pub release: bool,
    /// Versions that would have come first, but have a tag elsewhere.
    pub skipped: Vec<Version>,
}

/// A version that its line may not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    pub branch: String,
    /// `>=1.0.0 <2.0.0`
    pub range: String,
    pub version: Version,
}

/// Facts → version.
///
/// # Errors
/// When the line may not have the version that the commits ask for.
pub fn decide(facts: &Facts<'_>, initial: &Version, allow_1_0: bool) -> Result<Decision, Outside> {
    if let (Some(version), None) = (facts.at_head, facts.pull_request) {
        return Ok(Decision { version: version.clone(), release: false, skipped: Vec::new() });
    }
    let after = |version: &Version| bump::next(version, facts.bump.max(Bump::Patch), allow_1_0);
    // The stable version that comes next: behind the base, and not behind a prerelease that leads
    // to it.
    let mut target = facts.base.map_or_else(|| initial.clone(), after);
    if let Some(highest) = facts.highest.filter(|highest| !highest.pre.is_empty()) {
        target = target.max(Version::new(highest.major, highest.minor, highest.patch));
    }
    let mut skipped = Vec::new();
    while !facts.overtaken && has(facts.known, &target) {
        skipped.push(target.clone());
        target = after(&target);
    }
    let label = facts.branch.unwrap_or("snapshot");
    let (upcoming, due) = match &facts.line {
        Line::Channel(identifier) => {
            let of_this = |version: &&Version| version.pre.split('.').next() == Some(identifier);
            // A prerelease of another channel has not been one of this.
            let new_here = facts.base.is_some_and(|base| !base.pre.is_empty() && !of_this(&base));
            let mut upcoming = numbered(&target, identifier, facts.known);
            while facts.highest.is_some_and(|highest| upcoming <= *highest) {
                target = after(&target);
                upcoming = numbered(&target, identifier, facts.known);
            }
            let before =
                facts.known.iter().filter(|version| **version < upcoming && of_this(version)).max();
            skipped.extend(
                before
                    .filter(|before| facts.highest.is_none_or(|highest| *before > highest))
                    .cloned(),
            );
            (upcoming, facts.bump > Bump::None || new_here)
        }
        // A prerelease that came here waits to become stable.
        _ => (
            target.clone(),
            facts.bump > Bump::None || facts.highest.is_some_and(|highest| !highest.pre.is_empty()),
        ),
    };
    let due = due && facts.line != Line::Topic && !facts.overtaken;
    if due
        && let Line::Maintenance { branch, major, minor } = &facts.line
        && !facts.line.has(&upcoming)
    {
        let range = match minor {
            Some(minor) => format!(">={major}.{minor}.0 <{major}.{}.0", minor + 1),
            None => format!(">={major}.0.0 <{}.0.0", major + 1),
        };
        return Err(Outside { branch: branch.clone(), range, version: upcoming });
    }
    let version = match (&facts.line, facts.pull_request) {
        (_, Some(number)) => bump::prerelease(&target, &format!("pr.{number}"), facts.commits),
        _ if due => upcoming,
        (Line::Channel(identifier), None) => match facts.base.filter(|base| !base.pre.is_empty()) {
            // Between the prerelease that was and the one that comes.
            Some(base) => bump::prerelease(base, base.pre.as_str(), facts.commits),
            None => bump::prerelease(&target, &format!("{identifier}.0"), facts.commits),
        },
        _ => {
            let snapshot = bump::prerelease(&target, label, facts.commits);
            match facts.highest.filter(|highest| snapshot <= **highest) {
                Some(_) => bump::prerelease(
                    &bump::next(&target, Bump::Patch, allow_1_0),
                    label,
                    facts.commits,
                ),
                None => snapshot,
            }
        }
    };
    Ok(Decision { version, release: due && facts.pull_request.is_none(), skipped })
}

fn has(known: &[Version], version: &Version) -> bool {
    known.iter().any(|other| other.cmp_precedence(version).is_eq())
}

/// The next prerelease of `target` in a channel: one more than the highest that has a tag.
fn numbered(target: &Version, identifier: &str, known: &[Version]) -> Version {
    let number = |version: &Version| {
        let same = (version.major, version.minor, version.patch)
            == (target.major, target.minor, target.patch);
        version
            .pre
            .as_str()
            .strip_prefix(identifier)?
            .strip_prefix('.')?
            .parse::<u64>()
            .ok()
            .filter(|_| same)
    };
    let last = known.iter().filter_map(number).max().unwrap_or(0);
    let mut version = Version::new(target.major, target.minor, target.patch);
    version.pre =
        Prerelease::new(&format!("{identifier}.{}", last + 1)).unwrap_or(Prerelease::EMPTY);
    version
}

#[cfg(test)]
mod tests {
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
        let facts = Facts {
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
        match decide(&facts, &version("0.1.0"), allow_1_0) {
            Ok(decision) => {
                format!("{}{}", decision.version, if decision.release { "!" } else { "" })
            }
            Err(outside) => format!("{} is not in {}", outside.version, outside.range),
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
            (
                case("1.x", &["1.3.2", "2.0.0"], &[], Some(Patch), 1),
                "2.0.1 is not in >=1.0.0 <2.0.0",
            ),
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
            assert_eq!(
                decided(case, false),
                *expected,
                "{branch:?} {here:?} {elsewhere:?} {bump:?}"
            );
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
        let branches = [
            None,
            Some("main"),
            Some("1.x"),
            Some("1.3.x"),
            Some("beta"),
            Some("next"),
            Some("topic"),
        ];
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
                        let snapshot = bump::prerelease(&found, "main", 3);
                        assert!(snapshot < found, "{snapshot} {found}");
                    }
                }
            }
        }
        assert!(seen > 10_000, "{seen}");
    }
}
