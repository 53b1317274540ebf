//! Facts of a workload → whether it is healthy, for every kind that has a notion of it. Pure: no
//! I/O, and "now" is a fact.
//!
//! Two mistakes are to be avoided alike: waiting for the full timeout on what will never run, and
//! giving up on what would have run in a moment. So each kind of trouble has its own patience,
//! counted from when it was first seen, and only pods of the present revision count: old pods and
//! pods on their way out prove nothing either way. One exit of one container proves nothing: what a
//! service needs may start a moment after it.
//!
//! The rules are those of kubectl's `rollout status`; what it does not know is judged by
//! <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>.

mod pods;

use std::time::Duration;

use jiff::Timestamp;

use self::pods::{find_log, trouble_of_end, trouble_of_pod, waits_for};
pub use self::pods::{says_image_not_found, was_told_to_stop};

/// Trouble that often passes by itself: a registry that stutters, a Secret that is made at the same
/// time, a full quota.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pods that cannot even be made, for another reason than quota: a ServiceAccount may be a moment
/// late.
const CREATE_PATIENCE: Duration = Duration::from_secs(10);
/// More causes than these say the same thing again.
const CAUSES: usize = 3;

/// One look at one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadFacts {
    pub now: Timestamp,
    /// `Deployment/patients`.
    pub object: String,
    /// The newest generation known: an observed generation below it speaks of an older spec.
    pub generation: i64,
    /// The generation that its controller speaks of. `None` if its kind counts none.
    pub observed_generation: Option<i64>,
    pub status: Status,
    /// Times that a container may end before it is given up: what it needs may come up later.
    pub spare_ends: i64,
    /// Why the pods of its present revision cannot be made.
    pub create_failure: Option<CreateFailure>,
    /// The pods of its present revision.
    pub pods: Vec<Pod>,
}

/// What the API server says of a workload, by its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// It is not there.
    Gone,
    Deployment(Deployment),
    /// `needed`: copies that have to be of the new revision. 0 if people replace them (`OnDelete`).
    StatefulSet {
        wanted: i64,
        ready: i64,
        updated: i64,
        needed: i64,
    },
    /// `needed`: as for a StatefulSet.
    DaemonSet {
        wanted: i64,
        available: i64,
        updated: i64,
        needed: i64,
    },
    ReplicaSet {
        wanted: i64,
        available: i64,
    },
    Job {
        conditions: Vec<Condition>,
        /// It is told not to run.
        suspended: bool,
    },
    /// A Pod that nothing else owns.
    Pod {
        phase: String,
        reason: String,
    },
    /// A claim without a provisioner at work waits for its first pod; that pod's owner is judged.
    Claim {
        phase: String,
        provisioning: bool,
    },
    Autoscaler(Vec<Condition>),
    /// Everything else; `needs`: the condition without which it does not serve.
    Other {
        needs: Option<&'static str>,
        conditions: Vec<Condition>,
    },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deployment {
    pub wanted: i64,
    pub total: i64,
    pub updated: i64,
    pub available: i64,
    pub paused: bool,
    pub revision: String,
    /// When our manager last changed it, by the API server's clock.
    pub applied_at: Option<Timestamp>,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    pub reason: String,
    pub message: String,
    pub updated_at: Option<Timestamp>,
}

