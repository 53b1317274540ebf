//! Commits since the last version → the next one. Pure.

use std::collections::HashMap;

use semver::{Prerelease, Version};
use serde::Serialize;

use super::commit::{Header, Meaning, Message};
use crate::config::service::{self, BumpName};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bump {
    None,
    Patch,
    Minor,
    Major,
}

/// A commit since the last version.
#[derive(Clone, Debug)]
pub struct Commit {
    /// In full, hexadecimal.
    pub id: String,
    pub message: Message,
}

/// What a commit counts for, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub bump: Bump,
    pub why: String,
}

/// The verdict on each commit, in the order given: newest first.
pub fn judge(commits: &[Commit], settings: &service::Version) -> Vec<Verdict> {
    let standing = standing(commits);
    commits
        .iter()
        .enumerate()
        .map(|(at, commit)| match (&standing[at], &commit.message.meaning) {
            (Standing::RevertedBy(by), _) => {
                Verdict { bump: Bump::None, why: format!("taken back by {}", short(&commits[*by].id)) }
            }
            (Standing::Reverts(of), _) => {
                Verdict { bump: Bump::None, why: format!("takes back {}, not released yet", short(&commits[*of].id)) }
            }
            (Standing::Counts, Meaning::Reverts(_)) => {
                Verdict { bump: Bump::Patch, why: "takes back what was released".into() }
            }
            (Standing::Counts, Meaning::Other) => Verdict { bump: Bump::None, why: "not a conventional commit".into() },
            (Standing::Counts, Meaning::Changes(headers)) => headers
                .iter()
                .map(|header| one(header, settings))
                // The first of equals, so that a title speaks before the bullets below it.
                .reduce(|best, next| if next.bump > best.bump { next } else { best })
                .unwrap_or(Verdict { bump: Bump::None, why: "empty".into() }),
        })
        .collect()
}

fn one(header: &Header, settings: &service::Version) -> Verdict {
    if header.breaking {
        return Verdict { bump: Bump::Major, why: "a breaking change".into() };
    }
    let bump = match settings.bumps.get(&header.kind) {
        Some(BumpName::None) => Bump::None,
        Some(BumpName::Patch) => Bump::Patch,
        Some(BumpName::Minor) => Bump::Minor,
        Some(BumpName::Major) => Bump::Major,
        None => match header.kind.as_str() {
            "feat" => Bump::Minor,
            "fix" | "perf" => Bump::Patch,
            _ => Bump::None,
        },
    };
    Verdict { bump, why: format!("type {}", header.kind) }
}

enum Standing {
    Counts,
    /// Position of the commit that takes it back.
    RevertedBy(usize),
    /// Position of the commit that it takes back.
    Reverts(usize),
}

/// Which commits cancel each other. Newest first, so that a revert of a revert lets the first commit stand again.
fn standing(commits: &[Commit]) -> Vec<Standing> {
    let mut standing: Vec<Standing> = commits.iter().map(|_| Standing::Counts).collect();
    let by_subject: HashMap<&str, Vec<usize>> =
        commits.iter().enumerate().fold(HashMap::new(), |mut map, (at, commit)| {
            map.entry(commit.message.subject.as_str()).or_insert_with(Vec::new).push(at);
            map
        });
    for at in 0..commits.len() {
        let (Standing::Counts, Meaning::Reverts(reverted)) = (&standing[at], &commits[at].message.meaning) else {
            continue;
        };
        let older = |candidate: &usize| *candidate > at && matches!(standing[*candidate], Standing::Counts);
        let target = if reverted.commits.is_empty() {
            let named = reverted.subject.as_deref().and_then(|subject| by_subject.get(subject));
            named.and_then(|positions| positions.iter().copied().find(older))
        } else {
            (0..commits.len())
                .filter(older)
                .find(|position| reverted.commits.iter().any(|id| commits[*position].id.starts_with(id)))
        };
        if let Some(target) = target {
            standing[at] = Standing::Reverts(target);
            standing[target] = Standing::RevertedBy(at);
        }
    }
    standing
}

