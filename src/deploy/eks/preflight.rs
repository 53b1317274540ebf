//! The preflight of a deploy: reads what stands there, has the API server try what is to come, and
//! refuses what cannot work before the first write, each with its fix.

use std::collections::BTreeSet;

use futures::future::{join, join_all, try_join_all};
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::api::as_if;
use super::canary::{self, CanaryPlan};
use super::managers::{
    drop_left_fields, hand_over, is_changed_by_hand, is_managed_by, may_take_over,
};
use super::object::{Key, LiveObject, Object};
use super::plan::{ObservedMigration, ObservedObject, find_canary, holds_data};
use super::refusal::{Failure, cannot_change, not_admitted, not_permitted, owned_by_others};
use super::written::Identity;
use super::{Eks, EksDocuments, SecretNeed, name_manager};
use crate::deploy::target::Goal;
use crate::error::{Code, Error, Refusals, Result};

impl Eks {
    /// One object as it is and as it would be. `autoscaler_goes`: its count is ours from now on.
    pub(super) async fn observe_object(
        &self,
        object: &Object,
        goal: &Goal<EksDocuments>,
        autoscaler_goes: bool,
    ) -> Result<ObservedObject> {
        let (documents, manager) = (&goal.wanted.documents, name_manager(&goal.wanted));
        let dry = |force| self.api.apply(object, as_if(&manager, force), None);
        let key = object.key();
        let (live, answer) = join(self.api.get(&key), dry(false)).await;
        let live = live?;
        let mut conflicts = answer.as_ref().err().map(Failure::conflicts).unwrap_or_default();
        if autoscaler_goes {
            conflicts.retain(|(manager, field)| {
                !(manager == "kube-controller-manager" && field == ".spec.replicas")
            });
        }
        if !conflicts.iter().all(|(manager, _)| may_take_over(manager)) {
            return Err(owned_by_others(&object.id(), &conflicts));
        }
        let force = answer.as_ref().err().is_some_and(|failure| !failure.conflicts().is_empty());
        let mut dry_run = match if force { dry(true).await } else { answer } {
            // What it needs is made in the same deploy: nothing can be tried before.
            Err(failure) if failure.code() == Some(404) && live.is_none() => {
                let introduction = find_introduction(&documents.objects, &key);
                introduction.and_then(|_| object.to_dynamic()).ok_or(failure)?
            }
            Err(failure) if live.is_some() && failure.says_immutable() => {
                return Err(cannot_change(&key, &failure));
            }
            answer => answer?,
        };
        let is_ours = |live: &LiveObject| is_managed_by(&live.metadata, |found| found == manager);
        let claims = live.as_ref().is_some_and(|live| !is_ours(live)) && is_ours(&dry_run);
        let before = live.as_ref().filter(|live| hand_over(live, object, &manager).is_some());
        if let Some(before) = before {
            drop_left_fields(&mut dry_run, before, object, &manager);
            dry_run.metadata.managed_fields = None;
            // Who may not replace it is shown it without defaults.
            dry_run = self.api.try_replacement(&dry_run, &key).await.unwrap_or(dry_run);
        }
        let takes_over = before.is_some();
        Ok(ObservedObject { object: object.clone(), live, dry_run, force, takes_over, claims })
    }

    /// A Secret that a container needs has to be there before the container. Who may not look goes
    /// without this check.
    pub(super) async fn refuse_missing_secrets(&self, documents: &EksDocuments) -> Result<()> {
        let mut refusals = Refusals::default();
        for SecretNeed { variable, secret, key } in &documents.needs {
            let namespace = &self.caller.namespace;
            let at = Key::new("v1", "Secret", namespace, secret);
            // One of the manifests may be it.
            if documents.secret_keys.contains(&at) {
                continue;
            }
            let lack = match self.api.list_secret_keys(&at).await {
                Ok(None) => format!("Secret {secret}"),
                Ok(Some(keys)) if !keys.contains(key) => {
                    format!("key {key} in the Secret {secret}")
                }
                Err(failure) if failure.code() != Some(403) => return Err(failure.into()),
                _ => continue,
            };
            let headline = format!(
                "cannot give `{variable}` its value: the namespace {namespace} has no {lack}, which \
                 `secrets` names"
            );
            let refused = Error::refused(headline).code(Code::SecretUnavailable).fix(format!(
                "create it: kubectl -n {namespace} create secret generic {secret} \
                 --from-literal={key}=…"
            ));
            refusals.keep::<()>(Err(refused));
        }
        refusals.conclude(Some(()))
    }

