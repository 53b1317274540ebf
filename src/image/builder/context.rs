//! What can be said of a build context before the build: what of it the commit does not have, and
//! what was never fetched. Pure.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::check::dockerfile::{Dockerfile, Instruction};
use crate::dockerignore::{Ignore, Pattern};
use crate::git::{Difference, Head, WorkTree};

/// Paths that are named; more are counted.
const NAMED: usize = 5;

/// What marks a revision or a version that is not what its commit has.
const DIRTY: &str = "-dirty";

/// A folder that the build gets, relative to the root of the work tree.
#[derive(Clone, Debug, Default)]
pub struct SourceFolder {
    pub path: PathBuf,
    pub ignore: Ignore,
}

impl SourceFolder {
    /// A path below the root of the work tree as the build sees it. `None` if it does not get it.
    fn locate<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        let inside = path.strip_prefix(&self.path).ok()?;
        (!self.ignore.leaves_out(inside)).then_some(inside)
    }
}

/// Returns the differences of the work tree that reach the build: by a folder that it gets, or by
/// one of the files that say how it is done.
pub fn find_uncommitted<'t>(
    tree: &'t WorkTree,
    folders: &[SourceFolder],
    files: &[PathBuf],
    ours: &[PathBuf],
) -> Vec<&'t (PathBuf, Difference)> {
    let reaches = |path: &Path| {
        files.iter().any(|file| file == path)
            || folders.iter().any(|folder| folder.locate(path).is_some())
                && !ours.iter().any(|folder| path.starts_with(folder))
    };
    tree.changes.iter().filter(|(path, _)| reaches(path)).collect()
}

/// Marks the commit and the version as not being what is built.
pub fn mark_dirty(head: &mut Head, version: &mut String) {
    for text in [&mut head.revision, version] {
        if !text.ends_with(DIRTY) {
            text.push_str(DIRTY);
        }
    }
}

/// Says what of the build is not in its commit, and what that means.
pub fn describe_uncommitted(found: &[&(PathBuf, Difference)], revision: &str) -> String {
    let named: Vec<String> = found
        .iter()
        .take(NAMED)
        .map(|(path, difference)| format!("{} ({difference})", show_path(path)))
        .collect();
    let commit: String = revision.chars().take(12).collect();
    format!(
        "what is built is not what commit {commit} has: {}{}; the image is labelled \
         {commit}…{DIRTY}. \
         Commit it, or leave it out by .gitignore or .dockerignore",
        named.join(", "),
        count_rest(found.len())
    )
}

/// A path on one line: whoever names a file may put anything into its name.
fn show_path(path: &Path) -> String {
    let show = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    path.to_string_lossy().chars().map(show).collect()
}

fn count_rest(count: usize) -> String {
    match count.saturating_sub(NAMED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    }
}

/// A file of the context that is a pointer of Git LFS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Relative to the context.
    pub path: PathBuf,
    /// Of the file that it stands for, in bytes.
    pub size: u64,
}

/// Says which pointers reach the image in the place of files. `None` if none does.
pub fn describe_pointers(pointers: &[Pointer], dockerfile: &Dockerfile) -> Option<String> {
    let taken: Vec<&Pointer> =
        pointers.iter().filter(|one| is_taken(dockerfile, &one.path)).collect();
    let size = taken.iter().fold(0, |sum, one| one.size.saturating_add(sum));
    let named: Vec<String> = taken.iter().take(NAMED).map(|one| show_path(&one.path)).collect();
    (!taken.is_empty()).then(|| {
        format!(
            "the image gets pointers of Git LFS instead of files: {}{}, {} bytes are missing. \
             Fetch them first: `git lfs pull`; in a workflow that calls service.yml \
             `with: {{lfs: true}}`, in one of your own `lfs: true` of actions/checkout",
            named.join(", "),
            count_rest(taken.len()),
            size
        )
    })
}

