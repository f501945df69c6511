//! Whole HTTP messages in the debug log, credentials included: an operator's deliberate choice.
//!
//! Invariant: logging alters no flow. A body that arrives in pieces is never waited for; its messages
//! are logged one by one as they are met.

use std::fmt::Write;

use crate::net::{HeaderMap, Method, Response, Uri};

/// Logs what is dumped, if the operator wants it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawLog {
    pub(super) enabled: bool,
}

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
        let mut dump = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n");
        push_headers(&mut dump, headers);
        dump.push_str(&String::from_utf8_lossy(body.unwrap_or_default()));
        log::debug!(target: "mcpclient", transport = "forwarding_rt", dump = dump.as_str(); "raw http request");
        if let Some(body) = body.filter(|body| !body.is_empty()) {
            log::debug!(target: "mcpclient", transport = "raw_http"; "write: {}", String::from_utf8_lossy(body));
        }
    }

    pub(super) fn response(self, response: &Response) {
        if self.is_on() {
            let mut dump = format!("HTTP/1.1 {}\r\n", response.status);
            push_headers(&mut dump, &response.headers);
            log::debug!(target: "mcpclient", transport = "forwarding_rt", dump = dump.as_str(); "raw http response");
        }
    }

    pub(super) fn read(self, json: &[u8]) {
        if self.is_on() {
            log::debug!(target: "mcpclient", transport = "raw_http"; "read: {}", String::from_utf8_lossy(json));
        }
    }
}

fn push_headers(dump: &mut String, headers: &HeaderMap) {
    for (name, value) in headers {
        let _ = write!(dump, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    dump.push_str("\r\n");
}
