//! The preflight of ECS: whether what tasks will need is there, asked before the first write. SDK
//! types end here. No value of a secret is read.

use futures::future::try_join_all;
use serde_json::Value;

use super::live::list_new_secrets;
use crate::aws::Session;
use crate::aws::call::Caller;
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

impl Preflight {
    pub fn new(session: &Session) -> Preflight {
        let caller = Caller::new(session);
        Preflight { secrets: aws_sdk_secretsmanager::Client::new(caller.config()), caller }
    }

    /// The secrets of a task definition that Secrets Manager does not have. Those that the live one
    /// has too are not asked for: tasks started with them.
    pub async fn find_missing_secrets(
        &self,
        wanted: &Value,
        live: Option<&Value>,
    ) -> Result<Vec<MissingSecret>> {
        let asked = list_new_secrets(wanted, live).into_iter();
        let asked = asked.map(|(variable, arn)| async move {
            let is_there = self.has_secret(&arn).await?;
            let missing = (!is_there).then_some(MissingSecret { variable, arn });
            Ok::<_, Error>(missing)
        });
        Ok(try_join_all(asked).await?.into_iter().flatten().collect())
    }

    async fn has_secret(&self, arn: &str) -> Result<bool> {
        let describe = || self.secrets.describe_secret().secret_id(arn).send();
        let attempt = format!("find secret {arn}");
        match self.caller.read(&attempt, "secretsmanager:DescribeSecret", describe).await {
            // One that is being deleted is given to no task.
            Ok(answer) => Ok(answer.deleted_date().is_none()),
            Err(failure) if failure.is(&["ResourceNotFoundException"]) => Ok(false),
            // The execution role reads it, and may where this one may not.
            Err(failure) if failure.error.kind == Kind::Refused => {
                self.caller.report().trace(failure.error.to_string());
                Ok(true)
            }
            Err(failure) => Err(failure.into()),
        }
    }
}
