//! `init`: a bare repository becomes one whose image builds, keeps the contract, and answers with
//! its mode.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use crate::image::docker;
use crate::support::{Removal, Repository, Run, cicd, http_get, run, stack, unique};

fn init(repository: &Repository, arguments: &[&str]) -> Run {
    run(cicd(repository.path()).args(["init", "--output", "json"]).args(arguments))
}

/// The rules and lines of what `check` finds, and its exit code.
fn check(repository: &Repository) -> (i32, BTreeSet<String>) {
    let ended = run(cicd(repository.path()).args(["check", "--output", "json"]));
    let result = ended.json();
    let findings = result["findings"].as_array().unwrap_or_else(|| panic!("no findings: {ended}"));
    let rules = findings
        .iter()
        .map(|one| format!("{} {}", one["rule"].as_str().expect("a rule"), one["line"]));
    (ended.code, rules.collect())
}

fn hadolint_finds_nothing(repository: &Repository) {
    let hadolint = Command::new("hadolint")
        .args(["--no-color", "Dockerfile"])
        .current_dir(repository.path())
        .output();
    let hadolint = hadolint
        .expect("hadolint is on the PATH: `./dev setup`, and `eval \"$(./dev stack env)\"`");
    assert!(hadolint.status.success(), "{}", String::from_utf8_lossy(&hadolint.stdout));
}

fn read(repository: &Repository, file: &str) -> String {
    std::fs::read_to_string(repository.path().join(file))
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn replace(repository: &Repository, file: &str, from: &str, to: &str) {
    let text = read(repository, file);
    assert!(text.contains(from), "{file} does not say `{from}`:\n{text}");
    repository.write(file, &text.replace(from, to));
}

/// Gives the service a name that no other test has.
fn rename(repository: &Repository, name: &str) {
    let text = read(repository, "service.yaml");
    let own = text.lines().find(|line| line.starts_with("name: ")).expect("a name");
    replace(repository, "service.yaml", own, &format!("name: {name}"));
}

/// Runs the service on this machine, with `more` in its service.yaml; its answer at `/`, and what
/// the run said.
fn served(repository: &Repository, more: &str) -> (Value, Value) {
    let service = read(repository, "service.yaml");
    repository.write("service.yaml", &format!("{service}{more}"));
    repository.git(&["add", "-A"]);
    repository.commit("feat: a change");
    let ended =
        run(cicd(repository.path()).args(["run", "--environment", "local", "--output", "json"]))
            .ended(0)
            .json();
    repository.write("service.yaml", &service);
    let url = format!("{}/", ended["url"].as_str().expect("a URL"));
    (serde_json::from_str(&http_get(&url)).expect("JSON"), ended)
}

/// The whole way of a repository of some shape, under a name of its own.
fn becomes_a_service(shape: &str, repository: &Repository) {
    let name = unique(&format!("init-{shape}"));
    let _removal = Removal::of(&name);
    let had_a_dockerfile = repository.path().join("Dockerfile").exists();
    let written = init(repository, &[]).ended(0);
    assert_eq!(written.json()["status"], "written", "{written}");
    rename(repository, &name);

    hadolint_finds_nothing(repository);
    let (code, rules) = check(repository);
    assert!(code == 0 && rules.iter().all(|rule| rule.starts_with("base-unpinned ")), "{rules:?}");
    assert_eq!(
        rules.is_empty(),
        read(repository, "Dockerfile").contains("@sha256:"),
        "the pin is all that may lack: {rules:?}"
    );

    let (answer, ran) = served(repository, "");
    assert_eq!(answer["mode"], "production", "{answer}");
    assert_eq!(ran["contract"], json!({ "production": "pass", "debug": "pass" }));
    let (answer, _) = served(repository, "environments: {local: {mode: debug}}\n");
    assert_eq!(answer["mode"], "debug", "{answer}");

    let again = init(repository, &[]).ended(0);
    assert_eq!(again.json()["status"], "unchanged", "what was changed stays: {again}");
    let kept = again.stderr.contains("Dockerfile is there already");
    assert!(!had_a_dockerfile || !kept, "one's own Dockerfile is not spoken of: {again}");
}

/// One test for each folder of tests/shapes.
macro_rules! shapes {
    ($($test:ident $shape:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            becomes_a_service($shape, &Repository::of(&format!("tests/shapes/{}", $shape)));
        })*

        #[test]
        fn no_shape_is_forgotten() {
            let folders = std::fs::read_dir(crate::support::root().join("tests/shapes")).expect("tests/shapes");
            let found: BTreeSet<String> =
                folders.map(|entry| entry.expect("an \
                    entry").file_name().to_string_lossy().into_owned()).collect();
            assert_eq!(found, BTreeSet::from([$($shape),*].map(str::to_string)));
        }
    };
}

