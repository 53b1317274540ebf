//! `version --services`: which services of a repository a run is of.

use serde_json::Value;

use crate::support::{Repository, Run, cicd, run};

/// Two services with tags of their own and a library that one of them takes, each released once.
fn repository() -> Repository {
    let repository = Repository::new();
    let service = |name: &str, paths: &str| {
        let text = format!("name: {name}\nport: 8000\nversion: {{prefix: {name}-v{paths}}}\n");
        repository.write(&format!("services/{name}/service.yaml"), &text);
    };
    service("a", "");
    service("b", ", paths: [src, ../../libs/b]");
    for file in ["services/b/src/main", "services/b/README.md", "libs/b/x", "README.md"] {
        repository.write(file, "1\n");
    }
    repository.git(&["add", "-A"]);
    repository.commit("feat: first");
    repository.git(&["tag", "a-v0.1.0"]);
    repository.git(&["tag", "b-v0.1.0"]);
    repository
}

fn change(repository: &Repository, file: &str) {
    let path = repository.path().join(file);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    repository.write(file, &format!("{text}# more\n"));
    repository.git(&["add", "-A"]);
    repository.commit("feat: more");
}

/// What a run for an event says, with the event as GitHub hands it over.
fn listed(repository: &Repository, event: &str, payload: &Value) -> Run {
    let file = repository.path().join(".git/event.json");
    std::fs::write(&file, payload.to_string()).expect("written");
    let reference = match event {
        "pull_request" => "refs/pull/7/merge",
        _ => "refs/heads/main",
    };
    let mut command = cicd(repository.path());
    command.args(["version", "--services", "services/*/service.yaml", "--output", "json"]);
    command.env("GITHUB_ACTIONS", "true").env("GITHUB_EVENT_NAME", event);
    run(command.env("GITHUB_REF", reference).env("GITHUB_EVENT_PATH", file))
}

fn versions(ended: Run) -> Vec<String> {
    let json = ended.ended(0).json();
    let services = json["services"].as_array().expect("a list").iter();
    let text = |service: &Value, key: &str| service[key].as_str().expect(key).to_string();
    services.map(|one| format!("{} {}", text(one, "file"), text(one, "tag"))).collect()
}

#[test]
fn a_run_is_of_the_services_that_its_commits_touch() {
    let cases: &[(&[&str], &str)] = &[
        (&["services/a/new"], "a"),
        (&["services/b/src/main"], "b"),
        (&["libs/b/x"], "b"),
        (&["services/a/new", "libs/b/x"], "ab"),
        (&["README.md"], ""),
        (&["services/b/README.md"], ""),
        // It counts, though `paths` do not name it.
        (&["services/b/service.yaml"], "b"),
    ];
    for (files, expected) in cases {
        let repository = repository();
        let before = repository.git(&["rev-parse", "HEAD"]);
        files.iter().for_each(|file| change(&repository, file));
        let found = versions(listed(&repository, "push", &serde_json::json!({"before": before})));
        let services: String = found
            .iter()
            .filter_map(|service| service.strip_prefix("services/")?.chars().next())
            .collect();
        assert_eq!(services, *expected, "{files:?}: {found:?}");
        if files.contains(&"services/a/new") {
            assert_eq!(found[0], "services/a/service.yaml a-v0.2.0");
        }
    }
}

/// What does not say what came before is of all of them: nothing is left out for not being known.
#[test]
fn what_came_before_is_what_the_event_says() {
    let repository = repository();
    let before = repository.git(&["rev-parse", "HEAD"]);
    repository.git(&["checkout", "-qb", "topic"]);
    change(&repository, "services/a/new");
    repository.git(&["checkout", "-q", "main"]);
    change(&repository, "libs/b/x");
    repository.git(&["merge", "-q", "--no-ff", "-m", "Merge pull request #7", "topic"]);
    let none = "0".repeat(40);
    let count = |event: &str, payload: Value| versions(listed(&repository, event, &payload)).len();
    let json = |text: &str| text.replace("BEFORE", &before).parse::<Value>().expect("JSON");
    for (event, payload, expected) in [
        ("push", r#"{"before": "BEFORE"}"#, 2),
        ("push", &format!(r#"{{"before": "{none}"}}"#), 2),
        ("push", &format!(r#"{{"before": "{}"}}"#, "1".repeat(40)), 2),
        ("push", "{}", 2),
        ("workflow_dispatch", "{}", 2),
        // The base that a pull request is told by has gone on; the merge that is tried knows better.
        ("pull_request", r#"{"pull_request": {"number": 7, "base": {"sha": "BEFORE"}}}"#, 1),
        // A group of several pull requests ends with the merge of the last one.
        ("merge_group", r#"{"merge_group": {"base_sha": "BEFORE"}}"#, 2),
    ] {
        assert_eq!(count(event, json(payload)), expected, "{event} {payload}");
    }
}

#[test]
fn services_that_take_each_others_names_are_refused() {
    let cases = [
        ("name: a\nport: 1\nversion: {prefix: c-v}\n", "both are named a"),
        ("name: c\nport: 1\nversion: {prefix: a-v}\n", "has the same version.prefix `a-v`"),
        ("name: c\nport: x\n", "services/c/service.yaml:2"),
    ];
    for (text, said) in cases {
        let repository = repository();
        repository.write("services/c/service.yaml", text);
        repository.git(&["add", "-A"]);
        repository.commit("feat: c");
        let ended = listed(&repository, "push", &serde_json::json!({}));
        assert_eq!(ended.code, 2, "{ended}");
        assert!(ended.stderr.contains(said), "{said}: {ended}");
    }
    let repository = repository();
    let mut command = cicd(repository.path());
    let ended = run(command.args(["version", "--services", "apps/*/service.yaml"]));
    assert!(ended.code == 2 && ended.stderr.contains("no file is named apps/"), "{ended}");
}
