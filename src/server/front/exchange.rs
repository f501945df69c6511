//! One request and its response, as the service sees them.
//!
//! Invariant: an exchange has exactly one response. A service that gave none has given up the
//! connection, which is then closed.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::BODY_TIME;
use super::chunked::{BadChunk, Decoder, Fed};
use super::connection::{Connection, Peer, pending, persistence, render};
use super::head::{Framing, Head};
use super::response::{End, Response};
use super::socket::{Peek, Watched};
use crate::server::waker::Waker;

/// A body is read in steps of this size, so that memory follows what really arrives.
const BODY_STEP_BYTES: usize = 256 * 1024;

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

/// Why a request body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadBody {
    /// It is longer than the limit.
    TooLarge,
    /// Its framing is wrong.
    Malformed,
    /// It did not arrive in time.
    Timeout,
    /// The peer left in the middle.
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Unread,
    Read,
    /// Read in part: where the next request starts is unknown.
    Lost,
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
    id: String,
    body: Body,
    answer: Answer,
    status: Option<u16>,
    keep: bool,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(connection: &'a mut Connection, head: &'a Head) -> Exchange<'a> {
        let id = connection.live.shared.exchange_id();
        let body = if pending(head.framing) { Body::Unread } else { Body::Read };
        connection.sent_ahead = false;
        Exchange { connection, head, id, body, answer: Answer::None, status: None, keep: head.keep_alive }
    }

    /// The id of this exchange, sent as `X-Request-Id`.
    pub(crate) fn id(&self) -> &str {
        &self.id
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

    /// Reads the body; refuses more than `limit` bytes, before reading when the length is declared.
    pub(crate) fn read_body(&mut self, limit: usize) -> Result<Vec<u8>, BadBody> {
        if self.body == Body::Read {
            return Ok(Vec::new());
        }
        if self.content_length().is_some_and(|length| length > limit as u64) {
            return Err(BadBody::TooLarge);
        }
        self.body = Body::Lost;
        let deadline = Instant::now() + BODY_TIME;
        if self.head.expects_continue && self.connection.is_drained() {
            self.connection.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.connection.flush().map_err(|_| BadBody::Gone)?;
        }
        let body = match self.head.framing {
            Framing::Length(length) => self.read_length(length as usize, deadline)?,
            Framing::Chunked => self.read_chunked(limit, deadline)?,
        };
        self.body = Body::Read;
        Ok(body)
    }

    fn read_length(&mut self, length: usize, deadline: Instant) -> Result<Vec<u8>, BadBody> {
        let mut body = Vec::with_capacity(length);
        let mut filled = self.connection.take_buffered(&mut body, length);
        while filled < length {
            if filled == body.len() {
                body.resize(length.min(filled + BODY_STEP_BYTES), 0);
            }
            let until = super::transport::Until::Time(deadline);
            match self.connection.transport.read(&mut body[filled..], until) {
                Ok(0) => return Err(BadBody::Gone),
                Ok(read) => filled += read,
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(body)
    }

    fn read_chunked(&mut self, limit: usize, deadline: Instant) -> Result<Vec<u8>, BadBody> {
        let (mut decoder, mut body) = (Decoder::new(), Vec::new());
        loop {
            let piece = self.connection.peek_buffered(deadline).map_err(|error| broken(&error))?;
            if piece.is_empty() {
                return Err(BadBody::Gone);
            }
            let length = piece.len();
            match decoder.feed(piece, &mut body, limit) {
                Ok(Fed::More) => self.connection.consume(length),
                Ok(Fed::Done(used)) => {
                    self.connection.consume(used);
                    return Ok(body);
                }
                Err(BadChunk::Malformed) => return Err(BadBody::Malformed),
                Err(BadChunk::TooLarge) => return Err(BadBody::TooLarge),
            }
        }
    }

    /// Waits until the waker is raised, the peer goes or `deadline` passes.
    pub(crate) fn wait(&mut self, deadline: Instant) -> Wake {
        let Ok(waker) = self.connection.waker() else { return Wake::PeerGone };
        loop {
            let readable = !self.connection.sent_ahead;
            match self.connection.transport.socket().watch(&waker, readable, deadline) {
                Ok(Watched::Woken) => return Wake::Woken,
                Ok(Watched::Deadline) => return Wake::Deadline,
                Ok(Watched::Gone) | Err(_) => return Wake::PeerGone,
                Ok(Watched::Readable) => match self.connection.transport.peek() {
                    Peek::Gone => return Wake::PeerGone,
                    Peek::Bytes => self.connection.sent_ahead = true,
                    Peek::Quiet => {}
                },
            }
        }
    }

    /// Whether the peer has gone already.
    pub(crate) fn peer_is_gone(&self) -> bool {
        self.connection.transport.socket().is_gone()
    }

    /// Sends the response; an error means that the system did not take all of it.
    pub(crate) fn respond(&mut self, response: &Response) -> io::Result<()> {
        self.settle_persistence();
        self.status = Some(response.status);
        render(self.connection, response, self.head, &self.id, self.keep);
        let sent = self.connection.flush();
        self.answer = if sent.is_ok() { Answer::Whole } else { Answer::Failed };
        sent
    }

    /// Begins a response whose body comes in pieces; its head leaves with the first piece.
    pub(crate) fn stream(&mut self, response: &Response) -> Stream<'_, 'a> {
        self.settle_persistence();
        let end = if self.head.http11 { End::Chunked } else { End::Close };
        if !self.head.http11 {
            self.keep = false;
        }
        let persistence = persistence(self.head, self.keep);
        self.connection.begin(response.status, &self.id, response.fields(), end, persistence);
        (self.answer, self.status) = (Answer::Failed, Some(response.status));
        Stream { chunked: self.head.http11, exchange: self, pieces: Vec::new() }
    }

    /// A body that was not read is thrown away if it is small and on its way, else the connection ends.
    fn settle_persistence(&mut self) {
        if self.body == Body::Unread {
            self.body = Body::Lost;
            let deadline = Instant::now() + Duration::from_secs(1);
            if let Framing::Length(length) = self.head.framing
                && !self.head.expects_continue
                && self.connection.discard(length, deadline)
            {
                self.body = Body::Read;
            }
        }
        self.keep &= self.body == Body::Read && !self.connection.live.stopping();
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
pub(crate) struct Stream<'e, 'a> {
    exchange: &'e mut Exchange<'a>,
    chunked: bool,
    pieces: Vec<u8>,
}

impl Stream<'_, '_> {
    /// Adds to the piece that the next flush sends.
    pub(crate) fn push(&mut self, text: &str) {
        self.pieces.extend_from_slice(text.as_bytes());
    }

    /// Sends what was added, in one write.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.frame();
        self.exchange.connection.flush()
    }

    /// Sends what was added and ends the body.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.frame();
        if self.chunked {
            self.exchange.connection.out.extend_from_slice(b"0\r\n\r\n");
        }
        self.exchange.connection.flush()?;
        self.exchange.answer = Answer::Whole;
        Ok(())
    }

    /// As [`Exchange::wait`].
    pub(crate) fn wait(&mut self, deadline: Instant) -> Wake {
        self.exchange.wait(deadline)
    }

    fn frame(&mut self) {
        if self.pieces.is_empty() {
            return;
        }
        let out = &mut self.exchange.connection.out;
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

fn broken(error: &io::Error) -> BadBody {
    match error.kind() {
        io::ErrorKind::TimedOut => BadBody::Timeout,
        _ => BadBody::Gone,
    }
}
