//! Beside an engine with an older store a builder runs in a container of its own: all that such an
//! engine cannot do, and a clean machine afterwards, however the build ended.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::beside::statements;
use super::engine::{Engine, Store};
use super::second::layers;
use super::{EVERYWHERE, buildx, entries, interrupted, server, service};
use crate::support::{Repository, Run, cicd, run, unique};

/// An engine with an older store, a registry in its network with BuildKit and a base image, and
/// what a user says of it.
struct Bench {
    engine: Engine,
    /// BuildKit's image, by digest.
    image: String,
    /// The registry, as containers of the engine reach it.
    registry: String,
    /// The folder of Docker's settings.
    config: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let mut engine = Engine::start(Store::Classic);
        let registry = engine.registry();
        let image = format!(
            "127.0.0.1:5000/buildkit@{}",
            engine.publish("cicd/buildkit:tests", "buildkit:tests")
        );
        engine.publish("debian:trixie-slim", "library/debian:trixie-slim");
        let config = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(config.path().join("buildx")).expect("a folder");
        let settings = format!(
            "[registry.\"docker.io\"]\nmirrors = [\"{registry}\"]\n[registry.\"{registry}\"]\nhttp = true\ninsecure = true\n"
        );
        std::fs::write(config.path().join("buildx/buildkitd.default.toml"), settings)
            .expect("written");
        Bench { engine, image, registry, config }
    }

    fn command(&self, repository: &Repository) -> Command {
        let mut command = cicd(repository.path());
        command.args([
            "build-image",
            "--skip-contract",
            "--output",
            "json",
            "--builder-image",
            &self.image,
        ]);
        command.env("DOCKER_HOST", self.engine.host()).env("DOCKER_CONFIG", self.config.path());
        command
    }

    fn build(&self, repository: &Repository, arguments: &[&str]) -> Run {
        run(self.command(repository).args(arguments))
    }

    /// The engine's containers and volumes.
    fn left(&self) -> String {
        let list = |arguments: &[&str]| run(self.engine.docker().args(arguments)).ended(0).stdout;
        list(&["ps", "--all", "--format", "{{.Names}}"]) + &list(&["volume", "ls", "--quiet"])
    }

    /// Nothing of the builder is left. A busy engine may take longer than whoever interrupts a
    /// build waits for.
    fn has_none(&self) {
        let started = Instant::now();
        while !self.left().is_empty() {
            assert!(started.elapsed() < Duration::from_secs(30), "{}", self.left());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn is_clean(&self, repository: &Repository) {
        assert_eq!(self.left(), "", "nothing of the builder is left");
        assert_eq!(entries(&self.config.path().join("buildx/instances")), Vec::<String>::new());
        let target = repository.path().join("target");
        assert!(
            !target.exists() || entries(&target).iter().all(|name| name == "image"),
            "{:?}",
            entries(&target)
        );
    }
}

/// Each time its step runs, the image is another one.
const RANDOM: &str = "FROM debian:trixie-slim\nRUN head -c 32 /dev/urandom | sha256sum >/random\n";

fn committed(name: &str, dockerfile: &str, more: &str) -> Repository {
    let repository = service(name, &server("", EVERYWHERE), more);
    repository.write("Dockerfile", dockerfile);
    repository.git(&["add", "-A"]);
    repository.commit("feat: another image");
    repository
}

#[test]
fn a_builder_in_a_container_does_what_an_older_store_cannot() {
    let bench = Bench::new();
    let name = unique("builder");
    let repository = committed(
        &name,
        "FROM debian:trixie-slim\nRUN echo built >/built\n",
        "image: {provenance: min}\n",
    );
    let first = bench.build(&repository, &[]).ended(0);
    assert!(!first.stderr.contains("warning"), "nothing is left out: {first}");
    bench.is_clean(&repository);
    let [(predicate, _)] = &statements(&repository.path().join("target/image"))[..] else {
        panic!("one statement")
    };
    assert!(predicate.starts_with("https://slsa.dev/provenance/"), "{predicate}");
    // A builder that has never seen the service, at another time.
    std::thread::sleep(Duration::from_millis(1100));
    let second = bench.build(&repository, &["--no-cache"]).ended(0);
    assert_eq!(second.json()["digest"], first.json()["digest"], "two clean builds of one commit");
    // Another engine, with another BuildKit; its base image came another way, and is packed anew.
    super::build(&repository, &["--skip-contract", "--no-cache", "--layout", "beside"]).ended(0);
    let top = |layout: &str| layers(&repository.path().join(layout)).pop();
    assert_eq!(top("beside"), top("target/image"), "the layer is the same whoever builds it");

    let two = committed(
        &name,
        "FROM scratch\nCOPY server.py /\n",
        "image: {platforms: [linux/amd64, linux/arm64]}\n",
    );
    assert_eq!(
        bench.build(&two, &[]).ended(0).json()["platforms"],
        json!(["linux/amd64", "linux/arm64"])
    );

    let repository = committed(&name, RANDOM, "");
    let folder = tempfile::tempdir().expect("a folder");
    let digest = |ended: Run| -> Value { ended.ended(0).json()["digest"].clone() };
    for cache in [
        format!("registry:{}/cache:main", bench.registry),
        format!("local:{}/cache", folder.path().display()),
    ] {
        let first = digest(bench.build(&repository, &["--cache", &cache]));
        let second = bench.build(&repository, &["--cache", &cache]);
        assert!(second.stderr.contains("sha256sum >/random (cached)"), "{cache}: {second}");
        assert_eq!(
            digest(second),
            first,
            "{cache}: each builder is new, and takes the step from the cache"
        );
        assert_ne!(digest(bench.build(&repository, &[])), first, "without it the step runs again");
    }
    bench.is_clean(&repository);
}

#[test]
fn a_builder_ends_with_its_build_however_that_ends() {
    let bench = Bench::new();
    let name = unique("ended");
    let repository =
        committed(&name, &format!("FROM debian:trixie-slim\nRUN echo {name}; sleep 600\n"), "");
    let runs = || {
        let processes = run(Command::new("ps").args(["-eo", "args"])).stdout;
        processes.lines().any(|line| {
            line.contains("/bin/sh -c") && line.contains(&name) && !line.contains("ps -eo")
        })
    };

    let (code, took) = interrupted(&mut bench.command(&repository), runs);
    assert_eq!(code, 130);
    assert!(took < Duration::from_secs(9), "{took:?}");
    bench.has_none();

    bench.build(&repository, &["--timeout", "8s"]).ended(6);
    bench.has_none();

    // While it starts, the engine may be at any point of making it.
    let begun = || {
        let folders = entries(&repository.path().join("target")).into_iter();
        let mut folders = folders.map(|name| repository.path().join("target").join(name));
        folders.any(|folder| {
            folder.join("buildx/instances").read_dir().is_ok_and(|mut names| names.next().is_some())
        })
    };
    for pause in [0, 200, 400, 700, 1100] {
        let (code, took) = interrupted(&mut bench.command(&repository), || {
            let begun = begun();
            std::thread::sleep(Duration::from_millis(if begun { pause } else { 0 }));
            begun
        });
        assert_eq!(code, 130, "{pause}");
        assert!(took < Duration::from_secs(9), "{pause}: {took:?}");
        bench.has_none();
    }

    // Nobody can tidy up then; the next build does.
    let mut killed = bench
        .command(&repository)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("cicd starts");
    let started = Instant::now();
    while !runs() {
        assert!(started.elapsed() < Duration::from_secs(60), "it never got so far");
        std::thread::sleep(Duration::from_millis(50));
    }
    killed.kill().expect("killed");
    killed.wait().expect("an end");
    assert_ne!(bench.left(), "");
    repository.write("Dockerfile", "FROM debian:trixie-slim\nRUN exit 7\n");
    // It is not forgotten when its engine cannot be reached as it was.
    let socket = bench.engine.host().replace("unix://", "");
    let elsewhere = format!("{socket}.elsewhere");
    std::fs::rename(&socket, &elsewhere).expect("renamed");
    let mut command = bench.command(&repository);
    run(command.env("DOCKER_HOST", format!("unix://{elsewhere}"))).ended(2);
    std::fs::rename(&elsewhere, &socket).expect("renamed");
    assert_ne!(bench.left(), "", "the one that was killed is still there");
    let failed = bench.build(&repository, &[]).ended(2);
    assert!(
        failed.json()["error"]["message"].as_str().expect("a message").contains("RUN exit 7"),
        "{failed}"
    );
    bench.is_clean(&repository);
}

/// As on GitHub's runner, where the engine has the older store and this program is in a container
/// without the docker command.
#[test]
fn in_a_container_action_a_builder_is_started_as_well() {
    let bench = Bench::new();
    let repository =
        committed(&unique("action"), "FROM debian:trixie-slim\nRUN echo built >/built\n", "");
    let socket = bench.engine.host().replace("unix://", "");
    let mounts = [
        (repository.path().display().to_string(), "/github/workspace"),
        (socket, "/var/run/docker.sock"),
        (bench.config.path().display().to_string(), "/docker-config"),
        (env!("CARGO_BIN_EXE_cicd").to_string(), "/cicd"),
        (buildx(), "/usr/libexec/docker/cli-plugins/docker-buildx"),
    ];
    let mut command = Command::new("docker");
    command.args([
        "run",
        "--rm",
        "-w",
        "/github/workspace",
        "-e",
        "HOME=/github/home",
        "-e",
        "DOCKER_CONFIG=/docker-config",
    ]);
    for (from, to) in &mounts {
        command.args(["-v", &format!("{from}:{to}")]);
    }
    command.args([
        "debian:trixie-slim",
        "/cicd",
        "build-image",
        "--skip-contract",
        "--output",
        "json",
    ]);
    let inside = run(command.args(["--builder-image", &bench.image])).ended(0);
    assert!(!inside.stderr.contains("warning"), "nothing is left out: {inside}");
    bench.is_clean(&repository);
    let outside = bench.build(&repository, &["--no-cache"]).ended(0);
    assert_eq!(inside.json()["digest"], outside.json()["digest"]);
}

#[test]
fn what_the_builder_cannot_pull_the_engine_may_have() {
    let bench = Bench::new();
    let tag = format!("localhost:1/{}:1", unique("local"));
    run(bench.engine.docker().args(["tag", "debian:trixie-slim", &tag])).ended(0);
    let repository =
        committed(&unique("local"), &format!("FROM {tag}\nRUN echo built >/built\n"), "");
    let ended = bench.build(&repository, &[]).ended(0);
    assert!(
        ended.stderr.contains("so the engine builds the image itself")
            && ended.stderr.contains(&tag),
        "{ended}"
    );
    assert!(Path::new(&repository.path().join("target/image/index.json")).is_file());
    bench.is_clean(&repository);
}
