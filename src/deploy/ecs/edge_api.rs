//! What is said to the load balancer and to API Gateway. SDK types end here.

use std::time::Duration;

use aws_sdk_apigatewayv2::error::ProvideErrorMetadata;
use aws_sdk_apigatewayv2::types::{ConnectionType, IntegrationType, ProtocolType};
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, Matcher, PathPatternConditionConfig, ProtocolEnum, RuleCondition, Tag,
    TargetHealthStateEnum, TargetTypeEnum,
};

use super::edge::{
    EdgeFound, EdgeStep, EdgeWanted, FoundGateway, HealthCheck, OWNER_TAG, Rule, TargetGroup,
    WantedGateway, free_priority,
};
use crate::aws::{Session, refusal};
use crate::error::{Error, Kind, Result};

/// How often a VPC link is looked at while it comes up, two seconds apart: AWS says it takes
/// minutes.
const LINK_LOOKS: u32 = 150;

/// The pages that a listing is read to at most.
const PAGES: usize = 50;

/// How often a rule is tried when other deploys take its priority at the same time.
const RULE_TRIES: usize = 10;

pub struct EdgeApi {
    balancer: aws_sdk_elasticloadbalancingv2::Client,
    gateway: aws_sdk_apigatewayv2::Client,
}

/// The ids that exist by now: those found, and those made since.
#[derive(Clone, Debug, Default)]
pub struct EdgeIds {
    pub target_group: Option<String>,
    pub api: Option<(String, String)>,
    pub link: Option<String>,
    pub integration: Option<String>,
}

impl EdgeIds {
    /// What was there before anything was made.
    pub fn from(found: &EdgeFound) -> EdgeIds {
        EdgeIds {
            target_group: found.target_group.as_ref().map(|group| group.arn.clone()),
            api: found.gateway.api.clone(),
            link: found.gateway.link.as_ref().map(|(id, _)| id.clone()),
            integration: found.gateway.integration.clone(),
        }
    }
}

