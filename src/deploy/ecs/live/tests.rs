//! Documents by launch type and size, what AWS answers to them, and what others put beside them.

use serde_json::{Value, json};

use super::*;
use crate::config::settings;
use crate::deploy::diff::compare_documents;
use crate::deploy::ecs::render::{EcsDocuments, render_state};
use crate::deploy::{Image, Order};
use crate::digest::Digest;

/// What is rendered, and what AWS answers when it is asked for it.
struct Golden {
    name: &'static str,
    text: &'static str,
}

const GOLDEN: [Golden; 3] = [
    Golden { name: "fargate-smallest", text: include_str!("../golden/fargate-smallest.json") },
    Golden {
        name: "fargate-arm64-rounded",
        text: include_str!("../golden/fargate-arm64-rounded.json"),
    },
    Golden { name: "ec2", text: include_str!("../golden/ec2.json") },
];

impl Golden {
    fn read(&self) -> Value {
        serde_json::from_str(self.text).expect("JSON")
    }

    fn render(&self) -> EcsDocuments {
        let golden = self.read();
        let service = golden["service.yaml"].as_str().expect("a text");
        let service = serde_saphyr::from_str(service).expect("a service");
        let platform = json!({
            "registry": { "account": "111122223333", "region": "eu-west-1", "prefix": "clinicult/" },
            "environments": { "production": {
                "target": "ecs", "region": "eu-west-1", "ecs": golden["platform.yaml ecs"],
            } },
        });
        let platform = serde_saphyr::from_str(&platform.to_string()).expect("a platform");
        let settings = settings::resolve(&service, "production").expect("settings");
        let destination = settings::destination(Some(&platform), "production").expect("a place");
        let settings::Target::Ecs { ecs, .. } = destination.target.clone() else {
            unreachable!("it says ecs")
        };
        let image = Image {
            repository: "111122223333.dkr.ecr.eu-west-1.amazonaws.com/clinicult/patients".into(),
            digest: Digest::placeholder(),
            version: "1.0.0".into(),
        };
        let order = Order { settings, destination, image };
        render_state(&order, &ecs, None).expect("a state").documents
    }
}

/// The first of [`GOLDEN`]: its documents and what is live of them.
fn exposed() -> (EcsDocuments, Value, Value) {
    let golden = GOLDEN[0].read();
    let definition = strip_answer(&golden["DescribeTaskDefinition"]);
    (GOLDEN[0].render(), definition, golden["DescribeServices"]["services"][0].clone())
}

fn differences(before: &Value, after: &Value) -> Vec<String> {
    compare_documents(&comparable_definition(before), &comparable_definition(after), &[])
}

#[test]
fn documents_are_ecs_own_by_launch_type_and_size() {
    for golden in GOLDEN {
        let documents = golden.render();
        let expected = golden.read();
        assert_eq!(documents.task_definition, expected["task-definition"], "{}", golden.name);
        assert_eq!(documents.service, expected["service"], "{}", golden.name);
        let kept = serde_json::to_string(&documents).expect("JSON");
        let read: EcsDocuments = serde_json::from_str(&kept).expect("documents");
        assert_eq!(EcsDocuments { rounding: documents.rounding.clone(), ..read }, documents);
    }
}

/// What AWS adds to a service one day is no difference.
#[test]
fn unknown_fields_of_a_service_are_no_difference() {
    let (documents, _, mut live) = exposed();
    live["loadBalancers"][0]["ofTomorrow"] = json!({ "x": 1 });
    live["deploymentConfiguration"]["deploymentCircuitBreaker"]["ofTomorrow"] = json!(1);
    live["networkConfiguration"]["awsvpcConfiguration"]["ofTomorrow"] = json!([]);
    let mut kept = keep_service(&live, &documents.service, "patients-production");
    kept["loadBalancers"][0]["targetGroupArn"] = live["loadBalancers"][0]["targetGroupArn"].clone();
    assert_eq!(update_document(&live, &kept, &Value::Null), None);
    // What was kept once is not kept twice.
    let nlb = json!({ "targetGroupArn": "arn:…:targetgroup/nlb/1", "containerPort": 8000 });
    live["loadBalancers"].as_array_mut().expect("a list").push(nlb);
    let once = keep_service(&live, &documents.service, "patients-production");
    assert_eq!(keep_service(&live, &once, "patients-production"), once);
}

/// A state of an older version of this program is refused, and never sent.
#[test]
fn documents_of_other_words_are_not_read() {
    let old = json!({
        "task-definition": { "family": "patients", "image": "a", "port": 8000 },
        "service": { "name": "patients" }, "edge": null, "buckets": [],
    });
    let error = serde_json::from_value::<EcsDocuments>(old).expect_err("of before");
    assert!(error.to_string().contains("not one of ECS's API"), "{error}");
}

