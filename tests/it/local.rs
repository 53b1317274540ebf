//! `deploy --environment local`: the new container beside the old one, the old one untouched when
//! the new one fails, and nothing written when nothing differs.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::image::{EVERYWHERE, build, docker, interrupted, server, service};
use crate::support::{Removal, Repository, Run, cicd, http_get, run, unique};

pub fn deploy(repository: &Repository, arguments: &[&str]) -> Run {
    run(cicd(repository.path())
        .args(["deploy", "--environment", "local", "--output", "json"])
        .args(arguments))
}

/// Builds what is in the folder as `version` and deploys it.
pub fn release(repository: &Repository, version: &str) -> Run {
    build(repository, &["--skip-contract", "--version", version]).ended(0);
    deploy(repository, &["--version", version])
}

pub fn containers(name: &str) -> Vec<String> {
    docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("name=^{name}-")])
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_string()
}

pub fn answer(url: &Value) -> Value {
    serde_json::from_str(&http_get(&format!("{}/", text(url)))).expect("JSON")
}

/// The cause that a failed deploy gives.
fn cause(ended: &Run) -> Value {
    ended.json()["error"]["causes"][0].clone()
}

pub fn status(repository: &Repository) -> Value {
    run(cicd(repository.path()).args(["status", "--environment", "local", "--output", "json"]))
        .ended(0)
        .json()
}

#[test]
fn a_first_the_same_and_another_version() {
    let name = unique("local");
    let _removal = Removal::of(&name);
    let repository = service(&name, &server("", EVERYWHERE), "");
    assert_eq!(status(&repository)["state"], "absent");

    let plan = {
        build(&repository, &["--skip-contract"]).ended(0);
        deploy(&repository, &["--plan"]).ended(0).json()
    };
    assert_eq!(
        (text(&plan["status"]), text(&plan["changed"][0])),
        ("planned".into(), format!("Container/{name}"))
    );
    assert_eq!(containers(&name), Vec::<String>::new(), "a plan starts nothing");

    let first = release(&repository, "1.0.0").ended(0).json();
    assert_eq!((text(&first["status"]), text(&first["revision"])), ("deployed".into(), "1".into()));
    assert_eq!(first.get("previous-revision"), None);
    let served = answer(&first["url"]);
    assert_eq!(
        (text(&served["version"]), text(&served["mode"])),
        ("1.0.0".into(), "production".into())
    );

    let (before, since) = (containers(&name), now());
    assert_eq!(
        docker(&["inspect", "--format", "{{.Config.Healthcheck.Test}}", &before[0]]),
        ["[NONE]"]
    );
    let same = deploy(&repository, &["--version", "1.0.0"]).ended(0).json();
    assert_eq!((text(&same["status"]), &same["url"]), ("unchanged".into(), &first["url"]));
    assert_eq!(same["changed"], serde_json::json!([]));
    assert_eq!(containers(&name), before);
    let label = format!("label=cicd.clinicult.io/service={name}");
    let events = docker(&["events", "--since", &since, "--until", &now(), "--filter", &label]);
    assert_eq!(events, Vec::<String>::new(), "the engine was asked to change nothing");

    let second = release(&repository, "1.1.0").ended(0).json();
    assert_eq!(text(&second["status"]), "deployed");
    assert_eq!(
        (text(&second["revision"]), text(&second["previous-revision"])),
        ("2".into(), "1".into())
    );
    assert_eq!(text(&answer(&second["url"])["version"]), "1.1.0");
    assert_eq!(containers(&name).len(), 1, "the old one is gone");
    let kept = |digest: &Value| {
        let reference = format!("cicd.local/{name}:{}", text(digest).replace(':', "-"));
        docker(&["images", "-q", "--no-trunc", &reference]).len()
    };
    assert_eq!(
        (kept(&first["digest"]), kept(&second["digest"])),
        (1, 1),
        "the image of the version before stays for a rollback"
    );
    release(&repository, "1.2.0").ended(0);
    assert_eq!((kept(&first["digest"]), kept(&second["digest"])), (0, 1), "an older one goes");
    deploy(&repository, &["--plan", "--version", "1.2.0"]).ended(0);

    let status = status(&repository);
    assert_eq!(
        (text(&status["state"]), text(&status["version"])),
        ("ready".into(), "1.2.0".into())
    );
    assert_eq!((&status["ready"], &status["wanted"]), (&1.into(), &1.into()));
}

