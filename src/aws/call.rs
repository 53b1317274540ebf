//! One call to AWS, sent until it is answered for good. The SDK sends once; [`retry::run`] decides
//! about another try, by what [`judge_answer`] says of the last one.

use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_sts::error::{BuildError, ProvideErrorMetadata, SdkError};

use super::{Session, allow_statement};
use crate::error::{Code, Error, Kind, Result, chain};
use crate::report::Report;
use crate::retry::{self, Attempt, RetryPolicy};

/// The retry policy of a deploy's calls to AWS: half a minute of backoff in all, so that an account
/// whose rate is used up comes to itself.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html>
const RETRIES: RetryPolicy = RetryPolicy {
    attempts: 7,
    first_pause: Duration::from_millis(500),
    longest_pause: Duration::from_secs(20),
    jitter: 0.5,
};

/// What a call that did not succeed says of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was not done, and will not be however often it is sent.
    Refused,
    /// It was not done, for now: the account's rate is used up, or another change is under way.
    Busy,
    /// It may have been done: no answer, or one that does not say.
    Lost,
}

/// What the HTTP status of an answer and AWS's words (error code and message) mean; no status: no
/// answer. Pure.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/CommonErrors.html>
pub fn judge_answer(status: Option<u16>, said: &str) -> Answer {
    // The last two stand in messages: of RegisterTaskDefinition's ClientException, and of API
    // Gateway's ConflictException, which also says that something is there already.
    const BUSY: [&str; 8] = [
        "Throttl",
        "TooManyRequests",
        "RequestLimitExceeded",
        "SlowDown",
        "OperationAborted",
        "UpdateInProgress",
        "Too many concurrent attempts",
        "concurrent modification",
    ];
    // `ServiceUnavailable` and `RequestTimeout` come with a 4xx from some services.
    const LOST: [&str; 3] = ["RequestTimeout", "ServiceUnavailable", "InternalFailure"];
    let has = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
    match status {
        Some(429) => Answer::Busy,
        Some(_) if has(&BUSY) => Answer::Busy,
        Some(408) => Answer::Lost,
        Some(300..500) if !has(&LOST) => Answer::Refused,
        _ => Answer::Lost,
    }
}

/// What AWS answered, or why it did not: an error of the SDK without its types.
#[derive(Clone, Debug)]
pub struct Fault {
    pub answer: Answer,
    pub status: Option<u16>,
    /// AWS's word for it: `AccessDeniedException`; empty where the answer has none.
    pub code: String,
    why: String,
    /// The request was never sent: there is nothing to sign it with.
    lacks_credentials: bool,
}

impl<E: ProvideErrorMetadata + std::error::Error + 'static> From<SdkError<E>> for Fault {
    fn from(error: SdkError<E>) -> Fault {
        Fault::of(&error)
    }
}

impl Fault {
    pub fn of<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> Fault {
        let code = error.code().unwrap_or_default().to_string();
        let why = match error.message() {
            Some(message) => format!("{code}: {message}"),
            None => chain(error),
        };
        let status = error.raw_response().map(|response| response.status().as_u16());
        let lacks_credentials = matches!(error, SdkError::ConstructionFailure(_))
            || ["no providers in chain", "no credentials found in chain"]
                .iter()
                .any(|words| why.contains(words));
        let answer = match lacks_credentials {
            true => Answer::Refused,
            false => judge_answer(status, &why),
        };
        Fault { answer, status, code, why, lacks_credentials }
    }

    /// An answer that cannot be read.
    pub fn unreadable(error: Error) -> Fault {
        Fault::unheard(Answer::Lost, error.to_string())
    }

    /// A request that the SDK would not make.
    pub fn unbuilt(error: BuildError) -> Fault {
        Fault::unheard(Answer::Refused, chain(&error))
    }

    /// An answer without the SDK.
    pub fn answered(status: u16, code: &str, message: &str) -> Fault {
        let why = format!("{code}: {message}");
        let answer = judge_answer(Some(status), &why);
        let code = code.to_string();
        Fault { answer, status: Some(status), code, why, lacks_credentials: false }
    }

    /// No answer, or none that can be read.
    pub fn unheard(answer: Answer, why: String) -> Fault {
        Fault { answer, status: None, code: String::new(), why, lacks_credentials: false }
    }

