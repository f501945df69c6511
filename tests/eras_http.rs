//! Connectors and HTTP servers of different protocol eras, through a real client.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use common::http::{self, Request};
use common::mcp_server::{McpServer, Next};
use common::process::Client;
use common::scripted_plane::{Post, ScriptedPlane, jsonrpc};
use serde_json::{Value, json};

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
const JSON: (&str, &str) = ("Content-Type", "application/json");
const CODEX: &str =
    r#"{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"codex","version":"1.0.0"}}"#;

/// What a scripted server does.
#[derive(Default)]
struct Manners {
    kind: Kind,
    /// How the server without handshakes refuses what it does not know.
    forgets: bool,
    forgets_with: u16,
    sessions: usize,
    forgotten: Vec<String>,
    discover_status: Option<u16>,
    /// `x-mcp-header` of the tool `region`.
    wants_region: bool,
    runs: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Legacy,
    Stateless,
    Modern,
    Dual,
    Neither,
    Guarded,
}

struct Rig {
    plane: ScriptedPlane,
    client: Client,
    server: McpServer,
    manners: Arc<Mutex<Manners>>,
    next: std::cell::Cell<usize>,
}

impl Rig {
    fn new(kind: Kind, arguments: &[&str]) -> Rig {
        let rig = Rig::unready(kind, arguments);
        rig.client.wait_ready();
        rig
    }

    fn unready(kind: Kind, arguments: &[&str]) -> Rig {
        Rig::with(Manners { kind, ..Manners::default() }, arguments)
    }

    fn with(manners: Manners, arguments: &[&str]) -> Rig {
        let manners = Arc::new(Mutex::new(manners));
        let seen = Arc::clone(&manners);
        let server =
            McpServer::scripted(move |request, stream| serve(request, stream, &mut seen.lock().unwrap()));
        let plane = ScriptedPlane::start();
        let url = server.url();
        let all =
            [&["--mcp.server-url", url.as_str(), "--log.level", "debug", "--log.format", "json"], arguments]
                .concat();
        let client = Client::start(&plane.base_url(), &all);
        Rig { plane, client, server, manners, next: std::cell::Cell::new(0) }
    }

    fn start(&self, payload: &str, more: &str) -> String {
        let name = format!("r{}", self.next.replace(self.next.get() + 1));
        self.plane.send(&[jsonrpc(&name, payload, more)]);
        name
    }

    fn send(&self, payload: &str) -> Post {
        self.send_with(payload, "")
    }

    fn send_with(&self, payload: &str, more: &str) -> Post {
        self.plane.wait_terminal(&self.start(payload, more))
    }

    fn change(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.manners.lock().unwrap());
    }

    /// What the server has read, but for what looks for metadata and challenges.
    fn requests(&self) -> Vec<Request> {
        let discovery =
            |request: &Request| request.method == "GET" || http::without_metadata(request).is_some();
        self.server.seen().into_iter().filter(|request| !discovery(request)).collect()
    }

    /// What the server has read since the probe was over.
    fn seen(&self) -> Vec<Request> {
        self.requests().into_iter().skip_while(|request| request.method != "DELETE").collect::<Vec<_>>()
    }

    fn methods(&self) -> Vec<String> {
        self.requests().iter().map(method).collect()
    }
}

fn method(request: &Request) -> String {
    if request.method != "POST" {
        return request.method.clone();
    }
    let message = request.json();
    message["method"].as_str().unwrap_or("-").to_owned()
}

fn call(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)
}

fn modern(id: &str, method: &str, params: &str) -> String {
    let comma = if params.is_empty() { "" } else { "," };
    call(id, method, &format!("{params}{comma}{META}"))
}

