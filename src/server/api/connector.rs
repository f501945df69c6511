//! The connector endpoint: one message in, held until the client behind the tunnel has answered.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::accept::{Accept, is_event_stream};
use super::error::{code, error, unauthenticated};
use super::message::{self, Summary};
use super::post::bad_body;
use super::route::percent_decode;
use super::{
    Api, CONNECTOR_KEY, IngressAuth, challenge, forward, method_not_allowed, relay, tunnel_id, unavailable,
};
use crate::ids::Channel;
use crate::jsonrpc::{Id, error_response, single_line};
use crate::net::front::{BadBody, Exchange, Head, Method, Response, Stream, Wake};
use crate::server::engine::{
    Admission, Answer, AnswerKind, Command, End, Hold, Kind, Origin, Outcome, Refusal, Step, Story, Tunnel,
};

/// Time between comments on a stream that carries nothing else.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a held request is about, for its answer and for the log.
pub(super) struct Call<'a> {
    pub(super) tunnel: &'a Arc<Tunnel>,
    pub(super) channel: Channel,
    pub(super) origin: Origin,
    pub(super) kind: Kind,
    /// The only client that may have it.
    pub(super) pin: Option<Arc<str>>,
    /// The MCP session it names.
    pub(super) session: Option<String>,
    pub(super) summary: Option<Summary>,
    pub(super) accept: Accept,
    pub(super) deadline: Instant,
}

/// What came for a held request.
pub(super) enum Got {
    Notification(Answer),
    Terminal(Answer),
    Ended(End),
    Timeout,
    CallerGone,
}

impl Api {
    pub(super) fn connector(&self, head: &Head, exchange: &mut Exchange<'_>, tunnel: &str, channel: &str) {
        if let Err(response) = self.connector_response(head, exchange, tunnel, channel) {
            let _ = exchange.respond(&response);
        }
    }

    /// `Ok` when the exchange has been answered, or given up, already.
    fn connector_response(
        &self,
        head: &Head,
        exchange: &mut Exchange<'_>,
        tunnel: &str,
        channel: &str,
    ) -> Result<(), Response> {
        let id = tunnel_id(tunnel)?;
        let channel =
            percent_decode(channel).and_then(|text| Channel::parse(&text).ok()).ok_or_else(|| {
                let message = "a channel is 1 to 64 lowercase letters, digits, hyphens or underscores";
                error(400, Some(code::INVALID_CHANNEL), message)
            })?;
        let tunnel = self.engine.tunnel(&id).ok_or_else(|| error(404, None, "there is no such tunnel"))?;
        let kind = match head.method {
            Method::Post => Kind::JsonRpc,
            Method::Delete => Kind::SessionTermination,
            Method::Get | Method::Head | Method::Other => return Err(method_not_allowed("POST, DELETE")),
        };
        self.check_ingress(head, exchange)?;
        let (summary, payload) = match kind {
            Kind::JsonRpc => {
                let body = self.read_message(exchange)?;
                let Some(body) = body else { return Ok(()) };
                let summary =
                    message::check(&body).map_err(|reason| error(400, Some(code::INVALID_JSON), reason))?;
                (Some(summary), Some(body))
            }
            Kind::SessionTermination | Kind::OauthDiscovery => {
                if head.value("Mcp-Session-Id").is_none_or(str::is_empty) {
                    let message = "ending a session needs its Mcp-Session-Id header";
                    return Err(error(400, Some(code::MISSING_SESSION), message));
                }
                (None, None)
            }
        };
        let started = Instant::now();
        let accept = Accept::of(head.values("Accept"));
        let deadline = started + tunnel.limits().response_timeout;
        let origin = Origin::Connector;
        // Only affinity asks for it.
        let session = tunnel.limits().affinity_lease.and(head.value("Mcp-Session-Id"));
        let session = session.filter(|id| !id.is_empty()).map(str::to_owned);
        let call =
            Call { tunnel: &tunnel, channel, origin, kind, pin: None, session, summary, accept, deadline };
        let headers = forward::command_headers(head.headers(), exchange.id());
        let hold = self.hold(&call, started, &headers, payload.as_deref(), exchange)?;
        drop(payload);
        self.answer(&call, hold, head, exchange);
        Ok(())
    }

