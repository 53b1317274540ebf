//! The times in a layer, as it is read: none is later than the epoch. Pure.
//!
//! A layer is a tar of headers and extended headers. Only their times change, and what follows from
//! them: lengths and checksums. Every other byte stays, in its place.
//! <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13>

use std::io::{Error, ErrorKind, Read, Result};

use tar::Header;

use crate::config::service::Image;

/// The time of all that a build makes: 1980-01-01. It is the same for every commit, so that a step
/// and a layer that did not change are those of before; the commit's own time is a label. A zip
/// knows none that is earlier, and what reads its year as two digits fails on 1970.
/// <https://reproducible-builds.org/docs/source-date-epoch/>
pub const EPOCH: u64 = 315_532_800;
pub const EPOCH_ARGUMENT: &str = "SOURCE_DATE_EPOCH";

/// The latest time that a layer may have: the epoch, or what the service's own build argument says.
pub fn choose_epoch(image: &Image) -> u64 {
    let argument = image.build_args.iter().find(|(name, _)| name.as_str() == EPOCH_ARGUMENT);
    argument.and_then(|(_, value)| value.parse().ok()).unwrap_or(EPOCH)
}

const BLOCK: usize = 512;
/// An extended header is read into memory: names and attributes, which no file system has more of.
const EXTENDED: u64 = 1024 * 1024;
/// The records of an extended header that are times.
const TIMES: [&[u8]; 4] = [b"mtime", b"atime", b"ctime", b"LIBARCHIVE.creationtime"];

/// A layer's tar with its times clamped to `epoch`, in seconds since 1970.
pub struct ClampedTimes<R> {
    tar: R,
    epoch: u64,
    /// What was read and is not given yet.
    ready: Vec<u8>,
    /// How much of it is given.
    given: usize,
    /// The bytes of a file that come next, which stay as they are.
    content: u64,
    /// The size that an extended header says of the next file.
    size: Option<u64>,
}

impl<R: Read> ClampedTimes<R> {
    pub fn new(tar: R, epoch: u64) -> ClampedTimes<R> {
        ClampedTimes { tar, epoch, ready: Vec::new(), given: 0, content: 0, size: None }
    }

    /// Reads the next header. Nothing is ready at the end of the tar.
    fn read_header(&mut self) -> Result<()> {
        (self.ready, self.given) = (Vec::new(), 0);
        let mut header = Header::new_old();
        if !read_block(&mut self.tar, header.as_mut_bytes())? {
            return Ok(());
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            // The mark at the end; whatever is behind it is no file.
            self.ready.extend_from_slice(header.as_bytes());
            self.content = u64::MAX;
            return Ok(());
        }
        let kind = header.entry_type();
        if kind.is_gnu_sparse() {
            return Err(broken_layer("it has a sparse file of GNU's"));
        }
        let own = header.entry_size()?;
        if kind.is_pax_local_extensions() || kind.is_pax_global_extensions() {
            let records = read_records(&mut self.tar, own)?;
            let clamped = self.clamp_records(&records)?;
            header.set_size(clamped.len() as u64);
            self.clamp_header(&mut header)?;
            self.ready.extend_from_slice(header.as_bytes());
            self.ready.extend_from_slice(&clamped);
            self.ready.resize(self.ready.len().next_multiple_of(BLOCK), 0);
            return Ok(());
        }
        // Long names of GNU's have their own size, and stand between an extended header and its file.
        let is_name = kind.is_gnu_longname() || kind.is_gnu_longlink();
        let size = if is_name { own } else { self.size.take().unwrap_or(own) };
        let has_content = is_name || kind.is_file() || kind.is_contiguous();
        self.content = match has_content {
            true => pad_to_block(size)?,
            false => 0,
        };
        self.clamp_header(&mut header)?;
        self.ready.extend_from_slice(header.as_bytes());
        Ok(())
    }

