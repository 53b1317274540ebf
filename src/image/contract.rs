//! Runs the built image in both modes and looks whether it keeps the platform's contract: it starts, keeps running, listens
//! on the declared port on all addresses, and its health path answers 2xx in time.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::cli::Environ;
use crate::config::settings::Settings;
use crate::docker::diagnosis::{self, Expected};
use crate::docker::{Answer, Engine, LOG_TAIL, Spec, State, unique};
use crate::error::{Cause, Error, Kind, Result};
use crate::layout::Layout;
use crate::report::Report;

/// Its value is the service's name; everything that carries it may be removed at any time.
const LABEL: &str = "cicd.clinicult.io/contract";

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// The mode variable and its two values.
#[derive(Clone, Debug)]
pub struct Modes {
    pub variable: String,
    pub production: String,
    pub debug: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    Pass,
}

/// The contract, kept. One that is not kept is an error.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Contract {
    pub production: Finding,
    pub debug: Finding,
}

impl Contract {
    pub fn in_words(&self) -> String {
        "answers in production and in debug mode".into()
    }
}

/// Starts the image in production and in debug mode, side by side, and waits until both answer. The containers are always
/// removed. Secrets of service.yaml get the value of the environment variable of the same name, where there is one.
///
/// # Errors
/// A gate's no with a cause for each mode that does not answer; refused without an engine.
pub async fn check(
    layout: &Path,
    settings: &Settings,
    modes: &Modes,
    environ: &Environ,
    report: &Report,
) -> Result<Contract> {
    let layout = Layout::open(layout)?;
    let engine = Engine::connect(environ.get("DOCKER_HOST")).await?;
    let image = engine.load(&layout, &settings.name).await?;

    let mut env: BTreeMap<String, String> = settings.container_env(|_| None).into_iter().collect();
    let mut without_value = Vec::new();
    for name in settings.secrets.keys() {
        match environ.get(name) {
            Some(value) => {
                report.mask(value);
                env.insert(name.clone(), value.to_string());
            }
            None => without_value.push(name.as_str()),
        }
    }
    let spec = |mode: &str, value: &str| -> Result<Spec> {
        let mut env = env.clone();
        env.insert(modes.variable.clone(), value.to_string());
        Ok(Spec {
            name: unique(&format!("{}-contract-{mode}", settings.name))?,
            image: image.clone(),
            command: None,
            env,
            labels: BTreeMap::from([(LABEL.to_string(), settings.name.clone())]),
            port: Some(settings.port),
            memory: settings.memory.mebibytes,
        })
    };
    let (production, debug) = (spec("production", &modes.production)?, spec("debug", &modes.debug)?);
    let _removal = engine.removal(vec![production.name.clone(), debug.name.clone()]);
    let (production, debug) = futures::future::try_join(
        one(&engine, &production, "production", settings),
        one(&engine, &debug, "debug", settings),
    )
    .await?;

    let broken: Vec<&str> = [("production", &production), ("debug", &debug)]
        .iter()
        .filter_map(|(mode, cause)| cause.as_ref().map(|_| *mode))
        .collect();
    if broken.is_empty() {
        return Ok(Contract { production: Finding::Pass, debug: Finding::Pass });
    }
    let message = format!("the image does not keep the contract in {} mode", broken.join(" and in "));
    let why = format!(
        "a service answers GET {} on port {} with 2xx within {} s of its start",
        settings.health.path,
        settings.port,
        settings.health.startup.as_secs_f64()
    );
    let error = Error::new(Kind::Gate, message).why(why).causes([production, debug].into_iter().flatten().collect());
    Err(if without_value.is_empty() {
        error
    } else {
        error.fix(format!(
            "if it needs its secrets to start: they had no value here, and get the one of the environment variable of the same \
             name: {}",
            without_value.join(", ")
        ))
    })
}

/// Runs one mode until it answers, or until it is clear that it does not; then says why.
async fn one(engine: &Engine, spec: &Spec, mode: &str, settings: &Settings) -> Result<Option<Cause>> {
    engine.start(spec).await?;
    let expected = Expected { port: settings.port, path: &settings.health.path, memory: settings.memory.mebibytes };
    let mut last = Answer::Silence("it was not asked yet".into());
    match tokio::time::timeout(settings.health.startup, answered(engine, spec, mode, &expected, &mut last)).await {
        Ok(ended) => ended,
        Err(_) => {
            let listening = engine.listening(&spec.name).await;
            let log_tail = engine.log_tail(&spec.name, LOG_TAIL).await;
            Ok(Some(diagnosis::silent(mode, &last, listening.as_deref(), log_tail, &expected)))
        }
    }
}

/// Waits for the first 2xx (none) or for the container's end (its cause).
async fn answered(
    engine: &Engine,
    spec: &Spec,
    mode: &str,
    expected: &Expected<'_>,
    last: &mut Answer,
) -> Result<Option<Cause>> {
    loop {
        let container = engine.inspect(&spec.name).await?;
        let container =
            container.ok_or_else(|| Error::unexpected(format!("somebody removed container {}", spec.name)))?;
        if let State::Ended { exit_code, out_of_memory, error } = &container.state {
            let log_tail = engine.log_tail(&spec.name, LOG_TAIL).await;
            return Ok(Some(diagnosis::ended(mode, *exit_code, *out_of_memory, error.as_deref(), log_tail, expected)));
        }
        *last = engine.ask(&container, expected.path).await;
        if last.is_well() {
            return Ok(None);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
