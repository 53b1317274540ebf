//! The files that a service needs, from what its repository is. Pure.

use super::facts::{MARK, ServiceFacts, Stack};
use super::mode::Mode;
use super::own::OwnDockerfile;
use super::tree::{Evidence, Fact};
use super::{go, node, python};
use crate::dockerignore::Ignore;

/// A file to write: its path, and its text.
pub type File = (String, String);

/// What we give every service to copy.
const WORKFLOW: &str = include_str!("../../../workflows/ci.yml");

const BY_HAND: &str = include_str!("../../../workflows/deploy.yml");

/// What a workflow that calls the pipeline has in it.
const CALL: &str = "clinicult/cicd/.github/workflows/service.yml";
/// The same of the one that people start by hand.
const CALL_BY_HAND: &str = "clinicult/cicd/.github/workflows/deploy.yml";

/// The image that the Dockerfile is built on, by its tag; `None` when there is nothing to pin.
pub fn name_base(stack: &Stack) -> Option<String> {
    match stack {
        Stack::Python(python) => Some(format!("python:{}-slim", python.version)),
        Stack::Node(node) => Some(format!("node:{}-slim", node.version)),
        Stack::Go(go) => Some(format!("golang:{}", go.version)),
        Stack::Own(_) => None,
    }
}

/// The files, `base` being [`name_base`] with its digest where that is known. `.github/…` belongs
/// to the root of the repository, whose workflows are `workflows`: their names and texts.
pub fn write_files(facts: &ServiceFacts, base: &str, workflows: &[File]) -> Vec<File> {
    let mut files = vec![("service.yaml".to_string(), write_service(facts))];
    if let Some((dockerfile, ignore)) = write_image(facts, base) {
        files.push(("Dockerfile".into(), dockerfile));
        files.push((".dockerignore".into(), ignore));
    } else if let Stack::Own(own) = &facts.stack {
        files.extend(write_own_ignore(own));
    }
    let workflow = write_workflow(facts.branch.as_deref());
    files.push((format!(".github/workflows/{}", name_workflow(workflows, CALL)), workflow));
    let name = name_workflow(workflows, CALL_BY_HAND);
    files.push((format!(".github/workflows/{name}"), BY_HAND.to_string()));
    files
}

/// The .dockerignore beside a Dockerfile that stays. A context of another folder has its own, or
/// gets one by the Dockerfile's name, which BuildKit prefers.
fn write_own_ignore(own: &OwnDockerfile) -> Option<File> {
    if own.context == "." && !own.is_filtered {
        return Some((".dockerignore".into(), write_ignore(&[], &own.sources)));
    }
    (!own.is_filtered)
        .then(|| (format!("{}.dockerignore", own.path), write_ignore(&[], &own.sources)))
}

/// The name of the workflow that has `call` in it: of the one that does, else a name that no other
/// workflow has.
fn name_workflow<'a>(workflows: &'a [File], call: &str) -> &'a str {
    let calls = |text: &str| {
        let mut lines = text.lines().map(|line| line.trim_start_matches([' ', '-']));
        lines.any(|line| line.starts_with("uses:") && line.contains(call))
    };
    let [own, other] = match call {
        CALL_BY_HAND => ["deploy.yml", "cicd-deploy.yml"],
        _ => ["ci.yml", "cicd.yml"],
    };
    let calling = workflows.iter().find(|(_, text)| calls(text)).map(|(name, _)| name.as_str());
    let taken = workflows.iter().any(|(name, _)| name == own);
    calling.unwrap_or(if taken { other } else { own })
}

/// The workflow, on the repository's default branch.
fn write_workflow(branch: Option<&str>) -> String {
    let branch = branch.unwrap_or("main");
    WORKFLOW.replace("branches: [main]", &format!("branches: [{}]", write_word(branch)))
}

/// A text as a word of YAML's flow style.
fn write_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let is_other = ["true", "false", "yes", "no", "on", "off", "null", "~", "y", "n"]
        .contains(&text.to_lowercase().as_str())
        || text.starts_with(|c: char| !c.is_ascii_alphabetic() && c != '/')
        || text.is_empty();
    match text.chars().all(plain) && !is_other {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', "''")),
    }
}

