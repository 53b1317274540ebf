//! Events → workflow commands of GitHub's runner. Pure.
//!
//! <https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions>

use super::{Event, Verbosity, human};
use crate::error::Place;
use crate::untrusted::Untrusted;

/// The runner cuts longer messages.
const MESSAGE_LIMIT: usize = 4096;

/// The runner shows so many warnings and so many errors of a step, and drops the rest without a
/// word. <https://docs.github.com/rest/checks/runs>: annotations come from its log commands.
const MOST: usize = 10;

/// Which warnings and errors of a step are annotations. The last place is kept for what says how
/// many are not shown; the error that a step ends with has one of its own.
#[derive(Debug, Default)]
pub struct Places {
    warnings: Taken,
    errors: Taken,
}

#[derive(Debug, Default)]
struct Taken {
    shown: usize,
    /// Those behind, and the first of them.
    more: usize,
    kept: Option<String>,
}

impl Places {
    /// What is written for an event that would be the annotation `command`: that, or `text`, what
    /// people read.
    pub fn admit(
        &mut self,
        event: &Event<'_>,
        command: String,
        text: impl Fn() -> String,
    ) -> String {
        let (taken, most) = match event {
            Event::Warning { .. } => (&mut self.warnings, MOST),
            Event::Error(_) => (&mut self.errors, MOST - 1),
            _ => return command,
        };
        if taken.shown + 1 < most {
            taken.shown += 1;
            return command;
        }
        taken.more += 1;
        taken.kept.get_or_insert(command);
        text()
    }

    /// What the last places are for: one that was kept back, or how many there are.
    pub fn conclude(&mut self) -> Vec<String> {
        let levels = [("warning", &mut self.warnings), ("error", &mut self.errors)];
        let last = levels.into_iter().filter_map(|(level, taken)| {
            let taken = std::mem::take(taken);
            match taken.more {
                0 | 1 => taken.kept,
                more => Some(format!("::{level}::{more} more {level}s are in this step's log")),
            }
        });
        last.collect()
    }
}

/// The text of an event, or nothing at this verbosity.
pub fn render(event: &Event<'_>, verbosity: Verbosity) -> Option<String> {
    match event {
        Event::Warning { message, place } => Some(annotate("warning", *place, &message.lines())),
        Event::Error(error) => Some(annotate("error", error.place.as_ref(), &message(error))),
        Event::Trace(text) if verbosity < Verbosity::Verbose => {
            Some(format!("::debug::{}", escape_data(&defuse_inside(&text.lines()))))
        }
        Event::Log(line) => Some(defuse(&line.lines())),
        Event::FoldBegins(title) => Some(format!("::group::{}", escape_data(title))),
        Event::FoldEnds => Some("::endgroup::".into()),
        // A service's name or a log line must not be able to give the runner a command.
        _ => {
            human::render(event, verbosity.max(Verbosity::Normal), false).map(|text| defuse(&text))
        }
    }
}

/// Has the runner mask `secret` from here on.
pub fn mask(secret: &str) -> String {
    format!("::add-mask::{}", escape_data(secret))
}

fn message(error: &crate::error::Error) -> String {
    let mut unplaced = error.clone();
    unplaced.place = None;
    human::explain(&unplaced)
}

fn annotation(level: &str, place: Option<&Place>, message: &str) -> String {
    let properties = place.map(|place| {
        let file = place.file.display().to_string();
        format!(
            " file={},line={},col={}",
            escape_property(&defuse_inside(&Untrusted::new(&file).line())),
            place.line,
            place.column
        )
    });
    let message = defuse_inside(message);
    format!("::{level}{}::{}", properties.unwrap_or_default(), escape_data(&message))
}

/// The annotation, and before it the whole message where the annotation is too short for it.
fn annotate(level: &str, place: Option<&Place>, message: &str) -> String {
    match cut(message) {
        None => annotation(level, place, message),
        Some(part) => format!("{}\n{}", defuse(message), annotation(level, place, &part)),
    }
}

/// The first lines of a message that is too long, in at most [`MESSAGE_LIMIT`] bytes with what says
/// how many more there are.
fn cut(text: &str) -> Option<String> {
    if text.len() <= MESSAGE_LIMIT {
        return None;
    }
    let note = |lines: usize| format!("\nand {lines} more lines in the log");
    let room = MESSAGE_LIMIT - note(text.len()).len();
    let end = (0..=room).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    let end = text[..end].rfind('\n').unwrap_or(end);
    Some(format!("{}{}", &text[..end], note(text[end..].trim_start().lines().count())))
}

