//! How an exposed service is reached: target group and rule of the load balancer, route of the HTTP
//! API. What is wanted, what was found, and what is missing. Pure.
//!
//! An HTTP API reaches a private load balancer through a VPC link:
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-private.html>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::states::{LinkState, ListenerProtocol};
use crate::config::platform::{ApiGateway, Authorizer, Ecs};
use crate::deploy::{Order, short_name};
use crate::error::{Error, Result};

/// The tag by which we know what is ours: its value is the API's name, or the service's.
pub const OWNER_TAG: &str = "cicd.clinicult.io/owner";

/// What an exposed service needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EdgeWanted {
    /// The load balancer's listener.
    pub listener: String,
    pub target_group: String,
    pub port: u16,
    pub health: HealthCheck,
    /// Path patterns of the listener's rule.
    pub patterns: Vec<String>,
    /// None where the platform has no API Gateway: then only the load balancer knows the service.
    pub gateway: Option<WantedGateway>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WantedGateway {
    pub api: String,
    /// A link is what its subnets and security groups are, which cannot be changed: its name says
    /// them.
    pub link: String,
    pub subnets: Vec<String>,
    pub security_groups: Vec<String>,
    pub routes: Vec<String>,
    pub path: String,
    /// The name in the certificate of an HTTPS listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Who lets requests on its routes through. None: who is none of ours, or nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorizer: Option<Authorizer>,
}

/// The name of the authorizer that is ours in an API: all services of the environment share it.
pub const AUTHORIZER: &str = "cicd";

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeFound {
    /// The network of the load balancer, which its target groups belong to.
    pub vpc: String,
    pub protocol: ListenerProtocol,
    pub target_group: Option<TargetGroup>,
    pub rules: Vec<Rule>,
    pub gateway: FoundGateway,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetGroup {
    pub arn: String,
    pub port: u16,
    pub health: HealthCheck,
}

/// How a load balancer finds out whether a target is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HealthCheck {
    pub path: String,
    /// The statuses that say so, as ELB writes them: `200-299`.
    pub codes: String,
}

/// What every target takes for well. A target group of its own accord takes 200 only.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_Matcher.html>
const WELL: &str = "200-299";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub arn: String,
    pub priority: u32,
    pub patterns: Vec<String>,
    pub target_group: String,
    /// It has our service's tag. Only those that lead to our target group are asked.
    pub is_ours: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundGateway {
    /// Its id and where it answers.
    pub api: Option<(String, String)>,
    /// Its id and state.
    pub link: Option<(String, LinkState)>,
    /// The integration that leads to our listener through our link.
    pub integration: Option<String>,
    /// The name that it finds in the listener's certificate.
    pub server_name: Option<String>,
    /// The id and the settings of our authorizer.
    pub authorizer: Option<(String, Authorizer)>,
    /// By route key.
    pub routes: BTreeMap<String, FoundRoute>,
    /// Integrations that lead to somewhere else than our listener: id → where.
    pub foreign: BTreeMap<String, String>,
    /// Whether the stage `$default` is there.
    pub stage: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundRoute {
    pub id: String,
    /// `integrations/ID`.
    pub target: String,
    /// Whether somebody has to let requests through.
    pub is_guarded: bool,
    /// The id of its authorizer.
    pub authorizer: Option<String>,
}

/// What is to be done, in this order. Each says what it is in [`EdgeStep::object`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EdgeStep {
    CreateTargetGroup,
    /// Targets are to be asked differently.
    UpdateTargetGroup {
        arn: String,
        before: HealthCheck,
    },
    CreateRule {
        priority: u32,
    },
    CreateApi,
    /// In the clean-up: nothing leads through it then.
    DeleteLink {
        id: String,
        /// The integration that leads through it.
        integration: Option<String>,
    },
    CreateLink,
    CreateIntegration,
    /// It finds another name in the listener's certificate.
    UpdateIntegration {
        id: String,
        before: Option<String>,
    },
    /// Before the routes: none of them is open for a moment.
    CreateAuthorizer,
    UpdateAuthorizer {
        id: String,
    },
    CreateRoute {
        key: String,
    },
    /// Requests are let through by our authorizer only.
    GuardRoute {
        key: String,
        id: String,
    },
    UpdateRoute {
        key: String,
        id: String,
        /// Where it led, for the rollback; none where that is dead.
        before: Option<String>,
    },
    CreateStage,
    /// In the clean-up, when the new path answers: the service is no longer exposed on it.
    DeleteRoute {
        key: String,
        id: String,
    },
    /// After its routes: by it the next run knows what is left over.
    DeleteRule {
        arn: String,
        patterns: Vec<String>,
    },
}

