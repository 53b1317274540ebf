//! The service's image, built by Docker's own buildx into an OCI layout.
//!
//! [`plan`] says with which arguments, [`buildx`] runs it, [`progress`] reads what it says, [`diagnosis`] says why it failed;
//! [`attestations`] takes what the build says of itself out of the image. Here is what is looked at before, and which way it goes:
//! most builders write a layout; an engine with an older store gets the image itself, and we pack what it saves.

mod attestations;
mod buildx;
mod diagnosis;
mod plan;
mod progress;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::Environ;
use crate::config::service;
use crate::config::service::Provenance;
use crate::config::values::{Cache, Span};
use crate::docker;
use crate::error::{Error, Kind, Result};
use crate::git::Head;
use crate::image::destination::{Built, Destination, Fresh, full, unwritable};
use crate::image::import;
use crate::report::Report;
use buildx::Builder;
use plan::{Backend, SecretSource, Way};

/// What to build.
#[derive(Clone, Debug)]
pub struct Request {
    pub name: String,
    /// The folder of service.yaml, which the context is relative to.
    pub folder: PathBuf,
    pub image: service::Image,
    pub head: Head,
    /// Goes into the label org.opencontainers.image.version and the build argument VERSION.
    pub version: String,
    /// Where the OCI layout is written.
    pub layout: PathBuf,
    pub no_cache: bool,
    /// A build that takes longer hangs.
    pub timeout: Duration,
}

/// Builds the image. The layout is replaced when the new one is whole; until then, and when the build fails, the earlier one
/// stays as it is.
///
/// # Errors
/// Bad input with the Dockerfile's line when it does not build; refused without buildx, an engine, a build secret or a base
/// image, or on a full disk; timed out after the request's time.
pub async fn build(request: &Request, environ: &Environ, report: &Report) -> Result<Built> {
    check_sources(request)?;
    check_agent(request, environ)?;
    let destination = Destination::of(&request.layout)?;
    warn_of_layout_in_context(request, destination.path(), report);
    let secrets = secrets(request, environ, report)?;
    let way = way(request, environ, report);
    let builder = Builder::new(environ, buildx::environment(request, environ, &way, &secrets), report)?;

    let fresh = destination.fresh()?;
    let begun = Begun::of(request, &way);
    let building = written(&builder, request, environ, &fresh, way, report);
    tokio::time::timeout(request.timeout, building).await.unwrap_or_else(|_| {
        let time = String::from(Span(request.timeout));
        Err(Error::new(Kind::TimedOut, format!("the build took longer than {time}"))
            .why("it was stopped, and nothing of it is kept")
            .fix("see its last steps above, or with --verbose all it said; give it longer: --timeout 2h"))
    })?;
    let built = fresh.finish()?;
    if let Some(begun) = begun {
        begun.renew().unwrap_or_else(|error| report.warn(format!("the cache cannot be kept: {error}")));
    }
    Ok(built)
}

/// Builds, and writes the layout.
async fn written(
    builder: &Builder<'_>,
    request: &Request,
    environ: &Environ,
    fresh: &Fresh,
    mut way: Way,
    report: &Report,
) -> Result<()> {
    let (mut engine, mut earlier) = (None, None);
    loop {
        let (progress, status) = builder.run(&plan::arguments(request, fresh.folder(), &way)?, request).await?;
        if status.success() {
            break;
        }
        if way.engine.is_none() && diagnosis::writes_no_layout(&progress) {
            way = into_engine(request, fresh, report)?;
            engine = Some(docker::Engine::connect(environ.get("DOCKER_HOST")).await?);
            if let (Some(engine), Some(built)) = (&engine, &way.engine) {
                earlier = engine.identifier(&built.tag).await?;
            }
        } else if let Some(why) = diagnosis::cache_refused(&progress).filter(|_| way.cache.is_some()) {
            report.warn(format!("the cache is left out: {why}"));
            way.cache = None;
        } else {
            let dockerfile = tidy(&request.folder.join(plan::dockerfile(request)));
            let target = request.image.target.as_deref();
            // BuildKit says the same of its disk and of ours.
            if diagnosis::disk_full(&progress) && !has_room(fresh.folder()) {
                let parent = fresh.folder().parent().unwrap_or(fresh.folder());
                return Err(full(parent).why("buildx could not write the layout"));
            }
            return Err(diagnosis::diagnose(&progress, &dockerfile, target, &format!("buildx ended with {status}")));
        }
    }
    match (&way.engine, &engine) {
        (Some(built), Some(engine)) => {
            let now = out_of_engine(engine, built, request, fresh, report).await?;
            if let Some(earlier) = earlier.filter(|earlier| *earlier != now) {
                engine.remove_image(&earlier).await;
            }
        }
        _ => attestations::take_out(fresh.folder())?,
    }
    Ok(())
}

