//! Streams the layers of an image and names the files in them that hold secrets. What a later layer
//! deletes is looked at too: it is still in the image.
//!
//! A layer is any bytes that a build made: what is read of it is bounded in size, count and memory,
//! whatever it says of itself.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::secrets;
use crate::image::pack::Packing;

/// The most entries that are looked at in one layer.
const ENTRIES: usize = 1_000_000;
/// The most that one layer may unpack to, in bytes: more is a mistake or an attack.
const UNPACKED: u64 = 32 * 1024 * 1024 * 1024;
/// The longest path, and the longest list of attributes, in bytes.
const NAME: u64 = 64 * 1024;
/// The most files of one layer that are told.
const FOUND: usize = 50;
/// The most deletions of one layer that are remembered.
const DELETED: usize = 10_000;

/// What one layer has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    pub found: Vec<Found>,
    /// What it deletes of the layers below.
    pub deleted: BTreeSet<String>,
    /// Why it was not looked at whole.
    pub cut: Option<String>,
}

/// A file with a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub path: String,
    pub kind: &'static str,
}

/// Looks at each of these blobs, a few at a time. Blocks.
pub fn scan(blobs: &[PathBuf]) -> Vec<Layer> {
    // Half of the processors: the others start the containers meanwhile.
    let threads =
        std::thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2)).clamp(1, 4);
    let next = AtomicUsize::new(0);
    let layers = Mutex::new(vec![Layer::default(); blobs.len()]);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(blobs.len()) {
            scope.spawn(|| {
                while let Some((at, blob)) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|at| Some((at, blobs.get(at)?)))
                {
                    let layer = one(blob);
                    layers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[at] = layer;
                }
            });
        }
    });
    layers.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn one(blob: &Path) -> Layer {
    let mut layer = Layer::default();
    if let Err(error) = File::open(blob)
        .and_then(|file| unpack(BufReader::with_capacity(128 * 1024, file)))
        .and_then(|unpacked| entries(unpacked, &mut layer))
    {
        layer.cut = Some(error.to_string());
    }
    layer
}

/// Unpacks a layer in whatever way it is packed: its first bytes say it.
///
/// # Errors
/// What reading its first bytes fails with.
pub fn unpack<'a>(mut packed: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>> {
    Ok(match Packing::of(packed.fill_buf()?) {
        Packing::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Packing::Zstd => Box::new(Zstd { packed, frame: FrameDecoder::new(), open: false }),
        Packing::No => Box::new(packed),
    })
}

fn entries(unpacked: impl Read, layer: &mut Layer) -> Result<()> {
    let mut archive = tar::Archive::new(Bounded { inner: unpacked, left: UNPACKED });
    let mut content = Vec::new();
    let mut long_name: Option<String> = None;
    // Raw: the library would take a name of any length into memory.
    for (count, entry) in archive.entries()?.raw(true).enumerate() {
        let mut entry = entry?;
        if count >= ENTRIES {
            return Err(Error::other(format!("it has more than {ENTRIES} entries")));
        }
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
            content.clear();
            if entry.size() > NAME || (&mut entry).take(NAME).read_to_end(&mut content).is_err() {
                return Err(Error::other(
                    "a name or its attributes are longer than any file system takes",
                ));
            }
            if kind.is_gnu_longname() {
                long_name = Some(text(&content));
            } else {
                for attribute in tar::PaxExtensions::new(&content) {
                    let attribute = attribute?;
                    match attribute.key_bytes() {
                        b"path" => long_name = Some(text(attribute.value_bytes())),
                        // Where the next entry begins would then be another place than the header
                        // says.
                        b"size" => return Err(Error::other("it has a file of 8 GiB or more")),
                        _ => {}
                    }
                }
            }
            continue;
        }
        if kind.is_gnu_longlink() || kind.is_pax_global_extensions() {
            continue;
        }
        let path = long_name.take().unwrap_or_else(|| text(&entry.path_bytes()));
        let path = path.trim_start_matches("./").trim_matches('/');
        let (folder, name) =
            path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
        if let Some(deleted) = name.strip_prefix(".wh.") {
            if layer.deleted.len() < DELETED {
                layer.deleted.insert(format!("{folder}/{deleted}").trim_matches('/').to_string());
            }
            continue;
        }
        let size = entry.size();
        if !kind.is_file() || size == 0 || secrets::is_public(path) {
            continue;
        }
        let secret = match secrets::by_name(path) {
            Some(kind) => Some(kind),
            None if size <= secrets::LOOKED_INTO => {
                content.clear();
                (&mut entry).take(secrets::LOOKED_INTO).read_to_end(&mut content)?;
                secrets::by_content(path, &content)
            }
            None => None,
        };
        if let Some(kind) = secret {
            // A repository is told once, not by each of its files.
            let path = if kind == secrets::REPOSITORY { folder } else { path }.to_string();
            let found = Found { path, kind };
            if layer.found.len() < FOUND && !layer.found.contains(&found) {
                layer.found.push(found);
            }
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string()
}

/// A reader that gives no more than it may.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            Error::other(format!("it unpacks to more than {} GiB", UNPACKED >> 30))
        })?;
        Ok(read)
    }
}

