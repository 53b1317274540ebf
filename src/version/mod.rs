//! The next semantic version of a service, from its git history.
//!
//! [`history`] reads git, [`commit`] reads messages, [`bump`] decides; nothing here writes.

mod bump;
mod commit;
mod history;

use std::path::PathBuf;

use serde::Serialize;

use crate::config::service;
use crate::error::{Error, Result};
use crate::git;
use bump::{Bump, Commit, Verdict, short};

/// What to find the version of.
#[derive(Clone, Debug)]
pub struct Request {
    /// The folder of service.yaml: `paths` are relative to it.
    pub folder: PathBuf,
    pub settings: service::Version,
    /// Number of the pull request this is a preview for.
    pub pull_request: Option<u64>,
    /// The branch, where the checkout itself cannot tell.
    pub branch: Option<String>,
}

/// A version, and everything that follows from it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Version {
    /// `1.4.0`, a snapshot `1.3.3-main.4`, or a preview `1.4.0-pr.12.7`.
    pub version: String,
    /// The version's git tag.
    pub tag: String,
    /// The version as a Docker tag.
    pub docker_tag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_tag: Option<String>,
    pub bump: Bump,
    /// Whether this commit is to be tagged and released.
    pub release: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deciding_commit: Option<Deciding>,
    /// How many commits were looked at.
    pub commits: u64,
    #[serde(skip)]
    lines: Vec<String>,
}

/// The commit that decided the bump: the oldest of those with the highest one.
#[derive(Clone, Debug, Serialize)]
pub struct Deciding {
    pub sha: String,
    pub subject: String,
}

impl Version {
    /// The version and why, in a line.
    pub fn in_words(&self) -> String {
        let since = match &self.previous_tag {
            Some(tag) => format!("{} commits since {tag}", self.commits),
            None => format!("{} commits, no version before", self.commits),
        };
        match &self.deciding_commit {
            Some(deciding) => {
                format!("{}: {since}, decided by {} {}", self.version, short(&deciding.sha), deciding.subject)
            }
            None => format!("{}: {since}, none of them releases", self.version),
        }
    }

    /// Whether this is no release but a snapshot or a preview.
    pub fn is_snapshot(&self) -> bool {
        semver::Version::parse(&self.version).is_ok_and(|version| !version.pre.is_empty())
    }

    /// Every commit with its verdict, newest first; the deciding one is marked.
    pub fn explain(&self) -> &[String] {
        &self.lines
    }
}

/// `version` as a Docker tag: `+` becomes `-`, at most 128 characters.
pub fn docker_tag(version: &str) -> String {
    version.replace('+', "-").chars().take(128).collect()
}

/// Finds the next version.
///
/// # Errors
/// Refused when too little of the history is here to know it; bad input when there is no commit.
pub fn next(repository: &gix::Repository, request: &Request) -> Result<Version> {
    let head = git::head(repository)?;
    let at = repository.head_id().map_err(|error| Error::unexpected("cannot read HEAD").why(error))?.detach();
    let settings = &request.settings;
    let paths = history::paths_from_root(&head.root, &request.folder, &settings.paths)?;
    let base = history::base(repository, at, &settings.prefix)?;
    let commits = history::since(repository, at, base.as_ref().map(|base| base.at), &paths)?;
    let verdicts = bump::judge(&commits, settings);
    let branch = request.branch.clone().or(head.branch);
    decide(request, base.map(|base| (base.tag, base.version)), branch.as_deref(), &commits, &verdicts)
}

