//! Who manages which fields of an object: we, those we take over from, and those who have a claim
//! of their own on it. Pure.
//!
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers>

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use serde_json::{Map, Value};

use super::object::{LiveObject, Object, PROGRAM, merge};

/// Who puts back what a deploy found.
pub const UNDO: &str = "cicd-undo";
/// Holds a Deployment's count between us and the autoscaler.
pub const REPLICAS: &str = "cicd-replicas";
/// The longest name of a manager.
const LONGEST: usize = 128;

/// Whose fields become ours, wherever they are found: client-side `kubectl apply`, the API server's
/// name for what nobody claimed, and this program's own other names.
const FORMER: [&str; 4] = ["kubectl-client-side-apply", "before-first-apply", PROGRAM, UNDO];
/// Whose fields become ours on the objects of the service itself, which one tool deploys.
const FORMER_OF_SERVICE: [&str; 2] = ["helm", "Helm"];
/// Who deploys objects, by how the name begins: such a manager wants the object to be there.
const DEPLOYERS: [&str; 13] = [
    "Terraform",
    "HashiCorp",
    "argocd",
    "cicd/",
    "flux",
    "helm",
    "Helm",
    "kapp",
    "kubectl-client-side-apply",
    "kustomize-controller",
    "nelm",
    "pulumi",
    "werf",
];

/// Tools that people use by hand, by how their managers' names begin.
const PEOPLE: [&str; 7] = ["kubectl", "k9s", "lens", "Lens", "Mozilla", "headlamp", "rancher"];

/// The manager of what a service sets in an environment. Two that share a namespace are two
/// managers, so that neither takes the other's fields or objects for its own.
pub fn name_manager(service: &str, environment: &str) -> String {
    format!("{PROGRAM}/{service}/{environment}").chars().take(LONGEST).collect()
}

/// Whether it deploys a service as this program.
pub fn is_deployer(manager: &str) -> bool {
    manager == PROGRAM || manager.starts_with("cicd/")
}

/// Tools whose fields a deploy may take over: they are what somebody ran by hand, or what deployed
/// before. Anything else is a controller, or another service, that would take them back.
pub fn may_take_over(manager: &str) -> bool {
    [PROGRAM, UNDO, REPLICAS].contains(&manager)
        || ["kubectl", "helm", "Helm"].iter().any(|known| manager.starts_with(known))
}

/// Those who want the object as well as `own` does.
pub fn find_claims(meta: &ObjectMeta, own: &str) -> Vec<String> {
    let entries = meta.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
    let claims = entries.filter_map(|entry| {
        let manager = entry.manager.as_deref()?;
        let applies = manager == "kubectl" && entry.operation.as_deref() == Some("Apply");
        let claims = applies || DEPLOYERS.iter().any(|known| manager.starts_with(known));
        (claims && manager != own).then(|| manager.to_string())
    });
    claims.collect()
}

/// The fields that this program applied.
pub fn find_own_fields(meta: &ObjectMeta) -> Option<&Value> {
    let is_own = |entry: &&ManagedFieldsEntry| {
        entry.manager.as_deref().is_some_and(is_deployer)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.is_none()
    };
    let entry = meta.managed_fields.iter().flatten().find(is_own)?;
    entry.fields_v1.as_ref().map(|fields| &fields.0)
}

/// The fields of the spec that people set, but for the count.
pub fn find_fields_by_hand(meta: &ObjectMeta) -> Value {
    let is_person = |entry: &&ManagedFieldsEntry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        entry.subresource.is_none() && PEOPLE.iter().any(|known| manager.starts_with(known))
    };
    let mut fields = Map::new();
    for entry in meta.managed_fields.iter().flatten().filter(is_person) {
        merge(&mut fields, read_fields(entry.clone()));
    }
    let mut spec = fields.remove("f:spec").unwrap_or_default();
    if let Value::Object(spec) = &mut spec {
        spec.remove("f:replicas");
    }
    spec
}