/// All frames of a zstd stream, one behind the other.
struct Zstd<R> {
    packed: R,
    frame: FrameDecoder,
    /// Whether a frame was begun and is not at its end.
    open: bool,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let broken =
            |error: FrameDecoderError| Error::new(ErrorKind::InvalidData, error.to_string());
        loop {
            while self.open {
                let read = self.frame.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
                self.open = !self.frame.is_finished();
                if self.open {
                    let some = BlockDecodingStrategy::UptoBlocks(1);
                    self.frame.decode_blocks(&mut self.packed, some).map_err(broken)?;
                }
            }
            if self.packed.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match self.frame.reset(&mut self.packed) {
                Ok(()) => self.open = true,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    std::io::copy(
                        &mut (&mut self.packed).take(u64::from(length)),
                        &mut std::io::sink(),
                    )?;
                }
                Err(error) => return Err(broken(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A tar of these files.
    fn tar(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, content.as_bytes()).expect("appended");
        }
        builder.into_inner().expect("a tar")
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("written");
        encoder.finish().expect("gzip")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn scanned(blob: &[u8]) -> Layer {
        let mut layer = Layer::default();
        if let Err(error) = unpack(blob).and_then(|unpacked| entries(unpacked, &mut layer)) {
            layer.cut = Some(error.to_string());
        }
        layer
    }

    fn found(layer: &Layer) -> Vec<&str> {
        layer.found.iter().map(|found| found.path.as_str()).collect()
    }

    #[test]
    fn a_layer_is_read_however_it_is_packed() {
        let long = format!("app/{}/.env", "folder/".repeat(40));
        let plain = tar(&[
            ("app/main.py", "print()"),
            (&long, "A=b"),
            ("app/.git/HEAD", "ref"),
            ("app/.git/config", "[core]"),
            ("app/.env.example", "A=b"),
            ("app/empty/.env", ""),
            ("x/.wh.secret", ""),
            (".wh.gone", ""),
            ("./root/.npmrc", "//r/:_authToken=abc\n"),
        ]);
        let (first, second) = plain.split_at(plain.len() / 1024 * 512);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let packed = [
            plain.clone(),
            gzip(&plain),
            [gzip(first), gzip(second)].concat(),
            zstd(&plain),
            [skipped.clone(), zstd(first), skipped, zstd(second)].concat(),
        ];
        for (at, blob) in packed.iter().enumerate() {
            let layer = scanned(blob);
            assert_eq!(layer.cut, None, "{at}");
            assert_eq!(found(&layer), [long.as_str(), "app/.git", "root/.npmrc"], "{at}");
            assert_eq!(layer.deleted, ["gone".to_string(), "x/secret".to_string()].into(), "{at}");
        }
    }

    #[test]
    fn a_layer_that_cannot_be_read_is_said() {
        let plain = tar(&[("a", &"x".repeat(4000))]);
        let packed = gzip(&plain);
        let mut size = tar(&[("a", "x")]);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_path("././@LongLink").expect("a path");
        header.set_cksum();
        size.splice(0..0, header.as_bytes().iter().copied());
        for (blob, words) in [
            (&packed[..packed.len() / 2], ""),
            (&plain[..700], ""),
            (&zstd(&plain)[..20], ""),
            (b"no tar at all, and long enough to be taken for a header".repeat(20).as_slice(), ""),
            (&size, "longer than any file system takes"),
        ] {
            let cut = scanned(blob).cut.expect("it is cut");
            assert!(cut.contains(words), "{cut}");
        }
        let mut bounded = Bounded { inner: std::io::repeat(0), left: 10 };
        assert!(bounded.read_exact(&mut [0; 10]).is_ok());
        assert!(bounded.read_exact(&mut [0; 1]).is_err());
        assert_eq!(scanned(b""), Layer::default(), "an empty layer");
        assert!(scan(&["/nonexistent".into()])[0].cut.is_some());
    }
}
