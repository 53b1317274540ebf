//! One function for each command: from flags and files to the step, and from the step's result to outputs. The steps meet
//! here and nowhere else.

mod check;
mod init;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use crate::aws::Session;
use crate::cli::{BuildImageArgs, Command, DeployArgs, Environ, PushEcrArgs, RenderArgs, RunArgs, Shared, VersionArgs};
use crate::config::platform::Platform;
use crate::config::service::Service;
use crate::config::settings::{self, Destination, LOCAL, Settings, Target};
use crate::config::{read_platform, read_service};
use crate::deploy::{self, Image, Order, Outcome, ecs::Ecs, eks::Eks, local::Local};
use crate::error::{Error, Result};
use crate::report::{Outputs, Report, human, outputs};
use crate::{generate, git, github, image, registry, version};

/// What every command has.
pub struct Context {
    pub shared: Shared,
    pub environ: Environ,
    pub report: Report,
    /// What the steps have given so far. A command that fails half-way has still given what came before.
    pub outputs: RefCell<Outputs>,
}

/// Runs a command.
///
/// # Errors
/// Whatever its step refuses or fails at.
pub async fn run(command: &Command, context: &Context) -> Result<()> {
    match command {
        Command::Version(arguments) => show_version(context, arguments).map(drop),
        Command::BuildImage(arguments) => build_image(context, arguments).await.map(drop),
        Command::PushEcr(arguments) => push_ecr(context, arguments).await,
        Command::Deploy(arguments) => deploy_image(context, arguments).await,
        Command::Run(arguments) => run_all(context, arguments).await,
        Command::Status => status(context).await,
        Command::Render(arguments) => render(context, arguments).await,
        Command::Init(arguments) => init::init(context, arguments).await,
        Command::Check => check::check(context).await,
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
            Error::input("no environment is named").fix("say which one: --environment NAME, or --environment local")
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
            let (_, found) = platform.environments.iter().find(|(name, _)| Some(name.as_str()) == environment)?;
            found.role.as_deref()
        });
        Session::open(&registry.region, role, &self.environ, &self.report).await
    }
}

fn next_version(context: &Context, service: &Service, arguments: &VersionArgs) -> Result<version::Version> {
    let repository = git::open(&context.folder())?;
    let request = version::Request {
        folder: std::path::absolute(context.folder()).unwrap_or_else(|_| context.folder()),
        settings: service.version.clone(),
        pull_request: arguments.pull_request.or_else(|| github::runner::pull_request(&context.environ)),
        branch: github::runner::branch(&context.environ),
    };
    version::next(&repository, &request)
}

fn show_version(context: &Context, arguments: &VersionArgs) -> Result<version::Version> {
    let service = context.service()?;
    let step = context.report.step("version");
    let version = next_version(context, &service, arguments)?;
    if arguments.explain {
        for line in version.explain() {
            context.report.detail(line);
        }
    }
    step.done(version.in_words());
    context.report.summarise(format!("**Version** `{}`: {}", version.version, version.in_words()));
    context.report.print(&version.version, &mut std::io::stdout());
    context.give(&version);
    context.give(&json!({ "environments": environments(&service, version.is_snapshot())? }));
    Ok(version)
}

/// The environments a version goes to by itself, in order: all of them, or for a snapshot those that take snapshots.
fn environments(service: &Service, snapshot: bool) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in service.environments.keys().map(|name| name.as_str()).filter(|name| *name != LOCAL) {
        let settings = settings::resolve(service, name)?;
        if settings.snapshots || !snapshot {
            found.push(name.to_string());
        }
    }
    Ok(found)
}

/// The version that was given, or the next one from history.
fn version_or_next(context: &Context, service: &Service, given: Option<&str>) -> Result<String> {
    match given {
        Some(version) => Ok(version.to_string()),
        None => Ok(next_version(context, service, &VersionArgs { explain: false, pull_request: None })?.docker_tag),
    }
}

/// Builds, and gives the digest; none when it was only planned.
async fn build_image(context: &Context, arguments: &BuildImageArgs) -> Result<Option<String>> {
    let service = context.service()?;
    let settings = settings::resolve(&service, context.shared.environment.as_deref().unwrap_or(LOCAL))?;
    let version = version_or_next(context, &service, arguments.version.as_deref())?;
    let step = context.report.step("build-image");
    let head = git::head(&git::open(&context.folder())?)?;
    let request = image::build::Request {
        name: service.name.to_string(),
        folder: context.folder(),
        image: service.image.clone(),
        head,
        version,
        layout: arguments.layout.clone(),
        no_cache: arguments.no_cache,
    };
    if context.shared.plan {
        let command = image::build::plan(&request)?;
        step.done("planned, nothing was built");
        context.give(&json!({ "status": "planned", "rendered": command.join(" ") }));
        return Ok(None);
    }
    let built = image::build::build(&request, &context.environ, &context.report).await?;
    step.done(format!("{}, {}", built.digest, human::bytes(built.size)));
    context.report.summarise(format!("**Image** `{}`, {}", built.digest, human::bytes(built.size)));
    context.give(&built);
    if !arguments.skip_contract {
        let step = context.report.step("contract");
        let modes = image::contract::Modes {
            variable: service.mode.variable.to_string(),
            production: service.mode.production.clone(),
            debug: service.mode.debug.clone(),
        };
        let contract =
            image::contract::check(&arguments.layout, &settings, &modes, &context.environ, &context.report).await?;
        step.done(contract.in_words());
        context.give(&json!({ "contract": contract }));
    }
    Ok(Some(built.digest))
}

