//! From JSON as the API server answers it to facts, and to the verdict of each kind.

use serde_json::{Value, json};

use super::*;
use crate::deploy::eks::verdict::judge_workload;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).expect("a time")
}

fn typed<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object of its kind")
}

fn set(uid: &str, image: &str) -> ReplicaSet {
    typed(
        json!({"metadata": {"name": format!("p-{uid}"), "uid": uid, "ownerReferences": [{"uid": "d"}]},
        "spec": {"template": {"metadata": {"labels": {"app": "p", "pod-template-hash": uid}},
            "spec": {"containers": [{"name": "p", "image": image}]}}}}),
    )
}

fn pod_of(owner: &str, name: &str, status: Value) -> Pod {
    typed(
        json!({"metadata": {"name": name, "uid": name, "ownerReferences": [{"uid": owner}]}, "status": status,
        "spec": {"containers": [{"name": "p", "resources": {"limits": {"memory": "64Mi"}}}]}}),
    )
}

fn seen(pods: Vec<Pod>) -> WorkloadSeen {
    let live = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "p", "uid": "d", "generation": 4, "annotations": {"deployment.kubernetes.io/revision": "3"},
            "managedFields": [{"manager": "cicd", "time": "2026-11-01T10:00:00Z"}, {"manager": "cicd", "subresource": "status", "time": "2027-01-01T00:00:00Z"}]},
        "spec": {"replicas": 1, "template": {"metadata": {"creationTimestamp": null, "labels": {"app": "p"}},
            "spec": {"containers": [{"name": "p", "image": "new"}]}}},
        "status": {"observedGeneration": 4, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}});
    WorkloadSeen {
        key: Key::new("apps/v1", "Deployment", "n", "p"),
        live: Some(typed(live)),
        replica_sets: vec![set("old", "old"), set("new", "new")],
        pods,
    }
}

fn gather(seen: &WorkloadSeen, memory: &mut Memory, before: &Restarts, now: i64) -> WorkloadFacts {
    let generations = &HashMap::new();
    let known =
        Known { generations, restarts_before: before, events: &[], spare_ends: 1, now: at(now) };
    gather_facts(seen, memory, known)
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"containerStatuses": [{"name": "p", "state": {"waiting": {"reason": reason, "message": message}}, "restartCount": 0, "ready": false}]})
}

#[test]
fn only_pods_of_the_new_replica_set_count() {
    let none = json!({});
    let pods = [("old", "a"), ("new", "b"), ("other", "c")];
    let seen = seen(pods.map(|(owner, name)| pod_of(owner, name, none.clone())).to_vec());
    let facts = gather(&seen, &mut Memory::default(), &Restarts::new(), 0);
    assert_eq!(facts.pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["b"]);
    let Status::Deployment(deployment) = facts.status else { panic!("{facts:?}") };
    assert_eq!(
        (deployment.revision.as_str(), deployment.wanted, facts.observed_generation),
        ("3", 1, Some(4))
    );
    assert_eq!(deployment.applied_at, "2026-11-01T10:00:00Z".parse().ok());
}

