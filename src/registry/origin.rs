//! The origin of a package in an image: from the layer that a scan names to the instruction that
//! made it, and its line in the Dockerfile. Pure.
//!
//! An uncertain origin is left out: a wrong line sends people searching.

use serde_json::Value;

use crate::check::dockerfile::{Dockerfile, Instruction};
use crate::layout::steps;

/// Longer instructions are cut off.
const SHOWN: usize = 60;
/// A longer history is not read, as each step is compared with each instruction.
const MOST_STEPS: usize = 1024;

/// The Dockerfile that an image was built from.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The file's name for people: `Dockerfile`.
    pub file: String,
    pub text: String,
    /// The stage that is shipped; `None` for the last.
    pub target: Option<String>,
}

/// The origin of each layer of an image, by the names that a scan may have for it.
#[derive(Clone, Debug, Default)]
pub struct Origins(Vec<LayerOrigin>);

#[derive(Clone, Debug)]
struct LayerOrigin {
    /// The digests of the layer as it is stored, and unpacked. Inspector's `sourceLayerHash` may be
    /// either.
    names: [String; 2],
    origin: String,
}

impl Origins {
    /// The origins in an image with these stored layers and this config.
    pub fn of(layers: &[String], config: &[u8], recipe: Option<&Recipe>) -> Origins {
        let mut history = steps::read_history(config).unwrap_or_default();
        if history.len() > MOST_STEPS {
            history.clear();
        }
        let config: Value = serde_json::from_slice(config).unwrap_or_default();
        let made: Vec<String> =
            history.iter().map(|step| read_instruction(&step.created_by)).collect();
        let steps = steps::match_layers(&history, layers.len());
        let told = recipe.map(|recipe| locate_steps(recipe, &made));
        let layers = layers.iter().enumerate().map(|(at, stored)| {
            let number = format!("layer {} of {}", at + 1, layers.len());
            let step = steps.get(at);
            let made = step.map(|step| describe_step(&made[*step])).filter(|made| !made.is_empty());
            let origin = match (step.and_then(|step| told.as_ref()?.get(*step)?.as_ref()), made) {
                (Some(Place::Line(line)), _) => format!("{line} ({number})"),
                (Some(Place::Base(image)), _) => format!("base image {image} ({number})"),
                (None, Some(made)) => format!("{made} ({number})"),
                _ => number,
            };
            let unpacked = config["rootfs"]["diff_ids"][at].as_str().unwrap_or_default();
            LayerOrigin { names: [stored.clone(), unpacked.to_string()], origin }
        });
        Origins(layers.collect())
    }

    /// Finds the origin of the layer that a scan calls `hash`; `None` if the image has no such
    /// layer.
    pub fn find(&self, hash: &str) -> Option<&str> {
        let layer = self
            .0
            .iter()
            .find(|layer| !hash.is_empty() && layer.names.iter().any(|name| name == hash));
        layer.map(|layer| layer.origin.as_str())
    }
}

#[derive(Clone, Debug)]
enum Place {
    /// `Dockerfile:12: COPY a b`
    Line(String),
    /// The base image, which the Dockerfile begins with.
    Base(String),
}

/// Locates each step of the history in the Dockerfile.
///
/// BuildKit writes one step for each instruction of the shipped stages, so that they are the end of
/// the history, and everything before is the base image's. If they do not fit (another tool,
/// instructions of the base), an instruction that fits just one step is that step.
fn locate_steps(recipe: &Recipe, made: &[String]) -> Vec<Option<Place>> {
    let parsed = Dockerfile::parse(&recipe.text);
    let mut stages = parsed.shipped(recipe.target.as_deref());
    stages.reverse();
    let instructions: Vec<&Instruction> =
        stages.iter().flat_map(|stage| stage.instructions).collect();
    let line = |one: &Instruction| {
        let text = cut_text(&squeeze_text(&format!("{} {}", one.keyword, one.text)));
        Place::Line(format!("{}:{}: {text}", recipe.file, one.line))
    };
    let before = made.len().checked_sub(instructions.len()).filter(|_| !instructions.is_empty());
    let fitting = before.filter(|before| {
        instructions.iter().zip(&made[*before..]).all(|(one, step)| fits_step(one, step))
    });
    if let (Some(before), Some(first)) = (fitting, stages.first()) {
        let base = std::iter::repeat_n(Some(Place::Base(first.base.clone())), before);
        return base.chain(instructions.iter().map(|one| Some(line(one)))).collect();
    }
    let only = |step: &String| {
        let mut same = instructions.iter().filter(|one| says_much(one) && fits_step(one, step));
        let twice = made.iter().filter(|other| *other == step).count() > 1;
        match (same.next(), same.next()) {
            (Some(one), None) if !twice => Some(line(one)),
            _ => None,
        }
    };
    made.iter().map(only).collect()
}

