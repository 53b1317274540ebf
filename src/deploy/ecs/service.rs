//! One service of ECS: the one that users reach, or a process beside it that runs all the time. Each
//! has a plan of its own and takes the same way in and back.

use std::time::Duration;

use futures::future::{try_join, try_join_all, try_join3};
use serde_json::{Value, json};

use super::edge::EdgeStep;
use super::edge_api::EdgeIds;
use super::live::LiveService;
use super::plan::{
    self, EcsFacts, EcsPlan, ServiceWrite, fill_in, find_way_back, name_left_over, tag_of_processes,
};
use super::render::{EcsDocuments, count_of, name_process};
use super::scaling::{ScalingFound, name_count, undo_steps};
use super::schedule::{ScheduleWrite, name_group, set_revision};
use super::verdict::{confirm_owner, judge_look};
use super::{Back, Ecs, EcsMemory, EcsWritten, now};
use crate::deploy::pen::Pen;
use crate::deploy::storage;
use crate::deploy::target::{Goal, Permit, Plan as _, RolledBack, Verdict};
use crate::error::Result;

impl Ecs {
    /// What stands there of a service: neither its processes, its buckets nor the way to it.
    pub(super) async fn observe_service(&self, goal: &Goal<EcsDocuments>) -> Result<EcsFacts> {
        let documents = &goal.wanted.documents;
        let service = self.api.find_service(documents.name()).await?;
        let live = service.as_ref().map(|service| &service.definition);
        let (migrated, secrets) = try_join(
            self.find_migrated(goal, service.as_ref()),
            self.preflight.look_at_secrets(&documents.task_definition, live),
        )
        .await?;
        Ok(EcsFacts { migrated, secrets, service, ..EcsFacts::default() })
    }

    /// How the service is scaled, where it is to be, or a good version was.
    pub(super) async fn observe_scaling(
        &self,
        goal: &Goal<EcsDocuments>,
    ) -> Result<Option<ScalingFound>> {
        let documents = &goal.wanted.documents;
        let good = goal.good.as_ref().is_some_and(|good| good.state.documents.scaling.is_some());
        if documents.scaling.is_none() && !good {
            return Ok(None);
        }
        self.scaling.find(&name_count(&documents.service)).await.map(Some)
    }

    /// What stands there of the processes, wanted or not.
    pub(super) async fn observe_processes(
        &self,
        goal: &Goal<EcsDocuments>,
        live: Option<&LiveService>,
    ) -> Result<EcsFacts> {
        let documents = &goal.wanted.documents;
        let workers = documents
            .workers
            .iter()
            .map(async |worker| self.observe_service(&plan::goal_of_worker(goal, worker)).await);
        let group = &name_group(&goal.wanted.service, &goal.wanted.environment);
        let schedules = documents.schedules.iter().map(async |schedule| {
            self.schedules.find(group, schedule["Name"].as_str().unwrap_or_default()).await
        });
        let unwanted = plan::name_unwanted(goal, live).into_iter().map(async |process| {
            let name = name_process(&goal.wanted.service, &process);
            let (worker, schedule) =
                try_join(self.api.find_service(&name), self.schedules.find(group, &process))
                    .await?;
            let (environment, owner) = (&goal.wanted.environment, documents.name());
            let worker = worker.filter(|live| plan::is_worker_of(live, environment, owner));
            Ok((worker, schedule.map(|_| process)))
        });
        let (workers, schedules, unwanted) =
            try_join3(try_join_all(workers), try_join_all(schedules), try_join_all(unwanted))
                .await?;
        let (left_over, left_over_schedules): (Vec<_>, Vec<_>) = unwanted.into_iter().unzip();
        Ok(EcsFacts {
            workers,
            schedules,
            left_over: left_over.into_iter().flatten().collect(),
            left_over_schedules: left_over_schedules.into_iter().flatten().collect(),
            ..EcsFacts::default()
        })
    }

