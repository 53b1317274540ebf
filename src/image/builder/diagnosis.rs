//! Why a build failed, in our terms. Pure: from what buildx said to an error with its place and its
//! fix.

use std::path::Path;

use super::progress::Progress;
use crate::docker::Version;
use crate::error::{Cause, Error, Kind, Place};

/// As buildx says it of whatever an engine with an older store cannot do.
const NO_LAYOUT: &str = "is not supported for the docker driver";

/// What can do all of it.
pub const OTHER_BUILDER: &str = "name an image of BuildKit that this engine can pull, \
                                 `--builder-image HOST/NAME@sha256:…`; or switch on the \
     containerd image store, in /etc/docker/daemon.json {\"features\": \
                                                           {\"containerd-snapshotter\": true}}, \
                                                           then \
     `sudo systemctl restart docker`: it is the default of a fresh Docker Engine 29";

/// The API of Docker Engine 20.10: earlier ones build without BuildKit, and buildx would start
/// somebody's latest beside them.
const OLDEST_API: (u32, u32) = (1, 41);

/// The refusal of an engine that is too old to build. What has a version that nobody can read is
/// not judged.
pub fn refuse_old_engine(found: &Version) -> Option<Error> {
    let (major, minor) = found.api.split_once('.')?;
    ((major.parse().ok()?, minor.parse().ok()?) < OLDEST_API).then(|| {
        describe_old_engine(format!(
            "this is Docker Engine {} with API {}; it takes 20.10 with API 1.41",
            found.engine, found.api
        ))
    })
}

fn describe_old_engine(why: impl std::fmt::Display) -> Error {
    Error::refused("cannot build: this Docker engine is too old").why(why).fix(
        "install a current one: https://docs.docker.com/engine/install; in GitHub Actions: \
         `runs-on: ubuntu-24.04`",
    )
}

/// Whether the builder is an engine that writes no layout. It says so before it begins.
pub fn writes_no_layout(progress: &Progress) -> bool {
    progress.text.iter().any(|line| line.starts_with("ERROR:") && line.contains(NO_LAYOUT))
}

/// As BuildKit says it of a base image, or whatever else it has to pull.
const NOT_PULLED: [&str; 5] = [
    "failed to resolve source metadata",
    "pull access denied",
    "toomanyrequests",
    "failed to authorize",
    "failed to copy: httpReadSeeker",
];

/// Whether an image that the build needs could not be pulled.
pub fn is_not_pulled(progress: &Progress) -> bool {
    find_last_error(progress).is_some_and(|line| NOT_PULLED.iter().any(|text| line.contains(text)))
}

/// The last thing that went wrong, in buildx's words.
pub fn find_last_error(progress: &Progress) -> Option<&str> {
    progress.text.iter().rev().find_map(|line| line.strip_prefix("ERROR: "))
}

/// Whether some disk was full.
pub fn is_disk_full(progress: &Progress) -> bool {
    progress
        .text
        .iter()
        .any(|line| line.starts_with("ERROR:") && line.contains("no space left on device"))
}

/// Why a cache could not even be looked at, when the build failed for that: BuildKit lets no other
/// failure of a cache stop it.
pub fn find_cache_refusal(progress: &Progress) -> Option<&str> {
    let line = progress.text.iter().rev().find(|line| line.starts_with("ERROR:"))?;
    let of_cache = ["cache exporter", "cache importer"].iter().any(|what| line.contains(what));
    (of_cache && line.contains("failed to configure"))
        .then(|| line.rsplit("failed to solve: ").next())?
}

