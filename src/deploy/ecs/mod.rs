//! Deploys to ECS, reachable through API Gateway.

use std::time::Duration;

use crate::deploy::{Backend, Change, Order, Plan, Restored, Running, Verdict};
use crate::error::{Error, Result};

fn missing<T>() -> Result<T> {
    Err(Error::unexpected("not written yet"))
}

/// See the module.
pub struct Ecs {
    order: Order,
}

/// What apply will do.
pub struct EcsPlan {
    changes: Vec<Change>,
    previous_revision: Option<String>,
}

impl Plan for EcsPlan {
    fn changes(&self) -> &[Change] {
        &self.changes
    }
    fn previous_revision(&self) -> Option<String> {
        self.previous_revision.clone()
    }
}

impl Backend for Ecs {
    type Facts = ();
    type Plan = EcsPlan;

    async fn observe(&self) -> Result<()> {
        missing()
    }
    fn plan(&self, _facts: ()) -> Result<EcsPlan> {
        let _ = &self.order;
        missing()
    }
    async fn apply(&self, _plan: &EcsPlan) -> Result<()> {
        missing()
    }
    async fn look(&self, _plan: &EcsPlan) -> Result<Verdict> {
        missing()
    }
    async fn roll_back(&self, _plan: &EcsPlan) -> Result<Restored> {
        missing()
    }
    async fn prove(&self, _plan: &EcsPlan) -> Result<Option<String>> {
        missing()
    }
    async fn settle(&self, _plan: &EcsPlan) -> Result<()> {
        missing()
    }
    fn interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}

impl Ecs {
    pub async fn open(
        order: &Order,
        _ecs: &crate::config::platform::Ecs,
        _api_gateway: Option<&crate::config::platform::ApiGateway>,
        _session: &crate::aws::Session,
    ) -> Result<Ecs> {
        Ok(Ecs { order: order.clone() })
    }
    pub async fn running(&self) -> Result<Running> {
        missing()
    }
}

/// The task definition that deploy would register, as JSON. Pure.
pub fn render(_order: &Order, _ecs: &crate::config::platform::Ecs) -> Result<String> {
    missing()
}
