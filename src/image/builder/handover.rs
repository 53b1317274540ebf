//! The secrets of a build: which variables and files hold them, and that they are masked in every
//! form before anything is said.

use super::plan::{self, SecretSource};
use super::request::BuildRequest;
use crate::cli::Environ;
use crate::config::handover;
use crate::error::{Error, Result};
use crate::inside;
use crate::report::Report;

/// Where a workflow hands over the secrets of a build: one variable, as nobody knows their names
/// before service.yaml is read.
const HANDED_OVER: &str = "CICD_BUILD_SECRETS";

/// Returns the variables that build secrets are read from, with their values.
///
/// # Errors
/// Bad input for an entry that names no source; refused for a secret without a value.
pub fn read_secrets(
    request: &BuildRequest,
    environ: &Environ,
    report: &Report,
) -> Result<Vec<(String, String)>> {
    // Before anything is said of them.
    let text = environ.get(HANDED_OVER).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .for_each(|(_, value)| report.mask(value.trim()));
    let handed_over = plan::read_handed_over(text)?;
    let mut variables = Vec::new();
    for entry in &request.image.build_secrets {
        let refuse = |why: String| {
            Error::refused(format!("cannot read build secret `{entry}`: it has no value")).why(why)
        };
        match plan::read_secret_source(entry)? {
            SecretSource::Variable(name) => {
                let names: Vec<&str> = handed_over.iter().map(|(name, _)| *name).collect();
                handover::refuse_reserved(entry, &name, &names)?;
                let handed = handed_over.iter().find(|(handed, _)| *handed == name);
                let free = environ.get(&name).filter(|_| handover::is_free(&name));
                let value = free.or(handed.map(|(_, value)| *value));
                let value = value.ok_or_else(|| match request.from_fork {
                    true => refuse(format!(
                        "{name} is not set: a pull request from a fork runs without secrets"
                    ))
                    .fix(
                        "take its commits to a branch of this repository once they are read, and \
                         open a pull request from there",
                    ),
                    false => {
                        refuse(format!("the environment variable {name} is not set")).fix(format!(
                            "set it for this step: `env: {{{name}: ${{{{ secrets.{name} }}}}}}`, \
                             or `export {name}=…`; where a job calls service.yml: \
                             `secrets: {{build-secrets: \"{name}=${{{{ secrets.{name} }}}}\"}}`"
                        ))
                    }
                })?;
                report.mask(value);
                variables.push((name, value.to_string()));
            }
            SecretSource::File(file) => {
                let path = request.folder.join(&file);
                let value = inside::read_bytes(&path).map_err(|error| {
                    refuse(format!("{}: {error}", path.display()))
                        .fix("write the file before this step, relative to service.yaml")
                })?;
                report.mask(&value);
            }
        }
    }
    Ok(variables)
}
