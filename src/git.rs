//! The git repository a service stands in: facts about HEAD that several steps need.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result, chain};

/// What is checked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The commit, as 40 hexadecimal digits.
    pub revision: String,
    /// The commit's own time, in seconds since 1970.
    pub time: i64,
    /// The current branch's short name; none when HEAD is detached.
    pub branch: Option<String>,
    /// The web address of `origin`, without credentials.
    pub source: Option<String>,
    /// The root of the work tree.
    pub root: PathBuf,
}

/// Opens the repository that holds `path`, also one that another user owns: container actions run
/// as root in the runner's work tree, and reading needs no trust in its configuration.
///
/// # Errors
/// Bad input when `path` is in no repository; refused when it is one of SHA-256.
pub fn open(path: &Path) -> Result<gix::Repository> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let options = gix::open::Options::isolated().open_path_as_is(false);
    let trust = gix::sec::trust::Mapping { full: options.clone(), reduced: options };
    gix::ThreadSafeRepository::discover_opts(&path, gix::discover::upwards::Options::default(), trust)
        .map(|repository| repository.to_thread_local())
        .map_err(|error| {
            let why = chain(&error);
            // The library tells it in words only.
            if why.contains("objectFormat") {
                return Error::refused(format!(
                    "{} names its objects by SHA-256, which cannot be read here",
                    path.display()
                ))
                .why(why)
                .fix("use a SHA-1 repository, the only kind that GitHub has: git init --object-format=sha1");
            }
            Error::input(format!("{} is in no git repository", path.display()))
                .why(why)
                .fix("versions come from git history: run inside a clone, or check out before this step")
        })
}

/// Reads HEAD.
///
/// # Errors
/// Bad input when there is no commit yet.
pub fn head(repository: &gix::Repository) -> Result<Head> {
    let no_commit = |error: String| {
        Error::input("the repository has no commit")
            .why(error)
            .fix("commit first: a version is the version of a commit")
    };
    let commit = repository.head_commit().map_err(|error| no_commit(chain(&error)))?;
    let time = commit.time().map_err(|error| no_commit(chain(&error)))?;
    let branch = repository.head_name().ok().flatten().map(|name| name.shorten().to_string());
    let source = repository
        .find_remote("origin")
        .ok()
        .and_then(|remote| {
            remote.url(gix::remote::Direction::Fetch).map(|url| url.to_bstring().to_string())
        })
        .and_then(|url| web_address(&url));
    let root =
        repository.workdir().map_or_else(|| repository.git_dir().to_path_buf(), Path::to_path_buf);
    Ok(Head { revision: commit.id().to_string(), time: time.seconds, branch, source, root })
}

/// The web address of a remote: `git@github.com:o/r.git` and `https://token@github.com/o/r.git` are
/// `https://github.com/o/r`.
fn web_address(url: &str) -> Option<String> {
    let url = url.strip_suffix(".git").unwrap_or(url);
    let rest = match url.split_once("://") {
        Some(("https" | "http" | "ssh", rest)) => rest.to_string(),
        Some(_) => return None,
        None => {
            let (host, path) = url.split_once(':')?;
            format!("{host}/{path}")
        }
    };
    let (host, path) = rest.split_once('/')?;
    let host = host.rsplit('@').next().unwrap_or(host);
    let host = host.split(':').next().unwrap_or(host);
    (!host.is_empty() && !path.is_empty()).then(|| format!("https://{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_has_a_web_address_without_credentials() {
        let cases = [
            (
                "git@github.com:clinicult/patients.git",
                Some("https://github.com/clinicult/patients"),
            ),
            (
                "https://x-access-token:secret@github.com/clinicult/patients",
                Some("https://github.com/clinicult/patients"),
            ),
            (
                "ssh://git@github.com:22/clinicult/patients.git",
                Some("https://github.com/clinicult/patients"),
            ),
            (
                "https://github.com/clinicult/patients.git",
                Some("https://github.com/clinicult/patients"),
            ),
            ("/srv/patients.git", None),
            ("file:///srv/patients.git", None),
            ("", None),
        ];
        for (url, expected) in cases {
            assert_eq!(web_address(url).as_deref(), expected, "{url}");
        }
    }
}
