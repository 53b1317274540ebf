//! A look at an ECS service → how far the deploy is. Pure.
//!
//! A rollout is done only when the PRIMARY deployment is ours and all of it runs: the SDK's own
//! waiter also passes after a rollback and for a service with no tasks.

use crate::deploy::Verdict;
use crate::error::Cause;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The task definition's ARN of the PRIMARY deployment.
    pub primary: String,
    /// `IN_PROGRESS`, `COMPLETED`, `FAILED`; none where the service has no circuit breaker.
    pub rollout: Option<String>,
    pub rollout_reason: Option<String>,
    /// Whether ours was the primary one before, in this look or an earlier one: until then a read
    /// may be older than our write.
    pub seen: bool,
    /// The task definition that ran before this deploy; empty when there was none.
    pub before: String,
    /// Tasks that are to run, by the plan: the service's own count may have been changed by
    /// somebody else meanwhile.
    pub desired: u32,
    pub running: u32,
    /// Targets of the load balancer that are healthy; none without one.
    pub healthy_targets: Option<u32>,
    /// The load balancer's words for one that is not.
    pub unhealthy: Option<String>,
    /// Tasks of our task definition that ended since the deploy began, oldest first.
    pub stopped: Vec<Stopped>,
    /// The service's events since the deploy began, oldest first.
    pub events: Vec<String>,
}

/// A task that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
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

/// The verdict on the deploy of task definition `ours`, which is revision `revision`.
pub fn judge(snapshot: &Snapshot, ours: &str, revision: &str) -> Verdict {
    let causes: Vec<Cause> =
        distinct(snapshot.stopped.iter().filter(|stopped| is_failure(stopped, &snapshot.stopped)));
    if !causes.is_empty() {
        return Verdict::Failed(causes);
    }
    if let Some(cause) = refused_by_scheduler(&snapshot.events) {
        return Verdict::Failed(vec![cause]);
    }
    if snapshot.primary != ours {
        if !snapshot.seen {
            return Verdict::Progressing(format!("waiting for ECS to take {}", last_part(ours)));
        }
        return Verdict::Failed(vec![Cause {
            object: "Service".into(),
            reason: format!("ECS went back to {} by itself", last_part(&snapshot.primary)),
            ..Cause::default()
        }]);
    }
    if snapshot.rollout.as_deref() == Some("FAILED") {
        let reason = snapshot.rollout_reason.clone().unwrap_or_else(|| "the rollout failed".into());
        return Verdict::Failed(vec![Cause {
            object: "Service".into(),
            reason,
            ..Cause::default()
        }]);
    }
    let done = snapshot.rollout.as_deref().is_none_or(|state| state == "COMPLETED");
    let healthy = snapshot.healthy_targets.is_none_or(|healthy| healthy >= snapshot.desired);
    if done && healthy && snapshot.running >= snapshot.desired {
        return Verdict::Ready { revision: revision.to_string() };
    }
    let targets = snapshot
        .healthy_targets
        .map(|healthy| format!(", {healthy} healthy in the load balancer"))
        .unwrap_or_default();
    let why = snapshot.unhealthy.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    Verdict::Progressing(format!(
        "{} of {} tasks run{targets}{why}",
        snapshot.running, snapshot.desired
    ))
}

