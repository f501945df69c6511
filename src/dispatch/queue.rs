//! The bounded queue between the poller and the workers.
//!
//! A crossbeam channel carries one permit per pushed command and wakes one worker for it; closing it
//! sends all home. The commands themselves wait in a list, so that expired ones can be discarded and a
//! command whose channel holds all the workers it may have can be passed over. Invariant: commands that
//! can run start in the order they were pushed, and each is given out exactly once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::control_plane::{Command, CommandSink, Stopped};
use crate::ids::Channel;
use crate::net::Cancel;

use super::place::{Line, Openings, Place};

/// Permits beyond the capacity: a permit whose command expired stays until a worker takes it.
const SPARE_PERMITS: usize = 1024;
/// How often a full queue is searched for expired commands.
const RECHECK: Duration = Duration::from_millis(100);

/// The queue; clones share it.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    capacity: usize,
    state: Mutex<State>,
    /// One token wakes one worker; see the module's text. A worker waits for nothing else: a `select!`
    /// would enrol each of them at two wait lists for every command.
    wakeups: Receiver<()>,
    /// Signals that a slot became free; holds at most one token.
    freed: (Sender<()>, Receiver<()>),
}

struct State {
    waiting: VecDeque<Command>,
    shares: Shares,
    /// Of the channels whose commands must enter their transport in order.
    lines: Vec<(Channel, Arc<Line>)>,
    openings: Openings,
    /// Workers in [`Queue::take`].
    idle: usize,
    /// `None` once the queue is closed.
    permits: Option<Sender<()>>,
}

/// A command that was given out.
pub struct Taken {
    /// The command.
    pub command: Command,
    /// Its place before its transport, if the order counts there.
    pub place: Option<Place>,
    /// No worker waits for the next one.
    pub nobody_waits: bool,
}

/// How many workers each channel holds. Each routable channel has one worker of its own as long as
/// there are enough, the others are shared: a stalled channel never stops another one.
struct Shares {
    /// A handful: looked through faster than hashed.
    running: Vec<(Channel, usize)>,
    shared_free: usize,
}

impl Queue {
    /// A queue of `capacity` waiting commands for `workers` workers that serve `channels`, each with
    /// whether its commands must enter its transport in order.
    pub fn new(capacity: usize, workers: usize, channels: impl Iterator<Item = (Channel, bool)>) -> Queue {
        let capacity = capacity.max(1);
        let (permits, wakeups) = bounded(capacity + SPARE_PERMITS);
        let (mut running, mut lines) = (Vec::new(), Vec::new());
        for (channel, in_order) in channels {
            if in_order {
                lines.push((channel.clone(), Arc::default()));
            }
            running.push((channel, 0));
        }
        // A single channel needs no accounting: it may hold every worker.
        let running = if running.len() > 1 { running } else { Vec::new() };
        let shares = Shares { shared_free: workers.saturating_sub(running.len()), running };
        let (waiting, openings) = (VecDeque::new(), Openings::default());
        let state = State { waiting, shares, lines, openings, idle: 0, permits: Some(permits) };
        Queue { shared: Arc::new(Shared { capacity, state: Mutex::new(state), wakeups, freed: bounded(1) }) }
    }

