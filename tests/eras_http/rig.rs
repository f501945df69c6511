//! A client between a scripted control plane and a scripted server.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::http::{self, Request};
use crate::common::mcp_server::{McpServer, Next};
use crate::common::process::Client;
use crate::common::scripted_plane::{Post, ScriptedPlane, jsonrpc};
use serde_json::Value;

pub const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
pub const JSON: (&str, &str) = ("Content-Type", "application/json");
pub const CODEX: &str =
    r#"{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"codex","version":"1.0.0"}}"#;

/// What a scripted server does.
#[derive(Default)]
pub struct Manners {
    pub kind: Kind,
    /// How the server without handshakes refuses what it does not know.
    pub forgets: bool,
    pub forgets_with: u16,
    pub sessions: usize,
    pub forgotten: Vec<String>,
    pub discover_status: Option<u16>,
    /// `x-mcp-header` of the tool `region`.
    pub wants_region: bool,
    /// Calls of tools that are refused for their revision first.
    pub misversioned: usize,
    /// The method whose requests are answered late.
    pub slow: Option<(&'static str, Duration)>,
    /// The method of which one request meets a broken connection.
    pub breaks: Option<&'static str>,
    /// Calls that were stalled and whose exchange was closed then.
    pub closed: usize,
    pub runs: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Legacy,
    Stateless,
    Modern,
    Dual,
    Neither,
    Guarded,
    /// Without handshakes, and of a revision that nobody here knows.
    Future,
    /// Takes requests and says nothing.
    Silent,
}

pub struct Rig {
    pub plane: ScriptedPlane,
    pub client: Client,
    pub server: McpServer,
    pub manners: Arc<Mutex<Manners>>,
    pub next: std::cell::Cell<usize>,
}

impl Rig {
    pub fn new(kind: Kind, arguments: &[&str]) -> Rig {
        let rig = Rig::unready(kind, arguments);
        rig.client.wait_ready();
        rig
    }

    pub fn unready(kind: Kind, arguments: &[&str]) -> Rig {
        Rig::with(Manners { kind, ..Manners::default() }, arguments)
    }

    pub fn with(manners: Manners, arguments: &[&str]) -> Rig {
        let manners = Arc::new(Mutex::new(manners));
        let seen = Arc::clone(&manners);
        let server = McpServer::scripted(move |request, stream| serve_all(request, stream, &seen));
        let plane = ScriptedPlane::start();
        let url = server.url();
        let all =
            [&["--mcp.server-url", url.as_str(), "--log.level", "debug", "--log.format", "json"], arguments]
                .concat();
        let client = Client::start(&plane.base_url(), &all);
        Rig { plane, client, server, manners, next: std::cell::Cell::new(0) }
    }

    pub fn start(&self, payload: &str, more: &str) -> String {
        let name = format!("r{}", self.next.replace(self.next.get() + 1));
        self.plane.send(&[jsonrpc(&name, payload, more)]);
        name
    }

    pub fn send(&self, payload: &str) -> Post {
        self.send_with(payload, "")
    }

    pub fn send_with(&self, payload: &str, more: &str) -> Post {
        self.plane.wait_terminal(&self.start(payload, more))
    }

    pub fn change(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.manners.lock().unwrap());
    }

    /// What the server has read, but for what looks for metadata and challenges.
    pub fn requests(&self) -> Vec<Request> {
        let discovery =
            |request: &Request| request.method == "GET" || http::without_metadata(request).is_some();
        self.server.seen().into_iter().filter(|request| !discovery(request)).collect()
    }

    /// What the server has read since the probe was over.
    pub fn seen(&self) -> Vec<Request> {
        self.requests().into_iter().skip_while(|request| request.method != "DELETE").collect::<Vec<_>>()
    }

    pub fn methods(&self) -> Vec<String> {
        self.requests().iter().map(method).collect()
    }
}

pub fn method(request: &Request) -> String {
    if request.method != "POST" {
        return request.method.clone();
    }
    let message = request.json();
    message["method"].as_str().unwrap_or("-").to_owned()
}

pub fn call(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)
}

pub fn modern(id: &str, method: &str, params: &str) -> String {
    let comma = if params.is_empty() { "" } else { "," };
    call(id, method, &format!("{params}{comma}{META}"))
}

