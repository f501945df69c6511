//! The body of a request, read only when a route asks for it (RFC 9112 §6, §7).
//!
//! Invariant: nothing is read without a limit in bytes and a limit in time.

use std::time::{Duration, Instant};

use super::request::{HEAD_BYTES, HEAD_FIELDS};
use super::socket::Socket;

/// Longest line that announces a chunk.
const CHUNK_LINE_BYTES: usize = 256;

/// The part of a request that has not been read.
#[derive(Debug)]
pub(super) struct Body<'a> {
    pub(super) socket: &'a Socket,
    pub(super) buffer: &'a mut Vec<u8>,
    pub(super) framing: Framing,
    pub(super) expects_continue: bool,
    pub(super) time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// Why a request's body could not be read.
#[derive(Debug)]
pub enum BodyError {
    /// It is longer than the route allows.
    TooLarge,
    /// It did not arrive, not in time, or not as announced.
    Broken,
}

impl Body<'_> {
    /// Whether nothing of it is left on the wire.
    pub(super) fn is_done(&self) -> bool {
        self.framing == Framing::Length(0)
    }

    /// Skips what has arrived already; true if that was all of it.
    pub(super) fn skip(&mut self) -> bool {
        let Framing::Length(left) = self.framing else { return false };
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
        self.buffer.drain(..here);
        self.framing = Framing::Length(left - here as u64);
        self.is_done()
    }

    pub(super) fn read(&mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        let deadline = Instant::now() + self.time;
        if self.framing == Framing::Length(0) {
            return Ok(Vec::new());
        }
        if matches!(self.framing, Framing::Length(length) if length > limit as u64) {
            return Err(BodyError::TooLarge);
        }
        if self.expects_continue && self.buffer.is_empty() {
            let go_on = self.socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", deadline);
            go_on.map_err(|_| BodyError::Broken)?;
        }
        let mut body = Vec::new();
        match self.framing {
            Framing::Length(length) => self.take(length as usize, &mut body, deadline)?,
            Framing::Chunked => loop {
                let size = self.chunk_size(deadline)?;
                if size == 0 {
                    self.skip_trailers(deadline)?;
                    break;
                }
                if size > (limit - body.len()) as u64 {
                    return Err(BodyError::TooLarge);
                }
                self.take(size as usize, &mut body, deadline)?;
                let mut end = Vec::new();
                self.take(2, &mut end, deadline)?;
                if end != b"\r\n" {
                    return Err(BodyError::Broken);
                }
            },
        }
        self.framing = Framing::Length(0);
        Ok(body)
    }

    /// Moves the next `count` bytes to `body`.
    fn take(&mut self, count: usize, body: &mut Vec<u8>, deadline: Instant) -> Result<(), BodyError> {
        let mut left = count;
        loop {
            let here = left.min(self.buffer.len());
            body.extend(self.buffer.drain(..here));
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.fill(deadline)?;
        }
    }

    fn chunk_size(&mut self, deadline: Instant) -> Result<u64, BodyError> {
        loop {
            match httparse::parse_chunk_size(self.buffer) {
                Ok(httparse::Status::Complete((used, size))) => {
                    self.buffer.drain(..used);
                    return Ok(size);
                }
                Ok(httparse::Status::Partial) if self.buffer.len() < CHUNK_LINE_BYTES => {
                    self.fill(deadline)?;
                }
                _ => return Err(BodyError::Broken),
            }
        }
    }

    fn skip_trailers(&mut self, deadline: Instant) -> Result<(), BodyError> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS];
            let used = match httparse::parse_headers(self.buffer, &mut fields) {
                Ok(httparse::Status::Complete((used, _))) => Some(used),
                Ok(httparse::Status::Partial) if self.buffer.len() < HEAD_BYTES => None,
                _ => return Err(BodyError::Broken),
            };
            if let Some(used) = used {
                self.buffer.drain(..used);
                return Ok(());
            }
            self.fill(deadline)?;
        }
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), BodyError> {
        let mut bytes = [0; 4096];
        match self.socket.read(&mut bytes, deadline) {
            Ok(count) if count > 0 => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
            _ => Err(BodyError::Broken),
        }
    }
}