    /// The Job of `before-deploy`, if it is to run: whether the API server takes it, and whether an
    /// earlier run did it.
    pub(super) async fn observe_migration(
        &self,
        goal: &Goal<EksDocuments>,
    ) -> Result<Option<ObservedMigration>> {
        let job = goal.wanted.documents.migration.as_ref().filter(|_| goal.migrates);
        let Some(job) = job else { return Ok(None) };
        let live = self.api.get(&job.key()).await?;
        if live.is_none() {
            let manager = name_manager(&goal.wanted);
            self.api.apply(job, as_if(&manager, false), None).await?;
        }
        Ok(Some(ObservedMigration { job: job.clone(), live }))
    }

    /// The live objects of the last good state, and of runs since that came to nothing, that are no
    /// longer wanted.
    pub(super) async fn read_leftovers(
        &self,
        goal: &Goal<EksDocuments>,
    ) -> Result<Vec<LiveObject>> {
        let wanted = goal.wanted.documents.keys();
        let good = goal.good.as_ref().map(|good| &good.state);
        let states = good.into_iter().chain(&goal.left);
        let old = states.flat_map(|state| {
            let canary = canary::list_keys(&state.documents, &state.service);
            state.documents.keys().into_iter().chain(canary)
        });
        let mut gone: Vec<Key> = Vec::new();
        for key in old {
            // Of another version of its API it is the same object.
            if !wanted.iter().chain(&gone).any(|known| known.is_same(&key)) {
                gone.push(key);
            }
        }
        let live = try_join_all(gone.iter().map(|key| self.api.get(key))).await?;
        Ok(live.into_iter().flatten().collect())
    }

    /// What runs is what the last good state says, as far as its own Deployment goes.
    pub(super) async fn is_good_live(
        &self,
        goal: &Goal<EksDocuments>,
        observed: &[ObservedObject],
    ) -> Result<bool> {
        let service = &goal.wanted.service;
        let is_own = |object: &&Object| object.is_deployment_of(service);
        let good = goal.good.as_ref().map(|good| &good.state.documents.objects);
        let good = good.and_then(|objects| objects.iter().find(is_own));
        let own = observed.iter().find(|observed| is_own(&&observed.object));
        let live = own.and_then(|own| own.live.as_ref()).filter(|live| is_changed_by_hand(live));
        let (Some(good), Some(live)) = (good, live) else { return Ok(true) };
        let manager = name_manager(&goal.wanted);
        // One that the API server does not take any more is not what runs.
        let made = self.api.apply(good, as_if(&manager, true), None).await;
        Ok(made.is_ok_and(|made| Identity::of(&made).is_same(&Identity::of(live))))
    }

    /// Has the API server make a pod of each template that is new, as if: quota, limits and the
    /// namespace's Pod Security Standard are asked about pods only. Who may not goes without.
    pub(super) async fn try_pods(&self, observed: &[ObservedObject]) -> Result<()> {
        let is_new = |kind: &str, name: &str| {
            let found = observed.iter().map(|observed| (&observed.object, &observed.live));
            found.into_iter().any(|(object, live)| {
                object.kind() == kind && object.name() == name && live.is_none()
            })
        };
        for ObservedObject { object, live, dry_run, .. } in observed {
            let Some(mut pod) = pod_of_change(live.as_ref(), dry_run) else { continue };
            // An account that comes with this deploy is none yet.
            let account = pod.pointer("/spec/serviceAccountName").and_then(Value::as_str);
            if account.is_some_and(|account| is_new("ServiceAccount", account)) {
                pod["spec"]["serviceAccountName"] = "default".into();
                pod["spec"]["serviceAccount"] = "default".into();
            }
            let own = &self.caller.namespace;
            let namespace = object.key().namespace.unwrap_or_else(|| own.clone());
            let Ok(pod) = serde_json::from_value::<Pod>(pod) else { continue };
            let Err(failure) = self.api.try_pod(&namespace, &pod).await else { continue };
            if failure.refuses_pod() && !self.quota_passes(&failure, live, dry_run).await {
                return Err(not_admitted(&object.id(), &failure));
            }
        }
        Ok(())
    }

