//! Cancelled jobs: the action's image as GitHub's runner starts it, and SIGINT to its docker, in the
//! middle of each step. Run by `./dev proof signals`; the short sibling is a test.

#![allow(clippy::disallowed_macros, clippy::print_stdout, reason = "a proof prints its table")]

use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::act;
use crate::image::{EVERYWHERE, build, docker, entries, server, service};
use crate::lock::send_signal;
use crate::support::{Removal, Repository, cicd, run, stack, unique};

/// GitHub's runner kills 7.5 s after SIGINT.
const MOST: Duration = Duration::from_secs(7);

/// A step of a job.
struct Step {
    job: &'static str,
    what: &'static str,
    command: &'static str,
    /// Inputs of the action, beside the service's file.
    inputs: Vec<(&'static str, String)>,
    /// What is more in service.yaml, and in its Dockerfile.
    more: &'static str,
    stage: &'static str,
    /// How far it is when the signal comes.
    until: Until,
}

enum Until {
    /// Its log says so.
    Says(&'static str),
    /// A container runs whose name begins with the service's and goes on so.
    Runs(&'static str),
    /// It asks a server that never answers.
    Asks,
}

fn list_steps(silent: &str) -> Vec<Step> {
    let step = |job, what, command, until| Step {
        job,
        what,
        command,
        inputs: Vec::new(),
        more: "",
        stage: "",
        until,
    };
    let hangs = "test: {target: test, command: [sleep, '600']}\n";
    let asks = |key: &'static str, value: String| vec![(key, value)];
    let staging = || vec![("environment", "staging".to_string())];
    vec![
        Step {
            more: hangs,
            stage: "FROM python:3.13-slim AS test\nCMD [\"sleep\", \"600\"]\n\n",
            ..step("image", "tests that run", "test", Until::Runs("-test"))
        },
        Step {
            stage: "FROM python:3.13-slim AS wait\nRUN echo it-waits-here && sleep 600\n\n",
            more: "image: {target: wait}\n",
            ..step("image", "a build", "build-image", Until::Says("it-waits-here"))
        },
        step("image", "the contract", "build-image", Until::Runs("-contract")),
        Step {
            inputs: [asks("repository", format!("{silent}/x")), asks("tag", "1.0.0".into())]
                .concat(),
            ..step("image", "a push", "push-ecr", Until::Asks)
        },
        Step {
            inputs: [staging(), asks("plan", "true".into()), asks("version", "1.0.0".into())]
                .concat(),
            ..step("plan", "a plan", "deploy", Until::Asks)
        },
        step("release", "a release", "release", Until::Asks),
        Step {
            inputs: [asks("environment", "local".into()), asks("version", "1.0.0".into())].concat(),
            ..step("deploy", "a rollout that is watched", "deploy", Until::Says("waiting for GET"))
        },
        Step {
            inputs: [asks("environment", "preview".into()), asks("pull-request", "12".into())]
                .concat(),
            ..step("remove", "a removal", "remove", Until::Asks)
        },
    ]
}

/// How a step ended.
struct End {
    code: Option<i32>,
    seconds: f64,
    /// Containers and folders that it left.
    left: Vec<String>,
    /// What the ledger of `local` says.
    record: String,
}

/// A job's folders, as the runner mounts them.
struct Bench {
    repository: Repository,
    folders: tempfile::TempDir,
    name: String,
    job: String,
    silent: TcpListener,
}

impl Bench {
    fn new(step: &Step, silent: TcpListener) -> Bench {
        let name = unique("signals");
        let repository = service(&name, &server("time.sleep(60)", EVERYWHERE), step.more);
        let dockerfile = std::fs::read_to_string(repository.path().join("Dockerfile"));
        repository.write("Dockerfile", &format!("{}{}", step.stage, dockerfile.expect("one")));
        let platform = std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("a platform");
        let preview = "  preview:\n    target: eks\n    region: eu-west-1\n    \
                       eks: {cluster: c, namespace: p}\n    preview: {}\n";
        repository.write("platform.yaml", &format!("{}\n{preview}", platform.trim_end()));
        repository.git(&["add", "-A"]);
        repository.commit("feat: what is cancelled");
        if matches!(step.command, "deploy" | "push-ecr") {
            build(&repository, &["--skip-contract", "--version", "1.0.0"]).ended(0);
        }
        let folders = tempfile::tempdir().expect("folders");
        let job = format!("{name}-job");
        Bench { repository, folders, name, job, silent }
    }

    /// Starts the step as the runner does.
    /// <https://github.com/actions/runner/blob/main/src/Runner.Worker/Container/DockerCommandManager.cs>
    fn start(&self, step: &Step) -> Child {
        let silent = format!("http://{}", self.silent.local_addr().expect("an address"));
        let mut command = Command::new("docker");
        command.args(["run", "--name", &self.job, "--workdir", "/github/workspace", "--rm"]);
        command.args(["--network", "host", "-v", "/var/run/docker.sock:/var/run/docker.sock"]);
        for folder in ["runner_temp", "home", "workflow", "file_commands"] {
            let place = self.folders.path().join(folder);
            std::fs::create_dir_all(&place).expect("a folder");
            command.args(["-v", &format!("{}:/github/{folder}", place.display())]);
        }
        let work = self.repository.path().display();
        command.args(["-v", &format!("{work}:/github/workspace")]);
        let mut variables: Vec<(String, String)> = [
            ("HOME", "/github/home"),
            ("CI", "true"),
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_EVENT_NAME", "workflow_dispatch"),
            ("GITHUB_REF", "refs/heads/main"),
            ("GITHUB_REPOSITORY", "clinicult/patients"),
            ("GITHUB_WORKSPACE", "/github/workspace"),
            ("GITHUB_OUTPUT", "/github/file_commands/output"),
            ("GITHUB_STEP_SUMMARY", "/github/file_commands/summary"),
            ("INPUT_GITHUB-TOKEN", "test-github-token"),
            ("INPUT_SERVICE", "service.yaml"),
            ("INPUT_PLATFORM", "platform.yaml"),
            ("INPUT_COMMAND", step.command),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "nothing"),
            ("AWS_ACCESS_KEY_ID", "nobody"),
            ("AWS_SECRET_ACCESS_KEY", "nothing"),
            // The ledger of `local` is read afterwards.
            ("XDG_STATE_HOME", "/github/runner_temp"),
        ]
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .to_vec();
        variables.extend(
            step.inputs
                .iter()
                .map(|(key, value)| (format!("INPUT_{}", key.to_uppercase()), value.clone())),
        );
        variables.extend(
            ["GITHUB_API_URL", "AWS_ENDPOINT_URL", "ACTIONS_ID_TOKEN_REQUEST_URL"]
                .map(|key| (key.to_string(), silent.clone())),
        );
        for (key, value) in variables {
            command.args(["-e", &format!("{key}={value}")]);
        }
        let log = |name: &str| File::create(self.folders.path().join(name)).expect("a log");
        command.arg(act::image()).stdout(Stdio::from(log("out"))).stderr(Stdio::from(log("err")));
        command.spawn().expect("docker starts")
    }

    fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folders.path().join(name));
        format!("{}{}", read("out").unwrap_or_default(), read("err").unwrap_or_default())
    }

