//! What a repository is, from its files. Pure.

use std::collections::BTreeMap;

use crate::check::dockerfile::Dockerfile;
use crate::check::rules;

/// The text files of a repository by their path from its root, `/` between the parts.
pub type Tree = BTreeMap<String, String>;

/// What `init` has to know to write its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// A DNS label.
    pub name: String,
    pub port: u16,
    pub health: String,
    /// The mode variable that the sources read.
    pub mode: String,
    pub stack: Stack,
    /// What a person has to look at.
    pub notes: Vec<String>,
}

/// How the service is built and run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stack {
    Python(Python),
    Node(Node),
    /// The path of its main package: `.`, `./cmd/api`; and the version of go.mod.
    Go {
        package: String,
        version: String,
    },
    /// It has a Dockerfile of its own, which stays.
    Own,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    pub installer: Installer,
    /// `app.main:app`, or none: then `main` is run as a module.
    pub app: Option<String>,
    pub main: String,
    /// The files and folders of the sources at the root.
    pub sources: Vec<String>,
    /// What the old base image brought along, and the dependencies do not name.
    pub missing: Vec<&'static str>,
}

/// Who installs a Python project's dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installer {
    Uv,
    Poetry,
    Pdm,
    Pip,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The words of the start command.
    pub command: Vec<String>,
    pub build: bool,
}

/// Reads a tree. `folder` is the name of the repository's folder. None when nothing in it says what it is.
pub fn read(tree: &Tree, folder: &str) -> Option<Facts> {
    let mut notes = Vec::new();
    let stack = stack(tree, &mut notes)?;
    let sources: Vec<&str> = tree.iter().filter(|(path, _)| is_source(path)).map(|(_, text)| text.as_str()).collect();
    let says = |word: &str| {
        sources.iter().any(|text| text.contains(&format!("\"{word}\"")) || text.contains(&format!("'{word}'")))
    };
    let health = ["/healthz", "/health", "/livez", "/ping", "/api/health", "/"].into_iter().find(|path| says(path));
    if health.is_none() && stack != Stack::Own {
        notes.push(
            "no health path was found: add a route /healthz that answers 200, or name yours in service.yaml".into(),
        );
    }
    let mode = ["APP_MODE", "APP_ENV", "ENVIRONMENT", "MODE"]
        .into_iter()
        .find(|name| sources.iter().any(|text| text.contains(name)));
    Some(Facts {
        name: label(&name(tree).unwrap_or_else(|| folder.to_string())),
        port: exposed(tree).unwrap_or(8000),
        health: health.unwrap_or("/healthz").to_string(),
        mode: mode.unwrap_or("APP_MODE").to_string(),
        stack,
        notes,
    })
}

fn stack(tree: &Tree, notes: &mut Vec<String>) -> Option<Stack> {
    let old = match tree.get("Dockerfile") {
        Some(text) if !is_old(text) => return Some(Stack::Own),
        old => old,
    };
    if old.is_some() {
        notes.push(
            "the Dockerfile is on a retired base image: `cicd init --force` writes the modern one over it".into(),
        );
    }
    let has = |file: &str| tree.contains_key(file);
    if has("pyproject.toml") || has("requirements.txt") {
        return Some(Stack::Python(python(tree, old.is_some(), notes)));
    }
    if let Some(package) = tree.get("package.json") {
        if !has("package-lock.json") {
            notes.push("there is no package-lock.json: `npm install` writes it; commit it".into());
        }
        if !tree.iter().any(|(path, text)| is_source(path) && text.contains("SIGTERM")) {
            notes.push("no source handles SIGTERM, which Node does not by itself as the first process: process.on('SIGTERM', () => server.close(() => process.exit(0)))".into());
        }
        return Some(Stack::Node(node(package, tree)));
    }
    let module = tree.get("go.mod")?;
    let version = module.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or("1.27").trim();
    let version: Vec<&str> = version.split('.').take(2).collect();
    let main = tree
        .iter()
        .find(|(path, text)| path.ends_with(".go") && text.lines().any(|line| line.trim() == "package main"));
    let package =
        main.and_then(|(path, _)| path.rsplit_once('/')).map_or(".".to_string(), |(folder, _)| format!("./{folder}"));
    Some(Stack::Go { package, version: version.join(".") })
}

/// The shape of the platform's old guide.
fn is_old(text: &str) -> bool {
    let dockerfile = Dockerfile::parse(text);
    dockerfile
        .stages()
        .iter()
        .any(|stage| rules::deprecated(&stage.base).is_some_and(|_| stage.base.contains("tiangolo/")))
}