    /// The error for people: a denial names the IAM action to allow, everything else is unexpected.
    ///
    /// `attempt` is a verb and its object (`find ECS cluster c`); `action` is the IAM action of the
    /// call: `ecs:DescribeServices`.
    pub fn to_error(&self, attempt: &str, action: &str) -> Error {
        let headline = format!("cannot {attempt}");
        match self.code.as_str() {
            "AccessDenied"
            | "AccessDeniedException"
            | "UnauthorizedOperation"
            | "AccessDeniedError" => {
                let (action, resource) = find_denied(&self.why).unwrap_or((action, "*"));
                Error::refused(format!("{headline}: access denied"))
                    .code(Code::AccessDenied)
                    .why(&self.why)
                    .fix(format!(
                        "add to the role's policy: {}",
                        allow_statement(&[action], resource)
                    ))
            }
            "ExpiredToken"
            | "ExpiredTokenException"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId" => {
                Error::refused(headline).code(Code::AccessDenied).why(&self.why).fix(
                    "run the job again, or log in anew: the AWS credentials are not valid (any \
                     more)",
                )
            }
            "RequestTimeTooSkewed" | "RequestExpired" => self.explain_clock(&headline),
            "SignatureDoesNotMatch" | "InvalidSignatureException"
                if ["Signature expired", "not yet current"]
                    .iter()
                    .any(|words| self.why.contains(words)) =>
            {
                self.explain_clock(&headline)
            }
            code if says_quota(code) => {
                Error::refused(format!("{headline}: a quota of the account is used up"))
                    .code(Code::QuotaExceeded)
                    .why(&self.why)
                    .fix(
                        "remove what nobody uses, or have the quota raised in the console of \
                         Service Quotas",
                    )
            }
            _ if self.lacks_credentials => Error::refused(headline).why(&self.why).fix(
                "give AWS credentials, as there are none: in a job add `permissions: {id-token: \
                 write}` and a `role` in platform.yaml; on a laptop log in",
            ),
            _ => Error::unexpected(headline).why(&self.why),
        }
    }

    /// AWS takes no request that was signed more than 15 minutes from its own time.
    fn explain_clock(&self, headline: &str) -> Error {
        Error::refused(format!("{headline}: this machine's clock is wrong"))
            .why(&self.why)
            .fix("set the runner's clock: `timedatectl set-ntp true`")
    }
}

/// Whether AWS's word for a refusal is of a quota: `TooManyRules`, `LimitExceededException`.
fn says_quota(code: &str) -> bool {
    let is_rate = code.starts_with("TooManyRequests");
    !is_rate
        && (code.starts_with("TooMany")
            || code.contains("LimitExceeded")
            || code.starts_with("ServiceQuotaExceeded"))
}

/// A call that did not succeed, after its last try.
#[derive(Debug)]
pub struct Failure {
    pub error: Error,
    /// What the last try was answered with.
    fault: Option<Fault>,
    /// Of a write: a try may have been done all the same. What it did has to be looked up.
    pub may_have_written: bool,
}

impl Failure {
    /// Whether AWS answered with one of these error codes.
    pub fn is(&self, codes: &[&str]) -> bool {
        self.fault.as_ref().is_some_and(|fault| codes.contains(&fault.code.as_str()))
    }

    pub fn status(&self) -> Option<u16> {
        self.fault.as_ref()?.status
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        failure.error
    }
}

/// Leave to write. It is asked before each try: a retry may come when the lock is another's.
pub trait Leave {
    /// How far the writes had gone before a try.
    type Mark;
    async fn check(&self) -> Result<()>;
    fn deadline(&self) -> Option<Instant>;
    /// Notes that a try is under way. Whoever drops it leaves the note.
    fn begin(&self) -> Self::Mark;
    /// Takes the note back: the try wrote nothing.
    fn undo(&self, mark: Self::Mark);
}

/// Sends the calls of one session.
#[derive(Clone)]
pub struct Caller {
    config: SdkConfig,
    retries: RetryPolicy,
    report: Report,
}

impl Caller {
    pub fn new(session: &Session) -> Caller {
        let once = RetryConfig::standard().with_max_attempts(1);
        let config = session.config().clone().into_builder().retry_config(once).build();
        Caller { config, retries: RETRIES, report: session.report().clone() }
    }

