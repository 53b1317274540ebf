//! What is to stand in the cluster: the rendered objects and those of `manifests`, fitted to what is
//! there already.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::configuration::{find_references, mark_templates};
use super::managers::{is_deployer, is_managed_by};
use super::object::{Key, LiveObject, Object, read_manifest, to_yaml};
use super::render::{self, NAME, PART_OF};
use super::{Eks, api, plan};
use crate::config::platform;
use crate::deploy::{Order, Sources, storage};
use crate::error::{Error, Result};

/// Where a Deployment notes that its Service leads to a port by its number.
const TARGET_PORT: &str = "cicd.clinicult.io/target-port";

impl Eks {
    /// Marks the templates by their configuration, and fits them to the namespace.
    pub(super) async fn finish_objects(&self, objects: &mut [Object], service: &str) -> Result<()> {
        match self.api.get(&self.deployment_key(service)).await {
            Ok(Some(live)) => adopt_pods(objects, service, &live),
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
fn adopt_pods(objects: &mut [Object], service: &str, live: &LiveObject) {
    let selector = live.data.pointer("/spec/selector");
    let only_labels = selector.is_some_and(|selector| selector.get("matchExpressions").is_none());
    let labels = selector.and_then(|selector| selector.get("matchLabels")).filter(|_| only_labels);
    let Some(labels) = labels else { return };
    let is_other = *labels != json!({NAME: service});
    let ports = live.data.pointer("/spec/template/spec/containers/0/ports");
    let has_port = ports.and_then(Value::as_array).is_some_and(|ports| {
        ports.iter().any(|port| port.get("name").and_then(Value::as_str) == Some("http"))
    });
    let is_foreign = !is_managed_by(&live.metadata, is_deployer);
    let noted = live.metadata.annotations.as_ref().and_then(|notes| notes.get(TARGET_PORT));
    let of_service = |object: &&mut Object| object.is_rendered() && object.name() == service;
    let port = objects.iter().find(|object| object.kind() == "Service" && object.is_rendered());
    let port = port.and_then(|service| service.value().pointer("/spec/ports/0/port")).cloned();
    // Pods of before may have no port of our name; once taken over, the number stays.
    let is_noted =
        noted.is_some_and(|noted| Some(noted.clone()) == port.as_ref().map(Value::to_string));
    let number = port.filter(|_| is_noted || is_foreign && !has_port);
    for object in objects.iter_mut().filter(of_service) {
        if let Some(number) = &number {
            match object.kind() {
                "Deployment" => object.annotate(TARGET_PORT, &number.to_string()),
                "Service" => object.set("/spec/ports/0/targetPort", number.clone()),
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

/// The service's own objects and those of its manifests.
pub fn collect_objects(
    order: &Order,
    cluster: &platform::Eks,
    sources: &Sources,
) -> Result<Vec<Object>> {
    let mut objects =
        render::objects(order, cluster, |storage| Some(storage::bucket_name(order, storage)))?;
    for manifest in &order.settings.manifests {
        let file = sources.folder.join(manifest);
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
