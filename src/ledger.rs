//! What was deployed, where, by whom, and who deploys right now: one truth for every target, in a
//! bucket or in a folder.
//!
//! `docs/ledger.md` describes the objects. The decisions are pure: [`protocol`] says what to ask of
//! the store next, and the objects' own modules what they mean.

pub mod drift;
pub mod driver;
pub mod freeze;
pub mod head;
pub mod keys;
pub mod lease;
pub mod lock;
pub mod nonce;
pub mod process;
pub mod protocol;
pub mod record;
pub mod state;
pub mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::aws::Session;
use crate::error::{Code, Error, Result};
use crate::report::Report;
use crate::retry::{self, Attempt, RetryPolicy};
pub use drift::Drift;
use driver::{parse_object, read_json, to_json};
pub use freeze::Freeze;
use freeze::{ALL_SERVICES, Freezes};
pub use head::{Head, HeadEntry};
pub use lease::{AcquireTerms, Guard, Lease};
pub use lock::{Holder, Lock};
use lock::{Process, TERM};
use nonce::Nonce;
use protocol::Key;
use record::FORMAT;
pub use record::{CauseCode, Phase, PhaseTime, Record, RecordKind, RecordResult, Run, RunLink};
pub use state::StateHash;
use store::folder::Folder;
use store::s3::Bucket;
use store::{Condition, Outcome, Reading, Store};

/// How often a lock is looked at that another run holds.
const POLL: Duration = Duration::from_secs(1);
/// How many records are read at a time.
const READERS: usize = 8;
/// The retries of persons who write at the same moment.
const FREEZING: RetryPolicy = RetryPolicy {
    attempts: 8,
    first_pause: Duration::from_millis(50),
    longest_pause: Duration::from_millis(400),
    jitter: 1.0,
};

/// What a ledger is of.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    pub service: &'a str,
    pub environment: &'a str,
    /// Where the environment is: `eks.CLUSTER.NAMESPACE`. An environment that moves to another
    /// cluster begins anew, as what runs there is another thing.
    pub destination: &'a str,
}

/// The ledger of one service in one environment. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<LedgerPlace>);

struct LedgerPlace {
    store: Store,
    service: String,
    environment: String,
    destination: String,
    term: Duration,
    process: Option<Process>,
}

impl Ledger {
    /// A ledger below a folder of this machine; it is created by the first write.
    pub fn in_folder(root: PathBuf, scope: &Scope<'_>) -> Ledger {
        let store = Store::Folder(Folder::new(root));
        Ledger::new(store, scope, process::find_this_process())
    }

