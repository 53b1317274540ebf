//! A repository on GitHub: its tags and its releases. Every write can be done twice without harm.

use std::collections::BTreeMap;

use http::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use url::Url;

use super::client::{ApiCall, Client};
use super::refusal::{Meaning, Refusal};
use crate::cli::Environ;
use crate::error::{Error, Result};
use crate::report::Report;

/// Pages of a hundred tags that are read at most: a server that always has one more is broken.
const TAG_PAGES: usize = 1000;
/// Pages of a hundred commits that are read for their authors. Authors of older ones are named
/// without an account.
const AUTHOR_PAGES: usize = 3;

/// A tag by its short name, with its commit, even if the tag is annotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub name: String,
    pub commit: String,
}

/// The outcome of a write that others may have done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Done,
    /// Something of that name exists.
    Exists,
    /// The name belonged to an immutable release, and can never be used again.
    Burned,
    /// The tag would move aside, not forward.
    NotForward,
    /// A tag of that name is forbidden; the publication of its release tells why.
    Restricted,
}

/// A release to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub tag: String,
    pub commit: String,
    pub notes: String,
    pub prerelease: bool,
    /// Whether GitHub calls it "latest".
    pub latest: bool,
}

impl Release {
    /// What GitHub is told of it.
    pub(super) fn body(&self) -> Value {
        json!({
            "tag_name": self.tag,
            "target_commitish": self.commit,
            "name": self.tag,
            "body": self.notes,
            "draft": false,
            "prerelease": self.prerelease,
            "make_latest": self.latest.to_string(),
        })
    }
}

/// One repository of one GitHub.
pub struct Repository {
    pub(super) client: Client,
    owner: String,
    name: String,
    server: String,
}

impl Repository {
    /// Opens the repository that `given` names, else GITHUB_REPOSITORY, else `origin`, the web
    /// address of the checkout's remote.
    ///
    /// # Errors
    /// Bad input, if none of them names a repository.
    pub fn open(
        given: Option<&str>,
        origin: Option<&str>,
        environ: &Environ,
        report: &Report,
    ) -> Result<Repository> {
        let server = environ
            .get("GITHUB_SERVER_URL")
            .unwrap_or("https://github.com")
            .trim_end_matches('/')
            .to_string();
        // The token is for one GitHub only.
        let origin = origin.and_then(|origin| origin.strip_prefix(&server)?.strip_prefix('/'));
        let found = given.or_else(|| environ.get("GITHUB_REPOSITORY")).or(origin);
        let fix = "name it: --github-repository OWNER/NAME (in a workflow GitHub names it)";
        let found = found.ok_or_else(|| {
            Error::input("cannot tell the GitHub repository: none is named, and `origin` is none")
                .fix(fix)
        })?;
        let parts: Vec<&str> = found.split('/').collect();
        match parts[..] {
            [owner, name] if [owner, name].iter().all(|part| is_name(part)) => Ok(Repository {
                client: Client::open(environ, report)?,
                owner: owner.to_string(),
                name: name.to_string(),
                server,
            }),
            _ => Err(Error::input(format!(
                "cannot use `{}` as a GitHub repository",
                found.escape_default()
            ))
            .fix(fix)),
        }
    }

    pub fn has_token(&self) -> bool {
        self.client.has_token()
    }

