//! The engine's API: the one file that names its SDK.
//!
//! <https://docs.docker.com/reference/api/engine/>

use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum,
    HealthConfig, HostConfig, HostConfigLogConfig, PortBinding,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ImportImageOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
    TopOptionsBuilder,
};
use futures::{Stream, StreamExt, TryStreamExt};

use super::inside::{FILES, Inside, PS, Processes};
use super::{
    Answer, Container, KILLED, Page, REMOVAL_TIMEOUT, Spec, State, Stopped, Version, archive,
    diagnosis,
};
use crate::error::{Error, Result, chain};
use crate::layout::Layout;

/// Where engines listen when nobody says otherwise.
const HOST: &str = "unix:///var/run/docker.sock";

/// Loading a large image is one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);

/// A service that is well answers its health path at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// What only explains a failure must not hold it up.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// As much of an answer's body as is looked at, in bytes.
const PAGE: usize = 64 * 1024;

/// The longest log line that is shown whole, in characters.
const LINE: usize = 500;

/// A connection to the engine of this machine.
#[derive(Clone)]
pub struct Engine {
    docker: Docker,
    host: String,
    platform: String,
    /// The engine's network that this process is in, when it runs in a container of that engine.
    network: Option<String>,
    http: reqwest::Client,
}

impl Engine {
    /// Connects. `docker_host` is the value of `DOCKER_HOST`.
    ///
    /// # Errors
    /// Refused, with how to start or reach one, when no engine answers.
    pub async fn connect(docker_host: Option<&str>) -> Result<Engine> {
        let host = docker_host.unwrap_or(HOST);
        let docker = open(host)?;
        let version = docker.version().await.map_err(|error| unreachable(host, &error))?;
        let (os, arch) = (version.os.unwrap_or_default(), version.arch.unwrap_or_default());
        let docker = docker.negotiate_version().await.map_err(|error| unreachable(host, &error))?;
        let network = own_network(&docker).await;
        // A proxy must not stand between this process and a container on the same machine, and a
        // redirect is no 2xx.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // As a kubelet asks: a connection that is kept, or was opened to spare, holds up the
            // end of a server that waits for it.
            .pool_max_idle_per_host(0)
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(|error| Error::unexpected("cannot make an HTTP client").why(chain(&error)))?;
        Ok(Engine {
            docker,
            host: host.to_string(),
            platform: format!("{os}/{arch}"),
            network,
            http,
        })
    }

