//! What happens → what people and machines read. The only room that prints.
//!
//! Steps say events to a [`Report`]; [`human`] and [`github`] turn each into text, the run's result
//! becomes one JSON object, and the job summary is [`Markdown`]. Every text counts as one that
//! anybody may have written, and is opened by the renderers only. Everything that leaves goes
//! through the redactor, so that a secret that was made known here is never shown.

pub mod github;
pub mod human;
pub mod markdown;
pub mod summary;

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, Place};
use crate::redact::{Escape, Redactor};
use crate::untrusted::Untrusted;
pub use markdown::Markdown;

/// How text is escaped on its way out, which a secret in it is too.
const ESCAPES: [Escape; 4] =
    [markdown::escape, markdown::escape_html, github::escape_data, github::defuse];

/// The keys and values that a command gives to machines. Keys are the output names of action.yml.
pub type Outputs = Map<String, Value>;

/// A step's result as [`Outputs`]; a result that is no object, which would be a mistake in this
/// program, gives none.
pub fn outputs(result: &impl Serialize) -> Outputs {
    match serde_json::to_value(result) {
        Ok(Value::Object(map)) => map,
        other => {
            debug_assert!(false, "a step's result is an object, not {other:?}");
            Outputs::new()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a terminal.
    Human,
    /// One object on stdout, nothing else there.
    Json,
    /// Workflow commands for GitHub's runner.
    Github,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    Quiet,
    Normal,
    Verbose,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    StepStarted {
        step: &'a str,
    },
    StepDone {
        step: &'a str,
        result: Untrusted<'a>,
        elapsed: Duration,
    },
    /// What a step decided or did; always worth a line.
    Detail(Untrusted<'a>),
    /// A phase of a deploy is over.
    PhaseDone {
        phase: &'a str,
        seconds: f64,
    },
    /// Only for who asked for more.
    Trace(Untrusted<'a>),
    /// A line of a tool that ran for us.
    Log(Untrusted<'a>),
    /// What is said from here on is folded away under a title, where that can be.
    FoldBegins(&'a str),
    FoldEnds,
    Warning {
        message: Untrusted<'a>,
        place: Option<&'a Place>,
    },
    Error(&'a Error),
}

/// How far a deploy got, for the job summary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// The phases that are over, in order, with their seconds.
    pub phases: Vec<(String, f64)>,
    /// What it does, or would do, a line each.
    pub plan: String,
    /// The number of the record that says so.
    pub record: Option<u64>,
    /// The version that was good before.
    pub good: Option<String>,
}

/// Where events go. Cheap to clone; all clones write to the same place.
#[derive(Clone)]
pub struct Report(Arc<Inner>);

struct Inner {
    format: Format,
    verbosity: Verbosity,
    terminal: bool,
    state: Mutex<State>,
}

struct State {
    /// Progress and results for people.
    events: Box<dyn Write + Send>,
    redactor: Redactor,
    summary: String,
    has_verdict: bool,
    course: Course,
    bar: Option<ProgressBar>,
    /// Which events GitHub's runner shows by themselves.
    places: github::Places,
    is_concluded: bool,
}

impl Report {
    /// A report to this process's own streams: results on stdout, and people's progress on stderr
    /// unless GitHub's runner reads it, which wants its commands on stdout.
    pub fn new(format: Format, verbosity: Verbosity) -> Self {
        let terminal = std::io::stderr().is_terminal() && format == Format::Human;
        let events: Box<dyn Write + Send> = match format {
            Format::Github => Box::new(std::io::stdout()),
            Format::Human | Format::Json => Box::new(std::io::stderr()),
        };
        Self::to(events, format, verbosity, terminal)
    }

    /// A report to `events`, for tests and for [`Report::new`].
    pub fn to(
        events: Box<dyn Write + Send>,
        format: Format,
        verbosity: Verbosity,
        terminal: bool,
    ) -> Self {
        let redactor = Redactor::new(&ESCAPES);
        let state = State {
            events,
            redactor,
            summary: String::new(),
            has_verdict: false,
            course: Course::default(),
            bar: None,
            places: github::Places::default(),
            is_concluded: false,
        };
        Report(Arc::new(Inner { format, verbosity, terminal, state: Mutex::new(state) }))
    }

    /// From here on `secret` is shown as `***`, here and by GitHub's runner: as a whole, in its
    /// other forms, and each of its lines that is long enough to be told from ordinary text.
    pub fn mask(&self, secret: impl AsRef<[u8]>) {
        let mut state = self.state();
        let lines = state.redactor.add(secret.as_ref());
        if self.0.format == Format::Github {
            // The runner takes one command a line, and masks what a command's value says.
            for line in &lines {
                let _ = writeln!(state.events, "{}", github::mask(line));
            }
        }
    }

    /// Returns `outputs` as they may leave this process: every secret in any of their texts is
    /// masked, and every control character is shown.
    pub fn masked(&self, outputs: Outputs) -> Outputs {
        let state = self.state();
        let redact = |value: Value| state.redactor.redact_value(value);
        // Again behind what left out colours: they may have stood within a secret.
        let shown = |value: Value| redact(show_controls(redact(value)));
        outputs.into_iter().map(|(key, value)| (key, shown(value))).collect()
    }

    /// Begins a step; it ends with [`Step::done`].
    pub fn step(&self, step: &'static str) -> Step {
        self.say(&Event::StepStarted { step });
        Step { report: self.clone(), step, started: now() }
    }

    pub fn detail(&self, text: impl AsRef<str>) {
        self.say(&Event::Detail(Untrusted::new(text.as_ref())));
    }

    /// Ends a phase of a deploy.
    pub fn phase(&self, phase: &str, seconds: f64) {
        self.state().course.phases.push((phase.to_string(), seconds));
        self.say(&Event::PhaseDone { phase, seconds });
    }

    pub fn trace(&self, text: impl AsRef<str>) {
        self.say(&Event::Trace(Untrusted::new(text.as_ref())));
    }

    pub fn log(&self, line: impl AsRef<str>) {
        self.say(&Event::Log(Untrusted::new(line.as_ref())));
    }

    pub fn warn(&self, message: impl AsRef<str>) {
        self.say(&Event::Warning { message: Untrusted::new(message.as_ref()), place: None });
    }

    pub fn warn_at(&self, message: impl AsRef<str>, place: &Place) {
        let message = Untrusted::new(message.as_ref());
        self.say(&Event::Warning { message, place: Some(place) });
    }

    pub fn error(&self, error: &Error) {
        self.say(&Event::Error(error));
    }

    /// Says the error that a step ends with, behind those beside it: all of them have to be mended.
    pub fn last_error(&self, error: &Error) {
        error.beside.iter().for_each(|error| self.error(error));
        self.conclude();
        self.say(&Event::Error(error));
    }

    /// Says of the warnings and errors that the runner would not show how many there are.
    pub fn conclude(&self) {
        let mut state = self.state();
        for command in state.places.conclude() {
            let _ = writeln!(state.events, "{command}");
        }
        // What comes now is the last error.
        state.is_concluded = true;
    }

    /// Keeps something of how far a deploy got.
    pub fn note(&self, keep: impl FnOnce(&mut Course)) {
        keep(&mut self.state().course);
    }

    /// How far the deploy got.
    pub fn course(&self) -> Course {
        self.state().course.clone()
    }

    /// Puts the verdict before all else in the job summary.
    pub fn summarise_verdict(&self, markdown: &Markdown) {
        let mut state = self.state();
        let text = state.redactor.redact(markdown.as_str());
        state.summary.insert_str(0, &format!("{text}\n"));
        state.has_verdict = true;
    }

    /// Whether the job summary says how the step ended.
    pub fn has_verdict(&self) -> bool {
        self.state().has_verdict
    }

    /// Adds a paragraph to the job summary.
    pub fn summarise(&self, markdown: Markdown) {
        let mut state = self.state();
        let text = state.redactor.redact(markdown.as_str());
        if !state.summary.is_empty() {
            state.summary.push('\n');
        }
        state.summary.push_str(&text);
        state.summary.push('\n');
    }

    /// The job summary so far.
    pub fn summary(&self) -> String {
        self.state().summary.clone()
    }

    /// Progress over `total` bytes: a bar on a terminal, elsewhere a line at each quarter.
    pub fn bytes(&self, label: &str, total: u64) -> Bar {
        let target = if self.0.terminal && self.0.verbosity > Verbosity::Quiet {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template(
            "    {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total), target)
            .with_style(style)
            .with_message(Untrusted::new(label).line());
        self.state().bar = Some(bar.clone());
        Bar {
            report: self.clone(),
            bar,
            label: label.to_string(),
            quarter: Arc::new(Mutex::new(0)),
        }
    }

    /// Something that takes long and says much: on a terminal a line with what it does now and for
    /// how long, on GitHub a fold around all it says.
    pub fn activity(&self, title: &'static str) -> Activity {
        self.say(&Event::FoldBegins(title));
        let line = (self.0.terminal && self.0.verbosity > Verbosity::Quiet).then(|| {
            let style = ProgressStyle::with_template("  {spinner} {wide_msg} {elapsed}");
            let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
                .with_message(title);
            line.enable_steady_tick(Duration::from_millis(100));
            line
        });
        self.state().bar.clone_from(&line);
        Activity { report: self.clone(), line }
    }

    /// Writes the machine's result, which is [`Report::masked`] already, to `stdout` in the JSON
    /// format; in the others this is nothing.
    pub fn result(&self, outputs: &Outputs, stdout: &mut dyn Write) {
        if self.0.format == Format::Json {
            // The same text for JSON, and none of a command for a runner that reads along.
            let text = Value::Object(outputs.clone()).to_string().replace("##[", "#\\u0023[");
            let _ = writeln!(stdout, "{text}");
        }
    }

    /// Writes what the user asked to have on stdout: a manifest, a version.
    pub fn print(&self, text: &str, stdout: &mut dyn Write) {
        if self.0.format != Format::Json {
            let text = self.state().redactor.redact(&Untrusted::new(text).lines());
            let text = if self.0.format == Format::Github { github::defuse(&text) } else { text };
            let _ = stdout.write_all(text.as_bytes());
            if !text.ends_with('\n') {
                let _ = stdout.write_all(b"\n");
            }
        }
    }

    fn say(&self, event: &Event<'_>) {
        let text = match self.0.format {
            Format::Github => github::render(event, self.0.verbosity),
            // A runner reads along, whatever it is asked to read.
            Format::Human | Format::Json => human::render(event, self.0.verbosity, self.0.terminal)
                .map(|text| github::defuse(&text)),
        };
        let Some(text) = text else { return };
        let mut state = self.state();
        let text = state.redactor.redact(&text);
        let text = match (self.0.format, state.is_concluded) {
            (Format::Github, false) => {
                let redactor = &state.redactor;
                let plain = human::render(event, self.0.verbosity, false).unwrap_or_default();
                let plain = github::defuse(&redactor.redact(&plain));
                state.places.admit(event, text, || plain.clone())
            }
            _ => text,
        };
        // A reader that went away is no reason to stop a deploy half-way.
        let write = |events: &mut dyn Write| {
            let _ = writeln!(events, "{text}");
            let _ = events.flush();
        };
        let State { events, bar, .. } = &mut *state;
        match bar {
            Some(bar) => bar.suspend(|| write(events)),
            None => write(events),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Returns `value` with the control characters of its texts and keys shown.
fn show_controls(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(Untrusted::new(&text).lines()),
        Value::Array(list) => Value::Array(list.into_iter().map(show_controls).collect()),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (Untrusted::new(&key).line(), show_controls(value)))
                .collect(),
        ),
        other => other,
    }
}

/// A step that has begun.
pub struct Step {
    report: Report,
    step: &'static str,
    started: Instant,
}

impl Step {
    /// Ends the step with its result in a few words.
    pub fn done(self, result: impl AsRef<str>) {
        let elapsed = self.started.elapsed();
        let result = Untrusted::new(result.as_ref());
        self.report.say(&Event::StepDone { step: self.step, result, elapsed });
    }
}

/// See [`Report::activity`]. It ends when this is dropped.
pub struct Activity {
    report: Report,
    line: Option<ProgressBar>,
}

impl Activity {
    /// Says what is done now.
    pub fn now(&self, what: &str) {
        if let Some(line) = &self.line {
            let what = Untrusted::new(what).line();
            line.set_message(self.report.state().redactor.redact(&what));
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
            self.report.state().bar = None;
        }
        self.report.say(&Event::FoldEnds);
    }
}

/// Progress over bytes; see [`Report::bytes`].
#[derive(Clone)]
pub struct Bar {
    report: Report,
    bar: ProgressBar,
    label: String,
    quarter: Arc<Mutex<u64>>,
}

impl Bar {
    pub fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
        let total = self.bar.length().unwrap_or(0);
        if self.report.0.terminal || total == 0 {
            return;
        }
        let reached = self.bar.position().saturating_mul(4) / total;
        let mut quarter = self.quarter.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if reached > *quarter && reached <= 4 {
            *quarter = reached;
            drop(quarter);
            self.report.detail(format!(
                "{}: {} % of {}",
                self.label,
                reached * 25,
                human::bytes(total)
            ));
        }
    }

    pub fn finish(self) {
        self.bar.finish_and_clear();
        self.report.state().bar = None;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a step took is for people, never for a decision"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer whose text a test can read.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn shown(format: Format, say: impl Fn(&Report)) -> String {
        let text = Shared::default();
        say(&Report::to(Box::new(text.clone()), format, Verbosity::Normal, false));
        let bytes = text.0.lock().expect("lock").clone();
        String::from_utf8(bytes).expect("text")
    }

    /// The lines of a secret but for those that only say what it is.
    fn hidden_lines(secret: &str) -> impl Iterator<Item = &str> {
        secret.lines().filter(|line| !line.starts_with("-----"))
    }

    #[test]
    fn a_masked_secret_is_never_shown() {
        let secrets: &[&[&str]] = &[
            &["hunter2-and-more"],
            &["pa\"ss\\word99"],
            &["-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----\n", "MIIEvQIBADANBgkq"],
            &["inner-secret", "outer-inner-secret-outer"],
        ];
        for format in [Format::Human, Format::Json, Format::Github] {
            for secrets in secrets {
                let said =
                    shown(format, |report| secrets.iter().for_each(|secret| report.mask(secret)));
                let text = shown(format, |report| {
                    secrets.iter().for_each(|secret| report.mask(secret));
                    for line in secrets.iter().flat_map(|secret| hidden_lines(secret)) {
                        report.detail(format!("token {line}"));
                        report.error(&Error::refused(format!("no {line}")).why(line).fix(line));
                        report.warn(line);
                        report.summarise(Markdown::default().text(line));
                        let mut map = Outputs::new();
                        map.insert("token".into(), serde_json::json!({"tail": [line]}));
                        let masked = report.masked(map);
                        assert_eq!(masked["token"]["tail"][0], "***", "{line}");
                        let mut result = Vec::new();
                        report.print(line, &mut result);
                        assert!(!String::from_utf8_lossy(&result).contains(line), "{line}");
                    }
                    for line in secrets.iter().flat_map(|secret| hidden_lines(secret)) {
                        assert!(!report.summary().contains(line), "{line}");
                    }
                });
                // Nothing but the commands that tell the runner what to mask.
                let rest = text.strip_prefix(&said).expect("the commands come first");
                for line in secrets.iter().flat_map(|secret| hidden_lines(secret)) {
                    assert!(!rest.contains(line), "{format:?}: {line} in {rest}");
                }
            }
        }
    }

    #[test]
    fn a_secret_between_colours_is_hidden_in_outputs() {
        let report = Report::to(Box::new(Shared::default()), Format::Json, Verbosity::Quiet, false);
        report.mask("hunter2-and-more");
        let mut outputs = Outputs::new();
        outputs
            .insert("tail".into(), Value::String("is hun\u{1b}[31mter2-and-\u{1b}[0mmore".into()));
        assert_eq!(report.masked(outputs)["tail"], "is ***");
    }

    #[test]
    fn a_runner_that_reads_along_finds_no_command() {
        for format in [Format::Human, Format::Json, Format::Github] {
            let said = shown(format, |report| {
                report.log("::stop-commands::x");
                report.warn("so ##[add-mask]x");
                let place = Place { file: "##[group]x".into(), line: 1, column: 1 };
                report.warn_at("y", &place);
            });
            let is_command = |line: &str| line.starts_with("::stop") || line.contains("##[");
            assert!(!said.lines().any(is_command), "{said}");
        }
        let mut outputs = Outputs::new();
        outputs.insert("a".into(), Value::String("##[add-mask]x".into()));
        let mut stdout = Vec::new();
        let report = Report::to(Box::new(Shared::default()), Format::Json, Verbosity::Quiet, false);
        report.result(&outputs, &mut stdout);
        assert!(!String::from_utf8_lossy(&stdout).contains("##["));
        assert_eq!(serde_json::from_slice::<Outputs>(&stdout).expect("JSON"), outputs);
    }

    #[test]
    fn json_says_one_object() {
        let mut stdout = Vec::new();
        let text = Shared::default();
        let report = Report::to(Box::new(text), Format::Json, Verbosity::Normal, false);
        let mut map = Outputs::new();
        map.insert("version".into(), Value::String("1.4.0".into()));
        report.print("1.4.0", &mut stdout);
        report.result(&map, &mut stdout);
        assert_eq!(String::from_utf8_lossy(&stdout), "{\"version\":\"1.4.0\"}\n");
    }

    #[test]
    fn progress_without_a_terminal_says_each_quarter_once() {
        let text = shown(Format::Human, |report| {
            let bar = report.bytes("pushing", 100);
            for _ in 0..100 {
                bar.add(1);
            }
            bar.finish();
        });
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}
