//! What bounds a tunnel, and what tells that it has emptied.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::rate::Rate;

/// Bounds of one tunnel.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// How long a connector's request is held.
    pub(crate) response_timeout: Duration,
    /// How long a client that neither polls nor posts still counts as connected.
    pub(crate) client_last_seen_timeout: Duration,
    /// Queued commands.
    pub(crate) queue_max: usize,
    /// Bytes of queued commands.
    pub(crate) queue_bytes: usize,
    /// Notifications buffered for one held request.
    pub(crate) notifications: usize,
    /// Their bytes; a single one may exceed it.
    pub(crate) notification_bytes: usize,
    /// Calls of connectors; `None` is without a bound.
    pub(crate) rate: Option<Rate>,
    /// How long a client keeps the channels that depend on its process without being heard of; `None`
    /// gives commands to whoever asks first.
    pub(crate) affinity_lease: Option<Duration>,
}

/// Bytes queued in all tunnels of a process together.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Budget {
        Budget { used: AtomicUsize::new(0), limit }
    }

    pub(super) fn take(&self, bytes: usize) -> bool {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > self.limit {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        used <= self.limit
    }

    /// Without asking: for what was admitted before.
    pub(super) fn retake(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Told whenever a tunnel that takes no new work has nothing left to hold.
#[derive(Debug, Default)]
pub(crate) struct Emptied {
    lock: Mutex<()>,
    changed: Condvar,
}

impl Emptied {
    pub(super) fn tell(&self) {
        let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.notify_all();
    }

    /// Waits until `done`, which is asked again whenever a tunnel has emptied; false if `deadline` came first.
    pub(super) fn wait(&self, deadline: Instant, done: impl Fn() -> bool) -> bool {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if done() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            lock = self.changed.wait_timeout(lock, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
