//! What the check saw of an image: how its containers ran, and what its configuration, history and
//! layers say. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::layers::Layer;
use crate::docker::diagnosis::Socket;
use crate::docker::processes::{Inside, Processes};
use crate::docker::{Answer, Clues, Page, Stopped};
use crate::error::{Error, Result};
use crate::layout::steps;

/// Everything.
#[derive(Clone, Debug)]
pub struct ContractFacts {
    pub production: Run,
    pub debug: Run,
    /// Without the values of `secrets`; none when there are no secrets, or production ran without
    /// them already.
    pub without: Option<Run>,
    pub images: Vec<Image>,
}

/// One container, from its start to its end.
#[derive(Clone, Debug)]
pub struct Run {
    pub outcome: Outcome,
    /// Its last lines, oldest first.
    pub log: Vec<String>,
    /// None when it had ended by then.
    pub look: Option<Look>,
    pub stopped: Option<Stopped>,
    /// Paths of its file system that it changed. None when that could not be seen.
    pub changes: Option<Vec<String>>,
}

/// How far a container came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its health path answered 2xx in time.
    Answers,
    Ended {
        exit_code: i64,
        out_of_memory: bool,
        /// The engine's words when it could not start the command at all.
        error: Option<String>,
    },
    /// It ran, and did not answer well in time.
    Silent { answer: Answer },
}

/// What was seen while it ran.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub processes: Option<Processes>,
    pub inside: Inside,
    /// What further requests showed, when it did not answer its health path well.
    pub clues: Clues,
    /// Path → what it answers.
    pub pages: BTreeMap<String, Option<Page>>,
}

impl Run {
    /// Where it listens, when that could be seen.
    pub fn listening(&self) -> Option<&[Socket]> {
        self.look.as_ref()?.inside.listening.as_deref()
    }
}

/// The image of one platform.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// As USER says it; empty when nothing does.
    pub user: String,
    /// ENTRYPOINT and CMD together.
    pub command: Vec<String>,
    pub stop_signal: Option<String>,
    pub env: Vec<(String, String)>,
    pub labels: Vec<(String, String)>,
    /// What each step of the build was, also of those that made no layer.
    pub history: Vec<String>,
    pub layers: Vec<Stored>,
}

/// A layer as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// In bytes, compressed.
    pub size: u64,
    /// The step that made it; empty when the history does not say.
    pub created_by: String,
    pub content: Layer,
}

/// <https://github.com/opencontainers/image-spec/blob/main/config.md>
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    config: Option<Execution>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    user: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    stop_signal: Option<String>,
    env: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
}

impl Image {
    /// From the text of an image's configuration and, in the manifest's order, the size of each
    /// layer and what is in it.
    ///
    /// # Errors
    /// Bad input when it is no configuration.
    pub fn read(config: &[u8], layers: Vec<(u64, Layer)>) -> Result<Image> {
        let unreadable = |error: serde_json::Error| {
            Error::input("cannot read the image's configuration").why(error).fix("build it again")
        };
        let steps = steps::read_history(config).map_err(unreadable)?;
        let config: Config = serde_json::from_slice(config).map_err(unreadable)?;
        let execution = config.config.unwrap_or_default();
        let made = steps::match_layers(&steps, layers.len());
        let layers = layers.into_iter().enumerate().map(|(at, (size, content))| Stored {
            size,
            created_by: made
                .get(at)
                .map(|step| steps[*step].created_by.clone())
                .unwrap_or_default(),
            content,
        });
        let layers = layers.collect();
        let pair = |pair: String| {
            pair.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()))
        };
        let command =
            execution.entrypoint.into_iter().flatten().chain(execution.cmd.into_iter().flatten());
        Ok(Image {
            user: execution.user.unwrap_or_default(),
            command: command.collect(),
            stop_signal: execution.stop_signal.filter(|signal| !signal.is_empty()),
            env: execution.env.into_iter().flatten().filter_map(pair).collect(),
            labels: execution.labels.into_iter().flatten().collect(),
            layers,
            history: steps.into_iter().map(|step| step.created_by).collect(),
        })
    }

    /// Of all layers together, in bytes, compressed.
    pub fn size(&self) -> u64 {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read() {
        let text =
            br#"{"config": {"User": "app", "Entrypoint": ["tini", "--"], "Cmd": ["python3"], "Env": ["A=1=2", "B"],
            "Labels": {"x": "y"}, "StopSignal": "SIGINT"}, "history": [{"created_by": "COPY . ."},
            {"created_by": "ENV A=1=2", "empty_layer": true}, {"created_by": "RUN x"}]}"#;
        let image = Image::read(text, vec![(1, Layer::default()), (2, Layer::default())])
            .expect("a configuration");
        assert_eq!(image.command, ["tini", "--", "python3"]);
        assert_eq!(image.env, [("A".to_string(), "1=2".to_string())]);
        assert_eq!((image.user.as_str(), image.stop_signal.as_deref()), ("app", Some("SIGINT")));
        assert_eq!(
            image.layers.iter().map(|layer| layer.created_by.as_str()).collect::<Vec<_>>(),
            ["COPY . .", "RUN x"]
        );
        assert_eq!((image.size(), image.history.len()), (3, 3));

        let untold = Image::read(text, vec![(1, Layer::default())]).expect("a configuration");
        assert_eq!(untold.layers[0].created_by, "");
        Image::read(b"{}", vec![]).expect("nothing is said");
        Image::read(b"[", vec![]).expect_err("no JSON");
    }
}
