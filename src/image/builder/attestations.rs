//! What a build says of itself (provenance, SBOM) is taken out of the image and put beside it, as
//! referrers: the image is the same with and without them, and from build to build, and is no index
//! where it is for one platform.
//!
//! BuildKit's way:
//! <https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>; the way
//! of the OCI:
//! <https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidelines-for-artifact-usage>

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Cannot, Error, Result};
use crate::image::destination::unwritable;
use crate::layout::{ATTESTATION, Digest, EMPTY, INDEX, MANIFEST, STATEMENT};

const PREDICATE: &str = "in-toto.io/predicate-type";
const ABOUT: &str = "vnd.docker.reference.digest";

/// Changes the layout that buildx wrote, when it has attestations. What is no longer needed of it
/// stays until [`crate::image::destination::Fresh::finish`], which also checks the result.
///
/// # Errors
/// Unexpected, when the layout is not as BuildKit writes them; refused when the disk is full.
pub fn move_attestations(folder: &Path) -> Result<()> {
    let read = |path: &Path| -> Result<Value> {
        let bytes = std::fs::read(path).cannot(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&bytes).cannot(|| format!("read {}", path.display()))
    };
    let blobs = folder.join("blobs/sha256");
    let blob = |descriptor: &Value| -> Result<Value> {
        let digest = Digest::parse(descriptor["digest"].as_str().unwrap_or_default())?;
        read(&blobs.join(digest.hex()))
    };
    let put = |text: &str| -> Result<()> {
        let path = blobs.join(Digest::of(text.as_bytes()).hex());
        std::fs::write(&path, text).map_err(|error| unwritable(&path, &error))
    };
    let index = read(&folder.join("index.json"))?;
    let [root] = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Ok(());
    };
    if root["mediaType"] != INDEX {
        return Ok(());
    }
    let written = blob(root)?;
    let mut manifests = BTreeMap::new();
    for child in
        written["manifests"].as_array().into_iter().flatten().filter(|child| is_attestation(child))
    {
        manifests.insert(child["digest"].as_str().unwrap_or_default().to_string(), blob(child)?);
    }
    if manifests.is_empty() {
        return Ok(());
    }
    let apart = take_apart(&written, &manifests)?;
    for text in &apart.documents {
        put(text)?;
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": apart.entries });
    let path = folder.join("index.json");
    std::fs::write(&path, index.to_string()).map_err(|error| unwritable(&path, &error))
}

fn is_attestation(child: &Value) -> bool {
    child["annotations"][ATTESTATION] == "attestation-manifest"
}

/// A layout whose attestations are apart from its image.
#[derive(Debug, PartialEq)]
struct Apart {
    /// The descriptors of index.json: the image, then what refers to it.
    entries: Vec<Value>,
    /// The texts of the documents that are new.
    documents: Vec<String>,
}

/// Takes an index of BuildKit apart. `manifests`: those of its attestations, by their digests.
fn take_apart(index: &Value, manifests: &BTreeMap<String, Value>) -> Result<Apart> {
    let children = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (attestations, images): (Vec<&Value>, Vec<&Value>) =
        children.iter().partition(|child| is_attestation(child));
    let mut documents = Vec::new();
    let mut entries = Vec::new();
    match images.as_slice() {
        [] => {
            return Err(Error::unexpected(
                "cannot read what buildx wrote: attestations, and no \
                                            image",
            ));
        }
        // As it would be without attestations.
        [image] => entries.push((*image).clone()),
        _ => {
            let mut index = index.clone();
            index["manifests"] = images.iter().copied().cloned().collect();
            let text = serde_json::to_string_pretty(&index).cannot(|| "write an index".into())?;
            entries.push(describe_blob(INDEX, &text));
            documents.push(text);
        }
    }
    documents.push("{}".to_string());
    for attestation in attestations {
        let about = &attestation["annotations"][ABOUT];
        let subject = images.iter().find(|image| image["digest"] == *about);
        let subject = subject.ok_or_else(|| {
            Error::unexpected(format!(
                "cannot read what buildx wrote: an attestation of {about}, which is not in the \
                 layout"
            ))
        })?;
        let subject = json!({
            "mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"],
        });
        let manifest = &manifests[attestation["digest"].as_str().unwrap_or_default()];
        for statement in manifest["layers"].as_array().into_iter().flatten() {
            let text = json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": STATEMENT,
                "config": describe_blob(EMPTY, "{}"),
                "layers": [statement],
                "subject": subject,
                "annotations": { PREDICATE: statement["annotations"][PREDICATE] },
            })
            .to_string();
            let mut entry = describe_blob(MANIFEST, &text);
            entry["artifactType"] = STATEMENT.into();
            entries.push(entry);
            documents.push(text);
        }
    }
    Ok(Apart { entries, documents })
}