/// Whether the disk takes another MiB, now that what buildx wrote is still there.
fn has_room(folder: &Path) -> bool {
    let probe = folder.join("room");
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&probe, vec![0_u8; 1024 * 1024]));
    let _ = std::fs::remove_file(probe);
    written.is_ok()
}

/// What an engine with an older store cannot do is left out where the image is the same without it, and refused where not.
fn into_engine(request: &Request, fresh: &Fresh, report: &Report) -> Result<Way> {
    let image = &request.image;
    let [platform] = image.platforms.as_slice() else {
        return Err(Error::refused("this Docker engine cannot build for several platforms")
            .why("it keeps images in its older store")
            .fix(diagnosis::OTHER_BUILDER));
    };
    report.detail(format!(
        "this engine keeps images in its older store: it builds for {platform}, and the layers are packed here"
    ));
    // What is wanted and cannot be had; what is on by default is not missed.
    let mut left_out = Vec::new();
    if image.sbom.is_some() {
        left_out.push("image.sbom");
    }
    if image.provenance == Provenance::Max {
        left_out.push("image.provenance");
    }
    if !matches!(image.cache, Cache::Auto | Cache::Off) && !request.no_cache {
        left_out.push("image.cache");
    }
    if !left_out.is_empty() {
        report.warn(format!("{} is left out: {}", left_out.join(" and "), diagnosis::OTHER_BUILDER));
    }
    let folder = fresh.folder();
    std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    let engine =
        plan::Engine { tag: format!("cicd.local/{}:latest", request.name), identifier: folder.join("identifier") };
    Ok(Way { cache: None, engine: Some(engine) })
}

/// Takes the image that was just built out of the engine, and packs it; gives the engine's identifier of it.
async fn out_of_engine(
    engine: &docker::Engine,
    built: &plan::Engine,
    request: &Request,
    fresh: &Fresh,
    report: &Report,
) -> Result<String> {
    let read = |error| Error::unexpected("buildx does not say which image it built").why(error);
    let identifier = std::fs::read_to_string(&built.identifier).map_err(read)?.trim().to_string();
    let archive = fresh.folder().join("saved.tar");
    let file = std::fs::File::create_new(&archive).map_err(|error| unwritable(&archive, &error))?;
    engine.save(&identifier, file, |error| unwritable(&archive, &error)).await?;
    import::pack(archive.clone(), fresh.folder().to_path_buf(), plan::annotations(request)?, report).await?;
    for file in [&archive, &built.identifier] {
        std::fs::remove_file(file).map_err(|error| unwritable(file, &error))?;
    }
    Ok(identifier)
}

/// The command that a build would run, and nothing is run.
///
/// # Errors
/// As [`plan::plan`].
pub fn plan(request: &Request, environ: &Environ, report: &Report) -> Result<Vec<String>> {
    plan::plan(request, &way(request, environ, report))
}

/// Where GitHub's runner says where its cache is, and gives a token for it. For a container action it does not say which
/// version of the service this is; the one that is left is 2.
const GHA: [&str; 2] = ["ACTIONS_RESULTS_URL", "ACTIONS_RUNTIME_TOKEN"];

fn way(request: &Request, environ: &Environ, report: &Report) -> Way {
    let has_gha = GHA.iter().all(|name| environ.get(name).is_some());
    if request.no_cache {
        return Way::default();
    }
    if request.image.cache == Cache::Gha && !has_gha {
        report.detail("no step is taken from GitHub's cache: this is not GitHub Actions");
    }
    Way { cache: plan::backend(&request.image.cache, has_gha), engine: None }
}

/// A local cache that is being written; what is left of it is removed at the end.
struct Begun {
    earlier: PathBuf,
    folder: PathBuf,
}

impl Begun {
    fn of(request: &Request, way: &Way) -> Option<Begun> {
        let Some(Backend::Local { from, to }) = &way.cache else { return None };
        Some(Begun { earlier: request.folder.join(from), folder: request.folder.join(to) })
    }

