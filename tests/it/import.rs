//! `build-image --from`: what `docker save`, skopeo and buildx write becomes the same layout, with
//! the digest it had; what is damaged, or was made to mislead, is refused, and nothing of it is
//! left.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::image::{EVERYWHERE, build, docker, entries, interrupted, server, service};
use crate::support::{Removal, Repository, Run, cicd, run, stack, unique};

/// An image of the stack's engine, removed at the end of the test.
struct Image(String);

impl Image {
    /// Builds the repository's Dockerfile into the engine as `name`, with more arguments for
    /// buildx.
    fn built(repository: &Repository, name: &str, more: &[&str]) -> Image {
        let mut command = Command::new("docker");
        command
            .args(["buildx", "build", "--quiet", "--load", "--tag", name])
            .args(more)
            .arg(repository.path());
        run(&mut command).ended(0);
        Image(name.to_string())
    }

    fn digest(&self) -> String {
        docker(&["image", "inspect", "--format", "{{.Id}}", &self.0]).remove(0)
    }

    /// `docker save`, into a file of the repository's folder.
    fn saved(&self, repository: &Repository, file: &str) -> PathBuf {
        let path = repository.path().join(file);
        docker(&["save", "--output", &path.display().to_string(), &self.0]);
        path
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "--force", &self.0]).output();
    }
}

/// `cicd build-image --from` without the contract.
fn import(repository: &Repository, from: &Path) -> Run {
    build(repository, &["--skip-contract", "--from", &from.display().to_string()])
}

fn skopeo(from: &str, to: &str) {
    run(Command::new("skopeo").args(["--insecure-policy", "copy", "--quiet", from, to])).ended(0);
}

/// The one manifest of a layout.
fn manifest(layout: &Path) -> Value {
    let read = |file: PathBuf| -> Value {
        serde_json::from_slice(&std::fs::read(file).expect("read")).expect("JSON")
    };
    let digest = read(layout.join("index.json"))["manifests"][0]["digest"]
        .as_str()
        .expect("a digest")
        .to_string();
    read(layout.join("blobs").join(digest.replace(':', "/")))
}

/// A small image that serves nothing.
fn small(name: &str) -> Repository {
    let repository = service(name, &server("", EVERYWHERE), "");
    repository.write("Dockerfile", "FROM debian:trixie-slim AS base\nFROM scratch\nCOPY --from=base /bin/true /true\nCOPY server.py /\nCMD [\"/true\"]\n");
    repository
}

#[test]
fn what_docker_saves_enters_the_pipeline_as_it_is() {
    let name = unique("saved");
    let _removal = Removal::of(&name);
    let repository = service(&name, &server("", EVERYWHERE), "");
    for (number, provenance) in ["--provenance=false", "--provenance=true"].into_iter().enumerate()
    {
        let image = Image::built(
            &repository,
            &format!("{name}:{number}"),
            &["--build-arg", "VERSION=7", provenance],
        );
        let archive = image.saved(&repository, "image.tar");
        let contract: &[&str] = if number == 0 { &[] } else { &["--skip-contract"] };
        let from = archive.display().to_string();
        let result = build(&repository, &[&["--from", &from], contract].concat()).ended(0).json();
        assert_eq!(result["digest"], image.digest(), "{provenance}");
        assert_eq!(result["platforms"], json!(["linux/amd64"]));
        if number == 0 {
            assert_eq!(result["contract"], json!({ "production": "pass", "debug": "pass" }));
        }
    }
    assert_eq!(entries(&repository.path().join("target")), ["image"]);
}

