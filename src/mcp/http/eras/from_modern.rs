//! A message without handshake on its way to an HTTP server.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::jsonrpc::{Envelope, Kind, Message};
use crate::mcp::bridge::own::{HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION};
use crate::mcp::bridge::{Direction, MessageOutcome, evidence, modern, own};
use crate::mcp::{Answer, Exchange, Failure, Head, OnEvent, Outcome};
use crate::net::Deadline;

use super::super::HttpBinding;
use super::facts::{Road, handshake_failed};
use super::running::How;
use super::sessions::{Key, NoSession, Session, key};
use super::{Tested, is_unread, is_yes, presentable, proof, translated, under_id};

/// Time for telling the server that nobody waits for a call any more.
const CANCEL_TIME: Duration = Duration::from_secs(2);
const DIRECTION: Direction = Direction::ModernToLegacy;

/// How a bridged exchange ended.
enum Bridged {
    /// With this.
    Done(Outcome),
    /// The server does not speak the legacy era: its answer to the handshake.
    Wrong(Outcome),
    /// It may not any more: what the connector gets if it still does.
    Doubtful(Outcome),
}

impl HttpBinding {
    pub(super) fn carry_modern(&self, exchange: &Exchange<'_>, on_event: OnEvent<'_>) -> Outcome {
        let started = Instant::now();
        // This command's own test of the modern era has failed.
        let mut refused = false;
        let mut may_reset = true;
        let mut doubtful: Option<Outcome> = None;
        loop {
            let road = match self.eras.modern_road(exchange.deadline) {
                Ok(road) => road,
                Err(outcome) => return outcome,
            };
            match road {
                Road::Refused(outcome) => return under_id(outcome, exchange.message),
                Road::Pass => {
                    let outcome = self.cuttable(exchange, || self.pass_modern(exchange, &mut *on_event));
                    let denied = is_unread(&outcome)
                        || proof(&outcome).is_some_and(|(_, error)| evidence::denies_modern(&error));
                    if !denied || !may_reset || exchange.message.kind() != Kind::Call {
                        return outcome;
                    }
                    may_reset = false;
                    self.eras.reset();
                }
                Road::Test(testing) => {
                    let tested = self.test_modern(exchange, on_event);
                    drop(testing);
                    match tested {
                        Tested::Modern(outcome) if exchange.message.method() == "server/discover" => {
                            return outcome;
                        }
                        Tested::Modern(_) => {}
                        Tested::NotModern(_) => refused = true,
                        Tested::NoFact(outcome) => return under_id(outcome, exchange.message),
                        Tested::ServerError(outcome) => {
                            return match self.session(key(exchange.headers), exchange, "bridge") {
                                Ok(_) => {
                                    self.eras.learn(None, Some(false), "initialize_result", started);
                                    continue;
                                }
                                Err(_) => under_id(outcome, exchange.message),
                            };
                        }
                    }
                }
                Road::Bridge if doubtful.is_some() => return doubtful.unwrap_or(Outcome::Expired),
                Road::Bridge => match self.over_legacy(exchange, on_event) {
                    Bridged::Done(outcome) => return outcome,
                    Bridged::Doubtful(outcome) => {
                        if refused || !may_reset || !self.eras.doubt_modern(started) {
                            return outcome;
                        }
                        may_reset = false;
                        doubtful = Some(outcome);
                    }
                    // An old "no" may be wrong by now.
                    Bridged::Wrong(_) if !refused && may_reset && self.eras.doubt_modern(started) => {
                        may_reset = false;
                    }
                    // It refused this one connector: that must not silence the others.
                    Bridged::Wrong(outcome) if is_yes(self.eras.speaks_legacy()) => {
                        return under_id(outcome, exchange.message);
                    }
                    // Neither era works: the connector gets the answer of its own.
                    Bridged::Wrong(outcome) => {
                        return under_id(self.eras.refused_both(outcome), exchange.message);
                    }
                },
            }
        }
    }

    /// The server speaks the message's era.
    fn pass_modern(&self, exchange: &Exchange<'_>, on_event: OnEvent<'_>) -> Outcome {
        let outcome = self.forward_complete(exchange, on_event);
        if exchange.message.method() == "tools/call"
            && proof(&outcome).is_some_and(|(_, error)| own::error_code(&error) == Some(HEADER_MISMATCH))
            && let Some(headers) =
                self.parameter_headers(exchange.message.json(), exchange.headers, exchange.deadline)
        {
            let exchange = Exchange { headers: &headers, ..*exchange };
            return self.forward_complete(&exchange, on_event);
        }
        outcome
    }

