//! A canary: copies of the new version beside all of the old one, a few more with each step. What
//! they are, how many, and when a step is over. Pure: "now" is a fact.
//!
//! The old copies all stay, so that an autoscaler goes on with them, and that going back is one
//! deletion. The share of the new version is that of its copies among all that the Service selects.

use std::time::Duration;

use serde_json::{Value, json};

use super::EksDocuments;
use super::object::{Key, Object};
use crate::config::strategy::Canary;

/// What tells the pods of a canary from the others that the Service selects.
const TRACK: &str = "cicd.clinicult.io/track";
const CANARY: &str = "canary";

/// What a canary deploys beside the service, and how it goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct CanaryPlan {
    pub deployment: Object,
    /// Leads to the new copies alone, so that they can be asked.
    pub service: Object,
    pub canary: Canary,
    /// What is asked for.
    pub path: String,
    /// The copies of the old version.
    stable: u32,
}

/// What a canary's Deployment and Service are called.
pub fn name_canary(service: &str) -> String {
    format!("{service}-{CANARY}")
}

/// The keys of what a canary of `service` may have left.
pub fn list_keys(documents: &EksDocuments, service: &str) -> Vec<Key> {
    let objects = documents.objects.iter();
    let own = objects.filter(|_| documents.canary.is_some()).map(Object::key);
    own.filter(|key| key.name == service && matches!(key.kind.as_str(), "Deployment" | "Service"))
        .map(|key| Key { name: name_canary(service), ..key })
        .collect()
}

/// The canary of `service`, made from what is to run when it is over.
pub fn plan_canary(
    documents: &EksDocuments,
    service: &str,
    health: &str,
    stable: u32,
) -> Option<CanaryPlan> {
    let canary = documents.canary.clone()?;
    let find = |kind: &str| {
        let mut objects = documents.objects.iter();
        objects.find(|object| {
            object.kind() == kind && object.name() == service && object.is_rendered()
        })
    };
    let (mut deployment, mut leads) = (find("Deployment")?.clone(), find("Service")?.clone());
    let name = json!(name_canary(service));
    let track = json!({ TRACK: CANARY });
    deployment.set("/metadata/name", name.clone());
    deployment.merge_at("/spec/selector/matchLabels", track.clone());
    deployment.label_template(track.clone());
    leads.set("/metadata/name", name);
    leads.merge_at("/spec/selector", track);
    let path = canary.abort_on.path.as_ref().map_or(health, |path| path.as_str());
    Some(CanaryPlan { deployment, service: leads, path: path.to_string(), canary, stable })
}

impl CanaryPlan {
    /// What is made, in order.
    pub fn objects(&self) -> [&Object; 2] {
        [&self.service, &self.deployment]
    }

    /// The Deployment with `copies`.
    pub fn scale(&self, copies: u32) -> Object {
        let mut deployment = self.deployment.clone();
        deployment.merge_at("/spec", json!({ "replicas": copies }));
        deployment
    }

    /// In words, for the plan.
    pub fn describe(&self) -> Vec<String> {
        let stable = self.stable;
        let step = |weight: &u8| format!("{} beside {stable}", count_copies(stable, *weight));
        let steps: Vec<String> = self.canary.steps.iter().map(step).collect();
        let errors = String::from(self.canary.abort_on.errors);
        let pause = String::from(self.canary.pause);
        vec![
            format!("copies of the new version: {}, for {pause} each", steps.join(", then ")),
            format!("goes back when more than {errors} of the requests for {} fail", self.path),
        ]
    }
}

/// The copies of the new version that are `weight` percent of all, at least.
pub fn count_copies(stable: u32, weight: u8) -> u32 {
    let weight = u32::from(weight.min(99));
    stable.max(1).saturating_mul(weight).div_ceil(100 - weight)
}

/// How the requests to the new version went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub answered: u32,
    pub failed: u32,
    /// The API server did not reach the pods. That says something once it did.
    pub unreached: u32,
}

impl Tally {
    fn failures(self) -> u32 {
        self.failed + if self.answered > 0 { self.unreached } else { 0 }
    }
}

/// What a step has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepFacts {
    pub is_healthy: bool,
    /// Since its copies were healthy for the first time.
    pub held: Duration,
    pub tally: Tally,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Wait,
    /// The step is over, and was well.
    GoOn,
    /// The new version answers too many requests with an error.
    Abort(String),
}

/// What comes next. A step is given up as soon as what it may still be asked cannot change that.
pub fn decide(canary: &Canary, facts: StepFacts) -> Next {
    let Tally { answered, failed, .. } = facts.tally;
    let failures = facts.tally.failures();
    let planned = u32::try_from(canary.pause.0.as_secs()).unwrap_or(u32::MAX);
    let all = planned.max(answered + failed);
    let limit = canary.abort_on.errors;
    if u64::from(failures) * 10_000 > u64::from(limit.hundredths) * u64::from(all.max(1)) {
        let asked = answered + failures;
        let limit = String::from(limit);
        return Next::Abort(format!(
            "{failures} of {asked} requests to the new version failed, and {limit} may"
        ));
    }
    match facts.is_healthy && facts.held >= canary.pause.0 {
        true => Next::GoOn,
        false => Next::Wait,
    }
}

/// Whether the pods of two Deployments differ.
pub fn changes_pods(before: &Value, after: &Value) -> bool {
    before.pointer("/spec/template") != after.pointer("/spec/template")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::strategy::{AbortOn, Percent};
    use crate::config::values::Span;

    #[test]
    fn copies_are_the_share_of_all() {
        let cases = [
            (9, 10, 1),
            (2, 10, 1),
            (1, 1, 1),
            (1, 50, 1),
            (4, 50, 4),
            (10, 10, 2),
            (3, 75, 9),
            (0, 10, 1),
        ];
        for (stable, weight, copies) in cases {
            assert_eq!(count_copies(stable, weight), copies, "{weight} % beside {stable}");
        }
    }

    #[test]
    fn a_step_ends_when_it_was_well_for_its_time() {
        let canary = Canary {
            steps: vec![10],
            pause: Span(Duration::from_secs(100)),
            abort_on: AbortOn { errors: Percent { hundredths: 200 }, path: None },
        };
        let tally = |answered, failed, unreached| Tally { answered, failed, unreached };
        let cases = [
            ("it comes up", false, 0, tally(0, 0, 0), "wait"),
            ("it is healthy, for a moment", true, 20, tally(20, 0, 0), "wait"),
            ("its time is over", true, 100, tally(100, 0, 0), "go on"),
            ("its time is over, and a copy is not healthy", false, 100, tally(90, 0, 0), "wait"),
            ("as many fail as may", true, 100, tally(98, 2, 0), "go on"),
            ("one more fails", true, 50, tally(47, 3, 0), "abort"),
            ("nobody reaches it: its probes are believed", true, 100, tally(0, 0, 100), "go on"),
            ("it is reached no more", true, 50, tally(40, 0, 3), "abort"),
        ];
        for (name, is_healthy, held, tally, expected) in cases {
            let held = Duration::from_secs(held);
            let next = match decide(&canary, StepFacts { is_healthy, held, tally }) {
                Next::Wait => "wait",
                Next::GoOn => "go on",
                Next::Abort(_) => "abort",
            };
            assert_eq!(next, expected, "{name}");
        }
    }
}
