//! Errors: each headline begins with what could not be done, and each code is used and written
//! down.

use std::path::Path;

use super::words::sources;
use super::{code, statements, text};

/// A headline that is no `cannot VERB OBJECT: reason`, and why it need not be.
struct Exception {
    file: &'static str,
    headline: &'static str,
    /// Nothing reads it: it is there to be written.
    #[expect(dead_code, reason = "whoever adds an exception has to have one")]
    reason: &'static str,
}

const fn except(file: &'static str, headline: &'static str, reason: &'static str) -> Exception {
    Exception { file, headline, reason }
}

const EXCEPTIONS: [Exception; 4] = [
    except("src/deploy/engine.rs", "{what} {seconds} s", "a verdict on what was deployed"),
    except("src/interrupt.rs", "interrupted by {name}", "a person or the runner wanted it so"),
    except("src/command/check.rs", "{message} ({rule})", "a finding, in the words of its rule"),
    except("src/error.rs", "{error:#}", "a foreign error whose place nobody named"),
];

/// The texts in a source file that are an error's headline, as they are written there.
fn headlines(code: &str) -> Vec<String> {
    let code: String = statements(code).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (start, _) in code.match_indices("Error::") {
        let is_ours = !code[..start].ends_with(|before: char| before.is_alphanumeric());
        let call = &code[start + "Error::".len()..];
        let makers = ["input(", "refused(", "unexpected(", "new("];
        let is_ours = is_ours && !call.starts_with("new(ErrorKind");
        if is_ours && let Some(maker) = makers.iter().find(|maker| call.starts_with(**maker)) {
            found.extend(first_text(&call[maker.len()..]));
        }
    }
    // A headline that is made before its error has one of these names. A finding's message is none.
    let names = ["let message = ", "let headline = "];
    for name in names.into_iter().filter(|_| code.contains("Error::")) {
        for (start, _) in code.match_indices(name) {
            let value = &code[start + name.len()..];
            found.extend(value.strip_prefix("format!(").and_then(first_text));
        }
    }
    found
}

/// The first literal among a call's arguments; `None` if it has none.
fn first_text(arguments: &str) -> Option<String> {
    let mut depth = 1;
    for (at, c) in arguments.char_indices() {
        match c {
            '"' => {
                let mut text = String::new();
                let mut inside = arguments[at + 1..].chars();
                while let Some(c) = inside.next().filter(|c| *c != '"') {
                    text.push(c);
                    if c == '\\' {
                        text.extend(inside.next());
                    }
                }
                return Some(text);
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return None;
        }
    }
    None
}

#[test]
fn an_error_begins_with_what_could_not_be_done() {
    let (mut wrong, mut seen, mut used) = (Vec::new(), 0, vec![false; EXCEPTIONS.len()]);
    for file in sources() {
        let path = file.display().to_string();
        for headline in headlines(&code(&file)) {
            seen += 1;
            let excepted = EXCEPTIONS
                .iter()
                .position(|known| known.file == path && known.headline == headline);
            match excepted {
                Some(at) => used[at] = true,
                // One that was made before, which is checked where it is made.
                None if headline.starts_with("{headline}") => {}
                None if headline.starts_with("cannot ") => {}
                None => wrong.push(format!("{path}: {headline}")),
            }
        }
    }
    assert!(wrong.is_empty(), "cannot VERB OBJECT: reason; but {wrong:#?}");
    assert!(seen >= 280, "{seen} headlines are found: does the test still see them?");
    let idle: Vec<&str> = EXCEPTIONS
        .iter()
        .zip(&used)
        .filter(|(_, used)| !**used)
        .map(|(known, _)| known.headline)
        .collect();
    assert!(idle.is_empty(), "these need no exception any more: {idle:?}");
}

#[test]
fn a_headline_is_found_wherever_it_is_written() {
    let cases = [
        ("Error::input(\"cannot a\")", &["cannot a"][..]),
        ("Error::refused(format!(\n    \"b {}\",\n    c(\"d\")\n))", &["b {}"]),
        ("Error::new(Kind::Gate, format!(\"e\"))", &["e"]),
        ("Error::new(\n    Kind::Gate,\n    \"f \\\"g\\\"\")", &["f \\\"g\\\""]),
        ("IoError::new(\"h\")\nError::input(message).fix(\"i\")", &[]),
        ("let message = format!(\"j\");\nError::input(message)", &["j"]),
        ("let message = format!(\"j\");", &[]),
        ("// Error::input(\"k\")", &[]),
    ];
    for (code, expected) in cases {
        assert_eq!(headlines(code), expected, "{code}");
    }
}

/// The codes, by their names in the code and by their words.
fn codes() -> Vec<(String, String)> {
    let error = code(Path::new("src/error.rs"));
    let declared = error.split_once("pub enum Code {\n").expect("an enum").1;
    let declared = declared.split_once("\n}").expect("its end").0;
    let names = statements(declared).map(|line| line.trim().trim_end_matches(',').to_string());
    let dashed = |name: &str| {
        let dash = |(at, c): (usize, char)| match c.is_uppercase() && at > 0 {
            true => format!("-{}", c.to_lowercase()),
            false => c.to_lowercase().to_string(),
        };
        name.char_indices().map(dash).collect::<String>()
    };
    let codes: Vec<(String, String)> = names.map(|name| (name.clone(), dashed(&name))).collect();
    assert!(codes.len() >= 20, "{codes:?}");
    codes
}

#[test]
fn every_code_is_told_by_somebody() {
    let told: Vec<String> = sources()
        .iter()
        .filter(|file| !file.starts_with("src/error") && **file != Path::new("src/error.rs"))
        .map(|file| statements(&code(file)).collect::<Vec<_>>().join("\n"))
        .collect();
    for (name, _) in codes() {
        let is_told = told.iter().any(|code| code.contains(&format!("Code::{name}")));
        assert!(is_told, "nothing ends with {name}");
    }
}

/// Whoever has a code finds what it means, and what to do, under its word.
#[test]
fn every_code_is_explained() {
    let page = text(Path::new("docs/errors.md"));
    let help = text(Path::new("docs/troubleshooting.md"));
    for (_, word) in codes() {
        assert!(page.contains(&format!("| [`{word}`](troubleshooting.md#{word}) |")), "{word}");
        let section = help.split_once(&format!("\n## {word}\n")).map(|(_, rest)| rest);
        let section = section.unwrap_or_else(|| panic!("troubleshooting.md has no {word}"));
        let section = section.split("\n## ").next().unwrap_or_default();
        for part in ["**Seen:** ", "**Why:** ", "**Fix:** ", "```"] {
            assert!(section.contains(part), "{word} has no {part}: {section}");
        }
    }
}

/// What a page tells a person to type is what the program takes.
#[test]
fn the_commands_in_the_help_can_be_run() {
    let help = text(Path::new("docs/troubleshooting.md"));
    let blocks = help.split("```bash\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines: Vec<&str> =
        blocks.flat_map(str::lines).filter(|line| line.contains("cicd ")).collect();
    assert!(lines.len() >= 10, "{lines:?}");
    for line in lines.into_iter().filter(|line| line.starts_with("cicd ")) {
        let script = format!("cicd() {{ \"$BINARY\" \"$@\" --help; }}; {line}");
        let mut command = std::process::Command::new("bash");
        command.args(["-euc", &script]).env("BINARY", env!("CARGO_BIN_EXE_cicd"));
        let ended = command.output().expect("bash runs");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.is_empty(), "{line}: {said}");
    }
}
