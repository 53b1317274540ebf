//! What is live, as documents: what AWS adds is taken off, what others wrote stays. Pure.
//!
//! Fields that a render writes are ours. Of the rest nothing is known, so it is kept as it is.

use serde_json::{Map, Value, json};

use super::edge::OWNER_TAG;
use super::merge::{copy_absent, copy_deep};
use super::render::{ENVIRONMENT_TAG, PROCESS_TAG, VERSION_TAG, count_of, find_tag, is_process};
use crate::deploy::diff::hide_secrets;
use crate::error::{Error, Result};
use crate::redact::HIDDEN;

/// The ECS service as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveService {
    /// As DescribeServices answers it, with its tags.
    pub document: Value,
    /// The task definition it is told to run, by ARN.
    pub definition_arn: String,
    /// As it could be registered again; null where another deployment controller has none.
    pub definition: Value,
    /// Whether a service can be told to run it.
    pub is_active: bool,
    /// The ids of its deployments at this moment.
    pub deployments: Vec<String>,
}

impl LiveService {
    pub fn desired(&self) -> u32 {
        count_of(&self.document["desiredCount"])
    }

    /// The environment it was deployed for; `None` for a service that we did not make.
    pub fn environment(&self) -> Option<&str> {
        find_tag(&self.document["tags"], ENVIRONMENT_TAG)
    }

    /// The service that it is part of, by its own tag; `None` for one that we did not make.
    pub fn owner(&self) -> Option<&str> {
        find_tag(&self.document["tags"], OWNER_TAG)
    }

    pub fn name(&self) -> &str {
        self.document["serviceName"].as_str().unwrap_or_default()
    }

    /// Whether it is a process of another service.
    pub fn is_process(&self) -> bool {
        is_process(&self.document["tags"], self.name())
    }

    /// The processes that belong to it.
    pub fn processes(&self) -> Vec<String> {
        let names = find_tag(&self.document["tags"], PROCESS_TAG).unwrap_or_default();
        names.split_whitespace().map(str::to_string).collect()
    }

    /// The version by which the task definition was registered.
    pub fn version(&self) -> Option<&str> {
        find_tag(&self.definition["tags"], VERSION_TAG)
    }

    /// The image that container `name` runs.
    pub fn image(&self, name: &str) -> Option<&str> {
        find_container(&self.definition, name)?["image"].as_str()
    }
}

/// What DescribeTaskDefinition says beside the document that was registered.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskDefinition.html>
const ANSWERED: [&str; 9] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
    "deleteRequestedAt",
];

/// What we write of a task definition. All else in it is somebody else's.
const OUR_FIELDS: [&str; 10] = [
    "family",
    "containerDefinitions",
    "cpu",
    "memory",
    "networkMode",
    "requiresCompatibilities",
    "runtimePlatform",
    "executionRoleArn",
    "taskRoleArn",
    "tags",
];

/// What we write of our container. Its variables are ours as a whole: else one that is taken out of
/// service.yaml would stay for ever.
const OUR_CONTAINER_FIELDS: [&str; 7] =
    ["name", "image", "essential", "portMappings", "environment", "secrets", "stopTimeout"];

/// What we write of our container in a task definition: of a process its command too.
fn our_container_fields(document: &Value) -> Vec<&'static str> {
    let command = find_tag(&document["tags"], PROCESS_TAG).map(|_| "command");
    OUR_CONTAINER_FIELDS.into_iter().chain(command).collect()
}

/// What UpdateService takes of what a render writes. Of a service that is there the rest stays.
const UPDATED: [&str; 5] = [
    "desiredCount",
    "networkConfiguration",
    "deploymentConfiguration",
    "loadBalancers",
    "healthCheckGracePeriodSeconds",
];

/// An answer of DescribeTaskDefinition as the input of RegisterTaskDefinition: without what only
/// AWS writes and without its defaults.
pub fn strip_answer(answer: &Value) -> Value {
    let mut document = answer["taskDefinition"].clone();
    let tags = answer["tags"].as_array().into_iter().flatten();
    // Those of AWS itself cannot be given.
    let is_given = |tag: &&Value| !tag["key"].as_str().is_some_and(|key| key.starts_with("aws:"));
    document["tags"] = tags.filter(is_given).cloned().collect();
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|key, value| !ANSWERED.contains(&key.as_str()) && *value != "");
    }
    strip_defaults(&mut document);
    document
}

