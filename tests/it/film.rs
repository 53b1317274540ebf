//! The whole story under act, run by `./dev proof film`: from a pull request to a bad release that
//! goes back by itself, a rollback by hand and a promotion. Its scenes are the tests of `act.rs`.

#![allow(clippy::disallowed_macros, clippy::print_stdout, reason = "a proof prints what it shows")]

use std::time::Instant;

use serde_json::Value;

use crate::act::{act, dispatch, service, succeeded};
use crate::release::github::Github;
use crate::support::{Removal, Repository, Run, cicd, run, stack, unique};

/// What crashes in the cluster, and passes every check before it.
const BAD: &str = "import os\n\nif os.environ.get(\"KUBERNETES_SERVICE_HOST\"):\n    \
                   raise SystemExit(\"no database: connection refused\")\n\n";

fn history(repository: &Repository, environment: &str) -> Vec<String> {
    let mut command = cicd(repository.path());
    command.args(["history", "--environment", environment, "--platform", "platform.yaml"]);
    let shown = run(command.args(["--output", "json"])).ended(0).json();
    let records = shown["records"].as_array().expect("records").iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let line = |record: &Value| {
        format!(
            "{} {} {}",
            text(&record["kind"]),
            text(&record["version"]),
            text(&record["result"])
        )
    };
    records.map(line).collect()
}

/// Prints a scene: what happened, the jobs that succeeded, and how long it took.
fn show(scene: &str, ended: &Run, since: Instant) -> String {
    let log = format!("{}{}", ended.stdout, ended.stderr);
    let jobs = succeeded(&log).join(", ");
    println!("| {scene} | {} | {jobs} | {:.0} |", ended.code, since.elapsed().as_secs_f64());
    log
}

#[test]
#[ignore = "./dev proof film: five minutes"]
fn film() {
    let name = unique("film");
    let repository = service(&name);
    let _removal = Removal::of(&name);
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    println!("| scene | exit | jobs that succeeded | seconds |\n|---|---|---|---|");
    let play = |scene: &str, event: &str, code: i32| {
        let since = Instant::now();
        let ended = act(&repository, event, &github, &[]);
        let log = show(scene, &ended, since);
        assert_eq!(ended.code, code, "{log}");
        log
    };
    let by_hand = |scene: &str, inputs: &[(&str, &str)]| {
        let since = Instant::now();
        let ended = dispatch(&repository, &github, inputs);
        let log = show(scene, &ended, since);
        assert_eq!(ended.code, 0, "{log}");
    };
    // act starts what waits behind a job that failed, where GitHub's runner cancels it: the ledger
    // keeps production from what was never good in staging.
    let platform = repository.path().join("platform.yaml");
    let text = std::fs::read_to_string(platform).expect("a platform");
    repository.write(
        "platform.yaml",
        &text.replacen("  production:\n", "  production:\n    after: staging\n", 1),
    );
    repository.git(&["commit", "-qam", "ci: production comes after staging"]);
    play("a pull request: one comment, nothing written", "pull_request", 0);
    assert_eq!(github.with(|state| state.comments.len()), 1);
    play("its merge: 0.1.0 goes to staging, then production", "push", 0);
    repository.git(&["tag", "v0.1.0"]);
    repository.write("NEWS.md", "second\n");
    repository.git(&["add", "-A"]);
    repository.commit("feat: second");
    play("the next merge: 0.2.0", "push", 0);
    repository.git(&["tag", "v0.2.0"]);
    let main = repository.path().join("patients/main.py");
    let text = std::fs::read_to_string(main).expect("main.py");
    repository.write("patients/main.py", &format!("{BAD}{text}"));
    repository.git(&["add", "-A"]);
    repository.commit("feat: third");
    let log = play(
        "a bad release: 0.3.0 fails in staging and goes back; production keeps 0.2.0",
        "push",
        1,
    );
    assert!(log.contains("0.3.0 failed in staging and was rolled back to 0.2.0"), "{log}");
    let staging = ("environment", "staging");
    by_hand(
        "a rollback by hand: staging to 0.1.0",
        &[("action", "rollback"), staging, ("version", "previous"), ("reason", "it hurts")],
    );
    by_hand(
        "a promotion by hand: what runs well in staging, to production",
        &[
            ("action", "promote"),
            ("environment", "production"),
            ("from", "staging"),
            ("reason", "it is well"),
        ],
    );
    println!("\n| history of | newest first |\n|---|---|");
    for environment in ["staging", "production"] {
        println!("| {environment} | {} |", history(&repository, environment).join("; "));
    }
    assert_eq!(
        history(&repository, "staging"),
        [
            "rollback 0.1.0 deployed",
            "deploy 0.3.0 rolled-back",
            "deploy 0.2.0 deployed",
            "deploy 0.1.0 deployed"
        ]
    );
    assert_eq!(
        history(&repository, "production"),
        ["promote 0.1.0 deployed", "deploy 0.2.0 deployed", "deploy 0.1.0 deployed"]
    );
    let shown = github.with(|state| state.deployments.clone());
    let states: Vec<String> = shown
        .iter()
        .map(|one| {
            let states = one["statuses"].as_array().expect("a list").last().expect("a state");
            format!("{} {}", one["environment"], states["state"])
        })
        .collect();
    println!("\nGitHub's deployments: {}", states.join(", ").replace('"', ""));
}
