//! The upload of one blob: a new session, and one request that streams the file. The registry
//! verifies the digest, as the specification wants of it; what it refuses is hashed here, too, to
//! tell a broken file from a broken line.
//!
//! Several PATCH requests are never sent, and no upload is gone on with in its middle: the `Range`
//! that ECR answers to them is stale, so that nobody can know what it has, and distribution 2.8
//! refuses a session whose bytes are other than those of its last answer.
//! <https://github.com/aws/containers-roadmap/issues/2831>

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Body, Method, Response, StatusCode};

use super::client::{Client, Task, check_success, explain_no_answer};
use super::fault::Fault;
use super::pace::{Pace, Turn};
use crate::error::{Error, Result};
use crate::layout::{Descriptor, Digest, Layout};

/// The part of a file that is in memory at a time.
const CHUNK: u64 = 256 * 1024;
/// The client waits this many idle timeouts for the registry to store a large blob.
const STORING: u32 = 5;

/// Uploads a blob, or has it mounted from the client's `mount_from`. Returns whether it was
/// mounted.
///
/// Each try has a session of its own and begins at the first byte. A retry first looks whether only
/// the answer of the try before was lost.
///
/// # Errors
/// Bad input, if the file differs from its digest; else the registry's last answer after all
/// retries.
pub async fn upload_blob(
    client: &Client,
    layout: &Layout,
    blob: &Descriptor,
    task: &Task,
    pace: &Arc<Pace>,
) -> Result<bool> {
    let meter = Arc::new(Meter { pace: pace.clone(), shown: AtomicU64::new(0) });
    let mounted = client
        .retry(task, async |this| {
            let is_retry = this.number > 1;
            // No lane is held while a blob waits for its turn, as others may go past it.
            let lane = client.lanes().enter().await;
            if is_retry && has_blob(client, &blob.digest).await? {
                lane.done();
                return Ok(false);
            }
            // A mount that failed once is not tried again.
            let from = client.mount_from().filter(|_| !is_retry);
            let Some(session) = open_session(client, &blob.digest, from).await? else {
                lane.done();
                return Ok(true);
            };
            drop(lane);
            let turn = pace.wait(blob.size).await;
            let lane = client.lanes().enter().await;
            put_blob(client, session, layout.blob(&blob.digest), blob, turn, &meter).await?;
            lane.done();
            Ok(false)
        })
        .await?;
    meter.reached(blob.size);
    Ok(mounted)
}

/// Returns whether the repository has a blob.
pub async fn has_blob(client: &Client, digest: &Digest) -> Result<bool, Fault> {
    let path = format!("blobs/{digest}");
    Ok(client.send(Method::HEAD, &path, HeaderMap::new(), vec![]).await?.is_some())
}

/// Opens an upload session. Returns where the blob is put; `None` if the registry mounted it from
/// the repository `from`.
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#mounting-a-blob-from-another-repository>
async fn open_session(
    client: &Client,
    digest: &Digest,
    from: Option<&str>,
) -> Result<Option<reqwest::Url>, Fault> {
    let mut url = client.address().url("blobs/uploads/");
    if let Some(from) = from {
        url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
    }
    let (request, used) = client.request(Method::POST, url).await;
    let answer = request
        .header(CONTENT_LENGTH, 0)
        .timeout(client.waits().idle)
        .send()
        .await
        .map_err(explain_no_answer)?;
    let answer = check_success(answer, used).await?;
    if from.is_some() && answer.status() == StatusCode::CREATED {
        return Ok(None);
    }
    let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let odd = |why: String| {
        Fault::Final(
            Error::unexpected(format!("cannot open an upload at {}", client.address().shown()))
                .why(why),
        )
    };
    let location = location.ok_or_else(|| odd("its answer has no Location".into()))?;
    client.address().upload(location, digest).map(Some).map_err(odd)
}

