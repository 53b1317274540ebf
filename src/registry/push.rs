//! A layout into a repository: look what is there, decide what is missing, upload that, and set the
//! tags last.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push>

use std::collections::{HashMap, HashSet};

use futures::stream::{self, StreamExt, TryStreamExt};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response};

use super::client::{Client, Task, accept_manifests, body};
use super::lanes::MOST;
use super::{referrers, upload};
use crate::error::{Error, Result};
use crate::layout::{Descriptor, Digest, Layout, Referrer};
use crate::report::{Bar, Report, human};

/// As large as manifests may be.
pub const MANIFEST_LIMIT: usize = 4 * 1024 * 1024;

const LOOK_AT_MANIFEST: &[&str] = &["ecr:BatchGetImage"];
const LOOK_AT_BLOB: &[&str] = &["ecr:BatchCheckLayerAvailability"];
const UPLOAD: &[&str] =
    &["ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload"];
const PUT_MANIFEST: &[&str] = &["ecr:PutImage"];

/// What a repository has of a layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Each wanted tag, and what it stands for there.
    pub tags: Vec<(String, Option<Digest>)>,
    /// When the images of tags that are taken were pushed, where the registry says it.
    pub pushed: HashMap<Digest, String>,
    /// The blobs and manifests that are there.
    pub present: HashSet<Digest>,
    /// The referrers that are in their image's list.
    pub listed: HashSet<Digest>,
}

impl Facts {
    /// Of a repository that is not there, or new.
    pub fn nothing(tags: &[String]) -> Facts {
        Facts { tags: tags.iter().map(|tag| (tag.clone(), None)).collect(), ..Facts::default() }
    }
}

/// What a push does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// To upload, the largest first, so that none is left alone at the end.
    pub blobs: Vec<Descriptor>,
    /// To put by digest, in this order: each behind what it refers to.
    pub documents: Vec<Descriptor>,
    /// To put behind the image that they refer to, or only to see that they are in its list.
    pub referrers: Vec<Referrer>,
    /// To set, when all else is there.
    pub tags: Vec<String>,
    pub upload_bytes: u64,
    pub skip_bytes: u64,
}

impl Plan {
    pub fn is_nothing(&self) -> bool {
        self.blobs.is_empty()
            && self.documents.is_empty()
            && self.referrers.is_empty()
            && self.tags.is_empty()
    }

    /// What it would do, for people.
    pub fn in_words(&self) -> String {
        if self.is_nothing() {
            return "would do nothing: all of it is there".into();
        }
        let count = |number: usize, of: &str| {
            format!("{number} {of}{}", if number == 1 { "" } else { "s" })
        };
        let documents = self.documents.len() + self.referrers.len();
        let (blobs, manifests) = (count(self.blobs.len(), "blob"), count(documents, "manifest"));
        let upload = format!("upload {blobs} and {manifests}, {}", human::bytes(self.upload_bytes));
        let tags = format!("set {}", self.tags.join(", "));
        match (documents == 0, self.tags.is_empty()) {
            (true, _) => format!("would {tags}"),
            (_, true) => format!("would {upload}"),
            _ => format!("would {upload}, and {tags}"),
        }
    }
}

/// Decides what to push. Pure.
///
/// # Errors
/// Refused, when a tag stands for another image: all such tags, with both digests.
pub fn plan(layout: &Layout, repository: &str, facts: &Facts) -> Result<Plan> {
    let root = &layout.root().digest;
    let taken = facts.tags.iter().filter_map(|(tag, there)| {
        there.as_ref().filter(|there| *there != root).map(|there| (tag, there))
    });
    let taken: Vec<String> = taken
        .map(|(tag, there)| conflict(repository, tag, there, facts.pushed.get(there), root))
        .collect();
    if !taken.is_empty() {
        return Err(tag_refused(taken.join("\n")));
    }
    let missing = |one: &&Descriptor| !facts.present.contains(&one.digest);
    let referring = layout.referrers().iter();
    let all = layout.blobs().chain(referring.clone().flat_map(|referrer| &referrer.blobs));
    let mut blobs: Vec<Descriptor> = all.filter(missing).cloned().collect();
    blobs.sort_by(|one, other| {
        other.size.cmp(&one.size).then_with(|| one.digest.cmp(&other.digest))
    });
    blobs.dedup_by(|one, other| one.digest == other.digest);
    let documents: Vec<Descriptor> = layout.documents().iter().filter(missing).cloned().collect();
    let absent = |one: &&Referrer| {
        missing(&&one.descriptor) || !facts.listed.contains(&one.descriptor.digest)
    };
    let referrers: Vec<Referrer> = referring.filter(absent).cloned().collect();
    let manifests =
        documents.iter().chain(referrers.iter().map(|one| &one.descriptor).filter(missing));
    let upload_bytes =
        blobs.iter().chain(manifests).fold(0_u64, |sum, one| sum.saturating_add(one.size));
    Ok(Plan {
        blobs,
        documents,
        referrers,
        tags: facts
            .tags
            .iter()
            .filter(|(_, there)| there.is_none())
            .map(|(tag, _)| tag.clone())
            .collect(),
        upload_bytes,
        skip_bytes: layout.size().saturating_sub(upload_bytes),
    })
}

