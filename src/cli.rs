//! The command line and the action's inputs, as typed. Nothing is resolved here and nothing is read
//! from disk.
//!
//! An input `name` of the action arrives as the variable `INPUT_NAME` (upper case, dashes stay) and
//! means the flag `--name` of the command that runs. A flag beats an input; an empty input is no
//! input. The inputs of action.yml are generated from these definitions by [`crate::generate`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::values::{BuilderImage, Cache, ImageName, Platform, Span};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::report::Format;

/// The process's environment as it was at the start. The only one that is ever read.
#[derive(Clone, Debug, Default)]
pub struct Environ(BTreeMap<String, String>);

impl Environ {
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Environ(variables.into_iter().collect())
    }

    /// A variable's value; an empty one is none, as GitHub's runner passes them. White space around
    /// an input is none of it: YAML's block scalars end with a line end, and all actions trim it.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name)?.as_str();
        let value = if name.starts_with("INPUT_") { value.trim() } else { value };
        Some(value).filter(|value| !value.is_empty())
    }

    /// Every variable and its value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether GitHub's runner started us.
    pub fn on_github(&self) -> bool {
        self.get("GITHUB_ACTIONS") == Some("true")
    }
}

/// Builds, pushes and deploys a service, the same way in GitHub Actions and on a laptop.
#[derive(Debug, Parser)]
#[command(name = "cicd", version = crate::VERSION, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub shared: Shared,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Shared {
    /// The service's file
    #[arg(long, global = true, value_name = "FILE", default_value = "service.yaml")]
    pub service: PathBuf,
    /// Where the organisation's environments live: a path, or owner/repo/path@ref read through the
    /// GitHub API
    #[arg(long, global = true, value_name = "FILE|OWNER/REPO/PATH@REF")]
    pub platform: Option<String>,
    /// The environment of the platform, or `local` for the Docker engine of this machine
    #[arg(long, global = true, value_name = "NAME")]
    pub environment: Option<String>,
    /// The pull request that a preview is of; on pull_request events it is read from the event
    #[arg(long, global = true, value_name = "NUMBER")]
    pub pull_request: Option<u64>,
    /// Read this file or folder too, although it is outside the repository, where service.yaml or a
    /// link asks for it; may be given several times
    #[arg(long, global = true, value_name = "PATH")]
    pub allow_read: Vec<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long, global = true, alias = "dry-run")]
    pub plan: bool,
    /// Say the step's summary in a comment of the pull request too, one that is kept up to date
    #[arg(long, global = true)]
    pub comment: bool,
    /// How to report; github inside GitHub Actions, else human
    #[arg(long, global = true, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Only errors and the result
    #[arg(long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Everything that the tools below say, too
    #[arg(long, global = true)]
    pub verbose: bool,
}

impl Command {
    /// What it is called on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Version(_) => "version",
            Command::Test(_) => "test",
            Command::BuildImage(_) => "build-image",
            Command::PushEcr(_) => "push-ecr",
            Command::Deploy(_) => "deploy",
            Command::Release(_) => "release",
            Command::Run(_) => "run",
            Command::Rollback(_) => "rollback",
            Command::Promote(_) => "promote",
            Command::Remove(_) => "remove",
            Command::Status(_) => "status",
            Command::History(_) => "history",
            Command::Report(_) => "report",
            Command::Lock(_) => "lock",
            Command::Unlock(_) => "unlock",
            Command::Render(_) => "render",
            Command::Init(_) => "init",
            Command::Check(_) => "check",
            Command::Generate(_) => "generate",
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Next semantic version from git history
    Version(VersionArgs),
    /// Run the service's own tests in its Dockerfile's test stage, and read their reports
    Test(TestArgs),
    /// Build the service's image into an OCI layout and check its contract
    BuildImage(BuildImageArgs),
    /// Push an OCI layout to ECR, or to any OCI registry
    PushEcr(PushEcrArgs),
    /// Plan, apply and watch one environment
    Deploy(DeployArgs),
    /// Tag the commit with its version and publish the release on GitHub
    Release(ReleaseArgs),
    /// All steps in order, the way the workflow does
    Run(RunArgs),
    /// Deploy the stored state of an earlier record again, configuration included
    Rollback(RollbackArgs),
    /// Deploy to one environment what runs healthy in another, by digest, without a build
    Promote(PromoteArgs),
    /// Take the preview of a pull request down, or those that are over
    Remove(RemoveArgs),
    /// What runs in an environment, what the ledger says of it, and who holds its lock
    Status(StatusArgs),
    /// Who deployed what, when, why and with which result
    History(HistoryArgs),
    /// What runs where and how well we deliver, of all services: a static page
    Report(ReportArgs),
    /// Freeze an environment of the service: deploys to it are refused until the end
    Lock(LockArgs),
    /// End a freeze
    Unlock(UnlockArgs),
    /// The manifests or the task definition that deploy would apply
    Render(RenderArgs),
    /// Write service.yaml, Dockerfile, .dockerignore and the workflow for the repository it stands
    /// in
    Init(InitArgs),
    /// Check service.yaml, platform.yaml, the Dockerfile and the calling workflows, offline
    Check(CheckArgs),
    /// Print a generated file of this repository
    #[command(hide = true)]
    Generate(GenerateArgs),
}

