//! One command from admission to its terminal response.

use std::time::Duration;

use log::Level;

use crate::control_plane::{Command, Refusal, ResponseBody, Work, filter_response_headers};
use crate::ids::Channel;
use crate::jsonrpc::{INTERNAL_ERROR, Kind, Message, error_response};
use crate::mcp::{Answer, Binding, Exchange, Failure, FailureKind, Head, Outcome, Source};
use crate::net::{Deadline, HeaderList};
use crate::oauth::{self, Discovery};

use super::listens::{self, Listens};
use super::outcome::{self, Response};
use super::reply::Reply;
use super::trace::{trace_answer, trace_failure, trace_notification, traced};
use super::{Observer, Place, Routes};

const BAD_REQUEST: u16 = 400;
const NOT_FOUND: u16 = 404;
const BAD_GATEWAY: u16 = 502;
/// A failure this close before the deadline is its doing.
const DEADLINE_SLACK: Duration = Duration::from_millis(50);

/// What all commands meet.
pub(super) struct Site<'a> {
    pub(super) routes: &'a Routes,
    pub(super) discovery: Option<&'a Discovery>,
    /// Bounds one exchange whatever the command's own deadline is.
    pub(super) ttl: Duration,
    pub(super) observer: &'a dyn Observer,
    pub(super) listens: &'a Listens,
}

/// Executes `command` and posts what comes of it. Its `place` is given up early whatever it is.
pub(super) fn process(command: &Command, place: Option<Place>, site: &Site<'_>, reply: &mut Reply<'_>) {
    // Whatever enters no transport keeps nobody waiting.
    let place = place.filter(|_| matches!(command.work, Work::JsonRpc(_)));
    if command.deadline.is_past() {
        reply.silence();
        return;
    }
    if let Work::Refused(Refusal { code, body }) = &command.work {
        reply.refuse(bare(body.clone(), *code));
        return;
    }
    let routed = site.routes.get(&command.channel).filter(|binding| binding.is_routable());
    let (Some(binding), true) = (routed, serves(&command.channel, &command.work)) else {
        unsupported_channel(command, site.observer, reply);
        return;
    };
    // The window opens here, so that a server that never answers cannot hold a worker for ever.
    let deadline = command.deadline.earliest(Deadline::after(site.ttl));
    match &command.work {
        Work::JsonRpc(message) => {
            let listening = listens::is_listen(message).then(|| site.listens.enter());
            if let Some(None) = listening {
                return reply.finish(listens::refused(message), None);
            }
            forward(command, message, (binding, place), deadline, reply);
        }
        Work::SessionTermination => {
            let outcome = binding.terminate_session(&command.headers, deadline);
            let ending = Ending {
                accepted: outcome::terminated,
                done: "session terminated",
                failed: &outcome::failed_termination,
            };
            conclude(command, deadline, outcome, reply, ending);
        }
        Work::OauthDiscovery => discover(command, site.discovery, reply),
        Work::Refused(_) => {}
    }
}

/// Answers a command that will not be executed because the client is stopping or its worker failed.
pub(super) fn abandon(command: &Command, reply: &mut Reply<'_>) {
    if command.deadline.is_past() {
        reply.silence();
        return;
    }
    let failure = Failure::broken(Source::ClientInternal, FailureKind::Unknown);
    let response = match &command.work {
        Work::JsonRpc(message) if message.kind() == Kind::Call => outcome::failed_call(message.id(), failure),
        Work::JsonRpc(_) => outcome::failed_notification(failure),
        Work::SessionTermination => outcome::failed_termination(failure),
        Work::OauthDiscovery => {
            oauth_error(BAD_GATEWAY, "the tunnel client could not run the discovery", "client_internal")
        }
        Work::Refused(Refusal { code, body }) => return reply.refuse(bare(body.clone(), *code)),
    };
    reply.finish(response, None);
}

/// Only `main` has OAuth discovery.
fn serves(channel: &Channel, work: &Work) -> bool {
    !matches!(work, Work::OauthDiscovery) || channel.is_main()
}

fn forward(
    command: &Command,
    message: &Message,
    (binding, mut place): (&Binding, Option<Place>),
    deadline: Deadline,
    reply: &mut Reply<'_>,
) {
    if let Some(place) = &mut place {
        place.wait(deadline);
    }
    let mut entered = || {
        if let Some(place) = &mut place {
            place.leave();
        }
    };
    let exchange = Exchange { message, headers: &command.headers, deadline };
    // All notifications of one exchange share one head.
    let mut event_headers: Option<HeaderList> = None;
    let outcome = binding.exchange_in_turn(&exchange, &mut entered, &mut |event| {
        trace_notification(command, &event);
        let headers =
            event_headers.get_or_insert_with(|| filter_response_headers(&outcome::event_headers(event.head)));
        reply.notify(event.json, event.head.status, headers, deadline);
    });
    drop(place);
    let call = message.kind() == Kind::Call;
    let failed = |failure| match call {
        true => outcome::failed_call(message.id(), failure),
        false => outcome::failed_notification(failure),
    };
    let ending =
        Ending { accepted: outcome::acknowledged, done: "notification acknowledged", failed: &failed };
    conclude(command, deadline, outcome, reply, ending);
}

/// What a command makes of the ways an exchange can end.
struct Ending<'a> {
    accepted: fn(Head) -> Response,
    /// The log's word for that.
    done: &'static str,
    failed: &'a dyn Fn(Failure) -> Response,
}

