//! Commits as git stores them, read as leniently as git reads them. Reads, never writes.
//!
//! Old importers left committer lines without a date, which git takes for 1970; a library that
//! stops there would hide every version behind such a commit.

use std::collections::HashSet;

use gix::ObjectId;
use gix::objs::{Find as _, Kind};

use super::bump::Commit;
use super::commit;
use crate::error::{Error, Result, chain};

/// How far commits' clocks may be off before an ancestor is taken for none: a day, as git itself
/// allows, and this many older commits in a row.
pub const CLOCK_SKEW: i64 = 86_400;
pub const OLDER_IN_A_ROW: usize = 1_000;

/// Room for the objects that a walk comes to twice.
const OBJECT_CACHE: usize = 8 * 1024 * 1024;

/// From this many commits on, a walk is worth a look into the commit-graph. Its entries lie in the
/// order of their ids, so that even a short walk would pull most of the file into memory.
const LONG_WALK: usize = 5_000;

/// Why the checkout cannot tell, though the repository it came from can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The history is cut off before the last version.
    Commits,
    /// Trees are left out, and `paths` needs them.
    Trees,
    /// No version tag is here, and nobody said that there is none.
    Tags,
    /// The history is cut off below the last version that is here; a higher one may lie behind the
    /// cut.
    Higher,
}

impl Missing {
    /// What is missing, in the plural.
    pub fn name(self) -> &'static str {
        match self {
            Missing::Commits | Missing::Higher => "commits",
            Missing::Trees => "trees",
            Missing::Tags => "tags",
        }
    }

    pub fn why(self) -> &'static str {
        match self {
            Missing::Commits => "the checkout is shallow: its history ends before the last version",
            Missing::Trees => {
                "the checkout has no trees of older commits, and version.paths asks what they touch"
            }
            Missing::Tags => "the remote has version tags, and this checkout has none",
            Missing::Higher => {
                "the checkout is shallow, and a higher version may lie behind its end"
            }
        }
    }
}

/// What reading the history ends in, where it does not end well.
#[derive(Debug)]
pub enum Failure {
    Missing(Missing),
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

/// The error for an object that git has and nobody can read.
pub fn name_unreadable(what: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::unexpected(format!("cannot read {what}")).why(chain(error))
}

/// Opens the room for objects that both walks, of the tags and of the commits, come to.
pub fn remember_objects(repository: &mut gix::Repository) {
    repository.object_cache_size_if_unset(OBJECT_CACHE);
}

/// A commit's place in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitNode {
    /// Seconds since 1970; 0 where the commit has no date.
    pub time: i64,
    pub parents: Vec<ObjectId>,
}

/// Reads commits, of a shallow history no further than to its end.
pub struct CommitReader<'r> {
    repository: &'r gix::Repository,
    cut: HashSet<ObjectId>,
    graph: Option<gix::commitgraph::Graph>,
    /// How many commits were read; `None` once the commit-graph was looked for.
    read: Option<usize>,
    buffer: Vec<u8>,
}

impl<'r> CommitReader<'r> {
    pub fn of(repository: &'r gix::Repository) -> Self {
        let cut = repository.shallow_commits().ok().flatten();
        let cut = cut.iter().flat_map(|cut| cut.iter().copied()).collect();
        CommitReader { repository, cut, graph: None, read: Some(0), buffer: Vec::new() }
    }

    /// Whether the history ends at a commit because the checkout is shallow.
    pub fn is_cut(&self, id: &ObjectId) -> bool {
        self.cut.contains(id)
    }

    /// Whether the history is cut off anywhere.
    pub fn is_shallow(&self) -> bool {
        !self.cut.is_empty()
    }

    /// Reads a commit's place in the history.
    ///
    /// # Errors
    /// Unexpected, when the commit cannot be read.
    pub fn node(&mut self, id: ObjectId) -> Result<CommitNode> {
        self.count_read();
        if let Some(node) = self.node_of_graph(&id) {
            return Ok(node);
        }
        let mut node = parse_node(self.data(id)?);
        if self.cut.contains(&id) {
            node.parents.clear();
        }
        Ok(node)
    }

