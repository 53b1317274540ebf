//! Typed reads: live objects → the facts that [`super::verdict`] judges. Pure but for [`Memory`].

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Container as ContainerSpec;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Event, PersistentVolumeClaim, Pod,
    PodTemplateSpec,
};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::Resource;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::managers::{is_deployer, owns_replicas};
use super::object::{Key, LiveObject};
use super::verdict::{
    self, ClaimPhase, Condition, Container, CreateFailure, Exit, PodPhase, RolloutVerdict, State,
    Status, Truth, WorkloadFacts, says_image_not_found,
};

/// Where the deployment controller counts revisions.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Where the DaemonSet controller counts templates, and what it calls that on pods.
const TEMPLATE: [&str; 2] = ["deprecated.daemonset.template.generation", "pod-template-generation"];
/// Says that a provisioner was told to make a claim's volume.
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";

/// Warnings that are read again after this time, though no pod changed.
const WARNINGS_AGE: SignedDuration = SignedDuration::from_secs(3);

/// A container that runs so long without a readiness probe is believed to stay.
const FRESH: SignedDuration = SignedDuration::from_secs(3);

/// What a startup probe is given beyond its own time: the kubelet is not that exact.
const OVERDUE: SignedDuration = SignedDuration::from_secs(2);

/// A container: its pod's uid and its name.
pub type ContainerId = (String, String);

/// Restarts of containers.
pub type Restarts = HashMap<ContainerId, i64>;

/// What one look leaves for the next: since when something has been so. The API server keeps no
/// time for it.
#[derive(Debug, Default)]
pub struct Memory {
    /// The kind of wait, since when, and whether a registry denied the image meanwhile.
    waits: HashMap<ContainerId, (String, Timestamp, bool)>,
    /// Since when a container has been seen to run after so many restarts.
    runs: HashMap<(ContainerId, i32), Timestamp>,
    /// By ReplicaSet or other maker of pods.
    create_failures: HashMap<String, Timestamp>,
    /// The ReplicaSet that runs a generation of a Deployment.
    sets: HashMap<Key, (i64, ReplicaSet)>,
    /// The look before found a failure.
    suspects: bool,
    /// Warning events about pods, and when they were read.
    warnings: Option<(Timestamp, Vec<Event>)>,
    /// What the last looks found healthy while something else was not.
    pub healthy: HashSet<Key>,
    /// What is in the way of what is not ready yet.
    pub pending: Vec<verdict::Trouble>,
    /// The versions of all that the look before read.
    versions: Vec<Option<String>>,
    /// Looks in a row that found nothing changed.
    pub quiet_looks: u32,
}

/// What was read of one workload at one moment.
#[derive(Clone, Debug)]
pub struct WorkloadSeen {
    pub key: Key,
    pub live: Option<LiveObject>,
    /// Of a Deployment.
    pub replica_sets: Vec<ReplicaSet>,
    /// Those that its selector selects.
    pub pods: Vec<Pod>,
}

/// What a look is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Generations that our own applies were answered with.
    pub generations: &'a HashMap<Key, i64>,
    pub restarts_before: &'a Restarts,
    /// Warnings about pods.
    pub events: &'a [Event],
    pub spare_ends: i64,
    pub now: Timestamp,
}

impl Memory {
    /// Notes what a look read.
    pub fn note_look(&mut self, seen: &[WorkloadSeen]) {
        let metas = seen.iter().flat_map(|seen| {
            let live = seen.live.iter().map(|live| &live.metadata);
            live.chain(seen.pods.iter().map(|pod| &pod.metadata))
        });
        let versions = metas.map(|meta| meta.resource_version.clone()).collect();
        if self.versions == versions {
            self.quiet_looks += 1;
        } else {
            (self.versions, self.quiet_looks, self.warnings) = (versions, 0, None);
        }
    }

    /// The warnings of a look before, while there can hardly be others.
    pub fn recall_warnings(&self, now: Timestamp) -> Option<Vec<Event>> {
        let (read_at, events) = self.warnings.as_ref()?;
        (now.duration_since(*read_at) < WARNINGS_AGE).then(|| events.clone())
    }

    pub fn note_warnings(&mut self, events: &[Event], now: Timestamp) {
        self.warnings = Some((now, events.to_vec()));
    }