    /// Does what the plan of one service says.
    pub(super) async fn apply_service(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let EcsWritten { extent, definition_arn, deployment, edge: ids, scaled, .. } = written;
        let pen = Pen::new(permit, extent);
        storage::apply(&plan.facts.buckets, &self.session, pen).await?;
        let documents = &plan.wanted.documents;
        *ids = plan.facts.edge.as_ref().map(EdgeIds::from).unwrap_or_default();
        let edge = documents.edge.as_ref().zip(plan.facts.edge.as_ref());
        let (before, after): (Vec<&EdgeStep>, Vec<&EdgeStep>) =
            plan.edge_steps.iter().partition(|step| step.comes_before_service());
        if let Some((wanted, found)) = edge {
            for step in before {
                self.edge.apply(step, wanted, found, ids, pen).await?;
            }
        }
        if let Some(live) = plan.facts.service.as_ref().filter(|_| !plan.tags.is_null()) {
            let arn = live.document["serviceArn"].as_str().unwrap_or_default();
            self.api.tag(arn, &plan.tags, pen).await?;
        }
        for step in plan.scaling.iter().filter(|step| step.comes_before_service()) {
            *scaled += 1;
            self.scaling.apply(step, pen).await?;
        }
        // A migration has registered it already.
        if plan.register && definition_arn.is_none() {
            *definition_arn = Some(self.api.register(&documents.task_definition, pen).await?);
        }
        let live = || plan.facts.service.as_ref().map(|service| service.definition_arn.clone());
        let revision = definition_arn.clone().or_else(live).unwrap_or_default();
        let fill = |document: &Value| {
            let mut document = document.clone();
            fill_in(&mut document, documents, Some(&revision), ids.target_group.as_deref());
            document
        };
        *deployment = match &plan.service {
            Some(ServiceWrite::Create(document)) => {
                let mut document = fill(document);
                let token = plan::client_token(&document, permit.record_number());
                document["clientToken"] = json!(token);
                self.api.create(&document, pen).await?
            }
            Some(ServiceWrite::Update(document)) => self.api.update(&fill(document), pen).await?,
            None => None,
        };
        for step in plan.scaling.iter().filter(|step| !step.comes_before_service()) {
            // Noted first: what a lost answer did is taken back too.
            *scaled += 1;
            self.scaling.apply(step, pen).await?;
        }
        if let Some((wanted, found)) = edge {
            for step in after {
                self.edge.apply(step, wanted, found, ids, pen).await?;
            }
        }
        Ok(())
    }

    /// One look at one service.
    pub(super) async fn check_service(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        memory: &mut EcsMemory,
    ) -> Result<Verdict> {
        if written.edge.target_group.is_none() {
            written.edge = plan.facts.edge.as_ref().map(EdgeIds::from).unwrap_or_default();
        }
        // A revision registered just now has no past; of one that ran before only what happens now
        // counts.
        let since = (written.back.is_some() || !plan.register).then_some(memory.since);
        let mut look = self.look(plan, written, since).await?;
        let before = std::mem::replace(&mut memory.ownership, look.ownership);
        look.ownership = confirm_owner(before, look.ownership);
        let verdict = judge_look(&look, &written.wanted_arn(plan));
        // What was there before has proven itself.
        let stable = match plan.changes().is_empty() {
            true => Duration::ZERO,
            false => Duration::from_millis(plan.wanted.documents.stable),
        };
        let elapsed = memory.since.elapsed().unwrap_or_default();
        Ok(memory.stability.hold(verdict, look.stopped.len(), elapsed, stable))
    }