/// The engine's clock, as `docker events` takes it.
fn now() -> String {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    format!("{}.{:09}", time.as_secs(), time.subsec_nanos())
}

#[test]
fn a_version_that_crashes_leaves_the_old_one_answering() {
    let name = unique("crash");
    let _removal = Removal::of(&name);
    let repository = service(&name, &server("", EVERYWHERE), "");
    let first = release(&repository, "1.0.0").ended(0).json();
    let before = containers(&name);

    repository.write("server.py", "import sys\nprint('cannot find the table')\nsys.exit(3)\n");
    // The old one is judged by where it was asked, not by where the new one is.
    repository
        .write("service.yaml", &format!("name: {name}\nport: 8000\nhealth: {{path: /well}}\n"));
    build(&repository, &["--skip-contract", "--version", "1.1.0"]).ended(0);
    let started = Instant::now();
    let failed = deploy(&repository, &["--version", "1.1.0"]).ended(4);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(failed.json()["status"], "rolled-back");
    let cause = cause(&failed);
    assert_eq!(cause["exit-code"], 3);
    assert_eq!(cause["log-tail"], serde_json::json!(["cannot find the table"]));
    assert!(
        text(&failed.json()["error"]["message"]).contains("revision 1 runs as before"),
        "{failed}"
    );

    assert_eq!(containers(&name), before);
    assert_eq!(text(&answer(&first["url"])["version"]), "1.0.0");
    assert_eq!(text(&status(&repository)["version"]), "1.0.0");
}

#[test]
fn a_first_version_that_does_not_serve_ends_with_5_and_leaves_nothing() {
    let sleeps = server("print('thinking')\ntime.sleep(60)", EVERYWHERE);
    let cases = [
        (
            "import sys\nsys.exit(3)\n".to_string(),
            "CMD [\"python3\", \"-u\", \"/server.py\"]",
            "ended while it should keep running",
        ),
        (
            sleeps,
            "CMD [\"python3\", \"-u\", \"/server.py\"]",
            "it listens on no port (after 2 s, health.startup)",
        ),
        (String::new(), "CMD [\"/nope\"]", "cannot be started: "),
    ];
    for (server, command, reason) in cases {
        let name = unique("first");
        let _removal = Removal::of(&name);
        let repository = service(&name, &server, "health: {startup: 2s}\n");
        let dockerfile =
            std::fs::read_to_string(repository.path().join("Dockerfile")).expect("a Dockerfile");
        let dockerfile = dockerfile.replace("CMD [\"python3\", \"-u\", \"/server.py\"]", command);
        repository.write("Dockerfile", &dockerfile);
        let failed = release(&repository, "1.0.0").ended(5);
        assert!(text(&cause(&failed)["reason"]).contains(reason), "{failed}");
        assert_eq!(failed.json()["status"], "failed");
        assert_eq!(containers(&name), Vec::<String>::new());
    }
}

#[test]
fn settings_alone_make_a_new_revision() {
    let name = unique("settings");
    let _removal = Removal::of(&name);
    let repository = service(&name, &server("", EVERYWHERE), "env: {GREETING: hello}\n");
    let first = release(&repository, "1.0.0").ended(0).json();
    assert_eq!(text(&answer(&first["url"])["greeting"]), "hello");
    let file =
        std::fs::read_to_string(repository.path().join("service.yaml")).expect("service.yaml");
    repository.write("service.yaml", &file.replace("hello", "good day"));
    let second = deploy(&repository, &["--version", "1.0.0"]).ended(0).json();
    assert_eq!((text(&second["status"]), &second["digest"]), ("deployed".into(), &first["digest"]));
    assert_eq!(text(&second["revision"]), "2");
    assert_eq!(text(&answer(&second["url"])["greeting"]), "good day");
    assert_eq!(containers(&name).len(), 1);
}

#[test]
fn before_deploy_runs_first_and_its_failure_changes_nothing() {
    let name = unique("before");
    let _removal = Removal::of(&name);
    let script = |code: i32| {
        format!("before-deploy: {{command: [python3, -c, \"print('migrating'); exit({code})\"]}}\n")
    };
    let repository = service(&name, &server("", EVERYWHERE), &script(0));
    let first = release(&repository, "1.0.0").ended(0).json();
    assert_eq!(
        first["changed"],
        serde_json::json!([format!("Task/{name}-before-deploy"), format!("Container/{name}")])
    );
    let before = containers(&name);
    assert_eq!(before.len(), 1, "its own container is gone");

    repository.write("service.yaml", &format!("name: {name}\nport: 8000\n{}", script(9)));
    let failed = release(&repository, "1.1.0").ended(8);
    let cause = cause(&failed);
    assert_eq!((&cause["exit-code"], &cause["log-tail"][0]), (&9.into(), &"migrating".into()));
    assert_eq!(containers(&name), before);
    assert_eq!(text(&answer(&first["url"])["version"]), "1.0.0");
}

