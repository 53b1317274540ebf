//! The verdict's cases, as tables.

use super::*;
use crate::error::Code;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).expect("a time")
}

/// A rollout of generation 2 at second 0: two copies wanted, one new pod up and not ready, the old
/// ones still there.
fn rolling() -> WorkloadFacts {
    WorkloadFacts {
        now: at(0),
        object: "Deployment/patients".into(),
        generation: 2,
        observed_generation: Some(2),
        status: Status::Deployment(Deployment {
            wanted: 2,
            total: 3,
            updated: 1,
            available: 2,
            revision: "7".into(),
            applied_at: Some(at(-5)),
            ..Deployment::default()
        }),
        spare_ends: 1,
        create_failure: None,
        pods: vec![pod("a", running())],
    }
}

fn complete() -> WorkloadFacts {
    with_deployment(|deployment| {
        (deployment.total, deployment.updated, deployment.available) = (2, 2, 2);
    })
}

fn pod(name: &str, container: Container) -> Pod {
    Pod { name: format!("patients-new-{name}"), containers: vec![container], ..Pod::default() }
}

fn running() -> Container {
    Container {
        name: "patients".into(),
        init: false,
        state: State::Running,
        last: None,
        restarts: 0,
        restarts_before: 0,
        ready: false,
        is_fresh: false,
        is_overdue: false,
        waiting_since: None,
        image_not_found: false,
        memory_limit: "512Mi".into(),
    }
}

fn waiting(reason: &str, message: &str, since: i64) -> Container {
    Container {
        state: State::Waiting { reason: reason.into(), message: message.into() },
        waiting_since: Some(at(since)),
        ..running()
    }
}

fn exited(code: i64, reason: &str) -> Exit {
    Exit { code, reason: reason.into() }
}

fn restarted(code: i64, reason: &str) -> Container {
    Container { last: Some(exited(code, reason)), restarts: 2, ..running() }
}

fn with_pods(pods: Vec<Pod>) -> WorkloadFacts {
    WorkloadFacts { pods, ..rolling() }
}

fn with_container(container: Container) -> WorkloadFacts {
    with_pods(vec![pod("a", container)])
}

fn with_deployment(change: impl Fn(&mut Deployment)) -> WorkloadFacts {
    let mut facts = rolling();
    if let Status::Deployment(deployment) = &mut facts.status {
        change(deployment);
    }
    facts
}

/// A verdict in one line: its kind, and for failures each object, reason, exit code and where the
/// log is.
fn line(facts: &WorkloadFacts) -> String {
    match judge_workload(facts) {
        RolloutVerdict::Progressing(what) => format!("progressing: {what}"),
        RolloutVerdict::Healthy { revision } => format!("ready: {revision}"),
        RolloutVerdict::Failed(troubles) => {
            let each = troubles.iter().map(|trouble| {
                assert!(!trouble.fix.is_empty(), "no fix: {trouble:?}");
                let log = trouble
                    .log
                    .as_ref()
                    .map(|log| if log.previous { " [previous log]" } else { " [log]" });
                format!("{}: {}{}", trouble.object, trouble.reason, log.unwrap_or_default())
            });
            format!("failed: {}", each.collect::<Vec<_>>().join(" | "))
        }
    }
}

const GONE: &str = "failed to resolve reference \"x@sha256:ab\": x@sha256:ab: not found";
const DENIED: &str =
    "pull access denied, repository does not exist or may require authorization: not found";

