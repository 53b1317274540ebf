//! The service's own tests, run in the image that has them. [`results`] reads what they report.

mod results;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::cli::Environ;
use crate::config::settings::Settings;
use crate::docker::{Engine, LOG_TAIL, Spec, State, unique};
use crate::error::{Cause, Code, Error, Kind, Result};
use crate::layout::Layout;
use crate::report::{Markdown, Report};
pub use results::Results;

/// Its value is the service's name; everything that carries it may be removed at any time.
const LABEL: &str = "cicd.clinicult.io/test";

/// What tests may use, in MiB: more than the service itself, as they mostly do.
const MEMORY: u32 = 4096;

/// As many failed tests as a summary and the cause table have.
const SHOWN: usize = 20;

/// A test run to be made.
pub struct SuiteRequest<'a> {
    /// The layout of the image that has the tests.
    pub layout: &'a Path,
    pub settings: &'a Settings,
    /// Given to the image's entrypoint; `None`: the image's own command.
    pub command: Option<&'a [String]>,
    /// Stand-ins for secrets and buckets.
    pub stand_ins: BTreeMap<String, String>,
    /// The files that the tests write, by their paths in the container.
    pub reports: &'a [String],
    pub timeout: Duration,
}

/// How a test run ended.
pub struct SuiteEnd {
    pub results: Results,
    /// The gate's no; `None` when all is well.
    pub refusal: Option<Error>,
}

/// Runs the tests in a container, which is removed in any case, and reads their reports. What they
/// write is shown as it comes.
///
/// # Errors
/// Refused without an engine; timed out after the request's time. Tests that fail are no error but
/// a [`SuiteEnd::refusal`].
pub async fn run_suite(
    request: &SuiteRequest<'_>,
    environ: &Environ,
    report: &Report,
) -> Result<SuiteEnd> {
    let settings = request.settings;
    let engine = Engine::connect(environ.get("DOCKER_HOST")).await?;
    let image =
        engine.load(&Layout::open(request.layout)?, &format!("{}-test", settings.name)).await?;
    let mut env: BTreeMap<String, String> = settings.container_env(|_| None).into_iter().collect();
    env.extend(request.stand_ins.clone());
    env.insert("CI".into(), "true".into());
    let spec = Spec {
        name: unique(&format!("{}-test", settings.name))?,
        image,
        command: request.command.map(<[String]>::to_vec),
        env,
        labels: BTreeMap::from([(LABEL.to_string(), settings.name.clone())]),
        port: None,
        published: false,
        memory: MEMORY,
    };
    let _removal = engine.removal(vec![spec.name.clone()]);
    engine.start(&spec).await?;
    let following = engine.follow(&spec.name, |line| report.log(line));
    let state = tokio::time::timeout(request.timeout, following).await.map_err(|_| {
        Error::new(Kind::TimedOut, "cannot end the tests in time")
            .why(format!("they ran for {} s", request.timeout.as_secs()))
            .fix("see their last lines above; give them longer: --timeout 30m")
    })??;
    let mut results = Results::default();
    let mut unread = Vec::new();
    for path in request.reports {
        let read = match engine.read_file(&spec.name, path).await? {
            Some(content) => results.read(&String::from_utf8_lossy(&content)),
            None => Err("the tests did not write it".into()),
        };
        unread.extend(read.err().map(|why| format!("{path}: {why}")));
    }
    let log_tail = engine.log_tail(&spec.name, LOG_TAIL).await;
    let refusal = judge_end(&state, &results, &unread, log_tail);
    Ok(SuiteEnd { results, refusal })
}

