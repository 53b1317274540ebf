//! How a step ended, the way somebody who was just woken reads it: a verdict first, then how far
//! it got, why, what to do, and what it would change. Pure.

use serde_json::Value;

use super::{Course, Markdown, Outputs};
use crate::error::{Cause, Error, Kind};

/// The end of a step, and what is known of it.
pub struct StepEnd<'a> {
    /// The command's name.
    pub step: &'a str,
    pub service: Option<&'a str>,
    /// What was asked for: a version, a digest, a record.
    pub wanted: Option<&'a str>,
    pub environment: Option<&'a str>,
    pub outputs: &'a Outputs,
    pub course: &'a Course,
    pub error: Option<&'a Error>,
    pub links: &'a Links,
}

/// Where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// This run.
    pub run: Option<String>,
    /// The workflow that deploys by hand.
    pub by_hand: Option<String>,
}

/// Rows of the table of causes.
const CAUSES: usize = 20;
/// Phases that are drawn.
const PHASES: usize = 60;
/// Lines of a plan that are shown.
const PLAN_LINES: usize = 400;

impl StepEnd<'_> {
    /// The end of a deploy, or of a step that failed. Other steps that ended well say more
    /// themselves.
    pub fn render(&self) -> Option<Markdown> {
        if self.error.is_none() && !self.is_of_deploy() {
            return None;
        }
        let mut text = self.write_verdict();
        text = text.own("\n").markdown(&self.write_facts()).own("\n");
        if let Some(error) = self.error {
            for error in error.each() {
                text = text.markdown(&explain_error(error)).markdown(&list_causes(&error.causes));
            }
            text = text.markdown(&self.write_next_steps(error));
        }
        text = text.markdown(&draw_timeline(&self.course.phases, self.error.is_some()));
        text = text.markdown(&self.write_plan());
        Some(if self.error.is_none() { text.markdown(&self.write_way_back()) } else { text })
    }

    fn is_of_deploy(&self) -> bool {
        self.status().is_some() && self.environment.is_some()
    }

    fn status(&self) -> Option<&str> {
        self.outputs.get("status")?.as_str()
    }

    fn output(&self, name: &str) -> Option<String> {
        match self.outputs.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// What happened to what and where, in one line.
    fn write_verdict(&self) -> Markdown {
        let text = Markdown::default().own("### ");
        let Some(environment) = self.environment else {
            let (sign, words) = self.error.map_or(("✅", ""), |error| judge_step(error.kind));
            return text.own(sign).own(" ").text(self.step).own(words).own("\n");
        };
        let version = match self.output("version").or_else(|| self.wanted.map(shorten_digest)) {
            Some(version) => format!("{} {version}", self.service.unwrap_or("the service")),
            None => format!("{} of {}", self.step, self.service.unwrap_or("the service")),
        };
        let verdict =
            self.error.map_or_else(|| self.judge_success(), |error| judge_deploy(error.kind));
        let Verdict { sign, before, after } = verdict;
        let text = text.own(sign).own(" ").text(&version).own(before);
        let text = match (self.status(), self.count_objects()) {
            (Some("planned"), 1) => text.own("1 object in "),
            (Some("planned"), 2..) => {
                text.text(&self.count_objects().to_string()).own(" objects in ")
            }
            _ => text,
        };
        let text = text.text(environment).own(after);
        match (self.error.map(|error| error.kind), &self.course.good) {
            (Some(Kind::RolledBack), Some(good)) => text.own(" to ").text(good),
            _ => text,
        }
        .own("\n")
    }

    /// How many objects the plan has.
    fn count_objects(&self) -> usize {
        self.course.plan.lines().filter(|line| !line.starts_with(' ')).count()
    }

    fn judge_success(&self) -> Verdict {
        match self.status() {
            Some("planned") if self.course.plan.is_empty() => {
                verdict("✅", " would change nothing in ", "")
            }
            Some("planned") => verdict("📝", " would change ", ""),
            Some("unchanged") => verdict("✅", " runs in ", " already: nothing was changed"),
            _ => verdict("✅", " runs in ", ""),
        }
    }

    /// What one looks for next, on one line.
    fn write_facts(&self) -> Markdown {
        let mut facts = Vec::new();
        let own = |text: &'static str| Markdown::default().own(text);
        if let Some(error) = self.error {
            let code = own("exit code ").text(&error.kind.exit_code().to_string()).own(": ");
            facts.push(own("**").markdown(&code.own(describe_exit(error.kind))).own("**"));
        }
        if let Some(url) = self.output("url").filter(|url| is_web_address(url)) {
            facts.push(own("").link(&url, &url));
        }
        let record = self.course.record.map(|record| record.to_string());
        if let Some(record) = record.or_else(|| self.output("record")) {
            facts.push(own("record ").text(&record));
        }
        let before = self.course.good.clone().filter(|good| {
            self.status() == Some("deployed") && self.output("version").as_ref() != Some(good)
        });
        if let Some(before) = before {
            facts.push(own("before: ").text(&before));
        }
        if let Some(target) = self.output("target") {
            facts.push(own("").text(&target));
        }
        if let Some(digest) = self.output("digest") {
            facts.push(own("").code(&shorten_digest(&digest)));
        }
        let seconds = self.output("seconds").or_else(|| {
            let total: f64 = self.course.phases.iter().map(|(_, seconds)| seconds).sum();
            (total > 0.0).then(|| format!("{total:.1}"))
        });
        if let Some(seconds) = seconds {
            facts.push(own("").text(&seconds).own(" s"));
        }
        if let Some(run) = &self.links.run {
            facts.push(own("").link("this run", run));
        }
        let line = facts.iter().enumerate().fold(Markdown::default(), |line, (place, fact)| {
            if place == 0 { line.markdown(fact) } else { line.own(" · ").markdown(fact) }
        });
        line.own("\n")
    }

    /// What the reader does now, the first thing first.
    fn write_next_steps(&self, error: &Error) -> Markdown {
        let mut steps: Vec<Markdown> = Vec::new();
        let own = |text: &'static str| Markdown::default().own(text);
        if let Some(environment) = self.environment {
            match error.kind {
                Kind::RolledBack => {
                    let good = self.course.good.as_deref().unwrap_or("what it served");
                    let text = own("Nothing is down: ").text(environment).own(" serves ");
                    steps.push(text.text(good).own(" as before."));
                }
                Kind::Broken if self.course.good.is_some() => {
                    steps.push(own("**Bring the last good version back:** ").markdown(
                        &self.write_command("rollback", environment, &[("to", "previous")]),
                    ));
                }
                Kind::Broken | Kind::TimedOut => steps.push(
                    own("See what runs: ")
                        .code(&format!("cicd status --environment {environment}"))
                        .own("."),
                ),
                _ => {}
            }
        }
        let fixes = error.each().flat_map(|error| error.fixes.iter());
        for fix in fixes.chain(self.only_cause_fix(error)) {
            steps.append(&mut split_fix(fix));
        }
        let again = match error.kind {
            Kind::Refused | Kind::Input => {
                Some("Then run the failed job again: nothing that runs was changed")
            }
            Kind::Interrupted | Kind::Terminated => {
                Some("Run the job again: it goes on from what this one left")
            }
            Kind::Unexpected | Kind::TimedOut => Some("Run the failed job again"),
            _ => None,
        };
        if let (Some(again), Some(run)) = (again, &self.links.run) {
            steps.push(own(again).own(": ").link("this run", run).own("."));
        }
        if steps.is_empty() {
            return Markdown::default();
        }
        let text = own("\n**What to do now**\n\n");
        steps.iter().enumerate().fold(text, |text, (place, step)| {
            text.text(&(place + 1).to_string()).own(". ").markdown(step).own("\n")
        })
    }

    /// The fix of the only cause, where nothing else says one.
    fn only_cause_fix<'e>(&self, error: &'e Error) -> Option<&'e String> {
        match (&error.causes[..], error.fixes.is_empty()) {
            ([only], true) => only.fix.as_ref(),
            _ => None,
        }
    }

    /// A command of ours: as the workflow that runs it by hand, where there is one, and as typed.
    fn write_command(&self, step: &str, environment: &str, values: &[(&str, &str)]) -> Markdown {
        let flags = values.iter().map(|(flag, value)| format!(" --{flag} {value}"));
        let typed = format!("cicd {step} --environment {environment}{}", flags.collect::<String>());
        let text = Markdown::default();
        let Some(by_hand) = &self.links.by_hand else { return text.code(&typed) };
        let text = text.link("run the workflow", by_hand).own(" with action ").code(step);
        let text = text.own(", environment ").code(environment).own(" and version ");
        let (_, version) = values.first().copied().unwrap_or_default();
        text.code(version).own("; or ").code(&typed)
    }

    fn write_plan(&self) -> Markdown {
        let (plan, objects) = (&self.course.plan, self.count_objects());
        if objects == 0 {
            return Markdown::default();
        }
        let is_plan = self.status() == Some("planned");
        let mut lines: Vec<String> = plan.lines().map(mark_line).collect();
        if lines.len() > PLAN_LINES {
            let more = lines.len() - PLAN_LINES;
            lines.truncate(PLAN_LINES);
            lines.push(format!("  and {more} more lines in the log"));
        }
        let title = match objects {
            1 => "The plan: 1 object".to_string(),
            count => format!("The plan: {count} objects"),
        };
        let block = Markdown::default().fenced("diff", &lines.join("\n"));
        // Whoever reads a plan reads it for this; after a deploy it is only looked up.
        if is_plan {
            Markdown::default().own("\n").markdown(&block)
        } else {
            block.fold(&title, false)
        }
    }

    /// How to undo what went well.
    fn write_way_back(&self) -> Markdown {
        let (Some("deployed"), Some(environment)) = (self.status(), self.environment) else {
            return Markdown::default();
        };
        if self.output("previous-revision").is_none() {
            return Markdown::default();
        }
        let command = self.write_command("rollback", environment, &[("to", "previous")]);
        Markdown::default().own("\nBack to what ran before: ").markdown(&command).own("\n")
    }
}

