//! Everything that is known about the running child, and who may write to it next.
//!
//! Invariant: while the child's mode is unknown, nothing reaches it but a handshake and messages of
//! the era that needs none; whoever has to wait is let in by the order of arrival.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::jsonrpc::result_response;
use crate::mcp::{Answer, Failure, FailureKind, Head, LifecycleNote, Outcome, Source};
use crate::net::Deadline;

use super::calls::{Call, Calls, Role, Wire};
use super::draft::{Class, Draft, line};
use super::era::Era;
use super::handshake::{self, Stage};
use super::mailbox::Mailbox;
use super::notice::Notice;
use super::peek;

/// Bytes that may wait for the child's stdin; a single larger message passes.
const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;
/// Replies and cancellations of our own that may wait besides; more are dropped.
const MAX_QUEUED_OWN: usize = 64;
/// How long one command waits for a child to come back.
const RESTART_PATIENCE: Duration = Duration::from_secs(5);
/// What a command keeps of its time to be answered that a lifecycle step took too long.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);
/// Handshakes in a row that may stay unanswered before the child is replaced.
const MAX_SILENT_HANDSHAKES: u32 = 2;

/// The state that all threads of a binding share.
pub(super) struct Session {
    /// What there is to talk to.
    pub(super) phase: Phase,
    /// Number of the child, 1 first.
    pub(super) generation: u64,
    /// Unanswered calls.
    pub(super) calls: Calls,
    /// Events to log once the lock is released.
    pub(super) notices: Vec<Notice>,
    /// Waiting workers should look again.
    pub(super) wake_gate: bool,
    /// The writer should look again.
    pub(super) wake_writer: bool,
    /// The writer waits for work.
    pub(super) writer_idle: bool,
    /// The child kept silent too often and must be replaced.
    pub(super) give_child_up: bool,
    /// How the child must be spoken to.
    pub(super) mode: Mode,
    /// The running handshake.
    pub(super) handshake: Option<Handshake>,
    /// The last handshake that failed and how.
    pub(super) failed_handshake: Option<(u64, HandshakeFailure)>,
    /// `notifications/initialized` is on its way or written.
    pub(super) initialized_written: bool,
    /// The `initialize` result of this child.
    pub(super) result: Option<Box<str>>,
    /// The last parameters that a child accepted, kept when it ends.
    pub(super) accepted_params: Option<Box<str>>,
    /// Methods of this child's requests that have been refused.
    pub(super) refused_methods: BTreeSet<String>,
    pub(super) silent_handshakes: u32,
    settings: Settings,
    outbox: VecDeque<Line>,
    outbox_bytes: usize,
    outbox_own: usize,
    handshakes: u64,
    turns: VecDeque<u64>,
    next_turn: u64,
}

/// What the session is told once.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Initialise children and keep them initialised.
    pub(super) lifecycle_care: bool,
    /// How long a child may take to answer `initialize`.
    pub(super) handshake_limit: Duration,
    /// Messages that may wait for the child's stdin.
    pub(super) max_queued: usize,
}

/// What there is to talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not started.
    Idle,
    /// A child runs.
    Running,
    /// The child ended; when the next one is due.
    Down(Instant),
    /// Stopped for good.
    Stopped,
}

/// How a child must be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing proves it yet.
    Unknown,
    /// It was initialised.
    Legacy,
    /// It answered a message of the era without handshakes.
    Modern,
}

/// A running handshake.
#[derive(Clone, Debug)]
pub(super) struct Handshake {
    pub(super) number: u64,
    /// Its call.
    pub(super) sequence: u64,
    /// When it is given up.
    pub(super) until: Instant,
    pub(super) trigger: &'static str,
    pub(super) since: Instant,
}

/// How a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandshakeFailure {
    /// With this error code.
    Refused(Option<i64>),
    /// Without an answer in time.
    Silent,
}

/// One line on its way to the child.
pub(super) struct Line {
    /// With its line feed.
    pub(super) bytes: Vec<u8>,
    /// What is to be done once it is written.
    pub(super) purpose: Purpose,
}

/// What a line is.
pub(super) enum Purpose {
    /// A call by its name in [`Calls`].
    Call(u64),
    /// The `initialize` of the handshake with this number.
    Handshake(u64, u64),
    /// A notification; its worker is told.
    Notification(Arc<Mailbox>),
    /// A message of our own that nobody waits for.
    Own,
}