/// Takes the defaults of a task definition off.
fn strip_defaults(document: &mut Value) {
    remove_empty(document);
    let network = document["networkMode"].as_str().unwrap_or_default().to_string();
    for container in elements(document, "containerDefinitions") {
        remove_default(container, "cpu", &json!(0));
        remove_default(container, "essential", &json!(true));
        remove_default(container, "versionConsistency", &json!("enabled"));
        for port in elements(container, "portMappings") {
            remove_default(port, "protocol", &json!("tcp"));
            // A task with an address of its own has no other port outside than inside.
            let same = matches!(network.as_str(), "awsvpc" | "host");
            let default = if same { port["containerPort"].clone() } else { json!(0) };
            remove_default(port, "hostPort", &default);
        }
    }
    remove_default(document, "enableFaultInjection", &json!(false));
    if let Some(platform) = document.get_mut("runtimePlatform") {
        remove_default(platform, "cpuArchitecture", &json!("X86_64"));
        remove_default(platform, "operatingSystemFamily", &json!("LINUX"));
    }
    remove_default(document, "runtimePlatform", &json!({}));
}

/// A task definition for comparing: without defaults, without the order that means nothing, and
/// without tags, which are names and change nothing that runs.
pub fn comparable_definition(document: &Value) -> Value {
    let mut document = document.clone();
    strip_defaults(&mut document);
    if let Some(fields) = document.as_object_mut() {
        fields.remove("tags");
    }
    for list in ["containerDefinitions", "volumes"] {
        sort_list(&mut document, list, "name");
    }
    sort_list(&mut document, "requiresCompatibilities", "");
    for container in elements(&mut document, "containerDefinitions") {
        for (list, key) in [
            ("environment", "name"),
            ("secrets", "name"),
            ("portMappings", "containerPort"),
            ("mountPoints", "containerPath"),
        ] {
            sort_list(container, list, key);
        }
        // A variable is a line of its own in a plan, also the first and the last one.
        for list in ["environment", "secrets"] {
            if container.get(list).is_none() {
                container[list] = json!([]);
            }
        }
    }
    document
}

/// What UpdateService could change of a service, for comparing.
pub fn comparable_service(document: &Value) -> Value {
    let mut fields = Map::new();
    for key in UPDATED {
        fields.insert(key.to_string(), document[key].clone());
    }
    let mut document = Value::Object(fields);
    if document["loadBalancers"].as_array().is_none_or(Vec::is_empty) {
        document["healthCheckGracePeriodSeconds"] = Value::Null;
    }
    let deployment = &mut document["deploymentConfiguration"];
    remove_default(deployment, "strategy", &json!("ROLLING"));
    remove_default(deployment, "bakeTimeInMinutes", &json!(0));
    let alarms = deployment["alarms"]["enable"] == true;
    if let Some(deployment) = deployment.as_object_mut().filter(|_| !alarms) {
        deployment.remove("alarms");
    }
    let network = &mut document["networkConfiguration"]["awsvpcConfiguration"];
    for list in ["subnets", "securityGroups"] {
        sort_list(network, list, "");
    }
    sort_list(&mut document, "loadBalancers", "targetGroupArn");
    remove_empty(&mut document);
    document
}

/// The wanted task definition with all of the live one that is not ours: other containers, and
/// fields that a render does not write.
pub fn keep_definition(live: &Value, wanted: &Value) -> Value {
    let mut kept = wanted.clone();
    copy_absent(live, &mut kept, &OUR_FIELDS);
    fill_hidden(live, &mut kept, &OUR_FIELDS);
    let name = wanted["family"].as_str().unwrap_or_default();
    if let Some(ours) = find_container(live, name) {
        let fields = our_container_fields(wanted);
        for container in elements(&mut kept, "containerDefinitions") {
            if container["name"] == name {
                keep_container(ours, container, &fields);
            }
        }
    }
    // Of a stored state these lack what the ledger does not keep.
    for container in elements(&mut kept, "containerDefinitions") {
        let its_name = container["name"].as_str().unwrap_or_default();
        if let Some(others) = find_container(live, its_name).filter(|_| its_name != name) {
            *container = others.clone();
        }
    }
    for (list, key) in [("containerDefinitions", "name"), ("tags", "key")] {
        append_absent(live, &mut kept, list, key);
    }
    kept
}

