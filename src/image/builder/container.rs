//! A builder in a container of its own, for an engine whose store writes no layout: buildx starts
//! it from a pinned image, and it is removed at the end, whatever happened until then.
//!
//! <https://docs.docker.com/build/builders/drivers/docker-container/>

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::buildx::{Buildx, Remover, Running};
use super::request::BuildRequest;
use super::{diagnosis, plan};
use crate::cli::Environ;
use crate::docker::unique;
use crate::image::destination::{BUILDX, Destination, INSTANCES, KEPT, builders};
use crate::report::Report;

/// An image of 100 MB is pulled within this time, or it is not worth waiting for.
const START: Duration = Duration::from_secs(180);

/// Its end may take this long on a busy engine; when it is dropped, this long, as GitHub's runner
/// gives 7.5 s after SIGINT.
const END: Duration = Duration::from_secs(60);
const HURRIED_END: Duration = Duration::from_secs(6);

/// As long is waited for a start that is under way. When it takes longer, the image is being
/// pulled, and there is no container yet.
const STARTING: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);

/// Nobody is told of what takes less.
const QUICK: Duration = Duration::from_secs(1);

/// A builder that runs. Dropping it removes its container and its volume.
pub struct Container<'a> {
    pub name: String,
    /// buildx with a state of its own, which knows this builder only.
    pub buildx: Buildx<'a>,
    /// What buildx knows it by.
    state: PathBuf,
    /// buildx while it starts the builder.
    starting: Option<Running>,
    /// Says at the end whether it is gone; none as long as nobody ends it.
    ending: Option<mpsc::Receiver<bool>>,
    has_ended: bool,
}

impl<'a> Container<'a> {
    /// Starts one. buildx keeps what it knows of it in the folder `state`, by which a later run
    /// removes it when this one is killed.
    ///
    /// # Errors
    /// Why there is none, in the words of buildx.
    pub async fn start(
        buildx: &Buildx<'a>,
        image: &str,
        state: &Path,
        request: &BuildRequest,
        environ: &Environ,
        report: &Report,
    ) -> Result<Container<'a>, String> {
        let name = unique("cicd").map_err(|error| error.to_string())?;
        let settings = find_settings(environ).filter(|file| file.is_file());
        let mut container = Container {
            buildx: buildx.with_state(state),
            name,
            state: state.to_path_buf(),
            starting: None,
            ending: None,
            has_ended: false,
        };
        let arguments =
            plan::create_arguments(&container.name, image, settings.as_deref(), environ);
        report.detail(format!(
            "this engine keeps images in its older store: builds in a container of {image}"
        ));
        let running =
            container.buildx.begin(&arguments, request).map_err(|error| error.to_string())?;
        let running = container.starting.insert(running);
        let ended = tokio::time::timeout(
            START,
            container.buildx.listen(running, "docker buildx create", request),
        )
        .await
        .map_err(|_| format!("a builder of {image} did not start within {} s", START.as_secs()))?;
        let (progress, status) = ended.map_err(|error| error.to_string())?;
        match status.success() {
            true => Ok(container),
            false => {
                let why = diagnosis::find_last_error(&progress)
                    .map_or_else(|| format!("buildx ended with {status}"), str::to_string);
                Err(format!("no builder of {image} starts: {why}"))
            }
        }
    }
}

impl Container<'_> {
    /// Removes it, when nobody is in a hurry.
    pub async fn end(mut self, report: &Report) {
        self.begin_to_end();
        let ended = async {
            loop {
                match self.ending.as_ref().map(mpsc::Receiver::try_recv) {
                    Some(Err(mpsc::TryRecvError::Empty)) => tokio::time::sleep(POLL).await,
                    ended => return matches!(ended, Some(Ok(true))),
                }
            }
        };
        let ended = tokio::time::timeout(END, ended).await;
        self.has_ended = ended.is_ok();
        if ended != Ok(true) {
            report.warn(format!(
                "the builder {} could not be removed: the next build with this --layout tries \
                 again",
                self.name
            ));
        }
    }

    /// By a thread of its own: nobody can wait in a drop.
    fn begin_to_end(&mut self) {
        if self.ending.is_some() {
            return;
        }
        let (remover, state, name) = (self.buildx.remover(), self.state.clone(), self.name.clone());
        let starting = self.starting.take();
        let (done, finished) = mpsc::channel();
        self.ending = Some(finished);
        std::thread::spawn(move || {
            // Killed in the middle, buildx would leave what it made last: the engine makes it all
            // the same.
            if let Some(mut starting) = starting {
                let mut waited = Duration::ZERO;
                while !starting.has_ended() && waited < STARTING {
                    std::thread::sleep(POLL);
                    waited += POLL;
                }
            }
            let _ = done.send(remove_builder(&remover, &state, &name));
        });
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        self.begin_to_end();
        let _ = self.ending.as_ref().map(|gone| gone.recv_timeout(HURRIED_END));
    }
}

/// Removes a builder; whether it is gone. One that is not stays known.
fn remove_builder(remover: &Remover, state: &Path, name: &str) -> bool {
    let (instance, kept) = (state.join(INSTANCES).join(name), state.join(KEPT).join(name));
    let _ = match instance.is_file() {
        true => {
            std::fs::create_dir_all(state.join(KEPT)).and_then(|()| std::fs::copy(&instance, &kept))
        }
        false => std::fs::copy(&kept, &instance),
    };
    let gone = remover.remove(state, name);
    if gone {
        let _ = std::fs::remove_file(kept);
    }
    gone
}

/// Ends what earlier runs left beside the layout that were killed, with their builders. One that
/// cannot be ended is left to the next run.
pub async fn remove_leftovers(destination: &Destination, buildx: &Buildx<'_>, report: &Report) {
    let (destination, remover) = (destination.clone(), buildx.remover());
    let (done, mut swept) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        destination.sweep(|left| {
            let state = left.part(BUILDX);
            builders(&state).iter().all(|name| remove_builder(&remover, &state, name))
        });
        let _ = done.send(());
    });
    if tokio::time::timeout(QUICK, &mut swept).await.is_err() {
        report.detail("ending the builder of an earlier build that was killed");
        let _ = swept.await;
    }
}

/// What the user says of builders in containers: mirrors, certificates. buildx reads it by itself
/// only from its usual state.
fn find_settings(environ: &Environ) -> Option<PathBuf> {
    let folder = environ.get("BUILDX_CONFIG").map(PathBuf::from).or_else(|| {
        let docker = environ.get("DOCKER_CONFIG").map(PathBuf::from);
        Some(
            docker
                .or_else(|| Some(Path::new(environ.get("HOME")?).join(".docker")))?
                .join("buildx"),
        )
    })?;
    Some(folder.join("buildkitd.default.toml"))
}
