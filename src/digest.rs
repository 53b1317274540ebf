//! A digest: the one name of a blob, a manifest or an image that cannot be moved. Pure.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests>

use std::fmt;
use std::io::{self, Read};

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};

/// What stands before the hexadecimal digits; no other algorithm is taken.
const ALGORITHM: &str = "sha256:";
/// In bytes: what is read of a stream at a time.
const PART: usize = 256 * 1024;

/// `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Reads a digest as it is written.
    ///
    /// # Errors
    /// Bad input for anything but `sha256:` and 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Digest> {
        let hex = text.strip_prefix(ALGORITHM).unwrap_or_default();
        if hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Digest(text.to_string()));
        }
        Err(Error::input(format!("cannot read digest `{}`", text.escape_default()))
            .why("a digest is `sha256:` and 64 digits of 0-9 and a-f")
            .fix("write it as build-image printed it"))
    }

    /// Returns the digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::from_sha256(digest(&SHA256, bytes).as_ref())
    }

    /// Returns the digest of all that a stream gives. `check` is asked before each part.
    ///
    /// # Errors
    /// Those of the stream, and of `check`.
    pub fn of_stream(
        stream: &mut impl Read,
        check: impl Fn() -> io::Result<()>,
    ) -> io::Result<Digest> {
        let (mut hash, mut buffer) = (Context::new(&SHA256), vec![0; PART]);
        loop {
            check()?;
            match stream.read(&mut buffer)? {
                0 => return Ok(Digest::from_sha256(hash.finish().as_ref())),
                read => hash.update(&buffer[..read]),
            }
        }
    }

    /// Returns the digest with these 32 bytes of SHA-256.
    pub fn from_sha256(hash: &[u8]) -> Digest {
        use fmt::Write;
        let mut text = String::from(ALGORITHM);
        for byte in hash {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Digest(text)
    }

    /// Returns a digest that no image has, 64 zeros: for what is rendered before there is an image.
    pub fn placeholder() -> Digest {
        Digest::from_sha256(&[0; 32])
    }

    /// Returns it as it is written: `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the 64 hexadecimal digits, which are also the name of the blob's file.
    pub fn hex(&self) -> &str {
        &self.0[ALGORITHM.len()..]
    }

    /// Returns the first 12 digits: enough to know an image by, and safe as a label and as a tag.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }
}

/// Reads a digest that others wrote, in a field that is read with `deserialize_with`: `None` for
/// nothing, and for what a later version of this program may write there.
///
/// # Errors
/// Those of the format.
pub fn read_known<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Digest>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.and_then(|text| Digest::parse(&text).ok()))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Digest> {
        Digest::parse(&text)
    }
}

impl std::str::FromStr for Digest {
    type Err = Error;
    fn from_str(text: &str) -> Result<Digest> {
        Digest::parse(text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_sha256_is_a_digest() {
        let hex = "0123456789abcdef".repeat(4);
        let whole = format!("sha256:{hex}");
        let digest = Digest::parse(&whole).expect("a digest");
        assert_eq!((digest.as_str(), digest.hex()), (whole.as_str(), hex.as_str()));
        let upper = format!("sha256:{}", hex.to_uppercase());
        let wrong = [
            "",
            "sha256:",
            &hex,
            &format!("sha256:{}", &hex[1..]),
            &format!("{whole}0"),
            &upper,
            &format!("sha512:{hex}"),
            &format!(" {whole}"),
            &format!("sha256:sha256:{}", &hex[7..]),
        ];
        for text in wrong {
            let error = Digest::parse(text).expect_err(text);
            assert_eq!(error.kind.exit_code(), 2, "{text}");
            assert!(serde_json::from_value::<Digest>(serde_json::json!(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_is_a_text_to_machines() {
        let empty = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(empty.to_string(), text);
        assert_eq!(serde_json::json!({ "digest": empty }), serde_json::json!({ "digest": text }));
        assert_eq!(serde_json::from_value::<Digest>(serde_json::json!(text)).expect("read"), empty);
        assert_eq!(empty.short(), "e3b0c44298fc");
        assert_eq!(Digest::placeholder().to_string(), format!("sha256:{}", "0".repeat(64)));
    }

    #[test]
    fn what_others_wrote_is_a_digest_or_unknown() {
        let empty = Digest::of(b"");
        let sha512 = format!("sha512:{}", "0".repeat(128));
        let cases = [
            (serde_json::json!(empty), Some(empty)),
            (serde_json::json!(""), None),
            (serde_json::json!(sha512), None),
            (serde_json::json!(null), None),
        ];
        for (written, expected) in cases {
            assert_eq!(read_known(&written).expect("a text"), expected, "{written}");
        }
    }
}
