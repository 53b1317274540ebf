//! What a service runs with: its configuration, its copies, its namespace's rules, and what is
//! refused before the first write.

use serde_json::Value;

use super::{Place, SERVICE, image_of};

const DEPLOYMENT: &str = "deployment/probe";

#[test]
fn what_cannot_work_is_refused_before_the_first_write() {
    let place = Place::new("preflight");
    place.kubectl(&["create", "secret", "generic", "db", "--from-literal=uri=x"]);
    place.service("secrets: {DATABASE_URL: 'k8s:db/url'}\n");
    let refused = place.deploy("1.0.0").ended(3);
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "secret-unavailable", "{refused}");
    assert!(refused.stderr.contains("no key url in the Secret db"), "{refused}");
    assert!(place.writes().is_empty(), "{:?}", place.writes());

    place.service("env: {GREETING: hello}\n");
    place.deploy("1.0.0").ended(0);
    place.kubectl(&["rollout", "pause", DEPLOYMENT]);
    let before = place.writes();
    place.service("env: {GREETING: goodbye}\n");
    let refused = place.deploy("1.0.0").ended(3);
    assert!(refused.stderr.contains("somebody paused it"), "{refused}");
    assert!(refused.stderr.contains("rollout resume deployment/probe"), "{refused}");
    assert_eq!(place.writes(), before);
}

#[test]
fn manifests_neither_take_users_requests_nor_lose_their_autoscaler() {
    let place = Place::new("manifest");
    let labelled = super::worker("Deployment", "sleep 3600")
        .replace("app: w", "app.kubernetes.io/name: probe");
    place.repository.write("more.yaml", &labelled);
    place.service("manifests: [more.yaml]\n");
    let refused = place.deploy("1.0.0").ended(2);
    assert!(refused.stderr.contains("would get its users' requests"), "{refused}");

    place.repository.write(
        "more.yaml",
        "apiVersion: autoscaling/v1\nkind: HorizontalPodAutoscaler\nmetadata: {name: own}\nspec: \
         {minReplicas: 2, maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: probe}}\n",
    );
    let first = place.deploy("1.0.0").ended(0);
    assert_eq!(place.get(DEPLOYMENT)["status"]["readyReplicas"], 2, "{first}");
    let next = place.deploy("2.0.0").ended(0);
    assert_eq!(place.get(DEPLOYMENT)["spec"]["replicas"], 2, "{next}");
}

/// The template of the service's pods.
fn template(place: &Place) -> Value {
    place.get(DEPLOYMENT)["spec"]["template"].clone()
}

