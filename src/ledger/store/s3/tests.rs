//! The ledger on S3: a scripted server for answers that are lost and for the time, and the stack's
//! own S3 for the rest.

use std::collections::BTreeMap;
use std::time::Instant;

use aws_credential_types::Credentials;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::error::Kind;
use crate::ledger::store::Store;
use crate::ledger::{AcquireTerms, Lease, Ledger, Record, RecordResult, Run, Scope};
use crate::report::{Format, Verbosity};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing is done, and 503 answered.
    Refuse,
    /// It is done, and 500 answered.
    HideSuccess,
    /// It is done, and the connection closed.
    HangUp,
    /// It is done a moment after 500 was answered.
    Late,
    /// Nothing is done, and 409 answered.
    Conflict,
    /// Nothing is done, and 403 answered.
    Deny,
}

#[derive(Clone)]
struct Stored {
    bytes: Vec<u8>,
    etag: u64,
    modified: i64,
}

#[derive(Default)]
struct Script {
    objects: BTreeMap<String, Stored>,
    etags: u64,
    /// Method, end of the path, and what happens to the next such request.
    faults: Vec<(&'static str, &'static str, Fault)>,
    log: Vec<String>,
    /// The server's clock, in seconds since 1970.
    now: i64,
}

#[derive(Clone, Default)]
struct Stub(Arc<Mutex<Script>>);

struct Request {
    method: String,
    key: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    found: Option<Stored>,
    body: Vec<u8>,
}

impl Stub {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts serving; returns a ledger there.
    async fn serve(&self) -> Ledger {
        // A time at which no test runs.
        self.script().now = 1_900_000_000;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let stub = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stub = stub.clone();
                tokio::spawn(async move { stub.answer_all(stream).await });
            }
        });
        let config = aws_sdk_s3::Config::builder()
            .behavior_version_latest()
            .region(aws_sdk_s3::config::Region::new("eu-west-1"))
            .endpoint_url(endpoint)
            .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
            .force_path_style(true);
        let bucket = Bucket {
            client: Client::from_conf(config.build()),
            name: "records".into(),
            region: "eu-west-1".into(),
            speaks_tls: false,
            report: Report::new(Format::Human, Verbosity::Quiet),
        };
        let scope = Scope { service: "patients", environment: "production", destination: "ecs.c" };
        Ledger::new(Store::S3(bucket), &scope, None)
    }

    async fn answer_all(&self, mut stream: TcpStream) -> Option<()> {
        loop {
            let request = read_request(&mut stream).await?;
            let answer = self.answer(request)?;
            let (etag, modified) =
                answer.found.as_ref().map_or((0, 0), |found| (found.etag, found.modified));
            let head = format!(
                "HTTP/1.1 {} X\r\nDate: {}\r\nLast-Modified: {}\r\nETag: \"{etag}\"\r\n\
                 Content-Length: {}\r\n\r\n",
                answer.status,
                http_date(self.script().now),
                http_date(modified),
                answer.body.len()
            );
            stream.write_all(head.as_bytes()).await.ok()?;
            stream.write_all(&answer.body).await.ok()?;
        }
    }

    /// `None`: the connection is closed.
    fn answer(&self, request: Request) -> Option<Answer> {
        let fault = {
            let mut script = self.script();
            script.log.push(format!("{} {}", request.method, request.key));
            let position = script.faults.iter().position(|(method, end, _)| {
                *method == request.method && request.key.ends_with(end)
            });
            position.map(|position| script.faults.remove(position).2)
        };
        match fault {
            None => Some(self.carry_out(&request)),
            Some(Fault::Refuse) => Some(failure(503, "SlowDown")),
            Some(Fault::Conflict) => Some(failure(409, "ConditionalRequestConflict")),
            Some(Fault::Deny) => Some(failure(403, "AccessDenied")),
            Some(Fault::HideSuccess) => {
                self.carry_out(&request);
                Some(failure(500, "InternalError"))
            }
            Some(Fault::HangUp) => {
                self.carry_out(&request);
                None
            }
            Some(Fault::Late) => {
                let stub = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(700)).await;
                    stub.carry_out(&request);
                });
                Some(failure(500, "InternalError"))
            }
        }
    }

    fn carry_out(&self, request: &Request) -> Answer {
        let mut script = self.script();
        let found = script.objects.get(&request.key).cloned();
        match (request.method.as_str(), found) {
            ("GET", Some(found)) => {
                Answer { status: 200, body: found.bytes.clone(), found: Some(found) }
            }
            ("GET", None) => failure(404, "NoSuchKey"),
            (_, found) => {
                let etag = found.as_ref().map(|found| format!("\"{}\"", found.etag));
                let holds = match request.headers.get("if-match") {
                    Some(wanted) => etag.as_ref() == Some(wanted),
                    None => {
                        assert_eq!(request.headers["if-none-match"], "*", "no write without one");
                        etag.is_none()
                    }
                };
                if !holds {
                    return failure(412, "PreconditionFailed");
                }
                script.etags += 1;
                let (etag, modified) = (script.etags, script.now);
                let stored = Stored { bytes: request.body.clone(), etag, modified };
                script.objects.insert(request.key.clone(), stored.clone());
                Answer { status: 200, found: Some(stored), body: Vec::new() }
            }
        }
    }

    fn break_next(&self, method: &'static str, end: &'static str, fault: Fault) {
        self.script().faults.push((method, end, fault));
    }
}

