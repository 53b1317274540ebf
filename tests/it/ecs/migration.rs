//! The migration gate on ECS: `before-deploy` as a task of the new revision.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Place, url};
use crate::support::{http_get, run};

/// service.yaml with a migration that runs `script`.
fn migrates(place: &Place, greeting: &str, script: &str) {
    place.service(&format!(
        "env: {{GREETING: {greeting}}}\nbefore-deploy: {{command: [sh, -c, '{script}']}}\n"
    ));
}

/// The tasks that migrations of this service were, by ARN: in this state.
fn migrations(place: &Place, status: &str) -> Vec<String> {
    let tasks = |arguments: &[&str]| -> Value {
        let all = ["ecs", arguments[0], "--cluster", "clinicult", "--output", "json"];
        let ended = run(Command::new("aws").args(all).args(&arguments[1..])).ended(0);
        serde_json::from_str(&ended.stdout).expect("JSON")
    };
    let listed = tasks(&["list-tasks", "--family", &place.name, "--desired-status", status]);
    let arns = listed["taskArns"].as_array().expect("ARNs").iter();
    let arns: Vec<&str> = arns.filter_map(Value::as_str).collect();
    if arns.is_empty() {
        return Vec::new();
    }
    let described = tasks(&[&["describe-tasks", "--tasks"][..], &arns].concat());
    let all = described["tasks"].as_array().expect("tasks").iter();
    let of_gate = |task: &&Value| {
        task["startedBy"].as_str().is_some_and(|by| by.starts_with("cicd-before-deploy/"))
    };
    all.filter(of_gate).filter_map(|task| task["taskArn"].as_str()).map(str::to_string).collect()
}

#[test]
fn a_migration_runs_once_for_an_image_and_a_command() {
    let place = Place::new("ecs-migrate");
    let script = "echo migrating for $GREETING; sleep 1; echo done";
    migrates(&place, "hello", script);
    let planned = run(place.command("1.0.0").arg("--plan")).ended(0);
    assert_eq!(planned.changed()[0], "Task/before-deploy", "{planned}");
    assert_eq!(place.writes(), 0);
    let first = place.deploy("1.0.0").ended(0);
    assert_eq!(first.changed(), planned.changed());
    for line in ["│ migrating for hello", "│ done"] {
        assert_eq!(first.stderr.matches(line).count(), 1, "{line}: {first}");
    }
    assert_eq!(http_get(&format!("{}/", url(&first))), "version 1.0.0 says hello");
    assert_eq!(migrations(&place, "STOPPED").len(), 1);

    let before = place.writes();
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");
    assert_eq!(place.writes(), before);
    migrates(&place, "goodbye", script);
    place.deploy("1.0.0").ended(0);
    assert_eq!(migrations(&place, "STOPPED").len(), 1, "its image and command were migrated");

    let second = place.deploy("2.0.0").ended(0);
    assert_eq!(migrations(&place, "STOPPED").len(), 2, "{second}");
    assert_eq!(http_get(&format!("{}/", url(&second))), "version 2.0.0 says goodbye");
    let revisions = ["ecs", "list-task-definitions", "--family-prefix", &place.name];
    let count = ["--query", "length(taskDefinitionArns)"];
    let revisions = run(Command::new("aws").args(revisions).args(count)).ended(0);
    assert_eq!(
        revisions.stdout.trim(),
        "3",
        "the service runs the revision that was migrated with"
    );
}

#[test]
fn a_migration_that_fails_changes_nothing_else() {
    let place = Place::new("ecs-gate");
    migrates(&place, "hello", "echo there is no such table; exit 3");
    let first = place.deploy("1.0.0").ended(8);
    let service = ["ecs", "describe-services", "--cluster", "clinicult", "--services", &place.name];
    let count = ["--query", "length(services)"];
    let services = run(Command::new("aws").args(service).args(count)).ended(0);
    assert_eq!(services.stdout.trim(), "0", "{first}");

    place.service("env: {GREETING: hello}\n");
    let good = place.deploy("1.0.0").ended(0);
    migrates(&place, "hello", "echo there is no such table; exit 3");
    let failed = place.deploy("2.0.0").ended(8);
    let error = &failed.json()["error"];
    assert_eq!(
        (&error["kind"], &error["code"]),
        (&"gate".into(), &"migration-failed".into()),
        "{failed}"
    );
    let cause = &error["causes"][0];
    assert_eq!(cause["exit-code"], 3, "{failed}");
    assert_eq!(cause["log-tail"][0], "there is no such table", "{failed}");
    assert_eq!(http_get(&format!("{}/", url(&good))), "version 1.0.0 says hello");

    // It may work the next time.
    let ran = migrations(&place, "STOPPED").len();
    place.deploy("2.0.0").ended(8);
    assert_eq!(migrations(&place, "STOPPED").len(), ran + 1, "it was run anew");
}

#[test]
fn a_migration_that_does_not_end_is_stopped() {
    let place = Place::new("ecs-slow");
    migrates(&place, "hello", "echo begun; sleep 300");
    let late = run(&mut place.command_within("20s", "1.0.0")).ended(6);
    assert!(late.stderr.contains("│ begun"), "{late}");
    let message = late.json()["error"]["message"].to_string();
    assert!(message.contains("cannot wait for `before-deploy` any longer"), "{late}");
    assert_eq!(migrations(&place, "RUNNING"), Vec::<String>::new());
}

#[test]
fn a_migration_is_gone_on_from_and_never_runs_beside_another() {
    let place = Place::new("ecs-resume");
    migrates(&place, "hello", "echo begun; sleep 30; echo done");
    let mut killed =
        place.command("1.0.0").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("cicd");
    let deadline = Instant::now() + Duration::from_secs(60);
    while migrations(&place, "RUNNING").is_empty() {
        assert!(Instant::now() < deadline, "no migration runs");
        std::thread::sleep(Duration::from_millis(200));
    }
    killed.kill().expect("killed");
    killed.wait().expect("an end");
    migrates(&place, "hello", "echo quick");
    let waited = place.deploy("2.0.0").ended(0);
    assert!(waited.stderr.contains("which an earlier deploy began"), "{waited}");
    assert_eq!(http_get(&format!("{}/", url(&waited))), "version 2.0.0 says hello");
}
