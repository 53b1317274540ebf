//! `autoscale` as Application Auto Scaling is told it: what is wanted, and what differs. Pure.
//!
//! The documents are the inputs of RegisterScalableTarget and PutScalingPolicy.
//! <https://docs.aws.amazon.com/autoscaling/application/APIReference/API_PutScalingPolicy.html>

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::merge::copy_deep;
use crate::config::service::Autoscale;
use crate::deploy::diff::compare_documents;
use crate::deploy::{Action, Change};

/// Our policy; those of other names are others'.
const POLICY: &str = "cicd-cpu";

/// A service whose count of tasks is left to Application Auto Scaling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scaling {
    /// The input of RegisterScalableTarget.
    pub target: Value,
    /// The input of PutScalingPolicy.
    pub policy: Value,
}

/// What is scaled there: both as they could be sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScalingFound {
    pub target: Option<Value>,
    /// Others' policies included.
    pub policies: Vec<Value>,
}

/// One call to Application Auto Scaling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScalingStep {
    /// The policies of a target go with it.
    Deregister(Value),
    Register(Value),
    PutPolicy(Value),
    DeletePolicy(Value),
}

impl ScalingStep {
    /// Whether it takes the count from the autoscaler, before the service is told another one.
    pub fn comes_before_service(&self) -> bool {
        matches!(self, ScalingStep::Deregister(_))
    }
}

impl Scaling {
    pub fn new(autoscale: &Autoscale, service: &Value) -> Scaling {
        let whose = name_count(service);
        let mut target = whose.clone();
        target["MinCapacity"] = json!(autoscale.min);
        target["MaxCapacity"] = json!(autoscale.max);
        let mut policy = whose;
        policy["PolicyName"] = json!(POLICY);
        policy["PolicyType"] = json!("TargetTrackingScaling");
        policy["TargetTrackingScalingPolicyConfiguration"] = json!({
            "TargetValue": f64::from(autoscale.cpu),
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "ECSServiceAverageCPUUtilization",
            },
        });
        Scaling { target, policy }
    }

    pub fn least(&self) -> u32 {
        self.read_bound("MinCapacity")
    }

    fn read_bound(&self, key: &str) -> u32 {
        self.target[key].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    /// The count of tasks that the autoscaler leaves as it is, or goes to at once.
    pub fn bound(&self, count: u32) -> u32 {
        count.min(self.read_bound("MaxCapacity")).max(self.least())
    }
}

/// What names the count of a service to Application Auto Scaling. `service` is the input of
/// CreateService.
pub fn name_count(service: &Value) -> Value {
    let cluster = service["cluster"].as_str().unwrap_or_default();
    let cluster = cluster.rsplit('/').next().unwrap_or_default();
    let name = service["serviceName"].as_str().unwrap_or_default();
    json!({
        "ServiceNamespace": "ecs",
        "ResourceId": format!("service/{cluster}/{name}"),
        "ScalableDimension": "ecs:service:DesiredCount",
    })
}

/// Fields of an answer as the input that would make it.
pub fn to_input(answer: &Value) -> Value {
    const SENT: [&str; 9] = [
        "ServiceNamespace",
        "ResourceId",
        "ScalableDimension",
        "MinCapacity",
        "MaxCapacity",
        "PolicyName",
        "PolicyType",
        "TargetTrackingScalingPolicyConfiguration",
        "StepScalingPolicyConfiguration",
    ];
    let fields = SENT.into_iter().map(|key| (key.to_string(), answer[key].clone()));
    Value::Object(fields.filter(|(_, value)| !value.is_null()).collect())
}

/// What has to be told so that the service is scaled as it is wanted. `found` is `None` where
/// nobody looked: then nothing is removed.
pub fn plan_scaling(
    wanted: Option<&Scaling>,
    found: Option<&ScalingFound>,
    name: &str,
) -> (Vec<ScalingStep>, Option<Change>) {
    let object = format!("Autoscale/{name}");
    let before = found.and_then(|found| found.target.as_ref());
    let Some(wanted) = wanted else {
        let steps: Vec<ScalingStep> =
            before.into_iter().map(|target| ScalingStep::Deregister(target.clone())).collect();
        let details = vec!["`autoscale` is gone".to_string()];
        let change = Change { action: Action::Delete, object, details };
        return (steps.clone(), (!steps.is_empty()).then_some(change));
    };
    let (mut steps, mut details) = (Vec::new(), Vec::new());
    let policies = found.map(|found| found.policies.as_slice()).unwrap_or_default();
    let known = find_policy(policies);
    let mut policy = wanted.policy.clone();
    // What others set beside, such as cooldowns, stays.
    copy_deep(known.unwrap_or(&Value::Null), &mut policy);
    match before {
        None => details.push(format!(
            "{} to {} tasks, {} % of CPU",
            wanted.target["MinCapacity"],
            wanted.target["MaxCapacity"],
            wanted.policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"]
        )),
        Some(before) => {
            details.extend(compare_documents(before, &wanted.target, &[]));
            let nothing = Value::Null;
            details.extend(compare_documents(known.unwrap_or(&nothing), &policy, &[]));
        }
    }
    if before != Some(&wanted.target) {
        steps.push(ScalingStep::Register(wanted.target.clone()));
    }
    if known != Some(&policy) {
        steps.push(ScalingStep::PutPolicy(policy));
    }
    let action = if before.is_some() { Action::Update } else { Action::Create };
    let change = (!steps.is_empty()).then_some(Change { action, object, details });
    (steps, change)
}

