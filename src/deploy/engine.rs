//! One deploy, in phases over a record of the ledger: lock, migrate, apply, watch, verify, record.
//!
//! The engine owns the run's state and hands it to a stateless [`Target`]. Whatever ends the run (a
//! failure, a signal (Ctrl-C), a lost lock) ends in a record and a released lock.

mod ahead;
mod end;
mod intent;
mod past;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::outcome::{Outcome, Status, round_seconds};
use super::target::{Goal, Permit, Plan as _, RolledBack, State, Target, Verdict, Written as _};
use super::{Action, Change};
use crate::error::{Code, Error, Kind, Result};
use crate::interrupt::Hold;
use crate::ledger::{
    AcquireTerms, CauseCode, Head, HeadEntry, Holder, Lease, Ledger, Phase, PhaseTime, Record,
    RecordKind, RecordResult, Run,
};
use crate::report::Report;
pub use ahead::check_ahead;
pub use end::result_of;
use end::{WentBack, describe_rollback, is_refusal, say_unrecorded};
pub use intent::Intent;
use intent::{compare_runs, refuse_older};
use past::{keep_wanted, read_good, read_left};

/// How many looks in a row may fail before the deploy does.
const BLIND_LOOKS: u32 = 5;

/// How long behind the deadline a write that ends by it may note what became of it.
const SETTLING: Duration = Duration::from_secs(5);

/// How long a signal lets an acquisition of the lock go on, so that the lock is not left behind.
const SIGNAL_GRACE: Duration = Duration::from_secs(2);

/// What is to be deployed.
pub struct DeployRequest<'a, D> {
    pub wanted: State<D>,
    /// The hash of the wanted state without the image.
    pub config_hash: String,
    pub intent: Intent<'a>,
}

/// Runs one deploy.
///
/// # Errors
/// Whatever the target refuses; [`Kind::Superseded`] when another run holds the lock or a newer one
/// was here; [`Kind::RolledBack`] when the new version failed and the last good one runs;
/// [`Kind::Broken`] when that could not be reached; [`Kind::TimedOut`] when the time was over.
pub async fn deploy<T: Target>(
    target: &T,
    request: &DeployRequest<'_, T::Documents>,
    ledger: &Ledger,
    report: &Report,
) -> Result<Outcome> {
    let started = now();
    let hold = request.intent.interrupt.hold();
    let prepared = tokio::select! {
        biased;
        signal = hold.signalled() => return Err(signal.error()),
        prepared = plan_ahead(target, request, ledger, report, started) => prepared?,
    };
    let lease = acquire_lock::<T>(ledger, request, &hold, report, started).await?;
    let mut run = DeployRun::new(target, request, report, started);
    if let Some(killed) = lease.killed() {
        report.warn(format!(
            "the deploy of {} by {} (record {}) was killed in its phase {}; this one goes on from \
             what it left",
            killed.run.version,
            killed.run.who,
            killed.number,
            killed.killed_in.unwrap_or_default().word()
        ));
    }
    let result = tokio::select! {
        biased;
        signal = hold.signalled() => Err(signal.error()),
        result = run.run_phases(&lease, ledger, prepared) => result,
    };
    run.conclude(lease, result, &hold).await
}

/// Shows what a deploy would do, and changes nothing: no lock is taken.
///
/// # Errors
/// As the target refuses.
pub async fn plan<T: Target>(
    target: &T,
    request: &DeployRequest<'_, T::Documents>,
    ledger: Option<&Ledger>,
    report: &Report,
) -> Result<Outcome> {
    let started = now();
    let head = match ledger {
        Some(ledger) => ledger.read_head().await?,
        None => Head::default(),
    };
    let plan = make_plan(target, request, (&head, None), ledger, report).await?;
    show_changes(plan.changes(), true, report);
    Ok(Outcome {
        revision: plan.previous_revision(),
        previous_revision: plan.previous_revision(),
        changed: changed_objects(plan.changes()),
        ..Outcome::new(Status::Planned, T::NAME, &request.wanted.image, started.elapsed())
    })
}

/// What a run knew before it had the lock.
struct Prepared<T: Target> {
    head: Head,
    plan: T::Plan,
}

