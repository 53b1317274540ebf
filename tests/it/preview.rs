//! An environment for each pull request: made, renewed, removed; by its own workflow under act.

use std::process::Command;

use serde_json::{Value, json};

use crate::act::{act_on, succeeded};
use crate::release::github::Github;
use crate::support::{Repository, Run, cicd, copy, http_get, root, run, stack, unique};

const CLUSTER: &str = "clinicult-staging";

fn aws(arguments: &[&str]) -> Run {
    run(Command::new("aws").args(arguments))
}

fn kubectl(arguments: &[&str]) -> Run {
    run(Command::new("kubectl").args(arguments))
}

/// A role as docs/preview.md has it: it may do what docs/iam.md lists, and is let into the cluster.
struct Role {
    name: String,
}

impl Role {
    fn new() -> Role {
        let name = unique("preview-role");
        let trust = aws(&["iam", "get-role", "--role-name", "cicd-staging", "--output", "json"]);
        let trust = trust.ended(0).json()["Role"]["AssumeRolePolicyDocument"].to_string();
        let make = ["iam", "create-role", "--role-name", &name, "--assume-role-policy-document"];
        aws(&[&make[..], &[&trust]].concat()).ended(0);
        let text = std::fs::read_to_string(root().join("docs/iam.md")).expect("iam.md");
        let rows = text.lines().filter(|line| line.starts_with("| "));
        let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
        let is_action = |word: &&str| {
            word.split_once(':').is_some_and(|(service, action)| {
                service.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                    && action.starts_with(|c: char| c.is_ascii_uppercase())
            })
        };
        let actions: Vec<&str> = quoted.filter(is_action).collect();
        let policy = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": actions, "Resource": "*" },
        ] });
        let put = ["iam", "put-role-policy", "--role-name", &name, "--policy-name", "steps"];
        aws(&[&put[..], &["--policy-document", &policy.to_string()]].concat()).ended(0);
        let role = Role { name };
        let entry = ["eks", "create-access-entry", "--cluster-name", CLUSTER, "--principal-arn"];
        aws(&[&entry[..], &[&role.arn(), "--kubernetes-groups", &role.name]].concat()).ended(0);
        let group = format!("--group={}", role.name);
        let bind = ["create", "clusterrolebinding", &role.name, "--clusterrole=cluster-admin"];
        kubectl(&[&bind[..], &[&group]].concat()).ended(0);
        role
    }

    fn arn(&self) -> String {
        format!("arn:aws:iam::111122223333:role/{}", self.name)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let arn = self.arn();
        kubectl(&["delete", "clusterrolebinding", &self.name]);
        aws(&["eks", "delete-access-entry", "--cluster-name", CLUSTER, "--principal-arn", &arn]);
        aws(&["iam", "delete-role-policy", "--role-name", &self.name, "--policy-name", "steps"]);
        aws(&["iam", "delete-role", "--role-name", &self.name]);
    }
}

/// A service's repository whose pull requests have environments beside `of`, one of the stack's.
fn repository(name: &str, of: &str, role: &Role, expires: &str) -> Repository {
    let repository = Repository::new();
    copy(&root().join("examples/fastapi"), repository.path());
    repository.write(
        "service.yaml",
        &format!(
            "name: {name}\nport: 8000\nexpose: {{path: /{name}}}\nhealth: {{startup: 90s, stable: 1s}}\n\
             environments:\n  staging: {{}}\n  production: {{}}\n  \
             preview: {{replicas: 1, env: {{ROOT_PATH: '/{name}-pr-{{pull-request}}'}}}}\n"
        ),
    );
    let text = std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("a platform");
    let (_, rest) = text.split_once(&format!("  {of}:\n")).expect("an environment");
    let own: String = rest
        .lines()
        .take_while(|line| line.starts_with("    "))
        .map(|line| format!("{line}\n"))
        .collect();
    let own = own.replace(&format!("role/cicd-{of}"), &format!("role/{}", role.name));
    let own = own.replace("namespace: staging", "namespace: preview");
    let preview = format!("  preview:\n{own}    preview: {{expires: {expires}}}\n");
    repository.write("platform.yaml", &format!("{}\n{preview}", text.trim_end()));
    repository.write(".github/workflows/preview.yml", include_str!("../../workflows/preview.yml"));
    repository.git(&["add", "-A"]);
    repository.commit("feat: first");
    repository
}

