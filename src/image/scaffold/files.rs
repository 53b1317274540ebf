//! The files that a service needs, from what its repository is. Pure.

use super::facts::{Facts, MARK, Stack};
use super::{go, node, python};

/// A file to write: its path, and its text.
pub type File = (String, String);

/// What we give every service to copy.
const WORKFLOW: &str = include_str!("../../../workflows/ci.yml");

/// What a workflow that calls the pipeline has in it.
const CALL: &str = "clinicult/cicd/.github/workflows/service.yml";

/// The image that the Dockerfile is built on, by its tag; none when there is nothing to pin.
pub fn base(stack: &Stack) -> Option<String> {
    match stack {
        Stack::Python(python) => Some(format!("python:{}-slim", python.version)),
        Stack::Node(node) => Some(format!("node:{}-slim", node.version)),
        Stack::Go(go) => Some(format!("golang:{}", go.version)),
        Stack::Own(_) => None,
    }
}

/// The files, `base` being [`base`] with its digest where that is known. `.github/…` belongs to the
/// root of the repository, whose workflows are `workflows`: their names and texts.
pub fn files(facts: &Facts, base: &str, workflows: &[File]) -> Vec<File> {
    let mut files = vec![("service.yaml".to_string(), service(facts))];
    if let Some((dockerfile, ignore)) = image(facts, base) {
        files.push(("Dockerfile".into(), dockerfile));
        files.push((".dockerignore".into(), ignore));
    } else {
        files.push((".dockerignore".into(), deny("")));
    }
    files.push((format!(".github/workflows/{}", workflow(workflows)), WORKFLOW.to_string()));
    files
}

/// The name of the workflow that calls the pipeline: of the one that does, else a name that no
/// other workflow has.
fn workflow(workflows: &[File]) -> &str {
    let calls =
        workflows.iter().find(|(_, text)| text.contains(CALL)).map(|(name, _)| name.as_str());
    let taken = workflows.iter().any(|(name, _)| name == "ci.yml");
    calls.unwrap_or(if taken { "cicd.yml" } else { "ci.yml" })
}

fn service(facts: &Facts) -> String {
    let Facts { name, port, health, mode, stack, .. } = facts;
    let image = match stack {
        Stack::Own(path) if path == "Dockerfile" => String::new(),
        Stack::Own(path) => format!("\nimage: {{dockerfile: {path}}}\n"),
        _ => "\nimage: {target: runtime}\n".into(),
    };
    format!(
        "# What this service is; docs/service.md of clinicult/cicd has every key. Where it runs is in the organisation's platform.yaml.
name: {name}
port: {port}
health: {{path: {health}}}
mode: {{variable: {}, debug: {}, production: production}}
{image}
resources: {{cpu: 250m, memory: 512Mi}}

# The platform's environments, in the order in which a version goes through them:
# environments:
#   staging: {{mode: debug}}
#   production: {{replicas: 2}}
",
        mode.variable, mode.debug
    )
}

/// The Dockerfile and its .dockerignore. No HEALTHCHECK: Kubernetes, ECS behind a load balancer and
/// `cicd` itself ask the health path from outside, and a second asker inside only costs.
fn image(facts: &Facts, base: &str) -> Option<File> {
    let (text, ignore) = match &facts.stack {
        Stack::Python(python) => python::image(python, facts.port, base),
        Stack::Node(node) => (node::image(node, facts.port, base), deny("node_modules\ndist\n")),
        Stack::Go(go) => (go::image(go, facts.port, base), deny("")),
        Stack::Own(_) => return None,
    };
    let tail = "
# These differ in every build; down here they cost no layer.
ARG VERSION=0.0.0
ARG REVISION=unknown
ENV SERVICE_VERSION=${VERSION} \\
    SERVICE_REVISION=${REVISION}
";
    Some((format!("{MARK}{text}{tail}"), ignore))
}

/// A .dockerignore for contexts that are copied as a whole.
fn deny(more: &str) -> String {
    format!(
        "# What must not get into the image.\n.git\n.github\n.env*\n**/*.pem\nDockerfile\ntarget\n{more}"
    )
}

/// What a write would change, as a unified diff of one hunk; empty when nothing.
pub fn diff(path: &str, before: Option<&str>, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) =
        (before.unwrap_or_default().lines().collect(), after.lines().collect());
    if before == Some(after) {
        return String::new();
    }
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - same;
    let end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let (gone, come) = (&old[same..old.len() - end], &new[same..new.len() - end]);
    let from = if before.is_some() { format!("a/{path}") } else { "/dev/null".into() };
    let start = |lines: &[&str]| if lines.is_empty() { same } else { same + 1 };
    let mut text = format!(
        "--- {from}\n+++ b/{path}\n@@ -{},{} +{},{} @@\n",
        start(gone),
        gone.len(),
        start(come),
        come.len()
    );
    let lines = gone
        .iter()
        .map(|line| format!("-{line}\n"))
        .chain(come.iter().map(|line| format!("+{line}\n")));
    text.extend(lines);
    text
}

