//! Something known about a repository, and where it was read. Pure.

use std::fmt;

/// Where a fact comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A line of a file says it.
    Read { file: String, line: u64 },
    /// A file that `init` writes sets it, so that it is true.
    Set(String),
    /// Nothing says it; the reason stands here.
    Guess(String),
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evidence::Read { file, line } => write!(f, "{file}:{line}"),
            Evidence::Set(by) => f.write_str(by),
            Evidence::Guess(why) => write!(f, "a guess: {why}"),
        }
    }
}

/// Something known about a repository, with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact<T> {
    pub value: T,
    pub evidence: Evidence,
}

impl<T> Fact<T> {
    pub fn read(value: T, file: &str, line: u64) -> Fact<T> {
        Fact { value, evidence: Evidence::Read { file: file.into(), line } }
    }

    pub fn set(value: T, by: impl Into<String>) -> Fact<T> {
        Fact { value, evidence: Evidence::Set(by.into()) }
    }

    pub fn guess(value: T, why: impl Into<String>) -> Fact<T> {
        Fact { value, evidence: Evidence::Guess(why.into()) }
    }

    pub fn is_guess(&self) -> bool {
        matches!(self.evidence, Evidence::Guess(_))
    }
}
