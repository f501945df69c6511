//! The stub's requests and replies.

use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::jsonrpc::{Envelope, Id, Kind, METHOD_NOT_FOUND, error_response, result_response};
use crate::mcp::streamable::{Facts, LEGACY_VERSIONS, MODERN_VERSION, Refusal};
use crate::net::Cancel;
use crate::net::front::{self, BadBody, Exchange, Head, Response, Wake};

use super::metadata;
use super::sessions::Sessions;
use super::tools::{Called, InvalidParams, Tools, countdown_result};

const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How often a listening stream looks up although nothing woke it.
const LISTEN_STEP: Duration = Duration::from_secs(600);
/// Time between two steps of a countdown.
const STEP_TIME: Duration = Duration::from_millis(150);
const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const INVALID_PARAMS: i64 = -32602;
const UNSUPPORTED_VERSION: i64 = -32022;
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// Answers the requests of one stub.
pub(super) struct Service {
    tools: Tools,
    sessions: Sessions,
    cancel: Cancel,
}

/// An answer to a call.
struct Answer {
    /// Of a modern reply; a legacy one is always 200.
    status: u16,
    json: String,
    /// The session that the call opened.
    opened: Option<String>,
}

/// A call to be answered.
struct Call<'a> {
    id: &'a Id,
    method: &'a str,
    params: &'a Value,
    modern: bool,
}

impl front::Service for Service {
    /// A peer that has gone is no error.
    fn call(&self, head: &Head, exchange: &mut Exchange<'_>) {
        let sent = if head.path() == "/mcp" {
            self.answer_mcp(head, exchange)
        } else {
            let host = head.value("Host").map(str::trim).unwrap_or_default();
            exchange.respond(&match metadata::document(head.path(), host) {
                Some(document) => json_reply(200, document),
                None => plain(404, "404 page not found"),
            })
        };
        if let Err(error) = sent {
            log::debug!(target: "mcpclient", error:%; "MCP stub could not reply");
        }
    }

    fn refusal(&self, status: u16, reason: &str) -> Response {
        plain(status, reason)
    }
}

impl Service {
    pub(super) fn new(tools: Tools, cancel: Cancel) -> Service {
        Service { tools, sessions: Sessions::default(), cancel }
    }

    pub(super) fn close_streams(&self) {
        self.sessions.close_streams();
    }

    fn answer_mcp(&self, head: &Head, exchange: &mut Exchange<'_>) -> io::Result<()> {
        let local = exchange.peer().address.is_some_and(|peer| peer.ip().is_loopback());
        let text = |value| std::str::from_utf8(value).ok();
        let facts = Facts::of(head.method_text(), local, |name| head.values(name).filter_map(text).collect());
        if let Err(Refusal(status, text)) = facts.check() {
            let refusal = plain(status, &text);
            return exchange.respond(&match status {
                405 => refusal.header("Allow", "GET, POST, DELETE"),
                _ => refusal,
            });
        }
        if facts.session_id.is_some_and(|id| !self.sessions.contains(id)) {
            return exchange.respond(&plain(404, "session not found"));
        }
        let modern = facts.version == Some(MODERN_VERSION);
        match (facts.method, facts.session_id) {
            ("DELETE", Some(id)) => {
                self.sessions.end(id);
                exchange.respond(&Response::new(204))
            }
            ("GET", Some(id)) => self.listen(id, exchange),
            (_, session_id) => match exchange.read_body(MAX_BODY_BYTES) {
                Ok(body) => self.answer_message(exchange, &body, session_id, modern),
                Err(BadBody::TooLarge) => exchange.respond(&plain(413, "request body too large")),
                Err(BadBody::Malformed) => exchange.respond(&plain(400, "request body framed wrongly")),
                Err(BadBody::Timeout) => exchange.respond(&plain(408, "request body did not arrive in time")),
                Err(BadBody::Gone) => Ok(()),
            },
        }
    }

    /// A stream that carries nothing, until its session ends, another takes its place or the stub stops.
    fn listen(&self, session_id: &str, exchange: &mut Exchange<'_>) -> io::Result<()> {
        let waker = exchange.waker()?;
        self.sessions.listen(session_id, &waker);
        let mut stream = exchange.stream(&stream_head(Some(session_id)));
        stream.flush()?;
        while self.sessions.is_listening(session_id, &waker) && !self.cancel.is_cancelled() {
            if stream.wait(Instant::now() + LISTEN_STEP) == Wake::PeerGone {
                self.sessions.leave(session_id, &waker);
                return Ok(());
            }
        }
        stream.finish()
    }

