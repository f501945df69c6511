//! `/harpoon/mcp`: the embedded caller over Streamable HTTP, for processes of this host.
//!
//! Invariant: a peer beyond loopback gets nothing, whatever is configured, and calls and streams together
//! never hold more connections of the listener than they were given.

mod sessions;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use self::sessions::{Entry, Sessions};
use crate::harpoon::{Answer, Server};
use crate::jsonrpc::{Envelope, Kind};
use crate::mcp::streamable::{Facts, MODERN_VERSION, Refusal};
use crate::net::Deadline;
use crate::ops::listener::guard::{self, Refused};
use crate::ops::listener::{Awoken, BodyError, Content, Module, Peer, Request, Response, Stream};

/// The one path.
pub const PATH: &str = "/harpoon/mcp";
/// Longest body of a request: the longest body of a call, escaped, and more.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Most messages of a batch: each may bring a whole response, and all of them wait for the last.
const MAX_BATCH: usize = 100;
/// How often a standing stream looks up although nothing woke it.
const LOOK_TIME: Duration = Duration::from_secs(600);
/// From this revision on there are no batches; none named means the one before.
const NO_BATCHES_SINCE: &str = "2025-06-18";
const UNNAMED_VERSION: &str = "2025-03-26";
/// Methods that want an answer …
const REQUESTS: [&str; 15] = [
    "initialize",
    "ping",
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "resources/subscribe",
    "resources/unsubscribe",
    "logging/setLevel",
    "completion/complete",
    "server/discover",
    "roots/list",
];
/// … and those that do not.
const NOTIFICATIONS: [&str; 4] = [
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
];

/// The path of the embedded caller.
pub struct HarpoonRoutes {
    server: Arc<Server>,
    sessions: Arc<Sessions>,
    held: Arc<Held>,
}

/// Connections that are held by calls and streams.
struct Held {
    now: AtomicUsize,
    most: usize,
}

/// One of them; given back when dropped.
struct Hold(Arc<Held>);

impl HarpoonRoutes {
    /// Answers with `server`, holding `connections` at most.
    pub fn new(server: Arc<Server>, connections: usize) -> HarpoonRoutes {
        let held = Held { now: AtomicUsize::new(0), most: connections.max(1) };
        HarpoonRoutes { server, sessions: Arc::default(), held: Arc::new(held) }
    }

    fn respond(&self, request: &mut Request<'_>) -> Result<Response, Refusal> {
        if !guard::is_local(request.peer) {
            return Ok(Refused::RemoteAlways.response());
        }
        let headers = request.headers.clone();
        let method = request.method.clone();
        let local = request.peer != Peer::Unix;
        let mut facts = Facts::of(&method, local, |name| headers.get_all(name).collect());
        if facts.content_type.contains(';') {
            // Not ours to understand: exactly the media type is asked for.
            facts.content_type = "";
        }
        facts.check()?;
        let entry = match facts.session_id {
            Some(id) => Some(self.sessions.get(id).ok_or(refusal(404, "session not found"))?),
            None => None,
        };
        let resumes = headers.get("Last-Event-ID").is_some_and(|id| !id.is_empty());
        match (&*method, facts.session_id) {
            (_, _) if resumes && method != "DELETE" => {
                Err(refusal(400, "Bad Request: streams cannot be resumed"))
            }
            ("DELETE", Some(id)) => {
                self.sessions.end(id);
                Ok(Response { status: 204, headers: Vec::new(), content: Content::Bytes(Cow::Borrowed(b"")) })
            }
            ("GET", Some(_)) => self.stand(entry),
            _ => {
                let body = request.read_body(MAX_BODY_BYTES).map_err(|error| match error {
                    BodyError::TooLarge => refusal(413, "request body too large"),
                    BodyError::Broken => refusal(400, "request body did not arrive"),
                })?;
                self.post(&body, entry.as_deref(), facts.version)
            }
        }
    }

    /// A stream that carries nothing, until its session ends or the listener stops.
    fn stand(&self, entry: Option<Arc<Entry>>) -> Result<Response, Refusal> {
        let Some(entry) = entry.filter(|entry| !entry.has_stream()) else {
            return Err(refusal(409, "Conflict: the session has a stream already"));
        };
        let hold = Held::hold(&self.held)?;
        Ok(event_stream(Content::Stream(Box::new(move |stream| {
            let _hold = hold;
            stand(&entry, stream)
        }))))
    }