shapes! {
    a_package_below_src_with_uv "uv-src",
    a_package_with_poetry "poetry",
    a_package_with_pdm "pdm",
    files_at_the_root_with_requirements "requirements",
    a_node_project "node",
    a_node_project_that_is_built "node-typescript",
    a_go_module "go",
    a_dockerfile_of_its_own "dockerfile",
}

#[test]
fn the_example_with_uv_becomes_a_service() {
    let repository = Repository::of_example();
    for file in ["service.yaml", "Dockerfile", ".dockerignore"] {
        std::fs::remove_file(repository.path().join(file)).expect("removed");
    }
    let planned = init(&repository, &["--dry-run"]).ended(0).json();
    assert_eq!(planned["status"], "planned");
    assert!(
        planned["rendered"].as_str().is_some_and(|diff| diff.contains("+++ b/Dockerfile")),
        "{planned}"
    );
    let files = [
        "service.yaml",
        "Dockerfile",
        ".dockerignore",
        ".github/workflows/ci.yml",
        ".github/workflows/deploy.yml",
    ];
    assert_eq!(planned["changed"], json!(files));
    assert!(
        files.iter().all(|file| !repository.path().join(file).exists()),
        "a plan writes nothing"
    );
    becomes_a_service("uv", &repository);
}

#[test]
fn the_old_shape_is_modernised_and_keeps_its_variables() {
    let name = unique("init-old");
    let _removal = Removal::of(&name);
    let repository = Repository::of("examples/fastapi-poetry");
    let old = read(&repository, "Dockerfile");
    let kept = init(&repository, &[]).ended(0);
    assert!(
        kept.stderr.contains("Dockerfile is there already")
            && kept.stderr.contains("app/prestart.sh"),
        "{kept}"
    );
    assert_eq!(read(&repository, "Dockerfile"), old);
    let (code, rules) = check(&repository);
    assert_eq!(code, 2, "{rules:?}");
    for rule in [
        "base-deprecated 2",
        "base-unpinned 2",
        "retired-installer 4",
        "broken-continuation 4",
        "unknown-target 2",
    ] {
        assert!(rules.contains(rule), "{rule} in {rules:?}");
    }

    init(&repository, &["--force"]).ended(0);
    let dockerfile = read(&repository, "Dockerfile");
    assert!(dockerfile.contains("uvicorn==") && !dockerfile.contains("tiangolo"), "{dockerfile}");
    hadolint_finds_nothing(&repository);
    assert!(check(&repository).1.iter().all(|rule| rule.starts_with("base-unpinned ")));
    rename(&repository, &name);
    let (answer, _) = served(&repository, "environments: {local: {mode: debug}}\n");
    assert_eq!(
        (&answer["mode"], &answer["module"]),
        (&json!("debug"), &json!("app.main")),
        "{answer}"
    );

    // What the old image was configured by still counts.
    replace(&repository, "service.yaml", "port: 8000\n", "port: 9000\n");
    let (answer, ran) = served(
        &repository,
        "env: {PORT: '9000', WEB_CONCURRENCY: '2', LOG_LEVEL: warning, APP_MODULE: 'main:app'}\n",
    );
    assert_eq!(
        (&answer["mode"], &answer["module"]),
        (&json!("production"), &json!("main")),
        "{answer}"
    );
    let url = format!("{}/", ran["url"].as_str().expect("a URL"));
    let processes: BTreeSet<String> = (0..200)
        .map(|_| {
            serde_json::from_str::<Value>(&http_get(&url)).expect("JSON")["process"].to_string()
        })
        .scan(BTreeSet::new(), |seen, process| {
            let enough = seen.len() == 2;
            seen.insert(process.clone());
            (!enough).then_some(process)
        })
        .collect();
    assert_eq!(processes.len(), 2, "two processes answer in turn");
    let container = docker(&["ps", "-q", "--filter", &format!("name=^{name}-")]).remove(0);
    let logs = run(Command::new("docker").args(["logs", &container])).ended(0);
    assert!(!logs.to_string().contains("INFO"), "nothing below a warning: {logs}");
}

