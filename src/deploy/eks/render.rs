//! A service's settings → the Kubernetes objects it is. Pure: no I/O, no clock.
//!
//! Two things are kept out of the pod template because they would roll every pod for nothing: the
//! version (a second name of one digest is no new program) and anything that differs from run to
//! run.

use serde_json::{Map, Value, json};

use super::object::{MANAGED_BY, Object, PROGRAM};
use crate::config::platform;
use crate::config::service::Storage;
use crate::config::settings::{self, Replicas, Runs, Settings};
use crate::config::values::SecretRef;
use crate::deploy::Order;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// How long a pod goes on serving after it was told to stop: endpoints, kube-proxy and load
/// balancers take so long to stop sending to it. An ALB that sees a pod leave may need longer than
/// this; 20 s is what most reports of 502s settle at.
const DRAIN_SECONDS: u32 = 20;
/// What the process then has to finish its requests.
const STOP_SECONDS: u32 = 30;

/// So long a pod that does not answer any more is still sent requests: what passes by itself costs
/// nothing.
const READINESS_SECONDS: u32 = 15;
/// For this share of `health.stable` a pod that is sent requests has to stay ready, before an old
/// one goes.
const SHARE_UNDER_LOAD: u64 = 5;

/// What a process of a service is called beside it.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The service that it belongs to.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// The component of a migration.
pub const BEFORE_DEPLOY: &str = "before-deploy";
/// A migration that does not end by itself is ended by the cluster, whoever lost sight of it.
const LONGEST_MIGRATION: u32 = 3600;

pub const NAME: &str = "app.kubernetes.io/name";
pub const VERSION: &str = "app.kubernetes.io/version";
/// The version, where `kubectl rollout undo` brings back that of the revision it goes back to.
pub const VERSION_NOTE: &str = "cicd.clinicult.io/version";

/// The objects of a service, in no particular order, each in the namespace of `cluster`. `bucket`
/// gives a storage's bucket.
///
/// # Errors
/// Bad input that names the key of service.yaml which this target cannot serve, and the
/// environment.
pub fn objects(
    order: &Order,
    cluster: &platform::Eks,
    bucket: impl Fn(&Storage) -> Option<String>,
) -> Result<Vec<Object>> {
    let settings = &order.settings;
    refuse_unserved(settings)?;
    let mut values =
        vec![service_account(settings), service(settings), deployment(order, &bucket)?];
    if let Replicas::Auto(auto) = settings.replicas {
        values.push(json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": metadata(settings),
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": settings.name},
                "minReplicas": auto.min,
                "maxReplicas": auto.max,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": auto.cpu}}}],
            },
        }));
    }
    let least = match settings.replicas {
        Replicas::Auto(auto) => auto.min,
        fixed => fixed.count().unwrap_or_default(),
    };
    // Of one copy it would keep a node from ever being drained.
    if least > 1 {
        values.push(json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata(settings),
            "spec": {
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": {NAME: settings.name}},
            },
        }));
    }
    if let Some(expose) = &settings.expose {
        values.push(ingress(settings, expose.path.as_str(), cluster.ingress_class.as_deref()));
    }
    for settings::Process { name, command, runs } in &settings.processes {
        let container = task_container(order, &bucket, command)?;
        values.push(render_process(settings, name, runs, container));
    }
    let namespace = cluster.namespace.as_str();
    values
        .into_iter()
        .map(|value| {
            Object::new(value).map(|object| object.placed(namespace)).map_err(Error::unexpected)
        })
        .collect()
}

/// A key that would be ignored is refused instead: what is written and not done is worse than an
/// error.
fn refuse_unserved(settings: &Settings) -> Result<()> {
    let environment = &settings.environment;
    for (variable, secret) in &settings.secrets {
        if !matches!(secret, SecretRef::Kubernetes { .. }) {
            return Err(Error::input(format!(
                "cannot serve `secrets.{variable}: {secret}` on eks yet (environment `{environment}`)"
            ))
            .fix(format!(
                "sync it into a Kubernetes Secret (External Secrets does) and write: \
                 environments: {{{environment}: {{secrets: {{{variable}: \"k8s:SECRET/KEY\"}}}}}}"
            )));
        }
    }
    Ok(())
}