/// The preflight: what would be refused anyway is refused before anything is written, the lock
/// included. The plan holds under the lock too, if nobody deployed in between. `None`: something
/// could not be read, which the run itself tries again and records.
///
/// # Errors
/// As the target refuses; superseded when a newer run was here.
async fn plan_ahead<T: Target>(
    target: &T,
    request: &DeployRequest<'_, T::Documents>,
    ledger: &Ledger,
    report: &Report,
    started: Instant,
) -> Result<Option<Prepared<T>>> {
    let planning = async {
        let head = ledger.read_head().await?;
        refuse_older(&describe_run(T::NAME, request), &request.intent, &head)?;
        let plan = make_plan(target, request, (&head, None), Some(ledger), report).await?;
        Ok(Prepared { head, plan })
    };
    let deadline = started + request.intent.timeout;
    match tokio::time::timeout_at(deadline.into(), planning).await {
        Ok(Ok(prepared)) => Ok(Some(prepared)),
        Ok(Err(error)) if is_refusal(&error) || error.kind == Kind::Superseded => Err(error),
        Ok(Err(_)) | Err(_) => Ok(None),
    }
}

/// Acquires the lock; refuses an older run. A signal waits a moment for the answer, so that the lock
/// is released and not left to expire.
async fn acquire_lock<T: Target>(
    ledger: &Ledger,
    request: &DeployRequest<'_, T::Documents>,
    hold: &Hold,
    report: &Report,
    started: Instant,
) -> Result<Lease> {
    let ours = describe_run(T::NAME, request);
    let is_ancestor = request.intent.is_ancestor;
    let newer_than =
        |holder: &Holder| compare_runs(&ours, &holder.run, is_ancestor) == Some(Ordering::Greater);
    let terms =
        AcquireTerms { newer_than: &newer_than, deadline: started + request.intent.timeout };
    let mut acquiring = std::pin::pin!(ledger.acquire(ours.clone(), terms));
    let lease = tokio::select! {
        biased;
        signal = hold.signalled() => {
            if let Ok(Ok(lease)) = tokio::time::timeout(SIGNAL_GRACE, acquiring).await {
                release_lock(lease, report).await;
            }
            return Err(signal.error());
        }
        lease = &mut acquiring => lease?,
    };
    if let Err(error) = refuse_older(&ours, &request.intent, lease.head()) {
        release_lock(lease, report).await;
        return Err(error);
    }
    Ok(lease)
}

/// Releases the lock. It expires where that fails, which changes nothing of how the run ended.
async fn release_lock(lease: Lease, report: &Report) {
    if let Err(error) = lease.release().await {
        report.warn(format!("the lock is left to expire: {error}"));
    }
}

/// What the ledger says of this run.
fn describe_run<D: Serialize + DeserializeOwned>(
    target: &str,
    request: &DeployRequest<'_, D>,
) -> Run {
    let (intent, image) = (&request.intent, &request.wanted.image);
    Run {
        kind: intent.kind,
        target: target.to_string(),
        version: image.version.clone(),
        digest: Some(image.digest.clone()),
        commit: intent.commit.clone(),
        committed: intent.committed,
        commits: intent.commits,
        who: intent.who.clone(),
        run: intent.link.clone(),
        reason: intent.reason.clone(),
        brings: request.wanted.hash().ok(),
        irreversible: intent.irreversible.clone(),
        started: timestamp(),
        pipeline_version: crate::VERSION.to_string(),
    }
}

/// The objects that differ from `wanted`.
///
/// # Errors
/// As the target refuses.
pub async fn read_drift<T: Target>(target: &T, wanted: State<T::Documents>) -> Result<Vec<String>> {
    let goal = Goal { wanted, good: None, left: Vec::new(), adopts: false, migrates: false };
    let plan = target.plan(&goal, target.observe(&goal).await?)?;
    Ok(changed_objects(plan.changes()))
}

/// What the ledger says of the runs before: its head, and the last run that was killed since.
type Past<'a> = (&'a Head, Option<&'a Record>);