    pub(super) fn check_ingress(&self, head: &Head, exchange: &Exchange<'_>) -> Result<(), Response> {
        let allowed = match self.options.ingress_auth {
            IngressAuth::None => true,
            IngressAuth::Key => {
                let mut values = head.values(CONNECTOR_KEY);
                values.next().is_some_and(|key| values.next().is_none() && self.access().is_connector(key))
            }
            IngressAuth::Mtls => exchange.peer().client_certificate,
        };
        if allowed {
            return Ok(());
        }
        Err(unauthenticated(match self.options.ingress_auth {
            IngressAuth::Mtls => "a TLS client certificate is needed to call this endpoint",
            _ => "the connector key is missing or wrong; send it in the X-Tunnel-Connector-Key header",
        }))
    }

    /// The body as text; `None` when the caller left in the middle.
    fn read_message(&self, exchange: &mut Exchange<'_>) -> Result<Option<String>, Response> {
        let limit = self.options.request_bytes;
        let body = match exchange.read_body(limit) {
            Ok(body) => body,
            Err(BadBody::TooLarge) => {
                let message = format!("the request exceeds the limit of {limit} bytes");
                return Err(error(413, Some(code::TOO_LARGE), &message));
            }
            Err(bad) => {
                exchange.close_after();
                return bad_body(bad).map_or(Ok(None), Err);
            }
        };
        if body.is_empty() {
            return Err(error(400, Some(code::INVALID_JSON), "the body is empty; send one JSON-RPC message"));
        }
        let text = String::from_utf8(body);
        text.map(Some).map_err(|_| error(400, Some(code::INVALID_JSON), "the body is not UTF-8"))
    }

    pub(super) fn hold(
        &self,
        call: &Call<'_>,
        started: Instant,
        headers: &[crate::server::engine::Header],
        payload: Option<&str>,
        exchange: &mut Exchange<'_>,
    ) -> Result<Hold, Response> {
        let id = self.engine.request_id();
        let waker = exchange.waker().map_err(|_| unavailable("the server has no descriptors left"))?;
        let token = self.engine.sealer().seal(call.tunnel.id(), id);
        let now = SystemTime::now();
        let command = Command::render(id, &token, call.kind, &call.channel, now, headers, payload);
        let admission = Admission {
            id,
            origin: call.origin,
            kind: call.kind,
            channel: call.channel.clone(),
            pin: call.pin.clone(),
            session: call.session.clone(),
            command,
            started,
            deadline: call.deadline,
            waker,
        };
        call.tunnel.admit(admission).map_err(|refusal| {
            self.engine.counters().command_refused(call.origin, call.kind);
            refused(refusal)
        })
    }

    /// Waits for the answer and sends it.
    fn answer(&self, call: &Call<'_>, hold: Hold, head: &Head, exchange: &mut Exchange<'_>) {
        let response = match next(&hold, call, exchange) {
            Got::CallerGone => {
                self.end(call, hold, Outcome::Cancelled, None);
                return;
            }
            Got::Notification(first) => return self.stream(call, hold, &first, head, exchange),
            Got::Terminal(answer) => {
                let url = || self.options.public_url.protected_resource(head, exchange, call.tunnel.id());
                let rendered = render(call, &answer, &url);
                let status = rendered.response().status;
                self.end(call, hold, Outcome::Answered, Some(status));
                match rendered {
                    Rendered::Plain(response) => response,
                    Rendered::Stream(response, event) => {
                        let mut stream = exchange.stream(&response);
                        push_event(&mut stream, &event);
                        let _ = stream.finish();
                        return;
                    }
                }
            }
            Got::Ended(end) => {
                let (outcome, response) = ended(end);
                self.end(call, hold, outcome, Some(response.status));
                response
            }
            Got::Timeout => {
                let end = if hold.is_delivered() { None } else { Some(End::ExpiredQueued) };
                let (outcome, response) = end.map_or_else(timed_out, ended);
                self.end(call, hold, outcome, Some(response.status));
                response
            }
        };
        let _ = exchange.respond(&response);
    }

