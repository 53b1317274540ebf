//! The rules of the image contract: from facts to findings. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::facts::{ContractFacts, Outcome, Run};
use super::leaks;
use super::ruling::{Breach, Ruling};
use crate::config::contract::{Level, Levels, Rule};
use crate::docker::diagnosis::{self, Expected, Hindrance};
use crate::docker::processes::Process;
use crate::docker::{KILLED, LOG_TAIL, Page};

/// The two modes, and what a container without its secrets is called.
pub const PRODUCTION: &str = "production";
pub const DEBUG: &str = "debug";
pub const WITHOUT: &str = "without secrets";

/// More paths than this are counted and not told.
const TOLD: usize = 5;

/// What service.yaml asks for.
#[derive(Clone, Debug)]
pub struct Measures<'a> {
    pub expected: Expected<'a>,
    pub startup: Duration,
    pub stop: Duration,
    /// In MiB.
    pub size: u32,
    /// The mode variable, its value in production, and in debug mode.
    pub mode: (&'a str, &'a str, &'a str),
    /// The variables of `secrets`.
    pub secrets: Vec<&'a str>,
    /// Those of them that had no value here.
    pub without_value: Vec<&'a str>,
    pub levels: &'a Levels,
}

/// A rule that the image breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    pub rule: Rule,
    pub level: Level,
    /// The containers it was seen in; none when it is about the image itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modes: Vec<&'static str>,
    /// What was seen. Never a secret's value.
    pub evidence: String,
    pub fix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The container's last lines, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log_tail: Vec<String>,
}

/// What became of each rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub findings: Vec<Finding>,
    pub kept: Vec<Rule>,
    /// What could not be seen, and why.
    pub unjudged: Vec<(Rule, String)>,
    /// What service.yaml does not want to know.
    pub off: Vec<Rule>,
}

/// Judges every rule. What breaks one in both modes in the same way is one finding.
pub fn judge(facts: &ContractFacts, measures: &Measures<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    for rule in Rule::ALL.iter().copied() {
        let level = measures.levels.of(rule);
        if level == Level::Off {
            verdict.off.push(rule);
            continue;
        }
        match judge_rule(rule, facts, measures) {
            Ruling::Kept => verdict.kept.push(rule),
            Ruling::Unjudged(why) => verdict.unjudged.push((rule, why)),
            Ruling::Broken(said) => {
                let findings = said.into_iter().map(|said| {
                    let Breach { modes, evidence, fix, exit_code, log_tail } = said;
                    Finding { rule, level, modes, evidence, fix, exit_code, log_tail }
                });
                for finding in findings {
                    let same = |other: &&mut Finding| {
                        other.rule == rule
                            && other.evidence == finding.evidence
                            && other.exit_code == finding.exit_code
                    };
                    match verdict.findings.iter_mut().find(same) {
                        Some(other) => other.modes.extend(finding.modes),
                        None => verdict.findings.push(finding),
                    }
                }
            }
        }
    }
    verdict
}

fn judge_rule(rule: Rule, facts: &ContractFacts, measures: &Measures<'_>) -> Ruling {
    match rule {
        Rule::Starts => judge_start(facts, measures),
        Rule::Listens | Rule::Health => judge_answer(rule, facts, measures),
        Rule::Mode => judge_mode(facts, measures),
        Rule::ModeDiffers => judge_mode_difference(facts, measures),
        Rule::RequiredVariables => judge_required_variables(facts, measures),
        Rule::NonRoot => judge_user(facts),
        Rule::ReadOnly => judge_writes(facts),
        Rule::Stops => judge_stop(facts, measures),
        Rule::ExecForm => judge_exec_form(facts, measures),
        Rule::SecretFiles => leaks::judge_files(&facts.images),
        Rule::SecretVariables => leaks::judge_variables(&facts.images),
        Rule::Size => judge_size(facts, measures),
    }
}

