//! Calls that stay open: `subscriptions/listen`.
//!
//! Each holds a worker for as long as its connector likes. Invariant: they never hold more than a part of
//! the workers, so that other calls always find one.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::control_plane::ResponseBody;
use crate::jsonrpc::{INTERNAL_ERROR, Id, Message, error_response, result_response};
use crate::net::HeaderList;

use super::outcome::{CONTENT_TYPE, JSON, Response};

const METHOD: &str = "subscriptions/listen";
/// One of so many workers may hold such a call.
const WORKERS_A_LISTEN: usize = 4;

/// How many are open, and how many may be.
pub(super) struct Listens {
    open: AtomicUsize,
    limit: usize,
}

/// A place among the open ones, given back when dropped.
pub(super) struct Listening<'a>(&'a Listens);

impl Listens {
    /// For so many workers.
    pub(super) fn new(workers: usize) -> Listens {
        Listens { open: AtomicUsize::new(0), limit: (workers / WORKERS_A_LISTEN).max(1) }
    }

    /// A place; `None` when all are taken.
    pub(super) fn enter(&self) -> Option<Listening<'_>> {
        let one_more = |open: usize| (open < self.limit).then_some(open + 1);
        self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        Some(Listening(self))
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether a message is such a call.
pub(super) fn is_listen(message: &Message) -> bool {
    message.method() == METHOD && message.id().is_some()
}

/// There are too many already.
pub(super) fn refused(message: &Message) -> Response {
    response(error_response(message.id(), INTERNAL_ERROR, "Subscription limit reached", None))
}

/// The graceful end of one whose connection has lived for as long as it may (MCP 2026-07-28,
/// "Subscriptions").
pub(super) fn ended(id: &Id) -> Response {
    let result = format!(
        r#"{{"resultType":"complete","_meta":{{"io.modelcontextprotocol/subscriptionId":{}}}}}"#,
        id.as_json()
    );
    response(result_response(id, &result))
}

fn response(json: String) -> Response {
    let headers: HeaderList = [(CONTENT_TYPE, JSON)].into_iter().collect();
    Response { body: ResponseBody::JsonRpc(json), code: 200, headers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listens_hold_a_quarter_of_the_workers_and_at_least_one() {
        for (workers, limit) in [(1, 1), (7, 1), (8, 2)] {
            let listens = Listens::new(workers);
            let mut open: Vec<_> = (0..limit).map(|_| listens.enter().unwrap()).collect();
            assert!(listens.enter().is_none(), "{workers}");
            open.pop();
            assert!(listens.enter().is_some());
        }
    }

    #[test]
    fn a_listen_ends_with_its_own_id() {
        let ResponseBody::JsonRpc(json) = ended(&Id::from_json("\"s\"").unwrap()).body else { panic!() };
        assert_eq!(
            json,
            r#"{"jsonrpc":"2.0","id":"s","result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":"s"}}}"#
        );
    }
}
