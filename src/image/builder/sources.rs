//! The sources of a build as buildx gets them: read, looked through, and put into the form that
//! every checkout of the commit has.
//!
//! What this program wrote into the context is left out of it, by patterns behind those of the
//! service's own .dockerignore. Files whose modes come from somebody's umask are handed over as a
//! copy with the modes that git knows.

use std::collections::BTreeSet;
use std::fs::{DirEntry, Metadata};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::context::{self, Pointer, SourceFolder};
use super::plan::{self, Sources, local_contexts};
use super::request::{BuildRequest, tidy};
use crate::check::dockerfile::Dockerfile;
use crate::check::frontend;
use crate::dockerignore::{Ignore, write_line};
use crate::error::{Cannot, Error, Place, Result};
use crate::git::LfsPointer;
use crate::image::destination::{Destination, Fresh, STAGED, is_marked, unwritable};
use crate::image::work::{self, Stop};
use crate::inside;
use crate::report::Report;

/// The modes of files and folders that git makes anew: whether a file can be run is all it keeps.
const FILE: u32 = 0o644;
const PROGRAM: u32 = 0o755;
const FOLDER: u32 = 0o755;

/// What was read of the sources before the build.
#[derive(Clone, Debug)]
pub struct SourceTexts {
    /// The build context, without links on the way.
    context: PathBuf,
    /// The Dockerfile, without links on the way.
    file: PathBuf,
    text: String,
    dockerfile: Dockerfile,
    /// The text of the .dockerignore that holds for this Dockerfile; empty when there is none.
    ignore: String,
}

const FIX: &str = "say where it is: `image: {context: ., dockerfile: Dockerfile}`, the context \
                   relative to \
                   service.yaml, the Dockerfile to the context";

impl SourceTexts {
    /// Reads the Dockerfile and what it leaves out, and sees that all sources are there.
    ///
    /// # Errors
    /// Bad input for what is missing or lies outside of the context; refused for a frontend that
    /// nobody allowed.
    pub fn read(request: &BuildRequest) -> Result<SourceTexts> {
        let shown = tidy(&request.folder.join(&request.image.context));
        let context = shown.canonicalize().map_err(|error| {
            Error::input(format!("cannot build: there is no build context {}", shown.display()))
                .why(error)
                .fix(FIX)
        })?;
        let dockerfile = tidy(&request.folder.join(plan::locate_dockerfile(request)));
        let file = dockerfile.canonicalize().map_err(|error| {
            Error::input(format!("cannot build: there is no {}", dockerfile.display()))
                .why(error)
                .fix(FIX)
        })?;
        if !file.starts_with(&context) {
            return Err(Error::input(format!(
                "cannot build {}: it is outside the build context",
                dockerfile.display()
            ))
            .why(format!("the context is {}", context.display()))
            .fix(FIX));
        }
        for (name, path) in local_contexts(request) {
            let folder = tidy(&request.folder.join(path));
            if !folder.is_dir() {
                return Err(Error::input(format!(
                    "cannot build: there is no folder {} for the build context `{name}`",
                    folder.display()
                ))
                .fix(format!(
                    "name one: `image: {{contexts: {{{name}: FOLDER}}}}`, relative to \
                     service.yaml, or docker-image://NAME@sha256:…"
                )));
            }
        }
        let text = read_text(&file)?.unwrap_or_default();
        check_frontend(request, &text, &dockerfile)?;
        // By the name that is given, as BuildKit has it, wherever a link leads.
        let beside = PathBuf::from(format!("{}.dockerignore", dockerfile.display()));
        let ignore = match read_text(&beside)? {
            Some(text) => text,
            None => read_text(&context.join(".dockerignore"))?.unwrap_or_default(),
        };
        Ok(SourceTexts { context, file, dockerfile: Dockerfile::parse(&text), text, ignore })
    }