/// What has the name of a preview, wherever.
struct Gone(String);

impl Drop for Gone {
    fn drop(&mut self) {
        let name = &self.0;
        kubectl(&["delete", "namespace", &format!("preview-{name}-12"), "--wait=false"]);
        let service = format!("{name}-pr-12");
        let of = ["--cluster", "clinicult", "--service", &service, "--force"];
        aws(&[&["ecs", "delete-service"], &of[..]].concat());
    }
}

fn run_act(
    repository: &Repository,
    github: &Github,
    event: &str,
    payload: &Value,
) -> (String, String) {
    let ended = act_on(repository, (event, payload), github, &[]);
    let log = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, 0, "{log}");
    (succeeded(&log).join(" "), log)
}

fn url_of(log: &str) -> String {
    let url = log.lines().find_map(|line| line.split("::set-output:: url=").nth(1));
    url.unwrap_or_else(|| panic!("no address: {log}")).trim().to_string()
}

fn closed() -> Value {
    let pull_request = json!({
        "number": 12, "head": {"ref": "topic", "sha": "0123456789012345678901234567890123456789",
        "repo": {"full_name": "clinicult/patients"}}, "base": {"ref": "main"},
    });
    json!({ "action": "closed", "pull_request": pull_request })
}

#[test]
fn on_eks_it_is_a_namespace_from_the_first_push_to_the_close() {
    let (name, role) = (unique("view"), Role::new());
    let _gone = Gone(name.clone());
    let repository = repository(&name, "staging", &role, "72h");
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    let nothing = json!({});
    let (jobs, log) = run_act(&repository, &github, "pull_request", &nothing);
    assert_eq!(jobs, "preview", "{log}");
    assert!(log.contains("0.1.0-pr.12.1 runs in preview"), "{log}");
    let namespace = format!("preview-{name}-12");
    let path = format!("/api/v1/namespaces/{namespace}/services/{name}:8000/proxy/");
    let answer = kubectl(&["get", "--raw", &path]).ended(0);
    assert!(answer.stdout.contains("\"version\":\"0.1.0-pr.12.1\""), "{answer}");
    let ingress = kubectl(&["-n", &namespace, "get", "ingress", &name, "-o", "yaml"]).ended(0);
    assert!(ingress.stdout.contains(&format!("path: /{name}-pr-12")), "{ingress}");

    repository.write("NEWS.md", "more\n");
    repository.git(&["add", "-A"]);
    repository.commit("feat: more");
    let (_, log) = run_act(&repository, &github, "pull_request", &nothing);
    assert!(log.contains("0.1.0-pr.12.2 runs in preview"), "{log}");
    let shown = || {
        let all = github.with(|state| state.deployments.clone());
        let last = |one: &Value| one["statuses"].as_array().and_then(|all| all.last().cloned());
        let state = |one: &Value| last(one).map(|status| status["state"].clone());
        let told = all.iter().map(|one| (one["environment"].clone(), state(one)));
        told.map(|(name, state)| format!("{name} {}", state.unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(), [r#""preview-12" "inactive""#, r#""preview-12" "success""#]);
    let transient = github.with(|state| state.deployments[0]["transient_environment"].clone());
    assert_eq!(transient, true);

    let (jobs, log) = run_act(&repository, &github, "pull_request", &closed());
    assert_eq!(jobs, "remove preview", "{log}");
    assert_ne!(kubectl(&["get", "namespace", &namespace]).code, 0, "{log}");
    assert_eq!(shown(), [r#""preview-12" "inactive""#, r#""preview-12" "inactive""#]);
    let comments = github.with(|state| state.comments.clone());
    let comment = comments.first().map(|(text, _)| text.as_str()).unwrap_or_default();
    assert!(comments.len() == 1 && comment.contains("was removed: Namespace/"), "{comments:?}");
    let mut history = cicd(repository.path());
    history.args(["history", "--environment", "preview", "--pull-request", "12"]);
    let history = run(history.args(["--platform", "platform.yaml", "--output", "json"])).ended(0);
    let told: Vec<String> = history.json()["records"]
        .as_array()
        .expect("records")
        .iter()
        .map(|one| {
            format!("{} {} {} {}", one["kind"], one["version"], one["result"], one["good"])
                .replace('"', "")
        })
        .collect();
    let expected = [
        "remove 0.1.0-pr.12.2 removed false",
        "deploy 0.1.0-pr.12.2 deployed true",
        "deploy 0.1.0-pr.12.1 deployed true",
    ];
    assert_eq!(told, expected);
}

#[test]
fn on_ecs_it_is_a_service_until_it_is_over() {
    let (name, role) = (unique("view"), Role::new());
    let _gone = Gone(name.clone());
    let repository = repository(&name, "production", &role, "1s");
    let platform = std::fs::read_to_string(repository.path().join("platform.yaml")).expect("one");
    let of_scheduler = crate::iam::scheduler_role();
    let scheduler = format!("scheduler: {{role: '{of_scheduler}'}}\n      listener: ");
    repository.write("platform.yaml", &platform.replace("listener: ", &scheduler));
    let file = repository.path().join("service.yaml");
    let service = std::fs::read_to_string(&file).expect("a file");
    let loops = "[sh, -c, 'trap exit TERM; while true; do sleep 0.2; done']";
    let nightly = "{command: [sh, -c, exit 0], schedule: 0 3 * * *}";
    let processes = format!("processes: {{worker: {{command: {loops}}}, nightly: {nightly}}}\n");
    repository.write("service.yaml", &format!("{service}{processes}"));
    repository.git(&["add", "-A"]);
    repository.commit("feat: processes");
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    let (jobs, log) = run_act(&repository, &github, "pull_request", &json!({}));
    assert_eq!(jobs, "preview", "{log}");
    let url = url_of(&log);
    assert!(url.ends_with(&format!("/{name}-pr-12")), "{url}");
    let answer: Value = serde_json::from_str(&http_get(&format!("{url}/"))).expect("JSON");
    assert_eq!(answer["version"], "0.1.0-pr.12.2");
    let comments = github.with(|state| state.comments.clone());
    assert!(comments.first().is_some_and(|(text, _)| text.contains("-pr-12")), "{comments:?}");

    let status = |of: &str| {
        let service = format!("{name}-pr-12{of}");
        let of = ["--cluster", "clinicult", "--services", &service, "--output", "json"];
        let found = aws(&[&["ecs", "describe-services"], &of[..]].concat()).ended(0).json();
        found["services"][0]["status"].clone()
    };
    assert_eq!((status(""), status("-worker")), ("ACTIVE".into(), "ACTIVE".into()));
    let schedules = || {
        let listed = aws(&["scheduler", "list-schedules", "--output", "json"]).ended(0).stdout;
        listed.matches(&format!("{name}-pr-12")).count()
    };
    assert_ne!(schedules(), 0);
    // Whoever removes it may have another commit than the one that was deployed.
    repository.write("service.yaml", &service);
    repository.git(&["add", "-A"]);
    repository.commit("feat: no processes");
    let (jobs, log) = run_act(&repository, &github, "schedule", &json!({}));
    assert_eq!(jobs, "remove what is over", "{log}");
    let worker = format!("Service/{name}-pr-12-worker");
    let all = ["Route/ANY /", "Rule/", "Service/", "TargetGroup/", "Schedule/nightly", &worker];
    for object in all {
        assert!(log.contains(&format!("preview-12 {object}")), "{object}: {log}");
    }
    assert!([status(""), status("-worker")].iter().all(|one| *one != "ACTIVE"));
    assert_eq!(schedules(), 0);
    let groups = aws(&["elbv2", "describe-target-groups", "--output", "json"]).ended(0);
    assert!(!groups.stdout.contains(&name), "{groups}");
    let (jobs, log) = run_act(&repository, &github, "schedule", &json!({}));
    assert!(jobs == "remove what is over" && log.contains("nothing to do"), "{log}");
}

/// Nothing but previews is removed, and none that somebody else made.
#[test]
fn only_a_preview_of_the_pull_request_is_removed() {
    let (name, role) = (unique("view"), Role::new());
    let _gone = Gone(name.clone());
    let repository = repository(&name, "staging", &role, "72h");
    let remove = |more: &[&str]| {
        let mut command = cicd(repository.path());
        command.args(["remove", "--platform", "platform.yaml", "--output", "json"]);
        run(command.args(more))
    };
    let refused = remove(&["--environment", "staging", "--pull-request", "12"]).ended(2);
    assert!(refused.stderr.contains("cannot remove staging: it is no preview"), "{refused}");
    let refused = remove(&["--environment", "preview"]).ended(2);
    assert!(refused.stderr.contains("no pull request is named"), "{refused}");
    let unchanged = remove(&["--environment", "preview", "--pull-request", "12"]).ended(0);
    assert_eq!(unchanged.json()["status"], "unchanged", "{unchanged}");
    let namespace = format!("preview-{name}-12");
    kubectl(&["create", "namespace", &namespace]).ended(0);
    let refused = remove(&["--environment", "preview", "--pull-request", "12"]).ended(3);
    assert!(refused.stderr.contains("no preview of pull request 12"), "{refused}");
    kubectl(&["get", "namespace", &namespace]).ended(0);
    let of = format!("cicd.clinicult.io/preview={name}");
    kubectl(&["label", "namespace", &namespace, &of, "cicd.clinicult.io/pull-request=12"]).ended(0);
    let planned = remove(&["--environment", "preview", "--pull-request", "12", "--plan"]).ended(0);
    assert_eq!(planned.json()["status"], "planned");
    // Nothing says when it is over, so it stays.
    let stays = remove(&["--environment", "preview", "--expired"]).ended(0);
    assert!(stays.stderr.contains("nothing says when the preview of #12 is over"), "{stays}");
    let removed = remove(&["--environment", "preview", "--pull-request", "12"]).ended(0).json();
    assert_eq!(removed["changed"], json!([format!("preview-12 Namespace/{namespace}")]));
    assert_ne!(kubectl(&["get", "namespace", &namespace]).code, 0);
    // A stranger's code gets no environment, whoever starts it.
    let event = repository.path().join(".git/event.json");
    let mut payload = closed();
    payload["repository"] = json!({ "full_name": "clinicult/patients" });
    payload["pull_request"]["head"]["repo"]["full_name"] = "somebody/patients".into();
    std::fs::write(&event, payload.to_string()).expect("written");
    let mut command = cicd(repository.path());
    command.args(["deploy", "--environment", "preview", "--platform", "platform.yaml"]);
    command.args(["--version", "0.1.0"]).env("GITHUB_ACTIONS", "true");
    command.env("GITHUB_EVENT_NAME", "pull_request").env("GITHUB_REF", "refs/pull/12/merge");
    let refused = run(command.env("GITHUB_EVENT_PATH", &event)).ended(3);
    assert!(refused.stdout.contains("whose code nobody approved"), "{refused}");
    // What docs/preview.md tells to type.
    for line in crate::docs::commands("preview.md") {
        let arguments: Vec<&str> = line.split(' ').skip(2).collect();
        remove(&arguments).ended(0);
    }
}
