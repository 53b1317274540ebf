//! The arguments that buildx is given. Pure.
//!
//! <https://docs.docker.com/reference/cli/docker/buildx/build/>

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Request;
use crate::config::service::{Provenance, Pull};
use crate::config::values::Cache;
use crate::error::{Error, Result};

/// Annotations of images, as the OCI names them.
/// <https://github.com/opencontainers/image-spec/blob/main/annotations.md>
const ANNOTATION: &str = "org.opencontainers.image";

/// The buildx arguments that [`super::build`] uses, writing to the layout of the request. They are run in the folder of
/// service.yaml.
///
/// # Errors
/// Bad input when the commit has no time that can be written.
pub fn plan(request: &Request, way: &Way) -> Result<Vec<String>> {
    arguments(request, &request.layout, way)
}

/// How this build is done, from what the engine and the environment are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    pub cache: Option<Backend>,
    /// The image is built into the engine and taken from there, for engines that write no layout. They write no attestations
    /// either, and build for one platform.
    pub engine: Option<Engine>,
}

/// Where an engine puts the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    pub tag: String,
    /// The file that gets the image's identifier.
    pub identifier: PathBuf,
}

/// Where the build's steps are kept from one run to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// <https://docs.docker.com/build/cache/backends/gha/>; where it is and the token for it come by the environment.
    Gha,
    /// <https://docs.docker.com/build/cache/backends/registry/>
    Registry { reference: String },
    /// <https://docs.docker.com/build/cache/backends/local/>. It is written anew, as one that is added to grows for ever.
    Local { from: PathBuf, to: PathBuf },
}

/// Which cache is used. `has_gha`: GitHub's runner said where its cache is, and gave a token.
pub fn backend(cache: &Cache, has_gha: bool) -> Option<Backend> {
    match cache {
        Cache::Auto | Cache::Gha if has_gha => Some(Backend::Gha),
        Cache::Auto | Cache::Gha | Cache::Off => None,
        Cache::Registry { reference } => Some(Backend::Registry { reference: reference.clone() }),
        Cache::Local { folder } => Some(Backend::Local { from: folder.into(), to: format!("{folder}.new").into() }),
    }
}

/// [`plan`], writing to `output`.
pub fn arguments(request: &Request, output: &Path, way: &Way) -> Result<Vec<String>> {
    let Request { image, head, .. } = request;
    let labels = annotations(request)?;
    let mut arguments = vec!["build".to_string(), "--progress".into(), "rawjson".into()];
    let mut add = |flag: &str, value: String| arguments.extend([flag.to_string(), value]);

    // Timestamps in layers are the commit's, so that one commit makes one digest.
    match &way.engine {
        None => {
            // Without a name, what the build says of the image would not say of which.
            let name = &request.name;
            add("--output", format!("type=oci,tar=false,rewrite-timestamp=true,name={name},{}", field("dest", output)));
            add("--provenance", provenance(image.provenance).into());
            match &image.sbom {
                Some(generator) => add("--attest", format!("type=sbom,generator={generator}")),
                None => add("--sbom", "false".into()),
            }
        }
        Some(Engine { tag, identifier }) => {
            add("--output", format!("type=docker,name={tag}"));
            add("--iidfile", text(identifier));
            add("--provenance", "false".into());
            add("--sbom", "false".into());
        }
    }
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
    for (name, value) in &labels {
        add("--label", format!("{name}={value}"));
    }
    // An index can be annotated only where there is one.
    let level = if image.platforms.len() > 1 { "index,manifest" } else { "manifest" };
    for (name, value) in &labels {
        add("--annotation", format!("{level}:{name}={value}"));
    }
    for secret in &image.build_secrets {
        add("--secret", secret.clone());
    }
    for ssh in &image.ssh {
        add("--ssh", ssh.clone());
    }
    for (name, context) in &image.contexts {
        let context = context.as_str();
        let context = if context.contains("://") { context.to_string() } else { text(&here(Path::new(context))) };
        add("--build-context", format!("{name}={context}"));
    }
    for (host, address) in &image.extra_hosts {
        add("--add-host", format!("{host}={address}"));
    }
    if let Some(backend) = &way.cache {
        let (from, to) = cache(backend, &request.name);
        add("--cache-from", from);
        add("--cache-to", to);
    }
    if image.pull == Pull::Always {
        arguments.push("--pull".into());
    }
    if request.no_cache {
        arguments.push("--no-cache".into());
    }
    arguments.extend(["--file".into(), text(&dockerfile(request)), text(&here(&image.context))]);
    Ok(arguments)
}

