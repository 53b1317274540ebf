//! What was seen → verdict, whose a deployment is, and which causes are told.

use super::*;

const OURS: &str = "arn:aws:ecs:eu-west-1:111122223333:task-definition/patients:7";
const BEFORE: &str = "arn:…/patients:6";

fn look() -> ServiceLook {
    ServiceLook {
        primary: OURS.into(),
        rollout: Some(Rollout::Completed),
        primary_id: Some("ecs-svc/2".into()),
        desired: 2,
        running: 2,
        targets: healthy(2),
        ..ServiceLook::default()
    }
}

fn healthy(count: u32) -> Option<Targets> {
    Some(Targets { healthy: count, ..Targets::default() })
}

fn unhealthy_target(look: &mut ServiceLook) {
    look.targets = Some(Targets { unhealthy: Some("codes: [503]".into()), ..Targets::default() });
}

/// Nothing of the new version runs yet.
fn starting() -> ServiceLook {
    ServiceLook { running: 0, targets: healthy(0), rollout: Some(Rollout::InProgress), ..look() }
}

fn stopped(code: StopCode, reason: &str, exit_code: Option<i64>) -> StoppedTask {
    StoppedTask {
        task: "t".into(),
        code,
        reason: reason.into(),
        container: "patients".into(),
        exit_code,
        container_reason: None,
        log_tail: vec![],
    }
}

fn exited(exit_code: i64) -> StoppedTask {
    let reason = "Essential container in task exited";
    stopped(StopCode::EssentialContainerExited, reason, Some(exit_code))
}

fn pull(reason: &str) -> StoppedTask {
    let reason = format!("CannotPullContainerError: {reason}");
    stopped(StopCode::TaskFailedToStart, &reason, None)
}

fn unhealthy() -> StoppedTask {
    let reason = "Task failed ELB health checks in (target-group …)";
    stopped(StopCode::ServiceSchedulerInitiated, reason, Some(143))
}

fn short(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Healthy { .. } => "healthy",
        Verdict::Progressing(_) => "progressing",
        Verdict::Failed(_) => "failed",
    }
}

#[test]
fn looks_become_verdicts() {
    let from = |edit: fn(&mut ServiceLook)| {
        let mut look = look();
        edit(&mut look);
        look
    };
    let cases = [
        ("all of it runs", look(), "healthy"),
        ("no load balancer", from(|look| look.targets = None), "healthy"),
        ("ECS says nothing of the rollout", from(|look| look.rollout = None), "healthy"),
        (
            "ECS says nothing of the rollout, and the read is old",
            from(|look| {
                look.rollout = None;
                look.ownership = Ownership::Stale;
            }),
            "progressing",
        ),
        (
            "scaled to nothing",
            from(|look| {
                look.desired = 0;
                look.running = 0;
                look.targets = healthy(0);
            }),
            "healthy",
        ),
        ("still rolling", from(|look| look.rollout = Some(Rollout::InProgress)), "progressing"),
        (
            "a word of tomorrow",
            from(|look| look.rollout = Some(Rollout::Unknown("PAUSED".into()))),
            "progressing",
        ),
        ("said to be complete with nothing running", from(|look| look.running = 0), "progressing"),
        ("a target is not healthy yet", from(|look| look.targets = healthy(1)), "progressing"),
        (
            "ECS went back",
            from(|look| {
                look.primary = BEFORE.into();
                look.ownership = Ownership::RolledBackByEcs;
            }),
            "failed",
        ),
        (
            "a read older than our write",
            from(|look| {
                look.primary = BEFORE.into();
                look.ownership = Ownership::Stale;
            }),
            "progressing",
        ),
        ("the rollout failed", from(|look| look.rollout = Some(Rollout::Failed)), "failed"),
    ];
    for (name, look, expected) in cases {
        assert_eq!(short(&judge_look(&look, OURS)), expected, "{name}");
    }
}

