//! The frontend that a build runs: the image that reads the Dockerfile, named by its first lines or
//! by a build argument. Pure.
//!
//! A frontend talks to BuildKit itself, before any step is confined: only Docker's own is run
//! unless whoever runs the build names another.
//! <https://docs.docker.com/build/buildkit/frontend/>

use std::collections::BTreeMap;

use super::{Finding, Level};

/// The rule's name.
pub const RULE: &str = "foreign-frontend";

/// The build argument that names a frontend whatever the Dockerfile says.
pub const ARGUMENT: &str = "BUILDKIT_SYNTAX";

/// Docker's own frontend, as it is written with and without its registry.
const OFFICIAL: [&str; 3] =
    ["docker/dockerfile", "docker.io/docker/dockerfile", "index.docker.io/docker/dockerfile"];

/// A frontend that a Dockerfile asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    pub image: String,
    /// Counts from 1.
    pub line: u64,
}

/// Reads which frontend a Dockerfile asks for. `None` if it is content with BuildKit's own.
///
/// BuildKit takes the directive behind `#` and behind `//`, as a key of a JSON document, in any
/// case, and below a `#!` line.
pub fn read_frontend(dockerfile: &str) -> Option<Frontend> {
    let text = dockerfile.strip_prefix('\u{feff}').unwrap_or(dockerfile);
    let skipped = u64::from(text.starts_with("#!"));
    let body = match skipped {
        0 => text,
        _ => text.split_once('\n').map_or("", |(_, rest)| rest),
    };
    let by_comment = ["#", "//"].into_iter().find_map(|sign| {
        (skipped + 1..)
            .zip(body.lines())
            .map_while(|(line, text)| {
                let text = text.trim();
                // Blank lines end the directives; one too many is looked at here, none too few.
                let comment = if text.is_empty() { "" } else { text.strip_prefix(sign)? };
                Some((line, comment))
            })
            .find_map(|(line, comment)| {
                let (name, value) = comment.split_once('=')?;
                name.trim().eq_ignore_ascii_case("syntax").then_some(())?;
                Some(Frontend { image: value.split_whitespace().next()?.to_string(), line })
            })
    });
    by_comment.or_else(|| {
        let keys: BTreeMap<String, serde_json::Value> = serde_json::from_str(body.trim()).ok()?;
        let (_, value) = keys.iter().find(|(name, _)| name.eq_ignore_ascii_case("syntax"))?;
        let image = value.as_str()?.split_whitespace().next()?.to_string();
        Some(Frontend { image, line: skipped + 1 })
    })
}

/// Whether a frontend is Docker's own, by digest or by a tag that Docker publishes, or one of those
/// that whoever runs the build allowed.
pub fn is_allowed(image: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|one| one == image) || is_official(image)
}

fn is_official(image: &str) -> bool {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (name, "latest"),
    };
    let is_known = OFFICIAL.contains(&name);
    match digest {
        Some(digest) => is_known && crate::digest::Digest::parse(digest).is_ok(),
        None => is_known && is_official_tag(tag),
    }
}

/// `1`, `1.7`, `1.7.1`, `1-labs`, `labs`, `latest`.
fn is_official_tag(tag: &str) -> bool {
    let version = tag.strip_suffix("-labs").unwrap_or(tag);
    let parts: Vec<&str> = version.split('.').collect();
    let is_number = |part: &&str| {
        !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit())
    };
    ["latest", "labs"].contains(&tag) || parts.len() <= 3 && parts.iter().all(is_number)
}

/// Why a frontend is not run, and what to do.
pub fn explain_refusal(image: &str) -> (String, String) {
    (
        format!(
            "`{}` would run inside BuildKit before any step is confined, and is not Docker's own",
            image.escape_default()
        ),
        "write `# syntax=docker/dockerfile:1`, or take the line away; whoever runs the build can \
         allow one by its digest: --allow-frontend NAME@sha256:…"
            .to_string(),
    )
}

/// Finds a stranger's frontend in a Dockerfile. A comment in it cannot ignore this rule.
pub fn lint_frontend(dockerfile: &str, allowed: &[String]) -> Vec<Finding> {
    let found = read_frontend(dockerfile);
    let foreign = found.into_iter().filter(|one| !is_allowed(&one.image, allowed));
    foreign.map(|Frontend { image, line }| describe(&image, line)).collect()
}

