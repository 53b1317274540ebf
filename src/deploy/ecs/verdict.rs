//! A look at an ECS service → how far the deploy is. Pure.
//!
//! A rollout is done only when the PRIMARY deployment is ours and all of it runs: the SDK's own
//! waiter also passes after a rollback and for a service with no tasks.

use super::live::LiveService;
use super::render::{last_part, revision_of};
use crate::deploy::target::Verdict;
use crate::error::Cause;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceLook {
    /// The task definition's ARN of the PRIMARY deployment.
    pub primary: String,
    /// `IN_PROGRESS`, `COMPLETED`, `FAILED`; none where the service has no circuit breaker.
    pub rollout: Option<String>,
    pub rollout_reason: Option<String>,
    /// The id of the PRIMARY deployment.
    pub primary_id: Option<String>,
    /// Whose the PRIMARY deployment is.
    pub ownership: Ownership,
    /// Tasks that are to run, by the plan: the service's own count may have been changed by
    /// somebody else meanwhile.
    pub desired: u32,
    pub running: u32,
    /// Targets of the load balancer that are healthy; none without one.
    pub healthy_targets: Option<u32>,
    /// The load balancer's words for one that is not.
    pub unhealthy: Option<String>,
    /// Tasks of our task definition that ended since the deploy began, oldest first.
    pub stopped: Vec<StoppedTask>,
    /// The service's events since the deploy began, oldest first.
    pub events: Vec<String>,
}

/// A task that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoppedTask {
    /// The last part of its ARN.
    pub task: String,
    /// `EssentialContainerExited`, `TaskFailedToStart`, `ServiceSchedulerInitiated`…
    pub code: String,
    pub reason: String,
    pub container: String,
    pub exit_code: Option<i64>,
    /// What the container's runtime said: `OutOfMemoryError: …`.
    pub container_reason: Option<String>,
    pub log_tail: Vec<String>,
}

/// Which container of a stopped task is the one to name: ours where it failed, else one that did.
/// The others were sent SIGTERM when the first ended.
pub fn failed_container(
    containers: &[(&str, Option<i32>, Option<&str>)],
    ours: &str,
) -> Option<usize> {
    let sigterm = [Some(0), Some(143), Some(137), None];
    let failed = |(_, code, reason): &(&str, Option<i32>, Option<&str>)| {
        !sigterm.contains(code) || reason.is_some()
    };
    let is_ours = |(name, ..): &(&str, Option<i32>, Option<&str>)| *name == ours;
    let at = |found: &dyn Fn(&(&str, Option<i32>, Option<&str>)) -> bool| {
        containers.iter().position(found)
    };
    at(&|one| is_ours(one) && failed(one)).or(at(&failed)).or(at(&is_ours)).or(at(&|_| true))
}

/// Whose deployment is PRIMARY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// The one that this run began, or the one that it found and kept.
    #[default]
    Ours,
    /// One that was there before this run wrote: the read is older than our write.
    Stale,
    /// A later one of what ran before: ECS went back by itself.
    RolledBackByEcs,
    /// A later one of something else: somebody deployed after us.
    Others,
}

/// By what a run knows its own deployment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity<'a> {
    /// The id that our write was answered with.
    pub deployment: Option<&'a str>,
    /// The revision that this run registered, which nobody else knows of: what runs it is ours, also
    /// when the answer to our write was lost.
    pub definition_arn: Option<&'a str>,
}

/// Whose the PRIMARY deployment of a look is. `before` is the service as it was found.
pub fn owner_of_primary(
    look: &ServiceLook,
    ours: &Identity<'_>,
    before: Option<&LiveService>,
) -> Ownership {
    let Some(primary) = look.primary_id.as_deref() else { return Ownership::Ours };
    let was_there =
        before.is_some_and(|before| before.deployments.iter().any(|known| known == primary));
    let is_definition_of_before =
        before.is_some_and(|before| before.definition_arn == look.primary);
    match ours.deployment {
        Some(ours) if primary == ours => Ownership::Ours,
        None if ours.definition_arn == Some(look.primary.as_str()) => Ownership::Ours,
        Some(_) if was_there => Ownership::Stale,
        Some(_) if is_definition_of_before => Ownership::RolledBackByEcs,
        // This run kept what it found.
        None if was_there || is_definition_of_before || before.is_none() => Ownership::Ours,
        Some(_) | None => Ownership::Others,
    }
}

