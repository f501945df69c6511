//! The handshake of a child from its request to what its answer decides.
//!
//! Invariant: at most one runs at a time, whoever started it, and it belongs to the child: it goes on
//! when the command that caused it is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::jsonrpc::Envelope;
use crate::mcp::bridge::{Fact, own};

use super::calls::{Call, Role};
use super::draft::line;
use super::handshake::{self, Stage};
use super::notice::Notice;
use super::outbox::Purpose;
use super::session::{Mode, Session};

/// Handshakes in a row that may stay unanswered before the child is replaced.
const MAX_SILENT_HANDSHAKES: u32 = 2;

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
    /// What is asked.
    pub(super) kind: Test,
    /// How long it may take once it is written.
    pub(super) limit: Duration,
    /// It is in the pipe.
    pub(super) written: bool,
    /// A `server/discover` that follows a refused `initialize`.
    pub(super) after_refusal: bool,
    /// An `initialize` that follows a `server/discover` which was answered …
    pub(super) after_discovery: bool,
    /// … or was not.
    pub(super) after_silence: bool,
    /// The call of that `server/discover`.
    pub(super) asked_as: Option<u64>,
}

/// What a child is asked to find out how it must be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Initialize,
    Discover,
}

/// How a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandshakeFailure {
    /// With this error code.
    Refused(Option<i64>),
    /// Without an answer in time.
    Silent,
}

impl Session {
    /// Starts a handshake of our own.
    pub(super) fn start_handshake(&mut self, now: Instant) {
        let (stage, params) = handshake::first_attempt(self.accepted_params.as_deref());
        self.attempt_handshake(stage, params, now);
    }

    /// Sends one attempt of a handshake of our own.
    pub(super) fn attempt_handshake(&mut self, stage: Stage, params: String, now: Instant) {
        let role = Role::Handshake { params: Box::from(&*params), own: Some(stage), since: now };
        let wire = self.calls.insert(None, None, role, false, None);
        self.begin_handshake(wire.sequence, trigger(Some(stage)), now);
        let request = handshake::request(wire.id.as_deref().unwrap_or("null"), &params);
        self.push(line(&request), Purpose::Handshake(wire.sequence, self.handshakes));
    }

    pub(super) fn begin_handshake(&mut self, sequence: u64, trigger: &'static str, now: Instant) {
        self.begin_test(sequence, Test::Initialize, self.settings.handshake_limit, trigger, now);
    }

    /// Notes that a test is on its way.
    pub(super) fn begin_test(
        &mut self,
        sequence: u64,
        kind: Test,
        limit: Duration,
        trigger: &'static str,
        now: Instant,
    ) {
        // A further attempt of the same handshake keeps its number: workers wait for it.
        if self.handshake.is_none() {
            self.handshakes += 1;
        }
        self.handshake = Some(Handshake {
            number: self.handshakes,
            sequence,
            until: now + limit,
            trigger,
            since: now,
            kind,
            limit,
            written: false,
            after_refusal: false,
            after_discovery: false,
            after_silence: false,
            asked_as: None,
        });
    }

    /// Gives a handshake up that the child has not answered in time. Its late answer still counts.
    pub(super) fn expire_handshake(&mut self, now: Instant) {
        let Some(handshake) = self.handshake.take_if(|handshake| handshake.until <= now) else { return };
        if handshake.kind == Test::Discover {
            return self.discovery_silent(&handshake, now);
        }
        self.notices.push(Notice::HandshakeFailed {
            trigger: handshake.trigger,
            error_code: None,
            elapsed: now.saturating_duration_since(handshake.since),
        });
        self.failed_handshake = Some((handshake.number, HandshakeFailure::Silent));
        self.silent_handshakes += 1;
        self.give_child_up |= self.silent_handshakes >= MAX_SILENT_HANDSHAKES || handshake.after_silence;
        self.wake_gate = true;
    }

    /// A handshake's request is in the pipe: its time counts from now.
    pub(super) fn handshake_written(&mut self, number: u64, now: Instant) {
        if let Some(handshake) = self.handshake.as_mut().filter(|handshake| handshake.number == number) {
            handshake.until = now + handshake.limit;
            handshake.written = true;
            self.wake_gate = true;
        }
    }

    pub(super) fn on_handshake_answer(
        &mut self,
        call: &mut Call,
        envelope: &Envelope<'_>,
        json: &str,
        now: Instant,
    ) {
        let Role::Handshake { params, own, since } = call.role.clone() else { return };
        if self.mode != Mode::Unknown {
            return;
        }
        let elapsed = now.saturating_duration_since(since);
        let bridged = self.handshake.as_ref().is_some_and(|running| running.trigger == "bridge");
        let trigger = if bridged && own.is_some() { "bridge" } else { trigger(own) };
        if let Some(result) = envelope.result.filter(|_| envelope.error.is_none()) {
            self.mode = Mode::Legacy;
            self.handshake = None;
            self.silent_handshakes = 0;
            self.result = Some(Arc::from(result.get()));
            if !params.is_empty() {
                self.accepted_params = Some(params);
            }
            if own.is_some() {
                self.initialized_written = true;
                self.push(line(handshake::INITIALIZED), Purpose::Own);
            }
            self.notices.push(Notice::Initialized {
                trigger,
                protocol_version: handshake::protocol_version(result),
                server_name: handshake::server_info(result, "name"),
                elapsed,
            });
            self.learn(Some(Fact::Yes), None, "initialize_result", elapsed);
            self.wake_gate = true;
            return;
        }
        let error_code = envelope.error.and_then(own::error_code);
        // Only the running attempt decides; an earlier one that was given up merely came late.
        let running = self.handshake.as_ref().filter(|running| running.sequence == call.sequence);
        let Some(number) = running.map(|running| running.number) else { return };
        if let (Some(stage), Some(error)) = (own, envelope.error)
            && let Some((stage, params)) = handshake::next_attempt(stage, &params, error)
        {
            let before = self.handshake.clone();
            self.attempt_handshake(stage, params, now);
            if let (Some(next), Some(before)) = (self.handshake.as_mut(), before) {
                next.after_silence = before.after_silence;
                next.asked_as = before.asked_as;
                next.trigger = before.trigger;
            }
            return;
        }
        if self.handshake_refused(call, envelope, json, now) {
            return;
        }
        self.handshake = None;
        self.silent_handshakes = 0;
        if own.is_some() {
            self.failed_handshake = Some((number, HandshakeFailure::Refused(error_code)));
        }
        self.notices.push(Notice::HandshakeFailed { trigger, error_code, elapsed });
        self.wake_gate = true;
    }

    /// The answer to the running handshake could not be used.
    pub(super) fn handshake_unusable(&mut self) {
        if let Some(handshake) = self.handshake.take() {
            self.failed_handshake = Some((handshake.number, HandshakeFailure::Refused(None)));
            self.wake_gate = true;
        }
    }
}

/// The word for what caused a handshake.
fn trigger(own: Option<Stage>) -> &'static str {
    match own {
        None => "connector",
        Some(Stage::Replay) => "replay",
        Some(Stage::Bridge) => "bridge",
        Some(_) => "synthetic",
    }
}
