//! What a release has beside its commit: files that only its tag reaches, and assets.
//!
//! Both are made so that a second try finds what the first one made: the same files beside the same
//! commit are the same commit, and an asset that is there already is not uploaded again.

use http::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use url::Url;

use super::client::ApiCall;
use super::repository::{Release, Repository, Write, read_outcome};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Drafts are found on the list of releases alone; ours is among the newest.
const NEWEST: &str = "30";
/// Who makes the commit: GitHub's own name for what workflows do.
/// <https://api.github.com/users/github-actions%5Bbot%5D>
const BOT: (&str, &str) =
    ("github-actions[bot]", "41898282+github-actions[bot]@users.noreply.github.com");

/// A file that a release has beside its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BesideFile {
    /// From the root of the repository.
    pub path: String,
    pub text: String,
}

/// A file that people download from a release.
#[derive(Clone, Debug)]
pub struct Asset {
    pub name: String,
    pub bytes: bytes::Bytes,
}

/// A release that nobody sees yet.
#[derive(Deserialize)]
struct Draft {
    id: u64,
    tag_name: String,
    draft: bool,
    upload_url: String,
    #[serde(default)]
    assets: Vec<Uploaded>,
}

#[derive(Deserialize)]
struct Uploaded {
    id: u64,
    name: String,
    /// `uploaded`, or of what a lost connection left `starter`.
    state: String,
    size: u64,
    digest: Option<String>,
}

impl Uploaded {
    fn is(&self, asset: &Asset) -> bool {
        let size = u64::try_from(asset.bytes.len()).unwrap_or(u64::MAX);
        let same = |digest: &String| *digest == Digest::of(&asset.bytes).to_string();
        self.state == "uploaded" && self.size == size && self.digest.as_ref().is_none_or(same)
    }
}

impl Repository {
    /// Makes a commit on top of `base` that no branch has, with these files in place of its own.
    /// The same files give the same commit, as its times are those of `base`.
    /// <https://docs.github.com/en/rest/git/commits#create-a-commit>
    ///
    /// # Errors
    /// Refused, if GitHub does not know `base`, or refuses.
    pub async fn commit_beside(&self, base: &str, files: &[BesideFile]) -> Result<String> {
        #[derive(Deserialize)]
        struct Commit {
            tree: Object,
            committer: Person,
        }
        #[derive(Deserialize)]
        struct Object {
            sha: String,
        }
        #[derive(Deserialize)]
        struct Person {
            date: String,
        }
        let attempt = format!("make the release's commit in {}", self.slug());
        let refused = |refusal: super::refusal::Refusal| refusal.into_error(&attempt);
        let read = ApiCall::get(self.url(&["git", "commits", base], &[]), &attempt);
        let found = self.client.send::<Commit>(&read).await?.map_err(refused)?;
        let entry = |file: &BesideFile| json!({ "path": file.path, "mode": "100644", "type": "blob", "content": file.text });
        let entries: Vec<Value> = files.iter().map(entry).collect();
        let body = json!({ "base_tree": found.tree.sha, "tree": entries });
        let call = ApiCall::write(Method::POST, self.url(&["git", "trees"], &[]), &body, &attempt);
        let tree = self.client.send::<Object>(&call).await?.map_err(refused)?;
        let bot = json!({ "name": BOT.0, "email": BOT.1, "date": found.committer.date });
        let body = json!({
            "message": "chore(release): files that only the tag has",
            "tree": tree.sha,
            "parents": [base],
            "author": bot,
            "committer": bot,
        });
        let call =
            ApiCall::write(Method::POST, self.url(&["git", "commits"], &[]), &body, &attempt);
        Ok(self.client.send::<Object>(&call).await?.map_err(refused)?.sha)
    }

    /// Publishes a release with assets: as a draft first, as a published one may be immutable and
    /// takes no more. Returns its web address, if this call published it.
    /// <https://docs.github.com/en/rest/releases/assets#upload-a-release-asset>
    ///
    /// # Errors
    /// Refused, if GitHub refuses.
    pub async fn publish_with(
        &self,
        release: &Release,
        assets: &[Asset],
    ) -> Result<(Write, Option<String>)> {
        let draft = match self.find_draft(&release.tag).await? {
            Some(draft) => draft,
            None => match self.create_draft(release).await? {
                Ok(draft) => draft,
                Err(write) => return Ok((write, None)),
            },
        };
        for asset in assets {
            self.upload(&draft, asset).await?;
        }
        let attempt = format!("publish the release {} of {}", release.tag, self.slug());
        let body = json!({ "draft": false, "make_latest": release.latest.to_string() });
        let url = self.url(&["releases", &draft.id.to_string()], &[]);
        self.finish_publication(&ApiCall::write(Method::PATCH, url, &body, &attempt)).await
    }

    async fn find_draft(&self, tag: &str) -> Result<Option<Draft>> {
        let attempt = format!("read the releases of {}", self.slug());
        let url = self.url(&["releases"], &[("per_page", NEWEST)]);
        let found: Vec<Draft> = self.client.list(url, 1, &attempt).await?;
        Ok(found.into_iter().find(|release| release.draft && release.tag_name == tag))
    }

    async fn create_draft(&self, release: &Release) -> Result<Result<Draft, Write>> {
        let attempt = format!("draft the release {} of {}", release.tag, self.slug());
        let mut body = release.body();
        body["draft"] = true.into();
        let call = ApiCall::write(Method::POST, self.url(&["releases"], &[]), &body, &attempt);
        match self.client.send::<Draft>(&call).await? {
            Ok(draft) => Ok(Ok(draft)),
            Err(refusal) => read_outcome(refusal, &attempt).map(Err),
        }
    }

    async fn upload(&self, draft: &Draft, asset: &Asset) -> Result<()> {
        let attempt = format!("upload {} to the release {}", asset.name, draft.tag_name);
        if let Some(there) = draft.assets.iter().find(|there| there.name == asset.name) {
            if there.is(asset) {
                return Ok(());
            }
            let url = self.url(&["releases", "assets", &there.id.to_string()], &[]);
            let call = ApiCall { method: Method::DELETE, ..ApiCall::get(url, &attempt) };
            self.client
                .send_for_text(&call)
                .await?
                .map_err(|refusal| refusal.into_error(&attempt))?;
        }
        // `https://uploads.github.com/repos/…/assets{?name,label}`
        let place = draft.upload_url.split('{').next().unwrap_or_default();
        let mut url = Url::parse(place).map_err(|error| {
            Error::unexpected(format!("cannot {attempt}: `{place}` is no address")).why(error)
        })?;
        url.query_pairs_mut().append_pair("name", &asset.name);
        match self.client.upload::<IgnoredAny>(url, &asset.bytes, &attempt).await? {
            Ok(_) => Ok(()),
            // A try whose answer was lost.
            Err(refusal) if read_outcome(refusal.clone(), &attempt).is_ok() => Ok(()),
            Err(refusal) => Err(refusal.into_error(&attempt)),
        }
    }
}
