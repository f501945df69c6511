//! The body of a request, read only when a service asks for it.
//!
//! Invariant: nothing is read without a limit in bytes and a limit in time.

use std::io;
use std::time::Instant;

use super::chunked::{BadChunk, Decoder, Fed};
use super::connection::Connection;
use super::head::{Framing, Head};
use super::live::Waiting;
use super::transport::Until;

/// A body is read in steps of this size, so that memory follows what really arrives.
const BODY_STEP_BYTES: usize = 256 * 1024;

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

/// How far the body of an exchange has been read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Unread,
    Read,
    /// Read in part: where the next request starts is unknown.
    Lost,
}

/// A body that may be read.
pub(crate) struct Body<'e> {
    pub(super) connection: &'e mut Connection,
    pub(super) head: &'e Head,
    pub(super) progress: &'e mut Progress,
}

impl Body<'_> {
    /// Reads the body; refuses more than `limit` bytes, before reading when the length is declared.
    pub(crate) fn read(&mut self, limit: usize) -> Result<Vec<u8>, BadBody> {
        if *self.progress == Progress::Read {
            return Ok(Vec::new());
        }
        let here = self.connection.buffered() as u64;
        let waits = match self.head.framing {
            Framing::Length(length) if length > limit as u64 => return Err(BadBody::TooLarge),
            Framing::Length(length) => length > here,
            Framing::Chunked => true,
        };
        *self.progress = Progress::Lost;
        let deadline = Instant::now() + self.connection.limits().body;
        if waits {
            // A peer that takes its time may lose its place to another.
            self.connection.live.wait(Waiting::Within);
        }
        let body = self.receive(here == 0, limit, deadline);
        if waits && !self.connection.live.resume() {
            return Err(BadBody::Gone);
        }
        let body = body?;
        *self.progress = Progress::Read;
        Ok(body)
    }

    fn receive(&mut self, nothing_came: bool, limit: usize, deadline: Instant) -> Result<Vec<u8>, BadBody> {
        if self.head.expects_continue && nothing_came {
            self.connection.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.connection.flush().map_err(|_| BadBody::Gone)?;
        }
        match self.head.framing {
            Framing::Length(length) => self.read_length(length as usize, deadline),
            Framing::Chunked => self.read_chunked(limit, deadline),
        }
    }

    fn read_length(&mut self, length: usize, deadline: Instant) -> Result<Vec<u8>, BadBody> {
        let mut body = Vec::with_capacity(length);
        let mut filled = self.connection.take_buffered(&mut body, length);
        while filled < length {
            if filled == body.len() {
                body.resize(length.min(filled + BODY_STEP_BYTES), 0);
            }
            match self.connection.transport.read(&mut body[filled..], Until::Time(deadline)) {
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
}

fn broken(error: &io::Error) -> BadBody {
    match error.kind() {
        io::ErrorKind::TimedOut => BadBody::Timeout,
        _ => BadBody::Gone,
    }
}
