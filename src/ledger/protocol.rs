//! The lock's protocol as a state machine: from an answer of the store to the next thing to ask of
//! it. Pure.
//!
//! The machine knows numbers and nonces only. `driver.rs` turns its commands into objects and
//! requests; `model.rs` drives the same machine through every order of answers, delays and crashes.
//!
//! One rule covers all doubt: a write whose answer is lost, or who lost a race, is followed by a
//! read, and the nonce in the object says whose write landed.

use super::nonce::Nonce;

/// How often in a row a write may be in doubt before a run gives up. A holder between two writes
/// never does: it renews on, and its lease lapses by itself.
const MOST_DOUBTS: u8 = 6;

/// What the protocol knows of `lock.json`. Runs are named by the numbers of their records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockMark {
    pub fence: u64,
    pub nonce: Nonce,
    pub holder: Option<u64>,
    pub unclosed: Vec<u64>,
}

/// What the protocol knows of `head.json`. Number 0 stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HeadMark {
    pub fence: u64,
    pub nonce: Nonce,
    pub last: u64,
    pub good: u64,
}

/// What the protocol knows of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordMark {
    pub nonce: Nonce,
    pub fence: u64,
    pub good: bool,
    pub killed: bool,
}

/// A lock as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeenLock {
    pub mark: LockMark,
    /// Its term is over by the store's clock, or its holder is a process that ended.
    pub over: bool,
    /// This run is known to be newer than the one that holds it, or released it last.
    pub newer: bool,
}

/// An object of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    Lock,
    Head,
    Freezes,
    Record(u64),
    /// The state that this run leaves.
    State,
}

/// A conditional write. `replaces` names the content that must be there; `None`: nothing may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    Lock { mark: LockMark, replaces: Option<Nonce> },
    Head { mark: HeadMark, replaces: Option<Nonce> },
    Record { number: u64, mark: RecordMark },
    State,
}

impl Write {
    pub fn key(&self) -> Key {
        match self {
            Write::Lock { .. } => Key::Lock,
            Write::Head { .. } => Key::Head,
            Write::Record { number, .. } => Key::Record(*number),
            Write::State => Key::State,
        }
    }
}

/// What the machine is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The lock is wanted.
    Begin,
    Lock(Option<SeenLock>),
    Head(Option<HeadMark>),
    Freezes {
        frozen: bool,
    },
    Record(Option<RecordMark>),
    /// A read of the machine's failed for good.
    Unreadable,
    Written,
    /// The condition of the write did not hold.
    Lost,
    /// Nobody knows whether the write landed, or will.
    Doubtful,
    /// The pause is over.
    Woke,
    /// The pause is over, and so is the time for waiting.
    Late,
    /// Time to renew.
    Renew,
    /// How the run ended is to be recorded. The lock is kept until [`Event::Release`]. `good`: what
    /// it brought is a way back for later runs.
    Close {
        good: bool,
        state: bool,
    },
    /// The run is at its end: recorded, or without a record if it changed nothing.
    Release,
}

/// What the machine wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    Read(Key),
    Write(Write),
    /// Wait for the next look at a lock that another run holds.
    Pause,
    /// The lock is held, before the record and after it: wait for the next renewal, or for the
    /// run's end.
    Hold,
    End(End),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Another run holds the lock and is alive, or was there meanwhile.
    Held,
    /// A person froze the environment.
    Frozen,
    /// The lock was taken over: nothing more may be written.
    Fenced,
    /// The store did not answer for too long.
    Unreachable,
    /// The record is written.
    Closed,
    /// The lock is free again, without a record.
    Released,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Acquire,
    /// Records of runs that ended without a word are written.
    Recover,
    Held,
    Close(Closing),
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Closing {
    State,
    Record,
    Head,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Awaiting {
    Begin,
    Answer(Key),
    Outcome(Write),
    /// The read after a write that was lost or in doubt.
    LookUp(Write),
    Pause,
    Wish,
    Nothing,
}

/// Whether a lease that began with this write to the lock has not lapsed by now.
pub type Fresh<'a> = &'a dyn Fn(Nonce) -> bool;

/// One run's part in the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    run: u128,
    writes: u32,
    stage: Stage,
    pending: Awaiting,
    doubts: u8,
    /// How often in a row a write may be in doubt.
    patience: u8,
    /// The run waits for its end: a holder in doubt gives up like everybody else.
    ends: bool,
    /// The lock's content at the first look; the inner `None` if there was no lock.
    first: Option<Option<Nonce>>,
    /// Waits for the release, as it is newer than the run that was last seen to hold the lock.
    waits: bool,
    lock: Option<LockMark>,
    head: Option<HeadMark>,
    number: u64,
    fence: u64,
    /// Runs whose records are still to be written.
    unclosed: Vec<u64>,
    /// What the head says once those records are in it.
    recovered: (u64, u64),
    killed: Vec<u64>,
    good: bool,
    /// The record and the head are written.
    recorded: bool,
}

