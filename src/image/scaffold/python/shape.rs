//! Shapes of a Python project beside a plain one: workspaces, and dependencies that no index has.
//! Pure.

use toml::{Table, Value};

use super::super::tree::{Above, Refusal, Tree, require_path};
use super::project::get_tool;
use crate::dockerignore::matches_glob;

/// Where dependencies come from that no index has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// Folders of the repository.
    pub local: Vec<String>,
    pub needs_git: bool,
}

/// A Dockerfile for a member of a uv workspace, as uv's guide has it.
/// <https://docs.astral.sh/uv/guides/integration/docker/#installing-a-workspace>
fn recipe(member: &str) -> String {
    format!(
        "write {member}/Dockerfile for the workspace's root: `COPY . .`, then `RUN uv sync \
         --locked --no-dev --no-editable --package NAME`; `cicd init` in {member} then writes the \
         rest, with `image: {{context: …}}` by what it copies"
    )
}

/// # Errors
/// The project is a uv workspace, or a member of one.
pub fn refuse_workspaces(tree: &Tree, above: &[Above], project: &Table) -> Result<(), Refusal> {
    if let Some(members) = read_members(project) {
        let found: Vec<&str> = tree
            .keys()
            .filter_map(|path| path.strip_suffix("/pyproject.toml"))
            .filter(|folder| members.iter().any(|member| matches_glob(member, folder)))
            .collect();
        let first = found.first().copied().unwrap_or("MEMBER");
        return Err(Refusal::shape(
            "a uv workspace",
            format!(
                "pyproject.toml has [tool.uv.workspace] with members {}: one lock file for all of \
                 them, and which one is the service is not said",
                if found.is_empty() { members.join(", ") } else { found.join(", ") }
            ),
            recipe(first),
        ));
    }
    if tree.contains_key("uv.lock") {
        return Ok(());
    }
    for root in above {
        let Some(text) = root.files.get("pyproject.toml") else { continue };
        let Some(members) = text.parse().ok().as_ref().and_then(read_members) else { continue };
        if members.iter().any(|member| matches_glob(member, &root.below)) {
            return Err(Refusal::shape(
                "a member of a uv workspace",
                format!(
                    "{}/pyproject.toml has [tool.uv.workspace], and the lock file is there",
                    root.path
                ),
                recipe(&root.below),
            ));
        }
    }
    Ok(())
}

fn read_members(project: &Table) -> Option<Vec<String>> {
    let workspace = get_tool(project, "uv")?.get("workspace")?;
    let members = workspace.get("members").and_then(Value::as_array);
    let members = members.map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_str);
    Some(members.map(|member| member.trim_end_matches('/').to_string()).collect())
}

/// One dependency that no index has: where that is said, and where it comes from.
type Origin = (String, String);

/// # Errors
/// A dependency that a build in this folder cannot get.
pub fn read_dependencies(
    tree: &Tree,
    manifests: &[String],
    project: &Table,
) -> Result<Dependencies, Refusal> {
    let mut origins: Vec<Origin> = Vec::new();
    for file in manifests.iter().filter(|file| file.ends_with(".txt") || file.ends_with(".in")) {
        let text = tree.get(file).map(String::as_str).unwrap_or_default();
        for (line, one) in (1..).zip(text.lines()) {
            origins.extend(read_requirement(one).map(|from| (format!("{file}:{line}"), from)));
        }
    }
    origins.extend(read_tables(project));
    let mut found = Dependencies::default();
    for (place, from) in origins {
        if from.starts_with("git") {
            if from.contains("ssh://") || from.contains("git@") {
                return Err(Refusal::shape(
                    "a dependency that git gets by SSH",
                    format!("{place} names {from}, and a build has no key"),
                    "write the Dockerfile with `RUN --mount=type=ssh` and `image: {ssh: \
                     [default]}` \
                     in service.yaml, or name the repository by https",
                ));
            }
            found.needs_git = true;
            continue;
        }
        let path = from.trim_start_matches("file:").trim_start_matches("./").trim_end_matches('/');
        if path.is_empty() || path == "." {
            return Err(Refusal::shape(
                "a project that is installed as a dependency of itself",
                format!("{place} names the project's own folder"),
                "take the line away, as the image has the sources on PYTHONPATH; or write the \
                 Dockerfile: `COPY . .` before `pip install`",
            ));
        }
        require_path(tree, path, &place, &from)?;
        if !found.local.iter().any(|local| local == path) {
            found.local.push(path.to_string());
        }
    }
    // What a dependency of a dependency comes from is in the lock file alone.
    let locked = ["uv.lock", "poetry.lock", "pdm.lock"].iter().filter_map(|file| tree.get(*file));
    for text in locked {
        found.needs_git |= text.contains("{ git = \"")
            || text.contains("type = \"git\"")
            || text.lines().any(|line| line.starts_with("git = \""));
    }
    Ok(found)
}

