//! One connected socket, TCP or Unix: reads and writes with deadlines, and a look at the peer.
//!
//! Invariant: no call blocks beyond its deadline, and [`Socket::shut`] from any thread ends all of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

use crate::net::Waker;

/// What a look at the socket showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peek {
    /// The peer closed its side or reset the connection.
    Gone,
    /// Connected, nothing to read.
    Quiet,
    /// Connected, bytes wait to be read.
    Bytes,
}

/// Why [`Socket::watch`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// The waker was raised (and cleared).
    Woken,
    /// The socket has something to tell: look with [`Socket::peek`].
    Readable,
    /// The peer is gone.
    Gone,
    /// The deadline passed.
    Deadline,
}

/// A connected stream socket.
pub(crate) struct Socket {
    fd: OwnedFd,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Socket {
        Socket { fd }
    }

    /// Sends small segments at once; an error means a Unix socket, which always does.
    pub(super) fn set_nodelay(&self) {
        let _ = sockopt::set_tcp_nodelay(&self.fd, true);
    }

    /// Bounds every later [`Socket::recv_blocking`].
    pub(super) fn set_idle_time(&self, time: Duration) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.fd, sockopt::Timeout::Recv, Some(time))?)
    }

    /// Reads, waiting as long as [`Socket::set_idle_time`] said; one system call.
    pub(super) fn recv_blocking(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match recv(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Ok((read, _)) => return Ok(read),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads, waiting until `deadline`; `TimedOut` when it passes.
    pub(super) fn recv(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            match recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((read, _)) => return Ok(read),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.ready(PollFlags::IN, deadline)?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads what is there; `WouldBlock` when nothing is.
    pub(super) fn recv_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(&self.fd, buffer, RecvFlags::DONTWAIT)?.0)
    }

    /// Writes a part of `bytes`, waiting for room until `deadline`.
    pub(super) fn send(&self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        loop {
            match send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => return Ok(sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.ready(PollFlags::OUT, deadline)?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes all of `bytes`; an error means that not all of them were taken by the system.
    pub(super) fn send_all(&self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = self.send(bytes, deadline)?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    /// Looks at the peer without waiting and without taking bytes.
    pub(super) fn peek(&self) -> Peek {
        let mut byte = [0u8; 1];
        match recv(&self.fd, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((0, _)) => Peek::Gone,
            Ok(_) => Peek::Bytes,
            Err(Errno::AGAIN | Errno::INTR) => Peek::Quiet,
            Err(_) => Peek::Gone,
        }
    }

    /// Waits until the waker is raised, the peer goes, or `deadline` passes; with `readable` also until
    /// the peer sends something.
    pub(super) fn watch(&self, waker: &Waker, readable: bool, deadline: Instant) -> io::Result<Watched> {
        let interest = if readable { PollFlags::IN | PollFlags::RDHUP } else { PollFlags::RDHUP };
        loop {
            let time = remaining(deadline);
            let mut fds = [PollFd::new(&self.fd, interest), PollFd::new(waker, PollFlags::IN)];
            match poll(&mut fds, Some(&time)) {
                Ok(0) => return Ok(Watched::Deadline),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let (socket, woken) = (fds[0].revents(), !fds[1].revents().is_empty());
            if woken {
                waker.clear();
            }
            if socket.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                return Ok(Watched::Gone);
            }
            if woken {
                return Ok(Watched::Woken);
            }
            if socket.contains(PollFlags::IN) {
                return Ok(Watched::Readable);
            }
        }
    }

    /// Whether the peer has closed its side or the connection is broken, without waiting.
    pub(super) fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::RDHUP)];
        !matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0) | Err(Errno::INTR))
    }

    /// Ends both directions; every blocked call returns.
    pub(super) fn shut(&self) {
        let _ = shutdown(&self.fd, Shutdown::Both);
    }

    /// Tells the peer that nothing more will come.
    pub(super) fn shut_write(&self) {
        let _ = shutdown(&self.fd, Shutdown::Write);
    }

    fn ready(&self, flags: PollFlags, deadline: Instant) -> io::Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.fd, flags)];
            match poll(&mut fds, Some(&remaining(deadline))) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The time left until `deadline`, zero when past.
pub(super) fn remaining(deadline: Instant) -> Timespec {
    let time = deadline.saturating_duration_since(Instant::now());
    Timespec::try_from(time).unwrap_or(Timespec { tv_sec: i32::MAX.into(), tv_nsec: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn pair() -> (Socket, UnixStream) {
        let (ours, peer) = UnixStream::pair().unwrap();
        (Socket::new(ours.into()), peer)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn watching_tells_a_departed_peer_from_bytes_and_from_a_wake_up() {
        let (socket, mut peer) = pair();
        let waker = Waker::new().unwrap();
        let now = Instant::now();
        assert_eq!(socket.watch(&waker, true, now).unwrap(), Watched::Deadline);
        waker.wake();
        assert_eq!(socket.watch(&waker, true, soon()).unwrap(), Watched::Woken);
        peer.write_all(b"x").unwrap();
        assert_eq!(socket.watch(&waker, true, soon()).unwrap(), Watched::Readable);
        assert_eq!(socket.peek(), Peek::Bytes);
        assert_eq!(socket.watch(&waker, false, now).unwrap(), Watched::Deadline);
        drop(peer);
        assert_eq!(socket.watch(&waker, false, soon()).unwrap(), Watched::Gone);
        assert!(socket.is_gone());
    }

    #[test]
    fn reads_and_writes_end_at_their_deadline() {
        let (socket, _peer) = pair();
        let deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(socket.recv(&mut [0; 4], deadline).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let much = vec![0u8; 4 << 20];
        let deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(socket.send_all(&much, deadline).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
