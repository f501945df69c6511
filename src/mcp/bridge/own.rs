//! Messages that are made here: requests of our own, refusals, and the names they use.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::value::RawValue;

use crate::jsonrpc::{Envelope, Id, error_response, result_response};
use crate::mcp::era::{LEGACY_VERSIONS, is_modern_version};
use crate::mcp::{Answer, Head, Outcome, peek};
use crate::net::HeaderList;

use super::edit::{Editor, quoted};

/// The revision without a handshake that can be bridged.
pub(in crate::mcp) const MODERN_VERSION: &str = "2026-07-28";
/// JSON-RPC: invalid params.
pub(in crate::mcp) const INVALID_PARAMS: i64 = -32602;
/// MCP 2026-07-28: the server needs a capability that the client has not declared.
pub(in crate::mcp) const MISSING_CAPABILITY: i64 = -32021;
/// MCP 2026-07-28: headers and body disagree.
pub(in crate::mcp) const HEADER_MISMATCH: i64 = -32020;
/// MCP 2026-07-28: unsupported protocol version.
pub(in crate::mcp) const UNSUPPORTED_VERSION: i64 = -32022;
/// Extension that no bridge can carry.
pub(in crate::mcp) const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";
/// Names and methods from outside are cut to this many characters where they are shown.
const MAX_SHOWN_CHARS: usize = 64;

/// Members of `_meta` that belong to the revision without a handshake.
pub(in crate::mcp) mod meta {
    pub(in crate::mcp) const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    pub(in crate::mcp) const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    pub(in crate::mcp) const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    pub(in crate::mcp) const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    pub(in crate::mcp) const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
    pub(in crate::mcp) const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
}

/// Levels of log messages, most verbose first.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// A level's place among all; `None` for an unknown word.
pub(in crate::mcp) fn level(word: &str) -> Option<usize> {
    LEVELS.iter().position(|known| *known == word)
}

/// The word for a level.
pub(in crate::mcp) fn level_word(level: usize) -> &'static str {
    LEVELS[level.min(LEVELS.len() - 1)]
}