    /// A ledger in a bucket, which the first write creates if it does not exist. Nothing is asked
    /// of S3 here.
    ///
    /// # Errors
    /// Bad input, when a name cannot be part of a key.
    pub async fn in_bucket(
        session: &Session,
        bucket: &str,
        region: &str,
        scope: &Scope<'_>,
        report: &Report,
    ) -> Result<Ledger> {
        for name in [scope.service, scope.environment, scope.destination] {
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '*']) {
                return Err(Error::input(format!("cannot keep a ledger of `{name}`"))
                    .why("it is part of the keys of S3 objects")
                    .fix("name it by lower-case letters, digits and `-`"));
            }
        }
        let store = Store::S3(Bucket::new(session, bucket, region, report));
        Ok(Ledger::new(store, scope, None))
    }

    fn new(store: Store, scope: &Scope<'_>, process: Option<Process>) -> Ledger {
        Ledger(Arc::new(LedgerPlace {
            store,
            service: scope.service.to_string(),
            environment: scope.environment.to_string(),
            destination: scope.destination.to_string(),
            term: TERM,
            process,
        }))
    }

    /// Takes the lock. While another run holds it: a run that is known to be newer waits for its
    /// release, any other run is refused as soon as the holder is seen to be alive, and takes the
    /// lock over once it is certain that it is not.
    ///
    /// # Errors
    /// Superseded with `lock-held` or `frozen`, saying who, where, since and until when. Refused
    /// with `ledger-unavailable`, when the store denies it or does not answer.
    pub async fn acquire(&self, run: Run, terms: AcquireTerms<'_>) -> Result<Lease> {
        lease::acquire(self, run, terms).await
    }

    /// The last record and the last good one; both empty before the first deploy.
    ///
    /// # Errors
    /// Refused with `ledger-unavailable`; the same holds for all that read.
    pub async fn read_head(&self) -> Result<Head> {
        let key = key_of(self, Key::Head);
        let reading = self.0.store.get(&key).await?;
        Ok(self.understand(&key, &reading)?.unwrap_or_default())
    }

    /// The lock as it stands. `None` before the first deploy.
    pub async fn read_lock(&self) -> Result<Option<Lock>> {
        let key = key_of(self, Key::Lock);
        let reading = self.0.store.get(&key).await?;
        let lock: Option<Lock> = self.understand(&key, &reading)?;
        let modified = reading.object.as_ref().map_or(reading.now, |object| object.modified);
        Ok(lock.map(|mut lock| {
            lock.over = self.is_over(&lock, modified, reading.now);
            lock
        }))
    }

    pub async fn read_record(&self, number: u64) -> Result<Option<Record>> {
        let key = key_of(self, Key::Record(number));
        let reading = self.0.store.get(&key).await?;
        self.understand(&key, &reading)
    }

    /// The last `limit` records, the newest first.
    pub async fn list_records(&self, limit: usize) -> Result<Vec<Record>> {
        let last = self.read_head().await?.mark().last;
        let limit_number = u64::try_from(limit).unwrap_or(u64::MAX);
        let prefix = keys::record_folder(&self.folder());
        // One that is not in the head yet is found too, as it comes after the others.
        let from = key_of(self, Key::Record(last.saturating_sub(limit_number)));
        let mut keys = self.0.store.list(&prefix, &from).await?;
        if keys.len() < limit && last > limit_number {
            keys = self.0.store.list(&prefix, "").await?;
        }
        let newest = keys.into_iter().rev().take(limit);
        let records = futures::stream::iter(newest).map(|key| async move {
            let reading = self.0.store.get(&key).await?;
            self.understand::<Record>(&key, &reading)
        });
        let records: Vec<Option<Record>> = records.buffered(READERS).try_collect().await?;
        Ok(records.into_iter().flatten().collect())
    }

    /// A state's JSON, which has the hash that names it. `None` when there is no such state.
    pub async fn find_state(&self, hash: &StateHash) -> Result<Option<Vec<u8>>> {
        let object = self.0.store.get(&self.state_key(hash)).await?.object;
        object.map(|object| state::open_state(&object.bytes, hash)).transpose()
    }

    /// Keeps the state that a run is to reach, before it writes anything that only the state names.
    ///
    /// # Errors
    /// Refused with `ledger-unavailable`, when the store does not take it.
    pub async fn keep_state(&self, json: &[u8]) -> Result<()> {
        let key = self.state_key(&StateHash::of(json));
        let compressed = state::compress_state(json)?;
        let put = || self.0.store.put(&key, compressed.clone(), &Condition::Absent);
        let outcome = match put().await? {
            // One that is there by now is the same.
            Outcome::Doubtful(_) => put().await?,
            outcome => outcome,
        };
        match outcome {
            Outcome::Written(_) | Outcome::Lost => Ok(()),
            Outcome::Doubtful(error) => Err(error),
        }
    }

    /// A state's JSON.
    ///
    /// # Errors
    /// Also refused when there is no such state.
    pub async fn read_state(&self, hash: &StateHash) -> Result<Vec<u8>> {
        self.find_state(hash).await?.ok_or_else(|| {
            let place = self.0.store.describe(&self.state_key(hash));
            Error::refused(format!("cannot find state {hash}"))
                .code(Code::LedgerUnavailable)
                .why(format!("{place} does not exist"))
                .fix("restore the object, or roll back to another record")
        })
    }

    /// The freeze that is in force, of this service or of all.
    pub async fn read_freeze(&self) -> Result<Option<Freeze>> {
        let reading = self.0.store.get(keys::FREEZES).await?;
        let freezes: Option<Freezes> = self.understand(keys::FREEZES, &reading)?;
        Ok(freezes.and_then(|freezes| self.freeze_in_force(&freezes, reading.now)))
    }

    /// Freezes this environment for this service, or for all. A freeze of the same name is
    /// replaced.
    ///
    /// # Errors
    /// Bad input, when its end has passed.
    pub async fn freeze(&self, freeze: Freeze, all_services: bool) -> Result<()> {
        let freeze = Freeze {
            service: self.freeze_name(all_services).to_string(),
            environment: self.0.environment.clone(),
            ..freeze
        };
        let changed = |freezes: &Freezes, now: Timestamp, nonce: Nonce| {
            let stands = freezes.freezes.contains(&freeze);
            (freeze.until > now && !stands).then(|| freezes.with(freeze.clone(), now, nonce))
        };
        let now = self.change_freezes(changed).await?;
        match freeze.until > now {
            true => Ok(()),
            false => {
                Err(Error::input(format!("cannot freeze {}: its end has passed", self.place()))
                    .why(format!("it ends {}, and it is {now}", freeze.until))
                    .fix("name an end that is to come"))
            }
        }
    }

    /// Ends the freeze of this service, or the one of all services, and returns it.
    pub async fn unfreeze(&self, all_services: bool) -> Result<Option<Freeze>> {
        let service = self.freeze_name(all_services);
        let ended = std::sync::Mutex::new(None);
        let changed = |freezes: &Freezes, now: Timestamp, nonce: Nonce| {
            let (rest, taken) = freezes.without(service, &self.0.environment, now, nonce);
            let taken = taken?;
            *ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(taken);
            Some(rest)
        };
        self.change_freezes(changed).await?;
        Ok(ended.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Changes the freezes until the change stands there. `None` of `change`: it does. Returns the
    /// store's time.
    async fn change_freezes(
        &self,
        change: impl Fn(&Freezes, Timestamp, Nonce) -> Option<Freezes>,
    ) -> Result<Timestamp> {
        let run = lease::random_id()?;
        retry::run_in_task(&FREEZING, |write| {
            let changing = self.change_freezes_once(&change, Nonce { run, write });
            async move {
                match changing.await {
                    Ok((now, None)) => Attempt::Done(now),
                    Ok((_, Some(why))) => Attempt::Retry { why, after: None },
                    Err(error) => Attempt::Refused(error),
                }
            }
        })
        .await
    }

    /// Reads and writes the freezes once. Returns the store's time, and why the write may not stand.
    async fn change_freezes_once(
        &self,
        change: impl Fn(&Freezes, Timestamp, Nonce) -> Option<Freezes>,
        nonce: Nonce,
    ) -> Result<(Timestamp, Option<Error>)> {
        let Reading { object, now } = self.0.store.get(keys::FREEZES).await?;
        let place = self.0.store.describe(keys::FREEZES);
        let bytes = object.as_ref().map(|object| object.bytes.as_slice());
        let freezes = parse_object::<Freezes>(&place, bytes)?.unwrap_or_default();
        let Some(changed) = change(&freezes, now, nonce) else { return Ok((now, None)) };
        let condition = match object {
            Some(object) => Condition::Match(object.etag),
            None => Condition::Absent,
        };
        Ok(match self.0.store.put(keys::FREEZES, to_json(&changed)?, &condition).await? {
            Outcome::Written(_) => (now, None),
            Outcome::Lost => {
                let why = "cannot write the freezes: others write them all the time";
                let error = Error::refused(why).code(Code::LedgerUnavailable).fix("run again");
                (now, Some(error))
            }
            // The next look says whether it landed.
            Outcome::Doubtful(error) => (now, Some(error)),
        })
    }

    /// Keeps what somebody saw to differ from the good record of a number, in place of what was seen
    /// before.
    ///
    /// # Errors
    /// Refused with `ledger-unavailable`.
    pub async fn keep_drift(
        &self,
        record: u64,
        who: String,
        differences: Vec<String>,
    ) -> Result<()> {
        let folder = keys::ledger_folder(&self.0.service, &self.0.environment, &self.0.destination);
        let key = keys::drift_key(&folder);
        let Reading { object, now: looked } = self.0.store.get(&key).await?;
        let condition = object.map_or(Condition::Absent, |object| Condition::Match(object.etag));
        let other = Default::default();
        let drift = Drift { format: FORMAT, record, looked, who, differences, other };
        match self.0.store.put(&key, to_json(&drift)?, &condition).await? {
            // Who was faster looked at the same moment.
            Outcome::Written(_) | Outcome::Lost => Ok(()),
            Outcome::Doubtful(error) => Err(error),
        }
    }

    fn freeze_name(&self, all_services: bool) -> &str {
        if all_services { ALL_SERVICES } else { &self.0.service }
    }

    fn freeze_in_force(&self, freezes: &Freezes, now: Timestamp) -> Option<Freeze> {
        freezes.in_force(&self.0.service, &self.0.environment, now).cloned()
    }

    /// Whether nobody holds the lock any more: its term is over by the store's clock, or its holder
    /// is a process of this machine that ended.
    fn is_over(&self, lock: &Lock, modified: Timestamp, now: Timestamp) -> bool {
        let holder = lock.holder.as_ref().and_then(|holder| holder.process.as_ref());
        let ended = match (holder, &self.0.process) {
            (Some(holder), Some(this)) => process::has_ended(holder, this),
            _ => false,
        };
        ended || lock.is_over(modified, now)
    }

    fn understand<T: serde::de::DeserializeOwned>(
        &self,
        key: &str,
        reading: &Reading,
    ) -> Result<Option<T>> {
        let bytes = reading.object.as_ref().map(|object| object.bytes.as_slice());
        read_json(&self.0.store.describe(key), bytes)
    }

    /// Where the ledgers of all services are.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    fn term(&self) -> Duration {
        self.0.term
    }

    /// How often a lock is looked at that another run holds.
    fn poll(&self) -> Duration {
        POLL.min(self.0.term / 4)
    }

    fn process(&self) -> Option<&Process> {
        self.0.process.as_ref()
    }

    fn names(&self) -> (&str, &str) {
        (&self.0.service, &self.0.environment)
    }

    /// For people: `patients in production`.
    fn place(&self) -> String {
        format!("{} in {}", self.0.service, self.0.environment)
    }

    /// What all its keys begin with.
    fn folder(&self) -> String {
        let LedgerPlace { service, environment, destination, .. } = &*self.0;
        keys::ledger_folder(service, environment, destination)
    }

    fn state_key(&self, hash: &StateHash) -> String {
        keys::state_key(&self.folder(), hash)
    }
}

/// The key of an S3 object of the protocol's. A state has a name of its own: [`Ledger::state_key`].
fn key_of(ledger: &Ledger, key: Key) -> String {
    match key {
        Key::Lock => format!("{}lock.json", ledger.folder()),
        Key::Head => keys::head_key(&ledger.folder()),
        Key::Freezes => keys::FREEZES.to_string(),
        Key::Record(number) => keys::record_key(&ledger.folder(), number),
        Key::State => format!("{}states/", ledger.folder()),
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
