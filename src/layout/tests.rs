//! Layouts, whole and broken in every way that was thought of.

use serde_json::{Value, json};

use super::*;

const INDEX: &str = INDEXES[0];
const MANIFEST: &str = MANIFESTS[0];
const LAYER: &str = LAYERS[1];

/// A layout that a test writes, well or badly.
pub(crate) struct Draft(tempfile::TempDir);

impl Draft {
    pub(crate) fn new() -> Draft {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("blobs/sha256")).expect("folders");
        let draft = Draft(folder);
        draft.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        draft
    }
    /// One image of `layers`, as index.json's root.
    pub(crate) fn image(layers: &[&[u8]]) -> Draft {
        let draft = Draft::new();
        let manifest = draft.manifest(layers, "amd64");
        draft.root(&manifest);
        draft
    }
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.path().join(name), bytes).expect("written");
    }
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.write(&format!("blobs/sha256/{}", digest.hex()), bytes);
        json!({ "mediaType": media_type, "digest": digest.as_str(), "size": bytes.len() })
    }
    pub(crate) fn document(&self, document: &Value) -> Value {
        self.blob(
            document["mediaType"].as_str().unwrap_or(MANIFEST),
            document.to_string().as_bytes(),
        )
    }
    fn parts(&self, layers: &[&[u8]], architecture: &str) -> Value {
        let diffs: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let config = json!({ "os": "linux", "architecture": architecture, "rootfs": { "type": "layers", "diff_ids": diffs } });
        let layers: Vec<Value> = layers.iter().map(|layer| self.blob(LAYER, layer)).collect();
        let config = self.blob(CONFIGS[0], config.to_string().as_bytes());
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers })
    }
    pub(crate) fn manifest(&self, layers: &[&[u8]], architecture: &str) -> Value {
        self.document(&self.parts(layers, architecture))
    }
    pub(crate) fn index(&self, manifests: &[Value]) -> Value {
        self.document(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }))
    }
    pub(crate) fn root(&self, descriptor: &Value) {
        self.write(
            "index.json",
            json!({ "schemaVersion": 2, "manifests": [descriptor] }).to_string().as_bytes(),
        );
    }
    fn path(&self, descriptor: &Value) -> PathBuf {
        self.0
            .path()
            .join("blobs")
            .join(descriptor["digest"].as_str().expect("a digest").replace(':', "/"))
    }
    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }
    /// Something with `layers` of any kind that refers to `subject`.
    pub(crate) fn referrer(&self, subject: &Value, layers: &[Value]) -> Value {
        let config = self.blob("application/vnd.oci.empty.v1+json", b"{}");
        let notes = json!({ "org.opencontainers.image.created": "2026-11-01T12:00:00Z" });
        self.document(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/spdx+json", "config": config,
            "layers": layers, "subject": subject, "annotations": notes,
        }))
    }
    /// index.json with these entries.
    pub(crate) fn roots(&self, descriptors: &[&Value]) {
        self.write(
            "index.json",
            json!({ "schemaVersion": 2, "manifests": descriptors }).to_string().as_bytes(),
        );
    }
    pub(crate) fn open(&self) -> Result<Layout> {
        Layout::open(self.0.path())
    }
}

/// `value` with `key` set.
fn with(mut value: Value, key: &str, to: Value) -> Value {
    value[key] = to;
    value
}

#[test]
fn one_image_is_read() {
    let draft = Draft::image(&[b"one", b"two", b"one"]);
    let layout = draft.open().expect("a layout");
    assert_eq!(layout.platforms(), ["linux/amd64"], "from the config: its descriptor has none");
    assert_eq!(layout.root().digest, layout.manifests()[0].descriptor.digest);
    assert_eq!(layout.manifests()[0].layers.len(), 3);
    assert_eq!(
        layout.blobs().count(),
        3,
        "a layer that is there twice is one blob, and there is the config"
    );
    let blobs: u64 = layout.blobs().map(|blob| blob.size).sum();
    assert_eq!(layout.size(), blobs + layout.root().size);
    assert!(layout.blobs().all(|blob| layout.blob(&blob.digest).is_file()));
}