impl EdgeApi {
    pub fn new(session: &Session) -> EdgeApi {
        EdgeApi {
            balancer: aws_sdk_elasticloadbalancingv2::Client::new(session.config()),
            gateway: aws_sdk_apigatewayv2::Client::new(session.config()),
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
        let missing = |error: Error| {
            error.fix("set `ecs.listener` in platform.yaml to the ARN of a listener in this region")
        };
        let answer = self.balancer.describe_listeners().listener_arns(listener).send().await;
        let answer = answer.map_err(|error| match error.code() {
            Some("ListenerNotFound") => {
                missing(Error::refused(format!("there is no listener {listener}")))
            }
            _ => refusal(
                format!("find listener {listener}"),
                "elasticloadbalancing:DescribeListeners",
                &error,
            ),
        })?;
        let balancer = answer.listeners().first().and_then(|listener| listener.load_balancer_arn());
        let balancer = balancer
            .ok_or_else(|| missing(Error::refused(format!("there is no listener {listener}"))))?;
        let answer =
            self.balancer.describe_load_balancers().load_balancer_arns(balancer).send().await;
        let answer = answer.map_err(|error| {
            refusal(
                format!("find load balancer {balancer}"),
                "elasticloadbalancing:DescribeLoadBalancers",
                &error,
            )
        })?;
        let vpc = answer.load_balancers().first().and_then(|balancer| balancer.vpc_id());
        vpc.map(str::to_string)
            .ok_or_else(|| Error::refused(format!("load balancer {balancer} is in no VPC")))
    }

    async fn target_group(&self, name: &str) -> Result<Option<TargetGroup>> {
        let answer = self.balancer.describe_target_groups().names(name).send().await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error)
                if matches!(
                    error.code(),
                    Some("TargetGroupNotFound" | "TargetGroupNotFoundException")
                ) =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(refusal(
                    format!("find target group {name}"),
                    "elasticloadbalancing:DescribeTargetGroups",
                    &error,
                ));
            }
        };
        Ok(answer.target_groups().first().and_then(|group| {
            Some(TargetGroup {
                arn: group.target_group_arn()?.to_string(),
                port: group.port().and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
                health: HealthCheck {
                    path: group.health_check_path().unwrap_or_default().to_string(),
                    codes: group
                        .matcher()
                        .and_then(|matcher| matcher.http_code())
                        .unwrap_or_default()
                        .to_string(),
                },
            })
        }))
    }

    async fn rules(&self, listener: &str) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        let mut marker = None;
        for _ in 0..PAGES {
            let answer = self
                .balancer
                .describe_rules()
                .listener_arn(listener)
                .set_marker(marker)
                .send()
                .await;
            let answer = answer.map_err(|error| {
                refusal(
                    format!("read the rules of {listener}"),
                    "elasticloadbalancing:DescribeRules",
                    &error,
                )
            })?;
            for rule in answer.rules() {
                // The default rule has no number.
                let Some(priority) = rule.priority().and_then(|priority| priority.parse().ok())
                else {
                    continue;
                };
                let patterns = rule
                    .conditions()
                    .iter()
                    .filter(|condition| condition.field() == Some("path-pattern"));
                let patterns =
                    patterns.flat_map(|condition| match condition.path_pattern_config() {
                        Some(config) => config.values().to_vec(),
                        None => condition.values().to_vec(),
                    });
                let target = rule.actions().iter().find_map(|action| {
                    let forward = action
                        .forward_config()
                        .and_then(|forward| forward.target_groups().first()?.target_group_arn());
                    action.target_group_arn().or(forward)
                });
                rules.push(Rule {
                    priority,
                    patterns: patterns.collect(),
                    target_group: target.unwrap_or_default().to_string(),
                });
            }
            marker = answer.next_marker().map(str::to_string);
            if marker.is_none() {
                break;
            }
        }
        Ok(rules)
    }

    async fn find_gateway(&self, wanted: &WantedGateway, listener: &str) -> Result<FoundGateway> {
        let api = self.api(&wanted.api).await?;
        let link = self.link(&wanted.link).await?;
        let mut found =
            FoundGateway { api: api.clone(), link: link.clone(), ..FoundGateway::default() };
        let Some((api, _)) = api else { return Ok(found) };
        let denied = |what: &str, error: Error| Error {
            message: format!("cannot {what} of API {}", wanted.api),
            ..error
        };

        let integrations =
            self.gateway.get_integrations().api_id(&api).max_results("500").send().await;
        let integrations = integrations.map_err(|error| {
            denied("read the integrations", refusal(String::new(), "apigateway:GET", &error))
        })?;
        found.integration = integrations
            .items()
            .iter()
            .find(|one| {
                one.integration_uri() == Some(listener)
                    && one.connection_id().is_some()
                    && one.connection_id() == link.as_ref().map(|(id, _)| id.as_str())
            })
            .and_then(|one| one.integration_id().map(str::to_string));
        let elsewhere =
            integrations.items().iter().filter(|one| one.integration_uri() != Some(listener));
        found.foreign = elsewhere
            .filter_map(|one| {
                Some((
                    one.integration_id()?.to_string(),
                    one.integration_uri().unwrap_or("another").into(),
                ))
            })
            .collect();

        let mut token = None;
        for _ in 0..PAGES {
            let routes = self.gateway.get_routes().api_id(&api).set_next_token(token).send().await;
            let routes = routes.map_err(|error| {
                denied("read the routes", refusal(String::new(), "apigateway:GET", &error))
            })?;
            for route in routes.items() {
                if let (Some(key), Some(id)) = (route.route_key(), route.route_id()) {
                    found
                        .routes
                        .insert(key.into(), (id.into(), route.target().unwrap_or_default().into()));
                }
            }
            token = routes.next_token().map(str::to_string);
            if token.is_none() {
                break;
            }
        }
        let stages = self.gateway.get_stages().api_id(&api).send().await;
        let stages = stages.map_err(|error| {
            denied("read the stages", refusal(String::new(), "apigateway:GET", &error))
        })?;
        found.stage = stages.items().iter().any(|stage| stage.stage_name() == Some("$default"));
        Ok(found)
    }

    /// The API by our tag, else by its name; names are not unique. Of two that carry our tag the
    /// older one counts: two first deploys may have made one each, and the younger one's maker
    /// takes it back.
    async fn api(&self, name: &str) -> Result<Option<(String, String)>> {
        let mut owned = Vec::new();
        let mut named = Vec::new();
        let mut token = None;
        for _ in 0..PAGES {
            let answer = self.gateway.get_apis().set_next_token(token).send().await;
            let answer = answer
                .map_err(|error| refusal("list the HTTP APIs".into(), "apigateway:GET", &error))?;
            for api in
                answer.items().iter().filter(|api| api.protocol_type() == Some(&ProtocolType::Http))
            {
                let id = api.api_id().unwrap_or_default().to_string();
                let age = (
                    api.created_date().map(aws_sdk_apigatewayv2::primitives::DateTime::as_nanos),
                    id.clone(),
                );
                let found = (age, (id, api.api_endpoint().unwrap_or_default().to_string()));
                if api
                    .tags()
                    .and_then(|tags| tags.get(OWNER_TAG))
                    .is_some_and(|owner| owner == name)
                {
                    owned.push(found.clone());
                }
                if api.name() == Some(name) {
                    named.push(found);
                }
            }
            token = answer.next_token().map(str::to_string);
            if token.is_none() {
                break;
            }
        }
        if owned.is_empty() && named.len() > 1 {
            let ids: Vec<&str> = named.iter().map(|(_, (id, _))| id.as_str()).collect();
            return Err(Error::refused(format!(
                "there are {} HTTP APIs {name}: {}",
                ids.len(),
                ids.join(", ")
            ))
            .fix(format!("tag the one that is meant with {OWNER_TAG}={name}")));
        }
        let candidates = if owned.is_empty() { named } else { owned };
        Ok(candidates.into_iter().min().map(|(_, found)| found))
    }

    async fn link(&self, name: &str) -> Result<Option<(String, String)>> {
        let answer = self.gateway.get_vpc_links().max_results("500").send().await;
        let answer = answer
            .map_err(|error| refusal("list the VPC links".into(), "apigateway:GET", &error))?;
        let status = |link: &aws_sdk_apigatewayv2::types::VpcLink| {
            link.vpc_link_status().map(|status| status.as_str().to_string()).unwrap_or_default()
        };
        // One that failed and was replaced is still listed while it goes. Of several, all runs take
        // the same: the oldest that lives.
        let named = answer
            .items()
            .iter()
            .filter(|link| link.name() == Some(name) && status(link) != "DELETING");
        let chosen = named.min_by_key(|link| {
            (
                status(link) == "FAILED",
                link.created_date().map(aws_sdk_apigatewayv2::primitives::DateTime::as_nanos),
                link.vpc_link_id().map(str::to_string),
            )
        });
        Ok(chosen.and_then(|link| Some((link.vpc_link_id()?.to_string(), status(link)))))
    }

    /// Does one step.
    pub async fn apply(
        &self,
        step: &EdgeStep,
        wanted: &EdgeWanted,
        vpc: &str,
        made: &mut EdgeIds,
    ) -> Result<()> {
        match (step, &wanted.gateway) {
            (EdgeStep::CreateTargetGroup, _) => {
                made.target_group = Some(self.create_target_group(wanted, vpc).await?)
            }
            (EdgeStep::UpdateTargetGroup { arn, .. }, _) => {
                self.set_health(arn, &wanted.health).await?
            }
            (EdgeStep::CreateRule { priority }, _) => {
                self.create_rule(wanted, *priority, made).await?
            }
            (step, Some(gateway)) => {
                self.apply_gateway(step, gateway, &wanted.listener, made).await?
            }
            (_, None) => {}
        }
        Ok(())
    }

    /// Puts back what the old version needs of what `steps` changed: else the load balancer asks it
    /// as the new one.
    pub async fn restore_health_checks(&self, steps: &[EdgeStep]) -> Result<()> {
        for step in steps {
            if let EdgeStep::UpdateTargetGroup { arn, before } = step {
                self.set_health(arn, before).await?;
            }
        }
        Ok(())
    }

    async fn set_health(&self, arn: &str, health: &HealthCheck) -> Result<()> {
        let change = self.balancer.modify_target_group().target_group_arn(arn);
        let answer = change.health_check_path(&health.path).matcher(matcher(health)).send().await;
        answer.map_err(|error| {
            refusal(
                format!("update target group {arn}"),
                "elasticloadbalancing:ModifyTargetGroup",
                &error,
            )
        })?;
        Ok(())
    }

    async fn create_target_group(&self, wanted: &EdgeWanted, vpc: &str) -> Result<String> {
        let name = &wanted.target_group;
        let answer = self
            .balancer
            .create_target_group()
            .name(name)
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
            .await
            .map_err(|error| {
                refusal(
                    format!("create target group {name}"),
                    "elasticloadbalancing:CreateTargetGroup",
                    &error,
                )
            })?;
        let arn = answer.target_groups().first().and_then(|group| group.target_group_arn());
        arn.map(str::to_string)
            .ok_or_else(|| Error::unexpected(format!("target group {name} has no ARN")))
    }

    async fn create_rule(&self, wanted: &EdgeWanted, priority: u32, made: &EdgeIds) -> Result<()> {
        let patterns =
            PathPatternConditionConfig::builder().set_values(Some(wanted.patterns.clone())).build();
        let condition =
            RuleCondition::builder().field("path-pattern").path_pattern_config(patterns).build();
        let forward = Action::builder()
            .r#type(ActionTypeEnum::Forward)
            .set_target_group_arn(made.target_group.clone())
            .build();
        let attempt = || format!("create the rule for {}", wanted.patterns.join(", "));
        let mut priority = priority;
        for _ in 0..RULE_TRIES {
            let answer = self
                .balancer
                .create_rule()
                .listener_arn(&wanted.listener)
                .priority(i32::try_from(priority).unwrap_or(50_000))
                .conditions(condition.clone())
                .actions(forward.clone())
                .tags(Tag::builder().key(OWNER_TAG).value(&wanted.target_group).build())
                .send()
                .await;
            match answer {
                Ok(_) => return Ok(()),
                // Another service's deploy was quicker with this number: the next free one does as
                // well.
                Err(error)
                    if matches!(error.code(), Some("PriorityInUse" | "PriorityInUseException")) =>
                {
                    priority = free_priority(&self.rules(&wanted.listener).await?, wanted)?;
                }
                Err(error) => {
                    return Err(refusal(attempt(), "elasticloadbalancing:CreateRule", &error));
                }
            }
        }
        Err(Error::unexpected(attempt())
            .why("other deploys took each priority first")
            .fix("deploy again"))
    }

    async fn apply_gateway(
        &self,
        step: &EdgeStep,
        wanted: &WantedGateway,
        listener: &str,
        made: &mut EdgeIds,
    ) -> Result<()> {
        let api = || made.api.as_ref().map(|(id, _)| id.clone()).unwrap_or_default();
        let target = || made.integration.as_ref().map(|id| format!("integrations/{id}"));
        match step {
            EdgeStep::CreateApi => {
                let create = self
                    .gateway
                    .create_api()
                    .name(&wanted.api)
                    .protocol_type(ProtocolType::Http)
                    .tags(OWNER_TAG, &wanted.api);
                let answer = create.send().await;
                let answer = answer.map_err(|error| {
                    refusal(format!("create HTTP API {}", wanted.api), "apigateway:POST", &error)
                })?;
                let text = |value: Option<&str>| value.unwrap_or_default().to_string();
                let mine = (text(answer.api_id()), text(answer.api_endpoint()));
                let winner = self.api(&wanted.api).await?.unwrap_or_else(|| mine.clone());
                if winner.0 != mine.0 {
                    let answer = self.gateway.delete_api().api_id(&mine.0).send().await;
                    answer.map_err(|error| {
                        refusal(
                            format!("take back HTTP API {}", mine.0),
                            "apigateway:DELETE",
                            &error,
                        )
                    })?;
                }
                made.api = Some(winner);
            }
            EdgeStep::DeleteLink { id } => {
                let answer = self.gateway.delete_vpc_link().vpc_link_id(id).send().await;
                answer.map_err(|error| {
                    refusal(format!("delete VPC link {id}"), "apigateway:DELETE", &error)
                })?;
            }
            EdgeStep::CreateLink => {
                let answer = self
                    .gateway
                    .create_vpc_link()
                    .name(&wanted.link)
                    .set_subnet_ids(Some(wanted.subnets.clone()))
                    .set_security_group_ids(Some(wanted.security_groups.clone()))
                    .tags(OWNER_TAG, &wanted.api)
                    .send()
                    .await
                    .map_err(|error| {
                        refusal(
                            format!("create VPC link {}", wanted.link),
                            "apigateway:POST",
                            &error,
                        )
                    })?;
                let mine = answer.vpc_link_id().unwrap_or_default().to_string();
                let winner =
                    self.link(&wanted.link).await?.map_or_else(|| mine.clone(), |(id, _)| id);
                if winner != mine {
                    let answer = self.gateway.delete_vpc_link().vpc_link_id(&mine).send().await;
                    answer.map_err(|error| {
                        refusal(format!("take back VPC link {mine}"), "apigateway:DELETE", &error)
                    })?;
                }
                made.link = Some(winner);
            }
            EdgeStep::CreateIntegration => {
                let answer = self
                    .gateway
                    .create_integration()
                    .api_id(api())
                    .integration_type(IntegrationType::HttpProxy)
                    .integration_method("ANY")
                    .integration_uri(listener)
                    .connection_type(ConnectionType::VpcLink)
                    .set_connection_id(made.link.clone())
                    .payload_format_version("1.0")
                    .send()
                    .await
                    .map_err(|error| {
                        refusal(
                            format!("create an integration of API {}", wanted.api),
                            "apigateway:POST",
                            &error,
                        )
                    })?;
                made.integration = answer.integration_id().map(str::to_string);
            }
            EdgeStep::CreateRoute { key } => {
                let answer = self
                    .gateway
                    .create_route()
                    .api_id(api())
                    .route_key(key)
                    .set_target(target())
                    .send()
                    .await;
                match answer {
                    Ok(_) => {}
                    // Another run was quicker with the same route.
                    Err(error) if error.code() == Some("ConflictException") => {}
                    Err(error) => {
                        return Err(refusal(
                            format!("create route {key}"),
                            "apigateway:POST",
                            &error,
                        ));
                    }
                }
            }
            EdgeStep::UpdateRoute { key, id } => {
                let answer = self
                    .gateway
                    .update_route()
                    .api_id(api())
                    .route_id(id)
                    .set_target(target())
                    .send()
                    .await;
                answer.map_err(|error| {
                    refusal(format!("update route {key}"), "apigateway:PATCH", &error)
                })?;
            }
            EdgeStep::CreateStage => {
                let answer = self
                    .gateway
                    .create_stage()
                    .api_id(api())
                    .stage_name("$default")
                    .auto_deploy(true)
                    .send()
                    .await;
                match answer {
                    Ok(_) => {}
                    // Another run was quicker with the same stage.
                    Err(error) if error.code() == Some("ConflictException") => {}
                    Err(error) => {
                        let attempt = format!("create the stage of API {}", wanted.api);
                        return Err(refusal(attempt, "apigateway:POST", &error));
                    }
                }
            }
            EdgeStep::CreateTargetGroup
            | EdgeStep::UpdateTargetGroup { .. }
            | EdgeStep::CreateRule { .. } => {}
        }
        Ok(())
    }

    /// Waits until the VPC link carries traffic.
    pub async fn wait_for_link(&self, id: &str) -> Result<()> {
        for _ in 0..LINK_LOOKS {
            let answer = self.gateway.get_vpc_link().vpc_link_id(id).send().await;
            let answer = answer.map_err(|error| {
                refusal(format!("inspect VPC link {id}"), "apigateway:GET", &error)
            })?;
            match answer.vpc_link_status().map(|status| status.as_str()) {
                Some("AVAILABLE") => return Ok(()),
                Some("FAILED") => {
                    return Err(Error::new(Kind::Broken, format!("VPC link {id} has failed"))
                        .why(answer.vpc_link_status_message().unwrap_or("API Gateway gives no reason"))
                        .fix("see that its subnets and security groups exist; the next deploy replaces it"));
                }
                // INACTIVE wakes with the first request; PENDING comes up.
                Some("INACTIVE") => return Ok(()),
                _ => tokio::time::sleep(Duration::from_secs(2)).await,
            }
        }
        Err(Error::new(Kind::TimedOut, format!("VPC link {id} did not become available"))
            .fix("look at it in API Gateway, then deploy again"))
    }

    /// How many targets of a group are healthy, and what is said of one that is not.
    pub async fn target_health(&self, target_group: &str) -> Result<(u32, Option<String>)> {
        let answer =
            self.balancer.describe_target_health().target_group_arn(target_group).send().await;
        let answer = answer.map_err(|error| {
            refusal(
                format!("read the health of {target_group}"),
                "elasticloadbalancing:DescribeTargetHealth",
                &error,
            )
        })?;
        let targets = || {
            answer.target_health_descriptions().iter().filter_map(|target| target.target_health())
        };
        let healthy = targets()
            .filter(|health| health.state() == Some(&TargetHealthStateEnum::Healthy))
            .count();
        let unhealthy =
            targets().find(|health| health.state() == Some(&TargetHealthStateEnum::Unhealthy));
        let why = unhealthy.and_then(|health| health.description()).map(str::to_string);
        Ok((u32::try_from(healthy).unwrap_or(u32::MAX), why))
    }
}

fn matcher(health: &HealthCheck) -> Matcher {
    Matcher::builder().http_code(&health.codes).build()
}
