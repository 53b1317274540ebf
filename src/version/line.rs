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
    /// The line of a branch. Where no branch is known (a detached HEAD), what is checked out is taken for the main line.
    pub fn of(branch: Option<&str>, settings: &service::Version) -> Line {
        let Some(branch) = branch else { return Line::Main };
        if let Some(identifier) = settings.channels.get(branch) {
            return Line::Channel(identifier.clone());
        }
        if matches!(branch, "main" | "master") {
            return Line::Main;
        }
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let numbers: Option<Vec<u64>> =
            branch.strip_suffix(".x").and_then(|numbers| numbers.split('.').map(number).collect());
        match numbers.as_deref() {
            Some([major]) => Line::Maintenance { branch: branch.into(), major: *major, minor: None },
            Some([major, minor]) => Line::Maintenance { branch: branch.into(), major: *major, minor: Some(*minor) },
            _ => Line::Topic,
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
    // The stable version that comes next: behind the base, and not behind a prerelease that leads to it.
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
            let before = facts.known.iter().filter(|version| **version < upcoming && of_this(version)).max();
            skipped.extend(before.filter(|before| facts.highest.is_none_or(|highest| *before > highest)).cloned());
            (upcoming, facts.bump > Bump::None || new_here)
        }
        // A prerelease that came here waits to become stable.
        _ => (target.clone(), facts.bump > Bump::None || facts.highest.is_some_and(|highest| !highest.pre.is_empty())),
    };
    let due = due && facts.line != Line::Topic && !facts.overtaken;
    if due
        && let Line::Maintenance { branch, major, minor } = &facts.line
        && !(upcoming.major == *major && minor.is_none_or(|minor| upcoming.minor == minor))
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
                Some(_) => bump::prerelease(&bump::next(&target, Bump::Patch, allow_1_0), label, facts.commits),
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
        let same = (version.major, version.minor, version.patch) == (target.major, target.minor, target.patch);
        version.pre.as_str().strip_prefix(identifier)?.strip_prefix('.')?.parse::<u64>().ok().filter(|_| same)
    };
    let last = known.iter().filter_map(number).max().unwrap_or(0);
    let mut version = Version::new(target.major, target.minor, target.patch);
    version.pre = Prerelease::new(&format!("{identifier}.{}", last + 1)).unwrap_or(Prerelease::EMPTY);
    version
}