#[test]
fn several_platforms_with_attestations_are_read_children_first() {
    let draft = Draft::new();
    let platform = |of: &str| json!({ "os": "linux", "architecture": of });
    let amd = with(draft.manifest(&[b"one", b"amd"], "amd64"), "platform", platform("amd64"));
    let arm = draft.manifest(&[b"one", b"arm"], "arm64");
    let arm =
        with(arm, "platform", json!({ "os": "linux", "architecture": "arm64", "variant": "v8" }));
    let statement = draft.blob(STATEMENT, b"{}");
    let attestation =
        draft.document(&with(draft.parts(&[], "unknown"), "layers", json!([statement])));
    let attestation =
        with(attestation, "annotations", json!({ ATTESTATION: "attestation-manifest" }));
    let attestation =
        with(attestation, "platform", json!({ "os": "unknown", "architecture": "unknown" }));
    let inner = draft.index(&[amd, arm, attestation]);
    // As the containerd store writes it: an index in index.json, and once a name.
    draft.write(
        "index.json",
        json!({ "schemaVersion": 2, "manifests": [inner, inner] }).to_string().as_bytes(),
    );
    let layout = draft.open().expect("a layout");
    assert_eq!(layout.platforms(), ["linux/amd64", "linux/arm64/v8"]);
    assert_eq!(layout.documents().len(), 4);
    assert_eq!(layout.documents().last(), Some(layout.root()));
    assert_eq!(layout.root().media_type, INDEX);
}

