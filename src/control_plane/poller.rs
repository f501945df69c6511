//! The loop that fetches commands, on a thread of its own.
//!
//! Invariants: one poll at a time; none is sent while the queue is full; every command received
//! ends in the queue or is handed back when the loop stops.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, bounded};
use log::Level;

use super::client::{Client, millis};
use super::endpoints::POLL_LIMIT_MAX;
use super::errors::Told;
use super::event::Event;
use super::observer::{PollObserver, PollOutcome};
use super::pace::Pace;
use super::poll::{Batch, PollError, PollFailure};
use super::refusal::{Reason, Refused};
use super::state::{PollState, PollTrouble};
use super::types::{Command, Work};
use crate::net::Cancel;

/// How often a full queue is looked at when it cannot tell by itself.
const FULL_RECHECK: Duration = Duration::from_millis(100);
/// How long a reply whose head has arrived may take to finish once the poller has to stop.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Pause after a panic, so that one which repeats itself does no harm.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// Where commands go.
pub trait CommandSink: Send + Sync {
    /// How many commands can be pushed at once without waiting.
    fn free(&self) -> usize;

    /// Adds a command at the end; waits for room, until `stop` fires. Commands beyond the free
    /// slots must be accepted too: the control plane does not deliver twice.
    fn push(&self, command: Command, stop: &Cancel) -> Result<(), Stopped>;

    /// Waits until there may be room, or `stop` fires. A queue that knows should return at once.
    fn wait_for_room(&self, stop: &Cancel) {
        stop.wait(FULL_RECHECK);
    }
}

/// The queue takes no more commands; here is the one it did not take.
#[derive(Debug)]
pub struct Stopped(pub Box<Command>);

/// What the first poll waits for: returns when it may be sent, or when the token it is given fires.
pub type Gate = Box<dyn FnOnce(&Cancel) + Send>;

/// Everything the loop needs.
pub struct Poller {
    /// Whom to ask.
    pub client: Arc<Client>,
    /// Where commands go.
    pub sink: Arc<dyn CommandSink>,
    /// Who counts.
    pub observer: Arc<dyn PollObserver>,
    /// Where the state of polling is kept.
    pub state: Arc<PollState>,
    /// What the first poll waits for, if anything.
    pub gate: Option<Gate>,
}

/// A running poller; owns its thread.
pub struct PollerHandle {
    stop: Cancel,
    client: Arc<Client>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<Vec<Command>>>,
}

/// Where the poll in flight stands; decides what stopping does to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Nothing has arrived: cutting it loses nothing we know of.
    AwaitingHead,
    /// Commands may be on their way: let them arrive.
    Reading,
}

impl Poller {
    /// Starts the loop.
    pub fn spawn(self) -> io::Result<PollerHandle> {
        let stop = Cancel::new();
        let (running, ended) = bounded::<()>(0);
        let client = Arc::clone(&self.client);
        let seen = stop.clone();
        let thread = thread::Builder::new().name("poller".to_owned()).spawn(move || {
            let leftovers = self.run(&seen);
            drop(running);
            leftovers
        })?;
        Ok(PollerHandle { stop, client, ended, thread: Some(thread) })
    }

    /// Polls until `stop` fires; returns commands that were received but not queued.
    pub fn run(mut self, stop: &Cancel) -> Vec<Command> {
        Event::at(Level::Info).emit("starting control-plane poller");
        if let Some(gate) = self.gate.take() {
            gate(stop);
        }
        let phase = Arc::new(Mutex::new(Phase::Idle));
        let (client, seen) = (Arc::clone(&self.client), Arc::clone(&phase));
        let _cut = stop.on_cancel(move || {
            if *lock(&seen) == Phase::AwaitingHead {
                client.poll_cut.cancel();
            }
        });
        let mut leftovers = Vec::new();
        let mut pace = Pace::new();
        if !stop.is_cancelled() {
            Event::at(Level::Info).with("reason", "ready").emit("poller started");
        }
        while !stop.is_cancelled() {
            let cycle = AssertUnwindSafe(|| self.cycle(stop, &phase, &mut pace, &mut leftovers));
            // A client that no longer polls looks alive and is of no use to anybody.
            if catch_unwind(cycle).is_err() {
                Event::at(Level::Error).emit("the poller panicked; this is a bug, please report it");
                stop.wait(PANIC_PAUSE);
            }
        }
        Event::at(Level::Info).with("reason", "shutdown").emit("poller stopped");
        leftovers
    }

    /// Waits for room, polls once, queues what came, and pauses as long as it should.
    fn cycle(&self, stop: &Cancel, phase: &Mutex<Phase>, pace: &mut Pace, leftovers: &mut Vec<Command>) {
        let free = self.sink.free();
        if free == 0 {
            return self.sink.wait_for_room(stop);
        }
        let limit = free.min(POLL_LIMIT_MAX);
        let started = Instant::now();
        let delay = match self.poll_once(limit, stop, phase) {
            None => return,
            Some(Ok(batch)) => {
                let empty = batch.total == 0;
                self.accept(batch, limit, stop, leftovers);
                pace.after_success(empty, started.elapsed(), self.client.poll_timeout)
            }
            Some(Err(_)) if stop.is_cancelled() => return,
            Some(Err(error)) => {
                let delay = pace.after_failure(&error);
                self.report_failure(&error, delay);
                delay
            }
        };
        if !delay.is_zero() {
            stop.wait(delay);
        }
    }

