//! A Kubernetes object as the API server reads and writes it: JSON with a kind and a name. Pure.
//!
//! Objects stay JSON from rendering to the wire, so that a field this program has never heard of
//! survives.

use std::path::Path;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
/// An object as the API server has it.
pub use kube::api::DynamicObject as LiveObject;
use kube::core::Selector;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, Place, Result};

/// This program, as objects and their managers call it.
pub const PROGRAM: &str = "cicd";
/// Who keeps an object: on all that is rendered.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// One object. It always has `apiVersion`, `kind` and `metadata.name`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Object(Value);

/// What tells an object from every other one in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Key {
    pub api_version: String,
    pub kind: String,
    /// None for objects of the cluster itself, and for manifests that leave it to the environment.
    pub namespace: Option<String>,
    pub name: String,
}

impl Key {
    pub fn new(api_version: &str, kind: &str, namespace: &str, name: &str) -> Key {
        Key {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    /// Whether both name one object: its version does not matter, and what names no namespace is in
    /// the same one.
    pub fn is_same(&self, other: &Key) -> bool {
        (self.group(), &self.kind, &self.namespace, &self.name)
            == (other.group(), &other.kind, &other.namespace, &other.name)
    }

    /// `apps`; nothing for the API's core.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map(|(group, _)| group).unwrap_or_default()
    }

    /// Whether pods are made from a template of it, again and again.
    pub fn is_workload(&self) -> bool {
        let kinds = ["Deployment", "StatefulSet", "DaemonSet"];
        self.group() == "apps" && kinds.contains(&self.kind.as_str())
    }

    /// `Deployment/patients`, as reports name objects.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

impl Object {
    /// Takes `value` for an object.
    ///
    /// # Errors
    /// What it lacks to be one.
    pub fn new(value: Value) -> Result<Object, String> {
        let filled = |pointer: &str| {
            value.pointer(pointer).and_then(Value::as_str).is_some_and(|text| !text.is_empty())
        };
        for (pointer, field) in
            [("/apiVersion", "apiVersion"), ("/kind", "kind"), ("/metadata/name", "metadata.name")]
        {
            if !filled(pointer) {
                return Err(format!("`{field}` is missing or not a text"));
            }
        }
        // It becomes a segment of a path.
        let name = text(&value, "/metadata/name");
        if matches!(name, "." | "..") || name.contains(['/', '%', '?', '#']) {
            return Err(format!("`metadata.name` is no name: {name}"));
        }
        Ok(Object(value))
    }

    /// A live object.
    pub fn from_live(live: &LiveObject) -> Option<Object> {
        Object::new(serde_json::to_value(live).ok()?).ok()
    }

    /// As kube has it.
    pub fn to_dynamic(&self) -> Option<LiveObject> {
        LiveObject::deserialize(&self.0).ok()
    }

    pub fn value(&self) -> &Value {
        &self.0
    }

    pub fn key(&self) -> Key {
        Key {
            api_version: text(&self.0, "/apiVersion").into(),
            kind: self.kind().into(),
            namespace: self
                .0
                .pointer("/metadata/namespace")
                .and_then(Value::as_str)
                .map(str::to_string),
            name: self.name().into(),
        }
    }

    pub fn kind(&self) -> &str {
        text(&self.0, "/kind")
    }

    pub fn name(&self) -> &str {
        text(&self.0, "/metadata/name")
    }

    /// `Deployment/patients`.
    pub fn id(&self) -> String {
        self.key().id()
    }

    /// Whether its values must not be kept.
    pub fn is_secret(&self) -> bool {
        self.kind() == "Secret" && text(&self.0, "/apiVersion") == "v1"
    }

    /// Whether `other` can only be made once this is: its Namespace, or the definition of its kind.
    pub fn introduces(&self, other: &Key) -> bool {
        let defined = (text(&self.0, "/spec/group"), text(&self.0, "/spec/names/kind"));
        let is_its_namespace = (self.kind(), self.key().group()) == ("Namespace", "")
            && other.namespace.as_deref() == Some(self.name());
        is_its_namespace || self.is_definition() && defined == (other.group(), other.kind.as_str())
    }

    /// Whether it defines a kind.
    pub fn is_definition(&self) -> bool {
        let key = self.key();
        (key.group(), self.kind()) == ("apiextensions.k8s.io", "CustomResourceDefinition")
    }

    /// Whether the kind that this CustomResourceDefinition defines lives in namespaces.
    pub fn defines_namespaced(&self) -> bool {
        text(&self.0, "/spec/scope") == "Namespaced"
    }

    /// Whether it was rendered, and is none of the `manifests`.
    pub fn is_rendered(&self) -> bool {
        let labels = self.0.pointer("/metadata/labels");
        labels.and_then(|labels| labels.get(MANAGED_BY)?.as_str()) == Some(PROGRAM)
    }

    /// Whether it is the service's own Deployment.
    pub fn is_deployment_of(&self, service: &str) -> bool {
        let key = self.key();
        (key.api_version.as_str(), key.kind.as_str(), key.name.as_str())
            == ("apps/v1", "Deployment", service)
    }

    /// How the API server is asked for its pods, if its kind has any.
    pub fn pod_selector(&self) -> Option<Selector> {
        let key = self.key();
        match (key.api_version.as_str(), key.kind.as_str()) {
            ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") => {
                let selector = LabelSelector::deserialize(self.0.pointer("/spec/selector")?);
                selector.ok()?.try_into().ok()
            }
            ("batch/v1", "Job") => {
                Some([("batch.kubernetes.io/job-name".into(), key.name)].into_iter().collect())
            }
            _ => None,
        }
    }

    /// Whether its absence says that it is over: a Job goes some time after its end.
    pub fn removes_itself(&self) -> bool {
        self.0.pointer("/spec/ttlSecondsAfterFinished").is_some()
    }

    /// The object in `namespace`, when it names none itself.
    #[must_use]
    pub fn placed(mut self, namespace: &str) -> Object {
        if let Some(Value::Object(metadata)) = self.0.get_mut("metadata")
            && !metadata.contains_key("namespace")
        {
            // Where a reader looks for it: after the name.
            metadata.shift_insert(1.min(metadata.len()), "namespace".into(), namespace.into());
        }
        self
    }

    /// Sets an annotation of its pod template.
    pub fn annotate_template(&mut self, name: &str, value: &str) {
        let template = self.0.pointer_mut("/spec/template").and_then(Value::as_object_mut);
        if let Some(template) = template {
            merge(template, json!({"metadata": {"annotations": {name: value}}}));
        }
    }

    /// Has its pods run as another user than root, as a namespace wants that enforces the Pod
    /// Security Standard `restricted`.
    pub fn forbid_root(&mut self) {
        for pod in ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec"] {
            if let Some(pod) = self.0.pointer_mut(pod).and_then(Value::as_object_mut) {
                merge(pod, json!({"securityContext": {"runAsNonRoot": true}}));
            }
        }
    }