#[test]
fn what_aws_answers_is_no_difference() {
    let none: Vec<String> = vec![];
    for golden in GOLDEN {
        let (documents, answers) = (golden.render(), golden.read());
        let live = strip_answer(&answers["DescribeTaskDefinition"]);
        let kept = keep_definition(&live, &documents.task_definition);
        assert_eq!(differences(&live, &kept), none, "{}", golden.name);
        assert_eq!(differences(&live, &documents.task_definition), none, "{}", golden.name);
        assert_eq!(kept, documents.task_definition, "{}: nothing of AWS's is kept", golden.name);
        refuse_clash(&live, &kept).expect(golden.name);

        let service = &answers["DescribeServices"]["services"][0];
        let mut kept = keep_service(service, &documents.service, "patients-production");
        refuse_service(service, &kept).expect(golden.name);
        assert_eq!(kept, documents.service, "{}: nothing of AWS's is kept", golden.name);
        if let Some(balancers) = service["loadBalancers"].as_array().filter(|all| !all.is_empty()) {
            kept["loadBalancers"] = json!(balancers);
        }
        assert_eq!(update_document(service, &kept, &Value::Null), None, "{}", golden.name);
    }
}

/// What others put into the definition is in the next revision as it was, word for word.
#[test]
fn what_others_wrote_stays() {
    let (documents, mut live, _) = exposed();
    let sidecar = json!({
        "name": "log-router", "image": "fluent-bit:3", "essential": false, "memory": 64,
        "firelensConfiguration": { "type": "fluentbit", "options": { "a": "b" } },
        "environment": [{ "name": "B", "value": "" }, { "name": "A", "value": "1" }],
        "command": ["--token", "t"], "ofTomorrow": { "x": [1, {}] },
    });
    let ours = json!({
        "command": ["python", "by-hand.py"], "healthCheck": { "command": ["CMD", "true"] },
        "mountPoints": [{ "sourceVolume": "scratch", "containerPath": "/scratch" }],
        "ulimits": [{ "name": "nofile", "softLimit": 1, "hardLimit": 2 }],
        "dependsOn": [{ "containerName": "log-router", "condition": "START" }],
        "environmentFiles": [{ "type": "s3", "value": "arn:aws:s3:::b/f.env" }],
        "dockerLabels": { "team": "a" }, "memoryReservation": 128, "ofTomorrow": 1,
    });
    let top = json!({
        "volumes": [{ "name": "scratch" }], "ephemeralStorage": { "sizeInGiB": 50 },
        "pidMode": "task", "proxyConfiguration": { "containerName": "envoy" },
        "placementConstraints": [{ "type": "memberOf" }], "ofTomorrow": { "x": {} },
    });
    // Ours is not the first.
    live["containerDefinitions"].as_array_mut().expect("a list").insert(0, sidecar.clone());
    for (to, from) in [(1, &ours)] {
        for (key, value) in from.as_object().expect("an object") {
            live["containerDefinitions"][to][key] = value.clone();
        }
    }
    live["containerDefinitions"][1]["portMappings"][0]["appProtocol"] = json!("http");
    for (key, value) in top.as_object().expect("an object") {
        live[key] = value.clone();
    }
    live["tags"].as_array_mut().expect("a list").push(json!({ "key": "team", "value": "a" }));

    let kept = keep_definition(&live, &documents.task_definition);
    assert_eq!(kept["containerDefinitions"][1], sidecar);
    for (key, value) in ours.as_object().expect("an object") {
        assert_eq!(&kept["containerDefinitions"][0][key], value, "{key}");
    }
    assert_eq!(kept["containerDefinitions"][0]["portMappings"][0]["appProtocol"], "http");
    for (key, value) in top.as_object().expect("an object") {
        assert_eq!(&kept[key], value, "{key}");
    }
    assert_eq!(find_tag(&kept["tags"], "team"), Some("a"));
    assert_eq!(find_tag(&kept["tags"], VERSION_TAG), Some("1.0.0"));
    assert!(differences(&live, &kept).is_empty(), "{:?}", differences(&live, &kept));
    let named = name_foreign(&kept);
    for name in ["containerDefinitions[log-router]", "containerDefinitions[patients].command"] {
        assert!(named.iter().any(|one| one == name), "{named:?}");
    }
    assert!(named.iter().any(|one| one == "volumes"), "{named:?}");
    assert!(name_foreign(&documents.task_definition).is_empty());
}

