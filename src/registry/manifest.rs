//! Manifests of a repository: looked up and put.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response};

use super::client::{Client, Task, read_body};
use crate::error::{Error, Result};
use crate::layout::Digest;

/// The largest size of a manifest.
pub const MANIFEST_LIMIT: usize = 4 * 1024 * 1024;

const FIND: &[&str] = &["ecr:BatchGetImage"];
const PUT: &[&str] = &["ecr:PutImage"];

/// The media types in which manifests are read: those in which they are pushed.
const MEDIA_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
                           application/vnd.oci.image.manifest.v1+json, \
                           application/vnd.docker.distribution.manifest.list.v2+json, \
                           application/vnd.docker.distribution.manifest.v2+json";

/// The headers of a request for a manifest.
pub fn accept_manifests() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(MEDIA_TYPES))])
}

/// Finds the digest of the manifest that `reference` stands for; `None` if there is none.
///
/// # Errors
/// Refused, if we may not look; else the registry's last answer after all retries.
pub async fn find_manifest(client: &Client, reference: &str) -> Result<Option<Digest>> {
    let task = Task { attempt: format!("find {reference}"), needs: FIND };
    let path = format!("manifests/{reference}");
    client
        .retry(&task, async |_| {
            let Some(head) = client.send(Method::HEAD, &path, accept_manifests(), vec![]).await?
            else {
                return Ok(None);
            };
            if let Some(digest) = read_content_digest(&head) {
                return Ok(Some(digest));
            }
            // Not every registry has the digest in a header.
            let Some(answer) = client.send(Method::GET, &path, accept_manifests(), vec![]).await?
            else {
                return Ok(None);
            };
            Ok(Some(Digest::of(&read_body(answer, MANIFEST_LIMIT).await?)))
        })
        .await
}

/// Puts a manifest.
///
/// # Errors
/// The registry's last answer after all retries.
pub async fn put_manifest(
    client: &Client,
    media_type: &str,
    reference: &str,
    bytes: Vec<u8>,
) -> Result<Option<Response>> {
    let task = Task { attempt: format!("put manifest {reference}"), needs: PUT };
    let media_type = HeaderValue::from_str(media_type).map_err(|_| {
        Error::unexpected(format!("cannot put manifest {reference}"))
            .why(format!("its media type `{}` cannot be a header", media_type.escape_default()))
    })?;
    client
        .retry(&task, async |_| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type.clone())]);
            let path = format!("manifests/{reference}");
            client.send(Method::PUT, &path, headers, bytes.clone()).await
        })
        .await
}

/// Reads the digest that an answer's header says.
pub fn read_content_digest(answer: &Response) -> Option<Digest> {
    Digest::parse(answer.headers().get("docker-content-digest")?.to_str().ok()?).ok()
}
