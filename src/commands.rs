//! One function for each command: from flags and files to the step, and from the step's result to outputs. The steps meet
//! here and nowhere else.

mod check;
mod init;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use crate::aws::Session;
use crate::cli::{
    BuildImageArgs, Command, DeployArgs, Environ, PushEcrArgs, ReleaseArgs, RenderArgs, RunArgs, Shared, VersionArgs,
};
use crate::config::platform::Platform;
use crate::config::service::{self, Service};
use crate::config::settings::{self, Destination, LOCAL, Settings, Target};
use crate::config::values::Span;
use crate::config::{read_platform, read_service};
use crate::deploy::{self, Image, Order, Outcome, ecs::Ecs, eks::Eks, local::Local};
use crate::error::{Doing, Error, Result};
use crate::report::{Outputs, Report, human, outputs};
use crate::{generate, git, github, image, registry, release, version};

/// No build of a service takes longer; one that does hangs. `build-image --timeout` has the same default.
const BUILD_TIMEOUT: Span = Span(std::time::Duration::from_secs(60 * 60));

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
        Command::Version(arguments) => show_version(context, arguments).await.map(drop),
        Command::BuildImage(arguments) => build_image(context, arguments).await.map(drop),
        Command::PushEcr(arguments) => push_ecr(context, arguments).await,
        Command::Deploy(arguments) => deploy_image(context, arguments).await,
        Command::Release(arguments) => release_commit(context, arguments).await,
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

fn version_request(context: &Context, service: &Service, arguments: &VersionArgs) -> version::Request {
    version::Request {
        folder: std::path::absolute(context.folder()).unwrap_or_else(|_| context.folder()),
        settings: service.version.clone(),
        pull_request: arguments.pull_request.or_else(|| github::runner::pull_request(&context.environ)),
        branch: github::runner::branch(&context.environ),
        default_branch: github::runner::default_branch(&context.environ),
        tags: None,
        fetch: !context.shared.plan,
    }
}

async fn next_version(context: &Context, service: &Service, arguments: &VersionArgs) -> Result<version::Version> {
    let request = version_request(context, service, arguments);
    let version = version::next(&request, &context.report).await?;
    version.notices.iter().for_each(|notice| context.report.warn(notice));
    if let Some(tag) = &version.overtaken_by {
        context.report.warn(format!("{tag} was released from a later commit and holds this one"));
    }
    Ok(version)
}

async fn show_version(context: &Context, arguments: &VersionArgs) -> Result<version::Version> {
    let service = context.service()?;
    let step = context.report.step("version");
    let version = next_version(context, &service, arguments).await?;
    if arguments.explain {
        for line in version.explain() {
            context.report.detail(line);
        }
    }
    step.done(version.in_words());
    context.report.summarise(format!("**Version** `{}`: {}", version.version, version.in_words()));
    if version.preview {
        context.report.summarise(version.table());
    }
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
async fn version_or_next(context: &Context, service: &Service, given: Option<&str>) -> Result<String> {
    match given {
        Some(version) => Ok(version.to_string()),
        None => {
            let arguments = VersionArgs { explain: false, pull_request: None };
            Ok(next_version(context, service, &arguments).await?.docker_tag)
        }
    }
}

/// Builds, or takes in what was built elsewhere, and gives the digest; none when it was only planned.
async fn build_image(context: &Context, arguments: &BuildImageArgs) -> Result<Option<String>> {
    let service = context.service()?;
    let settings = settings::resolve(&service, context.shared.environment.as_deref().unwrap_or(LOCAL))?;
    let (step, built) = match &arguments.from {
        Some(from) => (context.report.step("build-image"), import_image(context, from, &arguments.layout).await?),
        None => {
            let version = version_or_next(context, &service, arguments.version.as_deref()).await?;
            (context.report.step("build-image"), build_sources(context, &service, version, arguments).await?)
        }
    };
    let Some(built) = built else {
        step.done("planned, nothing was built");
        return Ok(None);
    };
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
        let request = image::contract::Request {
            layout: &arguments.layout,
            settings: &settings,
            modes,
            contract: &service.contract,
        };
        let contract = image::contract::check(&request, &context.environ, &context.report).await?;
        contract.warnings().for_each(|warning| context.report.warn(warning));
        context.report.summarise(contract.summary());
        context.give(&json!({ "contract": contract }));
        if let Some(refusal) = contract.refusal() {
            return Err(refusal);
        }
        step.done(contract.in_words());
    }
    Ok(Some(built.digest))
}

