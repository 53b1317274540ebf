//! Deploys to ECS, reachable through a load balancer and API Gateway.
//!
//! [`task_definition`], [`edge`], [`plan`] and [`verdict`] decide and do no I/O; [`api`] and
//! [`edge_api`] talk to AWS.

mod api;
mod edge;
mod edge_api;
mod plan;
mod task_definition;
mod verdict;

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::aws::Session;
use crate::config::platform::{ApiGateway, Ecs as Platform};
use crate::deploy::{Action, Backend, Order, Restored, Running, Verdict, answers, storage};
use crate::error::{Error, Kind, Result};

use api::{Api, Rollout};
use edge::{Step, Wanted};
use edge_api::{EdgeApi, Made};
use plan::{EcsPlan, Facts};
use verdict::{judge, last_part, revision, superseded_by};

/// How often the way back is looked at, a second apart, before it is said to have failed.
const BACK_LOOKS: u32 = 120;

/// One service on ECS.
pub struct Ecs {
    order: Order,
    platform: Platform,
    session: Session,
    wanted: Option<Wanted>,
    api: Api,
    edge: EdgeApi,
    /// What apply made, for look and prove after it.
    made: Mutex<Outcome>,
    opened: SystemTime,
}

#[derive(Clone, Debug, Default)]
struct Outcome {
    /// The ARN of the task definition that was registered.
    definition: Option<String>,
    /// Whether it was seen to be the primary deployment.
    seen: bool,
    /// Whether anything that a service may already run behind was written.
    wrote: bool,
    edge: Made,
}

impl Ecs {
    /// # Errors
    /// Bad input for what ECS cannot be told.
    pub async fn open(
        order: &Order,
        platform: &Platform,
        api_gateway: Option<&ApiGateway>,
        session: &Session,
    ) -> Result<Ecs> {
        plan::desired_count(&order.settings)?;
        Ok(Ecs {
            wanted: edge::wanted(order, platform, api_gateway)?,
            api: Api::new(session, platform),
            edge: EdgeApi::new(session),
            order: order.clone(),
            platform: platform.clone(),
            session: session.clone(),
            made: Mutex::default(),
            opened: now(),
        })
    }

    fn service(&self) -> String {
        task_definition::service_name(&self.order)
    }

    fn made(&self) -> Outcome {
        self.made.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn remember(&self, change: impl FnOnce(&mut Outcome)) {
        change(&mut self.made.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }

    /// The task definition that this deploy wants to run.
    fn ours(&self, plan: &EcsPlan) -> String {
        let known = || plan.facts.service.as_ref().map(|service| service.definition_arn.clone());
        self.made().definition.or_else(known).unwrap_or_default()
    }

    fn rollout<'a>(
        &'a self,
        service: &'a str,
        definition_arn: &'a str,
        desired: u32,
        target_group: Option<&'a str>,
    ) -> Rollout<'a> {
        Rollout {
            service,
            definition_arn,
            desired,
            balancer: target_group.map(|arn| (arn, self.order.settings.port)),
            grace: i32::try_from(self.order.settings.health.startup.as_secs()).unwrap_or(i32::MAX),
            environment: &self.order.settings.environment,
            subnets: &self.platform.subnets,
            security_groups: &self.platform.security_groups,
        }
    }

    /// What runs now.
    ///
    /// # Errors
    /// As [`Backend::observe`].
    pub async fn running(&self) -> Result<Running> {
        self.api.cluster().await?;
        let name = self.service();
        let Some(service) = self.api.service(&name).await? else {
            return Ok(Running { target: "ecs", state: "absent".into(), ..Running::default() });
        };
        let snapshot = self.api.look(&name, &service.definition_arn, Some(self.opened)).await?;
        let found = match &self.wanted {
            Some(wanted) => Some(self.edge.find(wanted).await?),
            None => None,
        };
        let url = found.as_ref().and_then(|found| self.url(&Made::from(found)));
        let state =
            match judge(&snapshot, &service.definition_arn, &revision(&service.definition_arn)) {
                Verdict::Ready { .. } => "ready",
                Verdict::Progressing(_) => "progressing",
                Verdict::Failed(_) => "failed",
            };
        Ok(Running {
            target: "ecs",
            state: state.into(),
            version: service.version,
            digest: service.definition.image.split_once('@').map(|(_, digest)| digest.to_string()),
            revision: Some(revision(&service.definition_arn)),
            url,
            ready: snapshot.running,
            wanted: snapshot.desired,
        })
    }

    /// Where users reach the service.
    fn url(&self, made: &Made) -> Option<String> {
        let path = &self.wanted.as_ref()?.gateway.as_ref()?.path;
        let (_, endpoint) = made.api.as_ref()?;
        Some(format!("{}{path}", endpoint.trim_end_matches('/')))
    }

    /// Waits until `definition_arn` is what runs, all of it.
    async fn back_at(&self, service: &str, definition_arn: &str) -> Result<()> {
        for _ in 0..BACK_LOOKS {
            let snapshot = self.api.look(service, definition_arn, Some(now())).await?;
            if let Verdict::Ready { .. } = judge(&snapshot, definition_arn, "") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Err(Error::unexpected(format!(
            "{} did not come back in {BACK_LOOKS} s",
            last_part(definition_arn)
        ))
        .fix(format!("look at service {service} in ECS cluster {}", self.platform.cluster)))
    }
}

impl Backend for Ecs {
    type Facts = Facts;
    type Plan = EcsPlan;

    async fn observe(&self) -> Result<Facts> {
        self.api.cluster().await?;
        Ok(Facts {
            service: self.api.service(&self.service()).await?,
            buckets: storage::observe(&self.order, &self.session).await?,
            edge: match &self.wanted {
                Some(wanted) => Some(self.edge.find(wanted).await?),
                None => None,
            },
        })
    }

