//! A message with a handshake, or of a connector that made one, on its way to an HTTP server.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::jsonrpc::{Envelope, Kind, Message};
use crate::mcp::bridge::own::{
    HEADER_MISMATCH, INVALID_PARAMS, MISSING_CAPABILITY, MODERN_VERSION, UNSUPPORTED_VERSION,
};
use crate::mcp::bridge::{Direction, Fact, MessageOutcome, complete, evidence, legacy, own};
use crate::mcp::{Answer, Exchange, Failure, Head, OnEvent, Outcome, peek};
use crate::net::{Deadline, HeaderList};

use super::super::HttpBinding;
use super::facts::{Road, handshake_failed};
use super::sessions::{bare, is_refusal, key};
use super::{Tested, is_unread, is_yes, presentable, proof, result_of, translated, under_id, with_header};

/// Pages of a tool list that are read to find what a call must repeat in its headers.
const MAX_PAGES: usize = 20;
/// Retries of a call whose server only wants its own state back …
const MAX_RETRIES: u32 = 8;
/// … and the pauses before them.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
const DIRECTION: Direction = Direction::LegacyToModern;

/// What a reply says about the era of its server.
enum Reply {
    /// It speaks the message's.
    Speaks,
    /// It may speak only the other.
    Doubtful,
    /// Nothing.
    Silent,
}

/// How a bridged exchange ended.
enum Bridged {
    /// With this.
    Done(Outcome),
    /// The server does not speak the modern era after all.
    Wrong,
    /// It speaks only revisions of it that nothing can be translated into.
    Unusable,
}

impl HttpBinding {
    pub(super) fn carry_legacy(&self, exchange: &Exchange<'_>, on_event: OnEvent<'_>) -> Outcome {
        let started = Instant::now();
        let mut known = self.eras.speaks_legacy();
        let mut may_reset = true;
        loop {
            // Whatever the method: a server without handshakes refuses it before it does anything.
            let reply = if known == Fact::No {
                None
            } else {
                let outcome = self.forward(exchange, on_event);
                match judge(exchange.message, &outcome, is_yes(known)) {
                    Reply::Speaks => {
                        self.learned(exchange.message, &outcome, started);
                        return outcome;
                    }
                    Reply::Silent => return outcome,
                    Reply::Doubtful => {}
                }
                if is_yes(known) {
                    self.eras.reset();
                }
                Some(outcome)
            };
            match self.beyond(exchange, reply, is_yes(known), on_event) {
                Bridged::Done(outcome) => return outcome,
                Bridged::Wrong if may_reset => {
                    may_reset = false;
                    self.eras.reset();
                    known = Fact::Unknown;
                }
                Bridged::Wrong | Bridged::Unusable => return handshake_failed(None),
            }
        }
    }

    fn learned(&self, message: &Message, outcome: &Outcome, started: Instant) {
        if message.method() == "initialize"
            && let Outcome::Answered(answer) = outcome
            && let Some(result) = result_of(&answer.json)
        {
            let version = peek::members(&result, ["protocolVersion"])[0].and_then(peek::string);
            own::warn_of_unfamiliar(&self.eras.channel, &version.unwrap_or_default());
            self.eras.initialized(&result);
        }
        self.eras.learn(Some(true), None, "initialize_result", started);
    }

    /// The server does not seem to speak the message's era, though it may have been `proven` that it does;
    /// `reply` is what it said to it.
    fn beyond(
        &self,
        exchange: &Exchange<'_>,
        reply: Option<Outcome>,
        proven: bool,
        on_event: OnEvent<'_>,
    ) -> Bridged {
        let or_reply = |reply: Option<Outcome>, other: Outcome| Bridged::Done(reply.unwrap_or(other));
        let started = Instant::now();
        loop {
            let road = match self.eras.legacy_road(exchange.deadline) {
                Ok(road) => road,
                Err(outcome) => return or_reply(reply, outcome),
            };
            match road {
                Road::Bridge => {
                    self.eras.learn(Some(false), None, "modern_error", started);
                    return self.over_modern(exchange, reply, on_event);
                }
                Road::Refused(outcome) => return or_reply(reply, under_id(outcome, exchange.message)),
                // The server does not speak the other era either.
                Road::Pass => {
                    return match reply {
                        Some(reply) => Bridged::Done(reply),
                        None => Bridged::Wrong,
                    };
                }
                Road::Test(testing) => {
                    let tested = self.test_modern(exchange, &mut |_| {});
                    drop(testing);
                    match tested {
                        Tested::Modern(_) => {}
                        // It refused this one connector: that must not silence the others.
                        Tested::NotModern(_) if proven => {
                            self.eras.learn(Some(true), None, "initialize_result", started);
                        }
                        Tested::NotModern(_) if exchange.message.method() == "initialize" => {
                            if let Some(reply) = &reply {
                                self.eras.refused_both(reply.clone());
                            }
                        }
                        Tested::NotModern(_) => {}
                        Tested::NoFact(outcome) | Tested::ServerError(outcome) => {
                            return or_reply(reply, under_id(outcome, exchange.message));
                        }
                    }
                }
            }
        }
    }

