//! The rollback to the last good state.
//!
//! Applying it again gives the Deployment the pod template it had, so that its old ReplicaSet,
//! whose pods may still run, is used again, and the next deploy of that state finds nothing to do.

use super::object::{Key, LiveObject, Object};
use super::observe::{Memory, Restarts, find_stuck_pods, read_image};
use super::plan::{EksPlan, WayBack, holds_data};
use super::verdict::RolloutVerdict;
use super::watch::Look;
use super::{Eks, EksWritten};
use crate::deploy::target::{Permit, RolledBack, Target};
use crate::error::{Error, Kind, Result};

impl Eks {
    /// Applies the last good state again, and waits until it runs.
    ///
    /// # Errors
    /// Superseded when somebody else changed the Deployment since we did. Broken when the last good
    /// state does not come up.
    pub(super) async fn roll_back_to_good(
        &self,
        plan: &EksPlan,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<RolledBack> {
        let service = plan.wanted.service.as_str();
        let objects = match &plan.way_back {
            WayBack::ToGood(objects) | WayBack::ToFound(objects) => objects,
            WayBack::Nowhere => {
                let namespace = &self.caller.namespace;
                return Ok(RolledBack::ToNothing(format!(
                    "what was created is left for looking at: kubectl -n {namespace} describe \
                     deployment/{service}"
                )));
            }
        };
        self.refuse_superseded(service, written).await?;
        permit.check().await?;
        match &plan.way_back {
            WayBack::ToFound(objects) => self.replace_objects(objects, written, permit).await?,
            _ => {
                let objects = objects.iter().map(|object| (object, true)).collect();
                self.apply_objects(plan, objects, written, permit).await?;
            }
        }
        let kept: Vec<Key> = objects.iter().map(Object::key).collect();
        let created = std::mem::take(&mut written.created);
        for (key, uid) in created.iter().filter(|(key, _)| !kept.contains(key)) {
            permit.check().await?;
            match holds_data(&key.kind) {
                true => self.report.warn(format!("{} stays: data may be in it", key.id())),
                false => self.remove_object(key, uid, permit).await?,
            }
        }
        let restarts_before = &Restarts::new();
        let generations = &written.generations;
        let look = Look { service, objects, generations, restarts_before };
        self.wait_until_healthy(look, permit).await.map(RolledBack::ToGood)
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
            permit.check().await?;
            let replaced = self.api.replace(object, Some(permit)).await?;
            let generation = replaced.metadata.generation.unwrap_or_default();
            written.generations.insert(object.key(), generation);
        }
        Ok(())
    }

    /// Waits as long as the engine lets it.
    async fn wait_until_healthy(&self, look: Look<'_>, permit: Permit<'_>) -> Result<String> {
        let mut memory = Memory::default();
        loop {
            for object in look.objects.iter().filter(|object| object.kind() == "StatefulSet") {
                self.free_stuck_pods(object, permit).await;
            }
            match self.judge_rollout(look, &mut memory).await.map(|found| memory.confirm(found)) {
                Ok(RolloutVerdict::Healthy { revision }) => return Ok(revision),
                Ok(RolloutVerdict::Failed(troubles)) => {
                    let why: Vec<String> = troubles
                        .iter()
                        .map(|trouble| format!("{}: {}", trouble.object, trouble.reason))
                        .collect();
                    let headline = "the last good version does not run either";
                    return Err(Error::new(Kind::Broken, headline).why(why.join("; ")));
                }
                Err(error) if error.kind != Kind::Unexpected => return Err(error),
                // A look that fails says nothing of what comes up.
                Ok(RolloutVerdict::Progressing(_)) | Err(_) => {
                    tokio::time::sleep(Self::INTERVAL).await;
                }
            }
        }
    }

    /// Deletes what keeps a StatefulSet from going back. Who may not waits for somebody who does.
    async fn free_stuck_pods(&self, object: &Object, permit: Permit<'_>) {
        let read = self.read_workload(object.key(), object, &Memory::default()).await;
        let Ok(Some(seen)) = read else { return };
        for pod in find_stuck_pods(&seen) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let key = Key::new("v1", "Pod", namespace, name);
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            if permit.check().await.is_ok()
                && let Err(error) = self.remove_object(&key, uid, permit).await
            {
                self.report.trace(error.to_string());
            }
        }
    }

    /// Undoing is only ours to do while what stands there is what we put there.
    async fn refuse_superseded(&self, service: &str, written: &EksWritten) -> Result<()> {
        let Some(deployed) = &written.deployed else { return Ok(()) };
        let live = self.api.get(&self.deployment_key(service)).await?;
        if live.as_ref().is_some_and(|live| identity_of(live) == *deployed) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Superseded,
            format!("somebody else changed Deployment/{service} meanwhile"),
        )
        .fix("see what runs with `cicd status`; this run leaves it alone"))
    }
}

/// The uid and the image of a Deployment: together they tell whose it is.
pub(super) fn identity_of(deployment: &LiveObject) -> (String, String) {
    (deployment.metadata.uid.clone().unwrap_or_default(), read_image(deployment))
}