async fn import_image(context: &Context, from: &Path, layout: &Path) -> Result<Option<image::Built>> {
    if context.shared.plan {
        context.give(&json!({ "status": "planned" }));
        return Ok(None);
    }
    image::import::import(from, layout, &context.report).await.map(Some)
}

async fn build_sources(
    context: &Context,
    service: &Service,
    version: String,
    arguments: &BuildImageArgs,
) -> Result<Option<image::Built>> {
    let request = image::build::Request {
        name: service.name.to_string(),
        folder: context.folder(),
        image: service::Image {
            cache: arguments.cache.clone().unwrap_or_else(|| service.image.cache.clone()),
            ..service.image.clone()
        },
        head: git::head(&git::open(&context.folder())?)?,
        version,
        layout: arguments.layout.clone(),
        no_cache: arguments.no_cache,
        builder_image: arguments.builder_image.clone(),
        from_fork: github::runner::from_fork(&context.environ),
        timeout: arguments.timeout.0,
    };
    if context.shared.plan {
        let command = image::build::plan(&request, &context.environ, &context.report)?;
        context.give(&json!({ "status": "planned", "rendered": command.join(" ") }));
        return Ok(None);
    }
    image::build::build(&request, &context.environ, &context.report).await.map(Some)
}

/// Refuses before a build what the push would refuse after it.
async fn preflight(context: &Context, tags: &[String], repository: Option<&str>) -> Result<()> {
    let service = context.service()?;
    let head = git::head(&git::open(&context.folder())?)?;
    let step = context.report.step("preflight");
    let unknown = match repository {
        Some(repository) => registry::preflight(repository, tags, &head.revision, &context.report).await?,
        None => {
            let platform = required(context.platform().await?)?;
            let session = context.registry_session(&platform).await?;
            let (registry, report) = (&platform.registry, &context.report);
            let owner = owner(&service, head.source);
            registry::preflight_ecr(&session, registry, &owner, tags, &head.revision, report).await?
        }
    };
    step.done(match unknown.as_slice() {
        [] => format!("{} can be pushed", tags.join(", ")),
        unknown => format!("whether {} can be pushed is not known", unknown.join(", ")),
    });
    Ok(())
}

