//! The retry policy: how often a client tries, and how long it pauses in between. Pure, except for
//! [`random_share`]. The SDK's clients have one in `aws.rs`; a deploy's calls of them are tried
//! again by this one (`aws/call.rs`).

use std::time::Duration;

use jiff::fmt::rfc2822;

/// The bounds of the retries: their number and every pause.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Tries in all, the first one included.
    pub attempts: u32,
    /// The backoff begins with this pause; each later one is twice as long.
    pub first_pause: Duration,
    /// No pause of the backoff is longer. A server that asks for more gets no other try.
    pub longest_pause: Duration,
    /// The share of each pause that is random, from 0 to 1, so that runs which failed together do
    /// not come back together.
    pub jitter: f64,
}

impl RetryPolicy {
    /// A quarter of a minute in all for a server that names no time, and a minute each time for one
    /// that does.
    pub const DEFAULT: RetryPolicy = RetryPolicy {
        attempts: 6,
        first_pause: Duration::from_millis(500),
        longest_pause: Duration::from_secs(60),
        jitter: 0.5,
    };

    /// The pause before retry number `retry` (from 1); `None` if there is none any more. `asked` is
    /// what the server asks for, `random` is between 0 and 1.
    pub fn pause(&self, retry: u32, asked: Option<Duration>, random: f64) -> Option<Duration> {
        if retry >= self.attempts {
            return None;
        }
        let backoff = self
            .first_pause
            .saturating_mul(2_u32.saturating_pow(retry.saturating_sub(1)))
            .min(self.longest_pause);
        let own =
            backoff.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * (1.0 - random.clamp(0.0, 1.0)));
        match asked {
            Some(asked) if asked > self.longest_pause => None,
            // Everybody was told the same time: the backoff behind it spreads the retries.
            Some(asked) => Some(asked.saturating_add(own)),
            None => Some(own),
        }
    }
}

/// Reads `Retry-After`: seconds, or a date, which is compared with the answer's own `Date`.
/// <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
pub fn read_retry_after(retry_after: Option<&str>, date: Option<&str>) -> Option<Duration> {
    let text = retry_after?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (then, now) = (rfc2822::parse(text).ok()?, rfc2822::parse(date?).ok()?);
    let seconds = then.timestamp().as_second().saturating_sub(now.timestamp().as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Draws a number between 0 and 1.
pub fn random_share() -> f64 {
    let mut byte = [0_u8];
    match aws_lc_rs::rand::fill(&mut byte) {
        Ok(()) => f64::from(byte[0]) / 255.0,
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pauses_are_bounded_and_end() {
        struct Case {
            policy: RetryPolicy,
            retry: u32,
            asked: Option<Duration>,
            random: f64,
            expected: Option<Duration>,
        }
        let case = |retry, asked, random, expected| Case {
            policy: RetryPolicy::DEFAULT,
            retry,
            asked,
            random,
            expected,
        };
        let millis = |millis| Some(Duration::from_millis(millis));
        let endless = RetryPolicy { attempts: u32::MAX, ..RetryPolicy::DEFAULT };
        let steady = RetryPolicy { jitter: 0.0, ..RetryPolicy::DEFAULT };
        let wild = RetryPolicy { jitter: 7.0, ..RetryPolicy::DEFAULT };
        let once = RetryPolicy { attempts: 1, ..RetryPolicy::DEFAULT };
        let none = RetryPolicy { attempts: 0, ..RetryPolicy::DEFAULT };
        let huge = RetryPolicy { longest_pause: Duration::MAX, ..RetryPolicy::DEFAULT };
        let cases = [
            // The backoff doubles, and the jitter takes up to half of it away.
            case(1, None, 1.0, millis(500)),
            case(2, None, 1.0, millis(1000)),
            case(3, None, 1.0, millis(2000)),
            case(4, None, 1.0, millis(4000)),
            case(5, None, 1.0, millis(8000)),
            case(1, None, 0.0, millis(250)),
            case(5, None, 0.0, millis(4000)),
            case(1, None, 9.0, millis(500)),
            case(1, None, -9.0, millis(250)),
            Case { policy: steady, ..case(2, None, 0.0, millis(1000)) },
            Case { policy: wild, ..case(2, None, 0.0, millis(0)) },
            // The tries end, whatever the server asks for.
            case(6, None, 1.0, None),
            case(6, Some(seconds(0)), 1.0, None),
            Case { policy: once, ..case(1, None, 1.0, None) },
            Case { policy: none, ..case(1, None, 1.0, None) },
            Case { policy: endless, ..case(u32::MAX - 1, None, 1.0, Some(seconds(60))) },
            // The server's own pause is waited for as long as it is bounded.
            case(1, Some(seconds(7)), 1.0, millis(7500)),
            case(1, Some(seconds(7)), 0.0, millis(7250)),
            case(1, Some(seconds(60)), 1.0, millis(60500)),
            case(5, Some(seconds(1)), 1.0, Some(seconds(9))),
            case(1, Some(seconds(3600)), 1.0, None),
            Case { policy: huge, ..case(1, Some(Duration::MAX), 1.0, Some(Duration::MAX)) },
        ];
        for Case { policy, retry, asked, random, expected } in cases {
            let found = policy.pause(retry, asked, random);
            assert_eq!(found, expected, "{policy:?} {retry} {asked:?} {random}");
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        struct Case {
            retry_after: Option<&'static str>,
            date: Option<&'static str>,
            expected: Option<u64>,
        }
        let date = Some("Mon, 23 Nov 2026 03:26:13 GMT");
        let case = |retry_after, date, expected| Case { retry_after, date, expected };
        let cases = [
            case(Some("3"), None, Some(3)),
            case(Some(" 0 "), None, Some(0)),
            case(Some("Mon, 23 Nov 2026 03:26:23 GMT"), date, Some(10)),
            case(Some("Mon, 23 Nov 2026 03:26:03 GMT"), date, Some(0)),
            case(Some("Mon, 23 Nov 2026 03:26:23 GMT"), None, None),
            case(Some("soon"), date, None),
            case(Some("-1"), date, None),
            case(Some("1.5"), date, None),
            case(Some(""), date, None),
            case(Some("99999999999999999999"), date, None),
            case(None, date, None),
        ];
        for Case { retry_after, date, expected } in cases {
            let found = read_retry_after(retry_after, date);
            assert_eq!(found, expected.map(Duration::from_secs), "{retry_after:?}");
        }
    }
}
