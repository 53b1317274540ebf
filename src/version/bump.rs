//! Commits since the last version → the next one. Pure.

use std::collections::HashMap;

use semver::{Prerelease, Version};
use serde::Serialize;

use super::commit::{self, Header, Message};
use crate::config::service::{self, BumpName};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bump {
    None,
    Patch,
    Minor,
    Major,
}

impl Bump {
    /// As service.yaml and the outputs write it.
    pub fn name(self) -> &'static str {
        match self {
            Bump::None => "none",
            Bump::Patch => "patch",
            Bump::Minor => "minor",
            Bump::Major => "major",
        }
    }
}

/// A commit since the last version.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// In full, hexadecimal.
    pub id: String,
    pub author: String,
    pub email: String,
    /// In full, the first one first.
    pub parents: Vec<String>,
    pub message: Message,
    /// Whether the commit touches `version.paths`; one that does not is only a part of the history.
    pub counts: bool,
    /// GitHub's own trial merge of a pull request, which is in nobody's history.
    pub trial: bool,
}

/// What a commit counts for, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub bump: Bump,
    pub why: String,
    /// A later commit of the range takes this one back, or this one does nothing but take back.
    pub taken_back: bool,
    /// What the commit adds to the next version's notes: its header, and those of the commits that
    /// a squash merge lists.
    pub headers: Vec<Header>,
    /// The pull request that the commit came with, also where only the merge above it says so.
    pub pull_request: Option<u64>,
}

/// Judges each commit, in the order given: the newest first, and none before one that came after it.
pub fn judge_commits(commits: &[Commit], settings: &service::Version) -> Vec<Verdict> {
    let merges = Merges::of(commits);
    let standing = settle_standings(commits, &merges);
    commits
        .iter()
        .zip(standing)
        .enumerate()
        .map(|(at, (commit, standing))| {
            let message = &commit.message;
            let pull_request = merges.pull_requests[at];
            let nothing = |why: String, taken_back| Verdict {
                bump: Bump::None,
                why,
                taken_back,
                headers: Vec::new(),
                pull_request,
            };
            let names = |positions: &[usize]| {
                let names: Vec<&str> =
                    positions.iter().map(|position| shorten_id(&commits[*position].id)).collect();
                names.join(", ")
            };
            match standing {
                Standing::RevertedBy(by) => {
                    nothing(format!("taken back by {}", shorten_id(&commits[by].id)), true)
                }
                Standing::Repeats(of) => {
                    nothing(format!("says what {} says", shorten_id(&commits[of].id)), false)
                }
                _ if message.release => nothing("a release's own commit".into(), false),
                Standing::Reverts(of) => {
                    let why = format!("takes back {}, not released yet", names(&of));
                    let headers: Vec<Header> = own_header(message).cloned().into_iter().collect();
                    let said = find_highest(&headers, settings);
                    Verdict {
                        why: said.as_ref().map_or(why, |(_, why)| why.clone()),
                        taken_back: headers.is_empty(),
                        bump: said.map_or(Bump::None, |(bump, _)| bump),
                        headers,
                        pull_request,
                    }
                }
                Standing::Counts => {
                    let mut headers: Vec<Header> =
                        own_header(message).cloned().into_iter().collect();
                    if let Some(reverts) = &message.reverts {
                        headers.extend(match headers.is_empty() {
                            true => Some(reverts.header(&message.title)),
                            false => reverts.reapplied(),
                        });
                    }
                    // The commits that a real merge brings are in the history themselves.
                    if commit.parents.len() < 2 {
                        headers.extend(message.listed.iter().cloned());
                    }
                    let mut said = find_highest(&headers, settings);
                    let reverts = message.reverts.as_ref();
                    if reverts.is_some_and(|reverts| reverts.reapplied().is_none()) {
                        let released = (
                            bump_of("revert", settings),
                            "takes back what was released".to_string(),
                        );
                        said =
                            Some(said.filter(|(bump, _)| *bump > released.0).unwrap_or(released));
                    }
                    let (bump, why) = said.unwrap_or_else(|| {
                        let why = match message.unheard {
                            true => "not a conventional commit, though it says that it breaks",
                            false => "not a conventional commit",
                        };
                        (Bump::None, why.into())
                    });
                    Verdict { bump, why, taken_back: false, headers, pull_request }
                }
            }
        })
        .collect()
}

/// What a commit says beside taking back another: `revert!: …` breaks something, and `fix: …` below
/// which git quotes a revert fixes.
fn own_header(message: &Message) -> Option<&Header> {
    let takes_back = |header: &Header| {
        message.reverts.is_some() && matches!(header.kind.as_str(), "revert" | "reapply")
    };
    message.header.as_ref().filter(|header| header.breaking || !takes_back(header))
}

