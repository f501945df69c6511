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
        self.get_at(id, Instant::now())
    }

    fn get_at(&self, id: &str, now: Instant) -> Option<Arc<Entry>> {
        let entry = self.lock().get(id).map(Arc::clone)?;
        if entry.is_idle(now) {
            self.end(id);
            return None;
        }
        entry.state().used = now;
        Some(entry)
    }

    /// Keeps `session` under a new id; gives it back if there are too many.
    pub(super) fn open(&self, session: Session) -> Option<String> {
        self.open_at(session, Instant::now())
    }

    fn open_at(&self, session: Session, now: Instant) -> Option<String> {
        let id = random_hex().ok()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harpoon::{Bounds, Observer, Registry, Server, Setup, Ways};
    use crate::net::{Cancel, ProxyPolicy, Trust};

    struct Deaf;

    impl Observer for Deaf {
        fn called(&self, _: &str, _: Option<u16>, _: &'static str, _: Duration, _: u64) {}
    }

    fn server() -> Server {
        let setup = Setup {
            bounds: Bounds { max_response_bytes: 1, max_redirects: 0 },
            ways: Ways { trust: Trust::system(), proxies: ProxyPolicy::environment() },
            capture_payloads: false,
            registry: Arc::new(Registry::new(false)),
            observer: Arc::new(Deaf),
        };
        Server::new(setup, &Cancel::new())
    }

    #[test]
    fn a_session_that_nobody_uses_for_half_an_hour_is_gone_and_use_keeps_it() {
        let (server, sessions, start) = (server(), Sessions::default(), Instant::now());
        let id = sessions.open_at(server.open_session(), start).unwrap();
        let nearly = IDLE_TIME - Duration::from_secs(1);
        assert!(sessions.get_at(&id, start + nearly).is_some());
        let entry = sessions.get_at(&id, start + nearly * 2).expect("it was used in between");
        assert!(sessions.get_at(&id, start + nearly * 2 + IDLE_TIME).is_none());
        assert!(entry.has_ended(), "what runs in it is cut");
        assert!(sessions.get_at(&id, start).is_none());
    }

    #[test]
    fn when_all_places_are_taken_only_idle_sessions_make_room() {
        let (server, sessions, start) = (server(), Sessions::default(), Instant::now());
        let open = |now| sessions.open_at(server.open_session(), now);
        let ids: Vec<String> = (0..MAX_SESSIONS).map(|_| open(start).unwrap()).collect();
        assert_eq!(open(start), None);
        sessions.end(&ids[0]);
        assert!(open(start).is_some(), "one has ended");
        let later = start + IDLE_TIME;
        assert_eq!(open(later - Duration::from_secs(1)), None);
        assert!(sessions.get_at(&ids[1], later - Duration::from_secs(1)).is_some());
        assert!(open(later).is_some());
        assert!(sessions.get_at(&ids[1], later).is_some(), "the one in use stays");
        assert!(sessions.get_at(&ids[2], later).is_none());
    }
}
