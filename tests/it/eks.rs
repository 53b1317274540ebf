//! Deploys to the real Kubernetes of the stack, each test in a namespace of its own.

mod canary;
mod migration;
mod proxy;
mod shapes;
mod takeover;
mod written;

use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::iam::User;
use crate::probe::digest_of;
use crate::support::{Repository, Run, cicd, log_entries, root, run, stack};

/// The service's name, and so its repository's: the same in all tests, as each has a namespace of
/// its own.
const SERVICE: &str = "probe";
const CLUSTER: &str = "clinicult-staging";

/// A namespace of the test's own, and a folder with a service in it. The namespace goes with it.
pub struct Place {
    namespace: String,
    pub repository: Repository,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Command::new("kubectl")
            .args(["delete", "namespace", &self.namespace, "--wait=false"])
            .output();
    }
}

impl Place {
    pub fn new(test: &str) -> Place {
        let place = Place::without_namespace(test);
        place.kubectl_cluster(&["create", "namespace", &place.namespace]);
        // A pod can only be made where its service account exists, and the controller makes that a
        // moment after the namespace.
        place.kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=30s"]);
        place
    }

    fn without_namespace(test: &str) -> Place {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let namespace = format!("{test}-{:x}", since.as_micros() & 0xffff_ffff);
        let repository = Repository::new();
        let platform =
            std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("the stack's platform.yaml");
        let ours = platform.replace("namespace: staging", &format!("namespace: {namespace}"));
        assert_ne!(ours, platform, "the stack's platform.yaml has no `namespace: staging`");
        repository.write("platform.yaml", &ours);
        Place { namespace, repository }
    }

    /// Writes service.yaml: `text` after name, port and small resources.
    pub fn service(&self, text: &str) {
        let mut head =
            format!("name: {SERVICE}\nport: 8000\nresources: {{cpu: 10m, memory: 64Mi}}\n");
        if !text.contains("health:") {
            head.push_str("health: {stable: 0s}\n");
        }
        self.repository.write("service.yaml", &format!("{head}{text}"));
    }

    pub fn deploy(&self, version: &str) -> Run {
        run(&mut self.command(version, digest_of(version)))
    }

    pub fn command(&self, version: &str, digest: &str) -> Command {
        let mut command = cicd(self.repository.path());
        command.args([
            "deploy",
            "--environment",
            "staging",
            "--platform",
            "platform.yaml",
            "--output",
            "json",
        ]);
        command.args(["--version", version, "--digest", digest, "--timeout", "90s"]);
        command
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let mut all = vec!["-n", &self.namespace];
        all.extend(arguments);
        self.kubectl_cluster(&all)
    }

    fn kubectl_cluster(&self, arguments: &[&str]) -> String {
        run(Command::new("kubectl").args(arguments)).ended(0).stdout
    }

    fn get(&self, object: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", object, "-o", "json"])).expect("JSON")
    }

    /// What the service says to a user.
    fn answer(&self) -> String {
        let path = format!("/api/v1/namespaces/{}/services/{SERVICE}:8000/proxy/", self.namespace);
        self.kubectl_cluster(&["get", "--raw", &path])
    }

    /// What this program wrote to the namespace so far, as the API server's audit log has it:
    /// `patch deployments`.
    fn writes(&self) -> Vec<String> {
        let ours = log_entries("CICD_STACK_AUDIT_LOG").into_iter().filter(|event| {
            let user = event["user"]["username"].as_str().unwrap_or_default();
            let somebody_else =
                user.starts_with("system:") || ["tests", "cluster-components"].contains(&user);
            let dry = event["requestURI"].as_str().unwrap_or_default().contains("dryRun=All");
            event["objectRef"]["namespace"] == self.namespace.as_str() && !somebody_else && !dry
        });
        ours.map(|event| {
            let part = |value: &Value| value.as_str().unwrap_or_default().to_string();
            format!("{} {}", part(&event["verb"]), part(&event["objectRef"]["resource"]))
        })
        .collect()
    }
}

