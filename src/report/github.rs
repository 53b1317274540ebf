//! Events → workflow commands of GitHub's runner. Pure.
//!
//! <https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions>

use super::{Event, Verbosity, human};
use crate::error::Place;
use crate::untrusted::Untrusted;

/// The runner cuts longer messages.
const MESSAGE_LIMIT: usize = 4096;

/// The text of an event, or nothing at this verbosity.
pub fn render(event: &Event<'_>, verbosity: Verbosity) -> Option<String> {
    match event {
        Event::Warning { message, place } => Some(annotation("warning", *place, &message.lines())),
        Event::Error(error) => Some(annotation("error", error.place.as_ref(), &message(error))),
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
    let message = defuse_inside(cut(message));
    format!("::{level}{}::{}", properties.unwrap_or_default(), escape_data(&message))
}

/// At most [`MESSAGE_LIMIT`] bytes, on a character's boundary.
fn cut(text: &str) -> &str {
    if text.len() <= MESSAGE_LIMIT {
        return text;
    }
    let end = (0..=MESSAGE_LIMIT).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
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
        assert!(cut(&long).len() <= MESSAGE_LIMIT);
        assert!(cut(&long).chars().all(|c| c == 'ä'));
    }
}