    /// Loads a layout's image, unless the engine has it already; gives the engine's identifier of
    /// it, which is a digest of the layout. The engine shows it as `cicd.local/NAME`; what had that
    /// name before is removed when nothing uses it.
    ///
    /// # Errors
    /// Bad input when the layout is for other platforms.
    pub async fn load(&self, layout: &Layout, name: &str) -> Result<String> {
        let image = archive::image_for(layout, &self.platform)?;
        // The containerd store knows an image by its root, the older stores by its configuration.
        let identifiers = [layout.root().digest.to_string(), image.config.digest.to_string()];
        if let Some(found) = self.known(&identifiers).await? {
            return Ok(found);
        }
        let tag = format!("cicd.local/{name}:latest");
        let before = self.identifier(&tag).await?;
        let tar = archive::stream(archive::files(layout, image, &tag));
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        let loading = self.docker.import_image_stream(options, tar, None);
        loading
            .try_collect::<Vec<_>>()
            .await
            .map_err(|error| failed("load the image into the engine", &error))?;
        let loaded = self.known(&identifiers).await?.ok_or_else(|| {
            Error::unexpected(format!(
                "the engine took the image and does not know {}",
                identifiers[0]
            ))
        })?;
        if let Some(before) = before.filter(|before| *before != loaded) {
            self.remove_image(&before).await;
        }
        Ok(loaded)
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
            let bytes = bytes.map_err(|error| failed(&format!("save image {image}"), &error))?;
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
        Ok(present(found)
            .map_err(|error| failed(&format!("find image {image}"), &error))?
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
            self.docker.create_container(Some(options.clone()), body(spec, self.network.as_deref()))
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
        created.map_err(|error| failed(&format!("create container {name}"), &error))?;
        let options = None::<bollard::query_parameters::StartContainerOptions>;
        if let Err(error) = self.docker.start_container(name, options).await {
            let told = self
                .inspect(name)
                .await?
                .is_some_and(|container| matches!(container.state, State::Ended { .. }));
            if !told {
                self.remove(name).await?;
                return Err(failed(&format!("start container {name}"), &error));
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
        let found = present(self.docker.inspect_container(name, options).await);
        let found = found.map_err(|error| failed(&format!("inspect container {name}"), &error))?;
        Ok(found.map(|found| container(found, self.network.as_deref())))
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
        let listed = listed.map_err(|error| failed("list containers", &error))?;
        let mut containers = Vec::new();
        for id in listed.into_iter().filter_map(|summary| summary.id) {
            containers.extend(self.inspect(&id).await?);
        }
        Ok(containers)
    }

    /// One GET of a path of a container. One that publishes no port listens on `port`.
    pub async fn ask(&self, container: &Container, port: u16, path: &str) -> Answer {
        let Some(url) = url(container, self.network.as_deref(), port, path) else {
            return Answer::Silence("it has no address yet".into());
        };
        match self.http.get(url).send().await {
            Ok(response) => Answer::Status(response.status().as_u16()),
            Err(error) if error.is_timeout() => {
                Answer::Silence(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
            }
            // The engine's proxy takes a connection and closes it again when nobody listens behind
            // it.
            Err(error) if error.is_connect() => Answer::Silence("connection refused".into()),
            Err(_) => Answer::Silence("the connection was closed without an answer".into()),
        }
    }

    /// A container's last `lines` log lines, oldest first. What cannot be read is left out: logs
    /// only explain.
    pub async fn log_tail(&self, name: &str, lines: usize) -> Vec<String> {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .tail(&lines.to_string())
            .build();
        let text = text(self.docker.logs(name, Some(options))).await;
        let all: Vec<&str> = text.lines().map(str::trim_end).collect();
        all[all.len().saturating_sub(lines)..]
            .iter()
            .map(|line| line.chars().take(LINE).collect())
            .collect()
    }

    /// The whole answer to one GET of a path of a container; none when there is no answer in time.
    pub async fn page(&self, container: &Container, port: u16, path: &str) -> Option<Page> {
        let mut response = self
            .http
            .get(url(container, self.network.as_deref(), port, path)?)
            .send()
            .await
            .ok()?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() >= PAGE {
                body.truncate(PAGE);
                break;
            }
        }
        Some(Page { status, body: String::from_utf8_lossy(&body).into_owned() })
    }

    /// Where a running container listens, as far as a `cat` in it can tell.
    pub async fn listening(&self, name: &str) -> Option<Vec<diagnosis::Socket>> {
        self.inside(name).await.listening
    }

    /// What a running container's /proc tells, as far as there is a `cat` in it.
    pub async fn inside(&self, name: &str) -> Inside {
        let command = std::iter::once("cat").chain(FILES).collect();
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            cmd: Some(command),
            ..Default::default()
        };
        let Ok(exec) = self.docker.create_exec(name, options).await else {
            return Inside::default();
        };
        match self.docker.start_exec(&exec.id, None::<StartExecOptions>).await {
            Ok(StartExecResults::Attached { output, .. }) => Inside::read(&text(output).await),
            _ => Inside::default(),
        }
    }

    /// The processes of a running container; none when the engine cannot tell.
    pub async fn processes(&self, name: &str) -> Option<Processes> {
        let options = TopOptionsBuilder::default().ps_args(PS).build();
        let look = None::<bollard::query_parameters::InspectContainerOptions>;
        let (found, top) = futures::future::try_join(
            self.docker.inspect_container(name, look),
            self.docker.top_processes(name, Some(options)),
        )
        .await
        .ok()?;
        Some(Processes::read(found.state?.pid?, &top.processes?))
    }

    /// The paths of a container's file system that are not as the image has them: written, added or
    /// removed. Of a folder that is listed for what is in it, only that.
    pub async fn changes(&self, name: &str) -> Option<Vec<String>> {
        let changes = self.docker.container_changes(name).await.ok()?;
        let mut paths: Vec<String> =
            changes.unwrap_or_default().into_iter().map(|change| change.path).collect();
        paths.sort();
        let is_parent = |path: &String| {
            let below = format!("{}/", path.trim_end_matches('/'));
            paths
                .binary_search(&below)
                .is_err_and(|at| paths.get(at).is_some_and(|next| next.starts_with(&below)))
        };
        Some(paths.iter().filter(|path| !is_parent(path)).cloned().collect())
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
        stopped.map_err(|error| failed(&format!("stop container {name}"), &error))?;
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
        let stopped = present(self.docker.stop_container(name, Some(options)).await);
        stopped.map_err(|error| failed(&format!("stop container {name}"), &error))?;
        self.remove(name).await
    }

    /// Kills a container and removes it, with its anonymous volumes.
    ///
    /// # Errors
    /// As [`Engine::stop`].
    pub async fn remove(&self, name: &str) -> Result<()> {
        kill(&self.docker, name)
            .await
            .map_err(|error| failed(&format!("remove container {name}"), &error))
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
            if let (Ok(docker), Ok(runtime)) =
                (open(&host), tokio::runtime::Builder::new_current_thread().enable_all().build())
            {
                runtime.block_on(futures::future::join_all(
                    names.iter().map(|name| kill(&docker, name)),
                ));
            }
            let _ = done.send(());
        });
        let _ = finished.recv_timeout(REMOVAL_TIMEOUT);
    }
}