/// Escapes the value of a workflow command.
pub fn escape_data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn escape_property(text: &str) -> String {
    escape_data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Text that the runner takes for text: neither `::command::` at the beginning of a line nor
/// `##[command]` anywhere.
pub fn defuse(text: &str) -> String {
    let defused = text.lines().map(|line| {
        let line = defuse_inside(line);
        if line.trim_start().starts_with("::") {
            line.replacen("::", ":\u{200b}:", 1)
        } else {
            line
        }
    });
    defused.collect::<Vec<_>>().join("\n")
}

/// Takes the older form of a command, which may stand anywhere in a line, for text.
fn defuse_inside(text: &str) -> String {
    text.replace("##[", "#\u{200b}#[")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn errors_become_annotations_at_their_place() {
        let place = Place { file: "a,b:c.yaml".into(), line: 2, column: 7 };
        let error = Error::input("50% wrong").at(place).fix("line\nline");
        assert_eq!(
            render(&Event::Error(&error), Verbosity::Quiet).as_deref(),
            Some(
                "::error file=a%2Cb%3Ac.yaml,line=2,col=7::50%25 wrong%0A  fix: line%0A       line"
            )
        );
    }

    #[test]
    fn no_text_can_give_the_runner_a_command() {
        let texts = [
            "::set-output name=a::b",
            "  ::add-path::/x",
            "\u{a0}::add-path::/x",
            "so ##[add-path]/x",
            "x\n  ::stop-commands::y",
            "x\r::stop-commands::y",
            "x\r\r\n::stop-commands::y",
            "x\r\n\x1b[1m::stop-commands::y",
            "#\x1b[0m#[add-path]/x",
        ];
        let place = Place { file: "a\r::add-mask::x,b".into(), line: 1, column: 1 };
        let error = Error::input(texts[5]).why(texts[4]).fix(texts[6]).at(place.clone());
        for text in texts {
            let text = Untrusted::new(text);
            let events = [
                Event::Log(text),
                Event::Detail(text),
                Event::Trace(text),
                Event::StepDone { step: "s", result: text, elapsed: Default::default() },
                Event::Warning { message: text, place: Some(&place) },
                Event::Error(&error),
            ];
            for event in events {
                let said = render(&event, Verbosity::Normal).expect("text");
                // The runner reads lines with .NET's ReadLine, for which CR ends one too.
                for (number, line) in said.split(['\r', '\n']).enumerate() {
                    let own = ["::debug::", "::warning ", "::error "];
                    let is_own = number == 0 && own.iter().any(|own| line.starts_with(own));
                    let is_command = line.trim_start().starts_with("::") && !is_own;
                    assert!(!is_command && !line.contains("##["), "{said:?}");
                }
            }
        }
    }

    #[test]
    fn a_long_message_is_cut_on_a_character() {
        let long = "ä".repeat(5000);
        let short = cut(&long).expect("cut");
        assert!(short.len() <= MESSAGE_LIMIT && short.len() > MESSAGE_LIMIT - 60, "{short}");
        assert!(short.ends_with("ä\nand 1 more lines in the log"), "{short}");
        let lines = "line\n".repeat(2000);
        let short = cut(&lines).expect("cut");
        let kept = short.lines().filter(|line| *line == "line").count();
        assert!(short.ends_with(&format!("line\nand {} more lines in the log", 2000 - kept)));
        assert_eq!(cut(&"x".repeat(MESSAGE_LIMIT)), None);
        // What is not in the annotation is in the log.
        let said = render(&Event::Error(&Error::input(lines)), Verbosity::Quiet).expect("text");
        assert_eq!(said.matches("line").count(), 2000 + kept + 1, "{said}");
    }

    #[test]
    fn ten_of_a_level_are_annotations_and_the_last_says_how_many_there_are() {
        struct Case {
            warnings: usize,
            errors: usize,
            shown: [usize; 2],
            last: &'static [&'static str],
        }
        let cases = [
            Case { warnings: 0, errors: 0, shown: [0, 0], last: &[] },
            Case { warnings: 9, errors: 8, shown: [9, 8], last: &[] },
            Case { warnings: 10, errors: 9, shown: [9, 8], last: &["w9", "e8"] },
            Case {
                warnings: 12,
                errors: 300,
                shown: [9, 8],
                last: &[
                    "::warning::3 more warnings are in this step's log",
                    "::error::292 more errors are in this step's log",
                ],
            },
        ];
        for Case { warnings, errors, shown, last } in cases {
            let mut places = Places::default();
            let error = Error::input("e");
            let warning = Event::Warning { message: Untrusted::new("w"), place: None };
            let mut admit = |event: &Event<'_>, name: &str, count: usize| {
                let said = (0..count)
                    .map(|at| places.admit(event, format!("{name}{at}"), || "text".into()));
                said.filter(|said| said != "text").count()
            };
            let found = [admit(&warning, "w", warnings), admit(&Event::Error(&error), "e", errors)];
            assert_eq!(
                (found, places.conclude()),
                (shown, last.iter().map(ToString::to_string).collect())
            );
            assert!(places.conclude().is_empty());
        }
    }
}