/// Finds the highest bump of several headers, and why. The first of equals wins, so that a title
/// speaks before the list below it.
fn find_highest(headers: &[Header], settings: &service::Version) -> Option<(Bump, String)> {
    let one = |header: &Header| match header.breaking {
        true => (Bump::Major, "a breaking change".to_string()),
        false => (bump_of(&header.kind, settings), format!("type {}", header.kind)),
    };
    headers.iter().map(one).reduce(|best, next| if next.0 > best.0 { next } else { best })
}

/// Looks up what a type asks for. Types mean the same in any case (item 15), also in service.yaml.
fn bump_of(kind: &str, settings: &service::Version) -> Bump {
    let set = settings.bumps.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind));
    match (set.map(|(_, bump)| bump), kind) {
        (Some(BumpName::None), _) => Bump::None,
        (Some(BumpName::Patch), _) => Bump::Patch,
        (Some(BumpName::Minor), _) => Bump::Minor,
        (Some(BumpName::Major), _) => Bump::Major,
        (None, "feat") => Bump::Minor,
        (None, "fix" | "perf" | "revert") => Bump::Patch,
        (None, _) => Bump::None,
    }
}

/// Which commits came with which merge.
struct Merges {
    /// The pull request that a commit came with: its own, or that of the innermost merge around it
    /// that has one.
    pull_requests: Vec<Option<u64>>,
    /// Merges hold each other like brackets: where a commit's own opens, and how many open before
    /// it closes, itself included.
    opens: Vec<usize>,
    holds: Vec<usize>,
}

impl Merges {
    /// Walks each line of first parents from its oldest commit to its newest; what a merge on it
    /// brings, and none before it did, came with that merge. Every commit is visited once.
    fn of(commits: &[Commit]) -> Merges {
        let positions: HashMap<&str, usize> =
            commits.iter().enumerate().map(|(at, commit)| (commit.id.as_str(), at)).collect();
        let parent = |id: &String| positions.get(id.as_str()).copied();
        // Position of the innermost merge that brought a commit to where it is now; always one
        // before the commit's own.
        let mut by: Vec<Option<usize>> = vec![None; commits.len()];
        let mut seen = vec![false; commits.len()];
        let mut lines: Vec<(usize, Option<usize>)> =
            if commits.is_empty() { Vec::new() } else { vec![(0, None)] };
        while let Some((tip, merge)) = lines.pop() {
            let mut next = Some(tip);
            while let Some(at) = next.filter(|at| !seen[*at]) {
                seen[at] = true;
                by[at] = merge;
                // The last one in is the first one out: the oldest merge, and its first merged
                // parent.
                lines.extend(
                    commits[at]
                        .parents
                        .iter()
                        .skip(1)
                        .rev()
                        .filter_map(parent)
                        .map(|tip| (tip, Some(at))),
                );
                next = commits[at].parents.first().and_then(parent);
            }
        }
        let mut holds = vec![1; commits.len()];
        for at in (0..commits.len()).rev() {
            if let Some(merge) = by[at] {
                holds[merge] += holds[at];
            }
        }
        let mut pull_requests: Vec<Option<u64>> =
            commits.iter().map(|commit| commit.message.pull_request).collect();
        let mut opens = vec![0; commits.len()];
        // Where the next one opens: inside of each commit's own, and outside of all.
        let mut inside = vec![0; commits.len()];
        let mut outside = 0;
        for at in 0..commits.len() {
            let next = by[at].map_or(&mut outside, |merge| &mut inside[merge]);
            opens[at] = *next;
            *next += holds[at];
            inside[at] = opens[at] + 1;
            pull_requests[at] =
                pull_requests[at].or_else(|| by[at].and_then(|merge| pull_requests[merge]));
        }
        Merges { pull_requests, opens, holds }
    }