async fn put_blob(
    client: &Client,
    to: reqwest::Url,
    file: PathBuf,
    blob: &Descriptor,
    turn: Option<Turn>,
    meter: &Arc<Meter>,
) -> Result<(), Fault> {
    let sent = Arc::new(Sent::default());
    let chunks = Chunks::of(file.clone(), blob, turn, &sent, meter);
    let body = Body::wrap_stream(stream::iter(chunks));
    let (request, used) = client.request(Method::PUT, to).await;
    let request = request
        .header(CONTENT_LENGTH, blob.size)
        .header(CONTENT_TYPE, "application/octet-stream")
        .body(body);
    let answer = watch_upload(request.send(), &sent, blob.size, client.waits().idle).await;
    // A broken file breaks the request, too: its own fault is the reason.
    if let Some(error) = sent.fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(Fault::Final(error));
    }
    match check_success(answer?, used).await {
        // It may be another fault of the request; the digest tells.
        Err(Fault::Answered { status, why }) => match find_other_digest(&file, blob)? {
            Some(found) => Err(Fault::Final(
                Error::input(format!("cannot upload {}", file.display()))
                    .why(format!("its bytes have the digest {found}"))
                    .fix("build the image again: cicd build-image"),
            )),
            None => Err(Fault::Answered { status, why }),
        },
        answer => answer.map(drop),
    }
}

/// The digest of a blob's bytes, if it is not the blob's.
fn find_other_digest(file: &Path, blob: &Descriptor) -> Result<Option<Digest>> {
    let read = || Digest::of_stream(&mut File::open(file)?.take(blob.size), || Ok(()));
    let found = read().map_err(|error| explain_unreadable(file, &error))?;
    Ok((found != blob.digest).then_some(found))
}

/// Waits for the answer as long as bytes go out. A timeout of the whole request would forbid large
/// blobs on slow lines.
async fn watch_upload(
    request: impl Future<Output = reqwest::Result<Response>>,
    sent: &Sent,
    size: u64,
    idle: Duration,
) -> Result<Response, Fault> {
    let mut request = pin!(request);
    let (mut seen, mut windows) = (0, 0);
    loop {
        if let Ok(answer) = tokio::time::timeout(idle, &mut request).await {
            return answer.map_err(explain_no_answer);
        }
        let now = sent.bytes.load(Ordering::Relaxed);
        windows = if now > seen { 0 } else { windows + 1 };
        seen = now;
        let allowed = if now < size { 1 } else { STORING };
        if windows >= allowed {
            return Err(Fault::Stalled {
                why: format!("nothing moved for {} s at byte {now} of {size}", idle.as_secs()),
            });
        }
    }
}

/// The progress of one try.
#[derive(Debug, Default)]
struct Sent {
    bytes: AtomicU64,
    fault: Mutex<Option<Error>>,
}

/// The progress bar of a blob, which does not go back if a try begins anew.
struct Meter {
    pace: Arc<Pace>,
    shown: AtomicU64,
}

impl Meter {
    fn reached(&self, position: u64) {
        let before = self.shown.fetch_max(position, Ordering::Relaxed);
        if position > before {
            self.pace.add(position - before);
        }
    }
}

/// The bytes of a blob's file, a chunk at a time.
///
/// Chunks are read where they are polled: a thread of its own was measured to be slower.
struct Chunks {
    path: PathBuf,
    /// `None` before the first chunk.
    file: Option<File>,
    left: u64,
    blob: Descriptor,
    /// Given back with the last chunk.
    turn: Option<Turn>,
    sent: Arc<Sent>,
    meter: Arc<Meter>,
}

impl Chunks {
    fn of(
        path: PathBuf,
        blob: &Descriptor,
        turn: Option<Turn>,
        sent: &Arc<Sent>,
        meter: &Arc<Meter>,
    ) -> Chunks {
        Chunks {
            path,
            file: None,
            left: blob.size,
            blob: blob.clone(),
            turn,
            sent: sent.clone(),
            meter: meter.clone(),
        }
    }

