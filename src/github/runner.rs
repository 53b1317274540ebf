//! What GitHub's runner reads back from a step: outputs and the job summary.
//!
//! <https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions#environment-files>

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

use crate::cli::Environ;
use crate::error::{Cannot, Error, Result};
use crate::report::{Outputs, markdown};

/// The runner drops a larger summary as a whole.
const SUMMARY_LIMIT: usize = 1024 * 1024;

/// Gives `outputs` and `summary` to the runner, where it asked for them.
///
/// # Errors
/// Unexpected, when the runner's files cannot be written.
pub fn hand_over(environ: &Environ, outputs: &Outputs, summary: &str) -> Result<()> {
    if let Some(file) = environ.get("GITHUB_OUTPUT") {
        let delimiter = delimiter()?;
        let text: String =
            outputs.iter().map(|(name, value)| entry(name, &plain(value), &delimiter)).collect();
        append(Path::new(file), &text)?;
    }
    if let Some(file) = environ.get("GITHUB_STEP_SUMMARY")
        && !summary.is_empty()
    {
        append(Path::new(file), &limited(summary))?;
    }
    Ok(())
}

/// The pull request a run is for: from `refs/pull/12/merge`, or from the event where a run on a
/// pull request has the ref of the branch below it (`pull_request_target`).
pub fn pull_request(environ: &Environ) -> Option<u64> {
    let of_ref =
        || environ.get("GITHUB_REF")?.strip_prefix("refs/pull/")?.split('/').next()?.parse().ok();
    let of_event = || {
        environ.get("GITHUB_EVENT_NAME").filter(|name| name.starts_with("pull_request"))?;
        event(environ)?.pointer("/pull_request/number")?.as_u64()
    };
    of_ref().or_else(of_event)
}

/// Whether a run is for a change that is not on its branch yet: a pull request, or one that waits
/// in a merge queue. A deploy's role is not for it.
pub fn in_review(environ: &Environ) -> bool {
    let event = environ.get("GITHUB_EVENT_NAME").unwrap_or_default();
    let reference = environ.get("GITHUB_REF").unwrap_or_default();
    event.starts_with("pull_request")
        || event == "merge_group"
        || reference.starts_with("refs/pull/")
}

/// Whether a run is for a pull request from another repository: such a run gets no secrets and no
/// OIDC token.
pub fn from_fork(environ: &Environ) -> bool {
    let of_pull_request = || {
        environ.get("GITHUB_EVENT_NAME").filter(|name| name.starts_with("pull_request"))?;
        event(environ)
    };
    // A fork that was deleted meanwhile is null.
    of_pull_request().is_some_and(|event| {
        event.pointer("/pull_request/head/repo/full_name") != event.pointer("/repository/full_name")
    })
}

/// What a run is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    Branch(String),
    Tag(String),
    /// A pull request, or one that waits in a merge queue.
    Review,
}

/// What this run is of. `None` outside GitHub Actions.
pub fn reference(environ: &Environ) -> Option<Reference> {
    if environ.get("GITHUB_ACTIONS") != Some("true") {
        return None;
    }
    if in_review(environ) {
        return Some(Reference::Review);
    }
    let reference = environ.get("GITHUB_REF")?;
    let tag = || reference.strip_prefix("refs/tags/").map(|tag| Reference::Tag(tag.into()));
    let branch = reference.strip_prefix("refs/heads/");
    // A reference of another kind is nothing that is merged.
    branch.map(|branch| Reference::Branch(branch.into())).or_else(tag).or(Some(Reference::Review))
}

/// The branch a run is for: in a pull request the one that it is to be merged into. A runner checks
/// out a detached HEAD, so git cannot tell.
pub fn branch(environ: &Environ) -> Option<String> {
    if environ.get("GITHUB_REF_TYPE") == Some("tag") {
        return None;
    }
    environ
        .get("GITHUB_BASE_REF")
        .or_else(|| environ.get("GITHUB_REF")?.strip_prefix("refs/heads/"))
        .map(str::to_string)
}

/// The commit that a run is for: of a pull request its own last one, not the merge that is tried.
pub fn head_commit(environ: &Environ) -> Option<String> {
    let of_event = || {
        let event = event(environ)?;
        event.pointer("/pull_request/head/sha")?.as_str().map(str::to_string)
    };
    of_event().or_else(|| environ.get("GITHUB_SHA").map(str::to_string))
}

/// The commit that a run's changes come after: of a push the last one that the branch had before,
/// of a pull request or a merge queue's group that of the branch it goes to. `None` where nothing
/// says it: the branch is new, or a person or a clock started the run.
pub fn base_commit(environ: &Environ) -> Option<String> {
    let place = match environ.get("GITHUB_EVENT_NAME")? {
        "push" => "/before",
        "merge_group" => "/merge_group/base_sha",
        name if name.starts_with("pull_request") => "/pull_request/base/sha",
        _ => return None,
    };
    let commit = event(environ)?.pointer(place)?.as_str()?.to_string();
    Some(commit).filter(|commit| commit.bytes().any(|digit| digit != b'0'))
}