/// Observes what runs and plans. Nothing is written.
async fn make_plan<T: Target>(
    target: &T,
    request: &DeployRequest<'_, T::Documents>,
    past: Past<'_>,
    ledger: Option<&Ledger>,
    report: &Report,
) -> Result<T::Plan> {
    let goal = make_goal::<T>(request, past, ledger, report).await?;
    target.plan(&goal, target.observe(&goal).await?)
}

/// What the run is to reach, with the last good state from the ledger.
async fn make_goal<T: Target>(
    request: &DeployRequest<'_, T::Documents>,
    past: Past<'_>,
    ledger: Option<&Ledger>,
    report: &Report,
) -> Result<Goal<T::Documents>> {
    let (head, killed) = past;
    let left = match ledger.filter(|_| T::LEAVES_OBJECTS) {
        Some(ledger) => read_left(ledger, head, killed, T::NAME).await?,
        None => Vec::new(),
    };
    let good = match (ledger, &head.good) {
        (Some(ledger), Some(entry)) => read_good::<T>(ledger, entry, report).await?,
        _ => None,
    };
    Ok(Goal {
        wanted: request.wanted.clone(),
        good,
        left,
        adopts: adopts_what_runs(head),
        migrates: request.intent.kind != RecordKind::Rollback,
    })
}

/// Whether what runs was there before the first of our deploys: there is none yet, or each of them
/// went back to it.
fn adopts_what_runs(head: &Head) -> bool {
    let went_back = |last: &HeadEntry| last.result == RecordResult::RolledBack;
    head.good.is_none() && head.last.as_ref().is_none_or(went_back)
}

/// The state of one run. Nothing of it lives in the target.
struct DeployRun<'a, T: Target> {
    target: &'a T,
    request: &'a DeployRequest<'a, T::Documents>,
    report: &'a Report,
    started: Instant,
    /// What the ledger is to keep: the wanted state, with what others wrote and stays.
    state: State<T::Documents>,
    /// The objects that the plan changes.
    changed: Vec<String>,
    previous_revision: Option<String>,
    written: T::Written,
    /// A write was given up whose answer nobody waited for.
    is_unsettled: bool,
    /// The phase that goes on, and since when.
    phase: (Phase, Instant),
    /// Those that are over.
    phases: Vec<PhaseTime>,
    /// What is being waited for, in the words last said.
    waits_for: String,
}

/// What the watching reached.
struct Reached {
    url: Option<String>,
    revision: String,
}

/// Where a run goes.
#[derive(Clone, Copy)]
enum Way {
    /// To the new version.
    In,
    /// The rollback, to the last good one.
    Back,
}

impl Way {
    /// What watching and verifying are called on it.
    fn phases(self) -> (Phase, Phase) {
        match self {
            Way::In => (Phase::Watch, Phase::Verify),
            Way::Back => (Phase::Rollback, Phase::Rollback),
        }
    }

    fn failure(self) -> &'static str {
        match self {
            Way::In => "the new version does not run",
            Way::Back => "the last good version does not run either",
        }
    }
}

impl<'a, T: Target> DeployRun<'a, T> {
    fn new(
        target: &'a T,
        request: &'a DeployRequest<'a, T::Documents>,
        report: &'a Report,
        started: Instant,
    ) -> Self {
        DeployRun {
            target,
            request,
            report,
            started,
            state: request.wanted.clone(),
            changed: Vec::new(),
            previous_revision: None,
            written: T::Written::default(),
            is_unsettled: false,
            phase: (Phase::Lock, started),
            phases: Vec::new(),
            waits_for: String::new(),
        }
    }

