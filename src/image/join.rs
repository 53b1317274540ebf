//! Images of one commit, each built on a machine of its own platform, as one image for all of them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Cannot, Error, Result};
use crate::image::destination::{Built, Destination, unwritable};
use crate::image::work;
use crate::layout::{Digest, Layout};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BLOBS: &str = "blobs/sha256";

/// Of which commit an image is: labels of its configuration that all parts have in common.
const COMMON: [&str; 2] = ["org.opencontainers.image.revision", "org.opencontainers.image.version"];

/// The image of one platform, as its manifest is listed.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    platform: String,
    /// Its descriptor.
    entry: Value,
    annotations: Value,
    /// The values of [`COMMON`].
    common: Vec<Option<String>>,
}

/// Joins the layouts in `folder`, each a folder of its own there, into the layout. The earlier one
/// is replaced when the new one is whole.
///
/// # Errors
/// Bad input when there is none, when two are for one platform, or when they are of two commits.
pub async fn join(folder: &Path, layout: &Path) -> Result<Built> {
    let destination = Destination::of(layout)?;
    destination.sweep(|left| !left.has_builder());
    let fresh = destination.fresh()?;
    let folder = folder.to_path_buf();
    work::run(move |stop| {
        let mut layouts = Vec::new();
        for path in list_layouts(&folder)? {
            layouts.push((Layout::open(&path)?, path));
        }
        let mut parts = Vec::new();
        for (layout, _) in &layouts {
            parts.extend(read_parts(layout)?);
        }
        let index = make_index(parts).map_err(|why| {
            Error::input(format!("cannot join the images in {}", folder.display()))
                .why(why)
                .fix("build each platform of `image.platforms` once, all from one commit")
        })?;
        let blobs = fresh.folder().join(BLOBS);
        std::fs::create_dir_all(&blobs).map_err(|error| unwritable(&blobs, &error))?;
        let mut referring = Vec::new();
        for (layout, path) in &layouts {
            for entry in std::fs::read_dir(path.join(BLOBS)).into_iter().flatten().flatten() {
                stop.check().cannot(|| "join the images".to_string())?;
                let target = blobs.join(entry.file_name());
                if std::fs::hard_link(entry.path(), &target).is_err() && !target.exists() {
                    std::fs::copy(entry.path(), &target)
                        .map_err(|error| unwritable(&target, &error))?;
                }
            }
            referring.extend(list_referring(layout, path)?);
        }
        let digest = Digest::of(&index);
        let root = json!({ "mediaType": INDEX, "digest": digest, "size": index.len() });
        let listed: Vec<Value> = std::iter::once(root).chain(referring).collect();
        let listed = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": listed });
        let files = [
            (blobs.join(digest.hex()), index),
            (fresh.folder().join("index.json"), listed.to_string().into_bytes()),
            (fresh.folder().join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ];
        for (path, bytes) in files {
            std::fs::write(&path, bytes).map_err(|error| unwritable(&path, &error))?;
        }
        fresh.finish()
    })
    .await
}

/// The folders in a folder that are layouts.
fn list_layouts(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).cannot(|| format!("read {}", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.join("oci-layout").is_file()).collect();
    found.sort();
    match found.is_empty() {
        true => Err(Error::input(format!("cannot join images: {} has none", folder.display()))
            .fix("name the folder that the layouts are in, each in a folder of its own")),
        false => Ok(found),
    }
}

/// The images of a layout.
fn read_parts(layout: &Layout) -> Result<Vec<Part>> {
    let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap_or_default();
    let mut parts = Vec::new();
    for image in layout.manifests() {
        let descriptor = &image.descriptor;
        let platform = descriptor.platform.clone().unwrap_or_default();
        let mut words = platform.split('/');
        let mut object = json!({ "os": words.next(), "architecture": words.next() });
        if let Some(variant) = words.next() {
            object["variant"] = variant.into();
        }
        let labels = read(layout.read(&image.config)?)["config"]["Labels"].clone();
        parts.push(Part {
            platform,
            entry: json!({
                "mediaType": descriptor.media_type, "digest": descriptor.digest,
                "size": descriptor.size, "platform": object,
            }),
            annotations: read(layout.read(descriptor)?)["annotations"].clone(),
            common: COMMON.map(|name| labels[name].as_str().map(str::to_string)).to_vec(),
        });
    }
    Ok(parts)
}

/// What refers to the images of a layout, as it is listed there.
fn list_referring(layout: &Layout, path: &Path) -> Result<Vec<Value>> {
    let file = path.join("index.json");
    let text = std::fs::read(&file).cannot(|| format!("read {}", file.display()))?;
    let index: Value = serde_json::from_slice(&text).unwrap_or_default();
    let listed = index["manifests"].as_array().cloned().unwrap_or_default();
    let root = layout.root().digest.as_str();
    // What refers to an index that is no more would refer to nothing.
    let manifests: Vec<&str> =
        layout.manifests().iter().map(|image| image.descriptor.digest.as_str()).collect();
    let stays = |subject: &str| manifests.contains(&subject);
    let kept: Vec<&str> = layout
        .referrers()
        .iter()
        .filter(|one| stays(one.subject.as_str()))
        .map(|one| one.descriptor.digest.as_str())
        .collect();
    let is_kept = |entry: &Value| {
        entry["digest"].as_str().is_some_and(|digest| digest != root && kept.contains(&digest))
    };
    Ok(listed.into_iter().filter(is_kept).collect())
}

/// The index of all, the same whatever order they come in. Pure.
///
/// # Errors
/// Why they are no one image.
fn make_index(mut parts: Vec<Part>) -> Result<Vec<u8>, String> {
    parts.sort_by(|one, other| one.platform.cmp(&other.platform));
    for (one, next) in parts.iter().zip(parts.iter().skip(1)) {
        if one.platform == next.platform {
            return Err(format!("two are for {}", one.platform));
        }
        let differs = one.common.iter().zip(&next.common).zip(COMMON);
        for ((ours, theirs), name) in differs {
            if ours != theirs {
                let shown = |value: &Option<String>| value.clone().unwrap_or("none".into());
                return Err(format!(
                    "{name} is {} for {} and {} for {}",
                    shown(ours),
                    one.platform,
                    shown(theirs),
                    next.platform
                ));
            }
        }
    }
    let annotations = parts.first().map(|part| part.annotations.clone()).unwrap_or_default();
    let entries: Vec<Value> = parts.into_iter().map(|part| part.entry).collect();
    let mut index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    if annotations.is_object() {
        index["annotations"] = annotations;
    }
    Ok(index.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(platform: &str, revision: &str) -> Part {
        Part {
            platform: platform.into(),
            entry: json!({ "digest": format!("sha256:{platform}") }),
            annotations: json!({ "a": "b" }),
            common: vec![Some(revision.into()), Some("1.4.0".into())],
        }
    }

    #[test]
    fn parts_are_one_image_in_any_order() {
        let (amd, arm) = (part("linux/amd64", "4f1c"), part("linux/arm64", "4f1c"));
        let index = make_index(vec![arm.clone(), amd.clone()]).expect("an index");
        assert_eq!(index, make_index(vec![amd.clone(), arm.clone()]).expect("an index"));
        let index: Value = serde_json::from_slice(&index).expect("JSON");
        assert_eq!(index["manifests"][0]["digest"], "sha256:linux/amd64");
        assert_eq!(index["annotations"]["a"], "b");
        for (parts, why) in [
            ([amd.clone(), amd.clone()], "two are for linux/amd64"),
            ([amd, part("linux/arm64", "0000")], "org.opencontainers.image.revision is 4f1c"),
        ] {
            let refused = make_index(parts.to_vec()).expect_err(why);
            assert!(refused.starts_with(why), "{refused}");
        }
    }
}