/// Where a line of a requirements file, or a requirement of PEP 508, gets its package.
fn read_requirement(line: &str) -> Option<String> {
    let line = line.split(" #").next().unwrap_or_default().trim();
    if line.starts_with('#') {
        return None;
    }
    let editable = ["-e ", "--editable ", "--editable="];
    let line = editable.iter().find_map(|flag| line.strip_prefix(flag)).unwrap_or(line).trim();
    let from = line.split_once(" @ ").map_or(line, |(_, from)| from).trim();
    let is_path = from == "." || ["./", "../", "file:", ".["].iter().any(|it| from.starts_with(it));
    let from = if from.starts_with(".[") { "." } else { from };
    let ends: &[char] = if is_path { &[';', ' ', '['] } else { &[';', ' '] };
    let from = from.split(ends).next().unwrap_or(from);
    (is_path || from.starts_with("git+")).then(|| from.replace("file://", "file:"))
}

/// The dependencies of pyproject.toml that come from a path or from git.
fn read_tables(project: &Table) -> Vec<Origin> {
    let mut found = Vec::new();
    let tables = [
        ("tool.uv.sources", get_tool(project, "uv").and_then(|uv| uv.get("sources"))),
        (
            "tool.poetry.dependencies",
            get_tool(project, "poetry").and_then(|poetry| poetry.get("dependencies")),
        ),
    ];
    for (name, table) in tables {
        for (package, value) in table.and_then(Value::as_table).into_iter().flatten() {
            let place = format!("[{name}] {package} of pyproject.toml");
            let text = |key: &str| value.get(key).and_then(Value::as_str);
            if value.get("workspace").is_some() {
                found.push((place, "../".into()));
            } else if let Some(path) = text("path") {
                found.push((place, path.to_string()));
            } else if let Some(git) = text("git") {
                found.push((place, format!("git+{git}")));
            }
        }
    }
    let asked = project.get("project").and_then(|project| project.get("dependencies"));
    for one in asked.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        let from = read_requirement(&one.replace("@", " @ ").replace("  ", " "));
        let from = from.map(|from| from.replace(" @ ", "@"));
        found.extend(from.map(|from| ("dependencies of pyproject.toml".to_string(), from)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect()
    }

    #[test]
    fn a_workspace_and_its_members_are_refused_with_the_way_by_hand() {
        let text = "[tool.uv.workspace]\nmembers = ['services/*']\n";
        let root: Table = text.parse().expect("TOML");
        let files = tree(&[("services/api/pyproject.toml", ""), ("lib/pyproject.toml", "")]);
        let Err(Refusal::Shape { why, by_hand, .. }) = refuse_workspaces(&files, &[], &root) else {
            panic!("it is refused");
        };
        assert!(why.contains("services/api") && !why.contains("lib"), "{why}");
        assert!(by_hand.contains("services/api/Dockerfile"), "{by_hand}");
        let above = |below: &str| Above {
            path: "../..".into(),
            below: below.into(),
            files: tree(&[("pyproject.toml", text)]),
            ..Above::default()
        };
        let member = Table::new();
        refuse_workspaces(&tree(&[]), &[above("services/api")], &member).expect_err("a member");
        refuse_workspaces(&tree(&[]), &[above("other/api")], &member).expect("no member");
        refuse_workspaces(&tree(&[("uv.lock", "")]), &[above("services/api")], &member)
            .expect("a lock file of its own");
    }

    #[test]
    fn dependencies_from_elsewhere_are_known() {
        struct Case {
            requirements: &'static str,
            project: &'static str,
            found: Option<(&'static [&'static str], bool)>,
        }
        let case = |requirements, project, found| Case { requirements, project, found };
        let cases = [
            case("x==1\n# ./no\n", "", Some((&[][..], false))),
            case("./lib\n-e lib2 # no\n", "", Some((&["lib"][..], false))),
            case("-e ./lib[x]\n", "", Some((&["lib"][..], false))),
            case("x @ git+https://github.com/o/x@v1\n", "", Some((&[][..], true))),
            case("git+ssh://git@github.com/o/x\n", "", None),
            case("-e .\n", "", None),
            case(".[prod]\n", "", None),
            case("../lib\n", "", None),
            case("./gone\n", "", None),
            case("", "[tool.uv.sources]\na = {path = 'lib'}\n", Some((&["lib"][..], false))),
            case("", "[tool.uv.sources]\na = {workspace = true}\n", None),
            case(
                "",
                "[tool.poetry.dependencies]\na = {git = 'https://x/y'}\n",
                Some((&[][..], true)),
            ),
            case(
                "",
                "[project]\ndependencies = ['a @ git+https://x/y@v1']\n",
                Some((&[][..], true)),
            ),
        ];
        for Case { requirements, project, found } in cases {
            let files = tree(&[("requirements.txt", requirements), ("lib/setup.py", "")]);
            let table: Table = project.parse().expect("TOML");
            let seen = read_dependencies(&files, &["requirements.txt".into()], &table).ok();
            let seen = seen.map(|seen| (seen.local, seen.needs_git));
            let found = found.map(|(local, git)| {
                (local.iter().map(ToString::to_string).collect::<Vec<_>>(), git)
            });
            assert_eq!(seen, found, "{requirements}{project}");
        }
    }
}
