//! Where in an image a package comes from: from the layer that a scan names to the instruction that
//! made it, and its line in the Dockerfile. Pure.
//!
//! What is not certain is not said: a wrong line sends people searching.

use serde_json::Value;

use crate::check::dockerfile::{Dockerfile, Instruction};
use crate::layout::steps;

/// Longer instructions are cut off.
const SHOWN: usize = 60;
/// A longer history is not read: nobody writes such a Dockerfile, and each step is compared with
/// each instruction.
const MOST_STEPS: usize = 1024;

/// The Dockerfile that an image was built from.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What it is called where people see it: `Dockerfile`.
    pub file: String,
    pub text: String,
    /// The stage that is shipped; none: the last.
    pub target: Option<String>,
}

/// Where each layer of an image comes from, by what a scan may call it.
#[derive(Clone, Debug, Default)]
pub struct Origins(Vec<Layer>);

#[derive(Clone, Debug)]
struct Layer {
    /// Of the layer as it is stored, and as it is unpacked. Inspector says `sourceLayerHash` and
    /// not of which.
    names: [String; 2],
    origin: String,
}

impl Origins {
    /// Of an image with these layers, as they are stored, and this config.
    pub fn of(layers: &[String], config: &[u8], recipe: Option<&Recipe>) -> Origins {
        let mut history = steps::read(config).unwrap_or_default();
        if history.len() > MOST_STEPS {
            history.clear();
        }
        let config: Value = serde_json::from_slice(config).unwrap_or_default();
        let made: Vec<String> =
            history.iter().map(|step| instruction_text(&step.created_by)).collect();
        let steps = steps::of_layers(&history, layers.len());
        let told = recipe.map(|recipe| told(recipe, &made));
        let layers = layers.iter().enumerate().map(|(at, stored)| {
            let number = format!("layer {} of {}", at + 1, layers.len());
            let step = steps.get(at);
            let made = step.map(|step| shown(&made[*step])).filter(|made| !made.is_empty());
            let origin = match (step.and_then(|step| told.as_ref()?.get(*step)?.as_ref()), made) {
                (Some(Place::Line(line)), _) => format!("{line} ({number})"),
                (Some(Place::Base(image)), _) => format!("base image {image} ({number})"),
                (None, Some(made)) => format!("{made} ({number})"),
                _ => number,
            };
            let unpacked = config["rootfs"]["diff_ids"][at].as_str().unwrap_or_default();
            Layer { names: [stored.clone(), unpacked.to_string()], origin }
        });
        Origins(layers.collect())
    }

    /// Where the layer comes from that a scan calls `hash`; none when the image has no such layer.
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
    /// It was there before the first instruction: the image that the Dockerfile begins with.
    Base(String),
}

/// Where each step of the history stands in the Dockerfile. BuildKit writes one for each
/// instruction of the stages that are shipped, so that all of them together are the end of the
/// history: when they fit, everything before is the base image's. When they do not (other tools,
/// instructions of the base for whoever builds on it), an instruction that fits just one step is
/// that.
fn told(recipe: &Recipe, made: &[String]) -> Vec<Option<Place>> {
    let parsed = Dockerfile::parse(&recipe.text);
    let mut stages = parsed.shipped(recipe.target.as_deref());
    stages.reverse();
    let instructions: Vec<&Instruction> =
        stages.iter().flat_map(|stage| stage.instructions).collect();
    let line = |one: &Instruction| {
        let text = cut(&squeezed(&format!("{} {}", one.keyword, one.text)));
        Place::Line(format!("{}:{}: {text}", recipe.file, one.line))
    };
    let before = made.len().checked_sub(instructions.len()).filter(|_| !instructions.is_empty());
    let fitting = before.filter(|before| {
        instructions.iter().zip(&made[*before..]).all(|(one, step)| fits(one, step))
    });
    if let (Some(before), Some(first)) = (fitting, stages.first()) {
        let base = std::iter::repeat_n(Some(Place::Base(first.base.clone())), before);
        return base.chain(instructions.iter().map(|one| Some(line(one)))).collect();
    }
    let only = |step: &String| {
        let mut same = instructions.iter().filter(|one| says_much(one) && fits(one, step));
        let twice = made.iter().filter(|other| *other == step).count() > 1;
        match (same.next(), same.next()) {
            (Some(one), None) if !twice => Some(line(one)),
            _ => None,
        }
    };
    made.iter().map(only).collect()
}

/// Whether an instruction can have been this step. What a shell or BuildKit fills in is not
/// compared.
fn fits(one: &Instruction, made: &str) -> bool {
    let (keyword, rest) = made.split_once(' ').unwrap_or((made, ""));
    keyword == one.keyword
        && (!says_much(one) || rest == text(one) || rest.ends_with(&format!(" {}", text(one))))
}

/// Whether the text of an instruction stands in the history as it stands in the file.
fn says_much(one: &Instruction) -> bool {
    let plain = |text: &str| !text.contains("<<");
    match one.keyword.as_str() {
        "RUN" => plain(&one.text),
        "COPY" | "ADD" => plain(&one.text) && !one.text.contains(['$', '[', '"', '\'', '\\']),
        _ => false,
    }
}

fn text(one: &Instruction) -> String {
    squeezed(&one.commands())
}

/// `RUN /bin/sh -c apt-get update # buildkit` without its end.
fn instruction_text(created_by: &str) -> String {
    squeezed(created_by.strip_suffix("# buildkit").unwrap_or(created_by))
}

/// What made a layer, for people: without the shell before the commands, and without the values of
/// build arguments, which may be what nobody should see.
fn shown(made: &str) -> String {
    let commands = made
        .split_once("/bin/sh -c ")
        .filter(|(before, _)| *before == "RUN " || before.starts_with("RUN |"));
    match commands {
        Some((_, commands)) => cut(&format!("RUN {commands}")),
        None if made.starts_with("RUN |") => "RUN …".into(),
        None => cut(made),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

fn squeezed(text: &str) -> String {
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
        assert_eq!(shown(&long).chars().count(), SHOWN + 1);
    }
}
