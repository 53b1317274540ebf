//! The engine over a scripted target and a real ledger in a folder.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::deploy::target::{HealthCheck, Plan, Written};
use crate::deploy::{Change, Image, Order, Running};
use crate::digest::Digest;
use crate::error::Cause;
use crate::interrupt::{Interrupt, Signal};
use crate::ledger::{RunLink, Scope};
use crate::report::{Format, Verbosity};

/// A platform that does what its script says, and notes what it was asked to do.
#[derive(Default)]
struct Scripted {
    changes: usize,
    migrate: Option<Kind>,
    /// How apply fails, and what it wrote before.
    apply: Option<(Kind, Wrote)>,
    /// Answers of the looks, in order; the last one stays.
    looks: Mutex<VecDeque<Look>>,
    /// The same, on the way back.
    looks_back: Mutex<VecDeque<Look>>,
    verify: Option<Kind>,
    rollback: Option<Rollback>,
    asked: Mutex<Vec<&'static str>>,
    /// The step that has no end.
    hangs: Option<&'static str>,
    sees_nothing: bool,
    /// The preflight refuses.
    refuses: bool,
    /// How often it was observed.
    observed: Mutex<u32>,
    /// Where another run deploys while this one is in its preflight.
    overtaken_in: Option<Ledger>,
}

#[derive(Clone, Copy)]
enum Look {
    Healthy,
    Progressing,
    Failed,
    Blind,
    Superseded,
}

#[derive(Clone, Copy)]
enum Rollback {
    Begun,
    Nothing,
    Superseded,
    Fails,
}

struct ScriptedPlan(Vec<Change>);

impl Plan for ScriptedPlan {
    fn changes(&self) -> &[Change] {
        &self.0
    }
    fn previous_revision(&self) -> Option<String> {
        Some("1".into())
    }
}

#[derive(Default)]
struct ScriptedWritten {
    beside: bool,
    running: bool,
    goes_back: bool,
}

impl Written for ScriptedWritten {
    fn any(&self) -> bool {
        self.beside || self.running
    }
    fn touches_running(&self) -> bool {
        self.running
    }
}

/// What an apply wrote before it failed.
#[derive(Clone, Copy, PartialEq)]
enum Wrote {
    Nothing,
    Beside,
    Running,
}

fn fail(kind: Option<Kind>) -> Result<()> {
    kind.map_or(Ok(()), |kind| Err(Error::new(kind, "scripted")))
}

impl Scripted {
    async fn note(&self, what: &'static str) {
        self.asked.lock().expect("a lock").push(what);
        if self.hangs == Some(what) {
            std::future::pending::<()>().await;
        }
    }
    fn asked(&self) -> Vec<&'static str> {
        self.asked.lock().expect("a lock").clone()
    }
}

impl Target for Scripted {
    type Documents = String;
    type Facts = ();
    type Plan = ScriptedPlan;
    type Written = ScriptedWritten;
    type Memory = ();

    const NAME: &'static str = "local";
    const INTERVAL: Duration = Duration::from_millis(1);

