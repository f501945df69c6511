//! Why a command cannot be executed, and what to answer to it.
//!
//! Invariant: a command that can be addressed gets an answer; its caller never waits in vain.

use super::types::{Refusal, ResponseBody};
use crate::jsonrpc::{Id, METHOD_NOT_FOUND, error_response};

/// Invalid request (JSON-RPC 2.0 §5.1).
const INVALID_REQUEST: i64 = -32600;

/// Why a command is not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Reason {
    InvalidPayload,
    MissingRequestId,
    MissingShardToken,
    MissingCommandType,
    UnsupportedCommandType,
    InvalidChannel,
    InvalidHeaders,
    InvalidJsonRpc,
    ResponsePayload,
    MissingSessionId,
}

/// A command that was not executed, as the log shall tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// More about it; quotes no payload.
    pub detail: String,
    /// The command's id, if it has one.
    pub request_id: Option<String>,
    /// Its type, when that is what nobody understands.
    pub command_type: Option<String>,
    /// Whether it can be answered.
    pub answered: bool,
}

impl Reason {
    /// The reason as a metric label and log field.
    pub fn label(self) -> &'static str {
        match self {
            Reason::InvalidPayload => "invalid_payload",
            Reason::MissingRequestId => "missing_request_id",
            Reason::MissingShardToken => "missing_shard_token",
            Reason::MissingCommandType => "missing_command_type",
            Reason::UnsupportedCommandType => "unsupported_command_type",
            Reason::InvalidChannel => "invalid_channel",
            Reason::InvalidHeaders => "invalid_headers",
            Reason::InvalidJsonRpc => "invalid_jsonrpc",
            Reason::ResponsePayload => "response_payload",
            Reason::MissingSessionId => "missing_session_id",
        }
    }

    /// What the caller is told.
    fn text(self) -> &'static str {
        match self {
            Reason::InvalidPayload | Reason::MissingRequestId | Reason::MissingShardToken => {
                "malformed command"
            }
            Reason::MissingCommandType => "the command names no type",
            Reason::UnsupportedCommandType => "unsupported command type",
            Reason::InvalidChannel => "invalid channel name",
            Reason::InvalidHeaders => "malformed command headers",
            Reason::InvalidJsonRpc => "not a valid JSON-RPC 2.0 message",
            Reason::ResponsePayload => "JSON-RPC responses cannot be forwarded",
            Reason::MissingSessionId => "session termination needs an Mcp-Session-Id header",
        }
    }

    /// A `jsonrpc_response` with a JSON-RPC error: 501 for what we do not know, 400 for the rest.
    pub(super) fn as_jsonrpc(self, id: Option<&Id>) -> Refusal {
        let unknown = matches!(self, Reason::MissingCommandType | Reason::UnsupportedCommandType);
        let (code, error, phrase) = if unknown {
            (501, METHOD_NOT_FOUND, "Not Implemented")
        } else {
            (400, INVALID_REQUEST, "Bad Request")
        };
        let message = format!("{phrase}: {}", self.text());
        Refusal { code, body: ResponseBody::JsonRpc(error_response(id, error, &message, None)) }
    }

    /// A `session_termination_response` with 400.
    pub(super) fn as_session_termination(self) -> Refusal {
        Refusal { code: 400, body: ResponseBody::SessionTermination }
    }

    /// An `oauth_discovery_response` with 400 and an error document.
    pub(super) fn as_oauth_discovery(self) -> Refusal {
        let text = self.text();
        let label = self.label();
        let json =
            format!(r#"{{"error":{{"message":"{text}","type":"invalid_request_error","code":"{label}"}}}}"#);
        Refusal { code: 400, body: ResponseBody::OauthDiscovery(json) }
    }
}
