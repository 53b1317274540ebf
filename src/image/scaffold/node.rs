//! What a Node project is, from its files. Pure.

mod code;
mod image;
mod project;
mod routes;
mod settings;
mod shape;
mod start;
mod version;

use serde_json::Value;

pub use image::{list_manifests, write_image};
pub use project::Node;

use super::mode::choose_mode;
use super::tree::{Above, Evidence, Fact, Refusal, SourceFacts, Tree, choose_health};
use code::{Scripts, complete_path};
use project::Around;
use shape::list_dependencies;
use start::Start;

/// What npm runs of the project's own around an installation.
fn read_around(package: &Value) -> Around {
    let script = |name: &str| package["scripts"][name].as_str();
    let sets_up_hooks = |prepare: &str| {
        let tools =
            ["husky", "lefthook", "simple-git-hooks", "pre-commit", "is-ci", "true", "exit"];
        let parts = prepare.split(['&', '|', ';']).filter(|part| !part.trim().is_empty());
        parts
            .map(|part| part.split_whitespace().find(|word| *word != "npx"))
            .all(|first| first.is_some_and(|first| tools.contains(&first)))
    };
    let hooks = script("prepare").is_some_and(sets_up_hooks);
    // `preinstall` sees to it that the right tool installs.
    let mut scripts = vec!["install", "postinstall", "prepare"];
    scripts.retain(|name| script(name).is_some() && !(hooks && *name == "prepare"));
    // `npm run install` runs what comes before and after it, too.
    scripts.retain(|name| *name != "postinstall" || script("install").is_none());
    match scripts.is_empty() {
        true if hooks => Around::Hooks,
        true => Around::Nothing,
        false => Around::Scripts(scripts),
    }
}

/// package.json; an empty object if it is not JSON.
pub fn read_package(tree: &Tree) -> Value {
    let text = tree.get("package.json");
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// What the sources of a Node service say, from its entry on.
pub fn read_sources(tree: &Tree) -> SourceFacts {
    let package = read_package(tree);
    let start = start::choose_start(tree, &package).ok();
    describe_sources(tree, &Scripts::read(tree), start.as_ref())
}

fn describe_sources(tree: &Tree, scripts: &Scripts, start: Option<&Start>) -> SourceFacts {
    let entry = start.and_then(|start| find_source(scripts, &start.command.value));
    let reachable = match &entry {
        Some(entry) => scripts.reachable(entry),
        None => scripts.by_path.keys().map(String::as_str).collect(),
    };
    let mut list = routes::list_routes(scripts, &reachable);
    let is_next = start.is_some_and(|start| start.is_next);
    if is_next {
        list.extend(routes::next_routes(tree));
    }
    let told = start.and_then(|start| {
        let words = &start.command.value;
        let at = words.iter().position(|word| word == "-p" || word == "--port")?;
        let port = words.get(at + 1)?.parse().ok()?;
        Some(Fact { value: port, evidence: start.command.evidence.clone() })
    });
    let next = || is_next.then(|| Fact::set(3000, "the Dockerfile tells Next by PORT"));
    SourceFacts {
        port: told.or_else(next).or_else(|| settings::find_port(scripts, &reachable)),
        health: choose_health(&list),
        mode: choose_mode(&settings::list_mode_readings(scripts, &reachable)),
    }
}

/// The source of what `node dist/main` runs: `src/main.ts`.
fn find_source(scripts: &Scripts, command: &[String]) -> Option<String> {
    let mut words = command.iter().skip(1).peekable();
    let mut file = None;
    while let Some(word) = words.next() {
        match word.as_str() {
            "-r" | "--require" | "--import" | "--loader" => drop(words.next()),
            word if word.starts_with('-') => {}
            word => {
                file = Some(word.trim_start_matches("./"));
                break;
            }
        }
    }
    let file = file?;
    let exists = |path: &str| scripts.get(path).is_some();
    let inside = file.split_once('/').map(|(_, inside)| inside);
    let bases = [
        Some(file.to_string()),
        inside.map(|inside| format!("src/{inside}")),
        inside.map(str::to_string),
    ];
    bases.into_iter().flatten().find_map(|base| complete_path(&base, exists))
}

/// Reads a Node project and what its sources say.
///
/// # Errors
/// A shape that no Dockerfile is written for.
pub fn read_project(
    tree: &Tree,
    above: &[Above],
    notes: &mut Vec<String>,
) -> Result<(Node, SourceFacts), Refusal> {
    let package = read_package(tree);
    if package.is_null() {
        notes.push("package.json is not JSON: what it says could not be read".into());
    }
    shape::refuse_tools(tree, above, &package)?;
    let shape::Dependencies { members, local, needs_git } =
        shape::read_dependencies(tree, &package)?;
    if !tree.contains_key("package-lock.json") {
        notes.push("there is no package-lock.json: `npm install` writes it; commit it".into());
    }
    let npmrc = tree.get(".npmrc").map(String::as_str).unwrap_or_default();
    if let Some((line, _)) = (1..).zip(npmrc.lines()).find(|(_, line)| line.contains("registry=")) {
        notes.push(format!(
            ".npmrc:{line} names a registry of its own: hand .npmrc to the build by \
             `build-secrets` of service.yaml, and mount it where the Dockerfile installs: `RUN \
             --mount=type=secret,id=npmrc,target=/app/.npmrc`"
        ));
    }
    let start =
        start::choose_start(tree, &package).map_err(|refusal| match members.as_slice() {
            [] => refusal,
            members => shape::refuse_root(members),
        })?;
    notes.extend(start.notes.iter().cloned());
    let scripts = Scripts::read(tree);
    let facts = describe_sources(tree, &scripts, Some(&start));
    if !settings::handles_sigterm(&scripts, &list_dependencies(&package)) {
        notes.push(
            "no source handles SIGTERM, which Node does not by itself as the first process: \
             process.on('SIGTERM', () => server.close(() => process.exit(0)))"
                .into(),
        );
    }
    let build = start::find_build(&package);
    let makes = build.is_some() || !start.steps.is_empty();
    let made = ["dist", "build", ".next", ".nuxt", ".output", "out"]
        .into_iter()
        .filter(|name| {
            let below = format!("{name}/");
            makes && !tree.keys().any(|path| path.starts_with(&below))
        })
        .map(str::to_string)
        .collect();
    let node = Node {
        start,
        build,
        around: read_around(&package),
        version: version::choose_version(tree, &package, notes),
        members,
        local,
        needs_git,
        made,
        has_public: tree.keys().any(|path| path.starts_with("public/")),
    };
    Ok((node, facts))
}

/// Where the command that the image runs is said.
pub fn describe_entry(node: &Node) -> Fact<String> {
    let Fact { value, evidence } = &node.start.command;
    let evidence: Evidence = evidence.clone();
    Fact { value: value.join(" "), evidence }
}

#[cfg(test)]
mod tests;
