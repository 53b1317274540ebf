//! Registries that stumble, ask for time, refuse or want a token: what is tried again, and how often.

use std::process::Command;
use std::time::Duration;

use super::layouts::{Layout, random, sha256};
use super::proxy::{Act, Proxy, Rule};
use super::{assert_arrived, get, message, push, repository, url};
use crate::support::{Run, root, stack};

#[test]
fn a_registry_that_stumbles_gets_the_whole_image_all_the_same() {
    let rule = |method, part, times, act| Rule { method, part, times, act };
    let cases: [(&str, Vec<Rule>); 12] = [
        (
            "no session",
            vec![rule("POST", "/uploads/", 2, Act::Answer("HTTP/1.1 503 Service Unavailable"))],
        ),
        ("reset at the start", vec![rule("PUT", "/uploads/", 1, Act::Cut(0))]),
        ("reset half-way", vec![rule("PUT", "/uploads/", 2, Act::Cut(50))]),
        ("reset at the end", vec![rule("PUT", "/uploads/", 1, Act::Cut(100))]),
        ("a lost answer", vec![rule("PUT", "/uploads/", 1, Act::LoseAnswer)]),
        ("a truncated answer", vec![rule("PUT", "/uploads/", 1, Act::HalfAnswer)]),
        ("a truncated session", vec![rule("POST", "/uploads/", 2, Act::HalfAnswer)]),
        ("a slow reader", vec![rule("PUT", "/uploads/", 2, Act::Slow(10_000))]),
        (
            "a stale session",
            vec![rule("PUT", "/uploads/", 1, Act::Answer("HTTP/1.1 416 Range Not Satisfiable"))],
        ),
        (
            "a broken look",
            vec![rule("HEAD", "/blobs/", 1, Act::Answer("HTTP/1.1 500 Internal Server Error"))],
        ),
        ("a broken manifest", vec![rule("PUT", "/manifests/sha256", 1, Act::LoseAnswer)]),
        (
            "a lost tag",
            vec![
                rule("PUT", "/manifests/1.0.0", 1, Act::Cut(100)),
                rule("HEAD", "/manifests/1.0.0", 1, Act::Cut(0)),
            ],
        ),
    ];
    std::thread::scope(|scope| {
        for (case, rules) in &cases {
            scope.spawn(move || {
                let proxy = Proxy::before(&stack("CICD_STACK_REGISTRY"), rules);
                let repository = repository(&proxy.host);
                let layout = Layout::image(&[random(2_000_000)]);
                let ended = push(&layout, &repository, &["--tag", "1.0.0"]).ended(0);
                assert_eq!(ended.json()["uploaded-bytes"], layout.size(), "{case}");
                assert_arrived(&layout, &repository, &["1.0.0"]);
                let sessions: Vec<String> = proxy
                    .lines(&["PUT"])
                    .into_iter()
                    .filter(|line| line.contains("/uploads/"))
                    .collect();
                let mut fresh = sessions.clone();
                fresh.sort();
                fresh.dedup();
                assert_eq!(
                    sessions.len(),
                    fresh.len(),
                    "{case}: each try has a session of its own"
                );
                if *case == "a lost answer" {
                    assert_eq!(
                        sessions.len(),
                        layout.blobs.len(),
                        "what arrived is not sent again"
                    );
                }
            });
        }
    });
}

/// A registry may send a look for a blob on to its storage, and what that says is not the
/// registry's word.
#[test]
fn a_look_that_is_sent_on_decides_nothing_but_yes() {
    let upstream = stack("CICD_STACK_REGISTRY");
    let look = |times, act| Rule { method: "HEAD", part: "/blobs/", times, act };
    for (answer, uploaded) in [("HTTP/1.1 403 Forbidden", 3), ("HTTP/1.1 200 OK", 0)] {
        let layout = Layout::image(&[random(1000), random(1000)]);
        let storage = Proxy::before(&upstream, &[look(usize::MAX, Act::Answer(answer))]);
        let sent_on =
            format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{}/blobs/x", storage.host);
        let proxy = Proxy::before(&upstream, &[look(usize::MAX, Act::Answer(sent_on.leak()))]);
        let repository = repository(&proxy.host);
        push(&layout, &repository, &["--tag", "1.0.0", "--plan"]).ended(0);
        assert_eq!(storage.lines(&["HEAD"]).len(), layout.blobs.len());
        if uploaded > 0 {
            push(&layout, &repository, &["--tag", "1.0.0"]).ended(0);
            assert_arrived(&layout, &repository, &["1.0.0"]);
        }
        assert_eq!(proxy.lines(&["POST"]).len(), uploaded);
    }
}

