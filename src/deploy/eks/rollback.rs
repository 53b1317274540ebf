//! The rollback to the last good state.
//!
//! Applying it again gives the Deployment the pod template it had, so that its old ReplicaSet,
//! whose pods may still run, is used again, and the next deploy of that state finds nothing to do.

use serde_json::Value;

use super::object::{Key, Object, number, text};
use super::plan::{EksPlan, WayBack};
use super::verdict::RolloutVerdict;
use super::watch::{Memory, Restarts};
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
        permit.check()?;
        let generation = match &plan.way_back {
            WayBack::ToFound(objects) => self.replace_objects(service, objects, permit).await?,
            _ => {
                let objects = objects.iter().map(|object| (object, true)).collect();
                self.apply_objects(plan, objects, written, permit).await?
            }
        };
        let kept: Vec<Key> = objects.iter().map(Object::key).collect();
        let created = std::mem::take(&mut written.created);
        for (key, uid) in created.iter().filter(|(key, _)| !kept.contains(key)) {
            permit.check()?;
            self.remove_object(key, uid).await?;
        }
        let generation = generation.unwrap_or(plan.generation);
        self.wait_until_healthy(service, generation).await.map(RolledBack::ToGood)
    }

    /// Replaces objects by what they were when they were found. An apply would leave what defaults
    /// have made of our fields meanwhile (the old name of a pod's service account is one).
    async fn replace_objects(
        &self,
        service: &str,
        objects: &[Object],
        permit: Permit<'_>,
    ) -> Result<Option<i64>> {
        let mut generation = None;
        for object in objects {
            permit.check()?;
            let attempt = format!("restore {}", object.id());
            let replaced = self
                .api
                .replace(object)
                .await
                .map_err(|failure| self.explain(&failure, &attempt))?;
            if object.key() == self.deployment_key(service) {
                generation = Some(number(&replaced, "/metadata/generation"));
            }
        }
        Ok(generation)
    }

    /// Waits as long as the engine lets it.
    async fn wait_until_healthy(&self, service: &str, generation: i64) -> Result<String> {
        let (before, mut memory) = (Restarts::new(), Memory::default());
        loop {
            match self.judge_rollout(service, generation, &before, &mut memory).await? {
                RolloutVerdict::Healthy { revision } => return Ok(revision),
                RolloutVerdict::Progressing(_) => tokio::time::sleep(Self::INTERVAL).await,
                RolloutVerdict::Failed(troubles) => {
                    let why: Vec<String> = troubles
                        .iter()
                        .map(|trouble| format!("{}: {}", trouble.object, trouble.reason))
                        .collect();
                    let headline = "the last good version does not run either";
                    return Err(Error::new(Kind::Broken, headline).why(why.join("; ")));
                }
            }
        }
    }

    /// Undoing is only ours to do while what stands there is what we put there.
    async fn refuse_superseded(&self, service: &str, written: &EksWritten) -> Result<()> {
        let Some(deployed) = &written.deployed else { return Ok(()) };
        let live = self
            .api
            .get(&self.deployment_key(service))
            .await
            .map_err(|failure| self.explain(&failure, "read the Deployment"))?;
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
pub(super) fn identity_of(deployment: &Value) -> (String, String) {
    (text(deployment, "/metadata/uid").to_string(), image_of(deployment))
}

/// The image of the first container: ours is the only one.
pub(super) fn image_of(deployment: &Value) -> String {
    text(deployment, "/spec/template/spec/containers/0/image").to_string()
}
