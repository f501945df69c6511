//! The Streamable HTTP binding.

use crate::net::{Deadline, HeaderList, HttpClient};

use super::{Exchange, OnEvent, Outcome};

/// What an HTTP binding talks to.
pub struct HttpTarget {
    /// The MCP endpoint, path and query included.
    pub url: url::Url,
    /// Headers set on every request to that origin and path.
    pub static_headers: HeaderList,
    /// Headers set on discovery requests (probe, OAuth discovery) to that origin.
    pub discovery_headers: HeaderList,
    /// Longest 2xx body, SSE event included, in bytes.
    pub max_message_bytes: usize,
}

/// Streamable HTTP to one MCP server; holds no session state between exchanges.
pub struct HttpBinding {
    _target: HttpTarget,
    _client: HttpClient,
}

impl HttpBinding {
    /// A binding that reaches `target` through `client`.
    pub fn new(target: HttpTarget, client: HttpClient) -> HttpBinding {
        HttpBinding { _target: target, _client: client }
    }

    /// See [`super::Binding::exchange`].
    pub fn exchange(&self, _exchange: &Exchange<'_>, _on_event: OnEvent<'_>) -> Outcome {
        Outcome::Expired
    }

    /// See [`super::Binding::terminate_session`].
    pub fn terminate_session(&self, _headers: &HeaderList, _deadline: Deadline) -> Outcome {
        Outcome::Expired
    }
}