    /// Clamps the times of a header, and makes its checksum right again.
    fn clamp_header(&self, header: &mut Header) -> Result<()> {
        if header.mtime()? > self.epoch {
            header.set_mtime(self.epoch);
        }
        if let Some(gnu) = header.as_gnu_mut() {
            let is_later = |field: &[u8; 12], time: Result<u64>| {
                field[0] != 0 && time.is_ok_and(|time| time > self.epoch)
            };
            if is_later(&gnu.atime, gnu.atime()) {
                gnu.set_atime(self.epoch);
            }
            if is_later(&gnu.ctime, gnu.ctime()) {
                gnu.set_ctime(self.epoch);
            }
        }
        header.set_cksum();
        Ok(())
    }

    /// Clamps the times among the records of an extended header, and keeps the size that is there.
    fn clamp_records(&mut self, records: &[u8]) -> Result<Vec<u8>> {
        let mut clamped = Vec::with_capacity(records.len());
        let mut rest = records;
        while !rest.is_empty() {
            let (record, behind) =
                split_record(rest).ok_or_else(|| broken_layer("a record is damaged"))?;
            rest = behind;
            let (key, value) = record;
            let text = std::str::from_utf8(value).unwrap_or_default();
            if key == b"size" {
                self.size = Some(text.parse().map_err(|_| broken_layer("a size is no number"))?);
            }
            let seconds = text.split('.').next().and_then(|seconds| seconds.parse::<u64>().ok());
            let is_later = TIMES.contains(&key) && seconds.is_some_and(|time| time >= self.epoch);
            let epoch = self.epoch.to_string();
            write_record(&mut clamped, key, if is_later { epoch.as_bytes() } else { value });
        }
        Ok(clamped)
    }
}

impl<R: Read> Read for ClampedTimes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.given == self.ready.len() && self.content == 0 {
            self.read_header()?;
        }
        if self.given < self.ready.len() {
            let read = (&self.ready[self.given..]).read(buffer)?;
            self.given += read;
            return Ok(read);
        }
        let most = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.tar.read(&mut buffer[..most])?;
        match self.content {
            // Behind the mark at the end.
            u64::MAX => Ok(read),
            content if read == 0 && content > 0 && most > 0 => Err(ErrorKind::UnexpectedEof.into()),
            content => {
                self.content = content - read as u64;
                Ok(read)
            }
        }
    }
}

/// Reads a whole block. Returns whether there is one.
fn read_block(tar: &mut impl Read, block: &mut [u8]) -> Result<bool> {
    let read = tar.take(BLOCK as u64).read(block)?;
    if read > 0 {
        tar.read_exact(&mut block[read..])?;
    }
    Ok(read > 0)
}