impl Machine {
    /// `run` is a random number of this run's own.
    pub fn new(run: u128) -> Machine {
        Machine {
            run,
            writes: 0,
            stage: Stage::Acquire,
            pending: Awaiting::Begin,
            doubts: 0,
            patience: MOST_DOUBTS,
            ends: false,
            first: None,
            waits: false,
            lock: None,
            head: None,
            number: 0,
            fence: 0,
            unclosed: Vec::new(),
            recovered: (0, 0),
            killed: Vec::new(),
            good: false,
            recorded: false,
        }
    }

    /// The same, giving up after fewer doubts: what happens then is reached by a short way.
    #[cfg(test)]
    pub fn with_patience(self, patience: u8) -> Machine {
        Machine { patience, ..self }
    }

    /// The number of the record that this run will write, once it holds the lock.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The runs without a record that this one found, once it holds the lock.
    pub fn killed(&self) -> &[u64] {
        &self.killed
    }

    /// Whether the run is recorded: what is left is to release the lock.
    #[cfg(test)]
    pub fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// How many writes in a row were in doubt.
    pub fn doubts(&self) -> u8 {
        self.doubts
    }

    /// Says that the run is over and waits for the answer to a renewal: from here on the doubts are
    /// counted anew, and their number is bounded.
    pub fn wish_to_end(&mut self) {
        if !self.ends {
            (self.ends, self.doubts) = (true, 0);
        }
    }

    /// The content of the lock by which this run holds it: the lease counts from the start of that
    /// write. `None` if it does not hold the lock, or is about to release it.
    pub fn lease(&self) -> Option<Nonce> {
        let lock = self.lock.as_ref()?;
        let holds = lock.nonce.run == self.run && lock.holder == Some(self.number);
        let keeps = match self.stage {
            Stage::Acquire | Stage::Release => false,
            Stage::Recover | Stage::Held | Stage::Close(_) => true,
        };
        (holds && keeps).then_some(lock.nonce)
    }

    /// Takes an event and returns what to do next.
    pub fn step(&mut self, event: Event, fresh: Fresh<'_>) -> Command {
        let awaiting = std::mem::replace(&mut self.pending, Awaiting::Nothing);
        match (awaiting, event) {
            (Awaiting::Begin, Event::Begin) | (Awaiting::Pause, Event::Woke) => {
                self.read(Key::Lock)
            }
            (Awaiting::Pause, Event::Late) => self.end(End::Held),
            (Awaiting::Answer(Key::Lock), Event::Lock(seen)) => self.judge_lock(seen),
            (Awaiting::Answer(Key::Head), Event::Head(head)) => {
                self.head = head;
                self.read(Key::Freezes)
            }
            (Awaiting::Answer(Key::Freezes), Event::Freezes { frozen: true }) => {
                self.end(End::Frozen)
            }
            (Awaiting::Answer(Key::Freezes), Event::Freezes { frozen: false }) => self.take_lock(),
            (Awaiting::Outcome(write), Event::Written) => self.settle_write(write, fresh),
            // A state is named by its content: whoever wrote it wrote the same.
            (Awaiting::Outcome(Write::State), Event::Lost) => {
                self.settle_write(Write::State, fresh)
            }
            (Awaiting::Outcome(write), Event::Lost) => self.look_up(write),
            // A state is just written again, under a lease that stands.
            (Awaiting::Outcome(Write::State), Event::Doubtful) => match self.count_doubt() {
                None => self.go_on(fresh),
                Some(command) => command,
            },
            (Awaiting::Outcome(write), Event::Doubtful)
            | (Awaiting::LookUp(write), Event::Unreadable) => match self.count_doubt() {
                None => self.look_up(write),
                Some(command) => command,
            },
            (Awaiting::LookUp(write), Event::Lock(seen)) => self.resolve_lock(write, seen, fresh),
            (Awaiting::LookUp(write), Event::Head(head)) => self.resolve_head(write, head, fresh),
            (Awaiting::LookUp(write), Event::Record(record)) => {
                self.resolve_record(write, record, fresh)
            }
            (Awaiting::Wish, Event::Renew) => self.renew(),
            (Awaiting::Wish, Event::Close { good, state }) => {
                self.good = good;
                self.stage = Stage::Close(if state { Closing::State } else { Closing::Record });
                self.go_on(fresh)
            }
            (Awaiting::Wish, Event::Release) => {
                self.stage = Stage::Release;
                self.go_on(fresh)
            }
            (awaiting, event) => {
                debug_assert!(false, "{event:?} while {awaiting:?}");
                self.end(End::Unreachable)
            }
        }
    }

