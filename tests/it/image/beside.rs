//! What a build says of itself (provenance, SBOM) lies beside the image and refers to it; the image
//! is the same without.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{EVERYWHERE, build, server, service};
use crate::support::{Repository, cicd, run, stack, unique};

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).expect("read")).expect("JSON")
}

fn blob(layout: &Path, descriptor: &Value) -> Value {
    read(
        &layout
            .join("blobs")
            .join(descriptor["digest"].as_str().expect("a digest").replace(':', "/")),
    )
}

/// What refers to the image in a layout: predicate type → the statement.
pub fn statements(layout: &Path) -> Vec<(String, Value)> {
    let index = read(&layout.join("index.json"));
    let entries = index["manifests"].as_array().expect("entries");
    let referring = entries[1..].iter().map(|entry| {
        let manifest = blob(layout, entry);
        assert_eq!(manifest["artifactType"], "application/vnd.in-toto+json");
        let predicate = manifest["annotations"]["in-toto.io/predicate-type"]
            .as_str()
            .expect("a type")
            .to_string();
        let statement = blob(layout, &manifest["layers"][0]);
        assert_eq!(statement["predicateType"], *predicate);
        (predicate, statement)
    });
    referring.collect()
}

fn dockerfile(repository: &Repository) {
    repository
        .write("Dockerfile", "FROM debian:trixie-slim\nARG PASSWORD\nRUN echo built >/built\n");
}

#[test]
fn provenance_is_beside_the_image_and_changes_nothing_of_it() {
    let name = unique("provenance");
    let build_args = "build-args: {PASSWORD: hunter2-and-more}";
    let repository = service(
        &name,
        &server("", EVERYWHERE),
        &format!("image: {{{build_args}, provenance: min}}\n"),
    );
    dockerfile(&repository);
    let layout = repository.path().join("target/image");
    let first = build(&repository, &["--skip-contract"]).ended(0).json();
    let [(predicate, statement)] = &statements(&layout)[..] else { panic!("one statement") };
    assert!(predicate.starts_with("https://slsa.dev/provenance/"), "{predicate}");
    assert!(!statement.to_string().contains("hunter2"), "no build argument is in it: {statement}");
    assert_eq!(
        statement["subject"][0]["digest"]["sha256"],
        first["digest"].as_str().expect("a digest")[7..]
    );

    let again = build(&repository, &["--skip-contract", "--no-cache"]).ended(0).json();
    assert_eq!(again["digest"], first["digest"], "two clean builds");
    for (provenance, count) in [("max", 1), ("off", 0), ("min", 1)] {
        let yaml = format!(
            "name: {name}\nport: 8000\nimage: {{{build_args}, provenance: {provenance}}}\n"
        );
        repository.write("service.yaml", &yaml);
        let other = build(&repository, &["--skip-contract"]).ended(0).json();
        assert_eq!(other["digest"], first["digest"], "{provenance}");
        assert_eq!(statements(&layout).len(), count, "{provenance}");
    }

    // It goes with the image to the registry, and says there what it is.
    let at = format!("{}/tests/{name}", stack("CICD_STACK_REGISTRY"));
    run(cicd(repository.path()).args(["push-ecr", "--repository", &at, "--tag", "1.0.0"])).ended(0);
    let tag = first["digest"].as_str().expect("a digest").replace(':', "-");
    let list = run(Command::new("skopeo").args([
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{at}:{tag}"),
    ]));
    let list: Value = serde_json::from_str(&list.ended(0).stdout).expect("JSON");
    assert_eq!(list["manifests"][0]["artifactType"], "application/vnd.in-toto+json", "{list}");
}

#[test]
fn an_index_of_two_platforms_holds_images_only() {
    let name = unique("two");
    let repository = service(
        &name,
        &server("", EVERYWHERE),
        "image: {platforms: [linux/amd64, linux/arm64], provenance: min}\n",
    );
    repository.write("Dockerfile", "FROM scratch\nCOPY server.py /\n");
    let layout = repository.path().join("target/image");
    let with = build(&repository, &["--skip-contract"]).ended(0).json();
    assert_eq!(statements(&layout).len(), 2, "one for each platform");
    let root = blob(&layout, &read(&layout.join("index.json"))["manifests"][0]);
    assert_eq!(root["manifests"].as_array().map(Vec::len), Some(2), "{root}");
    let yaml = format!(
        "name: {name}\nport: 8000\nimage: {{platforms: [linux/amd64, linux/arm64], provenance: off}}\n"
    );
    repository.write("service.yaml", &yaml);
    let without = build(&repository, &["--skip-contract"]).ended(0).json();
    assert_eq!(with["digest"], without["digest"]);
}

/// A generator as BuildKit runs them:
/// <https://github.com/moby/buildkit/blob/master/docs/attestations/sbom-protocol.md>
const GENERATOR: &str = r#"
import json, os, pathlib
source = pathlib.Path(os.environ["BUILDKIT_SCAN_SOURCE"])
name = os.environ.get("BUILDKIT_SCAN_SOURCE", "image").rsplit("/", 1)[-1]
files = sorted(str(file.relative_to(source)) for file in source.glob("built"))
predicate = {"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": name,
             "files": [{"SPDXID": f"SPDXRef-{n}", "fileName": file} for n, file in enumerate(files)]}
statement = {"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document", "predicate": predicate}
(pathlib.Path(os.environ["BUILDKIT_SCAN_DESTINATION"]) / f"{name}.spdx.json").write_text(json.dumps(statement))
"#;

#[test]
fn an_sbom_is_made_by_the_generator_that_is_named() {
    let name = unique("sbom");
    // The builder pulls a generator as it pulls base images: from a registry.
    let generator = format!("{}/tests/{name}-generator:1", stack("CICD_STACK_REGISTRY"));
    let sources = Repository::empty();
    sources.write("generate.py", GENERATOR);
    let dockerfile_of_generator =
        "FROM python:3.13-slim\nCOPY generate.py /\nENTRYPOINT [\"python3\", \"/generate.py\"]\n";
    sources.write("Dockerfile", dockerfile_of_generator);
    let folder = sources.path().display().to_string();
    let arguments = [
        "buildx",
        "build",
        "--quiet",
        "--provenance=false",
        "--push",
        "--tag",
        &generator,
        &folder,
    ];
    run(Command::new("docker").args(arguments)).ended(0);

    let repository = service(&name, &server("", EVERYWHERE), "");
    dockerfile(&repository);
    let without = build(&repository, &["--skip-contract"]).ended(0).json();
    repository.write(
        "service.yaml",
        &format!("name: {name}\nport: 8000\nimage: {{sbom: '{generator}'}}\n"),
    );
    let with = build(&repository, &["--skip-contract"]).ended(0).json();
    assert_eq!(with["digest"], without["digest"]);
    let statements = statements(&repository.path().join("target/image"));
    let sbom = statements.iter().find(|(predicate, _)| predicate == "https://spdx.dev/Document");
    let (_, sbom) = sbom.unwrap_or_else(|| panic!("{statements:?}"));
    assert_eq!(sbom["predicate"]["files"][0]["fileName"], "built");
    assert_eq!(
        sbom["subject"][0]["digest"]["sha256"],
        json!(with["digest"].as_str().expect("a digest")[7..])
    );
}
