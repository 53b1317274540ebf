//! What refers to an image, in a registry: its list of referrers, or the tag that stands for one
//! where it has none.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers>

use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::client::{Client, Fault, Task, body};
use super::push::{MANIFEST_LIMIT, put};
use crate::error::{Error, Result};
use crate::layout::{Digest, INDEX, Referrer};

const LIST: &[&str] = &["ecr:ListImageReferrers", "ecr:BatchGetImage"];

/// What a registry says refers to an image.
#[derive(Debug)]
pub struct List {
    /// The registry keeps it itself; without it, the list is an index under a tag, which whoever
    /// pushes keeps.
    kept: bool,
    entries: Vec<Value>,
}

impl List {
    pub fn has(&self, digest: &Digest) -> bool {
        self.entries.iter().any(|entry| entry["digest"] == digest.as_str())
    }
}

/// Reads the list of an image. Registries without the API answer 404, some 405, 400 or 501.
///
/// # Errors
/// Refused, when we may not look.
pub async fn list(client: &Client, subject: &Digest) -> Result<List> {
    let task = Task { attempt: format!("list what refers to {subject}"), needs: LIST };
    let accept = || HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(INDEX))]);
    let get = async |path: String| {
        client
            .patiently(&task, async |_| {
                match client.small(Method::GET, &path, accept(), vec![]).await {
                    Ok(Some(answer)) => Ok(Some(body(answer, MANIFEST_LIMIT).await?)),
                    Ok(None) => Ok(None),
                    Err(Fault::Answered { status, .. })
                        if matches!(status.as_u16(), 400 | 405 | 501) =>
                    {
                        Ok(None)
                    }
                    Err(fault) => Err(fault),
                }
            })
            .await
    };
    // Some answer an unknown path with a page: what is no index is no list.
    let index = |bytes: Vec<u8>| -> Option<Vec<Value>> {
        let mut index: Value = serde_json::from_slice(&bytes).ok()?;
        match index["manifests"].take() {
            Value::Array(entries) => Some(entries),
            _ => None,
        }
    };
    if let Some(entries) = get(format!("referrers/{subject}")).await?.and_then(index) {
        return Ok(List { kept: true, entries });
    }
    let entries = get(format!("manifests/{}", tag(subject))).await?.and_then(index);
    Ok(List { kept: false, entries: entries.unwrap_or_default() })
}

/// Sees that the lists of the images they refer to have these referrers, whose manifests were put.
/// An image's list is written once for all of them, as a tag that may not be moved can be written
/// once only. Two runs that do so at the same moment may lose an entry: the specification's own
/// limit of its tag.
///
/// # Errors
/// What the registry says to the index under the tag.
pub async fn enlist(client: &Client, referrers: &[&Referrer]) -> Result<()> {
    let mut subjects: Vec<&Digest> = referrers.iter().map(|referrer| &referrer.subject).collect();
    subjects.sort();
    subjects.dedup();
    for subject in subjects {
        enlist_at(
            client,
            subject,
            referrers.iter().filter(|referrer| referrer.subject == *subject),
        )
        .await?;
    }
    Ok(())
}

async fn enlist_at<'a>(
    client: &Client,
    subject: &Digest,
    referrers: impl Iterator<Item = &'a &'a Referrer>,
) -> Result<()> {
    let mut list = list(client, subject).await?;
    let missing: Vec<Value> = referrers
        .filter(|one| !list.has(&one.descriptor.digest))
        .map(|one| one.entry.clone())
        .collect();
    if list.kept || missing.is_empty() {
        return Ok(());
    }
    list.entries.extend(missing);
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": list.entries });
    let bytes = serde_json::to_vec(&index)
        .map_err(|error| Error::unexpected("writing an index").why(error))?;
    put(client, INDEX, &tag(subject), bytes).await.map(drop)
}

/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema>
fn tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}
