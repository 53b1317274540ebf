//! The migration gate: `before-deploy` as a task of the new revision in the service's network, run to
//! its end before anything else changes.

use std::time::Duration;

use serde_json::{Value, json};

use super::api::{SingleTask, Unstarted};
use super::diagnosis::{Diagnosis, StoppedTask, diagnose};
use super::live::LiveService;
use super::plan::{EcsPlan, is_migrated};
use super::render::{EcsDocuments, MIGRATED_TAG, find_tag};
use super::states::{StopCode, TaskState};
use super::{Ecs, EcsWritten};
use crate::deploy::migration::{describe_failure, run_in_time};
use crate::deploy::pen::Pen;
use crate::deploy::target::{Goal, Permit, Target};
use crate::error::{Cause, Code, Kind, Result};
use crate::retry::{self, Attempt, RetryPolicy};

/// What a migration is to a plan and to people.
const OBJECT: &str = "Task/before-deploy";

/// What `startedBy` of our migrations begins with.
const STARTED_BY: &str = "cicd-before-deploy/";

/// How often a task is asked for that there is no room for at the moment.
const STARTS: RetryPolicy = RetryPolicy {
    attempts: 6,
    first_pause: Duration::from_secs(2),
    longest_pause: Duration::from_secs(15),
    jitter: 0.3,
};

/// How often a task is started anew whose machine was taken away.
const LOST_MACHINES: u32 = 3;

/// Looks after the end until the last lines of the log have come.
const LAST_LOOKS: u32 = 3;

/// How far the log was shown.
#[derive(Default)]
struct Shown {
    token: Option<String>,
    lines: usize,
}

impl Ecs {
    /// What the tag of the family's latest revision says was migrated. It is asked for only where the
    /// rest does not tell.
    pub(super) async fn find_migrated(
        &self,
        goal: &Goal<EcsDocuments>,
        live: Option<&LiveService>,
    ) -> Result<Option<String>> {
        let documents = &goal.wanted.documents;
        let Some(migration) = &documents.migration else { return Ok(None) };
        if is_migrated(goal, live, migration) {
            return Ok(None);
        }
        let latest = self.api.find_definition(documents.name()).await?;
        let tag = latest.as_ref().and_then(|one| find_tag(&one.document["tags"], MIGRATED_TAG));
        Ok(tag.map(str::to_string))
    }

    /// Runs `before-deploy`, unless it was done for this image and command.
    ///
    /// # Errors
    /// [`Kind::Gate`] when it fails, timed out when it does not end. What runs was not changed then.
    pub(super) async fn run_migration(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let Some(migration) = &plan.migration else { return Ok(()) };
        let by = format!("{STARTED_BY}{}", migration.key);
        let EcsWritten { extent, definition_arn, .. } = written;
        let (name, pen) = (plan.wanted.documents.name(), Pen::new(permit, extent));
        let mut task = None;
        let running = async {
            self.wait_for_others(name, &by).await?;
            let arn = self.find_revision_of_migration(plan, definition_arn, pen).await?;
            for _ in 0..LOST_MACHINES {
                let started = self.start_migration(plan, &arn, &by, permit, pen).await?;
                task = Some(started.clone());
                let ended = self.watch_migration(&started, name).await?;
                if ended.exit_code == Some(0) {
                    task = None;
                    let tags = json!([{ "key": MIGRATED_TAG, "value": migration.key }]);
                    return self.api.tag(&arn, &tags, pen).await;
                }
                if !is_taken_away(&ended) {
                    return Err(describe_failure(vec![explain_end(&ended)]));
                }
                self.session.report().warn("before-deploy: its machine was taken away");
            }
            let reason = format!("its machine was taken away {LOST_MACHINES} times");
            Err(describe_failure(vec![Cause { object: OBJECT.into(), reason, ..Cause::default() }]))
        };
        let ended = run_in_time(permit, OBJECT, running).await;
        if ended.is_err()
            && let Some(task) = task
            && let Err(error) = self.stop_migration(&task, name, pen).await
        {
            self.session.report().warn(format!("{OBJECT} may still run: {error}"));
        }
        ended
    }

    /// The revision that the migration runs: the new one, which the service gets after it.
    async fn find_revision_of_migration(
        &self,
        plan: &EcsPlan,
        registered: &mut Option<String>,
        pen: Pen<'_>,
    ) -> Result<String> {
        let live = plan.facts.service.as_ref().filter(|_| !plan.register);
        if let Some(live) = live {
            return Ok(live.definition_arn.clone());
        }
        let arn = self.api.register(&plan.wanted.documents.task_definition, pen).await?;
        *registered = Some(arn.clone());
        Ok(arn)
    }

