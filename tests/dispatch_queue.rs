//! Taking commands and giving them to workers: polls, queue, order, channels, refusals, start and size.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::gate::Gate;
use common::http::Request;
use common::mcp_server::{McpServer, by_tool_name};
use common::process::{Client, stdio_fixture};
use common::scripted_plane::{ScriptedPlane, call, command, jsonrpc, notification, tool};
use common::{PATIENCE, eventually, http};
use serde_json::{Value, json};

/// How long a test watches that something does not happen. Short: what it misses is no flake.
const WATCH: Duration = Duration::from_millis(250);

fn held(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| call(id, "held", "")).collect()
}

/// A client with room for so many commands in its queue and at its workers.
fn start(plane: &ScriptedPlane, server: &McpServer, inflight: u64, workers: u64) -> Client {
    let (url, inflight, workers) = (server.url(), inflight.to_string(), workers.to_string());
    let arguments = [
        "--mcp.server-url",
        &url,
        "--control-plane.max-inflight",
        &inflight,
        "--mcp.max-concurrent-requests",
        &workers,
    ];
    Client::start(&plane.base_url(), &arguments)
}

/// The value of the only series of a gauge.
fn metric(client: &Client, name: &str) -> Option<f64> {
    let text = http::get(&format!("{}/metrics", client.health_url())).unwrap().text();
    let value = |line: &str| line.strip_prefix(name)?.rsplit(' ').next()?.parse().ok();
    text.lines().find_map(value)
}

#[test]
fn no_poll_asks_for_more_than_25() {
    let (plane, server) = (ScriptedPlane::start(), McpServer::by_tool_name());
    let _client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--control-plane.max-inflight", "30"],
    );
    plane.wait_polls(1);
    plane.send(&[call("a", "echo", "")]);
    plane.wait_terminal("a");
    plane.wait_polls(2);
    assert!(plane.limits().iter().all(|limit| *limit == 25), "{:?}", plane.limits());
}

#[test]
fn polling_pauses_while_the_queue_is_full() {
    let (plane, gate) = (ScriptedPlane::start(), Gate::default());
    let server = gate.server();
    let client = start(&plane, &server, 2, 1);
    let ids = ["a", "b", "c", "d", "e", "f"];
    for id in ids {
        plane.send(&held(&[id]));
    }
    gate.wait_inside(1);
    // Every poll brings one command: one runs, two wait, nothing else is taken.
    plane.wait_polls(3);
    eventually("the queue is full", || metric(&client, "commands_queue_length") == Some(2.0));
    let before = plane.limits().len();
    std::thread::sleep(WATCH);
    assert_eq!(plane.limits().len(), before, "no poll while the queue is full");
    assert!(before <= 4, "{before} commands were taken");
    assert!(plane.limits().iter().all(|limit| (1..=2).contains(limit)), "{:?}", plane.limits());
    gate.open();
    plane.wait_posts(ids.len());
    assert_eq!(gate.arrivals(), ids);
}

#[test]
fn commands_beyond_the_limit_are_all_executed_in_order() {
    let (plane, gate) = (ScriptedPlane::start(), Gate::default());
    gate.open();
    let server = gate.server();
    let client = start(&plane, &server, 1, 1);
    let ids = ["a", "b", "c", "d"];
    plane.send(&held(&ids));
    plane.wait_posts(ids.len());
    assert_eq!(plane.limits()[0], 1);
    assert_eq!(gate.arrivals(), ids);
    client.wait_output("more commands than asked for");
}

#[test]
fn no_more_calls_run_at_once_than_configured() {
    let (plane, gate) = (ScriptedPlane::start(), Gate::default());
    let server = gate.server();
    let _client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.max-concurrent-requests", "3"],
    );
    plane.send(&held(&["a", "b", "c", "d", "e"]));
    gate.wait_inside(3);
    std::thread::sleep(WATCH);
    gate.open();
    plane.wait_posts(5);
    assert_eq!(gate.most(), 3);
}

