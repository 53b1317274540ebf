//! What a Python project is, from its files, and the Dockerfile that builds and runs it. Pure.

use toml::Table;

use super::facts::{Tree, sources};
use crate::check::rules::{is_secret_file, leaves_out};

/// The versions of the tools that the build stages install. Everything else comes from the
/// project's own lock file. pdm says itself which versions it was tested with (`locked`); a later
/// release of what it needs has broken it before.
const UV: &str = "uv==0.13.9";
const POETRY: &str = "poetry==2.5.1";
const PDM: &str = "pdm[locked]==2.29.3";
const FASTAPI: &str = "fastapi==0.165.0";
const UVICORN: &str = "uvicorn==0.54.0";

/// The minor versions of Python 3 that get security fixes, the best for a service first.
/// <https://devguide.python.org/versions/>
const VERSIONS: [u32; 5] = [13, 14, 12, 11, 15];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    pub installer: Installer,
    pub start: Start,
    /// `3.13`
    pub version: String,
    /// The files and folders at the root that the running service reads.
    pub sources: Vec<String>,
    /// The folders that modules are found in, from the root; the root itself is always one.
    pub roots: Vec<String>,
    /// What the dependencies are installed from: the lock file and those beside it.
    pub manifests: Vec<String>,
    /// What the project itself is built from beside its sources, when it has to be installed to
    /// work.
    pub installed: Option<Vec<String>>,
    /// What the dependencies do not name, and the service needs.
    pub missing: Vec<&'static str>,
}

/// Who installs the dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installer {
    Uv,
    Poetry,
    Pdm,
    Pip,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// `app.main:app`, run by uvicorn.
    Application(String),
    /// `app.main:create_app`, a function that makes one.
    Factory(String),
    /// `python -m app.main`
    Module(String),
}

impl Start {
    pub fn is_application(&self) -> bool {
        !matches!(self, Start::Module(_))
    }
}

impl Python {
    /// What the Dockerfile copies from the repository.
    pub fn copied(&self) -> Vec<String> {
        let mut copied = self.manifests.clone();
        let more = self.installed.iter().flatten().chain(&self.sources);
        for file in more {
            if !copied.contains(file) {
                copied.push(file.clone());
            }
        }
        copied
    }
}

pub fn read(tree: &Tree, old: bool, notes: &mut Vec<String>) -> Python {
    let has = |file: &str| tree.contains_key(file);
    let text = tree.get("pyproject.toml").map(String::as_str).unwrap_or_default();
    let project: Table = text.parse().unwrap_or_default();
    if project.is_empty() && !text.trim().is_empty() {
        notes.push("pyproject.toml is not TOML: what it says could not be read".into());
    }
    let (installer, lock, command) = if has("poetry.lock") || tool(&project, "poetry").is_some() {
        (Installer::Poetry, "poetry.lock", "poetry lock")
    } else if has("pdm.lock") || tool(&project, "pdm").is_some() {
        (Installer::Pdm, "pdm.lock", "pdm lock")
    } else if has("pyproject.toml") && (has("uv.lock") || !has("requirements.txt")) {
        (Installer::Uv, "uv.lock", "uv lock")
    } else {
        (Installer::Pip, "requirements.txt", "")
    };
    if !has(lock) {
        notes.push(format!("there is no {lock}: `{command}` writes it; commit it"));
    }
    let mut manifests = vec![lock.to_string()];
    match installer {
        Installer::Pip => {
            included(tree, "requirements.txt", &mut manifests);
            if !manifests.iter().filter_map(|file| tree.get(file)).any(|text| text.contains("==")) {
                notes.push("requirements.txt pins no version: `pip-compile --generate-hashes` or `uv pip compile` writes one that does".into());
            }
        }
        _ => manifests.insert(0, "pyproject.toml".into()),
    }

    let start = start(tree);
    let sources = root_sources(tree);
    let unread = unread(tree, &sources, &manifests);
    if !unread.is_empty() {
        notes.push(format!(
            "the image has nothing of {}, which no source names, or which may be private: when the service reads it and everybody may who has \
             the image, add a COPY, and a line to .dockerignore",
            unread.join(", ")
        ));
    }
    match &start {
        Start::Module(module) => notes.push(match has_main(tree, module) {
            true => format!("the image runs `python -m {module}`, as no FastAPI application stands at the outermost level of a module"),
            false => format!("no FastAPI application was found: the image runs `python -m {module}`; correct CMD if it is another module"),
        }),
        _ if old => notes.push(gunicorn_is_gone(tree)),
        _ => {}
    }
    let missing = missing(tree, &manifests, text, start.is_application());
    if !missing.is_empty() {
        let missing = missing.join(" and ");
        notes
            .push(format!("the dependencies do not name {missing}: the Dockerfile installs it; better add it to them"));
    }
    Python {
        installer,
        version: version(tree, &project, notes),
        roots: roots(tree, &start),
        installed: installed(tree, &project),
        start,
        sources,
        manifests,
        missing,
    }
}

