//! The ledger in a bucket: S3's conditional writes, and the time by S3's own `Date`.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html>

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::{Condition, ETag, Object, Outcome, Reading};
use crate::aws::bucket::{self, Setting};
use crate::aws::{Session, allow_statement};
use crate::error::{Code, Error, Result, chain};
use crate::report::Report;
use crate::retry::{self, Attempt, RetryPolicy};

/// How long one try of a request may take: less than a third of the lock's term, so that a renewal
/// that hangs is given up before its lease lapses.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The retries of a read.
const READING: RetryPolicy = RetryPolicy {
    attempts: 5,
    first_pause: Duration::from_millis(200),
    longest_pause: Duration::from_secs(2),
    jitter: 0.5,
};
/// How often a bucket is written to that was created just now and is not known everywhere yet.
const NEW_BUCKET_TRIES: u32 = 5;
const NEW_BUCKET_PAUSE: Duration = Duration::from_secs(1);
/// How many objects are read at a time.
const READERS: usize = 32;

#[derive(Clone)]
pub struct Bucket {
    client: Client,
    name: String,
    region: String,
    speaks_tls: bool,
    report: Report,
}

/// Keeps the `Date` of an answer, which the SDK does not hand out.
#[derive(Clone, Debug, Default)]
struct DateReader(Arc<Mutex<Option<String>>>);

impl DateReader {
    fn time(&self) -> Option<Timestamp> {
        let date = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        rfc2822::parse(&date).ok().map(|date| date.timestamp())
    }
}

impl Intercept for DateReader {
    fn name(&self) -> &'static str {
        "DateReader"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").map(str::to_string);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

/// Why a read failed.
enum ReadFailure {
    /// It may work the next time.
    Passing(String),
    Final(Error),
}

impl Bucket {
    /// `region` is the bucket's, whatever the session's is.
    pub fn new(session: &Session, name: &str, region: &str, report: &Report) -> Bucket {
        Bucket {
            client: bucket::open_client(session, Some(region)),
            name: name.to_string(),
            region: region.to_string(),
            speaks_tls: !session
                .config()
                .endpoint_url()
                .is_some_and(|endpoint| endpoint.starts_with("http://")),
            report: report.clone(),
        }
    }

    pub fn describe(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    pub async fn get(&self, key: &str) -> Result<Reading> {
        let attempt = || format!("read {}", self.describe(key));
        self.read_with_retry(attempt, || self.get_once(key)).await
    }

    async fn get_once(&self, key: &str) -> Result<Reading, ReadFailure> {
        let date = DateReader::default();
        let request = self.client.get_object().bucket(&self.name).key(key).customize();
        let request = request.interceptor(date.clone()).config_override(try_once());
        let object = match request.send().await {
            Ok(found) => Some(read_body(found).await?),
            Err(error) => match absence(&error) {
                true => None,
                false => {
                    let attempt = format!("read {}", self.describe(key));
                    return Err(self.read_failure(attempt, &error));
                }
            },
        };
        let now = date.time().ok_or_else(|| {
            ReadFailure::Passing("the answer has no Date, by which the lock is judged".into())
        })?;
        Ok(Reading { object, now })
    }

    pub async fn put(&self, key: &str, bytes: Vec<u8>, condition: &Condition) -> Result<Outcome> {
        match self.put_once(key, bytes.clone(), condition).await? {
            Some(outcome) => return Ok(outcome),
            None => self.create().await?,
        }
        for _ in 0..NEW_BUCKET_TRIES {
            if let Some(outcome) = self.put_once(key, bytes.clone(), condition).await? {
                return Ok(outcome);
            }
            tokio::time::sleep(NEW_BUCKET_PAUSE).await;
        }
        Err(unavailable(format!("write {}", self.describe(key)))
            .why("the bucket was created, and S3 does not know it yet")
            .fix("run again in a minute"))
    }

    /// Writes once. `None` if there is no such bucket.
    async fn put_once(
        &self,
        key: &str,
        bytes: Vec<u8>,
        condition: &Condition,
    ) -> Result<Option<Outcome>> {
        let media_type = if key.ends_with(".gz") { "application/gzip" } else { "application/json" };
        let request = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .content_type(media_type)
            .body(ByteStream::from(bytes));
        let request = match condition {
            Condition::Absent => request.if_none_match("*"),
            Condition::Match(etag) => request.if_match(&etag.0),
        };
        let answer = request.customize().config_override(try_once()).send().await;
        let error = match answer {
            Ok(written) => {
                let etag = ETag(written.e_tag().unwrap_or_default().to_string());
                return Ok(Some(Outcome::Written(etag)));
            }
            Err(error) => error,
        };
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        let attempt = format!("write {}", self.describe(key));
        Ok(match (status, error.code().unwrap_or_default()) {
            (_, "NoSuchBucket") => None,
            // 409: another write was under way, or the object was being deleted. What stands there
            // afterwards says the rest.
            (412 | 409, _) | (404, "NoSuchKey") => Some(Outcome::Lost),
            _ if is_passing(&error) => {
                Some(Outcome::Doubtful(unavailable(attempt).why(explain(&error)).fix(WAIT)))
            }
            _ => return Err(self.denial(attempt, &error)),
        })
    }

    /// Each page is tried again by itself, from the last key on: the SDK's paginator ends at the first
    /// page that fails, and takes no limits for one request.
    pub async fn list(&self, prefix: &str, after: &str) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut after = after.to_string();
        loop {
            let attempt = || format!("list {}", self.describe(prefix));
            let (page, more) =
                self.read_with_retry(attempt, || self.list_once(prefix, &after)).await?;
            keys.extend(page);
            match keys.last() {
                Some(last) if more => after.clone_from(last),
                _ => return Ok(keys),
            }
        }
    }

