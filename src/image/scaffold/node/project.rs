//! What is known of a Node project. Pure.

use super::start::Start;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub start: Start,
    /// The script that builds, where there is one.
    pub build: Option<String>,
    /// What npm runs around an installation, of the project itself.
    pub around: Around,
    /// Its major version.
    pub version: u32,
    /// The package.json of each workspace, and folders that dependencies are.
    pub members: Vec<String>,
    pub local: Vec<String>,
    pub needs_git: bool,
    /// Folders at the root that the build makes, and that git does not have.
    pub made: Vec<String>,
    /// `public/` of Next is copied beside the standalone server.
    pub has_public: bool,
}

/// The project's own scripts that npm runs around an installation.
/// <https://docs.npmjs.com/cli/v11/using-npm/scripts#npm-ci>
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Around {
    Nothing,
    /// `prepare` alone, which sets up git's hooks: there is no git in an image, and nothing to set
    /// up.
    Hooks,
    /// They read sources, and may run what is only there for development.
    Scripts(Vec<&'static str>),
}
