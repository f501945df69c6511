//! The identifiers that every event about a command carries.

use std::borrow::Cow;

use log::Level;
use log::kv::Value;

use crate::control_plane::event::Event;
use crate::control_plane::{Command, Work};
use crate::jsonrpc::{Envelope, Id, Kind};
use crate::mcp::{Answer, Head, Source};

use super::outcome::{self, Classified};

/// This room's component.
const TARGET: &str = "dispatcher";
/// Names the session that a reply opens.
pub(super) const SESSION_ID: &str = "Mcp-Session-Id";
/// Longest shown name that a peer chose.
const SHOWN_CHARS: usize = 128;

/// A command, as the log names it. Made when an event is due: nothing is computed before.
pub(super) struct Trace<'a> {
    command: &'a Command,
    rpc_id: Option<(Cow<'a, str>, bool)>,
    /// A session that the MCP server opened, for a command that named none.
    session_id: Option<&'a str>,
}

impl<'a> Trace<'a> {
    pub(super) fn of(command: &'a Command) -> Trace<'a> {
        let rpc_id = match &command.work {
            Work::JsonRpc(message) if message.kind() == Kind::Call => {
                message.id().map(|id| (id_text(id), id.is_string()))
            }
            _ => None,
        };
        Trace { command, rpc_id, session_id: command.session_id() }
    }

    /// The same with the session that the reply named, unless the command named one.
    pub(super) fn or_session(mut self, session_id: Option<&'a str>) -> Trace<'a> {
        self.session_id = self.session_id.or(session_id).filter(|id| !id.is_empty());
        self
    }

    /// An event about the command.
    pub(super) fn event(&self, level: Level) -> Event<'_> {
        Event::of(TARGET, level)
            .with("request_id", self.command.request_id.as_str())
            .with("channel", self.command.channel.as_str())
            .with_some("cmd_request_id", self.command.connector_request_id())
            .with_some(
                "rpc_request_id",
                self.rpc_id.as_ref().map(|(text, is_string)| id_value(text, *is_string)),
            )
            .with_some("session_id", self.session_id)
    }
}

/// The id as text, strings without their quotes.
fn id_text(id: &Id) -> Cow<'_, str> {
    let text = id.as_json();
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        None => Cow::Borrowed(text),
        Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
        Some(_) => serde_json::from_str::<String>(text).map_or(Cow::Borrowed(text), Cow::Owned),
    }
}

/// An integer as one, anything else as text.
fn id_value(text: &str, is_string: bool) -> Value<'_> {
    let integer = if is_string { None } else { text.parse::<i64>().ok() };
    integer.map_or(Value::from(text), Value::from)
}

/// A notification of the MCP server; not its content.
pub(super) fn trace_notification(command: &Command, event: &crate::mcp::Event<'_>) {
    let trace = Trace::of(command).or_session(event.head.headers.get(SESSION_ID));
    let line = trace.event(Level::Debug);
    if line.is_wanted() {
        let envelope = Envelope::parse(event.json.as_bytes()).ok();
        let method = envelope.as_ref().map(|envelope| clipped(&envelope.method));
        line.with("message_kind", "notification").with_some("method", method).emit("notification received");
    }
}

/// The answer of the MCP server; of its content only the code of an error.
pub(super) fn trace_answer(command: &Command, answer: &Answer) {
    let trace = Trace::of(command).or_session(answer.head.headers.get(SESSION_ID));
    let line = trace.event(Level::Debug);
    if !line.is_wanted() {
        return;
    }
    if let Some(kind) = outcome::replaced_content_type(&answer.head.headers) {
        let line = trace.event(Level::Debug);
        line.with("original_kind", kind)
            .with("new", outcome::JSON)
            .emit("content type of the answer replaced");
    }
    let error = Envelope::parse(answer.json.as_bytes()).ok().and_then(|envelope| envelope.error);
    let code = error.and_then(|error| serde_json::from_str::<ErrorCode>(error.get()).ok());
    line.with("message_kind", "response")
        .with_some(
            "rpc_response_id",
            trace.rpc_id.as_ref().map(|(text, is_string)| id_value(text, *is_string)),
        )
        .with("has_error", error.is_some())
        .with_some("rpc_error_code", code.and_then(|error| error.code))
        .with("status_code", answer.head.status)
        .emit("MCP server answered");
}

#[derive(serde::Deserialize)]
struct ErrorCode {
    code: Option<i64>,
}

/// An exchange without a usable answer: its class, and nothing of its cause.
pub(super) fn trace_failure(command: &Command, classified: Classified, head: Option<&Head>) {
    let method = match &command.work {
        Work::JsonRpc(message) => Some(clipped(message.method())),
        _ => None,
    };
    let header = |name| head.and_then(|head| head.headers.get(name));
    let level = if classified.source == Source::Protocol { Level::Error } else { Level::Warn };
    Trace::of(command)
        .or_session(header(SESSION_ID))
        .event(level)
        .with_some("rpc_method", method)
        .with("status_code", classified.code)
        .with("failure_source", classified.source.label())
        .with("transport_error_kind", classified.kind.label())
        .with("upstream_response_received", classified.upstream_status.is_some())
        .with_some("upstream_status", classified.upstream_status)
        .with_some("response_content_type", header(outcome::CONTENT_TYPE).map(clipped))
        .with("tunnel_client_version", crate::VERSION)
        .emit("MCP exchange failed");
}

/// The start of a name that a peer chose.
fn clipped(text: &str) -> &str {
    text.char_indices().nth(SHOWN_CHARS).map_or(text, |(end, _)| &text[..end])
}
