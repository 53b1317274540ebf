//! What `docker save` writes
//! (<https://github.com/moby/docker-image-spec/blob/main/spec.md#combined-image-json--filesystem-changeset-format>):
//! engines with the containerd store write the layout as it is in a registry, those with an older
//! store the layers unpacked. Those are packed here, into one and the same image every time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{BLOBS, Source, save_blob};
use crate::error::Result;
use crate::image::destination::unwritable;
use crate::image::pack::{self, Packed, Packing};
use crate::image::work::Stop;
use crate::layout::{ATTESTATION, CONFIG, Digest, INDEX, LAYER, MANIFEST};
use crate::report::{Bar, Report};

/// The image of a manifest.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    config: String,
    layers: Vec<String>,
}

impl Saved {
    /// Reads manifest.json.
    ///
    /// # Errors
    /// Why it is not the list of one image, in words.
    pub fn parse(bytes: &[u8]) -> Result<Saved, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Entry {
            config: String,
            #[serde(default)]
            repo_tags: Option<Vec<String>>,
            #[serde(default)]
            layers: Option<Vec<String>>,
        }
        let entries: Vec<Entry> =
            serde_json::from_slice(bytes).map_err(|error| format!("manifest.json: {error}"))?;
        let mut entries = entries.into_iter();
        match (entries.next(), entries.next()) {
            (Some(Entry { config, layers, .. }), None) => {
                Ok(Saved { config, layers: layers.unwrap_or_default() })
            }
            (None, _) => Err("manifest.json names no image".into()),
            (Some(one), Some(other)) => {
                let name = |entry: Entry| {
                    entry.repo_tags.into_iter().flatten().next().unwrap_or(entry.config)
                };
                Err(format!(
                    "it has more than one image, {} and {}: save one at a time",
                    name(one),
                    name(other)
                ))
            }
        }
    }
}

fn read_packing(source: &Source, name: &str) -> Result<Packing> {
    let (_, reader) =
        source.file(name)?.ok_or_else(|| source.broken(format!("it has no {name}")))?;
    let mut beginning = Vec::new();
    reader
        .take(4)
        .read_to_end(&mut beginning)
        .map_err(|error| source.broken(format!("{name}: {error}")))?;
    Ok(Packing::of(&beginning))
}

/// Whether a layer of the image is not packed, as no registry has it.
///
/// # Errors
/// Bad input when a layer is not there.
pub fn has_plain_layer(source: &Source, saved: &Saved) -> Result<bool> {
    let mut plain = false;
    for name in &saved.layers {
        plain |= read_packing(source, name)? == Packing::No;
    }
    Ok(plain)
}

/// Writes the image as a layout into `folder`, its layers packed, its configuration as it is, its
/// manifest with `annotations`.
///
/// # Errors
/// Bad input when its parts do not fit together: a layer is not there, or is another one than the
/// configuration says.
pub fn write_layout(
    source: &Source,
    saved: &Saved,
    annotations: &[(String, String)],
    folder: &Path,
    report: &Report,
    stop: &Stop,
) -> Result<()> {
    let name = &saved.config;
    let config = source.json(name)?.ok_or_else(|| source.broken(format!("it has no {name}")))?;
    let digest = Digest::of(&config);
    // `<hex>.json`, or `blobs/sha256/<hex>`: named by its digest wherever an engine wrote it.
    let hex = name.trim_end_matches(".json").rsplit('/').next().unwrap_or_default();
    if Digest::parse(&format!("sha256:{hex}")).is_ok_and(|said| said != digest) {
        return Err(source.broken(format!("the bytes of {name} have the digest {digest}")));
    }
    let says: Value = serde_json::from_slice(&config)
        .map_err(|error| source.broken(format!("{name}: {error}")))?;
    let diff_ids: Vec<&str> = says["rootfs"]["diff_ids"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if diff_ids.len() != saved.layers.len() {
        return Err(source.broken(format!(
            "it has {} layers, and its configuration {}",
            saved.layers.len(),
            diff_ids.len()
        )));
    }

    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for layer in &saved.layers {
        let (size, _) =
            source.file(layer)?.ok_or_else(|| source.broken(format!("it has no {layer}")))?;
        sizes.insert(layer, size);
    }
    let bar =
        report.bytes("packing", sizes.values().fold(0, |sum, size| sum.saturating_add(*size)));
    let mut layers: BTreeMap<&str, Value> = BTreeMap::new();
    let mut stack = Vec::new();
    for (layer, diff_id) in saved.layers.iter().zip(&diff_ids) {
        // A layer that stands in an image twice is one blob.
        let descriptor = match layers.get(diff_id) {
            Some(descriptor) => descriptor.clone(),
            None => write_layer(source, layer, diff_id, folder, &bar, stop)?,
        };
        layers.insert(diff_id, descriptor.clone());
        stack.push(descriptor);
    }
    bar.finish();

    let config = write_blob(folder, CONFIG, &config)?;
    let mut manifest =
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": stack });
    if !annotations.is_empty() {
        let sorted: BTreeMap<&str, &str> =
            annotations.iter().map(|(name, value)| (&**name, &**value)).collect();
        manifest["annotations"] = json!(sorted);
    }
    let manifest = write_blob(folder, MANIFEST, manifest.to_string().as_bytes())?;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
    let header = json!({ "imageLayoutVersion": "1.0.0" });
    for (name, value) in [("index.json", index), ("oci-layout", header)] {
        let path = folder.join(name);
        std::fs::write(&path, value.to_string()).map_err(|error| unwritable(&path, &error))?;
    }
    Ok(())
}

/// Writes one layer, packed, and gives its descriptor.
fn write_layer(
    source: &Source,
    name: &str,
    diff_id: &str,
    folder: &Path,
    bar: &Bar,
    stop: &Stop,
) -> Result<Value> {
    let packing = read_packing(source, name)?;
    let (size, mut reader) =
        source.file(name)?.ok_or_else(|| source.broken(format!("it has no {name}")))?;
    let writing = folder.join(BLOBS).join("layer");
    let (packed, ending) = match packing {
        Packing::No => {
            let mut file =
                File::create_new(&writing).map_err(|error| unwritable(&writing, &error))?;
            let mut counted = Counted { reader: &mut reader, bar };
            let packed = pack::gzip(&mut counted, &mut file, pack::threads(), stop);
            // Its length was compared when the archive was opened: what fails now is a disk.
            (packed.map_err(|error| unwritable(&writing, &error))?, "+gzip")
        }
        // Unpacking is for who runs it, and compares it then.
        Packing::Gzip | Packing::Zstd => {
            let digest = save_blob(&mut reader, &writing, bar, stop)
                .map_err(|error| error.of(source, name))?;
            let ending = if packing == Packing::Gzip { "+gzip" } else { "+zstd" };
            (
                Packed {
                    digest,
                    size,
                    diff_id: Digest::parse(diff_id).map_err(|error| source.broken(error))?,
                },
                ending,
            )
        }
    };
    if packed.diff_id.as_str() != diff_id {
        return Err(source.broken(format!(
            "{name} has the digest {}, and the image's configuration says {}",
            packed.diff_id,
            diff_id.escape_default()
        )));
    }
    let path = folder.join(BLOBS).join(packed.digest.hex());
    std::fs::rename(&writing, &path).map_err(|error| unwritable(&path, &error))?;
    Ok(
        json!({ "mediaType": format!("{LAYER}{ending}"), "digest": packed.digest.as_str(), "size": packed.size }),
    )
}

/// Writes a blob, and gives its descriptor.
fn write_blob(folder: &Path, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let digest = Digest::of(bytes);
    let path = folder.join(BLOBS).join(digest.hex());
    std::fs::write(&path, bytes).map_err(|error| unwritable(&path, &error))?;
    Ok(json!({ "mediaType": media_type, "digest": digest.as_str(), "size": bytes.len() }))
}

/// Says how much was read.
struct Counted<'a, R> {
    reader: &'a mut R,
    bar: &'a Bar,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.bar.add(read as u64);
        Ok(read)
    }
}

