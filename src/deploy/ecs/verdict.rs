//! A look at an ECS service → how far the deploy is. Pure.
//!
//! A rollout is done only when the PRIMARY deployment is ours and all of it runs: the SDK's own waiter also passes after a
//! rollback and for a service with no tasks.

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
    pub desired: u32,
    pub running: u32,
    /// Targets of the load balancer that are healthy; none without one.
    pub healthy_targets: Option<u32>,
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
    let causes: Vec<Cause> = distinct(snapshot.stopped.iter().filter(|stopped| is_failure(stopped, &snapshot.stopped)));
    if !causes.is_empty() {
        return Verdict::Failed(causes);
    }
    if let Some(event) = snapshot.events.iter().find(|event| event.contains("unable to place a task")) {
        return Verdict::Failed(vec![Cause {
            object: "Service".into(),
            reason: event.clone(),
            fix: Some(
                "give the cluster room (instances, subnets with free addresses), or ask for less in `resources`".into(),
            ),
            ..Cause::default()
        }]);
    }
    if snapshot.primary != ours {
        return Verdict::Failed(vec![Cause {
            object: "Service".into(),
            reason: format!(
                "{} is the primary deployment, not ours: it was rolled back, or another deploy came after",
                last_part(&snapshot.primary)
            ),
            ..Cause::default()
        }]);
    }
    if snapshot.rollout.as_deref() == Some("FAILED") {
        let reason = snapshot.rollout_reason.clone().unwrap_or_else(|| "the rollout failed".into());
        return Verdict::Failed(vec![Cause { object: "Service".into(), reason, ..Cause::default() }]);
    }
    let done = snapshot.rollout.as_deref().is_none_or(|state| state == "COMPLETED");
    let healthy = snapshot.healthy_targets.is_none_or(|healthy| healthy >= snapshot.desired);
    if done && healthy && snapshot.running >= snapshot.desired {
        return Verdict::Ready { revision: revision.to_string() };
    }
    let targets =
        snapshot.healthy_targets.map(|healthy| format!(", {healthy} healthy in the load balancer")).unwrap_or_default();
    Verdict::Progressing(format!("{} of {} tasks run{targets}", snapshot.running, snapshot.desired))
}

/// Whether a task ended because the version is bad. One exit is enough: a service has no reason to exit. What ECS could not
/// start may have been bad luck once, and is not when the next task fails in the same way.
fn is_failure(stopped: &Stopped, all: &[Stopped]) -> bool {
    match stopped.code.as_str() {
        "ServiceSchedulerInitiated" | "UserInitiated" | "SpotInterruption" | "TerminationNotice" => false,
        "TaskFailedToStart" => {
            let same =
                all.iter().filter(|other| other.code == stopped.code && kind(&other.reason) == kind(&stopped.reason));
            is_final(&stopped.reason) || same.count() >= 2
        }
        _ => true,
    }
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
        if causes.iter().any(|cause| cause.reason == reason && cause.exit_code == stopped.exit_code) {
            continue;
        }
        causes.push(Cause {
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
        _ if lower.contains("outofmemory") => "raise resources.memory in service.yaml, or find what grows",
        Some(137) => "it was killed: out of memory (raise resources.memory), or it did not stop in time",
        _ if lower.contains("cannotpull") && is_final(&lower) => {
            "push the image first: `cicd push-ecr`; and let the execution role pull it"
        }
        _ if lower.contains("cannotpull") => {
            "let the tasks reach the registry: a NAT gateway or VPC endpoints for ECR and S3"
        }
        _ if lower.contains("resourceinitializationerror") => {
            "let the execution role read the secrets and write the logs, and the subnets reach both services"
        }
        Some(126 | 127) => "the command of the image cannot be run: see its ENTRYPOINT and CMD, and its platform",
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
        let exited = || stopped("EssentialContainerExited", "Essential container in task exited", Some(3));
        let pull = |reason: &str| stopped("TaskFailedToStart", reason, None);
        type Case<'a> = (&'a str, Snapshot, &'a str);
        let cases: Vec<Case<'_>> = vec![
            ("all of it runs", snapshot(), "ready"),
            ("no load balancer", Snapshot { healthy_targets: None, ..snapshot() }, "ready"),
            ("no circuit breaker says nothing of the rollout", Snapshot { rollout: None, ..snapshot() }, "ready"),
            ("scaled to nothing", Snapshot { desired: 0, running: 0, healthy_targets: Some(0), ..snapshot() }, "ready"),
            ("still rolling", Snapshot { rollout: Some("IN_PROGRESS".into()), ..snapshot() }, "progressing"),
            ("said to be complete with nothing running", Snapshot { running: 0, ..snapshot() }, "progressing"),
            ("a target is not healthy yet", Snapshot { healthy_targets: Some(1), ..snapshot() }, "progressing"),
            ("somebody else's deployment", Snapshot { primary: "arn:…/patients:6".into(), ..snapshot() }, "failed"),
            ("the rollout failed", Snapshot { rollout: Some("FAILED".into()), ..snapshot() }, "failed"),
            ("one exit", Snapshot { stopped: vec![exited()], ..snapshot() }, "failed"),
            (
                "an exit with 0 is an exit",
                Snapshot { stopped: vec![stopped("EssentialContainerExited", "x", Some(0))], ..snapshot() },
                "failed",
            ),
            (
                "an exit nobody knows the code of",
                Snapshot { stopped: vec![stopped("EssentialContainerExited", "x", None)], ..snapshot() },
                "failed",
            ),
            (
                "stopped by the scheduler",
                Snapshot { stopped: vec![stopped("ServiceSchedulerInitiated", "scaling", Some(143))], ..snapshot() },
                "ready",
            ),
            (
                "stopped by a person",
                Snapshot { stopped: vec![stopped("UserInitiated", "x", Some(143))], ..snapshot() },
                "ready",
            ),
            (
                "one pull that may go through",
                Snapshot { running: 1, stopped: vec![pull("CannotPullContainerError: timeout")], ..snapshot() },
                "progressing",
            ),
            (
                "two pulls",
                Snapshot {
                    stopped: vec![pull("CannotPullContainerError: timeout"), pull("CannotPullContainerError: reset")],
                    ..snapshot()
                },
                "failed",
            ),
            (
                "one pull of what is not there",
                Snapshot { stopped: vec![pull("CannotPullContainerError: manifest unknown")], ..snapshot() },
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
                Snapshot { stopped: vec![pull("ResourceInitializationError: AccessDenied")], ..snapshot() },
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
        let Verdict::Failed(causes) = judge(&Snapshot { stopped: vec![oom.clone(), oom], ..snapshot() }, OURS, "7")
        else {
            panic!("it failed");
        };
        assert_eq!(causes.len(), 1);
        assert_eq!((causes[0].object.as_str(), causes[0].exit_code), ("Task/t/patients", Some(137)));
        assert_eq!(causes[0].log_tail, ["last words"]);
        assert!(causes[0].fix.as_deref().is_some_and(|fix| fix.contains("resources.memory")));
    }

    #[test]
    fn arns_have_ends() {
        assert_eq!(revision(OURS), "7");
        assert_eq!(last_part(OURS), "patients:7");
    }
}
