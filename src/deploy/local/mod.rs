//! Deploys to the Docker engine of this machine.

use std::path::Path;
use std::time::Duration;

use crate::deploy::{Backend, Change, Order, Plan, Restored, Running, Verdict};
use crate::error::{Error, Result};

fn missing<T>() -> Result<T> {
    Err(Error::unexpected("not written yet"))
}

/// See the module.
pub struct Local {
    order: Order,
}

/// What apply will do.
pub struct LocalPlan {
    changes: Vec<Change>,
    previous_revision: Option<String>,
}

impl Plan for LocalPlan {
    fn changes(&self) -> &[Change] {
        &self.changes
    }
    fn previous_revision(&self) -> Option<String> {
        self.previous_revision.clone()
    }
}

impl Backend for Local {
    type Facts = ();
    type Plan = LocalPlan;

    async fn observe(&self) -> Result<()> {
        missing()
    }
    fn plan(&self, _facts: ()) -> Result<LocalPlan> {
        let _ = &self.order;
        missing()
    }
    async fn apply(&self, _plan: &LocalPlan) -> Result<()> {
        missing()
    }
    async fn look(&self, _plan: &LocalPlan) -> Result<Verdict> {
        missing()
    }
    async fn roll_back(&self, _plan: &LocalPlan) -> Result<Restored> {
        missing()
    }
    async fn prove(&self, _plan: &LocalPlan) -> Result<Option<String>> {
        missing()
    }
    async fn settle(&self, _plan: &LocalPlan) -> Result<()> {
        missing()
    }
    fn interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}

impl Local {
    pub async fn open(order: &Order, _layout: Option<&Path>) -> Result<Local> {
        Ok(Local { order: order.clone() })
    }
    pub async fn running(&self) -> Result<Running> {
        missing()
    }
}

/// The container that deploy would run, as YAML. Pure.
pub fn render(_order: &Order) -> Result<String> {
    missing()
}
