//! What buildx says while it builds (`--progress rawjson`: one JSON object a line, then plain text
//! when it failed), as lines for people and facts for [`super::diagnosis`]. Pure.
//!
//! <https://docs.docker.com/reference/cli/docker/buildx/build/#progress>; the objects are BuildKit's `client.SolveStatus`.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// What one line of buildx came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A step of the Dockerfile runs now.
    Began(String),
    /// A step of the Dockerfile is done.
    Done(String),
    /// A line that a command in the Dockerfile, or buildx itself, wrote.
    Log(String),
    /// A finding of the Dockerfile's own checks, and its line.
    Warning { message: String, line: Option<u64> },
}

/// What is remembered of a build.
#[derive(Debug, Default)]
pub struct Progress {
    names: BTreeMap<String, String>,
    /// What began to run in this build, and when.
    running: BTreeMap<String, String>,
    done: BTreeSet<String>,
    logs: BTreeMap<String, Vec<String>>,
    /// Lines that were not JSON: the reason why it failed, with an excerpt of the Dockerfile.
    pub text: Vec<String>,
    pub failed: Option<Failed>,
}

/// The step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// `[3/4] RUN pip install -r requirements.txt`
    pub step: String,
    pub error: String,
    /// Its last log lines, oldest first.
    pub log_tail: Vec<String>,
}

/// How many log lines of a step are kept, and how many lines of text.
const KEPT: usize = 40;

/// As much of a kept line as is shown, in characters.
const SHOWN: usize = 2000;

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    vertexes: Vec<Vertex>,
    #[serde(default)]
    logs: Vec<Log>,
    #[serde(default)]
    warnings: Vec<Warning>,
}

#[derive(Deserialize)]
struct Vertex {
    digest: String,
    #[serde(default)]
    name: String,
    started: Option<String>,
    completed: Option<String>,
    #[serde(default)]
    cached: bool,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct Log {
    vertex: String,
    /// Base64, as JSON has no bytes.
    data: String,
}

#[derive(Deserialize)]
struct Warning {
    short: String,
    #[serde(default)]
    range: Vec<Range>,
}

#[derive(Deserialize)]
struct Range {
    start: Position,
}

#[derive(Deserialize)]
struct Position {
    #[serde(default)]
    line: u64,
}

impl Progress {
    /// Takes in one line.
    pub fn line(&mut self, line: &str) -> Vec<Said> {
        match serde_json::from_str::<Status>(line) {
            Ok(status) if line.starts_with('{') => self.status(status),
            _ => {
                keep_line(&mut self.text, line.to_string());
                vec![Said::Log(line.to_string())]
            }
        }
    }