    /// Sends an event stream: notifications as they come, then the answer.
    fn stream(&self, call: &Call<'_>, hold: Hold, first: &Answer, head: &Head, exchange: &mut Exchange<'_>) {
        let url = || self.options.public_url.protected_resource(head, exchange, call.tunnel.id());
        let opening = stream_head(first, &url);
        let mut stream = exchange.stream(&opening);
        push_answer(&mut stream, first);
        let mut late = false;
        loop {
            let end = match hold.next() {
                // Everything that is there leaves in one write.
                Step::Notification(answer) => {
                    push_answer(&mut stream, &answer);
                    continue;
                }
                Step::Terminal(answer) => {
                    push_answer(&mut stream, &answer);
                    self.end(call, hold, Outcome::Answered, Some(200));
                    let _ = stream.finish();
                    return;
                }
                Step::Ended(end) => Some(end),
                Step::Nothing if late => None,
                Step::Nothing => {
                    if stream.flush().is_err() {
                        self.end(call, hold, Outcome::Cancelled, Some(200));
                        return;
                    }
                    let keep_alive = Instant::now() + KEEP_ALIVE;
                    match stream.wait(keep_alive.min(call.deadline)) {
                        Wake::Woken => {}
                        Wake::PeerGone => {
                            self.end(call, hold, Outcome::Cancelled, Some(200));
                            return;
                        }
                        Wake::Deadline if keep_alive < call.deadline => stream.push(": keep-alive\n\n"),
                        Wake::Deadline => late = true,
                    }
                    continue;
                }
            };
            let id = call.summary.as_ref().and_then(|summary| summary.id.as_ref());
            let (outcome, event) = broken_off(end, id);
            push_event(&mut stream, &event);
            self.end(call, hold, outcome, Some(200));
            let _ = stream.finish();
            return;
        }
    }

    pub(super) fn end(&self, call: &Call<'_>, hold: Hold, outcome: Outcome, status: Option<u16>) -> Story {
        let id = hold.id();
        let story = hold.end(outcome);
        // Nothing for a command that no client took.
        let queued = story.queued_ms.map_or(log::kv::Value::null(), log::kv::Value::from);
        let level = if self.options.tells_commands { log::Level::Info } else { log::Level::Debug };
        log::log!(
            target: "server",
            level,
            request_id:% = id,
            tunnel_id:% = call.tunnel.id(),
            channel:% = call.channel,
            command_type = call.kind.as_str(),
            method = call.summary.as_ref().map_or("", |summary| summary.method.as_str()),
            outcome = outcome.as_str(),
            status = status.unwrap_or(0),
            queue_ms = queued,
            total_ms = story.total_ms,
            origin = call.origin.as_str(),
            client_instance_id = story.instance.as_str();
            "command ended"
        );
        story
    }
}

/// Waits for the first payload; notifications count only for a caller that takes a stream.
pub(super) fn next(hold: &Hold, call: &Call<'_>, exchange: &mut Exchange<'_>) -> Got {
    loop {
        // Waiting first: the waker is raised already if something has happened meanwhile.
        let wake = exchange.wait(call.deadline);
        if wake == Wake::PeerGone {
            return Got::CallerGone;
        }
        loop {
            match hold.next() {
                Step::Notification(answer) if call.accept.sse => return Got::Notification(answer),
                Step::Notification(_) => {}
                Step::Terminal(answer) => return Got::Terminal(answer),
                Step::Ended(end) => return Got::Ended(end),
                // The answer may have come with the deadline: it was looked for once more.
                Step::Nothing if wake == Wake::Deadline => return Got::Timeout,
                Step::Nothing => break,
            }
        }
    }
}

/// A terminal answer as the first payload.
enum Rendered {
    Plain(Response),
    Stream(Response, String),
}

impl Rendered {
    fn response(&self) -> &Response {
        match self {
            Rendered::Plain(response) | Rendered::Stream(response, _) => response,
        }
    }
}

fn render(call: &Call<'_>, answer: &Answer, metadata_url: &dyn Fn() -> String) -> Rendered {
    let status = relay::status(answer.code);
    let headers = relay::headers(&answer.headers);
    let content_type = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("Content-Type"));
    let is_stream = content_type.is_some_and(|(_, value)| is_event_stream(value));
    let json = answer.json.as_ref().filter(|_| call.kind == Kind::JsonRpc);
    if let Some(json) = json
        && (200..300).contains(&status)
        && call.accept.sse
        && (is_stream || call.accept.only_sse())
    {
        let event = single_line(json.as_str()).into_owned();
        return Rendered::Stream(stream_head(answer, metadata_url), event);
    }
    let status = match answer.kind {
        // MCP acknowledges notifications with 202 (2025-06-18, Sending Messages to the Server).
        AnswerKind::NotifyAck if (200..300).contains(&status) => 202,
        _ => status,
    };
    let mut response = Response::new(status);
    for (name, value) in &headers {
        if !name.eq_ignore_ascii_case("Content-Type") {
            response = add(response, name, value, metadata_url);
        }
    }
    if let Some(json) = json.filter(|_| !matches!(status, 204 | 304)) {
        let content_type = content_type.filter(|_| !is_stream).map_or("application/json", |(_, value)| value);
        response = response.header("Content-Type", content_type).with_body(json.as_str().as_bytes().to_vec());
    }
    Rendered::Plain(response)
}

