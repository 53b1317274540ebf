//! Deploys to ECS, reachable through a load balancer and API Gateway.
//!
//! [`render`], [`live`], [`edge`], [`plan`] and [`verdict`] decide and do no I/O; [`api`] and
//! [`edge_api`] talk to AWS. `roll_back` carries an ECS rollback out.

mod api;
mod cron;
mod diagnosis;
mod edge;
mod edge_api;
mod iam;
mod live;
mod merge;
mod migration;
mod plan;
mod preflight;
mod prerequisites;
mod preview;
mod render;
mod scaling;
mod scaling_api;
mod schedule;
mod schedule_api;
mod service;
mod states;
mod verdict;

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use futures::future::join3;

use crate::aws::Session;
use crate::config::platform::{ApiGateway, Ecs as Platform};
use crate::deploy::pen::{Extent, Pen};
use crate::deploy::probe::{Answered, Probe};
use crate::deploy::target::{Goal, Permit, RolledBack, State, Target, Verdict, Written};
use crate::deploy::{Order, RunState, Running, storage};
use crate::error::{Code, Error, Kind, Refusals, Result};

use api::{Api, Seen};
use edge_api::{EdgeApi, EdgeIds};
pub use iam::render_policies;
use live::comparable_definition;
use plan::{EcsFacts, EcsPlan, SmokeCheck, WayBack};
use preflight::Preflight;
pub use render::{EcsDocuments, platform_of, render_documents, render_state};
use render::{last_part, revision_of};
use scaling_api::ScalingApi;
use schedule::name_group;
use schedule_api::ScheduleApi;
use verdict::{
    Identity, Ownership, ServiceLook, Stability, join_verdicts, judge_look, owner_of_primary,
};

/// One ECS cluster, and the way to it from outside.
pub struct Ecs {
    platform: Platform,
    api_gateway: Option<ApiGateway>,
    session: Session,
    /// The account that the service's buckets have to be of.
    account: Option<String>,
    api: Api,
    edge: EdgeApi,
    preflight: Preflight,
    schedules: ScheduleApi,
    scaling: ScalingApi,
}

/// What this run has done so far, and what is judged.
#[derive(Debug, Default)]
pub struct EcsWritten {
    extent: Cell<Extent>,
    /// The ARN of the task definition that is wanted now: the one that was registered, or the one of
    /// the rollback.
    definition_arn: Option<String>,
    /// The id of the deployment that our last CreateService or UpdateService began.
    deployment: Option<String>,
    /// Set once the rollback has begun.
    back: Option<Back>,
    /// A process that there was not before: its tasks were stopped.
    is_stopped: bool,
    edge: EdgeIds,
    /// Of the workers, in their order.
    workers: Vec<EcsWritten>,
    /// How many of the plan's schedules were begun to be written.
    schedules: usize,
    /// How many of the plan's steps of scaling were begun.
    scaled: usize,
}

/// What the rollback is judged by.
#[derive(Debug)]
struct Back {
    /// Tasks that are to run.
    desired: u32,
    /// The deployments that were there before its write, ours on the way in included.
    earlier: Vec<String>,
    /// What ran before its write.
    fallback: String,
    /// Where the good version's tasks are targets. None: behind no load balancer.
    target_group: Option<String>,
    smoke_check: Option<SmokeCheck>,
}

impl Written for EcsWritten {
    fn any(&self) -> bool {
        self.extent.get() > Extent::Nothing || self.workers.iter().any(Written::any)
    }
    fn touches_running(&self) -> bool {
        self.extent.get() == Extent::Running || self.workers.iter().any(Written::touches_running)
    }
}

impl EcsWritten {
    /// By what our deployment is known.
    fn identity<'a>(&'a self, plan: &'a EcsPlan) -> Identity<'a> {
        let live = plan.facts.service.as_ref();
        let (earlier, fallback) = match &self.back {
            Some(back) => (back.earlier.as_slice(), Some(back.fallback.as_str())),
            None => (
                live.map(|live| live.deployments.as_slice()).unwrap_or_default(),
                live.map(|live| live.definition_arn.as_str()),
            ),
        };
        Identity {
            deployment: self.deployment.as_deref(),
            definition_arn: self.definition_arn.as_deref(),
            earlier,
            fallback,
        }
    }

