//! Facts → changes, what ECS is told, and the way back.

use super::*;
use crate::deploy::Image;
use crate::deploy::ecs::edge::{EdgeWanted, HealthCheck};
use crate::deploy::target::HealthCheck as Health;
use crate::digest::Digest;

fn definition(image: &str) -> Value {
    json!({
        "family": "patients", "networkMode": "awsvpc", "cpu": "256", "memory": "512",
        "containerDefinitions": [{ "name": "patients", "image": image }],
        "tags": [],
    })
}

fn service() -> Value {
    json!({
        "cluster": "c", "serviceName": "patients", "taskDefinition": "patients", "desiredCount": 2,
        "launchType": "FARGATE",
        "networkConfiguration": { "awsvpcConfiguration": {
            "subnets": ["s1", "s2"], "securityGroups": ["g"],
        } },
        "tags": [{ "key": "cicd.clinicult.io/environment", "value": "production" }],
    })
}

fn running(image: &str) -> LiveService {
    let mut document = service();
    document["networkConfiguration"]["awsvpcConfiguration"]["subnets"] = json!(["s2", "s1"]);
    LiveService {
        document,
        definition_arn: "arn:…/patients:6".into(),
        definition: definition(image),
        is_active: true,
        deployments: vec![],
    }
}

fn state(image: &str) -> State<EcsDocuments> {
    State {
        format: 2,
        target: "ecs".into(),
        service: "patients".into(),
        environment: "production".into(),
        image: Image { repository: "a".into(), digest: Digest::of(b"1"), version: "1".into() },
        port: 8000,
        health: Health { path: "/healthz".into(), startup: 60_000 },
        documents: EcsDocuments {
            task_definition: definition(image),
            service: service(),
            keeps_count: false,
            scaling: None,
            stable: 0,
            migration: None,
            edge: None,
            buckets: vec![],
            workers: vec![],
            schedules: vec![],
            rounding: None,
        },
    }
}

fn goal() -> Goal<EcsDocuments> {
    Goal { wanted: state("a@1"), good: None, left: vec![], adopts: true, migrates: true }
}

fn planned(goal: Goal<EcsDocuments>, live: Option<LiveService>) -> Result<EcsPlan> {
    make_plan(&goal, EcsFacts { service: live, ..EcsFacts::default() })
}

fn changes(plan: &EcsPlan) -> Vec<String> {
    plan.changes().iter().map(|change| format!("{:?} {}", change.action, change.object)).collect()
}

#[test]
fn facts_become_changes() {
    type Edit = fn(&mut LiveService);
    let both = ["Update TaskDefinition/patients", "Update Service/patients"];
    let cases: [(&str, Edit, &[&str]); 7] = [
        ("the order of subnets", |_| (), &[]),
        ("another image", |live| live.definition = definition("a@0"), &both),
        (
            "another count",
            |live| live.document["desiredCount"] = json!(1),
            &["Update Service/patients"],
        ),
        ("tags", |live| live.document["tags"] = json!([]), &["Update Service/patients"]),
        ("a definition that is inactive", |live| live.is_active = false, &both),
        (
            "a sidecar",
            |live| {
                let all = &mut live.definition["containerDefinitions"];
                all.as_array_mut().expect("a list").insert(0, json!({ "name": "log-router" }));
            },
            &[],
        ),
        (
            "capacity providers",
            |live| {
                live.document["launchType"] = Value::Null;
                live.document["capacityProviderStrategy"] =
                    json!([{ "capacityProvider": "FARGATE_SPOT" }]);
            },
            &[],
        ),
    ];
    for (title, edit, expected) in cases {
        let mut live = running("a@1");
        edit(&mut live);
        let plan = planned(goal(), Some(live)).expect(title);
        assert_eq!(changes(&plan), expected, "{title}");
        assert_eq!(plan.previous_revision().as_deref(), Some("6"));
    }
    let first = planned(goal(), None).expect("a plan");
    assert_eq!(changes(&first), ["Create TaskDefinition/patients", "Create Service/patients"]);
    assert_eq!(first.wanted.documents, goal().wanted.documents, "nothing of others is there");
}

