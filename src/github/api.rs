//! GitHub's REST API, as far as it is used.

use crate::cli::Environ;
use crate::error::{Doing, Error, Result};
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
    /// None when `text` is not in that form: then it is a path of this machine.
    pub fn parse(text: &str) -> Option<Location> {
        let (file, reference) = text.rsplit_once('@')?;
        let mut parts = file.splitn(3, '/');
        let mut part =
            || parts.next().filter(|part| !part.is_empty() && *part != "." && *part != "..").map(str::to_string);
        let (owner, repository, path) = (part()?, part()?, part()?);
        (!reference.is_empty()).then(|| Location { owner, repository, path, reference: reference.to_string() })
    }
}

/// Reads a file: `GET /repos/{owner}/{repo}/contents/{path}`.
/// <https://docs.github.com/en/rest/repos/contents#get-repository-content>
///
/// # Errors
/// Refused when it is not there or the token may not read it: GitHub answers 404 to both.
pub async fn file(location: &Location, environ: &Environ, report: &Report) -> Result<String> {
    let base = environ.get("GITHUB_API_URL").unwrap_or("https://api.github.com");
    let Location { owner, repository, path, reference } = location;
    let mut url = url::Url::parse(base).doing(|| format!("reading GITHUB_API_URL {base}"))?;
    url.path_segments_mut()
        .map_err(|()| Error::input(format!("GITHUB_API_URL {base} is no web address")))?
        .pop_if_empty()
        .extend(["repos", owner, repository, "contents"])
        .extend(path.split('/'));
    url.query_pairs_mut().append_pair("ref", reference);
    let client = reqwest::Client::builder()
        .timeout(std::time::Duration::from_secs(20))
        .user_agent(concat!("cicd/", env!("CARGO_PKG_VERSION")))
        .build()
        .doing(|| "making an HTTP client".into())?;
    let mut request = client
        .get(url)
        .header("accept", "application/vnd.github.raw+json")
        .header("x-github-api-version", "2022-11-28");
    if let Some(token) = environ.get("INPUT_GITHUB-TOKEN").or_else(|| environ.get("GITHUB_TOKEN")) {
        report.mask(token);
        request = request.bearer_auth(token);
    }
    let name = format!("{owner}/{repository}/{path}@{reference}");
    let answer = request.send().await.doing(|| format!("reading {name}"))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(Error::refused(format!("cannot read {name}"))
            .why(format!("GitHub answered {status}"))
            .fix("see that the file is there and that the job's token may read that repository (contents: read)"));
    }
    answer.text().await.doing(|| format!("reading {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let found = found
                .as_ref()
                .map(|l| (l.owner.as_str(), l.repository.as_str(), l.path.as_str(), l.reference.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }
}
