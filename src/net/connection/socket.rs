//! One connected stream socket, TCP or Unix.
//!
//! Invariant: a blocked read or write ends at its deadline, and at once when the socket's [`Cancel`]
//! fires. The socket's own time-outs are touched only when they do not fit the deadline any more.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::net::RecvFlags;

use crate::net::{Cancel, CancelGuard, Cause, Deadline, Error};

/// Stands for "no deadline": a socket wakes up this often at least.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Shortest time-out that is set on a socket; the kernel's clock is no finer.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// The stream itself, shared with the callback that cuts it.
pub(crate) enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

/// A connected socket.
pub(crate) struct Socket {
    stream: Arc<Stream>,
    peer: Arc<str>,
    /// Time-outs as they are set now; `None` is "never set".
    read_wait: Option<Duration>,
    write_wait: Option<Duration>,
    cancel: Cancel,
    _cut: CancelGuard,
}

/// Shuts a socket down from another thread, if it still stands.
pub(crate) struct Cutter(Weak<Stream>);

impl Cutter {
    /// Ends what blocks on it; does not block itself.
    pub(crate) fn cut(&self) {
        if let Some(stream) = self.0.upgrade() {
            stream.shutdown();
        }
    }
}

/// What a look at a socket that should be silent found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Nothing: it is open and silent.
    Quiet,
    /// Bytes wait to be read.
    Pending,
    /// The peer closed or reset it.
    Closed,
}

#[derive(Clone, Copy)]
enum Direction {
    Read,
    Write,
}

impl Socket {
    /// Takes over a connected stream in blocking mode; `peer` names the other end in errors.
    pub(crate) fn new(stream: Stream, peer: Arc<str>, cancel: &Cancel) -> Socket {
        let stream = Arc::new(stream);
        let cut = Arc::downgrade(&stream);
        let guard = cancel.on_cancel(move || {
            if let Some(stream) = cut.upgrade() {
                stream.shutdown();
            }
        });
        Socket { stream, peer, read_wait: None, write_wait: None, cancel: cancel.clone(), _cut: guard }
    }

    /// Reads what is there, waiting for it if need be; 0 is the peer's end of stream.
    pub(crate) fn read(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, Error> {
        let read = self.transfer(Direction::Read, deadline, |stream| match stream {
            Stream::Tcp(tcp) => (&*tcp).read(buffer),
            Stream::Unix(unix) => (&*unix).read(buffer),
        })?;
        // A socket that was cut reads as ended: that must not pass for the end of a reply.
        if read == 0 && self.cancel.is_cancelled() { Err(cancelled()) } else { Ok(read) }
    }

    /// Writes some of `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8], deadline: Deadline) -> Result<usize, Error> {
        self.transfer(Direction::Write, deadline, |stream| match stream {
            Stream::Tcp(tcp) => (&*tcp).write(bytes),
            Stream::Unix(unix) => (&*unix).write(bytes),
        })
    }

