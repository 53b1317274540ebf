//! The ledger in a folder of this machine: the same guarantees as S3's conditional writes.
//!
//! All writers of a folder take turns by `flock` on one file, which the kernel lets go when a
//! process ends, however it ends. A write goes to a temporary file, is synced, and takes its place
//! by one `link` or `rename`, so that readers need no lock and never see half an object.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::{Condition, ETag, Object, Outcome, Reading};
use crate::error::{Code, Error, Result};
use crate::ledger::state::StateHash;

/// What writers take turns by.
const TURN: &str = ".turn";
/// Written to see what time it is by the file system's clock.
const CLOCK: &str = ".clock";
/// The ending of a file that is not in its place yet.
const TEMPORARY: &str = ".tmp";
/// A writer's turn takes milliseconds; one that is longer was stopped in the middle.
const LONGEST_TURN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    pub fn new(root: PathBuf) -> Folder {
        Folder { root }
    }

    pub fn describe(&self, key: &str) -> String {
        self.root.join(key).display().to_string()
    }

    pub async fn get(&self, key: &str) -> Result<Reading> {
        let (root, path) = (self.root.clone(), self.root.join(key));
        self.on_thread(move || {
            let object = read_object(&path).map_err(|error| unavailable("read", &path, error))?;
            let now = read_clock(&root).map_err(|error| unavailable("read", &root, error))?;
            Ok(Reading { object, now })
        })
        .await
    }

    pub async fn put(&self, key: &str, bytes: Vec<u8>, condition: &Condition) -> Result<Outcome> {
        let (root, path) = (self.root.clone(), self.root.join(key));
        let condition = condition.clone();
        self.on_thread(move || {
            // The turn ends where `_turn` is dropped.
            let _turn = take_turn(&root)?;
            let written = write_object(&path, &bytes, &condition);
            match written.map_err(|error| unavailable("write", &path, error))? {
                true => Ok(Outcome::Written(etag_of(&bytes))),
                false => Ok(Outcome::Lost),
            }
        })
        .await
    }

    pub async fn list(&self, prefix: &str, after: &str) -> Result<Vec<String>> {
        let (folder, prefix) = (self.root.join(prefix), prefix.to_string());
        let after = after.to_string();
        self.on_thread(move || {
            let names = list_names(&folder).map_err(|error| unavailable("list", &folder, error))?;
            let keys = names.into_iter().map(|name| format!("{prefix}{name}"));
            let mut keys: Vec<String> = keys.filter(|key| *key > after).collect();
            keys.sort();
            Ok(keys)
        })
        .await
    }

    pub async fn list_folders(&self, prefix: &str) -> Result<Vec<String>> {
        let folder = self.root.join(prefix);
        self.on_thread(move || {
            let names = list_names(&folder).map_err(|error| unavailable("list", &folder, error))?;
            let mut names: Vec<String> =
                names.into_iter().filter(|name| folder.join(name).is_dir()).collect();
            names.sort();
            Ok(names)
        })
        .await
    }

    pub async fn read_all(&self, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>> {
        let root = self.root.clone();
        self.on_thread(move || {
            let read = |key| {
                let path = root.join(key);
                match std::fs::read(&path) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(unavailable("read", &path, error)),
                }
            };
            keys.into_iter().map(read).collect()
        })
        .await
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(Error::unexpected("cannot use the ledger").why(error)),
        }
    }
}

fn etag_of(bytes: &[u8]) -> ETag {
    ETag(StateHash::of(bytes).to_string())
}

fn read_object(path: &Path) -> std::io::Result<Option<Object>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    // Of the file that was opened, which nothing changes: a new content is another file.
    let modified = time_of(&file)?;
    Ok(Some(Object { etag: etag_of(&bytes), bytes, modified }))
}

fn time_of(file: &File) -> std::io::Result<Timestamp> {
    let modified = file.metadata()?.modified()?;
    Timestamp::try_from(modified).map_err(std::io::Error::other)
}

/// The time by the file system's clock. A ledger that does not exist yet has none, and no object
/// whose age could matter.
fn read_clock(root: &Path) -> std::io::Result<Timestamp> {
    if !root.exists() {
        return Ok(Timestamp::UNIX_EPOCH);
    }
    let mut file = open_private(&root.join(CLOCK), OpenOptions::new().truncate(true))?;
    file.write_all(b".")?;
    time_of(&file)
}

fn open_private(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    options.write(true).create(true).mode(0o600).open(path)
}

fn make_folders(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Waits for this process's turn to write. Dropping the file ends it.
fn take_turn(root: &Path) -> Result<File> {
    let path = root.join(TURN);
    make_folders(root).map_err(|error| unavailable("make", root, error))?;
    let file = open_private(&path, &mut OpenOptions::new());
    let file = file.map_err(|error| unavailable("write", &path, error))?;
    for _ in 0..LONGEST_TURN.as_millis() / PAUSE.as_millis() {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(unavailable("lock", &path, error)),
        }
    }
    let message = format!("cannot lock {}: another process holds it", path.display());
    Err(Error::refused(message)
        .code(Code::LedgerUnavailable)
        .why(format!("it did not let go for {} seconds", LONGEST_TURN.as_secs()))
        .fix(format!("look for a stopped process: fuser {}", path.display())))
}

/// Writes an object in this process's turn, unless the condition does not hold: then false.
fn write_object(path: &Path, bytes: &[u8], condition: &Condition) -> std::io::Result<bool> {
    let folder = path.parent().unwrap_or(path);
    let found = read_object(path)?;
    match (condition, &found) {
        (Condition::Absent, None) => make_folders(folder)?,
        (Condition::Match(etag), Some(object)) if object.etag == *etag => {}
        _ => return Ok(false),
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let temporary = PathBuf::from(temporary);
    // What a killed writer left may be the same file as the object, and is never written to.
    remove_if_there(&temporary)?;
    let mut file = open_private(&temporary, OpenOptions::new().create_new(true))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    if *condition == Condition::Absent {
        match std::fs::hard_link(&temporary, path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(error),
        }
        remove_if_there(&temporary)?;
    } else {
        std::fs::rename(&temporary, path)?;
    }
    File::open(folder)?.sync_all()?;
    Ok(true)
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The names of the objects in a folder, in no order.
fn list_names(folder: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.ends_with(TEMPORARY) {
            names.push(name);
        }
    }
    Ok(names)
}

fn unavailable(verb: &str, path: &Path, error: std::io::Error) -> Error {
    let fix = match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("become the owner of {}, or name another folder", path.display())
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on that disk".to_string(),
        _ => format!("look at {}: it has to be a folder that can be written", path.display()),
    };
    Error::refused(format!("cannot {verb} {}", path.display()))
        .code(Code::LedgerUnavailable)
        .why(&error)
        .fix(fix)
        .source(error)
}
