//! The image contract, rule by rule: for each one images that break it, and nothing else, and
//! images that come close and keep it. Built from real Dockerfiles, run by the real engine.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::image::{EVERYWHERE, docker, server};
use crate::support::{Repository, Run, cicd, run, unique};

/// How many images are built and run at a time.
const AT_ONCE: usize = 6;

/// Of every image; what differs stands in between.
const HEAD: &str = "FROM python:3.13-slim\nENV SERVICE_VERSION=1 PYTHONDONTWRITEBYTECODE=1\n";
const TAIL: &str =
    "COPY server.py /server.py\nUSER 10001\nCMD [\"python3\", \"-u\", \"/server.py\"]\n";

/// An image, and what the contract says of it.
struct Row {
    what: &'static str,
    dockerfile: String,
    server: String,
    /// Of service.yaml.
    more: &'static str,
    files: Vec<(&'static str, String)>,
    broken: Option<Broken>,
}

/// The one rule that is broken.
#[derive(Clone, Copy)]
struct Broken {
    rule: &'static str,
    level: &'static str,
    modes: &'static [&'static str],
    evidence: &'static str,
    fix: &'static str,
}

impl Row {
    /// An image that keeps every rule.
    fn good(what: &'static str) -> Row {
        let dockerfile = format!("{HEAD}{TAIL}");
        Row {
            what,
            dockerfile,
            server: server("", EVERYWHERE),
            more: "",
            files: vec![],
            broken: None,
        }
    }
    /// With another server.
    fn serving(self, server: String) -> Row {
        Row { server, ..self }
    }
    /// With code that runs before it listens.
    fn before(self, code: &str) -> Row {
        self.serving(server(code, EVERYWHERE))
    }
    fn replacing(self, from: &str, to: &str) -> Row {
        let server = self.server.replace(from, to);
        assert_ne!(server, self.server, "{}", self.what);
        Row { server, ..self }
    }
    /// With code that answers, or not, before the server's own does.
    fn instead(self, code: &str) -> Row {
        let begins = "known = self.path in";
        self.replacing(begins, &format!("{code}\n        {begins}"))
            .saying("health: {startup: 6s}\n")
    }
    /// With more lines in its Dockerfile, before the server is copied.
    fn with(self, lines: &str) -> Row {
        Row { dockerfile: format!("{HEAD}{lines}\n{TAIL}"), ..self }
    }
    fn dockerfile(self, dockerfile: &str) -> Row {
        Row { dockerfile: dockerfile.to_string(), ..self }
    }
    fn saying(self, more: &'static str) -> Row {
        Row { more, ..self }
    }
    fn file(mut self, path: &'static str, text: impl Into<String>) -> Row {
        self.files.push((path, text.into()));
        self
    }
    fn breaks(
        self,
        rule: &'static str,
        level: &'static str,
        modes: &'static [&'static str],
        evidence: &'static str,
        fix: &'static str,
    ) -> Row {
        Row { broken: Some(Broken { rule, level, modes, evidence, fix }), ..self }
    }
}

const BOTH: &[&str] = &["production", "debug"];
const DEBUG: &[&str] = &["debug"];
const PRODUCTION: &[&str] = &["production"];
const WITHOUT: &[&str] = &["without secrets"];
const IMAGE: &[&str] = &[];

/// A token of a known shape. Put together here, so that nobody takes this file for a leak.
fn token() -> String {
    ["gh", "p_", "aB3dE5gH7jK9", "mN1pQ4rS6tU8vW0xY2zA4bC6"].concat()
}

fn private_key() -> String {
    let dashes = "-".repeat(5);
    let body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
    format!("{dashes}BEGIN PRIVATE KEY{dashes}\n{body}\n{dashes}END PRIVATE KEY{dashes}\n")
}

