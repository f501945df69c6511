//! What a command asks for, or why it cannot be done.
//!
//! Its type alone decides: nothing is guessed from a payload. Invariant: whatever is wrong with a command
//! that can be addressed, there is an answer of the shape that its type wants.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::control_plane::refusal::Reason;
use crate::control_plane::types::{Command, Refusal, Work};
use crate::jsonrpc::{Id, Kind, Message, for_each_member};

/// Why an addressable command cannot be executed, and its answer.
pub(super) struct Unfit {
    pub(super) reason: Reason,
    pub(super) refusal: Refusal,
    pub(super) detail: String,
}

/// The parts of a command that were read beside it, and whether they could be.
pub(super) struct Parts<'a> {
    /// `command_type`.
    pub(super) name: Option<&'a str>,
    /// Whether `channel` is one.
    pub(super) channel_valid: bool,
    /// Whether `headers` are some.
    pub(super) headers_valid: bool,
    /// `jsonrpc`.
    pub(super) payload: Option<&'a RawValue>,
}

/// What `command` asks for.
pub(super) fn work(command: &Command, parts: &Parts<'_>) -> Result<Work, Unfit> {
    let Parts { name, channel_valid, headers_valid, payload } = *parts;
    let unfit = |reason: Reason, refusal| Unfit { reason, refusal, detail: String::new() };
    let jsonrpc_error =
        |reason: Reason| unfit(reason, reason.as_jsonrpc(payload.and_then(salvaged_id).as_ref()));
    match name {
        None => Err(jsonrpc_error(Reason::MissingCommandType)),
        Some("jsonrpc" | "session_termination" | "oauth_discovery") if !channel_valid => {
            Err(jsonrpc_error(Reason::InvalidChannel))
        }
        Some("jsonrpc") => {
            if !headers_valid {
                return Err(jsonrpc_error(Reason::InvalidHeaders));
            }
            let invalid = |detail: String| Unfit { detail, ..jsonrpc_error(Reason::InvalidJsonRpc) };
            let payload = payload.ok_or_else(|| invalid("member \"jsonrpc\" is missing".to_owned()))?;
            let message = Message::parse(payload.get()).map_err(|error| invalid(error.to_string()))?;
            match message.kind() {
                Kind::Response => Err(jsonrpc_error(Reason::ResponsePayload)),
                _ if !error_is_well_formed(message.json()) => {
                    Err(invalid("member \"error\" is malformed".to_owned()))
                }
                Kind::Call | Kind::Notification => Ok(Work::JsonRpc(message)),
            }
        }
        Some("session_termination") => {
            let refuse = |reason: Reason| Err(unfit(reason, reason.as_session_termination()));
            match (headers_valid, command.session_id()) {
                (false, _) => refuse(Reason::InvalidHeaders),
                (true, None) => refuse(Reason::MissingSessionId),
                (true, Some(_)) => Ok(Work::SessionTermination),
            }
        }
        Some("oauth_discovery") if headers_valid => Ok(Work::OauthDiscovery),
        Some("oauth_discovery") => {
            Err(unfit(Reason::InvalidHeaders, Reason::InvalidHeaders.as_oauth_discovery()))
        }
        Some(_) => Err(jsonrpc_error(Reason::UnsupportedCommandType)),
    }
}

/// The id of a payload that is otherwise unusable, so that its caller can be told.
fn salvaged_id(payload: &RawValue) -> Option<Id> {
    let mut id = None;
    for_each_member(payload.get(), &mut |name, value| {
        if name == "id" {
            id = Id::from_raw(value);
        }
    })
    .ok()?;
    id
}

/// Whether `error`, should the message have that member, is shaped as JSON-RPC 2.0 §5.1 says.
fn error_is_well_formed(message: &str) -> bool {
    // Requests have no such member: do not look at every payload twice.
    if !message.contains("\"error\"") {
        return true;
    }
    let mut well_formed = true;
    let read = for_each_member(message, &mut |name, value| {
        if name == "error" {
            well_formed = match serde_json::from_str::<Value>(value.get()) {
                Ok(Value::Null) => true,
                Ok(Value::Object(error)) => {
                    error.get("code").is_none_or(|code| code.is_null() || code.is_i64())
                        && error.get("message").is_none_or(|text| text.is_null() || text.is_string())
                }
                _ => false,
            };
        }
    });
    read.is_ok() && well_formed
}
