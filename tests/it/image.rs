//! `build-image`: one commit makes one digest, a failed build leaves nothing behind and names the
//! line, and the contract tells an image that serves from one that does not.

mod beside;
mod cache;
mod classic;
mod container;
mod context;
mod engine;
mod join;
mod second;
mod settings;
mod tools;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Removal, Repository, Run, cicd, run, unique};

const DOCKERFILE: &str = "\
FROM python:3.13-slim
ARG VERSION=none
ENV SERVICE_VERSION=${VERSION}
COPY server.py /server.py
RUN python3 -c \"open('/built', 'w').write('yes')\"
USER 10001
CMD [\"python3\", \"-u\", \"/server.py\"]
";

/// A service of the standard library alone. `before` runs before it listens on `address`.
pub fn server(before: &str, address: &str) -> String {
    format!(
        "\
import http.server, json, os, signal, sys, time
{before}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path in ('/healthz', '/')
        body = json.dumps({{'version': os.environ['SERVICE_VERSION'], 'mode': os.environ.get('APP_MODE'),
                           'greeting': os.environ.get('GREETING'), 'secret': len(os.environ.get('TOKEN', ''))}}).encode()
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer({address}, Handler).serve_forever()
"
    )
}

pub const EVERYWHERE: &str = "('0.0.0.0', 8000)";

/// A committed service under `name` that serves `server`, with `more` in its service.yaml.
pub fn service(name: &str, server: &str, more: &str) -> Repository {
    let repository = Repository::new();
    repository.write("service.yaml", &format!("name: {name}\nport: 8000\n{more}"));
    repository.write("Dockerfile", DOCKERFILE);
    repository.write(".dockerignore", "target/\n.git/\n");
    repository.write("server.py", server);
    repository.git(&["add", "-A"]);
    repository.commit("feat: first");
    repository
}

/// `cicd build-image` with `arguments`, reporting JSON.
pub fn build(repository: &Repository, arguments: &[&str]) -> Run {
    run(cicd(repository.path()).args(["build-image", "--output", "json"]).args(arguments))
}

/// What docker prints, line by line.
pub fn docker(arguments: &[&str]) -> Vec<String> {
    let ended = run(Command::new("docker").args(arguments)).ended(0);
    ended.stdout.lines().map(str::to_string).collect()
}

/// Starts `command`, waits until `reached`, interrupts it with SIGINT, and gives its exit code and
/// how long it took to end.
pub fn interrupted(command: &mut Command, reached: impl Fn() -> bool) -> (i32, Duration) {
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("cicd starts");
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < Duration::from_secs(60), "it never got so far");
        assert!(child.try_wait().expect("a state").is_none(), "it ended before it got so far");
        std::thread::sleep(Duration::from_millis(50));
    }
    let signalled = Instant::now();
    run(Command::new("kill").args(["-INT", &child.id().to_string()])).ended(0);
    let status = child.wait().expect("an end");
    (status.code().unwrap_or(-1), signalled.elapsed())
}

fn contract_containers(name: &str) -> Vec<String> {
    docker(&["ps", "-aq", "--filter", &format!("label=cicd.clinicult.io/contract={name}")])
}

pub fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The configuration of the one image in a layout.
fn config(layout: &Path) -> Value {
    let read = |file: &Path| -> Value {
        serde_json::from_slice(
            &std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display())),
        )
        .expect("JSON")
    };
    let blob = |descriptor: &Value| {
        layout
            .join("blobs")
            .join(descriptor["digest"].as_str().expect("a digest").replace(':', "/"))
    };
    let manifest = read(&blob(&read(&layout.join("index.json"))["manifests"][0]));
    read(&blob(&manifest["config"]))
}

