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
mod trouble;

use std::time::Duration;

use jiff::Timestamp;

use self::pods::{find_log, trouble_of_end, trouble_of_pod, waits_for};
pub use self::pods::{find_pending, says_image_not_found, was_told_to_stop};
pub use self::trouble::{Log, Trouble, TroubleKind};

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
        phase: PodPhase,
        reason: String,
    },
    /// A claim without a provisioner at work waits for its first pod; that pod's owner is judged.
    Claim {
        phase: ClaimPhase,
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
    pub status: Truth,
    pub reason: String,
    pub message: String,
    pub updated_at: Option<Timestamp>,
}

impl Condition {
    fn is(&self, status: Truth) -> bool {
        self.status == status
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    #[default]
    Unknown,
}

impl Truth {
    pub fn read(word: &str) -> Truth {
        match word {
            "True" => Truth::True,
            "False" => Truth::False,
            _ => Truth::Unknown,
        }
    }
}

/// The phase of a Pod.
/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

impl PodPhase {
    pub fn read(word: &str) -> PodPhase {
        match word {
            "" | "Pending" => PodPhase::Pending,
            "Running" => PodPhase::Running,
            "Succeeded" => PodPhase::Succeeded,
            "Failed" => PodPhase::Failed,
            _ => PodPhase::Unknown,
        }
    }
}

/// The phase of a PersistentVolumeClaim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimPhase {
    Pending,
    Bound,
    /// Its volume is gone.
    Lost,
}

impl ClaimPhase {
    pub fn read(word: &str) -> ClaimPhase {
        match word {
            "Bound" => ClaimPhase::Bound,
            "Lost" => ClaimPhase::Lost,
            _ => ClaimPhase::Pending,
        }
    }
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
    /// It has run for all the time that its startup probe leaves it, and has not passed that.
    pub is_overdue: bool,
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
            return failed(Trouble::new(
                TroubleKind::Deleted,
                &facts.object,
                "it was deleted while this deploy waited for it",
                "see who deletes it, then deploy again",
            ));
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
                let fix = "see why its last pod failed";
                return failed(trouble_of_end(&facts.object, &say(condition), fix, pods));
            }
            let is_over = *suspended || find_true(conditions, "Complete").is_some();
            (!is_over).then(|| "it runs".to_string())
        }
        Status::Pod { phase, reason } => match phase {
            PodPhase::Succeeded => None,
            PodPhase::Failed => {
                let reason = with("Failed", reason);
                return failed(trouble_of_end(&facts.object, &reason, "see why it failed", pods));
            }
            _ => {
                let is_ready = pods.iter().any(|pod| pod.ready);
                (!is_ready).then(|| format!("it is {}", format!("{phase:?}").to_lowercase()))
            }
        },
        Status::Claim { phase, provisioning } => match phase {
            ClaimPhase::Lost => {
                return failed(Trouble::new(
                    TroubleKind::Deleted,
                    &facts.object,
                    "Lost: its volume is gone",
                    "restore the volume, or delete the claim and its data",
                ));
            }
            ClaimPhase::Bound => None,
            ClaimPhase::Pending => provisioning.then(|| "its volume is being made".to_string()),
        },
        // Metrics come minutes after the first pods, or never: the count stays what it is.
        Status::Autoscaler(conditions) => find_condition(conditions, "AbleToScale")
            .filter(|found| found.is(Truth::False) && found.reason.starts_with("Failed"))
            .map(say),
        Status::Other { needs, conditions } => {
            if let Some(stalled) = find_true(conditions, "Stalled") {
                return failed(Trouble::new(
                    TroubleKind::Stalled,
                    &facts.object,
                    with("Stalled", &say(stalled)),
                    "correct what its controller names",
                ));
            }
            let reconciling = find_true(conditions, "Reconciling").map(say);
            let needed = needs.unwrap_or("Ready");
            let unmet = match find_condition(conditions, needed) {
                Some(found) if found.is(Truth::True) => None,
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
    find_condition(conditions, kind).filter(|condition| condition.is(Truth::True))
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
    let (kind, patience, fix) = match failure.message.contains("exceeded quota") {
        true => (
            TroubleKind::QuotaExceeded,
            PATIENCE,
            "raise the namespace's ResourceQuota: a rollout needs room for a quarter more pods; or \
             lower `resources` or `replicas`",
        ),
        false => (
            TroubleKind::Forbidden,
            CREATE_PATIENCE,
            "change what the message names, or ask who runs the cluster: its rules do not let this \
             pod be made",
        ),
    };
    let reason = format!("FailedCreate: {}", failure.message);
    (passed(failure.since, now) >= patience)
        .then(|| Trouble::new(kind, &failure.object, reason, fix))
}

fn trouble_of_deployment(object: &str, deployment: &Deployment, pods: &[&Pod]) -> Option<Trouble> {
    if deployment.paused {
        let fix = format!("kubectl rollout resume {}", object.to_lowercase());
        return Some(Trouble::new(TroubleKind::Paused, object, "it is paused", fix));
    }
    let exceeded = deployment.conditions.iter().find(|condition| {
        // What was concluded before our change is about the one before it.
        let fresh = match (condition.updated_at, deployment.applied_at) {
            (Some(updated), Some(applied)) => updated >= applied,
            _ => true,
        };
        condition.kind == "Progressing"
            && condition.is(Truth::False)
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
    let kind = match () {
        () if pods.iter().any(|pod| pod.unschedulable.is_some()) => TroubleKind::Unschedulable,
        () if unready.is_some() => TroubleKind::ProbeFailed,
        () => TroubleKind::DeadlineExceeded,
    };
    let reason = format!("ProgressDeadlineExceeded: {}{waits}", exceeded.message);
    let fix = "see what its pods wait for";
    Some(Trouble { log: unready, ..Trouble::new(kind, object, reason, fix) })
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
