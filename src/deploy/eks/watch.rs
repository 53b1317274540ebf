//! Looks at a rollout: live objects → the verdict's facts, and a failure's logs → its causes.

use std::collections::HashMap;

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::Value;

use super::Eks;
use super::object::{list, number, revision_of, text};
use super::refusal::Failure;
use super::render::MANAGER;
use super::verdict::{
    Condition, Container, Deployment, Exit, Log, Pod, ReplicaSet, RolloutFacts, RolloutVerdict,
    State, Trouble, judge_facts, says_image_not_found, was_told_to_stop,
};
use crate::deploy::target::Target;
use crate::error::{Cause, Result};

/// Lines of a log that a cause carries.
const LOG_LINES: usize = 25;
/// Times a log is asked for again that is not there at the moment.
const LOG_ATTEMPTS: u32 = 6;
/// What the kubelet answers, with 200, for a container that is removed.
const NO_LOG: &str = "unable to retrieve container logs for ";
/// Warning events that a cause's reason carries.
const WARNINGS: usize = 2;

/// What one look leaves for the next: since when something has been so. The API server keeps no
/// time for it.
#[derive(Debug, Default)]
pub struct Memory {
    /// By pod and container: the kind of wait, since when, and whether a registry denied the image
    /// meanwhile.
    waits: HashMap<(String, String), (String, Timestamp, bool)>,
    create_failure: Option<Timestamp>,
}

/// Restarts of containers, by pod and container.
pub type Restarts = HashMap<(String, String), i64>;

/// Counts the restarts of `pods`.
pub fn count_restarts(pods: &[Value]) -> Restarts {
    let counted = pods.iter().flat_map(|pod| {
        statuses(pod).map(move |status| (of(pod, status), number(status, "/restartCount")))
    });
    counted.collect()
}

impl Memory {
    /// Since when this container has waited for this reason, and whether its image is known not to
    /// be there.
    fn waits(
        &mut self,
        at: (String, String),
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
}

fn of(pod: &Value, status: &Value) -> (String, String) {
    (text(pod, "/metadata/name").into(), text(status, "/name").into())
}

fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    list(pod, "/status/initContainerStatuses").iter().chain(list(pod, "/status/containerStatuses"))
}

/// What the API server was seen to have at one moment.
pub struct RolloutSeen {
    pub deployment: Option<Value>,
    pub replica_sets: Vec<Value>,
    pub pods: Vec<Value>,
    /// Warning events.
    pub events: Vec<Value>,
}

/// Turns what was seen into facts. Pure but for `memory`.
pub fn gather_facts(
    seen: &RolloutSeen,
    memory: &mut Memory,
    before: &Restarts,
    generation: i64,
    now: Timestamp,
) -> RolloutFacts {
    let set = seen
        .deployment
        .as_ref()
        .and_then(|deployment| new_replica_set(deployment, &seen.replica_sets));
    let pods = set
        .map(|set| seen.pods.iter().filter(|pod| is_owned_by(pod, set)).collect::<Vec<_>>())
        .unwrap_or_default();
    let replica_set = set.map(|set| {
        let failure = list(set, "/status/conditions").iter().find(|condition| {
            text(condition, "/type") == "ReplicaFailure" && text(condition, "/status") == "True"
        });
        if failure.is_none() {
            memory.create_failure = None;
        }
        let failure = failure.map(|failure| {
            (text(failure, "/message").into(), *memory.create_failure.get_or_insert(now))
        });
        ReplicaSet { name: text(set, "/metadata/name").into(), failure }
    });
    RolloutFacts {
        now,
        generation,
        deployment: seen.deployment.as_ref().map(deployment),
        replica_set,
        pods: pods.into_iter().map(|value| pod(value, &seen.events, memory, before, now)).collect(),
    }
}

/// The ReplicaSet that runs the Deployment's present pod template: as kubectl and the controller
/// find it, by the template.
fn new_replica_set<'a>(deployment: &Value, sets: &'a [Value]) -> Option<&'a Value> {
    let template = |object: &Value| {
        let mut template = object.pointer("/spec/template").cloned().unwrap_or_default();
        if let Some(Value::Object(metadata)) = template.get_mut("metadata") {
            metadata.shift_remove("creationTimestamp");
            if let Some(Value::Object(labels)) = metadata.get_mut("labels") {
                labels.shift_remove("pod-template-hash");
            }
        }
        template
    };
    let wanted = template(deployment);
    sets.iter().filter(|set| is_owned_by(set, deployment)).find(|set| template(set) == wanted)
}

