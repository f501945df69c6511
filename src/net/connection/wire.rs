//! A byte stream to the peer: a socket, or TLS over another wire.
//!
//! Recursive because `https` through an `https` proxy is TLS inside TLS.

use std::io::{self, IoSlice, Read, Write};
use std::time::Duration;

use rustls::ClientConnection;

use super::socket::{Idle, Socket};
use crate::net::tls::explain;
use crate::net::{Cause, Deadline, Error};

/// How long the rest of a record may take that was met on an idle connection.
const PARTIAL_RECORD_WAIT: Duration = Duration::from_millis(10);

/// A byte stream with deadlines.
pub(crate) enum Wire {
    /// Bytes as they are.
    Plain(Socket),
    /// Bytes inside TLS records.
    Tls(Box<Tls>),
}

/// One TLS session and what carries it.
pub(crate) struct Tls {
    session: ClientConnection,
    below: Wire,
    peer: String,
    /// Whether we have a client certificate to show.
    certificate_offered: bool,
    /// Whether the peer takes nothing any more; what it sent before can still be read.
    deaf: bool,
}

impl Wire {
    /// Reads what is there, waiting for it if need be; 0 is a proper end of stream.
    pub(crate) fn read(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, Error> {
        match self {
            Wire::Plain(socket) => socket.read(buffer, deadline),
            Wire::Tls(tls) => tls.read(buffer, deadline),
        }
    }

    /// Writes all of `bytes`, with one system call if the kernel takes them. `started` is set as soon
    /// as anything has left.
    pub(crate) fn write_all(
        &mut self,
        mut bytes: &[u8],
        deadline: Deadline,
        started: &mut bool,
    ) -> Result<(), Error> {
        match self {
            Wire::Plain(socket) => {
                while !bytes.is_empty() {
                    let amount = socket.write(bytes, deadline)?;
                    *started |= amount > 0;
                    bytes = &bytes[amount..];
                }
                Ok(())
            }
            Wire::Tls(tls) => tls.write_all(bytes, deadline, started),
        }
    }

    /// Whether the wire, over which nothing is expected, is open and silent.
    pub(crate) fn is_quiet(&mut self) -> bool {
        match self {
            Wire::Plain(socket) => socket.peek() == Idle::Quiet,
            Wire::Tls(tls) => tls.is_quiet(),
        }
    }

    /// Whether the outermost layer is TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Wire::Tls(_))
    }

    pub(super) fn socket(&self) -> &Socket {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(tls) => tls.below.socket(),
        }
    }

    fn write_some(&mut self, slices: &[IoSlice<'_>], deadline: Deadline) -> Result<usize, Error> {
        match self {
            Wire::Plain(socket) => socket.write_vectored(slices, deadline),
            Wire::Tls(tls) => {
                let mut total = 0;
                for slice in slices {
                    tls.write_all(slice, deadline, &mut false)?;
                    total += slice.len();
                }
                Ok(total)
            }
        }
    }
}

impl Tls {
    /// Shakes hands over `below`; `peer` names the other end in errors.
    pub(crate) fn handshake(
        session: ClientConnection,
        below: Wire,
        peer: String,
        certificate_offered: bool,
        deadline: Deadline,
    ) -> Result<Tls, Error> {
        let mut tls = Tls { session, below, peer, certificate_offered, deaf: false };
        tls.session.set_buffer_limit(None);
        while tls.session.is_handshaking() {
            tls.flush(deadline, &mut false).map_err(|e| tls.during_handshake(e))?;
            if !tls.session.is_handshaking() {
                break;
            }
            let more = tls.receive(deadline).map_err(|e| tls.during_handshake(e))?;
            if !more {
                let message = format!("{} closed the connection during the TLS handshake", tls.peer);
                return Err(Error::before_writing(Cause::Eof, message));
            }
        }
        // Our last flight need not wait for the request; a peer that rejects us shall say so early.
        tls.flush(deadline, &mut false).map_err(|e| tls.during_handshake(e))?;
        Ok(tls)
    }

