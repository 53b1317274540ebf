//! Settings and platform → what ECS and the way to it are told, in the API's own words. Pure.
//!
//! The two documents are the inputs of RegisterTaskDefinition and CreateService. Two values are
//! known only when they are sent: the revision behind `taskDefinition`, and the ARN of the target
//! group, whose name stands in its place.
//! <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RegisterTaskDefinition.html>
//! <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateService.html>

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::edge::{self, EdgeWanted};
use super::scaling::Scaling;
use super::schedule;
use crate::aws::policy::partition;
use crate::config::platform::{ApiGateway, Ecs as Platform, Launch};
use crate::config::settings::{Process, Replicas, Runs, Settings};
use crate::config::strategy::Strategy;
use crate::config::values::SecretRef;
use crate::deploy::target::State;
use crate::deploy::{Order, short_name, storage};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// How long a container has between SIGTERM and SIGKILL, in seconds.
const STOP_TIMEOUT: u32 = 30;

/// The tags of a task definition and of a service.
pub const ENVIRONMENT_TAG: &str = "cicd.clinicult.io/environment";
/// Names the version on a task definition. Not on the service: a second name for one image changes
/// nothing.
pub const VERSION_TAG: &str = "cicd.clinicult.io/version";
/// Names the process on its task definition and service, and all of them on the service that they
/// belong to: by it those that are no longer wanted are found.
pub const PROCESS_TAG: &str = "cicd.clinicult.io/processes";
/// Names the last migration that was done with a revision.
pub const MIGRATED_TAG: &str = "cicd.clinicult.io/migrated";

/// Everything a deploy to ECS applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EcsDocuments {
    /// The input of RegisterTaskDefinition.
    #[serde(deserialize_with = "read_definition")]
    pub task_definition: Value,
    /// The input of CreateService.
    pub service: Value,
    /// service.yaml names no count of tasks: a live service's own stays.
    #[serde(default)]
    pub keeps_count: bool,
    /// `autoscale`, if service.yaml has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// Milliseconds that a new version has to stay healthy for.
    #[serde(default)]
    pub stable: u64,
    /// `before-deploy`, if service.yaml has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// None for a service that is not exposed.
    pub edge: Option<EdgeWanted>,
    pub buckets: Vec<String>,
    /// The processes that run all the time, each a service of its own without a port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<EcsDocuments>,
    /// The inputs of CreateSchedule for the processes that run at times. The revision stands there
    /// by its family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<Value>,
    /// Why a task gets more than service.yaml asks for: only the plan says so.
    #[serde(skip)]
    pub rounding: Option<String>,
}

/// A command that is run once with the new revision, before the service gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Migration {
    /// Names the image and the command: what was done for both is not done again.
    pub key: String,
    pub command: Vec<String>,
}

impl Migration {
    fn of(order: &Order) -> Option<Migration> {
        let command = order.settings.before_deploy.clone()?;
        let identity = json!([order.settings.name, order.image.digest, command]).to_string();
        Some(Migration { key: Digest::of(identity.as_bytes()).short().to_string(), command })
    }
}

impl EcsDocuments {
    /// The name of the service, which is that of its family and its container too.
    pub fn name(&self) -> &str {
        self.service["serviceName"].as_str().unwrap_or_default()
    }

    /// Whether they are those of a process beside the service.
    pub fn is_process(&self) -> bool {
        is_process(&self.service["tags"], self.name())
    }

    /// Tasks that are to run.
    pub fn desired(&self) -> u32 {
        count_of(&self.service["desiredCount"])
    }
}

