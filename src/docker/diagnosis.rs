//! Why a container is not well, in words, and the fix. Pure: from what was seen to what is said.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address and a port that something listens on.
pub use std::net::SocketAddr as Socket;

use super::{Answer, Clues, KILLED};
use crate::error::{Cause, Code};

/// What a service had to do.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub port: u16,
    pub path: &'a str,
    /// In mebibytes.
    pub memory: u32,
}

/// The cause for a container that ended although it should run on.
pub fn explain_end(
    object: &str,
    exit_code: i64,
    out_of_memory: bool,
    error: Option<&str>,
    log_tail: Vec<String>,
    expected: &Expected<'_>,
) -> Cause {
    let (reason, fix) = match (exit_code, error) {
        _ if out_of_memory => (
            format!("was killed: it needed more than its {} MiB of memory", expected.memory),
            Some("raise `resources.memory` in service.yaml, or have it need less".to_string()),
        ),
        (_, Some(error)) if error.contains("unable to find user") => (
            format!("cannot be started: {error}"),
            Some(
                "make that user in the Dockerfile, or name one by its number, which need not \
                 exist: USER 10001:10001"
                    .to_string(),
            ),
        ),
        (_, Some(error)) => (
            format!("cannot be started: {error}"),
            Some(
                "see that CMD and ENTRYPOINT of the Dockerfile name a program that is in the \
                  image"
                    .to_string(),
            ),
        ),
        // The kernel's word that it was the memory may come too late, or never.
        (KILLED, None) => (
            format!(
                "was killed, most often because it needs more than its {} MiB of memory",
                expected.memory
            ),
            Some("look whether it needs more than `resources.memory` of service.yaml".to_string()),
        ),
        (0, None) => (
            "ended by itself: a service keeps running in the foreground".to_string(),
            Some(
                "have CMD of the Dockerfile run the server itself, not start it in the background"
                    .to_string(),
            ),
        ),
        _ => ("ended while it should keep running".to_string(), None),
    };
    let code = if out_of_memory { Code::OutOfMemory } else { Code::ContainerExited };
    Cause {
        code: Some(code),
        object: object.to_string(),
        reason,
        exit_code: Some(exit_code),
        log_tail,
        fix,
    }
}

/// What keeps a running container from answering a probe well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// It answers only those who name a host that it knows.
    KnownHostsOnly,
    /// It sends whoever asks by HTTP to HTTPS.
    RedirectsToHttps,
    /// Its port speaks TLS.
    SpeaksTls,
    /// It wants to know who asks.
    WantsCredentials,
    /// It has no such path.
    NoSuchPath,
    /// It answers with another status.
    Unhealthy(u16),
    /// It listens on no port at all.
    ListensNowhere,
    /// It listens on other ports.
    ListensElsewhere,
    /// It listens on the port for its own container only.
    LoopbackOnly,
    /// It listens on the port for IPv6 only.
    Ipv6Only,
    /// It listens, and does not answer.
    NoAnswer(String),
    /// Nobody could look where it listens.
    Unreachable(String),
}

/// What servers say that know a list of hosts, in their logs or answers: Django, Starlette, Rails,
/// Vite, webpack's server.
const UNKNOWN_HOST: [&str; 6] = [
    "disallowedhost",
    "invalid http_host header",
    "invalid host header",
    "blocked host",
    "blocked request. this host",
    "misdirected request",
];

/// Where a redirect leads that asks who somebody is.
const LOGIN: [&str; 6] = ["login", "signin", "sign_in", "sign-in", "oauth", "/auth"];

