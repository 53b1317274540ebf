//! What the user wrote, and what it means.
//!
//! [`service`] and [`platform`] hold the two files as they are written; [`settings`] resolves them
//! for one environment; [`pattern`] knows what a wildcard for tags matches. Nothing below reads the
//! files again, and nothing here talks to a network.

pub mod contract;
pub mod pattern;
pub mod platform;
pub mod service;
pub mod settings;
pub mod values;
mod yaml;

pub use yaml::parse;

use std::path::Path;

use crate::error::{Error, Result};

/// Reads service.yaml.
///
/// # Errors
/// Bad input with file, line and column when it is missing, not YAML, or not a service.
pub fn read_service(file: &Path) -> Result<service::Service> {
    parse(
        &read(
            file,
            "service.yaml says what the service is, at least:\nname: my-service\nport: 8000",
        )?,
        file,
    )
}

/// Reads platform.yaml.
///
/// # Errors
/// As [`read_service`].
pub fn read_platform(file: &Path) -> Result<platform::Platform> {
    let missing = "platform.yaml says where the organisation's environments live: name it with --platform FILE";
    parse(&read(file, missing)?, file)
}

fn read(file: &Path, missing: &str) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| {
        let read = Error::input(format!("cannot read {}", file.display())).why(&error);
        if error.kind() == std::io::ErrorKind::NotFound { read.fix(missing) } else { read }
    })
}

/// Reads platform.yaml from text that came from somewhere else; `name` is only shown in errors.
///
/// # Errors
/// As [`read_platform`].
pub fn parse_platform(text: &str, name: &Path) -> Result<platform::Platform> {
    parse(text, name)
}