fn read_records(tar: &mut impl Read, size: u64) -> Result<Vec<u8>> {
    if size > EXTENDED {
        return Err(broken_layer("its attributes are longer than any file system takes"));
    }
    let padded = pad_to_block(size)?;
    let mut records = Vec::new();
    if (tar.take(padded).read_to_end(&mut records)? as u64) < padded {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    records.truncate(usize::try_from(size).unwrap_or_default());
    Ok(records)
}

/// A file's size with what fills its last block.
fn pad_to_block(size: u64) -> Result<u64> {
    size.checked_next_multiple_of(BLOCK as u64).ok_or_else(|| broken_layer("a size is too large"))
}

/// The key and the value of the first record, `LENGTH KEY=VALUE\n`, and what is behind it. A value
/// may be any bytes.
fn split_record(records: &[u8]) -> Option<((&[u8], &[u8]), &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let (record, behind) = records.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some(((&record[..equals], &record[equals + 1..]), behind))
}

/// Writes a record. Its length counts its own digits.
fn write_record(to: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    to.extend_from_slice(format!("{length} ").as_bytes());
    to.extend_from_slice(key);
    to.push(b'=');
    to.extend_from_slice(value);
    to.push(b'\n');
}

fn broken_layer(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = 315_532_800;

    /// A tar of one file of `content`, with these records before it.
    fn tar(records: &[(&str, &[u8])], mtime: u64, content: &[u8]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        if !records.is_empty() {
            builder.append_pax_extensions(records.iter().copied()).expect("records");
        }
        let mut header = Header::new_ustar();
        header.set_path("a/file").expect("a path");
        header.set_mode(0o644);
        header.set_mtime(mtime);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).expect("a file");
        builder.into_inner().expect("a tar")
    }

    fn clamp(tar: &[u8]) -> Result<Vec<u8>> {
        let mut clamped = Vec::new();
        ClampedTimes::new(tar, EPOCH).read_to_end(&mut clamped).map(|_| clamped)
    }

    #[test]
    fn no_time_is_later_than_the_epoch_and_all_else_stays() {
        let content = [7; 1000];
        // What stands before, what it is then.
        let cases: [(&[(&str, &[u8])], u64, &[(&str, &[u8])], u64); 5] = [
            (&[], EPOCH + 7, &[], EPOCH),
            (&[], EPOCH - 7, &[], EPOCH - 7),
            (&[("mtime", b"1793534400.123456789")], 0, &[("mtime", b"315532800")], 0),
            (
                &[("ctime", b"7.5"), ("path", b"b")],
                EPOCH + 1,
                &[("ctime", b"7.5"), ("path", b"b")],
                EPOCH,
            ),
            (
                &[("SCHILY.xattr.user.a", b"x\n13 mtime=9\n"), ("atime", b"99999999999")],
                9,
                &[("SCHILY.xattr.user.a", b"x\n13 mtime=9\n"), ("atime", b"315532800")],
                9,
            ),
        ];
        for (records, mtime, then, time) in cases {
            let found = clamp(&tar(records, mtime, &content)).expect("a tar");
            assert_eq!(found, tar(then, time, &content), "{records:?}");
            assert_eq!(clamp(&found).expect("a tar"), found, "and once is enough");
        }
    }

    #[test]
    fn the_checksum_of_every_header_is_right_and_every_file_is_there() {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, size) in [("one", 0), ("two", 511), ("three", 512), ("four", 70_000)] {
            let mut header = Header::new_gnu();
            header.set_mtime(EPOCH * 6);
            header.as_gnu_mut().expect("of GNU's").set_ctime(EPOCH * 6);
            header.set_size(size);
            let long = format!("{}{path}", "folder/".repeat(40));
            builder.append_data(&mut header, long, std::io::repeat(1).take(size)).expect("a file");
        }
        let tar = builder.into_inner().expect("a tar");
        let clamped = clamp(&tar).expect("a tar");
        assert_eq!(clamped.len(), tar.len());
        let mut archive = tar::Archive::new(&*clamped);
        let entries: Vec<_> = archive.entries().expect("entries").collect();
        assert_eq!(entries.len(), 4);
        for entry in entries {
            let entry = entry.expect("a header that sums up");
            assert_eq!(entry.header().mtime().expect("a time"), EPOCH);
            assert_eq!(entry.header().as_gnu().expect("of GNU's").ctime().expect("a time"), EPOCH);
        }
    }

    #[test]
    fn what_is_no_tar_is_an_error_and_never_half_a_layer() {
        let whole = tar(&[("mtime", b"1793534400.5")], 0, &[7; 1000]);
        for cut in [1, 511, 513, 700, 1500, 2000] {
            clamp(&whole[..cut]).expect_err("it is cut off");
        }
        let mut damaged = whole.clone();
        damaged[512] = b'x';
        clamp(&damaged).expect_err("a record without a length");
        assert_eq!(clamp(&[]).expect("nothing"), b"");
        let behind = [whole.as_slice(), b"and more"].concat();
        assert!(clamp(&behind).expect("a tar").ends_with(b"and more"));
    }
}
