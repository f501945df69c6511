//! What a connection shows to the rest of its front: whether it is only waiting for its peer.
//!
//! Invariant: a connection that was cut while it waited never gets as far as handling what it waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Shared;

/// A request is being handled.
const BUSY: u64 = 0;
/// Whoever set it shuts the socket down.
const CUT: u64 = 1;
/// Set in a state that is neither: it waits within a request, for a body.
const WITHIN: u64 = 1;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The next request, or the end of the connection.
    Between,
    /// The rest of a request.
    Within,
}

/// The state of one connection; its own thread leaves it, others may only cut it.
pub(super) struct Live {
    pub(super) shared: Arc<Shared>,
    /// [`BUSY`], [`CUT`], or since when it waits: nanoseconds of the front's clock, shifted for [`WITHIN`].
    state: AtomicU64,
}

impl Live {
    /// Of a connection that was just accepted: it waits for its first request.
    pub(super) fn new(shared: Arc<Shared>) -> Live {
        let state = AtomicU64::new(stamp(shared.started, Waiting::Between));
        Live { shared, state }
    }

    pub(super) fn stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }

    /// From now on it may be cut; called by the connection itself, while busy.
    pub(super) fn wait(&self, waiting: Waiting) {
        self.state.store(stamp(self.shared.started, waiting), Ordering::SeqCst);
    }

    /// Ends the wait; false when the connection was cut meanwhile.
    pub(super) fn resume(&self) -> bool {
        let was = self.state.load(Ordering::SeqCst);
        was != CUT && self.state.compare_exchange(was, BUSY, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The state to be given to [`Live::cut`]; smaller means waiting for longer. `None` while busy.
    pub(super) fn waits(&self) -> Option<u64> {
        Some(self.state.load(Ordering::SeqCst)).filter(|state| *state > CUT)
    }

    /// Whether a state says that nothing of a request is in hand.
    pub(super) fn is_between(state: u64) -> bool {
        state & WITHIN == 0
    }

    /// Cuts a connection that is still in `state`; if true, the caller must shut its socket down.
    pub(super) fn cut(&self, state: u64) -> bool {
        self.state.compare_exchange(state, CUT, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

fn stamp(started: Instant, waiting: Waiting) -> u64 {
    let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX >> 2);
    (nanoseconds + 1) << 1 | u64::from(waiting == Waiting::Within)
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Settings, WhenFull};
    use super::*;
    use std::collections::HashMap;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use crate::net::Cancel;

    fn live() -> Live {
        let second = Duration::from_secs(1);
        let limits = Limits {
            head: second,
            head_bytes: 1,
            idle: second,
            body: second,
            discard: second,
            write: second,
            connections: 1,
        };
        Live::new(Arc::new(Shared {
            settings: Settings { name: "test", limits, when_full: WhenFull::Refuse, stack_bytes: 0 },
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            stop: Cancel::new(),
            connections: Mutex::new(HashMap::new()),
        }))
    }

    #[test]
    fn a_wait_ends_once_either_by_resuming_or_by_a_cut() {
        let live = live();
        let first = live.waits().unwrap();
        assert!(Live::is_between(first));
        assert!(live.resume());
        assert_eq!(live.waits(), None);
        assert!(!live.cut(first), "what was waited for has come");
        live.wait(Waiting::Within);
        let second = live.waits().unwrap();
        assert!(!Live::is_between(second) && second >> 1 >= first >> 1);
        assert!(live.cut(second) && !live.cut(second));
        assert!(!live.resume() && live.waits().is_none());
    }
}
