//! The way back to the last good state ([`super::snapshot`]).
//!
//! Applying it again gives the Deployment the pod template it had, so that its old ReplicaSet,
//! whose pods may still run, is used again, and the next deploy of that state finds nothing to do.

use std::time::Duration;

use serde_json::Value;

use super::Eks;
use super::object::{Key, Object, number, text};
use super::plan::{EksPlan, Undo};
use super::verdict::Seen;
use crate::deploy::Restored;
use crate::error::{Error, Kind, Result};

/// How long the way back may take.
const PATIENCE: Duration = Duration::from_secs(120);
impl Eks {
    /// Back to the last good state, and waits until it runs.
    ///
    /// # Errors
    /// Superseded when somebody else changed the Deployment since we did. Broken when the last good
    /// state does not come up.
    pub(super) async fn restore(&self, plan: &EksPlan) -> Result<Restored> {
        let objects = match &plan.undo {
            Undo::To(objects) | Undo::Found(objects) => objects,
            Undo::Nothing => {
                let (name, namespace) = (&self.order.settings.name, &self.caller.namespace);
                return Ok(Restored::Nothing(format!(
                    "what was created is left for looking at: kubectl -n {namespace} describe deployment/{name}"
                )));
            }
        };
        self.refuse_superseded().await?;
        let generation = match &plan.undo {
            Undo::Found(objects) => self.put_back(objects).await?,
            _ => self.apply_all(objects.iter().map(|object| (object, true)).collect()).await?,
        };
        let kept: Vec<Key> = objects.iter().map(Object::key).collect();
        let created = self.done().created.clone();
        for (key, uid) in created {
            if !kept.contains(&key) {
                let attempt = format!("delete {}", key.id());
                self.api
                    .delete(&key, &uid)
                    .await
                    .map_err(|failure| self.explain(&failure, &attempt))?;
            }
        }
        let generation = generation.unwrap_or(plan.generation);
        match tokio::time::timeout(PATIENCE, self.until_back(generation)).await {
            Ok(revision) => revision.map(Restored::LastGood),
            Err(_) => Err(Error::new(
                Kind::Broken,
                format!("the last good version is not back within {} s", PATIENCE.as_secs()),
            )),
        }
    }

    /// Puts objects back as they were found. Replaced, not applied: an apply would leave what
    /// defaults have made of our fields meanwhile (the old name of a pod's service account is one).
    async fn put_back(&self, objects: &[Object]) -> Result<Option<i64>> {
        let mut generation = None;
        for object in objects {
            let attempt = format!("restore {}", object.id());
            let put = self
                .api
                .replace(object)
                .await
                .map_err(|failure| self.explain(&failure, &attempt))?;
            if object.key() == self.deployment_key() {
                generation = Some(number(&put, "/metadata/generation"));
            }
        }
        Ok(generation)
    }

    async fn until_back(&self, generation: i64) -> Result<String> {
        loop {
            match self.see(generation).await? {
                Seen::Ready { revision } => return Ok(revision),
                Seen::Progressing(_) => tokio::time::sleep(super::INTERVAL).await,
                Seen::Failed(troubles) => {
                    let why: Vec<String> = troubles
                        .iter()
                        .map(|trouble| format!("{}: {}", trouble.object, trouble.reason))
                        .collect();
                    return Err(Error::new(
                        Kind::Broken,
                        "the last good version does not run either",
                    )
                    .why(why.join("; ")));
                }
            }
        }
    }

    /// Undoing is only ours to do while what stands there is what we put there.
    async fn refuse_superseded(&self) -> Result<()> {
        let Some((uid, image)) = self.done().deployed.clone() else { return Ok(()) };
        let live = self
            .api
            .get(&self.deployment_key())
            .await
            .map_err(|failure| self.explain(&failure, "read the Deployment"))?;
        let now =
            live.as_ref().map(|live| (text(live, "/metadata/uid").to_string(), image_of(live)));
        if now == Some((uid, image)) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Superseded,
            format!("somebody else changed Deployment/{} meanwhile", self.order.settings.name),
        )
        .fix("see what runs with `cicd status`; this run leaves it alone"))
    }
}

/// The image of the first container: ours is the only one.
pub(super) fn image_of(deployment: &Value) -> String {
    text(deployment, "/spec/template/spec/containers/0/image").to_string()
}