#[test]
fn a_fast_call_overtakes_a_slow_one_each_with_its_own_identity() {
    let (plane, gate) = (ScriptedPlane::start(), Gate::default());
    let server = gate.server();
    let _client = Client::start(&plane.base_url(), &["--mcp.server-url", &server.url()]);
    plane.send(&[call("slow", "held", ""), call("fast", "echo", "")]);
    plane.wait_terminal("fast");
    gate.open();
    plane.wait_terminal("slow");
    let posts = plane.posts();
    assert_eq!(posts.iter().map(|post| post.id()).collect::<Vec<_>>(), ["fast", "slow"]);
    for post in &posts {
        assert_eq!(post.request.header("X-Tunnel-Shard-Token"), Some(&*format!("shard-{}", post.id())));
        assert_eq!(post.json["resp_json"]["id"], format!("id-{}", post.id()));
    }
}

#[test]
fn two_clients_share_a_tunnel_and_a_blocked_one_leaves_the_work_to_the_other() {
    let plane = ScriptedPlane::start();
    let fixture = stdio_fixture().display().to_string();
    let small = ["--control-plane.max-inflight", "1", "--mcp.max-concurrent-requests", "1"];
    let blocked = Client::start(&plane.base_url(), &[&["--mcp.command", &*fixture], &small[..]].concat());
    plane.wait_polls(1);
    plane.send(&[tool("b1", "slow-1500", ""), tool("b2", "echo", "")]);
    eventually("the first client is full", || metric(&blocked, "commands_queue_length") == Some(1.0));
    let before = plane.limits().len();
    let _free = Client::start(&plane.base_url(), &["--mcp.command", &fixture]);
    plane.wait_polls(before + 1);
    let ids = ["1", "2", "3", "4", "5", "6"];
    for id in ids {
        plane.send(&[tool(id, "echo", "")]);
    }
    for id in ids.iter().chain(&["b1", "b2"]) {
        assert_eq!(plane.wait_terminal(id).json["resp_json"]["result"]["of"], *id);
    }
    assert_eq!(plane.posts().len(), 8, "each is answered once");
}

