//! What a commit's release still needs, decided on the tags. Pure.

use semver::Version;

use crate::github::repository::Tag;

/// Minor lines in which a later version that contains our commit is looked for: the nearest, and
/// the newest.
const LINES: usize = 10;

/// A floating tag (`v1`, `v1.4`) that moves to our commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floating {
    pub name: String,
    /// The commit of the tag now; `None` if it must be created.
    pub from: Option<String>,
}

/// Parses the version that a tag of this prefix names. `v1` and `nightly` name none.
pub fn parse_version(prefix: &str, name: &str) -> Option<Version> {
    Version::parse(name.strip_prefix(prefix)?).ok()
}

/// Finds the highest tag that the commit has already, without names that can never be released.
pub fn find_own<'a>(
    tags: &'a [Tag],
    prefix: &str,
    commit: &str,
    burned: &[String],
) -> Option<(&'a Tag, Version)> {
    tags.iter()
        .filter(|tag| tag.commit == commit && !burned.contains(&tag.name))
        .filter_map(|tag| Some((tag, parse_version(prefix, &tag.name)?)))
        .max_by(|(_, a), (_, b)| a.cmp(b))
}

/// Returns the channel of a version: `beta` of `1.4.0-beta.2`, nothing of a stable one.
pub fn channel_of(version: &Version) -> &str {
    version.pre.as_str().split('.').next().unwrap_or_default()
}

/// Returns the tags without those of this commit, so that a second run decides as the first did.
///
/// Names that can never be released stay as tags of no commit: they are taken, and no version
/// counts from them.
pub fn hide_own(tags: &[Tag], commit: &str, burned: &[String]) -> Vec<Tag> {
    let nowhere = |name: &String| Tag { name: name.clone(), commit: "0".repeat(commit.len()) };
    let others =
        tags.iter().filter(|tag| tag.commit != commit && !burned.contains(&tag.name)).cloned();
    others.chain(burned.iter().map(nowhere)).collect()
}

/// Finds tags of versions above `base` whose commits may contain ours, the nearest first.
///
/// Each minor line has two: the lowest, which stands on the branch that the line began on, and the
/// highest. A prerelease never supersedes a stable version.
pub fn find_later<'a>(
    tags: &'a [Tag],
    prefix: &str,
    commit: &str,
    base: Option<&Version>,
    next: &Version,
) -> Vec<&'a Tag> {
    let mut found: Vec<(Version, &Tag)> = tags
        .iter()
        .filter(|tag| tag.commit != commit)
        .filter_map(|tag| Some((parse_version(prefix, &tag.name)?, tag)))
        .filter(|(version, _)| base.is_none_or(|base| version > base))
        .filter(|(version, _)| version.pre.is_empty() || !next.pre.is_empty())
        .collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut lines: Vec<&[(Version, &Tag)]> =
        found.chunk_by(|(a, _), (b, _)| (a.major, a.minor) == (b.major, b.minor)).collect();
    if lines.len() > LINES {
        lines.drain(LINES - 1..lines.len() - 1);
    }
    let ends = |line: &[(Version, &'a Tag)]| match line {
        [(_, first), .., (_, last)] => vec![*first, *last],
        line => line.iter().map(|(_, tag)| *tag).collect(),
    };
    lines.into_iter().flat_map(ends).collect()
}

/// Whether no stable version of this prefix is higher, so that GitHub calls it "latest".
pub fn is_latest(tags: &[Tag], prefix: &str, ours: &Version) -> bool {
    ours.pre.is_empty() && !list_stable(tags, prefix).any(|version| version > *ours)
}

/// Plans the floating tags that must move to `commit`: those in whose line `ours` is the highest
/// stable version.
pub fn plan_floating(tags: &[Tag], prefix: &str, ours: &Version, commit: &str) -> Vec<Floating> {
    if !ours.pre.is_empty() {
        return Vec::new();
    }
    let overtaken = |line: &dyn Fn(&Version) -> bool| {
        list_stable(tags, prefix).any(|version| version > *ours && line(&version))
    };
    let major = |version: &Version| version.major == ours.major;
    let minor = |version: &Version| version.major == ours.major && version.minor == ours.minor;
    let lines: [(String, bool); 2] = [
        (format!("{prefix}{}", ours.major), overtaken(&major)),
        (format!("{prefix}{}.{}", ours.major, ours.minor), overtaken(&minor)),
    ];
    let moves = lines.into_iter().filter(|(_, overtaken)| !overtaken).filter_map(|(name, _)| {
        let from = tags.iter().find(|tag| tag.name == name).map(|tag| tag.commit.clone());
        (from.as_deref() != Some(commit)).then_some(Floating { name, from })
    });
    moves.collect()
}

