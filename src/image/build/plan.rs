//! The arguments that buildx is given. Pure.
//!
//! <https://docs.docker.com/reference/cli/docker/buildx/build/>

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Request;
use crate::error::{Error, Result};

/// Annotations of images, as the OCI names them.
/// <https://github.com/opencontainers/image-spec/blob/main/annotations.md>
const ANNOTATION: &str = "org.opencontainers.image";

/// The buildx arguments that [`super::build`] uses, writing to the layout of the request. They are run in the folder of
/// service.yaml.
///
/// # Errors
/// Bad input when the commit has no time that can be written.
pub fn plan(request: &Request) -> Result<Vec<String>> {
    arguments(request, &request.layout)
}

/// [`plan`], writing to `output`.
pub fn arguments(request: &Request, output: &Path) -> Result<Vec<String>> {
    let Request { image, head, .. } = request;
    let created = jiff::Timestamp::from_second(head.time).map_err(|error| {
        Error::input(format!("commit {} has the time {}", head.revision, head.time))
            .why(error)
            .fix("the image is labelled with its commit's time: commit again with a clock that is right")
    })?;
    let mut arguments = vec!["build".to_string(), "--progress".into(), "rawjson".into()];
    let mut add = |flag: &str, value: String| arguments.extend([flag.to_string(), value]);

    // The layout is one image: provenance would make an index of it, whose digest changes with every build and which
    // Lambda refuses. Timestamps in layers are the commit's, so that one commit makes one digest.
    add("--output", format!("type=oci,tar=false,rewrite-timestamp=true,{}", field("dest", output)));
    add("--provenance", "false".into());
    add("--sbom", "false".into());
    let platforms: Vec<&str> = image.platforms.iter().map(|platform| platform.as_str()).collect();
    add("--platform", platforms.join(","));
    if let Some(target) = &image.target {
        add("--target", target.clone());
    }
    let mut values = BTreeMap::from([
        ("SOURCE_DATE_EPOCH", head.time.to_string()),
        ("VERSION", request.version.clone()),
        ("REVISION", head.revision.clone()),
    ]);
    values.extend(image.build_args.iter().map(|(name, value)| (name.as_str(), value.clone())));
    for (name, value) in values {
        add("--build-arg", format!("{name}={value}"));
    }
    let labels = [
        ("title", Some(request.name.clone())),
        ("version", Some(request.version.clone())),
        ("revision", Some(head.revision.clone())),
        ("created", Some(created.to_string())),
        ("source", head.source.clone()),
    ];
    for (name, value) in labels {
        if let Some(value) = value {
            add("--label", format!("{ANNOTATION}.{name}={value}"));
        }
    }
    for secret in &image.build_secrets {
        add("--secret", secret.clone());
    }
    if request.no_cache {
        arguments.push("--no-cache".into());
    }
    arguments.extend(["--file".into(), text(&dockerfile(request)), text(&here(&image.context))]);
    Ok(arguments)
}

/// The Dockerfile, relative to the folder of service.yaml.
pub fn dockerfile(request: &Request) -> PathBuf {
    here(&request.image.context.join(&request.image.dockerfile))
}

