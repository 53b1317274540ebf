//! A tar that nobody vouches for: its table of contents, and its files read where they lie. Nothing
//! is unpacked, so that no name in it can lead anywhere.
//!
//! <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06>, and GNU's long names:
//! <https://www.gnu.org/software/tar/manual/html_node/Standard.html>

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error as IoError, ErrorKind, Read, Result as IoResult};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header, PaxExtensions};

use crate::error::{Error, Result};

/// An image of a thousand layers, the most that a layout may have, has a few entries for each of
/// them.
const ENTRY_LIMIT: usize = 20_000;
/// Long names and extended headers are read into memory; a path that a file system takes has 4096
/// bytes at most.
const EXTENSION_LIMIT: u64 = 64 * 1024;
const BLOCK: u64 = 512;

/// What stands under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// Where the bytes are in the tar.
    File { offset: u64, size: u64 },
    /// The name it leads to, which is in the tar as well: older engines write a layer once and lead
    /// to it.
    Link(String),
}

/// A tar and its table of contents.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// Reads the table of contents.
    ///
    /// # Errors
    /// Bad input for what is no tar, is truncated or compressed, has a name twice or one that leads
    /// out of it, or has more entries than an image needs.
    pub fn open(path: &Path) -> Result<Archive> {
        let no_file = |error| Error::input(format!("cannot read {}", path.display())).why(error);
        let file = File::open(path).map_err(no_file)?;
        let length = file.metadata().map_err(no_file)?.len();
        let mut archive = Archive { path: path.to_path_buf(), file, entries: BTreeMap::new() };
        archive.index(length)?;
        Ok(archive)
    }

    /// The names of the files in it, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::File { .. }))
            .map(|(name, _)| name.as_str())
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.found(name).is_some()
    }

    /// A file's size and bytes; none when there is no such file.
    pub fn file(&self, name: &str) -> Option<(u64, Part<'_>)> {
        let (at, left) = self.found(name)?;
        Some((left, Part { file: &self.file, at, left }))
    }

    /// The name of the file that a name leads to.
    fn found(&self, name: &str) -> Option<(u64, u64)> {
        match self.entries.get(name)? {
            Entry::File { offset, size } => Some((*offset, *size)),
            // One that leads to another link is none that an engine wrote.
            Entry::Link(to) => match self.entries.get(to)? {
                Entry::File { offset, size } => Some((*offset, *size)),
                Entry::Link(_) => None,
            },
        }
    }

    /// The error for what is wrong with this archive.
    pub fn broken(&self, why: impl std::fmt::Display) -> Error {
        broken(&self.path, why)
    }

    fn index(&mut self, length: u64) -> Result<()> {
        let (mut at, mut name, mut link, mut size) = (0_u64, None, None, None);
        let mut count = 0_usize;
        loop {
            let mut header = Header::new_old();
            match self.file.read_exact_at(header.as_mut_bytes(), at) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(self.broken(match (at, length) {
                        (_, 0) => "it is empty",
                        (0, _) => "it is no tar: it is shorter than a header",
                        _ => "it is truncated: the mark at a tar's end is missing",
                    }));
                }
                Err(error) => return Err(self.broken(error)),
            }
            if header.as_bytes().iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            if at == 0 {
                self.refuse_compressed(header.as_bytes())?;
            }
            if !sums_up(&header) {
                return Err(self.broken(match at {
                    0 => "it is no tar".to_string(),
                    _ => format!("the header at byte {at} is damaged"),
                }));
            }
            count += 1;
            if count > ENTRY_LIMIT {
                return Err(self.broken(format!("it has more than {ENTRY_LIMIT} entries")));
            }
            let kind = header.entry_type();
            let extension =
                kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions();
            // Only what follows an extension is changed by it.
            let own = header
                .entry_size()
                .map_err(|_| self.broken(format!("the size at byte {at} is no number")))?;
            let bytes = if extension { own } else { size.take().unwrap_or(own) };
            let content = at + BLOCK;
            let next = bytes
                .checked_next_multiple_of(BLOCK)
                .and_then(|padded| content.checked_add(padded));
            let next = next.filter(|_| content.checked_add(bytes).is_some_and(|end| end <= length));
            let Some(next) = next else {
                return Err(self
                    .broken(format!("it is truncated: the entry at byte {at} has {bytes} bytes")));
            };
            if extension {
                let text = self.extension(content, bytes)?;
                if kind.is_pax_local_extensions() {
                    for extension in PaxExtensions::new(&text) {
                        let extension = extension.map_err(|error| self.broken(error))?;
                        let value = extension.value_bytes().to_vec();
                        match extension.key_bytes() {
                            b"path" => name = Some(value),
                            b"linkpath" => link = Some(value),
                            b"size" => {
                                let text = String::from_utf8_lossy(&value);
                                size = Some(
                                    text.parse().map_err(|_| self.broken("a size is no number"))?,
                                );
                            }
                            _ => {}
                        }
                    }
                } else {
                    let text = text.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
                    *if kind.is_gnu_longname() { &mut name } else { &mut link } = Some(text);
                }
            } else {
                let name = name.take().unwrap_or_else(|| header.path_bytes().into_owned());
                let link = link
                    .take()
                    .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
                self.add(kind, &name, link.as_deref(), content, bytes)?;
            }
            at = next;
        }
    }

    fn extension(&self, at: u64, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_LIMIT {
            return Err(self.broken(format!("a name in it has {size} bytes")));
        }
        let mut text = Vec::new();
        let read = Part { file: &self.file, at, left: size }.read_to_end(&mut text);
        read.map_err(|error| self.broken(error))?;
        Ok(text)
    }

    fn add(
        &mut self,
        kind: EntryType,
        name: &[u8],
        link: Option<&[u8]>,
        offset: u64,
        size: u64,
    ) -> Result<()> {
        if kind.is_dir() || kind.is_pax_global_extensions() {
            return Ok(());
        }
        let name = self.inside("", name)?;
        let entry = match kind {
            EntryType::Regular | EntryType::Continuous => Entry::File { offset, size },
            EntryType::Symlink => {
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                Entry::Link(self.inside(folder, link.unwrap_or_default())?)
            }
            EntryType::Link => Entry::Link(self.inside("", link.unwrap_or_default())?),
            _ => {
                return Err(self
                    .broken(format!("{} is neither a file nor a folder", name.escape_default())));
            }
        };
        match self.entries.insert(name.clone(), entry) {
            None => Ok(()),
            // Two readers could take two images from it.
            Some(_) => Err(self.broken(format!("it has {} twice", name.escape_default()))),
        }
    }

    /// A name from the top of the archive, as it reads in `folder`. One that leads out of it is
    /// never meant well.
    fn inside(&self, folder: &str, name: &[u8]) -> Result<String> {
        let outside = || self.broken(format!("`{}` leads out of it", name.escape_ascii()));
        let text = std::str::from_utf8(name)
            .map_err(|_| self.broken(format!("`{}` is no name", name.escape_ascii())))?;
        if text.starts_with('/') || text.contains(['\0', '\\']) {
            return Err(outside());
        }
        let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop().ok_or_else(outside)?),
                part => parts.push(part),
            }
        }
        match parts.is_empty() {
            true => Err(outside()),
            false => Ok(parts.join("/")),
        }
    }

    fn refuse_compressed(&self, bytes: &[u8]) -> Result<()> {
        let known: [(&[u8], &str); 4] = [
            (b"\x1f\x8b", "gunzip"),
            (b"\x28\xb5\x2f\xfd", "unzstd"),
            (b"BZh", "bunzip2"),
            (b"\xfd7zXZ", "unxz"),
        ];
        match known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
            None => Ok(()),
            Some((_, command)) => Err(self
                .broken("it is compressed, which its layers are already")
                .fix(format!("unpack it first: {command} {}", self.path.display()))),
        }
    }
}

