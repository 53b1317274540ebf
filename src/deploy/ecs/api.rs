//! What is said to ECS and CloudWatch Logs. SDK types end here.

use std::time::SystemTime;

use aws_sdk_ecs::error::ProvideErrorMetadata;
use aws_sdk_ecs::types::{
    AssignPublicIp, AwsVpcConfiguration, ContainerDefinition, CpuArchitecture,
    DeploymentCircuitBreaker, DeploymentConfiguration, DesiredStatus, KeyValuePair, LaunchType,
    LoadBalancer, LogConfiguration, LogDriver, NetworkConfiguration, NetworkMode, OsFamily,
    PortMapping, RuntimePlatform, Secret, ServiceField, Tag, TaskDefinitionField,
    TaskDefinitionStatus,
};

use super::plan::LiveService;
use super::task_definition::{TaskDefinition, last_part};
use super::verdict::{Ownership, ServiceLook, StoppedTask};
use crate::aws::{Session, refusal};
use crate::config::platform::Ecs as Platform;
use crate::error::{Error, Result};

/// Lines of a container's log that go into a cause.
const LOG_LINES: i32 = 30;

const ENVIRONMENT_TAG: &str = "cicd.clinicult.io/environment";

/// Names the version on a task definition. Not on the service: a second name for one image changes
/// nothing.
const VERSION_TAG: &str = "cicd.clinicult.io/version";

/// One cluster.
pub struct Api {
    ecs: aws_sdk_ecs::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    platform: Platform,
}

/// What a service is created or updated with.
pub struct Rollout<'a> {
    pub service: &'a str,
    pub definition_arn: &'a str,
    pub desired: u32,
    /// The target group's ARN and the container's port.
    pub balancer: Option<(&'a str, u16)>,
    /// How long targets may be unhealthy after a start, in seconds.
    pub grace: i32,
    pub environment: &'a str,
    pub subnets: &'a [String],
    pub security_groups: &'a [String],
}

impl Api {
    pub fn new(session: &Session, platform: &Platform) -> Api {
        Api {
            ecs: aws_sdk_ecs::Client::new(session.config()),
            logs: aws_sdk_cloudwatchlogs::Client::new(session.config()),
            platform: platform.clone(),
        }
    }

    /// Refuses a cluster that is not there.
    pub async fn find_cluster(&self) -> Result<()> {
        let name = &self.platform.cluster;
        let answer = self.ecs.describe_clusters().clusters(name).send().await;
        let answer = answer.map_err(|error| {
            refusal(format!("find ECS cluster {name}"), "ecs:DescribeClusters", &error)
        })?;
        if answer.clusters().iter().any(|cluster| cluster.status() == Some("ACTIVE")) {
            return Ok(());
        }
        Err(Error::refused(format!("there is no ECS cluster {name} in this account and region")).fix(format!(
            "set `ecs.cluster` in platform.yaml, or make it: aws ecs create-cluster --cluster-name {name}"
        )))
    }

    /// The service and what it is told to run; none when there is none, or a deleted one.
    pub async fn find_service(&self, name: &str) -> Result<Option<LiveService>> {
        let request = self.ecs.describe_services().cluster(&self.platform.cluster).services(name);
        let answer = request.include(ServiceField::Tags).send().await;
        let answer = answer.map_err(|error| {
            refusal(format!("find ECS service {name}"), "ecs:DescribeServices", &error)
        })?;
        let Some(service) =
            answer.services().iter().find(|service| service.status() == Some("ACTIVE"))
        else {
            return Ok(None);
        };
        let definition_arn = service.task_definition().unwrap_or_default().to_string();
        let network =
            service.network_configuration().and_then(|network| network.awsvpc_configuration());
        let (definition, version) = self.read_definition(&definition_arn).await?;
        Ok(Some(LiveService {
            deployments: service
                .deployments()
                .iter()
                .filter_map(|deployment| deployment.id().map(str::to_string))
                .collect(),
            definition,
            definition_arn,
            version,
            desired: count(service.desired_count()),
            subnets: network.map(|network| network.subnets().to_vec()).unwrap_or_default(),
            security_groups: network
                .map(|network| network.security_groups().to_vec())
                .unwrap_or_default(),
            balanced: !service.load_balancers().is_empty(),
            environment: tag(service.tags(), ENVIRONMENT_TAG),
        }))
    }