    /// Puts the cache in the place of the earlier one, which holds steps that nobody needs any more.
    fn renew(&self) -> std::io::Result<()> {
        // Nothing was written when the cache failed, and that was said.
        if !self.folder.join("index.json").is_file() {
            return Ok(());
        }
        match std::fs::remove_dir_all(&self.earlier) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => std::fs::rename(&self.folder, &self.earlier),
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // It is gone already when all went well.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The agent that `image.ssh` asks for is there.
fn check_agent(request: &Request, environ: &Environ) -> Result<()> {
    let asks = request.image.ssh.iter().any(|ssh| !ssh.contains('='));
    match asks && environ.get("SSH_AUTH_SOCK").is_none() {
        true => Err(Error::refused("image.ssh asks for an SSH agent, and SSH_AUTH_SOCK names none")
            .fix("start one before this step: `eval \"$(ssh-agent)\"; ssh-add`; or name a key: `image: {ssh: ['default=PATH']}`")),
        false => Ok(()),
    }
}

/// A path as people write it: without its `.` parts.
fn tidy(path: &Path) -> PathBuf {
    let tidy: PathBuf = path.components().filter(|part| *part != std::path::Component::CurDir).collect();
    if tidy.as_os_str().is_empty() { PathBuf::from(".") } else { tidy }
}

/// The Dockerfile is there, and in the context.
fn check_sources(request: &Request) -> Result<()> {
    let fix = "say where they are: `image: {context: ., dockerfile: Dockerfile}` in service.yaml; the context is relative to \
               service.yaml, the Dockerfile to the context";
    let context = tidy(&request.folder.join(&request.image.context));
    let context = context.canonicalize().map_err(|error| {
        Error::input(format!("there is no build context {}", context.display())).why(error).fix(fix)
    })?;
    let dockerfile = tidy(&request.folder.join(plan::dockerfile(request)));
    let found = dockerfile
        .canonicalize()
        .map_err(|error| Error::input(format!("there is no {}", dockerfile.display())).why(error).fix(fix))?;
    if !found.starts_with(&context) {
        return Err(Error::input(format!("{} is outside the build context", dockerfile.display()))
            .why(format!("the context is {}", context.display()))
            .fix(fix));
    }
    for (name, context) in request.image.contexts.iter().filter(|(_, context)| !context.as_str().contains("://")) {
        let folder = tidy(&request.folder.join(context.as_str()));
        if !folder.is_dir() {
            return Err(Error::input(format!(
                "there is no folder {} for the build context `{name}`",
                folder.display()
            ))
            .fix(format!(
                "image: {{contexts: {{{name}: FOLDER}}}}, relative to service.yaml, or docker-image://NAME@sha256:…"
            )));
        }
    }
    Ok(())
}

/// A layout inside the context is copied into the next image by `COPY . .`, and each build then has another digest.
fn warn_of_layout_in_context(request: &Request, layout: &Path, report: &Report) {
    let Ok(context) = request.folder.join(&request.image.context).canonicalize() else { return };
    let Ok(inside) = layout.strip_prefix(&context) else { return };
    let Some(first) = inside.iter().next().and_then(|first| first.to_str()) else { return };
    let dockerfile = plan::dockerfile(request).into_os_string().into_string().unwrap_or_default();
    let ignore_files = [request.folder.join(format!("{dockerfile}.dockerignore")), context.join(".dockerignore")];
    let ignore = ignore_files.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    if !crate::check::rules::leaves_out(&ignore, first) {
        report.warn(format!(
            "{} is in the build context, so `COPY . .` puts earlier images into this one: add `{first}/` to .dockerignore",
            request.layout.display()
        ));
    }
}

/// The variables that build secrets are read from, with their values.
fn secrets(request: &Request, environ: &Environ, report: &Report) -> Result<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for entry in &request.image.build_secrets {
        let missing = |what: String, fix: String| {
            Error::refused(format!("the build secret `{entry}` has no value")).why(what).fix(fix)
        };
        match plan::secret(entry)? {
            SecretSource::Variable(name) => {
                let value = environ.get(&name).ok_or_else(|| {
                    missing(
                        format!("the environment variable {name} is not set"),
                        format!(
                            "set it for this step: `env: {{{name}: ${{{{ secrets.{name} }}}}}}`, or `export {name}=…`"
                        ),
                    )
                })?;
                report.mask(value);
                variables.push((name, value.to_string()));
            }
            SecretSource::File(file) => {
                let path = request.folder.join(&file);
                let value = std::fs::read_to_string(&path).map_err(|error| {
                    missing(
                        format!("{}: {error}", path.display()),
                        "write the file before this step, relative to service.yaml".into(),
                    )
                })?;
                report.mask(value.trim());
                // A step may write it line by line.
                value.lines().map(str::trim).filter(|line| line.len() >= 8).for_each(|line| report.mask(line));
            }
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_cache_is_replaced_as_a_whole_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(at(name)).expect("a folder");
            std::fs::write(at(name).join("index.json"), text).expect("written");
        };
        let begun = || Begun { earlier: at("cache"), folder: at("cache.new") };
        let read = || std::fs::read_to_string(at("cache/index.json")).expect("read");

        write("cache", "first");
        drop((write("cache.new", "half"), begun()));
        assert_eq!((read().as_str(), at("cache.new").exists()), ("first", false), "the build failed");

        std::fs::create_dir(at("cache.new")).expect("a folder");
        begun().renew().expect("nothing to do");
        assert_eq!((read().as_str(), at("cache.new").exists()), ("first", false), "the cache failed");

        write("cache.new", "second");
        begun().renew().expect("renewed");
        assert_eq!((read().as_str(), at("cache.new").exists()), ("second", false));
    }
}