    fn read(&mut self, key: Key) -> Command {
        self.pending = Awaiting::Answer(key);
        Command::Read(key)
    }

    fn write(&mut self, write: Write) -> Command {
        self.pending = Awaiting::Outcome(write.clone());
        Command::Write(write)
    }

    /// Looks which write landed.
    fn look_up(&mut self, write: Write) -> Command {
        let key = write.key();
        self.pending = Awaiting::LookUp(write);
        Command::Read(key)
    }

    fn pause(&mut self) -> Command {
        self.pending = Awaiting::Pause;
        Command::Pause
    }

    fn hold(&mut self) -> Command {
        self.stage = Stage::Held;
        self.pending = Awaiting::Wish;
        Command::Hold
    }

    fn end(&mut self, end: End) -> Command {
        self.pending = Awaiting::Nothing;
        Command::End(end)
    }

    fn next_nonce(&mut self) -> Nonce {
        self.writes += 1;
        Nonce { run: self.run, write: self.writes }
    }

    fn is_own(&self, nonce: Nonce) -> bool {
        nonce.run == self.run
    }

    /// Counts a write in doubt; returns the end if it was one too many.
    fn count_doubt(&mut self) -> Option<Command> {
        self.doubts = self.doubts.saturating_add(1);
        if self.doubts <= self.patience || (self.stage == Stage::Held && !self.ends) {
            return None;
        }
        Some(self.end(if self.has_record() { End::Closed } else { End::Unreachable }))
    }

    /// Whether the record is written. Whoever takes the lock over then finds it, and sets the head
    /// right.
    fn has_record(&self) -> bool {
        self.recorded || self.stage == Stage::Close(Closing::Head)
    }

    /// Decides on a lock that this run does not hold.
    fn judge_lock(&mut self, seen: Option<SeenLock>) -> Command {
        let nonce = seen.as_ref().map(|seen| seen.mark.nonce);
        let changed = *self.first.get_or_insert(nonce) != nonce;
        let held = seen.as_ref().is_some_and(|seen| seen.mark.holder.is_some());
        let over = seen.as_ref().is_some_and(|seen| seen.over);
        self.waits = match &seen {
            Some(seen) if changed || held => seen.newer,
            _ => self.waits,
        };
        self.lock = seen.map(|seen| seen.mark);
        match (held, over) {
            (true, true) => self.read(Key::Head),
            (false, _) if !changed || self.waits => self.read(Key::Head),
            (false, _) => self.end(End::Held),
            (true, false) if changed && !self.waits => self.end(End::Held),
            (true, false) => self.pause(),
        }
    }

    /// Writes the lock as this run's, in the place of the one that was judged.
    fn take_lock(&mut self) -> Command {
        let head = self.head.unwrap_or_default();
        let (fence, holder, mut unclosed) = match &self.lock {
            Some(lock) => (lock.fence, lock.holder, lock.unclosed.clone()),
            None => (0, None, Vec::new()),
        };
        unclosed.extend(holder);
        self.number = unclosed.iter().copied().max().unwrap_or(0).max(head.last) + 1;
        self.fence = fence.max(head.fence) + 1;
        let mark = LockMark {
            fence: self.fence,
            nonce: self.next_nonce(),
            holder: Some(self.number),
            unclosed,
        };
        let replaces = self.lock.as_ref().map(|lock| lock.nonce);
        self.write(Write::Lock { mark, replaces })
    }