    /// Whether room in a quota is made by what goes: pods on their way out, or the old ones where
    /// they go first.
    async fn quota_passes(
        &self,
        failure: &Failure,
        live: &Option<LiveObject>,
        dry_run: &LiveObject,
    ) -> bool {
        if !failure.says_quota_is_full() {
            return false;
        }
        let unavailable = dry_run.data.pointer("/spec/strategy/rollingUpdate/maxUnavailable");
        let surges = live.is_none() || unavailable.is_some_and(|count| *count == json!(0));
        let pods = self.api.list::<Pod>(&self.caller.namespace, &ListParams::default()).await;
        let leaves = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        !surges || pods.is_ok_and(|pods| pods.iter().any(leaves))
    }

    /// Has the API server try what a canary would make.
    pub(super) async fn try_canary(
        &self,
        goal: &Goal<EksDocuments>,
        observed: &[ObservedObject],
    ) -> Result<()> {
        let manager = name_manager(&goal.wanted);
        let canary = find_canary(goal, observed);
        for object in canary.iter().flat_map(CanaryPlan::objects) {
            self.api.apply(object, as_if(&manager, false), None).await?;
        }
        Ok(())
    }

    /// What this deploy may have to do, and no dry run has tried: to delete what goes or what it
    /// makes, and to look at the pods' makers.
    ///
    /// # Errors
    /// Refused, with the rule to add. Who may not ask goes without.
    pub(super) async fn refuse_unpermitted(
        &self,
        goal: &Goal<EksDocuments>,
        observed: &[ObservedObject],
        leftovers: &[LiveObject],
    ) -> Result<()> {
        let goes = leftovers.iter().filter_map(|live| Some(Object::from_live(live)?.key()));
        // A first deploy leaves what it made.
        let is_made = |observed: &&ObservedObject| observed.live.is_none() && goal.good.is_some();
        let made = observed.iter().filter(is_made).map(|observed| observed.object.key());
        let canary = find_canary(goal, observed);
        let canary = canary.iter().flat_map(CanaryPlan::objects).map(Object::key);
        let mut wanted = BTreeSet::new();
        for key in goes.chain(made).chain(canary).filter(|key| !holds_data(&key.kind)) {
            if let Ok((group, plural)) = self.api.find_names(&key).await {
                wanted.insert(("delete", group, plural, key.namespace));
            }
        }
        let is_changed = |observed: &ObservedObject| {
            pod_of_change(observed.live.as_ref(), &observed.dry_run).is_some()
                && observed.object.kind() == "Deployment"
        };
        if observed.iter().any(is_changed) {
            let namespace = Some(self.caller.namespace.clone());
            wanted.insert(("list", "apps".into(), "replicasets".into(), namespace));
        }
        let asked = wanted.iter().map(|(verb, group, plural, namespace)| async move {
            let what = ResourceAttributes {
                verb: Some((*verb).into()),
                group: Some(group.clone()),
                resource: Some(plural.clone()),
                namespace: namespace.clone(),
                ..ResourceAttributes::default()
            };
            let denied = matches!(self.api.may(&what).await, Ok(false));
            denied.then(|| not_permitted(verb, plural, group, &self.caller))
        });
        match join_all(asked).await.into_iter().flatten().next() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// The pod that a workload makes anew once it is as `dry_run`. `None` if its template stays, or it
/// makes none.
fn pod_of_change(live: Option<&LiveObject>, dry_run: &LiveObject) -> Option<Value> {
    let kind = dry_run.types.as_ref()?.kind.as_str();
    let at = match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => "/spec/template",
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    let template = dry_run.data.pointer(at)?;
    let is_same = live.and_then(|live| live.data.pointer(at)) == Some(template);
    if is_same || dry_run.data.pointer("/spec/replicas") == Some(&json!(0)) {
        return None;
    }
    let mut metadata = template.get("metadata").cloned().unwrap_or_else(|| json!({}));
    let name: String =
        dry_run.metadata.name.iter().flat_map(|name| name.chars()).take(50).collect();
    metadata["generateName"] = format!("{name}-").into();
    Some(json!({"metadata": metadata, "spec": template.get("spec")?}))
}

/// The object among `objects` without which the one of `key` cannot be made.
pub fn find_introduction<'a>(objects: &'a [Object], key: &Key) -> Option<&'a Object> {
    objects.iter().find(|object| object.introduces(key))
}