impl ServiceLook {
    /// Whether `definition_arn` is what runs, all of it.
    pub fn is_complete(&self, definition_arn: &str) -> bool {
        let done = self.rollout.as_deref().is_none_or(|state| state == "COMPLETED");
        let healthy = self.healthy_targets.is_none_or(|healthy| healthy >= self.desired);
        self.primary == definition_arn && done && healthy && self.running >= self.desired
    }
}

/// The verdict on the deploy of task definition `ours`.
pub fn judge_look(look: &ServiceLook, ours: &str) -> Verdict {
    let causes: Vec<Cause> =
        distinct(look.stopped.iter().filter(|stopped| is_failure(stopped, &look.stopped)));
    if !causes.is_empty() {
        return Verdict::Failed(causes);
    }
    if let Some(cause) = refused_by_scheduler(&look.events) {
        return Verdict::Failed(vec![cause]);
    }
    if look.ownership == Ownership::RolledBackByEcs {
        return Verdict::Failed(vec![Cause {
            object: "Service".into(),
            reason: format!("ECS went back to {} by itself", last_part(&look.primary)),
            ..Cause::default()
        }]);
    }
    if look.ownership == Ownership::Stale || look.primary != ours {
        return Verdict::Progressing(format!("waiting for ECS to take {}", last_part(ours)));
    }
    if look.rollout.as_deref() == Some("FAILED") {
        let reason = look.rollout_reason.clone().unwrap_or_else(|| "the rollout failed".into());
        return Verdict::Failed(vec![Cause {
            object: "Service".into(),
            reason,
            ..Cause::default()
        }]);
    }
    if look.is_complete(ours) {
        return Verdict::Healthy { revision: revision_of(ours) };
    }
    let targets = look
        .healthy_targets
        .map(|healthy| format!(", {healthy} healthy in the load balancer"))
        .unwrap_or_default();
    let why = look.unhealthy.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    Verdict::Progressing(format!("{} of {} tasks run{targets}{why}", look.running, look.desired))
}

/// What ECS says when it cannot even make a task.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-event-messages-list.html>
fn refused_by_scheduler(events: &[String]) -> Option<Cause> {
    let cause = |event: &String, fix: &str| Cause {
        object: "Service".into(),
        reason: event.clone(),
        fix: Some(fix.into()),
        ..Cause::default()
    };
    let assume =
        "let the execution and task role trust ecs-tasks.amazonaws.com, and see that both exist";
    let room = "give the cluster room (instances, subnets with free addresses), or ask for less in `resources`";
    let with = |text: &str| events.iter().filter(|event| event.contains(text)).collect::<Vec<_>>();
    if let Some(event) = with("unable to assume the role").first() {
        return Some(cause(event, assume));
    }
    if let Some(event) = with("unable to place a task").first() {
        return Some(cause(event, room));
    }
    // Capacity that is short for a moment says this once.
    match with("failed to launch a task").as_slice() {
        [event, _, ..] => Some(cause(event, room)),
        _ => None,
    }
}

/// Whether a task ended because the version is bad. One exit is enough: a service has no reason to
/// exit. What ECS could not start may have been bad luck once, and is not when the next task fails
/// in the same way.
fn is_failure(stopped: &StoppedTask, all: &[StoppedTask]) -> bool {
    match stopped.code.as_str() {
        // The scheduler also stops what is not healthy. A first one may have been slow to start.
        "ServiceSchedulerInitiated" if unhealthy(stopped) => {
            all.iter().filter(|other| unhealthy(other)).count() >= 2
        }
        "ServiceSchedulerInitiated"
        | "UserInitiated"
        | "SpotInterruption"
        | "TerminationNotice" => false,
        "TaskFailedToStart" => {
            let same = all.iter().filter(|other| {
                other.code == stopped.code && kind(&other.reason) == kind(&stopped.reason)
            });
            is_final(&stopped.reason) || same.count() >= 2
        }
        _ => true,
    }
}

fn unhealthy(stopped: &StoppedTask) -> bool {
    stopped.reason.contains("health checks")
}

