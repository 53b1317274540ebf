//! `check --environment`: what a deploy would be refused for, all of it, without one.

use serde_json::Value;

use crate::ecs::Place;
use crate::support::{Run, cicd, run, stack};

fn check(place: &Place, more: &[&str]) -> Run {
    let mut command = cicd(place.repository.path());
    command.args(["check", "--environment", "production", "--platform", "other.yaml"]);
    run(command.args(more).env("AWS_SDK_UA_APP_ID", &place.name))
}

/// The messages of the findings on the environment.
fn refusals(ended: &Run) -> Vec<String> {
    let all = ended.json()["findings"].clone();
    let on_environment = |finding: &&Value| finding["environment"] == "production";
    let findings = all.as_array().expect("findings").iter().filter(on_environment);
    let fixed = findings.map(|finding| {
        assert!(finding["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{finding}");
        finding["message"].as_str().expect("a message").to_string()
    });
    fixed.collect()
}

#[test]
fn all_that_a_deploy_would_be_refused_for_is_said_and_nothing_is_written() {
    let place = Place::new("check-env");
    place
        .repository
        .write("Dockerfile", "FROM python:3.13-slim\nUSER 1000\nCMD [\"python\", \"app.py\"]\n");
    let platform = std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("platform.yaml");
    let listener = platform.split("listener: ").nth(1).and_then(|rest| rest.lines().next());
    let listener = listener.expect("a listener");
    let elsewhere = format!("{}0", listener);
    struct Case<'a> {
        replace: &'a [(&'a str, &'a str)],
        service: &'a str,
        code: i32,
        said: &'a [&'a str],
    }
    let cases = [
        Case { replace: &[], service: "", code: 0, said: &[] },
        Case {
            replace: &[("cluster: clinicult\n", "cluster: nowhere\n"), (listener, &elsewhere)],
            service: "",
            code: 3,
            said: &["cannot find ECS cluster nowhere", "cannot find listener"],
        },
        Case {
            replace: &[("subnets: [", "subnets: [] # [")],
            service: "secrets: {URL: 'secretsmanager:nowhere/at-all#url'}\n",
            code: 2,
            said: &["it has no subnets to run tasks in", "cannot deliver secrets.URL"],
        },
    ];
    for Case { replace, service, code, said } in cases {
        let text = replace.iter().fold(platform.clone(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        place.repository.write("other.yaml", &text);
        place.service(service);
        let found = check(&place, &["--output", "json"]).ended(code);
        let messages = refusals(&found);
        assert_eq!(messages.len(), said.len(), "{found}");
        for part in said {
            assert!(messages.iter().any(|message| message.contains(part)), "{part}: {found}");
        }
        let annotated = check(&place, &["--output", "github"]).ended(code);
        let errors = annotated.stdout.lines().filter(|line| line.starts_with("::error"));
        // The verdict is one itself.
        let expected = if said.is_empty() { 0 } else { said.len() + 1 };
        assert_eq!(errors.count(), expected, "{annotated}");
    }
    assert_eq!(place.writes(), 0);
}