fn failure(status: u16, code: &str) -> Answer {
    let body = format!("<Error><Code>{code}</Code><Message>scripted</Message></Error>");
    Answer { status, found: None, body: body.into_bytes() }
}

fn http_date(second: i64) -> String {
    let time = Timestamp::from_second(second).expect("a time");
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_string(), words.next()?);
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers: BTreeMap<String, String> =
        headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_string())).collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    let key = path.split('?').next()?.trim_start_matches("/records/").to_string();
    Some(Request { method, key, headers, body })
}

#[expect(clippy::disallowed_methods, reason = "tests have deadlines")]
async fn acquire(ledger: &Ledger, who: &str) -> Result<Lease> {
    let run = Run { who: who.into(), version: "1.0.0".into(), ..Run::default() };
    let deadline = Instant::now() + Duration::from_secs(60);
    ledger.acquire(run, AcquireTerms { newer_than: &|_| false, deadline }).await
}

async fn close(lease: Lease) -> Result<()> {
    let record = Record { result: RecordResult::Deployed, ..lease.draft_record() };
    lease.record(record, Some(b"{}".to_vec()), true).await?;
    lease.release().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_costs_eight_requests() {
    let stub = Stub::default();
    let ledger = stub.serve().await;
    close(acquire(&ledger, "ada").await.expect("the lock")).await.expect("closed");
    let log = std::mem::take(&mut stub.script().log);
    let names = log.iter().map(|line| line.replace("cicd/patients/production/ecs.c/", ""));
    let state = format!("PUT states/{}.json.gz", crate::ledger::StateHash::of(b"{}"));
    let expected = [
        "GET lock.json",
        "GET head.json",
        "GET cicd/freezes.json",
        "PUT lock.json",
        state.as_str(),
        "PUT records/00000001.json",
        "PUT head.json",
        "PUT lock.json",
    ];
    assert_eq!(names.collect::<Vec<_>>(), expected);

    acquire(&ledger, "ada").await.expect("the lock").release().await.expect("released");
    let log = std::mem::take(&mut stub.script().log);
    assert_eq!(log.len(), 5, "three reads, the lock taken and released: {log:?}");
}

/// Whatever happens to one request, the deploy is recorded once and the lock is free again.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_looked_up() {
    let objects = ["lock.json", "head.json", "records/00000001.json", ".json.gz"];
    let faults = [Fault::Refuse, Fault::HideSuccess, Fault::HangUp, Fault::Late, Fault::Conflict];
    let cases = objects.iter().flat_map(|object| faults.iter().map(move |fault| (object, fault)));
    let runs = cases.map(|(object, fault)| async move {
        let stub = Stub::default();
        stub.break_next("PUT", object, *fault);
        // A read is tried again by itself.
        stub.break_next("GET", "head.json", Fault::Refuse);
        let ledger = stub.serve().await;
        let what = format!("{fault:?} of {object}");
        let lease = acquire(&ledger, "ada").await;
        let lease = lease.unwrap_or_else(|error| panic!("{what}: {error}"));
        close(lease).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let head = ledger.read_head().await.expect("a head");
        assert_eq!((head.mark().last, head.mark().good), (1, 1), "{what}");
        let record = ledger.read_record(1).await.expect("a record").expect("a record");
        assert_eq!(record.result, RecordResult::Deployed, "{what}");
        let lock = ledger.read_lock().await.expect("a lock").expect("a lock");
        assert_eq!((lock.fence, lock.holder), (1, None), "{what}");
        assert!(stub.script().faults.is_empty(), "{what} happened");
    });
    futures::future::join_all(runs).await;
}