#[test]
fn a_registry_that_asks_for_time_gets_it_and_not_too_much() {
    let layout = Layout::image(&[random(100)]);
    let busy = Rule {
        method: "POST",
        part: "/uploads/",
        times: 1,
        act: Act::Answer("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2"),
    };
    let proxy = Proxy::before(&stack("CICD_STACK_REGISTRY"), std::slice::from_ref(&busy));
    push(&layout, &repository(&proxy.host), &["--tag", "1.0.0"]).ended(0);
    let seen = proxy.seen();
    let first = seen.iter().find(|seen| seen.method == "POST").expect("a session").at;
    let last = seen
        .iter()
        .filter(|seen| seen.method == "POST")
        .map(|seen| seen.at)
        .max()
        .expect("a session");
    assert!(last - first >= Duration::from_secs(2), "{:?}", last - first);

    // It is waited for as long as it asks, but never longer than the push may take.
    let busy =
        Rule { act: Act::Answer("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 120"), ..busy };
    let proxy = Proxy::before(&stack("CICD_STACK_REGISTRY"), std::slice::from_ref(&busy));
    let ended =
        push(&layout, &repository(&proxy.host), &["--tag", "1.0.0", "--timeout", "5s"]).ended(6);
    assert!(ended.stderr.contains("HTTP 429") && ended.stderr.contains("retry in 120."), "{ended}");

    let busy = Rule {
        act: Act::Answer("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600"),
        times: 9,
        ..busy
    };
    let proxy = Proxy::before(&stack("CICD_STACK_REGISTRY"), &[busy]);
    let message = message(&push(&layout, &repository(&proxy.host), &["--tag", "1.0.0"]).ended(1));
    assert!(message.contains("HTTP 429") && message.contains("3600 s"), "{message}");
}

#[test]
fn retries_end() {
    let layout = Layout::image(&[random(100)]);
    let down = Rule {
        method: "HEAD",
        part: "/manifests/",
        times: usize::MAX,
        act: Act::Answer("HTTP/1.1 502 Bad Gateway"),
    };
    let proxy = Proxy::before(&stack("CICD_STACK_REGISTRY"), &[down]);
    let message_of = |ended: Run| message(&ended);
    let said = message_of(push(&layout, &repository(&proxy.host), &["--tag", "1.0.0"]).ended(1));
    assert!(said.contains("HTTP 502") && said.contains("(6 tries)"), "{said}");
    assert_eq!(proxy.seen().len(), 6);

    let said = message_of(push(&layout, "localhost:1/tests/nobody", &["--tag", "1.0.0"]).ended(1));
    assert!(
        said.contains("cannot find 1.0.0 at localhost:1/tests/nobody")
            && said.contains("(3 tries)"),
        "{said}"
    );
}

/// Somebody takes the tag between our look and our write: the first looks are answered as they
/// would have been before.
#[test]
fn a_token_is_asked_for_renewed_once_and_never_shown() {
    let proxy = Proxy::with_tokens(&stack("CICD_STACK_REGISTRY"), 7);
    let repository = repository(&proxy.host);
    let layout = Layout::image(&[random(1000), random(2000), random(300_000)]);
    let ended = push(&layout, &repository, &["--tag", "1.0.0", "--verbose"]).ended(0);
    let tokens = proxy.lines(&["GET"]);
    assert_eq!(tokens.len(), 2, "four uploads whose token ran out renew it once: {tokens:?}");
    assert!(
        tokens[0].contains("scope=repository%3Atests%2Fpush-")
            && tokens[0].ends_with("%3Apull%2Cpush"),
        "{tokens:?}"
    );
    assert!(!format!("{ended}").contains("registry-secret"), "{ended}");
    assert_eq!(ended.json()["uploaded-bytes"], layout.size());
}

