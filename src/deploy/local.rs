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
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::cli::Environ;
use crate::deploy::{Backend, Order, Restored, Running, Verdict};
use crate::docker::diagnosis::Expected;
use crate::docker::{Answer, Container, Engine, GRACE, LOG_TAIL, State, unique};
use crate::error::{Cause, Code, Error, Kind, Result};
use crate::layout::Layout;
use crate::report::Report;
pub use plan::LocalPlan;
use plan::{Facts, Seen};
use render::Secrets;
use verdict::Look;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// See the module.
pub struct Local {
    order: Order,
    layout: Option<PathBuf>,
    engine: Engine,
    secrets: Secrets,
    /// Secrets without a value.
    missing: Vec<String>,
    first_look: OnceLock<Instant>,
    report: Report,
}

impl Local {
    /// Connects to the engine. `layout` is where the order's image is, when it is to be deployed.
    ///
    /// # Errors
    /// Refused without an engine.
    pub async fn open(
        order: &Order,
        layout: Option<&Path>,
        environ: &Environ,
        report: &Report,
    ) -> Result<Local> {
        let engine = Engine::connect(environ.get("DOCKER_HOST")).await?;
        let (mut secrets, mut missing) = (Secrets::new(), Vec::new());
        for name in order.settings.secrets.keys() {
            match environ.get(name) {
                Some(value) => {
                    report.mask(value);
                    secrets.insert(name.clone(), value.to_string());
                }
                None => missing.push(name.clone()),
            }
        }
        Ok(Local {
            order: order.clone(),
            layout: layout.map(Path::to_path_buf),
            engine,
            secrets,
            missing,
            first_look: OnceLock::new(),
            report: report.clone(),
        })
    }

    /// What runs now.
    ///
    /// # Errors
    /// Unexpected, when the engine does not answer.
    pub async fn running(&self) -> Result<Running> {
        let seen = self.seen().await?;
        let newest =
            |seen: &&Seen| (seen.well, seen.container.state == State::Running, seen.revision());
        let absent = Running { target: "local", state: "absent".into(), ..Running::default() };
        let Some(newest) = seen.iter().max_by_key(newest) else { return Ok(absent) };
        let state = match (newest.well, &newest.container.state) {
            (true, _) => "ready",
            (_, State::Running | State::Created) => "progressing",
            (_, State::Ended { .. }) => "failed",
        };
        let label = |label: &str| newest.label(label).map(str::to_string);
        Ok(Running {
            target: "local",
            state: state.into(),
            version: label(render::VERSION),
            digest: label(render::DIGEST),
            revision: label(render::REVISION),
            url: url(&newest.container),
            ready: u32::from(newest.well),
            wanted: 1,
        })
    }

    /// Every container of this service in this environment, and whether it is well.
    async fn seen(&self) -> Result<Vec<Seen>> {
        let settings = &self.order.settings;
        let labels = [
            (render::SERVICE, settings.name.as_str()),
            (render::ENVIRONMENT, settings.environment.as_str()),
        ];
        let mut seen = Vec::new();
        for container in self.engine.list(&labels).await? {
            let well = self.answer(&container).await.is_well();
            seen.push(Seen { container, well });
        }
        Ok(seen)
    }

    async fn answer(&self, container: &Container) -> Answer {
        match container.state {
            State::Running => {
                let settings = &self.order.settings;
                let path = container.labels.get(render::HEALTH).unwrap_or(&settings.health.path);
                self.engine.ask(container, settings.port, path).await
            }
            _ => Answer::Silence("it does not run".into()),
        }
    }

    async fn load(&self) -> Result<String> {
        let folder =
            self.layout.as_deref().ok_or_else(|| Error::unexpected("a deploy without a layout"))?;
        let layout = Layout::open(folder)?;
        let (found, wanted) = (layout.root().digest.to_string(), &self.order.image.digest);
        if found != *wanted {
            return Err(Error::refused(format!(
                "{} now holds {found}, not {wanted}",
                folder.display()
            ))
            .why("another build replaced it")
            .fix("run it again"));
        }
        self.engine.load(&layout, &self.order.settings.name).await
    }

    /// Runs the before-deploy command to its end.
    async fn before_deploy(&self, command: &[String], image: &str) -> Result<()> {
        let name = unique(&format!("{}-before-deploy", self.order.settings.name))?;
        let _removal = self.engine.removal(vec![name.clone()]);
        self.engine
            .start(&render::before_deploy(&self.order, &self.secrets, command, &name, image))
            .await?;
        let ended = tokio::time::timeout(self.order.timeout, self.end_of(&name)).await;
        let log_tail = self.engine.log_tail(&name, LOG_TAIL).await;
        let unchanged = "nothing was changed: what ran before still runs";
        let cause = |exit_code, reason: String, log_tail| Cause {
            code: Some(Code::MigrationFailed),
            object: format!("Task/{}-before-deploy", self.order.settings.name),
            reason,
            exit_code,
            log_tail,
            fix: None,
        };
        match ended {
            Ok(Ok(State::Ended { exit_code: 0, .. })) => {
                log_tail.iter().for_each(|line| self.report.log(line));
                Ok(())
            }
            Ok(Ok(State::Ended { exit_code, out_of_memory, error })) => {
                let reason = match error {
                    Some(error) => format!("`{}` cannot be started: {error}", command.join(" ")),
                    None if out_of_memory => {
                        format!("`{}` needed more than resources.memory", command.join(" "))
                    }
                    None => format!("`{}` failed", command.join(" ")),
                };
                Err(Error::new(Kind::Gate, format!("before-deploy failed; {unchanged}"))
                    .causes(vec![cause(Some(exit_code), reason, log_tail)])
                    .fix("correct before-deploy.command of service.yaml, or what it runs"))
            }
            Ok(Ok(State::Created | State::Running)) => {
                Err(Error::unexpected("before-deploy has no end"))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let after = format!("after {} s", self.order.timeout.as_secs());
                Err(Error::new(
                    Kind::TimedOut,
                    format!("before-deploy has not ended {after}; {unchanged}"),
                )
                .causes(vec![cause(None, format!("`{}` still ran", command.join(" ")), log_tail)])
                .fix("give it longer with --timeout"))
            }
        }
    }

