//! The names of tags → what they say about versions, also where they are none. Pure.
//!
//! A repository that takes up this tool has tags of its own habits: without the `v`, of two parts,
//! dates. To overlook them is to begin at 0.1.0 again, below what is published.

use semver::Version;

/// Why a number is none: semver's have 64 bits here.
pub const TOO_HIGH: &str = "a number in it is too high";

/// What a tag that is no version of ours looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Habit {
    /// A version behind another prefix of the same name: `1.1.0` where the prefix is `v`.
    OtherPrefix(String),
    /// Numbers behind our prefix that are no semantic version, and why not.
    NoVersion(&'static str),
    /// A version behind another name: `api-1.1.0` where the prefix is `v`.
    OtherName,
}

/// A tag that names something like a version and does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OddTag {
    pub name: String,
    pub habit: Habit,
    /// The version that it would be.
    pub meant: Version,
}

/// Reads a tag's name as a version behind a prefix.
pub fn read_version(name: &str, prefix: &str) -> Option<Version> {
    Version::parse(name.strip_prefix(prefix)?).ok()
}

/// Finds the tags that somebody may take for versions of `prefix` and that are none, the highest
/// first.
pub fn find_odd_tags<'a>(names: impl Iterator<Item = &'a str>, prefix: &str) -> Vec<OddTag> {
    let mut odd: Vec<OddTag> = names.filter_map(|name| judge_name(name, prefix)).collect();
    odd.sort_by(|a, b| b.meant.cmp(&a.meant).then_with(|| a.name.cmp(&b.name)));
    odd
}

fn judge_name(name: &str, prefix: &str) -> Option<OddTag> {
    let odd = |habit, meant| Some(OddTag { name: name.to_string(), habit, meant });
    if let Some(rest) = name.strip_prefix(prefix) {
        if Version::parse(rest).is_ok() {
            return None;
        }
        if let Some((why, meant)) = judge_numbers(rest) {
            return odd(Habit::NoVersion(why), meant);
        }
    }
    let (other, rest) = name.split_at(find_version(name)?);
    let same = is_same_name(other, prefix);
    match Version::parse(rest) {
        Ok(meant) if same => odd(Habit::OtherPrefix(other.to_string()), meant),
        Ok(meant) => odd(Habit::OtherName, meant),
        Err(_) => {
            let (why, meant) = judge_numbers(rest)?;
            // A lone number behind another name counts something else: `build-17`.
            let habit = if same { Habit::NoVersion(why) } else { Habit::OtherName };
            if same || rest.contains('.') { odd(habit, meant) } else { None }
        }
    }
}

/// Where the version in a name begins: at the first number behind which nothing but a version
/// stands, and before which a word ends.
fn find_version(name: &str) -> Option<usize> {
    name.char_indices().map(|(at, _)| at).find(|at| {
        let (before, rest) = name.split_at(*at);
        let word_ends = strip_v(before).is_none_or(|word| !word.ends_with(char::is_alphanumeric));
        let number = rest.starts_with(|c: char| c.is_ascii_digit());
        let inside =
            before.strip_suffix('.').is_some_and(|b| b.ends_with(|c: char| c.is_ascii_digit()));
        number
            && !inside
            && word_ends
            && (Version::parse(rest).is_ok() || judge_numbers(rest).is_some())
    })
}

/// A prefix without the `v` at its end; `None` when nothing is left.
fn strip_v(prefix: &str) -> Option<&str> {
    let bare = prefix.strip_suffix(['v', 'V']).unwrap_or(prefix);
    Some(bare).filter(|bare| !bare.is_empty())
}

/// Whether two prefixes differ by no more than a `v`, case and the sign behind the name. Words such
/// as `release` name nothing.
fn is_same_name(one: &str, other: &str) -> bool {
    let name = |prefix: &str| {
        let bare = strip_v(prefix).unwrap_or_default();
        // The v of `dev` is a part of the word.
        let bare = if bare.ends_with(char::is_alphanumeric) { prefix } else { bare };
        let name = bare.trim_end_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        let nothing = ["v", "ver", "version", "rel", "release", "releases", "tag", "tags"];
        if nothing.contains(&name.as_str()) { String::new() } else { name }
    };
    name(one) == name(other)
}

/// Whether a prefix names nothing, so that the repository is taken for one service.
pub fn is_bare_prefix(prefix: &str) -> bool {
    is_same_name(prefix, "")
}

/// Numbers with points between them that are no semantic version, why not, and what they would be.
fn judge_numbers(text: &str) -> Option<(&'static str, Version)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (numbers, rest) = (text[..end].trim_end_matches('.'), &text[end..]);
    let parts: Vec<&str> = numbers.split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    let mut read = [0_u64; 3];
    for (number, part) in read.iter_mut().zip(&parts) {
        // What no 64 bits hold is higher than all that they do.
        *number = part.parse().unwrap_or(u64::MAX);
    }
    let [major, minor, patch] = read;
    let meant = Version::new(major, minor, patch);
    let zero = parts.iter().any(|part| part.len() > 1 && part.starts_with('0'));
    let wide = parts.iter().any(|part| part.parse::<u64>().is_err());
    let why = match parts.len() {
        // A word behind a single number makes it a name: `v2-docs`.
        1 if !rest.is_empty() => return None,
        _ if wide => TOO_HIGH,
        1 => "it has one part",
        2 => "it has two parts",
        3 if zero => "a number in it begins with a zero",
        3 => "what stands behind its numbers is not separated by `-` or `+`, or is empty",
        _ => "it has more than three parts",
    };
    Some((why, meant))
}