/// A worker on its way in.
#[derive(Debug)]
pub(super) struct Visitor {
    /// The command's deadline.
    pub(super) deadline: Deadline,
    /// When it stops waiting for what only the lifecycle needs.
    lifecycle_until: Instant,
    restart_until: Option<Instant>,
    turn: Option<u64>,
    /// The handshake that it waits for, and whose.
    handshake: Option<(u64, u64)>,
}

/// What becomes of a worker's message.
pub(super) enum Step {
    /// Queued; calls have a name.
    Queued(Option<u64>),
    /// Done without the child.
    Done(Outcome),
    /// Look again after a change, at this moment at the latest.
    Wait(Option<Instant>),
}

/// Why a message cannot go on yet.
enum Hold {
    Handshake,
    Room,
}

impl Session {
    /// A session without a child.
    pub(super) fn new(settings: Settings) -> Session {
        Session {
            phase: Phase::Idle,
            generation: 0,
            calls: Calls::default(),
            notices: Vec::new(),
            wake_gate: false,
            wake_writer: false,
            writer_idle: false,
            give_child_up: false,
            mode: Mode::Unknown,
            handshake: None,
            failed_handshake: None,
            initialized_written: false,
            result: None,
            accepted_params: None,
            refused_methods: BTreeSet::new(),
            silent_handshakes: 0,
            settings,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            outbox_own: 0,
            handshakes: 0,
            turns: VecDeque::new(),
            next_turn: 0,
        }
    }

    /// A worker arrives.
    pub(super) fn visitor(&self, deadline: Deadline, now: Instant) -> Visitor {
        let lifecycle_until = match deadline.instant() {
            None => now + self.settings.handshake_limit,
            Some(instant) => {
                let left = instant.saturating_duration_since(now);
                instant - ANSWER_MARGIN.min(left / 2)
            }
        };
        Visitor { deadline, lifecycle_until, restart_until: None, turn: None, handshake: None }
    }

    /// Takes the worker's message as far as it gets now.
    pub(super) fn step(
        &mut self,
        visitor: &mut Visitor,
        draft: &mut Draft<'_>,
        mailbox: &Arc<Mailbox>,
        now: Instant,
    ) -> Step {
        if visitor.deadline.is_past() && self.phase != Phase::Stopped {
            return Step::Done(Outcome::Expired);
        }
        if let Some((generation, _)) = visitor.handshake
            && self.phase != Phase::Stopped
            && (generation != self.generation || self.phase != Phase::Running)
        {
            return Step::Done(broken(FailureKind::Eof));
        }
        match self.phase {
            Phase::Idle => return Step::Done(failed(Source::ClientInternal, FailureKind::Unknown)),
            Phase::Stopped => return Step::Done(failed(Source::ClientInternal, FailureKind::Canceled)),
            Phase::Down(due) => return self.wait_for_child(visitor, due, now),
            Phase::Running => {}
        }
        self.expire_handshake(now);
        if let Some(outcome) = self.local_answer(draft) {
            return Step::Done(outcome);
        }
        if self.turns.front().is_some_and(|front| visitor.turn != Some(*front)) {
            let hold = if self.must_wait_for_handshake(draft) { Hold::Handshake } else { Hold::Room };
            return self.hold(visitor, &hold, draft, now);
        }
        if self.must_wait_for_handshake(draft) {
            return self.hold(visitor, &Hold::Handshake, draft, now);
        }
        if !self.has_room() {
            return self.hold(visitor, &Hold::Room, draft, now);
        }
        Step::Queued(self.send(draft, mailbox, now))
    }

    /// Whether something is to be done once the lock is released.
    pub(super) fn needs_attention(&self) -> bool {
        self.wake_gate || self.wake_writer || self.give_child_up || !self.notices.is_empty()
    }

    /// The answer to the running handshake could not be used.
    pub(super) fn handshake_unusable(&mut self) {
        if let Some(handshake) = self.handshake.take() {
            self.failed_handshake = Some((handshake.number, HandshakeFailure::Refused(None)));
            self.wake_gate = true;
        }
    }

    /// The worker goes, whatever became of its message.
    pub(super) fn leave(&mut self, visitor: &Visitor) {
        if let Some(turn) = visitor.turn {
            self.turns.retain(|waiting| *waiting != turn);
            self.wake_gate |= !self.turns.is_empty();
        }
    }

