//! Deploys to ECS behind the load balancer and API Gateway, on an emulator that runs each task as a
//! real container.

mod documents;
mod edge;
mod migration;
mod platform;
mod processes;
mod scaling;
mod secrets;

use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::iam::User;
use crate::probe::digest_of;
use crate::support::{Removal, Repository, Run, cicd, http_get, log_entries, run, stack, unique};

/// A service of the test's own name. What it deployed goes with it.
pub struct Place {
    pub name: String,
    pub repository: Repository,
    _removal: Removal,
}

impl Place {
    pub fn new(test: &str) -> Place {
        let name = unique(test);
        let place = Place { _removal: Removal::of(&name), name, repository: Repository::new() };
        // The image is the same for all: a service's repository is its name's, so the probe's is
        // put under that name too.
        place.push();
        place
    }

    /// Puts the probe's two versions into the repository of this service.
    fn push(&self) {
        let port = stack("AWS_ENDPOINT_URL").rsplit(':').next().expect("a port").to_string();
        let repository = format!("clinicult/{}", self.name);
        run(Command::new("aws").args([
            "ecr",
            "create-repository",
            "--repository-name",
            &repository,
        ]))
        .ended(0);
        for version in ["1.0.0", "2.0.0"] {
            digest_of(version);
            let from = format!("localhost:{port}/clinicult/probe:{version}");
            let to = format!("localhost:{port}/{repository}:{version}");
            run(Command::new("docker").args(["tag", &from, &to])).ended(0);
            run(Command::new("docker").args(["push", "-q", &to])).ended(0);
            run(Command::new("docker").args(["rmi", &to])).ended(0);
        }
    }

    /// Writes service.yaml: `text` after name, port and the path it is exposed on.
    pub fn service(&self, text: &str) {
        let head = format!(
            "name: {0}\nport: 8000\nhealth: {{startup: 20s, stable: 1s}}\nexpose: {{path: /{0}}}\n",
            self.name
        );
        self.repository.write("service.yaml", &format!("{head}{text}"));
    }

    pub fn command(&self, version: &str) -> Command {
        self.command_within("90s", version)
    }

    fn command_within(&self, timeout: &str, version: &str) -> Command {
        let mut command = cicd(self.repository.path());
        command.args([
            "deploy",
            "--environment",
            "production",
            "--output",
            "json",
            "--timeout",
            timeout,
        ]);
        command.args(["--version", version, "--digest", digest_of(version)]);
        // Every call says whose it is, so that the request log can be counted by test.
        command.env("AWS_SDK_UA_APP_ID", &self.name);
        command
    }

    pub fn deploy(&self, version: &str) -> Run {
        run(&mut self.command(version))
    }

    /// The mutating calls of this test's deploys so far, those to the ledger left out.
    pub fn writes(&self) -> usize {
        log_entries("CICD_STACK_AWS_LOG")
            .iter()
            .filter(|call| {
                call["write"] == true
                    && !call["path"].as_str().is_some_and(|path| path.contains("/cicd/"))
                    && call["agent"].as_str().is_some_and(|agent| agent.contains(&self.name))
            })
            .count()
    }
}

fn url(ended: &Run) -> String {
    ended.json()["url"].as_str().unwrap_or_else(|| panic!("no URL: {ended}")).to_string()
}

