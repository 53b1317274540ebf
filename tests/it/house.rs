//! The rules of the house (ARCHITECTURE.md), held: what may be named where, and that what is
//! written down is so.

mod circles;
mod errors;
mod newcomer;
pub mod words;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::root;

/// Every file below `folder` whose name ends with `ending`, relative to the repository.
pub fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                walk(&path, ending, found);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path.strip_prefix(root()).expect("below the root").to_path_buf());
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), ending, &mut found);
    found.sort();
    found
}

fn text(file: &Path) -> String {
    std::fs::read_to_string(root().join(file))
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A source file without its tests. Tests that are a file of their own are only named in it.
fn code(file: &Path) -> String {
    let text = text(file);
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].to_string()
}

/// The lines of `code` that are not comments.
fn statements(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Whether a file's own first words say that it is pure.
fn says_pure(file: &Path) -> bool {
    let text = text(file);
    let head = text.lines().take_while(|line| line.starts_with("//!"));
    let head: String = head.map(|line| line.trim_start_matches("//!")).collect();
    head.contains("Pure.") || head.contains("Pure:")
}

/// A file whose first words say "Pure" does no I/O and reads no clock.
#[test]
fn pure_modules_do_no_io_and_read_no_clock() {
    let effects = [
        "async fn",
        ".await",
        "tokio::",
        "std::fs",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "std::process",
        "std::env",
        "reqwest",
        "aws_sdk",
        "bollard",
        "kube::Client",
        "Instant",
        "SystemTime",
        "crate::report::Report",
    ];
    let pure: Vec<PathBuf> =
        files("src", ".rs").into_iter().filter(|file| says_pure(file)).collect();
    for file in &pure {
        for line in statements(&code(file)) {
            for effect in effects {
                assert!(
                    !line.contains(effect),
                    "{} is pure and says `{effect}`: {line}",
                    file.display()
                );
            }
        }
    }
    assert!(pure.len() >= 60, "{} files say that they are pure", pure.len());
}

#[test]
fn a_step_never_imports_another_step() {
    let steps = ["version", "image", "registry", "deploy", "release"];
    for step in steps {
        for file in files(&format!("src/{step}"), ".rs") {
            for line in statements(&text(&file)) {
                for other in steps.iter().filter(|other| **other != step) {
                    let import = line.contains(&format!("crate::{other}::"))
                        || line.contains(&format!("crate::{{{other}"));
                    assert!(!import, "{}: {line}", file.display());
                }
            }
        }
    }
}

/// Each SDK is named in one room only: its types never leave it.
#[test]
fn an_sdk_stays_in_its_room() {
    let rooms = [
        ("aws_sdk_ecr", "src/registry/ecr"),
        ("aws_sdk_eks", "src/deploy/eks/"),
        ("aws_sdk_ecs", "src/deploy/ecs/"),
        ("aws_sdk_apigatewayv2", "src/deploy/ecs/"),
        ("aws_sdk_elasticloadbalancingv2", "src/deploy/ecs/"),
        ("aws_sdk_cloudwatchlogs", "src/deploy/ecs/"),
        ("aws_sdk_secretsmanager", "src/deploy/ecs/"),
        ("aws_sdk_scheduler", "src/deploy/ecs/"),
        ("aws_sdk_applicationautoscaling", "src/deploy/ecs/"),
        ("aws_sdk_s3", "src/aws/ src/deploy/storage.rs src/ledger/store/"),
        ("aws_sdk_sts", "src/aws"),
        ("kube::", "src/deploy/eks/"),
        ("bollard", "src/docker"),
        ("gix::", "src/git.rs src/git/ src/version/"),
        ("indicatif", "src/report"),
        ("tree_sitter", "src/image/scaffold/"),
        ("clap", "src/cli.rs src/generate src/report.rs"),
    ];
    for (sdk, homes) in rooms {
        for file in files("src", ".rs") {
            let path = file.to_string_lossy().into_owned();
            if homes.split(' ').any(|home| path.starts_with(home)) {
                continue;
            }
            for line in statements(&code(&file)) {
                let named = line.contains(&format!(" {sdk}"))
                    || line.contains(&format!("({sdk}"))
                    || line.contains(&format!("&{sdk}"));
                // The session and the repository are handed through; they are opened in their own
                // rooms.
                let handed = ["&gix::Repository", "clap::ValueEnum"]
                    .iter()
                    .any(|through| line.contains(through));
                assert!(!named || handed, "{path} names {sdk}, which lives in {homes}: {line}");
            }
        }
    }
}

/// Each kind of client is made in one place, which sets its proxy, its certificates and its times
/// (the table "Who speaks HTTP" in ARCHITECTURE.md), and so is a child, for what it sees of us.
#[test]
fn clients_and_children_are_made_in_one_place() {
    let makers = [
        ("reqwest::Client::", "src/http.rs"),
        ("ClientBuilder::new", "src/http.rs"),
        ("OctocrabBuilder::", "src/github/client.rs"),
        ("Octocrab::builder", "src/github/client.rs"),
        ("aws_config::defaults", "src/aws.rs"),
        ("aws_config::from_env", "nowhere"),
        ("aws_config::load", "nowhere"),
        ("Config::infer", "nowhere"),
        ("kube::Config::", "src/deploy/eks/api.rs"),
        ("kube::Client::try_", "src/deploy/eks/api.rs"),
        ("Docker::connect", "src/docker/api.rs"),
        ("hyper_util::client", "nowhere"),
        ("HyperClientBuilder", "nowhere"),
        ("process::Command::new", "src/spawn.rs"),
    ];
    let architecture = text(Path::new("ARCHITECTURE.md"));
    let table = architecture.split_once("## Who speaks HTTP\n").expect("a table").1;
    let table = table.split("\n## ").next().unwrap_or_default();
    for (maker, home) in makers.iter().filter(|(_, home)| home.starts_with("src/")) {
        let named = home.trim_start_matches("src/");
        assert!(*home == "src/spawn.rs" || table.contains(named), "{maker}: no {home} in {table}");
    }
    for file in files("src", ".rs").iter().filter(|file| !file.ends_with("tests.rs")) {
        let path = file.to_string_lossy().into_owned();
        for line in statements(&code(file)) {
            for (maker, home) in makers {
                let imports = line.starts_with("use ");
                let is_at_home = path == home || imports;
                assert!(!line.contains(maker) || is_at_home, "{path} has {maker}: {line}");
            }
            // An SDK's client is of a session, with all that the session sets.
            let (of_sdk, bare) = (line.contains("aws_sdk_"), line.contains("Config::builder()"));
            let bare = bare || line.contains("Client::from_conf(");
            assert!(!of_sdk || !bare, "{path} makes a client without the session: {line}");
        }
    }
}

/// Where a disallowed method is let in, by `expect` and with a reason; nothing is let in by
/// `allow`.
#[test]
fn effects_are_in_their_rooms() {
    let rooms = [
        "src/main.rs",
        "src/report.rs",
        "src/spawn.rs",
        "src/deploy/",
        "src/image/",
        "src/registry/",
        "src/retry",
        "src/docker",
        "src/aws.rs",
        "src/aws/query.rs",
        "src/ledger/",
        "src/command/lock.rs",
        "src/command/report.rs",
    ];
    for file in files("src", ".rs") {
        let path = file.to_string_lossy().into_owned();
        let code = code(&file);
        assert!(
            !code.contains("allow(clippy::disallowed"),
            "{path} allows what clippy.toml disallows"
        );
        if code.contains("expect(clippy::disallowed") {
            assert!(
                rooms.iter().any(|room| path.starts_with(room)),
                "{path} is no room for effects"
            );
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_can_be_held_in_the_head() {
    for file in files("src", ".rs").into_iter().chain(files("tests/it", ".rs")) {
        let text = text(&file);
        assert!(text.starts_with("//! "), "{} does not say what it is", file.display());
        let lines = text.lines().count();
        assert!(
            lines <= 700,
            "{} has {lines} lines: is there a second room in it?",
            file.display()
        );
    }
}

#[test]
fn no_test_file_is_forgotten() {
    let main = text(Path::new("tests/it/main.rs"));
    for file in files("tests/it", ".rs") {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        if name != "main" && file.parent() == Some(Path::new("tests/it")) {
            assert!(
                main.contains(&format!("mod {name};")),
                "tests/it/main.rs does not know {name}"
            );
        }
    }
}

/// README's commands are those that `dev` offers, and the other way round.
#[test]
fn the_readme_and_dev_offer_the_same_commands() {
    let help = std::process::Command::new("bash")
        .arg(root().join("dev"))
        .arg("help")
        .output()
        .expect("dev runs");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let offered: BTreeSet<String> = help
        .lines()
        .filter_map(|line| line.split_once("  ").map(|(command, _)| command.to_string()))
        .filter(|command| command.bytes().all(|b| b.is_ascii_lowercase()) && !command.is_empty())
        .collect();
    let readme = text(Path::new("README.md"));
    let written: BTreeSet<String> = readme
        .split("./dev ")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_lowercase()).next().map(str::to_string))
        .filter(|word| !word.is_empty())
        .collect();
    assert_eq!(written, offered, "README (left) and `./dev help` (right):\n{help}");
}

/// Every exit code of the table is in the README, in the words of the code.
#[test]
fn the_readme_has_the_exit_table() {
    let readme = text(Path::new("README.md"));
    for code in ["0", "1", "2", "3", "4", "5", "6", "7", "8", "130 / 143"] {
        assert!(
            readme.lines().any(|line| line.starts_with(&format!("| {code} |"))),
            "exit code {code} is not in README.md"
        );
    }
}

/// Third-party actions by full SHA, permissions per job, and no expression inside a script.
#[test]
fn workflows_keep_the_rules() {
    for file in files(".github/workflows", ".yml").into_iter().chain(files("workflows", ".yml")) {
        let text = text(&file);
        let path = file.display();
        assert!(text.contains("permissions:"), "{path} says nothing of permissions");
        let mut script: Option<usize> = None;
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            let line = line.trim_start();
            if let Some(start) = script
                && indent <= start
                && !line.is_empty()
            {
                script = None;
            }
            if line.starts_with("run:") || line.starts_with("- run:") {
                script = Some(indent);
            }
            assert!(
                script.is_none() || !line.contains("${{"),
                "{path}: an expression inside a script: {line}"
            );
            let Some(uses) = line.trim_start_matches("- ").strip_prefix("uses: ") else { continue };
            let uses = uses.split(" #").next().unwrap_or(uses).trim();
            let ours = uses.starts_with("$/")
                || uses.starts_with("./")
                || uses.starts_with("clinicult/cicd");
            let pinned = uses.rsplit_once('@').is_some_and(|(_, sha)| {
                sha.len() == 40 && sha.bytes().all(|b| b.is_ascii_hexdigit())
            });
            assert!(ours || pinned, "{path}: {uses} is not pinned by its full SHA");
        }
    }
}

/// Nothing in the repository names a place of the machine it was made on.
#[test]
fn no_file_names_a_developers_machine() {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output()
        .expect("git runs");
    for file in String::from_utf8_lossy(&listed.stdout).split('\0').filter(|file| !file.is_empty())
    {
        let Ok(text) = std::fs::read_to_string(root().join(file)) else { continue };
        let home = ["/home/", "/Users/"];
        for line in text.lines().filter(|_| file != "tests/it/house.rs") {
            assert!(!home.iter().any(|place| line.contains(place)), "{file}: {line}");
        }
    }
}
