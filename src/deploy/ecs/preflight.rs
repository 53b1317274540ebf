//! The preflight of ECS: whether what tasks will need is there, asked before the first write. SDK
//! types end here. No value of a secret is read.

use futures::future::try_join_all;
use serde_json::Value;

use super::live::list_secrets;
use crate::aws::Session;
use crate::aws::call::Caller;
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};

pub struct Preflight {
    caller: Caller,
    secrets: aws_sdk_secretsmanager::Client,
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
        Preflight { secrets: aws_sdk_secretsmanager::Client::new(caller.config()), caller }
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
