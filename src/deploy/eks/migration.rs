//! The migration gate: `before-deploy` as a Job with the new image and the service's configuration,
//! run to its end before anything else changes.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::Selector;

use super::Eks;
use super::object::{Key, Object};
use super::observe::{JobState, Restarts, read_job_state};
use super::plan::EksPlan;
use super::render::{BEFORE_DEPLOY, COMPONENT, PART_OF};
use super::verdict::RolloutVerdict;
use super::watch::{Look, Watching};
use super::written::EksWritten;
use crate::deploy::migration::{describe_failure, run_in_time};
use crate::deploy::target::{Permit, Target};
use crate::error::{Kind, Result};

/// How far the log was shown.
#[derive(Default)]
struct Shown {
    pod: Option<String>,
    until: Option<Timestamp>,
}

impl Eks {
    /// Runs `before-deploy`, unless it was done for this image and command.
    ///
    /// # Errors
    /// [`Kind::Gate`] when it fails, timed out when it does not end. Nothing else was changed then.
    pub(super) async fn run_migration(
        &self,
        plan: &EksPlan,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let Some(job) = &plan.migration else { return Ok(()) };
        let running = async {
            self.wait_for_others(job, &plan.wanted.service).await?;
            self.start_migration(plan, job, written, permit).await?;
            self.watch_migration(job, written).await
        };
        let ended = run_in_time(permit, &job.id().to_string(), running).await;
        if ended.is_err()
            && let Err(error) = self.stop_migration(job, written, permit).await
        {
            self.report.warn(format!("{} may still run: {error}", job.id()));
        }
        ended
    }

    /// Two migrations never run at once: one of a run that was cut short is waited for.
    async fn wait_for_others(&self, job: &Object, service: &str) -> Result<()> {
        let mut said = false;
        loop {
            let others = self.list_migrations(service).await?;
            let active = others.iter().find(|other| {
                other.metadata.name.as_deref() != Some(job.name())
                    && read_job_state(other) == JobState::Active
            });
            let Some(other) = active else { return Ok(()) };
            let name = other.metadata.name.as_deref().unwrap_or_default();
            if !std::mem::replace(&mut said, true) {
                self.report.detail(format!("waits for Job/{name}, which an earlier deploy began"));
            }
            tokio::time::sleep(Self::INTERVAL).await;
        }
    }

    /// The migrations of this service that are there, over or not.
    async fn list_migrations(&self, service: &str) -> Result<Vec<Job>> {
        let labels = [(COMPONENT, BEFORE_DEPLOY), (PART_OF, service)];
        let labels = labels.map(|(name, value)| (name.to_string(), value.to_string()));
        let which = ListParams::default().labels_from(&Selector::from_iter(labels));
        Ok(self.api.list(&self.caller.namespace, &which).await?)
    }

    /// Makes the Job, unless an earlier run of this deploy did. One that failed is made anew.
    async fn start_migration(
        &self,
        plan: &EksPlan,
        job: &Object,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let key = job.key();
        while let Some(live) = self.api.get(&key).await? {
            match live.clone().try_parse().map(|job: Job| read_job_state(&job)) {
                Ok(JobState::Failed) if live.metadata.deletion_timestamp.is_none() => {
                    let uid = live.metadata.uid.as_deref().unwrap_or_default();
                    self.api.delete(&key, uid, Some(permit)).await?;
                    written.migrated = true;
                }
                Ok(JobState::Active | JobState::Complete)
                    if live.metadata.deletion_timestamp.is_none() =>
                {
                    written.migrated = true;
                    return Ok(());
                }
                _ => tokio::time::sleep(Self::INTERVAL).await,
            }
        }
        // A first deploy has not made it yet, and its pod cannot be made without it.
        let account = plan.writes.iter().find(|write| {
            write.object.kind() == "ServiceAccount" && write.object.name() == plan.wanted.service
        });
        let account = account.map(|write| &write.object).filter(|object| plan.creates(object));
        for object in account.into_iter().chain([job]) {
            match self.apply_object(plan, object, false, permit).await {
                Ok(_) => written.migrated = true,
                Err(failure) => {
                    written.migrated |= failure.may_have_written;
                    return Err(failure.error);
                }
            }
        }
        Ok(())
    }