    fn answer_message(
        &self,
        exchange: &mut Exchange<'_>,
        body: &[u8],
        session_id: Option<&str>,
        modern_header: bool,
    ) -> io::Result<()> {
        let envelope = match Envelope::parse(body) {
            Ok(envelope) => envelope,
            Err(invalid) => {
                let json = error_response(None, PARSE_ERROR, &invalid.to_string(), None);
                return exchange.respond(&json_reply(400, json));
            }
        };
        let (Kind::Call, Some(id)) = (envelope.kind, &envelope.id) else {
            return exchange.respond(&Response::new(202));
        };
        let params: Value =
            envelope.params.and_then(|params| serde_json::from_str(params.get()).ok()).unwrap_or_default();
        let version = params["_meta"][META_VERSION].as_str();
        if let Some(version) = version.filter(|version| *version != MODERN_VERSION) {
            let data = json!({"supported": [MODERN_VERSION], "requested": version}).to_string();
            let json =
                error_response(Some(id), UNSUPPORTED_VERSION, "Unsupported protocol version", Some(&data));
            return exchange.respond(&json_reply(400, json));
        }
        let method = &*envelope.method;
        let modern =
            method != "initialize" && (modern_header || version.is_some() || method == "server/discover");
        if !modern && session_id.is_none() && !matches!(method, "initialize" | "ping") {
            let text = "Bad Request: Mcp-Session-Id header is required; send initialize first";
            let json = error_response(Some(id), INVALID_REQUEST, text, None);
            return exchange.respond(&json_reply(400, json));
        }
        let call = Call { id, method, params: &params, modern };
        if method == "tools/call"
            && let Ok(Called::Countdown(steps)) = self.tools.call(&params)
        {
            return self.count_down(exchange, &call, session_id, steps);
        }
        let answer = self.answer_call(&call)?;
        if modern {
            return exchange.respond(&json_reply(answer.status, answer.json));
        }
        let head = stream_head(answer.opened.as_deref().or(session_id));
        exchange.respond(&head.with_body(event(&answer.json).into_bytes()))
    }

    fn answer_call(&self, call: &Call<'_>) -> io::Result<Answer> {
        let mut opened = None;
        let result = match (call.method, call.modern) {
            ("initialize", _) => {
                opened = Some(self.sessions.open().map_err(io::Error::other)?);
                Some(self.initialize(call.params))
            }
            ("server/discover", _) => Some(json!({
                "supportedVersions": [MODERN_VERSION],
                "capabilities": {"tools": {}},
            })),
            ("ping" | "logging/setLevel", false) => Some(json!({})),
            ("tools/list", _) => Some(self.tools.list()),
            ("tools/call", _) => match self.tools.call(call.params) {
                Ok(Called::Result(result)) => Some(result),
                Ok(Called::Countdown(steps)) => Some(countdown_result(steps)),
                Err(InvalidParams(text)) => {
                    let json = error_response(Some(call.id), INVALID_PARAMS, &text, None);
                    return Ok(Answer { status: 200, json, opened });
                }
            },
            _ => None,
        };
        Ok(match result {
            Some(result) => Answer { status: 200, json: self.result(call, result), opened },
            None => {
                let json = error_response(Some(call.id), METHOD_NOT_FOUND, "Method not found", None);
                Answer { status: 404, json, opened }
            }
        })
    }

    fn initialize(&self, params: &Value) -> Value {
        let asked = params["protocolVersion"].as_str().unwrap_or_default();
        json!({
            "protocolVersion": if LEGACY_VERSIONS.contains(&asked) { asked } else { LEGACY_VERSIONS[0] },
            "capabilities": {"logging": {}, "tools": {"listChanged": true}},
            "serverInfo": self.tools.server_info(),
        })
    }

    /// A response; in the modern era every result says what it is and whose.
    fn result(&self, call: &Call<'_>, mut result: Value) -> String {
        if let (true, Some(members)) = (call.modern, result.as_object_mut()) {
            members.insert("resultType".to_owned(), json!("complete"));
            members.insert("_meta".to_owned(), json!({META_SERVER_INFO: self.tools.server_info()}));
            if call.method != "tools/call" {
                members.insert("ttlMs".to_owned(), json!(0));
                members.insert("cacheScope".to_owned(), json!("private"));
            }
        }
        result_response(call.id, &result.to_string())
    }

    /// Streams the steps of a countdown as they happen, then the result. A stop breaks it off.
    fn count_down(
        &self,
        exchange: &mut Exchange<'_>,
        call: &Call<'_>,
        session_id: Option<&str>,
        steps: u64,
    ) -> io::Result<()> {
        let token = &call.params["_meta"]["progressToken"];
        let mut stream = exchange.stream(&stream_head(session_id));
        stream.flush()?;
        for step in 1..=steps {
            if self.cancel.wait(STEP_TIME) {
                return Ok(());
            }
            if token.is_string() || token.is_number() {
                let progress = json!({
                    "jsonrpc": "2.0",
                    "method": "notifications/progress",
                    "params": {
                        "progressToken": token,
                        "progress": step,
                        "total": steps,
                        "message": format!("{} to go", steps - step),
                    },
                });
                stream.push(event(&progress.to_string()));
                stream.flush()?;
            }
        }
        stream.push(event(&self.result(call, countdown_result(steps))));
        stream.finish()
    }
}

/// A line for humans.
fn plain(status: u16, text: &str) -> Response {
    Response::of(status, "text/plain; charset=utf-8", format!("{text}\n").into_bytes())
}

fn json_reply(status: u16, json: String) -> Response {
    Response::json(status, json.into_bytes())
}

fn event(json: &str) -> String {
    format!("event: message\ndata: {json}\n\n")
}

/// The head of a reply made of events.
fn stream_head(session_id: Option<&str>) -> Response {
    let head = Response::new(200)
        .header("Content-Type", "text/event-stream")
        .header("Cache-Control", "no-cache, no-transform");
    match session_id {
        Some(id) => head.header("Mcp-Session-Id", id),
        None => head,
    }
}