fn python(tree: &Tree, old: bool, notes: &mut Vec<String>) -> Python {
    let has = |file: &str| tree.contains_key(file);
    let project = tree.get("pyproject.toml").map(String::as_str).unwrap_or_default();
    let (installer, lock, command) = if has("poetry.lock") || project.contains("[tool.poetry") {
        (Installer::Poetry, "poetry.lock", "poetry lock")
    } else if has("pdm.lock") || project.contains("[tool.pdm") {
        (Installer::Pdm, "pdm.lock", "pdm lock")
    } else if has("pyproject.toml") && (has("uv.lock") || !has("requirements.txt")) {
        (Installer::Uv, "uv.lock", "uv lock")
    } else {
        (Installer::Pip, "requirements.txt", "")
    };
    if !has(lock) {
        notes.push(format!("there is no {lock}: `{command}` writes it; commit it"));
    }
    let mut apps: Vec<String> = tree
        .iter()
        .filter(|(path, _)| path.ends_with(".py") && is_source(path))
        .filter_map(|(path, text)| application(path, text))
        .collect();
    // The one nearest to the root, and the one that is named as most are.
    apps.sort_by_key(|app| (app.matches('.').count(), !app.ends_with("main:app"), app.clone()));
    let app = apps.first().cloned();
    // What a module of the Python sources begins with: a package's folder or a file at the root.
    let mut sources: Vec<String> = tree
        .keys()
        .filter(|path| path.ends_with(".py") && is_source(path))
        .map(|path| path.split('/').next().unwrap_or(path).to_string())
        .collect();
    sources.dedup();
    let main = match sources.iter().find(|source| !source.ends_with(".py")) {
        Some(package) if !has("main.py") => format!("{package}.main"),
        _ => "main".into(),
    };
    let named =
        format!("{project}\n{}", tree.get("requirements.txt").map(String::as_str).unwrap_or_default()).to_lowercase();
    let missing: Vec<&str> =
        ["fastapi", "uvicorn"].into_iter().filter(|package| app.is_some() && !named.contains(package)).collect();
    if !missing.is_empty() {
        let missing = missing.join(" and ");
        notes
            .push(format!("the dependencies do not name {missing}: the Dockerfile installs it; better add it to them"));
    }
    if app.is_none() {
        notes.push(format!(
            "no FastAPI application was found: the image runs `python -m {main}`; correct CMD if it is another module"
        ));
    } else if old {
        notes.push("gunicorn is gone: uvicorn runs WEB_CONCURRENCY processes itself; GUNICORN_CONF and prestart.sh are not read any more".into());
    }
    Python { installer, app, main, sources, missing }
}

/// `module:name` of the FastAPI application that a source makes at its outermost level.
fn application(path: &str, text: &str) -> Option<String> {
    let name = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let name = name.split(':').next()?.trim_end();
        let made = value.trim_start().trim_start_matches("fastapi.").starts_with("FastAPI(");
        (made && !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
            .then(|| name.to_string())
    })?;
    let module = path.strip_suffix(".py")?.trim_end_matches("/__init__");
    let module = module.strip_prefix("src/").unwrap_or(module).replace('/', ".");
    Some(format!("{module}:{name}"))
}

fn node(package: &str, tree: &Tree) -> Node {
    let package: serde_json::Value = serde_json::from_str(package).unwrap_or_default();
    let start: Vec<String> =
        package["scripts"]["start"].as_str().unwrap_or_default().split_whitespace().map(str::to_string).collect();
    let command = match start.first().map(String::as_str) {
        Some("node") => start,
        _ => {
            let main = package["main"].as_str().map(str::to_string);
            let known = ["server.js", "index.js", "src/server.js", "src/index.js"]
                .into_iter()
                .find(|file| tree.contains_key(*file));
            vec!["node".into(), main.or(known.map(str::to_string)).unwrap_or_else(|| "server.js".into())]
        }
    };
    Node { command, build: package["scripts"]["build"].is_string() }
}

/// What the project's own file calls it.
fn name(tree: &Tree) -> Option<String> {
    let project: Option<toml::Table> = tree.get("pyproject.toml").and_then(|text| text.parse().ok());
    let python = project.and_then(|project| {
        let named = project.get("project").or_else(|| project.get("tool")?.get("poetry"))?;
        Some(named.get("name")?.as_str()?.to_string())
    });
    let node = || {
        serde_json::from_str::<serde_json::Value>(tree.get("package.json")?).ok()?["name"].as_str().map(str::to_string)
    };
    let go = || tree.get("go.mod")?.lines().find_map(|line| line.strip_prefix("module ")).map(str::to_string);
    python.or_else(node).or_else(go).map(|name| name.rsplit('/').next().unwrap_or_default().to_string())
}

/// A text as a DNS label.
fn label(text: &str) -> String {
    let lower = text.to_lowercase();
    let parts: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let joined = parts.join("-");
    let name: String = joined.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).chars().take(40).collect();
    if name.is_empty() { "service".into() } else { name.trim_end_matches('-').to_string() }
}

