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
    /// Finds the line of a branch. Where no branch is known (a detached HEAD), what is checked out
    /// is taken for the main line.
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

    /// Whether a version is one of this line, so that its tag stands for what the line makes.
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

/// Whether a version is one that this project's releases lead to: a stable one, or a prerelease of
/// a channel. A nightly build's `1.5.0-nightly.20260102` says nothing of what comes next, unless
/// `nightly` is a channel; `rc1` is of the channel `rc`.
pub fn is_ours(version: &Version, settings: &service::Version) -> bool {
    let identifier = version.pre.split('.').next().unwrap_or_default();
    let name = identifier.trim_end_matches(|c: char| c.is_ascii_digit());
    let of_channel = |channel: &str| channel == identifier || channel == name;
    version.pre.is_empty() || settings.channels.values().any(|channel| of_channel(channel.as_str()))
}

/// What the history says of the version that is to be found.
#[derive(Clone, Debug)]
pub struct VersionFacts<'a> {
    pub line: Line,
    pub branch: Option<&'a str>,
    pub pull_request: Option<u64>,
    /// The version that stands at HEAD itself.
    pub at_head: Option<&'a Version>,
    /// The highest version that HEAD contains, stable or of a channel.
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

/// The version that the facts make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub version: Version,
    pub release: bool,
    /// Versions that would have come first, but have a tag elsewhere.
    pub skipped: Vec<Version>,
}

/// Why there is no next version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoVersion {
    /// The line may not have it; `range` is `>=1.0.0 <2.0.0`.
    OutOfLine { branch: String, range: String, version: Version },
    /// A number of it would not fit into 64 bits.
    Overflow { after: Version },
}

/// Decides which version the facts make.
///
/// # Errors
/// When the line may not have the version that the commits ask for, or nobody can write it.
pub fn decide_version(
    facts: &VersionFacts<'_>,
    initial: &Version,
    allow_1_0: bool,
) -> Result<Decision, NoVersion> {
    if let (Some(version), None) = (facts.at_head, facts.pull_request) {
        return Ok(Decision { version: version.clone(), release: false, skipped: Vec::new() });
    }
    let step = |version: &Version, bump: Bump| {
        let overflow = || NoVersion::Overflow { after: version.clone() };
        bump::step_version(version, bump, allow_1_0).ok_or_else(overflow)
    };
    let after = |version: &Version| step(version, facts.bump.max(Bump::Patch));
    // The stable version that comes next: behind the base, and not behind a prerelease that leads
    // to it.
    let mut target = facts.base.map_or_else(|| Ok(initial.clone()), after)?;
    if let Some(highest) = facts.highest.filter(|highest| !highest.pre.is_empty()) {
        target = target.max(Version::new(highest.major, highest.minor, highest.patch));
    }
    let mut skipped = Vec::new();
    while !facts.overtaken && is_known(facts.known, &target) {
        skipped.push(target.clone());
        target = after(&target)?;
    }
    let label = facts.branch.unwrap_or("snapshot");
    let (upcoming, due) = match &facts.line {
        Line::Channel(identifier) => {
            let of_this = |version: &&Version| version.pre.split('.').next() == Some(identifier);
            // A prerelease of another channel has not been one of this.
            let new_here = facts.base.is_some_and(|base| !base.pre.is_empty() && !of_this(&base));
            let mut upcoming = number_prerelease(&target, identifier, facts.known)?;
            while facts.highest.is_some_and(|highest| upcoming <= *highest) {
                target = after(&target)?;
                upcoming = number_prerelease(&target, identifier, facts.known)?;
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
            Some(minor) => format!(">={major}.{minor}.0 <{major}.{}.0", minor.saturating_add(1)),
            None => format!(">={major}.0.0 <{}.0.0", major.saturating_add(1)),
        };
        return Err(NoVersion::OutOfLine { branch: branch.clone(), range, version: upcoming });
    }
    let version = match (&facts.line, facts.pull_request) {
        (_, Some(number)) => bump::make_prerelease(&target, &format!("pr.{number}"), facts.commits),
        _ if due => upcoming,
        (Line::Channel(identifier), None) => match facts.base.filter(|base| !base.pre.is_empty()) {
            // Between the prerelease that was and the one that comes.
            Some(base) => bump::make_prerelease(base, base.pre.as_str(), facts.commits),
            None => bump::make_prerelease(&target, &format!("{identifier}.0"), facts.commits),
        },
        _ => {
            let snapshot = bump::make_prerelease(&target, label, facts.commits);
            match facts.highest.filter(|highest| snapshot <= **highest) {
                Some(_) => {
                    bump::make_prerelease(&step(&target, Bump::Patch)?, label, facts.commits)
                }
                None => snapshot,
            }
        }
    };
    Ok(Decision { version, release: due && facts.pull_request.is_none(), skipped })
}

fn is_known(known: &[Version], version: &Version) -> bool {
    known.iter().any(|other| other.cmp_precedence(version).is_eq())
}

/// Numbers the next prerelease of `target` in a channel: one more than the highest that has a tag.
fn number_prerelease(
    target: &Version,
    identifier: &str,
    known: &[Version],
) -> Result<Version, NoVersion> {
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
    let overflow = || NoVersion::Overflow { after: version.clone() };
    let next = last.checked_add(1).ok_or_else(overflow)?;
    version.pre = Prerelease::new(&format!("{identifier}.{next}")).unwrap_or(Prerelease::EMPTY);
    Ok(version)
}

#[cfg(test)]
mod tests;