    /// The task definition that is to run.
    fn wanted_arn(&self, plan: &EcsPlan) -> String {
        let live = || plan.facts.service.as_ref().map(|service| service.definition_arn.clone());
        self.definition_arn.clone().or_else(live).unwrap_or_default()
    }
}

/// What watching remembers.
#[derive(Debug)]
pub struct EcsMemory {
    /// When watching began: what ended before says nothing of this run.
    since: SystemTime,
    /// What the look before said.
    ownership: Ownership,
    stability: Stability,
    /// Of the workers, in their order.
    workers: Vec<EcsMemory>,
}

impl Default for EcsMemory {
    fn default() -> Self {
        EcsMemory {
            since: now(),
            ownership: Ownership::default(),
            workers: Vec::new(),
            stability: Stability::default(),
        }
    }
}

impl Ecs {
    /// Opens the cluster. Nothing is asked yet.
    pub fn open(
        platform: &Platform,
        api_gateway: Option<&ApiGateway>,
        account: Option<&str>,
        session: &Session,
    ) -> Ecs {
        Ecs {
            api: Api::new(session, platform),
            edge: EdgeApi::new(session),
            preflight: Preflight::new(session),
            schedules: ScheduleApi::new(session),
            scaling: ScalingApi::new(session),
            platform: platform.clone(),
            api_gateway: api_gateway.cloned(),
            account: account.map(str::to_string),
            session: session.clone(),
        }
    }

    /// One look at the service of a plan: whose its deployment is, and how its targets are.
    async fn look(
        &self,
        plan: &EcsPlan,
        written: &EcsWritten,
        since: Option<SystemTime>,
    ) -> Result<ServiceLook> {
        let documents = &plan.wanted.documents;
        let definition_arn = &written.wanted_arn(plan);
        let seen = Seen { definition_arn, deployment: written.deployment.as_deref(), since };
        let mut look = self.api.look(documents.name(), seen).await?;
        look.goes_back = written.back.is_some();
        look.desired = match (&written.back, &documents.scaling) {
            // What scales the service may have gone on from there.
            (Some(_), _) if plan.was_scaled() => look.desired,
            (Some(back), _) => back.desired,
            (None, Some(scaling)) => look.desired.max(scaling.least()),
            (None, None) => documents.desired(),
        };
        look.ownership = owner_of_primary(&look, &written.identity(plan));
        if look.ownership == Ownership::Others {
            return Err(superseded(&look.primary));
        }
        let target_group = match &written.back {
            Some(back) => &back.target_group,
            None => &written.edge.target_group,
        };
        if let Some(target_group) = target_group {
            look.targets = Some(self.edge.target_health(target_group).await?);
        }
        Ok(look)
    }

    /// Where users reach the service.
    fn url_of(&self, state: &State<EcsDocuments>, ids: &EdgeIds) -> Option<String> {
        let path = &state.documents.edge.as_ref()?.gateway.as_ref()?.path;
        let (_, endpoint) = ids.api.as_ref()?;
        Some(format!("{}{path}", endpoint.trim_end_matches('/')))
    }

    /// The ARN of the revision on the way back. It is registered anew when it is gone: its content
    /// is what matters.
    async fn find_revision(&self, back: &WayBack, pen: Pen<'_>) -> Result<String> {
        for name in &back.revisions {
            let found = self.api.find_definition(name).await?;
            let wanted = comparable_definition(&back.definition);
            if let Some(found) = found
                && found.is_active
                && comparable_definition(&found.document) == wanted
            {
                return Ok(found.arn);
            }
        }
        self.api.register(&back.definition, pen).await
    }
}

