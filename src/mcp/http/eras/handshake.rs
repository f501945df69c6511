//! The handshake that opens a session on a server for a connector without any.
//!
//! Invariant: a session id counts only if it came with an accepted `initialize`.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::jsonrpc::Envelope;
use crate::mcp::bridge::{evidence, modern, own};
use crate::mcp::era::LEGACY_VERSIONS;
use crate::mcp::{Answer, Failure, FailureKind, Outcome, Source, peek};
use crate::net::{Deadline, HeaderList};

use super::super::HttpBinding;
use super::facts::{handshake_failed, handshake_silent, millis};
use super::sessions::{Cause, NoSession, Session, is_refusal};

impl HttpBinding {
    /// Opens a session: what the handshake came to, counted and logged.
    pub(super) fn open_session(&self, cause: &Cause) -> Result<Arc<Session>, NoSession> {
        let started = Instant::now();
        let opened = self.try_versions(cause, started);
        let elapsed_ms = millis(started.elapsed());
        let (channel, trigger) = (self.eras.channel.as_str(), cause.trigger);
        let (result, probe, failure) = match &opened {
            Ok(_) => ("ok", "supported", None),
            Err((NoSession::Ended(Outcome::Failed(Failure::Lifecycle { status: 504, .. })), _)) => {
                ("timeout", "timeout", Some(None))
            }
            Err((NoSession::Refused(_), code)) => ("error", "unsupported", Some(*code)),
            Err((NoSession::Ended(outcome), code)) => {
                ("error", if is_auth(outcome) { "auth" } else { "error" }, Some(*code))
            }
        };
        self.eras.tally.handshake(trigger, result);
        self.eras.tally.probe("initialize", probe);
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
        cause: &Cause,
        started: Instant,
    ) -> Result<Arc<Session>, (NoSession, Option<i64>)> {
        let headers = &cause.headers;
        let mut version = LEGACY_VERSIONS[0];
        let mut retried = false;
        loop {
            let params = modern::initialize_params(version, cause.meta.as_deref());
            let request = own::request(&own::next_id("init"), "initialize", &params);
            let deadline = Deadline::after(self.eras.handshake_limit).earliest(cause.until);
            match self.initialized(self.own_exchange(&request, headers, deadline), headers, started) {
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

    fn initialized(
        &self,
        outcome: Outcome,
        headers: &HeaderList,
        started: Instant,
    ) -> Result<Arc<Session>, Unopened> {
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
        own::warn_of_unfamiliar(&self.eras.channel, &version);
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
        self.eras.learn(Some(true), None, "initialize_result", started);
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

/// Whether the server wants authorization first.
fn is_auth(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Answered(Answer { head, .. }) | Outcome::Failed(Failure::Rejected { head, .. }) => {
            matches!(head.status, 401 | 403)
        }
        _ => false,
    }
}
