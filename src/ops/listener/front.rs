//! The listener's own manner of the HTTP front: its bounds, plain-text errors, and a router behind it.
//!
//! Invariant: a peer that is slow or idle never keeps a new one out, for a new connection replaces the
//! one that has been waited for longest.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::Limits;
use super::request::Request;
use super::response::{Content, Response, Stream};
use super::router::Router;
use crate::net::Cancel;
use crate::net::front::{self, Bound, Exchange, Front, Head, Service, Settings, WhenFull};

/// Stack of a connection's thread: the state of a compressor passes over it.
const STACK_BYTES: usize = 1024 * 1024;
/// Longest head of a request, in bytes.
const HEAD_BYTES: usize = 16 * 1024;

/// Serves `router` on `bound` within `limits`; fires `lost` when `bound` accepts no more.
pub(super) fn start(bound: Bound, limits: &Limits, router: Router, lost: &Cancel) -> io::Result<Front> {
    let limits = front::Limits {
        head: limits.head,
        head_bytes: HEAD_BYTES,
        idle: limits.idle,
        body: limits.body,
        // A body that no route wants is not worth waiting for.
        discard: Duration::ZERO,
        write: limits.write,
        connections: limits.connections,
    };
    let settings = Settings { name: "health", limits, when_full: WhenFull::Evict, stack_bytes: STACK_BYTES };
    let lost = lost.clone();
    Front::start(vec![bound], settings, Arc::new(Routes(router)), move |error| {
        log::error!(target: "health", error:%; "health server error");
        lost.cancel();
    })
}

struct Routes(Router);

impl Service for Routes {
    fn call(&self, head: &Head, exchange: &mut Exchange<'_>) {
        let answered = {
            let mut request = Request::of(head, exchange);
            catch_unwind(AssertUnwindSafe(|| self.0.answer(&mut request)))
        };
        let response = answered.unwrap_or_else(|_| {
            log::error!(target: "health", path = head.path(); "answering a request failed");
            exchange.close_after();
            Response::error(500, "internal error")
        });
        // A peer that has gone, or does not take the answer, is no error of ours.
        let _ = send(response, head, exchange);
    }

    fn refusal(&self, status: u16, reason: &str) -> front::Response {
        let Response { status, headers, content } = Response::error(status, reason);
        let refusal = rendered(status, &headers);
        match content {
            Content::Bytes(bytes) => refusal.with_body(bytes),
            Content::Stream(_) => refusal,
        }
    }
}

fn send(response: Response, head: &Head, exchange: &mut Exchange<'_>) -> io::Result<()> {
    let Response { status, headers, content } = response;
    let response = rendered(status, &headers);
    match content {
        Content::Bytes(bytes) => exchange.respond(&response.with_body(bytes)),
        Content::Stream(produce) => {
            // For proxies that would otherwise take a silent stream for one that has ended.
            let kept = head.http11 && head.keep_alive;
            let response = if kept { response.header("Connection", "keep-alive") } else { response };
            let mut stream = Stream(exchange.stream(&response));
            // The head leaves before the first piece, which may be long in coming.
            stream.0.flush()?;
            if !stream.0.is_bodiless() {
                produce(&mut stream)?;
            }
            stream.0.finish()
        }
    }
}

fn rendered(status: u16, headers: &super::response::Headers) -> front::Response {
    headers.iter().fold(front::Response::new(status), |response, (name, value)| response.header(name, value))
}
