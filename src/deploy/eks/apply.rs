//! Writes to the cluster what the plan says.

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::api::{Apply, as_ours};
use super::object::{Key, Object, number, text};
use super::plan::{EksPlan, ObjectWrite, order_of};
use super::rollback::identity_of;
use super::{Eks, EksWritten};
use crate::deploy::storage;
use crate::deploy::target::Permit;
use crate::error::{Error, Result};

/// Requests at the same time.
const CONCURRENCY: usize = 8;
/// Holds a Deployment's count between us and the autoscaler.
const REPLICAS_MANAGER: &str = "cicd-replicas";

impl Eks {
    /// Applies the plan's writes, in order.
    pub(super) async fn write_plan(
        &self,
        plan: &EksPlan,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        // Buckets first: containers may look for them at their start. They are never taken back.
        permit.check()?;
        storage::apply(&plan.buckets, &self.session).await?;
        for removal in plan.removals.iter().filter(|removal| removal.first) {
            permit.check()?;
            written.wrote = true;
            self.remove_object(&removal.key, &removal.uid).await?;
        }
        for write in &plan.writes {
            if let Some(count) = write.hand_over_replicas {
                permit.check()?;
                written.wrote = true;
                self.hand_over_replicas(write, count).await?;
            }
        }
        let writes = plan.writes.iter().map(|write| (&write.object, write.force)).collect();
        written.generation = self.apply_objects(plan, writes, written, permit).await?;
        Ok(())
    }

    /// Applies objects, those of one rank of [`order_of`] at the same time. Returns the generation
    /// of the service's own Deployment after it, when that is among them.
    pub(super) async fn apply_objects(
        &self,
        plan: &EksPlan,
        mut objects: Vec<(&Object, bool)>,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<Option<i64>> {
        objects.sort_by_key(|(object, _)| order_of(object.kind()));
        let mut generation = None;
        for rank in
            objects.chunk_by(|(one, _), (next, _)| order_of(one.kind()) == order_of(next.kind()))
        {
            permit.check()?;
            let answers: Vec<(&Object, Result<Value, ApplyFailure>)> =
                stream::iter(rank.iter().map(|(object, force)| async move {
                    (*object, self.apply_object(object, *force).await)
                }))
                .buffer_unordered(CONCURRENCY)
                .collect()
                .await;
            // All answers of a rank are noted before the first failure ends it.
            let mut failed = None;
            for (object, answer) in answers {
                match answer {
                    Ok(applied) => {
                        written.wrote = true;
                        if plan.creates(object) {
                            let uid = text(&applied, "/metadata/uid").to_string();
                            written.created.push((object.key(), uid));
                        }
                        if object.key() == self.deployment_key(&plan.wanted.service) {
                            written.deployed = Some(identity_of(&applied));
                            generation = Some(number(&applied, "/metadata/generation"));
                        }
                    }
                    Err(failure) => {
                        // Without an answer nobody knows whether it was written.
                        written.wrote |= failure.may_have_written;
                        failed = failed.or(Some(failure.error));
                    }
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(generation)
    }

    async fn apply_object(&self, object: &Object, force: bool) -> Result<Value, ApplyFailure> {
        let applied = self.api.apply(object, as_ours(false, force)).await;
        applied.map_err(|failure| ApplyFailure {
            // The API server's refusal (4xx) of one object says that it wrote nothing of it.
            may_have_written: !failure.code().is_some_and(|code| (400..500).contains(&code)),
            error: self.explain(&failure, &format!("apply {}", object.id())),
        })
    }

    /// Gives the Deployment's count an owner of its own, with the value it has. When we then let go
    /// of it, it stays.
    /// <https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership>
    async fn hand_over_replicas(&self, write: &ObjectWrite, count: i64) -> Result<()> {
        let key = write.object.key();
        let count = json!({
            "apiVersion": key.api_version,
            "kind": key.kind,
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": {"replicas": count},
        });
        let object = Object::new(count).map_err(Error::unexpected)?;
        let how = Apply { dry_run: false, force: true, manager: REPLICAS_MANAGER };
        let attempt = format!("leave the replicas of {} to the autoscaler", key.id());
        self.api
            .apply(&object, how)
            .await
            .map(|_| ())
            .map_err(|failure| self.explain(&failure, &attempt))
    }

    pub(super) async fn remove_object(&self, key: &Key, uid: &str) -> Result<()> {
        let attempt = format!("delete {}", key.id());
        self.api.delete(key, uid).await.map_err(|failure| self.explain(&failure, &attempt))
    }
}

/// An object that could not be applied.
struct ApplyFailure {
    error: Error,
    may_have_written: bool,
}
