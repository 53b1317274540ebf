//! `test`: the service's own tests, in the stage of its Dockerfile that has them.

use serde_json::json;

use crate::image::{EVERYWHERE, docker, interrupted, server, service};
use crate::support::{Repository, Run, cicd, run, unique};

/// Writes reports and ends as its argument says.
const TESTS: &str = r#"import pathlib, sys, time
how = sys.argv[1]
print("testing", how, flush=True)
case = "<testcase classname='t' name='%s'>%s</testcase>"
failed = case % ("sum", "<failure message='assert 1 == 2'>line 12</failure>") if how == "fails" else case % ("sum", "")
if how != "silent":
    pathlib.Path("/tmp/junit.xml").write_text("<testsuite>" + failed + case % ("other", "") + "</testsuite>")
    pathlib.Path("/tmp/coverage.xml").write_text("<coverage line-rate='0.5'/>")
if how == "hangs":
    time.sleep(600)
sys.exit(1 if how in ("fails", "broken") else 0)
"#;

/// A service whose stage `test` has tests that end as `how` says.
fn tested(name: &str, how: &str) -> Repository {
    let test = format!(
        "test:\n  target: test\n  command: [python3, /tests.py, {how}]\n  reports: [/tmp/junit.xml, /tmp/coverage.xml]\n"
    );
    let repository = service(name, &server("", EVERYWHERE), &test);
    let dockerfile = std::fs::read_to_string(repository.path().join("Dockerfile")).expect("one");
    let (base, rest) = dockerfile.split_once('\n').expect("a FROM");
    let stages = format!("{base} AS test\nCOPY tests.py /tests.py\n\n{base}\n{rest}");
    repository.write("Dockerfile", &stages);
    repository.write("tests.py", TESTS);
    repository.git(&["add", "-A"]);
    repository.commit("test: all of it");
    repository
}

fn test(repository: &Repository, more: &[&str]) -> Run {
    run(cicd(repository.path()).args(["test", "--verbose", "--output", "json"]).args(more))
}

fn containers(name: &str) -> Vec<String> {
    docker(&["ps", "-aq", "--filter", &format!("label=cicd.clinicult.io/test={name}")])
}

#[test]
fn the_tests_decide_and_their_reports_are_read() {
    struct Case {
        how: &'static str,
        code: i32,
        numbers: serde_json::Value,
        said: &'static str,
    }
    let case = |how, code, numbers, said| Case { how, code, numbers, said };
    let cases = [
        case("passes", 0, json!([2, 0, 0.5]), "2 tests, 50.0 % of the lines"),
        case("fails", 8, json!([2, 1, 0.5]), "its tests fail: 2 tests, 1 failed"),
        case("broken", 8, json!([2, 0, 0.5]), "ended with exit code 1"),
        case("silent", 8, json!([0, 0, null]), "no report: /tmp/junit.xml"),
    ];
    assert_eq!(crate::docs::commands("test.md"), ["cicd test"]);
    let name = unique("suite");
    for Case { how, code, numbers, said } in cases {
        let repository = tested(&name, how);
        let ended = test(&repository, &[]).ended(code);
        let json = ended.json();
        assert_eq!(json!([json["tests"], json["failures"], json["coverage"]]), numbers, "{ended}");
        assert!(ended.stderr.contains(said), "{said}: {ended}");
        assert!(ended.stderr.contains(&format!("testing {how}")), "as it comes: {ended}");
        if how == "fails" {
            let cause = &json["error"]["causes"][0];
            assert_eq!(
                (&cause["code"], &cause["object"]),
                (&json!("tests-failed"), &json!("t::sum"))
            );
        }
        assert_eq!(containers(&name), Vec::<String>::new(), "{how}");
    }
    docker(&["rmi", "-f", &format!("cicd.local/{name}-test:latest")]);
}

#[test]
fn nothing_is_tested_where_there_is_nothing_and_a_signal_leaves_nothing() {
    let name = unique("suite");
    let without = service(&name, &server("", EVERYWHERE), "");
    let ended = test(&without, &[]).ended(0);
    assert!(ended.stderr.contains("service.yaml has no `test`"), "{ended}");
    let repository = tested(&name, "hangs");
    let late = test(&repository, &["--timeout", "15s"]).ended(6);
    assert!(late.stderr.contains("cannot end the tests in time"), "{late}");
    let mut command = cicd(repository.path());
    let (code, seconds) = interrupted(command.arg("test"), || !containers(&name).is_empty());
    assert_eq!((code, seconds.as_secs() < 7), (130, true), "{seconds:?}");
    assert_eq!(containers(&name), Vec::<String>::new());
    docker(&["rmi", "-f", &format!("cicd.local/{name}-test:latest")]);
}
