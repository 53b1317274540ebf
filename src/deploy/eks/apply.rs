//! Writes to the cluster what the plan says.

use futures::{StreamExt, stream};
use serde_json::json;

use super::api::{Apply, as_if, for_good};
use super::diff;
use super::managers::{REPLICAS, hand_over};
use super::object::{Key, LiveObject, Object};
use super::observe::Restarts;
use super::plan::{EksPlan, Removal, order_of};
use super::refusal::Failure;
use super::verdict::RolloutVerdict;
use super::watch::{Look, Watching};
use super::written::EksWritten;
use super::{Eks, name_manager};
use crate::deploy::pen::Pen;
use crate::deploy::storage;
use crate::deploy::target::{Permit, Target};
use crate::error::{Error, Kind, Result};

/// Requests at the same time.
const CONCURRENCY: usize = 8;
/// Looks for what a lost answer was about, before it counts as not carried out.
const LOOKS: u32 = 4;
/// Times that the managers of an object are read anew, because it changed meanwhile.
const HAND_OVERS: u32 = 5;

impl Eks {
    /// Applies the plan's writes, in order.
    pub(super) async fn write_plan(
        &self,
        plan: &EksPlan,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        // Buckets first: containers may look for them at their start. They are never taken back.
        let pen = Pen::new(permit, &written.buckets);
        storage::apply(&plan.buckets, &self.session, pen).await?;
        for removal in plan.removals.iter().filter(|removal| removal.first) {
            self.remove_object(plan, removal, written, permit).await?;
        }
        for write in plan.writes.iter().filter(|write| write.takes_over) {
            self.take_over(plan, &write.object, written, permit).await?;
        }
        for write in &plan.writes {
            if let Some(count) = write.hand_over_replicas {
                self.hand_over_replicas(&write.object, count, written, permit).await?;
            }
        }
        let mut writes: Vec<_> =
            plan.writes.iter().map(|write| (&write.object, write.force)).collect();
        if let Some(canary) = &plan.canary {
            // What the new copies refer to comes before them.
            let is_before = |object: &Object| order_of(object.kind()) < order_of("Service");
            let before = writes.extract_if(.., |(object, _)| is_before(object)).collect();
            self.apply_objects(plan, before, written, permit).await?;
            self.run_canary(plan, canary, written, permit).await?;
        }
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
            let answers: Vec<_> = stream::iter(rank.iter().map(|(object, force)| async move {
                (*object, self.apply_object(plan, object, *force, permit).await)
            }))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
            // All answers of a rank are noted before the first failure ends it.
            let mut failed = None;
            for (object, answer) in answers {
                match answer {
                    Ok(applied) => written.note(object.key(), &applied, plan.creates(object)),
                    Err(failure) => {
                        if failure.may_have_written {
                            written.note_doubt(object.key());
                        }
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

    /// Applies an object. After a lost answer it is looked up whether that was carried out.
    pub(super) async fn apply_object(
        &self,
        plan: &EksPlan,
        object: &Object,
        force: bool,
        permit: Permit<'_>,
    ) -> Result<LiveObject, Failure> {
        let manager = name_manager(&plan.wanted);
        let how = for_good(&manager, force);
        let failure = match self.api.apply(object, how, Some(permit)).await {
            Err(failure) if failure.may_have_written => failure,
            answer => return answer,
        };
        for look in 1..=LOOKS {
            let finding = self.find_as_sent(plan, object);
            match tokio::time::timeout_at(permit.deadline().into(), finding).await {
                Ok(Ok(Some(live))) => return Ok(live),
                Ok(Ok(None)) => {}
                Ok(Err(_)) | Err(_) => return Err(failure),
            }
            // It may be carried out yet.
            if look < LOOKS {
                tokio::time::sleep(Self::INTERVAL).await;
            }
        }
        // It stands as it did: nothing was written.
        Err(Failure { may_have_written: false, ..failure })
    }

    /// The live object, if it is what an apply of `object` makes: another apply would change
    /// nothing.
    pub(super) async fn find_as_sent(
        &self,
        plan: &EksPlan,
        object: &Object,
    ) -> Result<Option<LiveObject>, Failure> {
        let Some(live) = self.api.get(&object.key()).await? else { return Ok(None) };
        let manager = name_manager(&plan.wanted);
        let applied = self.api.apply(object, as_if(&manager, true), None).await?;
        Ok(diff::lines(&live, &applied).is_empty().then_some(live))
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
            written,
            restarts_before: &Restarts::new(),
        };
        let mut watching = Watching::default();
        loop {
            permit.check().await?;
            let looking = self.judge_rollout(look, &mut watching);
            match tokio::time::timeout_at(permit.deadline().into(), looking).await {
                Ok(Ok(RolloutVerdict::Healthy { .. })) => return Ok(()),
                Ok(Err(error)) if error.kind != Kind::Unexpected => return Err(error),
                _ => self.await_change(&watching).await,
            }
        }
    }

    /// Gives the Deployment's count an owner of its own, with the value it has. When we then let go
    /// of it, it stays.
    /// <https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership>
    pub(super) async fn hand_over_replicas(
        &self,
        object: &Object,
        count: i64,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let key = object.key();
        let count = json!({
            "apiVersion": key.api_version,
            "kind": key.kind,
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": {"replicas": count},
        });
        let object = Object::new(count).map_err(Error::unexpected)?;
        let how = Apply { dry_run: false, force: true, manager: REPLICAS };
        let handed = self.api.apply(&object, how, Some(permit)).await.map(drop);
        note_end(written, handed)
    }

    /// Makes the fields of former managers ours, so that what we do not set goes.
    async fn take_over(
        &self,
        plan: &EksPlan,
        object: &Object,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let (key, manager) = (object.key(), name_manager(&plan.wanted));
        for attempt in 1.. {
            let Some(live) = self.api.get(&key).await? else { break };
            let Some(entries) = hand_over(&live, object, &manager) else { break };
            let version = live.metadata.resource_version.as_deref();
            match self.api.set_managers(&key, version, &entries, permit).await {
                Err(failure) if failure.code() == Some(409) && attempt < HAND_OVERS => {}
                end => {
                    note_end(written, end)?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Removes what is wanted no more, or lets go of what others want.
    pub(super) async fn remove_object(
        &self,
        plan: &EksPlan,
        removal: &Removal,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let bare = Object::bare(&removal.key).filter(|_| !removal.claims.is_empty());
        let Some(bare) = bare else {
            return self.delete_object(&removal.key, &removal.uid, written, permit).await;
        };
        let manager = name_manager(&plan.wanted);
        let released = self.api.apply(&bare, for_good(&manager, false), Some(permit)).await;
        note_end(written, released.map(drop))
    }

    /// Deletes the object with `uid`, and notes that in `written`.
    pub(super) async fn delete_object(
        &self,
        key: &Key,
        uid: &str,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        note_end(written, self.api.delete(key, uid, Some(permit)).await)
    }
}

/// Notes a write by how it ended: a refusal wrote nothing.
fn note_end(written: &mut EksWritten, end: Result<(), Failure>) -> Result<()> {
    written.touched |= end.as_ref().map_or_else(|failure| failure.may_have_written, |()| true);
    Ok(end?)
}