/// States of before had words of their own, which ECS cannot be told.
fn read_definition<'de, D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
    let document = Value::deserialize(from)?;
    match document["containerDefinitions"].as_array() {
        Some(_) => Ok(document),
        None => Err(serde::de::Error::custom("its task definition is not one of ECS's API")),
    }
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
    let size = task_size(&order.settings, platform.launch)?;
    let edge = edge::render_edge(order, platform, api_gateway)?;
    let service = render_service(order, platform, edge.as_ref())?;
    let replicas = order.settings.replicas;
    let scaling = match &replicas {
        Replicas::Auto(autoscale) => Some(Scaling::new(autoscale, &service)),
        Replicas::Unset | Replicas::Fixed(_) => None,
    };
    let mut documents = EcsDocuments {
        rounding: describe_rounding(&order.settings, size),
        task_definition: render_definition(order, platform, size)?,
        keeps_count: scaling.is_some() || replicas == Replicas::Unset,
        service,
        scaling,
        stable: u64::try_from(order.settings.health.stable.as_millis()).unwrap_or(u64::MAX),
        migration: Migration::of(order),
        edge,
        buckets: storage::bucket_names(order),
        workers: Vec::new(),
        schedules: Vec::new(),
    };
    let partition = partition(&order.destination.region);
    documents.schedules =
        schedule::render_schedules(order, platform, &documents.service, partition)?;
    for process in &order.settings.processes {
        if let Runs::Always { replicas } = process.runs {
            let worker = render_worker(order, &documents, process, replicas);
            documents.workers.push(worker);
        }
    }
    let processes = list_processes(&documents);
    if !processes.is_empty() {
        let tag = json!({ "key": PROCESS_TAG, "value": processes.join(" ") });
        documents.service["tags"]
            .as_array_mut()
            .into_iter()
            .for_each(|tags| tags.push(tag.clone()));
    }
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

/// The input of RegisterTaskDefinition.
fn render_definition(order: &Order, ecs: &Platform, (cpu, memory): (u32, u32)) -> Result<Value> {
    let settings = &order.settings;
    let mut secrets = BTreeMap::new();
    for (variable, secret) in &settings.secrets {
        secrets.insert(variable.to_string(), secret_arn(order, variable, secret)?);
    }
    if ecs.execution_role.is_empty() && (ecs.launch == Launch::Fargate || !secrets.is_empty()) {
        return Err(Error::input(format!(
            "cannot run tasks in environment {}: it has no execution role",
            settings.environment
        ))
        .why("ECS reads secrets by it, and Fargate pulls images by it")
        .fix(format!(
            "set environments.{}.ecs.execution-role in platform.yaml",
            settings.environment
        )));
    }
    let name = service_name(order);
    let env: BTreeMap<String, String> = settings
        .container_env(|storage| Some(storage::bucket_name(order, storage)))
        .into_iter()
        .collect();
    let named = |values: BTreeMap<String, String>, key: &str| -> Value {
        values.iter().map(|(name, value)| json!({ "name": name, key: value })).collect()
    };
    let port = settings.port;
    let mut container = json!({
        "name": name,
        "image": order.image.reference(),
        "essential": true,
        "portMappings": [{ "containerPort": port, "hostPort": port, "protocol": "tcp" }],
        "environment": named(env, "value"),
        "secrets": named(secrets, "valueFrom"),
        "stopTimeout": STOP_TIMEOUT,
    });
    // Without an execution role nothing may write logs.
    if !ecs.execution_role.is_empty() {
        container["logConfiguration"] = json!({
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": format!("/ecs/{}", ecs.cluster),
                "awslogs-region": order.destination.region,
                "awslogs-stream-prefix": name,
                "awslogs-create-group": "true",
            },
        });
    }
    let mut tags = render_tags(order);
    tags.push(json!({ "key": VERSION_TAG, "value": order.image.version }));
    let mut document = json!({
        "family": name,
        "networkMode": "awsvpc",
        "requiresCompatibilities": [launch_type(ecs.launch)],
        "cpu": cpu.to_string(),
        "memory": memory.to_string(),
        "runtimePlatform": {
            "cpuArchitecture": architecture(settings)?,
            "operatingSystemFamily": "LINUX",
        },
        "containerDefinitions": [container],
        "tags": tags,
    });
    let roles = [("executionRoleArn", &ecs.execution_role), ("taskRoleArn", &ecs.task_role)];
    for (key, role) in roles.into_iter().filter(|(_, role)| !role.is_empty()) {
        document[key] = json!(role);
    }
    Ok(document)
}

