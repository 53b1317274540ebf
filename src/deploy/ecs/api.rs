//! What is said to ECS and CloudWatch Logs. SDK types end here.

use std::time::SystemTime;

use aws_sdk_ecs::error::ProvideErrorMetadata;
use aws_sdk_ecs::types::{DesiredStatus, ServiceField, TaskDefinitionField};
use serde_json::{Value, json};

use super::live::{LiveService, strip_answer};
use super::render::last_part;
use super::verdict::{Ownership, ServiceLook, StoppedTask, failed_container};
use crate::aws::document::{Exchange, MayWrite};
use crate::aws::{Session, refusal};
use crate::config::platform::Ecs as Platform;
use crate::error::{Error, Result};

/// Lines of a container's log that go into a cause.
const LOG_LINES: i32 = 30;

/// One cluster.
pub struct Api {
    ecs: aws_sdk_ecs::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    platform: Platform,
}

/// A task definition that ECS knows.
pub struct KnownDefinition {
    pub arn: String,
    /// As it could be registered again.
    pub document: Value,
    pub is_active: bool,
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

    /// The service and what it is told to run; `None` when there is none, or a deleted one.
    pub async fn find_service(&self, name: &str) -> Result<Option<LiveService>> {
        let exchange = Exchange::default();
        let request = self.ecs.describe_services().cluster(&self.platform.cluster).services(name);
        let request = request.include(ServiceField::Tags).customize();
        request.interceptor(exchange.clone()).send().await.map_err(|error| {
            refusal(format!("find ECS service {name}"), "ecs:DescribeServices", &error)
        })?;
        let answer = exchange.answer()?;
        let mut services = answer["services"].as_array().into_iter().flatten();
        let Some(document) =
            services.find(|one| matches!(one["status"].as_str(), Some("ACTIVE" | "DRAINING")))
        else {
            return Ok(None);
        };
        let definition_arn = document["taskDefinition"].as_str().unwrap_or_default().to_string();
        // One of a deployment controller outside of ECS has none.
        let known = match definition_arn.as_str() {
            "" => None,
            // Without it nobody knows what in it is others'.
            arn => Some(self.find_definition(arn).await?.ok_or_else(|| {
                Error::refused(format!("cannot find {}, which service {name} runs", last_part(arn)))
                    .fix("have the service run a task definition that is there")
            })?),
        };
        let deployments = document["deployments"].as_array().into_iter().flatten();
        Ok(Some(LiveService {
            deployments: deployments
                .filter_map(|deployment| deployment["id"].as_str().map(str::to_string))
                .collect(),
            is_active: known.as_ref().is_some_and(|known| known.is_active),
            definition: known.map(|known| known.document).unwrap_or_default(),
            definition_arn,
            document: document.clone(),
        }))
    }

    /// A task definition by its ARN or `FAMILY:REVISION`; `None` when there is none.
    pub async fn find_definition(&self, name: &str) -> Result<Option<KnownDefinition>> {
        let exchange = Exchange::default();
        let request = self.ecs.describe_task_definition().task_definition(name);
        let request = request.include(TaskDefinitionField::Tags).customize();
        match request.interceptor(exchange.clone()).send().await {
            Ok(_) => {}
            // ECS says of a missing one only that the request is bad.
            Err(error) if error.code() == Some("ClientException") => return Ok(None),
            Err(error) => {
                let attempt = format!("read task definition {name}");
                return Err(refusal(attempt, "ecs:DescribeTaskDefinition", &error));
            }
        }
        let answer = exchange.answer()?;
        let task = &answer["taskDefinition"];
        Ok(Some(KnownDefinition {
            arn: task["taskDefinitionArn"].as_str().unwrap_or_default().to_string(),
            is_active: task["status"] == "ACTIVE",
            document: strip_answer(&answer),
        }))
    }

    /// Registers a revision; returns its ARN.
    pub async fn register(&self, document: &Value, guard: &MayWrite) -> Result<String> {
        let family = document["family"].as_str().unwrap_or_default();
        let attempt = || format!("register a task definition of {family}");
        let exchange = Exchange::sending(document).guarded(guard);
        let request = self.ecs.register_task_definition().customize();
        let answer = request.interceptor(exchange.clone()).send().await.map_err(|error| {
            let failed = exchange.refusal(attempt(), "ecs:RegisterTaskDefinition", &error);
            let pass = failed.why.as_deref().is_some_and(|why| why.contains("iam:PassRole"));
            if !pass {
                return failed;
            }
            failed.fix(
                "allow `iam:PassRole` on the execution role and the task role, with \
                 iam:PassedToService ecs-tasks.amazonaws.com",
            )
        })?;
        let arn = answer.task_definition().and_then(|task| task.task_definition_arn());
        arn.map(str::to_string).ok_or_else(|| {
            Error::unexpected(format!("cannot {}", attempt())).why("ECS gave no ARN")
        })
    }

    /// Creates the service of a document; returns the id of its deployment.
    pub async fn create(&self, document: &Value, guard: &MayWrite) -> Result<Option<String>> {
        let name = document["serviceName"].as_str().unwrap_or_default();
        let exchange = Exchange::sending(document).guarded(guard);
        let request = self.ecs.create_service().customize();
        let answer = request.interceptor(exchange.clone()).send().await.map_err(|error| {
            exchange.refusal(format!("create ECS service {name}"), "ecs:CreateService", &error)
        })?;
        Ok(primary_id(answer.service()))
    }

    /// Tells the service what the document says; returns the id of the deployment that runs then.
    pub async fn update(&self, document: &Value, guard: &MayWrite) -> Result<Option<String>> {
        let name = document["service"].as_str().unwrap_or_default();
        let exchange = Exchange::sending(document).guarded(guard);
        let request = self.ecs.update_service().customize();
        let answer = request.interceptor(exchange.clone()).send().await.map_err(|error| {
            exchange.refusal(format!("update ECS service {name}"), "ecs:UpdateService", &error)
        })?;
        Ok(primary_id(answer.service()))
    }

    /// Adds tags to a service.
    pub async fn tag(&self, arn: &str, tags: &Value) -> Result<()> {
        let exchange = Exchange::sending(&json!({ "resourceArn": arn, "tags": tags }));
        let request = self.ecs.tag_resource().customize();
        let answer = request.interceptor(exchange.clone()).send().await;
        answer.map(|_| ()).map_err(|error| {
            exchange.refusal(format!("tag {}", last_part(arn)), "ecs:TagResource", &error)
        })
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
            let seen: Vec<_> = task
                .containers()
                .iter()
                .map(|one| (one.name().unwrap_or_default(), one.exit_code(), one.reason()))
                .collect();
            let container =
                failed_container(&seen, name).and_then(|index| task.containers().get(index));
            let id = last_part(task.task_arn().unwrap_or_default()).to_string();
            let log_tail = match container.and_then(|container| container.exit_code()) {
                // Where others log is theirs.
                Some(_) if container.and_then(|container| container.name()) == Some(name) => {
                    self.log_tail(name, &id).await
                }
                // What never ran has said nothing.
                _ => Vec::new(),
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

/// The id of the deployment that a write began: the PRIMARY one of its answer.
fn primary_id(service: Option<&aws_sdk_ecs::types::Service>) -> Option<String> {
    let deployments = service.map(|service| service.deployments()).unwrap_or_default();
    let primary = deployments.iter().find(|deployment| deployment.status() == Some("PRIMARY"))?;
    primary.id().map(str::to_string)
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
