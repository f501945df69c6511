//! Which era the child speaks, and how that is found out without harming it.
//!
//! The connector's own era is tried first, and only when a message needs it. Invariant: a child whose
//! era is settled sees messages of that era alone, and no message but a test reaches one whose era is
//! not.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::jsonrpc::Envelope;
use crate::mcp::bridge::{Direction, Fact, evidence, modern, own};
use crate::mcp::era::Era;
use crate::mcp::{Answer, Head, Outcome, peek};
use crate::net::Deadline;

use super::calls::{Call, Role};
use super::draft::{Class, Draft, line};
use super::handshake::Stage;
use super::handshaking::{Handshake, HandshakeFailure, Test};
use super::incoming::for_caller;
use super::notice::Notice;
use super::outbox::Purpose;
use super::outcomes::handshake_failed;
use super::session::{Mode, Session, Visitor};

/// A discovery is not read again before it is so old, whatever it says itself.
const DISCOVERY_KEPT: Duration = Duration::from_secs(60);
/// Shortest time that a child gets to answer a test, whatever its command can spare …
const MIN_WINDOW: Duration = Duration::from_secs(1);
/// … which is this part of what is left to it.
const WINDOW_SHARE: f64 = 0.4;

/// How a message has to be changed, and what for.
#[derive(Clone)]
pub(super) struct Crossing {
    pub(super) direction: Direction,
    /// The child's `initialize` or `server/discover` result; empty if it is not known.
    pub(super) about: Arc<str>,
}

impl Session {
    /// How the message must be changed for this child, if it must.
    pub(super) fn crossing(&self, draft: &Draft<'_>) -> Option<Crossing> {
        if !self.settings.bridge || draft.crossed {
            return None;
        }
        let text = |known: &Option<Arc<str>>| known.clone().unwrap_or_else(|| Arc::from("{}"));
        match (self.mode, draft.era) {
            (Mode::Legacy, Era::Modern) => {
                Some(Crossing { direction: Direction::ModernToLegacy, about: text(&self.result) })
            }
            (Mode::Modern, Era::Legacy) => (!self.wants_discovery(draft, Instant::now())).then(|| Crossing {
                direction: Direction::LegacyToModern,
                about: text(&self.knowledge.discovered),
            }),
            _ => None,
        }
    }

    /// Whether a message of the other era has to wait for what the child says of itself.
    fn wants_discovery(&self, draft: &Draft<'_>, now: Instant) -> bool {
        if !draft.needs_discovery() {
            return false;
        }
        let old =
            draft.class == Class::Initialize && self.knowledge.fresh_until.is_some_and(|until| until <= now);
        // A repetition that fails leaves what is known in use.
        if self.knowledge.discovered.is_some() { old } else { !self.knowledge.asked_again }
    }

    /// Keeps what the child says of itself.
    fn discovered(&mut self, envelope: &Envelope<'_>, json: &str, now: Instant) {
        self.knowledge.unbridgeable = !own::is_bridgeable(json);
        if let Some(result) = envelope.result {
            let ttl = peek::members(result.get(), ["ttlMs"])[0].and_then(|ttl| ttl.get().parse().ok());
            let kept = ttl.map_or(DISCOVERY_KEPT, Duration::from_millis).max(DISCOVERY_KEPT);
            self.knowledge.discovered = Some(Arc::from(result.get()));
            self.knowledge.fresh_until = now.checked_add(kept);
        }
    }

    /// The first message of a direction is worth a line in the log.
    pub(super) fn announce_bridge(&mut self, direction: Direction) {
        if !std::mem::replace(&mut self.knowledge.announced[direction as usize], true) {
            self.notices.push(Notice::BridgeActive(direction));
        }
    }

    /// What can be said about a message from what was found out a moment ago.
    pub(super) fn known_answer(
        &mut self,
        visitor: &Visitor,
        draft: &Draft<'_>,
        now: Instant,
    ) -> Option<Outcome> {
        if let (Some(test), Some((call, json))) = (visitor.test, &self.knowledge.answer)
            && test == *call
        {
            return Some(answered(json.clone()));
        }
        if self.mode == Mode::Modern
            && self.knowledge.unbridgeable
            && self.settings.bridge
            && draft.era == Era::Legacy
            && !draft.is_notification()
        {
            let refusal = self.knowledge.legacy_refusal.as_deref();
            return Some(match refusal {
                Some(json) => answered(own::with_id(json, draft.message.id())),
                None => handshake_failed(HandshakeFailure::Refused(None)),
            });
        }
        if self.mode != Mode::Unknown || !self.knowledge.refused(now) || draft.is_notification() {
            return None;
        }
        let refusal = match draft.era {
            Era::Modern => {
                self.knowledge.modern_refusal.as_deref().or(self.knowledge.legacy_refusal.as_deref())
            }
            _ => self.knowledge.legacy_refusal.as_deref(),
        };
        refusal.map(|json| answered(own::with_id(json, draft.message.id())))
    }