#[test]
fn a_service_is_deployed_then_unchanged_then_changed_then_upgraded() {
    let place = Place::new("upgrade");
    place.service("env: {GREETING: hello}\n");

    let planned = run(place.command("1.0.0", digest_of("1.0.0")).arg("--plan")).ended(0);
    assert_eq!(planned.json()["status"], "planned");
    assert!(place.writes().is_empty(), "a plan writes nothing: {:?}", place.writes());

    let first = place.deploy("1.0.0").ended(0);
    let json = first.json();
    assert_eq!(
        (&json["status"], &json["target"], &json["revision"]),
        (&"deployed".into(), &"eks".into(), &"1".into()),
        "{first}"
    );
    assert_eq!(json.get("previous-revision"), None, "{first}");
    let all = [
        format!("ServiceAccount/{SERVICE}"),
        format!("Service/{SERVICE}"),
        format!("Deployment/{SERVICE}"),
    ];
    assert_eq!(first.changed(), all);
    assert_eq!(planned.changed(), all);
    assert_eq!(place.answer(), "version 1.0.0 says hello");
    let url = json["url"].as_str().expect("a URL");
    assert!(
        url.starts_with("https://") && url.ends_with(&format!("/services/{SERVICE}:8000/proxy/")),
        "{url}"
    );
    let image =
        place.get(&format!("deployment/{SERVICE}"))["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    assert!(
        image.as_str().is_some_and(|image| image.ends_with(&format!("@{}", digest_of("1.0.0")))),
        "{image}"
    );

    let before = place.writes();
    assert!(!before.is_empty(), "the audit log names no write of the first deploy");
    let second = place.deploy("1.0.0").ended(0);
    assert_eq!(second.json()["status"], "unchanged", "{second}");
    assert!(second.changed().is_empty());
    assert_eq!(place.writes(), before, "an unchanged deploy writes nothing");

    place.service("env: {GREETING: goodbye}\n");
    let third = place.deploy("1.0.0").ended(0);
    assert_eq!(third.changed(), [format!("Deployment/{SERVICE}")]);
    assert!(third.stderr.contains("env[GREETING]: hello → goodbye"), "{third}");
    assert_eq!(third.json()["previous-revision"], "1");
    assert_eq!(place.answer(), "version 1.0.0 says goodbye");

    let fourth = place.deploy("2.0.0").ended(0);
    assert_eq!(
        (&fourth.json()["revision"], &fourth.json()["previous-revision"]),
        (&"3".into(), &"2".into()),
        "{fourth}"
    );
    assert_eq!(place.answer(), "version 2.0.0 says goodbye");

    // Another name of the same digest is a label, and no pod is touched.
    let retagged = place.deploy("2.0.1").ended(0);
    assert_eq!(retagged.json()["revision"], "3", "{retagged}");

    let status = run(cicd(place.repository.path()).args([
        "status",
        "--environment",
        "staging",
        "--platform",
        "platform.yaml",
        "--output",
        "json",
    ]))
    .ended(0);
    let json = status.json();
    assert_eq!(
        (&json["state"], &json["version"], &json["digest"]),
        (&"ready".into(), &"2.0.1".into(), &digest_of("2.0.0").into()),
        "{status}"
    );
}