/// Tells what keeps a container from answering well. `listening` is where it listens, when that
/// could be seen.
pub fn find_hindrance(
    answer: &Answer,
    clues: &Clues,
    listening: Option<&[Socket]>,
    log_tail: &[String],
    port: u16,
) -> Hindrance {
    let is_well = |answer: &Option<Answer>| answer.as_ref().is_some_and(Answer::is_well);
    match answer {
        Answer::Status(status) => {
            let location = clues.location.as_deref().unwrap_or_default().to_lowercase();
            let says_host = |text: &str| {
                let text = text.to_lowercase();
                UNKNOWN_HOST.iter().any(|words| text.contains(words))
            };
            let is_refusal = (400..500).contains(status) && *status != 404;
            if is_well(&clues.by_localhost)
                || *status == 421
                || is_refusal
                    && (says_host(&clues.body) || log_tail.iter().any(|line| says_host(line)))
            {
                return Hindrance::KnownHostsOnly;
            }
            if clues.speaks_tls && *status == 400 {
                return Hindrance::SpeaksTls;
            }
            match status {
                300..=399 if LOGIN.iter().any(|words| location.contains(words)) => {
                    Hindrance::WantsCredentials
                }
                300..=399
                    if location.starts_with("https:") || is_well(&clues.by_forwarded_https) =>
                {
                    Hindrance::RedirectsToHttps
                }
                401 | 403 | 407 => Hindrance::WantsCredentials,
                404 => Hindrance::NoSuchPath,
                _ => Hindrance::Unhealthy(*status),
            }
        }
        Answer::Silence(_) if clues.speaks_tls => Hindrance::SpeaksTls,
        Answer::Silence(why) => match listening {
            None => Hindrance::Unreachable(why.clone()),
            Some([]) => Hindrance::ListensNowhere,
            Some(sockets) => find_hindrance_by_sockets(sockets, port, why),
        },
    }
}

fn find_hindrance_by_sockets(sockets: &[Socket], port: u16, why: &str) -> Hindrance {
    let on_port: Vec<&Socket> = sockets.iter().filter(|socket| socket.port() == port).collect();
    let reachable: Vec<&&Socket> =
        on_port.iter().filter(|socket| !socket.ip().is_loopback()).collect();
    // A server that does not answer in time was reached.
    let was_reached = why.starts_with("no answer within");
    if on_port.is_empty() {
        Hindrance::ListensElsewhere
    } else if reachable.is_empty() {
        Hindrance::LoopbackOnly
    } else if !was_reached && reachable.iter().all(|socket| socket.is_ipv6()) {
        Hindrance::Ipv6Only
    } else {
        Hindrance::NoAnswer(why.to_string())
    }
}

