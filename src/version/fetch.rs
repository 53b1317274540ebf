//! Fetches the history that a checkout lacks, with the git that is here. The one effect of this
//! step: it adds to the checkout's `.git` and changes no file and no branch.
//!
//! Git brings its own way to the remote: the credentials that the checkout left in its
//! configuration, a helper, an agent. Nothing is added, so no token comes near an argument or a
//! file here.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::history::Missing;
use crate::error::{Error, Result};

/// The longest a fetch may take; a remote that does not answer must not hold a job.
const PATIENCE: Duration = Duration::from_secs(300);

/// Fetches what is missing for `head`: commits without their trees, or with their trees when
/// `trees` are needed.
///
/// # Errors
/// Refused, with git's own words, when there is no git, no remote, or no way there.
pub async fn fetch(root: &Path, head: &str, missing: Missing, trees: bool) -> Result<()> {
    let filter = if trees { "--filter=blob:none" } else { "--filter=tree:0" };
    let everything: &[&str] = match missing {
        Missing::Commits | Missing::Higher => &["--unshallow", filter],
        // What is here already would not be sent again with more.
        Missing::Trees => &["--refetch", filter],
        Missing::Tags => &[filter],
    };
    let quiet =
        ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"];
    let what = ["origin", head, "refs/tags/*:refs/tags/*"];
    let what = if missing == Missing::Tags { &what[..1] } else { &what[..] };
    let tags: &[&str] = if missing == Missing::Tags { &["refs/tags/*:refs/tags/*"] } else { &[] };
    git(root, &[&quiet, everything, what, tags].concat()).await.map(drop)
}

/// The names of the remote's tags that may be versions of `prefix`; none when nobody can tell.
pub async fn remote_tags(root: &Path, prefix: &str) -> Option<Vec<String>> {
    let pattern = format!("refs/tags/{prefix}[0-9]*");
    let listed =
        git(root, &["ls-remote", "--quiet", "--refs", "--tags", "origin", &pattern]).await.ok()?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    Some(
        listed
            .lines()
            .filter_map(|line| Some(line.split_once("refs/tags/")?.1.to_string()))
            .collect(),
    )
}

async fn git(root: &Path, arguments: &[&str]) -> Result<Output> {
    let failed = |why: String| {
        Error::refused("git could not fetch the history that this checkout lacks").why(why)
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place of this step that starts a process"
    )]
    let mut git = Command::new("git");
    git.args(["-c", "maintenance.auto=false", "-c", "gc.auto=0"])
        .args(arguments)
        .current_dir(root)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // Nobody is there to answer a question, and what git says is read by people who may not share
    // its language.
    git.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    let ended = match tokio::time::timeout(PATIENCE, git.output()).await {
        Err(_) => return Err(failed(format!("no end after {} s", PATIENCE.as_secs()))),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(failed("there is no git here".into()));
        }
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Ok(Ok(ended)) => ended,
    };
    if ended.status.success() {
        return Ok(ended);
    }
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let said: Vec<String> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(without_credentials)
        .collect();
    Err(failed(said.join("; ")))
}

/// A line of git's without what stands before the host of an address.
fn without_credentials(line: &str) -> String {
    let parts = line.split("://").enumerate().map(|(at, part)| match part.split_once('@') {
        Some((before, rest)) if at > 0 && !before.contains(['/', ' ']) => rest,
        _ => part,
    });
    parts.collect::<Vec<_>>().join("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_loses_its_credentials() {
        let cases = [
            (
                "fatal: unable to access 'https://x:secret@github.com/o/r/': 403",
                "fatal: unable to access 'https://github.com/o/r/': 403",
            ),
            (
                "fatal: https://github.com/o/r@1 and ada@example.org",
                "fatal: https://github.com/o/r@1 and ada@example.org",
            ),
            ("no address", "no address"),
        ];
        for (line, expected) in cases {
            assert_eq!(without_credentials(line), expected);
        }
    }
}
