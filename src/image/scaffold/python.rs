//! What a Python project is, from its files. Pure.

mod code;
mod entry;
mod files;
mod image;
mod needs;
mod port;
mod project;
mod routes;
mod settings;
mod shape;
mod version;

use toml::Table;

pub use entry::Start;
pub use files::is_private;
pub use image::write_image;
pub use project::{Installer, Python};

use super::mode::choose_mode;
use super::tree::{Above, Fact, Refusal, SourceFacts, Tree, choose_health};
use code::Modules;
use project::get_tool;

/// Whether the files are a Python project's that has what it depends on in a file that we know.
pub fn is_project(tree: &Tree) -> bool {
    tree.contains_key("pyproject.toml") || find_requirements(tree).is_some()
}

/// What the sources of a Python service say, from its entry on.
pub fn read_sources(tree: &Tree) -> SourceFacts {
    let modules = Modules::read(tree);
    let start = entry::find_start(tree, &modules);
    describe_sources(&modules, start.as_ref().map(|start| &start.value))
}

fn describe_sources(modules: &Modules, start: Option<&Start>) -> SourceFacts {
    let reachable = match start {
        Some(start) => modules.reachable(start.module()),
        None => modules.by_name.keys().map(String::as_str).collect(),
    };
    let roots = start.map(|start| entry::list_roots(modules, &reachable, start));
    let routes = routes::list_routes(modules, &reachable, &roots.unwrap_or_default());
    SourceFacts {
        port: port::find_port(modules, &reachable),
        health: choose_health(&routes),
        mode: choose_mode(&settings::list_mode_readings(modules, &reachable)),
    }
}

/// Reads a Python project and what its sources say.
///
/// # Errors
/// A shape that no Dockerfile is written for.
pub fn read_project(
    tree: &Tree,
    above: &[Above],
    old: bool,
    notes: &mut Vec<String>,
) -> Result<(Python, SourceFacts), Refusal> {
    let has = |file: &str| tree.contains_key(file);
    let text = tree.get("pyproject.toml").map(String::as_str).unwrap_or_default();
    let project: Table = text.parse().unwrap_or_default();
    if project.is_empty() && !text.trim().is_empty() {
        notes.push("pyproject.toml is not TOML: what it says could not be read".into());
    }
    shape::refuse_workspaces(tree, above, &project)?;
    let (installer, lock, command) = if has("poetry.lock") || get_tool(&project, "poetry").is_some()
    {
        (Installer::Poetry, "poetry.lock", "poetry lock")
    } else if has("pdm.lock") || get_tool(&project, "pdm").is_some() {
        (Installer::Pdm, "pdm.lock", "pdm lock")
    } else if has("pyproject.toml") && (has("uv.lock") || !has("requirements.txt")) {
        (Installer::Uv, "uv.lock", "uv lock")
    } else {
        (Installer::Pip, find_requirements(tree).unwrap_or("requirements.txt"), "")
    };
    // A pyproject.toml that only configures tools installs nothing.
    let is_empty =
        installer == Installer::Uv && !has("uv.lock") && !project.contains_key("project");
    let (installer, lock) = match find_requirements(tree).filter(|_| is_empty) {
        Some(file) => (Installer::Pip, file),
        None if is_empty && !project.is_empty() => {
            return Err(Refusal::shape(
                "a Python project that says no dependencies",
                "pyproject.toml has no [project], and there is no requirements.txt",
                "write one of them, or the Dockerfile by hand; then run `cicd init` again",
            ));
        }
        None => (installer, lock),
    };
    if !has(lock) {
        notes.push(format!("there is no {lock}: `{command}` writes it; commit it"));
    }
    let mut manifests = vec![lock.to_string()];
    match installer {
        Installer::Pip => {
            add_included(tree, lock, &mut manifests);
            if !manifests.iter().filter_map(|file| tree.get(file)).any(|text| text.contains("==")) {
                notes.push(format!(
                    "{lock} pins no version: `pip-compile --generate-hashes` or `uv pip \
                         compile` writes one that does"
                ));
            }
        }
        _ => manifests.insert(0, "pyproject.toml".into()),
    }
    let shape::Dependencies { local, needs_git } =
        shape::read_dependencies(tree, &manifests, &project)?;

    let modules = Modules::read(tree);
    let start = entry::find_start(tree, &modules).ok_or_else(|| {
        Refusal::shape(
            "a Python project without an entry that can be seen",
            "no source makes a FastAPI, Starlette, Litestar, Quart, Flask or Django application, \
             and none has `if __name__ == \"__main__\"`",
            "write the Dockerfile with its CMD, or a main.py that starts the service; then \
             `cicd init` writes the rest",
        )
    })?;
    let facts = describe_sources(&modules, Some(&start.value));
    let sources = files::list_root_sources(tree, &modules);
    let unread = files::list_unread(tree, &modules, &sources, &manifests);
    let unread: Vec<&str> =
        unread.into_iter().filter(|name| !local.iter().any(|local| local == name)).collect();
    if !unread.is_empty() {
        notes.push(format!(
            "the image has nothing of {}, which no source names, or which may be private: when the \
             service reads it and everybody may who has the image, add a COPY, and a line to \
             .dockerignore",
            unread.join(", ")
        ));
    }
    note_start(tree, &modules, &start, old, notes);
    let mut system = needs::find_packages(&needs::list_names(tree, &manifests), notes);
    if needs_git {
        system.build.push("git");
    }
    needs::note_index(tree, &manifests, notes);
    for (file, tool) in [("environment.yml", "conda"), ("pixi.lock", "pixi")] {
        if has(file) {
            notes.push(format!(
                "{file} is there too: the image has nothing that only {tool} installs"
            ));
        }
    }
    let missing = list_missing(tree, &modules, &manifests, text, &start.value);
    if !missing.is_empty() {
        let missing = missing.join(" and ");
        notes.push(format!(
            "the dependencies do not name {missing}: the Dockerfile installs it; better add it to \
             them"
        ));
    }
    let python = Python {
        installer,
        version: version::choose_version(tree, &project, notes),
        roots: list_roots(&modules, &start.value),
        installed: list_installed(tree, &modules, &project),
        start,
        sources,
        manifests,
        local,
        system,
        missing,
    };
    Ok((python, facts))
}

