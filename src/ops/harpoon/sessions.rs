//! The sessions of the HTTP transport, and their standing streams.
//!
//! Invariant: never more than [`MAX_SESSIONS`], and none that nobody has used for [`IDLE_TIME`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::harpoon::Session;
use crate::ids::random_hex;
use crate::ops::listener::Bell;

/// Most sessions at one time.
const MAX_SESSIONS: usize = 256;
/// How long a session is kept that nobody uses.
const IDLE_TIME: Duration = Duration::from_secs(30 * 60);

/// One session of a client.
pub(super) struct Entry {
    pub(super) session: Session,
    state: Mutex<State>,
}

struct State {
    used: Instant,
    /// Wakes the standing stream, if there is one.
    stream: Option<Bell>,
    ended: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Arc<Entry>>>);

impl Sessions {
    /// The session `id`, which is used now.
    pub(super) fn get(&self, id: &str) -> Option<Arc<Entry>> {
        let entry = self.lock().get(id).map(Arc::clone)?;
        let is_idle = entry.is_idle(Instant::now());
        if is_idle {
            self.end(id);
            return None;
        }
        entry.state().used = Instant::now();
        Some(entry)
    }

    /// Keeps `session` under a new id; gives it back if there are too many.
    pub(super) fn open(&self, session: Session) -> Option<String> {
        let id = random_hex().ok()?;
        let now = Instant::now();
        let idle: Vec<Arc<Entry>> = {
            let mut sessions = self.lock();
            let idle = if sessions.len() < MAX_SESSIONS {
                Vec::new()
            } else {
                sessions.extract_if(|_, entry| entry.is_idle(now)).map(|(_, entry)| entry).collect()
            };
            if sessions.len() >= MAX_SESSIONS {
                return None;
            }
            let state = State { used: now, stream: None, ended: false };
            sessions.insert(id.clone(), Arc::new(Entry { session, state: Mutex::new(state) }));
            idle
        };
        idle.iter().for_each(|entry| entry.end());
        Some(id)
    }

    /// Ends the session `id` and what runs in it.
    pub(super) fn end(&self, id: &str) {
        let entry = self.lock().remove(id);
        if let Some(entry) = entry {
            entry.end();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Whether nobody has used it for long.
    fn is_idle(&self, now: Instant) -> bool {
        let state = self.state();
        state.stream.is_none()
            && now.saturating_duration_since(state.used) >= IDLE_TIME
            && !self.session.is_busy()
    }

    /// Makes the stream behind `bell` the standing one; false if there is one already, or no session.
    pub(super) fn stand(&self, bell: &Bell) -> bool {
        let mut state = self.state();
        let free = state.stream.is_none() && !state.ended;
        if free {
            state.stream = Some(bell.clone());
        }
        free
    }

    /// Whether there is a standing stream.
    pub(super) fn has_stream(&self) -> bool {
        self.state().stream.is_some()
    }

    /// Whether the session has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// The standing stream is over.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.stream = None;
        state.used = Instant::now();
    }

    fn end(&self) {
        let bell = {
            let mut state = self.state();
            state.ended = true;
            state.stream.clone()
        };
        self.session.end();
        if let Some(bell) = bell {
            bell.ring();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
