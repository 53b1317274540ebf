//! Why a workload will not get healthy, and the stable cause code of that. Pure.

use crate::error::Code;

/// What stands in the way. Its [`Code`] is what machines count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// Its registry has no such image, or the image's name is none.
    ImageNotFound,
    /// The node may not pull the image, or does not reach its registry.
    ImagePullRefused,
    /// A Secret, a ConfigMap or a key of one is not there.
    ConfigurationMissing,
    /// The container cannot be made or its command cannot be run.
    CannotStart,
    Crashed,
    OutOfMemory,
    /// It runs and does not answer its probe.
    ProbeFailed,
    /// No node takes its pod.
    Unschedulable,
    /// Its pods cannot be made: the namespace's quota is used up.
    QuotaExceeded,
    /// Its pods cannot be made: admission refuses them.
    Forbidden,
    /// Its own deadline passed.
    DeadlineExceeded,
    /// Somebody deleted it, or its volume.
    Deleted,
    /// Somebody stopped it.
    Paused,
    /// Its own controller gave up.
    Stalled,
}

impl TroubleKind {
    /// The stable word for it. `None` where a person's own act is in the way.
    pub fn code(self) -> Option<Code> {
        match self {
            TroubleKind::ImageNotFound => Some(Code::ImageNotFound),
            TroubleKind::ImagePullRefused => Some(Code::ImagePullRefused),
            TroubleKind::ConfigurationMissing => Some(Code::SecretUnavailable),
            TroubleKind::CannotStart | TroubleKind::Crashed => Some(Code::ContainerExited),
            TroubleKind::OutOfMemory => Some(Code::OutOfMemory),
            TroubleKind::ProbeFailed => Some(Code::ProbeFailed),
            TroubleKind::Unschedulable => Some(Code::Unschedulable),
            TroubleKind::QuotaExceeded => Some(Code::QuotaExceeded),
            TroubleKind::Forbidden => Some(Code::AccessDenied),
            TroubleKind::DeadlineExceeded | TroubleKind::Stalled => Some(Code::DeadlineExceeded),
            TroubleKind::Deleted | TroubleKind::Paused => None,
        }
    }
}

/// Why a workload will not get healthy.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    pub kind: TroubleKind,
    /// `Pod/patients-5d9…/patients`, `ReplicaSet/patients-5d9…`, `Deployment/patients`.
    pub object: String,
    /// In the platform's own words.
    pub reason: String,
    pub exit_code: Option<i64>,
    pub fix: String,
    /// Where the log that explains it is.
    pub log: Option<Log>,
}

impl Trouble {
    /// A trouble that no exit and no log explains.
    pub fn new(
        kind: TroubleKind,
        object: impl Into<String>,
        reason: impl Into<String>,
        fix: impl Into<String>,
    ) -> Trouble {
        Trouble {
            kind,
            object: object.into(),
            reason: reason.into(),
            exit_code: None,
            fix: fix.into(),
            log: None,
        }
    }
}

/// A container's log; `previous`: of the run before the present one.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub previous: bool,
}
