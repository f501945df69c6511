//! Sessions on a server with handshakes, opened for connectors that have none.
//!
//! Invariant: commands with different credentials never share a session, and no session id leaves this
//! process but in requests to the server that gave it.

use crate::order;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use crate::jsonrpc::Message;
use crate::mcp::bridge::{Fact, modern};
use crate::mcp::{Exchange, Failure, FailureKind, Outcome, Source};
use crate::net::{Deadline, HeaderList, sha256};

use super::super::HttpBinding;
use super::facts::{handshake_failed, handshake_silent};

/// Sessions of one server.
const MAX_SESSIONS: usize = 64;
/// A session that nobody used for so long is closed.
const MAX_IDLE: Duration = Duration::from_secs(30 * 60);
/// Time for one closing DELETE.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Threads that close sessions at a stop.
const CLOSE_THREADS: usize = 8;
/// From this revision on requests name theirs in a header.
const FIRST_WITH_HEADER: &str = "2025-06-18";

/// Whose session it is: a digest of the credentials.
pub(super) type Key = [u8; 32];

/// All sessions of one server.
#[derive(Default)]
pub(super) struct Sessions {
    open: HashMap<Key, Slot>,
    /// The client stops: what is opened now is closed again at once.
    closed: bool,
}

/// How opening a session ended, once it has.
type Attempt = OnceLock<Result<Arc<Session>, NoSession>>;

enum Slot {
    /// Somebody opens it.
    Opening(Arc<Attempt>),
    Open {
        session: Arc<Session>,
        used: Instant,
    },
}

/// An open session.
pub(super) struct Session {
    /// The `initialize` result.
    pub(super) result: Box<str>,
    pub(super) id: Option<String>,
    pub(super) version: String,
    /// Headers of the command that opened it, for closing it.
    pub(super) opened_with: HeaderList,
    /// The most verbose level that was asked for.
    pub(super) level: Mutex<Option<usize>>,
}

/// Why there is no session.
#[derive(Clone)]
pub(super) enum NoSession {
    /// The server speaks no revision with a handshake: its answer.
    Refused(Outcome),
    /// Anything else: what the command ends with.
    Ended(Outcome),
}

impl Sessions {
    /// Sessions that are open.
    pub(super) fn count(&self) -> usize {
        self.open.values().filter(|slot| matches!(slot, Slot::Open { .. })).count()
    }

    /// Forgets all that are open: the server may be another one by now.
    pub(super) fn forget(&mut self) {
        self.open.retain(|_, slot| matches!(slot, Slot::Opening(_)));
    }
}

impl Session {
    /// The command's headers with those of this session in place of its own.
    pub(super) fn headers(&self, command: &HeaderList) -> HeaderList {
        let mut headers = bare(command);
        if let Some(id) = &self.id {
            headers.set("Mcp-Session-Id", id.as_str());
        }
        if self.version.as_str() >= FIRST_WITH_HEADER {
            headers.set("MCP-Protocol-Version", self.version.as_str());
        }
        headers
    }

    /// Whether the server can forget it.
    pub(super) fn has_id(&self) -> bool {
        self.id.is_some()
    }

    /// The request that makes the server log at `level`, unless it does so already or never will.
    pub(super) fn level_request(&self, level: Option<usize>) -> Option<String> {
        let level = level.filter(|_| modern::has_logging(&self.result))?;
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_some_and(|current| current <= level) {
            return None;
        }
        *current = Some(level);
        Some(modern::set_level(level))
    }
}

/// The command's headers without those that MCP owns.
pub(super) fn bare(headers: &HeaderList) -> HeaderList {
    let owned = |name: &str| {
        let name = name.to_ascii_lowercase();
        matches!(
            name.as_str(),
            "mcp-session-id" | "mcp-protocol-version" | "mcp-method" | "mcp-name" | "last-event-id"
        ) || name.starts_with("mcp-param-")
    };
    headers.iter().filter(|(name, _)| !owned(name)).collect()
}

/// Who sent a command, as far as its headers tell.
pub(super) fn key(headers: &HeaderList) -> Key {
    const WORDS: [&str; 9] =
        ["auth", "token", "key", "secret", "user", "subject", "account", "tenant", "session"];
    let mut pairs: Vec<(String, &str)> = headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| {
            !name.starts_with("mcp-")
                && (matches!(name.as_str(), "authorization" | "cookie")
                    || WORDS.iter().any(|word| name.contains(word)))
        })
        .collect();
    order::sort(&mut pairs);
    let mut text = String::new();
    for (name, value) in pairs {
        text.push_str(&format!("{}:{name}{}:{value}", name.len(), value.len()));
    }
    sha256(text.as_bytes())
}

/// The place of a session that is being opened; whatever becomes of it, those who wait are told.
struct Opening<'a> {
    binding: &'a HttpBinding,
    key: Key,
    attempt: Arc<Attempt>,
}

