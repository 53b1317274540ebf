//! What is built is what the commit has: a dirty work tree is said and labelled, modes are git's,
//! what was built before is no part of the next image, and nothing of anybody else is removed.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use super::{EVERYWHERE, build, config, entries, server, service};
use crate::support::{Repository, Run, cicd, root, run, unique};

/// An image that holds the whole context.
const WHOLE: &str = "FROM scratch\nCOPY . .\nUSER 10001\nCMD [\"/x\"]\n";

/// A committed service whose image holds all that its .dockerignore does not leave out.
fn whole(prefix: &str, ignore: &str, more: &str) -> Repository {
    let repository = service(&unique(prefix), &server("", EVERYWHERE), more);
    repository.write("Dockerfile", WHOLE);
    repository.write(".dockerignore", ignore);
    repository.git(&["add", "-A"]);
    repository.commit("feat: all of it");
    repository
}

fn plan(repository: &Repository) -> Run {
    build(repository, &["--plan"]).ended(0)
}

/// The revision in the labels of a planned build.
fn revision(planned: &Run) -> String {
    let command = planned.json()["rendered"].as_str().expect("a command").to_string();
    let label = "--label org.opencontainers.image.revision=";
    let (_, rest) = command.split_once(label).expect("a revision");
    rest.split(' ').next().unwrap_or_default().to_string()
}

#[test]
fn what_is_not_in_the_commit_is_said_and_labelled() {
    struct Row {
        what: &'static str,
        change: fn(&Repository),
        said: Option<&'static str>,
    }
    let rows = [
        Row { what: "nothing", change: |_| {}, said: None },
        Row {
            what: "a changed file",
            change: |one| one.write("server.py", "pass\n"),
            said: Some("server.py (changed)"),
        },
        Row {
            what: "a staged file",
            change: |one| {
                one.write("server.py", "pass\n");
                one.git(&["add", "server.py"]);
            },
            said: Some("server.py (changed)"),
        },
        Row {
            what: "a file that was staged and put back",
            change: |one| {
                let before = std::fs::read_to_string(one.path().join("server.py")).expect("read");
                one.write("server.py", "pass\n");
                one.git(&["add", "server.py"]);
                one.write("server.py", &before);
            },
            said: Some("server.py (changed)"),
        },
        Row {
            what: "a new file",
            change: |one| one.write("sub/notes.txt", "x"),
            said: Some("sub/notes.txt (not tracked)"),
        },
        Row {
            what: "a file that is gone",
            change: |one| std::fs::remove_file(one.path().join("server.py")).expect("removed"),
            said: Some("server.py (removed)"),
        },
        Row {
            what: "a file that can be run now",
            change: |one| {
                let mode = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(one.path().join("server.py"), mode).expect("a mode");
            },
            said: Some("server.py (changed)"),
        },
        Row {
            what: "another service.yaml",
            change: |one| {
                let text = std::fs::read_to_string(one.path().join("service.yaml"));
                one.write("service.yaml", &format!("{}# x\n", text.expect("read")));
            },
            said: Some("service.yaml (changed)"),
        },
        Row {
            what: "a file that git ignores",
            change: |one| one.write("local.log", "x"),
            said: None,
        },
        Row {
            what: "a file that the build does not get",
            change: |one| one.write("docs/notes.md", "x"),
            said: None,
        },
        Row {
            what: "a file that was only touched",
            change: |one| {
                run(Command::new("touch").arg(one.path().join("server.py"))).ended(0);
            },
            said: None,
        },
    ];
    for Row { what, change, said } in rows {
        let repository = whole("dirty", "target/\n.git/\ndocs\n", "");
        repository.write(".gitignore", "*.log\n");
        repository.git(&["add", "-A"]);
        repository.commit("chore: logs");
        let commit = repository.git(&["rev-parse", "HEAD"]);
        change(&repository);
        let planned = plan(&repository);
        let dirty = format!("{commit}-dirty");
        match said {
            Some(said) => {
                assert!(planned.stderr.contains(said), "{what}: {planned}");
                assert_eq!(revision(&planned), dirty, "{what}");
                let command = planned.json()["rendered"].to_string();
                assert!(command.contains(&format!("REVISION={dirty}")), "{what}: {command}");
                assert!(command.contains("VERSION=0.1.0-dirty"), "{what}: {command}");
            }
            None => {
                assert_eq!(revision(&planned), commit, "{what}: {planned}");
                assert!(!planned.stderr.contains("warning"), "{what}: {planned}");
            }
        }
    }
}