pub fn tool(id: &str, name: &str) -> String {
    call(id, "tools/call", &format!(r#""name":"{name}","arguments":{{"n":1.10}}"#))
}

pub fn modern_tool(id: &str, name: &str) -> String {
    modern(id, "tools/call", &format!(r#""name":"{name}","arguments":{{"n":1.10}}"#))
}

pub fn discover(id: &str) -> String {
    modern(id, "server/discover", "")
}

pub fn initialize(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{CODEX}}}"#)
}

pub fn result(post: &Post) -> Value {
    assert_eq!(post.code(), 200, "{}", post.request.text());
    let result = post.json["resp_json"]["result"].clone();
    assert!(result.is_object(), "{}", post.payload());
    result
}

pub fn error(post: &Post) -> (u64, i64) {
    (post.code(), post.json["resp_json"]["error"]["code"].as_i64().unwrap())
}

pub fn put(stream: &mut TcpStream, status: u16, headers: &[(&str, &str)], body: &str) -> Next {
    let _ = stream.write_all(&http::reply(status, headers, body));
    Next::KeepAlive
}

pub fn fault(stream: &mut TcpStream, status: u16, id: &str, code: i64, more: &str) -> Next {
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"told so"{more}}}}}"#);
    put(stream, status, &[JSON], &body)
}

/// What takes its time must not keep the server from others.
fn serve_all(request: &Request, stream: &mut TcpStream, manners: &Mutex<Manners>) -> Next {
    let (silent, slow, breaks) = {
        let manners = manners.lock().unwrap();
        (manners.kind == Kind::Silent, manners.slow, manners.breaks)
    };
    let text = request.text();
    let names = |method: &str| text.contains(&format!("\"method\":\"{method}\""));
    if breaks.is_some_and(names) {
        manners.lock().unwrap().breaks = None;
        return Next::Reset;
    }
    if text.contains("\"name\":\"stall\"") || (silent && request.method == "POST") {
        let _ = std::io::Read::read(stream, &mut [0]);
        manners.lock().unwrap().closed += 1;
        return Next::Close;
    }
    if let Some((method, time)) = slow
        && names(method)
    {
        std::thread::sleep(time);
    }
    serve(request, stream, &mut manners.lock().unwrap())
}