#[test]
fn one_commit_makes_one_digest() {
    let name = unique("digest");
    let repository = service(&name, &server("", EVERYWHERE), "");
    repository.git(&["remote", "add", "origin", "git@github.com:clinicult/patients.git"]);
    let first = build(&repository, &["--skip-contract"]).ended(0).json();
    assert_eq!(first["layout"], "target/image");
    assert_eq!(first["platforms"], json!(["linux/amd64"]));
    assert!(first["size"].as_u64().expect("a size") > 10_000_000, "{first}");
    assert_eq!(first.get("contract"), None);

    let labels = config(&repository.path().join("target/image"))["config"]["Labels"].clone();
    let label = |name: &str| {
        labels[format!("org.opencontainers.image.{name}")].as_str().unwrap_or_default().to_string()
    };
    assert_eq!(label("revision"), repository.git(&["rev-parse", "HEAD"]));
    assert_eq!(label("created"), "2026-11-01T12:00:00Z");
    assert_eq!((label("version"), label("title")), ("0.1.0".to_string(), name));
    assert_eq!(label("source"), "https://github.com/clinicult/patients");

    // Nothing from a cache, files touched meanwhile, another clock, another place for the result.
    std::thread::sleep(Duration::from_millis(1100));
    run(Command::new("touch").arg(repository.path().join("server.py"))).ended(0);
    let second =
        build(&repository, &["--skip-contract", "--no-cache", "--layout", "elsewhere/my, layout"])
            .ended(0)
            .json();
    assert_eq!(second["digest"], first["digest"]);
    assert_eq!(entries(&repository.path().join("elsewhere")), ["my, layout"]);

    let version = build(&repository, &["--skip-contract", "--version", "9.9.9"]).ended(0).json();
    assert_ne!(version["digest"], first["digest"], "the version is in the image");
    assert_eq!(entries(&repository.path().join("target")), ["image"]);
}

#[test]
fn an_image_may_be_for_two_platforms() {
    let more = "image: {platforms: [linux/amd64, linux/arm64]}\n";
    let repository = service(&unique("platforms"), &server("", EVERYWHERE), more);
    repository.write("Dockerfile", "FROM scratch\nCOPY server.py /\n");
    let first = build(&repository, &["--skip-contract"]).ended(0).json();
    assert_eq!(first["platforms"], json!(["linux/amd64", "linux/arm64"]));
    let second = build(&repository, &["--skip-contract", "--no-cache"]).ended(0).json();
    assert_eq!(second["digest"], first["digest"]);
}

#[test]
fn a_plan_says_the_command_and_builds_nothing() {
    let repository = service(&unique("plan"), &server("", EVERYWHERE), "");
    let planned = build(&repository, &["--plan"]).ended(0).json();
    assert_eq!(planned["status"], "planned");
    assert!(
        planned["rendered"].as_str().is_some_and(|command| command.starts_with("build ")),
        "{planned}"
    );
    assert!(!repository.path().join("target").exists());
}

#[test]
fn a_failing_step_is_named_with_its_line_and_its_log_and_the_earlier_layout_stays() {
    let repository = service(&unique("broken"), &server("", EVERYWHERE), "");
    let good = build(&repository, &["--skip-contract"]).ended(0).json();
    let index = repository.path().join("target/image/index.json");
    let before = std::fs::read(&index).expect("an index");

    repository.write(
        "Dockerfile",
        "FROM python:3.13-slim\n\nRUN echo so far >&2; \\\n  echo and then >&2; exit 7\nCMD [\"x\"]\n",
    );
    let failed = build(&repository, &["--skip-contract"]).ended(2);
    let error = &failed.json()["error"];
    assert!(
        error["message"].as_str().expect("a message").starts_with("Dockerfile:3:1: "),
        "{failed}"
    );
    assert_eq!(error["causes"][0]["exit-code"], 7);
    assert_eq!(error["causes"][0]["log-tail"], json!(["so far", "and then"]));
    assert_eq!(
        std::fs::read(&index).expect("an index"),
        before,
        "the earlier layout stays as it was"
    );
    assert_eq!(entries(&repository.path().join("target")), ["image"]);

    let on_github =
        run(cicd(repository.path()).args(["build-image"]).env("GITHUB_ACTIONS", "true")).ended(2);
    assert!(on_github.stdout.contains("::error file=Dockerfile,line=3"), "{on_github}");
    assert!(good["digest"].is_string());
}