#[test]
fn a_change_of_configuration_reaches_the_pods() {
    let place = Place::new("configure");
    place.kubectl(&["create", "secret", "generic", "db", "--from-literal=greeting=before"]);
    let image = image_of("1.0.0");
    let worker = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{GREETING: {value}}}\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: worker}}\nspec:\n  \
             selector: {{matchLabels: {{app: worker}}}}\n  template:\n    metadata: {{labels: {{app: worker}}}}\n    \
             spec: {{containers: [{{name: w, image: \"{image}\", envFrom: [{{configMapRef: {{name: settings}}}}]}}]}}\n"
        )
    };
    place.repository.write("worker.yaml", &worker("one"));
    place.service("manifests: [worker.yaml]\nsecrets: {GREETING: 'k8s:db/greeting'}\n");
    place.deploy("1.0.0").ended(0);
    assert_eq!(place.answer(), "version 1.0.0 says before");
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");

    place.repository.write("worker.yaml", &worker("two"));
    let changed = place.deploy("1.0.0").ended(0);
    assert_eq!(changed.changed(), ["ConfigMap/settings", "Deployment/worker"], "{changed}");

    let patch = r#"{"stringData": {"greeting": "after"}}"#;
    place.kubectl(&["patch", "secret", "db", "-p", patch]);
    let rotated = place.deploy("1.0.0").ended(0);
    assert_eq!(rotated.changed(), [format!("Deployment/{SERVICE}")], "{rotated}");
    assert_eq!(place.answer(), "version 1.0.0 says after");
    assert!(!format!("{rotated}").contains("says after"), "{rotated}");
}

#[test]
fn a_version_that_does_not_stay_healthy_is_taken_back() {
    let place = Place::new("stable");
    let with =
        |rest: &str| format!("health: {{path: /, stable: 8s}}\nenv: {{GREETING: hello}}\n{rest}");
    place.service(&with(""));
    place.deploy("1.0.0").ended(0);
    // It answers, and ends after some seconds, each time.
    let image = image_of("1.0.0");
    place.repository.write("worker.yaml", &format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: worker}}\nspec:\n  minReadySeconds: 8\n  \
         selector: {{matchLabels: {{app: w}}}}\n  template:\n    metadata: {{labels: {{app: w}}}}\n    \
         spec: {{containers: [{{name: w, image: \"{image}\", command: [sh, -c, 'sleep 4; exit 3']}}]}}\n"
    ));
    place.service(&with("manifests: [worker.yaml]\n"));
    let back = place.deploy("1.0.0").ended(4);
    assert_eq!(back.json()["error"]["causes"][0]["exit-code"], 3, "{back}");
    let probe = template(&place)["spec"]["containers"][0]["readinessProbe"].clone();
    assert_eq!(probe["httpGet"]["path"], "/");
    // No request of a user before 8 s of answers.
    assert_eq!((&probe["periodSeconds"], &probe["successThreshold"]), (&2.into(), &5.into()));
    assert_eq!(place.get(DEPLOYMENT)["spec"]["minReadySeconds"], 2);
}

#[test]
fn an_autoscalers_count_is_awaited_and_kept_on_the_way_back() {
    let place = Place::new("minimum");
    place.service("autoscale: {min: 1, max: 4, cpu: 70}\n");
    place.deploy("1.0.0").ended(0);
    place.service("autoscale: {min: 2, max: 4, cpu: 70}\n");
    let raised = place.deploy("1.0.0").ended(0);
    assert_eq!(place.get(DEPLOYMENT)["status"]["readyReplicas"], 2, "{raised}");

    place.service("replicas: 3\nenv: {CRASH: no database}\n");
    let back = place.deploy("2.0.0").ended(4);
    let count = place.get(DEPLOYMENT)["spec"]["replicas"].as_u64();
    assert!(count >= Some(2), "{count:?}: {back}");
    place.get(&format!("hpa/{SERVICE}"));
}

#[test]
fn a_restricted_namespace_takes_the_service_and_its_role_is_a_manifest() {
    let place = Place::new("restricted");
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    place.kubectl_cluster(&["label", "namespace", &place.namespace, enforce]);
    place.repository.write(
        "account.yaml",
        &format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {SERVICE}, \
             annotations: {{eks.amazonaws.com/role-arn: \"arn:aws:iam::111122223333:role/patients\"}}}}\n"
        ),
    );
    place.service("manifests: [account.yaml]\nreplicas: 0\n");
    let deployed = place.deploy("1.0.0").ended(0);
    assert!(!deployed.stderr.contains("would violate PodSecurity"), "{deployed}");
    assert_eq!(template(&place)["spec"]["securityContext"]["runAsNonRoot"], true);
    let account = place.get(&format!("serviceaccount/{SERVICE}"));
    let role = &account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"];
    assert_eq!(role, "arn:aws:iam::111122223333:role/patients");
    assert_eq!(account["automountServiceAccountToken"], false);
}

#[test]
fn processes_run_beside_the_service_and_go_back_with_it() {
    let place = Place::new("processes");
    let with = |command: &str| {
        format!(
            "env: {{GREETING: hello}}\nprocesses:\n  worker: {{command: [sh, -c, '{command}']}}\n  \
             nightly: {{command: [sh, -c, echo], schedule: '0 3 * * *', timezone: Europe/Vienna}}\n"
        )
    };
    place.service(&with("sleep 3600"));
    let first = place.deploy("1.0.0").ended(0);
    assert!(first.changed().contains(&"CronJob/probe-nightly".to_string()), "{first}");
    assert_eq!(place.get("deployment/probe-worker")["status"]["readyReplicas"], 1);
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");
    // The Service leads to one pod only.
    let slices = place.get("endpointslices");
    assert_eq!(slices["items"][0]["endpoints"].as_array().map(Vec::len), Some(1), "{slices}");

    place.service(&with("echo no queue; exit 3"));
    let back = place.deploy("2.0.0").ended(4);
    let cause = &back.json()["error"]["causes"][0];
    assert_eq!(cause["log-tail"][0], "no queue", "{back}");
    assert_eq!(place.answer(), "version 1.0.0 says hello");
    let live = place.get("deployment/probe-worker");
    assert_eq!(live["status"]["readyReplicas"], 1, "{back}");

    place.service("env: {GREETING: hello}\n");
    let gone = place.deploy("1.0.0").ended(0);
    let mut removed = gone.changed();
    removed.sort();
    assert_eq!(removed, ["CronJob/probe-nightly", "Deployment/probe-worker"], "{gone}");
}

#[test]
fn a_value_arrives_as_it_is_written() {
    let place = Place::new("dollars");
    let wanted = "$$2y$$10 $(APP_MODE) $HOME $$(PORT)";
    place.service(&format!("env: {{APP: x, GREETING: '{wanted}'}}\n"));
    place.deploy("1.0.0").ended(0);
    assert_eq!(place.answer(), format!("version 1.0.0 says {wanted}"));
}

#[test]
fn pods_that_the_namespace_does_not_let_in_are_refused_before_the_first_write() {
    let place = Place::new("admit");
    place.service("env: {GREETING: good}\n");
    place.deploy("1.0.0").ended(0);
    place.service("env: {GREETING: next}\n");
    let before = place.writes();
    for (quota, said, fix) in [
        ("pods=1", "exceeded quota", "raise the quota"),
        ("limits.cpu=4,limits.memory=4Gi", "must specify limits.cpu", "LimitRange"),
    ] {
        place.kubectl(&["create", "quota", "q", &format!("--hard={quota}")]);
        // Its controller counts what is there first.
        place.kubectl(&["wait", "--for=jsonpath={.status.hard}", "quota/q", "--timeout=30s"]);
        let refused = place.deploy("1.0.0").ended(3);
        let error = &refused.json()["error"];
        assert_eq!(error["code"], "quota-exceeded", "{refused}");
        assert!(refused.stderr.contains(said) && refused.stderr.contains(fix), "{refused}");
        place.kubectl(&["delete", "quota", "q"]);
    }
    assert_eq!(place.writes(), before);
    place.deploy("1.0.0").ended(0);
}

#[test]
fn a_field_that_cannot_change_is_told_by_its_kind() {
    let place = Place::new("immutable");
    let config = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\nimmutable: true\ndata: {{a: '{value}'}}\n"
        )
    };
    let role = |name: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: r}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {name}}}\n\
             subjects: [{{kind: ServiceAccount, name: default, namespace: default}}]\n"
        )
    };
    let set = |service: &str| {
        format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: s}}\nspec: {{replicas: 0, serviceName: {service}, \
             selector: {{matchLabels: {{app: s}}}}, template: {{metadata: {{labels: {{app: s}}}}, spec: {{containers: [{{name: c, image: none}}]}}}}}}\n"
        )
    };
    let service = |ip: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: h}}\nspec: {{clusterIP: {ip}, selector: {{app: x}}, ports: [{{port: 80}}]}}\n"
        )
    };
    let all = |parts: [String; 4]| parts.join("---\n");
    let first = || [config("1"), role("view"), set("one"), service("None")];
    place.service("manifests: [m.yaml]\nreplicas: 0\n");
    place.repository.write("m.yaml", &all(first()));
    place.deploy("1.0.0").ended(0);
    let before = place.writes();
    let changed = [config("2"), role("edit"), set("two"), service("10.96.200.200")];
    let fixes = [
        "give it another name with each change, as c-2",
        "delete rolebinding/r",
        "delete statefulset/s --cascade=orphan",
        "delete service/h",
    ];
    for (at, (text, fix)) in changed.into_iter().zip(fixes).enumerate() {
        let mut parts = first();
        parts[at] = text;
        place.repository.write("m.yaml", &all(parts));
        let refused = place.deploy("1.0.0").ended(3);
        assert!(refused.stderr.contains("a field that cannot change would"), "{refused}");
        assert!(refused.stderr.contains(fix), "{refused}");
    }
    assert_eq!(place.writes(), before);
}

