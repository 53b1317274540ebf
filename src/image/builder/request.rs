//! What is to be built, as every part of a build sees it. Pure.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::config::service;
use crate::config::values::BuilderImage;
use crate::git::{Head, WorkTree};

/// One image to build.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    pub name: String,
    /// service.yaml itself.
    pub file: PathBuf,
    /// The folder of service.yaml, which the context is relative to.
    pub folder: PathBuf,
    pub image: service::Image,
    /// Whether the cache is named by whoever runs the build, and not by service.yaml.
    pub has_own_cache: bool,
    /// The frontends that whoever runs the build allows, besides Docker's own.
    pub frontends: Vec<String>,
    pub head: Head,
    /// How the work tree differs from the commit.
    pub tree: WorkTree,
    /// Goes into the label org.opencontainers.image.version and the build argument VERSION.
    pub version: String,
    /// Where the OCI layout is written.
    pub layout: PathBuf,
    pub no_cache: bool,
    /// For an engine whose store writes no layout.
    pub builder_image: BuilderImage,
    /// It is for a pull request from a fork, which GitHub gives no secrets.
    pub from_fork: bool,
    /// A build that takes longer hangs.
    pub timeout: Duration,
}

/// Where GitHub's runner says where its cache is, and gives a token for it. For a container action
/// it does not say which version of the service this is; the one that is left is 2.
pub const GHA: [&str; 2] = crate::spawn::GITHUB_CACHE;

/// Returns a path as people write it: without its `.` parts.
pub fn tidy(path: &Path) -> PathBuf {
    let tidy: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    if tidy.as_os_str().is_empty() { PathBuf::from(".") } else { tidy }
}