/// Whether a tag follows releases, as `v1` and `v1.4` follow the highest version of their line.
fn is_floating(odd: &OddTag, prefix: &str, versions: &[&Version]) -> bool {
    let Some(numbers) = odd.name.strip_prefix(prefix) else { return false };
    let parts: Vec<&str> = numbers.split('.').collect();
    versions.iter().any(|version| match parts.as_slice() {
        [major] => version.major.to_string() == *major,
        [major, minor] => {
            version.major.to_string() == *major && version.minor.to_string() == *minor
        }
        _ => false,
    })
}

/// The odd tags that a person has to know of: of the same name, higher than every version that
/// counts, and none that only follows a release.
pub fn find_higher<'o>(odd: &'o [OddTag], prefix: &str, versions: &[&Version]) -> Vec<&'o OddTag> {
    let highest = versions.iter().max();
    odd.iter()
        .filter(|odd| odd.habit != Habit::OtherName && !is_floating(odd, prefix, versions))
        .filter(|odd| highest.is_none_or(|highest| odd.meant > **highest))
        .collect()
}

/// Whether the versions are of two kinds, dates and numbers: `2026.1.5` beside `1.4.0`. Returns the
/// highest of each.
pub fn find_two_schemes<'v>(versions: &[&'v Version]) -> Option<(&'v Version, &'v Version)> {
    let is_date = |version: &&&Version| {
        (1990..=2100).contains(&version.major) && (1..=12).contains(&version.minor)
    };
    let date = versions.iter().filter(is_date).max()?;
    let number = versions.iter().filter(|version| !is_date(version)).max()?;
    (number.major < 1990).then_some((date, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_only_look_like_versions_are_told() {
        struct Row {
            name: &'static str,
            prefix: &'static str,
            told: &'static str,
        }
        let row = |name, prefix, told| Row { name, prefix, told };
        let rows = [
            row("1.1.0", "v", "other prefix ``"),
            row("V1.1.0", "v", "other prefix `V`"),
            row("v1.1.0", "", "other prefix `v`"),
            row("release-1.1.0", "v", "other prefix `release-`"),
            row("version_1.1.0", "v", "other prefix `version_`"),
            row("api-v1.1.0", "api/v", "other prefix `api-v`"),
            row("api@1.1.0", "api/v", "other prefix `api@`"),
            row("api-1.1.0", "v", "other name"),
            row("v1.1.0", "api/v", "other name"),
            row("w3.0.0", "v", "-"),
            row("vv4.0.0", "v", "-"),
            row("dev1.0.0", "v", "-"),
            row("v7.3", "v", "it has two parts"),
            row("7.3", "v", "it has two parts"),
            row("v7", "v", "it has one part"),
            row("v20241220", "v", "it has one part"),
            row("v1.2.3.4", "v", "it has more than three parts"),
            row("v2024.01.05", "v", "a number in it begins with a zero"),
            row(
                "v1.2.3rc1",
                "v",
                "what stands behind its numbers is not separated by `-` or `+`, or is empty",
            ),
            row("v99999999999999999999.0.0", "v", "a number in it is too high"),
            row("v1.1.0", "v", "-"),
            row("v1.1.0-rc.1+b", "v", "-"),
            row("v2-docs", "v", "-"),
            row("nightly", "v", "-"),
            row("nightly-2024-12-20", "v", "-"),
            row("v", "v", "-"),
            row("v.1", "v", "it has one part"),
            row("build-17", "v", "-"),
            row("", "v", "-"),
            row("ä1.0.0", "v", "-"),
        ];
        for Row { name, prefix, told } in rows {
            let found = find_odd_tags([name].into_iter(), prefix);
            let found = match found.first().map(|odd| &odd.habit) {
                Some(Habit::OtherPrefix(other)) => format!("other prefix `{other}`"),
                Some(Habit::NoVersion(why)) => (*why).to_string(),
                Some(Habit::OtherName) => "other name".into(),
                None => "-".into(),
            };
            assert_eq!(found, told, "{name} behind {prefix}");
        }
    }

    #[test]
    fn a_tag_that_follows_releases_is_not_odd() {
        let versions = [Version::new(1, 4, 0), Version::new(1, 3, 0)];
        let versions: Vec<&Version> = versions.iter().collect();
        let names = ["v1", "v1.4", "v2", "v1.5", "v0.9", "1.4.1", "v1.3.9.1"];
        let odd = find_odd_tags(names.into_iter(), "v");
        let higher = find_higher(&odd, "v", &versions);
        let higher: Vec<&str> = higher.iter().map(|odd| odd.name.as_str()).collect();
        assert_eq!(higher, ["v2", "v1.5", "1.4.1"]);
    }

    #[test]
    fn dates_beside_numbers_are_two_schemes() {
        let version = |text: &str| Version::parse(text).expect("a version");
        let (date, number) = (version("2024.12.20"), version("1.4.0"));
        assert_eq!(find_two_schemes(&[&date, &number]), Some((&date, &number)));
        assert_eq!(find_two_schemes(&[&date]), None);
        assert_eq!(find_two_schemes(&[&number, &version("2.0.0")]), None);
    }
}