    /// Writes the lock anew as it is, so that its term begins again.
    fn renew(&mut self) -> Command {
        let unclosed = match (self.stage, &self.lock) {
            (Stage::Recover, Some(lock)) => lock.unclosed.clone(),
            _ => Vec::new(),
        };
        self.write_own_lock(Some(self.number), unclosed)
    }

    fn write_own_lock(&mut self, holder: Option<u64>, unclosed: Vec<u64>) -> Command {
        let mark = LockMark { fence: self.fence, nonce: self.next_nonce(), holder, unclosed };
        let replaces = self.lock.as_ref().map(|lock| lock.nonce);
        self.write(Write::Lock { mark, replaces })
    }

    /// Goes on with what this stage has to write. A lease that lapsed is renewed first.
    fn go_on(&mut self, fresh: Fresh<'_>) -> Command {
        match self.stage {
            Stage::Acquire => self.read(Key::Lock),
            Stage::Held => self.hold(),
            Stage::Release => self.write_own_lock(None, Vec::new()),
            _ if !self.lease().is_some_and(fresh) => self.renew(),
            Stage::Recover => self.recover(),
            Stage::Close(Closing::State) => self.write(Write::State),
            Stage::Close(Closing::Record) => {
                let nonce = self.next_nonce();
                let mark = RecordMark { nonce, fence: self.fence, good: self.good, killed: false };
                self.write(Write::Record { number: self.number, mark })
            }
            Stage::Close(Closing::Head) => {
                let good = if self.good { self.number } else { self.head.unwrap_or_default().good };
                self.write_head(self.number, good)
            }
        }
    }

    fn write_head(&mut self, last: u64, good: u64) -> Command {
        let mark = HeadMark { fence: self.fence, nonce: self.next_nonce(), last, good };
        let replaces = self.head.map(|head| head.nonce);
        self.write(Write::Head { mark, replaces })
    }

    /// Writes the next record of a run that ended without a word, then the head. The new head also
    /// keeps out a write of that run which is still on its way.
    fn recover(&mut self) -> Command {
        let head = self.head.unwrap_or_default();
        self.unclosed.retain(|number| *number > head.last);
        match self.unclosed.first() {
            Some(number) => {
                let number = *number;
                let nonce = self.next_nonce();
                let mark = RecordMark { nonce, fence: self.fence, good: false, killed: true };
                self.write(Write::Record { number, mark })
            }
            None if self.recovered.0 > head.last => {
                let (last, good) = self.recovered;
                self.write_head(last, good.max(head.good))
            }
            None => self.hold(),
        }
    }

    /// Notes a record that exists now, and goes on with the next.
    fn note_recovered(&mut self, number: u64, record: RecordMark, fresh: Fresh<'_>) -> Command {
        if record.killed {
            self.killed.push(number);
        }
        self.recovered.0 = self.recovered.0.max(number);
        if record.good {
            self.recovered.1 = self.recovered.1.max(number);
        }
        self.unclosed.retain(|other| *other != number);
        self.go_on(fresh)
    }

    /// Goes on after a write that landed.
    fn settle_write(&mut self, write: Write, fresh: Fresh<'_>) -> Command {
        self.doubts = 0;
        match (write, self.stage) {
            (Write::Lock { mark, .. }, stage) => {
                self.lock = Some(mark);
                match stage {
                    Stage::Acquire => {
                        self.unclosed =
                            self.lock.as_ref().map_or(Vec::new(), |lock| lock.unclosed.clone());
                        (self.first, self.waits) = (None, false);
                        self.stage = Stage::Recover;
                        self.go_on(fresh)
                    }
                    Stage::Release if self.recorded => self.end(End::Closed),
                    Stage::Release => self.end(End::Released),
                    Stage::Recover | Stage::Held | Stage::Close(_) => self.go_on(fresh),
                }
            }
            (Write::Head { mark, .. }, stage) => {
                self.head = Some(mark);
                if stage == Stage::Close(Closing::Head) {
                    (self.recorded, self.stage) = (true, Stage::Held);
                }
                self.go_on(fresh)
            }
            (Write::Record { number, mark }, Stage::Recover) => {
                self.note_recovered(number, mark, fresh)
            }
            (Write::Record { .. }, _) => {
                self.stage = Stage::Close(Closing::Head);
                self.go_on(fresh)
            }
            (Write::State, _) => {
                self.stage = Stage::Close(Closing::Record);
                self.go_on(fresh)
            }
        }
    }