/// Whether an instruction can have made a step. Text that a shell or BuildKit fills in is not
/// compared.
fn fits_step(one: &Instruction, made: &str) -> bool {
    let (keyword, rest) = made.split_once(' ').unwrap_or((made, ""));
    keyword == one.keyword
        && (!says_much(one)
            || rest == squeeze_commands(one)
            || rest.ends_with(&format!(" {}", squeeze_commands(one))))
}

/// Whether the history has the text of an instruction as the file has it.
fn says_much(one: &Instruction) -> bool {
    let plain = |text: &str| !text.contains("<<");
    match one.keyword.as_str() {
        "RUN" => plain(&one.text),
        "COPY" | "ADD" => plain(&one.text) && !one.text.contains(['$', '[', '"', '\'', '\\']),
        _ => false,
    }
}

fn squeeze_commands(one: &Instruction) -> String {
    squeeze_text(&one.commands())
}

/// Reads the instruction of a step, without BuildKit's mark: `RUN /bin/sh -c apt-get update`.
fn read_instruction(created_by: &str) -> String {
    squeeze_text(created_by.strip_suffix("# buildkit").unwrap_or(created_by))
}

/// Describes the step of a layer for people, without the shell before the commands, and without the
/// values of build arguments, which may be secret.
fn describe_step(made: &str) -> String {
    let commands = made
        .split_once("/bin/sh -c ")
        .filter(|(before, _)| *before == "RUN " || before.starts_with("RUN |"));
    match commands {
        Some((_, commands)) => cut_text(&format!("RUN {commands}")),
        None if made.starts_with("RUN |") => "RUN …".into(),
        None => cut_text(made),
    }
}

