//! Secrets of Secrets Manager on ECS.

use std::process::Command;

use super::{Place, url};
use crate::support::{http_get, run};

/// Tasks read their secrets when they start: a new value wants new tasks.
#[test]
fn a_secret_that_was_rotated_reaches_the_tasks() {
    let place = Place::new("ecs-rotate");
    let name = format!("{}/greeting", place.name);
    let secrets = |arguments: &[&str]| {
        run(Command::new("aws").arg("secretsmanager").args(arguments)).ended(0);
    };
    secrets(&["create-secret", "--name", &name, "--secret-string", r#"{"word": "old"}"#]);
    place.service(&format!("secrets: {{GREETING: 'secretsmanager:{name}#word'}}\n"));
    let first = place.deploy("1.0.0").ended(0);
    let url = format!("{}/", url(&first));
    assert_eq!(http_get(&url), "version 1.0.0 says old");
    let before = place.writes();
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");
    assert_eq!(place.writes(), before);

    secrets(&["put-secret-value", "--secret-id", &name, "--secret-string", r#"{"word": "new"}"#]);
    let rotated = place.deploy("1.0.0").ended(0);
    assert!(rotated.stderr.contains("a secret has another version"), "{rotated}");
    assert!(!format!("{rotated}").contains(r#""old""#), "{rotated}");
    assert_eq!(http_get(&url), "version 1.0.0 says new");
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");
}
