//! Where a layout is written: beside its place first, and into it when it is whole.
//!
//! Every folder that is made here is marked as ours, by a .gitignore that leaves it out of the
//! repository. Only what is marked, or is a layout and nothing else, is ever replaced.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::digest::Digest;
use crate::docker::unique;
use crate::error::{Cannot, Error, Result};
use crate::layout::Layout;
use crate::owner;

/// What lies in the folder beside a layout while a new one is made: the new one, the one it takes
/// the place of, the state of buildx for a builder of our own, and what an engine saves.
const LAYOUT: &str = "layout";
const EARLIER: &str = "earlier";
pub const BUILDX: &str = "buildx";
pub const SAVED: &str = "saved.tar";
pub const IDENTIFIER: &str = "identifier";
pub const STAGED: &str = "staged";
/// In buildx's state: a file for each builder, by which it can be ended; and what we keep of it, as
/// buildx forgets a builder also when it cannot remove it.
pub const INSTANCES: &str = "instances";
pub const KEPT: &str = "kept";
const PARTS: [&str; 7] = [LAYOUT, EARLIER, BUILDX, SAVED, IDENTIFIER, STAGED, MARK];

/// The file that marks a folder as ours, and what is in it. Git leaves out the whole folder.
/// <https://git-scm.com/docs/gitignore>
const MARK: &str = ".gitignore";
const MARK_TEXT: &str = "# cicd made this folder and replaces it as a whole.\n*\n";

/// What lies at the top of a layout or of a local cache, and may be replaced with it.
/// <https://github.com/opencontainers/image-spec/blob/main/image-layout.md#content>
const CONTENT: [&str; 7] =
    ["oci-layout", "index.json", "blobs", "ingest", "manifest.json", "index.json.lock", MARK];

/// Marks a folder as ours.
///
/// # Errors
/// When the file cannot be written.
pub fn mark_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::write(folder.join(MARK), MARK_TEXT)
}

/// Whether a folder, and no link to one, is marked as ours.
pub fn is_marked(folder: &Path) -> bool {
    let mark = folder.join(MARK);
    let is_file = |meta: std::fs::Metadata| meta.is_file() && meta.len() == MARK_TEXT.len() as u64;
    std::fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir())
        && std::fs::symlink_metadata(&mark).is_ok_and(is_file)
        && std::fs::read_to_string(&mark).is_ok_and(|text| text == MARK_TEXT)
}

/// The first entry of a folder that is no part of a layout or of a cache. `None` if there is none.
pub fn find_foreign_entry(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.into_iter().find(|name| !CONTENT.contains(&name.as_str()))
}

/// What was built, or taken in.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Built {
    pub layout: String,
    pub digest: Digest,
    /// Of every blob together, as they are pushed, in bytes.
    pub size: u64,
    pub platforms: Vec<String>,
}

/// The place of a layout.
#[derive(Clone, Debug)]
pub struct Destination {
    /// As it was given, for people.
    shown: String,
    layout: PathBuf,
}

impl Destination {
    /// A folder that is replaced is a layout: never somebody's sources.
    ///
    /// # Errors
    /// Bad input when something else is there.
    pub fn of(layout: &Path) -> Result<Destination> {
        let shown = layout.display().to_string();
        let layout = std::path::absolute(layout).cannot(|| format!("find {shown}"))?;
        let destination = Destination { shown, layout };
        let Ok(mut entries) = std::fs::read_dir(&destination.layout) else {
            return match destination.layout.exists() {
                true => Err(Error::input(format!(
                    "cannot replace {}: it is no folder",
                    destination.shown
                ))
                .fix("name another one: --layout DIR")),
                false => Ok(destination),
            };
        };
        if entries.next().is_none() {
            return Ok(destination);
        }
        let foreign = match destination.layout.join("oci-layout").is_file() {
            true => find_foreign_entry(&destination.layout).map(|name| format!("it holds {name}")),
            false => Some("it is no OCI layout, and not empty".to_string()),
        };
        match foreign {
            None => Ok(destination),
            Some(why) => Err(Error::input(format!("cannot replace {}", destination.shown))
                .why(format!("{why}; the layout takes the place of the whole folder"))
                .fix("name a folder of its own: --layout target/image")),
        }
    }

    /// The absolute path.
    pub fn path(&self) -> &Path {
        &self.layout
    }