async fn push_ecr(context: &Context, arguments: &PushEcrArgs) -> Result<()> {
    let service = context.service()?;
    let step = context.report.step("push-ecr");
    let request = registry::Request {
        layout: arguments.layout.clone(),
        tags: arguments.tags.clone(),
        digest: arguments.digest.clone(),
        plan: context.shared.plan,
    };
    let pushed = match &arguments.repository {
        Some(repository) => registry::push_to(repository, &request, &context.report).await?,
        None => {
            let platform = required(context.platform().await?)?;
            let session = context.registry_session(&platform).await?;
            let name = settings::repository(&platform.registry, service.name.as_str());
            registry::push_to_ecr(&session, &platform.registry, &name, &request, &context.report).await?
        }
    };
    step.done(pushed.in_words());
    context.report.summarise(format!(
        "**Pushed** `{}@{}` as {}",
        pushed.repository,
        pushed.digest,
        pushed.tags.join(", ")
    ));
    context.give(&pushed);
    Ok(())
}

fn required(platform: Option<Platform>) -> Result<Platform> {
    platform.ok_or_else(|| {
        Error::input("no platform.yaml says which registry to push to")
            .fix("name it with --platform FILE, or push anywhere with --repository HOST/NAME")
    })
}

async fn deploy_image(context: &Context, arguments: &DeployArgs) -> Result<()> {
    let service = context.service()?;
    let environment = context.environment()?;
    let settings = settings::resolve(&service, environment)?;
    let platform = context.platform().await?;
    let destination = settings::destination(platform.as_ref(), environment)?;
    let step = context.report.step("deploy");
    let image = find_image(context, &settings, &destination, platform.as_ref(), arguments).await?;
    // Said before the deploy, so that a failed one says what it was about.
    context.give(&json!({ "target": destination.target.name(), "version": image.version, "digest": image.digest }));
    let order = Order { settings, destination, image, timeout: arguments.timeout.0 };
    let outcome = deploy_to(context, &order, &arguments.layout).await?;
    let words = outcome.in_words();
    step.done(&words);
    context.report.summarise(format!("**{}** {} → {environment}: {words}", order.settings.name, order.image.version));
    if let Some(url) = &outcome.url {
        context.report.print(url, &mut std::io::stdout());
    }
    context.give(&outcome);
    Ok(())
}

async fn deploy_to(context: &Context, order: &Order, layout: &Path) -> Result<Outcome> {
    let (plan_only, report) = (context.shared.plan, &context.report);
    match &order.destination.target {
        Target::Local => {
            let local = Local::open(order, Some(layout), &context.environ, report).await?;
            deploy::run(&local, order, plan_only, report).await
        }
        Target::Eks(cluster) => {
            let session = environment_session(context, &order.destination).await?;
            let eks = Eks::open(order, cluster, &context.folder(), &session).await?;
            deploy::run(&eks, order, plan_only, report).await
        }
        Target::Ecs { ecs, api_gateway } => {
            let session = environment_session(context, &order.destination).await?;
            let ecs = Ecs::open(order, ecs, api_gateway.as_ref(), &session).await?;
            deploy::run(&ecs, order, plan_only, report).await
        }
    }
}

async fn environment_session(context: &Context, destination: &Destination) -> Result<Session> {
    Session::open(&destination.region, destination.role.as_deref(), &context.environ, &context.report).await
}

