//! An image that was built elsewhere, as a checked layout: from `docker save`'s archive, an OCI
//! archive, or an OCI layout.
//!
//! [`archive`] reads a tar without unpacking it, [`docker`] makes an image of what older engines
//! save. What comes from outside is written beside the layout's place, checked there as strictly as
//! what a registry would be given, and only then put in its place.

mod archive;
pub mod docker;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::image::destination::{Built, Destination, unwritable};
use crate::image::work::{self, Stop};
use crate::layout::{Digest, JSON_LIMIT};
use crate::report::{Bar, Report};
use archive::Archive;

/// As many as an archive may have.
const FILE_LIMIT: usize = 20_000;
const BUFFER: usize = 256 * 1024;
const BLOBS: &str = "blobs/sha256";

/// Takes the one image in `from` into the layout. The earlier layout is replaced when the new one
/// is whole.
///
/// # Errors
/// Bad input for whatever is not one whole image, with the name of what is wrong in it.
pub async fn import(from: &Path, layout: &Path, report: &Report) -> Result<Built> {
    let destination = Destination::of(layout)?;
    // What has a builder is left to a build, which knows how to end it.
    destination.sweep(|left| !left.has_builder());
    let fresh = destination.fresh()?;
    let (from, report) = (from.to_path_buf(), report.clone());
    work::run(move |stop| {
        let source = Source::open(&from)?;
        let folder = fresh.folder();
        take_image(&source, &folder, &report, stop)?;
        fresh.finish().map_err(|error| rename_error(error, &folder, &from))
    })
    .await
}

/// Makes a layout in `folder` of the one image that an engine saved into `archive`, its manifest
/// with these annotations.
///
/// # Errors
/// As [`import`].
pub async fn pack(
    archive: PathBuf,
    folder: PathBuf,
    annotations: Vec<(String, String)>,
    report: &Report,
) -> Result<()> {
    let report = report.clone();
    work::run(move |stop| {
        let source = Source::open(&archive)?;
        let manifest = source
            .json("manifest.json")?
            .ok_or_else(|| source.broken("it has no manifest.json"))?;
        let saved = docker::Saved::parse(&manifest).map_err(|why| source.broken(why))?;
        let blobs = folder.join(BLOBS);
        std::fs::create_dir_all(&blobs).map_err(|error| unwritable(&blobs, &error))?;
        docker::write_layout(&source, &saved, &annotations, &folder, &report, stop)
    })
    .await
}

/// Writes a layout of the image in `source` into `folder`.
fn take_image(source: &Source, folder: &Path, report: &Report, stop: &Stop) -> Result<()> {
    let blobs = folder.join(BLOBS);
    std::fs::create_dir_all(&blobs).map_err(|error| unwritable(&blobs, &error))?;
    let saved = match source.json("manifest.json")? {
        Some(bytes) => Some(docker::Saved::parse(&bytes).map_err(|why| source.broken(why))?),
        None => None,
    };
    let is_layout = source.has("index.json") && source.has("oci-layout");
    match saved {
        // What the containerd store saves is the layout as it was pushed and pulled: its digests
        // are kept.
        Some(saved) if !is_layout || docker::has_plain_layer(source, &saved)? => {
            docker::write_layout(source, &saved, &[], folder, report, stop)
        }
        saved if is_layout => copy_layout(source, folder, saved.is_some(), report, stop),
        _ => Err(source.broken(
            "it has neither a manifest.json, as docker save writes it, nor an index.json \
                     and an oci-layout",
        )),
    }
}

