//! Facts about an ECS service → what a deploy will do. Pure.

use super::documents::EcsDocuments;
use super::edge::{self, EdgeFound, EdgeStep, EdgeWanted};
use super::task_definition::{TaskDefinition, differences, revision_of};
use crate::config::platform::Ecs as Platform;
use crate::deploy::storage::{self, Bucket};
use crate::deploy::target::{Goal, Good, Plan, State};
use crate::deploy::{Action, Change};
use crate::error::{Error, Result};

/// What stands there now.
#[derive(Clone, Debug, Default)]
pub struct EcsFacts {
    pub service: Option<LiveService>,
    pub buckets: Vec<Bucket>,
    pub edge: Option<EdgeFound>,
}

/// The ECS service as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveService {
    /// The task definition it is told to run, by ARN.
    pub definition_arn: String,
    pub definition: TaskDefinition,
    /// The ids of its deployments at this moment.
    pub deployments: Vec<String>,
    /// The version by which the task definition was registered, by its tag.
    pub version: Option<String>,
    pub desired: u32,
    pub subnets: Vec<String>,
    pub security_groups: Vec<String>,
    /// Whether a load balancer is attached: that cannot be changed.
    pub balanced: bool,
    /// The environment it was deployed for, by its tag; none for one that we did not make.
    pub environment: Option<String>,
}

/// What apply will do.
#[derive(Clone, Debug)]
pub struct EcsPlan {
    pub wanted: State<EcsDocuments>,
    /// The way back.
    pub good: Option<Good<EcsDocuments>>,
    /// Without a recorded way back, what runs now is one.
    pub adopts: bool,
    pub facts: EcsFacts,
    /// Register a new revision; else the service's own is kept.
    pub register: bool,
    pub service: Option<Action>,
    pub edge_steps: Vec<EdgeStep>,
    changes: Vec<Change>,
}

impl Plan for EcsPlan {
    fn changes(&self) -> &[Change] {
        &self.changes
    }
    fn previous_revision(&self) -> Option<String> {
        self.facts.service.as_ref().map(|service| revision_of(&service.definition_arn))
    }
}

/// Decides.
///
/// # Errors
/// Bad input for what ECS cannot be told, refused for what cannot be changed.
pub fn make_plan(
    goal: &Goal<EcsDocuments>,
    facts: EcsFacts,
    platform: &Platform,
) -> Result<EcsPlan> {
    let EcsDocuments { task_definition: definition, service, edge: wanted, .. } =
        &goal.wanted.documents;
    let environment = &goal.wanted.environment;
    if service.subnets.is_empty() {
        return Err(Error::input(format!(
            "environment {environment} has no subnets to run tasks in"
        ))
        .fix(format!("set environments.{environment}.ecs.subnets in platform.yaml")));
    }
    if let Some(other) = facts.service.as_ref().and_then(|service| service.environment.as_ref())
        && other != environment
    {
        return Err(Error::refused(format!(
            "service {} in cluster {} is the one of environment {other}, not of {environment}",
            service.name, platform.cluster
        ))
        .fix(format!(
            "give environment {environment} an ECS cluster of its own in platform.yaml"
        )));
    }
    let mut changes = storage::plan(&facts.buckets);
    let edge_steps = match (wanted, &facts.edge) {
        (Some(wanted), Some(found)) => edge::plan_edge(wanted, found)?,
        _ => Vec::new(),
    };
    // A service can only be attached to a target group that a listener knows; the API comes last,
    // when there is something to reach.
    let (before, after): (Vec<&EdgeStep>, Vec<&EdgeStep>) =
        edge_steps.iter().partition(|step| step.comes_before_service());
    changes.extend(before.into_iter().filter_map(|step| edge_change(step, wanted.as_ref())));

    let mut differ = match &facts.service {
        Some(service) => differences(&service.definition, definition),
        None => vec![format!("image: {}", definition.image)],
    };
    let register = !differ.is_empty();
    if register {
        differ.extend(goal.wanted.documents.rounding.clone());
        let action = if facts.service.is_some() { Action::Update } else { Action::Create };
        let object = format!("TaskDefinition/{}", definition.family);
        changes.push(Change { action, object, details: differ });
    }
    let service = service_change(&facts, &goal.wanted.documents, register, platform)?;
    let action = service.as_ref().map(|change| change.action);
    changes.extend(service);
    changes.extend(after.into_iter().filter_map(|step| edge_change(step, wanted.as_ref())));
    Ok(EcsPlan {
        wanted: goal.wanted.clone(),
        good: goal.good.clone(),
        adopts: goal.adopts,
        facts,
        register,
        service: action,
        edge_steps,
        changes,
    })
}

