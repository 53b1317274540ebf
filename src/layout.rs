//! An OCI image layout on disk: read, checked, trusted no further than its digests.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>
//!
//! A layout may come from another job, so that nothing in it is believed: a file is read only when it is a regular file of
//! the size that its descriptor gives, and JSON is parsed only after its digest was compared. What is large (layers) is
//! hashed by who reads it.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use oci_spec::image as oci;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::{Error, Place, Result};

/// Manifests and configs are small; a larger one is a mistake or an attack. Registries have the same bound:
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests>
const JSON_LIMIT: u64 = 4 * 1024 * 1024;
/// The containerd store nests an index in an index; nobody nests deeper than twice.
const NESTING_LIMIT: usize = 4;
/// Platforms and their attestations. Bounds the work that a layout can ask for.
const DOCUMENT_LIMIT: usize = 256;

const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const LAYERS: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];
/// What BuildKit hangs on an image: provenance and SBOM.
/// <https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>
const ATTESTATION: &str = "vnd.docker.reference.type";
const ATTESTATION_CONFIG: &str = "application/vnd.oci.empty.v1+json";
const ATTESTATION_LAYER: &str = "application/vnd.in-toto+json";

/// `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// Reads a digest as it is written.
    ///
    /// # Errors
    /// Bad input for anything but `sha256:` and 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Digest> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Digest(text.to_string()));
        }
        Err(Error::input(format!("`{}` is no digest", text.escape_default()))
            .fix("a digest is `sha256:` and 64 digits of 0-9 and a-f, as build-image printed it"))
    }

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::from_sha256(digest(&SHA256, bytes).as_ref())
    }

    /// From the 32 bytes that SHA-256 gives.
    pub fn from_sha256(hash: &[u8]) -> Digest {
        use std::fmt::Write;
        let mut text = String::from("sha256:");
        for byte in hash {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Digest(text)
    }

    /// As it is written: `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hexadecimal digits, which are also the name of the blob's file.
    pub fn hex(&self) -> &str {
        self.0.trim_start_matches("sha256:")
    }
}

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
    /// In bytes, compressed as it is stored.
    pub size: u64,
    /// `linux/amd64`, `linux/arm64/v8`. An image has one always: where its descriptor says none, its config does.
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
    documents: Vec<Descriptor>,
    blobs: BTreeMap<Digest, Descriptor>,
}

impl Layout {
    /// Reads and checks a layout: one root in index.json, every digest, size and media type below it, every file there and a
    /// regular one. Manifests and configs are hashed; layers are not, that is for who reads them.
    ///
    /// # Errors
    /// Bad input that names the file and what is wrong with it.
    pub fn open(folder: &Path) -> Result<Layout> {
        let header: oci::OciLayout = parse(&folder.join("oci-layout"), &entry(folder, "oci-layout")?)?;
        if header.image_layout_version() != "1.0.0" {
            return Err(broken(
                &folder.join("oci-layout"),
                format!("it is of version `{}`, and only 1.0.0 is known", header.image_layout_version()),
            ));
        }
        for part in ["blobs", "blobs/sha256"] {
            let path = folder.join(part);
            if !std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                return Err(broken(&path, "it is not a folder"));
            }
        }
        let path = folder.join("index.json");
        let index: oci::ImageIndex = parse(&path, &entry(folder, "index.json")?)?;
        let root = only_root(&path, &index)?;
        let mut reader =
            Reader { folder, seen: HashSet::new(), manifests: vec![], documents: vec![], blobs: BTreeMap::new() };
        reader.document(&path, root, 0)?;
        let Reader { manifests, documents, blobs, .. } = reader;
        // The root is read first and kept last, behind all that it refers to.
        let root = documents.last().cloned().ok_or_else(|| broken(&path, "it has no image"))?;
        if manifests.is_empty() {
            return Err(broken(&path, format!("there is no image below {}", root.digest)));
        }
        Ok(Layout { folder: folder.to_path_buf(), root, manifests, documents, blobs })
    }

    /// The one descriptor of index.json.
    pub fn root(&self) -> &Descriptor {
        &self.root
    }

    /// Every image below the root: one, or one a platform. Attestations are not among them.
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// The platforms of the images, in the layout's order: `linux/amd64`.
    pub fn platforms(&self) -> Vec<String> {
        self.manifests.iter().filter_map(|manifest| manifest.descriptor.platform.clone()).collect()
    }

    /// Every manifest and index, attestations too: each behind all that it refers to, the root last.
    pub fn documents(&self) -> &[Descriptor] {
        &self.documents
    }

    /// Every config and layer once, in the order of digests.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.blobs.values()
    }

    /// All that a registry stores for this layout, in bytes: blobs compressed, as they are, each once, and manifests.
    pub fn size(&self) -> u64 {
        let all = self.blobs.values().chain(&self.documents);
        all.fold(0, |sum, descriptor| sum.saturating_add(descriptor.size))
    }

    /// Where a blob's bytes are.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }

    /// The bytes of a manifest, an index or a config, compared with their digest once more.
    ///
    /// # Errors
    /// Bad input when they changed since the layout was opened, or are larger than 4 MiB.
    pub fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        json(&self.blob(&descriptor.digest), descriptor)
    }
}

