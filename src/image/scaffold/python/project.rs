//! What is known of a Python project. Pure.

use toml::Table;

use super::super::tree::Fact;
use super::entry::Start;
use super::needs::SystemPackages;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    pub installer: Installer,
    pub start: Fact<Start>,
    /// `3.13`
    pub version: String,
    /// The files and folders at the root that the running service reads.
    pub sources: Vec<String>,
    /// The folders that modules are found in, from the root; the root itself is always one.
    pub roots: Vec<String>,
    /// What the dependencies are installed from: the lock file and those beside it.
    pub manifests: Vec<String>,
    /// Folders that dependencies are built from.
    pub local: Vec<String>,
    /// What the stages need of the system.
    pub system: SystemPackages,
    /// What the project itself is built from beside its sources, when it has to be installed to
    /// work.
    pub installed: Option<Vec<String>>,
    /// What the dependencies do not name, and the service needs.
    pub missing: Vec<&'static str>,
}

/// Who installs the dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installer {
    Uv,
    Poetry,
    Pdm,
    Pip,
}

impl Python {
    /// What the Dockerfile copies from the repository.
    pub fn copied(&self) -> Vec<String> {
        let mut copied = self.manifests.clone();
        let more = self.local.iter().chain(self.installed.iter().flatten()).chain(&self.sources);
        for file in more {
            if !copied.contains(file) {
                copied.push(file.clone());
            }
        }
        copied
    }
}

/// `[tool.NAME]` of pyproject.toml.
pub fn get_tool<'a>(project: &'a Table, name: &str) -> Option<&'a Table> {
    project.get("tool")?.get(name)?.as_table()
}