#[test]
fn a_count_that_service_yaml_does_not_name_stays() {
    for (keeps_count, live_count, expected) in
        [(true, 4, None), (false, 4, Some(2)), (true, 0, Some(2)), (true, 2, None)]
    {
        let mut goal = goal();
        goal.wanted.documents.keeps_count = keeps_count;
        let mut live = running("a@1");
        live.document["desiredCount"] = json!(live_count);
        let plan = planned(goal, Some(live)).expect("a plan");
        let sent = match &plan.service {
            Some(ServiceWrite::Update(document)) => document["desiredCount"].as_u64(),
            _ => None,
        };
        assert_eq!(sent, expected, "{keeps_count} {live_count}");
        let wanted = if expected.is_some() { 2 } else { live_count };
        assert_eq!(u64::from(plan.wanted.documents.desired()), wanted, "as many are waited for");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let mut other = running("a@1");
    other.document["tags"][0]["value"] = json!("staging");
    let refused = planned(goal(), Some(other)).expect_err("of staging");
    assert!(refused.message.contains("environment staging"), "{refused}");
    let mut nowhere = goal();
    let network = &mut nowhere.wanted.documents.service["networkConfiguration"];
    network["awsvpcConfiguration"]["subnets"] = json!([]);
    assert!(planned(nowhere, None).expect_err("no subnets").message.contains("subnets"));
    let mut exposed = running("a@1");
    let arn = "arn:aws:elasticloadbalancing:r:1:targetgroup/patients-production/1";
    exposed.document["loadBalancers"] = json!([{ "targetGroupArn": arn }]);
    assert!(planned(goal(), Some(exposed)).expect_err("exposed").message.contains("load balancer"));
}

/// What others wrote is said, is in the state that the ledger keeps, and is in what is registered.
#[test]
fn the_state_has_what_others_wrote() {
    let mut live = running("a@0");
    let sidecar = json!({ "name": "log-router", "image": "b" });
    let definition = &mut live.definition;
    definition["containerDefinitions"].as_array_mut().expect("a list").push(sidecar.clone());
    definition["volumes"] = json!([{ "name": "scratch" }]);
    let plan = planned(goal(), Some(live)).expect("a plan");
    assert_eq!(plan.wanted.documents.task_definition["containerDefinitions"][1], sidecar);
    assert_eq!(
        plan.changes()[0].details,
        [
            "containerDefinitions[patients].image: a@0 → a@1",
            "nobody asks health.path, as it is not exposed: it is healthy while its tasks run",
            "stays as others wrote it: containerDefinitions[log-router], volumes"
        ]
    );
    let Some(ServiceWrite::Update(mut document)) = plan.service.clone() else {
        panic!("an update")
    };
    fill_in(&mut document, &plan.wanted.documents, Some("arn:…/patients:7"), None);
    let expected = json!({
        "cluster": "c", "service": "patients", "taskDefinition": "arn:…/patients:7",
    });
    assert_eq!(document, expected);
}

#[test]
fn the_target_group_is_filled_in_by_its_name() {
    let mut wanted = state("a@1").documents;
    wanted.edge = Some(EdgeWanted {
        listener: "l".into(),
        target_group: "patients-production".into(),
        port: 8000,
        health: HealthCheck { path: "/".into(), codes: "200".into() },
        patterns: vec![],
        gateway: None,
    });
    let mut document = json!({ "loadBalancers": [
        { "targetGroupArn": "patients-production" }, { "targetGroupArn": "arn:of-others" },
    ] });
    fill_in(&mut document, &wanted, Some("arn:…:7"), Some("arn:ours"));
    let expected = json!({ "loadBalancers": [
        { "targetGroupArn": "arn:ours" }, { "targetGroupArn": "arn:of-others" },
    ] });
    assert_eq!(document, expected, "a document that names no revision gets none");
}

#[test]
fn the_way_back_is_the_good_state_with_what_others_wrote() {
    struct Case {
        title: &'static str,
        good: Option<&'static str>,
        live: LiveService,
        image: Option<&'static str>,
        revisions: &'static [&'static str],
        desired: Value,
    }
    let scaled = |image: &str, count: u32| {
        let mut live = running(image);
        live.document["desiredCount"] = json!(count);
        live
    };
    let cases = [
        Case {
            title: "what ran before is the good one",
            good: Some("a@0"),
            live: running("a@0"),
            image: Some("a@0"),
            revisions: &["arn:…/patients:6", "patients:5"],
            desired: Value::Null,
        },
        Case {
            title: "what ran before is not",
            good: Some("a@0"),
            live: running("a@bad"),
            image: Some("a@0"),
            revisions: &["patients:5"],
            desired: Value::Null,
        },
        Case {
            title: "a scheduler had it asleep",
            good: Some("a@0"),
            live: scaled("a@0", 0),
            image: Some("a@0"),
            revisions: &["arn:…/patients:6", "patients:5"],
            desired: json!(0),
        },
        Case {
            title: "nothing is recorded",
            good: None,
            live: scaled("a@by-hand", 1),
            image: Some("a@by-hand"),
            revisions: &["arn:…/patients:6"],
            desired: json!(1),
        },
        Case {
            title: "what is left of a first deploy that failed",
            good: None,
            live: scaled("a@bad", 0),
            image: None,
            revisions: &[],
            desired: Value::Null,
        },
    ];
    for case in cases {
        let mut goal = goal();
        goal.good = case.good.map(|image| Good { state: state(image), revision: Some("5".into()) });
        let mut live = case.live;
        let of_others = json!({ "name": "log-router", "image": "b" });
        let definition = &mut live.definition;
        definition["containerDefinitions"].as_array_mut().expect("a list").push(of_others.clone());
        let plan = planned(goal, Some(live)).expect(case.title);
        let back = find_way_back(&plan);
        let Some(image) = case.image else {
            assert_eq!(back, None, "{}", case.title);
            continue;
        };
        let back = back.expect(case.title);
        let containers = &back.definition["containerDefinitions"];
        assert_eq!((&containers[0]["image"], &containers[1]), (&json!(image), &of_others));
        assert_eq!(back.revisions, case.revisions, "{}", case.title);
        assert_eq!(back.service["service"], "patients", "{}", case.title);
        assert_eq!(back.service["desiredCount"], case.desired, "{}", case.title);
    }
}

