//! A poll: the client's side of the queue.

use std::sync::Arc;
use std::time::Instant;

use super::command::{Command, RequestId};
use super::presence::ClientKey;
use super::tunnel::{Phase, Tunnel};
use crate::net::Waker;

/// A poll in progress; dropping it ends its presence and passes an unused wake-up on.
pub(crate) struct Poll {
    tunnel: Arc<Tunnel>,
    key: Arc<ClientKey>,
    number: u64,
    waker: Arc<Waker>,
    /// Parked, or woken and not back for commands yet.
    waiting: bool,
    broken: bool,
}

/// What a poll found.
pub(crate) enum Found {
    /// Commands to deliver.
    Commands(Claims),
    /// Nothing; the poll is parked and its waker will be raised.
    Parked,
    /// Nothing, and nothing will come: the server is stopping.
    Stopping,
    /// The tunnel is gone.
    Deleted,
}

impl Poll {
    pub(super) fn new(tunnel: Arc<Tunnel>, key: Arc<ClientKey>, number: u64, waker: Arc<Waker>) -> Poll {
        Poll { tunnel, key, number, waker, waiting: false, broken: false }
    }

    /// The peer has gone.
    pub(crate) fn broke_off(&mut self) {
        self.broken = true;
    }

    /// Takes up to `limit` of the oldest commands, or parks.
    pub(crate) fn take_or_park(&mut self, limit: usize) -> Found {
        let mut claims = Claims::new(Arc::clone(&self.tunnel), Arc::clone(&self.key));
        let mut state = self.tunnel.state();
        state.presence.poll_seen(&self.key, Instant::now());
        match state.phase {
            Phase::Open => {}
            Phase::Draining | Phase::Cut => return Found::Stopping,
            Phase::Deleted => return Found::Deleted,
        }
        let subscription = &self.key.subscription;
        let mut ended = state.end_orphans(Instant::now());
        ended.extend(self.tunnel.take(&mut state, subscription, limit, &self.key, &mut claims));
        let parked = claims.is_empty();
        if parked {
            state.pollers.park(self.number, &self.key, &self.waker);
        } else {
            state.pollers.unpark(self.number);
        }
        self.waiting = parked;
        drop(state);
        ended.iter().for_each(|waker| waker.wake());
        if parked { Found::Parked } else { Found::Commands(claims) }
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        let mut state = self.tunnel.state();
        state.presence.poll_ended(&self.key, Instant::now(), self.broken);
        if self.waiting && state.pollers.unpark(self.number).is_none() {
            // It was woken for a command and goes without it: somebody else must be told.
            state.wake_for_all_queued(&mut wakers);
        }
        drop(state);
        wakers.iter().for_each(|waker| waker.wake());
    }
}

/// Commands handed to a poll. Dropped without [`Claims::delivered`], they return to the queue's head.
pub(crate) struct Claims {
    tunnel: Arc<Tunnel>,
    by: Arc<ClientKey>,
    commands: Vec<(RequestId, Command, u64)>,
}

impl Claims {
    fn new(tunnel: Arc<Tunnel>, by: Arc<ClientKey>) -> Claims {
        Claims { tunnel, by, commands: Vec::new() }
    }

    pub(super) fn push(&mut self, id: RequestId, command: Command, timeout_ms: u64) {
        self.commands.push((id, command, timeout_ms));
    }

    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The body of the poll's reply.
    pub(crate) fn render(&self) -> String {
        let bytes: usize = self.commands.iter().map(|(_, command, _)| command.bytes() + 24).sum();
        let mut body = String::with_capacity(bytes + 16);
        body.push_str(r#"{"commands":["#);
        for (number, (_, command, timeout_ms)) in self.commands.iter().enumerate() {
            if number > 0 {
                body.push(',');
            }
            command.write(*timeout_ms, &mut body);
        }
        body.push_str("]}");
        body
    }

    /// The reply was written: they will not be delivered again.
    pub(crate) fn delivered(mut self) {
        self.commands.clear();
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        if !self.commands.is_empty() {
            let commands = std::mem::take(&mut self.commands);
            let commands = commands.into_iter().map(|(id, command, _)| (id, command)).collect();
            self.tunnel.put_back(commands, &self.by);
        }
    }
}
