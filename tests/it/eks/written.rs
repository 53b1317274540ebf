//! What a run did is told by what its writes were answered: whose version runs, what is undone,
//! and what a lost answer came to.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::proxy::{Proxy, Turn, writes_deployment};
use super::{CLUSTER, Place, SERVICE};
use crate::probe::digest_of;
use crate::support::run;

/// A service that runs 1.0.0, and from here on is deployed to through `proxy`.
fn running(test: &str, proxy: &Proxy) -> Place {
    let place = Place::new(test);
    place.service("env: {GREETING: hello}\n");
    place.deploy("1.0.0").ended(0);
    proxy.stand_before(&place);
    place
}

pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_lost_answer_is_looked_up() {
    // The API server did what it was asked, and nobody heard of it again.
    let proxy = Proxy::start(|request, before| match writes_deployment(request) {
        true if before == 0 => Turn::LoseAnswer,
        true => Turn::Drop,
        false => Turn::PassOn,
    });
    let place = running("lost", &proxy);
    let deployed = place.deploy("2.0.0").ended(0);
    assert_eq!(deployed.json()["status"], "deployed", "{deployed}");
    assert_eq!(place.answer(), "version 2.0.0 says hello");

    // It never did: nothing was written, so that nothing is to be undone.
    let proxy = Proxy::start(|request, _| match writes_deployment(request) {
        true => Turn::Drop,
        false => Turn::PassOn,
    });
    let place = running("unheard", &proxy);
    let before = place.get(&format!("deployment/{SERVICE}"));
    let refused = place.deploy("2.0.0").ended(3);
    assert!(refused.json().get("record").is_none(), "{refused}");
    assert_eq!(place.get(&format!("deployment/{SERVICE}"))["metadata"], before["metadata"]);
}

#[test]
fn a_write_that_is_refused_changed_nothing() {
    let proxy = Proxy::start(|request, _| match writes_deployment(request) {
        true => Turn::Answer(403, ""),
        false => Turn::PassOn,
    });
    let place = running("refused", &proxy);
    let refused = place.deploy("2.0.0").ended(3);
    let error = &refused.json()["error"];
    assert_eq!((&error["kind"], &error["code"]), (&"refused".into(), &"access-denied".into()));
    assert_eq!(proxy.seen(writes_deployment).len(), 1, "nothing is undone: {refused}");
    assert_eq!(place.answer(), "version 1.0.0 says hello");
}

/// One smoke check serves both ways: that the last good version is ready is not all.
#[test]
fn the_way_back_is_proven_as_the_way_in_is() {
    let answers = Arc::new(AtomicBool::new(true));
    let asked = answers.clone();
    let proxy = Proxy::start(move |request, _| {
        match request.contains("/proxy/") && !asked.load(Ordering::SeqCst) {
            true => Turn::Say(500),
            false => Turn::PassOn,
        }
    });
    let place = running("proven", &proxy);
    place.service("env: {GREETING: hello, CRASH: no database}\n");
    let back = place.deploy("2.0.0").ended(4);
    let asked = proxy.seen(|request| request.contains("/services/probe:8000/proxy/"));
    assert_eq!(asked.len(), 1, "the way back was not proven: {back}");

    answers.store(false, Ordering::SeqCst);
    let broken = place.deploy("2.0.0").ended(5);
    let error = &broken.json()["error"]["message"];
    let said = error.as_str().expect("a message");
    assert!(
        said.contains("the rollback failed") && said.contains("cannot reach probe"),
        "{broken}"
    );
}

