//! What is recorded as it happens.

use std::time::Duration;

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollEnd {
    /// Commands or none.
    Success,
    /// Its deadline passed.
    TimedOut,
    /// Any other failure.
    Failed,
    /// Cut because the client stops: no error.
    Stopped,
}

/// A command whose terminal response was delivered.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// `call`, `notification`, `session_termination` or `oauth_discovery`.
    pub kind: &'static str,
    /// JSON-RPC method, for calls and notifications.
    pub method: Option<&'a str>,
    /// Channel.
    pub channel: &'a str,
    /// Tunnel.
    pub tunnel_id: &'a str,
    /// The `resp_code` that was posted.
    pub status: u16,
    /// Since the control plane queued it; `None` when unknown or in the future.
    pub since_created: Option<Duration>,
    /// Since its poll's reply arrived.
    pub since_received: Duration,
}

/// One check of a proxy.
#[derive(Clone, Copy, Debug)]
pub struct ProxyCheck<'a> {
    /// Identity of the proxy.
    pub proxy_id: &'a str,
    /// Time to connect, when measured.
    pub tcp: Option<Duration>,
    /// Time of the `CONNECT`, when measured.
    pub connect: Option<Duration>,
    /// Phase and reason of the failure.
    pub failure: Option<(&'static str, &'static str)>,
}