    /// Writes some of the bytes in `slices` with one system call.
    pub(crate) fn write_vectored(
        &mut self,
        slices: &[IoSlice<'_>],
        deadline: Deadline,
    ) -> Result<usize, Error> {
        self.transfer(Direction::Write, deadline, |stream| match stream {
            Stream::Tcp(tcp) => (&*tcp).write_vectored(slices),
            Stream::Unix(unix) => (&*unix).write_vectored(slices),
        })
    }

    /// What shuts it down from another thread.
    pub(super) fn cutter(&self) -> Cutter {
        Cutter(Arc::downgrade(&self.stream))
    }

    /// Looks at the socket without waiting and without taking anything out.
    pub(crate) fn peek(&self) -> Idle {
        let mut byte = [0_u8; 1];
        loop {
            let peeked =
                rustix::net::recv(&*self.stream, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
            return match peeked {
                Ok((0, _)) => Idle::Closed,
                Ok(_) => Idle::Pending,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => Idle::Quiet,
                Err(_) => Idle::Closed,
            };
        }
    }

    fn transfer(
        &mut self,
        direction: Direction,
        deadline: Deadline,
        mut act: impl FnMut(&Stream) -> io::Result<usize>,
    ) -> Result<usize, Error> {
        loop {
            self.arm(direction, deadline)?;
            match act(&self.stream) {
                Ok(amount) => return Ok(amount),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(e) => return Err(self.failure(&e)),
            }
        }
    }

    /// Sets the socket's time-out if the one it has does not fit `deadline`.
    fn arm(&mut self, direction: Direction, deadline: Deadline) -> Result<(), Error> {
        let remaining = deadline.remaining().unwrap_or(LONGEST_WAIT);
        if remaining.is_zero() {
            let what = match direction {
                Direction::Read => "did not answer",
                Direction::Write => "did not take the request",
            };
            return Err(Error::before_writing(Cause::Timeout, format!("{} {what} in time", self.peer)));
        }
        let current = match direction {
            Direction::Read => &mut self.read_wait,
            Direction::Write => &mut self.write_wait,
        };
        if let Some(wait) = better_wait(*current, remaining) {
            let set = match (&*self.stream, direction) {
                (Stream::Tcp(tcp), Direction::Read) => tcp.set_read_timeout(Some(wait)),
                (Stream::Tcp(tcp), Direction::Write) => tcp.set_write_timeout(Some(wait)),
                (Stream::Unix(unix), Direction::Read) => unix.set_read_timeout(Some(wait)),
                (Stream::Unix(unix), Direction::Write) => unix.set_write_timeout(Some(wait)),
            };
            *current = Some(wait);
            set.map_err(|e| self.failure(&e))?;
        }
        Ok(())
    }

    fn failure(&self, error: &io::Error) -> Error {
        if self.cancel.is_cancelled() {
            return cancelled();
        }
        let peer = &self.peer;
        let (cause, message) = match error.kind() {
            io::ErrorKind::BrokenPipe => (Cause::ClosedPipe, format!("{peer} closed the connection")),
            io::ErrorKind::ConnectionReset => {
                (Cause::ConnectionReset, format!("{peer} reset the connection"))
            }
            io::ErrorKind::ConnectionAborted => {
                (Cause::ConnectionAborted, format!("the connection to {peer} was aborted"))
            }
            io::ErrorKind::TimedOut => (Cause::Timeout, format!("{peer} does not answer any more")),
            io::ErrorKind::NetworkUnreachable => {
                (Cause::NetworkUnreachable, format!("the network of {peer} is unreachable"))
            }
            io::ErrorKind::HostUnreachable => {
                (Cause::HostUnreachable, format!("the host of {peer} is unreachable"))
            }
            _ => (Cause::Other, format!("the connection to {peer} failed: {error}")),
        };
        Error::before_writing(cause, message)
    }
}

/// The error of every call that was cut from outside.
pub(crate) fn cancelled() -> Error {
    Error::before_writing(Cause::Cancelled, "the request was cancelled")
}

/// The time-out to set for a wait of `remaining`, unless `current` does. It is `remaining` rounded down
/// to a power of two (in ms), so that deadlines a little apart share one value, and a wait that ends
/// early is resumed. One that would wake up more than eight times as often as needed is replaced.
fn better_wait(current: Option<Duration>, remaining: Duration) -> Option<Duration> {
    let remaining = remaining.clamp(SHORTEST_WAIT, LONGEST_WAIT);
    if current.is_some_and(|current| current <= remaining && current >= remaining / 8) {
        return None;
    }
    let exponent = (remaining.as_millis() as u64).max(1).ilog2();
    Some(Duration::from_millis(1 << exponent))
}

impl Stream {
    fn shutdown(&self) {
        // Fails only when the peer is gone already.
        let _ = match self {
            Stream::Tcp(tcp) => tcp.shutdown(Shutdown::Both),
            Stream::Unix(unix) => unix.shutdown(Shutdown::Both),
        };
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(tcp) => tcp.as_fd(),
            Stream::Unix(unix) => unix.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Socket::new(Stream::Unix(ours), "peer".into(), &Cancel::new()), theirs)
    }

    #[test]
    fn a_time_out_stays_as_long_as_it_fits() {
        let ms = Duration::from_millis;
        for (current, remaining, expected) in [
            (None, 35_000, Some(32_768)),
            (Some(32_768), 34_999, None),
            (Some(32_768), 32_000, Some(16_384)),
            (Some(4_096), 35_000, Some(32_768)),
            (Some(8_192), 35_000, None),
            (Some(64), 0, Some(1)),
            (Some(1), 1, None),
        ] {
            assert_eq!(
                better_wait(current.map(ms), ms(remaining)),
                expected.map(ms),
                "{current:?} {remaining}"
            );
        }
    }

    #[test]
    fn a_read_ends_at_its_deadline() {
        let (mut socket, _theirs) = pair();
        let deadline = Deadline::after(Duration::from_millis(30));
        let error = socket.read(&mut [0; 8], deadline).unwrap_err();
        assert_eq!(error.cause, Cause::Timeout);
        assert!(deadline.is_past());
    }

    #[test]
    fn a_look_tells_silence_from_bytes_and_from_the_end() {
        let (socket, mut theirs) = pair();
        assert_eq!(socket.peek(), Idle::Quiet);
        theirs.write_all(b"x").unwrap();
        assert_eq!(socket.peek(), Idle::Pending);
        let (socket, theirs) = pair();
        drop(theirs);
        assert_eq!(socket.peek(), Idle::Closed);
    }

    #[test]
    fn a_full_peer_times_the_write_out() {
        let (mut socket, _theirs) = pair();
        let deadline = Deadline::after(Duration::from_millis(30));
        let bytes = vec![0; 1 << 20];
        let error = loop {
            if let Err(error) = socket.write(&bytes, deadline) {
                break error;
            }
        };
        assert_eq!(error.cause, Cause::Timeout);
    }
}
