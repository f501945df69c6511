//! The stub's requests and replies.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tiny_http::{Header, Method, Request, Response, StatusCode};

use crate::jsonrpc::{Envelope, Id, Kind, METHOD_NOT_FOUND, error_response, result_response};
use crate::net::Cancel;

use super::metadata;
use super::rules::{Facts, LEGACY_VERSIONS, MODERN_VERSION, Refusal};
use super::sessions::Sessions;
use super::tools::{Called, InvalidParams, Tools, countdown_result};

const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Longest time for a whole body.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Time between two steps of a countdown.
const STEP_TIME: Duration = Duration::from_millis(150);
const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const INVALID_PARAMS: i64 = -32602;
const UNSUPPORTED_VERSION: i64 = -32022;
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
const SESSION_ID: &str = "Mcp-Session-Id";
const EVENT_STREAM: &str = "text/event-stream";
const CACHE_CONTROL: (&str, &str) = ("Cache-Control", "no-cache, no-transform");

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

impl Service {
    pub(super) fn new(tools: Tools, cancel: Cancel) -> Service {
        Service { tools, sessions: Sessions::default(), cancel }
    }

    pub(super) fn close_streams(&self) {
        self.sessions.close_streams();
    }

    /// Answers one request; a peer that has gone is no error.
    pub(super) fn answer(&self, request: Request) {
        let path = request.url().split('?').next().unwrap_or_default();
        let sent = if path == "/mcp" {
            self.answer_mcp(request)
        } else {
            let host = super::rules::header(&request, "Host").unwrap_or_default();
            match metadata::document(path, host) {
                Some(document) => respond(request, 200, document, &[("Content-Type", "application/json")]),
                None => respond(request, 404, "404 page not found\n".to_owned(), PLAIN),
            }
        };
        if let Err(error) = sent {
            log::debug!(target: "mcpclient", error:%; "MCP stub could not reply");
        }
    }

    fn answer_mcp(&self, mut request: Request) -> io::Result<()> {
        let facts = Facts::of(&request);
        if let Err(Refusal(status, text)) = facts.check() {
            let allow: &[(&str, &str)] =
                if status == 405 { &[PLAIN[0], ("Allow", "GET, POST, DELETE")] } else { PLAIN };
            return respond(request, status, format!("{text}\n"), allow);
        }
        let session_id = facts.session_id.map(str::to_owned);
        if session_id.as_ref().is_some_and(|id| !self.sessions.contains(id)) {
            return respond(request, 404, "session not found\n".to_owned(), PLAIN);
        }
        let modern = facts.version == Some(MODERN_VERSION);
        match (facts.method, session_id) {
            (Method::Delete, Some(id)) => {
                self.sessions.end(&id);
                respond(request, 204, String::new(), &[])
            }
            (Method::Get, Some(id)) => {
                let mut stream = request.into_writer();
                write_stream_head(&mut stream, Some(&id))?;
                self.sessions.listen(&id, stream);
                Ok(())
            }
            (_, session_id) => match read_body(&mut request)? {
                Some(body) => self.answer_message(request, &body, session_id, modern),
                None => respond(request, 413, "request body too large\n".to_owned(), PLAIN),
            },
        }
    }