    fn plan(&self, facts: Facts) -> Result<EcsPlan> {
        let definition = task_definition::render(&self.order, &self.platform)?;
        self.remember(|made| made.edge = facts.edge.as_ref().map(Made::from).unwrap_or_default());
        plan::plan(facts, definition, self.wanted.clone(), &self.order.settings, &self.platform)
    }

    async fn apply(&self, plan: &EcsPlan) -> Result<()> {
        storage::apply(&plan.facts.buckets, &self.session).await?;
        let vpc = plan.facts.edge.as_ref().map_or("", |found| found.vpc.as_str());
        let mut made = self.made().edge;
        let (before, after): (Vec<&Step>, Vec<&Step>) = plan.edge.iter().partition(|step| {
            matches!(
                step,
                Step::CreateTargetGroup | Step::UpdateTargetGroup { .. } | Step::CreateRule { .. }
            )
        });
        if let Some(wanted) = &plan.wanted {
            for step in before {
                self.remember(|outcome| outcome.wrote = true);
                self.edge.apply(step, wanted, vpc, &mut made).await?;
            }
        }
        if plan.register {
            let Order { settings, destination, image, .. } = &self.order;
            let arn = self
                .api
                .register(
                    &plan.definition,
                    &destination.region,
                    &settings.environment,
                    &image.version,
                )
                .await?;
            self.remember(|outcome| outcome.definition = Some(arn));
        }
        let (name, ours) = (self.service(), self.ours(plan));
        let rollout = self.rollout(&name, &ours, plan.desired, made.target_group.as_deref());
        self.remember(|outcome| outcome.wrote = true);
        match plan.service {
            Some(Action::Create) => self.api.create(&rollout).await?,
            Some(_) => self.api.update(&rollout).await?,
            None => {}
        }
        if let Some(wanted) = &plan.wanted {
            for step in after {
                self.edge.apply(step, wanted, vpc, &mut made).await?;
            }
        }
        self.remember(|outcome| outcome.edge = made);
        Ok(())
    }

    fn wrote(&self) -> bool {
        self.made().wrote
    }

    async fn look(&self, plan: &EcsPlan) -> Result<Verdict> {
        let ours = self.ours(plan);
        // A revision registered just now has no past; of one that ran before only what happens now
        // counts.
        let since = (!plan.register).then_some(self.opened);
        let mut snapshot = self.api.look(&self.service(), &ours, since).await?;
        if snapshot.primary == ours {
            self.remember(|outcome| outcome.seen = true);
        }
        snapshot.seen = self.made().seen;
        snapshot.before = plan
            .facts
            .service
            .as_ref()
            .map(|service| service.definition_arn.clone())
            .unwrap_or_default();
        snapshot.desired = plan.desired;
        if let Some(other) = superseded_by(&snapshot, &ours) {
            return Err(Error::new(
                Kind::Superseded,
                format!("{} was deployed after this one", last_part(other)),
            )
            .fix("nothing to do if that one is newer; else deploy this version again"));
        }
        if let Some(target_group) = self.made().edge.target_group {
            let (healthy, unhealthy) = self.edge.health(&target_group).await?;
            (snapshot.healthy_targets, snapshot.unhealthy) = (Some(healthy), unhealthy);
        }
        Ok(judge(&snapshot, &ours, &revision(&ours)))
    }

    async fn roll_back(&self, plan: &EcsPlan) -> Result<Restored> {
        let name = self.service();
        match &plan.facts.service {
            // A service that was told to run nothing has no last good version: a first deploy that
            // failed leaves this.
            Some(before) if before.desired > 0 => {
                self.edge.restore(&plan.edge).await?;
                let rollout = Rollout {
                    subnets: &before.subnets,
                    security_groups: &before.security_groups,
                    ..self.rollout(&name, &before.definition_arn, before.desired, None)
                };
                self.api.update(&rollout).await?;
                self.back_at(&name, &before.definition_arn).await?;
                Ok(Restored::LastGood(revision(&before.definition_arn)))
            }
            // The deploy ended before there was a service.
            None if self.api.service(&name).await?.is_none() => Ok(Restored::Nothing(
                "what was made beside the service is used by the next deploy".into(),
            )),
            _ => {
                let ours = self.ours(plan);
                self.api.update(&self.rollout(&name, &ours, 0, None)).await?;
                Ok(Restored::Nothing(format!("service {name} is there with no tasks")))
            }
        }
    }

    async fn prove(&self, plan: &EcsPlan) -> Result<Option<String>> {
        let made = self.made().edge;
        let Some(url) = self.url(&made) else { return Ok(None) };
        if let Some(link) = &made.link {
            self.edge.link_available(link).await?;
        }
        let health = &self.order.settings.health.path;
        answers(&format!("{url}{health}"), self.order.settings.health.startup).await?;
        let _ = plan;
        Ok(Some(url))
    }

    async fn settle(&self, _plan: &EcsPlan) -> Result<()> {
        // ECS keeps the revisions; the service itself says which one is the last good.
        Ok(())
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// The task definition that deploy would register, as JSON. Pure.
///
/// # Errors
/// Bad input for what ECS cannot be told.
pub fn render(order: &Order, platform: &Platform) -> Result<String> {
    plan::desired_count(&order.settings)?;
    let definition = task_definition::render(order, platform)?;
    serde_json::to_string_pretty(&definition)
        .map_err(|error| Error::unexpected("showing the task definition").why(error))
}

#[expect(
    clippy::disallowed_methods,
    reason = "tasks that ended before this run say nothing about it"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
