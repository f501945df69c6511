//! Connectors of either era before an HTTP server of either era.
//!
//! The facts about the server decide, each request for itself. Invariant: a message whose era the server
//! speaks leaves as it came; a message is sent a second time only after a reply that proves that it was
//! not executed, and a command causes one round of tests at most.

mod facts;
mod from_legacy;
mod from_modern;
mod handshake;
mod refusals;
mod running;
mod sessions;

pub(in crate::mcp) use facts::Eras;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::jsonrpc::{Envelope, Id, Kind, Message};
use crate::mcp::bridge::{Fact, complete, evidence, own};
use crate::mcp::era::{self, Era};
use crate::mcp::{Answer, Event, Exchange, Failure, FailureKind, Head, OnEvent, Outcome, Source, peek};
use crate::net::{Cut, HeaderList};

use running::How;

use super::HttpBinding;

const CONTENT_TYPE: &str = "Content-Type";
/// An answer that proves something about eras is short.
const MAX_PROOF_BYTES: usize = 4096;

/// What a test of the modern era came to.
enum Tested {
    /// The server speaks it: its answer.
    Modern(Outcome),
    /// It does not: its answer; none if it was silent.
    NotModern(Option<Outcome>),
    /// It failed itself: its answer. The other era may still work.
    ServerError(Outcome),
    /// Nothing is known: what the command ends with.
    NoFact(Outcome),
}

impl HttpBinding {
    /// An exchange with whatever the era of the message needs.
    pub(super) fn exchange_across(&self, exchange: &Exchange<'_>, on_event: OnEvent<'_>) -> Outcome {
        let era = era::of_message(exchange.message, exchange.headers);
        if exchange.message.method() == "notifications/cancelled" {
            return self.take_back(exchange, era, on_event);
        }
        let outcome = match era {
            Era::Modern => self.carry_modern(exchange, on_event),
            Era::Legacy | Era::Neutral => self.carry_legacy(exchange, on_event),
        };
        if let Outcome::Failed(Failure::Broken { kind, .. }) = &outcome
            && matches!(kind, FailureKind::ConnectionRefused | FailureKind::ConnectionReset)
        {
            self.eras.unreached.store(true, Ordering::Relaxed);
        }
        outcome
    }

    /// A connector does not want the answer to a call any more. Who speaks the modern era is told by the
    /// end of the exchange, whoever speaks the other by this message.
    fn take_back(&self, exchange: &Exchange<'_>, era: Era, on_event: OnEvent<'_>) -> Outcome {
        let done = Outcome::Accepted(Head::bare(202));
        let named = Envelope::parse(exchange.message.json().as_bytes())
            .ok()
            .and_then(|view| view.params)
            .and_then(|params| peek::member(params, "requestId"))
            .and_then(Id::from_raw);
        match named.and_then(|id| self.eras.running.find(sessions::key(exchange.headers), &id)) {
            Some(How::Cut(cut)) => {
                cut.fire();
                done
            }
            Some(How::Tell) => self.carry_modern(exchange, on_event),
            None if era == Era::Modern || self.eras.is_modern_only() => done,
            // Another client may run the call.
            None => self.forward(exchange, on_event),
        }
    }

    /// Runs the exchange of a call to a server of the modern era so that it can be taken back.
    fn cuttable(&self, call: &Exchange<'_>, run: impl FnOnce() -> Outcome) -> Outcome {
        let Some(id) = call.message.id().filter(|_| call.message.kind() == Kind::Call) else {
            return run();
        };
        let cut = Cut::new();
        let _entered = self.eras.running.enter(sessions::key(call.headers), id, How::Cut(Arc::clone(&cut)));
        let _held = cut.hold();
        match run() {
            Outcome::Answered(answer) => Outcome::Answered(answer),
            _ if cut.is_fired() => Outcome::Withdrawn,
            other => other,
        }
    }

    /// Tests the modern era: with the connector's own discovery if `exchange` is one.
    fn test_modern(&self, exchange: &Exchange<'_>, on_event: OnEvent<'_>) -> Tested {
        let started = Instant::now();
        let deadline = self.eras.test_deadline(exchange.deadline);
        let outcome = if exchange.message.method() == "server/discover" {
            self.forward_complete(&Exchange { deadline, ..*exchange }, on_event)
        } else {
            let request = own::request(&own::next_id("probe"), "server/discover", &own::discover_params());
            let mut headers = sessions::bare(exchange.headers);
            headers.add(complete::VERSION_HEADER, own::MODERN_VERSION);
            headers.add(complete::METHOD_HEADER, "server/discover");
            self.own_exchange(&request, &headers, deadline)
        };
        let (tested, word) = judge_discovery(outcome);
        self.eras.tally.probe("server_discover", word);
        match &tested {
            Tested::Modern(Outcome::Answered(answer)) => {
                if let Some(result) = result_of(&answer.json) {
                    self.eras.discovered(&result, &answer.json);
                } else if !own::is_bridgeable(&answer.json) {
                    self.eras.discovered("{}", &answer.json);
                }
                let is_error = Envelope::parse(answer.json.as_bytes()).is_ok_and(|view| view.error.is_some());
                let word = if is_error { "modern_error" } else { "discover_result" };
                self.eras.learn(None, Some(true), word, started);
            }
            Tested::NotModern(Some(answered @ Outcome::Answered(answer))) => {
                self.eras.refused_modern(Some(answered));
                let legacy = Envelope::parse(answer.json.as_bytes())
                    .is_ok_and(|view| evidence::of_discovery(&view) == evidence::Discovery::LegacyOnly);
                self.eras.learn(legacy.then_some(true), Some(false), "probe_error", started);
            }
            Tested::NotModern(answer) => {
                self.eras.refused_modern(answer.as_ref());
                let word = if answer.is_some() { "probe_error" } else { "probe_timeout" };
                self.eras.learn(None, Some(false), word, started);
            }
            _ => {}
        }
        tested
    }

