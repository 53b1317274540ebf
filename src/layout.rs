//! An OCI image layout on disk: read, checked, trusted no further than its digests.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>
//!
//! A layout may come from another job, so that nothing in it is believed: a file is read only when
//! it is a regular file of the size that its descriptor gives, and JSON is parsed only after its
//! digest was compared. What is large (layers) is hashed by who reads it.

pub mod steps;

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::image as oci;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

pub use crate::digest::Digest;
use crate::error::{Error, Place, Result};

/// Manifests and configs are small; a larger one is a mistake or an attack. Registries have the
/// same bound:
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests>
pub const JSON_LIMIT: u64 = 4 * 1024 * 1024;
/// The containerd store nests an index in an index; nobody nests deeper than twice.
const NESTING_LIMIT: usize = 4;
/// Platforms and their attestations. Bounds the work that a layout can ask for.
const DOCUMENT_LIMIT: usize = 256;
/// No engine stacks as many; a manifest of 4 MiB could name thousands.
const LAYER_LIMIT: usize = 1024;

/// The media types that are written here:
/// <https://github.com/opencontainers/image-spec/blob/main/media-types.md>. A layer that is packed
/// has `+gzip` or `+zstd` behind it.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The media type of a statement about an image:
/// <https://github.com/in-toto/attestation/blob/main/spec/v1/envelope.md>
pub const STATEMENT: &str = "application/vnd.in-toto+json";

/// The media types of an index, as OCI and as Docker have them.
pub const INDEXES: [&str; 2] = [INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] = [MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: [&str; 2] = [CONFIG, "application/vnd.docker.container.image.v1+json"];
const LAYERS: [&str; 6] = [
    LAYER,
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];
/// What BuildKit hangs on an image: provenance and SBOM.
/// <https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>
pub const ATTESTATION: &str = "vnd.docker.reference.type";

/// What a manifest says of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    /// In bytes, compressed as it is stored.
    pub size: u64,
    /// `linux/amd64`, `linux/arm64/v8`. An image has one always: where its descriptor says none,
    /// its config does.
    pub platform: Option<String>,
}

/// One image of a layout.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub descriptor: Descriptor,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// Something that refers to an image, and is no part of it: an SBOM, a provenance, a signature.
/// <https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidelines-for-artifact-usage>
#[derive(Clone, Debug)]
pub struct Referrer {
    pub descriptor: Descriptor,
    /// What it refers to: the root, or a manifest below it.
    pub subject: Digest,
    pub blobs: Vec<Descriptor>,
    /// Its entry in a list of referrers, by the rules of the distribution spec.
    pub entry: Value,
}

/// A checked layout.
#[derive(Clone, Debug)]
pub struct Layout {
    folder: PathBuf,
    root: Descriptor,
    manifests: Vec<Manifest>,
    documents: Vec<Descriptor>,
    blobs: BTreeMap<Digest, Descriptor>,
    referrers: Vec<Referrer>,
}

