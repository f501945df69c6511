//! Ending one request from another thread.
//!
//! ureq is told nothing about the request at hand, so the token waits on the thread that sends (see
//! [`super::call`]). Invariant: a connection is watched only while it carries a request of that thread;
//! once it is back in the pool, nothing here can harm it.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::net::Error;
use crate::net::connection::{Connection, Cutter, cancelled};

/// Ends the requests that are sent while it is [held](Cut::hold), once fired.
#[derive(Default)]
pub struct Cut(Mutex<State>);

#[derive(Default)]
struct State {
    fired: bool,
    next: u64,
    watched: Vec<(u64, Cutter)>,
}

thread_local! {
    static HELD: RefCell<Option<Arc<Cut>>> = const { RefCell::new(None) };
}

/// The thread's requests can be ended for as long as this lives.
pub struct Held(Option<Arc<Cut>>);

/// A connection that a [`Cut`] would shut down; not any more when dropped.
pub(super) struct Watched {
    cut: Arc<Cut>,
    name: u64,
}

impl Cut {
    /// A token that has not fired.
    pub fn new() -> Arc<Cut> {
        Arc::default()
    }

    /// Ends what runs under it now, and whatever would.
    pub fn fire(&self) {
        let mut state = self.lock();
        state.fired = true;
        // Under the lock: a connection must not get back into the pool in between. It does not block.
        state.watched.iter().for_each(|(_, cutter)| cutter.cut());
    }

    /// Whether it has fired.
    pub fn is_fired(&self) -> bool {
        self.lock().fired
    }

    /// Puts this thread's requests under it.
    #[must_use = "dropping it takes them out again"]
    pub fn hold(self: &Arc<Cut>) -> Held {
        Held(HELD.with(|held| held.replace(Some(Arc::clone(self)))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.with(|held| held.replace(self.0.take()));
    }
}

/// Puts a connection that is about to carry a request under the thread's token, if there is one.
pub(super) fn watch(connection: &Connection) -> Result<Option<Watched>, Error> {
    let Some(cut) = HELD.with(|held| held.borrow().clone()) else { return Ok(None) };
    let name = {
        let mut state = cut.lock();
        if state.fired {
            return Err(cancelled());
        }
        state.next += 1;
        let name = state.next;
        state.watched.push((name, connection.cutter()));
        name
    };
    Ok(Some(Watched { cut, name }))
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.cut.lock().watched.retain(|(name, _)| *name != self.name);
    }
}
