//! Every way things break: each command gets exactly one terminal answer, the client lives, later
//! calls work.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::connector::Connector;
use common::fault_proxy::{Action, FaultProxy};
use common::http::{self, Reply};
use common::mcp_server::McpServer;
use common::process::{Client, stdio_fixture};
use common::{address, engine, eventually, wait_polled};

/// `source`/`transport_error_kind` of a synthesised failure.
fn failure(reply: &Reply) -> String {
    let data = &reply.json()["error"]["data"]["tunnel_failure"];
    format!(
        "{} {}/{}",
        reply.status,
        data["source"].as_str().unwrap_or("-"),
        data["transport_error_kind"].as_str().unwrap_or("-")
    )
}

#[test]
fn an_mcp_server_that_misbehaves_costs_only_the_call_it_was_given() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let mut client = Client::start(&engine.client_base_url(), &["--mcp.server-url", &server.url()]);
    wait_polled(&engine);
    let connector = Connector::new(&engine.mcp_url());
    for (tool, expected) in [
        ("reset", "502 transport_closed/connection_reset"),
        ("close", "502 transport_closed/eof"),
        ("status-500", "500 target_http/malformed_json"),
        ("status-503", "503 target_http/malformed_json"),
        ("status-404", "404 target_http/malformed_json"),
    ] {
        let reply = connector.call(1, tool, "{}");
        assert_eq!(failure(&reply), expected, "{tool}: {}", reply.text());
        assert_eq!(reply.json()["id"], 1);
        assert!(!reply.text().contains("private details"));
        assert_eq!(connector.call(2, "echo", r#"{"alive":1}"#).json()["result"]["alive"], 1, "after {tool}");
    }
    let reply = connector.call(3, "cut", "{}");
    let events = common::connector::events(&reply.text());
    assert_eq!(events[0]["params"]["progress"], 1);
    assert_eq!(events.last().expect("an end")["error"]["code"], -32603, "{}", reply.text());
    assert!(client.is_running());
    assert!(!client.output().contains("private details"));
}

#[test]
fn a_refused_port_is_named_as_such_and_recovers() {
    let engine = engine();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/mcp", free.local_addr().expect("an address"));
    drop(free);
    let client = Client::start(&engine.client_base_url(), &["--mcp.server-url", &url]);
    wait_polled(&engine);
    let reply = Connector::new(&engine.mcp_url()).call(1, "echo", "{}");
    assert_eq!(failure(&reply), "502 connect/connection_refused");
    eventually("readiness tells it", || client.readyz().1.starts_with("oauth discovery failed: "));
}

#[test]
fn a_child_that_dies_during_a_call_is_replaced() {
    let engine = engine();
    let fixture = stdio_fixture();
    let mut client =
        Client::start(&engine.client_base_url(), &["--mcp.command", &fixture.display().to_string()]);
    wait_polled(&engine);
    let connector = Connector::new(&engine.mcp_url());
    let first = connector.call(1, "pid", "{}").json()["result"]["pid"].clone();
    let reply = connector.call(2, "exit", "{}");
    assert_eq!(failure(&reply), "502 transport_closed/eof", "{}", reply.text());
    let second = connector.call(3, "pid", "{}").json()["result"]["pid"].clone();
    assert!(second.is_u64() && second != first, "{second} after {first}: {}", client.output());
    assert!(client.is_running());
    eventually("ready again", || client.readyz().0 == 200);
}

#[test]
fn garbage_on_a_childs_stdout_is_skipped() {
    let engine = engine();
    let fixture = stdio_fixture();
    let client = Client::start(&engine.client_base_url(), &["--mcp.command", &fixture.display().to_string()]);
    wait_polled(&engine);
    let reply = Connector::new(&engine.mcp_url()).call(1, "garbage", r#"{"ok":1}"#);
    assert_eq!(reply.json()["result"]["ok"], 1, "{}\n{}", reply.text(), client.output());
}

#[test]
fn a_control_plane_that_is_down_for_a_while_is_polled_again() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let proxy = FaultProxy::before(address(&engine.client_base_url()));
    let polls = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&polls);
    proxy.set(move |request| match request.path.contains("/poll") {
        true => match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Action::Close,
            1 => {
                Action::Reply(http::reply(503, &[], r#"{"error":{"message":"down","type":"server_error"}}"#))
            }
            2 => Action::Reply(http::reply(200, &[("Content-Type", "application/json")], "not json")),
            3 => Action::Reply(http::reply(429, &[("Retry-After", "1")], "")),
            _ => Action::Forward,
        },
        false => Action::Forward,
    });
    let mut client = Client::start(&proxy.base_url(), &["--mcp.server-url", &server.url()]);
    wait_polled(&engine);
    let reply = Connector::new(&engine.mcp_url()).call(1, "echo", r#"{"back":1}"#);
    assert_eq!(reply.json()["result"]["back"], 1);
    client.wait_output("poller recovered; polling operational");
    assert!(client.is_running() && polls.load(Ordering::SeqCst) >= 5);
}

#[test]
fn a_response_post_that_fails_twice_is_delivered_by_the_third_and_the_call_is_not_repeated() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let proxy = FaultProxy::before(address(&engine.client_base_url()));
    let posts = AtomicUsize::new(0);
    proxy.set(move |request| match request.path.contains("/response") {
        true => match posts.fetch_add(1, Ordering::SeqCst) {
            0 => Action::Close,
            1 => Action::Reply(http::reply(502, &[], "")),
            _ => Action::Forward,
        },
        false => Action::Forward,
    });
    let _client = Client::start(&proxy.base_url(), &["--mcp.server-url", &server.url()]);
    wait_polled(&engine);
    let reply = Connector::new(&engine.mcp_url()).call(1, "echo", r#"{"once":1}"#);
    assert_eq!(reply.json()["result"]["once"], 1);
    assert_eq!(proxy.count("/response"), 3);
    let bodies: Vec<_> =
        proxy.seen().into_iter().filter(|r| r.path.contains("/response")).map(|r| r.body).collect();
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "every attempt sends the same bytes");
    assert_eq!(server.seen().iter().filter(|r| r.text().contains("tools/call")).count(), 1);
}

#[test]
fn a_lost_reply_to_a_response_is_no_second_answer() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let proxy = FaultProxy::before(address(&engine.client_base_url()));
    let posts = AtomicUsize::new(0);
    proxy.set(move |request| {
        let first = request.path.contains("/response") && posts.fetch_add(1, Ordering::SeqCst) == 0;
        if first { Action::LoseReply } else { Action::Forward }
    });
    let _client = Client::start(&proxy.base_url(), &["--mcp.server-url", &server.url()]);
    wait_polled(&engine);
    let connector = Connector::new(&engine.mcp_url());
    assert_eq!(connector.call(1, "echo", r#"{"n":1}"#).json()["result"]["n"], 1);
    eventually("the repetition was posted", || proxy.count("/response") == 2);
    assert_eq!(connector.call(2, "echo", r#"{"n":2}"#).json()["result"]["n"], 2);
}

#[test]
fn a_stalled_server_is_answered_for_when_the_connection_ttl_ends() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let _client = Client::start(
        &engine.client_base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.connection-max-ttl", "300ms"],
    );
    wait_polled(&engine);
    let reply = Connector::new(&engine.mcp_url()).call(1, "stall", "{}");
    assert_eq!(failure(&reply), "504 timeout/ttl", "{}", reply.text());
}
