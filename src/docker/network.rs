//! Where this process and the engine's containers meet: the network that both are in, and the
//! clients that ask them.

use std::path::Path;
use std::time::Duration;

use bollard::Docker;

use super::Container;
use crate::error::{Error, Result, chain};
use crate::http;

/// A service that is well answers its health path at once.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How containers are asked.
#[derive(Clone)]
pub struct Clients {
    pub plain: reqwest::Client,
    /// For whoever speaks TLS, with a certificate that nobody signed.
    pub any_certificate: reqwest::Client,
}

impl Clients {
    /// Makes the clients.
    ///
    /// # Errors
    /// Unexpected, when TLS cannot be set up.
    pub fn new() -> Result<Clients> {
        let build = |accepts_any: bool| {
            // A proxy must not stand between this process and a container on the same machine, and
            // a redirect is no 2xx.
            http::start_client()
                .no_proxy()
                // As a kubelet asks: a connection that is kept, or was opened to spare, holds up
                // the end of a server that waits for it.
                .pool_max_idle_per_host(0)
                .tls_danger_accept_invalid_certs(accepts_any)
                .timeout(ANSWER_TIMEOUT)
                .build()
                .map_err(|error| Error::unexpected("cannot make an HTTP client").why(chain(&error)))
        };
        Ok(Clients { plain: build(false)?, any_certificate: build(true)? })
    }
}

/// Where a process in `network`, or on the machine itself, reaches a path of a container.
pub fn build_url(
    container: &Container,
    network: Option<&str>,
    port: u16,
    path: &str,
) -> Option<String> {
    let place = match network {
        // An older version may listen elsewhere than the one that is asked for now.
        Some(_) => format!("{}:{}", container.address.as_ref()?, container.port.unwrap_or(port)),
        None => format!("127.0.0.1:{}", container.published?),
    };
    Some(format!("http://{place}{path}"))
}

/// The engine's network this process is in. None when it shares the machine's own, where published
/// ports are reached.
///
/// Container actions run in a network that GitHub's runner makes for the job: there 127.0.0.1 is
/// the action's own container.
pub async fn find_own_network(docker: &Docker) -> Option<String> {
    let mounts = std::fs::read_to_string(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let mut id = find_own_container(&mounts)?;
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
fn find_own_container(mounts: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let (_, rest) = line.split_once("/containers/")?;
        let id = rest.split('/').next()?;
        (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_string())
    })
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerInspectResponse;

    use super::super::convert::read_container;
    use super::*;

    #[test]
    fn a_container_finds_its_own_identifier() {
        let id = "a".repeat(64);
        let inside = format!(
            "1 2 0:1 / / rw - overlay overlay rw\n3 2 8:1 /var/lib/docker/containers/{id}/hostname \
             /etc/hostname rw - ext4 /dev/sda1 rw\n"
        );
        assert_eq!(find_own_container(&inside), Some(id));
        assert_eq!(find_own_container("1 2 8:1 / / rw - ext4 /dev/sda1 rw\n"), None);
        assert_eq!(
            find_own_container("1 2 8:1 /x/containers/storage/y /z rw - ext4 /dev/sda1 rw\n"),
            None
        );
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
            let found = read_container(settings(&format!("{{{ports}, {networks}}}")), network);
            assert_eq!(
                build_url(&found, network, 8080, "/healthz").as_deref(),
                wanted,
                "{ports} {networks} {network:?}"
            );
        }
    }
}