impl Layout {
    /// Reads and checks a layout: one root in index.json and what refers to it, every digest, size
    /// and media type below them, every file there and a regular one. Manifests and configs are
    /// hashed; layers are not, that is for who reads them.
    ///
    /// # Errors
    /// Bad input that names the file and what is wrong with it.
    pub fn open(folder: &Path) -> Result<Layout> {
        let header: oci::OciLayout =
            parse_json(&folder.join("oci-layout"), &read_entry(folder, "oci-layout")?)?;
        if header.image_layout_version() != "1.0.0" {
            return Err(describe_broken(
                &folder.join("oci-layout"),
                format!(
                    "it is of version `{}`, and only 1.0.0 is known",
                    header.image_layout_version()
                ),
            ));
        }
        for part in ["blobs", "blobs/sha256"] {
            let path = folder.join(part);
            if !std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                return Err(describe_broken(&path, "it is not a folder"));
            }
        }
        let path = folder.join("index.json");
        let index: oci::ImageIndex = parse_json(&path, &read_entry(folder, "index.json")?)?;
        let mut reader = Reader {
            folder,
            seen: HashMap::new(),
            manifests: vec![],
            documents: vec![],
            blobs: BTreeMap::new(),
        };
        let (referring, images) = reader.sorted(&path, &index)?;
        reader.document(&path, find_root(&path, &images)?, 0)?;
        // The root is read first and kept last, behind all that it refers to.
        let root = reader
            .documents
            .last()
            .cloned()
            .ok_or_else(|| describe_broken(&path, "it has no image"))?;
        if reader.manifests.is_empty() {
            return Err(describe_broken(&path, format!("there is no image below {}", root.digest)));
        }
        let referrers = referring
            .into_iter()
            .map(|(descriptor, written)| reader.referrer(descriptor, &written));
        let referrers = referrers.collect::<Result<Vec<_>>>()?;
        let Reader { manifests, documents, blobs, .. } = reader;
        Ok(Layout { folder: folder.to_path_buf(), root, manifests, documents, blobs, referrers })
    }

    /// The one image of index.json.
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

    /// Every manifest and index, attestations too: each behind all that it refers to, the root
    /// last.
    pub fn documents(&self) -> &[Descriptor] {
        &self.documents
    }

    /// Every config and layer once, in the order of digests.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.blobs.values()
    }

    /// What refers to the image and goes with it. Its blobs are not among [`Layout::blobs`].
    pub fn referrers(&self) -> &[Referrer] {
        &self.referrers
    }

    /// All that a registry stores for this layout, in bytes: blobs compressed, as they are, each
    /// once, and manifests.
    pub fn size(&self) -> u64 {
        let referring =
            self.referrers.iter().flat_map(|one| one.blobs.iter().chain([&one.descriptor]));
        let all = self.blobs.values().chain(&self.documents).chain(referring);
        let each: HashMap<&Digest, u64> =
            all.map(|descriptor| (&descriptor.digest, descriptor.size)).collect();
        each.values().fold(0, |sum, size| sum.saturating_add(*size))
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
        read_json(&self.blob(&descriptor.digest), descriptor)
    }
}

/// The state of one walk from the root down.
struct Reader<'a> {
    folder: &'a Path,
    /// Every document that was met, and what it was called.
    seen: HashMap<Digest, String>,
    manifests: Vec<Manifest>,
    documents: Vec<Descriptor>,
    blobs: BTreeMap<Digest, Descriptor>,
}

