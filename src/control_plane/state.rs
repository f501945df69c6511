//! How polling is doing, for status pages and readiness.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The shared record of polling.
#[derive(Debug, Default)]
pub struct PollState(Mutex<PollStatus>);

/// A snapshot of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollStatus {
    /// When a poll last succeeded.
    pub last_success: Option<SystemTime>,
    /// The latest failure, kept after recovery.
    pub last_error: Option<PollTrouble>,
    /// Whether the latest poll failed.
    pub failing: bool,
}

/// A failed poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollTrouble {
    /// When it failed.
    pub at: SystemTime,
    /// One sentence for the operator.
    pub text: String,
    /// The HTTP status, if there was a reply.
    pub status: Option<u16>,
    /// The control plane's error code; may be empty.
    pub code: String,
    /// What to do about it, if the code is known.
    pub mitigation: Option<&'static str>,
}

impl PollState {
    /// No poll has ended yet.
    pub fn new() -> PollState {
        PollState::default()
    }

    /// How polling is doing now.
    pub fn snapshot(&self) -> PollStatus {
        self.lock().clone()
    }

    /// Records a success; true if polls had been failing.
    pub(super) fn succeeded(&self, at: SystemTime) -> bool {
        let mut status = self.lock();
        status.last_success = Some(at);
        std::mem::take(&mut status.failing)
    }

    /// Records a failure; true if it differs from the one before it.
    pub(super) fn failed(&self, trouble: PollTrouble) -> bool {
        let mut status = self.lock();
        let same = status.failing
            && status.last_error.as_ref().is_some_and(|last| {
                (&last.text, last.status, &last.code) == (&trouble.text, trouble.status, &trouble.code)
            });
        status.last_error = Some(trouble);
        status.failing = true;
        !same
    }

    fn lock(&self) -> MutexGuard<'_, PollStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(status: u16, code: &str) -> PollTrouble {
        let text = format!("{status} {code}");
        PollTrouble { at: SystemTime::now(), text, status: Some(status), code: code.into(), mitigation: None }
    }

    #[test]
    fn only_a_change_of_error_is_news_and_a_success_ends_it() {
        let state = PollState::new();
        assert!(state.failed(trouble(401, "a")));
        assert!(!state.failed(trouble(401, "a")));
        assert!(state.failed(trouble(401, "b")));
        assert!(state.succeeded(SystemTime::now()));
        assert!(!state.succeeded(SystemTime::now()));
        assert!(!state.snapshot().failing && state.snapshot().last_error.is_some());
        assert!(state.failed(trouble(401, "b")));
    }
}