    /// What can be said without the child.
    fn local_answer(&mut self, draft: &Draft<'_>) -> Option<Outcome> {
        let accepted = || Some(Outcome::Accepted(Head::bare(200)));
        if let Class::Cancelled(named) = &draft.class {
            let known = named.as_ref().and_then(|id| self.calls.wire_id_of(id));
            // An `initialize` must not be cancelled (MCP, "Cancellation").
            return if known
                .is_some_and(|(call, _)| !matches!(call.role, Role::Initialize | Role::Handshake { .. }))
            {
                None
            } else {
                accepted()
            };
        }
        if !self.settings.lifecycle_care {
            return None;
        }
        match (&draft.class, self.mode) {
            (Class::Initialize, Mode::Legacy) => self.initialize_from_cache(draft),
            (Class::Initialized, Mode::Unknown) => accepted(),
            (Class::Initialized, Mode::Legacy) if self.initialized_written => accepted(),
            // There is nothing yet that it could refer to.
            (Class::Notification, Mode::Unknown) if draft.era != Era::Modern => accepted(),
            _ => None,
        }
    }

    fn initialize_from_cache(&mut self, draft: &Draft<'_>) -> Option<Outcome> {
        let json = result_response(draft.message.id()?, self.result.as_deref()?);
        let extensions = |params: &str| {
            let [capabilities] = peek::members(params, ["capabilities"]);
            capabilities.and_then(|all| peek::member(all, "extensions")).map(|value| value.get().to_owned())
        };
        let client_name = draft
            .params
            .and_then(|params| peek::member(params, "clientInfo"))
            .and_then(|info| peek::member(info, "name"))
            .and_then(peek::string)
            .map(handshake::clipped);
        let capabilities_differ = draft.params.and_then(|params| extensions(params.get()))
            != self.accepted_params.as_deref().and_then(extensions);
        self.notices.push(Notice::AnsweredFromCache { client_name, capabilities_differ });
        Some(Outcome::Answered(Answer { head: Head::bare(200), json }))
    }

    fn must_wait_for_handshake(&self, draft: &Draft<'_>) -> bool {
        if !self.settings.lifecycle_care || self.mode != Mode::Unknown {
            return false;
        }
        match (&draft.class, draft.era) {
            (Class::Cancelled(_), _) => false,
            (Class::Initialize, _) | (_, Era::Modern) => self.handshake.is_some(),
            _ => true,
        }
    }

    fn hold(&mut self, visitor: &mut Visitor, hold: &Hold, draft: &Draft<'_>, now: Instant) -> Step {
        let until = match hold {
            Hold::Room => visitor.deadline.instant(),
            Hold::Handshake => {
                let needs_handshake = draft.era != Era::Modern && draft.class != Class::Initialize;
                if let (Some((_, waited)), Some((number, failure))) =
                    (visitor.handshake, self.failed_handshake)
                    && needs_handshake
                    && number >= waited
                {
                    return Step::Done(handshake_failed(failure));
                }
                if now >= visitor.lifecycle_until {
                    return Step::Done(handshake_failed(HandshakeFailure::Silent));
                }
                if self.handshake.is_none() {
                    self.start_handshake(now);
                }
                let running = self.handshake.as_ref();
                visitor.handshake =
                    running.map(|handshake| (self.generation, handshake.number)).or(visitor.handshake);
                let until = running.map_or(visitor.lifecycle_until, |handshake| handshake.until);
                Some(until.min(visitor.lifecycle_until))
            }
        };
        self.queue_up(visitor);
        Step::Wait(until)
    }

    fn wait_for_child(&mut self, visitor: &mut Visitor, due: Instant, now: Instant) -> Step {
        let patience = (now + RESTART_PATIENCE).min(visitor.lifecycle_until);
        let until = *visitor.restart_until.get_or_insert(patience);
        if due > until || now >= until {
            return Step::Done(child_unavailable(due.saturating_duration_since(now)));
        }
        self.queue_up(visitor);
        Step::Wait(Some(until))
    }

    fn queue_up(&mut self, visitor: &mut Visitor) {
        if visitor.turn.is_none() {
            visitor.turn = Some(self.next_turn);
            self.turns.push_back(self.next_turn);
            self.next_turn += 1;
        }
    }

    fn has_room(&self) -> bool {
        self.outbox.is_empty()
            || (self.outbox.len() < self.settings.max_queued.max(1) && self.outbox_bytes < MAX_QUEUED_BYTES)
    }

