//! One deploy, in phases over a record of the ledger: lock, migrate, apply, watch, verify, record.
//!
//! The engine owns the run's state and hands it to a stateless [`Target`]. Whatever ends the run (a
//! failure, a signal (Ctrl-C), a lost lock) ends in a record and a released lock.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::outcome::{Outcome, Status, round_seconds};
use super::target::{
    Goal, Good, Permit, Plan as _, RolledBack, State, Target, Verdict, Written as _,
};
use super::{Action, Change};
use crate::error::{Code, Error, Kind, Result};
use crate::interrupt::{Hold, Interrupt};
use crate::ledger::{
    AcquireTerms, CauseCode, Head, HeadEntry, Holder, Lease, Ledger, Phase, PhaseTime, Record,
    RecordKind, RecordResult, Run, RunLink,
};
use crate::report::Report;

/// How many looks in a row may fail before the deploy does.
const BLIND_LOOKS: u32 = 5;

/// How long a signal lets an acquisition of the lock go on, so that the lock is not left behind.
const SIGNAL_GRACE: Duration = Duration::from_secs(2);

/// What is to be deployed.
pub struct DeployRequest<'a, D> {
    pub wanted: State<D>,
    /// The hash of the wanted state without the image.
    pub config_hash: String,
    pub intent: Intent<'a>,
}

/// Who deploys, why, and how long it may take.
pub struct Intent<'a> {
    pub kind: RecordKind,
    pub link: RunLink,
    pub who: String,
    pub commit: Option<String>,
    /// An event started it, and not a person: such a run may be older than what is deployed.
    pub is_automatic: bool,
    pub reason: Option<String>,
    /// Bound on the way in, and anew on the way back.
    pub timeout: Duration,
    /// Only show what would change.
    pub plan_only: bool,
    pub is_ancestor: &'a Ancestry<'a>,
    pub interrupt: &'a Interrupt,
}

/// Whether the first commit is an ancestor of the second. `None` when nobody can tell.
pub type Ancestry<'a> = dyn Fn(&str, &str) -> Option<bool> + Sync + 'a;

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
    let lease = acquire_lock::<T>(ledger, request, &hold, started).await?;
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
        result = run.run_phases(&lease, ledger) => result,
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
    let goal = make_goal::<T>(request, &head, ledger, report).await?;
    let plan = target.plan(&goal, target.observe(&goal).await?)?;
    Ok(Outcome {
        plan: show_changes(plan.changes(), true, report),
        revision: plan.previous_revision(),
        previous_revision: plan.previous_revision(),
        changed: changed_objects(plan.changes()),
        ..Outcome::new(Status::Planned, T::NAME, &request.wanted.image, started.elapsed())
    })
}

/// Acquires the lock; refuses an older run. A signal waits a moment for the answer, so that the lock
/// is released and not left to expire.
async fn acquire_lock<T: Target>(
    ledger: &Ledger,
    request: &DeployRequest<'_, T::Documents>,
    hold: &Hold,
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
                lease.release().await?;
            }
            return Err(signal.error());
        }
        lease = &mut acquiring => lease?,
    };
    if let Err(error) = refuse_older(&ours, &request.intent, lease.head()) {
        lease.release().await?;
        return Err(error);
    }
    Ok(lease)
}

/// What the ledger says of this run.
fn describe_run<D>(target: &str, request: &DeployRequest<'_, D>) -> Run {
    let (intent, image) = (&request.intent, &request.wanted.image);
    Run {
        kind: intent.kind,
        target: target.to_string(),
        version: image.version.clone(),
        digest: image.digest.clone(),
        commit: intent.commit.clone(),
        who: intent.who.clone(),
        run: intent.link.clone(),
        reason: intent.reason.clone(),
        started: timestamp(),
        pipeline_version: crate::cli::VERSION.to_string(),
    }
}