impl Opening<'_> {
    /// Ends the wait.
    fn ended(&self, opened: Result<Arc<Session>, NoSession>) {
        let mut state = self.binding.eras.lock();
        if self.attempt.set(opened).is_ok() {
            match self.attempt.get() {
                Some(Ok(session)) if !state.sessions.closed => {
                    let slot = Slot::Open { session: Arc::clone(session), used: Instant::now() };
                    state.sessions.open.insert(self.key, slot);
                }
                _ => {
                    state.sessions.open.remove(&self.key);
                }
            }
        }
        drop(state);
        self.binding.eras.notify();
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.ended(Err(NoSession::Ended(handshake_failed(None))));
    }
}

/// What a handshake needs of the command that causes it.
pub(super) struct Cause {
    pub(super) headers: HeaderList,
    pub(super) meta: Option<Box<RawValue>>,
    pub(super) trigger: &'static str,
    /// Bounds all of it.
    pub(super) until: Deadline,
}

impl HttpBinding {
    /// The session of this command's sender, opened if need be; one at a time opens it. A handshake goes
    /// on when the command that caused it cannot wait any longer.
    pub(super) fn session(
        &self,
        key: Key,
        exchange: &Exchange<'_>,
        trigger: &'static str,
    ) -> Result<Arc<Session>, NoSession> {
        let patience = self.eras.patience(exchange.deadline);
        let mut stale = Vec::new();
        let (attempt, begun) = {
            let mut state = self.eras.lock();
            let now = Instant::now();
            match state.sessions.open.get_mut(&key) {
                Some(Slot::Open { session, used }) if now.saturating_duration_since(*used) < MAX_IDLE => {
                    *used = now;
                    return Ok(Arc::clone(session));
                }
                Some(Slot::Opening(attempt)) => (Arc::clone(attempt), false),
                Some(Slot::Open { .. }) | None => {
                    stale.extend(state.sessions.make_room(key, now));
                    let attempt = Arc::<Attempt>::default();
                    state.sessions.open.insert(key, Slot::Opening(Arc::clone(&attempt)));
                    (attempt, true)
                }
            }
        };
        if begun {
            let meta = modern::meta_of(exchange.message).map(RawValue::to_owned);
            let headers = bare(exchange.headers);
            self.begin_session(key, &attempt, Cause { headers, meta, trigger, until: patience });
        }
        for session in stale {
            self.close_session(&session, Deadline::after(CLOSE_TIME));
        }
        let mut state = self.eras.lock();
        loop {
            if let Some(opened) = attempt.get() {
                return opened.clone();
            }
            state = self.eras.wait(state, patience).ok_or_else(|| NoSession::Ended(handshake_silent()))?;
        }
    }

    /// Opens a session on a thread of its own; here, within its command's time, where there is none.
    fn begin_session(&self, key: Key, attempt: &Arc<Attempt>, cause: Cause) {
        let Some(binding) = self.me.get().and_then(Weak::upgrade) else {
            return self.open_for(key, Arc::clone(attempt), &cause);
        };
        let waiting = Arc::clone(attempt);
        let cause = Cause { until: Deadline::NEVER, ..cause };
        let thread = std::thread::Builder::new()
            .name("mcp-handshake".into())
            .spawn(move || binding.open_for(key, waiting, &cause));
        match thread {
            Ok(thread) => self.eras.adopt(thread),
            Err(_) => drop(Opening { binding: self, key, attempt: Arc::clone(attempt) }),
        }
    }

    fn open_for(&self, key: Key, attempt: Arc<Attempt>, cause: &Cause) {
        let opening = Opening { binding: self, key, attempt };
        let opened = self.open_session(cause);
        if let Err(NoSession::Ended(outcome @ Outcome::Failed(Failure::Lifecycle { status: 504, .. }))) =
            &opened
            && cause.until == Deadline::NEVER
            && self.eras.both_silent()
            && self.eras.speaks_legacy() != Fact::Yes
        {
            self.eras.refused_both(outcome.clone());
        }
        let unwanted = opened.as_ref().ok().filter(|_| self.eras.lock().sessions.closed).cloned();
        opening.ended(opened);
        if let Some(session) = unwanted {
            self.close_session(&session, Deadline::after(CLOSE_TIME));
        }
    }

    /// The server has forgotten `session`: the next command opens another.
    pub(super) fn forget_session(&self, key: Key, session: &Arc<Session>) {
        let mut state = self.eras.lock();
        if let Some(Slot::Open { session: known, .. }) = state.sessions.open.get(&key)
            && Arc::ptr_eq(known, session)
        {
            state.sessions.open.remove(&key);
        }
    }

