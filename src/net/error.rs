//! What can go wrong on the way to a reply.

use std::fmt;

use rustix::io::Errno;

/// Why a request got no usable reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The name did not resolve, or not in time.
    Dns,
    /// The TLS handshake or a certificate check failed.
    Tls,
    /// The deadline, or the connect or handshake time-out, passed.
    Timeout,
    /// The peer refused the connection.
    ConnectionRefused,
    /// No route to the network.
    NetworkUnreachable,
    /// No route to the host.
    HostUnreachable,
    /// The Unix socket's path does not exist.
    SocketMissing,
    /// This process or host has no descriptor or memory left for a connection: nothing reached the peer.
    Exhausted,
    /// Any other failure before a connection stood.
    Dial,
    /// The proxy refused the tunnel; the proxy's status.
    ProxyRefused(u16),
    /// The peer closed its reading side (`EPIPE`).
    ClosedPipe,
    /// The peer closed before any byte of the reply, in the TLS handshake perhaps.
    Eof,
    /// The peer closed in the middle of the reply.
    UnexpectedEof,
    /// The peer reset the connection.
    ConnectionReset,
    /// The connection was aborted locally.
    ConnectionAborted,
    /// The call was cancelled from outside.
    Cancelled,
    /// The reply was not HTTP, or its framing was wrong.
    Protocol,
    /// The body was longer than its limit.
    TooLarge,
    /// The request itself cannot be sent: an invalid URL, header name or value.
    InvalidRequest,
    /// Anything else.
    Other,
}

/// A failed request: cause, whether the peer may have seen any of it, and a text for the operator.
#[derive(Clone, Debug)]
pub struct Error {
    /// What happened.
    pub cause: Cause,
    /// Whether any byte of the request may have been written: then it must not be repeated blindly.
    pub written: bool,
    /// One phrase for the operator; holds no header, body, path or user info.
    pub message: String,
}

impl Error {
    /// An error of which nothing was written.
    pub fn before_writing(cause: Cause, message: impl Into<String>) -> Error {
        Error { cause, written: false, message: message.into() }
    }

    /// An error after (part of) the request was written.
    pub fn after_writing(cause: Cause, message: impl Into<String>) -> Error {
        Error { cause, written: true, message: message.into() }
    }
}

impl Error {
    /// The error inside an `io::Error` of [`super::Body`]'s reads.
    pub fn in_io(error: &std::io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }

    /// The error inside an `io::Error` of [`super::Body`]'s reads, or one that says the same.
    pub fn from_io(error: std::io::Error) -> Error {
        error.downcast().unwrap_or_else(|e| Error::after_writing(Cause::Other, e.to_string()))
    }
}

/// So that a [`std::io::Read`] can fail with it.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        std::io::Error::other(error)
    }
}

/// Whether what is missing is ours, and may be there again in a moment.
pub(super) fn is_exhaustion(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
