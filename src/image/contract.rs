//! Proves that the built image keeps the platform's contract, by running it in both modes and by
//! looking into its layers, before anything is pushed.
//!
//! Here is what touches the engine and the disk, and gives [`facts`]; [`layers`] reads the layers
//! meanwhile, [`rules`] and [`leaks`] judge, [`report`] tells.

mod facts;
pub mod layers;
mod leaks;
mod report;
mod rules;
mod ruling;
mod secrets;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::cli::Environ;
use crate::config::contract::{self, Level};
use crate::config::handover;
use crate::config::settings::Settings;
use crate::docker::diagnosis::Expected;
use crate::docker::{Answer, Clues, Container, Engine, REMOVAL_TIMEOUT, Spec, State, unique};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::report::{Markdown, Report};
use facts::{ContractFacts, Image, Look, Outcome, Run};
use rules::{DEBUG, Finding, Measures, PRODUCTION, Verdict, WITHOUT};

/// Its value is the service's name; everything that carries it may be removed at any time.
const LABEL: &str = "cicd.clinicult.io/contract";

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(50);

/// As much of a log as is compared and searched, in lines.
const LOG: usize = 500;

/// Where services tell what they are, besides their health path. Nobody has the last one: what is
/// said then differs in debug mode, too.
const PATHS: [&str; 4] = ["/", "/docs", "/openapi.json", "/no-such-path-of-the-contract"];

/// What to check.
#[derive(Clone, Debug)]
pub struct ContractRequest<'a> {
    pub layout: &'a Path,
    pub settings: &'a Settings,
    pub modes: Modes,
    pub contract: &'a contract::Contract,
}

/// The mode variable and its two values.
#[derive(Clone, Debug)]
pub struct Modes {
    pub variable: String,
    pub production: String,
    pub debug: String,
}

/// Whether a mode keeps the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    Pass,
    Fail,
}

/// What the check found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Contract {
    pub production: Mark,
    pub debug: Mark,
    /// What is broken, at whatever level.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Finding>,
    #[serde(skip)]
    verdict: Verdict,
}

impl Contract {
    fn of(verdict: Verdict) -> Contract {
        let mark = |mode: &str| {
            let failed =
                |finding: &Finding| finding.level == Level::Fail && finding.modes.contains(&mode);
            if verdict.findings.iter().any(failed) { Mark::Fail } else { Mark::Pass }
        };
        let (production, debug) = (mark(PRODUCTION), mark(DEBUG));
        Contract { production, debug, findings: verdict.findings.clone(), verdict }
    }

    pub fn in_words(&self) -> String {
        report::write_words(&self.verdict)
    }

    /// For the job summary, in Markdown.
    pub fn summary(&self) -> Markdown {
        report::write_summary(&self.verdict)
    }

    /// A line for each finding that stops nothing.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.findings.iter().filter(|finding| finding.level == Level::Warn).map(report::write_line)
    }

    /// The gate's no, with a cause for each finding at level fail; none when the image may go on.
    pub fn refusal(&self) -> Option<Error> {
        report::write_refusal(&self.verdict)
    }
}

