//! The bytes of a reftable → the references in it. Pure.
//!
//! Git 3.0 stores references so by itself, and git 2.45 where it is told to; the library that reads
//! the repository knows files only (gix 0.90). The format:
//! <https://git-scm.com/docs/reftable#_file_format>

use std::collections::BTreeMap;

/// What a reference stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An object's id, hexadecimal.
    Object(String),
    /// Another reference's name.
    Symbolic(String),
}

/// The references of a stack of tables, by their full names.
pub type References = BTreeMap<String, Target>;

/// How many symbolic references may follow each other, as git allows.
const DEPTH: usize = 5;

/// A SHA-1.
const ID: usize = 20;

/// Adds the references of a table to those of the tables below it: they replace them, and a
/// reference that was deleted is gone. `None` if the bytes are no table.
pub fn add_table(table: &[u8], references: &mut References) -> Option<()> {
    let magic = table.get(..4)?;
    let (version, header) = match *table.get(4)? {
        1 => (1, 24),
        2 => (2, 28),
        _ => return None,
    };
    if magic != b"REFT" || (version == 2 && table.get(24..28)? != b"sha1") {
        return None;
    }
    let aligned = read_number(table.get(5..8)?);
    let mut start = 0;
    loop {
        // The header of the file is a part of its first block.
        let at = if start == 0 { header } else { start };
        // Logs, indexes and the footer come behind all blocks of references.
        if table.get(at) != Some(&b'r') {
            return Some(());
        }
        let length = read_number(table.get(at + 1..at + 4)?);
        let block = table.get(at + 4..start.checked_add(length)?)?;
        add_block(block, references)?;
        start += if aligned > 0 { aligned.max(length) } else { length };
    }
}

/// Adds the references of a block, which ends with the places where names are written in full.
fn add_block(block: &[u8], references: &mut References) -> Option<()> {
    let restarts = read_number(block.get(block.len().checked_sub(2)?..)?);
    let mut rest = block.get(..block.len().checked_sub(2 + 3 * restarts)?)?;
    let mut name: Vec<u8> = Vec::new();
    while !rest.is_empty() {
        let shared = read_varint(&mut rest)?;
        let suffix = read_varint(&mut rest)?;
        let kind = suffix & 7;
        name.truncate(shared);
        name.extend_from_slice(take_bytes(&mut rest, suffix >> 3)?);
        let _update = read_varint(&mut rest)?;
        let key = String::from_utf8_lossy(&name).into_owned();
        let target = match kind {
            0 => None,
            1 => Some(Target::Object(write_hex(take_bytes(&mut rest, ID)?))),
            // A tag, and the object that it is of.
            2 => {
                let id = write_hex(take_bytes(&mut rest, ID)?);
                take_bytes(&mut rest, ID)?;
                Some(Target::Object(id))
            }
            3 => {
                let length = read_varint(&mut rest)?;
                let name = take_bytes(&mut rest, length)?;
                Some(Target::Symbolic(String::from_utf8_lossy(name).into_owned()))
            }
            _ => return None,
        };
        match target {
            Some(target) => references.insert(key, target),
            None => references.remove(&key),
        };
    }
    Some(())
}

/// Follows a reference to the object that it stands for, and returns the last name and the id.
pub fn follow_reference<'r>(
    references: &'r References,
    name: &'r str,
) -> Option<(&'r str, &'r str)> {
    let mut name = name;
    for _ in 0..=DEPTH {
        match references.get(name)? {
            Target::Object(id) => return Some((name, id)),
            Target::Symbolic(next) => name = next,
        }
    }
    None
}

fn take_bytes<'b>(rest: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

/// Reads bytes as one number, the highest first.
fn read_number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Reads a number of seven bits a byte; each byte but the last adds one, as in packs' offsets.
fn read_varint(rest: &mut &[u8]) -> Option<usize> {
    let mut number: usize = 0;
    loop {
        let [byte] = *take_bytes(rest, 1)? else { return None };
        number = number.checked_mul(128)?.checked_add(usize::from(byte & 127))?;
        if byte & 128 == 0 {
            return Some(number);
        }
        number = number.checked_add(1)?;
    }
}

fn write_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of one block: `(shared, suffix, kind, value)` each.
    fn table(records: &[(u8, &str, u8, &[u8])], block_size: u8) -> Vec<u8> {
        let mut block = Vec::new();
        for (shared, suffix, kind, value) in records {
            let length = u8::try_from(suffix.len()).expect("a short name");
            block.push(*shared);
            // Two bytes of a number: (first + 1) * 128 + second.
            let head = usize::from(length) << 3 | usize::from(*kind);
            if head > 127 {
                block.push(128 | u8::try_from((head >> 7) - 1).expect("a short name"));
            }
            block.push(u8::try_from(head & 127).expect("seven bits"));
            block.extend(suffix.as_bytes());
            block.push(0);
            block.extend(*value);
        }
        block.extend([0, 0, 28, 0, 1]);
        let mut bytes = b"REFT\x01\x00\x00".to_vec();
        bytes.push(block_size);
        bytes.extend([0; 16]);
        bytes.extend([b'r', 0, 0, u8::try_from(28 + block.len()).expect("a short block")]);
        bytes.extend(block);
        bytes.resize(bytes.len().max(block_size.into()), 0);
        bytes.extend(b"REFT");
        bytes
    }

    #[test]
    fn the_newest_table_says_where_a_reference_stands() {
        let (old, new, peeled) = ([0x0a; 20], [0x0b; 20], [[0x0c; 20], [0x0d; 20]].concat());
        let below = table(
            &[
                (0, "HEAD", 3, b"\x0frefs/heads/main"),
                (0, "refs/heads/main", 1, &old),
                (5, "tags/v1.0.0", 2, &peeled),
                (10, "v1.1.0", 1, &old),
            ],
            0,
        );
        let above = table(&[(0, "refs/heads/main", 1, &new), (5, "tags/v1.1.0", 0, b"")], 200);
        let mut references = References::new();
        add_table(&below, &mut references).expect("a table");
        assert_eq!(references.len(), 4);
        add_table(&above, &mut references).expect("a table");
        let id = "0b".repeat(20);
        assert_eq!(follow_reference(&references, "HEAD"), Some(("refs/heads/main", id.as_str())));
        let id = "0c".repeat(20);
        assert_eq!(references.get("refs/tags/v1.0.0"), Some(&Target::Object(id)));
        assert_eq!(references.get("refs/tags/v1.1.0"), None);
        references.insert("refs/loop".into(), Target::Symbolic("refs/loop".into()));
        assert_eq!(follow_reference(&references, "refs/loop"), None);
    }

    #[test]
    fn no_bytes_are_too_odd_to_read() {
        let whole = table(&[(0, "refs/heads/main", 1, &[7; 20])], 0);
        for end in 0..whole.len() {
            add_table(&whole[..end], &mut References::new());
            for byte in [0, 1, 3, 127, 128, 255] {
                let mut odd = whole.clone();
                odd[end] = byte;
                add_table(&odd, &mut References::new());
            }
        }
        assert_eq!(add_table(b"REFT\x03", &mut References::new()), None);
    }
}
