//! What is told of an exchange: its class and its identifiers, nothing of its content.

use log::Level;

use crate::control_plane::event::is_wanted;
use crate::control_plane::trace::Trace;
use crate::control_plane::{Command, Work};
use crate::jsonrpc::Envelope;
use crate::mcp::{Answer, Head, Source};

use super::outcome::{self, Classified};

/// This room's component.
const TARGET: &str = "dispatcher";
/// Names the session that a reply opens.
pub(super) const SESSION_ID: &str = "Mcp-Session-Id";
/// Longest shown name that a peer chose.
const SHOWN_CHARS: usize = 128;

/// A command, as this room's events name it.
pub(super) fn traced(command: &Command) -> Trace<'_> {
    Trace::of(TARGET, command)
}

/// A notification of the MCP server; not its content.
pub(super) fn trace_notification(command: &Command, event: &crate::mcp::Event<'_>) {
    if !is_wanted(TARGET, Level::Debug) {
        return;
    }
    let envelope = Envelope::parse(event.json.as_bytes()).ok();
    let method = envelope.as_ref().map(|envelope| clipped(&envelope.method));
    traced(command)
        .or_session(event.head.headers.get(SESSION_ID))
        .event(Level::Debug)
        .with("message_kind", "notification")
        .with_some("method", method)
        .emit("notification received");
}

/// The answer of the MCP server; of its content only the code of an error.
pub(super) fn trace_answer(command: &Command, answer: &Answer) {
    if !is_wanted(TARGET, Level::Debug) {
        return;
    }
    let trace = traced(command).or_session(answer.head.headers.get(SESSION_ID));
    if let Some(kind) = outcome::replaced_content_type(&answer.head.headers) {
        trace
            .event(Level::Debug)
            .with("original_kind", kind)
            .with("new", outcome::JSON)
            .emit("content type of the answer replaced");
    }
    let error = Envelope::parse(answer.json.as_bytes()).ok().and_then(|envelope| envelope.error);
    let code = error.and_then(|error| serde_json::from_str::<ErrorCode>(error.get()).ok());
    trace
        .event(Level::Debug)
        .with("message_kind", "response")
        .with_some("rpc_response_id", trace.rpc_id())
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
    traced(command)
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