/// The words around an environment's name.
struct Verdict {
    sign: &'static str,
    before: &'static str,
    after: &'static str,
}

fn verdict(sign: &'static str, before: &'static str, after: &'static str) -> Verdict {
    Verdict { sign, before, after }
}

/// How a failed deploy is told.
fn judge_deploy(kind: Kind) -> Verdict {
    match kind {
        Kind::RolledBack => verdict("↩️", " failed in ", " and was rolled back"),
        Kind::Broken => verdict("🚨", " failed in ", ": a person is needed"),
        Kind::TimedOut => verdict("⏱️", " was not ready in ", " in time"),
        Kind::Superseded => {
            verdict("⏭️", " was not brought to ", ": another run or a freeze comes first")
        }
        Kind::Refused => verdict("⛔", " was refused for ", ": nothing that runs was changed"),
        Kind::Input => verdict("⛔", " cannot go to ", ": what was asked for is wrong"),
        Kind::Gate => verdict("⛔", " may not go to ", ": a gate said no"),
        Kind::Interrupted | Kind::Terminated => {
            verdict("🛑", " was interrupted on its way to ", "")
        }
        Kind::Unexpected => verdict("❌", " did not get to ", ": something unforeseen"),
    }
}

/// How a failed step without an environment is told.
fn judge_step(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Refused => ("⛔", " was refused: nothing changed"),
        Kind::Input => ("⛔", " found something to correct"),
        Kind::Gate => ("⛔", ": a gate said no"),
        Kind::Superseded => ("⏭️", " came too late"),
        Kind::TimedOut => ("⏱️", " ran out of time"),
        Kind::Interrupted | Kind::Terminated => ("🛑", " was interrupted"),
        Kind::RolledBack | Kind::Broken | Kind::Unexpected => ("❌", " failed"),
    }
}

