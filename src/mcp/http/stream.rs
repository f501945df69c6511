//! The answer to a call as a stream of events.
//!
//! Notifications go out in order as they arrive, requests of the server are refused (a `ping` is
//! answered), the response ends it. A stream that breaks is resumed from the last event id it gave.
//! Invariant: the call itself is never sent twice.

use std::time::Duration;

use crate::jsonrpc::{Envelope, Id, Kind, METHOD_NOT_FOUND, error_response, result_response};
use crate::mcp::bridge::own;
use crate::mcp::sse::{EventReader, ReadError};
use crate::mcp::{Answer, Event, Exchange, Failure, FailureKind, Head, OnEvent, Source};
use crate::net::{Body, Cause, Error, HeaderMap, HeaderName, HeaderValue, Method, long};

use super::answers::Answers;
use super::headers::{EVENT_STREAM, SESSION_ID, built_in};
use super::send::{Call, Reply};
use super::{Ending, HttpBinding};

/// Attempts to resume in one round.
const RESUME_ATTEMPTS: u32 = 5;
/// Rounds in a row that brought no new event id.
const IDLE_ROUNDS: usize = 5;
const RESUME_DELAY: Duration = Duration::from_secs(1);
const RESUME_DELAY_MAX: Duration = Duration::from_secs(30);
const RESUME_FACTOR: f64 = 1.5;
/// Requests of the server that are answered in one exchange; later ones are ignored.
pub(super) const MAX_SERVER_REQUESTS: usize = 100;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a stream belongs to.
pub(super) struct Stream<'a> {
    binding: &'a HttpBinding,
    call: &'a Call<'a>,
    exchange: &'a Exchange<'a>,
    head: Head,
    session_id: Option<HeaderValue>,
    /// Requests of the server that are still answered.
    answers_left: usize,
    answers: Option<Answers>,
}

/// How reading one stream ended.
enum Read {
    Answer(String),
    /// The server asks for something.
    Request {
        id: Id,
        method: String,
    },
    /// It ended or broke; the failure applies unless it can be resumed.
    Ended(Ending),
}