#[derive(Clone, Debug, Default, Args)]
pub struct VersionArgs {
    /// Say of every commit why it counts or not
    #[arg(long)]
    pub explain: bool,
    /// Of a repository with several services: list those that this run's commits touch, each with
    /// its next version. A pattern of their files from the root: services/*/service.yaml
    #[arg(long, value_name = "PATTERN", conflicts_with = "explain")]
    pub services: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct TestArgs {
    /// The folder of the OCI layout
    #[arg(long, value_name = "DIR", default_value = "target/test")]
    pub layout: PathBuf,
    /// The image's version; to build, the next one from git history when not given; to deploy
    /// without --digest, the one to find; to release, the one that was pushed
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub version: Option<String>,
    /// BuildKit's image for engines whose store writes no layout: NAME@sha256:… of a mirror of
    /// moby/buildkit, or off to pack what the engine itself builds
    #[arg(long, value_name = "IMAGE", value_parser = builder_image, default_value = BuilderImage::DEFAULT)]
    pub builder_image: BuilderImage,
    /// BuildKit frontend that a Dockerfile may ask for besides Docker's own; may be given several
    /// times
    #[arg(long, value_name = "IMAGE")]
    pub allow_frontend: Vec<String>,
    /// Give up after this time
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "30m")]
    pub timeout: Span,
}

#[derive(Clone, Debug, Args)]
pub struct BuildImageArgs {
    /// The folder of the OCI layout
    #[arg(long, value_name = "DIR", default_value = "target/image")]
    pub layout: PathBuf,
    /// The image's version; to build, the next one from git history when not given; to deploy
    /// without --digest, the one to find; to release, the one that was pushed
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub version: Option<String>,
    /// Take an image that was built elsewhere instead of building: what `docker save` wrote, an OCI
    /// archive, or the folder of an OCI layout
    #[arg(long, value_name = "FILE-OR-FOLDER")]
    pub from: Option<PathBuf>,
    /// Build this one of `image.platforms` alone: the others are built on machines of theirs
    #[arg(long, value_name = "PLATFORM", value_parser = platform, conflicts_with_all = ["from", "join"])]
    pub only: Option<Platform>,
    /// Join the images of single platforms, each an OCI layout in a folder of its own below this
    /// one, instead of building
    #[arg(long, value_name = "FOLDER", conflicts_with = "from")]
    pub join: Option<PathBuf>,
    /// Leave the image's contract unchecked
    #[arg(long)]
    pub skip_contract: bool,
    /// Build without any cache
    #[arg(long)]
    pub no_cache: bool,
    /// Where the build's steps are kept from run to run, instead of image.cache: auto, off, gha,
    /// registry:HOST/NAME:TAG or local:FOLDER
    #[arg(long, value_name = "CACHE", value_parser = cache)]
    pub cache: Option<Cache>,
    /// BuildKit's image for engines whose store writes no layout: NAME@sha256:… of a mirror of
    /// moby/buildkit, or off to pack what the engine itself builds
    #[arg(long, value_name = "IMAGE", value_parser = builder_image, default_value = BuilderImage::DEFAULT)]
    pub builder_image: BuilderImage,
    /// BuildKit frontend that a Dockerfile may ask for besides Docker's own; may be given several
    /// times
    #[arg(long, value_name = "IMAGE")]
    pub allow_frontend: Vec<String>,
    /// Say how large the image is against the last good one of this environment, by layer
    #[arg(long, value_name = "ENVIRONMENT")]
    pub compare: Option<String>,
    /// Give up after this time
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "60m")]
    pub timeout: Span,
}

