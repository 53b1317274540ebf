//! Holding the lock: a task renews it until the run is closed, or the lease is dropped.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::Ledger;
use super::driver::{Driver, Ending, Moment, NewerThan};
use super::head::Head;
use super::lock::{Holder, Lock, renewal_interval, writing_time};
use super::protocol::{Command, End, Event};
use super::record::{Phase, Record, RecordResult, Run};
use super::state::StateHash;
use crate::error::{Code, Error, Kind, Result};
use crate::retry::policy::random_share;

/// Pause before a request is sent again whose answer was lost; longer each time.
const DOUBT_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_DOUBT_PAUSE: Duration = Duration::from_secs(4);

/// On what terms the lock is asked for.
#[derive(Clone, Copy)]
pub struct AcquireTerms<'a> {
    /// Whether this run is known to be newer than that one: then its release is waited for.
    pub newer_than: NewerThan<'a>,
    /// Nothing is waited for any longer.
    pub deadline: Instant,
}

/// The lock, held. It is renewed until [`Lease::release`]; dropping it leaves
/// the lock to expire, and the next run records this one as killed.
pub struct Lease {
    ledger: Ledger,
    run: Run,
    number: u64,
    head: Head,
    killed: Option<Record>,
    wishes: mpsc::Sender<Wish>,
    phase: watch::Sender<Phase>,
    standing: watch::Receiver<Standing>,
    task: JoinHandle<()>,
}

/// Tells whether a run may write, wherever it is asked: before each try of a write too, as a retry
/// may come when the lock is another's.
#[derive(Clone, Debug)]
pub struct Guard {
    place: String,
    term: Duration,
    standing: watch::Receiver<Standing>,
}

impl Guard {
    /// Whether this run may write, now.
    ///
    /// # Errors
    /// Superseded, when another run took the lock over. Unexpected with `ledger-unavailable`, when
    /// this one could not renew it for two thirds of its term: another one may have it by now.
    pub fn check(&self) -> Result<()> {
        match &*self.standing.borrow() {
            Standing::Taken(holder) => Err(taken_over(&self.place, holder.as_deref())),
            Standing::Renewed(start) => {
                let passed = start.elapsed();
                if passed < writing_time(self.term) {
                    return Ok(());
                }
                let message = format!(
                    "cannot write in {}: the lock was last renewed {} seconds ago",
                    self.place,
                    passed.as_secs()
                );
                Err(Error::unexpected(message)
                    .code(Code::LedgerUnavailable)
                    .why("another run may hold the lock by now")
                    .fix("run again once the ledger can be reached"))
            }
        }
    }

