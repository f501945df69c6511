//! One accepted connection, TCP or Unix, whose reads and writes end at a moment instead of lasting.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A process of this host, over the Unix socket.
    Unix,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Reads once, until `deadline` at most ([`ErrorKind::TimedOut`]).
    pub(super) fn read(&self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            let left = Some(time_left(deadline)?);
            let result = match self {
                Socket::Tcp(stream) => stream.set_read_timeout(left).and_then(|()| (&*stream).read(into)),
                Socket::Unix(stream) => stream.set_read_timeout(left).and_then(|()| (&*stream).read(into)),
            };
            match result {
                Err(error) if is_transient(&error) => {}
                other => return other,
            }
        }
    }

    /// Writes everything, until `deadline` at most ([`ErrorKind::TimedOut`]).
    pub(super) fn write_all(&self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = Some(time_left(deadline)?);
            let result = match self {
                Socket::Tcp(stream) => stream.set_write_timeout(left).and_then(|()| (&*stream).write(bytes)),
                Socket::Unix(stream) => stream.set_write_timeout(left).and_then(|()| (&*stream).write(bytes)),
            };
            match result {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        // A connection that is gone already needs no shutdown.
        let _ = match self {
            Socket::Tcp(stream) => stream.shutdown(how),
            Socket::Unix(stream) => stream.shutdown(how),
        };
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}
