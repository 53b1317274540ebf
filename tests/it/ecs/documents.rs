//! What ECS is told, seen on the wire: a proxy before the emulator writes down each document, and
//! adds to answers what the emulator does not know.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde_json::{Value, json};

use super::Place;
use crate::probe::digest_of;
use crate::support::{Run, cicd, http_get, run, stack};

/// What happens to the calls of ECS.
#[derive(Clone, Copy, Default)]
struct Script {
    /// Answers a call in the emulator's place.
    refuse: Option<fn(&str) -> Option<(u16, Value)>>,
    /// Changes an answer.
    edit: Option<fn(&str, &mut Value)>,
    /// The calls that are done, and whose answer is lost: the connection ends.
    lose: &'static [&'static str],
}

struct Proxy {
    url: String,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Proxy {
    fn start(script: Script) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = seen.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || pass_on(client, script, &shared));
            }
        });
        Proxy { url, seen }
    }

    /// The documents that were sent for this call.
    fn sent(&self, action: &str) -> Vec<Value> {
        let seen = self.seen.lock().expect("a lock");
        seen.iter().filter(|(name, _)| name == action).map(|(_, sent)| sent.clone()).collect()
    }

    fn deploy(&self, place: &Place, version: &str) -> Run {
        run(place.command(version).env("AWS_ENDPOINT_URL_ECS", &self.url))
    }
}

/// One request and its answer; the connection ends with them.
fn pass_on(mut client: TcpStream, script: Script, seen: &Mutex<Vec<(String, Value)>>) {
    let Some((head, body)) = read_message(&mut client) else { return };
    let action = header(&head, "x-amz-target").rsplit('.').next().unwrap_or_default().to_string();
    // The length is that of the document, so that it is read to its end.
    let sent: Value = serde_json::from_slice(&body).expect("a document");
    seen.lock().expect("a lock").push((action.clone(), sent));
    let said = header(&head, "authorization");
    assert!(said.ends_with(&signature_of(&head, &body)), "{action} is signed otherwise: {said}");
    let (status, mut answer) = match script.refuse.and_then(|refuse| refuse(&action)) {
        Some(refused) => refused,
        None => {
            let address = stack("AWS_ENDPOINT_URL").replace("http://", "");
            let mut upstream = TcpStream::connect(address).expect("the emulator");
            let kept: Vec<&str> = head
                .lines()
                .filter(|line| !line.is_empty() && !line.to_lowercase().starts_with("connection:"))
                .collect();
            let head = format!("{}\r\nconnection: close\r\n\r\n", kept.join("\r\n"));
            upstream.write_all(&[head.as_bytes(), &body].concat()).expect("sent");
            let (head, body) = read_message(&mut upstream).expect("an answer");
            let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
            (status.expect("a status"), serde_json::from_slice(&body).expect("a document"))
        }
    };
    if let Some(edit) = script.edit {
        edit(&action, &mut answer);
    }
    if script.lose.contains(&action.as_str()) {
        return;
    }
    let text = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} Answer\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        text.len()
    );
    let _ = client.write_all(format!("{head}{text}").as_bytes());
}

/// The signature of a request whose body is this, by its own time and headers.
fn signature_of(head: &str, body: &[u8]) -> String {
    let said = header(head, "authorization");
    let part = |name: &str| said.split([',', ' ']).find_map(|part| part.strip_prefix(name));
    let time = header(head, "x-amz-date");
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", time).expect("a time");
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).expect("a time").timestamp();
    let key = |name: &str| std::env::var(name).expect(name);
    let token = std::env::var("AWS_SESSION_TOKEN").ok();
    let (id, secret) = (key("AWS_ACCESS_KEY_ID"), key("AWS_SECRET_ACCESS_KEY"));
    let identity = Credentials::new(id, secret, token, None, "test");
    let identity = identity.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(part("Credential=").and_then(|scope| scope.split('/').nth(2)).expect("a region"))
        .name("ecs")
        .time(time.into())
        .settings(SigningSettings::default())
        .build()
        .expect("parameters")
        .into();
    let signed = part("SignedHeaders=").expect("headers").split(';');
    let headers: Vec<(&str, &str)> = signed
        .filter(|name| !["x-amz-date", "x-amz-security-token"].contains(name))
        .map(|name| (name, header(head, name)))
        .collect();
    let url = format!("http://{}/", header(head, "host"));
    let body = SignableBody::Bytes(body);
    let request = SignableRequest::new("POST", url, headers.into_iter(), body).expect("a request");
    sign(request, &parameters).expect("a signature").signature().to_string()
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    values.next().map_or("", |(_, value)| value.trim())
}

