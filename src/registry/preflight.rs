//! The check of a version's tag before anything is built: free, or taken by an image of this
//! commit?
//!
//! The digest is not known yet, but the commit is: an image's config names the one it was built
//! from. An image of another commit is refused now; one of the same commit is left to the push.

use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};
use reqwest::Method;
use reqwest::header::HeaderMap;

use super::client::{Client, Task, read_body};
use super::manifest::{MANIFEST_LIMIT, accept_manifests};
use crate::error::{Error, Kind, Result};
use crate::layout::Digest;

/// <https://specs.opencontainers.org/image-spec/annotations/#pre-defined-annotation-keys>
const REVISION: &str = "org.opencontainers.image.revision";

const READ: &[&str] = &["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// The image that holds a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedImage {
    pub digest: Digest,
    /// The commit that the image says it was built from.
    pub revision: Option<String>,
    /// The push time, if the registry says it.
    pub pushed: Option<String>,
}

/// Judges a tag that is taken, without I/O. Returns some words to go on with.
///
/// # Errors
/// Refused, if the image is of another commit than `revision`.
pub fn judge_taken_tag(image: &str, there: &TaggedImage, revision: &str) -> Result<String> {
    let digest = &there.digest;
    let pushed = there.pushed.as_deref().map(|at| format!(", pushed {at}")).unwrap_or_default();
    // A label that names no commit came from a base image, or with an image from elsewhere.
    match there.revision.as_ref().filter(|revision| is_commit(revision)) {
        None => Ok(format!(
            "{image} is {digest}{pushed}, of an unknown commit: the push will compare digests"
        )),
        Some(theirs) if theirs == revision => Ok(format!(
            "{image} is {digest}{pushed}, of this commit: if the build returns the same, nothing \
             is pushed"
        )),
        Some(theirs) => {
            let theirs = theirs.escape_default();
            Err(Error::refused(format!(
                "cannot push {image}: it is taken by an image of another commit"
            ))
            .why(format!(
                "there: {digest}{pushed}, built from commit {theirs}; here: commit {}, not \
                     built yet",
                revision.escape_default()
            ))
            .fix(format!(
                "tag the commit that {image} was released from, so that this one gets a \
                     version of its own: git tag vX.Y.Z {theirs} && git push --tags; a version \
                     names one image for ever"
            )))
        }
    }
}