    /// Passes on a failure only if the look before found one too: one look may be stale.
    pub fn confirm(&mut self, verdict: RolloutVerdict) -> RolloutVerdict {
        let RolloutVerdict::Failed(troubles) = &verdict else {
            self.suspects = false;
            return verdict;
        };
        if std::mem::replace(&mut self.suspects, true) {
            return verdict;
        }
        let said = |trouble: &verdict::Trouble| format!("{}: {}", trouble.object, trouble.reason);
        RolloutVerdict::Progressing(troubles.first().map(said).unwrap_or_default())
    }

    /// The ReplicaSet of a Deployment's generation, if a look before found it and nothing speaks
    /// against it.
    pub fn recall_set(&self, seen: &WorkloadSeen) -> Option<ReplicaSet> {
        let live = seen.live.as_ref()?;
        let (generation, set) = self.sets.get(&seen.key)?;
        let fits = live.metadata.generation == Some(*generation)
            && seen.pods.iter().any(|pod| is_owned_by(&pod.metadata, &set.metadata));
        let deployment = parse::<Deployment>(live)?;
        let fails = deployment
            .status
            .and_then(|status| status.conditions)
            .is_some_and(|found| found.iter().any(|condition| condition.type_ == "ReplicaFailure"));
        (fits && !fails).then(|| set.clone())
    }

    /// Since when this container has waited for this reason, and whether its image is known not to
    /// be there.
    fn note_wait(
        &mut self,
        at: ContainerId,
        state: &State,
        now: Timestamp,
    ) -> (Option<Timestamp>, bool) {
        let State::Waiting { reason, message } = state else {
            self.waits.remove(&at);
            return (None, false);
        };
        // An error and the back-off after it alternate; together they are one wait.
        let kind = if matches!(reason.as_str(), "ErrImagePull" | "ImagePullBackOff") {
            "image"
        } else {
            reason
        };
        let pulls = kind == "image";
        let (known, since, not_found) =
            self.waits.entry(at).or_insert_with(|| (kind.into(), now, false));
        if known != kind {
            (*known, *since, *not_found) = (kind.into(), now, false);
        }
        *not_found |= pulls && says_image_not_found(message);
        (Some(*since), *not_found)
    }

    fn note_creation(
        &mut self,
        object: String,
        failure: Option<Condition>,
        now: Timestamp,
    ) -> Option<CreateFailure> {
        let Some(failure) = failure else {
            self.create_failures.remove(&object);
            return None;
        };
        let since = *self.create_failures.entry(object.clone()).or_insert(now);
        Some(CreateFailure { object, message: failure.message, since })
    }
}

/// Whether objects of this kind have health of their own; the others are healthy once they exist.
pub fn has_health(key: &Key) -> bool {
    match key.group() {
        "" => matches!(key.kind.as_str(), "Pod" | "PersistentVolumeClaim"),
        "apps" => {
            ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"].contains(&key.kind.as_str())
        }
        "autoscaling" => key.kind == "HorizontalPodAutoscaler",
        "batch" => key.kind == "Job",
        "admissionregistration.k8s.io"
        | "coordination.k8s.io"
        | "networking.k8s.io"
        | "node.k8s.io"
        | "policy"
        | "rbac.authorization.k8s.io"
        | "scheduling.k8s.io"
        | "storage.k8s.io" => false,
        _ => true,
    }
}

/// Counts the restarts of `pods`.
pub fn count_restarts<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Restarts {
    let counted = pods.into_iter().flat_map(|pod| {
        read_statuses(pod)
            .map(|(_, status)| (identify_container(pod, status), status.restart_count.into()))
    });
    counted.collect()
}

/// The revision that the deployment controller counts.
pub fn read_revision(deployment: &LiveObject) -> String {
    read_annotation(&deployment.metadata, REVISION).unwrap_or_default().to_string()
}

/// The copies of a Deployment that are ready, and those it is to have.
pub fn read_copies(deployment: &LiveObject) -> (u32, u32) {
    let deployment: Deployment = parse(deployment).unwrap_or_default();
    let ready = deployment.status.and_then(|status| status.ready_replicas);
    let wanted = deployment.spec.and_then(|spec| spec.replicas);
    let count = |count: Option<i32>| u32::try_from(count.unwrap_or_default()).unwrap_or_default();
    (count(ready), count(wanted))
}

/// The object as a type of its kind.
fn parse<K: Resource + DeserializeOwned>(object: &LiveObject) -> Option<K> {
    object.clone().try_parse().ok()
}