/// What an exposed service needs; none for one that is not exposed.
///
/// # Errors
/// Bad input when the platform does not say which load balancer.
pub fn render_edge(
    order: &Order,
    ecs: &Ecs,
    api_gateway: Option<&ApiGateway>,
) -> Result<Option<EdgeWanted>> {
    let settings = &order.settings;
    let Some(expose) = &settings.expose else { return Ok(None) };
    let listener = ecs.listener.clone().ok_or_else(|| {
        Error::input(format!(
            "cannot expose {}: environment {} has no load balancer",
            settings.name, settings.environment
        ))
        .fix(format!(
            "set environments.{}.ecs.listener in platform.yaml to the ARN of the load balancer's listener",
            settings.environment
        ))
    })?;
    let path = expose.path.as_str().trim_end_matches('/').to_string();
    // A listener's pattern is at most 128 characters, and both would take these letters for more
    // than themselves.
    // https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html#path-conditions
    if path.len() > 126 || path.contains(['*', '{', '}']) {
        return Err(Error::input(format!(
            "cannot expose `{}`: it is no path for a load balancer",
            expose.path
        ))
        .fix("use at most 126 characters, without *, { and }: `expose: {path: /patients}`"));
    }
    let mut network: Vec<&str> =
        ecs.subnets.iter().chain(&ecs.security_groups).map(String::as_str).collect();
    network.sort_unstable();
    let gateway = api_gateway.map(|api| WantedGateway {
        api: api.name.clone(),
        link: short_name(&format!("cicd-{}", network.join("-")), 64),
        subnets: ecs.subnets.clone(),
        security_groups: ecs.security_groups.clone(),
        routes: route_keys(&path),
        path: path.clone(),
        server_name: api.server_name.clone(),
        authorizer: api.authorizer.clone(),
    });
    Ok(Some(EdgeWanted {
        listener,
        target_group: target_group_name(&settings.name, &settings.environment),
        port: settings.port,
        health: HealthCheck { path: settings.health.path.clone(), codes: WELL.into() },
        patterns: rule_patterns(&path),
        gateway,
    }))
}

/// One path more than the prefix itself: `/patients` and all below it, never `/patients-archive`.
fn rule_patterns(path: &str) -> Vec<String> {
    match path {
        "" => vec!["/*".into()],
        path => vec![path.into(), format!("{path}/*")],
    }
}

fn route_keys(path: &str) -> Vec<String> {
    let at = if path.is_empty() { "/" } else { path };
    vec![format!("ANY {at}"), format!("ANY {path}/{{proxy+}}")]
}

/// The path that a rule of ours is for; `None` for one that is of another shape.
fn path_of(patterns: &[String]) -> Option<&str> {
    let path = match patterns.iter().min_by_key(|pattern| pattern.len())?.as_str() {
        "/*" => "",
        path => path,
    };
    has_same_paths(&rule_patterns(path), patterns).then_some(path)
}

/// The name of a service's target group, which has at most 32 characters.
pub fn target_group_name(service: &str, environment: &str) -> String {
    short_name(&format!("{service}-{environment}"), 32)
}

/// What is missing.
///
/// # Errors
/// Refused when somebody else answers on the path already, or the target group is of another port,
/// which cannot be changed.
pub fn plan_edge(wanted: &EdgeWanted, found: &EdgeFound) -> Result<Vec<EdgeStep>> {
    refuse_listener(wanted, &found.protocol)?;
    let mut steps = Vec::new();
    match &found.target_group {
        None => steps.push(EdgeStep::CreateTargetGroup),
        Some(group) if group.port != wanted.port => {
            let (name, port) = (&wanted.target_group, group.port);
            return Err(Error::refused(format!(
                "cannot use target group {name}: it is for port {port}, the service listens on {}",
                wanted.port
            ))
            .fix(
                "delete the service's rule and target group, as their port cannot be changed, then \
                 deploy again",
            ));
        }
        Some(group) if group.health != wanted.health => {
            steps.push(EdgeStep::UpdateTargetGroup {
                arn: group.arn.clone(),
                before: group.health.clone(),
            });
        }
        Some(_) => {}
    }
    let mine = found.target_group.as_ref().map(|group| group.arn.as_str());
    let same_path =
        found.rules.iter().find(|rule| has_same_paths(&rule.patterns, &wanted.patterns));
    match same_path {
        Some(rule) if Some(rule.target_group.as_str()) == mine => {}
        Some(rule) => {
            return Err(Error::refused(format!(
                "cannot use {}: it is taken on this load balancer",
                wanted.patterns.join(" and ")
            ))
            .why(format!("rule {} sends it to {}", rule.priority, rule.target_group))
            .fix("choose another `expose.path`, or remove that rule"));
        }
        None => steps.push(EdgeStep::CreateRule { priority: free_priority(&found.rules, wanted)? }),
    }
    if let Some(gateway) = &wanted.gateway {
        steps.extend(plan_gateway(gateway, &found.gateway, &found.protocol)?);
    }
    let is_left_over = |rule: &&Rule| {
        rule.is_ours
            && Some(rule.target_group.as_str()) == mine
            && !has_same_paths(&rule.patterns, &wanted.patterns)
    };
    for rule in found.rules.iter().filter(is_left_over) {
        let path = path_of(&rule.patterns).filter(|_| wanted.gateway.is_some());
        for key in path.map(route_keys).unwrap_or_default() {
            let route = found.gateway.routes.get(&key);
            let leads_here = |route: &&FoundRoute| {
                let id = route.target.strip_prefix("integrations/").unwrap_or(&route.target);
                !found.gateway.foreign.contains_key(id)
            };
            if let Some(route) = route.filter(leads_here) {
                steps.push(EdgeStep::DeleteRoute { key, id: route.id.clone() });
            }
        }
        let (arn, patterns) = (rule.arn.clone(), rule.patterns.clone());
        steps.push(EdgeStep::DeleteRule { arn, patterns });
    }
    Ok(steps)
}