    /// An active task definition by `FAMILY:REVISION`, with its ARN; `None` when there is none.
    pub async fn find_definition(&self, name: &str) -> Result<Option<(String, TaskDefinition)>> {
        let answer = self.ecs.describe_task_definition().task_definition(name).send().await;
        let found = match answer {
            Ok(answer) => answer.task_definition().cloned(),
            // ECS says of a missing one only that the request is bad.
            Err(error) if error.code() == Some("ClientException") => None,
            Err(error) => {
                let attempt = format!("read task definition {name}");
                return Err(refusal(attempt, "ecs:DescribeTaskDefinition", &error));
            }
        };
        let active = found.filter(|found| found.status() == Some(&TaskDefinitionStatus::Active));
        Ok(active.map(|found| {
            let arn = found.task_definition_arn().unwrap_or_default().to_string();
            (arn, convert_definition(&found))
        }))
    }

    /// A task definition, and the version that its tag names.
    async fn read_definition(&self, arn: &str) -> Result<(TaskDefinition, Option<String>)> {
        let request = self
            .ecs
            .describe_task_definition()
            .task_definition(arn)
            .include(TaskDefinitionField::Tags);
        let answer = request.send().await;
        let answer = answer.map_err(|error| {
            refusal(format!("read task definition {arn}"), "ecs:DescribeTaskDefinition", &error)
        })?;
        let Some(task) = answer.task_definition() else {
            return Ok((TaskDefinition::default(), None));
        };
        Ok((convert_definition(task), tag(answer.tags(), VERSION_TAG)))
    }

    /// Registers a revision that people know as `version`; gives its ARN.
    pub async fn register(
        &self,
        definition: &TaskDefinition,
        region: &str,
        environment: &str,
        version: &str,
    ) -> Result<String> {
        let mut tags = tags(&definition.family, environment);
        tags.push(Tag::builder().key(VERSION_TAG).value(version).build());
        let what = || format!("register a task definition of {}", definition.family);
        let wrong = |error: aws_sdk_ecs::error::BuildError| Error::unexpected(what()).why(error);
        let mut container = ContainerDefinition::builder()
            .name(&definition.family)
            .image(&definition.image)
            .essential(true)
            .stop_timeout(definition.stop_timeout)
            .port_mappings(
                PortMapping::builder()
                    .container_port(definition.port.into())
                    .host_port(definition.port.into())
                    .protocol(aws_sdk_ecs::types::TransportProtocol::Tcp)
                    .build(),
            );
        for (name, value) in &definition.env {
            container =
                container.environment(KeyValuePair::builder().name(name).value(value).build());
        }
        for (name, from) in &definition.secrets {
            container = container
                .secrets(Secret::builder().name(name).value_from(from).build().map_err(wrong)?);
        }
        if let Some(group) = &definition.log_group {
            let log = LogConfiguration::builder()
                .log_driver(LogDriver::Awslogs)
                .options("awslogs-group", group)
                .options("awslogs-region", region)
                .options("awslogs-stream-prefix", &definition.family)
                .options("awslogs-create-group", "true")
                .build()
                .map_err(wrong)?;
            container = container.log_configuration(log);
        }
        let platform = RuntimePlatform::builder()
            .cpu_architecture(CpuArchitecture::from(definition.architecture.as_str()))
            .operating_system_family(OsFamily::Linux)
            .build();
        let role = |role: &String| Some(role.clone()).filter(|role| !role.is_empty());
        let answer = self
            .ecs
            .register_task_definition()
            .family(&definition.family)
            .container_definitions(container.build())
            .cpu(definition.cpu.to_string())
            .memory(definition.memory.to_string())
            .network_mode(NetworkMode::Awsvpc)
            .requires_compatibilities(aws_sdk_ecs::types::Compatibility::from(definition.launch.as_str()))
            .runtime_platform(platform)
            .set_execution_role_arn(role(&definition.execution_role))
            .set_task_role_arn(role(&definition.task_role))
            .set_tags(Some(tags))
            .send()
            .await
            .map_err(|error| {
                let failed = refusal(what(), "ecs:RegisterTaskDefinition", &error);
                let pass = failed.why.as_deref().is_some_and(|why| why.contains("iam:PassRole"));
                if pass { failed.fix("allow `iam:PassRole` on the execution role and the task role, with iam:PassedToService ecs-tasks.amazonaws.com") } else { failed }
            })?;
        let arn = answer.task_definition().and_then(|task| task.task_definition_arn());
        arn.map(str::to_string).ok_or_else(|| Error::unexpected(what()).why("ECS gave no ARN"))
    }

