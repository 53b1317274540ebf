//! A tiny service in two versions, in the stack's ECR, for the tests of deploys: any target can run
//! it.

use std::process::Command;
use std::sync::OnceLock;

use crate::support::{run, stack};

/// The name of its repository, below the platform's prefix.
const NAME: &str = "probe";

/// Says which version it is and what it was told to say, with the status that it was told (another
/// one than to a load balancer, if it was); crashes
/// with exit code 3 when it is told to, at once or later.
const SERVER: &str = r#"
import os, sys, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer

print(f"starting at {time.time():.3f}", flush=True)
if os.environ.get("CRASH"):
    for number in range(3):
        print(f"log line {number}: {os.environ['CRASH']}", flush=True)
    sys.exit(3)
if os.environ.get("CRASH_AFTER"):
    def crash():
        print("ran for a while, then lost its way", flush=True)
        os._exit(3)
    threading.Timer(float(os.environ["CRASH_AFTER"]), crash).start()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"version {os.environ['VERSION']} says {os.environ.get('GREETING', 'nothing')}".encode()
        inside = self.path == '/healthz'
        status = os.environ.get('STATUS', '200')
        self.send_response(int(status if inside else os.environ.get('STATUS_OUTSIDE', status)))
        self.end_headers()
        self.wfile.write(body)


HTTPServer(("", 8000), Handler).serve_forever()
"#;

const DOCKERFILE: &str = "FROM python:3.13-slim\nCOPY serve.py /\nARG VERSION\nENV VERSION=${VERSION}\nCMD [\"python\", \"-u\", \"/serve.py\"]\n";

/// The digests of versions 1.0.0 and 2.0.0 of the server, built and pushed once for all tests.
fn digests() -> &'static [String; 2] {
    static DIGESTS: OnceLock<[String; 2]> = OnceLock::new();
    DIGESTS.get_or_init(|| {
        let repository = format!("clinicult/{NAME}");
        // It may be there from an earlier run.
        run(Command::new("aws").args([
            "ecr",
            "create-repository",
            "--repository-name",
            &repository,
        ]));
        let port = stack("AWS_ENDPOINT_URL").rsplit(':').next().expect("a port").to_string();
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("serve.py"), SERVER).expect("written");
        std::fs::write(folder.path().join("Dockerfile"), DOCKERFILE).expect("written");
        ["1.0.0", "2.0.0"].map(|version| {
            let tag = format!("localhost:{port}/{repository}:{version}");
            let argument = format!("VERSION={version}");
            let build =
                ["build", "-q", "--provenance=false", "--build-arg", &argument, "-t", &tag, "."];
            run(Command::new("docker").args(build).current_dir(folder.path())).ended(0);
            run(Command::new("docker").args(["push", "-q", &tag])).ended(0);
            let found = run(Command::new("docker").args([
                "image",
                "inspect",
                "--format",
                "{{index .RepoDigests 0}}",
                &tag,
            ]));
            let digest =
                found.ended(0).stdout.trim().split_once('@').expect("a digest").1.to_string();
            assert!(digest.starts_with("sha256:"), "{digest}");
            digest
        })
    })
}

pub fn digest_of(version: &str) -> &'static str {
    &digests()[usize::from(version.starts_with('2'))]
}