#[test]
fn a_broken_layout_is_refused_and_the_file_is_named() {
    type Break = fn(&Draft, &Value);
    let cases: [(&str, Break, &str); 30] = [
        (
            "no header",
            |draft, _| std::fs::remove_file(draft.0.path().join("oci-layout")).expect("removed"),
            "has no oci-layout",
        ),
        (
            "another version",
            |draft, _| draft.write("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#),
            "`2.0.0`",
        ),
        (
            "no index",
            |draft, _| std::fs::remove_file(draft.0.path().join("index.json")).expect("removed"),
            "has no index.json",
        ),
        (
            "no JSON",
            |draft, _| draft.write("index.json", b"{\n  oops"),
            "index.json:2:3: cannot read the layout: this is not what it has here",
        ),
        (
            "deep JSON",
            |draft, _| draft.write("index.json", "[".repeat(100_000).as_bytes()),
            "index.json:1:",
        ),
        ("large JSON", |draft, _| draft.write("index.json", &vec![b' '; 5 << 20]), "bytes of JSON"),
        (
            "no image",
            |draft, _| draft.write("index.json", br#"{"schemaVersion":2,"manifests":[]}"#),
            "index.json: it has no image",
        ),
        (
            "an empty index",
            |draft, _| draft.root(&draft.index(&[])),
            "index.json: there is no image below",
        ),
        (
            "two images",
            |draft, root| {
                let both = [root, &draft.manifest(&[b"other"], "amd64")];
                draft.write(
                    "index.json",
                    json!({ "schemaVersion": 2, "manifests": both }).to_string().as_bytes(),
                );
            },
            "index.json: it has two images",
        ),
        (
            "a missing manifest",
            |draft, root| std::fs::remove_file(draft.path(root)).expect("removed"),
            "it is missing",
        ),
        (
            "a changed manifest",
            |draft, root| {
                let text = std::fs::read_to_string(draft.path(root)).expect("text");
                std::fs::write(draft.path(root), text.replace("layers", "Layers"))
                    .expect("written");
            },
            "its bytes have the digest sha256:",
        ),
        (
            "another size",
            |draft, root| draft.root(&with(root.clone(), "size", json!(7))),
            "its descriptor says 7",
        ),
        (
            "a negative size",
            |draft, root| draft.root(&with(root.clone(), "size", json!(-1))),
            "index.json:1:",
        ),
        (
            "traversal",
            |draft, root| {
                draft.root(&with(root.clone(), "digest", json!("sha256:../../../../etc/passwd")))
            },
            "index.json:1:",
        ),
        (
            "another hash",
            |draft, root| {
                draft.root(&with(
                    root.clone(),
                    "digest",
                    json!(format!("sha512:{}", "a".repeat(128))),
                ))
            },
            "is no sha256 digest",
        ),
        (
            "an unknown type",
            |draft, root| draft.root(&with(root.clone(), "mediaType", json!("text/\u{1b}html"))),
            "unknown media type `text/\\u{1b}html`",
        ),
        (
            "a type that lies",
            |draft, root| draft.root(&with(root.clone(), "mediaType", json!(INDEX))),
            "it calls itself",
        ),
        (
            "a link",
            |draft, root| {
                std::fs::rename(draft.path(root), draft.0.path().join("away")).expect("moved");
                std::os::unix::fs::symlink(draft.0.path().join("away"), draft.path(root))
                    .expect("a link");
            },
            "it is not a regular file",
        ),
        (
            "linked blobs",
            |draft, _| {
                std::fs::rename(draft.0.path().join("blobs"), draft.0.path().join("away"))
                    .expect("moved");
                std::os::unix::fs::symlink(
                    draft.0.path().join("away"),
                    draft.0.path().join("blobs"),
                )
                .expect("a link");
            },
            "blobs: it is not a folder",
        ),
        (
            "an index and a manifest",
            |draft, _| {
                let mut both = draft.parts(&[b"one"], "amd64");
                both["manifests"] = json!([]);
                draft.root(&draft.document(&both));
            },
            "it is an index and a manifest at once",
        ),
        (
            "deep nesting",
            |draft, root| {
                let deep = (0..6).fold(root.clone(), |inner, _| draft.index(&[inner]));
                draft.root(&deep);
            },
            "nested more than 4 deep",
        ),
        (
            "too many",
            |draft, _| {
                let many: Vec<Value> =
                    (0..300).map(|n: u32| draft.manifest(&[&n.to_le_bytes()], "amd64")).collect();
                draft.root(&draft.index(&many));
            },
            "more than 256 manifests",
        ),
        (
            "a pipe",
            |draft, root| {
                std::fs::remove_file(draft.path(root)).expect("removed");
                let made = std::os::unix::net::UnixListener::bind(draft.path(root));
                drop(made.expect("a socket"));
            },
            "it is not a regular file",
        ),
        (
            "a linked index",
            |draft, _| {
                std::os::unix::fs::symlink("index.json", draft.folder().join("oci-layout.new"))
                    .expect("a link");
                std::fs::rename(
                    draft.folder().join("oci-layout.new"),
                    draft.folder().join("oci-layout"),
                )
                .expect("moved");
            },
            "it is not a regular file",
        ),
        (
            "a cut manifest",
            |draft, root| {
                let bytes = std::fs::read(draft.path(root)).expect("a manifest");
                std::fs::write(draft.path(root), &bytes[..bytes.len() / 2]).expect("written");
            },
            "its descriptor says",
        ),
        (
            "a circle",
            |draft, root| {
                // An index cannot have its own digest in it; one whose file says so all the same
                // has other bytes.
                let circle = draft.index(std::slice::from_ref(root));
                let inner =
                    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [circle] })
                        .to_string();
                std::fs::write(draft.path(&circle), &inner).expect("written");
                draft.root(&with(circle, "size", json!(inner.len())));
            },
            "its bytes have the digest sha256:",
        ),
        (
            "one manifest of two kinds",
            |draft, _| {
                let mut plain = draft.parts(&[b"one"], "amd64");
                plain.as_object_mut().expect("an object").remove("mediaType");
                let plain = draft.document(&plain);
                let other = with(plain.clone(), "mediaType", json!(MANIFESTS[1]));
                draft.root(&draft.index(&[plain, other]));
            },
            "at once",
        ),
        (
            "too many layers",
            |draft, _| {
                let layer = draft.blob(LAYER, b"one");
                let many = vec![layer; 2000];
                draft.root(&draft.document(&with(
                    draft.parts(&[b"one"], "amd64"),
                    "layers",
                    json!(many),
                )));
            },
            "more than 1024 layers",
        ),
        (
            "a referrer of nothing here",
            |draft, root| {
                let elsewhere =
                    with(root.clone(), "digest", json!(Digest::of(b"elsewhere").as_str()));
                draft.roots(&[root, &draft.referrer(&elsewhere, &[])]);
            },
            "is not in this layout",
        ),
        (
            "a referrer of odd things",
            |draft, root| {
                let odd = draft.blob("text/ht\u{1b}ml", b"odd");
                draft.roots(&[root, &draft.referrer(root, &[odd])]);
            },
            "is no media type",
        ),
    ];
    for (case, damage, expected) in cases {
        let draft = Draft::new();
        let root = draft.manifest(&[b"one"], "amd64");
        draft.root(&root);
        draft.open().expect("whole before it is broken");
        damage(&draft, &root);
        let error = draft.open().expect_err(case);
        assert!(error.to_string().contains(expected), "{case}: {error}");
        assert!(
            error.to_string().contains(&draft.0.path().display().to_string()),
            "{case}: {error}"
        );
        assert_eq!(
            (error.kind, !error.fixes.is_empty()),
            (crate::error::Kind::Input, true),
            "{case}"
        );
    }
}

