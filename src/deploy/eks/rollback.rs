//! The rollback to the last good state: its writes. Whether it runs then, the engine watches as on
//! the way in.
//!
//! Applying that state again gives the Deployment the pod template it had, so that its old
//! ReplicaSet, whose pods may still run, is used again, and the next deploy of that state finds
//! nothing to do.

use std::time::Duration;

use super::Eks;
use super::api::Feed;
use super::object::{Key, Object};
use super::observe::{Memory, find_stuck_pods, has_seen_change};
use super::plan::{EksPlan, WayBack, holds_data, replicas_to_hand_over};
use super::written::{EksWritten, superseded};
use crate::deploy::target::{Permit, RolledBack, Target};
use crate::error::Result;

/// How long a StatefulSet's controller is waited for, that tells which pods are in its way.
const CONTROLLER: Duration = Duration::from_secs(10);

impl Eks {
    /// Applies the last good state again, and takes away what the failed deploy made.
    ///
    /// # Errors
    /// Superseded when somebody else changed a workload since we did.
    pub(super) async fn roll_back_to_good(
        &self,
        plan: &EksPlan,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<RolledBack> {
        self.remove_canary(plan, written, permit).await?;
        let Some(good) = plan.way_back.state() else {
            return Ok(RolledBack::ToNothing(format!(
                "what was created is left for looking at: kubectl -n {} describe deployment/{}",
                self.caller.namespace, plan.wanted.service
            )));
        };
        self.refuse_superseded(plan, written).await?;
        written.goes_back = true;
        let objects = &good.documents.objects;
        // What ended on the way in says nothing of the way back.
        written.restarts_before = self.read_restarts(objects).await.ok();
        match &plan.way_back {
            WayBack::ToFound(_) => self.replace_objects(objects, written, permit).await?,
            _ => {
                self.keep_replicas(objects, written, permit).await?;
                let objects = objects.iter().map(|object| (object, true)).collect();
                self.apply_objects(plan, objects, written, permit).await?;
            }
        }
        let kept: Vec<Key> = objects.iter().map(Object::key).collect();
        let created = std::mem::take(&mut written.created);
        for (key, uid) in created.iter().filter(|(key, _)| !kept.contains(key)) {
            match holds_data(&key.kind) {
                true => self.report.warn(format!("{} stays: data may be in it", key.id())),
                false => self.delete_object(key, uid, written, permit).await?,
            }
        }
        for object in objects.iter().filter(|object| object.kind() == "StatefulSet") {
            let freeing = self.free_stuck_pods(object, written, permit);
            // Who may not waits for somebody who does.
            if let Ok(Err(error)) = tokio::time::timeout(CONTROLLER, freeing).await {
                self.report.trace(error.to_string());
            }
        }
        Ok(RolledBack::Begun)
    }

    /// Replaces objects by what they were when they were found. An apply would leave what defaults
    /// have made of our fields meanwhile (the old name of a pod's service account is one).
    async fn replace_objects(
        &self,
        objects: &[Object],
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        for object in objects {
            let replaced = self.api.replace(object, Some(permit)).await?;
            written.note(object.key(), &replaced, false);
        }
        Ok(())
    }

    /// A count that the last good state leaves to an autoscaler, and that this run set, stays.
    async fn keep_replicas(
        &self,
        objects: &[Object],
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        for object in objects.iter().filter(|object| object.kind() == "Deployment") {
            let live = self.api.get(&object.key()).await?;
            if let Some(count) = live.and_then(|live| replicas_to_hand_over(object, &live)) {
                self.hand_over_replicas(object, count, written, permit).await?;
            }
        }
        Ok(())
    }

    /// Deletes the pods that keep a StatefulSet from going back, once its controller has seen that
    /// it is to.
    async fn free_stuck_pods(
        &self,
        object: &Object,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let seen = loop {
            let read = self
                .read_workload(object.key(), object, &Memory::default(), &Feed::default())
                .await?;
            let Some(seen) = read else { return Ok(()) };
            if has_seen_change(&seen) {
                break seen;
            }
            tokio::time::sleep(Self::INTERVAL).await;
        };
        for pod in find_stuck_pods(&seen) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let key = Key::new("v1", "Pod", namespace, name);
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            self.delete_object(&key, uid, written, permit).await?;
        }
        Ok(())
    }

    /// Undoing is only ours to do while what stands there is what our writes left.
    async fn refuse_superseded(&self, plan: &EksPlan, written: &mut EksWritten) -> Result<()> {
        let objects = &plan.wanted.documents.objects;
        for object in objects.iter().filter(|object| object.key().is_workload()) {
            let key = object.key();
            let is_ours = match written.unanswered.contains(&key) {
                true => match self.find_as_sent(plan, object).await? {
                    Some(live) => {
                        written.note(key.clone(), &live, plan.creates(object));
                        true
                    }
                    // It was not carried out, unless it is somebody else's by now.
                    None => {
                        let live = self.api.get(&key).await?;
                        let generation = live.and_then(|live| live.metadata.generation);
                        generation == plan.generation_before(&key)
                    }
                },
                false if written.workloads.contains_key(&key) => {
                    let live = self.api.get(&key).await?;
                    live.is_some_and(|live| written.is_ours(&key, &live))
                }
                false => true,
            };
            if !is_ours {
                return Err(superseded(&key));
            }
        }
        Ok(())
    }
}