    /// One page, and whether there are more.
    async fn list_once(
        &self,
        prefix: &str,
        after: &str,
    ) -> Result<(Vec<String>, bool), ReadFailure> {
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
        let request = request.start_after(after).customize().config_override(try_once());
        match request.send().await {
            Ok(page) => {
                let keys = page.contents().iter().filter_map(|object| object.key());
                let keys = keys.map(str::to_string).collect();
                Ok((keys, page.is_truncated().unwrap_or(false)))
            }
            Err(error) if error.code() == Some("NoSuchBucket") => Ok((Vec::new(), false)),
            Err(error) => Err(self.read_failure(format!("list {}", self.describe(prefix)), &error)),
        }
    }

    pub async fn list_folders(&self, prefix: &str) -> Result<Vec<String>> {
        let (mut names, mut from) = (Vec::new(), None);
        loop {
            let attempt = || format!("list {}", self.describe(prefix));
            let (page, next) = self
                .read_with_retry(attempt, || self.list_folders_once(prefix, from.clone()))
                .await?;
            names.extend(page);
            match next {
                Some(_) => from = next,
                None => return Ok(names),
            }
        }
    }

    /// One page of folders, and the token of the next one.
    async fn list_folders_once(
        &self,
        prefix: &str,
        from: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), ReadFailure> {
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
        let request = request.delimiter("/").set_continuation_token(from).customize();
        match request.config_override(try_once()).send().await {
            Ok(page) => {
                let folders = page.common_prefixes().iter().filter_map(|folder| folder.prefix());
                let names = folders.filter_map(|key| key.strip_prefix(prefix)?.strip_suffix('/'));
                let names = names.map(str::to_string).collect();
                Ok((names, page.next_continuation_token().map(str::to_string)))
            }
            Err(error) if error.code() == Some("NoSuchBucket") => Ok((Vec::new(), None)),
            Err(error) => Err(self.read_failure(format!("list {}", self.describe(prefix)), &error)),
        }
    }

    pub async fn read_all(&self, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>> {
        let readings = stream::iter(keys)
            .map(async |key| Ok(self.get(&key).await?.object.map(|object| object.bytes)));
        readings.buffered(READERS).try_collect().await
    }

    /// Reads until it works, within bounds.
    async fn read_with_retry<T, F: Future<Output = Result<T, ReadFailure>>>(
        &self,
        attempt: impl Fn() -> String,
        read: impl Fn() -> F,
    ) -> Result<T> {
        retry::run_in_task(&READING, |_| {
            let (reading, attempt) = (read(), &attempt);
            async move {
                match reading.await {
                    Ok(found) => Attempt::Done(found),
                    Err(ReadFailure::Final(error)) => Attempt::Refused(error),
                    Err(ReadFailure::Passing(why)) => Attempt::Retry {
                        why: unavailable(attempt()).why(why).fix(WAIT),
                        after: None,
                    },
                }
            }
        })
        .await
    }

    /// Creates the bucket: private, versioned, for TLS only. Nothing in it ever expires.
    async fn create(&self) -> Result<()> {
        let (client, name) = (&self.client, self.name.as_str());
        bucket::create_bucket(client, name, &self.region).await.map_err(|fault| {
            as_ledger(fault.to_error(&format!("create bucket {name}"), "s3:CreateBucket"))
        })?;
        let made = async {
            for setting in [Setting::PublicAccessBlock, Setting::Ownership, Setting::Versioning] {
                self.put_setting(setting).await?;
            }
            // An emulator on loopback has no TLS to demand.
            if self.speaks_tls {
                self.put_setting(Setting::TlsOnly).await?;
            }
            Ok(())
        };
        made.await.map_err(|error| {
            let fix = format!(
                "allow this, remove the empty bucket (aws s3api delete-bucket --bucket {name}) and \
                 run again"
            );
            as_ledger(error).fix(fix)
        })?;
        self.report.detail(format!("created bucket {name} for the ledger"));
        Ok(())
    }

    async fn put_setting(&self, setting: Setting) -> Result<()> {
        let put = bucket::put_setting(&self.client, &self.name, &self.region, setting).await;
        put.map_err(|fault| fault.to_error(&setting.describe(&self.name), setting.action()))
    }

    fn read_failure<E>(&self, attempt: String, error: &SdkError<E>) -> ReadFailure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match is_passing(error) {
            true => ReadFailure::Passing(explain(error)),
            false => ReadFailure::Final(self.denial(attempt, error)),
        }
    }

