//! `build-image`: builds the image, or takes in what was built elsewhere, and checks its contract.

use std::path::Path;

use serde_json::json;

use super::Context;
use super::deploy::{open_ledger, resolve_environment};
use super::version::version_or_next;
use crate::cli::BuildImageArgs;
use crate::config::service::{self, Service};
use crate::config::settings::{self, LOCAL};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::registry::Growth;
use crate::report::{Markdown, human};
use crate::{git, github, image, registry};

/// Builds, or takes in what was built elsewhere, and gives the digest; none when it was only planned.
pub async fn build_image(context: &Context, arguments: &BuildImageArgs) -> Result<Option<Digest>> {
    let service = context.service()?;
    let settings =
        settings::resolve(&service, context.shared.environment.as_deref().unwrap_or(LOCAL))?;
    let (step, built) = match (&arguments.from, &arguments.join) {
        (Some(from), _) => (
            context.report.step("build-image"),
            import_image(context, from, &arguments.layout).await?,
        ),
        (None, Some(parts)) => {
            let step = context.report.step("build-image");
            (step, join_images(context, &service, parts, &arguments.layout).await?)
        }
        (None, None) => {
            let version = version_or_next(context, &service, arguments.version.as_deref()).await?;
            (
                context.report.step("build-image"),
                build_sources(context, &service, version, arguments).await?,
            )
        }
    };
    let Some(built) = built else {
        step.done("planned, nothing was built");
        return Ok(None);
    };
    step.done(format!("{}, {}", built.digest, human::bytes(built.size)));
    let shown = format!("sha256:{}", built.digest.short());
    let headline = Markdown::default().own("**Image** ").code(&shown).own(", ");
    let headline = headline.text(&human::bytes(built.size));
    context.report.summarise(match &arguments.compare {
        Some(environment) => {
            let compared = compare_image(context, environment, &arguments.layout).await;
            headline.markdown(&describe_growth(context, environment, compared))
        }
        None => headline,
    });
    context.give(&built);
    if !arguments.skip_contract {
        let step = context.report.step("contract");
        let modes = image::contract::Modes {
            variable: service.mode.variable.to_string(),
            production: service.mode.production.clone(),
            debug: service.mode.debug.clone(),
        };
        let request = image::contract::ContractRequest {
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

/// Joins what was built on machines of several platforms: those of `image.platforms`, and no
/// others.
async fn join_images(
    context: &Context,
    service: &Service,
    parts: &Path,
    layout: &Path,
) -> Result<Option<image::Built>> {
    if context.shared.plan {
        context.give(&json!({ "status": "planned" }));
        return Ok(None);
    }
    let built = image::join::join(parts, layout).await?;
    let mut wanted: Vec<String> = service.image.platforms.iter().map(ToString::to_string).collect();
    wanted.sort();
    let mut found = built.platforms.clone();
    found.sort();
    if found != wanted {
        return Err(Error::input("cannot take the joined image")
            .why(format!("it is for {}, and the service for {}", found.join(", "), wanted.join(", ")))
            .fix("build each of `image.platforms` on a runner, and no others: input `native` of service.yml"));
    }
    Ok(Some(built))
}

/// An image of before, by its version and where that is.
type Compared = Option<(String, Growth)>;

/// How many records are looked at for the image of a branch.
const LOOKED_AT: usize = 20;

/// Compares the image in a layout with that of the commit that a pull request goes to, where an
/// environment had it, else with the environment's last good one. `None`: there is none.
async fn compare_image(context: &Context, environment: &str, layout: &Path) -> Result<Compared> {
    let (_, destination) = resolve_environment(context, environment).await?;
    let Some(registry) = &destination.registry else { return Ok(None) };
    let (settings, ledger) = open_ledger(context, environment).await?;
    let base = github::runner::base_commit(&context.environ);
    let records = match &base {
        Some(_) => ledger.list_records(LOOKED_AT).await?,
        None => Vec::new(),
    };
    let of_base = records
        .into_iter()
        .map(|record| record.run)
        .find(|run| run.digest.is_some() && run.commit.is_some() && run.commit == base);
    let (run, whose) = match (of_base, ledger.read_head().await?.good) {
        (Some(run), _) => (run, "the base branch".to_string()),
        (None, Some(good)) => (good.run, environment.to_string()),
        (None, None) => return Ok(None),
    };
    let Some(digest) = &run.digest else { return Ok(None) };
    let session = context.session_of(&destination, &registry.region).await?;
    let name = settings::repository(registry, &settings.owner.service);
    let layout = Layout::open(layout)?;
    let growth = registry::compare_image(&session, registry, &name, digest, &layout).await?;
    Ok(growth.map(|growth| (format!("{} in {whose}", run.version), growth)))
}

/// What stands behind the image's size. Nothing fails for want of a comparison.
fn describe_growth(context: &Context, environment: &str, compared: Result<Compared>) -> Markdown {
    let text = Markdown::default();
    match compared {
        Ok(Some((of, growth))) => {
            let words = growth.in_words(&of);
            context.report.detail(&words);
            text.own(", ").text(&words).own("\n").markdown(&growth.table())
        }
        Ok(None) => text,
        Err(error) => {
            context.report.detail(format!("not compared with {environment}: {error}"));
            text
        }
    }
}

pub async fn import_image(
    context: &Context,
    from: &Path,
    layout: &Path,
) -> Result<Option<image::Built>> {
    if context.shared.plan {
        context.give(&json!({ "status": "planned" }));
        return Ok(None);
    }
    image::import::import(from, layout, &context.report).await.map(Some)
}

pub async fn build_sources(
    context: &Context,
    service: &Service,
    version: String,
    arguments: &BuildImageArgs,
) -> Result<Option<image::Built>> {
    let repository = git::open(&context.folder())?;
    if let Some(only) = arguments.only.as_ref()
        && !service.image.platforms.contains(only)
    {
        return Err(Error::input(format!("cannot build for {only} alone"))
            .why("it is none of `image.platforms` in service.yaml")
            .fix(format!("add it: image: {{platforms: [linux/amd64, {only}]}}")));
    }
    let request = image::builder::BuildRequest {
        name: service.name.to_string(),
        file: context.shared.service.clone(),
        folder: context.folder(),
        has_own_cache: arguments.cache.is_some(),
        frontends: arguments.allow_frontend.clone(),
        image: service::Image {
            platforms: match &arguments.only {
                Some(only) => vec![only.clone()],
                None => service.image.platforms.clone(),
            },
            cache: arguments.cache.clone().unwrap_or_else(|| service.image.cache.clone()),
            ..service.image.clone()
        },
        head: git::head(&repository)?,
        tree: git::read_work_tree(&repository),
        version,
        layout: arguments.layout.clone(),
        no_cache: arguments.no_cache,
        builder_image: arguments.builder_image.clone(),
        from_fork: github::runner::from_fork(&context.environ),
        timeout: arguments.timeout.0,
    };
    if context.shared.plan {
        let command = image::builder::plan(&request, &context.environ, &context.report)?;
        context.give(&json!({ "status": "planned", "rendered": command.join(" ") }));
        return Ok(None);
    }
    image::builder::build(&request, &context.environ, &context.report).await.map(Some)
}