    /// Two migrations never run at once: one of a run that was cut short is waited for.
    async fn wait_for_others(&self, name: &str, by: &str) -> Result<()> {
        let mut said = false;
        loop {
            let tasks = self.api.find_single_tasks(name, STARTED_BY).await?;
            let is_other = |task: &&SingleTask| task.ended.is_none() && task.started_by != by;
            let Some(other) = tasks.iter().find(is_other) else { return Ok(()) };
            if !std::mem::replace(&mut said, true) {
                let task = super::last_part(&other.arn);
                let report = self.session.report();
                report.detail(format!("waits for task {task}, which an earlier deploy began"));
            }
            tokio::time::sleep(Self::INTERVAL).await;
        }
    }

    /// Starts the task, unless one of this image and command runs already, or did well of late.
    /// Returns its ARN.
    async fn start_migration(
        &self,
        plan: &EcsPlan,
        revision: &str,
        by: &str,
        permit: Permit<'_>,
        pen: Pen<'_>,
    ) -> Result<String> {
        let name = plan.wanted.documents.name();
        let find = async || {
            let tasks = self.api.find_single_tasks(name, by).await?;
            let serves = |task: &SingleTask| {
                task.ended.as_ref().is_none_or(|ended| ended.exit_code == Some(0))
            };
            Ok(tasks.into_iter().find(serves).map(|task| task.arn))
        };
        if let Some(found) = find().await? {
            return Ok(found);
        }
        let (record, report) = (permit.record_number(), self.session.report());
        retry::run(&STARTS, Some(permit.deadline()), report, async |this| {
            let attempt = format!("{record}-{}", this.number);
            let document = describe_run(plan, revision, by, &attempt);
            match self.api.run_task(&document, pen, find).await {
                Ok(Ok(arn)) => Attempt::Done(arn),
                Ok(Err(unstarted)) => {
                    let is_passing = is_passing(&unstarted);
                    let why = describe_failure(vec![explain_unstarted(&unstarted)]);
                    match is_passing {
                        true => Attempt::Retry { why, after: None },
                        false => Attempt::Refused(why),
                    }
                }
                Err(error) => Attempt::Refused(error),
            }
        })
        .await
    }

    /// Watches the task to its end, and shows what it logs.
    async fn watch_migration(&self, arn: &str, name: &str) -> Result<StoppedTask> {
        let (report, task) = (self.session.report(), super::last_part(arn));
        let (mut shown, mut waits) = (Shown::default(), None);
        loop {
            match self.api.look_at_task(arn, name).await {
                Ok(Some(SingleTask { ended: Some(ended), .. })) => {
                    for _ in 0..LAST_LOOKS {
                        if self.show_log(name, task, &mut shown).await > 0 {
                            continue;
                        }
                        tokio::time::sleep(Self::INTERVAL / 2).await;
                    }
                    return Ok(ended);
                }
                Ok(Some(SingleTask { state, .. })) => {
                    if waits.as_ref() != Some(&state) {
                        report.detail(format!("before-deploy: its task is {state}"));
                    }
                    if state == TaskState::Running {
                        self.show_log(name, task, &mut shown).await;
                    }
                    waits = Some(state);
                }
                // A look that fails, or that is older than the start, says nothing of it.
                Err(error) if error.kind != Kind::Unexpected => return Err(error),
                Ok(None) | Err(_) => {}
            }
            tokio::time::sleep(Self::INTERVAL).await;
        }
    }

    /// Shows the lines that came since the last look; returns how many.
    async fn show_log(&self, name: &str, task: &str, shown: &mut Shown) -> usize {
        let (lines, token) = self.api.read_log(name, task, shown.token.take()).await;
        shown.token = token;
        for line in &lines {
            self.session.report().detail(format!("before-deploy │ {line}"));
        }
        shown.lines += lines.len();
        lines.len()
    }

    /// Has a task end that is not over, so that it cannot go on beside what comes next.
    async fn stop_migration(&self, arn: &str, name: &str, pen: Pen<'_>) -> Result<()> {
        match self.api.look_at_task(arn, name).await? {
            Some(task) if task.ended.is_none() => {
                self.api.stop_task(arn, "before-deploy did not end in time", pen).await
            }
            _ => Ok(()),
        }
    }
}

/// The input of RunTask: the new revision in the service's network, with another command.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>
fn describe_run(plan: &EcsPlan, revision: &str, by: &str, attempt: &str) -> Value {
    let documents = &plan.wanted.documents;
    let command = plan.migration.as_ref().map(|migration| migration.command.as_slice());
    let mut document = json!({
        "cluster": documents.service["cluster"],
        "taskDefinition": revision,
        "count": 1,
        "startedBy": by,
        "clientToken": format!("{}-{attempt}", by.replace('/', "-")),
        "networkConfiguration": documents.service["networkConfiguration"],
        "overrides": { "containerOverrides": [
            { "name": documents.name(), "command": command.unwrap_or_default() },
        ] },
        "propagateTags": "TASK_DEFINITION",
        "enableECSManagedTags": true,
    });
    let live = plan.facts.service.as_ref().map(|live| &live.document);
    let strategy = live
        .map(|live| &live["capacityProviderStrategy"])
        .filter(|strategy| strategy.as_array().is_some_and(|strategy| !strategy.is_empty()));
    match strategy {
        Some(strategy) => document["capacityProviderStrategy"] = strategy.clone(),
        None => document["launchType"] = documents.service["launchType"].clone(),
    }
    document
}