/// Starts the image in production and in debug mode and, when service.yaml has `secrets`, without
/// them, side by side; reads the layers meanwhile. The containers are always removed. A secret gets
/// its stand-in of `contract.env`, or the value of the environment variable of the same name.
///
/// # Errors
/// Refused without an engine; bad input when the layout is none, or for another platform. A broken
/// contract is no error but a [`Contract::refusal`].
pub async fn check(
    request: &ContractRequest<'_>,
    environ: &Environ,
    report: &Report,
) -> Result<Contract> {
    let ContractRequest { settings, modes, .. } = request;
    let layout = Layout::open(request.layout)?;
    let looking = tokio::task::spawn_blocking({
        let layout = layout.clone();
        move || read_images(&layout)
    });
    let engine = Engine::connect(environ.get("DOCKER_HOST")).await?;
    let image = engine.load(&layout, &settings.name).await?;

    let secrets = settings.secrets.keys().map(String::as_str);
    let values = collect_values(secrets, request.contract, environ, report);
    let spec = |mode: &str, value: &str, values: &BTreeMap<String, String>| -> Result<Spec> {
        let mut env: BTreeMap<String, String> =
            settings.container_env(|_| None).into_iter().collect();
        env.extend(values.clone());
        env.insert(modes.variable.clone(), value.to_string());
        Ok(Spec {
            name: unique(&format!("{}-contract-{}", settings.name, mode.replace(' ', "-")))?,
            image: image.clone(),
            command: None,
            env,
            labels: BTreeMap::from([(LABEL.to_string(), settings.name.clone())]),
            port: Some(settings.port),
            published: false,
            memory: settings.memory.mebibytes,
        })
    };
    let production = spec(PRODUCTION, &modes.production, &values)?;
    let debug = spec(DEBUG, &modes.debug, &values)?;
    let secrets: Vec<&str> = settings.secrets.keys().map(String::as_str).collect();
    // Where no secret has a value, production runs without them anyway.
    let has_value = secrets.iter().any(|name| values.contains_key(*name));
    let others = values.iter().filter(|(name, _)| !settings.secrets.contains_key(*name));
    let others: BTreeMap<String, String> =
        others.map(|(name, value)| (name.clone(), value.clone())).collect();
    let without = has_value.then(|| spec(WITHOUT, &modes.production, &others)).transpose()?;

    let names = [Some(&production), Some(&debug), without.as_ref()];
    let _removal =
        engine.removal(names.into_iter().flatten().map(|spec| spec.name.clone()).collect());
    let stop = request.contract.stop.0;
    let without = async {
        match &without {
            Some(spec) => run_container(&engine, spec, settings, None).await.map(Some),
            None => Ok(None),
        }
    };
    let (production, debug, without) = futures::future::try_join3(
        run_container(&engine, &production, settings, Some(stop)),
        run_container(&engine, &debug, settings, Some(stop)),
        without,
    )
    .await?;
    let images =
        looking.await.map_err(|error| Error::unexpected("cannot read the layers").why(error))??;

    let facts = ContractFacts { production, debug, without, images };
    let measures = Measures {
        expected: Expected {
            port: settings.port,
            path: &settings.health.path,
            memory: settings.memory.mebibytes,
        },
        startup: settings.health.startup,
        stop,
        size: request.contract.size.mebibytes,
        mode: (&modes.variable, &modes.production, &modes.debug),
        without_value: secrets.iter().copied().filter(|name| !values.contains_key(*name)).collect(),
        secrets,
        levels: &request.contract.rules,
    };
    Ok(Contract::of(rules::judge(&facts, &measures)))
}

/// The values of `secrets` and buckets that there are. The file's own stand-ins first: they are the
/// same everywhere.
fn collect_values<'s>(
    secrets: impl Iterator<Item = &'s str>,
    contract: &contract::Contract,
    environ: &Environ,
    report: &Report,
) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for name in secrets {
        // Whoever writes service.yaml may name any: the runner's own are for no image.
        if let Some(value) = environ.get(name).filter(|_| handover::is_free(name)) {
            report.mask(value);
            values.insert(name.to_string(), value.to_string());
        }
    }
    values.extend(contract.env.iter().map(|(name, value)| (name.to_string(), value.clone())));
    values
}

/// What each platform's image says of itself, and what its layers hold. Blocks.
fn read_images(layout: &Layout) -> Result<Vec<Image>> {
    // Platforms share layers that hold no programs.
    let mut digests: Vec<_> = layout
        .manifests()
        .iter()
        .flat_map(|image| &image.layers)
        .map(|layer| &layer.digest)
        .collect();
    digests.sort();
    digests.dedup();
    let blobs: Vec<_> = digests.iter().map(|digest| layout.blob(digest)).collect();
    let scanned: BTreeMap<_, _> = digests.into_iter().zip(layers::scan(&blobs)).collect();
    let read = |manifest: &crate::layout::Manifest| {
        let layers = manifest
            .layers
            .iter()
            .map(|layer| (layer.size, scanned.get(&layer.digest).cloned().unwrap_or_default()));
        Image::read(&layout.read(&manifest.config)?, layers.collect())
    };
    layout.manifests().iter().map(read).collect()
}

