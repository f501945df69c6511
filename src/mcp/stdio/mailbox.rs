//! What travels from the threads of a child to the worker that waits for a call.
//!
//! Invariant: at most one outcome is delivered, after all events that came before it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::mcp::Outcome;
use crate::net::Deadline;

/// Events that may wait for one worker.
const MAX_EVENTS: usize = 1024;
/// Bytes of events that may wait for one worker; a single larger event passes.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// The queue of one exchange.
#[derive(Default)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    events: VecDeque<String>,
    bytes: usize,
    /// How long the worker has been waited for since it was last on time.
    waited: Duration,
    outcome: Option<Outcome>,
    again: bool,
    /// Nothing more is taken in: there is an outcome, or nobody waits any more.
    closed: bool,
    /// Threads blocked on `changed`: without any, notifying would be a system call for nothing.
    waiting: usize,
}

/// What a worker finds.
#[derive(Debug)]
pub(super) enum Mail {
    /// A notification for this call.
    Event(String),
    /// The end.
    Outcome(Outcome),
    /// The message has to be brought in once more.
    Again,
    /// The deadline passed.
    TimedOut,
}

impl Mailbox {
    /// Takes what comes next.
    pub(super) fn take(&self, deadline: Deadline) -> Mail {
        let mut state = self.lock();
        loop {
            if let Some(event) = state.events.pop_front() {
                state.bytes -= event.len();
                if state.events.is_empty() {
                    state.waited = Duration::ZERO;
                }
                self.wake(&state);
                return Mail::Event(event);
            }
            if state.again {
                return Mail::Again;
            }
            if let Some(outcome) = state.outcome.take() {
                return Mail::Outcome(outcome);
            }
            let (waited, in_time) = self.wait(state, deadline.instant());
            if !in_time {
                return Mail::TimedOut;
            }
            state = waited;
        }
    }

    /// Puts an event. A worker that falls behind is waited for, `patience` at most; `false` when the event
    /// was dropped.
    pub(super) fn put_event(&self, event: String, patience: Duration) -> bool {
        let mut state = self.lock();
        let mut give_up = None;
        loop {
            if state.closed {
                return false;
            }
            let fits = state.bytes + event.len() <= MAX_EVENT_BYTES || state.events.is_empty();
            if state.events.len() < MAX_EVENTS && fits {
                state.bytes += event.len();
                state.events.push_back(event);
                self.wake(&state);
                return true;
            }
            let started = Instant::now();
            let until = *give_up.get_or_insert(started + patience);
            let (mut waited, in_time) = self.wait(state, Some(until));
            waited.waited += started.elapsed();
            if !in_time {
                return false;
            }
            state = waited;
        }
    }

    /// Like [`Mailbox::put_event`] while others wait for the same child: the patience is for all events
    /// until the worker has caught up.
    pub(super) fn put_event_beside_others(&self, event: String, patience: Duration) -> bool {
        let left = patience.saturating_sub(self.lock().waited);
        self.put_event(event, left)
    }

    /// Puts the outcome; the first one counts.
    pub(super) fn finish(&self, outcome: Outcome) {
        let mut state = self.lock();
        if !state.closed {
            state.closed = true;
            state.outcome = Some(outcome);
            self.wake(&state);
        }
    }

    /// Sends the worker back to where it came from.
    pub(super) fn send_back(&self) {
        let mut state = self.lock();
        if !state.closed {
            state.closed = true;
            state.again = true;
            self.wake(&state);
        }
    }

    /// Puts the outcome ahead of the events that wait.
    pub(super) fn cut(&self, outcome: Outcome) {
        let mut state = self.lock();
        if state.closed && state.outcome.is_none() {
            return;
        }
        state.closed = true;
        state.events.clear();
        state.bytes = 0;
        state.outcome.get_or_insert(outcome);
        self.wake(&state);
    }

    /// The worker has gone: nothing more is taken in.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.wake(&state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, state: &MutexGuard<'_, State>) {
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// Waits for a change; `false` when the time was up before.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> (MutexGuard<'a, State>, bool) {
        state.waiting += 1;
        let (mut state, timed_out) = match until {
            None => (self.changed.wait(state).unwrap_or_else(PoisonError::into_inner), false),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                let (state, _) =
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                (state, left.is_zero())
            }
        };
        state.waiting -= 1;
        (state, !timed_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::Head;
    use std::sync::Arc;

    fn outcome(status: u16) -> Outcome {
        Outcome::Accepted(Head::bare(status))
    }

    fn status(mail: &Mail) -> u16 {
        match mail {
            Mail::Outcome(Outcome::Accepted(head)) => head.status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_come_in_order_and_before_the_first_outcome() {
        let mailbox = Mailbox::default();
        assert!(mailbox.put_event("a".into(), Duration::ZERO));
        assert!(mailbox.put_event("b".into(), Duration::ZERO));
        mailbox.finish(outcome(1));
        mailbox.finish(outcome(2));
        assert!(!mailbox.put_event("c".into(), Duration::ZERO));
        assert!(matches!(mailbox.take(Deadline::NEVER), Mail::Event(event) if event == "a"));
        assert!(matches!(mailbox.take(Deadline::NEVER), Mail::Event(event) if event == "b"));
        assert_eq!(status(&mailbox.take(Deadline::NEVER)), 1);
    }

    #[test]
    fn a_full_mailbox_drops_events_after_the_patience_and_takes_more_once_there_is_room() {
        let mailbox = Arc::new(Mailbox::default());
        for _ in 0..MAX_EVENTS {
            assert!(mailbox.put_event("x".into(), Duration::ZERO));
        }
        assert!(!mailbox.put_event("y".into(), Duration::from_millis(1)));
        let putter = {
            let mailbox = Arc::clone(&mailbox);
            std::thread::spawn(move || mailbox.put_event("z".into(), Duration::from_secs(60)))
        };
        assert!(matches!(mailbox.take(Deadline::NEVER), Mail::Event(_)));
        assert!(putter.join().unwrap());
    }

    #[test]
    fn a_worker_that_stays_behind_is_waited_for_once_while_others_wait() {
        let mailbox = Mailbox::default();
        for _ in 0..MAX_EVENTS {
            mailbox.put_event("x".into(), Duration::ZERO);
        }
        let (patience, started) = (Duration::from_millis(200), Instant::now());
        for _ in 0..1000 {
            assert!(!mailbox.put_event_beside_others("y".into(), patience));
        }
        assert!((patience..patience * 100).contains(&started.elapsed()), "{:?}", started.elapsed());
        for _ in 0..MAX_EVENTS {
            assert!(matches!(mailbox.take(Deadline::NEVER), Mail::Event(_)));
        }
        assert!(mailbox.lock().waited.is_zero(), "it has caught up");
    }

    #[test]
    fn a_cut_overtakes_the_events_and_closing_frees_whoever_puts() {
        let mailbox = Arc::new(Mailbox::default());
        for _ in 0..MAX_EVENTS {
            mailbox.put_event("x".into(), Duration::ZERO);
        }
        let putter = {
            let mailbox = Arc::clone(&mailbox);
            std::thread::spawn(move || mailbox.put_event("z".into(), Duration::from_secs(60)))
        };
        mailbox.cut(outcome(3));
        assert!(!putter.join().unwrap());
        assert_eq!(status(&mailbox.take(Deadline::NEVER)), 3);
    }

    #[test]
    fn the_deadline_ends_the_waiting() {
        let mailbox = Mailbox::default();
        assert!(matches!(mailbox.take(Deadline::after(Duration::from_millis(1))), Mail::TimedOut));
    }
}