/// Turns an outcome into the terminal response, or into silence after the command's own deadline.
/// `deadline` is the exchange's.
fn conclude(
    command: &Command,
    deadline: Deadline,
    outcome: Outcome,
    reply: &mut Reply<'_>,
    ending: Ending<'_>,
) {
    let failure = match outcome {
        Outcome::Answered(answer) => return answered(command, answer, reply),
        Outcome::Accepted(head) => {
            let refused = matches!(command.work, Work::SessionTermination) && !head.is_success();
            if refused {
                let trace = traced(command);
                trace.event(Level::Warn).with("status_code", head.status).emit("session termination refused");
            }
            return reply.finish((ending.accepted)(head), Some(ending.done).filter(|_| !refused));
        }
        // Not asked of the clock alone: a transport may notice its deadline a moment early.
        Outcome::Expired if command.deadline == deadline || command.deadline.is_past() => {
            return reply.silence();
        }
        Outcome::Expired => {
            if let Work::JsonRpc(message) = &command.work
                && listens::is_listen(message)
                && let Some(id) = message.id()
            {
                return reply.finish(listens::ended(id), Some("subscription ended with its connection"));
            }
            let unanswered = matches!(command.work, Work::SessionTermination);
            // There is no payload that could tell this from any other silence of the server.
            let kind = if unanswered { FailureKind::Timeout } else { FailureKind::Ttl };
            Failure::broken(Source::Timeout, kind)
        }
        // Its connector does not listen any more. Without a deadline, nothing else would ever end it.
        Outcome::Withdrawn if command.deadline != Deadline::NEVER => return reply.withdraw(),
        Outcome::Withdrawn => Failure::broken(Source::ClientInternal, FailureKind::Canceled),
        Outcome::Failed(failure) => failure,
    };
    let classified = outcome::classify(&failure);
    trace_failure(command, classified, failure.head());
    reply.finish((ending.failed)(failure), None);
}

fn answered(command: &Command, answer: Answer, reply: &mut Reply<'_>) {
    trace_answer(command, &answer);
    reply.finish(outcome::answered(answer), Some("command forwarded"));
}

fn unsupported_channel(command: &Command, observer: &dyn Observer, reply: &mut Reply<'_>) {
    let channel = command.channel.as_str();
    let (command_type, response) = match &command.work {
        Work::JsonRpc(message) if message.kind() == Kind::Call => {
            let text = format!("Bad Request: unsupported channel \"{channel}\"");
            let json = error_response(message.id(), INTERNAL_ERROR, &text, None);
            ("jsonrpc", bare(ResponseBody::JsonRpc(json), BAD_REQUEST))
        }
        Work::JsonRpc(_) => ("jsonrpc", bare(ResponseBody::NotifyAck, BAD_REQUEST)),
        Work::SessionTermination => {
            ("session_termination", bare(ResponseBody::SessionTermination, BAD_REQUEST))
        }
        Work::OauthDiscovery => {
            let message = format!("unsupported channel \"{channel}\"");
            ("oauth_discovery", oauth_error(BAD_REQUEST, &message, "unsupported_channel"))
        }
        Work::Refused(refusal) => ("unknown", bare(refusal.body.clone(), refusal.code)),
    };
    observer.unsupported_channel(&command.channel, command_type);
    traced(command).event(Level::Error).with("command_type", command_type).emit("unsupported channel");
    reply.refuse(response);
}

/// Posts what a discovery of its own comes to; without one there is no server that could have metadata.
fn discover(command: &Command, discovery: Option<&Discovery>, reply: &mut Reply<'_>) {
    let answer = match discovery {
        Some(discovery) => discovery.answer(command.deadline),
        None => oauth::Answer::NotAdvertised("an MCP server on stdio has no OAuth metadata".to_owned()),
    };
    // What ends with the deadline may notice it a moment early.
    let failed = matches!(answer, oauth::Answer::Failed(_));
    let left = command.deadline.remaining();
    if left.is_some_and(|left| left.is_zero() || (failed && left <= DEADLINE_SLACK)) {
        return reply.silence();
    }
    let (response, success) = match answer {
        oauth::Answer::Document { status, headers, json } => {
            let body = ResponseBody::OauthDiscovery(json);
            (Response { body, code: status, headers }, Some("OAuth metadata forwarded"))
        }
        oauth::Answer::NotAdvertised(message) => {
            (oauth_error(NOT_FOUND, &message, "oauth_metadata_not_found"), None)
        }
        oauth::Answer::Failed(message) => {
            (oauth_error(BAD_GATEWAY, &message, "oauth_discovery_failed"), None)
        }
    };
    if success.is_none() {
        let trace = traced(command);
        trace.event(Level::Warn).with("status_code", response.code).emit("no OAuth metadata to forward");
    }
    reply.finish(response, success);
}

fn bare(body: ResponseBody, code: u16) -> Response {
    Response { body, code, headers: HeaderList::new() }
}

fn oauth_error(code: u16, message: &str, error_code: &str) -> Response {
    let kind = if code < 500 { "invalid_request_error" } else { "server_error" };
    let message = serde_json::Value::from(message);
    let json = format!(r#"{{"error":{{"message":{message},"type":"{kind}","code":"{error_code}"}}}}"#);
    bare(ResponseBody::OauthDiscovery(json), code)
}
