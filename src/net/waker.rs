//! Waking one thread that waits on its socket and on the engine at the same time.
//!
//! Invariant: whoever waits looks at the state it waits for *after* [`Waker::clear`], so a wake-up that
//! was folded into an earlier one is never missed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// A flag that `poll(2)` can wait for; may be raised by any thread, waited for by one.
pub(crate) struct Waker {
    event: OwnedFd,
    raised: AtomicBool,
}

impl Waker {
    /// A waker that is not raised; fails when the process is out of descriptors.
    pub(crate) fn new() -> io::Result<Waker> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker { event, raised: AtomicBool::new(false) })
    }

    /// Raises the flag. Repeated calls before [`Waker::clear`] cost nothing.
    pub(crate) fn wake(&self) {
        if !self.raised.swap(true, Ordering::SeqCst) {
            // The counter cannot overflow: at most one write follows each clearing.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// Lowers the flag, before its owner looks at what it waits for.
    pub(crate) fn clear(&self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.event, &mut count);
        // Not a mere store: the look at the state, which comes next, could be made before it.
        self.raised.swap(false, Ordering::SeqCst);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn raised(waker: &Waker) -> bool {
        let mut fds = [PollFd::new(waker, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn a_waker_stays_raised_until_cleared_and_can_be_raised_again() {
        let waker = Waker::new().unwrap();
        assert!(!raised(&waker));
        waker.wake();
        waker.wake();
        assert!(raised(&waker));
        waker.clear();
        assert!(!raised(&waker));
        waker.wake();
        assert!(raised(&waker));
    }
}