/// Facts → version. Pure.
fn decide(
    request: &Request,
    base: Option<(String, semver::Version)>,
    branch: Option<&str>,
    commits: &[Commit],
    verdicts: &[Verdict],
) -> Result<Version> {
    let settings = &request.settings;
    let bump = verdicts.iter().map(|verdict| verdict.bump).max().unwrap_or(Bump::None);
    let deciding = verdicts.iter().rposition(|verdict| verdict.bump == bump && bump > Bump::None);
    let initial = semver::Version::parse(&settings.initial).map_err(|error| {
        Error::input(format!("version.initial `{}` is not a semantic version", settings.initial))
            .why(error)
            .fix("initial: 0.1.0")
    })?;
    let count = commits.len() as u64;
    // What the next release will be called, when there is anything to release.
    let upcoming = match &base {
        Some((_, version)) => bump::next(version, bump.max(Bump::Patch), settings.allow_1_0),
        None => initial,
    };
    let releases = branch.is_none_or(is_release_branch) && request.pull_request.is_none();
    let (version, release) = match (&base, request.pull_request) {
        (_, Some(number)) => (bump::prerelease(&upcoming, &format!("pr.{number}"), count), false),
        // HEAD is the version: there is nothing since.
        (Some((_, version)), None) if commits.is_empty() => (version.clone(), false),
        (_, None) if releases && bump > Bump::None => (upcoming, true),
        (_, None) => (bump::prerelease(&upcoming, branch.unwrap_or("snapshot"), count), false),
    };
    let version = version.to_string();
    let lines = commits.iter().zip(verdicts).enumerate().map(|(position, (commit, verdict))| {
        let mark = if Some(position) == deciding { "→" } else { " " };
        let bump = format!("{:?}", verdict.bump).to_lowercase();
        format!("{mark} {} {bump:5} {} ({})", short(&commit.id), commit.message.subject, verdict.why)
    });
    Ok(Version {
        tag: format!("{}{version}", settings.prefix),
        docker_tag: docker_tag(&version),
        version,
        previous_tag: base.map(|(tag, _)| tag),
        bump,
        release,
        deciding_commit: deciding.map(|position| Deciding {
            sha: commits[position].id.clone(),
            subject: commits[position].message.subject.clone(),
        }),
        commits: count,
        lines: lines.collect(),
    })
}

/// Branches that versions are released from: the default ones and maintenance branches like `1.x` and `1.4.x`.
fn is_release_branch(branch: &str) -> bool {
    let maintenance = branch.strip_suffix(".x").is_some_and(|numbers| {
        numbers.split('.').count() <= 2
            && numbers.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    });
    matches!(branch, "main" | "master") || maintenance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_become_versions() {
        // base, branch, pull request, messages (newest first) → version, release
        type Case<'a> = (Option<&'a str>, Option<&'a str>, Option<u64>, &'a [&'a str], &'a str, bool);
        let cases: &[Case<'_>] = &[
            (Some("1.3.2"), Some("main"), None, &["feat: a", "fix: b"], "1.4.0", true),
            (Some("1.3.2"), Some("main"), None, &["docs: a", "chore: b", "c", "ci: d"], "1.3.3-main.4", false),
            (Some("1.3.2"), Some("main"), Some(12), &["feat: a"; 7], "1.4.0-pr.12.7", false),
            (Some("1.3.2"), Some("main"), None, &[], "1.3.2", false),
            (Some("1.3.2"), Some("feature/x"), None, &["feat: a"], "1.4.0-feature-x.1", false),
            (Some("1.3.2"), Some("1.3.x"), None, &["fix: a"], "1.3.3", true),
            (Some("1.3.2"), None, None, &["fix: a"], "1.3.3", true),
            (Some("1.3.2"), None, None, &["docs: a"], "1.3.3-snapshot.1", false),
            (None, Some("main"), None, &["feat: a"], "0.1.0", true),
            (None, Some("main"), None, &["first"], "0.1.0-main.1", false),
            (Some("0.3.0"), Some("main"), None, &["feat!: a"], "0.4.0", true),
            (Some("2.0.0-rc.2"), Some("main"), None, &["fix: a"], "2.0.0", true),
        ];
        for (base, branch, pull_request, messages, version, release) in cases {
            let request = Request {
                folder: ".".into(),
                settings: service::Version::default(),
                pull_request: *pull_request,
                branch: None,
            };
            let commits: Vec<Commit> = messages
                .iter()
                .enumerate()
                .map(|(at, message)| Commit { id: format!("{at:040}"), message: commit::read(message) })
                .collect();
            let verdicts = bump::judge(&commits, &request.settings);
            let base = base.map(|base| (format!("v{base}"), semver::Version::parse(base).expect("a version")));
            let found = decide(&request, base, *branch, &commits, &verdicts).expect("a version");
            assert_eq!((found.version.as_str(), found.release), (*version, *release), "{branch:?} {messages:?}");
            assert_eq!(found.tag, format!("v{version}"));
        }
    }

    #[test]
    fn a_docker_tag_is_short_and_has_no_plus() {
        assert_eq!(docker_tag("1.0.0+build.1"), "1.0.0-build.1");
        assert_eq!(docker_tag(&"1".repeat(200)).len(), 128);
    }
}