/// The image of a Deployment's first container: ours is the only one.
pub fn read_image(deployment: &LiveObject) -> String {
    let template = parse::<Deployment>(deployment).and_then(|found| Some(found.spec?.template));
    let containers = template.and_then(|template| Some(template.spec?.containers));
    containers.and_then(|all| all.into_iter().next()?.image).unwrap_or_default()
}

/// `https://host` of an Ingress that a load balancer answers for.
pub fn read_address(ingress: &LiveObject) -> Option<String> {
    let ingress: Ingress = parse(ingress)?;
    let first = ingress.status?.load_balancer?.ingress?.into_iter().next()?;
    let host = first.hostname.or(first.ip).filter(|host| !host.is_empty())?;
    let is_secure = ingress.spec?.tls.is_some_and(|tls| !tls.is_empty());
    Some(format!("{}://{host}", if is_secure { "https" } else { "http" }))
}

/// The live count, if it is ours.
pub fn read_own_replicas(deployment: &LiveObject) -> Option<i64> {
    let count = parse::<Deployment>(deployment)?.spec?.replicas?;
    owns_replicas(deployment).then(|| count.into())
}

/// Turns what was seen into facts.
pub fn gather_facts(seen: &WorkloadSeen, memory: &mut Memory, known: Known<'_>) -> WorkloadFacts {
    let live = seen.live.as_ref();
    let generation = live.and_then(|live| live.metadata.generation).unwrap_or_default();
    let written = known.generations.get(&seen.key).copied().unwrap_or_default();
    let mut facts = WorkloadFacts {
        now: known.now,
        object: seen.key.id(),
        generation: generation.max(written),
        observed_generation: None,
        status: Status::Gone,
        spare_ends: known.spare_ends,
        create_failure: None,
        pods: Vec::new(),
    };
    let Some(live) = live else { return facts };
    let mut pods: Vec<&Pod> = seen.pods.iter().collect();
    pods.retain(|pod| is_owned_by(&pod.metadata, &live.metadata));
    let group = seen.key.group();
    let typed = match (group, seen.key.kind.as_str()) {
        ("apps", "Deployment") => parse(live).map(|deployment: Deployment| {
            let set = find_new_set(&deployment, &seen.replica_sets);
            pods = set
                .map(|set| {
                    memory.sets.insert(seen.key.clone(), (generation, set.clone()));
                    let failure = set.status.as_ref().and_then(|status| status.conditions.as_ref());
                    let failure = failure.into_iter().flatten().find(|condition| {
                        condition.type_ == "ReplicaFailure" && condition.status == "True"
                    });
                    let failure = failure.map(|failure| Condition {
                        message: failure.message.clone().unwrap_or_default(),
                        ..Condition::default()
                    });
                    let object = format!("ReplicaSet/{}", read_name(&set.metadata));
                    facts.create_failure = memory.note_creation(object, failure, known.now);
                    seen.pods
                        .iter()
                        .filter(|pod| is_owned_by(&pod.metadata, &set.metadata))
                        .collect()
                })
                .unwrap_or_default();
            facts.observed_generation = Some(observed(
                deployment.status.as_ref().and_then(|status| status.observed_generation),
            ));
            Status::Deployment(read_deployment(deployment))
        }),
        ("apps", "StatefulSet") => parse(live).map(|set: StatefulSet| {
            let status = set.status.unwrap_or_default();
            let revision = status.update_revision.as_deref();
            pods.retain(|pod| read_label(pod, "controller-revision-hash") == revision);
            facts.observed_generation = Some(observed(status.observed_generation));
            let spec = set.spec.unwrap_or_default();
            let strategy = spec.update_strategy.unwrap_or_default();
            let partition = strategy.rolling_update.and_then(|rolling| rolling.partition);
            let wanted = i64::from(spec.replicas.unwrap_or(1));
            Status::StatefulSet {
                wanted,
                ready: count(status.ready_replicas),
                updated: count(status.updated_replicas),
                needed: match strategy.type_.as_deref() {
                    Some("OnDelete") => 0,
                    _ => (wanted - count(partition)).max(0),
                },
            }
        }),
        ("apps", "DaemonSet") => parse(live).map(|set: DaemonSet| {
            let [counted, called] = TEMPLATE;
            if let Some(template) = read_annotation(&set.metadata, counted) {
                pods.retain(|pod| read_label(pod, called) == Some(template));
            }
            let status = set.status.unwrap_or_default();
            facts.observed_generation = Some(observed(status.observed_generation));
            let strategy = set.spec.and_then(|spec| spec.update_strategy?.type_);
            let wanted = i64::from(status.desired_number_scheduled);
            Status::DaemonSet {
                wanted,
                available: count(status.number_available),
                updated: count(status.updated_number_scheduled),
                needed: if strategy.as_deref() == Some("OnDelete") { 0 } else { wanted },
            }
        }),
        ("apps", "ReplicaSet") => parse(live).map(|set: ReplicaSet| {
            let status = set.status.unwrap_or_default();
            facts.observed_generation = Some(observed(status.observed_generation));
            Status::ReplicaSet {
                wanted: i64::from(set.spec.and_then(|spec| spec.replicas).unwrap_or(1)),
                available: count(status.available_replicas),
            }
        }),
        ("batch", "Job") => parse(live).map(|job: Job| Status::Job {
            suspended: job.spec.and_then(|spec| spec.suspend).unwrap_or_default(),
            conditions: read_conditions(live),
        }),
        ("", "Pod") => parse(live).map(|pod: Pod| {
            facts.pods.push(read_pod(&pod, memory, known));
            let status = pod.status.unwrap_or_default();
            Status::Pod {
                phase: PodPhase::read(&status.phase.unwrap_or_default()),
                reason: status.message.or(status.reason).unwrap_or_default(),
            }
        }),
        ("", "PersistentVolumeClaim") => parse(live).map(|claim: PersistentVolumeClaim| {
            let phase = claim.status.and_then(|status| status.phase).unwrap_or_default();
            let provisioning = read_annotation(&claim.metadata, PROVISIONER).is_some();
            Status::Claim { phase: ClaimPhase::read(&phase), provisioning }
        }),
        ("autoscaling", "HorizontalPodAutoscaler") => {
            Some(Status::Autoscaler(read_conditions(live)))
        }
        _ => None,
    };
    facts.status = typed.unwrap_or_else(|| {
        facts.observed_generation = read_common(live).observed_generation;
        let needs = match (group, seen.key.kind.as_str()) {
            ("apiextensions.k8s.io", "CustomResourceDefinition") => Some("Established"),
            ("apiregistration.k8s.io", "APIService") => Some("Available"),
            // One of the kinds above that could not be read.
            ("" | "apps" | "autoscaling" | "batch", _) => Some("readable"),
            _ => None,
        };
        Status::Other { needs, conditions: read_conditions(live) }
    });
    facts.pods.extend(pods.into_iter().map(|pod| read_pod(pod, memory, known)));
    facts
}

