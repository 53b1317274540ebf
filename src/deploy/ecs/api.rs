//! What is said to ECS and CloudWatch Logs. SDK types end here.

mod tasks;

use std::time::{Duration, SystemTime};

use aws_sdk_ecs::types::{DesiredStatus, ServiceField, Task, TaskDefinitionField};
use serde_json::{Value, json};

use super::diagnosis::StoppedTask;
use super::live::{LiveService, is_told, strip_answer};
use super::render::last_part;
use super::states::{Rollout, TaskState};
use super::verdict::{ServiceLook, is_of_deployment};
use crate::aws::Session;
use crate::aws::call::{Caller, Failure};
use crate::aws::document::exchange;
use crate::config::platform::Ecs as Platform;
use crate::deploy::pen::Pen;
use crate::error::{Error, Kind, Result};
use crate::retry::{self, Attempt, RetryPolicy};
use tasks::Named;
pub use tasks::{SingleTask, Unstarted};

/// How long a write whose answer was lost is looked for: what ECS answers is a moment old.
const LOOK_UPS: RetryPolicy = RetryPolicy {
    attempts: 4,
    first_pause: Duration::from_millis(500),
    longest_pause: Duration::from_secs(2),
    jitter: 0.5,
};

/// One cluster.
pub struct Api {
    pub(super) caller: Caller,
    pub(super) ecs: aws_sdk_ecs::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    pub(super) platform: Platform,
}

/// A task definition that ECS knows.
pub struct KnownDefinition {
    pub arn: String,
    /// As it could be registered again.
    pub document: Value,
    pub is_active: bool,
}

/// Which tasks and events a look counts.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The task definition of the tasks.
    pub definition_arn: &'a str,
    /// The deployment of the tasks, where its id is known.
    pub deployment: Option<&'a str>,
    /// What ended before says nothing of this run.
    pub since: Option<SystemTime>,
}

impl Api {
    pub fn new(session: &Session, platform: &Platform) -> Api {
        let caller = Caller::new(session);
        Api {
            ecs: aws_sdk_ecs::Client::new(caller.config()),
            logs: aws_sdk_cloudwatchlogs::Client::new(caller.config()),
            platform: platform.clone(),
            caller,
        }
    }

    /// Refuses a cluster that is not there.
    pub async fn find_cluster(&self) -> Result<()> {
        let name = &self.platform.cluster;
        let describe = || self.ecs.describe_clusters().clusters(name).send();
        let attempt = format!("find ECS cluster {name}");
        let answer = self.caller.read(&attempt, "ecs:DescribeClusters", describe).await?;
        if answer.clusters().iter().any(|cluster| cluster.status() == Some("ACTIVE")) {
            return Ok(());
        }
        Err(Error::refused(format!("cannot {attempt}: it is not in this account and region")).fix(
            format!(
                "set `ecs.cluster` in platform.yaml, or make it: aws ecs create-cluster \
                 --cluster-name {name}"
            ),
        ))
    }

    /// The service and what it is told to run; `None` when there is none, or a deleted one.
    pub async fn find_service(&self, name: &str) -> Result<Option<LiveService>> {
        let request = self.ecs.describe_services().cluster(&self.platform.cluster).services(name);
        let request = request.include(ServiceField::Tags);
        let describe =
            || exchange(None, |exchange| request.clone().customize().interceptor(exchange).send());
        let attempt = format!("find ECS service {name}");
        let answer = self.caller.read(&attempt, "ecs:DescribeServices", describe).await?;
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
        let request = self.ecs.describe_task_definition().task_definition(name);
        let request = request.include(TaskDefinitionField::Tags);
        let describe =
            || exchange(None, |exchange| request.clone().customize().interceptor(exchange).send());
        let attempt = format!("read task definition {name}");
        let answer = self.caller.read(&attempt, "ecs:DescribeTaskDefinition", describe).await;
        let answer = match answer {
            // ECS says of a missing one only that the request is bad.
            Err(failure) if failure.is(&["ClientException"]) => return Ok(None),
            answer => answer?,
        };
        let task = &answer["taskDefinition"];
        Ok(Some(KnownDefinition {
            arn: task["taskDefinitionArn"].as_str().unwrap_or_default().to_string(),
            is_active: task["status"] == "ACTIVE",
            document: strip_answer(&answer),
        }))
    }

    /// Registers a revision; returns its ARN.
    pub async fn register(&self, document: &Value, pen: Pen<'_>) -> Result<String> {
        let family = document["family"].as_str().unwrap_or_default();
        let attempt = format!("register a task definition of {family}");
        let register = || {
            exchange(Some(document), |exchange| {
                self.ecs.register_task_definition().customize().interceptor(exchange).send()
            })
        };
        let answer = self.caller.write(&attempt, "ecs:RegisterTaskDefinition", &pen, register);
        let answer = answer.await.map_err(name_passed_role)?;
        let arn = answer["taskDefinition"]["taskDefinitionArn"].as_str();
        arn.map(str::to_string)
            .ok_or_else(|| Error::unexpected(format!("cannot {attempt}: the answer names no ARN")))
    }

