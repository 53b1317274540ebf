//! An OCI image layout on disk: read, checked, trusted no further than its digests.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a manifest says of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    /// `linux/amd64`, where the descriptor says so.
    pub platform: Option<String>,
}

/// One image of a layout.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub descriptor: Descriptor,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// A checked layout.
#[derive(Clone, Debug)]
pub struct Layout {
    folder: PathBuf,
    root: Descriptor,
    manifests: Vec<Manifest>,
}

impl Layout {
    /// Reads and checks the structure of a layout; blobs of layers are not hashed here.
    ///
    /// # Errors
    /// Bad input that names the file and what is wrong with it.
    pub fn open(folder: &Path) -> Result<Layout> {
        Err(Error::unexpected(format!("layout of {} not written yet", folder.display())))
    }
    /// The one descriptor of index.json.
    pub fn root(&self) -> &Descriptor {
        &self.root
    }
    /// Every image below the root: one, or one a platform.
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }
    /// Where a blob's bytes are.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.0.trim_start_matches("sha256:"))
    }
}
