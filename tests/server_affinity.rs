//! Clients that own channels, sessions that stay with their client, and calls that come too often.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

#[path = "support/process.rs"]
mod process;
#[path = "support/site.rs"]
mod site;
#[path = "support/wire.rs"]
mod wire;

use serde_json::{Value, json};

use process::Server;
use site::{TUNNEL, post_response, result, wait_for};
use wire::{Reply, Wire};

const INFO: &str = r#"{"version":1,"channels":[{"name":"main","proc_affinity":true}]}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call"}"#;

fn start(directory: &std::path::Path, settings: &str) -> Server {
    let text = format!(
        "listeners:
  - {{addr: \"127.0.0.1:0\", serve: [client, connector, operator]}}
keys:
  - {{name: a, kind: runtime, secret: \"env:TEST_CLIENT_KEY\", permissions: [api.organization.tunnel.use], tunnels: [\"*\"]}}
tunnels:
  - {{id: {TUNNEL}}}
{settings}
"
    );
    let path = directory.join("server.yaml");
    std::fs::write(&path, text).unwrap();
    Server::start(&["--config", path.to_str().unwrap()])
}

fn send_poll(wire: &mut Wire, instance: &str, query: &str) {
    let bearer = format!("Bearer {}", site::KEY);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("X-Tunnel-Client-Instance-Id", instance),
        ("X-Tunnel-MCP-Server-Info", INFO),
    ];
    wire.send("GET", &format!("/v1/tunnels/{TUNNEL}/poll?{query}"), &headers, None);
}

fn poll(server: &Server, instance: &str, query: &str) -> Reply {
    let mut wire = server.connect();
    send_poll(&mut wire, instance, query);
    wire.read()
}

fn send_call(server: &Server, session: Option<&str>) -> Wire {
    let mut wire = server.connect();
    let headers: Vec<_> = session.map(|session| ("Mcp-Session-Id", session)).into_iter().collect();
    wire.send("POST", &format!("/v1/mcp/{TUNNEL}"), &headers, Some(CALL.as_bytes()));
    wire
}

fn answer(server: &Server, command: &Value, session: Option<&str>) {
    let mut body = result();
    if let Some(session) = session {
        body["resp_headers"]["Mcp-Session-Id"] = json!([session]);
    }
    let token = command["shard_token"].as_str().unwrap();
    assert_eq!(post_response(&mut server.connect(), TUNNEL, token, command, body).status, 200);
}

/// The one command of a reply.
fn only(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["commands"][0].clone()
}

fn wait_queued(server: &Server) {
    let line = format!("tunnel_server_queue_depth{{tunnel_id=\"{TUNNEL}\",channel=\"main\"}} 1");
    wait_for("a queued call", || server.connect().call("GET", "/metrics", &[], None).text().contains(&line));
}

#[test]
fn the_first_client_to_take_work_keeps_the_channel_and_its_sessions() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), "affinity: lazy-owner\naffinity_lease: 2s");
    for instance in ["aa", "bb"] {
        assert_eq!(poll(&server, instance, "timeout_ms=1").status, 204);
    }
    // The session begins with the one that takes its first call.
    let mut first = send_call(&server, None);
    let command = only(&poll(&server, "aa", "timeout_ms=5000"));
    answer(&server, &command, Some("s-1"));
    assert_eq!(first.read().header("Mcp-Session-Id"), Some("s-1"));
    let mut second = send_call(&server, Some("s-1"));
    wait_queued(&server);
    assert_eq!(poll(&server, "bb", "timeout_ms=100").status, 204, "it belongs to the other");
    answer(&server, &only(&poll(&server, "aa", "timeout_ms=5000")), None);
    assert_eq!(second.read().status, 200);
    // What belongs to no session waits for the owner too, until its lease is over.
    let mut third = send_call(&server, None);
    wait_queued(&server);
    answer(&server, &only(&poll(&server, "bb", "timeout_ms=10000")), Some("s-2"));
    assert_eq!(third.read().status, 200);
    let refused = send_call(&server, Some("s-1")).read();
    assert_eq!((refused.status, refused.code().as_str()), (404, "tunnel_client_not_connected"));
    let mut known = send_call(&server, Some("s-2"));
    answer(&server, &only(&poll(&server, "bb", "timeout_ms=5000")), None);
    assert_eq!(known.read().status, 200);
}

#[test]
fn a_call_of_a_session_ends_when_its_client_goes_while_it_waits() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), "affinity: lazy-owner\naffinity_lease: 2s");
    assert_eq!(poll(&server, "aa", "timeout_ms=1").status, 204);
    let mut first = send_call(&server, None);
    answer(&server, &only(&poll(&server, "aa", "timeout_ms=5000")), Some("s-1"));
    assert_eq!(first.read().status, 200);
    let mut second = send_call(&server, Some("s-1"));
    let mut other = server.connect();
    send_poll(&mut other, "bb", "timeout_ms=20000");
    let refused = second.read();
    assert_eq!((refused.status, refused.code().as_str()), (404, "tunnel_client_not_connected"));
    let metrics = server.connect().call("GET", "/metrics", &[], None);
    let line = format!("tunnel_server_queue_depth{{tunnel_id=\"{TUNNEL}\",channel=\"main\"}} 0");
    assert!(metrics.text().contains(&line), "its place in the queue is free again: {metrics:?}");
}

#[test]
fn without_affinity_whoever_polls_first_gets_the_work() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), "affinity: off");
    assert_eq!(poll(&server, "aa", "timeout_ms=1").status, 204);
    for instance in ["aa", "bb", "aa"] {
        let mut caller = send_call(&server, Some("s-1"));
        answer(&server, &only(&poll(&server, instance, "timeout_ms=5000")), None);
        assert_eq!(caller.read().status, 200);
    }
}

#[test]
fn calls_that_come_too_often_are_refused_with_a_time_to_wait() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), "limits: {calls_per_second: 0.01, calls_burst: 2}");
    assert_eq!(poll(&server, "aa", "timeout_ms=1").status, 204);
    let held: Vec<Wire> = (0..2).map(|_| send_call(&server, None)).collect();
    wait_for("two calls", || {
        let metrics = server.connect().call("GET", "/metrics", &[], None);
        metrics.text().contains(&format!("tunnel_server_held_requests{{tunnel_id=\"{TUNNEL}\"}} 2"))
    });
    let refused = send_call(&server, None).read();
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    let wait: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    drop(held);
}
