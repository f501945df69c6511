//! Why an OAuth request got no answer of the private authorization server.

use super::super::error::{code, error};
use crate::net::front::Response;

/// What went wrong, and with it the response.
pub(in crate::server::api) enum Failure {
    /// The caller has left: there is nobody to answer.
    CallerGone,
    /// The tunnel takes no work; the response says why.
    Refused(Response),
    /// The client is not, or no longer, connected.
    NotConnected(Response),
    /// No answer in time.
    Timeout,
    /// The client answered with a JSON-RPC error: its session may be gone.
    Protocol,
    /// The call failed, or its result makes no sense.
    CallFailed,
    /// The client does not know the label.
    TargetNotFound,
    /// There is no route for this endpoint.
    Unshimmable,
    /// The metadata names an endpoint that is no URI to be used.
    InvalidUri,
    /// The client cannot look up an audience.
    NoAudience,
}

impl Failure {
    /// The response; `None` when nobody waits for it.
    pub(in crate::server::api) fn response(self) -> Option<Response> {
        let (status, code, message) = match self {
            Failure::CallerGone => return None,
            Failure::Refused(response) | Failure::NotConnected(response) => return Some(response),
            Failure::Timeout => (
                504,
                code::SHIM_TIMEOUT,
                "the authorization server behind the tunnel did not answer in time; try again",
            ),
            Failure::Protocol | Failure::CallFailed => (
                502,
                code::SHIM_CALL_FAILED,
                "the call to the authorization server behind the tunnel failed; see the tunnel client's log",
            ),
            Failure::TargetNotFound => (
                404,
                code::SHIM_NOT_FOUND,
                "the tunnel client has no such target; check its targets and restart it",
            ),
            Failure::Unshimmable => (
                404,
                code::SHIM_UNSHIMMABLE,
                "this endpoint is not served through the tunnel; call the one in the metadata directly",
            ),
            Failure::InvalidUri => (
                502,
                code::SHIM_INVALID_URI,
                "the metadata names an endpoint that is neither an http(s) URL nor a target; correct it there",
            ),
            Failure::NoAudience => (
                501,
                code::SHIM_NO_AUDIENCE,
                "the tunnel client cannot look up an audience; use a full client, or post to this endpoint",
            ),
        };
        Some(error(status, Some(code), message))
    }
}
