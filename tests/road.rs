//! The whole road: connector, control plane, client process, MCP server, and back.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use common::connector::{Connector, events};
use common::fault_proxy::FaultProxy;
use common::mcp_server::McpServer;
use common::process::{Client, client_binary, stdio_fixture};
use common::{API_KEY, TUNNEL_ID, address, engine, engine_with, eventually, wait_polled};

#[test]
fn a_call_over_http_is_answered_byte_for_byte() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let client = Client::start(&engine.client_base_url(), &["--mcp.server-url", &server.url()]);
    wait_polled(&engine);
    let arguments = r#"{"text":"Grüße \u00e9 <&>","big":12345678901234567890,"exact":1.10,"z":1,"a":2}"#;
    let reply = Connector::new(&engine.mcp_url()).call(7, "echo", arguments);
    assert_eq!(reply.status, 200, "{}", client.output());
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
    assert_eq!(
        reply.text().replace(r#","structured":null"#, ""),
        format!(r#"{{"jsonrpc":"2.0","id":7,"result":{}}}"#, echoed(arguments))
    );
}

/// The scripted server goes through a JSON tree: that sorts members and rewrites escapes and numbers.
fn echoed(arguments: &str) -> String {
    serde_json::from_str::<serde_json::Value>(arguments).expect("JSON").to_string()
}

#[test]
fn the_payload_reaches_an_http_server_unchanged() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let _client = Client::start(&engine.client_base_url(), &["--mcp.server-url", &server.url()]);
    wait_polled(&engine);
    let json = "{\"params\" : {\"name\":\"echo\",\"arguments\":{\"n\":1.10,\"u\":\"\\u00e9\"}}, \"method\":\"tools/call\",\"jsonrpc\":\"2.0\", \"id\":9007199254740993,\"extra\":[1 , 2]}";
    let reply = Connector::new(&engine.mcp_url()).post(json, &[]);
    assert!(reply.text().contains(r#""id":9007199254740993"#), "{}", reply.text());
    let seen = server.seen();
    let call = seen.iter().find(|request| request.text().contains("tools/call")).expect("the call");
    assert_eq!(call.text(), json);
}

#[test]
fn notifications_of_a_stream_arrive_before_its_result_and_in_order() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let _client = Client::start(&engine.client_base_url(), &["--mcp.server-url", &server.url()]);
    wait_polled(&engine);
    let reply = Connector::new(&engine.mcp_url()).call(1, "progress", r#"{"done":true}"#);
    let events = events(&reply.text());
    let steps: Vec<_> = events.iter().filter_map(|event| event["params"]["progress"].as_u64()).collect();
    assert_eq!(steps, [1, 2, 3]);
    assert_eq!(events.last().expect("a result")["result"]["done"], true);
    assert_eq!(events.len(), 4);
}

#[test]
fn a_session_id_travels_both_ways_and_a_delete_ends_it() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let _client = Client::start(&engine.client_base_url(), &["--mcp.server-url", &server.url()]);
    wait_polled(&engine);
    let connector = Connector::new(&engine.mcp_url());
    let reply = connector.post(r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#, &[]);
    assert_eq!(reply.header("Mcp-Session-Id"), Some("session-1"));
    let headers = [("Mcp-Session-Id", "session-1"), ("Authorization", "Bearer caller")];
    let reply = connector.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, &headers);
    assert_eq!((reply.status, reply.text().as_str()), (202, ""));
    let path = format!("/v1/mcp/{TUNNEL_ID}");
    let ingress = engine.mcp_url();
    let host = address(&ingress).split('/').next().expect("a host").to_owned();
    let reply = common::http::request(&host, "DELETE", &path, &headers, "").expect("an answer");
    assert_eq!(reply.status, 204);
    let seen = server.seen();
    let deleted = seen.iter().find(|r| r.method == "DELETE" && r.header("Authorization").is_some());
    assert_eq!(deleted.and_then(|r| r.header("Mcp-Session-Id")), Some("session-1"));
}

#[test]
fn connections_are_kept_on_every_hop() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let proxy = FaultProxy::before(address(&engine.client_base_url()));
    let client = Client::start(&proxy.base_url(), &["--mcp.server-url", &server.url()]);
    client.wait_ready();
    let connector = Connector::new(&engine.mcp_url());
    for id in 0..40 {
        assert_eq!(connector.call(id, "echo", "{}").status, 200);
    }
    assert_eq!(proxy.count("/response"), 40);
    // Poll, metadata and responses one after another: a few connections, not one for each. A caller may
    // have its answer, and call again, before the connection that brought it is free.
    assert!(proxy.connections() <= 10, "{} connections to the control plane", proxy.connections());
    assert!(server.connections() <= 4, "{} connections to the MCP server", server.connections());
}