/// Whether one of its managers is such a one.
pub fn is_managed_by(meta: &ObjectMeta, is_such: impl Fn(&str) -> bool) -> bool {
    let managers =
        meta.managed_fields.iter().flatten().filter_map(|entry| entry.manager.as_deref());
    managers.into_iter().any(is_such)
}

/// Whether the count of a Deployment is ours, or will be by taking over.
pub fn owns_replicas(live: &LiveObject) -> bool {
    let owns = |entry: &ManagedFieldsEntry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        let fields = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec"));
        let is_ours = is_deployer(manager) || is_former(entry, true);
        is_ours && fields.is_some_and(|spec| spec.get("f:replicas").is_some())
    };
    live.metadata.managed_fields.iter().flatten().any(owns)
}

/// Whether somebody changed by hand what the pods are made from, after the last apply.
pub fn is_changed_by_hand(live: &LiveObject) -> bool {
    let by_hand = |entry: &ManagedFieldsEntry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        let fields = entry.fields_v1.as_ref();
        let pod = fields.and_then(|fields| fields.0.pointer("/f:spec/f:template/f:spec"));
        !is_deployer(manager) && !is_former(entry, true) && pod.is_some()
    };
    live.metadata.managed_fields.iter().flatten().any(by_hand)
}

/// The entries of `live` once the fields of former managers are those of `own`. `None` if there are
/// none to hand over.
pub fn hand_over(live: &LiveObject, object: &Object, own: &str) -> Option<Vec<ManagedFieldsEntry>> {
    let (former, mut kept) = split_entries(live, object);
    let former: Vec<Value> = former.into_iter().map(read_fields).collect();
    if former.is_empty() {
        return None;
    }
    let version = object.key().api_version;
    let is_own = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(own)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.is_none()
            && entry.api_version.as_ref() == Some(&version)
    };
    let at = kept.iter().position(is_own).unwrap_or_else(|| {
        kept.push(ManagedFieldsEntry {
            api_version: Some(version.clone()),
            fields_type: Some("FieldsV1".into()),
            manager: Some(own.into()),
            operation: Some("Apply".into()),
            ..ManagedFieldsEntry::default()
        });
        kept.len() - 1
    });
    let mut fields = as_map(read_fields(kept[at].clone()));
    former.into_iter().for_each(|fields_of_it| merge(&mut fields, fields_of_it));
    kept[at].fields_v1 = Some(FieldsV1(Value::Object(fields)));
    Some(kept)
}

/// Takes out of the `answer` to a dry run what goes once the fields of former managers are ours:
/// what `object` does not have, and nobody else manages.
pub fn drop_left_fields(answer: &mut LiveObject, live: &LiveObject, object: &Object, own: &str) {
    let (former, kept) = split_entries(live, object);
    let of_answer = answer.metadata.managed_fields.iter().flatten();
    let ours = of_answer.filter(|entry| entry.manager.as_deref() == Some(own)).cloned();
    let others = kept.into_iter().filter(|entry| entry.manager.as_deref() != Some(own));
    let mut stays = Map::new();
    others.chain(ours).for_each(|entry| merge(&mut stays, read_fields(entry)));
    let mut left = Map::new();
    former.into_iter().for_each(|entry| merge(&mut left, read_fields(entry)));
    let Ok(mut value) = serde_json::to_value(&*answer) else { return };
    remove_fields(&mut value, &left, &stays);
    if let Ok(rest) = serde_json::from_value(value) {
        *answer = rest;
    }
}

/// The entries that are handed over, and the others.
fn split_entries(
    live: &LiveObject,
    object: &Object,
) -> (Vec<ManagedFieldsEntry>, Vec<ManagedFieldsEntry>) {
    let version = object.key().api_version;
    let all = live.metadata.managed_fields.iter().flatten().cloned();
    all.partition(|entry| {
        entry.api_version.as_ref() == Some(&version) && is_former(entry, object.is_rendered())
    })
}