fn provenance(provenance: Provenance) -> &'static str {
    match provenance {
        Provenance::Off => "false",
        Provenance::Min => "mode=min",
        Provenance::Max => "mode=max",
    }
}

/// The annotations of the image's manifest: its labels.
///
/// # Errors
/// As [`plan`].
pub fn annotations(request: &Request) -> Result<Vec<(String, String)>> {
    Ok(labels(request, &created(request)?))
}

fn created(request: &Request) -> Result<String> {
    let head = &request.head;
    let created = jiff::Timestamp::from_second(head.time).map_err(|error| {
        Error::input(format!("commit {} has the time {}", head.revision, head.time))
            .why(error)
            .fix("the image is labelled with its commit's time: commit again with a clock that is right")
    })?;
    Ok(created.to_string())
}

/// What every image says of itself, and what the service adds; where both have a name, the service's value.
fn labels(request: &Request, created: &str) -> Vec<(String, String)> {
    let head = &request.head;
    let own = [
        ("title", Some(request.name.clone())),
        ("version", Some(request.version.clone())),
        ("revision", Some(head.revision.clone())),
        ("created", Some(created.to_string())),
        ("source", head.source.clone()),
    ];
    let own = own.into_iter().filter_map(|(name, value)| Some((format!("{ANNOTATION}.{name}"), value?)));
    let added = &request.image.labels;
    let is_added = |name: &str| added.keys().any(|added| added.as_str() == name);
    let own = own.filter(|(name, _)| !is_added(name));
    own.chain(added.iter().map(|(name, value)| (name.to_string(), value.clone()))).collect()
}

