//! Whose a file is that root makes in somebody else's folder: a container action is root, and the
//! next job's checkout, which is the runner's user, has to be able to remove what it finds.
//!
//! Best effort: whoever is not root can give nothing away, and need not.

use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

/// Creates a folder and those above it that are missing; they get the owner of the one they are in.
///
/// # Errors
/// As [`std::fs::create_dir_all`].
pub fn create_folders(folder: &Path) -> std::io::Result<()> {
    let missing: Vec<PathBuf> = folder
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !above.exists())
        .map(Path::to_path_buf)
        .collect();
    std::fs::create_dir_all(folder)?;
    missing.iter().rev().for_each(|made| give_to_owner(made));
    Ok(())
}

/// Gives a file, or a folder with all that is in it, to the owner of the folder that it is in.
pub fn give_to_owner(path: &Path) {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if let Ok(owner) = std::fs::metadata(parent) {
        give(path, owner.uid(), owner.gid());
    }
}

fn give(path: &Path, user: u32, group: u32) {
    let Ok(found) = std::fs::symlink_metadata(path) else { return };
    if found.uid() != user {
        // A link is given away itself, never what it leads to.
        let _ = lchown(path, Some(user), Some(group));
    }
    if found.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            give(&entry.path(), user, group);
        }
    }
}