fn is_commit(revision: &str) -> bool {
    [40, 64].contains(&revision.len()) && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Merges all refusals into one error, so that a person sees every tag at once.
pub fn merge_refusals(refused: Vec<Error>) -> Option<Error> {
    let mut refused = refused.into_iter();
    let first = refused.next()?;
    let others =
        refused.map(|other| format!("{}: {}", other.message, other.why.unwrap_or_default()));
    let why = first.why.iter().cloned().chain(others).collect::<Vec<_>>().join("\n");
    Some(first.why(why))
}

/// Looks up the image that holds a tag; `None` if the tag is free. The commit of an image whose
/// config may not be read is unknown: the push will tell.
///
/// # Errors
/// Refused, if the tag may not be looked up; else the registry's last answer after all retries.
pub async fn look_up_tag(client: &Client, tag: &str) -> Result<Option<TaggedImage>> {
    let Some(mut bytes) = read_document(client, &format!("manifests/{tag}")).await? else {
        return Ok(None);
    };
    let digest = Digest::of(&bytes);
    // All images of an index are of one commit.
    if let Ok(index) = serde_json::from_slice::<ImageIndex>(&bytes)
        && let Some(child) = index.manifests().first()
    {
        let child = Digest::parse(child.digest().as_ref())?;
        let read = read_document(client, &format!("manifests/{child}")).await;
        bytes = ignore_refusal(read)?.unwrap_or_default();
    }
    let config = match serde_json::from_slice::<ImageManifest>(&bytes) {
        Ok(manifest) => {
            let config = Digest::parse(manifest.config().digest().as_ref())?;
            ignore_refusal(read_document(client, &format!("blobs/{config}")).await)?
        }
        Err(_) => None,
    };
    Ok(Some(TaggedImage {
        digest,
        revision: read_revision(&config.unwrap_or_default()),
        pushed: None,
    }))
}

/// The platforms that an image is for: `linux/amd64`. `None` where nobody says, or the registry may
/// not be asked.
///
/// # Errors
/// The registry's last answer after all retries.
pub async fn look_up_platforms(client: &Client, digest: &Digest) -> Result<Option<Vec<String>>> {
    let read = read_document(client, &format!("manifests/{digest}")).await;
    let Some(bytes) = ignore_refusal(read)? else { return Ok(None) };
    if let Ok(index) = serde_json::from_slice::<ImageIndex>(&bytes) {
        let platforms = index.manifests().iter().filter_map(|one| one.platform().as_ref());
        let names = platforms.map(|one| format!("{}/{}", one.os(), one.architecture()));
        // Attestations are of no platform.
        let names: Vec<String> = names.filter(|name| !name.starts_with("unknown")).collect();
        return Ok(Some(names).filter(|names| !names.is_empty()));
    }
    let Ok(manifest) = serde_json::from_slice::<ImageManifest>(&bytes) else { return Ok(None) };
    let config = Digest::parse(manifest.config().digest().as_ref())?;
    let config = ignore_refusal(read_document(client, &format!("blobs/{config}")).await)?;
    let config = serde_json::from_slice::<ImageConfiguration>(&config.unwrap_or_default()).ok();
    Ok(config.map(|config| vec![format!("{}/{}", config.os(), config.architecture())]))
}

/// Reads the commit from an image's config; `None` if it names none.
fn read_revision(config: &[u8]) -> Option<String> {
    let config: ImageConfiguration = serde_json::from_slice(config).ok()?;
    config.labels_of_config()?.get(REVISION).cloned()
}

async fn read_document(client: &Client, path: &str) -> Result<Option<Vec<u8>>> {
    let task = Task { attempt: format!("read {path}"), needs: READ };
    client
        .retry(&task, async |_| {
            let headers =
                if path.starts_with("blobs/") { HeaderMap::new() } else { accept_manifests() };
            match client.send(Method::GET, path, headers, vec![]).await? {
                Some(answer) => Ok(Some(read_body(answer, MANIFEST_LIMIT).await?)),
                None => Ok(None),
            }
        })
        .await
}

/// Takes a document that may not be read for one that does not exist.
fn ignore_refusal(read: Result<Option<Vec<u8>>>) -> Result<Option<Vec<u8>>> {
    match read {
        Err(error) if error.kind == Kind::Refused => Ok(None),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_commit_is_refused_and_both_are_named() {
        let there = |revision: Option<&str>| TaggedImage {
            digest: Digest::of(b"1"),
            revision: revision.map(str::to_string),
            pushed: Some("2026-11-01T12:00:00Z".into()),
        };
        let (ours, theirs) = ("0a".repeat(20), "1b".repeat(20));
        let digest = Digest::of(b"1");
        let refused = format!(
            "{digest}, pushed 2026-11-01T12:00:00Z, built from commit {theirs}; here: commit {ours}"
        );
        let cases = [
            (Some(ours.as_str()), Ok("of this commit")),
            (None, Ok("of an unknown commit")),
            (Some("v1.27.3"), Ok("of an unknown commit")),
            (Some(&theirs), Err(refused.as_str())),
        ];
        for (revision, expected) in cases {
            match (judge_taken_tag("h/n:1.4.0", &there(revision), &ours), expected) {
                (Ok(words), Ok(part)) => assert!(words.contains(part), "{words}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{error}");
                    assert_eq!(error.kind, Kind::Refused);
                    assert!(error.advice().contains(&format!("git tag vX.Y.Z {theirs}")));
                }
                (found, _) => panic!("{found:?}"),
            }
        }
    }

    #[test]
    fn the_commit_is_read_from_whole_configs_only() {
        let whole =
            r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}"#;
        let labels = |labels: &str| format!(r#"{whole},"config":{{"Labels":{labels}}}}}"#);
        let cases = [
            (labels(r#"{"org.opencontainers.image.revision":"0a1b"}"#), Some("0a1b")),
            (labels(r#"{"org.opencontainers.image.version":"1.4.0"}"#), None),
            (labels("null"), None),
            (format!("{whole}}}"), None),
            (r#"{"config":{"Labels":{"org.opencontainers.image.revision":"0a1b"}}}"#.into(), None),
            ("[]".into(), None),
            (String::new(), None),
        ];
        for (config, expected) in cases {
            assert_eq!(read_revision(config.as_bytes()).as_deref(), expected, "{config}");
        }
    }
}
