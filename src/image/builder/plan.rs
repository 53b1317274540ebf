//! The arguments that buildx is given. Pure.
//!
//! <https://docs.docker.com/reference/cli/docker/buildx/build/>

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::request::BuildRequest;
use super::times::{EPOCH, EPOCH_ARGUMENT};
use crate::cli::Environ;
use crate::config::service::{Image, Provenance, Pull};
use crate::config::values::Cache;
use crate::error::{Error, Result};

/// Annotations of images, as the OCI names them.
/// <https://github.com/opencontainers/image-spec/blob/main/annotations.md>
const ANNOTATION: &str = "org.opencontainers.image";

/// The buildx arguments that [`super::build`] uses, writing to the layout of the request. They are
/// run in the folder of service.yaml.
///
/// # Errors
/// Bad input when the commit has no time that can be written.
pub fn plan(request: &BuildRequest, way: &Way) -> Result<Vec<String>> {
    list_arguments(request, &Sources::as_written(request), &request.layout, way)
}

/// How this build is done, from what the engine and the environment are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    pub cache: Option<Backend>,
    /// The builder that is used instead of the one that buildx selects.
    pub builder: Option<String>,
    /// The image is built into the engine and taken from there, for engines that write no layout.
    /// They write no attestations either, and build for one platform.
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
pub fn choose_backend(cache: &Cache, has_gha: bool) -> Option<Backend> {
    match cache {
        Cache::Auto | Cache::Gha if has_gha => Some(Backend::Gha),
        Cache::Auto | Cache::Gha | Cache::Off => None,
        Cache::Registry { reference } => Some(Backend::Registry { reference: reference.clone() }),
        Cache::Local { folder } => {
            Some(Backend::Local { from: folder.into(), to: format!("{folder}.new").into() })
        }
    }
}

/// Where buildx finds what it builds, relative to the folder of service.yaml or absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    pub context: PathBuf,
    pub dockerfile: PathBuf,
    /// Folders of `image.contexts`, by their names there.
    pub contexts: BTreeMap<String, PathBuf>,
}

impl Sources {
    /// Returns the sources as service.yaml names them.
    pub fn as_written(request: &BuildRequest) -> Sources {
        Sources {
            context: anchor_path(&request.image.context),
            dockerfile: locate_dockerfile(request),
            contexts: local_contexts(request)
                .map(|(name, path)| (name.to_string(), anchor_path(path)))
                .collect(),
        }
    }
}

/// Lists the named contexts that are folders.
pub fn local_contexts(request: &BuildRequest) -> impl Iterator<Item = (&str, &Path)> {
    let contexts = request.image.contexts.iter();
    contexts
        .filter(|(_, context)| !context.as_str().contains("://"))
        .map(|(name, context)| (name.as_str(), Path::new(context.as_str())))
}

