//! A path that service.yaml, a link or a name in the repository gives: it stays inside the
//! repository, and what is read there is a regular file of bounded size.
//!
//! Whoever writes into the repository, in a pull request for one, decides on such a path; whoever
//! runs this program decides what else may be read, by `--allow-read`. A path that the one who runs
//! it names by a flag may be anywhere, but for one that lies in the repository, which a link could
//! lead out of.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// The longest text that is read, in bytes. No file that people write by hand comes near it.
pub const TEXT_LIMIT: u64 = 4 * 1024 * 1024;

/// Where the kernel shows processes and devices as files: this process's environment, for one.
const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The work tree that paths stay inside of.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Without links and `..`.
    root: PathBuf,
    /// What may be read besides, without links and `..`.
    allowed: Vec<PathBuf>,
}

/// Why a path is not taken.
#[derive(Debug)]
pub enum Denied {
    Missing(std::io::Error),
    Unreadable(std::io::Error),
    /// It leads out of this folder, to there.
    Outside {
        root: PathBuf,
        to: PathBuf,
    },
    /// It is of git's own folder, where a checkout may have left a token.
    OfGit,
    /// A device, a pipe, a socket, or a folder where a file has to be.
    NotRegular,
    NotFolder,
    TooLong,
    NotText,
}

impl Denied {
    pub fn is_missing(&self) -> bool {
        matches!(self, Denied::Missing(_))
    }

    /// As the error of whoever wanted `path`, which `attempt` (a verb) it.
    pub fn into_error(self, attempt: &str, path: &Path) -> Error {
        let error = Error::input(format!("cannot {attempt} {}", path.display())).why(&self);
        match &self {
            Denied::Outside { to, .. } => error.fix(format!(
                "move it into the repository, or let whoever runs this allow it: --allow-read {}",
                to.display()
            )),
            Denied::OfGit => error.fix("name what is in the commit"),
            Denied::NotRegular => error.fix("put a regular file there"),
            Denied::NotFolder => error.fix("put a folder there"),
            Denied::TooLong => error.fix("split it, or take out what does not belong there"),
            Denied::NotText => error.fix("save it as UTF-8"),
            Denied::Missing(_) | Denied::Unreadable(_) => error,
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Missing(error) | Denied::Unreadable(error) => write!(f, "{error}"),
            Denied::Outside { root, to } => {
                write!(f, "it leads to {}, which is outside {}", to.display(), root.display())
            }
            Denied::OfGit => f.write_str("it is git's own, and may hold the checkout's token"),
            Denied::NotRegular => f.write_str("it is not a regular file"),
            Denied::NotFolder => f.write_str("it is not a folder"),
            Denied::TooLong => write!(f, "it is longer than {} MiB", TEXT_LIMIT / 1024 / 1024),
            Denied::NotText => f.write_str("it is no text in UTF-8"),
        }
    }
}

/// What a path has to lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    File,
    Folder,
    /// A file, or a folder of them.
    Either,
    /// Something that need not be there yet.
    New,
}

impl Tree {
    /// The work tree around a folder: that of the git repository that we are in when the folder is
    /// written as one of it, else that of the folder's own, else the folder.
    pub fn around(folder: &Path, allowed: &[PathBuf]) -> Tree {
        let here = Path::new(".").canonicalize().unwrap_or_default();
        let found = repository_of(&here).filter(|root| write_out(folder).starts_with(root));
        let real = || folder.canonicalize().unwrap_or_else(|_| write_out(folder));
        let root = found.unwrap_or_else(|| {
            let real = real();
            repository_of(&real).unwrap_or(real)
        });
        // One that is not there allows nothing.
        let allowed = allowed.iter().filter_map(|path| path.canonicalize().ok()).collect();
        Tree { root, allowed }
    }

    /// Returns where a path leads to, when that is inside.
    ///
    /// # Errors
    /// When it leads out, is nothing there, or is something else than `what`.
    pub fn resolve(&self, path: &Path, what: What) -> Result<PathBuf, Denied> {
        let real = match (path.canonicalize(), what) {
            (Ok(real), _) => real,
            (Err(error), What::New) if error.kind() == ErrorKind::NotFound => resolve_new(path)?,
            (Err(error), _) => return Err(unreadable(error)),
        };
        self.admit(&real)?;
        check_kind(&real, what)?;
        Ok(real)
    }