fn is_owned_by(object: &Value, owner: &Value) -> bool {
    let uid = text(owner, "/metadata/uid");
    list(object, "/metadata/ownerReferences").iter().any(|reference| text(reference, "/uid") == uid)
}

fn time(value: &Value, pointer: &str) -> Option<Timestamp> {
    text(value, pointer).parse().ok()
}

fn deployment(value: &Value) -> Deployment {
    let managed = list(value, "/metadata/managedFields").iter();
    let ours = managed.filter(|entry| {
        text(entry, "/manager") == MANAGER && text(entry, "/subresource").is_empty()
    });
    Deployment {
        name: text(value, "/metadata/name").into(),
        observed_generation: number(value, "/status/observedGeneration"),
        wanted: number(value, "/spec/replicas"),
        total: number(value, "/status/replicas"),
        updated: number(value, "/status/updatedReplicas"),
        available: number(value, "/status/availableReplicas"),
        paused: value.pointer("/spec/paused") == Some(&Value::Bool(true)),
        revision: revision_of(value),
        applied_at: ours.filter_map(|entry| time(entry, "/time")).max(),
        conditions: list(value, "/status/conditions").iter().map(condition).collect(),
    }
}

fn condition(value: &Value) -> Condition {
    Condition {
        kind: text(value, "/type").into(),
        status: text(value, "/status") == "True",
        reason: text(value, "/reason").into(),
        message: text(value, "/message").into(),
        updated_at: time(value, "/lastUpdateTime").or_else(|| time(value, "/lastTransitionTime")),
    }
}

fn pod(
    value: &Value,
    events: &[Value],
    memory: &mut Memory,
    before: &Restarts,
    now: Timestamp,
) -> Pod {
    let conditions = list(value, "/status/conditions");
    let of_kind = |kind: &str| conditions.iter().find(|condition| text(condition, "/type") == kind);
    let unschedulable = of_kind("PodScheduled").filter(|condition| {
        text(condition, "/status") == "False" && text(condition, "/reason") == "Unschedulable"
    });
    let gates = list(value, "/spec/readinessGates").iter().map(|gate| text(gate, "/conditionType"));
    let open =
        |gate: &&str| of_kind(gate).is_some_and(|condition| text(condition, "/status") == "True");
    let uid = text(value, "/metadata/uid");
    let about = |event: &&Value| text(event, "/involvedObject/uid") == uid && !is_noise(event);
    let mut warnings: Vec<&Value> = events.iter().filter(about).collect();
    warnings
        .sort_by_key(|event| time(event, "/lastTimestamp").or_else(|| time(event, "/eventTime")));
    let inits = list(value, "/status/initContainerStatuses").len();
    let containers = statuses(value)
        .enumerate()
        .map(|(index, status)| container(value, status, index < inits, memory, before, now))
        .collect();
    Pod {
        name: text(value, "/metadata/name").into(),
        terminating: value.pointer("/metadata/deletionTimestamp").is_some(),
        unschedulable: unschedulable.map(|condition| text(condition, "/message").into()),
        ready: of_kind("Ready").is_some_and(|condition| text(condition, "/status") == "True"),
        closed_gates: gates.filter(|gate| !open(gate)).map(str::to_string).collect(),
        containers,
        warnings: warnings
            .into_iter()
            .map(|event| format!("{}: {}", text(event, "/reason"), text(event, "/message")))
            .collect(),
    }
}

fn container(
    pod: &Value,
    status: &Value,
    init: bool,
    memory: &mut Memory,
    before: &Restarts,
    now: Timestamp,
) -> Container {
    let name = text(status, "/name");
    let exit = |value: &Value| Exit {
        code: number(value, "/exitCode"),
        reason: text(value, "/reason").into(),
    };
    let state = match (status.pointer("/state/terminated"), status.pointer("/state/running")) {
        (Some(ended), _) => State::Terminated(exit(ended)),
        (None, Some(_)) => State::Running,
        (None, None) => State::Waiting {
            reason: text(status, "/state/waiting/reason").into(),
            message: text(status, "/state/waiting/message").into(),
        },
    };
    let (waiting_since, image_not_found) = memory.waits(of(pod, status), &state, now);
    let specs = list(pod, "/spec/containers").iter().chain(list(pod, "/spec/initContainers"));
    let spec = specs.into_iter().find(|spec| text(spec, "/name") == name);
    Container {
        name: name.into(),
        init,
        state,
        last: status.pointer("/lastState/terminated").map(exit),
        restarts: number(status, "/restartCount"),
        restarts_before: before.get(&of(pod, status)).copied().unwrap_or_default(),
        ready: status.pointer("/ready") == Some(&Value::Bool(true)),
        waiting_since,
        image_not_found,
        memory_limit: spec
            .map(|spec| text(spec, "/resources/limits/memory"))
            .unwrap_or_default()
            .into(),
    }
}

