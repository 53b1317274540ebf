//! How the work tree differs from the commit that is checked out: what `git status` says, read
//! without running git and without any program that a repository's configuration names.

use std::path::{Path, PathBuf};

use gix::bstr::{BString, ByteSlice};
use gix::dir::walk::EmissionMode;
use gix::status::index_worktree::Item as Unstaged;
use gix::status::plumbing::index_as_worktree::{Change as EntryChange, EntryStatus};
use gix::status::{Item, Submodule, UntrackedFiles};

use super::open;
use crate::error::{Error, Result, chain};

/// Submodules are not nested deeper.
const NESTING: usize = 8;

/// More differences than these are not told apart from one another.
const MOST: usize = 10_000;

/// What a path of the work tree is that the commit does not have in this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Another content, mode or type, staged or not.
    Changed,
    /// Not tracked, and not ignored.
    Untracked,
    /// In the commit, and not there.
    Removed,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Difference::Changed => "changed",
            Difference::Untracked => "not tracked",
            Difference::Removed => "removed",
        })
    }
}

/// How a work tree differs from its commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkTree {
    /// By path, relative to the root of the work tree; each path once.
    pub changes: Vec<(PathBuf, Difference)>,
    /// What is there and git leaves out, relative to the root; a folder stands for all that is in it.
    pub ignored: Vec<PathBuf>,
    /// The folders of submodules that were not fetched, relative to the root.
    pub missing_submodules: Vec<PathBuf>,
    /// Why the two could not be compared, when they could not.
    pub unread: Option<String>,
}

/// Compares the work tree with HEAD, submodules included.
pub fn read_work_tree(repository: &gix::Repository) -> WorkTree {
    let mut found = WorkTree::default();
    if let Err(error) = collect_changes(repository, Path::new(""), 0, &mut found) {
        found.unread = Some(error.to_string());
    }
    found.changes.sort();
    found.changes.dedup_by(|one, other| one.0 == other.0);
    found.missing_submodules.sort();
    found
}

fn collect_changes(
    repository: &gix::Repository,
    prefix: &Path,
    nesting: usize,
    found: &mut WorkTree,
) -> Result<()> {
    let Some(root) = repository.workdir().map(Path::to_path_buf) else { return Ok(()) };
    let repository = without_programs(repository);
    let cannot = |error: gix::Error| {
        Error::unexpected("cannot compare the work tree with its commit").why(chain(&error))
    };
    let items = repository
        .status(gix::progress::Discard)
        .map_err(cannot)?
        .untracked_files(UntrackedFiles::Files)
        .dirwalk_options(|options| options.emit_ignored(Some(EmissionMode::CollapseDirectory)))
        .index_worktree_rewrites(None)
        .tree_index_track_renames(gix::status::tree_index::TrackRenames::Disabled)
        .index_worktree_submodules(Submodule::Given {
            ignore: gix::submodule::config::Ignore::All,
            check_dirty: false,
        })
        // From the root, wherever this process stands.
        .into_iter([BString::from(":/")])
        .map_err(cannot)?;
    for item in items {
        let item = item.map_err(cannot)?;
        let path = to_path(item.location());
        if let Item::IndexWorktree(Unstaged::DirectoryContents { entry, .. }) = &item
            && matches!(entry.status, gix::dir::entry::Status::Ignored(_))
        {
            found.ignored.push(prefix.join(path));
            continue;
        }
        let difference = match &item {
            Item::TreeIndex(change) => match change {
                gix::diff::index::Change::Deletion { .. } => Difference::Removed,
                _ => Difference::Changed,
            },
            Item::IndexWorktree(item) => match judge_entry(&repository, &root, item) {
                Some(difference) => difference,
                None => continue,
            },
        };
        found.changes.push((prefix.join(path), difference));
        if found.changes.len() >= MOST {
            return Ok(());
        }
    }
    let index = repository.index_or_empty().map_err(cannot)?;
    for entry in index.entries().iter().filter(|entry| entry.mode.is_submodule()) {
        let path = to_path(entry.path(&index));
        let (folder, path) = (root.join(&path), prefix.join(path));
        let is_empty =
            std::fs::read_dir(&folder).map_or(true, |mut entries| entries.next().is_none());
        if is_empty {
            found.missing_submodules.push(path);
            continue;
        }
        // One that cannot be opened is not proven to be what the commit has.
        let inner = open(&folder).ok().filter(|inner| inner.workdir() != repository.workdir());
        let commit = inner.as_ref().and_then(|inner| inner.head_id().ok().map(|id| id.detach()));
        if commit != Some(entry.id) {
            found.changes.push((path, Difference::Changed));
        } else if let Some(inner) = inner
            && nesting < NESTING
        {
            collect_changes(&inner, &path, nesting + 1, found)?;
        }
    }
    Ok(())
}