#[test]
fn a_service_is_deployed_then_unchanged_then_changed_then_upgraded() {
    let place = Place::new("ecs-up");
    place.service("env: {GREETING: hello}\n");

    let planned = run(place.command("1.0.0").arg("--plan")).ended(0);
    assert_eq!(planned.json()["status"], "planned");
    assert_eq!(place.writes(), 0, "a plan writes nothing");

    let first = place.deploy("1.0.0").ended(0);
    assert_eq!(
        (&first.json()["status"], &first.json()["target"]),
        (&"deployed".into(), &"ecs".into()),
        "{first}"
    );
    assert_eq!(first.changed(), planned.changed(), "the plan is what was done");
    assert!(first.changed().contains(&format!("TaskDefinition/{}", place.name)), "{first}");
    assert_eq!(http_get(&format!("{}/", url(&first))), "version 1.0.0 says hello");
    assert!(place.writes() > 0, "the request log names the writes of the first deploy");

    let before = place.writes();
    let second = place.deploy("1.0.0").ended(0);
    assert_eq!(second.json()["status"], "unchanged", "{second}");
    assert!(second.changed().is_empty());
    assert_eq!(place.writes(), before, "an unchanged deploy writes nothing");

    place.service("env: {GREETING: goodbye}\n");
    let third = place.deploy("1.0.0").ended(0);
    assert_eq!(
        third.changed(),
        [format!("TaskDefinition/{}", place.name), format!("Service/{}", place.name)]
    );
    assert!(third.stderr.contains("environment[GREETING]: hello → goodbye"), "{third}");
    assert_eq!(http_get(&format!("{}/", url(&third))), "version 1.0.0 says goodbye");
    assert_eq!(
        (&third.json()["previous-revision"], &third.json()["revision"]),
        (&"1".into(), &"2".into())
    );

    let fourth = place.deploy("2.0.0").ended(0);
    assert_eq!(http_get(&format!("{}/", url(&fourth))), "version 2.0.0 says goodbye");

    let status = run(cicd(place.repository.path()).args([
        "status",
        "--environment",
        "production",
        "--output",
        "json",
    ]));
    let status = status.ended(0).json();
    assert_eq!(
        (&status["state"], &status["digest"]),
        (&"ready".into(), &digest_of("2.0.0").into())
    );
    assert_eq!(status["version"], "2.0.0");
    assert_eq!((&status["revision"], &status["url"]), (&"3".into(), &url(&fourth).into()));
}

#[test]
fn a_crash_goes_back_to_what_ran_and_says_why() {
    let place = Place::new("ecs-crash");
    place.service("");
    let first = place.deploy("1.0.0").ended(0);

    place.service("env: {CRASH: the database is gone}\n");
    let started = Instant::now();
    let crashed = place.deploy("2.0.0").ended(4);
    let seconds = started.elapsed().as_secs();
    assert!(seconds < 30, "it took {seconds} s to fail and go back");
    let error = &crashed.json()["error"];
    assert_eq!(
        (&crashed.json()["status"], &error["causes"][0]["exit-code"]),
        (&"rolled-back".into(), &3.into()),
        "{crashed}"
    );
    assert!(
        error["causes"][0]["log-tail"].to_string().contains("the database is gone"),
        "{crashed}"
    );
    assert_eq!(http_get(&format!("{}/", url(&first))), "version 1.0.0 says nothing");

    place.service("");
    let again = place.deploy("1.0.0").ended(0);
    assert_eq!(again.json()["status"], "unchanged", "going back left no trace: {again}");
}

#[test]
fn a_version_that_never_gets_healthy_goes_back_when_its_time_is_over() {
    let place = Place::new("ecs-ill");
    // Every 2xx is well.
    place.service("env: {STATUS: \"201\"}\n");
    let first = place.deploy("1.0.0").ended(0);

    place.service("env: {STATUS: \"503\"}\n");
    let ill = run(&mut place.command_within("20s", "2.0.0")).ended(6);
    assert!(
        ill.stderr
            .contains("1 of 1 tasks run, 0 healthy in the load balancer: Health checks failed with these codes: [503]"),
        "{ill}"
    );
    let message = ill.json()["error"]["message"].to_string();
    assert!(message.contains("not ready after 20 s; revision 1 runs as before"), "{ill}");
    assert_eq!(http_get(&format!("{}/", url(&first))), "version 1.0.0 says nothing");
}

/// What the failed version brought is not asked how the good one is: behind no load balancer it is
/// healthy when it runs.
#[test]
fn a_version_that_brings_a_load_balancer_goes_back_to_none() {
    let place = Place::new("ecs-bare");
    let bare = format!("name: {}\nport: 8000\nhealth: {{startup: 20s, stable: 1s}}\n", place.name);
    place.repository.write("service.yaml", &bare);
    place.deploy("1.0.0").ended(0);
    place.service("env: {CRASH: no port}\n");
    let crashed = place.deploy("2.0.0").ended(4);
    let message = crashed.json()["error"]["message"].to_string();
    assert!(message.contains("revision 1 runs as before"), "{crashed}");
}