    fn over_legacy(&self, exchange: &Exchange<'_>, on_event: OnEvent<'_>) -> Bridged {
        let method = exchange.message.method();
        let note = |outcome| self.eras.bridged(DIRECTION, outcome, method);
        let down = modern::down(exchange.message);
        if let modern::Down::Local(outcome) = down {
            note(MessageOutcome::Refused);
            return Bridged::Done(outcome);
        }
        let key = key(exchange.headers);
        if self.eras.unreached.swap(false, Ordering::Relaxed) {
            self.eras.lock().sessions.forget();
        }
        let id = exchange.message.id().filter(|_| exchange.message.kind() == Kind::Call);
        let _entered = id.map(|id| self.eras.running.enter(key, id, How::Tell));
        let mut lost = false;
        loop {
            let trigger = if lost { "session_lost" } else { "bridge" };
            let session = match self.session(key, exchange, trigger) {
                Ok(session) => session,
                Err(NoSession::Refused(outcome)) => {
                    note(MessageOutcome::Failed);
                    return Bridged::Wrong(outcome);
                }
                Err(NoSession::Ended(outcome)) => {
                    note(MessageOutcome::Failed);
                    return Bridged::Done(under_id(outcome, exchange.message));
                }
            };
            let sent = match &down {
                modern::Down::Send(sent) => sent,
                _ => {
                    note(MessageOutcome::Local);
                    let result = modern::discover_result(&session.result);
                    return Bridged::Done(own::result(exchange.message.id(), &result));
                }
            };
            match self.over_session(&session, sent, exchange, on_event, lost) {
                Ok(Bridged::Done(outcome)) => {
                    note(match &outcome {
                        Outcome::Answered(_) | Outcome::Accepted(_) => MessageOutcome::Mapped,
                        _ => MessageOutcome::Failed,
                    });
                    return Bridged::Done(outcome);
                }
                Ok(other) => {
                    note(MessageOutcome::Failed);
                    return other;
                }
                Err(status) => {
                    self.lose(key, &session, status);
                    lost = true;
                }
            }
        }
    }

    fn lose(&self, key: Key, session: &Arc<Session>, status: u16) {
        self.forget_session(key, session);
        log::info!(target: "mcpclient", channel = self.eras.channel.as_str(), status_code = status;
            "mcp bridge session lost; reinitializing");
    }

    /// One exchange in a session; the status when the server has forgotten it and this is the first time.
    fn over_session(
        &self,
        session: &Session,
        sent: &modern::Sent,
        exchange: &Exchange<'_>,
        on_event: OnEvent<'_>,
        lost: bool,
    ) -> Result<Bridged, u16> {
        let headers = session.headers(exchange.headers);
        if let Some(request) = session.level_request(sent.log_level) {
            let _ = self.own_exchange(&request, &headers, self.eras.patience(exchange.deadline));
        }
        let Ok(message) = Message::parse(sent.json.as_str()) else {
            return Ok(Bridged::Done(handshake_failed(None)));
        };
        let (passed, dropped) = (Cell::new(false), Cell::new(0));
        let outcome = {
            let pass = |json: &str| modern::passes_up(json, sent).then(|| json.to_owned());
            let mut on_event = translated(on_event, &passed, &dropped, pass);
            let exchange = Exchange { message: &message, headers: &headers, deadline: exchange.deadline };
            self.forward(&exchange, &mut on_event)
        };
        for _ in 0..dropped.get() {
            self.eras.tally.message(DIRECTION, MessageOutcome::Dropped);
        }
        if let Some(status) = lost_with(&outcome).filter(|_| session.has_id() && !lost) {
            return Err(status);
        }
        if outcome_is_expired(&outcome) && message.kind() == Kind::Call && message.method() != "initialize" {
            self.cancel(&message, &headers);
        }
        let doubtful = proof(&outcome).is_some_and(|(_, error)| {
            matches!(
                own::error_code(&error),
                Some(HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION)
            ) && evidence::proves_modern(&error)
        });
        let up = match outcome {
            Outcome::Answered(Answer { head, json }) => {
                let head = presentable(head, passed.get());
                modern::up(Answer { head, json }, message.method(), &session.result)
            }
            Outcome::Accepted(head) => Outcome::Accepted(Head::bare(head.status)),
            other => other,
        };
        Ok(if doubtful { Bridged::Doubtful(up) } else { Bridged::Done(up) })
    }

    /// Tells the server that nobody waits for `message` any more.
    fn cancel(&self, message: &Message, headers: &crate::net::HeaderList) {
        let Some(id) = message.id() else { return };
        let note = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{},"reason":"tunnel deadline reached"}}}}"#,
            id.as_json()
        );
        let _ = self.own_exchange(&note, headers, Deadline::after(CANCEL_TIME));
    }
}

fn outcome_is_expired(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Expired)
}

/// The status of a reply by which the server says that it has forgotten the session of a request, which it
/// did not execute therefore.
fn lost_with(outcome: &Outcome) -> Option<u16> {
    match outcome {
        Outcome::Failed(Failure::Rejected { head, .. }) => {
            Some(head.status).filter(|status| matches!(status, 400 | 404))
        }
        // Under 400 this would be the answer to the request itself.
        Outcome::Answered(answer) => {
            let is_error = || Envelope::parse(answer.json.as_bytes()).is_ok_and(|view| view.error.is_some());
            Some(404).filter(|status| answer.head.status == *status && is_error())
        }
        _ => None,
    }
}
