//! Everything that is known about the running child, and who may write to it next.
//!
//! Invariant: while the child's mode is unknown, nothing reaches it but a handshake and messages of
//! the era that needs none; whoever has to wait is let in by the order of arrival.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::jsonrpc::result_response;
use crate::mcp::{Answer, FailureKind, Head, Outcome, Source};
use crate::net::Deadline;

use super::calls::{Call, Calls, Role, Wire};
use super::draft::{Class, Draft, line};
use super::eras::Crossing;
use super::handshake;
use super::handshaking::{Handshake, HandshakeFailure};
use super::known::Knowledge;
use super::mailbox::Mailbox;
use super::notice::Notice;
use super::outbox::{Line, Outbox, Purpose};
use super::outcomes::{broken, child_unavailable, failed, handshake_failed};
use crate::mcp::era::Era;
use crate::mcp::peek;

/// How long one command waits for a child to come back.
const RESTART_PATIENCE: Duration = Duration::from_secs(5);
/// What a command keeps of its time to be answered that a lifecycle step took too long.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);

/// The state that all threads of a binding share.
pub(super) struct Session {
    /// What there is to talk to.
    pub(super) phase: Phase,
    /// Number of the child, 1 first.
    pub(super) generation: u64,
    /// How the last child was lost.
    pub(super) lost_by: FailureKind,
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
    pub(super) result: Option<Arc<str>>,
    /// What is known about the eras of the server.
    pub(super) knowledge: Knowledge,
    /// Workers whose messages have to be looked at again.
    pub(super) again: Vec<Arc<Mailbox>>,
    /// The last parameters that a child accepted, kept when it ends.
    pub(super) accepted_params: Option<Box<str>>,
    /// Methods of this child's requests that have been refused.
    pub(super) refused_methods: BTreeSet<String>,
    /// Handshakes in a row that this child left unanswered.
    pub(super) silent_handshakes: u32,
    pub(super) settings: Settings,
    outbox: Outbox,
    /// The child's stdin, while it may be written to.
    stdin: Option<Arc<OwnedFd>>,
    /// A worker writes its own line; the writer must wait.
    direct: bool,
    /// Handshakes so far, over all children.
    pub(super) handshakes: u64,
    turns: VecDeque<u64>,
    next_turn: u64,
}

/// What the session is told once.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Initialise children and keep them initialised.
    pub(super) lifecycle_care: bool,
    /// Translate messages of the other era.
    pub(super) bridge: bool,
    /// How long a child may take to answer `server/discover`.
    pub(super) probe_window: Duration,
    /// How long a child may take to answer `initialize`.
    pub(super) handshake_limit: Duration,
    /// How long both refusals of a child are repeated to connectors without asking it again.
    pub(super) refusal_kept: Duration,
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
pub(super) enum Mode {
    /// Nothing proves it yet.
    Unknown,
    /// It was initialised.
    Legacy,
    /// It answered a message of the era without handshakes.
    Modern,
}

impl Mode {
    /// The word for status.
    pub(super) fn label(self) -> &'static str {
        match self {
            Mode::Unknown => "none",
            Mode::Legacy => "legacy",
            Mode::Modern => "modern",
        }
    }
}