    async fn render(&self, _order: &Order) -> Result<State<String>> {
        Ok(state("1.0.0"))
    }
    async fn observe(&self, _goal: &Goal<String>) -> Result<()> {
        let observed = {
            let mut observed = self.observed.lock().expect("a lock");
            *observed += 1;
            *observed
        };
        if let Some(ledger) = self.overtaken_in.as_ref().filter(|_| observed == 1) {
            let (interrupt, target) = (Interrupt::default(), changing());
            let other = run(&target, ledger, "0.9.0", intent(&interrupt));
            Box::pin(other).await.expect("deployed in between");
        }
        if self.sees_nothing {
            std::future::pending::<()>().await;
        }
        fail(self.refuses.then_some(Kind::Refused))
    }
    fn plan(&self, goal: &Goal<String>, (): ()) -> Result<ScriptedPlan> {
        let change = Change {
            action: Action::Update,
            object: format!("Thing/{}", goal.wanted.service),
            details: vec![],
        };
        Ok(ScriptedPlan(vec![change; self.changes]))
    }
    async fn migrate(
        &self,
        _plan: &ScriptedPlan,
        _written: &mut ScriptedWritten,
        _permit: Permit<'_>,
    ) -> Result<()> {
        self.note("migrate").await;
        fail(self.migrate)
    }
    async fn apply(
        &self,
        _plan: &ScriptedPlan,
        written: &mut ScriptedWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        permit.check().await?;
        self.note("apply").await;
        let wrote = self.apply.map_or(Wrote::Running, |(_, wrote)| wrote);
        written.beside = wrote == Wrote::Beside;
        written.running = wrote == Wrote::Running;
        fail(self.apply.map(|(kind, _)| kind))
    }
    async fn check_rollout(
        &self,
        _plan: &ScriptedPlan,
        written: &mut ScriptedWritten,
        (): &mut (),
    ) -> Result<Verdict> {
        self.note("look").await;
        let (looks, revision) = match written.goes_back {
            true => (&self.looks_back, "1"),
            false => (&self.looks, "2"),
        };
        let mut looks = looks.lock().expect("a lock");
        let look = if looks.len() > 1 { looks.pop_front() } else { looks.front().copied() };
        match look.unwrap_or(Look::Healthy) {
            Look::Healthy => Ok(Verdict::Healthy { revision: revision.into() }),
            Look::Progressing => Ok(Verdict::Progressing("waiting".into())),
            Look::Failed => Ok(Verdict::Failed(vec![Cause {
                code: Some(Code::ContainerExited),
                object: "Thing/a".into(),
                ..Cause::default()
            }])),
            Look::Blind => Err(Error::unexpected("no answer")),
            Look::Superseded => Err(Error::new(Kind::Superseded, "another")),
        }
    }
    async fn verify(
        &self,
        _plan: &ScriptedPlan,
        written: &ScriptedWritten,
    ) -> Result<Option<String>> {
        self.note("verify").await;
        fail(self.verify.filter(|_| !written.goes_back)).map(|()| Some("http://there".into()))
    }
    async fn roll_back(
        &self,
        _plan: &ScriptedPlan,
        written: &mut ScriptedWritten,
        _permit: Permit<'_>,
    ) -> Result<RolledBack> {
        self.note("roll back").await;
        written.goes_back = true;
        match self.rollback.expect("no rollback is expected") {
            Rollback::Begun => Ok(RolledBack::Begun),
            Rollback::Nothing => Ok(RolledBack::ToNothing("nothing".into())),
            Rollback::Superseded => Err(Error::new(Kind::Superseded, "another")),
            Rollback::Fails => Err(Error::unexpected("no way")),
        }
    }
    async fn clean_up(&self, _plan: &ScriptedPlan, _permit: Permit<'_>) -> Result<()> {
        self.note("clean up").await;
        Ok(())
    }
    async fn read_running(&self, _state: &State<String>) -> Result<Running> {
        Ok(Running::default())
    }
}

fn state(version: &str) -> State<String> {
    State {
        format: 1,
        target: "local".into(),
        service: "patients".into(),
        environment: "staging".into(),
        image: Image {
            repository: "patients".into(),
            digest: Digest::of(version.as_bytes()),
            version: version.into(),
        },
        port: 8000,
        health: HealthCheck { path: "/healthz".into(), startup: 1000 },
        documents: "documents".into(),
    }
}

fn knows_nothing(_one: &str, _other: &str) -> Option<bool> {
    None
}

/// Commits that are single letters, `a` before `b`.
fn by_letter(one: &str, other: &str) -> Option<bool> {
    (one.len() == 1 && other.len() == 1).then_some(one < other)
}

fn intent(interrupt: &Interrupt) -> Intent<'_> {
    Intent {
        kind: RecordKind::Deploy,
        link: RunLink::default(),
        who: "ada".into(),
        commit: None,
        committed: None,
        commits: None,
        is_automatic: false,
        reason: None,
        irreversible: vec![],
        timeout: Duration::from_secs(5),
        plan_only: false,
        is_ancestor: &knows_nothing,
        interrupt,
    }
}

fn report() -> Report {
    Report::to(Box::new(std::io::sink()), Format::Human, Verbosity::Normal, false)
}

async fn run(
    target: &Scripted,
    ledger: &Ledger,
    version: &str,
    intent: Intent<'_>,
) -> Result<Outcome> {
    let request = DeployRequest { wanted: state(version), config_hash: String::new(), intent };
    deploy(target, &request, ledger, &report()).await
}