    fn status(&mut self, status: Status) -> Vec<Said> {
        let mut said = Vec::new();
        for Log { vertex, data } in status.logs {
            let bytes = STANDARD.decode(data).unwrap_or_default();
            for line in String::from_utf8_lossy(&bytes)
                .lines()
                .map(str::trim_end)
                .filter(|line| !line.is_empty())
            {
                keep_line(self.logs.entry(vertex.clone()).or_default(), line.to_string());
                said.push(Said::Log(line.to_string()));
            }
        }
        for warning in status.warnings {
            let bytes = STANDARD.decode(warning.short).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let message = text.split(" (line ").next().unwrap_or(&text).to_string();
            let line = warning.range.first().map(|range| range.start.line).filter(|line| *line > 0);
            said.push(Said::Warning { message, line });
        }
        for vertex in status.vertexes {
            if !vertex.name.is_empty() {
                self.names.insert(vertex.digest.clone(), vertex.name);
            }
            let step = self.names.get(&vertex.digest).cloned().unwrap_or_default();
            if !vertex.error.is_empty() && is_of_cache(&step) {
                // It stops no build, and is no reason for one that fails.
                if self.done.insert(vertex.digest) {
                    said.push(match vertex.error.ends_with(": not found") {
                        true => Said::Log(format!("{step}: nothing is there yet")),
                        false => Said::Warning {
                            message: format!("{step}: {}", vertex.error),
                            line: None,
                        },
                    });
                }
            } else if !vertex.error.is_empty() {
                // Steps that ran beside the failing one end as cancelled.
                if self.failed.is_none() && !vertex.error.contains("context canceled") {
                    let log_tail = self.logs.get(&vertex.digest).cloned().unwrap_or_default();
                    self.failed = Some(Failed { step, error: vertex.error, log_tail });
                }
            } else if vertex.cached
                && self
                    .running
                    .get(&vertex.digest)
                    .is_some_and(|began| vertex.started.as_ref() != Some(began))
            {
                // A step that runs already did not come from a cache at another time: BuildKit says
                // so of the steps before one that failed, and then cancels them.
            } else if (vertex.completed.is_some() || vertex.cached)
                && is_of_dockerfile(&step)
                && self.done.insert(vertex.digest.clone())
            {
                said.push(Said::Done(if vertex.cached {
                    format!("{step} (cached)")
                } else {
                    step
                }));
            } else if let Some(started) = vertex.started
                && self.running.insert(vertex.digest, started).is_none()
                && is_of_dockerfile(&step)
            {
                said.push(Said::Began(step));
            }
        }
        said
    }
}

/// `[2/4] RUN …` or `[linux/arm64 build 2/4] RUN …`, not `[internal] load build context`.
fn is_of_dockerfile(step: &str) -> bool {
    let name = step.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    name.is_some_and(|(name, _)| !name.split(' ').any(|word| word == "internal"))
}

/// `importing cache manifest from HOST/NAME:TAG`, `exporting cache to registry`.
fn is_of_cache(step: &str) -> bool {
    step.starts_with("importing cache manifest from ") || step.starts_with("exporting cache to ")
}

fn keep_line(lines: &mut Vec<String>, line: String) {
    if lines.len() == KEPT {
        lines.remove(0);
    }
    lines.push(match line.char_indices().nth(SHOWN) {
        Some((end, _)) => line[..end].to_string(),
        None => line,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(lines: &[&str]) -> (Progress, Vec<Said>) {
        let mut progress = Progress::default();
        let said = lines.iter().flat_map(|line| progress.line(line)).collect();
        (progress, said)
    }

    #[test]
    fn steps_are_said_once_when_they_are_done() {
        let (progress, said) = fed(&[
            r#"{"vertexes":[{"digest":"a","name":"[internal] load build context","completed":"t"}]}"#,
            r#"{"vertexes":[{"digest":"i","name":"[linux/arm64 internal] load metadata for python","completed":"t"}]}"#,
            r#"{"vertexes":[{"digest":"x","name":"exporting to oci image format","completed":"t"}]}"#,
            r#"{"vertexes":[{"digest":"b","name":"[1/2] FROM python","started":"t"},{"digest":"c","name":"[2/2] RUN x"}]}"#,
            r#"{"vertexes":[{"digest":"b","name":"[1/2] FROM python","started":"t","completed":"t","cached":true}]}"#,
            r#"{"vertexes":[{"digest":"b","name":"[1/2] FROM python","started":"t","completed":"t","cached":true}]}"#,
            r#"{"statuses":[{"id":"x","vertex":"c","current":0}]}"#,
            r#"{"logs":[{"vertex":"c","stream":1,"data":"b25lCnR3bwo="}]}"#,
            r#"{"vertexes":[{"digest":"c","completed":"t"}]}"#,
        ]);
        let log = |line: &str| Said::Log(line.into());
        let done = |step: &str| Said::Done(step.into());
        let began = Said::Began("[1/2] FROM python".into());
        assert_eq!(
            said,
            [
                began,
                done("[1/2] FROM python (cached)"),
                log("one"),
                log("two"),
                done("[2/2] RUN x")
            ]
        );
        assert_eq!(progress.failed, None);
        assert!(progress.text.is_empty());
    }

    #[test]
    fn the_first_failing_step_is_kept_with_its_log() {
        let (progress, said) = fed(&[
            r#"{"vertexes":[{"digest":"c","name":"[2/2] RUN x"},{"digest":"d","name":"[other 1/1] RUN y"}]}"#,
            r#"{"logs":[{"vertex":"c","stream":2,"data":"b25lCnR3bwo="}]}"#,
            r#"{"vertexes":[{"digest":"d","completed":"t","error":"rpc error: context canceled"}]}"#,
            r#"{"vertexes":[{"digest":"c","completed":"t","error":"exit code: 1"}]}"#,
            "Dockerfile:5",
            "ERROR: failed to solve: exit code: 1",
        ]);
        let failed = Failed {
            step: "[2/2] RUN x".into(),
            error: "exit code: 1".into(),
            log_tail: vec!["one".into(), "two".into()],
        };
        assert_eq!(progress.failed, Some(failed));
        assert_eq!(progress.text, ["Dockerfile:5", "ERROR: failed to solve: exit code: 1"]);
        assert!(!said.iter().any(|said| matches!(said, Said::Done(_))));
    }

    /// As buildx 0.29 says it of `FROM`, `RUN` and a `COPY` of what is not there.
    #[test]
    fn a_step_that_was_cancelled_is_not_said_to_be_cached() {
        let (progress, said) = fed(&[
            r#"{"vertexes":[{"digest":"a","name":"[1/3] FROM python","started":"1","completed":"1","cached":true}]}"#,
            r#"{"vertexes":[{"digest":"b","name":"[2/3] RUN x","started":"1"}]}"#,
            r#"{"vertexes":[{"digest":"b","name":"[2/3] RUN x","started":"2","completed":"2","cached":true}]}"#,
            r#"{"vertexes":[{"digest":"c","name":"[3/3] COPY nope /","started":"2","completed":"3","error":"not found"}]}"#,
            r#"{"vertexes":[{"digest":"b","name":"[2/3] RUN x","started":"1","completed":"4","error":"context canceled"}]}"#,
        ]);
        assert_eq!(
            said,
            [Said::Done("[1/3] FROM python (cached)".into()), Said::Began("[2/3] RUN x".into())]
        );
        assert_eq!(progress.failed.expect("a failed step").step, "[3/3] COPY nope /");
    }

    #[test]
    fn a_cache_that_fails_is_warned_of_once_and_is_no_failed_step() {
        let (progress, said) = fed(&[
            r#"{"vertexes":[{"digest":"a","name":"importing cache manifest from h/c:c","completed":"t","error":"h/c:c: not found"}]}"#,
            r#"{"vertexes":[{"digest":"b","name":"exporting cache to registry","started":"t"}]}"#,
            r#"{"vertexes":[{"digest":"b","completed":"t","error":"connection refused"}]}"#,
            r#"{"vertexes":[{"digest":"b","completed":"t","error":"connection refused"}]}"#,
        ]);
        let message = "exporting cache to registry: connection refused".to_string();
        let nothing = "importing cache manifest from h/c:c: nothing is there yet".to_string();
        assert_eq!(said, [Said::Log(nothing), Said::Warning { message, line: None }]);
        assert_eq!(progress.failed, None);
    }

    #[test]
    fn warnings_have_their_line() {
        let (_, said) = fed(&[
            r#"{"warnings":[{"vertex":"a","level":1,"short":"U3RhZ2VOYW1lQ2FzaW5nOiBTdGFnZSBuYW1lICdYJyBzaG91bGQgYmUgbG93ZXJjYXNlIChsaW5lIDEp","range":[{"start":{"line":1},"end":{"line":1}}]}]}"#,
        ]);
        let message = "StageNameCasing: Stage name 'X' should be lowercase".to_string();
        assert_eq!(said, [Said::Warning { message, line: Some(1) }]);
    }

    #[test]
    fn only_the_last_lines_are_kept_and_nothing_breaks_it() {
        let mut progress = Progress::default();
        for number in 0..100 {
            progress.line(&format!("line {number}"));
        }
        assert_eq!((progress.text.len(), progress.text[0].as_str()), (KEPT, "line 60"));
        for odd in [
            "",
            "{",
            "{}",
            "[]",
            "null",
            r#"{"vertexes":7}"#,
            r#"{"logs":[{"vertex":"a","data":"!"}]}"#,
        ] {
            progress.line(odd);
        }
    }
}