/// A tar's header has the sum of its own bytes, the sum itself counted as spaces.
fn sums_up(header: &Header) -> bool {
    let sum = |range: &[u8]| range.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let bytes = header.as_bytes();
    header
        .cksum()
        .is_ok_and(|said| said == sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..]))
}

fn broken(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::input(format!("cannot read an image from {}", path.display())).why(why).fix(AGAIN)
}

pub const AGAIN: &str = "write it again: `docker save NAME -o FILE`, `skopeo copy … \
                         oci-archive:FILE`, or `docker buildx build \
                         --output type=oci,dest=FILE`; where it came from another job, see that all of it arrived";

/// The bytes of one file in the tar.
pub struct Part<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        if read == 0 && most > 0 {
            return Err(IoError::new(
                ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// One entry as it stands in a tar; `sum` makes the header right.
    fn entry(kind: EntryType, name: &[u8], link: &[u8], content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn file(name: &str, content: &[u8]) -> Vec<u8> {
        entry(EntryType::Regular, name.as_bytes(), b"", content)
    }

    fn end() -> Vec<u8> {
        vec![0; 1024]
    }

    fn opened(parts: &[Vec<u8>]) -> Result<Archive> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&parts.concat()).expect("written");
        Archive::open(file.path())
    }

    fn read(archive: &Archive, name: &str) -> Option<String> {
        let mut text = String::new();
        archive.file(name)?.1.read_to_string(&mut text).expect("read");
        Some(text)
    }

    #[test]
    fn files_are_read_where_they_lie() {
        let long = format!("blobs/{}", "x".repeat(150));
        let pax = format!("{} path=pax/{}\n", 14 + 120, "y".repeat(120));
        let archive = opened(&[
            entry(EntryType::Directory, b"blobs/", b"", b""),
            file("./blobs//a", b"one"),
            entry(EntryType::GNULongName, b"././@LongLink", b"", format!("{long}\0").as_bytes()),
            file("cut", b"two"),
            entry(EntryType::XHeader, b"x", b"", pax.as_bytes()),
            file("cut", b"three"),
            entry(EntryType::Symlink, b"b/layer.tar", b"../blobs/a", b""),
            entry(EntryType::Link, b"c/layer.tar", b"blobs/a", b""),
            entry(EntryType::Symlink, b"d/layer.tar", b"../b/layer.tar", b""),
            end(),
        ])
        .expect("an archive");
        let found = |name: &str| read(&archive, name);
        assert_eq!(found("blobs/a").as_deref(), Some("one"));
        assert_eq!(found(&long).as_deref(), Some("two"));
        assert_eq!(found(&format!("pax/{}", "y".repeat(120))).as_deref(), Some("three"));
        assert_eq!(
            (found("b/layer.tar").as_deref(), found("c/layer.tar").as_deref()),
            (Some("one"), Some("one"))
        );
        assert_eq!((found("d/layer.tar"), found("nope"), found("cut")), (None, None, None));
        assert_eq!(archive.names().count(), 3);
    }

    #[test]
    fn what_is_no_good_is_refused_and_why() {
        let damaged = || {
            let mut bytes = file("b", b"two");
            bytes[0] = b'c';
            bytes
        };
        let sized = |size: u64| {
            let mut header = Header::new_gnu();
            header.set_path("a").expect("a path");
            header.set_size(size);
            header.set_cksum();
            header.as_bytes().to_vec()
        };
        let pax = |text: &str| entry(EntryType::XHeader, b"x", b"", text.as_bytes());
        let many =
            || std::iter::repeat_n(entry(EntryType::Directory, b"d", b"", b""), ENTRY_LIMIT + 1);
        let cases: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
            ("empty", vec![], "it is empty"),
            ("short", vec![b"x".to_vec()], "shorter than a header"),
            ("no tar", vec![b"x".repeat(2048)], "it is no tar"),
            ("gzip", vec![[b"\x1f\x8b".to_vec(), vec![1; 1024]].concat()], "it is compressed"),
            ("no end", vec![file("a", b"one")], "the mark at a tar's end is missing"),
            ("cut in a header", vec![file("a", b"one"), vec![1; 100]], "truncated"),
            (
                "cut in a file",
                vec![file("a", &[1; 1024])[..1000].to_vec()],
                "the entry at byte 0 has 1024 bytes",
            ),
            (
                "damaged",
                vec![file("a", b"one"), damaged(), end()],
                "the header at byte 1024 is damaged",
            ),
            ("huge", vec![sized(u64::MAX), end()], "truncated"),
            (
                "huge by an extension",
                vec![pax("29 size=18446744073709551615\n"), file("a", b""), end()],
                "truncated",
            ),
            ("a size that is none", vec![pax("11 size=-1\n\n"), file("a", b""), end()], ""),
            ("above", vec![file("../a", b""), end()], "`../a` leads out of it"),
            ("above, later", vec![file("a/../../b", b""), end()], "leads out of it"),
            ("absolute", vec![file("/etc/passwd", b""), end()], "leads out of it"),
            ("no name", vec![file("./", b"x"), end()], "leads out of it"),
            ("no text", vec![entry(EntryType::Regular, b"\xff", b"", b""), end()], "is no name"),
            (
                "a link above",
                vec![entry(EntryType::Symlink, b"a/b", b"../../c", b""), end()],
                "leads out of it",
            ),
            (
                "an absolute link",
                vec![entry(EntryType::Symlink, b"a", b"/etc/passwd", b""), end()],
                "leads out of it",
            ),
            (
                "a hard link above",
                vec![entry(EntryType::Link, b"a", b"../b", b""), end()],
                "leads out of it",
            ),
            (
                "a device",
                vec![entry(EntryType::Char, b"tty", b"", b""), end()],
                "neither a file nor a folder",
            ),
            (
                "a pipe",
                vec![entry(EntryType::Fifo, b"p", b"", b""), end()],
                "neither a file nor a folder",
            ),
            (
                "sparse",
                vec![entry(EntryType::GNUSparse, b"s", b"", b""), end()],
                "neither a file nor a folder",
            ),
            ("twice", vec![file("a", b"one"), file("./a", b"two"), end()], "it has a twice"),
            (
                "a file and a link",
                vec![file("a", b"one"), entry(EntryType::Symlink, b"a", b"b", b""), end()],
                "it has a twice",
            ),
            (
                "a long name",
                vec![
                    entry(EntryType::GNULongName, b"l", b"", &vec![b'x'; 65 << 10]),
                    file("a", b""),
                    end(),
                ],
                "a name in it has",
            ),
            ("many", many().collect(), "more than 20000 entries"),
        ];
        for (name, parts, why) in cases {
            let error = opened(&parts).expect_err(name);
            assert_eq!(error.kind.exit_code(), 2, "{name}: {error}");
            assert!(error.why.as_deref().unwrap_or_default().contains(why), "{name}: {error}");
            assert!(!error.fixes.is_empty(), "{name}: {error}");
        }
    }

    /// Whatever bit is wrong, it ends in a table or in an error, and never reads beyond the file.
    #[test]
    fn no_bit_breaks_it() {
        let good = [
            file("blobs/a", b"one"),
            entry(EntryType::GNULongName, b"l", b"", b"name\0"),
            file("b", b"two"),
            entry(EntryType::XHeader, b"x", b"", b"9 path=p\n"),
            file("c", b""),
            entry(EntryType::Symlink, b"d", b"b", b""),
            end(),
        ]
        .concat();
        let mut temporary = tempfile::NamedTempFile::new().expect("a file");
        for bit in (0..good.len() * 8).step_by(7) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            temporary.as_file().set_len(0).expect("emptied");
            std::io::Seek::rewind(&mut temporary).expect("rewound");
            temporary.write_all(&bad).expect("written");
            if let Ok(archive) = Archive::open(temporary.path()) {
                for name in archive.names() {
                    let (size, mut part) = archive.file(name).expect("a file");
                    let mut bytes = Vec::new();
                    part.read_to_end(&mut bytes).expect("it is in the file");
                    assert_eq!(bytes.len() as u64, size, "bit {bit}");
                }
            }
        }
    }
}