fn starts() -> Vec<Row> {
    let only_in_debug =
        "if os.environ['APP_MODE'] == 'debug':\n    print('no such thing'); sys.exit(3)\n";
    let daemon = "if os.fork():\n    sys.exit(0)\n";
    vec![
        Row::good("ends in debug mode").before(only_in_debug).breaks(
            "starts",
            "fail",
            DEBUG,
            "ended while it should keep running",
            "see its last log lines",
        ),
        Row::good("goes into the background").before(daemon).breaks(
            "starts",
            "fail",
            BOTH,
            "ended by itself",
            "run the server itself",
        ),
        Row::good("ends after its first answer")
            .replacing("self.wfile.write(body)", "self.wfile.write(body); os._exit(4)")
            .breaks(
                "starts",
                "fail",
                BOTH,
                "ended while it should keep running",
                "see its last log lines",
            ),
        Row::good("needs more memory")
            .before("x = bytearray(200 * 1024 * 1024)\n")
            .saying("resources: {memory: 64Mi}\n")
            .breaks("starts", "fail", BOTH, "more than its 64 MiB", "resources.memory"),
        Row::good("needs as much memory as there is")
            .before("x = bytearray(200 * 1024 * 1024)\n")
            .saying("resources: {memory: 400Mi}\n"),
        Row::good("is somebody whom nobody knows")
            .dockerfile(&format!("{HEAD}{}", TAIL.replace("10001", "nobodyknows")))
            .breaks("starts", "fail", BOTH, "unable to find user nobodyknows", "USER 10001:10001"),
        Row::good("has no such program")
            .dockerfile(&format!("{HEAD}COPY server.py /\nUSER 10001\nCMD [\"/nope\"]\n"))
            .breaks("starts", "fail", BOTH, "cannot be started", "CMD and ENTRYPOINT"),
    ]
}

fn listens_and_health() -> Vec<Row> {
    vec![
        Row::good("listens elsewhere").serving(server("", "('0.0.0.0', 9000)")).breaks(
            "listens",
            "fail",
            BOTH,
            "it listens on 0.0.0.0:9000",
            "0.0.0.0:8000",
        ),
        Row::good("listens on loopback").serving(server("", "('127.0.0.1', 8000)")).breaks(
            "listens",
            "fail",
            BOTH,
            "127.0.0.1:8000 only",
            "0.0.0.0:8000",
        ),
        Row::good("listens too late")
            .before("print('waiting')\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\ntime.sleep(60)\n")
            .breaks("listens", "fail", BOTH, "it listens on no port", "0.0.0.0:8000"),
        Row::good("listens in time").before("time.sleep(2)\n"),
        Row::good("has another health path").saying("health: {path: /nope, startup: 15s}\n").breaks(
            "health",
            "fail",
            BOTH,
            "it answers 404",
            "add a route `/nope`",
        ),
        Row::good("is not well").replacing("200 if known", "503 if known").breaks(
            "health",
            "fail",
            BOTH,
            "it answers 503",
            "with 2xx as soon as",
        ),
        Row::good("is well at its root").saying("health: {path: /}\n"),
        Row::good("answers the hosts that it knows")
            .instead(
                "if self.headers.get('host', '').split(':')[0] not in ('localhost', '127.0.0.1'):\n            \
                 self.send_error(400); return",
            )
            .breaks(
                "health",
                "fail",
                BOTH,
                "it refuses its own address as Host",
                "ALLOWED_HOSTS",
            ),
        Row::good("sends everybody to HTTPS")
            .instead(
                "self.send_response(301); self.send_header('Location', 'https://x' + self.path)\n        \
                 self.end_headers(); return",
            )
            .breaks("health", "fail", BOTH, "it redirects plain HTTP to HTTPS", "by plain HTTP"),
        Row::good("asks who somebody is")
            .instead("self.send_error(401); return")
            .breaks("health", "fail", BOTH, "it wants to know who asks", "authentication"),
        Row::good("listens for IPv6 only")
            .before(
                "import socket\nclass Six(http.server.ThreadingHTTPServer):\n    address_family = socket.AF_INET6\n    \
                 def server_bind(self):\n        \
                 self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)\n        \
                 super().server_bind()\n",
            )
            .replacing("http.server.ThreadingHTTPServer(('0.0.0.0'", "Six(('::'")
            .saying("health: {startup: 6s}\n")
            .breaks("listens", "fail", BOTH, "[::]:8000 for IPv6 only", "IPV6_V6ONLY"),
    ]
}