fn metadata(settings: &Settings) -> Value {
    json!({"name": settings.name, "labels": {NAME: settings.name, MANAGED_BY: PROGRAM}})
}

fn service_account(settings: &Settings) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(settings), "automountServiceAccountToken": false})
}

fn service(settings: &Settings) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(settings),
        "spec": {
            "type": "ClusterIP",
            "selector": {NAME: settings.name},
            "ports": [{"name": "http", "port": settings.port, "protocol": "TCP", "targetPort": "http"}],
        },
    })
}

fn deployment(order: &Order, bucket: impl Fn(&Storage) -> Option<String>) -> Result<Value> {
    let settings = &order.settings;
    let mut metadata = metadata(settings);
    metadata["labels"][VERSION] = label_value(&order.image.version).into();
    metadata["annotations"] = json!({VERSION_NOTE: order.image.version});
    let mut spec = Map::new();
    // With an autoscaler the count is not ours: a value here would undo its work at every deploy.
    if let Some(count) = settings.replicas.count() {
        spec.insert("replicas".into(), count.into());
    }
    let mut pod = pod_spec(settings, vec![container(order, bucket)?]);
    pod["terminationGracePeriodSeconds"] = (DRAIN_SECONDS + STOP_SECONDS).into();
    pod["topologySpreadConstraints"] = json!([{
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {NAME: settings.name}},
        "matchLabelKeys": ["pod-template-hash"],
    }]);
    // Slower than this is no progress: a start, and the time in which it has to stay healthy.
    let (startup, stable) = (settings.health.startup, settings.health.stable.as_secs());
    let under_load = stable.div_ceil(SHARE_UNDER_LOAD);
    let rest = json!({
        "minReadySeconds": under_load,
        "progressDeadlineSeconds": (startup.as_secs() + stable + 60).max(600),
        "revisionHistoryLimit": 10,
        "selector": {"matchLabels": {NAME: settings.name}},
        // Never fewer than wanted: the old pods leave when the new ones serve.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "template": {
            "metadata": {"labels": {NAME: settings.name, MANAGED_BY: PROGRAM}},
            "spec": pod,
        },
    });
    if let Value::Object(rest) = rest {
        spec.extend(rest);
    }
    Ok(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}))
}

fn container(order: &Order, bucket: impl Fn(&Storage) -> Option<String>) -> Result<Value> {
    let settings = &order.settings;
    let plain = settings
        .container_env(bucket)
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": escape_dollars(&value)}));
    let secret = settings.secrets.iter().filter_map(|(name, secret)| match secret {
        SecretRef::Kubernetes { secret, key } => {
            Some(json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}))
        }
        SecretRef::SecretsManager { .. } | SecretRef::Ssm { .. } => None,
    });
    // A pod is sent requests once it has answered for `health.stable` without a break.
    let stable = settings.health.stable.as_secs();
    let (period, successes) = if stable < 2 { (5, 1) } else { (2, stable / 2 + 1) };
    let probe = |period: u32, timeout: u32, failures: u64| {
        json!({
            "httpGet": {"path": settings.health.path, "port": "http", "scheme": "HTTP"},
            "periodSeconds": period,
            "timeoutSeconds": timeout,
            "failureThreshold": failures,
        })
    };
    let mut readiness = probe(period, 3, (READINESS_SECONDS / period).into());
    if successes > 1 {
        readiness["successThreshold"] = successes.into();
    }
    let memory: String = settings.memory.into();
    let cpu: String = settings.cpu.into();
    let startup = settings.health.startup.as_secs().max(1);
    if i32::try_from(startup).is_err() {
        return Err(Error::input(format!(
            "cannot wait {startup} s for a start, as `health.startup` says"
        ))
        .fix("write minutes, not years: `health: {startup: 5m}`"));
    }
    Ok(json!({
        "name": settings.name,
        "image": order.image.reference(),
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": settings.port, "protocol": "TCP"}],
        "env": plain.chain(secret).collect::<Vec<_>>(),
        // Memory is a limit, as what exceeds it hurts the neighbours; CPU is a share, as throttling
        // only hurts the service.
        "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}},
        "startupProbe": probe(1, 2, startup),
        "readinessProbe": readiness,
        "livenessProbe": probe(10, 5, 6),
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
        // The file system stays writable: the other targets run the same image so, and an image
        // that is fine there must be fine here.
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    }))
}