    /// Queues a message that may pass; the name of a call.
    fn send(&mut self, draft: &mut Draft<'_>, mailbox: &Arc<Mailbox>, now: Instant) -> Option<u64> {
        if self.settings.lifecycle_care && self.mode == Mode::Legacy && !self.initialized_written {
            self.initialized_written = true;
            if draft.class != Class::Initialized {
                self.push(line(handshake::INITIALIZED), Purpose::Own);
                self.notices.push(Notice::InitializedOnBehalf);
            }
        }
        if draft.is_notification() {
            let bytes = match &draft.class {
                Class::Cancelled(named) => {
                    let known = named.as_ref().and_then(|id| self.calls.wire_id_of(id));
                    draft.take_cancellation(known.map_or("null", |(_, wire_id)| wire_id))
                }
                _ => draft.take_line(&Wire::default()),
            };
            self.push(bytes, Purpose::Notification(Arc::clone(mailbox)));
            return None;
        }
        let starts =
            self.settings.lifecycle_care && draft.class == Class::Initialize && self.mode == Mode::Unknown;
        let role = match &draft.class {
            _ if starts => {
                let params = draft.params.map(|params| Box::from(params.get())).unwrap_or_default();
                Role::Handshake { params, own: None, since: now }
            }
            Class::Initialize => Role::Initialize,
            Class::Listen => Role::Listen,
            _ => Role::Plain,
        };
        let token = draft.token.map(|token| token.get());
        let modern = draft.era == Era::Modern;
        let wire = self.calls.insert(draft.message.id(), token, role, modern, Some(Arc::clone(mailbox)));
        let bytes = draft.take_line(&wire);
        if starts {
            self.begin_handshake(wire.sequence, "connector", now);
            self.push(bytes, Purpose::Handshake(wire.sequence, self.handshakes));
        } else {
            self.push(bytes, Purpose::Call(wire.sequence));
        }
        Some(wire.sequence)
    }

    /// Starts a handshake of our own.
    fn start_handshake(&mut self, now: Instant) {
        let (stage, params) = handshake::first_attempt(self.accepted_params.as_deref());
        self.attempt_handshake(stage, params, now);
    }

    /// Sends one attempt of a handshake of our own.
    pub(super) fn attempt_handshake(&mut self, stage: Stage, params: String, now: Instant) {
        let role = Role::Handshake { params: Box::from(&*params), own: Some(stage), since: now };
        let wire = self.calls.insert(None, None, role, false, None);
        let trigger = if stage == Stage::Replay { "replay" } else { "synthetic" };
        self.begin_handshake(wire.sequence, trigger, now);
        let request = handshake::request(wire.id.as_deref().unwrap_or("null"), &params);
        self.push(line(&request), Purpose::Handshake(wire.sequence, self.handshakes));
    }

    fn begin_handshake(&mut self, sequence: u64, trigger: &'static str, now: Instant) {
        // A further attempt of the same handshake keeps its number: workers wait for it.
        if self.handshake.is_none() {
            self.handshakes += 1;
        }
        let until = now + self.settings.handshake_limit;
        self.handshake = Some(Handshake { number: self.handshakes, sequence, until, trigger, since: now });
    }

    /// Gives a handshake up that the child has not answered in time. Its late answer still counts.
    fn expire_handshake(&mut self, now: Instant) {
        let Some(handshake) = self.handshake.take_if(|handshake| handshake.until <= now) else { return };
        self.notices.push(Notice::HandshakeFailed {
            trigger: handshake.trigger,
            error_code: None,
            elapsed: now.saturating_duration_since(handshake.since),
        });
        self.failed_handshake = Some((handshake.number, HandshakeFailure::Silent));
        self.silent_handshakes += 1;
        self.give_child_up |= self.silent_handshakes >= MAX_SILENT_HANDSHAKES;
        self.wake_gate = true;
    }

    /// Queues a message of our own, unless too many wait already.
    pub(super) fn push_own(&mut self, json: &str) {
        if self.outbox_own < MAX_QUEUED_OWN {
            self.push(line(json), Purpose::Own);
        }
    }

    fn push(&mut self, bytes: Vec<u8>, purpose: Purpose) {
        self.outbox_bytes += bytes.len();
        self.outbox_own += usize::from(matches!(purpose, Purpose::Own));
        self.outbox.push_back(Line { bytes, purpose });
        self.wake_writer |= self.writer_idle;
    }

    /// The next line to write.
    pub(super) fn pop(&mut self) -> Option<Line> {
        let line = self.outbox.pop_front()?;
        self.forget_size(&line);
        Some(line)
    }

    fn forget_size(&mut self, line: &Line) {
        self.outbox_bytes -= line.bytes.len();
        self.outbox_own -= usize::from(matches!(line.purpose, Purpose::Own));
        self.wake_gate |= !self.turns.is_empty();
    }

    /// A handshake's request is in the pipe: its time counts from now.
    pub(super) fn handshake_written(&mut self, number: u64, now: Instant) {
        if let Some(handshake) = self.handshake.as_mut().filter(|handshake| handshake.number == number) {
            handshake.until = now + self.settings.handshake_limit;
            self.wake_gate = true;
        }
    }

