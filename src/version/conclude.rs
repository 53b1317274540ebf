//! What git knows → the version, and what a person should know of it.

use super::bump::{self, Bump, Commit, Verdict, shorten_id};
use super::history::{self, VersionTag};
use super::line::{self, Decision, Line, NoVersion, VersionFacts};
use super::names::{self, Habit, OddTag};
use super::observe::Observed;
use super::paths::Misnamed;
use super::{Change, Deciding, Supplied, Version, VersionRequest, docker_tag};
use crate::error::{Error, Result};
use crate::git;

/// How many names a sentence lists.
const NAMES: usize = 3;

/// Puts together what git knows.
///
/// # Errors
/// Refused, when the branch may not have the version, when it would be lower than what the tags of
/// this repository say was published, or when nobody can write it.
pub fn conclude_version(
    repository: &gix::Repository,
    head: &git::Head,
    request: &VersionRequest,
    seen: &Observed,
    supplied: Supplied,
) -> Result<Version> {
    let settings = &request.settings;
    let verdicts = bump::judge_commits(&seen.commits, settings);
    let initial = semver::Version::parse(&settings.initial).map_err(|error| {
        Error::input(format!("cannot take version.initial `{}`", settings.initial))
            .why(error)
            .fix("write a semantic version: initial: 0.1.0")
    })?;
    let known: Vec<semver::Version> =
        seen.tags.versions.iter().map(|tag| tag.version.clone()).collect();
    let counted = || seen.commits.iter().zip(&verdicts).filter(|(commit, _)| commit.counts);
    let bump = counted().map(|(_, verdict)| verdict.bump).max().unwrap_or(Bump::None);
    let deciding = counted().rfind(|(_, verdict)| verdict.bump == bump && bump > Bump::None);
    let deciding = deciding.map(|(commit, _)| Deciding {
        sha: commit.id.clone(),
        subject: commit.message.title.clone(),
    });
    let mut facts = VersionFacts {
        line: seen.line.clone(),
        branch: seen.branch.as_deref(),
        pull_request: request.pull_request,
        at_head: seen.at_head.as_ref(),
        highest: seen.highest.as_ref(),
        base: seen.base.as_ref().map(|(_, version)| version),
        known: &known,
        bump,
        commits: seen.commits.iter().filter(|commit| !commit.trial).count() as u64,
        overtaken: false,
    };
    let decide = |facts: &VersionFacts<'_>| {
        line::decide_version(facts, &initial, settings.allow_1_0)
            .map_err(|reason| refuse_version(reason, deciding.as_ref()))
    };
    let mut decision = decide(&facts)?;
    let skipped = std::mem::take(&mut decision.skipped);
    let later = find_later_version(repository, head, seen, &decision, &skipped)?;
    // What releases nothing cannot come too late.
    let overtaken_by = later.clone().filter(|_| decision.release);
    if overtaken_by.is_some() {
        facts.overtaken = true;
        decision = decide(&facts)?;
    }
    let mut notices = supplied.notices;
    let known = Known { request, seen, remote: &supplied.names, version: &decision.version };
    if later.is_none() && facts.at_head.is_none() {
        known.refuse_restart()?;
        notices.extend(known.describe_tags(&skipped));
    }
    notices.extend(describe_paths(&seen.misnamed));
    notices.extend(describe_unheard(counted().map(|(commit, _)| commit)));
    let Decision { version, release, .. } = decision;
    let version = version.to_string();
    Ok(Version {
        tag: format!("{}{version}", settings.prefix),
        docker_tag: docker_tag(&version),
        version,
        previous_tag: seen.base.as_ref().map(|(tag, _)| tag.clone()),
        bump,
        release,
        deciding_commit: deciding,
        commits: counted().count() as u64,
        changes: counted().map(|(commit, verdict)| make_change(commit, verdict)).collect(),
        notices,
        overtaken_by,
        preview: request.pull_request.is_some(),
    })
}

fn make_change(commit: &Commit, verdict: &Verdict) -> Change {
    Change {
        sha: commit.id.clone(),
        author: commit.author.clone(),
        email: commit.email.clone(),
        title: commit.message.title.clone(),
        pull_request: verdict.pull_request,
        headers: verdict.headers.clone(),
        bump: verdict.bump,
        why: verdict.why.clone(),
        taken_back: verdict.taken_back,
    }
}