    /// Reads a whole commit.
    ///
    /// # Errors
    /// Unexpected, when the commit cannot be read.
    pub fn commit(&mut self, id: ObjectId) -> Result<Commit> {
        Ok(parse_commit(id, self.data(id)?))
    }

    fn data(&mut self, id: ObjectId) -> Result<&[u8]> {
        let unreadable = |why: String| {
            Error::refused(format!("cannot read commit {id}"))
                .why(why)
                .fix("check the repository, and clone it anew where it is damaged: git fsck")
        };
        match self.repository.objects.try_find(&id, &mut self.buffer) {
            Ok(Some(data)) if data.kind == Kind::Commit => Ok(data.data),
            Ok(Some(data)) => Err(unreadable(format!("it is a {}", data.kind))),
            Ok(None) => Err(unreadable("it is not in this checkout".into())),
            Err(error) => Err(unreadable(chain(&error))),
        }
    }

    /// Opens the commit-graph once the walk is a long one. A shallow history has none.
    fn count_read(&mut self) {
        let Some(read) = self.read.as_mut() else { return };
        *read += 1;
        if *read > LONG_WALK {
            self.read = None;
            let graph = || self.repository.commit_graph_if_enabled().ok().flatten();
            self.graph = if self.cut.is_empty() { graph() } else { None };
        }
    }

    fn node_of_graph(&self, id: &ObjectId) -> Option<CommitNode> {
        let graph = self.graph.as_ref()?;
        let commit = graph.commit_by_id(id)?;
        let parents: Result<Vec<ObjectId>, _> = commit
            .iter_parents()
            .map(|parent| parent.map(|parent| graph.id_at(parent).to_owned()))
            .collect();
        let time = i64::try_from(commit.committer_timestamp()).ok()?;
        Some(CommitNode { time, parents: parents.ok()? })
    }
}

/// A commit's headers, up to the empty line, as `(name, value)`; continued ones only with their
/// first line.
fn split_headers(data: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    data.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty()).filter_map(|line| {
        let space = line.iter().position(|byte| *byte == b' ').filter(|space| *space > 0)?;
        Some((&line[..space], &line[space + 1..]))
    })
}

fn parse_node(data: &[u8]) -> CommitNode {
    let mut node = CommitNode { time: 0, parents: Vec::with_capacity(1) };
    for (name, value) in split_headers(data) {
        match name {
            b"parent" => node.parents.extend(ObjectId::from_hex(value).ok()),
            b"committer" => {
                node.time = parse_time(value);
                break;
            }
            _ => {}
        }
    }
    node
}

