//! What is said to the load balancer and to API Gateway. SDK types end here.

use std::time::Duration;

use aws_sdk_apigatewayv2::types::{ConnectionType, IntegrationType, ProtocolType, VpcLink};
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, Matcher, PathPatternConditionConfig, ProtocolEnum, RuleCondition, Tag,
    TargetHealthStateEnum, TargetTypeEnum,
};

use super::edge::{
    EdgeFound, EdgeStep, EdgeWanted, FoundGateway, FoundRoute, HealthCheck, OWNER_TAG, Rule,
    TargetGroup, WantedGateway, free_priority, has_same_paths,
};
use super::states::LinkState;
use super::verdict::Targets;
use crate::aws::Session;
use crate::aws::call::{Caller, Failure, Fault};
use crate::deploy::pen::Pen;
use crate::error::{Code, Error, Kind, Result};
use crate::retry::{self, Attempt, RetryPolicy};

/// A VPC link takes minutes to come up.
const LINK_LOOKS: RetryPolicy = RetryPolicy {
    attempts: 200,
    first_pause: Duration::from_secs(1),
    longest_pause: Duration::from_secs(5),
    jitter: 0.0,
};

/// The pages that a listing is read to at most.
const PAGES: usize = 100;

/// How often a rule is tried when other deploys take its priority at the same time.
const RULE_TRIES: usize = 10;

/// What a listener or its load balancer is that is not there.
const LISTENER_FIX: &str =
    "set `ecs.listener` in platform.yaml to the ARN of a listener in this region";

pub struct EdgeApi {
    pub(super) caller: Caller,
    pub(super) balancer: aws_sdk_elasticloadbalancingv2::Client,
    pub(super) gateway: aws_sdk_apigatewayv2::Client,
}

/// The ids that exist by now: those found, and those made since.
#[derive(Clone, Debug, Default)]
pub struct EdgeIds {
    pub target_group: Option<String>,
    pub api: Option<(String, String)>,
    pub link: Option<String>,
    pub integration: Option<String>,
    /// Routes that this run turned to another integration: their ids, and where they led before.
    turned: Vec<(String, String)>,
}

impl EdgeIds {
    /// What was there before anything was made.
    pub fn from(found: &EdgeFound) -> EdgeIds {
        EdgeIds {
            target_group: found.target_group.as_ref().map(|group| group.arn.clone()),
            api: found.gateway.api.clone(),
            link: found.gateway.link.as_ref().map(|(id, _)| id.clone()),
            integration: found.gateway.integration.clone(),
            turned: Vec::new(),
        }
    }
}

impl EdgeApi {
    pub fn new(session: &Session) -> EdgeApi {
        let caller = Caller::new(session);
        EdgeApi {
            balancer: aws_sdk_elasticloadbalancingv2::Client::new(caller.config()),
            gateway: aws_sdk_apigatewayv2::Client::new(caller.config()),
            caller,
        }
    }

    /// Looks for everything an exposed service needs.
    pub async fn find(&self, wanted: &EdgeWanted) -> Result<EdgeFound> {
        let gateway = match &wanted.gateway {
            Some(gateway) => self.find_gateway(gateway, &wanted.listener).await?,
            None => FoundGateway::default(),
        };
        Ok(EdgeFound {
            vpc: self.vpc(&wanted.listener).await?,
            target_group: self.target_group(&wanted.target_group).await?,
            rules: self.rules(&wanted.listener).await?,
            gateway,
        })
    }

