//! Deploys to the Docker engine of this machine: the new container starts beside the old one, on a
//! port of its own; when it answers, the old one goes, and when it does not, the new one goes and
//! the old one never stopped.
//!
//! One copy runs, whatever `replicas` or `autoscale` say; `expose`, `storage` and `manifests` mean
//! nothing here. A secret's value is that of the environment variable of the same name.

mod plan;
mod render;
#[cfg(test)]
mod tests;
mod verdict;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cli::Environ;
use crate::deploy::target::{Goal, Good, Permit, RolledBack, State, Target, Verdict, Written};
use crate::deploy::{Order, RunState, Running, diff};
use crate::digest::Digest;
use crate::docker::diagnosis::Expected;
use crate::docker::{self, Answer, Container, Engine, GRACE, LOG_TAIL, unique};
use crate::error::{Cause, Code, Error, Kind, Result};
use crate::layout::Layout;
use crate::report::Report;
use plan::{ContainerSeen, LocalFacts, LocalPlan};
pub use render::{LocalDocuments, render_compose, render_state};
use render::{SecretValues, SecretVariables};
use verdict::{Look, judge_look};

/// See the module.
pub struct Local {
    layout: Option<PathBuf>,
    engine: Engine,
    /// The variables that secrets may have their values from.
    variables: SecretVariables,
    report: Report,
}

/// What this run started.
#[derive(Debug, Default)]
pub struct LocalWritten {
    migrated: bool,
    started: bool,
    /// What the rollback brings back.
    back: Option<Judged>,
}

impl Written for LocalWritten {
    fn any(&self) -> bool {
        self.migrated || self.started
    }
    fn touches_running(&self) -> bool {
        self.started
    }
}

/// The container that is to be healthy.
#[derive(Clone, Debug)]
struct Judged {
    name: String,
    revision: u64,
    state: State<LocalDocuments>,
}

impl LocalWritten {
    /// What is judged: the new container, or the one that the rollback brings back.
    fn judged(&self, plan: &LocalPlan) -> Judged {
        self.back.clone().unwrap_or_else(|| Judged {
            name: plan.current.clone(),
            revision: plan.revision,
            state: plan.wanted.clone(),
        })
    }
}

/// When the container was first looked at.
#[derive(Debug, Default)]
pub struct LocalMemory {
    first_look: Option<Instant>,
}

impl Local {
    /// Connects to the engine. `layout` is where an image that is to be deployed is.
    ///
    /// # Errors
    /// Refused without an engine.
    pub async fn open(layout: Option<&Path>, environ: &Environ, report: &Report) -> Result<Local> {
        Ok(Local {
            layout: layout.map(Path::to_path_buf),
            engine: Engine::connect(environ.get("DOCKER_HOST")).await?,
            variables: SecretVariables::new(environ),
            report: report.clone(),
        })
    }

    /// The values of a state's secrets. They are masked from here on.
    fn secret_values(&self, state: &State<LocalDocuments>) -> Result<SecretValues> {
        let values = self.variables.values_of(&state.documents.secrets)?;
        values.values().for_each(|value| self.report.mask(value));
        Ok(values)
    }

    /// Every container of this service in this environment, and whether it is healthy.
    async fn read_containers(&self, state: &State<LocalDocuments>) -> Result<Vec<ContainerSeen>> {
        let labels = [
            (render::SERVICE, state.service.as_str()),
            (render::ENVIRONMENT, state.environment.as_str()),
        ];
        let mut seen = Vec::new();
        for container in self.engine.list(&labels).await? {
            let healthy = self.ask_container(&container, state).await.is_well();
            seen.push(ContainerSeen { container, healthy });
        }
        Ok(seen)
    }

    async fn ask_container(&self, container: &Container, state: &State<LocalDocuments>) -> Answer {
        match container.state {
            docker::State::Running => {
                // Each version is asked where it was made to answer.
                let label = container.labels.get(render::HEALTH);
                let path = label.map_or(state.health.path.as_str(), String::as_str);
                self.engine.ask(container, state.port, path).await
            }
            _ => Answer::Silence("it does not run".into()),
        }
    }

    /// The engine's identifier of a state's image: from the layout, or from an earlier deploy.
    async fn load_image(&self, state: &State<LocalDocuments>) -> Result<String> {
        let (service, wanted) = (&state.service, &state.image.digest);
        if let Some(known) = self.engine.kept_image(service, wanted).await? {
            return Ok(known);
        }
        let Some(folder) = self.layout.as_deref() else {
            return Err(Error::refused(format!(
                "cannot deploy {} {}: this engine does not have its image any more",
                service, state.image.version
            ))
            .code(Code::ImageNotFound)
            .fix(format!("build that version again and deploy it: {wanted}")));
        };
        let layout = Layout::open(folder)?;
        let found = &layout.root().digest;
        if found != wanted {
            return Err(Error::refused(format!(
                "cannot load {}: it now holds {found}, not {wanted}",
                folder.display()
            ))
            .why("another build replaced it")
            .fix("run it again"));
        }
        let image = self.engine.load(&layout, service).await?;
        self.engine.keep_image(&image, service, wanted).await?;
        Ok(image)
    }

