//! When to ask a server again, and after how long. Pure, but for [`chance`].

use std::time::Duration;

use jiff::fmt::rfc2822;

/// How often and how long we wait for a server that is not well. Every wait is bounded, and so is
/// their number.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries after the first one.
    pub again: u32,
    /// The first pause; each later one is twice as long.
    pub pause: Duration,
    /// No pause is longer. A server that asks for more is not waited for.
    pub longest: Duration,
    /// How long an upload may stand still, and how long any other request may take.
    pub still: Duration,
}

impl Patience {
    /// About a quarter of a minute for a server that says nothing of time, and a minute a time for
    /// one that does.
    pub const DEFAULT: Patience = Patience {
        again: 5,
        pause: Duration::from_millis(500),
        longest: Duration::from_secs(60),
        still: Duration::from_secs(60),
    };

    /// How long to wait before try number `again` (from 1), or not to try again. `asked` is what
    /// the server asked for; `chance` is between 0 and 1, so that many runs that failed together do
    /// not come back together.
    pub fn pause(&self, again: u32, asked: Option<Duration>, chance: f64) -> Option<Duration> {
        if again > self.again {
            return None;
        }
        let doubled = self
            .pause
            .saturating_mul(2_u32.saturating_pow(again.saturating_sub(1)))
            .min(self.longest);
        let own = doubled.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        match asked {
            Some(asked) if asked > self.longest => None,
            // Behind it, so that all who were told the same time do not come back together.
            Some(asked) => Some(asked + own),
            None => Some(own),
        }
    }
}

/// What `Retry-After` asks for: seconds, or a date, which is compared with the answer's own `Date`.
/// <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
pub fn asked(retry_after: Option<&str>, date: Option<&str>) -> Option<Duration> {
    let text = retry_after?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (then, now) = (rfc2822::parse(text).ok()?, rfc2822::parse(date?).ok()?);
    let seconds = then.timestamp().as_second().saturating_sub(now.timestamp().as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Between 0 and 1, another one each time.
pub fn chance() -> f64 {
    let mut byte = [0_u8];
    match aws_lc_rs::rand::fill(&mut byte) {
        Ok(()) => f64::from(byte[0]) / 255.0,
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_are_bounded_and_end() {
        let patience = Patience::DEFAULT;
        let pauses: Vec<u128> = (1..=5)
            .filter_map(|again| patience.pause(again, None, 1.0))
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000]);
        assert_eq!(patience.pause(1, None, 0.0), Some(Duration::from_millis(250)));
        assert_eq!(patience.pause(6, None, 1.0), None);
        assert_eq!(patience.pause(6, Some(Duration::ZERO), 1.0), None);
        let long = Patience { again: u32::MAX, ..patience };
        assert_eq!(long.pause(u32::MAX, None, 1.0), Some(patience.longest));
    }

    #[test]
    fn what_a_server_asks_for_is_kept_to_within_bounds() {
        let seconds = Duration::from_secs;
        let patience = Patience::DEFAULT;
        assert_eq!(patience.pause(1, Some(seconds(7)), 1.0), Some(Duration::from_millis(7500)));
        assert_eq!(patience.pause(1, Some(seconds(7)), 0.0), Some(Duration::from_millis(7250)));
        assert_eq!(
            patience.pause(5, Some(seconds(1)), 1.0),
            Some(seconds(9)),
            "never less than our own pause"
        );
        assert_eq!(patience.pause(1, Some(seconds(3600)), 1.0), None, "not an hour");
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let date = Some("Mon, 23 Nov 2026 03:26:13 GMT");
        let cases = [
            (Some("3"), None, Some(3)),
            (Some(" 0 "), None, Some(0)),
            (Some("Mon, 23 Nov 2026 03:26:23 GMT"), date, Some(10)),
            (Some("Mon, 23 Nov 2026 03:26:03 GMT"), date, Some(0)),
            (Some("Mon, 23 Nov 2026 03:26:23 GMT"), None, None),
            (Some("soon"), date, None),
            (Some("-1"), date, None),
            (Some("99999999999999999999"), date, None),
            (None, date, None),
        ];
        for (retry_after, date, expected) in cases {
            assert_eq!(
                asked(retry_after, date),
                expected.map(Duration::from_secs),
                "{retry_after:?}"
            );
        }
    }
}