fn mode() -> Vec<Row> {
    let same = |row: Row| row.replacing("'mode': os.environ.get('APP_MODE'),", "");
    let script = |line: &str| format!("#!/bin/sh\n{line}\nexec \"$@\"\n");
    let entrypoint = "COPY --chmod=755 start.sh /start.sh\nENTRYPOINT [\"/start.sh\"]";
    vec![
        Row::good("starts with an empty environment")
            .with("ENTRYPOINT [\"/usr/bin/env\", \"-i\", \"SERVICE_VERSION=1\"]")
            .breaks("mode", "fail", BOTH, "PID 1 has no APP_MODE", "no `env -i`"),
        Row::good("sets its mode itself")
            .with(entrypoint)
            .file("start.sh", script("export APP_MODE=debug"))
            .breaks(
                "mode",
                "fail",
                PRODUCTION,
                "APP_MODE=debug where the container was given production",
                "no `export APP_MODE=…`",
            ),
        Row::good("hands its environment on")
            .with(entrypoint)
            .file("start.sh", script("export MORE=1")),
        same(Row::good("knows no mode")).breaks(
            "mode-differs",
            "warn",
            BOTH,
            "the same in both modes",
            "have it read APP_MODE",
        ),
        same(Row::good("logs its mode")).before(
            "print('log level', 'DEBUG' if os.environ['APP_MODE'] == 'debug' else 'INFO')\n",
        ),
    ]
}

fn required_variables() -> Vec<Row> {
    const SECRETS: &str =
        "secrets: {API_TOKEN: 'ssm:/token'}\ncontract: {env: {API_TOKEN: stand-in}}\n";
    vec![
        Row::good("starts without its secret").saying(SECRETS).breaks(
            "required-variables",
            "fail",
            WITHOUT,
            "without API_TOKEN it starts all the same",
            "API_TOKEN is not set",
        ),
        Row::good("does not say what is missing")
            .before("if 'API_TOKEN' not in os.environ:\n    sys.exit('something is missing')\n")
            .saying(SECRETS)
            .breaks(
                "required-variables",
                "fail",
                WITHOUT,
                "names none of them",
                "API_TOKEN is not set",
            ),
        Row::good("ends without its secret as if all were well")
            .before("if 'API_TOKEN' not in os.environ:\n    print('no API_TOKEN'); sys.exit(0)\n")
            .saying(SECRETS)
            .breaks(
                "required-variables",
                "fail",
                WITHOUT,
                "exit code 0",
                "an exit code that is not 0",
            ),
        Row::good("says what is missing").before("os.environ['API_TOKEN']\n").saying(SECRETS),
        Row::good("has no value for what it needs")
            .before("os.environ['API_TOKEN']\n")
            .saying("secrets: {API_TOKEN: 'ssm:/token'}\n")
            .breaks(
                "starts",
                "fail",
                BOTH,
                "ended while it should keep running",
                "contract: {env: {API_TOKEN: …}}",
            ),
    ]
}

fn non_root() -> Vec<Row> {
    let user = |lines: &str| {
        format!(
            "{HEAD}COPY server.py /server.py\n{lines}\nCMD [\"python3\", \"-u\", \"/server.py\"]\n"
        )
    };
    vec![
        Row::good("says no user").dockerfile(&user("")).breaks(
            "non-root",
            "fail",
            IMAGE,
            "PID 1 is root; the image says no USER",
            "USER 10001:10001",
        ),
        Row::good("is root by another name")
            .dockerfile(&user("RUN echo 'app:x:0:0::/:/bin/sh' >> /etc/passwd\nUSER app"))
            .breaks(
                "non-root",
                "fail",
                IMAGE,
                "PID 1 is root; the image says USER app",
                "USER 10001:10001",
            ),
        Row::good("is somebody by name")
            .dockerfile(&user("RUN echo 'app:x:10001:10001::/:/bin/sh' >> /etc/passwd\nUSER app")),
    ]
}

