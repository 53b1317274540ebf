//! JSON documents over a client of the SDK, to the letter.
//!
//! The SDK's types drop fields that they do not know. Its interceptors see the bodies themselves,
//! so that it keeps signing and reading errors, and the document stays whole. The body of
//! an awsJson request is the operation's input and nothing else:
//! <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html>

use std::sync::{Arc, OnceLock};

use aws_sdk_sts::config::interceptors::{
    BeforeTransmitInterceptorContextMut, FinalizerInterceptorContextRef,
};
use aws_sdk_sts::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sts::error::BoxError;
use serde_json::Value;

use super::call::Fault;
use crate::error::{Cannot, Result};

/// One try of a call: the document that it sends, and the one that it is answered with.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// `None` leaves the request as the SDK makes it.
    request: Option<String>,
    answer: Arc<OnceLock<Vec<u8>>>,
}

/// Sends a call once and returns the document that AWS answers. Its input is `document`, where one
/// is given. `send` makes the call with the interceptor that it is given.
///
/// # Errors
/// As AWS says; lost when the answer is no JSON.
pub async fn exchange<T, E, F>(
    document: Option<&Value>,
    send: impl FnOnce(Exchange) -> F,
) -> Result<Value, Fault>
where
    E: Into<Fault>,
    F: Future<Output = Result<T, E>>,
{
    let exchange = Exchange { request: document.map(Value::to_string), ..Exchange::default() };
    send(exchange.clone()).await.map_err(Into::into)?;
    let bytes = exchange.answer.get().map(Vec::as_slice).unwrap_or_default();
    let answer = serde_json::from_slice(bytes);
    answer.cannot(|| "read an answer of AWS as JSON".into()).map_err(Fault::unreadable)
}

impl Intercept for Exchange {
    fn name(&self) -> &'static str {
        "Exchange"
    }

    /// Before it is signed.
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