#[test]
fn how_far_a_rollout_is() {
    let ready =
        |name: &str| Pod { ready: true, ..pod(name, Container { ready: true, ..running() }) };
    let cases: Vec<(&str, WorkloadFacts, &str)> = vec![
        ("complete", complete(), "ready: 7"),
        ("under way", rolling(), "progressing: 0 of 2 new copies ready"),
        (
            "one of two",
            with_pods(vec![ready("a"), pod("b", running())]),
            "progressing: 1 of 2 new copies ready",
        ),
        (
            "complete, of the generation before",
            WorkloadFacts { generation: 3, ..complete() },
            "progressing: waiting for its controller",
        ),
        (
            "crashing, but of the generation before",
            WorkloadFacts { generation: 3, ..with_container(restarted(1, "Error")) },
            "progressing: waiting for its controller",
        ),
        (
            "new ones serve, old ones not gone",
            WorkloadFacts {
                pods: vec![ready("a"), ready("b")],
                ..with_deployment(|d| (d.total, d.updated, d.available) = (3, 2, 3))
            },
            "progressing: 1 old copies to go",
        ),
        (
            "old pods are available, new ones are not",
            with_deployment(|d| (d.total, d.updated, d.available) = (2, 2, 1)),
            "progressing: 0 of 2 new copies ready",
        ),
        (
            "no replicas wanted",
            with_deployment(|d| (d.wanted, d.total, d.updated, d.available) = (0, 0, 0, 0)),
            "ready: 7",
        ),
        (
            "to zero, old ones not gone",
            with_deployment(|d| (d.wanted, d.total, d.updated, d.available) = (0, 1, 0, 0)),
            "progressing: 1 old copies to go",
        ),
        (
            "deleted meanwhile",
            WorkloadFacts { status: Status::Gone, observed_generation: None, ..rolling() },
            "failed: Deployment/patients: it was deleted",
        ),
        (
            "paused",
            with_deployment(|d| d.paused = true),
            "failed: Deployment/patients: it is paused",
        ),
        (
            "paused when all is done",
            with_deployment(|d| {
                (d.total, d.updated, d.available) = (2, 2, 2);
                d.paused = true;
            }),
            "ready: 7",
        ),
        (
            "an earlier life's restarts, now complete",
            WorkloadFacts { pods: vec![pod("a", restarted(1, "Error"))], ..complete() },
            "ready: 7",
        ),
    ];
    for (name, facts, expected) in cases {
        let line = line(&facts);
        assert!(line.starts_with(expected), "{name}: {line}");
    }
}