#[test]
fn an_ingress_that_nobody_takes_up_is_no_url() {
    let place = Place::new("expose");
    place.service("expose: {path: /probe}\n");
    let deployed = place.deploy("1.0.0").ended(0);
    assert_eq!(deployed.json().get("url"), None, "{deployed}");
    assert!(deployed.stderr.contains("Ingress/probe has no address"), "{deployed}");
    let patch = r#"{"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}}}"#;
    place.kubectl(&[
        "patch",
        "ingress",
        "probe",
        "--subresource=status",
        "--type=merge",
        "-p",
        patch,
    ]);
    let again = place.deploy("1.0.0").ended(0);
    assert_eq!(again.json()["url"], "http://lb.example.com/probe", "{again}");
}

#[test]
fn manifests_are_files_or_folders() {
    let place = Place::new("folder");
    let config =
        |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
    place.repository.write("k8s/b.yaml", &config("two"));
    place.repository.write("k8s/a.yml", &config("one"));
    place.repository.write("k8s/README.md", "no manifest");
    place.service("replicas: 0\nmanifests: [k8s]\n");
    let deployed = place.deploy("1.0.0").ended(0);
    for name in ["ConfigMap/one", "ConfigMap/two"] {
        assert!(deployed.changed().contains(&name.to_string()), "{deployed}");
    }
    place.repository.write("k8s/kustomization.yaml", "resources: [a.yml, b.yaml]\n");
    let refused = place.deploy("1.0.0").ended(2);
    assert!(refused.stderr.contains("kustomize build"), "{refused}");
}

