//! The preflight of ECS: whether what tasks will need is there, asked before the first write. SDK
//! types end here. No value of a secret is read.

use futures::future::{join, join_all, try_join_all};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::live::{LiveService, list_secrets};
use super::prerequisites::{
    NetworkFound, NetworkWanted, PrerequisitesSeen, RoleFound, RoleWanted, find_new_network,
    list_roles, warn_of_networks,
};
use super::render::{EcsDocuments, last_part};
use crate::aws::Session;
use crate::aws::call::{Caller, Fault};
use crate::aws::query::{Leaves, QueryApi};
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};

pub struct Preflight {
    caller: Caller,
    secrets: aws_sdk_secretsmanager::Client,
    query: QueryApi,
}

/// A variable whose secret is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingSecret {
    pub variable: String,
    pub arn: String,
}

/// What was seen of the secrets of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretsSeen {
    pub missing: Vec<MissingSecret>,
    /// Names the versions of all of them; `None` where one could not be seen.
    pub mark: Option<String>,
}

enum SecretSeen {
    /// The version that tasks are given.
    Version(String),
    Missing,
    /// It may not be looked at.
    Hidden,
}

/// The stage of the version that tasks are given.
const CURRENT: &str = "AWSCURRENT";

impl Preflight {
    pub fn new(session: &Session) -> Preflight {
        let caller = Caller::new(session);
        let secrets = aws_sdk_secretsmanager::Client::new(caller.config());
        Preflight { secrets, caller, query: QueryApi::new(session) }
    }

    /// Looks for the roles and the network that the live service does not run with yet. What may
    /// not be looked at is told, and no fault.
    pub async fn look_at_prerequisites(
        &self,
        documents: &EcsDocuments,
        live: Option<&LiveService>,
    ) -> PrerequisitesSeen {
        let roles = list_roles(documents, live).into_iter().map(|role| self.look_at_role(role));
        let network = async {
            let wanted = find_new_network(documents, live)?;
            let found = self.look_at_network(&wanted).await;
            Some((wanted, found))
        };
        let (roles, network) = join(join_all(roles), network).await;
        PrerequisitesSeen { roles: roles.into_iter().flatten().collect(), network }
    }

    async fn look_at_role(&self, wanted: RoleWanted) -> Option<(RoleWanted, RoleFound)> {
        let name = last_part(&wanted.arn);
        let attempt = format!("look at role {name}");
        let answer = self.query.ask("iam:GetRole", &[("RoleName".to_string(), name)]).await;
        let found = match answer {
            Err(fault) if fault.code == "NoSuchEntity" => RoleFound::Missing,
            answer => {
                let leaves = self.keep(answer, &attempt, "iam:GetRole")?;
                let trust = decode_policy(leaves.text("Role/AssumeRolePolicyDocument"))?;
                RoleFound::There { arn: leaves.text("Role/Arn").to_string(), trust }
            }
        };
        Some((wanted, found))
    }

    async fn look_at_network(&self, wanted: &NetworkWanted) -> NetworkFound {
        let look = async |action: &str, filter: &str, ids: &[String], [id, vpc]: [&str; 2]| {
            // By a filter AWS says what is there; by its id it refuses the first that is not.
            let numbers = ids.iter().enumerate();
            let values =
                numbers.map(|(at, id)| (format!("Filter.1.Value.{}", at + 1), id.as_str()));
            let name = ("Filter.1.Name".to_string(), filter);
            let parameters: Vec<(String, &str)> = std::iter::once(name).chain(values).collect();
            let answer = self.query.ask(action, &parameters).await;
            let leaves = self.keep(answer, "look at the network of tasks", action)?;
            let found = leaves.texts(id).into_iter().zip(leaves.texts(vpc));
            let found = found.map(|(id, vpc)| (id.to_string(), vpc.to_string()));
            Some(found.filter(|(id, _)| ids.contains(id)).collect::<Vec<_>>())
        };
        let subnets = ["subnetSet/item/subnetId", "subnetSet/item/vpcId"];
        let groups = ["securityGroupInfo/item/groupId", "securityGroupInfo/item/vpcId"];
        let (subnets, groups) = join(
            look("ec2:DescribeSubnets", "subnet-id", &wanted.subnets, subnets),
            look("ec2:DescribeSecurityGroups", "group-id", &wanted.groups, groups),
        )
        .await;
        let found = NetworkFound { subnets, groups };
        if let Some(warning) = warn_of_networks(&found) {
            self.caller.report().warn(warning);
        }
        found
    }

    /// What was answered; else says why nobody looked.
    fn keep(&self, answer: Result<Leaves, Fault>, attempt: &str, action: &str) -> Option<Leaves> {
        let told = answer.map_err(|fault| fault.to_error(attempt, action));
        told.map_err(|error| self.caller.report().detail(format!("{error}; {}", error.advice())))
            .ok()
    }

    /// Looks at the secrets of a task definition in Secrets Manager.
    pub async fn look_at_secrets(
        &self,
        wanted: &Value,
        live: Option<&Value>,
    ) -> Result<SecretsSeen> {
        let known: Vec<String> =
            live.map(list_secrets).unwrap_or_default().into_iter().map(|(_, arn)| arn).collect();
        let asked = list_secrets(wanted).into_iter().map(|(variable, arn)| async move {
            let seen = self.look_at_secret(&arn).await?;
            Ok::<_, Error>((variable, arn, seen))
        });
        let (mut missing, mut versions, mut is_whole) = (Vec::new(), Vec::new(), true);
        for (variable, arn, seen) in try_join_all(asked).await? {
            match seen {
                SecretSeen::Version(version) => versions.push(format!("{arn} {version}")),
                SecretSeen::Hidden => is_whole = false,
                // Tasks were started with it.
                SecretSeen::Missing if known.contains(&arn) => is_whole = false,
                SecretSeen::Missing => missing.push(MissingSecret { variable, arn }),
            }
        }
        versions.sort();
        let mark = Digest::of(versions.join("\n").as_bytes()).short().to_string();
        Ok(SecretsSeen { missing, mark: is_whole.then_some(mark) })
    }

    async fn look_at_secret(&self, arn: &str) -> Result<SecretSeen> {
        let describe = || self.secrets.describe_secret().secret_id(arn).send();
        let attempt = format!("find secret {arn}");
        match self.caller.read(&attempt, "secretsmanager:DescribeSecret", describe).await {
            // One that is being deleted is given to no task.
            Ok(answer) if answer.deleted_date().is_some() => Ok(SecretSeen::Missing),
            Ok(answer) => {
                let stages = answer.version_ids_to_stages().into_iter().flatten();
                let mut current =
                    stages.filter(|(_, stages)| stages.iter().any(|one| one == CURRENT));
                Ok(current.next().map_or(SecretSeen::Hidden, |(version, _)| {
                    SecretSeen::Version(version.clone())
                }))
            }
            Err(failure) if failure.is(&["ResourceNotFoundException"]) => Ok(SecretSeen::Missing),
            // The execution role reads it, and may where this one may not.
            Err(failure) if failure.error.kind == Kind::Refused => {
                self.caller.report().trace(failure.error.to_string());
                Ok(SecretSeen::Hidden)
            }
            Err(failure) => Err(failure.into()),
        }
    }
}

/// A policy as IAM answers it: JSON, with signs escaped as in a URL.
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRole.html>
fn decode_policy(document: &str) -> Option<Value> {
    serde_json::from_str(&percent_decode_str(document).decode_utf8().ok()?).ok()
}
