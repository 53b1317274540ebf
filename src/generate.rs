//! The files of this repository that are made from the code: action.yml, the JSON schemas, the
//! reference of the flags and that of the codes of failures. `./dev fmt` writes them anew; a test holds them to the code.

mod keys;

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::error::{Error, Result};

/// Every generated file, by its path in the repository.
pub const FILES: [&str; 7] = [
    "action.yml",
    "action/action.yml",
    "docs/commands.md",
    "docs/errors.md",
    "docs/reference.md",
    "schema/platform.schema.json",
    "schema/service.schema.json",
];

/// What the commands give to machines: the action's outputs, and the keys of `--output json`.
pub const OUTPUTS: [(&str, &str); 49] = [
    ("version", "The version: 1.4.0, or a snapshot 1.3.3-main.4, or a preview 1.4.0-pr.12.7"),
    ("tag", "The version's git tag"),
    ("docker-tag", "The version as a Docker tag"),
    ("previous-tag", "The tag of the version before"),
    ("bump", "none, patch, minor or major"),
    ("release", "Whether this commit is to be tagged and released: true or false"),
    ("deciding-commit", "The commit that decided the bump, as JSON: sha and subject"),
    ("commits", "How many commits were looked at"),
    ("environments", "The environments this version goes to, in order, as a JSON list"),
    (
        "services",
        "The services that a run's commits touch, as a JSON list: name, file, version, tag, \
         docker-tag and release (version --services)",
    ),
    ("has-tests", "Whether service.yaml has a `test`: true or false (check)"),
    ("tests", "How many tests ran"),
    ("failures", "How many of them failed"),
    ("coverage", "The share of lines that they ran, from 0 to 1"),
    ("layout", "The folder of the OCI layout"),
    ("digest", "The image's digest: sha256:…"),
    ("platforms", "The image's platforms, as a JSON list"),
    ("size", "The image's size in bytes, compressed"),
    ("contract", "Whether the image keeps its contract in each mode, as JSON"),
    ("repository", "Where the image was pushed to, without tag"),
    ("tags", "The tags it was pushed under, as a JSON list"),
    ("uploaded-bytes", "Bytes that were sent to the registry"),
    ("skipped-bytes", "Bytes that the registry had already"),
    (
        "status",
        "deployed, released, unchanged, planned, written, removed, locked, unlocked, rolled-back, failed, \
         superseded or interrupted",
    ),
    ("target", "eks, ecs or local"),
    ("url", "Where the service answers, or the page of the release"),
    ("revision", "The revision that runs now"),
    ("previous-revision", "The revision that ran before"),
    ("changed", "What was changed, as a JSON list: objects of a deploy, refs and releases"),
    ("record", "The number of the ledger's record of the deploy"),
    ("phases", "The phases of the deploy and the seconds they took, as a JSON list"),
    ("records", "The records of an environment, newest first, as a JSON list"),
    ("delivery", "How well an environment is delivered to, as JSON: see docs/fleet.md"),
    ("page", "The first file of the fleet page"),
    ("figures", "All figures of the fleet page, as JSON; with --output json only"),
    ("good-record", "The number of the last record whose deploy ended well"),
    ("result", "How the last deploy ended"),
    ("drift", "The objects that differ from the last good record, as a JSON list"),
    ("lock", "Who holds the lock of the environment, as JSON"),
    ("freeze", "Who froze the environment, why and until when, as JSON"),
    ("holder", "Who froze the environment"),
    ("until", "When the freeze ends"),
    ("state", "ready, progressing, failed or absent"),
    ("ready", "How many copies are ready"),
    ("wanted", "How many copies are wanted"),
    ("seconds", "How long the deploy took"),
    ("error", "What went wrong, as JSON: kind, message, fix, causes, and a code of docs/errors.md"),
    (
        "findings",
        "What check found, as a JSON list: file and line or environment, rule, level, message and fix",
    ),
    ("rendered", "What deploy would apply, or the IAM policies by role, as text"),
];

/// The text of a generated file.
///
/// # Errors
/// Bad input when no such file is generated.
pub fn file(path: &str) -> Result<String> {
    match path {
        "action.yml" => Ok(action("Dockerfile")),
        "action/action.yml" => Ok(action(
            "../Dockerfile # zizmor: ignore[unpinned-images] it is a Dockerfile, no image",
        )),
        "docs/commands.md" => Ok(reference()),
        "docs/errors.md" => Ok(crate::error::codes::render_page()),
        "docs/reference.md" => keys::render_page(
            schemars::schema_for!(crate::config::service::Service).as_value(),
            schemars::schema_for!(crate::config::platform::Platform).as_value(),
        ),
        "schema/service.schema.json" => {
            Ok(schema(&schemars::schema_for!(crate::config::service::Service)))
        }
        "schema/platform.schema.json" => {
            Ok(schema(&schemars::schema_for!(crate::config::platform::Platform)))
        }
        _ => Err(Error::input(format!("cannot generate {path}: it is written by hand"))
            .fix(format!("name one of: {}", FILES.join(", ")))),
    }
}

