//! The service's image, built by Docker's own buildx into an OCI layout.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::Environ;
use crate::config::service;
use crate::error::{Error, Result};
use crate::git::Head;
use crate::report::Report;

/// What to build.
#[derive(Clone, Debug)]
pub struct Request {
    pub name: String,
    /// The folder of service.yaml, which the context is relative to.
    pub folder: PathBuf,
    pub image: service::Image,
    pub head: Head,
    /// Goes into the label org.opencontainers.image.version and the build argument VERSION.
    pub version: String,
    /// Where the OCI layout is written.
    pub layout: PathBuf,
    pub no_cache: bool,
}

/// What was built.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Built {
    pub layout: String,
    pub digest: String,
    pub size: u64,
    pub platforms: Vec<String>,
}

/// The buildx arguments that [`build`] would use. Pure.
pub fn plan(_request: &Request) -> Result<Vec<String>> {
    Err(Error::unexpected("not written yet"))
}

pub async fn build(_request: &Request, _environ: &Environ, _report: &Report) -> Result<Built> {
    Err(Error::unexpected("not written yet"))
}