fn cut_text(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

fn squeeze_text(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TEXT: &str = "ARG BASE=python:3.13-slim\nFROM ${BASE} AS build\nRUN make\nFROM ${BASE} AS base\nARG VERSION=1\nRUN apt-get update && \\\n  # said\n  apt-get install -y curl\nFROM base\nWORKDIR /app\nCOPY --from=build --chown=1:1 /b /app/b\nCOPY a b c/\nRUN [\"sh\", \"-c\", \"exec\"]\nRUN <<END\nhere\nEND\nCMD [\"x\"]\n";

    /// What BuildKit 0.25 writes for TEXT, read from an image that it built.
    fn history() -> Vec<(&'static str, bool)> {
        vec![
            ("", false),
            ("ENV PATH=/bin", true),
            ("RUN /bin/sh -c apt-get update && apt-get install -y python3 # buildkit", false),
            ("CMD [\"python3\"]", true),
            ("ARG VERSION=7", true),
            (
                "RUN |1 VERSION=7 /bin/sh -c apt-get update &&   apt-get install -y curl # buildkit",
                false,
            ),
            ("WORKDIR /app", false),
            ("COPY --chown=1:1 /b /app/b # buildkit", false),
            ("COPY a b c/ # buildkit", false),
            ("RUN |1 VERSION=7 sh -c exec # buildkit", false),
            ("RUN |1 VERSION=7 /bin/sh -c here\n # buildkit", false),
            ("CMD [\"x\"]", true),
        ]
    }

    fn origins(history: &[(&str, bool)], text: Option<&str>) -> Vec<String> {
        let layers = history.iter().filter(|(_, empty)| !empty).count();
        let named = |kind: &str| -> Vec<String> {
            (0..layers).map(|at| format!("sha256:{kind}{at}")).collect()
        };
        let steps =
            history.iter().map(|(made, empty)| json!({ "created_by": made, "empty_layer": empty }));
        let config =
            json!({ "rootfs": { "diff_ids": named("d") }, "history": steps.collect::<Vec<_>>() });
        let recipe =
            text.map(|text| Recipe { file: "Dockerfile".into(), text: text.into(), target: None });
        let origins = Origins::of(&named("s"), config.to_string().as_bytes(), recipe.as_ref());
        let found = |name: &String| origins.find(name).expect("a layer").to_string();
        let (stored, unpacked): (Vec<String>, Vec<String>) =
            (named("s").iter().map(found).collect(), named("d").iter().map(found).collect());
        assert_eq!(stored, unpacked, "a layer is known by both of its names");
        assert_eq!((origins.find("sha256:x"), origins.find("")), (None, None));
        stored
    }

    #[test]
    fn each_layer_has_its_line_or_is_the_base_images() {
        assert_eq!(
            origins(&history(), Some(TEXT)),
            [
                "base image python:3.13-slim (layer 1 of 8)",
                "base image python:3.13-slim (layer 2 of 8)",
                "Dockerfile:6: RUN apt-get update && apt-get install -y curl (layer 3 of 8)",
                "Dockerfile:10: WORKDIR /app (layer 4 of 8)",
                "Dockerfile:11: COPY /b /app/b (layer 5 of 8)",
                "Dockerfile:12: COPY a b c/ (layer 6 of 8)",
                r#"Dockerfile:13: RUN ["sh", "-c", "exec"] (layer 7 of 8)"#,
                "Dockerfile:14: RUN <<END here (layer 8 of 8)",
            ]
        );
    }

    #[test]
    fn without_a_dockerfile_the_history_speaks() {
        let origins = origins(&history(), None);
        assert!(
            !origins.join("").contains("VERSION=7"),
            "no build argument's value is shown: {origins:?}"
        );
        assert_eq!(origins[0], "layer 1 of 8");
        assert_eq!(origins[6], "RUN … (layer 7 of 8)");
        assert_eq!(origins[1], "RUN apt-get update && apt-get install -y python3 (layer 2 of 8)");
    }

    /// The Dockerfile is of another commit, or the image was built in another way.
    #[test]
    fn what_does_not_fit_is_said_only_where_it_is_certain() {
        let two = "FROM x\nRUN make\nRUN make\nRUN other\n";
        let cases: [(&str, &[(&str, bool)], &str, &[&str]); 5] = [
            (
                "one instruction more in the file",
                &[("RUN /bin/sh -c other # buildkit", false)],
                two,
                &["Dockerfile:4: RUN other (layer 1 of 1)"],
            ),
            (
                "twice in the file",
                &[
                    ("RUN /bin/sh -c make # buildkit", false),
                    ("RUN /bin/sh -c new # buildkit", false),
                ],
                two,
                &["RUN make (layer 1 of 2)", "RUN new (layer 2 of 2)"],
            ),
            (
                "twice in the image",
                &[("RUN /bin/sh -c other", false), ("RUN /bin/sh -c other", false)],
                two,
                &["RUN other (layer 1 of 2)", "RUN other (layer 2 of 2)"],
            ),
            (
                "the order changed",
                &[("RUN /bin/sh -c a # buildkit", false), ("COPY x y # buildkit", false)],
                "FROM x\nCOPY x y\nRUN a\n",
                &["Dockerfile:3: RUN a (layer 1 of 2)", "Dockerfile:2: COPY x y (layer 2 of 2)"],
            ),
            (
                "nothing of it",
                &[("bazel build", false)],
                "FROM x\n",
                &["bazel build (layer 1 of 1)"],
            ),
        ];
        for (case, history, text, expected) in cases {
            assert_eq!(origins(history, Some(text)), expected, "{case}");
        }
    }

    #[test]
    fn no_config_and_no_dockerfile_break_it() {
        let layers = ["sha256:a".to_string()];
        // Longer than anybody writes one: it is not read.
        let endless =
            json!({ "history": vec![json!({ "created_by": "RUN a" }); 5_000] }).to_string();
        let odd = [
            "",
            "{}",
            "[]",
            r#"{"history": 7}"#,
            r#"{"rootfs": {"diff_ids": []}, "history": [{}, {}]}"#,
        ];
        for config in odd.into_iter().chain([endless.as_str()]) {
            for text in ["", "FROM", "RUN a", TEXT] {
                let recipe = Recipe {
                    file: "Dockerfile".into(),
                    text: text.into(),
                    target: Some("nope".into()),
                };
                let origins = Origins::of(&layers, config.as_bytes(), Some(&recipe));
                assert_eq!(origins.find("sha256:a"), Some("layer 1 of 1"), "{text}");
            }
        }
    }

    #[test]
    fn a_long_instruction_is_cut() {
        let long = format!("RUN /bin/sh -c {}", "ä".repeat(100));
        assert_eq!(describe_step(&long).chars().count(), SHOWN + 1);
    }
}
