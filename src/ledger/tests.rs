//! The ledger as a whole, in a folder: runs after each other, at once, killed and stopped.

use std::path::Path;
use std::time::Instant;

use super::*;
use crate::digest::Digest;
use crate::error::Kind;

/// A term that tests can wait for: a lock in a folder is over a second after it.
const SHORT: Duration = Duration::from_secs(1);

/// A ledger as another machine sees it: it knows nothing of this one's processes.
fn open(root: &Path, term: Duration) -> Ledger {
    let store = Store::Folder(Folder::new(root.to_path_buf()));
    let mut place = LedgerPlace {
        store,
        service: "patients".into(),
        environment: "production".into(),
        destination: "docker".into(),
        term,
        process: None,
    };
    place.term = term;
    Ledger(Arc::new(place))
}

/// A ledger as this machine sees it.
fn open_folder(root: &Path, service: &str) -> Ledger {
    let scope = Scope { service, environment: "production", destination: "docker" };
    Ledger::in_folder(root.to_path_buf(), &scope)
}

fn run_of(who: &str) -> Run {
    Run {
        target: "local".into(),
        version: format!("1.0.0-{who}"),
        digest: Some(Digest::of(b"image")),
        who: who.into(),
        pipeline_version: "0.1.0".into(),
        ..Run::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have deadlines")]
fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

async fn acquire(ledger: &Ledger, who: &str) -> Result<Lease> {
    let terms = AcquireTerms { newer_than: &|_| false, deadline: within(30) };
    ledger.acquire(run_of(who), terms).await
}

async fn acquire_newer(ledger: &Ledger, who: &str, seconds: u64) -> Result<Lease> {
    let terms = AcquireTerms { newer_than: &|_| true, deadline: within(seconds) };
    ledger.acquire(run_of(who), terms).await
}

async fn close(lease: Lease, result: RecordResult) -> Result<()> {
    let good = result == RecordResult::Deployed;
    let record = Record { result, ..lease.draft_record() };
    let state = format!("{{\"number\": {}}}", lease.number());
    lease.record(record, Some(state.into_bytes()), good).await?;
    lease.release().await
}

async fn read_phase(ledger: &Ledger) -> Option<Phase> {
    let lock = ledger.read_lock().await.expect("a lock")?;
    lock.holder.map(|holder| holder.phase)
}

fn refusal<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("not refused"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deploys_after_each_other_leave_a_history() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = open(folder.path(), TERM);
    assert_eq!(ledger.read_head().await.expect("a head"), Head::default());
    assert!(ledger.read_lock().await.expect("no lock").is_none());
    assert!(ledger.list_records(5).await.expect("no records").is_empty());

    for (number, result) in [RecordResult::Deployed, RecordResult::RolledBack].iter().enumerate() {
        let lease = acquire(&ledger, "ada").await.expect("the lock");
        assert_eq!(lease.number(), number as u64 + 1);
        assert!(lease.killed().is_none());
        lease.guard().check().expect("a fresh lease");
        close(lease, *result).await.expect("closed");
    }
    let lease = acquire(&ledger, "ada").await.expect("the lock");
    lease.release().await.expect("released");

    let head = ledger.read_head().await.expect("a head");
    let (last, good) = (head.last.expect("a last"), head.good.expect("a good"));
    assert_eq!((last.number, last.result), (2, RecordResult::RolledBack));
    assert_eq!((good.number, good.result), (1, RecordResult::Deployed));
    let hash = good.state_hash.expect("a state");
    assert_eq!(ledger.read_state(&hash).await.expect("a state"), br#"{"number": 1}"#);
    let records = ledger.list_records(5).await.expect("records");
    assert_eq!(records.iter().map(|record| record.number).collect::<Vec<_>>(), [2, 1]);
    assert_eq!((records[0].previous, records[1].previous), (Some(1), None));
    assert_eq!(ledger.list_records(1).await.expect("records").len(), 1);
    assert_eq!(ledger.read_record(1).await.expect("a record"), Some(records[1].clone()));
    assert_eq!(ledger.read_record(3).await.expect("no record"), None);
    let lock = ledger.read_lock().await.expect("a lock").expect("a lock");
    assert_eq!((lock.fence, lock.holder), (3, None), "released, and never deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_refuses_others_as_soon_as_its_holder_is_seen_to_live() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = open(folder.path(), SHORT);
    let mut run = run_of("ada");
    run.run.url = Some("https://github.com/clinicult/patients/actions/runs/7".into());
    let terms = AcquireTerms { newer_than: &|_| false, deadline: within(30) };
    let lease = ledger.acquire(run, terms).await.expect("the lock");
    let error = refusal(acquire(&ledger, "bob").await);
    assert_eq!((error.kind, error.code), (Kind::Superseded, Some(Code::LockHeld)));
    let text = error.to_string();
    for part in ["patients in production", "ada", "runs/7", "1.0.0-ada", "since", "until"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    lease.guard().check().expect("the holder is not disturbed");

    let error = refusal(acquire_newer(&ledger, "newer", 1).await);
    assert_eq!(error.code, Some(Code::LockHeld), "it waits for as long as it may");
    let (newer, released) = tokio::join!(acquire_newer(&ledger, "newer", 30), async {
        tokio::time::sleep(SHORT * 2).await;
        close(lease, RecordResult::Deployed).await
    });
    released.expect("closed");
    let newer = newer.expect("the lock once it is released");
    assert_eq!(newer.head().last.as_ref().map(|entry| entry.number), Some(1));
    assert!(newer.killed().is_none());
    newer.release().await.expect("released");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_is_recorded_by_the_next_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = open(folder.path(), SHORT);
    close(acquire(&ledger, "first").await.expect("the lock"), RecordResult::Deployed)
        .await
        .expect("closed");
    let lease = acquire(&ledger, "ada").await.expect("the lock");
    lease.set_phase(Phase::Apply);
    // The next renewal writes the phase. The run dies right behind it: a dead process has no write
    // under way that would look like life.
    while read_phase(&ledger).await != Some(Phase::Apply) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(lease);

    let next = acquire(&ledger, "bob").await.expect("the lock, once it is over");
    let killed = next.killed().cloned().expect("a killed run");
    assert_eq!((killed.number, killed.result), (2, RecordResult::Killed));
    assert_eq!((killed.run.who.as_str(), killed.killed_in), ("ada", Some(Phase::Apply)));
    assert_eq!(ledger.read_record(2).await.expect("a record"), Some(killed));
    let number = |entry: &Option<HeadEntry>| entry.as_ref().map(|entry| entry.number);
    assert_eq!((number(&next.head().last), number(&next.head().good)), (Some(2), Some(1)));
    assert_eq!(next.number(), 3);
    close(next, RecordResult::Deployed).await.expect("closed");
    let head = ledger.read_head().await.expect("a head");
    assert_eq!((number(&head.last), number(&head.good)), (Some(3), Some(3)));
    assert!(acquire(&ledger, "bob").await.expect("the lock").killed().is_none(), "seen once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_lock_was_taken_over_writes_nothing_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = open(folder.path(), SHORT);
    let stopped = acquire(&ledger, "ada").await.expect("the lock");
    // As if it had not renewed for a minute.
    let path = folder.path().join("cicd/patients/production/docker/lock.json");
    let next = loop {
        let file = std::fs::File::options().write(true).open(&path).expect("the lock");
        let modified = file.metadata().expect("its time").modified().expect("its time");
        file.set_modified(modified - Duration::from_secs(60)).expect("set back");
        // A renewal may come first: then it is set back again.
        if let Ok(next) = acquire(&ledger, "bob").await {
            break next;
        }
    };
    while stopped.guard().check().is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = refusal(stopped.guard().wait(within(30)).await);
    assert_eq!((error.kind, error.code), (Kind::Superseded, Some(Code::LockHeld)));
    assert!(error.to_string().contains("bob"), "{error}");
    let error = refusal(close(stopped, RecordResult::Deployed).await);
    assert_eq!(error.kind, Kind::Superseded);
    let record = ledger.read_record(1).await.expect("a record").expect("a record");
    assert_eq!(record.result, RecordResult::Killed, "the taker's record stands");
    close(next, RecordResult::Deployed).await.expect("closed");
    let last = ledger.read_head().await.expect("a head").last.expect("a last");
    assert_eq!((last.number, last.run.who.as_str()), (2, "bob"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_renew_stops_and_goes_on_once_it_can() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = open(folder.path(), SHORT);
    let lease = acquire(&ledger, "ada").await.expect("the lock");
    let turn = std::fs::File::open(folder.path().join(".turn")).expect("the turn");
    turn.lock().expect("another process's turn");
    tokio::time::sleep(SHORT).await;
    let error = refusal(lease.guard().check());
    assert_eq!((error.kind, error.code), (Kind::Unexpected, Some(Code::LedgerUnavailable)));
    assert!(error.to_string().contains("last renewed"), "{error}");
    let error = refusal(lease.guard().wait(within(1)).await);
    assert_eq!((error.kind, error.code), (Kind::TimedOut, Some(Code::LedgerUnavailable)));
    let guard = lease.guard();
    let waiting = tokio::spawn(async move { guard.wait(within(30)).await });
    tokio::time::sleep(SHORT / 2).await;
    assert!(!waiting.is_finished(), "nothing is written meanwhile");
    turn.unlock().expect("let go");
    waiting.await.expect("no panic").expect("the lock is still ours");
    close(lease, RecordResult::Deployed).await.expect("nobody else took the lock");
    assert_eq!(ledger.read_head().await.expect("a head").mark().good, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_refuses_deploys_until_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = open(folder.path(), TERM);
    assert!(ledger.read_freeze().await.expect("none").is_none());
    assert!(ledger.unfreeze(false).await.expect("none").is_none());
    #[expect(clippy::disallowed_methods, reason = "tests have ends")]
    let until = |seconds| Timestamp::now() + Duration::from_secs(seconds);
    let freeze = |who: &str, seconds| Freeze {
        who: who.into(),
        reason: "audit".into(),
        until: until(seconds),
        ..Freeze::default()
    };
    for all_services in [false, true] {
        ledger.freeze(freeze("eve", 60), all_services).await.expect("frozen");
        let error = refusal(acquire(&ledger, "ada").await);
        assert_eq!((error.kind, error.code), (Kind::Superseded, Some(Code::Frozen)));
        let text = error.to_string();
        assert!(text.contains("eve") && text.contains("audit"), "{text}");
        assert!(ledger.read_lock().await.expect("a lock").is_none(), "nothing was written");
        assert!(ledger.unfreeze(!all_services).await.expect("none").is_none(), "another one's");
        let ended = ledger.unfreeze(all_services).await.expect("ended").expect("a freeze");
        assert_eq!((ended.who.as_str(), ended.environment.as_str()), ("eve", "production"));
    }
    let over = Freeze { until: Timestamp::UNIX_EPOCH, ..freeze("eve", 0) };
    let error = refusal(ledger.freeze(over, false).await);
    assert_eq!(error.kind, Kind::Input);
    ledger.freeze(freeze("eve", 1), false).await.expect("frozen");
    tokio::time::sleep(Duration::from_secs(1)).await;
    acquire(&ledger, "ada").await.expect("the freeze is over").release().await.expect("released");
}

#[tokio::test(flavor = "multi_thread")]
async fn freezes_that_are_written_at_once_are_all_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    #[expect(clippy::disallowed_methods, reason = "tests have ends")]
    let until = Timestamp::now() + Duration::from_secs(60);
    let services: Vec<String> = (0..4).map(|number| format!("service-{number}")).collect();
    let ledgers = services.iter().map(|service| open_folder(folder.path(), service));
    let ledgers: Vec<Ledger> = ledgers.collect();
    let freezing =
        ledgers.iter().map(|ledger| ledger.freeze(Freeze { until, ..Freeze::default() }, false));
    futures::future::try_join_all(freezing).await.expect("all of them");
    for ledger in &ledgers {
        assert!(ledger.read_freeze().await.expect("a freeze").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_runs_at_once_one_gets_the_lock() {
    let folder = tempfile::tempdir().expect("a folder");
    for pair in 1..=50 {
        let run = |who: &'static str| {
            let ledger = open(folder.path(), TERM);
            tokio::spawn(async move { acquire(&ledger, who).await })
        };
        let (one, other) = (run("ada"), run("bob"));
        let (one, other) = (one.await.expect("an end"), other.await.expect("an end"));
        let (winner, loser) = match (one, other) {
            (Ok(winner), Err(loser)) | (Err(loser), Ok(winner)) => (winner, loser),
            (Ok(_), Ok(_)) => panic!("pair {pair}: both have the lock"),
            (Err(one), Err(other)) => panic!("pair {pair}: {one}; {other}"),
        };
        assert_eq!((loser.kind, loser.code), (Kind::Superseded, Some(Code::LockHeld)));
        assert_eq!(winner.number(), pair);
        close(winner, RecordResult::Deployed).await.expect("closed");
    }
    let fence = open(folder.path(), TERM).read_lock().await.expect("a lock").map(|lock| lock.fence);
    assert_eq!(fence, Some(50));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_broken_or_too_new_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = open(folder.path(), TERM);
    acquire(&ledger, "ada").await.expect("the lock").release().await.expect("released");
    let path = folder.path().join("cicd/patients/production/docker/lock.json");
    let text = std::fs::read_to_string(&path).expect("a lock");
    struct Case<'a> {
        text: &'a str,
        part: &'static str,
    }
    let newer = text.replace("\"format\": 1", "\"format\": 2, \"shape\": {}");
    assert_ne!(newer, text);
    let cases = [
        Case { text: &text[..text.len() / 2], part: "lock.json" },
        Case { text: "", part: "lock.json" },
        Case { text: "[]", part: "lock.json" },
        Case { text: &newer, part: "later version" },
    ];
    for Case { text, part } in cases {
        std::fs::write(&path, text).expect("written");
        let error = refusal(acquire(&ledger, "ada").await);
        assert_eq!((error.kind, error.code), (Kind::Refused, Some(Code::LedgerUnavailable)));
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
    // A field of a later version that keeps the form stays where it is.
    let extended = text.replace("\"format\": 1", "\"format\": 1, \"audit\": \"yes\"");
    std::fs::write(&path, extended).expect("written");
    acquire(&ledger, "ada").await.expect("the lock").release().await.expect("released");
    assert!(std::fs::read_to_string(&path).expect("a lock").contains("\"audit\": \"yes\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_private_and_nothing_temporary_stays() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("ledger");
    let ledger = open(&root, TERM);
    close(acquire(&ledger, "ada").await.expect("the lock"), RecordResult::Deployed)
        .await
        .expect("closed");
    let mut waiting = vec![root];
    while let Some(path) = waiting.pop() {
        let mode = path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        assert!(!path.to_string_lossy().ends_with(".tmp"), "{}", path.display());
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder");
            waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
    }
}

/// Names the ledger's folder to a process that these tests start.
const FOLDER: &str = "CICD_TEST_LEDGER";

/// Another process of this test binary that takes the lock, says so, and keeps it.
#[expect(clippy::disallowed_methods, reason = "a real process is what is looked at")]
fn start_holder(root: &Path) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["ledger::tests::takes_the_lock_and_keeps_it", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, root)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a process")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is a process of other tests"]
#[expect(clippy::disallowed_methods, reason = "its test names the folder by the environment")]
#[expect(clippy::disallowed_macros, clippy::print_stdout, reason = "its test reads what it says")]
async fn takes_the_lock_and_keeps_it() {
    let root = std::env::var_os(FOLDER).expect("a folder");
    let ledger = open_folder(Path::new(&root), "patients");
    match acquire(&ledger, "child").await {
        Ok(_lease) => {
            println!("\nHELD");
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Err(error) => println!("\nREFUSED {}", error.kind.exit_code()),
    }
}

/// What a holder says.
fn hear(child: &mut std::process::Child) -> String {
    use std::io::BufRead;
    let lines = std::io::BufReader::new(child.stdout.take().expect("its words")).lines();
    let mut lines = lines.map_while(Result::ok);
    lines.find(|line| line.starts_with("HELD") || line.starts_with("REFUSED")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_one_gets_the_lock_and_a_killed_one_holds_nobody_up() {
    let folder = tempfile::tempdir().expect("a folder");
    for pair in 1..=10 {
        let mut children = [start_holder(folder.path()), start_holder(folder.path())];
        let mut said: Vec<String> = children.iter_mut().map(hear).collect();
        said.sort();
        for child in &mut children {
            child.kill().expect("killed");
            child.wait().expect("its end");
        }
        assert_eq!(said, ["HELD", "REFUSED 7"], "pair {pair}");
    }
    let ledger = open_folder(folder.path(), "patients");
    let lease = tokio::time::timeout(Duration::from_secs(5), acquire(&ledger, "ada"));
    let lease = lease.await.expect("no term is waited for").expect("the lock");
    let killed = lease.killed().expect("a killed run");
    assert_eq!((killed.number, killed.run.who.as_str()), (10, "child"));
    let records = ledger.list_records(20).await.expect("records");
    assert!(records.iter().all(|record| record.result == RecordResult::Killed));
    assert_eq!(records.len(), 10, "every killed run is seen");
}

/// The store goes away while the lock is held: the run looks for its renewal as long as it goes on,
/// and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_although_the_store_does_not_come_back() {
    for returns in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, away) = (folder.path().join("ledger"), folder.path().join("away"));
        let ledger = open(&root, SHORT);
        let lease = acquire(&ledger, "ada").await.expect("the lock");
        std::fs::rename(&root, &away).expect("away");
        std::fs::write(&root, "no folder").expect("written");
        // Long enough for a renewal that does not get through.
        tokio::time::sleep(SHORT * 2).await;
        if returns {
            std::fs::remove_file(&root).expect("removed");
            std::fs::rename(&away, &root).expect("back");
        }
        let closed = close(lease, RecordResult::Deployed);
        let closed = tokio::time::timeout(SHORT * 20, closed).await.expect("an end");
        match returns {
            true => closed.expect("a record"),
            false => assert_eq!(refusal(closed).code, Some(Code::LedgerUnavailable)),
        }
    }
}
