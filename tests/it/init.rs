//! `init`: a bare repository becomes one whose image builds and keeps the contract.

use std::process::Command;

use serde_json::json;

use crate::image::build;
use crate::support::{Removal, Repository, Run, cicd, run, unique};

const APP: &str = "\
import os
from fastapi import FastAPI
app = FastAPI()

@app.get('/healthz')
def health():
    return {'mode': os.environ.get('APP_MODE')}
";

fn init(repository: &Repository, arguments: &[&str]) -> Run {
    run(cicd(repository.path()).args(["init", "--output", "json"]).args(arguments))
}

fn commit(repository: &Repository) {
    repository.git(&["add", "-A"]);
    repository.commit("feat: first");
}

/// hadolint finds nothing, `check` nothing but the missing pin, the image builds and keeps the contract in both modes.
fn works(repository: &Repository) {
    let hadolint = Command::new("hadolint").args(["--no-color", "Dockerfile"]).current_dir(repository.path()).output();
    let hadolint = hadolint.expect("hadolint is on the PATH: `./dev setup`, and `eval \"$(./dev stack env)\"`");
    assert!(hadolint.status.success(), "{}", String::from_utf8_lossy(&hadolint.stdout));
    run(cicd(repository.path()).arg("check")).ended(0);
    commit(repository);
    let built = build(repository, &[]).ended(0).json();
    assert_eq!(built["contract"], json!({ "production": "pass", "debug": "pass" }));
}

#[test]
fn a_fastapi_project_with_uv_becomes_a_service() {
    let name = unique("inituv");
    let _removal = Removal::of(&name);
    let repository = Repository::of_example();
    for file in ["service.yaml", "Dockerfile", ".dockerignore"] {
        std::fs::remove_file(repository.path().join(file)).expect("removed");
    }
    let planned = init(&repository, &["--dry-run"]).ended(0).json();
    assert_eq!(planned["status"], "planned");
    assert!(planned["rendered"].as_str().is_some_and(|diff| diff.contains("+++ b/Dockerfile")), "{planned}");
    assert!(!repository.path().join("Dockerfile").exists());

    let written = init(&repository, &[]).ended(0).json();
    assert_eq!(written["changed"], json!(["service.yaml", "Dockerfile", ".dockerignore", ".github/workflows/ci.yml"]));
    let text = std::fs::read_to_string(repository.path().join("service.yaml")).expect("written");
    assert!(text.contains("name: patients\n"), "{text}");
    repository.write("service.yaml", &text.replace("name: patients\n", &format!("name: {name}\n")));
    works(&repository);

    let again = init(&repository, &[]).ended(0);
    assert_eq!(again.json()["status"], "unchanged", "a name that was changed stays: {again}");
}

#[test]
fn the_old_shape_is_modernised_and_keeps_its_variables() {
    let name = unique("initold");
    let _removal = Removal::of(&name);
    let repository = Repository::new();
    repository.write("app/main.py", APP);
    repository.write("requirements.txt", "fastapi==0.165.0\n");
    let old = "FROM tiangolo/uvicorn-gunicorn-fastapi:python3.7\nCOPY ./app /app\n";
    repository.write("Dockerfile", old);
    let kept = init(&repository, &[]).ended(0);
    assert!(kept.stderr.contains("Dockerfile is there already"), "{kept}");
    assert_eq!(std::fs::read_to_string(repository.path().join("Dockerfile")).expect("kept"), old);
    run(cicd(repository.path()).arg("check")).ended(2);

    init(&repository, &["--force"]).ended(0);
    // What the old image was configured by still counts.
    let service = format!(
        "name: {name}\nport: 9000\nimage: {{target: runtime}}\nenv: {{PORT: '9000', WEB_CONCURRENCY: '2', LOG_LEVEL: debug, APP_MODULE: 'main:app'}}\n"
    );
    let dockerfile = std::fs::read_to_string(repository.path().join("Dockerfile")).expect("written");
    assert!(dockerfile.contains("uvicorn==") && !dockerfile.contains("tiangolo"), "{dockerfile}");
    repository.write("service.yaml", &service);
    works(&repository);
}

#[test]
fn what_is_no_service_is_bad_input() {
    let repository = Repository::new();
    repository.write("README.md", "nothing\n");
    let error = init(&repository, &[]).ended(2).json()["error"].clone();
    assert!(error["fix"].as_str().is_some_and(|fix| fix.contains("Dockerfile")), "{error}");
}

#[test]
fn below_the_root_of_a_repository_no_workflow_is_written() {
    let repository = Repository::new();
    repository.write("services/web/go.mod", "module example.org/web\n\ngo 1.27\n");
    repository.write("services/web/main.go", "package main\n");
    let service = repository.path().join("services/web");
    let ended = run(cicd(&service).args(["init", "--output", "json"])).ended(0);
    assert_eq!(ended.json()["changed"], json!(["service.yaml", "Dockerfile", ".dockerignore"]));
    assert!(ended.stderr.contains("with: {service: PATH/service.yaml}"), "{ended}");
}