/// What cannot make pods, why, and since when we have seen that.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateFailure {
    /// `ReplicaSet/patients-5d9…`.
    pub object: String,
    pub message: String,
    pub since: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    /// On its way out.
    pub terminating: bool,
    /// The scheduler's words when it has no node.
    pub unschedulable: Option<String>,
    pub ready: bool,
    /// Readiness gates that are not met, by name.
    pub closed_gates: Vec<String>,
    pub containers: Vec<Container>,
    /// Warning events, newest last, `Reason: message`.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    pub name: String,
    pub init: bool,
    pub state: State,
    /// How it ended the last time.
    pub last: Option<Exit>,
    pub restarts: i64,
    /// Restarts it had before this deploy began.
    pub restarts_before: i64,
    pub ready: bool,
    /// It runs since a moment only, and nothing but that says that it is ready: it has no probe.
    pub is_fresh: bool,
    /// Since when we have seen it wait for the reason it waits for now.
    pub waiting_since: Option<Timestamp>,
    /// A registry said once that there is no such image, though the reason has moved on to
    /// back-off.
    pub image_not_found: bool,
    /// For the fix of a container that was too big: `512Mi`.
    pub memory_limit: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum State {
    Waiting { reason: String, message: String },
    Running,
    Terminated(Exit),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exit {
    pub code: i64,
    pub reason: String,
}

/// What the facts come to.
#[derive(Clone, Debug, PartialEq)]
pub enum RolloutVerdict {
    Progressing(String),
    /// `revision`: that of a Deployment, else empty.
    Healthy {
        revision: String,
    },
    Failed(Vec<Trouble>),
}

/// Why a workload will not get there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trouble {
    /// `Pod/patients-5d9…/patients`, `ReplicaSet/patients-5d9…`, `Deployment/patients`.
    pub object: String,
    pub reason: String,
    pub exit_code: Option<i64>,
    pub fix: Option<String>,
    /// Where the log that explains it is.
    pub log: Option<Log>,
}

/// A container's log; `previous`: of the run before the present one.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub previous: bool,
}

/// Judges workloads together. `own`: the service's Deployment, whose revision it is.
pub fn judge_workloads(own: &[WorkloadFacts], others: &[WorkloadFacts]) -> RolloutVerdict {
    let (mut healthy, mut troubles, mut waits) = (String::new(), Vec::new(), Vec::new());
    for (index, facts) in own.iter().chain(others).enumerate() {
        let is_own = index < own.len();
        match judge_workload(facts) {
            RolloutVerdict::Healthy { revision } if is_own => healthy = revision,
            RolloutVerdict::Healthy { .. } => {}
            RolloutVerdict::Progressing(what) if is_own => waits.push(what),
            RolloutVerdict::Progressing(what) => waits.push(format!("{}: {what}", facts.object)),
            RolloutVerdict::Failed(found) => troubles.extend(found),
        }
    }
    match () {
        () if !troubles.is_empty() => RolloutVerdict::Failed(troubles),
        () if !waits.is_empty() => RolloutVerdict::Progressing(waits.join("; ")),
        () => RolloutVerdict::Healthy { revision: healthy },
    }
}

/// Says whether a workload is healthy: the one function for all kinds.
pub fn judge_workload(facts: &WorkloadFacts) -> RolloutVerdict {
    if facts.observed_generation.is_some_and(|observed| observed < facts.generation) {
        return RolloutVerdict::Progressing("waiting for its controller".into());
    }
    let pods: Vec<&Pod> = facts.pods.iter().filter(|pod| !pod.terminating).collect();
    // A Job counts by itself how often its pods may end.
    let is_job = matches!(facts.status, Status::Job { .. });
    let is_fresh = pods.iter().flat_map(|pod| &pod.containers).any(|found| found.is_fresh);
    let waits = match judge_status(facts, &pods) {
        RolloutVerdict::Progressing(waits) => waits,
        RolloutVerdict::Healthy { .. } if !is_job && is_fresh => "it runs, and may not stay".into(),
        decided => return decided,
    };
    let mut troubles: Vec<Trouble> = Vec::new();
    for trouble in pods.iter().filter_map(|pod| trouble_of_pod(pod, facts)) {
        // A second replica that fails in the same way says nothing new.
        let same = |known: &Trouble| {
            let container =
                |trouble: &Trouble| trouble.log.as_ref().map(|log| log.container.clone());
            (&known.reason, container(known)) == (&trouble.reason, container(&trouble))
        };
        let counts = !(is_job && trouble.exit_code.is_some());
        if counts && !troubles.iter().any(same) && troubles.len() < CAUSES {
            troubles.push(trouble);
        }
    }
    let create_failure = facts.create_failure.as_ref();
    troubles.extend(create_failure.and_then(|failure| trouble_of_creation(failure, facts.now)));
    if !troubles.is_empty() {
        return RolloutVerdict::Failed(troubles);
    }
    if let Status::Deployment(deployment) = &facts.status
        && let Some(trouble) = trouble_of_deployment(&facts.object, deployment, &pods)
    {
        return failed(trouble);
    }
    let create_failure = create_failure.map(|failure| failure.message.clone());
    let of_pods = pods.iter().filter_map(|pod| waits_for(pod)).take(CAUSES);
    let all: Vec<String> = std::iter::once(waits).chain(create_failure).chain(of_pods).collect();
    RolloutVerdict::Progressing(all.join("; "))
}

