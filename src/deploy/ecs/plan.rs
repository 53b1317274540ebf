//! Facts about an ECS service → what a deploy will do. Pure.

use crate::config::platform::Ecs as Platform;
use crate::config::settings::{Replicas, Settings};
use crate::deploy::storage::{self, Bucket};
use crate::deploy::{Action, Change, Plan};
use crate::error::{Error, Result};

use super::edge::{self, Step, Wanted};
use super::task_definition::{self, TaskDefinition, differences};
use super::verdict::revision;

/// What stands there now.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub service: Option<Service>,
    pub buckets: Vec<Bucket>,
    pub edge: Option<edge::Found>,
}

/// The ECS service as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// The task definition it is told to run, by ARN.
    pub definition_arn: String,
    pub definition: TaskDefinition,
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
    pub facts: Facts,
    pub definition: TaskDefinition,
    /// Register a new revision; else the service's own is kept.
    pub register: bool,
    pub service: Option<Action>,
    pub desired: u32,
    pub edge: Vec<Step>,
    pub wanted: Option<Wanted>,
    changes: Vec<Change>,
}

impl Plan for EcsPlan {
    fn changes(&self) -> &[Change] {
        &self.changes
    }
    fn previous_revision(&self) -> Option<String> {
        self.facts.service.as_ref().map(|service| revision(&service.definition_arn))
    }
}

/// Refuses what ECS cannot be told yet, so that nothing of service.yaml is ignored.
///
/// # Errors
/// Bad input that names the key.
pub fn desired_count(settings: &Settings) -> Result<u32> {
    let refuse = |key: &str| {
        Err(Error::input(format!(
            "`{key}` is not supported on ECS yet, and environment {} is on ECS",
            settings.environment
        ))
        .fix(format!("remove `{key}`, or deploy this environment to EKS")))
    };
    if settings.before_deploy.is_some() {
        return refuse("before-deploy");
    }
    if !settings.manifests.is_empty() {
        return refuse("manifests");
    }
    match settings.replicas {
        Replicas::Fixed(count) => Ok(count),
        Replicas::Auto(_) => refuse("autoscale"),
    }
}

/// Decides.
///
/// # Errors
/// Bad input for what ECS cannot be told, refused for what cannot be changed.
pub fn plan(
    facts: Facts,
    definition: TaskDefinition,
    wanted: Option<Wanted>,
    settings: &Settings,
    platform: &Platform,
) -> Result<EcsPlan> {
    let desired = desired_count(settings)?;
    if platform.subnets.is_empty() {
        return Err(Error::input(format!(
            "environment {} has no subnets to run tasks in",
            settings.environment
        ))
        .fix(format!("set environments.{}.ecs.subnets in platform.yaml", settings.environment)));
    }
    if let Some(other) = facts.service.as_ref().and_then(|service| service.environment.as_ref())
        && *other != settings.environment
    {
        return Err(Error::refused(format!(
            "service {} in cluster {} is the one of environment {other}, not of {}",
            definition.family, platform.cluster, settings.environment
        ))
        .fix(format!(
            "give environment {} an ECS cluster of its own in platform.yaml",
            settings.environment
        )));
    }
    let mut changes = storage::plan(&facts.buckets);
    let steps = match (&wanted, &facts.edge) {
        (Some(wanted), Some(found)) => edge::plan(wanted, found)?,
        _ => Vec::new(),
    };
    // A service can only be attached to a target group that a listener knows; the API comes last,
    // when there is something to reach.
    let (before, after): (Vec<&Step>, Vec<&Step>) = steps.iter().partition(|step| {
        matches!(
            step,
            Step::CreateTargetGroup | Step::UpdateTargetGroup { .. } | Step::CreateRule { .. }
        )
    });
    changes.extend(before.into_iter().filter_map(|step| edge_change(step, wanted.as_ref())));

    let mut differ = match &facts.service {
        Some(service) => differences(&service.definition, &definition),
        None => vec![format!("image: {}", definition.image)],
    };
    let register = !differ.is_empty();
    if register {
        differ.extend(task_definition::rounding(settings, &definition));
        let action = if facts.service.is_some() { Action::Update } else { Action::Create };
        changes.push(Change {
            action,
            object: format!("TaskDefinition/{}", definition.family),
            details: differ,
        });
    }
    let service =
        service_change(&facts, &definition, register, desired, wanted.is_some(), platform)?;
    let action = service.as_ref().map(|change| change.action);
    changes.extend(service);
    changes.extend(after.into_iter().filter_map(|step| edge_change(step, wanted.as_ref())));
    Ok(EcsPlan {
        facts,
        definition,
        register,
        service: action,
        desired,
        edge: steps,
        wanted,
        changes,
    })
}

fn service_change(
    facts: &Facts,
    definition: &TaskDefinition,
    register: bool,
    desired: u32,
    balanced: bool,
    platform: &Platform,
) -> Result<Option<Change>> {
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
        ("subnets", &service.subnets, &platform.subnets),
        ("security-groups", &service.security_groups, &platform.security_groups),
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

fn edge_change(step: &Step, wanted: Option<&Wanted>) -> Option<Change> {
    let wanted = wanted?;
    let (action, details) = match step {
        Step::UpdateTargetGroup { before, .. } => {
            let after = &wanted.health;
            (
                Action::Update,
                vec![format!(
                    "health: {} ({}) → {} ({})",
                    before.path, before.codes, after.path, after.codes
                )],
            )
        }
        Step::UpdateRoute { .. } => (Action::Update, vec!["leads to this load balancer".into()]),
        Step::DeleteLink { .. } => (Action::Delete, vec!["it has failed".into()]),
        Step::CreateRule { priority } => {
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
    use crate::config::service::Autoscale;

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

    fn settings(extra: &str) -> Settings {
        let text = format!("name: patients\nport: 8000\nreplicas: 2\n{extra}");
        let service = serde_saphyr::from_str(&text).expect("a service");
        crate::config::settings::resolve(&service, "production").expect("settings")
    }

    fn definition(image: &str) -> TaskDefinition {
        TaskDefinition {
            family: "patients".into(),
            image: image.into(),
            ..TaskDefinition::default()
        }
    }

    fn running(image: &str) -> Facts {
        let service = Service {
            definition_arn: "arn:…/patients:6".into(),
            definition: definition(image),
            version: None,
            desired: 2,
            subnets: vec!["s2".into(), "s1".into()],
            security_groups: vec!["g".into()],
            balanced: false,
            environment: None,
        };
        Facts { service: Some(service), ..Facts::default() }
    }

    fn planned(facts: Facts) -> Result<EcsPlan> {
        plan(facts, definition("a@1"), None, &settings(""), &platform())
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
            changes(&planned(Facts::default()).expect("a plan")),
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
        let nowhere = Platform { subnets: vec![], ..platform() };
        assert!(
            super::plan(Facts::default(), definition("a@1"), None, &settings(""), &nowhere)
                .is_err()
        );
    }

    #[test]
    fn what_ecs_cannot_be_told_is_refused() {
        for (extra, key) in [
            ("before-deploy: {command: [a]}\n", "before-deploy"),
            ("manifests: [a.yaml]\n", "manifests"),
        ] {
            let error = desired_count(&settings(extra)).expect_err(key);
            assert!(error.message.contains(key), "{error}");
        }
        let mut auto = settings("");
        auto.replicas = Replicas::Auto(Autoscale { min: 1, max: 2, cpu: 50 });
        assert!(desired_count(&auto).is_err());
    }
}