#[test]
fn a_broken_image_is_refused() {
    type Damage = fn(&Draft, Value) -> Value;
    let cases: [(&str, Damage, &str); 6] = [
        (
            "an empty layer",
            |draft, image| with(image, "layers", json!([draft.blob(LAYER, b"")])),
            "has no bytes",
        ),
        (
            "a missing layer",
            |_, image| {
                let gone = json!({ "mediaType": LAYER, "digest": Digest::of(b"gone").as_str(), "size": 4 });
                with(image, "layers", json!([gone]))
            },
            "it is missing",
        ),
        (
            "a truncated layer",
            |draft, image| {
                with(image, "layers", json!([with(draft.blob(LAYER, b"four"), "size", json!(5))]))
            },
            "has 4 bytes",
        ),
        (
            "a foreign layer",
            |draft, image| {
                let foreign =
                    draft.blob("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"one");
                with(image, "layers", json!([foreign]))
            },
            "unknown media type",
        ),
        (
            "a layer too many",
            |draft, image| {
                let one = draft.blob(LAYER, b"one");
                with(image, "layers", json!([one, one]))
            },
            "it has 2 layers, and its config 1",
        ),
        (
            "a platform with a line in it",
            |draft, image| {
                let config = json!({ "os": "li\nnux", "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": ["sha256:1"] } });
                with(image, "config", draft.blob(CONFIGS[0], config.to_string().as_bytes()))
            },
            "`li\\nnux/amd64` is no platform",
        ),
    ];
    for (case, damage, expected) in cases {
        let draft = Draft::new();
        let image = draft.parts(&[b"one"], "amd64");
        draft.root(&draft.document(&damage(&draft, image)));
        let error = draft.open().expect_err(case);
        assert!(error.to_string().contains(expected), "{case}: {error}");
    }
}

#[test]
fn what_refers_to_the_image_goes_with_it() {
    let draft = Draft::new();
    let root = draft.manifest(&[b"one"], "amd64");
    let sbom = draft.blob("application/spdx+json", b"an sbom");
    let referrer = draft.referrer(&root, &[sbom]);
    draft.root(&root);
    let alone = draft.open().expect("a layout");
    draft.roots(&[&referrer, &root, &referrer]);
    let layout = draft.open().expect("a layout");
    assert_eq!(layout.root(), alone.root());
    assert_eq!(
        layout.blobs().collect::<Vec<_>>(),
        alone.blobs().collect::<Vec<_>>(),
        "no part of the image"
    );
    let [one] = layout.referrers() else { panic!("one referrer") };
    assert_eq!((&one.subject, one.blobs.len()), (&layout.root().digest, 2));
    assert_eq!(one.entry["artifactType"], "application/spdx+json");
    assert_eq!(one.entry["digest"], one.descriptor.digest.as_str());
    assert_eq!(
        one.entry["annotations"]["org.opencontainers.image.created"],
        "2026-11-01T12:00:00Z"
    );
    assert_eq!(layout.size(), alone.size() + one.descriptor.size + 2 + 7);
    draft.roots(&[&referrer]);
    assert!(draft.open().expect_err("nothing to run").to_string().contains("it has no image"));
}

#[test]
fn an_archive_is_no_layout() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let error = Layout::open(file.path()).expect_err("a file");
    assert!(
        error.to_string().contains("it is a file") && error.advice().contains("tar -xf"),
        "{}",
        error.message
    );
}

#[test]
fn what_changes_after_the_check_is_noticed() {
    let draft = Draft::image(&[b"one"]);
    let layout = draft.open().expect("a layout");
    let path = layout.blob(&layout.root().digest);
    let other =
        std::fs::read_to_string(&path).expect("text").replace("schemaVersion", "schemaVersioN");
    std::fs::write(&path, other).expect("written");
    assert!(
        layout
            .read(layout.root())
            .expect_err("changed")
            .to_string()
            .contains("its bytes have the digest")
    );
}

#[test]
fn digests_are_read_strictly() {
    let good = Digest::of(b"").to_string();
    assert_eq!(good, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(Digest::parse(&good).expect("a digest").hex().len(), 64);
    let bad = [
        "",
        "sha256:",
        &good[7..],
        &good.to_uppercase(),
        &good[..70],
        &format!("{good}0"),
        "latest",
        "sha512:00",
    ];
    for text in bad {
        assert!(Digest::parse(text).is_err(), "{text}");
    }
}
