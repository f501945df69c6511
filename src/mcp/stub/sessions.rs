//! The stub's MCP sessions and the listening streams they may have.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::{RandomUnavailable, random_hex};
use crate::net::Waker;

/// Sessions kept; a new one beyond that ends the oldest.
const MAX_SESSIONS: usize = 1000;

/// All sessions, in the order they were opened.
#[derive(Default)]
pub(super) struct Sessions(Mutex<State>);

#[derive(Default)]
struct State {
    /// Each with what wakes its listening stream, if there is one.
    streams: HashMap<String, Option<Arc<Waker>>>,
    order: VecDeque<String>,
}

impl Sessions {
    /// Opens a session and gives its id.
    pub(super) fn open(&self) -> Result<String, RandomUnavailable> {
        let id = random_hex()?;
        let ended = {
            let mut state = self.lock();
            state.streams.insert(id.clone(), None);
            state.order.push_back(id.clone());
            let oldest = if state.order.len() > MAX_SESSIONS { state.order.pop_front() } else { None };
            oldest.and_then(|oldest| state.streams.remove(&oldest))
        };
        wake(ended.flatten());
        Ok(id)
    }

    /// Whether `id` is open.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.lock().streams.contains_key(id)
    }

    /// Makes the stream behind `waker` the listening stream of `id`, in place of an earlier one.
    pub(super) fn listen(&self, id: &str, waker: &Arc<Waker>) {
        let replaced = self.lock().streams.get_mut(id).and_then(|place| place.replace(Arc::clone(waker)));
        wake(replaced);
    }

    /// Whether the stream behind `waker` is the listening stream of `id`.
    pub(super) fn is_listening(&self, id: &str, waker: &Arc<Waker>) -> bool {
        matches!(self.lock().streams.get(id), Some(Some(current)) if Arc::ptr_eq(current, waker))
    }

    /// Forgets the stream behind `waker`: its peer has gone.
    pub(super) fn leave(&self, id: &str, waker: &Arc<Waker>) {
        if let Some(place) = self.lock().streams.get_mut(id) {
            place.take_if(|current| Arc::ptr_eq(current, waker));
        }
    }

    /// Ends a session; false if it was not open.
    pub(super) fn end(&self, id: &str) -> bool {
        let ended = {
            let mut state = self.lock();
            state.order.retain(|open| open != id);
            state.streams.remove(id)
        };
        let was_open = ended.is_some();
        wake(ended.flatten());
        was_open
    }

    /// Ends all listening streams.
    pub(super) fn close_streams(&self) {
        let wakers: Vec<_> = self.lock().streams.values_mut().filter_map(Option::take).collect();
        wakers.into_iter().for_each(|waker| wake(Some(waker)));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a stream see that it has ended.
fn wake(waker: Option<Arc<Waker>>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_beyond_the_limit_ends_the_oldest() {
        let sessions = Sessions::default();
        let first = sessions.open().unwrap();
        let second = sessions.open().unwrap();
        for _ in 2..MAX_SESSIONS {
            sessions.open().unwrap();
        }
        assert!(sessions.contains(&first));
        sessions.open().unwrap();
        assert!(!sessions.contains(&first) && sessions.contains(&second));
        assert!(sessions.end(&second) && !sessions.end(&second));
    }
}
