//! The service's image, built by Docker's own buildx into an OCI layout.
//!
//! [`sources`] reads and stages what is built, [`context`] judges it by the commit, [`handover`]
//! reads the secrets; [`plan`] says with which arguments, [`buildx`] runs it, [`progress`] reads
//! what it says, [`diagnosis`] says why it failed; [`attestations`] takes what the build says of
//! itself out of the image, [`rewrite`] the [`times`] out of its layers, unless an [`earlier`] build
//! did. Here is which way it goes: most builders write a layout; beside an
//! engine with an older store a builder runs in a [`container`]; where there is none, that engine
//! gets the image itself, and we pack what it saves.

mod attestations;
mod buildx;
mod container;
mod context;
mod diagnosis;
mod earlier;
mod handover;
mod local_cache;
mod plan;
mod progress;
mod request;
mod rewrite;
mod sources;
mod times;

use std::path::{Path, PathBuf};

use crate::cli::Environ;
use crate::config::values::{BuilderImage, Cache, Span};
use crate::docker;
use crate::error::{Error, Kind, Result};
use crate::image::destination::{
    BUILDX, Built, Destination, Fresh, IDENTIFIER, SAVED, full, unwritable,
};
use crate::image::import;
use crate::image::work;
use crate::report::Report;
use buildx::Buildx;
use container::Container;
use earlier::Memory;
use local_cache::LocalCache;
use plan::{Backend, Sources, Way};
use progress::Progress;
pub use request::BuildRequest;
use request::{GHA, tidy};
use sources::SourceTexts;

/// Builds the image. The layout is replaced when the new one is whole; until then, and when the
/// build fails, the earlier one stays as it is.
///
/// # Errors
/// Bad input with the Dockerfile's line when it does not build; refused without buildx, an engine,
/// a build secret or a base image, or on a full disk; timed out after the request's time.
pub async fn build(request: &BuildRequest, environ: &Environ, report: &Report) -> Result<Built> {
    let texts = SourceTexts::read(request)?;
    check_agent(request, environ)?;
    check_cache(request)?;
    let destination = Destination::of(&request.layout)?;
    let request = &texts.identify(request, &destination, report);
    let secrets = handover::read_secrets(request, environ, report)?;
    let (way, cache) = begin_cache(request, choose_way(request, environ, report), report);
    let buildx =
        Buildx::new(environ, buildx::list_environment(request, environ, &way, &secrets), report)?;
    // One that does not answer need not be, and the builder that somebody chose may have another.
    if environ.get("BUILDX_BUILDER").is_none() {
        let engine = docker::read_version(environ.get("DOCKER_HOST")).await;
        if let Some(error) = engine.as_ref().and_then(diagnosis::refuse_old_engine) {
            return Err(error);
        }
    }
    container::remove_leftovers(&destination, &buildx, report).await;

    let fresh = destination.fresh()?;
    let building = async {
        let sources = texts.stage(request, &fresh, report).await?;
        let inputs = Inputs { request, sources: &sources, environ, report };
        let (earlier, folder) = (destination.path().to_path_buf(), fresh.folder());
        let offering = work::run(move |stop| {
            earlier::offer_blobs(&earlier, &folder, stop);
            Ok(())
        });
        let writing = write_layout(&buildx, &inputs, &fresh, way);
        let (_, written) = tokio::join!(offering, writing);
        written
    };
    tokio::time::timeout(request.timeout, building).await.unwrap_or_else(|_| {
        let time = String::from(Span(request.timeout));
        Err(Error::new(Kind::TimedOut, format!("cannot build within {time}"))
            .why("the build was stopped, and nothing of it is kept")
            .fix(
                "see its last steps above, or with --verbose all it said; give it longer: \
                  --timeout 2h",
            ))
    })?;
    let built = fresh.finish()?;
    if let Some(cache) = cache {
        cache
            .renew()
            .unwrap_or_else(|error| report.warn(format!("cannot keep the cache: {error}")));
    }
    Ok(built)
}

/// What a build is made of, whichever way it goes.
struct Inputs<'a> {
    request: &'a BuildRequest,
    sources: &'a Sources,
    environ: &'a Environ,
    report: &'a Report,
}

impl Inputs<'_> {
    fn arguments(&self, output: &Path, way: &Way) -> Result<Vec<String>> {
        plan::list_arguments(self.request, self.sources, output, way)
    }
}

