//! What a stranger's pull request can do, from outside: nothing.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::{Repository, Run, cicd, run};

/// A repository of a service with one release, and a folder of its own beside it.
fn service(text: &str) -> (Repository, tempfile::TempDir) {
    let repository = Repository::new();
    repository.write("service.yaml", &format!("name: patients\nport: 8000\n{text}"));
    repository.write("Dockerfile", "FROM scratch\n");
    repository.write(".dockerignore", ".git\n.env\ntarget\n");
    repository.git(&["add", "-A"]);
    repository.commit("feat: first");
    repository.git(&["tag", "v1.2.3"]);
    (repository, tempfile::tempdir().expect("a folder"))
}

/// As GitHub's runner starts a step: an environment of its own, with tokens that nobody else is to
/// see.
fn step(folder: &Path, home: &Path) -> Command {
    let mut command = cicd(folder);
    let path = std::env::var("PATH").expect("a path");
    command.env_clear().env("PATH", path).env("HOME", home).env("GITHUB_ACTIONS", "true");
    for (name, value) in TOKENS {
        command.env(name, value);
    }
    command
}

const TOKENS: [(&str, &str); 5] = [
    ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "oidc-LEAK"),
    ("INPUT_GITHUB-TOKEN", "ghs_LEAK"),
    ("AWS_SECRET_ACCESS_KEY", "aws-LEAK"),
    ("GITHUB_TOKEN", "ghp_LEAK"),
    ("CICD_BUILD_SECRETS", "OTHER=build-LEAK"),
];

/// A program that writes down what it is given, then ends with 1 or goes on as another.
fn recorder(file: &Path, seen: &Path, then: &str) {
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("folders");
    let script =
        format!("#!/bin/bash\n{{ env; printf '%s\\n' \"$*\"; }} >>{}\n{then}\n", seen.display());
    std::fs::write(file, script).expect("written");
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o755)).expect("executable");
}

/// What a `build-image` of this service.yaml hands to buildx; `None` when it is not started.
fn built(text: &str, more: impl Fn(&mut Command, &Path)) -> (Option<String>, Run) {
    let (repository, home) = service(text);
    for folder in ["outside", "allowed"] {
        std::fs::create_dir_all(home.path().join(folder)).expect("a folder");
    }
    std::fs::write(home.path().join("outside/key"), "key-LEAK").expect("written");
    symlink(home.path().join("outside"), repository.path().join("link")).expect("a link");
    let text = text.replace("HOME", &home.path().display().to_string());
    repository.write("service.yaml", &format!("name: patients\nport: 8000\n{text}"));
    let seen = home.path().join("seen");
    recorder(&home.path().join(".docker/cli-plugins/docker-buildx"), &seen, "exit 1");
    let mut command = step(repository.path(), home.path());
    command.args(["build-image", "--version", "1.0.0"]).env("DOCKER_HOST", "tcp://127.0.0.1:1");
    more(&mut command, home.path());
    let ended = run(&mut command);
    (std::fs::read_to_string(seen).ok(), ended)
}

