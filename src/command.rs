//! One function for each command: from flags and files to the step, and from the step's result to
//! outputs. The steps meet here and nowhere else.

mod announce;
mod build_image;
mod check;
mod comment;
mod deploy;
mod guard;
mod history;
mod init;
mod intent;
mod lock;
mod promote;
mod push_ecr;
mod release;
mod remove;
mod render;
mod report;
mod rollback;
mod run;
mod services;
mod status;
pub mod summary;
mod test;
mod version;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::aws::{Role, Session};
use crate::cli::{Command, Environ, Shared};
use crate::config::platform::{Environment, Platform};
use crate::config::service::Service;
use crate::config::settings::Destination;
use crate::config::values::Name;
use crate::config::{handover, read_platform, read_service};
use crate::deploy::Sources;
use crate::error::{Error, Result};
use crate::inside::Tree;
use crate::interrupt::Interrupt;
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
    pub interrupt: Interrupt,
    /// Sessions may read, and nothing else.
    pub reads_only: bool,
}

/// Runs a command.
///
/// # Errors
/// Whatever its step refuses or fails at.
pub async fn run_command(command: &Command, context: &Context) -> Result<()> {
    let result = run_step(command, context).await;
    summary::write_verdict(context, command, result.as_ref().err());
    if context.shared.comment {
        comment::comment_summary(context, command).await;
    }
    result
}

async fn run_step(command: &Command, context: &Context) -> Result<()> {
    match command {
        Command::Version(arguments) => match &arguments.services {
            Some(pattern) => services::list_services(context, pattern).await,
            None => version::show_version(context, arguments).await.map(drop),
        },
        Command::Test(arguments) => test::test_service(context, arguments).await,
        Command::BuildImage(arguments) => {
            build_image::build_image(context, arguments).await.map(drop)
        }
        Command::PushEcr(arguments) => push_ecr::push_ecr(context, arguments).await,
        Command::Deploy(arguments) => deploy::deploy_image(context, arguments).await,
        Command::Release(arguments) => release::release_commit(context, arguments).await,
        Command::Run(arguments) => run::run_all_steps(context, arguments).await,
        Command::Rollback(arguments) => rollback::roll_back(context, arguments).await,
        Command::Promote(arguments) => promote::promote(context, arguments).await,
        Command::Remove(arguments) => remove::remove_previews(context, arguments).await,
        Command::Status(arguments) => status::show_status(context, arguments).await,
        Command::History(arguments) => history::show_history(context, arguments).await,
        Command::Report(arguments) => report::write_report(context, arguments).await,
        Command::Lock(arguments) => lock::lock_environment(context, arguments).await,
        Command::Unlock(arguments) => lock::unlock_environment(context, arguments).await,
        Command::Render(arguments) => render::show_rendered(context, arguments).await,
        Command::Init(arguments) => init::init_repository(context, arguments).await,
        Command::Check(arguments) => check::check_repository(context, arguments).await,
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

    /// Reads service.yaml. What it names of this machine is inside the repository, or was allowed;
    /// whether it is there at all is left to who needs it.
    fn service(&self) -> Result<Service> {
        let (tree, folder) = (self.tree(), self.folder());
        let service = read_service(&self.shared.service, &tree)?;
        for named in handover::list_paths(&service) {
            match tree.resolve(&folder.join(&named.path), named.what) {
                Err(denied) if !denied.is_missing() => {
                    return Err(handover::explain_denied(&named, &self.shared.service, denied));
                }
                _ => {}
            }
        }
        Ok(service)
    }

    /// The work tree that service.yaml is in, which what it names stays inside of.
    fn tree(&self) -> Tree {
        Tree::around(&self.folder(), &self.shared.allow_read)
    }

    /// The folder that service.yaml stands in: what its paths are relative to.
    fn folder(&self) -> PathBuf {
        let parent = self.shared.service.parent().unwrap_or(Path::new(""));
        if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_path_buf() }
    }

    /// Where the files that service.yaml names are.
    fn sources(&self) -> Sources {
        Sources { folder: self.folder(), tree: self.tree() }
    }

    fn environment(&self) -> Result<&str> {
        self.shared.environment.as_deref().ok_or_else(|| {
            Error::input("cannot choose an environment: none is named")
                .fix("say which one: --environment NAME, or --environment local")
        })
    }

    /// The platform that was named, or the one beside service.yaml, or none.
    async fn platform(&self) -> Result<Option<Platform>> {
        match &self.shared.platform {
            Some(name) => match github::api::Location::parse(name) {
                Some(location) => {
                    let text =
                        github::api::read_file(&location, &self.environ, &self.report).await?;
                    crate::config::parse_platform(&text, Path::new(name)).map(Some)
                }
                None => read_platform(Path::new(name), &self.tree()).map(Some),
            },
            None => {
                let beside = self.folder().join("platform.yaml");
                let is_there = beside.symlink_metadata().is_ok();
                if is_there { read_platform(&beside, &self.tree()).map(Some) } else { Ok(None) }
            }
        }
    }

    /// Opens the session an environment's registry is used with.
    async fn registry_session(&self, platform: &Platform) -> Result<Session> {
        let registry = &platform.registry;
        let environment = self.shared.environment.as_deref();
        let named = |(name, _): &(&Name, &Environment)| Some(name.as_str()) == environment;
        let found = platform.environments.iter().find(named).map(|(_, found)| found);
        let role = registry.role.as_deref().or_else(|| found?.role.as_deref());
        let plan_role = found.and_then(|found| found.plan_role.as_deref());
        self.session(&registry.region, role, plan_role).await
    }

    /// Opens the session of a destination, in its region or in that of its registry.
    async fn session_of(&self, destination: &Destination, region: &str) -> Result<Session> {
        let (role, plan_role) = (destination.role.as_deref(), destination.plan_role.as_deref());
        self.session(region, role, plan_role).await
    }

    async fn session(
        &self,
        region: &str,
        role: Option<&str>,
        plan_role: Option<&str>,
    ) -> Result<Session> {
        let in_review = github::runner::in_review(&self.environ);
        let role = choose_role(role, plan_role, self.reads_only, in_review);
        Session::open(region, role, &self.environ, &self.report).await
    }
}