    /// A place beside it that may be written to.
    ///
    /// # Errors
    /// Bad input when the folder can have no neighbour.
    pub fn fresh(&self) -> Result<Fresh> {
        let prefix = self.prefix().ok_or_else(|| {
            Error::input(format!("cannot replace {}: it has no name", self.shown))
                .fix("name one: --layout target/image")
        })?;
        let parent = self.parent();
        owner::create_folders(parent).map_err(|error| unwritable(parent, &error))?;
        // Somebody who sweeps here may take it before it is locked; then another one is made.
        for _ in 0..3 {
            let scratch = parent.join(unique(&prefix)?);
            std::fs::create_dir(&scratch).map_err(|error| unwritable(&scratch, &error))?;
            owner::give_to_owner(&scratch);
            let Ok(lock) = File::open(&scratch) else { continue };
            // Where the file system has no locks, nobody sweeps either.
            let _ = lock.lock();
            if scratch.is_dir() {
                mark_folder(&scratch).map_err(|error| unwritable(&scratch, &error))?;
                return Ok(Fresh { scratch, destination: self.clone(), _lock: lock });
            }
        }
        Err(Error::unexpected(format!("cannot make a folder in {}: it vanishes", parent.display())))
    }

    /// Removes what runs left beside the layout that were killed in the middle, when `ended` says
    /// of one that nothing of it goes on.
    pub fn sweep(&self, ended: impl Fn(&Leftover) -> bool) {
        for left in self.leftovers().iter().filter(|left| ended(left)) {
            remove(&left.scratch);
        }
    }

    /// Folders of ours that nobody holds. A layout that was taken out of its place for a new one
    /// goes back there.
    fn leftovers(&self) -> Vec<Leftover> {
        let Some(prefix) = self.prefix() else { return Vec::new() };
        let entries = std::fs::read_dir(self.parent()).into_iter().flatten().flatten();
        let found = entries.filter(|entry| {
            let name = entry.file_name();
            let number =
                name.to_str().and_then(|name| name.strip_prefix(&prefix)?.strip_prefix('-'));
            number.is_some_and(|number| {
                number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_hexdigit())
            }) && entry.file_type().is_ok_and(|kind| kind.is_dir())
        });
        found.filter_map(|entry| self.leftover(entry.path())).collect()
    }

    fn leftover(&self, scratch: PathBuf) -> Option<Leftover> {
        let lock = File::open(&scratch).ok()?;
        lock.try_lock().ok()?;
        let mut parts = std::fs::read_dir(&scratch).ok()?.flatten();
        if !parts.all(|part| PARTS.iter().any(|own| part.file_name() == *own)) {
            return None;
        }
        if !self.layout.exists() {
            let _ = std::fs::rename(scratch.join(EARLIER), &self.layout);
        }
        Some(Leftover { scratch, _lock: lock })
    }

    /// How the names of folders beside the layout begin.
    fn prefix(&self) -> Option<String> {
        Some(format!(".{}", self.layout.file_name()?.to_string_lossy()))
    }

    fn parent(&self) -> &Path {
        self.layout.parent().unwrap_or(Path::new("/"))
    }
}

/// What a run left beside a layout that was killed; it is held, so that nobody else removes it at
/// the same time.
pub struct Leftover {
    scratch: PathBuf,
    _lock: File,
}

impl Leftover {
    /// A file or folder of it, by one of the names above.
    pub fn part(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    pub fn has_builder(&self) -> bool {
        has_builder(&self.scratch)
    }
}

/// Whether a builder is known there that did not end.
fn has_builder(scratch: &Path) -> bool {
    !builders(&scratch.join(BUILDX)).is_empty()
}

/// The builders that are known in the state of a buildx, or are kept there.
pub fn builders(state: &Path) -> BTreeSet<String> {
    let folders = [INSTANCES, KEPT].map(|folder| std::fs::read_dir(state.join(folder)));
    let files = folders.into_iter().flatten().flatten().flatten();
    let names = files.filter_map(|entry| entry.file_name().into_string().ok());
    // What begins with a dot is a write of buildx that did not come to its end.
    names.filter(|name| !name.starts_with('.')).collect()
}

/// A folder beside a layout that is written to first; what is left of it is removed at the end, or
/// by the next run when this one is killed.
pub struct Fresh {
    scratch: PathBuf,
    destination: Destination,
    /// Says to others that this run is alive: the system lets go of it when the process ends,
    /// however it does.
    _lock: File,
}

impl Fresh {
    /// Where to write the layout. It does not exist yet.
    pub fn folder(&self) -> PathBuf {
        self.scratch.join(LAYOUT)
    }

