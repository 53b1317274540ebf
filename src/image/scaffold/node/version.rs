//! Which Node a project takes. Pure.

use serde_json::Value;

use super::super::tree::Tree;

/// The releases with long-term support, the best first.
/// <https://nodejs.org/en/about/previous-releases>
const VERSIONS: [u32; 3] = [24, 22, 26];

/// The major version that a project takes.
pub fn choose_version(tree: &Tree, package: &Value, notes: &mut Vec<String>) -> u32 {
    let asked = [".nvmrc", ".node-version"]
        .into_iter()
        .find_map(|file| tree.get(file))
        .map(|text| text.trim().trim_start_matches('v'));
    let asked = asked
        .filter(|text| text.starts_with(|c: char| c.is_ascii_digit()))
        .or(package["engines"]["node"].as_str());
    let version =
        VERSIONS.into_iter().find(|major| asked.is_none_or(|range| takes_version(range, *major)));
    if let (None, Some(range)) = (version, asked) {
        notes.push(format!(
            "the project wants Node {range}, and the image has Node {}: correct one of them",
            VERSIONS[0]
        ));
    }
    version.unwrap_or(VERSIONS[0])
}

/// Whether a range of npm's grammar takes some release of a major version.
/// <https://github.com/npm/node-semver#ranges>
pub fn takes_version(range: &str, major: u32) -> bool {
    let spaced = [">=", "<=", ">", "<", "^", "~", "="]
        .iter()
        .fold(range.to_string(), |text, sign| text.replace(&format!("{sign} "), sign));
    spaced.split("||").any(|all| match all.trim().split_once(" - ") {
        Some((from, to)) => {
            takes_clause(&format!(">={from}"), major) && takes_clause(&format!("<={to}"), major)
        }
        None => all.split_whitespace().all(|one| takes_clause(one, major)),
    })
}

fn takes_clause(text: &str, major: u32) -> bool {
    let sign: String =
        text.chars().take_while(|c| !c.is_ascii_alphanumeric() && *c != '*').collect();
    let version = text[sign.len()..].trim_start_matches('v');
    let mut parts = version.split('.');
    let Some(Ok(asked)) = parts.next().map(str::parse::<u32>) else { return true };
    let rest = parts.any(|part| part.parse::<u32>().is_ok_and(|part| part > 0));
    match sign.as_str() {
        ">=" => major >= asked,
        ">" => major > asked || major == asked && rest,
        "<" => major < asked || major == asked && rest,
        "<=" => major <= asked,
        _ => major == asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_takes_versions() {
        for (range, taken) in [
            ("*", true),
            (">=22", true),
            (">= 18.17.0", true),
            ("^24.1", true),
            ("~22", false),
            ("24.x", true),
            ("<24", false),
            ("<24.5", true),
            (">24", false),
            ("20 - 24", true),
            ("18 || 20", false),
            ("=24.1.2", true),
        ] {
            assert_eq!(takes_version(range, 24), taken, "{range}");
        }
    }
}
