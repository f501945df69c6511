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
        Cause::SocketMissing | Cause::Dial | Cause::ProxyRefused(_) => (Source::Connect, FailureKind::Dial),
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
