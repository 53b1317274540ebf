//! Why a container is not well, in words, and the fix. Pure: from what was seen to what is said.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address and a port that something listens on.
pub use std::net::SocketAddr as Socket;

use super::{Answer, KILLED};
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
pub fn ended(
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
                "make that user in the Dockerfile, or name one by its number, which need not exist: USER 10001:10001"
                    .to_string(),
            ),
        ),
        (_, Some(error)) => (
            format!("cannot be started: {error}"),
            Some("see that CMD and ENTRYPOINT of the Dockerfile name a program that is in the image".to_string()),
        ),
        // The kernel's word that it was the memory may come too late, or never.
        (KILLED, None) => (
            format!("was killed, most often because it needs more than its {} MiB of memory", expected.memory),
            Some("look whether it needs more than `resources.memory` of service.yaml".to_string()),
        ),
        (0, None) => (
            "ended by itself: a service keeps running in the foreground".to_string(),
            Some("have CMD of the Dockerfile run the server itself, not start it in the background".to_string()),
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

/// The cause for a container that runs and does not answer well. `listening` is where it listens,
/// when that could be seen.
pub fn silent(
    object: &str,
    answer: &Answer,
    listening: Option<&[Socket]>,
    log_tail: Vec<String>,
    expected: &Expected<'_>,
) -> Cause {
    let Expected { port, path, .. } = expected;
    let everywhere = format!(
        "have it listen on 0.0.0.0:{port}, where requests from outside the container arrive"
    );
    let (saw, fix) = match (answer, listening) {
        (Answer::Status(404), _) => (
            "it answers 404 there".to_string(),
            format!(
                "add a route `{path}` that answers 200, or name the one it has: `health: {{path: …}}` in service.yaml"
            ),
        ),
        (Answer::Status(status), _) => (
            format!("it answers {status} there"),
            format!("`{path}` has to answer 2xx as soon as requests can be taken"),
        ),
        (Answer::Silence(_), Some([])) => ("it listens on no port".to_string(), everywhere),
        (Answer::Silence(why), Some(sockets)) => {
            let on_port: Vec<&Socket> =
                sockets.iter().filter(|socket| socket.port() == *port).collect();
            let list = |sockets: &[&Socket]| {
                sockets.iter().map(|socket| socket.to_string()).collect::<Vec<_>>().join(", ")
            };
            if on_port.is_empty() {
                let all = list(&sockets.iter().collect::<Vec<_>>());
                (
                    format!("it listens on {all}"),
                    format!("{everywhere}, or say `port:` in service.yaml as it is"),
                )
            } else if on_port.iter().all(|socket| socket.ip().is_loopback()) {
                (
                    format!(
                        "it listens on {} only, where nobody outside the container reaches it",
                        list(&on_port)
                    ),
                    everywhere,
                )
            } else {
                (
                    why.clone(),
                    format!("`{path}` has to answer 2xx as soon as requests can be taken"),
                )
            }
        }
        (Answer::Silence(why), None) => (
            why.clone(),
            format!(
                "{everywhere}; it may listen on 127.0.0.1 only, or on a port other than `port: {port}` of service.yaml"
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

/// The sockets that listen, from the text of `/proc/net/tcp` and `/proc/net/tcp6`, without the
/// engine's own name server.
///
/// <https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html>
pub fn listening(table: &str) -> Vec<Socket> {
    const LISTEN: &str = "0A";
    const ENGINES_NAME_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
    let mut sockets: Vec<Socket> = table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
            let (address, port) = local.split_once(':')?;
            (state == LISTEN).then_some(())?;
            Some(Socket::new(address_of(address)?, u16::from_str_radix(port, 16).ok()?))
        })
        .filter(|socket| socket.ip() != ENGINES_NAME_SERVER)
        .collect();
    sockets.sort();
    sockets.dedup();
    sockets
}

/// The kernel writes an address as words of 32 bits in the machine's byte order.
fn address_of(hex: &str) -> Option<IpAddr> {
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
        let seen: Vec<String> = listening(table).iter().map(Socket::to_string).collect();
        assert_eq!(
            seen,
            ["0.0.0.0:9000", "127.0.0.1:8000", "127.0.0.1:8082", "[::]:8080", "[::1]:8081"]
        );
        assert_eq!(listening(""), []);
    }

    #[test]
    fn a_silent_container_is_told_what_it_does_instead() {
        let sockets = |text: &str| -> Vec<Socket> {
            text.split(' ')
                .filter(|text| !text.is_empty())
                .map(|socket| socket.parse().expect("a socket"))
                .collect()
        };
        let silence = || Answer::Silence("connection refused".into());
        let cases = [
            (Answer::Status(404), None, "it answers 404 there", "add a route `/healthz`"),
            (Answer::Status(503), None, "it answers 503 there", "has to answer 2xx"),
            (silence(), Some(""), "it listens on no port", "0.0.0.0:8000"),
            (
                silence(),
                Some("127.0.0.1:8000"),
                "it listens on 127.0.0.1:8000 only",
                "0.0.0.0:8000",
            ),
            (silence(), Some("[::1]:8000 127.0.0.1:8000"), "only, where nobody", "0.0.0.0:8000"),
            (
                silence(),
                Some("0.0.0.0:9000"),
                "it listens on 0.0.0.0:9000",
                "say `port:` in service.yaml",
            ),
            (silence(), Some("0.0.0.0:8000"), "connection refused", "has to answer 2xx"),
            (
                silence(),
                Some("127.0.0.1:8000 0.0.0.0:8000"),
                "connection refused",
                "has to answer 2xx",
            ),
            (
                silence(),
                None,
                "connection refused",
                "127.0.0.1 only, or on a port other than `port: 8000`",
            ),
        ];
        for (answer, seen, reason, fix) in cases {
            let seen = seen.map(sockets);
            let cause = silent("production", &answer, seen.as_deref(), vec![], &EXPECTED);
            assert!(
                cause.reason.starts_with("does not answer GET /healthz on port 8000 with 2xx: "),
                "{cause:?}"
            );
            assert!(cause.reason.contains(reason), "{cause:?}");
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
            let cause = ended("production", exit_code, oom, error, vec!["last".into()], &EXPECTED);
            assert!(cause.reason.contains(reason), "{cause:?}");
            assert_eq!(cause.exit_code, Some(exit_code));
            assert_eq!(cause.log_tail, ["last"]);
            let said = format!("{} {}", cause.reason, cause.fix.unwrap_or_default());
            assert!(fix.is_none_or(|fix| said.contains(fix)), "{said}");
        }
    }
}
