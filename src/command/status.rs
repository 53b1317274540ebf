//! `status`: what runs in an environment.

use super::Context;
use super::deploy::environment_session;
use crate::config::settings::{self, Target};
use crate::deploy::{Image, Order, ecs::Ecs, eks::Eks, local::Local};
use crate::error::Result;

pub async fn show_status(context: &Context) -> Result<()> {
    let service = context.service()?;
    let environment = context.environment()?;
    let settings = settings::resolve(&service, environment)?;
    let destination = settings::destination(context.platform().await?.as_ref(), environment)?;
    let image = Image { repository: String::new(), digest: String::new(), version: String::new() };
    let order = Order { settings, destination, image, timeout: std::time::Duration::from_secs(60) };
    let running = match &order.destination.target {
        Target::Local => {
            Local::open(&order, None, &context.environ, &context.report).await?.running().await?
        }
        Target::Eks(cluster) => {
            let session = environment_session(context, &order.destination).await?;
            Eks::open(&order, cluster, &context.folder(), &session).await?.running().await?
        }
        Target::Ecs { ecs, api_gateway } => {
            let session = environment_session(context, &order.destination).await?;
            Ecs::open(&order, ecs, api_gateway.as_ref(), &session).await?.running().await?
        }
    };
    context
        .report
        .print(&running.in_words(&order.settings.name, environment), &mut std::io::stdout());
    context.give(&running);
    Ok(())
}
