//! Checks the lock's protocol: simulated runs drive the real [`Machine`] through every order of
//! their requests, with writes that land late or never, lost answers, crashes and expiries at every
//! step.
//!
//! Time is a count of ticks that may pass at any moment. A lease may be written under for one tick
//! less than a lock lasts, as in the real program for a third of the term less.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};

use super::nonce::Nonce;
use super::protocol::*;

/// Ticks after the start of a renewal at which the holder stops writing.
const LAPSE: u8 = 1;
/// Ticks after the last write to the lock at which others take it over.
const TERM: u8 = 2;

/// What is broken on purpose, to see that the check notices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    None,
    /// The store ignores `If-Match` on the lock.
    TakeOverUnconditionally,
    /// Every lock that is held looks expired.
    TakeOverBeforeExpiry,
    /// A new holder keeps the fencing number of the one before.
    FenceStays,
    /// The holder does not ask whether its lease lapsed.
    WriteUnchecked,
    /// A taker forgets whose lock it took.
    ForgetTheDead,
    /// The store overwrites a record that is there.
    RecordIsOverwritten,
}

/// How far a search goes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    name: &'static str,
    runs: u8,
    /// Renewals of each run; one that needs more is not looked at any further.
    renewals: u8,
    /// Writes whose answer is lost; each lands at once, later or never.
    lost: u8,
    /// Look-ups after a write that fail.
    unreadable: u8,
    /// Doubts in a row that a run gives up after.
    patience: u8,
    crashes: u8,
    /// A person may freeze the environment at any moment.
    freezes: bool,
    /// A run that closes leaves a state.
    states: bool,
    /// A run may want to end while it renews.
    wishes: bool,
    /// Each run is newer than those before it, and waits for them.
    newer: bool,
    /// A crashed run is seen to have ended before its term is over.
    same_machine: bool,
    /// What a run brings is good if its number among the runs is even.
    odd_is_bad: bool,
    /// Runs only close; without: they also release the lock unused, and tire of waiting.
    only_close: bool,
    /// A run reads at once what it wants to know: only writes interleave.
    quick_reads: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Stored {
    mark: LockMark,
    age: u8,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Simulated {
    machine: Machine,
    command: Command,
    /// Writes without an answer that may still land.
    flight: Vec<Write>,
    /// The ticks since the start of each write to the lock.
    starts: Vec<(Nonce, u8)>,
    alive: bool,
    crashed: bool,
    /// It renewed as often as the search looks at.
    stopped: bool,
    granted: bool,
    /// It had its first answer.
    began: bool,
    /// It reads what became of a write.
    looks_up: bool,
    /// It wanted to end before it could.
    wished: bool,
    renewals: u8,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    lock: Option<Stored>,
    head: Option<HeadMark>,
    records: BTreeMap<u64, RecordMark>,
    runs: Vec<Simulated>,
    lost: u8,
    unreadable: u8,
    crashes: u8,
    /// The highest fencing number that a lock ever had, and that a run was granted.
    fence: u64,
    granted: u64,
}

/// One transition: which run, and what happened.
type Label = (u8, &'static str);

#[derive(Default)]
struct Found {
    states: usize,
    transitions: usize,
    /// What was seen on the way, so that a search that reaches nothing does not pass.
    reached: BTreeSet<&'static str>,
}

struct Search {
    bounds: Bounds,
    mutation: Mutation,
    found: Found,
}

impl World {
    fn new(bounds: Bounds) -> World {
        let run = |number: u8| Simulated {
            machine: Machine::new(u128::from(number)).with_patience(bounds.patience),
            command: Command::Pause,
            flight: Vec::new(),
            starts: Vec::new(),
            alive: true,
            crashed: false,
            stopped: false,
            granted: false,
            began: false,
            looks_up: false,
            wished: false,
            renewals: bounds.renewals,
        };
        World {
            lock: None,
            head: None,
            records: BTreeMap::new(),
            runs: (0..bounds.runs).map(run).collect(),
            lost: bounds.lost,
            unreadable: bounds.unreadable,
            crashes: bounds.crashes,
            fence: 0,
            granted: 0,
        }
    }
}

fn is_fresh(starts: &[(Nonce, u8)], nonce: Nonce) -> bool {
    starts.iter().any(|(other, age)| *other == nonce && *age < LAPSE)
}

impl Simulated {
    /// Whether it may write by its own reckoning.
    fn has_lease(&self) -> bool {
        let lease = self.machine.lease();
        self.alive && lease.is_some_and(|nonce| is_fresh(&self.starts, nonce))
    }
}

impl Search {
    /// Goes through all states; returns what went wrong and the way there.
    fn explore(&mut self) -> Result<(), String> {
        let mut start = World::new(self.bounds);
        for run in 0..start.runs.len() {
            self.tell(&mut start, run, Event::Begin)?;
        }
        let mut ways: HashMap<u64, (u64, Label)> = HashMap::new();
        let first = fingerprint(&start);
        ways.insert(first, (first, (0, "start")));
        let mut waiting = vec![(first, start)];
        while let Some((from, world)) = waiting.pop() {
            self.found.states += 1;
            for (label, next) in self.list_transitions(&world) {
                self.found.transitions += 1;
                let checked = next.and_then(|next| self.check_state(&next).map(|()| next));
                let next = checked.map_err(|wrong| {
                    format!("{wrong}, after {}", describe_way(&ways, first, from, label))
                })?;
                let next = forget_the_past(next);
                let key = fingerprint(&next);
                if let std::collections::hash_map::Entry::Vacant(entry) = ways.entry(key) {
                    entry.insert((from, label));
                    waiting.push((key, next));
                }
            }
        }
        Ok(())
    }

    fn check_state(&self, world: &World) -> Result<(), String> {
        let holders = world.runs.iter().filter(|run| run.has_lease()).count();
        if holders > 1 {
            return Err("two runs hold the lock".into());
        }
        for (number, run) in world.runs.iter().enumerate() {
            // Before it writes to a target, a run asks whether its lease lapsed, and only that.
            let unchecked = self.mutation == Mutation::WriteUnchecked;
            let writes = run.alive && run.command == Command::Hold;
            if writes && (run.has_lease() || unchecked) && !owns_lock(world, number) {
                return Err("a run that was fenced out writes to the target".into());
            }
        }
        Ok(())
    }

    fn list_transitions(&mut self, world: &World) -> Vec<(Label, Result<World, String>)> {
        let mut list = Vec::new();
        let aging = world.lock.as_ref().is_some_and(|lock| lock.age < TERM)
            || world.runs.iter().flat_map(|run| &run.starts).any(|(_, age)| *age < LAPSE);
        if aging {
            let mut next = world.clone();
            if let Some(lock) = &mut next.lock {
                lock.age = (lock.age + 1).min(TERM);
            }
            for (_, age) in next.runs.iter_mut().flat_map(|run| &mut run.starts) {
                *age = (*age + 1).min(LAPSE);
            }
            list.push(((0, "time passes"), Ok(next)));
        }
        for (number, run) in world.runs.iter().enumerate() {
            let mut add = |what, next| {
                let label = (u8::try_from(number).unwrap_or(u8::MAX), what);
                list.push((label, next));
            };
            for index in 0..run.flight.len() {
                let mut next = world.clone();
                let write = next.runs[number].flight.remove(index);
                add("a write lands late", self.land(&mut next, &write).map(|_| next));
            }
            // Runs that are alike begin in their order: another one is the same, renamed.
            let waits = number > 0 && self.is_at_start(world, number - 1) && !self.bounds.newer;
            if !run.alive || waits {
                continue;
            }
            if world.crashes > 0 && run.began {
                let crash = |mut next: World| {
                    next.crashes -= 1;
                    next.runs[number].alive = false;
                    next.runs[number].crashed = true;
                    next
                };
                add("crashes", Ok(crash(world.clone())));
                if let Command::Write(write) = &run.command {
                    let mut next = crash(world.clone());
                    next.runs[number].flight.push(write.clone());
                    add("crashes with a write on its way", Ok(next));
                }
            }
            let is_busy = matches!(run.command, Command::Read(_) | Command::Write(_));
            if self.bounds.wishes && run.granted && is_busy && !run.wished {
                let mut next = world.clone();
                next.runs[number].machine.wish_to_end();
                next.runs[number].wished = true;
                add("wishes to end", Ok(next));
            }
            match &run.command {
                Command::Read(key) => {
                    let event = self.read(world, number, *key);
                    add("reads", self.after(world, number, event));
                    if *key == Key::Freezes {
                        let event = Event::Freezes { frozen: true };
                        add("finds a freeze", self.after(world, number, event));
                    }
                    // Without the lock, an error ends the run as a crash does.
                    if world.unreadable > 0 && run.looks_up && run.granted {
                        let mut next = world.clone();
                        next.unreadable -= 1;
                        let told = self.tell(&mut next, number, Event::Unreadable);
                        add("hears no answer to a read", told.map(|()| next));
                    }
                }
                Command::Write(write) => {
                    let mut next = world.clone();
                    let landed = self.land(&mut next, write);
                    let told = landed.and_then(|landed| {
                        let event = if landed { Event::Written } else { Event::Lost };
                        self.tell(&mut next, number, event).map(|()| next)
                    });
                    add("writes", told);
                    if world.lost > 0 {
                        let mut next = world.clone();
                        next.lost -= 1;
                        next.runs[number].flight.push(write.clone());
                        let told = self.tell(&mut next, number, Event::Doubtful);
                        add("hears no answer to a write", told.map(|()| next));
                    }
                }
                Command::Pause => {
                    add("looks again", self.after(world, number, Event::Woke));
                    if !self.bounds.only_close {
                        add("waited long enough", self.after(world, number, Event::Late));
                    }
                }
                Command::Hold => {
                    if run.renewals > 0 && !run.wished {
                        add("renews", self.after(world, number, Event::Renew));
                    }
                    let recorded = run.machine.is_recorded();
                    if !recorded {
                        let good = !self.bounds.odd_is_bad || number % 2 == 0;
                        let record = Event::Close { good, state: self.bounds.states };
                        add("records", self.after(world, number, record));
                    }
                    if recorded || !self.bounds.only_close {
                        add("releases", self.after(world, number, Event::Release));
                    }
                }
                Command::End(_) => {}
            }
        }
        list
    }

    fn is_at_start(&self, world: &World, number: usize) -> bool {
        let run = &world.runs[number];
        run.alive && !run.began
    }

    fn after(&mut self, world: &World, number: usize, event: Event) -> Result<World, String> {
        let mut next = world.clone();
        self.tell(&mut next, number, event)?;
        Ok(next)
    }

    fn read(&self, world: &World, number: usize, key: Key) -> Event {
        match key {
            Key::Lock => Event::Lock(world.lock.as_ref().map(|lock| {
                let writer = lock.mark.nonce.run;
                let own = u128::try_from(number).unwrap_or_default();
                let writers = usize::try_from(writer).ok().and_then(|run| world.runs.get(run));
                let ended = writers.is_some_and(|run| run.crashed && run.flight.is_empty());
                let over = lock.age >= TERM
                    || self.bounds.same_machine && ended
                    || self.mutation == Mutation::TakeOverBeforeExpiry;
                SeenLock {
                    mark: lock.mark.clone(),
                    over: over && lock.mark.holder.is_some(),
                    newer: self.bounds.newer && own > writer,
                }
            })),
            Key::Head => Event::Head(world.head),
            Key::Freezes => Event::Freezes { frozen: false },
            Key::Record(number) => Event::Record(world.records.get(&number).copied()),
            Key::State => Event::Unreadable,
        }
    }

    /// Tells a run an event, and checks what it wants next.
    fn tell(&mut self, world: &mut World, number: usize, event: Event) -> Result<(), String> {
        let begins = event == Event::Begin;
        let unchecked = self.mutation == Mutation::WriteUnchecked;
        world.runs[number].began = !begins;
        world.runs[number].looks_up =
            matches!(event, Event::Lost | Event::Doubtful | Event::Unreadable);
        let mut event = event;
        let mut command = loop {
            let run = &mut world.runs[number];
            let starts = &run.starts;
            let fresh = |nonce| unchecked || is_fresh(starts, nonce);
            match run.machine.step(event, &fresh) {
                // What nobody else's doing could change is answered at once.
                Command::Read(key)
                    if key == Key::Freezes && !self.bounds.freezes
                        || key != Key::Freezes && self.bounds.quick_reads && !begins =>
                {
                    event = self.read(world, number, key);
                }
                command => break command,
            }
        };
        let run = &mut world.runs[number];
        if let Command::Write(Write::Lock { mark, .. }) = &mut command {
            if mark.nonce.write == 1 && self.mutation == Mutation::FenceStays {
                mark.fence -= 1;
            }
            if mark.nonce.write == 1 && self.mutation == Mutation::ForgetTheDead {
                mark.unclosed.clear();
            }
            run.starts.push((mark.nonce, 0));
            let renewal = mark.holder.is_some() && run.machine.lease().is_some();
            match run.renewals.checked_sub(u8::from(renewal)) {
                Some(left) => run.renewals = left,
                None => (run.alive, run.stopped) = (false, true),
            }
        }
        run.command = command;
        self.check_command(world, number)
    }

    fn check_command(&mut self, world: &mut World, number: usize) -> Result<(), String> {
        let run = &world.runs[number];
        let own = run.machine.number();
        match &run.command {
            Command::Write(Write::Head { .. } | Write::Record { .. } | Write::State)
                if !owns_lock(world, number) =>
            {
                return Err("a run that was fenced out writes to the ledger".into());
            }
            Command::Hold if !run.granted => {
                self.check_grant(world, number)?;
                let fence = world.lock.as_ref().map_or(0, |lock| lock.mark.fence);
                world.granted = world.granted.max(fence);
                world.runs[number].granted = true;
            }
            Command::End(End::Closed) => {
                self.found.reached.insert("a run closes");
                let record = world.records.get(&own);
                let run = u128::try_from(number).unwrap_or_default();
                if record.is_none_or(|record| record.nonce.run != run || record.killed) {
                    return Err("a run that closed has no record of its own".into());
                }
            }
            Command::End(end) => {
                self.found.reached.insert(match end {
                    End::Held => "a run is refused",
                    End::Fenced => "a run is fenced out",
                    End::Unreachable => "a run gives up",
                    End::Frozen => "a run finds a freeze",
                    _ => "a run releases",
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Whoever gets the lock knows of every run before it.
    fn check_grant(&mut self, world: &World, number: usize) -> Result<(), String> {
        let run = &world.runs[number];
        let own = run.machine.number();
        if (1..own).any(|number| !world.records.contains_key(&number)) {
            return Err("a killed run was not seen".into());
        }
        let head = world.head.unwrap_or_default();
        if head.last != own - 1 {
            return Err(format!("the head says {} before run {own}", head.last));
        }
        let good = world.records.iter().filter(|(_, record)| record.good);
        if head.good != good.map(|(number, _)| *number).max().unwrap_or(0) {
            return Err("the head does not say what was good last".into());
        }
        if world.records.contains_key(&own) {
            return Err("a number is given twice".into());
        }
        for killed in run.machine.killed() {
            self.found.reached.insert("a killed run is seen");
            if !world.records.get(killed).is_some_and(|record| record.killed) {
                return Err("a run that was not killed is called so".into());
            }
        }
        Ok(())
    }

    /// Carries out a write if its condition holds.
    fn land(&mut self, world: &mut World, write: &Write) -> Result<bool, String> {
        match write {
            Write::Lock { mark, replaces } => {
                let found = world.lock.as_ref().map(|lock| lock.mark.nonce);
                if found != *replaces && self.mutation != Mutation::TakeOverUnconditionally {
                    return Ok(false);
                }
                let taken =
                    mark.holder.is_some() && found.is_none_or(|found| found.run != mark.nonce.run);
                if taken && mark.fence <= world.fence {
                    return Err("a fencing number does not grow".into());
                }
                if taken && world.lock.as_ref().is_some_and(|lock| lock.mark.holder.is_some()) {
                    self.found.reached.insert("a lock is taken over");
                }
                world.fence = world.fence.max(mark.fence);
                world.lock = Some(Stored { mark: mark.clone(), age: 0 });
            }
            Write::Head { mark, replaces } => {
                if world.head.map(|head| head.nonce) != *replaces {
                    return Ok(false);
                }
                if mark.fence < world.granted {
                    return Err("a run that was fenced out wrote the head".into());
                }
                if world.head.is_some_and(|head| head.last > mark.last) {
                    return Err("the head went back".into());
                }
                world.head = Some(*mark);
            }
            Write::Record { number, mark } => {
                let there = world.records.contains_key(number);
                if there && self.mutation != Mutation::RecordIsOverwritten {
                    return Ok(false);
                }
                if mark.fence < world.granted {
                    return Err("a run that was fenced out wrote a record".into());
                }
                if there {
                    return Err("a record was written twice".into());
                }
                world.records.insert(*number, *mark);
            }
            Write::State => {}
        }
        Ok(true)
    }
}

/// Drops what can make no difference any more, so that states that are alike are one.
fn forget_the_past(mut world: World) -> World {
    let World { lock, head, records, runs, .. } = &mut world;
    let lock = lock.as_ref().map(|lock| lock.mark.nonce);
    let head = head.as_ref().map(|head| head.nonce);
    for (number, run) in runs.iter_mut().enumerate() {
        // No content ever comes back, so that a write whose condition failed fails for ever.
        run.flight.retain(|write| match write {
            Write::Lock { replaces, .. } => *replaces == lock,
            Write::Head { replaces, .. } => *replaces == head,
            Write::Record { number, .. } => !records.contains_key(number),
            Write::State => false,
        });
        if matches!(run.command, Command::End(_)) {
            run.alive = false;
        }
        if !run.alive {
            run.machine = Machine::new(u128::try_from(number).unwrap_or_default());
            run.command = Command::Pause;
            run.starts.clear();
            run.renewals = 0;
        }
        let flight: Vec<Nonce> = run.flight.iter().filter_map(lock_nonce).collect();
        let sent = match &run.command {
            Command::Write(write) => lock_nonce(write),
            _ => None,
        };
        let lease = run.machine.lease();
        run.starts.retain(|(nonce, _)| {
            let nonce = Some(*nonce);
            nonce == lease
                || nonce == lock
                || nonce == sent
                || flight.iter().any(|n| Some(*n) == nonce)
        });
    }
    world
}

fn lock_nonce(write: &Write) -> Option<Nonce> {
    match write {
        Write::Lock { mark, .. } => Some(mark.nonce),
        _ => None,
    }
}

fn owns_lock(world: &World, number: usize) -> bool {
    let run = u128::try_from(number).unwrap_or_default();
    let lock = world.lock.as_ref().map(|lock| &lock.mark);
    lock.is_some_and(|mark| mark.nonce.run == run && mark.holder.is_some())
}

fn fingerprint(world: &World) -> u64 {
    let mut mixer = Mixer(0);
    world.hash(&mut mixer);
    mixer.finish()
}

/// A hasher that costs less than the standard one where nothing is optimised.
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }
    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }
    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(29) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 31);
    }
    fn write_u128(&mut self, number: u128) {
        // Runs are counted from 0 here.
        self.write_u64(u64::try_from(number).unwrap_or(u64::MAX));
    }
    fn write_usize(&mut self, number: usize) {
        self.write_u64(u64::try_from(number).unwrap_or(u64::MAX));
    }
    fn write_isize(&mut self, number: isize) {
        self.write_u64(number.cast_unsigned().try_into().unwrap_or(u64::MAX));
    }
}

fn describe_way(ways: &HashMap<u64, (u64, Label)>, first: u64, from: u64, last: Label) -> String {
    let mut labels = vec![last];
    let mut at = from;
    while at != first {
        let Some((before, label)) = ways.get(&at) else { break };
        labels.push(*label);
        at = *before;
    }
    let steps = labels.iter().rev().map(|(run, what)| format!("{run} {what}"));
    steps.collect::<Vec<_>>().join(", ")
}

mod searches;
