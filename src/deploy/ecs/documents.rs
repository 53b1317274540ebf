//! What ECS and the way to it are told of one version of a service. Pure.

use serde::{Deserialize, Serialize};

use super::edge::{self, EdgeWanted};
use super::task_definition::{self, TaskDefinition};
use crate::config::platform::{ApiGateway, Ecs as Platform};
use crate::config::settings::{Replicas, Settings};
use crate::deploy::target::State;
use crate::deploy::{Order, storage};
use crate::error::{Error, Result};

/// Everything a deploy to ECS applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EcsDocuments {
    pub task_definition: TaskDefinition,
    pub service: ServiceDocument,
    /// None for a service that is not exposed.
    pub edge: Option<EdgeWanted>,
    pub buckets: Vec<String>,
    /// Why a task gets more than service.yaml asks for: only the plan says so.
    #[serde(skip)]
    pub rounding: Option<String>,
}

/// How the tasks are run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceDocument {
    pub name: String,
    /// Tasks that are to run.
    pub desired: u32,
    pub subnets: Vec<String>,
    pub security_groups: Vec<String>,
    /// Seconds that targets may be unhealthy after a start.
    pub grace: i32,
}

/// The state of an order.
///
/// # Errors
/// Bad input for what ECS cannot be told.
pub fn render_state(
    order: &Order,
    platform: &Platform,
    api_gateway: Option<&ApiGateway>,
) -> Result<State<EcsDocuments>> {
    let settings = &order.settings;
    let task_definition = task_definition::render_definition(order, platform)?;
    let documents = EcsDocuments {
        rounding: task_definition::describe_rounding(settings, &task_definition),
        task_definition,
        service: ServiceDocument {
            name: task_definition::service_name(order),
            desired: desired_count(settings)?,
            subnets: platform.subnets.clone(),
            security_groups: platform.security_groups.clone(),
            grace: i32::try_from(settings.health.startup.as_secs()).unwrap_or(i32::MAX),
        },
        edge: edge::render_edge(order, platform, api_gateway)?,
        buckets: storage::bucket_names(order),
    };
    Ok(State::new("ecs", order, documents))
}

/// The documents as JSON, for people.
///
/// # Errors
/// Bad input for what ECS cannot be told.
pub fn render_documents(
    order: &Order,
    platform: &Platform,
    api_gateway: Option<&ApiGateway>,
) -> Result<String> {
    let state = render_state(order, platform, api_gateway)?;
    serde_json::to_string_pretty(&state.documents)
        .map_err(|error| Error::unexpected("cannot write the documents as JSON").why(error))
}

/// Refuses what ECS cannot be told yet, so that nothing of service.yaml is ignored.
///
/// # Errors
/// Bad input that names the key.
fn desired_count(settings: &Settings) -> Result<u32> {
    let refuse = |key: &str| {
        Err(Error::input(format!(
            "`{key}` is not supported on ECS yet, and environment {} is on ECS",
            settings.environment
        ))
        .fix(format!("remove `{key}`, or deploy this environment to EKS")))
    };
    if settings.before_deploy.is_some() {
        return refuse("before-deploy");
    }
    if !settings.manifests.is_empty() {
        return refuse("manifests");
    }
    match settings.replicas {
        Replicas::Fixed(count) => Ok(count),
        Replicas::Auto(_) => refuse("autoscale"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::service::Autoscale;

    fn settings(extra: &str) -> Settings {
        let text = format!("name: patients\nport: 8000\nreplicas: 2\n{extra}");
        let service = serde_saphyr::from_str(&text).expect("a service");
        crate::config::settings::resolve(&service, "production").expect("settings")
    }

    #[test]
    fn what_ecs_cannot_be_told_is_refused() {
        for (extra, key) in [
            ("before-deploy: {command: [a]}\n", "before-deploy"),
            ("manifests: [a.yaml]\n", "manifests"),
        ] {
            let error = desired_count(&settings(extra)).expect_err(key);
            assert!(error.message.contains(key), "{error}");
        }
        let mut auto = settings("");
        auto.replicas = Replicas::Auto(Autoscale { min: 1, max: 2, cpu: 50 });
        assert!(desired_count(&auto).is_err());
    }
}