/// Old tasks are healthy too until they drain, and count for nobody. What drains is waited for on the
/// way in, and not on the rollback.
#[test]
fn healthy_targets_of_old_tasks_are_not_the_new_ones() {
    struct Case {
        name: &'static str,
        /// Healthy and draining targets, and old tasks that run.
        seen: (u32, u32, u32),
        rollout: Rollout,
        forward: &'static str,
        back: &'static str,
    }
    let (done, going) = (Rollout::Completed, Rollout::InProgress);
    #[rustfmt::skip]
    let cases = [
        Case { name: "old ones only", seen: (2, 0, 2), rollout: going.clone(), forward: "progressing", back: "progressing" },
        Case { name: "old and new ones", seen: (4, 0, 2), rollout: going.clone(), forward: "progressing", back: "healthy" },
        Case { name: "old ones drain", seen: (2, 2, 2), rollout: going.clone(), forward: "progressing", back: "healthy" },
        Case { name: "one old one drains", seen: (3, 1, 2), rollout: going, forward: "progressing", back: "healthy" },
        Case { name: "said to be complete, by the old ones", seen: (2, 0, 2), rollout: done.clone(), forward: "progressing", back: "progressing" },
        Case { name: "complete", seen: (2, 0, 0), rollout: done, forward: "healthy", back: "healthy" },
    ];
    for Case { name, seen: (healthy, draining, others_running), rollout, forward, back } in cases {
        for (goes_back, expected) in [(false, forward), (true, back)] {
            let look = ServiceLook {
                targets: Some(Targets { healthy, draining, unhealthy: None }),
                others_running,
                rollout: Some(rollout.clone()),
                goes_back,
                ..look()
            };
            assert_eq!(short(&judge_look(&look, OURS)), expected, "{name}, back: {goes_back}");
        }
    }
    // Without a load balancer nothing else tells.
    let look = ServiceLook {
        targets: None,
        rollout: Some(Rollout::InProgress),
        goes_back: true,
        ..look()
    };
    assert_eq!(short(&judge_look(&look, OURS)), "progressing");
}

/// One exit of one container, and one event, is no verdict.
#[test]
fn a_verdict_takes_more_than_one_bad_luck() {
    let missing = "manifest unknown";
    let spot = || stopped(StopCode::SpotInterruption, "x", Some(143));
    let scaling = || stopped(StopCode::ServiceSchedulerInitiated, "scaling", Some(143));
    let person = || stopped(StopCode::UserInitiated, "x", Some(143));
    let unknown = || stopped(StopCode::EssentialContainerExited, "x", None);
    let denied = "ResourceInitializationError: AccessDenied";
    let denied = || stopped(StopCode::TaskFailedToStart, denied, None);
    struct Case {
        name: &'static str,
        /// Tasks of the new version that run, of those that are to.
        running: (u32, u32),
        stopped: Vec<StoppedTask>,
        verdict: &'static str,
    }
    let case = |name, running, stopped, verdict| Case { name, running, stopped, verdict };
    let cases = [
        case("one exit", (0, 2), vec![exited(3)], "progressing"),
        case("the same exit again", (0, 2), vec![exited(3), exited(3)], "failed"),
        case("another exit", (0, 2), vec![exited(3), exited(1)], "progressing"),
        case("three exits", (0, 2), vec![exited(3), exited(1), exited(2)], "failed"),
        case("two exits with 0", (0, 2), vec![exited(0), exited(0)], "failed"),
        case("two exits nobody knows the code of", (0, 2), vec![unknown(), unknown()], "failed"),
        case("two exits beside one that runs", (1, 2), vec![exited(3); 2], "progressing"),
        case("three exits beside one that runs", (1, 2), vec![exited(3); 3], "failed"),
        case("five exits of forty", (20, 40), vec![exited(3); 5], "progressing"),
        case("ten exits of forty", (20, 40), vec![exited(3); 10], "failed"),
        case("an exit before all of it ran", (2, 2), vec![exited(3)], "healthy"),
        case("stopped by the scheduler", (2, 2), vec![scaling(); 5], "healthy"),
        case("stopped by a person", (2, 2), vec![person(); 5], "healthy"),
        case("lost their machines", (1, 2), vec![spot(); 5], "progressing"),
        case("one was slow to get healthy", (0, 2), vec![unhealthy()], "progressing"),
        case("two never got healthy", (0, 2), vec![unhealthy(), unhealthy()], "failed"),
        case("one pull that may go through", (0, 2), vec![pull("timeout")], "progressing"),
        case("two pulls", (0, 2), vec![pull("timeout"), pull("reset")], "failed"),
        case("one pull of what is not there", (0, 2), vec![pull(missing)], "failed"),
        case("one role that may not", (0, 2), vec![denied()], "failed"),
        case("two bad lucks", (0, 2), vec![pull("timeout"), exited(3)], "progressing"),
    ];
    for Case { name, running: (running, desired), stopped, verdict } in cases {
        let targets = healthy(running);
        let look = ServiceLook { running, desired, targets, stopped, ..look() };
        assert_eq!(short(&judge_look(&look, OURS)), verdict, "{name}");
    }

    let place = "(service p) was unable to place a task because …";
    let launch = "(service p) failed to launch a task with (error Capacity)";
    let assume = "(service p) ECS was unable to assume the role 'r'";
    let cases: [(&[&str], Result<(), Code>); 7] = [
        (&[place], Ok(())),
        (&[place, launch], Ok(())),
        (&[place, place, place], Err(Code::Unschedulable)),
        (&[place, launch, place], Err(Code::Unschedulable)),
        (&[assume], Ok(())),
        (&[assume, assume], Err(Code::AccessDenied)),
        (&["(service p) has started 1 tasks"; 5], Ok(())),
    ];
    for (events, expected) in cases {
        let events: Vec<String> = events.iter().map(ToString::to_string).collect();
        let found = match judge_look(&ServiceLook { events, ..starting() }, OURS) {
            Verdict::Failed(causes) => Err(causes[0].code.expect("a code")),
            _ => Ok(()),
        };
        assert_eq!(found, expected);
    }
}