    /// Creates the service of a document; returns the id of its deployment.
    pub async fn create(&self, document: &Value, pen: Pen<'_>) -> Result<Option<String>> {
        let name = document["serviceName"].as_str().unwrap_or_default();
        let create = || {
            exchange(Some(document), |exchange| {
                self.ecs.create_service().customize().interceptor(exchange).send()
            })
        };
        let attempt = format!("create ECS service {name}");
        let action = "ecs:CreateService";
        let answer = self.caller.write(&attempt, action, &pen.reaching_users(), create).await;
        self.know_deployment(name, document, answer).await
    }

    /// Tells the service what the document says; returns the id of the deployment that runs then.
    pub async fn update(&self, document: &Value, pen: Pen<'_>) -> Result<Option<String>> {
        let name = document["service"].as_str().unwrap_or_default();
        let update = || {
            exchange(Some(document), |exchange| {
                self.ecs.update_service().customize().interceptor(exchange).send()
            })
        };
        let attempt = format!("update ECS service {name}");
        let action = "ecs:UpdateService";
        let answer = self.caller.write(&attempt, action, &pen.reaching_users(), update).await;
        self.know_deployment(name, document, answer).await
    }

    /// The id of the deployment that a write began. A lost answer is looked up: what the service is
    /// told now says whether the write was done.
    async fn know_deployment(
        &self,
        name: &str,
        document: &Value,
        answer: Result<Value, Failure>,
    ) -> Result<Option<String>> {
        let failure = match answer {
            Ok(answer) => return Ok(primary_id(&answer["service"])),
            Err(failure) => failure,
        };
        // The lock is another's, or the time is over: then nothing is begun any more.
        if !failure.may_have_written || failure.error.kind != Kind::Unexpected {
            return Err(failure.error);
        }
        let report = self.caller.report();
        let looking =
            retry::run(&LOOK_UPS, None, report, async |_| match self.find_service(name).await {
                Ok(Some(live)) if is_told(&live, document) => {
                    Attempt::Done(primary_id(&live.document))
                }
                Ok(_) => Attempt::Retry { why: failure.error.clone(), after: None },
                Err(error) => Attempt::Refused(error),
            });
        looking.await.map_err(|_| failure.error)
    }

    /// Adds tags to a service.
    pub async fn tag(&self, arn: &str, tags: &Value, pen: Pen<'_>) -> Result<()> {
        let document = json!({ "resourceArn": arn, "tags": tags });
        let tag = || {
            exchange(Some(&document), |exchange| {
                self.ecs.tag_resource().customize().interceptor(exchange).send()
            })
        };
        let attempt = format!("tag {}", last_part(arn));
        self.caller.write(&attempt, "ecs:TagResource", &pen, tag).await?;
        Ok(())
    }

    /// Has the service run no tasks.
    pub async fn stop_tasks(&self, name: &str, pen: Pen<'_>) -> Result<()> {
        let update = self.ecs.update_service().cluster(&self.platform.cluster).service(name);
        let update = update.desired_count(0);
        let attempt = format!("stop the tasks of ECS service {name}");
        let stop = || update.clone().send();
        self.caller.write(&attempt, "ecs:UpdateService", &pen.reaching_users(), stop).await?;
        Ok(())
    }

    /// Deletes a service with all its tasks.
    pub async fn delete_service(&self, name: &str, pen: Pen<'_>) -> Result<()> {
        let delete = self.ecs.delete_service().cluster(&self.platform.cluster).service(name);
        let delete = || delete.clone().force(true).send();
        let attempt = format!("delete ECS service {name}");
        match self.caller.write(&attempt, "ecs:DeleteService", &pen, delete).await {
            // By a try of ours whose answer was lost.
            Err(failure)
                if failure.is(&["ServiceNotFoundException", "ServiceNotActiveException"]) =>
            {
                Ok(())
            }
            deleted => Ok(deleted.map(drop)?),
        }
    }