/// A machine that goes away is no failure of the command.
fn is_taken_away(ended: &StoppedTask) -> bool {
    matches!(ended.code, StopCode::SpotInterruption | StopCode::TerminationNotice)
}

/// How a migration ended that did not end well. One whose container has no exit code never ran.
fn explain_end(ended: &StoppedTask) -> Cause {
    let Diagnosis { code, reason, fix } = diagnose(ended);
    Cause {
        code: Some(code),
        object: format!("Task/{}/{}", ended.task, ended.container),
        reason,
        exit_code: ended.exit_code,
        log_tail: ended.log_tail.clone(),
        fix,
    }
}

/// Whether there may be room for a task the next time.
fn is_passing(unstarted: &Unstarted) -> bool {
    let reason = &unstarted.reason;
    ["RESOURCE:", "AGENT", "Capacity is unavailable"].iter().any(|word| reason.starts_with(word))
}

/// Why RunTask started nothing.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html>
fn explain_unstarted(unstarted: &Unstarted) -> Cause {
    let Unstarted { reason, detail } = unstarted;
    let (code, fix) = match reason.as_str() {
        reason if reason.starts_with("RESOURCE:") => (
            Code::Unschedulable,
            "give the cluster instances with room for one task more, or ask for less in \
             `resources`",
        ),
        reason if reason.starts_with("Capacity is unavailable") => {
            (Code::Unschedulable, "deploy again later, or name subnets in other zones as well")
        }
        "ATTRIBUTE" => (
            Code::Unschedulable,
            "let the cluster's instances have what the task definition asks for: a current agent, \
             its log driver, its architecture",
        ),
        "AGENT" => {
            (Code::Unschedulable, "see why the agent of the cluster's instances is not connected")
        }
        "EMPTY CAPACITY PROVIDER" => {
            (Code::Unschedulable, "let the capacity provider's Auto Scaling group start instances")
        }
        "NO CONTAINER INSTANCES" | "LOCATION" | "INACTIVE" => (
            Code::Unschedulable,
            "register instances with the cluster, or set `launch: fargate` in platform.yaml",
        ),
        reason if reason.contains("constraint") => {
            (Code::Unschedulable, "let an instance of the cluster keep the placement constraints")
        }
        _ => (Code::StartFailed, "see the reason in the ECS documentation of RunTask's failures"),
    };
    let reason = match (reason.as_str(), detail.as_str()) {
        ("", "") => "ECS started no task and does not say why".to_string(),
        (reason, "") => reason.to_string(),
        (reason, detail) => format!("{reason}: {detail}"),
    };
    Cause {
        code: Some(code),
        object: OBJECT.into(),
        reason,
        fix: Some(fix.into()),
        ..Cause::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_run_task_does_not_start_is_explained() {
        struct Case {
            reason: &'static str,
            detail: &'static str,
            code: Code,
            passing: bool,
        }
        let case = |reason, detail, code, passing| Case { reason, detail, code, passing };
        let cases = [
            case("RESOURCE:MEMORY", "", Code::Unschedulable, true),
            case("RESOURCE:ENI", "", Code::Unschedulable, true),
            case("AGENT", "", Code::Unschedulable, true),
            case(
                "Capacity is unavailable at this time. Please try again later or in a different \
                 availability zone",
                "",
                Code::Unschedulable,
                true,
            ),
            case("ATTRIBUTE", "", Code::Unschedulable, false),
            case("EMPTY CAPACITY PROVIDER", "", Code::Unschedulable, false),
            case("MemberOf placement constraint unsatisfied.", "", Code::Unschedulable, false),
            case("MISSING", "it is gone", Code::StartFailed, false),
            case("", "", Code::StartFailed, false),
        ];
        for Case { reason, detail, code, passing } in cases {
            let unstarted = Unstarted { reason: reason.into(), detail: detail.into() };
            let cause = explain_unstarted(&unstarted);
            assert_eq!((cause.code, is_passing(&unstarted)), (Some(code), passing), "{reason}");
            assert!(cause.reason.contains(detail) && !cause.reason.is_empty(), "{cause:?}");
            assert!(cause.fix.is_some_and(|fix| !fix.is_empty()), "{reason}");
        }
    }
}
