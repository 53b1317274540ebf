//! `test`: the service's own tests, in the stage of its Dockerfile that has them.

use serde_json::json;

use super::Context;
use super::build_image::build_sources;
use super::version::version_or_next;
use crate::cli::{BuildImageArgs, TestArgs};
use crate::config::service::{Image, Service};
use crate::config::settings::{self, LOCAL};
use crate::config::values::Platform;
use crate::error::Result;
use crate::image::suite::{SuiteRequest, run_suite};

/// Builds the stage and runs the tests in it; nothing to do where service.yaml has none.
///
/// # Errors
/// [`crate::error::Kind::Gate`] when a test fails; as a build fails.
pub async fn test_service(context: &Context, arguments: &TestArgs) -> Result<()> {
    let service = context.service()?;
    let settings =
        settings::resolve(&service, context.shared.environment.as_deref().unwrap_or(LOCAL))?;
    let step = context.report.step("test");
    let Some(test) = &service.test else {
        step.done("service.yaml has no `test`");
        return Ok(());
    };
    let image = Image {
        target: test.target.clone().or(service.image.target.clone()),
        platforms: vec![this_platform()],
        ..service.image.clone()
    };
    let staged = Service { image, ..service.clone() };
    let version = version_or_next(context, &service, arguments.version.as_deref()).await?;
    let build = BuildImageArgs {
        compare: None,
        layout: arguments.layout.clone(),
        version: Some(version.clone()),
        from: None,
        only: None,
        join: None,
        skip_contract: true,
        no_cache: false,
        cache: None,
        builder_image: arguments.builder_image.clone(),
        allow_frontend: arguments.allow_frontend.clone(),
        timeout: arguments.timeout,
    };
    if build_sources(context, &staged, version, &build).await?.is_none() {
        step.done("planned, nothing was built");
        return Ok(());
    }
    let stand_ins = service.contract.env.iter();
    let request = SuiteRequest {
        layout: &arguments.layout,
        settings: &settings,
        command: Some(test.command.as_slice()).filter(|command| !command.is_empty()),
        stand_ins: stand_ins.map(|(name, value)| (name.to_string(), value.clone())).collect(),
        reports: &test.reports,
        timeout: arguments.timeout.0,
    };
    let ended = run_suite(&request, &context.environ, &context.report).await?;
    let results = &ended.results;
    context.give(&json!({
        "tests": results.tests, "failures": results.failures, "coverage": results.coverage,
    }));
    context.report.summarise(results.summary());
    match ended.refusal {
        Some(refusal) => Err(refusal),
        None => {
            step.done(results.in_words());
            Ok(())
        }
    }
}

/// The platform that this machine's engine runs without emulation.
fn this_platform() -> Platform {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    Platform::try_from(format!("linux/{architecture}")).expect("a constant platform")
}