/// Copies a layout, every blob compared with its name.
fn copy_layout(
    source: &Source,
    folder: &Path,
    saved: bool,
    report: &Report,
    stop: &Stop,
) -> Result<()> {
    let mut blobs = Vec::new();
    for name in source.blobs()? {
        let Some((size, reader)) = source.file(&name)? else { continue };
        drop(reader);
        blobs.push((name, size));
    }
    let bar = report
        .bytes("taking it in", blobs.iter().fold(0, |sum, (_, size)| sum.saturating_add(*size)));
    for (name, _) in &blobs {
        let Some((_, mut reader)) = source.file(name)? else { continue };
        let found = save_blob(&mut reader, &folder.join(name), &bar, stop)
            .map_err(|error| error.of(source, name))?;
        if name.strip_prefix(BLOBS).map(|hex| &hex[1..]) != Some(found.hex()) {
            return Err(source.broken(format!("the bytes of {name} have the digest {found}")));
        }
    }
    bar.finish();
    let index = source.json("index.json")?.unwrap_or_default();
    let index = if saved { docker::keep_whole(source, &index)?.unwrap_or(index) } else { index };
    let header = source.json("oci-layout")?.unwrap_or_default();
    for (name, bytes) in [("index.json", index), ("oci-layout", header)] {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(|error| unwritable(&path, &error))?;
    }
    Ok(())
}

/// An error of a layout that nobody has seen, in words of the file that it came from.
fn rename_error(error: Error, folder: &Path, from: &Path) -> Error {
    let name =
        |text: String| text.replace(&folder.display().to_string(), &from.display().to_string());
    let place = error.place.clone().map(|mut place| {
        place.file = PathBuf::from(name(place.file.display().to_string()));
        place
    });
    let fixes = if error.kind == crate::error::Kind::Input {
        vec![archive::AGAIN.to_string()]
    } else {
        error.fixes.clone()
    };
    Error { message: name(error.message.clone()), place, fixes, ..error }
}

/// Where an image comes from.
#[derive(Debug)]
pub enum Source {
    Archive(Archive),
    Folder(PathBuf),
}

/// Whether a folder has a regular file of this name. The name may be somebody else's: neither `..`
/// nor a link on the way leads out.
fn is_inside(folder: &Path, name: &str) -> bool {
    let path = folder.join(name);
    let (Ok(folder), Ok(real)) = (std::fs::canonicalize(folder), std::fs::canonicalize(&path))
    else {
        return false;
    };
    std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file())
        && real.starts_with(&folder)
        && real == folder.join(name)
}

impl Source {
    /// Opens a file or a folder.
    ///
    /// # Errors
    /// Bad input when it is neither, or a tar that cannot be trusted.
    pub fn open(from: &Path) -> Result<Source> {
        let meta = std::fs::metadata(from).map_err(|error| {
            Error::input(format!("cannot read {}", from.display())).why(error).fix(
                "name what `docker save` wrote, an OCI archive, or the folder of an OCI layout: \
                 --from FILE-OR-FOLDER",
            )
        })?;
        match meta.is_dir() {
            true => Ok(Source::Folder(from.to_path_buf())),
            false if meta.is_file() => Archive::open(from).map(Source::Archive),
            false => Err(Error::input(format!(
                "cannot read {}: it is neither a file nor a folder",
                from.display()
            ))
            .fix("write what it gives into a file first, and name that one")),
        }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Source::Archive(archive) => archive.has(name),
            Source::Folder(folder) => is_inside(folder, name),
        }
    }

    /// A file's size and bytes; none when there is no such regular file.
    fn file(&self, name: &str) -> Result<Option<(u64, Box<dyn Read + '_>)>> {
        match self {
            Source::Archive(archive) => {
                Ok(archive.file(name).map(|(size, part)| (size, Box::new(part) as Box<dyn Read>)))
            }
            Source::Folder(folder) => {
                let path = folder.join(name);
                // A link could lead to anything that this process may read.
                if !self.has(name) {
                    return Ok(None);
                }
                let unreadable = |error| self.broken(format!("{}: {error}", path.display()));
                let file = File::open(&path).map_err(unreadable)?;
                let size = file.metadata().map_err(unreadable)?.len();
                Ok(Some((size, Box::new(file.take(size)))))
            }
        }
    }

    /// The bytes of a JSON file; none when there is none.
    fn json(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((size, mut reader)) = self.file(name)? else { return Ok(None) };
        if size > JSON_LIMIT {
            return Err(self.broken(format!(
                "{name} has {size} bytes, more than the {JSON_LIMIT} that registries take"
            )));
        }
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|error| self.broken(format!("{name}: {error}")))?;
        Ok(Some(bytes))
    }

    /// A JSON file, read.
    fn value(&self, name: &str) -> Result<Option<Value>> {
        let Some(bytes) = self.json(name)? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| self.broken(format!("{name}: {error}")))
    }

    /// The names of all blobs: those that are called by a digest.
    fn blobs(&self) -> Result<Vec<String>> {
        let is_blob = |name: &str| {
            let hex = name.strip_prefix("blobs/sha256/").unwrap_or_default();
            Digest::parse(&format!("sha256:{hex}")).is_ok()
        };
        match self {
            Source::Archive(archive) => {
                Ok(archive.names().filter(|name| is_blob(name)).map(str::to_string).collect())
            }
            Source::Folder(folder) => {
                let blobs = folder.join(BLOBS);
                let entries = std::fs::read_dir(&blobs)
                    .map_err(|error| self.broken(format!("{BLOBS}: {error}")))?;
                let names =
                    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
                let names: Vec<String> = names
                    .map(|name| format!("{BLOBS}/{name}"))
                    .filter(|name| is_blob(name))
                    .take(FILE_LIMIT + 1)
                    .collect();
                match names.len() > FILE_LIMIT {
                    true => Err(self.broken(format!("it has more than {FILE_LIMIT} blobs"))),
                    false => Ok(names),
                }
            }
        }
    }

    fn broken(&self, why: impl std::fmt::Display) -> Error {
        match self {
            Source::Archive(archive) => archive.broken(why),
            Source::Folder(folder) => {
                Error::input(format!("cannot read an image from {}", folder.display()))
                    .why(why)
                    .fix(archive::AGAIN)
            }
        }
    }
}