/// Finds one in the build arguments of service.yaml, whose text is `file`.
pub fn lint_argument(value: Option<&str>, file: &str, allowed: &[String]) -> Vec<Finding> {
    let image = value.map(|value| value.split_whitespace().next().unwrap_or_default());
    let foreign = image.into_iter().filter(|image| !is_allowed(image, allowed));
    let line = (1..).zip(file.lines()).find(|(_, text)| text.contains(ARGUMENT));
    let line = line.map_or(1, |(line, _)| line);
    foreign.map(|image| describe(image, line)).collect()
}

fn describe(image: &str, line: u64) -> Finding {
    let (message, fix) = explain_refusal(image);
    Finding { rule: RULE, level: Level::Fail, line, message, fix }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontend_is_found_however_it_is_asked_for() {
        struct Row {
            text: &'static str,
            found: Option<(&'static str, u64)>,
        }
        let row = |text, found| Row { text, found };
        let rows = [
            row("FROM scratch\n", None),
            row("", None),
            row("# syntax=evil.example/f:1\nFROM scratch\n", Some(("evil.example/f:1", 1))),
            row("#SynTax = evil.example/f --flag\n", Some(("evil.example/f", 1))),
            row("# escape=`\n# syntax=e\n", Some(("e", 2))),
            row("# check=skip=all\r\n# syntax=e\r\n", Some(("e", 2))),
            row("#!/usr/bin/env x\n#syntax=e\n", Some(("e", 2))),
            row("\u{feff}# syntax=e\n", Some(("e", 1))),
            row("// syntax=e\n", Some(("e", 1))),
            row("{\"syntax\": \"e x\"}", Some(("e", 1))),
            row("#!x\n{\"Syntax\": \"e\", \"other\": 1}\n", Some(("e", 2))),
            row("FROM scratch\n# syntax=e\n", None),
            row("# syntax=\nFROM scratch\n", None),
            row("# my syntax=e\n", None),
        ];
        for Row { text, found } in rows {
            let read = read_frontend(text);
            let read = read.as_ref().map(|one| (one.image.as_str(), one.line));
            assert_eq!(read, found, "{text:?}");
        }
    }

    #[test]
    fn only_dockers_own_frontend_is_run_unasked() {
        let hex = "0".repeat(64);
        let own = [
            "docker/dockerfile".to_string(),
            "docker/dockerfile:1".into(),
            "docker/dockerfile:1.7-labs".into(),
            "docker/dockerfile:1.20.0".into(),
            "docker.io/docker/dockerfile:labs".into(),
            format!("docker/dockerfile@sha256:{hex}"),
            format!("docker/dockerfile:1.7@sha256:{hex}"),
        ];
        let foreign = [
            "evil.example/docker/dockerfile:1".to_string(),
            "docker/dockerfile-upstream:master".into(),
            "docker/dockerfile2:1".into(),
            "docker/dockerfile:mine".into(),
            "docker/dockerfile:1-labs-x".into(),
            "docker/dockerfile:".into(),
            "docker/dockerfile@sha256:0".into(),
            "dockerfile:1".into(),
            "DOCKER/dockerfile:1".into(),
            "localhost:5000/docker/dockerfile:1".into(),
            String::new(),
        ];
        for image in &own {
            assert!(is_allowed(image, &[]), "{image}");
        }
        for image in &foreign {
            assert!(!is_allowed(image, &[]), "{image}");
            assert!(is_allowed(image, std::slice::from_ref(image)), "{image}: its user allowed it");
        }
    }

    #[test]
    fn a_strangers_frontend_is_a_finding_at_its_line() {
        let text = "# cicd: ignore=foreign-frontend\n# syntax=evil.example/f\nFROM scratch\n";
        let found = lint_frontend(text, &[]);
        assert_eq!((found[0].line, found[0].level, found.len()), (2, Level::Fail, 1));
        assert!(lint_frontend(text, &["evil.example/f".into()]).is_empty());
        let file = "name: x\nimage:\n  build-args:\n    BUILDKIT_SYNTAX: evil.example/f\n";
        assert_eq!(lint_argument(Some("evil.example/f"), file, &[])[0].line, 4);
        assert!(lint_argument(Some("docker/dockerfile:1"), file, &[]).is_empty());
        assert!(lint_argument(None, file, &[]).is_empty());
    }
}
