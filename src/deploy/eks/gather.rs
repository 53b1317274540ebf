//! What is to stand in the cluster: the rendered objects and those of `manifests`, fitted to what is
//! there already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::configuration::{find_references, mark_templates};
use super::managers::{is_deployer, is_managed_by};
use super::object::{Key, LiveObject, Object, read_manifest, to_yaml};
use super::render::{self, NAME, PART_OF};
use super::{Eks, api, plan};
use crate::config::platform;
use crate::deploy::{Order, Sources, storage};
use crate::error::{Error, Result};
use crate::inside::{Denied, What};

/// Where a Deployment notes that its Service leads to a port by its number, and what it calls that:
/// `8000/web`.
const TARGET_PORT: &str = "cicd.clinicult.io/target-port";

impl Eks {
    /// Marks the templates by their configuration, and fits them to the namespace.
    pub(super) async fn finish_objects(&self, objects: &mut [Object], service: &str) -> Result<()> {
        match self.api.get(&self.deployment_key(service)).await {
            Ok(Some(live)) => {
                let theirs = match is_foreign(&live) {
                    true => self.api.get(&self.service_key(service)).await?,
                    false => None,
                };
                adopt_pods(objects, service, &live, theirs.as_ref());
            }
            Ok(None) => {}
            // What comes next says what is not permitted.
            Err(failure) if failure.code() == Some(403) => {}
            Err(failure) => return Err(failure.into()),
        }
        let mut versions = BTreeMap::new();
        let ours: Vec<Key> = objects.iter().map(Object::key).collect();
        for (kind, name) in find_references(objects) {
            let key = Key::new("v1", kind, &self.caller.namespace, &name);
            if kind != "Secret" || ours.contains(&key) {
                continue;
            }
            match self.api.find_version(&key).await {
                Ok(version) => versions.extend(version.map(|version| (name, version))),
                // Who may not look goes without.
                Err(failure) if failure.code() == Some(403) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        mark_templates(objects, &versions);
        let is_own = |object: &&mut Object| {
            let part_of = object.value().pointer("/metadata/labels").and_then(|at| at.get(PART_OF));
            object.is_deployment_of(service) || part_of.is_some_and(|part| part == service)
        };
        if self.is_restricted {
            objects.iter_mut().filter(is_own).for_each(Object::forbid_root);
        }
        Ok(())
    }
}

/// A selector cannot change. Where something else made the Deployment with another one, that stays:
/// the new pods and the Service take it on, so that pods of both versions serve in between.
/// `theirs`: the Service of whoever deployed before.
fn adopt_pods(
    objects: &mut [Object],
    service: &str,
    live: &LiveObject,
    theirs: Option<&LiveObject>,
) {
    let selector = live.data.pointer("/spec/selector");
    let only_labels = selector.is_some_and(|selector| selector.get("matchExpressions").is_none());
    let labels = selector.and_then(|selector| selector.get("matchLabels")).filter(|_| only_labels);
    let Some(labels) = labels else { return };
    let is_other = *labels != json!({NAME: service});
    let notes = live.metadata.annotations.as_ref();
    let noted = notes.and_then(|notes| notes.get(TARGET_PORT)?.split_once('/'));
    let noted = noted.map(|(port, name)| (port.to_string(), name.to_string()));
    let of_service = |object: &&mut Object| object.is_rendered() && object.name() == service;
    let port = objects.iter().find(|object| object.kind() == "Service" && object.is_rendered());
    let port = port.and_then(|service| service.value().pointer("/spec/ports/0/port")).cloned();
    let port = port.unwrap_or_default();
    // Pods of before may have no port of our name, and a port of a Service that is called otherwise
    // is for a moment one without pods. Once taken over, number and name stay.
    let adopted = noted.or_else(|| Some((port.to_string(), read_port_name(theirs?, &port)?)));
    let number = port.to_string();
    let adopted = adopted.filter(|(noted, _)| *noted == number);
    for object in objects.iter_mut().filter(of_service) {
        if let Some((number, name)) = &adopted {
            match object.kind() {
                "Deployment" => object.annotate(TARGET_PORT, &format!("{number}/{name}")),
                "Service" => {
                    let mut wanted = json!({"port": port, "protocol": "TCP", "targetPort": port});
                    if !name.is_empty() {
                        wanted["name"] = name.as_str().into();
                    }
                    object.set("/spec/ports/0", wanted);
                }
                "Ingress" => {
                    let backend = "/spec/rules/0/http/paths/0/backend/service/port";
                    object.set(backend, json!({ "number": port }));
                }
                _ => {}
            }
        }
        match object.kind() {
            "Deployment" if is_other => {
                object.set("/spec/selector/matchLabels", labels.clone());
                object.label_template(labels.clone());
                let spread = "/spec/template/spec/topologySpreadConstraints/0/labelSelector";
                object.set(spread, json!({ "matchLabels": labels }));
            }
            "PodDisruptionBudget" if is_other => {
                object.set("/spec/selector/matchLabels", labels.clone());
            }
            "Service" if is_other => object.set("/spec/selector", labels.clone()),
            _ => {}
        }
    }
}

/// Whether something else made it.
fn is_foreign(live: &LiveObject) -> bool {
    !is_managed_by(&live.metadata, is_deployer)
}

/// What a Service calls a port that it has; nothing if it has no name for it.
fn read_port_name(service: &LiveObject, port: &Value) -> Option<String> {
    let ports = service.data.pointer("/spec/ports")?.as_array()?;
    let found = ports.iter().find(|found| found.get("port") == Some(port))?;
    Some(found.get("name").and_then(Value::as_str).unwrap_or_default().to_string())
}

/// The service's own objects and those of its manifests.
pub fn collect_objects(
    order: &Order,
    cluster: &platform::Eks,
    sources: &Sources,
) -> Result<Vec<Object>> {
    let mut objects =
        render::objects(order, cluster, |storage| Some(storage::bucket_name(order, storage)))?;
    let named = order.settings.manifests.iter().map(|named| sources.folder.join(named));
    let files: Vec<Vec<PathBuf>> =
        named.map(|path| list_manifests(path, sources)).collect::<Result<_>>()?;
    for file in files.into_iter().flatten() {
        let content = sources.tree.read(&file).map_err(|denied| match denied.is_missing() {
            true => Error::input(format!("cannot read {}", file.display()))
                .why(denied)
                .fix("name YAML files, relative to service.yaml, in its `manifests`"),
            false => denied.into_error("read", &file),
        })?;
        for object in read_manifest(&content, &file)? {
            let key = object.clone().placed(cluster.namespace.as_str()).key();
            let placed = |known: &Object| known.clone().placed(cluster.namespace.as_str()).key();
            let mut known = objects.iter_mut();
            let known = known.find(|known| placed(known).is_same(&key));
            // Its own ServiceAccount may be told more: the role that its pods take on.
            if let Some(known) = known {
                if object.kind() == "ServiceAccount" && object.name() == order.settings.name {
                    known.merge_with(object);
                    continue;
                }
                return Err(Error::input(format!(
                    "cannot apply {} of {}: it stands twice",
                    object.id(),
                    file.display()
                ))
                .why("service.yaml or another manifest says it already")
                .fix("take it out of the manifest, or give it another name"));
            }
            refuse_users_requests(&object, &order.settings.name, &file)?;
            objects.push(object);
        }
    }
    leave_count_to_autoscaler(&mut objects, &order.settings.name);
    Ok(objects)
}

/// The manifests at `path`: itself, or those of a folder, by name.
fn list_manifests(path: PathBuf, sources: &Sources) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path]);
    }
    let denied = |denied: Denied| denied.into_error("read", &path);
    let folder = sources.tree.resolve(&path, What::Folder).map_err(denied)?;
    let entries = std::fs::read_dir(folder).map_err(|error| denied(Denied::Unreadable(error)))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    let is_kustomization = |name: &String| {
        ["kustomization.yaml", "kustomization.yml", "Kustomization"].contains(&name.as_str())
    };
    if names.iter().any(is_kustomization) {
        let shown = path.display();
        return Err(Error::input(format!("cannot read {shown}: it is a kustomization"))
            .why("its files are the input of kustomize, and no manifests")
            .fix(format!(
                "have a step before write what it makes, and name that file: kustomize build {shown}"
            )));
    }
    let is_manifest =
        |name: &String| [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending));
    Ok(names.iter().filter(|name| is_manifest(name)).map(|name| path.join(name)).collect())
}

