//! Before anything is built: is a version's tag free, or taken by an image of this very commit?
//!
//! The digest is not known yet, but the commit is: an image says in its config which one it was
//! built from. Another commit is another image, which is refused now instead of after the build;
//! the same one may give the same digest, and the push decides.

use serde::Deserialize;

use super::client::{Client, Task, accept_manifests, body};
use super::push::MANIFEST_LIMIT;
use crate::error::{Error, Kind, Result};
use crate::layout::Digest;
use reqwest::Method;
use reqwest::header::HeaderMap;

/// <https://specs.opencontainers.org/image-spec/annotations/#pre-defined-annotation-keys>
const REVISION: &str = "org.opencontainers.image.revision";

const READ: &[&str] = &["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// What a tag stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct There {
    pub digest: Digest,
    /// The commit it was built from, when it says so.
    pub revision: Option<String>,
    /// When it was pushed, as the registry says.
    pub pushed: Option<String>,
}

/// What to do about a tag that is taken: some words to go on with. Pure.
///
/// # Errors
/// Refused, when it is taken by an image of another commit than `revision`.
pub fn verdict(image: &str, there: &There, revision: &str) -> Result<String> {
    let pushed = there.pushed.as_deref().map(|at| format!(", pushed {at}")).unwrap_or_default();
    // A label that names no commit came along with a base image, or with an image from elsewhere.
    match there.revision.as_ref().filter(|revision| is_commit(revision)) {
        None => Ok(format!("{image} is {}{pushed}, of an unknown commit: the push will compare digests", there.digest)),
        Some(theirs) if theirs == revision => {
            Ok(format!("{image} is {}{pushed}, of this commit: when the build gives the same, nothing is pushed", there.digest))
        }
        Some(theirs) => Err(Error::refused(format!("{image} is taken by an image of another commit"))
            .why(format!(
                "there: {}{pushed}, built from commit {}; here: commit {}, not built yet",
                there.digest,
                theirs.escape_default(),
                revision.escape_default()
            ))
            .fix(format!(
                "a version names one image for ever: when {image} was released from its commit, tag that one, so that this one gets \
                 a version of its own: git tag vX.Y.Z {} && git push --tags",
                theirs.escape_default()
            ))),
    }
}

fn is_commit(revision: &str) -> bool {
    [40, 64].contains(&revision.len()) && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// All that is refused, as one error: a person is to see every tag at once.
pub fn together(refused: Vec<Error>) -> Option<Error> {
    let mut refused = refused.into_iter();
    let first = refused.next()?;
    let others =
        refused.map(|other| format!("{}: {}", other.message, other.why.unwrap_or_default()));
    let why = first.why.iter().cloned().chain(others).collect::<Vec<_>>().join("\n");
    Some(first.why(why))
}

/// Looks what a tag stands for.
///
/// # Errors
/// Refused, when the tag may not be looked for; else the registry is not well, after patience. Of
/// which commit an image is that may not be read as a whole is not known, and no error: the push
/// will tell.
pub async fn look(client: &Client, tag: &str) -> Result<Option<There>> {
    let Some(bytes) = read(client, &format!("manifests/{tag}")).await? else { return Ok(None) };
    let digest = Digest::of(&bytes);
    let mut document = parse(&bytes);
    if let Some(child) = document.manifests.first() {
        let child = Digest::parse(&child.digest)?;
        let bytes = readable(read(client, &format!("manifests/{child}")).await)?;
        document = parse(&bytes.unwrap_or_default());
    }
    let config = match &document.config {
        Some(config) => {
            readable(read(client, &format!("blobs/{}", Digest::parse(&config.digest)?)).await)?
        }
        None => None,
    };
    let config: Config = serde_json::from_slice(&config.unwrap_or_default()).unwrap_or_default();
    Ok(Some(There {
        digest,
        revision: config.config.labels.unwrap_or_default().remove(REVISION),
        pushed: None,
    }))
}

/// As much of a manifest, an index and a config as is wanted here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    manifests: Vec<Reference>,
    config: Option<Reference>,
}
#[derive(Deserialize)]
struct Reference {
    digest: String,
}
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    config: Run,
}
#[derive(Default, Deserialize)]
#[serde(default)]
struct Run {
    #[serde(rename = "Labels")]
    labels: Option<std::collections::HashMap<String, String>>,
}

fn parse(bytes: &[u8]) -> Document {
    serde_json::from_slice(bytes).unwrap_or_default()
}

async fn read(client: &Client, path: &str) -> Result<Option<Vec<u8>>> {
    let task = Task { attempt: format!("read {path}"), needs: READ };
    client
        .patiently(&task, async |_| {
            let headers =
                if path.starts_with("blobs/") { HeaderMap::new() } else { accept_manifests() };
            match client.small(Method::GET, path, headers, vec![]).await? {
                Some(answer) => Ok(Some(body(answer, MANIFEST_LIMIT).await?)),
                None => Ok(None),
            }
        })
        .await
}

/// None, too, for what we may not read.
fn readable(read: Result<Option<Vec<u8>>>) -> Result<Option<Vec<u8>>> {
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
        let there = |revision: Option<&str>| There {
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
            match (verdict("h/n:1.4.0", &there(revision), &ours), expected) {
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
}
