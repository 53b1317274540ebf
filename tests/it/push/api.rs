//! ECR in front of the stack's: every call is written down, and a test may answer one itself, or
//! change what the stack says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::proxy::read_head;
use crate::support::stack;

/// A call as it came.
#[derive(Clone, Debug)]
pub struct Call {
    /// `DescribeImages`; of the registry's own protocol `PUT /v2/…`.
    pub action: String,
    /// What was sent, when it is JSON.
    pub body: Value,
    /// The region that it is signed for.
    pub region: String,
}

/// What becomes of a call.
pub enum Turn {
    /// The stack answers.
    Pass,
    /// This is answered: a status line's end, and the body.
    Answer(&'static str, Value),
    /// The stack answers, and its answer is changed.
    Change(Box<dyn Fn(&mut Value)>),
    /// Another emulator answers, at `HOST:PORT`.
    At(String),
}

impl Turn {
    /// An error in ECR's own form.
    pub fn error(code: &str) -> Turn {
        Turn::Answer(
            "400 Bad Request",
            serde_json::json!({ "__type": code, "message": format!("about {code}") }),
        )
    }
}

/// Decides on a call, told how many of its action there were before.
type Script = dyn Fn(&Call, usize) -> Turn + Send + Sync;

pub struct Api {
    pub url: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Api {
    pub fn new(script: impl Fn(&Call, usize) -> Turn + Send + Sync + 'static) -> Api {
        Api::of(None, Arc::new(script))
    }

    /// One whose registry is that of `host` to the stack: of another account, or in another region.
    pub fn named(host: &str) -> Api {
        Api::of(Some(host.to_string()), Arc::new(|_: &Call, _| Turn::Pass))
    }

    fn of(host: Option<String>, script: Arc<Script>) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let shared = calls.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (host, script, calls) = (host.clone(), script.clone(), shared.clone());
                // Whoever asks may go away in the middle of it.
                std::thread::spawn(move || drop(serve(client, host.as_deref(), &script, &calls)));
            }
        });
        Api { url, calls }
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("lock").clone()
    }

    /// The calls of one action.
    pub fn of_action(&self, action: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.action == action).collect()
    }
}

fn serve(
    mut client: TcpStream,
    host: Option<&str>,
    script: &Arc<Script>,
    calls: &Mutex<Vec<Call>>,
) -> std::io::Result<()> {
    let head = read_head(&mut client)?;
    let header = |name: &str| {
        let found = head.lines().find_map(|line| {
            line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name))
        });
        found.map(|(_, value)| value.trim().to_string()).unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    client.read_exact(&mut body)?;
    let target = header("x-amz-target");
    let action = match target.rsplit_once('.') {
        Some((_, action)) => action.to_string(),
        None => head.split(' ').take(2).collect::<Vec<_>>().join(" "),
    };
    let call = Call {
        // Credential=KEY/DATE/REGION/SERVICE/aws4_request
        region: header("authorization").split('/').nth(2).unwrap_or_default().to_string(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        action,
    };
    let before = {
        let mut calls = calls.lock().expect("lock");
        let before = calls.iter().filter(|before| before.action == call.action).count();
        calls.push(call.clone());
        before
    };
    let mut upstream = stack("AWS_ENDPOINT_URL").trim_start_matches("http://").to_string();
    let mut change: Option<Box<dyn Fn(&mut Value)>> = None;
    match script(&call, before) {
        Turn::Answer(status, answer) => return client.write_all(&json_answer(status, &answer)),
        Turn::At(emulator) => upstream = emulator,
        Turn::Change(how) => change = Some(how),
        Turn::Pass => {}
    }
    let mut there = TcpStream::connect(upstream)?;
    // Only the registry's own protocol goes by the host's name.
    let host = host.filter(|_| target.is_empty());
    let is_dropped = |line: &&str| {
        let line = line.to_ascii_lowercase();
        line.starts_with("connection:") || (host.is_some() && line.starts_with("host:"))
    };
    let mut passed: Vec<String> =
        head.lines().filter(|line| !is_dropped(line)).map(str::to_string).collect();
    passed.extend(host.map(|host| format!("Host: {host}")));
    there.write_all(format!("{}\r\nConnection: close\r\n\r\n", passed.join("\r\n")).as_bytes())?;
    there.write_all(&body)?;
    let Some(change) = change else { return std::io::copy(&mut there, &mut client).map(drop) };
    let mut answer = Vec::new();
    there.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
    let mut body: Value = serde_json::from_slice(&answer[end + 4..]).expect("JSON");
    change(&mut body);
    client.write_all(&json_answer("200 OK", &body))
}

fn json_answer(status: &str, body: &Value) -> Vec<u8> {
    let text = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/x-amz-json-1.1\r\nConnection: close"
    );
    format!("{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes()
}