    /// Whether a commit came with a merge, or with one that did.
    fn brought(&self, at: usize, merge: usize) -> bool {
        (self.opens[merge] + 1..self.opens[merge] + self.holds[merge]).contains(&self.opens[at])
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Counts,
    /// Position of the commit that takes it back.
    RevertedBy(usize),
    /// Positions of the commits that it takes back: all that it names.
    Reverts(Vec<usize>),
    /// Position of the merged commit that says the same as this merge.
    Repeats(usize),
}

/// Settles which commits cancel each other. The newest goes first, so that a revert of a revert lets
/// the first commit stand again.
fn settle_standings(commits: &[Commit], merges: &Merges) -> Vec<Standing> {
    let mut standing = vec![Standing::Counts; commits.len()];
    let mut by_title: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut by_pull_request: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut reverts: Vec<usize> = Vec::new();
    for (at, commit) in commits.iter().enumerate() {
        let title = commit.message.title.as_str();
        by_title.entry(title).or_default().push(at);
        if let Some(bare) = commit::strip_number(title) {
            by_title.entry(bare).or_default().push(at);
        }
        if let Some(number) = commit.message.pull_request {
            by_pull_request.entry(number).or_default().push(at);
        }
        if commit.message.reverts.is_some() {
            reverts.push(at);
        }
    }
    // A merge of a pull request is told by its commits where these say the same, or where both take
    // something back.
    for (at, commit) in commits.iter().enumerate().filter(|(_, commit)| commit.parents.len() > 1) {
        let title = commit.message.title.as_str();
        let same = by_title.get(commit::strip_number(title).unwrap_or(title)).into_iter().flatten();
        let also = reverts.iter().filter(|_| commit.message.reverts.is_some());
        let inside = |other: &&usize| commits[**other].counts && merges.brought(**other, at);
        if let Some(inner) = same.chain(also).find(inside) {
            standing[at] = Standing::Repeats(*inner);
        }
    }
    for &at in &reverts {
        let (Standing::Counts, Some(reverted)) = (&standing[at], &commits[at].message.reverts)
        else {
            continue;
        };
        let open = |other: &usize| {
            *other != at && matches!(standing[*other], Standing::Counts | Standing::Repeats(_))
        };
        let named: Vec<Option<usize>> = if !reverted.commits.is_empty() {
            let find = |id: &String| {
                (0..commits.len())
                    .find(|other| open(other) && commits[*other].id.starts_with(id.as_str()))
            };
            reverted.commits.iter().map(find).collect()
        } else {
            let pull_request =
                reverted.pull_request.and_then(|number| by_pull_request.get(&number));
            let title = reverted.title.as_deref().and_then(|title| by_title.get(title));
            // An older namesake, the newest of them.
            let older = |positions: &Vec<usize>| {
                positions.iter().copied().filter(|other| *other > at).find(open)
            };
            vec![pull_request.and_then(older).or_else(|| title.and_then(older))]
        };
        let found: Vec<usize> = named.iter().flatten().copied().collect();
        for &target in &found {
            // A merge is taken back with all that it brought.
            let merged = commits[target].parents.len() > 1;
            let with = (0..commits.len()).filter(|other| merged && merges.brought(*other, target));
            for other in with.chain([target]).collect::<Vec<_>>() {
                if matches!(standing[other], Standing::Counts | Standing::Repeats(_)) {
                    standing[other] = Standing::RevertedBy(at);
                }
            }
        }
        if named.iter().all(Option::is_some) && !found.is_empty() {
            standing[at] = Standing::Reverts(found);
        }
    }
    standing
}

/// Computes the next version after `base`. Below 1.0.0 a breaking change is a minor step, unless
/// `allow_1_0`; a prerelease goes to the version it was a prerelease of when that is far enough.
/// `None` if the number after the base's cannot be written: semver's numbers have 64 bits here.
pub fn step_version(base: &Version, bump: Bump, allow_1_0: bool) -> Option<Version> {
    let bump =
        if base.major == 0 && bump == Bump::Major && !allow_1_0 { Bump::Minor } else { bump };
    let stable = Version::new(base.major, base.minor, base.patch);
    if !base.pre.is_empty() {
        let reaches = match bump {
            Bump::None | Bump::Patch => true,
            Bump::Minor => base.patch == 0,
            Bump::Major => base.patch == 0 && base.minor == 0,
        };
        if reaches {
            return Some(stable);
        }
    }
    Some(match bump {
        Bump::None => stable,
        Bump::Patch => Version::new(base.major, base.minor, base.patch.checked_add(1)?),
        Bump::Minor => Version::new(base.major, base.minor.checked_add(1)?, 0),
        Bump::Major => Version::new(base.major.checked_add(1)?, 0, 0),
    })
}

/// Makes a prerelease of a version: `1.3.3-main.4`. What a prerelease may not hold becomes `-`.
pub fn make_prerelease(version: &Version, label: &str, count: u64) -> Version {
    // A Docker tag has 128 characters; what is cut is the branch's name, never the count.
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let label: String = label.chars().map(allowed).take(80).collect();
    let parts: Vec<&str> = label
        .split('.')
        .map(|part| part.trim_matches('-'))
        .filter(|part| !part.is_empty())
        .collect();
    // A number with leading zeros is no valid identifier; a letter in front makes it one.
    let parts: Vec<String> = parts
        .iter()
        .map(|part| {
            let number = part.bytes().all(|b| b.is_ascii_digit());
            if number && part.len() > 1 && part.starts_with('0') {
                format!("n{part}")
            } else {
                part.to_string()
            }
        })
        .collect();
    let label = parts.join(".");
    let text =
        if label.is_empty() { format!("snapshot.{count}") } else { format!("{label}.{count}") };
    let mut version = version.clone();
    version.pre = Prerelease::new(&text).unwrap_or(Prerelease::EMPTY);
    version
}

/// Shortens a commit's id to what people know it by.
pub fn shorten_id(id: &str) -> &str {
    id.get(..7).unwrap_or(id)
}

#[cfg(test)]
mod tests;