/// A task definition as the ledger keeps it: with `***` for what others wrote in the open that looks
/// like a secret, as the ledger keeps no value of any. What is live fills it in again.
pub fn leave_out_secrets(document: &mut Value) {
    let name = document["family"].as_str().unwrap_or_default().to_string();
    let ours = our_container_fields(document);
    let hide = |value: &mut Value, ours: &[&str]| {
        let fields = value.as_object_mut().into_iter().flatten();
        for (key, value) in fields.filter(|(key, _)| !ours.contains(&key.as_str())) {
            hide_secrets(key, value);
        }
    };
    for container in elements(document, "containerDefinitions") {
        // The variables of our own container are those of service.yaml.
        let is_ours = container["name"] == *name;
        hide(container, if is_ours { &ours } else { &["name"] });
    }
    hide(document, &OUR_FIELDS);
}

/// Fields of others whose secrets neither the ledger nor what is live knows, by name.
pub fn name_lost_secrets(document: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    for (key, value) in fields(document) {
        let containers = value.as_array().filter(|_| key == "containerDefinitions");
        let Some(containers) = containers else {
            names.extend(has_hidden(&value).then_some(key));
            continue;
        };
        for container in containers {
            let name = container["name"].as_str().unwrap_or_default();
            let of_it = fields(container).into_iter().filter(|(_, value)| has_hidden(value));
            names.extend(of_it.map(|(field, _)| format!("{key}[{name}].{field}")));
        }
    }
    names
}

/// Takes out containers of others that are no longer live and whose secrets nobody knows.
pub fn drop_lost_containers(document: &mut Value) {
    if let Some(containers) = document["containerDefinitions"].as_array_mut() {
        containers.retain(|container| !has_hidden(container));
    }
}

fn has_hidden(value: &Value) -> bool {
    match value {
        Value::String(text) => text == HIDDEN,
        Value::Array(list) => list.iter().any(has_hidden),
        Value::Object(fields) => fields.values().any(has_hidden),
        _ => false,
    }
}

/// Takes whole fields of `from` where `to` has `***`, but for `ours`.
fn fill_hidden(from: &Value, to: &mut Value, ours: &[&str]) {
    for (key, value) in to.as_object_mut().into_iter().flatten() {
        if let Some(live) = from.get(key)
            && !ours.contains(&key.as_str())
            && has_hidden(value)
        {
            *value = live.clone();
        }
    }
}

fn keep_container(live: &Value, wanted: &mut Value, ours: &[&str]) {
    copy_absent(live, wanted, ours);
    fill_hidden(live, wanted, ours);
    let live_ports: Vec<&Value> = live["portMappings"].as_array().into_iter().flatten().collect();
    for port in elements(wanted, "portMappings") {
        let number = port["containerPort"].clone();
        if let Some(live) = live_ports.iter().find(|live| live["containerPort"] == number) {
            copy_absent(live, port, &["hostPort", "protocol"]);
        }
    }
}

/// The wanted service with all of the live one that is not ours, as far as an update says it. A
/// load balancer that leads to `target_group`, by its name, is ours.
pub fn keep_service(live: &Value, wanted: &Value, target_group: &str) -> Value {
    let mut kept = wanted.clone();
    let vpc = |document: &Value| document["networkConfiguration"]["awsvpcConfiguration"].clone();
    let mut network = vpc(wanted);
    copy_deep(&vpc(live), &mut network);
    // Only new services are given a value.
    if let Some(public) = vpc(live).get("assignPublicIp") {
        network["assignPublicIp"] = public.clone();
    }
    kept["networkConfiguration"]["awsvpcConfiguration"] = network;
    let mut deployment = wanted["deploymentConfiguration"].clone();
    copy_deep(&comparable_service(live)["deploymentConfiguration"], &mut deployment);
    kept["deploymentConfiguration"] = deployment;
    let balancers = |document: &Value| document["loadBalancers"].as_array().cloned();
    let live_balancers = balancers(live).unwrap_or_default();
    let (before, of_others): (Vec<Value>, Vec<Value>) =
        live_balancers.into_iter().partition(|one| leads_to(one, target_group));
    let mut all = balancers(wanted).unwrap_or_default();
    for (ours, before) in all.iter_mut().filter(|one| leads_to(one, target_group)).zip(&before) {
        copy_deep(before, ours);
    }
    let known = |one: &Value| all.iter().any(|all| all["targetGroupArn"] == one["targetGroupArn"]);
    let of_others: Vec<Value> = of_others.into_iter().filter(|one| !known(one)).collect();
    all.extend(of_others);
    if !all.is_empty() {
        kept["loadBalancers"] = json!(all);
        let grace = "healthCheckGracePeriodSeconds";
        if kept.get(grace).is_none() {
            kept[grace] = live[grace].clone();
        }
    }
    kept
}