    /// Runs the before-deploy command to its end.
    async fn run_before_deploy(
        &self,
        plan: &LocalPlan,
        written: &mut LocalWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        let state = &plan.wanted;
        let Some(command) = state.documents.before_deploy.as_ref() else { return Ok(()) };
        let image = self.load_image(state).await?;
        let name = unique(&format!("{}-before-deploy", state.service))?;
        let _removal = self.engine.removal(vec![name.clone()]);
        permit.check().await?;
        let secrets = self.secret_values(state)?;
        written.migrated = true;
        self.engine.start(&render::render_task(state, &secrets, command, &name, &image)).await?;
        let ended = tokio::time::timeout(permit.time_left(), self.wait_for_end(&name)).await;
        let log_tail = self.engine.log_tail(&name, LOG_TAIL).await;
        let unchanged = "nothing was changed: what ran before still runs";
        let command = diff::show_command(command);
        let cause = |exit_code, reason: String, log_tail| Cause {
            code: Some(Code::MigrationFailed),
            object: format!("Task/{}-before-deploy", state.service),
            reason,
            exit_code,
            log_tail,
            fix: None,
        };
        match ended {
            Ok(Ok(docker::State::Ended { exit_code: 0, .. })) => {
                log_tail.iter().for_each(|line| self.report.log(line));
                Ok(())
            }
            Ok(Ok(docker::State::Ended { exit_code, out_of_memory, error })) => {
                let reason = match error {
                    Some(error) => format!("`{command}` cannot be started: {error}"),
                    None if out_of_memory => {
                        format!("`{command}` needed more than resources.memory")
                    }
                    None => format!("`{command}` failed"),
                };
                Err(Error::new(
                    Kind::Gate,
                    format!("cannot deploy: before-deploy failed; {unchanged}"),
                )
                .code(Code::MigrationFailed)
                .causes(vec![cause(Some(exit_code), reason, log_tail)])
                .fix("correct before-deploy.command of service.yaml, or what it runs"))
            }
            Ok(Ok(docker::State::Created | docker::State::Running)) => {
                Err(Error::unexpected("cannot read how before-deploy ended"))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let still = format!("`{command}` still ran");
                let headline =
                    format!("cannot deploy: before-deploy has not ended in time; {unchanged}");
                Err(Error::new(Kind::TimedOut, headline)
                    .code(Code::DeadlineExceeded)
                    .causes(vec![cause(None, still, log_tail)])
                    .fix("give it longer with --timeout"))
            }
        }
    }

    /// Starts the last good state anew: somebody removed or stopped its container.
    async fn restart_good(
        &self,
        good: &Good<LocalDocuments>,
        permit: Permit<'_>,
    ) -> Result<Judged> {
        let state = good.state.clone();
        let image = self.load_image(&state).await?;
        let secrets = self.secret_values(&state)?;
        let name = unique(&state.service)?;
        let revision = good.revision.as_ref().and_then(|revision| revision.parse().ok());
        let revision = revision.unwrap_or_default();
        permit.check().await?;
        let spec = render::render_service(&state, &secrets, &name, &image, revision);
        self.engine.start(&spec).await?;
        Ok(Judged { name, revision, state })
    }

    async fn wait_for_end(&self, name: &str) -> Result<docker::State> {
        loop {
            match self.engine.inspect(name).await?.map(|container| container.state) {
                Some(ended @ docker::State::Ended { .. }) => return Ok(ended),
                Some(_) => tokio::time::sleep(Self::INTERVAL).await,
                None => {
                    let message = format!("cannot watch container {name}: somebody removed it");
                    return Err(Error::unexpected(message));
                }
            }
        }
    }
}

impl Target for Local {
    type Documents = LocalDocuments;
    type Facts = LocalFacts;
    type Plan = LocalPlan;
    type Written = LocalWritten;
    type Memory = LocalMemory;

    const NAME: &'static str = "local";
    const INTERVAL: Duration = Duration::from_millis(200);

    async fn render(&self, order: &Order) -> Result<State<LocalDocuments>> {
        Ok(render_state(order))
    }

    async fn observe(&self, goal: &Goal<LocalDocuments>) -> Result<LocalFacts> {
        let secrets = self.secret_values(&goal.wanted)?;
        Ok(LocalFacts {
            seen: self.read_containers(&goal.wanted).await?,
            settings_hash: render::hash_settings(&goal.wanted, &secrets),
            fresh_name: unique(&goal.wanted.service)?,
        })
    }

    fn plan(&self, goal: &Goal<LocalDocuments>, facts: LocalFacts) -> Result<LocalPlan> {
        Ok(plan::make_plan(goal, facts))
    }

    async fn migrate(
        &self,
        plan: &LocalPlan,
        written: &mut LocalWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        match plan.migrates {
            true => self.run_before_deploy(plan, written, permit).await,
            false => Ok(()),
        }
    }

