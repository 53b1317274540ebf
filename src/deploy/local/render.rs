//! A state as the container that runs it. Pure.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cli::Environ;
use crate::config::handover;
use crate::deploy::Order;
use crate::deploy::target::State;
use crate::docker::Spec;
use crate::error::{Code, Error, Result};

/// The labels a container of a service carries; their values are how the next deploy knows it.
pub const SERVICE: &str = "cicd.clinicult.io/service";
pub const ENVIRONMENT: &str = "cicd.clinicult.io/environment";
pub const VERSION: &str = "cicd.clinicult.io/version";
pub const DIGEST: &str = "cicd.clinicult.io/digest";
/// Counts the deploys, from 1.
pub const REVISION: &str = "cicd.clinicult.io/revision";
/// Where it is asked whether it is healthy: the next version may be asked elsewhere.
pub const HEALTH: &str = "cicd.clinicult.io/health";
/// A hash of everything the container is made from but the image.
pub const SETTINGS: &str = "cicd.clinicult.io/settings";
/// The container of a before-deploy command; its value is the service's name.
pub const TASK: &str = "cicd.clinicult.io/before-deploy";

/// What a container is made from, but for the image and the secrets' values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LocalDocuments {
    pub env: IndexMap<String, String>,
    /// Variables whose values are secrets.
    pub secrets: Vec<String>,
    /// In MiB.
    pub memory: u32,
    pub before_deploy: Option<Vec<String>>,
}

/// The state of an order.
pub fn render_state(order: &Order) -> State<LocalDocuments> {
    let settings = &order.settings;
    let documents = LocalDocuments {
        env: settings.container_env(|_| None),
        secrets: settings.secrets.keys().cloned().collect(),
        memory: settings.memory.mebibytes,
        before_deploy: settings.before_deploy.clone(),
    };
    State::new("local", order, documents)
}

/// Values of a service's secrets, by variable.
pub type SecretValues = BTreeMap<String, String>;

/// The environment variables of this process that a secret may have its value from.
pub struct SecretVariables(BTreeMap<String, String>);

impl SecretVariables {
    pub fn new(environ: &Environ) -> SecretVariables {
        let is_given = |(name, value): &(&str, &str)| !value.is_empty() && handover::is_free(name);
        let variables = environ.iter().filter(is_given);
        SecretVariables(
            variables.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        )
    }

    /// The value of each of `names`.
    ///
    /// # Errors
    /// Refused, with the lines to type, when one has none.
    pub fn values_of(&self, names: &[String]) -> Result<SecretValues> {
        let missing: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| !self.0.contains_key(*name)).collect();
        if missing.is_empty() {
            let found = names.iter().filter_map(|name| self.0.get_key_value(name));
            return Ok(found.map(|(name, value)| (name.clone(), value.clone())).collect());
        }
        if let Some(reserved) = missing.iter().find(|name| !handover::is_free(name)) {
            return Err(Error::refused(format!("cannot hand {reserved} to the service"))
                .code(Code::SecretUnavailable)
                .why(
                    "service.yaml names it in `secrets`, and a variable of this name belongs to \
                     the runner or to a cloud, not to the service",
                )
                .fix("let the service read a name of its own: `secrets: {APP_TOKEN: …}`"));
        }
        let exports: Vec<String> = missing.iter().map(|name| format!("export {name}=…")).collect();
        Err(Error::refused(format!("cannot find a value for secrets: {}", missing.join(", ")))
            .code(Code::SecretUnavailable)
            .why(
                "in the environment `local` a secret has the value of the environment variable of \
                 the same name",
            )
            .fix(exports.join("\n")))
    }
}

fn full_env(state: &State<LocalDocuments>, secrets: &SecretValues) -> BTreeMap<String, String> {
    let plain = state.documents.env.iter().map(|(name, value)| (name.clone(), value.clone()));
    plain.chain(secrets.iter().map(|(name, value)| (name.clone(), value.clone()))).collect()
}

/// The container that serves. `image` is the engine's identifier of the state's image.
pub fn render_service(
    state: &State<LocalDocuments>,
    secrets: &SecretValues,
    name: &str,
    image: &str,
    revision: u64,
) -> Spec {
    Spec {
        name: name.to_string(),
        image: image.to_string(),
        command: None,
        env: full_env(state, secrets),
        labels: make_labels(state, &hash_settings(state, secrets), revision),
        port: Some(state.port),
        published: true,
        memory: state.documents.memory,
    }
}

/// The container that runs `command` once before the service's.
pub fn render_task(
    state: &State<LocalDocuments>,
    secrets: &SecretValues,
    command: &[String],
    name: &str,
    image: &str,
) -> Spec {
    Spec {
        name: name.to_string(),
        image: image.to_string(),
        command: Some(command.to_vec()),
        env: full_env(state, secrets),
        labels: BTreeMap::from([(TASK.to_string(), state.service.clone())]),
        port: None,
        published: false,
        memory: state.documents.memory,
    }
}

fn make_labels(
    state: &State<LocalDocuments>,
    settings_hash: &str,
    revision: u64,
) -> BTreeMap<String, String> {
    let labels = [
        (SERVICE, state.service.clone()),
        (ENVIRONMENT, state.environment.clone()),
        (VERSION, state.image.version.clone()),
        (DIGEST, state.image.digest.to_string()),
        (REVISION, revision.to_string()),
        (HEALTH, state.health.path.clone()),
        (SETTINGS, settings_hash.to_string()),
    ];
    labels.into_iter().map(|(label, value)| (label.to_string(), value)).collect()
}

/// Changes when the container has to be made anew although its image is the same. Not with the
/// version: a second name for one digest restarts nothing.
pub fn hash_settings(state: &State<LocalDocuments>, secrets: &SecretValues) -> String {
    let made_from = json!([
        full_env(state, secrets),
        state.port,
        state.health.path,
        state.documents.memory,
        state.documents.before_deploy
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
pub fn render_compose(state: &State<LocalDocuments>) -> Result<String> {
    let documents = &state.documents;
    let mut env: BTreeMap<String, String> = documents
        .env
        .iter()
        .map(|(name, value)| (name.clone(), value.replace('$', "$$")))
        .collect();
    env.extend(documents.secrets.iter().map(|name| (name.clone(), format!("${{{name}:?}}"))));
    let mut labels = make_labels(state, "", 0);
    labels.retain(|label, _| ![SETTINGS, REVISION].contains(&label.as_str()));
    let common = json!({
        "image": state.image.reference(),
        "environment": env,
        "mem_limit": format!("{}m", documents.memory),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "healthcheck": { "disable": true },
    });
    let with = |more: Value| {
        let mut all = common.as_object().cloned().unwrap_or_default();
        all.extend(more.as_object().cloned().unwrap_or_default());
        Value::Object(all)
    };
    let mut service = json!({ "labels": labels, "ports": [format!("127.0.0.1::{}", state.port)] });
    let mut services = serde_json::Map::new();
    if let Some(command) = &documents.before_deploy {
        let task = format!("{}-before-deploy", state.service);
        service["depends_on"] = json!({ &task: { "condition": "service_completed_successfully" } });
        let command: Vec<String> = command.iter().map(|word| word.replace('$', "$$")).collect();
        let labels = json!({ TASK: state.service });
        services.insert(task, with(json!({ "command": command, "labels": labels })));
    }
    services.insert(state.service.clone(), with(service));
    let name = format!("{}-{}", state.service, state.environment);
    serde_saphyr::to_string(&json!({ "name": name, "services": services }))
        .map_err(|error| Error::unexpected("cannot write the container as YAML").why(error))
}