/// A text as it arrives in the container: Kubernetes reads `$$` as `$`, and `$(NAME)` as the value of
/// another variable.
/// <https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>
fn escape_dollars(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        written.push(letter);
        if letter == '$' && matches!(letters.peek(), Some('$' | '(')) {
            written.push('$');
        }
    }
    written
}

/// The Job of `before-deploy`, if service.yaml has it. It is called after the image and the
/// command, so that what was done for both is known by its name; its pods are none of the service's.
///
/// # Errors
/// As [`objects`].
pub fn before_deploy(
    order: &Order,
    cluster: &platform::Eks,
    bucket: impl Fn(&Storage) -> Option<String>,
) -> Result<Option<Object>> {
    let settings = &order.settings;
    let Some(command) = &settings.before_deploy else { return Ok(None) };
    let identity = json!([settings.name, order.image.digest, command]).to_string();
    let hash = Digest::of(identity.as_bytes());
    let stem: String = settings.name.chars().take(40).collect();
    let stem = format!("{}-{BEFORE_DEPLOY}", stem.trim_end_matches('-'));
    let labels = json!({
        NAME: stem, COMPONENT: BEFORE_DEPLOY, PART_OF: settings.name, MANAGED_BY: PROGRAM,
    });
    let mut pod = pod_spec(settings, vec![task_container(order, bucket, command)?]);
    pod["restartPolicy"] = "Never".into();
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": format!("{stem}-{}", hash.short()), "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": LONGEST_MIGRATION,
            // A node that goes away is no failure of the command.
            "podFailurePolicy": {"rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            ]},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    });
    let job = Object::new(job).map_err(Error::unexpected)?;
    Ok(Some(job.placed(cluster.namespace.as_str())))
}

/// The container with another command: nobody sends requests to it.
fn task_container(
    order: &Order,
    bucket: impl Fn(&Storage) -> Option<String>,
    command: &[String],
) -> Result<Value> {
    let mut container = container(order, bucket)?;
    if let Some(container) = container.as_object_mut() {
        container.retain(|key, _| !key.ends_with("Probe") && key != "ports" && key != "lifecycle");
        let command: Vec<String> = command.iter().map(|word| escape_dollars(word)).collect();
        container.insert("args".into(), json!(command));
    }
    Ok(container)
}

/// A Deployment without a port, or a CronJob. Its pods are none of the service's.
fn render_process(settings: &Settings, name: &str, runs: &Runs, container: Value) -> Value {
    let whole = format!("{}-{name}", settings.name);
    let labels = json!({
        NAME: whole, COMPONENT: name, PART_OF: settings.name, MANAGED_BY: PROGRAM,
    });
    let metadata = json!({"name": whole, "labels": labels});
    let mut pod = pod_spec(settings, vec![container]);
    match runs {
        Runs::Always { replicas } => json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": replicas,
                "minReadySeconds": settings.health.stable.as_secs(),
                "revisionHistoryLimit": 10,
                "selector": {"matchLabels": {NAME: whole}},
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
                },
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }),
        Runs::Scheduled { schedule, timezone } => {
            pod["restartPolicy"] = "Never".into();
            let mut spec = json!({
                "schedule": schedule,
                // A run that takes longer than its period is not joined by a second one.
                "concurrencyPolicy": "Forbid",
                "jobTemplate": {"spec": {
                    "backoffLimit": 0,
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                }},
            });
            if let Some(timezone) = timezone {
                spec["timeZone"] = timezone.as_str().into();
            }
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec})
        }
    }
}

