//! The scan gate. The stack's ECR does not scan: moto's does, and where a scan is to stumble in the
//! way ECR's do, what it says is scripted in ECR's own form, and each request is checked. All else
//! goes to the stack.

use std::process::Command;

use serde_json::{Value, json};

use super::api::{Api, Turn};
use super::ecr::EcrRepository;
use super::layouts::{Layout, random};
use super::{assert_arrived, assert_no_tag, get, message, pusher, url};
use crate::support::{Repository, Run, cicd, run, stack};

const LOOK: &str = "DescribeImageScanFindings";

/// ECR with scans.
struct Scanner(Api);

impl Scanner {
    /// Each look gets the next of these, and then always the last.
    fn new(answers: Vec<Value>) -> Scanner {
        Scanner(Api::new(move |call, looks| {
            let answer = &answers[looks.min(answers.len() - 1)];
            match (call.action == LOOK, answer["__type"].is_null()) {
                (false, _) => Turn::Pass,
                (true, true) => Turn::Answer("200 OK", answer.clone()),
                (true, false) => Turn::Answer("400 Bad Request", answer.clone()),
            }
        }))
    }

    /// The emulator at `HOST:PORT` answers for the scans.
    fn at(emulator: &str) -> Scanner {
        let emulator = emulator.to_string();
        Scanner(Api::new(
            move |call, _| {
                if call.action == LOOK { Turn::At(emulator.clone()) } else { Turn::Pass }
            },
        ))
    }

    fn asked(&self) -> Vec<Value> {
        self.0.of_action(LOOK).into_iter().map(|call| call.body).collect()
    }
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
    let finding =
        json!({ "severity": severity, "status": "ACTIVE", "packageVulnerabilityDetails": details });
    let findings =
        json!({ "findingSeverityCounts": { "HIGH": 1, "LOW": 1 }, "enhancedFindings": [finding] });
    let mut answer = with("ACTIVE", findings);
    if let Some(next) = next {
        answer["nextToken"] = next.into();
    }
    answer
}

fn push(
    scanner: &Scanner,
    ecr: &EcrRepository,
    layout: &Layout,
    scan: &str,
    more: &[&str],
) -> (Run, String) {
    let (folder, mut command) =
        pusher(ecr.service(), layout.path(), &[&["--tag", "1.0.0"], more].concat());
    folder.write("service.yaml", &format!("name: {}\nport: 8000\n{scan}\n", ecr.service()));
    let summary = folder.path().join("summary");
    command.env("AWS_ENDPOINT_URL_ECR", &scanner.0.url).env("GITHUB_STEP_SUMMARY", &summary);
    let ended = run(&mut command);
    (ended, std::fs::read_to_string(summary).unwrap_or_default())
}