impl Eks {
    /// One look: how far the rollout of `generation` is.
    pub(super) async fn judge_rollout(
        &self,
        service: &str,
        generation: i64,
        before: &Restarts,
        memory: &mut Memory,
    ) -> Result<RolloutVerdict> {
        let deployment_key = self.deployment_key(service);
        let selector = selector_of(service);
        let (deployment, replica_sets, pods) = futures::future::try_join3(
            self.api.get(&deployment_key),
            self.api.list("apps/v1", "ReplicaSet", &selector),
            self.api.list("v1", "Pod", &selector),
        )
        .await
        .map_err(|failure| self.explain(&failure, "watch the rollout"))?;
        let not_ready = pods.iter().any(|pod| {
            statuses(pod).any(|status| status.pointer("/ready") != Some(&Value::Bool(true)))
        });
        let events = if not_ready { self.warnings().await? } else { Vec::new() };
        let seen = RolloutSeen { deployment, replica_sets, pods, events };
        Ok(judge_facts(&gather_facts(&seen, memory, before, generation, now())))
    }

    /// Warning events of the namespace. Who may not read them goes without.
    async fn warnings(&self) -> Result<Vec<Value>> {
        match self
            .api
            .list(
                "v1",
                "Event",
                "fieldSelector=type%3DWarning%2CinvolvedObject.kind%3DPod&limit=500",
            )
            .await
        {
            Err(failure) if failure.code() == Some(403) => Ok(Vec::new()),
            answer => answer.map_err(|failure| self.explain(&failure, "read events")),
        }
    }

    /// Adds to each trouble what explains it: the container's last lines, and the warnings about
    /// its pod.
    pub(super) async fn causes(&self, troubles: Vec<Trouble>) -> Result<Vec<Cause>> {
        let events = self.warnings().await.unwrap_or_default();
        Ok(join_all(troubles.into_iter().map(|trouble| self.cause(trouble, &events))).await)
    }

    async fn cause(&self, trouble: Trouble, events: &[Value]) -> Cause {
        let mut reason = trouble.reason;
        let own_end = trouble.exit_code.is_some_and(|code| !was_told_to_stop(code));
        for warning in warnings_about(&trouble.object, &reason, own_end, events) {
            reason = format!("{reason}; {warning}");
        }
        let log_tail = match &trouble.log {
            Some(log) => self.log_of(log).await.unwrap_or_else(|failure| {
                let why = self.explain(&failure, "its log cannot be read");
                reason = format!("{reason}; {why}");
                Vec::new()
            }),
            None => Vec::new(),
        };
        Cause {
            code: None,
            object: trouble.object,
            reason,
            exit_code: trouble.exit_code,
            log_tail,
            fix: trouble.fix,
        }
    }

    async fn log_of(&self, log: &Log) -> Result<Vec<String>, Failure> {
        let Log { pod, container, previous } = log;
        // A container that crashes again and again moves on between the look and now: what was the
        // present run is the previous one, or is removed already.
        let mut lines = self.api.log(pod, container, *previous, LOG_LINES).await;
        for attempt in 1..=LOG_ATTEMPTS {
            let moved_on = match &lines {
                Ok(lines) => is_no_log(lines),
                Err(failure) => failure.code() == Some(400),
            };
            if !moved_on {
                return lines;
            }
            tokio::time::sleep(Eks::INTERVAL / 2).await;
            let other = if attempt % 2 == 1 { !previous } else { *previous };
            lines = self.api.log(pod, container, other, LOG_LINES).await;
        }
        Ok(lines?.into_iter().filter(|line| !line.starts_with(NO_LOG)).collect())
    }

