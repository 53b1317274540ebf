//! Containers as the engine's API writes them, from and to our own small types.
//!
//! <https://docs.docker.com/reference/api/engine/>

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum,
    HealthConfig, HostConfig, HostConfigLogConfig, PortBinding,
};

use super::{Container, Spec, State};

/// Returns the container as Kubernetes runs it: no privilege beyond the image's user, and no swap beyond its memory.
pub fn create_body(spec: &Spec, network: Option<&str>) -> ContainerCreateBody {
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

/// Reads a container. `network` is the engine's network that this process is in.
pub fn read_container(found: ContainerInspectResponse, network: Option<&str>) -> Container {
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
    let address = network
        .and_then(|network| networks.get(network)?.ip_address.clone())
        .filter(|address| !address.is_empty());
    let mut own: Vec<String> = networks.into_values().filter_map(|one| one.ip_address).collect();
    own.retain(|address| !address.is_empty());
    own.sort();
    Container {
        name: found.name.unwrap_or_default().trim_start_matches('/').to_string(),
        image: found.image.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        state: read_state(found.state.unwrap_or_default()),
        published,
        port,
        own_address: address.clone().or_else(|| own.into_iter().next()),
        address,
    }
}

fn read_state(found: ContainerState) -> State {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_never_started_has_ended() {
        let found = |status, error: &str, exit_code| ContainerState {
            status: Some(status),
            error: Some(error.to_string()),
            exit_code: Some(exit_code),
            ..Default::default()
        };
        assert_eq!(read_state(found(ContainerStateStatusEnum::CREATED, "", 0)), State::Created);
        assert_eq!(read_state(found(ContainerStateStatusEnum::RUNNING, "", 0)), State::Running);
        let ended = |exit_code, error: Option<&str>| State::Ended {
            exit_code,
            out_of_memory: false,
            error: error.map(str::to_string),
        };
        assert_eq!(
            read_state(found(ContainerStateStatusEnum::CREATED, "no such file", 127)),
            ended(127, Some("no such file"))
        );
        assert_eq!(read_state(found(ContainerStateStatusEnum::EXITED, "", 3)), ended(3, None));
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
            create_body(spec, network).host_config.and_then(|host| host.port_bindings)
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
    fn a_container_has_the_address_that_probes_name() {
        let found = |text: &str| ContainerInspectResponse {
            network_settings: Some(serde_json::from_str(text).expect("the engine's words")),
            ..Default::default()
        };
        let both = r#"{"Networks": {"job": {"IPAddress": "172.18.0.3"}, "bridge": {"IPAddress": "172.17.0.2"}}}"#;
        let none = r#"{"Networks": {"job": {"IPAddress": ""}}}"#;
        for (text, network, address, own) in [
            (both, Some("job"), Some("172.18.0.3"), Some("172.18.0.3")),
            (both, None, None, Some("172.17.0.2")),
            (none, Some("job"), None, None),
            ("{}", None, None, None),
        ] {
            let read = read_container(found(text), network);
            assert_eq!(read.address.as_deref(), address, "{text} {network:?}");
            assert_eq!(read.own_address.as_deref(), own, "{text} {network:?}");
        }
    }
}