    /// Where something else lies meanwhile, by one of the names above.
    pub fn part(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// The folder that the layout will be in.
    pub fn parent(&self) -> &Path {
        self.destination.parent()
    }

    /// Checks what was written as strictly as what others hand in, leaves nothing in it that is no
    /// part of the image, and puts it in the place of the earlier layout.
    ///
    /// # Errors
    /// Bad input when it is no whole layout; then the earlier one stays.
    pub fn finish(self) -> Result<Built> {
        let built = Layout::open(&self.folder())?;
        self.sweep(&built)?;
        mark_folder(&self.folder()).map_err(|error| unwritable(&self.folder(), &error))?;
        owner::give_to_owner(&self.folder());
        let built = Built {
            layout: self.destination.shown.clone(),
            digest: built.root().digest.clone(),
            size: built.size(),
            platforms: built.platforms(),
        };
        self.replace()?;
        Ok(built)
    }

    /// Removes every blob that the image does not refer to.
    fn sweep(&self, layout: &Layout) -> Result<()> {
        let referring =
            layout.referrers().iter().flat_map(|one| one.blobs.iter().chain([&one.descriptor]));
        let parts: BTreeSet<&str> = layout
            .blobs()
            .chain(layout.documents())
            .chain(referring)
            .map(|part| part.digest.hex())
            .collect();
        for entry in
            std::fs::read_dir(self.folder().join("blobs/sha256")).into_iter().flatten().flatten()
        {
            if !entry.file_name().to_str().is_some_and(|name| parts.contains(name)) {
                std::fs::remove_file(entry.path())
                    .map_err(|error| unwritable(&entry.path(), &error))?;
            }
        }
        Ok(())
    }

    fn replace(&self) -> Result<()> {
        let layout = &self.destination.layout;
        let attempt = || format!("put the new layout in the place of {}", layout.display());
        let earlier = self.part(EARLIER);
        let had = match std::fs::rename(layout, &earlier) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error).cannot(attempt),
        };
        let replaced = std::fs::rename(self.folder(), layout);
        if had && replaced.is_err() {
            std::fs::rename(&earlier, layout).cannot(attempt)?;
        }
        replaced.cannot(attempt)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // A builder that did not end in time is known by this folder only: the next build ends it.
        match has_builder(&self.scratch) {
            true => remove(&self.folder()),
            false => remove(&self.scratch),
        }
    }
}

/// Removes a folder. A buildx that was just killed may write a last file meanwhile, so it is tried
/// a few times.
fn remove(folder: &Path) {
    for _ in 0..5 {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                std::thread::sleep(Duration::from_millis(20))
            }
            _ => return,
        }
    }
}

/// Why a file of the layout could not be written.
pub fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    let folder = path.parent().unwrap_or(path);
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => full(folder).why(error),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Error::refused(format!("cannot write {}", path.display()))
                .why(error)
                .fix("name a folder that this user may write to: --layout DIR")
        }
        _ => Error::unexpected(format!("cannot write {}", path.display())).why(error),
    }
}

