//! What answers mean, and what is sent again, against a server that answers as it is told.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_credential_types::Credentials;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::report::{Format, Report, Verbosity};

#[test]
fn an_answer_says_whether_the_call_was_done_and_is_sent_again() {
    let cases = [
        (Some(400), "InvalidParameterException", Answer::Refused),
        (Some(400), "ClientException", Answer::Refused),
        (Some(400), "LimitExceededException", Answer::Refused),
        (Some(400), "ServiceNotActiveException", Answer::Refused),
        (Some(403), "AccessDeniedException", Answer::Refused),
        (Some(403), "ExpiredTokenException", Answer::Refused),
        (Some(404), "", Answer::Refused),
        (Some(409), "ConflictException", Answer::Refused),
        (Some(301), "PermanentRedirect", Answer::Refused),
        (Some(400), "ThrottlingException", Answer::Busy),
        (Some(400), "Throttling", Answer::Busy),
        (Some(400), "RequestLimitExceeded", Answer::Busy),
        (Some(429), "TooManyRequestsException", Answer::Busy),
        (Some(429), "", Answer::Busy),
        (Some(503), "SlowDown", Answer::Busy),
        (Some(409), "OperationAborted", Answer::Busy),
        (Some(400), "UpdateInProgressException", Answer::Busy),
        (
            Some(400),
            "ClientException: Too many concurrent attempts to create a new revision of the family",
            Answer::Busy,
        ),
        (
            Some(409),
            "ConflictException: Unable to complete operation due to concurrent modification",
            Answer::Busy,
        ),
        (Some(409), "ConflictException: Route with key ANY /p already exists", Answer::Refused),
        (Some(400), "RequestTimeout", Answer::Lost),
        (Some(400), "RequestTimeoutException", Answer::Lost),
        (Some(408), "", Answer::Lost),
        (Some(500), "ServerException", Answer::Lost),
        (Some(500), "InternalFailure", Answer::Lost),
        (Some(503), "ServiceUnavailable", Answer::Lost),
        (Some(503), "", Answer::Lost),
        // An answer that could not be read.
        (Some(200), "", Answer::Lost),
        (None, "", Answer::Lost),
    ];
    for (status, said, expected) in cases {
        assert_eq!(judge_answer(status, said), expected, "{status:?} {said}");
    }
}

/// Leave for so many tries.
struct Tries<'a> {
    sent: &'a AtomicUsize,
    allowed: usize,
    written: Cell<bool>,
}

impl Leave for Tries<'_> {
    type Mark = bool;
    async fn check(&self) -> Result<()> {
        match self.sent.load(Ordering::SeqCst) < self.allowed {
            true => Ok(()),
            false => Err(Error::new(Kind::Superseded, "another run has the lock")),
        }
    }
    fn deadline(&self) -> Option<Instant> {
        None
    }
    fn begin(&self) -> bool {
        self.written.replace(true)
    }
    fn undo(&self, mark: bool) {
        self.written.set(mark);
    }
}

/// A client whose calls are answered one after the other with these, and then with the last of
/// them. Counts them.
async fn answered_with(answers: &'static [(&'static str, &'static str)]) -> Scripted {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 8192]).await;
            let (status, body) = answers[number.min(answers.len() - 1)];
            let length = body.len();
            let text = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    let config = SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("eu-west-1"))
        .endpoint_url(endpoint)
        .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(
            Credentials::new("key", "secret", None, None, "test"),
        ));
    let once = RetryConfig::standard().with_max_attempts(1);
    let config = aws_sdk_sts::config::Builder::from(&config.build()).retry_config(once);
    Scripted { client: aws_sdk_sts::Client::from_conf(config.build()), sent }
}

struct Scripted {
    client: aws_sdk_sts::Client,
    sent: Arc<AtomicUsize>,
}

fn caller() -> Caller {
    let report = Report::to(Box::new(std::io::sink()), Format::Json, Verbosity::Quiet, false);
    let retries = RetryPolicy { first_pause: Duration::from_millis(1), ..RETRIES };
    Caller { config: SdkConfig::builder().build(), retries, report }
}

const DONE: (&str, &str) = (
    "200",
    "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>a</Arn></GetCallerIdentityResult>\
     </GetCallerIdentityResponse>",
);
const BUSY: (&str, &str) =
    ("400", "<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>");
const LOST: (&str, &str) = ("500", "");
const BAD: (&str, &str) =
    ("400", "<ErrorResponse><Error><Code>ValidationError</Code></Error></ErrorResponse>");
const DENIED: (&str, &str) =
    ("403", "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>");

