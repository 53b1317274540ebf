//! What a repository is, from its files. Pure.
//!
//! What is the same for every language is here; [`python`], [`node`] and [`go`] know theirs.

use std::collections::BTreeMap;

use super::go::{self, Go};
use super::node::{self, Node};
use super::python::{self, Python};
use crate::check::dockerfile::Dockerfile;
use crate::check::rules;

/// The files of a repository by their path from its root, `/` between the parts, with their text:
/// empty for what is none.
pub type Tree = BTreeMap<String, String>;

/// What `init` has to know to write its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// A DNS label.
    pub name: String,
    pub port: u16,
    pub health: String,
    pub mode: Mode,
    pub stack: Stack,
    /// What a person has to look at.
    pub notes: Vec<String>,
}

/// The variable that the sources read, and the value that they know as the one for debugging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    pub variable: &'static str,
    pub debug: &'static str,
}

/// How the service is built and run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stack {
    Python(Python),
    Node(Node),
    Go(Go),
    /// It has a Dockerfile of its own, of this path, which stays.
    Own(String),
}

/// Why nothing can be said of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing at its root says how it is built; these files below may.
    Nothing(Vec<String>),
    /// Its dependencies are locked by a tool that no Dockerfile is written for: the file that says
    /// so, and the tool.
    Tool(&'static str, &'static str),
}

/// What every Dockerfile begins with that init wrote. One that begins so is written anew like the
/// first time.
pub const MARK: &str = "# Written by `cicd init`, and yours from here on.\n";

/// The files that say how a project is built.
const PROJECT_FILES: [&str; 5] =
    ["pyproject.toml", "requirements.txt", "package.json", "go.mod", "Dockerfile"];

/// Reads a tree. `folder` is the name of the repository's folder.
///
/// # Errors
/// What is in the way of knowing how it is built.
pub fn read(tree: &Tree, folder: &str) -> Result<Facts, Unknown> {
    let mut notes = Vec::new();
    let stack = stack(tree, &mut notes)?;
    let own = matches!(stack, Stack::Own(_));
    let (health, found) = health(tree);
    if !found && !own {
        notes.push(
            "no health path was found: add a route /healthz that answers 200, or name yours in service.yaml".into(),
        );
    }
    let port = match &stack {
        Stack::Own(dockerfile) => exposed(&tree[dockerfile]),
        // uvicorn is told its port.
        Stack::Python(python) if python.start.is_application() => None,
        _ => sources(tree).find_map(|(_, text)| port(text)),
    };
    if let Some(low) = port.filter(|port| *port < 1024 && !own) {
        notes.push(format!(
            "the sources listen on port {low}, which the image's user may not: take one above 1023"
        ));
    }
    if let Some(file) = ignored(tree, &stack) {
        notes.push(format!(
            "the .dockerignore that is there leaves out {file}, which the Dockerfile copies: add a line !{file} to it"
        ));
    }
    Ok(Facts {
        name: label(&name(tree).unwrap_or_else(|| folder.to_string())),
        port: port.unwrap_or(8000),
        health,
        mode: mode(tree),
        stack,
        notes,
    })
}

fn stack(tree: &Tree, notes: &mut Vec<String>) -> Result<Stack, Unknown> {
    let has = |file: &str| tree.contains_key(file);
    let old = match tree.get("Dockerfile") {
        Some(text) if text.starts_with(MARK) && PROJECT_FILES[..4].iter().any(|file| has(file)) => {
            None
        }
        Some(text) if !is_old(text) => return Ok(Stack::Own("Dockerfile".into())),
        old => old,
    };
    if old.is_none()
        && let Some(path) =
            tree.keys().find(|path| path.ends_with("/Dockerfile") && path.matches('/').count() == 1)
        && !PROJECT_FILES
            .iter()
            .any(|file| has(&path.replace("Dockerfile", file)) && *file != "Dockerfile")
    {
        notes.push(format!(
            "{path} is taken for the service's; `image.context` of service.yaml is the repository's root"
        ));
        return Ok(Stack::Own(path.clone()));
    }
    if old.is_some() {
        notes.push(
            "the Dockerfile is on a retired base image: `cicd init --force` writes the modern one over it".into(),
        );
    }
    if has("pyproject.toml") || has("requirements.txt") {
        return Ok(Stack::Python(python::read(tree, old.is_some(), notes)));
    }
    if has("Pipfile") {
        return Err(Unknown::Tool("Pipfile", "Pipenv"));
    }
    if has("package.json") {
        return node::read(tree, notes).map(Stack::Node);
    }
    if has("go.mod") {
        return Ok(Stack::Go(go::read(tree, notes)));
    }
    let below = tree.keys().filter(|path| {
        path.rsplit_once('/').is_some_and(|(_, name)| PROJECT_FILES.contains(&name))
            && path.matches('/').count() <= 2
    });
    Err(Unknown::Nothing(below.cloned().collect()))
}

