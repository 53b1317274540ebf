//! A layout as the tar that `docker load` takes.
//!
//! The containerd store reads `index.json` (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>), the
//! older graphdriver stores read `manifest.json` (<https://github.com/moby/docker-image-spec>); the tar has both. It is made
//! while it is sent: never more than a few blocks of it are in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error as IoError, ErrorKind, Read, Result as IoResult, Write};
use std::path::PathBuf;

use bytes::Bytes;
use futures::Stream;
use serde_json::json;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::layout::{Descriptor, Digest, Layout, Manifest};

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
pub fn image_for<'a>(layout: &'a Layout, platform: &str) -> Result<&'a Manifest> {
    let images = layout.manifests();
    let fits = |image: &&Manifest| image.descriptor.platform.as_deref().is_none_or(|built| built == platform);
    images.iter().find(fits).ok_or_else(|| {
        let built: Vec<&str> = images.iter().filter_map(|image| image.descriptor.platform.as_deref()).collect();
        Error::input(format!("the image is for {}, and this machine's engine runs {platform}", built.join(", "))).fix(
            format!("add {platform} to image.platforms in service.yaml, or leave the check out with --skip-contract"),
        )
    })
}

/// Every file of the tar, by its path. `tag` is the name the engine shows.
pub fn files(layout: &Layout, image: &Manifest, tag: &str) -> BTreeMap<String, Content> {
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
        "Config": path(&image.config.digest),
        "RepoTags": [tag],
        "Layers": image.layers.iter().map(|layer| path(&layer.digest)).collect::<Vec<_>>(),
    }]);
    let mut files = BTreeMap::from([
        ("oci-layout".to_string(), Content::Text(json!({ "imageLayoutVersion": "1.0.0" }).to_string())),
        ("index.json".to_string(), Content::Text(index.to_string())),
        ("manifest.json".to_string(), Content::Text(manifest.to_string())),
    ]);
    let blob = |descriptor: &Descriptor| (path(&descriptor.digest), Content::Blob(layout.blob(&descriptor.digest)));
    files.extend([blob(root)]);
    for image in layout.manifests() {
        files.extend([blob(&image.descriptor), blob(&image.config)]);
        files.extend(image.layers.iter().map(blob));
    }
    files
}

fn path(digest: &Digest) -> String {
    format!("blobs/{}", digest.to_string().replace(':', "/"))
}

/// The tar of `files`, as it is read.
pub fn stream(files: BTreeMap<String, Content>) -> impl Stream<Item = IoResult<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(8);
    tokio::task::spawn_blocking(move || {
        let mut blocks = Blocks { sender, block: Vec::with_capacity(BLOCK) };
        let written = write(files, &mut blocks).and_then(|()| blocks.flush());
        if let Err(error) = written {
            // Whoever reads the tar learns that it is not whole; when nobody reads any more, nobody needs to.
            let _ = blocks.sender.blocking_send(Err(error));
        }
    });
    futures::stream::unfold(
        receiver,
        |mut receiver| async move { receiver.recv().await.map(|block| (block, receiver)) },
    )
}

fn write(files: BTreeMap<String, Content>, to: &mut impl Write) -> IoResult<()> {
    let mut tar = tar::Builder::new(to);
    for (path, content) in files {
        let (size, mut bytes): (u64, Box<dyn Read>) = match content {
            Content::Text(text) => (text.len() as u64, Box::new(std::io::Cursor::new(text))),
            Content::Blob(file) => {
                let named = |error: IoError| IoError::new(error.kind(), format!("{}: {error}", file.display()));
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