#[test]
fn stdio_calls_run_side_by_side_on_one_child() {
    let engine = engine();
    let fixture = stdio_fixture();
    let client = Client::start(&engine.client_base_url(), &["--mcp.command", &fixture.display().to_string()]);
    wait_polled(&engine);
    let connector = Connector::new(&engine.mcp_url());
    // The same id for all: each connector counts from one.
    let slow = connector.call_later(1, "slow-1500", r#"{"slow":true}"#);
    eventually("the slow call is held", || engine.gauges().held > 0);
    let started = std::time::Instant::now();
    let fast = connector.call(1, "echo", r#"{"fast":true}"#);
    assert_eq!(fast.json()["result"]["fast"], true, "{}", client.output());
    assert!(started.elapsed().as_millis() < 1400, "the fast call waited for the slow one");
    let slow = slow.join().expect("the caller").expect("an answer");
    assert_eq!(slow.json()["result"]["slow"], true);
}

#[test]
fn progress_of_a_stdio_child_reaches_its_caller() {
    let engine = engine();
    let fixture = stdio_fixture();
    let _client =
        Client::start(&engine.client_base_url(), &["--mcp.command", &fixture.display().to_string()]);
    wait_polled(&engine);
    let json = r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"progress","arguments":{"ok":1},"_meta":{"progressToken":"mine"}}}"#;
    let reply = Connector::new(&engine.mcp_url()).post(json, &[]);
    let events = events(&reply.text());
    assert_eq!(events.len(), 4, "{}", reply.text());
    assert!(events[..3].iter().all(|event| event["params"]["progressToken"] == "mine"), "{}", reply.text());
    assert_eq!(events[3]["id"], 5);
}

#[test]
fn a_stdio_child_does_not_inherit_the_variable_of_our_key() {
    let engine = engine();
    let fixture = stdio_fixture();
    let client = Client::start_with(
        &engine.client_base_url(),
        &["--mcp.command", &fixture.display().to_string()],
        &[("OTHER", "kept")],
    );
    wait_polled(&engine);
    let connector = Connector::new(&engine.mcp_url());
    assert_eq!(connector.call(1, "env-OTHER", "{}").json()["result"]["value"], "kept");
    let key = connector.call(2, "env-CONTROL_PLANE_API_KEY", "{}");
    assert!(key.json()["result"]["value"].is_null(), "{}", key.text());
    assert!(!client.output().contains(API_KEY));
}

#[test]
fn an_unknown_channel_is_refused_and_never_falls_back_to_main() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let client = Client::start(&engine.client_base_url(), &["--mcp.server-url", &server.url()]);
    client.wait_ready();
    wait_polled(&engine);
    let reply = Connector::new(&format!("{}/reports", engine.mcp_url())).call(3, "echo", "{}");
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["error"]["message"], r#"Bad Request: unsupported channel "reports""#);
    // The probe may still be ending its session.
    assert!(server.seen().iter().all(|request| !request.text().contains("tools/call")));
}

#[test]
fn channels_reach_their_own_servers_and_a_stalled_one_stops_no_other() {
    let (engine, main, reports) = (engine(), McpServer::by_tool_name(), McpServer::by_tool_name());
    let reports_entry = format!("channel=reports,url={}", reports.url());
    let _client = Client::start(
        &engine.client_base_url(),
        &[
            "--mcp.server-url",
            &main.url(),
            "--mcp.server-url",
            &reports_entry,
            "--mcp.max-concurrent-requests",
            "3",
        ],
    );
    wait_polled(&engine);
    let stalled = Connector::new(&format!("{}/reports", engine.mcp_url()));
    let waiting: Vec<_> = (0..6).map(|id| stalled.call_later(id, "stall", "{}")).collect();
    eventually("the stalled server holds its calls", || {
        reports.seen().iter().filter(|request| request.text().contains("stall")).count() == 2
    });
    let reply = Connector::new(&engine.mcp_url()).call(9, "echo", r#"{"free":1}"#);
    assert_eq!(reply.json()["result"]["free"], 1);
    drop(waiting);
}

#[test]
fn an_expired_command_costs_the_mcp_server_nothing_and_gets_no_answer() {
    let server = McpServer::by_tool_name();
    let engine = engine_with(|options| options.response_timeout = std::time::Duration::from_millis(600));
    let client = Client::start(
        &engine.client_base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.max-concurrent-requests", "1"],
    );
    wait_polled(&engine);
    let connector = Connector::new(&engine.mcp_url());
    let reply = connector.call(1, "stall", "{}");
    assert_eq!(reply.status, 504);
    let reply = connector.call(2, "echo", r#"{"after":1}"#);
    assert_eq!(reply.json()["result"]["after"], 1, "{}", client.output());
    client.wait_output("deadline reached");
}

#[test]
fn the_demo_runs_to_its_end() {
    let output = std::process::Command::new(client_binary()).arg("demo").output().expect("the demo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("progress 3 of 3") && text.contains("The tunnel works"), "{text}");
}

#[test]
fn the_demo_runs_with_a_server_of_the_users_own() {
    let fixture = stdio_fixture();
    let output = std::process::Command::new(client_binary())
        .args(["demo", "--tool=echo", r#"--arguments={"own":1}"#, "--stdio", "--"])
        .arg(&fixture)
        .output()
        .expect("the demo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        text.contains("fixture 1") && text.contains("1 tool: echo") && text.contains("The tunnel works"),
        "{text}"
    );
    let failed = std::process::Command::new(client_binary())
        .args(["demo", "--url", "http://127.0.0.1:9/mcp"])
        .output()
        .expect("the demo runs");
    assert_eq!(failed.status.code(), Some(1));
}
