//! What one look at the container tells. Pure.

use std::time::Duration;

use crate::deploy::target::Verdict;
use crate::docker::diagnosis::{self, Expected, Socket};
use crate::docker::{Answer, State};
use crate::error::{Cause, Code};

/// What was seen.
#[derive(Clone, Debug)]
pub struct Look<'a> {
    pub name: &'a str,
    pub revision: u64,
    /// None: the container is gone.
    pub state: Option<State>,
    pub answer: Answer,
    /// Since the first look.
    pub waited: Duration,
    /// `health.startup`
    pub startup: Duration,
    pub expected: Expected<'a>,
    /// Read only when it ended or is late.
    pub log_tail: Vec<String>,
    pub listening: Option<Vec<Socket>>,
}

impl Look<'_> {
    /// Whether it is clear that it will not get there, so that its log is worth reading.
    pub fn is_lost(&self) -> bool {
        let late = !self.answer.is_well() && self.waited >= self.startup;
        late || matches!(self.state, Some(State::Ended { .. }) | None)
    }
}

/// Decides.
pub fn judge_look(look: Look<'_>) -> Verdict {
    let object = format!("Container/{}", look.name);
    let lost = look.is_lost();
    match look.state {
        None => Verdict::Failed(vec![Cause {
            code: Some(Code::ContainerExited),
            object,
            reason: "is gone: somebody removed it".into(),
            exit_code: None,
            log_tail: vec![],
            fix: Some("run the deploy again".into()),
        }]),
        Some(State::Ended { exit_code, out_of_memory, error }) => {
            let error = error.as_deref();
            let cause = diagnosis::explain_end(
                &object,
                exit_code,
                out_of_memory,
                error,
                look.log_tail,
                &look.expected,
            );
            Verdict::Failed(vec![cause])
        }
        Some(State::Running) if look.answer.is_well() => {
            Verdict::Healthy { revision: look.revision.to_string() }
        }
        Some(State::Running | State::Created) if lost => {
            let listening = look.listening.as_deref();
            let mut cause = diagnosis::explain_silence(
                &object,
                &look.answer,
                listening,
                look.log_tail,
                &look.expected,
            );
            cause.reason = format!(
                "{} (after {} s, health.startup)",
                cause.reason,
                look.startup.as_secs_f64()
            );
            Verdict::Failed(vec![cause])
        }
        Some(State::Running | State::Created) => {
            let why = match look.answer {
                Answer::Status(status) => format!("it answers {status}"),
                Answer::Silence(why) => why,
            };
            Verdict::Progressing(format!(
                "waiting for GET {} to answer 2xx: {why}",
                look.expected.path
            ))
        }
    }
}
