//! What the user wrote, and what it means.
//!
//! [`service`] and [`platform`] hold the two files as they are written; [`settings`] resolves them
//! for one environment; [`preview`] makes one of them that of a pull request;
//! [`pattern`] knows what a wildcard for tags matches, and
//! [`handover`] what of this machine service.yaml asks for. Nothing below reads the
//! files again, and nothing here talks to a network.

pub mod contract;
pub mod handover;
pub mod pattern;
pub mod platform;
pub mod preview;
pub mod service;
pub mod settings;
pub mod strategy;
pub mod values;
mod yaml;

pub use yaml::parse;

use std::path::Path;

use crate::error::Result;
use crate::inside::{Denied, Tree};

/// Reads service.yaml.
///
/// # Errors
/// Bad input with file, line and column when it is missing, leads out of the repository, is not
/// YAML, or not a service.
pub fn read_service(file: &Path, tree: &Tree) -> Result<service::Service> {
    const MISSING: &str = "service.yaml says what the service is, at least:\n\
                           name: my-service\nport: 8000";
    let text = tree.read(file).map_err(|denied| explain(denied, file, MISSING))?;
    parse(&text, file)
}

/// Reads a platform.yaml that whoever runs this program named.
///
/// # Errors
/// As [`read_service`]; it may lie anywhere.
pub fn read_platform(file: &Path, tree: &Tree) -> Result<platform::Platform> {
    const MISSING: &str = "platform.yaml says where the organisation's environments live: \
                           name it with --platform FILE";
    let text = tree.read_named(file).map_err(|denied| explain(denied, file, MISSING))?;
    parse(&text, file)
}

fn explain(denied: Denied, file: &Path, missing: &str) -> crate::error::Error {
    let is_missing = denied.is_missing();
    let error = denied.into_error("read", file);
    if is_missing { error.fix(missing) } else { error }
}

/// Reads platform.yaml from text that came from somewhere else; `name` is only shown in errors.
///
/// # Errors
/// As [`read_platform`].
pub fn parse_platform(text: &str, name: &Path) -> Result<platform::Platform> {
    parse(text, name)
}
