//! States: the whole applied set of a deploy, named by the hash of its JSON. Pure.

use std::fmt;
use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use crate::error::{Cannot, Error, Result};

/// No state is larger: a task definition may have 64 KB, an object of Kubernetes 1.5 MB.
const LARGEST: u64 = 64 * 1024 * 1024;

/// The SHA-256 of a state's JSON, in 64 hexadecimal digits: the name of its object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct StateHash(String);

impl StateHash {
    /// Hashes a state's JSON as it is.
    pub fn of(json: &[u8]) -> StateHash {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, json);
        StateHash(hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StateHash> for String {
    fn from(hash: StateHash) -> String {
        hash.0
    }
}

impl TryFrom<String> for StateHash {
    type Error = String;

    fn try_from(text: String) -> Result<StateHash, String> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match text.len() == 64 && text.bytes().all(digit) {
            true => Ok(StateHash(text)),
            false => Err(format!("`{text}` is no SHA-256 in 64 hexadecimal digits")),
        }
    }
}

/// Compresses a state's JSON. The same input gives the same bytes: the header has no time and no
/// name.
///
/// # Errors
/// Unexpected, when the compressor fails.
pub fn compress_state(json: &[u8]) -> Result<Vec<u8>> {
    let level = flate2::Compression::new(6);
    let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), level);
    let written = encoder.write_all(json).and_then(|()| encoder.finish());
    written.cannot(|| "compress a state".into())
}

/// Returns the JSON of a state's object, once it has the hash that names it.
///
/// # Errors
/// Unexpected, when the object is no gzip, larger than a state may be, or another state.
pub fn open_state(object: &[u8], hash: &StateHash) -> Result<Vec<u8>> {
    let mut json = Vec::new();
    let decoder = flate2::read::GzDecoder::new(object);
    decoder.take(LARGEST + 1).read_to_end(&mut json).cannot(|| format!("read state {hash}"))?;
    let found = StateHash::of(&json);
    let why = match json.len() as u64 > LARGEST {
        true => format!("it has more than {LARGEST} bytes"),
        false if found != *hash => format!("its content has the hash {found}"),
        false => return Ok(json),
    };
    let fix = "restore the object's first version: nothing ever writes it twice";
    Err(Error::unexpected(format!("cannot read state {hash}: it was changed")).why(why).fix(fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_as_it_was_and_under_its_own_name_only() {
        let json = br#"{"objects":[{"kind":"Deployment"}]}"#;
        let (hash, object) = (StateHash::of(json), compress_state(json).expect("compressed"));
        assert_eq!(object, compress_state(json).expect("compressed"), "the same bytes each time");
        assert_eq!(open_state(&object, &hash).expect("the state"), json);
        let other = StateHash::of(b"{}");
        let error = open_state(&object, &other).expect_err("another state");
        assert!(error.to_string().contains(&hash.to_string()), "{error}");
        open_state(&object[..object.len() - 9], &hash).expect_err("cut off");
        open_state(json, &hash).expect_err("no gzip");
    }

    #[test]
    fn a_state_that_unfolds_without_end_is_refused() {
        let bomb = compress_state(&vec![b' '; LARGEST as usize + 1]).expect("compressed");
        assert!(bomb.len() < 1024 * 1024, "{}", bomb.len());
        let error = open_state(&bomb, &StateHash::of(b"")).expect_err("too large");
        assert!(error.to_string().contains("more than"), "{error}");
    }

    #[test]
    fn only_a_hash_is_a_hash() {
        let right = "ab".repeat(32);
        let cases = [
            (right.as_str(), true),
            (&right.to_uppercase(), false),
            (&right[1..], false),
            ("../lock.json", false),
            ("", false),
        ];
        for (text, expected) in cases {
            assert_eq!(StateHash::try_from(text.to_string()).is_ok(), expected, "{text}");
        }
    }
}
