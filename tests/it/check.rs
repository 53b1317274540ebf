//! `check`: what is wrong with a repository's files is said with file and line before anything is
//! built.

mod environment;
mod hadolint;

use serde_json::Value;

use crate::image::{EVERYWHERE, server, service};
use crate::support::{Repository, Run, cicd, run, unique};

/// The platform's old guide, as teams copied it.
const OLD_GUIDE: &str = "\
FROM tiangolo/uvicorn-gunicorn-fastapi:python3.7
RUN curl -sSL https://raw.githubusercontent.com/python-poetry/poetry/master/get-poetry.py | python && \\ poetry --version
COPY ./app /app
";

fn check(repository: &Repository) -> Run {
    run(cicd(repository.path()).args(["check", "--output", "json"]))
}

/// The rules and places of what was found: `Dockerfile:2 retired-installer`.
fn found(result: &Value) -> Vec<String> {
    let findings = result["findings"].as_array().expect("findings");
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    findings
        .iter()
        .map(|one| format!("{}:{} {}", text(&one["file"]), one["line"], text(&one["rule"])))
        .collect()
}

#[test]
fn the_example_and_its_workflow_only_lack_the_pin() {
    let repository = Repository::of_example();
    repository.write(".github/workflows/ci.yml", include_str!("../../workflows/ci.yml"));
    let seen = found(&check(&repository).ended(0).json());
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.iter().all(|one| one.ends_with(" base-unpinned")), "{seen:?}");
}

#[test]
fn the_old_guide_is_refused_with_a_fix_for_each_line() {
    let repository = service(&unique("old"), &server("", EVERYWHERE), "");
    repository.write("Dockerfile", OLD_GUIDE);
    repository.write("app/main.py", "");
    let ended = check(&repository).ended(2);
    let result = ended.json();
    let seen = found(&result);
    for one in [
        "Dockerfile:1 base-deprecated",
        "Dockerfile:2 broken-continuation",
        "Dockerfile:2 retired-installer",
    ] {
        assert!(seen.iter().any(|own| own == one), "{one} in {seen:?}");
    }
    let causes = result["error"]["causes"].as_array().expect("causes");
    assert_eq!(causes.len(), 3, "{ended}");
    assert!(causes.iter().all(|cause| cause["fix"].is_string()), "{ended}");

    let on_github =
        run(cicd(repository.path()).arg("check").env("GITHUB_ACTIONS", "true")).ended(2);
    assert!(on_github.stdout.contains("::error file=Dockerfile,line=2"), "{on_github}");
    assert!(on_github.stdout.contains("::warning file=Dockerfile,line=1"), "{on_github}");
}

#[test]
fn a_workflow_above_the_service_counts_too() {
    let repository = Repository::new();
    repository.write("services/one/service.yaml", "name: one\nport: 8000\n");
    repository.write("services/one/Dockerfile", "FROM scratch\nUSER 1\nCMD [\"/x\"]\n");
    let workflow = include_str!("../../workflows/ci.yml")
        .replace("      id-token: write # the roles that push, plan and deploy\n", "");
    repository.write(".github/workflows/ci.yml", &workflow);
    let result =
        run(cicd(&repository.path().join("services/one")).args(["check", "--output", "json"]))
            .ended(2)
            .json();
    let seen = found(&result);
    for rule in ["permissions", "service-missing"] {
        assert!(
            seen.iter().any(
                |one| one.starts_with("../../.github/workflows/ci.yml:") && one.ends_with(rule)
            ),
            "{seen:?}"
        );
    }
}

/// GitHub shows ten warnings of a step; the last of them says how many there are besides.
#[test]
fn no_more_annotations_than_are_shown() {
    let repository = service(&unique("many"), &server("", EVERYWHERE), "");
    let steps: String = (0..24).map(|number| format!("      - uses: a/b{number}@v1\n")).collect();
    let workflow = format!(
        "{}  other:\n    runs-on: x\n    steps:\n{steps}",
        include_str!("../../workflows/ci.yml")
    );
    repository.write(".github/workflows/ci.yml", &workflow);
    let ended = run(cicd(repository.path()).arg("check").env("GITHUB_ACTIONS", "true")).ended(0);
    let warnings: Vec<&str> =
        ended.stdout.lines().filter(|line| line.starts_with("::warning")).collect();
    assert_eq!(warnings.len(), 10, "{ended}");
    assert!(warnings[9].contains("more warnings"), "{ended}");
    assert!(ended.stdout.contains("a/b23@v1"), "the log has them all: {ended}");
}

#[test]
fn without_a_dockerfile_it_is_bad_input() {
    let repository = service(&unique("none"), &server("", EVERYWHERE), "");
    std::fs::remove_file(repository.path().join("Dockerfile")).expect("removed");
    assert!(
        check(&repository).ended(2).json()["error"]["message"]
            .to_string()
            .contains("cannot find Dockerfile")
    );
}