/// What an exit code means: the table of the README in fewer words.
fn describe_exit(kind: Kind) -> &'static str {
    match kind {
        Kind::Unexpected => "unexpected failure",
        Kind::Input => "bad input",
        Kind::Refused => "refused before anything that runs was changed",
        Kind::RolledBack => "failed, and rolled back to the last good",
        Kind::Broken => "failed, and what runs is neither the new nor the last good",
        Kind::TimedOut => "timed out",
        Kind::Superseded => "superseded or locked out by another run",
        Kind::Gate => "a gate said no",
        Kind::Interrupted | Kind::Terminated => "interrupted",
    }
}

/// A fix as steps: a statement or a block of YAML is for copying, other lines are sentences.
fn split_fix(fix: &str) -> Vec<Markdown> {
    let sentence = |line: &str| {
        let line = begin_sentence(line);
        let typed = line.split_once(": ").filter(|(_, rest)| is_command(rest));
        match typed {
            Some((what, command)) => Markdown::default().prose(what).own(": ").code(command),
            None => Markdown::default().prose(&line),
        }
    };
    let is_block = |line: &str| line.starts_with([' ', '\t', '{', '}', '[', '-']);
    match fix.split_once('\n') {
        Some((first, rest)) if rest.lines().any(is_block) => {
            vec![sentence(first).own("\n\n").fenced("", rest)]
        }
        _ => fix.lines().filter(|line| !line.trim().is_empty()).map(sentence).collect(),
    }
}

