//! ureq's errors, in our words.

use std::io;

use super::HEAD_BOUND_BYTES;
use super::call::Call;
use crate::net::{Cause, Error};

/// Why a request got no reply, and whether that is because its connection, kept from an earlier
/// request, was closed before any byte of a reply.
pub(super) fn of_request(error: ureq::Error, call: Call) -> (Error, bool) {
    let outcome = call.finish();
    let kept = outcome.reused && !outcome.received;
    let (cause, message) = match outcome.failure {
        Some(failure) => match failure.cause {
            // TLS noticed the missing end; without a single byte of the reply it is no reply at all.
            Cause::UnexpectedEof if !outcome.received => (Cause::Eof, failure.message),
            cause => (cause, failure.message),
        },
        None => own(error, outcome.written, outcome.received),
    };
    use Cause::{ClosedPipe, ConnectionAborted, ConnectionReset, Eof};
    let closed = kept && matches!(cause, Eof | ConnectionReset | ConnectionAborted | ClosedPipe);
    (Error { cause, written: outcome.written, message }, closed)
}

/// Why a body could not be read.
pub(super) fn of_body(error: io::Error, call: Call) -> Error {
    let outcome = call.finish();
    let (cause, message) = match outcome.failure {
        Some(failure) => (failure.cause, failure.message),
        None => own(ureq::Error::from(error), true, true),
    };
    Error { cause, written: true, message }
}

/// Errors that ureq found itself.
fn own(error: ureq::Error, written: bool, received: bool) -> (Cause, String) {
    use ureq::Error as Ureq;
    match error {
        Ureq::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof && !received => {
            (Cause::Eof, "the connection was closed before any reply".into())
        }
        Ureq::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            (Cause::UnexpectedEof, "the connection was closed in the middle of the reply".into())
        }
        Ureq::BodyStalled => {
            (Cause::UnexpectedEof, "the connection was closed in the middle of the reply".into())
        }
        Ureq::LargeResponseHeader(..) => {
            (Cause::Protocol, format!("the head of the reply is longer than {HEAD_BOUND_BYTES} bytes"))
        }
        Ureq::Decompress(encoding, _) => {
            (Cause::Protocol, format!("the body of the reply is not valid {encoding}"))
        }
        Ureq::Protocol(e) if received => (Cause::Protocol, format!("the reply is not valid HTTP/1.1: {e}")),
        Ureq::Protocol(_) | Ureq::Http(_) | Ureq::BadUri(_) if !written => {
            (Cause::InvalidRequest, "the request is not valid HTTP/1.1".into())
        }
        _ => (Cause::Other, "the request failed".into()),
    }
}
