//! Repositories of public shapes, each written small, and what is found in them.

mod dockerfile;
mod go;
mod node;
mod python;
mod routes;

use super::facts::{ServiceFacts, read_facts};
use super::files;
use super::tree::{Refusal, Surroundings, Tree};

pub struct Shape {
    files: &'static [(&'static str, &'static str)],
    /// `port 8080`, `health path /up`, `mode APP_ENV (dev, prod)`: known, and no guess.
    /// `entry: app.main:app`: what the known entry ends with. `? port`: a guess, and said to be one.
    /// `note: x`, `refused: x`, `Dockerfile: x`, `service: x` of service.yaml: what is in them,
    /// whatever the case.
    told: &'static [&'static str],
}

pub const fn shape(
    files: &'static [(&'static str, &'static str)],
    told: &'static [&'static str],
) -> Shape {
    Shape { files, told }
}

/// What is not as it should be.
fn find_wrong(shape: &Shape) -> Vec<String> {
    let tree: Tree =
        shape.files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
    let around = Surroundings { folder: "svc".into(), ..Surroundings::default() };
    let read = read_facts(&tree, &around);
    let lacks = |told: &&&str| match &read {
        Ok(facts) => !is_told(facts, told),
        Err(refusal) => !is_refused(refusal, told),
    };
    let wrong: Vec<String> = shape.told.iter().filter(lacks).map(ToString::to_string).collect();
    let seen = read.map(|facts| (facts.describe(), facts.notes));
    match wrong.is_empty() {
        true => wrong,
        false => vec![format!("{:?}: no {wrong:?} in {seen:?}", shape.files)],
    }
}

fn is_refused(refusal: &Refusal, told: &str) -> bool {
    let text = format!("{refusal:?}").to_lowercase();
    told.strip_prefix("refused: ").is_some_and(|told| text.contains(&told.to_lowercase()))
}

fn is_told(facts: &ServiceFacts, told: &str) -> bool {
    let (known, guessed) = facts.describe();
    let has = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
    match told.split_once([':', ' ']).unwrap_or((told, "")) {
        ("?", what) => guessed.iter().any(|guess| guess.starts_with(&format!("{what} "))),
        ("note", part) => facts.notes.iter().any(|note| has(note, part.trim())),
        (kind @ ("Dockerfile" | "service"), part) => {
            let file = if kind == "service" { "service.yaml" } else { kind };
            let written = files::write_files(facts, "base", &[]);
            written.iter().any(|(name, text)| name == file && has(text, part.trim()))
        }
        ("entry", part) => {
            let end = format!("{}`: ", part.trim());
            known.iter().any(|fact| fact.starts_with("entry `") && fact.contains(&end))
        }
        _ => known.iter().any(|fact| fact.starts_with(&format!("{told}: "))),
    }
}

#[test]
fn each_shape_is_read_as_its_owner_would_say() {
    let all = [dockerfile::SHAPES, python::SHAPES, routes::SHAPES, node::SHAPES, go::SHAPES]
        .into_iter()
        .flatten();
    let wrong: Vec<String> = all.flat_map(find_wrong).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
