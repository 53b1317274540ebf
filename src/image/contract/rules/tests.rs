//! Each rule, kept and broken, from facts to what is said.

use super::super::facts::{Image, Look, Stored};
use super::super::layers::{Found, Layer};
use super::*;
use crate::docker::processes::{Inside, Processes};
use crate::docker::{Answer, Clues, Stopped};

const SERVER: &str = "python3 /server.py";

/// A container that does all that it should, in the mode `mode`.
fn good(mode: &str) -> Run {
    let server = Process { pid: 50, parent: 40, uid: 10001, command: SERVER.into() };
    let page = Page { status: 200, body: format!("{{\"mode\": \"{mode}\"}}") };
    Run {
        outcome: Outcome::Answers,
        log: vec!["listening".into()],
        look: Some(Look {
            processes: Some(Processes { first: 50, all: vec![server] }),
            inside: Inside {
                environment: Some([("APP_MODE".to_string(), mode.to_string())].into()),
                uid: Some(10001),
                listening: Some(vec!["0.0.0.0:8000".parse().expect("a socket")]),
            },
            clues: Clues::default(),
            pages: [("/".to_string(), Some(page))].into(),
        }),
        stopped: Some(Stopped { after: Duration::from_millis(80), killed: false }),
        changes: Some(vec![]),
    }
}

fn facts() -> ContractFacts {
    let image = Image {
        user: "10001".into(),
        command: vec!["python3".into(), "/server.py".into()],
        layers: vec![Stored { size: 3 << 20, created_by: "COPY . .".into(), ..Stored::default() }],
        ..Image::default()
    };
    ContractFacts {
        production: good("production"),
        debug: good("debug"),
        without: None,
        images: vec![image],
    }
}

