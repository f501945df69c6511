//! The session behind its lock.
//!
//! Invariant: nothing is logged, written or read while the lock is held.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::mcp::bridge::Tally;
use crate::mcp::bridge::legacy::Connector;
use crate::mcp::{FailureKind, Head, Outcome, Source};
use crate::net::Deadline;

use super::draft::Draft;
use super::eras::Crossing;
use super::mailbox::Mailbox;
use super::notice::{Notice, Tag};
use super::outbox::{Line, Purpose};
use super::outcomes::{broken, failed};
use super::session::{Phase, Session, Settings, Step};
use super::stdout;

/// Events that may wait for the supervisor; each thread of a child sends at most one of a kind.
const MAX_EVENTS: usize = 64;

/// What all threads of a binding share.
pub(super) struct Shared {
    /// Names the binding in logs.
    pub(super) tag: Tag,
    /// Longest line of a child's stdout.
    pub(super) max_message_bytes: usize,
    /// Dump all messages at debug level.
    pub(super) log_raw_messages: bool,
    /// For the supervisor.
    pub(super) events: Sender<Event>,
    pub(super) events_received: Receiver<Event>,
    /// Counters of what bridging and lifecycle care did.
    pub(super) tally: Tally,
    connector: Mutex<Connector>,
    state: Mutex<Session>,
    /// Workers wait here to be let in.
    gate: Condvar,
    /// The writer waits here for lines.
    work: Condvar,
}

/// What the supervisor is told, with the number of the child that it is about.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The process ended; it has not been reaped.
    Exited(u64),
    /// The reading of stdout ended.
    StdoutEnded(u64, stdout::End),
    /// A write to stdin failed.
    StdinFailed(u64, String),
    /// The child was silent too often.
    GivenUp(u64),
    /// Stop for good, by this time.
    Stop(Deadline),
}

impl Shared {
    /// A session without a child.
    pub(super) fn new(
        tag: Tag,
        settings: Settings,
        max_message_bytes: usize,
        log_raw_messages: bool,
    ) -> Shared {
        let (events, events_received) = bounded(MAX_EVENTS);
        Shared {
            tag,
            max_message_bytes,
            log_raw_messages,
            events,
            events_received,
            tally: Tally::default(),
            connector: Mutex::default(),
            state: Mutex::new(Session::new(settings)),
            gate: Condvar::new(),
            work: Condvar::new(),
        }
    }