/// `of_service`: the object is of the service itself.
fn is_former(entry: &ManagedFieldsEntry, of_service: bool) -> bool {
    let manager = entry.manager.as_deref().unwrap_or_default();
    let applied = entry.operation.as_deref() == Some("Apply");
    let tool = FORMER_OF_SERVICE.contains(&manager) || manager == "kubectl" && applied;
    entry.subresource.is_none() && (FORMER.contains(&manager) || of_service && tool)
}

fn read_fields(entry: ManagedFieldsEntry) -> Value {
    entry.fields_v1.map(|fields| fields.0).unwrap_or_default()
}

fn as_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Removes the fields of the set `left` that are not in the set `stays`.
/// <https://github.com/kubernetes-sigs/structured-merge-diff/blob/master/fieldpath/serialize.go>
fn remove_fields(value: &mut Value, left: &Map<String, Value>, stays: &Map<String, Value>) {
    for (name, below) in left.iter().filter(|(name, _)| *name != ".") {
        match (stays.get(name), below) {
            (Some(Value::Object(stays)), Value::Object(below)) => {
                if let Some(child) = find_child(value, name) {
                    remove_fields(child, below, stays);
                }
            }
            (Some(_), _) => {}
            (None, _) => remove_child(value, name),
        }
    }
}

fn find_child<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    match name.split_once(':')? {
        ("f", field) => value.get_mut(field),
        _ => value.as_array_mut()?.iter_mut().find(|item| is_item(item, name)),
    }
}

fn remove_child(value: &mut Value, name: &str) {
    match (value, name.split_once(':')) {
        (Value::Object(fields), Some(("f", field))) => {
            fields.shift_remove(field);
        }
        (Value::Array(items), _) => items.retain(|item| !is_item(item, name)),
        _ => {}
    }
}