    /// Reads a text inside.
    ///
    /// # Errors
    /// As [`Tree::resolve`]; when it is too long, or no text.
    pub fn read(&self, path: &Path) -> Result<String, Denied> {
        let bytes = read_bounded(&self.resolve(path, What::File)?)?;
        String::from_utf8(bytes).map_err(|_| Denied::NotText)
    }

    /// Reads a text whose path whoever runs this program named.
    ///
    /// # Errors
    /// As [`Tree::read`]; outside only when it is written as a path inside.
    pub fn read_named(&self, path: &Path) -> Result<String, Denied> {
        match write_out(path).starts_with(&self.root) {
            true => self.read(path),
            false => read_named(path),
        }
    }

    fn admit(&self, real: &Path) -> Result<(), Denied> {
        let is_below = |folder: &PathBuf| real.starts_with(folder);
        let is_of_kernel = KERNEL.iter().any(|kernel| real.starts_with(kernel));
        if self.allowed.iter().any(is_below) {
            return Ok(());
        }
        if let Ok(below) = real.strip_prefix(&self.root)
            && !is_of_kernel
        {
            let is_of_git =
                below.components().any(|part| part.as_os_str().eq_ignore_ascii_case(".git"));
            return if is_of_git { Err(Denied::OfGit) } else { Ok(()) };
        }
        Err(Denied::Outside { root: self.root.clone(), to: real.to_path_buf() })
    }
}

/// Reads a text anywhere, whose path whoever runs this program named.
///
/// # Errors
/// When it is missing, no regular file, too long, or no text.
pub fn read_named(path: &Path) -> Result<String, Denied> {
    String::from_utf8(read_bytes(path)?).map_err(|_| Denied::NotText)
}

/// [`read_named`], for what need be no text.
///
/// # Errors
/// When it is missing, no regular file, or too long.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, Denied> {
    let real = path.canonicalize().map_err(unreadable)?;
    if KERNEL.iter().any(|kernel| real.starts_with(kernel)) {
        return Err(Denied::NotRegular);
    }
    check_kind(&real, What::File)?;
    read_bounded(&real)
}

fn check_kind(real: &Path, what: What) -> Result<(), Denied> {
    let metadata = match real.metadata() {
        Ok(metadata) => metadata,
        Err(_) if what == What::New => return Ok(()),
        Err(error) => return Err(unreadable(error)),
    };
    match what {
        What::File if !metadata.is_file() => Err(Denied::NotRegular),
        What::Folder if !metadata.is_dir() => Err(Denied::NotFolder),
        _ if !metadata.is_file() && !metadata.is_dir() => Err(Denied::NotRegular),
        _ => Ok(()),
    }
}

/// Reads a file that was found to be a regular one; a file that grows meanwhile is too long.
fn read_bounded(real: &Path) -> Result<Vec<u8>, Denied> {
    let file = File::open(real).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(TEXT_LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > TEXT_LIMIT {
        return Err(Denied::TooLong);
    }
    Ok(bytes)
}

fn unreadable(error: std::io::Error) -> Denied {
    match error.kind() {
        ErrorKind::NotFound => Denied::Missing(error),
        _ => Denied::Unreadable(error),
    }
}

/// Where something new would be: its nearest folder that is there, without links, and the rest.
fn resolve_new(path: &Path) -> Result<PathBuf, Denied> {
    for above in path.ancestors() {
        let folder = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        let real = match folder.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable(error)),
        };
        let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
        let first = rest.components().next().map(|first| real.join(first));
        // A link that leads nowhere yet would be followed when it is written to.
        let is_link = first.is_some_and(|first| first.symlink_metadata().is_ok());
        let is_plain = rest.components().all(|part| matches!(part, Component::Normal(_)));
        return match is_plain && !is_link {
            true => Ok(real.join(rest)),
            false => Err(Denied::Outside { root: real, to: path.to_path_buf() }),
        };
    }
    Ok(write_out(path))
}

/// A path in full as it is written: `.` and `..` are worked out, links are not followed.
fn write_out(path: &Path) -> PathBuf {
    let here = Path::new(".").canonicalize().unwrap_or_default();
    let mut written = PathBuf::new();
    for part in here.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(written.pop()),
            part => written.push(part),
        }
    }
    written
}