    /// Plans, then goes forward; rolls back when that fails after what runs may have changed.
    async fn run_phases(
        &mut self,
        lease: &Lease,
        ledger: &Ledger,
        prepared: Option<Prepared<T>>,
    ) -> Result<(Reached, T::Plan)> {
        let good = lease.head().good.as_ref().map(|good| good.run.version.clone());
        self.report.note(|course| course.good = good);
        // Whoever deployed since the preflight advanced the head, or was killed.
        let prepared =
            prepared.filter(|prepared| prepared.head == *lease.head() && lease.killed().is_none());
        let plan = match prepared {
            Some(prepared) => prepared.plan,
            None => {
                let past = (lease.head(), lease.killed());
                let planning =
                    make_plan(self.target, self.request, past, Some(ledger), self.report);
                let deadline = self.started + self.request.intent.timeout;
                let planned = tokio::time::timeout_at(deadline.into(), planning).await;
                planned.unwrap_or_else(|_| {
                    let headline = "cannot see what runs: the time is over";
                    Err(Error::new(Kind::TimedOut, headline).code(Code::DeadlineExceeded))
                })?
            }
        };
        show_changes(plan.changes(), false, self.report);
        if let Some(state) = self.target.planned_state(&plan) {
            self.state = state.clone();
        }
        self.changed = changed_objects(plan.changes());
        self.previous_revision = plan.previous_revision();
        if T::LEAVES_OBJECTS {
            keep_wanted(ledger, &self.state, plan.changes()).await?;
        }
        match self.go_forward(&plan, lease).await {
            Ok(reached) => Ok((reached, plan)),
            // What somebody newer runs is not ours to undo.
            Err(error) if error.kind == Kind::Superseded => Err(error),
            Err(error) if self.written.touches_running() || self.is_unsettled => {
                Err(self.roll_back(&plan, lease, error).await)
            }
            // What runs is what ran before this run, so there is nothing to go back to.
            Err(error) if error.kind == Kind::Refused => Err(Error {
                message: format!("{}; nothing that runs was changed", error.message),
                ..error
            }),
            Err(error) => Err(error),
        }
    }

    /// The phases migrate, apply, watch and verify, within the deadline.
    async fn go_forward(&mut self, plan: &T::Plan, lease: &Lease) -> Result<Reached> {
        let deadline = self.started + self.request.intent.timeout;
        let permit = Permit::new(lease, deadline);
        if !plan.changes().is_empty() {
            let writing = async {
                self.enter(Phase::Migrate, lease);
                self.target.migrate(plan, &mut self.written, permit).await?;
                self.enter(Phase::Apply, lease);
                self.target.apply(plan, &mut self.written, permit).await
            };
            let ended = tokio::time::timeout_at((deadline + SETTLING).into(), writing).await;
            match ended {
                Ok(written) => written?,
                Err(_) => {
                    self.is_unsettled = true;
                    return Err(self.late("not applied after"));
                }
            }
        }
        let mut memory = T::Memory::default();
        let reaching = self.reach(plan, lease, Way::In, &mut memory);
        match tokio::time::timeout_at(deadline.into(), reaching).await {
            Ok(reached) => reached,
            Err(_) => {
                let explaining = self.target.explain_waiting(&memory);
                let causes = tokio::time::timeout(SETTLING, explaining).await.unwrap_or_default();
                Err(self.late("not ready after").causes(causes))
            }
        }
    }

    /// The error of a deadline that passed, with what was waited for.
    fn late(&mut self, what: &str) -> Error {
        let seconds = self.request.intent.timeout.as_secs();
        let error = Error::new(Kind::TimedOut, format!("{what} {seconds} s"))
            .code(Code::DeadlineExceeded)
            .fix("give it longer with --timeout, if it only needs time");
        match std::mem::take(&mut self.waits_for) {
            words if words.is_empty() => error,
            words => error.why(words),
        }
    }

    /// Watches until the version is healthy, has it answer, and looks a last time: the end is told
    /// by what runs, on the way in as on the way back.
    async fn reach(
        &mut self,
        plan: &T::Plan,
        lease: &Lease,
        way: Way,
        memory: &mut T::Memory,
    ) -> Result<Reached> {
        let (watch, verify) = way.phases();
        loop {
            self.enter(watch, lease);
            let revision = self.watch(plan, memory, way).await?;
            self.enter(verify, lease);
            let url = self.target.verify(plan, &self.written).await?;
            match self.target.check_rollout(plan, &mut self.written, memory).await {
                Ok(Verdict::Healthy { revision: last }) if last == revision => {
                    return Ok(Reached { url, revision });
                }
                Err(error) if error.kind != Kind::Unexpected => return Err(error),
                // It changed after it was healthy, or could not be seen: it is watched on.
                _ => tokio::time::sleep(T::INTERVAL).await,
            }
        }
    }