    /// Creates the service; returns the id of its deployment.
    pub async fn create(&self, rollout: &Rollout<'_>) -> Result<Option<String>> {
        let mut request = self
            .ecs
            .create_service()
            .cluster(&self.platform.cluster)
            .service_name(rollout.service)
            .task_definition(rollout.definition_arn)
            .desired_count(signed(rollout.desired))
            .launch_type(match self.platform.launch {
                crate::config::platform::Launch::Fargate => LaunchType::Fargate,
                crate::config::platform::Launch::Ec2 => LaunchType::Ec2,
            })
            .network_configuration(self.network(rollout)?)
            .deployment_configuration(deployment())
            .set_tags(Some(tags(rollout.service, rollout.environment)));
        if let Some((target_group, port)) = rollout.balancer {
            let balancer = LoadBalancer::builder()
                .target_group_arn(target_group)
                .container_name(rollout.service)
                .container_port(port.into())
                .build();
            request =
                request.load_balancers(balancer).health_check_grace_period_seconds(rollout.grace);
        }
        let answer = request.send().await;
        let answer = answer.map_err(|error| {
            refusal(format!("create ECS service {}", rollout.service), "ecs:CreateService", &error)
        })?;
        Ok(primary_id(answer.service()))
    }

    /// Has the service run another revision, or another number of tasks; returns the id of the
    /// deployment that this begins.
    pub async fn update(&self, rollout: &Rollout<'_>) -> Result<Option<String>> {
        let answer = self
            .ecs
            .update_service()
            .cluster(&self.platform.cluster)
            .service(rollout.service)
            .task_definition(rollout.definition_arn)
            .desired_count(signed(rollout.desired))
            .network_configuration(self.network(rollout)?)
            .deployment_configuration(deployment())
            .send()
            .await;
        let answer = answer.map_err(|error| {
            refusal(format!("update ECS service {}", rollout.service), "ecs:UpdateService", &error)
        })?;
        Ok(primary_id(answer.service()))
    }

    /// Has the service run no tasks.
    pub async fn stop_tasks(&self, name: &str) -> Result<()> {
        let update = self.ecs.update_service().cluster(&self.platform.cluster).service(name);
        let answer = update.desired_count(0).send().await;
        answer.map_err(|error| {
            refusal(format!("stop the tasks of ECS service {name}"), "ecs:UpdateService", &error)
        })?;
        Ok(())
    }

    fn network(&self, rollout: &Rollout<'_>) -> Result<NetworkConfiguration> {
        let network = AwsVpcConfiguration::builder()
            .set_subnets(Some(rollout.subnets.to_vec()))
            .set_security_groups(Some(rollout.security_groups.to_vec()))
            .assign_public_ip(AssignPublicIp::Disabled)
            .build()
            .map_err(|error| Error::unexpected("describing the service's network").why(error))?;
        Ok(NetworkConfiguration::builder().awsvpc_configuration(network).build())
    }

