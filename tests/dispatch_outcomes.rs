//! What is posted for each way a command can end, read from the raw POSTs of a real client.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use common::http::{self, Request};
use common::mcp_server::{McpServer, Next, by_tool_name};
use common::process::Client;
use common::scripted_plane::{Post, ScriptedPlane, call, command, jsonrpc, notification};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const SSE: (&str, &str) = ("Content-Type", "text/event-stream");

/// What one call meets and what must be posted for it.
struct Case {
    name: &'static str,
    reply: Vec<u8>,
    next: Next,
    code: u64,
    headers: Value,
    expected: Expected,
}

enum Expected {
    /// These bytes.
    Payload(String),
    /// A synthesised failure: message, `source/kind`.
    Failure(&'static str, &'static str),
}

fn ok(name: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"id-{name}","result":{{"n":1.10,"big":12345678901234567890}}}}"#)
}

fn answer(name: &'static str, status: u16, headers: &[(&str, &str)], kept: Value) -> Case {
    let body = ok(name);
    Case {
        name,
        reply: http::reply(status, headers, &body),
        next: Next::KeepAlive,
        code: status.into(),
        headers: kept,
        expected: Expected::Payload(body),
    }
}

/// A reply whose body reaches the caller as it is.
fn kept(name: &'static str, status: u16, body: String) -> Case {
    let reply = http::reply(status, &[("Content-Type", "text/plain")], &body);
    let headers = json!({ "Content-Type": ["application/json"] });
    Case {
        name,
        reply,
        next: Next::KeepAlive,
        code: status.into(),
        headers,
        expected: Expected::Payload(body),
    }
}

/// A reply outside 2xx that is not passed on; keeps its status and content type.
fn rejected(
    name: &'static str,
    status: u16,
    body: &str,
    message: &'static str,
    failure: &'static str,
) -> Case {
    let reply = http::reply(status, &[("Content-Type", "text/plain")], body);
    let headers = json!({ "Content-Type": ["text/plain"] });
    let expected = Expected::Failure(message, failure);
    Case { name, reply, next: Next::KeepAlive, code: status.into(), headers, expected }
}

/// A 2xx reply that is no answer.
fn unusable(name: &'static str, status: u16, headers: &[(&str, &str)], body: &str) -> Case {
    let stream = headers.contains(&SSE);
    let kind = if stream { "text/event-stream" } else { "application/json" };
    Case {
        name,
        reply: http::reply(status, headers, body),
        next: Next::KeepAlive,
        code: 502,
        headers: json!({ "Content-Type": [kind] }),
        expected: Expected::Failure("Bad Gateway", "protocol/invalid_protocol_response"),
    }
}

fn broken(name: &'static str, reply: &[u8], next: Next, failure: &'static str) -> Case {
    let kind =
        if String::from_utf8_lossy(reply).contains("event-stream") { "text/event-stream" } else { JSON.1 };
    Case {
        name,
        reply: reply.to_vec(),
        next,
        code: 502,
        headers: json!({ "Content-Type": [kind] }),
        expected: Expected::Failure("Bad Gateway", failure),
    }
}

fn error(id: &str, more: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32003,"message":"private no","data":{{"n":1.10}}}}{more}}}"#
    )
}