/// The way back is judged as the way in: tasks of the good version run again, and the load balancer
/// does not find them healthy.
#[test]
fn a_way_back_that_is_not_healthy_is_none() {
    let place = Place::new("ecs-back");
    place.service("");
    place.deploy("1.0.0").ended(0);
    // The health check as it was before the next deploy, which the rollback restores.
    let elbv2 = |arguments: &[&str]| run(Command::new("aws").arg("elbv2").args(arguments)).ended(0);
    let groups = elbv2(&["describe-target-groups", "--output", "json"]);
    let groups: Value = serde_json::from_str(&groups.stdout).expect("JSON");
    let groups = groups["TargetGroups"].as_array().expect("a list");
    let of_it = format!(":targetgroup/{}-", place.name);
    let arns = groups.iter().filter_map(|group| group["TargetGroupArn"].as_str());
    let arn = arns.into_iter().find(|arn| arn.contains(&of_it)).expect("a target group");
    elbv2(&["modify-target-group", "--target-group-arn", arn, "--matcher", "HttpCode=404"]);

    place.service("env: {CRASH: nothing works}\n");
    let failed = run(&mut place.command_within("25s", "2.0.0")).ended(5);
    let message = failed.json()["error"]["message"].to_string();
    assert!(message.contains("the rollback failed: not back within 25 s"), "{failed}");
    assert!(message.contains("0 healthy in the load balancer"), "what is in the way: {failed}");
    assert!(!message.contains("runs as before"), "{failed}");
}

/// It runs, is healthy and answers; then it ends.
#[test]
fn a_version_that_crashes_a_while_after_it_was_healthy_goes_back() {
    let place = Place::new("ecs-late");
    place.service("");
    let first = place.deploy("1.0.0").ended(0);
    let text = format!(
        "name: {0}\nport: 8000\nhealth: {{startup: 20s, stable: 15s}}\nexpose: {{path: /{0}}}\n\
         env: {{CRASH_AFTER: '6'}}\n",
        place.name
    );
    place.repository.write("service.yaml", &text);
    let crashed = place.deploy("2.0.0").ended(4);
    assert!(crashed.stderr.contains("it is healthy, and has to stay so for 15 s"), "{crashed}");
    let cause = &crashed.json()["error"]["causes"][0];
    assert_eq!(
        (&cause["code"], &cause["exit-code"]),
        (&"container-exited".into(), &3.into()),
        "{crashed}"
    );
    assert_eq!(http_get(&format!("{}/", url(&first))), "version 1.0.0 says nothing");
}

#[test]
fn a_first_deploy_that_crashes_is_left_with_no_tasks() {
    let place = Place::new("ecs-first");
    place.service("env: {CRASH: nothing works}\n");
    let crashed = place.deploy("1.0.0").ended(5);
    assert!(
        crashed.json()["error"]["message"]
            .as_str()
            .expect("a message")
            .contains("no earlier version"),
        "{crashed}"
    );
    let found = run(Command::new("aws").args([
        "ecs",
        "describe-services",
        "--cluster",
        "clinicult",
        "--services",
        &place.name,
        "--query",
        "services[0].desiredCount",
    ]));
    assert_eq!(found.ended(0).stdout.trim(), "0");
    place.service("");
    assert_eq!(
        place.deploy("1.0.0").ended(0).json()["status"],
        "deployed",
        "the next good version comes up"
    );
}

/// Everything but making a route is allowed, so the service is there already when the deploy is
/// denied the rest.
#[test]
fn a_deploy_that_is_denied_half_way_goes_back() {
    let place = Place::new("ecs-half");
    place.service("");
    let may = r#"["ecs:*", "elasticloadbalancing:*", "ecr:*", "s3:*", "logs:*", "iam:PassRole", "apigateway:GET"]"#;
    let user = User::new(format!("half-{}", place.name), may);
    let denied = run(user.on(&mut place.command("1.0.0"))).ended(5);
    let error = denied.json()["error"].clone();
    assert!(error["fix"].as_str().is_some_and(|fix| fix.contains("apigateway:POST")), "{denied}");
    let count = ["ecs", "describe-services", "--cluster", "clinicult", "--services", &place.name];
    let count =
        run(Command::new("aws").args(count).args(["--query", "services[0].desiredCount"])).ended(0);
    assert_eq!(count.stdout.trim(), "0", "what was started is stopped");
    assert_eq!(
        place.deploy("1.0.0").ended(0).json()["status"],
        "deployed",
        "who may, goes on from there"
    );
}