    /// Whether a message has to wait until the child's era is settled.
    pub(super) fn awaits_era(&self, draft: &Draft<'_>) -> bool {
        if !self.settings.bridge {
            return false;
        }
        match (self.mode, draft.era) {
            (Mode::Unknown, Era::Modern) if draft.is_notification() => false,
            (Mode::Unknown, Era::Modern) => self.handshake.is_some() || self.knowledge.modern != Fact::Yes,
            (Mode::Unknown, Era::Legacy) => self.knowledge.legacy == Fact::No && !draft.is_notification(),
            (Mode::Modern, Era::Legacy) => self.wants_discovery(draft, Instant::now()),
            _ => false,
        }
    }

    /// Starts what a waiting message needs; nothing of it is running yet.
    pub(super) fn start_for(&mut self, visitor: &mut Visitor, draft: &mut Draft<'_>, now: Instant) {
        if !self.settings.bridge {
            return self.start_handshake(now);
        }
        if self.mode == Mode::Modern {
            self.knowledge.asked_again = true;
            self.knowledge.fresh_until = now.checked_add(DISCOVERY_KEPT);
            return self.ask(None, self.window(visitor.deadline), now);
        }
        let modern = draft.era == Era::Modern;
        if modern {
            let meta = modern::meta_of(draft.message);
            self.knowledge.params =
                Some(modern::initialize_params(crate::mcp::era::LEGACY_VERSIONS[0], meta));
        }
        let asks = match self.knowledge.modern {
            Fact::No => self.knowledge.legacy == Fact::No && !self.knowledge.exits,
            Fact::Unknown => modern || self.knowledge.legacy == Fact::No,
            Fact::Yes => !modern && self.knowledge.legacy == Fact::No,
        };
        if asks && !self.knowledge.asked {
            let window = self.window(visitor.deadline);
            let own = draft.class == Class::Call && draft.message.method() == "server/discover";
            if own {
                visitor.test = Some(self.ask_with(draft, window, now));
            } else {
                self.ask(None, window, now);
            }
        } else if modern {
            self.start_bridge_handshake(now);
        } else {
            self.start_handshake(now);
        }
    }

    fn window(&self, deadline: Deadline) -> Duration {
        let share =
            deadline.remaining().map_or(self.settings.probe_window, |left| left.mul_f64(WINDOW_SHARE));
        self.settings.probe_window.min(share).max(MIN_WINDOW.min(self.settings.probe_window))
    }

    fn start_bridge_handshake(&mut self, now: Instant) {
        match self.knowledge.params.take() {
            Some(params) => self.attempt_handshake(Stage::Bridge, params, now),
            None => self.start_handshake(now),
        }
    }

    /// Asks the child with a connector's own `server/discover`; the name of the call.
    fn ask_with(&mut self, draft: &mut Draft<'_>, window: Duration, now: Instant) -> u64 {
        let token = draft.token.map(|token| token.get());
        let wire = self.calls.insert(draft.message.id(), token, Role::Discover, true, None);
        let bytes = draft.take_line(&wire);
        self.begin_test(wire.sequence, Test::Discover, window, "bridge", now);
        self.push(bytes, Purpose::Handshake(wire.sequence, self.handshakes));
        wire.sequence
    }

    /// Asks the child with a `server/discover` of our own.
    fn ask(&mut self, trigger: Option<&'static str>, window: Duration, now: Instant) {
        let wire = self.calls.insert(None, None, Role::Discover, true, None);
        let request =
            own::request(wire.id.as_deref().unwrap_or("null"), "server/discover", &own::discover_params());
        self.begin_test(wire.sequence, Test::Discover, window, trigger.unwrap_or("bridge"), now);
        self.push(line(&request), Purpose::Handshake(wire.sequence, self.handshakes));
        self.knowledge.asked = true;
    }

    /// The child's answer to `server/discover`.
    pub(super) fn on_discovery(&mut self, call: &Call, envelope: &Envelope<'_>, json: &str, now: Instant) {
        let verdict = evidence::of_discovery(envelope);
        let is_modern = verdict == evidence::Discovery::Modern;
        let running = self.handshake.as_ref().filter(|running| running.sequence == call.sequence).cloned();
        let mine = for_caller(call, envelope, json);
        if self.mode == Mode::Modern {
            if is_modern {
                self.discovered(envelope, json, now);
            }
            if running.is_some() {
                self.handshake = None;
                self.wake_gate = true;
            }
            return;
        }
        self.knowledge.asked = true;
        let Some(running) = running else {
            // The handshake that was begun meanwhile decides.
            if self.mode == Mode::Unknown {
                self.knowledge.late = Some((is_modern, Box::from(json)));
            }
            return;
        };
        self.notices
            .push(Notice::Probed("server_discover", if is_modern { "supported" } else { "unsupported" }));
        if is_modern {
            self.knowledge.answer = Some((call.sequence, mine));
            let evidence = if envelope.error.is_some() { "modern_error" } else { "discover_result" };
            self.settle_modern(envelope, json, evidence, running.since, now);
            return;
        }
        if verdict == evidence::Discovery::LegacyOnly {
            self.knowledge.legacy = Fact::Yes;
        }
        self.modern_refused(Some(json), "probe_error", running.since, now);
    }