/// Says what git leaves out and the image gets: each file, below what git leaves out. `None` if
/// nothing is.
pub fn describe_left_out(found: &[(PathBuf, PathBuf)], dockerfile: &Dockerfile) -> Option<String> {
    let taken = found.iter().filter(|(_, file)| is_taken(dockerfile, file));
    let taken: BTreeSet<&PathBuf> = taken.map(|(above, _)| above).collect();
    let named: Vec<String> = taken.iter().take(NAMED).map(|path| show_path(path)).collect();
    (!taken.is_empty()).then(|| {
        format!(
            "the image gets what git leaves out, and no other checkout of this commit has: {}{}. \
             Leave it out by .dockerignore, or make it in a stage of the Dockerfile",
            named.join(", "),
            count_rest(taken.len())
        )
    })
}

/// Says which submodules reach the image as empty folders. `None` if none does.
pub fn describe_missing_submodules(
    tree: &WorkTree,
    context: &SourceFolder,
    dockerfile: &Dockerfile,
) -> Option<String> {
    let missing = tree.missing_submodules.iter().filter(|path| {
        context.locate(path).is_some_and(|inside| is_taken(dockerfile, inside))
            // The context itself lies in it.
            || context.path.starts_with(path)
    });
    let missing: Vec<String> = missing.map(|path| show_path(path)).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "the image gets an empty folder in the place of a submodule: {}. \
             Fetch it first: `git submodule update --init --recursive`; in a workflow that calls \
             service.yml `with: {{submodules: recursive}}`, in one of your own \
             `submodules: recursive` of actions/checkout",
            missing.join(", ")
        )
    })
}

