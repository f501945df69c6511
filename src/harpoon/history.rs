//! The last calls, for operators to look at.
//!
//! In memory only. Invariant: never more than [`MAX_CALLS`] entries, bodies only where the operator asked
//! for them, and no credentials of a URL.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Calls that are remembered.
pub const MAX_CALLS: usize = 100;

/// One call that was sent, or would have been.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it ended.
    pub at: SystemTime,
    /// The target's label.
    pub label: String,
    /// The URL that was called last, credentials hidden.
    pub url: String,
    /// The method that the caller asked for.
    pub method: &'static str,
    /// Status of the reply, 0 without one.
    pub status: u16,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// Media type of the reply.
    pub response_content_type: Option<String>,
    /// Bytes of the request's body.
    pub req_bytes: usize,
    /// Bytes of the reply's body.
    pub resp_bytes: usize,
    /// What went wrong, if anything did.
    pub error: Option<String>,
    /// The bodies, where they are captured.
    pub payload: Option<Payload>,
}

/// The bodies of one call.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    /// Of the request.
    pub request: String,
    /// Of the reply, as it came.
    pub response: Vec<u8>,
    /// Of the reply with its URLs replaced, if there were any.
    pub transformed: Option<Vec<u8>>,
}

/// The ring of them.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Arc<Call>>>);

impl History {
    pub(super) fn push(&self, call: Call) {
        let call = Arc::new(call);
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Dropped after the lock: it may be large.
        let _oldest = if calls.len() >= MAX_CALLS { calls.pop_front() } else { None };
        calls.push_back(call);
        drop(calls);
    }

    /// The newest calls first: `limit` of them at most, those of `label` only if it is not empty.
    pub fn recent(&self, label: &str, limit: usize) -> Vec<Arc<Call>> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = calls.iter().rev().filter(|call| label.is_empty() || call.label == label);
        wanted.take(limit.min(MAX_CALLS)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_call_makes_room_and_the_newest_comes_first() {
        let history = History::default();
        for n in 0..=MAX_CALLS {
            history.push(Call {
                at: SystemTime::now(),
                label: if n % 2 == 0 { "even" } else { "odd" }.into(),
                url: String::new(),
                method: "GET",
                status: 200,
                latency_ms: n as u64,
                response_content_type: None,
                req_bytes: 0,
                resp_bytes: 0,
                error: None,
                payload: None,
            });
        }
        let latencies = |label, limit| -> Vec<u64> {
            history.recent(label, limit).iter().map(|call| call.latency_ms).collect()
        };
        assert_eq!(latencies("", 2), [100, 99]);
        assert_eq!(latencies("odd", 2), [99, 97]);
        assert_eq!(latencies("", 1000).len(), MAX_CALLS);
        assert_eq!(latencies("", 1000).last(), Some(&1));
        assert!(latencies("none", 9).is_empty());
    }
}