/// The Service leads to all pods with the service's name, and its Deployment counts them.
fn refuse_users_requests(object: &Object, service: &str, file: &Path) -> Result<()> {
    let labels = object.value().pointer("/spec/template/metadata/labels");
    let name = labels.and_then(|labels| labels.get(NAME)?.as_str());
    if !object.key().is_workload() || name != Some(service) {
        return Ok(());
    }
    let headline = format!("cannot apply {} of {}", object.id(), file.display());
    Err(Error::input(headline)
        .why(format!(
            "its pods have the label `{}: {service}` of the service's own, and would get its users' \
             requests",
            NAME
        ))
        .fix(format!(
            "give its template and selector another name: `{}: {}`; or write it as a process of \
             service.yaml: `processes: {{NAME: {{command: […]}}}}`",
            NAME,
            object.name()
        )))
}

/// An autoscaler among the manifests owns the count of the Deployment that it names.
fn leave_count_to_autoscaler(objects: &mut [Object], service: &str) {
    let scales = |object: &Object| {
        let target = object.value().pointer("/spec/scaleTargetRef/name").and_then(Value::as_str);
        ["HorizontalPodAutoscaler", "ScaledObject"].contains(&object.kind())
            && target == Some(service)
    };
    if objects.iter().any(scales) {
        let own = objects.iter_mut().find(|object| object.is_deployment_of(service));
        own.into_iter().for_each(Object::drop_replicas);
    }
}

/// The manifests that deploy would apply, as YAML documents. Pure but for reading `manifests`.
///
/// # Errors
/// Bad input as in a deploy.
pub fn render_manifests(
    order: &Order,
    cluster: &platform::Eks,
    sources: &Sources,
) -> Result<String> {
    let placed = |object: Object| {
        if api::is_of_the_cluster(object.kind()) {
            object
        } else {
            object.placed(cluster.namespace.as_str())
        }
    };
    let mut objects: Vec<Object> =
        collect_objects(order, cluster, sources)?.into_iter().map(placed).collect();
    objects.sort_by_key(|object| plan::order_of(object.kind()));
    let migration = render::before_deploy(order, cluster, |storage| {
        Some(storage::bucket_name(order, storage))
    })?;
    let all: Vec<Object> = migration.into_iter().chain(objects).collect();
    to_yaml(&all)
}