fn list_modes(facts: &ContractFacts) -> [(&'static str, &Run); 2] {
    [(PRODUCTION, &facts.production), (DEBUG, &facts.debug)]
}

fn judge_start(facts: &ContractFacts, measures: &Measures<'_>) -> Ruling {
    let mut said = Vec::new();
    // A busy engine may miss in one mode what it saw in the other.
    let memory = list_modes(facts)
        .into_iter()
        .any(|(_, run)| matches!(run.outcome, Outcome::Ended { out_of_memory: true, .. }));
    for (mode, run) in list_modes(facts) {
        let Outcome::Ended { exit_code, out_of_memory, error } = &run.outcome else { continue };
        let log = read_tail(run);
        let out_of_memory = &(*out_of_memory || memory && *exit_code == KILLED);
        let cause = diagnosis::explain_end(
            mode,
            *exit_code,
            *out_of_memory,
            error.as_deref(),
            log,
            &measures.expected,
        );
        let mut one = Breach::of(mode, cause);
        if !measures.without_value.is_empty() && !out_of_memory && error.is_none() {
            let stand_ins: Vec<String> =
                measures.without_value.iter().map(|name| format!("{name}: …")).collect();
            one.fix = format!(
                "if it needs its secrets to start: they had no value here; give stand-ins in \
                 service.yaml, \
                 `contract: {{env: {{{}}}}}`, or the environment variables of these names",
                stand_ins.join(", ")
            );
        }
        said.push(one);
    }
    Ruling::by(said)
}

/// Which rule a container that does not answer well breaks.
fn choose_broken_rule(hindrance: &Hindrance) -> Rule {
    match hindrance {
        // Somebody took the connection.
        Hindrance::Unreachable(why) if why.starts_with("no answer within") => Rule::Health,
        Hindrance::ListensNowhere
        | Hindrance::ListensElsewhere
        | Hindrance::LoopbackOnly
        | Hindrance::Ipv6Only
        | Hindrance::Unreachable(_) => Rule::Listens,
        Hindrance::KnownHostsOnly
        | Hindrance::RedirectsToHttps
        | Hindrance::SpeaksTls
        | Hindrance::WantsCredentials
        | Hindrance::NoSuchPath
        | Hindrance::Unhealthy(_)
        | Hindrance::NoAnswer(_) => Rule::Health,
    }
}

fn judge_answer(rule: Rule, facts: &ContractFacts, measures: &Measures<'_>) -> Ruling {
    let mut breaches = Vec::new();
    let mut unjudged = None;
    for (mode, run) in list_modes(facts) {
        let answer = match &run.outcome {
            Outcome::Answers => continue,
            Outcome::Ended { .. } => {
                unjudged = Some(format!("in {mode} mode it does not keep running"));
                continue;
            }
            Outcome::Silent { answer } => answer,
        };
        let clues = run.look.as_ref().map(|look| look.clues.clone()).unwrap_or_default();
        let (listening, port) = (run.listening(), measures.expected.port);
        let hindrance = diagnosis::find_hindrance(answer, &clues, listening, &run.log, port);
        let broken = choose_broken_rule(&hindrance);
        if broken == rule {
            let cause = diagnosis::explain_hindrance(
                mode,
                &hindrance,
                &clues,
                listening,
                read_tail(run),
                &measures.expected,
            );
            let mut one = Breach::of(mode, cause);
            one.evidence = format!(
                "{} (after {} s, health.startup)",
                one.evidence,
                measures.startup.as_secs_f64()
            );
            if rule == Rule::Health && matches!(hindrance, Hindrance::Unreachable(_)) {
                let path = measures.expected.path;
                one.fix = format!(
                    "answer GET {path} with 2xx at once, whatever else the service is doing"
                );
            }
            breaches.push(one);
        } else if rule == Rule::Health {
            unjudged = Some(format!("in {mode} mode it does not listen"));
        }
    }
    match unjudged {
        Some(why) if breaches.is_empty() => Ruling::Unjudged(why),
        _ => Ruling::by(breaches),
    }
}

fn judge_mode(facts: &ContractFacts, measures: &Measures<'_>) -> Ruling {
    let (variable, production, debug) = measures.mode;
    let mut said = Vec::new();
    let mut unseen = false;
    for ((mode, run), value) in list_modes(facts).into_iter().zip([production, debug]) {
        let environment = run.look.as_ref().and_then(|look| look.inside.environment.as_ref());
        let Some(environment) = environment else {
            unseen = true;
            continue;
        };
        let fix = format!(
            "hand the container's environment on to the service: no `env -i`, no `export \
             {variable}=…` in the entrypoint"
        );
        match environment.get(variable) {
            Some(found) if found == value => {}
            Some(found) => said.push(Breach::plain(
                &[mode],
                format!(
                    "PID 1 has {variable}={} where the container was given {value}",
                    found.escape_default()
                ),
                fix,
            )),
            None => said.push(Breach::plain(&[mode], format!("PID 1 has no {variable}"), fix)),
        }
    }
    match said.is_empty() && unseen && compare_modes(facts).is_none_or(|differs| !differs) {
        true => Ruling::Unjudged(
            "the environment of PID 1 cannot be read: the image has no `cat`, or it ended".into(),
        ),
        false => Ruling::by(said),
    }
}

/// Whether the two modes can be told apart from outside. None when one of them does not answer.
fn compare_modes(facts: &ContractFacts) -> Option<bool> {
    let both = list_modes(facts).map(|(_, run)| (run.outcome == Outcome::Answers).then_some(run));
    let [Some(production), Some(debug)] = both else { return None };
    let (one, other) = (production.look.as_ref()?, debug.look.as_ref()?);
    let pages = one.pages.iter().any(|(path, page)| {
        match (page, other.pages.get(path).and_then(Option::as_ref)) {
            (Some(page), Some(other)) => {
                page.status != other.status
                    || strip_changing(&page.body) != strip_changing(&other.body)
            }
            // No answer at all says nothing of the mode.
            _ => false,
        }
    });
    let lines =
        |run: &Run| run.log.iter().map(|line| strip_changing(line)).collect::<BTreeSet<_>>();
    Some(pages || lines(production) != lines(debug))
}

/// A page that was asked for twice in one mode. None, when it is another one each time: then it
/// tells nothing of the mode.
pub fn keep_settled(first: Option<Page>, second: Option<Page>) -> Option<Page> {
    let same = |page: &Page, other: &Page| {
        page.status == other.status && strip_changing(&page.body) == strip_changing(&other.body)
    };
    first.zip(second).filter(|(first, second)| same(first, second)).map(|(first, _)| first)
}

/// A text without what differs from one run to the next: numbers, times, identifiers.
fn strip_changing(text: &str) -> String {
    let mut steady = String::new();
    let mut word = String::new();
    for character in text.chars().chain(std::iter::once(' ')) {
        if character.is_ascii_alphanumeric() {
            word.push(character);
            continue;
        }
        if !is_identifier(&word) {
            steady.extend(word.chars().filter(|character| !character.is_ascii_digit()));
        }
        steady.push(character);
        word.clear();
    }
    steady
}

/// Whether a word is one of those that are made anew each time: hexadecimal, a part of a UUID,
/// letters and digits mixed.
fn is_identifier(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let hexadecimal = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    match word.len() {
        0..4 => false,
        4 => hexadecimal && digits > 0,
        5..8 => digits >= 2 && digits < word.len(),
        _ => hexadecimal || digits >= 2,
    }
}

fn judge_mode_difference(facts: &ContractFacts, measures: &Measures<'_>) -> Ruling {
    if matches!(judge_mode(facts, measures), Ruling::Broken(_)) {
        return Ruling::Unjudged("the mode variable does not arrive".into());
    }
    match compare_modes(facts) {
        None => Ruling::Unjudged("it does not answer in both modes".into()),
        Some(true) => Ruling::Kept,
        Some(false) => {
            let asked = facts.production.look.iter().flat_map(|look| look.pages.keys());
            let asked: Vec<&str> = asked.map(String::as_str).collect();
            let variable = measures.mode.0;
            Ruling::by(vec![Breach::plain(
                &[PRODUCTION, DEBUG],
                format!(
                    "its log and its answers to GET {} are the same in both modes",
                    asked.join(", ")
                ),
                format!(
                    "have it read {variable}: more log lines, `/docs`, or `\"mode\": …` in an \
                     answer in debug mode only"
                ),
            )])
        }
    }
}

fn judge_required_variables(facts: &ContractFacts, measures: &Measures<'_>) -> Ruling {
    if measures.secrets.is_empty() {
        return Ruling::Kept;
    }
    // Where no secret had a value, production ran without them.
    let own = facts.without.as_ref();
    let run = own.unwrap_or(&facts.production);
    if own.is_some() && matches!(facts.production.outcome, Outcome::Ended { .. }) {
        return Ruling::Unjudged("it does not keep running with its secrets either".into());
    }
    let mode = if own.is_some() { WITHOUT } else { PRODUCTION };
    let names = measures.secrets.join(", ");
    let fix = format!(
        "read `secrets` at the start, and end with `{} is not set` on stderr and an exit code that \
         is not 0; a variable that may \
         be missing is no secret that the service needs: `contract: {{rules: {{required-variables: off}}}}`",
        measures.secrets.first().copied().unwrap_or_default()
    );
    let say = |evidence: String, exit_code| {
        Ruling::by(vec![Breach {
            modes: vec![mode],
            evidence,
            fix: fix.clone(),
            exit_code,
            log_tail: read_tail(run),
        }])
    };
    match &run.outcome {
        Outcome::Ended { out_of_memory: true, .. } | Outcome::Ended { error: Some(_), .. } => {
            Ruling::Unjudged("it cannot be started".into())
        }
        Outcome::Ended { exit_code: 0, .. } => say(
            format!("without {names} it ends with exit code 0, as if nothing were wrong"),
            Some(0),
        ),
        Outcome::Ended { exit_code, .. } => {
            let log = run.log.join("\n").to_lowercase();
            let named = measures.secrets.iter().any(|name| log.contains(&name.to_lowercase()));
            match named {
                true => Ruling::Kept,
                false => say(
                    format!("without {names} it ends, and names none of them in its log"),
                    Some(*exit_code),
                ),
            }
        }
        Outcome::Answers => say(
            format!(
                "without {names} it starts all the same, and answers GET {} with 2xx",
                measures.expected.path
            ),
            None,
        ),
        Outcome::Silent { .. } if own.is_none() => Ruling::Unjudged("it does not answer".into()),
        Outcome::Silent { .. } => say(
            format!(
                "without {names} it neither ends nor answers within {} s (health.startup)",
                measures.startup.as_secs_f64()
            ),
            None,
        ),
    }
}

fn judge_user(facts: &ContractFacts) -> Ruling {
    let user = facts.images.first().map_or("", |image| image.user.as_str());
    let name = user.split(':').next().unwrap_or_default();
    let looks = || list_modes(facts).into_iter().filter_map(|(_, run)| run.look.as_ref());
    let inside = looks().find_map(|look| look.inside.uid);
    let rooted = looks().filter_map(|look| look.processes.as_ref()).find_map(|processes| {
        let root = processes.all.iter().find(|process| process.uid == 0)?;
        Some(shorten_command(&root.command))
    });
    let seen = looks()
        .any(|look| look.processes.as_ref().is_some_and(|processes| !processes.all.is_empty()));
    let says = if user.is_empty() { "no USER".to_string() } else { format!("USER {user}") };
    let evidence = match (inside, rooted) {
        (Some(0), _) => format!("PID 1 is root; the image says {says}"),
        // The numbers from outside may be shifted by a user namespace, in which only root can
        // become anybody.
        (Some(_), None) => return Ruling::Kept,
        (_, Some(command)) => format!("`{command}` is root; the image says {says}"),
        (None, None) if ["", "root", "0"].contains(&name) => format!("the image says {says}"),
        (None, None) if seen || name.bytes().all(|byte| byte.is_ascii_digit()) => {
            return Ruling::Kept;
        }
        (None, None) => return Ruling::Unjudged(format!("nothing ran that shows who `{name}` is")),
    };
    Ruling::by(vec![Breach::plain(&[], evidence, "USER 10001:10001 in the Dockerfile, before CMD")])
}

fn judge_writes(facts: &ContractFacts) -> Ruling {
    let seen: Vec<(&'static str, &Vec<String>)> = list_modes(facts)
        .into_iter()
        .filter_map(|(mode, run)| Some((mode, run.changes.as_ref()?)))
        .collect();
    if seen.is_empty() {
        return Ruling::Unjudged("the engine does not tell what was written".into());
    }
    let mut said = Vec::new();
    for (mode, paths) in seen.into_iter().filter(|(_, paths)| !paths.is_empty()) {
        let told: Vec<&str> = paths.iter().take(TOLD).map(String::as_str).collect();
        let more = paths.len().saturating_sub(TOLD);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let fix = match paths.iter().all(|path| path.contains("__pycache__")) {
            true => {
                "ENV PYTHONDONTWRITEBYTECODE=1, and compile in the build: `python -m compileall`"
            }
            false => {
                "keep what has to last in a bucket (`storage`) or a database, log to stdout, and \
                 write scratch files to memory or a VOLUME: \
                 what a container writes is gone with it, and no target mounts a /tmp"
            }
        };
        said.push(Breach::plain(&[mode], format!("it writes {}{more}", told.join(", ")), fix));
    }
    Ruling::by(said)
}

/// The shell that is PID 1 with the service below it, and the service.
fn find_shell(run: &Run) -> Option<(&Process, &Process)> {
    let processes = run.look.as_ref()?.processes.as_ref()?;
    let first = processes.first()?;
    let program = first.command.split_whitespace().next()?.trim_start_matches('-');
    let name = program.rsplit('/').next()?;
    let is_shell = ["sh", "bash", "dash", "ash", "zsh", "busybox"].contains(&name);
    Some((first, processes.children().next()?)).filter(|_| is_shell)
}

/// CMD and ENTRYPOINT as they should be.
const EXEC: &str = "CMD [\"program\", \"argument\"] in the Dockerfile; a script that has to come \
                    first ends with `exec \"$@\"`";

fn judge_stop(facts: &ContractFacts, measures: &Measures<'_>) -> Ruling {
    let signal =
        facts.images.first().and_then(|image| image.stop_signal.as_deref()).unwrap_or("SIGTERM");
    let seen: Vec<_> = list_modes(facts)
        .into_iter()
        .filter_map(|(mode, run)| Some((mode, run, run.stopped?)))
        .collect();
    if seen.is_empty() {
        return Ruling::Unjudged("it did not run until it was told to stop".into());
    }
    let said = seen.into_iter().filter(|(_, _, stopped)| stopped.killed).map(|(mode, run, _)| {
        let seconds = measures.stop.as_secs_f64();
        let still = format!(
            "{seconds} s after {signal} (contract.stop) it still ran, and was \
                             killed"
        );
        let (evidence, fix) = match find_shell(run) {
            Some((shell, service)) => (
                format!(
                    "{still}: PID 1 is `{}`, which does not hand it to `{}`",
                    shorten_command(&shell.command),
                    shorten_command(&service.command)
                ),
                EXEC.to_string(),
            ),
            None => (
                format!("{still}; requests in flight are lost, and each deploy waits for it"),
                format!(
                    "handle {signal}: finish the requests in flight and end; PID 1 has no \
                         default action for it"
                ),
            ),
        };
        Breach { modes: vec![mode], evidence, fix, exit_code: None, log_tail: read_tail(run) }
    });
    Ruling::by(said.collect())
}

fn judge_exec_form(facts: &ContractFacts, measures: &Measures<'_>) -> Ruling {
    let killed = |run: &Run| run.stopped.is_some_and(|stopped| stopped.killed);
    let seen = list_modes(facts).into_iter().any(|(_, run)| {
        run.look
            .as_ref()
            .is_some_and(|look| look.processes.as_ref().is_some_and(|all| all.first().is_some()))
    });
    let mut said = Vec::new();
    for (mode, run) in list_modes(facts) {
        let Some((shell, service)) = find_shell(run) else { continue };
        if killed(run) && measures.levels.of(Rule::Stops) > Level::Off {
            return Ruling::Unjudged("a shell is PID 1: `stops` tells it".into());
        }
        let evidence = format!(
            "PID 1 is `{}`, and the service its child `{}`",
            shorten_command(&shell.command),
            shorten_command(&service.command)
        );
        said.push(Breach::plain(&[mode], evidence, EXEC));
    }
    let command = facts.images.first().map(|image| image.command.as_slice()).unwrap_or_default();
    match (seen, command) {
        (true, _) => Ruling::by(said),
        (false, [shell, option, ..]) if shell == "/bin/sh" && option == "-c" => {
            Ruling::by(vec![Breach::plain(
                &[],
                format!("its command is `{}`", shorten_command(&command.join(" "))),
                EXEC,
            )])
        }
        (false, _) => Ruling::Unjudged("the engine does not tell what runs".into()),
    }
}

fn judge_size(facts: &ContractFacts, measures: &Measures<'_>) -> Ruling {
    const MEBIBYTE: f64 = 1024.0 * 1024.0;
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MEBIBYTE);
    let budget = u64::from(measures.size) * 1024 * 1024;
    let largest =
        facts.images.iter().max_by_key(|image| image.size()).filter(|image| image.size() > budget);
    let Some(image) = largest else { return Ruling::Kept };
    let mut evidence = format!(
        "{} compressed, and contract.size is {} MiB",
        mebibytes(image.size()),
        measures.size
    );
    if let Some((at, layer)) = image.layers.iter().enumerate().max_by_key(|(_, layer)| layer.size) {
        evidence += &format!(
            "; the largest is {}, {}",
            leaks::describe_layer(image, at),
            mebibytes(layer.size)
        );
    }
    Ruling::by(vec![Breach::plain(
        &[],
        evidence,
        "build in one stage and copy only what runs into a slim one, leave caches in `RUN \
         --mount=type=cache`, or raise `contract: {size: …}`",
    )])
}

fn read_tail(run: &Run) -> Vec<String> {
    run.log[run.log.len().saturating_sub(LOG_TAIL)..].to_vec()
}

/// A command as it fits in a line.
fn shorten_command(command: &str) -> String {
    const MOST: usize = 60;
    match command.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &command[..end]),
        None => command.to_string(),
    }
}

#[cfg(test)]
mod tests;