/// The documents of a process that runs all the time: those of the service, with another command and
/// without what leads users to it.
fn render_worker(
    order: &Order,
    service: &EcsDocuments,
    process: &Process,
    replicas: u32,
) -> EcsDocuments {
    let name = name_process(&order.settings.name, &process.name);
    let tag = json!({ "key": PROCESS_TAG, "value": process.name });
    let named = |document: &Value| {
        let mut document = document.clone();
        document["tags"].as_array_mut().into_iter().for_each(|tags| tags.push(tag.clone()));
        document
    };
    let mut definition = named(&service.task_definition);
    definition["family"] = json!(name);
    let container = &mut definition["containerDefinitions"][0];
    container["name"] = json!(name);
    container["command"] = json!(process.command);
    if let Some(options) = container.pointer_mut("/logConfiguration/options") {
        options["awslogs-stream-prefix"] = json!(name);
    }
    let mut document = named(&service.service);
    document["serviceName"] = json!(name);
    document["taskDefinition"] = json!(name);
    document["desiredCount"] = json!(replicas);
    let of_users = ["portMappings", "loadBalancers", "healthCheckGracePeriodSeconds"];
    for one in [container, &mut document] {
        one.as_object_mut().into_iter().for_each(|fields| {
            fields.retain(|key, _| !of_users.contains(&key.as_str()));
        });
    }
    EcsDocuments {
        task_definition: definition,
        service: document,
        keeps_count: false,
        scaling: None,
        migration: None,
        edge: None,
        buckets: Vec::new(),
        workers: Vec::new(),
        schedules: Vec::new(),
        rounding: None,
        ..service.clone()
    }
}

/// The name of a process's family, container and service.
pub fn name_process(service: &str, process: &str) -> String {
    short_name(&format!("{service}-{process}"), 255)
}

/// Whether a service with these tags is a process of another one.
pub fn is_process(tags: &Value, name: &str) -> bool {
    find_tag(tags, PROCESS_TAG).is_some() && find_tag(tags, edge::OWNER_TAG) != Some(name)
}

/// The names of a service's processes.
pub fn list_processes(documents: &EcsDocuments) -> Vec<&str> {
    let workers = documents.workers.iter();
    let workers = workers.filter_map(|worker| find_tag(&worker.service["tags"], PROCESS_TAG));
    let schedules = documents.schedules.iter().filter_map(|schedule| schedule["Name"].as_str());
    workers.chain(schedules).collect()
}

/// The input of CreateService. New tasks start before old ones stop, and ECS goes back by itself
/// when nobody is left to watch.
fn render_service(order: &Order, ecs: &Platform, edge: Option<&EdgeWanted>) -> Result<Value> {
    let settings = &order.settings;
    let limits = [("subnets", &ecs.subnets, 16), ("security-groups", &ecs.security_groups, 5)];
    if let Some((key, list, most)) = limits.into_iter().find(|(_, list, most)| list.len() > *most) {
        let environment = &settings.environment;
        let (key, count) = (format!("environments.{environment}.ecs.{key}"), list.len());
        return Err(Error::input(format!(
            "cannot use {key}: it has {count} entries, and ECS takes {most}"
        ))
        .fix(format!("name at most {most} in {key} of platform.yaml")));
    }
    let name = service_name(order);
    let mut document = json!({
        "cluster": ecs.cluster,
        "serviceName": name,
        "taskDefinition": name,
        "desiredCount": desired_count(settings)?,
        "launchType": launch_type(ecs.launch),
        "networkConfiguration": { "awsvpcConfiguration": {
            "subnets": ecs.subnets,
            "securityGroups": ecs.security_groups,
            "assignPublicIp": "DISABLED",
        } },
        "deploymentConfiguration": {
            "minimumHealthyPercent": 100,
            "maximumPercent": 200,
            "deploymentCircuitBreaker": { "enable": true, "rollback": true },
        },
        "propagateTags": "SERVICE",
        "enableECSManagedTags": true,
        "tags": render_tags(order),
    });
    if let Some(edge) = edge {
        document["loadBalancers"] = json!([{
            "targetGroupArn": edge.target_group,
            "containerName": name,
            "containerPort": settings.port,
        }]);
        document["healthCheckGracePeriodSeconds"] = json!(settings.health.startup.as_secs());
    }
    Ok(document)
}

