//! A registry that is not well: a proxy before a real one, which breaks what a test tells it to and
//! writes down what it saw.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What happens to a request instead of being passed on.
#[derive(Clone, Debug)]
pub enum Act {
    /// The whole body is read, then this is answered: a status line and headers, without the empty
    /// line.
    Answer(&'static str),
    /// As `Answer`, with words: a status line, and JSON.
    Say(&'static str, &'static str),
    /// The connection is closed when this share of the body was read, in percent.
    Cut(usize),
    /// The registry gets the request; its answer is thrown away with the connection.
    LoseAnswer,
    /// The registry gets the request; half of its answer comes back.
    HalfAnswer,
    /// The registry gets the request; the body is read this many bytes at a time, with a pause of a
    /// millisecond between.
    Slow(usize),
    /// The body is read and nothing is answered until the client goes away.
    Silence,
}

/// `act` happens to the first `times` requests of this method whose path has `part` in it.
#[derive(Clone, Debug)]
pub struct Rule {
    pub method: &'static str,
    pub part: &'static str,
    pub times: usize,
    pub act: Act,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub chunked: bool,
    pub at: Instant,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    /// How many tokens were asked for, and how many requests the last one is still good for.
    token: Option<(usize, usize)>,
}

pub struct Proxy {
    pub host: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// In front of `upstream` (`localhost:5000`).
    pub fn before(upstream: &str, rules: &[Rule]) -> Proxy {
        Proxy::start(upstream, State { rules: rules.to_vec(), ..State::default() })
    }

    /// One that wants a token; the first is good for `uses` requests, the second for all, and both
    /// read the same.
    pub fn with_tokens(upstream: &str, uses: usize) -> Proxy {
        Proxy::start(upstream, State { token: Some((0, uses)), ..State::default() })
    }

    fn start(upstream: &str, state: State) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = format!("localhost:{}", listener.local_addr().expect("an address").port());
        let state = Arc::new(Mutex::new(state));
        let (shared, upstream, own) = (state.clone(), upstream.to_string(), host.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, upstream, own) = (shared.clone(), upstream.clone(), own.clone());
                // A connection that breaks off is what this is for.
                std::thread::spawn(move || drop(serve(client, &upstream, &own, &shared)));
            }
        });
        Proxy { host, state }
    }

    /// These happen from now on, too.
    pub fn harm(&self, rules: &[Rule]) {
        self.state.lock().expect("lock").rules.extend_from_slice(rules);
    }

    /// All requests so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().expect("lock").seen.clone()
    }

    /// The requests of these methods, as `PUT /v2/…`.
    pub fn lines(&self, methods: &[&str]) -> Vec<String> {
        let seen = self.seen();
        let wanted = seen.iter().filter(|seen| methods.contains(&seen.method.as_str()));
        wanted.map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }

    /// The requests that change a registry.
    pub fn writes(&self) -> Vec<String> {
        self.lines(&["POST", "PUT", "PATCH", "DELETE"])
    }
}

fn serve(
    mut client: TcpStream,
    upstream: &str,
    own: &str,
    state: &Mutex<State>,
) -> std::io::Result<()> {
    let head = read_head(&mut client)?;
    let mut words = head.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default().to_string(),
        words.next().unwrap_or_default().to_string(),
    );
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_string())
        })
    };
    let length: usize =
        header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let chunked = header("transfer-encoding").is_some();
    let act = {
        let mut state = state.lock().expect("lock");
        state.seen.push(Seen {
            method: method.clone(),
            path: path.clone(),
            chunked,
            at: Instant::now(),
        });
        let fits =
            |rule: &&mut Rule| rule.times > 0 && rule.method == method && path.contains(rule.part);
        // A token service has its own, and to the rest of the registry only those come who have a
        // token.
        let at_service = path.starts_with("/token");
        let act = |state: &mut State| {
            let rule = state.rules.iter_mut().find(fits)?;
            rule.times -= 1;
            Some(rule.act.clone())
        };
        match at_service.then(|| act(&mut state)).flatten() {
            Some(act) => Some(act),
            None => match token(&mut state, own, &path, header("authorization")) {
                Some(answer) => {
                    drop(state);
                    drain(&mut client, length)?;
                    return client.write_all(answer.as_bytes());
                }
                None => act(&mut state),
            },
        }
    };
    match act {
        Some(Act::Answer(answer)) => {
            drain(&mut client, length)?;
            return client.write_all(
                format!("{answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(),
            );
        }
        Some(Act::Say(answer, words)) => {
            drain(&mut client, length)?;
            let length = words.len();
            let head =
                format!("{answer}\r\nContent-Type: application/json\r\nContent-Length: {length}");
            return client
                .write_all(format!("{head}\r\nConnection: close\r\n\r\n{words}").as_bytes());
        }
        Some(Act::Cut(percent)) => {
            drain(&mut client, length * percent / 100)?;
            return client.shutdown(Shutdown::Both);
        }
        Some(Act::Silence) => {
            drain(&mut client, length)?;
            return drain(&mut client, usize::MAX);
        }
        Some(Act::LoseAnswer | Act::HalfAnswer | Act::Slow(_)) | None => {}
    }
    let mut registry = TcpStream::connect(upstream)?;
    registry.set_read_timeout(Some(Duration::from_secs(30)))?;
    let passed: Vec<&str> =
        head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:")).collect();
    registry
        .write_all(format!("{}\r\nConnection: close\r\n\r\n", passed.join("\r\n")).as_bytes())?;
    let mut body = (&mut client).take(length as u64);
    if let Some(Act::Slow(bytes)) = act {
        while std::io::copy(&mut (&mut body).take(bytes as u64), &mut registry)? > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    } else {
        std::io::copy(&mut body, &mut registry)?;
    }
    let mut answer = Vec::new();
    registry.read_to_end(&mut answer)?;
    match act {
        Some(Act::LoseAnswer) => client.shutdown(Shutdown::Both),
        Some(Act::HalfAnswer) => client.write_all(&answer[..answer.len() / 2]),
        _ => client.write_all(&answer),
    }
}

/// The answer of a registry with tokens; none where the request may pass.
fn token(state: &mut State, own: &str, path: &str, given: Option<String>) -> Option<String> {
    let (number, uses) = state.token.as_mut()?;
    if path.starts_with("/token") {
        *number += 1;
        *uses = if *number == 1 { *uses } else { usize::MAX };
        let body = r#"{"token":"registry-secret"}"#;
        return Some(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ));
    }
    if given == Some("Bearer registry-secret".into()) && *uses > 0 {
        *uses -= 1;
        return None;
    }
    Some(format!(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"stack\"\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    ))
}

/// Looks before it reads, so that the body stays in the connection.
pub fn read_head(client: &mut TcpStream) -> std::io::Result<String> {
    let mut seen = vec![0; 16 * 1024];
    loop {
        let length = client.peek(&mut seen)?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = seen[..length].windows(4).position(|end| end == b"\r\n\r\n") {
            client.read_exact(&mut seen[..end + 4])?;
            return Ok(String::from_utf8_lossy(&seen[..end]).into_owned());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn drain(client: &mut TcpStream, bytes: usize) -> std::io::Result<()> {
    std::io::copy(&mut client.take(bytes as u64), &mut std::io::sink()).map(drop)
}
