//! Writes to the cluster what the plan says.

use futures::{StreamExt, stream};
use serde_json::json;

use super::api::{Apply, as_ours};
use super::object::{Key, Object};
use super::observe::{Memory, Restarts};
use super::plan::{EksPlan, ObjectWrite, order_of};
use super::rollback::identity_of;
use super::verdict::RolloutVerdict;
use super::watch::Look;
use super::{Eks, EksWritten};
use crate::deploy::storage;
use crate::deploy::target::{Permit, Target};
use crate::error::{Error, Kind, Result};

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
        permit.check().await?;
        storage::apply(&plan.buckets, &self.session).await?;
        for removal in plan.removals.iter().filter(|removal| removal.first) {
            permit.check().await?;
            written.wrote = true;
            self.remove_object(&removal.key, &removal.uid, permit).await?;
        }
        for write in &plan.writes {
            if let Some(count) = write.hand_over_replicas {
                permit.check().await?;
                written.wrote = true;
                self.hand_over_replicas(write, count, permit).await?;
            }
        }
        let writes = plan.writes.iter().map(|write| (&write.object, write.force)).collect();
        self.apply_objects(plan, writes, written, permit).await
    }

    /// Applies objects, those of one rank of [`order_of`] at the same time.
    pub(super) async fn apply_objects(
        &self,
        plan: &EksPlan,
        mut objects: Vec<(&Object, bool)>,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        objects.sort_by_key(|(object, _)| order_of(object.kind()));
        for rank in
            objects.chunk_by(|(one, _), (next, _)| order_of(one.kind()) == order_of(next.kind()))
        {
            permit.check().await?;
            let answers: Vec<_> = stream::iter(rank.iter().map(|(object, force)| async move {
                (*object, self.api.apply(object, as_ours(false, *force), Some(permit)).await)
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
                        let (key, meta) = (object.key(), &applied.metadata);
                        if plan.creates(object) {
                            written
                                .created
                                .push((key.clone(), meta.uid.clone().unwrap_or_default()));
                        }
                        if key == self.deployment_key(&plan.wanted.service) {
                            written.deployed = Some(identity_of(&applied));
                        }
                        written.generations.insert(key, meta.generation.unwrap_or_default());
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
            for (object, _) in rank.iter().filter(|(object, _)| object.is_definition()) {
                self.wait_until_established(object, written, permit).await?;
            }
        }
        Ok(())
    }

    /// Waits until objects of a kind that was just defined can be made.
    async fn wait_until_established(
        &self,
        definition: &Object,
        written: &EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let look = Look {
            service: "",
            objects: std::slice::from_ref(definition),
            generations: &written.generations,
            restarts_before: &Restarts::new(),
        };
        loop {
            permit.check().await?;
            let mut memory = Memory::default();
            let looking = self.judge_rollout(look, &mut memory);
            match tokio::time::timeout_at(permit.deadline().into(), looking).await {
                Ok(Ok(RolloutVerdict::Healthy { .. })) => return Ok(()),
                Ok(Err(error)) if error.kind != Kind::Unexpected => return Err(error),
                _ => tokio::time::sleep(Self::INTERVAL).await,
            }
        }
    }

    /// Gives the Deployment's count an owner of its own, with the value it has. When we then let go
    /// of it, it stays.
    /// <https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership>
    async fn hand_over_replicas(
        &self,
        write: &ObjectWrite,
        count: i64,
        permit: Permit<'_>,
    ) -> Result<()> {
        let key = write.object.key();
        let count = json!({
            "apiVersion": key.api_version,
            "kind": key.kind,
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": {"replicas": count},
        });
        let object = Object::new(count).map_err(Error::unexpected)?;
        let how = Apply { dry_run: false, force: true, manager: REPLICAS_MANAGER };
        self.api.apply(&object, how, Some(permit)).await?;
        Ok(())
    }

    pub(super) async fn remove_object(
        &self,
        key: &Key,
        uid: &str,
        permit: Permit<'_>,
    ) -> Result<()> {
        Ok(self.api.delete(key, uid, Some(permit)).await?)
    }
}
