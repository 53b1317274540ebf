//! What one rule of the contract comes to, before its level is looked at. Pure.

use crate::error::Cause;

/// What one rule came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    Kept,
    Unjudged(String),
    Broken(Vec<Breach>),
}

/// What breaks a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breach {
    pub modes: Vec<&'static str>,
    pub evidence: String,
    pub fix: String,
    pub exit_code: Option<i64>,
    pub log_tail: Vec<String>,
}

impl Breach {
    /// Reads a breach in one mode from its cause.
    pub fn of(mode: &'static str, cause: Cause) -> Breach {
        let fix = cause.fix.unwrap_or_else(|| "see its last log lines".into());
        Breach {
            modes: vec![mode],
            evidence: cause.reason,
            fix,
            exit_code: cause.exit_code,
            log_tail: cause.log_tail,
        }
    }

    /// A breach without a log.
    pub fn plain(
        modes: &[&'static str],
        evidence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Breach {
        Breach {
            modes: modes.to_vec(),
            evidence: evidence.into(),
            fix: fix.into(),
            ..Breach::default()
        }
    }
}

impl Ruling {
    /// Broken by these breaches; kept when there are none.
    pub fn by(breaches: Vec<Breach>) -> Ruling {
        if breaches.is_empty() { Ruling::Kept } else { Ruling::Broken(breaches) }
    }
}