    /// S3 said no, and will say no again.
    fn denial<E>(&self, attempt: String, error: &SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let arn = bucket::bucket_arn(&self.name, &self.region);
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        let code = error.code().unwrap_or_default();
        let refused = unavailable(attempt).why(explain(error));
        match (status, code) {
            (_, "ExpiredToken" | "InvalidAccessKeyId" | "InvalidToken") => {
                refused.fix("run the job again, or log in anew: the AWS credentials are not valid")
            }
            (_, "RequestTimeTooSkewed") => refused.fix("set this machine's clock"),
            (301, _) | (_, "PermanentRedirect" | "AuthorizationHeaderMalformed") => refused.fix(
                format!("name the bucket's region under `records` in platform.yaml: {}", self.name),
            ),
            (403, _) => refused.fix(format!(
                "add to the role's policy:\n{},\n{}",
                allow_statement(&["s3:GetObject", "s3:PutObject"], &format!("{arn}/cicd/*")),
                allow_statement(&["s3:ListBucket"], &arn)
            )),
            _ if explain(error).contains("credential") => refused.fix(
                "give AWS credentials: in a job add `permissions: {id-token: write}` and a `role` \
                 in platform.yaml; on a laptop log in",
            ),
            _ => refused
                .fix(format!("look at the bucket: aws s3api head-bucket --bucket {}", self.name)),
        }
    }
}

const WAIT: &str = "run again when S3 answers: nothing was changed without the ledger";

/// One try, and no other by the SDK: a conditional write that is sent twice may lose against
/// itself.
fn try_once() -> aws_sdk_s3::config::Builder {
    let timeouts =
        TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT).operation_timeout(ATTEMPT);
    aws_sdk_s3::config::Builder::new()
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build())
}

async fn read_body(found: GetObjectOutput) -> Result<Object, ReadFailure> {
    let etag = ETag(found.e_tag().unwrap_or_default().to_string());
    let modified = found.last_modified().map(aws_sdk_s3::primitives::DateTime::secs);
    let modified = modified.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let modified =
        modified.ok_or_else(|| ReadFailure::Passing("the answer has no Last-Modified".into()))?;
    let body = tokio::time::timeout(ATTEMPT, found.body.collect()).await;
    let body = body.map_err(|_| ReadFailure::Passing("the object came too slowly".into()))?;
    let body = body.map_err(|error| ReadFailure::Passing(chain(&error)))?;
    Ok(Object { bytes: body.to_vec(), etag, modified })
}

/// There is no such object, or not even the bucket.
fn absence(error: &SdkError<GetObjectError>) -> bool {
    matches!(error.code(), Some("NoSuchKey" | "NoSuchBucket"))
}

/// Whether the same request may be answered otherwise in a moment: no answer, or S3 is not well.
fn is_passing<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            status >= 500 || matches!(status, 408 | 425 | 429) || passes(service.err().code())
        }
        // A connection that broke; credentials that cannot be had come as such a failure too.
        SdkError::DispatchFailure(failure) => {
            let why = failure.as_connector_error().map_or(String::new(), |error| chain(error));
            !failure.is_user() && !why.contains("credential") && !why.contains("no providers")
        }
        _ => true,
    }
}

fn passes(code: Option<&str>) -> bool {
    matches!(code, Some("RequestTimeout" | "SlowDown" | "InternalError" | "ServiceUnavailable"))
}

fn explain<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_string(),
        _ => chain(error),
    }
}

fn unavailable(attempt: String) -> Error {
    Error::refused(format!("cannot {attempt}")).code(Code::LedgerUnavailable)
}

fn as_ledger(error: Error) -> Error {
    error.code(Code::LedgerUnavailable)
}

#[cfg(test)]
mod tests;
