//! The service's image, built by Docker's own buildx into an OCI layout.
//!
//! [`plan`] says with which arguments, [`buildx`] runs it, [`progress`] reads what it says,
//! [`diagnosis`] says why it failed; [`attestations`] takes what the build says of itself out of
//! the image. Here is what is looked at before, and which way it goes: most builders write a
//! layout; beside an engine with an older store a builder runs in a [`container`]; where there is
//! none, that engine gets the image itself, and we pack what it saves.

mod attestations;
mod buildx;
mod container;
mod diagnosis;
mod plan;
mod progress;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::Environ;
use crate::config::service;
use crate::config::values::{BuilderImage, Cache, Span};
use crate::docker;
use crate::error::{Error, Kind, Result};
use crate::git::Head;
use crate::image::destination::{
    BUILDX, Built, Destination, Fresh, IDENTIFIER, SAVED, full, unwritable,
};
use crate::image::import;
use crate::report::Report;
use buildx::Buildx;
use container::Container;
use plan::{Backend, SecretSource, Way};
use progress::Progress;

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
    /// For an engine whose store writes no layout.
    pub builder_image: BuilderImage,
    /// It is for a pull request from a fork, which GitHub gives no secrets.
    pub from_fork: bool,
    /// A build that takes longer hangs.
    pub timeout: Duration,
}

/// Builds the image. The layout is replaced when the new one is whole; until then, and when the
/// build fails, the earlier one stays as it is.
///
/// # Errors
/// Bad input with the Dockerfile's line when it does not build; refused without buildx, an engine,
/// a build secret or a base image, or on a full disk; timed out after the request's time.
pub async fn build(request: &Request, environ: &Environ, report: &Report) -> Result<Built> {
    check_sources(request)?;
    check_agent(request, environ)?;
    let destination = Destination::of(&request.layout)?;
    warn_of_layout_in_context(request, destination.path(), report);
    let secrets = secrets(request, environ, report)?;
    let way = way(request, environ, report);
    let buildx =
        Buildx::new(environ, buildx::environment(request, environ, &way, &secrets), report)?;
    // One that does not answer need not be, and the builder that somebody chose may have another.
    if environ.get("BUILDX_BUILDER").is_none() {
        let engine = docker::version(environ.get("DOCKER_HOST")).await;
        if let Some(error) = engine.as_ref().and_then(diagnosis::too_old) {
            return Err(error);
        }
    }
    container::sweep(&destination, &buildx, report).await;

    let fresh = destination.fresh()?;
    let begun = Begun::of(request, &way);
    let building = written(&buildx, request, environ, &fresh, way, report);
    tokio::time::timeout(request.timeout, building).await.unwrap_or_else(|_| {
        let time = String::from(Span(request.timeout));
        Err(Error::new(Kind::TimedOut, format!("the build took longer than {time}"))
            .why("it was stopped, and nothing of it is kept")
            .fix("see its last steps above, or with --verbose all it said; give it longer: --timeout 2h"))
    })?;
    let built = fresh.finish()?;
    if let Some(begun) = begun {
        begun
            .renew()
            .unwrap_or_else(|error| report.warn(format!("the cache cannot be kept: {error}")));
    }
    Ok(built)
}

/// Builds, and writes the layout.
async fn written(
    buildx: &Buildx<'_>,
    request: &Request,
    environ: &Environ,
    fresh: &Fresh,
    way: Way,
    report: &Report,
) -> Result<()> {
    let mut container = None;
    let ended = tried(buildx, request, environ, fresh, way, &mut container, report).await;
    if let Some(container) = container {
        container.end(report).await;
    }
    ended
}