fn tool(id: &str, name: &str) -> String {
    call(id, "tools/call", &format!(r#""name":"{name}","arguments":{{"n":1.10}}"#))
}

fn modern_tool(id: &str, name: &str) -> String {
    modern(id, "tools/call", &format!(r#""name":"{name}","arguments":{{"n":1.10}}"#))
}

fn discover(id: &str) -> String {
    modern(id, "server/discover", "")
}

fn initialize(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{CODEX}}}"#)
}

fn result(post: &Post) -> Value {
    assert_eq!(post.code(), 200, "{}", post.request.text());
    let result = post.json["resp_json"]["result"].clone();
    assert!(result.is_object(), "{}", post.payload());
    result
}

fn error(post: &Post) -> (u64, i64) {
    (post.code(), post.json["resp_json"]["error"]["code"].as_i64().unwrap())
}

fn put(stream: &mut TcpStream, status: u16, headers: &[(&str, &str)], body: &str) -> Next {
    let _ = stream.write_all(&http::reply(status, headers, body));
    Next::KeepAlive
}

fn fault(stream: &mut TcpStream, status: u16, id: &str, code: i64, more: &str) -> Next {
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"told so"{more}}}}}"#);
    put(stream, status, &[JSON], &body)
}

fn serve(request: &Request, stream: &mut TcpStream, manners: &mut Manners) -> Next {
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
        Kind::Modern | Kind::Dual if is_modern => {
            serve_modern(request, stream, manners, (&message, &id, method))
        }
        Kind::Modern if id == "null" => put(stream, 202, &[], ""),
        Kind::Modern => fault(stream, 400, &id, -32022, r#","data":{"supported":["2026-07-28"]}"#),
        _ => serve_legacy(request, stream, manners, (&message, &id, method)),
    }
}

