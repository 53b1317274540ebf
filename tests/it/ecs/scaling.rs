//! `autoscale` on ECS: Application Auto Scaling is another emulator's, which knows nothing of the
//! tasks; the count of tasks is changed as it would do.

use std::process::Command;

use serde_json::Value;

use super::{Place, url};
use crate::support::{Run, http_get, run, stack};

/// Asks the emulator that has autoscaling.
fn ask(arguments: &[&str]) -> Value {
    let mut command = Command::new("aws");
    command.args(["--endpoint-url", &stack("CICD_STACK_SCANS"), "--output", "json"]);
    let ended = run(command.args(arguments)).ended(0);
    serde_json::from_str(&ended.stdout).unwrap_or(Value::Null)
}

/// A service of this name, as that emulator scales none that it does not know.
fn make_known(name: &str) {
    let container = format!(r#"[{{"name": "{name}", "image": "i", "memory": 64}}]"#);
    ask(&["ecs", "create-cluster", "--cluster-name", "clinicult"]);
    let register = ["ecs", "register-task-definition", "--family", name];
    ask(&[&register[..], &["--container-definitions", &container]].concat());
    let create = ["ecs", "create-service", "--cluster", "clinicult", "--service-name", name];
    ask(&[&create[..], &["--task-definition", name, "--desired-count", "1"]].concat());
}

/// Its bounds and what it is scaled by: `1-3 50.0`; nothing where it is not scaled.
fn scaling_of(name: &str) -> String {
    let of_ecs = ["--service-namespace", "ecs"];
    let id = format!("service/clinicult/{name}");
    let targets = ["application-autoscaling", "describe-scalable-targets"];
    let targets = ask(&[&targets[..], &of_ecs, &["--resource-ids", &id]].concat());
    let Some(target) = targets["ScalableTargets"].get(0) else { return String::new() };
    let policies = ["application-autoscaling", "describe-scaling-policies"];
    let policies = ask(&[&policies[..], &of_ecs, &["--resource-id", &id]].concat());
    let policy = &policies["ScalingPolicies"][0]["TargetTrackingScalingPolicyConfiguration"];
    format!("{}-{} {}", target["MinCapacity"], target["MaxCapacity"], policy["TargetValue"])
}

fn count_of(name: &str) -> (Value, Value) {
    let describe = ["ecs", "describe-services", "--cluster", "clinicult", "--services", name];
    let ended = run(Command::new("aws").args(describe).args(["--output", "json"])).ended(0);
    let answer: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let service = &answer["services"][0];
    (service["desiredCount"].clone(), service["runningCount"].clone())
}

#[test]
fn the_count_of_tasks_is_left_to_the_autoscaler() {
    let place = Place::new("ecs-auto");
    let name = &place.name;
    make_known(name);
    let deploy = |text: &str, version: &str| -> Run {
        place.service(text);
        let mut command = place.command(version);
        run(command.env("AWS_ENDPOINT_URL_APPLICATION_AUTO_SCALING", stack("CICD_STACK_SCANS")))
    };
    let scaled = "autoscale: {min: 1, max: 3, cpu: 50}\n";
    let first = deploy(scaled, "1.0.0").ended(0);
    assert!(first.changed().contains(&format!("Autoscale/{name}")), "{first}");
    assert_eq!((scaling_of(name), count_of(name)), ("1-3 50.0".into(), (1.into(), 1.into())));

    // What it scaled to stays, and is no difference.
    let update = ["ecs", "update-service", "--cluster", "clinicult", "--service", name];
    run(Command::new("aws").args(update).args(["--desired-count", "2"])).ended(0);
    let writes = place.writes();
    let again = deploy(scaled, "1.0.0").ended(0);
    assert_eq!(again.json()["status"], "unchanged", "{again}");
    assert_eq!(place.writes(), writes, "an unchanged deploy writes nothing");

    // A version that crashes leaves the bounds as they were.
    let crashed = deploy("autoscale: {min: 3, max: 4, cpu: 70}\nenv: {CRASH: x}\n", "2.0.0");
    crashed.ended(4);
    assert_eq!(scaling_of(name), "1-3 50.0");

    // A raised minimum is waited for.
    let raised = deploy("autoscale: {min: 3, max: 4, cpu: 70}\n", "1.0.0").ended(0);
    assert!(raised.stderr.contains("MinCapacity: 1 → 3"), "{raised}");
    assert_eq!((scaling_of(name), count_of(name)), ("3-4 70.0".into(), (3.into(), 3.into())));

    let fixed = deploy("replicas: 1\n", "1.0.0").ended(0);
    assert!(fixed.stderr.contains("`autoscale` is gone"), "{fixed}");
    assert_eq!((scaling_of(name), count_of(name).0), (String::new(), 1.into()));
    assert_eq!(http_get(&format!("{}/", url(&fixed))), "version 1.0.0 says nothing");
}
