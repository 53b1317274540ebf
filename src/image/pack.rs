//! Packs a layer: gzip on every core, the same bytes whatever the number of cores, and never more
//! than a few MiB in memory.
//!
//! The layer is cut into pieces of one size. Each is compressed by itself with the end of the piece
//! before it as dictionary, and ends on a byte, so that all of them after each other are one gzip
//! stream (<https://www.rfc-editor.org/rfc/rfc1952>), as pigz makes it. The compressor and its
//! level are part of what a digest means: with another version of it a layer may get another
//! digest, which `a_layer_has_this_digest_from_release_to_release` shows.

use std::collections::VecDeque;
use std::io::{Read, Result as IoResult, Write};
use std::sync::{Mutex, mpsc};

use aws_lc_rs::digest::{Context, SHA256};
use zlib_rs::{Deflate, DeflateFlush, Status};

use crate::image::work::Stop;
use crate::layout::Digest;

/// As gzip's own default, and as registries hold most layers.
const LEVEL: i32 = 6;
const PIECE: usize = 1024 * 1024;
/// What deflate can look back to.
const WINDOW: usize = 32 * 1024;
/// One thread reads and hashes for all; and what is under way stays below 128 MiB.
const MOST_THREADS: usize = 8;

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    No,
    Gzip,
    Zstd,
}

impl Packing {
    /// By the layer's first bytes: <https://www.rfc-editor.org/rfc/rfc1952#section-2.3.1>,
    /// <https://www.rfc-editor.org/rfc/rfc8878#section-3.1>, where a frame to be skipped may come first.
    pub fn of(beginning: &[u8]) -> Packing {
        match beginning {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packing::Zstd,
            _ => Packing::No,
        }
    }
}

/// A layer as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Of the packed bytes.
    pub digest: Digest,
    /// In bytes, packed.
    pub size: u64,
    /// Of the bytes before packing: the `diff_id` in an image's configuration.
    pub diff_id: Digest,
}

/// One piece on its way to a thread and back.
struct Piece {
    dictionary: Vec<u8>,
    bytes: Vec<u8>,
    last: bool,
    packed: mpsc::SyncSender<Vec<u8>>,
}

/// The number of threads that pack on this machine.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

/// Packs all of `layer` into `to` with `threads` threads.
///
/// # Errors
/// What reading or writing fails with, and `Other` when it is told to stop.
pub fn gzip(
    layer: &mut impl Read,
    to: &mut impl Write,
    threads: usize,
    stop: &Stop,
) -> IoResult<Packed> {
    let threads = threads.clamp(1, MOST_THREADS);
    let (pieces, waiting) = mpsc::sync_channel::<Piece>(threads);
    let waiting = Mutex::new(waiting);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&waiting));
        }
        // Moved in, so that the threads see its end, whichever way this ends.
        feed(layer, to, threads, pieces, stop)
    })
}

fn feed(
    layer: &mut impl Read,
    to: &mut impl Write,
    threads: usize,
    pieces: mpsc::SyncSender<Piece>,
    stop: &Stop,
) -> IoResult<Packed> {
    let (mut unpacked, mut checksum, mut length) = (Context::new(&SHA256), 0_u32, 0_u64);
    let mut output = Hashing { to, hash: Context::new(&SHA256), size: 0 };
    // Deflate, no name, no time, no system: nothing but the layer decides the bytes.
    output.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])?;
    let mut under_way: VecDeque<mpsc::Receiver<Vec<u8>>> = VecDeque::new();
    let mut dictionary = Vec::new();
    let mut bytes = piece(layer)?;
    loop {
        stop.check()?;
        // The end is known only when there is nothing behind it.
        let following = if bytes.len() == PIECE { piece(layer)? } else { Vec::new() };
        let last = following.is_empty();
        unpacked.update(&bytes);
        checksum = zlib_rs::crc32::crc32(checksum, &bytes);
        length += bytes.len() as u64;
        let next = bytes[bytes.len().saturating_sub(WINDOW)..].to_vec();
        let (packed, result) = mpsc::sync_channel(1);
        pieces.send(Piece { dictionary, bytes, last, packed }).map_err(|_| gone())?;
        under_way.push_back(result);
        while under_way.len() > if last { 0 } else { 2 * threads } {
            let Some(result) = under_way.pop_front() else { break };
            output.write_all(&result.recv().map_err(|_| gone())?)?;
        }
        if last {
            break;
        }
        (dictionary, bytes) = (next, following);
    }
    output.write_all(&checksum.to_le_bytes())?;
    // Modulo 2^32, as the format has it.
    output.write_all(&u32::try_from(length & 0xffff_ffff).unwrap_or_default().to_le_bytes())?;
    output.to.flush()?;
    Ok(Packed {
        digest: Digest::from_sha256(output.hash.finish().as_ref()),
        size: output.size,
        diff_id: Digest::from_sha256(unpacked.finish().as_ref()),
    })
}

/// Packs pieces until no more come.
fn work(waiting: &Mutex<mpsc::Receiver<Piece>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
        let Ok(Piece { dictionary, bytes, last, packed }) = next else { return };
        if let Some(result) = deflate(&dictionary, &bytes, last) {
            // Nobody waits for it when the run has failed meanwhile.
            let _ = packed.send(result);
        }
    }
}