    pub fn annotate(&mut self, name: &str, value: &str) {
        if let Value::Object(fields) = &mut self.0 {
            merge(fields, json!({"metadata": {"annotations": {name: value}}}));
        }
    }

    /// Adds labels to its pod template.
    pub fn label_template(&mut self, labels: Value) {
        self.merge_at("/spec/template", json!({"metadata": {"labels": labels}}));
    }

    /// Adds `fields` to an object that it has.
    pub fn merge_at(&mut self, pointer: &str, fields: Value) {
        if let Some(Value::Object(object)) = self.0.pointer_mut(pointer) {
            merge(object, fields);
        }
    }

    /// Sets a field that it has.
    pub fn set(&mut self, pointer: &str, value: Value) {
        if let Some(field) = self.0.pointer_mut(pointer) {
            *field = value;
        }
    }

    /// The object without a field: what an apply of it lets go of is all that its manager had.
    pub fn bare(key: &Key) -> Option<Object> {
        let Key { api_version, kind, namespace, name } = key;
        let mut metadata = json!({ "name": name });
        if let Some(namespace) = namespace {
            metadata["namespace"] = namespace.as_str().into();
        }
        Object::new(json!({"apiVersion": api_version, "kind": kind, "metadata": metadata})).ok()
    }

    /// Leaves its count to others.
    pub fn drop_replicas(&mut self) {
        if let Some(Value::Object(spec)) = self.0.get_mut("spec") {
            spec.shift_remove("replicas");
        }
    }

