//! Deployments as GitHub shows them: on the repository's first page, in its timeline, and to every
//! tool that listens for them. The ledger knows them better; this tells it to whoever looks there.
//!
//! <https://docs.github.com/en/rest/deployments>

use http::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::client::ApiCall;
use super::repository::Repository;
use crate::digest::Digest;
use crate::error::Result;

/// Deployments that are looked through for older ones of the service.
const OLDER: &str = "30";
/// The longest description, in characters.
const DESCRIPTION: usize = 140;

/// A deployment to be shown.
pub struct NewDeployment<'a> {
    /// The commit that the image was built from.
    pub commit: &'a str,
    /// `deploy`, `rollback` or `promote`.
    pub task: &'a str,
    pub environment: &'a str,
    pub service: &'a str,
    pub version: &'a str,
    pub digest: &'a Digest,
    /// It is gone one day, and no part of what is deployed for good.
    pub is_transient: bool,
}

/// How far a deployment is.
/// <https://docs.github.com/en/rest/deployments/statuses#create-a-deployment-status>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentState {
    InProgress,
    Success,
    Failure,
    /// It did not come to be.
    Error,
    /// Another one took its place.
    Inactive,
}

impl DeploymentState {
    fn word(self) -> &'static str {
        match self {
            DeploymentState::InProgress => "in_progress",
            DeploymentState::Success => "success",
            DeploymentState::Failure => "failure",
            DeploymentState::Error => "error",
            DeploymentState::Inactive => "inactive",
        }
    }
}

/// What is said of a deployment.
pub struct DeploymentStatus<'a> {
    pub state: DeploymentState,
    pub description: &'a str,
    /// Where the service answers.
    pub url: Option<&'a str>,
    /// The run.
    pub log_url: Option<&'a str>,
}

#[derive(Deserialize)]
struct Known {
    id: u64,
    #[serde(default)]
    payload: Value,
}

#[derive(Deserialize)]
struct KnownStatus {
    state: String,
}

impl Repository {
    /// Creates a deployment and returns its number. `None` if the token may not, or GitHub has no
    /// such commit.
    ///
    /// # Errors
    /// If GitHub does not answer.
    pub async fn create_deployment(&self, new: &NewDeployment<'_>) -> Result<Option<u64>> {
        let attempt = format!("create a deployment in {}", self.slug());
        let body = json!({
            "ref": new.commit,
            "task": new.task,
            "environment": new.environment,
            "description": cut_description(&format!("{} {}", new.service, new.version)),
            "payload": {
                "service": new.service, "version": new.version, "digest": new.digest
            },
            // What is deployed was merged and checked; GitHub is only told.
            "transient_environment": new.is_transient,
            "auto_merge": false,
            "required_contexts": [],
        });
        let call = ApiCall::write(Method::POST, self.url(&["deployments"], &[]), &body, &attempt);
        match self.client.send::<Known>(&call).await? {
            Ok(known) => Ok(Some(known.id)),
            Err(refusal) if matches!(refusal.status, 403 | 404 | 422) => Ok(None),
            Err(refusal) => Err(refusal.into_error(&attempt)),
        }
    }

    /// Says how far a deployment is.
    ///
    /// # Errors
    /// If GitHub refuses or does not answer.
    pub async fn say_deployment(&self, id: u64, status: &DeploymentStatus<'_>) -> Result<()> {
        let attempt = format!("update deployment {id} in {}", self.slug());
        let mut body = json!({
            "state": status.state.word(),
            "description": cut_description(status.description),
            // GitHub would look at the environment alone, and leave production out.
            "auto_inactive": false,
        });
        for (key, value) in [("environment_url", status.url), ("log_url", status.log_url)] {
            if let Some(value) = value {
                body[key] = value.into();
            }
        }
        let url = self.url(&["deployments", &id.to_string(), "statuses"], &[]);
        let call = ApiCall::write(Method::POST, url, &body, &attempt);
        match self.client.send::<IgnoredAny>(&call).await? {
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.into_error(&attempt)),
        }
    }

    /// Says of older deployments of the service to the environment that they run no more.
    ///
    /// # Errors
    /// If GitHub refuses or does not answer.
    pub async fn retire_deployments(
        &self,
        environment: &str,
        service: &str,
        id: u64,
    ) -> Result<()> {
        let attempt = format!("read the deployments of {}", self.slug());
        let query = [("environment", environment), ("per_page", OLDER)];
        let found: Vec<Known> =
            self.client.list(self.url(&["deployments"], &query), 1, &attempt).await?;
        let is_ours =
            |known: &&Known| known.id < id && is_of_service(&known.payload, service) == Some(true);
        for older in found.iter().filter(is_ours) {
            let number = older.id.to_string();
            let url = self.url(&["deployments", &number, "statuses"], &[("per_page", "1")]);
            let statuses: Vec<KnownStatus> = self.client.list(url, 1, &attempt).await?;
            let state = statuses.first().map_or("pending", |status| status.state.as_str());
            let was_killed = matches!(state, "pending" | "queued" | "in_progress");
            if was_killed || state == "success" {
                let status = DeploymentStatus {
                    state: DeploymentState::Inactive,
                    description: if was_killed { "its run ended early" } else { "" },
                    url: None,
                    log_url: None,
                };
                self.say_deployment(older.id, &status).await?;
            }
            // Those before it were retired by it.
            if state == "success" {
                break;
            }
        }
        Ok(())
    }
}

/// Whether a payload, which GitHub may hand back as text, names the service.
fn is_of_service(payload: &Value, service: &str) -> Option<bool> {
    match payload {
        Value::String(text) => {
            let payload: Value = serde_json::from_str(text).ok()?;
            Some(payload.get("service")? == service)
        }
        payload => Some(payload.get("service")? == service),
    }
}

fn cut_description(text: &str) -> String {
    text.chars().take(DESCRIPTION).collect()
}
