//! Every fenced command of every document: typed by a test, or in the table of those that cannot be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{run_shell, type_command};
use crate::house::files;
use crate::release::github::Github;
use crate::support::{Repository, cicd, copy, root, run, stack};

/// Pages that a test types from top to bottom, with what it reads them by.
const TYPED_ELSEWHERE: [(&str, &str); 7] = [
    ("docs/getting-started.md", r#"commands("getting-started.md")"#),
    ("docs/migration.md", r#"commands("migration.md")"#),
    ("docs/monorepo.md", r#"commands("monorepo.md")"#),
    ("docs/operating.md", r#"commands("operating.md")"#),
    ("docs/preview.md", r#"commands("preview.md")"#),
    ("docs/set-up.md", r#"blocks("set-up.md", "sh")"#),
    ("docs/test.md", r#"commands("test.md")"#),
];

/// Commands that cannot run here, and why: whole, or up to a space or a stroke. They are parsed all
/// the same.
const NOT_HERE: [(&str, &str); 8] = [
    ("./dev ", "what runs this test"),
    ("gh attestation verify ", "asks GitHub for an attestation that only a release has"),
    ("docker buildx imagetools inspect ", "wants an image with provenance in a registry with TLS"),
    ("kubectl --namespace production top ", "the stack's cluster has no metrics server"),
    ("curl --verbose https://api.example.org/", "the address of nobody"),
    ("cicd promote ", "wants two environments; act.rs promotes"),
    ("cicd check --environment production", "looks into accounts; iam.rs and check.rs do"),
    ("cicd build-image", "a minute for what image.rs does in each of its tests"),
];

/// A fenced block of commands and the page that has it.
struct Block {
    page: String,
    lines: Vec<String>,
}

/// README, the other pages at the top, and all below docs/.
fn list_pages() -> Vec<PathBuf> {
    let names = std::fs::read_dir(root()).expect("the root");
    let names = names.map(|entry| PathBuf::from(entry.expect("an entry").file_name()));
    let at_the_top = names.filter(|name| name.extension().is_some_and(|end| end == "md"));
    at_the_top.chain(files("docs", ".md")).collect()
}

fn read_blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for path in list_pages() {
        let page = path.display().to_string();
        let mut open: Option<(bool, Vec<String>)> = None;
        for line in std::fs::read_to_string(root().join(&path)).expect("a page").lines() {
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(language), None) => {
                    let is_shell = ["sh", "bash", "shell", "console"].contains(&language.trim());
                    open = Some((is_shell, Vec::new()));
                }
                (Some(_), Some(_)) => {
                    let (is_shell, lines) = open.take().expect("an open block");
                    if is_shell {
                        blocks.push(Block { page: page.clone(), lines });
                    }
                }
                (None, Some((_, lines))) => lines.push(without_comment(line)),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{page}: a block without an end");
    }
    blocks
}

pub fn without_comment(line: &str) -> String {
    line.split(" # ").next().unwrap_or_default().trim().to_string()
}

fn is_typed_elsewhere(page: &str) -> bool {
    TYPED_ELSEWHERE.iter().any(|(typed, _)| *typed == page)
}

fn matches_command(line: &str, command: &str) -> bool {
    line == command || command.ends_with([' ', '/']) && line.starts_with(command)
}

fn is_not_here(line: &str) -> bool {
    NOT_HERE.iter().any(|(command, _)| matches_command(line, command))
}

/// The blocks that no other test types, each line once.
fn read_untyped() -> Vec<Block> {
    let (typed, rest): (Vec<Block>, Vec<Block>) =
        read_blocks().into_iter().partition(|block| is_typed_elsewhere(&block.page));
    let mut seen: BTreeSet<String> = typed.into_iter().flat_map(|block| block.lines).collect();
    let once = rest.into_iter().map(|mut block| {
        block.lines.retain(|line| !line.is_empty() && seen.insert(line.clone()));
        block
    });
    once.filter(|block| !block.lines.is_empty()).collect()
}

/// The tables above say what is so, and what cannot run is at least a command.
#[test]
fn what_no_test_types_is_said_and_parses() {
    let blocks = read_blocks();
    let sources: String = ["docs.rs", "preview.rs", "suite.rs"]
        .map(|file| std::fs::read_to_string(root().join("tests/it").join(file)).expect(file))
        .concat();
    for (page, by) in TYPED_ELSEWHERE {
        assert!(sources.contains(by), "no test reads {page} by {by}");
        assert!(blocks.iter().any(|block| block.page == page), "{page} has no commands any more");
    }
    let lines: Vec<&String> = blocks.iter().flat_map(|block| &block.lines).collect();
    for (command, _) in NOT_HERE {
        let is_told = lines.iter().any(|line| matches_command(line, command));
        assert!(is_told, "no page has {command}");
    }
    let repository = Repository::of_example();
    for line in lines.into_iter().filter(|line| is_not_here(line)) {
        run(Command::new("bash").args(["-n", "-c", line])).ended(0);
        if line.starts_with("cicd ") {
            type_command(repository.path(), &format!("{line} --help")).ended(0);
        }
    }
}

/// Types the rest into the repository of a service that runs on this machine: what stands for the
/// organisation's names there, is made first.
pub fn type_the_rest(repository: &Repository, name: &str) {
    let folder = repository.path();
    let aws = |arguments: &str| {
        run(Command::new("aws").args(arguments.split(' ')).current_dir(folder)).ended(0)
    };
    let mut history = cicd(folder);
    history.args(["history", "--environment", "local", "--output", "json"]);
    let history = run(&mut history).ended(0).json();
    let version = |record: usize| history["records"][record]["version"].as_str().expect("one");
    // The last command went back.
    let (now, before) = (version(1), version(0));
    assert_ne!(now, before, "a rollback has something to go back from");

    let ledger = Path::new(env!("CARGO_TARGET_TMPDIR")).join("state/cicd/cicd").join(name);
    copy(&ledger, &folder.join("records/cicd").join(name));
    let bucket = format!("{name}-told");
    aws(&format!("s3 mb s3://{bucket}"));
    aws(&format!("s3 cp --recursive records s3://{bucket}"));
    aws(&format!("secretsmanager create-secret --name {name}/db --secret-string none"));
    let platform = std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("a platform");
    repository.write("platform.yaml", &platform.replace("clinicult-cicd-records", &bucket));
    let push = ["push-ecr", "--environment", "staging", "--tag", now];
    run(cicd(folder).args(push)).ended(0);
    let policy = r#"{"Version":"2012-10-17","Statement":[]}"#;
    aws(&format!(
        "ecr set-repository-policy --repository-name clinicult/{name} --policy-text {policy}"
    ));
    copy(&folder.join("target/image"), &folder.join("elsewhere"));
    repository.write("cicd-linux-amd64", "a program\n");
    let origin = Repository::empty();
    origin.git(&["init", "-q", "--bare", "-b", "main"]);
    repository.git(&["remote", "add", "origin", &origin.path().display().to_string()]);
    repository.git(&["push", "-q", "-u", "origin", "main"]);
    repository.git(&["add", "-A"]);
    let github = Github::of(folder, &stack("CICD_STACK_GITHUB"));

    for block in read_untyped() {
        let lines: Vec<&String> = block.lines.iter().filter(|line| !is_not_here(line)).collect();
        let mut script = String::from("gh() { echo test-github-token; }\nset -euo pipefail\n");
        for line in lines {
            let line = line
                .replace(
                    "s3://clinicult-cicd-records/cicd/patients/production/ecs.clinicult",
                    &format!("s3://{bucket}/cicd/{name}/local/docker"),
                )
                .replace("clinicult-cicd-records", &bucket)
                .replace("patients", name)
                .replace("--environment production", "--environment local")
                // What README commits makes another image, which gets no tag that one has.
                .replace("--tag 1.4.0", "--tag 9.9.9")
                .replace("1.4.0", now)
                .replace("1.3.0", before)
                .replace("~/records", "records")
                .replace("FILE-OR-FOLDER", "elsewhere")
                .replace("sha256sum --check", "sha256sum cicd-* > SHA256SUMS; sha256sum --check");
            script += &line;
            script.push('\n');
        }
        let environment = [
            ("INPUT_PLATFORM", "platform.yaml"),
            ("GITHUB_API_URL", github.url.as_str()),
            ("GITHUB_REPOSITORY", "clinicult/patients"),
            ("GITHUB_TOKEN", "test-github-token"),
        ];
        let ended = run_shell(folder, &script, &environment);
        assert_eq!(ended.code, 0, "{}: {script}\n{ended}", block.page);
    }
    aws(&format!("s3 rb --force s3://{bucket}"));
    aws(&format!("secretsmanager delete-secret --secret-id {name}/db"));
    aws(&format!("ecr delete-repository --force --repository-name clinicult/{name}"));
}
