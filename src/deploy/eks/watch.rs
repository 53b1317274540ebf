//! Looks at what runs: reads all workloads of a state at once, and a failure's logs.

use std::cell::Cell;
use std::fmt::Debug;
use std::time::Duration;

use futures::future::{join_all, try_join, try_join_all};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::core::Resource;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Eks;
use super::api::Feed;
use super::object::{Key, Object};
use super::observe::{
    Known, Memory, Restarts, WorkloadSeen, count_restarts, gather_facts, has_health, is_noise,
    is_ready, say_event,
};
use super::refusal::Failure;
use super::verdict::{
    Log, RolloutVerdict, Status, Trouble, WorkloadFacts, find_pending, judge_workload,
    judge_workloads, was_told_to_stop,
};
use super::written::{EksWritten, superseded};
use crate::deploy::target::Target;
use crate::error::{Cause, Result};

/// Rules that count time are looked at as often, though nothing changed.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
const BURST: Duration = Duration::from_millis(100);
/// After so many waits in a row without a word everything is read anew.
const LONGEST_QUIET: u32 = 15;
const WARNINGS_OF_PODS: &str = "type=Warning,involvedObject.kind=Pod";
/// After so many looks that found nothing changed, half as many are taken.
const QUIET_LOOKS: u32 = 4;
/// Lines of a log that a cause carries.
const LOG_LINES: i64 = 25;
/// Times a log is asked for again that is not there at the moment.
const LOG_ATTEMPTS: u32 = 6;
/// What the kubelet answers, with 200, for a container that is removed.
const NO_LOG: &str = "unable to retrieve container logs for ";
/// Warning events that a cause's reason carries.
const WARNINGS: usize = 2;

const AUTOSCALER: &str = "HorizontalPodAutoscaler";

/// What watching keeps from look to look.
#[derive(Debug, Default)]
pub struct Watching {
    pub memory: Memory,
    feed: Feed,
    /// Waits in a row in which nothing was heard.
    quiet: Cell<u32>,
}

/// What is looked at, and what it is compared with.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    pub service: &'a str,
    pub objects: &'a [Object],
    /// What our own writes were answered with.
    pub written: &'a EksWritten,
    pub restarts_before: &'a Restarts,
}

impl Eks {
    /// One look: how far the workloads are. What was healthy is not asked for again until the rest
    /// is healthy as well; then all are seen at once, and read anew: the end is told by what the
    /// API server says then. A look that fails says nothing of them.
    pub(super) async fn judge_rollout(
        &self,
        look: Look<'_>,
        watching: &mut Watching,
    ) -> Result<RolloutVerdict> {
        let is_heard = watching.feed.is_live();
        let is_part = !watching.memory.healthy.is_empty();
        let verdict = self.judge_part(look, watching).await?;
        let is_end = !matches!(verdict, RolloutVerdict::Progressing(_));
        if !is_end || !is_heard && !is_part {
            return Ok(verdict);
        }
        watching.memory.healthy.clear();
        watching.feed.clear();
        self.judge_part(look, watching).await
    }

    /// Waits for a change, or for time to make a difference.
    pub(super) async fn await_change(&self, watching: &Watching) {
        if watching.feed.is_live() {
            let changing = watching.feed.wait_for_change();
            if tokio::time::timeout(LONGEST_WAIT, changing).await.is_ok() {
                // What changes together comes together.
                tokio::time::sleep(BURST).await;
                watching.quiet.set(0);
                return;
            }
            watching.quiet.set(watching.quiet.get() + 1);
            // A watch may be deaf: something in between may keep what it says.
            if watching.quiet.get().is_multiple_of(LONGEST_QUIET) {
                watching.feed.clear();
            }
        } else {
            let looks = if watching.memory.quiet_looks >= QUIET_LOOKS { 2 } else { 1 };
            tokio::time::sleep(Self::INTERVAL * looks).await;
        }
    }

