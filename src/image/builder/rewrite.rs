//! A layout whose layers have no time later than the epoch, and are packed by us, so that one commit
//! makes one digest whoever builds it. The layers of the base image stay as they are.
//!
//! BuildKit can do the same (`rewrite-timestamp`), for every layer in every build. Here a layer that
//! was rewritten before is taken from the [`earlier`](super::earlier) layout.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::earlier::Memory;
use super::times::ClampedTimes;
use crate::error::{Cannot, Error, Result};
use crate::image::contract::layers::unpack;
use crate::image::destination::unwritable;
use crate::image::pack::{self, Packed};
use crate::image::work::Stop;
use crate::layout::steps::match_layers;
use crate::layout::{Digest, INDEXES, LAYER, steps};

/// Rewrites the layout that buildx wrote. What is no longer needed of it stays until
/// [`crate::image::destination::Fresh::finish`], which also checks the result.
///
/// # Errors
/// Unexpected, when the layout is not as BuildKit writes them; refused when the disk is full.
pub fn rewrite_times(folder: &Path, epoch: u64, memory: &Memory, stop: &Stop) -> Result<()> {
    let mut rewriting = Rewriting {
        blobs: folder.join("blobs/sha256"),
        epoch,
        memory,
        stop,
        renamed: BTreeMap::new(),
    };
    let path = folder.join("index.json");
    let mut index = read_json(&path)?;
    for entry in index["manifests"].as_array_mut().into_iter().flatten() {
        rewriting.rewrite_document(entry)?;
    }
    std::fs::write(&path, index.to_string()).map_err(|error| unwritable(&path, &error))
}

struct Rewriting<'a> {
    blobs: PathBuf,
    epoch: u64,
    memory: &'a Memory,
    stop: &'a Stop,
    /// What the documents that have changed are called now, by their digests before.
    renamed: BTreeMap<Digest, Value>,
}

impl Rewriting<'_> {
    /// Rewrites what a descriptor leads to, and the descriptor.
    fn rewrite_document(&mut self, descriptor: &mut Value) -> Result<()> {
        let mut document = read_json(&self.locate_blob(descriptor)?)?;
        if INDEXES.iter().any(|kind| descriptor["mediaType"] == *kind) {
            for child in document["manifests"].as_array_mut().into_iter().flatten() {
                self.rewrite_document(child)?;
            }
        } else if document["subject"].is_null() {
            self.rewrite_image(&mut document)?;
        } else {
            self.rewrite_referrer(&mut document)?;
        }
        let before = parse_digest(descriptor)?;
        self.put_blob(descriptor, document.to_string().as_bytes())?;
        self.renamed.insert(before, descriptor.clone());
        Ok(())
    }

    fn rewrite_image(&self, manifest: &mut Value) -> Result<()> {
        let mut config = read_json(&self.locate_blob(&manifest["config"])?)?;
        let layers = manifest["layers"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
        let base = count_base_layers(&config, layers.len(), self.epoch)?;
        for (at, layer) in layers.iter_mut().enumerate().skip(base) {
            let packed = self.rewrite_layer(layer)?;
            layer["mediaType"] = format!("{LAYER}+gzip").into();
            layer["digest"] = packed.digest.as_str().into();
            layer["size"] = packed.size.into();
            config["rootfs"]["diff_ids"][at] = packed.diff_id.as_str().into();
        }
        self.put_blob(&mut manifest["config"], config.to_string().as_bytes())
    }

    /// Rewrites a layer, or takes what it was rewritten to before.
    fn rewrite_layer(&self, layer: &Value) -> Result<Packed> {
        let from = self.locate_blob(layer)?;
        let original = parse_digest(layer)?;
        if let Some(packed) = self.memory.recall(&original, self.epoch)
            && self.blobs.join(packed.digest.hex()).is_file()
        {
            return Ok(packed);
        }
        let attempt = || format!("read the layer {original} that buildx wrote");
        let file = File::open(&from).cannot(attempt)?;
        let unpacked = unpack(BufReader::with_capacity(128 * 1024, file)).cannot(attempt)?;
        let writing = self.blobs.join("layer");
        let mut file = File::create(&writing).map_err(|error| unwritable(&writing, &error))?;
        let mut clamped = ClampedTimes::new(unpacked, self.epoch);
        let packed = pack::gzip(&mut clamped, &mut file, pack::threads(), self.stop);
        let packed = packed.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                Error::unexpected(format!("cannot {}", attempt())).why(error)
            }
            _ => unwritable(&writing, &error),
        })?;
        let path = self.blobs.join(packed.digest.hex());
        std::fs::rename(&writing, &path).map_err(|error| unwritable(&path, &error))?;
        self.memory.keep(&original, self.epoch, &packed);
        Ok(packed)
    }

    /// A statement says which image it is of.
    fn rewrite_referrer(&self, manifest: &mut Value) -> Result<()> {
        if let Some(now) = self.renamed.get(&parse_digest(&manifest["subject"])?) {
            for key in ["digest", "size"] {
                manifest["subject"][key] = now[key].clone();
            }
        }
        for statement in manifest["layers"].as_array_mut().into_iter().flatten() {
            let path = self.locate_blob(statement)?;
            let mut text =
                std::fs::read_to_string(&path).cannot(|| format!("read {}", path.display()))?;
            for (before, now) in &self.renamed {
                text = text.replace(before.hex(), parse_digest(now)?.hex());
            }
            self.put_blob(statement, text.as_bytes())?;
        }
        Ok(())
    }

    fn locate_blob(&self, descriptor: &Value) -> Result<PathBuf> {
        Ok(self.blobs.join(parse_digest(descriptor)?.hex()))
    }

    /// Writes a blob, and says in its descriptor which.
    fn put_blob(&self, descriptor: &mut Value, bytes: &[u8]) -> Result<()> {
        let digest = Digest::of(bytes);
        descriptor["digest"] = digest.as_str().into();
        descriptor["size"] = json!(bytes.len());
        let path = self.blobs.join(digest.hex());
        // One that is there may be the earlier layout's as well: it is never written to.
        match path.is_file() {
            true => Ok(()),
            false => std::fs::write(&path, bytes).map_err(|error| unwritable(&path, &error)),
        }
    }
}

/// How many of the layers are the base image's. BuildKit keeps the times of its steps, and gives
/// its own the epoch.
fn count_base_layers(config: &Value, layers: usize, epoch: u64) -> Result<usize> {
    let attempt = || "read the configuration that buildx wrote".to_string();
    let history = steps::read_history(config.to_string().as_bytes()).cannot(attempt)?;
    let epoch = i64::try_from(epoch).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    let is_ours = |step: usize| {
        let created = config["history"][step]["created"].as_str();
        created.is_none_or(|created| created.parse::<jiff::Timestamp>().ok() == epoch)
    };
    // Steps that tell of other layers than there are say nothing of which are whose.
    let made = match_layers(&history, layers);
    Ok(made.into_iter().take_while(|step| !is_ours(*step)).count())
}

fn parse_digest(descriptor: &Value) -> Result<Digest> {
    Digest::parse(descriptor["digest"].as_str().unwrap_or_default())
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).cannot(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&bytes).cannot(|| format!("read {}", path.display()))
}
