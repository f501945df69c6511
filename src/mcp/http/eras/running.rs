//! Calls under way that their connectors may take back.
//!
//! Invariant: only who sent a call, as far as credentials tell, can name it; where two share a name,
//! none is touched.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::jsonrpc::Id;
use crate::net::Cut;

use super::sessions::Key;

/// All of one server.
#[derive(Default)]
pub(super) struct Running(Mutex<Calls>);

#[derive(Default)]
struct Calls {
    next: u64,
    calls: Vec<Call>,
}

struct Call {
    name: u64,
    sender: Key,
    id: Id,
    how: How,
}

/// How a call is taken back.
#[derive(Clone)]
pub(super) enum How {
    /// By closing its exchange.
    Cut(Arc<Cut>),
    /// By telling the server, in the session of its sender.
    Tell,
}

/// A call that runs for as long as this lives.
pub(super) struct Entered<'a> {
    running: &'a Running,
    name: u64,
}

impl Running {
    /// A call begins.
    pub(super) fn enter(&self, sender: Key, id: &Id, how: How) -> Entered<'_> {
        let mut calls = self.lock();
        calls.next += 1;
        let name = calls.next;
        calls.calls.push(Call { name, sender, id: id.clone(), how });
        Entered { running: self, name }
    }

    /// How the sender's call `id` is taken back.
    pub(super) fn find(&self, sender: Key, id: &Id) -> Option<How> {
        let calls = self.lock();
        let mut found = calls.calls.iter().filter(|call| call.sender == sender && call.id == *id);
        found.next().filter(|_| found.next().is_none()).map(|call| call.how.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut calls = self.running.lock();
        if let Some(index) = calls.calls.iter().position(|call| call.name == self.name) {
            calls.calls.swap_remove(index);
        }
    }
}