/// What of the old base image's ways is not gone on with.
fn gunicorn_is_gone(tree: &Tree) -> String {
    let read = ["prestart.sh", "start.sh", "start-reload.sh", "gunicorn_conf.py"];
    let found: Vec<&str> = tree
        .keys()
        .map(String::as_str)
        .filter(|path| read.contains(&path.rsplit('/').next().unwrap_or(path)))
        .collect();
    let unread = if found.is_empty() {
        "GUNICORN_CONF and prestart.sh".to_string()
    } else {
        found.join(" and ")
    };
    format!(
        "gunicorn is gone: uvicorn runs WEB_CONCURRENCY processes itself. {unread}: not read any more; what has to be done before a \
         deploy, such as a migration, is `before-deploy` of service.yaml"
    )
}

fn tool<'a>(project: &'a Table, name: &str) -> Option<&'a Table> {
    project.get("tool")?.get(name)?.as_table()
}

/// The files that a requirements file names by `-r` and `-c`.
fn included(tree: &Tree, file: &str, found: &mut Vec<String>) {
    let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    for line in tree.get(file).map(String::as_str).unwrap_or_default().lines() {
        let name = ["-r ", "-c ", "--requirement ", "--constraint "]
            .iter()
            .find_map(|flag| line.trim().strip_prefix(flag));
        let Some(name) = name.and_then(|name| name.split_whitespace().next()) else { continue };
        let path = format!("{folder}{}", name.trim_start_matches("./"));
        if tree.contains_key(&path) && !found.contains(&path) {
            found.push(path.clone());
            included(tree, &path, found);
        }
    }
}

fn modules(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    sources(tree).filter(|(path, _)| path.ends_with(".py"))
}

/// The application nearest to the root, and the one that is named as most are; else what makes one;
/// else what runs by itself.
fn start(tree: &Tree) -> Start {
    let nearest = |found: &mut Vec<String>, named: &str| {
        found.sort_by_key(|one| (one.matches('.').count(), !one.ends_with(named), one.clone()));
        found.first().cloned()
    };
    let told = |of: fn(&str) -> Option<String>| {
        modules(tree)
            .filter_map(move |(path, text)| Some(format!("{}:{}", module(tree, path), of(text)?)))
    };
    let mut applications: Vec<String> = told(application).collect();
    if let Some(application) = nearest(&mut applications, "main:app") {
        return Start::Application(application);
    }
    let mut programs: Vec<String> = modules(tree)
        .filter(|(path, text)| path.ends_with("/__main__.py") || runs_itself(text))
        .map(|(path, _)| module(tree, path))
        .collect();
    let mut factories: Vec<String> = told(factory).collect();
    if let Some(factory) = nearest(&mut factories, ":create_app") {
        return Start::Factory(factory);
    }
    if let Some(program) = nearest(&mut programs, "main") {
        return Start::Module(program);
    }
    let package =
        root_sources(tree).into_iter().find(|source| !source.ends_with(".py") && source != "src");
    Start::Module(match package {
        Some(package) if !tree.contains_key("main.py") => format!("{package}.main"),
        _ => "main".into(),
    })
}

fn runs_itself(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("if __name__ =="))
}

fn has_main(tree: &Tree, wanted: &str) -> bool {
    modules(tree).any(|(path, text)| {
        module(tree, path) == wanted && (path.ends_with("/__main__.py") || runs_itself(text))
    })
}

const MADE_BY: [&str; 4] = ["FastAPI(", "Starlette(", "Litestar(", "Quart("];

/// The name of the application that a source makes at its outermost level.
fn application(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let name = name.split(':').next()?.trim_end();
        let value = value.trim_start();
        let value = value
            .split_once('.')
            .filter(|(module, _)| is_name(module))
            .map_or(value, |(_, rest)| rest);
        let made = MADE_BY.iter().any(|by| value.starts_with(by));
        (made && is_name(name)).then(|| name.to_string())
    })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The name of a function at the outermost level that makes an application and has to be told
