//! What a run wrote to the cluster, by what the API server answered. Pure.
//!
//! What this run undoes has to be its own still: a workload is known by its uid and by the spec
//! that our apply was answered with, so that what a person or another tool changed after it is not
//! overwritten by the rollback.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::managers::{find_fields_by_hand, find_own_fields};
use super::object::{Key, LiveObject};
use super::observe::Restarts;
use crate::deploy::pen::Extent;
use crate::deploy::target::Written;
use crate::error::{Error, Kind};

/// What this run has done to the cluster so far.
#[derive(Debug, Default)]
pub struct EksWritten {
    /// How far buckets were made, which stay, and which nothing runs by.
    pub buckets: Cell<Extent>,
    /// `before-deploy` was begun. Nothing that runs changes by it.
    pub migrated: bool,
    /// An object was written or deleted, or may have been: its answer was lost.
    pub touched: bool,
    /// Objects that were created, with their uid.
    pub created: Vec<(Key, String)>,
    /// The objects' generations after our writes.
    pub generations: HashMap<Key, i64>,
    /// Whose answer was lost, and who could not be looked up then.
    pub unanswered: HashSet<Key>,
    /// The workloads as they were answered.
    pub workloads: HashMap<Key, Identity>,
    /// The rollback has begun: from here on the last good state is what is wanted.
    pub goes_back: bool,
    /// How often the containers had ended when the rollback began.
    pub restarts_before: Option<Restarts>,
}

impl Written for EksWritten {
    fn any(&self) -> bool {
        self.touched || self.migrated || self.buckets.get() > Extent::Nothing
    }
    fn touches_running(&self) -> bool {
        self.touched
    }
}

impl EksWritten {
    /// Notes what an apply was answered with.
    pub fn note(&mut self, key: Key, answer: &LiveObject, created: bool) {
        self.touched = true;
        self.unanswered.remove(&key);
        let meta = &answer.metadata;
        if created {
            self.created.push((key.clone(), meta.uid.clone().unwrap_or_default()));
        }
        if key.is_workload() {
            self.workloads.insert(key.clone(), Identity::of(answer));
        }
        self.generations.insert(key, meta.generation.unwrap_or_default());
    }

    /// Notes that nobody knows whether the object was written.
    pub fn note_doubt(&mut self, key: Key) {
        self.touched = true;
        self.unanswered.insert(key);
    }

    /// Whether `live` is what our last write of it left. What was never written is.
    pub fn is_ours(&self, key: &Key, live: &LiveObject) -> bool {
        let Some(written) = self.workloads.get(key) else { return true };
        // A read that is older than our write says nothing of it.
        let is_older = live.metadata.generation < self.generations.get(key).copied();
        let now = Identity::of(live);
        written.is_still(&now) || is_older && written.uid == now.uid
    }
}

/// What tells one version of a workload from another: its uid and what its pods are made from. The
/// count is an autoscaler's or a person's to change, and an annotation of the template only
/// restarts the same version (`kubectl rollout restart`).
#[derive(Clone, Debug)]
pub struct Identity {
    uid: Option<String>,
    spec: Value,
    /// The fields of the spec that are ours: one that somebody else changes is no longer among them.
    owned: Option<Value>,
    /// The fields of the spec that a person set.
    by_hand: Value,
}

impl Identity {
    pub fn of(live: &LiveObject) -> Identity {
        let mut spec = live.data.get("spec").cloned().unwrap_or_default();
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("replicas");
        }
        if let Some(Value::Object(metadata)) = spec.pointer_mut("/template/metadata") {
            metadata.remove("annotations");
        }
        let fields = find_own_fields(&live.metadata).and_then(|fields| fields.get("f:spec"));
        let mut owned = fields.cloned();
        if let Some(Value::Object(owned)) = &mut owned {
            owned.remove("f:replicas");
        }
        let by_hand = find_fields_by_hand(&live.metadata);
        Identity { uid: live.metadata.uid.clone(), spec, owned, by_hand }
    }

    /// Whether both are one version.
    pub fn is_same(&self, other: &Identity) -> bool {
        self.uid == other.uid && self.spec == other.spec
    }

    /// Whether it is the version that was written: as it was, or with fields that others have added
    /// and that were none of ours, as an injector does. A pause stops what was written.
    fn is_still(&self, now: &Identity) -> bool {
        let paused = |identity: &Identity| identity.spec.get("paused") == Some(&Value::Bool(true));
        let is_added_to = self.uid == now.uid
            && self.owned.is_some()
            && self.owned == now.owned
            && self.by_hand == now.by_hand
            && paused(self) == paused(now);
        self.is_same(now) || is_added_to
    }
}

