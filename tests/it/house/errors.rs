//! Errors: each headline begins with what could not be done, and each code is used and written
//! down.

use super::words::sources;
use super::{code, statements};

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

const EXCEPTIONS: [Exception; 6] = [
    except("src/deploy/engine.rs", "not ready after {} s", "a verdict on what was deployed"),
    except("src/deploy/engine.rs", "the new version does not run", "a verdict"),
    except("src/deploy/engine.rs", "not back within {seconds} s", "a verdict on the way back"),
    except("src/interrupt.rs", "interrupted by {name}", "a person or the runner wanted it so"),
    except("src/command/check.rs", "{message} ({rule})", "a finding, in the words of its rule"),
    except("src/error.rs", "{error:#}", "a foreign error whose place nobody named"),
];

/// Rooms whose headlines are still to be mended.
const OPEN: [&str; 5] =
    ["src/aws", "src/deploy/ecs", "src/deploy/eks", "src/deploy/probe.rs", "src/github/"];

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
        if OPEN.iter().any(|room| path.starts_with(room)) {
            continue;
        }
        for headline in headlines(&code(&file)) {
            seen += 1;
            let excepted = EXCEPTIONS
                .iter()
                .position(|known| known.file == path && known.headline == headline);
            match excepted {
                Some(at) => used[at] = true,
                None if headline.starts_with("cannot ") => {}
                None => wrong.push(format!("{path}: {headline}")),
            }
        }
    }
    assert!(wrong.is_empty(), "cannot VERB OBJECT: reason; but {wrong:#?}");
    assert!(seen >= 200, "{seen} headlines are found: does the test still see them?");
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
