//! Every client that connects to somewhere else goes through the proxy that it is told: those of
//! `http.rs` and the SDK's by `HTTPS_PROXY`, the one of a cluster's API server by `eks.proxy`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::support::{Repository, cicd, stack};

/// The longest time until a command connects.
const PATIENCE: Duration = Duration::from_secs(30);

/// A proxy that connects nobody, and tells whom it was asked for.
struct Proxy {
    address: String,
    asked: Receiver<String>,
}

impl Proxy {
    fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("its address"));
        let (sender, asked) = channel();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(mut client) = client else { continue };
                let mut line = String::new();
                let read = BufReader::new(&client).read_line(&mut line);
                let _ = client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
                if read.is_ok() && sender.send(line.trim_end().to_string()).is_err() {
                    break;
                }
            }
        });
        Proxy { address, asked }
    }
}

#[test]
fn a_connection_goes_through_the_proxy_that_is_named() {
    struct Case {
        name: &'static str,
        arguments: Vec<&'static str>,
        /// Whether the proxy is platform.yaml's, beside the stack, or the environment's.
        is_eks: bool,
        asked: &'static str,
    }
    let platform = "registry: {account: \"111122223333\", region: eu-west-1, prefix: clinicult/}\n\
                    environments: {}\n";
    let push: &[&str] = &["push-ecr", "--preflight", "--tag", "9.9.9"];
    let cases = [
        Case {
            name: "a registry",
            arguments: [push, &["--repository", "registry.invalid/team/x"][..]].concat(),
            is_eks: false,
            asked: "CONNECT registry.invalid:443 ",
        },
        Case {
            name: "AWS",
            arguments: [push, &["--platform", "platform.yaml"][..]].concat(),
            is_eks: false,
            asked: "CONNECT api.ecr.eu-west-1.amazonaws.com:443 ",
        },
        Case {
            name: "GitHub",
            arguments: vec!["check", "--platform", "clinicult/platform/platform.yaml@main"],
            is_eks: false,
            asked: "CONNECT api.github.com:443 ",
        },
        Case {
            name: "a cluster",
            arguments: vec!["status", "--environment", "staging", "--platform", "platform.yaml"],
            is_eks: true,
            asked: "CONNECT localhost:",
        },
    ];
    for Case { name, arguments, is_eks, asked } in cases {
        let (repository, proxy) = (Repository::of_example(), Proxy::start());
        let mut command = cicd(repository.path());
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        if is_eks {
            let told = format!("namespace: staging, proxy: \"{}\"}}", proxy.address);
            let stacks = std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("platform.yaml");
            assert!(stacks.contains("namespace: staging}"), "{stacks}");
            repository.write("platform.yaml", &stacks.replace("namespace: staging}", &told));
        } else {
            for name in ["AWS_ENDPOINT_URL", "INPUT_PLATFORM", "NO_PROXY", "no_proxy"] {
                command.env_remove(name);
            }
            command.env("HTTPS_PROXY", &proxy.address).env("GITHUB_TOKEN", "ghs_of-a-test");
            repository.write("platform.yaml", platform);
        }
        let mut child = command.spawn().expect("cicd runs");
        let first = proxy.asked.recv_timeout(PATIENCE);
        child.kill().expect("it can be ended");
        child.wait().expect("it ended");
        let first = first.unwrap_or_else(|_| panic!("{name}: nobody asked the proxy"));
        assert!(first.starts_with(asked), "{name}: {first}");
    }
}
