//! What is said to the load balancer and to API Gateway. SDK types end here.

mod gateway;

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, Matcher, PathPatternConditionConfig, ProtocolEnum, RuleCondition, Tag,
    TargetHealthStateEnum, TargetTypeEnum,
};

use super::edge::{
    EdgeFound, EdgeStep, EdgeWanted, FoundGateway, HealthCheck, OWNER_TAG, Rule, TargetGroup,
    free_priority, has_same_paths,
};
use super::states::ListenerProtocol;
use super::verdict::Targets;
use crate::aws::Session;
use crate::aws::call::{Caller, Failure};
use crate::deploy::pen::Pen;
use crate::error::{Error, Result};

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
    authorizer: Option<String>,
    /// The integration that this run has find another name in the certificate, and the one before.
    renamed: Option<(String, Option<String>)>,
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
            authorizer: found.gateway.authorizer.as_ref().map(|(id, _)| id.clone()),
            renamed: None,
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
        let (vpc, protocol) = self.listener(&wanted.listener).await?;
        let target_group = self.target_group(&wanted.target_group).await?;
        let mut rules = self.rules(&wanted.listener).await?;
        if let Some(group) = &target_group {
            self.mark_left_over(&mut rules, &group.arn, wanted).await?;
        }
        Ok(EdgeFound { vpc, protocol, target_group, rules, gateway })
    }

    /// Asks of the rules that lead to our target group from other paths whether they are ours.
    async fn mark_left_over(
        &self,
        rules: &mut [Rule],
        target_group: &str,
        wanted: &EdgeWanted,
    ) -> Result<()> {
        let is_asked = |rule: &Rule| {
            rule.target_group == target_group && !has_same_paths(&rule.patterns, &wanted.patterns)
        };
        for rule in rules.iter_mut().filter(|rule| is_asked(rule)) {
            let describe = || self.balancer.describe_tags().resource_arns(&rule.arn).send();
            let attempt = format!("read the tags of rule {}", rule.arn);
            let action = "elasticloadbalancing:DescribeTags";
            let answer = self.caller.read(&attempt, action, describe).await?;
            let mut tags = answer.tag_descriptions().iter().flat_map(|of_one| of_one.tags());
            rule.is_ours = tags.any(|tag| {
                tag.key() == Some(OWNER_TAG) && tag.value() == Some(&wanted.target_group)
            });
        }
        Ok(())
    }

    /// The network of a listener, and what it speaks.
    async fn listener(&self, listener: &str) -> Result<(String, ListenerProtocol)> {
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
        let vpc = vpc.map(str::to_string).ok_or_else(|| {
            Error::refused(format!(
                "cannot deploy behind load balancer {balancer}: it is in no VPC"
            ))
            .fix(LISTENER_FIX)
        })?;
        let protocol = found.and_then(|found| found.protocol());
        Ok((vpc, protocol.map_or_else(Default::default, |word| word.as_str().into())))
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
            let arn = rule.rule_arn().unwrap_or_default().to_string();
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
            Some(Rule { arn, priority, patterns, target_group, is_ours: false })
        });
        Ok(numbered.collect())
    }

    /// Does one step.
    pub async fn apply(
        &self,
        step: &EdgeStep,
        wanted: &EdgeWanted,
        found: &EdgeFound,
        made: &mut EdgeIds,
        pen: Pen<'_>,
    ) -> Result<()> {
        match (step, &wanted.gateway) {
            (EdgeStep::CreateTargetGroup, _) => {
                made.target_group = Some(self.create_target_group(wanted, &found.vpc, pen).await?)
            }
            (EdgeStep::UpdateTargetGroup { arn, .. }, _) => {
                self.set_health(arn, &wanted.health, pen).await?
            }
            (EdgeStep::CreateRule { priority }, _) => {
                self.create_rule(wanted, *priority, made, pen).await?
            }
            (step, Some(gateway)) => {
                let listener = (wanted.listener.as_str(), &found.protocol);
                self.apply_gateway(step, gateway, listener, made, pen).await?
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
        let api = made.api.as_ref().map(|(id, _)| id.clone()).unwrap_or_default();
        for (route, target) in std::mem::take(&mut made.turned) {
            self.turn_route(&api, &route, &target, pen).await?;
        }
        if let Some((id, before)) = made.renamed.take() {
            self.set_server_name(&api, &id, before.as_deref(), pen).await?;
        }
        Ok(())
    }

    /// Does the steps of the clean-up, when the service answers the new way.
    pub async fn remove(&self, step: &EdgeStep, api: Option<&str>, pen: Pen<'_>) -> Result<()> {
        match (step, api) {
            (EdgeStep::DeleteLink { id, integration }, Some(api)) => {
                self.delete_dead_link(api, id, integration.as_deref(), pen).await
            }
            (EdgeStep::DeleteRoute { key, id }, Some(api)) => {
                self.delete_route(api, key, id, pen).await
            }
            (EdgeStep::DeleteRule { arn, .. }, _) => {
                let delete = || self.balancer.delete_rule().rule_arn(arn).send();
                let attempt = format!("delete rule {arn}");
                let action = "elasticloadbalancing:DeleteRule";
                match self.caller.write(&attempt, action, &pen, delete).await {
                    Err(failure) if failure.is(&["RuleNotFound", "RuleNotFoundException"]) => {
                        Ok(())
                    }
                    deleted => Ok(deleted.map(drop)?),
                }
            }
            _ => Ok(()),
        }
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

fn matcher(health: &HealthCheck) -> Matcher {
    Matcher::builder().http_code(&health.codes).build()
}

/// What is not there is deleted: by a try of ours whose answer was lost, or by somebody else.
pub(super) fn is_gone<T>(deleted: Result<T, Failure>) -> Result<(), Failure> {
    match deleted {
        Err(failure) if failure.status() != Some(404) => Err(failure),
        _ => Ok(()),
    }
}