/// nothing.
fn factory(text: &str) -> Option<String> {
    text.split("\ndef ").skip(usize::from(!text.starts_with("def "))).find_map(|rest| {
        let rest = rest.trim_start_matches("def ");
        let (name, rest) = rest.split_once('(')?;
        let (parameters, rest) = rest.split_once("):").or_else(|| rest.split_once(") ->"))?;
        let body = rest.split("\ndef ").next()?.split("\nclass ").next()?;
        let told_nothing = parameters.split(',').map(str::trim).all(|one| {
            one.is_empty() || one.contains('=') || one.starts_with('*') || one.ends_with(']')
        });
        let makes = MADE_BY.iter().any(|by| body.contains(by)) && body.contains("return ");
        (makes && told_nothing && is_name(name)).then(|| name.to_string())
    })
}

/// The name that a source is imported by.
fn module(tree: &Tree, path: &str) -> String {
    let path = path.strip_suffix(".py").unwrap_or(path);
    let path = path.trim_end_matches("/__init__").trim_end_matches("/__main__");
    let package = |folder: &str| tree.contains_key(&format!("{folder}/__init__.py"));
    let mut root = path.strip_prefix("src/").map_or("", |_| "src");
    // Folders above a package are no packages: backend/app/__init__.py without backend/__init__.py
    // is `app`.
    let folders: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
    for pair in folders.windows(2) {
        if !package(&path[..pair[0]]) && package(&path[..pair[1]]) {
            root = &path[..pair[0]];
        }
    }
    path.strip_prefix(root).unwrap_or(path).trim_start_matches('/').replace('/', ".")
}

/// Where modules are looked for beside the root: src, the folder above the application's package,
/// and, as the old base image did it, ./app.
fn roots(tree: &Tree, start: &Start) -> Vec<String> {
    let (Start::Application(name) | Start::Factory(name) | Start::Module(name)) = start;
    let own = name.split(':').next().unwrap_or(name);
    let mut roots: Vec<String> = modules(tree)
        .filter(|(path, _)| module(tree, path) == own)
        .filter_map(|(path, _)| {
            let tail = format!("{}.py", own.replace('.', "/"));
            let init = format!("{}/__init__.py", own.replace('.', "/"));
            let root = path.strip_suffix(&tail).or_else(|| path.strip_suffix(&init))?;
            Some(root.trim_end_matches('/').to_string())
        })
        .collect();
    roots.extend(["src", "app"].map(str::to_string));
    roots.retain(|root| {
        !root.is_empty() && modules(tree).any(|(path, _)| path.starts_with(&format!("{root}/")))
    });
    roots.sort();
    roots.dedup();
    roots
}

/// What stands at the root and is needed when the service runs: sources, migrations, and folders
/// that the sources name.
fn root_sources(tree: &Tree) -> Vec<String> {
    let top = |path: &str| path.split('/').next().unwrap_or(path).to_string();
    let mut found: Vec<String> = modules(tree).map(|(path, _)| top(path)).collect();
    found.extend(root_data(tree).filter(|name| is_read(tree, name)).map(str::to_string));
    found.sort();
    found.dedup();
    found
}

/// What else stands at the root and may be read: folders, and files that are not about the project
/// itself.
fn root_data(tree: &Tree) -> impl Iterator<Item = &str> {
    let aside = [
        "bench",
        "benchmarks",
        "chart",
        "charts",
        "ci",
        "deploy",
        "doc",
        "docker",
        "docs",
        "examples",
        "helm",
        "infra",
        "infrastructure",
        "k8s",
        "notebooks",
        "requirements",
        "scripts",
        "terraform",
        "test",
        "tests",
        "tools",
    ];
    let mut tops: Vec<&str> =
        tree.keys().map(|path| path.split('/').next().unwrap_or(path)).collect();
    tops.dedup();
    tops.into_iter().filter(move |name| !name.starts_with('.') && !aside.contains(name))
}

