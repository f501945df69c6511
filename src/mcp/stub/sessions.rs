//! The stub's MCP sessions and the listening streams they may have.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ids::{RandomUnavailable, random_hex};

/// Sessions kept; a new one beyond that ends the oldest.
const MAX_SESSIONS: usize = 1000;

/// The writing half of a connection whose reply never ends by itself.
pub(super) type Stream = Box<dyn Write + Send>;

/// All sessions, in the order they were opened.
#[derive(Default)]
pub(super) struct Sessions(Mutex<State>);

#[derive(Default)]
struct State {
    streams: HashMap<String, Option<Stream>>,
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
        finish(ended.flatten());
        Ok(id)
    }

    /// Whether `id` is open.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.lock().streams.contains_key(id)
    }

    /// Makes `stream` the listening stream of `id`, in place of an earlier one.
    pub(super) fn listen(&self, id: &str, stream: Stream) {
        let replaced = match self.lock().streams.get_mut(id) {
            Some(place) => place.replace(stream),
            None => Some(stream),
        };
        finish(replaced);
    }

    /// Ends a session; false if it was not open.
    pub(super) fn end(&self, id: &str) -> bool {
        let ended = {
            let mut state = self.lock();
            state.order.retain(|open| open != id);
            state.streams.remove(id)
        };
        let was_open = ended.is_some();
        finish(ended.flatten());
        was_open
    }

    /// Ends all listening streams.
    pub(super) fn close_streams(&self) {
        let streams: Vec<Stream> = self.lock().streams.values_mut().filter_map(Option::take).collect();
        streams.into_iter().for_each(|stream| finish(Some(stream)));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the last chunk of a stream; the peer may be gone.
fn finish(stream: Option<Stream>) {
    if let Some(mut stream) = stream {
        let _ = stream.write_all(b"0\r\n\r\n").and_then(|()| stream.flush());
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
