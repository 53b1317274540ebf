//! `render`: what `deploy` would apply.

use serde_json::json;

use super::Context;
use crate::cli::RenderArgs;
use crate::config::platform::Platform;
use crate::config::service::Service;
use crate::config::settings;
use crate::deploy::{self, Image, Order, site};
use crate::digest::Digest;
use crate::error::Result;
use crate::version;

pub async fn show_rendered(context: &Context, arguments: &RenderArgs) -> Result<()> {
    let service = context.service()?;
    let platform = context.platform().await?;
    let text =
        render_settings(context, &service, platform.as_ref(), context.environment()?, arguments)?;
    context.report.print(&text, &mut std::io::stdout());
    context.give(&json!({ "rendered": text }));
    Ok(())
}

/// What deploy would apply to an environment, without asking anybody.
pub fn render_settings(
    context: &Context,
    service: &Service,
    platform: Option<&Platform>,
    environment: &str,
    arguments: &RenderArgs,
) -> Result<String> {
    let settings = settings::resolve(service, environment)?;
    let destination = settings::destination(platform, environment)?;
    let image = Image {
        repository: site::image_repository(&settings, &destination),
        digest: arguments.digest.clone().unwrap_or_else(Digest::placeholder),
        version: version::docker_tag(arguments.version.as_deref().unwrap_or("0.0.0")),
    };
    deploy::render_offline(&Order { settings, destination, image }, &context.sources())
}
