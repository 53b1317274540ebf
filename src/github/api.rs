//! Files in repositories on GitHub.

use super::client::{ApiCall, Client};
use crate::cli::Environ;
use crate::error::{Error, Result};
use crate::report::Report;

/// `owner/repo/path@ref`: a file in a repository on GitHub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub owner: String,
    pub repository: String,
    pub path: String,
    pub reference: String,
}

impl Location {
    /// Parses a location; `None` if `text` has another form, and so is a path of this machine.
    pub fn parse(text: &str) -> Option<Location> {
        let (file, reference) = text.rsplit_once('@')?;
        let mut parts = file.splitn(3, '/');
        let mut part = || {
            parts
                .next()
                .filter(|part| !part.is_empty() && *part != "." && *part != "..")
                .map(str::to_string)
        };
        let (owner, repository, path) = (part()?, part()?, part()?);
        (!reference.is_empty()).then(|| Location {
            owner,
            repository,
            path,
            reference: reference.to_string(),
        })
    }
}

/// Reads a file: `GET /repos/{owner}/{repo}/contents/{path}`.
/// <https://docs.github.com/en/rest/repos/contents#get-repository-content>
///
/// # Errors
/// Refused, if there is no such file or the token may not read it: GitHub answers 404 to both.
pub async fn read_file(location: &Location, environ: &Environ, report: &Report) -> Result<String> {
    let Location { owner, repository, path, reference } = location;
    let client = match environ.get("INPUT_PLATFORM-TOKEN") {
        Some(token) => Client::open_with(Some(token), environ, report)?,
        None => Client::open(environ, report)?,
    };
    let segments = ["repos", owner, repository, "contents"].into_iter().chain(path.split('/'));
    let url = client.url(segments, &[("ref", reference)]);
    let attempt = format!("read {owner}/{repository}/{path}@{reference}");
    let call = ApiCall { accept: "application/vnd.github.raw+json", ..ApiCall::get(url, &attempt) };
    client.send_for_text(&call).await?.map_err(|refusal| {
        let error = Error::refused(format!("cannot {attempt}"))
            .why(format!("GitHub answered {}", refusal.status));
        let own = environ.get("GITHUB_REPOSITORY");
        error.fix(advise_reader(own, owner, repository, environ.on_github()))
    })
}

/// What lets the file be read. GitHub answers 404 to who may not know that it exists. Pure.
fn advise_reader(own: Option<&str>, owner: &str, repository: &str, on_github: bool) -> String {
    let exists = "see that the file exists at that ref";
    if !on_github {
        return format!("{exists}, and that GITHUB_TOKEN may read {owner}/{repository}");
    }
    if own == Some(&format!("{owner}/{repository}")) {
        return format!("{exists}, and that the job has `permissions: {{contents: read}}`");
    }
    format!(
        "{exists}; if {owner}/{repository} is private: a job's own token reads no private repository \
         but its own, so hand over one that may, of a GitHub App or a fine-grained token (contents: \
         read of {owner}/{repository} alone):\nsecrets:\n  platform-token: ${{{{ secrets.PLATFORM_TOKEN \
         }}}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_read_is_told_what_to_hand_over() {
        let cases = [
            (None, false, "GITHUB_TOKEN may read clinicult/platform"),
            (Some("clinicult/platform"), true, "permissions: {contents: read}"),
            (Some("clinicult/patients"), true, "platform-token: ${{ secrets.PLATFORM_TOKEN }}"),
        ];
        for (own, on_github, expected) in cases {
            let told = advise_reader(own, "clinicult", "platform", on_github);
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn a_location_is_told_from_a_path() {
        let cases = [
            (
                "clinicult/platform/envs/platform.yaml@main",
                Some(("clinicult", "platform", "envs/platform.yaml", "main")),
            ),
            ("platform.yaml", None),
            ("../shared/platform.yaml", None),
            ("clinicult/platform/platform.yaml", None),
            ("clinicult/platform@main", None),
            ("./a/b@c", None),
            ("a//b@c", None),
        ];
        for (text, expected) in cases {
            let found = Location::parse(text);
            let found = found.as_ref().map(|l| {
                (l.owner.as_str(), l.repository.as_str(), l.path.as_str(), l.reference.as_str())
            });
            assert_eq!(found, expected, "{text}");
        }
    }
}