#[derive(Clone, Debug, Args)]
pub struct PushEcrArgs {
    /// The folder of the OCI layout
    #[arg(long, value_name = "DIR", default_value = "target/image")]
    pub layout: PathBuf,
    /// Tag to push under; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Push to this registry and repository instead of ECR; no AWS call is made
    #[arg(long, value_name = "HOST/NAME")]
    pub repository: Option<String>,
    /// Bring the ECR repository to what platform.yaml says of it, where it differs, unless that
    /// would remove images; with --plan only say how
    #[arg(long, conflicts_with_all = ["repository", "preflight"])]
    pub repair: bool,
    /// Before the build: only see that no tag is taken by an image of another commit; no layout is
    /// needed
    #[arg(long, requires = "tags")]
    pub preflight: bool,
    /// Another repository of the same registry, whose layers are mounted instead of being uploaded
    /// again
    #[arg(long, value_name = "NAME")]
    pub mount_from: Option<String>,
    /// Give up after this time
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "30m")]
    pub timeout: Span,
    /// The image's digest; where another one is found, it is refused
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub digest: Option<Digest>,
}

#[derive(Clone, Debug, Args)]
pub struct DeployArgs {
    /// The image's digest; where another one is found, it is refused
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub digest: Option<Digest>,
    /// The image's version; to build, the next one from git history when not given; to deploy
    /// without --digest, the one to find; to release, the one that was pushed
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub version: Option<String>,
    /// The folder of the OCI layout
    #[arg(long, value_name = "DIR", default_value = "target/image")]
    pub layout: PathBuf,
    /// Give up after this time
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "10m")]
    pub timeout: Span,
    /// Why: it stands in the history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct RollbackArgs {
    /// What to deploy again: a version, a digest, the number of a record, or `previous`; for
    /// promote, the environment to deploy to
    #[arg(long, value_name = "VERSION|DIGEST|RECORD|previous")]
    pub to: String,
    /// Go back below a migration that cannot be taken back
    #[arg(long)]
    pub force: bool,
    /// Give up after this time
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "10m")]
    pub timeout: Span,
    /// Why: it stands in the history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct PromoteArgs {
    /// The environment whose healthy version is taken
    #[arg(long, value_name = "NAME")]
    pub from: String,
    /// What to deploy again: a version, a digest, the number of a record, or `previous`; for
    /// promote, the environment to deploy to
    #[arg(long, value_name = "NAME")]
    pub to: String,
    /// Give up after this time
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "10m")]
    pub timeout: Span,
    /// Why: it stands in the history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct RemoveArgs {
    /// Each preview of the service whose time is over, instead of that of one pull request
    #[arg(long)]
    pub expired: bool,
    /// Give up after this time
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "10m")]
    pub timeout: Span,
}

#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// How many records to show, newest first
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub limit: usize,
    /// How well the environment is delivered to, of all its records: deployment frequency, lead time,
    /// change failure rate and time to restore
    #[arg(long)]
    pub dora: bool,
}

#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Write into the ledger what differs from the last good record, for the fleet page
    #[arg(long)]
    pub record: bool,
}

#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// The folder to write the page to
    #[arg(long, value_name = "FOLDER", default_value = "site")]
    pub to: PathBuf,
    /// Read the records of this folder instead of the bucket of platform.yaml
    #[arg(long, value_name = "FOLDER")]
    pub records: Option<PathBuf>,
    /// The environments in the order in which a version goes through them; the last is the one that
    /// delivery is measured in. Else in the order of platform.yaml
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub environments: Vec<String>,
    /// Where to keep what was read, so that the next report reads only what is new; .index in the
    /// page's folder if not said
    #[arg(long, value_name = "FOLDER")]
    pub index: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct LockArgs {
    /// Why: it stands in the history
    #[arg(long, value_name = "TEXT", required = true)]
    pub reason: Option<String>,
    /// How long deploys are refused
    #[arg(long = "for", value_name = "TIME", value_parser = span, default_value = "24h")]
    pub duration: Span,
    /// Freeze the environment for every service
    #[arg(long)]
    pub all_services: bool,
}

#[derive(Clone, Debug, Args)]
pub struct UnlockArgs {
    /// Freeze the environment for every service
    #[arg(long)]
    pub all_services: bool,
}