/// A worker on its way in.
#[derive(Debug)]
pub(super) struct Visitor {
    /// The command's deadline.
    pub(super) deadline: Deadline,
    /// When it stops waiting for what only the lifecycle needs.
    lifecycle_until: Instant,
    restart_until: Option<Instant>,
    /// Its own message is the test that runs: the name of the call.
    pub(super) test: Option<u64>,
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
    /// To be translated for the child first.
    Cross(Crossing),
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
            lost_by: FailureKind::Eof,
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
            knowledge: Knowledge::default(),
            again: Vec::new(),
            accepted_params: None,
            refused_methods: BTreeSet::new(),
            silent_handshakes: 0,
            outbox: Outbox::new(settings.max_queued),
            stdin: None,
            direct: false,
            settings,
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
        Visitor { deadline, lifecycle_until, restart_until: None, test: None, turn: None, handshake: None }
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
            if !self.ended_by_test(generation) {
                return Step::Done(broken(self.lost_by));
            }
            visitor.handshake = None;
            visitor.test = None;
        }
        match self.phase {
            Phase::Idle => return Step::Done(failed(Source::ClientInternal, FailureKind::Unknown)),
            Phase::Stopped => return Step::Done(failed(Source::ClientInternal, FailureKind::Canceled)),
            Phase::Down(due) => return self.wait_for_child(visitor, due, now),
            Phase::Running => {}
        }
        self.expire_handshake(now);
        if let Some(outcome) = self.known_answer(visitor, draft, now).or_else(|| self.local_answer(draft)) {
            return Step::Done(outcome);
        }
        if let Some(crossing) = self.crossing(draft) {
            self.announce_bridge(crossing.direction);
            self.queue_up(visitor);
            return Step::Cross(crossing);
        }
        if self.turns.front().is_some_and(|front| visitor.turn != Some(*front)) {
            let hold = if self.must_wait_for_handshake(draft) { Hold::Handshake } else { Hold::Room };
            return self.hold(visitor, &hold, draft, now);
        }
        if self.must_wait_for_handshake(draft) {
            return self.hold(visitor, &Hold::Handshake, draft, now);
        }
        if !self.outbox.has_room() {
            return self.hold(visitor, &Hold::Room, draft, now);
        }
        Step::Queued(self.send(draft, mailbox, now))
    }

    /// Whether something is to be done once the lock is released.
    pub(super) fn needs_attention(&self) -> bool {
        self.wake_gate
            || self.wake_writer
            || self.give_child_up
            || !self.notices.is_empty()
            || !self.again.is_empty()
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
            (Class::Notification, Mode::Unknown) if draft.era != Era::Modern || self.settings.bridge => {
                accepted()
            }
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
            .map(crate::mcp::bridge::own::clipped);
        let capabilities_differ = draft.params.and_then(|params| extensions(params.get()))
            != self.accepted_params.as_deref().and_then(extensions);
        self.notices.push(Notice::AnsweredFromCache { client_name, capabilities_differ });
        Some(Outcome::Answered(Answer { head: Head::bare(200), json }))
    }

    fn must_wait_for_handshake(&self, draft: &Draft<'_>) -> bool {
        if self.awaits_era(draft) {
            return true;
        }
        if !self.settings.lifecycle_care || self.mode != Mode::Unknown {
            return false;
        }
        match (&draft.class, draft.era) {
            (Class::Cancelled(_), _) => false,
            (Class::Initialize, _) | (_, Era::Modern) => self.handshake.is_some(),
            _ => true,
        }
    }

    fn hold(&mut self, visitor: &mut Visitor, hold: &Hold, draft: &mut Draft<'_>, now: Instant) -> Step {
        let until = match hold {
            Hold::Room => visitor.deadline.instant(),
            Hold::Handshake => {
                let needs_handshake = (draft.era != Era::Modern || self.settings.bridge)
                    && draft.class != Class::Initialize
                    && self.mode == Mode::Unknown;
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
                    self.start_for(visitor, draft, now);
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
        self.set_level(draft.log_level);
        let starts = (self.settings.lifecycle_care || self.settings.bridge)
            && draft.class == Class::Initialize
            && self.mode == Mode::Unknown;
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

    /// Queues a message of our own, unless too many wait already.
    pub(super) fn push_own(&mut self, json: &str) {
        if self.outbox.has_room_for_own() {
            self.push(line(json), Purpose::Own);
        }
    }

    /// Queues a line whatever waits already.
    pub(super) fn push(&mut self, bytes: Vec<u8>, purpose: Purpose) {
        self.outbox.push(bytes, purpose);
        self.wake_writer |= self.writer_idle;
    }

    /// The next line for the writer, unless a worker is writing.
    pub(super) fn pop(&mut self) -> Option<Line> {
        if self.direct {
            return None;
        }
        let line = self.outbox.pop()?;
        self.wake_gate |= !self.turns.is_empty();
        Some(line)
    }

    /// The only line that waits, for a worker to write itself: handing it to the writer, which sleeps,
    /// would cost more than writing it.
    pub(super) fn take_direct(&mut self) -> Option<(Line, Arc<OwnedFd>)> {
        if self.direct || !self.writer_idle || self.outbox.len() != 1 || self.phase != Phase::Running {
            return None;
        }
        let stdin = self.stdin.clone()?;
        let line = self.outbox.pop()?;
        self.direct = true;
        self.wake_writer = false;
        Some((line, stdin))
    }

    /// The worker is done; a line that does not fit into the pipe is left to the writer.
    pub(super) fn finish_direct(&mut self, generation: u64, rest: Option<Line>) -> Option<Line> {
        if generation != self.generation || self.phase != Phase::Running {
            return rest;
        }
        self.direct = false;
        if let Some(line) = rest {
            self.outbox.put_back(line);
        }
        self.wake_writer |= self.writer_idle && self.outbox.len() > 0;
        None
    }

    /// The command's deadline passed: takes its call back, or tells the child that nobody waits for it.
    pub(super) fn give_up(&mut self, sequence: u64, now: Instant) {
        if self.outbox.take_back_call(sequence) {
            self.wake_gate |= !self.turns.is_empty();
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
        if self.outbox.take_back_notification(mailbox) {
            self.wake_gate |= !self.turns.is_empty();
        }
    }

    /// A new child runs.
    pub(super) fn open(&mut self, generation: u64, stdin: Arc<OwnedFd>) {
        if self.phase != Phase::Stopped {
            self.phase = Phase::Running;
            self.stdin = Some(stdin);
        }
        self.direct = false;
        self.generation = generation;
        self.mode = Mode::Unknown;
        self.handshake = None;
        self.failed_handshake = None;
        self.initialized_written = false;
        self.result = None;
        self.knowledge.next_child();
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
        self.stdin = None;
        self.handshake = None;
        self.wake_gate = true;
        self.wake_writer = true;
    }

    /// The revision that the child chose.
    pub(super) fn negotiated(&self) -> Option<String> {
        let result = serde_json::from_str(self.result.as_deref()?).ok()?;
        handshake::protocol_version(result)
    }

    /// Ends every call and every queued line. `written` is how calls that the child has seen end,
    /// `queued` how the others do.
    pub(super) fn end_all(&mut self, written: &Outcome, queued: &Outcome) -> Vec<(Arc<Mailbox>, Outcome)> {
        let mut ended = Vec::new();
        let mut unwritten = BTreeSet::new();
        while let Some(line) = self.outbox.pop() {
            match line.purpose {
                Purpose::Call(_) | Purpose::Handshake(..) if line.written > 0 => {}
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
