//! Where users reach the service.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;

use super::object::Key;
use super::observe::{read_address, say_event};
use super::{Eks, EksDocuments};
use crate::deploy::target::{State, Target};
use crate::error::Result;

/// How long an Ingress is waited for that a controller is to take up: it writes the address when it
/// has asked for the load balancer, not when that serves.
const ADDRESS: Duration = Duration::from_secs(10);
/// Events about an Ingress that are told.
const EVENTS: usize = 2;

impl Eks {
    /// Where users reach the service: the Ingress's address, or where there is none to be through
    /// the API server. `None` while nobody has taken up the Ingress.
    pub(super) async fn find_url(&self, state: &State<EksDocuments>) -> Result<Option<String>> {
        let (service, namespace) = (&state.service, &self.caller.namespace);
        if let Some(path) = &state.documents.expose {
            let key = Key::new("networking.k8s.io/v1", "Ingress", namespace, service);
            let ingress = self.api.get(&key).await?;
            let address = ingress.as_ref().and_then(read_address);
            return Ok(address.map(|address| format!("{address}{path}")));
        }
        let endpoint = self.caller.endpoint.trim_end_matches('/');
        let path = self.api.service_path(service, state.port, "/");
        Ok(Some(format!("{endpoint}{path}")))
    }

    /// As [`Eks::find_url`], and waits a moment for whoever takes up an Ingress. Where nobody does
    /// that is said: no user reaches the service by it.
    pub(super) async fn await_url(&self, state: &State<EksDocuments>) -> Result<Option<String>> {
        let finding = async {
            loop {
                match self.find_url(state).await {
                    Ok(None) => tokio::time::sleep(Self::INTERVAL).await,
                    found => return found,
                }
            }
        };
        if let Ok(found) = tokio::time::timeout(ADDRESS, finding).await {
            return found;
        }
        let name = &state.service;
        let which = ListParams::default()
            .fields(&format!("involvedObject.kind=Ingress,involvedObject.name={name}"));
        let events: Vec<Event> =
            self.api.list(&self.caller.namespace, &which).await.unwrap_or_default();
        let told: Vec<String> = events.iter().rev().take(EVENTS).map(say_event).collect();
        let told = if told.is_empty() { "no event tells why".into() } else { told.join("; ") };
        self.report.warn(format!(
            "Ingress/{name} has no address: nobody has taken it up, and no user reaches the service \
             from outside ({told}). See that a controller of its class runs: `eks.ingress-class` in \
             platform.yaml names the class, kubectl get ingressclass lists those that there are"
        ));
        Ok(None)
    }
}
