//! Caches: a builder that has never seen the service takes its steps from one, and one that does
//! not work fails no build.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::engine::{Engine, Store};
use super::{EVERYWHERE, server, service};
use crate::support::{Repository, Run, cicd, run, stack, unique};

/// Each time its step runs, the image is another one.
fn random(name: &str, cache: &str) -> Repository {
    let repository =
        service(name, &server("", EVERYWHERE), &format!("image: {{cache: '{cache}'}}\n"));
    repository.write(".dockerignore", "*\n");
    repository.write(
        "Dockerfile",
        "FROM debian:trixie-slim\nRUN head -c 32 /dev/urandom | sha256sum >/random\n",
    );
    repository.git(&["add", "-A"]);
    repository.commit("feat: another one each time");
    repository
}

fn build(repository: &Repository, host: Option<&str>, arguments: &[&str]) -> Run {
    let mut command = cicd(repository.path());
    command.args(["build-image", "--skip-contract", "--output", "json"]).args(arguments);
    if let Some(host) = host {
        command.env("DOCKER_HOST", host);
    }
    run(&mut command)
}

#[test]
fn a_builder_that_forgot_all_takes_the_steps_from_the_cache() {
    let mut engine = Engine::start(Store::Containerd);
    let host = engine.host();
    engine.registry();
    for cache in ["registry:127.0.0.1:5000/cache/patients:main", "local:CACHE"] {
        let parent = tempfile::tempdir().expect("a folder");
        let repository = random(&unique("cached"), "off");
        let cache = cache.replace("CACHE", &parent.path().join("cache").display().to_string());
        let forget =
            || run(engine.docker().args(["builder", "prune", "--all", "--force"])).ended(0);
        let first = build(&repository, Some(&host), &["--cache", &cache]).ended(0);
        forget();
        let second = build(&repository, Some(&host), &["--cache", &cache]).ended(0);
        assert_eq!(second.json()["digest"], first.json()["digest"], "{cache}: {first}{second}");
        assert!(second.stderr.contains("sha256sum >/random (cached)"), "{second}");
        forget();
        let without = build(&repository, Some(&host), &["--cache", "off"]).ended(0);
        assert_ne!(
            without.json()["digest"],
            first.json()["digest"],
            "the step ran again, and is another one"
        );
        if cache.starts_with("local:") {
            let left: Vec<_> = std::fs::read_dir(parent.path()).expect("a folder").collect();
            assert_eq!(left.len(), 1, "what it was written to is in its place: {left:?}");
        }
    }
}

#[test]
fn the_stacks_registry_keeps_steps_beside_the_images() {
    let repository = random(&unique("stack"), "off");
    let name = format!("{}/cache/{}", stack("CICD_STACK_REGISTRY"), unique("cache"));
    let cache = format!("registry:{name}:main");
    let first = build(&repository, None, &["--cache", &cache]).ended(0);
    assert!(
        !first.stderr.contains("warning"),
        "a cache that is not there yet is no fault: {first}"
    );
    let kept = run(Command::new("skopeo").args([
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{name}:main"),
    ]));
    let manifest: serde_json::Value = serde_json::from_str(&kept.ended(0).stdout).expect("JSON");
    assert_eq!(
        manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json",
        "ECR takes no other"
    );
}

#[test]
fn a_cache_that_does_not_work_is_warned_of_and_fails_no_build() {
    let name = unique("broken");
    let repository = random(&name, "registry:127.0.0.1:1/cache/patients:main");
    let unreachable = build(&repository, None, &[]).ended(0);
    assert!(
        unreachable.stderr.contains("warning: importing cache manifest from 127.0.0.1:1/"),
        "{unreachable}"
    );
    assert!(unreachable.stderr.contains("warning: exporting cache to registry"), "{unreachable}");
    assert!(
        !build(&repository, None, &["--no-cache"]).ended(0).stderr.contains("cache manifest"),
        "it is not asked"
    );

    // Asked for by name where it is not.
    let nowhere = build(&repository, None, &["--cache", "gha", "--no-cache"]).ended(0);
    assert!(!nowhere.stderr.contains("warning"), "no cache is wanted: {nowhere}");
    let nowhere = build(&repository, None, &["--cache", "gha"]).ended(0);
    assert!(
        nowhere.stderr.contains("ACTIONS_RESULTS_URL and ACTIONS_RUNTIME_TOKEN say nothing"),
        "{nowhere}"
    );

    // A token that is none: BuildKit would not even begin.
    let mut command = cicd(repository.path());
    command.args(["build-image", "--skip-contract", "--output", "json", "--cache", "gha"]);
    command
        .env("ACTIONS_RESULTS_URL", "http://127.0.0.1:1/")
        .env("ACTIONS_RUNTIME_TOKEN", "no-token-at-all");
    let refused = run(&mut command).ended(0);
    assert!(refused.stderr.contains("the cache is left out"), "{refused}");
    assert!(!format!("{refused}").contains("no-token-at-all"), "{refused}");

    // A step that fails is the reason, not the cache.
    repository.write("Dockerfile", "FROM debian:trixie-slim\nRUN exit 7\n");
    let failed = build(&repository, None, &[]).ended(2);
    assert!(
        failed.json()["error"]["message"].as_str().expect("a message").contains("RUN exit 7"),
        "{failed}"
    );
}

/// GitHub's cache as far as this asks it: it answers that nothing is there, and remembers what it
/// was asked.
struct Results {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Results {
    fn start() -> Results {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = seen.clone();
                std::thread::spawn(move || answer(stream, &seen));
            }
        });
        Results { url, asked }
    }
}

fn answer(mut stream: std::net::TcpStream, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        seen.lock().expect("a lock").push(format!("{head}{}", String::from_utf8_lossy(&body)));
        let text = "{\"ok\":false}";
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
    }
}

#[test]
fn on_github_its_cache_is_asked_with_the_token_which_nobody_sees() {
    let results = Results::start();
    let name = unique("gha");
    let repository = random(&name, "auto");
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let scopes = serde_json::json!([{ "Scope": "refs/heads/main", "Permission": 3 }]).to_string();
    let claims =
        serde_json::json!({ "ac": scopes, "nbf": 1_700_000_000, "exp": 9_999_999_999_u64 });
    let token =
        format!("{}.{}.c2lnbmF0dXJl", part(serde_json::json!({ "alg": "none" })), part(claims));
    let mut command = cicd(repository.path());
    command.args(["build-image", "--skip-contract", "--verbose", "--output", "json"]);
    command.env("ACTIONS_RESULTS_URL", &results.url).env("ACTIONS_RUNTIME_TOKEN", &token);
    let ended = run(&mut command).ended(0);
    let asked = results.asked.lock().expect("a lock").clone();
    let first = asked.first().unwrap_or_else(|| panic!("nobody asked: {ended}"));
    assert!(
        first.contains(
            "POST /twirp/github.actions.results.api.v1.CacheService/GetCacheEntryDownloadURL"
        ),
        "{first}"
    );
    assert!(first.contains(&format!("Bearer {token}")), "{first}");
    assert!(
        first.contains(&format!("index-{name}-")),
        "each service has a scope of its own: {first}"
    );
    assert!(!format!("{ended}").contains(&token), "{ended}");
}