fn schema(schema: &schemars::Schema) -> String {
    serde_json::to_string_pretty(schema).map(|text| text + "\n").unwrap_or_default()
}

/// A flag as an input: what it says, and the commands that take it (none named: all do).
struct Input {
    help: String,
    commands: Vec<String>,
}

fn inputs() -> BTreeMap<String, Input> {
    let definition = Cli::command();
    let mut inputs: BTreeMap<String, Input> = BTreeMap::new();
    let help = |flag: &clap::Arg| flag.get_help().map(ToString::to_string).unwrap_or_default();
    for flag in definition.get_arguments() {
        if let Some(name) = flag.get_long() {
            inputs.insert(name.into(), Input { help: help(flag), commands: Vec::new() });
        }
    }
    for command in definition.get_subcommands().filter(|command| !command.is_hide_set()) {
        for flag in command.get_arguments() {
            let Some(name) = flag.get_long().filter(|name| *name != "help") else { continue };
            let input = inputs
                .entry(name.into())
                .or_insert_with(|| Input { help: help(flag), commands: Vec::new() });
            input.commands.push(command.get_name().into());
        }
    }
    inputs.remove("help");
    inputs
}

fn action(image: &str) -> String {
    let definition = Cli::command();
    let commands: Vec<&str> = definition
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(clap::Command::get_name)
        .collect();
    let mut text = String::from(
        "# Generated from the command line's definition; `./dev fmt` writes it anew.\n",
    );
    let mut line = |content: String| {
        text.push_str(&content);
        text.push('\n');
    };
    line("name: Clinicult CI/CD".into());
    line("description: Builds, pushes and deploys a service to EKS or ECS, by digest, and explains what fails".into());
    line("branding: {icon: upload-cloud, color: blue}".into());
    line("inputs:".into());
    line("  command:".into());
    line(format!("    description: {}", quoted(&format!("What to do: {}", commands.join(", ")))));
    line("    required: true".into());
    line("  github-token:".into());
    line("    description: \"Releases, and reads the repository\"".into());
    line("    default: ${{ github.token }}".into());
    line("  platform-token:".into());
    line("    description: \"Reads the platform file from another private repository, in place of github-token\"".into());
    for (name, input) in inputs() {
        let of = if input.commands.is_empty() {
            String::new()
        } else {
            format!(" ({})", input.commands.join(", "))
        };
        line(format!("  {name}:"));
        line(format!("    description: {}", quoted(&format!("{}{of}", input.help))));
    }
    line("outputs:".into());
    for (name, description) in OUTPUTS {
        line(format!("  {name}:"));
        line(format!("    description: {}", quoted(description)));
    }
    line("runs:".into());
    line("  using: docker".into());
    line(format!("  image: {image}"));
    text
}

/// JSON's strings are YAML's, too.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_string()).to_string()
}

fn reference() -> String {
    let definition = Cli::command();
    let mut text = String::from(
        "# Commands and flags\n\nGenerated from the command line's definition; `./dev fmt` writes it anew. Each flag is an input of the \
         action under the same name, and a flag beats an input. An input that takes several values takes one a line.\n",
    );
    let about =
        |command: &clap::Command| command.get_about().map(ToString::to_string).unwrap_or_default();
    section(&mut text, "Every command", "", definition.get_arguments());
    for command in definition.get_subcommands().filter(|command| !command.is_hide_set()) {
        section(
            &mut text,
            &format!("cicd {}", command.get_name()),
            &about(command),
            command.get_arguments(),
        );
    }
    let _ = write!(
        text,
        "\n## Outputs\n\nOutputs of the action, and the keys of the object that `--output json` prints.\n\n| key | means |\n|---|---|\n"
    );
    for (name, description) in OUTPUTS {
        let _ = writeln!(text, "| `{name}` | {description} |");
    }
    text
}

fn section<'a>(
    text: &mut String,
    title: &str,
    about: &str,
    flags: impl Iterator<Item = &'a clap::Arg>,
) {
    let _ = write!(text, "\n## {title}\n");
    if !about.is_empty() {
        let _ = write!(text, "\n{about}.\n");
    }
    let flags: Vec<&clap::Arg> = flags
        .filter(|flag| {
            flag.get_long().is_some_and(|name| {
                name != "help" && name != "version" || flag.get_short().is_none()
            })
        })
        .collect();
    if flags.is_empty() {
        return;
    }
    let _ = write!(text, "\n| flag | default | means |\n|---|---|---|\n");
    for flag in flags {
        let name = flag.get_long().unwrap_or_default();
        let takes = flag.get_action().takes_values();
        let value = flag
            .get_value_names()
            .filter(|_| takes)
            .and_then(|names| names.first())
            .map(|name| format!(" {name}"));
        let default: Vec<_> = flag
            .get_default_values()
            .iter()
            .filter(|_| takes)
            .map(|value| value.to_string_lossy())
            .collect();
        let default =
            if default.is_empty() { String::new() } else { format!("`{}`", default.join(" ")) };
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        let flag = format!("--{name}{}", value.unwrap_or_default()).replace('|', "\\|");
        let _ = writeln!(text, "| `{flag}` | {default} | {help} |");
    }
}
