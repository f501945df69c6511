//! `/harpoon/mcp` on the local listener.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{Site, base, echo};
use crate::common::http::{self, Reply};
use crate::common::{PATIENCE, address};

const BOTH: (&str, &str) = ("Accept", "application/json, text/event-stream");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const INITIALIZE: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;

struct Local {
    site: Site,
}

impl Local {
    fn start() -> Local {
        let server = echo();
        let site =
            Site::start(&[("abc", &base(&server))], &["--harpoon.additional-transport", "HTTP-Streamable"]);
        Local { site }
    }

    fn address(&self) -> &str {
        address(self.site.client.health_url())
    }

    fn send(&self, method: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        http::request(self.address(), method, "/harpoon/mcp", headers, body).unwrap()
    }

    fn post(&self, headers: &[(&str, &str)], body: &str) -> Reply {
        self.send("POST", &[&[BOTH, JSON], headers].concat(), body)
    }

    fn open(&self) -> String {
        let reply = self.post(&[], INITIALIZE);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.header("Mcp-Session-Id").unwrap().to_owned()
    }
}

fn event(reply: &Reply) -> Value {
    let text = reply.text();
    let data = text.strip_prefix("event: message\ndata: ").and_then(|rest| rest.strip_suffix("\n\n"));
    serde_json::from_str(data.unwrap_or_else(|| panic!("{text:?}"))).unwrap()
}