#[test]
fn every_shape_of_one_image_becomes_one_layout() {
    let name = unique("shapes");
    let repository = small(&name);
    let image = Image::built(&repository, &name, &["--provenance=false"]);
    let archive = image.saved(&repository, "docker.tar").display().to_string();
    let at = |file: &str| repository.path().join(file).display().to_string();
    // The file or folder, and who makes it.
    skopeo(&format!("docker-archive:{archive}"), &format!("oci:{}:x", at("oci")));
    skopeo(&format!("oci:{}:x", at("oci")), &format!("oci-archive:{}:x", at("oci.tar")));
    skopeo(&format!("oci:{}:x", at("oci")), &format!("docker-archive:{}:x:1", at("classic.tar")));
    let oci = manifest(&repository.path().join("oci"));

    let folder = import(&repository, &repository.path().join("oci")).ended(0).json();
    assert_eq!(manifest(&repository.path().join("target/image")), oci, "as it was, byte by byte");
    let tar = import(&repository, &repository.path().join("oci.tar")).ended(0).json();
    assert_eq!(tar["digest"], folder["digest"]);
    // A layout may take its own place.
    let again = import(&repository, &repository.path().join("target/image")).ended(0).json();
    assert_eq!(again["digest"], folder["digest"]);

    let packed = import(&repository, &repository.path().join("classic.tar")).ended(0).json();
    let made = manifest(&repository.path().join("target/image"));
    assert_eq!(
        made["config"]["digest"], oci["config"]["digest"],
        "the image is the same, its layers are packed by us"
    );
    for layer in made["layers"].as_array().expect("layers") {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    }
    skopeo(
        &format!("oci:{}", at("target/image")),
        &format!("docker-archive:{}:x:1", at("unpacked.tar")),
    );
    let twice = import(&repository, &repository.path().join("unpacked.tar")).ended(0).json();
    assert_eq!(
        twice["digest"], packed["digest"],
        "what is unpacked and packed again is the same image"
    );
    assert_eq!(entries(&repository.path().join("target")), ["image"]);
}

/// Of an image for two platforms an engine pulls its own only, and saves an index that names both.
#[test]
fn an_engine_that_has_one_platform_of_two_saves_that_one() {
    let name = unique("partial");
    let repository = small(&name);
    repository.write("Dockerfile", "FROM scratch\nCOPY server.py /\n");
    let tag = format!("{}/{name}:1", stack("CICD_STACK_REGISTRY"));
    let arguments = [
        "buildx",
        "build",
        "--quiet",
        "--platform",
        "linux/amd64,linux/arm64",
        "--provenance=true",
        "--push",
    ];
    let folder = repository.path().display().to_string();
    run(Command::new("docker").args(arguments).args(["--tag", &tag, &folder])).ended(0);
    let _ = Command::new("docker").args(["rmi", "--force", &tag]).output();
    docker(&["pull", "--quiet", &tag]);
    let image = Image(tag);
    let archive = image.saved(&repository, "image.tar");
    let result = import(&repository, &archive).ended(0).json();
    assert_eq!(result["platforms"].as_array().map(Vec::len), Some(1), "{result}");
    assert_ne!(result["digest"], image.digest(), "the image of that platform, not the index");
}

/// A tar of files, made by tar itself.
fn tar(folder: &Path, file: &Path) {
    let ended = run(Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(file).arg("."));
    assert_eq!(ended.code, 0, "{ended}");
}

