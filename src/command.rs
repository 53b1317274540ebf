//! One function for each command: from flags and files to the step, and from the step's result to
//! outputs. The steps meet here and nowhere else.

mod build_image;
mod check;
mod deploy;
mod init;
mod push_ecr;
mod release;
mod render;
mod run;
mod status;
mod version;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::aws::Session;
use crate::cli::{Command, Environ, Shared};
use crate::config::platform::Platform;
use crate::config::service::Service;
use crate::config::{read_platform, read_service};
use crate::error::{Error, Result};
use crate::report::{Outputs, Report, outputs};
use crate::{generate, github};

/// What every command has.
pub struct Context {
    pub shared: Shared,
    pub environ: Environ,
    pub report: Report,
    /// What the steps have given so far. A command that fails half-way has still given what came
    /// before.
    pub outputs: RefCell<Outputs>,
}

/// Runs a command.
///
/// # Errors
/// Whatever its step refuses or fails at.
pub async fn run_command(command: &Command, context: &Context) -> Result<()> {
    match command {
        Command::Version(arguments) => version::show_version(context, arguments).await.map(drop),
        Command::BuildImage(arguments) => {
            build_image::build_image(context, arguments).await.map(drop)
        }
        Command::PushEcr(arguments) => push_ecr::push_ecr(context, arguments).await,
        Command::Deploy(arguments) => deploy::deploy_image(context, arguments).await,
        Command::Release(arguments) => release::release_commit(context, arguments).await,
        Command::Run(arguments) => run::run_all_steps(context, arguments).await,
        Command::Status => status::show_status(context).await,
        Command::Render(arguments) => render::show_rendered(context, arguments).await,
        Command::Init(arguments) => init::init_repository(context, arguments).await,
        Command::Check => check::check_repository(context).await,
        Command::Generate(arguments) => {
            context.report.print(&generate::file(&arguments.file)?, &mut std::io::stdout());
            Ok(())
        }
    }
}

impl Context {
    /// Gives a step's result to machines.
    fn give(&self, result: &impl Serialize) {
        self.outputs.borrow_mut().append(&mut outputs(result));
    }

    fn service(&self) -> Result<Service> {
        read_service(&self.shared.service)
    }

    /// The folder that service.yaml stands in: what its paths are relative to.
    fn folder(&self) -> PathBuf {
        let parent = self.shared.service.parent().unwrap_or(Path::new(""));
        if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_path_buf() }
    }

    fn environment(&self) -> Result<&str> {
        self.shared.environment.as_deref().ok_or_else(|| {
            Error::input("no environment is named")
                .fix("say which one: --environment NAME, or --environment local")
        })
    }

    /// The platform that was named, or the one beside service.yaml, or none.
    async fn platform(&self) -> Result<Option<Platform>> {
        match &self.shared.platform {
            Some(name) => match github::api::Location::parse(name) {
                Some(location) => {
                    let text = github::api::file(&location, &self.environ, &self.report).await?;
                    crate::config::parse_platform(&text, Path::new(name)).map(Some)
                }
                None => read_platform(Path::new(name)).map(Some),
            },
            None => {
                let beside = self.folder().join("platform.yaml");
                if beside.exists() { read_platform(&beside).map(Some) } else { Ok(None) }
            }
        }
    }

    /// Opens the session an environment's registry is used with.
    async fn registry_session(&self, platform: &Platform) -> Result<Session> {
        let registry = &platform.registry;
        let environment = self.shared.environment.as_deref();
        let role = registry.role.as_deref().or_else(|| {
            let (_, found) = platform
                .environments
                .iter()
                .find(|(name, _)| Some(name.as_str()) == environment)?;
            found.role.as_deref()
        });
        Session::open(&registry.region, role, &self.environ, &self.report).await
    }
}
