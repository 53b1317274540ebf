//! A connection to the engine: its images, and the life of a container from start to removal.
//!
//! <https://docs.docker.com/reference/api/engine/>

mod kept;

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as ApiError;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ImportImageOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use futures::{StreamExt, TryStreamExt};

use super::convert::{create_body, read_container};
use super::network::{ANSWER_TIMEOUT, Clients, find_own_network};
use super::{Container, KILLED, REMOVAL_TIMEOUT, Spec, State, Stopped, Version, archive};
use crate::error::{Error, Result, chain};
use crate::layout::Layout;

/// Where engines listen when nobody says otherwise.
const HOST: &str = "unix:///var/run/docker.sock";

/// Loading a large image is one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);

/// A connection to the engine of this machine.
#[derive(Clone)]
pub struct Engine {
    pub(super) docker: Docker,
    host: String,
    platform: String,
    /// The engine's network that this process is in, when it runs in a container of that engine.
    pub(super) network: Option<String>,
    pub(super) clients: Clients,
}

impl Engine {
    /// Connects. `docker_host` is the value of `DOCKER_HOST`.
    ///
    /// # Errors
    /// Refused, with how to start or reach one, when no engine answers.
    pub async fn connect(docker_host: Option<&str>) -> Result<Engine> {
        let host = docker_host.unwrap_or(HOST);
        let docker = open_socket(host)?;
        let version = docker.version().await.map_err(|error| explain_unreachable(host, &error))?;
        let (os, arch) = (version.os.unwrap_or_default(), version.arch.unwrap_or_default());
        let docker =
            docker.negotiate_version().await.map_err(|error| explain_unreachable(host, &error))?;
        let network = find_own_network(&docker).await;
        let clients = Clients::new()?;
        Ok(Engine {
            docker,
            host: host.to_string(),
            platform: format!("{os}/{arch}"),
            network,
            clients,
        })
    }

    /// Loads a layout's image, unless the engine has it already; gives the engine's identifier of
    /// it, which is a digest of the layout. The engine shows it as `cicd.local/NAME`; what had that
    /// name before is removed when nothing uses it.
    ///
    /// # Errors
    /// Bad input when the layout is for other platforms.
    pub async fn load(&self, layout: &Layout, name: &str) -> Result<String> {
        let image = archive::find_image(layout, &self.platform)?;
        // The containerd store knows an image by its root, the older stores by its configuration.
        let identifiers = [layout.root().digest.to_string(), image.config.digest.to_string()];
        if let Some(found) = self.known(&identifiers).await? {
            return Ok(found);
        }
        let tag = format!("cicd.local/{name}:latest");
        let before = self.identifier(&tag).await?;
        let tar = archive::stream_tar(archive::list_files(layout, image, &tag));
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        let loading = self.docker.import_image_stream(options, tar, None);
        loading
            .try_collect::<Vec<_>>()
            .await
            .map_err(|error| explain_refusal("load the image into the engine", &error))?;
        let loaded = self.known(&identifiers).await?.ok_or_else(|| {
            Error::unexpected(format!(
                "cannot load the image: the engine took it and does not know {}",
                identifiers[0]
            ))
        })?;
        if let Some(before) = before.filter(|before| *before != loaded)
            && !self.has_name(&before).await
        {
            self.remove_image(&before).await;
        }
        Ok(loaded)
    }

    /// Whether an image has a name still: it is kept, and removing it by its identifier would take
    /// its only name too.
    async fn has_name(&self, image: &str) -> bool {
        let found = self.docker.inspect_image(image).await.ok();
        found.and_then(|found| found.repo_tags).is_some_and(|names| !names.is_empty())
    }