/// Which engine answers; none when nobody does in time. `docker_host` is the value of
/// `DOCKER_HOST`.
pub async fn version(docker_host: Option<&str>) -> Option<Version> {
    let docker = open(docker_host.unwrap_or(HOST)).ok()?;
    let found = tokio::time::timeout(ANSWER_TIMEOUT, docker.version()).await.ok()?.ok()?;
    Some(Version {
        engine: found.version.unwrap_or_default(),
        api: found.api_version.unwrap_or_default(),
    })
}

/// What a container wrote, as far as it came in time.
async fn text(output: impl Stream<Item = Result<LogOutput, ApiError>>) -> String {
    let mut bytes = Vec::new();
    let read = async {
        let mut output = std::pin::pin!(output);
        while let Some(Ok(chunk)) = output.next().await {
            bytes.extend_from_slice(&chunk.into_bytes());
        }
    };
    // What did not come in time is left out.
    let _ = tokio::time::timeout(EXPLAIN_TIMEOUT, read).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn kill(docker: &Docker, name: &str) -> Result<(), ApiError> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let ends = tokio::time::Instant::now() + REMOVAL_TIMEOUT;
    loop {
        let removed = present(docker.remove_container(name, Some(options.clone())).await);
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

fn open(host: &str) -> Result<Docker> {
    if !host.starts_with("unix://") {
        let scheme = host.split("://").next().unwrap_or_default();
        return Err(Error::refused(format!(
            "DOCKER_HOST is a {scheme} address, and containers are run on this machine"
        ))
        .fix("unset DOCKER_HOST, or name a socket: DOCKER_HOST=unix:///var/run/docker.sock"));
    }
    Docker::connect_with_unix(host, REQUEST_TIMEOUT.as_secs(), bollard::API_DEFAULT_VERSION)
        .map_err(|error| unreachable(host, &error))
}

fn unreachable(host: &str, error: &ApiError) -> Error {
    let why = chain(error);
    let fix = if why.to_lowercase().contains("permission denied") {
        "let this user use the socket: `sudo usermod -aG docker $USER`, then log in again"
    } else {
        "start Docker (`sudo systemctl start docker`, or Docker Desktop), or name its socket in DOCKER_HOST; \
         in GitHub Actions use a Linux runner: `runs-on: ubuntu-24.04`"
    };
    Error::refused(format!("no Docker engine answers at {host}")).why(why).fix(fix)
}

fn failed(attempt: &str, error: &ApiError) -> Error {
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
fn present<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// As Kubernetes runs it: no privilege beyond the image's user, and no swap beyond its memory.
fn body(spec: &Spec, network: Option<&str>) -> ContainerCreateBody {
    let memory = i64::from(spec.memory) * 1024 * 1024;
    let published = spec.port.filter(|_| spec.published || network.is_none());
    let port = published.map(|port| format!("{port}/tcp"));
    let loopback =
        PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some(String::new()) };
    let logs = HashMap::from([("max-size".to_string(), "10m".to_string())]);
    let host = HostConfig {
        memory: Some(memory),
        memory_swap: Some(memory),
        port_bindings: port.clone().map(|port| HashMap::from([(port, Some(vec![loopback]))])),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(vec!["no-new-privileges".into()]),
        network_mode: network.map(str::to_string),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".into()), config: Some(logs) }),
        ..Default::default()
    };
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: spec.command.clone(),
        env: Some(spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        exposed_ports: port.map(|port| vec![port]),
        host_config: Some(host),
        // We ask from outside, as Kubernetes and a load balancer do; the image's own look would
        // start programs beside the service.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
        ..Default::default()
    }
}

fn container(found: ContainerInspectResponse, network: Option<&str>) -> Container {
    let config = found.config.unwrap_or_default();
    let settings = found.network_settings.unwrap_or_default();
    let (port, published) = settings
        .ports
        .iter()
        .flatten()
        .find_map(|(port, bindings)| {
            let published = bindings.as_ref()?.first()?.host_port.as_ref()?.parse().ok()?;
            Some((port.split('/').next()?.parse().ok(), Some(published)))
        })
        .unwrap_or_default();
    let networks = settings.networks.unwrap_or_default();
    let address = network.and_then(|network| networks.get(network)?.ip_address.clone());
    Container {
        name: found.name.unwrap_or_default().trim_start_matches('/').to_string(),
        image: found.image.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        state: state(found.state.unwrap_or_default()),
        published,
        port,
        address: address.filter(|address| !address.is_empty()),
    }
}

/// Where a process in `network`, or on the machine itself, reaches a path of a container.
fn url(container: &Container, network: Option<&str>, port: u16, path: &str) -> Option<String> {
    let place = match network {
        // An older version may listen elsewhere than the one that is asked for now.
        Some(_) => format!("{}:{}", container.address.as_ref()?, container.port.unwrap_or(port)),
        None => format!("127.0.0.1:{}", container.published?),
    };
    Some(format!("http://{place}{path}"))
}

fn state(found: ContainerState) -> State {
    let error = found.error.filter(|error| !error.is_empty());
    match found.status {
        Some(ContainerStateStatusEnum::CREATED) | None if error.is_none() => State::Created,
        Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::PAUSED) => {
            State::Running
        }
        _ => State::Ended {
            exit_code: found.exit_code.unwrap_or_default(),
            out_of_memory: found.oom_killed.unwrap_or_default(),
            error,
        },
    }
}

/// The engine's network this process is in. None when it shares the machine's own, where published
/// ports are reached.
///
/// Container actions run in a network that GitHub's runner makes for the job: there 127.0.0.1 is
/// the action's own container.
async fn own_network(docker: &Docker) -> Option<String> {
    let mounts = std::fs::read_to_string(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let mut id = own_container(&mounts)?;
    // `container:ID` borrows another one's network; three borrowings are more than anybody makes.
    for _ in 0..3 {
        let options = None::<bollard::query_parameters::InspectContainerOptions>;
        // Another engine's container, or none: then this engine is reached as from the machine
        // itself.
        let found = docker.inspect_container(&id, options).await.ok()?;
        let mode = found.host_config.and_then(|host| host.network_mode).unwrap_or_default();
        match mode.strip_prefix("container:") {
            Some(other) => id = other.to_string(),
            None if mode == "host" || mode == "none" => return None,
            None => {
                let networks = found
                    .network_settings
                    .and_then(|settings| settings.networks)
                    .unwrap_or_default();
                return networks.into_keys().min();
            }
        }
    }
    None
}

/// The identifier of the container this process runs in: the engine mounts /etc/hostname from a
/// folder of that name.
fn own_container(mounts: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let (_, rest) = line.split_once("/containers/")?;
        let id = rest.split('/').next()?;
        (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_finds_its_own_identifier() {
        let id = "a".repeat(64);
        let inside = format!(
            "1 2 0:1 / / rw - overlay overlay rw\n3 2 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n"
        );
        assert_eq!(own_container(&inside), Some(id));
        assert_eq!(own_container("1 2 8:1 / / rw - ext4 /dev/sda1 rw\n"), None);
        assert_eq!(
            own_container("1 2 8:1 /x/containers/storage/y /z rw - ext4 /dev/sda1 rw\n"),
            None
        );
    }

    #[test]
    fn a_container_that_never_started_has_ended() {
        let found = |status, error: &str, exit_code| ContainerState {
            status: Some(status),
            error: Some(error.to_string()),
            exit_code: Some(exit_code),
            ..Default::default()
        };
        assert_eq!(state(found(ContainerStateStatusEnum::CREATED, "", 0)), State::Created);
        assert_eq!(state(found(ContainerStateStatusEnum::RUNNING, "", 0)), State::Running);
        let ended = |exit_code, error: Option<&str>| State::Ended {
            exit_code,
            out_of_memory: false,
            error: error.map(str::to_string),
        };
        assert_eq!(
            state(found(ContainerStateStatusEnum::CREATED, "no such file", 127)),
            ended(127, Some("no such file"))
        );
        assert_eq!(state(found(ContainerStateStatusEnum::EXITED, "", 3)), ended(3, None));
    }

    #[test]
    fn a_port_is_published_for_others_or_where_nothing_else_reaches_it() {
        let spec = |port, published| Spec {
            name: "one".into(),
            image: "sha256:0".into(),
            command: None,
            env: Default::default(),
            labels: Default::default(),
            port,
            published,
            memory: 64,
        };
        let bindings = |spec: &Spec, network| {
            body(spec, network).host_config.and_then(|host| host.port_bindings)
        };
        for (port, published, network, is_published) in [
            (Some(8000), true, None, true),
            (Some(8000), true, Some("job"), true),
            (Some(8000), false, None, true),
            (Some(8000), false, Some("job"), false),
            (None, false, None, false),
        ] {
            let found = bindings(&spec(port, published), network);
            assert_eq!(found.is_some(), is_published, "{port:?} {published} {network:?}");
            assert!(found.is_none_or(|found| found.contains_key("8000/tcp")));
        }
    }

    #[test]
    fn a_container_is_reached_by_its_own_address_or_where_it_is_published() {
        let settings = |text: &str| ContainerInspectResponse {
            network_settings: Some(serde_json::from_str(text).expect("the engine's words")),
            ..Default::default()
        };
        let bound = r#""Ports": {"9000/tcp": null, "8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}]}"#;
        let unbound = r#""Ports": {"8000/tcp": null}"#;
        let networks = r#""Networks": {"job": {"IPAddress": "172.18.0.3"}, "other": {"IPAddress": "172.19.0.3"}}"#;
        let gone = r#""Networks": {"job": {"IPAddress": ""}}"#;
        for (ports, networks, network, wanted) in [
            (bound, networks, None, Some("http://127.0.0.1:32768/healthz")),
            // It was started when the service still listened on another port.
            (bound, networks, Some("job"), Some("http://172.18.0.3:8000/healthz")),
            (bound, networks, Some("another"), None),
            (unbound, networks, Some("job"), Some("http://172.18.0.3:8080/healthz")),
            (unbound, networks, None, None),
            (unbound, gone, Some("job"), None),
        ] {
            let found = container(settings(&format!("{{{ports}, {networks}}}")), network);
            assert_eq!(
                url(&found, network, 8080, "/healthz").as_deref(),
                wanted,
                "{ports} {networks} {network:?}"
            );
        }
    }

    #[test]
    fn an_engine_elsewhere_is_refused() {
        for host in ["tcp://10.0.0.1:2375", "ssh://me@build", "nonsense"] {
            let error = open(host).expect_err(host);
            assert_eq!(error.kind.exit_code(), 3);
            assert!(error.advice().contains("unix://"));
        }
    }
}