/// A fact's evidence as a comment above it.
fn write_comment<T>(fact: &Fact<T>) -> String {
    let text = match &fact.evidence {
        Evidence::Read { file, line } => format!("{file}:{line}"),
        other => other.to_string(),
    };
    // A file's name may hold whatever it likes.
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("# {text}")
}

fn write_service(facts: &ServiceFacts) -> String {
    let ServiceFacts { name, port, health, mode, stack, .. } = facts;
    let image = match stack {
        Stack::Own(own) => {
            let mut keys = Vec::new();
            if own.context != "." {
                keys.push(format!("context: {}", own.context));
            }
            let path = match own.below.as_str() {
                "" => own.path.clone(),
                below => format!("{below}/{}", own.path),
            };
            if path != "Dockerfile" {
                keys.push(format!("dockerfile: {}", write_word(&path)));
            }
            keys.extend(own.target.iter().map(|target| format!("target: {}", write_word(target))));
            if keys.is_empty() {
                String::new()
            } else {
                format!("\nimage: {{{}}}\n", keys.join(", "))
            }
        }
        _ => "\nimage: {target: runtime}\n".into(),
    };
    let Mode { variable, debug, production } = &mode.value;
    format!(
        "# What this service is; docs/service.md of clinicult/cicd has every key. Where it runs is \
         in the organisation's platform.yaml.
name: {name}
{}
port: {}
{}
health: {{path: {}}}
{}
mode: {{variable: {variable}, debug: {}, production: {}}}
{image}
resources: {{cpu: 250m, memory: 512Mi}}

# The platform's environments, in the order in which a version goes through them:
# environments:
#   staging: {{mode: debug}}
#   production: {{replicas: 2}}
",
        write_comment(port),
        port.value,
        write_comment(health),
        write_word(&health.value),
        write_comment(mode),
        write_word(debug),
        write_word(production),
    )
}