impl Reader<'_> {
    /// Reads an index or a manifest that `parent` refers to, and all below it.
    fn document(&mut self, parent: &Path, written: &oci::Descriptor, nesting: usize) -> Result<()> {
        let mut descriptor = read_descriptor(parent, written, &[&INDEXES, &MANIFESTS])?;
        let path = self.path(&descriptor);
        if let Some(before) =
            self.seen.insert(descriptor.digest.clone(), descriptor.media_type.clone())
        {
            check_regular(&path, Some(descriptor.size))?;
            return match before == descriptor.media_type {
                true => Ok(()),
                false => Err(describe_broken(
                    parent,
                    format!(
                        "{} is `{before}` and `{}` at once",
                        descriptor.digest, descriptor.media_type
                    ),
                )),
            };
        }
        if nesting >= NESTING_LIMIT {
            return Err(describe_broken(
                parent,
                format!("indexes are nested more than {NESTING_LIMIT} deep"),
            ));
        }
        if self.seen.len() > DOCUMENT_LIMIT {
            return Err(describe_broken(
                parent,
                format!("there are more than {DOCUMENT_LIMIT} manifests"),
            ));
        }
        let bytes = read_json(&path, &descriptor)?;
        let is_index = INDEXES.contains(&descriptor.media_type.as_str());
        refuse_two_meanings(&path, &bytes, &descriptor.media_type, is_index)?;
        if is_index {
            let index: oci::ImageIndex = parse_json(&path, &bytes)?;
            for child in index.manifests() {
                self.document(&path, child, nesting + 1)?;
            }
        } else {
            let manifest: oci::ImageManifest = parse_json(&path, &bytes)?;
            let attestation =
                written.annotations().as_ref().is_some_and(|notes| notes.contains_key(ATTESTATION));
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

    /// The entries of index.json, each digest once: manifests with a `subject` refer to an image,
    /// all others are one.
    fn sorted<'i>(
        &self,
        path: &Path,
        index: &'i oci::ImageIndex,
    ) -> Result<(Vec<(Descriptor, oci::ImageManifest)>, Vec<&'i oci::Descriptor>)> {
        let (mut referring, mut images) = (Vec::new(), Vec::new());
        let mut seen: HashMap<&str, &oci::MediaType> = HashMap::new();
        for written in index.manifests() {
            if seen.len() > DOCUMENT_LIMIT {
                return Err(describe_broken(
                    path,
                    format!("there are more than {DOCUMENT_LIMIT} manifests"),
                ));
            }
            if seen.insert(written.digest().as_ref(), written.media_type())
                == Some(written.media_type())
            {
                continue;
            }
            let descriptor = read_descriptor(path, written, &[&INDEXES, &MANIFESTS])?;
            if descriptor.media_type == MANIFESTS[0] {
                let at = self.path(&descriptor);
                let bytes = read_json(&at, &descriptor)?;
                let Refers { subject } = parse_json(&at, &bytes)?;
                if subject.is_some() {
                    refuse_two_meanings(&at, &bytes, &descriptor.media_type, false)?;
                    referring.push((descriptor, parse_json(&at, &bytes)?));
                    continue;
                }
            }
            images.push(written);
        }
        Ok((referring, images))
    }

    /// Checks what refers to an image of this layout. What is in it is anybody's, so that any media
    /// type will do that is one.
    fn referrer(&self, descriptor: Descriptor, written: &oci::ImageManifest) -> Result<Referrer> {
        let path = self.path(&descriptor);
        let subject = written
            .subject()
            .as_ref()
            .map(|subject| read_descriptor(&path, subject, &[&INDEXES, &MANIFESTS]));
        let subject = subject.ok_or_else(|| describe_broken(&path, "it has no subject"))??;
        let about = self.documents.iter().find(|document| document.digest == subject.digest);
        if about.is_none_or(|about| {
            about.size != subject.size || about.media_type != subject.media_type
        }) {
            return Err(describe_broken(
                &path,
                format!("its subject {} is not in this layout", subject.digest),
            ));
        }
        if written.layers().len() > LAYER_LIMIT {
            return Err(describe_broken(&path, format!("it has more than {LAYER_LIMIT} layers")));
        }
        let blobs = [written.config()].into_iter().chain(written.layers()).map(|blob| {
            let kind = read_media_type(&path, blob.media_type())?;
            self.there(&path, blob, &[&[&kind]])
        });
        let blobs = blobs.collect::<Result<Vec<_>>>()?;
        let kind =
            written.artifact_type().as_ref().unwrap_or_else(|| written.config().media_type());
        let mut entry = serde_json::json!({
            "mediaType": descriptor.media_type, "digest": descriptor.digest.as_str(), "size": descriptor.size,
            "artifactType": read_media_type(&path, kind)?,
        });
        if let Some(notes) = written.annotations().as_ref().filter(|notes| !notes.is_empty()) {
            let sorted: BTreeMap<&String, &String> = notes.iter().collect();
            entry["annotations"] = serde_json::json!(sorted);
        }
        Ok(Referrer { descriptor, subject: subject.digest, blobs, entry })
    }

    fn image(
        &mut self,
        path: &Path,
        descriptor: &Descriptor,
        written: &oci::ImageManifest,
    ) -> Result<Manifest> {
        let config = self.keep(path, written.config(), &[&CONFIGS])?;
        let at = self.path(&config);
        let says: oci::ImageConfiguration = parse_json(&at, &read_json(&at, &config)?)?;
        if written.layers().len() > LAYER_LIMIT {
            return Err(describe_broken(path, format!("it has more than {LAYER_LIMIT} layers")));
        }
        let layers = written.layers().iter().map(|layer| self.keep(path, layer, &[&LAYERS]));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let unpacked = says.rootfs().diff_ids().len();
        if unpacked != layers.len() {
            return Err(describe_broken(
                path,
                format!("it has {} layers, and its config {unpacked}", layers.len()),
            ));
        }
        let mut descriptor = descriptor.clone();
        if descriptor.platform.is_none() {
            descriptor.platform = Some(read_platform(
                &at,
                says.os(),
                says.architecture(),
                says.variant().as_deref(),
            )?);
        }
        Ok(Manifest { descriptor, config, layers })
    }

    fn attestation(&mut self, path: &Path, written: &oci::ImageManifest) -> Result<()> {
        self.keep(path, written.config(), &[&CONFIGS, &[EMPTY]])?;
        for layer in written.layers() {
            self.keep(path, layer, &[&[STATEMENT]])?;
        }
        Ok(())
    }

    /// Checks a blob of the image, and keeps it.
    fn keep(
        &mut self,
        path: &Path,
        written: &oci::Descriptor,
        allowed: &[&[&str]],
    ) -> Result<Descriptor> {
        let descriptor = self.there(path, written, allowed)?;
        self.blobs.entry(descriptor.digest.clone()).or_insert_with(|| descriptor.clone());
        Ok(descriptor)
    }

    /// Checks a blob's descriptor and its file.
    fn there(
        &self,
        path: &Path,
        written: &oci::Descriptor,
        allowed: &[&[&str]],
    ) -> Result<Descriptor> {
        let descriptor = read_descriptor(path, written, allowed)?;
        if descriptor.size == 0 {
            return Err(describe_broken(
                path,
                format!("{} has no bytes, and no engine unpacks such a layer", descriptor.digest),
            ));
        }
        check_regular(&self.path(&descriptor), Some(descriptor.size))?;
        Ok(descriptor)
    }

    fn path(&self, descriptor: &Descriptor) -> PathBuf {
        self.folder.join("blobs/sha256").join(descriptor.digest.hex())
    }
}