/// One piece; none when the compressor refuses, which it has no reason to.
fn deflate(dictionary: &[u8], bytes: &[u8], last: bool) -> Option<Vec<u8>> {
    let mut deflate = Deflate::new(LEVEL, false, 15);
    if !dictionary.is_empty() {
        deflate.set_dictionary(dictionary).ok()?;
    }
    let flush = if last { DeflateFlush::Finish } else { DeflateFlush::SyncFlush };
    // What cannot be compressed grows by a few bytes for each 64 KiB, and ends with a marker.
    let mut packed = vec![0; bytes.len() + bytes.len() / 1024 + 1024];
    let status = deflate.compress(bytes, &mut packed, flush).ok()?;
    let read = usize::try_from(deflate.total_in()).ok()?;
    let written = usize::try_from(deflate.total_out()).ok()?;
    let whole =
        read == bytes.len() && written < packed.len() && (status == Status::StreamEnd) == last;
    packed.truncate(written);
    whole.then_some(packed)
}

/// The next bytes of a layer: fewer than a piece has only at its end.
fn piece(layer: &mut impl Read) -> IoResult<Vec<u8>> {
    let mut bytes = Vec::with_capacity(PIECE);
    layer.take(PIECE as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn gone() -> std::io::Error {
    std::io::Error::other("a packing thread ended before its piece was packed")
}

/// Hashes and counts what is written.
struct Hashing<'a, W> {
    to: &'a mut W,
    hash: Context,
    size: u64,
}

impl<W: Write> Hashing<'_, W> {
    fn write_all(&mut self, bytes: &[u8]) -> IoResult<()> {
        self.to.write_all(bytes)?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Text that can be compressed, and differs from piece to piece.
    fn text(length: usize) -> Vec<u8> {
        let mut number = 1_u64;
        let mut bytes = Vec::with_capacity(length + 32);
        while bytes.len() < length {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            bytes.extend_from_slice(format!("line {} of a layer\n", number >> 44).as_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn packed(layer: &[u8], threads: usize) -> (Packed, Vec<u8>) {
        let mut bytes = Vec::new();
        let packed = gzip(&mut &*layer, &mut bytes, threads, &Stop::never()).expect("packed");
        (packed, bytes)
    }

    /// As gzip itself unpacks it, which also compares the checksum.
    #[expect(clippy::disallowed_methods, reason = "another program is the judge")]
    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut child = Command::new("gzip")
            .arg("-dc")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gzip runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let output = std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(bytes).expect("written"));
            child.wait_with_output().expect("an end")
        });
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn gzip_unpacks_it_and_the_number_of_threads_changes_nothing() {
        for length in [0, 1, PIECE, PIECE + 1, 3 * PIECE + 12_345] {
            let layer = text(length);
            let (alone, bytes) = packed(&layer, 1);
            assert_eq!(gunzip(&bytes), layer, "{length}");
            assert_eq!(
                (alone.digest.clone(), alone.size),
                (Digest::of(&bytes), bytes.len() as u64)
            );
            assert_eq!(alone.diff_id, Digest::of(&layer));
            for threads in [3, 64] {
                assert_eq!(
                    packed(&layer, threads),
                    (alone.clone(), bytes.clone()),
                    "{length} with {threads}"
                );
            }
        }
    }

    #[test]
    fn a_layers_packing_is_seen_at_its_beginning() {
        let cases: [(&[u8], Packing); 6] = [
            (b"\x1f\x8b\x08\0", Packing::Gzip),
            (b"\x28\xb5\x2f\xfd", Packing::Zstd),
            (b"\x50\x2a\x4d\x18", Packing::Zstd),
            (b"etc/", Packing::No),
            (b"\x1f", Packing::No),
            (b"", Packing::No),
        ];
        for (beginning, packing) in cases {
            assert_eq!(Packing::of(beginning), packing, "{beginning:?}");
        }
    }

    #[test]
    fn what_cannot_be_compressed_hardly_grows() {
        let mut noise = vec![0; 3 * PIECE + 7];
        aws_lc_rs::rand::fill(&mut noise).expect("random bytes");
        let (packed, bytes) = packed(&noise, 2);
        assert_eq!(gunzip(&bytes), noise);
        assert!(packed.size < noise.len() as u64 + noise.len() as u64 / 1000, "{}", packed.size);
    }

    /// A new version of the compressor may change this: then every layer that a registry has is
    /// uploaded once more.
    #[test]
    fn a_layer_has_this_digest_from_release_to_release() {
        let (packed, _) = packed(&text(2 * PIECE + 100), 2);
        assert_eq!(
            packed.digest.as_str(),
            "sha256:b78a980ded9ef9e05c97e1c69056777bcdbf5b6126c7a46bbb3cadf3800c4a60"
        );
    }

    #[test]
    fn a_layer_that_cannot_be_read_or_written_ends_it() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
                let most = self.0.min(buffer.len());
                self.0 -= most;
                if most == 0 { Err(std::io::Error::other("no more")) } else { Ok(most) }
            }
        }
        impl Write for Broken {
            fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> IoResult<()> {
                Ok(())
            }
        }
        let stop = Stop::never();
        let error =
            gzip(&mut Broken(5 * PIECE), &mut Vec::new(), 2, &stop).expect_err("unreadable");
        assert_eq!(error.to_string(), "no more");
        let error = gzip(&mut &*text(5 * PIECE), &mut Broken(1000), 2, &stop).expect_err("full");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        let error = gzip(&mut &*text(5 * PIECE), &mut Vec::new(), 2, &Stop::at_once())
            .expect_err("stopped");
        assert_eq!(error.to_string(), "stopped");
    }
}