/// Whoever takes the lock over while a write is tried again gets no write of ours behind his; and
/// what is undone or called a refusal is what may, or cannot, have been written.
#[tokio::test]
async fn a_write_is_tried_while_the_run_may_write_and_says_what_it_may_have_done() {
    struct Case {
        name: &'static str,
        answers: &'static [(&'static str, &'static str)],
        allowed: usize,
        sent: usize,
        ends: Result<(), Kind>,
        may_have_written: bool,
    }
    let all = usize::MAX;
    #[rustfmt::skip]
    let cases = [
        Case { name: "taken", answers: &[DONE], allowed: all, sent: 1, ends: Ok(()), may_have_written: true },
        Case { name: "throttled, then taken", answers: &[BUSY, BUSY, BUSY, DONE], allowed: all, sent: 4, ends: Ok(()), may_have_written: true },
        Case { name: "throttled to the end", answers: &[BUSY], allowed: all, sent: 7, ends: Err(Kind::Refused), may_have_written: false },
        Case { name: "lost, then taken", answers: &[LOST, DONE], allowed: all, sent: 2, ends: Ok(()), may_have_written: true },
        Case { name: "lost to the end", answers: &[LOST], allowed: all, sent: 7, ends: Err(Kind::Unexpected), may_have_written: true },
        Case { name: "lost, then not taken", answers: &[LOST, BAD], allowed: all, sent: 2, ends: Err(Kind::Unexpected), may_have_written: true },
        Case { name: "throttled, then not taken", answers: &[BUSY, BAD], allowed: all, sent: 2, ends: Err(Kind::Refused), may_have_written: false },
        Case { name: "not taken", answers: &[BAD], allowed: all, sent: 1, ends: Err(Kind::Refused), may_have_written: false },
        Case { name: "denied", answers: &[DENIED], allowed: all, sent: 1, ends: Err(Kind::Refused), may_have_written: false },
        Case { name: "may not write", answers: &[DONE], allowed: 0, sent: 0, ends: Err(Kind::Superseded), may_have_written: false },
        Case { name: "may not write any more", answers: &[BUSY, DONE], allowed: 1, sent: 1, ends: Err(Kind::Superseded), may_have_written: false },
        Case { name: "lost, and may not write any more", answers: &[LOST, DONE], allowed: 1, sent: 1, ends: Err(Kind::Superseded), may_have_written: true },
    ];
    for case in cases {
        let Scripted { client, sent } = answered_with(case.answers).await;
        let leave = Tries { sent: &sent, allowed: case.allowed, written: Cell::new(false) };
        let written = caller()
            .write("write it", "sts:Write", &leave, || client.get_caller_identity().send())
            .await;
        assert_eq!(sent.load(Ordering::SeqCst), case.sent, "{}", case.name);
        assert_eq!(leave.written.get(), case.may_have_written, "{}", case.name);
        let ended = written.as_ref().map(|_| ()).map_err(|failure| failure.error.kind);
        assert_eq!(ended, case.ends, "{}: {written:?}", case.name);
        if let Err(failure) = written {
            assert_eq!(failure.may_have_written, case.may_have_written, "{}", case.name);
        }
    }
}

#[tokio::test]
async fn a_read_is_patient_with_what_passes_only() {
    struct Case {
        answers: &'static [(&'static str, &'static str)],
        sent: usize,
        ends: Result<(), Kind>,
    }
    let cases = [
        Case { answers: &[BUSY, LOST, DONE], sent: 3, ends: Ok(()) },
        Case { answers: &[LOST], sent: 7, ends: Err(Kind::Unexpected) },
        Case { answers: &[DENIED], sent: 1, ends: Err(Kind::Refused) },
        Case { answers: &[BAD], sent: 1, ends: Err(Kind::Unexpected) },
    ];
    for Case { answers, sent, ends } in cases {
        let scripted = answered_with(answers).await;
        let client = &scripted.client;
        let caller = caller();
        let read = caller.read("read it", "sts:Read", || client.get_caller_identity().send());
        let ended = read.await.map(|_| ()).map_err(|failure| failure.error.kind);
        assert_eq!((scripted.sent.load(Ordering::SeqCst), ended), (sent, ends), "{answers:?}");
    }
}

#[test]
fn a_wrong_clock_is_told_from_a_wrong_key() {
    let skewed = "this machine's clock is wrong";
    let cases = [
        ("RequestTimeTooSkewed", "too large", true),
        ("InvalidSignatureException", "Signature expired: 20261129T1 is now earlier", true),
        ("SignatureDoesNotMatch", "Signature not yet current", true),
        ("SignatureDoesNotMatch", "the calculated signature does not match", false),
    ];
    for (code, why, is_skewed) in cases {
        let fault = Fault { code: code.into(), ..Fault::unheard(Answer::Refused, why.into()) };
        let error = fault.to_error("find it", "ecs:DescribeServices");
        assert_eq!(error.message.contains(skewed), is_skewed, "{code} {why}: {error}");
    }
}

/// Of what AWS makes once more by each try, none is sent before it is known that there is none.
#[tokio::test]
async fn what_a_lost_try_made_is_found_before_it_is_made_again() {
    for (is_there, sent, made) in [(true, 1, "found"), (false, 2, "made")] {
        let Scripted { client, sent: counted } = answered_with(&[LOST, DONE]).await;
        let allowed = usize::MAX;
        let leave = Tries { sent: &counted, allowed, written: Cell::new(false) };
        let send = async || -> Result<&str, Fault> {
            client.get_caller_identity().send().await?;
            Ok("made")
        };
        let find = async || Ok(is_there.then_some("found"));
        let ended = caller().create("create a thing", "sts:Create", &leave, &send, find).await;
        assert_eq!(ended.ok(), Some(made));
        assert_eq!(counted.load(Ordering::SeqCst), sent);
    }
}

#[test]
fn a_denial_names_what_aws_names() {
    let said = |rest: &str| format!("AccessDenied: User: u is not authorized to perform: {rest}");
    let cases = [
        ("ecs:TagResource on resource: arn:a because no", Some(("ecs:TagResource", "arn:a"))),
        ("s3:GetObject on resource: \"arn:b/k\" because no", Some(("s3:GetObject", "arn:b/k"))),
        ("apigateway:POST because no", Some(("apigateway:POST", "*"))),
        ("something", None),
    ];
    for (rest, expected) in cases {
        assert_eq!(find_denied(&said(rest)), expected, "{rest}");
    }
    assert_eq!(find_denied("ThrottlingException: Rate exceeded"), None);
}