    /// A message of our own.
    pub(super) fn own_exchange(&self, json: &str, headers: &HeaderList, deadline: Deadline) -> Outcome {
        match Message::parse(json) {
            Ok(message) => {
                let exchange = Exchange { message: &message, headers, deadline };
                self.forward(&exchange, &mut |_| {})
            }
            // Unreachable: the messages are our own.
            Err(_) => Outcome::Failed(Failure::broken(Source::ClientInternal, FailureKind::Unknown)),
        }
    }

    fn close_session(&self, session: &Session, deadline: Deadline) {
        if session.has_id() {
            let headers = session.headers(&session.opened_with);
            let _ = self.terminate_session(&headers, deadline);
        }
    }

    /// Waits for the binding's own threads; cut what they do before.
    pub(in crate::mcp) fn join_threads(&self) {
        let threads = std::mem::take(&mut self.eras.lock().threads);
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// Closes all sessions that were opened for connectors; best effort.
    pub(in crate::mcp) fn close_sessions(&self, deadline: Deadline) {
        let deadline = Deadline::after(CLOSE_TIME).earliest(deadline);
        let all = {
            let mut state = self.eras.lock();
            state.sessions.closed = true;
            std::mem::take(&mut state.sessions.open)
        };
        let open: Vec<Arc<Session>> = all
            .into_values()
            .filter_map(|slot| match slot {
                Slot::Open { session, .. } if session.has_id() => Some(session),
                _ => None,
            })
            .collect();
        std::thread::scope(|scope| {
            for part in open.chunks(open.len().div_ceil(CLOSE_THREADS).max(1)) {
                let close = move || part.iter().for_each(|session| self.close_session(session, deadline));
                let _ = std::thread::Builder::new().name("close-session".into()).spawn_scoped(scope, close);
            }
        });
    }
}

impl Sessions {
    /// Makes room for one more; what has to be closed for it.
    fn make_room(&mut self, key: Key, now: Instant) -> Vec<Arc<Session>> {
        let mut stale: Vec<Key> = self
            .open
            .iter()
            .filter_map(|(known, slot)| match slot {
                Slot::Open { used, .. } if now.saturating_duration_since(*used) >= MAX_IDLE => Some(*known),
                _ => None,
            })
            .collect();
        if self.open.len() - stale.len() >= MAX_SESSIONS && !self.open.contains_key(&key) {
            let oldest = self
                .open
                .iter()
                .filter_map(|(known, slot)| match slot {
                    Slot::Open { used, .. } => Some((*used, *known)),
                    Slot::Opening(_) => None,
                })
                .min();
            stale.extend(oldest.map(|(_, known)| known));
        }
        stale
            .into_iter()
            .filter_map(|known| match self.open.remove(&known) {
                Some(Slot::Open { session, .. }) => Some(session),
                _ => None,
            })
            .collect()
    }
}

/// Whether a status says that the server does not know what it was asked, rather than that it may not,
/// cannot or will not now.
pub(super) fn is_refusal(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 401 | 403 | 407 | 408 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(pairs: &[(&str, &str)]) -> HeaderList {
        pairs.iter().copied().collect()
    }

    #[test]
    fn whoever_has_other_credentials_has_another_key() {
        let own = key(&list(&[("Authorization", "Bearer a"), ("X-User-Id", "1"), ("Accept", "x")]));
        assert_eq!(own, key(&list(&[("x-user-id", "1"), ("authorization", "Bearer a"), ("Accept", "y")])));
        assert_eq!(
            own,
            key(&list(&[("x-user-id", "1"), ("authorization", "Bearer a"), ("Mcp-Session-Id", "z")]))
        );
        for other in [
            &[("Authorization", "Bearer b"), ("X-User-Id", "1")][..],
            &[("Authorization", "Bearer a")],
            &[("Authorization", "Bearer a"), ("X-User-Id", "1"), ("Cookie", "c")],
            &[("Authorization", "Bearer a"), ("X-User-Id", "1"), ("X-Tenant", "c")],
        ] {
            assert_ne!(own, key(&list(other)), "{other:?}");
        }
    }

    #[test]
    fn headers_that_mcp_owns_are_replaced() {
        let session = |version: &str| Session {
            result: Box::from("{}"),
            id: Some("s".into()),
            version: version.into(),
            opened_with: HeaderList::new(),
            level: Mutex::default(),
        };
        let command = list(&[
            ("X", "1"),
            ("mcp-session-id", "foreign"),
            ("Mcp-Protocol-Version", "2026-07-28"),
            ("Mcp-Method", "m"),
            ("Mcp-Param-A", "m"),
        ]);
        let new = session("2025-11-25").headers(&command);
        assert_eq!(new, list(&[("X", "1"), ("Mcp-Session-Id", "s"), ("MCP-Protocol-Version", "2025-11-25")]));
        assert_eq!(session("2024-11-05").headers(&command), list(&[("X", "1"), ("Mcp-Session-Id", "s")]));
    }
}