    /// As [`Guard::check`], and waits until `deadline` for a lock that could not be renewed: the
    /// store may be back in a moment.
    ///
    /// # Errors
    /// Superseded, when another run took the lock over; timed out with `ledger-unavailable`.
    pub async fn wait(&self, deadline: Instant) -> Result<()> {
        let mut standing = self.standing.clone();
        loop {
            standing.mark_unchanged();
            let error = match self.check() {
                Err(error) if error.kind == Kind::Unexpected => error,
                ended => return ended,
            };
            match tokio::time::timeout_at(deadline.into(), standing.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(error),
                Err(_) => return Err(Error { kind: Kind::TimedOut, ..error }),
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How the lease stands.
#[derive(Clone, Debug)]
enum Standing {
    /// Renewed last by a write that began then.
    Renewed(Moment),
    /// Another run has it.
    Taken(Option<Box<Holder>>),
}

enum Wish {
    Record { ending: Box<Ending>, good: bool, answer: oneshot::Sender<Result<()>> },
    Release { answer: oneshot::Sender<Result<()>> },
}

impl Wish {
    fn into_answer(self) -> oneshot::Sender<Result<()>> {
        match self {
            Wish::Record { answer, .. } | Wish::Release { answer } => answer,
        }
    }
}

/// Takes the lock.
pub async fn acquire(ledger: &Ledger, run: Run, terms: AcquireTerms<'_>) -> Result<Lease> {
    let mut driver = Driver::new(ledger.clone(), run.clone(), random_id()?);
    let mut command = driver.step(Event::Begin);
    loop {
        let event = match command {
            Command::Hold => return Ok(start(driver, run)),
            Command::End(end) => return Err(refuse(&driver, end)),
            Command::Pause => pause(&driver, terms.deadline).await,
            Command::Read(key) => {
                rest(&driver).await;
                driver.read(key, terms.newer_than).await?
            }
            Command::Write(ref write) => driver.write(write).await?,
        };
        command = driver.step(event);
    }
}

pub fn random_id() -> Result<u128> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Error::unexpected("cannot get random bytes from the system"))?;
    Ok(u128::from_ne_bytes(bytes))
}

#[expect(clippy::disallowed_methods, reason = "waiting ends at the caller's deadline")]
async fn pause(driver: &Driver, deadline: Instant) -> Event {
    let poll = driver.ledger.poll();
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Event::Late;
    }
    tokio::time::sleep(poll.min(left)).await;
    Event::Woke
}

/// Lets a store rest whose last answer was lost.
async fn rest(driver: &Driver) {
    let doubts = u32::from(driver.machine.doubts());
    if doubts > 0 {
        let pause = DOUBT_PAUSE.saturating_mul(2_u32.saturating_pow(doubts - 1));
        let pause = pause.min(LONGEST_DOUBT_PAUSE).min(driver.ledger.poll() * 4);
        tokio::time::sleep(pause.mul_f64(0.5 + random_share() / 2.0)).await;
    }
}

/// Begins to renew.
fn start(driver: Driver, run: Run) -> Lease {
    let killed = driver.machine.killed().iter().max().copied();
    let killed = driver.records.iter().find(|record| Some(record.number) == killed).cloned();
    let start = driver.lease_start().unwrap_or_else(Moment::now);
    let (standing_sender, standing) = watch::channel(Standing::Renewed(start));
    let (phase, phase_receiver) = watch::channel(Phase::Lock);
    let (wishes, wish_receiver) = mpsc::channel(1);
    let (ledger, number) = (driver.ledger.clone(), driver.machine.number());
    let head = driver.head.clone();
    let keeper =
        Keeper { driver, wishes: wish_receiver, phase: phase_receiver, standing: standing_sender };
    let task = tokio::spawn(keeper.keep());
    Lease { ledger, run, number, head, killed, wishes, phase, standing, task }
}

impl Lease {
    /// The head as it was read under the lock.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The record of the last run that ended without a word, if there was one since the head was
    /// written last.
    pub fn killed(&self) -> Option<&Record> {
        self.killed.as_ref()
    }

    /// The number of the record that this run will write.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// A record of this run, with what is known of it at its start.
    pub fn draft_record(&self) -> Record {
        let (service, environment) = self.ledger.names();
        Record {
            number: self.number,
            service: service.to_string(),
            environment: environment.to_string(),
            run: self.run.clone(),
            result: RecordResult::Failed,
            ..Record::default()
        }
    }

    /// What tells whether this run may write.
    pub fn guard(&self) -> Guard {
        Guard {
            place: self.ledger.place().to_string(),
            term: self.ledger.term(),
            standing: self.standing.clone(),
        }
    }

    /// Notes the phase; it is written with the next renewal.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Writes the state, the record and the head. Number, service, environment, hash of the state,
    /// previous record and fence are filled in. The lock is held on, for what is left to clean up.
    ///
    /// # Errors
    /// Superseded, when the lock was taken over: then nothing was written. Refused with
    /// `ledger-unavailable`, when the store did not answer for too long: the lock is left to
    /// expire.
    pub async fn record(&self, record: Record, state: Option<Vec<u8>>, good: bool) -> Result<()> {
        let state = state.map(|json| {
            let hash = StateHash::of(&json);
            (json, hash)
        });
        let ending = Box::new(Ending { record, state });
        self.wish(|answer| Wish::Record { ending, good, answer }).await
    }