#[test]
fn containers_that_crash() {
    let crash_loop = |code, reason: &str| Container {
        last: Some(exited(code, reason)),
        restarts: 2,
        ..waiting("CrashLoopBackOff", "back-off 10s restarting failed container", 0)
    };
    let init = |container: Container| Container { init: true, name: "migrate".into(), ..container };
    let probe = |words: &str| {
        // Its first end: the probe has waited long enough.
        let mut facts = with_container(Container { restarts: 1, ..restarted(137, "Error") });
        facts.pods[0].warnings = vec![words.to_string()];
        facts
    };
    let cases: Vec<(&str, WorkloadFacts, &str)> = vec![
        (
            "ended once, not yet restarted",
            with_container(Container { state: State::Terminated(exited(3, "Error")), ..running() }),
            "progressing: 0 of 2",
        ),
        (
            "restarted once after an error",
            with_container(Container { restarts: 1, ..restarted(3, "Error") }),
            "progressing: 0 of 2",
        ),
        (
            "restarted twice after an error",
            with_container(restarted(3, "Error")),
            "failed: Pod/patients-new-a/patients: the container crashed [previous log]",
        ),
        (
            "ended again after a restart",
            with_container(Container {
                state: State::Terminated(exited(3, "Error")),
                restarts: 1,
                ..running()
            }),
            "failed: Pod/patients-new-a/patients: the container crashed [log]",
        ),
        (
            "in a crash loop",
            with_container(crash_loop(3, "Error")),
            "failed: Pod/patients-new-a/patients: the container crashed [previous log]",
        ),
        (
            "in a crash loop, and may end once more",
            WorkloadFacts {
                spare_ends: 2,
                ..with_container(Container { restarts: 1, ..crash_loop(3, "Error") })
            },
            "progressing: 0 of 2",
        ),
        (
            "in a crash loop, and may end no more",
            WorkloadFacts { spare_ends: 2, ..with_container(crash_loop(3, "Error")) },
            "failed: Pod/patients-new-a/patients: the container crashed [previous log]",
        ),
        (
            "in a crash loop from before this deploy",
            with_container(Container { restarts_before: 2, ..crash_loop(3, "Error") }),
            "failed: Pod/patients-new-a/patients: the container crashed [previous log]",
        ),
        (
            "a service that ends well ends",
            with_container(crash_loop(0, "Completed")),
            "failed: Pod/patients-new-a/patients: the container crashed [previous log]",
        ),
        (
            "out of memory",
            with_container(restarted(137, "OOMKilled")),
            "failed: Pod/patients-new-a/patients: the container crashed, OOMKilled",
        ),
        (
            "a segmentation fault",
            with_container(restarted(139, "Error")),
            "failed: Pod/patients-new-a/patients: the container crashed, SIGSEGV",
        ),
        (
            "a command that is not there",
            with_container(crash_loop(128, "StartError")),
            "failed: Pod/patients-new-a/patients: the container crashed, StartError",
        ),
        (
            "killed by its startup probe",
            probe("Unhealthy: Startup probe failed: HTTP probe failed with statuscode: 404"),
            "failed: Pod/patients-new-a/patients: the container crashed, killed by its probe: Unhealthy: Startup probe failed",
        ),
        (
            "given its time by its startup probe, and on its way out for as long as it drains",
            {
                let mut facts = probe("Unhealthy: Startup probe failed: connection refused");
                facts.pods[0].containers[0] = Container { is_overdue: true, ..running() };
                facts
            },
            "failed: Pod/patients-new-a/patients: it did not pass its startup probe in its time: Unhealthy: Startup probe failed: connection refused [log]",
        ),
        (
            "an error of its own, though a probe was refused meanwhile",
            {
                let mut facts = probe("Unhealthy: Startup probe failed: connection refused");
                facts.pods[0].containers[0] = restarted(3, "Error");
                facts
            },
            "failed: Pod/patients-new-a/patients: the container crashed [previous log]",
        ),
        (
            "a first error of its own, though a probe was refused meanwhile",
            {
                let mut facts = probe("Unhealthy: Startup probe failed: connection refused");
                facts.pods[0].containers[0].last = Some(exited(3, "Error"));
                facts
            },
            "progressing: 0 of 2",
        ),
        (
            "an init container",
            with_container(init(crash_loop(1, "Error"))),
            "failed: Pod/patients-new-a/migrate: the init container crashed",
        ),
        (
            "an init container that is done",
            with_container(init(Container {
                state: State::Terminated(exited(0, "Completed")),
                restarts: 1,
                ..running()
            })),
            "progressing: 0 of 2",
        ),
        (
            "restarts from before this deploy",
            with_container(Container { restarts: 4, restarts_before: 4, ..restarted(1, "Error") }),
            "progressing: 0 of 2",
        ),
        (
            "one more than before this deploy",
            with_container(Container { restarts: 5, restarts_before: 4, ..restarted(1, "Error") }),
            "progressing: 0 of 2",
        ),
        (
            "two more than before this deploy",
            with_container(Container { restarts: 6, restarts_before: 4, ..restarted(1, "Error") }),
            "failed: Pod/patients-new-a/patients: the container crashed",
        ),
        (
            "restarted once and ready now",
            with_container(Container { ready: true, ..restarted(1, "Error") }),
            "progressing: 0 of 2",
        ),
        (
            "on its way out",
            with_pods(vec![Pod { terminating: true, ..pod("a", restarted(1, "Error")) }]),
            "progressing: 0 of 2",
        ),
        (
            "every replica in the same way is one cause",
            with_pods(vec![pod("a", restarted(3, "Error")), pod("b", restarted(3, "Error"))]),
            "failed: Pod/patients-new-a/patients: the container crashed [previous log]",
        ),
    ];
    for (name, facts, expected) in cases {
        let line = line(&facts);
        assert!(line.starts_with(expected), "{name}: {line}");
        assert!(!line.contains(" | "), "{name}: {line}");
    }
    let two =
        with_pods(vec![pod("a", restarted(3, "Error")), pod("b", restarted(137, "OOMKilled"))]);
    assert_eq!(line(&two).matches("crashed").count(), 2);
}

