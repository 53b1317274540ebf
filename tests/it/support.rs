//! What the tests share: running the binary, repositories to run it in, and the addresses of the
//! stack.

#![allow(dead_code, reason = "not every capability uses everything")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The root of this repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A variable of the running stack.
pub fn stack(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: this test needs the stack; run `./dev test`, or `eval \"$(./dev stack env)\"` first"
        )
    })
}

/// What a log of the stack has so far, a JSON object a line. The last line may be half written.
pub fn log_entries(variable: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(stack(variable)).expect("a log of the stack");
    let (whole, _) = log.rsplit_once('\n').unwrap_or_default();
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    whole.lines().map(parse).collect()
}

/// A name that no other test, and no other run of this one, has: a DNS label that begins with
/// `prefix`.
pub fn unique(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let number =
        u64::from(time.subsec_nanos()) ^ (u64::from(std::process::id()) << 32) ^ time.as_secs();
    format!("{prefix}-{:x}{:x}", number & 0xff_ffff, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Takes away what a test deployed under a name, wherever it did, also when the test failed.
pub struct Removal(String);

impl Removal {
    pub fn of(name: &str) -> Removal {
        Removal(name.to_string())
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        let name = &self.0;
        let commands = [
            format!(
                "kubectl -n staging delete deployment,service,serviceaccount,ingress,configmap,secret -l app.kubernetes.io/name={name} --wait=false"
            ),
            format!("aws ecs delete-service --cluster clinicult --service {name} --force"),
            format!("docker ps -aq --filter name=^{name}- | xargs -r docker rm -f -v"),
            format!(
                "docker images -q --filter reference=cicd.local/{name} | xargs -r docker rmi -f"
            ),
            // A version that a later one took the name from.
            format!(
                "docker images -q --filter dangling=true --filter label=org.opencontainers.image.title={name} | xargs -r docker rmi -f"
            ),
        ];
        for command in commands {
            let _ = Command::new("sh").args(["-c", &command]).output();
        }
    }
}

/// The body of a GET that is answered with 2xx. Names below `.localhost` are this machine (RFC
/// 6761).
pub fn http_get(url: &str) -> String {
    let (host, rest) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .unwrap_or_else(|| panic!("{url}"));
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    let resolve = format!("{name}:{port}:127.0.0.1");
    let url = format!("http://{host}/{rest}");
    run(Command::new("curl").args([
        "-sS",
        "--fail-with-body",
        "--max-time",
        "10",
        "--resolve",
        &resolve,
        &url,
    ]))
    .ended(0)
    .stdout
}

/// The status that a URL of the emulator answers with.
pub fn http_status(url: &str) -> u16 {
    let (host, _) = url.trim_start_matches("http://").split_once('/').expect("a path");
    let resolve = format!("{host}:127.0.0.1");
    let show = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10"];
    let ended = run(Command::new("curl").args(show).args(["--resolve", &resolve, url])).ended(0);
    ended.stdout.trim().parse().expect("a status")
}

/// What a run of `cicd` ended in.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The object that `--output json` printed.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON on stdout ({error}):\n{self}"))
    }

    /// The objects that a deploy says it changed.
    pub fn changed(&self) -> Vec<String> {
        let json = self.json();
        let list = json["changed"].as_array().unwrap_or_else(|| panic!("no `changed`: {self}"));
        list.iter().map(|object| object.as_str().expect("a text").to_string()).collect()
    }

    /// This run, when it ended with `code`.
    pub fn ended(self, code: i32) -> Run {
        assert_eq!(self.code, code, "{self}");
        self
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\nstdout:\n{}\nstderr:\n{}", self.code, self.stdout, self.stderr)
    }
}

/// A command that runs `cicd` in `folder`, free of everything a GitHub runner may have put into
/// this environment.
pub fn cicd(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cicd"));
    command.current_dir(folder);
    // The ledger of `local`: a folder that goes with the build's.
    command.env("XDG_STATE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/state"));
    for (name, _) in std::env::vars() {
        let scrub = name == "CI"
            || ["GITHUB_", "ACTIONS_", "RUNNER_", "INPUT_"]
                .iter()
                .any(|prefix| name.starts_with(prefix));
        if scrub && name != "INPUT_PLATFORM" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Run {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
}

/// A folder with a git repository in it, removed at the end of the test.
pub struct Repository {
    folder: tempfile::TempDir,
}

impl Repository {
    pub fn new() -> Self {
        let repository = Repository::empty();
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    /// A folder without a repository, to clone into.
    pub fn empty() -> Self {
        Repository { folder: tempfile::tempdir().expect("a folder") }
    }

    /// A repository that holds a copy of `examples/fastapi`, committed as `feat: first`.
    pub fn of_example() -> Self {
        Repository::of("examples/fastapi")
    }

    /// A repository that holds a copy of a folder of this one, committed as `feat: first`.
    pub fn of(folder: &str) -> Self {
        let repository = Repository::new();
        copy(&root().join(folder), repository.path());
        repository.git(&["add", "-A"]);
        repository.commit("feat: first");
        repository
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Who owns the folder: `uid:gid`.
    pub fn owner(&self) -> String {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(self.path()).expect("a folder");
        format!("{}:{}", metadata.uid(), metadata.gid())
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, text).expect("written");
    }

    /// Commits what is staged, or nothing, under `message`; gives the commit.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(self.path());
        // A user's own configuration must not change what a test sees.
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), "Ada")
                .env(format!("GIT_{who}_EMAIL"), "ada@example.org");
            command.env(format!("GIT_{who}_DATE"), "2026-11-01T12:00:00Z");
        }
        let ended = run(&mut command);
        assert_eq!(ended.code, 0, "git {arguments:?}: {ended}");
        ended.stdout.trim().to_string()
    }
}

/// Copies what git would track of `from` into `to`: sources, no environments and caches.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name();
        if [".venv", "__pycache__", ".pytest_cache", ".ruff_cache", "target"]
            .iter()
            .any(|skip| name == *skip)
        {
            continue;
        }
        let target = to.join(&name);
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}
