//! Deploys to ECS, reachable through a load balancer and API Gateway.
//!
//! [`render`], [`live`], [`edge`], [`plan`] and [`verdict`] decide and do no I/O; [`api`] and
//! [`edge_api`] talk to AWS.

mod api;
mod edge;
mod edge_api;
mod live;
mod plan;
mod render;
mod verdict;

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::aws::Session;
use crate::aws::document::MayWrite;
use crate::config::platform::{ApiGateway, Ecs as Platform};
use crate::deploy::target::{Goal, Permit, RolledBack, State, Target, Verdict, Written};
use crate::deploy::{Order, RunState, Running, answers, storage};
use crate::error::{Error, Kind, Result};

use api::Api;
use edge::EdgeStep;
use edge_api::{EdgeApi, EdgeIds};
use live::comparable_definition;
use plan::{EcsFacts, EcsPlan, ServiceWrite, WayBack, fill_in, find_way_back};
pub use render::{EcsDocuments, render_documents, render_state};
use render::{last_part, revision_of};
use verdict::{Identity, Ownership, judge_look, owner_of_primary};

/// One ECS cluster, and the way to it from outside.
pub struct Ecs {
    platform: Platform,
    api_gateway: Option<ApiGateway>,
    session: Session,
    /// The account that the service's buckets have to be of.
    account: Option<String>,
    api: Api,
    edge: EdgeApi,
}

/// What this run has done so far.
#[derive(Clone, Debug, Default)]
pub struct EcsWritten {
    /// The ARN of the task definition that was registered.
    definition_arn: Option<String>,
    /// The id of the deployment that our CreateService or UpdateService began.
    deployment: Option<String>,
    /// Whether something that runs may have changed.
    wrote: bool,
    edge: EdgeIds,
}

impl Written for EcsWritten {
    fn any(&self) -> bool {
        self.wrote
    }
    fn touches_running(&self) -> bool {
        self.wrote
    }
}

/// What each try of a write asks: a retry may come when the lock is another's.
fn may_write(permit: Permit<'_>) -> MayWrite {
    let guard = permit.guard();
    MayWrite::new(move || guard.check())
}

impl EcsWritten {
    /// By what our deployment is known.
    fn identity(&self) -> Identity<'_> {
        Identity {
            deployment: self.deployment.as_deref(),
            definition_arn: self.definition_arn.as_deref(),
        }
    }

    /// Notes the outcome of a write. A refusal wrote nothing; no answer may have.
    fn note<T>(&mut self, answer: Result<T>) -> Result<T> {
        self.wrote |= !matches!(&answer, Err(error) if error.kind == Kind::Refused);
        answer
    }
}

/// What watching remembers.
#[derive(Debug)]
pub struct EcsMemory {
    /// When watching began: what ended before says nothing of this run.
    since: SystemTime,
}