/// The head of an event stream whose first payload is `first`.
fn stream_head(first: &Answer, metadata_url: &dyn Fn() -> String) -> Response {
    let mut response =
        Response::new(200).header("Content-Type", "text/event-stream").header("Cache-Control", "no-cache");
    for (name, value) in relay::headers(&first.headers) {
        let overridden = ["Content-Type", "Cache-Control"].iter().any(|own| own.eq_ignore_ascii_case(name));
        if !overridden {
            response = add(response, name, value, metadata_url);
        }
    }
    response
}

fn add(response: Response, name: &str, value: &str, metadata_url: &dyn Fn() -> String) -> Response {
    if name.eq_ignore_ascii_case("WWW-Authenticate") {
        response.header(name, &challenge::rewrite(value, &metadata_url()))
    } else {
        response.header(name, value)
    }
}

/// Adds an answer's payload as one event; one without payload makes none.
fn push_answer(stream: &mut Stream<'_>, answer: &Answer) {
    if let Some(json) = &answer.json {
        push_event(stream, &single_line(json.as_str()));
    }
}

fn push_event(stream: &mut Stream<'_>, line: &str) {
    stream.push("data: ");
    stream.push(line);
    stream.push("\n\n");
}

pub(super) fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::NeverSeen => error(
            404,
            Some(code::CLIENT_NOT_SEEN),
            "no tunnel client has polled this tunnel; start one with this tunnel id",
        ),
        Refusal::NotConnected => error(
            404,
            Some(code::CLIENT_NOT_CONNECTED),
            "the tunnel client has stopped polling; restart it or check its network",
        ),
        Refusal::QueueFull => {
            let message = "too many requests wait for the tunnel client; try again shortly";
            error(429, Some(code::QUEUE_FULL), message).header("Retry-After", "1")
        }
        Refusal::TooOften(wait) => {
            let message = "the tunnel is called too often; lower the number of calls";
            let seconds = wait.as_secs().saturating_add(1).min(60).to_string();
            error(429, Some(code::RATE_LIMIT), message).header("Retry-After", &seconds)
        }
        Refusal::Stopping => ended(End::Stopping).1,
        Refusal::Deleted => ended(End::Deleted).1,
    }
}

/// The response to a request that ended without an answer, before any output.
pub(super) fn ended(end: End) -> (Outcome, Response) {
    match end {
        End::ExpiredQueued => {
            (Outcome::ExpiredQueued, error(504, None, "no tunnel client picked the request up in time"))
        }
        End::AnswerTooLarge => {
            let message = "the tunnel client's answer is larger than this server takes";
            (Outcome::Answered, error(502, Some(code::TOO_LARGE), message))
        }
        End::ClientGone => (Outcome::Cancelled, refused(Refusal::NotConnected)),
        End::Stopping => {
            let response = error(503, None, "the server is stopping; try again").header("Retry-After", "1");
            (Outcome::Cancelled, response)
        }
        End::Deleted => (Outcome::Cancelled, error(404, None, "the tunnel was deleted")),
    }
}

pub(super) fn timed_out() -> (Outcome, Response) {
    (Outcome::Timeout, error(504, None, "the tunnel client did not answer in time"))
}

/// The last event of a stream that got no answer.
fn broken_off(end: Option<End>, id: Option<&Id>) -> (Outcome, String) {
    let (outcome, message, source, received) = match end {
        Some(End::Stopping) => (Outcome::Cancelled, "Service Unavailable", "transport_closed", false),
        Some(End::ClientGone | End::Deleted) => (Outcome::Cancelled, "Not Found", "transport_closed", false),
        Some(End::AnswerTooLarge) => (Outcome::Answered, "Bad Gateway", "protocol", true),
        Some(End::ExpiredQueued) | None => (Outcome::Timeout, "Gateway Timeout", "timeout", false),
    };
    let data = format!(
        r#"{{"tunnel_failure":{{"version":1,"source":"{source}","upstream_response_received":{received}}}}}"#
    );
    (outcome, error_response(id, crate::jsonrpc::INTERNAL_ERROR, message, Some(&data)))
}