fn read_only() -> Vec<Row> {
    let write = |path: &str| format!("open('{path}', 'w').write('x')\n");
    let data = "RUN mkdir /data && chown 10001 /data";
    vec![
        Row::good("writes to /tmp").before(&write("/tmp/scratch")).breaks(
            "read-only",
            "warn",
            BOTH,
            "it writes /tmp/scratch",
            "no target mounts a /tmp",
        ),
        Row::good("writes to its folder").with(data).before(&write("/data/app.db")).breaks(
            "read-only",
            "warn",
            BOTH,
            "it writes /data/app.db",
            "`storage`",
        ),
        Row::good("writes to its folder, which is to fail")
            .with(data)
            .before(&write("/data/app.db"))
            .saying("contract: {rules: {read-only: fail}}\n")
            .breaks("read-only", "fail", BOTH, "it writes /data/app.db", "`storage`"),
        Row::good("writes to its folder, which nobody wants to know")
            .with(data)
            .before(&write("/data/app.db"))
            .saying("contract: {rules: {read-only: off}}\n"),
        Row::good("writes to a volume")
            .with(&format!("{data}\nVOLUME /data"))
            .before(&write("/data/app.db")),
        Row::good("writes to memory").before(&write("/dev/shm/scratch")),
    ]
}

fn stops() -> Vec<Row> {
    const SOON: &str = "contract: {stop: 2s}\n";
    let without_exec = "COPY --chmod=755 start.sh /start.sh\nENTRYPOINT [\"/start.sh\"]";
    let trap =
        "#!/bin/sh\n\"$@\" &\nchild=$!\ntrap 'kill -TERM $child' TERM\nwait $child\nwait $child\n";
    let handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))";
    vec![
        Row::good("ignores SIGTERM").replacing(handler, "").saying(SOON).breaks(
            "stops",
            "fail",
            BOTH,
            "2 s after SIGTERM (contract.stop) it still ran",
            "handle SIGTERM",
        ),
        Row::good("ends too late")
            .replacing(
                handler,
                "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(4), sys.exit(0)))",
            )
            .saying(SOON)
            .breaks("stops", "fail", BOTH, "2 s after SIGTERM", "finish the requests"),
        Row::good("ends in time").replacing(
            handler,
            "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit(1)))",
        ),
        Row::good("ends on the signal it asks for")
            .replacing("SIGTERM", "SIGINT")
            .with("STOPSIGNAL SIGINT"),
        Row::good("is behind a shell that keeps SIGTERM")
            .with(without_exec)
            .file("start.sh", "#!/bin/sh\n\"$@\"\necho done\n")
            .saying(SOON)
            .breaks("stops", "fail", BOTH, "PID 1 is `/bin/sh /start.sh", "exec \"$@\""),
        Row::good("is behind a shell that hands SIGTERM on")
            .with(without_exec)
            .file("start.sh", trap)
            .breaks(
                "exec-form",
                "warn",
                BOTH,
                "and the service its child `python3 -u /server.py`",
                "exec \"$@\"",
            ),
        Row::good("is behind a script that is gone")
            .with(without_exec)
            .file("start.sh", "#!/bin/sh\nexec \"$@\"\n"),
    ]
}

fn secret_files() -> Vec<Row> {
    let copies = "COPY app /app";
    vec![
        Row::good("has an environment file")
            .with(copies)
            .file("app/.env", "API_TOKEN=hunter2\n")
            .breaks(
                "secret-files",
                "fail",
                IMAGE,
                "/app/.env is an environment file (layer ",
                "`**/.env` to .dockerignore",
            ),
        Row::good("has deleted a key")
            .with("COPY app /app\nRUN rm -r /app")
            .file("app/id_ed25519", private_key())
            .breaks(
                "secret-files",
                "fail",
                IMAGE,
                "a later layer deletes it, and it stays readable",
                "replace the secret",
            ),
        Row::good("has its repository")
            .with(copies)
            .file("app/.git/HEAD", "ref: refs/heads/main\n")
            .file("app/.git/config", "[core]\n")
            .breaks(
                "secret-files",
                "fail",
                IMAGE,
                "/app/.git is a git repository",
                "`.git` to .dockerignore",
            ),
        Row::good("has a token in its sources")
            .with(copies)
            .file("app/client.py", format!("TOKEN = '{}'\n", token()))
            .breaks(
                "secret-files",
                "fail",
                IMAGE,
                "/app/client.py is a GitHub token",
                "RUN --mount=type=secret",
            ),
        Row::good("has a login to a registry of packages")
            .with(copies)
            .file("app/.npmrc", "//r.example.org/:_authToken=hunter2\n")
            .breaks(
                "secret-files",
                "fail",
                IMAGE,
                "/app/.npmrc is an npm token",
                "RUN --mount=type=secret",
            ),
        Row::good("has what only looks like secrets")
            .with(copies)
            .file("app/.env.example", "API_TOKEN=\n")
            .file("app/id_rsa.pub", "ssh-rsa AAAA\n")
            .file("app/ca.pem", private_key().replace("PRIVATE KEY", "CERTIFICATE"))
            .file("app/.npmrc", "registry=https://r.example.org\n")
            .file("app/site-packages/x/tests/key.pem", private_key())
            .file("app/readme.md", "AKIAIOSFODNN7EXAMPLE\n"),
    ]
}

