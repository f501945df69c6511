//! The failure taxonomy that callers see.

use crate::net::{Cause, Error};

use super::Head;

/// Why an exchange got no usable answer.
#[derive(Clone, Debug)]
pub enum Failure {
    /// A non-2xx reply whose body is no MCP error: answered under its own status.
    Rejected {
        /// Status and headers of that reply.
        head: Head,
        /// What was wrong with the body.
        kind: FailureKind,
    },
    /// Everything else: answered with 502.
    Broken {
        /// Head of the reply, when one had arrived.
        head: Option<Head>,
        /// Where it broke.
        source: Source,
        /// How it broke.
        kind: FailureKind,
    },
    /// A stdio child was not there, or not initialised: answered under `status`, which is 502, 503 or
    /// 504, with `note` as the error data's `tunnel_bridge`.
    Lifecycle {
        /// Status of the answer.
        status: u16,
        /// Where it failed.
        source: Source,
        /// How it failed.
        kind: FailureKind,
        /// More for the caller.
        note: LifecycleNote,
    },
}

/// What a caller may learn about a [`Failure::Lifecycle`]: no text from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecycleNote {
    /// A fixed word: `child_restarting` or `handshake`.
    pub reason: &'static str,
    /// Code of the server's JSON-RPC error.
    pub server_error_code: Option<i64>,
    /// When a child is due, in milliseconds from now.
    pub retry_after_ms: Option<u64>,
}

/// Where a failure arose; the wire's `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its wire label")]
pub enum Source {
    TargetHttp,
    Dns,
    Tls,
    Connect,
    TransportClosed,
    Timeout,
    Protocol,
    ClientInternal,
}

/// What happened; the wire's `transport_error_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its wire label")]
pub enum FailureKind {
    /// No child runs and none is due in time.
    ChildUnavailable,
    ClosedPipe,
    ConnectionAborted,
    ConnectionClosed,
    ConnectionRefused,
    ConnectionReset,
    Dial,
    Dns,
    Eof,
    HostUnreachable,
    HttpStatus,
    InvalidMcpError,
    InvalidProtocolResponse,
    MalformedJson,
    /// The server refused the handshake that a call needs.
    McpHandshakeFailed,
    /// The server did not answer the handshake that a call needs.
    McpHandshakeTimeout,
    NetworkUnreachable,
    NonProtocolResponse,
    ResponseBodyMissing,
    ResponseBodyTooLarge,
    ResponseBodyUnreadable,
    Timeout,
    Tls,
    Ttl,
    UnexpectedEof,
    Unknown,
    /// Never sent: a cancelled command has no kind on the wire.
    Canceled,
}

impl Failure {
    /// A failure without any reply.
    pub fn broken(source: Source, kind: FailureKind) -> Failure {
        Failure::Broken { head: None, source, kind }
    }

    /// Head of the reply, if there was one.
    pub fn head(&self) -> Option<&Head> {
        match self {
            Failure::Rejected { head, .. } => Some(head),
            Failure::Broken { head, .. } => head.as_ref(),
            Failure::Lifecycle { .. } => None,
        }
    }

    /// A violation of the protocol by the server.
    pub fn protocol(head: Option<Head>) -> Failure {
        Failure::Broken { head, source: Source::Protocol, kind: FailureKind::InvalidProtocolResponse }
    }

    /// Classifies a network error; `head` is the reply's head when it broke in the body.
    pub fn from_net(error: &Error, head: Option<Head>) -> Failure {
        let (source, kind) = classify(error.cause);
        Failure::Broken { head, source, kind }
    }
}

