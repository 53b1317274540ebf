//! What each starter does on each event, under act: which jobs run, and what they may write. What
//! happens on a push, a pull request and a dispatch in full is in `act.rs` and `preview.rs`.

use serde_json::{Value, json};

use crate::act::{act_on, succeeded};
use crate::release::github::Github;
use crate::support::{Removal, Repository, copy, root, run, stack, unique};

const SHA: &str = "0123456789012345678901234567890123456789";

/// A starter on an event.
struct Case {
    starter: &'static str,
    what: &'static str,
    event: &'static str,
    payload: Value,
    /// The branch that is checked out.
    branch: &'static str,
    jobs: &'static str,
    /// Parts of what GitHub is told to write, and of nothing else.
    writes: &'static [&'static str],
}

fn pull_request(from: &str) -> Value {
    json!({ "action": "opened", "pull_request": {
        "number": 12, "base": {"ref": "main", "sha": "BEFORE"},
        "head": {"ref": "topic", "sha": SHA, "repo": {"full_name": from}},
    } })
}

fn list_cases() -> Vec<Case> {
    let case = |starter, what, event, payload, branch, jobs, writes| Case {
        starter,
        what,
        event,
        payload,
        branch,
        jobs,
        writes,
    };
    let group = || {
        json!({ "merge_group": {"base_sha": "BEFORE", "base_ref": "refs/heads/main",
        "head_ref": "refs/heads/gh-readonly-queue/main/pr-12-0123abc"} })
    };
    let tag = || json!({ "ref": "refs/tags/own-v0.2.0", "before": "0".repeat(40) });
    let push = || json!({ "ref": "refs/heads/topic", "before": "BEFORE" });
    let own = || pull_request("clinicult/patients");
    let fork = || pull_request("somebody/patients");
    let deployments: &[&str] = &["/deployments"];
    vec![
        case("ci.yml", "a merge queue tries it", "merge_group", group(), "main", "image", &[]),
        case(
            "ci.yml",
            "a tag on main",
            "push",
            tag(),
            "main",
            "deploy staging, image",
            deployments,
        ),
        case("ci.yml", "a tag beside main", "push", tag(), "topic", "image", &[]),
        case("ci.yml", "another branch", "push", push(), "topic", "image", &[]),
        case("ci.yml", "a fork", "pull_request", fork(), "main", "image", &[]),
        case(
            "services.yml",
            "a pull request",
            "pull_request",
            own(),
            "main",
            "changed, image, plan staging",
            &["/comments"],
        ),
        case("services.yml", "a fork", "pull_request", fork(), "main", "changed, image", &[]),
        case(
            "services.yml",
            "a merge queue tries it",
            "merge_group",
            group(),
            "main",
            "changed, image",
            &[],
        ),
        case("services.yml", "a tag beside main", "push", tag(), "topic", "changed, image", &[]),
        case("preview.yml", "a fork", "pull_request", fork(), "main", "", &[]),
        case(
            "deploy.yml",
            "by hand, from another branch",
            "workflow_dispatch",
            json!({"ref": "refs/heads/topic"}),
            "topic",
            "",
            &[],
        ),
    ]
}

/// A service of a released version and a commit behind it, on main and on a topic beside it.
fn repository(name: &str, starter: &str) -> (Repository, String) {
    let repository = Repository::new();
    let folder = if starter == "services.yml" { "services/own" } else { "." };
    copy(&root().join("examples/fastapi"), &repository.path().join(folder));
    repository.write(
        &format!("{folder}/service.yaml"),
        &format!(
            "name: {name}\nport: 8000\nversion: {{prefix: own-v}}\nenvironments: {{staging: {{}}}}\n"
        ),
    );
    let text = std::fs::read_to_string(root().join("workflows").join(starter)).expect(starter);
    repository.write(&format!(".github/workflows/{starter}"), &text);
    let platform = std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("a platform");
    repository.write("platform.yaml", &platform);
    repository.git(&["add", "-A"]);
    let before = repository.commit("feat: first");
    repository.git(&["tag", "own-v0.1.0"]);
    repository.git(&["branch", "topic"]);
    for branch in ["topic", "main"] {
        repository.git(&["checkout", "-q", branch]);
        repository.write(&format!("{folder}/NEWS.md"), branch);
        repository.git(&["add", "-A"]);
        repository.commit("feat: second");
    }
    (repository, before)
}

#[test]
fn every_starter_does_on_every_event_what_it_may_and_no_more() {
    for Case { starter, what, event, payload, branch, jobs, writes } in list_cases() {
        let name = unique("event");
        let _removal = Removal::of(&name);
        let (repository, before) = repository(&name, starter);
        repository.git(&["checkout", "-q", branch]);
        if payload["ref"].as_str().is_some_and(|name| name.starts_with("refs/tags/")) {
            repository.git(&["tag", "own-v0.2.0"]);
        }
        let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
        let payload = payload.to_string().replace("BEFORE", &before);
        let payload: Value = serde_json::from_str(&payload).expect("JSON");
        let mut options = vec!["clinicult/patients", "--var", "CICD_PLATFORM=platform.yaml"];
        if event == "workflow_dispatch" {
            let inputs = ["action=deploy", "environment=staging", "version=0.1.0", "reason=no"];
            options.extend(inputs.iter().flat_map(|input| ["--input", *input]));
        }
        let ended = act_on(&repository, (event, &payload), &github, &options);
        let log = format!("{}{}", ended.stdout, ended.stderr);
        let is_refused = starter == "deploy.yml";
        assert_eq!(ended.code != 0, is_refused, "{starter}, {what}:\n{log}");
        assert!(!is_refused || log.contains("branch-not-allowed"), "{starter}, {what}:\n{log}");
        assert_eq!(succeeded(&log).join(", "), jobs, "{starter}, {what}:\n{log}");
        let written = github.writes();
        let is_known = |write: &String| writes.iter().any(|known| write.contains(known));
        assert!(written.iter().all(is_known), "{starter}, {what}: {written:?}");
        assert_eq!(written.is_empty(), writes.is_empty(), "{starter}, {what}: {written:?}");
        let mut pushed = std::process::Command::new("aws");
        pushed.args(["ecr", "describe-repositories", "--output", "json"]);
        let has_image = run(&mut pushed).ended(0).stdout.contains(&name);
        assert_eq!(has_image, jobs.contains("deploy"), "{starter}, {what}: what is in ECR");
    }
}
