//! `rollback`, `history`, `status` and `promote`: what the ledger knows, brought back.

use std::path::Path;

use serde_json::Value;

use crate::image::{EVERYWHERE, docker, server, service};
use crate::local::{answer, containers, release, status, text};
use crate::support::{Removal, Repository, Run, cicd, run, unique};

fn roll_back(repository: &Repository, to: &str, arguments: &[&str]) -> Run {
    run(cicd(repository.path())
        .args(["rollback", "--environment", "local", "--output", "json", "--to", to])
        .args(arguments))
}

fn history(repository: &Repository) -> Vec<Value> {
    let shown = run(cicd(repository.path()).args([
        "history",
        "--environment",
        "local",
        "--output",
        "json",
    ]));
    shown.ended(0).json()["records"].as_array().expect("records").clone()
}

/// Commits service.yaml with this greeting.
fn greet(repository: &Repository, name: &str, greeting: &str) {
    let text = format!("name: {name}\nport: 8000\nenv: {{GREETING: {greeting}}}\n");
    repository.write("service.yaml", &text);
    repository.git(&["add", "service.yaml"]);
    repository.commit("fix: another greeting");
}

#[test]
fn below_an_irreversible_migration_a_rollback_asks_for_force() {
    let name = unique("once");
    let _removal = Removal::of(&name);
    let repository = service(&name, &server("", EVERYWHERE), "");
    release(&repository, "1.0.0").ended(0);
    let migration = "before-deploy: {command: [python3, -c, 'pass'], irreversible: true}\n";
    repository.write("service.yaml", &format!("name: {name}\nport: 8000\n{migration}"));
    repository.git(&["add", "service.yaml"]);
    repository.commit("feat: another form of the data");
    release(&repository, "2.0.0").ended(0);

    for arguments in [&[][..], &["--plan"]] {
        let refused = roll_back(&repository, "previous", arguments).ended(3);
        let error = &refused.json()["error"];
        assert_eq!(text(&error["code"]), "irreversible-migration", "{refused}");
        assert!(refused.stderr.contains("record 2 (2.0.0) ran `python3 -c pass`"), "{refused}");
    }
    assert_eq!(text(&status(&repository)["version"]), "2.0.0");
    let back = roll_back(&repository, "previous", &["--force"]).ended(0).json();
    assert_eq!(text(&back["version"]), "1.0.0");
    roll_back(&repository, "2.0.0", &[]).ended(0);
}

#[test]
fn a_rollback_applies_the_stored_state_configuration_included() {
    let name = unique("back");
    let _removal = Removal::of(&name);
    let repository = service(&name, &server("", EVERYWHERE), "");
    greet(&repository, &name, "hello");
    release(&repository, "1.0.0").ended(0);
    greet(&repository, &name, "changed");
    let second = release(&repository, "1.1.0").ended(0).json();
    assert_eq!(second["record"], 2);
    // A version that fails is a record, and no way back.
    repository.write("server.py", "import sys\nsys.exit(3)\n");
    release(&repository, "1.2.0").ended(4);

    let plan = roll_back(&repository, "previous", &["--plan"]).ended(0).json();
    assert_eq!((text(&plan["status"]), text(&plan["version"])), ("planned".into(), "1.0.0".into()));
    assert_eq!(text(&status(&repository)["version"]), "1.1.0", "a plan changes nothing");

    let back = roll_back(&repository, "previous", &["--reason", "it hurts"]).ended(0).json();
    assert_eq!(
        (text(&back["status"]), text(&back["version"]), &back["record"]),
        ("deployed".into(), "1.0.0".into(), &4.into())
    );
    let served = answer(&back["url"]);
    assert_eq!(
        (text(&served["version"]), text(&served["greeting"])),
        ("1.0.0".into(), "hello".into())
    );

    let refused = roll_back(&repository, "3", &[]).ended(3);
    assert!(refused.stderr.contains("did not end well: rolled-back"), "{refused}");
    roll_back(&repository, "9.9.9", &[]).ended(3);
    let again = roll_back(&repository, "2", &[]).ended(0).json();
    assert_eq!(text(&answer(&again["url"])["greeting"]), "changed");

    let shown: Vec<String> = history(&repository)
        .iter()
        .map(|record| {
            format!(
                "{} {} {} {}",
                record["number"],
                text(&record["kind"]),
                text(&record["version"]),
                text(&record["result"])
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "5 rollback 1.1.0 deployed",
            "4 rollback 1.0.0 deployed",
            "3 deploy 1.2.0 rolled-back",
            "2 deploy 1.1.0 deployed",
            "1 deploy 1.0.0 deployed"
        ]
    );
    assert_eq!(history(&repository)[1]["reason"], "it hurts");
    let mut dora = cicd(repository.path());
    dora.args(["history", "--dora", "--environment", "local", "--output", "json"]);
    let figures = run(&mut dora).ended(0).json()["delivery"].clone();
    let count = |of: &str| figures[of]["count"].clone();
    assert_eq!(
        (&figures["changes"], &figures["deployed"], &figures["failed"]),
        (&3.into(), &2.into(), &1.into()),
        "{figures}"
    );
    assert_eq!((count("lead-time"), count("time-to-restore")), (2.into(), 1.into()), "{figures}");
    let seen = status(&repository);
    assert_eq!((&seen["record"], &seen["drift"]), (&5.into(), &serde_json::json!([])));

    // What somebody changed by hand is in the ledger once somebody looked, each time anew.
    docker(&["rm", "-f", &containers(&name)[0]]);
    let look = || {
        let mut look = cicd(repository.path());
        look.args(["status", "--record", "--environment", "local", "--output", "json"]);
        let seen = run(&mut look).ended(0).json()["drift"].clone();
        let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("state/cicd");
        let place = format!("cicd/{name}/local/docker/drift.json");
        let kept = std::fs::read(state.join(place)).expect("a drift");
        let kept: Value = serde_json::from_slice(&kept).expect("JSON");
        assert_eq!((&kept["record"], &kept["differences"]), (&5.into(), &seen));
        seen.as_array().expect("a list").len()
    };
    assert!(look() > 0);
    assert!(look() > 0, "written again");
}