    fn post(&self, body: &[u8], entry: Option<&Entry>, version: Option<&str>) -> Result<Response, Refusal> {
        let messages = messages(body, version.unwrap_or(UNNAMED_VERSION))?;
        let modern = version == Some(MODERN_VERSION);
        if !modern {
            messages.iter().try_for_each(known)?;
        }
        let is_call = |message: &Envelope<'_>| message.kind == Kind::Call;
        let _hold = if messages.iter().any(is_call) { Some(Held::hold(&self.held)?) } else { None };
        let passing;
        let (session, opens) = match entry {
            Some(entry) => (&entry.session, false),
            None => {
                passing = self.server.open_session();
                let opens = !modern && messages.iter().any(|m| is_call(m) && m.method == "initialize");
                (&passing, opens)
            }
        };
        let mut answers = Vec::new();
        for message in &messages {
            if let Answer::Json(json) = self.server.answer(session, message, version, Deadline::NEVER) {
                answers.push(json);
            }
        }
        if answers.is_empty() {
            let nothing = Content::Bytes(Cow::Borrowed(b""));
            return Ok(Response { status: 202, headers: Vec::new(), content: nothing });
        }
        if modern {
            let status = if answers[0].contains(r#""error":{"code":-32601,"#) { 404 } else { 200 };
            let json = Content::Bytes(answers.remove(0).into_bytes().into());
            let headers = vec![("Content-Type", "application/json".into())];
            return Ok(Response { status, headers, content: json });
        }
        let events: String = answers.iter().map(|json| format!("event: message\ndata: {json}\n\n")).collect();
        let response = event_stream(Content::Bytes(events.into_bytes().into()));
        if !opens || !session.is_initialized() {
            return Ok(response);
        }
        let opened = self.server.open_session();
        opened.initialize();
        match self.sessions.open(opened) {
            Some(id) => Ok(response.with("Mcp-Session-Id", id)),
            None => Err(refusal(503, "too many sessions")),
        }
    }
}

impl Module for HarpoonRoutes {
    fn answer(&self, request: &mut Request<'_>) -> Option<Response> {
        if request.path != PATH {
            return None;
        }
        Some(self.respond(request).unwrap_or_else(|Refusal(status, text)| {
            let refused = Response::error(status, &text);
            if status == 405 { refused.with("Allow", "GET, POST, DELETE") } else { refused }
        }))
    }
}

fn stand(entry: &Entry, stream: &mut Stream<'_>) -> std::io::Result<()> {
    let bell = stream.bell()?;
    if !entry.stand(&bell) {
        return Ok(());
    }
    let rings = bell.clone();
    let stopping = stream.stopping().clone();
    let _stop = stopping.on_cancel(move || rings.ring());
    while !entry.has_ended() && !stopping.is_cancelled() {
        if stream.wait(Instant::now() + LOOK_TIME) == Awoken::Gone {
            break;
        }
    }
    entry.leave();
    Ok(())
}

/// The messages of a body: one, or several of a batch.
fn messages<'b>(body: &'b [u8], version: &str) -> Result<Vec<Envelope<'b>>, Refusal> {
    let malformed = |why: &dyn std::fmt::Display| refusal(400, format!("malformed payload: {why}"));
    if !body.trim_ascii_start().starts_with(b"[") {
        return Ok(vec![Envelope::parse(body).map_err(|why| malformed(&why))?]);
    }
    if version >= NO_BATCHES_SINCE {
        return Err(refusal(400, "JSON-RPC batching is not supported in this protocol version"));
    }
    let parts: Vec<&'b RawValue> = serde_json::from_slice(body).map_err(|why| malformed(&why))?;
    if parts.is_empty() {
        return Err(malformed(&"an empty batch"));
    }
    if parts.len() > MAX_BATCH {
        return Err(malformed(&format_args!("a batch of more than {MAX_BATCH} messages")));
    }
    parts.iter().map(|part| Envelope::parse(part.get().as_bytes()).map_err(|why| malformed(&why))).collect()
}

/// Whether a message is one that this protocol has.
fn known(message: &Envelope<'_>) -> Result<(), Refusal> {
    let method = &*message.method;
    match message.kind {
        Kind::Call if NOTIFICATIONS.contains(&method) => Err(refusal(400, "unexpected id")),
        Kind::Call if REQUESTS.contains(&method) => Ok(()),
        Kind::Notification if NOTIFICATIONS.contains(&method) => Ok(()),
        Kind::Notification if REQUESTS.contains(&method) => Err(refusal(400, "missing id")),
        Kind::Response => Ok(()),
        Kind::Call | Kind::Notification => Err(refusal(400, "JSON RPC not handled: unsupported method")),
    }
}

fn event_stream(content: Content) -> Response {
    let headers = vec![
        ("Content-Type", "text/event-stream".into()),
        ("Cache-Control", "no-cache, no-transform".into()),
    ];
    Response { status: 200, headers, content }
}

fn refusal(status: u16, text: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal(status, text.into())
}

impl Held {
    fn hold(held: &Arc<Held>) -> Result<Hold, Refusal> {
        let more = |now: usize| Some(now + 1).filter(|now| *now <= held.most);
        match held.now.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more) {
            Ok(_) => Ok(Hold(Arc::clone(held))),
            Err(_) => Err(refusal(503, "too many calls and streams at once")),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded() {
        let batch = |messages: usize| {
            format!("[{}]", vec![r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#; messages].join(","))
        };
        let read = |body: &str| {
            messages(body.as_bytes(), UNNAMED_VERSION).map(|all| all.len()).map_err(|refusal| refusal.0)
        };
        assert_eq!(read(&batch(MAX_BATCH)), Ok(MAX_BATCH));
        assert_eq!(read(&batch(MAX_BATCH + 1)), Err(400));
    }
}
