//! A proxy before the real API server: it passes each request on, and is unwell where a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::Place;

/// What happens to a request.
pub enum Turn {
    PassOn,
    /// The API server is not asked: this status, and these header lines.
    Answer(u16, &'static str),
    /// The API server is not asked: this status, in words that are not the API server's.
    Say(u16),
    /// The API server is not asked, and the connection breaks off.
    Drop,
    /// The API server does what it was asked, and its answer is lost.
    LoseAnswer,
}

/// Says what happens to a request: `PATCH /apis/…`, and how many like it were there before.
type Script = dyn Fn(&str, usize) -> Turn + Send + Sync;

pub struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    upstream: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.upstream.kill();
        let _ = self.upstream.wait();
    }
}

impl Proxy {
    pub fn start(script: impl Fn(&str, usize) -> Turn + Send + Sync + 'static) -> Proxy {
        let mut upstream = Command::new("kubectl")
            .args(["proxy", "--port=0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl");
        let mut line = String::new();
        let said = upstream.stdout.as_mut().expect("its output");
        BufReader::new(said).read_line(&mut line).expect("an address");
        let address = line.trim().rsplit(' ').next().expect("an address").to_string();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (shared, script): (_, Arc<Script>) = (seen.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (address, shared, script) = (address.clone(), shared.clone(), script.clone());
                std::thread::spawn(move || pass_on(client, &address, &shared, script.as_ref()));
            }
        });
        Proxy { port, seen, upstream }
    }

    /// From here on `place` reaches its cluster through this proxy.
    pub fn stand_before(&self, place: &Place) {
        let file = place.repository.path().join("platform.yaml");
        let text = std::fs::read_to_string(&file).expect("platform.yaml");
        let cluster = "eks: {cluster: clinicult-staging,";
        assert!(text.contains(cluster), "{text}");
        let ours = format!("{cluster} endpoint: \"http://localhost:{}\",", self.port);
        place.repository.write("platform.yaml", &text.replace(cluster, &ours));
    }

    /// The requests that `is_meant` picks.
    pub fn seen(&self, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        let seen = self.seen.lock().expect("a lock");
        seen.iter().filter(|request| is_meant(request)).cloned().collect()
    }
}

/// Whether a request writes to the Deployment of the service, and does not only try.
pub fn writes_deployment(request: &str) -> bool {
    request.starts_with("PATCH ")
        && request.contains("/deployments/probe?")
        && !request.contains("dryRun")
}

/// One request and its answer; the connection ends with them.
fn pass_on(mut client: TcpStream, address: &str, seen: &Mutex<Vec<String>>, script: &Script) {
    let Some((head, body)) = read_message(&mut client) else { return };
    let request = head.lines().next().unwrap_or_default();
    let request = request.rsplit_once(' ').map_or(request, |(request, _)| request).to_string();
    let before = {
        let mut seen = seen.lock().expect("a lock");
        seen.push(request.clone());
        seen.iter().filter(|known| **known == request).count() - 1
    };
    let turn = script(&request, before);
    let refused = match turn {
        Turn::Answer(status, headers) => {
            let text = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status,
                "message": "the proxy says so",
            });
            Some((status, headers, text.to_string()))
        }
        Turn::Say(status) => Some((status, "", "not now".to_string())),
        _ => None,
    };
    if let Some((status, headers, text)) = refused {
        let _ = client.write_all(
            format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                 connection: close\r\n{headers}\r\n{text}",
                text.len()
            )
            .as_bytes(),
        );
        return;
    }
    if matches!(turn, Turn::Drop) {
        return;
    }
    let mut upstream = TcpStream::connect(address).expect("kubectl proxy");
    let kept = head.lines().filter(|line| {
        let line = line.to_lowercase();
        !line.is_empty() && !line.starts_with("connection:") && !line.starts_with("authorization:")
    });
    let head = kept.collect::<Vec<_>>().join("\r\n");
    let whole = [format!("{head}\r\nconnection: close\r\n\r\n").as_bytes(), &body].concat();
    upstream.write_all(&whole).expect("sent");
    let mut answer = Vec::new();
    let _ = upstream.read_to_end(&mut answer);
    if matches!(turn, Turn::PassOn) {
        let _ = client.write_all(&answer);
    }
}

/// The head of a request and its body, as long as its `content-length` says.
fn read_message(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line.trim().is_empty() {
            break;
        }
        head.push_str(line.trim_end());
        head.push_str("\r\n");
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}