/// What every pod of a service has.
fn pod_spec(settings: &Settings, containers: Vec<Value>) -> Value {
    json!({
        // An autoscaler of nodes makes the one that a pod asks for.
        "nodeSelector": node_selector(&settings.platforms),
        "serviceAccountName": settings.name,
        // A service is no client of the API server, and variables named after neighbours' Services
        // collide with settings.
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": containers,
    })
}

/// The labels of the nodes that an image of these platforms runs on.
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-arch>
fn node_selector(platforms: &[String]) -> Value {
    let mut labels = Map::from_iter([("kubernetes.io/os".to_string(), "linux".into())]);
    if let [one] = platforms
        && let Some((_, architecture)) = one.split_once('/')
    {
        labels.insert("kubernetes.io/arch".into(), architecture.into());
    }
    labels.into()
}

fn ingress(settings: &Settings, path: &str, class: Option<&str>) -> Value {
    let mut metadata = metadata(settings);
    if class.is_none_or(|class| class == "alb") {
        // Without this the AWS load balancer controller wants a NodePort. Other controllers do not
        // read it.
        metadata["annotations"] = json!({
            "alb.ingress.kubernetes.io/target-type": "ip",
            "alb.ingress.kubernetes.io/healthcheck-path": settings.health.path,
        });
    }
    let mut spec = Map::new();
    if let Some(class) = class {
        spec.insert("ingressClassName".into(), class.into());
    }
    spec.insert(
        "rules".into(),
        json!([{"http": {"paths": [{
            "path": path,
            "pathType": "Prefix",
            "backend": {"service": {"name": settings.name, "port": {"name": "http"}}},
        }]}}]),
    );
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec})
}

