//! The list of what refers to an image: the registry's own, or the tag that stands for it.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers>

use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::client::{Client, Task, read_body};
use super::fault::Fault;
use super::manifest::{MANIFEST_LIMIT, put_manifest};
use crate::error::{Cannot, Result};
use crate::layout::{Digest, INDEX, Referrer};

const LIST: &[&str] = &["ecr:ListImageReferrers", "ecr:BatchGetImage"];

/// The referrers of an image, as the registry lists them.
#[derive(Debug)]
pub struct ReferrerList {
    /// Whether the registry keeps the list itself. If not, it is an index under a tag, which
    /// whoever pushes keeps.
    kept: bool,
    entries: Vec<Value>,
}

impl ReferrerList {
    pub fn has(&self, digest: &Digest) -> bool {
        self.entries.iter().any(|entry| entry["digest"] == digest.as_str())
    }
}

/// Reads the list of an image. Registries without the API answer 404, some 405, 400 or 501.
///
/// # Errors
/// Refused, if we may not look.
pub async fn list_referrers(client: &Client, subject: &Digest) -> Result<ReferrerList> {
    let task = Task { attempt: format!("list what refers to {subject}"), needs: LIST };
    let accept = || HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(INDEX))]);
    let get = async |path: String| {
        client
            .retry(&task, async |_| match client.send(Method::GET, &path, accept(), vec![]).await {
                Ok(Some(answer)) => Ok(Some(read_body(answer, MANIFEST_LIMIT).await?)),
                Ok(None) => Ok(None),
                Err(Fault::Answered { status, .. })
                    if matches!(status.as_u16(), 400 | 405 | 501) =>
                {
                    Ok(None)
                }
                Err(fault) => Err(fault),
            })
            .await
    };
    if let Some(entries) = get(format!("referrers/{subject}")).await?.and_then(read_entries) {
        return Ok(ReferrerList { kept: true, entries });
    }
    let tag = format_referrers_tag(subject);
    let entries = get(format!("manifests/{tag}")).await?.and_then(read_entries);
    Ok(ReferrerList { kept: false, entries: entries.unwrap_or_default() })
}

/// Reads the entries of an index. Some registries answer an unknown path with a web page, which is
/// no list.
fn read_entries(bytes: Vec<u8>) -> Option<Vec<Value>> {
    let mut index: Value = serde_json::from_slice(&bytes).ok()?;
    match index["manifests"].take() {
        Value::Array(entries) => Some(entries),
        _ => None,
    }
}

/// Adds referrers, whose manifests were put, to the lists of their images.
///
/// One write covers all referrers of an image, as an immutable tag can be written only once. Two
/// runs that write at the same moment may lose an entry: the specification's own limit of its tag.
///
/// # Errors
/// The registry's answer to the index under the tag.
pub async fn enlist_referrers(client: &Client, referrers: &[&Referrer]) -> Result<()> {
    let mut subjects: Vec<&Digest> = referrers.iter().map(|referrer| &referrer.subject).collect();
    subjects.sort();
    subjects.dedup();
    for subject in subjects {
        let of_subject = referrers.iter().filter(|referrer| referrer.subject == *subject);
        enlist_at_subject(client, subject, of_subject).await?;
    }
    Ok(())
}

async fn enlist_at_subject<'a>(
    client: &Client,
    subject: &Digest,
    referrers: impl Iterator<Item = &'a &'a Referrer>,
) -> Result<()> {
    let mut list = list_referrers(client, subject).await?;
    let missing: Vec<Value> = referrers
        .filter(|one| !list.has(&one.descriptor.digest))
        .map(|one| one.entry.clone())
        .collect();
    if list.kept || missing.is_empty() {
        return Ok(());
    }
    list.entries.extend(missing);
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": list.entries });
    let bytes = serde_json::to_vec(&index).cannot(|| "write an index of referrers".into())?;
    put_manifest(client, INDEX, &format_referrers_tag(subject), bytes).await.map(drop)
}

/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema>
fn format_referrers_tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}