#[test]
fn tags_are_set_when_the_scan_is_at_its_end_and_nothing_in_it_stops() {
    let never = json!({ "__type": "ScanNotFoundException", "message": "no scan" });
    let empty = with(
        "COMPLETE",
        json!({ "imageScanCompletedAt": 1.8e9, "findingSeverityCounts": {}, "findings": [] }),
    );
    let allowed =
        "scan: {fail-on: high, allow: [{id: CVE-2026-2, reason: no XML here, until: 9999-12-31}]}";
    // Enhanced scans are looked at twice.
    let pages = [enhanced("CVE-2026-2", "HIGH", Some("2")), enhanced("CVE-2026-3", "LOW", None)];
    let pages = [&pages[..], &pages].concat();
    let mut first = enhanced("CVE-2026-3", "LOW", None);
    first["imageScanFindings"]["findingSeverityCounts"] = json!({ "LOW": 1 });
    // What scans say, service.yaml, the exit code, and what the message or the summary has in it.
    let absent = || json!({ "__type": "ImageNotFoundException", "message": "no image" });
    let cases: Vec<(Vec<Value>, &str, i32, &[&str])> = vec![
        (
            vec![never.clone(), state("PENDING"), state("COMPLETE"), basic("HIGH")],
            "scan: {}",
            8,
            &[
                "| high | CVE-2026-1234 | openssl | 3.0.1 | – | – | stops |",
                "1 finding, high or worse",
                "allow:",
            ],
        ),
        (vec![basic("MEDIUM")], "scan: {}", 0, &["1 finding: 1 medium"]),
        (vec![empty.clone(), basic("CRITICAL")], "scan: {}", 8, &["1 critical"]),
        (vec![empty], "scan: {}", 0, &["**Scan** no findings"]),
        (
            pages.clone(),
            allowed,
            0,
            &[
                "| high | CVE-2026-2 | libxml2 | 2.9.1 | 2.9.2 | – | allowed until 9999-12-31: no XML here |",
            ],
        ),
        (pages.clone(), "scan: {fail-on: low}", 8, &["2 findings, low or worse", "CVE-2026-3"]),
        // What is found a moment later stops it too.
        ([vec![first], pages].concat(), "scan: {}", 8, &["1 finding, high or worse", "CVE-2026-2"]),
        (
            vec![state("UNSUPPORTED_IMAGE")],
            "scan: {}",
            8,
            &["about UNSUPPORTED_IMAGE", "unsupported: warn"],
        ),
        (
            vec![state("UNSUPPORTED_IMAGE")],
            "scan: {unsupported: warn}",
            0,
            &["**Scan** no findings"],
        ),
        (vec![state("FAILED")], "scan: {}", 8, &["about FAILED", "aws ecr start-image-scan"]),
        (vec![state("LIMIT_EXCEEDED")], "scan: {}", 8, &["about LIMIT_EXCEEDED"]),
        (vec![state("IN_PROGRESS")], "scan: {timeout: 1s}", 6, &["under way", "sets no tag"]),
        (vec![never], "scan: {timeout: 1s}", 6, &["no scan has been started", "scanOnPush=true"]),
    ];
    std::thread::scope(|scope| {
        for (answers, scan, code, parts) in cases {
            // The first look is at what is there before the push.
            let answers = [vec![absent()], answers].concat();
            scope.spawn(move || {
                let (scanner, ecr, layout) = (
                    Scanner::new(answers.clone()),
                    EcrRepository::new(),
                    Layout::image(&[random(100)]),
                );
                let (ended, summary) = push(&scanner, &ecr, &layout, scan, &[]);
                let ended = ended.ended(code);
                let said =
                    if code == 0 { summary } else { format!("{} {summary}", message(&ended)) };
                for part in parts {
                    assert!(said.contains(part), "{part}: {said}");
                }
                for asked in scanner.asked() {
                    let of = (&asked["registryId"], &asked["repositoryName"], &asked["imageId"]);
                    let name = ecr.name();
                    assert_eq!(
                        of,
                        (
                            &"111122223333".into(),
                            &name.into(),
                            &json!({ "imageDigest": layout.digest })
                        )
                    );
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
    let (scanner, ecr, layout) =
        (Scanner::new(vec![denied]), EcrRepository::new(), Layout::image(&[random(100)]));
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
        let mut images: Vec<&str> = asked[before..]
            .iter()
            .filter_map(|asked| asked["imageId"]["imageDigest"].as_str())
            .collect();
        images.sort_unstable();
        images.dedup();
        // The index itself is looked at once, to see whether we may.
        assert_eq!(
            (images.len(), images.contains(&layout.digest.as_str())),
            (looks, looks > 0),
            "{scan} {more:?}"
        );
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

/// An image that was built from a Dockerfile, scanned by an emulator that knows nothing of us: what
/// it finds has its line.
#[test]
fn an_emulated_scan_stops_an_image_and_lets_it_pass() {
    let (ecr, folder) = (EcrRepository::new(), Repository::new());
    let service = |scan: &str| {
        folder.write("service.yaml", &format!("name: {}\nport: 8000\n{scan}\n", ecr.service()))
    };
    service("");
    folder.write(
        "Dockerfile",
        "FROM debian:trixie-slim\nENV A=1\nRUN echo a > /a\nCOPY service.yaml /\n",
    );
    folder.commit("feat: one");
    let mut build = cicd(folder.path());
    build.args([
        "build-image",
        "--skip-contract",
        "--version",
        "1.0.0",
        "--layout",
        "image",
        "--output",
        "json",
    ]);
    let digest = run(&mut build).ended(0).json()["digest"].as_str().expect("a digest").to_string();
    let blob = |digest: &Value| {
        let digest = digest.as_str().expect("a digest").replace(':', "/");
        let text = std::fs::read_to_string(folder.path().join("image/blobs").join(digest))
            .expect("a blob");
        (serde_json::from_str::<Value>(&text).expect("JSON"), text)
    };
    let (manifest, text) = blob(&digest.as_str().into());
    let (config, _) = blob(&manifest["config"]["digest"]);

    let moto = stack("CICD_STACK_SCANS");
    let aws = |command: &str, more: &[&str]| {
        let mut aws = Command::new("aws");
        aws.args(["ecr", command, "--endpoint-url", &moto, "--repository-name", &ecr.name()])
            .args(more);
        run(&mut aws).ended(0);
    };
    aws("create-repository", &[]);
    aws("put-image", &["--image-manifest", &text, "--image-digest", &digest]);
    aws("start-image-scan", &["--image-id", &format!("imageDigest={digest}")]);

    let scanner = Scanner::at(moto.trim_start_matches("http://"));
    let push = |scan: &str, code: i32| {
        service(scan);
        let summary = folder.path().join("summary");
        let _ = std::fs::remove_file(&summary);
        let mut command = cicd(folder.path());
        command.args(["push-ecr", "--layout", "image", "--tag", "1.0.0", "--output", "json"]);
        command.env("AWS_ENDPOINT_URL_ECR", &scanner.0.url).env("GITHUB_STEP_SUMMARY", &summary);
        let ended = run(&mut command).ended(code);
        (ended.json()["error"].clone(), std::fs::read_to_string(summary).expect("a summary"))
    };
    // A basic scan: moto finds the same in every image.
    let (error, summary) = push("scan: {}", 8);
    assert!(
        summary.contains(r"| high | CVE-9999-9999 | moto\_fake | 9.9.9 | – | – | stops |"),
        "{summary}"
    );
    assert_eq!(error["causes"].as_array().map(Vec::len), Some(1), "{error}");
    assert_no_tag(&ecr.reached(), "1.0.0");

    // An enhanced one, with each layer as Inspector may name it: as it is stored, or unpacked.
    let finding = |id: &str, package: &str, layer: &Value| {
        let package = json!({ "name": package, "version": "1", "fixedInVersion": "2", "sourceLayerHash": layer });
        let details = json!({ "vulnerabilityId": id, "vulnerablePackages": [package] });
        json!({ "severity": "HIGH", "status": "ACTIVE", "packageVulnerabilityDetails": details })
    };
    let findings = [
        finding("CVE-2026-1", "libc", &manifest["layers"][0]["digest"]),
        finding("CVE-2026-2", "a", &config["rootfs"]["diff_ids"][1]),
        finding("CVE-2026-3", "yaml", &manifest["layers"][2]["digest"]),
    ];
    let result = json!({
        "registryId": "111122223333", "repositoryName": ecr.name(), "imageId": { "imageDigest": digest },
        "imageScanStatus": { "status": "ACTIVE", "description": "Continuous scan" },
        "imageScanFindings": { "findingSeverityCounts": { "HIGH": 3 }, "enhancedFindings": findings },
    });
    let result =
        json!({ "results": [result], "region": "eu-west-1", "account_id": "111122223333" })
            .to_string();
    let results = format!("{moto}/moto-api/static/ecr/scan-finding-results");
    run(Command::new("curl").args([
        "-sf",
        "-H",
        "Content-Type: application/json",
        "-d",
        &result,
        &results,
    ]))
    .ended(0);
    let (error, summary) = push("scan: {}", 8);
    let rows = [
        r"| high | CVE-2026-1 | libc | 1 | 2 | base image debian:trixie-slim \(layer 1 of 3\) | stops |",
        r"| high | CVE-2026-2 | a | 1 | 2 | Dockerfile:3: RUN echo a > /a \(layer 2 of 3\) | stops |",
        r"| high | CVE-2026-3 | yaml | 1 | 2 | Dockerfile:4: COPY service.yaml / \(layer 3 of 3\) | stops |",
    ];
    for row in rows {
        assert!(summary.contains(row), "{row}: {summary}");
    }
    let reasons: Vec<&str> = error["causes"]
        .as_array()
        .expect("causes")
        .iter()
        .map(|c| c["reason"].as_str().expect("a reason"))
        .collect();
    assert!(
        reasons[0].ends_with("from base image debian:trixie-slim (layer 1 of 3)"),
        "{reasons:?}"
    );
    assert!(
        reasons[1].ends_with("from Dockerfile:3: RUN echo a > /a (layer 2 of 3)"),
        "{reasons:?}"
    );
    assert_no_tag(&ecr.reached(), "1.0.0");

    // The image is the same; the file is of other sources now. What is not certain is not said.
    folder.write("Dockerfile", "FROM debian:bookworm-slim\nRUN other\nCOPY service.yaml /\n");
    let allow = ["1", "2", "3"]
        .map(|id| format!("{{id: CVE-2026-{id}, reason: a test, until: 9999-12-31}}"))
        .join(", ");
    let (error, summary) = push(&format!("scan: {{allow: [{allow}]}}"), 0);
    assert!(
        error.is_null()
            && summary.contains(
                r"| RUN echo a > /a \(layer 2 of 3\) | allowed until 9999-12-31: a test |"
            ),
        "{summary}"
    );
    assert!(
        summary.contains(r"| Dockerfile:3: COPY service.yaml / \(layer 3 of 3\) |")
            && !summary.contains("bookworm"),
        "{summary}"
    );
    assert_eq!(get(&format!("{}/manifests/1.0.0", url(&ecr.reached()))).0, 200);
}
