//! One request and its response, as the service sees them.
//!
//! Invariant: an exchange has exactly one response. A service that gave none has given up the
//! connection, which is then closed.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::body::{BadBody, Body, Progress};
use super::connection::{Connection, Peer, is_bodiless, pending, persistence, render};
use super::head::{Framing, Head};
use super::response::{End, Response};
use crate::net::{Cancel, Waker};

/// Why [`Exchange::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The waker was raised: look at what is waited for.
    Woken,
    /// The peer closed or reset the connection; nobody will read a response.
    PeerGone,
    /// The deadline passed.
    Deadline,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    None,
    Whole,
    Failed,
}

/// The service's handle on one exchange.
pub(crate) struct Exchange<'a> {
    connection: &'a mut Connection,
    head: &'a Head,
    id: Option<String>,
    body: Progress,
    answer: Answer,
    status: Option<u16>,
    keep: bool,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(connection: &'a mut Connection, head: &'a Head, id: Option<String>) -> Exchange<'a> {
        let body = if pending(head.framing) { Progress::Unread } else { Progress::Read };
        connection.sent_ahead = false;
        Exchange { connection, head, id, body, answer: Answer::None, status: None, keep: head.keep_alive }
    }

    /// The id of this exchange, sent as `X-Request-Id`; empty if the service gives none.
    pub(crate) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> &Peer {
        &self.connection.peer
    }

    /// The status answered with, once there is one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Raised from other threads to end [`Exchange::wait`]; fails when the process is out of descriptors.
    pub(crate) fn waker(&mut self) -> io::Result<Arc<Waker>> {
        self.connection.waker()
    }

    /// Closes the connection after the response.
    pub(crate) fn close_after(&mut self) {
        self.keep = false;
    }

    /// The declared length of the body; `None` when it is chunked.
    pub(crate) fn content_length(&self) -> Option<u64> {
        match self.head.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        }
    }

    /// The body, to be read by someone else.
    pub(crate) fn body(&mut self) -> Body<'_> {
        Body { connection: self.connection, head: self.head, progress: &mut self.body }
    }

    /// As [`Body::read`].
    pub(crate) fn read_body(&mut self, limit: usize) -> Result<Vec<u8>, BadBody> {
        self.body().read(limit)
    }

    /// Waits until the waker is raised, the peer goes or `deadline` passes.
    pub(crate) fn wait(&mut self, deadline: Instant) -> Wake {
        self.connection.wait(deadline)
    }

    /// Whether the peer has gone already.
    pub(crate) fn peer_is_gone(&self) -> bool {
        self.connection.transport.socket().is_gone()
    }

    /// Sends the response; an error means that the system did not take all of it.
    pub(crate) fn respond(&mut self, response: &Response) -> io::Result<()> {
        self.settle_persistence();
        self.status = Some(response.status);
        render(self.connection, response, self.head, self.id.as_deref(), self.keep);
        let sent = self.connection.flush();
        self.answer = if sent.is_ok() { Answer::Whole } else { Answer::Failed };
        sent
    }

    /// Begins a response whose body comes in pieces; its head leaves with the first flush.
    pub(crate) fn stream(&mut self, response: &Response) -> Stream<'_> {
        self.settle_persistence();
        let end = if self.head.http11 { End::Chunked } else { End::Close };
        if !self.head.http11 {
            self.keep = false;
        }
        let persistence = persistence(self.head, self.keep);
        self.connection.begin(response.status, self.id.as_deref(), response.fields(), end, persistence);
        (self.answer, self.status) = (Answer::Failed, Some(response.status));
        Stream {
            chunked: self.head.http11,
            bodiless: is_bodiless(self.head.method, response.status),
            connection: self.connection,
            answer: &mut self.answer,
            pieces: Vec::new(),
        }
    }

    /// A body that was not read is thrown away if it is small and on its way, else the connection ends.
    fn settle_persistence(&mut self) {
        if self.body == Progress::Unread {
            self.body = Progress::Lost;
            let deadline = Instant::now() + self.connection.limits().discard;
            if let Framing::Length(length) = self.head.framing
                && !self.head.expects_continue
                && self.connection.discard(length, deadline)
            {
                self.body = Progress::Read;
            }
        }
        self.keep &= self.body == Progress::Read && !self.connection.live.stopping();
    }

    /// Whether the connection may carry another request.
    pub(super) fn finish(self) -> bool {
        match self.answer {
            Answer::Whole if self.keep => true,
            Answer::Whole => {
                self.connection.linger();
                false
            }
            Answer::None | Answer::Failed => false,
        }
    }
}

/// A response body sent piece by piece.
pub(crate) struct Stream<'e> {
    connection: &'e mut Connection,
    answer: &'e mut Answer,
    chunked: bool,
    /// Only the head is sent: the answer to a HEAD.
    bodiless: bool,
    pieces: Vec<u8>,
}

impl Stream<'_> {
    /// Adds to the piece that the next flush sends.
    pub(crate) fn push(&mut self, piece: impl AsRef<[u8]>) {
        if !self.bodiless {
            self.pieces.extend_from_slice(piece.as_ref());
        }
    }

    /// Sends what was added, in one write.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.frame();
        self.connection.flush()
    }

    /// Sends what was added and ends the body.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.frame();
        if self.chunked && !self.bodiless {
            self.connection.out.extend_from_slice(b"0\r\n\r\n");
        }
        self.connection.flush()?;
        *self.answer = Answer::Whole;
        Ok(())
    }

    /// Whether there is no body to be sent.
    pub(crate) fn is_bodiless(&self) -> bool {
        self.bodiless
    }

    /// Fires when the front stops: the body should end then.
    pub(crate) fn stopping(&self) -> &Cancel {
        &self.connection.live.shared.stop
    }

    /// As [`Exchange::waker`].
    pub(crate) fn waker(&mut self) -> io::Result<Arc<Waker>> {
        self.connection.waker()
    }

    /// As [`Exchange::wait`].
    pub(crate) fn wait(&mut self, deadline: Instant) -> Wake {
        self.connection.wait(deadline)
    }

    fn frame(&mut self) {
        if self.pieces.is_empty() {
            return;
        }
        let out = &mut self.connection.out;
        if self.chunked {
            out.extend_from_slice(format!("{:x}\r\n", self.pieces.len()).as_bytes());
        }
        out.extend_from_slice(&self.pieces);
        if self.chunked {
            out.extend_from_slice(b"\r\n");
        }
        self.pieces.clear();
    }
}