    /// Says what is built that the commit does not have, and marks the commit and the version in
    /// the request that is returned.
    pub fn identify(
        &self,
        request: &BuildRequest,
        destination: &Destination,
        report: &Report,
    ) -> BuildRequest {
        let mut request = request.clone();
        let root = request.head.root.canonicalize().unwrap_or_else(|_| request.head.root.clone());
        let below = |path: &Path| {
            let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
            real.strip_prefix(&root).ok().map(Path::to_path_buf)
        };
        let named = local_contexts(&request).filter_map(|(_, path)| {
            let folder = request.folder.join(path);
            let ignore = read_text(&folder.join(".dockerignore")).ok().flatten();
            let ignore = Ignore::parse(&ignore.unwrap_or_default());
            Some(SourceFolder { path: below(&folder)?, ignore })
        });
        let own = self.source_folder(&root);
        let folders: Vec<SourceFolder> = own.iter().cloned().chain(named).collect();
        let files: Vec<PathBuf> =
            [&self.file, &request.file].into_iter().filter_map(|file| below(file)).collect();
        let ours: Vec<PathBuf> = below(destination.path()).into_iter().collect();
        let found = context::find_uncommitted(&request.tree, &folders, &files, &ours);
        if let Some(why) = &request.tree.unread {
            report.warn(format!("{why}; the image is labelled as if something were changed"));
        } else if !found.is_empty() {
            report.warn(context::describe_uncommitted(&found, &request.head.revision));
        }
        if request.tree.unread.is_some() || !found.is_empty() {
            context::mark_dirty(&mut request.head, &mut request.version);
        }
        if let Some(folder) = own
            && let Some(text) =
                context::describe_missing_submodules(&request.tree, &folder, &self.dockerfile)
        {
            report.warn(text);
        }
        request
    }

    /// The build context below the root of the work tree. `None` if it lies elsewhere.
    fn source_folder(&self, root: &Path) -> Option<SourceFolder> {
        let path = self.context.strip_prefix(root).ok()?.to_path_buf();
        Some(SourceFolder { path, ignore: Ignore::parse(&self.ignore) })
    }

    /// Writes what buildx is given besides the context's own files, and returns where all of it is.
    ///
    /// # Errors
    /// Bad input for a file that cannot be read; refused when the disk is full.
    pub async fn stage(
        self,
        request: &BuildRequest,
        fresh: &Fresh,
        report: &Report,
    ) -> Result<Sources> {
        let (written, staged) = (Sources::as_written(request), fresh.part(STAGED));
        let folder = request.folder.clone();
        let report = report.clone();
        let left = self.list_left_out(request);
        work::run(move |stop| self.write(&folder, written, &staged, &left, &report, stop)).await
    }

    /// What git leaves out of the commit, relative to the build context.
    fn list_left_out(&self, request: &BuildRequest) -> BTreeSet<PathBuf> {
        let root = request.head.root.canonicalize().unwrap_or_else(|_| request.head.root.clone());
        let below = |path: &PathBuf| {
            let path = root.join(path);
            path.strip_prefix(&self.context).ok().map(Path::to_path_buf)
        };
        request.tree.ignored.iter().filter_map(below).collect()
    }

    fn write(
        &self,
        folder: &Path,
        mut sources: Sources,
        staged: &Path,
        left: &BTreeSet<PathBuf>,
        report: &Report,
        stop: &Stop,
    ) -> Result<Sources> {
        let survey = Survey::of(&self.context, Ignore::parse(&self.ignore), left, stop)?;
        let pointers = context::describe_pointers(&survey.pointers, &self.dockerfile);
        let uncommitted = context::describe_left_out(&survey.left_out, &self.dockerfile);
        for text in pointers.into_iter().chain(uncommitted) {
            report.warn(text);
        }
        let name = self.file.file_name().unwrap_or("Dockerfile".as_ref()).to_string_lossy();
        let mut ignore = self.ignore.clone();
        for path in survey.find_outermost() {
            ignore += &format!("\n{}", write_line(&path));
        }
        write_file(&staged.join(&*name), self.text.as_bytes())?;
        write_file(&staged.join(format!("{name}.dockerignore")), ignore.as_bytes())?;
        sources.dockerfile = staged.join(&*name);
        if survey.has_odd_modes {
            sources.context = staged.join("context");
            survey.copy(&sources.context, stop)?;
        }
        for (number, context) in sources.contexts.values_mut().enumerate() {
            let root = folder.join(&*context);
            let ignore = read_text(&root.join(".dockerignore"))?.unwrap_or_default();
            let survey = Survey::of(&root, Ignore::parse(&ignore), &BTreeSet::new(), stop)?;
            // Such a folder has no ignore file of ours.
            if survey.has_odd_modes || !survey.ours.is_empty() {
                *context = staged.join(format!("context-{number}"));
                survey.copy(context, stop)?;
            }
        }
        Ok(sources)
    }
}