    async fn vpc(&self, listener: &str) -> Result<String> {
        let attempt = format!("find listener {listener}");
        let missing = || {
            Error::refused(format!("cannot {attempt}: there is none in this region"))
                .fix(LISTENER_FIX)
        };
        let describe = || self.balancer.describe_listeners().listener_arns(listener).send();
        let action = "elasticloadbalancing:DescribeListeners";
        let answer = match self.caller.read(&attempt, action, describe).await {
            Err(failure) if failure.is(&["ListenerNotFound"]) => return Err(missing()),
            answer => answer?,
        };
        let found = answer.listeners().first();
        let balancer = found.and_then(|found| found.load_balancer_arn()).ok_or_else(missing)?;
        let describe =
            || self.balancer.describe_load_balancers().load_balancer_arns(balancer).send();
        let action = "elasticloadbalancing:DescribeLoadBalancers";
        let attempt = format!("find load balancer {balancer}");
        let answer = self.caller.read(&attempt, action, describe).await?;
        let vpc = answer.load_balancers().first().and_then(|balancer| balancer.vpc_id());
        vpc.map(str::to_string).ok_or_else(|| {
            Error::refused(format!(
                "cannot deploy behind load balancer {balancer}: it is in no VPC"
            ))
            .fix(LISTENER_FIX)
        })
    }

    async fn target_group(&self, name: &str) -> Result<Option<TargetGroup>> {
        let describe = || self.balancer.describe_target_groups().names(name).send();
        let action = "elasticloadbalancing:DescribeTargetGroups";
        let answer = self.caller.read(&format!("find target group {name}"), action, describe).await;
        let answer = match answer {
            Err(failure)
                if failure.is(&["TargetGroupNotFound", "TargetGroupNotFoundException"]) =>
            {
                return Ok(None);
            }
            answer => answer?,
        };
        Ok(answer.target_groups().first().and_then(|group| {
            let codes = group.matcher().and_then(|matcher| matcher.http_code());
            Some(TargetGroup {
                arn: group.target_group_arn()?.to_string(),
                port: group.port().and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
                health: HealthCheck {
                    path: group.health_check_path().unwrap_or_default().to_string(),
                    codes: codes.unwrap_or_default().to_string(),
                },
            })
        }))
    }

    async fn rules(&self, listener: &str) -> Result<Vec<Rule>> {
        let describe = || {
            let rules = self.balancer.describe_rules().listener_arn(listener);
            rules.into_paginator().items().send().collect::<Result<Vec<_>, _>>()
        };
        let attempt = format!("read the rules of {listener}");
        let action = "elasticloadbalancing:DescribeRules";
        let all = self.caller.read(&attempt, action, describe).await?;
        // The default rule has no number.
        let numbered = all.iter().filter_map(|rule| {
            let priority = rule.priority()?.parse().ok()?;
            let conditions = rule.conditions().iter();
            let of_path = conditions.filter(|one| one.field() == Some("path-pattern"));
            let patterns = of_path.flat_map(|condition| match condition.path_pattern_config() {
                Some(config) => config.values().to_vec(),
                None => condition.values().to_vec(),
            });
            let target = rule.actions().iter().find_map(|action| {
                let forward = action.forward_config();
                let first = forward.and_then(|to| to.target_groups().first()?.target_group_arn());
                action.target_group_arn().or(first)
            });
            let (patterns, target_group) =
                (patterns.collect(), target.unwrap_or_default().to_string());
            Some(Rule { arn: rule.rule_arn()?.to_string(), priority, patterns, target_group })
        });
        Ok(numbered.collect())
    }

    /// Reads a listing of API Gateway to its end: its SDK has no paginators.
    async fn read_pages<O, T, E, F>(
        &self,
        attempt: &str,
        send: impl Fn(Option<String>) -> F,
        open: impl Fn(O) -> (Option<Vec<T>>, Option<String>),
    ) -> Result<Vec<T>, Failure>
    where
        E: Into<Fault>,
        F: Future<Output = Result<O, E>>,
    {
        let (mut all, mut token) = (Vec::new(), None);
        for _ in 0..PAGES {
            let page = self.caller.read(attempt, "apigateway:GET", || send(token.clone())).await?;
            let (items, next) = open(page);
            all.extend(items.unwrap_or_default());
            token = next;
            if token.is_none() {
                break;
            }
        }
        Ok(all)
    }

