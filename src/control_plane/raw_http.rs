//! Whole HTTP messages in the log, for operators who asked for it (`log.http-raw-unsafe`).
//!
//! The only place that shows credentials, and only on request.

use std::fmt::Display;

use log::Level;

use super::event::{Event, enabled};
use crate::net::{HeaderMap, Method, Uri};

/// Logs a request as it is about to be sent.
pub(super) fn log_request(method: &Method, uri: &Uri, headers: &HeaderMap, body: Option<&[u8]>) {
    if !enabled(Level::Debug) {
        return;
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let mut dump = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    push_headers(&mut dump, headers);
    if let Some(body) = body {
        dump.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    dump.push_str("\r\n");
    dump.push_str(&String::from_utf8_lossy(body.unwrap_or_default()));
    Event::at(Level::Debug).with("dump", dump.as_str()).emit("raw http request");
}

/// The text of a reply's head, kept until its body has been read.
pub(super) fn response_head(status: u16, headers: &HeaderMap) -> String {
    let mut dump = format!("HTTP/1.1 {status}\r\n");
    push_headers(&mut dump, headers);
    dump.push_str("\r\n");
    dump
}

/// Logs a reply.
pub(super) fn log_response(head: String, body: &Result<Vec<u8>, impl Display>) {
    match body {
        Ok(body) => {
            let dump = head + &String::from_utf8_lossy(body);
            Event::at(Level::Debug).with("dump", dump.as_str()).emit("raw http response");
        }
        Err(error) => {
            let error = error.to_string();
            Event::at(Level::Warn).with("error", error.as_str()).emit("failed to dump raw http response");
        }
    }
}

fn push_headers(dump: &mut String, headers: &HeaderMap) {
    for (name, value) in headers {
        dump.push_str(name.as_str());
        dump.push_str(": ");
        dump.push_str(&String::from_utf8_lossy(value.as_bytes()));
        dump.push_str("\r\n");
    }
}
