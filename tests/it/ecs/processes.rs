//! Processes beside a service on ECS: workers that run all the time, and tasks that run by a schedule.

use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::{Place, url};
use crate::support::{http_get, run, stack};

/// A command that runs until it is told to stop, and says `word` before.
fn work(word: &str) -> String {
    format!("[sh, -c, 'trap exit TERM; echo {word}; while true; do sleep 0.2; done']")
}

fn service_of(name: &str) -> Value {
    let describe = ["ecs", "describe-services", "--cluster", "clinicult", "--services", name];
    let ended = run(Command::new("aws").args(describe).args(["--output", "json"])).ended(0);
    let answer: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    answer["services"][0].clone()
}

fn command_of(service: &Value) -> Value {
    let arn = service["taskDefinition"].as_str().expect("an ARN");
    let describe = ["ecs", "describe-task-definition", "--task-definition", arn];
    let ended = run(Command::new("aws").args(describe).args(["--output", "json"])).ended(0);
    let answer: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    answer["taskDefinition"]["containerDefinitions"][0]["command"][2].clone()
}

#[test]
fn workers_are_deployed_with_the_service_and_gone_back_with_it() {
    let place = Place::new("ecs-work");
    let (name, worker) = (place.name.clone(), format!("{}-worker", place.name));
    let with = |command: &str, replicas: u32| {
        place.service(&format!(
            "env: {{GREETING: hello}}\nprocesses:\n  worker: {{command: {command}, replicas: {replicas}}}\n"
        ));
    };
    with(&work("one"), 2);
    let planned = run(place.command("1.0.0").arg("--plan")).ended(0);
    let first = place.deploy("1.0.0").ended(0);
    assert_eq!(first.changed(), planned.changed());
    for object in ["TaskDefinition", "Service"] {
        assert!(first.changed().contains(&format!("{object}/{worker}")), "{first}");
    }
    let live = service_of(&worker);
    assert_eq!(
        (&live["runningCount"], &live["loadBalancers"]),
        (&2.into(), &Value::from(vec![0; 0]))
    );
    assert_eq!(http_get(&format!("{}/", url(&first))), "version 1.0.0 says hello");

    let before = place.writes();
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");
    assert_eq!(place.writes(), before);
    with(&work("two"), 1);
    let changed = place.deploy("1.0.0").ended(0);
    assert_eq!(
        changed.changed(),
        [format!("TaskDefinition/{worker}"), format!("Service/{worker}")]
    );
    assert!(command_of(&service_of(&worker)).to_string().contains("echo two"), "{changed}");

    // The service runs, its process does not: both go back.
    with("[sh, -c, 'echo no queue; exit 7']", 1);
    let crashed = place.deploy("2.0.0").ended(4);
    let cause = &crashed.json()["error"]["causes"][0];
    assert_eq!(
        (&cause["exit-code"], &cause["log-tail"][0]),
        (&7.into(), &"no queue".into()),
        "{crashed}"
    );
    assert!(command_of(&service_of(&worker)).to_string().contains("echo two"), "{crashed}");
    assert_eq!(http_get(&format!("{}/", url(&first))), "version 1.0.0 says hello");
    // One that there was not before is left with no tasks.
    place.service(&format!(
        "env: {{GREETING: hello}}\nprocesses:\n  worker: {{command: {}}}\n  mail: {{command: [sh, -c, exit 7]}}\n",
        work("two")
    ));
    place.deploy("1.0.0").ended(4);
    assert_eq!(service_of(&format!("{name}-mail"))["desiredCount"], 0);

    // What is no longer wanted goes when the new state is good.
    place.service("env: {GREETING: hello}\n");
    let without = place.deploy("1.0.0").ended(0);
    assert!(without.changed().contains(&format!("Service/{worker}")), "{without}");
    for gone in [worker.clone(), format!("{name}-mail")] {
        assert_ne!(service_of(&gone)["status"], "ACTIVE", "{gone}: {without}");
    }
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");
}

