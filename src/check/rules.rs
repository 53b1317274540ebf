//! The rules a service's Dockerfile has to keep: those that matter for what the pipeline does with
//! it. Pure.
//!
//! Style, and what only makes an image larger, is hadolint's.

mod base;
mod context;
mod facts;
mod install;
mod process;
mod secrets;
mod syntax;

pub use base::explain_deprecated;
pub use context::is_pattern;
pub use facts::{ContextFiles, DockerfileFacts};
pub use secrets::is_secret_file;

use super::{Finding, Level};
use facts::Said;

type Rule = fn(&DockerfileFacts<'_>) -> Vec<Said>;

/// Every rule, by its name.
const RULES: [(&str, Level, Rule); 19] = [
    ("broken-continuation", Level::Fail, syntax::find_broken_continuations),
    ("unknown-instruction", Level::Fail, syntax::find_unknown_instructions),
    ("unknown-target", Level::Fail, syntax::find_unknown_target),
    ("base-deprecated", Level::Fail, base::find_deprecated_bases),
    ("base-ended", Level::Warn, base::find_ended_bases),
    ("base-unpinned", Level::Warn, base::find_unpinned_bases),
    ("retired-installer", Level::Fail, install::find_retired_installers),
    ("secret-in-image", Level::Fail, secrets::find_secrets_in_image),
    ("secret-copied", Level::Fail, secrets::find_copied_secrets),
    ("copy-missing", Level::Fail, context::find_missing_sources),
    ("copy-unmade", Level::Warn, context::find_unmade_sources),
    ("context-unfiltered", Level::Warn, context::find_unfiltered_context),
    ("shell-form", Level::Warn, process::find_shell_forms),
    ("runs-as-root", Level::Warn, process::find_root_user),
    ("port-differs", Level::Warn, context::find_other_port),
    ("development-server", Level::Warn, process::find_development_servers),
    ("unlocked-install", Level::Warn, install::find_unlocked_installs),
    ("sources-before-dependencies", Level::Warn, install::find_early_sources),
    ("unverified-download", Level::Warn, install::find_unverified_downloads),
];

/// What the rules find, by line.
pub fn lint_dockerfile(facts: &DockerfileFacts<'_>) -> Vec<Finding> {
    let ignored = |line: u64, rule: &str| {
        let one = facts
            .dockerfile
            .instructions
            .iter()
            .find(|one| one.lines.iter().any(|(own, _)| *own == line));
        one.is_some_and(|one| one.ignored.iter().any(|ignored| ignored == rule))
    };
    let mut findings: Vec<Finding> = RULES
        .iter()
        .flat_map(|(rule, level, look)| {
            look(facts).into_iter().map(|(line, message, fix)| Finding {
                rule,
                level: *level,
                line,
                message,
                fix,
            })
        })
        .filter(|finding| !ignored(finding.line, finding.rule))
        .collect();
    findings.sort_by_key(|finding| finding.line);
    findings
}

#[cfg(test)]
mod tests;
