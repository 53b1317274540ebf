//! The push of a layout: observe the repository, plan what is missing, upload it, set the tags
//! last.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push>

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::client::{Client, Task};
use super::lanes::MOST;
use super::manifest::{find_manifest, put_manifest, read_content_digest};
use super::pace::Pace;
use super::referrers::{enlist_referrers, list_referrers};
use super::upload::{has_blob, upload_blob};
use crate::error::{Error, Result};
use crate::layout::{Descriptor, Digest, Layout, Referrer};
use crate::report::{Report, human};

const FIND_BLOB: &[&str] = &["ecr:BatchCheckLayerAvailability"];
const UPLOAD: &[&str] =
    &["ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload"];

/// What a repository has of a layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushFacts {
    /// Each wanted tag, and the image that it names in the repository.
    pub tags: Vec<(String, Option<Digest>)>,
    /// The push times of the images that hold a wanted tag, if the registry says them.
    pub pushed: HashMap<Digest, String>,
    /// The blobs and manifests that the repository has.
    pub present: HashSet<Digest>,
    /// The referrers that are in their image's list.
    pub listed: HashSet<Digest>,
}

impl PushFacts {
    /// The facts of a repository that is new, or does not exist.
    pub fn nothing(tags: &[String]) -> PushFacts {
        let tags = tags.iter().map(|tag| (tag.clone(), None)).collect();
        PushFacts { tags, ..PushFacts::default() }
    }
}

/// What a push does.
#[derive(Clone, Debug)]
pub struct PushPlan {
    /// The blobs to upload, the largest first, so that none is left alone at the end.
    pub blobs: Vec<Descriptor>,
    /// The manifests and indexes to put by digest, each behind what it refers to.
    pub documents: Vec<Descriptor>,
    /// The referrers to put behind their image, or only to add to its list.
    pub referrers: Vec<Referrer>,
    /// The tags to set at the end.
    pub tags: Vec<String>,
    pub upload_bytes: u64,
    pub skip_bytes: u64,
}

impl PushPlan {
    pub fn is_nothing(&self) -> bool {
        self.blobs.is_empty()
            && self.documents.is_empty()
            && self.referrers.is_empty()
            && self.tags.is_empty()
    }

