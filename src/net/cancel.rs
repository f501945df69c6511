//! Cancellation that reaches threads wherever they are blocked.
//!
//! A token is waited on as a channel ([`Cancel::receiver`]), with a time-out ([`Cancel::wait`]), or
//! cuts something itself ([`Cancel::on_cancel`]: shut a socket down, kill a process group).

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

type Callback = Box<dyn FnOnce() + Send>;

/// A token that is cancelled once and for all; clones share its state.
#[derive(Clone)]
pub struct Cancel {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    receiver: Receiver<Infallible>,
    /// Keeps a child registered with its parent for as long as the child lives.
    parent: Option<CancelGuard>,
}

struct State {
    /// Dropped on cancellation: that is what wakes the receivers.
    sender: Option<Sender<Infallible>>,
    next_id: u64,
    callbacks: Vec<(u64, Callback)>,
}

/// Unregisters a callback of [`Cancel::on_cancel`] when dropped.
pub struct CancelGuard {
    shared: std::sync::Weak<Shared>,
    id: u64,
}

impl Cancel {
    /// A token that nobody has cancelled.
    pub fn new() -> Cancel {
        Cancel::with_parent(None)
    }

    /// A token that is also cancelled when `self` is.
    pub fn child(&self) -> Cancel {
        // The parent's callback holds a weak reference, or parent and child would keep each other alive.
        let slot: Arc<Mutex<std::sync::Weak<Shared>>> = Arc::default();
        let seen = Arc::clone(&slot);
        let guard = self.on_cancel(move || {
            let child = lock(&seen).upgrade();
            if let Some(shared) = child {
                Cancel { shared }.cancel();
            }
        });
        let child = Cancel::with_parent(Some(guard));
        *lock(&slot) = Arc::downgrade(&child.shared);
        if self.is_cancelled() {
            child.cancel();
        }
        child
    }

    fn with_parent(parent: Option<CancelGuard>) -> Cancel {
        let (sender, receiver) = bounded(0);
        let state = State { sender: Some(sender), next_id: 0, callbacks: Vec::new() };
        Cancel { shared: Arc::new(Shared { state: Mutex::new(state), receiver, parent }) }
    }

    /// Cancels: wakes every waiter, runs every callback. Later calls do nothing.
    pub fn cancel(&self) {
        let callbacks = {
            let mut state = lock(&self.shared.state);
            state.sender = None;
            std::mem::take(&mut state.callbacks)
        };
        // Outside the lock: a callback may shut sockets down or cancel other tokens.
        for (_, callback) in callbacks {
            callback();
        }
    }

    /// Whether it has been cancelled.
    pub fn is_cancelled(&self) -> bool {
        lock(&self.shared.state).sender.is_none()
    }

    /// Waits for `time` at most; true if cancelled.
    pub fn wait(&self, time: Duration) -> bool {
        matches!(self.shared.receiver.recv_timeout(time), Err(RecvTimeoutError::Disconnected))
    }

    /// Waits without limit until cancelled.
    pub fn wait_forever(&self) {
        let _ = self.shared.receiver.recv();
    }

    /// A channel that is disconnected on cancellation and never carries a value: for `select!`.
    pub fn receiver(&self) -> &Receiver<Infallible> {
        &self.shared.receiver
    }

    /// Runs `callback` on cancellation, at once if that has happened already; on the cancelling
    /// thread, so it must not block. Dropping the guard unregisters it.
    #[must_use = "dropping the guard unregisters the callback"]
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) -> CancelGuard {
        let mut state = lock(&self.shared.state);
        let id = state.next_id;
        if state.sender.is_some() {
            state.next_id += 1;
            state.callbacks.push((id, Box::new(callback)));
        } else {
            drop(state);
            callback();
        }
        CancelGuard { shared: Arc::downgrade(&self.shared), id }
    }
}

impl Default for Cancel {
    fn default() -> Cancel {
        Cancel::new()
    }
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancel")
            .field("cancelled", &self.is_cancelled())
            .field("child", &self.shared.parent.is_some())
            .finish()
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let removed = {
                let mut state = lock(&shared.state);
                let position = state.callbacks.iter().position(|(id, _)| *id == self.id);
                position.map(|position| state.callbacks.swap_remove(position))
            };
            drop(removed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn cancelling_wakes_waiters_and_runs_callbacks_once() {
        let cancel = Cancel::new();
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        let _kept = cancel.on_cancel(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let counter = Arc::clone(&ran);
        drop(cancel.on_cancel(move || {
            counter.fetch_add(100, Ordering::SeqCst);
        }));
        let waiter = {
            let cancel = cancel.clone();
            std::thread::spawn(move || cancel.wait(Duration::from_secs(60)))
        };
        cancel.cancel();
        cancel.cancel();
        assert!(waiter.join().unwrap());
        assert!(cancel.is_cancelled());
        assert_eq!(ran.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_child_is_cancelled_with_its_parent_but_not_the_other_way_round() {
        let parent = Cancel::new();
        let (a, b) = (parent.child(), parent.child());
        a.cancel();
        assert!(!parent.is_cancelled() && !b.is_cancelled());
        parent.cancel();
        assert!(b.is_cancelled());
        assert!(parent.child().is_cancelled(), "a child born after the cancellation is cancelled too");
    }

    #[test]
    fn a_dropped_child_leaves_nothing_behind_in_its_parent() {
        let parent = Cancel::new();
        drop(parent.child());
        assert!(lock(&parent.shared.state).callbacks.is_empty());
    }

    #[test]
    fn a_callback_registered_after_the_cancellation_runs_at_once() {
        let cancel = Cancel::new();
        cancel.cancel();
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        let _guard = cancel.on_cancel(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(ran.load(Ordering::SeqCst), 1);
    }
}