    /// One look at the service. Tasks of `ours` that ended, and events, count from `since` on.
    pub async fn look(
        &self,
        name: &str,
        ours: &str,
        since: Option<SystemTime>,
    ) -> Result<ServiceLook> {
        let answer = self
            .ecs
            .describe_services()
            .cluster(&self.platform.cluster)
            .services(name)
            .send()
            .await;
        let answer = answer.map_err(|error| {
            refusal(format!("watch ECS service {name}"), "ecs:DescribeServices", &error)
        })?;
        let Some(service) = answer.services().first() else { return Ok(ServiceLook::default()) };
        let primary =
            service.deployments().iter().find(|deployment| deployment.status() == Some("PRIMARY"));
        let is_new = |at: Option<&aws_sdk_ecs::primitives::DateTime>| {
            let at = at.and_then(|at| SystemTime::try_from(*at).ok());
            since.is_none_or(|since| at.is_none_or(|at| at >= since))
        };
        // By ECS's own clock: a service keeps its last hundred events, also of deploys long ago.
        let began = primary.and_then(|primary| primary.created_at()).map(|at| at.as_secs_f64());
        let of_this_deployment = |at: Option<&aws_sdk_ecs::primitives::DateTime>| {
            began.zip(at).is_none_or(|(began, at)| at.as_secs_f64() >= began)
        };
        let mut events: Vec<String> = service
            .events()
            .iter()
            .filter(|event| of_this_deployment(event.created_at()) && is_new(event.created_at()))
            .filter_map(|event| event.message().map(str::to_string))
            .collect();
        // ECS gives the newest first.
        events.reverse();
        Ok(ServiceLook {
            primary: primary
                .and_then(|primary| primary.task_definition())
                .unwrap_or_default()
                .to_string(),
            rollout: primary
                .and_then(|primary| primary.rollout_state())
                .map(|state| state.as_str().to_string()),
            rollout_reason: primary
                .and_then(|primary| primary.rollout_state_reason())
                .map(str::to_string),
            primary_id: primary.and_then(|primary| primary.id()).map(str::to_string),
            ownership: Ownership::Ours,
            desired: count(service.desired_count()),
            running: primary.map_or(0, |primary| count(primary.running_count())),
            healthy_targets: None,
            unhealthy: None,
            stopped: self.stopped(name, ours, since).await?,
            events,
        })
    }

    async fn stopped(
        &self,
        name: &str,
        ours: &str,
        since: Option<SystemTime>,
    ) -> Result<Vec<StoppedTask>> {
        let cluster = &self.platform.cluster;
        let list = self
            .ecs
            .list_tasks()
            .cluster(cluster)
            .service_name(name)
            .desired_status(DesiredStatus::Stopped)
            .send()
            .await;
        let list = list
            .map_err(|error| refusal(format!("list tasks of {name}"), "ecs:ListTasks", &error))?;
        if list.task_arns().is_empty() {
            return Ok(Vec::new());
        }
        let tasks = self
            .ecs
            .describe_tasks()
            .cluster(cluster)
            .set_tasks(Some(list.task_arns().to_vec()))
            .send()
            .await;
        let tasks = tasks.map_err(|error| {
            refusal(format!("read tasks of {name}"), "ecs:DescribeTasks", &error)
        })?;
        let mut stopped = Vec::new();
        for task in tasks.tasks().iter().filter(|task| task.task_definition_arn() == Some(ours)) {
            let at = task.stopped_at().and_then(|at| SystemTime::try_from(*at).ok());
            if since.zip(at).is_some_and(|(since, at)| at < since) {
                continue;
            }
            let container = task.containers().first();
            let id = last_part(task.task_arn().unwrap_or_default()).to_string();
            let log_tail = match container.and_then(|container| container.exit_code()) {
                Some(_) => self.log_tail(name, &id).await,
                // What never ran has said nothing.
                None => Vec::new(),
            };
            stopped.push(StoppedTask {
                task: id,
                code: task.stop_code().map(|code| code.as_str().to_string()).unwrap_or_default(),
                reason: task.stopped_reason().unwrap_or_default().to_string(),
                container: container
                    .and_then(|container| container.name())
                    .unwrap_or(name)
                    .to_string(),
                exit_code: container.and_then(|container| container.exit_code()).map(i64::from),
                container_reason: container
                    .and_then(|container| container.reason())
                    .map(str::to_string),
                log_tail,
            });
        }
        Ok(stopped)
    }