fn changing() -> Scripted {
    Scripted { changes: 1, ..Scripted::default() }
}

fn ledger(folder: &tempfile::TempDir) -> Ledger {
    let scope = Scope { service: "patients", environment: "staging", destination: "docker" };
    Ledger::in_folder(folder.path().to_path_buf(), &scope)
}

#[tokio::test]
async fn a_lost_state_is_no_way_back_and_no_reason_to_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = ledger(&folder);
    let interrupt = Interrupt::default();
    run(&changing(), &ledger, "1.0.0", intent(&interrupt)).await.expect("deployed");
    let head = ledger.read_head().await.expect("a head");
    let hash = head.good.and_then(|good| good.state_hash).expect("a state");
    let object = format!("cicd/patients/staging/docker/states/{hash}.json.gz");
    std::fs::remove_file(folder.path().join(object)).expect("removed");

    let request = DeployRequest {
        wanted: state("1.1.0"),
        config_hash: String::new(),
        intent: intent(&interrupt),
    };
    let (head, report) = (ledger.read_head().await.expect("a head"), report());
    let goal = make_goal::<Scripted>(&request, (&head, None), Some(&ledger), &report).await;
    assert!(goal.expect("a goal").good.is_none());
    run(&changing(), &ledger, "1.1.0", intent(&interrupt)).await.expect("deployed");
}

/// Two failed deploys in a row to a service that was there before leave it a way back.
#[test]
fn what_was_there_before_stays_a_way_back_while_each_deploy_went_back_to_it() {
    use RecordResult::{Deployed, Failed, Interrupted, Killed, RolledBack, TimedOut};
    let entry = |result| HeadEntry { number: 1, result, ..HeadEntry::default() };
    let cases = [
        (None, None, true),
        (Some(RolledBack), None, true),
        (Some(Failed), None, false),
        (Some(TimedOut), None, false),
        (Some(Interrupted), None, false),
        (Some(Killed), None, false),
        (Some(RolledBack), Some(Deployed), false),
        (Some(Deployed), Some(Deployed), false),
    ];
    for (last, good, adopts) in cases {
        let head = Head { last: last.map(entry), good: good.map(entry), ..Head::default() };
        assert_eq!(adopts_what_runs(&head), adopts, "{last:?}, {good:?}");
    }
}