    /// Releases the lock, of a run that is recorded or changed nothing.
    ///
    /// # Errors
    /// Refused with `ledger-unavailable`, when the store did not answer for too long: the lock is
    /// left to expire.
    pub async fn release(self) -> Result<()> {
        self.wish(|answer| Wish::Release { answer }).await
    }

    async fn wish(&self, wish: impl FnOnce(oneshot::Sender<Result<()>>) -> Wish) -> Result<()> {
        let (answer, receiver) = oneshot::channel();
        let sent = self.wishes.send(wish(answer)).await.is_ok();
        match receiver.await {
            Ok(result) if sent => result,
            _ => Err(Error::unexpected("cannot close the ledger: its task ended")),
        }
    }
}

/// The task that renews.
struct Keeper {
    driver: Driver,
    wishes: mpsc::Receiver<Wish>,
    phase: watch::Receiver<Phase>,
    standing: watch::Sender<Standing>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut command = Command::Hold;
        let (mut answer, mut wish): (Option<oneshot::Sender<Result<()>>>, _) = (None, None);
        loop {
            // Who holds the lock looks for as long as it takes whether a renewal landed, unless the
            // run is over.
            if wish.is_none() {
                wish = self.wishes.try_recv().ok();
            }
            if wish.is_some() {
                self.driver.machine.wish_to_end();
            }
            let event = match command {
                Command::Hold => {
                    // Back from the record.
                    if let Some(answer) = answer.take() {
                        let _ = answer.send(Ok(()));
                    }
                    match self.hold(wish.take()).await {
                        Some((event, asked)) => {
                            answer = asked;
                            event
                        }
                        None => return,
                    }
                }
                Command::End(end) => {
                    let asked = wish.map(Wish::into_answer);
                    return self.finish(end, answer.or(asked)).await;
                }
                Command::Pause => Event::Late,
                Command::Read(key) => {
                    rest(&self.driver).await;
                    let found = self.driver.read(key, &|_| false).await;
                    found.unwrap_or_else(|error| self.note(error, Event::Unreadable))
                }
                Command::Write(ref write) => {
                    self.driver.phase = *self.phase.borrow();
                    let written = self.driver.write(write).await;
                    // Even a denial may pass: credentials are renewed, and a policy is mended.
                    written.unwrap_or_else(|error| self.note(error, Event::Doubtful))
                }
            };
            command = self.driver.step(event);
            if let Some(start) = self.driver.lease_start() {
                self.standing.send_replace(Standing::Renewed(start));
            }
        }
    }

    fn note(&mut self, error: Error, event: Event) -> Event {
        self.driver.trouble = Some(error);
        event
    }

    /// Waits until it is time to renew, or for the run's end. `None`: the lease was dropped.
    async fn hold(
        &mut self,
        wish: Option<Wish>,
    ) -> Option<(Event, Option<oneshot::Sender<Result<()>>>)> {
        if let Some(wish) = wish {
            return Some(self.grant(wish));
        }
        let ledger = &self.driver.ledger;
        let interval = renewal_interval(ledger.term());
        let passed = self.driver.lease_start().map_or(interval, |start| start.elapsed());
        // A renewal that did not get through is sent again soon.
        let pause = interval.saturating_sub(passed).max(ledger.poll().min(interval) / 2);
        tokio::select! {
            () = tokio::time::sleep(pause) => Some((Event::Renew, None)),
            wish = self.wishes.recv() => Some(self.grant(wish?)),
        }
    }

    fn grant(&mut self, wish: Wish) -> (Event, Option<oneshot::Sender<Result<()>>>) {
        match wish {
            Wish::Record { ending, good, answer } => {
                let state = ending.state.is_some();
                self.driver.ending = Some(*ending);
                (Event::Close { good, state }, Some(answer))
            }
            Wish::Release { answer } => (Event::Release, Some(answer)),
        }
    }