    /// One poll; `None` if it was not to be sent any more.
    fn poll_once(
        &self,
        limit: usize,
        stop: &Cancel,
        phase: &Mutex<Phase>,
    ) -> Option<Result<Batch, PollError>> {
        // The phase first, then the look at `stop`: whichever way they race, the poll is cut.
        *lock(phase) = Phase::AwaitingHead;
        if stop.is_cancelled() {
            return None;
        }
        Event::at(Level::Debug).with("limit", limit).emit("poll cycle started");
        self.observer.poll_started();
        let started = Instant::now();
        let head = self.client.begin_poll(limit);
        *lock(phase) = Phase::Reading;
        let polled = head.and_then(|head| self.client.finish_poll(head));
        *lock(phase) = Phase::Idle;
        let outcome = match &polled {
            Ok(_) => PollOutcome::Success,
            Err(_) if stop.is_cancelled() => PollOutcome::Stopped,
            Err(error) if matches!(error.failure, PollFailure::Timeout) => PollOutcome::Timeout,
            Err(_) => PollOutcome::Failed,
        };
        self.observer.poll_finished(started.elapsed(), outcome);
        Some(polled)
    }

    /// Queues what a poll brought; what the queue no longer takes goes to `leftovers`.
    fn accept(&self, batch: Batch, limit: usize, stop: &Cancel, leftovers: &mut Vec<Command>) {
        let now = SystemTime::now();
        self.observer.poll_succeeded(now);
        if self.state.succeeded(now) {
            Event::at(Level::Info)
                .with_some("tunnel_request_id", batch.tunnel_request_id.as_deref())
                .emit("poller recovered; polling operational");
        }
        if batch.total > limit {
            Event::at(Level::Error)
                .with("limit", limit)
                .with("total", batch.total)
                .emit("the control plane sent more commands than asked for; all are processed");
        }
        for refused in &batch.refused {
            self.report_refused(refused);
        }
        let (mut polled, mut enqueued, mut dropped) = (0, 0, 0);
        for command in batch.commands {
            let counts = usize::from(!matches!(command.work, Work::Refused(_)));
            polled += counts;
            let age = command.created_at.and_then(|at| batch.received_at.duration_since(at).ok());
            if let Some(age) = age.filter(|_| counts == 1) {
                self.observer.command_age(age);
            }
            let pushed = if stop.is_cancelled() {
                Err(Stopped(Box::new(command)))
            } else {
                self.sink.push(command, stop)
            };
            match pushed {
                Ok(()) => enqueued += counts,
                Err(Stopped(command)) => {
                    dropped += counts;
                    leftovers.push(*command);
                }
            }
        }
        if polled > 0 {
            self.observer.commands_polled(polled);
        }
        if enqueued > 0 {
            self.observer.commands_enqueued(enqueued);
        }
        if dropped > 0 {
            self.observer.commands_dropped("context_canceled", dropped);
        }
        Event::at(Level::Debug)
            .with("commands_polled", polled)
            .with("commands_enqueued", enqueued)
            .emit("poll cycle complete");
    }

    fn report_refused(&self, refused: &Refused) {
        self.observer.command_refused(refused.reason.label(), refused.answered);
        let detail = Some(refused.detail.as_str()).filter(|detail| !detail.is_empty());
        let message = if refused.answered {
            "command cannot be executed; answering with an error"
        } else {
            "command dropped: it cannot even be answered"
        };
        // A response is well-formed, and still nothing that anybody should send here.
        let level = if refused.reason == Reason::ResponsePayload { Level::Error } else { Level::Warn };
        Event::at(level)
            .with("reason", refused.reason.label())
            .with_some("detail", detail)
            .with_some("request_id", refused.request_id.as_deref())
            .with_some("command_type", refused.command_type.as_deref())
            .emit(message);
    }

    fn report_failure(&self, error: &PollError, delay: Duration) {
        let text = error.to_string();
        let status = error.status();
        let trouble = PollTrouble {
            at: SystemTime::now(),
            text: text.clone(),
            status: status.map(|status| status.status),
            code: status.map_or_else(String::new, |status| status.detail.code.clone()),
            mitigation: status.and_then(|status| status.detail.mitigation()),
        };
        self.observer.poll_failed(&trouble);
        let changed = self.state.failed(trouble);
        let quiet = !changed && status.is_some_and(|status| Pace::needs_operator(status.status));
        let timed_out = matches!(error.failure, PollFailure::Timeout);
        let told = Told::of(status);
        let event = Event::at(if quiet { Level::Debug } else { Level::Warn })
            .with("error", text.as_str())
            .with("retry_in_ms", millis(delay))
            .with("tunnel_request_id", error.tunnel_request_id.as_deref().unwrap_or("missing_request_id"));
        told.fields_of(event)
            .with_some("poll_timeout_ms", timed_out.then(|| millis(self.client.poll_timeout)))
            .with_some("poll_deadline_ms", timed_out.then(|| millis(self.client.request_time)))
            .emit(if timed_out { "poll timed out; backing off" } else { "poll failed; backing off" });
    }
}

impl PollerHandle {
    /// Whether the loop still runs.
    #[cfg(test)]
    pub(super) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Stops polling and waits for the thread: at once if no reply is arriving, after at most 2 s
    /// otherwise. Returns the commands that were received but not queued.
    pub fn stop(mut self) -> Vec<Command> {
        self.finish()
    }

    fn finish(&mut self) -> Vec<Command> {
        let Some(thread) = self.thread.take() else { return Vec::new() };
        self.stop.cancel();
        // Disconnects when the loop has ended; nothing is ever sent.
        if self.ended.recv_timeout(STOP_GRACE).is_err_and(|error| error.is_timeout()) {
            self.client.poll_cut.cancel();
        }
        thread.join().unwrap_or_default()
    }
}

impl Drop for PollerHandle {
    fn drop(&mut self) {
        self.finish();
    }
}

fn lock(phase: &Mutex<Phase>) -> std::sync::MutexGuard<'_, Phase> {
    phase.lock().unwrap_or_else(PoisonError::into_inner)
}