/// Who runs instead of us, when somebody deployed after us: not ours, and not what ran before,
/// which ECS goes back to by itself.
pub fn superseded_by<'a>(snapshot: &'a Snapshot, ours: &str) -> Option<&'a str> {
    let other = snapshot.primary.as_str();
    (snapshot.seen && !other.is_empty() && other != ours && other != snapshot.before)
        .then_some(other)
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
fn is_failure(stopped: &Stopped, all: &[Stopped]) -> bool {
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

fn unhealthy(stopped: &Stopped) -> bool {
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
fn distinct<'a>(stopped: impl Iterator<Item = &'a Stopped>) -> Vec<Cause> {
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

/// What stands behind the last slash of an ARN.
pub fn last_part(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// The revision at the end of a task definition's ARN.
pub fn revision(arn: &str) -> String {
    arn.rsplit(':').next().unwrap_or(arn).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "arn:aws:ecs:eu-west-1:111122223333:task-definition/patients:7";

    fn snapshot() -> Snapshot {
        Snapshot {
            primary: OURS.into(),
            rollout: Some("COMPLETED".into()),
            seen: true,
            before: "arn:…/patients:6".into(),
            desired: 2,
            running: 2,
            healthy_targets: Some(2),
            ..Snapshot::default()
        }
    }

    fn stopped(code: &str, reason: &str, exit_code: Option<i64>) -> Stopped {
        Stopped {
            task: "t".into(),
            code: code.into(),
            reason: reason.into(),
            container: "patients".into(),
            exit_code,
            ..Stopped::default()
        }
    }

    fn short(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Ready { .. } => "ready",
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
        type Case<'a> = (&'a str, Snapshot, &'a str);
        let cases: Vec<Case<'_>> = vec![
            ("all of it runs", snapshot(), "ready"),
            ("no load balancer", Snapshot { healthy_targets: None, ..snapshot() }, "ready"),
            (
                "no circuit breaker says nothing of the rollout",
                Snapshot { rollout: None, ..snapshot() },
                "ready",
            ),
            (
                "scaled to nothing",
                Snapshot { desired: 0, running: 0, healthy_targets: Some(0), ..snapshot() },
                "ready",
            ),
            (
                "still rolling",
                Snapshot { rollout: Some("IN_PROGRESS".into()), ..snapshot() },
                "progressing",
            ),
            (
                "said to be complete with nothing running",
                Snapshot { running: 0, ..snapshot() },
                "progressing",
            ),
            (
                "a target is not healthy yet",
                Snapshot { healthy_targets: Some(1), ..snapshot() },
                "progressing",
            ),
            (
                "ECS went back",
                Snapshot { primary: "arn:…/patients:6".into(), ..snapshot() },
                "failed",
            ),
            (
                "a read older than our write",
                Snapshot { primary: "arn:…/patients:6".into(), seen: false, ..snapshot() },
                "progressing",
            ),
            (
                "one that was slow to get healthy",
                Snapshot { running: 1, stopped: vec![unhealthy()], ..snapshot() },
                "progressing",
            ),
            (
                "two that never got healthy",
                Snapshot { stopped: vec![unhealthy(), unhealthy()], ..snapshot() },
                "failed",
            ),
            (
                "a role that cannot be taken",
                Snapshot {
                    events: vec!["ECS was unable to assume the role 'r'".into()],
                    ..snapshot()
                },
                "failed",
            ),
            (
                "one launch that failed",
                Snapshot {
                    running: 1,
                    events: vec!["failed to launch a task with (error Capacity)".into()],
                    ..snapshot()
                },
                "progressing",
            ),
            (
                "two launches that failed",
                Snapshot {
                    events: vec!["failed to launch a task with (error Capacity)".into(); 2],
                    ..snapshot()
                },
                "failed",
            ),
            (
                "the rollout failed",
                Snapshot { rollout: Some("FAILED".into()), ..snapshot() },
                "failed",
            ),
            ("one exit", Snapshot { stopped: vec![exited()], ..snapshot() }, "failed"),
            (
                "an exit with 0 is an exit",
                Snapshot {
                    stopped: vec![stopped("EssentialContainerExited", "x", Some(0))],
                    ..snapshot()
                },
                "failed",
            ),
            (
                "an exit nobody knows the code of",
                Snapshot {
                    stopped: vec![stopped("EssentialContainerExited", "x", None)],
                    ..snapshot()
                },
                "failed",
            ),
            (
                "stopped by the scheduler",
                Snapshot {
                    stopped: vec![stopped("ServiceSchedulerInitiated", "scaling", Some(143))],
                    ..snapshot()
                },
                "ready",
            ),
            (
                "stopped by a person",
                Snapshot { stopped: vec![stopped("UserInitiated", "x", Some(143))], ..snapshot() },
                "ready",
            ),
            (
                "one pull that may go through",
                Snapshot {
                    running: 1,
                    stopped: vec![pull("CannotPullContainerError: timeout")],
                    ..snapshot()
                },
                "progressing",
            ),
            (
                "two pulls",
                Snapshot {
                    stopped: vec![
                        pull("CannotPullContainerError: timeout"),
                        pull("CannotPullContainerError: reset"),
                    ],
                    ..snapshot()
                },
                "failed",
            ),
            (
                "one pull of what is not there",
                Snapshot {
                    stopped: vec![pull("CannotPullContainerError: manifest unknown")],
                    ..snapshot()
                },
                "failed",
            ),
            (
                "two different bad lucks",
                Snapshot {
                    running: 1,
                    stopped: vec![
                        pull("CannotPullContainerError: timeout"),
                        pull("ResourceInitializationError: timeout"),
                    ],
                    ..snapshot()
                },
                "progressing",
            ),
            (
                "a role that may not",
                Snapshot {
                    stopped: vec![pull("ResourceInitializationError: AccessDenied")],
                    ..snapshot()
                },
                "failed",
            ),
            (
                "no room",
                Snapshot {
                    running: 0,
                    events: vec!["(service p) was unable to place a task because …".into()],
                    ..snapshot()
                },
                "failed",
            ),
            (
                "other events",
                Snapshot { events: vec!["(service p) has started 1 tasks".into()], ..snapshot() },
                "ready",
            ),
        ];
        for (name, snapshot, expected) in cases {
            assert_eq!(short(&judge(&snapshot, OURS, "7")), expected, "{name}");
        }
    }

    #[test]
    fn a_way_of_failing_is_said_once_with_its_fix() {
        let oom = Stopped {
            container_reason: Some("OutOfMemoryError: Container killed due to memory usage".into()),
            log_tail: vec!["last words".into()],
            ..stopped("EssentialContainerExited", "Essential container in task exited", Some(137))
        };
        let Verdict::Failed(causes) =
            judge(&Snapshot { stopped: vec![oom.clone(), oom], ..snapshot() }, OURS, "7")
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
    fn a_later_deploy_is_not_a_failure_of_ours() {
        let with = |primary: &str, seen| Snapshot { primary: primary.into(), seen, ..snapshot() };
        let cases = [
            (with(OURS, true), None),
            (with("arn:…/patients:6", true), None),
            (with("arn:…/patients:8", true), Some("arn:…/patients:8")),
            (with("arn:…/patients:8", false), None),
            (with("", true), None),
        ];
        for (snapshot, expected) in cases {
            assert_eq!(superseded_by(&snapshot, OURS), expected, "{snapshot:?}");
        }
    }

    #[test]
    fn arns_have_ends() {
        assert_eq!(revision(OURS), "7");
        assert_eq!(last_part(OURS), "patients:7");
    }
}