    /// Writes an image into `file` as `docker save` does.
    ///
    /// # Errors
    /// Unexpected, when the engine does not give it; what writing fails with is told to
    /// `unwritable`.
    pub async fn save(
        &self,
        image: &str,
        file: std::fs::File,
        unwritable: impl Fn(std::io::Error) -> Error,
    ) -> Result<()> {
        let mut file = tokio::fs::File::from_std(file);
        let mut saved = std::pin::pin!(self.docker.export_image(image));
        while let Some(bytes) = saved.next().await {
            let bytes =
                bytes.map_err(|error| explain_refusal(&format!("save image {image}"), &error))?;
            tokio::io::AsyncWriteExt::write_all(&mut file, &bytes).await.map_err(&unwritable)?;
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(&unwritable)
    }

    async fn known(&self, identifiers: &[String]) -> Result<Option<String>> {
        for identifier in identifiers {
            if self.identifier(identifier).await?.as_ref() == Some(identifier) {
                return Ok(Some(identifier.clone()));
            }
        }
        Ok(None)
    }

    /// The engine's identifier of an image; none when it does not have it.
    ///
    /// # Errors
    /// Unexpected, when the engine does not answer.
    pub async fn identifier(&self, image: &str) -> Result<Option<String>> {
        let found = self.docker.inspect_image(image).await;
        Ok(keep_present(found)
            .map_err(|error| explain_refusal(&format!("find image {image}"), &error))?
            .and_then(|i| i.id))
    }

    /// The digest that an image's registry says for it now; none when it cannot be asked.
    pub async fn digest(&self, image: &str) -> Option<String> {
        self.docker.inspect_registry_image(image, None).await.ok()?.descriptor.digest
    }

    /// Removes an image that nothing uses; what is used stays.
    pub async fn remove_image(&self, image: &str) {
        let _ = self
            .docker
            .remove_image(image, None::<bollard::query_parameters::RemoveImageOptions>, None)
            .await;
    }

    /// Makes a container and starts it. A command that cannot be started is a container that has
    /// [`State::Ended`], not an error: it is the image's fault, and its container tells why.
    ///
    /// # Errors
    /// Unexpected, when the engine refuses; then no container is left.
    pub async fn start(&self, spec: &Spec) -> Result<()> {
        let name = &spec.name;
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let create = || {
            self.docker
                .create_container(Some(options.clone()), create_body(spec, self.network.as_deref()))
        };
        let created = match create().await {
            // An engine that removes other images at this moment may lose what it has just unpacked
            // of this one: it does so again.
            Err(error) if lacks_a_snapshot(&error) => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                create().await
            }
            created => created,
        };
        created.map_err(|error| explain_refusal(&format!("create container {name}"), &error))?;
        let options = None::<bollard::query_parameters::StartContainerOptions>;
        if let Err(error) = self.docker.start_container(name, options).await {
            let told = self
                .inspect(name)
                .await?
                .is_some_and(|container| matches!(container.state, State::Ended { .. }));
            if !told {
                self.remove(name).await?;
                return Err(explain_refusal(&format!("start container {name}"), &error));
            }
        }
        Ok(())
    }

    /// A container by its name.
    ///
    /// # Errors
    /// Unexpected, when the engine does not answer.
    pub async fn inspect(&self, name: &str) -> Result<Option<Container>> {
        let options = None::<bollard::query_parameters::InspectContainerOptions>;
        let found = keep_present(self.docker.inspect_container(name, options).await);
        let found =
            found.map_err(|error| explain_refusal(&format!("inspect container {name}"), &error))?;
        Ok(found.map(|found| read_container(found, self.network.as_deref())))
    }

    /// Every container that carries all of `labels`, running or not.
    ///
    /// # Errors
    /// Unexpected, when the engine does not answer.
    pub async fn list(&self, labels: &[(&str, &str)]) -> Result<Vec<Container>> {
        let labels = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let filters = HashMap::from([("label".to_string(), labels)]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| explain_refusal("list containers", &error))?;
        let mut containers = Vec::new();
        for id in listed.into_iter().filter_map(|summary| summary.id) {
            containers.extend(self.inspect(&id).await?);
        }
        Ok(containers)
    }

    /// Has a container end by itself within `grace`, and kills it otherwise. It is not removed.
    ///
    /// # Errors
    /// Unexpected, when the engine refuses.
    #[expect(clippy::disallowed_methods, reason = "the time is what is measured")]
    pub async fn end(&self, name: &str, grace: Duration) -> Result<Stopped> {
        // The engine counts in whole seconds.
        let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let started = std::time::Instant::now();
        let stopped = self.docker.stop_container(name, Some(options)).await;
        stopped.map_err(|error| explain_refusal(&format!("stop container {name}"), &error))?;
        let after = started.elapsed();
        let ended = self.inspect(name).await?.map(|container| container.state);
        // A busy engine may take longer than the service: what was killed says so by its exit code.
        let killed =
            after >= grace && matches!(ended, Some(State::Ended { exit_code: KILLED, .. }));
        Ok(Stopped { after, killed })
    }

    /// Has a container end by itself within `grace`, kills it otherwise, and removes it.
    ///
    /// # Errors
    /// Unexpected, when the engine refuses; one that is gone already is no error.
    pub async fn stop(&self, name: &str, grace: Duration) -> Result<()> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let stopped = keep_present(self.docker.stop_container(name, Some(options)).await);
        stopped.map_err(|error| explain_refusal(&format!("stop container {name}"), &error))?;
        self.remove(name).await
    }

    /// Kills a container and removes it, with its anonymous volumes.
    ///
    /// # Errors
    /// As [`Engine::stop`].
    pub async fn remove(&self, name: &str) -> Result<()> {
        kill_container(&self.docker, name)
            .await
            .map_err(|error| explain_refusal(&format!("remove container {name}"), &error))
    }

    /// Containers that are removed when this is dropped, whatever happened until then.
    pub fn removal(&self, names: Vec<String>) -> Removal {
        Removal { host: self.host.clone(), names }
    }
}

