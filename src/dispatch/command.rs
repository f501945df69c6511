//! One command from admission to its terminal response.

use std::time::Duration;

use crate::control_plane::{Command, Refusal, ResponseBody, Work};
use crate::ids::Channel;
use crate::jsonrpc::{INTERNAL_ERROR, Kind, Message, error_response};
use crate::mcp::{Binding, Exchange, Failure, FailureKind, Outcome, Source};
use crate::net::{Deadline, HeaderList};

use super::outcome::{self, Classified, Response};
use super::reply::Reply;
use super::{Observer, Routes};

const BAD_REQUEST: u16 = 400;
const NOT_FOUND: u16 = 404;
const BAD_GATEWAY: u16 = 502;

/// Executes `command` and posts what comes of it. `ttl` bounds one exchange whatever the command's
/// own deadline is.
pub(super) fn process(
    command: &Command,
    routes: &Routes,
    ttl: Duration,
    observer: &dyn Observer,
    reply: &mut Reply<'_>,
) {
    if command.deadline.is_past() {
        reply.silence();
        return;
    }
    if let Work::Refused(Refusal { code, body }) = &command.work {
        reply.finish(bare(body.clone(), *code));
        return;
    }
    let routed = routes.get(&command.channel);
    let (Some(binding), true) = (routed, serves(&command.channel, &command.work)) else {
        unsupported_channel(command, observer, reply);
        return;
    };
    // The window opens here, so that a server that never answers cannot hold a worker for ever.
    let deadline = command.deadline.earliest(Deadline::after(ttl));
    match &command.work {
        Work::JsonRpc(message) => forward(command, message, binding, deadline, reply),
        Work::SessionTermination => {
            let outcome = binding.terminate_session(&command.headers, deadline);
            conclude(command, outcome, reply, outcome::terminated, outcome::failed_termination);
        }
        Work::OauthDiscovery => {
            reply.finish(oauth_error(NOT_FOUND, "no OAuth metadata was found", "oauth_discovery_failed"))
        }
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
        Work::JsonRpc(message) if message.kind() == Kind::Call => {
            outcome::failed_call(message.id(), failure).0
        }
        Work::JsonRpc(_) => outcome::failed_notification(failure).0,
        Work::SessionTermination => outcome::failed_termination(failure).0,
        Work::OauthDiscovery => {
            oauth_error(BAD_GATEWAY, "the tunnel client could not run the discovery", "client_internal")
        }
        Work::Refused(Refusal { code, body }) => bare(body.clone(), *code),
    };
    reply.finish(response);
}

/// Only `main` has OAuth discovery.
fn serves(channel: &Channel, work: &Work) -> bool {
    !matches!(work, Work::OauthDiscovery) || channel.is_main()
}

fn forward(
    command: &Command,
    message: &Message,
    binding: &Binding,
    deadline: Deadline,
    reply: &mut Reply<'_>,
) {
    let exchange = Exchange { message, headers: &command.headers, deadline };
    let outcome = binding.exchange(&exchange, &mut |event| {
        reply.notify(outcome::event(event.head, event.json), deadline);
    });
    match message.kind() {
        Kind::Notification => {
            conclude(command, outcome, reply, outcome::acknowledged, outcome::failed_notification)
        }
        Kind::Call | Kind::Response => {
            conclude(command, outcome, reply, outcome::acknowledged, |failure| {
                outcome::failed_call(message.id(), failure)
            });
        }
    }
}

/// Turns an outcome into the terminal response, or into silence after the deadline.
fn conclude(
    command: &Command,
    outcome: Outcome,
    reply: &mut Reply<'_>,
    accepted: impl FnOnce(crate::mcp::Head) -> Response,
    failed: impl FnOnce(Failure) -> (Response, Classified),
) {
    let failure = match outcome {
        Outcome::Answered(answer) => {
            log::debug!(target: "dispatcher", request_id = command.request_id.as_str(),
                channel = command.channel.as_str(), status_code = answer.head.status; "MCP server answered");
            return reply.finish(outcome::answered(answer));
        }
        Outcome::Accepted(head) => return reply.finish(accepted(head)),
        Outcome::Expired if command.deadline.is_past() => return reply.silence(),
        Outcome::Expired => Failure::broken(Source::Timeout, FailureKind::Ttl),
        Outcome::Failed(failure) => failure,
    };
    let (response, classified) = failed(failure);
    log_failure(command, classified);
    reply.finish(response);
}

fn log_failure(command: &Command, classified: Classified) {
    let (method, rpc_id) = match &command.work {
        Work::JsonRpc(message) => (message.method(), message.id().map(|id| id.as_json()).unwrap_or_default()),
        _ => ("", ""),
    };
    log::warn!(target: "dispatcher",
        request_id = command.request_id.as_str(),
        cmd_request_id = command.connector_request_id().unwrap_or_default(),
        rpc_request_id = rpc_id,
        session_id = command.session_id().unwrap_or_default(),
        channel = command.channel.as_str(),
        rpc_method = method,
        status_code = classified.code,
        failure_source = classified.source.label(),
        transport_error_kind = classified.kind.label(),
        upstream_response_received = classified.upstream_status.is_some(),
        upstream_status = classified.upstream_status.unwrap_or_default(),
        tunnel_client_version = crate::VERSION;
        "MCP exchange failed");
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
    log::error!(target: "dispatcher", request_id = command.request_id.as_str(), channel = channel,
        command_type = command_type; "unsupported channel");
    reply.finish(response);
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
