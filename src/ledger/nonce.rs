//! What tells one write of a run from every other. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Identifies one write of one run, so that a run knows its own write again when the answer to it
/// was lost. Written `RUN-WRITE`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct Nonce {
    /// Random, one for each time the lock is asked for.
    pub run: u128,
    /// Counts the writes of a run from 1.
    pub write: u32,
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}", self.run, self.write)
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> String {
        nonce.to_string()
    }
}

impl TryFrom<String> for Nonce {
    type Error = String;

    fn try_from(text: String) -> Result<Nonce, String> {
        let wrong = || format!("`{text}` is no nonce: 32 hexadecimal digits, `-` and a count");
        let (run, write) = text.split_once('-').ok_or_else(wrong)?;
        let run = u128::from_str_radix(run, 16).map_err(|_| wrong())?;
        Ok(Nonce { run, write: write.parse().map_err(|_| wrong())? })
    }
}
