//! The build after a change: what did not change is built, packed and pushed no more, although every
//! commit has a time, a revision and a version of its own.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::{EVERYWHERE, build, config, server, service};
use crate::support::{Repository, cicd, run, stack, unique};

/// 1980-01-01.
const EPOCH: u64 = 315_532_800;

const DOCKERFILE: &str = "\
FROM python:3.13-slim
WORKDIR /app
COPY requirements.txt ./
RUN date +%N >before; head -c 2000000 /dev/urandom >dependencies; touch -d 1979-06-01 old
COPY server.py ./
ARG VERSION=none
ARG REVISION=none
ENV SERVICE_VERSION=${VERSION} SERVICE_REVISION=${REVISION}
CMD [\"python3\", \"server.py\"]
";

fn changing(name: &str) -> Repository {
    let repository = service(name, &server("", EVERYWHERE), "");
    repository.write("Dockerfile", DOCKERFILE);
    repository.write("requirements.txt", "fastapi\n");
    repository.git(&["add", "-A"]);
    repository.commit("feat: dependencies");
    repository
}

/// Commits a change of one line, an hour later than the commit before.
fn change(repository: &Repository, number: u32) {
    repository.write("server.py", &server(&format!("number = {number}"), EVERYWHERE));
    let date = format!("2026-11-02T{number:02}:00:00Z");
    repository.git(&["add", "-A"]);
    let commit = ["commit", "--quiet", "--message", "fix: one line", "--date", &date];
    let mut git = std::process::Command::new("git");
    git.current_dir(repository.path()).env("GIT_COMMITTER_DATE", &date);
    run(git.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]).args(commit)).ended(0);
}

/// The digests of the layers of the one image in a layout.
pub fn layers(layout: &Path) -> Vec<String> {
    let read = |path: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON")
    };
    let root = &read(&layout.join("index.json"))["manifests"][0];
    let digest = root["digest"].as_str().expect("a digest").replace(':', "/");
    let manifest = read(&layout.join("blobs").join(digest));
    let layers = manifest["layers"].as_array().expect("layers").iter();
    layers.map(|layer| layer["digest"].as_str().expect("a digest").to_string()).collect()
}

/// The times of the files in a layer.
fn times(layout: &Path, digest: &str) -> Vec<u64> {
    let file = std::fs::File::open(layout.join("blobs").join(digest.replace(':', "/")));
    let mut tar = Vec::new();
    flate2::read::MultiGzDecoder::new(file.expect("a layer")).read_to_end(&mut tar).expect("gzip");
    let mut archive = tar::Archive::new(&*tar);
    let entries = archive.entries().expect("entries");
    entries.map(|entry| entry.expect("an entry").header().mtime().expect("a time")).collect()
}

#[test]
fn a_change_of_one_line_makes_one_new_layer_and_moves_nothing_else() {
    let name = unique("second");
    let repository = changing(&name);
    let layout = repository.path().join("target/image");
    let at = format!("{}/tests/{name}", stack("CICD_STACK_REGISTRY"));
    let push = |tag: &str| {
        let mut push = cicd(repository.path());
        push.args(["push-ecr", "--output", "json", "--repository", &at, "--tag", tag]);
        run(&mut push).ended(0).json()["uploaded-bytes"].as_u64().expect("a number")
    };
    let first = build(&repository, &["--skip-contract", "--version", "1.0.0"]).ended(0).json();
    push("1.0.0");
    let mut before = layers(&layout);
    for number in 1..4_u32 {
        change(&repository, number);
        let version = format!("1.0.{number}");
        let built = build(&repository, &["--skip-contract", "--version", &version]).ended(0);
        assert_ne!(built.json()["digest"], first["digest"]);
        for step in ["WORKDIR /app", "RUN date"] {
            let line = built.stderr.lines().find(|line| line.contains(step)).unwrap_or_default();
            assert!(line.contains("(cached)"), "{step}: {built}");
        }
        let now = layers(&layout);
        let last = now.len() - 1;
        assert_eq!((&now[..last], now[last] == before[last]), (&before[..last], false));
        assert!(push(&version) < 20_000, "the line and what says of it");
        before = now;
        let config = config(&layout);
        let created = &config["config"]["Labels"]["org.opencontainers.image.created"];
        assert_eq!(*created, format!("2026-11-02T{number:02}:00:00Z"), "the commit's own time");
        assert_eq!(config["created"], "1980-01-01T00:00:00Z");
    }
    // The base's layers are as they came, those of before its time keep it.
    let count = config(&layout)["history"].as_array().expect("steps").len();
    assert!(count > before.len(), "the base has steps");
    let own: Vec<Vec<u64>> =
        before[before.len() - 4..].iter().map(|layer| times(&layout, layer)).collect();
    assert!(own.iter().flatten().all(|time| *time <= EPOCH), "{own:?}");
    assert!(own[2].contains(&EPOCH) && own[2].contains(&297_043_200), "{:?}", own[2]);
    assert!(times(&layout, &before[0]).iter().any(|time| *time > EPOCH));

    // Nobody remembers: the layers are rewritten anew, to the same.
    let cache = tempfile::tempdir().expect("a folder");
    for place in ["again", "again", "elsewhere"] {
        let mut again = cicd(repository.path());
        again.args(["build-image", "--skip-contract", "--version", "1.0.3", "--layout", place]);
        run(again.env("XDG_CACHE_HOME", cache.path())).ended(0);
        assert_eq!(layers(&repository.path().join(place)), before, "{place}");
    }
}

#[test]
fn a_layer_that_somebody_put_into_the_earlier_layout_is_not_taken() {
    let repository = changing(&unique("planted"));
    let layout = repository.path().join("target/image");
    build(&repository, &["--skip-contract"]).ended(0);
    let before = layers(&layout);
    let planted = layout.join("blobs").join(before[before.len() - 2].replace(':', "/"));
    let size = std::fs::metadata(&planted).expect("a layer").len();
    std::fs::remove_file(&planted).expect("removed");
    std::fs::write(&planted, vec![7; usize::try_from(size).expect("a size")]).expect("written");
    change(&repository, 1);
    build(&repository, &["--skip-contract"]).ended(0);
    assert_eq!(layers(&layout)[..before.len() - 1], before[..before.len() - 1]);
    let sum = run(std::process::Command::new("sha256sum").arg(&planted)).ended(0).stdout;
    assert!(before[before.len() - 2].ends_with(sum.split(' ').next().expect("a sum")));
}
