//! The namespace of a preview: made before its first deploy, and deleted as a whole.

use std::time::Duration;

use serde_json::json;

use super::Eks;
use super::api::for_good;
use super::object::{Key, LiveObject, MANAGED_BY, Object, PROGRAM};
use crate::deploy::removal::{PreviewSeen, PreviewTerms};
use crate::deploy::target::Permit;
use crate::error::{Error, Result};

/// The service that a namespace is a preview of, and its pull request.
const PREVIEW: &str = "cicd.clinicult.io/preview";
const PULL_REQUEST: &str = "cicd.clinicult.io/pull-request";
/// When it may be removed.
const EXPIRES: &str = "cicd.clinicult.io/expires";

/// Time between two looks at a namespace that is being deleted.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long a new preview waits for an older one of its name to be gone.
const GOING: Duration = Duration::from_secs(180);

impl Eks {
    pub(super) fn namespace_key(&self) -> Key {
        Key { namespace: None, ..Key::new("v1", "Namespace", "", &self.caller.namespace) }
    }

    /// Makes the namespace of a preview, or puts its end off.
    ///
    /// # Errors
    /// Refused when there is one of this name that is no preview of this pull request.
    pub async fn make_namespace(&self, terms: &PreviewTerms<'_>) -> Result<()> {
        let waiting = tokio::time::timeout(GOING, self.wait_until_stands());
        let live = waiting.await.unwrap_or(Ok(None))?;
        if let Some(live) = live {
            self.refuse_foreign(&live, terms.service, terms.number)?;
        }
        let labels = json!({
            MANAGED_BY: PROGRAM, PREVIEW: terms.service, PULL_REQUEST: terms.number.to_string(),
        });
        let annotations = json!({ EXPIRES: terms.expires.to_string() });
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {
                "name": self.caller.namespace, "labels": labels, "annotations": annotations,
            },
        });
        let namespace = Object::new(namespace).map_err(Error::unexpected)?;
        self.api.apply(&namespace, for_good(PROGRAM, false), None).await?;
        Ok(())
    }

    /// The namespace as it is, once it is not on its way out.
    async fn wait_until_stands(&self) -> Result<Option<LiveObject>> {
        loop {
            let live = self.api.get(&self.namespace_key()).await?;
            match live {
                Some(live) if live.metadata.deletion_timestamp.is_some() => {
                    tokio::time::sleep(INTERVAL).await;
                }
                live => return Ok(live),
            }
        }
    }

    fn refuse_foreign(&self, live: &LiveObject, service: &str, number: u64) -> Result<()> {
        let label = |name: &str| live.metadata.labels.as_ref()?.get(name).map(String::as_str);
        let number = number.to_string();
        if (label(PREVIEW), label(PULL_REQUEST)) == (Some(service), Some(number.as_str())) {
            return Ok(());
        }
        let name = &self.caller.namespace;
        Err(Error::refused(format!("cannot use namespace {name} for a preview"))
            .why(format!("it is there, and no preview of pull request {number} of {service}"))
            .fix("choose another `eks.namespace` for the preview's environment in platform.yaml"))
    }

    /// Deletes the namespace of a preview with all that is in it, and waits until it is gone.
    pub(super) async fn remove_namespace(
        &self,
        service: &str,
        number: u64,
        permit: Permit<'_>,
    ) -> Result<Vec<String>> {
        let key = self.namespace_key();
        let Some(live) = self.api.get(&key).await? else { return Ok(Vec::new()) };
        self.refuse_foreign(&live, service, number)?;
        let uid = live.metadata.uid.unwrap_or_default();
        self.api.delete(&key, &uid, Some(permit)).await?;
        while self.api.get(&key).await?.is_some_and(|live| live.metadata.uid.as_ref() == Some(&uid))
        {
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(vec![key.id()])
    }

    /// The previews of a service.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn list_previews(&self, service: &str) -> Result<Vec<PreviewSeen>> {
        let found = self.api.list_namespaces(&format!("{PREVIEW}={service}")).await?;
        let read = |namespace: k8s_openapi::api::core::v1::Namespace| {
            let metadata = namespace.metadata;
            let number = metadata.labels?.get(PULL_REQUEST)?.parse().ok()?;
            let annotations = metadata.annotations.unwrap_or_default();
            let expires = annotations.get(EXPIRES).and_then(|time| time.parse().ok());
            Some(PreviewSeen { number, expires })
        };
        let mut previews: Vec<PreviewSeen> = found.into_iter().filter_map(read).collect();
        previews.sort_by_key(|preview| preview.number);
        Ok(previews)
    }
}