#[tokio::test]
async fn every_way_to_end_is_recorded_and_releases_the_lock() {
    struct Case {
        name: &'static str,
        target: Scripted,
        kind: Option<Kind>,
        /// Of the record; none where a refusal is no deploy.
        result: Option<RecordResult>,
        asked: &'static [&'static str],
    }
    let looks = |looks: &[Look]| Mutex::new(looks.iter().copied().collect());
    let whole: &[&str] = &["migrate", "apply", "look", "verify", "look", "clean up"];
    let failed: &[&str] = &["migrate", "apply", "look", "roll back"];
    let back: &[&str] = &["migrate", "apply", "look", "roll back", "look", "verify", "look"];
    let cases = [
        Case {
            name: "deployed",
            target: changing(),
            kind: None,
            result: Some(RecordResult::Deployed),
            asked: whole,
        },
        Case {
            name: "a look that fails is no verdict",
            target: Scripted {
                looks: looks(&[Look::Blind, Look::Progressing, Look::Healthy]),
                ..changing()
            },
            kind: None,
            result: Some(RecordResult::Deployed),
            asked: &["migrate", "apply", "look", "look", "look", "verify", "look", "clean up"],
        },
        Case {
            name: "it falls over after it was healthy",
            target: Scripted {
                looks: looks(&[Look::Healthy, Look::Progressing, Look::Healthy]),
                ..changing()
            },
            kind: None,
            result: Some(RecordResult::Deployed),
            asked: &[
                "migrate", "apply", "look", "verify", "look", "look", "verify", "look", "clean up",
            ],
        },
        Case {
            name: "the migration fails",
            target: Scripted { migrate: Some(Kind::Gate), ..changing() },
            kind: Some(Kind::Gate),
            result: Some(RecordResult::Failed),
            asked: &["migrate"],
        },
        Case {
            name: "a refused write changed nothing",
            target: Scripted { apply: Some((Kind::Refused, Wrote::Nothing)), ..changing() },
            kind: Some(Kind::Refused),
            result: None,
            asked: &["migrate", "apply"],
        },
        Case {
            name: "a write fails half-way",
            target: Scripted {
                apply: Some((Kind::Refused, Wrote::Running)),
                rollback: Some(Rollback::Begun),
                ..changing()
            },
            kind: Some(Kind::RolledBack),
            result: Some(RecordResult::RolledBack),
            asked: &["migrate", "apply", "roll back", "look", "verify", "look"],
        },
        Case {
            name: "it does not run, the last good does",
            target: Scripted {
                looks: looks(&[Look::Failed]),
                rollback: Some(Rollback::Begun),
                ..changing()
            },
            kind: Some(Kind::RolledBack),
            result: Some(RecordResult::RolledBack),
            asked: back,
        },
        Case {
            name: "what runs was not touched, and something was made beside it",
            target: Scripted { apply: Some((Kind::Refused, Wrote::Beside)), ..changing() },
            kind: Some(Kind::Refused),
            result: Some(RecordResult::Failed),
            asked: &["migrate", "apply"],
        },
        Case {
            name: "neither runs: the last good one is believed no earlier than a new one",
            target: Scripted {
                looks: looks(&[Look::Failed]),
                rollback: Some(Rollback::Begun),
                looks_back: looks(&[Look::Blind, Look::Progressing, Look::Failed]),
                ..changing()
            },
            kind: Some(Kind::Broken),
            result: Some(RecordResult::Failed),
            asked: &["migrate", "apply", "look", "roll back", "look", "look", "look"],
        },
        Case {
            name: "the first one does not run",
            target: Scripted {
                looks: looks(&[Look::Failed]),
                rollback: Some(Rollback::Nothing),
                ..changing()
            },
            kind: Some(Kind::Broken),
            result: Some(RecordResult::Failed),
            asked: failed,
        },
        Case {
            name: "the rollback fails",
            target: Scripted {
                looks: looks(&[Look::Failed]),
                rollback: Some(Rollback::Fails),
                ..changing()
            },
            kind: Some(Kind::Broken),
            result: Some(RecordResult::Failed),
            asked: failed,
        },
        Case {
            name: "somebody newer runs: nothing is undone",
            target: Scripted { looks: looks(&[Look::Superseded]), ..changing() },
            kind: Some(Kind::Superseded),
            result: Some(RecordResult::Superseded),
            asked: &["migrate", "apply", "look"],
        },
        Case {
            name: "somebody newer came while it was rolled back",
            target: Scripted {
                looks: looks(&[Look::Failed]),
                rollback: Some(Rollback::Superseded),
                ..changing()
            },
            kind: Some(Kind::Superseded),
            result: Some(RecordResult::Superseded),
            asked: failed,
        },
        Case {
            name: "the smoke check fails",
            target: Scripted {
                verify: Some(Kind::Broken),
                rollback: Some(Rollback::Begun),
                ..changing()
            },
            kind: Some(Kind::RolledBack),
            result: Some(RecordResult::RolledBack),
            asked: &["migrate", "apply", "look", "verify", "roll back", "look", "verify", "look"],
        },
        Case {
            name: "what runs unchanged is not well",
            target: Scripted { looks: looks(&[Look::Failed]), ..Scripted::default() },
            kind: Some(Kind::Broken),
            result: Some(RecordResult::Failed),
            asked: &["look"],
        },
    ];
    for Case { name, target, kind, result, asked } in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = ledger(&folder);
        let interrupt = Interrupt::default();
        let ended = run(&target, &ledger, "1.0.0", intent(&interrupt)).await;
        assert_eq!(ended.as_ref().err().map(|error| error.kind), kind, "{name}: {ended:?}");
        assert_eq!(target.asked(), asked, "{name}");
        let records = ledger.list_records(10).await.expect("records");
        assert_eq!(records.first().map(|record| record.result), result, "{name}");
        assert_eq!(
            records.first().is_some_and(|record| record.good),
            result == Some(RecordResult::Deployed),
            "{name}"
        );
        let lock = ledger.read_lock().await.expect("a lock");
        assert!(lock.is_some_and(|lock| lock.holder.is_none()), "{name}: the lock is held");
    }
}