/// An id of our own, JSON text: `"tc-WORD-N"`.
pub(in crate::mcp) fn next_id(word: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("\"tc-{word}-{}\"", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Who we are where a connector's identity is not known.
pub(in crate::mcp) fn own_info() -> String {
    format!(r#"{{"name":"tunnel-client","version":"{}"}}"#, crate::VERSION)
}

/// `params` of a `server/discover` of our own.
pub(in crate::mcp) fn discover_params() -> String {
    format!(
        r#"{{"_meta":{{"{}":"{MODERN_VERSION}","{}":{},"{}":{{}}}}}}"#,
        meta::VERSION,
        meta::CLIENT_INFO,
        own_info(),
        meta::CAPABILITIES
    )
}

/// A request; `id` and `params` are JSON text.
pub(in crate::mcp) fn request(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// An error under the status that HTTP demands of it (MCP 2026-07-28, "Transports").
pub(in crate::mcp) fn refusal(id: Option<&Id>, code: i64, message: &str, data: Option<&str>) -> Outcome {
    let status = match code {
        crate::jsonrpc::METHOD_NOT_FOUND => 404,
        HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION => 400,
        _ => 200,
    };
    local(status, error_response(id, code, message, data))
}

/// A result of our own.
pub(in crate::mcp) fn result(id: Option<&Id>, result: &str) -> Outcome {
    match id {
        Some(id) => local(200, result_response(id, result)),
        // Unreachable: only calls are answered.
        None => Outcome::Accepted(Head::bare(200)),
    }
}

/// A message of our own as the answer.
pub(in crate::mcp) fn local(status: u16, json: String) -> Outcome {
    let headers: HeaderList = [("Content-Type", "application/json")].into_iter().collect();
    Outcome::Answered(Answer { head: Head { status, headers }, json })
}

/// The same message under another id.
pub(in crate::mcp) fn with_id(json: &str, id: Option<&Id>) -> String {
    match (Editor::of(json), id) {
        (Some(mut message), Some(id)) if message.get("id").is_none_or(|own| own.get() != id.as_json()) => {
            message.set("id", id.as_json());
            message.finish()
        }
        _ => json.to_owned(),
    }
}

/// The code of a JSON-RPC error object.
pub(in crate::mcp) fn error_code(error: &RawValue) -> Option<i64> {
    let code = peek::member(error, "code")?.get();
    code.parse().ok().or_else(|| code.parse::<f64>().ok().filter(|n| n.fract() == 0.0).map(|n| n as i64))
}

/// `data.supported` of an error, if it is a list of texts.
pub(in crate::mcp) fn supported(error: &RawValue) -> Option<Vec<String>> {
    let list = peek::member(peek::member(error, "data")?, "supported")?;
    serde_json::from_str(list.get()).ok()
}

/// The revision to repeat `initialize` with after `error`: the newest known one that the server names, or
/// the oldest of all when it merely disliked the parameters.
pub(in crate::mcp) fn other_legacy_version(error: &RawValue) -> Option<&'static str> {
    match supported(error) {
        Some(list) => {
            LEGACY_VERSIONS.into_iter().find(|version| list.iter().any(|offered| offered == version))
        }
        None if error_code(error) == Some(INVALID_PARAMS) => LEGACY_VERSIONS.last().copied(),
        None => None,
    }
}

/// Warns of a revision that no list knows: its server is served as well as may be.
pub(in crate::mcp) fn warn_of_unfamiliar(channel: &str, version: &str) {
    if !LEGACY_VERSIONS.contains(&version) {
        let protocol_version = clipped(version.into());
        log::warn!(target: "mcpclient", channel, protocol_version = protocol_version.as_str();
            "unfamiliar MCP protocol version");
    }
}

/// Whether a list names a revision without a handshake.
pub(in crate::mcp) fn names_modern(versions: &[String]) -> bool {
    versions.iter().any(|version| is_modern_version(version))
}

/// The newest revision of the modern era that a `server/discover` result names.
pub(in crate::mcp) fn newest_modern(result: &str) -> Option<String> {
    let list = peek::members(result, ["supportedVersions"])[0]?;
    let list: Vec<String> = serde_json::from_str(list.get()).ok()?;
    list.into_iter().filter(|version| is_modern_version(version)).max().map(|newest| clipped(newest.into()))
}

/// Whether messages can be translated for a server that answered `json` to `server/discover`, or to any
/// request of the modern era: it names a revision that is known here, or none at all.
pub(in crate::mcp) fn is_bridgeable(json: &str) -> bool {
    let Ok(view) = Envelope::parse(json.as_bytes()) else { return true };
    let named = match (view.result, view.error) {
        (Some(result), _) => peek::member(result, "supportedVersions")
            .and_then(|list| serde_json::from_str::<Vec<String>>(list.get()).ok()),
        (None, Some(error)) => supported(error),
        (None, None) => None,
    };
    named.is_none_or(|list| list.is_empty() || list.iter().any(|version| version == MODERN_VERSION))
}

/// A text from outside, short enough to be shown.
pub(in crate::mcp) fn clipped(text: Cow<'_, str>) -> String {
    if text.chars().count() > MAX_SHOWN_CHARS {
        text.chars().take(MAX_SHOWN_CHARS).collect()
    } else {
        text.into_owned()
    }
}

/// A JSON string with a name from outside, short enough to be shown.
pub(in crate::mcp) fn clipped_quoted(text: Cow<'_, str>) -> String {
    quoted(&clipped(text))
}

/// The text of an object, of which the members that are wanted are kept, in their order.
pub(super) fn picked(object: &str, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let mut object = Editor::of(object)?;
    object.drop_where(|name| !wanted(name));
    Some(object.finish())
}

/// Whether a value is an object.
pub(super) fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}