/// The state of one walk from the root down.
struct Reader<'a> {
    folder: &'a Path,
    seen: HashSet<Digest>,
    manifests: Vec<Manifest>,
    documents: Vec<Descriptor>,
    blobs: BTreeMap<Digest, Descriptor>,
}

impl Reader<'_> {
    /// Reads an index or a manifest that `parent` refers to, and all below it.
    fn document(&mut self, parent: &Path, written: &oci::Descriptor, nesting: usize) -> Result<()> {
        let mut descriptor = known(parent, written, &[&INDEXES, &MANIFESTS])?;
        let path = self.path(&descriptor);
        if !self.seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        if nesting >= NESTING_LIMIT {
            return Err(broken(parent, format!("indexes are nested more than {NESTING_LIMIT} deep")));
        }
        if self.seen.len() > DOCUMENT_LIMIT {
            return Err(broken(parent, format!("there are more than {DOCUMENT_LIMIT} manifests")));
        }
        let bytes = json(&path, &descriptor)?;
        let is_index = INDEXES.contains(&descriptor.media_type.as_str());
        refuse_two_meanings(&path, &bytes, &descriptor.media_type, is_index)?;
        if is_index {
            let index: oci::ImageIndex = parse(&path, &bytes)?;
            for child in index.manifests() {
                self.document(&path, child, nesting + 1)?;
            }
        } else {
            let manifest: oci::ImageManifest = parse(&path, &bytes)?;
            let attestation = written.annotations().as_ref().is_some_and(|notes| notes.contains_key(ATTESTATION));
            if attestation {
                self.attestation(&path, &manifest)?;
            } else {
                let read = self.image(&path, &descriptor, &manifest)?;
                descriptor.platform.clone_from(&read.descriptor.platform);
                self.manifests.push(read);
            }
        }
        self.documents.push(descriptor);
        Ok(())
    }

    fn image(&mut self, path: &Path, descriptor: &Descriptor, written: &oci::ImageManifest) -> Result<Manifest> {
        let config = self.keep(path, written.config(), &[&CONFIGS])?;
        let at = self.path(&config);
        let says: oci::ImageConfiguration = parse(&at, &json(&at, &config)?)?;
        let layers = written.layers().iter().map(|layer| self.keep(path, layer, &[&LAYERS]));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let unpacked = says.rootfs().diff_ids().len();
        if unpacked != layers.len() {
            return Err(broken(path, format!("it has {} layers, and its config {unpacked}", layers.len())));
        }
        let mut descriptor = descriptor.clone();
        if descriptor.platform.is_none() {
            descriptor.platform = Some(platform(&at, says.os(), says.architecture(), says.variant().as_deref())?);
        }
        Ok(Manifest { descriptor, config, layers })
    }

    fn attestation(&mut self, path: &Path, written: &oci::ImageManifest) -> Result<()> {
        self.keep(path, written.config(), &[&CONFIGS, &[ATTESTATION_CONFIG]])?;
        for layer in written.layers() {
            self.keep(path, layer, &[&[ATTESTATION_LAYER]])?;
        }
        Ok(())
    }

    /// Checks a blob's descriptor and its file, and keeps it.
    fn keep(&mut self, path: &Path, written: &oci::Descriptor, allowed: &[&[&str]]) -> Result<Descriptor> {
        let descriptor = known(path, written, allowed)?;
        if descriptor.size == 0 {
            return Err(broken(
                path,
                format!("{} has no bytes, and no engine unpacks such a layer", descriptor.digest),
            ));
        }
        regular(&self.path(&descriptor), Some(descriptor.size))?;
        self.blobs.entry(descriptor.digest.clone()).or_insert_with(|| descriptor.clone());
        Ok(descriptor)
    }

    fn path(&self, descriptor: &Descriptor) -> PathBuf {
        self.folder.join("blobs/sha256").join(descriptor.digest.hex())
    }
}

/// The root. An image with several names stands in index.json once a name, and is one image.
fn only_root<'a>(path: &Path, index: &'a oci::ImageIndex) -> Result<&'a oci::Descriptor> {
    let roots = index.manifests();
    let Some(first) = roots.first() else {
        return Err(broken(path, "it has no image"));
    };
    let other = roots.iter().find(|other| other.digest() != first.digest());
    match other {
        None => Ok(first),
        Some(other) => Err(broken(path, format!("it has two images, {} and {}", first.digest(), other.digest()))
            .fix("build one image at a time; several platforms of one image are one index")),
    }
}