#[test]
fn images_and_configuration_have_their_patience() {
    let latched = Container {
        image_not_found: true,
        ..waiting("ImagePullBackOff", "Back-off pulling image", 0)
    };
    let cases: Vec<(&str, WorkloadFacts, &str)> = vec![
        (
            "an image that is not there",
            with_container(waiting("ErrImagePull", GONE, 0)),
            "failed: Pod/patients-new-a/patients: ErrImagePull",
        ),
        (
            "the same, seen late",
            with_container(waiting(
                "ImagePullBackOff",
                &format!("Back-off: ErrImagePull: {GONE}"),
                0,
            )),
            "failed: ",
        ),
        ("the same, remembered", with_container(latched), "failed: "),
        (
            "a registry that stutters",
            with_container(waiting("ErrImagePull", "i/o timeout", 0)),
            "progressing: 0 of 2 new copies ready; patients-new-a waits for its image: i/o timeout",
        ),
        (
            "the same after 59 s",
            with_container(waiting("ImagePullBackOff", "i/o timeout", -59)),
            "progressing: ",
        ),
        (
            "the same after 60 s",
            with_container(waiting("ImagePullBackOff", "i/o timeout", -60)),
            "failed: ",
        ),
        (
            "a pull that is denied",
            with_container(waiting("ErrImagePull", DENIED, 0)),
            "progressing: ",
        ),
        ("the same after 60 s", with_container(waiting("ErrImagePull", DENIED, -60)), "failed: "),
        (
            "a name that is none",
            with_container(waiting("InvalidImageName", "couldn't parse", 0)),
            "failed: ",
        ),
        (
            "never to be pulled",
            with_container(waiting("ErrImageNeverPull", "", 0)),
            "failed: Pod/patients-new-a/patients: ErrImageNeverPull",
        ),
        (
            "a Secret that is late",
            with_container(waiting("CreateContainerConfigError", "secret \"db\" not found", -20)),
            "progressing: ",
        ),
        (
            "a Secret that never comes",
            with_container(waiting("CreateContainerConfigError", "secret \"db\" not found", -61)),
            "failed: ",
        ),
        (
            "the kubelet's cache",
            with_container(waiting(
                "CreateContainerConfigError",
                "failed to sync secret cache: timed out",
                -61,
            )),
            "progressing: ",
        ),
        (
            "a command that cannot run",
            with_container(waiting("RunContainerError", "exec: \"x\": not found", 0)),
            "failed: ",
        ),
        (
            "being made",
            with_container(waiting("ContainerCreating", "", -500)),
            "progressing: 0 of 2 new copies ready",
        ),
    ];
    for (name, facts, expected) in cases {
        let line = line(&facts);
        assert!(line.starts_with(expected), "{name}: {line}");
    }
}

#[test]
fn pods_that_have_no_place_are_waited_for_and_named() {
    let nowhere = Pod {
        unschedulable: Some("0/3 nodes are available: 3 Insufficient cpu".into()),
        ..Pod { name: "p".into(), ..Pod::default() }
    };
    let gated = Pod {
        name: "p".into(),
        closed_gates: vec!["target-health.elbv2.k8s.aws/x".into()],
        containers: vec![Container { ready: true, ..running() }],
        ..Pod::default()
    };
    let mounting = Pod {
        name: "p".into(),
        warnings: vec!["FailedMount: no volume".into()],
        containers: vec![waiting("ContainerCreating", "", 0)],
        ..Pod::default()
    };
    let set = |message: &str, since| WorkloadFacts {
        pods: Vec::new(),
        create_failure: Some(CreateFailure {
            object: "ReplicaSet/patients-new".into(),
            message: message.into(),
            since: at(since),
        }),
        ..rolling()
    };
    let quota = "pods \"p\" is forbidden: exceeded quota: q";
    let rules = "pods \"p\" is forbidden: violates PodSecurity";
    let cases: Vec<(&str, WorkloadFacts, &str)> = vec![
        (
            "no node",
            with_pods(vec![nowhere]),
            "progressing: 0 of 2 new copies ready; p has no node: 0/3 nodes are available: 3 Insufficient cpu",
        ),
        (
            "a readiness gate",
            with_pods(vec![gated]),
            "progressing: 0 of 2 new copies ready; p waits for its readiness gate target-health.elbv2.k8s.aws/x",
        ),
        (
            "a volume",
            with_pods(vec![mounting]),
            "progressing: 0 of 2 new copies ready; p: FailedMount: no volume",
        ),
        (
            "a full quota",
            set(quota, -30),
            "progressing: 0 of 2 new copies ready; pods \"p\" is forbidden: exceeded quota",
        ),
        (
            "a quota that stays full",
            set(quota, -60),
            "failed: ReplicaSet/patients-new: FailedCreate: pods \"p\" is forbidden: exceeded quota",
        ),
        ("rules that may be late", set(rules, -5), "progressing: "),
        ("rules", set(rules, -10), "failed: ReplicaSet/patients-new: FailedCreate"),
    ];
    for (name, facts, expected) in cases {
        let line = line(&facts);
        assert!(line.starts_with(expected), "{name}: {line}");
    }
}

