//! What stands in the cluster → what apply will do. Pure.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use serde_json::json;

use super::canary::{CanaryPlan, changes_pods, name_canary, plan_canary};
use super::diff;
use super::managers::{find_claims, is_managed_by};
use super::object::{Key, LiveObject, Object, PROGRAM};
use super::observe::{
    JobState, Known, Memory, Restarts, WorkloadSeen, gather_facts, read_copies, read_job_state,
    read_own_replicas, read_revision,
};
use super::verdict::{RolloutVerdict, Status, judge_workload};
use super::{EksDocuments, name_manager};
use crate::deploy::diff::compare_documents;
use crate::deploy::storage::{self, Bucket};
use crate::deploy::target::{Goal, Plan, State};
use crate::deploy::{Action, Change};
use crate::error::{Error, Result};

/// What the plan is made from.
#[derive(Clone, Debug)]
pub struct EksFacts {
    /// What is to stand there, each with what stands there now.
    pub objects: Vec<ObservedObject>,
    pub migration: Option<ObservedMigration>,
    /// Objects of the last good state, as they are now, that are no longer wanted.
    pub leftovers: Vec<LiveObject>,
    /// The Deployment is what the last good state says, or what a run of ours left.
    pub good_is_live: bool,
    /// The service's buckets.
    pub buckets: Vec<Bucket>,
    /// Restarts of containers before anything is changed.
    pub restarts_before: Restarts,
}

/// The Job of `before-deploy`, and the one of its name that is there.
#[derive(Clone, Debug)]
pub struct ObservedMigration {
    pub job: Object,
    pub live: Option<LiveObject>,
}

/// One wanted object.
#[derive(Clone, Debug)]
pub struct ObservedObject {
    pub object: Object,
    /// As it is.
    pub live: Option<LiveObject>,
    /// As it would be: the API server's answer to a dry run.
    pub dry_run: LiveObject,
    /// Fields of it are to be taken over from tools that may be taken over from.
    pub force: bool,
    /// What such a tool set, and we do not, goes.
    pub takes_over: bool,
    /// It is as wanted, and of others only: it is claimed, so that they do not remove it.
    pub claims: bool,
}

#[derive(Clone, Debug)]
pub struct EksPlan {
    changes: Vec<Change>,
    previous_revision: Option<String>,
    pub wanted: State<EksDocuments>,
    /// The Job that is to run to its end before the writes.
    pub migration: Option<Object>,
    /// What has to be well before the service itself is written.
    pub canary: Option<CanaryPlan>,
    /// In order.
    pub writes: Vec<ObjectWrite>,
    pub removals: Vec<Removal>,
    pub buckets: Vec<Bucket>,
    pub way_back: WayBack,
    pub restarts_before: Restarts,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ObjectWrite {
    pub object: Object,
    pub action: Action,
    pub force: bool,
    pub takes_over: bool,
    /// That of the live object.
    pub generation: Option<i64>,
    /// The count an autoscaler keeps from here on. Without a new owner it would fall to 1 when we
    /// let go of it.
    pub hand_over_replicas: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    pub key: Key,
    pub uid: String,
    /// Before the new state is applied, because the two would fight; otherwise after it was seen to
    /// be good.
    pub first: bool,
    /// Others who want it: it stays theirs, and we let go of it.
    pub claims: Vec<String>,
}

/// Where the rollback of a failed deploy leads.
#[derive(Clone, Debug, PartialEq)]
pub enum WayBack {
    /// The last state that a deploy saw through to the end.
    ToGood(Box<State<EksDocuments>>),
    /// What something else deployed, as it was, and was healthy.
    ToFound(Box<State<EksDocuments>>),
    /// Nothing good is known.
    Nowhere,
}

impl WayBack {
    /// The state that it leads to.
    pub fn state(&self) -> Option<&State<EksDocuments>> {
        match self {
            WayBack::ToGood(state) | WayBack::ToFound(state) => Some(state),
            WayBack::Nowhere => None,
        }
    }
}

impl Plan for EksPlan {
    fn changes(&self) -> &[Change] {
        &self.changes
    }
    fn previous_revision(&self) -> Option<String> {
        self.previous_revision.clone()
    }
}

impl EksPlan {
    /// Whether `object` was not there before.
    pub fn creates(&self, object: &Object) -> bool {
        let creates = |write: &&ObjectWrite| write.action == Action::Create;
        self.writes.iter().filter(creates).any(|write| write.object.key() == object.key())
    }