/// Whether a text is what one types into a shell, and nothing behind it.
fn is_command(text: &str) -> bool {
    let programs = ["aws ", "cicd ", "docker ", "gh ", "git ", "kubectl "];
    programs.iter().any(|program| text.starts_with(program)) && !text.contains(['`', ';'])
}

/// What, where and why.
fn explain_error(error: &Error) -> Markdown {
    let mut text = Markdown::default().own("\n**What:** ");
    if let Some(place) = &error.place {
        text = text.code(&place.to_string()).own(": ");
    }
    text = text.prose(&error.message).own("\n");
    match &error.why {
        Some(why) if why.contains('\n') => text.own("\n").fenced("", why),
        Some(why) => text.own("\n**Why:** ").prose(why).own("\n"),
        None => text,
    }
}

/// What failed, each with its reason and fix, and below the last lines of their logs: the first
/// open, the others folded.
fn list_causes(causes: &[Cause]) -> Markdown {
    if causes.is_empty() {
        return Markdown::default();
    }
    let own = |text: &'static str| Markdown::default().own(text);
    let has_codes = causes.iter().any(|cause| cause.code.is_some());
    let mut text = own(match has_codes {
        true => "\n| code | object | reason | fix |\n|---|---|---|---|\n",
        false => "\n| object | reason | fix |\n|---|---|---|\n",
    });
    for cause in causes.iter().take(CAUSES) {
        if has_codes {
            let code = cause.code.and_then(|code| serde_json::to_value(code).ok());
            text = text.own("| ").code(code.as_ref().and_then(Value::as_str).unwrap_or_default());
            text = text.own(" ");
        }
        text = text.own("| ").code(&cause.object).own(" | ").prose(&cause.reason);
        if let Some(code) = cause.exit_code {
            text = text.own(" \\(exit code ").text(&code.to_string()).own("\\)");
        }
        text = text.own(" | ").prose(fix_in_cell(cause)).own(" |\n");
    }
    if let Some(more) = causes.len().checked_sub(CAUSES).filter(|more| *more > 0) {
        text = text.own("\nand ").text(&more.to_string()).own(" more in the log.\n");
    }
    for cause in causes.iter().take(CAUSES) {
        if let Some(fix) = cause.fix.as_deref().filter(|fix| fix.contains('\n')) {
            text = text.own("\nFor ").code(&cause.object).own(":\n\n").fenced("", fix);
        }
    }
    let with_log = causes.iter().take(CAUSES).filter(|cause| !cause.log_tail.is_empty());
    with_log.enumerate().fold(text, |text, (place, cause)| {
        let title = format!("The last lines of {}", cause.object);
        let log = own("").fenced("", &cause.log_tail.join("\n"));
        text.markdown(&log.fold(&title, place == 0))
    })
}

/// How the bars are drawn: without a scale, which Mermaid would write in the reader's own time, but
/// for the ends.
const CHART: &str = "%%{init: {'gantt': {'topPadding': 12, 'gridLineStartPadding': 12, \
                     'leftPadding': 12}}}%%\ngantt\n    dateFormat x\n    axisFormat ·\n    \
                     tickInterval 1month\n    todayMarker off\n";