/// Whether a load balancer of a service leads to the target group of this name.
pub fn leads_to(balancer: &Value, target_group: &str) -> bool {
    let arn = balancer["targetGroupArn"].as_str().unwrap_or_default();
    arn == target_group || arn.contains(&format!(":targetgroup/{target_group}/"))
}

/// What a revision has of others, by name: a plan says that it stays.
pub fn name_foreign(document: &Value) -> Vec<String> {
    let name = document["family"].as_str().unwrap_or_default();
    let mut names = Vec::new();
    let fields = |value: &Value, ours: &[&str]| -> Vec<String> {
        let keys = value.as_object().into_iter().flat_map(Map::keys);
        keys.filter(|key| !ours.contains(&key.as_str())).cloned().collect()
    };
    for container in document["containerDefinitions"].as_array().into_iter().flatten() {
        let container_name = container["name"].as_str().unwrap_or_default();
        if container_name == name {
            let mut ours = our_container_fields(document);
            ours.push("logConfiguration");
            let labels = container["dockerLabels"].as_object();
            if labels.is_some_and(|labels| labels.keys().all(|key| key == SECRETS_LABEL)) {
                ours.push("dockerLabels");
            }
            let kept = fields(container, &ours);
            names.extend(kept.iter().map(|key| format!("containerDefinitions[{name}].{key}")));
        } else {
            names.push(format!("containerDefinitions[{container_name}]"));
        }
    }
    names.extend(fields(document, &OUR_FIELDS));
    names
}

/// Refuses what cannot run beside what is wanted.
///
/// # Errors
/// Refused, with the name of what is in the way.
pub fn refuse_clash(live: &Value, kept: &Value) -> Result<()> {
    let name = kept["family"].as_str().unwrap_or_default();
    let refuse = |what: String, fix: &str| {
        Err(Error::refused(format!("cannot keep what others wrote of service {name}: {what}"))
            .fix(fix))
    };
    let named = |one: &Value| one["name"].as_str().unwrap_or_default().to_string();
    if find_container(live, name).is_none() {
        let containers = live["containerDefinitions"].as_array().into_iter().flatten();
        let names: Vec<String> = containers.map(named).collect();
        return refuse(
            format!("it runs {}, and no container {name}", names.join(", ")),
            "give the container of this service that name in its task definition, or deploy under \
             another `name`",
        );
    }
    let all = kept["containerDefinitions"].as_array().cloned().unwrap_or_default();
    let ports = |one: &Value| one["portMappings"].as_array().cloned().unwrap_or_default();
    let ours = find_container(kept, name).map(ports).unwrap_or_default();
    for other in all.iter().filter(|one| one["name"] != name) {
        for port in ports(other) {
            let number = &port["containerPort"];
            if ours.iter().any(|ours| ours["containerPort"] == *number) {
                return refuse(
                    format!("container {} listens on port {number} too", named(other)),
                    "give one of the two another port",
                );
            }
            let host = port["hostPort"].as_u64().unwrap_or(0);
            if host != 0 && port["hostPort"] != *number {
                return refuse(
                    format!("container {} has port {number} as {host} outside", named(other)),
                    "give it the same `hostPort`: the network mode awsvpc has no other",
                );
            }
        }
    }
    if let Some(linked) = all.iter().find(|one| one.get("links").is_some()) {
        return refuse(
            format!("container {} has `links`", named(linked)),
            "remove them: the network mode awsvpc has none, and containers reach each other on \
             localhost",
        );
    }
    for size in ["cpu", "memory"] {
        let reserved = |one: &Value| {
            let soft = one.get(size).or_else(|| one.get(format!("{size}Reservation")));
            soft.and_then(Value::as_u64).unwrap_or(0)
        };
        let sum: u64 = all.iter().map(reserved).sum();
        let task = kept[size].as_str().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
        if sum > task {
            let names: Vec<String> =
                all.iter().filter(|one| reserved(one) > 0).map(named).collect();
            return refuse(
                format!("{size} {sum} of {} is more than the task's {task}", names.join(", ")),
                &format!("raise `resources.{size}` in service.yaml, or have them reserve less"),
            );
        }
    }
    Ok(())
}

