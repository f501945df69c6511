//! Retry delays.

use std::time::{Duration, SystemTime};

/// Longest delay that a `Retry-After` header may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Exponential back-off with jitter: the first delay is `min`, later ones are drawn between `min`
/// and a bound that doubles, never above `max`.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    /// Delays between `min` and `max`.
    pub fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max, attempt: 0 }
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let factor = 2f64.powi(self.attempt.min(30) as i32);
        self.attempt = self.attempt.saturating_add(1);
        let min = self.min.as_secs_f64();
        let delay = min + unit_random() * (min * factor - min);
        Duration::from_secs_f64(delay.clamp(min, self.max.as_secs_f64()))
    }

    /// Starts again with the first delay.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// Replaces the longest delay.
    pub fn set_max(&mut self, max: Duration) {
        self.max = max;
    }
}

/// Uniform in `[0, 1)`. Jitter needs no secrecy: without random bytes it is merely absent.
fn unit_random() -> f64 {
    getrandom::u32().map_or(0.0, |value| f64::from(value) / (f64::from(u32::MAX) + 1.0))
}

/// The delay that a `Retry-After` value asks for (RFC 9110 §10.2.3): whole seconds or an HTTP date,
/// capped at 60 s. Anything else, a date in the past included, is ignored.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if value.is_empty() {
        return None;
    }
    if value.bytes().all(|b| b.is_ascii_digit()) {
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let date = super::http_date::parse(value)?;
    let delay = date.duration_since(now).ok()?;
    (!delay.is_zero()).then(|| delay.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_start_at_the_minimum_double_and_stay_below_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        assert_eq!(backoff.next_delay(), Duration::from_millis(200));
        let second = backoff.next_delay();
        assert!(second >= Duration::from_millis(200) && second < Duration::from_millis(400), "{second:?}");
        for _ in 0..100 {
            assert!(backoff.next_delay() <= Duration::from_secs(10));
        }
        backoff.reset();
        assert_eq!(backoff.next_delay(), Duration::from_millis(200));
    }

    #[test]
    fn retry_after_takes_seconds_and_dates_and_ignores_the_rest() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let seconds = |n| Some(Duration::from_secs(n));
        for (text, expected) in [
            ("2", seconds(2)),
            (" 0 ", seconds(0)),
            ("99999999999999999999", seconds(60)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", seconds(10)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", seconds(10)),
            ("Sun Nov  6 08:49:47 1994", seconds(10)),
            ("Sun, 06 Nov 1994 09:49:47 GMT", seconds(60)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", None),
            ("-1", None),
            ("1.5", None),
            ("later", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now), expected, "{text:?}");
        }
    }
}