/// Lists the arguments of [`plan`] for these sources, writing to `output`.
///
/// # Errors
/// As [`plan`].
pub fn list_arguments(
    request: &BuildRequest,
    sources: &Sources,
    output: &Path,
    way: &Way,
) -> Result<Vec<String>> {
    let BuildRequest { image, head, .. } = request;
    let labels = list_annotations(request)?;
    let mut arguments = vec!["build".to_string(), "--progress".into(), "rawjson".into()];
    let mut add = |flag: &str, value: String| arguments.extend([flag.to_string(), value]);
    if let Some(builder) = &way.builder {
        add("--builder", builder.clone());
    }

    // The times in its layers are rewritten afterwards: super::rewrite.
    match &way.engine {
        None => {
            // Without a name, what the build says of the image would not say of which.
            let name = &request.name;
            add(
                "--output",
                format!("type=oci,tar=false,name={name},{}", csv_field("dest", output)),
            );
            add("--provenance", provenance_value(image.provenance).into());
            match &image.sbom {
                Some(generator) => add("--attest", format!("type=sbom,generator={generator}")),
                None => add("--sbom", "false".into()),
            }
        }
        Some(Engine { tag, identifier }) => {
            add("--output", format!("type=docker,name={tag}"));
            add("--iidfile", path_text(identifier));
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
        (EPOCH_ARGUMENT, EPOCH.to_string()),
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
        let context = match sources.contexts.get(name.as_str()) {
            Some(folder) => path_text(folder),
            None => context.as_str().to_string(),
        };
        add("--build-context", format!("{name}={context}"));
    }
    for (host, address) in &image.extra_hosts {
        add("--add-host", format!("{host}={address}"));
    }
    if let Some(backend) = &way.cache {
        let (from, to) = cache_values(backend, &request.name);
        add("--cache-from", from);
        add("--cache-to", to);
    }
    if image.pull == Pull::Always {
        arguments.push("--pull".into());
    }
    if request.no_cache {
        arguments.push("--no-cache".into());
    }
    arguments.extend([
        "--file".into(),
        path_text(&sources.dockerfile),
        path_text(&sources.context),
    ]);
    Ok(arguments)
}

/// The arguments that start a builder in a container. `settings` is a file for its daemon.
///
/// <https://docs.docker.com/reference/cli/docker/buildx/create/>
pub fn create_arguments(
    name: &str,
    image: &str,
    settings: Option<&Path>,
    environ: &Environ,
) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["create", "--bootstrap", "--name", name, "--driver", "docker-container"]
            .map(str::to_string)
            .into();
    let mut add = |flag: &str, value: String| arguments.extend([flag.to_string(), value]);
    add("--driver-opt", format!("image={image}"));
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"]
    {
        // Arguments are seen by everybody on the machine: none with a password.
        if let Some(value) = environ.get(proxy).filter(|value| !value.contains('@')) {
            add("--driver-opt", quote_field(format!("env.{proxy}={value}")));
        }
    }
    if let Some(settings) = settings {
        add("--buildkitd-config", path_text(settings));
    }
    arguments
}

/// What an engine with an older store cannot do of what service.yaml asks for, when it builds the
/// image itself.
pub fn list_impossible(image: &Image) -> Vec<&'static str> {
    let asked = [
        ("image.platforms (more than one)", image.platforms.len() > 1),
        ("image.provenance", image.provenance != Provenance::Off),
        ("image.sbom", image.sbom.is_some()),
    ];
    asked.into_iter().filter_map(|(what, is_asked)| is_asked.then_some(what)).collect()
}

/// Whether such an engine does all that service.yaml asks for by itself.
pub fn needs_nothing(image: &Image) -> bool {
    list_impossible(image).is_empty() && matches!(image.cache, Cache::Auto | Cache::Off)
}

/// What is left out of a build by such an engine that is done all the same.
pub fn list_left_out(image: &Image, way: &Way) -> Vec<String> {
    let cache =
        way.cache.is_some().then(|| format!("image.cache ({})", String::from(image.cache.clone())));
    let digest = "one digest for one commit (a build from scratch has another one)".to_string();
    cache.into_iter().chain([digest]).collect()
}

fn provenance_value(provenance: Provenance) -> &'static str {
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
pub fn list_annotations(request: &BuildRequest) -> Result<Vec<(String, String)>> {
    Ok(list_labels(request, &read_creation_time(request)?))
}

fn read_creation_time(request: &BuildRequest) -> Result<String> {
    let head = &request.head;
    let created = jiff::Timestamp::from_second(head.time).map_err(|error| {
        Error::input(format!(
            "cannot label the image: commit {} has the time {}",
            head.revision, head.time
        ))
        .why(error)
        .fix("commit again with a clock that is right: its time is a label of the image")
    })?;
    Ok(created.to_string())
}

/// What every image says of itself, and what the service adds; where both have a name, the
/// service's value.
fn list_labels(request: &BuildRequest, created: &str) -> Vec<(String, String)> {
    let head = &request.head;
    let own = [
        ("title", Some(request.name.clone())),
        ("version", Some(request.version.clone())),
        ("revision", Some(head.revision.clone())),
        ("created", Some(created.to_string())),
        ("source", head.source.clone()),
    ];
    let own =
        own.into_iter().filter_map(|(name, value)| Some((format!("{ANNOTATION}.{name}"), value?)));
    let added = &request.image.labels;
    let is_added = |name: &str| added.keys().any(|added| added.as_str() == name);
    let own = own.filter(|(name, _)| !is_added(name));
    own.chain(added.iter().map(|(name, value)| (name.to_string(), value.clone()))).collect()
}