fn render_tags(order: &Order) -> Vec<Value> {
    let tag = |key: &str, value: &str| json!({ "key": key, "value": value });
    let environment = &order.settings.environment;
    vec![tag(edge::OWNER_TAG, &service_name(order)), tag(ENVIRONMENT_TAG, environment)]
}

/// The value of a tag in a list of ECS's.
pub fn find_tag<'a>(tags: &'a Value, key: &str) -> Option<&'a str> {
    tags.as_array()?.iter().find(|tag| tag["key"] == key)?["value"].as_str()
}

/// A count of ECS's, none for what is none.
pub fn count_of(value: &Value) -> u32 {
    value.as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

fn launch_type(launch: Launch) -> &'static str {
    match launch {
        Launch::Fargate => "FARGATE",
        Launch::Ec2 => "EC2",
    }
}

/// The name of the family, of its container and of the service.
fn service_name(order: &Order) -> String {
    short_name(&order.settings.name, 255)
}

/// The count of tasks of a new service. Refuses what ECS cannot be told yet, so that nothing of
/// service.yaml is ignored.
///
/// # Errors
/// Bad input that names the key.
fn desired_count(settings: &Settings) -> Result<u32> {
    let refuse = |key: &str| {
        Err(Error::input(format!(
            "cannot deploy `{key}` to environment {}: it is not supported on ECS yet",
            settings.environment
        ))
        .fix(format!("remove `{key}`, or deploy this environment to EKS")))
    };
    if !settings.manifests.is_empty() {
        return refuse("manifests");
    }
    if settings.strategy != Strategy::Rolling {
        return refuse("deploy.strategy: canary");
    }
    Ok(match settings.replicas {
        Replicas::Unset => 1,
        Replicas::Fixed(count) => count,
        Replicas::Auto(autoscale) => autoscale.min,
    })
}

/// Fargate's sizes: CPU units → MiB of memory. The API takes no others.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html#fargate-tasks-size>
fn fargate_memory(cpu: u32) -> Vec<u32> {
    let steps = |from: u32, to: u32, by: u32| {
        (from..=to).step_by(by as usize).map(|gigabytes| gigabytes * 1024).collect()
    };
    match cpu {
        256 => vec![512, 1024, 2048],
        512 => steps(1, 4, 1),
        1024 => steps(2, 8, 1),
        2048 => steps(4, 16, 1),
        4096 => steps(8, 30, 1),
        8192 => steps(16, 60, 4),
        16384 => steps(32, 120, 8),
        _ => vec![],
    }
}

const FARGATE_CPU: [u32; 7] = [256, 512, 1024, 2048, 4096, 8192, 16384];

/// CPU units and MiB of a task.
fn task_size(settings: &Settings, launch: Launch) -> Result<(u32, u32)> {
    let (cpu, memory) = (settings.cpu.millicores, settings.memory.mebibytes);
    match launch {
        Launch::Fargate => fargate_size(cpu, memory),
        Launch::Ec2 => Ok((cpu_units(cpu), memory)),
    }
}

/// What is said when a task gets more than service.yaml asks for.
fn describe_rounding(settings: &Settings, (units, mebibytes): (u32, u32)) -> Option<String> {
    let (cpu, memory) = (settings.cpu.millicores, settings.memory.mebibytes);
    let more = units > cpu_units(cpu) || mebibytes > memory;
    more.then(|| {
        format!(
            "{cpu}m and {memory}Mi are rounded up to a size that Fargate has: {units} CPU units and \
             {mebibytes} MiB"
        )
    })
}

