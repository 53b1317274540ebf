//! A builder in a container of its own, for an engine whose store writes no layout: buildx starts it from a pinned image, and it is
//! removed at the end, whatever happened until then.
//!
//! <https://docs.docker.com/build/builders/drivers/docker-container/>

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::buildx::{Buildx, Running};
use super::{Request, diagnosis, plan};
use crate::cli::Environ;
use crate::docker::unique;
use crate::report::Report;

/// An image of 100 MB is pulled within this time, or it is not worth waiting for.
const START: Duration = Duration::from_secs(180);

/// Its end may take this long on a busy engine; when it is dropped, this long, as GitHub's runner gives 7.5 s after SIGINT.
const END: Duration = Duration::from_secs(60);
const HURRIED_END: Duration = Duration::from_secs(6);

/// As long is waited for a start that is under way. When it takes longer, the image is being pulled, and there is no container yet.
const STARTING: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);

/// A builder that runs. Dropping it removes its container and its volume.
pub struct Container<'a> {
    pub name: String,
    /// buildx with a state of its own, which knows this builder only.
    pub buildx: Buildx<'a>,
    /// buildx while it starts the builder.
    starting: Option<Running>,
    /// How long its end is waited for.
    patience: Duration,
}

impl<'a> Container<'a> {
    /// Starts one. buildx keeps what it knows of it in the folder `state`, by which a later run removes it when this one is killed.
    ///
    /// # Errors
    /// Why there is none, in the words of buildx.
    pub async fn start(
        buildx: &Buildx<'a>,
        image: &str,
        state: &Path,
        request: &Request,
        environ: &Environ,
        report: &Report,
    ) -> Result<Container<'a>, String> {
        let name = unique("cicd").map_err(|error| error.to_string())?;
        let settings = settings(environ).filter(|file| file.is_file());
        let mut container = Container { buildx: buildx.with_state(state), name, starting: None, patience: HURRIED_END };
        let arguments = plan::create(&container.name, image, settings.as_deref(), environ);
        report.detail(format!("this engine keeps images in its older store: builds in a container of {image}"));
        let running = container.buildx.begin(&arguments, request).map_err(|error| error.to_string())?;
        let running = container.starting.insert(running);
        let ended = tokio::time::timeout(START, container.buildx.listen(running, "docker buildx create", request))
            .await
            .map_err(|_| format!("a builder of {image} did not start within {} s", START.as_secs()))?;
        let (progress, status) = ended.map_err(|error| error.to_string())?;
        match status.success() {
            true => Ok(container),
            false => {
                let why = diagnosis::last_error(&progress)
                    .map_or_else(|| format!("buildx ended with {status}"), str::to_string);
                Err(format!("no builder of {image} starts: {why}"))
            }
        }
    }
}

impl Container<'_> {
    /// Removes it, when nobody is in a hurry.
    pub fn end(mut self) {
        self.patience = END;
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let (buildx, name) = (self.buildx.remover(), self.name.clone());
        let starting = self.starting.take();
        let (done, finished) = mpsc::channel();
        // Nobody can wait in a drop but by a thread of its own.
        std::thread::spawn(move || {
            // Killed in the middle, buildx would leave what it made last: the engine makes it all the same.
            if let Some(mut starting) = starting {
                let mut waited = Duration::ZERO;
                while !starting.has_ended() && waited < STARTING {
                    std::thread::sleep(POLL);
                    waited += POLL;
                }
            }
            buildx.remove(&name);
            let _ = done.send(());
        });
        let _ = finished.recv_timeout(self.patience);
    }
}

/// Removes the builders that a killed run left; `state` is the folder that its buildx kept. Whether none is left.
pub fn remove_all(buildx: &Buildx<'_>, state: &Path) -> bool {
    let names = std::fs::read_dir(state.join("instances")).into_iter().flatten().flatten();
    let remover = buildx.with_state(state).remover();
    names.filter_map(|entry| entry.file_name().into_string().ok()).all(|name| remover.remove(&name))
}

/// What the user says of builders in containers: mirrors, certificates. buildx reads it by itself only from its usual state.
fn settings(environ: &Environ) -> Option<PathBuf> {
    let folder = environ.get("BUILDX_CONFIG").map(PathBuf::from).or_else(|| {
        let docker = environ.get("DOCKER_CONFIG").map(PathBuf::from);
        Some(docker.or_else(|| Some(Path::new(environ.get("HOME")?).join(".docker")))?.join("buildx"))
    })?;
    Some(folder.join("buildkitd.default.toml"))
}