fn superseded(primary: &str) -> Error {
    let other = last_part(primary);
    Error::new(Kind::Superseded, format!("cannot finish: {other} was deployed after this one"))
        .code(Code::OlderRun)
        .fix("nothing to do if that one is newer; else deploy this version again")
}

impl Target for Ecs {
    type Documents = EcsDocuments;
    type Facts = EcsFacts;
    type Plan = EcsPlan;
    type Written = EcsWritten;
    type Memory = EcsMemory;

    const NAME: &'static str = "ecs";
    const INTERVAL: Duration = Duration::from_secs(1);

    async fn render(&self, order: &Order) -> Result<State<EcsDocuments>> {
        render_state(order, &self.platform, self.api_gateway.as_ref())
    }

    async fn observe(&self, goal: &Goal<EcsDocuments>) -> Result<EcsFacts> {
        let documents = &goal.wanted.documents;
        let of_service = async {
            self.api.find_cluster().await?;
            let facts = self.observe_service(goal).await?;
            let live = facts.service.as_ref();
            let prerequisites = self.preflight.look_at_prerequisites(documents, live);
            let processes = self.observe_processes(goal, live);
            let scaling = self.observe_scaling(goal);
            let (prerequisites, processes, scaling) =
                join3(prerequisites, processes, scaling).await;
            let EcsFacts { workers, schedules, left_over, left_over_schedules, .. } = processes?;
            Ok(EcsFacts {
                prerequisites,
                scaling: scaling?,
                workers,
                schedules,
                left_over,
                left_over_schedules,
                ..facts
            })
        };
        let of_edge = async {
            match &documents.edge {
                Some(wanted) => self.edge.find(wanted).await.map(Some),
                None => Ok(None),
            }
        };
        let account = self.account.as_deref();
        let good = goal.good.as_ref();
        let finished = good.map(|good| good.state.documents.buckets.as_slice()).unwrap_or_default();
        let buckets = storage::observe(&documents.buckets, finished, account, &self.session);
        let (facts, edge, buckets) = join3(of_service, of_edge, buckets).await;
        let mut refusals = Refusals::default();
        let (facts, edge) = (refusals.keep(facts), refusals.keep(edge));
        let found = facts.zip(edge).zip(refusals.keep(buckets));
        let ((facts, edge), buckets) = refusals.conclude(found)?;
        Ok(EcsFacts { buckets, edge, ..facts })
    }

    fn plan(&self, goal: &Goal<EcsDocuments>, facts: EcsFacts) -> Result<EcsPlan> {
        plan::make_plan(goal, facts)
    }