/// How far a Job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    Active,
    Complete,
    Failed,
}

pub fn read_job_state(job: &Job) -> JobState {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut over = conditions.filter(|found| found.status == "True");
    over.find_map(|found| match found.type_.as_str() {
        "Complete" => Some(JobState::Complete),
        "Failed" => Some(JobState::Failed),
        _ => None,
    })
    .unwrap_or(JobState::Active)
}

/// Whether the controller of a workload has seen its latest change.
pub fn has_seen_change(seen: &WorkloadSeen) -> bool {
    seen.live
        .as_ref()
        .is_none_or(|live| read_common(live).observed_generation >= live.metadata.generation)
}

/// Pods of another revision that a StatefulSet's controller waits for, though they may never get
/// ready: they have to go by hand.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback>
pub fn find_stuck_pods(seen: &WorkloadSeen) -> Vec<&Pod> {
    let set = seen.live.as_ref().filter(|_| seen.key.group() == "apps");
    let Some(set) = set.and_then(parse::<StatefulSet>) else { return Vec::new() };
    let status = set.status.unwrap_or_default();
    if seen.key.kind != "StatefulSet" || !has_seen_change(seen) {
        return Vec::new();
    }
    let is_stuck = |pod: &&Pod| {
        is_owned_by(&pod.metadata, &set.metadata)
            && read_label(pod, "controller-revision-hash") != status.update_revision.as_deref()
            && pod.metadata.deletion_timestamp.is_none()
            && !is_ready(pod)
    };
    seen.pods.iter().filter(is_stuck).collect()
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|found| found.type_ == "Ready" && found.status == "True")
}