/// Tries one way after the other; `container` is the builder that was started on the way.
async fn tried<'a>(
    buildx: &Buildx<'a>,
    request: &Request,
    environ: &Environ,
    fresh: &Fresh,
    mut way: Way,
    container: &mut Option<Container<'a>>,
    report: &Report,
) -> Result<()> {
    loop {
        let runs = container.as_ref().map_or(buildx, |container: &Container<'_>| &container.buildx);
        let (progress, status) =
            runs.run(&plan::arguments(request, &fresh.folder(), &way)?, request).await?;
        if status.success() {
            return attestations::take_out(&fresh.folder());
        }
        if container.is_none() && diagnosis::writes_no_layout(&progress) {
            let image = match &request.builder_image {
                // Whoever builds again and again has the steps of before in the engine, and nobody
                // compares digests.
                image
                    if image.is_default()
                        && !is_automatic(environ)
                        && plan::needs_nothing(&request.image) =>
                {
                    report.detail(
                        "this engine keeps images in its older store, and builds the image itself: outside of CI the steps that it keeps \
                         are worth more than one digest for one commit (--builder-image)",
                    );
                    return in_engine(buildx, request, environ, fresh, report).await;
                }
                BuilderImage::Pinned(image) => image,
                BuilderImage::Off => {
                    without_builder(request, &way, "--builder-image is off", report)?;
                    return in_engine(buildx, request, environ, fresh, report).await;
                }
            };
            match Container::start(buildx, image, &fresh.part(BUILDX), request, environ, report)
                .await
            {
                Ok(started) => {
                    way.builder = Some(started.name.clone());
                    *container = Some(started);
                }
                Err(why) => {
                    without_builder(request, &way, &why, report)?;
                    return in_engine(buildx, request, environ, fresh, report).await;
                }
            }
        } else if container.is_some()
            && diagnosis::not_pulled(&progress)
            && plan::impossible(&request.image).is_empty()
        {
            // The engine may have it, or reach it by another way.
            if let Some(container) = container.take() {
                container.end(report).await;
            }
            without_builder(
                request,
                &way,
                diagnosis::last_error(&progress).unwrap_or_default(),
                report,
            )?;
            return in_engine(buildx, request, environ, fresh, report).await;
        } else if let Some(why) =
            diagnosis::cache_refused(&progress).filter(|_| way.cache.is_some())
        {
            report.warn(format!("the cache is left out: {why}"));
            way.cache = None;
        } else {
            return Err(failed(request, fresh, &progress, status));
        }
    }
}

/// Whether nobody sits there.
/// <https://docs.github.com/actions/reference/variables-reference#default-environment-variables>
fn is_automatic(environ: &Environ) -> bool {
    environ.get("CI").is_some_and(|value| value != "false")
}

/// Why a build failed.
fn failed(
    request: &Request,
    fresh: &Fresh,
    progress: &Progress,
    status: std::process::ExitStatus,
) -> Error {
    // BuildKit says the same of its disk and of ours.
    if diagnosis::disk_full(progress) && !has_room(&fresh.folder()) {
        return full(fresh.parent()).why("buildx could not write the layout");
    }
    let dockerfile = tidy(&request.folder.join(plan::dockerfile(request)));
    let target = request.image.target.as_deref();
    diagnosis::diagnose(progress, &dockerfile, target, &format!("buildx ended with {status}"))
}

/// Whether the disk takes another MiB, now that what buildx wrote is still there.
fn has_room(folder: &Path) -> bool {
    let probe = folder.join("room");
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&probe, vec![0_u8; 1024 * 1024]));
    let _ = std::fs::remove_file(probe);
    written.is_ok()
}

/// Says what an engine with an older store leaves out, and why there is no other builder. What it
/// cannot do is refused when it was asked for, but for a cache, without which the image is the
/// same.
fn without_builder(request: &Request, way: &Way, why: &str, report: &Report) -> Result<()> {
    let impossible = plan::impossible(&request.image);
    if !impossible.is_empty() {
        return Err(Error::refused(format!(
            "this Docker engine cannot do {}",
            impossible.join(" and ")
        ))
        .why(format!("it keeps images in its older store, and {why}"))
        .fix(diagnosis::OTHER_BUILDER));
    }
    report.warn(format!(
        "{why}; so the engine builds the image itself, without {}. To have all: {}",
        plan::left_out(&request.image, way).join(" and "),
        diagnosis::OTHER_BUILDER
    ));
    Ok(())
}