    /// The pods of the service.
    pub(super) async fn pods_of(&self, service: &str) -> Result<Vec<Value>, Failure> {
        self.api.list("v1", "Pod", &selector_of(service)).await
    }
}

/// The query that selects what belongs to a service.
fn selector_of(service: &str) -> String {
    format!("labelSelector=app.kubernetes.io/name%3D{service}")
}

fn is_no_log(lines: &[String]) -> bool {
    lines.is_empty() || lines.iter().all(|line| line.starts_with(NO_LOG))
}

/// Warnings that say nothing: that something was tried again, what a container's state says anyway,
/// the node's DNS settings.
fn is_noise(event: &Value) -> bool {
    let again =
        text(event, "/reason") == "Failed" && text(event, "/message").starts_with("Error: ");
    again || matches!(text(event, "/reason"), "BackOff" | "MissingClusterDNS" | "DNSConfigForming")
}

/// Warnings about the pod of `object` that say more than `reason` does. `own_end`: the process
/// ended by itself, so that a probe that nobody answered any more says nothing.
fn warnings_about(object: &str, reason: &str, own_end: bool, events: &[Value]) -> Vec<String> {
    let pod = object.split('/').nth(1).unwrap_or_default();
    let mut told: Vec<String> = Vec::new();
    for event in
        events.iter().filter(|event| text(event, "/involvedObject/name") == pod && !is_noise(event))
    {
        let message = text(event, "/message");
        if own_end && text(event, "/reason") == "Unhealthy" {
            continue;
        }
        let known = reason.contains(message)
            || message.starts_with("Failed to pull image") && reason.starts_with("ErrImagePull");
        let warning = format!("{}: {message}", text(event, "/reason"));
        if !known && !told.contains(&warning) {
            told.push(warning);
        }
    }
    told.split_off(told.len().saturating_sub(WARNINGS))
}

