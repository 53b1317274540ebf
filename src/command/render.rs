//! `render`: what `deploy` would apply.

use serde_json::json;

use super::Context;
use crate::cli::RenderArgs;
use crate::config::platform::Platform;
use crate::config::service::Service;
use crate::config::settings;
use crate::deploy::{self, Image, Order, site};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::registry::render_push_policy;
use crate::version;

pub async fn show_rendered(context: &Context, arguments: &RenderArgs) -> Result<()> {
    let service = context.service()?;
    let platform = context.platform().await?;
    let environment = context.environment()?;
    let text = match arguments.iam.as_deref() {
        Some(role) => render_policies(&service, platform.as_ref(), environment, role)?,
        None => render_settings(context, &service, platform.as_ref(), environment, arguments)?,
    };
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
    let order = make_order(service, platform, environment, arguments)?;
    deploy::render_offline(&order, &context.sources())
}

fn make_order(
    service: &Service,
    platform: Option<&Platform>,
    environment: &str,
    arguments: &RenderArgs,
) -> Result<Order> {
    let settings = settings::resolve(service, environment)?;
    let destination = settings::destination(platform, environment)?;
    let image = Image {
        repository: site::image_repository(&settings, &destination),
        digest: arguments.digest.clone().unwrap_or_else(Digest::placeholder),
        version: version::docker_tag(arguments.version.as_deref().unwrap_or("0.0.0")),
    };
    Ok(Order { settings, destination, image })
}

/// The policy of a role of a service in an environment, or of `all` by role.
fn render_policies(
    service: &Service,
    platform: Option<&Platform>,
    environment: &str,
    role: &str,
) -> Result<String> {
    let nothing = RenderArgs { iam: None, digest: None, version: None };
    let order = make_order(service, platform, environment, &nothing)?;
    let records = platform.and_then(|platform| platform.records.as_ref());
    let mut policies = deploy::render_policies(&order, records)?;
    let push = platform.and_then(|platform| render_push_policy(&platform.registry, service));
    policies.extend(push.map(|policy| ("push", policy)));
    let report = records.and_then(deploy::render_report_policy);
    policies.extend(report.map(|policy| ("report", policy)));
    let text = match (role, policies.get(role)) {
        ("all", _) => serde_json::to_string_pretty(&policies),
        (_, Some(policy)) => serde_json::to_string_pretty(policy),
        (_, None) => {
            let known: Vec<&str> = policies.keys().copied().collect();
            return Err(Error::input(format!(
                "cannot render the policy of `{role}`: {environment} has no such role, or it needs \
                 to be allowed nothing"
            ))
            .fix(format!("name one of: {}, all", known.join(", "))));
        }
    };
    text.map_err(|error| Error::unexpected("cannot write the policies as JSON").why(error))
}
