//! The files of this repository that are made from the code: action.yml and the JSON schemas.

use crate::error::{Error, Result};

/// The text of a generated file, by its path in the repository.
///
/// # Errors
/// Bad input when no such file is generated.
pub fn file(path: &str) -> Result<String> {
    let schema =
        |schema: schemars::Schema| serde_json::to_string_pretty(&schema).map(|text| text + "\n").unwrap_or_default();
    match path {
        "schema/service.schema.json" => Ok(schema(schemars::schema_for!(crate::config::service::Service))),
        "schema/platform.schema.json" => Ok(schema(schemars::schema_for!(crate::config::platform::Platform))),
        _ => Err(Error::input(format!("{path} is not generated"))),
    }
}
