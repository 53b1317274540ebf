//! The next semantic version of a service, from its git history.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::service;
use crate::error::{Error, Result};

/// What to find the version of.
#[derive(Clone, Debug)]
pub struct Request {
    /// The folder of service.yaml, absolute: `paths` are relative to it.
    pub folder: PathBuf,
    pub settings: service::Version,
    /// Number of the pull request this is a preview for.
    pub pull_request: Option<u64>,
    /// The branch, where the checkout itself cannot tell.
    pub branch: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Version {
    pub version: String,
    pub tag: String,
    pub docker_tag: String,
}

impl Version {
    pub fn in_words(&self) -> String {
        self.version.clone()
    }
    pub fn explain(&self) -> Vec<String> {
        vec![]
    }
}

/// `version` as a Docker tag: `+` becomes `-`, at most 128 characters.
pub fn docker_tag(version: &str) -> String {
    version.replace('+', "-").chars().take(128).collect()
}

pub fn next(_repository: &gix::Repository, _request: &Request) -> Result<Version> {
    Err(Error::unexpected("not written yet"))
}
