//! What is said to ECS of single tasks: those that run once, and how they ended. SDK types end here.

use aws_sdk_ecs::types::{DesiredStatus, Task};
use serde_json::Value;

use super::Api;
use crate::aws::call::Failure;
use crate::aws::document::exchange;
use crate::deploy::ecs::diagnosis::{StoppedTask, failed_container};
use crate::deploy::ecs::render::last_part;
use crate::deploy::ecs::states::{StopCode, TaskState};
use crate::deploy::pen::Pen;
use crate::error::Result;

/// DescribeTasks takes no more at once.
const TASKS: usize = 100;

/// Lines of a container's log that go into a cause.
const LOG_LINES: i32 = 30;

/// A task that runs once, as it was seen.
#[derive(Clone, Debug)]
pub struct SingleTask {
    pub arn: String,
    /// What its `startedBy` says.
    pub started_by: String,
    pub state: TaskState,
    /// How it ended, once it has.
    pub ended: Option<StoppedTask>,
}

/// Why ECS started no task, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unstarted {
    pub reason: String,
    pub detail: String,
}

impl Api {
    /// Starts the task of a document, unless `find` has it by now; returns its ARN, or why ECS has
    /// none.
    pub async fn run_task(
        &self,
        document: &Value,
        pen: Pen<'_>,
        find: impl AsyncFn() -> Result<Option<String>>,
    ) -> Result<Result<String, Unstarted>> {
        let run = || {
            exchange(Some(document), |exchange| {
                self.ecs.run_task().customize().interceptor(exchange).send()
            })
        };
        let find = async || Ok(find().await?.map(|arn| serde_json::json!({ "found": arn })));
        let attempt =
            format!("run a task of {}", last_part(&document["taskDefinition"].to_string()));
        let answer = self.caller.create(&attempt, "ecs:RunTask", &pen, &run, find);
        let answer = answer.await.map_err(super::name_passed_role)?;
        let arn = answer["tasks"][0]["taskArn"].as_str().or(answer["found"].as_str());
        if let Some(arn) = arn {
            return Ok(Ok(arn.to_string()));
        }
        let text = |key: &str| answer["failures"][0][key].as_str().unwrap_or_default().to_string();
        Ok(Err(Unstarted { reason: text("reason"), detail: text("detail") }))
    }

    /// Has a task end.
    pub async fn stop_task(&self, arn: &str, reason: &str, pen: Pen<'_>) -> Result<()> {
        let cluster = &self.platform.cluster;
        let stop = || self.ecs.stop_task().cluster(cluster).task(arn).reason(reason).send();
        let attempt = format!("stop task {}", last_part(arn));
        self.caller.write(&attempt, "ecs:StopTask", &pen, stop).await?;
        Ok(())
    }

    /// The tasks of a family that something else than its service started: those that run, and those
    /// that ended of late.
    pub async fn find_single_tasks(&self, family: &str, prefix: &str) -> Result<Vec<SingleTask>> {
        let mut found = Vec::new();
        for status in [DesiredStatus::Running, DesiredStatus::Stopped] {
            let list = || {
                let list = self.ecs.list_tasks().cluster(&self.platform.cluster).family(family);
                let pages = list.desired_status(status.clone()).into_paginator().items();
                pages.send().collect::<Result<Vec<_>, _>>()
            };
            let attempt = format!("list tasks of {family}");
            let arns = self.caller.read(&attempt, "ecs:ListTasks", list).await?;
            let tasks = self.describe_tasks(family, &arns).await?;
            let is_ours = |task: &&Task| task.started_by().is_some_and(|by| by.starts_with(prefix));
            for task in tasks.iter().filter(is_ours) {
                found.push(self.read_single(task, family).await);
            }
        }
        Ok(found)
    }

    /// One look at a task; `None` when ECS does not know it (any more).
    pub async fn look_at_task(&self, arn: &str, family: &str) -> Result<Option<SingleTask>> {
        let tasks = self.describe_tasks(family, &[arn.to_string()]).await?;
        match tasks.first() {
            Some(task) => Ok(Some(self.read_single(task, family).await)),
            None => Ok(None),
        }
    }