    /// What the channel's connectors have said.
    pub(super) fn connector(&self) -> MutexGuard<'_, Connector> {
        self.connector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the session, then wakes and logs what that led to.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Session) -> R) -> R {
        let mut session = self.lock();
        let result = work(&mut session);
        self.release(session);
        result
    }

    /// Brings a message in: queues it, answers it, or waits for its turn. `entered` is told that its
    /// place among the others is settled; it must not block.
    /// `cross` makes of a message what a child of the other era gets instead, or its answer.
    pub(super) fn admit<'a>(
        &self,
        draft: &mut Draft<'a>,
        mailbox: &Arc<Mailbox>,
        deadline: Deadline,
        entered: &mut dyn FnMut(),
        cross: &mut dyn FnMut(&Crossing) -> Result<Draft<'a>, Outcome>,
    ) -> Result<Option<u64>, Outcome> {
        let mut session = self.lock();
        let mut visitor = session.visitor(deadline, Instant::now());
        let result = loop {
            let step = session.step(&mut visitor, draft, mailbox, Instant::now());
            // It is queued, has its turn, or needs none.
            entered();
            match step {
                Step::Queued(sequence) => break Ok(sequence),
                Step::Done(outcome) => break Err(outcome),
                Step::Cross(crossing) => {
                    // It has its turn already.
                    self.release(session);
                    let crossed = cross(&crossing);
                    session = self.lock();
                    match crossed {
                        Ok(crossed) => *draft = crossed,
                        Err(outcome) => break Err(outcome),
                    }
                }
                Step::Wait(until) => {
                    if session.needs_attention() {
                        self.release(session);
                        session = self.lock();
                        continue;
                    }
                    session = match until {
                        None => self.gate.wait(session).unwrap_or_else(PoisonError::into_inner),
                        Some(until) => {
                            let left = until.saturating_duration_since(Instant::now());
                            self.gate.wait_timeout(session, left).unwrap_or_else(PoisonError::into_inner).0
                        }
                    };
                }
            }
        };
        session.leave(&visitor);
        let direct = session.take_direct();
        let generation = session.generation;
        self.release(session);
        if let Some((line, stdin)) = direct {
            self.write_directly(generation, line, &stdin);
        }
        result
    }

    /// Writes a worker's line as far as the pipe has room, in place of the writer.
    fn write_directly(&self, generation: u64, mut line: Line, stdin: &OwnedFd) {
        self.log_raw_line(&line);
        // An error is left to the writer, which meets it too.
        line.written = rustix::io::write(stdin, &line.bytes).unwrap_or(0);
        let (rest, done) =
            if line.written == line.bytes.len() { (None, Some(line)) } else { (Some(line), None) };
        let orphan = self.with(|session| session.finish_direct(generation, rest));
        if let Some(line) = done {
            self.written(line.purpose);
        }
        if let Some(Line { purpose: Purpose::Notification(mailbox), .. }) = orphan {
            mailbox.finish(broken(FailureKind::ClosedPipe));
        }
    }

    /// A line is in the pipe.
    pub(super) fn written(&self, purpose: Purpose) {
        match purpose {
            Purpose::Notification(mailbox) => mailbox.finish(Outcome::Accepted(Head::bare(200))),
            Purpose::Handshake(_, number) => {
                self.with(|session| session.handshake_written(number, Instant::now()));
            }
            Purpose::Call(_) | Purpose::Own => {}
        }
    }

    /// Dumps a line, for those who asked for it.
    pub(super) fn log_raw_line(&self, line: &Line) {
        if self.log_raw_messages && line.written == 0 {
            self.log_raw("write", String::from_utf8_lossy(&line.bytes).trim_end());
        }
    }

    /// The next line for the child with this number; `None` when it is no longer to be written to.
    pub(super) fn next_line(&self, generation: u64) -> Option<Line> {
        let mut session = self.lock();
        loop {
            if session.generation != generation || session.phase != Phase::Running {
                return None;
            }
            if let Some(line) = session.pop() {
                self.release(session);
                return Some(line);
            }
            session.writer_idle = true;
            session = self.work.wait(session).unwrap_or_else(PoisonError::into_inner);
            session.writer_idle = false;
        }
    }

    /// Cuts everything: running exchanges fail at once, and no new one starts.
    pub(super) fn cut(&self) {
        let canceled = failed(Source::ClientInternal, FailureKind::Canceled);
        let ended = self.with(|session| {
            session.close(Phase::Stopped);
            session.end_all(&canceled, &canceled)
        });
        for (mailbox, outcome) in ended {
            mailbox.cut(outcome);
        }
    }

    /// Lets nobody in any more and ends everything that is under way.
    pub(super) fn end(&self, phase: Phase, kind: FailureKind) {
        let ended = self.with(|session| {
            session.close(phase);
            session.end_all(&broken(kind), &broken(kind))
        });
        for (mailbox, outcome) in ended {
            mailbox.finish(outcome);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Session> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, mut session: MutexGuard<'_, Session>) {
        let gate = std::mem::take(&mut session.wake_gate);
        let writer = std::mem::take(&mut session.wake_writer);
        let give_up = std::mem::take(&mut session.give_child_up);
        let notices: Vec<Notice> = std::mem::take(&mut session.notices);
        let again = std::mem::take(&mut session.again);
        let generation = session.generation;
        drop(session);
        if gate {
            self.gate.notify_all();
        }
        if writer {
            self.work.notify_all();
        }
        for notice in notices {
            notice.log(&self.tag, generation, &self.tally);
        }
        for mailbox in again {
            mailbox.send_back();
        }
        if give_up {
            // A full queue means that the supervisor has plenty of reasons already.
            let _ = self.events.try_send(Event::GivenUp(generation));
        }
    }
}