    /// Looks until the rollout is healthy; returns the revision's name.
    async fn watch(&mut self, plan: &T::Plan, memory: &mut T::Memory, way: Way) -> Result<String> {
        let mut blind = 0;
        loop {
            match self.target.check_rollout(plan, &mut self.written, memory).await {
                Ok(Verdict::Healthy { revision }) => return Ok(revision),
                Ok(Verdict::Failed(causes)) => {
                    return Err(Error::new(Kind::Broken, way.failure()).causes(causes));
                }
                Ok(Verdict::Progressing(state)) => {
                    blind = 0;
                    if state != self.waits_for {
                        self.report.detail(&state);
                        self.waits_for = state;
                    }
                }
                // A look that fails says nothing of the version that comes up.
                Err(error) if error.kind == Kind::Unexpected && blind < BLIND_LOOKS => {
                    blind += 1;
                    self.report.trace(format!("cannot look: {error}"));
                    tokio::time::sleep(T::INTERVAL).await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.target.wait_for_change(memory).await;
        }
    }

    /// Goes back to the last good version and says what that came to.
    async fn roll_back(&mut self, plan: &T::Plan, lease: &Lease, error: Error) -> Error {
        // The reason comes first, before the rollback takes its time.
        for cause in &error.causes {
            self.report.warn(format!("{}: {}", cause.object, cause.reason));
        }
        self.enter(Phase::Rollback, lease);
        self.waits_for.clear();
        // As long as the way in, counted anew: that one's time may be what was over.
        let deadline = now() + self.request.intent.timeout;
        let permit = Permit::new(lease, deadline);
        let rolling = self.go_back(plan, lease, permit);
        let rolled_back = match tokio::time::timeout_at(deadline.into(), rolling).await {
            Ok(rolled_back) => rolled_back,
            Err(_) => Err(Error { kind: Kind::Broken, ..self.late("not back within") }),
        };
        describe_rollback(&self.request.wanted, error, rolled_back)
    }

    /// Brings the last good version back, and believes it as a new one is believed.
    async fn go_back(
        &mut self,
        plan: &T::Plan,
        lease: &Lease,
        permit: Permit<'_>,
    ) -> Result<WentBack> {
        // A run that stood still may not undo what another one runs by now.
        permit.check().await?;
        match self.target.roll_back(plan, &mut self.written, permit).await? {
            RolledBack::Begun => {
                let mut memory = T::Memory::default();
                let reached = self.reach(plan, lease, Way::Back, &mut memory).await?;
                Ok(WentBack::ToGood { revision: reached.revision })
            }
            RolledBack::ToNothing(words) => Ok(WentBack::ToNothing(words)),
        }
    }

    /// Records how the run ended and releases the lock.
    async fn conclude(
        mut self,
        lease: Lease,
        result: Result<(Reached, T::Plan)>,
        hold: &Hold,
    ) -> Result<Outcome> {
        self.enter(Phase::Record, &lease);
        let (reached, plan) = match result {
            Ok(reached) => reached,
            Err(error) => {
                self.conclude_failure(lease, &error).await;
                return Err(error);
            }
        };
        let hash = self.state.hash()?;
        let good = lease.head().good.as_ref();
        let is_recorded = good.is_some_and(|good| good.state_hash.as_ref() == Some(&hash));
        let mut number = lease.head().last.as_ref().map(|last| last.number);
        if !self.changed.is_empty() || !is_recorded || lease.killed().is_some() {
            number = Some(lease.number());
            // What was seen through to its end is good, whatever comes behind it.
            let record = self.record(&lease, Ok(&reached))?;
            let state = self.state.to_json()?;
            lease.record(record, Some(state), true).await.map_err(say_unrecorded)?;
            tokio::select! {
                biased;
                _ = hold.signalled() => {
                    self.report.warn("the new version runs, and what is no longer wanted stays");
                }
                () = self.clean_up(&plan, &lease) => {}
            }
        }
        release_lock(lease, self.report).await;
        self.end_phase();
        let status = match self.changed.is_empty() {
            true => Status::Unchanged,
            false => Status::Deployed,
        };
        Ok(Outcome {
            url: reached.url,
            revision: Some(reached.revision),
            previous_revision: self.previous_revision,
            changed: self.changed,
            record: number,
            phases: self.phases,
            ..Outcome::new(status, T::NAME, &self.request.wanted.image, self.started.elapsed())
        })
    }

    /// Records a failure, a Ctrl-C as well, and frees the lock: the clean-up of a run that ends
    /// early. What changed nothing and was never begun is not recorded: a refusal is no deploy. What
    /// cannot be recorded is said; the failure itself is what the run ends with.
    async fn conclude_failure(&self, lease: Lease, error: &Error) {
        let changed_nothing = is_refusal(error) && !self.written.any();
        if !changed_nothing || lease.killed().is_some() {
            let recorded = match self.record(&lease, Err(error)) {
                Ok(record) => lease.record(record, None, false).await,
                Err(error) => Err(error),
            };
            if let Err(failure) = recorded {
                self.report.warn(format!("the ledger lacks how this run ended: {failure}"));
                return;
            }
            let number = lease.number();
            self.report.note(|course| course.record = Some(number));
        }
        release_lock(lease, self.report).await;
    }

    /// Removes leftovers, while the lock is held. What runs is good, so a failure is only said.
    async fn clean_up(&self, plan: &T::Plan, lease: &Lease) {
        let permit = Permit::new(lease, now() + self.request.intent.timeout);
        if let Err(error) = self.target.clean_up(plan, permit).await {
            self.report
                .warn(format!("the new version runs, and what is no longer wanted stays: {error}"));
        }
    }

    /// The record of this run, as far as the run knows it.
    fn record(&self, lease: &Lease, end: Result<&Reached, &Error>) -> Result<Record> {
        let config_hash = &self.request.config_hash;
        let reached = end.as_ref().ok();
        let codes = end.err().map(|error| {
            let of_causes = error.causes.iter().filter_map(|cause| cause.code);
            let codes: BTreeSet<Code> = of_causes.chain(error.code).collect();
            codes.into_iter().map(CauseCode::Known).collect()
        });
        Ok(Record {
            result: end.map_or_else(result_of, |_| RecordResult::Deployed),
            phases: self.phases.clone(),
            causes: codes.unwrap_or_default(),
            config_hash: Some(config_hash.clone()),
            state_hash: Some(self.state.hash()?),
            url: reached.and_then(|reached| reached.url.clone()),
            changed: self.changed.clone(),
            revision: reached.map(|reached| reached.revision.clone()),
            ..lease.draft_record()
        })
    }

    /// Begins a phase: whoever looks at the lock sees how far this run is.
    fn enter(&mut self, phase: Phase, lease: &Lease) {
        if self.phase.0 == phase {
            return;
        }
        self.end_phase();
        lease.set_phase(phase);
        self.phase = (phase, now());
    }

    fn end_phase(&mut self) {
        let (phase, since) = self.phase;
        let seconds = round_seconds(since.elapsed());
        self.report.phase(phase.word(), seconds);
        self.phases.push(PhaseTime { name: phase, seconds });
    }
}

/// Reports what is done, or would be.
fn show_changes(changes: &[Change], plan_only: bool, report: &Report) {
    let mut shown = String::new();
    for change in changes {
        let verb = match (change.action, plan_only) {
            (Action::Create, true) => "would create",
            (Action::Update, true) => "would update",
            (Action::Delete, true) => "would delete",
            (Action::Create, false) => "create",
            (Action::Update, false) => "update",
            (Action::Delete, false) => "delete",
        };
        let lines = change.details.iter().map(|detail| format!("    {detail}"));
        for line in std::iter::once(format!("{verb} {}", change.object)).chain(lines) {
            report.detail(&line);
            shown.push_str(&line);
            shown.push('\n');
        }
    }
    report.note(|course| course.plan = shown);
}

fn changed_objects(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| change.object.clone()).collect()
}

#[expect(clippy::disallowed_methods, reason = "deadlines and times of phases start here")]
pub fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "when a run was, and whether a preview is over, is told by this clock"
)]
pub fn timestamp() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests;