/// What others wrote in the open is not in the ledger, and is there again with what is live.
#[test]
fn the_ledger_keeps_no_secret_of_others() {
    let (documents, mut live, _) = exposed();
    let token = "hunter2hunter2";
    let sidecar = json!({
        "name": "agent", "image": "agent:7",
        "command": ["agent", "--api-key", token, "--site", "eu"],
        "entryPoint": ["sh", "-c", format!("API_KEY={token} exec agent")],
        "healthCheck": { "command": ["CMD", "check", "--token", token] },
        "environment": [{ "name": "SITE", "value": "eu" }, { "name": "API_KEY", "value": token }],
        "logConfiguration": {
            "logDriver": "splunk", "options": { "splunk-token": token, "splunk-url": "https://logs" },
        },
        "firelensConfiguration": { "type": "fluentbit", "options": { "password": token } },
        "dockerLabels": { "team": "a", "password": token },
    });
    live["containerDefinitions"].as_array_mut().expect("a list").push(sidecar);
    // Of our container too what others wrote is theirs.
    live["containerDefinitions"][0]["dockerLabels"] = json!({ "team": "a", "password": token });
    live["volumes"] = json!([{ "name": "share", "dockerVolumeConfiguration": {
        "driverOpts": { "o": format!("username=u,password={token}"), "type": "cifs" },
    } }]);
    let kept = keep_definition(&live, &documents.task_definition);
    let mut recorded = kept.clone();
    leave_out_secrets(&mut recorded);
    assert!(!recorded.to_string().contains("hunter2"), "{recorded}");
    for part in ["SITE", "agent:7", "--site", "splunk-url", "fluentbit", "cifs"] {
        assert!(recorded.to_string().contains(part), "{part}: {recorded}");
    }
    let ours = |document: &Value, field: &str| document["containerDefinitions"][0][field].clone();
    assert_eq!(ours(&recorded, "environment"), ours(&kept, "environment"));
    assert_eq!(keep_definition(&live, &recorded), kept, "what is live fills it in again");
    assert!(name_lost_secrets(&kept).is_empty());

    // Where nothing is live any more, nobody knows them.
    let lost = name_lost_secrets(&recorded);
    let of_agent = |field: &str| format!("containerDefinitions[agent].{field}");
    for field in ["command", "entryPoint", "environment", "logConfiguration"] {
        assert!(lost.contains(&of_agent(field)), "{field}: {lost:?}");
    }
    assert!(lost.contains(&"volumes".to_string()), "{lost:?}");
}

/// What we write is what service.yaml says, and every removal is a line.
#[test]
fn what_is_ours_is_as_rendered() {
    let (documents, mut live, _) = exposed();
    live["taskRoleArn"] = json!("arn:aws:iam::1:role/other");
    let container = &mut live["containerDefinitions"][0];
    container["image"] = json!("a@sha256:1");
    container["environment"] = json!([
        { "name": "LOG_LEVEL", "value": "debug" },
        { "name": "ADDED_BY_HAND", "value": "1" },
        { "name": "API_TOKEN", "value": "hunter2hunter2" },
    ]);
    container["secrets"] = json!([{ "name": "OTHER", "valueFrom": "/patients/other" }]);
    container["portMappings"] = json!([{ "containerPort": 9000 }]);
    container["logConfiguration"] = json!({
        "logDriver": "splunk",
        "options": { "splunk-token": "hunter2hunter2", "splunk-url": "https://logs" },
    });
    let kept = keep_definition(&live, &documents.task_definition);
    assert_eq!(kept, documents.task_definition);
    let lines = differences(&live, &kept);
    let container = |rest: &str| format!("containerDefinitions[patients].{rest}");
    for line in [
        container("environment[LOG_LEVEL]: debug → info"),
        container("environment[EMPTY]: none → \"\""),
        container("environment[ADDED_BY_HAND]: 1 → none"),
        container("environment[API_TOKEN]: *** → none"),
        container("secrets[OTHER]: /patients/other → none"),
        container("portMappings[0].containerPort: 9000 → 8000"),
        container("logConfiguration.options.splunk-token: *** → none"),
        container("logConfiguration.logDriver: splunk → awslogs"),
        "taskRoleArn: arn:aws:iam::1:role/other → none".to_string(),
    ] {
        assert!(lines.contains(&line), "{line} is not in {lines:#?}");
    }
    assert!(!lines.join("\n").contains("hunter2"), "{lines:#?}");
}