/// The same repository without the filters of its configuration, which are programs to run.
fn without_programs(repository: &gix::Repository) -> gix::Repository {
    let mut repository = repository.clone();
    let mut config = repository.config_snapshot_mut();
    let filters: Vec<BString> = config
        .sections_by_name("filter")
        .into_iter()
        .flatten()
        .filter_map(|section| section.header().subsection_name().map(ToOwned::to_owned))
        .collect();
    for name in filters {
        while config.remove_section("filter", Some(name.as_bstr())).is_some() {}
    }
    drop(config);
    repository
}

/// How one path differs from the index. `None` if it does not after all.
fn judge_entry(repository: &gix::Repository, root: &Path, item: &Unstaged) -> Option<Difference> {
    match item {
        Unstaged::Modification { entry, rela_path, status, .. } => match status {
            EntryStatus::NeedsUpdate(_) => None,
            EntryStatus::Change(EntryChange::Removed) => Some(Difference::Removed),
            EntryStatus::Change(EntryChange::Modification {
                executable_bit_changed: false,
                ..
            }) if is_large_file(repository, entry.id, &root.join(to_path(rela_path.as_ref()))) => {
                None
            }
            _ => Some(Difference::Changed),
        },
        Unstaged::DirectoryContents { .. } => Some(Difference::Untracked),
        Unstaged::Rewrite { .. } => Some(Difference::Changed),
    }
}

/// Whether the file is the one that a pointer of Git LFS in the commit stands for: the filter that
/// would say so is a program.
fn is_large_file(repository: &gix::Repository, blob: gix::ObjectId, file: &Path) -> bool {
    let Ok(blob) = repository.find_blob(blob) else { return false };
    let Some(pointer) = LfsPointer::parse(&blob.data) else { return false };
    let same_size = std::fs::metadata(file).is_ok_and(|meta| meta.len() == pointer.size);
    same_size && hash_file(file).is_ok_and(|hash| hash == pointer.sha256)
}

/// The SHA-256 of a file in hexadecimal digits.
fn hash_file(file: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let (mut file, mut buffer) = (std::fs::File::open(file)?, vec![0; 256 * 1024]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            let digest = crate::digest::Digest::from_sha256(hash.finish().as_ref());
            return Ok(digest.hex().to_string());
        }
        hash.update(&buffer[..read]);
    }
}

fn to_path(path: &gix::bstr::BStr) -> PathBuf {
    gix::path::from_bstr(path)
        .map_or_else(|_| PathBuf::from(path.to_str_lossy().into_owned()), |path| path.into_owned())
}

/// What stands in a commit for a large file.
/// <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md#the-pointer>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LfsPointer {
    /// In 64 hexadecimal digits.
    pub sha256: String,
    /// Of the file itself, in bytes.
    pub size: u64,
}

impl LfsPointer {
    /// No pointer is larger, in bytes.
    pub const LIMIT: u64 = 1024;

    /// Reads a pointer. `None` if the bytes are something else.
    pub fn parse(bytes: &[u8]) -> Option<LfsPointer> {
        if bytes.len() as u64 >= LfsPointer::LIMIT {
            return None;
        }
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.lines();
        let version = lines.next()?.strip_prefix("version ")?;
        let known = ["https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1"];
        if !known.contains(&version) {
            return None;
        }
        let (mut sha256, mut size) = (None, None);
        for (key, value) in lines.filter_map(|line| line.split_once(' ')) {
            match key {
                "oid" => sha256 = value.strip_prefix("sha256:"),
                "size" => size = value.parse().ok(),
                _ => {}
            }
        }
        let sha256 = sha256.filter(|hex| hex.len() == 64)?;
        Some(LfsPointer { sha256: sha256.to_string(), size: size? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_of_git_lfs_is_told_from_a_text_about_one() {
        let hex = "0a".repeat(32);
        let pointer = format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{hex}\nsize 104857600\n"
        );
        let read = LfsPointer::parse(pointer.as_bytes()).expect("a pointer");
        assert_eq!((read.size, read.sha256.as_str()), (104_857_600, hex.as_str()));
        let extended = pointer.replace("oid", &format!("ext-0-foo sha256:{hex}\noid"));
        assert_eq!(LfsPointer::parse(extended.as_bytes()), Some(read));
        let none = [
            "",
            "version https://git-lfs.github.com/spec/v1\n",
            "# version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            &pointer.replace("size", "length"),
            &pointer.replace("spec/v1", "spec/v9"),
            &format!("{pointer}{}", "x".repeat(1024)),
        ];
        for text in none {
            assert_eq!(LfsPointer::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(LfsPointer::parse(&[0xff; 200]), None);
    }
}
