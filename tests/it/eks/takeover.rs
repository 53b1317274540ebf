//! What others did: tools that deployed the service before, people who undo by hand, services that
//! share an object, and our own runs that came to nothing.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Place, SERVICE, image_of};
use crate::probe::digest_of;
use crate::support::{cicd, run};

const DEPLOYMENT: &str = "deployment/probe";

/// Users, who ask the service again and again.
pub struct Users {
    asking: Child,
    log: std::path::PathBuf,
}

impl Users {
    pub fn of(place: &Place) -> Users {
        let log = place.repository.path().join("users.log");
        let path = format!("/api/v1/namespaces/{}/services/{SERVICE}:8000/proxy/", place.namespace);
        let script = format!(
            "while :; do kubectl get --raw {path} >> users.log 2>&1; echo >> users.log; done"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(place.repository.path());
        let asking = command.stdout(Stdio::null()).spawn().expect("sh");
        Users { asking, log }
    }

    /// The answers that are none.
    pub fn stop(mut self) -> Vec<String> {
        self.asking.kill().expect("ended");
        self.asking.wait().expect("ended");
        let text = std::fs::read_to_string(&self.log).expect("answers");
        let answers = text.lines().filter(|line| !line.is_empty());
        let (good, bad): (Vec<&str>, Vec<&str>) =
            answers.partition(|line| line.starts_with("version "));
        assert!(good.len() > 5, "{text}");
        bad.into_iter().map(str::to_string).collect()
    }
}

/// What another tool deployed: `labels` are those of its pods, `container` is more of theirs.
fn deployed_before(place: &Place, labels: &str, container: &str, how: &[&str]) {
    let image = image_of("1.0.0");
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {SERVICE}}}\nspec:\n  replicas: 2\n  \
         selector: {{matchLabels: {{{labels}}}}}\n  template:\n    metadata: {{labels: {{{labels}}}}}\n    \
         spec: {{containers: [{{name: {SERVICE}, image: \"{image}\", ports: [{{containerPort: 8000}}], \
         readinessProbe: {{httpGet: {{path: /, port: 8000}}, periodSeconds: 1}}{container}}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: {SERVICE}}}\n\
         spec: {{selector: {{{labels}}}, ports: [{{port: 8000}}]}}\n"
    );
    place.repository.write("old.yaml", &text);
    let file = place.repository.path().join("old.yaml");
    let mut arguments = vec!["apply", "-f", file.to_str().expect("a path")];
    arguments.extend(how);
    place.kubectl(&arguments);
    place.kubectl(&["rollout", "status", DEPLOYMENT, "--timeout=60s"]);
}

#[test]
fn a_chart_with_other_labels_is_taken_over_while_users_are_served() {
    let place = Place::new("labels");
    deployed_before(&place, "app: probe", "", &["--server-side", "--field-manager=helm"]);
    let users = Users::of(&place);
    place.service("replicas: 2\n");
    let deployed = place.deploy("2.0.0").ended(0);
    let again = place.deploy("2.0.0").ended(0);
    let failed = users.stop();
    assert!(failed.is_empty(), "{failed:?}: {deployed}");
    assert_eq!(place.answer(), "version 2.0.0 says nothing");
    assert_eq!(again.json()["status"], "unchanged", "{again}");
    let live = place.get(DEPLOYMENT);
    assert_eq!(live["spec"]["selector"]["matchLabels"], serde_json::json!({"app": "probe"}));
}

#[test]
fn what_client_side_apply_left_goes_and_is_said() {
    let place = Place::new("fields");
    let more = ", env: [{name: LEGACY, value: \"1\"}], resources: {limits: {cpu: 500m}}";
    deployed_before(&place, "app.kubernetes.io/name: probe", more, &[]);
    place.service("env: {GREETING: ours}\n");
    let planned = run(place.command("1.0.0", digest_of("1.0.0")).arg("--plan")).ended(0);
    assert!(planned.stderr.contains("env[LEGACY]"), "{planned}");
    let deployed = place.deploy("1.0.0").ended(0);
    assert!(deployed.stderr.contains("env[LEGACY]"), "{deployed}");
    let container = place.get(DEPLOYMENT)["spec"]["template"]["spec"]["containers"][0].clone();
    assert!(!container["env"].to_string().contains("LEGACY"), "{container}");
    assert_eq!(container["resources"]["limits"].get("cpu"), None, "{container}");
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");
}

#[test]
fn an_object_that_another_service_wants_stays_its() {
    let place = Place::new("shared");
    let config = |name: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: '1'}}\n")
    };
    place.repository.write("shared.yaml", &format!("{}---\n{}", config("shared"), config("own")));
    place.repository.write("theirs.yaml", &config("shared"));
    let file = place.repository.path().join("theirs.yaml");
    let file = file.to_str().expect("a path");
    let other = ["apply", "--server-side", "--field-manager=cicd/other/staging", "-f", file];
    place.kubectl(&other);
    // It is as wanted already, and claimed all the same.
    place.service("replicas: 0\nmanifests: [shared.yaml]\n");
    let claimed = place.deploy("1.0.0").ended(0);
    assert!(claimed.stderr.contains("wanted by this service too"), "{claimed}");
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");

    place.service("replicas: 0\n");
    let without = place.deploy("1.0.0").ended(0);
    assert!(without.stderr.contains("left to cicd/other/staging"), "{without}");
    assert_eq!(place.get("configmap/shared")["data"]["a"], "1");
    assert_eq!(place.kubectl(&["get", "configmap/own", "--ignore-not-found", "-o", "name"]), "");
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");

    // What the other service has otherwise is its own too.
    place.repository.write("shared.yaml", &config("shared").replace("'1'", "'2'"));
    place.service("replicas: 0\nmanifests: [shared.yaml]\n");
    let refused = place.deploy("1.0.0").ended(3);
    assert!(refused.stderr.contains("`cicd/other/staging` owns .data.a"), "{refused}");
}

