//! `report`: the fleet page, from records as they are in a folder and in a bucket.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Run, cicd, root, run, stack, unique};

/// A folder with records, and a site beside it.
struct Fleet(tempfile::TempDir);

impl Fleet {
    fn empty() -> Fleet {
        let fleet = Fleet(tempfile::tempdir().expect("a folder"));
        std::fs::create_dir(fleet.records()).expect("a folder");
        fleet
    }

    /// Records of an organisation, the same each time.
    fn generated(more: &[&str]) -> Fleet {
        let fleet = Fleet::empty();
        let mut command = Command::new("python3");
        command.arg(root().join("bench/records.py")).arg(fleet.records());
        run(command.args(more)).ended(0);
        fleet
    }

    fn records(&self) -> PathBuf {
        self.0.path().join("records")
    }

    fn site(&self) -> PathBuf {
        self.0.path().join("site")
    }

    /// Writes a record and the head that names it.
    fn write(&self, place: &str, number: u64, record: &Value) {
        let folder = self.records().join("cicd").join(place);
        std::fs::create_dir_all(folder.join("records")).expect("folders");
        let file = folder.join(format!("records/{number:08}.json"));
        std::fs::write(file, record.to_string()).expect("written");
        let head = json!({ "format": 1, "last": record });
        std::fs::write(folder.join("head.json"), head.to_string()).expect("written");
    }

    fn report(&self, more: &[&str]) -> Run {
        let mut command = cicd(self.0.path());
        command.args(["report", "--output", "json", "--to"]).arg(self.site());
        run(command.arg("--records").arg(self.records()).args(more))
    }

    /// The figures of a report that ends well.
    fn figures(&self) -> Value {
        self.report(&[]).ended(0).json()["figures"].clone()
    }