async fn push_ecr(context: &Context, arguments: &PushEcrArgs) -> Result<()> {
    if arguments.preflight {
        return preflight(context, &arguments.tags, arguments.repository.as_deref()).await;
    }
    let service = context.service()?;
    let step = context.report.step("push-ecr");
    // A layout is pushed from anywhere; where there is a clone, the repository is said to be of its sources.
    let head = git::open(&context.folder()).and_then(|repository| git::head(&repository)).ok();
    let request = registry::Request {
        layout: arguments.layout.clone(),
        tags: arguments.tags.clone(),
        digest: arguments.digest.clone(),
        mount_from: arguments.mount_from.clone(),
        timeout: arguments.timeout.0,
        plan: context.shared.plan,
        repair: arguments.repair,
        owner: owner(&service, head.and_then(|head| head.source)),
        scan: service.scan.clone(),
        recipe: recipe(context, &service),
    };
    let pushed = match &arguments.repository {
        Some(repository) => registry::push_to(repository, &request, &context.report).await?,
        None => {
            let platform = required(context.platform().await?)?;
            let session = context.registry_session(&platform).await?;
            registry::push_to_ecr(&session, &platform.registry, &request, &context.report).await?
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

/// Whose repository it is in ECR, with the web address of its sources.
fn owner(service: &Service, source: Option<String>) -> registry::Owner {
    let channels = service.version.channels.values().map(ToString::to_string).collect();
    registry::Owner { service: service.name.to_string(), source, channels }
}

/// The service's Dockerfile. A layout may be pushed where there is none.
fn recipe(context: &Context, service: &Service) -> Option<registry::Recipe> {
    let file = service.image.context.join(&service.image.dockerfile);
    let text = std::fs::read_to_string(context.folder().join(&file)).ok()?;
    let shown = file.strip_prefix(".").unwrap_or(&file).display().to_string();
    Some(registry::Recipe { file: shown, text, target: service.image.target.clone() })
}

async fn release_commit(context: &Context, arguments: &ReleaseArgs) -> Result<()> {
    let service = context.service()?;
    let step = context.report.step("release");
    let event = context.environ.get("GITHUB_EVENT_NAME").unwrap_or_default();
    if event.starts_with("pull_request") {
        step.done("nothing to release: this is a pull request");
        context.give(&json!({ "status": "unchanged", "release": false }));
        return Ok(());
    }
    let notes = arguments.notes_file.as_deref().map(own_notes).transpose()?;
    let head = git::head(&git::open(&context.folder())?)?;
    let asked = arguments.github_repository.as_deref();
    let repository =
        github::repository::Repository::open(asked, head.source.as_deref(), &context.environ, &context.report)?;
    let version = version_request(context, &service, &VersionArgs { explain: false, pull_request: None });
    let request = release::Request {
        commit: head.revision,
        prefix: service.version.prefix.clone(),
        floating: service.version.floating,
        notes,
        branch: version.branch.clone().or(head.branch),
        plan: context.shared.plan,
        timeout: arguments.timeout.0,
    };
    let decide = async |tags: Vec<github::repository::Tag>| {
        let tags = tags.into_iter().map(|tag| version::Tag { name: tag.name, commit: tag.commit }).collect();
        let found = version::next(&version::Request { tags: Some(tags), ..version.clone() }, &context.report).await?;
        Ok(decision(found))
    };
    let released = release::run(&request, &repository, decide, &context.report).await?;
    step.done(released.in_words());
    context.report.summarise(format!("**Release** {}", released.in_words()));
    if let (Some(file), Some(tag), Some(notes)) = (&arguments.changelog, &released.tag, &released.notes)
        && !context.shared.plan
    {
        let old = if file.exists() { read_text(file)? } else { String::new() };
        if let Some(new) = release::notes::changelog(&old, tag, notes) {
            std::fs::write(file, new).doing(|| format!("writing {}", file.display()))?;
        }
    }
    let shown = if context.shared.plan { &released.notes } else { &released.url };
    shown.iter().for_each(|text| context.report.print(text, &mut std::io::stdout()));
    context.give(&released);
    context.give(&json!({ "release": released.version.is_some() }));
    if let Some(version) = &released.version {
        let tag = version::docker_tag(version);
        // Another merge, or a name that is used up, came between: the image's name was decided on older facts.
        if let Some(pushed) = arguments.version.as_ref().filter(|pushed| **pushed != tag) {
            context.report.warn(format!(
                "the image was pushed as {pushed}, and its commit is released as {tag}: deploy it by its digest, as service.yml does, or \
                 by the version {pushed}; `cicd push-ecr --tag {tag}` gives it the other name too"
            ));
        }
        context.give(&json!({ "docker-tag": tag }));
    }
    Ok(())
}

/// A version as release takes it: one change for each thing that its commits say.
fn decision(version: version::Version) -> release::Decision {
    let mut changes = Vec::new();
    for change in version.changes.into_iter().filter(|change| !change.taken_back) {
        for header in change.headers {
            changes.push(release::notes::Change {
                sha: change.sha.clone(),
                author: change.author.clone(),
                email: change.email.clone(),
                pull_request: change.pull_request,
                kind: Some(header.kind),
                scope: header.scope,
                breaking: header.breaking,
                description: header.description,
                breaking_change: header.breaking_change,
            });
        }
    }
    release::Decision {
        tag: version.tag,
        previous_tag: version.previous_tag,
        release: version.release,
        changes,
        notices: version.notices,
        overtaken_by: version.overtaken_by,
    }
}

fn own_notes(file: &Path) -> Result<String> {
    let notes = read_text(file)?;
    match notes.chars().count() {
        length if length > release::notes::LIMIT => {
            Err(Error::input(format!("{} has {length} characters", file.display()))
                .fix(format!("GitHub takes {} at most: link to the rest", release::notes::LIMIT)))
        }
        _ => Ok(notes),
    }
}

fn read_text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| Error::input(format!("cannot read {}", file.display())).why(error))
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
    let image = find_image(context, &settings, &destination, arguments).await?;
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
    // With the environment's role: the registry's trusts the job that pushes, not the one that deploys.
    let session =
        Session::open(&registry.region, destination.role.as_deref(), &context.environ, &context.report).await?;
    let found = registry::find(&session, registry, &name, &wanted, &context.report).await?;
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

    let tag = show_version(context, &VersionArgs { explain: false, pull_request: None }).await?.docker_tag;
    if !local {
        preflight(context, std::slice::from_ref(&tag), None).await?;
    }
    let build = BuildImageArgs {
        layout: arguments.layout.clone(),
        version: Some(tag.clone()),
        from: None,
        skip_contract: arguments.skip_contract,
        no_cache: arguments.no_cache,
        cache: None,
        builder_image: arguments.builder_image.clone(),
        timeout: BUILD_TIMEOUT,
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
            preflight: false,
            repair: false,
            digest: digest.clone(),
            mount_from: None,
            timeout: arguments.timeout,
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
