//! Writes to the cluster what the plan says.

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::Eks;
use super::api::{Apply, as_ours};
use super::object::{Key, Object, number, text};
use super::plan::{EksPlan, Write, order_of};
use super::rollback::image_of;
use crate::deploy::{Action, storage};
use crate::error::{Error, Kind, Result};

/// Requests at the same time.
const CONCURRENCY: usize = 8;
/// Holds a Deployment's count between us and the autoscaler.
const REPLICAS_MANAGER: &str = "cicd-replicas";

impl Eks {
    /// Applies the plan's writes, in order.
    pub(super) async fn write(&self, plan: &EksPlan) -> Result<()> {
        // Buckets first: containers may look for them at their start. They are never taken back.
        storage::apply(&plan.buckets, &self.session).await?;
        for removal in plan.removals.iter().filter(|removal| removal.first) {
            self.remove(&removal.key, &removal.uid).await?;
        }
        for write in &plan.writes {
            if let Some(count) = write.hand_over_replicas {
                self.hand_over(write, count).await?;
            }
        }
        let writes = plan.writes.iter().map(|write| (&write.object, write.force)).collect();
        let created: Vec<String> = plan
            .writes
            .iter()
            .filter(|write| write.action == Action::Create)
            .map(|write| write.object.id())
            .collect();
        self.done().creating = created;
        let generation = self.apply_all(writes).await?;
        self.done().generation = generation;
        Ok(())
    }

    /// Applies objects, those of one rank of [`order_of`] at the same time. Gives the generation of
    /// the service's own Deployment after it, when that is among them.
    pub(super) async fn apply_all(&self, mut objects: Vec<(&Object, bool)>) -> Result<Option<i64>> {
        objects.sort_by_key(|(object, _)| order_of(object.kind()));
        let mut generation = None;
        for rank in
            objects.chunk_by(|(one, _), (next, _)| order_of(one.kind()) == order_of(next.kind()))
        {
            let applied: Vec<Value> =
                stream::iter(rank.iter().map(|(object, force)| self.apply_one(object, *force)))
                    .buffer_unordered(CONCURRENCY)
                    .try_collect()
                    .await?;
            let own = applied.iter().find(|value| self.is_own_deployment(value));
            generation = own.map(|value| number(value, "/metadata/generation")).or(generation);
        }
        Ok(generation)
    }

    fn is_own_deployment(&self, value: &Value) -> bool {
        text(value, "/kind") == "Deployment"
            && text(value, "/metadata/name") == self.order.settings.name
    }

    async fn apply_one(&self, object: &Object, force: bool) -> Result<Value> {
        // Without an answer nobody knows whether it was written, so it counts as written from here
        // on.
        self.done().wrote = true;
        let applied = self.api.apply(object, as_ours(false, force)).await;
        let applied =
            applied.map_err(|failure| self.explain(&failure, &format!("apply {}", object.id())))?;
        let mut done = self.done();
        if done.creating.contains(&object.id()) {
            let uid = text(&applied, "/metadata/uid").to_string();
            done.created.push((object.key(), uid));
        }
        if self.is_own_deployment(&applied) {
            done.deployed = Some((text(&applied, "/metadata/uid").to_string(), image_of(&applied)));
        }
        Ok(applied)
    }

    /// Gives the Deployment's count an owner of its own, with the value it has. When we then let go
    /// of it, it stays.
    /// <https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership>
    async fn hand_over(&self, write: &Write, count: i64) -> Result<()> {
        let key = write.object.key();
        let count = json!({
            "apiVersion": key.api_version,
            "kind": key.kind,
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": {"replicas": count},
        });
        let object = Object::new(count).map_err(Error::unexpected)?;
        self.done().wrote = true;
        let how = Apply { dry_run: false, force: true, manager: REPLICAS_MANAGER };
        let attempt = format!("leave the replicas of {} to the autoscaler", key.id());
        self.api
            .apply(&object, how)
            .await
            .map(|_| ())
            .map_err(|failure| self.explain(&failure, &attempt))
    }

    async fn remove(&self, key: &Key, uid: &str) -> Result<()> {
        self.done().wrote = true;
        let attempt = format!("delete {}", key.id());
        self.api.delete(key, uid).await.map_err(|failure| self.explain(&failure, &attempt))
    }

    /// After success: removes what is wanted no more, and writes down what is good now.
    pub(super) async fn finish(&self, plan: &EksPlan) -> Result<()> {
        self.clear_and_record(plan).await.map_err(|error| Error {
            kind: Kind::Unexpected,
            message: format!("the new version runs, but {}", error.message),
            fixes: match error.fixes.is_empty() {
                true => vec!["run the deploy again: it only does what is left".into()],
                false => error.fixes.clone(),
            },
            ..error
        })
    }

    async fn clear_and_record(&self, plan: &EksPlan) -> Result<()> {
        for removal in plan.removals.iter().filter(|removal| !removal.first) {
            self.remove(&removal.key, &removal.uid).await?;
        }
        let Some(record) = &plan.record else { return Ok(()) };
        let secret = record.to_secret(&self.order.settings.name, &self.caller.namespace)?;
        let attempt = format!("record the last good state in {}", secret.id());
        let recorded = self.api.apply(&secret, as_ours(false, true)).await;
        recorded.map(|_| ()).map_err(|failure| self.explain(&failure, &attempt))
    }
}