    /// One look at the service, with its tasks that ended and its events as `seen` says.
    pub async fn look(&self, name: &str, seen: Seen<'_>) -> Result<ServiceLook> {
        let cluster = &self.platform.cluster;
        let describe = || self.ecs.describe_services().cluster(cluster).services(name).send();
        let attempt = format!("watch ECS service {name}");
        let answer = self.caller.read(&attempt, "ecs:DescribeServices", describe).await?;
        let Some(service) = answer.services().first() else { return Ok(ServiceLook::default()) };
        let primary =
            service.deployments().iter().find(|deployment| deployment.status() == Some("PRIMARY"));
        // By ECS's own clock: a service keeps its last hundred events, also of deploys long ago.
        let began = primary.and_then(|primary| primary.created_at()).map(|at| at.as_secs_f64());
        let is_new = |at: Option<&aws_sdk_ecs::primitives::DateTime>| {
            let of_this_deployment =
                began.zip(at).is_none_or(|(began, at)| at.as_secs_f64() >= began);
            of_this_deployment && is_since(at, seen.since)
        };
        let events = service.events().iter().filter(|event| is_new(event.created_at()));
        let mut events: Vec<String> =
            events.filter_map(|event| event.message().map(str::to_string)).collect();
        // ECS gives the newest first.
        events.reverse();
        let text = |value: Option<&str>| value.map(str::to_string);
        let pending = primary.map_or(0, |primary| count(primary.pending_count()));
        Ok(ServiceLook {
            primary: primary.and_then(|one| text(one.task_definition())).unwrap_or_default(),
            rollout: primary
                .and_then(|primary| primary.rollout_state())
                .map(|state| Rollout::from(state.as_str())),
            rollout_reason: primary.and_then(|one| text(one.rollout_state_reason())),
            primary_id: primary.and_then(|one| text(one.id())),
            desired: count(service.desired_count()),
            running: primary.map_or(0, |primary| count(primary.running_count())),
            others_running: service
                .deployments()
                .iter()
                .filter(|deployment| deployment.status() != Some("PRIMARY"))
                .map(|deployment| count(deployment.running_count()))
                .sum(),
            waiting: match pending {
                0 => Vec::new(),
                _ => self.find_waiting(name, seen.definition_arn).await?,
            },
            stopped: self.find_stopped(name, seen).await?,
            events,
            ..ServiceLook::default()
        })
    }

    /// The tasks of a service that are to run, or that ended.
    async fn find_tasks(&self, name: &str, status: DesiredStatus) -> Result<Vec<Task>> {
        let cluster = &self.platform.cluster;
        let list = || {
            let list = self.ecs.list_tasks().cluster(cluster).service_name(name);
            let pages = list.desired_status(status.clone()).into_paginator().items();
            pages.send().collect::<Result<Vec<_>, _>>()
        };
        let arns =
            self.caller.read(&format!("list tasks of {name}"), "ecs:ListTasks", list).await?;
        self.describe_tasks(name, &arns).await
    }

    /// The states of the tasks that are to run and do not yet.
    async fn find_waiting(&self, name: &str, definition_arn: &str) -> Result<Vec<TaskState>> {
        let tasks = self.find_tasks(name, DesiredStatus::Running).await?;
        let ours = tasks.iter().filter(|task| task.task_definition_arn() == Some(definition_arn));
        let states = ours.filter_map(|task| task.last_status().map(TaskState::from));
        Ok(states.filter(|state| *state != TaskState::Running).collect())
    }

    /// The tasks that ended, oldest first.
    async fn find_stopped(&self, name: &str, seen: Seen<'_>) -> Result<Vec<StoppedTask>> {
        let mut tasks = self.find_tasks(name, DesiredStatus::Stopped).await?;
        tasks.retain(|task| {
            task.task_definition_arn() == Some(seen.definition_arn)
                && is_of_deployment(task.started_by().unwrap_or_default(), seen.deployment)
                && is_since(task.stopped_at(), seen.since)
        });
        tasks.sort_by_key(|task| task.stopped_at().map(|at| at.as_nanos()));
        let mut stopped = Vec::new();
        for task in &tasks {
            stopped.push(self.read_stopped(task, name, Named::Failed).await);
        }
        Ok(stopped)
    }
}

/// A role that may not be handed to tasks is named in AWS's words only.
fn name_passed_role(failure: Failure) -> Error {
    let why = failure.error.why.as_deref();
    match why.is_some_and(|why| why.contains("iam:PassRole")) {
        true => failure.error.fix(
            "allow `iam:PassRole` on the execution role and the task role, with \
             iam:PassedToService ecs-tasks.amazonaws.com",
        ),
        false => failure.error,
    }
}

/// The id of the PRIMARY deployment of a service.
fn primary_id(service: &Value) -> Option<String> {
    let mut deployments = service["deployments"].as_array()?.iter();
    deployments.find(|one| one["status"] == "PRIMARY")?["id"].as_str().map(str::to_string)
}

fn is_since(at: Option<&aws_sdk_ecs::primitives::DateTime>, since: Option<SystemTime>) -> bool {
    let at = at.and_then(|at| SystemTime::try_from(*at).ok());
    since.is_none_or(|since| at.is_none_or(|at| at >= since))
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