    /// The child speaks the era without handshakes.
    fn settle_modern(
        &mut self,
        envelope: &Envelope<'_>,
        json: &str,
        evidence: &'static str,
        since: Instant,
        now: Instant,
    ) {
        self.mode = Mode::Modern;
        self.handshake = None;
        self.silent_handshakes = 0;
        self.wake_gate = true;
        self.discovered(envelope, json, now);
        self.knowledge.refused_until = None;
        self.learn(None, Some(Fact::Yes), evidence, now.saturating_duration_since(since));
    }

    /// The child does not speak the era without handshakes: the other one is next, unless it was first.
    fn modern_refused(&mut self, json: Option<&str>, evidence: &'static str, since: Instant, now: Instant) {
        self.learn(None, Some(Fact::No), evidence, now.saturating_duration_since(since));
        self.knowledge.modern_refusal = json.map(Box::from);
        if self.handshake.as_ref().is_some_and(|test| test.after_refusal) {
            self.both_refused(now);
        } else {
            self.start_bridge_handshake(now);
            if let Some(next) = self.handshake.as_mut() {
                next.after_discovery = true;
            }
        }
    }

    /// The child refused `initialize` with `json`; true if that is not the last word.
    pub(super) fn handshake_refused(
        &mut self,
        call: &mut Call,
        envelope: &Envelope<'_>,
        json: &str,
        now: Instant,
    ) -> bool {
        let code = envelope.error.and_then(own::error_code);
        if !self.settings.bridge || !code.is_some_and(evidence::refuses_handshake) {
            return false;
        }
        self.notices.push(Notice::Probed("initialize", "unsupported"));
        self.knowledge.legacy_refusal = Some(Box::from(json));
        // Its worker comes again and waits with the others for what the other test brings.
        self.again.extend(call.mailbox.take());
        let since = self.handshake.as_ref().map_or(now, |test| test.since);
        match self.knowledge.late.take() {
            Some((true, json)) => {
                if let Ok(envelope) = Envelope::parse(json.as_bytes()) {
                    if let Some(test) = self.handshake.as_ref().and_then(|test| test.asked_as) {
                        self.knowledge.answer = Some((test, json.to_string()));
                    }
                    self.learn(Some(Fact::No), None, "discover_result", Duration::ZERO);
                    self.settle_modern(&envelope, &json, "discover_result", since, now);
                }
            }
            Some((false, json)) => {
                self.knowledge.modern_refusal = Some(json);
                self.both_refused(now);
            }
            None if self.knowledge.exits => self.both_refused(now),
            None if !self.knowledge.asked
                || (code == Some(own::UNSUPPORTED_VERSION) && !self.knowledge.asked_again) =>
            {
                self.knowledge.asked_again = self.knowledge.asked;
                self.ask(None, self.settings.probe_window, now);
                self.knowledge.legacy = Fact::No;
                if let Some(test) = self.handshake.as_mut() {
                    test.after_refusal = true;
                }
            }
            None => self.both_refused(now),
        }
        true
    }

    fn both_refused(&mut self, now: Instant) {
        self.learn(Some(Fact::No), Some(Fact::No), "probe_error", Duration::ZERO);
        // Asked again once this is over: the server may have been mended.
        self.knowledge.legacy = Fact::Unknown;
        self.knowledge.modern = Fact::Unknown;
        self.knowledge.asked = false;
        self.knowledge.asked_again = false;
        self.knowledge.refused_until = Some(now + self.settings.refusal_kept);
        let number = self.handshake.take().map_or(self.handshakes, |handshake| handshake.number);
        let code = self
            .knowledge
            .legacy_refusal
            .as_deref()
            .and_then(|json| Envelope::parse(json.as_bytes()).ok())
            .and_then(|view| view.error)
            .and_then(own::error_code);
        self.failed_handshake = Some((number, HandshakeFailure::Refused(code)));
        self.wake_gate = true;
    }