    /// Adds the fields of `other`, which win.
    pub fn merge_with(&mut self, other: Object) {
        if let Value::Object(fields) = &mut self.0 {
            merge(fields, other.0);
        }
    }

    /// A live object as somebody would have written it: without what the API server and controllers
    /// add.
    #[must_use]
    pub fn into_written(mut self) -> Object {
        strip(&mut self.0);
        if let Some(Value::Object(annotations)) = self.0.pointer_mut("/metadata/annotations") {
            annotations.retain(|name, _| !name.starts_with("deployment.kubernetes.io/"));
        }
        self
    }
}

/// Merges objects field by field; anything else is replaced.
pub fn merge(into: &mut Map<String, Value>, from: Value) {
    let Value::Object(from) = from else { return };
    for (key, value) in from {
        match into.get_mut(&key) {
            Some(Value::Object(fields)) if value.is_object() => merge(fields, value),
            _ => {
                into.insert(key, value);
            }
        }
    }
}

/// The text at `pointer`, or nothing.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Takes out of an object what only the API server writes.
pub fn strip(value: &mut Value) {
    if let Value::Object(object) = value {
        object.shift_remove("status");
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            for field in [
                "managedFields",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "uid",
                "selfLink",
            ] {
                metadata.shift_remove(field);
            }
        }
    }
}

/// Reads the objects of a manifest, which may be several YAML documents. `file` is only named in
/// errors.
///
/// # Errors
/// Bad input with the file and, where the parser knows it, line and column.
pub fn read_manifest(content: &str, file: &Path) -> Result<Vec<Object>> {
    // As kubectl reads them: `defaultMode: 0400` is 256.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let documents: Vec<Option<Map<String, Value>>> =
        serde_saphyr::from_multiple_with_options(content, options).map_err(|error| {
            let wrong = Error::input("cannot read a manifest: it is no YAML object")
                .why(error.without_snippet())
                .fix("correct the YAML at that place");
            match error.location() {
                Some(location) => wrong.at(Place {
                    file: file.into(),
                    line: location.line(),
                    column: location.column(),
                }),
                None => wrong.at(Place { file: file.into(), line: 1, column: 1 }),
            }
        })?;
    let objects = documents
        .into_iter()
        .enumerate()
        .filter_map(|(index, document)| Some((index + 1, document?)));
    objects
        .map(|(number, document)| {
            let wrong = |why: String| {
                Error::input(format!(
                    "cannot read {}: document {number} is no Kubernetes object",
                    file.display()
                ))
                .why(why)
            };
            let object = Object::new(Value::Object(document)).map_err(|why| {
                wrong(why).fix("give each document apiVersion, kind and metadata.name")
            })?;
            if object.kind().ends_with("List") && object.value().get("items").is_some() {
                return Err(
                    wrong("it is a list of objects".into()).fix("write one document an object")
                );
            }
            Ok(object)
        })
        .collect()
}