#[test]
fn what_cannot_run_beside_ours_is_refused_by_name() {
    type Edit = fn(&mut Value);
    fn add(live: &mut Value, container: Value) {
        live["containerDefinitions"].as_array_mut().expect("a list").push(container);
    }
    let cases: [(Edit, Option<&str>); 8] = [
        (|_| (), None),
        (|live| add(live, json!({ "name": "a", "portMappings": [{ "containerPort": 1 }] })), None),
        (
            |live| live["containerDefinitions"][0]["name"] = json!("app"),
            Some("it runs app, and no container patients"),
        ),
        (
            |live| add(live, json!({ "name": "a", "portMappings": [{ "containerPort": 8000 }] })),
            Some("container a listens on port 8000 too"),
        ),
        (
            |live| {
                let port = json!({ "containerPort": 80, "hostPort": 8080 });
                add(live, json!({ "name": "a", "portMappings": [port] }));
            },
            Some("container a has port 80 as 8080 outside"),
        ),
        (
            |live| live["containerDefinitions"][0]["links"] = json!(["db"]),
            Some("container patients has `links`"),
        ),
        (
            |live| add(live, json!({ "name": "a", "memoryReservation": 513 })),
            Some("memory 513 of a is more than the task's 512"),
        ),
        (
            |live| add(live, json!({ "name": "a", "cpu": 300 })),
            Some("cpu 300 of a is more than the task's 256"),
        ),
    ];
    for (number, (edit, expected)) in cases.into_iter().enumerate() {
        let (documents, mut live, _) = exposed();
        edit(&mut live);
        let kept = keep_definition(&live, &documents.task_definition);
        let refused = refuse_clash(&live, &kept).err().map(|error| error.message);
        let as_expected = match (&refused, expected) {
            (None, None) => true,
            (Some(message), Some(part)) => message.contains(part),
            _ => false,
        };
        assert!(as_expected, "case {number}: {refused:?}");
    }
}