fn note_start(
    tree: &Tree,
    modules: &Modules,
    start: &Fact<Start>,
    old: bool,
    notes: &mut Vec<String>,
) {
    match &start.value {
        Start::Module(module) if !start.is_guess() => notes.push(format!(
            "the image runs `python -m {module}`, as no application stands at the outermost level \
             of a module"
        )),
        Start::Application(_) | Start::Factory(_) if old => notes.push(note_lost_gunicorn(tree)),
        Start::Wsgi(_) if modules.by_name.contains_key("manage") => notes.push(
            "Django: `python manage.py migrate` belongs into `before-deploy` of service.yaml, \
             `collectstatic` into the Dockerfile, and the host names of the service into \
             ALLOWED_HOSTS"
                .into(),
        ),
        _ => {}
    }
}

/// What of the old base image's ways is not gone on with.
fn note_lost_gunicorn(tree: &Tree) -> String {
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
        "gunicorn is gone: uvicorn runs WEB_CONCURRENCY processes itself. {unread}: not read any \
         more; what has to be done before a deploy, such as a migration, is `before-deploy` of \
         service.yaml"
    )
}

/// The requirements of a service, the surest first.
fn find_requirements(tree: &Tree) -> Option<&'static str> {
    [
        "requirements.txt",
        "requirements/production.txt",
        "requirements/prod.txt",
        "requirements/requirements.txt",
        "requirements/base.txt",
    ]
    .into_iter()
    .find(|file| tree.contains_key(*file))
}

/// Adds the files that a requirements file names by `-r` and `-c`.
fn add_included(tree: &Tree, file: &str, found: &mut Vec<String>) {
    let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    for line in tree.get(file).map(String::as_str).unwrap_or_default().lines() {
        let name = ["-r ", "-c ", "--requirement ", "--constraint "]
            .iter()
            .find_map(|flag| line.trim().strip_prefix(flag));
        let Some(name) = name.and_then(|name| name.split_whitespace().next()) else { continue };
        let path = format!("{folder}{}", name.trim_start_matches("./"));
        if tree.contains_key(&path) && !found.contains(&path) {
            found.push(path.clone());
            add_included(tree, &path, found);
        }
    }
}

/// Where modules are looked for beside the root: src, the folder above the application's package,
/// and, as the old base image did it, ./app.
fn list_roots(modules: &Modules, start: &Start) -> Vec<String> {
    let own = start.module();
    let mut roots = Vec::new();
    let program = format!("{own}{}", code::PROGRAM);
    if let Some(module) = modules.get(own).or_else(|| modules.get(&program)) {
        let path = &module.source.path;
        let folder = own.replace('.', "/");
        let ends = [".py", "/__init__.py", "/__main__.py"];
        let root = ends.iter().find_map(|end| path.strip_suffix(&format!("{folder}{end}")));
        roots.extend(root.map(|root| root.trim_end_matches('/').to_string()));
    }
    roots.extend(["src", "app"].map(str::to_string));
    roots.retain(|root| {
        let below = format!("{root}/");
        let mut all = modules.by_name.values();
        !root.is_empty() && all.any(|module| module.source.path.starts_with(&below))
    });
    roots.sort();
    roots.dedup();
    roots
}

/// The files that the project is built from, when it looks at run time for what only an installed
/// project has: its version, its entry points.
fn list_installed(tree: &Tree, modules: &Modules, project: &Table) -> Option<Vec<String>> {
    let (uv, poetry, pdm) =
        (get_tool(project, "uv"), get_tool(project, "poetry"), get_tool(project, "pdm"));
    let packaged = match (uv, poetry, pdm) {
        (Some(uv), ..) if uv.contains_key("package") => uv["package"].as_bool() == Some(true),
        (_, Some(poetry), _) if poetry.contains_key("package-mode") => {
            poetry["package-mode"].as_bool() == Some(true)
        }
        (.., Some(pdm)) => pdm.get("distribution").and_then(toml::Value::as_bool) == Some(true),
        _ => project.contains_key("build-system"),
    };
    let about = project.get("project").and_then(toml::Value::as_table);
    let entries = about.is_some_and(|about| about.contains_key("entry-points"));
    let asks = modules.by_name.values().any(|module| {
        module.imports_from("importlib.metadata") || module.imports_from("pkg_resources")
    });
    if !packaged || !(entries || asks) {
        return None;
    }
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
fn list_missing(
    tree: &Tree,
    modules: &Modules,
    manifests: &[String],
    project: &str,
    start: &Start,
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
        let mut all = modules.by_name.values();
        ["uvicorn", "gunicorn"].contains(&package) || all.any(|one| one.imports_from(package))
    };
    let needed: &[&'static str] = match start {
        Start::Module(_) | Start::Script(_) => &[],
        Start::Wsgi(_) => &["gunicorn"],
        Start::Application(_) | Start::Factory(_) => &["fastapi", "uvicorn"],
    };
    needed.iter().copied().filter(|package| imported(package) && !brought(package)).collect()
}

#[cfg(test)]
mod tests;