/// The calls that take steps back, the last one first.
pub fn undo_steps(steps: &[ScalingStep], found: Option<&ScalingFound>) -> Vec<ScalingStep> {
    let before = found.and_then(|found| found.target.clone());
    let policies = found.map(|found| found.policies.clone()).unwrap_or_default();
    let again = |target: Value| -> Vec<ScalingStep> {
        let policies = policies.clone().into_iter().map(ScalingStep::PutPolicy);
        std::iter::once(ScalingStep::Register(target)).chain(policies).collect()
    };
    let mut undone = Vec::new();
    for step in steps.iter().rev() {
        undone.extend(match (step, &before) {
            (ScalingStep::Deregister(target), _) => again(target.clone()),
            (ScalingStep::Register(_), Some(before)) => vec![ScalingStep::Register(before.clone())],
            (ScalingStep::Register(target), None) => vec![ScalingStep::Deregister(target.clone())],
            (ScalingStep::PutPolicy(policy), Some(_)) => vec![match find_policy(&policies) {
                Some(before) => ScalingStep::PutPolicy(before.clone()),
                None => ScalingStep::DeletePolicy(policy.clone()),
            }],
            // It goes with its target.
            (ScalingStep::PutPolicy(_), None) | (ScalingStep::DeletePolicy(_), _) => Vec::new(),
        });
    }
    undone
}

fn find_policy(policies: &[Value]) -> Option<&Value> {
    policies.iter().find(|policy| policy["PolicyName"] == POLICY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaling(min: u32, max: u32, cpu: u8) -> Scaling {
        let service = json!({ "cluster": "arn:aws:ecs:r:1:cluster/c", "serviceName": "patients" });
        Scaling::new(&Autoscale { min, max, cpu }, &service)
    }

    fn found(scaling: &Scaling) -> ScalingFound {
        let answer = |document: &Value| {
            let mut answer = document.clone();
            answer["CreationTime"] = json!(1.5);
            to_input(&answer)
        };
        let mut policy = answer(&scaling.policy);
        policy["TargetTrackingScalingPolicyConfiguration"]["ScaleInCooldown"] = json!(300);
        let mut others = policy.clone();
        others["PolicyName"] = json!("at-noon");
        ScalingFound { target: Some(answer(&scaling.target)), policies: vec![others, policy] }
    }

    fn describe(steps: &[ScalingStep]) -> Vec<String> {
        let text = |step: &ScalingStep| match step {
            ScalingStep::Deregister(target) => format!("deregister {}", target["ResourceId"]),
            ScalingStep::Register(target) => {
                format!("register {}-{}", target["MinCapacity"], target["MaxCapacity"])
            }
            ScalingStep::PutPolicy(policy) => {
                let tracked = &policy["TargetTrackingScalingPolicyConfiguration"];
                let cooldown = &tracked["ScaleInCooldown"];
                format!("put {} {} {cooldown}", policy["PolicyName"], tracked["TargetValue"])
            }
            ScalingStep::DeletePolicy(policy) => format!("delete {}", policy["PolicyName"]),
        };
        steps.iter().map(text).map(|text| text.replace('"', "")).collect()
    }

    #[test]
    fn a_service_is_scaled_as_it_is_wanted_and_back() {
        let (wanted, before) = (scaling(2, 4, 70), scaling(1, 4, 50));
        struct Case {
            title: &'static str,
            wanted: Option<Scaling>,
            found: Option<ScalingFound>,
            steps: &'static [&'static str],
            undone: &'static [&'static str],
        }
        let bare = ScalingFound { policies: Vec::new(), ..found(&wanted) };
        let cases = [
            Case {
                title: "none before",
                wanted: Some(wanted.clone()),
                found: Some(ScalingFound::default()),
                steps: &["register 2-4", "put cicd-cpu 70.0 null"],
                undone: &["deregister service/c/patients"],
            },
            Case {
                title: "the same",
                wanted: Some(wanted.clone()),
                found: Some(found(&wanted)),
                steps: &[],
                undone: &[],
            },
            Case {
                title: "another one",
                wanted: Some(wanted.clone()),
                found: Some(found(&before)),
                steps: &["register 2-4", "put cicd-cpu 70.0 300"],
                undone: &["put cicd-cpu 50.0 300", "register 1-4"],
            },
            Case {
                title: "a run was killed between the two",
                wanted: Some(wanted.clone()),
                found: Some(bare),
                steps: &["put cicd-cpu 70.0 null"],
                undone: &["delete cicd-cpu"],
            },
            Case {
                title: "no longer",
                wanted: None,
                found: Some(found(&before)),
                steps: &["deregister service/c/patients"],
                undone: &["register 1-4", "put at-noon 50.0 300", "put cicd-cpu 50.0 300"],
            },
            Case { title: "never", wanted: None, found: None, steps: &[], undone: &[] },
        ];
        for Case { title, wanted, found, steps, undone } in cases {
            let (planned, change) = plan_scaling(wanted.as_ref(), found.as_ref(), "patients");
            assert_eq!(describe(&planned), steps, "{title}");
            assert_eq!(change.is_some(), !steps.is_empty(), "{title}");
            assert_eq!(describe(&undo_steps(&planned, found.as_ref())), undone, "{title}");
        }
    }

    #[test]
    fn the_count_stays_between_its_bounds() {
        let scaling = scaling(2, 4, 70);
        let bounds = [0, 1, 2, 3, 4, 5].map(|count| scaling.bound(count));
        assert_eq!(bounds, [2, 2, 2, 3, 4, 4]);
    }
}
