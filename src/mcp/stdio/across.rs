//! A message of one era on its way to a child of the other, and its answer on the way back.
//!
//! Invariant: what is translated keeps its place among the messages of its channel.

use std::cell::Cell;
use std::time::Duration;

use crate::jsonrpc::Message;
use crate::mcp::bridge::{Direction, MessageOutcome, legacy, modern, own};
use crate::mcp::era::Era;
use crate::mcp::{Answer, Event, Exchange, FailureKind, Head, OnEvent, Outcome, Source};

use super::StdioBinding;
use super::eras::Crossing;
use super::outcomes::failed;

/// Retries of a call whose server only wants its own state back …
const MAX_RETRIES: u32 = 8;
/// … and the pauses before them.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);

/// A message as the child gets it, and what its answer needs to be understood.
pub(super) struct Crossed {
    pub(super) message: Message,
    /// The level of log messages that the child has to be asked for.
    pub(super) log_level: Option<usize>,
    crossing: Crossing,
    sent: Option<modern::Sent>,
}

impl Crossed {
    /// The era of the child that it was made for.
    pub(super) fn target(&self) -> Era {
        match self.crossing.direction {
            Direction::ModernToLegacy => Era::Legacy,
            Direction::LegacyToModern => Era::Modern,
        }
    }
}

impl StdioBinding {
    /// Translates a message, or answers it.
    pub(super) fn cross(&self, message: &Message, crossing: &Crossing) -> Result<Crossed, Outcome> {
        let translated = match crossing.direction {
            Direction::ModernToLegacy => self.down_to_legacy(message, crossing),
            Direction::LegacyToModern => self.down_to_modern(message, crossing),
        };
        if let Err((outcome, word)) = translated {
            self.bridged(crossing.direction, word, message.method());
            return Err(outcome);
        }
        translated.map_err(|(outcome, _)| outcome)
    }

    fn down_to_legacy(
        &self,
        message: &Message,
        crossing: &Crossing,
    ) -> Result<Crossed, (Outcome, MessageOutcome)> {
        match modern::down(message) {
            modern::Down::Local(outcome) => Err((outcome, MessageOutcome::Refused)),
            modern::Down::Discover => {
                let result = modern::discover_result(&crossing.about);
                Err((own::result(message.id(), &result), MessageOutcome::Local))
            }
            modern::Down::Send(sent) => Ok(Crossed {
                message: parsed(&sent.json)?,
                log_level: sent.log_level,
                crossing: crossing.clone(),
                sent: Some(sent),
            }),
        }
    }

    fn down_to_modern(
        &self,
        message: &Message,
        crossing: &Crossing,
    ) -> Result<Crossed, (Outcome, MessageOutcome)> {
        let down = {
            let mut connector = self.shared.connector();
            legacy::down(message, &mut connector, Some(&crossing.about))
        };
        match down {
            legacy::Down::Local(outcome) => Err((outcome, MessageOutcome::Local)),
            legacy::Down::Acknowledge => Err((Outcome::Accepted(Head::bare(200)), MessageOutcome::Local)),
            legacy::Down::Send(json) => Ok(Crossed {
                message: parsed(&json)?,
                log_level: None,
                crossing: crossing.clone(),
                sent: None,
            }),
        }
    }

    /// Waits for the answer to a translated message and translates it back.
    pub(super) fn cross_back(
        &self,
        exchange: &Exchange<'_>,
        crossed: &Crossed,
        mut wait: impl FnMut(&Message, OnEvent<'_>) -> Outcome,
        on_event: OnEvent<'_>,
    ) -> Outcome {
        let direction = crossed.crossing.direction;
        let dropped = Cell::new(0);
        let passed = Cell::new(false);
        let mut pass = |event: Event<'_>| {
            let json = match &crossed.sent {
                Some(sent) => modern::passes_up(event.json, sent).then(|| event.json.to_owned()),
                None => legacy::event_up(event.json),
            };
            match json {
                Some(json) => {
                    passed.set(true);
                    on_event(Event { head: event.head, json: &json });
                }
                None => dropped.set(dropped.get() + 1),
            }
        };
        let outcome = match direction {
            Direction::ModernToLegacy => match wait(&crossed.message, &mut pass) {
                Outcome::Answered(answer) => {
                    modern::up(answer, exchange.message.method(), &crossed.crossing.about)
                }
                other => other,
            },
            Direction::LegacyToModern => {
                self.until_complete(exchange, &crossed.message, &mut wait, &mut pass)
            }
        };
        let outcome = match outcome {
            Outcome::Answered(Answer { mut head, json }) => {
                let kind = if passed.get() { "text/event-stream" } else { "application/json" };
                head.headers.set("Content-Type", kind);
                Outcome::Answered(Answer { head, json })
            }
            other => other,
        };
        for _ in 0..dropped.get() {
            self.shared.tally.message(direction, MessageOutcome::Dropped);
        }
        let word = match outcome {
            Outcome::Answered(_) | Outcome::Accepted(_) => MessageOutcome::Mapped,
            _ => MessageOutcome::Failed,
        };
        self.bridged(direction, word, exchange.message.method());
        outcome
    }

    /// Repeats a call as long as its server only wants its own state back.
    fn until_complete(
        &self,
        exchange: &Exchange<'_>,
        first: &Message,
        wait: &mut impl FnMut(&Message, OnEvent<'_>) -> Outcome,
        on_event: OnEvent<'_>,
    ) -> Outcome {
        let (id, method) = (exchange.message.id(), exchange.message.method());
        let mut again: Option<Message> = None;
        let mut pause = RETRY_PAUSE;
        let mut retries = 0;
        loop {
            let message = again.as_ref().unwrap_or(first);
            let answer = match wait(message, &mut *on_event) {
                Outcome::Answered(answer) => answer,
                other => return other,
            };
            let left = exchange.deadline.remaining();
            let last = retries >= MAX_RETRIES || left.is_some_and(|left| left <= pause);
            match legacy::up(answer, id, method, last) {
                legacy::Up::Done(Answer { head, json }, why) => {
                    if let Some(reason) = why {
                        log::warn!(target: "mcpclient", transport = "stdio",
                            channel = self.shared.tag.channel.as_str(),
                            child_generation = self.health().generation, method, reason;
                            "unmappable result for legacy connector");
                    }
                    return Outcome::Answered(Answer { head, json: own::with_id(&json, id) });
                }
                legacy::Up::Again(state) => {
                    let next = legacy::again(message.json(), &own::next_id("retry"), &state);
                    let Some(next) = next.and_then(|json| Message::parse(json).ok()) else {
                        return failed(Source::ClientInternal, FailureKind::Unknown);
                    };
                    if self.cancel.wait(pause) {
                        return failed(Source::ClientInternal, FailureKind::Canceled);
                    }
                    again = Some(next);
                    retries += 1;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
            }
        }
    }

    fn bridged(&self, direction: Direction, outcome: MessageOutcome, method: &str) {
        self.shared.tally.message(direction, outcome);
        if !log::log_enabled!(target: "mcpclient", log::Level::Debug) {
            return;
        }
        log::debug!(target: "mcpclient", transport = "stdio", channel = self.shared.tag.channel.as_str(),
            child_generation = self.health().generation, direction = direction.label(), rpc_method = method, outcome = outcome.label(); "bridged message");
    }
}

fn parsed(json: &str) -> Result<Message, (Outcome, MessageOutcome)> {
    Message::parse(json)
        .map_err(|_| (failed(Source::ClientInternal, FailureKind::Unknown), MessageOutcome::Failed))
}
