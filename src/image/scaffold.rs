//! `init`: the files that make a repository a service of the pipeline.
//!
//! [`facts`] says what the repository is, [`files`] what to write, [`python`], [`node`] and [`go`]
//! both for their language; here is what reads and writes.

mod fact;
mod facts;
mod files;
mod go;
mod mode;
mod node;
mod own;
mod python;
#[cfg(test)]
mod shapes;
mod syntax;
mod tree;

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::docker::unique;
use crate::dockerignore::{Ignore, clean_path, matches_glob};
use crate::error::{Cannot, Error, Result};
use crate::inside::{self, Denied, What};
use crate::owner;
use tree::{Above, Refusal, Surroundings, Tree};

/// Larger files say nothing of what a repository is.
const LARGEST: usize = 1024 * 1024;

/// How deep sources are looked for, and how many files are read at most.
const DEPTH: usize = 8;
const MOST: usize = 5000;

/// The hidden files that say something of how a service is built.
const TOLD_BY: [&str; 6] =
    [".python-version", ".nvmrc", ".node-version", ".npmrc", ".dockerignore", ".gitignore"];

/// The files that say something of the service when they are in a folder above.
const TOLD_ABOVE: [&str; 5] =
    ["pyproject.toml", "package.json", "pnpm-workspace.yaml", "go.work", ".dockerignore"];

/// What `init` would do: plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitPlan {
    /// The files that are new or differ, by the path they are written to.
    pub writes: Vec<(PathBuf, String)>,
    /// Files that are there already, say something else, and stay.
    pub kept: Vec<PathBuf>,
    /// What was found out, each with where it is said.
    pub facts: Vec<String>,
    /// What a person has to look at, guesses first.
    pub notes: Vec<String>,
    /// What would change, as a unified diff.
    pub diff: String,
}

/// A repository that was read.
pub struct Repository {
    folder: PathBuf,
    /// What the files that are there, or are written, stay inside of.
    work_tree: inside::Tree,
    facts: facts::ServiceFacts,
    /// The service's folder, from the root of the git repository; empty at the root itself.
    below: String,
    /// Its workflows: their names and texts.
    workflows: Vec<files::File>,
}

impl Repository {
    /// Reads the repository in `folder`, whose default branch is `branch`.
    ///
    /// # Errors
    /// Bad input when nothing in it says how it is built, or no Dockerfile can be written for it.
    pub fn read(
        folder: &Path,
        work_tree: inside::Tree,
        branch: Option<String>,
    ) -> Result<Repository> {
        let mut tree = Tree::new();
        read_tree(folder, "", DEPTH, &mut tree);
        // What git leaves out is not in the commit that is built.
        let ignore = tree.get(".gitignore").map(|text| Ignore::parse_git(text));
        tree.retain(|path, _| {
            let is_output = path.split('/').any(|part| OUTPUT.contains(&part));
            !is_output || !ignore.as_ref().is_some_and(|ignore| ignore.leaves_out(path))
        });
        let own = facts::find_dockerfile(&tree).and_then(|path| tree.get(&path));
        let copied = own.map(|text| own::list_copied(text)).unwrap_or_default();
        let above = read_above(folder, &work_tree, &copied);
        let below = above.last().map_or(String::new(), |root| root.below.clone());
        let name = folder
            .canonicalize()
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let around = Surroundings {
            folder: name.unwrap_or_default(),
            copied: find_copied(folder, &copied),
            above,
            branch,
        };
        let facts = facts::read_facts(&tree, &around)
            .map_err(|refusal| explain_refusal(folder, refusal))?;
        let mut workflows = Tree::new();
        read_tree(&folder.join(".github/workflows"), "", 0, &mut workflows);
        let workflows = workflows.into_iter().collect();
        Ok(Repository { folder: folder.to_path_buf(), work_tree, facts, below, workflows })
    }

    /// The image its Dockerfile begins with, without digest.
    pub fn base(&self) -> Option<String> {
        files::name_base(&self.facts.stack)
    }

    /// What to write. What is there already and says something else stays, unless `force`.
    ///
    /// # Errors
    /// Bad input for a file that would be read or written outside of the repository.
    pub fn plan(&self, base: &str, force: bool) -> Result<InitPlan> {
        let (facts, mut notes) = self.facts.describe();
        notes.extend(self.facts.notes.iter().cloned());
        let mut plan = InitPlan { writes: vec![], kept: vec![], facts, notes, diff: String::new() };
        // GitHub reads workflows at the root of a git repository only.
        let is_below = !self.below.is_empty();
        if is_below {
            plan.notes.push(format!(
                "the service is below its repository's root, where workflows have to be: copy \
                 workflows/ci.yml of clinicult/cicd there, with `with: {{service: \
                 {}/service.yaml}}`, or services.yml where there are several",
                self.below
            ));
        }
        for (name, text) in files::write_files(&self.facts, base, &self.workflows) {
            if is_below && name.starts_with(".github/") {
                continue;
            }
            let path: PathBuf = self
                .folder
                .join(&name)
                .components()
                .filter(|part| *part != Component::CurDir)
                .collect();
            let before = self.read_earlier(&path)?;
            match before.as_deref() {
                Some(before) if before == text => {}
                Some(_) if !force => plan.kept.push(path),
                before => {
                    plan.diff.push_str(&files::write_diff(&name, before, &text));
                    plan.writes.push((path, text));
                }
            }
        }
        Ok(plan)
    }