fn cpu_units(millicores: u32) -> u32 {
    (u64::from(millicores) * 1024).div_ceil(1000).try_into().unwrap_or(u32::MAX)
}

/// The smallest size of Fargate that has at least this much of both.
fn fargate_size(millicores: u32, mebibytes: u32) -> Result<(u32, u32)> {
    // 250m is what people write for a quarter of a core, which is 256 units.
    for cpu in FARGATE_CPU.into_iter().filter(|cpu| *cpu >= cpu_units(millicores)) {
        if let Some(memory) = fargate_memory(cpu).into_iter().find(|memory| *memory >= mebibytes) {
            return Ok((cpu, memory));
        }
    }
    Err(Error::input(format!(
        "cannot run {millicores}m and {mebibytes}Mi: it is more than a Fargate task can have"
    ))
    .fix("use at most cpu: 16 and memory: 120Gi, or `launch: ec2` in platform.yaml for more"))
}

/// The platform that tasks run on: `linux/amd64`.
///
/// # Errors
/// Bad input where service.yaml names none that ECS has.
pub fn platform_of(settings: &Settings) -> Result<&'static str> {
    match settings.platforms.as_slice() {
        [one] if one == "linux/arm64" => Ok("linux/arm64"),
        // An image for both runs on either; x86 is what clusters have without being asked.
        platforms if platforms.iter().any(|platform| platform == "linux/amd64") => {
            Ok("linux/amd64")
        }
        _ => Err(Error::input("cannot choose a platform: image.platforms is empty")
            .fix("set `image: {platforms: [linux/amd64]}`")),
    }
}

/// ECS's word for it.
fn architecture(settings: &Settings) -> Result<&'static str> {
    Ok(if platform_of(settings)? == "linux/arm64" { "ARM64" } else { "X86_64" })
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html>
fn secret_arn(order: &Order, variable: &str, secret: &SecretRef) -> Result<String> {
    let region = &order.destination.region;
    let partition = partition(region);
    let account = order.destination.account.as_deref().unwrap_or_default();
    match secret {
        // ARNs of secrets end with six letters that only AWS knows; ECS takes them without.
        SecretRef::SecretsManager { name, key } => {
            let key = key.as_ref().map(|key| format!(":{key}::")).unwrap_or_default();
            Ok(format!("arn:{partition}:secretsmanager:{region}:{account}:secret:{name}{key}"))
        }
        SecretRef::Ssm { path } => {
            Ok(format!("arn:{partition}:ssm:{region}:{account}:parameter{path}"))
        }
        SecretRef::Kubernetes { .. } => Err(Error::input(format!(
            "cannot deliver secrets.{variable}: it is `{secret}`, and {} is on ECS",
            order.settings.environment
        ))
        .fix("name it as secretsmanager:NAME#KEY or ssm:/PATH for this environment")),
    }
}