/// The ReplicaSet that runs the Deployment's present pod template: as kubectl and the controller
/// find it, by the template.
fn find_new_set<'a>(deployment: &Deployment, sets: &'a [ReplicaSet]) -> Option<&'a ReplicaSet> {
    let bare = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(metadata) = &mut template.metadata {
            metadata.creation_timestamp = None;
            if let Some(labels) = &mut metadata.labels {
                labels.remove("pod-template-hash");
            }
        }
        template
    };
    let wanted = bare(&deployment.spec.as_ref()?.template);
    let own = sets.iter().filter(|set| is_owned_by(&set.metadata, &deployment.metadata));
    let same = own.filter(|set| {
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        template.map(bare).as_ref() == Some(&wanted)
    });
    // Templates that differ in what these types do not know look alike; the newest one runs.
    same.max_by_key(|set| {
        read_annotation(&set.metadata, REVISION).and_then(|revision| revision.parse::<u64>().ok())
    })
}

fn read_deployment(live: Deployment) -> verdict::Deployment {
    let status = live.status.unwrap_or_default();
    let spec = live.spec.unwrap_or_default();
    let conditions = status.conditions.into_iter().flatten().map(|found| Condition {
        kind: found.type_,
        status: Truth::read(&found.status),
        reason: found.reason.unwrap_or_default(),
        message: found.message.unwrap_or_default(),
        updated_at: read_time(found.last_update_time.or(found.last_transition_time).as_ref()),
    });
    let managed = live.metadata.managed_fields.iter().flatten();
    let ours = managed.filter(|entry| {
        entry.manager.as_deref().is_some_and(is_deployer) && entry.subresource.is_none()
    });
    verdict::Deployment {
        wanted: i64::from(spec.replicas.unwrap_or(1)),
        total: count(status.replicas),
        updated: count(status.updated_replicas),
        available: count(status.available_replicas),
        paused: spec.paused.unwrap_or_default(),
        revision: read_annotation(&live.metadata, REVISION).unwrap_or_default().to_string(),
        applied_at: ours.filter_map(|entry| read_time(entry.time.as_ref())).max(),
        conditions: conditions.collect(),
    }
}

/// What the kstatus convention has in a status, whatever else is there.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CommonStatus {
    observed_generation: Option<i64>,
    conditions: Vec<CommonCondition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CommonCondition {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

fn read_common(live: &LiveObject) -> CommonStatus {
    let status = live.data.get("status");
    status.and_then(|status| CommonStatus::deserialize(status).ok()).unwrap_or_default()
}

fn read_conditions(live: &LiveObject) -> Vec<Condition> {
    let conditions = read_common(live).conditions.into_iter().map(|found| Condition {
        kind: found.r#type,
        status: Truth::read(&found.status),
        reason: found.reason,
        message: found.message,
        updated_at: None,
    });
    conditions.collect()
}

fn read_pod(live: &Pod, memory: &mut Memory, known: Known<'_>) -> verdict::Pod {
    let none = Vec::new();
    let status = live.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref()).unwrap_or(&none);
    let find = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
    let is_true = |kind: &str| find(kind).is_some_and(|condition| condition.status == "True");
    let unschedulable = find("PodScheduled").filter(|condition| {
        condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable")
    });
    let gates = live.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let closed = gates.map(|gate| gate.condition_type.clone()).filter(|gate| !is_true(gate));
    let about = |event: &&Event| event.involved_object.uid == live.metadata.uid && !is_noise(event);
    let mut warnings: Vec<&Event> = known.events.iter().filter(about).collect();
    warnings.sort_by_key(|event| {
        read_time(event.last_timestamp.as_ref())
            .or_else(|| event.event_time.as_ref().map(|time| time.0))
    });
    let containers = read_statuses(live)
        .map(|(init, status)| read_container(live, status, init, memory, known))
        .collect();
    verdict::Pod {
        namespace: live.metadata.namespace.clone().unwrap_or_default(),
        name: read_name(&live.metadata).into(),
        terminating: live.metadata.deletion_timestamp.is_some(),
        unschedulable: unschedulable.map(|found| found.message.clone().unwrap_or_default()),
        ready: is_true("Ready"),
        closed_gates: closed.collect(),
        containers,
        warnings: warnings.into_iter().map(say_event).collect(),
    }
}