#[test]
fn a_session_is_opened_used_and_ended() {
    let local = Local::start();
    let opened = local.post(&[], INITIALIZE);
    assert_eq!(opened.header("Content-Type"), Some("text/event-stream"));
    assert_eq!(opened.header("Cache-Control"), Some("no-cache, no-transform"));
    assert_eq!(event(&opened)["result"]["serverInfo"]["name"], "harpoon");
    let id = opened.header("Mcp-Session-Id").unwrap().to_owned();
    let session = [("Mcp-Session-Id", id.as_str())];
    let accepted = local.post(&session, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!((accepted.status, accepted.text().as_str()), (202, ""));
    let call = json!({"jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": {
        "name": "call_target", "arguments": {"label": "abc", "method": "GET"}}});
    let called = event(&local.post(&session, &call.to_string()));
    assert_eq!(
        (&called["id"], &called["result"]["structuredContent"]["status_code"]),
        (&json!("x"), &json!(200))
    );
    assert_eq!(local.site.api("harpoon/calls")["calls"].as_array().unwrap().len(), 1, "one history");
    assert_eq!(local.send("DELETE", &session, "").status, 204);
    let gone = local.post(&session, &call.to_string());
    assert_eq!((gone.status, gone.text().trim()), (404, "session not found"));
    let without = event(&local.post(&[], &call.to_string()));
    assert!(without["error"]["message"].as_str().unwrap().contains("invalid during session initialization"));
    let modern = local.post(
        &[("Mcp-Protocol-Version", "2026-07-28")],
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#,
    );
    assert_eq!(modern.header("Content-Type"), Some("application/json"));
    assert_eq!(modern.json()["result"]["resultType"], "complete");
}

#[test]
fn requests_are_refused_for_what_is_wrong_with_them() {
    let local = Local::start();
    let session = local.open();
    let session = ("Mcp-Session-Id", session.as_str());
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let batch = format!("[{list},{list}]");
    for (what, reply, status) in [
        ("a type", local.send("POST", &[BOTH, ("Content-Type", "text/plain")], INITIALIZE), 415),
        (
            "parameters",
            local.send("POST", &[BOTH, ("Content-Type", "application/json; charset=utf-8")], INITIALIZE),
            415,
        ),
        ("no type", local.send("POST", &[BOTH], INITIALIZE), 415),
        ("half an Accept", local.send("POST", &[JSON, ("Accept", "application/json")], INITIALIZE), 400),
        ("any Accept", local.send("POST", &[JSON, ("Accept", "*/*")], INITIALIZE), 200),
        ("a revision", local.post(&[("Mcp-Protocol-Version", "1999-01-01")], INITIALIZE), 400),
        ("an unknown session", local.post(&[("Mcp-Session-Id", "nope")], list), 404),
        ("an empty body", local.post(&[session], ""), 400),
        ("no JSON", local.post(&[session], "{"), 400),
        ("an unknown method", local.post(&[session], r#"{"jsonrpc":"2.0","id":1,"method":"no/such"}"#), 400),
        ("no id", local.post(&[session], r#"{"jsonrpc":"2.0","method":"tools/list"}"#), 400),
        ("a resumption", local.post(&[session, ("Last-Event-ID", "1")], list), 400),
        ("a late batch", local.post(&[session, ("Mcp-Protocol-Version", "2025-06-18")], &batch), 400),
        ("an early batch", local.post(&[session], &batch), 200),
        ("an empty batch", local.post(&[session], "[]"), 400),
        ("GET without session", local.send("GET", &[("Accept", "text/event-stream")], ""), 400),
        ("DELETE without session", local.send("DELETE", &[], ""), 400),
        ("PUT", local.send("PUT", &[("Accept", "*/*")], ""), 405),
        ("another origin", local.post(&[("Origin", "http://evil.example")], INITIALIZE), 403),
        ("another site", local.post(&[("Sec-Fetch-Site", "cross-site")], INITIALIZE), 403),
        ("its own origin", local.post(&[("Origin", local.site.client.health_url())], INITIALIZE), 200),
    ] {
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
    }
    assert_eq!(local.send("PUT", &[("Accept", "*/*")], "").header("Allow"), Some("GET, POST, DELETE"));
    let slash = http::request(local.address(), "POST", "/harpoon/mcp/", &[BOTH, JSON], INITIALIZE).unwrap();
    assert_eq!(slash.status, 404);
    let mut stream = TcpStream::connect(local.address()).unwrap();
    let head = format!(
        "POST /harpoon/mcp HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\nAccept: */*\r\nContent-Length: {}\r\n\r\n{INITIALIZE}",
        INITIALIZE.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let rebound = http::read_reply(&mut BufReader::new(stream)).unwrap();
    assert_eq!(
        (rebound.status, rebound.text().trim()),
        (403, "Forbidden: invalid Host header \"evil.example\"")
    );
}

#[test]
fn sessions_are_limited_and_one_that_ends_makes_room() {
    let local = Local::start();
    let ids: Vec<String> = (0..256).map(|_| local.open()).collect();
    let full = local.post(&[], INITIALIZE);
    assert_eq!((full.status, full.header("Mcp-Session-Id")), (503, None), "{}", full.text());
    let first = [("Mcp-Session-Id", ids[0].as_str())];
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(local.post(&first, ping).status, 200, "those that are open go on");
    assert_eq!(local.send("DELETE", &first, "").status, 204);
    assert_eq!(local.post(&[], INITIALIZE).status, 200);
    assert_eq!(local.post(&[], INITIALIZE).status, 503);
}

#[test]
fn a_standing_stream_is_one_per_session_and_ends_with_it() {
    let mut local = Local::start();
    let session = local.open();
    let open = |headers: &str| {
        let mut stream = TcpStream::connect(local.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "GET /harpoon/mcp HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session}\r\n{headers}\r\n",
            local.address()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let status = http::read_reply_head(&mut reader).unwrap().status;
        (status, reader)
    };
    let (status, mut standing) = open("");
    assert_eq!(status, 200);
    // The head leaves a moment before the stream stands.
    crate::common::eventually("a second stream is refused", || open("").0 == 409);
    assert_eq!(open("Last-Event-ID: 1\r\n").0, 400);
    assert_eq!(local.send("DELETE", &[("Mcp-Session-Id", &session)], "").status, 204);
    let mut rest = Vec::new();
    standing.get_mut().set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = standing.by_ref().take(5).read_to_end(&mut rest);
    assert_eq!(rest, b"0\r\n\r\n", "the stream ends in order");

    let session = local.open();
    let mut stream = TcpStream::connect(local.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "GET /harpoon/mcp HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session}\r\n\r\n",
        local.address()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    assert_eq!(http::read_reply_head(&mut reader).unwrap().status, 200);
    assert!(local.site.client.terminate().success(), "an open stream holds up no stop");
    let _ = reader.read_to_end(&mut rest);
}

#[test]
fn the_path_is_for_this_host_only_and_there_only_if_it_is_asked_for() {
    let server = echo();
    let without = Site::start(&[("abc", &base(&server))], &[]);
    let at = address(without.client.health_url());
    let reply = http::request(at, "POST", "/harpoon/mcp", &[BOTH, JSON], INITIALIZE).unwrap();
    assert_eq!(reply.status, 404);

    let Some(own) = own_address() else { return };
    let site = Site::bare(&[
        "--harpoon.allow-plaintext-http",
        "--harpoon.target",
        &format!("label=abc,url={}", base(&server)),
        "--harpoon.additional-transport",
        "http-streamable",
        "--allow-remote-ui",
        "--health.listen-addr",
        "0.0.0.0:0",
    ]);
    let port = site.client.health_url().rsplit(':').next().unwrap().to_owned();
    let remote = format!("{own}:{port}");
    let reply = http::request(&remote, "POST", "/harpoon/mcp", &[BOTH, JSON], INITIALIZE).unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (403, "harpoon transport is restricted to loopback\n"));
    let forwarded = [BOTH, JSON, ("X-Forwarded-For", "127.0.0.1")];
    let reply = http::request(&remote, "POST", "/harpoon/mcp", &forwarded, INITIALIZE).unwrap();
    assert_eq!(reply.status, 403);
    assert_eq!(http::request(&remote, "GET", "/healthz", &[], "").unwrap().status, 200);
}

/// An address of this host beyond loopback.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