#[cfg(test)]
mod tests {
    use super::super::facts;
    use super::*;
    use crate::check::dockerfile::Dockerfile;
    use crate::check::rules;

    #[test]
    fn a_diff_says_what_changes() {
        let cases = [
            (None, "a\nb\n", "--- /dev/null\n+++ b/f\n@@ -0,0 +1,2 @@\n+a\n+b\n"),
            (Some("a\nb\n"), "a\nb\n", ""),
            (Some("a\nb\nc\n"), "a\nx\nc\n", "--- a/f\n+++ b/f\n@@ -2,1 +2,1 @@\n-b\n+x\n"),
            (Some("a\na\n"), "a\na\na\n", "--- a/f\n+++ b/f\n@@ -2,0 +3,1 @@\n+a\n"),
        ];
        for (before, after, expected) in cases {
            assert_eq!(diff("f", before, after), expected);
        }
    }

    /// A repository of each language, and what is written for it.
    fn written(files_of: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
        let tree =
            files_of.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        let facts = facts::read(&tree, "x").expect("it is something");
        let base = base(&facts.stack).map(|base| format!("{base}@sha256:abc")).unwrap_or_default();
        files(&facts, &base, &[]).into_iter().collect()
    }

    #[test]
    fn what_is_written_keeps_our_own_rules() {
        let app = "app = FastAPI()\n'/healthz'";
        let repositories: &[&[(&str, &str)]] = &[
            &[
                ("pyproject.toml", "[project]\nname='x'\n"),
                ("uv.lock", "name = \"fastapi\"\nname = \"uvicorn\""),
                ("app/main.py", app),
            ],
            &[
                ("pyproject.toml", "[tool.poetry]\nname='x'\n"),
                ("poetry.lock", ""),
                ("app/main.py", "from fastapi\napp = FastAPI()"),
            ],
            &[
                ("pyproject.toml", "[tool.pdm]\n[project]\nname='x'\n"),
                ("pdm.lock", "name = \"fastapi\"\nname = \"uvicorn\""),
                ("main.py", app),
            ],
            &[
                ("requirements.txt", "-r requirements/x.txt\nx==1\n"),
                ("requirements/x.txt", ""),
                ("main.py", ""),
            ],
            &[("package.json", r#"{"scripts":{"build":"tsc"}}"#), ("package-lock.json", "{}")],
            &[("go.mod", "module x\ngo 1.27\n"), ("cmd/x/main.go", "package main\n")],
            &[
                ("go.mod", "module x\ngo 1.27\n"),
                ("vendor/modules.txt", ""),
                ("main.go", "package main\n"),
            ],
        ];
        for repository in repositories {
            let files = written(repository);
            let dockerfile = Dockerfile::parse(&files["Dockerfile"]);
            let looked = rules::Facts {
                dockerfile: &dockerfile,
                target: Some("runtime"),
                port: 8000,
                ignore: Some(&files[".dockerignore"]),
            };
            assert_eq!(rules::lint(&looked), [], "{}", files["Dockerfile"]);
            let service: crate::config::service::Service =
                crate::config::parse(&files["service.yaml"], std::path::Path::new("service.yaml"))
                    .expect("a service");
            assert_eq!(service.name.to_string(), "x");
            // What the Dockerfile copies, its .dockerignore lets in.
            for copy in dockerfile.instructions.iter().filter(|one| one.keyword == "COPY") {
                for source in copy.sources().iter().filter(|source| *source != ".") {
                    assert!(
                        !rules::leaves_out(&files[".dockerignore"], source),
                        "{source}: {}",
                        files[".dockerignore"]
                    );
                }
            }
        }
    }

    #[test]
    fn a_dockerfile_elsewhere_is_named() {
        let files = written(&[("docker/Dockerfile", "FROM x\nEXPOSE 9000\n")]);
        assert!(files["service.yaml"].contains("port: 9000\n"), "{}", files["service.yaml"]);
        assert!(
            files["service.yaml"].contains("image: {dockerfile: docker/Dockerfile}\n"),
            "{}",
            files["service.yaml"]
        );
        assert!(!files.contains_key("Dockerfile"));
    }

    #[test]
    fn a_workflow_that_is_there_stays_and_one_that_calls_is_enough() {
        let of = |name: &str, text: &str| (name.to_string(), text.to_string());
        assert_eq!(workflow(&[]), "ci.yml");
        assert_eq!(workflow(&[of("ci.yml", "on: push")]), "cicd.yml");
        assert_eq!(workflow(&[of("ci.yml", WORKFLOW)]), "ci.yml");
        assert_eq!(
            workflow(&[of("ci.yml", "on: push"), of("deliver.yaml", WORKFLOW)]),
            "deliver.yaml"
        );
    }
}
