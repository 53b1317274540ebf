//! An order as the container that runs it. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::deploy::Order;
use crate::docker::Spec;
use crate::error::{Error, Result};

/// The labels a container of a service carries; their values are how the next deploy knows it.
pub const SERVICE: &str = "cicd.clinicult.io/service";
pub const ENVIRONMENT: &str = "cicd.clinicult.io/environment";
pub const VERSION: &str = "cicd.clinicult.io/version";
pub const DIGEST: &str = "cicd.clinicult.io/digest";
/// Counts the deploys, from 1.
pub const REVISION: &str = "cicd.clinicult.io/revision";
/// Where it is asked whether it is well: the next version may be asked elsewhere.
pub const HEALTH: &str = "cicd.clinicult.io/health";
/// A hash of everything the container is made from but the image.
pub const SETTINGS: &str = "cicd.clinicult.io/settings";
/// The container of a before-deploy command; its value is the service's name.
pub const TASK: &str = "cicd.clinicult.io/before-deploy";

/// Values of the service's secrets, by variable.
pub type Secrets = BTreeMap<String, String>;

/// The container's whole environment.
pub fn env(order: &Order, secrets: &Secrets) -> BTreeMap<String, String> {
    let plain = order.settings.container_env(|_| None);
    plain
        .into_iter()
        .chain(secrets.iter().map(|(name, value)| (name.clone(), value.clone())))
        .collect()
}

/// The container that serves. `image` is the engine's identifier of the order's image.
pub fn service(order: &Order, secrets: &Secrets, name: &str, image: &str, revision: u64) -> Spec {
    Spec {
        name: name.to_string(),
        image: image.to_string(),
        command: None,
        env: env(order, secrets),
        labels: labels(order, &settings_hash(order, secrets), revision),
        port: Some(order.settings.port),
        published: true,
        memory: order.settings.memory.mebibytes,
    }
}

/// The container that runs `command` once before the service's.
pub fn before_deploy(
    order: &Order,
    secrets: &Secrets,
    command: &[String],
    name: &str,
    image: &str,
) -> Spec {
    Spec {
        name: name.to_string(),
        image: image.to_string(),
        command: Some(command.to_vec()),
        env: env(order, secrets),
        labels: BTreeMap::from([(TASK.to_string(), order.settings.name.clone())]),
        port: None,
        published: false,
        memory: order.settings.memory.mebibytes,
    }
}

fn labels(order: &Order, settings: &str, revision: u64) -> BTreeMap<String, String> {
    let labels = [
        (SERVICE, order.settings.name.clone()),
        (ENVIRONMENT, order.settings.environment.clone()),
        (VERSION, order.image.version.clone()),
        (DIGEST, order.image.digest.clone()),
        (REVISION, revision.to_string()),
        (HEALTH, order.settings.health.path.clone()),
        (SETTINGS, settings.to_string()),
    ];
    labels.into_iter().map(|(label, value)| (label.to_string(), value)).collect()
}

/// Changes when the container has to be made anew although its image is the same. Not with the
/// version: a second name for one digest restarts nothing.
pub fn settings_hash(order: &Order, secrets: &Secrets) -> String {
    let settings = &order.settings;
    let made_from = json!([
        env(order, secrets),
        settings.port,
        settings.health.path,
        settings.memory.mebibytes,
        settings.before_deploy
    ]);
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, made_from.to_string().as_bytes());
    digest.as_ref().iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The container as a compose file. Secrets stand in it by their names; compose takes their values
/// from its environment.
///
/// # Errors
/// Unexpected, when it cannot be written as YAML.
pub fn compose(order: &Order) -> Result<String> {
    let settings = &order.settings;
    let nothing = Secrets::new();
    let mut env: BTreeMap<String, String> = env(order, &nothing)
        .into_iter()
        .map(|(name, value)| (name, value.replace('$', "$$")))
        .collect();
    env.extend(settings.secrets.keys().map(|name| (name.clone(), format!("${{{name}:?}}"))));
    let mut labels = labels(order, "", 0);
    labels.retain(|label, _| ![SETTINGS, REVISION].contains(&label.as_str()));
    let common = json!({
        "image": order.image.reference(),
        "environment": env,
        "mem_limit": format!("{}m", settings.memory.mebibytes),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "healthcheck": { "disable": true },
    });
    let with = |more: Value| {
        let mut all = common.as_object().cloned().unwrap_or_default();
        all.extend(more.as_object().cloned().unwrap_or_default());
        Value::Object(all)
    };
    let mut service =
        json!({ "labels": labels, "ports": [format!("127.0.0.1::{}", settings.port)] });
    let mut services = serde_json::Map::new();
    if let Some(command) = &settings.before_deploy {
        let task = format!("{}-before-deploy", settings.name);
        service["depends_on"] = json!({ &task: { "condition": "service_completed_successfully" } });
        let command: Vec<String> = command.iter().map(|word| word.replace('$', "$$")).collect();
        services
            .insert(task, with(json!({ "command": command, "labels": { TASK: settings.name } })));
    }
    services.insert(settings.name.clone(), with(service));
    let file = json!({ "name": format!("{}-{}", settings.name, settings.environment), "services": services });
    serde_saphyr::to_string(&file)
        .map_err(|error| Error::unexpected("writing the container as YAML").why(error))
}