/// Where steps are looked for, and where they are kept. What cannot be kept fails no build.
fn cache(backend: &Backend, name: &str) -> (String, String) {
    match backend {
        // Services of one repository do not write over each other's.
        Backend::Gha => (format!("type=gha,scope={name}"), format!("type=gha,scope={name},mode=max,ignore-error=true")),
        Backend::Registry { reference } => (
            format!("type=registry,ref={reference}"),
            format!("type=registry,ref={reference},mode=max,image-manifest=true,oci-mediatypes=true,ignore-error=true"),
        ),
        Backend::Local { from, to } => (
            format!("type=local,{}", field("src", from)),
            format!("type=local,{},mode=max,ignore-error=true", field("dest", to)),
        ),
    }
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
pub(super) mod tests {
    use super::*;
    use crate::config::service::Image;
    use crate::git::Head;

    pub fn request(image: Image) -> Request {
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
            timeout: std::time::Duration::from_secs(60),
        }
    }

    #[test]
    fn the_whole_command() {
        let planned = plan(&request(Image::default()), &Way::default()).expect("a plan");
        let expected = "build --progress rawjson \
            --output type=oci,tar=false,rewrite-timestamp=true,name=patients,dest=target/image --provenance false --sbom false \
            --platform linux/amd64 \
            --build-arg REVISION=4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c \
            --build-arg SOURCE_DATE_EPOCH=1793534400 --build-arg VERSION=1.4.0 \
            --label org.opencontainers.image.title=patients --label org.opencontainers.image.version=1.4.0 \
            --label org.opencontainers.image.revision=4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c \
            --label org.opencontainers.image.created=2026-11-01T12:00:00Z \
            --label org.opencontainers.image.source=https://github.com/clinicult/patients \
            --annotation manifest:org.opencontainers.image.title=patients \
            --annotation manifest:org.opencontainers.image.version=1.4.0 \
            --annotation manifest:org.opencontainers.image.revision=4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c \
            --annotation manifest:org.opencontainers.image.created=2026-11-01T12:00:00Z \
            --annotation manifest:org.opencontainers.image.source=https://github.com/clinicult/patients \
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
            "build-secrets": ["id=npm,env=NPM_TOKEN"], "ssh": ["default", "id=keys/deploy"],
            "contexts": { "shared": "../shared", "alpine": "docker-image://alpine@sha256:0" },
            "extra-hosts": { "db.internal": "10.0.0.7" }, "pull": "always",
            "labels": { "org.example.team": "a b", "org.opencontainers.image.title": "mine" },
        }))
        .expect("an image");
        let request = Request { no_cache: true, layout: "a,\"b".into(), ..request(image) };
        let planned = plan(&request, &Way::default()).expect("a plan");
        let parts: &[&[&str]] = &[
            &["--platform", "linux/amd64,linux/arm64"],
            &["--target", "runtime"],
            &["--build-arg", "VERSION=mine"],
            &["--build-arg", "A=b c"],
            &["--secret", "id=npm,env=NPM_TOKEN"],
            &["--ssh", "default", "--ssh", "id=keys/deploy"],
            &["--build-context", "shared=./../shared", "--build-context", "alpine=docker-image://alpine@sha256:0"],
            &["--add-host", "db.internal=10.0.0.7"],
            &["--pull"],
            &["--label", "org.example.team=a b"],
            &["--label", "org.opencontainers.image.title=mine"],
            &["--annotation", "index,manifest:org.example.team=a b"],
            &["--no-cache"],
            &["--output", "type=oci,tar=false,rewrite-timestamp=true,name=patients,\"dest=a,\"\"b\""],
            &["--file", "./-rf/docker/Dockerfile", "./-rf"],
        ];
        for parts in parts {
            assert!(has(&planned, parts), "{parts:?} in {planned:?}");
        }
        assert!(!has(&planned, &["--build-arg", "VERSION=1.4.0"]), "the service's own build argument wins");
        assert!(!has(&planned, &["--label", "org.opencontainers.image.title=patients"]), "and its own label");
    }

    #[test]
    fn an_engine_that_writes_no_layout_gets_the_image_itself() {
        let image: Image =
            serde_json::from_value(serde_json::json!({ "sbom": "scanner@sha256:0", "provenance": "min" }))
                .expect("an image");
        let engine = Some(Engine { tag: "cicd.local/patients:latest".into(), identifier: "id".into() });
        let planned = plan(&request(image.clone()), &Way { cache: None, engine }).expect("a plan");
        assert!(has(&planned, &["--output", "type=docker,name=cicd.local/patients:latest", "--iidfile", "id"]));
        assert!(has(&planned, &["--provenance", "false", "--sbom", "false"]), "{planned:?}");
        let planned = plan(&request(image), &Way::default()).expect("a plan");
        assert!(has(&planned, &["--provenance", "mode=min", "--attest", "type=sbom,generator=scanner@sha256:0"]));
    }

    #[test]
    fn a_cache_is_chosen_and_never_fails_a_build() {
        let registry = Backend::Registry { reference: "h/cache:c".into() };
        let local = Backend::Local { from: "../c".into(), to: "../c.new".into() };
        // image.cache, whether GitHub's is there → the backend
        let cases = [
            ("auto", true, Some(Backend::Gha)),
            ("auto", false, None),
            ("gha", true, Some(Backend::Gha)),
            ("gha", false, None),
            ("off", true, None),
            ("registry:h/cache:c", true, Some(registry)),
            ("local:../c", false, Some(local)),
        ];
        for (text, has_gha, expected) in cases {
            let cache = Cache::try_from(text.to_string()).expect("a cache");
            let backend = backend(&cache, has_gha);
            assert_eq!(backend, expected, "{text}");
            let planned = plan(&request(Image::default()), &Way { cache: backend, engine: None }).expect("a plan");
            let value = |flag: &str| {
                planned.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].clone()).unwrap_or_default()
            };
            assert_eq!(value("--cache-from").is_empty(), expected.is_none(), "{text}");
            assert_eq!(value("--cache-to").ends_with(",ignore-error=true"), expected.is_some(), "{text}");
            assert_eq!(value("--cache-to").contains("mode=max"), expected.is_some(), "{text}");
            assert!(!planned.join(" ").contains("token"), "{text}");
        }
    }

    #[test]
    fn a_commit_without_a_possible_time_is_bad_input() {
        let mut request = request(Image::default());
        request.head.time = i64::MAX;
        assert_eq!(plan(&request, &Way::default()).expect_err("no time").kind.exit_code(), 2);
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
