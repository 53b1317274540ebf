//! Long proofs, run by `./dev proof NAME`. Each prints the table that docs/proofs.md shows and has
//! short siblings in `lock.rs`.

#![allow(clippy::disallowed_macros, clippy::print_stdout, reason = "a proof prints its table")]

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::image::{EVERYWHERE, build, server, service};
use crate::lock::{send_signal, wait_for_end_of};
use crate::support::{Removal, Repository, Run, cicd, run, unique};
use crate::{ecs, eks};

/// A service of one target, and how it is deployed there.
enum Site {
    Local(Repository, #[expect(dead_code, reason = "it removes when it is dropped")] Removal),
    Ecs(ecs::Place),
    Eks(eks::Place),
}

impl Site {
    fn of(target: &str) -> Site {
        match target {
            "local" => {
                let name = unique("proof");
                let migration = "before-deploy: {command: [sleep, '1']}\n";
                let slow = server("time.sleep(1)", EVERYWHERE);
                let repository = service(&name, &slow, migration);
                build(&repository, &["--skip-contract", "--version", "1.0.0"]).ended(0);
                Site::Local(repository, Removal::of(&name))
            }
            "ecs" => Site::Ecs(ecs::Place::new("proof")),
            _ => Site::Eks(eks::Place::new("proof")),
        }
    }

    /// A deploy of what says `greeting`.
    fn command(&self, greeting: &str) -> Command {
        let text = format!("env: {{GREETING: {greeting}}}\n");
        let mut command = match self {
            Site::Local(repository, _) => {
                let file = repository.path().join("service.yaml");
                let old = std::fs::read_to_string(&file).expect("service.yaml");
                let kept: Vec<&str> =
                    old.lines().filter(|line| !line.starts_with("env:")).collect();
                repository.write("service.yaml", &format!("{}\n{text}", kept.join("\n")));
                let mut command = cicd(repository.path());
                command.args(["deploy", "--environment", "local", "--version", "1.0.0"]);
                command
            }
            Site::Ecs(place) => {
                place.service(&text);
                place.command("1.0.0")
            }
            Site::Eks(place) => {
                place.service(&text);
                place.command("1.0.0", crate::probe::digest_of("1.0.0"))
            }
        };
        command.arg("--verbose");
        command
    }

    fn deploy(&self, greeting: &str) -> Run {
        run(&mut self.command(greeting))
    }

    fn start(&self, greeting: &str) -> Child {
        let mut command = self.command(greeting);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("cicd starts")
    }

    fn status(&self) -> Value {
        let (folder, environment, platform) = match self {
            Site::Local(repository, _) => (repository.path(), "local", None),
            Site::Ecs(place) => (place.repository.path(), "production", None),
            Site::Eks(place) => (place.repository.path(), "staging", Some("platform.yaml")),
        };
        let mut command = cicd(folder);
        command.args(["status", "--environment", environment, "--output", "json"]);
        if let Some(platform) = platform {
            command.args(["--platform", platform]);
        }
        run(&mut command).ended(0).json()
    }
}

#[test]
#[ignore = "./dev proof phases: a quarter of an hour"]
fn phases() {
    println!(
        "| target | signal | in the phase after | exit | seconds | record | the next run | seconds |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for target in ["local", "ecs", "eks"] {
        for (signal, code) in [("-KILL", None), ("-INT", Some(130)), ("-TERM", Some(143))] {
            let phases: &[&str] = match target {
                "local" => &["start", "lock", "migrate", "apply", "watch", "verify"],
                _ => &["start", "lock", "apply", "watch", "verify"],
            };
            let site = Site::of(target);
            site.deploy("first").ended(0);
            for (count, phase) in phases.iter().enumerate() {
                let greeting = format!("{}-{count}", signal.trim_start_matches('-'));
                let mut child = site.start(&greeting);
                wait_for_end_of(phase, &mut child);
                let sent = Instant::now();
                send_signal(&child, signal);
                let ended = child.wait().expect("an end");
                let seconds = sent.elapsed().as_secs_f64();
                // A run that was over a moment before is no failure of this.
                let over = ended.success();
                assert!(over || ended.code() == code, "{target} {signal} {phase}: {ended:?}");
                assert!(seconds < 7.0, "{target} {signal} {phase}: {seconds} s");
                let status = site.status();
                if code.is_some() {
                    assert_eq!(status.get("lock"), None, "{target} {signal} {phase}: {status}");
                }
                let started = Instant::now();
                let again = site.deploy(&greeting).ended(0);
                println!(
                    "| {target} | {} | {phase} | {} | {seconds:.1} | {} | {} | {:.1} |",
                    signal.trim_start_matches('-'),
                    ended.code().map_or("killed".into(), |code| code.to_string()),
                    status["result"].as_str().unwrap_or("none yet"),
                    if again.stderr.contains("was killed in its phase") {
                        "saw it, 0"
                    } else {
                        "0"
                    },
                    started.elapsed().as_secs_f64(),
                );
                assert_eq!(site.status()["result"], "deployed", "{target} {signal} {phase}");
            }
        }
    }
}

#[test]
#[ignore = "./dev proof pairs: five minutes"]
fn pairs() {
    let place = ecs::Place::new("pairs");
    place.service("");
    place.deploy("1.0.0").ended(0);
    let mut ends = std::collections::BTreeMap::new();
    for count in 0..50 {
        place.service(&format!("env: {{GREETING: pair-{count}}}\n"));
        let start = || {
            let mut command = place.command("1.0.0");
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("cicd starts")
        };
        let mut children = [start(), start()];
        let mut codes = children.each_mut().map(|child| child.wait().expect("an end").code());
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(7)], "pair {count}");
        *ends.entry(format!("{codes:?}")).or_insert(0) += 1;
    }
    println!("50 pairs of deploys at once on the emulated S3: {ends:?}");
}