/// Removes containers when it is dropped: at the end of a check, on an error, and when a signal
/// ends the run.
pub struct Removal {
    host: String,
    names: Vec<String>,
}

impl Drop for Removal {
    fn drop(&mut self) {
        let (host, names) = (self.host.clone(), std::mem::take(&mut self.names));
        let (done, finished) = std::sync::mpsc::channel();
        // A runtime of its own: the one this is dropped on may be ending, and nobody can wait in a
        // drop.
        std::thread::spawn(move || {
            if let (Ok(docker), Ok(runtime)) = (
                open_socket(&host),
                tokio::runtime::Builder::new_current_thread().enable_all().build(),
            ) {
                runtime.block_on(futures::future::join_all(
                    names.iter().map(|name| kill_container(&docker, name)),
                ));
            }
            let _ = done.send(());
        });
        let _ = finished.recv_timeout(REMOVAL_TIMEOUT);
    }
}

/// Which engine answers; none when nobody does in time. `docker_host` is the value of
/// `DOCKER_HOST`.
pub async fn read_version(docker_host: Option<&str>) -> Option<Version> {
    let docker = open_socket(docker_host.unwrap_or(HOST)).ok()?;
    let found = tokio::time::timeout(ANSWER_TIMEOUT, docker.version()).await.ok()?.ok()?;
    Some(Version {
        engine: found.version.unwrap_or_default(),
        api: found.api_version.unwrap_or_default(),
    })
}

async fn kill_container(docker: &Docker, name: &str) -> Result<(), ApiError> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let ends = tokio::time::Instant::now() + REMOVAL_TIMEOUT;
    loop {
        let removed = keep_present(docker.remove_container(name, Some(options.clone())).await);
        // Somebody else is removing it, or an earlier request of ours: it is gone when that is
        // done.
        if !matches!(removed, Err(ApiError::DockerResponseServerError { status_code: 409, .. })) {
            return removed.map(|_| ());
        }
        if tokio::time::Instant::now() >= ends {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn open_socket(host: &str) -> Result<Docker> {
    if !host.starts_with("unix://") {
        let scheme = host.split("://").next().unwrap_or_default();
        return Err(Error::refused(format!(
            "cannot run containers by DOCKER_HOST: it is a {scheme} address, and they run on this \
             machine"
        ))
        .fix("unset DOCKER_HOST, or name a socket: DOCKER_HOST=unix:///var/run/docker.sock"));
    }
    Docker::connect_with_unix(host, REQUEST_TIMEOUT.as_secs(), bollard::API_DEFAULT_VERSION)
        .map_err(|error| explain_unreachable(host, &error))
}

fn explain_unreachable(host: &str, error: &ApiError) -> Error {
    let why = chain(error);
    let fix = if why.to_lowercase().contains("permission denied") {
        "let this user use the socket: `sudo usermod -aG docker $USER`, then log in again"
    } else {
        "start Docker (`sudo systemctl start docker`, or Docker Desktop), or name its socket in \
         DOCKER_HOST; \
         in GitHub Actions use a Linux runner: `runs-on: ubuntu-24.04`"
    };
    Error::refused(format!("cannot reach {host}: no Docker engine answers")).why(why).fix(fix)
}

pub(super) fn explain_refusal(attempt: &str, error: &ApiError) -> Error {
    let why: Box<dyn Display> = match error {
        ApiError::DockerResponseServerError { message, .. } => Box::new(message.clone()),
        _ => Box::new(chain(error)),
    };
    Error::unexpected(format!("cannot {attempt}")).why(why)
}

/// Whether the engine's containerd does not find a part of an image that it has.
fn lacks_a_snapshot(error: &ApiError) -> bool {
    matches!(error, ApiError::DockerResponseServerError { message, .. } if message.contains("snapshot") && message.contains("does not exist"))
}

/// What is not there is no error.
pub(super) fn keep_present<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_elsewhere_is_refused() {
        for host in ["tcp://10.0.0.1:2375", "ssh://me@build", "nonsense"] {
            let error = open_socket(host).expect_err(host);
            assert_eq!(error.kind.exit_code(), 3);
            assert!(error.advice().contains("unix://"));
        }
    }
}