/// The error for a build that failed. `dockerfile` is its path as people know it, `exit` how buildx
/// ended.
pub fn explain_failure(
    progress: &Progress,
    dockerfile: &Path,
    target: Option<&str>,
    exit: &str,
) -> Error {
    let last = progress.text.iter().rposition(|line| line.starts_with("ERROR:"));
    // What follows the last ERROR: are its further lines.
    let said = last.map(|last| progress.text[last..].join("\n")).unwrap_or_default();
    let why = said
        .trim_start_matches("ERROR: ")
        .trim_start_matches("failed to build: ")
        .trim_start_matches("failed to solve: ");
    let has = |texts: &[&str]| texts.iter().any(|text| why.contains(text));
    let line = find_line(&progress.text, dockerfile);
    let with_place = |error: Error| match line {
        Some(line) => error.at(Place { file: dockerfile.to_path_buf(), line, column: 1 }),
        None => error,
    };

    if has(&[
        "Cannot connect to the Docker daemon",
        "failed to connect to the docker API",
        "permission denied while trying to connect",
    ]) {
        return Error::refused("cannot build: no Docker engine answers").why(why).fix(
            "start Docker (`sudo systemctl start docker`, or Docker Desktop), or name its socket \
             in DOCKER_HOST; in GitHub \
             Actions use a Linux runner: `runs-on: ubuntu-24.04`",
        );
    }
    if has(&[NO_LAYOUT]) {
        return Error::refused(
            "cannot build: this Docker engine keeps images in its older store, which cannot do \
             that",
        )
        .why(why)
        .fix(OTHER_BUILDER);
    }
    if has(&["is too new. Maximum supported API version"]) {
        return describe_old_engine(why);
    }
    if has(&["unknown flag", "unknown output type"]) {
        return Error::refused("cannot build: this buildx is too old")
            .why(why)
            .fix("update the package docker-buildx-plugin to 0.13 or later");
    }
    if has(&["failed to read dockerfile"]) {
        return Error::input(format!("cannot build: there is no {}", dockerfile.display()))
            .why(why)
            .fix(
                "add it, or say where it is: `image: {context: ., dockerfile: Dockerfile}` in \
             service.yaml, relative to the context",
            );
    }
    if let Some(target) = target
        && has(&["target stage"])
    {
        return Error::input(format!(
            "cannot build: {} has no stage `{target}`",
            dockerfile.display()
        ))
        .why(why)
        .fix(format!(
            "name a stage: `FROM … AS {target}`, or change `image.target` in service.yaml"
        ));
    }
    if has(&["no space left on device"]) {
        return Error::refused("cannot build: the disk of the Docker engine is full")
            .why(why)
            .fix("make room: `docker system prune`");
    }
    if has(&["exec format error"]) {
        return with_place(Error::refused("cannot build: this machine runs no programs of one of \
                                          image.platforms").why(why).fix(
            "build on a runner of that platform, or let it emulate: docker run --privileged --rm \
             tonistiigi/binfmt --install all",
        ));
    }
    if has(&NOT_PULLED) {
        let fix = if has(&[
            "pull access denied",
            "failed to authorize",
            "unauthorized",
            "403 Forbidden",
            "not found",
        ]) {
            "see that the name and tag in FROM are right, and log in to its registry first: \
             `docker login HOST`"
        } else if has(&["toomanyrequests", "429"]) {
            "log in (`docker login`), or take the image from a mirror: \
             public.ecr.aws/docker/library/…"
        } else {
            "see that this machine reaches the registry, then run it again"
        };
        return with_place(
            Error::refused("cannot build: a base image cannot be pulled").why(why).fix(fix),
        );
    }

    let Some(failed) = &progress.failed else {
        if line.is_some() || said.contains("failed to solve") || said.contains("failed to build") {
            let error = Error::input(format!("cannot build {}", dockerfile.display())).why(why);
            return with_place(
                error.fix("correct what it names; `docker buildx build` says the same"),
            );
        }
        let tail = progress.text.join("\n");
        let why = if tail.is_empty() { exit.to_string() } else { format!("{exit}\n{tail}") };
        return Error::new(Kind::Unexpected, "cannot build: buildx failed").why(why);
    };
    let exit_code =
        failed.error.rsplit_once("exit code: ").and_then(|(_, code)| code.trim().parse().ok());
    let fix = if has(&["failed to calculate checksum", "not found"]) {
        "see that the file is in the build context, and that .dockerignore does not leave it out"
    } else {
        "correct this step of the Dockerfile; its last lines are above"
    };
    let cause = Cause {
        code: None,
        object: failed.step.clone(),
        reason: failed.error.clone(),
        exit_code,
        log_tail: failed.log_tail.clone(),
        fix: None,
    };
    let error = Error::input(format!("cannot build {}: {}", dockerfile.display(), failed.step))
        .causes(vec![cause]);
    with_place(error.fix(fix))
}

