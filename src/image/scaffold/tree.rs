//! A repository's files as text, and what its sources say. Pure.

use std::collections::{BTreeMap, BTreeSet};

pub use super::fact::{Evidence, Fact};

/// The files of a repository by their path from its root, `/` between the parts, with their text:
/// empty for what is none.
pub type Tree = BTreeMap<String, String>;

/// What the sources of a service say about it; `None` where they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFacts {
    pub port: Option<Fact<u16>>,
    pub health: Option<Fact<String>>,
    pub mode: Option<Fact<super::mode::Mode>>,
}

/// Why no Dockerfile is written for a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing at its root says how it is built; these files below may.
    Nothing(Vec<String>),
    /// `init` cannot write a Dockerfile that works.
    Shape {
        /// What stands in the way: `a uv workspace`.
        what: String,
        /// The evidence, and why it stands in the way.
        why: String,
        /// How to do it by hand.
        by_hand: String,
    },
}

impl Refusal {
    pub fn shape(
        what: impl Into<String>,
        why: impl Into<String>,
        by_hand: impl Into<String>,
    ) -> Refusal {
        Refusal::Shape { what: what.into(), why: why.into(), by_hand: by_hand.into() }
    }
}

/// # Errors
/// A dependency that `place` says comes from `path` is not in the service's folder.
pub fn require_path(tree: &Tree, path: &str, place: &str, from: &str) -> Result<(), Refusal> {
    if path.starts_with("..") || path.starts_with('/') {
        return Err(Refusal::shape(
            "a dependency outside of the service's folder",
            format!("{place} names {from}, which is not in the build context"),
            "write the Dockerfile for the folder above, which COPY takes both from; `cicd init` \
             then writes the rest, with `image: {context: ..}`",
        ));
    }
    let below = format!("{path}/");
    if !tree.keys().any(|file| file.starts_with(&below) || file == path) {
        return Err(Refusal::shape(
            "a dependency that is not in the repository",
            format!("{place} names {from}, and there is no {path}"),
            "commit it, or name it by an index, a registry or git",
        ));
    }
    Ok(())
}

/// A folder above the service's, up to the repository's root, nearest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Above {
    /// `..`, `../..`
    pub path: String,
    /// The service's folder, seen from there: `services/api`.
    pub below: String,
    /// Project files that stand in it, with their text: pyproject.toml, package.json, go.work.
    pub files: Tree,
    /// Which sources of COPY in the service's own Dockerfile are there.
    pub copied: BTreeSet<String>,
}

/// What is around the files of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The name of the service's folder.
    pub folder: String,
    /// Which sources of COPY in the service's own Dockerfile are in its folder.
    pub copied: BTreeSet<String>,
    pub above: Vec<Above>,
    /// The repository's default branch, where that is known.
    pub branch: Option<String>,
}

/// The sources of the service: no tests, no documentation.
pub fn list_sources(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.iter()
        .filter(|(path, _)| is_source(path))
        .map(|(path, text)| (path.as_str(), text.as_str()))
}

fn is_source(path: &str) -> bool {
    const CODE: [&str; 10] =
        [".py", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx", ".go"];
    const ASIDE: [&str; 10] = [
        "tests",
        "test",
        "__tests__",
        "__mocks__",
        "docs",
        "scripts",
        "examples",
        "testdata",
        "alembic",
        "e2e",
    ];
    const ENDS: [&str; 15] = [
        "_test.go",
        "_test.py",
        ".test.ts",
        ".test.tsx",
        ".test.js",
        ".spec.ts",
        ".spec.js",
        ".d.ts",
        ".config.js",
        ".config.mjs",
        ".config.cjs",
        ".config.ts",
        ".stories.tsx",
        ".min.js",
        "-spec.ts",
    ];
    // Deeper, `tasks.py` and `setup.py` are modules of the service.
    const AT_ROOT: [&str; 4] = ["setup.py", "noxfile.py", "tasks.py", "fabfile.py"];
    let name = path.rsplit('/').next().unwrap_or(path);
    let aside = path.split('/').rev().skip(1).any(|folder| ASIDE.contains(&folder));
    CODE.iter().any(|end| name.ends_with(end))
        && !aside
        && !ENDS.iter().any(|end| name.ends_with(end))
        && !name.starts_with("test_")
        && !AT_ROOT.contains(&path)
        && name != "conftest.py"
}

/// Words of paths that answer how a service is, the surest first.
const HEALTH_WORDS: [&str; 22] = [
    "healthz",
    "health",
    "livez",
    "live",
    "liveness",
    "healthcheck",
    "health-check",
    "health_check",
    "_health",
    "__health",
    "alive",
    "readyz",
    "ready",
    "readiness",
    "ping",
    "status",
    "up",
    "__lbheartbeat__",
    "__heartbeat__",
    "heartbeat",
    "healthy",
    "is_alive",
];

/// How well a path fits the question how a service is; lower is better, `None` is no answer.
pub fn rank_health(path: &str) -> Option<usize> {
    let plain = path.starts_with('/') && !path.contains(['{', '<', ':', '*', '(', ' ', '$']);
    let last = path.trim_end_matches('/').rsplit('/').next()?.to_lowercase();
    let rank = HEALTH_WORDS.iter().position(|word| *word == last)?;
    plain.then_some(rank)
}

/// A path that a service answers GET on, with where that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub path: String,
    pub file: String,
    pub line: u64,
    /// Why the path may be another; `None` if it is certain.
    pub doubt: Option<String>,
}