    /// What stands where a file is to be written; nothing is written over for not being text.
    fn read_earlier(&self, path: &Path) -> Result<Option<String>> {
        let read = self.work_tree.resolve(path, What::New).and_then(|_| self.work_tree.read(path));
        match read {
            Ok(text) => Ok(Some(text)),
            Err(Denied::NotText) => Ok(Some(String::new())),
            Err(denied) if denied.is_missing() => Ok(None),
            Err(denied) => Err(denied.into_error("write", path)),
        }
    }
}

/// Folders that builds write to; what is committed there is a part of the service all the same.
const OUTPUT: [&str; 3] = ["dist", "build", "out"];

/// The folders above, up to the root of the git repository.
fn read_above(folder: &Path, work_tree: &inside::Tree, copied: &[String]) -> Vec<Above> {
    let Ok(whole) = folder.canonicalize() else { return Vec::new() };
    let Some(root) = whole.ancestors().position(|above| above.join(".git").exists()) else {
        return Vec::new();
    };
    let folders = whole.ancestors().enumerate().skip(1).take(root);
    folders
        .map(|(depth, above)| {
            let below = whole.strip_prefix(above).unwrap_or(Path::new(""));
            let files = TOLD_ABOVE.into_iter().filter_map(|name| {
                let text = work_tree.read(&above.join(name)).ok()?;
                (text.len() <= LARGEST).then(|| (name.to_string(), text))
            });
            Above {
                path: vec![".."; depth].join("/"),
                below: below.to_string_lossy().replace('\\', "/"),
                files: files.collect(),
                copied: find_copied(above, copied),
            }
        })
        .collect()
}

/// Which of these sources of COPY are in a folder.
fn find_copied(folder: &Path, copied: &[String]) -> BTreeSet<String> {
    let exists = |source: &&String| {
        let path = clean_path(source);
        // The part before the first star says where to look.
        match path.find(['*', '?', '[']) {
            None => folder.join(&path).exists(),
            Some(at) => {
                let parent = path[..at].rsplit_once('/').map_or("", |(parent, _)| parent);
                let deeper = path[parent.len()..].trim_matches('/').contains('/');
                let entries = std::fs::read_dir(folder.join(parent)).into_iter().flatten();
                entries.filter_map(std::result::Result::ok).any(|entry| {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    deeper || matches_glob(&path, &clean_path(&format!("{parent}/{name}")))
                })
            }
        }
    };
    copied.iter().filter(exists).cloned().collect()
}

fn explain_refusal(folder: &Path, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Nothing(below) => {
            let error = Error::input(format!(
                "cannot find out how the service is built: nothing in {} says it",
                folder.display()
            ))
            .why(
                "there is no pyproject.toml, requirements.txt, package.json, go.mod or Dockerfile",
            );
            match below.as_slice() {
                [] => error
                    .fix("run it where the service's project file is, or write a Dockerfile first"),
                [first, ..] => {
                    let service = Path::new(first).parent().unwrap_or(Path::new(""));
                    error.fix(format!(
                        "run it there: `cd {} && cicd init`; found below: {}",
                        service.display(),
                        below.join(", ")
                    ))
                }
            }
        }
        Refusal::Shape { what, why, by_hand } => {
            Error::input(format!("cannot write a Dockerfile: this is {what}")).why(why).fix(by_hand)
        }
    }
}

/// Writes a plan's files, each as a whole or not at all.
///
/// # Errors
/// Unexpected, when the disk refuses.
pub fn write_plan(plan: &InitPlan) -> Result<()> {
    for (path, text) in &plan.writes {
        let attempt = || format!("write {}", path.display());
        let folder =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        owner::create_folders(folder).cannot(attempt)?;
        let fresh = folder.join(unique(".cicd-init")?);
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, path))
            .cannot(attempt)
            .inspect_err(|_| {
            let _ = std::fs::remove_file(&fresh);
        })?;
        owner::give_to_owner(path);
    }
    Ok(())
}

fn read_tree(folder: &Path, prefix: &str, depth: usize, tree: &mut Tree) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(kind) = entry.metadata() else { continue };
        let path = format!("{prefix}{name}");
        if name == "vendor" && entry.path().join("modules.txt").is_file() {
            tree.insert(format!("{path}/modules.txt"), String::new());
        }
        let skip = name.starts_with('.') && !TOLD_BY.contains(&name.as_str())
            || ["node_modules", "target", "vendor", "__pycache__", "venv"].contains(&name.as_str());
        if skip || tree.len() >= MOST {
            continue;
        }
        if kind.is_dir() && depth > 0 {
            read_tree(&entry.path(), &format!("{path}/"), depth - 1, tree);
        } else if kind.is_file() {
            let is_small = kind.len() <= LARGEST as u64;
            match is_small.then(|| std::fs::read_to_string(entry.path())) {
                Some(Ok(text)) => drop(tree.insert(path, text)),
                // One stands for all of its folder, but for the root's.
                _ if prefix.is_empty()
                    || tree
                        .range(prefix.to_string()..)
                        .next()
                        .is_none_or(|(path, _)| !path.starts_with(prefix)) =>
                {
                    drop(tree.insert(path, String::new()))
                }
                _ => {}
            }
        }
    }
}
