//! OCI layouts made by hand, of random layers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A layout in a folder of its own.
pub struct Layout {
    folder: tempfile::TempDir,
    /// `sha256:…` of the root.
    pub digest: String,
    /// Every manifest and index, by digest.
    pub documents: BTreeMap<String, Vec<u8>>,
    /// Every config and layer, by digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
}

impl Layout {
    /// One image of `layers`.
    pub fn image(layers: &[Vec<u8>]) -> Layout {
        let mut layout = Layout::empty();
        let root = layout.manifest(layers, "amd64");
        layout.finish(root)
    }

    /// An index of two images that share the first layer, and an attestation of one.
    pub fn index(layers: &[Vec<u8>]) -> Layout {
        let mut layout = Layout::empty();
        let mut amd = layout.manifest(&layers[..layers.len() - 1], "amd64");
        let mut arm =
            layout.manifest(&[layers[0].clone(), layers[layers.len() - 1].clone()], "arm64");
        amd["platform"] = json!({ "os": "linux", "architecture": "amd64" });
        arm["platform"] = json!({ "os": "linux", "architecture": "arm64" });
        let statement = layout.blob(
            "application/vnd.in-toto+json",
            br#"{"_type":"https://in-toto.io/Statement/v0.1"}"#.to_vec(),
        );
        let config = json!({ "os": "unknown", "architecture": "unknown", "rootfs": { "type": "layers", "diff_ids": [] } });
        let config = layout
            .blob("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
        let attestation = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [statement] });
        let mut attestation = layout.document(MANIFEST, &attestation);
        attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
        attestation["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": amd["digest"] });
        let root = layout
            .document(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [amd, arm, attestation] }));
        layout.finish(root)
    }

    /// One image that says which commit it was built from.
    pub fn of_commit(revision: &str) -> Layout {
        let mut layout = Layout::empty();
        let layer = layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", random(100));
        let labels = json!({ "org.opencontainers.image.revision": revision });
        let config = json!({
            "os": "linux", "architecture": "amd64", "config": { "Labels": labels },
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let config = layout
            .blob("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
        let root = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        let mut root = layout.document(MANIFEST, &root);
        root["platform"] = json!({ "os": "linux", "architecture": "amd64" });
        let index = layout.document(
            INDEX,
            &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [root] }),
        );
        layout.finish(index)
    }

    /// One image whose `layers` are packed with zstd.
    pub fn zstd(layers: &[Vec<u8>]) -> Layout {
        let mut layout = Layout::empty();
        let root =
            layout.manifest_of(layers, "application/vnd.oci.image.layer.v1.tar+zstd", "amd64");
        layout.finish(root)
    }

    /// One image of `layers`, and an SBOM that refers to it; gives the SBOM's digest, too.
    pub fn with_sbom(layers: &[Vec<u8>]) -> (Layout, String) {
        let (layout, mut referrers) = Layout::with_referrers(layers, 1);
        (layout, referrers.remove(0))
    }

    /// One image of `layers`, and so many SBOMs that refer to it, with their digests.
    pub fn with_referrers(layers: &[Vec<u8>], count: usize) -> (Layout, Vec<String>) {
        let mut layout = Layout::empty();
        let root = layout.manifest(layers, "amd64");
        let config = layout.blob("application/vnd.oci.empty.v1+json", b"{}".to_vec());
        let mut manifests = vec![root.clone()];
        for _ in 0..count {
            let sbom = layout.blob("application/spdx+json", random(500));
            let sbom = json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/spdx+json",
                "config": config, "layers": [sbom], "subject": root,
            });
            manifests.push(layout.document(MANIFEST, &sbom));
        }
        let digest = |sbom: &Value| sbom["digest"].as_str().expect("a digest").to_string();
        let digests = manifests[1..].iter().map(digest).collect();
        let layout = layout.finish(root);
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        std::fs::write(layout.path().join("index.json"), index.to_string()).expect("written");
        (layout, digests)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Everything that a registry stores of it, in bytes.
    pub fn size(&self) -> u64 {
        self.documents.values().chain(self.blobs.values()).map(|bytes| bytes.len() as u64).sum()
    }

    /// The file of a blob.
    pub fn file(&self, digest: &str) -> PathBuf {
        self.path().join("blobs").join(digest.replace(':', "/"))
    }

    /// The digest of the largest blob.
    pub fn largest(&self) -> &str {
        self.blobs
            .iter()
            .max_by_key(|(_, bytes)| bytes.len())
            .map(|(digest, _)| digest)
            .expect("a blob")
    }

    fn empty() -> Layout {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("blobs/sha256")).expect("folders");
        std::fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("written");
        Layout { folder, digest: String::new(), documents: BTreeMap::new(), blobs: BTreeMap::new() }
    }

    fn finish(mut self, root: Value) -> Layout {
        self.digest = root["digest"].as_str().expect("a digest").to_string();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [root] });
        std::fs::write(self.path().join("index.json"), index.to_string()).expect("written");
        self
    }

    fn manifest(&mut self, layers: &[Vec<u8>], architecture: &str) -> Value {
        self.manifest_of(layers, "application/vnd.oci.image.layer.v1.tar+gzip", architecture)
    }

    fn manifest_of(&mut self, layers: &[Vec<u8>], media_type: &str, architecture: &str) -> Value {
        let diffs: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
        let config = json!({ "os": "linux", "architecture": architecture, "config": {}, "rootfs": { "type": "layers", "diff_ids": diffs } });
        let config =
            self.blob("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
        let layers: Vec<Value> =
            layers.iter().map(|layer| self.blob(media_type, layer.clone())).collect();
        self.document(
            MANIFEST,
            &json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers }),
        )
    }

    fn document(&mut self, media_type: &str, document: &Value) -> Value {
        let bytes = document.to_string().into_bytes();
        let descriptor = self.write(media_type, &bytes);
        self.documents.insert(sha256(&bytes), bytes);
        descriptor
    }

    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let descriptor = self.write(media_type, &bytes);
        self.blobs.insert(sha256(&bytes), bytes);
        descriptor
    }

    fn write(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        std::fs::write(self.file(&digest), bytes).expect("written");
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }
}

/// `bytes` that no other test has.
pub fn random(bytes: usize) -> Vec<u8> {
    let mut layer = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut layer).expect("randomness");
    layer
}

pub fn sha256(bytes: &[u8]) -> String {
    let hex: String =
        digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
