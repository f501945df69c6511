//! Waiting on pipes that somebody else may keep open for ever.
//!
//! Invariant: each wait ends when its [`StopSignal`] is raised, whatever the other side does.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Tells threads that are blocked on a pipe to give up. Raised once and for all.
pub(super) struct StopSignal {
    watched: PipeReader,
    /// Dropped when raised: that hangs up on everybody who polls the other end.
    held: Mutex<Option<PipeWriter>>,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// The pipe can be used, or is broken: the next call on it tells.
    Yes,
    /// The signal was raised.
    Stopped,
    /// The time is up.
    TimedOut,
}

impl StopSignal {
    /// A signal that nobody has raised.
    pub(super) fn new() -> io::Result<StopSignal> {
        let (watched, held) = io::pipe()?;
        Ok(StopSignal { watched, held: Mutex::new(Some(held)) })
    }

    /// Wakes everybody; later waits end at once.
    pub(super) fn raise(&self) {
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Waits until `pipe` can be read.
    pub(super) fn wait_readable(&self, pipe: BorrowedFd<'_>, limit: Option<Duration>) -> io::Result<Ready> {
        self.wait(pipe, PollFlags::IN, limit)
    }

    /// Waits until `pipe` can be written.
    pub(super) fn wait_writable(&self, pipe: BorrowedFd<'_>, limit: Option<Duration>) -> io::Result<Ready> {
        self.wait(pipe, PollFlags::OUT, limit)
    }

    fn wait(&self, pipe: BorrowedFd<'_>, flags: PollFlags, limit: Option<Duration>) -> io::Result<Ready> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut fds = [
            PollFd::from_borrowed_fd(pipe, flags),
            PollFd::from_borrowed_fd(self.watched.as_fd(), PollFlags::IN),
        ];
        loop {
            match poll(&mut fds, limit.as_ref()) {
                Ok(0) => return Ok(Ready::TimedOut),
                Ok(_) if !fds[1].revents().is_empty() => return Ok(Ready::Stopped),
                Ok(_) => return Ok(Ready::Yes),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether a write would not block now.
pub(super) fn is_writable(pipe: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pipe, PollFlags::OUT)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1))
}

/// Makes our end of a pipe non-blocking; the other end is not affected.
pub(super) fn set_nonblocking(pipe: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(pipe, true)?)
}

/// Writes everything, in one call where the pipe has room; `false` if stopped before the end.
pub(super) fn write_all(pipe: BorrowedFd<'_>, mut bytes: &[u8], stop: &StopSignal) -> io::Result<bool> {
    while !bytes.is_empty() {
        match rustix::io::write(pipe, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match stop.wait_writable(pipe, None)? {
                Ready::Stopped => return Ok(false),
                Ready::Yes | Ready::TimedOut => {}
            },
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn raising_the_signal_ends_a_write_that_nobody_reads() {
        let (_unread, pipe) = io::pipe().unwrap();
        set_nonblocking(&pipe).unwrap();
        let stop = Arc::new(StopSignal::new().unwrap());
        let writer = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || write_all(pipe.as_fd(), &vec![0; 1 << 20], &stop).unwrap())
        };
        stop.raise();
        assert!(!writer.join().unwrap());
    }

    #[test]
    fn a_limit_ends_a_wait() {
        let (pipe, _held) = io::pipe().unwrap();
        let stop = StopSignal::new().unwrap();
        let ready = stop.wait_readable(pipe.as_fd(), Some(Duration::from_millis(1))).unwrap();
        assert_eq!(ready, Ready::TimedOut);
        stop.raise();
        assert_eq!(stop.wait_readable(pipe.as_fd(), None).unwrap(), Ready::Stopped);
    }
}
