//! What pods are configured by → a hash in their template, so that a change of it reaches them.
//! Pure.
//!
//! Variables of a ConfigMap or Secret keep their value for a container's whole life:
//! <https://kubernetes.io/docs/concepts/configuration/secret/#using-secrets-as-environment-variables>

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::object::Object;
use crate::digest::Digest;

/// Where a pod template names what it is configured by.
const CONFIGURATION: &str = "cicd.clinicult.io/configuration";

/// A ConfigMap or Secret that a pod refers to: its kind and name.
pub type Reference = (&'static str, String);

/// What the templates of `objects` refer to.
pub fn find_references(objects: &[Object]) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    for object in objects.iter().filter(|object| object.key().is_workload()) {
        collect_references(
            object.value().pointer("/spec/template/spec").unwrap_or(&Value::Null),
            &mut found,
        );
    }
    found
}

/// Notes in each workload's template a hash of the ConfigMaps and Secrets that it refers to: the
/// content of those among `objects`, and the versions of the Secrets that are there already.
pub fn mark_templates(objects: &mut [Object], versions: &BTreeMap<String, String>) {
    let contents: BTreeMap<Reference, Value> = objects.iter().filter_map(read_content).collect();
    for object in objects.iter_mut().filter(|object| object.key().is_workload()) {
        let mut references = BTreeSet::new();
        let template = object.value().pointer("/spec/template/spec");
        collect_references(template.unwrap_or(&Value::Null), &mut references);
        let known: Vec<Value> = references
            .into_iter()
            .filter_map(|reference| {
                let version = || versions.get(&reference.1).filter(|_| reference.0 == "Secret");
                let content = contents.get(&reference).cloned();
                let content = content.or_else(|| version().map(|version| json!(version)))?;
                Some(json!([reference.0, reference.1, content]))
            })
            .collect();
        if !known.is_empty() {
            let hash = Digest::of(json!(known).to_string().as_bytes());
            object.annotate_template(CONFIGURATION, hash.short());
        }
    }
}

fn read_content(object: &Object) -> Option<(Reference, Value)> {
    let kind = ["ConfigMap", "Secret"].into_iter().find(|kind| *kind == object.kind())?;
    let part = |field: &str| object.value().get(field).cloned().unwrap_or_default();
    let content = json!([part("data"), part("binaryData"), part("stringData")]);
    Some(((kind, object.name().to_string()), content))
}

/// Finds the references of a pod: `envFrom`, `valueFrom`, volumes and projected ones name them by
/// these keys.
fn collect_references(value: &Value, found: &mut BTreeSet<Reference>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let kind = match key.as_str() {
                    "configMapRef" | "configMapKeyRef" | "configMap" => Some("ConfigMap"),
                    "secretRef" | "secretKeyRef" | "secret" => Some("Secret"),
                    _ => None,
                };
                let name = field.get("name").or_else(|| field.get("secretName"));
                if let (Some(kind), Some(name)) = (kind, name.and_then(Value::as_str)) {
                    found.insert((kind, name.to_string()));
                }
                collect_references(field, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_references(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(spec: Value) -> Object {
        let value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "p"},
            "spec": {"template": {"spec": spec}},
        });
        Object::new(value).expect("an object")
    }

    fn config(kind: &str, name: &str, value: &str) -> Object {
        let value = json!({
            "apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": {"a": value},
        });
        Object::new(value).expect("an object")
    }

    fn mark_of(mut objects: Vec<Object>, version: &str) -> Option<String> {
        mark_templates(&mut objects, &BTreeMap::from([("there".into(), version.into())]));
        let annotations = objects[0].value().pointer("/spec/template/metadata/annotations")?;
        Some(annotations[CONFIGURATION].as_str()?.to_string())
    }

    #[test]
    fn a_template_is_marked_by_what_it_refers_to() {
        let refers = [
            json!({"containers": [{"envFrom": [{"configMapRef": {"name": "c"}}]}]}),
            json!({"initContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "c", "key": "a"}}}]}]}),
            json!({"volumes": [{"configMap": {"name": "c"}}]}),
            json!({"volumes": [{"projected": {"sources": [{"configMap": {"name": "c"}}]}}]}),
        ];
        for spec in refers {
            let mark =
                |value| mark_of(vec![workload(spec.clone()), config("ConfigMap", "c", value)], "1");
            assert!(mark("x").is_some() && mark("x") == mark("x"), "{spec}");
            assert_ne!(mark("x"), mark("y"), "{spec}");
        }
        let secret = json!({"volumes": [{"secret": {"secretName": "s"}}]});
        let mark =
            |value| mark_of(vec![workload(secret.clone()), config("Secret", "s", value)], "1");
        assert_ne!(mark("x"), mark("y"));
        let there = json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "there", "key": "a"}}}]}]});
        let mark = |version| mark_of(vec![workload(there.clone())], version);
        assert_ne!(mark("1"), mark("2"), "a Secret that was rotated");
        let elsewhere = json!({"containers": [{"envFrom": [{"configMapRef": {"name": "x"}}]}]});
        let objects = vec![workload(elsewhere), config("ConfigMap", "c", "x")];
        assert_eq!(mark_of(objects, "1"), None, "nothing is known of what it refers to");
    }
}