/// The line that buildx names: `Dockerfile:12`, alone on a line.
fn find_line(text: &[String], dockerfile: &Path) -> Option<u64> {
    let name = dockerfile.file_name()?.to_str()?;
    text.iter().find_map(|line| {
        let (file, number) = line.trim().rsplit_once(':')?;
        (Path::new(file).file_name()?.to_str()? == name).then(|| number.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> Error {
        let mut progress = Progress::default();
        for line in lines {
            progress.line(line);
        }
        explain_failure(
            &progress,
            Path::new("service/Dockerfile"),
            Some("runtime"),
            "exit status: 1",
        )
    }

    #[test]
    fn what_buildx_says_is_told_apart() {
        let cases: &[(&str, u8, &str, &str)] = &[
            (
                "ERROR: Cannot connect to the Docker daemon at unix:///nope. Is the docker daemon \
                 running?",
                3,
                "no Docker engine",
                "systemctl start docker",
            ),
            (
                "ERROR: failed to build: OCI exporter is not supported for the docker \
                 driver.\nSwitch to a different driver",
                3,
                "older store",
                "containerd-snapshotter",
            ),
            (
                "ERROR: failed to build: failed to solve: failed to read dockerfile: open \
                 Dockerfile: no such file or directory",
                2,
                "there is no service/Dockerfile",
                "dockerfile: Dockerfile",
            ),
            (
                "ERROR: failed to build: failed to solve: target stage \"runtime\" could not be \
                 found",
                2,
                "no stage `runtime`",
                "FROM … AS runtime",
            ),
            (
                "ERROR: failed to build: failed to solve: x.invalid/y:1: failed to resolve source \
                 metadata for x.invalid/y:1: failed to do request: Head \"https://x.invalid/v2/\": \
                 dial tcp: lookup x.invalid: no such host",
                3,
                "base image",
                "reaches the registry",
            ),
            (
                "ERROR: failed to build: failed to solve: nope: failed to resolve source metadata \
                 for docker.io/library/nope:latest: pull access denied, repository does not exist \
                 or may require authorization",
                3,
                "base image",
                "docker login",
            ),
            (
                "ERROR: failed to build: failed to solve: python:3: failed to resolve source \
                 metadata: toomanyrequests: You have reached your pull rate limit",
                3,
                "base image",
                "mirror",
            ),
            (
                "ERROR: failed to build: failed to solve: dockerfile parse error on line 2: \
                 unknown instruction: RUMM (did you mean RUN?)",
                2,
                "cannot build service/Dockerfile",
                "correct",
            ),
            (
                "ERROR: failed to build: Error response from daemon: client version 1.52 is too \
                 new. Maximum supported API version is 1.43",
                3,
                "engine is too old",
                "install a current one",
            ),
            ("ERROR: unknown flag: --sbom", 3, "too old", "docker-buildx-plugin"),
            (
                "ERROR: failed to build: failed to solve: write /x: no space left on device",
                3,
                "full",
                "prune",
            ),
            (
                "ERROR: failed to build: failed to solve: secret npm: not found",
                2,
                "cannot build service/Dockerfile",
                "correct",
            ),
            ("", 1, "buildx failed", ""),
            ("panic: something else", 1, "buildx failed", ""),
        ];
        for (text, code, message, fix) in cases {
            let error = told(&text.lines().collect::<Vec<_>>());
            assert_eq!(error.kind.exit_code(), *code, "{text}: {error}");
            assert!(error.message.contains(message), "{text}: {error}");
            assert!(error.advice().contains(fix), "{text}: {:?}", error.fixes);
        }
    }

    #[test]
    fn an_engine_is_judged_by_its_api() {
        let cases = [
            ("1.24", true),
            ("1.40", true),
            ("1.41", false),
            ("1.52", false),
            ("2.0", false),
            ("", false),
            ("x.y", false),
        ];
        for (api, old) in cases {
            let found = Version { engine: "19.03.15".into(), api: api.into() };
            let error = refuse_old_engine(&found);
            assert_eq!(error.is_some(), old, "{api}");
            assert!(error.is_none_or(
                |error| error.kind.exit_code() == 3 && error.to_string().contains("19.03.15")
            ));
        }
    }

    #[test]
    fn a_failing_step_has_its_line_its_exit_code_and_its_log() {
        let error = told(&[
            r#"{"vertexes":[{"digest":"c","name":"[2/2] RUN false"}]}"#,
            r#"{"logs":[{"vertex":"c","stream":2,"data":"b25lCnR3bwo="}]}"#,
            r#"{"vertexes":[{"digest":"c","completed":"t","error":"process \"/bin/sh -c false\" did not complete successfully: exit code: 7"}]}"#,
            "Dockerfile:5",
            "--------------------",
            "   5 | >>> RUN false",
            "--------------------",
            "ERROR: failed to build: failed to solve: process \"/bin/sh -c false\" did not \
             complete successfully: exit code: 7",
        ]);
        assert_eq!(error.kind, Kind::Input);
        assert_eq!(
            error.place.as_ref().map(Place::to_string).as_deref(),
            Some("service/Dockerfile:5:1")
        );
        assert!(
            error.message.ends_with("cannot build service/Dockerfile: [2/2] RUN false"),
            "{error}"
        );
        assert_eq!(error.causes[0].exit_code, Some(7));
        assert_eq!(error.causes[0].log_tail, ["one", "two"]);
    }

    #[test]
    fn a_cache_that_stops_a_build_is_told_from_other_failures() {
        let refused = |text: &str| {
            let mut progress = Progress::default();
            text.lines().for_each(|line| drop(progress.line(line)));
            find_cache_refusal(&progress).map(str::to_string)
        };
        let why = "failed to configure gha cache exporter: invalid token without expiration time";
        assert_eq!(
            refused(&format!("ERROR: failed to build: failed to solve: {why}")).as_deref(),
            Some(why)
        );
        assert_eq!(
            refused(&format!("{why}\nERROR: failed to build: failed to solve: target stage")),
            None
        );
        assert_eq!(refused(""), None);
    }

    /// Warnings of other steps come as ERROR: lines too; the last one is the reason.
    #[test]
    fn the_last_error_is_the_reason() {
        let error = told(&[
            "ERROR: (*service).Write failed: rpc error: code = Unavailable desc = ref locked",
            "ERROR: failed to build: failed to solve: target stage \"runtime\" could not be found",
        ]);
        assert!(error.message.contains("no stage"), "{error}");
    }
}