    async fn end_of(&self, name: &str) -> Result<State> {
        loop {
            match self.engine.inspect(name).await?.map(|container| container.state) {
                Some(ended @ State::Ended { .. }) => return Ok(ended),
                Some(_) => tokio::time::sleep(INTERVAL).await,
                None => {
                    return Err(Error::unexpected(format!("somebody removed container {name}")));
                }
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "how long a start may take is counted from the first look"
    )]
    fn waited(&self) -> Duration {
        self.first_look.get_or_init(Instant::now).elapsed()
    }
}

impl Backend for Local {
    type Facts = Facts;
    type Plan = LocalPlan;

    async fn observe(&self) -> Result<Facts> {
        if !self.missing.is_empty() {
            let set: Vec<String> =
                self.missing.iter().map(|name| format!("export {name}=…")).collect();
            return Err(Error::refused(format!("secrets without a value: {}", self.missing.join(", ")))
                .why("in the environment `local` a secret has the value of the environment variable of the same name")
                .fix(set.join("\n")));
        }
        let settings = render::settings_hash(&self.order, &self.secrets);
        Ok(Facts { seen: self.seen().await?, settings, fresh: unique(&self.order.settings.name)? })
    }

    fn plan(&self, facts: Facts) -> Result<LocalPlan> {
        Ok(plan::plan(&self.order, facts))
    }

    async fn apply(&self, plan: &LocalPlan) -> Result<()> {
        if !plan.create {
            return Ok(());
        }
        let image = self.load().await?;
        if let Some(command) = &self.order.settings.before_deploy {
            self.before_deploy(command, &image).await?;
        }
        self.engine
            .start(&render::service(
                &self.order,
                &self.secrets,
                &plan.current,
                &image,
                plan.revision,
            ))
            .await
    }

    /// What ran before is touched by settle only, after success.
    fn wrote(&self) -> bool {
        false
    }

    async fn look(&self, plan: &LocalPlan) -> Result<Verdict> {
        let settings = &self.order.settings;
        let container = self.engine.inspect(&plan.current).await?;
        let answer = match &container {
            Some(container) => self.answer(container).await,
            None => Answer::Silence("it is gone".into()),
        };
        let expected = Expected {
            port: settings.port,
            path: &settings.health.path,
            memory: settings.memory.mebibytes,
        };
        let mut look = Look {
            name: &plan.current,
            revision: plan.revision,
            state: container.map(|container| container.state),
            answer,
            waited: self.waited(),
            startup: settings.health.startup,
            expected,
            log_tail: Vec::new(),
            listening: None,
        };
        if look.is_lost() {
            look.log_tail = self.engine.log_tail(&plan.current, LOG_TAIL).await;
            look.listening = self.engine.listening(&plan.current).await;
        }
        Ok(verdict::verdict(look))
    }

    async fn roll_back(&self, plan: &LocalPlan) -> Result<Restored> {
        if plan.create {
            self.engine.stop(&plan.current, GRACE).await?;
        }
        // What an interrupted deploy left behind serves nobody; the last good one stays.
        let last_good = plan.last_good.as_ref().map(|(name, _)| name.as_str());
        for leftover in
            plan.leftovers.iter().filter(|leftover| Some(leftover.name.as_str()) != last_good)
        {
            self.engine.stop(&leftover.name, GRACE).await?;
        }
        let Some((name, revision)) = &plan.last_good else {
            return Ok(Restored::Nothing("what was started is removed again".into()));
        };
        match self.engine.inspect(name).await? {
            Some(container) if self.answer(&container).await.is_well() => {
                Ok(Restored::LastGood(revision.to_string()))
            }
            _ => Err(Error::unexpected(format!(
                "revision {revision} ({name}) does not answer any more"
            ))
            .fix(format!("docker logs {name}"))),
        }
    }

    async fn prove(&self, plan: &LocalPlan) -> Result<Option<String>> {
        let path = &self.order.settings.health.path;
        let container = self.engine.inspect(&plan.current).await?;
        let container = container
            .ok_or_else(|| Error::unexpected(format!("somebody removed {}", plan.current)))?;
        match self.answer(&container).await {
            answer if answer.is_well() => Ok(url(&container)),
            answer => Err(Error::unexpected(format!("GET {path} answered, and then did not")).why(
                match answer {
                    Answer::Status(status) => status.to_string(),
                    Answer::Silence(why) => why,
                },
            )),
        }
    }

    async fn settle(&self, plan: &LocalPlan) -> Result<()> {
        let stops = plan.leftovers.iter().map(|left| self.engine.stop(&left.name, GRACE));
        futures::future::try_join_all(stops).await?;
        // The engine keeps an image that anything still uses.
        futures::future::join_all(
            plan.leftovers.iter().map(|left| self.engine.remove_image(&left.image)),
        )
        .await;
        Ok(())
    }

    fn interval(&self) -> Duration {
        INTERVAL
    }
}

/// Where users of this machine reach it.
fn url(container: &Container) -> Option<String> {
    container.published.map(|port| format!("http://127.0.0.1:{port}"))
}

/// The container that deploy would run, as a compose file. Pure.
///
/// # Errors
/// Unexpected, when it cannot be written as YAML.
pub fn render(order: &Order) -> Result<String> {
    render::compose(order)
}
