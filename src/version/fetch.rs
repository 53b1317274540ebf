//! Fetches the history that a checkout lacks, with the git that is here. The one effect of this
//! step: it adds to the checkout's `.git` and changes no file and no branch.
//!
//! Git brings its own way to the remote: the credentials that the checkout left in its
//! configuration, a helper, an agent. Nothing is added, so no token comes near an argument or a
//! file here.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use super::objects::Missing;
use crate::error::{Error, Result};
use crate::git::{Git, OWN_UPLOAD_PACK};

/// The longest that a fetch may take: a remote that does not answer must not hold a job.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where the history comes from, and where it goes.
pub struct Source<'s> {
    pub git: &'s Git,
    /// The work tree.
    pub root: &'s Path,
    /// The commit whose history it is.
    pub head: &'s str,
    pub remote: &'s str,
}

/// Fetches what is missing for the head: commits without their trees, or with their trees when
/// `trees` are needed.
///
/// # Errors
/// Refused, with git's own words, when there is no git, no remote, or no way there.
pub async fn fetch_history(from: &Source<'_>, missing: Missing, trees: bool) -> Result<()> {
    let filter = if trees { "--filter=blob:none" } else { "--filter=tree:0" };
    let everything: &[&str] = match missing {
        Missing::Commits | Missing::Higher => &["--unshallow", filter],
        // What is here already would not be sent again with more.
        Missing::Trees => &["--refetch", filter],
        Missing::Tags => &[filter],
    };
    let quiet = [
        "fetch",
        OWN_UPLOAD_PACK,
        "--quiet",
        "--no-tags",
        "--no-recurse-submodules",
        "--no-write-fetch-head",
    ];
    let what = [from.remote, from.head, "refs/tags/*:refs/tags/*"];
    let what = if missing == Missing::Tags { &what[..1] } else { &what[..] };
    let tags: &[&str] = if missing == Missing::Tags { &["refs/tags/*:refs/tags/*"] } else { &[] };
    run_git(from, &[&quiet, everything, what, tags].concat()).await.map(drop)
}

/// Lists the names of the remote's tags, of all or of those that may be versions of `prefix`; `None`
/// if nobody can tell.
pub async fn remote_tags(from: &Source<'_>, prefix: Option<&str>) -> Option<Vec<String>> {
    let pattern = prefix.map(|prefix| format!("refs/tags/{prefix}[0-9]*"));
    let mut listing =
        vec!["ls-remote", OWN_UPLOAD_PACK, "--quiet", "--refs", "--tags", from.remote];
    listing.extend(pattern.as_deref());
    let listed = run_git(from, &listing).await.ok()?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    Some(
        listed
            .lines()
            .filter_map(|line| Some(line.split_once("refs/tags/")?.1.to_string()))
            .collect(),
    )
}

async fn run_git(from: &Source<'_>, arguments: &[&str]) -> Result<Output> {
    let failed =
        |why: String| Error::refused("cannot fetch the history that this checkout lacks").why(why);
    let mut git = from.git.command(from.root);
    git.args(arguments);
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

/// Strips the credentials before the host of each address in a line of git's.
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