/// Refuses a frontend that is neither Docker's nor allowed by whoever runs the build.
fn check_frontend(request: &BuildRequest, text: &str, dockerfile: &Path) -> Result<()> {
    let refuse = |image: &str| {
        let (why, fix) = frontend::explain_refusal(image);
        Error::refused("cannot build with a BuildKit frontend that nobody allowed")
            .why(why)
            .fix(fix)
    };
    let arguments = &request.image.build_args;
    let argument = arguments.iter().find(|(name, _)| name.as_str() == frontend::ARGUMENT);
    if let Some((_, value)) = argument {
        let image = value.split_whitespace().next().unwrap_or_default();
        return match frontend::is_allowed(image, &request.frontends) {
            true => Ok(()),
            false => Err(refuse(image)),
        };
    }
    match frontend::read_frontend(text) {
        Some(found) if !frontend::is_allowed(&found.image, &request.frontends) => {
            let place = Place { file: dockerfile.to_path_buf(), line: found.line, column: 1 };
            Err(refuse(&found.image).at(place))
        }
        _ => Ok(()),
    }
}

/// A text file of the repository. `None` if it is not there.
fn read_text(path: &Path) -> Result<Option<String>> {
    match inside::read_bytes(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(denied) if denied.is_missing() => Ok(None),
        Err(denied) => Err(denied.into_error("read", path)),
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(|error| unwritable(parent, &error))?;
    std::fs::write(path, bytes).map_err(|error| unwritable(path, &error))
}

/// What was seen in a folder that a build gets.
struct Survey {
    root: PathBuf,
    ignore: Ignore,
    /// Whether some file has a mode that no fresh checkout gives it.
    has_odd_modes: bool,
    /// Folders that this program made, relative to the root.
    ours: Vec<PathBuf>,
    pointers: Vec<Pointer>,
    /// Files that git leaves out and the build gets, each below what git leaves out.
    left_out: Vec<(PathBuf, PathBuf)>,
}

/// More of such files are not told apart.
const MOST_LEFT_OUT: usize = 10_000;

impl Survey {
    fn of(root: &Path, ignore: Ignore, left: &BTreeSet<PathBuf>, stop: &Stop) -> Result<Survey> {
        let (mut has_odd_modes, mut ours, mut pointers) = (false, Vec::new(), Vec::new());
        let mut left_out = Vec::new();
        walk_folder(root, stop, &mut |path, entry, meta| {
            let place = root.join(path);
            if meta.is_dir() {
                if is_marked(&place) {
                    ours.push(path.to_path_buf());
                    return Ok(false);
                }
                let is_repository = entry.file_name() == ".git";
                let descends = !is_repository && !ignore.prunes(path);
                has_odd_modes |= descends && read_mode(meta) != FOLDER && !ignore.leaves_out(path);
                return Ok(descends);
            }
            if meta.is_file() && !ignore.leaves_out(path) {
                has_odd_modes |= read_mode(meta) != choose_mode(meta);
                let above = path.ancestors().find(|above| left.contains(*above));
                if let Some(above) = above.filter(|_| left_out.len() < MOST_LEFT_OUT) {
                    left_out.push((above.to_path_buf(), path.to_path_buf()));
                }
                if let Some(pointer) = read_pointer(&place, meta) {
                    pointers.push(Pointer { path: path.to_path_buf(), size: pointer.size });
                }
            }
            Ok(true)
        })?;
        Ok(Survey { root: root.to_path_buf(), ignore, has_odd_modes, ours, pointers, left_out })
    }

    /// The folders that this program made, each with those around it that hold nothing else: they
    /// were made for it.
    fn find_outermost(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = self.ours.iter().map(|path| self.climb(path)).collect();
        found.sort();
        found.dedup();
        found
    }

    fn climb(&self, path: &Path) -> PathBuf {
        let mut outermost = path.to_path_buf();
        while let Some(parent) = outermost.parent().filter(|parent| *parent != Path::new("")) {
            let entries = std::fs::read_dir(self.root.join(parent)).into_iter().flatten();
            let is_ours = |entry: std::io::Result<DirEntry>| {
                let path = entry.map(|entry| parent.join(entry.file_name())).unwrap_or_default();
                path == outermost || self.ours.contains(&path)
            };
            if !entries.into_iter().all(is_ours) {
                break;
            }
            outermost = parent.to_path_buf();
        }
        outermost
    }

    /// Copies what the build gets, with the modes of a fresh checkout.
    fn copy(&self, to: &Path, stop: &Stop) -> Result<()> {
        std::fs::create_dir_all(to).map_err(|error| unwritable(to, &error))?;
        walk_folder(&self.root, stop, &mut |path, _, meta| {
            let (from, to) = (self.root.join(path), to.join(path));
            let leaves_out = self.ignore.leaves_out(path);
            if meta.is_dir() {
                if self.ours.iter().any(|folder| folder == path) || self.ignore.prunes(path) {
                    return Ok(false);
                }
                if !leaves_out {
                    make_folder(&to)?;
                }
                return Ok(true);
            }
            if leaves_out {
                return Ok(true);
            }
            if let Some(parent) = to.parent() {
                make_folder(parent)?;
            }
            if meta.is_symlink() {
                let target =
                    std::fs::read_link(&from).cannot(|| format!("read {}", from.display()))?;
                std::os::unix::fs::symlink(target, &to).map_err(|error| unwritable(&to, &error))?;
            } else if meta.is_file() {
                copy_file(&from, &to, choose_mode(meta))?;
            }
            Ok(true)
        })
    }
}

/// Makes a folder with those above it, each with the mode that git would give it.
fn make_folder(folder: &Path) -> Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.exists()).collect();
    for path in missing.into_iter().rev() {
        std::fs::create_dir(path).map_err(|error| unwritable(path, &error))?;
        set_mode(path, FOLDER)?;
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let mut source = std::fs::File::open(from).map_err(|error| {
        Error::input(format!("cannot read {}", from.display()))
            .why(error)
            .fix("let this user read it, or leave it out by .dockerignore")
    })?;
    let mut file = std::fs::File::create_new(to).map_err(|error| unwritable(to, &error))?;
    std::io::copy(&mut source, &mut file).map_err(|error| unwritable(to, &error))?;
    set_mode(to, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|error| unwritable(path, &error))
}

