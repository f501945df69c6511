//! A reply's body.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use super::call::Call;
use super::failure;
use crate::net::{Cause, Deadline, Error, long};

/// Memory that is set aside for a body at once, however long it says it is.
const RESERVED_BYTES: u64 = 1024 * 1024;

/// A reply's body. Each read is bounded by the request's deadline; errors of [`Read::read`] carry an
/// [`Error`] inside the `io::Error` (see [`Error::in_io`]).
pub struct Body {
    reader: ureq::BodyReader<'static>,
    deadline: Deadline,
    /// Length that the reply states, if it does and the body is not decoded on the way.
    length: Option<u64>,
}

impl Body {
    pub(super) fn new(body: ureq::Body, deadline: Deadline) -> Body {
        Body { length: body.content_length(), reader: body.into_reader(), deadline }
    }

    /// Reads the whole body; more than `limit` bytes is [`Cause::TooLarge`], known in advance if the
    /// reply states its length.
    pub fn read_to_limit(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let too_large = || Error::after_writing(Cause::TooLarge, format!("the reply exceeds {limit} bytes"));
        let stated = self.length.unwrap_or_default();
        if stated > limit as u64 {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(stated.min(RESERVED_BYTES) as usize);
        let most = (limit as u64).saturating_add(1);
        let read = self.by_ref().take(most.min(RESERVED_BYTES)).read_to_end(&mut bytes);
        let more = read.map_err(Error::from_io)? as u64 == RESERVED_BYTES && most > RESERVED_BYTES;
        if more {
            // It is long, or as good as: the stated length is not believed before.
            long::make_room(&mut bytes, (stated as usize).max(RESERVED_BYTES as usize + 1));
            let rest = self.by_ref().take(most - RESERVED_BYTES).read_to_end(&mut bytes);
            rest.map_err(Error::from_io)?;
        }
        if bytes.len() > limit { Err(too_large()) } else { Ok(bytes) }
    }

    /// Reads and discards up to `limit` bytes, so that the connection can be reused.
    pub fn drain(mut self, limit: usize) {
        // One byte more, or the end of a body of exactly `limit` bytes would not be seen.
        let _ = io::copy(&mut self.by_ref().take((limit as u64).saturating_add(1)), &mut io::sink());
    }

    /// Like [`Body::drain`], but waits no longer than `time`: a body that has not ended by then closes
    /// its connection.
    pub fn drain_within(mut self, limit: usize, time: Duration) {
        self.deadline = self.deadline.earliest(Deadline::after(time));
        self.drain(limit);
    }

    /// Gives the body another deadline than the request had.
    pub fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let call = Call::resume(self.deadline);
        self.reader.read(buffer).map_err(|e| failure::of_body(e, call).into())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("length", &self.length).finish_non_exhaustive()
    }
}