/// Refuses a listener whose requests could not be led to a service.
fn refuse_listener(wanted: &EdgeWanted, protocol: &ListenerProtocol) -> Result<()> {
    let gateway = wanted.gateway.as_ref().filter(|gateway| gateway.server_name.is_none());
    let (why, fix) = match (protocol, gateway) {
        (ListenerProtocol::Http, _) | (ListenerProtocol::Https, None) => return Ok(()),
        (ListenerProtocol::Https, Some(gateway)) => (
            "it speaks HTTPS, and API Gateway has to know the name in its certificate".to_string(),
            format!(
                "add to platform.yaml: api-gateway: {{name: {}, server-name: NAME.EXAMPLE.ORG}}",
                gateway.api
            ),
        ),
        (ListenerProtocol::Unknown(word), _) => (
            format!("it is for {word}, and only those for HTTP and HTTPS have rules for paths"),
            "name a listener of an application load balancer in `ecs.listener`".to_string(),
        ),
    };
    let headline = format!("cannot deploy behind listener {}: {why}", wanted.listener);
    Err(Error::refused(headline).fix(fix))
}

fn plan_gateway(
    wanted: &WantedGateway,
    found: &FoundGateway,
    protocol: &ListenerProtocol,
) -> Result<Vec<EdgeStep>> {
    let mut steps = Vec::new();
    if found.api.is_none() {
        steps.push(EdgeStep::CreateApi);
    }
    let link_stays = match &found.link {
        Some((_, LinkState::Failed)) => {
            steps.push(EdgeStep::CreateLink);
            false
        }
        Some(_) => true,
        None => {
            steps.push(EdgeStep::CreateLink);
            false
        }
    };
    let integration = found.integration.as_ref().filter(|_| link_stays);
    let server_name = wanted.server_name.as_ref().filter(|_| *protocol == ListenerProtocol::Https);
    match integration {
        None => steps.push(EdgeStep::CreateIntegration),
        Some(id) if found.server_name.as_ref() != server_name => {
            let before = found.server_name.clone();
            steps.push(EdgeStep::UpdateIntegration { id: id.clone(), before });
        }
        Some(_) => {}
    }
    match (&wanted.authorizer, &found.authorizer) {
        (Some(_), None) => steps.push(EdgeStep::CreateAuthorizer),
        (Some(wanted), Some((id, settings))) if wanted != settings => {
            steps.push(EdgeStep::UpdateAuthorizer { id: id.clone() });
        }
        _ => {}
    }
    for key in &wanted.routes {
        let Some(route) = found.routes.get(key) else {
            steps.push(EdgeStep::CreateRoute { key: key.clone() });
            continue;
        };
        let leads_to = route.target.strip_prefix("integrations/").unwrap_or(&route.target);
        if let Some(elsewhere) = found.foreign.get(leads_to) {
            let api = &wanted.api;
            return Err(Error::refused(format!(
                "cannot use route {key} of API {api}: it is taken"
            ))
            .why(format!("it leads to {elsewhere}"))
            .fix("choose another `expose.path`, or remove that route"));
        }
        let authorizer = found.authorizer.as_ref().map(|(id, _)| id);
        if wanted.authorizer.is_some()
            && (authorizer.is_none() || route.authorizer.as_ref() != authorizer)
        {
            steps.push(EdgeStep::GuardRoute { key: key.clone(), id: route.id.clone() });
        }
        if integration.is_none_or(|id| id != leads_to) {
            // Through a link that failed nobody came.
            let is_dead = found.integration.as_deref() == Some(leads_to) && !link_stays;
            let before = (!is_dead && !leads_to.is_empty()).then(|| route.target.clone());
            steps.push(EdgeStep::UpdateRoute { key: key.clone(), id: route.id.clone(), before });
        }
    }
    if !found.stage {
        steps.push(EdgeStep::CreateStage);
    }
    if let Some((id, LinkState::Failed)) = &found.link {
        let (id, integration) = (id.clone(), found.integration.clone());
        steps.push(EdgeStep::DeleteLink { id, integration });
    }
    Ok(steps)
}