/// Refuses a service that an update cannot make the wanted one.
///
/// # Errors
/// Refused, with the name of what is in the way.
pub fn refuse_service(live: &Value, wanted: &Value) -> Result<()> {
    let name = wanted["serviceName"].as_str().unwrap_or_default();
    let cluster = wanted["cluster"].as_str().unwrap_or_default();
    let refuse = |what: String, fix: String| {
        Err(Error::refused(format!("cannot deploy to ECS service {name}: {what}")).fix(fix))
    };
    let anew = format!(
        "deploy under another `name`, or delete the service (`aws ecs delete-service --cluster \
         {cluster} --service {name} --force`) and deploy again"
    );
    if live["status"] == "DRAINING" {
        return refuse(
            "it is DRAINING, as it is being deleted".into(),
            format!(
                "wait for its end: aws ecs wait services-inactive --cluster {cluster} --services \
                 {name}"
            ),
        );
    }
    let controller = live["deploymentController"]["type"].as_str().unwrap_or("ECS");
    if controller != "ECS" {
        return refuse(format!("its deploymentController is {controller}"), anew);
    }
    let scheduling = live["schedulingStrategy"].as_str().unwrap_or("REPLICA");
    if scheduling != "REPLICA" {
        return refuse(format!("its schedulingStrategy is {scheduling}"), anew);
    }
    let launch = wanted["launchType"].as_str().unwrap_or_default();
    let providers: Vec<&str> = live["capacityProviderStrategy"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["capacityProvider"].as_str())
        .collect();
    let (key, runs, is_fargate) = match providers.as_slice() {
        [] => {
            let live = live["launchType"].as_str().unwrap_or(launch);
            ("launchType", live.to_string(), live == "FARGATE")
        }
        // Those of Fargate have these names, and no other has.
        names => (
            "capacityProviderStrategy",
            names.join(", "),
            names.iter().all(|name| matches!(*name, "FARGATE" | "FARGATE_SPOT")),
        ),
    };
    if is_fargate != (launch == "FARGATE") {
        return refuse(format!("its {key} is {runs}, and platform.yaml says {launch}"), anew);
    }
    Ok(())
}

/// The input of UpdateService that makes `live` to `wanted`, with every field that differs and
/// those of `also`. `None` when nothing does.
pub fn update_document(live: &Value, wanted: &Value, also: &Value) -> Option<Value> {
    let (before, after) = (comparable_service(live), comparable_service(wanted));
    let mut document = json!({ "cluster": wanted["cluster"], "service": wanted["serviceName"] });
    let mut differs = false;
    for key in UPDATED {
        if before.get(key) == after.get(key) && also.get(key).is_none() {
            continue;
        }
        let value = if wanted[key].is_null() { &live[key] } else { &wanted[key] };
        if !value.is_null() {
            document[key] = value.clone();
            differs = true;
        }
    }
    differs.then_some(document)
}

/// The variables of our container that Secrets Manager fills, each secret once with its ARN.
pub fn list_secrets(definition: &Value) -> Vec<(String, String)> {
    let name = definition["family"].as_str().unwrap_or_default();
    let container = find_container(definition, name);
    let secrets = container.and_then(|container| container["secrets"].as_array());
    let mut found: Vec<(String, String)> = Vec::new();
    for secret in secrets.into_iter().flatten() {
        let arn = secret["valueFrom"].as_str().and_then(arn_of_secret);
        if let Some((variable, arn)) = secret["name"].as_str().zip(arn)
            && !found.iter().any(|(_, other)| *other == arn)
        {
            found.push((variable.to_string(), arn));
        }
    }
    found
}