fn read_mode(meta: &Metadata) -> u32 {
    meta.permissions().mode() & 0o7777
}

/// The mode that a fresh checkout gives a file.
fn choose_mode(meta: &Metadata) -> u32 {
    if read_mode(meta) & 0o100 == 0 { FILE } else { PROGRAM }
}

fn read_pointer(path: &Path, meta: &Metadata) -> Option<LfsPointer> {
    if !(100..LfsPointer::LIMIT).contains(&meta.len()) {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(LfsPointer::LIMIT).read_to_end(&mut bytes).ok()?;
    LfsPointer::parse(&bytes)
}

/// Shows every entry below `root` to `look`, by its path from there; whether a folder is entered
/// is what `look` returns. Links are not followed, and what cannot be read is left to BuildKit.
fn walk_folder(
    root: &Path,
    stop: &Stop,
    look: &mut dyn FnMut(&Path, &DirEntry, &Metadata) -> Result<bool>,
) -> Result<()> {
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        stop.check().cannot(|| format!("read {}", root.display()))?;
        let Ok(entries) = std::fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let path = folder.join(entry.file_name());
            if look(&path, &entry, &meta)? && meta.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::destination::mark_folder;

    fn survey(root: &Path, ignore: &str) -> Survey {
        let left = ["made".into(), "local.db".into()].into();
        Survey::of(root, Ignore::parse(ignore), &left, &Stop::never()).expect("a survey")
    }

    fn write(root: &Path, path: &str, text: &str, mode: u32) {
        let path = root.join(path);
        make_folder(path.parent().expect("a parent")).expect("folders");
        std::fs::write(&path, text).expect("written");
        set_mode(&path, mode).expect("a mode");
    }

    #[test]
    fn what_was_made_here_is_found_with_the_folders_that_were_made_for_it() {
        let root = tempfile::tempdir().expect("a folder");
        let make = |path: &str| {
            make_folder(&root.path().join(path)).expect("folders");
            mark_folder(&root.path().join(path)).expect("marked");
        };
        make("target/image");
        make("target/.image-01234567");
        make("build/out/image");
        write(root.path(), "build/other", "", FILE);
        make("cache");
        write(root.path(), "blobs/index.json", "{}", FILE);
        let found = survey(root.path(), "");
        let expected = ["build/out", "cache", "target"].map(PathBuf::from);
        assert_eq!(found.find_outermost(), expected);
    }

    #[test]
    fn modes_of_somebodys_umask_become_those_of_a_fresh_checkout() {
        let root = tempfile::tempdir().expect("a folder");
        write(root.path(), "app/main.py", "x", FILE);
        write(root.path(), "app/run.sh", "y", PROGRAM);
        write(root.path(), "secret/key", "z", 0o600);
        assert!(survey(root.path(), "").has_odd_modes);
        assert!(!survey(root.path(), "secret\n").has_odd_modes, "it is no part of the build");
        for (path, mode) in [("app/main.py", 0o664), ("app/run.sh", 0o700), ("app", 0o700)] {
            set_mode(&root.path().join(path), mode).expect("a mode");
        }
        std::os::unix::fs::symlink("main.py", root.path().join("app/link")).expect("a link");
        std::os::unix::fs::symlink("/", root.path().join("app/out")).expect("a link");
        let copy = tempfile::tempdir().expect("a folder");
        let to = copy.path().join("context");
        let found = survey(root.path(), "secret\n");
        assert!(found.has_odd_modes);
        found.copy(&to, &Stop::never()).expect("copied");
        let seen = |path: &str| {
            let meta = std::fs::symlink_metadata(to.join(path)).expect(path);
            read_mode(&meta)
        };
        assert_eq!((seen("app"), seen("app/main.py"), seen("app/run.sh")), (FOLDER, FILE, PROGRAM));
        assert_eq!(std::fs::read_link(to.join("app/out")).expect("a link"), Path::new("/"));
        assert_eq!(std::fs::read_to_string(to.join("app/link")).expect("followed"), "x");
        assert!(!to.join("secret").exists());
    }

    #[test]
    fn pointers_are_found_among_what_the_build_gets() {
        let root = tempfile::tempdir().expect("a folder");
        let hex = "0".repeat(64);
        let text =
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{hex}\nsize 7\n");
        write(root.path(), "model/a.bin", &text, FILE);
        write(root.path(), "docs/b.bin", &text, FILE);
        write(root.path(), "docs/spec.txt", &format!("as in\n{text}"), FILE);
        let found = survey(root.path(), "docs\n").pointers;
        assert_eq!(found, [Pointer { path: "model/a.bin".into(), size: 7 }]);
    }

    #[test]
    fn what_git_leaves_out_and_the_build_gets_is_found() {
        let root = tempfile::tempdir().expect("a folder");
        for path in ["made/a.js", "made/b.map", "local.db", "app.py"] {
            write(root.path(), path, "", FILE);
        }
        let mut found = survey(root.path(), "*.db\n**/*.map\n").left_out;
        found.sort();
        assert_eq!(found, [("made".into(), "made/a.js".into())]);
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(read_text(&root.path().join("none")).expect("none"), None);
        read_text(root.path()).expect_err("a folder");
        read_text(Path::new("/dev/zero")).expect_err("it never ends");
    }
}