/// The shape of the platform's old guide.
fn is_old(text: &str) -> bool {
    let dockerfile = Dockerfile::parse(text);
    dockerfile.stages().iter().any(|stage| {
        rules::deprecated(&stage.base).is_some_and(|_| stage.base.contains("tiangolo/"))
    })
}

/// The sources of the service: no tests, no documentation.
pub fn sources(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.iter()
        .filter(|(path, _)| is_source(path))
        .map(|(path, text)| (path.as_str(), text.as_str()))
}

fn is_source(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let code =
        [".py", ".js", ".mjs", ".cjs", ".ts", ".mts", ".go"].iter().any(|end| name.ends_with(end));
    let aside =
        ["tests", "test", "__tests__", "docs", "scripts", "examples", "migrations", "alembic"];
    let folders = path.split('/').rev().skip(1);
    code && !folders.into_iter().any(|folder| aside.contains(&folder))
        && ![
            "_test.go",
            ".test.ts",
            ".test.js",
            ".spec.ts",
            ".spec.js",
            ".d.ts",
            "_test.py",
            ".config.js",
            ".config.ts",
        ]
        .iter()
        .any(|end| name.ends_with(end))
        && !name.starts_with("test_")
        && !["setup.py", "conftest.py", "noxfile.py", "tasks.py", "fabfile.py"].contains(&name)
}

/// The path that the sources answer on when somebody asks how the service is, and whether it was
/// found there.
fn health(tree: &Tree) -> (String, bool) {
    let paths = [
        "/healthz",
        "/health",
        "/livez",
        "/health/live",
        "/healthcheck",
        "/ping",
        "/api/health",
        "/api/healthz",
        "/status",
        "/up",
    ];
    for path in paths {
        for (_, text) in sources(tree) {
            let quoted = ['"', '\'', '`'].iter().any(|quote| {
                text.contains(&format!("{quote}{path}{quote}"))
                    || text.contains(&format!(" {path}{quote}"))
            });
            if quoted {
                // A router's own prefix stands before its paths.
                return (format!("{}{path}", prefix(text).unwrap_or_default()), true);
            }
        }
    }
    let root = |text: &str| {
        ["get(\"/\"", "get('/'", "Get(\"/\"", "HandleFunc(\"/\"", "\"GET /\""]
            .iter()
            .any(|route| text.contains(route))
    };
    match sources(tree).any(|(_, text)| root(text)) {
        true => ("/".into(), true),
        false => ("/healthz".into(), false),
    }
}

/// `/api` of `APIRouter(prefix="/api")`.
fn prefix(text: &str) -> Option<&str> {
    let router = text.split_once("APIRouter(")?.1.split(')').next()?;
    let value = router.split_once("prefix=")?.1.trim_start_matches(['"', '\'']);
    value
        .split(['"', '\''])
        .next()
        .filter(|prefix| prefix.starts_with('/') && !prefix.contains('{'))
}

fn mode(tree: &Tree) -> Mode {
    let says = |word: &str| {
        sources(tree).any(|(_, text)| {
            text.contains(&format!("\"{word}\"")) || text.contains(&format!("'{word}'"))
        })
    };
    let reads = |variable: &str| {
        let field = variable.to_lowercase();
        says(variable)
            || sources(tree).any(|(path, text)| {
                text.contains(&format!("env.{variable}"))
                    // A field of pydantic's settings is the variable of the same name.
                    || path.ends_with(".py")
                        && text.contains("BaseSettings")
                        && text.lines().any(|line| line.trim_start().starts_with(&format!("{field}:")))
            })
    };
    let variable = ["APP_MODE", "APP_ENV", "ENVIRONMENT", "MODE", "NODE_ENV"]
        .into_iter()
        .find(|name| reads(name));
    let development = says("development") && !says("debug") || variable == Some("NODE_ENV");
    Mode {
        variable: variable.unwrap_or("APP_MODE"),
        debug: if development { "development" } else { "debug" },
    }
}

