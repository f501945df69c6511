//! Streamed notifications, deadlines, the connection TTL, one shared stdio child, and the stop.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use common::gate::Gate;
use common::http::{self, Request};
use common::mcp_server::{McpServer, Next, by_tool_name};
use common::process::{Client, stdio_fixture};
use common::scripted_plane::{Post, ScriptedPlane, accepted, call, command, jsonrpc, notification, tool};
use common::{PATIENCE, eventually};
use serde_json::{Value, json};

const STREAM: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nMcp-Session-Id: s-1\r\nConnection: close\r\n\r\n";

fn progress(step: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"t","progress":{step},"exact":1.10}}}}"#
    )
}

fn result(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"id-{id}","result":{{}}}}"#)
}

fn event(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(format!("{text}\n\n").as_bytes());
}

/// A flag that one side waits for.
#[derive(Clone, Default)]
struct Signal(Arc<(Mutex<bool>, Condvar)>);

impl Signal {
    fn set(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let set = self.0.0.lock().unwrap();
        let (set, _) = self.0.1.wait_timeout_while(set, PATIENCE, |set| !*set).unwrap();
        assert!(*set, "the signal did not come");
    }
}

#[test]
fn notifications_are_posted_as_they_arrive_and_before_the_result() {
    let go_on = Signal::default();
    let released = go_on.clone();
    let server = McpServer::scripted(move |request: &Request, stream: &mut TcpStream| {
        if !request.text().contains("\"streamed\"") {
            return by_tool_name(request, stream);
        }
        let _ = stream.write_all(STREAM);
        for step in 1..=3 {
            event(stream, &format!("data: {}", progress(step)));
        }
        released.wait();
        event(stream, &format!("data: {}", result("a")));
        Next::Close
    });
    let plane = ScriptedPlane::start();
    let _client = Client::start(&plane.base_url(), &["--mcp.server-url", &server.url()]);
    plane.send(&[call("a", "streamed", r#","headers":{"X-Request-Id":["r1"]}"#)]);
    let early = plane.wait_posts(3);
    assert!(early.iter().all(|post| post.kind() == "jsonrpc_notify"), "the server has not answered yet");
    go_on.set();
    plane.wait_terminal("a");
    let posts = plane.posts();
    assert_eq!(posts.len(), 4);
    for (post, step) in posts.iter().zip(1..) {
        let payload = if step <= 3 { progress(step) } else { result("a") };
        assert_eq!((post.payload(), post.code(), &post.json["channel"]), (payload, 200, &json!("main")));
        let headers = json!({ "Content-Type": ["text/event-stream"], "Mcp-Session-Id": ["s-1"] });
        assert_eq!(post.json["resp_headers"], headers);
        assert_eq!(post.request.header("X-Tunnel-Shard-Token"), Some("shard-a"));
        assert_eq!(post.request.header("X-Client-Request-Id"), Some("r1"));
        assert!(!post.request.text().contains("shard-a"));
    }
    assert_eq!(posts[3].kind(), "jsonrpc_response");
}

#[test]
fn after_a_notification_that_is_not_taken_only_the_result_is_posted() {
    let (plane, server) = (ScriptedPlane::start(), McpServer::by_tool_name());
    plane.answer(|post: &Post| {
        Some(if post.kind() == "jsonrpc_notify" { http::reply(400, &[], "{}") } else { accepted() })
    });
    let client = Client::start(&plane.base_url(), &["--mcp.server-url", &server.url()]);
    plane.send(&[tool("a", "progress", "")]);
    assert_eq!(plane.wait_terminal("a").code(), 200);
    let kinds: Vec<_> = plane.posts().iter().map(|post| post.kind().to_owned()).collect();
    assert_eq!(kinds, ["jsonrpc_notify", "jsonrpc_response"]);
    client.wait_output("skipping further notifications");
}

#[test]
fn a_stream_that_breaks_after_an_event_id_is_resumed_there() {
    let server = McpServer::scripted(|request: &Request, stream: &mut TcpStream| {
        match (request.method.as_str(), request.text().contains("\"broken\"")) {
            ("POST", true) => {
                let _ = stream.write_all(STREAM);
                event(stream, &format!("retry: 1\nid: e-1\ndata: {}", progress(1)));
            }
            ("GET", _) if request.header("Last-Event-ID") == Some("e-1") => {
                let _ = stream.write_all(STREAM);
                event(stream, &format!("id: e-2\ndata: {}", progress(2)));
                event(stream, &format!("data: {}", result("a")));
            }
            _ => return by_tool_name(request, stream),
        }
        Next::Close
    });
    let plane = ScriptedPlane::start();
    let _client = Client::start(&plane.base_url(), &["--mcp.server-url", &server.url()]);
    plane.send(&[call("a", "broken", r#","headers":{"Authorization":["Bearer caller"]}"#)]);
    assert_eq!(plane.wait_terminal("a").payload(), result("a"));
    assert_eq!(plane.posts().len(), 3);
    let seen = server.seen();
    // Others look for metadata and challenges.
    let resumed: Vec<_> = seen.iter().filter(|request| request.header("Last-Event-ID").is_some()).collect();
    assert_eq!(resumed.len(), 1);
    assert_eq!(resumed[0].header("Authorization"), Some("Bearer caller"));
    assert!(resumed[0].header("Accept").is_some_and(|accept| accept.contains("text/event-stream")));
}

#[test]
fn a_time_out_of_zero_costs_nothing_and_an_unreadable_one_is_none() {
    let (plane, server) = (ScriptedPlane::start(), McpServer::by_tool_name());
    let client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.max-concurrent-requests", "1"],
    );
    let timeouts = ["null", "30", "\"0s \"", "\"1.5s\"", "\"9223372036854775808ns\"", "\"\"", "[]"];
    let mut commands = vec![call("zero", "echo", r#","response_timeout":"0s""#)];
    for (n, timeout) in timeouts.iter().enumerate() {
        commands.push(call(&format!("r{n}"), "echo", &format!(r#","response_timeout":{timeout}"#)));
    }
    plane.send(&commands);
    let posts = plane.wait_posts(timeouts.len());
    assert!(posts.iter().all(|post| post.code() == 200 && post.id() != "zero"));
    assert!(!server.seen().iter().any(|request| request.text().contains("id-zero")));
    client.wait_output("dropp");
}

#[test]
fn a_deadline_aborts_the_exchange_and_frees_its_worker_in_silence() {
    let aborted = Signal::default();
    let seen = aborted.clone();
    let server = McpServer::scripted(move |request: &Request, stream: &mut TcpStream| {
        if request.header("X-Hang").is_none() {
            return by_tool_name(request, stream);
        }
        if stream.read(&mut [0]).is_ok_and(|length| length == 0) {
            seen.set();
        }
        Next::Close
    });
    let plane = ScriptedPlane::start();
    let client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.max-concurrent-requests", "1"],
    );
    client.wait_ready();
    let hang = |timeout: &str| {
        format!(r#","response_timeout":"{timeout}","headers":{{"Mcp-Session-Id":["s"],"X-Hang":["1"]}}"#)
    };
    plane.send(&[
        call("call", "m", &hang("1500ms")),
        notification("note", "notifications/x", &hang("1700ms")),
        command("session_termination", "end", &hang("1900ms")),
        call("next", "echo", ""),
    ]);
    assert_eq!(plane.wait_terminal("next").code(), 200);
    aborted.wait();
    assert_eq!(plane.posts().len(), 1);
    let deletes = server.seen_of_commands().iter().filter(|request| request.method == "DELETE").count();
    assert!(deletes <= 1, "only the one that was asked for");
    client.wait_output("deadline reached");
}

#[test]
fn a_discovery_that_the_deadline_cuts_short_ends_in_silence() {
    let server = McpServer::scripted(|request: &Request, stream: &mut TcpStream| {
        if !request.path.contains("well-known") {
            return by_tool_name(request, stream);
        }
        let _ = stream.read(&mut [0]);
        Next::Close
    });
    let plane = ScriptedPlane::start();
    let client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.max-concurrent-requests", "1"],
    );
    plane.send(&[
        command("oauth_discovery", "oauth", r#","response_timeout":"700ms""#),
        call("next", "echo", ""),
    ]);
    assert_eq!(plane.wait_terminal("next").code(), 200);
    assert_eq!(plane.posts().len(), 1);
    client.wait_output("deadline reached");
}

#[test]
fn a_response_whose_posting_outlasts_the_deadline_is_given_up() {
    let (plane, server) = (ScriptedPlane::start(), McpServer::by_tool_name());
    let hang = Signal::default();
    let held = hang.clone();
    plane.answer(move |post: &Post| {
        if post.id() == "late" {
            held.wait();
            return None;
        }
        Some(accepted())
    });
    let client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.max-concurrent-requests", "1"],
    );
    plane.send(&[call("late", "echo", r#","response_timeout":"1s""#), call("next", "echo", "")]);
    assert_eq!(plane.wait_terminal("next").code(), 200);
    hang.set();
    plane.send(&[call("last", "echo", "")]);
    plane.wait_terminal("last");
    assert_eq!(plane.posts_of("late").len(), 1, "not repeated");
    client.wait_output("deadline reached while its response was being posted");
}

#[test]
fn a_response_that_is_not_taken_is_not_made_again() {
    let (plane, server) = (ScriptedPlane::start(), McpServer::by_tool_name());
    plane.answer(|post: &Post| {
        Some(if post.id() == "lost" { http::reply(400, &[], "{}") } else { accepted() })
    });
    let client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.max-concurrent-requests", "1"],
    );
    plane.send(&[call("lost", "echo", ""), call("next", "echo", "")]);
    plane.wait_terminal("next");
    assert_eq!(plane.posts_of("lost").len(), 1);
    assert_eq!(server.seen().iter().filter(|request| request.text().contains("id-lost")).count(), 1);
    client.wait_output("response not delivered");
}

#[test]
fn the_connection_ttl_ends_what_hangs_with_an_answer_and_frees_the_worker() {
    let server = McpServer::scripted(|request: &Request, stream: &mut TcpStream| {
        let text = request.text();
        let ours = request.header("X-Hang").is_some();
        if !ours {
            return by_tool_name(request, stream);
        }
        if text.contains("\"opened\"") {
            let _ = stream.write_all(STREAM);
            event(stream, &format!("data: {}", progress(1)));
        }
        let _ = stream.read(&mut [0]);
        Next::Close
    });
    let plane = ScriptedPlane::start();
    let _client = Client::start(
        &plane.base_url(),
        &[
            "--mcp.server-url",
            &server.url(),
            "--mcp.max-concurrent-requests",
            "1",
            "--mcp.connection-max-ttl",
            "800ms",
        ],
    );
    let hang = r#","headers":{"X-Hang":["1"],"Mcp-Session-Id":["s"]}"#;
    plane.send(&[
        call("headers", "silent", hang),
        call("opened", "opened", hang),
        notification("note", "notifications/x", hang),
        command("session_termination", "end", hang),
        call("next", "echo", ""),
    ]);
    assert_eq!(plane.wait_terminal("next").code(), 200);
    for id in ["headers", "opened"] {
        let post = plane.wait_terminal(id);
        assert_eq!((post.code(), post.failure().as_str()), (504, "timeout/ttl"), "{id}");
        assert_eq!(post.json["resp_json"]["error"]["message"], "Gateway Timeout");
    }
    for (id, code, kind) in [("note", 504, "notify_ack"), ("end", 502, "session_termination_response")] {
        let post = plane.wait_terminal(id);
        assert_eq!((post.code(), post.kind()), (code, kind));
    }
    assert_eq!(plane.posts_of("opened").len(), 2);
}

fn stdio_client(plane: &ScriptedPlane, more: &[&str]) -> Client {
    let fixture = stdio_fixture().display().to_string();
    Client::start(&plane.base_url(), &[&["--mcp.command", &*fixture], more].concat())
}

#[test]
fn a_stdio_child_answers_without_headers_and_has_no_sessions_to_end() {
    let plane = ScriptedPlane::start();
    let client = stdio_client(&plane, &["--mcp.max-concurrent-requests", "1"]);
    let session = r#","headers":{"Mcp-Session-Id":["s"]}"#;
    plane.send(&[
        tool("a", "echo", ""),
        notification("note", "notifications/initialized", ""),
        command("session_termination", "end", session),
        tool("stream", "progress", ""),
        tool("dies", "exit", ""),
        tool("next", "echo", ""),
    ]);
    let post = plane.wait_terminal("a");
    assert_eq!(post.code(), 200);
    assert_eq!(post.json["resp_headers"], json!({ "Content-Type": ["application/json"] }));
    let post = plane.wait_terminal("note");
    assert_eq!((post.kind(), post.code()), ("notify_ack", 200));
    assert_eq!(post.members(), ["channel", "request_id", "resp_code", "resp_type"]);
    let post = plane.wait_terminal("end");
    assert_eq!((post.kind(), post.code()), ("session_termination_response", 405));
    assert_eq!(post.members(), ["channel", "request_id", "resp_code", "resp_type"]);
    plane.wait_terminal("stream");
    let posts = plane.posts_of("stream");
    assert_eq!(posts.len(), 4);
    for post in &posts[..3] {
        assert_eq!(post.json["resp_headers"], json!({ "Content-Type": ["text/event-stream"] }));
        assert_eq!(post.json["resp_json"]["params"]["progressToken"], "t-stream");
    }
    assert_eq!(posts[3].json["resp_headers"], json!({ "Content-Type": ["application/json"] }));
    let post = plane.wait_terminal("dies");
    assert_eq!((post.code(), post.failure().as_str()), (502, "transport_closed/eof"), "{}", client.output());
    assert_eq!(plane.wait_terminal("next").code(), 200, "{}", client.output());
}

#[test]
fn a_stdio_call_whose_deadline_passed_costs_neither_the_child_nor_the_next_call() {
    let plane = ScriptedPlane::start();
    let client = stdio_client(&plane, &["--mcp.max-concurrent-requests", "1"]);
    let with_id = |id: &str, name: &str, more: &str| {
        let payload = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{{"of":"{id}"}}}}}}"#
        );
        jsonrpc(id, &payload, more)
    };
    let timeout = r#","response_timeout":"1s""#;
    plane.send(&[
        with_id("before", "pid", ""),
        with_id("never", "stall", timeout),
        // Answers when nobody waits any more, under an id that the next calls use too.
        with_id("late", "slow-1300", timeout.replace("1s", "2s").as_str()),
        with_id("after", "pid", ""),
        with_id("slow", "slow-700", ""),
        with_id("last", "echo", ""),
    ]);
    plane.wait_terminal("last");
    let result = |id: &str| plane.wait_terminal(id).json["resp_json"]["result"].clone();
    assert!(result("before")["pid"].is_u64());
    assert_eq!(result("before"), result("after"), "the same child: {}", client.output());
    assert_eq!((result("slow")["of"].as_str(), result("last")["of"].as_str()), (Some("slow"), Some("last")));
    assert!(plane.posts_of("never").is_empty() && plane.posts_of("late").is_empty());
    assert!(plane.posts().iter().all(|post| post.json["resp_json"]["id"] == 1));
}

#[test]
fn a_batch_reaches_one_child_in_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let record = directory.path().join("record");
    let script = format!("tee -a {} | {}", record.display(), stdio_fixture().display());
    let plane = ScriptedPlane::start();
    let fixture = format!("sh -c '{script}'");
    let _client = Client::start(&plane.base_url(), &["--mcp.command", &fixture]);
    let ids: Vec<_> = (0..200).map(|n| format!("r{n:03}")).collect();
    plane.send(&[tool("first", "echo", "")]);
    plane.wait_terminal("first");
    plane.send(&ids.iter().map(|id| tool(id, "echo", "")).collect::<Vec<_>>());
    plane.wait_posts(ids.len() + 1);
    let text = std::fs::read_to_string(&record).unwrap();
    let seen: Vec<_> = text
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["params"]["arguments"]["of"]
                .as_str()
                .map(str::to_owned)
        })
        .filter(|id| id != "first")
        .collect();
    assert_eq!(seen, ids);
}

#[test]
fn a_stop_ends_the_poll_first_and_posts_what_still_finishes() {
    let (plane, gate) = (ScriptedPlane::start(), Gate::default());
    let server = gate.server();
    let mut client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.max-concurrent-requests", "1"],
    );
    plane.send(&[
        call("runs", "held", ""),
        call("waits", "held", ""),
        notification("note", "notifications/x", ""),
        command("session_termination", "end", r#","headers":{"Mcp-Session-Id":["s"]}"#),
        call("expired", "held", r#","response_timeout":"0s""#),
    ]);
    gate.wait_inside(1);
    plane.wait_polls(2);
    client.signal(rustix::process::Signal::TERM);
    let post = plane.wait_terminal("waits");
    assert_eq!((post.code(), post.failure().as_str()), (502, "client_internal/unknown"));
    for (id, kind) in [("note", "notify_ack"), ("end", "session_termination_response")] {
        let post = plane.wait_terminal(id);
        assert_eq!((post.code(), post.kind()), (502, kind));
    }
    let polls = plane.limits().len();
    gate.open();
    assert_eq!(plane.wait_terminal("runs").code(), 200);
    assert_eq!(client.wait().code(), Some(0), "{}", client.output());
    assert_eq!((plane.limits().len(), plane.posts().len()), (polls, 4));
    assert_eq!(gate.arrivals(), ["runs"]);
}

#[test]
fn calls_of_one_http_channel_run_beside_a_hung_one_until_the_pool_is_used_up() {
    let (plane, gate) = (ScriptedPlane::start(), Gate::default());
    let server = gate.server();
    let _client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.max-concurrent-requests", "2"],
    );
    plane.send(&[call("hung", "held", "")]);
    gate.wait_inside(1);
    let finished = AtomicBool::new(false);
    plane.send(&[call("a", "echo", ""), call("b", "echo", "")]);
    plane.wait_terminal("b");
    finished.store(plane.posts_of("hung").is_empty(), SeqCst);
    gate.open();
    plane.wait_terminal("hung");
    assert!(finished.into_inner());
    eventually("all are answered", || plane.posts().len() == 3);
}
