//! What a build needs of a machine, and a machine may lack: buildx, and an engine that is not too
//! old.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::{EVERYWHERE, entries, server, service};
use crate::support::{cicd, run, unique};

#[test]
fn a_machine_without_buildx_is_told_how_to_get_it() {
    let repository = service(&unique("without"), &server("", EVERYWHERE), "");
    let work = repository.path().display();
    // Debian's image has neither Docker nor a plugin of it.
    let ended = run(Command::new("docker")
        .args(["run", "--rm", "-v", &format!("{work}:/work"), "-w", "/work"])
        .args(["-v", &format!("{}:/cicd:ro", env!("CARGO_BIN_EXE_cicd")), "debian:trixie-slim"])
        .args(["/cicd", "build-image", "--skip-contract", "--output", "json"]))
    .ended(3);
    let error = &ended.json()["error"];
    assert_eq!(
        error["message"].as_str().map(|text| text.contains("there is no buildx")),
        Some(true),
        "{ended}"
    );
    assert!(
        error["fix"]
            .as_str()
            .is_some_and(|fix| fix.contains("apt-get install docker-buildx-plugin")),
        "{ended}"
    );
    assert!(!repository.path().join("target").exists(), "nothing was begun");
}

/// An engine of 2019 as far as this asks it; it remembers what it was asked.
fn engine_of_2019(socket: &Path) -> Arc<Mutex<Vec<String>>> {
    let listener = UnixListener::bind(socket).expect("a socket");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let head =
                BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
            let head: Vec<String> = head.take_while(|line| !line.is_empty()).collect();
            seen.lock().expect("a lock").push(head.first().cloned().unwrap_or_default());
            let body = r#"{"Version":"19.03.15","ApiVersion":"1.40","MinAPIVersion":"1.12","Os":"linux","Arch":"amd64"}"#;
            let head = "HTTP/1.1 200 OK\r\nApi-Version: 1.40\r\nContent-Type: application/json\r\nConnection: close\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    asked
}

#[test]
fn an_engine_that_is_too_old_is_refused_before_anything_is_built() {
    let repository = service(&unique("old"), &server("", EVERYWHERE), "");
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("docker.sock");
    let asked = engine_of_2019(&socket);
    let mut command = cicd(repository.path());
    command.args(["build-image", "--skip-contract", "--output", "json"]);
    let ended = run(command.env("DOCKER_HOST", format!("unix://{}", socket.display()))).ended(3);
    let error = &ended.json()["error"];
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| text.contains("too old: this is Docker Engine 19.03.15")),
        "{ended}"
    );
    assert!(
        error["fix"].as_str().is_some_and(|fix| fix.contains("docs.docker.com/engine/install")),
        "{ended}"
    );
    assert_eq!(
        *asked.lock().expect("a lock"),
        ["GET /version HTTP/1.1"],
        "and no BuildKit was started beside it"
    );
    let target = repository.path().join("target");
    assert!(!target.exists() || entries(&target).is_empty(), "{ended}");
}