/// The error when a workload is not any more what our write made it.
pub fn superseded(key: &Key) -> Error {
    let headline = format!("cannot go on with {}: somebody else changed it meanwhile", key.id());
    Error::new(Kind::Superseded, headline)
        .fix("see what runs with `cicd status`: this run leaves it alone")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live(change: impl Fn(&mut Value)) -> LiveObject {
        let mut value = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3, "managedFields": [
                {"manager": "cicd/p/staging", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}},
            ]},
            "spec": {"replicas": 2, "template": {
                "metadata": {"annotations": {"a": "b"}},
                "spec": {"containers": [{"name": "p", "env": [{"name": "A", "value": "1"}]}]},
            }},
        });
        change(&mut value);
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn a_workload_is_ours_while_it_is_what_our_write_left() {
        let key = Key::new("apps/v1", "Deployment", "n", "p");
        let mut written = EksWritten::default();
        written.note(key.clone(), &live(|_| {}), false);
        let env = |live: &mut Value, value: &str| {
            live["metadata"]["generation"] = 4.into();
            live["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = value.into();
            if value != "1" {
                live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"] = json!({});
            }
        };
        let at = |path: &'static str, value: Value| {
            live(move |live| {
                live["metadata"]["generation"] = 4.into();
                *live.pointer_mut(path).expect("a field") = value.clone();
            })
        };
        let cases = [
            ("as it was", live(|_| {}), true),
            ("scaled", at("/spec/replicas", 5.into()), true),
            ("restarted", at("/spec/template/metadata", json!({"annotations": {"x": "y"}})), true),
            ("its status moved on", live(|live| live["status"] = json!({"replicas": 2})), true),
            ("a variable was set", live(|live| env(live, "2")), false),
            (
                "a controller added a variable of its own",
                live(|live| {
                    env(live, "1");
                    let env = &mut live["spec"]["template"]["spec"]["containers"][0]["env"];
                    env.as_array_mut().expect("variables").push(json!({"name": "INJECTED"}));
                }),
                true,
            ),
            (
                "a person added a variable",
                live(|live| {
                    env(live, "1");
                    let env = &mut live["spec"]["template"]["spec"]["containers"][0]["env"];
                    env.as_array_mut().expect("variables").push(json!({"name": "BY"}));
                    let theirs = json!({"manager": "kubectl-set", "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {}}}});
                    live["metadata"]["managedFields"]
                        .as_array_mut()
                        .expect("managers")
                        .push(theirs);
                }),
                false,
            ),
            (
                "a variable of ours was taken over",
                live(|live| {
                    env(live, "2");
                    live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"] = json!({});
                }),
                false,
            ),
            (
                "paused",
                live(|live| {
                    live["metadata"]["generation"] = 4.into();
                    live["spec"]["paused"] = true.into();
                }),
                false,
            ),
            (
                "made anew",
                live(|live| {
                    live["metadata"]["generation"] = 1.into();
                    live["metadata"]["uid"] = "v".into();
                }),
                false,
            ),
            (
                "a read older than our write",
                live(|live| {
                    env(live, "0");
                    live["metadata"]["generation"] = 2.into();
                }),
                true,
            ),
        ];
        for (name, live, expected) in cases {
            assert_eq!(written.is_ours(&key, &live), expected, "{name}");
        }
        let other = Key::new("apps/v1", "Deployment", "n", "other");
        assert!(written.is_ours(&other, &live(|live| env(live, "2"))), "it was never written");
    }
}