/// Whether what has this name at the root is not for an image: git leaves it out, or it may hold
/// secrets or what people entrusted to the service.
fn is_private(tree: &Tree, name: &str) -> bool {
    let lower = name.to_lowercase();
    let folders = [
        "backup", "backups", "dump", "dumps", "log", "logs", "media", "output", "outputs", "temp",
        "tmp", "upload", "uploads", "var",
    ];
    let begins = ["secret", "credential", "private"];
    let ends = [".key", ".pem", ".crt", ".db", ".sqlite", ".sqlite3", ".dump", ".log"];
    tree.get(".gitignore").is_some_and(|ignore| leaves_out(ignore, name))
        || is_secret_file(name)
        || folders.contains(&lower.as_str())
        || begins.iter().any(|begin| lower.starts_with(begin))
        || ends.iter().any(|end| lower.ends_with(end))
}

/// Whether the service reads what stands at the root under this name: a migration, or what a source
/// says by `"data/x.csv"`, `Path("data")`, `/ "data"`, `directory="data"`, or a file's whole name.
fn is_read(tree: &Tree, name: &str) -> bool {
    if ["alembic", "migrations", "alembic.ini"].contains(&name) {
        return true;
    }
    // A Dockerfile takes a space for the end of a name.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    is_named(tree, name) && !is_private(tree, name) && name.chars().all(plain)
}

/// Whether a source says the name of what stands at the root.
fn is_named(tree: &Tree, name: &str) -> bool {
    let is_file = tree.contains_key(name);
    let page = ["templates", "static"].contains(&name);
    modules(tree).any(|(_, text)| {
        ['"', '\''].into_iter().any(|quote| {
            let quoted = format!("{quote}{name}{quote}");
            let before = ["Path(", "/ ", "directory=", "open("];
            text.contains(&format!("{quote}{name}/"))
                || text.contains(&format!("{quote}./{name}"))
                || page && text.contains(&format!("{quote}{name}"))
                || is_file && text.contains(&quoted)
                || before.iter().any(|before| text.contains(&format!("{before}{quoted}")))
        })
    })
}

/// What stands at the root and is not copied: folders, and files that a source names.
fn unread<'a>(tree: &'a Tree, copied: &[String], manifests: &[String]) -> Vec<&'a str> {
    let told = |name: &&str| !tree.contains_key(*name) || is_named(tree, name);
    let is_copied = |name: &str| copied.iter().chain(manifests).any(|copied| copied == name);
    root_data(tree).filter(|name| told(name) && !is_copied(name)).collect()
}

/// The files that the project is built from, when it looks at run time for what only an installed
/// project has: its version, its entry points.
fn installed(tree: &Tree, project: &Table) -> Option<Vec<String>> {
    let packaged = match (tool(project, "uv"), tool(project, "poetry"), tool(project, "pdm")) {
        (Some(uv), ..) if uv.contains_key("package") => uv["package"].as_bool() == Some(true),
        (_, Some(poetry), _) if poetry.contains_key("package-mode") => {
            poetry["package-mode"].as_bool() == Some(true)
        }
        (.., Some(pdm)) => pdm.get("distribution").and_then(toml::Value::as_bool) == Some(true),
        _ => project.contains_key("build-system"),
    };
    let about = project.get("project").and_then(toml::Value::as_table);
    let entries = about.is_some_and(|about| about.contains_key("entry-points"));
    let asks = modules(tree)
        .any(|(_, text)| text.contains("importlib.metadata") || text.contains("pkg_resources"));
    if !packaged || !(entries || asks) {
        return None;
    }
    let poetry = tool(project, "poetry");
    let told = [
        about.and_then(|about| about.get("readme")),
        poetry.and_then(|poetry| poetry.get("readme")),
    ];
    let license =
        about.and_then(|about| about.get("license")).and_then(|license| license.get("file"));
    let named = told.into_iter().chain([license]).flatten();
    let files = named.filter_map(|value| {
        value.as_str().or_else(|| value.get("file")?.as_str()).map(str::to_string)
    });
    Some(
        std::iter::once("pyproject.toml".to_string())
            .chain(files.filter(|file| tree.contains_key(file)))
            .collect(),
    )
}