    fn containers(&self, rest: &str) -> Vec<String> {
        let filter = format!("name=^{}{rest}", self.name);
        docker(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"])
    }

    fn is_reached(&self, until: &Until) -> bool {
        match until {
            Until::Says(words) => self.log().contains(words),
            Until::Runs(rest) => !self.containers(rest).is_empty(),
            Until::Asks => self.silent.accept().map(|(asked, _)| std::mem::forget(asked)).is_ok(),
        }
    }

    /// What the ledger of `local` says of the last run, and whether its lock is free.
    fn read_record(&self) -> String {
        let mut command = cicd(self.repository.path());
        command.args(["status", "--environment", "local", "--output", "json"]);
        let state = self.folders.path().join("runner_temp");
        let status = run(command.env("XDG_STATE_HOME", state)).ended(0).json();
        assert_eq!(status.get("lock"), None, "{status}");
        status["result"].as_str().unwrap_or("–").to_string()
    }
}

fn cancel(step: &Step, silent: TcpListener) -> End {
    let bench = Bench::new(step, silent);
    let _removal = Removal::of(&bench.name);
    let mut child = bench.start(step);
    let started = Instant::now();
    while !bench.is_reached(&step.until) {
        let ended = child.try_wait().expect("a state");
        assert!(ended.is_none(), "{}: {ended:?}\n{}", step.what, bench.log());
        assert!(started.elapsed() < Duration::from_secs(120), "{}\n{}", step.what, bench.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let sent = Instant::now();
    send_signal(&child, "-INT");
    let code = child.wait().expect("an end").code();
    let seconds = sent.elapsed().as_secs_f64();
    // What was deployed is no orphan: the next run goes on from it.
    let mut left: Vec<String> =
        ["-test", "-contract", "-job"].iter().flat_map(|rest| bench.containers(rest)).collect();
    let target = bench.repository.path().join("target");
    let halves = if target.is_dir() { entries(&target) } else { Vec::new() };
    left.extend(halves.into_iter().filter(|name| name.starts_with('.') && name != ".gitignore"));
    let record = if step.job == "deploy" { bench.read_record() } else { "–".into() };
    End { code, seconds, left, record }
}

fn check(steps: impl Fn(&Step) -> bool) {
    println!(
        "| job | in the middle of | exit | seconds | left | record |\n|---|---|---|---|---|---|"
    );
    let probe = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let names: Vec<&str> = list_steps("").iter().map(|step| step.what).collect();
    for name in names {
        let silent = probe();
        silent.set_nonblocking(true).expect("a socket");
        let address = format!("127.0.0.1:{}", silent.local_addr().expect("an address").port());
        let all = list_steps(&address);
        let step = all.into_iter().find(|step| step.what == name).expect("a step");
        if !steps(&step) {
            continue;
        }
        let End { code, seconds, left, record } = cancel(&step, silent);
        let shown = if left.is_empty() { "nothing".to_string() } else { left.join(", ") };
        let code_shown = code.map_or("–".into(), |code| code.to_string());
        println!(
            "| {} | {} | {code_shown} | {seconds:.1} | {shown} | {record} |",
            step.job, step.what
        );
        assert_eq!((code, left), (Some(130), vec![]), "{}", step.what);
        assert!(seconds < MOST.as_secs_f64(), "{}: {seconds} s", step.what);
        if step.job == "deploy" {
            assert_eq!(record, "interrupted", "{}", step.what);
        }
    }
}

#[test]
#[ignore = "./dev proof signals: two minutes"]
fn signals() {
    check(|_| true);
}

#[test]
fn a_cancelled_job_leaves_no_container_and_is_recorded() {
    check(|step| matches!(step.what, "tests that run" | "a rollout that is watched"));
}
