//! A deploy as a deployment on GitHub, told where the job's token may. Nothing fails by it: the
//! ledger is what counts.

use std::time::Duration;

use super::Context;
use crate::cli::Environ;
use crate::config::settings::Target;
use crate::deploy::{Intent, Outcome, Site};
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::github::deployments::{DeploymentState, DeploymentStatus, NewDeployment};
use crate::github::repository::Repository;
use crate::github::runner;

/// A deploy waits this long for GitHub at its start, and at its end.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a signal leaves for it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A deployment that GitHub shows, or none.
pub struct Announcement<'a> {
    context: &'a Context,
    service: &'a str,
    environment: &'a str,
    shown: Option<(Repository, u64)>,
}

/// Tells GitHub that a deploy of a version and its digest begins. One without a digest, which an old
/// record may be, is not shown.
pub async fn announce_deploy<'a>(
    context: &'a Context,
    site: &'a Site,
    (version, digest): (&str, Option<&Digest>),
    intent: &Intent<'_>,
) -> Announcement<'a> {
    let settings = &site.settings;
    let (service, environment) = (settings.name.as_str(), settings.environment.as_str());
    let none = Announcement { context, service, environment, shown: None };
    let is_told = !intent.plan_only && may_announce(&context.environ);
    let is_preview = site.destination.preview.is_some();
    // The merge that a pull request is tried by is no commit of its branch.
    let head = runner::head_commit(&context.environ).filter(|_| is_preview);
    let commit = head.as_deref().or(intent.commit.as_deref()).filter(|_| is_told);
    let commit = commit.filter(|_| site.destination.target != Target::Local);
    let Some((commit, digest)) = commit.zip(digest) else { return none };
    let new = NewDeployment {
        commit,
        task: intent.kind.word(),
        environment,
        service,
        version,
        digest,
        is_transient: is_preview,
    };
    let creating = create_deployment(context, &new);
    match tokio::time::timeout(PATIENCE, creating).await {
        Ok(Ok(shown)) => Announcement { shown, ..none },
        Ok(Err(error)) => {
            context.report.warn(format!("GitHub shows no deployment: {error}"));
            none
        }
        Err(_) => {
            context.report.warn("GitHub shows no deployment: it does not answer");
            none
        }
    }
}

/// Tells GitHub that nothing of a preview runs any more.
pub async fn retire_preview(context: &Context, site: &Site) {
    if !may_announce(&context.environ) {
        return;
    }
    let settings = &site.settings;
    let retiring = async {
        let repository = Repository::open(None, None, &context.environ, &context.report)?;
        repository.retire_deployments(&settings.environment, &settings.name, u64::MAX).await
    };
    match tokio::time::timeout(PATIENCE, retiring).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            context.report.warn(format!("GitHub's deployment is not up to date: {error}"))
        }
        Err(_) => context.report.warn("GitHub's deployment is not up to date: it does not answer"),
    }
}

async fn create_deployment(
    context: &Context,
    new: &NewDeployment<'_>,
) -> Result<Option<(Repository, u64)>> {
    let repository = Repository::open(None, None, &context.environ, &context.report)?;
    let Some(id) = repository.create_deployment(new).await? else {
        context.report.detail(
            "no deployment on GitHub: the job needs `permissions: {deployments: write}`, and the \
             repository the commit",
        );
        return Ok(None);
    };
    let run = runner::run_url(&context.environ);
    let status = DeploymentStatus {
        state: DeploymentState::InProgress,
        description: "",
        url: None,
        log_url: run.as_deref(),
    };
    repository.say_deployment(id, &status).await?;
    Ok(Some((repository, id)))
}

impl Announcement<'_> {
    /// Tells GitHub how the deploy ended.
    pub async fn conclude(self, result: &Result<Outcome>) {
        let Some((repository, id)) = &self.shown else { return };
        let patience = match result {
            Err(error) if matches!(error.kind, Kind::Interrupted | Kind::Terminated) => LAST_WORDS,
            _ => PATIENCE,
        };
        let saying = self.say_end(repository, *id, result);
        let said = tokio::time::timeout(patience, saying).await;
        match said {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.context.report.warn(format!("GitHub's deployment is not up to date: {error}"));
            }
            Err(_) => {
                let report = &self.context.report;
                report.warn("GitHub's deployment is not up to date: it does not answer");
            }
        }
    }

    async fn say_end(
        &self,
        repository: &Repository,
        id: u64,
        result: &Result<Outcome>,
    ) -> Result<()> {
        let (state, words) = match result {
            Ok(outcome) => (DeploymentState::Success, outcome.in_words()),
            Err(error) => (judge_end(error), error.message.clone()),
        };
        let record = self.context.report.course().record;
        let record = record.or(result.as_ref().ok().and_then(|outcome| outcome.record));
        let description = match record {
            Some(record) => format!("record {record}: {words}"),
            None => words,
        };
        let run = runner::run_url(&self.context.environ);
        let status = DeploymentStatus {
            state,
            description: &description,
            url: result.as_ref().ok().and_then(|outcome| outcome.url.as_deref()),
            log_url: run.as_deref(),
        };
        repository.say_deployment(id, &status).await?;
        match result {
            Ok(_) => repository.retire_deployments(self.environment, self.service, id).await,
            Err(_) => Ok(()),
        }
    }
}

/// Only a run of GitHub Actions, with a token, tells.
fn may_announce(environ: &Environ) -> bool {
    let has_token = environ.get("INPUT_GITHUB-TOKEN").or_else(|| environ.get("GITHUB_TOKEN"));
    environ.on_github() && has_token.is_some() && environ.get("GITHUB_REPOSITORY").is_some()
}

/// How a failed deploy is shown.
fn judge_end(error: &Error) -> DeploymentState {
    match error.kind {
        Kind::Superseded => DeploymentState::Inactive,
        Kind::Refused | Kind::Input | Kind::Interrupted | Kind::Terminated => {
            DeploymentState::Error
        }
        _ => DeploymentState::Failure,
    }
}