fn secret_variables_and_size() -> Vec<Row> {
    vec![
        Row::good("has a token in its environment").with("ENV API_TOKEN=hunter2").breaks(
            "secret-variables",
            "fail",
            IMAGE,
            "ENV API_TOKEN holds a value",
            "secrets: {API_TOKEN: …}",
        ),
        Row::good("was built with a token")
            .with("ARG NPM_TOKEN\nRUN echo install")
            .saying("image: {build-args: {NPM_TOKEN: hunter2}}\n")
            .breaks(
                "secret-variables",
                "fail",
                IMAGE,
                "the history shows NPM_TOKEN of a build step",
                "build-secrets: ['id=npm_token,env=NPM_TOKEN']",
            ),
        Row::good("has a label with a password").with("LABEL database=postgres://me:hunter2@db/patients").breaks(
            "secret-variables",
            "fail",
            IMAGE,
            "LABEL database holds a URL with a password",
            "replace the secret",
        ),
        Row::good("says where its secrets are")
            .with("ENV API_TOKEN_FILE=/run/secrets/token API_TOKEN= GPG_KEY=7169605F62C751356D054A26A821E680E5FA6305"),
        Row::good("is larger than it may be").saying("contract: {size: 1Mi}\n").breaks(
            "size",
            "warn",
            IMAGE,
            "MiB compressed, and contract.size is 1 MiB; the largest is layer 1 of",
            "slim",
        ),
        Row::good("is as large as it may be").saying("contract: {size: 200Mi}\n"),
    ]
}

#[test]
fn each_rule_is_kept_and_broken_by_real_images() {
    let rows: Vec<Row> = [
        starts(),
        listens_and_health(),
        mode(),
        required_variables(),
        non_root(),
        read_only(),
        stops(),
        secret_files(),
        secret_variables_and_size(),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(rows.iter().filter(|row| row.broken.is_some()).count() >= 20);
    let next = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    holds(row);
                }
            });
        }
    });
}

/// Builds and checks one image, and compares what is said.
fn holds(row: &Row) {
    let what = row.what;
    let name = unique("contract");
    let _images = Images(name.clone());
    let repository = repository(&name, row);
    let summary = repository.path().join("summary.md");
    let mut command = cicd(repository.path());
    command
        .args(["build-image", "--version", "1.0.0", "--output", "json"])
        .env("GITHUB_STEP_SUMMARY", &summary);
    let ended = run(&mut command);
    let fails = row.broken.is_some_and(|broken| broken.level == "fail");
    assert_eq!(ended.code, if fails { 8 } else { 0 }, "{what}: {ended}");
    let result = ended.json();
    let summary = std::fs::read_to_string(summary).expect("a summary");
    let mark = |mode: &str| {
        if fails && row.broken.is_some_and(|broken| broken.modes.contains(&mode)) {
            "fail"
        } else {
            "pass"
        }
    };
    let marks = json!({ "production": mark("production"), "debug": mark("debug") });
    assert_eq!(
        json!({ "production": result["contract"]["production"], "debug": result["contract"]["debug"] }),
        marks,
        "{what}: {ended}"
    );
    match row.broken {
        None => {
            assert_eq!(result["contract"], marks, "{what}: {ended}");
            assert!(
                !summary.contains("| fail |") && !summary.contains("| warn |"),
                "{what}: {summary}"
            );
        }
        Some(broken) => {
            assert_broken(what, &broken, &result, &ended);
            assert!(
                summary.contains(&format!("| `{}` | {} |", broken.rule, broken.level)),
                "{what}: {summary}"
            );
        }
    }
    let said = format!("{ended}{summary}");
    for secret in ["hunter2", &token()] {
        assert!(!said.contains(secret), "{what}: {said}");
    }
    let left =
        docker(&["ps", "-aq", "--filter", &format!("label=cicd.clinicult.io/contract={name}")]);
    assert!(left.is_empty(), "{what} leaves containers");
}