    fn read(&mut self) -> Result<Bytes> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(
                File::open(&self.path).map_err(|error| explain_unreadable(&self.path, &error))?,
            ),
        };
        let wanted = self.left.min(CHUNK);
        let mut chunk = Vec::with_capacity(wanted as usize);
        let found = file
            .take(wanted)
            .read_to_end(&mut chunk)
            .map_err(|error| explain_unreadable(&self.path, &error))?;
        if (found as u64) < wanted {
            return Err(explain_unreadable(&self.path, &std::io::ErrorKind::UnexpectedEof.into()));
        }
        self.left -= wanted;
        self.sent.bytes.fetch_add(wanted, Ordering::Relaxed);
        self.meter.reached(self.blob.size - self.left);
        if self.left == 0 {
            self.turn = None;
        }
        Ok(chunk.into())
    }
}

impl Iterator for Chunks {
    type Item = std::io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        Some(self.read().map_err(|error| {
            let text = error.to_string();
            *self.sent.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            self.left = 0;
            std::io::Error::other(text)
        }))
    }
}

fn explain_unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::input(format!("cannot read {}", path.display()))
        .why(error)
        .fix("build the image again: cicd build-image")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::error::Kind;
    use crate::registry::address::Address;
    use crate::registry::client::{Identity, Waits};
    use crate::report::{Format, Report, Verbosity};
    use crate::retry::RetryPolicy;

    /// A registry that opens a session, and then neither reads nor answers.
    fn deaf() -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for mut connection in listener.incoming().flatten() {
                let mut begin = [0; 4];
                let _ = Read::read_exact(&mut connection, &mut begin);
                let answer: &[u8] = match &begin {
                    b"POST" => b"HTTP/1.1 202 Accepted\r\nLocation: /v2/a/blobs/uploads/1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    b"HEAD" => b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n",
                    _ => b"",
                };
                let _ = connection.write_all(answer);
                // Closing an unread connection resets it; a POST and a HEAD are read to their end.
                if answer.is_empty() { open.push(connection) } else { drain(connection) }
            }
        });
        host
    }

    fn drain(mut connection: std::net::TcpStream) {
        let _ = connection.shutdown(std::net::Shutdown::Write);
        let _ = std::io::copy(&mut connection, &mut std::io::sink());
    }

    #[test]
    fn an_upload_that_stands_still_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = vec![7; 30_000_000];
        let blob = Descriptor {
            media_type: String::new(),
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            platform: None,
        };
        let file = folder.path().join("layer");
        std::fs::write(&file, &bytes).expect("written");
        let report = Report::to(Box::new(std::io::sink()), Format::Json, Verbosity::Quiet, false);
        let pause = Duration::from_millis(1);
        let retry =
            RetryPolicy { attempts: 2, first_pause: pause, longest_pause: pause, jitter: 0.0 };
        let waits = Waits { retry, idle: Duration::from_millis(300) };
        let address = Address::parse(&format!("{}/a", deaf())).expect("an address");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let error = runtime.block_on(async {
            let client = Client::open(address, Identity::Anonymous, waits, None, &report)
                .await
                .expect("a client");
            let pace = Arc::new(Pace::new(report.bytes("push", blob.size)));
            let meter = Arc::new(Meter { pace, shown: AtomicU64::new(0) });
            let task = Task { attempt: "upload".into(), needs: &[] };
            let once = async |_| {
                let session =
                    open_session(&client, &blob.digest, None).await?.expect("nothing is mounted");
                put_blob(&client, session, file.clone(), &blob, None, &meter).await
            };
            client.retry(&task, once).await.expect_err("nobody reads")
        });
        assert_eq!(error.kind, Kind::TimedOut, "{error}");
        assert!(
            error.to_string().contains("nothing moved for 0 s at byte ")
                && error.to_string().ends_with("(2 tries)"),
            "{error}"
        );
    }
}
