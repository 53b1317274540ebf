//! What tasks need of the platform before they can start: roles that may be theirs, and a network.
//! Documents → what is looked for; what was found → refusals. Pure.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::live::LiveService;
use super::render::{EcsDocuments, last_part};
use crate::config::pattern;
use crate::error::Error;

/// A role that something of AWS has to be able to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleWanted {
    pub arn: String,
    /// Who takes it: `ecs-tasks.amazonaws.com`.
    pub principal: &'static str,
    /// Its key below `ecs` in platform.yaml.
    key: &'static str,
}

/// What IAM says of a role that it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleFound {
    Missing,
    There { arn: String, trust: Value },
}

/// Where tasks are to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkWanted {
    pub subnets: Vec<String>,
    pub groups: Vec<String>,
}

/// What was found, each with its VPC. `None` where it may not be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkFound {
    pub subnets: Option<Vec<(String, String)>>,
    pub groups: Option<Vec<(String, String)>>,
}

/// What was seen of what a live service does not run with yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrerequisitesSeen {
    pub roles: Vec<(RoleWanted, RoleFound)>,
    pub network: Option<(NetworkWanted, NetworkFound)>,
}

const TASKS: &str = "ecs-tasks.amazonaws.com";
const SCHEDULER: &str = "scheduler.amazonaws.com";

/// The roles that are to be looked for. Those that `live` runs with have proven themselves.
pub fn list_roles(documents: &EcsDocuments, live: Option<&LiveService>) -> Vec<RoleWanted> {
    let definition = &documents.task_definition;
    let of_tasks = [("executionRoleArn", "execution-role"), ("taskRoleArn", "task-role")];
    let is_new = |field: &str| live.is_none_or(|live| live.definition[field] != definition[field]);
    let role = |arn: &Value, principal, key| {
        arn.as_str().map(|arn| RoleWanted { arn: arn.to_string(), principal, key })
    };
    let of_tasks = of_tasks.into_iter().filter(|(field, _)| is_new(field));
    let mut roles: Vec<RoleWanted> =
        of_tasks.filter_map(|(field, key)| role(&definition[field], TASKS, key)).collect();
    // Without a process there was no schedule.
    let had_schedules = live.is_some_and(|live| !live.processes().is_empty());
    let schedule = documents.schedules.first().filter(|_| !had_schedules);
    let scheduler = schedule.map(|one| &one["Target"]["RoleArn"]);
    roles.extend(scheduler.and_then(|arn| role(arn, SCHEDULER, "scheduler.role")));
    roles
}

/// The network that is to be looked for; `None` where `live` runs in it.
pub fn find_new_network(
    documents: &EcsDocuments,
    live: Option<&LiveService>,
) -> Option<NetworkWanted> {
    let of = |service: &Value, field: &str| -> BTreeSet<String> {
        let vpc = &service["networkConfiguration"]["awsvpcConfiguration"];
        let texts = vpc[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_string).collect()
    };
    let both = |service: &Value| (of(service, "subnets"), of(service, "securityGroups"));
    let wanted = both(&documents.service);
    if live.is_some_and(|live| both(&live.document) == wanted) {
        return None;
    }
    let (subnets, groups) = wanted;
    Some(NetworkWanted {
        subnets: subnets.into_iter().collect(),
        groups: groups.into_iter().collect(),
    })
}

/// Every refusal of what was seen, for an environment.
pub fn refuse_prerequisites(seen: &PrerequisitesSeen, environment: &str) -> Vec<Error> {
    let roles = seen.roles.iter();
    let mut refusals: Vec<Error> =
        roles.filter_map(|(wanted, found)| refuse_role(wanted, found, environment)).collect();
    let Some((wanted, found)) = &seen.network else { return refusals };
    let parts = [
        ("subnets", &wanted.subnets, &found.subnets),
        ("security-groups", &wanted.groups, &found.groups),
    ];
    for (key, wanted, found) in parts {
        let Some(found) = found else { continue };
        let is_there = |id: &String| found.iter().any(|(known, _)| known == id);
        let missing: Vec<&str> =
            wanted.iter().filter(|id| !is_there(id)).map(String::as_str).collect();
        if !missing.is_empty() {
            let command = match key {
                "subnets" => "describe-subnets",
                _ => "describe-security-groups",
            };
            refusals.push(
                Error::refused(format!(
                    "cannot run tasks in environment {environment}: EC2 has no {}",
                    missing.join(", ")
                ))
                .fix(format!(
                    "correct environments.{environment}.ecs.{key} in platform.yaml; `aws ec2 \
                     {command}` names those of this account and region"
                )),
            );
        }
    }
    refusals
}