    /// What the push would do, for people.
    pub fn in_words(&self) -> String {
        if self.is_nothing() {
            return "would do nothing: the repository has all of it".into();
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

/// Decides what to push, without I/O.
///
/// # Errors
/// Refused, if a tag names another image: all such tags, with both digests.
pub fn plan_push(layout: &Layout, repository: &str, facts: &PushFacts) -> Result<PushPlan> {
    let root = &layout.root().digest;
    let taken = facts.tags.iter().filter_map(|(tag, there)| {
        there.as_ref().filter(|there| *there != root).map(|there| (tag, there))
    });
    let taken: Vec<String> = taken
        .map(|(tag, there)| format_conflict(repository, tag, there, facts.pushed.get(there), root))
        .collect();
    if !taken.is_empty() {
        return Err(refuse_tags(taken.join("\n")));
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
    Ok(PushPlan {
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

fn format_conflict(
    repository: &str,
    tag: &str,
    there: &Digest,
    pushed: Option<&String>,
    ours: &Digest,
) -> String {
    let pushed = pushed.map(|at| format!(", pushed {at},")).unwrap_or_default();
    format!("{repository}:{tag} is {there}{pushed} there, and {ours} here")
}

fn refuse_tags(why: String) -> Error {
    Error::refused("cannot set the tags: another image has one, and tags are not moved")
        .why(why)
        .fix(
            "if the sources changed, tag the released commit (`git tag v1.2.3 && git push \
             --tags`), so that the next one gets its own version: a version names one image for \
             ever",
        )
        .fix(
            "if they are the same, look for what makes the build differ (a base image's tag, a \
             time)",
        )
}

/// Observes what the repository has: the tags first, and where they are free all the rest at once,
/// as on a long line each round of questions costs as much as a layer of a megabyte.
///
/// # Errors
/// Refused, if we may not look.
pub async fn observe_push(client: &Client, layout: &Layout, tags: &[String]) -> Result<PushFacts> {
    let root = &layout.root().digest;
    let mut facts = PushFacts { tags: find_tags(client, tags).await?, ..PushFacts::default() };
    let taken: HashSet<&Digest> =
        facts.tags.iter().filter_map(|(_, there)| there.as_ref()).collect();
    for other in taken.iter().filter(|there| **there != root) {
        facts.pushed.extend(client.pushed(other).await.map(|at| ((*other).clone(), at)));
    }
    let is_named = taken.contains(root);
    if !taken.is_empty() && !is_named {
        // The push is refused anyway: what the registry has of the image does not matter.
        return Ok(facts);
    }
    let documents = layout.documents().iter().map(|document| (document, false));
    let own: Vec<(&Descriptor, bool)> =
        documents.chain(layout.blobs().map(|blob| (blob, true))).collect();
    let mut looks: Vec<(&Descriptor, bool)> = Vec::new();
    for referrer in layout.referrers() {
        looks.extend(referrer.blobs.iter().map(|blob| (blob, true)));
        looks.push((&referrer.descriptor, false));
    }
    if !is_named {
        looks.extend(&own);
    }
    facts.present = find_present(client, looks).await?;
    if is_named || facts.present.contains(root) {
        // A registry takes a manifest only if it has all that the manifest refers to.
        facts.present.extend(own.iter().map(|(one, _)| one.digest.clone()));
        for referrer in layout.referrers() {
            let listed = list_referrers(client, &referrer.subject).await?;
            if listed.has(&referrer.descriptor.digest) {
                facts.listed.insert(referrer.descriptor.digest.clone());
            }
        }
    }
    Ok(facts)
}

/// Each tag, and the image that it names in the repository.
async fn find_tags(client: &Client, tags: &[String]) -> Result<Vec<(String, Option<Digest>)>> {
    let looks = stream::iter(tags.to_vec()).map(async |tag| {
        let lane = client.lanes().enter().await;
        let digest = find_manifest(client, &tag).await?;
        lane.done();
        Ok::<_, Error>((tag, digest))
    });
    looks.buffered(MOST).try_collect().await
}

/// Those of the blobs (`true`) and manifests that the repository has.
async fn find_present(client: &Client, of: Vec<(&Descriptor, bool)>) -> Result<HashSet<Digest>> {
    let looks = stream::iter(of).map(async |(one, is_blob)| {
        let lane = client.lanes().enter().await;
        let there = if is_blob {
            find_blob(client, one).await?
        } else {
            find_manifest(client, one.digest.as_str()).await?.is_some()
        };
        lane.done();
        Ok::<_, Error>(there.then(|| one.digest.clone()))
    });
    let present: Vec<Option<Digest>> = looks.buffer_unordered(MOST).try_collect().await?;
    Ok(present.into_iter().flatten().collect())
}

/// Uploads what was planned, by digest and without a tag. Returns the bytes that were mounted from
/// another repository.
///
/// # Errors
/// The registry's last answer after all retries; bad input, if the layout's bytes differ from their
/// digests.
pub async fn upload_image(
    client: &Client,
    layout: &Layout,
    plan: &PushPlan,
    report: &Report,
) -> Result<u64> {
    let bar = report.bytes("push", plan.upload_bytes);
    let pace = Arc::new(Pace::new(bar.clone()));
    let uploaded = upload_all(client, layout, plan, &pace).await;
    bar.finish();
    uploaded
}

async fn upload_all(
    client: &Client,
    layout: &Layout,
    plan: &PushPlan,
    pace: &Arc<Pace>,
) -> Result<u64> {
    let uploads = stream::iter(&plan.blobs).map(async |blob| {
        let task = Task { attempt: format!("upload {}", blob.digest), needs: UPLOAD };
        let mounted = upload_blob(client, layout, blob, &task, pace).await?;
        Ok::<_, Error>(if mounted { blob.size } else { 0 })
    });
    let mounted: Vec<u64> = uploads.buffer_unordered(MOST).try_collect().await?;
    for document in &plan.documents {
        put_document(client, layout, document, document.digest.as_str()).await?;
        pace.add(document.size);
    }
    let mut unlisted = Vec::new();
    for referrer in &plan.referrers {
        // A registry that keeps the list says so in its answer.
        let digest = referrer.descriptor.digest.as_str();
        if !put_document(client, layout, &referrer.descriptor, digest).await? {
            unlisted.push(referrer);
        }
        pace.add(referrer.descriptor.size);
    }
    enlist_referrers(client, &unlisted).await?;
    Ok(mounted.iter().sum())
}

/// Sets the tags of an image that is complete, so that an interrupted push leaves no tag of a
/// partial one.
///
/// # Errors
/// Refused, if somebody took a tag meanwhile; else the registry's answer. The tags before it stay,
/// and are named: a registry sets one at a time.
pub async fn set_tags(client: &Client, layout: &Layout, plan: &PushPlan) -> Result<()> {
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

/// Sets a tag that was free before the upload. It is looked up again, as a registry with mutable
/// tags would move it without a word.
async fn set_tag(client: &Client, layout: &Layout, tag: &str) -> Result<()> {
    let (root, repository) = (layout.root(), client.address().shown());
    let taken = async |there: Digest| match there == root.digest {
        true => Ok(()),
        false => {
            let pushed = client.pushed(&there).await;
            Err(refuse_tags(format_conflict(
                &repository,
                tag,
                &there,
                pushed.as_ref(),
                &root.digest,
            )))
        }
    };
    if let Some(there) = find_manifest(client, tag).await? {
        return taken(there).await;
    }
    let Err(error) = put_document(client, layout, root, tag).await else { return Ok(()) };
    // Somebody else may just have set the immutable tag to the same image, as we wanted.
    match find_manifest(client, tag).await {
        Ok(Some(there)) => taken(there).await,
        _ => Err(error),
    }
}

/// Puts a manifest or an index of the layout under its digest or a tag. Returns whether the
/// registry listed it as a referrer.
async fn put_document(
    client: &Client,
    layout: &Layout,
    document: &Descriptor,
    reference: &str,
) -> Result<bool> {
    let bytes = layout.read(document)?;
    let answer = put_manifest(client, &document.media_type, reference, bytes).await?;
    // Nobody could deploy by our digest from a registry that stores other bytes.
    match answer.as_ref().and_then(read_content_digest) {
        Some(stored) if stored != document.digest => Err(Error::unexpected(format!(
            "cannot put {reference} at {}",
            client.address().shown()
        ))
        .why(format!("it was stored as {stored}, and is {}", document.digest))),
        _ => Ok(answer.is_some_and(|answer| answer.headers().contains_key("oci-subject"))),
    }
}

async fn find_blob(client: &Client, blob: &Descriptor) -> Result<bool> {
    let task = Task { attempt: format!("find {}", blob.digest), needs: FIND_BLOB };
    client.retry(&task, async |_| has_blob(client, &blob.digest).await).await
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
                PushFacts { tags: tag(None), ..PushFacts::default() },
                3,
                1,
                1,
                0,
                "would upload 3 blobs and 1 manifest, ",
            ),
            (
                "a layer",
                PushFacts {
                    tags: tag(None),
                    present: HashSet::from([large]),
                    ..PushFacts::default()
                },
                2,
                1,
                1,
                1000,
                "would upload 2 blobs",
            ),
            (
                "all but the tag",
                PushFacts { tags: tag(None), present: all.clone(), ..PushFacts::default() },
                0,
                0,
                1,
                layout.size(),
                "would set 1.4.0",
            ),
            (
                "all",
                PushFacts { tags: tag(Some(&root)), present: all, ..PushFacts::default() },
                0,
                0,
                0,
                layout.size(),
                "would do nothing",
            ),
            ("no tag wanted", PushFacts::default(), 3, 1, 0, 0, "would upload 3 blobs"),
        ];
        for (case, facts, blobs, documents, tags, skipped, words) in cases {
            let plan = plan_push(&layout, "r", &facts).expect(case);
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
        let error = plan_push(&layout, "h/n", &PushFacts { tags, ..PushFacts::default() })
            .expect_err("taken");
        let lines: Vec<String> =
            ["b", "d"].map(|tag| format!("h/n:{tag} is {other} there, and {ours} here")).to_vec();
        assert_eq!((error.kind, error.why), (crate::error::Kind::Refused, Some(lines.join("\n"))));
    }
}