/// A relative path that nothing takes for a flag or for the address of a repository.
fn here(path: &Path) -> PathBuf {
    match path {
        path if path.is_absolute() || path == Path::new(".") => path.to_path_buf(),
        path => Path::new(".").join(path.strip_prefix(".").unwrap_or(path)),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `key=value` as one field of a flag that is read as CSV.
fn field(key: &str, path: &Path) -> String {
    let field = format!("{key}={}", text(path));
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

/// Where a build secret's value comes from: the environment variable or the file that `id=…,env=…` or `id=…,src=…` names.
#[derive(Debug, PartialEq, Eq)]
pub enum SecretSource {
    Variable(String),
    File(PathBuf),
}

/// Reads an entry of `image.build-secrets`.
///
/// # Errors
/// Bad input when it has no id, or not exactly one source.
pub fn secret(entry: &str) -> Result<SecretSource> {
    let wrong = |why: &str| {
        Error::input(format!("image.build-secrets has `{entry}`")).why(why).fix(
            "write `id=npm,env=NPM_TOKEN` or `id=npm,src=FILE`, and in the Dockerfile `RUN --mount=type=secret,id=npm …`",
        )
    };
    let (mut id, mut sources) = (None, Vec::new());
    for part in entry.split(',') {
        match part.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            Some((_, "")) | None => return Err(wrong(&format!("`{part}` is not key=value"))),
            Some(("id", value)) => id = Some(value),
            Some(("env", value)) => sources.push(SecretSource::Variable(value.to_string())),
            Some(("src" | "source", value)) => sources.push(SecretSource::File(value.into())),
            Some(("type", "env" | "file")) => {}
            Some((key, _)) => return Err(wrong(&format!("it has no key `{key}`"))),
        }
    }
    match (id, sources.len()) {
        (Some(_), 1) => Ok(sources.remove(0)),
        (None, _) => Err(wrong("it has no id")),
        (Some(_), _) => Err(wrong("it names not exactly one of env and src")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::service::Image;
    use crate::git::Head;

    fn request(image: Image) -> Request {
        Request {
            name: "patients".into(),
            folder: "service".into(),
            image,
            head: Head {
                revision: "4f1c".repeat(10),
                time: 1_793_534_400,
                branch: None,
                source: Some("https://github.com/clinicult/patients".into()),
                root: "/".into(),
            },
            version: "1.4.0".into(),
            layout: "target/image".into(),
            no_cache: false,
        }
    }

    #[test]
    fn the_whole_command() {
        let planned = plan(&request(Image::default())).expect("a plan");
        let expected = "build --progress rawjson \
            --output type=oci,tar=false,rewrite-timestamp=true,dest=target/image --provenance false --sbom false \
            --platform linux/amd64 \
            --build-arg REVISION=4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c \
            --build-arg SOURCE_DATE_EPOCH=1793534400 --build-arg VERSION=1.4.0 \
            --label org.opencontainers.image.title=patients --label org.opencontainers.image.version=1.4.0 \
            --label org.opencontainers.image.revision=4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c \
            --label org.opencontainers.image.created=2026-11-01T12:00:00Z \
            --label org.opencontainers.image.source=https://github.com/clinicult/patients \
            --file ./Dockerfile .";
        assert_eq!(planned.join(" "), expected);
    }

    /// Whether `parts` stand one after the other in the plan.
    fn has(planned: &[String], parts: &[&str]) -> bool {
        planned.windows(parts.len()).any(|window| window == parts)
    }

    #[test]
    fn what_service_yaml_says_is_passed_on() {
        let image: Image = serde_json::from_value(serde_json::json!({
            "context": "-rf", "dockerfile": "docker/Dockerfile", "target": "runtime",
            "platforms": ["linux/amd64", "linux/arm64"],
            "build-args": { "VERSION": "mine", "A": "b c" },
            "build-secrets": ["id=npm,env=NPM_TOKEN"],
        }))
        .expect("an image");
        let planned = plan(&Request { no_cache: true, layout: "a,\"b".into(), ..request(image) }).expect("a plan");
        let parts: &[&[&str]] = &[
            &["--platform", "linux/amd64,linux/arm64"],
            &["--target", "runtime"],
            &["--build-arg", "VERSION=mine"],
            &["--build-arg", "A=b c"],
            &["--secret", "id=npm,env=NPM_TOKEN"],
            &["--no-cache"],
            &["--output", "type=oci,tar=false,rewrite-timestamp=true,\"dest=a,\"\"b\""],
            &["--file", "./-rf/docker/Dockerfile", "./-rf"],
        ];
        for parts in parts {
            assert!(has(&planned, parts), "{parts:?} in {planned:?}");
        }
        assert!(!has(&planned, &["--build-arg", "VERSION=1.4.0"]), "the service's own build argument wins");
    }

    #[test]
    fn a_commit_without_a_possible_time_is_bad_input() {
        let mut request = request(Image::default());
        request.head.time = i64::MAX;
        assert_eq!(plan(&request).expect_err("no time").kind.exit_code(), 2);
    }

    #[test]
    fn build_secrets_have_one_source() {
        let variable = |name: &str| Ok(SecretSource::Variable(name.into()));
        let file = |name: &str| Ok(SecretSource::File(name.into()));
        let cases = [
            ("id=npm,env=NPM_TOKEN", variable("NPM_TOKEN")),
            ("type=env,id=npm,env=NPM_TOKEN", variable("NPM_TOKEN")),
            ("id=npm, src=.npmrc", file(".npmrc")),
            ("id=npm,source=.npmrc", file(".npmrc")),
            ("env=NPM_TOKEN", Err("it has no id")),
            ("id=npm", Err("it names not exactly one of env and src")),
            ("id=npm,env=A,src=b", Err("it names not exactly one of env and src")),
            ("npm", Err("`npm` is not key=value")),
            ("id=npm,env=", Err("`env=` is not key=value")),
            ("id=npm,value=secret", Err("it has no key `value`")),
            ("", Err("`` is not key=value")),
        ];
        for (entry, expected) in cases {
            let read = secret(entry).map_err(|error| error.why.unwrap_or_default());
            assert_eq!(read, expected.map_err(str::to_string), "{entry}");
        }
    }
}