#[test]
fn what_a_person_changes_meanwhile_is_left_alone() {
    // While the new version comes up.
    let place = Place::new("edited");
    place.service("env: {GREETING: hello}\n");
    place.deploy("1.0.0").ended(0);
    place.service("env: {GREETING: hello, STATUS: \"503\"}\n");
    let deploying = place
        .command("2.0.0", digest_of("2.0.0"))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("cicd");
    let image = || {
        let live = place.get(&format!("deployment/{SERVICE}"));
        live["spec"]["template"]["spec"]["containers"][0]["image"].to_string()
    };
    wait_until("2.0.0 is applied", || image().contains(digest_of("2.0.0")));
    place.kubectl(&["set", "env", &format!("deployment/{SERVICE}"), "BY=hand"]);
    let ended = deploying.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(7), "{said}");
    assert!(said.contains("somebody else changed it"), "{said}");
    let env = || {
        let live = place.get(&format!("deployment/{SERVICE}"));
        live["spec"]["template"]["spec"]["containers"][0]["env"].to_string()
    };
    assert!(env().contains("BY"), "{}", env());

    // Between the failure and the rollback: the log is read then.
    let (place, edited) = (Arc::new(std::sync::OnceLock::<String>::new()), AtomicBool::new(false));
    let namespace = place.clone();
    let proxy = Proxy::start(move |request, _| {
        if request.contains("/log?") && !edited.swap(true, Ordering::SeqCst) {
            let namespace = namespace.get().expect("a namespace");
            let deployment = format!("deployment/{SERVICE}");
            run(Command::new("kubectl").args([
                "-n",
                namespace,
                "set",
                "env",
                &deployment,
                "BY=hand",
            ]))
            .ended(0);
        }
        Turn::PassOn
    });
    let there = running("edited2", &proxy);
    place.set(there.namespace.clone()).expect("once");
    there.service("env: {GREETING: hello, CRASH: no database}\n");
    let failed = there.deploy("2.0.0").ended(7);
    assert!(failed.stdout.contains("somebody else changed it"), "{failed}");
    let live = there.get(&format!("deployment/{SERVICE}"));
    let env = live["spec"]["template"]["spec"]["containers"][0]["env"].to_string();
    assert!(env.contains("BY"), "{env}");
}

/// The controller waits for a pod of the bad revision to get ready, which it never does, before it
/// looks at the good one: kubernetes#67250.
#[test]
fn a_stateful_set_that_is_stuck_goes_back() {
    let place = Place::new("stuck");
    place.service("manifests: [set.yaml]\n");
    let set = |script: &str| super::worker("StatefulSet", script);
    place.repository.write("set.yaml", &set("sleep 3600"));
    place.deploy("1.0.0").ended(0);
    place.repository.write("set.yaml", &set("echo no database; exit 3"));
    let back = place.deploy("1.0.0").ended(4);
    assert_eq!(back.json()["error"]["causes"][0]["code"], "container-exited", "{back}");
    assert_eq!(place.get("statefulset/worker")["status"]["readyReplicas"], 1, "{back}");
}

/// Whoever takes the lock over while a write is tried again gets no write of ours behind his.
#[test]
fn no_try_of_a_write_is_sent_once_the_lock_is_lost() {
    let namespace = Arc::new(std::sync::OnceLock::<String>::new());
    let known = namespace.clone();
    let proxy = Proxy::start(move |request, before| match writes_deployment(request) {
        true if before == 0 => {
            take_lock_over(known.get().expect("a namespace"));
            Turn::Answer(503, "retry-after: 15\r\n")
        }
        _ => Turn::PassOn,
    });
    let place = running("fenced", &proxy);
    namespace.set(place.namespace.clone()).expect("once");
    let fenced = place.deploy("2.0.0").ended(7);
    assert_eq!(proxy.seen(writes_deployment).len(), 1, "{fenced}");
    assert_eq!(place.answer(), "version 1.0.0 says hello");
}

/// Another run has the lock of the namespace's environment from now on.
fn take_lock_over(namespace: &str) {
    let key = format!("cicd/{SERVICE}/staging/eks.{CLUSTER}.{namespace}/lock.json");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lock.json");
    let path = file.to_str().expect("a path");
    let bucket = ["--bucket", "clinicult-cicd-records", "--key", &key];
    run(Command::new("aws").args(["s3api", "get-object"]).args(bucket).arg(path)).ended(0);
    let text = std::fs::read_to_string(&file).expect("the lock");
    let mut lock: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let fence = lock["fence"].as_u64().expect("a fence");
    lock["fence"] = json!(fence + 1);
    lock["nonce"] = json!(format!("{:032x}-1", 7));
    std::fs::write(&file, lock.to_string()).expect("written");
    run(Command::new("aws").args(["s3api", "put-object", "--body", path]).args(bucket)).ended(0);
}