#[test]
fn what_somebody_undid_by_hand_is_what_runs() {
    let place = Place::new("undone");
    place.service("env: {GREETING: good}\n");
    place.deploy("1.0.0").ended(0);
    place.service("env: {GREETING: bad}\n");
    place.deploy("2.0.0").ended(0);
    place.kubectl(&["rollout", "undo", DEPLOYMENT]);
    place.kubectl(&["rollout", "status", DEPLOYMENT, "--timeout=60s"]);
    let mut status = cicd(place.repository.path());
    status.args(["status", "--environment", "staging", "--platform", "platform.yaml"]);
    let status = run(&mut status).ended(0);
    assert!(status.stdout.contains("1.0.0"), "{status}");

    place.service("env: {GREETING: third, CRASH: no database}\n");
    let failed = place.deploy("2.0.1").ended(4);
    assert_eq!(place.answer(), "version 1.0.0 says good", "{failed}");
    // What it went back to by hand has no variable of the version that comes next.
    place.service("env: {OTHER: x}\n");
    place.deploy("2.0.0").ended(0);
    assert_eq!(place.answer(), "version 2.0.0 says nothing");
}

#[test]
fn what_runs_that_came_to_nothing_left_goes_with_the_next_success() {
    let place = Place::new("left");
    let config = |name: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: '1'}}\n")
    };
    let left =
        |name: &str| place.kubectl(&["get", "configmap", name, "--ignore-not-found", "-o", "name"]);
    place.repository.write("more.yaml", &config("wrong-name"));
    place.service("env: {CRASH: no database}\nmanifests: [more.yaml]\n");
    place.deploy("1.0.0").ended(5);
    assert_ne!(left("wrong-name"), "");
    place.repository.write("more.yaml", &config("right-name"));
    place.service("manifests: [more.yaml]\n");
    let good = place.deploy("1.0.0").ended(0);
    assert!(good.changed().contains(&"ConfigMap/wrong-name".to_string()), "{good}");
    assert_eq!((left("wrong-name").as_str(), left("right-name").is_empty()), ("", false));

    place.repository.write("more.yaml", &config("killed-run"));
    place.service("env: {STATUS: '503'}\nmanifests: [more.yaml]\n");
    let mut killed = place.command("2.0.0", digest_of("2.0.0"));
    let mut killed = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("cicd");
    let started = Instant::now();
    while left("killed-run").is_empty() && started.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(200));
    }
    killed.kill().expect("killed");
    killed.wait().expect("killed");
    place.repository.write("more.yaml", &config("right-name"));
    place.service("manifests: [more.yaml]\n");
    let good = place.deploy("1.0.0").ended(0);
    assert_eq!(left("killed-run"), "", "{good}");
    let changed: Vec<Value> = good.changed().into_iter().map(Value::from).collect();
    assert!(changed.contains(&"ConfigMap/killed-run".into()), "{good}");
}
