//! A newcomer's questions: ARCHITECTURE.md names a word for each, and the files that it is in.

use std::collections::BTreeSet;
use std::path::Path;

use super::text;
use super::words::sources;

/// The rows of a table below a heading, each as its cells.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let section = page.split_once(heading).unwrap_or_else(|| panic!("no {heading}")).1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let cells = |row: &str| -> Vec<String> {
        row.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect()
    };
    rows.skip(1).map(cells).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn a_word_answers_each_question_of_a_newcomer() {
    let rows = table(&text(Path::new("ARCHITECTURE.md")), "## Where to look\n");
    assert_eq!(rows.len(), 10, "{rows:?}");
    for row in rows {
        let [question, word, files] = row.as_slice() else { panic!("{row:?}") };
        let word = quoted(word)[0].to_lowercase();
        let named: BTreeSet<String> =
            quoted(files).into_iter().map(|file| format!("src/{file}")).collect();
        let found: BTreeSet<String> = sources()
            .iter()
            .filter(|file| text(file).to_lowercase().contains(&word))
            .map(|file| file.display().to_string())
            .collect();
        assert_eq!(found, named, "{question} {word}: found (left), and said (right)");
        assert!(named.len() <= 2, "{question} has its answer in {named:?}");
    }
}

/// A glossary that names a file names one that is there.
#[test]
fn the_glossary_names_files_that_are_there() {
    let rows = table(&text(Path::new("ARCHITECTURE.md")), "## Glossary: one word for one thing\n");
    assert!(rows.len() >= 20, "{rows:?}");
    for row in rows {
        let [word, _, place] = row.as_slice() else { panic!("{row:?}") };
        for place in quoted(place).into_iter().filter(|place| place.ends_with(".rs")) {
            let ending = format!("/{}", place.trim_start_matches("deploy/*/"));
            assert!(!super::files("src", &ending).is_empty(), "{word}: {place} is not there");
        }
    }
}