pub fn serve(request: &Request, stream: &mut TcpStream, manners: &mut Manners) -> Next {
    if manners.kind == Kind::Guarded && request.method == "POST" && !request.body.is_empty() {
        return put(stream, 401, &[("WWW-Authenticate", "Bearer realm=\"x\"")], "");
    }
    if let Some(reply) = http::without_metadata(request) {
        let _ = stream.write_all(&reply);
        return Next::KeepAlive;
    }
    if request.method != "POST" {
        return put(stream, if request.method == "DELETE" { 204 } else { 405 }, &[], "");
    }
    let message = request.json();
    let id = message.get("id").map_or("null".to_owned(), ToString::to_string);
    let method = message["method"].as_str().unwrap_or_default();
    if manners.kind == Kind::Neither {
        return put(stream, 404, &[("Content-Type", "text/html")], "<h1>no</h1>");
    }
    if let (Some(status), "server/discover") = (manners.discover_status, method) {
        return put(stream, status, &[], "");
    }
    let version = request.header("Mcp-Protocol-Version").unwrap_or_default();
    let is_modern = version == "2026-07-28";
    match manners.kind {
        Kind::Modern | Kind::Dual if is_modern && method == "tools/call" && manners.misversioned > 0 => {
            manners.misversioned -= 1;
            fault(stream, 400, &id, -32022, r#","data":{"supported":["2026-07-28"]}"#)
        }
        Kind::Future if id == "null" => put(stream, 202, &[], ""),
        Kind::Future => fault(stream, 400, &id, -32022, r#","data":{"supported":["2027-01-15"]}"#),
        Kind::Modern | Kind::Dual if is_modern => {
            serve_modern(request, stream, manners, (&message, &id, method))
        }
        Kind::Modern if id == "null" => put(stream, 202, &[], ""),
        Kind::Modern => fault(stream, 400, &id, -32022, r#","data":{"supported":["2026-07-28"]}"#),
        _ => serve_legacy(request, stream, manners, (&message, &id, method)),
    }
}

pub fn serve_modern(
    request: &Request,
    stream: &mut TcpStream,
    manners: &mut Manners,
    (message, id, method): (&Value, &str, &str),
) -> Next {
    if id == "null" {
        return put(stream, 202, &[], "");
    }
    if request.header("Mcp-Method") != Some(method) {
        return fault(stream, 400, id, -32020, "");
    }
    let info = r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"modern-demo","version":"1.0.0"}}"#;
    let name = message["params"]["name"].as_str().unwrap_or_default();
    let body = match (method, name) {
        ("server/discover", _) => format!(
            r#"{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{"listChanged":true}}}},"ttlMs":0,"cacheScope":"private",{info}}}"#
        ),
        ("tools/list", _) => {
            let region = r#"{"name":"region","inputSchema":{"type":"object","properties":{"n":{"type":"string","x-mcp-header":"Region"}}}}"#;
            let odd = r#"{"name":"odd","inputSchema":{"type":"object","properties":{"n":{"type":"number","x-mcp-header":"N"}}}}"#;
            let list = if manners.wants_region { format!("{region},{odd}") } else { String::new() };
            format!(r#"{{"resultType":"complete","tools":[{list}],"ttlMs":0,"cacheScope":"private",{info}}}"#)
        }
        ("tools/call", "region") if request.header("Mcp-Param-Region").is_none() => {
            return fault(stream, 400, id, -32020, "");
        }
        ("tools/call", "gone") => return fault(stream, 404, id, -32602, ""),
        ("tools/call", _) => {
            manners.runs += 1;
            format!(
                r#"{{"resultType":"complete","content":[],"echo":{},{info}}}"#,
                message["params"]["arguments"]
            )
        }
        _ => return fault(stream, 404, id, -32601, ""),
    };
    put(stream, 200, &[JSON], &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{body}}}"#))
}

pub fn serve_legacy(
    request: &Request,
    stream: &mut TcpStream,
    manners: &mut Manners,
    (message, id, method): (&Value, &str, &str),
) -> Next {
    let session = request.header("Mcp-Session-Id").map(str::to_owned);
    let stateless = manners.kind == Kind::Stateless;
    if method == "initialize" {
        manners.sessions += 1;
        let name = format!("session-{}", manners.sessions);
        let asked = message["params"]["protocolVersion"].as_str().unwrap_or_default();
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"{asked}","capabilities":{{"tools":{{"listChanged":true}}}},"serverInfo":{{"name":"legacy-demo","version":"1.2.3"}}}}}}"#
        );
        let event = format!("data: {body}\n\n");
        return match stateless {
            true => put(stream, 200, &[JSON], &body),
            false => {
                put(stream, 200, &[("Content-Type", "text/event-stream"), ("Mcp-Session-Id", &name)], &event)
            }
        };
    }
    if method == "server/discover" || request.header("Mcp-Protocol-Version") == Some("2026-07-28") {
        // Some servers open a session for each request that they refuse.
        let headers = [JSON, ("Mcp-Session-Id", "never-use-me")];
        let body = r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"bad"}}"#;
        return put(stream, 400, &headers, body);
    }
    if !stateless && (session.is_none() || manners.forgotten.contains(session.as_ref().unwrap())) {
        let status = if manners.forgets_with == 0 { 404 } else { manners.forgets_with };
        return put(
            stream,
            status,
            &[JSON],
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no session"}}"#,
        );
    }
    if manners.forgets {
        manners.forgets = false;
        manners.forgotten.push(session.clone().unwrap());
        return put(stream, if manners.forgets_with == 0 { 404 } else { manners.forgets_with }, &[], "");
    }
    if id == "null" {
        return put(stream, 202, &[], "");
    }
    let name = message["params"]["name"].as_str().unwrap_or_default();
    let body = match (method, name) {
        ("tools/list", _) => r#""result":{"tools":[{"name":"echo","n":1.10}]}"#.to_owned(),
        ("tools/call", "missing") => r#""error":{"code":-32002,"message":"no","data":1}"#.to_owned(),
        ("tools/call", "ask") => {
            let text = format!(
                "data: {{\"jsonrpc\":\"2.0\",\"id\":\"s1\",\"method\":\"elicitation/create\",\"params\":{{}}}}\n\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}}\n\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n\n"
            );
            return put(stream, 200, &[("Content-Type", "text/event-stream")], &text);
        }
        ("tools/call", _) => {
            manners.runs += 1;
            format!(r#""result":{{"content":[],"echo":{}}}"#, message["params"]["arguments"])
        }
        _ => r#""error":{"code":-32601,"message":"Method not found"}"#.to_owned(),
    };
    let session = session.unwrap_or_default();
    put(
        stream,
        200,
        &[JSON, ("Mcp-Session-Id", &session)],
        &format!(r#"{{"jsonrpc":"2.0","id":{id},{body}}}"#),
    )
}