/// A reason up to its first colon: `CannotPullContainerError`.
fn kind(reason: &str) -> &str {
    reason.split(':').next().unwrap_or(reason)
}

/// What no second try can change.
fn is_final(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["not found", "manifest unknown", "does not exist", "accessdenied", "not authorized"]
        .iter()
        .any(|text| reason.contains(text))
}

/// One cause for each way in which tasks failed, the first seen of each.
fn distinct<'a>(stopped: impl Iterator<Item = &'a StoppedTask>) -> Vec<Cause> {
    let mut causes: Vec<Cause> = Vec::new();
    for stopped in stopped {
        let reason = match (&stopped.container_reason, stopped.reason.as_str()) {
            (Some(container), "") => container.clone(),
            (Some(container), task) => format!("{task} ({container})"),
            (None, "") => stopped.code.clone(),
            (None, task) => task.to_string(),
        };
        if causes.iter().any(|cause| cause.reason == reason && cause.exit_code == stopped.exit_code)
        {
            continue;
        }
        causes.push(Cause {
            code: None,
            object: format!("Task/{}/{}", stopped.task, stopped.container),
            fix: fix(&reason, stopped.exit_code),
            reason,
            exit_code: stopped.exit_code,
            log_tail: stopped.log_tail.clone(),
        });
    }
    causes
}