/// The image to deploy: by digest, else by version in ECR, else (local) what the layout holds.
async fn find_image(
    context: &Context,
    settings: &Settings,
    destination: &Destination,
    platform: Option<&Platform>,
    arguments: &DeployArgs,
) -> Result<Image> {
    let Some(registry) = &destination.registry else {
        let layout = crate::layout::Layout::open(&arguments.layout)?;
        let digest = layout.root().digest.to_string();
        if let Some(wanted) = &arguments.digest
            && *wanted != digest
        {
            return Err(Error::input(format!("{} holds {digest}, not {wanted}", arguments.layout.display()))
                .fix("build it again, or leave out --digest"));
        }
        let version = arguments.version.clone().unwrap_or_else(|| short(&digest));
        return Ok(Image { repository: settings.name.clone(), digest, version });
    };
    let name = settings::repository(registry, &settings.name);
    let repository = format!("{}/{name}", registry.host());
    let wanted = match (&arguments.digest, &arguments.version) {
        // A pull request plans an image that it never pushes; whoever deploys must find it there.
        (Some(digest), Some(version)) if context.shared.plan => {
            return Ok(Image { repository, digest: digest.clone(), version: version::docker_tag(version) });
        }
        (Some(digest), _) => registry::Wanted::Digest(digest.clone()),
        (None, Some(version)) => registry::Wanted::Tag(version::docker_tag(version)),
        (None, None) => {
            return Err(Error::input("neither --digest nor --version says what to deploy")
                .fix("give --digest sha256:…, as push-ecr printed it, or --version V"));
        }
    };
    let platform = platform.ok_or_else(|| Error::unexpected("an environment without a platform"))?;
    let session = context.registry_session(platform).await?;
    let found = registry::find(&session, registry, &name, &wanted).await?;
    let given = arguments.version.as_deref().map(version::docker_tag);
    let version = given.or(found.tag).unwrap_or_else(|| short(&found.digest));
    Ok(Image { repository, digest: found.digest, version })
}

/// Enough of a digest to know it by, safe as a label and as a tag.
fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}

async fn run_all(context: &Context, arguments: &RunArgs) -> Result<()> {
    let environment = context.environment()?;
    let local = environment == LOCAL;
    let service = context.service()?;
    // What is wrong with the files is said before a minute is spent on a build.
    settings::resolve(&service, environment)?;
    settings::destination(context.platform().await?.as_ref(), environment)?;

    let tag = show_version(context, &VersionArgs { explain: false, pull_request: None })?.docker_tag;
    let build = BuildImageArgs {
        layout: arguments.layout.clone(),
        version: Some(tag.clone()),
        skip_contract: arguments.skip_contract,
        no_cache: arguments.no_cache,
    };
    let digest = build_image(context, &build).await?;
    if context.shared.plan {
        context.report.detail("the rest is planned from what would be built: run it without --plan");
        return Ok(());
    }
    if !local {
        let push = PushEcrArgs {
            layout: arguments.layout.clone(),
            tags: vec![tag.clone()],
            repository: None,
            digest: digest.clone(),
        };
        push_ecr(context, &push).await?;
    }
    let deploy =
        DeployArgs { digest, version: Some(tag), layout: arguments.layout.clone(), timeout: arguments.timeout };
    deploy_image(context, &deploy).await
}

async fn status(context: &Context) -> Result<()> {
    let service = context.service()?;
    let environment = context.environment()?;
    let settings = settings::resolve(&service, environment)?;
    let destination = settings::destination(context.platform().await?.as_ref(), environment)?;
    let image = Image { repository: String::new(), digest: String::new(), version: String::new() };
    let order = Order { settings, destination, image, timeout: std::time::Duration::from_secs(60) };
    let running = match &order.destination.target {
        Target::Local => Local::open(&order, None, &context.environ, &context.report).await?.running().await?,
        Target::Eks(cluster) => {
            let session = environment_session(context, &order.destination).await?;
            Eks::open(&order, cluster, &context.folder(), &session).await?.running().await?
        }
        Target::Ecs { ecs, api_gateway } => {
            let session = environment_session(context, &order.destination).await?;
            Ecs::open(&order, ecs, api_gateway.as_ref(), &session).await?.running().await?
        }
    };
    context.report.print(&running.in_words(&order.settings.name, environment), &mut std::io::stdout());
    context.give(&running);
    Ok(())
}

async fn render(context: &Context, arguments: &RenderArgs) -> Result<()> {
    let service = context.service()?;
    let platform = context.platform().await?;
    let text = rendered(context, &service, platform.as_ref(), context.environment()?, arguments)?;
    context.report.print(&text, &mut std::io::stdout());
    context.give(&json!({ "rendered": text }));
    Ok(())
}

/// What deploy would apply to an environment, without asking anybody.
fn rendered(
    context: &Context,
    service: &Service,
    platform: Option<&Platform>,
    environment: &str,
    arguments: &RenderArgs,
) -> Result<String> {
    let settings = settings::resolve(service, environment)?;
    let destination = settings::destination(platform, environment)?;
    let repository = match &destination.registry {
        Some(registry) => format!("{}/{}", registry.host(), settings::repository(registry, &settings.name)),
        None => settings.name.clone(),
    };
    let digest = arguments.digest.clone().unwrap_or_else(|| format!("sha256:{}", "0".repeat(64)));
    let version = version::docker_tag(arguments.version.as_deref().unwrap_or("0.0.0"));
    let image = Image { repository, digest, version };
    let order = Order { settings, destination, image, timeout: std::time::Duration::ZERO };
    match &order.destination.target {
        Target::Local => deploy::local::render(&order),
        Target::Eks(_) => deploy::eks::render(&order, &context.folder()),
        Target::Ecs { ecs, .. } => deploy::ecs::render(&order, ecs),
    }
}
