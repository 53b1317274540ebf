//! An environment of its own for each pull request: what differs from the one that platform.yaml
//! has for all of them. Pure.

use super::settings::{Destination, Settings, Target};
use super::strategy::Strategy;
use super::values::{Name, UrlPath};
use crate::error::{Error, Result};

/// What stands for the pull request's number in values of `env`.
const NUMBER: &str = "{pull-request}";

/// Makes an environment that of a pull request: `preview` becomes `preview-12`, in a namespace of
/// its own on eks, as a service of its own on ecs, on a path of its own. Its buckets stay those
/// that all previews share.
///
/// # Errors
/// Bad input when a name becomes too long.
pub fn make_preview(
    settings: &mut Settings,
    destination: &mut Destination,
    number: u64,
) -> Result<()> {
    let Some(preview) = &mut destination.preview else { return Ok(()) };
    preview.number = Some(number);
    settings.environment = format!("{}-{number}", settings.environment);
    // It has no users to be careful with.
    settings.strategy = Strategy::Rolling;
    for value in settings.env.values_mut() {
        *value = value.replace(NUMBER, &number.to_string());
    }
    let too_long = |what: &str, why: String| {
        Error::input(format!("cannot make a {what} for pull request {number}"))
            .why(why)
            .fix("shorten the service's name, or `eks.namespace` of the preview's environment")
    };
    if let Some(expose) = &mut settings.expose {
        let path = expose.path.as_str().trim_end_matches('/');
        let path = match path {
            "" => format!("/pr-{number}"),
            path => format!("{path}-pr-{number}"),
        };
        expose.path = UrlPath::try_from(path).map_err(|why| too_long("path", why))?;
    }
    match &mut destination.target {
        Target::Eks(cluster) => {
            let namespace = format!("{}-{}-{number}", cluster.namespace, settings.name);
            cluster.namespace =
                Name::try_from(namespace).map_err(|why| too_long("namespace", why))?;
        }
        Target::Ecs { .. } => settings.name = service_name(&settings.name, number),
        Target::Local => {}
    }
    Ok(())
}

/// What a service on ecs is called in the preview of a pull request.
pub fn service_name(service: &str, number: u64) -> String {
    format!("{service}-pr-{number}")
}

/// The pull request of a service on ecs that is called so. `None` if it is no preview.
pub fn read_service_name(name: &str, service: &str) -> Option<u64> {
    name.strip_prefix(service)?.strip_prefix("-pr-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::platform::Platform;
    use crate::config::service::Service;
    use crate::config::settings::{destination, resolve};
    use crate::config::yaml::parse;

    const PLATFORM: &str = "registry: {account: \"111122223333\", region: eu-west-1}\nenvironments:\n  \
        preview: {target: eks, region: eu-west-1, eks: {cluster: c, namespace: previews}, preview: {}}\n  \
        tasks: {target: ecs, region: eu-west-1, ecs: {cluster: c, subnets: [], security-groups: []}, preview: {expires: 24h}}\n  \
        staging: {target: eks, region: eu-west-1, eks: {cluster: c, namespace: staging}}\n";

    fn preview(environment: &str, service: &str) -> Result<(Settings, Destination)> {
        let platform: Platform = parse(PLATFORM, Path::new("platform.yaml")).expect("a platform");
        let service: Service = parse(service, Path::new("service.yaml")).expect("a service");
        let mut settings = resolve(&service, environment)?;
        let mut destination = destination(Some(&platform), environment)?;
        make_preview(&mut settings, &mut destination, 12)?;
        Ok((settings, destination))
    }

    #[test]
    fn each_pull_request_has_names_of_its_own() {
        let service = "name: patients\nport: 1\nexpose: {path: /patients}\nenvironments: {preview: {env: {ROOT: '/patients-pr-{pull-request}'}}}\n";
        let (settings, destination) = preview("preview", service).expect("a preview");
        let Target::Eks(cluster) = &destination.target else { panic!("{destination:?}") };
        assert_eq!(cluster.namespace.as_str(), "previews-patients-12");
        assert_eq!(
            (settings.name.as_str(), settings.environment.as_str()),
            ("patients", "preview-12")
        );
        assert_eq!(settings.env["ROOT"], "/patients-pr-12");
        assert_eq!(settings.expose.expect("a path").path.as_str(), "/patients-pr-12");
        let preview_of = destination.preview.expect("a preview");
        assert_eq!((preview_of.expires.as_secs(), preview_of.number), (72 * 3600, Some(12)));

        let (settings, _) =
            preview("tasks", "name: patients\nport: 1\nexpose: {path: /}\n").expect("one");
        assert_eq!(settings.name, "patients-pr-12");
        assert_eq!(
            (settings.owner.service.as_str(), settings.owner.environment.as_str()),
            ("patients", "tasks")
        );
        assert_eq!(settings.expose.expect("a path").path.as_str(), "/pr-12");

        let (settings, _) = preview("staging", service).expect("an environment");
        assert_eq!(
            (settings.name.as_str(), settings.environment.as_str()),
            ("patients", "staging")
        );
        let long = format!("name: {}\nport: 1\n", "x".repeat(60));
        let refused = preview("preview", &long).expect_err("too long");
        assert!(refused.message.contains("cannot make a namespace"), "{refused}");
    }

    #[test]
    fn a_name_tells_its_pull_request() {
        for (name, number) in [
            ("patients-pr-12", Some(12)),
            ("patients", None),
            ("patients-pr-x", None),
            ("patients-archive-pr-12", None),
            ("patient-pr-12", None),
        ] {
            assert_eq!(read_service_name(name, "patients"), number, "{name}");
        }
        assert_eq!(read_service_name(&service_name("a", 7), "a"), Some(7));
    }
}