    fn answer_message(
        &self,
        request: Request,
        body: &[u8],
        session_id: Option<String>,
        modern_header: bool,
    ) -> io::Result<()> {
        let envelope = match Envelope::parse(body) {
            Ok(envelope) => envelope,
            Err(invalid) => {
                let json = error_response(None, PARSE_ERROR, &invalid.to_string(), None);
                return respond(request, 400, json, JSON);
            }
        };
        let (Kind::Call, Some(id)) = (envelope.kind, &envelope.id) else {
            return respond(request, 202, String::new(), &[]);
        };
        let params: Value =
            envelope.params.and_then(|params| serde_json::from_str(params.get()).ok()).unwrap_or_default();
        let version = params["_meta"][META_VERSION].as_str();
        if let Some(version) = version.filter(|version| *version != MODERN_VERSION) {
            let data = json!({"supported": [MODERN_VERSION], "requested": version}).to_string();
            let json =
                error_response(Some(id), UNSUPPORTED_VERSION, "Unsupported protocol version", Some(&data));
            return respond(request, 400, json, JSON);
        }
        let method = &*envelope.method;
        let modern =
            method != "initialize" && (modern_header || version.is_some() || method == "server/discover");
        if !modern && session_id.is_none() && !matches!(method, "initialize" | "ping") {
            let text = "Bad Request: Mcp-Session-Id header is required; send initialize first";
            return respond(request, 400, error_response(Some(id), INVALID_REQUEST, text, None), JSON);
        }
        let call = Call { id, method, params: &params, modern };
        if method == "tools/call"
            && let Ok(Called::Countdown(steps)) = self.tools.call(&params)
        {
            return self.count_down(request, &call, session_id.as_deref(), steps);
        }
        let answer = self.answer_call(&call)?;
        if modern {
            return respond(request, answer.status, answer.json, JSON);
        }
        let mut headers = vec![("Content-Type", EVENT_STREAM), CACHE_CONTROL];
        let session_id = answer.opened.or(session_id);
        headers.extend(session_id.as_deref().map(|id| (SESSION_ID, id)));
        respond(request, 200, event(&answer.json), &headers)
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
        let newest = LEGACY_VERSIONS[LEGACY_VERSIONS.len() - 1];
        let asked = params["protocolVersion"].as_str().unwrap_or_default();
        json!({
            "protocolVersion": if LEGACY_VERSIONS.contains(&asked) { asked } else { newest },
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
        request: Request,
        call: &Call<'_>,
        session_id: Option<&str>,
        steps: u64,
    ) -> io::Result<()> {
        let token = &call.params["_meta"]["progressToken"];
        let mut stream = request.into_writer();
        write_stream_head(&mut stream, session_id)?;
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
                write_chunk(&mut stream, &event(&progress.to_string()))?;
            }
        }
        write_chunk(&mut stream, &event(&self.result(call, countdown_result(steps))))?;
        stream.write_all(b"0\r\n\r\n")?;
        stream.flush()
    }
}

const PLAIN: &[(&str, &str)] = &[("Content-Type", "text/plain; charset=utf-8")];
const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// The body, or `None` if it is too long.
fn read_body(request: &mut Request) -> io::Result<Option<Vec<u8>>> {
    let until = Instant::now() + BODY_TIME;
    let reader = request.as_reader();
    let mut body = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = reader.read(&mut buffer)?;
        body.extend_from_slice(&buffer[..count]);
        if count == 0 {
            return Ok(Some(body));
        }
        if body.len() > MAX_BODY_BYTES {
            return Ok(None);
        }
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

fn respond(request: Request, status: u16, body: String, headers: &[(&str, &str)]) -> io::Result<()> {
    let length = body.len();
    let headers = headers.iter().filter_map(|(name, value)| Header::from_bytes(*name, *value).ok());
    let body = io::Cursor::new(body.into_bytes());
    request.respond(Response::new(StatusCode(status), headers.collect(), body, Some(length), None))
}

fn event(json: &str) -> String {
    format!("event: message\ndata: {json}\n\n")
}

/// Starts a reply whose events are written one by one.
fn write_stream_head(stream: &mut impl Write, session_id: Option<&str>) -> io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {EVENT_STREAM}\r\n{}: {}\r\nTransfer-Encoding: chunked\r\n",
        CACHE_CONTROL.0, CACHE_CONTROL.1
    );
    if let Some(id) = session_id {
        head.push_str(&format!("{SESSION_ID}: {id}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.flush()
}

fn write_chunk(stream: &mut impl Write, text: &str) -> io::Result<()> {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())?;
    stream.flush()
}
