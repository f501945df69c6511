//! Sessions on a server with handshakes, opened for connectors that have none.
//!
//! Invariant: commands with different credentials never share a session, and no session id leaves this
//! process but in requests to the server that gave it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::jsonrpc::{Envelope, Message};
use crate::mcp::bridge::{evidence, modern, own};
use crate::mcp::era::LEGACY_VERSIONS;
use crate::mcp::{Answer, Exchange, Failure, FailureKind, Outcome, Source, peek};
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
pub(super) struct Sessions(HashMap<Key, Slot>);

enum Slot {
    /// Somebody opens it.
    Opening,
    Open {
        session: Arc<Session>,
        used: Instant,
    },
}

/// An open session.
pub(super) struct Session {
    /// The `initialize` result.
    pub(super) result: Box<str>,
    id: Option<String>,
    version: String,
    /// Headers of the command that opened it, for closing it.
    opened_with: HeaderList,
    /// The most verbose level that was asked for.
    level: Mutex<Option<usize>>,
}

/// Why there is no session.
pub(super) enum NoSession {
    /// The server speaks no revision with a handshake: its answer.
    Refused(Outcome),
    /// Anything else: what the command ends with.
    Ended(Outcome),
}

impl Sessions {
    /// Sessions that are open.
    pub(super) fn count(&self) -> usize {
        self.0.values().filter(|slot| matches!(slot, Slot::Open { .. })).count()
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
    pairs.sort();
    let mut text = String::new();
    for (name, value) in pairs {
        text.push_str(&format!("{}:{name}{}:{value}", name.len(), value.len()));
    }
    sha256(text.as_bytes())
}

/// Gives the place of a session that could not be opened back.
struct Opening<'a> {
    binding: &'a HttpBinding,
    key: Key,
    opened: Option<Arc<Session>>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut state = self.binding.eras.lock();
        match self.opened.take() {
            Some(session) => {
                state.sessions.0.insert(self.key, Slot::Open { session, used: Instant::now() });
            }
            None => {
                state.sessions.0.remove(&self.key);
            }
        }
        drop(state);
        self.binding.eras.notify();
    }
}

impl HttpBinding {
    /// The session of this command's sender, opened if need be; one at a time opens it.
    pub(super) fn session(
        &self,
        key: Key,
        exchange: &Exchange<'_>,
        trigger: &'static str,
    ) -> Result<Arc<Session>, NoSession> {
        let patience = self.eras.patience(exchange.deadline);
        let mut stale = Vec::new();
        {
            let mut state = self.eras.lock();
            loop {
                let now = Instant::now();
                match state.sessions.0.get_mut(&key) {
                    Some(Slot::Open { session, used }) if now.saturating_duration_since(*used) < MAX_IDLE => {
                        *used = now;
                        return Ok(Arc::clone(session));
                    }
                    Some(Slot::Open { .. }) | None => {
                        stale.extend(state.sessions.make_room(key, now));
                        state.sessions.0.insert(key, Slot::Opening);
                        break;
                    }
                    Some(Slot::Opening) => {}
                }
                state =
                    self.eras.wait(state, patience).ok_or_else(|| NoSession::Ended(handshake_silent()))?;
            }
        }
        let mut opening = Opening { binding: self, key, opened: None };
        let opened = self.open_session(exchange, patience, trigger);
        opening.opened = opened.as_ref().ok().cloned();
        drop(opening);
        for session in stale {
            self.close_session(&session, Deadline::after(CLOSE_TIME));
        }
        opened
    }

    /// The server has forgotten `session`: the next command opens another.
    pub(super) fn forget_session(&self, key: Key, session: &Arc<Session>) {
        let mut state = self.eras.lock();
        if let Some(Slot::Open { session: known, .. }) = state.sessions.0.get(&key)
            && Arc::ptr_eq(known, session)
        {
            state.sessions.0.remove(&key);
        }
    }

    fn open_session(
        &self,
        exchange: &Exchange<'_>,
        patience: Deadline,
        trigger: &'static str,
    ) -> Result<Arc<Session>, NoSession> {
        let started = Instant::now();
        let opened = self.try_versions(exchange, patience);
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let channel = self.eras.channel.as_str();
        let (result, failure) = match &opened {
            Ok(_) => ("ok", None),
            Err((NoSession::Ended(Outcome::Failed(Failure::Lifecycle { status: 504, .. })), _)) => {
                ("timeout", Some(None))
            }
            Err((_, code)) => ("error", Some(*code)),
        };
        self.eras.tally.handshake(trigger, result);
        match failure {
            Some(Some(code)) => {
                log::warn!(target: "mcpclient", channel, trigger, rpc_error_code = code, elapsed_ms;
                "mcp handshake failed")
            }
            Some(None) => log::warn!(target: "mcpclient", channel, trigger, kind = result, elapsed_ms;
                "mcp handshake failed"),
            None => {}
        }
        opened.map_err(|(end, _)| end)
    }

