use std::io::{BufReader, Read, Write};

use crate::common::control_plane::{ControlPlane, batch, error, json, message};
use crate::common::http;
use crate::common::mcp_server::{McpServer, Next};
use crate::common::process::{Client, stdio_fixture};
use crate::common::{API_KEY, address, eventually};
use crate::{get, unpack};

/// One marked secret for each door through which secrets come in.
const MARKS: &[(&str, &str)] = &[
    ("the API key", API_KEY),
    ("a header of the control plane's requests", "mark-control-plane-header"),
    ("a header of the MCP server's requests", "mark-mcp-header"),
    ("a header read from a file", "mark-from-a-file"),
    ("the proxy's password", "mark-proxy-password"),
    ("the MCP server's password", "mark-server-password"),
    ("the MCP server's query", "mark-server-query"),
    ("the environment", "mark-child-environment"),
    ("a child's command line", "mark-child-argument"),
    ("a caller's bearer token", "mark-bearer-4711"),
    ("a caller's cookie", "mark-cookie"),
    ("the shard token", "mark-shard-token"),
    ("a password in a message", "mark-message-password"),
    ("a token in JSON within a message", "mark-nested-token"),
    ("a key in a message", "sk-mark-0123456789abcdef"),
    ("a link in a message", "mark-link-code"),
    ("an answer's token", "mark-answer-token"),
    ("an answer's cookie", "mark-set-cookie"),
    ("the metadata's token", "mark-registration-token"),
    ("a target's query", "mark-target-query"),
    ("a token for a target", "mark-target-bearer-12"),
    ("a key for a target", "mark-target-key"),
    ("a password for a target", "mark-target-password"),
    ("a target's answer", "mark-target-answer"),
    ("an error body of the control plane", "mark-refused-token"),
];

fn mark(door: &str) -> &'static str {
    MARKS.iter().find(|(name, _)| *name == door).expect("a door").1
}