/// The Dockerfile and its .dockerignore. No HEALTHCHECK: Kubernetes, ECS behind a load balancer and
/// `cicd` itself ask the health path from outside, and a second asker inside only costs.
fn write_image(facts: &ServiceFacts, base: &str) -> Option<File> {
    let port = facts.port.value;
    let (text, ignore) = match &facts.stack {
        Stack::Python(python) => python::write_image(python, port, base),
        Stack::Node(node) => {
            let mut more = vec!["**/node_modules".to_string()];
            more.extend(node.made.iter().cloned());
            (node::write_image(node, port, base), write_ignore(&more, &node::list_manifests(node)))
        }
        Stack::Go(go) => {
            let names: Vec<String> = go.files.iter().map(|file| file.value.clone()).collect();
            (go::write_image(go, port, base), write_ignore(&[], &names))
        }
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

/// A .dockerignore for contexts that are copied as a whole; what the Dockerfile copies by name
/// stays in.
fn write_ignore(more: &[String], copied: &[String]) -> String {
    let always = [".git", ".github", "**/.env*", "**/*.pem", "Dockerfile", "target"];
    let patterns = always.into_iter().map(str::to_string).chain(more.iter().cloned());
    let kept =
        patterns.filter(|pattern| !copied.iter().any(|path| Ignore::parse(pattern).empties(path)));
    let lines: String = kept.map(|pattern| format!("{pattern}\n")).collect();
    format!("# What must not get into the image.\n{lines}")
}

/// What a write would change, as a unified diff of one hunk; empty when nothing.
pub fn write_diff(path: &str, before: Option<&str>, after: &str) -> String {
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
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::facts;
    use super::super::tree::{Above, Surroundings};
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
            assert_eq!(write_diff("f", before, after), expected);
        }
    }

    fn facts_of(files: &[(&str, &str)], around: &Surroundings) -> ServiceFacts {
        let tree = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        facts::read_facts(&tree, around).expect("it is something")
    }

    /// What is written for a repository.
    fn written(files: &[(&str, &str)], around: &Surroundings) -> BTreeMap<String, String> {
        let facts = facts_of(files, around);
        let base = name_base(&facts.stack).map(|base| format!("{base}@sha256:abc"));
        write_files(&facts, &base.unwrap_or_default(), &[]).into_iter().collect()
    }

    fn around() -> Surroundings {
        Surroundings { folder: "x".into(), ..Surroundings::default() }
    }

    #[test]
    fn what_is_written_keeps_our_own_rules() {
        let app = "from fastapi import FastAPI\napp = FastAPI()\n";
        let repositories: &[&[(&str, &str)]] = &[
            &[
                ("pyproject.toml", "[project]\nname='x'\n"),
                ("uv.lock", "name = \"fastapi\"\nname = \"uvicorn\""),
                ("app/main.py", app),
            ],
            &[
                ("pyproject.toml", "[project]\nname='x'\n[tool.uv.sources]\na={path='lib'}\n"),
                ("uv.lock", "source = { git = \"https://x/y\" }"),
                ("lib/a.py", ""),
                ("app/main.py", app),
            ],
            &[
                ("pyproject.toml", "[tool.poetry]\nname='x'\n"),
                ("poetry.lock", ""),
                ("app/main.py", app),
            ],
            &[
                ("pyproject.toml", "[tool.pdm]\n[project]\nname='x'\n"),
                ("pdm.lock", "name = \"fastapi\"\nname = \"uvicorn\""),
                ("main.py", app),
            ],
            &[
                ("requirements.txt", "-r requirements/x.txt\nflask==1\n"),
                ("requirements/x.txt", ""),
                ("main.py", "from flask import Flask\napp = Flask(__name__)\n"),
            ],
            &[
                ("package.json", r#"{"scripts":{"build":"tsc","start":"node dist/a.js"}}"#),
                ("package-lock.json", "{}"),
                ("src/a.ts", ""),
            ],
            &[
                ("package.json", r#"{"scripts":{"build":"next build","start":"next start"}}"#),
                ("package-lock.json", "{}"),
            ],
            &[("go.mod", "module x\ngo 1.27\n"), ("cmd/x/main.go", "package main\n")],
            &[
                ("go.mod", "module x\ngo 1.27\n"),
                ("vendor/modules.txt", ""),
                ("target/x", ""),
                ("main.go", "package main\nvar x = os.DirFS(\"target\")\n"),
            ],
        ];
        for repository in repositories {
            let facts = facts_of(repository, &around());
            let files = written(repository, &around());
            let dockerfile = Dockerfile::parse(&files["Dockerfile"]);
            let mut paths: BTreeSet<String> = BTreeSet::new();
            for (path, _) in *repository {
                let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
                paths.extend(ends.map(|end| path[..end].to_string()));
            }
            let looked = rules::DockerfileFacts {
                dockerfile: &dockerfile,
                target: Some("runtime"),
                arguments: BTreeMap::new(),
                port: facts.port.value,
                ignore: Some(&files[".dockerignore"]),
                // What it copies is there, and its .dockerignore lets it in.
                context: Some(rules::ContextFiles { paths, git_ignore: None }),
            };
            let mut found = rules::lint_dockerfile(&looked);
            // A lock file that is not there yet is told by init.
            found.retain(|finding| {
                finding.rule != "copy-missing" || !finding.message.contains("poetry.lock")
            });
            assert_eq!(found, [], "{}", files["Dockerfile"]);
            let service: crate::config::service::Service =
                crate::config::parse(&files["service.yaml"], std::path::Path::new("service.yaml"))
                    .expect("a service");
            assert_eq!(service.name.to_string(), "x");
        }
    }

    #[test]
    fn each_fact_stands_below_its_evidence() {
        let files = written(
            &[
                ("go.mod", "module x\n"),
                ("main.go", "package main\nfunc main() {\n\thttp.HandleFunc(\"/up\", h)\n}\n"),
            ],
            &around(),
        );
        let service = &files["service.yaml"];
        for text in [
            "# a guess: no source says what the service listens on\nport: 8000\n",
            "# main.go:3\nhealth: {path: /up}\n",
            "# a guess: no source reads a variable for it\nmode: {variable: APP_MODE",
        ] {
            assert!(service.contains(text), "{text} in {service}");
        }
    }

    #[test]
    fn words_of_yaml_stay_words() {
        for (text, word) in [
            ("debug", "debug"),
            ("/api/health/", "/api/health/"),
            ("true", "'true'"),
            ("1", "'1'"),
            ("a, b}", "'a, b}'"),
            ("it's", "'it''s'"),
            ("release/1.x", "release/1.x"),
            ("", "''"),
        ] {
            assert_eq!(write_word(text), word);
        }
    }

    #[test]
    fn a_dockerfile_elsewhere_is_named() {
        let files = written(&[("docker/Dockerfile", "FROM x\nEXPOSE 9000\n")], &around());
        assert!(files["service.yaml"].contains("port: 9000\n"), "{}", files["service.yaml"]);
        assert!(
            files["service.yaml"].contains("image: {dockerfile: docker/Dockerfile}\n"),
            "{}",
            files["service.yaml"]
        );
        assert!(!files.contains_key("Dockerfile"));
    }

    #[test]
    fn a_dockerfile_for_the_root_gets_the_roots_context() {
        let above = Above {
            path: "../..".into(),
            below: "services/api".into(),
            copied: ["services/api/a".to_string()].into(),
            ..Above::default()
        };
        let around = Surroundings { above: vec![above.clone()], ..around() };
        let repository = [("Dockerfile", "FROM x\nCOPY services/api/a a\n")];
        let files = written(&repository, &around);
        let expected = "image: {context: ../.., dockerfile: services/api/Dockerfile}\n";
        assert!(files["service.yaml"].contains(expected), "{}", files["service.yaml"]);
        assert!(files.contains_key("Dockerfile.dockerignore"), "{files:?}");
        let filtered = Above { files: [(".dockerignore".into(), String::new())].into(), ..above };
        let files = written(&repository, &Surroundings { above: vec![filtered], ..around });
        assert!(!files.keys().any(|path| path.ends_with(".dockerignore")), "{files:?}");
    }

    #[test]
    fn what_a_dockerfile_copies_is_not_ignored() {
        let files = written(
            &[("Dockerfile", "FROM x\nCOPY target/app.jar a\n"), ("target/app.jar", "")],
            &around(),
        );
        assert!(!files[".dockerignore"].contains("target"), "{}", files[".dockerignore"]);
    }

    /// What the program runs and no build makes is in the image; what one makes is not its source.
    #[test]
    fn a_folder_that_is_committed_is_left_out_only_where_a_build_makes_it() {
        let lock = ("package-lock.json", r#"{"lockfileVersion": 3, "packages": {}}"#);
        let text = "require('http').createServer().listen(3000)\n";
        for (scripts, server, left_out) in [
            (r#"{"start": "node dist/server.js"}"#, ("dist/server.js", text), false),
            (r#"{"build": "tsc", "start": "node dist/server.js"}"#, ("src/server.ts", text), true),
        ] {
            let package = format!(r#"{{"name": "s", "scripts": {scripts}}}"#);
            let files = written(&[("package.json", &package), lock, server], &around());
            let ignore = &files[".dockerignore"];
            assert_eq!(ignore.lines().any(|line| line == "dist"), left_out, "{scripts}: {ignore}");
            // A name without a slash counts at the root only.
            for below in ["**/.env*", "**/node_modules"] {
                assert!(ignore.lines().any(|line| line == below), "{below}: {ignore}");
            }
        }
    }

    #[test]
    fn a_workflow_that_is_there_stays_and_one_that_calls_is_enough() {
        let of = |name: &str, text: &str| (name.to_string(), text.to_string());
        let comment = format!("# see {CALL}");
        let cases = [
            (vec![], ["ci.yml", "deploy.yml"]),
            (vec![of("ci.yml", "on: push")], ["cicd.yml", "deploy.yml"]),
            (vec![of("deploy.yml", "on: push")], ["ci.yml", "cicd-deploy.yml"]),
            (vec![of("ci.yml", WORKFLOW)], ["ci.yml", "deploy.yml"]),
            (vec![of("ci.yml", &comment)], ["cicd.yml", "deploy.yml"]),
            (
                vec![of("ci.yml", "on: push"), of("all.yaml", &format!("{WORKFLOW}{BY_HAND}"))],
                ["all.yaml", "all.yaml"],
            ),
            (vec![of("hand.yml", BY_HAND)], ["ci.yml", "hand.yml"]),
        ];
        for (workflows, expected) in cases {
            let names = [CALL, CALL_BY_HAND].map(|call| name_workflow(&workflows, call));
            assert_eq!(names, expected, "{workflows:?}");
        }
    }

    #[test]
    fn the_workflow_runs_on_the_default_branch() {
        assert!(write_workflow(None).contains("branches: [main]\n"));
        assert!(write_workflow(Some("trunk")).contains("branches: [trunk]\n"));
    }
}