/// A fix in a cell of the table: one of several lines, which is for copying, is below it.
fn fix_in_cell(cause: &Cause) -> &str {
    match cause.fix.as_deref() {
        Some(fix) if fix.contains('\n') => "see below",
        Some(fix) => fix,
        None => "",
    }
}

/// The phases as bars. Nothing of it is anybody's text.
/// <https://mermaid.js.org/syntax/gantt.html>
fn draw_timeline(phases: &[(String, f64)], is_failed: bool) -> Markdown {
    let steps = merge_phases(phases);
    let total: f64 = steps.iter().map(|(_, seconds)| seconds).sum();
    let is_worth_it = steps.iter().any(|(name, _)| !matches!(*name, "lock" | "record"));
    if !is_worth_it || total < 0.1 {
        return Markdown::default();
    }
    // It failed in the phase before the rollback, or before the record of it.
    let is_end = |name: &str| matches!(name, "rollback" | "record");
    let failed = steps.iter().rposition(|(name, _)| !is_end(name)).filter(|_| is_failed);
    let mut chart = String::from(CHART);
    let mut since = 0.0;
    for (place, (name, seconds)) in steps.iter().enumerate() {
        // What took no time at all is no news, unless it failed.
        if *seconds < 0.05 && Some(place) != failed {
            continue;
        }
        let status = match (Some(place) == failed, *name) {
            (true, _) => "crit",
            (_, "rollback") => "active",
            _ => "done",
        };
        let until = since + seconds.max(total / 100.0);
        let (from, to) = (to_milliseconds(since), to_milliseconds(until));
        chart.push_str(&format!("    {name} {seconds:.1} s :{status}, {from}, {to}\n"));
        since += seconds;
    }
    Markdown::default().own("\n").fenced("mermaid", &chart)
}

/// Joins what watch and verify do in turns, and leaves out unknown names.
fn merge_phases(phases: &[(String, f64)]) -> Vec<(&str, f64)> {
    let known = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let mut merged: Vec<(&str, f64)> = Vec::new();
    for (name, seconds) in phases.iter().filter(|(name, _)| known(name)) {
        if let Some((_, sum)) = merged.last_mut().filter(|(last, _)| last == name) {
            *sum += seconds;
        } else if merged.len() < PHASES {
            merged.push((name, *seconds));
        }
    }
    merged
}

fn to_milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// A line of a plan as a line of a diff.
fn mark_line(line: &str) -> String {
    let actions = [("create ", "+ "), ("update ", "! "), ("delete ", "- ")];
    let bare = line.strip_prefix("would ").unwrap_or(line);
    let of_object = actions.iter().find(|(verb, _)| bare.starts_with(verb));
    if let Some((_, sign)) = of_object {
        return format!("{sign}{bare}");
    }
    let change = line.trim_start().split_once(": ");
    let sides = change.and_then(|(path, values)| Some((path, values.split_once(" → ")?)));
    match sides {
        // A value may have an arrow in it itself: then nobody knows where the sides meet.
        Some((path, (old, new))) if !new.contains(" → ") => {
            let old = (old != "none").then(|| format!("-     {path}: {old}"));
            let new = (new != "none").then(|| format!("+     {path}: {new}"));
            old.into_iter().chain(new).collect::<Vec<_>>().join("\n")
        }
        _ => format!("  {line}"),
    }
}

/// The beginning of a digest; anything else as it is.
fn shorten_digest(name: &str) -> String {
    match name.strip_prefix("sha256:") {
        Some(hex) => format!("sha256:{}", hex.chars().take(12).collect::<String>()),
        None => name.to_string(),
    }
}

/// A sentence with its first letter as it should be.
fn begin_sentence(text: &str) -> String {
    let mut rest = text.chars();
    match rest.next() {
        Some(first) => first.to_uppercase().chain(rest).collect(),
        None => String::new(),
    }
}

/// Whether an address may be a link.
fn is_web_address(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

#[cfg(test)]
mod tests;
