//! What service.yaml says of the build reaches it, and what stops a build in the middle leaves a
//! clean machine.

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{EVERYWHERE, build, config, entries, server, service};
use crate::support::{cicd, run, unique};

#[test]
fn contexts_hosts_and_labels_reach_the_build() {
    let more = "image:\n  contexts: {shared: shared, base: 'docker-image://debian:trixie-slim'}\n  \
                extra-hosts: {db.internal: 10.0.0.7}\n  labels: {org.example.team: clinic, org.opencontainers.image.title: Mine}\n";
    let repository = service(&unique("settings"), &server("", EVERYWHERE), more);
    repository.write("shared/file", "from the other context");
    repository.write(
        "Dockerfile",
        "FROM base\nCOPY --from=shared file /\nRUN grep -q other /file && grep -q '10.0.0.7.*db.internal' /etc/hosts\n",
    );
    build(&repository, &["--skip-contract"]).ended(0);
    let layout = repository.path().join("target/image");
    let labels = config(&layout)["config"]["Labels"].clone();
    assert_eq!(
        (&labels["org.example.team"], &labels["org.opencontainers.image.title"]),
        (&"clinic".into(), &"Mine".into())
    );

    std::fs::remove_dir_all(repository.path().join("shared")).expect("removed");
    let missing = build(&repository, &["--skip-contract"]).ended(2);
    assert!(
        missing.stderr.contains("no folder shared for the build context `shared`"),
        "{missing}"
    );
}

#[test]
fn an_agent_is_handed_to_the_build_only_when_it_is_asked_for() {
    let repository =
        service(&unique("agent"), &server("", EVERYWHERE), "image: {ssh: [default]}\n");
    repository.write(
        "Dockerfile",
        "FROM debian:trixie-slim\nRUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\"\n",
    );
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent");
    let _agent = UnixListener::bind(&socket).expect("a socket");
    let arguments = ["build-image", "--skip-contract", "--no-cache"];
    run(cicd(repository.path()).args(arguments).env("SSH_AUTH_SOCK", &socket)).ended(0);
    let without = run(cicd(repository.path()).args(arguments).env_remove("SSH_AUTH_SOCK")).ended(3);
    assert!(without.stderr.contains("SSH_AUTH_SOCK"), "{without}");
}

#[test]
fn a_pull_asks_the_registry_for_what_the_engine_has() {
    let repository = service(&unique("pull"), &server("", EVERYWHERE), "image: {pull: always}\n");
    // Nobody can pull it, and the engine has it.
    let tag = format!("localhost:1/{}:1", unique("local"));
    run(Command::new("docker").args(["tag", "debian:trixie-slim", &tag])).ended(0);
    repository.write("Dockerfile", &format!("FROM {tag}\n"));
    let always = build(&repository, &["--skip-contract"]);
    repository.write("service.yaml", "name: pull\nport: 8000\nimage: {pull: missing}\n");
    let missing = build(&repository, &["--skip-contract"]);
    let _ = Command::new("docker").args(["rmi", &tag]).output();
    let refused = always.ended(3);
    assert!(refused.stderr.contains("a base image cannot be pulled"), "{refused}");
    missing.ended(0);
}

/// Whether a command of this name runs anywhere on the machine.
fn runs(command: &str) -> bool {
    run(Command::new("ps").args(["-eo", "args"]))
        .stdout
        .lines()
        .any(|line| line.contains(command) && !line.contains("ps -eo"))
}

#[test]
fn a_hung_build_is_ended_and_nothing_of_it_is_left() {
    let name = unique("hung");
    let repository = service(&name, &server("", EVERYWHERE), "");
    // A time that no other test sleeps, so that its process is known.
    let seconds = 1000 + u32::from_str_radix(&name[name.len() - 4..], 16).unwrap_or(7);
    repository.write(
        "Dockerfile",
        &format!("FROM debian:trixie-slim\nRUN echo {name}; sleep {seconds}\n"),
    );
    let started = Instant::now();
    let ended = build(&repository, &["--skip-contract", "--timeout", "6s"]).ended(6);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let error = &ended.json()["error"];
    assert!(error["message"].as_str().expect("a message").contains("within 6s"), "{ended}");
    assert_eq!(entries(&repository.path().join("target")), Vec::<String>::new());
    while runs(&format!("sleep {seconds}")) || runs(&name) {
        assert!(started.elapsed() < Duration::from_secs(40), "the step runs on in the engine");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A small file system of its own, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> SmallDisk {
        let folder = tempfile::tempdir().expect("a folder");
        let owner = run(Command::new("id").arg("-u")).stdout;
        let options = format!("size={size},uid={}", owner.trim());
        let mut command = Command::new(if owner.trim() == "0" { "mount" } else { "sudo" });
        if owner.trim() != "0" {
            command.args(["-n", "--", "mount"]);
        }
        run(command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path())).ended(0);
        SmallDisk(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            let _ = Command::new("sudo").args(["-n", "--", "umount"]).arg(self.0.path()).status();
        }
    }
}

#[test]
fn a_full_disk_is_named_and_left_empty() {
    let disk = SmallDisk::mount("4m");
    let layout = disk.0.path().join("image").display().to_string();
    let repository = service(&unique("full"), &server("", EVERYWHERE), "");
    let archive = repository.path().join("saved.tar").display().to_string();
    run(Command::new("docker").args(["save", "--output", &archive, "debian:trixie-slim"])).ended(0);
    for from in [&["--from", &archive][..], &[]] {
        let ended = build(&repository, &[&["--skip-contract", "--layout", &layout], from].concat())
            .ended(3);
        let message = ended.json()["error"]["message"].as_str().expect("a message").to_string();
        assert!(message.contains(&format!("the disk of {}", disk.0.path().display())), "{ended}");
        assert_eq!(entries(disk.0.path()), Vec::<String>::new(), "{from:?}");
    }
}

#[test]
fn on_github_what_the_build_says_is_folded_away() {
    let repository = service(&unique("fold"), &server("", EVERYWHERE), "");
    repository.write(
        "Dockerfile",
        "FROM debian:trixie-slim as base\nRUN echo ::add-mask::x; echo so far\n",
    );
    let command = ["build-image", "--skip-contract", "--no-cache"];
    let ended = run(cicd(repository.path()).args(command).env("GITHUB_ACTIONS", "true")).ended(0);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let at = |text: &str| {
        lines
            .iter()
            .position(|line| line.contains(text))
            .unwrap_or_else(|| panic!("{text}: {ended}"))
    };
    let (begin, end) = (at("::group::docker buildx build"), at("::endgroup::"));
    assert!((begin..end).contains(&at("so far")), "{ended}");
    assert!(at("build-image: sha256:") > end, "the result is not folded away: {ended}");
    assert!(
        !lines.iter().any(|line| line.starts_with("::add-mask::")),
        "a step gives the runner no command: {ended}"
    );
    assert!(
        ended.stdout.contains("::warning file=Dockerfile,line=1,col=1::FromAsCasing"),
        "{ended}"
    );
}
