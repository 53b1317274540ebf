//! The platform of an image, and the one that tasks run on.

use std::process::Command;

use super::Place;
use crate::support::{cicd, run, stack};

#[test]
fn an_image_for_another_platform_is_refused_before_anything_changes() {
    let place = Place::new("ecs-arm");
    place.service("");
    let port = stack("AWS_ENDPOINT_URL").rsplit(':').next().expect("a port").to_string();
    let tag = format!("localhost:{port}/clinicult/{}:9.0.0", place.name);
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n")
        .expect("written");
    let build = ["build", "-q", "--provenance=false", "--platform", "linux/arm64", "-t", &tag, "."];
    run(Command::new("docker").args(build).current_dir(folder.path())).ended(0);
    run(Command::new("docker").args(["push", "-q", &tag])).ended(0);
    let inspect = ["image", "inspect", "--format", "{{index .RepoDigests 0}}", &tag];
    let pushed = run(Command::new("docker").args(inspect)).ended(0).stdout;
    let digest = pushed.trim().split_once('@').expect("a digest").1.to_string();
    // Production is on ECS, staging on EKS.
    for extra in [&["production", "--plan"][..], &["production"], &["staging"]] {
        let mut command = cicd(place.repository.path());
        command.args(["deploy", "--output", "json", "--version", "9.0.0", "--digest", &digest]);
        command.arg("--environment").args(extra);
        let refused = run(command.env("AWS_SDK_UA_APP_ID", &place.name)).ended(3);
        let error = &refused.json()["error"];
        assert!(error["message"].to_string().contains("it is not for linux/amd64"), "{refused}");
        assert!(error["message"].to_string().contains("it is for linux/arm64"), "{refused}");
        assert!(error["fix"].to_string().contains("platforms: [linux/amd64]"), "{refused}");
    }
    assert_eq!(place.writes(), 0);
    run(Command::new("docker").args(["rmi", &tag])).ended(0);
}