#[test]
fn a_change_elsewhere_in_the_repository_is_not_this_services() {
    let repository = Repository::new();
    for name in ["patients", "doctors"] {
        repository.write(&format!("{name}/service.yaml"), &format!("name: {name}\nport: 8000\n"));
        repository.write(&format!("{name}/Dockerfile"), WHOLE);
    }
    repository.git(&["add", "-A"]);
    repository.commit("feat: both");
    repository.write("doctors/new.py", "pass\n");
    let planned = |name: &str| {
        let file = format!("{name}/service.yaml");
        let mut command = cicd(repository.path());
        command.args(["build-image", "--plan", "--output", "json", "--service", &file]);
        revision(&run(&mut command).ended(0))
    };
    assert!(!planned("patients").ends_with("-dirty"));
    assert!(planned("doctors").ends_with("-dirty"));
}

#[test]
fn a_submodule_is_a_part_of_the_commit() {
    let library = Repository::new();
    library.write("lib.py", "pass\n");
    library.git(&["add", "-A"]);
    library.commit("feat: a library");
    let repository = whole("submodule", "target/\n.git/\n", "");
    let from = library.path().display().to_string();
    let allow = "protocol.file.allow=always";
    repository.git(&["-c", allow, "submodule", "--quiet", "add", &from, "vendor/lib"]);
    repository.commit("feat: the library");
    let planned = plan(&repository);
    assert!(!planned.stderr.contains("warning"), "{planned}");

    repository.write("vendor/lib/lib.py", "changed\n");
    let planned = plan(&repository);
    assert!(planned.stderr.contains("vendor/lib/lib.py (changed)"), "{planned}");
    assert!(revision(&planned).ends_with("-dirty"));
    repository.git(&["submodule", "--quiet", "foreach", "git checkout --quiet ."]);
    repository.git(&["submodule", "--quiet", "foreach", "git commit -q --allow-empty -m x"]);
    assert!(plan(&repository).stderr.contains("vendor/lib (changed)"), "another commit of it");

    repository.git(&["submodule", "--quiet", "deinit", "--force", "vendor/lib"]);
    let planned = plan(&repository);
    assert!(planned.stderr.contains("in the place of a submodule: vendor/lib"), "{planned}");
    assert!(planned.stderr.contains("submodules: recursive"), "{planned}");
    repository.write("Dockerfile", "FROM scratch\nCOPY server.py /\n");
    repository.git(&["commit", "-q", "-am", "fix: less"]);
    assert!(!plan(&repository).stderr.contains("submodule"), "the image does not get it");
}

/// A filter is a program that a repository's configuration names.
#[test]
fn no_program_of_the_repository_is_run_to_look_at_it() {
    let repository = whole("filter", "target/\n.git/\n", "");
    let ran = repository.path().join(".git/ran");
    repository.git(&["config", "filter.x.clean", &format!("touch '{}'; cat", ran.display())]);
    repository.git(&["config", "core.fsmonitor", &format!("touch '{}'", ran.display())]);
    repository.write(".gitattributes", "*.py filter=x\n");
    repository.write("server.py", "other\n");
    plan(&repository);
    assert!(!ran.exists(), "a program was run");
}

#[test]
fn what_was_built_before_is_in_no_image_and_in_no_commit() {
    let more = "image: {cache: 'local:.cache/build'}\n";
    let repository = whole("again", ".git\n.env\n", more);
    let first = build(&repository, &["--skip-contract"]).ended(0);
    assert!(!first.stderr.contains("warning"), "{first}");
    for layout in ["target/image", "target/image", "elsewhere/my, layout", "image"] {
        let again = build(&repository, &["--skip-contract", "--layout", layout]).ended(0);
        assert_eq!(again.json()["digest"], first.json()["digest"], "{layout}: {again}");
        assert!(!again.stderr.contains("warning"), "{layout}: {again}");
    }
    assert_eq!(entries(&repository.path().join("target")), ["image"]);
    repository.git(&["add", "-A"]);
    assert_eq!(repository.git(&["status", "--porcelain"]), "", "git leaves all of it out");
}

