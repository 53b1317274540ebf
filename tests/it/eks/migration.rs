//! The migration gate on the real cluster: `before-deploy` as a Job.

use std::process::Stdio;

use super::written::wait_until;
use super::{Place, SERVICE};
use crate::probe::digest_of;

/// service.yaml with a migration that runs `script`.
fn migrates(place: &Place, greeting: &str, script: &str) {
    place.service(&format!(
        "env: {{GREETING: {greeting}}}\nbefore-deploy: {{command: [sh, -c, '{script}']}}\n"
    ));
}

/// The Jobs that are there: name and uid.
fn jobs(place: &Place) -> Vec<(String, String)> {
    let jobs = place.get("jobs");
    let text = |job: &serde_json::Value, field: &str| {
        job["metadata"][field].as_str().expect("a text").to_string()
    };
    jobs["items"]
        .as_array()
        .expect("Jobs")
        .iter()
        .map(|job| (text(job, "name"), text(job, "uid")))
        .collect()
}

#[test]
fn a_migration_runs_once_for_an_image_and_a_command() {
    let place = Place::new("migrate");
    migrates(&place, "hello", "echo migrating for $GREETING; sleep 1; echo done");
    let first = place.deploy("1.0.0").ended(0);
    let ran = jobs(&place);
    assert_eq!(ran.len(), 1);
    assert_eq!(first.changed()[0], format!("Job/{}", ran[0].0), "{first}");
    for line in ["│ migrating for hello", "│ done"] {
        assert_eq!(first.stderr.matches(line).count(), 1, "{line}: {first}");
    }
    let before = place.writes();
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");
    assert_eq!(place.writes(), before);
    migrates(&place, "goodbye", "echo migrating for $GREETING; sleep 1; echo done");
    let changed = place.deploy("1.0.0").ended(0);
    assert_eq!(changed.changed(), [format!("Deployment/{SERVICE}")]);
    assert_eq!(jobs(&place), ran);

    let second = place.deploy("2.0.0").ended(0);
    let later = jobs(&place);
    assert_eq!(later.len(), 1, "the earlier one went: {second}");
    assert_ne!(later, ran);
    assert_eq!(place.answer(), "version 2.0.0 says goodbye");
}

#[test]
fn a_migration_that_fails_changes_nothing_else() {
    let place = Place::new("gate");
    migrates(&place, "hello", "echo there is no such table; exit 3");
    let first = place.deploy("1.0.0").ended(8);
    assert_eq!(place.kubectl(&["get", "deployment,service", "-o", "name"]), "", "{first}");

    place.service("env: {GREETING: hello}\n");
    place.deploy("1.0.0").ended(0);
    let generation =
        || place.get(&format!("deployment/{SERVICE}"))["metadata"]["generation"].clone();
    let before = generation();
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
    assert_eq!(generation(), before);
    assert_eq!(place.answer(), "version 1.0.0 says hello");

    // It may work the next time.
    let made = jobs(&place);
    place.deploy("2.0.0").ended(8);
    assert_ne!(jobs(&place), made, "it was made anew");

    // An image of another kind of failure: the command is not there.
    place.service("before-deploy: {command: [no-such-program]}\n");
    let failed = place.deploy("2.0.0").ended(8);
    assert_eq!(place.answer(), "version 1.0.0 says hello", "{failed}");
}

#[test]
fn a_migration_is_gone_on_from_and_never_runs_beside_another() {
    let place = Place::new("resume");
    migrates(&place, "hello", "echo begun; sleep 45; echo done");
    let mut killed = place
        .command("1.0.0", digest_of("1.0.0"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("cicd");
    wait_until("the migration runs", || place.get("jobs")["items"][0]["status"]["active"] == 1);
    killed.kill().expect("killed");
    killed.wait().expect("an end");
    let begun = jobs(&place);
    migrates(&place, "hello", "echo quick");
    let waited = place.deploy("2.0.0").ended(0);
    assert!(waited.stderr.contains(&format!("waits for Job/{}", begun[0].0)), "{waited}");
    assert_eq!(place.answer(), "version 2.0.0 says hello");
}
