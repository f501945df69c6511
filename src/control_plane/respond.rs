//! Posting responses.
//!
//! Invariant: every attempt of one posting sends the same bytes and headers, and none starts after
//! the posting's deadline.

use std::time::Duration;

use log::Level;

use super::client::{Client, Outgoing, millis};
use super::errors::{StatusError, Told};
use super::event::{TARGET, enabled};
use super::identity::{CLIENT_REQUEST_ID, SHARD_TOKEN};
use super::trace::Trace;
use super::types::{Command, Delivery, Posting, ResponseBody};
use crate::net::{Backoff, Cause, Deadline, HeaderList, HeaderMap, HeaderValue, Method, header, long};
use crate::secret::Secret;

/// Path template of responses, for metrics.
const ROUTE: &str = "/v1/tunnels/{tunnel_id}/response";
/// Most attempts of one posting.
const ATTEMPTS: u32 = 3;
/// Longest single attempt.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(15);
/// Longest posting, all attempts and waits together.
const POSTING_TIME_MAX: Duration = Duration::from_secs(60);
/// Pause before a connection is tried again for which this host has no room.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How one attempt ended.
enum Attempt {
    Status { status: u16, retry_after: Option<Duration>, error: Option<StatusError> },
    Failed { error: crate::net::Error },
}

/// A posting's end, and what the log shall say about it.
struct Report {
    delivery: Delivery,
    attempts: u32,
    tunnel_request_id: Option<String>,
    error: Option<String>,
    status: Option<StatusError>,
}

impl Client {
    /// Posts one response and waits until it is delivered or given up. Blocks no longer than 60 s,
    /// and not beyond the posting's deadline.
    pub fn post(&self, posting: &Posting<'_>) -> Delivery {
        let report = self.deliver(posting);
        self.observer.response_posted(posting.body.wire_type(), report.delivery.label());
        log_report(posting, &report);
        report.delivery
    }

    fn deliver(&self, posting: &Posting<'_>) -> Report {
        let mut report = Report {
            delivery: Delivery::Exhausted,
            attempts: 0,
            tunnel_request_id: None,
            error: None,
            status: None,
        };
        let headers = match self.response_headers(posting.command) {
            Ok(headers) => headers,
            Err(error) => {
                report.error = Some(error);
                return report;
            }
        };
        let body = render(posting);
        let deadline = posting.deadline.earliest(Deadline::after(POSTING_TIME_MAX));
        let out_of_time = if deadline == posting.deadline { Delivery::Expired } else { Delivery::Exhausted };
        let is_final = posting.body.is_final();
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        let mut server_errors = 0;
        let mut exhausted = false;
        loop {
            if self.cancel.is_cancelled() {
                return report.ended(Delivery::Cancelled);
            }
            if deadline.is_past() {
                return report.ended(out_of_time);
            }
            report.attempts += 1;
            let attempt = self.attempt(&posting.command.shard_token, &headers, &body, deadline, &mut report);
            let retry_after = match attempt {
                Attempt::Status { status: 200, .. } => return report.ended(Delivery::Delivered),
                Attempt::Status { status: 404, error, .. } => {
                    report.status = error;
                    return report.ended(Delivery::Gone);
                }
                Attempt::Status { status, retry_after, error } => {
                    report.status = error;
                    report.error = None;
                    server_errors += u32::from(status == 500);
                    if !status_is_retried(is_final, status, server_errors) {
                        return report.ended(Delivery::Rejected(status));
                    }
                    retry_after
                }
                Attempt::Failed { error } => {
                    report.status = None;
                    report.error = Some(error.to_string());
                    if self.cancel.is_cancelled() || error.cause == Cause::Cancelled {
                        return report.ended(Delivery::Cancelled);
                    }
                    if deadline.is_past() {
                        return report.ended(out_of_time);
                    }
                    if error.cause == Cause::InvalidRequest || (!is_final && error.written) {
                        return report;
                    }
                    if is_final && error.cause == Cause::Exhausted {
                        // Nothing left this host: no attempt, however often it happens until the time ends.
                        report.attempts -= 1;
                        if !std::mem::replace(&mut exhausted, true) {
                            log_retry(posting, &report, EXHAUSTED_PAUSE);
                        }
                        if self.cancel.wait(EXHAUSTED_PAUSE) {
                            return report.ended(Delivery::Cancelled);
                        }
                        continue;
                    }
                    None
                }
            };
            if report.attempts == ATTEMPTS {
                return report;
            }
            let delay = backoff.next_delay().max(retry_after.unwrap_or_default());
            if deadline.remaining().is_some_and(|left| left <= delay) {
                return report.ended(out_of_time);
            }
            log_retry(posting, &report, delay);
            if self.cancel.wait(delay) {
                return report.ended(Delivery::Cancelled);
            }
        }
    }

    fn attempt(
        &self,
        token: &Secret<String>,
        headers: &HeaderMap,
        body: &[u8],
        deadline: Deadline,
        report: &mut Report,
    ) -> Attempt {
        let outgoing = Outgoing {
            route: ROUTE,
            method: Method::POST,
            uri: &self.endpoints.response,
            headers: headers.clone(),
            body: Some(body),
            deadline: deadline.earliest(Deadline::after(ATTEMPT_TIME_MAX.min(self.request_time))),
        };
        let mut reply = match self.send(&self.post_http, outgoing) {
            Ok(reply) => reply,
            Err(error) => return Attempt::Failed { error },
        };
        report.tunnel_request_id = reply.tunnel_request_id.take();
        let (status, retry_after) = (reply.status, reply.retry_after);
        let error = match status {
            200 => {
                reply.discard();
                None
            }
            _ => Some(StatusError { status, detail: self.error_detail(reply, Some(token)) }),
        };
        Attempt::Status { status, retry_after, error }
    }