#[test]
fn what_cannot_be_built_is_told_apart() {
    let missing_secret = "image: {build-secrets: ['id=npm,env=NPM_TOKEN']}\n";
    let elsewhere: &[(&str, &str)] = &[("DOCKER_HOST", "unix:///nonexistent/docker.sock")];
    let remote: &[(&str, &str)] = &[("DOCKER_HOST", "tcp://127.0.0.1:1")];
    // service.yaml, Dockerfile, environment → exit code, what it says, what its fix says
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], i32, &'a str, &'a str);
    let cases: &[Case<'_>] = &[
        (
            "image: {dockerfile: nope}\n",
            DOCKERFILE,
            &[],
            2,
            "there is no nope",
            "dockerfile: Dockerfile",
        ),
        (
            "image: {context: nope}\n",
            DOCKERFILE,
            &[],
            2,
            "there is no build context nope",
            "dockerfile: Dockerfile",
        ),
        (
            "image: {context: sub, dockerfile: ../Dockerfile}\n",
            DOCKERFILE,
            &[],
            2,
            "outside the build context",
            "the context",
        ),
        (
            "image: {target: nope}\n",
            DOCKERFILE,
            &[],
            2,
            "Dockerfile has no stage `nope`",
            "FROM … AS nope",
        ),
        (
            "",
            "FROM python:3.13-slim\nRUMM x\n",
            &[],
            2,
            "Dockerfile:2:1: cannot build Dockerfile",
            "correct",
        ),
        (
            "",
            "FROM python:3.13-slim\nCOPY nope /\n",
            &[],
            2,
            "Dockerfile:2:1: cannot build Dockerfile",
            "build context",
        ),
        ("", "FROM localhost:1/nope:1\n", &[], 3, "a base image cannot be pulled", "registry"),
        (
            missing_secret,
            DOCKERFILE,
            &[],
            3,
            "`id=npm,env=NPM_TOKEN`: it has no value",
            "export NPM_TOKEN=",
        ),
        ("", DOCKERFILE, elsewhere, 3, "no Docker engine", "DOCKER_HOST"),
        ("", DOCKERFILE, remote, 3, "no Docker engine", "DOCKER_HOST"),
    ];
    for (more, dockerfile, environment, code, message, fix) in cases {
        let repository = service(&unique("refused"), &server("", EVERYWHERE), more);
        repository.write("sub/x", "");
        repository.write("Dockerfile", dockerfile);
        let mut command = cicd(repository.path());
        command
            .args(["build-image", "--skip-contract", "--output", "json"])
            .envs(environment.iter().copied());
        let ended = run(&mut command).ended(*code);
        let error = &ended.json()["error"];
        assert!(
            error["message"].as_str().expect("a message").contains(message),
            "{more}{dockerfile}{ended}"
        );
        assert!(
            error["fix"].as_str().unwrap_or_default().contains(fix),
            "{more}{dockerfile}{ended}"
        );
        let target = repository.path().join("target");
        assert!(
            !target.exists() || entries(&target).is_empty(),
            "{more}{dockerfile} leaves something behind"
        );
    }
}

#[test]
fn the_layout_never_takes_the_place_of_sources() {
    let repository = service(&unique("sources"), &server("", EVERYWHERE), "");
    let ended = build(&repository, &["--skip-contract", "--layout", "."]).ended(2);
    assert!(ended.stderr.contains("is no OCI layout"), "{ended}");
    assert!(repository.path().join("server.py").exists());
}

#[test]
fn a_build_secret_reaches_the_step_and_no_output() {
    let repository = service(
        &unique("secret"),
        &server("", EVERYWHERE),
        "image: {build-secrets: ['id=npm,env=NPM_TOKEN']}\n",
    );
    let step =
        "RUN --mount=type=secret,id=npm sha256sum /run/secrets/npm; cat /run/secrets/npm; exit 3";
    repository.write("Dockerfile", &format!("FROM python:3.13-slim\n{step}\n"));
    let secret = "hunter2-and-a-half";
    let sum = "9a3b2e6e0b1d5e30";
    let ended = run(cicd(repository.path())
        .args(["build-image", "--verbose", "--output", "json"])
        .env("NPM_TOKEN", secret)
        .env("AWS_SECRET_ACCESS_KEY", "not-for-buildx"))
    .ended(2);
    let log = ended.json()["error"]["causes"][0]["log-tail"].to_string();
    assert!(
        log.contains("/run/secrets/npm") && log.contains("***"),
        "the step read the secret: {ended}"
    );
    assert!(!format!("{ended}").contains(secret), "{ended}");
    assert!(!format!("{ended}").contains(sum));
}