#[test]
fn a_version_that_crashes_is_explained_and_taken_back() {
    let place = Place::new("crash");
    place.service("env: {GREETING: hello}\n");
    place.deploy("1.0.0").ended(0);

    place.service("env: {GREETING: hello, CRASH: no database}\n");
    let failed = place.deploy("2.0.0");
    let ended_at = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let failed = failed.ended(4);
    let error = &failed.json()["error"];
    assert_eq!(error["kind"], "rolled-back", "{failed}");
    let cause = &error["causes"][0];
    assert!(
        cause["object"]
            .as_str()
            .is_some_and(|object| object.starts_with(&format!("Pod/{SERVICE}-"))),
        "{failed}"
    );
    assert_eq!(cause["exit-code"], 3, "{failed}");
    let log: Vec<&str> =
        cause["log-tail"].as_array().expect("a log").iter().filter_map(Value::as_str).collect();
    assert!(log.contains(&"log line 2: no database"), "{failed}");
    assert!(cause["fix"].is_string(), "{failed}");
    let started = log
        .iter()
        .find_map(|line| line.strip_prefix("starting at ")?.parse::<f64>().ok())
        .expect("when it started");
    // It crashes right at its start; everything after, the way back included, has ten seconds.
    assert!(ended_at - started < 10.0, "{:.1} s after the crash: {failed}", ended_at - started);

    assert_eq!(place.answer(), "version 1.0.0 says hello");
    place.service("env: {GREETING: hello}\n");
    let again = place.deploy("1.0.0").ended(0);
    assert_eq!(again.json()["status"], "unchanged", "what was taken back is as it was: {again}");
}

#[test]
fn a_first_version_that_crashes_is_left_for_looking_at() {
    let place = Place::new("first");
    place.service("env: {CRASH: no database}\n");
    let failed = place.deploy("1.0.0").ended(5);
    let error = &failed.json()["error"];
    assert_eq!(error["kind"], "broken");
    assert_eq!(error["causes"][0]["exit-code"], 3, "{failed}");
    assert!(
        error["message"].as_str().is_some_and(
            |message| message.contains("kubectl -n") && message.contains("left for looking at")
        ),
        "{failed}"
    );
    place.get(&format!("deployment/{SERVICE}"));

    place.deploy("1.0.0").ended(5);
    place.service("");
    let good = place.deploy("1.0.0").ended(0);
    assert_eq!(good.json()["status"], "deployed");
}