/// The port of a Dockerfile that stays.
fn exposed(tree: &Tree) -> Option<u16> {
    let dockerfile = Dockerfile::parse(tree.get("Dockerfile")?);
    dockerfile.instructions.iter().rfind(|one| one.keyword == "EXPOSE")?.text.split(['/', ' ']).next()?.parse().ok()
}

fn is_source(path: &str) -> bool {
    let part = |name: &str| path.split('/').any(|part| part == name);
    let code = [".py", ".js", ".mjs", ".cjs", ".ts", ".go"].iter().any(|end| path.ends_with(end));
    code && !["tests", "test", "docs", "scripts", "migrations"].iter().any(|name| part(name))
        && !path.ends_with("_test.go")
        && !path.starts_with("test_")
        && path != "setup.py"
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/healthz')\n";

    fn told(files: &[(&str, &str)]) -> Facts {
        let tree = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        read(&tree, "My Service").expect("it is something")
    }

    #[test]
    fn python_projects_are_known_by_their_files() {
        let cases: &[(&[(&str, &str)], Installer, Option<&str>, usize)] = &[
            (
                &[
                    ("pyproject.toml", "[project]\nname='a'\ndependencies=['fastapi','uvicorn']"),
                    ("uv.lock", ""),
                    ("app/main.py", APP),
                ],
                Installer::Uv,
                Some("app.main:app"),
                0,
            ),
            (
                &[("pyproject.toml", "[project]\nname='a'\ndependencies=['fastapi','uvicorn']"), ("src/a/api.py", APP)],
                Installer::Uv,
                Some("a.api:app"),
                1,
            ),
            (
                &[
                    ("pyproject.toml", "[tool.poetry]\nname='a'\n# fastapi uvicorn"),
                    ("poetry.lock", ""),
                    ("main.py", APP),
                ],
                Installer::Poetry,
                Some("main:app"),
                0,
            ),
            (
                &[
                    ("pyproject.toml", "[tool.pdm]\n# fastapi uvicorn"),
                    ("pdm.lock", ""),
                    ("web/app.py", "api: FastAPI = FastAPI(x)\n'/health'"),
                ],
                Installer::Pdm,
                Some("web.app:api"),
                0,
            ),
            (
                &[("requirements.txt", "fastapi\nuvicorn"), ("app/main.py", APP), ("tests/main.py", "x = FastAPI()")],
                Installer::Pip,
                Some("app.main:app"),
                0,
            ),
            (&[("requirements.txt", "flask"), ("job/main.py", "'/healthz'")], Installer::Pip, None, 1),
        ];
        for (files, installer, app, notes) in cases {
            let facts = told(files);
            let Stack::Python(python) = &facts.stack else { panic!("{facts:?}") };
            assert_eq!(
                (python.installer, python.app.as_deref(), facts.notes.len()),
                (*installer, *app, *notes),
                "{facts:?}"
            );
        }
    }

    #[test]
    fn others_are_known_too() {
        let node = told(&[
            ("package.json", r#"{"name":"@org/web","scripts":{"start":"node src/x.js"}}"#),
            ("package-lock.json", "{}"),
            ("src/x.js", "'/health' SIGTERM APP_ENV"),
        ]);
        assert_eq!(node.stack, Stack::Node(Node { command: vec!["node".into(), "src/x.js".into()], build: false }));
        assert_eq!(
            (node.name.as_str(), node.health.as_str(), node.mode.as_str(), node.notes.len()),
            ("web", "/health", "APP_ENV", 0)
        );
        let go = told(&[
            ("go.mod", "module example.org/api\n\ngo 1.27.1\n"),
            ("cmd/api/main.go", "package main\n\"/healthz\""),
        ]);
        assert_eq!(go.stack, Stack::Go { package: "./cmd/api".into(), version: "1.27".into() });
        let own = told(&[("Dockerfile", "FROM x\nEXPOSE 9000/tcp\n")]);
        assert_eq!((own.stack, own.port, own.name.as_str()), (Stack::Own, 9000, "my-service"));
        let old = told(&[
            ("Dockerfile", "FROM tiangolo/uvicorn-gunicorn-fastapi:python3.7\n"),
            ("pyproject.toml", "[tool.poetry]\nname='old'"),
            ("poetry.lock", ""),
            ("app/main.py", APP),
        ]);
        let Stack::Python(python) = &old.stack else { panic!("{old:?}") };
        assert_eq!((python.missing.as_slice(), old.notes.len()), (["fastapi", "uvicorn"].as_slice(), 3));
        assert_eq!(read(&Tree::new(), "x"), None);
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
    }
}