    async fn judge_part(&self, look: Look<'_>, watching: &mut Watching) -> Result<RolloutVerdict> {
        let Watching { memory, feed, .. } = watching;
        let own = self.deployment_key(look.service);
        // The first restart comes at once. Where something else comes up meanwhile, one more counts.
        let brings_more = |key: &Key| *key != own && has_health(key) && key.kind != AUTOSCALER;
        let has_others = look.objects.iter().any(|object| brings_more(&object.key()));
        let keys = look.objects.iter().map(|object| (object.key(), object));
        let is_watched = |(key, object): &(Key, &Object)| {
            let scales_nothing = key.kind == AUTOSCALER && !scales_one_of(object, look.objects);
            has_health(key) && !memory.healthy.contains(key) && !scales_nothing
        };
        let watched = keys.filter(is_watched);
        let seen = try_join_all(watched.map(|(key, object)| {
            let memory = &*memory;
            self.read_workload(key, object, memory, feed)
        }))
        .await;
        let seen: Vec<WorkloadSeen> =
            seen.map_err(Failure::into_blindness)?.into_iter().flatten().collect();
        let theirs = |seen: &&WorkloadSeen| {
            let live = seen.live.as_ref();
            live.is_some_and(|live| !look.written.is_ours(&seen.key, live))
        };
        if let Some(seen) = seen.iter().find(theirs) {
            return Err(superseded(&seen.key));
        }
        memory.note_look(&seen);
        let now = now();
        let events = match memory.recall_warnings(now) {
            _ if seen.iter().flat_map(|seen| &seen.pods).all(is_ready) => Vec::new(),
            Some(events) => events,
            None => {
                let events = self.follow_warnings(feed).await?;
                memory.note_warnings(&events, now);
                events
            }
        };
        let known = Known {
            generations: &look.written.generations,
            restarts_before: look.restarts_before,
            events: &events,
            spare_ends: if has_others { 2 } else { 1 },
            now,
        };
        memory.pending.clear();
        let (mut first, mut others) = (Vec::new(), Vec::new());
        for seen in &seen {
            let mut facts = gather_facts(seen, memory, known);
            memory.pending.extend(find_pending(&facts));
            if seen.key == own {
                await_minimum(&mut facts, look);
                first.push(facts);
            } else {
                if matches!(judge_workload(&facts), RolloutVerdict::Healthy { .. }) {
                    memory.healthy.insert(seen.key.clone());
                }
                others.push(facts);
            }
        }
        Ok(judge_workloads(&first, &others))
    }

    /// Reads a workload with its pods. `None` if it was to remove itself and did.
    pub(super) async fn read_workload(
        &self,
        key: Key,
        object: &Object,
        memory: &Memory,
        feed: &Feed,
    ) -> Result<Option<WorkloadSeen>, Failure> {
        let pods = self.follow_pods(object, feed);
        let (live, pods) = try_join(self.api.follow(feed, &key), pods).await?;
        if live.is_none() && object.removes_itself() {
            return Ok(None);
        }
        let mut seen = WorkloadSeen { key, live, replica_sets: Vec::new(), pods };
        if seen.key.kind == "Deployment"
            && let Some(which) = select_pods(object)
        {
            seen.replica_sets = match memory.recall_set(&seen) {
                Some(set) => vec![set],
                None => self.follow_in(object, &which, feed).await?,
            };
        }
        Ok(Some(seen))
    }

    async fn follow_pods(&self, object: &Object, feed: &Feed) -> Result<Vec<Pod>, Failure> {
        match select_pods(object) {
            Some(which) => self.follow_in(object, &which, feed).await,
            None => Ok(Vec::new()),
        }
    }

    /// As [`Eks::list_in`], kept up to date by `feed`.
    async fn follow_in<K>(
        &self,
        object: &Object,
        which: &ListParams,
        feed: &Feed,
    ) -> Result<Vec<K>, Failure>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let own = &self.caller.namespace;
        let namespace = object.key().namespace.unwrap_or_else(|| own.clone());
        match self.api.follow_all(feed, &namespace, which).await {
            Err(failure) if failure.code() == Some(403) && namespace != *own => Ok(Vec::new()),
            answer => answer,
        }
    }

    /// The pods that a workload selects, if its kind has any.
    async fn list_pods(&self, object: &Object) -> Result<Vec<Pod>, Failure> {
        match select_pods(object) {
            Some(which) => self.list_in(object, &which).await,
            None => Ok(Vec::new()),
        }
    }

    /// What belongs to `object`, where it is. Who may not look into another namespace goes without.
    async fn list_in<K>(&self, object: &Object, which: &ListParams) -> Result<Vec<K>, Failure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + DeserializeOwned + Debug,
    {
        let own = &self.caller.namespace;
        let namespace = object.key().namespace.unwrap_or_else(|| own.clone());
        match self.api.list(&namespace, which).await {
            Err(failure) if failure.code() == Some(403) && namespace != *own => Ok(Vec::new()),
            answer => answer,
        }
    }

    /// The restarts of all containers that belong to `objects`.
    pub(super) async fn read_restarts(&self, objects: &[Object]) -> Result<Restarts> {
        let pods = try_join_all(objects.iter().map(|object| self.list_pods(object))).await?;
        Ok(count_restarts(pods.iter().flatten()))
    }

    /// Warning events of the namespace. Who may not read them goes without.
    async fn follow_warnings(&self, feed: &Feed) -> Result<Vec<Event>> {
        let which = ListParams::default().fields(WARNINGS_OF_PODS);
        match self.api.follow_all(feed, &self.caller.namespace, &which).await {
            Err(failure) if failure.code() == Some(403) => Ok(Vec::new()),
            answer => answer.map_err(Failure::into_blindness),
        }
    }

    /// As they are now.
    async fn read_warnings(&self) -> Result<Vec<Event>> {
        let which = ListParams::default().fields(WARNINGS_OF_PODS).limit(500);
        match self.api.list(&self.caller.namespace, &which).await {
            Err(failure) if failure.code() == Some(403) => Ok(Vec::new()),
            answer => answer.map_err(Failure::into_blindness),
        }
    }

    /// Adds to each trouble what explains it: the container's last lines, and the warnings about
    /// its pod.
    pub(super) async fn explain_troubles(&self, troubles: Vec<Trouble>) -> Vec<Cause> {
        let events = self.read_warnings().await.unwrap_or_default();
        join_all(troubles.into_iter().map(|trouble| self.explain_trouble(trouble, &events))).await
    }

    async fn explain_trouble(&self, trouble: Trouble, events: &[Event]) -> Cause {
        let mut reason = trouble.reason;
        let own_end = trouble.exit_code.is_some_and(|code| !was_told_to_stop(code));
        for warning in warnings_about(&trouble.object, &reason, own_end, events) {
            reason = format!("{reason}; {warning}");
        }
        let log_tail = match &trouble.log {
            Some(log) => self.read_log(log).await.unwrap_or_else(|failure| {
                reason = format!("{reason}; its log cannot be read: {}", failure.error);
                Vec::new()
            }),
            None => Vec::new(),
        };
        Cause {
            code: trouble.kind.code(),
            object: trouble.object,
            reason,
            exit_code: trouble.exit_code,
            log_tail,
            fix: Some(trouble.fix),
        }
    }

    async fn read_log(&self, log: &Log) -> Result<Vec<String>, Failure> {
        let Log { namespace, pod, container, previous } = log;
        let read = |previous| self.api.log(namespace, pod, container, previous, LOG_LINES);
        // A container that crashes again and again moves on between the look and now: what was the
        // present run is the previous one, or is removed already.
        let mut lines = read(*previous).await;
        for attempt in 1..=LOG_ATTEMPTS {
            let moved_on = match &lines {
                Ok(lines) => is_no_log(lines),
                Err(failure) => failure.code() == Some(400),
            };
            if !moved_on {
                return lines;
            }
            tokio::time::sleep(Eks::INTERVAL / 2).await;
            lines = read(if attempt % 2 == 1 { !previous } else { *previous }).await;
        }
        Ok(lines?.into_iter().filter(|line| !line.starts_with(NO_LOG)).collect())
    }
}

