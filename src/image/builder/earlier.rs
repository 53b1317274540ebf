//! What an earlier build of this machine leaves to the next one: the blobs of the layout that it
//! takes the place of, and the memory of what each layer was rewritten to.
//!
//! The blobs may be anybody's, so each is hashed again. The memory is this user's: it lies in the
//! user's cache, where no checkout leads.
//! <https://specifications.freedesktop.org/basedir-spec/latest/>

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::cli::Environ;
use crate::digest::Digest;
use crate::image::pack::Packed;
use crate::image::work::Stop;
use crate::layout::Layout;
use crate::owner;

/// Layers of many services; each is a file of 150 bytes.
const MOST: usize = 2000;
/// A layer is packed by our version of the compressor: a memory is of one version only.
const FOLDER: &str = concat!("cicd/layers-", env!("CARGO_PKG_VERSION"));

/// What layers were rewritten to.
#[derive(Clone, Debug)]
pub struct Memory {
    /// `None` where there is no place for one.
    folder: Option<PathBuf>,
}

impl Memory {
    pub fn of(environ: &Environ) -> Memory {
        let cache = environ.get("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.filter(|path| path.is_absolute());
        let home = || Some(Path::new(environ.get("HOME")?).join(".cache"));
        Memory { folder: cache.or_else(home).map(|cache| cache.join(FOLDER)) }
    }

    /// What a layer was rewritten to for this epoch. `None` if nobody remembers.
    pub fn recall(&self, original: &Digest, epoch: u64) -> Option<Packed> {
        let text = std::fs::read_to_string(self.place(original, epoch)?).ok()?;
        let [digest, size, diff_id] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            return None;
        };
        let [digest, diff_id] = [digest, diff_id].map(|text| Digest::parse(text).ok());
        Some(Packed { digest: digest?, size: size.parse().ok()?, diff_id: diff_id? })
    }

    /// Remembers what a layer was rewritten to. Where that cannot be written, the next build
    /// rewrites it again.
    pub fn keep(&self, original: &Digest, epoch: u64, packed: &Packed) {
        let Some(place) = self.place(original, epoch) else { return };
        let Packed { digest, size, diff_id } = packed;
        let folder = place.parent().unwrap_or(&place);
        let _ = owner::create_folders(folder);
        self.forget_oldest(folder);
        let _ = std::fs::write(&place, format!("{digest} {size} {diff_id}\n"));
    }

    fn place(&self, original: &Digest, epoch: u64) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{}-{epoch}", original.hex())))
    }

    fn forget_oldest(&self, folder: &Path) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let modified = |entry: std::fs::DirEntry| {
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        };
        let mut found: Vec<_> = entries.filter_map(modified).collect();
        found.sort();
        for (_, path) in found.iter().rev().skip(MOST - 1) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Links the layers of a layout into a new one, so that a builder need not send what is there: it
/// looks by their digests. What cannot be linked, or has another digest, is left to the builder.
pub fn offer_blobs(earlier: &Path, folder: &Path, stop: &Stop) {
    let Ok(layout) = Layout::open(earlier) else { return };
    let blobs = folder.join("blobs/sha256");
    if std::fs::create_dir_all(&blobs).is_err() {
        return;
    }
    // What is no layer is written anew, and must be nobody else's then.
    for blob in layout.manifests().iter().flat_map(|image| &image.layers) {
        let from = layout.blob(&blob.digest);
        let found =
            File::open(&from).and_then(|mut file| Digest::of_stream(&mut file, || stop.check()));
        if found.is_ok_and(|found| found == blob.digest) {
            let _ = std::fs::hard_link(&from, blobs.join(blob.digest.hex()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::Draft;

    fn packed(text: &str) -> Packed {
        let digest = Digest::of(text.as_bytes());
        Packed { digest: digest.clone(), size: 7, diff_id: digest }
    }

    #[test]
    fn what_is_remembered_is_of_one_layer_and_one_epoch() {
        let cache = tempfile::tempdir().expect("a folder");
        let at = |name: &str, path: &str| {
            Memory::of(&Environ::new([(name.to_string(), path.to_string())]))
        };
        let folder = cache.path().display().to_string();
        let (memory, layer) = (at("XDG_CACHE_HOME", &folder), Digest::of(b"layer"));
        assert_eq!(memory.recall(&layer, 1), None);
        memory.keep(&layer, 1, &packed("rewritten"));
        assert_eq!(memory.recall(&layer, 1), Some(packed("rewritten")));
        assert_eq!(memory.recall(&layer, 2), None);
        assert_eq!(memory.recall(&Digest::of(b"other"), 1), None);
        let place = memory.place(&layer, 1).expect("a place");
        for damaged in ["", "sha256:1 7 sha256:2", "a b c d"] {
            std::fs::write(&place, damaged).expect("written");
            assert_eq!(memory.recall(&layer, 1), None, "{damaged}");
        }
        // Nowhere to keep it, or in a place that depends on where one stands.
        for memory in [at("NOTHING", ""), at("XDG_CACHE_HOME", "relative")] {
            memory.keep(&layer, 1, &packed("rewritten"));
            assert_eq!(memory.recall(&layer, 1), None);
        }
    }

    #[test]
    fn the_memory_does_not_grow_for_ever() {
        let cache = tempfile::tempdir().expect("a folder");
        let path = cache.path().display().to_string();
        let memory = Memory::of(&Environ::new([("XDG_CACHE_HOME".to_string(), path)]));
        let folder = cache.path().join(FOLDER);
        std::fs::create_dir_all(&folder).expect("a folder");
        for number in 0..MOST + 5 {
            std::fs::write(folder.join(number.to_string()), "").expect("written");
        }
        memory.keep(&Digest::of(b"layer"), 1, &packed("rewritten"));
        assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), MOST);
        assert!(memory.recall(&Digest::of(b"layer"), 1).is_some());
    }

    #[test]
    fn only_a_blob_with_its_own_digest_is_offered() {
        let draft = Draft::new();
        draft.root(&draft.manifest(&[b"one", b"two"], "amd64"));
        let blob = |text: &[u8]| draft.folder().join("blobs/sha256").join(Digest::of(text).hex());
        std::fs::write(blob(b"two"), b"2ow").expect("written");
        let around = tempfile::tempdir().expect("a folder");
        let offered =
            |text: &[u8]| around.path().join("blobs/sha256").join(Digest::of(text).hex()).is_file();
        offer_blobs(&draft.folder().join("none"), around.path(), &Stop::never());
        offer_blobs(draft.folder(), around.path(), &Stop::at_once());
        assert!(!offered(b"one"));
        offer_blobs(draft.folder(), around.path(), &Stop::never());
        assert!(offered(b"one") && !offered(b"two"));
        std::fs::remove_dir_all(draft.folder()).expect("removed");
        assert_eq!(
            std::fs::read(around.path().join("blobs/sha256").join(Digest::of(b"one").hex()))
                .expect("its own"),
            b"one"
        );
    }
}