    /// The command's deadline passed: takes its call back, or tells the child that nobody waits for it.
    pub(super) fn give_up(&mut self, sequence: u64, now: Instant) {
        let queued = self.outbox.iter().position(
            |line| matches!(line.purpose, Purpose::Call(name) | Purpose::Handshake(name, _) if name == sequence),
        );
        if let Some(line) = queued.and_then(|index| self.outbox.remove(index)) {
            self.forget_size(&line);
            self.calls.withdraw(sequence);
            if self.handshake.as_ref().is_some_and(|handshake| handshake.sequence == sequence) {
                self.handshake = None;
                self.wake_gate = true;
            }
            return;
        }
        match self.calls.get_mut(sequence) {
            // The handshake serves others too: it goes on, and must not be cancelled.
            Some(Call { role: Role::Handshake { .. }, mailbox, .. }) => *mailbox = None,
            Some(call) => {
                let cancellable = call.role != Role::Initialize;
                if let Some(wire_id) = self.calls.abandon(sequence, now).filter(|_| cancellable) {
                    self.push_own(&handshake::cancellation(&wire_id));
                }
            }
            None => {}
        }
    }

    /// A notification's deadline passed: takes it back if it still waits.
    pub(super) fn withdraw_notification(&mut self, mailbox: &Arc<Mailbox>) {
        let queued = self.outbox.iter().position(
            |line| matches!(&line.purpose, Purpose::Notification(waiting) if Arc::ptr_eq(waiting, mailbox)),
        );
        if let Some(line) = queued.and_then(|index| self.outbox.remove(index)) {
            self.forget_size(&line);
        }
    }

    /// A new child runs.
    pub(super) fn open(&mut self, generation: u64) {
        if self.phase != Phase::Stopped {
            self.phase = Phase::Running;
        }
        self.generation = generation;
        self.mode = Mode::Unknown;
        self.handshake = None;
        self.failed_handshake = None;
        self.initialized_written = false;
        self.result = None;
        self.refused_methods.clear();
        self.silent_handshakes = 0;
        self.give_child_up = false;
        self.writer_idle = false;
        self.wake_gate = true;
    }

    /// The child ended, or everything does: nothing more is let in.
    pub(super) fn close(&mut self, phase: Phase) {
        if self.phase != Phase::Stopped {
            self.phase = phase;
        }
        self.handshake = None;
        self.wake_gate = true;
        self.wake_writer = true;
    }

    /// Ends every call and every queued line. `written` is how calls that the child has seen end,
    /// `queued` how the others do.
    pub(super) fn end_all(&mut self, written: &Outcome, queued: &Outcome) -> Vec<(Arc<Mailbox>, Outcome)> {
        let mut ended = Vec::new();
        let mut unwritten = BTreeSet::new();
        while let Some(line) = self.pop() {
            match line.purpose {
                Purpose::Call(sequence) | Purpose::Handshake(sequence, _) => {
                    unwritten.insert(sequence);
                }
                Purpose::Notification(mailbox) => ended.push((mailbox, queued.clone())),
                Purpose::Own => {}
            }
        }
        for call in self.calls.clear() {
            let outcome = if unwritten.contains(&call.sequence) { queued } else { written };
            ended.extend(call.mailbox.map(|mailbox| (mailbox, outcome.clone())));
        }
        ended
    }
}

/// The child is gone or went away during the call.
pub(super) fn broken(kind: FailureKind) -> Outcome {
    failed(Source::TransportClosed, kind)
}

/// A failure without any reply.
pub(super) fn failed(source: Source, kind: FailureKind) -> Outcome {
    Outcome::Failed(Failure::broken(source, kind))
}

fn child_unavailable(due: Duration) -> Outcome {
    let note = LifecycleNote {
        reason: "child_restarting",
        server_error_code: None,
        retry_after_ms: Some(super::notice::millis(due)),
    };
    let (source, kind) = (Source::TransportClosed, FailureKind::ChildUnavailable);
    Outcome::Failed(Failure::Lifecycle { status: 503, source, kind, note })
}

fn handshake_failed(failure: HandshakeFailure) -> Outcome {
    let (status, source, kind, server_error_code) = match failure {
        HandshakeFailure::Refused(code) => (502, Source::Protocol, FailureKind::McpHandshakeFailed, code),
        HandshakeFailure::Silent => (504, Source::Timeout, FailureKind::McpHandshakeTimeout, None),
    };
    let note = LifecycleNote { reason: "handshake", server_error_code, retry_after_ms: None };
    Outcome::Failed(Failure::Lifecycle { status, source, kind, note })
}
