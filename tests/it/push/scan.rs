//! The scan gate. The stack's ECR does not scan: what scans say is scripted, in ECR's own form, and each request is checked.
//! All else goes to the stack.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::ecr::EcrRepository;
use super::layouts::{Layout, random};
use super::proxy::read_head;
use super::{assert_arrived, assert_no_tag, message, pusher};
use crate::support::{Run, run, stack};

/// ECR with scans: each look gets the next of the answers, and then always the last.
struct Scanner {
    url: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Scanner {
    fn new(answers: Vec<Value>) -> Scanner {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let shared = asked.clone();
        let upstream = stack("AWS_ENDPOINT_URL").trim_start_matches("http://").to_string();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Whoever asks may go away in the middle of it.
                let _ = serve(client, &upstream, &answers, &shared);
            }
        });
        Scanner { url, asked }
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().expect("lock").clone()
    }
}

fn serve(mut client: TcpStream, upstream: &str, answers: &[Value], asked: &Mutex<Vec<Value>>) -> std::io::Result<()> {
    let head = read_head(&mut client)?;
    let header = |name: &str| {
        let found =
            head.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.trim().to_string()).unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    client.read_exact(&mut body)?;
    if header("x-amz-target").ends_with(".DescribeImageScanFindings") {
        let mut asked = asked.lock().expect("lock");
        asked.push(serde_json::from_slice(&body).expect("JSON"));
        let answer = &answers[(asked.len() - 1).min(answers.len() - 1)];
        let status = if answer["__type"].is_null() { "200 OK" } else { "400 Bad Request" };
        let text = answer.to_string();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/x-amz-json-1.1\r\nConnection: close");
        return client.write_all(format!("{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len()).as_bytes());
    }
    let mut there = TcpStream::connect(upstream)?;
    let passed: Vec<&str> = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:")).collect();
    there.write_all(format!("{}\r\nConnection: close\r\n\r\n", passed.join("\r\n")).as_bytes())?;
    there.write_all(&body)?;
    std::io::copy(&mut there, &mut client).map(drop)
}

fn state(status: &str) -> Value {
    json!({ "imageScanStatus": { "status": status, "description": format!("about {status}") } })
}

fn with(status: &str, findings: Value) -> Value {
    let mut answer = state(status);
    answer["imageScanFindings"] = findings;
    answer
}

fn basic(severity: &str) -> Value {
    let attribute = |key: &str, value: &str| json!({ "key": key, "value": value });
    let finding = json!({
        "name": "CVE-2026-1234", "severity": severity, "uri": "https://example.com",
        "attributes": [attribute("package_name", "openssl"), attribute("package_version", "3.0.1")],
    });
    with(
        "COMPLETE",
        json!({ "imageScanCompletedAt": 1.8e9, "findingSeverityCounts": { severity: 1 }, "findings": [finding] }),
    )
}

fn enhanced(id: &str, severity: &str, next: Option<&str>) -> Value {
    let package = json!({ "name": "libxml2", "version": "2.9.1", "fixedInVersion": "2.9.2", "packageManager": "OS" });
    let details = json!({ "vulnerabilityId": id, "vulnerablePackages": [package] });
    let finding = json!({ "severity": severity, "status": "ACTIVE", "packageVulnerabilityDetails": details });
    let findings = json!({ "findingSeverityCounts": { "HIGH": 1, "LOW": 1 }, "enhancedFindings": [finding] });
    let mut answer = with("ACTIVE", findings);
    if let Some(next) = next {
        answer["nextToken"] = next.into();
    }
    answer
}

fn push(scanner: &Scanner, ecr: &EcrRepository, layout: &Layout, scan: &str, more: &[&str]) -> (Run, String) {
    let (folder, mut command) = pusher(ecr.service(), layout.path(), &[&["--tag", "1.0.0"], more].concat());
    folder.write("service.yaml", &format!("name: {}\nport: 8000\n{scan}\n", ecr.service()));
    let summary = folder.path().join("summary");
    command.env("AWS_ENDPOINT_URL_ECR", &scanner.url).env("GITHUB_STEP_SUMMARY", &summary);
    let ended = run(&mut command);
    (ended, std::fs::read_to_string(summary).unwrap_or_default())
}

#[test]
fn tags_are_set_when_the_scan_is_at_its_end_and_nothing_in_it_stops() {
    let never = json!({ "__type": "ScanNotFoundException", "message": "no scan" });
    let empty = with("COMPLETE", json!({ "imageScanCompletedAt": 1.8e9, "findingSeverityCounts": {}, "findings": [] }));
    let allowed = "scan: {fail-on: high, allow: [{id: CVE-2026-2, reason: no XML here, until: 9999-12-31}]}";
    let pages = vec![enhanced("CVE-2026-2", "HIGH", Some("2")), enhanced("CVE-2026-3", "LOW", None)];
    // What scans say, service.yaml, the exit code, and what the message or the summary has in it.
    let absent = || json!({ "__type": "ImageNotFoundException", "message": "no image" });
    let cases: Vec<(Vec<Value>, &str, i32, &[&str])> = vec![
        (
            vec![never.clone(), state("PENDING"), state("COMPLETE"), basic("HIGH")],
            "scan: {}",
            8,
            &["| high | CVE-2026-1234 | openssl | 3.0.1 | – | stops |", "1 finding, high or worse", "allow:"],
        ),
        (vec![basic("MEDIUM")], "scan: {}", 0, &["1 finding: 1 medium"]),
        (vec![empty.clone(), basic("CRITICAL")], "scan: {}", 8, &["1 critical"]),
        (vec![empty], "scan: {}", 0, &["**Scan** no findings"]),
        (
            pages.clone(),
            allowed,
            0,
            &["| high | CVE-2026-2 | libxml2 | 2.9.1 | 2.9.2 | allowed until 9999-12-31: no XML here |"],
        ),
        (pages, "scan: {fail-on: low}", 8, &["2 findings, low or worse", "CVE-2026-3"]),
        (vec![state("UNSUPPORTED_IMAGE")], "scan: {}", 8, &["about UNSUPPORTED_IMAGE", "unsupported: warn"]),
        (vec![state("UNSUPPORTED_IMAGE")], "scan: {unsupported: warn}", 0, &["**Scan** no findings"]),
        (vec![state("FAILED")], "scan: {}", 8, &["about FAILED", "aws ecr start-image-scan"]),
        (vec![state("LIMIT_EXCEEDED")], "scan: {}", 8, &["about LIMIT_EXCEEDED"]),
        (vec![state("IN_PROGRESS")], "scan: {timeout: 1s}", 6, &["under way", "no tag was set"]),
        (vec![never], "scan: {timeout: 1s}", 6, &["no scan has been started", "scanOnPush=true"]),
    ];
    std::thread::scope(|scope| {
        for (answers, scan, code, parts) in cases {
            // The first look is at what is there before the push.
            let answers = [vec![absent()], answers].concat();
            scope.spawn(move || {
                let (scanner, ecr, layout) =
                    (Scanner::new(answers.clone()), EcrRepository::new(), Layout::image(&[random(100)]));
                let (ended, summary) = push(&scanner, &ecr, &layout, scan, &[]);
                let ended = ended.ended(code);
                let said = if code == 0 { summary } else { format!("{} {summary}", message(&ended)) };
                for part in parts {
                    assert!(said.contains(part), "{part}: {said}");
                }
                for asked in scanner.asked() {
                    let of = (&asked["registryId"], &asked["repositoryName"], &asked["imageId"]);
                    let name = ecr.name();
                    assert_eq!(of, (&"111122223333".into(), &name.into(), &json!({ "imageDigest": layout.digest })));
                }
                assert!(scanner.asked().len() >= answers.len());
                // By its digest the image is there in any case.
                let tags: &[&str] = if code == 0 { &["1.0.0"] } else { &[] };
                assert_arrived(&layout, &ecr.reached(), tags);
                if code != 0 {
                    assert_no_tag(&ecr.reached(), "1.0.0");
                }
            });
        }
    });
}

#[test]
fn whoever_may_not_look_is_refused_before_anything_is_uploaded() {
    let denied = json!({ "__type": "AccessDeniedException", "message": "not authorized" });
    let (scanner, ecr, layout) = (Scanner::new(vec![denied]), EcrRepository::new(), Layout::image(&[random(100)]));
    ecr.aws("create-repository", &[]).ended(0);
    for plan in [&[][..], &["--plan"]] {
        let said = message(&push(&scanner, &ecr, &layout, "scan: {}", plan).0.ended(3));
        for part in ["ecr:DescribeImageScanFindings", "inspector2:ListFindings", &ecr.name()] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    assert_eq!(ecr.writes(), 0);
}

#[test]
fn every_image_of_an_index_is_looked_at_each_time_and_none_without_being_told_to() {
    let (ecr, layout) = (EcrRepository::new(), Layout::index(&[random(100), random(100)]));
    let scanner = Scanner::new(vec![basic("LOW")]);
    for (scan, more, looks) in [
        ("scan: {}", &["--plan"][..], 1),
        ("", &[], 0),
        // All is there by now; findings may be new.
        ("scan: {}", &[], 3),
    ] {
        let before = scanner.asked().len();
        push(&scanner, &ecr, &layout, scan, more).0.ended(0);
        let asked = scanner.asked();
        let mut images: Vec<&str> =
            asked[before..].iter().filter_map(|asked| asked["imageId"]["imageDigest"].as_str()).collect();
        images.sort_unstable();
        images.dedup();
        // The index itself is looked at once, to see whether we may.
        assert_eq!((images.len(), images.contains(&layout.digest.as_str())), (looks, looks > 0), "{scan} {more:?}");
    }
    assert_arrived(&layout, &ecr.reached(), &["1.0.0"]);
}

#[test]
fn the_rules_are_read_strictly() {
    let (layout, nobody) = (Layout::image(&[random(10)]), "localhost:1/tests/nobody");
    let cases = [
        ("scan: {fail-on: severe}", "severe"),
        ("scan: {failon: high}", "fail-on"),
        ("scan: {allow: [{id: CVE-2026-1, reason: x}]}", "until"),
        ("scan: {allow: [{id: CVE-2026-1, until: 2027-01-31}]}", "reason"),
        ("scan: {allow: [{id: CVE-2026-1, reason: '', until: 2027-01-31}]}", "a reason has words"),
        ("scan: {allow: [{id: '*', reason: x, until: 2027-01-31}]}", "is no finding"),
        ("scan: {allow: [{id: CVE-2026-1, reason: x, until: 2027-02-31}]}", "is no day"),
        ("scan: {unsupported: ignore}", "ignore"),
    ];
    for (scan, expected) in cases {
        let (folder, mut command) = pusher("patients", layout.path(), &["--repository", nobody]);
        folder.write("service.yaml", &format!("name: patients\nport: 8000\n{scan}\n"));
        let said = message(&run(&mut command).ended(2));
        assert!(said.contains(expected) && said.contains("service.yaml:3:"), "{scan}: {said}");
    }
}