#[test]
fn a_workflow_hands_build_secrets_over_in_one_variable() {
    let more = "image: {build-secrets: ['id=npm,env=NPM_TOKEN']}\n";
    let repository = service(&unique("handed"), &server("", EVERYWHERE), more);
    // Another secret is none of this build's business, and no step finds the variable that held
    // both.
    let step = "RUN --mount=type=secret,id=npm test \"$(cat /run/secrets/npm)\" = hunter2-and-a-half && ! env | grep -i secret";
    repository.write(
        "Dockerfile",
        &format!("FROM debian:trixie-slim\n{step}\nRUN echo it says other-secret\n"),
    );
    let event = repository.path().join("event.json");
    let build = |secrets: &str, head: &str| {
        let repo = |name: &str| format!("{{\"full_name\": \"{name}\"}}");
        let pull_request = format!("{{\"head\": {{\"repo\": {}}}}}", repo(head));
        let text = format!(
            "{{\"repository\": {}, \"pull_request\": {pull_request}}}",
            repo("clinicult/patients")
        );
        std::fs::write(&event, text).expect("written");
        run(cicd(repository.path())
            .args([
                "build-image",
                "--skip-contract",
                "--no-cache",
                "--verbose",
                "--version",
                "1.0.0",
                "--output",
                "json",
            ])
            .env("CICD_BUILD_SECRETS", secrets)
            .env("GITHUB_EVENT_NAME", "pull_request")
            .env("GITHUB_EVENT_PATH", &event))
    };
    let ended =
        build("NPM_TOKEN=hunter2-and-a-half\nOTHER=other-secret\n", "clinicult/patients").ended(0);
    assert!(
        !format!("{ended}").contains("hunter2") && !format!("{ended}").contains("other-secret"),
        "{ended}"
    );
    let missing = build("NPM_TOKEN=\n", "clinicult/patients").ended(3);
    assert!(
        missing.stderr.contains("secrets: {build-secrets: \"NPM_TOKEN=${{ secrets.NPM_TOKEN }}\"}"),
        "{missing}"
    );
    let fork = build("NPM_TOKEN=\n", "somebody/patients").ended(3);
    assert!(fork.stderr.contains("a pull request from a fork runs without secrets"), "{fork}");
    let wrong = build("NPM_TOKEN=hunter2-and-a-half\nand-a-half", "clinicult/patients").ended(2);
    assert!(wrong.stderr.contains("line 2 of the secret build-secrets"), "{wrong}");
    assert!(!format!("{wrong}").contains("and-a-half"), "{wrong}");
}

#[test]
fn a_build_secret_may_be_any_bytes() {
    let repository = service(&unique("bytes"), &server("", EVERYWHERE), "");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key.p12");
    std::fs::write(&file, b"\x00\xff\xfe\nhunter2-and-a-half\n\x80").expect("written");
    let yaml = format!(
        "name: bytes\nport: 8000\nimage: {{build-secrets: ['id=key,src={}']}}\n",
        file.display()
    );
    repository.write("service.yaml", &yaml);
    let step =
        "RUN --mount=type=secret,id=key cat /run/secrets/key; wc -c </run/secrets/key; exit 3";
    repository.write("Dockerfile", &format!("FROM debian:trixie-slim\n{step}\n"));
    let outside = build(&repository, &["--skip-contract", "--no-cache"]).ended(2);
    assert!(outside.stderr.contains("--allow-read"), "{outside}");
    let allowed = ["--skip-contract", "--no-cache", "--allow-read", file.to_str().expect("a path")];
    let ended = build(&repository, &allowed).ended(2);
    let log = ended.json()["error"]["causes"][0]["log-tail"].to_string();
    assert!(log.contains("24") && log.contains("***"), "every byte reached the step: {ended}");
    assert!(!format!("{ended}").contains("hunter2"), "{ended}");
}