/// Has an engine with an older store build the image itself, takes it out of there, and packs it.
async fn in_engine(
    buildx: &Buildx<'_>,
    request: &Request,
    environ: &Environ,
    fresh: &Fresh,
    report: &Report,
) -> Result<()> {
    let built = plan::Engine {
        tag: format!("cicd.local/{}:latest", request.name),
        identifier: fresh.part(IDENTIFIER),
    };
    let engine = docker::Engine::connect(environ.get("DOCKER_HOST")).await?;
    let earlier = engine.identifier(&built.tag).await?;
    let identifier = built.identifier.clone();
    let way = Way { engine: Some(built), ..Way::default() };
    let (progress, status) =
        buildx.run(&plan::arguments(request, &fresh.folder(), &way)?, request).await?;
    if !status.success() {
        return Err(failed(request, fresh, &progress, status));
    }
    let read = |error| Error::unexpected("buildx does not say which image it built").why(error);
    let now = std::fs::read_to_string(identifier).map_err(read)?.trim().to_string();
    let archive = fresh.part(SAVED);
    let file = std::fs::File::create_new(&archive).map_err(|error| unwritable(&archive, &error))?;
    engine.save(&now, file, |error| unwritable(&archive, &error)).await?;
    import::pack(archive, fresh.folder(), plan::annotations(request)?, report).await?;
    if let Some(earlier) = earlier.filter(|earlier| *earlier != now) {
        engine.remove_image(&earlier).await;
    }
    Ok(())
}

/// The command that a build would run, and nothing is run.
///
/// # Errors
/// As [`plan::plan`].
pub fn plan(request: &Request, environ: &Environ, report: &Report) -> Result<Vec<String>> {
    plan::plan(request, &way(request, environ, report))
}

/// Where GitHub's runner says where its cache is, and gives a token for it. For a container action
/// it does not say which version of the service this is; the one that is left is 2.
const GHA: [&str; 2] = ["ACTIONS_RESULTS_URL", "ACTIONS_RUNTIME_TOKEN"];

