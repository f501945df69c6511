//! Brings commands to their transport in the order in which they left the queue, where that counts.
//!
//! Workers that took commands one after another race to the transport. Where all commands of a channel
//! share one connection, the order of their messages would be left to chance; elsewhere a session's
//! commands could overtake the notification that opens it. Invariant: a place is given up as soon as its
//! command has entered the transport (or the notification was answered) or will never do so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::control_plane::{Command, Work};
use crate::ids::Channel;
use crate::jsonrpc::Kind;
use crate::net::Deadline;

/// How long an `initialized` notification may hold up the other commands of its session.
const OPENING_TIME: Duration = Duration::from_secs(5);
/// Opens a session for use (MCP 2025-11-25, "Lifecycle").
const INITIALIZED: &str = "notifications/initialized";

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

/// The place of one command in a line; given up when dropped.
pub struct Place {
    line: Arc<Line>,
    number: Option<u64>,
    /// Of one that only has to let another one go first: until when.
    follows_until: Option<Deadline>,
}

/// The sessions of which an `initialized` notification is under way. Empty nearly always.
#[derive(Default)]
pub(super) struct Openings(Vec<Opening>);

struct Opening {
    channel: Channel,
    session_id: String,
    line: Arc<Line>,
    until: Deadline,
}

impl Openings {
    /// The place of a command of a channel without an order of its own; none where it may go as it likes.
    /// Ask for it under the lock that decides about the order.
    pub(super) fn place_of(&mut self, command: &Command) -> Option<Place> {
        if !self.0.is_empty() {
            self.0.retain(|opening| !opening.until.is_past() && !opening.line.lock().on_their_way.is_empty());
        }
        let Work::JsonRpc(message) = &command.work else { return None };
        let opens = message.kind() == Kind::Notification && message.method() == INITIALIZED;
        if self.0.is_empty() && !opens {
            return None;
        }
        let session_id = command.session_id()?;
        let same = |it: &&Opening| it.session_id == session_id && it.channel == command.channel;
        if let Some(opening) = self.0.iter().find(same) {
            let mut place = opening.line.queue_up();
            place.follows_until = Some(opening.until);
            return Some(place);
        }
        opens.then(|| {
            let (line, until) = (Arc::<Line>::default(), Deadline::after(OPENING_TIME));
            let place = line.queue_up();
            let (channel, session_id) = (command.channel.clone(), session_id.to_owned());
            self.0.push(Opening { channel, session_id, line, until });
            place
        })
    }
}

impl Line {
    /// The last place. Ask for it under the lock that decides about the order.
    pub(super) fn queue_up(self: &Arc<Self>) -> Place {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.on_their_way.push_back(Entry { number, waiter: None });
        drop(state);
        Place { line: Arc::clone(self), number: Some(number), follows_until: None }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until all that were before it have entered, or `deadline` passes.
    pub(super) fn wait(&mut self, deadline: Deadline) {
        match self.follows_until {
            None => self.wait_until(deadline),
            Some(until) => {
                self.wait_until(deadline.earliest(until));
                self.leave();
            }
        }
    }

    fn wait_until(&self, deadline: Deadline) {
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
    use std::time::Instant;

    use crate::jsonrpc::Message;
    use crate::secret::Secret;

    #[test]
    fn whoever_came_later_enters_later_and_those_who_left_are_not_waited_for() {
        let line = Arc::new(Line::default());
        let [mut first, dropped, mut last] = [(); 3].map(|()| line.queue_up());
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

    fn command(message: &str, session_id: &str) -> Command {
        Command {
            request_id: "r".into(),
            shard_token: Secret::new("s".into()),
            channel: Channel::main(),
            received_at: Instant::now(),
            created_at: None,
            deadline: Deadline::NEVER,
            headers: [("Mcp-Session-Id", session_id)].into_iter().collect(),
            work: Work::JsonRpc(Message::parse(message).unwrap()),
        }
    }

    #[test]
    fn only_the_commands_of_a_session_wait_for_its_opening_and_only_while_it_is_under_way() {
        let opens = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let mut openings = Openings::default();
        assert!(openings.place_of(&command(call, "a")).is_none());
        assert!(openings.place_of(&command(opens, "")).is_none(), "no session, no order");
        let opening = openings.place_of(&command(opens, "a")).unwrap();
        assert!(openings.place_of(&command(call, "b")).is_none());
        let elsewhere = Command { channel: Channel::parse("x").unwrap(), ..command(call, "a") };
        assert!(openings.place_of(&elsewhere).is_none());
        let mut follower = openings.place_of(&command(call, "a")).unwrap();
        follower.wait(Deadline::after(Duration::from_millis(1)));
        assert_eq!(opening.line.lock().on_their_way.len(), 1, "who followed keeps nobody waiting");
        openings.0[0].until = Deadline::after(Duration::ZERO);
        assert!(openings.place_of(&command(call, "a")).is_none(), "not for ever");

        let opening = openings.place_of(&command(opens, "a")).unwrap();
        let mut follower = openings.place_of(&command(call, "a")).unwrap();
        drop(opening);
        follower.wait(Deadline::NEVER);
        assert!(openings.place_of(&command(call, "a")).is_none() && openings.0.is_empty());
    }
}
