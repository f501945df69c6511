//! What operators see of commands: metrics and log lines.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use common::gate::Gate;
use common::http;
use common::mcp_server::McpServer;
use common::process::Client;
use common::scripted_plane::{Post, ScriptedPlane, accepted, call, command, notification, tool};
use common::{API_KEY, TUNNEL_ID, eventually};
use serde_json::{Value, json};

const LATENCY: &str = "command_end_to_end_latency_milliseconds";

fn metrics(client: &Client) -> String {
    http::get(&format!("{}/metrics", client.health_url())).unwrap().text()
}

fn series<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")))
        .collect()
}

/// Value of the only series of a gauge.
fn gauge(client: &Client, name: &str) -> Option<f64> {
    let text = metrics(client);
    series(&text, name).first()?.rsplit(' ').next()?.parse().ok()
}

/// Log lines that are JSON objects and hold `request_id`.
fn lines_of(client: &Client, request_id: &str) -> Vec<Value> {
    let output = client.output();
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["request_id"] == request_id).collect()
}

fn line(client: &Client, request_id: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut found = None;
    eventually(&format!("a line about {request_id}"), || {
        found = lines_of(client, request_id).into_iter().find(&holds);
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn a_delivered_answer_is_two_observations_and_a_lost_one_none() {
    let (plane, server) = (ScriptedPlane::start(), McpServer::by_tool_name());
    plane.answer(|post: &Post| {
        Some(match post.id() {
            "lost" => http::reply(400, &[], "{}"),
            "gone" => http::reply(404, &[], "{}"),
            _ => accepted(),
        })
    });
    let client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.max-concurrent-requests", "1"],
    );
    let created = r#","created_at":"2020-01-01T00:00:00Z""#;
    plane.send(&[
        tool("a", "echo", created),
        tool("gone", "status-503", created),
        tool("lost", "status-500", created),
        tool("silent", "echo", r#","response_timeout":"0s""#),
        notification("note", "notifications/x", ""),
        command(
            "session_termination",
            "end",
            r#","created_at":"2999-01-01T00:00:00Z","headers":{"Mcp-Session-Id":["s"]}"#,
        ),
        call("last", "last/one", ""),
    ]);
    plane.wait_terminal("last");
    eventually("the last one is counted", || metrics(&client).contains(r#"request_method="last/one""#));
    let text = metrics(&client);
    let counts = series(&text, &format!("{LATENCY}_count"));
    let has = |labels: &[(&str, &str)]| {
        counts
            .iter()
            .filter(|line| labels.iter().all(|(name, value)| line.contains(&format!(r#"{name}="{value}""#))))
            .inspect(|line| {
                assert!(
                    line.ends_with(" 1") && line.contains(TUNNEL_ID) && line.contains(r#"channel="main""#),
                    "{line}"
                )
            })
            .count()
    };
    for (kind, method, status, observations) in [
        ("call", "tools/call", "200", 2),
        ("call", "tools/call", "503", 2),
        ("call", "tools/call", "500", 0),
        ("notification", "notifications/x", "202", 1),
        ("call", "last/one", "200", 1),
    ] {
        let labels = [("request_kind", kind), ("request_method", method), ("tunnel_service_status", status)];
        assert_eq!(has(&labels), observations, "{kind} {method} {status}: {counts:#?}");
    }
    assert_eq!(has(&[("request_kind", "session_termination"), ("tunnel_service_status", "204")]), 1);
    assert_eq!(has(&[("latency_type", "enqueue_to_response")]), 2);
    assert_eq!(counts.len(), 7, "{counts:#?}");
}

#[test]
fn the_pool_shows_its_capacity_and_who_is_busy() {
    let (plane, gate) = (ScriptedPlane::start(), Gate::default());
    let server = gate.server();
    let client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.max-concurrent-requests", "2"],
    );
    assert_eq!(gauge(&client, "dispatcher_worker_pool_occupancy"), Some(0.0));
    plane.send(&[call("a", "held", "")]);
    gate.wait_inside(1);
    assert_eq!(gauge(&client, "dispatcher_worker_pool_capacity"), Some(2.0));
    assert_eq!(gauge(&client, "dispatcher_worker_pool_occupancy"), Some(1.0));
    gate.open();
    eventually("nobody is busy", || gauge(&client, "dispatcher_worker_pool_occupancy") == Some(0.0));
}

#[test]
fn the_labels_that_a_caller_chooses_are_bounded() {
    let (plane, server) = (ScriptedPlane::start(), McpServer::by_tool_name());
    let client = Client::start(&plane.base_url(), &["--mcp.server-url", &server.url()]);
    let commands: Vec<_> = (0..300)
        .map(|n| call(&format!("r{n}"), &format!("method-{n}"), &format!(r#","channel":"c{n}""#)))
        .chain((300..600).map(|n| call(&format!("r{n}"), &format!("method-{n}"), "")))
        .collect();
    plane.send(&commands);
    plane.wait_posts(600);
    eventually("the rest is counted together", || metrics(&client).contains(r#"request_method="_other""#));
    let text = metrics(&client);
    assert!(series(&text, "command_unsupported_channel_total").len() <= 256);
    assert!(series(&text, &format!("{LATENCY}_count")).len() <= 256);
}

#[test]
fn every_line_about_a_command_carries_its_identifiers_and_none_its_content() {
    let (plane, server) = (ScriptedPlane::start(), McpServer::by_tool_name());
    let client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--log.level", "debug", "--log.format", "json"],
    );
    let headers = r#","headers":{"X-Request-Id":["connector-1"],"Mcp-Session-Id":["session-9"],"Authorization":["Bearer private"]}"#;
    let numbered = |id: &str, tool: &str| {
        let payload = format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"a":"private"}}}}}}"#
        );
        common::scripted_plane::jsonrpc(id, &payload, headers)
    };
    plane.send(&[
        numbered("fine", "echo"),
        numbered("streamed", "progress"),
        numbered("failed", "status-503"),
        numbered("broken", "close"),
        tool("text-id", "echo", ""),
        call("opened", "initialize", ""),
        common::scripted_plane::jsonrpc("digits", r#"{"jsonrpc":"2.0","id":"7","method":"m"}"#, ""),
        notification("note", "notifications/x", headers),
        command("session_termination", "end", headers),
        call("lost-channel", "m", &format!(r#","channel":"nowhere"{headers}"#)),
        tool("expired", "echo", r#","response_timeout":"0s""#),
    ]);
    plane.wait_posts(13);
    let dispatcher = |line: &Value| line["component"] == "dispatcher";
    let fields = |line: &Value, names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| line[*name].clone()).collect()
    };
    let ids = ["cmd_request_id", "rpc_request_id", "session_id", "channel"];

    let fine = line(&client, "fine", |line| dispatcher(line) && line["finalResponse"] == true);
    assert_eq!(fields(&fine, &ids), [json!("connector-1"), json!(7), json!("session-9"), json!("main")]);
    assert_eq!(
        fields(&fine, &["level", "rpc_method", "status_code"]),
        [json!("DEBUG"), json!("tools/call"), json!(200)]
    );
    assert!(fine["client_instance_id"].is_string() && fine["tunnel_id"] == TUNNEL_ID);
    let posted = line(&client, "fine", |line| line["tunnel_request_id"] == "cp-1");
    assert_eq!(fields(&posted, &["finalResponse", "level"]), [json!(true), json!("DEBUG")]);
    let summary = line(&client, "fine", |line| line["message_kind"] == "response");
    assert_eq!(fields(&summary, &["has_error", "rpc_response_id"]), [json!(false), json!(7)]);

    let event = line(&client, "streamed", |line| line["message_kind"] == "notification");
    assert_eq!(fields(&event, &["level", "method"]), [json!("DEBUG"), json!("notifications/progress")]);

    let failed = line(&client, "failed", |line| line["failure_source"].is_string());
    let names = [
        "level",
        "failure_source",
        "transport_error_kind",
        "upstream_response_received",
        "upstream_status",
        "status_code",
        "rpc_method",
        "response_content_type",
        "tunnel_client_version",
    ];
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        fields(&failed, &names),
        [
            json!("WARN"),
            json!("target_http"),
            json!("malformed_json"),
            json!(true),
            json!(503),
            json!(503),
            json!("tools/call"),
            json!("text/plain"),
            json!(version)
        ]
    );
    assert_eq!(fields(&failed, &ids), fields(&fine, &ids));
    let broken = line(&client, "broken", |line| line["failure_source"] == "transport_closed");
    assert_eq!(
        fields(&broken, &["upstream_response_received", "upstream_status"]),
        [json!(false), Value::Null]
    );

    let text = line(&client, "text-id", |line| dispatcher(line) && line["finalResponse"] == true);
    assert_eq!(fields(&text, &ids), [Value::Null, json!("id-text-id"), Value::Null, json!("main")]);
    assert!(text.get("cmd_request_id").is_none() && text.get("session_id").is_none(), "absent, not empty");
    let opened = line(&client, "opened", |line| line["message_kind"] == "response");
    assert_eq!(opened["session_id"], "session-1", "the session that the server opened");
    for component in ["dispatcher", "controlplane"] {
        let of = |line: &Value| line["component"] == component && line["finalResponse"] == true;
        assert_eq!(line(&client, "opened", of)["session_id"], "session-1", "{component}");
        assert_eq!(line(&client, "digits", of)["rpc_request_id"], "7", "{component}: text stays text");
    }

    for (id, level) in [("note", "INFO"), ("end", "INFO"), ("lost-channel", "ERROR"), ("expired", "INFO")] {
        let line = line(&client, id, |line| dispatcher(line) && line["level"] != "DEBUG");
        assert_eq!(line["level"], level, "{line}");
    }
    assert!(!lines_of(&client, "expired").iter().any(|line| line["finalResponse"] == true));
    let output = client.output();
    for secret in ["private", "shard-", API_KEY] {
        assert!(!output.contains(secret), "{secret} in {output}");
    }
    let mut about_commands = output.lines().filter(|line| line.contains("\"request_id\""));
    assert!(about_commands.all(|line| !line.contains("/mcp")), "{output}");
}

#[test]
fn a_forced_content_type_is_told_with_what_it_replaces() {
    let server = McpServer::scripted(|request, stream| {
        let tool = request.text();
        if !tool.contains("charset") {
            return common::mcp_server::by_tool_name(request, stream);
        }
        let json = request.json();
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32001,"message":"private"}}}}"#,
            json["id"]
        );
        let kind = [("Content-Type", "application/json; charset=utf-8")];
        let _ = std::io::Write::write_all(stream, &http::reply(200, &kind, &body));
        common::mcp_server::Next::KeepAlive
    });
    let plane = ScriptedPlane::start();
    let client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--log.level", "debug", "--log.format", "json"],
    );
    plane.send(&[tool("a", "charset", "")]);
    plane.wait_terminal("a");
    let forced = line(&client, "a", |line| line["original_kind"].is_string());
    assert_eq!((&forced["original_kind"], &forced["new"]), (&json!("non_sse"), &json!("application/json")));
    let summary = line(&client, "a", |line| line["has_error"] == true);
    assert_eq!(summary["rpc_error_code"], -32001);
    assert!(!client.output().contains("private"));
}