/// The label that names the versions of the secrets that a revision's tasks were given.
pub const SECRETS_LABEL: &str = "cicd.clinicult.io/secrets";

/// What a revision's tasks were given, by that label.
pub fn secrets_mark(definition: &Value) -> Option<&str> {
    let name = definition["family"].as_str().unwrap_or_default();
    find_container(definition, name)?["dockerLabels"][SECRETS_LABEL].as_str()
}

/// Notes on our container which versions its secrets have: tasks read them when they start, so that
/// one that was rotated wants new tasks. `None`: that is not known, and what is live stays.
pub fn mark_secrets(definition: &mut Value, mark: Option<&str>) {
    let has_secrets = !list_secrets(definition).is_empty();
    let name = definition["family"].as_str().unwrap_or_default().to_string();
    for container in elements(definition, "containerDefinitions") {
        if container["name"] != *name {
            continue;
        }
        match (has_secrets, mark) {
            (true, Some(mark)) => container["dockerLabels"][SECRETS_LABEL] = json!(mark),
            (true, None) => {}
            (false, _) => {
                let labels = container.get_mut("dockerLabels").and_then(Value::as_object_mut);
                labels.map(|labels| labels.remove(SECRETS_LABEL));
            }
        }
        remove_default(container, "dockerLabels", &json!({}));
    }
}

/// The ARN of a secret without the key, stage and version that ECS takes behind it.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html>
fn arn_of_secret(value_from: &str) -> Option<String> {
    let parts: Vec<&str> = value_from.split(':').take(7).collect();
    match parts.as_slice() {
        ["arn", _, "secretsmanager", _, _, "secret", _] => Some(parts.join(":")),
        _ => None,
    }
}

/// Whether a service is told what the input of CreateService or UpdateService says: a write whose
/// answer was lost was done.
pub fn is_told(live: &LiveService, sent: &Value) -> bool {
    let mut told = live.document.clone();
    for key in UPDATED.into_iter().filter(|key| sent.get(key).is_some()) {
        told[key] = sent[key].clone();
    }
    let definition = sent["taskDefinition"].as_str();
    definition.is_none_or(|arn| live.definition_arn == arn)
        && comparable_service(&told) == comparable_service(&live.document)
}

fn find_container<'a>(document: &'a Value, name: &str) -> Option<&'a Value> {
    document["containerDefinitions"].as_array()?.iter().find(|one| one["name"] == name)
}

fn elements<'a>(value: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn remove_default(object: &mut Value, key: &str, default: &Value) {
    if let Some(fields) = object.as_object_mut()
        && fields.get(key) == Some(default)
    {
        fields.remove(key);
    }
}

/// Takes off what says nothing: nulls, empty lists, and empty objects where AWS answers those.
fn remove_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(remove_empty);
            fields.retain(|key, value| match value {
                Value::Null => false,
                Value::Array(list) => !list.is_empty(),
                Value::Object(object) => {
                    !object.is_empty()
                        || !["host", "dockerLabels", "options"].contains(&key.as_str())
                }
                _ => true,
            });
        }
        Value::Array(list) => list.iter_mut().for_each(remove_empty),
        _ => {}
    }
}

/// Sorts a list by a field of its elements; by themselves where `key` is empty.
fn sort_list(object: &mut Value, list: &str, key: &str) {
    if let Some(list) = object.get_mut(list).and_then(Value::as_array_mut) {
        let order =
            |one: &Value| if key.is_empty() { one.to_string() } else { one[key].to_string() };
        list.sort_by_cached_key(order);
    }
}

/// Appends elements of a list of `from` whose `key` is none of `to`'s.
fn append_absent(from: &Value, to: &mut Value, list: &str, key: &str) {
    let known: Vec<Value> = elements(to, list).map(|one| one[key].clone()).collect();
    let others = from[list].as_array().into_iter().flatten();
    let others: Vec<Value> = others.filter(|one| !known.contains(&one[key])).cloned().collect();
    if let Some(list) = to.get_mut(list).and_then(Value::as_array_mut) {
        list.extend(others);
    }
}

#[cfg(test)]
mod tests;
