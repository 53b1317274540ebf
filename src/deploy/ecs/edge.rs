//! How an exposed service is reached: target group and rule of the load balancer, route of the HTTP
//! API. What is wanted, what was found, and what is missing. Pure.
//!
//! An HTTP API reaches a private load balancer through a VPC link:
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-private.html>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::states::LinkState;
use crate::config::platform::{ApiGateway, Ecs};
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
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeFound {
    /// The network of the load balancer, which its target groups belong to.
    pub vpc: String,
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
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundGateway {
    /// Its id and where it answers.
    pub api: Option<(String, String)>,
    /// Its id and state.
    pub link: Option<(String, LinkState)>,
    /// The integration that leads to our listener through our link.
    pub integration: Option<String>,
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
    CreateRoute {
        key: String,
    },
    UpdateRoute {
        key: String,
        id: String,
        /// Where it led, for the rollback; none where that is dead.
        before: Option<String>,
    },
    CreateStage,
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
    // One path more than the prefix itself: `/patients` and all below it, never
    // `/patients-archive`.
    let patterns = if path.is_empty() {
        vec!["/*".to_string()]
    } else {
        vec![path.clone(), format!("{path}/*")]
    };
    let at = if path.is_empty() { "/".to_string() } else { path.clone() };
    let routes = vec![format!("ANY {at}"), format!("ANY {path}/{{proxy+}}")];
    let mut network: Vec<&str> =
        ecs.subnets.iter().chain(&ecs.security_groups).map(String::as_str).collect();
    network.sort_unstable();
    let gateway = api_gateway.map(|api| WantedGateway {
        api: api.name.clone(),
        link: short_name(&format!("cicd-{}", network.join("-")), 64),
        subnets: ecs.subnets.clone(),
        security_groups: ecs.security_groups.clone(),
        routes,
        path,
    });
    Ok(Some(EdgeWanted {
        listener,
        target_group: target_group_name(&settings.name, &settings.environment),
        port: settings.port,
        health: HealthCheck { path: settings.health.path.clone(), codes: WELL.into() },
        patterns,
        gateway,
    }))
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
        steps.extend(plan_gateway(gateway, &found.gateway)?);
    }
    Ok(steps)
}

fn plan_gateway(wanted: &WantedGateway, found: &FoundGateway) -> Result<Vec<EdgeStep>> {
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
    if integration.is_none() {
        steps.push(EdgeStep::CreateIntegration);
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
            EdgeStep::CreateIntegration => format!("Integration/{}", wanted.target_group),
            EdgeStep::CreateRoute { key } | EdgeStep::UpdateRoute { key, .. } => {
                format!("Route/{key}")
            }
            EdgeStep::CreateStage => "Stage/$default".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> HealthCheck {
        HealthCheck { path: "/healthz".into(), codes: "200-299".into() }
    }

    fn wanted() -> EdgeWanted {
        EdgeWanted {
            listener: "listener".into(),
            target_group: "patients-production".into(),
            port: 8000,
            health: health(),
            patterns: vec!["/patients".into(), "/patients/*".into()],
            gateway: Some(WantedGateway {
                api: "public".into(),
                link: "link".into(),
                subnets: vec![],
                security_groups: vec![],
                routes: vec!["ANY /patients".into(), "ANY /patients/{proxy+}".into()],
                path: "/patients".into(),
            }),
        }
    }

    fn complete() -> EdgeFound {
        let route = |id: &str| FoundRoute { id: id.into(), target: "integrations/i".into() };
        EdgeFound {
            vpc: "vpc".into(),
            target_group: Some(TargetGroup { arn: "tg".into(), port: 8000, health: health() }),
            rules: vec![Rule {
                arn: "rule".into(),
                priority: 48_900,
                patterns: wanted().patterns,
                target_group: "tg".into(),
            }],
            gateway: FoundGateway {
                api: Some(("a".into(), "https://a".into())),
                link: Some(("l".into(), LinkState::Available)),
                integration: Some("i".into()),
                foreign: BTreeMap::new(),
                routes: [
                    ("ANY /patients".into(), route("r1")),
                    ("ANY /patients/{proxy+}".into(), route("r2")),
                ]
                .into(),
                stage: true,
            },
        }
    }

    fn objects(found: &EdgeFound) -> String {
        match plan_edge(&wanted(), found) {
            Ok(steps) => steps
                .iter()
                .map(|step| {
                    format!("{step:?}").split([' ', '{']).next().unwrap_or_default().to_string()
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => format!("refused: {}", error.message),
        }
    }

    #[test]
    fn what_is_missing_is_planned_and_nothing_else() {
        type Edit = fn(&mut EdgeFound);
        let cases: &[(Edit, &str)] = &[
            (|_| (), ""),
            (
                |found| *found = EdgeFound::default(),
                "CreateTargetGroup CreateRule CreateApi CreateLink CreateIntegration CreateRoute CreateRoute CreateStage",
            ),
            (
                |found| found.target_group.as_mut().expect("one").health.path = "/".into(),
                "UpdateTargetGroup",
            ),
            (
                |found| found.target_group.as_mut().expect("one").health.codes = "200".into(),
                "UpdateTargetGroup",
            ),
            (
                |found| found.target_group.as_mut().expect("one").port = 1,
                "refused: cannot use target group patients-production: it is for port 1, the service listens on 8000",
            ),
            (|found| found.rules.clear(), "CreateRule"),
            (
                |found| found.rules[0].target_group = "other".into(),
                "refused: cannot use /patients and /patients/*: it is taken on this load balancer",
            ),
            (|found| found.rules[0].patterns.reverse(), ""),
            (
                |found| found.gateway.link = None,
                "CreateLink CreateIntegration UpdateRoute UpdateRoute",
            ),
            (
                |found| found.gateway.link = Some(("l".into(), LinkState::Failed)),
                "CreateLink CreateIntegration UpdateRoute UpdateRoute DeleteLink",
            ),
            (|found| found.gateway.link = Some(("l".into(), LinkState::Pending)), ""),
            (|found| found.gateway.integration = None, "CreateIntegration UpdateRoute UpdateRoute"),
            (
                |found| {
                    found.gateway.routes.remove("ANY /patients");
                },
                "CreateRoute",
            ),
            (|found| found.gateway.stage = false, "CreateStage"),
            (
                |found| {
                    found.gateway.foreign = [("i".to_string(), "arn:…/other".to_string())].into()
                },
                "refused: cannot use route ANY /patients of API public: it is taken",
            ),
        ];
        for (number, (edit, expected)) in cases.iter().enumerate() {
            let mut found = complete();
            edit(&mut found);
            assert_eq!(objects(&found), *expected, "case {number}");
        }
    }

    #[test]
    fn priorities_are_free_and_put_longer_paths_first() {
        let mut found = complete();
        found.rules[0].priority = 1;
        let first = free_priority(&found.rules, &wanted()).expect("one");
        assert_eq!(first, 50_000 - 1_100, "/patients/* has eleven characters");
        found.rules[0].priority = first;
        assert_eq!(free_priority(&found.rules, &wanted()).expect("one"), first + 1);
        let longer = EdgeWanted { patterns: vec!["/patients/archive/*".into()], ..wanted() };
        assert!(free_priority(&found.rules, &longer).expect("one") < first);
    }
}
