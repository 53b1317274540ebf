//! Five hundred pushes, each through a proxy that does it harm by the roll of dice that fall the
//! same way every time. Each ends complete and identical, or failed with a reason and without a
//! tag.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::layouts::{Layout, random};
use super::proxy::{Act, Proxy, Rule};
use super::{assert_arrived, assert_no_tag, get, push, repository, url};
use crate::support::stack;

const PUSHES: u64 = 500;
/// Most of a push that fails at times is waiting, so that many run at once.
const AT_ONCE: usize = 48;

/// <https://prng.di.unimi.it/splitmix64.c>
fn roll(state: &mut u64, sides: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) % sides as u64) as usize
}

fn faults(seed: u64) -> Vec<Rule> {
    let places = [
        ("HEAD", "/manifests/"),
        ("HEAD", "/blobs/"),
        ("POST", "/uploads/"),
        ("PUT", "/uploads/"),
        ("PUT", "/manifests/sha256"),
        ("PUT", "/manifests/1.0.0"),
        ("GET", "/referrers/"),
        ("GET", "/manifests/sha256-"),
        ("PUT", "/manifests/sha256-"),
    ];
    let acts = [
        Act::Cut(0),
        Act::Cut(50),
        Act::Cut(100),
        Act::LoseAnswer,
        Act::HalfAnswer,
        Act::Slow(50_000),
        Act::Answer("HTTP/1.1 429 Too Many Requests"),
        Act::Answer("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1"),
        Act::Answer("HTTP/1.1 503 Service Unavailable"),
        Act::Answer("HTTP/1.1 500 Internal Server Error"),
        Act::Answer("HTTP/1.1 416 Range Not Satisfiable"),
        Act::Answer("HTTP/1.1 401 Unauthorized"),
        Act::Answer("HTTP/1.1 403 Forbidden"),
        Act::Answer("HTTP/1.1 400 Bad Request"),
        Act::Say(
            "HTTP/1.1 400 Bad Request",
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"Rate exceeded"}]}"#,
        ),
        Act::Say(
            "HTTP/1.1 404 Not Found",
            r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}"#,
        ),
    ];
    let mut state = seed;
    (0..=roll(&mut state, 2))
        .map(|_| {
            let (method, part) = places[roll(&mut state, places.len())];
            Rule {
                method,
                part,
                times: 1 + roll(&mut state, 2),
                act: acts[roll(&mut state, acts.len())].clone(),
            }
        })
        .collect()
}

#[test]
fn five_hundred_harmed_pushes_end_whole_or_without_a_tag() {
    let (next, whole) = (AtomicU64::new(0), AtomicUsize::new(0));
    let upstream = stack("CICD_STACK_REGISTRY");
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= PUSHES {
                        return;
                    }
                    one(seed, &upstream, &whole);
                }
            });
        }
    });
    let whole = whole.into_inner();
    // Most faults pass; a refusal (401, 403, 400) does not.
    assert!((250..500).contains(&whole), "{whole} of {PUSHES} arrived");
}

fn one(seed: u64, upstream: &str, whole: &AtomicUsize) {
    let rules = faults(seed);
    let proxy = Proxy::before(upstream, &rules);
    let repository = repository(&proxy.host);
    // Every shape meets every roll of the dice.
    let (layout, referrers) = match seed % 4 {
        0 => (Layout::image(&[random(20_000), random(50)]), vec![]),
        1 => (Layout::index(&[random(500), random(20_000), random(50)]), vec![]),
        2 => Layout::with_referrers(&[random(20_000)], 2),
        _ => (Layout::image(&(0..6).map(|layer| random(100 + layer)).collect::<Vec<_>>()), vec![]),
    };
    let ended = push(&layout, &repository, &["--tag", "1.0.0"]);
    // What is there is asked of the registry itself.
    let there = repository.replacen(&proxy.host, upstream, 1);
    if ended.code == 0 {
        assert_eq!(ended.json()["digest"], layout.digest, "{seed}: {rules:?}");
        assert_arrived(&layout, &there, &["1.0.0"]);
        if !referrers.is_empty() {
            let (_, list) =
                get(&format!("{}/manifests/{}", url(&there), layout.digest.replace(':', "-")));
            let list = String::from_utf8_lossy(&list);
            assert!(referrers.iter().all(|one| list.contains(one)), "{seed}: {rules:?}: {list}");
        }
        whole.fetch_add(1, Ordering::Relaxed);
    } else {
        assert!(matches!(ended.code, 1 | 3 | 6), "{seed}: {rules:?}: {ended}");
        assert!(ended.json()["error"]["message"].is_string(), "{seed}: {ended}");
        assert_no_tag(&there, "1.0.0");
    }
}