fn tagged(live: &mut LiveService, owner: Option<&str>, process: Option<&str>) {
    let tag = |key: &str, value: &str| json!({ "key": key, "value": value });
    let mut tags = vec![tag("cicd.clinicult.io/environment", "production")];
    tags.extend(owner.map(|owner| tag(OWNER_TAG, owner)));
    tags.extend(process.map(|process| tag(PROCESS_TAG, process)));
    live.document["tags"] = json!(tags);
}

fn with_worker() -> Goal<EcsDocuments> {
    let mut goal = goal();
    let mut worker = goal.wanted.documents.clone();
    worker.service["serviceName"] = json!("patients-worker");
    worker.task_definition["family"] = json!("patients-worker");
    worker.task_definition["containerDefinitions"][0]["name"] = json!("patients-worker");
    let tags = json!([
        { "key": OWNER_TAG, "value": "patients" },
        { "key": PROCESS_TAG, "value": "worker" },
    ]);
    worker.service["tags"] = tags.clone();
    worker.task_definition["tags"] = tags;
    goal.wanted.documents.workers.push(worker);
    goal
}

#[test]
fn a_worker_is_planned_with_its_service_and_those_of_others_are_not_touched() {
    let facts = |worker: Option<LiveService>| EcsFacts {
        service: Some(running("a@1")),
        workers: vec![EcsFacts { service: worker, ..EcsFacts::default() }],
        ..EcsFacts::default()
    };
    let worker = |owner: Option<&str>, process: Option<&str>| {
        let mut live = running("a@1");
        let documents = &with_worker().wanted.documents.workers[0];
        live.document["serviceName"] = json!("patients-worker");
        live.definition = documents.task_definition.clone();
        tagged(&mut live, owner, process);
        live
    };
    let both = ["Create TaskDefinition/patients-worker", "Create Service/patients-worker"];
    let plan = make_plan(&with_worker(), facts(None)).expect("a plan");
    assert_eq!(changes(&plan), both);
    let ours = worker(Some("patients"), Some("worker"));
    let plan = make_plan(&with_worker(), facts(Some(ours.clone()))).expect("a plan");
    assert_eq!(changes(&plan), Vec::<String>::new());
    for (owner, process) in [(None, None), (Some("patients-worker"), None)] {
        let facts = facts(Some(worker(owner, process)));
        let error = make_plan(&with_worker(), facts).expect_err("another's");
        assert!(error.message.contains("it is not of this service"), "{error}");
    }

    // What `processes` has no longer goes, and nothing else.
    let mut service = running("a@1");
    tagged(&mut service, Some("patients"), Some("worker mail"));
    assert_eq!(name_unwanted(&with_worker(), Some(&service)), ["mail"]);
    assert_eq!(name_unwanted(&goal(), Some(&running("a@1"))), Vec::<String>::new());
    let mut goal = goal();
    goal.wanted.documents.service["tags"] = json!([{ "key": OWNER_TAG, "value": "patients" }]);
    let mut of_ours = ours.clone();
    of_ours.document["status"] = json!("ACTIVE");
    let environment = &goal.wanted.environment;
    let is_ours = |live: &LiveService| is_worker_of(live, environment, "patients");
    assert!(is_ours(&of_ours));
    for (owner, process) in
        [(None, None), (Some("other"), Some("worker")), (Some("patients-worker"), None)]
    {
        let mut other = of_ours.clone();
        tagged(&mut other, owner, process);
        assert!(!is_ours(&other), "{owner:?} {process:?}");
    }
    let facts =
        EcsFacts { service: Some(service), left_over: vec![of_ours], ..EcsFacts::default() };
    let plan = make_plan(&goal, facts).expect("a plan");
    assert_eq!(changes(&plan), ["Update Service/patients", "Delete Service/patients-worker"]);
}