    /// What is to run now: the new state, or once the rollback has begun the one before it.
    pub fn wanted_now(&self, goes_back: bool) -> &State<EksDocuments> {
        self.way_back.state().filter(|_| goes_back).unwrap_or(&self.wanted)
    }

    /// The generation that the object of `key` had before this deploy.
    pub fn generation_before(&self, key: &Key) -> Option<i64> {
        self.writes.iter().find(|write| write.object.key() == *key)?.generation
    }
}

/// Makes the plan.
pub fn make_plan(goal: &Goal<EksDocuments>, mut facts: EksFacts) -> EksPlan {
    facts.objects.sort_by_key(|observed| order_of(observed.object.kind()));
    let manager = name_manager(&goal.wanted);
    let removal = |live| removal_of(live, &manager);
    let mut removals: Vec<Removal> = facts.leftovers.iter().filter_map(removal).collect();
    let canary = find_canary(goal, &facts.objects);
    // What a run that was cut short left goes on, or is gone before users meet it again.
    let left = name_canary(&goal.wanted.service);
    removals.retain(|removal| canary.is_none() || removal.key.name != left);
    removals.iter_mut().for_each(|removal| removal.first |= removal.key.name == left);
    // The other way round: what refers to others goes before them.
    removals.sort_by_key(|removal| std::cmp::Reverse(order_of(&removal.key.kind)));
    let deletion = |removal: &Removal| {
        let left = || format!("left to {}, who want it too", removal.claims.join(", "));
        let (action, details) = match removal.claims.is_empty() {
            true => (Action::Delete, Vec::new()),
            false => (Action::Update, vec![left()]),
        };
        Change { action, object: removal.key.id(), details }
    };
    let migration = find_migration(goal, &facts);
    let mut changes = storage::plan(&facts.buckets);
    changes.extend(migration.iter().map(|job| Change {
        action: Action::Create,
        object: job.id(),
        details: describe_migration(job),
    }));
    changes.extend(canary.iter().map(|canary| Change {
        action: Action::Create,
        object: canary.deployment.id(),
        details: canary.describe(),
    }));
    changes.extend(removals.iter().filter(|removal| removal.first).map(deletion));
    let mut writes = Vec::new();
    for observed in &facts.objects {
        if let Some((write, details)) = write_of(observed) {
            changes.push(Change { action: write.action, object: write.object.id(), details });
            writes.push(write);
        }
    }
    changes.extend(removals.iter().filter(|removal| !removal.first).map(deletion));
    let deployment = facts.deployment(&goal.wanted.service);
    EksPlan {
        previous_revision: deployment.map(read_revision).filter(|revision| !revision.is_empty()),
        way_back: find_way_back(goal, &facts),
        wanted: goal.wanted.clone(),
        buckets: facts.buckets,
        changes,
        migration,
        canary,
        writes,
        removals,
        restarts_before: facts.restarts_before,
    }
}

impl EksFacts {
    /// The service's own Deployment, as it is.
    fn deployment(&self, service: &str) -> Option<&LiveObject> {
        let mut objects = self.objects.iter();
        objects.find(|observed| observed.object.is_deployment_of(service))?.live.as_ref()
    }
}

/// The canary of a new version, where an old one serves. A rollback goes straight.
pub fn find_canary(goal: &Goal<EksDocuments>, objects: &[ObservedObject]) -> Option<CanaryPlan> {
    let service = &goal.wanted.service;
    let own = objects.iter().find(|observed| observed.object.is_deployment_of(service))?;
    let live = own.live.as_ref()?;
    let (ready, wanted) = read_copies(live);
    let is_due = goal.migrates && ready > 0 && changes_pods(&live.data, &own.dry_run.data);
    let plan = || plan_canary(&goal.wanted.documents, service, &goal.wanted.health.path, wanted);
    is_due.then(plan).flatten()
}

/// The migration that is to run: one that the good state has was done by its deploy, and one whose
/// Job is complete by a run that was cut short after it.
fn find_migration(goal: &Goal<EksDocuments>, facts: &EksFacts) -> Option<Object> {
    let ObservedMigration { job, live } = facts.migration.as_ref()?;
    let good = goal.good.as_ref().and_then(|good| good.state.documents.migration.as_ref());
    let live = live.as_ref().and_then(|live| live.clone().try_parse::<Job>().ok());
    let is_done = good.is_some_and(|good| good.name() == job.name())
        || live.is_some_and(|live| read_job_state(&live) == JobState::Complete);
    (!is_done).then(|| job.clone())
}

fn describe_migration(job: &Object) -> Vec<String> {
    let arguments = job.value().pointer("/spec/template/spec/containers/0/args");
    let command = json!({ "command": arguments });
    let mut details = compare_documents(&json!({}), &command, &[]);
    details.push("runs to its end before anything else changes".into());
    details
}

/// A Deployment that somebody paused would take the change and never roll it out.
///
/// # Errors
/// Refused, if it is one that the deploy would change.
pub fn refuse_paused(facts: &EksFacts) -> Result<()> {
    let is_paused = |observed: &&ObservedObject| {
        let key = observed.object.key();
        let spec = observed.dry_run.data.get("spec").filter(|_| key.is_workload());
        spec.and_then(|spec| spec.get("paused")?.as_bool()) == Some(true)
            && observed.object.value().pointer("/spec/paused").is_none()
    };
    let changes = |observed: &&ObservedObject| write_of(observed).is_some();
    let Some(paused) = facts.objects.iter().filter(is_paused).find(changes) else { return Ok(()) };
    let Key { namespace, name, .. } = paused.object.key();
    let id = paused.object.id();
    Err(Error::refused(format!("cannot roll out {id}: somebody paused it")).fix(format!(
        "resume it, once you know why: kubectl -n {} rollout resume deployment/{name}",
        namespace.unwrap_or_default()
    )))
}

/// What is to be written of one object, and what differs; nothing when it is as wanted.
fn write_of(observed: &ObservedObject) -> Option<(ObjectWrite, Vec<String>)> {
    let ObservedObject { object, live, dry_run, force, takes_over, claims } = observed;
    let write = |action, hand_over_replicas| ObjectWrite {
        object: object.clone(),
        action,
        force: *force,
        takes_over: *takes_over,
        generation: live.as_ref().and_then(|live| live.metadata.generation),
        hand_over_replicas,
    };
    let Some(live) = live else { return Some((write(Action::Create, None), Vec::new())) };
    let hand_over = replicas_to_hand_over(object, live);
    let mut after = dry_run.clone();
    if let (Some(count), Some(spec)) = (hand_over, after.data.get_mut("spec")) {
        spec["replicas"] = count.into();
    }
    let mut details = diff::lines(live, &after);
    if hand_over.is_some() {
        details.push("spec.replicas: left to the autoscaler".into());
    }
    if details.is_empty() && *claims {
        details.push("wanted by this service too".into());
    }
    (!details.is_empty()).then(|| (write(Action::Update, hand_over), details))
}

/// The live count, when we own it and the wanted Deployment leaves it out.
pub fn replicas_to_hand_over(object: &Object, live: &LiveObject) -> Option<i64> {
    let leaves_out =
        object.kind() == "Deployment" && object.value().pointer("/spec/replicas").is_none();
    if leaves_out { read_own_replicas(live) } else { None }
}

/// Whether data goes with objects of this kind: a deploy never deletes them.
pub fn holds_data(kind: &str) -> bool {
    let kinds =
        ["Namespace", "PersistentVolume", "PersistentVolumeClaim", "CustomResourceDefinition"];
    kinds.contains(&kind)
}

/// An object is removed when we made it, it is wanted no more, and no data goes with it.
fn removal_of(live: &LiveObject, manager: &str) -> Option<Removal> {
    let object = Object::from_live(live)?;
    let ours = is_managed_by(&live.metadata, |found| found == manager || found == PROGRAM);
    let removable = ours && !holds_data(object.kind());
    removable.then(|| Removal {
        key: object.key(),
        uid: live.metadata.uid.clone().unwrap_or_default(),
        // An autoscaler would go on setting the count that is ours from now on.
        first: object.kind() == "HorizontalPodAutoscaler",
        claims: find_claims(&live.metadata, manager),
    })
}

/// The last good state; else, for a service that something else deployed before us, or where a person
/// put something else in place of it, what runs and is healthy.
fn find_way_back(goal: &Goal<EksDocuments>, facts: &EksFacts) -> WayBack {
    let service = &goal.wanted.service;
    let runs = facts.deployment(service).is_some_and(runs_healthy);
    if let Some(good) = goal.good.as_ref().filter(|_| facts.good_is_live || !runs) {
        return WayBack::ToGood(Box::new(good.state.clone()));
    }
    if !goal.adopts && goal.good.is_none() || !runs {
        return WayBack::Nowhere;
    }
    let live =
        facts.objects.iter().filter_map(|observed| Object::from_live(observed.live.as_ref()?));
    let mut found = goal.wanted.clone();
    found.documents.objects = live.map(Object::into_written).collect();
    WayBack::ToFound(Box::new(found))
}

fn runs_healthy(deployment: &LiveObject) -> bool {
    let key = Key::new("apps/v1", "Deployment", "", "");
    let seen = WorkloadSeen {
        key,
        live: Some(deployment.clone()),
        replica_sets: Vec::new(),
        pods: Vec::new(),
    };
    let known = Known {
        generations: &HashMap::new(),
        restarts_before: &Restarts::new(),
        events: &[],
        spare_ends: 0,
        now: Timestamp::UNIX_EPOCH,
    };
    let facts = gather_facts(&seen, &mut Memory::default(), known);
    let runs = matches!(&facts.status, Status::Deployment(deployment) if deployment.wanted > 0);
    runs && matches!(judge_workload(&facts), RolloutVerdict::Healthy { .. })
}

/// The order in which kinds are applied: what others refer to first.
pub fn order_of(kind: &str) -> u8 {
    match kind {
        "Namespace"
        | "CustomResourceDefinition"
        | "PriorityClass"
        | "StorageClass"
        | "IngressClass" => 0,
        "ServiceAccount"
        | "Secret"
        | "ConfigMap"
        | "Role"
        | "RoleBinding"
        | "ClusterRole"
        | "ClusterRoleBinding"
        | "PersistentVolume"
        | "PersistentVolumeClaim"
        | "ResourceQuota"
        | "LimitRange"
        | "NetworkPolicy" => 1,
        "Service" => 2,
        "HorizontalPodAutoscaler" | "PodDisruptionBudget" | "Ingress" => 4,
        kind if kind.ends_with("WebhookConfiguration") => 5,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::deploy::Image;
    use crate::deploy::target::{Good, HealthCheck};
    use crate::digest::Digest;

    fn object(value: Value) -> Object {
        Object::new(value).expect("an object")
    }

    fn config(name: &str, value: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "n"}, "data": {"a": value}})
    }

    fn deployment(replicas: Option<i64>) -> Value {
        let mut value = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "p", "namespace": "n"}, "spec": {}});
        if let Some(replicas) = replicas {
            value["spec"]["replicas"] = replicas.into();
        }
        value
    }

    fn live(mut value: Value, available: i64, manager: &str) -> Value {
        value["metadata"]["uid"] = "u".into();
        value["metadata"]["generation"] = 3.into();
        value["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "7"});
        value["metadata"]["managedFields"] = json!([{"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
        value["status"] = json!({"observedGeneration": 3, "updatedReplicas": available, "availableReplicas": available});
        value
    }

    fn dynamic(value: Value) -> LiveObject {
        serde_json::from_value(value).expect("an object")
    }

    fn facts(objects: Vec<ObservedObject>) -> EksFacts {
        EksFacts {
            objects,
            migration: None,
            leftovers: Vec::new(),
            good_is_live: true,
            buckets: Vec::new(),
            restarts_before: Restarts::new(),
        }
    }

    /// The plan for service `p`, whose last good objects are `good`.
    fn planned(facts: EksFacts, good: Option<Vec<Object>>) -> EksPlan {
        let state = |objects: Vec<Object>| State {
            format: 1,
            target: "eks".into(),
            service: "p".into(),
            environment: "staging".into(),
            image: Image { repository: "r".into(), digest: Digest::of(b"d"), version: "1".into() },
            port: 8000,
            health: HealthCheck { path: "/healthz".into(), startup: 1000 },
            documents: EksDocuments {
                objects,
                secrets: vec![],
                secret_keys: vec![],
                migration: None,
                canary: None,
                needs: vec![],
                buckets: vec![],
                expose: None,
            },
        };
        let wanted = facts.objects.iter().map(|observed| observed.object.clone()).collect();
        let adopts = good.is_none();
        let good = good.map(|objects| Good { state: state(objects), revision: None });
        let left = Vec::new();
        make_plan(&Goal { wanted: state(wanted), good, left, adopts, migrates: true }, facts)
    }

    fn observed(wanted: Value, live: Option<Value>, dry_run: Value) -> ObservedObject {
        let (live, dry_run) = (live.map(dynamic), dynamic(dry_run));
        ObservedObject {
            object: object(wanted),
            live,
            dry_run,
            force: false,
            takes_over: false,
            claims: false,
        }
    }

    fn shown(plan: &EksPlan) -> Vec<String> {
        plan.changes()
            .iter()
            .map(|change| {
                format!("{:?} {} {}", change.action, change.object, change.details.join(", "))
            })
            .collect()
    }

    #[test]
    fn changes_are_what_differs_in_the_order_of_apply() {
        let hpa = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "p"}});
        let plan = planned(
            facts(vec![
                observed(hpa.clone(), None, hpa),
                observed(
                    deployment(Some(2)),
                    Some(live(deployment(Some(1)), 1, "cicd")),
                    live(deployment(Some(2)), 1, "cicd"),
                ),
                observed(config("same", "x"), Some(config("same", "x")), config("same", "x")),
                observed(config("a", "new"), Some(config("a", "old")), config("a", "new")),
            ]),
            None,
        );
        assert_eq!(
            shown(&plan),
            [
                "Update ConfigMap/a data.a: old → new",
                "Update Deployment/p spec.replicas: 1 → 2",
                "Create HorizontalPodAutoscaler/p "
            ]
        );
        assert_eq!(plan.previous_revision(), Some("7".into()));
    }

    #[test]
    fn nothing_differs_nothing_is_written() {
        let same = || {
            observed(
                deployment(Some(1)),
                Some(live(deployment(Some(1)), 1, "cicd")),
                live(deployment(Some(1)), 1, "cicd"),
            )
        };
        let plan = planned(facts(vec![same()]), Some(vec![object(deployment(Some(1)))]));
        assert!(plan.changes().is_empty() && plan.writes.is_empty());
    }

    #[test]
    fn the_count_is_handed_over_once() {
        let auto = deployment(None);
        let mut dry_run = live(deployment(Some(1)), 4, "cicd");
        let first = planned(
            facts(vec![observed(
                auto.clone(),
                Some(live(deployment(Some(4)), 4, "cicd")),
                dry_run.clone(),
            )]),
            None,
        );
        assert_eq!(shown(&first), ["Update Deployment/p spec.replicas: left to the autoscaler"]);
        assert_eq!(first.writes[0].hand_over_replicas, Some(4));
        // From then on the autoscaler owns it, and its count is no difference.
        dry_run["spec"]["replicas"] = 6.into();
        let theirs = live(deployment(Some(6)), 6, "kube-controller-manager");
        let later = planned(
            facts(vec![observed(auto.clone(), Some(theirs), dry_run)]),
            Some(vec![object(auto)]),
        );
        assert!(later.changes().is_empty(), "{:?}", shown(&later));
    }

    #[test]
    fn leftovers_go_when_they_are_ours_and_hold_no_data() {
        let made = |kind: &str, manager: &str| {
            let object = json!({"apiVersion": "x/v1", "kind": kind, "metadata": {"name": "p", "namespace": "n"}});
            dynamic(live(object, 0, manager))
        };
        let mut facts = facts(Vec::new());
        facts.leftovers = vec![
            made("Ingress", "cicd"),
            made("HorizontalPodAutoscaler", "cicd"),
            made("ConfigMap", "somebody"),
            made("PersistentVolumeClaim", "cicd"),
        ];
        let mut shared = made("Secret", "cicd/p/staging");
        let theirs = made("Secret", "cicd/q/staging").metadata.managed_fields;
        shared
            .metadata
            .managed_fields
            .iter_mut()
            .for_each(|all| all.extend(theirs.clone().into_iter().flatten()));
        facts.leftovers.push(shared);
        let plan = planned(facts, Some(Vec::new()));
        assert_eq!(
            shown(&plan),
            [
                "Delete HorizontalPodAutoscaler/p ",
                "Delete Ingress/p ",
                "Update Secret/p left to cicd/q/staging, who want it too",
            ]
        );
        assert_eq!(
            plan.removals.iter().map(|removal| removal.first).collect::<Vec<_>>(),
            [false, true, false]
        );
    }

    #[test]
    fn the_way_back_leads_to_what_was_good() {
        let wanted = || deployment(Some(2));
        let good = object(deployment(Some(9)));
        let cases = [
            ("recorded", Some(live(wanted(), 0, "cicd")), Some(vec![good.clone()]), Some(9)),
            ("first deploy", None, None, None),
            ("a first deploy that failed, again", Some(live(wanted(), 0, "cicd")), None, None),
            (
                "something else deployed it, and it is well",
                Some(live(deployment(Some(5)), 5, "helm")),
                None,
                Some(5),
            ),
            (
                "something else deployed it, and it is not well",
                Some(live(deployment(Some(5)), 4, "helm")),
                None,
                None,
            ),
        ];
        for (name, live, good, replicas) in cases {
            let plan = planned(facts(vec![observed(wanted(), live, wanted())]), good);
            let back = plan
                .way_back
                .state()
                .and_then(|state| state.documents.objects[0].value()["spec"]["replicas"].as_i64());
            assert_eq!(back, replicas, "{name}");
            if let WayBack::ToFound(found) = &plan.way_back {
                let objects = &found.documents.objects;
                assert!(
                    objects[0].value().get("status").is_none()
                        && objects[0].value().pointer("/metadata/uid").is_none()
                );
            }
        }
    }

    #[test]
    fn what_a_person_put_in_place_of_the_good_state_is_gone_back_to_if_it_runs() {
        let good = || Some(vec![object(deployment(Some(9)))]);
        for (available, by_hand, replicas) in [(5, true, 5), (4, true, 9), (5, false, 9)] {
            let found = Some(live(deployment(Some(5)), available, "kubectl-rollout"));
            let mut facts = facts(vec![observed(deployment(Some(2)), found, deployment(Some(2)))]);
            facts.good_is_live = !by_hand;
            let plan = planned(facts, good());
            let state = plan.way_back.state().expect("a way back");
            assert_eq!(state.documents.objects[0].value()["spec"]["replicas"], replicas);
        }
    }
}