    async fn find_gateway(&self, wanted: &WantedGateway, listener: &str) -> Result<FoundGateway> {
        let api = self.api(&wanted.api).await?;
        let link = self.link(&wanted.link).await?;
        let mut found =
            FoundGateway { api: api.clone(), link: link.clone(), ..FoundGateway::default() };
        let Some((api, _)) = api else { return Ok(found) };
        let attempt = |what: &str| format!("read the {what} of API {}", wanted.api);

        let send =
            |token| self.gateway.get_integrations().api_id(&api).set_next_token(token).send();
        let reading = attempt("integrations");
        let integrations =
            self.read_pages(&reading, send, |page| (page.items, page.next_token)).await?;
        for one in integrations {
            let Some(id) = one.integration_id() else { continue };
            let link = link.as_ref().map(|(id, _)| id.as_str());
            if one.integration_uri() != Some(listener) {
                let uri = one.integration_uri().unwrap_or("another");
                found.foreign.insert(id.into(), uri.into());
            } else if link.is_some() && one.connection_id() == link && found.integration.is_none() {
                found.integration = Some(id.to_string());
            }
        }
        found.routes = self.routes(&api, &wanted.api).await?.into_iter().collect();
        let send = |token| self.gateway.get_stages().api_id(&api).set_next_token(token).send();
        let stages =
            self.read_pages(&attempt("stages"), send, |page| (page.items, page.next_token)).await?;
        found.stage = stages.iter().any(|stage| stage.stage_name() == Some("$default"));
        Ok(found)
    }

    /// Route key → route.
    async fn routes(&self, api: &str, name: &str) -> Result<Vec<(String, FoundRoute)>> {
        let send = |token| self.gateway.get_routes().api_id(api).set_next_token(token).send();
        let attempt = format!("read the routes of API {name}");
        let all = self.read_pages(&attempt, send, |page| (page.items, page.next_token)).await?;
        let known = all.into_iter().filter_map(|route| {
            let target = route.target.unwrap_or_default();
            Some((route.route_key?, FoundRoute { id: route.route_id?, target }))
        });
        Ok(known.collect())
    }

    /// The API by our tag, else by its name; names are not unique. Of two that carry our tag the
    /// older one counts: two first deploys may have made one each, and the younger one's maker
    /// takes it back.
    async fn api(&self, name: &str) -> Result<Option<(String, String)>> {
        let send = |token| self.gateway.get_apis().set_next_token(token).send();
        let all = self.read_pages("list the HTTP APIs", send, |page| (page.items, page.next_token));
        let (mut owned, mut named) = (Vec::new(), Vec::new());
        let all = all.await?;
        for api in all.iter().filter(|api| api.protocol_type() == Some(&ProtocolType::Http)) {
            let id = api.api_id().unwrap_or_default().to_string();
            let created = api.created_date();
            let age = created.map(aws_sdk_apigatewayv2::primitives::DateTime::as_nanos);
            let endpoint = api.api_endpoint().unwrap_or_default().to_string();
            let found = ((age, id.clone()), (id, endpoint));
            let owner = api.tags().and_then(|tags| tags.get(OWNER_TAG));
            if owner.is_some_and(|owner| owner == name) {
                owned.push(found.clone());
            }
            if api.name() == Some(name) {
                named.push(found);
            }
        }
        if owned.is_empty() && named.len() > 1 {
            let ids: Vec<&str> = named.iter().map(|(_, (id, _))| id.as_str()).collect();
            let (count, ids) = (ids.len(), ids.join(", "));
            return Err(Error::refused(format!(
                "cannot choose HTTP API {name}: there are {count} of that name: {ids}"
            ))
            .fix(format!("tag the one that is meant with {OWNER_TAG}={name}")));
        }
        let candidates = if owned.is_empty() { named } else { owned };
        Ok(candidates.into_iter().min().map(|(_, found)| found))
    }

