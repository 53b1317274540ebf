//! A layout as the tar that `docker load` takes.
//!
//! The containerd store reads `index.json`
//! (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>), the older
//! graphdriver stores read `manifest.json` (<https://github.com/moby/docker-image-spec>); the tar
//! has both. It is made while it is sent: never more than a few blocks of it are in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error as IoError, ErrorKind, Read, Result as IoResult, Write};
use std::path::PathBuf;

use bytes::Bytes;
use futures::Stream;
use serde_json::json;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::layout::{Digest, Layout, Manifest};

/// One file of the tar.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    Text(String),
    Blob(PathBuf),
}

const BLOCK: usize = 256 * 1024;

/// The image of `layout` that an engine of `platform` (`linux/amd64`) runs.
///
/// # Errors
/// Bad input when it was built for other platforms only.
pub fn find_image<'a>(layout: &'a Layout, platform: &str) -> Result<&'a Manifest> {
    let images = layout.manifests();
    // An engine does not say its variant: `linux/arm64` runs `linux/arm64/v8`.
    let runs = |built: &str| {
        built == platform || built.strip_prefix(platform).is_some_and(|rest| rest.starts_with('/'))
    };
    let fits = |image: &&Manifest| image.descriptor.platform.as_deref().is_none_or(runs);
    images.iter().find(fits).ok_or_else(|| {
        let built: Vec<&str> =
            images.iter().filter_map(|image| image.descriptor.platform.as_deref()).collect();
        Error::input(format!(
            "cannot run the image: it is for {}, and this machine's engine runs {platform}",
            built.join(", ")
        ))
        .fix(format!(
            "add {platform} to image.platforms in service.yaml, or leave the check out \
                     with --skip-contract"
        ))
    })
}

/// Every file of the tar, by its path. `tag` is the name the engine shows.
pub fn list_files(layout: &Layout, image: &Manifest, tag: &str) -> BTreeMap<String, Content> {
    let root = layout.root();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": root.media_type,
            "digest": root.digest.to_string(),
            "size": root.size,
            "annotations": { "io.containerd.image.name": tag },
        }],
    });
    let manifest = json!([{
        "Config": blob_path(&image.config.digest),
        "RepoTags": [tag],
        "Layers": image.layers.iter().map(|layer| blob_path(&layer.digest)).collect::<Vec<_>>(),
    }]);
    let mut files = BTreeMap::from([
        (
            "oci-layout".to_string(),
            Content::Text(json!({ "imageLayoutVersion": "1.0.0" }).to_string()),
        ),
        ("index.json".to_string(), Content::Text(index.to_string())),
        ("manifest.json".to_string(), Content::Text(manifest.to_string())),
    ]);
    let all = layout.blobs().chain(layout.documents());
    files.extend(
        all.map(|blob| (blob_path(&blob.digest), Content::Blob(layout.blob(&blob.digest)))),
    );
    files
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}", digest.to_string().replace(':', "/"))
}

/// The tar of `files`, as it is read.
pub fn stream_tar(
    files: BTreeMap<String, Content>,
) -> impl Stream<Item = IoResult<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(8);
    tokio::task::spawn_blocking(move || {
        let mut blocks = Blocks { sender, block: Vec::with_capacity(BLOCK) };
        let written = write_tar(files, &mut blocks).and_then(|()| blocks.flush());
        if let Err(error) = written {
            // Whoever reads the tar learns that it is not whole; when nobody reads any more, nobody
            // needs to.
            let _ = blocks.sender.blocking_send(Err(error));
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|block| (block, receiver))
    })
}

fn write_tar(files: BTreeMap<String, Content>, to: &mut impl Write) -> IoResult<()> {
    let mut tar = tar::Builder::new(to);
    for (path, content) in files {
        let (size, mut bytes): (u64, Box<dyn Read>) = match content {
            Content::Text(text) => (text.len() as u64, Box::new(std::io::Cursor::new(text))),
            Content::Blob(file) => {
                let named = |error: IoError| {
                    IoError::new(error.kind(), format!("{}: {error}", file.display()))
                };
                let open = File::open(&file).map_err(named)?;
                let size = open.metadata().map_err(named)?.len();
                (size, Box::new(open.take(size)))
            }
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, &mut bytes)?;
    }
    tar.finish()
}

/// Collects what is written into blocks and sends them on.
struct Blocks {
    sender: mpsc::Sender<IoResult<Bytes>>,
    block: Vec<u8>,
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> IoResult<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.sender.blocking_send(Ok(block.into())).map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    /// A layout of one image for `platform`, whose layer is `layer`.
    fn layout(folder: &std::path::Path, platform: &str, layer: &[u8]) -> Layout {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("a folder");
        let put = |media_type: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            std::fs::write(blobs.join(digest.to_string().trim_start_matches("sha256:")), bytes)
                .expect("written");
            json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
        };
        let (os, architecture) = platform.split_once('/').expect("os/architecture");
        let layer = put("application/vnd.oci.image.layer.v1.tar+gzip", layer);
        let config = json!({ "os": os, "architecture": architecture, "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] } });
        let config = put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
        let index = json!({ "schemaVersion": 2, "manifests": [put(kind, manifest.to_string().as_bytes())] });
        std::fs::write(folder.join("index.json"), index.to_string()).expect("written");
        std::fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")
            .expect("written");
        Layout::open(folder).expect("a layout")
    }

    #[test]
    fn an_engine_runs_the_image_of_its_platform() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = layout(folder.path(), "linux/amd64", b"layer");
        find_image(&layout, "linux/amd64").expect("its image");
        let error = find_image(&layout, "linux/arm64").expect_err("none for it");
        assert_eq!(
            error.message,
            "cannot run the image: it is for linux/amd64, and this machine's engine runs \
             linux/arm64"
        );
        assert!(error.advice().contains("add linux/arm64 to image.platforms"));
    }

    /// Both kinds of store find in the tar what they read, and every blob is in it byte by byte.
    #[tokio::test]
    async fn the_tar_is_the_layout_with_a_manifest_for_older_stores() {
        let folder = tempfile::tempdir().expect("a folder");
        let layer: Vec<u8> =
            (0..3 * BLOCK + 7).map(|at| u8::try_from(at % 251).expect("small")).collect();
        let layout = layout(folder.path(), "linux/amd64", &layer);
        let image = &layout.manifests()[0];
        let blocks = stream_tar(list_files(&layout, image, "cicd.local/patients:latest"))
            .try_collect::<Vec<_>>()
            .await;
        let bytes = blocks.expect("a tar").concat();

        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut found = BTreeMap::new();
        for entry in archive.entries().expect("entries") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("read");
            found.insert(path, content);
        }
        let json =
            |path: &str| serde_json::from_slice::<serde_json::Value>(&found[path]).expect("JSON");
        assert_eq!(json("index.json")["manifests"][0]["digest"], layout.root().digest.to_string());
        let layers = json("manifest.json")[0]["Layers"].clone();
        assert_eq!(found[layers[0].as_str().expect("a path")], layer);
        let config = json("manifest.json")[0]["Config"].as_str().expect("a path").to_string();
        assert_eq!(json(&config)["architecture"], "amd64");
        assert_eq!(
            found.len(),
            3 + 3,
            "index.json, manifest.json, oci-layout, and the three blobs"
        );
    }

    #[tokio::test]
    async fn a_blob_that_is_gone_fails_the_tar() {
        let files = BTreeMap::from([("blobs/x".to_string(), Content::Blob("/nonexistent".into()))]);
        let error = stream_tar(files).try_collect::<Vec<_>>().await.expect_err("no blob");
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }
}
