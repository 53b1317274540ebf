//! An engine with an older store writes no layout: what it built is taken out of it and packed
//! here, with the same result.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::engine::{Engine, Store};
use super::{DOCKERFILE, EVERYWHERE, config, entries, server, service};
use crate::support::{Repository, Run, cicd, run, unique};

fn small(name: &str, more: &str) -> Repository {
    let repository = service(name, &server("", EVERYWHERE), more);
    let dockerfile = DOCKERFILE.replace("python:3.13-slim", "debian:trixie-slim");
    repository.write(
        "Dockerfile",
        &dockerfile.replace(
            "RUN python3 -c \"open('/built', 'w').write('yes')\"",
            "RUN echo built >/built",
        ),
    );
    repository.write(".gitignore", "*.tar\n");
    repository.git(&["add", "-A"]);
    repository.commit("feat: small");
    repository
}

fn build(engine: &Engine, repository: &Repository, arguments: &[&str]) -> Run {
    let mut command = cicd(repository.path());
    command.args(["build-image", "--skip-contract", "--output", "json"]).args(arguments);
    run(command.env("DOCKER_HOST", engine.host()))
}

fn manifest(layout: &Path) -> Value {
    let read = |file: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(file).expect("read")).expect("JSON")
    };
    let digest = read(&layout.join("index.json"))["manifests"][0]["digest"]
        .as_str()
        .expect("a digest")
        .to_string();
    read(&layout.join("blobs").join(digest.replace(':', "/")))
}

#[test]
fn an_older_store_gives_the_same_image_packed_here() {
    let engine = Engine::start(Store::Classic);
    let name = unique("classic");
    let repository = small(&name, "image: {labels: {org.example.team: clinic}}\n");
    let first = build(&engine, &repository, &[]).ended(0).json();
    let layout = repository.path().join("target/image");
    assert_eq!(first["platforms"], json!(["linux/amd64"]));
    let labels = config(&layout)["config"]["Labels"].clone();
    assert_eq!(labels["org.opencontainers.image.revision"], repository.git(&["rev-parse", "HEAD"]));
    assert_eq!(labels["org.example.team"], "clinic");
    let written = manifest(&layout);
    let annotations =
        written["annotations"].as_object().expect("annotations, as where a layout is written");
    assert_eq!(annotations.len(), 5, "{annotations:?}");
    assert!(
        annotations.iter().all(|(name, value)| labels[name] == *value),
        "{annotations:?}, {labels}"
    );
    for layer in written["layers"].as_array().expect("layers") {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    }
    // What the engine has is what is in the layout.
    let has = run(engine.docker().args([
        "image",
        "inspect",
        "--format",
        "{{.Id}}",
        &format!("cicd.local/{name}"),
    ]))
    .ended(0);
    assert_eq!(written["config"]["digest"], has.stdout.trim());

    let second = build(&engine, &repository, &["--layout", "target/again"]).ended(0).json();
    assert_eq!(second["digest"], first["digest"], "one image is packed into one digest");
    assert_eq!(entries(&repository.path().join("target")), ["again", "image"]);
    assert_eq!(entries(&layout), [".gitignore", "blobs", "index.json", "oci-layout"]);

    // Its own archive by hand is the same image again, but for the annotations.
    let archive = repository.path().join("saved.tar");
    run(engine.docker().args([
        "save",
        "--output",
        &archive.display().to_string(),
        &format!("cicd.local/{name}"),
    ]))
    .ended(0);
    build(&engine, &repository, &["--from", "saved.tar"]).ended(0);
    assert_eq!(manifest(&layout)["layers"], written["layers"]);
    assert_eq!(manifest(&layout)["config"], written["config"]);

    // A new image of the service takes the place of the earlier one in the engine.
    build(&engine, &repository, &["--version", "9.9.9"]).ended(0);
    let left =
        run(engine.docker().args(["images", "--quiet", "--filter", "dangling=true"])).ended(0);
    assert_eq!(left.stdout, "", "the earlier one is gone");

    // Others read it.
    let copied = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci:{}", layout.display()))
        .arg(format!("docker-archive:{}:x:1", repository.path().join("unpacked.tar").display()))
        .output()
        .expect("skopeo runs");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));

    // No builder's image can be pulled here. That is said, and what cannot be done without one.
    let yaml = |image: &str| {
        repository
            .write("service.yaml", &format!("name: {name}\nport: 8000\nimage: {{{image}}}\n"));
        repository.git(&["commit", "-q", "--all", "--amend", "--no-edit", "--allow-empty"]);
    };
    yaml("cache: 'local:cache', labels: {org.example.team: clinic}");
    let without = build(&engine, &repository, &[]).ended(0);
    for said in [
        "no builder of moby/buildkit:v",
        "without image.cache (local:cache) and one digest for",
        "--builder-image",
    ] {
        assert!(without.stderr.contains(said), "{said}: {without}");
    }
    assert_eq!(manifest(&layout)["layers"], written["layers"], "the same files");
    // Who sits there keeps the engine's steps; in CI a builder is tried for.
    yaml("labels: {org.example.team: clinic}");
    let laptop = build(&engine, &repository, &[]).ended(0);
    assert!(laptop.stderr.contains("outside of CI the steps that it keeps"), "{laptop}");
    let mut command = cicd(repository.path());
    command.args(["build-image", "--skip-contract", "--output", "json"]).env("CI", "true");
    let automatic = run(command.env("DOCKER_HOST", engine.host())).ended(0);
    assert!(automatic.stderr.contains("no builder of moby/buildkit:v"), "{automatic}");

    let off = build(&engine, &repository, &["--builder-image", "off"]).ended(0);
    assert!(off.stderr.contains("--builder-image is off; so the engine builds"), "{off}");
    for (image, said) in [
        ("platforms: [linux/amd64, linux/arm64]", "image.platforms (more than one)"),
        ("provenance: max, sbom: 'generator:1'", "image.provenance and image.sbom"),
    ] {
        yaml(image);
        let refused = build(&engine, &repository, &[]).ended(3);
        let fix = refused.json()["error"]["fix"].to_string();
        assert!(
            refused.stderr.contains(said) && refused.stderr.contains("no builder of"),
            "{refused}"
        );
        assert!(
            fix.contains("--builder-image") && fix.contains("containerd-snapshotter"),
            "{refused}"
        );
    }
    // A failing step is named as everywhere.
    repository.write("service.yaml", &format!("name: {name}\nport: 8000\n"));
    repository.write("Dockerfile", "FROM debian:trixie-slim\nRUN echo so far; exit 7\n");
    let failed = build(&engine, &repository, &[]).ended(2).json();
    assert!(
        failed["error"]["message"].as_str().expect("a message").starts_with("Dockerfile:2:1: "),
        "{failed}"
    );
    assert_eq!(entries(&repository.path().join("target")), ["again", "image"]);
}