#[test]
fn an_interrupted_build_leaves_nothing_behind() {
    let name = unique("interrupted");
    let repository = service(&name, &server("", EVERYWHERE), "");
    repository.write("Dockerfile", &format!("FROM python:3.13-slim\nRUN echo {name}; sleep 60\n"));
    let running = || {
        let processes = run(Command::new("ps").args(["-eo", "args"])).stdout;
        processes.lines().any(|line| line.contains("buildx") && line.contains(&name))
    };
    let (code, took) = interrupted(cicd(repository.path()).args(["build-image"]), || {
        repository.path().join("target").exists() && running()
    });
    assert_eq!(code, 130);
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert!(!running(), "buildx runs on");
    assert_eq!(entries(&repository.path().join("target")), Vec::<String>::new());
}

#[test]
fn an_image_that_serves_in_both_modes_keeps_the_contract() {
    let name = unique("keeps");
    let _removal = Removal::of(&name);
    let repository = service(&name, &server("", EVERYWHERE), "");
    let built = build(&repository, &[]).ended(0).json();
    assert_eq!(built["contract"], json!({ "production": "pass", "debug": "pass" }));
    assert_eq!(contract_containers(&name), Vec::<String>::new());
}

#[test]
fn an_interrupted_contract_leaves_no_container() {
    let name = unique("contract");
    let _removal = Removal::of(&name);
    let repository = service(&name, &server("time.sleep(60)", EVERYWHERE), "");
    let (code, took) = interrupted(cicd(repository.path()).args(["build-image"]), || {
        contract_containers(&name).len() == 2
    });
    assert_eq!(code, 130);
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert_eq!(contract_containers(&name), Vec::<String>::new());
}

/// docker-buildx as it is installed here.
fn buildx() -> String {
    ["/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec"]
        .map(|folder| format!("{folder}/docker/cli-plugins/docker-buildx"))
        .into_iter()
        .find(|file| Path::new(file).exists())
        .expect("docker-buildx is installed")
}

/// As GitHub's runner runs a container action: in a container of the same engine, in a network made
/// for the job, where 127.0.0.1 is not the machine's.
#[test]
fn inside_a_container_action_the_contract_is_checked_as_well() {
    let name = unique("inside");
    let _removal = Removal::of(&name);
    let repository = service(&name, &server("", EVERYWHERE), "");
    let network = Network::new(&name);
    let work = repository.path().display();
    let job = format!("{name}-action");
    let ended = run(Command::new("docker")
        .args(["run", "--rm", "--name", &job, "--network", &network.0])
        .args(["-v", "/var/run/docker.sock:/var/run/docker.sock"])
        .args(["-v", &format!("{work}:/github/workspace"), "-w", "/github/workspace"])
        .args(["-v", &format!("{}:/cicd:ro", env!("CARGO_BIN_EXE_cicd"))])
        .args(["-v", &format!("{}:/usr/libexec/docker/cli-plugins/docker-buildx:ro", buildx())])
        .args(["-e", "HOME=/github/home", "debian:trixie-slim"])
        .args(["/cicd", "run", "--environment", "local", "--output", "json"]));
    let result = ended.ended(0).json();
    assert_eq!(result["contract"], json!({ "production": "pass", "debug": "pass" }));
    assert_eq!(result["status"], "deployed");
    let answer = crate::support::http_get(&format!("{}/", result["url"].as_str().expect("a URL")));
    assert!(answer.contains("0.1.0"), "and users of the machine reach what was deployed: {answer}");
}

/// A network of the engine, removed at the end of the test with what is in it.
struct Network(String);

impl Network {
    fn new(name: &str) -> Network {
        docker(&["network", "create", name]);
        Network(name.to_string())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let command = format!(
            "docker ps -aq --filter network={0} | xargs -r docker rm -f; docker network rm {0}",
            self.0
        );
        let _ = Command::new("sh").args(["-c", &command]).output();
    }
}
