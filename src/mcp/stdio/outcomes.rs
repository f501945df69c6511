//! The ends of an exchange that no server wrote.

use std::time::Duration;

use crate::mcp::{Failure, FailureKind, LifecycleNote, Outcome, Source};

use super::handshaking::HandshakeFailure;
use super::notice::millis;

/// The child is gone or went away during the call.
pub(super) fn broken(kind: FailureKind) -> Outcome {
    failed(Source::TransportClosed, kind)
}

/// A failure without any reply.
pub(super) fn failed(source: Source, kind: FailureKind) -> Outcome {
    Outcome::Failed(Failure::broken(source, kind))
}

/// No child runs and the next one is not due in time.
pub(super) fn child_unavailable(due: Duration) -> Outcome {
    let note = LifecycleNote {
        reason: "child_restarting",
        server_error_code: None,
        retry_after_ms: Some(millis(due)),
    };
    let (source, kind) = (Source::TransportClosed, FailureKind::ChildUnavailable);
    Outcome::Failed(Failure::Lifecycle { status: 503, source, kind, note })
}

/// The handshake that the message needs has failed.
pub(super) fn handshake_failed(failure: HandshakeFailure) -> Outcome {
    let (status, source, kind, server_error_code) = match failure {
        HandshakeFailure::Refused(code) => (502, Source::Protocol, FailureKind::McpHandshakeFailed, code),
        HandshakeFailure::Silent => (504, Source::Timeout, FailureKind::McpHandshakeTimeout, None),
    };
    let note = LifecycleNote { reason: "handshake", server_error_code, retry_after_ms: None };
    Outcome::Failed(Failure::Lifecycle { status, source, kind, note })
}
