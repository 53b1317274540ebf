//! The whole pipeline on the example service: from a commit to an answer that names the version,
//! and the digest that runs is the digest that was built. Here for EKS, for ECS behind API Gateway,
//! and for the local engine.

use std::process::Command;

use serde_json::Value;

use crate::support::{Removal, Repository, Run, cicd, http_get, run, unique};

/// The example under a name of its own, so that tests do not meet.
pub fn service(name: &str) -> Repository {
    let repository = Repository::of_example();
    let text =
        std::fs::read_to_string(repository.path().join("service.yaml")).expect("service.yaml");
    let text = text.replace("patients", name);
    repository.write("service.yaml", &text);
    repository.git(&["add", "-A"]);
    repository.commit("fix: a name of its own");
    repository
}

fn pipeline(repository: &Repository, environment: &str) -> Run {
    run(cicd(repository.path()).args(["run", "--environment", environment, "--output", "json"]))
}

fn tool(program: &str, arguments: &[&str]) -> Value {
    let ended = run(Command::new(program).args(arguments)).ended(0);
    serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{program} {arguments:?}: {error}\n{ended}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_string()
}

#[test]
fn from_a_commit_to_kubernetes() {
    let name = unique("walk-eks");
    let repository = service(&name);
    let _removal = Removal::of(&name);
    let result = pipeline(&repository, "staging").ended(0).json();
    assert_eq!(result["status"], "deployed");
    assert_eq!(result["version"], "0.1.0");
    assert_eq!(result["contract"], serde_json::json!({"production": "pass", "debug": "pass"}));

    let path = format!("/api/v1/namespaces/staging/services/{name}:8000/proxy/");
    let answer = tool("kubectl", &["get", "--raw", &path]);
    assert_eq!((text(&answer["version"]), text(&answer["mode"])), ("0.1.0".into(), "debug".into()));

    let label = format!("app.kubernetes.io/name={name}");
    let pods = tool("kubectl", &["-n", "staging", "get", "pods", "-l", &label, "-o", "json"]);
    let image = text(&pods["items"][0]["status"]["containerStatuses"][0]["imageID"]);
    assert!(
        image.ends_with(&text(&result["digest"])),
        "{image} runs, {} was built",
        result["digest"]
    );

    let again = pipeline(&repository, "staging").ended(0).json();
    assert_eq!((&again["status"], &again["digest"]), (&"unchanged".into(), &result["digest"]));
    assert_eq!(again["uploaded-bytes"], 0);
}

#[test]
fn from_a_commit_through_api_gateway_to_ecs() {
    let name = unique("walk-ecs");
    let repository = service(&name);
    let _removal = Removal::of(&name);
    let result = pipeline(&repository, "production").ended(0).json();
    assert_eq!(result["status"], "deployed");

    let url = text(&result["url"]);
    assert!(url.contains(".execute-api.") && url.ends_with(&format!("/{name}")), "{url}");
    let answer: Value = serde_json::from_str(&http_get(&format!("{url}/"))).expect("JSON");
    assert_eq!(
        (text(&answer["version"]), text(&answer["mode"])),
        ("0.1.0".into(), "production".into())
    );

    let tasks = tool(
        "aws",
        &[
            "ecs",
            "list-tasks",
            "--cluster",
            "clinicult",
            "--service-name",
            &name,
            "--output",
            "json",
        ],
    );
    let task = text(&tasks["taskArns"][0]);
    let tasks = tool(
        "aws",
        &["ecs", "describe-tasks", "--cluster", "clinicult", "--tasks", &task, "--output", "json"],
    );
    assert_eq!(text(&tasks["tasks"][0]["containers"][0]["imageDigest"]), text(&result["digest"]));

    let again = pipeline(&repository, "production").ended(0).json();
    assert_eq!(again["status"], "unchanged");
}

#[test]
fn from_a_commit_to_this_machine() {
    let name = unique("walk-local");
    let repository = service(&name);
    let _removal = Removal::of(&name);
    let result = pipeline(&repository, "local").ended(0).json();
    assert_eq!(result["status"], "deployed");
    let answer: Value =
        serde_json::from_str(&http_get(&format!("{}/", text(&result["url"])))).expect("JSON");
    assert_eq!(
        (text(&answer["service"]), text(&answer["version"])),
        ("patients".into(), "0.1.0".into())
    );

    let status =
        run(cicd(repository.path()).args(["status", "--environment", "local", "--output", "json"]))
            .ended(0)
            .json();
    assert_eq!((&status["state"], &status["digest"]), (&"ready".into(), &result["digest"]));
    assert_eq!(pipeline(&repository, "local").ended(0).json()["status"], "unchanged");
}

#[test]
fn a_plan_of_the_run_changes_nothing() {
    let name = unique("walk-plan");
    let repository = service(&name);
    run(cicd(repository.path()).args([
        "run",
        "--environment",
        "staging",
        "--plan",
        "--output",
        "json",
    ]))
    .ended(0);
    assert!(!repository.path().join("target").exists(), "a plan builds nothing");
    let repositories = tool("aws", &["ecr", "describe-repositories", "--output", "json"]);
    assert!(!repositories.to_string().contains(&name), "a plan makes no repository");
}