#[derive(Clone, Debug, Args)]
pub struct ReleaseArgs {
    /// The repository on GitHub; by default GITHUB_REPOSITORY, else that of the remote `origin`
    #[arg(long, value_name = "OWNER/NAME")]
    pub github_repository: Option<String>,
    /// Publish this text instead of notes made from the commits
    #[arg(long, value_name = "FILE")]
    pub notes_file: Option<PathBuf>,
    /// The image's version; to build, the next one from git history when not given; to deploy
    /// without --digest, the one to find; to release, the one that was pushed
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub version: Option<String>,
    /// Write the notes into this file too, above those of older versions; committing it is up to
    /// you
    #[arg(long, value_name = "FILE")]
    pub changelog: Option<PathBuf>,
    /// A file that only the tag gets, as it lies in the work tree, from the repository's root: an
    /// action.yml that names the image of this release; may be given several times
    #[arg(long, value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// A file that people download from the release; may be given several times
    #[arg(long, value_name = "FILE")]
    pub asset: Vec<PathBuf>,
    /// Give up after this time
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "10m")]
    pub timeout: Span,
}

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The folder of the OCI layout
    #[arg(long, value_name = "DIR", default_value = "target/image")]
    pub layout: PathBuf,
    /// Leave the image's contract unchecked
    #[arg(long)]
    pub skip_contract: bool,
    /// Build without any cache
    #[arg(long)]
    pub no_cache: bool,
    /// BuildKit's image for engines whose store writes no layout: NAME@sha256:… of a mirror of
    /// moby/buildkit, or off to pack what the engine itself builds
    #[arg(long, value_name = "IMAGE", value_parser = builder_image, default_value = BuilderImage::DEFAULT)]
    pub builder_image: BuilderImage,
    /// BuildKit frontend that a Dockerfile may ask for besides Docker's own; may be given several
    /// times
    #[arg(long, value_name = "IMAGE")]
    pub allow_frontend: Vec<String>,
    /// Give up after this time
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "10m")]
    pub timeout: Span,
}

#[derive(Clone, Debug, Args)]
pub struct RenderArgs {
    /// Show the IAM policy of a role instead, the least that it has to be allowed: deploy, plan,
    /// push, report, execution, task, scheduler, pod; without a name all, as JSON by role
    #[arg(long, value_name = "ROLE", num_args = 0..=1, default_missing_value = "all")]
    pub iam: Option<String>,
    /// The image's digest; where another one is found, it is refused
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub digest: Option<Digest>,
    /// The image's version; to build, the next one from git history when not given; to deploy
    /// without --digest, the one to find; to release, the one that was pushed
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub version: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// Write over files that are there already and say something else
    #[arg(long)]
    pub force: bool,
    /// Image that the Dockerfile builds on, where an organisation has its own:
    /// registry.example.org/python:3.13-slim
    #[arg(long, value_name = "IMAGE", value_parser = image)]
    pub base: Option<ImageName>,
}

#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// BuildKit frontend that a Dockerfile may ask for besides Docker's own; may be given several
    /// times
    #[arg(long, value_name = "IMAGE")]
    pub allow_frontend: Vec<String>,
    /// The image's digest; where another one is found, it is refused
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub digest: Option<Digest>,
    /// The image's version; to build, the next one from git history when not given; to deploy
    /// without --digest, the one to find; to release, the one that was pushed
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub version: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    /// Path of the generated file in the repository
    #[arg(value_name = "FILE")]
    pub file: String,
}

fn image(text: &str) -> Result<ImageName, String> {
    ImageName::try_from(text.to_string())
}

fn digest(text: &str) -> Result<Digest, String> {
    Digest::parse(text).map_err(|_| "a digest is `sha256:` and 64 hexadecimal digits".into())
}

/// What can be a Docker tag can be a label of Kubernetes and a tag of AWS too, but for its length.
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>
fn version(text: &str) -> Result<String, String> {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
    if first && rest && text.len() <= 128 {
        return Ok(text.to_string());
    }
    Err("a version is letters, digits and `._-+`, at most 128, beginning with a letter or digit"
        .into())
}

fn platform(text: &str) -> Result<Platform, String> {
    Platform::try_from(text.to_string())
}

fn cache(text: &str) -> Result<Cache, String> {
    Cache::try_from(text.to_string())
}

fn builder_image(text: &str) -> Result<BuilderImage, String> {
    BuilderImage::try_from(text.to_string())
}

fn span(text: &str) -> Result<Span, String> {
    Span::try_from(text.to_string())
}

/// What parsing ends in, other than a command.
#[derive(Debug)]
pub enum Parsed {
    Command(Box<Cli>),
    /// Help or the version was asked for; the text goes to stdout.
    Text(String),
}