/// Takes an image's name away from the engine.
struct Tag(String);

impl Drop for Tag {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "-f", &self.0]).output();
    }
}

#[test]
fn the_base_image_is_pinned_to_the_digest_that_its_registry_says() {
    let name = unique("init-pin");
    let _removal = Removal::of(&name);
    // By its address: hadolint takes `localhost:5000/…` for an image with a tag.
    let host = stack("CICD_STACK_REGISTRY").replace("localhost", "127.0.0.1");
    let base = Tag(format!("{host}/{name}/python:3.13-slim"));
    docker(&["tag", "python:3.13-slim", &base.0]);
    docker(&["push", "-q", &base.0]);
    let manifest = format!("http://{host}/v2/{name}/python/manifests/3.13-slim");
    let accept = "Accept: application/vnd.oci.image.index.v1+json, \
        application/vnd.oci.image.manifest.v1+json, \
                  application/vnd.docker.distribution.manifest.v2+json";
    let head = run(Command::new("curl").args(["-sSfI", "-H", accept, &manifest])).ended(0).stdout;
    let digest = head.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("docker-content-digest:")
            .map(|digest| digest.trim().to_string())
    });
    let pinned = format!("{}@{}", base.0, digest.expect("a digest"));

    let repository = Repository::of("tests/shapes/requirements");
    let written = init(&repository, &["--base", &base.0]).ended(0);
    assert!(!written.stderr.contains("not pinned"), "{written}");
    let dockerfile = read(&repository, "Dockerfile");
    let bases: Vec<&str> =
        dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(bases, [format!("{pinned} AS build"), format!("{pinned} AS runtime")]);
    assert_eq!(check(&repository), (0, BTreeSet::new()));
    hadolint_finds_nothing(&repository);

    // The engine gets it from the registry, by its digest.
    docker(&["rmi", "-f", &base.0]);
    rename(&repository, &name);
    assert_eq!(served(&repository, "").0["mode"], "production");
    assert_eq!(
        init(&repository, &["--base", &base.0, "--force"]).ended(0).json()["changed"],
        json!(["service.yaml"])
    );
}

#[test]
fn what_cannot_be_written_is_bad_input_with_its_fix() {
    // The files; what the message and the fix say.
    let cases: &[(&[(&str, &str)], &str, &str)] = &[
        (&[("README.md", "nothing\n")], "nothing in", "Dockerfile"),
        (&[("pom.xml", "<project/>")], "Maven", "write the Dockerfile by hand"),
        (
            &[
                ("pyproject.toml", "[tool.uv.workspace]\nmembers = [\"backend\"]\n"),
                ("backend/pyproject.toml", "[project]\nname = \"app\"\n"),
            ],
            "a uv workspace",
            "--package",
        ),
        (
            &[("requirements.txt", "alembic==1\n"), ("alembic.ini", "[alembic]\n")],
            "without an entry",
            "CMD",
        ),
        (&[("services/web/go.mod", "module x\n")], "nothing in", "cd services/web && cicd init"),
        (&[("package.json", "{}"), ("yarn.lock", "")], "Yarn", "write the Dockerfile by hand"),
    ];
    for (files, message, fix) in cases {
        let repository = Repository::new();
        for (file, text) in *files {
            repository.write(file, text);
        }
        let error = init(&repository, &[]).ended(2).json()["error"].clone();
        assert!(error["message"].as_str().is_some_and(|text| text.contains(message)), "{error}");
        assert!(error["fix"].as_str().is_some_and(|text| text.contains(fix)), "{error}");
        assert!(!repository.path().join("service.yaml").exists(), "nothing is written");
    }
    let repository = Repository::new();
    init(&repository, &["--base", "a b"]).ended(2);
}