fn conflict(
    repository: &str,
    tag: &str,
    there: &Digest,
    pushed: Option<&String>,
    ours: &Digest,
) -> String {
    let pushed = pushed.map(|at| format!(", pushed {at},")).unwrap_or_default();
    format!("{repository}:{tag} is {there}{pushed} there, and {ours} here")
}

fn tag_refused(why: String) -> Error {
    Error::refused("a tag is taken by another image, and tags are not moved")
        .why(why)
        .fix(
            "a version names one image for ever: when the sources changed, tag the released commit (`git tag v1.2.3 && git push \
             --tags`) so that the next one gets its own version; when they are the same, look for what makes the build differ (a \
             base image's tag, a time)",
        )
}

/// Looks what the repository has: the tags first, and of an image that is there as a whole nothing
/// else.
///
/// # Errors
/// Refused, when we may not look.
pub async fn observe(client: &Client, layout: &Layout, tags: &[String]) -> Result<Facts> {
    let tags = stream::iter(tags.to_vec()).map(async |tag| {
        let lane = client.lanes().enter().await;
        let digest = manifest(client, &tag).await?;
        lane.done();
        Ok::<_, Error>((tag, digest))
    });
    let tags: Vec<(String, Option<Digest>)> = tags.buffered(MOST).try_collect().await?;
    let root = &layout.root().digest;
    let mut facts = Facts { tags, ..Facts::default() };
    for taken in
        facts.tags.iter().filter_map(|(_, there)| there.as_ref()).filter(|there| *there != root)
    {
        facts.pushed.extend(client.pushed(taken).await.map(|at| (taken.clone(), at)));
    }
    let whole = facts.tags.iter().any(|(_, there)| there.as_ref() == Some(root));
    if !whole && facts.tags.iter().any(|(_, there)| there.is_some()) {
        // It will be refused: what the registry has of it does not matter any more.
        return Ok(facts);
    }
    let whole = whole || manifest(client, root.as_str()).await?.is_some();
    let mut looks: Vec<(&Descriptor, bool)> = Vec::new();
    for referrer in layout.referrers() {
        if whole
            && referrers::list(client, &referrer.subject).await?.has(&referrer.descriptor.digest)
        {
            facts.listed.insert(referrer.descriptor.digest.clone());
        }
        looks.extend(referrer.blobs.iter().map(|blob| (blob, true)));
        looks.push((&referrer.descriptor, false));
    }
    let own = layout.blobs().map(|blob| (blob, true));
    let own = own.chain(layout.documents().iter().map(|document| (document, false)));
    if whole {
        // A registry takes a manifest only when all that it refers to is there.
        facts.present.extend(own.map(|(one, _)| one.digest.clone()));
    } else {
        looks.extend(own.filter(|(one, _)| one.digest != *root));
    }
    let looks = stream::iter(looks).map(async |(one, is_blob)| {
        let lane = client.lanes().enter().await;
        let there = if is_blob {
            blob(client, one).await?
        } else {
            manifest(client, one.digest.as_str()).await?.is_some()
        };
        lane.done();
        Ok::<_, Error>(there.then(|| one.digest.clone()))
    });
    let present: Vec<Option<Digest>> = looks.buffer_unordered(MOST).try_collect().await?;
    facts.present.extend(present.into_iter().flatten());
    Ok(facts)
}

/// Uploads what was planned, by digest: there is no tag of it yet. Gives the bytes that another
/// repository had.
///
/// # Errors
/// Whatever could not be put, after patience; bad input, when the layout's bytes are not what their
/// digests say.
pub async fn upload(client: &Client, layout: &Layout, plan: &Plan, report: &Report) -> Result<u64> {
    let bar = report.bytes("push", plan.upload_bytes);
    let uploaded = upload_all(client, layout, plan, &bar).await;
    bar.finish();
    uploaded
}