/// The seconds of `Name <address> seconds zone`; 0 where there are none, as git reads it.
fn parse_time(signature: &[u8]) -> i64 {
    let end = signature.iter().rposition(|byte| *byte == b'>').map_or(0, |end| end + 1);
    let text = std::str::from_utf8(&signature[end..]).unwrap_or_default();
    text.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

fn parse_commit(id: ObjectId, data: &[u8]) -> Commit {
    let end = data.windows(2).position(|pair| pair == b"\n\n");
    let (headers, message) = match end {
        Some(end) => (&data[..end], &data[end + 2..]),
        None => (data, &data[data.len()..]),
    };
    let header = |wanted: &[u8]| {
        split_headers(headers).find(|(name, _)| *name == wanted).map(|(_, value)| value)
    };
    let encoding = header(b"encoding").map(|label| String::from_utf8_lossy(label).into_owned());
    let text = |bytes: &[u8]| decode_text(bytes, encoding.as_deref());
    let author = text(header(b"author").unwrap_or_default());
    let (name, rest) = author.split_once('<').unwrap_or((&author, ""));
    Commit {
        id: id.to_string(),
        author: name.trim().to_string(),
        email: rest.split('>').next().unwrap_or_default().trim().to_string(),
        parents: parse_node(headers).parents.iter().map(ObjectId::to_string).collect(),
        message: commit::read_message(&text(message)),
        counts: true,
        trial: false,
    }
}

/// Decodes a commit's text by its `encoding` header, which git writes where `i18n.commitEncoding`
/// is not UTF-8 (<https://git-scm.com/docs/git-commit#_discussion>).
fn decode_text(bytes: &[u8], encoding: Option<&str>) -> String {
    let label = encoding.map(|label| match label.trim().to_ascii_lowercase().as_str() {
        // Names that git's iconv knows and the list of the web does not.
        "latin-1" | "iso8859_1" => "latin1".to_string(),
        "cp932" => "shift_jis".to_string(),
        "cp936" => "gbk".to_string(),
        "cp949" => "euc-kr".to_string(),
        "cp950" => "big5".to_string(),
        other => other.to_string(),
    });
    let found = label.and_then(|label| encoding_rs::Encoding::for_label(label.as_bytes()));
    // Headers that are ASCII stand in no text of two bytes a character.
    match found.filter(|found| found.is_ascii_compatible()) {
        Some(encoding) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
        None => String::from_utf8_lossy(bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_git_reads_it() {
        let cases: [(&[u8], i64); 8] = [
            (b"a <a@example.org> 1700000000 +0000", 1_700_000_000),
            (b"a <a@example.org>", 0),
            (b"a <a@example.org> ", 0),
            (b"a <a@example.org> Thu Jan 1 2015", 0),
            (b"a <a@example.org> 99999999999999999999 +0000", 0),
            (b"a > b <a@example.org> 7 +0000", 7),
            (b"no address 7", 0),
            (b"", 0),
        ];
        for (signature, time) in cases {
            assert_eq!(parse_time(signature), time, "{}", String::from_utf8_lossy(signature));
        }
    }

    #[test]
    fn only_the_headers_of_a_commit_make_its_place() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let data = format!(
            "tree {a}\nparent {a}\nparent {b}\nauthor x <x@y> 1 +0000\ncommitter x <x@y> 2 +0000\n\
             gpgsig -----BEGIN\n parent {b}\n feat!: inside\n -----END\n\nfix: a\n\nparent {b}\n"
        );
        let node = parse_node(data.as_bytes());
        assert_eq!((node.time, node.parents.len()), (2, 2));
        let id = ObjectId::from_hex(a.as_bytes()).expect("an id");
        let commit = parse_commit(id, data.as_bytes());
        assert_eq!((commit.author.as_str(), commit.email.as_str()), ("x", "x@y"));
        assert_eq!((commit.message.title.as_str(), commit.parents.len()), ("fix: a", 2));
        let bare = parse_commit(id, b"tree nothing");
        assert_eq!((bare.author.as_str(), bare.message.title.as_str()), ("", ""));
    }

    #[test]
    fn text_is_decoded_by_its_encoding() {
        let cases: [(&[u8], Option<&str>, &str); 9] = [
            ("Jörg".as_bytes(), Some("UTF-16"), "Jörg"),
            (b"J\xf6rg", Some("ISO-8859-1"), "Jörg"),
            (b"J\xf6rg", Some("latin-1"), "Jörg"),
            (b"\xa4", Some("ISO-8859-15"), "€"),
            (b"\x93\xfa", Some("CP932"), "日"),
            (b"J\xf6rg", None, "J\u{fffd}rg"),
            ("Jörg".as_bytes(), None, "Jörg"),
            ("Jörg".as_bytes(), Some("UTF-8"), "Jörg"),
            ("Jörg".as_bytes(), Some("of nobody"), "Jörg"),
        ];
        for (bytes, encoding, text) in cases {
            assert_eq!(decode_text(bytes, encoding), text, "{encoding:?}");
        }
    }
}