#[test]
fn what_is_damaged_is_refused_and_nothing_is_left() {
    let name = unique("damaged");
    let repository = small(&name);
    let good =
        Image::built(&repository, &name, &["--provenance=false"]).saved(&repository, "good.tar");
    let at = |file: &str| repository.path().join(file);
    skopeo(
        &format!("docker-archive:{}", good.display()),
        &format!("docker-archive:{}:x:1", at("classic.tar").display()),
    );
    let before = import(&repository, &good).ended(0).json()["digest"].clone();

    /// The files of `archive` in a folder, changed, in a tar again.
    fn changed(repository: &Repository, archive: &str, change: &dyn Fn(&Path)) {
        let folder = repository.path().join("unpacked");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a folder");
        let archive = repository.path().join(archive);
        run(Command::new("tar").arg("-C").arg(&folder).arg("-xf").arg(archive)).ended(0);
        run(Command::new("chmod").args(["-R", "u+w"]).arg(&folder)).ended(0);
        change(&folder);
        tar(&folder, &repository.path().join("bad.tar"));
    }
    let cut = |length: u64| {
        std::fs::copy(&good, at("bad.tar")).expect("copied");
        let file = std::fs::File::options().write(true).open(at("bad.tar")).expect("a file");
        file.set_len(length).expect("cut");
    };
    let edit = |folder: &Path, name: &str, from: &str, to: &str| {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replacen(from, to, 1)).expect("written");
    };
    /// The largest blob below a folder, or the largest layer of a classic archive.
    fn largest(folder: &Path) -> PathBuf {
        let found =
            run(Command::new("find").arg(folder).args(["-type", "f", "-printf", "%s %p\\n"]))
                .ended(0)
                .stdout;
        let mut files: Vec<(u64, &str)> = found
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(size, path)| (size.parse().expect("a size"), path))
            .collect();
        files.sort_unstable();
        PathBuf::from(files.last().expect("a file").1)
    }
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).expect("written");
    };
    let size = std::fs::metadata(&good).expect("a size").len();
    let cases: Vec<(&str, Box<dyn Fn()>, &str)> = vec![
        (
            "missing",
            Box::new(|| drop(std::fs::remove_file(at("bad.tar")))),
            "No such file or directory",
        ),
        ("empty", Box::new(|| std::fs::write(at("bad.tar"), "").expect("written")), "it is empty"),
        (
            "no tar",
            Box::new(|| std::fs::write(at("bad.tar"), "x".repeat(4096)).expect("written")),
            "it is no tar",
        ),
        ("cut in half", Box::new(|| cut(size / 2)), "truncated"),
        ("cut at the end", Box::new(|| cut(size - 20 * 512)), ""),
        ("without its end", Box::new(|| cut(size / 512 * 512 - 1024)), ""),
        (
            "compressed",
            Box::new(|| {
                let gzip = run(Command::new("sh")
                    .arg("-c")
                    .arg("gzip -1 <good.tar >bad.tar")
                    .current_dir(repository.path()));
                gzip.ended(0);
            }),
            "it is compressed",
        ),
        (
            "a flipped bit in a blob",
            Box::new(|| changed(&repository, "good.tar", &|folder| flip(&largest(folder)))),
            "have the digest",
        ),
        (
            "a blob that is gone",
            Box::new(|| {
                changed(&repository, "good.tar", &|folder| {
                    std::fs::remove_file(largest(folder)).expect("removed")
                })
            }),
            "it has no blobs/sha256/",
        ),
        (
            "a blob that is a link",
            Box::new(|| {
                changed(&repository, "good.tar", &|folder| {
                    let blob = largest(folder);
                    std::fs::remove_file(&blob).expect("removed");
                    std::os::unix::fs::symlink("/etc/passwd", blob).expect("linked");
                });
            }),
            "leads out of it",
        ),
        (
            "no image",
            Box::new(|| {
                changed(&repository, "good.tar", &|folder| {
                    std::fs::remove_file(folder.join("manifest.json")).expect("removed");
                    std::fs::remove_file(folder.join("index.json")).expect("removed");
                })
            }),
            "neither a manifest.json",
        ),
        (
            "two images",
            Box::new(|| {
                changed(&repository, "good.tar", &|folder| {
                    let text = std::fs::read_to_string(folder.join("manifest.json")).expect("text");
                    let one = text.trim().trim_start_matches('[').trim_end_matches(']').to_string();
                    std::fs::write(folder.join("manifest.json"), format!("[{one},{one}]"))
                        .expect("written");
                })
            }),
            "more than one image",
        ),
        (
            "a huge manifest.json",
            Box::new(|| {
                changed(&repository, "good.tar", &|folder| {
                    std::fs::write(folder.join("manifest.json"), vec![b' '; 5 << 20])
                        .expect("written");
                })
            }),
            "more than the",
        ),
        (
            "no JSON",
            Box::new(|| {
                changed(&repository, "good.tar", &|folder| edit(folder, "index.json", "{", "["))
            }),
            "index.json",
        ),
        (
            "another version",
            Box::new(|| {
                changed(&repository, "good.tar", &|folder| {
                    edit(folder, "oci-layout", "1.0.0", "2.0.0")
                })
            }),
            "2.0.0",
        ),
        (
            "a flipped bit in a layer",
            Box::new(|| changed(&repository, "classic.tar", &|folder| flip(&largest(folder)))),
            "the image's configuration says",
        ),
        (
            "a layer too few",
            Box::new(|| {
                changed(&repository, "classic.tar", &|folder| {
                    edit(folder, "manifest.json", "\"Layers\":[", "\"Layers\":[\"manifest.json\",")
                })
            }),
            "and its configuration",
        ),
        (
            "another configuration",
            Box::new(|| {
                changed(&repository, "classic.tar", &|folder| {
                    let text = std::fs::read_to_string(folder.join("manifest.json")).expect("text");
                    let manifest: Value = serde_json::from_str(&text).expect("JSON");
                    edit(folder, manifest[0]["Config"].as_str().expect("a name"), "amd64", "arm64");
                })
            }),
            "have the digest",
        ),
    ];
    for (name, make, why) in cases {
        make();
        let ended = import(&repository, &at("bad.tar")).ended(2);
        let error = ended.json()["error"].to_string();
        assert!(error.contains(why), "{name}: {ended}");
        assert!(
            !error.contains("target/."),
            "{name} is told of by a name that nobody knows: {ended}"
        );
        assert_eq!(entries(&at("target")), ["image"], "{name}");
        let kept: Value =
            serde_json::from_slice(&std::fs::read(at("target/image/index.json")).expect("read"))
                .expect("JSON");
        assert_eq!(kept["manifests"][0]["digest"], before, "{name}: the earlier layout stays");
    }
}