/// What is wrong with a test run. Tests that nobody sees are none: a report that is named is there.
fn judge_end(
    state: &State,
    results: &Results,
    unread: &[String],
    log_tail: Vec<String>,
) -> Option<Error> {
    let (exit_code, words) = match state {
        State::Ended { error: Some(error), .. } => {
            (None, Some(format!("their command did not start: {error}")))
        }
        State::Ended { out_of_memory: true, exit_code, .. } => {
            (Some(*exit_code), Some(format!("they used more than {MEMORY} MiB of memory")))
        }
        State::Ended { exit_code: 0, .. } => (Some(0), None),
        State::Ended { exit_code, .. } => {
            (Some(*exit_code), Some(format!("their command ended with exit code {exit_code}")))
        }
        State::Created | State::Running => (None, Some("they did not end".into())),
    };
    let failures = (results.failures > 0).then(|| results.in_words());
    let reports = (!unread.is_empty()).then(|| format!("no report: {}", unread.join("; ")));
    let why = failures.or(words).or(reports)?;
    let cause = |object: &str, reason: &str| Cause {
        code: Some(Code::TestsFailed),
        object: object.to_string(),
        reason: reason.to_string(),
        exit_code,
        log_tail: Vec::new(),
        fix: None,
    };
    let mut causes: Vec<Cause> =
        results.failed.iter().take(SHOWN).map(|test| cause(&test.name, &test.message)).collect();
    match causes.first_mut() {
        Some(first) => first.log_tail = log_tail,
        None => causes.push(Cause { log_tail, ..cause("tests", &why) }),
    }
    Some(
        Error::new(Kind::Gate, format!("cannot take the commit: its tests fail: {why}"))
            .code(Code::TestsFailed)
            .fix("run them on a laptop, the same way: cicd test")
            .causes(causes),
    )
}

impl Results {
    /// For the job summary: the failed ones first, each with what is said of it.
    pub fn summary(&self) -> Markdown {
        let headline = Markdown::default().own("**Tests** ").text(&self.in_words());
        let headline = headline.text(&format!(", {:.1} s", self.seconds)).own("\n");
        if self.failed.is_empty() {
            return headline;
        }
        let table = headline.own("\n| failed test | why |\n|---|---|\n");
        let row = |table: Markdown, test: &results::FailedTest| {
            table.own("| ").code(&test.name).own(" | ").text(&test.message).own(" |\n")
        };
        let mut text = self.failed.iter().take(SHOWN).fold(table, row);
        if self.failures > SHOWN as u64 {
            let more = self.failures - SHOWN as u64;
            text = text.text(&format!("and {more} more, in the log")).own("\n");
        }
        let detailed = self.failed.iter().filter(|test| !test.detail.trim().is_empty());
        detailed.take(3).fold(text, |text, test| {
            let detail = Markdown::default().fenced("text", &test.detail);
            text.markdown(&detail.fold(&test.name, false))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_first() {
        let ended = |exit_code| State::Ended { exit_code, out_of_memory: false, error: None };
        let failing = "<testsuite><testcase name='a'/><testcase name='b'><failure message='no'/></testcase></testsuite>";
        let mut failed = Results::default();
        failed.read(failing).expect("a report");
        let none = Results::default();
        let unread = vec!["/tmp/junit.xml: the tests did not write it".to_string()];
        let killed = State::Ended { exit_code: 137, out_of_memory: true, error: None };
        let absent =
            State::Ended { exit_code: 127, out_of_memory: false, error: Some("no pytest".into()) };
        let cases: &[(&State, &Results, &[String], Option<&str>)] = &[
            (&ended(0), &none, &[], None),
            (&ended(1), &failed, &[], Some("2 tests, 1 failed")),
            // A runner that swallows the exit code.
            (&ended(0), &failed, &[], Some("2 tests, 1 failed")),
            (&ended(2), &none, &unread, Some("exit code 2")),
            (&ended(0), &none, &unread, Some("no report: /tmp/junit.xml")),
            (&killed, &none, &[], Some("more than 4096 MiB")),
            (&absent, &none, &[], Some("did not start: no pytest")),
        ];
        for (state, results, unread, expected) in cases {
            let found = judge_end(state, results, unread, vec!["last".into()]);
            match (&found, expected) {
                (None, None) => {}
                (Some(error), Some(said)) => {
                    assert!(error.message.contains(said), "{error}");
                    assert_eq!(error.kind.exit_code(), 8);
                    assert_eq!(error.causes[0].log_tail, ["last"]);
                }
                _ => panic!("{state:?}: {found:?}"),
            }
        }
    }
}