/// What went wrong while bytes were taken from one place to another.
enum Failure {
    Read(std::io::Error),
    Write(PathBuf, std::io::Error),
}

impl Failure {
    fn of(self, source: &Source, name: &str) -> Error {
        match self {
            Failure::Read(error) => source.broken(format!("{name}: {error}")),
            Failure::Write(path, error) => unwritable(&path, &error),
        }
    }
}

/// Writes all of `reader` to a new file, and gives the digest of what was written.
fn save_blob(reader: &mut impl Read, to: &Path, bar: &Bar, stop: &Stop) -> Result<Digest, Failure> {
    use std::io::Write;
    let write = |error| Failure::Write(to.to_path_buf(), error);
    let mut file = File::create_new(to).map_err(write)?;
    let (mut hash, mut buffer) = (Context::new(&SHA256), vec![0; BUFFER]);
    loop {
        stop.check().map_err(Failure::Read)?;
        let read = reader.read(&mut buffer).map_err(Failure::Read)?;
        if read == 0 {
            return Ok(Digest::from_sha256(hash.finish().as_ref()));
        }
        file.write_all(&buffer[..read]).map_err(write)?;
        hash.update(&buffer[..read]);
        bar.add(read as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_out_of_no_folder() {
        let around = tempfile::tempdir().expect("a folder");
        let folder = around.path().join("image");
        std::fs::create_dir_all(folder.join("blobs")).expect("folders");
        for file in ["outside", "image/manifest.json", "image/blobs/one"] {
            std::fs::write(around.path().join(file), "x").expect("written");
        }
        std::os::unix::fs::symlink("../outside", folder.join("link")).expect("a link");
        std::os::unix::fs::symlink("..", folder.join("up")).expect("a link");
        let absolute = around.path().join("outside").display().to_string();
        let cases = [
            ("manifest.json", true),
            ("blobs/one", true),
            ("./blobs/one", true),
            ("blobs", false),
            ("none", false),
            ("link", false),
            ("up/outside", false),
            ("../outside", false),
            ("blobs/../../outside", false),
            (&absolute, false),
        ];
        for (name, inside) in cases {
            assert_eq!(is_inside(&folder, name), inside, "{name}");
        }
    }
}