#[test]
fn a_secret_comes_from_the_environment_and_is_never_shown() {
    let name = unique("secret");
    let _removal = Removal::of(&name);
    let repository = service(
        &name,
        &server("print(os.environ['TOKEN'])", EVERYWHERE),
        "secrets: {TOKEN: 'ssm:/token'}\n",
    );
    let refused = release(&repository, "1.0.0").ended(3);
    assert!(text(&refused.json()["error"]["fix"]).contains("export TOKEN="), "{refused}");
    assert_eq!(containers(&name), Vec::<String>::new());

    let secret = "hunter2-and-a-half";
    let run_with = |server: &str, version: &str| {
        repository.write("server.py", server);
        build(&repository, &["--skip-contract", "--version", version]).ended(0);
        let mut command = cicd(repository.path());
        command.args([
            "deploy",
            "--environment",
            "local",
            "--output",
            "json",
            "--verbose",
            "--version",
            version,
        ]);
        run(command.env("TOKEN", secret))
    };
    let deployed = run_with(&server("", EVERYWHERE), "1.0.0").ended(0);
    assert_eq!(answer(&deployed.json()["url"])["secret"], secret.len());
    let failed =
        run_with("import os, sys\nprint('it is', os.environ['TOKEN'])\nsys.exit(1)\n", "1.1.0")
            .ended(4);
    assert_eq!(cause(&failed)["log-tail"][0], "it is ***");
    for ended in [&deployed, &failed] {
        assert!(!ended.to_string().contains(secret), "{ended}");
    }
}

#[test]
fn an_interrupted_deploy_is_finished_by_the_next() {
    let name = unique("again");
    let _removal = Removal::of(&name);
    let repository = service(&name, &server("", EVERYWHERE), "");
    release(&repository, "1.0.0").ended(0);
    repository.write("server.py", &server("time.sleep(60)", EVERYWHERE));
    build(&repository, &["--skip-contract", "--version", "1.1.0"]).ended(0);
    let mut command = cicd(repository.path());
    command.args(["deploy", "--environment", "local", "--version", "1.1.0"]);
    let (code, took) = interrupted(&mut command, || containers(&name).len() == 2);
    assert_eq!(code, 130);
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert_eq!(text(&status(&repository)["version"]), "1.0.0", "the old one answers all along");

    repository.write("server.py", &server("", EVERYWHERE));
    let done = release(&repository, "1.2.0").ended(0).json();
    assert_eq!((text(&done["status"]), text(&done["revision"])), ("deployed".into(), "3".into()));
    assert_eq!(containers(&name).len(), 1);
}

#[test]
fn a_last_good_container_that_somebody_removed_is_started_again_from_its_state() {
    let name = unique("removed");
    let _removal = Removal::of(&name);
    let repository = service(&name, &server("", EVERYWHERE), "");
    release(&repository, "1.0.0").ended(0);
    docker(&["rm", "-f", &containers(&name)[0]]);
    repository.write("server.py", "import sys\nsys.exit(3)\n");
    let failed = release(&repository, "1.1.0").ended(4);
    assert!(text(&failed.json()["error"]["message"]).contains("revision 1 runs as before"));
    let status = status(&repository);
    assert_eq!(
        (text(&status["version"]), text(&status["state"])),
        ("1.0.0".into(), "ready".into())
    );
    assert_eq!(containers(&name).len(), 1);
}

#[test]
fn what_a_container_would_be_is_rendered_as_a_compose_file() {
    let name = unique("render");
    let repository = service(&name, &server("", EVERYWHERE), "secrets: {TOKEN: 'ssm:/token'}\n");
    let ended = run(cicd(repository.path()).args(["render", "--environment", "local"])).ended(0);
    for line in [
        format!("name: {name}-local"),
        "TOKEN: ${TOKEN:?}".into(),
        "127.0.0.1::8000".into(),
        "disable: true".into(),
    ] {
        assert!(ended.stdout.contains(&line), "{line}: {ended}");
    }
}
