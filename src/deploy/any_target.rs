//! The one place that tells the targets apart.

use std::path::Path;
use std::time::Duration;

use super::ecs::{self, Ecs};
use super::eks::{self, Eks};
use super::iam::Policies;
use super::local::{self, Local};
use super::removal::{PreviewSeen, PreviewTerms};
use super::{Order, Sources};
use crate::aws::Session;
use crate::cli::Environ;
use crate::config::platform::Records;
use crate::config::settings::{Destination, Target};
use crate::error::{Error, Result};
use crate::report::Report;

/// An open target.
pub enum AnyTarget {
    Local(Box<Local>),
    Eks(Box<Eks>),
    Ecs(Box<Ecs>),
}

/// Runs `$body` with `$target` bound to the target that `$any` is.
macro_rules! with_target {
    ($any:expr, $target:ident => $body:expr) => {
        match $any {
            $crate::deploy::any_target::AnyTarget::Local($target) => {
                let $target = &**$target;
                $body
            }
            $crate::deploy::any_target::AnyTarget::Eks($target) => {
                let $target = &**$target;
                $body
            }
            $crate::deploy::any_target::AnyTarget::Ecs($target) => {
                let $target = &**$target;
                $body
            }
        }
    };
}
pub(super) use with_target;

impl AnyTarget {
    /// Opens the target of a destination; `session` is that of its role, where it is on AWS.
    ///
    /// # Errors
    /// As the target refuses.
    pub async fn open(
        destination: &Destination,
        session: Option<&Session>,
        sources: &Sources,
        layout: Option<&Path>,
        environ: &Environ,
        report: &Report,
    ) -> Result<AnyTarget> {
        let (region, role) = (destination.region.as_str(), destination.role.as_deref());
        let account = destination.account.as_deref();
        Ok(match (&destination.target, session) {
            (Target::Eks(cluster), Some(session)) => {
                let place = eks::Place {
                    region,
                    role,
                    account,
                    cluster,
                    is_preview: destination.preview.is_some(),
                };
                AnyTarget::Eks(Box::new(Eks::open(place, sources, session, report).await?))
            }
            (Target::Ecs { ecs, api_gateway }, Some(session)) => {
                let ecs = Ecs::open(ecs, api_gateway.as_ref(), account, session);
                AnyTarget::Ecs(Box::new(ecs))
            }
            (Target::Local, _) => {
                AnyTarget::Local(Box::new(Local::open(layout, environ, report).await?))
            }
            (Target::Eks(_) | Target::Ecs { .. }, None) => {
                return Err(Error::unexpected(
                    "cannot open an environment on AWS without a session",
                ));
            }
        })
    }
}

impl AnyTarget {
    /// Makes what a preview is in.
    ///
    /// # Errors
    /// As the target refuses.
    pub async fn make_room(&self, terms: &PreviewTerms<'_>) -> Result<()> {
        match self {
            AnyTarget::Eks(eks) => eks.make_namespace(terms).await,
            AnyTarget::Ecs(_) | AnyTarget::Local(_) => Ok(()),
        }
    }

    /// The previews of a service that are there; where nothing else says it, each `lasts` so long
    /// after its last deploy.
    ///
    /// # Errors
    /// As the target refuses.
    pub async fn list_previews(&self, service: &str, lasts: Duration) -> Result<Vec<PreviewSeen>> {
        match self {
            AnyTarget::Eks(eks) => eks.list_previews(service).await,
            AnyTarget::Ecs(ecs) => ecs.list_previews(service, lasts).await,
            AnyTarget::Local(_) => Ok(Vec::new()),
        }
    }
}

/// What `render` prints: what deploy would apply, without asking anybody.
///
/// # Errors
/// Bad input for what the target cannot be told.
pub fn render_offline(order: &Order, sources: &Sources) -> Result<String> {
    match &order.destination.target {
        Target::Local => local::render_compose(&local::render_state(order)),
        Target::Eks(cluster) => eks::render_manifests(order, cluster, sources),
        Target::Ecs { ecs, api_gateway } => ecs::render_documents(order, ecs, api_gateway.as_ref()),
    }
}

/// What `render --iam` prints of a deploy: the least that each role has to be allowed.
///
/// # Errors
/// Bad input for what the target cannot be told, and for one that is not on AWS.
pub fn render_policies(order: &Order, records: Option<&Records>) -> Result<Policies> {
    match &order.destination.target {
        Target::Local => Err(Error::input("cannot render IAM policies for `local`: it has none")
            .fix("name an environment on AWS: --environment staging")),
        Target::Eks(cluster) => Ok(eks::render_policies(order, cluster, records)),
        Target::Ecs { ecs, api_gateway } => {
            ecs::render_policies(order, ecs, api_gateway.as_ref(), records)
        }
    }
}