/// What the dependencies do not bring. A lock file has all that is installed; only where there is
/// none yet, what is asked for counts.
fn missing(
    tree: &Tree,
    manifests: &[String],
    project: &str,
    application: bool,
) -> Vec<&'static str> {
    let text = |locked: bool| -> String {
        let files = manifests.iter().filter(|file| file.ends_with(".lock") == locked);
        files
            .filter_map(|file| tree.get(file))
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
            .to_lowercase()
    };
    let (locked, asked) = (text(true), text(false) + &project.to_lowercase());
    let standard = asked.contains("fastapi[standard]") || asked.contains("fastapi[all]");
    let brought = |package: &str| match locked.trim() {
        "" => asked.contains(package) || package == "uvicorn" && standard,
        locked => locked.contains(&format!("name = \"{package}\"")),
    };
    let imported = |package: &str| {
        package == "uvicorn" || modules(tree).any(|(_, text)| text.contains(package))
    };
    ["fastapi", "uvicorn"]
        .into_iter()
        .filter(|package| application && imported(package) && !brought(package))
        .collect()
}

/// The newest good Python that the project takes.
fn version(tree: &Tree, project: &Table, notes: &mut Vec<String>) -> String {
    let minor = |text: &str| {
        let mut parts = text.trim().trim_start_matches("python-").split('.');
        (parts.next()? == "3").then(|| parts.next()?.trim().parse::<u32>().ok())?
    };
    let file = [".python-version", "runtime.txt"]
        .into_iter()
        .find_map(|file| Some((file, minor(tree.get(file)?)?)));
    let range = project
        .get("project")
        .and_then(|project| project.get("requires-python"))
        .or_else(|| tool(project, "poetry")?.get("dependencies")?.get("python"))
        .and_then(toml::Value::as_str)
        .unwrap_or("*");
    if let Some((file, minor)) = file {
        if VERSIONS.contains(&minor) && allows(range, minor) {
            return format!("3.{minor}");
        }
        notes.push(format!(
            "{file} says Python 3.{minor}, which {}",
            match VERSIONS.contains(&minor) {
                true => format!("pyproject.toml's `{range}` does not take"),
                false => "gets no security fixes any more: the image has another".into(),
            }
        ));
    }
    let found = VERSIONS.into_iter().find(|minor| allows(range, *minor));
    if found.is_none() {
        notes.push(format!(
            "the project wants Python {range}, and the image has Python 3.{}: correct one of them",
            VERSIONS[0]
        ));
    }
    format!("3.{}", found.unwrap_or(VERSIONS[0]))
}

/// Whether a range of versions (PEP 440's, or Poetry's own with `^` and `||`) takes a release of
/// Python 3.`minor`.
fn allows(range: &str, minor: u32) -> bool {
    range.split("||").any(|all| all.split(',').all(|one| clause(one.trim(), minor)))
}

fn clause(text: &str, minor: u32) -> bool {
    let sign: String = text.chars().take_while(|c| "<>=~^! ".contains(*c)).collect();
    let version = text[sign.len()..].trim();
    let parts: Vec<Option<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    let (Some(Some(major)), own) = (parts.first().copied(), (3, minor)) else { return true };
    let asked = (major, parts.get(1).copied().flatten().unwrap_or(0));
    let (whole, patch) = (parts.len() < 2 || parts[1].is_none(), parts.get(2).copied().flatten());
    match sign.trim() {
        ">=" => own >= asked,
        ">" => own > asked || own == asked && (patch.is_some() || whole),
        "<" => own < asked || own == asked && patch.is_some_and(|patch| patch > 0),
        // 3.12.1 is later than 3.12.
        "<=" => own < asked || own == asked && patch.is_some(),
        "!=" => own != asked || patch.is_some() && !version.ends_with('*'),
        "^" => own >= asked && major == 3,
        "~=" if patch.is_none() => own >= asked && major == 3,
        _ => major == 3 && (whole || own == asked),
    }
}