fn list_stable<'a>(tags: &'a [Tag], prefix: &'a str) -> impl Iterator<Item = Version> + 'a {
    tags.iter()
        .filter_map(move |tag| parse_version(prefix, &tag.name))
        .filter(|version| version.pre.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `v1.0.0=a v1=a`: tags and their commits.
    fn tags(text: &str) -> Vec<Tag> {
        let pair = |pair: &str| {
            let (name, commit) = pair.split_once('=').expect("a pair");
            Tag { name: name.into(), commit: commit.into() }
        };
        text.split_whitespace().map(pair).collect()
    }

    fn shown<'a>(tags: impl IntoIterator<Item = &'a Tag>) -> String {
        tags.into_iter()
            .map(|tag| format!("{}={}", tag.name, tag.commit))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_commits_own_tag_is_its_highest_version() {
        let cases = [
            ("v1.0.0=a v1.1.0=c v1=c v1.0.9=c nightly=c", "", Some("v1.1.0")),
            ("v1.9.0=c v1.10.0=c", "", Some("v1.10.0")),
            ("v1.0.0=c v1.0.0-rc.1=c", "", Some("v1.0.0")),
            ("v1.0.0=c v1.0.1=c", "v1.0.1", Some("v1.0.0")),
            ("v1.0.0=a v1=c w2.0.0=c vv2.0.0=c", "", None),
        ];
        for (text, burned, expected) in cases {
            let (tags, burned) =
                (tags(text), if burned.is_empty() { vec![] } else { vec![burned.to_string()] });
            assert_eq!(
                find_own(&tags, "v", "c", &burned).map(|(tag, _)| tag.name.as_str()),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_decided_on_is_what_was_there_before() {
        let burned = vec!["v1.2.0".to_string(), "v1.2.1".to_string()];
        let left = hide_own(&tags("v1.0.0=a v1.1.0=c v1.2.0=c v2.0.0=b"), "c", &burned);
        assert_eq!(shown(&left), "v1.0.0=a v2.0.0=b v1.2.0=0 v1.2.1=0");
    }

    #[test]
    fn later_tags_are_the_ends_of_each_line() {
        let cases = [
            (
                "v1.0.0=a v1.0.1=b v1.0.2=d v1.1.0=e v1.1.0-rc.1=f v1=e",
                "v1.0.0",
                "1.0.1",
                "v1.0.1=b v1.0.2=d v1.1.0=e",
            ),
            ("v1.0.0=a v1.1.2=e v1.1.1=d v1.1.0=b", "v1.0.0", "1.0.1", "v1.1.0=b v1.1.2=e"),
            ("v1.0.0=a v2.0.0-beta.1=b", "v1.0.0", "1.0.1", ""),
            (
                "v1.0.0=a v2.0.0-beta.1=b v2.0.0-beta.2=d",
                "v1.0.0",
                "2.0.0-beta.2",
                "v2.0.0-beta.1=b v2.0.0-beta.2=d",
            ),
            ("v1.0.0=c", "", "1.0.1", ""),
            ("v0.1.0=a", "", "0.1.0", "v0.1.0=a"),
        ];
        for (text, base, next, expected) in cases {
            let (tags, next) = (tags(text), Version::parse(next).expect("a version"));
            assert_eq!(
                shown(find_later(&tags, "v", "c", parse_version("v", base).as_ref(), &next)),
                expected,
                "{text}"
            );
        }
        let many: String = (0..50).map(|minor| format!("v1.{minor}.0=x{minor} ")).collect();
        let (many, next) = (tags(&many), Version::new(1, 3, 1));
        let found = find_later(&many, "v", "c", Some(&Version::new(1, 3, 0)), &next);
        assert_eq!(found.len(), LINES);
        assert_eq!((found[0].name.as_str(), found[LINES - 1].name.as_str()), ("v1.4.0", "v1.49.0"));
    }

    #[test]
    fn floating_tags_follow_the_highest_stable_version_of_their_line() {
        // tags, ours → what moves, and whether it is GitHub's latest
        let cases = [
            ("v1.0.0=a v1=a v1.0=a", "1.0.1", "v1<a v1.0<a", true),
            ("v1.0.0=a", "1.0.1", "v1< v1.0<", true),
            ("v1.0.1=c v1=c v1.0=c", "1.0.1", "", true),
            ("v1.0.1=c v1=a v1.0=c", "1.0.1", "v1<a", true),
            ("v1.4.0=b v1=b v1.3=a", "1.3.9", "v1.3<a", false),
            ("v1.3.9=b v1=b", "1.3.8", "", false),
            ("v2.0.0=b v2=b v1=a", "1.9.0", "v1<a v1.9<", false),
            ("v1.0.0=a v1=a", "1.1.0-rc.1", "", false),
            ("v1.1.0-rc.1=b v1=a", "1.0.1", "v1<a v1.0<", true),
        ];
        for (text, ours, expected, latest) in cases {
            let (tags, ours) = (tags(text), Version::parse(ours).expect("a version"));
            let moves = plan_floating(&tags, "v", &ours, "c");
            let shown: Vec<String> = moves
                .iter()
                .map(|m| format!("{}<{}", m.name, m.from.as_deref().unwrap_or_default()))
                .collect();
            assert_eq!(
                (shown.join(" ").as_str(), is_latest(&tags, "v", &ours)),
                (expected, latest),
                "{text}"
            );
        }
    }
}