/// Answers each call with a token and a cookie of its own.
fn answering() -> McpServer {
    McpServer::scripted(|request, stream| {
        let json = ("Content-Type", "application/json");
        if request.path.contains(".well-known") {
            let token = mark("the metadata's token");
            let body = format!(
                r#"{{"resource":"r","authorization_servers":[],"registration_access_token":"{token}"}}"#
            );
            let _ = stream.write_all(&http::reply(200, &[json], &body));
            return Next::KeepAlive;
        }
        if request.path.starts_with("/hook") {
            let body = format!(r#"{{"refresh_token":"{}"}}"#, mark("a target's answer"));
            let _ = stream.write_all(&http::reply(200, &[json], &body));
            return Next::KeepAlive;
        }
        let message: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let Some(id) = message.get("id").filter(|id| !id.is_null()) else {
            let _ = stream.write_all(&http::reply(404, &[], ""));
            return Next::KeepAlive;
        };
        let token = mark("an answer's token");
        let result = format!(
            r#"{{"protocolVersion":"2025-06-18","capabilities":{{}},"serverInfo":{{"name":"s","version":"1"}},"access_token":"{token}"}}"#
        );
        let cookie = format!("session={}; Path=/", mark("an answer's cookie"));
        let headers = [json, ("Set-Cookie", cookie.as_str())];
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        let _ = stream.write_all(&http::reply(200, &headers, &body));
        Next::KeepAlive
    })
}

/// A command for `channel` that carries every secret a caller may send.
fn command(id: &str, channel: &str) -> String {
    let nested =
        serde_json::json!({"refresh_token": mark("a token in JSON within a message"), "x": 1}).to_string();
    let arguments = serde_json::json!({
        "note": "visible",
        "password": mark("a password in a message"),
        "body": nested,
        "text": format!("key {} at http://h/cb?code={}", mark("a key in a message"), mark("a link in a message")),
    });
    serde_json::json!({
        "request_id": id,
        "shard_token": mark("the shard token"),
        "command_type": "jsonrpc",
        "channel": channel,
        "headers": {
            "Authorization": [format!("Bearer {}", mark("a caller's bearer token"))],
            "Cookie": [format!("session={}", mark("a caller's cookie"))],
        },
        "jsonrpc": {
            "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": {"name": "echo", "arguments": arguments},
        },
    })
    .to_string()
}

/// A command that has a target called, with what a caller may hand to it.
fn target_call(id: &str) -> String {
    let body = serde_json::json!({"password": mark("a password for a target")}).to_string();
    let arguments = serde_json::json!({
        "label": "hook",
        "method": "POST",
        "headers": {
            "Authorization": format!("Bearer {}", mark("a token for a target")),
            "X-Api-Key": mark("a key for a target"),
        },
        "body": body,
    });
    serde_json::json!({
        "request_id": id,
        "shard_token": mark("the shard token"),
        "command_type": "jsonrpc",
        "channel": "harpoon",
        "jsonrpc": {
            "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": {"name": "call_target", "arguments": arguments},
        },
    })
    .to_string()
}

/// What the event stream says from `seq` on until it has been silent for a moment.
fn stream(client: &Client) -> String {
    let address = address(client.health_url());
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let request = format!("GET /api/logs/stream HTTP/1.1\r\nHost: {address}\r\nLast-Event-ID: 0\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut text = Vec::new();
    let _ = BufReader::new(connection).read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn no_secret_that_comes_in_through_any_door_is_shown_anywhere() {
    let (control_plane, server) = (ControlPlane::start(), answering());
    control_plane.allow_header("x-marked");
    control_plane.on_metadata(|_| {
        error(
            403,
            &format!(
                r#"{{"error":{{"message":"refused","access_token":"{}"}}}}"#,
                mark("an error body of the control plane")
            ),
        )
    });
    let first = std::sync::atomic::AtomicBool::new(true);
    control_plane.on_response(move |_| {
        let refused = first.swap(false, std::sync::atomic::Ordering::Relaxed);
        let body = format!(
            r#"{{"error":{{"message":"try again","id_token":"{}"}}}}"#,
            mark("an error body of the control plane")
        );
        if refused { error(503, &body) } else { json(r#"{"status":"ok"}"#) }
    });
    let directory = tempfile::tempdir().unwrap();
    let secret_file = directory.path().join("secret");
    std::fs::write(&secret_file, mark("a header read from a file")).unwrap();

    let proxy = format!("http://proxy-user:{}@{}", mark("the proxy's password"), control_plane.address());
    let url = format!(
        "http://server-user:{}@{}?sig={}",
        mark("the MCP server's password"),
        server.url().strip_prefix("http://").unwrap(),
        mark("the MCP server's query")
    );
    let tools = format!(
        "channel=tools,command={} --token {}",
        stdio_fixture().display(),
        mark("a child's command line")
    );
    let target = format!(
        "label=hook,url=http://{}/hook?key={}",
        address(&server.url()).trim_end_matches("/mcp"),
        mark("a target's query")
    );
    let control_plane_headers = format!("X-Marked: {}", mark("a header of the control plane's requests"));
    let mcp_header = format!("X-Marked: {}", mark("a header of the MCP server's requests"));
    let from_file = format!("X-From-File: file:{}", secret_file.display());
    let client = Client::start_with(
        &control_plane.base_url(),
        &[
            "--control-plane.http-proxy",
            &proxy,
            "--control-plane.extra-headers",
            &control_plane_headers,
            "--mcp.server-url",
            &url,
            "--mcp.command",
            &tools,
            "--mcp.extra-headers",
            &mcp_header,
            "--mcp.extra-headers",
            &from_file,
            "--harpoon.target",
            &target,
            "--harpoon.allow-plaintext-http",
            "--harpoon.capture-payloads",
            "--log.format=json",
            "--log.level=debug",
            "--log.http-raw-unsafe",
            "--admin-ui.log-buffer-events=20000",
        ],
        &[("TOOL_PASSWORD", mark("the environment")), ("MCP_TOOL_TOKEN", mark("the environment"))],
    );
    client.wait_ready();
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    for (id, json) in [("c-hello", hello), ("c-ready", ready)] {
        control_plane.send(&[message(id, json, r#","channel":"harpoon""#)]);
        control_plane.wait_answers(&[id]);
    }
    control_plane.poll(batch(&[
        command("c-main", "main"),
        command("c-tools", "tools"),
        target_call("c-hook"),
    ]));
    control_plane.wait_answers(&["c-main", "c-tools", "c-hook"]);
    // Nothing would be proved if the messages had not been logged, or the secrets had not been used.
    for dumped in ["raw http request", "raw http response", "tools/call", "visible"] {
        eventually(&format!("{dumped} is in the log"), || {
            get(&client, "/api/logs?limit=5000").text().contains(dumped)
        });
    }
    let seen = control_plane.seen();
    assert!(
        seen.iter()
            .all(|seen| seen.header("X-Marked").is_some() && seen.header("Proxy-Authorization").is_some())
    );
    let asked = server.seen();
    let called = asked.iter().find(|request| request.text().contains("tools/call")).expect("a call");
    assert!(called.path.contains("mark-server-query"), "{}", called.path);
    assert_eq!(called.header("X-From-File"), Some("mark-from-a-file"));
    let hook = asked.iter().find(|request| request.path.starts_with("/hook")).expect("a call of the target");
    assert!(hook.path.contains("mark-target-query") && hook.text().contains("mark-target-password"));
    let calls = get(&client, "/api/harpoon/calls").json();
    assert_eq!((&calls["calls"][0]["label"], &calls["calls"][0]["status"]), (&"hook".into(), &200.into()));
    assert!(get(&client, "/api/oauth").text().contains("registration_access_token"));

    let mut shown: Vec<(String, String)> = vec![
        ("standard output and error".into(), client.output()),
        ("the event stream".into(), stream(&client)),
    ];
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/ui",
        "/api/status",
        "/api/system",
        "/api/oauth",
        "/api/logs?limit=5000",
        "/api/log-level",
        "/api/harpoon/status",
        "/api/harpoon/targets",
        "/api/harpoon/calls",
    ] {
        let reply = get(&client, path);
        assert_eq!(reply.status, 200, "{path}");
        shown.push((path.into(), reply.text()));
    }
    shown.extend(unpack(&get(&client, "/api/logs/export?minutes=1440").body));
    let leaks: Vec<String> = shown
        .iter()
        .flat_map(|(place, text)| {
            let held = MARKS.iter().filter(move |(_, mark)| text.contains(mark));
            held.map(move |(door, mark)| {
                let at = text.find(mark).unwrap_or(0);
                let around: String =
                    text[..at].chars().rev().take(160).collect::<Vec<_>>().into_iter().rev().collect();
                format!("{place} holds {door}: …{around}«{mark}»")
            })
        })
        .collect();
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    assert!(shown.iter().any(|(place, text)| place == "the event stream" && text.contains("event: log")));
}
