//! Events → lines for a terminal. Pure.

use super::{Event, Verbosity};
use crate::error::{Code, Error};
use crate::untrusted::Untrusted;

/// The text of an event, or nothing at this verbosity. `colour` is for terminals.
pub fn render(event: &Event<'_>, verbosity: Verbosity, colour: bool) -> Option<String> {
    let paint = |code: &str, text: &str| {
        if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    };
    let least = match event {
        Event::Error(_) | Event::Warning { .. } => Verbosity::Quiet,
        Event::StepStarted { .. } | Event::StepDone { .. } | Event::Detail(_) => Verbosity::Normal,
        Event::Log(_) | Event::Trace(_) | Event::PhaseDone { .. } => Verbosity::Verbose,
        Event::FoldBegins(_) | Event::FoldEnds => return None,
    };
    if verbosity < least {
        return None;
    }
    Some(match event {
        Event::StepStarted { step } => paint("1", &format!("▸ {step}")),
        Event::StepDone { step, result, elapsed } => {
            let seconds = paint("2", &format!("{:.1} s", elapsed.as_secs_f64()));
            let result = result.lines();
            format!("{} {step}: {result} ({seconds})", paint("32", "✔"))
        }
        Event::Detail(text) => indent(&text.lines(), "  "),
        Event::Trace(text) | Event::Log(text) => paint("2", &indent(&text.lines(), "  │ ")),
        Event::PhaseDone { phase, seconds } => paint("2", &format!("  │ {phase}: {seconds:.1} s")),
        Event::Warning { message, place } => {
            let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
            let place = Untrusted::new(&place).line();
            format!("{} {place}{}", paint("33", "warning:"), message.lines())
        }
        Event::Error(error) => format!("{} {}", paint("31", "error:"), explain(error)),
        Event::FoldBegins(_) | Event::FoldEnds => return None,
    })
}

/// An error as people read it: what and where, why, each cause with its log, the fix.
pub fn explain(error: &Error) -> String {
    let lines = |text: &str| Untrusted::new(text).lines();
    let below = |text: &str| indent(&lines(text), "       ").trim_start().to_string();
    let mut text = String::new();
    if let Some(place) = &error.place {
        text.push_str(&Untrusted::new(&format!("{place}: ")).line());
    }
    text.push_str(&lines(&error.message));
    text.push_str(&name_code(error.code));
    if let Some(why) = &error.why {
        text.push_str(&format!("\n  why: {}", below(why)));
    }
    for cause in &error.causes {
        text.push_str(&format!("\n  {}: {}", lines(&cause.object), lines(&cause.reason)));
        if let Some(code) = cause.exit_code {
            text.push_str(&format!(" (exit code {code})"));
        }
        text.push_str(&name_code(cause.code));
        for line in &cause.log_tail {
            text.push_str(&format!("\n{}", indent(&lines(line), "    │ ")));
        }
        if let Some(fix) = &cause.fix {
            text.push_str(&format!("\n    fix: {}", lines(fix)));
        }
    }
    for fix in &error.fixes {
        text.push_str(&format!("\n  fix: {}", below(fix)));
    }
    text
}

/// The code's word in brackets, by which docs/troubleshooting.md is searched.
fn name_code(code: Option<Code>) -> String {
    code.map(|code| format!(" [{}]", code.word())).unwrap_or_default()
}

/// Bytes in the unit a person would choose, decimal as registries count.
pub fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < units.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

fn indent(text: &str, with: &str) -> String {
    text.lines().map(|line| format!("{with}{line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Cause;

    #[test]
    fn bytes_read_well() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (84_180_590, "84.2 MB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn an_error_says_what_why_and_the_fix() {
        let cause = Cause {
            code: Some(Code::ContainerExited),
            object: "Pod/patients-1/patients".into(),
            reason: "Error".into(),
            exit_code: Some(3),
            log_tail: vec!["boom".into()],
            fix: None,
        };
        let error = Error::input("bad").why("because\nof this").fix("do that").causes(vec![cause]);
        assert_eq!(
            explain(&error),
            "bad\n  why: because\n       of this\n  Pod/patients-1/patients: Error (exit code 3) [container-exited]\n    │ boom\n  fix: do that"
        );
    }
}