fn serve_modern(
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

fn serve_legacy(
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

#[test]
fn a_modern_connector_reaches_a_legacy_server_in_a_session_that_it_never_sees() {
    let rig = Rig::new(Kind::Legacy, &[]);
    let post = rig.send(&discover("\"openai-mcp-discover\""));
    assert_eq!(
        post.payload(),
        concat!(
            r#"{"jsonrpc":"2.0","id":"openai-mcp-discover","result":{"resultType":"complete","#,
            r#""supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private","#,
            r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"legacy-demo","version":"1.2.3"}}}}"#
        )
    );
    assert_eq!(post.json["resp_headers"], json!({"Content-Type": ["application/json"]}));
    let list = rig.send_with(
        &modern("1", "tools/list", ""),
        r#","headers":{"Mcp-Method":["tools/list"],"MCP-Protocol-Version":["2026-07-28"]}"#,
    );
    assert!(list.payload().starts_with(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo","n":1.10}],"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta""#));
    assert_eq!(list.json["resp_headers"], json!({"Content-Type": ["application/json"]}));
    assert_eq!(result(&rig.send(&modern_tool("2", "echo")))["resultType"], "complete");
    let seen = rig.seen();
    let methods: Vec<String> = seen.iter().skip(1).map(method).collect();
    assert_eq!(
        methods,
        ["server/discover", "initialize", "notifications/initialized", "tools/list", "tools/call"]
    );
    for request in &seen[3..] {
        assert_eq!(request.header("Mcp-Session-Id"), Some("session-2"));
        assert_eq!(request.header("Mcp-Protocol-Version"), Some("2025-11-25"));
        assert_eq!(request.header("Mcp-Method"), None);
        assert!(!request.text().contains("io.modelcontextprotocol"), "{}", request.text());
    }
}

#[test]
fn a_stateless_legacy_server_gets_no_session() {
    let rig = Rig::new(Kind::Stateless, &[]);
    result(&rig.send(&modern_tool("1", "echo")));
    let last = rig.requests().pop().unwrap();
    assert_eq!(
        (last.header("Mcp-Session-Id"), last.header("Mcp-Protocol-Version")),
        (None, Some("2025-11-25"))
    );
}

#[test]
fn a_legacy_connector_reaches_a_modern_server() {
    let rig = Rig::new(Kind::Modern, &[]);
    assert_eq!(rig.methods(), ["initialize", "server/discover"]);
    let answer = rig.send(&initialize("0"));
    assert_eq!(
        result(&answer),
        json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "modern-demo", "version": "1.0.0"}})
    );
    assert_eq!(answer.json["resp_headers"], json!({"Content-Type": ["application/json"]}));
    let newer = rig.send(&initialize("0").replace("2025-06-18", "1999-01-01"));
    assert_eq!(result(&newer)["protocolVersion"], "2025-11-25");
    let note = rig.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!((note.kind(), note.code()), ("notify_ack", 202));
    assert_eq!(rig.send(&call("9", "ping", "")).payload(), r#"{"jsonrpc":"2.0","id":9,"result":{}}"#);
    let stale =
        r#","headers":{"Mcp-Session-Id":["old"],"Mcp-Protocol-Version":["2025-06-18"],"X-Own":["1"]}"#;
    let echo = rig.send_with(&tool("2", "écho"), stale);
    assert_eq!(echo.payload(), r#"{"jsonrpc":"2.0","id":2,"result":{"content":[],"echo":{"n":1.1}}}"#);
    let sent = rig.requests().pop().unwrap();
    for (name, value) in [
        ("Mcp-Protocol-Version", Some("2026-07-28")),
        ("Mcp-Method", Some("tools/call")),
        ("Mcp-Name", Some("=?base64?w6ljaG8=?=")),
        ("Mcp-Session-Id", None),
        ("X-Own", Some("1")),
    ] {
        assert_eq!(sent.header(name), value, "{name}");
    }
    assert!(
        sent.text().contains(
            r#""arguments":{"n":1.10},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28""#
        ),
        "{}",
        sent.text()
    );
    assert_eq!(error(&rig.send(&tool("3", "gone"))), (200, -32602));
    assert_eq!(error(&rig.send(&call("4", "nonsense", ""))), (200, -32601));
    assert!(!rig.methods().contains(&"DELETE".to_owned()));
    assert_eq!(rig.methods().iter().filter(|method| *method == "initialize").count(), 1);
}

#[test]
fn a_modern_only_server_is_ready_with_the_bridge_and_without() {
    for arguments in [&[][..], &["--mcp.protocol-bridge", "off"]] {
        let rig = Rig::new(Kind::Modern, arguments);
        assert_eq!(rig.client.readyz(), (200, "ready".to_owned()));
        assert_eq!(rig.methods(), ["initialize", "server/discover"]);
    }
}

#[test]
fn both_sides_of_one_era_see_nothing_but_each_other() {
    let rig = Rig::new(Kind::Dual, &[]);
    let headers =
        r#","headers":{"MCP-Protocol-Version":["2026-07-28"],"Mcp-Method":["METHOD"],"Mcp-Name":["echo"]}"#;
    for (message, method) in [(discover("1"), "server/discover"), (modern_tool("2", "echo"), "tools/call")] {
        result(&rig.send_with(&message, &headers.replace("METHOD", method)));
        assert_eq!(rig.requests().pop().unwrap().text(), message);
    }
    let legacy = tool("3", "echo");
    let session = r#","headers":{"Mcp-Session-Id":["session-1"]}"#;
    result(&rig.send_with(&legacy, session));
    assert_eq!(rig.requests().pop().unwrap().text(), legacy);
    let methods: Vec<String> = rig.seen().iter().skip(1).map(method).collect();
    assert_eq!(methods, ["server/discover", "tools/call", "tools/call"]);
}

#[test]
fn what_a_modern_message_lacks_is_added() {
    let rig = Rig::new(Kind::Dual, &[]);
    let answer = result(&rig.send(&call("1", "server/discover", "")));
    assert_eq!(answer["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "modern-demo");
    result(&rig.send(&modern_tool("2", "echo")));
    let sent = rig.requests().pop().unwrap();
    assert_eq!((sent.header("Mcp-Method"), sent.header("Mcp-Name")), (Some("tools/call"), Some("echo")));
    assert_eq!(sent.text(), modern_tool("2", "echo"));
}

#[test]
fn a_lost_session_is_opened_again_and_the_call_sent_once_more() {
    for status in [404, 400] {
        let rig = Rig::new(Kind::Legacy, &[]);
        result(&rig.send(&modern_tool("1", "echo")));
        rig.change(|manners| {
            manners.forgets = true;
            manners.forgets_with = status;
        });
        result(&rig.send(&modern_tool("2", "echo")));
        assert_eq!(rig.manners.lock().unwrap().runs, 2);
        let sessions = rig.methods().iter().filter(|method| *method == "initialize").count();
        assert_eq!(sessions, 3, "the probe's, the first, and the new one");
        assert_eq!(rig.requests().pop().unwrap().header("Mcp-Session-Id"), Some("session-3"));
    }
}

#[test]
fn other_credentials_get_another_session_and_all_are_closed_at_the_end() {
    let mut rig = Rig::new(Kind::Legacy, &[]);
    let with = |token: &str| format!(r#","headers":{{"Authorization":["Bearer {token}"]}}"#);
    for token in ["a", "b", "a"] {
        result(&rig.send_with(&modern_tool("1", "echo"), &with(token)));
    }
    let used: Vec<String> = rig
        .seen()
        .iter()
        .filter(|request| method(request) == "tools/call")
        .map(|request| request.header("Mcp-Session-Id").unwrap().to_owned())
        .collect();
    assert_eq!(used, ["session-2", "session-3", "session-2"]);
    assert!(rig.requests().iter().all(|request| request.header("Mcp-Session-Id") != Some("never-use-me")));
    assert!(rig.client.terminate().success());
    let mut closed: Vec<(String, String)> = rig
        .requests()
        .iter()
        .filter(|request| request.method == "DELETE")
        .skip(1)
        .map(|request| {
            (
                request.header("Mcp-Session-Id").unwrap().to_owned(),
                request.header("Authorization").unwrap().to_owned(),
            )
        })
        .collect();
    closed.sort();
    assert_eq!(
        closed,
        [("session-2".to_owned(), "Bearer a".to_owned()), ("session-3".to_owned(), "Bearer b".to_owned())]
    );
}

#[test]
fn a_server_that_fails_at_a_discovery_is_bridged() {
    let rig = Rig::with(Manners { discover_status: Some(500), ..Manners::default() }, &[]);
    assert_eq!(result(&rig.send(&discover("1")))["supportedVersions"], json!(["2026-07-28"]));
}

#[test]
fn a_challenge_reaches_the_connector_and_nothing_else_is_tried() {
    let rig = Rig::new(Kind::Guarded, &[]);
    let probed = rig.methods().len();
    let post = rig.send(&discover("1"));
    assert_eq!(post.code(), 401);
    assert!(post.request.text().contains("Bearer realm"), "{}", post.request.text());
    assert_eq!(rig.methods()[probed..], ["server/discover"]);
}

#[test]
fn a_legacy_server_that_became_modern_is_noticed_at_once() {
    let rig = Rig::new(Kind::Legacy, &[]);
    let session = r#","headers":{"Mcp-Session-Id":["session-1"]}"#;
    result(&rig.send_with(&tool("1", "echo"), session));
    result(&rig.send(&modern_tool("2", "echo")));
    rig.change(|manners| manners.kind = Kind::Modern);
    result(&rig.send_with(&tool("3", "echo"), session));
    result(&rig.send(&modern_tool("4", "echo")));
    rig.change(|manners| manners.kind = Kind::Legacy);
    result(&rig.send(&modern_tool("5", "echo")));
    result(&rig.send(&initialize("6")));
    assert_eq!(rig.manners.lock().unwrap().runs, 5);
}

#[test]
fn a_server_that_refuses_both_is_named_by_the_probe_and_not_asked_again_at_once() {
    let rig = Rig::unready(Kind::Neither, &[]);
    common::eventually("the probe fails", || rig.client.readyz().1.contains("server/discover"));
    let (status, text) = rig.client.readyz();
    assert!(status == 503 && text.contains("initialize:") && text.contains("server/discover:"), "{text}");
    let first = rig.send(&discover("1"));
    assert_eq!(first.code(), 404);
    let second = rig.send(&discover("2"));
    assert_eq!(second.code(), 404);
    assert_eq!(second.json["resp_json"]["id"], 2);
    let asked = rig.methods().iter().filter(|method| *method == "server/discover").count();
    assert!(asked <= 3, "{:?}", rig.methods());
}

#[test]
fn a_call_repeats_arguments_in_headers_where_its_server_wants_them() {
    for legacy in [true, false] {
        let rig = Rig::with(Manners { kind: Kind::Modern, wants_region: true, ..Manners::default() }, &[]);
        rig.client.wait_ready();
        let name = if legacy { tool("1", "region") } else { modern_tool("1", "region") };
        result(&rig.send(&name));
        assert_eq!(rig.manners.lock().unwrap().runs, 1);
        assert_eq!(rig.requests().pop().unwrap().header("Mcp-Param-Region"), Some("1.10"));
        if legacy {
            let list = result(&rig.send(&call("2", "tools/list", "")));
            assert_eq!(
                list["tools"].as_array().unwrap().len(),
                1,
                "the tool that breaks the rules is left out"
            );
            result(&rig.send(&tool("3", "region")));
            assert_eq!(rig.methods().iter().filter(|method| *method == "tools/list").count(), 2);
        }
    }
}

#[test]
fn a_request_of_the_server_is_refused_and_the_call_goes_on() {
    let rig = Rig::new(Kind::Legacy, &[]);
    let name = rig.start(&modern_tool("1", "ask"), "");
    result(&rig.plane.wait_terminal(&name));
    assert_eq!(rig.plane.posts_of(&name).len(), 1, "change notifications end here");
    let answer = rig.requests().into_iter().find(|request| method(request) == "-").unwrap();
    assert_eq!(answer.header("Mcp-Session-Id"), Some("session-2"));
    assert_eq!(
        answer.text(),
        r#"{"jsonrpc":"2.0","id":"s1","error":{"code":-32601,"message":"Method not found: elicitation/create is not available through this tunnel"}}"#
    );
}

#[test]
fn errors_of_a_legacy_server_are_told_in_modern_words() {
    let rig = Rig::new(Kind::Legacy, &[]);
    assert_eq!(error(&rig.send(&modern_tool("1", "missing"))), (200, -32602));
    assert_eq!(error(&rig.send(&modern("2", "nonsense", ""))), (404, -32601));
    let before = rig.methods().len();
    assert_eq!(error(&rig.send(&modern("3", "tasks/get", ""))), (404, -32601));
    assert_eq!(error(&rig.send(&modern("4", "subscriptions/listen", ""))), (404, -32601));
    assert_eq!(error(&rig.send(&discover("5").replace("2026-07-28", "2027-01-15"))), (400, -32022));
    assert_eq!(rig.methods().len(), before);
}

#[test]
fn ten_first_commands_share_one_test_and_one_session() {
    let rig = Rig::new(Kind::Legacy, &[]);
    let commands: Vec<String> =
        (0..10).map(|n| jsonrpc(&format!("c{n}"), &modern_tool(&n.to_string(), "echo"), "")).collect();
    rig.plane.send(&commands);
    for n in 0..10 {
        result(&rig.plane.wait_terminal(&format!("c{n}")));
    }
    let methods: Vec<String> = rig.seen().iter().skip(1).map(method).collect();
    let count = |name: &str| methods.iter().filter(|method| *method == name).count();
    assert_eq!((count("server/discover"), count("initialize"), count("tools/call")), (1, 1, 10));
}

#[test]
fn without_the_bridge_messages_pass_as_they_came() {
    let rig = Rig::new(Kind::Legacy, &["--mcp.protocol-bridge", "off"]);
    let message = discover("1");
    assert_eq!(rig.send(&message).code(), 400);
    assert_eq!(rig.requests().pop().unwrap().text(), message);
}