    /// Ends a run whose lock another one has.
    fn end_fenced(&mut self) -> Command {
        match self.stage {
            _ if self.has_record() => self.end(End::Closed),
            Stage::Release => self.end(End::Released),
            _ => self.end(End::Fenced),
        }
    }

    /// Judges a write to the lock that was lost or in doubt by what stands there now.
    fn resolve_lock(&mut self, write: Write, seen: Option<SeenLock>, fresh: Fresh<'_>) -> Command {
        let Write::Lock { mark, replaces } = write else {
            return self.end(End::Unreachable);
        };
        let nonce = seen.as_ref().map(|seen| seen.mark.nonce);
        let own = nonce.is_some_and(|nonce| self.is_own(nonce));
        match seen {
            // This write, or an earlier one of this run that landed late and means the same.
            Some(seen) if own && nonce != replaces && seen.mark.holder == mark.holder => {
                self.settle_write(Write::Lock { mark: seen.mark, replaces }, fresh)
            }
            // An earlier renewal that landed late, while the lock is to be released.
            Some(seen) if own && nonce != replaces => {
                self.lock = Some(seen.mark);
                self.go_on(fresh)
            }
            seen if nonce == replaces => self.repeat_lock(seen, fresh),
            seen if self.stage == Stage::Acquire => self.judge_lock(seen),
            _ => self.end_fenced(),
        }
    }

    /// Goes on where a write to the lock left no trace: it may still land, and then its repetition
    /// will not.
    fn repeat_lock(&mut self, seen: Option<SeenLock>, fresh: Fresh<'_>) -> Command {
        match self.stage {
            // The next renewal is the repetition.
            Stage::Held => self.hold(),
            Stage::Acquire => match self.count_doubt() {
                Some(command) => command,
                None => {
                    self.lock = seen.map(|seen| seen.mark);
                    self.take_lock()
                }
            },
            _ => match self.count_doubt() {
                Some(command) => command,
                None => self.go_on(fresh),
            },
        }
    }

    fn resolve_head(&mut self, write: Write, seen: Option<HeadMark>, fresh: Fresh<'_>) -> Command {
        let Write::Head { mark, replaces } = write else {
            return self.end(End::Unreachable);
        };
        let last = seen.map_or(0, |seen| seen.last);
        match seen {
            Some(seen) if self.is_own(seen.nonce) && seen.last == mark.last => {
                self.settle_write(Write::Head { mark: seen, replaces }, fresh)
            }
            // The dead run's own head landed after all, or the run that took over wrote it.
            Some(seen) if last >= mark.last => {
                self.settle_write(Write::Head { mark: seen, replaces }, fresh)
            }
            seen => match self.count_doubt() {
                Some(command) => command,
                None => {
                    self.head = seen;
                    self.go_on(fresh)
                }
            },
        }
    }

    fn resolve_record(
        &mut self,
        write: Write,
        seen: Option<RecordMark>,
        fresh: Fresh<'_>,
    ) -> Command {
        let Write::Record { number, .. } = write else {
            return self.end(End::Unreachable);
        };
        match (seen, self.stage) {
            (None, _) => match self.count_doubt() {
                Some(command) => command,
                None => self.go_on(fresh),
            },
            (Some(seen), Stage::Recover) => {
                self.doubts = 0;
                self.note_recovered(number, seen, fresh)
            }
            (Some(seen), _) if self.is_own(seen.nonce) => {
                let write = Write::Record { number, mark: seen };
                self.settle_write(write, fresh)
            }
            (Some(_), _) => self.end(End::Fenced),
        }
    }
}
