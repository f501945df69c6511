//! Lines that wait for the child's stdin.
//!
//! Invariant: they leave in the order in which they came, and a line of which a part is in the pipe
//! can no longer be taken back.

use std::collections::VecDeque;
use std::sync::Arc;

use super::mailbox::Mailbox;

/// Bytes that may wait; a single larger message passes.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Replies and cancellations of our own that may wait besides.
const MAX_OWN: usize = 64;

/// The queue.
pub(super) struct Outbox {
    lines: VecDeque<Line>,
    bytes: usize,
    own: usize,
    max_lines: usize,
}

/// One line on its way to the child.
pub(super) struct Line {
    /// With its line feed.
    pub(super) bytes: Vec<u8>,
    /// How many of them are in the pipe.
    pub(super) written: usize,
    /// What is to be done once all are.
    pub(super) purpose: Purpose,
}

/// What a line is.
pub(super) enum Purpose {
    /// A call by its name in the table of calls.
    Call(u64),
    /// The `initialize` of the handshake with this number: name and number.
    Handshake(u64, u64),
    /// A notification; its worker is told.
    Notification(Arc<Mailbox>),
    /// A message of our own that nobody waits for.
    Own,
}

impl Outbox {
    /// A queue for so many lines.
    pub(super) fn new(max_lines: usize) -> Outbox {
        Outbox { lines: VecDeque::new(), bytes: 0, own: 0, max_lines: max_lines.max(1) }
    }

    /// Whether a message of a worker may be added; otherwise it waits with its worker.
    pub(super) fn has_room(&self) -> bool {
        self.lines.is_empty() || (self.lines.len() < self.max_lines && self.bytes < MAX_BYTES)
    }

    /// Whether a reply or cancellation of our own may be added; otherwise it is dropped.
    pub(super) fn has_room_for_own(&self) -> bool {
        self.own < MAX_OWN
    }

    /// How many lines wait.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Adds a line.
    pub(super) fn push(&mut self, bytes: Vec<u8>, purpose: Purpose) {
        let line = Line { bytes, written: 0, purpose };
        self.count(&line);
        self.lines.push_back(line);
    }

    /// Puts back a line that was taken, but not written to its end.
    pub(super) fn put_back(&mut self, line: Line) {
        self.count(&line);
        self.lines.push_front(line);
    }

    /// Takes the next line.
    pub(super) fn pop(&mut self) -> Option<Line> {
        let line = self.lines.pop_front()?;
        self.uncount(&line);
        Some(line)
    }

    /// Takes back the line of a call; `false` if it is not here, or partly written.
    pub(super) fn take_back_call(&mut self, sequence: u64) -> bool {
        self.take_back(|purpose| {
            matches!(purpose, Purpose::Call(name) | Purpose::Handshake(name, _) if *name == sequence)
        })
    }

    /// Takes back a notification.
    pub(super) fn take_back_notification(&mut self, mailbox: &Arc<Mailbox>) -> bool {
        self.take_back(
            |purpose| matches!(purpose, Purpose::Notification(waiting) if Arc::ptr_eq(waiting, mailbox)),
        )
    }

    fn take_back(&mut self, is_it: impl Fn(&Purpose) -> bool) -> bool {
        let index = self.lines.iter().position(|line| line.written == 0 && is_it(&line.purpose));
        match index.and_then(|index| self.lines.remove(index)) {
            Some(line) => {
                self.uncount(&line);
                true
            }
            None => false,
        }
    }

    fn count(&mut self, line: &Line) {
        self.bytes += line.bytes.len();
        self.own += usize::from(matches!(line.purpose, Purpose::Own));
    }

    fn uncount(&mut self, line: &Line) {
        self.bytes -= line.bytes.len();
        self.own -= usize::from(matches!(line.purpose, Purpose::Own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_leave_in_order_and_one_that_has_begun_cannot_be_taken_back() {
        let mut outbox = Outbox::new(2);
        outbox.push(b"a\n".to_vec(), Purpose::Call(1));
        assert!(outbox.has_room());
        outbox.push(b"b\n".to_vec(), Purpose::Call(2));
        assert!(!outbox.has_room());
        let mut first = outbox.pop().unwrap();
        assert_eq!(first.bytes, b"a\n");
        first.written = 1;
        outbox.put_back(first);
        assert!(!outbox.take_back_call(1));
        assert!(outbox.take_back_call(2));
        assert!(!outbox.take_back_call(2));
        assert_eq!((outbox.len(), outbox.pop().unwrap().written), (1, 1));
        assert!(outbox.pop().is_none() && outbox.bytes == 0);
    }

    #[test]
    fn one_large_message_passes_and_our_own_are_limited() {
        let mut outbox = Outbox::new(10);
        outbox.push(vec![0; MAX_BYTES + 1], Purpose::Call(1));
        assert!(!outbox.has_room());
        for _ in 0..MAX_OWN {
            assert!(outbox.has_room_for_own());
            outbox.push(Vec::new(), Purpose::Own);
        }
        assert!(!outbox.has_room_for_own());
    }
}