#[test]
fn an_image_that_is_not_there_is_refused_at_once() {
    let place = Place::new("image");
    place.service("");
    let digest = format!("sha256:{}", "0".repeat(64));
    let started = Instant::now();
    let refused = run(&mut place.command("1.0.0", &digest)).ended(3);
    let error = &refused.json()["error"];
    assert!(
        error["message"].as_str().is_some_and(|message| message.contains(&digest)),
        "{refused}"
    );
    assert!(error["fix"].as_str().is_some_and(|fix| fix.contains("push-ecr")), "{refused}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(place.writes().is_empty(), "{:?}", place.writes());
}

#[test]
fn what_is_missing_is_refused_before_anything_is_written() {
    let place = Place::without_namespace("absent");
    place.service("");
    let refused = place.deploy("1.0.0").ended(3);
    let fix = refused.json()["error"]["fix"].as_str().expect("a fix").to_string();
    assert!(fix.contains(&format!("kubectl create namespace {}", place.namespace)), "{refused}");

    let platform = std::fs::read_to_string(place.repository.path().join("platform.yaml"))
        .expect("platform.yaml");
    place.repository.write(
        "platform.yaml",
        &platform.replace("cluster: clinicult-staging", "cluster: clinicult-stagign"),
    );
    let refused = place.deploy("1.0.0").ended(3);
    assert!(
        refused.stderr.contains("cannot find the EKS cluster clinicult-stagign")
            && refused.stderr.contains("there are: clinicult-staging"),
        "{refused}"
    );

    let place = Place::new("secret");
    place.service("secrets: {DATABASE_URL: 'k8s:db/url'}\n");
    let refused = place.deploy("1.0.0").ended(3);
    assert!(refused.stderr.contains("create secret generic db --from-literal=url=…"), "{refused}");
    assert!(place.writes().is_empty(), "{:?}", place.writes());

    place.kubectl(&[
        "create",
        "secret",
        "generic",
        "db",
        "--from-literal=url=hunter2-the-password",
    ]);
    let deployed = place.deploy("1.0.0").ended(0);
    assert!(!format!("{deployed}").contains("hunter2"), "{deployed}");
}

fn deploy_as(user: &User, place: &Place, version: &str) -> Run {
    run(user.on(&mut place.command(version, digest_of(version))))
}

#[test]
fn who_may_not_enter_is_told_what_to_add() {
    let place = Place::new("entry");
    place.service("");
    let user = |role: &str| format!("{role}-{}", place.namespace);

    let fix_of = |ended: &Run| {
        ended.json()["error"]["fix"]
            .as_str()
            .unwrap_or_else(|| panic!("no fix: {ended}"))
            .to_string()
    };

    let nobody =
        deploy_as(&User::new(user("nobody"), r#"["sts:GetCallerIdentity"]"#), &place, "1.0.0")
            .ended(3);
    assert!(fix_of(&nobody).contains("ecr:DescribeImages"), "{nobody}");

    let reader = User::new(user("reader"), r#"["ecr:DescribeImages"]"#);
    let nobody = deploy_as(&reader, &place, "1.0.0").ended(3);
    assert!(fix_of(&nobody).contains("eks:DescribeCluster"), "{nobody}");

    let stranger = User::new(
        user("stranger"),
        r#"["ecr:DescribeImages", "eks:DescribeCluster", "sts:GetCallerIdentity"]"#,
    );
    let refused = deploy_as(&stranger, &place, "1.0.0").ended(3);
    let entry = format!(
        "create-access-entry --cluster-name {CLUSTER} --region eu-west-1 --principal-arn {}",
        stranger.arn()
    );
    assert!(fix_of(&refused).contains(&entry), "{refused}");
    assert!(fix_of(&refused).contains(&format!("namespaces={}", place.namespace)), "{refused}");

    let may = r#"["ecr:DescribeImages", "eks:DescribeCluster", "s3:GetObject", "s3:PutObject"]"#;
    let guest = User::new(user("guest"), may);
    guest.enters("guests");
    let refused = deploy_as(&guest, &place, "1.0.0").ended(3);
    assert!(
        fix_of(&refused)
            .contains("- {apiGroups: [\"\"], resources: [serviceaccounts], verbs: [get]}"),
        "{refused}"
    );
    assert!(place.writes().is_empty(), "{:?}", place.writes());
}

#[test]
fn the_role_in_the_documentation_is_enough() {
    let place = Place::new("role");
    let documentation = std::fs::read_to_string(root().join("docs/iam.md")).expect("docs/iam.md");
    let role = documentation
        .split("```yaml\n")
        .find(|part| part.contains("kind: Role\n"))
        .expect("a Role");
    place.repository.write("role.yaml", role.split("```").next().expect("the Role"));
    let file = place.repository.path().join("role.yaml");
    place.kubectl(&["apply", "-f", file.to_str().expect("a path")]);
    let group = format!("deployers-{}", place.namespace);
    place.kubectl(&["create", "rolebinding", "cicd", "--role=cicd", &format!("--group={group}")]);
    let user = User::new(
        format!("deployer-{}", place.namespace),
        r#"["ecr:DescribeImages", "eks:DescribeCluster", "s3:GetObject", "s3:PutObject"]"#,
    );
    user.enters(&group);

    let all = "expose: {path: /probe}\nautoscale: {min: 1, max: 2, cpu: 70}\n\
               before-deploy: {command: [sh, -c, echo migrated]}\n";
    place.service(all);
    deploy_as(&user, &place, "1.0.0").ended(0);
    place.service(&format!("{all}env: {{CRASH: no database}}\n"));
    let failed = deploy_as(&user, &place, "2.0.0").ended(4);
    assert!(failed.stderr.contains("log line 2: no database"), "{failed}");
    place.service("");
    deploy_as(&user, &place, "2.0.0").ended(0);
    assert_eq!(place.answer(), "version 2.0.0 says nothing");
}

#[test]
fn replicas_are_left_to_the_autoscaler_and_taken_back_from_it() {
    let place = Place::new("autoscale");
    let replicas = || place.get(&format!("deployment/{SERVICE}"))["spec"]["replicas"].clone();
    place.service("replicas: 2\n");
    place.deploy("1.0.0").ended(0);
    assert_eq!(replicas(), 2);

    place.service("autoscale: {min: 1, max: 4, cpu: 70}\n");
    let auto = place.deploy("1.0.0").ended(0);
    assert_eq!(
        auto.changed(),
        [
            format!("Deployment/{SERVICE}"),
            format!("HorizontalPodAutoscaler/{SERVICE}"),
            format!("PodDisruptionBudget/{SERVICE}"),
        ]
    );
    assert_eq!(replicas(), 2, "the count stays what it was: {auto}");

    // What an autoscaler does.
    place.kubectl(&["scale", &format!("deployment/{SERVICE}"), "--replicas=3"]);
    place.kubectl(&["rollout", "status", &format!("deployment/{SERVICE}"), "--timeout=60s"]);
    let again = place.deploy("1.0.0").ended(0);
    assert_eq!(again.json()["status"], "unchanged", "{again}");
    place.service("autoscale: {min: 1, max: 4, cpu: 70}\nenv: {GREETING: hello}\n");
    place.deploy("1.0.0").ended(0);
    assert_eq!(replicas(), 3, "a deploy does not undo what the autoscaler did");

    place.service("replicas: 1\nenv: {GREETING: hello}\n");
    let fixed = place.deploy("1.0.0").ended(0);
    assert_eq!(
        fixed.changed(),
        [format!("HorizontalPodAutoscaler/{SERVICE}"), format!("Deployment/{SERVICE}")]
    );
    assert_eq!(replicas(), 1);
    assert_eq!(place.kubectl(&["get", "hpa", "-o", "name"]), "");
}

#[test]
fn manifests_come_and_go_with_the_service_and_configuration_rolls_back_with_it() {
    let place = Place::new("manifests");
    let config = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: extra}}\ndata: {{key: {value}}}\n"
        )
    };
    place.repository.write("k8s/extra.yaml", &config("good"));
    let with = "manifests: [k8s/extra.yaml]\nexpose: {path: /patients}\n";
    place.service(with);
    let first = place.deploy("1.0.0").ended(0);
    assert!(first.changed().contains(&"ConfigMap/extra".to_string()), "{first}");
    assert_eq!(
        place.get(&format!("ingress/{SERVICE}"))["spec"]["rules"][0]["http"]["paths"][0]["path"],
        "/patients"
    );

    place.repository.write("k8s/extra.yaml", &config("bad"));
    place.service(&format!("{with}env: {{CRASH: bad configuration}}\n"));
    place.deploy("1.0.0").ended(4);
    assert_eq!(place.get("configmap/extra")["data"]["key"], "good");

    place.repository.write(
        "k8s/extra.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\ndta: {}\n",
    );
    place.service(with);
    let invalid = place.deploy("1.0.0").ended(2);
    assert!(invalid.stderr.contains("dta"), "{invalid}");

    place.service("");
    let without = place.deploy("1.0.0").ended(0);
    assert_eq!(without.changed(), [format!("Ingress/{SERVICE}"), "ConfigMap/extra".to_string()]);
    assert_eq!(
        place.kubectl(&[
            "get",
            "configmap/extra",
            &format!("ingress/{SERVICE}"),
            "--ignore-not-found",
            "-o",
            "name"
        ]),
        ""
    );
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");
}