/// What asks for a token may stumble as the registry may.
#[test]
fn a_token_service_that_stumbles_is_asked_again() {
    let rule = |act| Rule { method: "GET", part: "/token", times: 1, act };
    for act in [Act::Answer("HTTP/1.1 503 Service Unavailable"), Act::Cut(0)] {
        let proxy = Proxy::with_tokens(&stack("CICD_STACK_REGISTRY"), usize::MAX);
        proxy.harm(&[rule(act)]);
        let (layout, repository) = (Layout::image(&[random(100)]), repository(&proxy.host));
        push(&layout, &repository, &["--tag", "1.0.0"]).ended(0);
        let asked = proxy.lines(&["GET"]).iter().filter(|line| line.contains("/token")).count();
        assert_eq!(asked, 2);
    }
}

#[test]
fn a_refusal_is_final_and_says_so() {
    let layout = Layout::image(&[random(100)]);
    let cases = [
        (
            "HEAD",
            "/manifests/",
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"",
            "wants a login",
        ),
        ("POST", "/uploads/", "HTTP/1.1 403 Forbidden", "wants a login"),
        ("POST", "/uploads/", "HTTP/1.1 404 Not Found", "create the repository first"),
    ];
    for (method, part, answer, fix) in cases {
        let rule = Rule { method, part, times: usize::MAX, act: Act::Answer(answer) };
        let proxy = Proxy::before(&stack("CICD_STACK_REGISTRY"), &[rule]);
        let message =
            message(&push(&layout, &repository(&proxy.host), &["--tag", "1.0.0"]).ended(3));
        assert!(message.contains(fix), "{message}");
        let tries = proxy
            .seen()
            .iter()
            .filter(|seen| seen.method == method && seen.path.contains(part))
            .count();
        assert!(tries <= 2, "{answer}: {tries} tries");
    }
}

/// Pushes over a line of 20 MB/s that is cut after so many bytes. Returns the repository, as it is
/// reached without the line.
fn push_over_cut_line(layout: &Layout, bytes: u64) -> String {
    let upstream = stack("CICD_STACK_REGISTRY");
    let port_of = |host: &str| host.rsplit(':').next().expect("a port").to_string();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let line = free.local_addr().expect("an address").to_string();
    drop(free);
    let mut cut = Command::new("python3");
    cut.arg(root().join("bench/link.py")).args([port_of(&line), port_of(&upstream)]);
    let mut cut =
        cut.args(["--rate", "20e6", "--cut", &bytes.to_string()]).spawn().expect("a line");
    while std::net::TcpStream::connect(&line).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let at = repository(&format!("localhost:{}", port_of(&line)));
    let ended = push(layout, &at, &["--tag", "1.0.0"]);
    assert_eq!((ended.code, cut.wait().expect("its end").code()), (1, Some(0)), "{ended}");
    let (_, name) = at.split_once('/').expect("a name");
    format!("{upstream}/{name}")
}

/// On a line where more at once is no faster, what is cut off has whole blobs behind it: at most one
/// large one is sent again.
#[test]
fn a_push_that_is_cut_off_on_a_slow_line_goes_on_with_whole_blobs() {
    let layout = Layout::image(&[random(24_000_000), random(20_000_000), random(3_000_000)]);
    let repository = push_over_cut_line(&layout, 38_000_000);
    let ended = push(&layout, &repository, &["--tag", "1.0.0"]).ended(0).json();
    let again = ended["uploaded-bytes"].as_u64().expect("a number");
    assert!(again < 24_100_000, "{again} bytes are sent again: more than the larger of the two");
}

/// Large blobs that wait for their turn take no lane from small ones.
#[test]
fn small_blobs_go_past_large_ones_that_wait() {
    let mut layers: Vec<Vec<u8>> = (0..8).map(|_| random(5_000_000)).collect();
    let small = random(1_000_000);
    layers.push(small.clone());
    let repository = push_over_cut_line(&Layout::image(&layers), 12_000_000);
    assert_eq!(get(&format!("{}/blobs/{}", url(&repository), sha256(&small))).0, 200);
}