/// An engine saves of an image for several platforms what it has of it. Where that is the image of
/// one platform, this is the index.json that names just that one; none when all is there.
///
/// # Errors
/// Bad input when index.json is none.
pub fn keep_whole(source: &Source, index: &[u8]) -> Result<Option<Vec<u8>>> {
    let index: Value = serde_json::from_slice(index)
        .map_err(|error| source.broken(format!("index.json: {error}")))?;
    let entries = index["manifests"].as_array().cloned().unwrap_or_default();
    let [root] = entries.as_slice() else { return Ok(None) };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        format!("{BLOBS}/{}", digest.strip_prefix("sha256:").unwrap_or("none"))
    };
    let Some(children) =
        source.value(&blob(root)).ok().flatten().map(|root| root["manifests"].clone())
    else {
        return Ok(None);
    };
    let is_whole = |child: &&Value| {
        let Some(manifest) = source.value(&blob(child)).ok().flatten() else { return false };
        let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
        layers.iter().chain([&manifest["config"]]).all(|part| source.has(&blob(part)))
    };
    let children: Vec<&Value> = children.as_array().into_iter().flatten().collect();
    let is_image = |child: &&&Value| child["annotations"][ATTESTATION].is_null();
    let whole: Vec<&Value> = children.iter().copied().filter(is_whole).collect();
    let images: Vec<&Value> = whole.iter().filter(is_image).copied().collect();
    if whole.len() == children.len() || images.len() != 1 {
        return Ok(None);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": images });
    Ok(Some(index.to_string().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_json_names_one_image() {
        let one = r#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l/layer.tar"]}]"#;
        let saved = Saved::parse(one.as_bytes()).expect("one image");
        assert_eq!(saved, Saved { config: "c.json".into(), layers: vec!["l/layer.tar".into()] });
        let empty = r#"[{"Config":"c.json","RepoTags":null,"Layers":null}]"#;
        assert_eq!(
            Saved::parse(empty.as_bytes()).expect("from scratch").layers,
            Vec::<String>::new()
        );
        let two = r#"[{"Config":"c","RepoTags":["a:1"],"Layers":[]},{"Config":"d","Layers":[]}]"#;
        let cases = [
            ("[]", "names no image"),
            ("null", "manifest.json: "),
            ("[null]", "manifest.json: "),
            ("{", "manifest.json: "),
            (r#"[{"Layers":[]}]"#, "missing field `Config`"),
            (r#"[{"Config":7}]"#, "manifest.json: "),
            (two, "more than one image, a:1 and d"),
        ];
        for (text, why) in cases {
            let said = Saved::parse(text.as_bytes()).expect_err(text);
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