    /// Sends a message of the modern era with what it must carry.
    fn forward_complete(&self, exchange: &Exchange<'_>, on_event: OnEvent<'_>) -> Outcome {
        let body =
            complete::body(exchange.message, exchange.headers).and_then(|json| Message::parse(json).ok());
        let message = body.as_ref().unwrap_or(exchange.message);
        let headers = complete::headers(message.json(), exchange.headers);
        let headers = headers.as_ref().unwrap_or(exchange.headers);
        self.forward(&Exchange { message, headers, deadline: exchange.deadline }, on_event)
    }
}

/// What the answer to `server/discover` means, and the word for it in metrics.
fn judge_discovery(outcome: Outcome) -> (Tested, &'static str) {
    let by_status = |outcome: Outcome, status: u16| match status {
        401 | 403 => (Tested::NoFact(outcome), "auth"),
        407 | 408 | 429 => (Tested::NoFact(outcome), "error"),
        500.. => (Tested::ServerError(outcome), "error"),
        _ => (Tested::NotModern(Some(outcome)), "unsupported"),
    };
    match &outcome {
        Outcome::Answered(answer) => {
            let status = answer.head.status;
            let verdict =
                Envelope::parse(answer.json.as_bytes()).map(|view| evidence::of_discovery(&view)).ok();
            match verdict {
                Some(evidence::Discovery::Modern) if status < 500 && status != 401 => {
                    (Tested::Modern(outcome), "supported")
                }
                _ => by_status(outcome, status),
            }
        }
        Outcome::Failed(Failure::Rejected { head, .. }) => {
            let status = head.status;
            by_status(outcome, status)
        }
        Outcome::Failed(Failure::Broken { source: Source::Protocol, .. }) => {
            (Tested::NotModern(Some(outcome)), "unsupported")
        }
        Outcome::Failed(Failure::Broken { kind: FailureKind::Timeout, source: Source::Timeout, .. })
        | Outcome::Expired => (Tested::NotModern(None), "timeout"),
        _ => (Tested::NoFact(outcome), "error"),
    }
}

/// The error object of an answer that is short enough to prove something by it; checked cheaply, since
/// every answer passes here.
fn proof(outcome: &Outcome) -> Option<(u16, Box<serde_json::value::RawValue>)> {
    let Outcome::Answered(Answer { head, json }) = outcome else { return None };
    if json.len() > MAX_PROOF_BYTES || !(json.contains("-3202") || json.contains("-32602")) {
        return None;
    }
    let error = Envelope::parse(json.as_bytes()).ok()?.error?;
    Some((head.status, error.to_owned()))
}

/// Whether the server refused a message before it looked at it: a status of an endpoint that does not
/// understand, and no answer to the request.
fn is_unread(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(Failure::Rejected { head, .. }) if matches!(head.status, 400 | 404 | 405))
}

/// The result of a response, as an owned text.
fn result_of(json: &str) -> Option<String> {
    Envelope::parse(json.as_bytes()).ok()?.result.map(|result| result.get().to_owned())
}

/// The outcome of somebody else's exchange under this message's id.
fn under_id(outcome: Outcome, message: &Message) -> Outcome {
    match outcome {
        Outcome::Answered(answer) if message.kind() != Kind::Call => {
            Outcome::Accepted(Head::bare(answer.head.status))
        }
        Outcome::Answered(answer) => {
            let json = own::with_id(&answer.json, message.id());
            Outcome::Answered(Answer { json, ..answer })
        }
        Outcome::Expired => facts::handshake_silent(),
        other => other,
    }
}

/// Headers of a translated answer: nothing of the session behind it, and a type that says whether
/// notifications came before.
fn presentable(mut head: Head, streamed: bool) -> Head {
    head.headers.remove("Mcp-Session-Id");
    head.headers.remove("Mcp-Protocol-Version");
    let kind = if streamed { "text/event-stream" } else { "application/json" };
    head.headers.set(CONTENT_TYPE, kind);
    head
}

/// Gives notifications to `on_event` as `translate` makes them; counts those that pass.
fn translated<'a>(
    on_event: OnEvent<'a>,
    passed: &'a std::cell::Cell<bool>,
    dropped: &'a std::cell::Cell<u32>,
    translate: impl Fn(&str) -> Option<String> + 'a,
) -> impl FnMut(Event<'_>) + 'a {
    move |event| match translate(event.json) {
        Some(json) => {
            passed.set(true);
            on_event(Event { head: &Head::bare(event.head.status), json: &json });
        }
        None => dropped.set(dropped.get() + 1),
    }
}

/// A call of our own behalf uses headers of the command that causes it.
fn with_header(headers: &HeaderList, name: &str, value: &str) -> HeaderList {
    let mut headers = headers.clone();
    headers.set(name, value);
    headers
}

/// Whether what is known says that the era is spoken.
fn is_yes(fact: Fact) -> bool {
    fact == Fact::Yes
}
