//! Each platform on a machine of its own, and one image of them.

use std::process::Command;

use serde_json::{Value, json};

use super::beside::statements;
use super::{EVERYWHERE, build, entries, server, service};
use crate::support::{Repository, cicd, run, stack, unique};

const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];

fn repository(name: &str, more: &str) -> Repository {
    let image = format!("image: {{platforms: [{}]{more}}}\n", PLATFORMS.join(", "));
    let repository = service(name, &server("", EVERYWHERE), &image);
    repository.write("Dockerfile", "FROM scratch\nCOPY server.py /\n");
    repository.git(&["commit", "-qam", "feat: for two platforms"]);
    repository
}

fn build_part(repository: &Repository, platform: &str, version: &str) {
    let layout = format!("target/native/{}", platform.replace('/', "-"));
    let part = ["--skip-contract", "--only", platform, "--version", version, "--layout", &layout];
    let built = build(repository, &part).ended(0).json();
    assert_eq!(built["platforms"], json!([platform]));
}

/// The joined image is what one machine makes of both, but for the bytes of its index; it is pushed
/// and found by its digest.
#[test]
fn images_of_two_machines_are_one() {
    let name = unique("join");
    let repository = repository(&name, "");
    let layout = repository.path().join("target/image");
    let blobs = || entries(&layout.join("blobs/sha256"));
    build(&repository, &["--skip-contract", "--version", "1.0.0"]).ended(0);
    let whole = blobs();
    PLATFORMS.iter().for_each(|platform| build_part(&repository, platform, "1.0.0"));
    let join = ["--skip-contract", "--join", "target/native"];
    let joined = build(&repository, &join).ended(0).json();
    assert_eq!(joined["platforms"], json!(PLATFORMS));
    let others: Vec<String> = blobs().into_iter().filter(|blob| !whole.contains(blob)).collect();
    assert!(others.len() <= 1 && whole.len() == blobs().len(), "{others:?}");
    let again = build(&repository, &join).ended(0).json();
    assert_eq!(again["digest"], joined["digest"]);

    let at = format!("{}/tests/{name}", stack("CICD_STACK_REGISTRY"));
    let push = ["push-ecr", "--repository", &at, "--tag", "1.0.0", "--output", "json"];
    let pushed = run(cicd(repository.path()).args(push)).ended(0).json();
    assert_eq!(pushed["digest"], joined["digest"]);
    let raw = ["inspect", "--raw", "--tls-verify=false", &format!("docker://{at}:1.0.0")];
    let index = run(Command::new("skopeo").args(raw)).ended(0).stdout;
    let index: Value = serde_json::from_str(&index).expect("JSON");
    let manifests = index["manifests"].as_array().expect("manifests").iter();
    let listed: Vec<&Value> = manifests.map(|one| &one["platform"]["architecture"]).collect();
    assert_eq!(listed, ["amd64", "arm64"]);
    assert_eq!(index["annotations"]["org.opencontainers.image.version"], "1.0.0");
}

#[test]
fn what_each_build_says_of_itself_goes_with_its_image() {
    let repository = repository(&unique("join"), ", provenance: min");
    PLATFORMS.iter().for_each(|platform| build_part(&repository, platform, "1.0.0"));
    build(&repository, &["--skip-contract", "--join", "target/native"]).ended(0);
    assert_eq!(statements(&repository.path().join("target/image")).len(), 2);
}

#[test]
fn what_is_no_one_image_is_refused() {
    let repository = repository(&unique("join"), "");
    let refused = |said: &str| {
        let ended = build(&repository, &["--skip-contract", "--join", "target/native"]).ended(2);
        assert!(ended.stderr.contains(said), "{said}: {ended}");
    };
    repository.write("target/native/README", "no layout\n");
    refused("target/native has none");
    build_part(&repository, "linux/amd64", "1.0.0");
    refused("it is for linux/amd64, and the service for linux/amd64, linux/arm64");
    build_part(&repository, "linux/arm64", "2.0.0");
    refused("org.opencontainers.image.version is 1.0.0 for linux/amd64 and 2.0.0 for linux/arm64");
    let other = ["--skip-contract", "--only", "linux/amd64", "--layout", "target/native/twice"];
    build(&repository, &other).ended(0);
    refused("two are for linux/amd64");
    let none = "name: a\nport: 1\nimage: {platforms: [linux/amd64]}\n";
    repository.write("service.yaml", none);
    let ended = build(&repository, &["--skip-contract", "--only", "linux/arm64"]).ended(2);
    assert!(ended.stderr.contains("cannot build for linux/arm64 alone"), "{ended}");
}