/// Objects as YAML documents.
///
/// # Errors
/// Unexpected, when the serialiser cannot write one.
pub fn to_yaml(objects: &[Object]) -> Result<String> {
    // A digest makes an image reference long; folding it over lines would only hide it.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: 4096 };
    serde_saphyr::to_string_multiple_with_options(objects, options)
        .map_err(|error| Error::unexpected("cannot write the manifests as YAML").why(error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Kind;

    #[test]
    fn manifests_are_read_or_refused() {
        let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
        let cases = [
            (config.to_string(), Ok("ConfigMap/a")),
            (
                format!(
                    "---\n{config}---\n# nothing\n---\n{}",
                    config.replace("name: a", "name: b")
                ),
                Ok("ConfigMap/a ConfigMap/b"),
            ),
            (String::new(), Ok("")),
            ("apiVersion: v1\nkind: ConfigMap\n".into(), Err("`metadata.name` is missing")),
            ("kind: ConfigMap\nmetadata: {name: a}\n".into(), Err("`apiVersion` is missing")),
            (
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a-}\n".into(),
                Err("`metadata.name`"),
            ),
            (
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a/../../secrets/b}\n".into(),
                Err("`metadata.name` is no name"),
            ),
            (
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 'a?dryRun=All'}\n".into(),
                Err("`metadata.name` is no name"),
            ),
            (
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 5}\n".into(),
                Err("`metadata.name`"),
            ),
            (
                "apiVersion: v1\nkind: List\nmetadata: {name: x}\nitems: []\n".into(),
                Err("a list of objects"),
            ),
            ("- a\n- b\n".into(), Err("cannot read a manifest")),
            ("apiVersion: [\n".into(), Err("cannot read a manifest")),
        ];
        for (text, expected) in cases {
            let read = read_manifest(&text, Path::new("extra.yaml"));
            match (read, expected) {
                (Ok(objects), Ok(ids)) => {
                    assert_eq!(
                        objects.iter().map(Object::id).collect::<Vec<_>>().join(" "),
                        ids,
                        "{text}"
                    );
                }
                (Err(error), Err(why)) => {
                    assert!(error.to_string().contains(why), "{text}: {error}");
                    assert!(error.to_string().contains("extra.yaml"), "{text}: {error}");
                    assert_eq!(error.kind, Kind::Input);
                }
                (read, expected) => panic!("{text}: {read:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn numbers_are_those_of_kubectl() {
        let text =
            "apiVersion: v1\nkind: X\nmetadata: {name: a}\nmode: 0400\nlong: 400\nid: '0400'\n";
        let objects = read_manifest(text, Path::new("x.yaml")).expect("an object");
        let value = objects[0].value();
        assert_eq!(
            (&value["mode"], &value["long"], &value["id"]),
            (&json!(256), &json!(400), &json!("0400"))
        );
    }

    #[test]
    fn a_live_object_goes_back_to_what_was_written() {
        let live = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "p", "uid": "u", "resourceVersion": "7", "generation": 3, "creationTimestamp": "t",
                "managedFields": [], "annotations": {"deployment.kubernetes.io/revision": "4", "team": "a"}},
            "spec": {"replicas": 2}, "status": {"replicas": 2}});
        let written = Object::new(live).expect("an object").into_written();
        let expected = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "p", "annotations": {"team": "a"}}, "spec": {"replicas": 2}});
        assert_eq!(written.value(), &expected);
    }

    #[test]
    fn a_namespace_of_its_own_is_kept() {
        let object =
            |value| Object::new(value).expect("an object").placed("staging").key().namespace;
        let plain = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        let own = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "other"}});
        assert_eq!(object(plain).as_deref(), Some("staging"));
        assert_eq!(object(own).as_deref(), Some("other"));
    }

    #[test]
    fn yaml_is_read_back_as_it_was() {
        let object = Object::new(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
            "data": {"yes": "no", "number": "5", "long": "x y ".repeat(60), "image": format!("h/n@sha256:{}", "0".repeat(64)),
                "lines": "a\nb\n", "empty": "", "colon": "a: b", "on": "true", "octal": "0777", "time": "12:30:00"}}))
        .expect("an object");
        let text = to_yaml(&[object.clone(), object.clone()]).expect("YAML");
        assert_eq!(read_manifest(&text, Path::new("x")).expect("read"), [object.clone(), object]);
        assert!(text.contains(&format!("image: h/n@sha256:{}", "0".repeat(64))), "{text}");
    }
}