async fn upload_all(client: &Client, layout: &Layout, plan: &Plan, bar: &Bar) -> Result<u64> {
    let uploads = stream::iter(&plan.blobs).map(async |blob| {
        let task = Task { attempt: format!("upload {}", blob.digest), needs: UPLOAD };
        let lane = client.lanes().enter().await;
        let mounted = upload::blob(client, layout, blob, &task, bar).await?;
        lane.done();
        Ok::<_, Error>(if mounted { blob.size } else { 0 })
    });
    let mounted: Vec<u64> = uploads.buffer_unordered(MOST).try_collect().await?;
    for document in &plan.documents {
        put_manifest(client, layout, document, document.digest.as_str()).await?;
        bar.add(document.size);
    }
    let mut unlisted = Vec::new();
    for referrer in &plan.referrers {
        // A registry that keeps the list says so in its answer.
        if !put_manifest(client, layout, &referrer.descriptor, referrer.descriptor.digest.as_str())
            .await?
        {
            unlisted.push(referrer);
        }
        bar.add(referrer.descriptor.size);
    }
    referrers::enlist(client, &unlisted).await?;
    Ok(mounted.iter().sum())
}

/// Sets the tags. Each is set only when all that it stands for is there, so that an interrupted
/// push leaves no tag of a partial image.
///
/// # Errors
/// Refused, when somebody took a tag meanwhile; else what the registry says. The tags before it
/// stay, and are named: a registry sets one at a time.
pub async fn set_tags(client: &Client, layout: &Layout, plan: &Plan) -> Result<()> {
    for (index, tag) in plan.tags.iter().enumerate() {
        set_tag(client, layout, tag).await.map_err(|error| match &plan.tags[..index] {
            [] => error,
            set => {
                let why = error.why.clone().unwrap_or_default();
                error.why(format!(
                    "{why}\nset before it, and of the whole image: {}",
                    set.join(", ")
                ))
            }
        })?;
    }
    Ok(())
}

/// Sets a tag that was free when we looked. It is looked at again: an upload takes its time, and a
/// registry whose tags can be moved would move it without a word.
async fn set_tag(client: &Client, layout: &Layout, tag: &str) -> Result<()> {
    let (root, repository) = (layout.root(), client.address().shown());
    let taken = async |there: Digest| match there == root.digest {
        true => Ok(()),
        false => {
            let pushed = client.pushed(&there).await;
            Err(tag_refused(conflict(&repository, tag, &there, pushed.as_ref(), &root.digest)))
        }
    };
    if let Some(there) = manifest(client, tag).await? {
        return taken(there).await;
    }
    let Err(error) = put_manifest(client, layout, root, tag).await else { return Ok(()) };
    // An immutable tag that somebody else just set: to the same image, that is what we wanted.
    match manifest(client, tag).await {
        Ok(Some(there)) => taken(there).await,
        _ => Err(error),
    }
}

/// Puts a manifest or an index of the layout under its digest or a tag; gives whether the registry
/// has listed what it refers to.
async fn put_manifest(
    client: &Client,
    layout: &Layout,
    document: &Descriptor,
    reference: &str,
) -> Result<bool> {
    let answer = put(client, &document.media_type, reference, layout.read(document)?).await?;
    // A registry that stores other bytes than we sent would be deployed from by our digest in vain.
    match answer.as_ref().and_then(content_digest) {
        Some(stored) if stored != document.digest => Err(Error::unexpected(format!(
            "{} stored {reference} as {stored}, and it is {}",
            client.address().shown(),
            document.digest
        ))),
        _ => Ok(answer.is_some_and(|answer| answer.headers().contains_key("oci-subject"))),
    }
}

/// Puts a manifest.
///
/// # Errors
/// What the registry says, after patience.
pub async fn put(
    client: &Client,
    media_type: &str,
    reference: &str,
    bytes: Vec<u8>,
) -> Result<Option<Response>> {
    let task = Task { attempt: format!("put manifest {reference}"), needs: PUT_MANIFEST };
    let media_type = HeaderValue::from_str(media_type)
        .map_err(|_| Error::unexpected(format!("`{media_type}` cannot be a header")))?;
    client
        .patiently(&task, async |_| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type.clone())]);
            client
                .small(Method::PUT, &format!("manifests/{reference}"), headers, bytes.clone())
                .await
        })
        .await
}

/// The digest of the manifest that `reference` stands for; none when there is none.
async fn manifest(client: &Client, reference: &str) -> Result<Option<Digest>> {
    let task = Task { attempt: format!("find {reference}"), needs: LOOK_AT_MANIFEST };
    let path = format!("manifests/{reference}");
    client
        .patiently(&task, async |_| {
            let Some(head) = client.small(Method::HEAD, &path, accept_manifests(), vec![]).await?
            else {
                return Ok(None);
            };
            if let Some(digest) = content_digest(&head) {
                return Ok(Some(digest));
            }
            // Not every registry says it in the header.
            let Some(answer) = client.small(Method::GET, &path, accept_manifests(), vec![]).await?
            else {
                return Ok(None);
            };
            Ok(Some(Digest::of(&body(answer, MANIFEST_LIMIT).await?)))
        })
        .await
}