#[test]
fn an_interrupted_import_leaves_nothing_behind() {
    let name = unique("stopped");
    let repository = small(&name);
    repository.write("Dockerfile", "FROM python:3.13-slim\n");
    let image =
        Image::built(&repository, &name, &["--provenance=false"]).saved(&repository, "docker.tar");
    let classic = repository.path().join("classic.tar");
    skopeo(
        &format!("docker-archive:{}", image.display()),
        &format!("docker-archive:{}:x:1", classic.display()),
    );
    let target = repository.path().join("target");
    let writing = || {
        let folders = if target.exists() { entries(&target) } else { Vec::new() };
        folders.iter().any(|folder| target.join(folder).join("layout/blobs/sha256/layer").exists())
    };
    let mut command = cicd(repository.path());
    let (code, took) = interrupted(command.args(["build-image", "--from", "classic.tar"]), writing);
    assert_eq!(code, 130);
    assert!(took.as_secs() < 7, "{took:?}");
    assert_eq!(entries(&target), Vec::<String>::new());
}

/// The container of the action is root, in a workspace of the runner's user, whose next checkout
/// removes what it finds.
#[test]
fn what_root_makes_is_whose_the_workspace_is() {
    let name = unique("owner");
    let _removal = Removal::of(&name);
    let repository = small(&name);
    let image = Image::built(&repository, &name, &[]);
    let saved = image.saved(&repository, "saved.tar");
    let binary = env!("CARGO_BIN_EXE_cicd");
    let mine = repository.owner();
    let in_container = |user: &str, command: &str| {
        run(Command::new("docker").args([
            "run",
            "--rm",
            "--network=none",
            "--user",
            user,
            "-v",
            &format!("{}:/w", repository.path().display()),
            "-v",
            &format!("{binary}:/cicd:ro"),
            "-w",
            "/w",
            "python:3.13-slim",
            "sh",
            "-c",
            command,
        ]))
    };
    in_container("0", "chown -R 1001:1001 /w").ended(0);
    let file = saved.file_name().expect("a name").to_string_lossy().into_owned();
    let built = in_container("0", &format!("/cicd build-image --skip-contract --from {file}"));
    let removed = in_container("1001", "test -f target/image/oci-layout && rm -rf target");
    in_container("0", &format!("chown -R {mine} /w")).ended(0);
    built.ended(0);
    removed.ended(0);
}