/// Whether two rules are for the same paths.
pub fn has_same_paths(a: &[String], b: &[String]) -> bool {
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    sorted(a) == sorted(b)
}

/// The lowest free priority among those for paths of this length: longer paths come first, so that
/// `/a/b` is not caught by `/a`. Priorities are 1 to 50000 and unique on a listener.
pub fn free_priority(rules: &[Rule], wanted: &EdgeWanted) -> Result<u32> {
    let longest = wanted.patterns.iter().map(String::len).max().unwrap_or(0).min(400);
    let from = 50_000 - (longest as u32) * 100;
    let taken: Vec<u32> = rules.iter().map(|rule| rule.priority).collect();
    (from..=50_000).find(|priority| !taken.contains(priority)).ok_or_else(|| {
        Error::refused("cannot create a rule: the load balancer's listener has no free priority")
            .fix("remove rules of services that are gone")
    })
}

impl EdgeStep {
    /// Whether the service needs it when it is made.
    pub fn comes_before_service(&self) -> bool {
        matches!(
            self,
            EdgeStep::CreateTargetGroup
                | EdgeStep::UpdateTargetGroup { .. }
                | EdgeStep::CreateRule { .. }
        )
    }

    /// Whether it waits for the clean-up.
    pub fn comes_last(&self) -> bool {
        matches!(
            self,
            EdgeStep::DeleteLink { .. }
                | EdgeStep::DeleteRoute { .. }
                | EdgeStep::DeleteRule { .. }
        )
    }

    /// What it changes, as plans and outcomes name it.
    pub fn object(&self, wanted: &EdgeWanted) -> String {
        let gateway = wanted.gateway.as_ref();
        match self {
            EdgeStep::CreateTargetGroup | EdgeStep::UpdateTargetGroup { .. } => {
                format!("TargetGroup/{}", wanted.target_group)
            }
            EdgeStep::CreateRule { .. } => {
                format!("ListenerRule{}", wanted.patterns.first().map_or("", String::as_str))
            }
            EdgeStep::CreateApi => {
                format!("Api/{}", gateway.map_or("", |gateway| gateway.api.as_str()))
            }
            EdgeStep::CreateLink | EdgeStep::DeleteLink { .. } => {
                format!("VpcLink/{}", gateway.map_or("", |gateway| gateway.link.as_str()))
            }
            EdgeStep::CreateIntegration | EdgeStep::UpdateIntegration { .. } => {
                format!("Integration/{}", wanted.target_group)
            }
            EdgeStep::CreateAuthorizer | EdgeStep::UpdateAuthorizer { .. } => {
                format!("Authorizer/{AUTHORIZER}")
            }
            EdgeStep::CreateRoute { key }
            | EdgeStep::GuardRoute { key, .. }
            | EdgeStep::UpdateRoute { key, .. }
            | EdgeStep::DeleteRoute { key, .. } => format!("Route/{key}"),
            EdgeStep::DeleteRule { patterns, .. } => {
                format!("ListenerRule{}", patterns.first().map_or("", String::as_str))
            }
            EdgeStep::CreateStage => "Stage/$default".into(),
        }
    }
}

/// The route that a GET of `path` takes: a full match comes before one with a greedy variable, and
/// the longer one before the shorter.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html>
pub fn find_route<'a>(
    routes: &'a BTreeMap<String, FoundRoute>,
    path: &str,
) -> Option<&'a FoundRoute> {
    let parts: Vec<&str> = path.split('/').collect();
    let rank = |key: &str| -> Option<(bool, usize, bool)> {
        if key == "$default" {
            return Some((false, 0, false));
        }
        let (method, pattern) = key.split_once(' ')?;
        let pattern: Vec<&str> = pattern.split('/').collect();
        let is_greedy = pattern.last().is_some_and(|last| last.ends_with("+}"));
        let fixed = pattern.len() - usize::from(is_greedy);
        let matches = ["GET", "ANY"].contains(&method)
            && (parts.len() == fixed || is_greedy && parts.len() > fixed)
            && pattern.iter().take(fixed).zip(&parts).all(|(a, b)| a == b || a.starts_with('{'));
        matches.then_some((!is_greedy, fixed, method == "GET"))
    };
    let ranked = routes.iter().filter_map(|(key, route)| Some((rank(key)?, route)));
    ranked.max_by_key(|(rank, _)| *rank).map(|(_, route)| route)
}

#[cfg(test)]
mod tests;
