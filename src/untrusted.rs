//! Text of strangers: subjects of commits, branches, file names, logs, findings, answers of
//! servers. Pure.
//!
//! No string says where it is from, so that everything which is said counts as such text. Only a
//! renderer opens it, and each opens it the way its reader needs: whole lines for a terminal and
//! for GitHub's runner, one line for a cell of a table. What is left has no control character but
//! the tab and the line end, and nothing that changes the order of the text.

use std::fmt;

/// A text that anybody may have written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Untrusted<'a>(&'a str);

impl<'a> Untrusted<'a> {
    pub fn new(text: &'a str) -> Self {
        Untrusted(text)
    }

    /// Returns the text with its lines, each ended by a line feed.
    pub fn lines(self) -> String {
        show_controls(self.0, '\n')
    }

    /// Returns the text on one line: line ends become spaces.
    pub fn line(self) -> String {
        show_controls(self.0, ' ')
    }
}

impl fmt::Debug for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Shows what a terminal, a log or a reader would obey as the escape that JSON has for it, so that
/// a document in JSON still means the same. Colours are left out: tools write them into every log.
///
/// A carriage return before a line feed, or at the end, is part of the line end. One that stands
/// alone ends a line for GitHub's runner and moves the cursor of a terminal.
/// <https://learn.microsoft.com/dotnet/api/system.io.streamreader.readline>
fn show_controls(text: &str, line_end: char) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = skip_colour(rest) {
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '\r' if rest.is_empty() || rest.starts_with(['\r', '\n']) && ends_line(rest) => {}
            '\r' => shown.push_str("\\r"),
            '\n' => shown.push(line_end),
            '\t' => shown.push(c),
            c if is_obeyed(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    shown.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Whether the carriage returns at the beginning of `rest` belong to a line end.
fn ends_line(rest: &str) -> bool {
    let rest = rest.trim_start_matches('\r');
    rest.is_empty() || rest.starts_with('\n')
}

/// What stands behind a colour (ECMA-48's SGR, `ESC [ … m`) at the beginning of `text`.
fn skip_colour(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\u{1b}[").or_else(|| text.strip_prefix('\u{9b}'))?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
    parameters[end..].strip_prefix('m')
}

/// Whether a character is obeyed instead of shown: controls, line ends of Unicode, what turns the
/// order of text (<https://unicode.org/reports/tr9/#Directional_Formatting_Characters>), and what
/// nobody sees, but for the joiners and selectors that scripts and emoji are written with
/// (<https://unicode.org/reports/tr44/#Default_Ignorable_Code_Point>).
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
                | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_obeyed_is_shown() {
        struct Case {
            text: &'static str,
            lines: &'static str,
            line: &'static str,
        }
        let same = |text| Case { text, lines: text, line: text };
        let cases = [
            same("feat: größer 👩‍💻\tא"),
            Case { text: "a\nb\r\nc\r", lines: "a\nb\nc", line: "a b c" },
            Case { text: "a\r\r\nb\r\r", lines: "a\nb", line: "a b" },
            Case { text: "10 %\r20 %", lines: "10 %\\r20 %", line: "10 %\\r20 %" },
            Case {
                text: "x\r::stop-commands::y",
                lines: "x\\r::stop-commands::y",
                line: "x\\r::stop-commands::y",
            },
            Case {
                text: "\x1b]52;c;aGk=\x07\x1b[2K\x1b[1A",
                lines: "\\u001b]52;c;aGk=\\u0007\\u001b[2K\\u001b[1A",
                line: "\\u001b]52;c;aGk=\\u0007\\u001b[2K\\u001b[1A",
            },
            Case { text: "\x1b[1;31mred\x1b[0m", lines: "red", line: "red" },
            Case { text: "\x1b[1;31", lines: "\\u001b[1;31", line: "\\u001b[1;31" },
            Case { text: "\u{9b}2J\u{85}", lines: "\\u009b2J\\u0085", line: "\\u009b2J\\u0085" },
            Case {
                text: "user\u{202e}gpj.exe\u{2028}\u{e0041}",
                lines: "user\\u202egpj.exe\\u2028\\udb40\\udc41",
                line: "user\\u202egpj.exe\\u2028\\udb40\\udc41",
            },
            Case {
                text: "a\u{200b}b\u{feff}\u{3164}\u{e0101}",
                lines: "a\\u200bb\\ufeff\\u3164\\udb40\\udd01",
                line: "a\\u200bb\\ufeff\\u3164\\udb40\\udd01",
            },
            Case { text: "\0\x7f", lines: "\\u0000\\u007f", line: "\\u0000\\u007f" },
            same(""),
        ];
        for Case { text, lines, line } in cases {
            assert_eq!(Untrusted::new(text).lines(), lines, "{text:?}");
            assert_eq!(Untrusted::new(text).line(), line, "{text:?}");
        }
    }

    #[test]
    fn a_document_in_json_still_means_the_same() {
        let document = serde_json::json!({ "a": "x\u{202e}y\u{e0041}\u{7f}" });
        let shown = Untrusted::new(&document.to_string()).lines();
        assert!(shown.is_ascii(), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).ok(), Some(document));
    }
}