/// The cause for a container that runs and does not answer well, in words and with its fix.
pub fn explain_hindrance(
    object: &str,
    hindrance: &Hindrance,
    clues: &Clues,
    listening: Option<&[Socket]>,
    log_tail: Vec<String>,
    expected: &Expected<'_>,
) -> Cause {
    let Expected { port, path, .. } = expected;
    let everywhere = format!(
        "have it listen on 0.0.0.0:{port}, where requests from outside the container arrive"
    );
    let at_once = format!("answer `{path}` with 2xx as soon as requests can be taken");
    let list = |keep: &dyn Fn(&&Socket) -> bool| {
        let sockets = listening.unwrap_or_default().iter().filter(keep);
        sockets.map(Socket::to_string).collect::<Vec<_>>().join(", ")
    };
    let on_port = |socket: &&Socket| socket.port() == *port;
    let (saw, fix) = match hindrance {
        Hindrance::KnownHostsOnly => (
            "it refuses its own address as Host, by which probes of Kubernetes and of load \
             balancers ask, and answers only the hosts that it knows"
                .to_string(),
            format!(
                "let it answer `{path}` whatever the Host is: Django ALLOWED_HOSTS, Starlette \
                 TrustedHostMiddleware, Rails config.host_authorization, Vite and Next \
                 allowedHosts; the gateway in front lets only known hosts through"
            ),
        ),
        Hindrance::RedirectsToHttps => (
            "it redirects plain HTTP to HTTPS, and probes take no redirect for an answer".into(),
            format!(
                "answer `{path}` by plain HTTP: TLS ends before the service (Django \
                 SECURE_REDIRECT_EXEMPT, Rails config.ssl_options with redirect exclude, Express \
                 before the redirect)"
            ),
        ),
        Hindrance::SpeaksTls => (
            "it speaks TLS there, and is asked by plain HTTP".into(),
            format!(
                "serve plain HTTP on port {port}: TLS ends at the load balancer or gateway; take \
                 certificate and key from the server's options"
            ),
        ),
        Hindrance::WantsCredentials => (
            format!(
                "it wants to know who asks{}",
                match &clues.location {
                    Some(location) => format!(", and redirects to {location}"),
                    None => String::new(),
                }
            ),
            format!("leave `{path}` out of the authentication: probes bring no credentials"),
        ),
        Hindrance::NoSuchPath => (
            "it answers 404 there".to_string(),
            format!(
                "add a route `{path}` that answers 200, or name the one it has: \
                 `health: {{path: …}}` in service.yaml"
            ),
        ),
        Hindrance::Unhealthy(status) => (format!("it answers {status} there"), at_once),
        Hindrance::ListensNowhere => ("it listens on no port".to_string(), everywhere),
        Hindrance::ListensElsewhere => (
            format!("it listens on {}", list(&|_| true)),
            format!("{everywhere}, or say `port:` in service.yaml as it is"),
        ),
        Hindrance::LoopbackOnly => (
            format!(
                "it listens on {} only, where nobody outside the container reaches it",
                list(&on_port)
            ),
            everywhere,
        ),
        Hindrance::Ipv6Only => (
            format!("it listens on {} for IPv6 only, and is asked by IPv4", list(&on_port)),
            format!(
                "have it listen on 0.0.0.0:{port} too, or on [::] without IPV6_V6ONLY (Node \
                 ipv6Only: false, nginx ipv6only=off, Python dualstack_ipv6=True)"
            ),
        ),
        Hindrance::NoAnswer(why) => (why.clone(), at_once),
        Hindrance::Unreachable(why) => (
            why.clone(),
            format!(
                "{everywhere}; it may listen on 127.0.0.1 only, or on a port other than \
                 `port: {port}` of service.yaml"
            ),
        ),
    };
    Cause {
        code: Some(Code::ProbeFailed),
        object: object.to_string(),
        reason: format!("does not answer GET {path} on port {port} with 2xx: {saw}"),
        exit_code: None,
        log_tail,
        fix: Some(fix),
    }
}

/// The cause for a container that runs and does not answer its users of this machine well.
pub fn explain_silence(
    object: &str,
    answer: &Answer,
    listening: Option<&[Socket]>,
    log_tail: Vec<String>,
    expected: &Expected<'_>,
) -> Cause {
    let clues = Clues::default();
    let hindrance = find_hindrance(answer, &clues, listening, &log_tail, expected.port);
    explain_hindrance(object, &hindrance, &clues, listening, log_tail, expected)
}

/// The sockets that listen, from the text of `/proc/net/tcp` and `/proc/net/tcp6`, without the
/// engine's own name server.
///
/// <https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html>
pub fn read_listening(table: &str) -> Vec<Socket> {
    const LISTEN: &str = "0A";
    const ENGINES_NAME_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
    let mut sockets: Vec<Socket> = table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
            let (address, port) = local.split_once(':')?;
            (state == LISTEN).then_some(())?;
            Some(Socket::new(read_address(address)?, u16::from_str_radix(port, 16).ok()?))
        })
        .filter(|socket| socket.ip() != ENGINES_NAME_SERVER)
        .collect();
    sockets.sort();
    sockets.dedup();
    sockets
}