fn assert_broken(what: &str, broken: &Broken, result: &Value, ended: &Run) {
    let findings =
        result["contract"]["findings"].as_array().unwrap_or_else(|| panic!("{what}: {ended}"));
    let [finding] = findings.as_slice() else { panic!("{what} breaks one rule: {ended}") };
    assert_eq!(
        (&finding["rule"], &finding["level"]),
        (&json!(broken.rule), &json!(broken.level)),
        "{what}: {ended}"
    );
    let modes = if broken.modes.is_empty() { Value::Null } else { json!(broken.modes) };
    assert_eq!(finding["modes"], modes, "{what}: {ended}");
    assert!(
        finding["evidence"].as_str().expect("evidence").contains(broken.evidence),
        "{what}: {ended}"
    );
    assert!(finding["fix"].as_str().expect("a fix").contains(broken.fix), "{what}: {ended}");
    if broken.level == "fail" {
        let error = &result["error"];
        assert!(
            error["message"]
                .as_str()
                .expect("a message")
                .ends_with(&format!("contract: {}", broken.rule)),
            "{what}: {ended}"
        );
        let [cause] = error["causes"].as_array().expect("causes").as_slice() else {
            panic!("{what}: {ended}")
        };
        assert!(
            cause["reason"].as_str().expect("a reason").starts_with(&format!("{}: ", broken.rule)),
            "{what}: {ended}"
        );
        assert!(cause["fix"].as_str().expect("a fix").contains(broken.fix), "{what}: {ended}");
    } else {
        assert!(
            ended.stderr.contains(&format!("warning: contract rule `{}`", broken.rule)),
            "{what}: {ended}"
        );
    }
}

fn repository(name: &str, row: &Row) -> Repository {
    let repository = Repository::new();
    // Only what is to be late is not waited for long.
    let late = row.broken.is_some_and(|broken| ["listens", "health"].contains(&broken.rule));
    let startup =
        if late && !row.more.contains("health:") { "health: {startup: 15s}\n" } else { "" };
    repository.write("service.yaml", &format!("name: {name}\nport: 8000\n{startup}{}", row.more));
    repository.write("Dockerfile", &row.dockerfile);
    repository.write(".dockerignore", "target/\n.git/\nsummary.md\n");
    repository.write("server.py", &row.server);
    repository.git(&["add", "-A"]);
    repository.commit("feat: first");
    // Written behind the commit: git would take a `.git` of its own for a submodule.
    row.files.iter().for_each(|(path, text)| repository.write(path, text));
    repository
}

/// The engine's image of a row, removed at its end.
struct Images(String);

impl Drop for Images {
    fn drop(&mut self) {
        let Images(name) = self;
        let command = format!(
            "docker ps -aq --filter label=cicd.clinicult.io/contract={name} | xargs -r docker rm -f -v; docker rmi -f cicd.local/{name}"
        );
        let _ = Command::new("sh").args(["-c", &command]).output();
    }
}

#[test]
fn a_rule_that_does_not_exist_is_named_with_its_nearest() {
    let row = Row::good("a rule that is none").saying("contract: {rules: {nonroot: warn}}\n");
    let repository = repository(&unique("contract"), &row);
    let ended = run(cicd(repository.path()).args(["build-image", "--output", "json"])).ended(2);
    let error = &ended.json()["error"];
    assert!(
        error["message"].as_str().expect("a message").contains("unknown key `nonroot`"),
        "{ended}"
    );
    assert!(error["fix"].as_str().expect("a fix").contains("did you mean `non-root`?"), "{ended}");
    assert!(!repository.path().join("target").exists(), "nothing was built");
}
