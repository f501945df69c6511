//! One MCP session with the server: whether it is initialised, and what runs in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::jsonrpc::Id;
use crate::net::Cancel;

/// A session; ending it cuts what runs in it.
#[derive(Debug)]
pub struct Session {
    initialized: AtomicBool,
    running: Mutex<Vec<(u64, Id, Cancel)>>,
    cut: Cancel,
}

/// A call that runs; gone from its session when dropped.
pub(super) struct Running<'a> {
    session: &'a Session,
    number: u64,
    /// Fires when the call, its session or the server is to end.
    pub(super) cancel: Cancel,
}

impl Session {
    /// A session that ends with `cut`.
    pub(super) fn new(cut: &Cancel) -> Session {
        Session { initialized: AtomicBool::new(false), running: Mutex::default(), cut: cut.child() }
    }

    /// From now on everything is answered in it.
    pub fn initialize(&self) {
        self.initialized.store(true, Ordering::SeqCst);
    }

    /// Whether it is past its handshake.
    pub fn is_initialized(&self) -> bool {
        self.initialized.load(Ordering::SeqCst)
    }

    /// Whether a call runs in it.
    pub fn is_busy(&self) -> bool {
        !self.running.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Cuts what runs.
    pub fn end(&self) {
        self.cut.cancel();
    }

    /// Notes that the call `id` runs.
    pub(super) fn run(&self, id: &Id) -> Running<'_> {
        let cancel = self.cut.child();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let number = running.last().map_or(0, |(number, ..)| number + 1);
        running.push((number, id.clone(), cancel.clone()));
        Running { session: self, number, cancel }
    }

    /// Cuts the call `id`, if there is exactly one: callers that share a session may use the same ids, and
    /// none may cut another's call.
    pub(super) fn cancel(&self, id: &Id) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut same = running.iter().filter(|(_, have, _)| have == id);
        let only = match (same.next(), same.next()) {
            (Some((_, _, cancel)), None) => Some(cancel.clone()),
            _ => None,
        };
        drop(running);
        if let Some(cancel) = only {
            cancel.cancel();
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut running = self.session.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|(number, ..)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_cut_by_its_id_unless_that_is_ambiguous_and_always_with_its_session() {
        let id = |json| Id::from_json(json).unwrap();
        let session = Session::new(&Cancel::new());
        let (one, other) = (session.run(&id("1")), session.run(&id("2")));
        session.cancel(&id("\"1\""));
        assert!(!one.cancel.is_cancelled());
        session.cancel(&id("1"));
        assert!(one.cancel.is_cancelled() && !other.cancel.is_cancelled());
        let twin = session.run(&id("2"));
        session.cancel(&id("2"));
        assert!(!other.cancel.is_cancelled() && !twin.cancel.is_cancelled());
        drop(twin);
        session.end();
        assert!(other.cancel.is_cancelled());
        drop((one, other));
        assert!(session.running.lock().unwrap().is_empty());
    }
}
