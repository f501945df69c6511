//! Brings the commands of one channel to its transport in the order in which they left the queue.
//!
//! Workers that took commands one after another race to the transport; where all commands share one
//! connection, the order of their messages would be left to chance. Invariant: a place is given up as
//! soon as its command has entered the transport or will never do so; nothing slow happens before.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

use crate::net::Deadline;

/// The commands of one channel that are on their way to its transport.
#[derive(Default)]
pub(super) struct Line {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    on_their_way: VecDeque<Entry>,
}

struct Entry {
    number: u64,
    /// Who waits for it to be the first: woken alone, for a line may be long.
    waiter: Option<Thread>,
}

/// The place of one command in its channel's line; given up when dropped.
pub struct Place {
    line: Arc<Line>,
    number: Option<u64>,
}

impl Line {
    /// The last place. Ask for it under the lock that decides about the order.
    pub(super) fn queue_up(self: &Arc<Self>) -> Place {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.on_their_way.push_back(Entry { number, waiter: None });
        drop(state);
        Place { line: Arc::clone(self), number: Some(number) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until all that were before it have entered, or `deadline` passes.
    pub(super) fn wait(&self, deadline: Deadline) {
        loop {
            {
                let mut state = self.line.lock();
                let first = state.on_their_way.front().map(|entry| entry.number);
                let mine = state.on_their_way.iter_mut().find(|entry| Some(entry.number) == self.number);
                match mine {
                    Some(entry) if first != self.number => entry.waiter = Some(thread::current()),
                    _ => return,
                }
            }
            // A wake-up between the lock and here is not lost: parking then returns at once.
            match deadline.remaining() {
                None => thread::park(),
                Some(left) if left.is_zero() => return,
                Some(left) => thread::park_timeout(left),
            }
        }
    }

    /// The command has entered; whoever is next may.
    pub(super) fn leave(&mut self) {
        let Some(number) = self.number.take() else { return };
        let next = {
            let mut state = self.line.lock();
            state.on_their_way.retain(|entry| entry.number != number);
            state.on_their_way.front_mut().and_then(|entry| entry.waiter.take())
        };
        if let Some(waiter) = next {
            waiter.unpark();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn whoever_came_later_enters_later_and_those_who_left_are_not_waited_for() {
        let line = Arc::new(Line::default());
        let [first, dropped, mut last] = [(); 3].map(|()| line.queue_up());
        first.wait(Deadline::NEVER);
        drop(dropped);
        last.wait(Deadline::after(Duration::from_millis(1)));
        assert_eq!(line.lock().on_their_way.len(), 2, "the deadline ended the wait");
        let waiter = std::thread::spawn(move || {
            last.wait(Deadline::NEVER);
            last.leave();
        });
        drop(first);
        waiter.join().unwrap();
        assert!(line.lock().on_their_way.is_empty());
    }
}