/// The one clock of this folder's verdicts; the verdict itself takes it as a fact.
#[expect(clippy::disallowed_methods, reason = "the one clock of the watch")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).expect("a time")
    }

    fn set(uid: &str, image: &str) -> Value {
        json!({"metadata": {"name": format!("p-{uid}"), "uid": uid, "ownerReferences": [{"uid": "d"}]},
            "spec": {"template": {"metadata": {"labels": {"app": "p", "pod-template-hash": uid}}, "spec": {"image": image}}}})
    }

    fn pod_of(set: &str, name: &str, status: Value) -> Value {
        json!({"metadata": {"name": name, "uid": name, "ownerReferences": [{"uid": set}]}, "status": status,
            "spec": {"containers": [{"name": "p", "resources": {"limits": {"memory": "64Mi"}}}]}})
    }

    fn seen(pods: Vec<Value>) -> RolloutSeen {
        RolloutSeen {
            deployment: Some(
                json!({"metadata": {"name": "p", "uid": "d", "annotations": {"deployment.kubernetes.io/revision": "3"},
                    "managedFields": [{"manager": "cicd", "time": "2026-11-01T10:00:00Z"}, {"manager": "cicd", "subresource": "status", "time": "2027-01-01T00:00:00Z"}]},
                "spec": {"replicas": 1, "template": {"metadata": {"creationTimestamp": null, "labels": {"app": "p"}}, "spec": {"image": "new"}}},
                "status": {"observedGeneration": 4, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}}),
            ),
            replica_sets: vec![set("old", "old"), set("new", "new")],
            pods,
            events: Vec::new(),
        }
    }

    fn waiting(reason: &str, message: &str) -> Value {
        json!({"containerStatuses": [{"name": "p", "state": {"waiting": {"reason": reason, "message": message}}, "restartCount": 0, "ready": false}]})
    }

    #[test]
    fn only_pods_of_the_new_replica_set_count() {
        let seen = seen(vec![
            pod_of("old", "a", json!({})),
            pod_of("new", "b", json!({})),
            pod_of("other", "c", json!({})),
        ]);
        let facts = gather_facts(&seen, &mut Memory::default(), &Restarts::new(), 4, at(0));
        assert_eq!(facts.replica_set.map(|set| set.name), Some("p-new".into()));
        assert_eq!(facts.pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["b"]);
        let deployment = facts.deployment.expect("a deployment");
        assert_eq!(
            (deployment.revision.as_str(), deployment.wanted, deployment.observed_generation),
            ("3", 1, 4)
        );
        assert_eq!(deployment.applied_at, "2026-11-01T10:00:00Z".parse().ok());
    }

    #[test]
    fn a_container_is_read_whole() {
        let status = json!({
            "conditions": [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no cpu"}],
            "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}, "restartCount": 0, "ready": true}],
            "containerStatuses": [{"name": "p", "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
                "restartCount": 5, "ready": false}],
        });
        let pod = pod_of("new", "b", status);
        let earlier = json!({"containerStatuses": [{"name": "p", "restartCount": 4}]});
        let before = count_restarts(&[pod_of("new", "b", earlier)]);
        let seen = seen(vec![pod]);
        let facts = gather_facts(&seen, &mut Memory::default(), &before, 4, at(0));
        let pod = &facts.pods[0];
        assert_eq!(pod.unschedulable.as_deref(), Some("no cpu"));
        assert!(!pod.ready);
        assert!(pod.containers[0].init && !pod.containers[1].init);
        let container = &pod.containers[1];
        assert_eq!(
            (container.restarts, container.restarts_before, container.memory_limit.as_str()),
            (5, 4, "64Mi")
        );
        assert_eq!(container.last, Some(Exit { code: 137, reason: "OOMKilled".into() }));
    }

    #[test]
    fn a_wait_is_timed_from_its_first_sight_and_remembers_a_denial() {
        let mut memory = Memory::default();
        let mut look = |status: Value, second: i64| {
            let seen = seen(vec![pod_of("new", "b", status)]);
            let facts = gather_facts(&seen, &mut memory, &Restarts::new(), 4, at(second));
            let container = facts.pods[0].containers[0].clone();
            (container.waiting_since, container.image_not_found)
        };
        assert_eq!(look(waiting("ContainerCreating", ""), 0), (Some(at(0)), false));
        assert_eq!(look(waiting("ErrImagePull", "i/o timeout"), 5), (Some(at(5)), false));
        assert_eq!(look(waiting("ImagePullBackOff", "Back-off"), 9), (Some(at(5)), false));
        assert_eq!(look(waiting("ErrImagePull", "x: not found"), 15), (Some(at(5)), true));
        assert_eq!(look(waiting("ImagePullBackOff", "Back-off"), 16), (Some(at(5)), true));
        let running = json!({"containerStatuses": [{"name": "p", "state": {"running": {}}}]});
        assert_eq!(look(running, 20), (None, false));
        assert_eq!(look(waiting("ErrImagePull", "i/o timeout"), 25), (Some(at(25)), false));
    }

    #[test]
    fn a_replica_set_that_cannot_make_pods_is_timed_too() {
        let mut memory = Memory::default();
        let mut seen = seen(Vec::new());
        let fail = json!({"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}]});
        seen.replica_sets[1]["status"] = fail;
        assert!(
            gather_facts(&seen, &mut memory, &Restarts::new(), 4, at(0))
                .replica_set
                .is_some_and(|set| set.failure == Some(("exceeded quota".into(), at(0))))
        );
        assert!(
            gather_facts(&seen, &mut memory, &Restarts::new(), 4, at(9))
                .replica_set
                .is_some_and(|set| set.failure == Some(("exceeded quota".into(), at(0))))
        );
        seen.replica_sets[1]["status"] = json!({});
        assert!(
            gather_facts(&seen, &mut memory, &Restarts::new(), 4, at(10))
                .replica_set
                .is_some_and(|set| set.failure.is_none())
        );
    }

    #[test]
    fn warnings_say_what_the_reason_does_not() {
        let event = |pod: &str, reason: &str, message: &str| json!({"involvedObject": {"name": pod}, "reason": reason, "message": message});
        let events = [
            event("b", "BackOff", "Back-off restarting failed container"),
            event("b", "Failed", "Error: ErrImagePull"),
            event("b", "Unhealthy", "Startup probe failed: 503"),
            event("b", "Unhealthy", "Startup probe failed: 503"),
            event("other", "FailedMount", "no volume"),
        ];
        assert_eq!(
            warnings_about("Pod/b/p", "crashed", false, &events),
            ["Unhealthy: Startup probe failed: 503"]
        );
        assert!(
            warnings_about("Pod/b/p", "killed: Startup probe failed: 503", false, &events)
                .is_empty()
        );
        assert!(warnings_about("Pod/b/p", "crashed", true, &events).is_empty());
    }
}