/// The repository's default branch, as the event that started the run says.
pub fn default_branch(environ: &Environ) -> Option<String> {
    event(environ)?.pointer("/repository/default_branch")?.as_str().map(str::to_string)
}

/// The web address of the repository that a run is of.
pub fn repository_url(environ: &Environ) -> Option<String> {
    let server = environ.get("GITHUB_SERVER_URL").unwrap_or("https://github.com");
    environ.get("GITHUB_REPOSITORY").map(|repository| format!("{server}/{repository}"))
}

/// Where a run can be looked at.
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>
pub fn run_url(environ: &Environ) -> Option<String> {
    let (repository, run) = repository_url(environ).zip(environ.get("GITHUB_RUN_ID"))?;
    Some(format!("{repository}/actions/runs/{run}"))
}

fn event(environ: &Environ) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(environ.get("GITHUB_EVENT_PATH")?).ok()?).ok()
}

/// One output in the form that takes any value: `name<<DELIMITER`, the value, `DELIMITER`.
fn entry(name: &str, value: &str, delimiter: &str) -> String {
    format!("{name}<<{delimiter}\n{value}\n{delimiter}\n")
}

/// An output's value as expressions see it: text as it is, everything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Nobody who writes a value can know it, so no value can end early.
fn delimiter() -> Result<String> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Error::unexpected("cannot get random bytes from the system"))?;
    Ok(bytes.iter().fold(String::from("cicd_"), |text, byte| text + &format!("{byte:02x}")))
}

fn limited(summary: &str) -> String {
    let note = "\n_The rest is in the log: the runner takes 1 MiB._\n";
    markdown::cut_text(summary, SUMMARY_LIMIT, note)
}

fn append(file: &Path, text: &str) -> Result<()> {
    let write =
        || OpenOptions::new().append(true).create(true).open(file)?.write_all(text.as_bytes());
    write().cannot(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_is_an_output() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("output");
        let environ = Environ::new([("GITHUB_OUTPUT".to_string(), file.display().to_string())]);
        let outputs = crate::report::outputs(
            &serde_json::json!({"a": "x\ny", "b": true, "c": ["1"], "d": {"sha": "0"}}),
        );
        hand_over(&environ, &outputs, "").expect("written");
        let text = std::fs::read_to_string(&file).expect("read");
        let delimiter = text
            .lines()
            .next()
            .and_then(|line| line.split_once("<<"))
            .expect("a delimiter")
            .1
            .to_string();
        assert_eq!(
            text.replace(&delimiter, "D"),
            "a<<D\nx\ny\nD\nb<<D\ntrue\nD\nc<<D\n[\"1\"]\nD\nd<<D\n{\"sha\":\"0\"}\nD\n"
        );
        hand_over(&environ, &outputs, "").expect("written");
        let twice = std::fs::read_to_string(&file).expect("read");
        assert_ne!(twice[text.len()..], text, "a delimiter is new each time");
    }

    #[test]
    fn a_pull_request_is_known_by_its_ref_or_its_event() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("event.json");
        std::fs::write(&file, r#"{"pull_request": {"number": 12}}"#).expect("written");
        let cases = [
            ("pull_request", "refs/pull/7/merge", Some(7)),
            ("pull_request_target", "refs/heads/main", Some(12)),
            ("push", "refs/heads/main", None),
        ];
        for (name, reference, expected) in cases {
            let values = [
                ("GITHUB_EVENT_NAME", name.to_string()),
                ("GITHUB_REF", reference.to_string()),
                ("GITHUB_EVENT_PATH", file.display().to_string()),
            ];
            let environ = Environ::new(values.map(|(key, value)| (key.to_string(), value)));
            assert_eq!(pull_request(&environ), expected, "{name}");
        }
    }

    #[test]
    fn a_pull_request_from_a_fork_is_told_from_one_of_the_repository() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("event.json");
        let repository = r#""repository": {"full_name": "clinicult/patients"}"#;
        let head = |repo: &str| {
            format!(r#"{{{repository}, "pull_request": {{"head": {{"repo": {repo}}}}}}}"#)
        };
        let cases = [
            ("pull_request", head(r#"{"full_name": "clinicult/patients"}"#), false),
            ("pull_request", head(r#"{"full_name": "somebody/patients"}"#), true),
            ("pull_request", head("null"), true),
            ("push", format!("{{{repository}}}"), false),
        ];
        for (name, event, expected) in cases {
            std::fs::write(&file, &event).expect("written");
            let values = [
                ("GITHUB_EVENT_NAME", name.to_string()),
                ("GITHUB_EVENT_PATH", file.display().to_string()),
            ];
            let environ = Environ::new(values.map(|(key, value)| (key.to_string(), value)));
            assert_eq!(from_fork(&environ), expected, "{event}");
        }
    }

    #[test]
    fn a_summary_stays_below_the_limit() {
        for summary in ["short".to_string(), "ä".repeat(SUMMARY_LIMIT)] {
            assert!(limited(&summary).len() <= SUMMARY_LIMIT);
        }
    }
}
