//! How long to wait before the next poll.
//!
//! Polling never gives up; this only keeps it from hammering.

use std::time::Duration;

use super::poll::PollError;
use crate::net::Backoff;

const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Ceiling for failures that only an operator can end.
const RETRY_MAX_OPERATOR: Duration = Duration::from_secs(60);

/// Empty polls in a row that may return at once before they are slowed down.
const QUICK_POLLS_FREE: u32 = 10;
/// An empty poll that took less came back at once, however little time it offered.
const QUICK_MIN: Duration = Duration::from_millis(1);
/// An empty poll that was held this long is a long poll, whatever was asked for.
const QUICK_MAX: Duration = Duration::from_secs(1);
const QUICK_DELAY_MIN: Duration = Duration::from_millis(10);
const QUICK_DELAY_MAX: Duration = Duration::from_millis(250);

/// The memory of past polls that the next delay depends on.
#[derive(Debug)]
pub(super) struct Pace {
    backoff: Backoff,
    /// Empty polls in a row that came back at once.
    quick: u32,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { backoff: Backoff::new(RETRY_MIN, RETRY_MAX), quick: 0 }
    }

    /// Whether `status` means that an operator has to act.
    pub(super) fn needs_operator(status: u16) -> bool {
        matches!(status, 400 | 401 | 403 | 404)
    }

    /// The delay after a poll that took `took` of the `timeout` it offered. None, unless the control
    /// plane keeps answering empty polls at once.
    pub(super) fn after_success(&mut self, empty: bool, took: Duration, timeout: Duration) -> Duration {
        self.backoff.reset();
        if !empty || took >= (timeout / 4).clamp(QUICK_MIN, QUICK_MAX) {
            self.quick = 0;
            return Duration::ZERO;
        }
        self.quick = self.quick.saturating_add(1);
        match self.quick.checked_sub(QUICK_POLLS_FREE) {
            None => Duration::ZERO,
            Some(excess) => (QUICK_DELAY_MIN * 2u32.saturating_pow(excess.min(16))).min(QUICK_DELAY_MAX),
        }
    }

    /// The delay after a failed poll.
    pub(super) fn after_failure(&mut self, error: &PollError) -> Duration {
        self.quick = 0;
        let operator = error.status().is_some_and(|status| Pace::needs_operator(status.status));
        self.backoff.set_max(if operator { RETRY_MAX_OPERATOR } else { RETRY_MAX });
        self.backoff.next_delay().max(error.retry_after.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::{ErrorDetail, PollFailure, StatusError};

    fn failure(status: u16, retry_after: Option<u64>) -> PollError {
        PollError {
            failure: PollFailure::Status(Box::new(StatusError { status, detail: ErrorDetail::default() })),
            tunnel_request_id: None,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn failures_back_off_from_200_ms_up_to_a_ceiling_that_depends_on_who_can_help() {
        for (status, ceiling) in [(503, 10), (500, 10), (429, 10), (401, 60), (403, 60), (404, 60), (400, 60)]
        {
            let mut pace = Pace::new();
            assert_eq!(pace.after_failure(&failure(status, None)), Duration::from_millis(200));
            let longest = (0..200).map(|_| pace.after_failure(&failure(status, None))).max().unwrap();
            assert!(longest <= Duration::from_secs(ceiling), "{status}: {longest:?}");
            assert!(longest > Duration::from_secs(ceiling / 2), "{status}: {longest:?}");
            pace.after_success(true, Duration::from_secs(30), Duration::from_secs(30));
            assert_eq!(pace.after_failure(&failure(status, None)), Duration::from_millis(200));
        }
    }

    #[test]
    fn retry_after_is_a_floor() {
        let mut pace = Pace::new();
        assert_eq!(pace.after_failure(&failure(429, Some(2))), Duration::from_secs(2));
        assert_eq!(Pace::new().after_failure(&failure(429, Some(0))), Duration::from_millis(200));
    }

    #[test]
    fn only_a_run_of_empty_polls_that_return_at_once_is_slowed_down() {
        let timeout = Duration::from_secs(30);
        let mut pace = Pace::new();
        for _ in 0..QUICK_POLLS_FREE - 1 {
            assert_eq!(pace.after_success(true, Duration::ZERO, timeout), Duration::ZERO);
        }
        let delays: Vec<_> = (0..8).map(|_| pace.after_success(true, Duration::ZERO, timeout)).collect();
        assert_eq!(delays[0], QUICK_DELAY_MIN);
        assert!(delays.is_sorted() && delays[7] == QUICK_DELAY_MAX, "{delays:?}");
        assert_eq!(pace.after_success(false, Duration::ZERO, timeout), Duration::ZERO);
        assert_eq!(pace.after_success(true, Duration::ZERO, timeout), Duration::ZERO);
        let mut held = Pace::new();
        for _ in 0..100 {
            assert_eq!(held.after_success(true, Duration::from_secs(1), timeout), Duration::ZERO);
        }
        let mut least = Pace::new();
        let delays: Vec<_> =
            (0..30).map(|_| least.after_success(true, Duration::ZERO, Duration::from_nanos(1))).collect();
        assert_eq!(delays[29], QUICK_DELAY_MAX);
        let mut short = Pace::new();
        for _ in 0..100 {
            assert_eq!(
                short.after_success(true, Duration::from_millis(100), Duration::from_millis(100)),
                Duration::ZERO
            );
        }
    }
}