/// The image that all tests share, for manifests.
fn image_of(version: &str) -> String {
    let repository = format!("111122223333.dkr.ecr.eu-west-1.amazonaws.com/clinicult/{SERVICE}");
    format!("{repository}@{}", digest_of(version))
}

/// A workload called `worker` that runs `script`.
fn worker(kind: &str, script: &str) -> String {
    let image = image_of("1.0.0");
    let spec = |rest: &str| {
        format!(
            "{{{rest}containers: [{{name: w, image: \"{image}\", command: [sh, -c, '{script}']}}]}}"
        )
    };
    let template =
        |rest: &str| format!("{{metadata: {{labels: {{app: w}}}}, spec: {}}}", spec(rest));
    let never = "restartPolicy: Never, ";
    let (api_version, spec) = match kind {
        "Job" => ("batch/v1", format!("{{backoffLimit: 0, template: {}}}", template(never))),
        "Pod" => ("v1", spec(never)),
        _ => {
            let selector = "{matchLabels: {app: w}}";
            ("apps/v1", format!("{{selector: {selector}, template: {}}}", template("")))
        }
    };
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: worker}}\nspec: {spec}\n")
}

#[test]
fn a_workload_among_the_manifests_has_to_run_as_well() {
    let place = Place::new("workers");
    place.service("manifests: [worker.yaml]\n");
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "Job", "Pod"] {
        place.repository.write("worker.yaml", &worker(kind, "echo the worker is broken; exit 3"));
        let failed = place.deploy("1.0.0");
        let code = failed.code;
        assert!(code == 4 || code == 5, "{kind}: {failed}");
        let cause = &failed.json()["error"]["causes"][0];
        assert_eq!(cause["exit-code"], 3, "{kind}: {failed}");
        assert_eq!(cause["log-tail"][0], "the worker is broken", "{kind}: {failed}");
        place.kubectl(&["delete", kind, "worker", "--ignore-not-found", "--grace-period=0"]);
    }
    place.repository.write("worker.yaml", &worker("Job", "sleep 1"));
    let deployed = place.deploy("1.0.0").ended(0);
    assert!(deployed.changed().contains(&"Job/worker".to_string()), "{deployed}");
    let job = place.get("job/worker");
    assert_eq!(job["status"]["succeeded"], 1, "the deploy waited for its end: {deployed}");
}

