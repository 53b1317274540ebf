//! The steps of a build in a folder, from one run to the next. The folder is written anew beside
//! its place, and replaced only if this program made it.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::image::destination::{find_foreign_entry, is_marked, mark_folder};

/// A cache that is being written; what is left of it is removed when this is dropped.
#[derive(Debug)]
pub struct LocalCache {
    earlier: PathBuf,
    folder: PathBuf,
}

impl LocalCache {
    /// Makes a folder for the new cache, beside the earlier one.
    ///
    /// # Errors
    /// Why it cannot be kept in `earlier`: something else is there, or it cannot be written.
    pub fn begin(earlier: &Path) -> Result<LocalCache, String> {
        let mut name = earlier.as_os_str().to_owned();
        name.push(".new");
        let folder = PathBuf::from(name);
        for place in [earlier, folder.as_path()] {
            if let Some(why) = find_obstacle(place) {
                return Err(format!("{} {why}", place.display()));
            }
        }
        let cannot = |error: std::io::Error| format!("{}: {error}", folder.display());
        remove_folder(&folder).map_err(cannot)?;
        crate::owner::create_folders(&folder).map_err(cannot)?;
        let begun = LocalCache { earlier: earlier.to_path_buf(), folder: folder.clone() };
        mark_folder(&folder).map_err(cannot)?;
        Ok(begun)
    }

    /// Puts the new cache in the place of the earlier one, which holds steps that nobody needs any
    /// more.
    ///
    /// # Errors
    /// When the earlier one is not ours any more, or a folder cannot be moved.
    pub fn renew(&self) -> std::io::Result<()> {
        // Nothing was written when the cache failed, and that was said.
        if !self.folder.join("index.json").is_file() {
            return Ok(());
        }
        if let Some(why) = find_obstacle(&self.earlier) {
            return Err(std::io::Error::other(format!("{} {why}", self.earlier.display())));
        }
        remove_folder(&self.earlier)?;
        crate::owner::give_to_owner(&self.folder);
        std::fs::rename(&self.folder, &self.earlier)
    }
}

impl Drop for LocalCache {
    fn drop(&mut self) {
        // It is gone already when all went well.
        if find_obstacle(&self.folder).is_none() {
            let _ = remove_folder(&self.folder);
        }
    }
}

/// Why a folder may not be replaced. `None` if nothing is there, or only what this program wrote.
fn find_obstacle(folder: &Path) -> Option<String> {
    let Ok(meta) = std::fs::symlink_metadata(folder) else { return None };
    if !meta.is_dir() {
        return Some("is no folder".into());
    }
    let mut entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Some(format!("cannot be read: {error}")),
    };
    let _first = entries.next()?;
    if !is_marked(folder) {
        return Some("is not empty, and cicd did not make it".into());
    }
    find_foreign_entry(folder).map(|name| format!("holds {name}, which is no part of a cache"))
}