/// What stands behind the last slash of an ARN.
pub fn last_part(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// The revision at the end of a task definition's ARN.
pub fn revision_of(arn: &str) -> String {
    arn.rsplit(':').next().unwrap_or(arn).to_string()
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
        let error = desired_count(&settings("manifests: [a.yaml]\n")).expect_err("manifests");
        assert!(error.message.contains("manifests"), "{error}");
        let canary = desired_count(&settings("deploy: {strategy: {canary: {}}}\n"));
        assert!(canary.expect_err("a canary").message.contains("`deploy.strategy: canary`"));
        let mut auto = settings("");
        auto.replicas = Replicas::Auto(Autoscale { min: 3, max: 5, cpu: 50 });
        assert_eq!(desired_count(&auto).ok(), Some(3));
    }

    #[test]
    fn fargate_sizes_are_rounded_up_to_one_that_exists() {
        let cases = [
            (250, 512, Some((256, 512))),
            (250, 513, Some((256, 1024))),
            (256, 512, Some((512, 1024))),
            (250, 2048, Some((256, 2048))),
            (250, 2049, Some((512, 3072))),
            (250, 8192, Some((1024, 8192))),
            (1000, 512, Some((1024, 2048))),
            (4000, 30 * 1024, Some((4096, 30 * 1024))),
            (4000, 31 * 1024, Some((8192, 32 * 1024))),
            (8000, 17 * 1024, Some((8192, 20 * 1024))),
            (16000, 120 * 1024, Some((16384, 120 * 1024))),
            (16000, 121 * 1024, None),
            (17000, 512, None),
        ];
        for (cpu, memory, expected) in cases {
            assert_eq!(fargate_size(cpu, memory).ok(), expected, "{cpu}m {memory}Mi");
        }
    }

    #[test]
    fn secrets_become_arns() {
        let settings = |secret: &str| {
            let text = format!("name: patients\nport: 8000\nsecrets: {{S: '{secret}'}}\n");
            let service = serde_saphyr::from_str(&text).expect("a service");
            crate::config::settings::resolve(&service, "production").expect("settings")
        };
        // The registry is another account's.
        let registry = "registry: {account: '999988887777', region: REGION}\nenvironments: {production: {target: ecs, region: REGION, \
                        role: 'arn:aws:iam::111122223333:role/cicd', ecs: {cluster: c, subnets: [s], security-groups: [g]}}}\n";
        let cases = [
            (
                "secretsmanager:p/db#url",
                "eu-west-1",
                Some("arn:aws:secretsmanager:eu-west-1:111122223333:secret:p/db:url::"),
            ),
            (
                "secretsmanager:p/db",
                "eu-west-1",
                Some("arn:aws:secretsmanager:eu-west-1:111122223333:secret:p/db"),
            ),
            ("ssm:/p/db", "eu-west-1", Some("arn:aws:ssm:eu-west-1:111122223333:parameter/p/db")),
            (
                "ssm:/p/db",
                "cn-north-1",
                Some("arn:aws-cn:ssm:cn-north-1:111122223333:parameter/p/db"),
            ),
            (
                "ssm:/p/db",
                "us-gov-west-1",
                Some("arn:aws-us-gov:ssm:us-gov-west-1:111122223333:parameter/p/db"),
            ),
            ("k8s:db/url", "eu-west-1", None),
        ];
        for (secret, region, expected) in cases {
            let platform =
                serde_saphyr::from_str(&registry.replace("REGION", region)).expect("a platform");
            let destination = crate::config::settings::destination(Some(&platform), "production")
                .expect("a place");
            let image = crate::deploy::Image {
                repository: "r".into(),
                digest: Digest::of(b"d"),
                version: "1".into(),
            };
            let settings = settings(secret);
            let found = settings.secrets["S"].clone();
            let order = Order { settings, destination, image };
            assert_eq!(
                secret_arn(&order, "S", &found).ok().as_deref(),
                expected,
                "{secret} in {region}"
            );
        }
    }

    #[test]
    fn an_image_runs_on_an_architecture_it_has() {
        let of = |platforms: &[&str]| {
            let mut settings = settings("");
            settings.platforms = platforms.iter().map(ToString::to_string).collect();
            architecture(&settings).ok()
        };
        assert_eq!(of(&["linux/amd64"]), Some("X86_64"));
        assert_eq!(of(&["linux/arm64"]), Some("ARM64"));
        assert_eq!(of(&["linux/arm64", "linux/amd64"]), Some("X86_64"));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn arns_have_ends() {
        assert_eq!(
            revision_of("arn:aws:ecs:eu-west-1:111122223333:task-definition/patients:7"),
            "7"
        );
        assert_eq!(
            last_part("arn:aws:ecs:eu-west-1:111122223333:task-definition/patients:7"),
            "patients:7"
        );
    }
}