#[test]
fn one_early_end_is_no_failure() {
    let place = Place::new("early");
    place.service("manifests: [worker.yaml]\n");
    let volume = "volumes: [{name: v, emptyDir: {}}], ";
    let script = "test -e /v/x || { touch /v/x; echo too early; exit 3; }; sleep 3600";
    let text = worker("Deployment", script)
        .replace("spec: {containers", &format!("spec: {{{volume}containers"))
        .replace("command: [", "volumeMounts: [{name: v, mountPath: /v}], command: [");
    place.repository.write("worker.yaml", &text);
    place.deploy("1.0.0").ended(0);
    let pods = place.get("pods");
    let restarts: Vec<&Value> = pods["items"]
        .as_array()
        .expect("pods")
        .iter()
        .map(|pod| &pod["status"]["containerStatuses"][0]["restartCount"])
        .collect();
    assert!(restarts.contains(&&Value::from(1)), "{restarts:?}");
}

#[test]
fn a_definition_and_its_object_come_in_one_deploy() {
    let place = Place::new("define");
    let group = format!("{}.example.com", place.namespace);
    place.repository.write("thing.yaml", &format!(
        "apiVersion: {group}/v1\nkind: Service\nmetadata: {{name: {SERVICE}}}\nspec: {{a: b}}\n---\n\
         apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: things.{group}}}\n\
         spec:\n  group: {group}\n  scope: Namespaced\n  names: {{kind: Service, plural: things, singular: thing}}\n  \
         versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object, \
         x-kubernetes-preserve-unknown-fields: true}}}}}}]\n"
    ));
    place.service("manifests: [thing.yaml]\n");
    let planned = run(place.command("1.0.0", digest_of("1.0.0")).arg("--plan")).ended(0);
    let first = place.deploy("1.0.0").ended(0);
    assert_eq!(first.changed(), planned.changed());
    place.get(&format!("things.{group}/{SERVICE}"));
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");
    place.kubectl_cluster(&["delete", "crd", &format!("things.{group}"), "--wait=false"]);
}