/// Makes the folder of a local cache, or leaves the cache out and says why.
fn begin_cache(request: &BuildRequest, mut way: Way, report: &Report) -> (Way, Option<LocalCache>) {
    let Some(Backend::Local { from, .. }) = &way.cache else { return (way, None) };
    match LocalCache::begin(&request.folder.join(from)) {
        Ok(cache) => (way, Some(cache)),
        Err(why) => {
            report.warn(format!(
                "the cache is left out: {why}; name an empty folder or a new one: \
                 `image: {{cache: 'local:.cache/build'}}`"
            ));
            way.cache = None;
            (way, None)
        }
    }
}

/// A local cache that service.yaml names lies in the repository.
fn check_cache(request: &BuildRequest) -> Result<()> {
    match &request.image.cache {
        Cache::Local { folder } if !request.has_own_cache => {
            local_cache::check_place(&request.folder, folder, &request.head.root)
        }
        _ => Ok(()),
    }
}

/// Builds, and writes the layout.
async fn write_layout(
    buildx: &Buildx<'_>,
    inputs: &Inputs<'_>,
    fresh: &Fresh,
    way: Way,
) -> Result<()> {
    let mut container = None;
    let ended = try_ways(buildx, inputs, fresh, way, &mut container).await;
    if let Some(container) = container {
        container.end(inputs.report).await;
    }
    ended
}

/// Tries one way after the other; `container` is the builder that was started on the way.
async fn try_ways<'a>(
    buildx: &Buildx<'a>,
    inputs: &Inputs<'_>,
    fresh: &Fresh,
    mut way: Way,
    container: &mut Option<Container<'a>>,
) -> Result<()> {
    let Inputs { request, environ, report, .. } = inputs;
    loop {
        let runs = container.as_ref().map_or(buildx, |container: &Container<'_>| &container.buildx);
        let (progress, status) =
            runs.run(&inputs.arguments(&fresh.folder(), &way)?, request).await?;
        if status.success() {
            return finish_layout(inputs, fresh.folder()).await;
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
                        "this engine keeps images in its older store, and builds the image itself: \
                         outside of CI the steps that it keeps \
                         are worth more than one digest for one commit (--builder-image)",
                    );
                    return build_in_engine(buildx, inputs, fresh).await;
                }
                BuilderImage::Pinned(image) => image,
                BuilderImage::Off => {
                    warn_without_builder(request, &way, "--builder-image is off", report)?;
                    return build_in_engine(buildx, inputs, fresh).await;
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
                    warn_without_builder(request, &way, &why, report)?;
                    return build_in_engine(buildx, inputs, fresh).await;
                }
            }
        } else if container.is_some()
            && diagnosis::is_not_pulled(&progress)
            && plan::list_impossible(&request.image).is_empty()
        {
            // The engine may have it, or reach it by another way.
            if let Some(container) = container.take() {
                container.end(report).await;
            }
            warn_without_builder(
                request,
                &way,
                diagnosis::find_last_error(&progress).unwrap_or_default(),
                report,
            )?;
            return build_in_engine(buildx, inputs, fresh).await;
        } else if let Some(why) =
            diagnosis::find_cache_refusal(&progress).filter(|_| way.cache.is_some())
        {
            report.warn(format!("the cache is left out: {why}"));
            way.cache = None;
        } else {
            return Err(explain_failure(request, fresh, &progress, status));
        }
    }
}

/// Makes the image of what buildx wrote.
async fn finish_layout(inputs: &Inputs<'_>, folder: PathBuf) -> Result<()> {
    let epoch = times::choose_epoch(&inputs.request.image);
    let memory = Memory::of(inputs.environ);
    work::run(move |stop| {
        attestations::move_attestations(&folder)?;
        rewrite::rewrite_times(&folder, epoch, &memory, stop)
    })
    .await
}

/// Whether nobody sits there.
/// <https://docs.github.com/actions/reference/variables-reference#default-environment-variables>
fn is_automatic(environ: &Environ) -> bool {
    environ.get("CI").is_some_and(|value| value != "false")
}