/// Reads the arguments (without the program's name) and the action's inputs.
///
/// # Errors
/// Bad input, in clap's words, with its suggestion.
pub fn parse(arguments: Vec<OsString>, environ: &Environ) -> Result<Parsed> {
    let arguments = with_inputs(arguments, environ)?;
    let program = std::iter::once(OsString::from("cicd"));
    match Cli::command().try_get_matches_from(program.chain(arguments)) {
        Ok(matches) => match Cli::from_arg_matches(&matches) {
            Ok(cli) => Ok(Parsed::Command(Box::new(cli))),
            Err(error) => Err(bad(&error)),
        },
        Err(error) if !error.use_stderr() => Ok(Parsed::Text(error.render().to_string())),
        Err(error)
            if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                && environ.on_github() =>
        {
            let definition = Cli::command();
            let shown = definition.get_subcommands().filter(|command| !command.is_hide_set());
            let commands: Vec<&str> = shown.map(clap::Command::get_name).collect();
            Err(Error::input("cannot find a command: the input `command` is missing or empty")
                .fix(format!("with: {{command: version}}; there are: {}", commands.join(", "))))
        }
        Err(error) => Err(bad(&error)),
    }
}

/// The format that arguments and inputs ask for which cannot be parsed as a whole.
pub fn format_asked_for(arguments: &[OsString], environ: &Environ) -> Option<Format> {
    let texts: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let value =
        match texts.iter().position(|text| *text == "--output" || text.starts_with("--output=")) {
            Some(position) => texts[position]
                .strip_prefix("--output=")
                .or_else(|| texts.get(position + 1).copied()),
            None => environ.get("INPUT_OUTPUT"),
        };
    <Format as clap::ValueEnum>::from_str(value?, false).ok()
}

fn bad(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let text = text.trim().trim_start_matches("error:").trim();
    let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let fix = rest
        .split("\n\n")
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n");
    let fix = if fix.is_empty() { "see `cicd --help`".to_string() } else { fix };
    Error::input(format!("cannot read the arguments: {message}")).fix(fix)
}

/// The arguments with each input that means a flag of the command written out as that flag, unless
/// the flag stands there.
fn with_inputs(mut arguments: Vec<OsString>, environ: &Environ) -> Result<Vec<OsString>> {
    let definition = Cli::command();
    let is_command = |text: &OsString| {
        text.to_str().is_some_and(|text| definition.find_subcommand(text).is_some())
    };
    let position = match arguments.iter().position(is_command) {
        Some(position) => position,
        None => match environ.get("INPUT_COMMAND") {
            // Asking for help needs no command.
            Some(command)
                if !arguments
                    .iter()
                    .any(|argument| argument == "--help" || argument == "--version") =>
            {
                arguments.insert(0, command.into());
                0
            }
            _ => return Ok(arguments),
        },
    };
    let Some(command) =
        arguments[position].to_str().and_then(|name| definition.find_subcommand(name))
    else {
        return Ok(arguments);
    };
    let mut flags = Vec::new();
    for flag in command.get_arguments().chain(definition.get_arguments()) {
        let Some(name) = flag.get_long() else { continue };
        let Some(value) = environ.get(&input_variable(name)) else { continue };
        if !given(&arguments, name) {
            flags.extend(as_flags(flag, name, value)?);
        }
    }
    arguments.splice(position + 1..position + 1, flags);
    Ok(arguments)
}

/// The variable in which GitHub's runner passes an input: spaces become `_`, dashes stay.
pub fn input_variable(name: &str) -> String {
    format!("INPUT_{}", name.replace(' ', "_").to_uppercase())
}

fn given(arguments: &[OsString], name: &str) -> bool {
    arguments.iter().filter_map(|argument| argument.to_str()?.strip_prefix("--")).any(|argument| {
        argument == name || argument.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
    })
}

fn as_flags(flag: &Arg, name: &str, value: &str) -> Result<Vec<OsString>> {
    let flags = match flag.get_action() {
        // As YAML 1.2's core schema has them (https://yaml.org/spec/1.2.2/#103-core-schema).
        ArgAction::SetTrue => match value {
            "true" | "True" | "TRUE" => vec![format!("--{name}")],
            "false" | "False" | "FALSE" => vec![],
            _ => {
                return Err(Error::input(format!("cannot read input `{name}`: it is `{value}`"))
                    .fix("write `true` or `false`"));
            }
        },
        // One value a line, as every action that takes lists reads them.
        ArgAction::Append => value
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| format!("--{name}={line}"))
            .collect(),
        _ => vec![format!("--{name}={value}")],
    };
    Ok(flags.into_iter().map(OsString::from).collect())
}

#[cfg(test)]
mod tests;