/// The role of a session: a plan only reads, and that of a change which nobody approved yet takes
/// the role that was made for it.
fn choose_role<'a>(
    role: Option<&'a str>,
    plan_role: Option<&'a str>,
    is_plan: bool,
    in_review: bool,
) -> Option<Role<'a>> {
    match plan_role.filter(|_| is_plan && in_review) {
        Some(arn) => Some(Role { arn, reads_only: true }),
        None => role.map(|arn| Role { arn, reads_only: is_plan }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_only_reads() {
        struct Case {
            role: Option<&'static str>,
            plan_role: Option<&'static str>,
            is_plan: bool,
            in_review: bool,
            chosen: Option<(&'static str, bool)>,
        }
        let case = |role, plan_role, is_plan, in_review, chosen| Case {
            role,
            plan_role,
            is_plan,
            in_review,
            chosen,
        };
        let (deploys, plans) = (Some("deploys"), Some("plans"));
        let cases = [
            case(deploys, plans, true, true, Some(("plans", true))),
            case(deploys, None, true, true, Some(("deploys", true))),
            case(deploys, plans, true, false, Some(("deploys", true))),
            case(deploys, plans, false, true, Some(("deploys", false))),
            case(deploys, plans, false, false, Some(("deploys", false))),
            case(None, plans, true, true, Some(("plans", true))),
            case(None, None, true, true, None),
        ];
        for Case { role, plan_role, is_plan, in_review, chosen } in cases {
            let found = choose_role(role, plan_role, is_plan, in_review);
            let found = found.map(|role| (role.arn, role.reads_only));
            assert_eq!(found, chosen, "{role:?} {plan_role:?} {is_plan} {in_review}");
        }
    }
}