    /// A child did not answer `server/discover` in its window: it may be slow, so it is not harmed.
    pub(super) fn discovery_silent(&mut self, test: &Handshake, now: Instant) {
        self.knowledge.asked = true;
        self.notices.push(Notice::Probed("server_discover", "timeout"));
        if self.mode == Mode::Modern {
            self.wake_gate = true;
            return;
        }
        self.learn(None, Some(Fact::No), "probe_timeout", now.saturating_duration_since(test.since));
        self.knowledge.modern_refusal = None;
        if test.after_refusal {
            return self.both_refused(now);
        }
        self.start_bridge_handshake(now);
        if let Some(next) = self.handshake.as_mut() {
            next.asked_as = Some(test.sequence);
            next.after_silence = true;
        }
    }

    /// The child ended. Whether it did so because it was asked what it does not know.
    pub(super) fn note_probe_exit(&mut self) -> bool {
        let by_test =
            |test: &Handshake| (test.kind == Test::Discover && test.written) || test.after_discovery;
        let asked = self.mode == Mode::Unknown
            && !self.knowledge.exits
            && self.handshake.as_ref().is_some_and(by_test);
        if asked {
            self.notices.push(Notice::Probed("server_discover", "exit"));
            let since = self.handshake.as_ref().map_or_else(Instant::now, |test| test.since);
            self.learn(None, Some(Fact::No), "probe_exit", since.elapsed());
            self.knowledge.exits = true;
            self.knowledge.probe_exit = Some(self.generation);
        }
        // What was true of earlier children may have been the end of this one.
        if self.mode == Mode::Unknown
            && self.knowledge.modern == Fact::Yes
            && self.calls.running().any(|call| call.modern)
        {
            self.knowledge.modern = Fact::Unknown;
        }
        asked
    }

    /// Whether a child that a worker waited for only ended because of a test.
    pub(super) fn ended_by_test(&self, generation: u64) -> bool {
        self.knowledge.probe_exit == Some(generation)
    }

    /// Notes what has been found out.
    pub(super) fn learn(
        &mut self,
        legacy: Option<Fact>,
        modern: Option<Fact>,
        evidence: &'static str,
        elapsed: Duration,
    ) {
        let before = (self.knowledge.legacy, self.knowledge.modern);
        self.knowledge.legacy = legacy.unwrap_or(before.0);
        self.knowledge.modern = modern.unwrap_or(before.1);
        let after = (self.knowledge.legacy, self.knowledge.modern);
        if before == after {
            return;
        }
        self.knowledge.changed = Some(SystemTime::now());
        let era = match after {
            (Fact::Yes, Fact::Yes) => "dual",
            (Fact::Yes, _) => "legacy",
            (_, Fact::Yes) => "modern",
            _ => return,
        };
        let protocol_version = match self.mode {
            Mode::Modern => Some(own::MODERN_VERSION.to_owned()),
            _ => self.negotiated(),
        };
        self.notices.push(Notice::EraDetermined { era, protocol_version, evidence, elapsed });
    }

    /// The child's answer to `server/discover` cannot be read.
    pub(super) fn discovery_unusable(&mut self, sequence: u64, now: Instant) {
        if self.mode == Mode::Unknown
            && let Some(since) =
                self.handshake.as_ref().filter(|test| test.sequence == sequence).map(|test| test.since)
        {
            self.knowledge.asked = true;
            self.modern_refused(None, "probe_error", since, now);
        }
    }

    /// A message of the modern era was answered by a child of which only earlier ones were known to speak
    /// it.
    pub(super) fn on_first_modern_answer(
        &mut self,
        call: &mut Call,
        envelope: &Envelope<'_>,
        json: &str,
        now: Instant,
    ) {
        if evidence::shows_modern(envelope) {
            self.mode = Mode::Modern;
            if evidence::of_discovery(envelope) == evidence::Discovery::Modern {
                self.discovered(envelope, json, now);
            }
            self.wake_gate = true;
            let word = if envelope.error.is_some() { "modern_error" } else { "discover_result" };
            self.learn(None, Some(Fact::Yes), word, Duration::ZERO);
        } else if self.settings.bridge {
            self.knowledge.modern = Fact::Unknown;
            // It was refused unread: it comes again once the server's era is known anew.
            if envelope.error.is_some_and(evidence::denies_modern) {
                self.knowledge.legacy = Fact::Unknown;
                self.again.extend(call.mailbox.take());
            }
        }
    }

    /// Has the child log at a level that a connector wants, unless it does so already or never will.
    pub(super) fn set_level(&mut self, level: Option<usize>) {
        let Some(level) = level else { return };
        let can = self.result.as_deref().is_some_and(modern::has_logging);
        if can && self.knowledge.level.is_none_or(|current| level < current) {
            self.knowledge.level = Some(level);
            self.push_own(&modern::set_level(level));
        }
    }
}

fn answered(json: String) -> Outcome {
    Outcome::Answered(Answer { head: Head::bare(200), json })
}