    async fn apply(
        &self,
        plan: &LocalPlan,
        written: &mut LocalWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        if !plan.create {
            return Ok(());
        }
        let image = self.load_image(&plan.wanted).await?;
        let secrets = self.secret_values(&plan.wanted)?;
        permit.check().await?;
        // What a start without an answer leaves behind is removed by its name.
        written.started = true;
        let spec =
            render::render_service(&plan.wanted, &secrets, &plan.current, &image, plan.revision);
        let started = self.engine.start(&spec).await;
        written.started = started.is_ok() || self.engine.inspect(&plan.current).await?.is_some();
        started
    }

    async fn check_rollout(
        &self,
        plan: &LocalPlan,
        written: &mut LocalWritten,
        memory: &mut LocalMemory,
    ) -> Result<Verdict> {
        let Judged { name, revision, state } = &written.judged(plan);
        let container = self.engine.inspect(name).await?;
        let answer = match &container {
            Some(container) => self.ask_container(container, state).await,
            None => Answer::Silence("it is gone".into()),
        };
        let mut look = Look {
            name,
            revision: *revision,
            state: container.map(|container| container.state),
            answer,
            waited: memory.waited(),
            startup: state.health.startup(),
            expected: Expected {
                port: state.port,
                path: &state.health.path,
                memory: state.documents.memory,
            },
            log_tail: Vec::new(),
            listening: None,
        };
        if look.is_lost() {
            look.log_tail = self.engine.log_tail(name, LOG_TAIL).await;
            look.listening = self.engine.listening(name).await;
        }
        Ok(judge_look(look))
    }

    /// The smoke check is the look before and the look after: both ask the container the way that
    /// users of this machine do.
    async fn verify(&self, plan: &LocalPlan, written: &LocalWritten) -> Result<Option<String>> {
        let container = self.engine.inspect(&written.judged(plan).name).await?;
        Ok(container.as_ref().and_then(url_of))
    }

    async fn roll_back(
        &self,
        plan: &LocalPlan,
        written: &mut LocalWritten,
        permit: Permit<'_>,
    ) -> Result<RolledBack> {
        permit.check().await?;
        if plan.create {
            self.engine.stop(&plan.current, GRACE).await?;
        }
        let good_state = plan.good.as_ref().map_or(&plan.wanted, |good| &good.state);
        let last_good = match &plan.last_good {
            Some((name, _)) => self.engine.inspect(name).await?,
            None => None,
        };
        let stands = last_good.is_some_and(|found| found.state == docker::State::Running);
        let back = match (&plan.last_good, &plan.good) {
            (Some((name, revision)), good) if stands || good.is_none() => {
                Judged { name: name.clone(), revision: *revision, state: good_state.clone() }
            }
            (_, Some(good)) => self.restart_good(good, permit).await?,
            // Others may serve, and this run did not start them.
            (_, None) => {
                return Ok(RolledBack::ToNothing("what was started is removed again".into()));
            }
        };
        // What an interrupted deploy left behind serves nobody once the last good one does.
        let others = plan.leftovers.iter().map(|leftover| leftover.name.as_str());
        for leftover in others.filter(|name| *name != back.name) {
            self.engine.stop(leftover, GRACE).await?;
        }
        written.back = Some(back);
        Ok(RolledBack::Begun)
    }

    async fn clean_up(&self, plan: &LocalPlan, permit: Permit<'_>) -> Result<()> {
        permit.check().await?;
        let stops = plan.leftovers.iter().map(|left| self.engine.stop(&left.name, GRACE));
        futures::future::try_join_all(stops).await?;
        let good = plan.good.as_ref().map(|good| &good.state.image.digest);
        let kept: Vec<&Digest> = std::iter::once(&plan.wanted.image.digest).chain(good).collect();
        self.engine.forget_images(&plan.wanted.service, &kept).await
    }

    async fn read_running(&self, state: &State<LocalDocuments>) -> Result<Running> {
        let seen = self.read_containers(state).await?;
        let newest = |seen: &&ContainerSeen| {
            (seen.healthy, seen.container.state == docker::State::Running, seen.revision())
        };
        let absent = Running { target: "local", ..Running::default() };
        let Some(newest) = seen.iter().max_by_key(newest) else { return Ok(absent) };
        let state = match (newest.healthy, &newest.container.state) {
            (true, _) => RunState::Ready,
            (_, docker::State::Running | docker::State::Created) => RunState::Progressing,
            (_, docker::State::Ended { .. }) => RunState::Failed,
        };
        let label = |label: &str| newest.label(label).map(str::to_string);
        Ok(Running {
            target: "local",
            state,
            version: label(render::VERSION),
            digest: newest.label(render::DIGEST).and_then(|digest| digest.parse().ok()),
            revision: label(render::REVISION),
            url: url_of(&newest.container),
            ready: u32::from(newest.healthy),
            wanted: 1,
        })
    }
}

impl LocalMemory {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a start may take is counted from the first look"
    )]
    fn waited(&mut self) -> Duration {
        self.first_look.get_or_insert_with(Instant::now).elapsed()
    }
}

/// Where users of this machine reach it.
fn url_of(container: &Container) -> Option<String> {
    container.published.map(|port| format!("http://127.0.0.1:{port}"))
}