/// Orders two runs: by their commits where one contains the other, else by the run numbers of one
/// workflow. `None` when neither says anything. Pure but for `is_ancestor`.
fn compare_runs(ours: &Run, theirs: &Run, is_ancestor: &Ancestry<'_>) -> Option<Ordering> {
    if let (Some(our_commit), Some(their_commit)) = (&ours.commit, &theirs.commit)
        && our_commit != their_commit
    {
        if is_ancestor(our_commit, their_commit) == Some(true) {
            return Some(Ordering::Less);
        }
        if is_ancestor(their_commit, our_commit) == Some(true) {
            return Some(Ordering::Greater);
        }
    }
    let (ours, theirs) = (&ours.run, &theirs.run);
    let is_same_workflow = ours.workflow.is_some()
        && (&ours.workflow, &ours.repository) == (&theirs.workflow, &theirs.repository);
    let order = ours.number?.cmp(&theirs.number?);
    is_same_workflow.then_some(order)
}

/// Refuses a run whose commit or number is older than that of the last record. A person who starts
/// a deploy by hand, a rollback and a promotion say themselves what they want.
fn refuse_older(ours: &Run, intent: &Intent<'_>, head: &Head) -> Result<()> {
    let Some(last) = head.last.as_ref() else { return Ok(()) };
    if !intent.is_automatic || intent.kind != RecordKind::Deploy {
        return Ok(());
    }
    if compare_runs(ours, &last.run, intent.is_ancestor) != Some(Ordering::Less) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Superseded,
        format!(
            "cannot deploy {}: a newer run deployed {} before (record {})",
            ours.version, last.run.version, last.number
        ),
    )
    .code(Code::OlderRun)
    .why(match &last.run.run.url {
        Some(url) => format!("the newer one is {url}, by {}", last.run.who),
        None => format!("{} started the newer one", last.run.who),
    })
    .fix(
        "do nothing if that is right; to go back on purpose: `cicd rollback --to VERSION`, or start \
         the deploy by hand (workflow_dispatch)",
    ))
}

/// The objects that differ from `wanted`.
///
/// # Errors
/// As the target refuses.
pub async fn read_drift<T: Target>(target: &T, wanted: State<T::Documents>) -> Result<Vec<String>> {
    let goal = Goal { wanted, good: None, adopts: false, migrates: false };
    let plan = target.plan(&goal, target.observe(&goal).await?)?;
    Ok(changed_objects(plan.changes()))
}

/// What the run is to reach, with the last good state from the ledger.
async fn make_goal<T: Target>(
    request: &DeployRequest<'_, T::Documents>,
    head: &Head,
    ledger: Option<&Ledger>,
    report: &Report,
) -> Result<Goal<T::Documents>> {
    let good = match (ledger, &head.good) {
        (Some(ledger), Some(entry)) => read_good::<T>(ledger, entry, report).await?,
        _ => None,
    };
    Ok(Goal {
        wanted: request.wanted.clone(),
        good,
        adopts: head.last.is_none(),
        migrates: request.intent.kind != RecordKind::Rollback,
    })
}

/// The last good state. One that is lost, or that this version cannot read, is no way back, and no
/// reason to stop.
async fn read_good<T: Target>(
    ledger: &Ledger,
    entry: &HeadEntry,
    report: &Report,
) -> Result<Option<Good<T::Documents>>> {
    let Some(hash) = &entry.state_hash else { return Ok(None) };
    let state = match ledger.find_state(hash).await? {
        Some(json) => State::from_json(&json, T::NAME),
        None => Err(Error::refused(format!("the ledger has no state {hash} any more"))),
    };
    Ok(match state {
        Ok(state) => Some(Good { state, revision: entry.revision.clone() }),
        Err(error) => {
            report.warn(format!(
                "this deploy has no way back to {} (record {}): {error}",
                entry.run.version, entry.number
            ));
            None
        }
    })
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
    /// The phase that goes on, and since when.
    phase: (Phase, Instant),
    /// Those that are over.
    phases: Vec<PhaseTime>,
    /// What is being waited for, in the words last said.
    waits_for: String,
}

