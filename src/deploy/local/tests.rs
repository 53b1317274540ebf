//! Tables for the pure parts: render, plan, verdict.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::plan::{ContainerSeen, LocalFacts, LocalPlan, make_plan};
use super::render::{self, LocalDocuments, SecretValues, render_compose, render_state};
use super::verdict::{Look, judge_look};
use crate::cli::Environ;
use crate::config::settings::{Destination, LOCAL, Target, resolve};
use crate::deploy::target::{Goal, Good, Plan, State as Wanted, Verdict};
use crate::deploy::{Image, Order};
use crate::digest::Digest;
use crate::docker::diagnosis::Expected;
use crate::docker::{Answer, Container, State};

fn wanted(more: &str) -> Wanted<LocalDocuments> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("service.yaml");
    std::fs::write(&file, format!("name: patients\nport: 8000\n{more}")).expect("written");
    let tree = crate::inside::Tree::around(folder.path(), &[]);
    let service = crate::config::read_service(Path::new(&file), &tree).expect("a service");
    render_state(&Order {
        settings: resolve(&service, LOCAL).expect("settings"),
        destination: Destination {
            target: Target::Local,
            region: String::new(),
            plan_role: None,
            branches: vec![],
            preview: None,
            after: None,
            role: None,
            registry: None,
            account: None,
        },
        image: Image {
            repository: "patients".into(),
            digest: Digest::of(b"new"),
            version: "1.4.0".into(),
        },
    })
}

/// The digest of the image that a test calls `name`.
fn digest_of(name: &str) -> String {
    Digest::of(name.as_bytes()).to_string()
}

fn seen(
    name: &str,
    revision: u64,
    digest: &str,
    settings: &str,
    state: State,
    healthy: bool,
) -> ContainerSeen {
    let labels = [
        (render::REVISION, revision.to_string()),
        (render::DIGEST, digest_of(digest)),
        (render::SETTINGS, settings.to_string()),
        (render::VERSION, "1.3.0".to_string()),
    ];
    let container = Container {
        name: name.into(),
        image: digest.into(),
        labels: labels.into_iter().map(|(label, value)| (label.to_string(), value)).collect(),
        state,
        published: None,
        port: None,
        address: None,
        own_address: None,
    };
    ContainerSeen { container, healthy }
}

fn ended() -> State {
    State::Ended { exit_code: 3, out_of_memory: false, error: None }
}

/// The plan for a service that the ledger knows nothing of yet.
fn planned(more: &str, seen: Vec<ContainerSeen>) -> LocalPlan {
    plan_after(None, true, more, seen)
}

/// The plan where `good` is the revision that the ledger knows to be good.
fn plan_after(good: Option<&str>, adopts: bool, more: &str, seen: Vec<ContainerSeen>) -> LocalPlan {
    let good =
        good.map(|revision| Good { state: wanted(""), revision: Some(revision.to_string()) });
    let goal = Goal { wanted: wanted(more), good, left: vec![], adopts, migrates: true };
    let facts =
        LocalFacts { seen, settings_hash: "same".into(), fresh_name: "patients-fresh".into() };
    make_plan(&goal, facts)
}

#[test]
fn a_plan_changes_only_what_differs() {
    let well = |name, revision, digest, settings| {
        seen(name, revision, digest, settings, State::Running, true)
    };
    type Case = (
        &'static str,
        Vec<ContainerSeen>,
        &'static [&'static str],
        &'static str,
        u64,
        Option<&'static str>,
        usize,
    );
    // what stands there → objects that change, who serves then, its revision, the revision to go
    // back to, who goes
    let cases: Vec<Case> = vec![
        ("nothing", vec![], &["Create Container/patients"], "patients-fresh", 1, None, 0),
        ("the same", vec![well("a", 7, "new", "same")], &[], "a", 7, Some("7"), 0),
        (
            "another image",
            vec![well("a", 7, "old", "same")],
            &["Update Container/patients"],
            "patients-fresh",
            8,
            Some("7"),
            1,
        ),
        (
            "other settings",
            vec![well("a", 7, "new", "other")],
            &["Update Container/patients"],
            "patients-fresh",
            8,
            Some("7"),
            1,
        ),
        (
            "the same, and it does not answer",
            vec![seen("a", 7, "new", "same", State::Running, false)],
            &["Create Container/patients", "Delete Container/a"],
            "patients-fresh",
            8,
            None,
            1,
        ),
        (
            "the same, and it ended",
            vec![seen("a", 7, "new", "same", ended(), false)],
            &["Create Container/patients", "Delete Container/a"],
            "patients-fresh",
            8,
            None,
            1,
        ),
        (
            "a run that was cut short before it removed the old one",
            vec![well("a", 7, "old", "same"), well("b", 8, "new", "same")],
            &["Delete Container/a"],
            "b",
            8,
            Some("8"),
            1,
        ),
        (
            "a run that was cut short while the new one started",
            vec![well("a", 7, "old", "same"), seen("b", 8, "new", "same", State::Created, false)],
            &["Update Container/patients", "Delete Container/b"],
            "patients-fresh",
            9,
            Some("7"),
            2,
        ),
    ];
    for (case, seen, changes, current, revision, back, leftovers) in cases {
        let plan = planned("", seen);
        let made: Vec<String> = plan
            .changes()
            .iter()
            .map(|change| format!("{:?} {}", change.action, change.object))
            .collect();
        assert_eq!(made, changes, "{case}");
        assert_eq!((plan.current.as_str(), plan.revision), (current, revision), "{case}");
        assert_eq!(plan.previous_revision().as_deref(), back, "{case}");
        assert_eq!(plan.leftovers.len(), leftovers, "{case}");
        assert_eq!(plan.create, current == "patients-fresh", "{case}");
    }
}