/// The port that a source listens on, or takes when the environment names none.
fn port(text: &str) -> Option<u16> {
    let marks = [
        "PORT ||",
        "PORT ??",
        "\"PORT\",",
        "'PORT',",
        ".listen(",
        "port=",
        "port:",
        "ListenAndServe(\"",
        "Addr: \"",
        "Addr:    \"",
    ];
    marks.iter().find_map(|mark| {
        text.split(mark).skip(1).find_map(|rest| {
            let rest = rest
                .trim_start_matches([' ', '"', '\''])
                .trim_start_matches("0.0.0.0")
                .trim_start_matches(':');
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok().filter(|port| *port > 1)
        })
    })
}

/// A file that the Dockerfile copies and the .dockerignore that is there leaves out.
fn ignored(tree: &Tree, stack: &Stack) -> Option<String> {
    let ignore = tree.get(".dockerignore")?;
    let copied = match stack {
        Stack::Python(python) => python.copied(),
        Stack::Node(_) => vec!["package.json".to_string(), "package-lock.json".to_string()],
        Stack::Go(_) => vec!["go.mod".to_string()],
        Stack::Own(_) => vec![],
    };
    copied.into_iter().find(|file| rules::leaves_out(ignore, file))
}

/// What the project's own file calls it.
fn name(tree: &Tree) -> Option<String> {
    let project: Option<toml::Table> =
        tree.get("pyproject.toml").and_then(|text| text.parse().ok());
    let python = project.and_then(|project| {
        let named = project.get("project").or_else(|| project.get("tool")?.get("poetry"))?;
        Some(named.get("name")?.as_str()?.to_string())
    });
    let node = || {
        serde_json::from_str::<serde_json::Value>(tree.get("package.json")?).ok()?["name"]
            .as_str()
            .map(str::to_string)
    };
    let go = || {
        let module =
            tree.get("go.mod")?.lines().find_map(|line| line.strip_prefix("module "))?.trim();
        // example.org/visits/v2: the last part is the major version.
        let version =
            |part: &&str| part.strip_prefix('v').is_some_and(|rest| rest.parse::<u32>().is_ok());
        module.rsplit('/').find(|part| !version(part)).map(str::to_string)
    };
    python
        .or_else(node)
        .or_else(go)
        .map(|name| name.rsplit('/').next().unwrap_or_default().to_string())
}

/// A text as a DNS label.
fn label(text: &str) -> String {
    let lower = text.to_lowercase();
    let parts: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let joined = parts.join("-");
    let name: String =
        joined.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).chars().take(40).collect();
    if name.is_empty() { "service".into() } else { name.trim_end_matches('-').to_string() }
}