    async fn read_single(&self, task: &Task, family: &str) -> SingleTask {
        let state = TaskState::from(task.last_status().unwrap_or_default());
        let ended = match state {
            TaskState::Stopped => Some(self.read_stopped(task, family, Named::Ours).await),
            _ => None,
        };
        SingleTask {
            arn: task.task_arn().unwrap_or_default().to_string(),
            started_by: task.started_by().unwrap_or_default().to_string(),
            state,
            ended,
        }
    }

    pub(super) async fn describe_tasks(&self, name: &str, arns: &[String]) -> Result<Vec<Task>> {
        let mut tasks = Vec::new();
        for some in arns.chunks(TASKS) {
            let describe = || {
                let describe = self.ecs.describe_tasks().cluster(&self.platform.cluster);
                describe.set_tasks(Some(some.to_vec())).send()
            };
            let attempt = format!("read tasks of {name}");
            let answer = self.caller.read(&attempt, "ecs:DescribeTasks", describe).await?;
            tasks.extend(answer.tasks.unwrap_or_default());
        }
        Ok(tasks)
    }

    /// How a task of `name` ended.
    pub(super) async fn read_stopped(&self, task: &Task, name: &str, named: Named) -> StoppedTask {
        let containers = task.containers();
        let all: Vec<_> = containers
            .iter()
            .map(|one| (one.name().unwrap_or_default(), one.exit_code(), one.reason()))
            .collect();
        let ours = all.iter().position(|(container, ..)| *container == name);
        let index = match named {
            Named::Failed => failed_container(&all, name),
            Named::Ours => ours.or_else(|| failed_container(&all, name)),
        };
        let container = index.and_then(|index| containers.get(index));
        let its_name = container.and_then(|container| container.name());
        let id = last_part(task.task_arn().unwrap_or_default()).to_string();
        let exit_code = container.and_then(|container| container.exit_code());
        let log_tail = match exit_code {
            // Where others log is theirs.
            Some(_) if its_name == Some(name) => self.log_tail(name, &id).await,
            // What never ran has said nothing.
            _ => Vec::new(),
        };
        StoppedTask {
            task: id,
            code: StopCode::from(task.stop_code().map_or("", |code| code.as_str())),
            reason: task.stopped_reason().unwrap_or_default().to_string(),
            container: its_name.unwrap_or(name).to_string(),
            exit_code: exit_code.map(i64::from),
            container_reason: container
                .and_then(|container| container.reason())
                .map(str::to_string),
            log_tail,
        }
    }

    /// A task's last lines. Not being allowed to read them must not hide why the deploy failed.
    async fn log_tail(&self, name: &str, task: &str) -> Vec<String> {
        let (group, stream) = self.log_place(name, task);
        let get = || {
            let events = self.logs.get_log_events().log_group_name(&group);
            events.log_stream_name(&stream).limit(LOG_LINES).start_from_head(false).send()
        };
        let attempt = format!("read the log {group}/{stream}");
        match self.caller.read(&attempt, "logs:GetLogEvents", get).await {
            Ok(answer) => {
                let lines = answer.events().iter().filter_map(|event| event.message());
                lines.map(|text| text.trim_end().to_string()).collect()
            }
            Err(Failure { error, .. }) => {
                let fix = error.fixes.first().map(|fix| format!(" ({fix})")).unwrap_or_default();
                vec![format!("{error}{fix}")]
            }
        }
    }

    /// The lines that a task logged since the last look, and where the next look goes on. Who may not
    /// read logs goes without.
    pub async fn read_log(
        &self,
        name: &str,
        task: &str,
        token: Option<String>,
    ) -> (Vec<String>, Option<String>) {
        let (group, stream) = self.log_place(name, task);
        let events = self.logs.get_log_events().log_group_name(&group).log_stream_name(&stream);
        let get = events.start_from_head(true).set_next_token(token.clone());
        match get.send().await {
            Ok(answer) => {
                let lines = answer.events().iter().filter_map(|event| event.message());
                let lines = lines.map(|text| text.trim_end().to_string()).collect();
                (lines, answer.next_forward_token.or(token))
            }
            Err(_) => (Vec::new(), token),
        }
    }

    /// The group and the stream that a task of `name` logs to.
    fn log_place(&self, name: &str, task: &str) -> (String, String) {
        (format!("/ecs/{}", self.platform.cluster), format!("{name}/{name}/{task}"))
    }
}

/// Which container of a task that ended is told of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    /// The one that failed.
    Failed,
    /// The one with the service's name, whatever else is beside it.
    Ours,
}