/// Head and body of a message whose length is said.
fn read_message(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&some[..count]);
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head");
    let length: usize = header(&head, "content-length").parse().expect("a length");
    let mut body = bytes.split_off(end);
    while body.len() < length {
        let mut some = vec![0; length - body.len()];
        let count = stream.read(&mut some).ok().filter(|count| *count > 0)?;
        body.extend_from_slice(&some[..count]);
    }
    Some((head, body))
}

/// What `render` prints for the version.
fn rendered(place: &Place, version: &str) -> Value {
    let mut command = cicd(place.repository.path());
    command.args(["render", "--environment", "production"]);
    command.args(["--version", version, "--digest", digest_of(version)]);
    serde_json::from_str(&run(&mut command).ended(0).stdout).expect("JSON")
}

fn aws(arguments: &[&str]) -> Value {
    let ended = run(Command::new("aws").arg("ecs").args(arguments)).ended(0);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

/// Registers a revision as others do: what runs, changed by `edit`; and has the service run it.
fn change_by_hand(name: &str, edit: impl Fn(&mut Value)) {
    let known = aws(&["describe-task-definition", "--task-definition", name]);
    let mut document = json!({});
    for key in [
        "family",
        "containerDefinitions",
        "networkMode",
        "executionRoleArn",
        "taskRoleArn",
        "requiresCompatibilities",
        "cpu",
        "memory",
        "runtimePlatform",
    ] {
        document[key] = known["taskDefinition"][key].clone();
    }
    edit(&mut document);
    let text = document.to_string();
    let made = aws(&["register-task-definition", "--cli-input-json", &text]);
    let arn = made["taskDefinition"]["taskDefinitionArn"].as_str().expect("an ARN");
    let update = ["update-service", "--cluster", "clinicult", "--service", name];
    aws(&[&update[..], &["--task-definition", arn]].concat());
}

/// What is rendered is what is sent, but for the values that are known only then.
#[test]
fn what_is_rendered_is_what_is_sent() {
    let place = Place::new("ecs-sent");
    place.service("env: {GREETING: hello}\n");
    let proxy = Proxy::start(Script::default());
    proxy.deploy(&place, "1.0.0").ended(0);
    let rendered = rendered(&place, "1.0.0");
    assert_eq!(proxy.sent("RegisterTaskDefinition"), [rendered["task-definition"].clone()]);

    let sent = proxy.sent("CreateService");
    let mut expected = rendered["service"].clone();
    expected["taskDefinition"] = sent[0]["taskDefinition"].clone();
    let target_group = &mut expected["loadBalancers"][0]["targetGroupArn"];
    let arn = sent[0]["loadBalancers"][0]["targetGroupArn"].as_str().expect("an ARN");
    let name = target_group.as_str().expect("a name");
    assert!(arn.contains(&format!(":targetgroup/{name}/")), "{arn}");
    *target_group = json!(arn);
    // One name for all tries of this run, so that ECS makes one service of them.
    let token = sent[0]["clientToken"].as_str().expect("a token");
    assert!((32..=36).contains(&token.len()), "{token}");
    expected["clientToken"] = json!(token);
    assert_eq!(sent, [expected]);
}

/// A field that neither the SDK nor the emulator knows is read, kept and sent on, as are a
/// container, a volume and limits of others.
#[test]
fn what_others_wrote_is_in_the_next_revision_word_for_word() {
    let place = Place::new("ecs-kept");
    place.service("env: {GREETING: hello}\n");
    place.deploy("1.0.0").ended(0);
    change_by_hand(&place.name, |document| {
        let ours = document["containerDefinitions"][0].clone();
        let sidecar = json!({
            "name": "log-router", "image": ours["image"], "essential": false, "memory": 64,
            "environment": [{ "name": "PORT", "value": "9000" }],
        });
        document["containerDefinitions"].as_array_mut().expect("a list").insert(0, sidecar);
        let ours = &mut document["containerDefinitions"][1];
        ours["ulimits"] = json!([{ "name": "nofile", "softLimit": 1024, "hardLimit": 2048 }]);
        document["volumes"] = json!([{ "name": "scratch", "host": {} }]);
        document["ephemeralStorage"] = json!({ "sizeInGiB": 50 });
    });
    let proxy = Proxy::start(Script {
        edit: Some(|action, answer| {
            if action == "DescribeTaskDefinition" {
                let task = &mut answer["taskDefinition"];
                task["ofTomorrow"] = json!({ "deep": [1, { "x": null, "y": "é" }] });
                for container in task["containerDefinitions"].as_array_mut().expect("a list") {
                    container["ofTomorrow"] = json!(container["name"]);
                }
            }
        }),
        ..Script::default()
    });
    let same = proxy.deploy(&place, "1.0.0").ended(0);
    assert!(same.changed().is_empty(), "what others add is no difference: {same}");
    for write in ["RegisterTaskDefinition", "UpdateService", "TagResource"] {
        assert!(proxy.sent(write).is_empty(), "{write}");
    }

    let changed = proxy.deploy(&place, "2.0.0").ended(0);
    let said = "stays as others wrote it: ";
    let line = changed.stderr.lines().find(|line| line.contains(said)).unwrap_or_default();
    for name in ["[log-router]", ".ulimits", ".ofTomorrow", "volumes", "ephemeralStorage"] {
        assert!(line.contains(name), "{name} is not said: {changed}");
    }
    let sent = proxy.sent("RegisterTaskDefinition");
    let [document] = sent.as_slice() else { panic!("{sent:?}") };
    let container = |name: &str| {
        let all = document["containerDefinitions"].as_array().expect("a list");
        all.iter().find(|one| one["name"] == name).expect(name).clone()
    };
    assert_eq!(document["ofTomorrow"], json!({ "deep": [1, { "y": "é" }] }));
    assert_eq!(document["volumes"], json!([{ "name": "scratch" }]));
    assert_eq!(document["ephemeralStorage"], json!({ "sizeInGiB": 50 }));
    assert_eq!(container("log-router")["ofTomorrow"], "log-router");
    assert_eq!(container("log-router")["memory"], 64);
    let ours = container(&place.name);
    assert_eq!(ours["ulimits"][0]["hardLimit"], 2048);
    assert!(ours["image"].as_str().is_some_and(|image| image.contains(digest_of("2.0.0"))));
    let update = proxy.sent("UpdateService");
    let named: Vec<&str> =
        update[0].as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(named, ["cluster", "service", "taskDefinition"], "the rest of it stays");

    // What the ledger knows is what runs, others' parts included.
    let mut status = cicd(place.repository.path());
    status.args(["status", "--environment", "production", "--output", "json"]);
    let status = run(status.env("AWS_ENDPOINT_URL_ECS", &proxy.url));
    assert_eq!(status.ended(0).json()["drift"], json!([]));

    // The version before had no sidecar yet: it comes back beside the one that is there now.
    let mut back = cicd(place.repository.path());
    back.args(["rollback", "--environment", "production", "--output", "json", "--to", "1.0.0"]);
    let back = run(back.env("AWS_ENDPOINT_URL_ECS", &proxy.url)).ended(0);
    assert_eq!(back.json()["status"], "deployed", "{back}");
    let sent = proxy.sent("RegisterTaskDefinition");
    let all = sent[1]["containerDefinitions"].as_array().expect("a list");
    assert!(all[0]["image"].as_str().is_some_and(|image| image.contains(digest_of("1.0.0"))));
    assert_eq!(all[1], container("log-router"));
    assert_eq!(sent[1]["ofTomorrow"], document["ofTomorrow"]);
}

/// A refused update changed nothing: there is nothing to undo, and nobody is called.
#[test]
fn a_refused_update_is_refused_and_leaves_what_runs() {
    let place = Place::new("ecs-refused");
    place.service("env: {GREETING: hello}\n");
    place.deploy("1.0.0").ended(0);
    let refusals: [fn(&str) -> Option<(u16, Value)>; 2] = [
        |action| {
            let body = json!({ "__type": "InvalidParameterException", "message": "not like this" });
            (action == "UpdateService").then_some((400, body))
        },
        |action| {
            let body = json!({ "__type": "ClientException", "message": "too many" });
            (action == "RegisterTaskDefinition").then_some((400, body))
        },
    ];
    for refuse in refusals {
        let proxy = Proxy::start(Script { refuse: Some(refuse), ..Script::default() });
        let refused = proxy.deploy(&place, "2.0.0").ended(3);
        assert!(proxy.sent("UpdateService").len() <= 1, "{refused}");
        let error = &refused.json()["error"];
        assert!(
            error["message"].as_str().is_some_and(|said| said.contains("nothing that runs")),
            "{error}"
        );
    }
    // An answer that does not say what was done may have been a change.
    let proxy = Proxy::start(Script {
        refuse: Some(|action| {
            (action == "UpdateService").then(|| (500, json!({ "__type": "ServerException" })))
        }),
        ..Script::default()
    });
    let lost = proxy.deploy(&place, "2.0.0");
    assert!([4, 5].contains(&lost.code), "{lost}");
    place.deploy("2.0.0").ended(0);
}

/// What a write did whose answer is lost is looked up: the service is made once, and updated once.
#[test]
fn a_lost_answer_is_looked_up() {
    let place = Place::new("ecs-lost");
    place.service("env: {GREETING: hello}\n");
    let proxy =
        Proxy::start(Script { lose: &["CreateService", "UpdateService"], ..Script::default() });
    let first = proxy.deploy(&place, "1.0.0").ended(0);
    assert_eq!(first.json()["status"], "deployed", "{first}");
    let created = proxy.sent("CreateService");
    assert!(created.len() > 1, "it is sent again: {created:?}");
    let same = |sent: &Value| sent["clientToken"] == created[0]["clientToken"];
    assert!(created.iter().all(same), "by one name: {created:?}");

    let second = proxy.deploy(&place, "2.0.0").ended(0);
    assert_eq!(second.json()["revision"], "2", "{second}");
    let answer = http_get(&format!("{}/", second.json()["url"].as_str().expect("a URL")));
    assert_eq!(answer, "version 2.0.0 says hello");
}

#[test]
fn a_service_that_others_deploy_is_refused_before_the_first_write() {
    let place = Place::new("ecs-others");
    place.service("");
    place.deploy("1.0.0").ended(0);
    type Edit = fn(&str, &mut Value);
    let cases: [(Edit, &str); 3] = [
        (
            |action, answer| {
                if action == "DescribeServices" {
                    let service = &mut answer["services"][0];
                    service["deploymentController"]["type"] = json!("EXTERNAL");
                    service.as_object_mut().expect("an object").remove("taskDefinition");
                }
            },
            "deploymentController is EXTERNAL",
        ),
        (
            |action, answer| {
                if action == "DescribeServices" {
                    answer["services"][0]["deploymentController"]["type"] = json!("CODE_DEPLOY");
                }
            },
            "deploymentController is CODE_DEPLOY",
        ),
        (
            |action, answer| {
                if action == "DescribeTaskDefinition" {
                    let container = &mut answer["taskDefinition"]["containerDefinitions"][0];
                    container["name"] = json!("app");
                }
            },
            "it runs app, and no container",
        ),
    ];
    for (edit, words) in cases {
        let proxy = Proxy::start(Script { edit: Some(edit), ..Script::default() });
        let refused = proxy.deploy(&place, "2.0.0").ended(3);
        let message = refused.json()["error"]["message"].to_string();
        assert!(message.contains(words), "{refused}");
        for write in ["RegisterTaskDefinition", "UpdateService", "CreateService", "TagResource"] {
            assert!(proxy.sent(write).is_empty(), "{write}: {refused}");
        }
    }
}