fn remove_folder(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Refuses a cache that service.yaml puts outside of the repository: whoever writes that file need
/// not be whom the machine belongs to.
///
/// # Errors
/// Bad input, with the flag that takes such a folder.
pub fn check_place(folder: &Path, cache: &str, root: &Path) -> Result<()> {
    let place = folder.join(cache);
    let there = place.ancestors().find_map(|part| {
        let real = part.canonicalize().ok()?;
        let rest = place.strip_prefix(part).ok()?;
        // What does not exist yet has no links, so that `..` means the folder above.
        Some(rest.components().fold(real, |path, part| match part {
            std::path::Component::ParentDir => path.parent().unwrap_or(&path).to_path_buf(),
            std::path::Component::Normal(name) => path.join(name),
            _ => path,
        }))
    });
    let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    match there.is_some_and(|there| there.starts_with(&root) && there != root) {
        true => Ok(()),
        false => Err(Error::input(format!("cannot keep the cache in {}", place.display()))
            .why("image.cache of service.yaml leads out of the repository")
            .fix(format!(
                "name a folder inside it: `image: {{cache: 'local:.cache/build'}}`; \
                 or say so yourself: --cache local:{cache}"
            ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, text: &str) {
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(folder.join("index.json"), text).expect("written");
    }

    #[test]
    fn a_local_cache_is_replaced_as_a_whole_and_leaves_nothing_behind() {
        let around = tempfile::tempdir().expect("a folder");
        let earlier = around.path().join("cache");
        let new = around.path().join("cache.new");
        let begin = || LocalCache::begin(&earlier).expect("begun");
        let read = || std::fs::read_to_string(earlier.join("index.json")).expect("read");

        for text in ["first", "second"] {
            let begun = begin();
            write(&new, text);
            begun.renew().expect("renewed");
            drop(begun);
            assert_eq!((read().as_str(), new.exists()), (text, false));
        }

        let begun = begin();
        write(&new, "half");
        drop(begun);
        assert_eq!((read().as_str(), new.exists()), ("second", false), "the build failed");

        let begun = begin();
        begun.renew().expect("nothing to do");
        drop(begun);
        assert_eq!((read().as_str(), new.exists()), ("second", false), "the cache failed");

        // As a run leaves it that was killed.
        std::mem::forget(begin());
        write(&new, "half");
        drop(begin());
        assert!(!new.exists(), "what is ours is taken over");
    }

    #[test]
    fn nothing_is_removed_that_somebody_else_made() {
        let around = tempfile::tempdir().expect("a folder");
        let at = |name: &str| around.path().join(name);
        std::fs::create_dir(at("thesis")).expect("a folder");
        std::fs::write(at("thesis/thesis.txt"), "years of work").expect("written");
        // An image of somebody else looks like a cache.
        write(&at("layout"), "{}");
        std::fs::create_dir(at("layout/blobs")).expect("a folder");
        std::fs::write(at("file"), "").expect("written");
        std::os::unix::fs::symlink(at("thesis"), at("link")).expect("a link");
        for name in ["thesis", "layout", "file", "link"] {
            LocalCache::begin(&at(name)).expect_err(name);
        }
        assert!(at("thesis/thesis.txt").exists() && at("layout/index.json").exists());

        // The folder beside its place may be somebody's too.
        std::fs::create_dir(at("cache.new")).expect("a folder");
        std::fs::write(at("cache.new/notes"), "").expect("written");
        LocalCache::begin(&at("cache")).expect_err("somebody's folder");
        assert!(at("cache.new/notes").exists());

        // Somebody put something into ours, before or while it is written.
        let begun = LocalCache::begin(&at("ours")).expect("begun");
        write(&at("ours.new"), "one");
        begun.renew().expect("renewed");
        let begun = LocalCache::begin(&at("ours")).expect("begun");
        write(&at("ours.new"), "two");
        std::fs::write(at("ours/notes"), "").expect("written");
        begun.renew().expect_err("notes are there");
        drop(begun);
        assert!(at("ours/notes").exists() && !at("ours.new").exists());
        LocalCache::begin(&at("ours")).expect_err("notes are there");

        std::fs::create_dir(at("empty")).expect("a folder");
        LocalCache::begin(&at("empty")).expect("an empty folder holds nothing of anybody");
    }

    #[test]
    fn service_yaml_keeps_its_cache_inside_the_repository() {
        let around = tempfile::tempdir().expect("a folder");
        let root = around.path().join("repository");
        let service = root.join("services/patients");
        std::fs::create_dir_all(&service).expect("folders");
        std::os::unix::fs::symlink(around.path(), service.join("out")).expect("a link");
        struct Row {
            cache: &'static str,
            inside: bool,
        }
        let row = |cache, inside| Row { cache, inside };
        let rows = [
            row("cache", true),
            row("a/b/c", true),
            row("../../cache", true),
            row("./x/../y", true),
            row("../..", false),
            row("../../../cache", false),
            row("new/../../../../cache", false),
            row("/srv/data", false),
            row("out/cache", false),
            row("out", false),
        ];
        for Row { cache, inside } in rows {
            assert_eq!(check_place(&service, cache, &root).is_ok(), inside, "{cache}");
        }
    }
}