#[test]
fn each_shape_is_taken_by_a_strict_api_server_as_it_is_rendered() {
    let place = Place::new("strict");
    let raw = super::worker("StatefulSet", "sleep 3600");
    place.repository.write("raw.yaml", &raw);
    for (shape, text) in [
        ("web", "replicas: 3\nexpose: {path: /probe}\nautoscale: null\n"),
        ("autoscaled", "autoscale: {min: 2, max: 4, cpu: 70}\n"),
        ("worker", "processes: {worker: {command: [sleep, '3600'], replicas: 2}}\n"),
        (
            "cron",
            "processes: {nightly: {command: ['true'], schedule: '0 3 * * *', timezone: Europe/Vienna}}\n",
        ),
        ("gate", "before-deploy: {command: ['true']}\n"),
        ("raw", "manifests: [raw.yaml]\n"),
    ] {
        place.service(&text.replace("autoscale: null\n", ""));
        let mut command = crate::support::cicd(place.repository.path());
        command.args(["render", "--environment", "staging", "--platform", "platform.yaml"]);
        command.args(["--version", "1.0.0", "--digest", crate::probe::digest_of("1.0.0")]);
        let rendered = crate::support::run(&mut command).ended(0);
        place.repository.write("rendered.yaml", &rendered.stdout);
        let file = place.repository.path().join("rendered.yaml");
        let file = file.to_str().expect("a path");
        let strict =
            ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", file];
        let taken = place.kubectl(&strict);
        assert!(taken.contains("deployment.apps/probe serverside-applied"), "{shape}: {taken}");
    }
}