/// A valid error of exactly `length` bytes.
fn error_of(name: &str, length: usize) -> String {
    let id = format!("\"id-{name}\"");
    let empty = error(&id, r#","pad":"""#).len();
    error(&id, &format!(r#","pad":"{}""#, "x".repeat(length - empty)))
}

fn cases() -> Vec<Case> {
    let plain = || json!({ "Content-Type": ["application/json"] });
    let event = |json: &str| format!("data: {json}\n\n");
    let mut invalid_text = http::reply(200, &[JSON], "");
    invalid_text = String::from_utf8(invalid_text).unwrap().replace("Length: 0", "Length: 4").into_bytes();
    invalid_text.extend(b"\"\xff\xfe\"");
    let mut cases = vec![
        answer("json", 200, &[JSON], plain()),
        answer("created", 201, &[JSON], plain()),
        answer("charset", 200, &[("Content-Type", "application/json; charset=utf-8")], plain()),
        answer(
            "allow-listed",
            200,
            &[
                ("content-TYPE", "application/json"),
                ("MCP-session-id", "s-1"),
                ("mcp-protocol-version", "2025-06-18"),
                ("last-event-id", "9"),
                ("access-control-expose-headers", "Mcp-Session-Id"),
                ("Set-Cookie", "private=1"),
                ("X-Private", "private"),
                ("Server", "private"),
            ],
            json!({
                "Access-Control-Expose-Headers": ["Mcp-Session-Id"], "Content-Type": ["application/json"],
                "Last-Event-Id": ["9"], "Mcp-Protocol-Version": ["2025-06-18"], "Mcp-Session-Id": ["s-1"],
            }),
        ),
        answer(
            "nominated",
            200,
            &[
                JSON,
                ("Mcp-Session-Id", "s"),
                ("Connection", "keep-alive, mcp-SESSION-id"),
                ("Set-Cookie", "a=b"),
                ("WWW-Authenticate", ""),
                ("WWW-Authenticate", "Bearer"),
                ("WWW-Authenticate", "Basic"),
            ],
            json!({ "Content-Type": ["application/json"], "Www-Authenticate": ["Bearer", "Basic"] }),
        ),
        answer(
            "content-type-nominated",
            200,
            &[("Content-Type", "application/json"), ("Connection", "Content-Type")],
            Value::Null,
        ),
        rejected("text-503", 503, "private page", "Service Unavailable", "target_http/malformed_json"),
        rejected("empty-500", 500, "", "Internal Server Error", "target_http/response_body_missing"),
        rejected("status-520", 520, "", "MCP transport error", "target_http/response_body_missing"),
        rejected("teapot", 418, "[]", "I'm a teapot", "target_http/invalid_mcp_error"),
        rejected(
            "large-500",
            500,
            &error_of("large-500", 102_401),
            "Internal Server Error",
            "target_http/response_body_too_large",
        ),
        rejected("other-id", 400, &error("\"id-else\"", ""), "Bad Request", "target_http/invalid_mcp_error"),
        rejected("number-id", 400, &error("7", ""), "Bad Request", "target_http/invalid_mcp_error"),
        rejected(
            "result-null",
            400,
            &error("\"id-result-null\"", r#","result":null"#),
            "Bad Request",
            "target_http/invalid_mcp_error",
        ),
        rejected("redirect", 302, "", "Found", "protocol/response_body_missing"),
        rejected("status-600", 600, "private", "MCP transport error", "protocol/malformed_json"),
        kept("mcp-400", 400, error("\"id-mcp-400\"", r#","extra":{"b":1,"a":2}"#)),
        kept("mcp-404", 404, error("\"id-mcp-404\"", "")),
        kept("full-500", 500, error_of("full-500", 102_400)),
        unusable("empty-202", 202, &[], ""),
        unusable("untyped", 200, &[], ""),
        unusable("html-200", 200, &[("Content-Type", "text/html")], "private"),
        unusable("foreign-answer", 200, &[JSON], &ok("else")),
        unusable("malformed", 200, &[JSON], "{private"),
        unusable("batch", 200, &[JSON], &format!("[{}]", ok("batch"))),
        unusable("null-id", 200, &[JSON], r#"{"jsonrpc":"2.0","id":null,"result":{}}"#),
        unusable("version", 200, &[JSON], r#"{"jsonrpc":"1.0","id":"id-version","result":{}}"#),
        unusable("one-notification", 200, &[JSON], r#"{"jsonrpc":"2.0","method":"notifications/private"}"#),
        Case { reply: invalid_text, ..unusable("not-utf-8", 200, &[JSON], "") },
        unusable("sse-malformed", 200, &[SSE], "data: private\n\n"),
        unusable("sse-foreign", 200, &[SSE], &event(&ok("else"))),
        broken("closed", b"", Next::Close, "transport_closed/eof"),
        broken("reset", b"", Next::Reset, "transport_closed/connection_reset"),
        broken(
            "cut-body",
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"private\"",
            Next::Close,
            "transport_closed/unexpected_eof",
        ),
        broken(
            "sse-end",
            &http::reply(200, &[SSE], ": nothing\n\n"),
            Next::KeepAlive,
            "transport_closed/eof",
        ),
    ];
    // An error under 200 is an answer like any other.
    let body = error("\"id-error-200\"", "");
    let reply = http::reply(200, &[JSON], &body);
    cases.push(Case {
        reply,
        expected: Expected::Payload(body),
        ..answer("error-200", 200, &[JSON], plain())
    });
    for (name, kind, before) in [
        ("sse", "text/event-stream", ""),
        (
            "sse-parameters",
            "Text/Event-Stream; charset=utf-8",
            "event: ping\ndata: private\n\n: c\n\ndata:\n\n",
        ),
        ("sse-request", "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"ping\"}\n\n"),
    ] {
        let body = format!("{before}{}", event(&ok(name)));
        let reply = http::reply(200, &[("Content-Type", kind)], &body);
        cases.push(Case { reply, ..answer(name, 200, &[], json!({ "Content-Type": [kind] })) });
    }
    cases
}

/// Answers each method with its own bytes, everything else as [`by_tool_name`] does.
fn by_method(replies: BTreeMap<&'static str, (Vec<u8>, Next)>) -> McpServer {
    McpServer::scripted(move |request: &Request, stream: &mut TcpStream| {
        let message: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match message["method"].as_str().and_then(|method| replies.get(method)) {
            Some((reply, next)) => {
                let _ = stream.write_all(reply);
                *next
            }
            None => by_tool_name(request, stream),
        }
    })
}

/// What every POST of a command has in common.
fn check_envelope(post: &Post) {
    let id = post.id();
    let shard = format!("shard-{id}");
    assert_eq!(post.request.header("X-Tunnel-Shard-Token"), Some(shard.as_str()));
    assert!(!post.request.text().contains(&shard), "{id}: the shard token is in the body");
    assert_eq!(post.request.header("Content-Type"), Some("application/json"), "{id}");
    let members = post.members();
    for member in ["request_id", "channel", "resp_code", "resp_type"] {
        assert!(members.contains(&member), "{id}: no {member}");
    }
    let with_payload =
        matches!(post.kind(), "jsonrpc_response" | "jsonrpc_notify" | "oauth_discovery_response");
    assert_eq!(members.contains(&"resp_json"), with_payload, "{id}");
    assert!(post.json["resp_headers"].as_object().is_none_or(|headers| !headers.is_empty()), "{id}");
}

#[test]
fn every_way_a_call_over_http_can_end_is_posted_as_the_table_says() {
    let cases = cases();
    let replies = cases.iter().map(|case| (case.name, (case.reply.clone(), case.next))).collect();
    let (plane, server) = (ScriptedPlane::start(), by_method(replies));
    let client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--log.level", "debug", "--log.format", "struct-text"],
    );
    // More than the poll asked for: all are executed.
    plane.send(&cases.iter().map(|case| call(case.name, case.name, "")).collect::<Vec<_>>());
    let posts = plane.wait_posts(cases.len());
    assert_eq!(posts.len(), cases.len());
    for case in &cases {
        let name = case.name;
        let post = plane.wait_terminal(name);
        check_envelope(&post);
        assert_eq!(post.kind(), "jsonrpc_response", "{name}");
        assert_eq!(post.json["channel"], "main", "{name}");
        assert_eq!(post.code(), case.code, "{name}: {}", post.request.text());
        assert_eq!(post.json["resp_headers"], case.headers, "{name}: {}", post.request.text());
        assert_eq!(post.request.header("X-Client-Request-Id"), None, "{name}");
        let json = &post.json["resp_json"];
        match &case.expected {
            Expected::Payload(body) => assert_eq!(&post.payload(), body, "{name}"),
            Expected::Failure(message, failure) => {
                assert_eq!(
                    (json["error"]["message"].as_str(), post.failure().as_str()),
                    (Some(*message), *failure),
                    "{name}"
                );
                assert_eq!(json["id"], format!("id-{name}"));
                assert_eq!(json["error"]["code"], -32603);
                let data = &json["error"]["data"]["tunnel_failure"];
                let received = failure.starts_with("target_http");
                assert_eq!(data["version"], 1, "{name}");
                assert_eq!(data["upstream_response_received"], received, "{name}");
                let status = if received { json!(case.code) } else { Value::Null };
                assert_eq!(data["upstream_status"], status, "{name}");
                assert!(!post.request.text().contains("private"), "{name}: {}", post.request.text());
            }
        }
    }
    let output = client.output();
    assert!(!output.contains("private") && !output.contains("shard-"), "{output}");
    let mut about_commands = output.lines().filter(|line| line.contains(" request_id="));
    assert!(about_commands.all(|line| !line.contains("/mcp")), "{output}");
    assert!(output.contains("failure_source=target_http"), "{output}");
}

#[test]
fn a_challenge_survives() {
    let challenge = r#"Bearer resource_metadata="https://mcp.example/.well-known/oauth-protected-resource""#;
    let reply = http::reply(401, &[("WWW-Authenticate", challenge)], "");
    let (plane, server) = (ScriptedPlane::start(), by_method([("c", (reply, Next::KeepAlive))].into()));
    let _client = Client::start(&plane.base_url(), &["--mcp.server-url", &server.url()]);
    plane.send(&[call("c", "c", "")]);
    let post = plane.wait_terminal("c");
    assert_eq!(
        post.json["resp_headers"],
        json!({ "Content-Type": ["application/json"], "Www-Authenticate": [challenge] })
    );
    assert_eq!((post.code(), post.failure().as_str()), (401, "target_http/response_body_missing"));
    assert_eq!(post.json["resp_json"]["error"]["message"], "Unauthorized");
}

#[test]
fn an_unreachable_server_is_classified_by_its_cause() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = format!("channel=refused,url=http://{}/mcp", closed.local_addr().unwrap());
    drop(closed);
    let server = McpServer::by_tool_name();
    let broken = format!("channel=broken,url={}", server.url().replace("http:", "https:"));
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let not_tls = format!("channel=tls,url=https://{}/mcp", plain.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut peer, _)) = plain.accept() {
            let _ = peer.read(&mut [0; 4096]);
            let _ = peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let nowhere = "channel=dns,url=http://no-such-host.invalid/mcp";
    let plane = ScriptedPlane::start();
    let main = server.url();
    let arguments =
        [&*main, &refused, &not_tls, &broken, nowhere].map(|url| ["--mcp.server-url", url]).concat();
    let client = Client::start(&plane.base_url(), &arguments);
    let cases = [
        ("refused", "connect/connection_refused"),
        ("tls", "tls/tls"),
        // Whoever closes in the handshake has said nothing about TLS.
        ("broken", "transport_closed/eof"),
        ("dns", "dns/dns"),
    ];
    for (channel, _) in cases {
        let member = format!(r#","channel":"{channel}""#);
        plane.send(&[
            call(&format!("call-{channel}"), "m", &member),
            notification(&format!("note-{channel}"), "notifications/x", &member),
            command(
                "session_termination",
                &format!("end-{channel}"),
                &format!(r#"{member},"headers":{{"Mcp-Session-Id":["s"]}}"#),
            ),
        ]);
    }
    for (channel, failure) in cases {
        let post = plane.wait_terminal(&format!("call-{channel}"));
        check_envelope(&post);
        assert_eq!((post.code(), post.failure().as_str()), (502, failure));
        assert_eq!(post.json["channel"], channel);
        assert_eq!(post.json["resp_headers"], json!({ "Content-Type": ["application/json"] }));
        for (id, kind) in [("note", "notify_ack"), ("end", "session_termination_response")] {
            let post = plane.wait_terminal(&format!("{id}-{channel}"));
            check_envelope(&post);
            assert_eq!((post.code(), post.kind()), (502, kind));
            assert_eq!(post.json.get("resp_headers"), None);
        }
    }
    let output = client.output();
    assert!(
        !output.contains("no-such-host.invalid/mcp\" ") && output.contains("failure_source=dns"),
        "{output}"
    );
}

#[test]
fn notifications_are_acknowledged_under_the_status_they_met() {
    let replies = [
        ("accepted", http::reply(202, &[("Mcp-Session-Id", "s-1")], "")),
        ("fine", http::reply(200, &[("Content-Type", "text/html"), ("X", "y")], "ignored")),
        ("failed", http::reply(500, &[], &error("1", ""))),
        ("unwanted", http::reply(404, &[("WWW-Authenticate", "Bearer")], "private")),
    ];
    let expected = [
        ("accepted", 202, json!({ "Mcp-Session-Id": ["s-1"] })),
        ("fine", 200, json!({ "Content-Type": ["text/html"] })),
        ("failed", 500, Value::Null),
        ("unwanted", 404, json!({ "Www-Authenticate": ["Bearer"] })),
    ];
    let replies = replies.map(|(name, reply)| (name, (reply, Next::KeepAlive))).into();
    let (plane, server) = (ScriptedPlane::start(), by_method(replies));
    let _client = Client::start(&plane.base_url(), &["--mcp.server-url", &server.url()]);
    plane.send(&expected.each_ref().map(|(name, ..)| notification(name, name, "")));
    for (name, code, headers) in expected {
        let post = plane.wait_terminal(name);
        check_envelope(&post);
        assert_eq!((post.kind(), post.code()), ("notify_ack", code), "{name}");
        assert_eq!(post.json["resp_headers"], headers, "{name}");
    }
    assert_eq!(plane.posts().len(), 4);
}

#[test]
fn a_session_is_ended_by_exactly_one_delete_with_the_commands_headers() {
    let server = McpServer::scripted(|request: &Request, stream: &mut TcpStream| {
        if request.method != "DELETE" {
            return by_tool_name(request, stream);
        }
        let _ = stream.write_all(&match request.header("Mcp-Session-Id") {
            Some("stays") => http::reply(405, &[], "private"),
            _ => b"HTTP/1.1 204 No Content\r\nMcp-Session-Id: s\r\n\r\n".to_vec(),
        });
        Next::Close
    });
    let plane = ScriptedPlane::start();
    let client = Client::start(
        &plane.base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.max-concurrent-requests", "1"],
    );
    client.wait_ready();
    let headers = |session: &str| {
        format!(
            r#","headers":{{"Mcp-Session-Id":["{session}"],"Authorization":["Bearer caller"],"X-Request-Id":["r1"]}}"#
        )
    };
    plane.send(&[
        command("session_termination", "gone", &headers("goes")),
        command("session_termination", "kept", &headers("stays")),
        command("session_termination", "nameless", r#","headers":{"Authorization":["Bearer caller"]}"#),
    ]);
    for (id, code) in [("gone", 204), ("kept", 405), ("nameless", 400)] {
        let post = plane.wait_terminal(id);
        check_envelope(&post);
        assert_eq!((post.kind(), post.code()), ("session_termination_response", code), "{id}");
        let forwarded = (id != "nameless").then_some("r1");
        assert_eq!(post.request.header("X-Client-Request-Id"), forwarded);
    }
    let deletes: Vec<_> = server.seen_of_commands().into_iter().filter(|r| r.method == "DELETE").collect();
    assert_eq!(deletes.len(), 2);
    for delete in &deletes {
        assert_eq!(delete.header("Authorization"), Some("Bearer caller"));
        assert_eq!((delete.header("Accept"), delete.body.len()), (None, 0));
    }
    client.wait_output("session terminated");
    client.wait_output("WARN session termination refused");
}

#[test]
fn the_commands_headers_win_over_the_operators_and_hop_by_hop_names_stay_behind() {
    let (plane, server) = (ScriptedPlane::start(), McpServer::by_tool_name());
    let client = Client::start(
        &plane.base_url(),
        &[
            "--mcp.server-url",
            &server.url(),
            "--mcp.extra-headers",
            "X-Static: operator",
            "--mcp.extra-headers",
            "X-Kept: operator",
        ],
    );
    let headers = r#","headers":{"accept":["application/json"],"X-STATIC":["one","two"],"Mcp-Protocol-Version":["2025-06-18"],
        "Authorization":["Bearer caller"],"Last-Event-ID":["3"],"Cookie":["a=b"],"X-OpenAI-Thing":["t"],"X-Request-Id":["r1"],
        "Connection":["x-nominated"],"X-Nominated":["no"],"Host":["evil.example"],"Content-Length":["3"],
        "Transfer-Encoding":["chunked"],"Accept-Encoding":["br"],"Proxy-Authorization":["no"],"TE":["trailers"]}"#;
    plane.send(&[
        call("all", "echo", headers),
        call("none", "echo", ""),
        call("empty", "echo", r#","headers":{"Accept":[""]}"#),
    ]);
    for id in ["all", "none", "empty"] {
        let post = plane.wait_terminal(id);
        assert_eq!(post.code(), 200, "{}", client.output());
        assert_eq!(post.request.header("X-Client-Request-Id"), (id == "all").then_some("r1"));
    }
    let seen = |id: &str| {
        let needle = format!("id-{id}");
        server.seen().into_iter().find(|request| request.text().contains(&needle)).unwrap()
    };
    let all = seen("all");
    let values = |name: &str| -> Vec<String> {
        let named = all.headers.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.clone()).collect()
    };
    for (name, expected) in [
        ("Accept", &["application/json"][..]),
        ("X-Static", &["one", "two"]),
        ("X-Kept", &["operator"]),
        ("Mcp-Protocol-Version", &["2025-06-18"]),
        ("Authorization", &["Bearer caller"]),
        ("Last-Event-Id", &["3"]),
        ("Cookie", &["a=b"]),
        ("X-OpenAI-Thing", &["t"]),
        ("X-Request-Id", &["r1"]),
        ("Content-Type", &["application/json"]),
        ("X-Nominated", &[]),
        ("Proxy-Authorization", &[]),
        ("TE", &[]),
        ("Transfer-Encoding", &[]),
    ] {
        assert_eq!(values(name), expected, "{name}");
    }
    assert!(values("Host").iter().all(|host| host.starts_with("127.0.0.1")));
    assert!(!values("Accept-Encoding").contains(&"br".to_owned()));
    for id in ["none", "empty"] {
        let request = seen(id);
        assert_eq!(request.header("Accept"), Some("application/json, text/event-stream"), "{id}");
        assert_eq!(request.header("X-Static"), Some("operator"));
        assert_eq!((request.header("Mcp-Session-Id"), request.header("Mcp-Protocol-Version")), (None, None));
    }
}

#[test]
fn ids_return_as_they_were_spelled() {
    let server = McpServer::scripted(|request: &Request, stream: &mut TcpStream| {
        let text = request.text();
        let Some((_, rest)) = text.split_once("\"id\":").filter(|_| text.contains("spelled")) else {
            return by_tool_name(request, stream);
        };
        let id = &rest[..rest.find(",\"method").unwrap()];
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"\u00e9<>&"}}"#);
        let _ = stream.write_all(&http::reply(200, &[JSON], &body));
        Next::KeepAlive
    });
    let plane = ScriptedPlane::start();
    let _client = Client::start(&plane.base_url(), &["--mcp.server-url", &server.url()]);
    let ids = ["0", "\"\"", "1.5", "9007199254740993", "18446744073709551616", "-1", "\"\\u0061\"", "\"1\""];
    let payload = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"spelled"}}"#);
    let commands: Vec<_> =
        ids.iter().enumerate().map(|(n, id)| jsonrpc(&format!("r{n}"), &payload(id), "")).collect();
    plane.send(&commands);
    for (n, id) in ids.iter().enumerate() {
        let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"\u00e9<>&"}}"#);
        assert_eq!(plane.wait_terminal(&format!("r{n}")).payload(), expected);
    }
}