#[test]
fn modes_of_somebodys_umask_are_not_in_the_image() {
    let repository = whole("modes", "target\n.git\n", "");
    repository.write("sub/run.sh", "#!/bin/sh\n");
    let set = |path: &str, mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(repository.path().join(path), mode).expect("a mode");
    };
    set("sub/run.sh", 0o755);
    repository.git(&["add", "-A"]);
    repository.commit("feat: a program");
    let modes = |file, program, folder| {
        for path in ["server.py", "Dockerfile", "service.yaml", ".dockerignore"] {
            set(path, file);
        }
        set("sub/run.sh", program);
        set("sub", folder);
    };
    let mut digests: Vec<Value> = Vec::new();
    // As umask 022, 002 and 077 have them.
    for (file, program, folder) in
        [(0o644, 0o755, 0o755), (0o664, 0o775, 0o775), (0o600, 0o700, 0o700)]
    {
        modes(file, program, folder);
        let built = build(&repository, &["--skip-contract"]).ended(0);
        assert!(!built.stderr.contains("warning"), "{built}");
        digests.push(built.json()["digest"].clone());
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "one commit, one digest");
}

#[test]
fn a_pointer_of_git_lfs_in_the_image_is_said() {
    let repository = whole("lfs", "target\n.git\n", "");
    let hex = "0".repeat(64);
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{hex}\nsize 104857600\n");
    repository.write("model/weights.bin", &pointer);
    repository.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    repository.git(&["add", "-A"]);
    repository.commit("feat: a model");
    let built = build(&repository, &["--skip-contract"]).ended(0);
    assert!(built.stderr.contains("model/weights.bin, 104857600 bytes are missing"), "{built}");
    assert!(built.stderr.contains("git lfs pull"), "{built}");
    assert!(!built.stderr.contains("(changed)"), "{built}");
    repository.write("Dockerfile", "FROM scratch\nCOPY server.py /\n");
    repository.git(&["commit", "-q", "-am", "fix: less"]);
    let built = build(&repository, &["--skip-contract"]).ended(0);
    assert!(!built.stderr.contains("warning"), "the image does not get it: {built}");
    let labels = config(&repository.path().join("target/image"))["config"]["Labels"].clone();
    let commit = repository.git(&["rev-parse", "HEAD"]);
    assert_eq!(labels["org.opencontainers.image.revision"], commit);
}

/// With Git LFS itself, a fetched file is what its pointer in the commit stands for.
#[test]
fn a_fetched_file_of_git_lfs_is_no_change() {
    let repository = whole("fetched", "target\n.git\n", "");
    let sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize 3\n");
    repository.write("model.bin", &pointer);
    repository.git(&["add", "-A"]);
    repository.commit("feat: a model");
    repository.write("model.bin", "foo");
    assert!(!revision(&plan(&repository)).ends_with("-dirty"));
    repository.write("model.bin", "bar");
    assert!(revision(&plan(&repository)).ends_with("-dirty"));
}

#[test]
fn a_frontend_of_a_stranger_is_refused_before_anything_is_built() {
    let evil = "evil.example/frontend:latest";
    let argument = "image: {build-args: {BUILDKIT_SYNTAX: 'evil.example/frontend:latest'}}\n";
    struct Row<'a> {
        dockerfile: String,
        more: &'a str,
        allow: Option<&'a str>,
        code: i32,
    }
    let asks = format!("# syntax={evil}\n{WHOLE}");
    let rows = [
        Row { dockerfile: asks.clone(), more: "", allow: None, code: 3 },
        Row { dockerfile: WHOLE.into(), more: argument, allow: None, code: 3 },
        Row { dockerfile: asks.clone(), more: "", allow: Some("evil.example/other"), code: 3 },
        Row { dockerfile: asks, more: "", allow: Some(evil), code: 0 },
        Row { dockerfile: WHOLE.into(), more: argument, allow: Some(evil), code: 0 },
        Row {
            dockerfile: format!("# syntax=docker/dockerfile:1\n{WHOLE}"),
            more: "",
            allow: None,
            code: 0,
        },
    ];
    for Row { dockerfile, more, allow, code } in rows {
        let repository = whole("frontend", "target\n.git\n", more);
        repository.write("Dockerfile", &dockerfile);
        for step in ["build-image", "check"] {
            let mut command = cicd(repository.path());
            command.args([step, "--output", "json"]);
            command.args(if step == "check" { &[][..] } else { &["--plan"] });
            command.args(allow.iter().flat_map(|one| ["--allow-frontend", one]));
            let ended = run(&mut command);
            let expected = if step == "check" && code != 0 { 2 } else { code };
            assert_eq!(ended.code, expected, "{step} {dockerfile}{more}{allow:?}: {ended}");
            let named = ended.stdout.contains("evil.example/frontend:latest");
            assert!(code == 0 || named, "{ended}");
        }
    }
}