/// A version as a label may hold it: 63 letters, digits, `-`, `_` and `.`, with a letter or digit
/// at both ends.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>
fn label_value(version: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let text: String = version.chars().map(safe).take(63).collect();
    text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{parse_platform, platform::Platform, settings};
    use crate::deploy::Image;
    use crate::deploy::eks::object::to_yaml;

    fn order(service: &str) -> (Order, platform::Eks) {
        order_of(service, "eks: {cluster: c, namespace: staging}")
    }

    fn order_of(service: &str, eks: &str) -> (Order, platform::Eks) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("service.yaml");
        std::fs::write(&file, format!("name: patients\nport: 8000\n{service}")).expect("written");
        let tree = crate::inside::Tree::around(folder.path(), &[]);
        let service = crate::config::read_service(&file, &tree).expect("a service");
        let text = format!(
            "registry: {{account: \"111122223333\", region: eu-west-1, prefix: clinicult/}}\nenvironments:\n  staging:\n    target: eks\n    region: eu-west-1\n    {eks}\n"
        );
        let platform: Platform =
            parse_platform(&text, Path::new("platform.yaml")).expect("a platform");
        let settings = settings::resolve(&service, "staging").expect("settings");
        let destination = settings::destination(Some(&platform), "staging").expect("a destination");
        let settings::Target::Eks(cluster) = destination.target.clone() else { panic!("eks") };
        let image = Image {
            repository: "111122223333.dkr.ecr.eu-west-1.amazonaws.com/clinicult/patients".into(),
            digest: Digest::from_sha256(&[0xab; 32]),
            version: "1.4.0".into(),
        };
        (Order { settings, destination, image }, cluster)
    }

    fn rendered(service: &str) -> Vec<Object> {
        let (order, cluster) = order(service);
        objects(&order, &cluster, |_| None).expect("objects")
    }

    fn deployment_of(objects: &[Object]) -> &Value {
        objects.iter().find(|object| object.kind() == "Deployment").expect("a Deployment").value()
    }

    #[test]
    fn golden() {
        let (order, cluster) = order(
            "env: {LOG_LEVEL: info}\nsecrets: {DATABASE_URL: 'k8s:db/url'}\nstorage: [{name: history, env: HISTORY_BUCKET}]\n\
             autoscale: {min: 2, max: 10, cpu: 70}\nexpose: {path: /patients}\n",
        );
        let objects =
            objects(&order, &cluster, |storage| Some(format!("bucket-of-{}", storage.name)))
                .expect("objects");
        let text = to_yaml(&objects).expect("YAML");
        let golden = include_str!("golden.yaml");
        assert_eq!(
            text, golden,
            "what is rendered changed; if it was meant to, this is the new golden.yaml:\n{text}"
        );
    }

    #[test]
    fn dollars_arrive_as_they_are_written() {
        for (text, written) in [
            ("$HOME/x", "$HOME/x"),
            ("5$", "5$"),
            ("$(APP_MODE)", "$$(APP_MODE)"),
            ("$$2y$$10 $(APP_MODE) $$(PORT)", "$$$2y$$$10 $$(APP_MODE) $$$$(PORT)"),
        ] {
            assert_eq!(escape_dollars(text), written);
        }
        let service = "env: {GREETING: '$(PORT)'}\nbefore-deploy: {command: [echo, '$(PORT)']}\n";
        let (order, cluster) = order(service);
        let job = before_deploy(&order, &cluster, |_| None).expect("a Job").expect("one");
        let text = to_yaml(&[job]).expect("YAML");
        assert_eq!(text.matches("$$(PORT)").count(), 2, "{text}");
    }

    #[test]
    fn every_pod_asks_for_a_node_that_the_image_is_for() {
        let amd64 = json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"});
        let arm64 = json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"});
        for (image, wanted) in [
            ("", &amd64),
            ("image: {platforms: [linux/arm64]}\n", &arm64),
            (
                "image: {platforms: [linux/amd64, linux/arm64]}\n",
                &json!({"kubernetes.io/os": "linux"}),
            ),
        ] {
            let more = "before-deploy: {command: [migrate]}\nprocesses:\n  worker: {command: [work]}\n  \
                        nightly: {command: [work], schedule: '0 3 * * *'}\n";
            let service = format!("{image}{more}");
            let (order, cluster) = order(&service);
            let job = before_deploy(&order, &cluster, |_| None).expect("a Job").expect("one");
            let all = rendered(&service).into_iter().chain([job]);
            let selectors: Vec<Value> = all
                .filter_map(|object| {
                    let at = match object.kind() {
                        "CronJob" => "/spec/jobTemplate/spec/template/spec/nodeSelector",
                        "Deployment" | "Job" => "/spec/template/spec/nodeSelector",
                        _ => return None,
                    };
                    Some(object.value().pointer(at).cloned().unwrap_or_default())
                })
                .collect();
            assert_eq!(selectors, vec![wanted.clone(); 4], "{image}");
        }
    }

    #[test]
    fn several_copies_are_drained_one_by_one() {
        let has_budget = |service: &str| {
            rendered(service).iter().any(|object| object.kind() == "PodDisruptionBudget")
        };
        assert!(
            has_budget("replicas: 2\n") && has_budget("autoscale: {min: 2, max: 4, cpu: 50}\n")
        );
        assert!(!has_budget("") && !has_budget("autoscale: {min: 1, max: 4, cpu: 50}\n"));
    }

    #[test]
    fn processes_are_workers_and_jobs_by_the_clock_beside_the_service() {
        let text = "replicas: 2\nprocesses:\n  worker: {command: [celery, worker], replicas: 3}\n  \
                    nightly: {command: [nightly], schedule: '0 3 * * *', timezone: Europe/Vienna}\n";
        let all = rendered(text);
        let find = |kind: &str, name: &str| {
            let mut all = all.iter();
            all.find(|found| (found.kind(), found.name()) == (kind, name)).expect(name).value()
        };
        let worker = &find("Deployment", "patients-worker")["spec"];
        assert_eq!(worker["replicas"], 3);
        let container = &worker["template"]["spec"]["containers"][0];
        assert_eq!(container["args"], json!(["celery", "worker"]));
        for field in ["ports", "readinessProbe", "startupProbe", "livenessProbe", "lifecycle"] {
            assert_eq!(container.get(field), None, "{field}");
        }
        // No request of a user reaches it, and neither counts the other's pods.
        let selects = |spec: &Value| spec["selector"].clone();
        let service = &find("Service", "patients")["spec"];
        let labels = &worker["template"]["metadata"]["labels"];
        assert_ne!(labels[NAME], service["selector"][NAME]);
        assert_ne!(selects(worker), selects(&find("Deployment", "patients")["spec"]));
        let nightly = &find("CronJob", "patients-nightly")["spec"];
        assert_eq!(
            (&nightly["schedule"], &nightly["timeZone"]),
            (&json!("0 3 * * *"), &json!("Europe/Vienna"))
        );
        let pod = &nightly["jobTemplate"]["spec"]["template"]["spec"];
        assert_eq!(
            (&pod["restartPolicy"], &pod["containers"][0]["args"]),
            (&json!("Never"), &json!(["nightly"]))
        );
    }

    #[test]
    fn replicas_are_ours_only_without_an_autoscaler() {
        assert_eq!(deployment_of(&rendered("replicas: 3\n"))["spec"]["replicas"], 3);
        assert_eq!(deployment_of(&rendered("replicas: 0\n"))["spec"]["replicas"], 0);
        let auto = rendered("autoscale: {min: 2, max: 4, cpu: 50}\n");
        assert!(deployment_of(&auto)["spec"].get("replicas").is_none());
    }

    #[test]
    fn another_version_of_one_digest_leaves_the_pod_template_alone() {
        let (mut order, cluster) = order("");
        let first = objects(&order, &cluster, |_| None).expect("objects");
        order.image.version = "1.4.0-main.7+build.5".into();
        let second = objects(&order, &cluster, |_| None).expect("objects");
        assert_eq!(deployment_of(&first)["spec"], deployment_of(&second)["spec"]);
        assert_eq!(deployment_of(&second)["metadata"]["labels"][VERSION], "1.4.0-main.7-build.5");
    }

    #[test]
    fn an_ingress_asks_for_what_its_class_needs() {
        let cases = [
            ("eks: {cluster: c, namespace: n}", Value::Null, true),
            ("eks: {cluster: c, namespace: n, ingress-class: alb}", json!("alb"), true),
            ("eks: {cluster: c, namespace: n, ingress-class: nginx}", json!("nginx"), false),
        ];
        for (eks, class, annotated) in cases {
            let (order, cluster) = order_of("expose: {path: /}\n", eks);
            let objects = objects(&order, &cluster, |_| None).expect("objects");
            let ingress = objects
                .iter()
                .find(|object| object.kind() == "Ingress")
                .expect("an Ingress")
                .value();
            assert_eq!(ingress["spec"].get("ingressClassName").cloned().unwrap_or_default(), class);
            assert_eq!(ingress["metadata"].get("annotations").is_some(), annotated, "{eks}");
        }
    }

    #[test]
    fn what_is_not_served_is_refused_with_its_key_and_environment() {
        let cases = [
            ("secrets: {A: 'ssm:/patients/a'}\n", "`secrets.A: ssm:/patients/a`"),
            (
                "secrets: {A: 'secretsmanager:patients/db#url'}\n",
                "`secrets.A: secretsmanager:patients/db#url`",
            ),
        ];
        for (text, named) in cases {
            let (order, cluster) = order(text);
            let error = objects(&order, &cluster, |_| None).expect_err(text);
            assert_eq!(error.kind, crate::error::Kind::Input);
            assert!(
                error.message.contains(named) && error.message.contains("`staging`"),
                "{error}"
            );
            assert!(!error.fixes.is_empty());
        }
    }

    #[test]
    fn versions_become_labels() {
        let long = "v".repeat(80);
        let cases = [
            ("1.4.0", "1.4.0"),
            ("1.4.0+7", "1.4.0-7"),
            ("-x-", "x"),
            ("", ""),
            ("é1", "1"),
            (long.as_str(), &long[..63]),
        ];
        for (version, expected) in cases {
            assert_eq!(label_value(version), expected, "{version}");
        }
    }
}