    /// Commands it can hold.
    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }

    /// Commands waiting now.
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Commands of `channel` that run now; `None` where a single channel makes counting needless.
    pub fn running(&self, channel: &str) -> Option<usize> {
        let state = self.lock();
        state.shares.running.iter().find(|(known, _)| known.as_str() == channel).map(|(_, running)| *running)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until a slot may be free, or `cancel` fires.
    fn wait_for_slot(&self, cancel: &Cancel) {
        select! {
            recv(self.shared.freed.1) -> _ => {}
            recv(cancel.receiver()) -> _ => {}
            // A command may also expire while it waits.
            default(RECHECK) => {}
        }
    }

    /// Free slots. Expired commands are discarded first: nothing may be posted for them any more.
    pub fn free(&self) -> usize {
        let expired: Vec<Command>;
        let free = {
            let mut state = self.lock();
            expired = state.discard_expired();
            self.shared.capacity.saturating_sub(state.waiting.len())
        };
        for command in &expired {
            log::info!(target: "dispatcher", request_id = command.request_id.as_str(), channel = command.channel.as_str();
                "command expired in the queue; dropped without posting a response");
        }
        free
    }

    /// Adds a command, waiting for a free slot if there is none; gives it back when `cancel` fires or
    /// the queue is closed.
    pub fn push(&self, command: Command, cancel: &Cancel) -> Result<(), Stopped> {
        loop {
            {
                let mut state = self.lock();
                let Some(permits) = state.permits.clone() else { return Err(Stopped(Box::new(command))) };
                if state.waiting.len() < self.shared.capacity {
                    state.waiting.push_back(command);
                    drop(state);
                    // Full means that more permits than commands are out already: a worker will come.
                    let _ = permits.try_send(());
                    return Ok(());
                }
            }
            if self.free() == 0 {
                if cancel.is_cancelled() {
                    return Err(Stopped(Box::new(command)));
                }
                self.wait_for_slot(cancel);
            }
        }
    }

    /// The next command that may run; waits for one. `None` once the queue is closed. The command's
    /// channel holds a worker until it is named as `done`.
    pub fn take(&self, done: Option<&Channel>) -> Option<Taken> {
        let mut state = self.lock();
        if let Some(channel) = done {
            state.shares.give_back(channel);
        }
        if let Some(command) = state.take_runnable() {
            // Its permit has nobody to wake. But a command that waited for just this worker has lost its own
            // to one that could not run it: what is there then belongs to the others, one each.
            if self.shared.wakeups.len() > state.waiting.len() {
                let _ = self.shared.wakeups.try_recv();
            }
            return Some(self.given_out(state, command));
        }
        state.idle += 1;
        drop(state);
        loop {
            let woken = self.shared.wakeups.recv();
            let mut state = self.lock();
            if woken.is_err() {
                state.idle -= 1;
                return None;
            }
            if let Some(command) = state.take_runnable() {
                state.idle -= 1;
                return Some(self.given_out(state, command));
            }
        }
    }

    /// Refuses further commands, ends idle workers and returns the commands that still wait.
    pub fn close(&self) -> Vec<Command> {
        let commands = {
            let mut state = self.lock();
            state.permits = None;
            std::mem::take(&mut state.waiting).into()
        };
        let _ = self.shared.freed.0.try_send(());
        commands
    }

    fn given_out(&self, mut state: MutexGuard<'_, State>, command: Command) -> Taken {
        let line = state.lines.iter().find(|(channel, _)| *channel == command.channel);
        let place = match line {
            Some((_, line)) => Some(line.queue_up()),
            None => state.openings.place_of(&command),
        };
        let nobody_waits = state.idle == 0 && state.permits.is_some();
        drop(state);
        let _ = self.shared.freed.0.try_send(());
        Taken { command, place, nobody_waits }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CommandSink for Queue {
    fn free(&self) -> usize {
        Queue::free(self)
    }

    fn push(&self, command: Command, stop: &Cancel) -> Result<(), Stopped> {
        Queue::push(self, command, stop)
    }

    fn wait_for_room(&self, stop: &Cancel) {
        self.wait_for_slot(stop);
    }
}

impl State {
    fn discard_expired(&mut self) -> Vec<Command> {
        if !self.waiting.iter().any(|command| command.deadline.is_past()) {
            return Vec::new();
        }
        let (expired, live) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|command| command.deadline.is_past());
        self.waiting = live.into();
        expired
    }

    fn take_runnable(&mut self) -> Option<Command> {
        let shares = &self.shares;
        let position = self.waiting.iter().position(|command| shares.admits(&command.channel))?;
        let command = self.waiting.remove(position)?;
        self.shares.hold(&command.channel);
        Some(command)
    }
}

impl Shares {
    fn admits(&self, channel: &Channel) -> bool {
        match self.running.iter().find(|(known, _)| known == channel) {
            // Unknown channels are refused at once and hold nothing.
            None | Some((_, 0)) => true,
            Some(_) => self.shared_free > 0,
        }
    }

    fn hold(&mut self, channel: &Channel) {
        let Some(running) = self.running_of(channel) else { return };
        *running += 1;
        let shared = *running > 1;
        self.shared_free -= usize::from(shared);
    }

    fn give_back(&mut self, channel: &Channel) {
        let Some(running) = self.running_of(channel) else { return };
        // Whichever command ends first frees a shared worker; the last one frees the channel's own.
        let shared = *running > 1;
        *running = running.saturating_sub(1);
        self.shared_free += usize::from(shared);
    }

    fn running_of(&mut self, channel: &Channel) -> Option<&mut usize> {
        self.running.iter_mut().find(|(known, _)| known == channel).map(|(_, running)| running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    use crate::control_plane::Work;
    use crate::net::{Deadline, HeaderList};
    use crate::secret::Secret;

    fn command(id: &str, channel: &str, deadline: Deadline) -> Command {
        Command {
            request_id: id.into(),
            shard_token: Secret::new("s".into()),
            channel: Channel::parse(channel).unwrap(),
            received_at: Instant::now(),
            created_at: None,
            deadline,
            headers: HeaderList::new(),
            work: Work::SessionTermination,
        }
    }

    fn queue(capacity: usize, workers: usize, channels: &[&str]) -> Queue {
        Queue::new(capacity, workers, channels.iter().map(|name| (Channel::parse(name).unwrap(), false)))
    }

    fn push(queue: &Queue, id: &str, channel: &str) {
        assert!(queue.push(command(id, channel, Deadline::NEVER), &Cancel::new()).is_ok());
    }

    #[test]
    fn commands_leave_in_the_order_they_came() {
        let queue = queue(3, 2, &["main"]);
        for id in ["a", "b", "c"] {
            push(&queue, id, "main");
        }
        assert_eq!(queue.free(), 0);
        let taken: Vec<_> = (0..3).map(|_| queue.take(None).unwrap().command.request_id).collect();
        assert_eq!(taken, ["a", "b", "c"]);
        queue.close();
        assert!(queue.take(None).is_none());
    }

    #[test]
    fn a_stalled_channel_leaves_a_worker_to_every_other_channel() {
        let queue = queue(10, 3, &["main", "slow"]);
        for id in ["s1", "s2", "s3"] {
            push(&queue, id, "slow");
        }
        push(&queue, "m1", "main");
        let taken: Vec<_> = (0..3).map(|_| queue.take(None).unwrap().command.request_id).collect();
        assert_eq!(taken, ["s1", "s2", "m1"], "of three workers one is kept for each channel, one is shared");
        let (idle, slow) = (queue.clone(), Channel::parse("slow").unwrap());
        let idle = std::thread::spawn(move || idle.take(Some(&Channel::main())).is_none());
        while queue.lock().idle == 0 {
            std::thread::yield_now();
        }
        assert_eq!(queue.take(Some(&slow)).unwrap().command.request_id, "s3");
        queue.close();
        assert!(idle.join().unwrap(), "what main gives back is of no use to the stalled channel");
    }

    #[test]
    fn whoever_takes_a_command_without_a_permit_leaves_the_others_theirs() {
        let queue = queue(10, 2, &["main", "slow"]);
        push(&queue, "s1", "slow");
        assert_eq!(queue.take(None).unwrap().command.request_id, "s1");
        push(&queue, "s2", "slow");
        // An idle worker was woken for it, could not run it, and waits again.
        queue.shared.wakeups.try_recv().unwrap();
        assert!(queue.lock().take_runnable().is_none());
        push(&queue, "m1", "main");
        let taken = queue.take(Some(&Channel::parse("slow").unwrap())).unwrap();
        assert_eq!(taken.command.request_id, "s2");
        assert_eq!(queue.shared.wakeups.len(), 1, "what wakes the idle worker for m1");
    }

    #[test]
    fn expired_commands_free_their_slots_unanswered() {
        let queue = queue(2, 1, &["main"]);
        assert!(queue.push(command("old", "main", Deadline::after(Duration::ZERO)), &Cancel::new()).is_ok());
        push(&queue, "new", "main");
        assert_eq!(queue.free(), 1);
        assert_eq!(queue.take(None).unwrap().command.request_id, "new");
    }

    #[test]
    fn a_full_queue_makes_the_poller_wait_until_a_slot_is_free_or_it_is_stopped() {
        let queue = queue(1, 1, &["main"]);
        push(&queue, "a", "main");
        let cancel = Cancel::new();
        let pusher = {
            let (queue, cancel) = (queue.clone(), cancel.clone());
            std::thread::spawn(move || {
                let second = queue.push(command("b", "main", Deadline::NEVER), &cancel).is_ok();
                (
                    second,
                    queue.push(command("c", "main", Deadline::NEVER), &cancel).map_err(|c| c.0.request_id),
                )
            })
        };
        assert_eq!(queue.take(None).unwrap().command.request_id, "a");
        while queue.is_empty() {
            std::thread::yield_now();
        }
        cancel.cancel();
        assert_eq!(pusher.join().unwrap(), (true, Err("c".to_owned())));
        assert_eq!(queue.close().len(), 1);
        assert!(queue.push(command("d", "main", Deadline::NEVER), &Cancel::new()).is_err());
    }
}