#[test]
fn what_a_pod_without_a_node_needs_is_told() {
    let fix = |message: &str| {
        let pod = Pod { unschedulable: Some(message.into()), ..Pod::default() };
        let pending = find_pending(&with_pods(vec![pod]));
        pending.iter().map(|trouble| trouble.fix.clone()).collect::<Vec<_>>().join("; ")
    };
    let room = fix("0/3 nodes are available: 3 Insufficient cpu");
    let label = fix("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector");
    assert!(room.contains("`resources`") && !room.contains("`image.platforms`"), "{room}");
    assert!(label.contains("`image.platforms`"), "{label}");
}

#[test]
fn a_deadline_counts_when_it_is_about_this_change() {
    let exceeded = |updated: Option<i64>, applied: Option<i64>| {
        with_deployment(|deployment| {
            deployment.applied_at = applied.map(at);
            deployment.conditions = vec![Condition {
                kind: "Progressing".into(),
                status: Truth::False,
                reason: "ProgressDeadlineExceeded".into(),
                message: "ReplicaSet \"patients-new\" has timed out progressing.".into(),
                updated_at: updated.map(at),
            }];
        })
    };
    let cases = [
        (
            "of this change",
            exceeded(Some(600), Some(0)),
            "failed: Deployment/patients: ProgressDeadlineExceeded: ReplicaSet \"patients-new\" has timed out progressing. [log]",
        ),
        ("left from the change before", exceeded(Some(-100), Some(0)), "progressing: "),
        ("of an unknown time", exceeded(None, Some(0)), "failed: "),
        ("of a change that was not ours", exceeded(Some(0), None), "failed: "),
    ];
    for (name, facts, expected) in cases {
        let line = line(&facts);
        assert!(line.starts_with(expected), "{name}: {line}");
    }
}