    /// Begins the rollback: the load balancer and the routes as before, then the service.
    pub(super) async fn roll_back_service(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        permit: Permit<'_>,
    ) -> Result<RolledBack> {
        let documents = &plan.wanted.documents;
        let name = documents.name();
        let look = self.look(plan, written, Some(now())).await?;
        let pen = Pen::new(permit, &written.extent);
        let Some(back) = find_way_back(plan) else {
            // Tasks that this run did not bring are not its to stop.
            if plan.facts.service.is_some() {
                return Ok(RolledBack::ToNothing(format!(
                    "service {name} is left as it is: no deploy saw what ran before through to its \
                     end"
                )));
            }
            self.restore_scaling(plan, written, pen).await?;
            // The deploy ended before there was a service.
            if self.api.find_service(name).await?.is_none() {
                return Ok(RolledBack::ToNothing(
                    "what was made beside the service is used by the next deploy".into(),
                ));
            }
            self.api.stop_tasks(name, pen).await?;
            return Ok(RolledBack::ToNothing(format!("service {name} is there with no tasks")));
        };
        self.edge.restore(&plan.edge_steps, &mut written.edge, pen).await?;
        let definition_arn = self.find_revision(&back, pen).await?;
        let mut document = back.service;
        let target_group = written.edge.target_group.as_deref();
        fill_in(&mut document, documents, Some(&definition_arn), target_group);
        let mut then = json!({ "loadBalancers": back.balancers });
        fill_in(&mut then, documents, None, target_group);
        let good_group = then["loadBalancers"][0]["targetGroupArn"].as_str().map(str::to_string);
        let mut earlier = written.identity(plan).earlier.to_vec();
        earlier.extend(written.deployment.take().into_iter().chain(look.primary_id));
        self.restore_scaling(plan, written, pen).await?;
        let deployment = self.api.update(&document, pen).await?;
        // ECS may have gone back by itself already: then the deployment that does so is the one.
        earlier.retain(|id| Some(id) != deployment.as_ref());
        written.back = Some(Back {
            desired: count_of(&back.desired),
            earlier,
            fallback: written.wanted_arn(plan),
            target_group: good_group,
            smoke_check: back.smoke_check,
        });
        (written.deployment, written.definition_arn) = (deployment, Some(definition_arn));
        Ok(RolledBack::Begun)
    }

    /// Has the service scaled as it was before this run.
    async fn restore_scaling(
        &self,
        plan: &EcsPlan,
        written: &EcsWritten,
        pen: Pen<'_>,
    ) -> Result<()> {
        let begun = plan.scaling.get(..written.scaled).unwrap_or_default();
        for step in undo_steps(begun, plan.facts.scaling.as_ref()) {
            self.scaling.apply(&step, pen).await?;
        }
        Ok(())
    }

    /// Writes the schedules of a plan, which run what the service runs by now.
    pub(super) async fn apply_schedules(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let revision = written.wanted_arn(plan);
        let pen = Pen::new(permit, &written.extent);
        for ScheduleWrite { document, before } in &plan.schedules {
            let mut document = document.clone();
            set_revision(&mut document, &revision);
            // Noted first: what a lost answer did is taken back too.
            written.schedules += 1;
            match before {
                Some(_) => self.schedules.update(&document, pen).await?,
                None => self.schedules.create(&document, plan.wanted.documents.name(), pen).await?,
            }
        }
        Ok(())
    }

    /// Brings the schedules back that this run wrote.
    pub(super) async fn restore_schedules(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let pen = Pen::new(permit, &written.extent);
        let begun = std::mem::take(&mut written.schedules);
        let group = name_group(&plan.wanted.service, &plan.wanted.environment);
        for ScheduleWrite { document, before } in plan.schedules.iter().take(begun) {
            match before {
                Some(before) => self.schedules.update(before, pen).await?,
                None => {
                    let name = document["Name"].as_str().unwrap_or_default();
                    self.schedules.delete(&group, name, pen).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes the names of processes that are gone off the service, so that nobody looks for them.
    pub(super) async fn forget_processes(&self, plan: &EcsPlan, pen: Pen<'_>) -> Result<()> {
        if name_left_over(&plan.facts).is_empty() {
            return Ok(());
        }
        let arn = plan.facts.service.as_ref().and_then(|live| live.document["serviceArn"].as_str());
        let Some(arn) = arn else { return Ok(()) };
        self.api.tag(arn, &json!([tag_of_processes(&plan.wanted.documents, &[])]), pen).await
    }
}
