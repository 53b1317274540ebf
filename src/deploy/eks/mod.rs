//! Deploys to Kubernetes on EKS.

use std::path::Path;
use std::time::Duration;

use crate::deploy::{Backend, Change, Order, Plan, Restored, Running, Verdict};
use crate::error::{Error, Result};

fn missing<T>() -> Result<T> {
    Err(Error::unexpected("not written yet"))
}

/// See the module.
pub struct Eks {
    order: Order,
}

/// What apply will do.
pub struct EksPlan {
    changes: Vec<Change>,
    previous_revision: Option<String>,
}

impl Plan for EksPlan {
    fn changes(&self) -> &[Change] {
        &self.changes
    }
    fn previous_revision(&self) -> Option<String> {
        self.previous_revision.clone()
    }
}

impl Backend for Eks {
    type Facts = ();
    type Plan = EksPlan;

    async fn observe(&self) -> Result<()> {
        missing()
    }
    fn plan(&self, _facts: ()) -> Result<EksPlan> {
        let _ = &self.order;
        missing()
    }
    async fn apply(&self, _plan: &EksPlan) -> Result<()> {
        missing()
    }
    async fn look(&self, _plan: &EksPlan) -> Result<Verdict> {
        missing()
    }
    async fn roll_back(&self, _plan: &EksPlan) -> Result<Restored> {
        missing()
    }
    async fn prove(&self, _plan: &EksPlan) -> Result<Option<String>> {
        missing()
    }
    async fn settle(&self, _plan: &EksPlan) -> Result<()> {
        missing()
    }
    fn interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}

impl Eks {
    pub async fn open(
        order: &Order,
        _cluster: &crate::config::platform::Eks,
        _folder: &Path,
        _session: &crate::aws::Session,
    ) -> Result<Eks> {
        Ok(Eks { order: order.clone() })
    }
    pub async fn running(&self) -> Result<Running> {
        missing()
    }
}

/// The manifests that deploy would apply, as YAML documents. Pure but for reading `manifests` below `folder`.
pub fn render(_order: &Order, _folder: &Path) -> Result<String> {
    missing()
}