/// Whether some instruction takes a path, or something below it, from the build context.
pub fn is_taken(dockerfile: &Dockerfile, path: &Path) -> bool {
    let mut sources = dockerfile.instructions.iter().flat_map(Instruction::context_paths);
    sources.any(|source| {
        let source = source.trim_start_matches('/');
        // What an argument says is not known here; the whole context covers everything.
        if source.contains('$') || matches!(source, "" | "." | "./") {
            return true;
        }
        let below = Path::new(source.trim_start_matches("./")).starts_with(path);
        below || Pattern::parse(source).is_none_or(|pattern| pattern.covers(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> WorkTree {
        let changes = paths.iter().map(|path| (path.into(), Difference::Changed)).collect();
        WorkTree { changes, ..WorkTree::default() }
    }

    #[test]
    fn only_what_the_build_gets_makes_it_differ_from_its_commit() {
        struct Row {
            context: &'static str,
            ignore: &'static str,
            changed: &'static str,
            counts: bool,
        }
        let row = |context, ignore, changed, counts| Row { context, ignore, changed, counts };
        let rows = [
            row("", "", "app.py", true),
            row("", "*.md\n", "README.md", false),
            row("", "docs\n", "docs/a/b.md", false),
            row("services/patients", "", "services/patients/app.py", true),
            row("services/patients", "", "services/doctors/app.py", false),
            row("services/patients", "docs\n", "docs/a.md", false),
            row("services/patients", "docs\n", "services/patients/docs/a.md", false),
            // They say how the build is done.
            row("services/patients", "", "services/service.yaml", true),
            row("", "Dockerfile\n", "Dockerfile", true),
            // What was built before.
            row("", "", "target/image/index.json", false),
        ];
        for Row { context, ignore, changed, counts } in rows {
            let folder = SourceFolder { path: context.into(), ignore: Ignore::parse(ignore) };
            let files = ["Dockerfile".into(), "services/service.yaml".into()];
            let tree = tree(&[changed]);
            let found = find_uncommitted(&tree, &[folder], &files, &["target/image".into()]);
            assert_eq!(!found.is_empty(), counts, "{context} {ignore:?} {changed}");
        }
    }

    #[test]
    fn what_git_leaves_out_is_said_where_an_image_gets_it() {
        let found = [("made", "made/a.js"), ("made", "made/b.js"), ("local.db", "local.db")];
        let found = found.map(|(above, file)| (PathBuf::from(above), PathBuf::from(file)));
        let told = |copy: &str| {
            describe_left_out(&found, &Dockerfile::parse(&format!("FROM x\nCOPY {copy} /x/\n")))
        };
        assert!(told(".").is_some_and(|text| text.contains(": local.db, made. Leave")));
        assert!(told("made").is_some_and(|text| text.contains(": made. Leave")));
        assert_eq!(told("app.py"), None);
    }

    #[test]
    fn a_commit_that_is_not_what_is_built_is_marked_once() {
        let mut head = Head {
            revision: "4f1c".repeat(10),
            time: 0,
            branch: None,
            source: None,
            root: "/".into(),
        };
        let mut version = "1.4.0".to_string();
        for _ in 0..2 {
            mark_dirty(&mut head, &mut version);
        }
        assert_eq!(head.revision, format!("{}-dirty", "4f1c".repeat(10)));
        assert_eq!(version, "1.4.0-dirty");
        let paths = ["a", "b", "c", "d", "e", "f", "g"];
        let tree = tree(&paths);
        let found: Vec<_> = tree.changes.iter().collect();
        let text = describe_uncommitted(&found, &head.revision);
        assert!(
            text.contains("a (changed), b") && text.contains("e (changed) and 2 more"),
            "{text}"
        );
        assert!(text.contains("4f1c4f1c4f1c…-dirty"), "{text}");
        let odd = (PathBuf::from("a\n::error::x\u{1b}[2J"), Difference::Untracked);
        let text = describe_uncommitted(&[&odd], &head.revision);
        assert!(!text.contains(char::is_control), "{text:?}");
    }

    #[test]
    fn a_path_is_taken_by_what_copies_or_mounts_it() {
        struct Row {
            line: &'static str,
            taken: bool,
        }
        let row = |line, taken| Row { line, taken };
        let rows = [
            row("COPY . .", true),
            row("COPY ./ /app/", true),
            row("COPY / /app/", true),
            row("COPY model model", true),
            row("COPY ./model /m", true),
            row("COPY /model/ /m", true),
            row("COPY model/weights.bin /m", true),
            row("COPY model/*.bin /m", true),
            row("COPY mod* /m", true),
            row("ADD [\"model\", \"/m\"]", true),
            row("COPY $SOURCES /app", true),
            row("COPY --chown=1:1 app.py model ./", true),
            row("RUN --mount=type=bind,target=/src make", true),
            row("RUN --mount=target=/src,source=model make", true),
            row("COPY app.py .", false),
            row("COPY models /m", false),
            row("COPY *.bin /m", false),
            row("COPY --from=build . .", false),
            row("RUN --mount=type=bind,from=build,target=/x make", false),
            row("RUN --mount=type=cache,target=/model make", false),
            row("COPY <<EOF /x\n.\nEOF", false),
        ];
        for Row { line, taken } in rows {
            let dockerfile = Dockerfile::parse(&format!("FROM scratch\n{line}\n"));
            assert_eq!(is_taken(&dockerfile, Path::new("model/weights.bin")), taken, "{line}");
        }
    }

    #[test]
    fn what_was_not_fetched_is_said_only_where_the_image_gets_it() {
        let pointers = [Pointer { path: "model/weights.bin".into(), size: 104_857_600 }];
        let whole = Dockerfile::parse("FROM scratch\nCOPY . .\n");
        let part = Dockerfile::parse("FROM scratch\nCOPY app.py .\n");
        let text = describe_pointers(&pointers, &whole).expect("a pointer");
        assert!(text.contains("model/weights.bin, 104857600 bytes") && text.contains("lfs: true"));
        assert_eq!(describe_pointers(&pointers, &part), None);
        assert_eq!(describe_pointers(&[], &whole), None);

        let missing_submodules = vec!["svc/vendor/lib".into()];
        let tree = WorkTree { missing_submodules, ..WorkTree::default() };
        let folder = |path: &str, ignore: &str| SourceFolder {
            path: path.into(),
            ignore: Ignore::parse(ignore),
        };
        let says = |folder: &SourceFolder, dockerfile| {
            describe_missing_submodules(&tree, folder, dockerfile).is_some()
        };
        assert!(says(&folder("svc", ""), &whole));
        assert!(says(&folder("svc/vendor/lib/inner", ""), &part), "the context lies in it");
        assert!(!says(&folder("svc", "vendor\n"), &whole));
        assert!(!says(&folder("svc", ""), &part));
        assert!(!says(&folder("other", ""), &whole));
        let deep = Dockerfile::parse("FROM scratch\nCOPY vendor/lib/src /src\n");
        assert!(says(&folder("svc", ""), &deep));
    }
}
