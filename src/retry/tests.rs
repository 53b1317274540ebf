//! The loop on scripted attempts.

use super::*;
use crate::report::{Format, Verbosity};

const QUICK: RetryPolicy = RetryPolicy {
    attempts: 4,
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(2),
    jitter: 0.0,
};

/// One attempt of a script, by the word that stands for it.
fn scripted(word: &str) -> Attempt<u32> {
    let why = || Error::unexpected(format!("cannot ask: {word}"));
    match word {
        "done" => Attempt::Done(7),
        "busy" => Attempt::Retry { why: why(), after: None },
        "asks 1 ms" => Attempt::Retry { why: why(), after: Some(Duration::from_millis(1)) },
        "asks 1 h" => Attempt::Retry { why: why(), after: Some(Duration::from_secs(3600)) },
        "401" => Attempt::Reauthorize { why: why() },
        _ => Attempt::Refused(why()),
    }
}

fn silent() -> Report {
    Report::to(Box::new(std::io::sink()), Format::Json, Verbosity::Quiet, false)
}

#[tokio::test]
async fn the_loop_ends_as_the_attempts_say() {
    struct Case {
        script: &'static [&'static str],
        /// The tries that are made: `renew` for those that renew the authorisation first.
        tries: &'static [&'static str],
        /// The word of the error; none if it is done.
        error: Option<&'static str>,
    }
    let cases = [
        Case { script: &["done"], tries: &["send"], error: None },
        Case { script: &["no"], tries: &["send"], error: Some("no") },
        Case { script: &["busy", "asks 1 ms", "done"], tries: &["send"; 3], error: None },
        Case { script: &["busy", "no"], tries: &["send"; 2], error: Some("no") },
        Case { script: &["busy"; 9], tries: &["send"; 4], error: Some("busy") },
        Case { script: &["asks 1 h", "done"], tries: &["send"], error: Some("asks 1 h") },
        // A renewal is no retry, and follows at once.
        Case { script: &["401", "done"], tries: &["send", "renew"], error: None },
        Case { script: &["401", "401", "done"], tries: &["send", "renew"], error: Some("401") },
        Case {
            script: &["401", "busy", "401", "done"],
            tries: &["send", "renew", "send", "renew"],
            error: None,
        },
        Case {
            script: &["busy", "busy", "busy", "401", "done"],
            tries: &["send", "send", "send", "send", "renew"],
            error: None,
        },
        Case {
            script: &["401", "busy", "401", "busy", "401", "busy", "401", "busy", "done"],
            tries: &["send", "renew", "send", "renew", "send", "renew", "send", "renew"],
            error: Some("busy"),
        },
    ];
    for Case { script, tries, error } in cases {
        let mut made = Vec::new();
        let ended = run(&QUICK, None, &silent(), async |this: Try| {
            made.push(if this.renew { "renew" } else { "send" });
            assert_eq!(this.number as usize, made.len());
            scripted(script[made.len() - 1])
        })
        .await;
        assert_eq!(made, tries, "{script:?}");
        match error {
            None => assert_eq!(ended.ok(), Some(7), "{script:?}"),
            Some(word) => {
                let error = ended.expect_err("an end");
                assert_eq!(error.message, format!("cannot ask: {word}"), "{script:?}");
            }
        }
    }
}

/// The time is over in the middle of an attempt, in a pause, and before the first attempt.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a deadline is a time of the clock")]
async fn nothing_outlasts_the_deadline() {
    let slow = RetryPolicy { first_pause: Duration::from_secs(50), ..RetryPolicy::DEFAULT };
    for (pause, attempt, expected) in [
        (slow, "busy", "cannot ask: busy: the deadline passed"),
        (QUICK, "hang", "cannot finish a request: the deadline passed"),
        (QUICK, "busy, then hang", "cannot ask: busy: the deadline passed"),
    ] {
        let (begin, mut tries) = (Instant::now(), 0);
        let deadline = begin + Duration::from_millis(50);
        let ended = run(&pause, Some(deadline), &silent(), async |_| {
            tries += 1;
            if attempt == "hang" || (attempt != "busy" && tries > 1) {
                sleep(Duration::from_secs(50)).await;
            }
            scripted("busy")
        })
        .await;
        let error = ended.expect_err("no time");
        assert_eq!((error.kind, error.to_string().as_str()), (Kind::TimedOut, expected));
        assert!(begin.elapsed() < Duration::from_secs(20), "{attempt}");
    }
    let over = Instant::now();
    let ended = run(&QUICK, Some(over), &silent(), async |_| {
        sleep(Duration::from_secs(50)).await;
        scripted("done")
    })
    .await;
    assert_eq!(ended.expect_err("no time").kind, Kind::TimedOut);
}