/// A descriptor in our own words, when its media type is one of `allowed` and its digest SHA-256.
fn known(path: &Path, written: &oci::Descriptor, allowed: &[&[&str]]) -> Result<Descriptor> {
    let media_type = written.media_type().to_string();
    if !allowed.iter().any(|types| types.contains(&media_type.as_str())) {
        let types: Vec<&str> = allowed.iter().flat_map(|types| types.iter().copied()).collect();
        return Err(broken(path, format!("unknown media type `{}`", media_type.escape_default()))
            .fix(format!("known here: {}", types.join(", "))));
    }
    let digest = Digest::parse(written.digest().as_ref())
        .map_err(|_| broken(path, format!("`{}` is no sha256 digest", written.digest().as_ref().escape_default())))?;
    let platform = match written.platform() {
        Some(of) => Some(platform(path, of.os(), of.architecture(), of.variant().as_deref())?),
        None => None,
    };
    Ok(Descriptor { media_type, digest, size: written.size(), platform })
}

/// `linux/amd64`, `linux/arm64/v8`. It is shown and handed on, so that it may have no other characters than these have.
fn platform(path: &Path, os: &oci::Os, architecture: &oci::Arch, variant: Option<&str>) -> Result<String> {
    let text = [Some(os.to_string()), Some(architecture.to_string()), variant.map(str::to_string)];
    let text = text.into_iter().flatten().collect::<Vec<_>>().join("/");
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    match text.split('/').all(plain) {
        true => Ok(text),
        false => Err(broken(path, format!("`{}` is no platform", text.escape_default()))),
    }
}

/// A document that is an index to one reader and a manifest to another would let two readers see two images.
/// <https://github.com/opencontainers/image-spec/security/advisories/GHSA-77vh-xpmg-72qh>
fn refuse_two_meanings(path: &Path, bytes: &[u8], media_type: &str, is_index: bool) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Meaning {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
        manifests: Option<IgnoredAny>,
        layers: Option<IgnoredAny>,
        config: Option<IgnoredAny>,
    }
    let meaning: Meaning = parse(path, bytes)?;
    if let Some(own) = meaning.media_type.filter(|own| own != media_type) {
        return Err(broken(
            path,
            format!("it calls itself `{}`, and is referred to as `{media_type}`", own.escape_default()),
        ));
    }
    let other = if is_index { meaning.layers.or(meaning.config) } else { meaning.manifests };
    match other {
        Some(_) => Err(broken(path, "it is an index and a manifest at once")),
        None => Ok(()),
    }
}

/// The bytes of a file that is no blob: `oci-layout`, `index.json`.
fn entry(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    if std::fs::symlink_metadata(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Err(Error::input(format!("{} is no OCI layout: it has no {name}", folder.display()))
            .fix("build the image first: cicd build-image, or name its folder with --layout DIR"));
    }
    let size = regular(&path, None)?;
    bounded(&path, size)
}

/// The bytes of a JSON blob, compared with its descriptor's size and digest.
fn json(path: &Path, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let size = regular(path, Some(descriptor.size))?;
    let bytes = bounded(path, size)?;
    let found = Digest::of(&bytes);
    if found != descriptor.digest {
        return Err(broken(path, format!("its bytes have the digest {found}")));
    }
    Ok(bytes)
}

fn bounded(path: &Path, size: u64) -> Result<Vec<u8>> {
    if size > JSON_LIMIT {
        return Err(broken(path, format!("{size} bytes of JSON are more than the {JSON_LIMIT} that registries take")));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| broken(path, error))?;
    file.take(JSON_LIMIT).read_to_end(&mut bytes).map_err(|error| broken(path, error))?;
    Ok(bytes)
}

/// The size of a regular file. A link could lead out of the layout, to anything that this process may read.
fn regular(path: &Path, expected: Option<u64>) -> Result<u64> {
    let meta = std::fs::symlink_metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => broken(path, "it is missing"),
        _ => broken(path, error),
    })?;
    if !meta.is_file() {
        return Err(broken(path, "it is not a regular file"));
    }
    match expected.filter(|expected| *expected != meta.len()) {
        Some(expected) => Err(broken(path, format!("it has {} bytes, and its descriptor says {expected}", meta.len()))),
        None => Ok(meta.len()),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let place = Place { file: path.to_path_buf(), line: error.line() as u64, column: error.column() as u64 };
        let text = error.to_string();
        let why = text.split(" at line ").next().unwrap_or(&text).to_string();
        Error::input("not what an OCI layout has here").at(place).why(why).fix(AGAIN)
    })
}

const AGAIN: &str =
    "build the image again: cicd build-image; where it came from another job, hand over the whole folder";

fn broken(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::input(format!("the layout is broken at {}", path.display())).why(why).fix(AGAIN)
}

#[cfg(test)]
mod tests;