fn read_container(
    pod: &Pod,
    status: &ContainerStatus,
    init: bool,
    memory: &mut Memory,
    known: Known<'_>,
) -> Container {
    let exit = |ended: &ContainerStateTerminated| Exit {
        code: ended.exit_code.into(),
        reason: ended.reason.clone().unwrap_or_default(),
    };
    let state = match status.state.clone().unwrap_or_default() {
        ContainerState { terminated: Some(ended), .. } => State::Terminated(exit(&ended)),
        ContainerState { running: Some(_), .. } => State::Running,
        ContainerState { waiting, .. } => {
            let waiting = waiting.unwrap_or_default();
            State::Waiting {
                reason: waiting.reason.unwrap_or_default(),
                message: waiting.message.unwrap_or_default(),
            }
        }
    };
    let at = identify_container(pod, status);
    let started = status.state.as_ref().and_then(|state| state.running.as_ref()).map(|running| {
        let seen = memory.runs.entry((at.clone(), status.restart_count)).or_insert(known.now);
        // The node's clock may be another than ours.
        running.started_at.as_ref().map_or(*seen, |started| started.0.min(*seen))
    });
    let (waiting_since, image_not_found) = memory.note_wait(at.clone(), &state, known.now);
    let specs = pod
        .spec
        .iter()
        .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let spec = specs.into_iter().find(|spec| spec.name == status.name);
    let has_probe = spec.is_some_and(|spec| spec.readiness_probe.is_some());
    let is_young = started.is_some_and(|started| known.now.duration_since(started) < FRESH);
    let limits = spec.and_then(|spec| spec.resources.as_ref()?.limits.as_ref());
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    Container {
        name: status.name.clone(),
        init,
        state,
        last: last.map(exit),
        restarts: status.restart_count.into(),
        restarts_before: known.restarts_before.get(&at).copied().unwrap_or_default(),
        ready: status.ready,
        is_fresh: is_young && !init && !has_probe,
        is_overdue: status.started == Some(false) && is_overdue(spec, started, known.now),
        waiting_since,
        image_not_found,
        memory_limit: limits
            .and_then(|limits| limits.get("memory"))
            .map(|limit| limit.0.clone())
            .unwrap_or_default(),
    }
}

/// Whether a container that started then has had all the time that its startup probe leaves it.
fn is_overdue(spec: Option<&ContainerSpec>, started: Option<Timestamp>, now: Timestamp) -> bool {
    let (Some(probe), Some(started)) = (spec.and_then(|spec| spec.startup_probe.as_ref()), started)
    else {
        return false;
    };
    let [delay, period, failures] = [
        (probe.initial_delay_seconds, 0),
        (probe.period_seconds, 10),
        (probe.failure_threshold, 3),
    ]
    .map(|(field, default)| i64::from(field.unwrap_or(default)));
    now.duration_since(started) > SignedDuration::from_secs(delay + period * failures) + OVERDUE
}

/// The containers of a pod, each with whether it is an init container.
fn read_statuses(pod: &Pod) -> impl Iterator<Item = (bool, &ContainerStatus)> {
    pod.status.iter().flat_map(|status| {
        let inits = status.init_container_statuses.iter().flatten().map(|status| (true, status));
        inits.chain(status.container_statuses.iter().flatten().map(|status| (false, status)))
    })
}

fn identify_container(pod: &Pod, status: &ContainerStatus) -> ContainerId {
    (pod.metadata.uid.clone().unwrap_or_default(), status.name.clone())
}

/// Whether a warning says nothing: that something was tried again, what a container's state says
/// anyway, the node's DNS settings.
pub fn is_noise(event: &Event) -> bool {
    let message = event.message.as_deref().unwrap_or_default();
    match event.reason.as_deref().unwrap_or_default() {
        "Failed" => message.starts_with("Error: "),
        reason => matches!(reason, "BackOff" | "MissingClusterDNS" | "DNSConfigForming"),
    }
}

/// `Reason: message`.
pub fn say_event(event: &Event) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}: {}", part(&event.reason), part(&event.message))
}

fn is_owned_by(object: &ObjectMeta, owner: &ObjectMeta) -> bool {
    let references = object.owner_references.iter().flatten();
    references.into_iter().any(|reference| Some(&reference.uid) == owner.uid.as_ref())
}

fn read_name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn read_label<'a>(pod: &'a Pod, label: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(label).map(String::as_str)
}

fn read_annotation<'a>(meta: &'a ObjectMeta, annotation: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(annotation).map(String::as_str)
}

fn read_time(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

/// What the API server leaves out is 0.
fn count(number: Option<i32>) -> i64 {
    number.unwrap_or_default().into()
}

fn observed(generation: Option<i64>) -> i64 {
    generation.unwrap_or_default()
}

#[cfg(test)]
mod tests;
