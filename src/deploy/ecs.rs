//! Deploys to ECS, reachable through a load balancer and API Gateway.
//!
//! [`task_definition`], [`edge`], [`plan`] and [`verdict`] decide and do no I/O; [`api`] and
//! [`edge_api`] talk to AWS.

mod api;
mod documents;
mod edge;
mod edge_api;
mod plan;
mod task_definition;
mod verdict;

use std::time::{Duration, SystemTime};

use crate::aws::Session;
use crate::config::platform::{ApiGateway, Ecs as Platform};
use crate::deploy::target::{Goal, Permit, RolledBack, State, Target, Verdict, Written};
use crate::deploy::{Action, Order, Running, answers, storage};
use crate::error::{Error, Kind, Result};

use api::{Api, Rollout};
pub use documents::{EcsDocuments, render_documents, render_state};
use edge::EdgeStep;
use edge_api::{EdgeApi, EdgeIds};
use plan::{EcsFacts, EcsPlan};
use task_definition::{last_part, revision_of};
use verdict::{Ownership, judge_look, owner_of_primary};

/// One ECS cluster, and the way to it from outside.
pub struct Ecs {
    platform: Platform,
    api_gateway: Option<ApiGateway>,
    session: Session,
    region: String,
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
}

impl EcsWritten {
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
        region: &str,
        account: Option<&str>,
        session: &Session,
    ) -> Ecs {
        Ecs {
            api: Api::new(session, platform),
            edge: EdgeApi::new(session),
            platform: platform.clone(),
            api_gateway: api_gateway.cloned(),
            region: region.to_string(),
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
        let name = &documents.service.name;
        let mut look = self.api.look(name, definition_arn, since).await?;
        look.desired = documents.service.desired;
        look.ownership =
            owner_of_primary(&look, written.deployment.as_deref(), plan.facts.service.as_ref());
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

    /// The way back: the recorded good state; else, where the ledger knows nothing, what ran before.
    async fn find_way_back(&self, plan: &EcsPlan) -> Result<Option<(String, Rollback)>> {
        let live = plan.facts.service.as_ref();
        if let Some(good) = &plan.good {
            let documents = &good.state.documents;
            let definition = &documents.task_definition;
            let named =
                good.revision.as_ref().map(|revision| format!("{}:{revision}", definition.family));
            let found = match &named {
                Some(named) => self.api.find_definition(named).await?,
                None => None,
            };
            let arn = match found.filter(|(_, found)| found == definition) {
                Some((arn, _)) => arn,
                // It was deregistered: its content is what matters.
                None => {
                    let state = &good.state;
                    self.api
                        .register(
                            definition,
                            &self.region,
                            &state.environment,
                            &state.image.version,
                        )
                        .await?
                }
            };
            // The count may have been changed by a person or a scheduler since.
            let desired = live.map_or(documents.service.desired, |live| live.desired);
            let rollback = Rollback {
                desired,
                subnets: documents.service.subnets.clone(),
                security_groups: documents.service.security_groups.clone(),
            };
            return Ok(Some((arn, rollback)));
        }
        // A service that was told to run nothing has no last good version: a first deploy that
        // failed leaves this.
        Ok(live.filter(|live| plan.adopts && live.desired > 0).map(|live| {
            let rollback = Rollback {
                desired: live.desired,
                subnets: live.subnets.clone(),
                security_groups: live.security_groups.clone(),
            };
            (live.definition_arn.clone(), rollback)
        }))
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

/// How a service ran that is gone back to.
struct Rollback {
    desired: u32,
    subnets: Vec<String>,
    security_groups: Vec<String>,
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
            service: self.api.find_service(&documents.service.name).await?,
            buckets: storage::observe(&documents.buckets, account, &self.session).await?,
            edge: match &documents.edge {
                Some(wanted) => Some(self.edge.find(wanted).await?),
                None => None,
            },
        })
    }

    fn plan(&self, goal: &Goal<EcsDocuments>, facts: EcsFacts) -> Result<EcsPlan> {
        plan::make_plan(goal, facts, &self.platform)
    }

    /// `before-deploy` is refused by [`render_state`].
    async fn migrate(&self, _plan: &EcsPlan, _permit: Permit<'_>) -> Result<()> {
        Ok(())
    }

    async fn apply(
        &self,
        plan: &EcsPlan,
        written: &mut EcsWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        permit.check()?;
        storage::apply(&plan.facts.buckets, &self.session).await?;
        let state = &plan.wanted;
        let documents = &state.documents;
        let vpc = plan.facts.edge.as_ref().map_or("", |found| found.vpc.as_str());
        written.edge = plan.facts.edge.as_ref().map(EdgeIds::from).unwrap_or_default();
        let (before, after): (Vec<&EdgeStep>, Vec<&EdgeStep>) =
            plan.edge_steps.iter().partition(|step| step.comes_before_service());
        if let Some(wanted) = &documents.edge {
            for step in before {
                permit.check()?;
                let applied = self.edge.apply(step, wanted, vpc, &mut written.edge).await;
                // Only this one changes what runs already.
                if matches!(step, EdgeStep::UpdateTargetGroup { .. }) {
                    written.note(applied)?;
                } else {
                    applied?;
                }
            }
        }
        if plan.register {
            permit.check()?;
            let definition = &documents.task_definition;
            let (environment, version) = (&state.environment, &state.image.version);
            let arn = self.api.register(definition, &self.region, environment, version).await?;
            written.definition_arn = Some(arn);
        }
        let definition_arn = self.wanted_arn(plan, written);
        let rollout = Rollout {
            service: &documents.service.name,
            definition_arn: &definition_arn,
            desired: documents.service.desired,
            balancer: written.edge.target_group.as_deref().map(|arn| (arn, state.port)),
            grace: documents.service.grace,
            environment: &state.environment,
            subnets: &documents.service.subnets,
            security_groups: &documents.service.security_groups,
        };
        permit.check()?;
        let deployment = match plan.service {
            Some(Action::Create) => {
                let created = self.api.create(&rollout).await;
                written.note(created)?
            }
            Some(_) => {
                let updated = self.api.update(&rollout).await;
                written.note(updated)?
            }
            None => None,
        };
        written.deployment = deployment;
        if let Some(wanted) = &documents.edge {
            for step in after {
                permit.check()?;
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
        let state = &plan.wanted;
        let name = &state.documents.service.name;
        let ours = self.wanted_arn(plan, written);
        let look = self.api.look(name, &ours, Some(now())).await?;
        let live = plan.facts.service.as_ref();
        let owner = owner_of_primary(&look, written.deployment.as_deref(), live);
        if owner == Ownership::Others {
            return Err(superseded(&look.primary));
        }
        permit.check()?;
        let Some((definition_arn, rollback)) = self.find_way_back(plan).await? else {
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
        let rollout = Rollout {
            service: name,
            definition_arn: &definition_arn,
            desired: rollback.desired,
            balancer: None,
            grace: state.documents.service.grace,
            environment: &state.environment,
            subnets: &rollback.subnets,
            security_groups: &rollback.security_groups,
        };
        self.api.update(&rollout).await?;
        self.wait_until_back(name, &definition_arn).await?;
        Ok(RolledBack::ToGood(revision_of(&definition_arn)))
    }

    /// ECS keeps old revisions, and nothing else of them is left.
    async fn clean_up(&self, _plan: &EcsPlan, _permit: Permit<'_>) -> Result<()> {
        Ok(())
    }

    async fn read_running(&self, state: &State<EcsDocuments>) -> Result<Running> {
        self.api.find_cluster().await?;
        let name = &state.documents.service.name;
        let Some(service) = self.api.find_service(name).await? else {
            return Ok(Running { target: "ecs", state: "absent".into(), ..Running::default() });
        };
        let look = self.api.look(name, &service.definition_arn, Some(now())).await?;
        let ids = match &state.documents.edge {
            Some(wanted) => EdgeIds::from(&self.edge.find(wanted).await?),
            None => EdgeIds::default(),
        };
        Ok(Running {
            target: "ecs",
            state: match judge_look(&look, &service.definition_arn) {
                Verdict::Healthy { .. } => "ready",
                Verdict::Progressing(_) => "progressing",
                Verdict::Failed(_) => "failed",
            }
            .into(),
            version: service.version,
            digest: service.definition.image.split_once('@').map(|(_, digest)| digest.to_string()),
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