fn refuse_role(wanted: &RoleWanted, found: &RoleFound, environment: &str) -> Option<Error> {
    let RoleWanted { arn, principal, key } = wanted;
    let (key, name) = (format!("environments.{environment}.ecs.{key}"), last_part(arn));
    let headline = format!("cannot use {key}");
    let statement = json!({
        "Effect": "Allow",
        "Principal": { "Service": principal },
        "Action": "sts:AssumeRole",
    });
    let document = json!({ "Version": "2012-10-17", "Statement": [statement] });
    let (trust, known) = match found {
        RoleFound::Missing => {
            return Some(Error::refused(format!("{headline}: IAM has no role {arn}")).fix(format!(
                "correct it in platform.yaml, or create the role: aws iam create-role --role-name \
                 {name} --assume-role-policy-document '{document}'"
            )));
        }
        RoleFound::There { arn, trust } => (trust, arn),
    };
    if known != arn {
        return Some(
            Error::refused(format!("{headline}: IAM has no role {arn}"))
                .why(format!("the role of this name is {known}"))
                .fix(format!("set {key} to {known} in platform.yaml")),
        );
    }
    (!is_trusted(trust, principal)).then(|| {
        Error::refused(format!("{headline}: role {name} does not trust {principal}"))
            .fix(format!("add to the role's trust policy: {statement}"))
    })
}

/// Whether a trust policy lets a service of AWS take the role. Conditions are taken for fulfilled.
fn is_trusted(trust: &Value, principal: &str) -> bool {
    // IAM reads actions in any case, and one of several need not stand in a list.
    let has = |value: &Value, wanted: &str| {
        let patterns = as_list(value).iter().filter_map(Value::as_str);
        patterns.map(str::to_lowercase).any(|pattern| pattern::matches(&pattern, wanted))
    };
    as_list(&trust["Statement"]).iter().any(|statement| {
        let who = &statement["Principal"];
        statement["Effect"] == "Allow"
            && has(&statement["Action"], "sts:assumerole")
            && (has(&who["Service"], principal) || who == "*")
    })
}

fn as_list(value: &Value) -> &[Value] {
    match value {
        Value::Array(all) => all,
        one => std::slice::from_ref(one),
    }
}