#[tokio::test]
async fn what_is_refused_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ledger, interrupt) = (ledger(&folder), Interrupt::default());
    let target = Scripted { refuses: true, ..changing() };
    let error = run(&target, &ledger, "1.0.0", intent(&interrupt)).await.expect_err("refused");
    assert_eq!(error.kind, Kind::Refused);
    assert!(ledger.read_lock().await.expect("no lock").is_none(), "nor the lock");
}

#[tokio::test]
async fn a_plan_holds_only_where_nobody_deployed_in_between() {
    for (is_overtaken, observed) in [(false, 1), (true, 2)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (ledger, interrupt) = (ledger(&folder), Interrupt::default());
        let overtaken_in = is_overtaken.then(|| ledger.clone());
        let target = Scripted { overtaken_in, ..changing() };
        run(&target, &ledger, "1.0.0", intent(&interrupt)).await.expect("deployed");
        assert_eq!(*target.observed.lock().expect("a lock"), observed);
    }
}

#[tokio::test]
async fn the_time_is_bounded_on_the_way_in_and_on_the_way_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = ledger(&folder);
    let interrupt = Interrupt::default();
    let target = Scripted {
        looks: Mutex::new([Look::Progressing].into()),
        rollback: Some(Rollback::Begun),
        ..changing()
    };
    let short = Intent { timeout: Duration::from_millis(300), ..intent(&interrupt) };
    let error = run(&target, &ledger, "1.0.0", short).await.expect_err("late");
    assert_eq!((error.kind, error.code), (Kind::TimedOut, Some(Code::DeadlineExceeded)));
    assert!(error.message.contains("revision 1 runs as before"), "{error}");
    assert_eq!(error.why.as_deref(), Some("waiting"));

    // Nobody knows what became of the write, so that it is undone.
    let target = Scripted { hangs: Some("apply"), rollback: Some(Rollback::Begun), ..changing() };
    let short = Intent { timeout: Duration::from_millis(300), ..intent(&interrupt) };
    let error = run(&target, &ledger, "1.0.0", short).await.expect_err("late");
    assert_eq!((error.kind, error.code), (Kind::TimedOut, Some(Code::DeadlineExceeded)));
    assert_eq!(target.asked(), ["migrate", "apply", "roll back", "look", "verify", "look"]);

    let target = Scripted { sees_nothing: true, ..changing() };
    let short = Intent { timeout: Duration::from_millis(300), ..intent(&interrupt) };
    let error = run(&target, &ledger, "1.0.0", short).await.expect_err("late");
    assert_eq!((error.kind, error.code), (Kind::TimedOut, Some(Code::DeadlineExceeded)));
    assert!(target.asked().is_empty(), "{:?}", target.asked());
}

#[tokio::test]
async fn a_second_run_of_the_same_writes_nothing_to_the_target() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ledger, interrupt) = (ledger(&folder), Interrupt::default());
    let first = run(&changing(), &ledger, "1.0.0", intent(&interrupt)).await.expect("deployed");
    assert_eq!((first.status, first.record), (Status::Deployed, Some(1)));
    let target = Scripted::default();
    let second = run(&target, &ledger, "1.0.0", intent(&interrupt)).await.expect("unchanged");
    assert_eq!((second.status, second.record), (Status::Unchanged, Some(1)));
    assert_eq!(target.asked(), ["look", "verify", "look"]);
    // What runs already and is not recorded becomes a record.
    let third =
        run(&Scripted::default(), &ledger, "1.0.1", intent(&interrupt)).await.expect("unchanged");
    assert_eq!((third.status, third.record), (Status::Unchanged, Some(2)));
}