fn way(request: &Request, environ: &Environ, report: &Report) -> Way {
    let has_gha = GHA.iter().all(|name| environ.get(name).is_some());
    if request.no_cache {
        return Way::default();
    }
    if request.image.cache == Cache::Gha && !has_gha {
        report.warn(format!(
            "the cache is left out: `gha` is GitHub's, and {} say nothing of it here; with `auto` it is taken only where it is",
            GHA.join(" and ")
        ));
    }
    Way { cache: plan::backend(&request.image.cache, has_gha), ..Way::default() }
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

    /// Puts the cache in the place of the earlier one, which holds steps that nobody needs any
    /// more.
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
    let tidy: PathBuf =
        path.components().filter(|part| *part != std::path::Component::CurDir).collect();
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
    let found = dockerfile.canonicalize().map_err(|error| {
        Error::input(format!("there is no {}", dockerfile.display())).why(error).fix(fix)
    })?;
    if !found.starts_with(&context) {
        return Err(Error::input(format!("{} is outside the build context", dockerfile.display()))
            .why(format!("the context is {}", context.display()))
            .fix(fix));
    }
    for (name, context) in
        request.image.contexts.iter().filter(|(_, context)| !context.as_str().contains("://"))
    {
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

/// A layout inside the context is copied into the next image by `COPY . .`, and each build then has
/// another digest.
fn warn_of_layout_in_context(request: &Request, layout: &Path, report: &Report) {
    let Ok(context) = request.folder.join(&request.image.context).canonicalize() else { return };
    let Ok(inside) = layout.strip_prefix(&context) else { return };
    let Some(first) = inside.iter().next().and_then(|first| first.to_str()) else { return };
    let dockerfile = plan::dockerfile(request).into_os_string().into_string().unwrap_or_default();
    let ignore_files =
        [request.folder.join(format!("{dockerfile}.dockerignore")), context.join(".dockerignore")];
    let ignore =
        ignore_files.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    if let Some(missing) = not_ignored(&ignore, first, inside.iter().count() == 1) {
        report.warn(format!(
            "{} is in the build context, so `COPY . .` puts it and what is written beside it meanwhile into the image: add {missing} to .dockerignore",
            request.layout.display()
        ));
    }
}

/// What a .dockerignore lacks, so that neither the folder `first` nor what is written to before it
/// gets into the image. The latter lies in the context when the layout `is_first` itself.
fn not_ignored(ignore: &str, first: &str, is_first: bool) -> Option<String> {
    let out = |name: &str| crate::check::rules::leaves_out(ignore, name);
    let scratch = format!(".{first}-");
    match (out(first), !is_first || out(&format!("{scratch}00000000"))) {
        (true, true) => None,
        (false, true) => Some(format!("`{first}/`")),
        (true, false) => Some(format!("`{scratch}*`")),
        (false, false) => Some(format!("`{first}/` and `{scratch}*`")),
    }
}

/// Where a workflow hands over the secrets of a build: one variable, as nobody knows their names
/// before service.yaml is read.
const HANDED_OVER: &str = "CICD_BUILD_SECRETS";

/// The variables that build secrets are read from, with their values.
fn secrets(request: &Request, environ: &Environ, report: &Report) -> Result<Vec<(String, String)>> {
    // Before anything is said of them.
    let text = environ.get(HANDED_OVER).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .for_each(|(_, value)| report.mask(value.trim()));
    let handed_over = plan::handed_over(text)?;
    let mut variables = Vec::new();
    for entry in &request.image.build_secrets {
        let missing = |what: String, fix: String| {
            Error::refused(format!("the build secret `{entry}` has no value")).why(what).fix(fix)
        };
        match plan::secret(entry)? {
            SecretSource::Variable(name) => {
                let handed =
                    handed_over.iter().find(|(handed, _)| *handed == name).map(|(_, value)| *value);
                let value = environ.get(&name).or(handed).ok_or_else(|| match request.from_fork {
                    true => missing(
                        format!("{name} is not set: a pull request from a fork runs without secrets"),
                        "take its commits to a branch of this repository once they are read, and open a pull request from there"
                            .into(),
                    ),
                    false => missing(
                        format!("the environment variable {name} is not set"),
                        format!(
                            "set it for this step: `env: {{{name}: ${{{{ secrets.{name} }}}}}}`, or `export {name}=…`; where a job calls \
                             service.yml: `secrets: {{build-secrets: \"{name}=${{{{ secrets.{name} }}}}\"}}`"
                        ),
                    ),
                })?;
                report.mask(value);
                variables.push((name, value.to_string()));
            }
            SecretSource::File(file) => {
                let path = request.folder.join(&file);
                let value = std::fs::read(&path).map_err(|error| {
                    missing(
                        format!("{}: {error}", path.display()),
                        "write the file before this step, relative to service.yaml".into(),
                    )
                })?;
                mask_bytes(&value, report);
            }
        }
    }
    Ok(variables)
}

/// Masks a file that need be no text: as a whole, and what of it a step may write as a line, each
/// as it is read from buildx.
fn mask_bytes(value: &[u8], report: &Report) {
    let text = String::from_utf8_lossy(value);
    report.mask(text.trim());
    text.lines().map(str::trim).filter(|line| line.len() >= 8).for_each(|line| report.mask(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dockerignore_lacks_is_told() {
        let cases = [
            ("", false, Some("`target/`")),
            ("target/\n", false, None),
            ("", true, Some("`target/` and `.target-*`")),
            ("target/\n", true, Some("`.target-*`")),
            (".target-*\n", true, Some("`target/`")),
            ("target/\n.target-*\n", true, None),
            ("*\n!src\n", true, None),
        ];
        for (ignore, is_first, lacks) in cases {
            assert_eq!(
                not_ignored(ignore, "target", is_first).as_deref(),
                lacks,
                "{ignore:?} {is_first}"
            );
        }
    }

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
        assert_eq!(
            (read().as_str(), at("cache.new").exists()),
            ("first", false),
            "the build failed"
        );

        std::fs::create_dir(at("cache.new")).expect("a folder");
        begun().renew().expect("nothing to do");
        assert_eq!(
            (read().as_str(), at("cache.new").exists()),
            ("first", false),
            "the cache failed"
        );

        write("cache.new", "second");
        begun().renew().expect("renewed");
        assert_eq!((read().as_str(), at("cache.new").exists()), ("second", false));
    }
}