    async fn link(&self, name: &str) -> Result<Option<(String, LinkState)>> {
        let send = |token| self.gateway.get_vpc_links().set_next_token(token).send();
        let all = self.read_pages("list the VPC links", send, |page| (page.items, page.next_token));
        // One that failed and was replaced is still listed while it goes. Of several, all runs take
        // the same: the oldest that lives.
        let all = all.await?;
        let named = all
            .iter()
            .filter(|link| link.name() == Some(name) && state_of(link) != LinkState::Deleting);
        let chosen = named.min_by_key(|link| {
            (
                state_of(link) == LinkState::Failed,
                link.created_date().map(aws_sdk_apigatewayv2::primitives::DateTime::as_nanos),
                link.vpc_link_id().map(str::to_string),
            )
        });
        Ok(chosen.and_then(|link| Some((link.vpc_link_id()?.to_string(), state_of(link)))))
    }

    /// Does one step.
    pub async fn apply(
        &self,
        step: &EdgeStep,
        wanted: &EdgeWanted,
        vpc: &str,
        made: &mut EdgeIds,
        pen: Pen<'_>,
    ) -> Result<()> {
        match (step, &wanted.gateway) {
            (EdgeStep::CreateTargetGroup, _) => {
                made.target_group = Some(self.create_target_group(wanted, vpc, pen).await?)
            }
            (EdgeStep::UpdateTargetGroup { arn, .. }, _) => {
                self.set_health(arn, &wanted.health, pen).await?
            }
            (EdgeStep::CreateRule { priority }, _) => {
                self.create_rule(wanted, *priority, made, pen).await?
            }
            (step, Some(gateway)) => {
                self.apply_gateway(step, gateway, &wanted.listener, made, pen).await?
            }
            (_, None) => {}
        }
        Ok(())
    }

    /// The rollback of what `steps` changed and the old version needs: the load balancer would ask
    /// it as the new one, and users would come by the new way.
    pub async fn restore(
        &self,
        steps: &[EdgeStep],
        made: &mut EdgeIds,
        pen: Pen<'_>,
    ) -> Result<()> {
        for step in steps {
            if let EdgeStep::UpdateTargetGroup { arn, before } = step {
                self.set_health(arn, before, pen).await?;
            }
        }
        for (route, target) in std::mem::take(&mut made.turned) {
            let api = made.api.as_ref().map(|(id, _)| id.as_str()).unwrap_or_default();
            self.turn_route(api, &route, &target, pen).await?;
        }
        Ok(())
    }

    async fn set_health(&self, arn: &str, health: &HealthCheck, pen: Pen<'_>) -> Result<()> {
        let modify = || {
            let modify = self.balancer.modify_target_group().target_group_arn(arn);
            modify.health_check_path(&health.path).matcher(matcher(health)).send()
        };
        let (attempt, action) =
            (format!("update target group {arn}"), "elasticloadbalancing:ModifyTargetGroup");
        self.caller.write(&attempt, action, &pen.reaching_users(), modify).await?;
        Ok(())
    }

    async fn create_target_group(
        &self,
        wanted: &EdgeWanted,
        vpc: &str,
        pen: Pen<'_>,
    ) -> Result<String> {
        let name = &wanted.target_group;
        let create = || {
            let create = self.balancer.create_target_group().name(name);
            create
                .protocol(ProtocolEnum::Http)
                .port(wanted.port.into())
                .vpc_id(vpc)
                .target_type(TargetTypeEnum::Ip)
                .health_check_path(&wanted.health.path)
                .matcher(matcher(&wanted.health))
                .health_check_interval_seconds(10)
                .healthy_threshold_count(2)
                .tags(Tag::builder().key(OWNER_TAG).value(name).build())
                .send()
        };
        let attempt = format!("create target group {name}");
        let action = "elasticloadbalancing:CreateTargetGroup";
        let answer = self.caller.write(&attempt, action, &pen, create).await?;
        let arn = answer.target_groups().first().and_then(|group| group.target_group_arn());
        arn.map(str::to_string)
            .ok_or_else(|| Error::unexpected(format!("cannot {attempt}: the answer names no ARN")))
    }