/// Finds the tag of a version that was released from a later commit and holds this one: a later run
/// was faster, or an older commit is checked out.
fn find_later_version(
    repository: &gix::Repository,
    head: &git::Head,
    seen: &Observed,
    decision: &Decision,
    skipped: &[semver::Version],
) -> Result<Option<String>> {
    let tags = &seen.tags.versions;
    let ahead = |version: &semver::Version| *version > decision.version && seen.line.has(version);
    // The lowest first: the one that was made next.
    let ahead = tags.iter().rev().filter(|tag| ahead(&tag.version));
    let ahead: Vec<&VersionTag> =
        skipped.iter().filter_map(|version| find_tag(tags, version)).chain(ahead).collect();
    let later = history::find_later(repository, &ahead, &head.revision)?;
    Ok(later.map(|tag| tag.name.clone()))
}

fn find_tag<'t>(tags: &'t [VersionTag], version: &semver::Version) -> Option<&'t VersionTag> {
    tags.iter().find(|tag| tag.version.cmp_precedence(version).is_eq())
}

/// What there is to say about the tags beside the version that was decided.
struct Known<'k> {
    request: &'k VersionRequest,
    seen: &'k Observed,
    /// The names of tags that stayed at the remote.
    remote: &'k [String],
    version: &'k semver::Version,
}

impl Known<'_> {
    fn prefix(&self) -> &str {
        &self.request.settings.prefix
    }

    /// The versions that releases lead to, wherever their tags stand.
    fn ours(&self) -> Vec<&semver::Version> {
        let ours =
            |tag: &&VersionTag| tag.stands() && line::is_ours(&tag.version, &self.request.settings);
        self.seen.tags.versions.iter().filter(ours).map(|tag| &tag.version).collect()
    }

    fn odd(&self) -> Vec<OddTag> {
        let names = self.seen.tags.names.iter().chain(self.remote).map(String::as_str);
        let mut odd = names::find_odd_tags(names, self.prefix());
        odd.dedup();
        odd
    }

    /// The highest tag of a version of this line that HEAD does not contain and that is higher than
    /// what was decided.
    fn find_published(&self) -> Option<&VersionTag> {
        // A topic branch has no versions of its own; it may lack all that there are.
        let any = self.seen.line == Line::Topic && self.seen.base.is_none();
        let higher = |tag: &&VersionTag| {
            tag.stands()
                && tag.version.pre.is_empty()
                && (any || self.seen.line.has(&tag.version))
                && tag.version > *self.version
        };
        self.seen.tags.versions.iter().find(higher)
    }

    /// Refuses to begin at the first version again where tags say that there were others.
    fn refuse_restart(&self) -> Result<()> {
        if self.seen.base.is_some() || self.seen.line == Line::Topic {
            return Ok(());
        }
        if let Some(published) = self.find_published() {
            let name = &published.name;
            return Err(Error::refused("cannot find the last version in this history")
                .why(format!(
                    "{name} and every other version stand at commits that are no part of it, and \
                     {} would be lower",
                    self.version
                ))
                .fix(format!(
                    "move the tag to the commit that {name} was made of, if the history was \
                     rewritten: git tag --force {name} COMMIT && git push --force origin {name}"
                ))
                .fix(format!(
                    "or begin above it, in service.yaml: version: {{initial: {}.0.0}}",
                    published.version.major.saturating_add(1)
                )));
        }
        if !self.ours().is_empty() {
            return Ok(());
        }
        let odd = self.odd();
        let higher = names::find_higher(&odd, self.prefix(), &[]);
        match higher.first().filter(|odd| odd.meant >= *self.version) {
            Some(odd) => Err(self.refuse_odd(odd)),
            None => Ok(()),
        }
    }

    fn refuse_odd(&self, odd: &OddTag) -> Error {
        let OddTag { name, habit, meant } = odd;
        let prefix = self.prefix();
        let retag =
            format!("git tag {prefix}{meant} '{name}^{{}}' && git push origin {prefix}{meant}");
        let error = Error::refused(format!("cannot take the tag {name} for the last version"));
        match habit {
            Habit::OtherPrefix(other) => error
                .why(format!("version.prefix is `{prefix}`, and no tag begins with that"))
                .fix(format!(
                    "give the prefix of the tags that are there, in service.yaml: \
                     version: {{prefix: \"{other}\"}}"
                ))
                .fix(format!("or give the last version a tag of the prefix: {retag}")),
            Habit::NoVersion(why) => {
                error.why(format!("{why}; a version is written as {prefix}1.2.3")).fix(match *why {
                    names::TOO_HIGH => {
                        format!("delete it, if nobody meant it: git push --delete origin {name}")
                    }
                    _ => format!("give its commit a tag that is one: {retag}"),
                })
            }
            Habit::OtherName => error.fix(format!("give the last version a tag: {retag}")),
        }
    }

    /// Describes the tags that a person would take for the last version, and that are not.
    fn describe_tags(&self, skipped: &[semver::Version]) -> Vec<String> {
        let tags = &self.seen.tags.versions;
        // Of a name that stands nowhere, whoever gave it says why.
        let skipped = skipped.iter().filter_map(|version| find_tag(tags, version));
        let mut notices: Vec<String> = skipped
            .filter(|tag| tag.stands())
            .map(|tag| {
                format!(
                    "{} stands at a commit that is not part of this history, so the version after \
                     it is taken",
                    tag.name
                )
            })
            .collect();
        if let Some(published) = self.find_published() {
            notices.push(format!(
                "{} is higher than {}, and its commit is not part of this history: was it dropped, \
                 or is this a branch of older versions, such as 1.x?",
                published.name, self.version
            ));
        }
        let ours = self.ours();
        if let Some((date, number)) = names::find_two_schemes(&ours) {
            notices.push(format!(
                "the tags count in two ways, by dates as {date} and by numbers as {number}: the \
                 highest is the last version"
            ));
        }
        let odd = self.odd();
        let higher = names::find_higher(&odd, self.prefix(), &ours);
        notices.extend(describe_odd(&higher, self.prefix()));
        let others: Vec<&OddTag> = odd.iter().filter(|odd| odd.habit == Habit::OtherName).collect();
        let alone = self.seen.base.is_none() && ours.is_empty();
        if alone && names::is_bare_prefix(self.prefix()) {
            notices.extend(describe_odd(&others, self.prefix()));
        }
        notices
    }
}

