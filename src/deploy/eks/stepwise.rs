//! Leads a new version through the steps of its canary, and takes the canary away again.

use std::time::{Duration, Instant};

use super::Eks;
use super::canary::{CanaryPlan, Next, StepFacts, Tally, count_copies, decide};
use super::object::Object;
use super::observe::{Restarts, read_copies};
use super::plan::EksPlan;
use super::verdict::RolloutVerdict;
use super::watch::{Look, Watching};
use super::written::{EksWritten, Identity, superseded};
use crate::deploy::target::Permit;
use crate::error::{Code, Error, Kind, Result};

/// Time between two requests to the new version.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// A request that takes longer has failed.
const ASK_TIME: Duration = Duration::from_secs(5);

impl Eks {
    /// Makes copies of the new version beside the old one, more with each step, and holds each step
    /// for its time. They stay until the old ones are replaced.
    ///
    /// # Errors
    /// [`Kind::Broken`] when they are not healthy, or answer with errors; superseded when somebody
    /// else changed the service meanwhile, and then the canary is gone.
    pub(super) async fn run_canary(
        &self,
        plan: &EksPlan,
        canary: &CanaryPlan,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let led = self.lead_canary(plan, canary, written, permit).await;
        if led.as_ref().is_err_and(|error| error.kind == Kind::Superseded)
            && let Err(error) = self.remove_canary(plan, written, permit).await
        {
            self.report.warn(format!("{} stays: {error}", canary.deployment.id()));
        }
        led
    }

    async fn lead_canary(
        &self,
        plan: &EksPlan,
        canary: &CanaryPlan,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        for weight in &canary.canary.steps {
            let stable = self.read_stable(plan, written).await?;
            let copies = count_copies(stable, *weight);
            self.report.detail(format!(
                "canary, {weight} %: {copies} of {} copies are of the new version",
                copies + stable
            ));
            let deployment = canary.scale(copies);
            let objects = vec![(&canary.service, false), (&deployment, false)];
            self.apply_objects(plan, objects, written, permit).await?;
            self.hold_step(plan, canary, &deployment, written).await?;
        }
        self.read_stable(plan, written).await.map(drop)
    }

    /// The copies of the old version.
    ///
    /// # Errors
    /// Superseded when it is not what it was when this was asked for the first time.
    async fn read_stable(&self, plan: &EksPlan, written: &mut EksWritten) -> Result<u32> {
        let key = self.deployment_key(&plan.wanted.service);
        let live = self.api.get(&key).await?.ok_or_else(|| superseded(&key))?;
        if !written.is_ours(&key, &live) {
            return Err(superseded(&key));
        }
        written.workloads.entry(key).or_insert_with(|| Identity::of(&live));
        Ok(read_copies(&live).1)
    }

    /// Watches a step until it is over.
    async fn hold_step(
        &self,
        plan: &EksPlan,
        canary: &CanaryPlan,
        deployment: &Object,
        written: &EksWritten,
    ) -> Result<()> {
        let look = Look {
            service: deployment.name(),
            objects: std::slice::from_ref(deployment),
            written,
            restarts_before: &Restarts::new(),
        };
        let (mut watching, mut tally) = (Watching::default(), Tally::default());
        let (mut since, mut waits_for) = (None, String::new());
        loop {
            let waits = self.look_at_step(look, &mut watching).await?;
            let is_healthy = waits.is_none();
            if let Some(waits) = waits.filter(|waits| *waits != waits_for) {
                self.report.detail(&waits);
                waits_for = waits;
            }
            if is_healthy && since.is_none() {
                since = Some(now());
            }
            if since.is_some() {
                self.ask_canary(canary, plan.wanted.port, &mut tally).await;
            }
            let held = since.map(|since| since.elapsed()).unwrap_or_default();
            match decide(&canary.canary, StepFacts { is_healthy, held, tally }) {
                Next::GoOn if tally.answered > 0 => return Ok(()),
                Next::GoOn => {
                    let path = &canary.path;
                    self.report.warn(format!(
                        "cannot ask the new version for {path}: its probes are believed"
                    ));
                    return Ok(());
                }
                Next::Abort(why) => {
                    let headline = "cannot promote the canary: it answers with errors";
                    return Err(Error::new(Kind::Broken, headline)
                        .code(Code::SmokeCheckFailed)
                        .why(why)
                        .fix("see its log; where errors are expected, raise abort-on.errors"));
                }
                Next::Wait if since.is_some() => tokio::time::sleep(ASK_INTERVAL).await,
                Next::Wait => self.await_change(&watching).await,
            }
        }
    }

    /// What is waited for until the copies are healthy; `None` when they are.
    ///
    /// # Errors
    /// [`Kind::Broken`] when they will not be.
    async fn look_at_step(
        &self,
        look: Look<'_>,
        watching: &mut Watching,
    ) -> Result<Option<String>> {
        let verdict = match self.judge_rollout(look, watching).await {
            Ok(verdict) => watching.memory.confirm(verdict),
            // A look that fails says nothing of the version: the deadline bounds it.
            Err(error) if error.kind == Kind::Unexpected => {
                RolloutVerdict::Progressing(error.to_string())
            }
            Err(error) => return Err(error),
        };
        match verdict {
            RolloutVerdict::Healthy { .. } => Ok(None),
            RolloutVerdict::Progressing(what) => Ok(Some(what)),
            RolloutVerdict::Failed(troubles) => {
                let causes = self.explain_troubles(troubles).await;
                Err(Error::new(Kind::Broken, "cannot promote the canary: it does not run")
                    .causes(causes))
            }
        }
    }

    /// Asks the new version once.
    async fn ask_canary(&self, canary: &CanaryPlan, port: u16, tally: &mut Tally) {
        let asking = self.api.ask_service(canary.service.name(), port, &canary.path);
        match tokio::time::timeout(ASK_TIME, asking).await {
            Ok(Ok(200..=299)) => tally.answered += 1,
            Ok(Ok(_)) => tally.failed += 1,
            Err(_) => tally.unreached += 1,
            Ok(Err(failure)) if failure.says_shut_out().is_some() => tally.unreached += 1,
            // The API server's own trouble, or nobody may ask.
            Ok(Err(_)) => {}
        }
    }

    /// Removes what a canary of this deploy made.
    pub(super) async fn remove_canary(
        &self,
        plan: &EksPlan,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        for object in plan.canary.iter().flat_map(CanaryPlan::objects).rev() {
            let key = object.key();
            let live = self.api.get(&key).await?;
            if let Some(uid) = live.and_then(|live| live.metadata.uid) {
                self.delete_object(&key, &uid, written, permit).await?;
            }
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a step of a canary lasts by this clock")]
fn now() -> Instant {
    Instant::now()
}