#[test]
fn only_what_a_deploy_saw_through_is_a_way_back() {
    let healthy = |name, revision| seen(name, revision, "old", "same", State::Running, true);
    struct Case {
        good: Option<&'static str>,
        adopts: bool,
        back: Option<&'static str>,
    }
    // Revision 8 is healthy, and the run that started it was killed.
    let cases = [
        Case { good: Some("7"), adopts: false, back: Some("7") },
        Case { good: None, adopts: false, back: None },
        Case { good: None, adopts: true, back: Some("8") },
    ];
    for Case { good, adopts, back } in cases {
        let plan = plan_after(good, adopts, "", vec![healthy("a", 7), healthy("b", 8)]);
        assert_eq!(plan.previous_revision().as_deref(), back, "{good:?} {adopts}");
    }
}

#[test]
fn a_rollback_runs_no_migration() {
    let mut goal = Goal {
        left: vec![],
        wanted: wanted("before-deploy: {command: [alembic, upgrade, head]}\n"),
        good: None,
        adopts: true,
        migrates: true,
    };
    let facts = || LocalFacts { seen: vec![], settings_hash: "s".into(), fresh_name: "f".into() };
    assert!(make_plan(&goal, facts()).migrates);
    goal.migrates = false;
    let plan = make_plan(&goal, facts());
    assert!(!plan.migrates && plan.changes().len() == 1, "{:?}", plan.changes());
}

#[test]
fn a_plan_says_what_differs() {
    let plan = planned("", vec![seen("a", 7, "old", "other", State::Running, true)]);
    let expected = [
        "version: 1.3.0 → 1.4.0",
        &format!("digest: {} → {}", digest_of("old"), digest_of("new")),
        "settings: env, secrets, port, health, memory or before-deploy differ",
    ];
    assert_eq!(plan.changes()[0].details, expected);
    let plan = planned("before-deploy: {command: [alembic, upgrade, head]}\n", vec![]);
    assert_eq!(plan.changes()[0].object, "Task/patients-before-deploy");
    assert_eq!(plan.changes()[0].details, ["command: none → [\"alembic\",\"upgrade\",\"head\"]"]);
}

#[test]
fn a_container_carries_what_the_next_deploy_asks_for() {
    let state = wanted("env: {LOG_LEVEL: info}\nsecrets: {DATABASE_URL: 'ssm:/db'}\n");
    let secrets =
        SecretValues::from([("DATABASE_URL".to_string(), "postgres://secret".to_string())]);
    let spec = render::render_service(&state, &secrets, "patients-1", "sha256:engine", 3);
    let env: Vec<(&str, &str)> =
        spec.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        env,
        [("APP_MODE", "production"), ("DATABASE_URL", "postgres://secret"), ("LOG_LEVEL", "info")]
    );
    assert_eq!(
        (spec.port, spec.published, spec.memory, spec.command),
        (Some(8000), true, 512, None)
    );
    let label = |label: &str| spec.labels.get(label).map(String::as_str);
    assert_eq!(label(render::DIGEST), Some(digest_of("new").as_str()));
    assert_eq!(label(render::REVISION), Some("3"));
    assert!(!spec.labels.values().any(|value| value.contains("secret")));
}

#[test]
fn the_hash_follows_the_settings_and_not_the_version() {
    let none = SecretValues::new();
    let hash = |more: &str| render::hash_settings(&wanted(more), &none);
    let base = hash("");
    assert_eq!(base, hash(""));
    for more in [
        "env: {A: b}\n",
        "resources: {memory: 1Gi}\n",
        "before-deploy: {command: [x]}\n",
        "mode: {production: p}\n",
    ] {
        assert_ne!(base, hash(more), "{more}");
    }
    assert_eq!(base, hash("replicas: 3\n"), "one copy runs here anyway");
    let mut other = wanted("");
    other.image.version = "2.0.0".into();
    assert_eq!(base, render::hash_settings(&other, &none));
    let rotated = SecretValues::from([("A".to_string(), "b".to_string())]);
    assert_ne!(base, render::hash_settings(&wanted(""), &rotated));
}