/// The first matching row of the taxonomy for a cause.
fn classify(cause: Cause) -> (Source, FailureKind) {
    match cause {
        Cause::Dns => (Source::Dns, FailureKind::Dns),
        Cause::Tls => (Source::Tls, FailureKind::Tls),
        Cause::Timeout => (Source::Timeout, FailureKind::Timeout),
        Cause::ConnectionRefused => (Source::Connect, FailureKind::ConnectionRefused),
        Cause::NetworkUnreachable => (Source::Connect, FailureKind::NetworkUnreachable),
        Cause::HostUnreachable => (Source::Connect, FailureKind::HostUnreachable),
        Cause::SocketMissing | Cause::Exhausted | Cause::Dial | Cause::ProxyRefused(_) => {
            (Source::Connect, FailureKind::Dial)
        }
        Cause::ClosedPipe => (Source::TransportClosed, FailureKind::ClosedPipe),
        Cause::Eof => (Source::TransportClosed, FailureKind::Eof),
        Cause::UnexpectedEof => (Source::TransportClosed, FailureKind::UnexpectedEof),
        Cause::ConnectionReset => (Source::TransportClosed, FailureKind::ConnectionReset),
        Cause::ConnectionAborted => (Source::TransportClosed, FailureKind::ConnectionAborted),
        Cause::Protocol | Cause::TooLarge => (Source::Protocol, FailureKind::InvalidProtocolResponse),
        Cause::Cancelled => (Source::ClientInternal, FailureKind::Canceled),
        Cause::InvalidRequest | Cause::Other => (Source::ClientInternal, FailureKind::Unknown),
    }
}

impl LifecycleNote {
    /// The JSON text of `tunnel_bridge`.
    pub fn to_json(&self) -> String {
        let mut json = format!(r#"{{"reason":"{}""#, self.reason);
        if let Some(code) = self.server_error_code {
            json.push_str(&format!(r#","server_error_code":{code}"#));
        }
        if let Some(millis) = self.retry_after_ms {
            json.push_str(&format!(r#","retry_after_ms":{millis}"#));
        }
        json.push('}');
        json
    }
}

impl Source {
    /// The wire label.
    pub fn label(self) -> &'static str {
        match self {
            Source::TargetHttp => "target_http",
            Source::Dns => "dns",
            Source::Tls => "tls",
            Source::Connect => "connect",
            Source::TransportClosed => "transport_closed",
            Source::Timeout => "timeout",
            Source::Protocol => "protocol",
            Source::ClientInternal => "client_internal",
        }
    }
}

impl FailureKind {
    /// The label, for logs and, [`FailureKind::Canceled`] aside, the wire.
    pub fn label(self) -> &'static str {
        match self {
            FailureKind::ChildUnavailable => "child_unavailable",
            FailureKind::ClosedPipe => "closed_pipe",
            FailureKind::ConnectionAborted => "connection_aborted",
            FailureKind::ConnectionClosed => "connection_closed",
            FailureKind::ConnectionRefused => "connection_refused",
            FailureKind::ConnectionReset => "connection_reset",
            FailureKind::Dial => "dial",
            FailureKind::Dns => "dns",
            FailureKind::Eof => "eof",
            FailureKind::HostUnreachable => "host_unreachable",
            FailureKind::HttpStatus => "http_status",
            FailureKind::InvalidMcpError => "invalid_mcp_error",
            FailureKind::InvalidProtocolResponse => "invalid_protocol_response",
            FailureKind::MalformedJson => "malformed_json",
            FailureKind::McpHandshakeFailed => "mcp_handshake_failed",
            FailureKind::McpHandshakeTimeout => "mcp_handshake_timeout",
            FailureKind::NetworkUnreachable => "network_unreachable",
            FailureKind::NonProtocolResponse => "non_protocol_response",
            FailureKind::ResponseBodyMissing => "response_body_missing",
            FailureKind::ResponseBodyTooLarge => "response_body_too_large",
            FailureKind::ResponseBodyUnreadable => "response_body_unreadable",
            FailureKind::Timeout => "timeout",
            FailureKind::Tls => "tls",
            FailureKind::Ttl => "ttl",
            FailureKind::UnexpectedEof => "unexpected_eof",
            FailureKind::Unknown => "unknown",
            FailureKind::Canceled => "canceled",
        }
    }
}