    fn page(&self, name: &str) -> String {
        std::fs::read_to_string(self.site().join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

fn record(number: u64, digest: &str, result: &str) -> Value {
    json!({
        "format": 1, "number": number, "kind": "deploy", "version": format!("1.0.{number}"),
        "digest": format!("sha256:{}", digest.repeat(32)), "who": "ada", "started": "2026-11-23T08:00:00Z", "ended": "2026-11-23T08:01:00Z",
        "pipeline-version": "1.0.0", "result": result, "good": result == "deployed",
    })
}

/// Numbers that were computed in another order differ in their last digits.
fn assert_same(ours: &Value, theirs: &Value, at: &str) {
    match (ours, theirs) {
        (Value::Object(one), Value::Object(other)) => {
            let keys = |of: &serde_json::Map<String, Value>| {
                let mut keys: Vec<String> = of.keys().cloned().collect();
                keys.sort();
                keys
            };
            assert_eq!(keys(one), keys(other), "{at}");
            one.iter()
                .for_each(|(key, value)| assert_same(value, &other[key], &format!("{at}.{key}")));
        }
        _ => match (ours.as_f64(), theirs.as_f64()) {
            (Some(one), Some(other)) => {
                assert!((one - other).abs() <= 1e-6 * one.abs().max(1.0), "{at}: {one} and {other}")
            }
            _ => assert_eq!(ours, theirs, "{at}"),
        },
    }
}

#[test]
fn the_figures_agree_with_an_independent_computation() {
    let fleet = Fleet::generated(&["--services", "8", "--records", "60"]);
    let ours = fleet.figures();
    let mut theirs = Command::new("python3");
    theirs.arg(root().join("tests/it/fleet/delivery.py")).arg(fleet.records()).arg("production");
    let theirs = run(&mut theirs).ended(0).json();
    assert_eq!(ours["records"], 8 * 5 * 60);
    assert_same(&ours["delivery"], &theirs["delivery"], "delivery");
    assert_same(&ours["weeks"], &theirs["weeks"], "weeks");
    for service in ours["services"].as_array().expect("services") {
        let name = service["name"].as_str().expect("a name");
        assert_same(&service["delivery"], &theirs["services"][name], name);
    }
    assert!(theirs["delivery"]["failed"].as_u64() > Some(20), "{theirs}");
    let saved: Value = serde_json::from_str(&fleet.page("figures.json")).expect("JSON");
    assert_eq!(saved["delivery"], ours["delivery"]);
}

#[test]
fn only_new_records_are_read() {
    let fleet = Fleet::generated(&["--services", "3", "--records", "10"]);
    let first = fleet.report(&[]).ended(0);
    assert!(first.stderr.contains("3 services had new ones"), "{first}");
    let again = fleet.report(&[]).ended(0);
    assert!(again.stderr.contains("0 services had new ones"), "{again}");
    assert_eq!(again.json()["figures"]["delivery"], first.json()["figures"]["delivery"]);

    // What was read is not read again: nobody sees that it is broken now.
    let old =
        fleet.records().join("cicd/service-0000/production/eks.main.apps/records/00000001.json");
    std::fs::write(old, "{").expect("written");
    let more = ["--services", "3", "--records", "10", "--more", "2"];
    let mut generate = Command::new("python3");
    run(generate.arg(root().join("bench/records.py")).arg(fleet.records()).args(more)).ended(0);
    let third = fleet.report(&[]).ended(0);
    assert!(third.stderr.contains("1 services had new ones"), "{third}");
    let third = &third.json()["figures"];
    assert_eq!((&third["records"], &third["broken"]), (&json!(152), &json!([])));

    // Without the index all is read.
    std::fs::remove_dir_all(fleet.site().join(".index")).expect("removed");
    let anew = fleet.figures();
    assert_eq!((&anew["records"], anew["broken"].as_array().map(Vec::len)), (&json!(151), Some(1)));
}

#[test]
fn a_new_user_sees_pages_from_nothing_from_one_record_and_beside_broken_ones() {
    let fleet = Fleet::empty();
    fleet.report(&[]).ended(0);
    assert!(fleet.page("index.html").contains("No service has a record yet"));
    for page in ["delivery.html", "causes.html", "pipelines.html"] {
        fleet.page(page);
    }

    fleet.write("patients/production/docker", 1, &record(1, "aa", "deployed"));
    let one = fleet.figures();
    assert_eq!(
        (&one["delivery"]["deployed"], &one["delivery"].get("lead-time")),
        (&json!(1), &None)
    );
    assert!(fleet.page("index.html").contains(">patients</a>"));
    assert!(fleet.page("services/patients.html").contains("1.0.1"));

    let folder = fleet.records().join("cicd/patients/production/docker/records");
    std::fs::write(folder.join("00000002.json"), "not JSON").expect("written");
    std::fs::write(folder.join("00000003.json"), "{}").expect("written");
    fleet.write("patients/production/docker", 4, &record(4, "bb", "failed"));
    let ended = fleet.report(&[]).ended(0);
    let (found, index) = (ended.json()["figures"].clone(), fleet.page("index.html"));
    assert_eq!((&found["records"], found["broken"].as_array().map(Vec::len)), (&json!(2), Some(2)));
    for broken in ["00000002.json", "00000003.json"] {
        assert!(ended.stderr.contains(broken) && index.contains(broken), "{ended}");
    }
    assert!(index.contains("1.0.4 failed") && index.contains("1.0.1"), "{index}");

    let nowhere = run(cicd(fleet.0.path()).args(["report", "--records", "nowhere"])).ended(2);
    assert!(nowhere.stderr.contains("cannot read the records in nowhere"), "{nowhere}");
}

/// No text of a record does anything on a page, or makes it endless.
#[test]
fn hostile_records_stay_text() {
    let fleet = Fleet::empty();
    let script = "<script>alert(1)</script>";
    let service = "\"><img src=x onerror=alert(1)>";
    let endless = format!("{script}{}", "<b>".repeat(400_000));
    let mut hostile = record(1, "aa", "failed");
    hostile["digest"] = json!(script);
    for field in ["version", "who", "reason", "commit", "pipeline-version"] {
        hostile[field] = json!(endless);
    }
    hostile["causes"] = json!([script, "probe-failed"]);
    hostile["url"] = json!("javascript:alert(1)");
    hostile["run"] = json!({ "url": "https://x/\"onclick=alert(1)", "repository": "../../x" });
    fleet.write(
        &format!("{service}/{script}x/docker", script = script.replace('/', "_")),
        1,
        &hostile,
    );
    hostile["good"] = json!(true);
    hostile["number"] = json!(2);
    fleet.write(&format!("{service}/production/docker"), 2, &hostile);
    fleet.report(&[]).ended(0);

    let mut pages = vec![];
    for folder in ["", "services"] {
        for entry in std::fs::read_dir(fleet.site().join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|ending| ending == "html") {
                pages.push(path);
            }
        }
    }
    assert_eq!(pages.len(), 5, "{pages:?}");
    for page in pages {
        let html = std::fs::read_to_string(&page).expect("a page").to_lowercase();
        for bad in ["<script", "<img", "<b>", "href=\"javascript", "\"onclick", "href=\"https://x/"]
        {
            assert!(!html.contains(bad), "{} has {bad}", page.display());
        }
        assert!(html.len() < 60_000, "{} has {} bytes", page.display(), html.len());
    }
    assert!(fleet.page("index.html").contains("&lt;img src=x onerror"), "the name is shown");
}

#[test]
fn a_freeze_and_what_is_behind_are_on_the_first_page() {
    let fleet = Fleet::empty();
    for (number, digest) in [(1, "aa"), (2, "bb")] {
        fleet.write("patients/staging/docker", number, &record(number, digest, "deployed"));
    }
    fleet.write("patients/production/docker", 1, &record(1, "aa", "deployed"));
    let freeze = |service: &str, until: &str| {
        json!({ "service": service, "environment": "production", "who": "eve", "reason": "audit",
                "since": "2026-11-23T08:00:00Z", "until": until })
    };
    let write = |freezes: Value| {
        let text = json!({ "format": 1, "freezes": freezes }).to_string();
        std::fs::write(fleet.records().join("cicd/freezes.json"), text).expect("written");
    };
    write(json!([freeze("*", "2099-01-01T00:00:00Z"), freeze("other", "2098-01-01T00:00:00Z")]));
    fleet.report(&[]).ended(0);
    let index = fleet.page("index.html");
    assert!(
        index.contains("1 image behind") && index.contains("frozen until 2099-01-01 00:00"),
        "{index}"
    );
    write(json!([freeze("*", "2020-01-01T00:00:00Z")]));
    let again = fleet.report(&[]).ended(0);
    assert!(again.stderr.contains("0 services had new ones"), "{again}");
    assert!(!fleet.page("index.html").contains("frozen until"), "a freeze that is over is none");
}

#[test]
fn what_drifts_and_how_many_commits_are_behind_is_on_both_pages() {
    let fleet = Fleet::empty();
    let of_commit = |number: u64, digest: &str, commits: u64| {
        let mut record = record(number, digest, "deployed");
        record["commit"] = json!(digest.repeat(20));
        record["commits"] = json!(commits);
        record["run"] = json!({ "url": "https://github.com/clinicult/patients/actions/runs/7" });
        record
    };
    fleet.write("patients/staging/docker", 1, &of_commit(1, "aa", 40));
    fleet.write("patients/staging/docker", 2, &of_commit(2, "bb", 43));
    fleet.write("patients/production/docker", 1, &of_commit(1, "aa", 40));
    let drift = |text: String| {
        let file = fleet.records().join("cicd/patients/production/docker/drift.json");
        std::fs::write(file, text).expect("written");
    };
    let look = |record: u64, differences: Value| {
        let looked = "2026-11-24T08:00:00Z";
        json!({ "format": 1, "record": record, "looked": looked, "differences": differences })
    };
    fleet.report(&[]).ended(0);
    let (index, service) = (fleet.page("index.html"), fleet.page("services/patients.html"));
    assert!(index.contains("3 commits behind") && !index.contains("drifting, seen"), "{index}");
    let link = format!("compare/{}...{}", "aa".repeat(20), "bb".repeat(20));
    assert!(service.contains("3 commits behind") && service.contains(&link), "{service}");
    // A look makes the pages anew, and is void once there is a later record.
    for (text, is_drifting, is_read) in [
        (look(1, json!(["env.LOG_LEVEL <script>"])).to_string(), true, true),
        (look(1, json!([])).to_string(), false, true),
        (look(7, json!(["env.LOG_LEVEL"])).to_string(), false, true),
        ("{".to_string(), false, false),
    ] {
        drift(text.clone());
        let again = fleet.report(&[]).ended(0);
        assert!(again.stderr.contains("0 services had new ones"), "{again}");
        assert_eq!(again.stderr.contains("drift.json"), !is_read, "{again}");
        let (index, service) = (fleet.page("index.html"), fleet.page("services/patients.html"));
        let seen = index.contains("drifting, seen 2026-11-24 08:00");
        let named = service.contains("env.LOG_LEVEL &lt;script&gt;");
        assert_eq!((seen, named), (is_drifting, is_drifting), "{text}: {index} {service}");
    }
}

/// A freeze that cannot be read, or a state's hash that is none, is named: never taken for "none".
#[test]
fn what_cannot_be_read_is_told() {
    let fleet = Fleet::empty();
    fleet.write("patients/production/docker", 1, &record(1, "aa", "deployed"));
    std::fs::write(fleet.records().join("cicd/freezes.json"), "{").expect("written");
    let mut elsewhere = record(2, "bb", "deployed");
    elsewhere["state-hash"] = json!("../../../freezes");
    fleet.write("patients/production/docker", 2, &elsewhere);
    let ended = fleet.report(&[]).ended(0);
    let index = fleet.page("index.html");
    for broken in ["cicd/freezes.json", "00000002.json"] {
        assert!(ended.stderr.contains(broken) && index.contains(broken), "{broken}: {ended}");
    }
}

/// The bucket of platform.yaml says the same, of the environments that platform.yaml has.
#[test]
fn a_bucket_says_the_same_as_a_folder() {
    let fleet = Fleet::generated(&["--services", "2", "--records", "12"]);
    let ours = fleet.figures();
    let bucket = unique("fleet");
    let aws = |more: &[&str]| run(Command::new("aws").args(more)).ended(0);
    let at = format!("s3://{bucket}");
    aws(&["s3", "mb", &at]);
    aws(&["s3", "sync", "--only-show-errors", &fleet.records().display().to_string(), &at]);
    let region = stack("AWS_REGION");
    let platform = fleet.0.path().join("platform.yaml");
    let text = format!(
        "registry: {{account: \"000000000000\", region: {region}}}\n\
         records: {{bucket: {bucket}, region: {region}}}\n"
    );
    std::fs::write(&platform, &text).expect("written");
    let to = fleet.0.path().join("of-a-bucket");
    let report = || {
        let mut command = cicd(fleet.0.path());
        command.args(["report", "--output", "json", "--platform"]).arg(&platform);
        run(command.arg("--to").arg(&to)).ended(0)
    };
    let (first, again) = (report(), report());
    let pull_request = json!({"format": 1, "last": record(1, "aa", "deployed")}).to_string();
    let head = fleet.0.path().join("head.json");
    std::fs::write(&head, pull_request).expect("written");
    let key = "cicd/service-0000/preview-12/docker/head.json";
    aws(&["s3", "cp", "--only-show-errors", &head.display().to_string(), &format!("{at}/{key}")]);
    let own = "{target: eks, region: eu-west-1, eks: {cluster: c, namespace: p}";
    let named = format!(
        "{text}environments:\n  staging: {own}}}\n  production: {own}}}\n\
         \x20 preview: {own}, preview: {{}}}}\n"
    );
    std::fs::write(&platform, named).expect("written");
    let named = report();
    aws(&["s3", "rb", "--force", &at]);
    for part in ["delivery", "weeks", "causes", "services", "records"] {
        assert_eq!(first.json()["figures"][part], ours[part], "{part}");
        assert_eq!(again.json()["figures"][part], ours[part], "{part}");
    }
    assert!(again.stderr.contains("0 services had new ones"), "{again}");
    assert!(Path::new(&to.join("index.html")).exists());
    let index = std::fs::read_to_string(to.join("index.html")).expect("a page");
    assert_eq!(named.json()["figures"]["environments"], json!(["staging", "production"]));
    assert!(!index.contains("preview"), "{index}");
}
