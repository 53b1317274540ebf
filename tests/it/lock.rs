//! The lock of an environment: one deploy at a time, freezes, and what killed runs leave behind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::image::{EVERYWHERE, build, server, service};
use crate::local::{answer, deploy, release, status, text};
use crate::support::{Removal, Repository, cicd, run, unique};

/// A deploy of `version` that says when its phases are over.
fn start_deploy(repository: &Repository, version: &str) -> Child {
    let mut command = cicd(repository.path());
    command.args(["deploy", "--environment", "local", "--verbose", "--version", version]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("cicd starts")
}

/// Waits until the deploy says that `phase` is over, or that it begins.
pub fn wait_for_end_of(phase: &str, child: &mut Child) {
    let stderr = child.stderr.take().expect("stderr");
    let mut said = String::new();
    for line in BufReader::new(stderr).lines() {
        let line = line.expect("text");
        let begins = phase == "start" && line.contains("▸ deploy");
        if begins || line.contains(&format!("│ {phase}: ")) {
            return;
        }
        said.push_str(&line);
        said.push('\n');
    }
    panic!("{phase} has no end:\n{said}");
}

pub fn send_signal(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// A service whose migration and whose start take a moment.
fn slow_service(name: &str) -> Repository {
    let slow = server("time.sleep(1)", EVERYWHERE);
    let migration = "before-deploy: {command: [sleep, '1']}\n";
    let repository = service(name, &slow, migration);
    build(&repository, &["--skip-contract", "--version", "1.0.0"]).ended(0);
    repository
}

#[test]
fn of_two_deploys_at_once_one_wins() {
    let name = unique("two");
    let _removal = Removal::of(&name);
    let repository = slow_service(&name);
    let mut children: Vec<Child> = (0..2).map(|_| start_deploy(&repository, "1.0.0")).collect();
    let mut codes: Vec<Option<i32>> =
        children.iter_mut().map(|child| child.wait().expect("an end").code()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(7)]);
    assert_eq!(text(&status(&repository)["state"]), "ready");
}

#[test]
fn a_freeze_refuses_deploys_until_it_is_ended() {
    let name = unique("freeze");
    let _removal = Removal::of(&name);
    let repository = service(&name, &server("", EVERYWHERE), "");
    release(&repository, "1.0.0").ended(0);
    let freeze = |arguments: &[&str]| {
        run(cicd(repository.path()).args(["--environment", "local"]).args(arguments))
    };
    freeze(&["lock"]).ended(2);
    freeze(&["lock", "--reason", "the disk is moved", "--for", "2h"]).ended(0);
    let refused = deploy(&repository, &["--version", "1.0.0"]).ended(7);
    assert!(refused.stderr.contains("the disk is moved"), "{refused}");
    assert_eq!(refused.json()["error"]["code"], "frozen");
    assert_eq!(text(&status(&repository)["freeze"]["reason"]), "the disk is moved");
    freeze(&["unlock"]).ended(0);
    deploy(&repository, &["--version", "1.0.0"]).ended(0);
}

#[test]
fn a_run_that_is_killed_in_a_phase_is_seen_and_the_next_one_converges() {
    for before in ["lock", "migrate", "apply"] {
        let name = unique("killed");
        let _removal = Removal::of(&name);
        let repository = slow_service(&name);
        let mut child = start_deploy(&repository, "1.0.0");
        wait_for_end_of(before, &mut child);
        send_signal(&child, "-KILL");
        child.wait().expect("an end");
        let started = Instant::now();
        let done = deploy(&repository, &["--version", "1.0.0"]).ended(0);
        // The dead process is seen at once: nobody waits for its lock to expire.
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        assert!(done.stderr.contains("was killed in its phase"), "after {before}: {done}");
        assert_eq!(text(&answer(&done.json()["url"])["version"]), "1.0.0");
        let shown = run(cicd(repository.path()).args(["history", "--environment", "local"]));
        assert!(shown.ended(0).stdout.contains("killed"), "after {before}");
    }
}

#[test]
fn a_signal_in_a_phase_is_recorded_and_frees_the_lock() {
    for (before, name, code) in
        [("lock", "-INT", 130), ("migrate", "-TERM", 143), ("apply", "-INT", 130)]
    {
        let service_name = unique("signal");
        let _removal = Removal::of(&service_name);
        let repository = slow_service(&service_name);
        let mut child = start_deploy(&repository, "1.0.0");
        wait_for_end_of(before, &mut child);
        let sent = Instant::now();
        send_signal(&child, name);
        let ended = child.wait().expect("an end");
        assert_eq!(ended.code(), Some(code), "after {before}");
        assert!(sent.elapsed() < Duration::from_secs(7), "after {before}: {:?}", sent.elapsed());
        let status = status(&repository);
        assert_eq!((&status["result"], status.get("lock")), (&"interrupted".into(), None));
        deploy(&repository, &["--version", "1.0.0"]).ended(0);
    }
}