/// Why a build failed.
fn explain_failure(
    request: &BuildRequest,
    fresh: &Fresh,
    progress: &Progress,
    status: std::process::ExitStatus,
) -> Error {
    // BuildKit says the same of its disk and of ours.
    if diagnosis::is_disk_full(progress) && !has_room(&fresh.folder()) {
        return full(fresh.parent()).why("buildx could not write the layout");
    }
    let dockerfile = tidy(&request.folder.join(plan::locate_dockerfile(request)));
    let target = request.image.target.as_deref();
    diagnosis::explain_failure(
        progress,
        &dockerfile,
        target,
        &format!("buildx ended with {status}"),
    )
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
fn warn_without_builder(
    request: &BuildRequest,
    way: &Way,
    why: &str,
    report: &Report,
) -> Result<()> {
    let impossible = plan::list_impossible(&request.image);
    if !impossible.is_empty() {
        return Err(Error::refused(format!(
            "cannot build with {}: this Docker engine cannot do it",
            impossible.join(" and ")
        ))
        .why(format!("it keeps images in its older store, and {why}"))
        .fix(diagnosis::OTHER_BUILDER));
    }
    report.warn(format!(
        "{why}; so the engine builds the image itself, without {}. To have all: {}",
        plan::list_left_out(&request.image, way).join(" and "),
        diagnosis::OTHER_BUILDER
    ));
    Ok(())
}

/// Has an engine with an older store build the image itself, takes it out of there, and packs it.
async fn build_in_engine(buildx: &Buildx<'_>, inputs: &Inputs<'_>, fresh: &Fresh) -> Result<()> {
    let Inputs { request, environ, report, .. } = inputs;
    let built = plan::Engine {
        tag: format!("cicd.local/{}:latest", request.name),
        identifier: fresh.part(IDENTIFIER),
    };
    let engine = docker::Engine::connect(environ.get("DOCKER_HOST")).await?;
    let earlier = engine.identifier(&built.tag).await?;
    let identifier = built.identifier.clone();
    let way = Way { engine: Some(built), ..Way::default() };
    let (progress, status) = buildx.run(&inputs.arguments(&fresh.folder(), &way)?, request).await?;
    if !status.success() {
        return Err(explain_failure(request, fresh, &progress, status));
    }
    let read = |error| Error::unexpected("cannot read which image buildx built").why(error);
    let now = std::fs::read_to_string(identifier).map_err(read)?.trim().to_string();
    let archive = fresh.part(SAVED);
    let file = std::fs::File::create_new(&archive).map_err(|error| unwritable(&archive, &error))?;
    engine.save(&now, file, |error| unwritable(&archive, &error)).await?;
    import::pack(archive, fresh.folder(), plan::list_annotations(request)?, report).await?;
    if let Some(earlier) = earlier.filter(|earlier| *earlier != now) {
        engine.remove_image(&earlier).await;
    }
    Ok(())
}

/// Returns the command that a build would run; nothing is run.
///
/// # Errors
/// As [`build`], as far as it looks before it builds.
pub fn plan(request: &BuildRequest, environ: &Environ, report: &Report) -> Result<Vec<String>> {
    let texts = SourceTexts::read(request)?;
    check_cache(request)?;
    let request = texts.identify(request, &Destination::of(&request.layout)?, report);
    plan::plan(&request, &choose_way(&request, environ, report))
}

fn choose_way(request: &BuildRequest, environ: &Environ, report: &Report) -> Way {
    let has_gha = GHA.iter().all(|name| environ.get(name).is_some());
    if request.no_cache {
        return Way::default();
    }
    if request.image.cache == Cache::Gha && !has_gha {
        report.warn(format!(
            "the cache is left out: `gha` is GitHub's, and {} say nothing of it here; with `auto` \
             it is taken only where it is",
            GHA.join(" and ")
        ));
    }
    Way { cache: plan::choose_backend(&request.image.cache, has_gha), ..Way::default() }
}

/// The agent that `image.ssh` asks for is there.
fn check_agent(request: &BuildRequest, environ: &Environ) -> Result<()> {
    let asks = request.image.ssh.iter().any(|ssh| !ssh.contains('='));
    match asks && environ.get("SSH_AUTH_SOCK").is_none() {
        true => Err(Error::refused(
            "cannot hand an SSH agent to the build: SSH_AUTH_SOCK names \
                                    none",
        )
        .why("image.ssh asks for one")
        .fix(
            "start one before this step: `eval \"$(ssh-agent)\"; ssh-add`; or name a key: \
                  `image: {ssh: ['default=PATH']}`",
        )),
        false => Ok(()),
    }
}
