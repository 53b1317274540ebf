//! Shapes of a Node project beside a plain one: other package managers, workspaces, and
//! dependencies that no registry has. Pure.

use serde_json::Value;

use super::super::tree::{Above, Refusal, Tree, require_path};
use crate::dockerignore::matches_glob;

/// Where dependencies come from that no registry has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// Folders of npm's workspaces.
    pub members: Vec<String>,
    /// Folders of the repository that are dependencies.
    pub local: Vec<String>,
    pub needs_git: bool,
}

/// The package managers that no Dockerfile is written for: their lock file, their name in
/// `packageManager`, and how they install in a build.
const TOOLS: [(&str, &str, &str, &str); 4] = [
    ("pnpm-lock.yaml", "pnpm", "pnpm", "pnpm install --frozen-lockfile"),
    ("yarn.lock", "yarn", "Yarn", "yarn install --immutable"),
    ("bun.lock", "bun", "Bun", "bun install --frozen-lockfile"),
    ("bun.lockb", "bun", "Bun", "bun install --frozen-lockfile"),
];

/// The names in `dependencies` and `optionalDependencies`: what is there when the service runs.
pub fn list_dependencies(package: &Value) -> Vec<&str> {
    ["dependencies", "optionalDependencies"]
        .into_iter()
        .filter_map(|table| package[table].as_object())
        .flat_map(|table| table.keys().map(String::as_str))
        .collect()
}

/// # Errors
/// Another tool than npm installs, or the project is a member of a workspace above.
pub fn refuse_tools(tree: &Tree, above: &[Above], package: &Value) -> Result<(), Refusal> {
    let manager =
        package["packageManager"].as_str().unwrap_or("npm").split('@').next().unwrap_or("npm");
    if tree.contains_key("pnpm-workspace.yaml") {
        return Err(Refusal::shape(
            "a pnpm workspace",
            "pnpm-workspace.yaml has one lock file for all of its packages, and which one is the \
             service is not said",
            "write the Dockerfile by hand, for this folder: `COPY . .`, `RUN pnpm install \
             --frozen-lockfile && pnpm --filter NAME deploy --prod /app`; `cicd init` then writes \
             the rest",
        ));
    }
    for (file, name, tool, install) in TOOLS {
        let place = if manager == name {
            "packageManager of package.json"
        } else if tree.contains_key(file) && !tree.contains_key("package-lock.json") {
            file
        } else {
            continue;
        };
        let workspaces = if list_globs(package).is_empty() { "" } else { " in workspaces" };
        return Err(Refusal::shape(
            tool,
            format!(
                "{place} says that {tool} installs the dependencies{workspaces}; init knows uv, \
                 Poetry, pdm, pip, npm and Go"
            ),
            format!(
                "write the Dockerfile by hand, with `RUN {install}`; `cicd init` then writes the \
                 rest: service.yaml, .dockerignore and the workflow"
            ),
        ));
    }
    if tree.contains_key("package-lock.json") {
        return Ok(());
    }
    for root in above {
        let text = root.files.get("package.json");
        let package: Value =
            text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let pnpm = root.files.get("pnpm-workspace.yaml").map(|text| list_yaml_globs(text));
        let globs = pnpm.unwrap_or_else(|| list_globs(&package));
        if globs.iter().any(|glob| matches_glob(glob, &root.below)) {
            return Err(Refusal::shape(
                "a member of a workspace",
                format!("{} has the workspace, and its lock file has the dependencies", root.path),
                format!(
                    "write {0}/Dockerfile for the workspace's root: `COPY . .`, `RUN npm ci \
                     --workspace {0}`, or the same with pnpm or Yarn; `cicd init` in {0} then \
                     writes \
                     the rest, with `image: {{context: {1}}}`",
                    root.below, root.path
                ),
            ));
        }
    }
    Ok(())
}

/// `workspaces` of package.json.
fn list_globs(package: &Value) -> Vec<String> {
    let list = package["workspaces"].as_array().or(package["workspaces"]["packages"].as_array());
    let globs = list.into_iter().flatten().filter_map(Value::as_str);
    globs.map(|glob| glob.trim_start_matches("./").trim_end_matches('/').to_string()).collect()
}

/// `packages` of pnpm-workspace.yaml, whose entries are the lines with a dash.
fn list_yaml_globs(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("- "));
    lines.map(|line| line.trim().trim_matches(['"', '\'']).to_string()).collect()
}

/// The root of workspaces starts nothing itself.
pub fn refuse_root(members: &[String]) -> Refusal {
    let first = members.first().map_or("MEMBER", String::as_str);
    Refusal::shape(
        "npm workspaces whose root starts nothing",
        format!("package.json has the workspaces {}, and no script `start`", members.join(", ")),
        format!(
            "write {first}/Dockerfile for this folder: `COPY . .`, `RUN npm ci --workspace \
             {first}`; \
             `cicd init` in {first} then writes the rest, with `image: {{context: …}}` by what it \
             copies"
        ),
    )
}

/// # Errors
/// A dependency that a build in this folder cannot get.
pub fn read_dependencies(tree: &Tree, package: &Value) -> Result<Dependencies, Refusal> {
    let mut found = Dependencies::default();
    let globs = list_globs(package);
    found.members = tree
        .keys()
        .filter_map(|path| path.strip_suffix("/package.json"))
        .filter(|folder| globs.iter().any(|glob| matches_glob(glob, folder)))
        .map(str::to_string)
        .collect();
    for table in ["dependencies", "optionalDependencies", "devDependencies"] {
        for (name, from) in package[table].as_object().into_iter().flatten() {
            let from = from.as_str().unwrap_or_default();
            read_origin(tree, name, from, &mut found)?;
        }
    }
    let lock = tree.get("package-lock.json").map(String::as_str).unwrap_or_default();
    found.needs_git |= lock.contains("\"resolved\": \"git+");
    Ok(found)
}

fn read_origin(
    tree: &Tree,
    name: &str,
    from: &str,
    found: &mut Dependencies,
) -> Result<(), Refusal> {
    let place = format!("{name} of package.json");
    let path = ["file:", "link:", "portal:"].iter().find_map(|start| from.strip_prefix(start));
    if let Some(path) = path {
        let path = path.trim_start_matches("./").trim_end_matches('/');
        require_path(tree, path, &place, from)?;
        found.local.push(path.to_string());
    } else if from.starts_with("workspace:") {
        return Err(Refusal::shape(
            "a member of a workspace",
            format!("{place} is {from}: another member of a workspace of pnpm or Yarn"),
            "write the Dockerfile for the workspace's root: `COPY . .`, then install with its \
             tool; \
             `cicd init` then writes the rest, with `image: {context: ..}`",
        ));
    } else if from.starts_with("git+ssh:") || from.starts_with("git@") {
        return Err(Refusal::shape(
            "a dependency that git gets by SSH",
            format!("{place} is {from}, and a build has no key"),
            "write the Dockerfile with `RUN --mount=type=ssh` and `image: {ssh: [default]}` in \
             service.yaml, or name the repository by https",
        ));
    } else if ["git+", "git:", "github:", "gitlab:", "bitbucket:"]
        .iter()
        .any(|start| from.starts_with(start))
    {
        found.needs_git = true;
    }
    Ok(())
}