/// The port of a Dockerfile that stays.
fn exposed(dockerfile: &str) -> Option<u16> {
    let dockerfile = Dockerfile::parse(dockerfile);
    dockerfile
        .instructions
        .iter()
        .rfind(|one| one.keyword == "EXPOSE")?
        .text
        .split(['/', ' '])
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect()
    }

    fn told(files: &[(&str, &str)]) -> Facts {
        read(&tree(files), "My Service").expect("it is something")
    }

    #[test]
    fn a_dockerfile_of_its_own_stays() {
        let own = told(&[("Dockerfile", "FROM x\nEXPOSE 9000/tcp\n"), ("package.json", "{}")]);
        assert_eq!(
            (own.stack, own.port, own.name.as_str()),
            (Stack::Own("Dockerfile".into()), 9000, "my-service")
        );
        let written = format!("{MARK}\nFROM x\n");
        let ours = told(&[("Dockerfile", &written), ("go.mod", "module x\ngo 1.26\n")]);
        assert!(matches!(ours.stack, Stack::Go(_)), "what init wrote is written anew: {ours:?}");
        let elsewhere = told(&[("docker/Dockerfile", "FROM x\n"), ("requirements.txt", "fastapi")]);
        assert_eq!(
            (elsewhere.stack, elsewhere.notes.len()),
            (Stack::Own("docker/Dockerfile".into()), 1)
        );
        let another = told(&[
            ("web/Dockerfile", "FROM x\n"),
            ("web/package.json", "{}"),
            ("requirements.txt", ""),
        ]);
        assert!(
            matches!(another.stack, Stack::Python(_)),
            "what is in web is another service: {another:?}"
        );
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        let unknown =
            |files: &[(&str, &str)]| read(&tree(files), "x").expect_err("nothing is known");
        assert_eq!(unknown(&[]), Unknown::Nothing(vec![]));
        let below =
            unknown(&[("backend/pyproject.toml", ""), ("web/package.json", ""), ("README.md", "")]);
        assert_eq!(
            below,
            Unknown::Nothing(vec!["backend/pyproject.toml".into(), "web/package.json".into()])
        );
        assert_eq!(
            unknown(&[("package.json", "{}"), ("yarn.lock", "")]),
            Unknown::Tool("yarn.lock", "Yarn")
        );
        assert_eq!(
            unknown(&[("package.json", r#"{"packageManager": "pnpm@10.1.0"}"#)]),
            Unknown::Tool("packageManager of package.json", "pnpm")
        );
        assert_eq!(unknown(&[("Pipfile", "")]), Unknown::Tool("Pipfile", "Pipenv"));
    }

    #[test]
    fn the_sources_say_health_mode_and_port() {
        // The text of a Go source; health, the mode's variable and its debug value, the port.
        let cases = [
            ("", "/healthz", "APP_MODE", "debug", 8000),
            ("\"/health\" os.Getenv(\"APP_ENV\")", "/health", "APP_ENV", "debug", 8000),
            (
                "mux.HandleFunc(\"GET /livez\", x); strings.Split(p, \"/\")",
                "/livez",
                "APP_MODE",
                "debug",
                8000,
            ),
            ("mux.HandleFunc(\"/\", x); MODEL", "/", "APP_MODE", "debug", 8000),
            (
                "os.Getenv(\"ENVIRONMENT\") == \"development\"",
                "/healthz",
                "ENVIRONMENT",
                "development",
                8000,
            ),
            ("http.ListenAndServe(\":8080\", nil)", "/healthz", "APP_MODE", "debug", 8080),
            ("http.Server{Addr: \"0.0.0.0:9090\"}", "/healthz", "APP_MODE", "debug", 9090),
            ("env(\"PORT\", \"3000\")", "/healthz", "APP_MODE", "debug", 3000),
        ];
        for (text, health, variable, debug, port) in cases {
            let facts = told(&[
                ("go.mod", "module x\ngo 1.26\n"),
                ("main.go", &format!("package main\n{text}")),
            ]);
            assert_eq!(
                (facts.health.as_str(), facts.mode, facts.port),
                (health, Mode { variable, debug }, port),
                "{text}"
            );
        }
        let low = told(&[
            ("go.mod", "module x\ngo 1.26\n"),
            ("main.go", "package main\n\"/healthz\" ListenAndServe(\":80\""),
        ]);
        assert!(low.notes.iter().any(|note| note.contains("above 1023")), "{low:?}");
        let settings = "class S(BaseSettings):\n    app_env: str\nrouter = APIRouter(prefix=\"/api\")\n'/health'";
        let python = told(&[("requirements.txt", "fastapi uvicorn"), ("s.py", settings)]);
        assert_eq!((python.mode.variable, python.health.as_str()), ("APP_ENV", "/api/health"));
    }

    #[test]
    fn a_dockerignore_that_is_there_is_read() {
        let files = [
            ("requirements.txt", "fastapi uvicorn"),
            ("app/main.py", "'/health'\napp = FastAPI()"),
        ];
        let seen = |ignore: &'static str| {
            let mut files = files.to_vec();
            files.push((".dockerignore", ignore));
            told(&files).notes
        };
        assert!(!seen(".git\n").iter().any(|note| note.contains(".dockerignore")));
        assert!(seen("*\n!app\n").iter().any(|note| note.contains("!requirements.txt")));
    }

    #[test]
    fn a_name_is_a_dns_label() {
        for (text, expected) in [
            ("My Service", "my-service"),
            ("patients_api", "patients-api"),
            ("42", "service"),
            ("7up", "up"),
            ("é", "service"),
        ] {
            assert_eq!(label(text), expected);
        }
        assert_eq!(told(&[("go.mod", "module example.org/visits/v2\ngo 1.26\n")]).name, "visits");
        assert_eq!(told(&[("package.json", r#"{"name": "@org/web"}"#)]).name, "web");
    }
}