/// What is said of subnets and security groups that are not of one VPC: a task's interface has both.
/// ECS takes the service all the same, and starts no task.
pub fn warn_of_networks(found: &NetworkFound) -> Option<String> {
    let all = [&found.subnets, &found.groups].into_iter().flatten().flatten();
    let vpcs: BTreeSet<&str> = all.clone().map(|(_, vpc)| vpc.as_str()).collect();
    if vpcs.len() < 2 {
        return None;
    }
    let told: Vec<String> = all.map(|(id, vpc)| format!("{id} is in {vpc}")).collect();
    Some(format!(
        "`ecs.subnets` and `ecs.security-groups` of platform.yaml are of several VPCs, so that no \
         task can start: {}",
        told.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(principal: &Value, action: &Value) -> Value {
        json!({ "Statement": [
            { "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::1:root" }, "Action": "sts:AssumeRole" },
            { "Effect": "Allow", "Principal": principal, "Action": action },
        ] })
    }

    #[test]
    fn a_role_has_to_be_there_and_to_trust_who_takes_it() {
        let arn = "arn:aws:iam::111122223333:role/x";
        let wanted = RoleWanted { arn: arn.into(), principal: TASKS, key: "task-role" };
        let there = |trust: Value| RoleFound::There { arn: arn.into(), trust };
        let (one, all) = (json!({ "Service": TASKS }), json!({ "Service": ["a", TASKS] }));
        let (ec2, assume) = (json!({ "Service": "ec2.amazonaws.com" }), json!("sts:AssumeRole"));
        let tagged = json!(["sts:AssumeRole", "sts:TagSession"]);
        let of_a_path = RoleFound::There {
            arn: "arn:aws:iam::111122223333:role/p/x".into(),
            trust: trust(&one, &assume),
        };
        struct Case {
            title: &'static str,
            found: RoleFound,
            refusal: Option<&'static str>,
            fix: &'static str,
        }
        let case = |title, found, refusal, fix| Case { title, found, refusal, fix };
        let cases = [
            case("trusted", there(trust(&one, &assume)), None, ""),
            case("one of several", there(trust(&all, &tagged)), None, ""),
            case("in other letters", there(trust(&one, &json!("STS:assumeRole"))), None, ""),
            case("with a wildcard", there(trust(&one, &json!(["sts:Assume*"]))), None, ""),
            case(
                "a statement by itself",
                there(json!({ "Statement": trust(&one, &assume)["Statement"][1] })),
                None,
                "",
            ),
            case(
                "of EC2",
                there(trust(&ec2, &assume)),
                Some("does not trust ecs-tasks.amazonaws.com"),
                "\"Service\":\"ecs-tasks.amazonaws.com\"",
            ),
            case(
                "for another action",
                there(trust(&one, &json!("sts:TagSession"))),
                Some("does not trust"),
                "sts:AssumeRole",
            ),
            case(
                "no statements",
                there(json!({})),
                Some("does not trust"),
                "add to the role's trust policy",
            ),
            case(
                "missing",
                RoleFound::Missing,
                Some("IAM has no role arn:aws:iam::111122223333:role/x"),
                "aws iam create-role --role-name x",
            ),
            case(
                "another path",
                of_a_path,
                Some("IAM has no role"),
                "to arn:aws:iam::111122223333:role/p/x",
            ),
        ];
        for Case { title, found, refusal, fix } in cases {
            let refused = refuse_role(&wanted, &found, "production");
            let message = refused.as_ref().map(|error| error.message.clone());
            match refusal {
                None => assert_eq!(message, None, "{title}"),
                Some(words) => {
                    let message = message.expect(title);
                    assert!(message.contains(words), "{title}: {message}");
                    assert!(message.contains("environments.production.ecs.task-role"), "{message}");
                    let advice = refused.expect(title).advice();
                    assert!(advice.contains(fix), "{title}: {advice}");
                }
            }
        }
    }

    #[test]
    fn all_that_a_network_lacks_is_told_at_once() {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(id, vpc)| (id.to_string(), vpc.to_string())).collect::<Vec<_>>()
        };
        let wanted = NetworkWanted {
            subnets: vec!["subnet-a".into(), "subnet-b".into()],
            groups: vec!["sg-a".into()],
        };
        let refusals = |subnets: Option<Vec<_>>, groups: Option<Vec<_>>| {
            let found = NetworkFound { subnets, groups };
            let warning = warn_of_networks(&found);
            let network = Some((wanted.clone(), found));
            let seen = PrerequisitesSeen { network, ..PrerequisitesSeen::default() };
            let refusals = refuse_prerequisites(&seen, "production");
            refusals.iter().map(ToString::to_string).chain(warning).collect::<Vec<_>>()
        };
        let subnets = pairs(&[("subnet-a", "vpc-1"), ("subnet-b", "vpc-1")]);
        let group = |vpc| Some(pairs(&[("sg-a", vpc), ("sg-other", vpc)][..1]));
        assert!(refusals(Some(subnets.clone()), group("vpc-1")).is_empty());
        assert!(refusals(None, None).is_empty(), "what may not be seen is no fault");
        let both = refusals(Some(pairs(&[("subnet-b", "vpc-1")])), Some(Vec::new()));
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(both[0].contains("EC2 has no subnet-a") && both[1].contains("EC2 has no sg-a"));
        let apart = refusals(Some(subnets), group("vpc-2"));
        assert!(apart[0].contains("several VPCs") && apart[0].contains("sg-a is in vpc-2"));
    }
}