impl Default for EcsMemory {
    fn default() -> Self {
        EcsMemory { since: now() }
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
            platform: platform.clone(),
            api_gateway: api_gateway.cloned(),
            account: account.map(str::to_string),
            session: session.clone(),
        }
    }

    /// The task definition that this deploy wants to run.
    fn wanted_arn(&self, plan: &EcsPlan, written: &EcsWritten) -> String {
        let live = || plan.facts.service.as_ref().map(|service| service.definition_arn.clone());
        written.definition_arn.clone().or_else(live).unwrap_or_default()
    }

    /// One look at the rollout of `definition_arn`, judged.
    async fn judge_rollout(
        &self,
        plan: &EcsPlan,
        written: &EcsWritten,
        definition_arn: &str,
        since: Option<SystemTime>,
    ) -> Result<Verdict> {
        let documents = &plan.wanted.documents;
        let mut look = self.api.look(documents.name(), definition_arn, since).await?;
        look.desired = documents.desired();
        look.ownership = owner_of_primary(&look, &written.identity(), plan.facts.service.as_ref());
        if let Some(target_group) = &written.edge.target_group {
            let (healthy, unhealthy) = self.edge.target_health(target_group).await?;
            (look.healthy_targets, look.unhealthy) = (Some(healthy), unhealthy);
        }
        if look.ownership == Ownership::Others {
            return Err(superseded(&look.primary));
        }
        Ok(judge_look(&look, definition_arn))
    }

    /// Where users reach the service.
    fn url_of(&self, state: &State<EcsDocuments>, ids: &EdgeIds) -> Option<String> {
        let path = &state.documents.edge.as_ref()?.gateway.as_ref()?.path;
        let (_, endpoint) = ids.api.as_ref()?;
        Some(format!("{}{path}", endpoint.trim_end_matches('/')))
    }

    /// The ARN of the revision on the way back. It is registered anew when it is gone: its content
    /// is what matters.
    async fn find_revision(&self, back: &WayBack, guard: &MayWrite) -> Result<String> {
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
        self.api.register(&back.definition, guard).await
    }

    /// Waits until `definition_arn` is what runs, all of it, as long as the engine lets it.
    async fn wait_until_back(&self, service: &str, definition_arn: &str) -> Result<()> {
        let since = now();
        loop {
            match self.api.look(service, definition_arn, Some(since)).await {
                Ok(look) if look.is_complete(definition_arn) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind == Kind::Unexpected => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(Self::INTERVAL).await;
        }
    }
}