/// What the workload's own status says, without its pods' troubles.
fn judge_status(facts: &WorkloadFacts, pods: &[&Pod]) -> RolloutVerdict {
    let waits = match &facts.status {
        Status::Gone => {
            return failed(Trouble {
                object: facts.object.clone(),
                reason: "it was deleted while this deploy waited for it".into(),
                fix: Some("see who deletes it, then deploy again".into()),
                ..Trouble::default()
            });
        }
        Status::Deployment(deployment) if is_complete(deployment) => {
            return RolloutVerdict::Healthy { revision: deployment.revision.clone() };
        }
        Status::Deployment(deployment) => Some(describe_progress(deployment, pods)),
        Status::StatefulSet { wanted, ready, updated, needed } => {
            count_missing(*ready, *wanted, "ready")
                .or_else(|| count_missing(*updated, *needed, "of the new revision"))
        }
        Status::DaemonSet { wanted, available, updated, needed } => {
            count_missing(*updated, *needed, "of the new revision")
                .or_else(|| count_missing(*available, *wanted, "available"))
        }
        Status::ReplicaSet { wanted, available } => count_missing(*available, *wanted, "available"),
        Status::Job { conditions, suspended } => {
            if let Some(condition) = find_true(conditions, "Failed") {
                return failed(Trouble {
                    fix: Some("see why its last pod failed".into()),
                    ..trouble_of_end(&facts.object, &say(condition), pods)
                });
            }
            let is_over = *suspended || find_true(conditions, "Complete").is_some();
            (!is_over).then(|| "it runs".to_string())
        }
        Status::Pod { phase, reason } => match phase.as_str() {
            "Succeeded" => None,
            "Failed" => {
                return failed(Trouble {
                    fix: Some("see why it failed".into()),
                    ..trouble_of_end(&facts.object, &with(phase, reason), pods)
                });
            }
            _ => {
                let is_ready = pods.iter().any(|pod| pod.ready);
                (!is_ready).then(|| format!("it is {}", phase.to_lowercase()))
            }
        },
        Status::Claim { phase, provisioning } => match phase.as_str() {
            "Lost" => {
                return failed(Trouble {
                    object: facts.object.clone(),
                    reason: "Lost: its volume is gone".into(),
                    fix: Some("restore the volume, or delete the claim and its data".into()),
                    ..Trouble::default()
                });
            }
            "Bound" => None,
            _ => provisioning.then(|| "its volume is being made".to_string()),
        },
        // Metrics come minutes after the first pods, or never: the count stays what it is.
        Status::Autoscaler(conditions) => find_condition(conditions, "AbleToScale")
            .filter(|found| found.status == "False" && found.reason.starts_with("Failed"))
            .map(say),
        Status::Other { needs, conditions } => {
            if let Some(stalled) = find_true(conditions, "Stalled") {
                return failed(Trouble {
                    object: facts.object.clone(),
                    reason: with("Stalled", &say(stalled)),
                    fix: Some("correct what its controller names".into()),
                    ..Trouble::default()
                });
            }
            let reconciling = find_true(conditions, "Reconciling").map(say);
            let needed = needs.unwrap_or("Ready");
            let unmet = match find_condition(conditions, needed) {
                Some(found) if found.status == "True" => None,
                Some(found) => Some(with(&format!("not {needed}"), &say(found))),
                None => needs.map(|needed| format!("not yet {needed}")),
            };
            reconciling.or(unmet)
        }
    };
    match waits {
        None => RolloutVerdict::Healthy { revision: String::new() },
        Some(waits) => RolloutVerdict::Progressing(waits),
    }
}