    fn planned_state<'a>(&self, plan: &'a EcsPlan) -> Option<&'a State<EcsDocuments>> {
        Some(&plan.recorded)
    }

    async fn migrate(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        self.run_migration(plan, written, permit).await
    }

    async fn apply(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        self.apply_service(plan, written, permit).await?;
        written.workers.resize_with(plan.workers.len(), Default::default);
        for (plan, written) in plan.workers.iter().zip(&mut written.workers) {
            self.apply_service(plan, written, permit).await?;
        }
        self.apply_schedules(plan, written, permit).await
    }

    async fn check_rollout(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        memory: &mut EcsMemory,
    ) -> Result<Verdict> {
        let mut verdicts = vec![self.check_service(plan, written, memory).await?];
        written.workers.resize_with(plan.workers.len(), Default::default);
        memory.workers.resize_with(plan.workers.len(), Default::default);
        let workers = plan.workers.iter().zip(&mut written.workers).zip(&mut memory.workers);
        for ((plan, written), memory) in workers.filter(|((_, written), _)| !written.is_stopped) {
            verdicts.push(self.check_service(plan, written, memory).await?);
        }
        Ok(join_verdicts(verdicts))
    }

    /// The smoke check: a request through the gateway, as users send it.
    async fn verify(&self, plan: &EcsPlan, written: &EcsWritten) -> Result<Option<String>> {
        let (check, desired) = match &written.back {
            Some(back) => (back.smoke_check.clone(), back.desired),
            None => (SmokeCheck::of(&plan.wanted), plan.wanted.documents.desired()),
        };
        // Told to run nothing, as at night, it answers nobody.
        let check = check.filter(|_| desired > 0);
        let Some((check, (api, endpoint))) = check.zip(written.edge.api.as_ref()) else {
            return Ok(None);
        };
        let path = format!("{}{}", check.path, check.health.path);
        let endpoint = endpoint.trim_end_matches('/');
        let probe = Probe::new(&format!("{endpoint}{path}"))?;
        if let Some(link) = &written.edge.link {
            self.edge.wait_for_link(link, async || probe.knock().await).await?;
        }
        let report = self.session.report();
        let is_guarded = async || self.edge.is_guarded(api, &path).await;
        if let Answered::Guarded(status) =
            probe.wait_for_answer(check.health.startup(), is_guarded, report).await?
        {
            report.detail(format!(
                "the authorizer of {path} answers {status} to the smoke check, which has no token: \
                 the load balancer's health checks are believed"
            ));
        }
        Ok(Some(format!("{endpoint}{}", check.path)))
    }

    async fn roll_back(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        permit: Permit<'_>,
    ) -> Result<RolledBack> {
        let rolled_back = self.roll_back_service(plan, written, permit).await?;
        self.restore_schedules(plan, written, permit).await?;
        written.workers.resize_with(plan.workers.len(), Default::default);
        for (plan, written) in plan.workers.iter().zip(&mut written.workers) {
            let begun = self.roll_back_service(plan, written, permit).await?;
            written.is_stopped = begun != RolledBack::Begun;
        }
        Ok(rolled_back)
    }

    /// Removes a VPC link that failed, and what led to the service from an earlier path: by now users
    /// come another way. ECS keeps old revisions.
    async fn clean_up(&self, plan: &EcsPlan, permit: Permit<'_>) -> Result<()> {
        let extent = Cell::default();
        let pen = Pen::new(permit, &extent);
        let edge = plan.facts.edge.as_ref();
        let api = edge.and_then(|edge| edge.gateway.api.as_ref()).map(|(id, _)| id.as_str());
        for step in plan.edge_steps.iter().filter(|step| step.comes_last()) {
            self.edge.remove(step, api, pen).await?;
        }
        for worker in &plan.facts.left_over {
            self.api.delete_service(worker.name(), pen).await?;
        }
        let group = name_group(&plan.wanted.service, &plan.wanted.environment);
        for name in &plan.facts.left_over_schedules {
            self.schedules.delete(&group, name, pen).await?;
        }
        self.forget_processes(plan, pen).await?;
        Ok(())
    }

    async fn remove(&self, state: &State<EcsDocuments>, permit: Permit<'_>) -> Result<Vec<String>> {
        self.remove_service(state, permit).await
    }

    async fn read_running(&self, state: &State<EcsDocuments>) -> Result<Running> {
        self.api.find_cluster().await?;
        let name = state.documents.name();
        let Some(service) = self.api.find_service(name).await? else {
            return Ok(Running { target: "ecs", ..Running::default() });
        };
        let definition_arn = &service.definition_arn;
        let seen = Seen { definition_arn, deployment: None, since: Some(now()) };
        let look = self.api.look(name, seen).await?;
        let ids = match &state.documents.edge {
            Some(wanted) => EdgeIds::from(&self.edge.find(wanted).await?),
            None => EdgeIds::default(),
        };
        Ok(Running {
            target: "ecs",
            state: match judge_look(&look, &service.definition_arn) {
                Verdict::Healthy { .. } => RunState::Ready,
                Verdict::Progressing(_) => RunState::Progressing,
                Verdict::Failed(_) => RunState::Failed,
            },
            version: service.version().map(str::to_string),
            digest: service
                .image(name)
                .and_then(|image| image.split_once('@'))
                .and_then(|(_, digest)| digest.parse().ok()),
            revision: Some(revision_of(&service.definition_arn)),
            url: self.url_of(state, &ids),
            ready: look.running,
            wanted: look.desired,
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tasks that ended before this run say nothing about it"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
