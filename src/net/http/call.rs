//! What travels beside a request on its thread.
//!
//! ureq drives our transport on the thread that sends or reads, but hands it nothing about the request
//! at hand. The deadline goes down this way, and what became of the request comes back up. Invariant:
//! set anew at the start of every entry into ureq, so nothing of one request reaches the next.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;

use crate::net::{Deadline, Error, HeaderMap, Uri};

/// Room for what ureq adds to a request: `Host` and `Content-Length` lines, the version.
const ADDED_BYTES: usize = 512;

struct State {
    deadline: Cell<Deadline>,
    /// About how long the whole request is, and its longest line.
    total_bytes: Cell<usize>,
    line_bytes: Cell<usize>,
    /// Whether any byte of the request has left.
    written: Cell<bool>,
    /// Whether any byte of the reply has arrived.
    received: Cell<bool>,
    /// Whether the connection had carried another request before.
    reused: Cell<bool>,
    /// The first failure of our transport, in full.
    failure: RefCell<Option<Error>>,
}

thread_local! {
    static STATE: State = const {
        State {
            deadline: Cell::new(Deadline::NEVER),
            total_bytes: Cell::new(0),
            line_bytes: Cell::new(0),
            written: Cell::new(false),
            received: Cell::new(false),
            reused: Cell::new(false),
            failure: RefCell::new(None),
        }
    };
}

/// One entry into ureq; stays on its thread.
pub(super) struct Call(PhantomData<*const ()>);

/// What became of a request.
pub(super) struct Outcome {
    pub(super) written: bool,
    pub(super) received: bool,
    pub(super) reused: bool,
    pub(super) failure: Option<Error>,
}

impl Call {
    /// A request is about to be sent.
    pub(super) fn begin(deadline: Deadline, uri: &Uri, headers: &HeaderMap, body_bytes: usize) -> Call {
        let target = uri.path_and_query().map_or(1, |target| target.as_str().len());
        let (mut total, mut line) = (target + ADDED_BYTES, target + ADDED_BYTES);
        for (name, value) in headers {
            let bytes = name.as_str().len() + value.len() + 4;
            total += bytes;
            line = line.max(bytes + 2);
        }
        STATE.with(|state| {
            state.total_bytes.set(total + body_bytes);
            state.line_bytes.set(line);
        });
        Call::enter(deadline, false)
    }

    /// More of a reply's body is about to be read.
    pub(super) fn resume(deadline: Deadline) -> Call {
        Call::enter(deadline, true)
    }

    fn enter(deadline: Deadline, under_way: bool) -> Call {
        STATE.with(|state| {
            state.deadline.set(deadline);
            state.written.set(under_way);
            state.received.set(under_way);
            state.reused.set(false);
            state.failure.replace(None);
        });
        Call(PhantomData)
    }

    /// What became of it.
    pub(super) fn finish(self) -> Outcome {
        STATE.with(|state| Outcome {
            written: state.written.get(),
            received: state.received.get(),
            reused: state.reused.get(),
            failure: state.failure.take(),
        })
    }
}

/// The deadline of the request at hand.
pub(super) fn deadline() -> Deadline {
    STATE.with(|state| state.deadline.get())
}

/// About how long the request at hand is, and its longest line, in bytes.
pub(super) fn sizes() -> (usize, usize) {
    STATE.with(|state| (state.total_bytes.get(), state.line_bytes.get()))
}

/// Whether any byte of the request has left.
pub(super) fn is_written() -> bool {
    STATE.with(|state| state.written.get())
}

/// Bytes of the request have left.
pub(super) fn set_written() {
    STATE.with(|state| state.written.set(true));
}

/// The request travels on a connection that has (or has not) carried another one before.
pub(super) fn set_reused(reused: bool) {
    STATE.with(|state| state.reused.set(reused));
}

/// Bytes of the reply have arrived.
pub(super) fn set_received() {
    STATE.with(|state| state.received.set(true));
}

/// Whether any byte of the reply has arrived.
pub(super) fn is_received() -> bool {
    STATE.with(|state| state.received.get())
}

/// Keeps `error` for the caller of ureq, and gives ureq something that makes it stop. It must not look
/// like the end of a connection, which ends some bodies.
pub(super) fn fail(error: Error) -> ureq::Error {
    STATE.with(|state| state.failure.borrow_mut().get_or_insert(error).clone().into())
}

impl From<Error> for ureq::Error {
    fn from(error: Error) -> ureq::Error {
        ureq::Error::Other(Box::new(error))
    }
}