fn service_change(
    facts: &EcsFacts,
    documents: &EcsDocuments,
    register: bool,
    platform: &Platform,
) -> Result<Option<Change>> {
    let EcsDocuments { task_definition: definition, service: wanted, .. } = documents;
    let (desired, balanced) = (wanted.desired, documents.edge.is_some());
    let object = format!("Service/{}", definition.family);
    let Some(service) = &facts.service else {
        return Ok(Some(Change {
            action: Action::Create,
            object,
            details: vec![format!("tasks: {desired}")],
        }));
    };
    if service.balanced != balanced {
        return Err(Error::refused(format!(
            "service {} {} a load balancer, and that cannot be changed",
            definition.family,
            if balanced { "has no" } else { "has" }
        ))
        .fix(format!(
            "delete the service (`aws ecs delete-service --cluster {} --service {} --force`), then deploy again",
            platform.cluster, definition.family
        )));
    }
    let mut details = Vec::new();
    if service.desired != desired {
        details.push(format!("tasks: {} → {desired}", service.desired));
    }
    for (name, before, after) in [
        ("subnets", &service.subnets, &wanted.subnets),
        ("security-groups", &service.security_groups, &wanted.security_groups),
    ] {
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        if sorted(before) != sorted(after) {
            details.push(format!("{name}: {} → {}", before.join(" "), after.join(" ")));
        }
    }
    if register {
        details.push("runs the new task definition".into());
    }
    Ok((!details.is_empty()).then_some(Change { action: Action::Update, object, details }))
}

fn edge_change(step: &EdgeStep, wanted: Option<&EdgeWanted>) -> Option<Change> {
    let wanted = wanted?;
    let (action, details) = match step {
        EdgeStep::UpdateTargetGroup { before, .. } => {
            let after = &wanted.health;
            (
                Action::Update,
                vec![format!(
                    "health: {} ({}) → {} ({})",
                    before.path, before.codes, after.path, after.codes
                )],
            )
        }
        EdgeStep::UpdateRoute { .. } => {
            (Action::Update, vec!["leads to this load balancer".into()])
        }
        EdgeStep::DeleteLink { .. } => (Action::Delete, vec!["it has failed".into()]),
        EdgeStep::CreateRule { priority } => {
            (Action::Create, vec![format!("priority {priority}: {}", wanted.patterns.join(", "))])
        }
        _ => (Action::Create, vec![]),
    };
    Some(Change { action, object: step.object(wanted), details })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::platform::Launch;
    use crate::deploy::Image;
    use crate::deploy::ecs::documents::ServiceDocument;
    use crate::deploy::target::HealthCheck;

    fn platform() -> Platform {
        Platform {
            cluster: "c".into(),
            launch: Launch::Fargate,
            subnets: vec!["s1".into(), "s2".into()],
            security_groups: vec!["g".into()],
            execution_role: String::new(),
            task_role: String::new(),
            listener: None,
        }
    }

    fn definition(image: &str) -> TaskDefinition {
        TaskDefinition {
            family: "patients".into(),
            image: image.into(),
            ..TaskDefinition::default()
        }
    }

    fn running(image: &str) -> EcsFacts {
        let service = LiveService {
            deployments: vec![],
            definition_arn: "arn:…/patients:6".into(),
            definition: definition(image),
            version: None,
            desired: 2,
            subnets: vec!["s2".into(), "s1".into()],
            security_groups: vec!["g".into()],
            balanced: false,
            environment: None,
        };
        EcsFacts { service: Some(service), ..EcsFacts::default() }
    }

    fn planned(facts: EcsFacts) -> Result<EcsPlan> {
        planned_in(facts, &["s1", "s2"])
    }

    fn planned_in(facts: EcsFacts, subnets: &[&str]) -> Result<EcsPlan> {
        let documents = EcsDocuments {
            task_definition: definition("a@1"),
            service: ServiceDocument {
                name: "patients".into(),
                desired: 2,
                subnets: subnets.iter().map(ToString::to_string).collect(),
                security_groups: vec!["g".into()],
                grace: 60,
            },
            edge: None,
            buckets: vec![],
            rounding: None,
        };
        let wanted = State {
            format: 1,
            target: "ecs".into(),
            service: "patients".into(),
            environment: "production".into(),
            image: Image { repository: "a".into(), digest: "1".into(), version: "1".into() },
            port: 8000,
            health: HealthCheck { path: "/healthz".into(), startup: 60_000 },
            documents,
        };
        let goal = Goal { wanted, good: None, adopts: true, migrates: true };
        make_plan(&goal, facts, &platform())
    }

    fn changes(plan: &EcsPlan) -> Vec<String> {
        plan.changes()
            .iter()
            .map(|change| format!("{:?} {}", change.action, change.object))
            .collect()
    }

    #[test]
    fn facts_become_changes() {
        let none: Vec<String> = vec![];
        assert_eq!(
            changes(&planned(running("a@1")).expect("a plan")),
            none,
            "the order of subnets is no difference"
        );
        assert_eq!(
            changes(&planned(running("a@0")).expect("a plan")),
            ["Update TaskDefinition/patients", "Update Service/patients"]
        );
        assert_eq!(
            changes(&planned(EcsFacts::default()).expect("a plan")),
            ["Create TaskDefinition/patients", "Create Service/patients"]
        );
        let mut scaled = running("a@1");
        scaled.service.as_mut().expect("a service").desired = 1;
        let plan = planned(scaled).expect("a plan");
        assert_eq!(
            (changes(&plan), plan.register),
            (vec!["Update Service/patients".to_string()], false)
        );
        assert_eq!(plan.previous_revision().as_deref(), Some("6"));
        let mut balanced = running("a@1");
        balanced.service.as_mut().expect("a service").balanced = true;
        assert!(planned(balanced).is_err());
        let mut other = running("a@1");
        other.service.as_mut().expect("a service").environment = Some("staging".into());
        assert!(planned(other).expect_err("of staging").message.contains("environment staging"));
        assert!(planned_in(EcsFacts::default(), &[]).is_err());
    }
}