/// The disk that the layout is written to has no room for it.
pub fn full(folder: &Path) -> Error {
    Error::refused(format!("cannot write: the disk of {} is full", folder.display()))
        .fix("make room on it, or name a folder on another disk: --layout DIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_replaced_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = folder.path().join("target/image");
        let write = |fresh: &Fresh, text: &str| {
            std::fs::create_dir_all(fresh.folder()).expect("a folder");
            std::fs::write(fresh.folder().join("oci-layout"), text).expect("written");
        };
        let fresh = || Destination::of(&layout).expect("a place").fresh().expect("a folder");
        let read = || std::fs::read_to_string(layout.join("oci-layout")).expect("read");
        let left = || std::fs::read_dir(folder.path().join("target")).expect("a folder").count();

        for text in ["first", "second"] {
            let fresh = fresh();
            write(&fresh, text);
            fresh.replace().expect("replaced");
            drop(fresh);
            assert_eq!((read().as_str(), left()), (text, 1));
        }

        let abandoned = fresh();
        write(&abandoned, "half");
        drop(abandoned);
        assert_eq!((read().as_str(), left()), ("second", 1));

        let broken = fresh();
        write(&broken, "no layout");
        assert_eq!(broken.finish().expect_err("no layout").kind.exit_code(), 2);
        assert_eq!((read().as_str(), left()), ("second", 1));

        fresh().replace().expect_err("nothing was built");
        assert_eq!((read().as_str(), left()), ("second", 1));
    }

    /// As SIGKILL leaves it: nothing was undone, and the system has let go of the lock.
    fn killed(fresh: Fresh) -> PathBuf {
        let scratch = fresh.scratch.clone();
        let fresh = std::mem::ManuallyDrop::new(fresh);
        fresh._lock.unlock().expect("unlocked");
        scratch
    }

    #[test]
    fn what_a_killed_run_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = folder.path().join("image");
        let destination = Destination::of(&layout).expect("a place");
        let sweep = || destination.sweep(|_| true);
        let make =
            |name: &str| std::fs::create_dir_all(folder.path().join(name)).expect("a folder");

        let running = destination.fresh().expect("a folder");
        let left = killed(destination.fresh().expect("a folder"));
        std::fs::create_dir_all(left.join(LAYOUT).join("blobs")).expect("half a layout");
        destination.sweep(Leftover::has_builder);
        assert!(left.is_dir(), "it has none");
        // Of another layout, of somebody else, and a link that leads elsewhere.
        let others = [
            ".other-01234567/layout",
            ".image-0123456/layout",
            ".image-01234567/sources",
            "elsewhere/layout",
        ];
        others.iter().for_each(|name| make(name));
        std::os::unix::fs::symlink(
            folder.path().join("elsewhere"),
            folder.path().join(".image-76543210"),
        )
        .expect("linked");
        sweep();
        assert!(!left.exists());
        assert!(running.scratch.is_dir(), "its run is alive");
        others.iter().for_each(|name| assert!(folder.path().join(name).is_dir(), "{name}"));

        // It had taken the earlier layout out of its place.
        let left = killed(destination.fresh().expect("a folder"));
        std::fs::create_dir_all(left.join(EARLIER)).expect("a folder");
        std::fs::write(left.join(EARLIER).join("oci-layout"), "earlier").expect("written");
        sweep();
        assert_eq!(std::fs::read_to_string(layout.join("oci-layout")).expect("back"), "earlier");
        assert!(!left.exists());
    }

    #[test]
    fn a_builder_that_did_not_end_stays_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let destination = Destination::of(&folder.path().join("image")).expect("a place");
        let fresh = destination.fresh().expect("a folder");
        let (layout, instance) = (fresh.folder(), fresh.part(BUILDX).join("instances/cicd-1"));
        std::fs::create_dir_all(&layout).expect("half a layout");
        std::fs::create_dir_all(&instance).expect("a builder");
        drop(fresh);
        assert!(instance.exists() && !layout.exists());
        destination.sweep(|left| !left.has_builder());
        assert!(instance.exists());
        destination.sweep(Leftover::has_builder);
        assert!(!instance.exists());
    }

    #[test]
    fn only_a_layout_or_an_empty_folder_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        Destination::of(&at.join("missing")).expect("nothing is there");
        Destination::of(at).expect("empty");
        std::fs::write(at.join("main.py"), "").expect("written");
        assert_eq!(Destination::of(at).expect_err("sources").kind.exit_code(), 2);
        assert_eq!(Destination::of(&at.join("main.py")).expect_err("a file").kind.exit_code(), 2);
        std::fs::write(at.join("oci-layout"), "{}").expect("written");
        let error = Destination::of(at).expect_err("sources beside a layout");
        assert!(error.to_string().contains("it holds main.py"), "{error}");
        std::fs::remove_file(at.join("main.py")).expect("removed");
        Destination::of(at).expect("a layout");
    }

    #[test]
    fn a_folder_of_ours_is_known_by_its_mark_alone() {
        let around = tempfile::tempdir().expect("a folder");
        let folder = around.path().join("one");
        std::fs::create_dir(&folder).expect("a folder");
        assert!(!is_marked(&folder), "nothing is there");
        std::fs::write(folder.join(MARK), "*\n").expect("written");
        assert!(!is_marked(&folder), "somebody else's");
        mark_folder(&folder).expect("marked");
        assert!(is_marked(&folder));
        std::os::unix::fs::symlink(&folder, around.path().join("link")).expect("a link");
        assert!(!is_marked(&around.path().join("link")), "a link may lead anywhere");
        assert_eq!(find_foreign_entry(&folder), None);
        std::fs::write(folder.join("thesis.txt"), "").expect("written");
        assert_eq!(find_foreign_entry(&folder).as_deref(), Some("thesis.txt"));
    }

    #[test]
    fn a_full_disk_is_not_this_programs_fault() {
        let told = |kind: ErrorKind| unwritable(Path::new("/x/y"), &kind.into());
        assert_eq!(told(ErrorKind::StorageFull).message, "cannot write: the disk of /x is full");
        let cases =
            [(ErrorKind::StorageFull, 3), (ErrorKind::PermissionDenied, 3), (ErrorKind::Other, 1)];
        for (kind, code) in cases {
            assert_eq!(told(kind).kind.exit_code(), code, "{kind:?}");
        }
    }
}