fn describe_odd(odd: &[&OddTag], prefix: &str) -> Option<String> {
    let names: Vec<&str> = odd.iter().take(NAMES).map(|odd| odd.name.as_str()).collect();
    let more = if odd.len() > NAMES { " and others" } else { "" };
    (!names.is_empty()).then(|| {
        format!(
            "the tags {}{more} do not count: version.prefix is `{prefix}`, and a version is written \
             as {prefix}1.2.3",
            names.join(", ")
        )
    })
}

fn describe_paths(misnamed: &[Misnamed]) -> Vec<String> {
    let names = |wanted: fn(&Misnamed) -> Option<&String>| {
        let names: Vec<&str> = misnamed.iter().filter_map(wanted).map(String::as_str).collect();
        Some(names.join(", ")).filter(|names| !names.is_empty())
    };
    let nothing = names(|one| match one {
        Misnamed::Nothing(name) if !name.starts_with('!') => Some(name),
        _ => None,
    });
    let excluded = names(|one| match one {
        Misnamed::Nothing(name) if name.starts_with('!') => Some(name),
        _ => None,
    });
    let links = names(|one| match one {
        Misnamed::Link(name) => Some(name),
        Misnamed::Nothing(_) => None,
    });
    let nothing = nothing.map(|names| {
        format!("version.paths: nothing here is named {names}, so that no commit counts by it")
    });
    let excluded = excluded.map(|names| {
        format!("version.paths: nothing here is named {names}, so that it leaves nothing out")
    });
    let links = links.map(|names| {
        format!(
            "version.paths: {names} is a link, so that only commits count which change where it \
             leads: name what is behind it"
        )
    });
    nothing.into_iter().chain(excluded).chain(links).collect()
}

/// Describes the commits that mark something as breaking and are no conventional ones.
fn describe_unheard<'c>(commits: impl Iterator<Item = &'c Commit>) -> Vec<String> {
    let unheard = commits.filter(|commit| commit.message.unheard).take(NAMES);
    unheard
        .map(|commit| {
            format!(
                "{} says that it breaks something and counts for nothing, as its title is none of \
                 a conventional commit: {}",
                shorten_id(&commit.id),
                commit.message.title
            )
        })
        .collect()
}

fn refuse_version(reason: NoVersion, deciding: Option<&Deciding>) -> Error {
    match reason {
        NoVersion::OutOfLine { branch, range, version } => {
            let error = Error::refused(format!(
                "cannot make {version} on branch {branch}, which has versions {range} only"
            ));
            match deciding {
                Some(deciding) => {
                    error.why(format!("{} {}", shorten_id(&deciding.sha), deciding.subject)).fix(
                        "release that commit from the main branch and revert it here; or, if it \
                         changes less than its title says, say so in a revert and a new commit",
                    )
                }
                None => error.fix(format!("tag the version that {branch} goes on from")),
            }
        }
        NoVersion::Overflow { after } => {
            Error::refused(format!("cannot make a version after {after}"))
                .why("a number of it would have more than 64 bits")
                .fix("delete that tag, if nobody meant it: git push --delete origin TAG")
        }
    }
}
