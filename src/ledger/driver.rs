//! Carries out the protocol's commands: numbers and nonces become objects, and answers events.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::freeze::{Freeze, Freezes};
use super::head::Head;
use super::lock::{Holder, Lock, writing_time};
use super::nonce::Nonce;
use super::protocol::{Command, Event, Key, LockMark, Machine, RecordMark, SeenLock, Write};
use super::record::{FORMAT, Phase, Record, RecordResult, Run};
use super::state::{StateHash, compress_state};
use super::store::{Condition, ETag, Outcome, Reading};
use super::{Ledger, key_of};
use crate::error::{Code, Error, Result};

/// Decides whether this run is newer than the one that holds the lock.
pub type NewerThan<'a> = &'a (dyn Fn(&Holder) -> bool + Sync);

/// A moment by two clocks of this machine. The monotonic one stands still while a machine sleeps,
/// and the other may be set: the longer of both is what has passed at most.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    #[expect(
        clippy::disallowed_methods,
        reason = "a lease counts from the start of its last renewal, by this machine's clocks"
    )]
    pub fn now() -> Moment {
        Moment { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    pub fn elapsed(&self) -> Duration {
        let now = Moment::now();
        let monotonic = now.monotonic.saturating_duration_since(self.monotonic);
        monotonic.max(now.wall.duration_since(self.wall).unwrap_or_default())
    }
}

/// What a run leaves at its end.
pub struct Ending {
    pub record: Record,
    /// The state's JSON and its hash.
    pub state: Option<(Vec<u8>, StateHash)>,
}

/// See the module.
pub struct Driver {
    pub ledger: Ledger,
    pub machine: Machine,
    run: Run,
    pub phase: Phase,
    /// The contents that were read or written last.
    etags: HashMap<Key, (Nonce, ETag)>,
    /// When each of this run's writes to the lock began.
    starts: HashMap<Nonce, Moment>,
    /// The store's time at its last answer, and when that came.
    clock: Option<(Timestamp, Moment)>,
    /// When this run took the lock, by the store's clock.
    since: Timestamp,
    /// The lock that was read last, and when it was written.
    pub seen: Option<(Lock, Timestamp)>,
    pub freeze: Option<Freeze>,
    holders: Vec<Holder>,
    pub head: Head,
    /// The records of other runs that were read or written, and this run's own.
    pub records: Vec<Record>,
    pub ending: Option<Ending>,
    /// Why the last request failed.
    pub trouble: Option<Error>,
}

impl Driver {
    pub fn new(ledger: Ledger, run: Run, id: u128) -> Driver {
        Driver {
            ledger,
            machine: Machine::new(id),
            run,
            phase: Phase::Lock,
            etags: HashMap::new(),
            starts: HashMap::new(),
            clock: None,
            since: Timestamp::UNIX_EPOCH,
            seen: None,
            freeze: None,
            holders: Vec::new(),
            head: Head::default(),
            records: Vec::new(),
            ending: None,
            trouble: None,
        }
    }

    /// Tells the machine an event.
    pub fn step(&mut self, event: Event) -> Command {
        let (starts, limit) = (&self.starts, writing_time(self.ledger.term()));
        let fresh = |nonce: Nonce| starts.get(&nonce).is_some_and(|start| start.elapsed() < limit);
        self.machine.step(event, &fresh)
    }

    /// When the write began by which this run holds the lock.
    pub fn lease_start(&self) -> Option<Moment> {
        self.starts.get(&self.machine.lease()?).copied()
    }

    /// Reads what the machine wants to know.
    ///
    /// # Errors
    /// Refused, when the store does not answer or an object cannot be understood.
    pub async fn read(&mut self, key: Key, newer_than: NewerThan<'_>) -> Result<Event> {
        let name = key_of(&self.ledger, key);
        let Reading { object, now } = self.ledger.store().get(&name).await?;
        self.clock = Some((now, Moment::now()));
        let (bytes, etag, modified) = match object {
            Some(object) => (Some(object.bytes), object.etag, object.modified),
            None => (None, ETag(String::new()), now),
        };
        let place = self.ledger.store().describe(&name);
        let bytes = bytes.as_deref();
        let (event, nonce) = match key {
            Key::Lock => {
                let lock: Option<Lock> = parse_object(&place, bytes)?;
                let nonce = lock.as_ref().map(|lock| lock.nonce);
                (Event::Lock(self.note_lock(lock, modified, now, newer_than)), nonce)
            }
            Key::Head => {
                let head: Option<Head> = parse_object(&place, bytes)?;
                let mark = head.as_ref().map(Head::mark);
                self.head = head.unwrap_or_default();
                (Event::Head(mark), mark.map(|mark| mark.nonce))
            }
            Key::Freezes => {
                let freezes: Option<Freezes> = parse_object(&place, bytes)?;
                let freezes = freezes.unwrap_or_default();
                let found = self.ledger.freeze_in_force(&freezes, now);
                self.freeze = found;
                (Event::Freezes { frozen: self.freeze.is_some() }, None)
            }
            Key::Record(_) => {
                let record: Option<Record> = parse_object(&place, bytes)?;
                let mark = record.as_ref().map(mark_record);
                self.records.extend(record);
                (Event::Record(mark), None)
            }
            Key::State => {
                return Err(Error::unexpected("cannot read a state before it is written"));
            }
        };
        match nonce {
            Some(nonce) => self.etags.insert(key, (nonce, etag)),
            None => self.etags.remove(&key),
        };
        Ok(event)
    }

    /// Notes what a lock says, and returns what the machine needs to know of it.
    fn note_lock(
        &mut self,
        lock: Option<Lock>,
        modified: Timestamp,
        now: Timestamp,
        newer_than: NewerThan<'_>,
    ) -> Option<SeenLock> {
        let mut lock = lock?;
        lock.over = self.ledger.is_over(&lock, modified, now);
        let other = lock.holder.as_ref().or(lock.released_by.as_ref());
        let seen =
            SeenLock { mark: lock.mark(), over: lock.over, newer: other.is_some_and(newer_than) };
        let found = lock.holder.iter().chain(&lock.unclosed).cloned();
        self.holders = found.collect();
        self.seen = Some((lock, modified));
        Some(seen)
    }

    /// Carries out a write of the machine's.
    ///
    /// # Errors
    /// Refused, when it is certain that nothing was written and would be.
    pub async fn write(&mut self, write: &Write) -> Result<Event> {
        let key = write.key();
        let (bytes, nonce, replaces) = match write {
            Write::Lock { mark, replaces } => {
                self.starts.entry(mark.nonce).or_insert_with(Moment::now);
                let lock = self.compose_lock(mark)?;
                (to_json(&lock)?, mark.nonce, *replaces)
            }
            Write::Head { mark, replaces } => {
                let head = self.head.advanced(mark, &self.records);
                let head = head.ok_or_else(|| Error::unexpected("cannot write the head"))?;
                (to_json(&head)?, mark.nonce, *replaces)
            }
            Write::Record { number, mark } => {
                let record = self.compose_record(*number, mark)?;
                let bytes = to_json(&record)?;
                self.records.retain(|other| other.number != *number);
                self.records.push(record);
                (bytes, mark.nonce, None)
            }
            Write::State => {
                let state = self.ending.as_ref().and_then(|ending| ending.state.as_ref());
                let (json, _) = state
                    .ok_or_else(|| Error::unexpected("cannot write a state: there is none"))?;
                (compress_state(json)?, Nonce::default(), None)
            }
        };
        let condition = match replaces {
            None => Condition::Absent,
            Some(replaces) => match self.etags.get(&key) {
                Some((nonce, etag)) if *nonce == replaces => Condition::Match(etag.clone()),
                // What is to be replaced was not read: the look that follows reads it.
                _ => return Ok(Event::Lost),
            },
        };
        let name = match (key, &self.ending) {
            (Key::State, Some(Ending { state: Some((_, hash)), .. })) => {
                self.ledger.state_key(hash)
            }
            _ => key_of(&self.ledger, key),
        };
        let outcome = self.ledger.store().put(&name, bytes, &condition).await?;
        Ok(match outcome {
            Outcome::Written(etag) => {
                self.etags.insert(key, (nonce, etag));
                if let Write::Head { mark, .. } = write
                    && let Some(head) = self.head.advanced(mark, &self.records)
                {
                    self.head = head;
                }
                Event::Written
            }
            Outcome::Lost => {
                if let Write::Record { number, .. } = write {
                    self.records.retain(|record| record.number != *number);
                }
                Event::Lost
            }
            Outcome::Doubtful(error) => {
                self.trouble = Some(error);
                Event::Doubtful
            }
        })
    }

    /// The store's time by now: what it said last, and what has passed since on this machine.
    pub fn reckon_time(&self) -> Timestamp {
        let Some((time, moment)) = &self.clock else { return Timestamp::UNIX_EPOCH };
        let passed = SignedDuration::try_from(moment.elapsed()).unwrap_or_default();
        time.checked_add(passed).unwrap_or(*time)
    }

    fn compose_lock(&mut self, mark: &LockMark) -> Result<Lock> {
        let number = self.machine.number();
        let now = self.reckon_time();
        if self.since == Timestamp::UNIX_EPOCH {
            self.since = now;
        }
        let own = Holder {
            number,
            run: self.run.clone(),
            since: self.since,
            phase: self.phase,
            process: self.ledger.process().cloned(),
        };
        let mut known = vec![own.clone()];
        known.extend(self.holders.iter().filter(|holder| holder.number != number).cloned());
        let term = self.ledger.term();
        let lock = Lock::of(mark, &known, term);
        let mut lock = lock.ok_or_else(|| Error::unexpected("cannot write the lock"))?;
        match mark.holder {
            Some(_) => lock.expires = Some(lock.end(now)),
            None => lock.released_by = Some(own),
        }
        if let Some((seen, _)) = &self.seen {
            lock.other = seen.other.clone();
        }
        Ok(lock)
    }

    fn compose_record(&self, number: u64, mark: &RecordMark) -> Result<Record> {
        let (service, environment) = self.ledger.names();
        let record = match mark.killed {
            true => {
                let holder = self.holders.iter().find(|holder| holder.number == number);
                let now = self.reckon_time();
                holder.map(|holder| holder.killed_record(service, environment, now))
            }
            false => self.ending.as_ref().map(|ending| ending.record.clone()),
        };
        let record = record.ok_or_else(|| Error::unexpected("cannot write a record"))?;
        let state_hash = self.ending.as_ref().and_then(|ending| ending.state.as_ref());
        let state_hash = match mark.killed {
            true => None,
            false => state_hash.map(|(_, hash)| hash.clone()).or(record.state_hash.clone()),
        };
        Ok(Record {
            format: FORMAT,
            number,
            service: service.to_string(),
            environment: environment.to_string(),
            previous: number.checked_sub(1).filter(|previous| *previous > 0),
            state_hash,
            good: mark.good,
            fence: mark.fence,
            nonce: mark.nonce,
            ..record
        })
    }
}

fn mark_record(record: &Record) -> RecordMark {
    RecordMark {
        nonce: record.nonce,
        fence: record.fence,
        good: record.good,
        killed: record.result == RecordResult::Killed,
    }
}

/// Objects whose form has a version.
pub trait Formed {
    fn format(&self) -> u32;
}

impl Formed for Lock {
    fn format(&self) -> u32 {
        self.format
    }
}
impl Formed for Head {
    fn format(&self) -> u32 {
        self.format
    }
}
impl Formed for Freezes {
    fn format(&self) -> u32 {
        self.format
    }
}
impl Formed for Record {
    fn format(&self) -> u32 {
        self.format
    }
}

/// Understands an object that is to be written later.
///
/// # Errors
/// Refused, when it is no such object, or of a later version of this program.
pub fn parse_object<T: DeserializeOwned + Formed>(
    place: &str,
    bytes: Option<&[u8]>,
) -> Result<Option<T>> {
    let Some(object) = read_json::<T>(place, bytes)? else { return Ok(None) };
    if object.format() > FORMAT {
        let message = format!("cannot go on from {place}: a later version of cicd wrote it");
        let why = format!("its format is {}, and this version knows {FORMAT}", object.format());
        let fix = "use the version of clinicult/cicd that the service's other workflows use";
        return Err(Error::refused(message).code(Code::LedgerUnavailable).why(why).fix(fix));
    }
    Ok(Some(object))
}

/// Reads an object's JSON.
///
/// # Errors
/// Refused, when it is no such object.
pub fn read_json<T: DeserializeOwned>(place: &str, bytes: Option<&[u8]>) -> Result<Option<T>> {
    let Some(bytes) = bytes else { return Ok(None) };
    serde_json::from_slice(bytes).map(Some).map_err(|error| {
        Error::refused(format!("cannot understand {place}"))
            .code(Code::LedgerUnavailable)
            .why(&error)
            .fix(format!("restore the version of {place} before it was edited by hand"))
            .source(error)
    })
}

/// An object as it is stored: JSON that people can read.
pub fn to_json(object: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(object)
        .map_err(|error| Error::unexpected("cannot write JSON").why(error))?;
    bytes.push(b'\n');
    Ok(bytes)
}