    /// The server speaks only revisions that nothing can be translated into: its own answer to the message
    /// as it came, which it refuses before it does anything.
    fn unbridgeable(
        &self,
        exchange: &Exchange<'_>,
        reply: Option<Outcome>,
        on_event: OnEvent<'_>,
    ) -> Bridged {
        let outcome = reply.unwrap_or_else(|| self.forward(exchange, on_event));
        if exchange.message.kind() == Kind::Call {
            self.eras.refused_legacy(outcome.clone());
        }
        Bridged::Done(outcome)
    }

    fn over_modern(&self, exchange: &Exchange<'_>, reply: Option<Outcome>, on_event: OnEvent<'_>) -> Bridged {
        let (message, method) = (exchange.message, exchange.message.method());
        let note = |outcome| self.eras.bridged(DIRECTION, outcome, method);
        let discovered = match self.discovery(exchange) {
            Ok(discovered) => discovered,
            Err(outcome) => return Bridged::Done(under_id(outcome, message)),
        };
        if !self.eras.is_bridgeable() {
            note(MessageOutcome::Failed);
            return self.unbridgeable(exchange, reply, on_event);
        }
        let down = {
            let mut state = self.eras.lock();
            legacy::down(message, &mut state.connector, discovered.as_deref())
        };
        let json = match down {
            legacy::Down::Local(outcome) => {
                note(MessageOutcome::Local);
                return Bridged::Done(outcome);
            }
            legacy::Down::Acknowledge => {
                note(MessageOutcome::Local);
                return Bridged::Done(Outcome::Accepted(Head::bare(202)));
            }
            legacy::Down::Send(json) => json,
        };
        let headers = bare(exchange.headers);
        if message.kind() == Kind::Notification {
            note(MessageOutcome::Mapped);
            let headers = complete::headers(&json, &headers).unwrap_or(headers);
            return Bridged::Done(match self.own_exchange(&json, &headers, exchange.deadline) {
                Outcome::Accepted(head) => Outcome::Accepted(Head::bare(head.status)),
                other => other,
            });
        }
        let mut bridged = Bridged::Wrong;
        let outcome = self.cuttable(exchange, || {
            bridged = self.ask_modern(json, headers, exchange, &mut *on_event);
            match &bridged {
                Bridged::Done(outcome) => outcome.clone(),
                _ => Outcome::Expired,
            }
        });
        if let Outcome::Withdrawn = outcome {
            return Bridged::Done(outcome);
        }
        if let Bridged::Unusable = bridged {
            note(MessageOutcome::Failed);
            return self.unbridgeable(exchange, reply, on_event);
        }
        note(match &bridged {
            Bridged::Done(Outcome::Answered(_)) => MessageOutcome::Mapped,
            _ => MessageOutcome::Failed,
        });
        bridged
    }