fn find_condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

fn find_true<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    find_condition(conditions, kind).filter(|condition| condition.status == "True")
}

fn say(condition: &Condition) -> String {
    with(&condition.reason, &condition.message)
}

fn count_missing(have: i64, wanted: i64, what: &str) -> Option<String> {
    (have < wanted).then(|| format!("{have} of {wanted} copies {what}"))
}

fn failed(trouble: Trouble) -> RolloutVerdict {
    RolloutVerdict::Failed(vec![trouble])
}

/// As kubectl's `rollout status` sees it.
fn is_complete(deployment: &Deployment) -> bool {
    let Deployment { wanted, total, updated, available, .. } = deployment;
    updated >= wanted && total <= updated && available >= updated
}

fn trouble_of_creation(failure: &CreateFailure, now: Timestamp) -> Option<Trouble> {
    let quota = failure.message.contains("exceeded quota");
    let patience = if quota { PATIENCE } else { CREATE_PATIENCE };
    let fix = if quota {
        "raise the namespace's ResourceQuota: a rollout needs room for a quarter more pods; or lower `resources` or `replicas`"
    } else {
        "change what the message names, or ask who runs the cluster: its rules do not let this pod be made"
    };
    (passed(failure.since, now) >= patience).then(|| Trouble {
        object: failure.object.clone(),
        reason: format!("FailedCreate: {}", failure.message),
        fix: Some(fix.into()),
        ..Trouble::default()
    })
}

fn trouble_of_deployment(object: &str, deployment: &Deployment, pods: &[&Pod]) -> Option<Trouble> {
    if deployment.paused {
        let fix = format!("kubectl rollout resume {}", object.to_lowercase());
        return Some(Trouble {
            object: object.into(),
            reason: "it is paused".into(),
            fix: Some(fix),
            ..Trouble::default()
        });
    }
    let exceeded = deployment.conditions.iter().find(|condition| {
        // What was concluded before our change is about the one before it.
        let fresh = match (condition.updated_at, deployment.applied_at) {
            (Some(updated), Some(applied)) => updated >= applied,
            _ => true,
        };
        condition.kind == "Progressing"
            && condition.status == "False"
            && condition.reason == "ProgressDeadlineExceeded"
            && fresh
    })?;
    let waits: Vec<String> = pods.iter().filter_map(|pod| waits_for(pod)).take(CAUSES).collect();
    let waits = if waits.is_empty() { String::new() } else { format!("; {}", waits.join("; ")) };
    let unready = pods.iter().find(|pod| !pod.ready).and_then(|pod| {
        let container = pod
            .containers
            .iter()
            .find(|container| !container.ready && container.state == State::Running)?;
        Some(find_log(pod, container, false))
    });
    Some(Trouble {
        object: object.into(),
        reason: format!("ProgressDeadlineExceeded: {}{waits}", exceeded.message),
        fix: Some("see what its pods wait for".into()),
        log: unready,
        ..Trouble::default()
    })
}

fn describe_progress(deployment: &Deployment, pods: &[&Pod]) -> String {
    let Deployment { wanted, total, updated, .. } = deployment;
    let ready = i64::try_from(pods.iter().filter(|pod| pod.ready).count()).unwrap_or(i64::MAX);
    if ready < *wanted || updated < wanted {
        format!("{ready} of {wanted} new copies ready")
    } else if total > updated {
        format!("{} old copies to go", total - updated)
    } else {
        format!("{wanted} new copies ready, not yet counted")
    }
}

fn with(reason: &str, message: &str) -> String {
    if message.is_empty() { reason.to_string() } else { format!("{reason}: {message}") }
}

/// Time from `since` to `now`; none when a clock went backwards.
fn passed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