/// An autoscaler raises the count to its minimum a moment later, metrics or not.
fn await_minimum(facts: &mut WorkloadFacts, look: Look<'_>) {
    let is_its = |object: &&Object| {
        let target = object.value().pointer("/spec/scaleTargetRef/name");
        object.kind() == AUTOSCALER && target.and_then(Value::as_str) == Some(look.service)
    };
    let autoscaler = look.objects.iter().find(is_its);
    let minimum = autoscaler.and_then(|found| found.value().pointer("/spec/minReplicas")?.as_i64());
    if let (Status::Deployment(deployment), Some(minimum)) = (&mut facts.status, minimum)
        && deployment.wanted > 0
    {
        deployment.wanted = deployment.wanted.max(minimum);
    }
}

/// Whether an autoscaler is to scale something that is deployed with it. Whatever else it scales
/// says nothing of this deploy.
fn scales_one_of(autoscaler: &Object, objects: &[Object]) -> bool {
    let target = autoscaler.value().pointer("/spec/scaleTargetRef");
    let part = |name: &str| target.and_then(|target| target.get(name)?.as_str());
    objects
        .iter()
        .any(|object| (Some(object.kind()), Some(object.name())) == (part("kind"), part("name")))
}

fn select_pods(object: &Object) -> Option<ListParams> {
    object.pod_selector().map(|selector| ListParams::default().labels_from(&selector))
}

fn is_no_log(lines: &[String]) -> bool {
    lines.is_empty() || lines.iter().all(|line| line.starts_with(NO_LOG))
}

/// Warnings about the pod of `object` that say more than `reason` does. `own_end`: the process
/// ended by itself, so that a probe that nobody answered any more says nothing.
fn warnings_about(object: &str, reason: &str, own_end: bool, events: &[Event]) -> Vec<String> {
    let pod = object.split('/').nth(1);
    let about = |event: &&Event| event.involved_object.name.as_deref() == pod && !is_noise(event);
    let mut told: Vec<String> = Vec::new();
    for event in events.iter().filter(about) {
        let message = event.message.as_deref().unwrap_or_default();
        if own_end && event.reason.as_deref() == Some("Unhealthy") {
            continue;
        }
        let known = reason.contains(message)
            || message.starts_with("Failed to pull image") && reason.starts_with("ErrImagePull");
        let warning = say_event(event);
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

    #[test]
    fn warnings_say_what_the_reason_does_not() {
        let event = |pod: &str, reason: &str, message: &str| -> Event {
            let event = json!({"metadata": {}, "involvedObject": {"name": pod}, "reason": reason, "message": message});
            serde_json::from_value(event).expect("an event")
        };
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