    fn during_handshake(&self, error: Error) -> Error {
        match error.cause {
            Cause::Timeout => Error {
                message: format!("the TLS handshake with {} did not end in time", self.peer),
                ..error
            },
            Cause::Cancelled | Cause::Tls => error,
            cause => Error {
                // A connection that broke says nothing about the TLS of either end.
                cause: match cause {
                    Cause::Eof
                    | Cause::UnexpectedEof
                    | Cause::ClosedPipe
                    | Cause::ConnectionReset
                    | Cause::ConnectionAborted => cause,
                    _ => Cause::Tls,
                },
                message: format!("the TLS handshake with {} failed: {}", self.peer, error.message),
                ..error
            },
        }
    }

    fn read(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, Error> {
        loop {
            match self.session.reader().read(buffer) {
                Ok(amount) => return Ok(amount),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // The stream ended without the peer's good-bye: it may have been cut short.
                Err(_) => {
                    let message = format!("{} ended the connection without closing TLS", self.peer);
                    return Err(Error::before_writing(Cause::UnexpectedEof, message));
                }
            }
            if self.session.wants_write() && !self.deaf {
                self.flush(deadline, &mut false)?;
            }
            self.receive(deadline)?;
        }
    }

    fn write_all(&mut self, bytes: &[u8], deadline: Deadline, started: &mut bool) -> Result<(), Error> {
        let queued = self.session.writer().write_all(bytes);
        queued.map_err(|e| self.lift(e))?;
        self.flush(deadline, started).inspect_err(|_| self.deaf = true)
    }

    /// Sends what the session has queued.
    fn flush(&mut self, deadline: Deadline, started: &mut bool) -> Result<(), Error> {
        while self.session.wants_write() {
            let mut carrier = Carrier { wire: &mut self.below, deadline };
            match self.session.write_tls(&mut carrier) {
                Ok(amount) => *started |= amount > 0,
                Err(e) => return Err(self.lift(e)),
            }
        }
        Ok(())
    }

    /// Takes in what the peer sent; false at the end of the stream.
    fn receive(&mut self, deadline: Deadline) -> Result<bool, Error> {
        let mut carrier = Carrier { wire: &mut self.below, deadline };
        let amount = self.session.read_tls(&mut carrier).map_err(|e| self.lift(e))?;
        if let Err(error) = self.session.process_new_packets() {
            // The alert that tells the peer why; the error at hand matters more than its delivery.
            let _ = self.flush(deadline, &mut false);
            let message = explain::failure(&error, &self.peer, self.certificate_offered);
            return Err(Error::before_writing(Cause::Tls, message));
        }
        Ok(amount > 0)
    }

    /// Session tickets and key updates may arrive on an idle connection; payload may not.
    fn is_quiet(&mut self) -> bool {
        while self.below.socket().peek() != Idle::Quiet {
            // Bytes wait, but inside another TLS layer they need not be a whole record.
            let more = self.receive(Deadline::after(PARTIAL_RECORD_WAIT));
            let payload = self.session.reader().read(&mut [0; 1]);
            let silent = matches!(payload, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
            if !matches!(more, Ok(true)) || !silent {
                return false;
            }
        }
        true
    }

    /// Gets our own error back out of the one that went through rustls.
    fn lift(&self, error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => {
                let message = format!("the TLS connection to {} failed: {error}", self.peer);
                Error::before_writing(Cause::Tls, message)
            }
        }
    }
}

/// What rustls reads from and writes to.
struct Carrier<'a> {
    wire: &'a mut Wire,
    deadline: Deadline,
}

impl Read for Carrier<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wire.read(buffer, self.deadline).map_err(io::Error::other)
    }
}

impl Write for Carrier<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.wire.write_some(slices, self.deadline).map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