#[test]
fn each_trouble_has_its_stable_code_and_a_fix_that_names_what_to_change() {
    let config = |message: &str| waiting("CreateContainerConfigError", message, -60);
    let creation = |message: &str| WorkloadFacts {
        create_failure: Some(CreateFailure {
            object: "ReplicaSet/patients-new".into(),
            message: message.into(),
            since: at(-60),
        }),
        ..with_pods(Vec::new())
    };
    let late = |pod: Pod| {
        let mut facts = with_deployment(|deployment| {
            deployment.conditions = vec![Condition {
                kind: "Progressing".into(),
                status: Truth::False,
                reason: "ProgressDeadlineExceeded".into(),
                ..Condition::default()
            }];
        });
        facts.pods = vec![pod];
        facts
    };
    let unschedulable =
        Pod { unschedulable: Some("0/3 nodes are available".into()), ..Pod::default() };
    let killed = {
        let mut facts = with_container(restarted(137, "Error"));
        facts.pods[0].warnings = vec!["Unhealthy: Startup probe failed: 404".into()];
        facts
    };
    let other = |status| WorkloadFacts { observed_generation: None, status, ..with_pods(vec![]) };
    let job = |reason: &str| Status::Job {
        conditions: vec![Condition {
            kind: "Failed".into(),
            status: Truth::True,
            reason: reason.into(),
            ..Condition::default()
        }],
        suspended: false,
    };
    let of = with_container;
    let cases = [
        (of(restarted(137, "OOMKilled")), Some(Code::OutOfMemory), "(it is 512Mi)"),
        (of(restarted(3, "Error")), Some(Code::ContainerExited), "last log lines"),
        (of(restarted(127, "Error")), Some(Code::ContainerExited), "CMD"),
        (killed, Some(Code::ProbeFailed), "`health.path`"),
        (of(waiting("ErrImagePull", GONE, 0)), Some(Code::ImageNotFound), "cicd push-ecr"),
        (of(waiting("InvalidImageName", "", 0)), Some(Code::ImageNotFound), "platform.yaml"),
        (
            of(waiting("ErrImagePull", DENIED, -60)),
            Some(Code::ImagePullRefused),
            "AmazonEC2ContainerRegistryPullOnly",
        ),
        (
            of(waiting("ErrImagePull", "i/o timeout", -60)),
            Some(Code::ImagePullRefused),
            "VPC endpoints",
        ),
        (of(config("secret \"db\" not found")), Some(Code::SecretUnavailable), "create the Secret"),
        (
            of(config("couldn't find key url in Secret")),
            Some(Code::SecretUnavailable),
            "k8s:SECRET/KEY",
        ),
        (
            of(config("configmap \"extra\" not found")),
            Some(Code::SecretUnavailable),
            "add the ConfigMap",
        ),
        (
            of(config("container has runAsNonRoot and image will run as root")),
            Some(Code::ContainerExited),
            "USER 10001",
        ),
        (creation("exceeded quota: q"), Some(Code::QuotaExceeded), "ResourceQuota"),
        (creation("violates PodSecurity"), Some(Code::AccessDenied), "its rules"),
        (late(unschedulable), Some(Code::Unschedulable), "its pods"),
        (late(pod("a", running())), Some(Code::ProbeFailed), "its pods"),
        (late(pod("a", waiting("x", "", 0))), Some(Code::DeadlineExceeded), "its pods"),
        (with_deployment(|d| d.paused = true), None, "kubectl rollout resume"),
        (other(Status::Gone), None, "who deletes it"),
        (other(job("BackoffLimitExceeded")), Some(Code::ContainerExited), "its last pod"),
        (other(job("DeadlineExceeded")), Some(Code::DeadlineExceeded), "its last pod"),
    ];
    for (facts, code, fix) in cases {
        let RolloutVerdict::Failed(troubles) = judge_workload(&facts) else { panic!("{facts:?}") };
        assert_eq!(troubles[0].kind.code(), code, "{}", line(&facts));
        assert!(troubles[0].fix.contains(fix), "{}: {}", line(&facts), troubles[0].fix);
    }
}

#[test]
fn workloads_are_judged_together() {
    let other = |object: &str, status: Status| WorkloadFacts {
        object: object.into(),
        status,
        observed_generation: None,
        pods: Vec::new(),
        ..rolling()
    };
    let claim = |phase| Status::Claim { phase, provisioning: true };
    let waits = || other("PersistentVolumeClaim/data", claim(ClaimPhase::Pending));
    let bound = || other("PersistentVolumeClaim/data", claim(ClaimPhase::Bound));
    let lost = || other("PersistentVolumeClaim/data", claim(ClaimPhase::Lost));
    let cases = [
        (complete(), vec![], "healthy 7"),
        (complete(), vec![bound()], "healthy 7"),
        (complete(), vec![waits()], "PersistentVolumeClaim/data: its volume is being made"),
        (rolling(), vec![bound()], "0 of 2 new copies ready"),
        (rolling(), vec![waits()], "0 of 2 new copies ready; PersistentVolumeClaim/data: its"),
        (rolling(), vec![waits(), lost()], "failed PersistentVolumeClaim/data"),
        (complete(), vec![lost()], "failed PersistentVolumeClaim/data"),
    ];
    for (own, others, expected) in cases {
        let said = match judge_workloads(&[own], &others) {
            RolloutVerdict::Healthy { revision } => format!("healthy {revision}"),
            RolloutVerdict::Progressing(what) => what,
            RolloutVerdict::Failed(troubles) => format!("failed {}", troubles[0].object),
        };
        assert!(said.starts_with(expected), "{said}, expected {expected}");
    }
}
