//! Whole HTTP messages in the log, but for credentials, for operators who asked for it
//! (`log.http-raw-unsafe`).

use std::fmt::Display;

use log::Level;

use super::event::{Event, enabled};
use crate::net::{HeaderMap, Method, Uri};
use crate::redact;

/// A reply's head, kept until its body has been read.
pub(super) struct ReplyHead {
    status: u16,
    headers: HeaderMap,
}

/// Logs a request as it is about to be sent.
pub(super) fn log_request(method: &Method, uri: &Uri, headers: &HeaderMap, body: Option<&[u8]>) {
    if !enabled(Level::Debug) {
        return;
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let length = body.map_or_else(String::new, |body| format!("Content-Length: {}\r\n", body.len()));
    let start = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}");
    let dump = redact::http_message(&start, headers, body.unwrap_or_default());
    Event::at(Level::Debug).with("dump", dump.as_str()).emit("raw http request");
}

/// What [`log_reply`] needs; `None` when nobody would see it.
pub(super) fn reply_head(status: u16, headers: &HeaderMap) -> Option<ReplyHead> {
    enabled(Level::Debug).then(|| ReplyHead { status, headers: headers.clone() })
}

/// Logs a reply.
pub(super) fn log_reply(head: &ReplyHead, body: &Result<Vec<u8>, impl Display>) {
    match body {
        Ok(body) => {
            let dump = redact::http_message(&format!("HTTP/1.1 {}\r\n", head.status), &head.headers, body);
            Event::at(Level::Debug).with("dump", dump.as_str()).emit("raw http response");
        }
        Err(error) => {
            let error = error.to_string();
            Event::at(Level::Warn).with("error", error.as_str()).emit("failed to dump raw http response");
        }
    }
}