#[test]
fn fields_of_people_are_taken_over_and_those_of_controllers_are_not() {
    let place = Place::new("owners");
    place.service("env: {GREETING: hello}\n");
    place.deploy("1.0.0").ended(0);
    place.kubectl(&["set", "env", &format!("deployment/{SERVICE}"), "GREETING=by-hand"]);
    let repaired = place.deploy("1.0.0").ended(0);
    assert!(repaired.stderr.contains("env[GREETING]: by-hand → hello"), "{repaired}");

    let patch = r#"[{"op": "replace", "path": "/spec/replicas", "value": 2}]"#;
    place.kubectl(&[
        "patch",
        "deployment",
        SERVICE,
        "--type=json",
        "-p",
        patch,
        "--field-manager=some-controller",
    ]);
    let before = place.writes();
    let refused = place.deploy("1.0.0").ended(3);
    assert!(refused.stderr.contains("`some-controller` owns .spec.replicas"), "{refused}");
    assert_eq!(place.writes(), before);
}

#[test]
fn a_service_that_something_else_deployed_goes_back_to_what_that_was() {
    let place = Place::new("adopt");
    let image = image_of("1.0.0");
    let old = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {SERVICE}}}\nspec:\n  selector: {{matchLabels: {{app.kubernetes.io/name: {SERVICE}}}}}\n  template:\n    metadata: {{labels: {{app.kubernetes.io/name: {SERVICE}}}}}\n    spec:\n      containers: [{{name: {SERVICE}, image: \"{image}\", ports: [{{name: http, containerPort: 8000}}]}}]\n"
    );
    place.repository.write("old.yaml", &old);
    let file = place.repository.path().join("old.yaml");
    place.kubectl(&["apply", "-f", file.to_str().expect("a path")]);
    place.kubectl(&["rollout", "status", &format!("deployment/{SERVICE}"), "--timeout=60s"]);

    place.service("env: {CRASH: no database}\n");
    let failed = place.deploy("2.0.0").ended(4);
    let live = place.get(&format!("deployment/{SERVICE}"));
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"][0]["image"],
        image.as_str(),
        "{failed}"
    );
    assert_eq!(live["status"]["readyReplicas"], 1, "{failed}");

    place.service("");
    place.deploy("2.0.0").ended(0);
    assert_eq!(place.answer(), "version 2.0.0 says nothing");
}

#[test]
fn a_bucket_is_made_once_and_named_to_the_container() {
    let place = Place::new("storage");
    // Bucket names are shared by all tests, so the storage carries the namespace's name.
    let name = place.namespace.clone();
    place.service(&format!("storage: [{{name: {name}, env: HISTORY_BUCKET}}]\n"));
    let first = place.deploy("1.0.0").ended(0);
    let bucket = format!("{SERVICE}-{name}-staging-111122223333");
    assert_eq!(first.changed()[0], format!("Bucket/{bucket}"));
    let head = || run(Command::new("aws").args(["s3api", "head-bucket", "--bucket", &bucket]));
    head().ended(0);
    let env = place.get(&format!("deployment/{SERVICE}"))["spec"]["template"]["spec"]["containers"]
        [0]["env"]
        .to_string();
    assert!(env.contains(&format!(r#"{{"name":"HISTORY_BUCKET","value":"{bucket}"}}"#)), "{env}");
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");
    run(Command::new("aws").args(["s3", "rb", &format!("s3://{bucket}")])).ended(0);
}

#[test]
fn render_prints_what_deploy_would_apply() {
    let place = Place::without_namespace("render");
    place
        .repository
        .write("extra.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\n");
    place.service("manifests: [extra.yaml]\n");
    let mut command = cicd(place.repository.path());
    command.args([
        "render",
        "--environment",
        "staging",
        "--platform",
        "platform.yaml",
        "--version",
        "1.0.0",
    ]);
    let rendered = run(command.args(["--digest", digest_of("1.0.0")])).ended(0);
    let kinds: Vec<&str> =
        rendered.stdout.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
    assert_eq!(kinds, ["ServiceAccount", "ConfigMap", "Service", "Deployment"]);
    assert_eq!(
        rendered.stdout.matches(&format!("namespace: {}", place.namespace)).count(),
        4,
        "{rendered}"
    );
    assert!(
        rendered.stdout.contains(&format!("clinicult/{SERVICE}@{}", digest_of("1.0.0"))),
        "{rendered}"
    );
}
