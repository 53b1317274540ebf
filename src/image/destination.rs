//! Where a layout is written: beside its place first, and into it when it is whole.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::error::{Doing, Error, Result};
use crate::layout::Layout;

/// What was built, or taken in.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Built {
    pub layout: String,
    pub digest: String,
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
        let layout = std::path::absolute(layout).doing(|| format!("finding {shown}"))?;
        let destination = Destination { shown, layout };
        let Ok(mut entries) = std::fs::read_dir(&destination.layout) else {
            return match destination.layout.exists() {
                true => Err(Error::input(format!("{} is not a folder", destination.shown))
                    .fix("name another one: --layout DIR")),
                false => Ok(destination),
            };
        };
        if entries.next().is_some() && !destination.layout.join("oci-layout").is_file() {
            return Err(Error::input(format!("{} is no OCI layout, and not empty", destination.shown))
                .why("the layout takes the place of the whole folder")
                .fix("name a folder of its own: --layout target/image"));
        }
        Ok(destination)
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
        let name = self.layout.file_name().ok_or_else(|| {
            Error::input(format!("{} is no folder that can be replaced", self.shown))
                .fix("name one: --layout target/image")
        })?;
        let parent = self.layout.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).map_err(|error| unwritable(parent, &error))?;
        let fresh = crate::docker::unique(&format!(".{}", name.to_string_lossy()))?;
        Ok(Fresh { folder: parent.join(fresh), destination: self.clone() })
    }
}

/// A folder beside a layout that is written to first; what is left of it is removed at the end.
pub struct Fresh {
    folder: PathBuf,
    destination: Destination,
}

impl Fresh {
    /// Where to write. It does not exist yet.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Checks what was written as strictly as what others hand in, leaves nothing in it that is no part of the image, and puts it
    /// in the place of the earlier layout.
    ///
    /// # Errors
    /// Bad input when it is no whole layout; then the earlier one stays.
    pub fn finish(self) -> Result<Built> {
        let built = Layout::open(&self.folder)?;
        self.sweep(&built)?;
        let built = Built {
            layout: self.destination.shown.clone(),
            digest: built.root().digest.to_string(),
            size: built.size(),
            platforms: built.platforms(),
        };
        self.replace()?;
        Ok(built)
    }

    /// Removes every blob that the image does not refer to.
    fn sweep(&self, layout: &Layout) -> Result<()> {
        let referring = layout.referrers().iter().flat_map(|one| one.blobs.iter().chain([&one.descriptor]));
        let parts: BTreeSet<&str> =
            layout.blobs().chain(layout.documents()).chain(referring).map(|part| part.digest.hex()).collect();
        for entry in std::fs::read_dir(self.folder.join("blobs/sha256")).into_iter().flatten().flatten() {
            if !entry.file_name().to_str().is_some_and(|name| parts.contains(name)) {
                std::fs::remove_file(entry.path()).map_err(|error| unwritable(&entry.path(), &error))?;
            }
        }
        Ok(())
    }

    fn replace(&self) -> Result<()> {
        let layout = &self.destination.layout;
        let doing = || format!("putting the new layout in the place of {}", layout.display());
        let mut earlier = self.folder.clone().into_os_string();
        earlier.push(".earlier");
        let earlier = PathBuf::from(earlier);
        let had = match std::fs::rename(layout, &earlier) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error).doing(doing),
        };
        let replaced = std::fs::rename(&self.folder, layout);
        if had {
            match &replaced {
                Ok(()) => remove(&earlier),
                Err(_) => std::fs::rename(&earlier, layout).doing(doing)?,
            }
        }
        replaced.doing(doing)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

/// Removes a folder. A buildx that was just killed may write a last file meanwhile, so it is tried a few times.
fn remove(folder: &Path) {
    for _ in 0..5 {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => std::thread::sleep(Duration::from_millis(20)),
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
            Error::refused(format!("{} cannot be written", path.display()))
                .why(error)
                .fix("name a folder that this user may write to: --layout DIR")
        }
        _ => Error::unexpected(format!("writing {}", path.display())).why(error),
    }
}

/// The disk that the layout is written to has no room for it.
pub fn full(folder: &Path) -> Error {
    Error::refused(format!("the disk of {} is full", folder.display()))
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
        Destination::of(at).expect("a layout");
    }

    #[test]
    fn a_full_disk_is_not_this_programs_fault() {
        let told = |kind: ErrorKind| unwritable(Path::new("/x/y"), &kind.into());
        assert_eq!(told(ErrorKind::StorageFull).message, "the disk of /x is full");
        let cases = [(ErrorKind::StorageFull, 3), (ErrorKind::PermissionDenied, 3), (ErrorKind::Other, 1)];
        for (kind, code) in cases {
            assert_eq!(told(kind).kind.exit_code(), code, "{kind:?}");
        }
    }
}