#[test]
fn a_compose_file_names_secrets_and_holds_none() {
    let text = render_compose(&wanted(
        "env: {PRICE: 5$}\nsecrets: {DATABASE_URL: 'ssm:/db'}\nbefore-deploy: {command: [alembic, upgrade, head]}\n",
    ))
    .expect("YAML");
    let expected = "\
name: patients-local
services:
  patients-before-deploy:
    image: patients@sha256:new
    environment:
      APP_MODE: production
      DATABASE_URL: ${DATABASE_URL:?}
      PRICE: 5$$
    mem_limit: 512m
    cap_drop:
    - ALL
    security_opt:
    - no-new-privileges
    healthcheck:
      disable: true
    command:
    - alembic
    - upgrade
    - head
    labels:
      cicd.clinicult.io/before-deploy: patients
  patients:
    image: patients@sha256:new
";
    let text = text.replace(&digest_of("new"), "sha256:new");
    assert!(text.starts_with(expected), "{text}");
    for line in [
        "    ports:\n",
        "127.0.0.1::8000",
        "condition: service_completed_successfully",
        "/version: \"1.4.0\"",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let read: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(read["services"]["patients"]["environment"]["DATABASE_URL"], "${DATABASE_URL:?}");
}

#[test]
fn a_look_is_judged() {
    let look = |state: Option<State>, answer: Answer, waited: u64| {
        judge_look(Look {
            name: "patients-1",
            revision: 3,
            state,
            answer,
            waited: Duration::from_secs(waited),
            startup: Duration::from_secs(60),
            expected: Expected { port: 8000, path: "/healthz", memory: 512 },
            log_tail: vec!["last words".into()],
            listening: None,
        })
    };
    let silence = || Answer::Silence("connection refused".into());
    assert_eq!(
        look(Some(State::Running), Answer::Status(200), 1),
        Verdict::Healthy { revision: "3".into() }
    );
    // It answers at last: late is not lost.
    assert_eq!(
        look(Some(State::Running), Answer::Status(204), 99),
        Verdict::Healthy { revision: "3".into() }
    );
    for (state, answer) in [
        (State::Running, silence()),
        (State::Running, Answer::Status(503)),
        (State::Created, silence()),
    ] {
        assert!(matches!(look(Some(state), answer, 59), Verdict::Progressing(_)));
    }
    // what stands there, what it answers, seconds → reason, exit code
    type Case = (Option<State>, Answer, u64, &'static str, Option<i64>);
    let failed: Vec<Case> = vec![
        (Some(ended()), silence(), 0, "ended while it should keep running", Some(3)),
        (
            Some(State::Running),
            silence(),
            60,
            "connection refused (after 60 s, health.startup)",
            None,
        ),
        (Some(State::Running), Answer::Status(500), 60, "it answers 500 there", None),
        (None, silence(), 0, "is gone", None),
    ];
    for (state, answer, waited, reason, exit_code) in failed {
        let gone = state.is_none();
        let Verdict::Failed(causes) = look(state, answer, waited) else {
            panic!("{reason}: not failed")
        };
        assert_eq!(causes[0].object, "Container/patients-1");
        assert!(causes[0].reason.contains(reason), "{:?}", causes[0]);
        assert_eq!(causes[0].exit_code, exit_code);
        assert_eq!(causes[0].log_tail.is_empty(), gone);
    }
}

#[test]
fn labels_are_distinct() {
    let labels = [
        render::SERVICE,
        render::ENVIRONMENT,
        render::VERSION,
        render::DIGEST,
        render::REVISION,
        render::SETTINGS,
        render::TASK,
    ];
    let distinct: BTreeMap<&str, ()> = labels.iter().map(|label| (*label, ())).collect();
    assert_eq!(distinct.len(), labels.len());
}

#[test]
fn a_service_gets_no_variable_of_the_runner() {
    let names = ["DB_URL", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY"].map(str::to_string);
    let environ = Environ::new(names.clone().map(|name| (name, "value".to_string())));
    let variables = render::SecretVariables::new(&environ);
    assert_eq!(variables.values_of(&names[..1]).expect("a value")["DB_URL"], "value");
    for name in &names[1..] {
        let refused = variables.values_of(std::slice::from_ref(name)).expect_err("refused");
        assert_eq!(refused.message, format!("cannot hand {name} to the service"));
    }
}