fn superseded(primary: &str) -> Error {
    Error::new(Kind::Superseded, format!("{} was deployed after this one", last_part(primary)))
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
        self.api.find_cluster().await?;
        let account = self.account.as_deref();
        Ok(EcsFacts {
            service: self.api.find_service(documents.name()).await?,
            buckets: storage::observe(&documents.buckets, account, &self.session).await?,
            edge: match &documents.edge {
                Some(wanted) => Some(self.edge.find(wanted).await?),
                None => None,
            },
        })
    }

    fn plan(&self, goal: &Goal<EcsDocuments>, facts: EcsFacts) -> Result<EcsPlan> {
        plan::make_plan(goal, facts)
    }

    fn planned_state<'a>(&self, plan: &'a EcsPlan) -> Option<&'a State<EcsDocuments>> {
        Some(&plan.recorded)
    }

    /// `before-deploy` is refused by [`render_state`].
    async fn migrate(
        &self,
        _plan: &EcsPlan,
        _written: &mut EcsWritten,
        _permit: Permit<'_>,
    ) -> Result<()> {
        Ok(())
    }

    async fn apply(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        permit.check().await?;
        let guard = may_write(permit);
        storage::apply(&plan.facts.buckets, &self.session).await?;
        let documents = &plan.wanted.documents;
        let vpc = plan.facts.edge.as_ref().map_or("", |found| found.vpc.as_str());
        written.edge = plan.facts.edge.as_ref().map(EdgeIds::from).unwrap_or_default();
        let (before, after): (Vec<&EdgeStep>, Vec<&EdgeStep>) =
            plan.edge_steps.iter().partition(|step| step.comes_before_service());
        if let Some(wanted) = &documents.edge {
            for step in before {
                permit.check().await?;
                let applied = self.edge.apply(step, wanted, vpc, &mut written.edge).await;
                // Only this one changes what runs already.
                if matches!(step, EdgeStep::UpdateTargetGroup { .. }) {
                    written.note(applied)?;
                } else {
                    applied?;
                }
            }
        }
        if let Some(live) = plan.facts.service.as_ref().filter(|_| plan.tag) {
            permit.check().await?;
            let arn = live.document["serviceArn"].as_str().unwrap_or_default();
            self.api.tag(arn, &documents.service["tags"]).await?;
        }
        if plan.register {
            permit.check().await?;
            let arn = self.api.register(&documents.task_definition, &guard).await?;
            written.definition_arn = Some(arn);
        }
        let definition_arn = self.wanted_arn(plan, written);
        let target_group = written.edge.target_group.clone();
        let fill = |document: &Value| {
            let mut document = document.clone();
            let target_group = target_group.as_deref();
            fill_in(&mut document, documents, Some(&definition_arn), target_group);
            document
        };
        if plan.service.is_some() {
            permit.check().await?;
        }
        written.deployment = match &plan.service {
            Some(ServiceWrite::Create(document)) => {
                let created = self.api.create(&fill(document), &guard).await;
                written.note(created)?
            }
            Some(ServiceWrite::Update(document)) => {
                let updated = self.api.update(&fill(document), &guard).await;
                written.note(updated)?
            }
            None => None,
        };
        if let Some(wanted) = &documents.edge {
            for step in after {
                permit.check().await?;
                self.edge.apply(step, wanted, vpc, &mut written.edge).await?;
            }
        }
        Ok(())
    }

    async fn check_rollout(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        memory: &mut EcsMemory,
    ) -> Result<Verdict> {
        if written.edge.target_group.is_none() {
            written.edge = plan.facts.edge.as_ref().map(EdgeIds::from).unwrap_or_default();
        }
        let definition_arn = self.wanted_arn(plan, written);
        // A revision registered just now has no past; of one that ran before only what happens now
        // counts.
        let since = (!plan.register).then_some(memory.since);
        self.judge_rollout(plan, written, &definition_arn, since).await
    }

    async fn verify(&self, plan: &EcsPlan, written: &EcsWritten) -> Result<Option<String>> {
        let Some(url) = self.url_of(&plan.wanted, &written.edge) else { return Ok(None) };
        if let Some(link) = &written.edge.link {
            self.edge.wait_for_link(link).await?;
        }
        let health = &plan.wanted.health;
        answers(&format!("{url}{}", health.path), health.startup()).await?;
        Ok(Some(url))
    }

    async fn roll_back(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        permit: Permit<'_>,
    ) -> Result<RolledBack> {
        let documents = &plan.wanted.documents;
        let name = documents.name();
        let ours = self.wanted_arn(plan, written);
        let look = self.api.look(name, &ours, Some(now())).await?;
        let live = plan.facts.service.as_ref();
        let owner = owner_of_primary(&look, &written.identity(), live);
        if owner == Ownership::Others {
            return Err(superseded(&look.primary));
        }
        permit.check().await?;
        let guard = may_write(permit);
        let Some(back) = find_way_back(plan) else {
            // The deploy ended before there was a service.
            if self.api.find_service(name).await?.is_none() {
                return Ok(RolledBack::ToNothing(
                    "what was made beside the service is used by the next deploy".into(),
                ));
            }
            self.api.stop_tasks(name).await?;
            return Ok(RolledBack::ToNothing(format!("service {name} is there with no tasks")));
        };
        self.edge.restore_health_checks(&plan.edge_steps).await?;
        permit.check().await?;
        let definition_arn = self.find_revision(&back, &guard).await?;
        let mut document = back.service;
        let target_group = written.edge.target_group.as_deref();
        fill_in(&mut document, documents, Some(&definition_arn), target_group);
        permit.check().await?;
        self.api.update(&document, &guard).await?;
        self.wait_until_back(name, &definition_arn).await?;
        Ok(RolledBack::ToGood(revision_of(&definition_arn)))
    }

    /// ECS keeps old revisions, and nothing else of them is left.
    async fn clean_up(&self, _plan: &EcsPlan, _permit: Permit<'_>) -> Result<()> {
        Ok(())
    }

    async fn read_running(&self, state: &State<EcsDocuments>) -> Result<Running> {
        self.api.find_cluster().await?;
        let name = state.documents.name();
        let Some(service) = self.api.find_service(name).await? else {
            return Ok(Running { target: "ecs", ..Running::default() });
        };
        let look = self.api.look(name, &service.definition_arn, Some(now())).await?;
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