    /// A task's last lines. Not being allowed to read them must not hide why the deploy failed.
    async fn log_tail(&self, name: &str, task: &str) -> Vec<String> {
        let stream = format!("{name}/{name}/{task}");
        let group = format!("/ecs/{}", self.platform.cluster);
        let answer = self
            .logs
            .get_log_events()
            .log_group_name(&group)
            .log_stream_name(&stream)
            .limit(LOG_LINES)
            .start_from_head(false)
            .send()
            .await;
        match answer {
            Ok(answer) => answer
                .events()
                .iter()
                .filter_map(|event| event.message().map(|text| text.trim_end().to_string()))
                .collect(),
            Err(error) => {
                let error = refusal(
                    format!("its log {group}/{stream} cannot be read"),
                    "logs:GetLogEvents",
                    &error,
                );
                let fix = error.fixes.first().map(|fix| format!(" ({fix})")).unwrap_or_default();
                vec![format!("{error}{fix}")]
            }
        }
    }
}

/// A task definition of ECS in our own terms.
fn convert_definition(task: &aws_sdk_ecs::types::TaskDefinition) -> TaskDefinition {
    let container = task.container_definitions().first();
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    let pairs = container.map(|container| container.environment()).unwrap_or_default();
    let secrets = container.map(|container| container.secrets()).unwrap_or_default();
    let log =
        container.and_then(|container| container.log_configuration()).and_then(|log| log.options());
    TaskDefinition {
        family: task.family().unwrap_or_default().into(),
        image: container.and_then(|container| container.image()).unwrap_or_default().into(),
        port: container
            .and_then(|container| container.port_mappings().first())
            .and_then(|port| port.container_port())
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(0),
        cpu: number(task.cpu()),
        memory: number(task.memory()),
        launch: task
            .requires_compatibilities()
            .first()
            .map(|one| one.as_str().to_string())
            .unwrap_or_default(),
        architecture: task
            .runtime_platform()
            .and_then(|platform| platform.cpu_architecture())
            .map_or_else(|| "X86_64".into(), |one| one.as_str().to_string()),
        execution_role: task.execution_role_arn().unwrap_or_default().into(),
        task_role: task.task_role_arn().unwrap_or_default().into(),
        env: pairs
            .iter()
            .map(|pair| {
                (
                    pair.name().unwrap_or_default().to_string(),
                    pair.value().unwrap_or_default().to_string(),
                )
            })
            .collect(),
        secrets: secrets
            .iter()
            .map(|secret| (secret.name().to_string(), secret.value_from().to_string()))
            .collect(),
        log_group: log.and_then(|options| options.get("awslogs-group").cloned()),
        stop_timeout: container.and_then(|container| container.stop_timeout()).unwrap_or(0),
    }
}

/// The id of the deployment that a write began: the PRIMARY one of its answer.
fn primary_id(service: Option<&aws_sdk_ecs::types::Service>) -> Option<String> {
    let deployments = service.map(|service| service.deployments()).unwrap_or_default();
    let primary = deployments.iter().find(|deployment| deployment.status() == Some("PRIMARY"))?;
    primary.id().map(str::to_string)
}

/// New tasks before old ones go; ECS goes back by itself when nobody is left to watch.
fn deployment() -> DeploymentConfiguration {
    let breaker = DeploymentCircuitBreaker::builder().enable(true).rollback(true).build();
    DeploymentConfiguration::builder()
        .minimum_healthy_percent(100)
        .maximum_percent(200)
        .deployment_circuit_breaker(breaker)
        .build()
}

fn tags(service: &str, environment: &str) -> Vec<Tag> {
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
    vec![tag(super::edge::OWNER_TAG, service), tag(ENVIRONMENT_TAG, environment)]
}

fn tag(tags: &[Tag], key: &str) -> Option<String> {
    tags.iter().find(|tag| tag.key() == Some(key)).and_then(|tag| tag.value().map(str::to_string))
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