fn describe_blob(media_type: &str, text: &str) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(text.as_bytes()).as_str(), "size": text.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::layout::tests::Draft;

    /// An attestation of `image` as BuildKit writes it: a manifest with a statement for each
    /// predicate type.
    fn attestation(draft: &Draft, image: &Value, predicates: &[&str]) -> Value {
        let statements = predicates.iter().map(|predicate| {
            let mut statement =
                draft.blob(STATEMENT, format!("{{\"predicateType\":\"{predicate}\"}}").as_bytes());
            statement["annotations"] = json!({ PREDICATE: predicate });
            statement
        });
        let layers: Vec<Value> = statements.collect();
        let config = draft.blob("application/vnd.oci.image.config.v1+json", b"{}");
        let mut manifest = draft.document(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        }));
        manifest["annotations"] =
            json!({ ATTESTATION: "attestation-manifest", ABOUT: image["digest"] });
        manifest["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
        manifest
    }

    const SLSA: &str = "https://slsa.dev/provenance/v1";
    const SPDX: &str = "https://spdx.dev/Document";

    fn opened(draft: &Draft) -> Layout {
        draft.open().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn one_image_is_the_root_again_and_each_statement_refers_to_it() {
        let draft = Draft::new();
        let image = draft.manifest(&[b"one"], "amd64");
        let attestation = attestation(&draft, &image, &[SLSA, SPDX]);
        draft.root(&draft.index(&[image.clone(), attestation]));
        move_attestations(draft.folder()).expect("taken out");
        let layout = opened(&draft);
        assert_eq!(image["digest"], layout.root().digest.as_str());
        assert_eq!(layout.documents().len(), 1, "nothing but the image is in the image");
        let found: Vec<(&str, &str)> = layout
            .referrers()
            .iter()
            .map(|one| {
                assert_eq!(one.subject, layout.root().digest);
                assert_eq!(one.blobs.len(), 2, "the empty configuration and the statement");
                (
                    one.entry["artifactType"].as_str().expect("a type"),
                    one.entry["annotations"][PREDICATE].as_str().expect("a predicate type"),
                )
            })
            .collect();
        assert_eq!(found, [(STATEMENT, SLSA), (STATEMENT, SPDX)]);
    }

    #[test]
    fn images_of_several_platforms_stay_in_one_index() {
        let draft = Draft::new();
        let images = ["amd64", "arm64"].map(|of| draft.manifest(&[of.as_bytes()], of));
        let attestations: Vec<Value> =
            images.iter().map(|image| attestation(&draft, image, &[SLSA])).collect();
        draft.root(&draft.index(&[&images[..], &attestations[..]].concat()));
        move_attestations(draft.folder()).expect("taken out");
        let layout = opened(&draft);
        assert_eq!(layout.platforms(), ["linux/amd64", "linux/arm64"]);
        let subjects: Vec<&str> =
            layout.referrers().iter().map(|one| one.subject.as_str()).collect();
        assert_eq!(
            subjects,
            images.each_ref().map(|image| image["digest"].as_str().expect("a digest"))
        );
        assert_eq!(layout.documents().len(), 3);
    }

    #[test]
    fn what_has_no_attestation_stays_as_it_is() {
        let draft = Draft::new();
        let images = ["amd64", "arm64"].map(|of| draft.manifest(&[of.as_bytes()], of));
        let index = draft.index(&images);
        for root in [&index, &images[0]] {
            draft.root(root);
            let before = std::fs::read(draft.folder().join("index.json")).expect("read");
            move_attestations(draft.folder()).expect("nothing to do");
            assert_eq!(std::fs::read(draft.folder().join("index.json")).expect("read"), before);
        }
    }

    #[test]
    fn an_attestation_of_something_else_is_refused() {
        let draft = Draft::new();
        let image = draft.manifest(&[b"one"], "amd64");
        let other = json!({ "digest": format!("sha256:{}", "0".repeat(64)) });
        draft.root(&draft.index(&[image, attestation(&draft, &other, &[SLSA])]));
        let error = move_attestations(draft.folder()).expect_err("of something else");
        assert!(error.message.contains("which is not in the layout"), "{error}");
        draft.root(&draft.index(&[attestation(&draft, &other, &[SLSA])]));
        move_attestations(draft.folder()).expect_err("no image");
    }
}