impl<'a> Stream<'a> {
    pub(super) fn new(
        binding: &'a HttpBinding,
        call: &'a Call<'a>,
        exchange: &'a Exchange<'a>,
        reply: &Reply,
    ) -> Stream<'a> {
        let session_id = reply.headers.get(SESSION_ID).cloned();
        let (head, answers_left) = (reply.head(), MAX_SERVER_REQUESTS);
        Stream { binding, call, exchange, head, session_id, answers_left, answers: None }
    }

    /// Reads `body`, and what resumes it, up to the response.
    pub(super) fn read(mut self, body: Body, on_event: OnEvent<'_>) -> Result<Answer, Ending> {
        let limit = self.binding.target.max_message_bytes;
        let mut events = EventReader::new(body, limit);
        let mut reached: Option<Vec<u8>> = None;
        let mut idle_rounds = 0;
        loop {
            match self.read_on(&mut events, on_event)? {
                Read::Answer(json) => {
                    self.binding.discard_stream(events.into_source(), self.exchange.deadline);
                    if let Some(answers) = self.answers.take() {
                        answers.settle();
                    }
                    return Ok(Answer { head: self.head, json });
                }
                Read::Request { id, method } => self.answer(&id, &method),
                Read::Ended(ending) => {
                    let Some(id) = events.last_event_id() else { return Err(ending) };
                    idle_rounds = if reached.as_deref() == Some(id) { idle_rounds + 1 } else { 0 };
                    if idle_rounds > IDLE_ROUNDS {
                        return Err(ending);
                    }
                    let reply = self.resume(id, events.retry(), ending)?;
                    reached = Some(id.to_vec());
                    events = EventReader::new(reply.body, limit);
                }
            }
        }
    }

    /// Reads until something other than a notification comes.
    fn read_on(&self, events: &mut EventReader<Body>, on_event: OnEvent<'_>) -> Result<Read, Ending> {
        let violation = || Ending::from(Failure::protocol(Some(self.head.clone())));
        loop {
            let data = match events.next_message() {
                Ok(Some(data)) => data,
                Ok(None) => return Ok(Read::Ended(self.early_end())),
                Err(ReadError::TooLarge) => return Err(violation()),
                Err(ReadError::Io(error)) => {
                    let error = Error::from_io(error);
                    return match error.cause {
                        Cause::Timeout | Cause::Cancelled | Cause::Protocol => {
                            Err(Ending::from_net(&error, Some(self.head.clone())))
                        }
                        Cause::UnexpectedEof => Ok(Read::Ended(self.early_end())),
                        _ => Ok(Read::Ended(Ending::from_net(&error, Some(self.head.clone())))),
                    };
                }
            };
            let json = std::str::from_utf8(data).map_err(|_| violation())?.trim_ascii();
            self.binding.raw_log.read(json.as_bytes());
            let envelope = Envelope::parse(json.as_bytes()).map_err(|_| violation())?;
            match (envelope.kind, envelope.id) {
                (Kind::Notification, _) => {
                    on_event(Event { head: &self.head, json });
                    if self.exchange.deadline.is_past() {
                        return Err(Ending::expired());
                    }
                }
                (Kind::Call, Some(id)) => {
                    return Ok(Read::Request { id, method: envelope.method.into_owned() });
                }
                (Kind::Response, id) if id.is_some() && id.as_ref() == self.exchange.message.id() => {
                    return Ok(Read::Answer(long::copy_of(json)));
                }
                _ => return Err(violation()),
            }
        }
    }

    fn early_end(&self) -> Ending {
        let head = Some(self.head.clone());
        Ending::from(Failure::Broken { head, source: Source::TransportClosed, kind: FailureKind::Eof })
    }

    /// Answers a request of the server, on a connection of its own. Best effort: the first answer that does
    /// not arrive is the last one tried.
    fn answer(&mut self, id: &Id, method: &str) {
        let answer = if method == "ping" {
            result_response(id, "{}")
        } else {
            let method = own::clipped(method.into());
            self.binding.eras.refused_request(&method);
            let text = format!("Method not found: {method} is not available through this tunnel");
            error_response(Some(id), METHOD_NOT_FOUND, &text, None)
        };
        if self.answers_left == 0 {
            return;
        }
        self.answers_left -= 1;
        let session = self.session_id.clone();
        let answers = self.answers.get_or_insert_with(|| Answers::new(self.binding, self.call, session));
        if !answers.give(self.binding, answer) {
            self.answers_left = 0;
        }
    }

    /// Opens the stream again after the event `last_id`; `ending` tells how it broke.
    fn resume(&self, last_id: &[u8], retry: Option<Duration>, ending: Ending) -> Result<Reply, Ending> {
        let Ok(last_id) = HeaderValue::from_bytes(last_id) else { return Err(ending) };
        let mut headers = built_in(Some(HeaderValue::from_static(EVENT_STREAM)), None);
        if let Some(session_id) = &self.session_id {
            headers.insert(SESSION_ID, session_id.clone());
        }
        // An older position that the command may name is not where this stream broke.
        let mut forwarded: HeaderMap = self.call.forwarded.clone();
        forwarded.insert(LAST_EVENT_ID, last_id);
        let call = Call {
            method: Method::GET,
            purpose: self.call.purpose,
            built_in: &headers,
            forwarded: &forwarded,
            body: None,
            deadline: self.call.deadline,
        };
        let mut last = ending;
        for attempt in 0..RESUME_ATTEMPTS {
            self.pause(match retry {
                Some(retry) if attempt == 0 => retry,
                _ => resume_delay(attempt),
            })?;
            match self.binding.send(&call) {
                Ok(reply) if reply.is_success() => return Ok(reply),
                Ok(_) => break,
                Err(error) => {
                    last = Ending::from_net(&error, Some(self.head.clone()));
                    if error.cause == Cause::Cancelled || self.exchange.deadline.is_past() {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    /// Waits, unless the deadline comes first or the client stops.
    fn pause(&self, delay: Duration) -> Result<(), Ending> {
        let remaining = self.exchange.deadline.remaining();
        if self.binding.cancel.wait(remaining.map_or(delay, |remaining| remaining.min(delay))) {
            return Err(Failure::broken(Source::ClientInternal, FailureKind::Canceled).into());
        }
        if self.exchange.deadline.is_past() { Err(Ending::expired()) } else { Ok(()) }
    }
}

/// Grows from one second, with a random extra of up to the same amount.
fn resume_delay(attempt: u32) -> Duration {
    let delay = RESUME_DELAY.mul_f64(RESUME_FACTOR.powi(attempt as i32)).min(RESUME_DELAY_MAX);
    let fraction = getrandom::u32().map_or(0.0, |value| f64::from(value) / f64::from(u32::MAX));
    delay + delay.mul_f64(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resume_delays_grow_by_half_and_at_most_double_at_random() {
        for (attempt, floor) in [(0, 1.0), (1, 1.5), (4, 5.0625), (60, 30.0)] {
            let delay = resume_delay(attempt).as_secs_f64();
            assert!((floor..=2.0 * floor + 1e-6).contains(&delay), "{attempt}: {delay}");
        }
    }
}
