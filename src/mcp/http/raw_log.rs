//! Whole HTTP messages in the debug log, but for credentials: an operator's deliberate choice.
//!
//! Invariant: logging alters no flow. A body that arrives in pieces is never waited for; its messages
//! are logged one by one as they are met.

use super::media_type;
use crate::net::{HeaderMap, Method, Response, Uri};
use crate::redact;

/// Logs what is dumped, if the operator wants it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawLog {
    pub(super) enabled: bool,
}

/// A response that is logged once its body is known, or without it when dropped before.
#[derive(Default)]
pub(super) struct Dump(Option<(u16, HeaderMap)>);

impl RawLog {
    fn is_on(self) -> bool {
        self.enabled && log::log_enabled!(target: "mcpclient", log::Level::Debug)
    }

    pub(super) fn request(self, method: &Method, uri: &Uri, headers: &HeaderMap, body: Option<&[u8]>) {
        if !self.is_on() {
            return;
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let body = body.unwrap_or_default();
        let start = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        let dump = redact::http_message(&start, headers, body);
        log::debug!(target: "mcpclient", transport = "forwarding_rt", dump = dump.as_str(); "raw http request");
        if !body.is_empty() {
            log::debug!(target: "mcpclient", transport = "raw_http"; "write: {}", redact::payload(body));
        }
    }

    pub(super) fn response(self, response: &Response) -> Dump {
        if !self.is_on() {
            return Dump::default();
        }
        let dump = Dump(Some((response.status, response.headers.clone())));
        // A stream may last: its head is told at once.
        if media_type(&response.headers).eq_ignore_ascii_case(super::EVENT_STREAM) {
            drop(dump);
            return Dump::default();
        }
        dump
    }

    pub(super) fn read(self, json: &[u8]) {
        if self.is_on() {
            log::debug!(target: "mcpclient", transport = "raw_http"; "read: {}", redact::payload(json));
        }
    }
}

impl Dump {
    /// Logs the response with its body.
    pub(super) fn complete(&mut self, body: &[u8]) {
        if let Some((status, headers)) = self.0.take() {
            let dump = redact::http_message(&format!("HTTP/1.1 {status}\r\n"), &headers, body);
            log::debug!(target: "mcpclient", transport = "forwarding_rt", dump = dump.as_str(); "raw http response");
        }
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        self.complete(b"");
    }
}