fn fix(reason: &str, exit_code: Option<i64>) -> Option<String> {
    let lower = reason.to_lowercase();
    let text = match exit_code {
        _ if lower.contains("health checks") => {
            "let it answer 2xx on health.path within health.startup, and the tasks' security groups let the load balancer in"
        }
        _ if lower.contains("outofmemory") => {
            "raise resources.memory in service.yaml, or find what grows"
        }
        Some(137) => {
            "it was killed: out of memory (raise resources.memory), or it did not stop in time"
        }
        _ if lower.contains("cannotpull") && is_final(&lower) => {
            "push the image first: `cicd push-ecr`; and let the execution role pull it"
        }
        _ if lower.contains("cannotpull") => {
            "let the tasks reach the registry: a NAT gateway or VPC endpoints for ECR and S3"
        }
        _ if lower.contains("resourceinitializationerror") => {
            "let the execution role read the secrets and write the logs, and the subnets reach both services"
        }
        Some(126 | 127) => {
            "the command of the image cannot be run: see its ENTRYPOINT and CMD, and its platform"
        }
        Some(139) => "it crashed: see that the image is built for the platform it runs on",
        _ => return None,
    };
    Some(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "arn:aws:ecs:eu-west-1:111122223333:task-definition/patients:7";

    fn look() -> ServiceLook {
        ServiceLook {
            primary: OURS.into(),
            rollout: Some("COMPLETED".into()),
            primary_id: Some("ecs-svc/2".into()),
            desired: 2,
            running: 2,
            healthy_targets: Some(2),
            ..ServiceLook::default()
        }
    }

    fn stopped(code: &str, reason: &str, exit_code: Option<i64>) -> StoppedTask {
        StoppedTask {
            task: "t".into(),
            code: code.into(),
            reason: reason.into(),
            container: "patients".into(),
            exit_code,
            ..StoppedTask::default()
        }
    }

    fn short(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Healthy { .. } => "healthy",
            Verdict::Progressing(_) => "progressing",
            Verdict::Failed(_) => "failed",
        }
    }

    #[test]
    fn looks_become_verdicts() {
        let exited =
            || stopped("EssentialContainerExited", "Essential container in task exited", Some(3));
        let pull = |reason: &str| stopped("TaskFailedToStart", reason, None);
        let unhealthy = || {
            stopped(
                "ServiceSchedulerInitiated",
                "Task failed ELB health checks in (target-group …)",
                Some(143),
            )
        };
        type Case<'a> = (&'a str, ServiceLook, &'a str);
        let cases: Vec<Case<'_>> = vec![
            ("all of it runs", look(), "healthy"),
            ("no load balancer", ServiceLook { healthy_targets: None, ..look() }, "healthy"),
            (
                "no circuit breaker says nothing of the rollout",
                ServiceLook { rollout: None, ..look() },
                "healthy",
            ),
            (
                "scaled to nothing",
                ServiceLook { desired: 0, running: 0, healthy_targets: Some(0), ..look() },
                "healthy",
            ),
            (
                "still rolling",
                ServiceLook { rollout: Some("IN_PROGRESS".into()), ..look() },
                "progressing",
            ),
            (
                "said to be complete with nothing running",
                ServiceLook { running: 0, ..look() },
                "progressing",
            ),
            (
                "a target is not healthy yet",
                ServiceLook { healthy_targets: Some(1), ..look() },
                "progressing",
            ),
            (
                "ECS went back",
                ServiceLook {
                    primary: "arn:…/patients:6".into(),
                    ownership: Ownership::RolledBackByEcs,
                    ..look()
                },
                "failed",
            ),
            (
                "a read older than our write",
                ServiceLook {
                    primary: "arn:…/patients:6".into(),
                    ownership: Ownership::Stale,
                    ..look()
                },
                "progressing",
            ),
            (
                "one that was slow to get healthy",
                ServiceLook { running: 1, stopped: vec![unhealthy()], ..look() },
                "progressing",
            ),
            (
                "two that never got healthy",
                ServiceLook { stopped: vec![unhealthy(), unhealthy()], ..look() },
                "failed",
            ),
            (
                "a role that cannot be taken",
                ServiceLook {
                    events: vec!["ECS was unable to assume the role 'r'".into()],
                    ..look()
                },
                "failed",
            ),
            (
                "one launch that failed",
                ServiceLook {
                    running: 1,
                    events: vec!["failed to launch a task with (error Capacity)".into()],
                    ..look()
                },
                "progressing",
            ),
            (
                "two launches that failed",
                ServiceLook {
                    events: vec!["failed to launch a task with (error Capacity)".into(); 2],
                    ..look()
                },
                "failed",
            ),
            (
                "the rollout failed",
                ServiceLook { rollout: Some("FAILED".into()), ..look() },
                "failed",
            ),
            ("one exit", ServiceLook { stopped: vec![exited()], ..look() }, "failed"),
            (
                "an exit with 0 is an exit",
                ServiceLook {
                    stopped: vec![stopped("EssentialContainerExited", "x", Some(0))],
                    ..look()
                },
                "failed",
            ),
            (
                "an exit nobody knows the code of",
                ServiceLook {
                    stopped: vec![stopped("EssentialContainerExited", "x", None)],
                    ..look()
                },
                "failed",
            ),
            (
                "stopped by the scheduler",
                ServiceLook {
                    stopped: vec![stopped("ServiceSchedulerInitiated", "scaling", Some(143))],
                    ..look()
                },
                "healthy",
            ),
            (
                "stopped by a person",
                ServiceLook { stopped: vec![stopped("UserInitiated", "x", Some(143))], ..look() },
                "healthy",
            ),
            (
                "one pull that may go through",
                ServiceLook {
                    running: 1,
                    stopped: vec![pull("CannotPullContainerError: timeout")],
                    ..look()
                },
                "progressing",
            ),
            (
                "two pulls",
                ServiceLook {
                    stopped: vec![
                        pull("CannotPullContainerError: timeout"),
                        pull("CannotPullContainerError: reset"),
                    ],
                    ..look()
                },
                "failed",
            ),
            (
                "one pull of what is not there",
                ServiceLook {
                    stopped: vec![pull("CannotPullContainerError: manifest unknown")],
                    ..look()
                },
                "failed",
            ),
            (
                "two different bad lucks",
                ServiceLook {
                    running: 1,
                    stopped: vec![
                        pull("CannotPullContainerError: timeout"),
                        pull("ResourceInitializationError: timeout"),
                    ],
                    ..look()
                },
                "progressing",
            ),
            (
                "a role that may not",
                ServiceLook {
                    stopped: vec![pull("ResourceInitializationError: AccessDenied")],
                    ..look()
                },
                "failed",
            ),
            (
                "no room",
                ServiceLook {
                    running: 0,
                    events: vec!["(service p) was unable to place a task because …".into()],
                    ..look()
                },
                "failed",
            ),
            (
                "other events",
                ServiceLook { events: vec!["(service p) has started 1 tasks".into()], ..look() },
                "healthy",
            ),
        ];
        for (name, look, expected) in cases {
            assert_eq!(short(&judge_look(&look, OURS)), expected, "{name}");
        }
    }

    #[test]
    fn a_way_of_failing_is_said_once_with_its_fix() {
        let oom = StoppedTask {
            container_reason: Some("OutOfMemoryError: Container killed due to memory usage".into()),
            log_tail: vec!["last words".into()],
            ..stopped("EssentialContainerExited", "Essential container in task exited", Some(137))
        };
        let Verdict::Failed(causes) =
            judge_look(&ServiceLook { stopped: vec![oom.clone(), oom], ..look() }, OURS)
        else {
            panic!("it failed");
        };
        assert_eq!(causes.len(), 1);
        assert_eq!(
            (causes[0].object.as_str(), causes[0].exit_code),
            ("Task/t/patients", Some(137))
        );
        assert_eq!(causes[0].log_tail, ["last words"]);
        assert!(causes[0].fix.as_deref().is_some_and(|fix| fix.contains("resources.memory")));
    }

    #[test]
    fn the_primary_deployment_is_told_by_its_id() {
        let before = LiveService {
            definition_arn: "arn:…/patients:6".into(),
            deployments: vec!["ecs-svc/1".into()],
            ..LiveService::default()
        };
        struct Case {
            name: &'static str,
            /// What our write was answered with.
            deployment: Option<&'static str>,
            /// What this run registered.
            registered: Option<&'static str>,
            primary: &'static str,
            id: Option<&'static str>,
            owner: Ownership,
        }
        let (six, eight) = ("arn:…/patients:6", "arn:…/patients:8");
        let ours = Some("ecs-svc/2");
        #[rustfmt::skip]
        let cases = [
            Case { name: "ours", deployment: ours, registered: None, primary: OURS, id: ours, owner: Ownership::Ours },
            Case { name: "an old read", deployment: ours, registered: None, primary: six, id: Some("ecs-svc/1"), owner: Ownership::Stale },
            Case { name: "the breaker", deployment: ours, registered: None, primary: six, id: Some("ecs-svc/3"), owner: Ownership::RolledBackByEcs },
            Case { name: "a later deploy", deployment: ours, registered: None, primary: eight, id: Some("ecs-svc/3"), owner: Ownership::Others },
            Case { name: "a later deploy of the same", deployment: ours, registered: None, primary: OURS, id: Some("ecs-svc/3"), owner: Ownership::Others },
            Case { name: "kept", deployment: None, registered: None, primary: six, id: Some("ecs-svc/1"), owner: Ownership::Ours },
            Case { name: "kept, and replaced", deployment: None, registered: None, primary: eight, id: Some("ecs-svc/3"), owner: Ownership::Others },
            Case { name: "a lost answer", deployment: None, registered: Some(OURS), primary: OURS, id: Some("ecs-svc/2"), owner: Ownership::Ours },
            Case { name: "a lost answer, and replaced", deployment: None, registered: Some(OURS), primary: eight, id: Some("ecs-svc/3"), owner: Ownership::Others },
            Case { name: "no id", deployment: ours, registered: None, primary: OURS, id: None, owner: Ownership::Ours },
        ];
        for Case { name, deployment, registered, primary, id, owner } in cases {
            let look = ServiceLook {
                primary: primary.into(),
                primary_id: id.map(str::to_string),
                ..look()
            };
            assert_eq!(
                owner_of_primary(
                    &look,
                    &Identity { deployment, definition_arn: registered },
                    Some(&before)
                ),
                owner,
                "{name}"
            );
        }
    }

    #[test]
    fn the_container_that_failed_is_named() {
        let (oom, ended, killed) = (Some("OutOfMemoryError"), Some(1), Some(137));
        let cases: [(&[(&str, Option<i32>, Option<&str>)], Option<usize>); 6] = [
            (&[("ours", Some(3), None)], Some(0)),
            (&[("router", Some(143), None), ("ours", Some(3), None)], Some(1)),
            (&[("router", ended, None), ("ours", Some(143), None)], Some(0)),
            (&[("router", Some(0), None), ("ours", killed, oom)], Some(1)),
            (&[("router", killed, None), ("ours", Some(0), None)], Some(1)),
            (&[], None),
        ];
        for (containers, expected) in cases {
            assert_eq!(failed_container(containers, "ours"), expected, "{containers:?}");
        }
    }
}