/// The route to ask how the service is: one named after health, else `/`.
pub fn choose_health(routes: &[Route]) -> Option<Fact<String>> {
    let best = routes
        .iter()
        .filter_map(|route| Some((rank_health(&route.path)?, route)))
        .min_by_key(|(rank, route)| {
            (route.doubt.is_some(), *rank, route.path.matches('/').count(), route.path.clone())
        });
    if let Some((_, route)) = best {
        return Some(match &route.doubt {
            None => Fact::read(route.path.clone(), &route.file, route.line),
            Some(doubt) => {
                Fact::guess(route.path.clone(), format!("{}:{}: {doubt}", route.file, route.line))
            }
        });
    }
    let root = routes.iter().find(|route| route.path == "/" && route.doubt.is_none())?;
    Some(Fact::guess(
        "/".into(),
        format!("no route is named after health, and {}:{} answers on /", root.file, root.line),
    ))
}

/// The port to name of those that a service listens on, the surest first: a guess where they
/// differ.
pub fn choose_port(found: Vec<Fact<u16>>) -> Option<Fact<u16>> {
    let first = found.first()?.clone();
    let others: Vec<String> = found
        .iter()
        .filter(|other| other.value != first.value)
        .map(|other| format!("{} ({})", other.value, other.evidence))
        .collect();
    match others.is_empty() {
        true => Some(first),
        false => {
            let why =
                format!("{} says it, and it listens on {} too", first.evidence, others.join(", "));
            Some(Fact::guess(first.value, why))
        }
    }
}

/// Joins a prefix and a path as routers do, without a doubled slash.
pub fn join_paths(prefix: &str, path: &str) -> String {
    match (prefix.trim_end_matches('/'), path) {
        ("", "") => "/".into(),
        ("", path) if path.starts_with('/') => path.to_string(),
        (prefix, "") => prefix.to_string(),
        (prefix, path) => format!("{prefix}/{}", path.trim_start_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_route_is_the_one_named_after_it() {
        let route = |path: &str, doubt: Option<&str>| Route {
            path: path.into(),
            file: "a.py".into(),
            line: 3,
            doubt: doubt.map(str::to_string),
        };
        struct Case {
            routes: Vec<Route>,
            path: Option<&'static str>,
            is_guess: bool,
        }
        let cases = [
            Case { routes: vec![], path: None, is_guess: false },
            Case { routes: vec![route("/users", None)], path: None, is_guess: false },
            Case { routes: vec![route("/", None)], path: Some("/"), is_guess: true },
            Case {
                routes: vec![route("/", None), route("/ping", None), route("/api/health", None)],
                path: Some("/api/health"),
                is_guess: false,
            },
            Case {
                routes: vec![route("/health/{name}", None), route("/up", None)],
                path: Some("/up"),
                is_guess: false,
            },
            Case {
                routes: vec![route("/healthz", Some("the prefix is not known"))],
                path: Some("/healthz"),
                is_guess: true,
            },
        ];
        for Case { routes, path, is_guess } in cases {
            let found = choose_health(&routes);
            assert_eq!(found.as_ref().map(|fact| fact.value.as_str()), path, "{routes:?}");
            assert_eq!(found.is_some_and(|fact| fact.is_guess()), is_guess, "{routes:?}");
        }
    }

    #[test]
    fn prefixes_and_paths_are_joined_with_one_slash() {
        for (prefix, path, whole) in [
            ("", "/x", "/x"),
            ("", "x", "/x"),
            ("/api", "/x", "/api/x"),
            ("/api/", "x/", "/api/x/"),
            ("/api", "", "/api"),
            ("", "", "/"),
            ("/api", "/", "/api/"),
        ] {
            assert_eq!(join_paths(prefix, path), whole);
        }
    }
}