#[test]
fn a_build_gets_nothing_from_outside_the_repository() {
    let outside = [
        "image: {context: HOME/outside}\n",
        "image: {context: ../..}\n",
        "image: {context: link}\n",
        "image: {contexts: {host: /}}\n",
        "image: {contexts: {host: link}}\n",
        "image: {contexts: {host: 'oci-layout://HOME/outside@sha256:1'}}\n",
        "image: {build-secrets: ['id=x,src=HOME/outside/key']}\n",
        "image: {build-secrets: ['id=x,src=link/key']}\n",
        "image: {build-secrets: ['id=x,src=/proc/self/environ']}\n",
        "image: {ssh: ['default=HOME/outside/key']}\n",
        "image: {cache: 'local:HOME/outside'}\n",
        "image: {cache: 'local:link/new'}\n",
        "manifests: [link/key]\n",
    ];
    // Where a checkout leaves its token.
    let of_git = [
        "image: {build-secrets: ['id=x,src=.git/config']}\n",
        "image: {contexts: {git: .git}}\n",
        "image: {ssh: ['default=.git/config']}\n",
        "manifests: [.git/config]\n",
    ];
    for text in of_git {
        let (seen, ended) = built(text, |_, _| {});
        assert_eq!((ended.code, seen), (2, None), "{text}: {}{}", ended.stdout, ended.stderr);
    }
    for text in outside {
        let (seen, ended) = built(text, |_, _| {});
        assert_eq!((ended.code, seen), (2, None), "{text}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains("--allow-read"), "{text}: {ended}");
    }
    for flag in ["outside", ""] {
        let (seen, ended) =
            built("image: {build-secrets: ['id=x,src=link/key']}\n", |run, home| {
                run.arg("--allow-read").arg(home.join(flag));
            });
        assert!(seen.is_some_and(|seen| seen.contains("id=x,src=link/key")), "{ended}");
    }
}

#[test]
fn a_build_gets_no_variable_that_nobody_handed_over() {
    for (name, _) in TOKENS {
        let text = format!("image: {{build-secrets: ['id=x,env={name}']}}\n");
        let (seen, ended) = built(&text, |_, _| {});
        assert_eq!((ended.code, seen), (3, None), "{name}: {ended}");
    }
    let own = "image: {build-secrets: ['id=x,env=OTHER', 'id=y,env=NPM_TOKEN']}\n";
    let (seen, ended) = built(own, |run, _| {
        run.env("NPM_TOKEN", "npm-value");
    });
    let seen = seen.unwrap_or_else(|| panic!("not built: {ended}"));
    assert!(seen.contains("OTHER=build-LEAK") && seen.contains("NPM_TOKEN=npm-value"), "{seen}");
    for (_, value) in &TOKENS[..4] {
        assert!(!seen.contains(value), "{seen}");
    }
    // Handed over by its name, with a value of its own: not with that of the runner.
    let reserved = "image: {build-secrets: ['id=x,env=GITHUB_TOKEN']}\n";
    let (seen, ended) = built(reserved, |run, _| {
        run.env("CICD_BUILD_SECRETS", "GITHUB_TOKEN=another");
    });
    let seen = seen.unwrap_or_else(|| panic!("not built: {ended}"));
    assert!(seen.contains("GITHUB_TOKEN=another") && !seen.contains("LEAK"), "{seen}");
}

#[test]
fn an_ignore_file_stays_inside_too() {
    for name in [".dockerignore", "Dockerfile.dockerignore", "lib/.dockerignore"] {
        for to in ["/proc/self/environ", "/etc/passwd", "/dev/zero"] {
            let (repository, home) = service("image: {contexts: {lib: lib}}\n");
            repository.write("lib/a", "a");
            let link = repository.path().join(name);
            let _ = std::fs::remove_file(&link);
            symlink(to, &link).expect("a link");
            let mut command = step(repository.path(), home.path());
            run(command.args(["build-image", "--plan"])).ended(2);
        }
    }
}

#[test]
fn init_reads_and_writes_inside_only() {
    struct Case {
        link: &'static str,
        to: &'static str,
        code: i32,
    }
    let case = |link, to, code| Case { link, to, code };
    let cases = [
        case(".dockerignore", "/dev/zero", 2),
        case("service.yaml", "/proc/self/environ", 2),
        case(".github", "OUTSIDE", 2),
        case(".dockerignore", "OUTSIDE/new", 2),
    ];
    for Case { link, to, code } in cases {
        let (repository, home) = service("");
        let outside = home.path().join("outside");
        std::fs::create_dir_all(&outside).expect("a folder");
        for name in ["service.yaml", ".dockerignore"] {
            let _ = std::fs::remove_file(repository.path().join(name));
        }
        symlink(
            to.replace("OUTSIDE", &outside.display().to_string()),
            repository.path().join(link),
        )
        .expect("a link");
        let mut command = step(repository.path(), home.path());
        let ended = run(command.args(["init", "--force"])).ended(code);
        let written = std::fs::read_dir(&outside).expect("a folder").count();
        assert_eq!(written, 0, "{link} → {to}: {ended}");
    }
    // What is no text in UTF-8 is somebody's file all the same.
    let (repository, home) = service("");
    let text = b"# caf\xe9\n.git\n";
    std::fs::write(repository.path().join(".dockerignore"), text).expect("written");
    run(step(repository.path(), home.path()).arg("init")).ended(0);
    let kept = std::fs::read(repository.path().join(".dockerignore")).expect("there");
    assert_eq!(kept, text);
}

#[test]
fn what_stays_on_this_machine_goes_through_no_proxy() {
    let (repository, home) = service("");
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
    proxy.set_nonblocking(true).expect("set");
    let address = format!("http://{}", proxy.local_addr().expect("an address"));
    let mut command = step(repository.path(), home.path());
    command.args(["release", "--plan"]).env("GITHUB_API_URL", "http://127.0.0.1:9");
    command.env("HTTP_PROXY", &address).env("http_proxy", &address);
    let ended = run(&mut command);
    assert_ne!(ended.code, 0, "{ended}");
    assert!(proxy.accept().is_err(), "the proxy was asked: {ended}");
}

#[test]
fn git_gets_no_token_and_starts_no_program_of_the_repository() {
    let (origin, home) = service("");
    origin.commit("feat: more");
    let clone = home.path().join("clone");
    let address = format!("file://{}", origin.path().display());
    origin.git(&["clone", "-q", "--depth", "1", &address, &clone.display().to_string()]);
    let owned = home.path().join("owned");
    let touch = format!("touch {} #", owned.display());
    let hooks = home.path().join("hooks");
    recorder(&hooks.join("reference-transaction"), &owned, "exit 0");
    let settings = [
        ("remote.origin.uploadpack", format!("{touch}; git-upload-pack")),
        ("core.fsmonitor", touch.clone()),
        ("core.sshCommand", touch.clone()),
        ("core.askPass", touch.clone()),
        ("credential.helper", format!("!{touch}")),
        ("core.alternateRefsCommand", touch.clone()),
        ("core.hooksPath", hooks.display().to_string()),
    ];
    for (key, value) in settings {
        let clone = clone.display().to_string();
        origin.git(&["-C", &clone, "config", key, &value]);
    }
    let seen = home.path().join("seen");
    let real = run(Command::new("sh").args(["-c", "command -v git"])).ended(0);
    let real = format!("exec {} \"$@\"", real.stdout.trim());
    recorder(&home.path().join("bin/git"), &seen, &real);
    let path = std::env::var("PATH").expect("a path");
    let mut command = step(&clone, home.path());
    command.arg("version").env("GIT_DIR", "/nowhere");
    command.env("PATH", format!("{}:{path}", home.path().join("bin").display()));
    let ended = run(&mut command).ended(0);
    let seen = std::fs::read_to_string(seen).expect("git was started");
    assert!(!seen.contains("LEAK") && !seen.contains("GIT_DIR="), "{seen}");
    assert!(!owned.exists(), "a program of the repository was started: {ended}");
}

#[test]
fn a_bare_repository_in_the_work_tree_is_none() {
    let (repository, home) = service("");
    let inner = repository.path().join("services/api");
    repository.git(&["clone", "-q", "--bare", ".", &inner.display().to_string()]);
    repository.write("services/api/service.yaml", "name: api\nport: 8000\n");
    repository.git(&["-C", &inner.display().to_string(), "tag", "v9.9.9", "HEAD"]);
    repository.commit("fix: second");
    let ended = run(step(&inner, home.path()).args(["version", "--plan"])).ended(0);
    assert!(ended.stdout.contains("1.2.4") || ended.stdout.contains("v1.2.3"), "{ended}");
}

#[test]
fn what_never_ends_is_bad_input() {
    let endless: [(&str, &dyn Fn(&Path)); 3] = [
        ("a device", &|file| symlink("/dev/zero", file).expect("a link")),
        ("a pipe", &|file| drop(run(Command::new("mkfifo").arg(file)).ended(0))),
        ("a large file", &|file| {
            let large = std::fs::File::create(file).expect("a file");
            large.set_len(1 << 40).expect("a length");
        }),
    ];
    for name in ["service.yaml", "platform.yaml", "Dockerfile", "job.yaml"] {
        for (what, make) in &endless {
            let manifests = "manifests: [job.yaml]\nenvironments: {staging: {}}\n";
            let (repository, home) = service(manifests);
            repository.write("job.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}");
            repository.write(
                "platform.yaml",
                "registry: {account: '111122223333', region: eu-west-1}\nenvironments: {staging: \
                 {target: eks, region: eu-west-1, eks: {cluster: c, namespace: n}}}\n",
            );
            let file = repository.path().join(name);
            std::fs::remove_file(&file).expect("it was there");
            make(&file);
            let mut command = Command::new("timeout");
            let bounded = "ulimit -v 3000000; exec \"$0\" check";
            command.args(["-k", "1", "10", "sh", "-c", bounded, env!("CARGO_BIN_EXE_cicd")]);
            command.current_dir(repository.path()).env("HOME", home.path());
            command.env_remove("INPUT_PLATFORM");
            let ended = run(&mut command);
            assert_eq!(ended.code, 2, "{name} is {what}: {ended}");
        }
    }
}

/// The lines that GitHub's runner would take for a command; it reads them with .NET's ReadLine.
fn commands(said: &str) -> Vec<&str> {
    let own = ["error", "warning", "notice", "debug", "group", "endgroup"];
    let is_own = |line: &str| own.iter().any(|own| line.starts_with(&format!("::{own}")));
    let lines = said.split(['\r', '\n']);
    lines
        .filter(|line| line.trim_start().starts_with("::") && !is_own(line) || line.contains("##["))
        .collect()
}

#[test]
fn a_subject_is_text_for_every_reader() {
    let (repository, home) = service("");
    let subject = "feat: x\r::set-output name=a::b \x1b]52;c;eA==\x07 [in](https://evil.example) \
                   <img src=x> \u{202e}@all ##[add-mask]a \u{200b}\u{feff}";
    repository.write("message", subject);
    repository.git(&["commit", "-q", "--allow-empty", "--cleanup=verbatim", "-F", "message"]);
    let files = ["output", "summary"].map(|name| home.path().join(name));
    for format in ["github", "human", "json"] {
        let mut command = step(repository.path(), home.path());
        command.args(["version", "--explain", "--output", format]);
        command.env("GITHUB_OUTPUT", &files[0]).env("GITHUB_STEP_SUMMARY", &files[1]);
        let ended = run(&mut command).ended(0);
        let handed = files.each_ref().map(|file| std::fs::read_to_string(file).expect("written"));
        for text in [&ended.stdout, &ended.stderr, &handed[0], &handed[1]] {
            let unseen = ['\u{202e}', '\u{feff}'];
            let obeyed = |c: char| c.is_control() && !"\n\t".contains(c) || unseen.contains(&c);
            assert!(!text.contains(obeyed), "{format}: {text:?}");
        }
        // What is written to a file is read as no log.
        for text in [&ended.stdout, &ended.stderr] {
            assert!(commands(text).is_empty(), "{format}: {text:?}");
        }
        let summary = &handed[1];
        assert!(summary.contains("evil.example"), "{summary}");
        for markup in ["](", "<img", "https://", "@all"] {
            assert!(!summary.contains(markup), "{markup}: {summary}");
        }
    }
}

#[test]
fn a_finding_is_text_in_the_job_summary() {
    let (repository, home) = service("");
    repository.write("Dockerfile", "FROM tiangolo/[in](https://evil.example/x)\n");
    let summary = home.path().join("summary");
    let mut command = step(repository.path(), home.path());
    run(command.arg("check").env("GITHUB_STEP_SUMMARY", &summary)).ended(2);
    let summary = std::fs::read_to_string(&summary).expect("a summary");
    assert!(summary.contains("evil.example") && !summary.contains("[in]("), "{summary}");
}

#[test]
fn a_secret_in_service_yaml_is_found() {
    let (repository, home) = service(
        "env: {DATABASE_PASSWORD: hunter2hunter2}\nimage: {build-args: {NPM_TOKEN: hunter2}}\n",
    );
    let mut command = step(repository.path(), home.path());
    let ended = run(command.args(["check", "--output", "json"])).ended(2);
    let findings = ended.json()["findings"].clone();
    let found: Vec<_> = findings.as_array().expect("a list").iter().collect();
    let found = found.iter().filter(|one| one["rule"] == "secret-in-service").count();
    assert_eq!(found, 2, "{ended}");
    assert!(!ended.stdout.contains("hunter2") && !ended.stderr.contains("hunter2"), "{ended}");
}

/// Gives OIDC tokens and refuses every role; what it was asked for by POST is returned.
fn asked_of_sts(event: &str, more: &str) -> String {
    let (repository, home) = service("environments: {production: {}}\n");
    repository.write(
        "platform.yaml",
        &format!(
            "registry: {{account: \"111122223333\", region: eu-west-1}}\nenvironments:\n  \
             production:\n    target: eks\n    region: eu-west-1\n    \
             role: arn:aws:iam::111122223333:role/deploys\n{more}    \
             eks: {{cluster: c, namespace: n}}\n"
        ),
    );
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        for mut stream in listener.incoming().map(|stream| stream.expect("a connection")) {
            let mut bytes = vec![0; 64 * 1024];
            let mut length = 0;
            let text = loop {
                length += stream.read(&mut bytes[length..]).expect("a request");
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let head = head.to_ascii_lowercase();
                let expected = head.split_once("content-length: ").map_or("0", |(_, rest)| rest);
                let expected = expected.lines().next().and_then(|line| line.parse().ok());
                if body.len() >= expected.unwrap_or(0) {
                    break text;
                }
            };
            let (status, body) = match text.starts_with("GET") {
                true => ("200 OK", r#"{"value": "e30.eyJzdWIiOiJ4In0.x"}"#),
                false => ("403 Forbidden", ""),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).expect("answered");
            if text.starts_with("POST") {
                return text;
            }
        }
        String::new()
    });
    let digest = format!("sha256:{}", "a".repeat(64));
    let mut command = step(repository.path(), home.path());
    command.args(["deploy", "--plan", "--environment", "production", "--version", "1.0.0"]);
    command.args(["--digest", &digest]).env("GITHUB_EVENT_NAME", event);
    command.env("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{address}/t?x=1"));
    command.env("AWS_ENDPOINT_URL", &address).env("AWS_EC2_METADATA_DISABLED", "true");
    run(&mut command).ended(3);
    server.join().expect("asked")
}

