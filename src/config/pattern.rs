//! Wildcard patterns for image tags, as ECR has them: what they match, and whether a release is
//! among it. Pure.

use std::collections::HashSet;

/// A piece of a family of tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// Exactly this byte.
    Byte(u8),
    /// One digit.
    Digit,
    /// Any number of digits, also none.
    Digits,
}

/// Whether `tag` matches `pattern`, in which `*` stands for any text, also none.
pub fn matches(pattern: &str, tag: &str) -> bool {
    let tag: Vec<Piece> = tag.bytes().map(Piece::Byte).collect();
    meet(pattern.as_bytes(), &tag)
}

/// Whether `pattern` matches any release: `1.4.0`, of whatever numbers.
pub fn matches_a_release(pattern: &str) -> bool {
    meet(pattern.as_bytes(), &release())
}

/// Whether `pattern` matches any prerelease of a channel: `2.0.0-beta.1` of `beta`.
pub fn matches_a_prerelease(pattern: &str, channel: &str) -> bool {
    let name = format!("-{channel}.");
    let family = [release(), name.bytes().map(Piece::Byte).collect(), number()].concat();
    meet(pattern.as_bytes(), &family)
}

/// `MAJOR.MINOR.PATCH`
fn release() -> Vec<Piece> {
    let dot = vec![Piece::Byte(b'.')];
    [number(), dot.clone(), number(), dot, number()].concat()
}

fn number() -> Vec<Piece> {
    vec![Piece::Digit, Piece::Digits]
}

/// Whether some tag of `family` matches `pattern`: the places in both are walked through together,
/// each pair of them once.
fn meet(pattern: &[u8], family: &[Piece]) -> bool {
    let (mut seen, mut next) = (HashSet::new(), vec![(0, 0)]);
    while let Some((p, f)) = next.pop() {
        if !seen.insert((p, f)) {
            continue;
        }
        match (pattern.get(p), family.get(f)) {
            (None, None) => return true,
            (Some(b'*'), None) => next.push((p + 1, f)),
            (Some(b'*'), Some(_)) => next.extend([(p + 1, f), (p, f + 1)]),
            (Some(byte), Some(Piece::Digits)) if byte.is_ascii_digit() => {
                next.extend([(p + 1, f), (p, f + 1)])
            }
            (_, Some(Piece::Digits)) => next.push((p, f + 1)),
            (Some(byte), Some(Piece::Digit)) if byte.is_ascii_digit() => next.push((p + 1, f + 1)),
            (Some(byte), Some(Piece::Byte(wanted))) if byte == wanted => next.push((p + 1, f + 1)),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, tag, expected) in [
            ("latest", "latest", true),
            ("latest", "latest1", false),
            ("*", "", true),
            ("*", "1.4.0", true),
            ("*-main.*", "1.3.3-main.4", true),
            ("*-main.*", "1.3.3-feature-main.4", true),
            ("*-main.*", "1.3.3-maintenance.4", false),
            ("*-main.*", "1.3.3-main", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, tag), expected, "{pattern} {tag}");
        }
    }

    #[test]
    fn a_pattern_that_could_match_a_release_is_known() {
        for (pattern, releases, betas) in [
            ("*-main.*", false, false),
            ("buildcache*", false, false),
            ("latest", false, false),
            ("*", true, true),
            ("1.*", true, true),
            ("*.0", true, true),
            ("1.4.0", true, false),
            ("*.*.*", true, true),
            ("*.*.*.*", false, true),
            ("*-*", false, true),
            ("*beta*", false, true),
            ("2.0.0-beta.1", false, true),
            ("1*9-b*.7", false, true),
            ("*-beta", false, false),
            ("*-rc.*", false, false),
            ("..", false, false),
            ("", false, false),
        ] {
            assert_eq!(matches_a_release(pattern), releases, "{pattern}");
            assert_eq!(matches_a_prerelease(pattern, "beta"), betas, "{pattern}");
        }
        assert!(
            matches_a_prerelease("*-main.*", "next-main"),
            "a channel may end in a branch's name"
        );
    }
}