#[test]
fn a_container_is_read_whole() {
    let status = json!({
        "conditions": [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no cpu"}],
        "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}, "restartCount": 0, "ready": true}],
        "containerStatuses": [{"name": "p", "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            "restartCount": 5, "ready": false}],
    });
    let earlier = json!({"containerStatuses": [{"name": "p", "restartCount": 4}]});
    let before = count_restarts([&pod_of("new", "b", earlier)]);
    let seen = seen(vec![pod_of("new", "b", status)]);
    let facts = gather(&seen, &mut Memory::default(), &before, 0);
    let pod = &facts.pods[0];
    assert_eq!(pod.unschedulable.as_deref(), Some("no cpu"));
    assert!(!pod.ready);
    assert!(pod.containers[0].init && !pod.containers[1].init);
    let container = &pod.containers[1];
    assert_eq!(
        (container.restarts, container.restarts_before, container.memory_limit.as_str()),
        (5, 4, "64Mi")
    );
    assert_eq!(container.last, Some(Exit { code: 137, reason: "OOMKilled".into() }));
}

#[test]
fn a_wait_is_timed_from_its_first_sight_and_remembers_a_denial() {
    let mut memory = Memory::default();
    let mut look = |status: Value, second: i64| {
        let seen = seen(vec![pod_of("new", "b", status)]);
        let facts = gather(&seen, &mut memory, &Restarts::new(), second);
        let container = facts.pods[0].containers[0].clone();
        (container.waiting_since, container.image_not_found)
    };
    assert_eq!(look(waiting("ContainerCreating", ""), 0), (Some(at(0)), false));
    assert_eq!(look(waiting("ErrImagePull", "i/o timeout"), 5), (Some(at(5)), false));
    assert_eq!(look(waiting("ImagePullBackOff", "Back-off"), 9), (Some(at(5)), false));
    assert_eq!(look(waiting("ErrImagePull", "x: not found"), 15), (Some(at(5)), true));
    assert_eq!(look(waiting("ImagePullBackOff", "Back-off"), 16), (Some(at(5)), true));
    let running = json!({"containerStatuses": [{"name": "p", "state": {"running": {}}}]});
    assert_eq!(look(running, 20), (None, false));
    assert_eq!(look(waiting("ErrImagePull", "i/o timeout"), 25), (Some(at(25)), false));
}

#[test]
fn a_replica_set_that_cannot_make_pods_is_timed_too() {
    let mut memory = Memory::default();
    let mut seen = seen(Vec::new());
    let mut look = |status: Value, second: i64| {
        seen.replica_sets[1].status = Some(typed(status));
        let facts = gather(&seen, &mut memory, &Restarts::new(), second);
        facts.create_failure.map(|failure| (failure.object, failure.message, failure.since))
    };
    let fail = json!({"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}]});
    let found = Some(("ReplicaSet/p-new".to_string(), "exceeded quota".to_string(), at(0)));
    assert_eq!(look(fail.clone(), 0), found);
    assert_eq!(look(fail, 9), found);
    assert_eq!(look(json!({}), 10), None);
}

#[test]
fn a_replica_set_is_asked_for_once_while_nothing_speaks_against_it() {
    let mut memory = Memory::default();
    let pods = vec![pod_of("new", "b", json!({}))];
    let seen = seen(pods);
    assert!(memory.recall_set(&seen).is_none());
    gather(&seen, &mut memory, &Restarts::new(), 0);
    let name = |set: Option<ReplicaSet>| set.and_then(|set| set.metadata.name);
    assert_eq!(name(memory.recall_set(&seen)).as_deref(), Some("p-new"));
    let mut other = seen.clone();
    other.pods.clear();
    assert!(memory.recall_set(&other).is_none(), "its pods are gone");
    let mut other = seen.clone();
    other.live.as_mut().expect("live").metadata.generation = Some(5);
    assert!(memory.recall_set(&other).is_none(), "another generation");
    let mut other = seen.clone();
    let failure = json!([{"type": "ReplicaFailure", "status": "True"}]);
    other.live.as_mut().expect("live").data["status"]["conditions"] = failure;
    assert!(memory.recall_set(&other).is_none(), "pods cannot be made");
}

#[test]
fn one_look_that_finds_a_failure_is_not_believed() {
    let failed = || {
        RolloutVerdict::Failed(vec![verdict::Trouble::new(
            verdict::TroubleKind::Crashed,
            "Pod/p/c",
            "crashed",
            "look",
        )])
    };
    let waits = || RolloutVerdict::Progressing("x".into());
    let mut memory = Memory::default();
    let mut is_failure = |verdict| matches!(memory.confirm(verdict), RolloutVerdict::Failed(_));
    let looks = [failed(), waits(), failed(), failed(), failed()];
    assert_eq!(looks.map(&mut is_failure), [false, false, false, true, true]);
}

/// Each kind with a notion of health, in each of its states.
#[test]
fn each_kind_is_judged_by_its_own_rule() {
    struct Case {
        name: &'static str,
        kind: (&'static str, &'static str),
        live: Value,
        pods: Vec<Value>,
        expected: &'static str,
    }
    let case = |name, kind, live, expected| Case { name, kind, live, pods: Vec::new(), expected };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Because", "message": "so"});
    let with = |conditions: Vec<Value>| json!({"status": {"conditions": conditions}});

    let sts = ("apps/v1", "StatefulSet");
    let stateful = |replicas: i64, strategy: Value, observed: i64, ready: i64, updated: i64| {
        json!({"metadata": {"generation": 2}, "spec": {"replicas": replicas, "updateStrategy": strategy},
            "status": {"observedGeneration": observed, "replicas": replicas, "readyReplicas": ready, "updatedReplicas": updated, "updateRevision": "new"}})
    };
    let rolling = || json!({"type": "RollingUpdate"});
    let partition = |n: i64| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": n}});
    let on_delete = || json!({"type": "OnDelete"});

    let ds = ("apps/v1", "DaemonSet");
    let daemon = |strategy: Value, observed: i64, desired: i64, updated: i64, available: i64| {
        json!({"metadata": {"generation": 2}, "spec": {"updateStrategy": strategy},
            "status": {"observedGeneration": observed, "desiredNumberScheduled": desired, "updatedNumberScheduled": updated, "numberAvailable": available}})
    };
    let rs = ("apps/v1", "ReplicaSet");
    let replicas = |observed: i64, wanted: i64, available: i64| json!({"metadata": {"generation": 2}, "spec": {"replicas": wanted}, "status": {"observedGeneration": observed, "availableReplicas": available}});
    let job = ("batch/v1", "Job");
    let pod = ("v1", "Pod");
    let phase = |phase: &str| json!({"status": {"phase": phase, "message": "words"}});
    let ready = json!({"status": {"phase": "Running", "conditions": [condition("Ready", "True")]}});
    let claim = ("v1", "PersistentVolumeClaim");
    let provisioned = json!({"metadata": {"annotations": {"volume.kubernetes.io/storage-provisioner": "ebs"}}, "status": {"phase": "Pending"}});
    let crd = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let api = ("apiregistration.k8s.io/v1", "APIService");
    let hpa = ("autoscaling/v2", "HorizontalPodAutoscaler");
    let scale = |kind: &str, reason: &str| json!({"status": {"conditions": [{"type": kind, "status": "False", "reason": reason, "message": "m"}]}});
    let own = ("example.com/v1", "Thing");
    // A kind of the same name in a group of its own is no Deployment.
    let namesake = ("example.com/v1", "Deployment");
    let generations = |generation: i64, observed: i64| json!({"metadata": {"generation": generation}, "status": {"observedGeneration": observed}});
    let crashing = |revision: &str| {
        json!({"metadata": {"name": "p-0", "uid": "p", "ownerReferences": [{"uid": "u"}], "labels": {"controller-revision-hash": revision}},
            "status": {"containerStatuses": [{"name": "c", "restartCount": 2, "ready": false,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}})
    };
    // Without a probe, one second after its start and four.
    let started = |second: i64| {
        json!({"metadata": {"name": "p-0", "uid": "p", "ownerReferences": [{"uid": "u"}], "labels": {"controller-revision-hash": "new"}},
            "status": {"containerStatuses": [{"name": "c", "restartCount": 0, "ready": true, "state": {"running": {"startedAt": at(second).to_string()}}}]}})
    };
    let ended = json!({"metadata": {"name": "p-x", "uid": "p", "ownerReferences": [{"uid": "u"}]},
        "status": {"containerStatuses": [{"name": "c", "restartCount": 0, "ready": false, "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}});
    let own_end = json!({"status": {"phase": "Failed", "containerStatuses": [{"name": "c", "restartCount": 0, "ready": false, "state": {"terminated": {"exitCode": 3}}}]}});

    let cases = [
        case("ready", sts, stateful(2, rolling(), 2, 2, 2), "healthy"),
        case(
            "of the spec before",
            sts,
            stateful(2, rolling(), 1, 2, 2),
            "waits: waiting for its controller",
        ),
        case(
            "one copy missing",
            sts,
            stateful(2, rolling(), 2, 1, 2),
            "waits: 1 of 2 copies ready",
        ),
        case(
            "one copy of the old revision",
            sts,
            stateful(2, rolling(), 2, 2, 1),
            "waits: 1 of 2 copies of the new revision",
        ),
        case("a partition keeps one", sts, stateful(2, partition(1), 2, 2, 1), "healthy"),
        case("a partition above all", sts, stateful(2, partition(9), 2, 2, 0), "healthy"),
        case("people replace the copies", sts, stateful(2, on_delete(), 2, 2, 0), "healthy"),
        Case {
            pods: vec![started(-1)],
            ..case(
                "ready since a moment",
                sts,
                stateful(2, rolling(), 2, 2, 2),
                "waits: it runs, and may not stay",
            )
        },
        Case {
            pods: vec![started(-4)],
            ..case("ready and stays", sts, stateful(2, rolling(), 2, 2, 2), "healthy")
        },
        case("none wanted", sts, stateful(0, rolling(), 2, 0, 0), "healthy"),
        Case {
            pods: vec![crashing("new")],
            ..case(
                "a new copy crashes",
                sts,
                stateful(2, rolling(), 2, 1, 1),
                "failed: Pod/p-0/c: the container crashed (3, log)",
            )
        },
        Case {
            pods: vec![crashing("old")],
            ..case(
                "an old copy crashes",
                sts,
                stateful(2, rolling(), 2, 1, 1),
                "waits: 1 of 2 copies ready",
            )
        },
        case("available", ds, daemon(rolling(), 2, 3, 3, 3), "healthy"),
        case(
            "not seen yet",
            ds,
            daemon(rolling(), 0, 0, 0, 0),
            "waits: waiting for its controller",
        ),
        case(
            "rolls",
            ds,
            daemon(rolling(), 2, 3, 1, 3),
            "waits: 1 of 3 copies of the new revision",
        ),
        case(
            "a node is not ready",
            ds,
            daemon(rolling(), 2, 3, 3, 2),
            "waits: 2 of 3 copies available",
        ),
        case("no node fits", ds, daemon(rolling(), 2, 0, 0, 0), "healthy"),
        case("people replace the copies", ds, daemon(on_delete(), 2, 3, 0, 3), "healthy"),
        Case {
            pods: vec![crashing("any")],
            ..case(
                "crashes",
                ds,
                daemon(rolling(), 2, 1, 1, 0),
                "failed: Pod/p-0/c: the container crashed (3, log)",
            )
        },
        case("available", rs, replicas(2, 2, 2), "healthy"),
        case("not available", rs, replicas(2, 2, 1), "waits: 1 of 2 copies available"),
        case("runs", job, json!({"status": {"active": 1}}), "waits: it runs"),
        case("not begun", job, json!({}), "waits: it runs"),
        case("complete", job, with(vec![condition("Complete", "True")]), "healthy"),
        case("not to run", job, json!({"spec": {"suspend": true}}), "healthy"),
        case("failed", job, with(vec![condition("Failed", "True")]), "failed: Job/p: Because: so"),
        Case {
            pods: vec![ended.clone()],
            ..case(
                "failed, with its pod",
                job,
                with(vec![condition("Failed", "True")]),
                "failed: Job/p: Because: so (3, log)",
            )
        },
        Case {
            pods: vec![ended],
            ..case("one try failed", job, json!({"status": {"failed": 1}}), "waits: it runs")
        },
        Case {
            pods: vec![crashing("")],
            ..case(
                "tries again in its pod",
                job,
                json!({"status": {"active": 1}}),
                "waits: it runs",
            )
        },
        case("pending", pod, phase("Pending"), "waits: it is pending"),
        case("runs, not ready", pod, phase("Running"), "waits: it is running"),
        case("ready", pod, ready, "healthy"),
        case("over", pod, phase("Succeeded"), "healthy"),
        case("failed", pod, phase("Failed"), "failed: Pod/p: Failed: words"),
        case("failed, with its log", pod, own_end, "failed: Pod/p: Failed (3, log)"),
        case("bound", claim, phase("Bound"), "healthy"),
        case("being made", claim, provisioned, "waits: its volume is being made"),
        case("waits for its first pod", claim, phase("Pending"), "healthy"),
        case("lost", claim, phase("Lost"), "failed: PersistentVolumeClaim/p: Lost"),
        case("established", crd, with(vec![condition("Established", "True")]), "healthy"),
        case("new", crd, json!({}), "waits: not yet Established"),
        case(
            "its names are taken",
            crd,
            with(vec![condition("Established", "False")]),
            "waits: not Established: Because: so",
        ),
        case("available", api, with(vec![condition("Available", "True")]), "healthy"),
        case(
            "its service is down",
            api,
            with(vec![condition("Available", "False")]),
            "waits: not Available: Because: so",
        ),
        case("new", hpa, json!({}), "healthy"),
        case("without metrics", hpa, scale("ScalingActive", "FailedGetResourceMetric"), "healthy"),
        case(
            "without its target",
            hpa,
            scale("AbleToScale", "FailedGetScale"),
            "waits: FailedGetScale: m",
        ),
        case("backs off", hpa, scale("AbleToScale", "BackoffBoth"), "healthy"),
        case("without a status", own, json!({"spec": {}}), "healthy"),
        case("with a status of its own", own, json!({"status": "fine"}), "healthy"),
        case("of the spec before", own, generations(2, 1), "waits: waiting for its controller"),
        case("observed", own, generations(2, 2), "healthy"),
        case("ready", own, with(vec![condition("Ready", "True")]), "healthy"),
        case(
            "not ready",
            own,
            with(vec![condition("Ready", "False")]),
            "waits: not Ready: Because: so",
        ),
        case(
            "nobody knows",
            own,
            with(vec![condition("Ready", "Unknown")]),
            "waits: not Ready: Because: so",
        ),
        case(
            "reconciling",
            own,
            with(vec![condition("Ready", "True"), condition("Reconciling", "True")]),
            "waits: Because: so",
        ),
        case(
            "stalled",
            own,
            with(vec![condition("Stalled", "True")]),
            "failed: Thing/p: Stalled: Because: so",
        ),
        case("stalled no more", own, with(vec![condition("Stalled", "False")]), "healthy"),
        case("a namesake", namesake, with(vec![condition("Ready", "False")]), "waits: not Ready"),
    ];
    for Case { name, kind: (api_version, kind), mut live, pods, expected } in cases {
        let name = format!("{kind}, {name}");
        let metadata =
            live.as_object_mut().expect("an object").entry("metadata").or_insert(json!({}));
        (metadata["name"], metadata["uid"]) = ("p".into(), "u".into());
        (live["apiVersion"], live["kind"]) = (api_version.into(), kind.into());
        let key = Key::new(api_version, kind, "n", "p");
        assert!(has_health(&key), "{name}");
        let pods = pods.into_iter().map(typed).collect();
        let seen = WorkloadSeen { key, live: Some(typed(live)), replica_sets: vec![], pods };
        let facts = gather(&seen, &mut Memory::default(), &Restarts::new(), 0);
        let said = match judge_workload(&facts) {
            RolloutVerdict::Healthy { .. } => "healthy".into(),
            RolloutVerdict::Progressing(what) => format!("waits: {what}"),
            RolloutVerdict::Failed(troubles) => {
                let trouble = &troubles[0];
                assert!(!trouble.fix.is_empty(), "{name}: {trouble:?}");
                let code = trouble.exit_code.map(|code| format!(" ({code}, log)"));
                assert_eq!(trouble.log.is_some(), code.is_some(), "{name}");
                format!(
                    "failed: {}: {}{}",
                    trouble.object,
                    trouble.reason,
                    code.unwrap_or_default()
                )
            }
        };
        assert!(said.starts_with(expected), "{name}: {said}, expected {expected}");
    }
}

#[test]
fn what_only_exists_is_not_looked_at() {
    let cases = [
        ("v1", "ConfigMap", false),
        ("v1", "Service", false),
        ("networking.k8s.io/v1", "Ingress", false),
        ("rbac.authorization.k8s.io/v1", "Role", false),
        ("batch/v1", "CronJob", false),
        ("apps/v1", "ControllerRevision", false),
        // Kinds of others, whatever they are called.
        ("serving.knative.dev/v1", "Service", true),
        ("example.com/v1", "ConfigMap", true),
    ];
    for (api_version, kind, expected) in cases {
        let key = Key::new(api_version, kind, "n", "p");
        assert_eq!(has_health(&key), expected, "{api_version} {kind}");
    }
}

#[test]
fn a_read_that_is_older_than_our_write_says_nothing() {
    let seen = seen(Vec::new());
    let generations = HashMap::from([(seen.key.clone(), 5)]);
    let restarts_before = &Restarts::new();
    let known = Known {
        generations: &generations,
        restarts_before,
        events: &[],
        spare_ends: 1,
        now: at(0),
    };
    let facts = gather_facts(&seen, &mut Memory::default(), known);
    assert_eq!((facts.generation, facts.observed_generation), (5, Some(4)));
    assert!(matches!(judge_workload(&facts), RolloutVerdict::Progressing(_)));
}

#[test]
fn the_address_of_an_ingress_is_that_of_its_load_balancer() {
    let balancer = |entry: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {},
        "spec": {"tls": [{"hosts": ["h"]}]}, "status": {"loadBalancer": {"ingress": [entry]}}})
    };
    let cases = [
        (balancer(json!({"hostname": "lb.example"})), Some("https://lb.example")),
        (balancer(json!({"ip": "10.0.0.1"})), Some("https://10.0.0.1")),
        (balancer(json!({"hostname": ""})), None),
        (json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {}}), None),
    ];
    for (live, address) in cases {
        assert_eq!(read_address(&typed(live)).as_deref(), address);
    }
}

#[test]
fn pods_that_keep_a_stateful_set_from_going_back_are_found() {
    let pod = |name: &str, revision: &str, ready: &str| -> Pod {
        typed(
            json!({"metadata": {"name": name, "ownerReferences": [{"uid": "u"}], "labels": {"controller-revision-hash": revision}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
        )
    };
    let live = |observed: i64| {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"uid": "u", "generation": 3},
            "status": {"observedGeneration": observed, "replicas": 3, "updateRevision": "good"}})
    };
    let mut seen = WorkloadSeen {
        key: Key::new("apps/v1", "StatefulSet", "n", "p"),
        live: Some(typed(live(3))),
        replica_sets: Vec::new(),
        pods: vec![
            pod("p-0", "good", "False"),
            pod("p-1", "bad", "True"),
            pod("p-2", "bad", "False"),
        ],
    };
    let name = |pod: &&Pod| pod.metadata.name.clone();
    assert_eq!(find_stuck_pods(&seen).iter().filter_map(name).collect::<Vec<_>>(), ["p-2"]);
    seen.live = Some(typed(live(2)));
    assert!(find_stuck_pods(&seen).is_empty(), "its controller does not know of it yet");
    (seen.live, seen.key.kind) = (Some(typed(live(3))), "Deployment".into());
    assert!(find_stuck_pods(&seen).is_empty());
}