/// When the time is over, these are the words that a person has.
#[test]
fn what_is_waited_for_says_what_is_in_the_way() {
    let waits = |edit: fn(&mut ServiceLook)| {
        let mut look = starting();
        edit(&mut look);
        match judge_look(&look, OURS) {
            Verdict::Progressing(words) => words,
            other => panic!("{other:?}"),
        }
    };
    let cases: [(fn(&mut ServiceLook), &[&str]); 4] = [
        (|look| unhealthy_target(look), &["0 of 2 tasks run", "[503]"]),
        (
            |look| look.waiting = vec![TaskState::Provisioning; 2],
            &["2 PROVISIONING", "room in the cluster"],
        ),
        (|look| look.stopped = vec![exited(3)], &["a task ended: Essential container"]),
        (
            |look| look.events = vec!["(service p) was unable to place a task.".into()],
            &["ECS said: (service p) was unable to place a task."],
        ),
    ];
    for (edit, parts) in cases {
        let words = waits(edit);
        assert!(parts.iter().all(|part| words.contains(part)), "{words}");
    }
}

#[test]
fn a_way_of_failing_is_said_once_with_its_code_and_fix() {
    let oom = StoppedTask {
        container_reason: Some("OutOfMemoryError: Container killed due to memory usage".into()),
        log_tail: vec!["last words".into()],
        ..exited(137)
    };
    let Verdict::Failed(causes) =
        judge_look(&ServiceLook { stopped: vec![oom.clone(), oom], ..starting() }, OURS)
    else {
        panic!("it failed");
    };
    assert_eq!(causes.len(), 1);
    assert_eq!((causes[0].object.as_str(), causes[0].exit_code), ("Task/t/patients", Some(137)));
    assert_eq!(causes[0].code, Some(Code::OutOfMemory));
    assert_eq!(causes[0].log_tail, ["last words"]);
    assert!(causes[0].fix.as_deref().is_some_and(|fix| fix.contains("resources.memory")));

    // ECS gave it up before we did: what its tasks ended with is the cause.
    let given_up = |stopped| {
        let look = ServiceLook { rollout: Some(Rollout::Failed), stopped, ..starting() };
        match judge_look(&look, OURS) {
            Verdict::Failed(causes) => causes[0].code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(given_up(vec![exited(3)]), Some(Code::ContainerExited));
    assert_eq!(given_up(vec![]), Some(Code::RolloutFailed));
}

#[test]
fn the_primary_deployment_is_told_by_its_id() {
    struct Case {
        name: &'static str,
        /// What our write was answered with.
        deployment: Option<&'static str>,
        /// What this run registered.
        registered: Option<&'static str>,
        primary: &'static str,
        id: Option<&'static str>,
        owner: Ownership,
    }
    let eight = "arn:…/patients:8";
    let ours = Some("ecs-svc/2");
    let earlier = ["ecs-svc/1".to_string()];
    #[rustfmt::skip]
    let cases = [
        Case { name: "ours", deployment: ours, registered: None, primary: OURS, id: ours, owner: Ownership::Ours },
        Case { name: "an old read", deployment: ours, registered: None, primary: BEFORE, id: Some("ecs-svc/1"), owner: Ownership::Stale },
        Case { name: "an old read of the same", deployment: ours, registered: None, primary: OURS, id: Some("ecs-svc/1"), owner: Ownership::Stale },
        Case { name: "the breaker", deployment: ours, registered: None, primary: BEFORE, id: Some("ecs-svc/3"), owner: Ownership::RolledBackByEcs },
        Case { name: "a later deploy", deployment: ours, registered: None, primary: eight, id: Some("ecs-svc/3"), owner: Ownership::Others },
        Case { name: "a later deploy of the same", deployment: ours, registered: None, primary: OURS, id: Some("ecs-svc/3"), owner: Ownership::Others },
        Case { name: "kept", deployment: None, registered: None, primary: BEFORE, id: Some("ecs-svc/1"), owner: Ownership::Ours },
        Case { name: "kept, and replaced", deployment: None, registered: None, primary: eight, id: Some("ecs-svc/3"), owner: Ownership::Others },
        Case { name: "never answered", deployment: None, registered: Some(OURS), primary: OURS, id: Some("ecs-svc/2"), owner: Ownership::Ours },
        Case { name: "never answered, and replaced", deployment: None, registered: Some(OURS), primary: eight, id: Some("ecs-svc/3"), owner: Ownership::Others },
        Case { name: "no id", deployment: ours, registered: None, primary: OURS, id: None, owner: Ownership::Ours },
    ];
    for Case { name, deployment, registered, primary, id, owner } in cases {
        let look =
            ServiceLook { primary: primary.into(), primary_id: id.map(str::to_string), ..look() };
        let identity = Identity {
            deployment,
            definition_arn: registered,
            earlier: &earlier,
            fallback: Some(BEFORE),
        };
        assert_eq!(owner_of_primary(&look, &identity), owner, "{name}");
    }
}

#[test]
fn a_task_belongs_to_the_deployment_that_started_it() {
    let cases = [
        ("ecs-svc/2", Some("ecs-svc/2"), true),
        ("ecs-svc/1", Some("ecs-svc/2"), false),
        ("ecs-svc/1", None, true),
        // Not every one says.
        ("patients", Some("ecs-svc/2"), true),
        ("", Some("ecs-svc/2"), true),
    ];
    for (started_by, deployment, expected) in cases {
        assert_eq!(is_of_deployment(started_by, deployment), expected, "{started_by}");
    }
}

#[test]
fn one_look_does_not_say_that_ecs_went_back() {
    use Ownership::{Ours, RolledBackByEcs, Stale};
    for (before, now, believed) in [
        (Ours, RolledBackByEcs, Stale),
        (Stale, RolledBackByEcs, Stale),
        (RolledBackByEcs, RolledBackByEcs, RolledBackByEcs),
        (RolledBackByEcs, Ours, Ours),
    ] {
        assert_eq!(confirm_owner(before, now), believed, "{before:?}, {now:?}");
    }
}

#[test]
fn only_what_stays_healthy_is_healthy() {
    let healthy = || Verdict::Healthy { revision: "7".into() };
    let comes_up = || Verdict::Progressing("1 of 2 tasks run".into());
    let seconds = Duration::from_secs;
    struct Look {
        at: u64,
        verdict: Verdict,
        ended: usize,
        expected: &'static str,
    }
    let look = |at, verdict, ended, expected| Look { at, verdict, ended, expected };
    let looks = [
        look(0, comes_up(), 0, "progressing"),
        look(2, healthy(), 0, "progressing"),
        look(6, healthy(), 0, "progressing"),
        look(7, comes_up(), 0, "progressing"),
        look(8, healthy(), 0, "progressing"),
        look(12, healthy(), 1, "progressing"),
        look(16, healthy(), 1, "progressing"),
        look(17, healthy(), 1, "healthy"),
        look(18, healthy(), 1, "healthy"),
        look(19, Verdict::Failed(vec![]), 3, "failed"),
    ];
    let mut stability = Stability::default();
    for Look { at, verdict, ended, expected } in looks {
        let held = stability.hold(verdict, ended, seconds(at), seconds(5));
        assert_eq!(short(&held), expected, "at {at} s");
    }
    let held = Stability::default().hold(healthy(), 3, seconds(0), seconds(0));
    assert_eq!(short(&held), "healthy", "what is not changed is not waited for");
}

#[test]
fn a_service_is_healthy_when_its_processes_are() {
    let healthy = |revision: &str| Verdict::Healthy { revision: revision.into() };
    let waits = |words: &str| Verdict::Progressing(words.into());
    let failed =
        |reason: &str| Verdict::Failed(vec![Cause { reason: reason.into(), ..Cause::default() }]);
    let cases = [
        (vec![healthy("7"), healthy("3")], healthy("7")),
        (vec![healthy("7"), waits("a"), waits("b")], waits("a")),
        (vec![waits("a"), failed("x")], failed("x")),
        (vec![healthy("7")], healthy("7")),
    ];
    for (verdicts, expected) in cases {
        assert_eq!(join_verdicts(verdicts), expected);
    }
}