/// The root. An image with several names stands in index.json once a name, and is one image.
fn find_root<'a>(path: &Path, images: &[&'a oci::Descriptor]) -> Result<&'a oci::Descriptor> {
    match images {
        [] => Err(describe_broken(path, "it has no image")),
        [one] => Ok(one),
        [one, other, ..] => Err(describe_broken(
            path,
            format!("it has two images, {} and {}", one.digest(), other.digest()),
        )
        .fix("build one image at a time; several platforms of one image are one index")),
    }
}

/// Whether a manifest refers to another.
#[derive(serde::Deserialize)]
struct Refers {
    subject: Option<IgnoredAny>,
}

/// A media type as RFC 6838 has them. It is handed on to registries.
fn read_media_type(path: &Path, written: &oci::MediaType) -> Result<String> {
    let text = written.to_string();
    let part = |part: &str| {
        part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    match text
        .split_once('/')
        .is_some_and(|(one, other)| part(one) && part(other) && text.len() <= 255)
    {
        true => Ok(text),
        false => {
            Err(describe_broken(path, format!("`{}` is no media type", text.escape_default())))
        }
    }
}

/// A descriptor in our own words, when its media type is one of `allowed` and its digest SHA-256.
fn read_descriptor(
    path: &Path,
    written: &oci::Descriptor,
    allowed: &[&[&str]],
) -> Result<Descriptor> {
    let media_type = written.media_type().to_string();
    if !allowed.iter().any(|types| types.contains(&media_type.as_str())) {
        let types: Vec<&str> = allowed.iter().flat_map(|types| types.iter().copied()).collect();
        return Err(describe_broken(
            path,
            format!("unknown media type `{}`", media_type.escape_default()),
        )
        .fix(format!("known here: {}", types.join(", "))));
    }
    let digest = Digest::parse(written.digest().as_ref()).map_err(|_| {
        describe_broken(
            path,
            format!("`{}` is no sha256 digest", written.digest().as_ref().escape_default()),
        )
    })?;
    let platform = match written.platform() {
        Some(of) => Some(read_platform(path, of.os(), of.architecture(), of.variant().as_deref())?),
        None => None,
    };
    Ok(Descriptor { media_type, digest, size: written.size(), platform })
}

/// `linux/amd64`, `linux/arm64/v8`. It is shown and handed on, so that it may have no other
/// characters than these have.
fn read_platform(
    path: &Path,
    os: &oci::Os,
    architecture: &oci::Arch,
    variant: Option<&str>,
) -> Result<String> {
    let text = [Some(os.to_string()), Some(architecture.to_string()), variant.map(str::to_string)];
    let text = text.into_iter().flatten().collect::<Vec<_>>().join("/");
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    match text.split('/').all(plain) {
        true => Ok(text),
        false => Err(describe_broken(path, format!("`{}` is no platform", text.escape_default()))),
    }
}

/// A document that is an index to one reader and a manifest to another would let two readers see
/// two images.
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
    let meaning: Meaning = parse_json(path, bytes)?;
    if let Some(own) = meaning.media_type.filter(|own| own != media_type) {
        return Err(describe_broken(
            path,
            format!(
                "it calls itself `{}`, and is referred to as `{media_type}`",
                own.escape_default()
            ),
        ));
    }
    let other = if is_index { meaning.layers.or(meaning.config) } else { meaning.manifests };
    match other {
        Some(_) => Err(describe_broken(path, "it is an index and a manifest at once")),
        None => Ok(()),
    }
}