/// Where steps are looked for, and where they are kept. What cannot be kept fails no build.
fn cache_values(backend: &Backend, name: &str) -> (String, String) {
    match backend {
        // Services of one repository do not write over each other's.
        Backend::Gha => (
            format!("type=gha,scope={name}"),
            format!("type=gha,scope={name},mode=max,ignore-error=true"),
        ),
        Backend::Registry { reference } => (
            format!("type=registry,ref={reference}"),
            format!(
                "type=registry,ref={reference},mode=max,image-manifest=true,oci-mediatypes=true,ignore-error=true"
            ),
        ),
        Backend::Local { from, to } => (
            format!("type=local,{}", csv_field("src", from)),
            format!("type=local,{},mode=max,ignore-error=true", csv_field("dest", to)),
        ),
    }
}

/// The Dockerfile, relative to the folder of service.yaml.
pub fn locate_dockerfile(request: &BuildRequest) -> PathBuf {
    anchor_path(&request.image.context.join(&request.image.dockerfile))
}

/// A relative path that nothing takes for a flag or for the address of a repository.
pub fn anchor_path(path: &Path) -> PathBuf {
    match path {
        path if path.is_absolute() || path == Path::new(".") => path.to_path_buf(),
        path => Path::new(".").join(path.strip_prefix(".").unwrap_or(path)),
    }
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `key=value` as one field of a flag that is read as CSV.
fn csv_field(key: &str, path: &Path) -> String {
    quote_field(format!("{key}={}", path_text(path)))
}

fn quote_field(field: String) -> String {
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

/// Where a build secret's value comes from: the environment variable or the file that `id=…,env=…`
/// or `id=…,src=…` names.
#[derive(Debug, PartialEq, Eq)]
pub enum SecretSource {
    Variable(String),
    File(PathBuf),
}

/// Reads an entry of `image.build-secrets`.
///
/// # Errors
/// Bad input when it has no id, or not exactly one source.
pub fn read_secret_source(entry: &str) -> Result<SecretSource> {
    let wrong = |why: &str| {
        Error::input(format!("cannot read `{entry}` of image.build-secrets")).why(why).fix(
            "write `id=npm,env=NPM_TOKEN` or `id=npm,src=FILE`, and in the Dockerfile `RUN \
             --mount=type=secret,id=npm …`",
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

/// The secrets that a workflow hands over in one text, a line `NAME=VALUE` each. Those without a
/// value are left out: what is no secret of the repository, and every secret in a pull request from
/// a fork, is the empty text there.
///
/// # Errors
/// Bad input with the number of a line that is none; never with what stands there.
pub fn read_handed_over(text: &str) -> Result<Vec<(&str, &str)>> {
    let mut secrets = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let secret = line.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        let (name, value) = secret.filter(|(name, _)| is_name(name)).ok_or_else(|| {
            Error::input(format!(
                "cannot read line {number} of the secret build-secrets: it is not NAME=VALUE"
            ))
            .fix(
                "write a line for each: NPM_TOKEN=${{ secrets.NPM_TOKEN }}; a value of \
                      several lines as base64",
            )
        })?;
        if !value.is_empty() {
            secrets.push((name, value));
        }
    }
    Ok(secrets)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::git::Head;

    pub fn request(image: Image) -> BuildRequest {
        BuildRequest {
            name: "patients".into(),
            file: "service/service.yaml".into(),
            folder: "service".into(),
            image,
            has_own_cache: false,
            frontends: Vec::new(),
            head: Head {
                revision: "4f1c".repeat(10),
                time: 1_793_534_400,
                branch: None,
                source: Some("https://github.com/clinicult/patients".into()),
                root: "/".into(),
            },
            tree: crate::git::WorkTree::default(),
            version: "1.4.0".into(),
            layout: "target/image".into(),
            no_cache: false,
            builder_image: crate::config::values::BuilderImage::Off,
            from_fork: false,
            timeout: std::time::Duration::from_secs(60),
        }
    }

    #[test]
    fn the_whole_command() {
        let planned = plan(&request(Image::default()), &Way::default()).expect("a plan");
        let expected = "build --progress rawjson \
            --output type=oci,tar=false,name=patients,dest=target/image --provenance false --sbom false \
            --platform linux/amd64 \
            --build-arg REVISION=4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c \
            --build-arg SOURCE_DATE_EPOCH=315532800 --build-arg VERSION=1.4.0 \
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
        let request = BuildRequest { no_cache: true, layout: "a,\"b".into(), ..request(image) };
        let planned = plan(&request, &Way::default()).expect("a plan");
        let parts: &[&[&str]] = &[
            &["--platform", "linux/amd64,linux/arm64"],
            &["--target", "runtime"],
            &["--build-arg", "VERSION=mine"],
            &["--build-arg", "A=b c"],
            &["--secret", "id=npm,env=NPM_TOKEN"],
            &["--ssh", "default", "--ssh", "id=keys/deploy"],
            &[
                "--build-context",
                "shared=./../shared",
                "--build-context",
                "alpine=docker-image://alpine@sha256:0",
            ],
            &["--add-host", "db.internal=10.0.0.7"],
            &["--pull"],
            &["--label", "org.example.team=a b"],
            &["--label", "org.opencontainers.image.title=mine"],
            &["--annotation", "index,manifest:org.example.team=a b"],
            &["--no-cache"],
            &["--output", "type=oci,tar=false,name=patients,\"dest=a,\"\"b\""],
            &["--file", "./-rf/docker/Dockerfile", "./-rf"],
        ];
        for parts in parts {
            assert!(has(&planned, parts), "{parts:?} in {planned:?}");
        }
        assert!(
            !has(&planned, &["--build-arg", "VERSION=1.4.0"]),
            "the service's own build argument wins"
        );
        assert!(
            !has(&planned, &["--label", "org.opencontainers.image.title=patients"]),
            "and its own label"
        );
    }

    #[test]
    fn an_engine_that_writes_no_layout_gets_the_image_itself() {
        let image: Image = serde_json::from_value(
            serde_json::json!({ "sbom": "scanner@sha256:0", "provenance": "min" }),
        )
        .expect("an image");
        let engine =
            Some(Engine { tag: "cicd.local/patients:latest".into(), identifier: "id".into() });
        let planned =
            plan(&request(image.clone()), &Way { engine, ..Way::default() }).expect("a plan");
        assert!(has(
            &planned,
            &["--output", "type=docker,name=cicd.local/patients:latest", "--iidfile", "id"]
        ));
        assert!(has(&planned, &["--provenance", "false", "--sbom", "false"]), "{planned:?}");
        let planned = plan(&request(image), &Way::default()).expect("a plan");
        assert!(has(
            &planned,
            &["--provenance", "mode=min", "--attest", "type=sbom,generator=scanner@sha256:0"]
        ));
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
            let backend = choose_backend(&cache, has_gha);
            assert_eq!(backend, expected, "{text}");
            let planned =
                plan(&request(Image::default()), &Way { cache: backend, ..Way::default() })
                    .expect("a plan");
            let value = |flag: &str| {
                planned
                    .windows(2)
                    .find(|pair| pair[0] == flag)
                    .map(|pair| pair[1].clone())
                    .unwrap_or_default()
            };
            assert_eq!(value("--cache-from").is_empty(), expected.is_none(), "{text}");
            assert_eq!(
                value("--cache-to").ends_with(",ignore-error=true"),
                expected.is_some(),
                "{text}"
            );
            assert_eq!(value("--cache-to").contains("mode=max"), expected.is_some(), "{text}");
            assert!(!planned.join(" ").contains("token"), "{text}");
        }
    }

    #[test]
    fn a_builder_of_its_own_is_started_from_the_pinned_image_and_used() {
        let proxies = [
            ("https_proxy", "http://proxy:3128"),
            ("NO_PROXY", "a,b"),
            ("HTTP_PROXY", "http://me:secret@proxy"),
        ];
        let environ =
            Environ::new(proxies.map(|(name, value)| (name.to_string(), value.to_string())));
        let created = create_arguments(
            "cicd-1",
            "h/buildkit@sha256:0",
            Some(Path::new("/x/buildkitd.toml")),
            &environ,
        );
        let expected = "create --bootstrap --name cicd-1 --driver docker-container --driver-opt \
                        image=h/buildkit@sha256:0 \
            --driver-opt \"env.NO_PROXY=a,b\" --driver-opt env.https_proxy=http://proxy:3128 \
            --buildkitd-config /x/buildkitd.toml";
        assert_eq!(created.join(" "), expected);
        let way = Way { builder: Some("cicd-1".into()), ..Way::default() };
        let planned = plan(&request(Image::default()), &way).expect("a plan");
        assert!(
            has(&planned, &["--builder", "cicd-1"]) && has(&planned, &["--provenance", "false"]),
            "{planned:?}"
        );
    }

    #[test]
    fn what_an_older_store_cannot_do_is_told_from_what_it_leaves_out() {
        let local = Some(Backend::Local { from: "c".into(), to: "c.new".into() });
        let digest = "one digest for one commit (a build from scratch has another one)";
        // service.yaml's image, the cache → what is refused, what is left out
        let cases = [
            (serde_json::json!({}), None, vec![], vec![digest]),
            (
                serde_json::json!({ "cache": "local:c" }),
                local,
                vec![],
                vec!["image.cache (local:c)", digest],
            ),
            (serde_json::json!({}), Some(Backend::Gha), vec![], vec!["image.cache (auto)", digest]),
            (
                serde_json::json!({ "platforms": ["linux/amd64", "linux/arm64"], "provenance": "min", "sbom": "s" }),
                None,
                vec!["image.platforms (more than one)", "image.provenance", "image.sbom"],
                vec![digest],
            ),
        ];
        for (image, cache, refused, left) in cases {
            let image: Image = serde_json::from_value(image).expect("an image");
            assert_eq!(list_impossible(&image), refused, "{image:?}");
            assert_eq!(list_left_out(&image, &Way { cache, ..Way::default() }), left, "{image:?}");
        }
    }

    #[test]
    fn a_commit_without_a_possible_time_is_bad_input() {
        let mut request = request(Image::default());
        request.head.time = i64::MAX;
        assert_eq!(plan(&request, &Way::default()).expect_err("no time").kind.exit_code(), 2);
    }

    #[test]
    fn secrets_are_handed_over_line_by_line() {
        let cases: [(&str, Result<&[(&str, &str)], u32>); 7] = [
            ("NPM_TOKEN=abc==\n\n  PIP=a b \n", Ok(&[("NPM_TOKEN", "abc=="), ("PIP", "a b")])),
            ("A=1\r\nB=2\r\n", Ok(&[("A", "1"), ("B", "2")])),
            ("NPM_TOKEN=\n", Ok(&[])),
            ("", Ok(&[])),
            ("A=1\nhunter2", Err(2)),
            ("=hunter2", Err(1)),
            ("1A=hunter2", Err(1)),
        ];
        for (text, expected) in cases {
            match (read_handed_over(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text:?}"),
                (Err(error), Err(line)) => {
                    assert_eq!(
                        error.message,
                        format!(
                            "cannot read line {line} of the secret build-secrets: it is not \
                             NAME=VALUE"
                        )
                    );
                    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
                }
                (found, expected) => panic!("{text:?}: {found:?} instead of {expected:?}"),
            }
        }
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
            let read = read_secret_source(entry).map_err(|error| error.why.unwrap_or_default());
            assert_eq!(read, expected.map_err(str::to_string), "{entry}");
        }
    }
}
