//! A canary: a part of the users meets the new version first.

use std::time::Instant;

use super::takeover::Users;
use super::written::wait_until;
use super::{Place, SERVICE};
use crate::probe::digest_of;

const CANARY: &str =
    "deploy: {strategy: {canary: {steps: [50], pause: 3s, abort-on: {path: /}}}}\n";

/// The Deployments and Services of the namespace.
fn stands(place: &Place) -> Vec<String> {
    let found = place.kubectl(&["get", "deployments,services", "-o", "name"]);
    found.lines().map(|line| line.replace(".apps", "")).collect()
}

#[test]
fn a_canary_is_promoted_when_it_is_well_and_gone_when_it_is_not() {
    let place = Place::new("canary");
    let alone = [format!("deployment/{SERVICE}"), format!("service/{SERVICE}")];
    let both = format!("deployment/{SERVICE}-canary");
    let service = |env: &str| place.service(&format!("replicas: 2\nenv: {{{env}}}\n{CANARY}"));
    service("GREETING: hello");
    let first = place.deploy("1.0.0").ended(0);
    assert!(!first.changed().iter().any(|name| name.ends_with("canary")), "{first}");

    let users = Users::of(&place);
    let promoted = place.deploy("2.0.0").ended(0);
    assert!(promoted.changed().contains(&format!("Deployment/{SERVICE}-canary")), "{promoted}");
    assert!(promoted.stderr.contains("2 of 4 copies are of the new version"), "{promoted}");
    assert_eq!(
        (place.answer(), stands(&place)),
        ("version 2.0.0 says hello".into(), alone.to_vec())
    );
    assert_eq!(place.deploy("2.0.0").ended(0).json()["status"], "unchanged");

    service("GREETING: hello, CRASH: no database");
    let crashed = place.deploy("1.0.0").ended(4);
    assert_eq!(crashed.json()["error"]["causes"][0]["code"], "container-exited", "{crashed}");
    assert_eq!(
        (place.answer(), stands(&place)),
        ("version 2.0.0 says hello".into(), alone.to_vec())
    );
    assert!(users.stop().is_empty());
    // It is healthy, and answers its users with an error.
    service("GREETING: hello, STATUS_OUTSIDE: \"500\"");
    let aborted = place.deploy("1.0.0").ended(4);
    let why = format!("{aborted}");
    assert!(why.contains("requests to the new version failed"), "{aborted}");
    assert_eq!(
        (place.answer(), stands(&place)),
        ("version 2.0.0 says hello".into(), alone.to_vec())
    );

    // A run that is killed leaves its canary to the next one.
    service("GREETING: bye");
    let mut killed = place.command("1.0.0", digest_of("1.0.0")).spawn().expect("cicd");
    wait_until("no canary", || stands(&place).contains(&both));
    killed.kill().expect("killed");
    killed.wait().expect("killed");
    let since = Instant::now();
    service("GREETING: hello");
    let next = place.deploy("2.0.0").ended(0);
    assert!(next.changed().contains(&format!("Deployment/{SERVICE}-canary")), "{next}");
    assert_eq!(
        (place.answer(), stands(&place)),
        ("version 2.0.0 says hello".into(), alone.to_vec())
    );
    assert!(since.elapsed().as_secs() < 60, "{next}");
}