#[test]
fn commands_for_a_channel_that_nothing_serves_are_refused_and_never_reach_main() {
    let (plane, server) = (ScriptedPlane::start(), McpServer::by_tool_name());
    let disabled = format!("channel=disabled,url={}", server.url());
    let client = Client::start(
        &plane.base_url(),
        &[
            "--mcp.server-url",
            &server.url(),
            "--mcp.server-url",
            &disabled,
            "--control-plane.poll-channel",
            "main",
        ],
    );
    client.wait_ready();
    let channel = r#","channel":"unknown""#;
    plane.send(&[
        call("call", "tools/list", channel),
        notification("note", "notifications/x", channel),
        command("session_termination", "end", &format!(r#"{channel},"headers":{{"Mcp-Session-Id":["s"]}}"#)),
        command("oauth_discovery", "oauth", channel),
        call("off", "tools/list", r#","channel":"disabled""#),
        call("harpoon", "tools/list", r#","channel":" HARPOON ""#),
        call("invalid", "tools/list", r#","channel":"bad channel""#),
        call("late", "tools/list", &format!(r#"{channel},"response_timeout":"0s""#)),
    ]);
    let message = |name: &str| format!("Bad Request: unsupported channel \"{name}\"");
    for (id, name) in [("call", "unknown"), ("off", "disabled"), ("harpoon", "harpoon")] {
        let post = plane.wait_terminal(id);
        let expected = json!({ "jsonrpc": "2.0", "id": format!("id-{id}"), "error": { "code": -32603, "message": message(name) } });
        assert_eq!((post.code(), post.kind()), (400, "jsonrpc_response"));
        assert_eq!((&post.json["resp_json"], &post.json["channel"]), (&expected, &json!(name)));
        assert_eq!(post.json.get("resp_headers"), None);
    }
    for (id, kind) in [("note", "notify_ack"), ("end", "session_termination_response")] {
        let post = plane.wait_terminal(id);
        assert_eq!((post.code(), post.kind()), (400, kind));
        assert_eq!(post.members(), ["channel", "request_id", "resp_code", "resp_type"]);
    }
    let post = plane.wait_terminal("oauth");
    let expected = json!({ "error": { "message": "unsupported channel \"unknown\"", "type": "invalid_request_error", "code": "unsupported_channel" } });
    assert_eq!(
        (post.code(), post.kind(), &post.json["resp_json"]),
        (400, "oauth_discovery_response", &expected)
    );
    let invalid = plane.wait_terminal("invalid");
    assert_eq!((invalid.code(), &invalid.json["resp_json"]["id"]), (400, &json!("id-invalid")));
    assert_eq!(server.seen_of_commands().len(), 0, "main was not contacted");
    assert_eq!(plane.posts().len(), 7, "the expired one is silent");
    let text = http::get(&format!("{}/metrics", client.health_url())).unwrap().text();
    let counted = |kind: &str| {
        text.lines().any(|line| {
            line.starts_with("command_unsupported_channel_total{")
                && line.contains(r#"channel="unknown""#)
                && line.contains(&format!(r#"command_type="{kind}""#))
                && line.ends_with(if kind == "jsonrpc" { " 2" } else { " 1" })
        })
    };
    assert!(["jsonrpc", "session_termination", "oauth_discovery"].into_iter().all(counted), "{text}");
    assert!(
        !text.contains("command_end_to_end_latency_milliseconds_bucket"),
        "no latency of refusals: {text}"
    );
}

#[test]
fn a_channel_name_is_trimmed_and_folded_and_its_absence_means_main() {
    let (plane, server) = (ScriptedPlane::start(), McpServer::by_tool_name());
    let _client = Client::start(&plane.base_url(), &["--mcp.server-url", &server.url()]);
    let spelled = [("absent", ""), ("null", "null"), ("blank", r#""  ""#), ("folded", r#"" MAIN ""#)];
    let member = |name: &str| if name.is_empty() { String::new() } else { format!(r#","channel":{name}"#) };
    plane.send(&spelled.map(|(id, name)| call(id, "echo", &member(name))));
    for (id, _) in spelled {
        let post = plane.wait_terminal(id);
        assert_eq!((post.code(), &post.json["channel"]), (200, &json!("main")), "{id}");
    }
}

#[test]
fn what_cannot_be_executed_is_refused_once_and_the_rest_of_its_batch_proceeds() {
    let (plane, server) = (ScriptedPlane::start(), McpServer::by_tool_name());
    let client = Client::start(&plane.base_url(), &["--mcp.server-url", &server.url()]);
    client.wait_ready();
    plane.send(&[
        jsonrpc("response", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, ""),
        call("new", "tools/list", "").replace(r#""command_type":"jsonrpc""#, r#""command_type":"brand_new""#),
        r#"{"command_type":"jsonrpc","request_id":"no-token","jsonrpc":{}}"#.into(),
        "5".into(),
        jsonrpc("batch", "[]", ""),
        call("good", "echo", r#","future":{"a":[1]},"created_at":"yesterday""#),
    ]);
    assert_eq!(plane.wait_terminal("good").code(), 200);
    for (id, code) in [("response", 400), ("new", 501), ("batch", 400)] {
        let post = plane.wait_terminal(id);
        assert_eq!((post.code(), post.kind()), (code, "jsonrpc_response"), "{id}");
        assert!(post.json["resp_json"]["error"]["code"].is_i64());
    }
    assert_eq!(plane.posts().len(), 4);
    assert_eq!(server.seen_of_commands().len(), 1, "only the good one reached the server");
    client.wait_output("brand_new");
}

#[test]
fn a_discovery_that_cannot_be_made_is_answered() {
    let server = McpServer::by_tool_name();
    let fixture = stdio_fixture().display().to_string();
    for (target, code) in [(["--mcp.server-url", &*server.url()], 404), (["--mcp.command", &fixture], 404)] {
        let plane = ScriptedPlane::start();
        let _client = Client::start(&plane.base_url(), &target);
        plane.send(&[command("oauth_discovery", "oauth", "")]);
        let post = plane.wait_terminal("oauth");
        assert_eq!((post.code(), post.kind()), (code, "oauth_discovery_response"));
        let error = &post.json["resp_json"]["error"];
        assert!(["message", "type", "code"].iter().all(|name| error[name].is_string()), "{error}");
    }
}

#[test]
fn the_first_poll_waits_for_a_server_that_is_not_up_yet() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let plane = ScriptedPlane::start();
    plane.send(&[call("a", "echo", "")]);
    let url = format!("http://{address}/mcp");
    let client =
        Client::start(&plane.base_url(), &["--mcp.server-url", &url, "--mcp.startup-wait-timeout", "20s"]);
    client.wait_output("waiting for MCP startup probe");
    std::thread::sleep(WATCH);
    assert_eq!(plane.limits(), Vec::<usize>::new(), "{}", client.output());
    let _server = McpServer::on(TcpListener::bind(address).unwrap(), by_tool_name);
    assert_eq!(plane.wait_terminal("a").code(), 200);
    client.wait_ready();
}

#[test]
fn polling_starts_when_the_wait_for_the_server_ends_and_readiness_tells_why() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", reserved.local_addr().unwrap());
    drop(reserved);
    let plane = ScriptedPlane::start();
    plane.send(&[call("a", "echo", "")]);
    let client =
        Client::start(&plane.base_url(), &["--mcp.server-url", &url, "--mcp.startup-wait-timeout", "300ms"]);
    let post = plane.wait_terminal("a");
    assert_eq!((post.code(), post.failure().as_str()), (502, "connect/connection_refused"));
    assert_ne!(client.readyz().0, 200);
    client.wait_output("MCP startup probe completed with failure");
}

#[test]
fn a_client_that_stops_while_it_waits_for_its_server_never_polls() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", reserved.local_addr().unwrap());
    drop(reserved);
    let plane = ScriptedPlane::start();
    let mut client =
        Client::start(&plane.base_url(), &["--mcp.server-url", &url, "--mcp.startup-wait-timeout", "60s"]);
    client.wait_output("waiting for MCP startup probe");
    assert_eq!(client.terminate().code(), Some(0), "{}", client.output());
    assert_eq!(plane.limits(), Vec::<usize>::new());
}

#[test]
fn a_session_s_commands_do_not_overtake_the_notification_that_opens_it() {
    let seen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
    let record = Arc::clone(&seen);
    let server = McpServer::scripted(move |request: &Request, stream: &mut TcpStream| {
        let text = request.text();
        let (seen, changed) = &*record;
        let note = |what: &'static str| {
            seen.lock().unwrap().push(what);
            changed.notify_all();
        };
        if text.contains("notifications/initialized") && request.header("mcp-session-id") == Some("s") {
            // The other session's call comes meanwhile, or just before.
            let alone = |seen: &mut Vec<&str>| !seen.contains(&"other");
            drop(changed.wait_timeout_while(seen.lock().unwrap(), PATIENCE, alone).unwrap());
            note("opened");
        } else if text.contains("\"id-mine\"") {
            note("mine");
        } else if text.contains("\"id-other\"") {
            note("other");
        }
        by_tool_name(request, stream)
    });
    let plane = ScriptedPlane::start();
    let _client = Client::start(&plane.base_url(), &["--mcp.server-url", &server.url()]);
    let session = |id: &str| format!(r#","headers":{{"Mcp-Session-Id":["{id}"]}}"#);
    plane.send(&[
        notification("opening", "notifications/initialized", &session("s")),
        tool("mine", "echo", &session("s")),
        tool("other", "echo", &session("t")),
    ]);
    for id in ["opening", "mine", "other"] {
        assert!(plane.wait_terminal(id).code() < 300, "{id}");
    }
    assert_eq!(*seen.0.lock().unwrap(), ["other", "opened", "mine"]);
}

#[test]
fn large_limits_cost_nothing_until_they_are_used() {
    let (plane, gate) = (ScriptedPlane::start(), Gate::default());
    let server = gate.server();
    let client = start(&plane, &server, 10000, 9000000000000000000);
    let ids: Vec<_> = (0..40).map(|n| format!("r{n}")).collect();
    plane.send(&ids.iter().map(|id| call(id, "held", "")).collect::<Vec<_>>());
    gate.wait_inside(40);
    let status = std::fs::read_to_string(format!("/proc/{}/status", client.pid())).unwrap();
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
    assert!(threads.trim().parse::<usize>().unwrap() < 80, "{threads} threads for 40 calls");
    gate.open();
    plane.wait_posts(40);
    assert_eq!(metric(&client, "dispatcher_worker_pool_capacity"), Some(9e18));
}

#[test]
fn one_worker_answers_a_thousand_queued_commands_in_their_order() {
    let (plane, server) = (ScriptedPlane::start(), McpServer::by_tool_name());
    let _client = start(&plane, &server, 10000, 1);
    let ids: Vec<_> = (0..1000).map(|n| format!("r{n}")).collect();
    plane.send(&ids.iter().map(|id| call(id, "echo", "")).collect::<Vec<_>>());
    let posts = plane.wait_posts(1000);
    assert!(posts.iter().map(|post| post.id()).eq(ids.iter().map(String::as_str)), "out of order");
    assert!(posts.iter().all(|post| post.code() == 200 && post.json["resp_json"]["result"] == Value::Null));
}
