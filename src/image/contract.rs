//! Runs the built image in both modes and looks whether it keeps the platform's contract.

use std::path::Path;

use serde::Serialize;

use crate::config::settings::Settings;
use crate::error::{Error, Result};
use crate::report::Report;

/// The mode variable and its two values.
#[derive(Clone, Debug)]
pub struct Modes {
    pub variable: String,
    pub production: String,
    pub debug: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    Pass,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Contract {
    pub production: Finding,
    pub debug: Finding,
}

impl Contract {
    pub fn in_words(&self) -> String {
        "answers in production and in debug mode".into()
    }
}

pub async fn check(_layout: &Path, _settings: &Settings, _modes: &Modes, _report: &Report) -> Result<Contract> {
    Err(Error::unexpected("not written yet"))
}