    /// Says how it ended: to whoever asked for the end, or will.
    async fn finish(mut self, end: End, answer: Option<oneshot::Sender<Result<()>>>) {
        let holder = self.driver.seen.as_ref().and_then(|(lock, _)| lock.holder.clone());
        if end == End::Fenced {
            self.standing.send_replace(Standing::Taken(holder.clone().map(Box::new)));
        }
        let answer = match answer {
            Some(answer) => answer,
            None => match self.wishes.recv().await {
                Some(wish) => wish.into_answer(),
                None => return,
            },
        };
        let result = match end {
            End::Closed | End::Released => Ok(()),
            End::Fenced | End::Held | End::Frozen => {
                Err(taken_over(&self.driver.ledger.place(), holder.as_ref()))
            }
            End::Unreachable => Err(unreachable_store(&self.driver)),
        };
        // Nobody waits any more where the lease was dropped.
        let _ = answer.send(result);
    }
}

fn refuse(driver: &Driver, end: End) -> Error {
    match end {
        End::Frozen => frozen(driver),
        End::Held => held(driver),
        End::Fenced | End::Closed | End::Released => {
            let holder = driver.seen.as_ref().and_then(|(lock, _)| lock.holder.as_ref());
            taken_over(&driver.ledger.place(), holder)
        }
        End::Unreachable => unreachable_store(driver),
    }
}

fn held(driver: &Driver) -> Error {
    let message = format!("cannot lock {}: another run holds it", driver.ledger.place());
    let error = Error::new(Kind::Superseded, message).code(Code::LockHeld);
    let Some((lock, modified)) = &driver.seen else { return error };
    let (why, url) = match (&lock.holder, &lock.released_by) {
        (Some(holder), _) => (describe_holder(lock, holder, *modified), holder.run.run.url.clone()),
        (None, Some(holder)) => {
            let why = format!("{} released it just now", holder.describe());
            (why, holder.run.run.url.clone())
        }
        (None, None) => ("it was released just now".to_string(), None),
    };
    let fix = match url {
        Some(url) => format!("wait for {url}, then run again if this version is still wanted"),
        None => "wait for it, then run again if this version is still wanted".to_string(),
    };
    error.why(why).fix(fix)
}

fn describe_holder(lock: &Lock, holder: &Holder, modified: jiff::Timestamp) -> String {
    format!(
        "{} deploys {} since {}; its lock lasts until {} and is renewed",
        holder.describe(),
        holder.run.version,
        holder.since,
        lock.end(modified)
    )
}

fn frozen(driver: &Driver) -> Error {
    let message = format!("cannot deploy to {}: it is frozen", driver.ledger.place());
    let error = Error::new(Kind::Superseded, message).code(Code::Frozen);
    let Some(freeze) = &driver.freeze else { return error };
    let since = freeze.since;
    let why =
        format!("{} froze it on {since} until {}: {}", freeze.who, freeze.until, freeze.reason);
    error.why(why).fix(format!("wait until {}, or ask {} to unlock it", freeze.until, freeze.who))
}

fn taken_over(place: &str, holder: Option<&Holder>) -> Error {
    let message = format!("cannot go on in {place}: another run took the lock over");
    let why = match holder {
        Some(holder) => format!("{} has it since {}", holder.describe(), holder.since),
        None => "the lock was released by another run".to_string(),
    };
    Error::new(Kind::Superseded, message)
        .code(Code::LockHeld)
        .why(why)
        .fix("run again if this version is still wanted: this run stood still for too long")
}

fn unreachable_store(driver: &Driver) -> Error {
    match &driver.trouble {
        Some(error) => error.clone(),
        None => {
            let message = format!("cannot write the ledger of {}", driver.ledger.place());
            Error::refused(message)
                .code(Code::LedgerUnavailable)
                .why("other writes came in between each time")
                .fix("run again")
        }
    }
}