fn judged(
    facts: &ContractFacts,
    secrets: &[&'static str],
    without_value: &[&'static str],
    levels: &Levels,
) -> Verdict {
    let measures = Measures {
        expected: Expected { port: 8000, path: "/healthz", memory: 512 },
        startup: Duration::from_secs(6),
        stop: Duration::from_secs(2),
        size: 8,
        mode: ("APP_MODE", "production", "debug"),
        secrets: secrets.to_vec(),
        without_value: without_value.to_vec(),
        levels,
    };
    judge(facts, &measures)
}

fn ended(exit_code: i64, log: &str) -> Run {
    Run {
        outcome: Outcome::Ended { exit_code, out_of_memory: false, error: None },
        log: vec![log.into()],
        look: None,
        stopped: None,
        changes: Some(vec![]),
    }
}

/// Changes the look of both containers.
fn both(facts: &mut ContractFacts, change: impl Fn(&mut Look)) {
    for run in [&mut facts.production, &mut facts.debug] {
        change(run.look.as_mut().expect("it runs"));
    }
}

fn before(facts: &mut ContractFacts, command: &str) {
    both(facts, |look| {
        let processes = look.processes.as_mut().expect("processes");
        processes.all[0].parent = 49;
        processes.first = 49;
        processes.all.push(Process { pid: 49, parent: 40, uid: 10001, command: command.into() });
    });
}

fn kill(facts: &mut ContractFacts) {
    for run in [&mut facts.production, &mut facts.debug] {
        run.stopped = Some(Stopped { after: Duration::from_secs(2), killed: true });
    }
}

fn judge_answer(facts: &mut ContractFacts, answer: &Answer, listening: Option<&str>) {
    for run in [&mut facts.production, &mut facts.debug] {
        run.outcome = Outcome::Silent { answer: answer.clone() };
    }
    both(facts, |look| {
        look.inside.listening = listening.map(|one| vec![one.parse().expect("a socket")])
    });
}

#[test]
fn an_image_that_does_all_it_should_keeps_every_rule() {
    let verdict = judged(&facts(), &[], &[], &Levels::default());
    assert_eq!(verdict, Verdict { kept: Rule::ALL.to_vec(), ..Verdict::default() });
}

/// Each case breaks one rule and no other.
#[test]
fn each_rule_is_broken_by_what_is_seen() {
    let refused = Answer::Silence("connection refused".into());
    type Change<'a> = Box<dyn Fn(&mut ContractFacts) + 'a>;
    // what changes → the rule, in which containers, the evidence, the fix
    let cases: Vec<(Change<'_>, Rule, &[&str], &str, &str)> = vec![
        (
            Box::new(|facts| facts.debug = ended(3, "boom")),
            Rule::Starts,
            &[DEBUG],
            "ended while",
            "last log lines",
        ),
        (
            Box::new(|facts| judge_answer(facts, &refused, Some("127.0.0.1:8000"))),
            Rule::Listens,
            &[PRODUCTION, DEBUG],
            "127.0.0.1:8000 only",
            "0.0.0.0:8000",
        ),
        (
            Box::new(|facts| judge_answer(facts, &refused, Some("0.0.0.0:9000"))),
            Rule::Listens,
            &[PRODUCTION, DEBUG],
            "listens on 0.0.0.0:9000",
            "port:",
        ),
        (
            Box::new(|facts| judge_answer(facts, &refused, None)),
            Rule::Listens,
            &[PRODUCTION, DEBUG],
            "connection refused",
            "0.0.0.0:8000",
        ),
        (
            Box::new(|facts| judge_answer(facts, &Answer::Status(404), None)),
            Rule::Health,
            &[PRODUCTION, DEBUG],
            "answers 404",
            "add a route",
        ),
        (
            Box::new(|facts| judge_answer(facts, &refused, Some("0.0.0.0:8000"))),
            Rule::Health,
            &[PRODUCTION, DEBUG],
            "refused",
            "2xx",
        ),
        (
            Box::new(|facts| {
                judge_answer(facts, &Answer::Silence("no answer within 3 s".into()), None)
            }),
            Rule::Health,
            &[PRODUCTION, DEBUG],
            "no answer",
            "2xx at once",
        ),
        (
            Box::new(|facts| both(facts, |look| look.inside.environment = Some([].into()))),
            Rule::Mode,
            &[PRODUCTION, DEBUG],
            "PID 1 has no APP_MODE",
            "env -i",
        ),
        (
            Box::new(|facts| {
                both(facts, |look| {
                    look.inside.environment = Some([("APP_MODE".into(), "debug".into())].into())
                })
            }),
            Rule::Mode,
            &[PRODUCTION],
            "APP_MODE=debug where the container was given production",
            "export APP_MODE",
        ),
        (
            Box::new(|facts| {
                let pages = facts.debug.look.clone().expect("it runs").pages;
                both(facts, |look| look.pages = pages.clone());
            }),
            Rule::ModeDiffers,
            &[PRODUCTION, DEBUG],
            "same in both modes",
            "APP_MODE",
        ),
        (
            Box::new(|facts| both(facts, |look| look.inside.uid = Some(0))),
            Rule::NonRoot,
            &[],
            "PID 1 is root; the image says USER 10001",
            "USER 10001:10001",
        ),
        (
            Box::new(|facts| {
                both(facts, |look| {
                    look.inside.uid = None;
                    look.processes.as_mut().expect("some").all[0].uid = 0;
                })
            }),
            Rule::NonRoot,
            &[],
            "`python3 /server.py` is root",
            "USER",
        ),
        (
            Box::new(|facts| facts.debug.changes = Some(vec!["/tmp/x".into()])),
            Rule::ReadOnly,
            &[DEBUG],
            "it writes /tmp/x",
            "no target mounts a /tmp",
        ),
        (
            Box::new(|facts| {
                facts.debug.changes =
                    Some((0..7).map(|at| format!("/a/__pycache__/{at}.pyc")).collect())
            }),
            Rule::ReadOnly,
            &[DEBUG],
            "4.pyc and 2 more",
            "PYTHONDONTWRITEBYTECODE",
        ),
        (
            Box::new(kill),
            Rule::Stops,
            &[PRODUCTION, DEBUG],
            "2 s after SIGTERM (contract.stop) it still ran",
            "handle SIGTERM",
        ),
        (
            Box::new(|facts| {
                kill(facts);
                facts.images[0].stop_signal = Some("SIGINT".into());
            }),
            Rule::Stops,
            &[PRODUCTION, DEBUG],
            "after SIGINT",
            "handle SIGINT",
        ),
        (
            Box::new(|facts| {
                kill(facts);
                before(facts, "/bin/sh /start.sh");
            }),
            Rule::Stops,
            &[PRODUCTION, DEBUG],
            "PID 1 is `/bin/sh /start.sh`",
            "exec \"$@\"",
        ),
        (
            Box::new(|facts| before(facts, "/bin/sh /start.sh")),
            Rule::ExecForm,
            &[PRODUCTION, DEBUG],
            "the service its child `python3 /server.py`",
            "exec",
        ),
        (
            Box::new(|facts| {
                both(facts, |look| look.processes = None);
                facts.images[0].command = vec!["/bin/sh".into(), "-c".into(), "python3 x".into()];
            }),
            Rule::ExecForm,
            &[],
            "its command is `/bin/sh -c python3 x`",
            "exec",
        ),
        (
            Box::new(|facts| {
                facts.images[0].layers[0].content = Layer {
                    found: vec![Found { path: "app/.env".into(), kind: "an environment file" }],
                    ..Layer::default()
                }
            }),
            Rule::SecretFiles,
            &[],
            "/app/.env is an environment file (layer 1 of 1, COPY . .)",
            ".dockerignore",
        ),
        (
            Box::new(|facts| facts.images[0].env = vec![("API_TOKEN".into(), "x".into())]),
            Rule::SecretVariables,
            &[],
            "ENV API_TOKEN",
            "build-secrets",
        ),
        (
            Box::new(|facts| facts.images[0].layers[0].size = 9 << 20),
            Rule::Size,
            &[],
            "9.0 MiB compressed, and contract.size is 8 MiB",
            "slim",
        ),
    ];
    for (change, rule, modes, evidence, fix) in cases {
        let mut facts = facts();
        change(&mut facts);
        let levels = Levels::default();
        let verdict = judged(&facts, &[], &[], &levels);
        let [finding] = verdict.findings.as_slice() else { panic!("{rule}: {verdict:?}") };
        assert_eq!(
            (finding.rule, finding.level, finding.modes.as_slice()),
            (rule, levels.of(rule), modes),
            "{finding:?}"
        );
        assert!(finding.evidence.contains(evidence) && finding.fix.contains(fix), "{finding:?}");
    }
}

#[test]
fn what_cannot_be_seen_is_not_judged() {
    type Case = (fn(&mut ContractFacts), &'static [Rule]);
    let cases: [Case; 5] = [
        // A static binary alone in its image: nothing in it can read /proc. That answers differ
        // shows the mode arrives.
        (|facts| both(facts, |look| look.inside = Inside::default()), &[]),
        (
            |facts| {
                both(facts, |look| {
                    look.inside = Inside::default();
                    look.pages.clear();
                })
            },
            &[Rule::Mode],
        ),
        (
            |facts| {
                facts.production = ended(1, "");
                facts.debug = ended(1, "");
            },
            &[
                Rule::Listens,
                Rule::Health,
                Rule::Mode,
                Rule::ModeDiffers,
                Rule::Stops,
                Rule::ExecForm,
            ],
        ),
        (
            |facts| {
                both(facts, |look| *look = Look::default());
                facts.images[0].user = "app".into();
            },
            &[Rule::Mode, Rule::NonRoot, Rule::ExecForm],
        ),
        (
            |facts| {
                facts.production.changes = None;
                facts.debug.changes = None;
            },
            &[Rule::ReadOnly],
        ),
    ];
    for (change, expected) in cases {
        let mut facts = facts();
        change(&mut facts);
        let verdict = judged(&facts, &[], &[], &Levels::default());
        let unjudged: Vec<Rule> = verdict.unjudged.iter().map(|(rule, _)| *rule).collect();
        assert_eq!(unjudged, expected, "{verdict:?}");
    }
}

#[test]
fn a_service_without_its_secrets_says_so_and_ends() {
    let cases: [(Option<Run>, &str); 6] = [
        (Some(ended(1, "KeyError: 'TOKEN'")), ""),
        (Some(ended(2, "1 validation error for Settings: token Field required")), ""),
        (Some(ended(1, "something is wrong")), "names none of them"),
        (Some(ended(0, "TOKEN")), "exit code 0"),
        (Some(good("production")), "starts all the same"),
        (
            Some(Run {
                outcome: Outcome::Silent { answer: Answer::Status(503) },
                ..good("production")
            }),
            "neither ends nor answers within 6 s",
        ),
    ];
    for (without, evidence) in cases {
        let verdict =
            judged(&ContractFacts { without, ..facts() }, &["TOKEN"], &[], &Levels::default());
        match (evidence, verdict.findings.as_slice()) {
            ("", []) => {}
            (evidence, [finding]) if finding.rule == Rule::RequiredVariables => {
                assert!(
                    finding.evidence.contains(evidence) && finding.modes == [WITHOUT],
                    "{finding:?}"
                );
                assert!(finding.fix.contains("TOKEN is not set"), "{finding:?}");
            }
            _ => panic!("{evidence}: {verdict:?}"),
        }
    }
}

#[test]
fn where_no_secret_has_a_value_production_tells_of_both() {
    let levels = Levels::default();
    let starts = judged(&facts(), &["TOKEN"], &["TOKEN"], &levels);
    assert!(
        matches!(starts.findings.as_slice(), [one] if one.rule == Rule::RequiredVariables),
        "{starts:?}"
    );

    let mut facts = facts();
    facts.production = ended(1, "TOKEN is not set");
    facts.debug = ended(1, "TOKEN is not set");
    let ends = judged(&facts, &["TOKEN"], &["TOKEN"], &levels);
    let [one] = ends.findings.as_slice() else { panic!("{ends:?}") };
    assert_eq!((one.rule, one.modes.as_slice()), (Rule::Starts, [PRODUCTION, DEBUG].as_slice()));
    assert!(one.fix.contains("contract: {env: {TOKEN: …}}"), "{one:?}");
    assert!(ends.kept.contains(&Rule::RequiredVariables), "it said what is missing: {ends:?}");
}

#[test]
fn a_rule_that_is_off_is_not_looked_for() {
    let mut facts = facts();
    kill(&mut facts);
    before(&mut facts, "sh /start.sh");
    let levels = Levels { stops: Level::Off, exec_form: Level::Fail, ..Levels::default() };
    let verdict = judged(&facts, &[], &[], &levels);
    assert_eq!(verdict.off, [Rule::Stops]);
    let [one] = verdict.findings.as_slice() else { panic!("{verdict:?}") };
    assert_eq!(
        (one.rule, one.level),
        (Rule::ExecForm, Level::Fail),
        "what the other rule would have told is told by this one"
    );
}

#[test]
fn what_differs_from_run_to_run_is_no_difference() {
    let cases = [
        ("12:01:02 ready in 0.3 s", "12:01:03 ready in 0.4 s", true),
        ("id 0f9c2b7a1e", "id aabbccddee", true),
        ("550e8400-e29b-41d4-a716-446655440000", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", true),
        ("request kX9mQ2p", "request aB3dE5g", true),
        ("worker-7 of python3", "worker-9 of python3", true),
        ("http2 on", "http1 off", false),
        ("mode debug", "mode production", false),
        ("docs on", "docs off", false),
    ];
    for (one, other, same) in cases {
        assert_eq!(strip_changing(one) == strip_changing(other), same, "{one} | {other}");
    }
    let page = |status: u16, body: &str| Some(Page { status, body: body.into() });
    assert_eq!(keep_settled(page(200, "hit 1"), page(200, "hit 2")), page(200, "hit 1"));
    for (first, second) in [
        (page(200, "quote: be kind"), page(200, "quote: carry on")),
        (page(200, ""), page(503, "")),
        (page(200, ""), None),
        (None, None),
    ] {
        assert_eq!(keep_settled(first, second), None);
    }
}

#[test]
fn what_was_killed_in_both_modes_is_one_finding_also_when_the_engine_saw_why_in_one_only() {
    let killed = |out_of_memory| Run {
        outcome: Outcome::Ended { exit_code: 137, out_of_memory, error: None },
        ..ended(137, "")
    };
    for (production, debug, evidence) in [
        (false, true, "was killed: it needed more than its 512 MiB"),
        (true, true, "was killed: it needed more than its 512 MiB"),
        (false, false, "was killed, most often because"),
    ] {
        let facts =
            ContractFacts { production: killed(production), debug: killed(debug), ..facts() };
        let verdict = judged(&facts, &[], &[], &Levels::default());
        let [finding] = &verdict.findings[..] else { panic!("{verdict:?}") };
        assert!(finding.evidence.starts_with(evidence), "{finding:?}");
        assert_eq!(finding.modes, [PRODUCTION, DEBUG]);
    }
}