    /// Watches the Job to its end, and shows what it logs.
    async fn watch_migration(&self, job: &Object, written: &EksWritten) -> Result<()> {
        let look = Look {
            service: "",
            objects: std::slice::from_ref(job),
            written,
            restarts_before: &Restarts::new(),
        };
        let (mut watching, mut shown, mut waits) =
            (Watching::default(), Shown::default(), String::new());
        loop {
            let seen = self.judge_rollout(look, &mut watching).await;
            self.show_log(job, &mut shown).await;
            match seen.map(|verdict| watching.memory.confirm(verdict)) {
                Ok(RolloutVerdict::Healthy { .. }) => return Ok(()),
                Ok(RolloutVerdict::Failed(troubles)) => {
                    let causes = self.explain_troubles(troubles).await;
                    return Err(describe_failure(causes));
                }
                Ok(RolloutVerdict::Progressing(words)) if words != waits => {
                    self.report.detail(format!("before-deploy: {words}"));
                    waits = words;
                }
                // A look that fails says nothing of it.
                Err(error) if error.kind != Kind::Unexpected => return Err(error),
                Ok(RolloutVerdict::Progressing(_)) | Err(_) => {}
            }
            tokio::time::sleep(Self::INTERVAL).await;
        }
    }

    /// Shows the lines that came since. Who may not read logs goes without.
    async fn show_log(&self, job: &Object, shown: &mut Shown) {
        let namespace = &self.caller.namespace;
        if shown.pod.is_none()
            && let Some(selector) = job.pod_selector()
        {
            let which = ListParams::default().labels_from(&selector);
            let pods: Vec<Pod> = self.api.list(namespace, &which).await.unwrap_or_default();
            shown.pod = pods.into_iter().next().and_then(|pod| pod.metadata.name);
        }
        let Some(pod) = &shown.pod else { return };
        let Ok(lines) = self.api.log_since(namespace, pod, shown.until).await else { return };
        for line in &lines {
            let Some((time, text)) = line.split_once(' ') else { continue };
            let Ok(time) = time.parse::<Timestamp>() else { continue };
            if shown.until.is_none_or(|until| time > until) {
                self.report.detail(format!("before-deploy │ {text}"));
                shown.until = Some(time);
            }
        }
    }

    /// Deletes a Job that is not over, so that it cannot go on beside what comes next.
    async fn stop_migration(
        &self,
        job: &Object,
        written: &EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let live = self.api.get(&job.key()).await?.filter(|_| written.migrated);
        let Some(live) = live else { return Ok(()) };
        let state = live.clone().try_parse().map(|job: Job| read_job_state(&job));
        if matches!(state, Ok(JobState::Active)) {
            let uid = live.metadata.uid.as_deref().unwrap_or_default();
            self.api.delete(&job.key(), uid, Some(permit)).await?;
        }
        Ok(())
    }

    /// Deletes the Jobs of earlier migrations. Who may not list them leaves them.
    pub(super) async fn remove_old_migrations(
        &self,
        plan: &EksPlan,
        permit: Permit<'_>,
    ) -> Result<()> {
        let Some(current) = &plan.wanted.documents.migration else { return Ok(()) };
        for old in self.list_migrations(&plan.wanted.service).await.unwrap_or_default() {
            let name = old.metadata.name.as_deref().unwrap_or_default();
            if name != current.name() && read_job_state(&old) != JobState::Active {
                let key = Key::new("batch/v1", "Job", &self.caller.namespace, name);
                let uid = old.metadata.uid.as_deref().unwrap_or_default();
                self.api.delete(&key, uid, Some(permit)).await?;
            }
        }
        Ok(())
    }
}
