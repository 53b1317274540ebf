//! Deploys to ECS, reachable through a load balancer and API Gateway.
//!
//! [`render`], [`live`], [`edge`], [`plan`] and [`verdict`] decide and do no I/O; [`api`] and
//! [`edge_api`] talk to AWS. `roll_back` carries an ECS rollback out.

mod api;
mod diagnosis;
mod edge;
mod edge_api;
mod iam;
mod live;
mod plan;
mod preflight;
mod preview;
mod render;
mod states;
mod verdict;

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use futures::future::join3;
use serde_json::{Value, json};

use crate::aws::Session;
use crate::config::platform::{ApiGateway, Ecs as Platform};
use crate::deploy::pen::{Extent, Pen};
use crate::deploy::target::{Goal, Permit, RolledBack, State, Target, Verdict, Written};
use crate::deploy::{Order, RunState, Running, answers, storage};
use crate::error::{Code, Error, Kind, Refusals, Result};

use api::{Api, Seen};
use edge::EdgeStep;
use edge_api::{EdgeApi, EdgeIds};
pub use iam::render_policies;
use live::comparable_definition;
use plan::{EcsFacts, EcsPlan, ServiceWrite, SmokeCheck, WayBack, fill_in, find_way_back};
use preflight::Preflight;
pub use render::{EcsDocuments, render_documents, render_state};
use render::{count_of, last_part, revision_of};
use verdict::{Identity, Ownership, ServiceLook, confirm_owner, judge_look, owner_of_primary};

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
    edge: EdgeIds,
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
        self.extent.get() > Extent::Nothing
    }
    fn touches_running(&self) -> bool {
        self.extent.get() == Extent::Running
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
}

impl Default for EcsMemory {
    fn default() -> Self {
        EcsMemory { since: now(), ownership: Ownership::default() }
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
        look.desired = written.back.as_ref().map_or(documents.desired(), |back| back.desired);
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
            let service = self.api.find_service(documents.name()).await?;
            let live = service.as_ref().map(|service| &service.definition);
            let missing = self.preflight.find_missing_secrets(&documents.task_definition, live);
            let missing = missing.await?;
            Ok((service, missing))
        };
        let of_edge = async {
            match &documents.edge {
                Some(wanted) => self.edge.find(wanted).await.map(Some),
                None => Ok(None),
            }
        };
        let account = self.account.as_deref();
        let buckets = storage::observe(&documents.buckets, account, &self.session);
        let (service, edge, buckets) = join3(of_service, of_edge, buckets).await;
        let mut refusals = Refusals::default();
        let (service, edge) = (refusals.keep(service), refusals.keep(edge));
        let found = service.zip(edge).zip(refusals.keep(buckets));
        let (((service, missing_secrets), edge), buckets) = refusals.conclude(found)?;
        Ok(EcsFacts { missing_secrets, service, buckets, edge })
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
        let EcsWritten { extent, definition_arn, deployment, edge: ids, .. } = written;
        let pen = Pen::new(permit, extent);
        storage::apply(&plan.facts.buckets, &self.session, pen).await?;
        let documents = &plan.wanted.documents;
        let vpc = plan.facts.edge.as_ref().map_or("", |found| found.vpc.as_str());
        *ids = plan.facts.edge.as_ref().map(EdgeIds::from).unwrap_or_default();
        let (before, after): (Vec<&EdgeStep>, Vec<&EdgeStep>) =
            plan.edge_steps.iter().partition(|step| step.comes_before_service());
        if let Some(wanted) = &documents.edge {
            for step in before {
                self.edge.apply(step, wanted, vpc, ids, pen).await?;
            }
        }
        if let Some(live) = plan.facts.service.as_ref().filter(|_| plan.tag) {
            let arn = live.document["serviceArn"].as_str().unwrap_or_default();
            self.api.tag(arn, &documents.service["tags"], pen).await?;
        }
        if plan.register {
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
        if let Some(wanted) = &documents.edge {
            for step in after {
                self.edge.apply(step, wanted, vpc, ids, pen).await?;
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
        // A revision registered just now has no past; of one that ran before only what happens now
        // counts.
        let since = (written.back.is_some() || !plan.register).then_some(memory.since);
        let mut look = self.look(plan, written, since).await?;
        let before = std::mem::replace(&mut memory.ownership, look.ownership);
        look.ownership = confirm_owner(before, look.ownership);
        Ok(judge_look(&look, &written.wanted_arn(plan)))
    }

    /// The smoke check: a request through the gateway, as users send it.
    async fn verify(&self, plan: &EcsPlan, written: &EcsWritten) -> Result<Option<String>> {
        let check = match &written.back {
            Some(back) => back.smoke_check.clone(),
            None => SmokeCheck::of(&plan.wanted),
        };
        let Some((check, (_, endpoint))) = check.zip(written.edge.api.as_ref()) else {
            return Ok(None);
        };
        if let Some(link) = &written.edge.link {
            self.edge.wait_for_link(link).await?;
        }
        let url = format!("{}{}", endpoint.trim_end_matches('/'), check.path);
        let health = format!("{url}{}", check.health.path);
        answers(&health, check.health.startup(), self.session.report()).await?;
        Ok(Some(url))
    }

    /// Begins the rollback: the load balancer and the routes as before, then the service.
    async fn roll_back(
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

    /// Removes a VPC link that failed: by now nothing leads through it. ECS keeps old revisions.
    async fn clean_up(&self, plan: &EcsPlan, permit: Permit<'_>) -> Result<()> {
        let extent = Cell::default();
        let pen = Pen::new(permit, &extent);
        let Some((api, _)) = plan.facts.edge.as_ref().and_then(|edge| edge.gateway.api.as_ref())
        else {
            return Ok(());
        };
        for step in &plan.edge_steps {
            if let EdgeStep::DeleteLink { id, integration } = step {
                self.edge.delete_dead_link(api, id, integration.as_deref(), pen).await?;
            }
        }
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
