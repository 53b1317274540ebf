//! From an OCI layout to a registry: ECR, or any that speaks the OCI distribution protocol.

use std::path::PathBuf;

use serde::Serialize;

use crate::aws::Session;
use crate::config::platform;
use crate::error::{Error, Result};
use crate::report::Report;

/// What to push.
#[derive(Clone, Debug)]
pub struct Request {
    pub layout: PathBuf,
    pub tags: Vec<String>,
    /// The digest the layout must have.
    pub digest: Option<String>,
    pub plan: bool,
}

/// What was pushed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pushed {
    pub repository: String,
    pub digest: String,
    pub tags: Vec<String>,
    pub uploaded_bytes: u64,
    pub skipped_bytes: u64,
}

impl Pushed {
    pub fn in_words(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }
}

/// How an image in a registry is looked for.
#[derive(Clone, Debug)]
pub enum Wanted {
    Tag(String),
    Digest(String),
}

/// An image that is there.
#[derive(Clone, Debug)]
pub struct Found {
    pub digest: String,
    /// The version tag it carries, when there is one.
    pub tag: Option<String>,
}

pub async fn push_to(_repository: &str, _request: &Request, _report: &Report) -> Result<Pushed> {
    Err(Error::unexpected("not written yet"))
}

pub async fn push_to_ecr(
    _session: &Session,
    _registry: &platform::Registry,
    _name: &str,
    _request: &Request,
    _report: &Report,
) -> Result<Pushed> {
    Err(Error::unexpected("not written yet"))
}

pub async fn find(_session: &Session, _registry: &platform::Registry, _name: &str, _wanted: &Wanted) -> Result<Found> {
    Err(Error::unexpected("not written yet"))
}