/// The root of the git work tree that a folder is in. A folder that only looks like a bare
/// repository is none.
fn repository_of(folder: &Path) -> Option<PathBuf> {
    let root = folder.ancestors().find(|above| above.join(".git").symlink_metadata().is_ok())?;
    Some(root.to_path_buf())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A repository with a service in it, a folder beside it, and links and a socket inside.
    fn repository() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["repo/.git", "repo/api", "beside"] {
            std::fs::create_dir_all(at(name)).expect("a folder");
        }
        for name in ["repo/api/file", "repo/above", "repo/.git/config", "beside/key"] {
            std::fs::write(at(name), "text").expect("written");
        }
        let links = [
            ("repo/api/zero", "/dev/zero"),
            ("repo/api/own", "/proc/self/environ"),
            ("repo/api/out", "../../beside"),
            ("repo/api/to-key", "../../beside/key"),
            ("repo/api/within", "../above"),
            ("repo/api/to-git", "../.git/config"),
            ("repo/api/nowhere", "../../beside/new"),
            ("repo/api/loop", "loop"),
        ];
        for (name, to) in links {
            symlink(to, at(name)).expect("a link");
        }
        std::os::unix::net::UnixListener::bind(at("repo/api/socket")).expect("a socket");
        let api = at("repo/api");
        (folder, api)
    }

    #[test]
    fn a_path_stays_inside_the_repository() {
        struct Case {
            path: &'static str,
            what: What,
            taken: bool,
        }
        let case = |path, what, taken| Case { path, what, taken };
        let cases = [
            case("file", What::File, true),
            case("./../above", What::File, true),
            case("within", What::File, true),
            case("..", What::Folder, true),
            case("cache/new", What::New, true),
            case("file", What::Folder, false),
            case("..", What::File, false),
            case("missing", What::File, false),
            case("../..", What::Folder, false),
            case("../../beside/key", What::File, false),
            case("to-key", What::File, false),
            case("out", What::Folder, false),
            case("out/key", What::Either, false),
            case("out/new", What::New, false),
            case("nowhere", What::New, false),
            case("../../new", What::New, false),
            case("out/../new", What::New, false),
            case("new/../../../new", What::New, false),
            case("../.git/config", What::File, false),
            case("../.git", What::Folder, false),
            case("../.git/new", What::New, false),
            case("to-git", What::Either, false),
            case("zero", What::File, false),
            case("own", What::File, false),
            case("socket", What::Either, false),
            case("loop", What::Either, false),
            case("/", What::Folder, false),
            case("/proc/1/environ", What::File, false),
            case("/etc/passwd", What::File, false),
        ];
        let (_folder, api) = repository();
        let tree = Tree::around(&api, &[]);
        for Case { path, what, taken } in cases {
            let found = tree.resolve(&api.join(path), what);
            assert_eq!(found.is_ok(), taken, "{path}: {found:?}");
        }
    }

    #[test]
    fn whoever_runs_it_allows_more() {
        let (folder, api) = repository();
        let beside = folder.path().join("beside");
        let tree = Tree::around(&api, &[beside.clone(), "/nothing/there".into()]);
        assert_eq!(tree.read(&api.join("to-key")).expect("allowed"), "text");
        assert!(tree.resolve(&api.join("out"), What::Folder).is_ok());
        assert!(tree.resolve(&api.join("zero"), What::File).is_err());
        let strict = Tree::around(&api, &[]);
        assert_eq!(strict.read_named(&beside.join("key")).expect("named"), "text");
        assert!(strict.read_named(&api.join("to-key")).is_err(), "a link of the repository");
        assert!(read_named(Path::new("/dev/zero")).is_err());
        assert!(read_named(Path::new("/proc/self/environ")).is_err());
    }

    #[test]
    fn what_is_read_is_bounded_text() {
        let (_folder, api) = repository();
        let tree = Tree::around(&api, &[]);
        let read = |bytes: Vec<u8>| {
            std::fs::write(api.join("file"), bytes).expect("written");
            tree.read(&api.join("file"))
        };
        let most = usize::try_from(TEXT_LIMIT).expect("a size");
        assert_eq!(read(vec![b'a'; most]).expect("read").len(), most);
        assert!(matches!(read(vec![b'a'; most + 1]), Err(Denied::TooLong)));
        assert!(matches!(read(vec![0xff]), Err(Denied::NotText)));
    }
}