/// What the way in reached.
struct Reached {
    url: Option<String>,
    revision: String,
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
            phase: (Phase::Lock, started),
            phases: Vec::new(),
            waits_for: String::new(),
        }
    }

    /// Observes and plans, then goes forward; rolls back when that fails after something was
    /// written.
    async fn run_phases(&mut self, lease: &Lease, ledger: &Ledger) -> Result<(Reached, T::Plan)> {
        let goal = make_goal::<T>(self.request, lease.head(), Some(ledger), self.report).await?;
        let deadline = self.started + self.request.intent.timeout;
        let observing = self.target.observe(&goal);
        let facts =
            tokio::time::timeout_at(deadline.into(), observing).await.unwrap_or_else(|_| {
                let error = Error::new(Kind::TimedOut, "cannot see what runs: the time is over");
                Err(error.code(Code::DeadlineExceeded))
            });
        let plan = self.target.plan(&goal, facts?)?;
        show_changes(plan.changes(), false, self.report);
        if let Some(state) = self.target.planned_state(&plan) {
            self.state = state.clone();
        }
        self.changed = changed_objects(plan.changes());
        self.previous_revision = plan.previous_revision();
        match self.go_forward(&plan, lease).await {
            Ok(reached) => Ok((reached, plan)),
            // What runs is what ran before this run, so there is nothing to go back to. And what
            // somebody newer runs is not ours to undo.
            Err(error) if !self.written.any() || error.kind == Kind::Superseded => Err(error),
            Err(error) => Err(self.roll_back(&plan, lease, error).await),
        }
    }

    /// The phases migrate, apply, watch and verify, within the deadline.
    async fn go_forward(&mut self, plan: &T::Plan, lease: &Lease) -> Result<Reached> {
        let deadline = self.started + self.request.intent.timeout;
        let permit = Permit::new(lease, deadline);
        if !plan.changes().is_empty() {
            self.enter(Phase::Migrate, lease);
            self.target.migrate(plan, permit).await?;
            self.enter(Phase::Apply, lease);
            self.target.apply(plan, &mut self.written, permit).await?;
        }
        match tokio::time::timeout_at(deadline.into(), self.reach(plan, lease)).await {
            Ok(reached) => reached,
            Err(_) => Err(Error::new(
                Kind::TimedOut,
                format!("not ready after {} s", self.request.intent.timeout.as_secs()),
            )
            .code(Code::DeadlineExceeded)
            .why(std::mem::take(&mut self.waits_for))
            .fix("give it longer with --timeout, if it only needs time")),
        }
    }

    /// Watches until the new version is healthy, has it answer, and looks a last time: the end is
    /// told by what runs.
    async fn reach(&mut self, plan: &T::Plan, lease: &Lease) -> Result<Reached> {
        let mut memory = T::Memory::default();
        loop {
            self.enter(Phase::Watch, lease);
            let revision = self.watch(plan, &mut memory).await?;
            self.enter(Phase::Verify, lease);
            let url = self.target.verify(plan, &self.written).await?;
            match self.target.check_rollout(plan, &mut self.written, &mut memory).await {
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
    async fn watch(&mut self, plan: &T::Plan, memory: &mut T::Memory) -> Result<String> {
        let mut blind = 0;
        loop {
            match self.target.check_rollout(plan, &mut self.written, memory).await {
                Ok(Verdict::Healthy { revision }) => return Ok(revision),
                Ok(Verdict::Failed(causes)) => {
                    let error = Error::new(Kind::Broken, "the new version does not run");
                    return Err(error.causes(causes));
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
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(T::INTERVAL).await;
        }
    }

    /// Goes back to the last good version and says what that came to.
    async fn roll_back(&mut self, plan: &T::Plan, lease: &Lease, error: Error) -> Error {
        // The reason comes first, before the rollback takes its time.
        for cause in &error.causes {
            self.report.warn(format!("{}: {}", cause.object, cause.reason));
        }
        // A run that stood still may not undo what another one runs by now.
        if let Err(lost) = lease.check() {
            return describe_rollback(&self.request.wanted, error, Err(lost));
        }
        self.enter(Phase::Rollback, lease);
        // As long as the way in, counted anew: that one's time may be what was over.
        let deadline = now() + self.request.intent.timeout;
        let permit = Permit::new(lease, deadline);
        let rolling = self.target.roll_back(plan, &mut self.written, permit);
        let rolled_back =
            tokio::time::timeout_at(deadline.into(), rolling).await.unwrap_or_else(|_| {
                let seconds = self.request.intent.timeout.as_secs();
                Err(Error::new(Kind::Broken, format!("not back within {seconds} s")))
            });
        describe_rollback(&self.request.wanted, error, rolled_back)
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
        if self.changed.is_empty() && is_recorded && lease.killed().is_none() {
            lease.release().await?;
        } else {
            number = Some(lease.number());
            // What was seen through to its end is recorded, whatever comes in between.
            tokio::select! {
                biased;
                _ = hold.signalled() => {
                    self.report.warn("the new version runs, and what is no longer wanted stays");
                }
                () = self.clean_up(&plan, &lease) => {}
            }
            let record = self.record(&lease, Ok(&reached))?;
            let state = self.state.to_json()?;
            lease.close(record, Some(state), true).await.map_err(say_unrecorded)?;
        }
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

    /// Records a failure, unless it changed nothing and the plan was never begun: a refusal is no
    /// deploy. What cannot be recorded is said; the failure itself is what the run ends with.
    async fn conclude_failure(&self, lease: Lease, error: &Error) {
        let is_refusal = matches!(error.kind, Kind::Refused | Kind::Input);
        let ended = match is_refusal && !self.written.any() && lease.killed().is_none() {
            true => lease.release().await,
            false => match self.record(&lease, Err(error)) {
                Ok(record) => lease.close(record, None, false).await,
                Err(error) => Err(error),
            },
        };
        if let Err(failure) = ended {
            self.report.warn(format!("the ledger lacks how this run ended: {failure}"));
        }
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
            let mut codes: Vec<Code> = of_causes.chain(error.code).collect();
            codes.dedup();
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

/// The error of a run that was rolled back, or could not be.
fn describe_rollback<D>(wanted: &State<D>, error: Error, rolled_back: Result<RolledBack>) -> Error {
    let name = format!("{} {} in {}", wanted.service, wanted.image.version, wanted.environment);
    let failure = error.message.clone();
    match rolled_back {
        Ok(RolledBack::ToGood(revision)) => Error {
            kind: match error.kind {
                Kind::TimedOut => Kind::TimedOut,
                _ => Kind::RolledBack,
            },
            message: format!("{name}: {failure}; revision {revision} runs as before"),
            ..error
        },
        Ok(RolledBack::ToNothing(words)) => Error {
            kind: match error.kind {
                Kind::TimedOut => Kind::TimedOut,
                _ => Kind::Broken,
            },
            message: format!(
                "{name}: {failure}; there is no earlier version to go back to: {words}"
            ),
            ..error
        },
        Err(rollback) if rollback.kind == Kind::Superseded => Error {
            kind: Kind::Superseded,
            message: format!("{name}: {failure}; {}", rollback.message),
            fixes: [error.fixes, rollback.fixes].concat(),
            ..error
        },
        Err(rollback) => Error {
            kind: Kind::Broken,
            message: format!("{name}: {failure}; and the rollback failed: {rollback}"),
            fixes: [error.fixes, rollback.fixes].concat(),
            causes: [error.causes, rollback.causes].concat(),
            ..error
        },
    }
}

/// How a failed run stands in the ledger.
fn result_of(error: &Error) -> RecordResult {
    match error.kind {
        Kind::RolledBack => RecordResult::RolledBack,
        Kind::TimedOut => RecordResult::TimedOut,
        Kind::Superseded => RecordResult::Superseded,
        Kind::Interrupted | Kind::Terminated => RecordResult::Interrupted,
        _ => RecordResult::Failed,
    }
}

fn say_unrecorded(error: Error) -> Error {
    let kind = match error.kind {
        // Something was changed.
        Kind::Refused => Kind::Unexpected,
        kind => kind,
    };
    Error {
        kind,
        message: format!("the new version runs, but the ledger lacks it: {}", error.message),
        ..error
    }
    .fix("run the deploy again: it finds what runs and records it")
}

/// Reports what is done, or would be; gives the same lines.
fn show_changes(changes: &[Change], plan_only: bool, report: &Report) -> String {
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
    shown
}

fn changed_objects(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| change.object.clone()).collect()
}

#[expect(clippy::disallowed_methods, reason = "deadlines and times of phases start here")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "when a run was is a fact of its record")]
fn timestamp() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests;