    /// For the client of an SDK: `aws_sdk_ecs::Client::new(caller.config())`. It sends once.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Where retries are told.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Reads, with retries. Whoever bounds the time drops it.
    ///
    /// # Errors
    /// As [`Fault::to_error`] says of the last try.
    pub async fn read<T, E, F>(
        &self,
        attempt: &str,
        action: &str,
        send: impl Fn() -> F,
    ) -> Result<T, Failure>
    where
        E: Into<Fault>,
        F: Future<Output = Result<T, E>>,
    {
        let mut last = None;
        let answer = retry::run(&self.retries, None, &self.report, async |_| match send().await {
            Ok(answer) => Attempt::Done(answer),
            Err(fault) => {
                let fault: Fault = fault.into();
                let ended = classify_fault(&fault, attempt, action);
                last = Some(fault);
                ended
            }
        });
        let answer = answer.await;
        answer.map_err(|error| Failure { error, fault: last, may_have_written: false })
    }

    /// Writes, with retries, as long as `leave` is given.
    ///
    /// # Errors
    /// Refused when nothing was written; as `leave` says when that is over; else as
    /// [`Fault::to_error`].
    pub async fn write<T, E, F>(
        &self,
        attempt: &str,
        action: &str,
        leave: &impl Leave,
        send: impl Fn() -> F,
    ) -> Result<T, Failure>
    where
        E: Into<Fault>,
        F: Future<Output = Result<T, E>>,
    {
        self.create(attempt, action, leave, send, async || Ok(None)).await
    }

    /// Writes what each try would make once more: after an answer that was lost, `find` looks for it
    /// before it is sent again.
    ///
    /// # Errors
    /// As [`Caller::write`].
    pub async fn create<T, E, F>(
        &self,
        attempt: &str,
        action: &str,
        leave: &impl Leave,
        send: impl Fn() -> F,
        find: impl AsyncFn() -> Result<Option<T>>,
    ) -> Result<T, Failure>
    where
        E: Into<Fault>,
        F: Future<Output = Result<T, E>>,
    {
        let (mut last, mut may_have_written) = (None, false);
        let answer = retry::run(&self.retries, leave.deadline(), &self.report, async |_| {
            if let Err(error) = leave.check().await {
                return Attempt::Refused(error);
            }
            if may_have_written {
                match find().await {
                    Ok(Some(found)) => return Attempt::Done(found),
                    Ok(None) => {}
                    Err(why) => return Attempt::Retry { why, after: None },
                }
            }
            let (mark, before) = (leave.begin(), may_have_written);
            // A try that the deadline drops is not heard of again.
            may_have_written = true;
            let fault: Fault = match send().await {
                Ok(answer) => return Attempt::Done(answer),
                Err(fault) => fault.into(),
            };
            if fault.answer != Answer::Lost {
                may_have_written = before;
                leave.undo(mark);
            }
            let ended = classify_fault(&fault, attempt, action);
            last = Some(fault);
            ended
        });
        let answer = answer.await;
        answer.map_err(|error| {
            let error = match (error.kind, may_have_written) {
                (Kind::Unexpected, false) => Error { kind: Kind::Refused, ..error }
                    .fix("mend what AWS names and deploy again"),
                _ => error,
            };
            Failure { error, fault: last, may_have_written }
        })
    }
}

/// The action and the resource that AWS says are not allowed. A call needs others beside its own:
/// one that tags needs that of tagging.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>
fn find_denied(why: &str) -> Option<(&str, &str)> {
    let (_, said) = why.split_once(" is not authorized to perform: ")?;
    let (action, rest) = said.split_once(' ')?;
    let resource = rest.strip_prefix("on resource: ").and_then(|rest| rest.split(' ').next());
    let resource = resource.unwrap_or("*").trim_matches('"');
    action.contains(':').then_some((action, resource))
}

/// Whether a call is tried again.
fn classify_fault<T>(fault: &Fault, attempt: &str, action: &str) -> Attempt<T> {
    let why = fault.to_error(attempt, action);
    match fault.answer {
        Answer::Refused => Attempt::Refused(why),
        Answer::Busy | Answer::Lost => Attempt::Retry { why, after: None },
    }
}

#[cfg(test)]
mod tests;