    /// `owner/name`.
    pub fn slug(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// Its web address.
    pub fn web(&self) -> String {
        format!("{}/{}", self.server, self.slug())
    }

    /// Lists every tag that begins with `prefix`. Tags of anything but commits are left out.
    /// <https://docs.github.com/en/rest/git/refs#list-matching-references>
    pub async fn tags(&self, prefix: &str) -> Result<Vec<Tag>> {
        #[derive(Deserialize)]
        struct Reference {
            #[serde(rename = "ref")]
            name: String,
            object: Object,
        }
        #[derive(Deserialize)]
        struct Object {
            sha: String,
            r#type: String,
        }
        let attempt = format!("read the tags of {}", self.slug());
        let url =
            self.url(&["git", "matching-refs", &format!("tags/{prefix}")], &[("per_page", "100")]);
        let found: Vec<Reference> = self.client.list(url, TAG_PAGES, &attempt).await?;
        let annotated = found.iter().any(|reference| reference.object.r#type == "tag");
        let commits =
            if annotated { self.tagged_commits(&attempt).await? } else { BTreeMap::new() };
        let tags = found.into_iter().filter_map(|reference| {
            let name = reference.name.strip_prefix("refs/tags/")?.to_string();
            let commit = match reference.object.r#type.as_str() {
                "commit" => Some(reference.object.sha),
                "tag" => commits.get(&name).cloned(),
                _ => None,
            };
            Some(Tag { commit: commit?, name })
        });
        Ok(tags.collect())
    }

    /// Lists the commits of tags: the ref of an annotated tag names only the tag's own object, and
    /// each lookup would cost a request.
    /// <https://docs.github.com/en/rest/repos/repos#list-repository-tags>
    async fn tagged_commits(&self, attempt: &str) -> Result<BTreeMap<String, String>> {
        #[derive(Deserialize)]
        struct Tagged {
            name: String,
            commit: Commit,
        }
        #[derive(Deserialize)]
        struct Commit {
            sha: String,
        }
        let found: Vec<Tagged> = self
            .client
            .list(self.url(&["tags"], &[("per_page", "100")]), TAG_PAGES, attempt)
            .await?;
        Ok(found.into_iter().map(|tagged| (tagged.name, tagged.commit.sha)).collect())
    }

    /// Whether the history of `head` (a commit or a branch) contains `commit`. An unknown head
    /// contains nothing.
    /// <https://docs.github.com/en/rest/commits/commits#compare-two-commits>
    pub async fn contains(&self, head: &str, commit: &str) -> Result<bool> {
        #[derive(Deserialize)]
        struct Comparison {
            status: String,
        }
        let attempt = format!("compare {commit} with {head} in {}", self.slug());
        let url = self.url(&["compare", &format!("{commit}...{head}")], &[("per_page", "1")]);
        match self.client.send::<Comparison>(&ApiCall::get(url, &attempt)).await? {
            Ok(comparison) => Ok(matches!(comparison.status.as_str(), "ahead" | "identical")),
            Err(refusal) if refusal.status == 404 => Ok(false),
            Err(refusal) => Err(refusal.into_error(&attempt)),
        }
    }

    /// Returns the web address of a tag's published release; `None` if there is none.
    /// <https://docs.github.com/en/rest/releases/releases#get-a-release-by-tag-name>
    pub async fn release(&self, tag: &str) -> Result<Option<String>> {
        let attempt = format!("read the release {tag} of {}", self.slug());
        let url = self.url(&["releases", "tags", tag], &[]);
        match self.client.send::<Published>(&ApiCall::get(url, &attempt)).await? {
            Ok(published) => Ok(Some(published.html_url)),
            Err(refusal) if refusal.status == 404 => Ok(None),
            Err(refusal) => Err(refusal.into_error(&attempt)),
        }
    }

    /// Creates a lightweight tag, and never moves one: the release says who, when and why.
    /// <https://docs.github.com/en/rest/git/refs#create-a-reference>
    pub async fn create_tag(&self, tag: &str, commit: &str) -> Result<Write> {
        let attempt = format!("create the tag {tag} in {}", self.slug());
        let body = json!({ "ref": format!("refs/tags/{tag}"), "sha": commit });
        let call = ApiCall::write(Method::POST, self.url(&["git", "refs"], &[]), &body, &attempt);
        match self.client.send::<IgnoredAny>(&call).await? {
            Ok(_) => Ok(Write::Done),
            Err(refusal) => read_outcome(refusal, &attempt),
        }
    }

    /// Moves a tag. Without `force` GitHub moves it forward only.
    /// <https://docs.github.com/en/rest/git/refs#update-a-reference>
    pub async fn move_tag(&self, tag: &str, commit: &str, force: bool) -> Result<Write> {
        let attempt = format!("move the tag {tag} in {}", self.slug());
        let body = json!({ "sha": commit, "force": force });
        let url = self.url(&["git", "refs", &format!("tags/{tag}")], &[]);
        let call = ApiCall::write(Method::PATCH, url, &body, &attempt);
        match self.client.send::<IgnoredAny>(&call).await? {
            Ok(_) => Ok(Write::Done),
            Err(refusal) => read_outcome(refusal, &attempt),
        }
    }

    /// Publishes a release at once, as an immutable one cannot be completed later. Returns its web
    /// address, if this call published it.
    /// <https://docs.github.com/en/rest/releases/releases#create-a-release>
    pub async fn publish(&self, release: &Release) -> Result<(Write, Option<String>)> {
        let attempt = format!("publish the release {} of {}", release.tag, self.slug());
        let (url, body) = (self.url(&["releases"], &[]), release.body());
        self.finish_publication(&ApiCall::write(Method::POST, url, &body, &attempt)).await
    }

    /// Sends what makes a release public.
    pub(super) async fn finish_publication(
        &self,
        call: &ApiCall<'_>,
    ) -> Result<(Write, Option<String>)> {
        match self.client.send::<Published>(call).await? {
            Ok(published) => Ok((Write::Done, Some(published.html_url))),
            Err(refusal) => Ok((read_outcome(refusal, call.attempt)?, None)),
        }
    }

    /// Lists the accounts of authors by commit, for the newest commits that `head` contains.
    /// Authors without an account are left out.
    /// <https://docs.github.com/en/rest/commits/commits#list-commits>
    pub async fn authors(&self, head: &str) -> Result<BTreeMap<String, String>> {
        #[derive(Deserialize)]
        struct Commit {
            sha: String,
            author: Option<Account>,
        }
        #[derive(Deserialize)]
        struct Account {
            login: Option<String>,
        }
        let attempt = format!("read the authors of {}", self.slug());
        let url = self.url(&["commits"], &[("sha", head), ("per_page", "100")]);
        let found: Vec<Commit> = self.client.list(url, AUTHOR_PAGES, &attempt).await?;
        Ok(found
            .into_iter()
            .filter_map(|commit| Some((commit.sha, commit.author?.login?)))
            .collect())
    }

    pub(super) fn url(&self, rest: &[&str], query: &[(&str, &str)]) -> Url {
        self.client
            .url(["repos", &self.owner, &self.name].into_iter().chain(rest.iter().copied()), query)
    }
}

fn is_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A release as GitHub shows it.
#[derive(Deserialize)]
struct Published {
    html_url: String,
}

/// What a refused write means to the writer.
///
/// # Errors
/// The refusal, where it means nothing but no.
pub(super) fn read_outcome(refusal: Refusal, attempt: &str) -> Result<Write> {
    match refusal.meaning() {
        Meaning::Exists => Ok(Write::Exists),
        Meaning::Burned => Ok(Write::Burned),
        Meaning::NotForward => Ok(Write::NotForward),
        Meaning::Restricted => Ok(Write::Restricted),
        Meaning::No => Err(refusal.into_error(attempt)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Format, Verbosity};

    #[tokio::test]
    async fn the_repository_is_the_one_that_was_said_or_that_stands_there() {
        let report = Report::to(Box::new(std::io::sink()), Format::Human, Verbosity::Quiet, false);
        // --github-repository, GITHUB_REPOSITORY, GITHUB_SERVER_URL, origin → the web address
        type Case<'a> = (Option<&'a str>, &'a str, &'a str, Option<&'a str>, Option<&'a str>);
        let cases: &[Case<'_>] = &[
            (
                Some("a/b"),
                "c/d",
                "",
                Some("https://github.com/e/f"),
                Some("https://github.com/a/b"),
            ),
            (None, "c/d", "", Some("https://github.com/e/f"), Some("https://github.com/c/d")),
            (None, "", "", Some("https://github.com/e/f.js"), Some("https://github.com/e/f.js")),
            (
                None,
                "",
                "https://git.example.org",
                Some("https://git.example.org/e/f"),
                Some("https://git.example.org/e/f"),
            ),
            (None, "", "", Some("https://gitlab.com/e/f"), None),
            (None, "", "", Some("https://github.com.example.org/e/f"), None),
            (None, "", "", None, None),
            (Some("a"), "", "", None, None),
            (Some("a/b/c"), "", "", None, None),
            (Some("../.."), "", "", None, None),
            (Some("a/b?x"), "", "", None, None),
        ];
        for (given, repository, server, origin, expected) in cases {
            let environ = Environ::new([
                ("GITHUB_REPOSITORY".to_string(), repository.to_string()),
                ("GITHUB_SERVER_URL".to_string(), server.to_string()),
            ]);
            let found = Repository::open(*given, *origin, &environ, &report);
            assert_eq!(
                found.ok().map(|found| found.web()).as_deref(),
                *expected,
                "{given:?} {repository} {origin:?}"
            );
        }
    }
}
