//! The last good state, and how it is written down. Pure.
//!
//! It is the whole set of objects as they were applied, configuration included, in a Secret beside
//! the service: manifests may hold Secrets.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::object::{Key, Object, text};
use super::render::MANAGER;
use crate::error::{Error, Result};

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
        let state = serde_json::to_string(self)
            .map_err(|error| Error::unexpected("writing the last good state").why(error))?;
        if state.len() > MOST_BYTES {
            return Err(Error::input(format!(
                "the manifests of {service} are {} KiB together",
                state.len() / 1024
            ))
            .why(format!(
                "the last good state is kept in one Secret, which holds {} KiB",
                MOST_BYTES / 1024
            ))
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

    /// Reads it back. None when it is not ours, or of a form we do not know: then nothing good is
    /// known.
    pub fn from_secret(secret: &Value) -> Option<Snapshot> {
        let state = BASE64_STANDARD.decode(text(secret, "/data/state")).ok()?;
        serde_json::from_slice(&state).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn snapshot(objects: Vec<Value>) -> Snapshot {
        let objects =
            objects.into_iter().map(|value| Object::new(value).expect("an object")).collect();
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
        for data in
            [json!({}), json!({"state": "!"}), json!({"state": BASE64_STANDARD.encode("{}")})]
        {
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
