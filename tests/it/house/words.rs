//! Words and shape: what a reader greps for, and what a line may hold.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{code, files, statements, text};

/// The longest line that reads well, in characters.
const COLUMNS: usize = 100;

/// The share of lines that may be longer, in thousandths: addresses and texts of programs.
const LONG_LINES: usize = 30;

/// The share of free functions that may be called by one word, in percent.
const SINGLE_WORDS: usize = 25;

pub fn sources() -> Vec<PathBuf> {
    let is_test = |file: &PathBuf| {
        file.file_stem().is_some_and(|stem| stem == "tests" || stem == "fuzz")
            || file.iter().any(|part| part == "tests")
    };
    files("src", ".rs").into_iter().filter(|file| !is_test(file)).collect()
}

/// The name of the free function that a line begins, if it does.
fn free_function(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub(") {
        Some(rest) => rest.split_once(") ")?.1,
        None => line.strip_prefix("pub ").unwrap_or(line),
    };
    let line = line.strip_prefix("const ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    line.strip_prefix("fn ")?.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

#[test]
fn a_free_function_is_a_verb_and_its_object() {
    let (mut single, mut all) = (BTreeMap::<String, Vec<String>>::new(), 0);
    for file in sources() {
        for name in code(&file).lines().filter_map(free_function) {
            all += 1;
            if !name.contains('_') {
                single.entry(file.display().to_string()).or_default().push(name.to_string());
            }
        }
    }
    let count: usize = single.values().map(Vec::len).sum();
    assert!(
        100 * count <= SINGLE_WORDS * all,
        "{count} of {all} free functions are one word: {single:#?}"
    );
}

#[test]
fn lines_are_short() {
    let (mut long, mut all) = (Vec::new(), 0);
    for file in files("src", ".rs").into_iter().chain(files("tests/it", ".rs")) {
        for (number, line) in text(&file).lines().enumerate() {
            all += 1;
            if line.chars().count() > COLUMNS {
                long.push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    assert!(1000 * long.len() <= LONG_LINES * all, "{} of {all}: {long:#?}", long.len());
}

/// A type's name stands alone where it is imported.
#[test]
fn no_two_types_have_a_name_that_says_nothing() {
    for name in ["Facts", "Request", "Step"] {
        let named: Vec<String> = sources()
            .iter()
            .flat_map(|file| {
                let code = code(file);
                let of = |line: &str| {
                    ["struct ", "enum "].iter().any(|kind| {
                        line.split_once(kind).is_some_and(|(before, rest)| {
                            (before.is_empty() || before.starts_with("pub"))
                                && rest.split(|c: char| !c.is_alphanumeric()).next() == Some(name)
                        })
                    })
                };
                let found: Vec<String> = code
                    .lines()
                    .filter(|line| of(line))
                    .map(|line| format!("{}: {line}", file.display()))
                    .collect();
                found
            })
            .collect();
        assert!(named.len() <= 1, "{name}: {named:#?}");
    }
}

/// The run's state is the engine's; a target keeps none.
#[test]
fn nothing_of_a_run_is_kept_in_a_target() {
    for file in files("src/deploy", ".rs").iter().filter(|file| !file.ends_with("engine/tests.rs"))
    {
        for line in statements(&code(file)) {
            for cell in ["Mutex", "OnceLock", "RwLock"] {
                assert!(!line.contains(cell), "{}: {line}", file.display());
            }
        }
    }
}

/// A digest is a `Digest` from where it is read to where it is written. Others' documents, which
/// may say anything there, are read as text in these files only.
#[test]
fn a_digest_is_no_text() {
    let edges = [
        // BuildKit's name of a step, which is no image's.
        "src/image/builder/progress.rs",
        // ECR's list of images: what it says of one whose digest it does not say still counts.
        "src/registry/repository/lifecycle.rs",
        // GitHub's name of a release's file.
        "src/github/publication.rs",
    ];
    for file in sources().iter().filter(|file| !edges.iter().any(|edge| file.ends_with(edge))) {
        for line in statements(&code(file)) {
            let text = ["String", "Option<String>", "&str", "Option<&str>", "&'a str"];
            let is_text = text.iter().any(|text| line.contains(&format!("digest: {text}")));
            assert!(!is_text, "{}: {line}", file.display());
        }
    }
}