    fn response_headers(&self, command: &Command) -> Result<HeaderMap, String> {
        if command.request_id.is_empty() || command.shard_token.expose().is_empty() {
            return Err("a response needs a request id and a shard token".to_owned());
        }
        let mut headers = self.request_headers().map_err(|error| error.to_string())?;
        let mut token = HeaderValue::from_bytes(command.shard_token.expose().as_bytes())
            .map_err(|_| "the shard token cannot be sent in a header".to_owned())?;
        token.set_sensitive(true);
        headers.insert(SHARD_TOKEN, token);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(Ok(id)) = command.connector_request_id().map(str::as_bytes).map(HeaderValue::from_bytes) {
            headers.insert(CLIENT_REQUEST_ID, id);
        }
        Ok(headers)
    }
}

impl Report {
    fn ended(self, delivery: Delivery) -> Report {
        Report { delivery, ..self }
    }
}

/// Whether a status other than 200 and 404 is worth another attempt. A 500 is probably transient,
/// but its request may have been executed: one more attempt, which a 404 would then end.
fn status_is_retried(is_final: bool, status: u16, server_errors: u32) -> bool {
    match status {
        429 => true,
        408 | 502 | 503 | 504 => is_final,
        500 => is_final && server_errors < 2,
        _ => false,
    }
}

/// The body, with the payload's bytes as they are.
fn render(posting: &Posting<'_>) -> Vec<u8> {
    let payload = match posting.body {
        ResponseBody::JsonRpc(json) | ResponseBody::Notify(json) | ResponseBody::OauthDiscovery(json) => {
            Some(json)
        }
        ResponseBody::NotifyAck | ResponseBody::SessionTermination => None,
    };
    let mut body = long::buffer_for(payload.map_or(0, String::len) + 512);
    body.extend_from_slice(br#"{"request_id":"#);
    push_string(&mut body, &posting.command.request_id);
    body.extend_from_slice(br#","channel":"#);
    push_string(&mut body, posting.command.channel.as_str());
    if let Some(json) = payload {
        body.extend_from_slice(br#","resp_json":"#);
        body.extend_from_slice(json.as_bytes());
    }
    if !posting.headers.is_empty() {
        body.extend_from_slice(br#","resp_headers":"#);
        push_headers(&mut body, posting.headers);
    }
    body.extend_from_slice(format!(r#","resp_code":{},"resp_type":""#, posting.code).as_bytes());
    body.extend_from_slice(posting.body.wire_type().as_bytes());
    body.extend_from_slice(br#""}"#);
    body
}

fn push_string(body: &mut Vec<u8>, text: &str) {
    // Writing a string to a Vec cannot fail.
    let _ = serde_json::to_writer(body, text);
}

/// An object of arrays; names that differ in case only share the first spelling.
fn push_headers(body: &mut Vec<u8>, headers: &HeaderList) {
    let mut seen: Vec<&str> = Vec::new();
    for (name, _) in headers.iter() {
        if seen.iter().any(|earlier| earlier.eq_ignore_ascii_case(name)) {
            continue;
        }
        body.push(if seen.is_empty() { b'{' } else { b',' });
        push_string(body, name);
        for (index, value) in headers.get_all(name).enumerate() {
            body.extend_from_slice(if index == 0 { b":[" } else { b"," });
            push_string(body, value);
        }
        body.push(b']');
        seen.push(name);
    }
    body.push(b'}');
}

/// The command that a response is for, as events about it name it.
fn traced<'a>(posting: &Posting<'a>) -> Trace<'a> {
    Trace::of(TARGET, posting.command).or_session(posting.headers.get("Mcp-Session-Id"))
}

fn log_retry(posting: &Posting<'_>, report: &Report, delay: Duration) {
    if !enabled(Level::Debug) {
        return;
    }
    let error = report.error.clone().or_else(|| report.status.as_ref().map(ToString::to_string));
    traced(posting)
        .event(Level::Debug)
        .with("resp_type", posting.body.wire_type())
        .with_some("error", error.as_deref())
        .with("retry_in_ms", millis(delay))
        .emit("response not delivered yet; retrying");
}

fn log_report(posting: &Posting<'_>, report: &Report) {
    let (level, message) = match report.delivery {
        Delivery::Delivered => (Level::Debug, "response delivered"),
        Delivery::Gone => {
            (Level::Warn, "response not needed any more: already fulfilled, expired or unknown")
        }
        Delivery::Rejected(_) => (Level::Error, "response rejected by the control plane"),
        Delivery::Exhausted => (Level::Error, "response could not be delivered"),
        // The command tells of it.
        Delivery::Expired => (Level::Debug, "response abandoned: the command's deadline has passed"),
        Delivery::Cancelled => (Level::Info, "response abandoned: the client is stopping"),
    };
    if !enabled(level) {
        return;
    }
    let error = report.error.clone().or_else(|| report.status.as_ref().map(ToString::to_string));
    let told = Told::of(report.status.as_ref());
    let trace = traced(posting);
    let mut event = trace
        .event(level)
        .with("resp_type", posting.body.wire_type())
        .with("resp_code", posting.code)
        .with("attempts", report.attempts)
        .with_some("tunnel_request_id", report.tunnel_request_id.as_deref())
        .with_some("error", error.as_deref());
    event = told.fields_of(event);
    if posting.body.is_final() {
        event = event.with("finalResponse", true);
    }
    event.emit(message);
}