/// Runs one container until it answers, ends, or is late, and looks at it; then, with `stop`, tells
/// it to end.
async fn run_container(
    engine: &Engine,
    spec: &Spec,
    settings: &Settings,
    stop: Option<Duration>,
) -> Result<Run> {
    let name = spec.name.as_str();
    engine.start(spec).await?;
    let mut last = Answer::Silence("it was not asked yet".into());
    let reached = wait_for_answer(engine, spec, settings, &mut last);
    let (outcome, running) = match tokio::time::timeout(settings.health.startup, reached).await {
        Ok(reached) => reached?,
        Err(_) => (Outcome::Silent { answer: last }, engine.inspect(name).await?),
    };
    let mut run = Run { outcome, log: vec![], look: None, stopped: None, changes: None };
    if let Some(container) = running.filter(|container| container.state == State::Running) {
        run.look = Some(look_at(engine, &container, settings, &run.outcome).await);
        // One that answers and then ends has not started to serve.
        match (read_end(engine.inspect(name).await?), stop) {
            (Some(ended), _) => run.outcome = ended,
            (None, Some(grace)) => {
                run.log = engine.log_tail(name, LOG).await;
                // The engine compares whole file systems: long enough to be done while the service
                // ends.
                let (stopped, changes) =
                    futures::future::join(engine.end(name, grace), engine.changes(name)).await;
                (run.stopped, run.changes) = (Some(stopped?), changes);
            }
            (None, None) => {}
        }
    }
    if run.stopped.is_none() {
        run.log = engine.log_tail(name, LOG).await;
        if stop.is_some() {
            run.changes = engine.changes(name).await;
        }
    }
    // Now and not with the others: the engine removes one at a time, and takes a while. What fails
    // here is tried again at the end.
    let _ = tokio::time::timeout(REMOVAL_TIMEOUT, engine.remove(name)).await;
    Ok(run)
}

/// Waits for the first 2xx or for the container's end.
async fn wait_for_answer(
    engine: &Engine,
    spec: &Spec,
    settings: &Settings,
    last: &mut Answer,
) -> Result<(Outcome, Option<Container>)> {
    loop {
        let found = engine.inspect(&spec.name).await?;
        let container = found.ok_or_else(|| {
            Error::unexpected(format!("cannot watch container {}: somebody removed it", spec.name))
        })?;
        if let Some(ended) = read_end(Some(container.clone())) {
            return Ok((ended, None));
        }
        *last = engine.probe(&container, settings.port, &settings.health.path).await;
        if last.is_well() {
            return Ok((Outcome::Answers, Some(container)));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// How a container ended; none when it has not.
fn read_end(container: Option<Container>) -> Option<Outcome> {
    match container?.state {
        State::Ended { exit_code, out_of_memory, error } => {
            Some(Outcome::Ended { exit_code, out_of_memory, error })
        }
        State::Created | State::Running => None,
    }
}

/// What a running container shows of itself.
async fn look_at(
    engine: &Engine,
    container: &Container,
    settings: &Settings,
    outcome: &Outcome,
) -> Look {
    let (name, port) = (container.name.as_str(), settings.port);
    let paths = PATHS
        .into_iter()
        .chain([settings.health.path.as_str()])
        .filter(|_| *outcome == Outcome::Answers);
    let pages = futures::future::join_all(paths.map(async |path| {
        let (first, second) = futures::future::join(
            engine.page(container, port, path),
            engine.page(container, port, path),
        )
        .await;
        (path.to_string(), rules::keep_settled(first, second))
    }));
    // One behind the other: what is run inside would be among the processes.
    let inside = async {
        let processes = engine.processes(name).await;
        (processes, engine.inside(name).await)
    };
    let clues = async {
        match outcome {
            Outcome::Silent { .. } => {
                engine.look_closer(container, port, &settings.health.path).await
            }
            _ => Clues::default(),
        }
    };
    let (pages, (processes, inside), clues) = futures::join!(pages, inside, clues);
    Look { processes, inside, clues, pages: pages.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Format, Verbosity};

    #[test]
    fn an_image_gets_no_variable_of_the_runner() {
        let names = ["DB_URL", "GITHUB_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "AWS_PROFILE"];
        let environ = Environ::new(names.map(|name| (name.to_string(), "value".to_string())));
        let report = Report::to(Box::new(std::io::sink()), Format::Human, Verbosity::Quiet, false);
        let contract = contract::Contract::default();
        let values = collect_values(names.into_iter(), &contract, &environ, &report);
        assert_eq!(values.keys().collect::<Vec<_>>(), ["DB_URL"]);
    }
}
