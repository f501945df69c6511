//! Requests as they are told to whoever counts them.

use std::time::Duration;

/// One HTTP request, each attempt and each redirect on its own.
#[derive(Clone, Copy, Debug)]
pub struct HttpExchange<'a> {
    /// A name of the path that is bounded in number: a template, never with ids in it.
    pub route: &'a str,
    /// Method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host without port.
    pub host: &'a str,
    /// Port, if it is not the scheme's default.
    pub port: Option<u16>,
    /// The reply's status; `None` when there was no reply.
    pub status: Option<u16>,
    /// Until the reply's head, or the failure.
    pub duration: Duration,
    /// Bytes of body sent.
    pub body_bytes: usize,
}