#[tokio::test]
async fn a_signal_in_any_phase_is_recorded_and_frees_the_lock() {
    let phases = [
        ("migrate", Phase::Migrate),
        ("apply", Phase::Apply),
        ("look", Phase::Watch),
        ("verify", Phase::Verify),
        ("roll back", Phase::Rollback),
    ];
    for (step, phase) in phases {
        for (signal, kind) in
            [(Signal::Interrupt, Kind::Interrupted), (Signal::Terminate, Kind::Terminated)]
        {
            let folder = tempfile::tempdir().expect("a folder");
            let (ledger, interrupt) = (ledger(&folder), Interrupt::default());
            let fails = (phase == Phase::Rollback).then_some(Look::Failed);
            let target = Scripted {
                hangs: Some(step),
                looks: Mutex::new(fails.into_iter().collect()),
                ..changing()
            };
            let sent = async {
                while !target.asked().contains(&step) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                assert!(interrupt.send(signal), "a run that holds the lock is waited for");
            };
            let running = run(&target, &ledger, "1.0.0", intent(&interrupt));
            let (ended, ()) = futures::future::join(running, sent).await;
            assert_eq!(ended.expect_err("interrupted").kind, kind, "{step}");
            let records = ledger.list_records(10).await.expect("records");
            assert_eq!(records[0].result, RecordResult::Interrupted, "{step}");
            assert_eq!(records[0].phases.last().map(|phase| phase.name), Some(phase));
            let lock = ledger.read_lock().await.expect("a lock").expect("a lock");
            assert!(lock.holder.is_none(), "{step}");
            assert!(!interrupt.send(signal), "nobody is waited for any more");
        }
    }
}

/// It was seen through to its end by then: whatever the signal cuts short, it is recorded as good.
#[tokio::test]
async fn a_signal_in_the_clean_up_loses_no_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ledger, interrupt) = (ledger(&folder), Interrupt::default());
    let target = Scripted { hangs: Some("clean up"), ..changing() };
    let sent = async {
        while !target.asked().contains(&"clean up") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(interrupt.send(Signal::Interrupt), "it is waited for");
    };
    let deploying = run(&target, &ledger, "1.0.0", intent(&interrupt));
    let (outcome, ()) = futures::future::join(deploying, sent).await;
    assert_eq!(outcome.expect("deployed").status, Status::Deployed);
    let head = ledger.read_head().await.expect("a head");
    assert_eq!(head.good.map(|good| good.number), Some(1));
    assert!(ledger.read_lock().await.expect("a lock").expect("a lock").holder.is_none());
}

#[tokio::test]
async fn an_older_run_is_refused() {
    struct Case {
        name: &'static str,
        first: (Option<&'static str>, u64),
        second: (Option<&'static str>, u64),
        automatic: bool,
        refused: bool,
    }
    #[rustfmt::skip]
    let cases = [
        Case { name: "a lower number", first: (None, 12), second: (None, 11), automatic: true, refused: true },
        Case { name: "the same run again", first: (None, 12), second: (None, 12), automatic: true, refused: false },
        Case { name: "a higher number", first: (None, 12), second: (None, 13), automatic: true, refused: false },
        Case { name: "an older commit, a higher number", first: (Some("b"), 1), second: (Some("a"), 2), automatic: true, refused: true },
        Case { name: "a newer commit, a lower number", first: (Some("a"), 2), second: (Some("b"), 1), automatic: true, refused: false },
        Case { name: "unknown commits", first: (Some("xx"), 2), second: (Some("yy"), 1), automatic: true, refused: true },
        Case { name: "a person goes back", first: (Some("b"), 2), second: (Some("a"), 1), automatic: false, refused: false },
    ];
    for Case { name, first, second, automatic, refused } in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let (ledger, interrupt) = (ledger(&folder), Interrupt::default());
        let by = |(commit, number): (Option<&str>, u64)| Intent {
            commit: commit.map(str::to_string),
            is_automatic: automatic,
            link: RunLink {
                workflow: Some("ci".into()),
                repository: Some("o/r".into()),
                number: Some(number),
                ..RunLink::default()
            },
            is_ancestor: &by_letter,
            ..intent(&interrupt)
        };
        run(&changing(), &ledger, "1.0.0", by(first)).await.expect("deployed");
        let target = changing();
        let ended = run(&target, &ledger, "2.0.0", by(second)).await;
        let code = ended.as_ref().err().and_then(|error| error.code);
        assert_eq!(code, refused.then_some(Code::OlderRun), "{name}: {ended:?}");
        assert_eq!(target.asked().is_empty(), refused, "{name}");
    }
}
