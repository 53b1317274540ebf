//! The last good state: how it is written down, and the way back to it.
//!
//! It is the whole set of objects as they were applied, configuration included, in a Secret beside the service: manifests may
//! hold Secrets. Applying it again gives the Deployment the pod template it had, so that its old ReplicaSet, whose pods may
//! still run, is used again, and the next deploy of that state finds nothing to do.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Eks;
use super::object::{Key, Object, number, text};
use super::plan::{EksPlan, Undo};
use super::render::MANAGER;
use super::verdict::Seen;
use crate::deploy::Restored;
use crate::error::{Error, Kind, Result};

/// How long the way back may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What etcd takes of one object, with room for the rest of it.
const MOST_BYTES: usize = 700 * 1024;

/// A state of a service that was applied, and was good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub version: String,
    pub digest: String,
    pub objects: Vec<Object>,
}

impl Snapshot {
    /// The name of the Secret that holds a service's last good state.
    pub fn name_for(service: &str) -> String {
        format!("{service}-cicd")
    }

    pub fn key_for(service: &str, namespace: &str) -> Key {
        Key::new("v1", "Secret", namespace, &Self::name_for(service))
    }

    /// The Secret to apply.
    ///
    /// # Errors
    /// Bad input when the manifests are more than a Secret can hold.
    pub fn to_secret(&self, service: &str, namespace: &str) -> Result<Object> {
        let state =
            serde_json::to_string(self).map_err(|error| Error::unexpected("writing the last good state").why(error))?;
        if state.len() > MOST_BYTES {
            return Err(Error::input(format!("the manifests of {service} are {} KiB together", state.len() / 1024))
                .why(format!("the last good state is kept in one Secret, which holds {} KiB", MOST_BYTES / 1024))
                .fix("deploy large manifests (CRDs, dashboards) on their own, outside `manifests`"));
        }
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": Self::name_for(service),
                "namespace": namespace,
                "labels": {"app.kubernetes.io/managed-by": MANAGER, "app.kubernetes.io/part-of": service},
            },
            "type": "Opaque",
            "data": {"state": BASE64_STANDARD.encode(state)},
        });
        Object::new(secret).map_err(Error::unexpected)
    }

    /// Reads it back. None when it is not ours, or of a form we do not know: then nothing good is known.
    pub fn from_secret(secret: &Value) -> Option<Snapshot> {
        let state = BASE64_STANDARD.decode(text(secret, "/data/state")).ok()?;
        serde_json::from_slice(&state).ok()
    }
}

impl Eks {
    /// Back to the last good state, and waits until it runs.
    ///
    /// # Errors
    /// Superseded when somebody else changed the Deployment since we did. Broken when the last good state does not come up.
    pub(super) async fn restore(&self, plan: &EksPlan) -> Result<Restored> {
        let objects = match &plan.undo {
            Undo::To(objects) | Undo::Found(objects) => objects,
            Undo::Nothing => {
                let (name, namespace) = (&self.order.settings.name, &self.caller.namespace);
                return Ok(Restored::Nothing(format!(
                    "what was created is left for looking at: kubectl -n {namespace} describe deployment/{name}"
                )));
            }
        };
        self.refuse_superseded().await?;
        let generation = match &plan.undo {
            Undo::Found(objects) => self.put_back(objects).await?,
            _ => self.apply_all(objects.iter().map(|object| (object, true)).collect()).await?,
        };
        let kept: Vec<Key> = objects.iter().map(Object::key).collect();
        for (key, uid) in self.done().created.clone() {
            if !kept.contains(&key) {
                let doing = format!("deleting {}", key.id());
                self.api.delete(&key, &uid).await.map_err(|failure| self.explain(&failure, &doing))?;
            }
        }
        let generation = generation.unwrap_or(plan.generation);
        match tokio::time::timeout(PATIENCE, self.until_back(generation)).await {
            Ok(revision) => revision.map(Restored::LastGood),
            Err(_) => Err(Error::new(
                Kind::Broken,
                format!("the last good version is not back within {} s", PATIENCE.as_secs()),
            )),
        }
    }

    /// Puts objects back as they were found. Replaced, not applied: an apply would leave what defaults have made of our
    /// fields meanwhile (the old name of a pod's service account is one).
    async fn put_back(&self, objects: &[Object]) -> Result<Option<i64>> {
        let mut generation = None;
        for object in objects {
            let doing = format!("putting back {}", object.id());
            let put = self.api.replace(object).await.map_err(|failure| self.explain(&failure, &doing))?;
            if object.key() == self.deployment_key() {
                generation = Some(number(&put, "/metadata/generation"));
            }
        }
        Ok(generation)
    }

    async fn until_back(&self, generation: i64) -> Result<String> {
        loop {
            match self.see(generation).await? {
                Seen::Ready { revision } => return Ok(revision),
                Seen::Progressing(_) => tokio::time::sleep(super::INTERVAL).await,
                Seen::Failed(troubles) => {
                    let why: Vec<String> =
                        troubles.iter().map(|trouble| format!("{}: {}", trouble.object, trouble.reason)).collect();
                    return Err(
                        Error::new(Kind::Broken, "the last good version does not run either").why(why.join("; "))
                    );
                }
            }
        }
    }

    /// Undoing is only ours to do while what stands there is what we put there.
    async fn refuse_superseded(&self) -> Result<()> {
        let Some((uid, image)) = self.done().deployed.clone() else { return Ok(()) };
        let live = self
            .api
            .get(&self.deployment_key())
            .await
            .map_err(|failure| self.explain(&failure, "reading the Deployment"))?;
        let now = live.as_ref().map(|live| (text(live, "/metadata/uid").to_string(), image_of(live)));
        if now == Some((uid, image)) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Superseded,
            format!("somebody else changed Deployment/{} meanwhile", self.order.settings.name),
        )
        .fix("see what runs with `cicd status`; this run leaves it alone"))
    }
}

/// The image of the first container: ours is the only one.
pub(super) fn image_of(deployment: &Value) -> String {
    text(deployment, "/spec/template/spec/containers/0/image").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(objects: Vec<Value>) -> Snapshot {
        let objects = objects.into_iter().map(|value| Object::new(value).expect("an object")).collect();
        Snapshot { version: "1.4.0".into(), digest: "sha256:ab".into(), objects }
    }

    #[test]
    fn a_state_is_read_back_as_it_was_written() {
        let state = snapshot(vec![
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"z": "x", "a": "ü"}}),
        ]);
        let secret = state.to_secret("patients", "staging").expect("a Secret");
        assert_eq!(secret.key(), Snapshot::key_for("patients", "staging"));
        assert_eq!(Snapshot::from_secret(secret.value()), Some(state));
    }

    #[test]
    fn what_is_not_ours_is_no_state() {
        for data in [json!({}), json!({"state": "!"}), json!({"state": BASE64_STANDARD.encode("{}")})] {
            assert_eq!(Snapshot::from_secret(&json!({ "data": data })), None, "{data}");
        }
    }

    #[test]
    fn a_state_that_is_too_big_is_refused_before_it_is_needed() {
        let big = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": {"a": "x".repeat(MOST_BYTES)}});
        let error = snapshot(vec![big]).to_secret("p", "n").expect_err("too big");
        assert_eq!(error.kind, Kind::Input);
    }
}