/// Whether a lock is over is told by the server's clock alone, which is years away from this
/// machine's.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_over_by_the_servers_own_date() {
    let stub = Stub::default();
    let ledger = stub.serve().await;
    drop(acquire(&ledger, "ada").await.expect("the lock"));
    stub.script().now += 20;
    let waiting = tokio::time::timeout(Duration::from_secs(3), acquire(&ledger, "bob"));
    assert!(waiting.await.is_err(), "it may still be renewed");
    stub.script().now += 1;
    let lease = acquire(&ledger, "bob").await.expect("the lock");
    let killed = lease.killed().expect("a killed run");
    assert_eq!((killed.number, killed.run.who.as_str()), (1, "ada"));
    assert!(killed.ended.as_second() >= 1_900_000_021, "by the server's clock: {}", killed.ended);
    close(lease).await.expect("closed");
    let log = std::mem::take(&mut stub.script().log);
    assert!(log.len() > 8, "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_names_the_statement_to_add() {
    struct Case {
        method: &'static str,
        object: &'static str,
    }
    let cases = [
        Case { method: "GET", object: "lock.json" },
        Case { method: "GET", object: "freezes.json" },
        Case { method: "PUT", object: "lock.json" },
    ];
    for Case { method, object } in cases {
        let stub = Stub::default();
        stub.break_next(method, object, Fault::Deny);
        let ledger = stub.serve().await;
        let Err(error) = acquire(&ledger, "ada").await else { panic!("{method} was not denied") };
        assert_eq!((error.kind, error.code), (Kind::Refused, Some(Code::LedgerUnavailable)));
        let advice = error.advice();
        for part in ["s3:GetObject", "s3:PutObject", "arn:aws:s3:::records/cicd/*", "s3:ListBucket"]
        {
            assert!(advice.contains(part), "{part}: {advice}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_never_answers_refuses_the_deploy() {
    let stub = Stub::default();
    for _ in 0..100 {
        stub.break_next("GET", "lock.json", Fault::Refuse);
    }
    let ledger = stub.serve().await;
    let Err(error) = acquire(&ledger, "ada").await else { panic!("not refused") };
    assert_eq!((error.kind, error.code), (Kind::Refused, Some(Code::LedgerUnavailable)));
    assert!(error.to_string().contains("SlowDown"), "{error}");
    assert_eq!(stub.script().log.len(), 5, "a bounded number of tries");
}

/// The same on the stack's S3, which makes the bucket too. A deploy's own tests are `tests/it`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the stack's AWS"]
async fn the_stacks_s3_keeps_the_ledger() {
    let report = Report::new(Format::Human, Verbosity::Quiet);
    let environ = crate::cli::Environ::new(Vec::new());
    let session = Session::open("eu-west-1", None, &environ, &report).await.expect("a session");
    assert!(session.config().endpoint_url().is_some(), "run `eval \"$(./dev stack env)\"` first");
    let name = crate::docker::unique("cicd-ledger").expect("a name");
    let open = async |service: &str| {
        let scope = Scope { service, environment: "staging", destination: "ecs.c" };
        let ledger = Ledger::in_bucket(&session, &name, "eu-west-1", &scope, &report);
        ledger.await.expect("a ledger")
    };
    let ledger = open("patients").await;
    assert!(ledger.read_lock().await.expect("no bucket yet").is_none());
    assert!(ledger.list_records(3).await.expect("no bucket yet").is_empty());
    close(acquire(&ledger, "ada").await.expect("the lock")).await.expect("closed");

    for pair in 2..=51 {
        let run = |who: &'static str| {
            let ledger = ledger.clone();
            tokio::spawn(async move { acquire(&ledger, who).await })
        };
        let (one, other) = (run("ada"), run("bob"));
        let (one, other) = (one.await.expect("an end"), other.await.expect("an end"));
        let (winner, loser) = match (one, other) {
            (Ok(winner), Err(loser)) | (Err(loser), Ok(winner)) => (winner, loser),
            (Ok(_), Ok(_)) => panic!("pair {pair}: both have the lock"),
            (Err(one), Err(other)) => panic!("pair {pair}: {one}; {other}"),
        };
        assert_eq!((loser.kind, loser.code), (Kind::Superseded, Some(Code::LockHeld)), "{loser}");
        assert_eq!(winner.number(), pair);
        close(winner).await.expect("closed");
    }
    let records = ledger.list_records(60).await.expect("records");
    assert_eq!(records.len(), 51);
    assert_eq!(records[0].number, 51);
    let good = ledger.read_head().await.expect("a head").good.expect("a good one");
    let hash = good.state_hash.expect("a state");
    assert_eq!(ledger.read_state(&hash).await.expect("a state"), b"{}");

    drop(acquire(&ledger, "dead").await.expect("the lock"));
    let next = acquire(&ledger, "next").await.expect("the lock, once it is over");
    assert_eq!(next.killed().map(|record| record.number), Some(52));
    next.release().await.expect("released");
}