#[test]
fn a_service_of_others_is_refused_by_name_or_keeps_what_is_theirs() {
    type Edit = fn(&mut Value);
    let cases: [(Edit, Option<&str>); 9] = [
        (|_| (), None),
        (
            |live| live["deploymentController"]["type"] = json!("CODE_DEPLOY"),
            Some("its deploymentController is CODE_DEPLOY"),
        ),
        (
            |live| live["deploymentController"]["type"] = json!("EXTERNAL"),
            Some("its deploymentController is EXTERNAL"),
        ),
        (
            |live| live["schedulingStrategy"] = json!("DAEMON"),
            Some("its schedulingStrategy is DAEMON"),
        ),
        (
            |live| live["launchType"] = json!("EC2"),
            Some("its launchType is EC2, and platform.yaml says FARGATE"),
        ),
        (
            |live| {
                live.as_object_mut().expect("an object").remove("launchType");
                live["capacityProviderStrategy"] =
                    json!([{ "capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0 }]);
            },
            None,
        ),
        (
            |live| {
                live.as_object_mut().expect("an object").remove("launchType");
                live["capacityProviderStrategy"] = json!([{ "capacityProvider": "instances" }]);
            },
            Some("its capacityProviderStrategy is instances"),
        ),
        (|live| live["status"] = json!("DRAINING"), Some("it is DRAINING")),
        (|live| live["deploymentController"] = Value::Null, None),
    ];
    for (number, (edit, expected)) in cases.into_iter().enumerate() {
        let (documents, _, mut live) = exposed();
        edit(&mut live);
        let refused = refuse_service(&live, &documents.service).err().map(|error| error.message);
        let as_expected = match (&refused, expected) {
            (None, None) => true,
            (Some(message), Some(part)) => message.contains(part),
            _ => false,
        };
        assert!(as_expected, "case {number}: {refused:?}");
    }
}

/// An update says what differs and nothing else, so that the rest of the service stays.
#[test]
fn an_update_names_only_what_differs() {
    type Edit = fn(&mut Value);
    let cases: [(Edit, &str, Value); 7] = [
        (|live| live["desiredCount"] = json!(4), "desiredCount", json!(2)),
        (
            |live| live["healthCheckGracePeriodSeconds"] = json!(10),
            "healthCheckGracePeriodSeconds",
            json!(90),
        ),
        (
            |live| {
                let network = &mut live["networkConfiguration"]["awsvpcConfiguration"];
                network["subnets"] = json!(["subnet-a"]);
                network["assignPublicIp"] = json!("ENABLED");
                network["ofTomorrow"] = json!(1);
            },
            "networkConfiguration",
            json!({ "awsvpcConfiguration": {
                "subnets": ["subnet-b", "subnet-a"], "securityGroups": ["sg-1"],
                "assignPublicIp": "ENABLED", "ofTomorrow": 1,
            } }),
        ),
        (
            |live| {
                let deployment = &mut live["deploymentConfiguration"];
                deployment["maximumPercent"] = json!(150);
                deployment["strategy"] = json!("CANARY");
                deployment["deploymentCircuitBreaker"]["ofTomorrow"] = json!(1);
                deployment["alarms"] =
                    json!({ "enable": true, "rollback": true, "alarmNames": ["errors"] });
            },
            "deploymentConfiguration",
            json!({
                "minimumHealthyPercent": 100, "maximumPercent": 200, "strategy": "CANARY",
                "deploymentCircuitBreaker": { "enable": true, "rollback": true, "ofTomorrow": 1 },
                "alarms": { "enable": true, "rollback": true, "alarmNames": ["errors"] },
            }),
        ),
        // The target group was made anew: its name is the same, its ARN is not.
        (
            |live| {
                let old = "arn:aws:elasticloadbalancing:r:1:targetgroup/patients-production/old";
                live["loadBalancers"][0]["targetGroupArn"] = json!(old);
            },
            "loadBalancers",
            json!([{ "targetGroupArn": "patients-production", "containerName": "patients",
                "containerPort": 8000 }]),
        ),
        (
            |live| live["loadBalancers"] = json!([]),
            "loadBalancers",
            json!([{ "targetGroupArn": "patients-production", "containerName": "patients",
                "containerPort": 8000 }]),
        ),
        // One that others attached stays.
        (
            |live| {
                live["loadBalancers"] = json!([{ "targetGroupArn": "arn:…:targetgroup/nlb/1",
                    "containerName": "patients", "containerPort": 8000 }]);
            },
            "loadBalancers",
            json!([
                { "targetGroupArn": "patients-production", "containerName": "patients",
                    "containerPort": 8000 },
                { "targetGroupArn": "arn:…:targetgroup/nlb/1", "containerName": "patients",
                    "containerPort": 8000 },
            ]),
        ),
    ];
    for (edit, key, expected) in cases {
        let (documents, _, mut live) = exposed();
        edit(&mut live);
        let mut kept = keep_service(&live, &documents.service, "patients-production");
        if key != "loadBalancers" {
            kept["loadBalancers"] = live["loadBalancers"].clone();
        }
        let update = update_document(&live, &kept, &Value::Null).expect(key);
        assert_eq!(update[key], expected, "{key}");
        let mut named: Vec<&str> =
            update.as_object().expect("an object").keys().map(String::as_str).collect();
        // Without a load balancer the grace period was none.
        named.retain(|key| *key != "healthCheckGracePeriodSeconds" || expected.is_number());
        assert_eq!(named, ["cluster", "service", key]);
    }
}

#[test]
fn secrets_are_looked_for_and_their_versions_are_marked() {
    let definition = |secrets: &[(&str, &str)]| {
        let list = secrets.iter().map(|(name, from)| json!({ "name": name, "valueFrom": from }));
        let list: Vec<Value> = list.collect();
        json!({ "family": "p", "containerDefinitions": [{ "name": "p", "secrets": list }] })
    };
    let arn = |name: &str| format!("arn:aws:secretsmanager:eu-west-1:1:secret:{name}");
    let of_key = format!("{}:url::", arn("p/db"));
    let wanted = definition(&[
        ("URL", &of_key),
        ("PASSWORD", &format!("{}:password::", arn("p/db"))),
        ("TOKEN", &arn("p/token")),
        ("PARAMETER", "arn:aws:ssm:eu-west-1:1:parameter/p/x"),
    ]);
    let pair = |variable: &str, name: &str| (variable.to_string(), arn(name));
    assert_eq!(list_secrets(&wanted), [pair("URL", "p/db"), pair("TOKEN", "p/token")]);

    let label = |document: &Value| document["containerDefinitions"][0]["dockerLabels"].clone();
    let mut marked = wanted.clone();
    marked["containerDefinitions"][0]["dockerLabels"] = json!({ "of": "others" });
    mark_secrets(&mut marked, Some("v1"));
    assert_eq!(label(&marked), json!({ "of": "others", SECRETS_LABEL: "v1" }));
    mark_secrets(&mut marked, None);
    assert_eq!(label(&marked)[SECRETS_LABEL], "v1", "what is not seen is not changed");
    marked["containerDefinitions"][0]["secrets"] = json!([]);
    mark_secrets(&mut marked, Some("v2"));
    assert_eq!(label(&marked), json!({ "of": "others" }));
    let mut bare = definition(&[]);
    mark_secrets(&mut bare, Some("v1"));
    assert_eq!(label(&bare), Value::Null);
}
