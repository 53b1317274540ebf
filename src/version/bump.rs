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
    /// Whether it touches the paths that are asked for. One that does not is known only as a part
    /// of the history.
    pub counts: bool,
    /// GitHub's own trial merge of a pull request, which is in nobody's history.
    pub trial: bool,
}

/// What a commit counts for, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub bump: Bump,
    pub why: String,
    /// Taken back within the range, or does nothing but take back commits within the range.
    pub taken_back: bool,
    /// What the commit adds to the next version's notes: its header, and those of the commits that
    /// a squash merge lists.
    pub headers: Vec<Header>,
    /// The pull request that the commit came with, also where only the merge above it says so.
    pub pull_request: Option<u64>,
}

/// The verdict on each commit, in the order given: newest first, and none before one that came
/// after it.
pub fn judge(commits: &[Commit], settings: &service::Version) -> Vec<Verdict> {
    let merges = Merges::of(commits);
    let standing = standing(commits, &merges);
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
                    positions.iter().map(|position| short(&commits[*position].id)).collect();
                names.join(", ")
            };
            match standing {
                Standing::RevertedBy(by) => {
                    nothing(format!("taken back by {}", short(&commits[by].id)), true)
                }
                Standing::Repeats(of) => {
                    nothing(format!("says what {} says", short(&commits[of].id)), false)
                }
                _ if message.release => nothing("a release's own commit".into(), false),
                Standing::Reverts(of) => {
                    let why = format!("takes back {}, not released yet", names(&of));
                    // What else it says counts: `revert!: …` breaks something, `fix: …` below which
                    // git quotes a revert fixes.
                    let said = message
                        .header
                        .iter()
                        .filter(|header| header.kind != "revert" || header.breaking);
                    let headers: Vec<Header> = said.cloned().collect();
                    let said = highest(&headers, settings);
                    Verdict {
                        why: said.as_ref().map_or(why, |(_, why)| why.clone()),
                        taken_back: headers.is_empty(),
                        bump: said.map_or(Bump::None, |(bump, _)| bump),
                        headers,
                        pull_request,
                    }
                }
                Standing::Counts => {
                    let mut headers: Vec<Header> = message.header.iter().cloned().collect();
                    // The commits that a real merge brings are in the history themselves.
                    if commit.parents.len() < 2 {
                        headers.extend(message.listed.iter().cloned());
                    }
                    let mut said = highest(&headers, settings);
                    if message.reverts.is_some() {
                        let released = (
                            bump_of("revert", settings),
                            "takes back what was released".to_string(),
                        );
                        said =
                            Some(said.filter(|(bump, _)| *bump > released.0).unwrap_or(released));
                    }
                    let (bump, why) =
                        said.unwrap_or((Bump::None, "not a conventional commit".into()));
                    Verdict { bump, why, taken_back: false, headers, pull_request }
                }
            }
        })
        .collect()
}

/// The highest bump of several headers, and why. The first of equals, so that a title speaks before
/// the list below it.
fn highest(headers: &[Header], settings: &service::Version) -> Option<(Bump, String)> {
    let one = |header: &Header| match header.breaking {
        true => (Bump::Major, "a breaking change".to_string()),
        false => (bump_of(&header.kind, settings), format!("type {}", header.kind)),
    };
    headers.iter().map(one).reduce(|best, next| if next.0 > best.0 { next } else { best })
}

/// Types mean the same in any case (item 15), also in service.yaml.
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

/// Which commits cancel each other. Newest first, so that a revert of a revert lets the first
/// commit stand again.
fn standing(commits: &[Commit], merges: &Merges) -> Vec<Standing> {
    let mut standing = vec![Standing::Counts; commits.len()];
    let mut by_title: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut by_pull_request: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut reverts: Vec<usize> = Vec::new();
    for (at, commit) in commits.iter().enumerate() {
        let title = commit.message.title.as_str();
        by_title.entry(title).or_default().push(at);
        if let Some(bare) = commit::without_number(title) {
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
        let same =
            by_title.get(commit::without_number(title).unwrap_or(title)).into_iter().flatten();
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

/// The next version after `base`. Below 1.0.0 a breaking change is a minor step, unless
/// `allow_1_0`; a prerelease goes to the version it was a prerelease of when that is far enough.
pub fn next(base: &Version, bump: Bump, allow_1_0: bool) -> Version {
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
            return stable;
        }
    }
    match bump {
        Bump::None => stable,
        Bump::Patch => Version::new(base.major, base.minor, base.patch + 1),
        Bump::Minor => Version::new(base.major, base.minor + 1, 0),
        Bump::Major => Version::new(base.major + 1, 0, 0),
    }
}

/// `version` as a prerelease: `1.3.3-main.4`. What a prerelease may not hold becomes `-`.
pub fn prerelease(version: &Version, label: &str, count: u64) -> Version {
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

/// Enough of a commit's id to know it by.
pub fn short(id: &str) -> &str {
    id.get(..7).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of commits, newest first.
    fn commits(messages: &[&str]) -> Vec<Commit> {
        let count = messages.len();
        let id = |at: usize| format!("{:040x}", 0xabc_0000_0000_u64 + (count - at) as u64);
        let commit = |(at, message): (usize, &&str)| Commit {
            id: id(at),
            parents: vec![id(at + 1)],
            message: commit::read(message),
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
            message: commit::read(message),
            counts: true,
            ..Commit::default()
        };
        history.iter().map(commit).collect()
    }

    fn bumps(commits: &[Commit]) -> Vec<Bump> {
        judge(commits, &service::Version::default()).iter().map(|verdict| verdict.bump).collect()
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
            commit::read(&format!("Revert \"feat: a\"\n\nThis reverts commit {}.", list[3].id));
        assert_eq!(bumps(&list), [Bump::None, Bump::Minor, Bump::Patch, Bump::None]);
        list[0].message = commit::read(&format!(
            "fix: undo\n\nThis reverts commit {}.\nThis reverts commit {}.",
            list[3].id, list[1].id
        ));
        assert_eq!(bumps(&list), [Bump::Patch, Bump::None, Bump::Patch, Bump::None]);
        let said = judge(&list, &service::Version::default());
        assert_eq!(
            said.iter().map(|verdict| verdict.taken_back).collect::<Vec<_>>(),
            [false, true, false, true],
            "a fix stays"
        );
        // Of two, one was released.
        list[0].message = commit::read(&format!("revert: two\n\nRefs: {}, 1234567", list[1].id));
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
        let list =
            graph(&[("a", "b c", &with("feat: a")), ("b", "d", "feat: a"), ("c", "d", "wip")]);
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
        let found = judge(&list, &service::Version::default());
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
        let pool =
            ["feat: a", "fix: b", "docs: c", "chore!: d", "words", "fix: a (#1)\n\n* feat: b"];
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
        let verdicts = judge(&commits(&["docs: a", "feat: b", "feat!: c"]), &settings);
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
            assert_eq!(next(&base, bump, allow).to_string(), expected, "{base} {bump:?}");
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
            let made = prerelease(&version, label, count);
            assert_eq!(made.to_string(), expected);
            assert!(made < version);
        }
        // Where a long name is cut, nothing is left that a version may not hold.
        for at in 60..=90 {
            let made = prerelease(&version, &format!("{}.00a-b", "x".repeat(at)), 1).to_string();
            assert!(made.starts_with("1.3.3-x") && made.ends_with(".1"), "{made}");
        }
        assert!(prerelease(&version, &"long/".repeat(100), 123_456).to_string().len() <= 128);
    }
}