/// Whether an item of a list is the one that a set calls `k:{…}`, by its keys, or `v:…`, by its
/// value.
fn is_item(item: &Value, name: &str) -> bool {
    let Some((how, json)) = name.split_once(':') else { return false };
    let Ok(wanted) = serde_json::from_str::<Value>(json) else { return false };
    match (how, wanted) {
        ("k", Value::Object(keys)) => keys.iter().all(|(key, value)| item.get(key) == Some(value)),
        ("v", value) => *item == value,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OWN: &str = "cicd/p/staging";

    fn entry(manager: &str, operation: &str, fields: Value) -> Value {
        json!({
            "manager": manager, "operation": operation, "apiVersion": "apps/v1",
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        })
    }

    fn live(entries: Vec<Value>) -> LiveObject {
        let value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "p", "managedFields": entries},
            "spec": {"paused": true, "replicas": 2, "containers": [
                {"name": "p", "env": [{"name": "OLD", "value": "1"}, {"name": "NEW", "value": "1"}]},
                {"name": "sidecar"},
            ], "finalizers": ["a", "b"]},
        });
        serde_json::from_value(value).expect("an object")
    }

    fn object(labels: Value) -> Object {
        let value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "p", "labels": labels},
        });
        Object::new(value).expect("an object")
    }

    fn rendered() -> Object {
        object(json!({"app.kubernetes.io/managed-by": "cicd"}))
    }

    fn container(name: &str) -> String {
        format!("k:{}", json!({"name": name}))
    }

    #[test]
    fn the_fields_of_former_managers_are_handed_over() {
        let managers = |entries: Vec<Value>, object: &Object| {
            let handed = hand_over(&live(entries), object, OWN)?;
            let name = |entry: ManagedFieldsEntry| {
                let fields = entry.fields_v1.map(|fields| fields.0).unwrap_or_default();
                format!("{} {fields}", entry.manager.unwrap_or_default())
            };
            Some(handed.into_iter().map(name).collect::<Vec<_>>().join("; "))
        };
        let old = || entry("kubectl-client-side-apply", "Update", json!({"f:a": {"f:b": {}}}));
        let ours = || entry(OWN, "Apply", json!({"f:a": {"f:c": {}}}));
        let helm = || entry("helm", "Update", json!({"f:h": {}}));
        let plain = object(json!({}));
        let cases = [
            (vec![ours()], &plain, None),
            (vec![old()], &plain, Some(format!(r#"{OWN} {{"f:a":{{"f:b":{{}}}}}}"#))),
            (
                vec![ours(), old()],
                &plain,
                Some(format!(r#"{OWN} {{"f:a":{{"f:c":{{}},"f:b":{{}}}}}}"#)),
            ),
            // A release of helm may share what stands in `manifests`.
            (vec![helm()], &plain, None),
            (vec![helm()], &rendered(), Some(format!(r#"{OWN} {{"f:h":{{}}}}"#))),
            (vec![entry("kubectl-edit", "Update", json!({"f:h": {}}))], &rendered(), None),
            (vec![entry("cicd/other/staging", "Apply", json!({"f:h": {}}))], &rendered(), None),
        ];
        for (entries, object, expected) in cases {
            assert_eq!(managers(entries.clone(), object), expected, "{entries:?}");
        }
    }

    #[test]
    fn what_only_former_managers_had_goes() {
        let old = json!({"f:spec": {
            "f:paused": {}, "f:replicas": {},
            "f:containers": {
                container("p"): {".": {}, "f:name": {}, "f:env": {
                    container("OLD"): {".": {}, "f:name": {}, "f:value": {}},
                    container("NEW"): {".": {}, "f:name": {}, "f:value": {}},
                }},
                container("sidecar"): {".": {}, "f:name": {}},
            },
            "f:finalizers": {"v:\"a\"": {}, "v:\"b\"": {}},
        }});
        let ours = json!({"f:spec": {
            "f:containers": {container("p"): {".": {}, "f:name": {}, "f:env": {
                container("NEW"): {".": {}, "f:name": {}, "f:value": {}},
            }}},
            "f:finalizers": {"v:\"b\"": {}},
        }});
        let scaler = json!({"f:spec": {"f:replicas": {}}});
        let before = live(vec![
            entry("kubectl-client-side-apply", "Update", old),
            entry("scaler", "Update", scaler),
        ]);
        let mut answer = live(vec![entry(OWN, "Apply", ours)]);
        drop_left_fields(&mut answer, &before, &rendered(), OWN);
        let expected = json!({"replicas": 2, "containers": [
            {"name": "p", "env": [{"name": "NEW", "value": "1"}]},
        ], "finalizers": ["b"]});
        assert_eq!(answer.data["spec"], expected);
    }

    #[test]
    fn an_object_that_others_want_is_claimed() {
        let fields = || json!({"f:data": {}});
        let claims = |manager: &str, operation: &str| {
            let entries = vec![entry(OWN, "Apply", fields()), entry(manager, operation, fields())];
            find_claims(&live(entries).metadata, OWN)
        };
        for (manager, operation, claimed) in [
            ("cicd/other/staging", "Apply", true),
            ("cicd/p/production", "Apply", true),
            ("helm", "Update", true),
            ("argocd-controller", "Apply", true),
            ("kubectl", "Apply", true),
            ("kubectl-edit", "Update", false),
            ("cicd", "Apply", false),
            ("cert-manager", "Apply", false),
        ] {
            let expected = if claimed { vec![manager.to_string()] } else { Vec::new() };
            assert_eq!(claims(manager, operation), expected, "{manager}");
        }
        assert!(may_take_over("kubectl-edit") && may_take_over("helm") && may_take_over("cicd"));
        assert!(!may_take_over("argocd-controller") && !may_take_over("cicd/other/staging"));
    }
}