/// The kernel writes an address as words of 32 bits in the machine's byte order.
fn read_address(hex: &str) -> Option<IpAddr> {
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::from(word(hex)?)),
        32 => {
            let mut bytes = [0_u8; 16];
            for (at, chunk) in bytes.chunks_mut(4).enumerate() {
                chunk.copy_from_slice(&word(hex.get(at * 8..at * 8 + 8)?)?);
            }
            let address = Ipv6Addr::from(bytes);
            Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Expected<'static> = Expected { port: 8000, path: "/healthz", memory: 512 };

    #[test]
    fn listening_sockets_are_read_from_the_kernels_table() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 00000000:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0
   2: 0B00007F:A2C1 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0
   3: 0100007F:1F40 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0
  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000
   1: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000
   2: 0000000000000000FFFF00000100007F:1F92 00000000000000000000000000000000:0000 0A 00000000:00000000
nonsense
";
        let seen: Vec<String> = read_listening(table).iter().map(Socket::to_string).collect();
        assert_eq!(
            seen,
            ["0.0.0.0:9000", "127.0.0.1:8000", "127.0.0.1:8082", "[::]:8080", "[::1]:8081"]
        );
        assert_eq!(read_listening(""), []);
    }

    fn read_sockets(text: &str) -> Vec<Socket> {
        let sockets = text.split(' ').filter(|text| !text.is_empty());
        sockets.map(|socket| socket.parse().expect("a socket")).collect()
    }

    #[test]
    fn a_silent_container_is_told_what_it_does_instead() {
        struct Row {
            answer: Answer,
            clues: Clues,
            listening: Option<&'static str>,
            log: &'static str,
            reason: &'static str,
            fix: &'static str,
        }
        let status = Answer::Status;
        let refused = || Answer::Silence("connection refused".into());
        let row = |answer, listening, reason, fix| Row {
            answer,
            clues: Clues::default(),
            listening,
            log: "",
            reason,
            fix,
        };
        let leads = |to: &str| Clues { location: Some(to.into()), ..Clues::default() };
        let by_localhost = |answer| Clues { by_localhost: Some(answer), ..Clues::default() };
        let tls = || Clues { speaks_tls: true, ..Clues::default() };
        let rows = [
            row(status(404), None, "it answers 404 there", "add a route `/healthz`"),
            row(status(503), None, "it answers 503 there", "with 2xx as soon"),
            row(status(302), None, "it answers 302 there", "with 2xx as soon"),
            row(refused(), Some(""), "it listens on no port", "0.0.0.0:8000"),
            row(
                refused(),
                Some("127.0.0.1:8000"),
                "listens on 127.0.0.1:8000 only",
                "0.0.0.0:8000",
            ),
            row(refused(), Some("[::1]:8000 127.0.0.1:8000"), "only, where nobody", "0.0.0.0:8000"),
            row(refused(), Some("0.0.0.0:9000"), "it listens on 0.0.0.0:9000", "say `port:`"),
            row(refused(), Some("0.0.0.0:8000"), "connection refused", "with 2xx as soon"),
            row(refused(), Some("127.0.0.1:8000 0.0.0.0:8000"), "connection refused", "with 2xx"),
            row(refused(), None, "connection refused", "port other than `port: 8000`"),
            row(refused(), Some("[::]:8000"), "on [::]:8000 for IPv6 only", "IPV6_V6ONLY"),
            row(refused(), Some("[::]:8000 127.0.0.1:8000"), "for IPv6 only", "0.0.0.0:8000 too"),
            // One that is slow was reached.
            row(
                Answer::Silence("no answer within 3 s".into()),
                Some("[::]:8000"),
                "no answer within 3 s",
                "with 2xx as soon",
            ),
            // Known hosts: it answers localhost, or says so.
            Row {
                clues: by_localhost(status(200)),
                ..row(status(400), None, "it refuses its own address as Host", "ALLOWED_HOSTS")
            },
            Row {
                clues: by_localhost(status(204)),
                ..row(status(403), None, "it refuses its own address as Host", "ALLOWED_HOSTS")
            },
            Row {
                clues: by_localhost(status(200)),
                ..row(status(404), None, "it refuses its own address as Host", "ALLOWED_HOSTS")
            },
            Row {
                log: "Invalid HTTP_HOST header: '172.17.0.2:8000'. You may need to add",
                ..row(status(400), None, "it refuses its own address as Host", "ALLOWED_HOSTS")
            },
            Row {
                clues: Clues { body: "<h1>Blocked hosts: 172".into(), ..Clues::default() },
                ..row(status(403), None, "it refuses its own address as Host", "ALLOWED_HOSTS")
            },
            row(status(421), None, "it refuses its own address as Host", "ALLOWED_HOSTS"),
            Row {
                clues: by_localhost(status(400)),
                ..row(status(400), None, "it answers 400 there", "with 2xx as soon")
            },
            // HTTPS: a redirect, or TLS itself.
            Row {
                clues: leads("https://172.17.0.2:8000/healthz"),
                ..row(status(301), None, "redirects plain HTTP to HTTPS", "SECURE_REDIRECT_EXEMPT")
            },
            Row {
                clues: Clues { by_forwarded_https: Some(status(200)), ..leads("/secure") },
                ..row(status(308), None, "redirects plain HTTP to HTTPS", "by plain HTTP")
            },
            Row { clues: tls(), ..row(status(400), None, "it speaks TLS there", "plain HTTP") },
            Row {
                clues: tls(),
                ..row(refused(), Some("0.0.0.0:8000"), "it speaks TLS there", "plain HTTP")
            },
            // Somebody has to say who they are.
            row(status(401), None, "it wants to know who asks", "out of the authentication"),
            row(status(403), None, "it wants to know who asks", "out of the authentication"),
            Row {
                clues: leads("/accounts/login/?next=/healthz"),
                ..row(status(302), None, "and redirects to /accounts/login", "authentication")
            },
            Row {
                clues: leads("https://id.example.org/oauth2/authorize"),
                ..row(status(302), None, "it wants to know who asks", "authentication")
            },
        ];
        for Row { answer, clues, listening, log, reason, fix } in rows {
            let listening = listening.map(read_sockets);
            let log = vec![log.to_string()];
            let found = find_hindrance(&answer, &clues, listening.as_deref(), &log, 8000);
            let cause = explain_hindrance(
                "production",
                &found,
                &clues,
                listening.as_deref(),
                log,
                &EXPECTED,
            );
            assert!(
                cause.reason.starts_with("does not answer GET /healthz on port 8000 with 2xx: "),
                "{cause:?}"
            );
            assert!(cause.reason.contains(reason), "{answer:?} {clues:?}: {cause:?}");
            assert!(cause.fix.as_deref().unwrap_or_default().contains(fix), "{cause:?}");
        }
    }

    #[test]
    fn an_ended_container_is_told_why() {
        let cases = [
            ((137, true, None), "more than its 512 MiB", Some("resources.memory")),
            (
                (127, false, Some("exec: \"nope\": not found")),
                "cannot be started: exec: \"nope\"",
                Some("CMD"),
            ),
            (
                (128, false, Some("unable to find user app: no matching entries")),
                "unable to find user app",
                Some("USER 10001"),
            ),
            ((0, false, None), "ended by itself", Some("foreground")),
            ((3, false, None), "ended while it should keep running", None),
            (
                (137, false, None),
                "was killed, most often because it needs more than its 512 MiB",
                Some("resources.memory"),
            ),
        ];
        for ((exit_code, oom, error), reason, fix) in cases {
            let cause =
                explain_end("production", exit_code, oom, error, vec!["last".into()], &EXPECTED);
            assert!(cause.reason.contains(reason), "{cause:?}");
            assert_eq!(cause.exit_code, Some(exit_code));
            assert_eq!(cause.log_tail, ["last"]);
            let said = format!("{} {}", cause.reason, cause.fix.unwrap_or_default());
            assert!(fix.is_none_or(|fix| said.contains(fix)), "{said}");
        }
    }
}