#[test]
fn a_plan_only_reads_and_has_a_role_of_its_own() {
    let plan_role = "    plan-role: arn:aws:iam::111122223333:role/plans\n";
    let cases = [
        ("pull_request", plan_role, "role%2Fplans"),
        ("merge_group", plan_role, "role%2Fplans"),
        ("push", plan_role, "role%2Fdeploys"),
        ("pull_request", "", "role%2Fdeploys"),
    ];
    for (event, more, role) in cases {
        let asked = asked_of_sts(event, more);
        assert!(asked.contains(role), "{event}: {asked}");
        assert!(asked.contains("Policy=%7B") && !asked.contains("Put"), "{event}: {asked}");
    }
}

#[test]
fn tokens_go_to_no_address_without_tls() {
    let platform = |endpoint: &str| {
        format!(
            "registry: {{account: \"111122223333\", region: eu-west-1}}\nenvironments: \
             {{staging: {{target: eks, region: eu-west-1, \
             eks: {{cluster: c, namespace: n, endpoint: \"{endpoint}\"}}}}}}\n"
        )
    };
    let cases = [("http://10.0.0.7:6443", 2), ("http://localhost:1", 0), ("https://10.0.0.7", 0)];
    for (endpoint, code) in cases {
        let (repository, home) = service("environments: {staging: {}}\n");
        repository.write("platform.yaml", &platform(endpoint));
        let ended = run(step(repository.path(), home.path()).arg("check")).ended(code);
        assert!(code == 0 || ended.stdout.contains("platform.yaml,line=2"), "{ended}");
    }
    for name in ["GITHUB_API_URL", "ACTIONS_ID_TOKEN_REQUEST_URL", "AWS_ENDPOINT_URL"] {
        let (repository, home) = service("environments: {staging: {}}\n");
        let text = platform("https://10.0.0.7").replace("eks, region", "eks, role: ROLE, region");
        repository.write("platform.yaml", &text.replace("ROLE", "'arn:aws:iam::1:role/r'"));
        let mut command = step(repository.path(), home.path());
        match name {
            "GITHUB_API_URL" => command.args(["status", "--platform", "o/r/p.yaml@v1"]),
            _ => command.arg("status"),
        };
        command.args(["--environment", "staging"]);
        command.env("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:1/t");
        let ended = run(command.env(name, "http://10.255.255.1:9"));
        let reaches_token = name == "AWS_ENDPOINT_URL";
        let refused = ended.code == 2 && ended.stdout.contains("do not go over plain HTTP");
        // Without a token there is nothing to send on, and the run ends before that.
        assert!(refused || reaches_token && ended.code != 0, "{name}: {ended}");
    }
}