/// The bytes of a file that is no blob: `oci-layout`, `index.json`.
fn read_entry(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    if folder.is_file() {
        return Err(Error::input(format!(
            "cannot open {}: it is a file, and no OCI layout",
            folder.display()
        ))
        .fix(
            "give the folder that build-image wrote; an archive is unpacked first: mkdir DIR && \
             tar -xf FILE -C DIR",
        ));
    }
    if std::fs::symlink_metadata(&path)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    {
        return Err(Error::input(format!(
            "cannot open {}: it is no OCI layout: it has no {name}",
            folder.display()
        ))
        .fix("build the image first: cicd build-image, or name its folder with --layout DIR"));
    }
    let size = check_regular(&path, None)?;
    read_bounded(&path, size)
}

/// The bytes of a JSON blob, compared with its descriptor's size and digest.
fn read_json(path: &Path, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let size = check_regular(path, Some(descriptor.size))?;
    let bytes = read_bounded(path, size)?;
    let found = Digest::of(&bytes);
    if found != descriptor.digest {
        return Err(describe_broken(path, format!("its bytes have the digest {found}")));
    }
    Ok(bytes)
}

fn read_bounded(path: &Path, size: u64) -> Result<Vec<u8>> {
    if size > JSON_LIMIT {
        return Err(describe_broken(
            path,
            format!("{size} bytes of JSON are more than the {JSON_LIMIT} that registries take"),
        ));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| describe_broken(path, error))?;
    file.take(JSON_LIMIT).read_to_end(&mut bytes).map_err(|error| describe_broken(path, error))?;
    Ok(bytes)
}

/// The size of a regular file. A link could lead out of the layout, to anything that this process
/// may read.
fn check_regular(path: &Path, expected: Option<u64>) -> Result<u64> {
    let meta = std::fs::symlink_metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => describe_broken(path, "it is missing"),
        _ => describe_broken(path, error),
    })?;
    if !meta.is_file() {
        return Err(describe_broken(path, "it is not a regular file"));
    }
    match expected.filter(|expected| *expected != meta.len()) {
        Some(expected) => Err(describe_broken(
            path,
            format!("it has {} bytes, and its descriptor says {expected}", meta.len()),
        )),
        None => Ok(meta.len()),
    }
}

fn parse_json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let place = Place {
            file: path.to_path_buf(),
            line: error.line() as u64,
            column: error.column() as u64,
        };
        let text = error.to_string();
        let why = text.split(" at line ").next().unwrap_or(&text).to_string();
        Error::input("cannot read the layout: this is not what it has here")
            .at(place)
            .why(why)
            .fix(AGAIN)
    })
}

const AGAIN: &str = "build the image again: cicd build-image; where it came from another job, hand \
                     over the whole folder";

fn describe_broken(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::input(format!("cannot read the layout: it is broken at {}", path.display()))
        .why(why)
        .fix(AGAIN)
}

#[cfg(test)]
pub(crate) mod tests;