#[test]
fn an_endpoint_that_never_answers_does_not_hold_a_deploy_for_ever() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = Place::new("ecs-mute");
    place.service("");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let started = Instant::now();
    let mut command = place.command_within("15s", "1.0.0");
    let ended = run(command.env("AWS_ENDPOINT_URL_ECS", url));
    assert_ne!(ended.code, 0, "{ended}");
    assert!(started.elapsed().as_secs() < 60, "{ended}");
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_changes() {
    let place = Place::new("ecs-no");
    let platform =
        std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("the stack's platform.yaml");
    let with = |from: &str, to: &str, service: &str| {
        assert!(platform.contains(from), "{platform}");
        place.repository.write("other.yaml", &platform.replace(from, to));
        place.service(service);
        run(place.command("1.0.0").args(["--platform", "other.yaml"]))
    };
    let cases = [
        (
            with("cluster: clinicult\n", "cluster: nowhere\n", ""),
            3,
            "cannot find ECS cluster nowhere",
        ),
        (with("role/ecs-execution", "role/nobody", ""), 3, "IAM has no role arn:aws:iam::"),
        (
            with("role/ecs-execution", "role/cicd-production", ""),
            3,
            "role cicd-production does not trust ecs-tasks.amazonaws.com",
        ),
        (with("subnets: [", "subnets: [subnet-no, ", ""), 3, "EC2 has no subnet-no"),
        (with("listener: ", "# ", ""), 2, "has no load balancer"),
        (with("x", "x", "manifests: [a.yaml]\n"), 2, "cannot deploy `manifests` to"),
        (with("x", "x", "secrets: {A: 'k8s:a/b'}\n"), 2, "secrets.A: it is `k8s:a/b`"),
        (with("x", "x", "resources: {cpu: '17'}\n"), 2, "more than a Fargate task can have"),
    ];
    for (ended, code, message) in cases {
        let ended = ended.ended(code);
        let error = &ended.json()["error"];
        assert!(error["message"].as_str().is_some_and(|text| text.contains(message)), "{ended}");
        assert!(error["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "no fix: {ended}");
    }
    // A name with a typing error: nothing is written, and no value of a secret is read. All that
    // is wrong with the platform is told beside it.
    let wrong = platform
        .replace("role/patients-task", "role/nobody")
        .replace("security-groups: [", "security-groups: [sg-no, ");
    place.repository.write("other.yaml", &wrong);
    place.service(
        "secrets: {URL: 'secretsmanager:nowhere/at-all#url', KEY: 'secretsmanager:nope'}\n",
    );
    for extra in [&["--plan"][..], &[]] {
        let refused =
            run(place.command("1.0.0").args(["--platform", "other.yaml"]).args(extra)).ended(3);
        let error = &refused.json()["error"];
        let message = error["message"].to_string();
        assert!(message.contains("cannot deliver secrets.KEY, secrets.URL"), "{refused}");
        for beside in ["cannot use environments.production.ecs.task-role", "EC2 has no sg-no"] {
            assert!(refused.stderr.contains(beside), "{beside}: {refused}");
        }
        assert_eq!(error["code"], "secret-unavailable", "{refused}");
        assert!(error["fix"].to_string().contains("aws secretsmanager create-secret"), "{refused}");
    }
    assert_eq!(place.writes(), 0);
}

#[test]
fn render_shows_the_task_definition_without_a_network() {
    let repository = Repository::new();
    repository
        .write("service.yaml", "name: p\nport: 8000\nsecrets: {URL: 'secretsmanager:p/db#url'}\n");
    repository.write(
        "platform.yaml",
        "registry: {account: '111122223333', region: eu-west-1, prefix: c/}\nenvironments:\n  production:\n    target: ecs\n    region: eu-west-1\n    \
         ecs: {cluster: c, subnets: [s], security-groups: [g], execution-role: 'arn:aws:iam::111122223333:role/x'}\n",
    );
    let mut command = cicd(repository.path());
    command.env_remove("INPUT_PLATFORM").env_remove("AWS_ENDPOINT_URL");
    let ended = run(command.args(["render", "--environment", "production"])).ended(0);
    let shown: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let definition = &shown["task-definition"];
    assert_eq!(
        definition["containerDefinitions"][0]["secrets"][0],
        serde_json::json!({
            "name": "URL",
            "valueFrom": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:p/db:url::",
        })
    );
    assert_eq!((&definition["cpu"], &definition["memory"]), (&"256".into(), &"512".into()));
    assert_eq!(shown["service"]["launchType"], "FARGATE");
}
