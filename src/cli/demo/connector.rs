//! The caller's end: what an assistant's back end does with the tunnel's MCP URL.

use std::time::{Duration, Instant};

use url::Url;

use crate::jsonrpc::{Envelope, Id, Message};
use crate::mcp::http::{HttpBinding, HttpTarget};
use crate::mcp::{Exchange, Outcome};
use crate::net::{Cancel, Deadline, HeaderList, HttpClient, Route, Trust, Via};

use super::super::Failure;

/// Longest time for one step.
const STEP_TIME: Duration = Duration::from_secs(60);
/// Longest answer, in bytes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Calls through the tunnel.
pub(super) struct Connector {
    binding: HttpBinding,
    headers: HeaderList,
    next_id: u64,
}

/// The answer to one call.
pub(super) struct Answered {
    /// The response, as JSON text.
    pub(super) json: String,
    /// From the first byte sent to the last one received.
    pub(super) latency: Duration,
}

impl Connector {
    pub(super) fn new(mcp_url: &str) -> Result<Connector, Failure> {
        let url =
            Url::parse(mcp_url).map_err(|e| Failure::new(format!("demo: the MCP URL {mcp_url}: {e}")))?;
        let target = HttpTarget {
            url,
            static_headers: HeaderList::new(),
            discovery_headers: HeaderList::new(),
            max_message_bytes: MAX_MESSAGE_BYTES,
        };
        let client = HttpClient::new(&Route::new(Via::Direct, Trust::system()), &Cancel::new());
        Ok(Connector { binding: HttpBinding::new(target, client), headers: HeaderList::new(), next_id: 1 })
    }

    /// Calls `method`; notifications met on the way go to `on_event` with the time since the start.
    pub(super) fn call(
        &mut self,
        method: &str,
        params: &str,
        mut on_event: impl FnMut(&str, Duration),
    ) -> Result<Answered, Failure> {
        let id = self.next_id;
        self.next_id += 1;
        let json = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        let message = Message::parse(json).map_err(|e| failed(method, e))?;
        let started = Instant::now();
        let exchange =
            Exchange { message: &message, headers: &self.headers, deadline: Deadline::after(STEP_TIME) };
        let outcome = self.binding.exchange(&exchange, &mut |event| on_event(event.json, started.elapsed()));
        let latency = started.elapsed();
        match outcome {
            Outcome::Answered(answer) => {
                if let Some(session) = answer.head.headers.get("Mcp-Session-Id") {
                    self.headers.set("Mcp-Session-Id", session.to_owned());
                }
                let envelope = Envelope::parse(answer.json.as_bytes()).map_err(|e| failed(method, e))?;
                let expected = Id::from_json(&id.to_string());
                if envelope.id != expected {
                    return Err(failed(method, "the answer carries another id"));
                }
                if let Some(error) = envelope.error {
                    return Err(failed(method, format!("answered with the error {error}")));
                }
                Ok(Answered { json: answer.json, latency })
            }
            Outcome::Accepted(head) => {
                Err(failed(method, format!("answered with status {} only", head.status)))
            }
            Outcome::Failed(failure) => Err(failed(method, format!("no answer: {failure:?}"))),
            Outcome::Expired | Outcome::Withdrawn => {
                Err(failed(method, format!("no answer within {STEP_TIME:?}")))
            }
        }
    }

    /// Sends a notification.
    pub(super) fn notify(&self, method: &str) -> Result<Duration, Failure> {
        let json = format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#);
        let message = Message::parse(json).map_err(|e| failed(method, e))?;
        let started = Instant::now();
        let exchange =
            Exchange { message: &message, headers: &self.headers, deadline: Deadline::after(STEP_TIME) };
        match self.binding.exchange(&exchange, &mut |_| {}) {
            Outcome::Accepted(head) if head.status < 300 => Ok(started.elapsed()),
            other => Err(failed(method, format!("not accepted: {other:?}"))),
        }
    }

    /// Ends the session, if the server gave one; the status that came back.
    pub(super) fn end_session(&self) -> Result<Option<(u16, Duration)>, Failure> {
        if self.headers.get("Mcp-Session-Id").is_none() {
            return Ok(None);
        }
        let started = Instant::now();
        match self.binding.terminate_session(&self.headers, Deadline::after(STEP_TIME)) {
            Outcome::Accepted(head) => Ok(Some((head.status, started.elapsed()))),
            other => Err(failed("session end", format!("{other:?}"))),
        }
    }

    /// Sent with every call from now on.
    pub(super) fn set_protocol_version(&mut self, version: &str) {
        self.headers.set("Mcp-Protocol-Version", version);
    }
}

fn failed(step: &str, cause: impl std::fmt::Display) -> Failure {
    Failure::new(format!("demo: {step}: {cause}"))
}