#[test]
fn a_process_runs_by_its_schedule() {
    let place = Place::new("ecs-cron");
    let platform = std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("platform.yaml");
    let role = crate::iam::scheduler_role();
    let queue = "arn:aws:sqs:eu-west-1:111122223333:lost";
    let with = format!("scheduler: {{role: '{role}', dead-letter: '{queue}'}}\n      listener: ");
    place.repository.write("other.yaml", &platform.replace("listener: ", &with));
    let deploy = |schedule: &str, version: &str| {
        place.service(&format!(
            "env: {{GREETING: hello}}\nprocesses:\n  nightly: {{command: [sh, -c, 'echo counting for $GREETING'], {schedule}}}\n"
        ));
        run(place.command(version).args(["--platform", "other.yaml"]))
    };
    let schedule = || {
        let group = format!("{}-production", place.name);
        let get = ["scheduler", "get-schedule", "--group-name", &group, "--name", "nightly"];
        let ended = run(Command::new("aws").args(get).args(["--output", "json"]));
        serde_json::from_str::<Value>(&ended.stdout).unwrap_or(Value::Null)
    };
    let first = deploy("schedule: '* * * * *', timezone: Europe/Vienna", "1.0.0").ended(0);
    let deployed = Instant::now();
    assert!(first.changed().contains(&"Schedule/nightly".to_string()), "{first}");
    let live = schedule();
    assert_eq!(live["ScheduleExpression"], "cron(* * * * ? *)", "{live}");
    assert_eq!(live["ScheduleExpressionTimezone"], "Europe/Vienna");
    assert_eq!(live["Target"]["DeadLetterConfig"]["Arn"], queue);
    assert_eq!(live["Target"]["RetryPolicy"]["MaximumRetryAttempts"], 3);
    let runs = |live: &Value| {
        let arn = &live["Target"]["EcsParameters"]["TaskDefinitionArn"];
        arn.as_str().expect("an ARN").rsplit(':').next().expect("a revision").to_string()
    };
    assert_eq!(runs(&live), "1");
    let before = place.writes();
    let again = deploy("schedule: '* * * * *', timezone: Europe/Vienna", "1.0.0").ended(0);
    assert_eq!(again.json()["status"], "unchanged", "{again}");
    assert_eq!(place.writes(), before);

    // It fires: a task of this revision, with the process's command and the service's variables.
    let stream = ["logs", "filter-log-events", "--log-group-name", "/ecs/clinicult"];
    let prefix = format!("{0}/{0}/", place.name);
    let words = ["--log-stream-name-prefix", &prefix, "--output", "json"];
    loop {
        let ended = run(Command::new("aws").args(stream).args(words)).ended(0);
        if ended.stdout.contains("counting for hello") {
            break;
        }
        assert!(deployed.elapsed().as_secs() < 120, "nothing ran: {ended}");
        std::thread::sleep(std::time::Duration::from_secs(2));
    }

    // A new version moves it along; one that fails brings it back.
    deploy("schedule: 30 3 * * 1-5", "2.0.0").ended(0);
    assert_eq!(runs(&schedule()), "2");
    assert_eq!(schedule()["ScheduleExpression"], "cron(30 3 ? * MON,TUE,WED,THU,FRI *)");
    place.service(
        "env: {CRASH: nothing works}\nprocesses: {nightly: {command: [a], schedule: '@daily'}}\n",
    );
    run(place.command("1.0.0").args(["--platform", "other.yaml"])).ended(4);
    assert_eq!(
        (runs(&schedule()).as_str(), &schedule()["ScheduleExpression"]),
        ("2", &"cron(30 3 ? * MON,TUE,WED,THU,FRI *)".into())
    );

    // Without it, it goes.
    place.service("env: {GREETING: hello}\n");
    let without = run(place.command("2.0.0").args(["--platform", "other.yaml"])).ended(0);
    assert!(without.changed().contains(&"Schedule/nightly".to_string()), "{without}");
    assert_eq!(schedule(), Value::Null);

    let wrong = deploy("schedule: 0 3 1 * 1", "2.0.0").ended(2);
    assert!(wrong.stderr.contains("which cron takes as either"), "{wrong}");
    let refused = run(&mut place.command("2.0.0")).ended(2);
    assert!(refused.stderr.contains("nobody may start its tasks"), "{refused}");
}
