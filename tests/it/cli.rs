//! The command line: bad input ends with 2 and says what, where and the fix; machine output is one
//! object.

use crate::support::{Repository, cicd, run};

#[test]
fn bad_files_end_with_2_and_name_the_place_and_the_fix() {
    let cases = [
        (
            "name: patients\nprot: 8000\n",
            "service.yaml:2:1: cannot read this map: unknown key `prot`",
            "did you mean `port`?",
        ),
        ("name: patients\nport: eighty\n", "service.yaml:2:7: ", ""),
        (
            "name: patients\n",
            "service.yaml:1:1: cannot read this map: `port` is missing",
            "add `port: 8000`",
        ),
    ];
    for (text, message, fix) in cases {
        let repository = Repository::new();
        repository.write("service.yaml", text);
        let ended = run(cicd(repository.path()).args(["check", "--output", "json"])).ended(2);
        let error = &ended.json()["error"];
        assert!(error["message"].as_str().expect("a message").starts_with(message), "{ended}");
        assert!(error["fix"].as_str().unwrap_or_default().contains(fix), "{ended}");
        assert_eq!(error["kind"], "bad-input");
        let ended = run(cicd(repository.path()).arg("check")).ended(2);
        assert!(ended.stderr.contains(message) && ended.stdout.is_empty(), "{ended}");
    }
}

#[test]
fn on_github_an_error_is_an_annotation_at_its_place() {
    let repository = Repository::new();
    repository.write("service.yaml", "name: patients\nprot: 8000\n");
    let ended =
        run(cicd(repository.path()).env("GITHUB_ACTIONS", "true").env("INPUT_COMMAND", "check"))
            .ended(2);
    assert!(
        ended.stdout.contains(
            "::error file=service.yaml,line=2,col=1::cannot read this map: unknown key `prot`"
        ),
        "{ended}"
    );
    // What a step forgets to name is one line, not the help's hundred.
    let ended = run(cicd(repository.path()).env("GITHUB_ACTIONS", "true")).ended(2);
    assert!(
        ended
            .stdout
            .contains("::error::cannot find a command: the input `command` is missing or empty")
            && !ended.stdout.contains("Usage"),
        "{ended}"
    );
}

/// Whoever is called at night opens the failing job's summary first.
#[test]
fn a_failure_says_what_and_the_fix_in_the_job_summary() {
    let repository = Repository::new();
    repository.write("service.yaml", "name: patients\nprot: 8000\n");
    let summary = repository.path().join("summary.md");
    run(cicd(repository.path()).arg("check").env("GITHUB_STEP_SUMMARY", &summary)).ended(2);
    let summary = std::fs::read_to_string(&summary).expect("a summary");
    assert!(summary.starts_with("### ⛔ check found something to correct\n"), "{summary}");
    for part in [
        "**exit code 2: bad input**",
        "`service.yaml:2:1`: cannot read this map: unknown key `prot`",
        "1. Did you mean `port`?",
    ] {
        assert!(summary.contains(part), "{part}: {summary}");
    }
}

#[test]
fn a_missing_file_and_a_misspelt_flag_end_with_2() {
    let repository = Repository::new();
    let ended = run(cicd(repository.path()).arg("check")).ended(2);
    assert!(ended.stderr.contains("cannot read service.yaml"), "{ended}");
    let ended = run(cicd(repository.path()).args(["deploy", "--digset", "x"])).ended(2);
    assert!(ended.stderr.contains("--digest"), "{ended}");
    run(&mut cicd(repository.path())).ended(2);
    for output in [&["--output", "json"][..], &["--output=json"]] {
        let ended =
            run(cicd(repository.path()).args(["deploy", "--digset", "x"]).args(output)).ended(2);
        assert_eq!(ended.json()["error"]["kind"], "bad-input");
    }
    let ended =
        run(cicd(repository.path()).args(["deploy", "--digset", "x"]).env("INPUT_OUTPUT", "json"))
            .ended(2);
    assert_eq!(ended.json()["error"]["kind"], "bad-input");
}

#[test]
fn help_and_version_end_with_0() {
    let repository = Repository::new();
    let ended = run(cicd(repository.path()).arg("--version")).ended(0);
    assert_eq!(ended.stdout.trim(), format!("cicd {}", env!("CARGO_PKG_VERSION")));
    run(cicd(repository.path()).args(["deploy", "--help"])).ended(0);
}

#[test]
fn snapshots_go_to_the_environments_that_take_them() {
    let repository = Repository::new();
    repository.write(
        "service.yaml",
        "name: p\nport: 1\nenvironments: {local: {}, staging: {}, preview: {snapshots: true}, production: {}}\n",
    );
    repository.git(&["add", "-A"]);
    let environments = |message: &str| {
        repository.commit(message);
        let ended = run(cicd(repository.path()).args(["version", "--output", "json"])).ended(0);
        ended.json()["environments"].clone()
    };
    assert_eq!(environments("chore: a"), serde_json::json!(["staging", "preview"]));
    assert_eq!(environments("feat: b"), serde_json::json!(["staging", "preview", "production"]));
}