#[test]
fn a_repository_with_files_of_its_own_keeps_them() {
    let repository = Repository::new();
    repository.write("go.mod", "module example.org/web\n\ngo 1.26\n");
    repository.write("main.go", "package main\n");
    repository.write(".dockerignore", "*\n!go.mod\n");
    repository.write(".github/workflows/ci.yml", "on: push\njobs: {}\n");
    let ended = init(&repository, &[]).ended(0);
    assert_eq!(
        ended.json()["changed"],
        json!([
            "service.yaml",
            "Dockerfile",
            ".github/workflows/cicd.yml",
            ".github/workflows/deploy.yml"
        ])
    );
    assert!(ended.stderr.contains(".dockerignore is there already"), "{ended}");
    assert_eq!(read(&repository, ".github/workflows/ci.yml"), "on: push\njobs: {}\n");
    repository.write(
        ".github/workflows/cicd.yml",
        &read(&repository, ".github/workflows/cicd.yml").replace("@v1", "@v1.2.3"),
    );
    assert_eq!(init(&repository, &[]).ended(0).json()["status"], "unchanged");
}

#[test]
fn below_the_root_of_a_repository_no_workflow_is_written() {
    let repository = Repository::new();
    repository.write("services/web/go.mod", "module example.org/web\n\ngo 1.27\n");
    repository.write("services/web/main.go", "package main\n");
    let service = repository.path().join("services/web");
    let ended = run(cicd(&service).args(["init", "--output", "json"])).ended(0);
    assert_eq!(ended.json()["changed"], json!(["service.yaml", "Dockerfile", ".dockerignore"]));
    assert!(ended.stderr.contains("with: {service: services/web/service.yaml}"), "{ended}");
}

/// A Dockerfile below its context says so by what it copies.
#[test]
fn a_dockerfile_for_the_root_is_built_from_the_root() {
    let repository = Repository::new();
    repository.write(".dockerignore", ".git\n**/.env\n");
    repository.write("services/api/main.py", "print(1)\n");
    repository.write(
        "services/api/Dockerfile",
        "FROM scratch\nCOPY services/api/main.py ./\nUSER 1\nEXPOSE 8000\nCMD [\"/main.py\"]\n",
    );
    let service = repository.path().join("services/api");
    let ended = run(cicd(&service).args(["init", "--output", "json"])).ended(0);
    assert_eq!(ended.json()["changed"], json!(["service.yaml"]));
    let written = read(&repository, "services/api/service.yaml");
    let image = "image: {context: ../.., dockerfile: services/api/Dockerfile}\n";
    assert!(written.contains(image), "{written}");
    run(cicd(&service).args(["check", "--output", "json"])).ended(0);

    // The same from the folder itself cannot work, and that is said before a build.
    repository.write("services/api/service.yaml", "name: api\nport: 8000\n");
    let refused = run(cicd(&service).args(["check", "--output", "json"])).ended(2);
    assert!(refused.stderr.contains("not in the build context"), "{refused}");
}

#[test]
fn what_is_known_has_its_place_and_a_guess_is_called_one() {
    let repository = Repository::new();
    repository.write("go.mod", "module example.org/web\n\ngo 1.27\n");
    let source = "package main\n\nfunc main() {\n\tflag.Int(\"port\", 9898, \"\")\n}\n";
    repository.write("main.go", source);
    repository.git(&["checkout", "-q", "-b", "trunk"]);
    let ended = init(&repository, &[]).ended(0);
    for text in ["port 9898: main.go:4", "health path /healthz is a guess", "is a guess: no source"]
    {
        assert!(ended.stderr.contains(text), "{text}: {ended}");
    }
    let written = read(&repository, "service.yaml");
    assert!(written.contains("# main.go:4\nport: 9898\n"), "{written}");
}