/// The next version after `base`. Below 1.0.0 a breaking change is a minor step, unless `allow_1_0`; a prerelease goes to
/// the version it was a prerelease of when that is far enough.
pub fn next(base: &Version, bump: Bump, allow_1_0: bool) -> Version {
    let bump = if base.major == 0 && bump == Bump::Major && !allow_1_0 { Bump::Minor } else { bump };
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
    let label: String = label.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let parts: Vec<&str> =
        label.split('.').map(|part| part.trim_matches('-')).filter(|part| !part.is_empty()).collect();
    // A number with leading zeros is no valid identifier; a letter in front makes it one.
    let parts: Vec<String> = parts
        .iter()
        .map(|part| {
            let number = part.bytes().all(|b| b.is_ascii_digit());
            if number && part.len() > 1 && part.starts_with('0') { format!("n{part}") } else { part.to_string() }
        })
        .collect();
    let mut label = parts.join(".");
    // A Docker tag has 128 characters; what is cut is the branch's name, never the count.
    label.truncate(80);
    let label = label.trim_end_matches(['.', '-']);
    let text = if label.is_empty() { format!("snapshot.{count}") } else { format!("{label}.{count}") };
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
    use super::super::commit;
    use super::*;

    fn commits(messages: &[&str]) -> Vec<Commit> {
        let count = messages.len();
        let id = |at: usize| format!("{:040x}", 0xabc_0000_0000_u64 + (count - at) as u64);
        messages.iter().enumerate().map(|(at, message)| Commit { id: id(at), message: commit::read(message) }).collect()
    }

    fn highest(messages: &[&str]) -> Bump {
        let verdicts = judge(&commits(messages), &service::Version::default());
        verdicts.iter().map(|verdict| verdict.bump).max().unwrap_or(Bump::None)
    }

    #[test]
    fn reverts_cancel_within_the_range() {
        // Newest first.
        let cases: &[(&[&str], Bump)] = &[
            (&["Revert \"feat: a\"", "feat: a"], Bump::None),
            (&["revert: feat: a", "feat: a", "fix: b"], Bump::Patch),
            (&["Revert \"Revert \"feat: a\"\"", "Revert \"feat: a\"", "feat: a"], Bump::Minor),
            (&["Revert \"feat: a\""], Bump::Patch),
            (&["feat: a", "Revert \"feat: a\"", "feat: a"], Bump::Minor),
            (&["Revert \"feat!: a\"", "feat!: a", "fix: c"], Bump::Patch),
        ];
        for (messages, bump) in cases {
            assert_eq!(highest(messages), *bump, "{messages:?}");
        }
    }

    #[test]
    fn a_revert_by_id_takes_back_that_commit_and_no_namesake() {
        let mut list = commits(&["placeholder", "feat: a", "fix: a", "feat: a"]);
        list[0].message = commit::read(&format!("Revert \"feat: a\"\n\nThis reverts commit {}.", list[3].id));
        let verdicts = judge(&list, &service::Version::default());
        assert_eq!(
            verdicts.iter().map(|v| v.bump).collect::<Vec<_>>(),
            [Bump::None, Bump::Minor, Bump::Patch, Bump::None]
        );
    }

    #[test]
    fn more_commits_never_lower_the_bump_unless_they_take_back() {
        let pool = ["feat: a", "fix: b", "docs: c", "chore!: d", "words", "perf: e"];
        // Every subset of the pool, grown by every other message.
        for subset in 0..1_u32 << pool.len() {
            let chosen: Vec<&str> = (0..pool.len()).filter(|at| subset >> at & 1 == 1).map(|at| pool[at]).collect();
            for extra in pool {
                let mut more = vec![extra];
                more.extend(&chosen);
                assert!(highest(&more) >= highest(&chosen), "{chosen:?} + {extra}");
            }
        }
    }

    #[test]
    fn bumps_can_be_set_per_type() {
        let mut settings = service::Version::default();
        settings.bumps.insert("docs".into(), BumpName::Patch);
        settings.bumps.insert("feat".into(), BumpName::None);
        let verdicts = judge(&commits(&["docs: a", "feat: b", "feat!: c"]), &settings);
        assert_eq!(verdicts.iter().map(|v| v.bump).collect::<Vec<_>>(), [Bump::Patch, Bump::None, Bump::Major]);
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
        assert!(prerelease(&version, &"long/".repeat(100), 123_456).to_string().len() <= 128);
    }
}
