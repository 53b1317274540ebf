//! JSON documents over a client of the SDK, to the letter.
//!
//! The SDK's types drop fields that they do not know. Its interceptors see the bodies themselves,
//! so that it keeps signing, retrying and reading errors, and the document stays whole. The body of
//! an awsJson request is the operation's input and nothing else:
//! <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html>

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::config::interceptors::{
    BeforeTransmitInterceptorContextMut, BeforeTransmitInterceptorContextRef,
    FinalizerInterceptorContextRef,
};
use aws_sdk_sts::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sts::error::{BoxError, ProvideErrorMetadata, SdkError};
use serde_json::Value;

use super::refusal;
use crate::error::{Cannot, Error, Kind, Result};

/// Whether the run may still write; a refusal if not.
#[derive(Clone)]
pub struct MayWrite(Arc<dyn Fn() -> Result<()> + Send + Sync>);

impl MayWrite {
    pub fn new(check: impl Fn() -> Result<()> + Send + Sync + 'static) -> MayWrite {
        MayWrite(Arc::new(check))
    }
}

impl std::fmt::Debug for MayWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MayWrite")
    }
}

/// One call: the document that it sends, and the one that it is answered with.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// `None` leaves the request as the SDK makes it.
    request: Option<String>,
    answer: Arc<OnceLock<Vec<u8>>>,
    /// Whether the run may still write, asked before each attempt.
    guard: Option<MayWrite>,
    /// Why an attempt was not sent.
    unsent: Arc<OnceLock<Error>>,
    /// An attempt had no answer, or one that does not say what was done.
    in_doubt: Arc<AtomicBool>,
}

impl Exchange {
    /// A call whose input is `document`.
    pub fn sending(document: &Value) -> Exchange {
        Exchange { request: Some(document.to_string()), ..Exchange::default() }
    }

    /// The same, each attempt only while the run may write.
    pub fn guarded(self, guard: &MayWrite) -> Exchange {
        Exchange { guard: Some(guard.clone()), ..self }
    }

    /// The document that AWS answered.
    ///
    /// # Errors
    /// Unexpected when it is no JSON.
    pub fn answer(&self) -> Result<Value> {
        let bytes = self.answer.get().map(Vec::as_slice).unwrap_or_default();
        serde_json::from_slice(bytes).cannot(|| "read an answer of AWS as JSON".into())
    }

    /// As [`refusal`], of a write: one that AWS did not take is refused, as it changed nothing.
    pub fn refusal<E>(&self, attempt: String, action: &str, error: &SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        if let Some(unsent) = self.unsent.get() {
            return unsent.clone();
        }
        let failed = refusal(attempt, action, error);
        let status = error.raw_response().map(|response: &HttpResponse| response.status().as_u16());
        let code = error.code().unwrap_or_default();
        let changed_nothing = !self.in_doubt.load(Ordering::Relaxed) && is_refusal(status, code);
        if failed.kind != Kind::Unexpected || !changed_nothing {
            return failed;
        }
        Error { kind: Kind::Refused, ..failed }
            .fix("mend what AWS names and deploy again: nothing that runs was changed")
    }
}

/// Whether an answer to a write says that nothing was written. No answer, a fault of AWS's own and
/// a throttled request do not.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/CommonErrors.html>
fn is_refusal(status: Option<u16>, code: &str) -> bool {
    let says_try_again =
        ["Throttl", "TooManyRequests", "RequestLimitExceeded", "RequestTimeout", "SlowDown"];
    status.is_some_and(|status| (400..500).contains(&status) && ![408, 429].contains(&status))
        && !says_try_again.iter().any(|part| code.contains(part))
}

impl Intercept for Exchange {
    fn name(&self) -> &'static str {
        "Exchange"
    }

    /// Before the retries, so that each sends it, and before it is signed.
    fn modify_before_retry_loop(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(document) = &self.request {
            let request = context.request_mut();
            request.headers_mut().insert("content-length", document.len().to_string());
            *request.body_mut() = document.clone().into();
        }
        Ok(())
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(Err(error)) = self.guard.as_ref().map(|guard| (guard.0)()) else { return Ok(()) };
        let why = error.message.clone();
        self.unsent.get_or_init(|| error);
        Err(why.into())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.response().is_none_or(|response| response.status().as_u16() >= 500) {
            self.in_doubt.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(bytes) = context.response().and_then(|response| response.body().bytes()) {
            self.answer.get_or_init(|| bytes.to_vec());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use aws_credential_types::Credentials;

    use super::*;

    #[test]
    fn what_aws_did_not_take_changed_nothing() {
        let cases = [
            (Some(400), "InvalidParameterException", true),
            (Some(400), "ClientException", true),
            (Some(400), "ServiceNotActiveException", true),
            (Some(403), "AccessDeniedException", true),
            (Some(404), "", true),
            (Some(400), "ThrottlingException", false),
            (Some(400), "RequestLimitExceeded", false),
            (Some(400), "RequestTimeout", false),
            (Some(408), "", false),
            (Some(429), "TooManyRequestsException", false),
            (Some(500), "ServerException", false),
            (Some(503), "", false),
            (Some(200), "", false),
            (None, "", false),
        ];
        for (status, code, expected) in cases {
            assert_eq!(is_refusal(status, code), expected, "{status:?} {code}");
        }
    }

    /// Whoever takes the lock over while a write is tried again gets no write of ours behind his.
    #[tokio::test]
    async fn no_try_is_sent_when_the_run_may_not_write_any_more() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = tries.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 8192]).await;
                let answer = b"HTTP/1.1 500 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(answer).await;
            }
        });
        let config = aws_sdk_sts::Config::builder()
            .behavior_version_latest()
            .region(aws_sdk_sts::config::Region::new("eu-west-1"))
            .endpoint_url(endpoint)
            .credentials_provider(Credentials::new("key", "secret", None, None, "test"));
        let client = aws_sdk_sts::Client::from_conf(config.build());
        for (allowed, sent) in [(0, 0), (1, 1), (usize::MAX, 3)] {
            tries.store(0, Ordering::SeqCst);
            let seen = tries.clone();
            let guard = MayWrite::new(move || match seen.load(Ordering::SeqCst) < allowed {
                true => Ok(()),
                false => Err(Error::new(Kind::Superseded, "another run has the lock")),
            });
            let exchange = Exchange::sending(&serde_json::json!({})).guarded(&guard);
            let request = client.get_caller_identity().customize();
            let error = request.interceptor(exchange.clone()).send().await.expect_err("500");
            let refused = exchange.refusal("write".into(), "sts:GetCallerIdentity", &error);
            assert_eq!(tries.load(Ordering::SeqCst), sent, "{allowed}");
            assert_eq!(refused.kind == Kind::Superseded, allowed < 3, "{refused:?}");
        }
    }
}
