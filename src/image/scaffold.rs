//! `init`: the files that make a repository a service of the pipeline.
//!
//! [`facts`] says what the repository is, [`files`] what to write, [`python`], [`node`] and [`go`]
//! both for their language; here is what reads and writes.

mod facts;
mod files;
mod go;
mod node;
mod python;

use std::path::{Path, PathBuf};

use crate::docker::unique;
use crate::error::{Cannot, Error, Result};

/// Larger files say nothing of what a repository is.
const LARGEST: u64 = 1024 * 1024;

/// How deep sources are looked for, and how many files are read at most.
const DEPTH: usize = 6;
const MOST: usize = 5000;

/// The hidden files that say something of how a service is built.
const TOLD_BY: [&str; 5] =
    [".python-version", ".nvmrc", ".node-version", ".dockerignore", ".gitignore"];

/// What `init` would do: plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The files that are new or differ, by the path they are written to.
    pub writes: Vec<(PathBuf, String)>,
    /// Files that are there already, say something else, and stay.
    pub kept: Vec<PathBuf>,
    /// What a person has to look at.
    pub notes: Vec<String>,
    /// What would change, as a unified diff.
    pub diff: String,
}

/// A repository that was read.
pub struct Repository {
    folder: PathBuf,
    facts: facts::Facts,
    /// Its workflows: their names and texts.
    workflows: Vec<files::File>,
}

impl Repository {
    /// Reads the repository in `folder`.
    ///
    /// # Errors
    /// Bad input when nothing in it says how it is built.
    pub fn read(folder: &Path) -> Result<Repository> {
        let mut tree = facts::Tree::new();
        walk(folder, "", DEPTH, &mut tree);
        let name = folder
            .canonicalize()
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let facts = facts::read(&tree, &name.unwrap_or_default())
            .map_err(|unknown| cause(folder, unknown))?;
        let mut workflows = facts::Tree::new();
        walk(&folder.join(".github/workflows"), "", 0, &mut workflows);
        Ok(Repository {
            folder: folder.to_path_buf(),
            facts,
            workflows: workflows.into_iter().collect(),
        })
    }

    /// The image its Dockerfile begins with, without digest.
    pub fn base(&self) -> Option<String> {
        files::base(&self.facts.stack)
    }

    /// What to write. What is there already and says something else stays, unless `force`.
    pub fn plan(&self, base: &str, force: bool) -> Plan {
        let mut plan = Plan {
            writes: vec![],
            kept: vec![],
            notes: self.facts.notes.clone(),
            diff: String::new(),
        };
        let below = self.is_below_its_root();
        if below {
            plan.notes.push(
                "the service is below its repository's root, where workflows have to be: copy workflows/ci.yml of clinicult/cicd \
                 there, with `with: {service: PATH/service.yaml}`"
                    .into(),
            );
        }
        for (name, text) in files::files(&self.facts, base, &self.workflows) {
            if below && name.starts_with(".github/") {
                continue;
            }
            let path: PathBuf = self
                .folder
                .join(&name)
                .components()
                .filter(|part| *part != std::path::Component::CurDir)
                .collect();
            let before = std::fs::read_to_string(&path).ok();
            match before.as_deref() {
                Some(before) if before == text => {}
                Some(_) if !force => plan.kept.push(path),
                before => {
                    plan.diff.push_str(&files::diff(&name, before, &text));
                    plan.writes.push((path, text));
                }
            }
        }
        plan
    }

    /// GitHub reads workflows at the root of a git repository only.
    fn is_below_its_root(&self) -> bool {
        let Ok(folder) = self.folder.canonicalize() else { return false };
        folder
            .ancestors()
            .position(|above| above.join(".git").exists())
            .is_some_and(|depth| depth > 0)
    }
}

fn cause(folder: &Path, unknown: facts::Unknown) -> Error {
    match unknown {
        facts::Unknown::Nothing(below) => {
            let error = Error::input(format!("nothing in {} says how the service is built", folder.display()))
                .why("there is no pyproject.toml, requirements.txt, package.json, go.mod or Dockerfile");
            match below.as_slice() {
                [] => error.fix("run it where the service's project file is, or write a Dockerfile first"),
                [first, ..] => {
                    let service = Path::new(first).parent().unwrap_or(Path::new(""));
                    error.fix(format!("found below: {}. For that one: `cd {} && cicd init`", below.join(", "), service.display()))
                }
            }
        }
        facts::Unknown::Tool(file, tool) => Error::input(format!("init writes no Dockerfile for {tool}"))
            .why(format!("{file} says that {tool} installs the dependencies; init knows uv, Poetry, pdm, pip, npm and Go"))
            .fix("write the Dockerfile by hand; `cicd init` then writes the rest: service.yaml, .dockerignore and the workflow"),
    }
}

/// Writes a plan's files, each as a whole or not at all.
///
/// # Errors
/// Unexpected, when the disk refuses.
pub fn write(plan: &Plan) -> Result<()> {
    for (path, text) in &plan.writes {
        let attempt = || format!("write {}", path.display());
        let folder =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).cannot(attempt)?;
        let fresh = folder.join(unique(".cicd-init")?);
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, path))
            .cannot(attempt)
            .inspect_err(|_| {
            let _ = std::fs::remove_file(&fresh);
        })?;
    }
    Ok(())
}

fn walk(folder: &Path, prefix: &str, depth: usize, tree: &mut facts::Tree) {
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
            || ["node_modules", "target", "vendor", "__pycache__", "venv", "dist", "build"]
                .contains(&name.as_str());
        if skip || tree.len() >= MOST {
            continue;
        }
        if kind.is_dir() && depth > 0 {
            walk(&entry.path(), &format!("{path}/"), depth - 1, tree);
        } else if kind.is_file() {
            let is_small = kind.len() <= LARGEST;
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