/// The Dockerfile and its .dockerignore.
pub fn image(python: &Python, port: u16, base: &str) -> (String, String) {
    let Python { installer, start, sources, roots, manifests, installed, missing, .. } = python;
    let tool = |tool: &str| {
        format!(
            "RUN --mount=type=cache,target=/root/.cache/pip \\\n    pip install --root-user-action=ignore {tool}\n"
        )
    };
    // In an environment of its own: what the tool needs is not to meet what the base image has.
    let apart = |tool: &str| {
        format!(
            "RUN --mount=type=cache,target=/root/.cache/pip \\\n    python -m venv /opt/tool && /opt/tool/bin/pip install {tool}\n"
        )
    };
    let copy: String = manifests
        .iter()
        .filter(|file| file.contains('/'))
        .map(|file| format!("COPY {file} {file}\n"))
        .chain([format!(
            "COPY {} ./\n",
            manifests
                .iter()
                .filter(|file| !file.contains('/'))
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" ")
        )])
        .collect();
    let install = match installer {
        Installer::Uv => {
            tool(UV)
                + "ENV UV_LINK_MODE=copy \\
    UV_PYTHON_DOWNLOADS=never \\
    UV_COMPILE_BYTECODE=1 \\
    PYC_INVALIDATION_MODE=UNCHECKED_HASH \\
    UV_NO_INSTALLER_METADATA=1
" + &copy + "RUN --mount=type=cache,target=/root/.cache/uv \\
    uv sync --locked --no-dev --no-install-project
"
        }
        Installer::Poetry => {
            apart(POETRY)
                + "ENV POETRY_VIRTUALENVS_IN_PROJECT=1
" + &copy + "RUN --mount=type=cache,target=/root/.cache/pypoetry \\
    /opt/tool/bin/poetry install --only main --no-root --no-interaction
"
        }
        Installer::Pdm => {
            apart(PDM)
                + "ENV PDM_CHECK_UPDATE=false
" + &copy + "RUN --mount=type=cache,target=/root/.cache/pdm \\
    /opt/tool/bin/pdm sync --prod --no-self
"
        }
        Installer::Pip => {
            "RUN [\"python\", \"-m\", \"venv\", \".venv\"]\n".to_string()
                + &copy
                + "RUN --mount=type=cache,target=/root/.cache/pip \\
    .venv/bin/pip install -r requirements.txt
"
        }
    };
    let brought: Vec<&str> = missing
        .iter()
        .map(|package| if *package == "fastapi" { FASTAPI } else { UVICORN })
        .collect();
    let mut install = match brought.as_slice() {
        [] => install,
        // In the same layer, as they are dependencies too.
        brought => {
            format!(
                "{} \\\n && pip --python .venv/bin/python install --no-cache-dir {}\n",
                install.trim_end(),
                brought.join(" ")
            )
        }
    };
    let copies: String = sources.iter().map(|source| format!("COPY {source} {source}\n")).collect();
    let mut paths = vec!["/app".to_string()];
    let mut project = "";
    if let Some(files) = installed {
        install.push_str(&format!(
            "# The project itself, beside its dependencies: it asks for its own version or entry points.
COPY {} ./
{copies}RUN --mount=type=cache,target=/root/.cache/pip \\
    pip install --root-user-action=ignore --no-deps --no-compile --target project .
",
            files.join(" ")
        ));
        paths.push("/app/project".into());
        project = "COPY --from=build /app/project project\n";
    }
    paths.extend(roots.iter().map(|root| format!("/app/{root}")));
    let uvicorn = |application: &str, factory: &str| {
        (
            format!(" \\\n    APP_MODULE={application} \\\n    LOG_LEVEL=info"),
            format!(
                "# uvicorn reads WEB_CONCURRENCY, the number of its processes, itself.\nCMD [\"sh\", \"-c\", \"exec uvicorn{factory} \\\"$APP_MODULE\\\" --host 0.0.0.0 --port \\\"$PORT\\\" --log-level \\\"$LOG_LEVEL\\\" --timeout-graceful-shutdown 8\"]"
            ),
        )
    };
    let (variables, command) = match start {
        Start::Application(application) => uvicorn(application, ""),
        Start::Factory(factory) => uvicorn(factory, " --factory"),
        Start::Module(module) => (String::new(), format!("CMD [\"python\", \"-m\", \"{module}\"]")),
    };
    let text = format!(
        "
# build: the dependencies, from the lock file, into /app/.venv.
FROM {base} AS build
WORKDIR /app
{install}

# runtime: what is shipped. Nothing in it is written to.
FROM {base} AS runtime
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH \\
    PYTHONPATH={} \\
    PYTHONUNBUFFERED=1 \\
    PYTHONDONTWRITEBYTECODE=1 \\
    PORT={port}{variables}
COPY --from=build /app/.venv .venv
{project}{copies}USER 10001:10001
EXPOSE {port}
{command}
",
        paths.join(":")
    );
    let allowed: String = python.copied().iter().map(|file| format!("!{file}\n")).collect();
    (
        text,
        format!(
            "# Nothing goes into the build but what is named here: no .git, no .env, no tests.\n*\n{allowed}**/__pycache__\n"
        ),
    )
}

#[cfg(test)]
mod tests;