#[test]
fn a_cache_takes_the_place_of_nothing_that_somebody_else_made() {
    let around = tempfile::tempdir().expect("a folder");
    let precious = around.path().join("precious");
    std::fs::create_dir(&precious).expect("a folder");
    std::fs::write(precious.join("thesis.txt"), "years of work").expect("written");
    let outside = format!("local:{}", precious.display());

    let repository =
        whole("cache", "target\n.git\ndata\n", &format!("image: {{cache: '{outside}'}}\n"));
    let refused = build(&repository, &["--skip-contract"]).ended(2);
    assert!(refused.stdout.contains("which is outside"), "{refused}");
    // Whoever runs the build may name any folder; what is in it stays.
    repository.write("service.yaml", "name: cache\nport: 8000\n");
    for cache in [outside.as_str(), "local:data"] {
        repository.write("data/years.csv", "1\n");
        let built = build(&repository, &["--skip-contract", "--cache", cache]).ended(0);
        assert!(built.stderr.contains("is not empty, and cicd did not make it"), "{built}");
    }
    assert_eq!(entries(&precious), ["thesis.txt"]);
    assert_eq!(entries(&repository.path().join("data")), ["years.csv"]);

    let fresh = format!("local:{}", around.path().join("new/cache").display());
    for _ in 0..2 {
        let built = build(&repository, &["--skip-contract", "--cache", &fresh]).ended(0);
        assert!(!built.stderr.contains("the cache is left out"), "{built}");
    }
    assert_eq!(entries(&around.path().join("new")), ["cache"]);
}

#[test]
fn what_a_build_secret_stands_for_is_shown_by_no_step() {
    let more = "image: {build-secrets: ['id=key,env=DEPLOY_KEY']}\n";
    let repository = whole("decoded", "target\n.git\n", more);
    let step = "RUN --mount=type=secret,id=key base64 -d /run/secrets/key; \
                base64 -d /run/secrets/key | tr '\\n' ' '; base64 -d /run/secrets/key | base64; exit 3";
    repository.write("Dockerfile", &format!("FROM python:3.13-slim\n{step}\n"));
    // `-----BEGIN KEY-----`, two lines that are told from each other, `-----END KEY-----`.
    let key = "LS0tLS1CRUdJTiBLRVktLS0tLQpNSUlFdlFJQkFEQU5CZ2txRmlyc3QKaGtpRzl3MEJBUUVGQUFTZWNvbmQKLS0tLS1FTkQgS0VZLS0tLS0K";
    let ended = run(cicd(repository.path())
        .args(["build-image", "--verbose", "--output", "json"])
        .env("DEPLOY_KEY", key))
    .ended(2);
    let text = format!("{ended}");
    let log = ended.json()["error"]["causes"][0]["log-tail"].to_string();
    assert!(log.contains("***"), "the step wrote it: {text}");
    for secret in ["MIIEvQIBADANBgkqFirst", "hkiG9w0BAQEFASecond", &key[..76], &key[..64]] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[test]
fn the_actions_own_image_is_built_on_nothing_that_moves() {
    let repository = Repository::new();
    let own = std::fs::read_to_string(root().join("Dockerfile")).expect("our Dockerfile");
    repository.write("Dockerfile", &own);
    repository.write("service.yaml", "name: action\nport: 8000\n");
    let ended = run(cicd(repository.path()).args(["check", "--output", "json"]));
    let findings = ended.json()["findings"].as_array().expect("findings").clone();
    let moving: Vec<&Value> =
        findings.iter().filter(|one| one["rule"] == "base-unpinned").collect();
    assert!(moving.is_empty(), "{moving:?}");
}