    /// Sends a translated request, again as often as the server's answers allow.
    fn ask_modern(
        &self,
        json: String,
        bare: HeaderList,
        exchange: &Exchange<'_>,
        on_event: OnEvent<'_>,
    ) -> Bridged {
        let (id, method) = (exchange.message.id(), exchange.message.method());
        let key = key(exchange.headers);
        let (passed, dropped) = (Cell::new(false), Cell::new(0));
        let mut json = json;
        let mut extra = match method {
            "tools/call" => self.eras.with_tools(key, |tools| tools.headers(&json)),
            _ => Vec::new(),
        };
        let (mut mended, mut versioned) = (false, false);
        let mut retries = 0;
        let mut pause = RETRY_PAUSE;
        let answered = loop {
            let mut headers = complete::headers(&json, &bare).unwrap_or_else(|| bare.clone());
            for (name, value) in &extra {
                headers.set(name, value.as_str());
            }
            let Ok(message) = Message::parse(json.as_str()) else { break handshake_failed(None) };
            let outcome = {
                let mut on_event = translated(&mut *on_event, &passed, &dropped, legacy::event_up);
                let sent = Exchange { message: &message, headers: &headers, deadline: exchange.deadline };
                self.forward(&sent, &mut on_event)
            };
            if is_unread(&outcome) {
                return Bridged::Wrong;
            }
            if let Some((_, error)) = proof(&outcome) {
                if evidence::denies_modern(&error) {
                    return Bridged::Wrong;
                }
                if own::error_code(&error) == Some(UNSUPPORTED_VERSION) {
                    let supported = own::supported(&error);
                    if supported.is_some_and(|list| !list.iter().any(|version| version == MODERN_VERSION)) {
                        return Bridged::Unusable;
                    }
                    if !std::mem::replace(&mut versioned, true) {
                        continue;
                    }
                }
                if own::error_code(&error) == Some(HEADER_MISMATCH)
                    && method == "tools/call"
                    && !std::mem::replace(&mut mended, true)
                    && self.parameter_headers(&json, &bare, exchange.deadline).is_some()
                {
                    extra = self.eras.with_tools(key, |tools| tools.headers(&json));
                    continue;
                }
            }
            let Outcome::Answered(Answer { head, json: text }) = outcome else { break outcome };
            let answer = Answer { head: presentable(head, passed.get()), json: text };
            let until = exchange.deadline.remaining();
            let last = retries >= MAX_RETRIES || until.is_some_and(|left| left <= pause);
            match legacy::up(answer, id, method, last) {
                legacy::Up::Again(state) => {
                    let Some(next) = legacy::again(&json, &own::next_id("retry"), &state) else {
                        break handshake_failed(None);
                    };
                    json = next;
                    retries += 1;
                    if self.cancel.wait(pause) {
                        break handshake_failed(None);
                    }
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
                legacy::Up::Done(answer, why) => {
                    if let Some(reason) = why {
                        log::warn!(target: "mcpclient", channel = self.eras.channel.as_str(), method, reason;
                            "unmappable result for legacy connector");
                    }
                    let Answer { head, json } = answer;
                    let json = self.without_odd_tools(method, key, json);
                    break Outcome::Answered(Answer { head, json: own::with_id(&json, id) });
                }
            }
        };
        for _ in 0..dropped.get() {
            self.eras.tally.message(DIRECTION, MessageOutcome::Dropped);
        }
        Bridged::Done(answered)
    }

    /// Learns the tools of a `tools/list` answer; takes out those whose annotations break the rules.
    fn without_odd_tools(&self, method: &str, key: super::sessions::Key, json: String) -> String {
        if method != "tools/list" {
            return json;
        }
        match self.eras.with_tools(key, |tools| tools.learn(&json)) {
            Some((kept, names)) => {
                for tool in names {
                    log::warn!(target: "mcpclient", channel = self.eras.channel.as_str(), tool = tool.as_str();
                        "left a tool out whose x-mcp-header annotations break the rules");
                }
                kept
            }
            None => json,
        }
    }

    /// The headers of a call with what its tool's annotations demand, after a look at the server's tool
    /// list; `None` if that adds nothing.
    pub(super) fn parameter_headers(
        &self,
        call: &str,
        headers: &HeaderList,
        deadline: Deadline,
    ) -> Option<HeaderList> {
        let key = key(headers);
        let own_meta = request_meta(call);
        let mut cursor: Option<String> = None;
        let mut list_headers = with_header(&bare(headers), complete::VERSION_HEADER, MODERN_VERSION);
        list_headers.set(complete::METHOD_HEADER, "tools/list");
        for _ in 0..MAX_PAGES {
            let params = match &cursor {
                Some(cursor) => format!(r#"{{"cursor":{cursor},"_meta":{own_meta}}}"#),
                None => format!(r#"{{"_meta":{own_meta}}}"#),
            };
            let request = own::request(&own::next_id("tools"), "tools/list", &params);
            let Outcome::Answered(answer) =
                self.own_exchange(&request, &list_headers, self.eras.patience(deadline))
            else {
                break;
            };
            let _ = self.eras.with_tools(key, |tools| tools.learn(&answer.json));
            let next = result_of(&answer.json).and_then(|result| {
                peek::members(&result, ["nextCursor"])[0].map(|next| next.get().to_owned())
            });
            match next.filter(|next| next.starts_with('"')) {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        let found = self.eras.with_tools(key, |tools| tools.headers(call));
        let mut completed = headers.clone();
        let mut changed = false;
        for (name, value) in found {
            if completed.get(&name).is_none() {
                completed.add(name, value);
                changed = true;
            }
        }
        changed.then_some(completed)
    }

    /// The server's discovery, read again for an `initialize` when it is old.
    fn discovery(&self, exchange: &Exchange<'_>) -> Result<Option<Arc<str>>, Outcome> {
        let wants = matches!(exchange.message.method(), "initialize" | "logging/setLevel");
        let unreached = self.eras.unreached.swap(false, Ordering::Relaxed);
        if !wants && !unreached {
            return Ok(self.eras.discovery(false));
        }
        if let Some(fresh) =
            self.eras.discovery(exchange.message.method() == "initialize").filter(|_| !unreached)
        {
            return Ok(Some(fresh));
        }
        match self.test_modern(exchange, &mut |_| {}) {
            Tested::Modern(_) => Ok(self.eras.discovery(false)),
            other => match self.eras.discovery(false) {
                Some(old) => {
                    self.eras.learn(None, Some(true), "discover_result", Instant::now());
                    Ok(Some(old))
                }
                None => match other {
                    Tested::NoFact(outcome)
                    | Tested::ServerError(outcome)
                    | Tested::NotModern(Some(outcome)) => Err(outcome),
                    _ => Err(Outcome::Expired),
                },
            },
        }
    }
}

/// `_meta` of a request of our own that goes with `call`.
fn request_meta(call: &str) -> String {
    let own_meta = Envelope::parse(call.as_bytes())
        .ok()
        .and_then(|view| view.params)
        .and_then(|params| peek::member(params, "_meta"));
    let part = |name| own_meta.and_then(|all| peek::member(all, name)).map(|value| value.get().to_owned());
    format!(
        r#"{{"{}":{},"{}":{},"{}":{}}}"#,
        own::meta::VERSION,
        part(own::meta::VERSION).unwrap_or_else(|| format!("\"{MODERN_VERSION}\"")),
        own::meta::CLIENT_INFO,
        part(own::meta::CLIENT_INFO).unwrap_or_else(own::own_info),
        own::meta::CAPABILITIES,
        part(own::meta::CAPABILITIES).unwrap_or_else(|| "{}".to_owned()),
    )
}

/// What a reply to a message of the legacy era says. `known` is that the server speaks it, which only an
/// outright contradiction overrules.
fn judge(message: &Message, outcome: &Outcome, known: bool) -> Reply {
    if message.kind() != Kind::Call {
        return Reply::Silent;
    }
    let is_initialize = message.method() == "initialize";
    if known {
        let denied = proof(outcome).is_some_and(|(_, error)| evidence::proves_modern(&error));
        let refused = is_initialize && is_unread(outcome);
        return if denied || refused { Reply::Doubtful } else { Reply::Silent };
    }
    match outcome {
        Outcome::Answered(answer) => {
            let status = answer.head.status;
            let Ok(envelope) = Envelope::parse(answer.json.as_bytes()) else { return Reply::Silent };
            let Some(error) = envelope.error else {
                let result = envelope.result.filter(|_| (200..300).contains(&status));
                let modern = result.and_then(|result| peek::member(result, "resultType")).is_some();
                let speaks =
                    result.is_some() && !modern && (!is_initialize || evidence::is_initialized(&envelope));
                return if speaks { Reply::Speaks } else { Reply::Silent };
            };
            let code = own::error_code(error);
            let doubtful = if is_initialize {
                status < 500
                    && !matches!(status, 401 | 403)
                    && (code.is_some_and(evidence::refuses_handshake) || is_refusal(status))
            } else {
                matches!(code, Some(UNSUPPORTED_VERSION | HEADER_MISMATCH | MISSING_CAPABILITY))
                    || (status == 400 && code == Some(INVALID_PARAMS))
            };
            if doubtful { Reply::Doubtful } else { Reply::Silent }
        }
        Outcome::Failed(Failure::Rejected { head, .. }) if is_initialize && is_refusal(head.status) => {
            Reply::Doubtful
        }
        _ => Reply::Silent,
    }
}