    /// `initialize`, with another version if the first one is refused.
    fn try_versions(
        &self,
        exchange: &Exchange<'_>,
        patience: Deadline,
    ) -> Result<Arc<Session>, (NoSession, Option<i64>)> {
        let headers = bare(exchange.headers);
        let meta = modern::meta_of(exchange.message);
        let mut version = LEGACY_VERSIONS[0];
        let mut retried = false;
        loop {
            let params = modern::initialize_params(version, meta);
            let request = own::request(&own::next_id("init"), "initialize", &params);
            let deadline = Deadline::after(self.eras.handshake_limit).earliest(patience);
            match self.initialized(self.own_exchange(&request, &headers, deadline), &headers) {
                Ok(session) => return Ok(session),
                Err(refused) => match refused.retry.filter(|_| !retried) {
                    Some(other) => {
                        version = other;
                        retried = true;
                    }
                    None => return Err((refused.end, refused.code)),
                },
            }
        }
    }

    fn initialized(&self, outcome: Outcome, headers: &HeaderList) -> Result<Arc<Session>, Unopened> {
        let answer = match outcome {
            Outcome::Answered(answer) => answer,
            Outcome::Expired => return Err(Unopened::ended(handshake_silent())),
            // No answer that belongs to the request: it is no such server, or a broken one.
            Outcome::Failed(Failure::Broken {
                source: Source::Timeout, kind: FailureKind::Timeout, ..
            }) => {
                return Err(Unopened::ended(handshake_silent()));
            }
            Outcome::Failed(Failure::Broken { source: Source::Protocol, .. }) => {
                return Err(Unopened::ended(handshake_failed(None)));
            }
            Outcome::Failed(Failure::Rejected { ref head, .. }) if is_refusal(head.status) => {
                return Err(Unopened { end: NoSession::Refused(outcome), retry: None, code: None });
            }
            other => return Err(Unopened::ended(other)),
        };
        let Answer { head, json } = &answer;
        let Ok(envelope) = Envelope::parse(json.as_bytes()) else {
            return Err(Unopened::ended(handshake_failed(None)));
        };
        if let Some(error) = envelope.error {
            let code = own::error_code(error);
            let retry = own::other_legacy_version(error);
            let refuses = code.is_some_and(evidence::refuses_handshake) && head.status < 500;
            let end = if matches!(head.status, 401 | 403) {
                NoSession::Ended(Outcome::Answered(answer))
            } else if refuses || is_refusal(head.status) {
                NoSession::Refused(Outcome::Answered(answer))
            } else {
                NoSession::Ended(handshake_failed(code))
            };
            return Err(Unopened { end, retry, code });
        }
        let Some(result) = envelope.result.filter(|_| evidence::is_initialized(&envelope)) else {
            return Err(Unopened::ended(handshake_failed(None)));
        };
        let version = peek::member(result, "protocolVersion").and_then(peek::string).unwrap_or_default();
        let session = Arc::new(Session {
            result: Box::from(result.get()),
            // A session of a rejected request is nobody's.
            id: head
                .headers
                .get("Mcp-Session-Id")
                .filter(|id| !id.is_empty() && (200..300).contains(&head.status))
                .map(str::to_owned),
            version: version.into_owned(),
            opened_with: headers.clone(),
            level: Mutex::default(),
        });
        self.eras.initialized(&session.result);
        self.eras.learn(Some(true), None, "initialize_result");
        self.announce_session(&session);
        Ok(session)
    }

    /// Completes the handshake; the answer decides nothing.
    fn announce_session(&self, session: &Session) {
        let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let headers = session.headers(&session.opened_with);
        let outcome = self.own_exchange(note, &headers, Deadline::after(self.eras.handshake_limit));
        if let Outcome::Failed(Failure::Rejected { head, .. }) = outcome {
            log::warn!(target: "mcpclient", channel = self.eras.channel.as_str(), status_code = head.status;
                "notifications/initialized was refused");
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

    /// Closes all sessions that were opened for connectors; best effort.
    pub(in crate::mcp) fn close_sessions(&self, deadline: Deadline) {
        let deadline = Deadline::after(CLOSE_TIME).earliest(deadline);
        let all = std::mem::take(&mut self.eras.lock().sessions.0);
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
            .0
            .iter()
            .filter_map(|(known, slot)| match slot {
                Slot::Open { used, .. } if now.saturating_duration_since(*used) >= MAX_IDLE => Some(*known),
                _ => None,
            })
            .collect();
        if self.0.len() - stale.len() >= MAX_SESSIONS && !self.0.contains_key(&key) {
            let oldest = self
                .0
                .iter()
                .filter_map(|(known, slot)| match slot {
                    Slot::Open { used, .. } => Some((*used, *known)),
                    Slot::Opening => None,
                })
                .min();
            stale.extend(oldest.map(|(_, known)| known));
        }
        stale
            .into_iter()
            .filter_map(|known| match self.0.remove(&known) {
                Some(Slot::Open { session, .. }) => Some(session),
                _ => None,
            })
            .collect()
    }
}

/// Why a handshake failed, and with which version it may be repeated.
struct Unopened {
    end: NoSession,
    retry: Option<&'static str>,
    code: Option<i64>,
}

impl Unopened {
    fn ended(outcome: Outcome) -> Unopened {
        Unopened { end: NoSession::Ended(outcome), retry: None, code: None }
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