    async fn create_rule(
        &self,
        wanted: &EdgeWanted,
        priority: u32,
        made: &EdgeIds,
        pen: Pen<'_>,
    ) -> Result<()> {
        let patterns =
            PathPatternConditionConfig::builder().set_values(Some(wanted.patterns.clone())).build();
        let condition =
            RuleCondition::builder().field("path-pattern").path_pattern_config(patterns).build();
        let forward = Action::builder()
            .r#type(ActionTypeEnum::Forward)
            .set_target_group_arn(made.target_group.clone())
            .build();
        let attempt = format!("create the rule for {}", wanted.patterns.join(", "));
        let mut priority = priority;
        for _ in 0..RULE_TRIES {
            let create = || {
                let create = self.balancer.create_rule().listener_arn(&wanted.listener);
                create
                    .priority(i32::try_from(priority).unwrap_or(50_000))
                    .conditions(condition.clone())
                    .actions(forward.clone())
                    .tags(Tag::builder().key(OWNER_TAG).value(&wanted.target_group).build())
                    .send()
            };
            let action = "elasticloadbalancing:CreateRule";
            match self.caller.write(&attempt, action, &pen, create).await {
                Ok(_) => return Ok(()),
                Err(failure) if failure.is(&["PriorityInUse", "PriorityInUseException"]) => {
                    let rules = self.rules(&wanted.listener).await?;
                    // A try of ours whose answer was lost made it.
                    let is_ours = |rule: &Rule| {
                        Some(&rule.target_group) == made.target_group.as_ref()
                            && has_same_paths(&rule.patterns, &wanted.patterns)
                    };
                    if rules.iter().any(is_ours) {
                        return Ok(());
                    }
                    // Another service's deploy was quicker with this number: the next free one does
                    // as well.
                    priority = free_priority(&rules, wanted)?;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Error::unexpected(format!("cannot {attempt}"))
            .why("other deploys took each priority first")
            .fix("deploy again"))
    }

    async fn apply_gateway(
        &self,
        step: &EdgeStep,
        wanted: &WantedGateway,
        listener: &str,
        made: &mut EdgeIds,
        pen: Pen<'_>,
    ) -> Result<()> {
        let api = made.api.as_ref().map(|(id, _)| id.clone()).unwrap_or_default();
        let target = made.integration.as_ref().map(|id| format!("integrations/{id}"));
        let target = target.unwrap_or_default();
        match step {
            EdgeStep::CreateApi => made.api = Some(self.create_api(&wanted.api, pen).await?),
            EdgeStep::CreateLink => made.link = Some(self.create_link(wanted, pen).await?),
            EdgeStep::CreateIntegration => {
                let create = async || -> Result<Option<String>, Fault> {
                    let create = self.gateway.create_integration().api_id(&api);
                    let create = create
                        .integration_type(IntegrationType::HttpProxy)
                        .integration_method("ANY")
                        .integration_uri(listener)
                        .connection_type(ConnectionType::VpcLink)
                        .set_connection_id(made.link.clone())
                        .payload_format_version("1.0");
                    Ok(create.send().await?.integration_id)
                };
                let find = async || {
                    let found = self.find_gateway(wanted, listener).await?;
                    Ok(found.integration.map(Some))
                };
                let attempt = format!("create an integration of API {}", wanted.api);
                let action = "apigateway:POST";
                made.integration =
                    self.caller.create(&attempt, action, &pen, &create, find).await?;
            }
            EdgeStep::CreateRoute { key } => {
                let create = || {
                    let create = self.gateway.create_route().api_id(&api).route_key(key);
                    create.target(&target).send()
                };
                let attempt = format!("create route {key}");
                match self.caller.write(&attempt, "apigateway:POST", &pen, create).await {
                    // One is there by now: a try of ours whose answer was lost, or another run's.
                    Err(failure) if failure.is(&["ConflictException"]) => {
                        let routes = self.routes(&api, &wanted.api).await?;
                        let found = routes.into_iter().find(|(found, _)| found == key);
                        if let Some((_, route)) = found.filter(|(_, route)| route.target != target)
                        {
                            self.turn_route(&api, &route.id, &target, pen).await?;
                        }
                    }
                    created => drop(created?),
                }
            }
            EdgeStep::UpdateRoute { id, before, .. } => {
                // Noted first: what a lost answer did is taken back too.
                made.turned.extend(before.clone().map(|before| (id.clone(), before)));
                self.turn_route(&api, id, &target, pen).await?;
            }
            EdgeStep::CreateStage => {
                let create = || {
                    let create = self.gateway.create_stage().api_id(&api);
                    create.stage_name("$default").auto_deploy(true).send()
                };
                let attempt = format!("create the stage of API {}", wanted.api);
                match self.caller.write(&attempt, "apigateway:POST", &pen, create).await {
                    // Another run was quicker with the same stage.
                    Err(failure) if failure.is(&["ConflictException"]) => {}
                    created => drop(created?),
                }
            }
            // The clean-up does it, when nothing leads through it any more.
            EdgeStep::DeleteLink { .. } => {}
            EdgeStep::CreateTargetGroup
            | EdgeStep::UpdateTargetGroup { .. }
            | EdgeStep::CreateRule { .. } => {}
        }
        Ok(())
    }

    /// Has a route lead to an integration.
    async fn turn_route(&self, api: &str, id: &str, target: &str, pen: Pen<'_>) -> Result<()> {
        let update = || self.gateway.update_route().api_id(api).route_id(id).target(target).send();
        let attempt = format!("update route {id} of API {api}");
        self.caller.write(&attempt, "apigateway:PATCH", &pen.reaching_users(), update).await?;
        Ok(())
    }

    /// Creates the HTTP API; of two that two runs made at once the older one stays. Returns its id
    /// and where it answers.
    async fn create_api(&self, name: &str, pen: Pen<'_>) -> Result<(String, String)> {
        let create = async || -> Result<(String, String), Fault> {
            let create = self.gateway.create_api().name(name).tags(OWNER_TAG, name);
            let made = create.protocol_type(ProtocolType::Http).send().await?;
            Ok((made.api_id.unwrap_or_default(), made.api_endpoint.unwrap_or_default()))
        };
        let find = async || self.api(name).await;
        let attempt = format!("create HTTP API {name}");
        let mine = self.caller.create(&attempt, "apigateway:POST", &pen, &create, find).await?;
        let winner = self.api(name).await?.unwrap_or_else(|| mine.clone());
        if winner.0 != mine.0 {
            let delete = || self.gateway.delete_api().api_id(&mine.0).send();
            let attempt = format!("take back HTTP API {}", mine.0);
            is_gone(self.caller.write(&attempt, "apigateway:DELETE", &pen, delete).await)?;
        }
        Ok(winner)
    }

    /// Creates the VPC link; of two that two runs made at once the older one stays.
    async fn create_link(&self, wanted: &WantedGateway, pen: Pen<'_>) -> Result<String> {
        let create = async || -> Result<String, Fault> {
            let create = self.gateway.create_vpc_link().name(&wanted.link);
            let create = create
                .set_subnet_ids(Some(wanted.subnets.clone()))
                .set_security_group_ids(Some(wanted.security_groups.clone()))
                .tags(OWNER_TAG, &wanted.api);
            Ok(create.send().await?.vpc_link_id.unwrap_or_default())
        };
        let find = async || {
            let found = self.link(&wanted.link).await?;
            let lives = |(id, state)| (state != LinkState::Failed).then_some(id);
            Ok(found.and_then(lives))
        };
        let attempt = format!("create VPC link {}", wanted.link);
        let mine = self.caller.create(&attempt, "apigateway:POST", &pen, &create, find).await?;
        let winner = self.link(&wanted.link).await?.map_or_else(|| mine.clone(), |(id, _)| id);
        if winner != mine {
            self.delete_link("take back", &mine, pen).await?;
        }
        Ok(winner)
    }

    /// Deletes a link that failed, with the integration that names it: API Gateway keeps a link that
    /// one names.
    pub async fn delete_dead_link(
        &self,
        api: &str,
        link: &str,
        integration: Option<&str>,
        pen: Pen<'_>,
    ) -> Result<()> {
        if let Some(id) = integration {
            let delete = || self.gateway.delete_integration().api_id(api).integration_id(id).send();
            let attempt = format!("delete integration {id} of API {api}");
            is_gone(self.caller.write(&attempt, "apigateway:DELETE", &pen, delete).await)?;
        }
        self.delete_link("delete", link, pen).await
    }

    async fn delete_link(&self, verb: &str, id: &str, pen: Pen<'_>) -> Result<()> {
        let delete = || self.gateway.delete_vpc_link().vpc_link_id(id).send();
        let attempt = format!("{verb} VPC link {id}");
        Ok(is_gone(self.caller.write(&attempt, "apigateway:DELETE", &pen, delete).await)?)
    }

    /// Waits until the VPC link carries traffic. Whoever bounds the time drops it.
    pub async fn wait_for_link(&self, id: &str) -> Result<()> {
        let report = self.caller.report();
        retry::run(&LINK_LOOKS, None, report, async |_| self.look_at_link(id).await).await
    }

    async fn look_at_link(&self, id: &str) -> Attempt<()> {
        let get = || self.gateway.get_vpc_link().vpc_link_id(id).send();
        let attempt = format!("inspect VPC link {id}");
        let answer = match self.caller.read(&attempt, "apigateway:GET", get).await {
            Ok(answer) => answer,
            Err(failure) => return Attempt::Refused(failure.error),
        };
        let state = answer.vpc_link_status().map(|status| LinkState::from(status.as_str()));
        let headline = format!("cannot reach the service through VPC link {id}");
        match state {
            // INACTIVE wakes with the first request.
            Some(LinkState::Available | LinkState::Inactive) => Attempt::Done(()),
            Some(LinkState::Failed) => {
                let reason = answer.vpc_link_status_message();
                Attempt::Refused(
                    Error::new(Kind::Broken, format!("{headline}: it has failed"))
                        .code(Code::SmokeCheckFailed)
                        .why(reason.unwrap_or("API Gateway gives no reason"))
                        .fix(
                            "see that its subnets and security groups exist; the next deploy \
                             replaces it",
                        ),
                )
            }
            state => {
                let state = state.map_or_else(|| "unknown".into(), |state| state.to_string());
                let why = Error::new(Kind::TimedOut, format!("{headline}: it is {state}"))
                    .code(Code::DeadlineExceeded)
                    .fix("look at it in API Gateway, then deploy again");
                Attempt::Retry { why, after: None }
            }
        }
    }

    /// How the targets of a group are.
    pub async fn target_health(&self, target_group: &str) -> Result<Targets> {
        let describe =
            || self.balancer.describe_target_health().target_group_arn(target_group).send();
        let attempt = format!("read the health of {target_group}");
        let action = "elasticloadbalancing:DescribeTargetHealth";
        let answer = self.caller.read(&attempt, action, describe).await?;
        let targets = || {
            answer.target_health_descriptions().iter().filter_map(|target| target.target_health())
        };
        let in_state = |state| targets().filter(move |health| health.state() == Some(&state));
        let counted = |state| u32::try_from(in_state(state).count()).unwrap_or(u32::MAX);
        let mut unhealthy = in_state(TargetHealthStateEnum::Unhealthy);
        let why = unhealthy.next().and_then(|health| health.description());
        Ok(Targets {
            healthy: counted(TargetHealthStateEnum::Healthy),
            draining: counted(TargetHealthStateEnum::Draining),
            unhealthy: why.map(str::to_string),
        })
    }
}

/// What is not there is deleted: by a try of ours whose answer was lost, or by somebody else.
pub(super) fn is_gone<T>(deleted: Result<T, Failure>) -> Result<(), Failure> {
    match deleted {
        Err(failure) if failure.status() != Some(404) => Err(failure),
        _ => Ok(()),
    }
}

fn state_of(link: &VpcLink) -> LinkState {
    LinkState::from(link.vpc_link_status().map_or("", |status| status.as_str()))
}

fn matcher(health: &HealthCheck) -> Matcher {
    Matcher::builder().http_code(&health.codes).build()
}