async fn blob(client: &Client, blob: &Descriptor) -> Result<bool> {
    let task = Task { attempt: format!("find {}", blob.digest), needs: LOOK_AT_BLOB };
    client.patiently(&task, async |_| upload::is_there(client, &blob.digest).await).await
}

fn content_digest(answer: &Response) -> Option<Digest> {
    Digest::parse(answer.headers().get("docker-content-digest")?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layout of one image with a layer of one byte and one of a thousand.
    fn layout() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("blobs/sha256")).expect("folders");
        let blob = |media_type: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            std::fs::write(folder.path().join("blobs/sha256").join(digest.hex()), bytes)
                .expect("written");
            serde_json::json!({ "mediaType": media_type, "digest": digest.as_str(), "size": bytes.len() })
        };
        let layer = |bytes: &[u8]| blob("application/vnd.oci.image.layer.v1.tar", bytes);
        let layers = [layer(b"1"), layer(&[7; 1000])];
        let config = serde_json::json!({ "os": "linux", "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": ["a", "b"] } });
        let config =
            blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let manifest =
            serde_json::json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let root =
            blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [root] });
        std::fs::write(folder.path().join("index.json"), index.to_string()).expect("written");
        std::fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("written");
        let layout = Layout::open(folder.path()).expect("a layout");
        (folder, layout)
    }

    #[test]
    fn what_is_there_is_left_out() {
        let (_folder, layout) = layout();
        let (root, large) = (layout.root().digest.clone(), Digest::of(&[7; 1000]));
        let all: HashSet<Digest> =
            layout.blobs().chain(layout.documents()).map(|one| one.digest.clone()).collect();
        let tag = |digest: Option<&Digest>| vec![("1.4.0".to_string(), digest.cloned())];
        let cases = [
            (
                "nothing",
                Facts { tags: tag(None), ..Facts::default() },
                3,
                1,
                1,
                0,
                "would upload 3 blobs and 1 manifest, ",
            ),
            (
                "a layer",
                Facts { tags: tag(None), present: HashSet::from([large]), ..Facts::default() },
                2,
                1,
                1,
                1000,
                "would upload 2 blobs",
            ),
            (
                "all but the tag",
                Facts { tags: tag(None), present: all.clone(), ..Facts::default() },
                0,
                0,
                1,
                layout.size(),
                "would set 1.4.0",
            ),
            (
                "all",
                Facts { tags: tag(Some(&root)), present: all, ..Facts::default() },
                0,
                0,
                0,
                layout.size(),
                "would do nothing",
            ),
            ("no tag wanted", Facts::default(), 3, 1, 0, 0, "would upload 3 blobs"),
        ];
        for (case, facts, blobs, documents, tags, skipped, words) in cases {
            let plan = plan(&layout, "r", &facts).expect(case);
            let counts = (plan.blobs.len(), plan.documents.len(), plan.tags.len(), plan.skip_bytes);
            assert_eq!(counts, (blobs, documents, tags, skipped), "{case}");
            assert_eq!(plan.upload_bytes + plan.skip_bytes, layout.size(), "{case}");
            assert_eq!(plan.is_nothing(), words.contains("nothing"), "{case}");
            assert!(plan.in_words().starts_with(words), "{case}: {}", plan.in_words());
            assert!(
                plan.blobs.is_sorted_by(|one, next| one.size >= next.size),
                "{case}: the largest first"
            );
        }
    }

    #[test]
    fn every_taken_tag_is_named_with_both_digests() {
        let (_folder, layout) = layout();
        let (ours, other) = (layout.root().digest.clone(), Digest::of(b"other"));
        let tags = [("a", None), ("b", Some(&other)), ("c", Some(&ours)), ("d", Some(&other))];
        let tags = tags.map(|(tag, there)| (tag.to_string(), there.cloned())).to_vec();
        let error = plan(&layout, "h/n", &Facts { tags, ..Facts::default() }).expect_err("taken");
        let lines: Vec<String> =
            ["b", "d"].map(|tag| format!("h/n:{tag} is {other} there, and {ours} here")).to_vec();
        assert_eq!((error.kind, error.why), (crate::error::Kind::Refused, Some(lines.join("\n"))));
    }
}
