//! The Streamable HTTP binding as it is wired: header layers, sessions, replies, redirects, proxies,
//! Unix sockets, trust and client certificates.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;
mod mcp_support;

use common::eventually;
use common::process::Client;
use mcp_support::plane::{Plane, call, failure, header};
use mcp_support::proxy::Proxy;
use mcp_support::site::{Answer, SHOWN, Site, id, json, on_call, plain, reply, result, stream};
use mcp_support::tls::Authority;
use mcp_support::{refused, run_to_end};

const BOTH: &str = "application/json, text/event-stream";
const EVENTS: &[(&str, &str)] = &[("Content-Type", "text/event-stream")];

/// A client of `plane` with `main` at `server`.
fn client(plane: &Plane, server: &Site, more: &[&str]) -> Client {
    let mut arguments = vec!["--mcp.server-url".to_owned(), server.url()];
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    start(plane, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn start(plane: &Plane, arguments: &[&str]) -> Client {
    plane.forget_polls();
    Client::start(&plane.base_url(), arguments)
}

/// One call of each tool; `calls` answers them.
fn asked(calls: impl Fn(&str, &common::http::Request) -> Answer + Send + Sync + 'static) -> (Plane, Site) {
    (Plane::start(), Site::tcp(on_call(calls)))
}

#[test]
fn a_forwarded_header_beats_the_static_one() {
    let (plane, server) = (Plane::start(), Site::tcp(plain));
    let _client = client(
        &plane,
        &server,
        &["--mcp.extra-headers", "Authorization: Bearer svc", "--mcp.extra-headers=X-S: s"],
    );
    plane.exchange(&[("authorization", "Bearer user"), ("X-Two", "1"), ("x-two", "2")], &call("own"));
    plane.exchange(&[], &call("service"));
    let own = server.call("own");
    let values = |name: &str| -> Vec<String> {
        let of = own.headers.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name));
        of.map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(values("Authorization"), ["Bearer user"]);
    assert_eq!(values("X-Two"), ["1", "2"], "separate lines");
    assert_eq!(values("X-S"), ["s"]);
    assert_eq!(server.call("service").header("Authorization"), Some("Bearer svc"));
    assert!(
        plane
            .seen()
            .iter()
            .all(|r| r.header("X-S").is_none() && r.header("Authorization") != Some("Bearer svc"))
    );
}

#[test]
fn discovery_headers_are_for_our_own_requests_only() {
    let (plane, server) = (Plane::start(), Site::tcp(plain));
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "from a file\n").unwrap();
    let file = format!("X-File: file:{}", secret.path().display());
    let client = Client::start_with(
        &plane.base_url(),
        &[
            "--mcp.server-url",
            &server.url(),
            "--mcp.extra-headers",
            "X-A: static",
            "--mcp.extra-headers",
            &file,
            "--mcp.discovery-extra-headers",
            "x-a: discovery",
            "--mcp.discovery-extra-headers",
            "X-D: env:DISCOVERY_SECRET",
        ],
        &[("DISCOVERY_SECRET", "token")],
    );
    client.wait_ready();
    plane.call("forwarded");
    let own = server.with_body("initialize").remove(0);
    assert_eq!((own.header("X-A"), own.header("X-D")), (Some("discovery"), Some("token")));
    assert_eq!(own.header("X-File"), Some("from a file"));
    let forwarded = server.call("forwarded");
    assert_eq!((forwarded.header("X-A"), forwarded.header("X-D")), (Some("static"), None));
    assert!(plane.seen().iter().all(|r| r.header("X-A").is_none() && r.header("X-D").is_none()));
    assert!(!client.output().contains("token") && !client.output().contains("from a file"));
}

#[test]
fn static_headers_go_to_each_channels_own_origin_and_path() {
    let plane = Plane::start();
    let other = Site::tcp(plain);
    let away = other.url();
    let main = Site::tcp(on_call(move |tool, request| {
        let to = match (tool, request.path.as_str()) {
            ("slash", "/mcp") => "/mcp/",
            ("path", "/mcp") => "/other",
            ("origin", "/mcp") => away.as_str(),
            _ => return plain(request),
        };
        reply(307, &[("Location", to)], "")
    }));
    let tools = Site::tcp(plain);
    let entry = format!("channel=tools,url={}", tools.url());
    let _client = client(
        &plane,
        &main,
        &[
            "--mcp.server-url",
            &entry,
            "--mcp.extra-headers",
            "X-S: 1",
            "--mcp.extra-headers=Authorization: Bearer svc",
        ],
    );
    plane.call_on("tools", "second", "{}");
    assert_eq!(tools.call("second").header("X-S"), Some("1"));
    let credentials = [("Authorization", "Bearer user"), ("Cookie", "a=b"), ("Mcp-Session-Id", "s")];
    for tool in ["slash", "path", "origin"] {
        let post = plane.exchange(&credentials, &call(tool));
        assert_eq!(post["resp_code"], 200, "{post}");
    }
    let hop = |tool: &str| main.with_body(tool).remove(1);
    assert_eq!((hop("slash").path.as_str(), hop("slash").header("X-S")), ("/mcp/", Some("1")));
    assert_eq!((hop("path").path.as_str(), hop("path").header("X-S")), ("/other", None));
    assert_eq!(
        hop("path").header("Authorization"),
        Some("Bearer user"),
        "the command's own, on the own origin"
    );
    let away = other.call("origin");
    for name in ["X-S", "Authorization", "Cookie", "Mcp-Session-Id", "Referer"] {
        assert_eq!(away.header(name), None, "{name} went to another origin");
    }
    assert_eq!((away.method.as_str(), away.header("Host")), ("POST", Some(other.address.as_str())));
}

#[test]
fn what_a_strict_server_demands_is_there_unless_the_command_says_otherwise() {
    let (plane, server) = (Plane::start(), Site::tcp(plain));
    let _client = client(&plane, &server, &["--mcp.extra-headers", "Accept: text/html"]);
    plane.exchange(&[], &call("bare"));
    plane.exchange(&[("Accept", "application/json"), ("User-Agent", "caller/1")], &call("own"));
    plane.exchange(
        &[
            ("Connection", "X-Hop"),
            ("X-Hop", "1"),
            ("Te", "trailers"),
            ("Host", "evil.example"),
            ("Content-Length", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Proxy-Authorization", "Basic eA=="),
            ("Accept-Encoding", "br"),
            ("X-Forwarded-For", "192.0.2.1"),
            ("X-Empty", ""),
        ],
        &call("hop"),
    );
    let bare = server.call("bare");
    assert_eq!(bare.header("Accept"), Some(BOTH));
    assert_eq!(bare.header("Content-Type"), Some("application/json"));
    assert_eq!(bare.header("Mcp-Session-Id"), None);
    assert_eq!((bare.path.as_str(), bare.text()), ("/mcp", call("bare")));
    let own = server.call("own");
    assert_eq!(
        (own.header("Accept"), own.header("User-Agent")),
        (Some("application/json"), Some("caller/1"))
    );
    let hop = server.call("hop");
    for name in ["X-Hop", "Te", "Transfer-Encoding", "Proxy-Authorization"] {
        assert_eq!(hop.header(name), None, "{name}");
    }
    assert_eq!(hop.header("Host"), Some(server.address.as_str()));
    assert_ne!(hop.header("Accept-Encoding"), Some("br"));
    assert_eq!((hop.header("X-Forwarded-For"), hop.header("X-Empty")), (Some("192.0.2.1"), Some("")));
    assert_eq!(hop.text(), call("hop"));
}

#[test]
fn a_session_lives_in_the_headers_and_nowhere_else() {
    let (plane, server) = asked(|_, request| {
        let headers = [
            ("Content-Type", "application/json"),
            ("Mcp-Session-Id", "t"),
            ("Set-Cookie", "private=1"),
            ("X-Internal", "private"),
        ];
        reply(200, &headers, &result(request, "{}"))
    });
    let _client = client(&plane, &server, &[]);
    let headers = [("mcp-session-id", "s"), ("Mcp-Protocol-Version", "2025-06-18")];
    let post = plane.exchange(&headers, &call("first"));
    assert_eq!(header(&post, "Mcp-Session-Id"), Some("t"));
    assert!(!post.to_string().contains("private"), "{post}");
    plane.exchange(&[], &call("second"));
    let first = server.call("first");
    assert_eq!(first.header("Mcp-Session-Id"), Some("s"));
    assert_eq!(first.header("Mcp-Protocol-Version"), Some("2025-06-18"));
    assert_eq!(server.call("second").header("Mcp-Session-Id"), None);
}

#[test]
fn a_json_reply_is_posted_with_the_targets_status() {
    let (plane, server) = asked(|tool, request| {
        let body = format!(" {}\r\n", result(request, r#"{"a":"<&>\u2028"}"#));
        match tool {
            "created" => reply(201, &[("Content-Type", "Application/JSON; charset=utf-8")], &body),
            _ => json(200, &body),
        }
    });
    let _client = client(&plane, &server, &[]);
    let post = plane.call("plain");
    assert_eq!((&post["resp_code"], &post["resp_type"]), (&200.into(), &"jsonrpc_response".into()));
    assert_eq!(header(&post, "Content-Type"), Some("application/json"));
    assert_eq!(post["resp_json"]["result"]["a"], "<&>\u{2028}");
    let post = plane.call("created");
    assert_eq!((&post["resp_code"], header(&post, "Content-Type")), (&201.into(), Some("application/json")));
}

#[test]
fn events_are_posted_in_order_and_noise_is_skipped() {
    let (plane, server) = asked(|_, request| {
        stream(&format!(
            "\u{feff}: keep-alive\nretry: 10\n\nevent: ping\ndata: no JSON\n\nid: 7\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\ndata: \"params\":{{\"progress\":0.5}}}}\r\rfield without colon\nevent: message\r\ndata:{}\r\n\r\n",
            result(request, r#"{"ok":true}"#)
        ))
    });
    let _client = client(&plane, &server, &[]);
    let posts = plane.wait(&plane.send(&[], &call("stream")));
    let types: Vec<_> = posts.iter().map(|post| post["resp_type"].as_str().unwrap()).collect();
    assert_eq!(types, ["jsonrpc_notify", "jsonrpc_response"], "{posts:?}");
    assert_eq!(posts[0]["resp_json"]["params"]["progress"], 0.5);
    assert_eq!(posts[1]["resp_json"]["result"]["ok"], true);
    assert_eq!(header(&posts[1], "Content-Type"), Some("text/event-stream"));
}

#[test]
fn a_notification_is_acknowledged_with_the_targets_status() {
    let plane = Plane::start();
    let server = Site::tcp(|request| match request.text() {
        text if text.contains("notifications/initialized") => reply(202, &[], ""),
        text if text.contains("no/content") => reply(204, &[], ""),
        text if text.contains("with/body") => reply(200, &[("Content-Type", "text/html")], "<p>"),
        _ => plain(request),
    });
    let _client = client(&plane, &server, &[]);
    for (method, status) in [("notifications/initialized", 202), ("no/content", 204), ("with/body", 200)] {
        let post = plane.exchange(&[], &format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#));
        assert_eq!(
            (&post["resp_type"], &post["resp_code"]),
            (&"notify_ack".into(), &status.into()),
            "{post}"
        );
        assert!(post.get("resp_json").is_none());
    }
}

#[test]
fn an_mcp_error_of_the_target_is_kept_and_anything_else_is_not() {
    let (plane, server) = asked(|tool, request| {
        let (id, json_type) = (id(request), [("Content-Type", "application/json")]);
        let error =
            |members: &str| reply(400, &json_type, &format!(r#"{{"jsonrpc":"2.0","id":{id},{members}}}"#));
        match tool {
            "kept" => error(r#""error":{"code":-32602,"message":"<bad>","data":{"n":1.50}},"extra":[1]"#),
            "other-id" => json(400, r#"{"jsonrpc":"2.0","id":"1","error":{"code":1,"message":"private"}}"#),
            "result" => error(r#""result":null,"error":{"code":1,"message":"private"}"#),
            "no-message" => error(r#""error":{"code":1}"#),
            "text" => reply(503, &[("Content-Type", "text/plain")], "private detail"),
            "empty" => reply(500, &[], ""),
            "gone" => reply(300, &[], "private"),
            "auth" => reply(401, &[("WWW-Authenticate", r#"Bearer resource_metadata="x""#)], "private"),
            size => {
                let start = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":""#);
                let padding = "x".repeat(size.parse::<usize>().unwrap() - start.len() - 3);
                json(400, &format!(r#"{start}{padding}"}}}}"#))
            }
        }
    });
    let _client = client(&plane, &server, &[]);
    let kept = plane.call("kept");
    assert_eq!(kept["resp_code"], 400);
    let bytes = plane.seen().into_iter().rfind(|r| r.path.contains("/response")).unwrap().text();
    assert!(bytes.contains(
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"<bad>","data":{"n":1.50}},"extra":[1]}"#
    ));
    for (tool, expected) in [
        ("other-id", "400 target_http/invalid_mcp_error"),
        ("result", "400 target_http/invalid_mcp_error"),
        ("no-message", "400 target_http/invalid_mcp_error"),
        ("text", "503 target_http/malformed_json"),
        ("empty", "500 target_http/response_body_missing"),
        ("102401", "400 target_http/response_body_too_large"),
        ("gone", "300 protocol/malformed_json"),
        ("auth", "401 target_http/malformed_json"),
    ] {
        let post = plane.call(tool);
        assert_eq!(failure(&post), expected, "{tool}: {post}");
        assert!(!post.to_string().contains("private"), "{post}");
        assert_eq!(post["resp_json"]["error"]["code"], -32603);
        if tool == "text" {
            assert_eq!(post["resp_json"]["error"]["message"], "Service Unavailable");
            let data = &post["resp_json"]["error"]["data"]["tunnel_failure"];
            assert_eq!(
                (&data["upstream_status"], &data["upstream_response_received"]),
                (&503.into(), &true.into())
            );
        }
        if tool == "auth" {
            assert_eq!(header(&post, "WWW-Authenticate"), Some(r#"Bearer resource_metadata="x""#));
        }
    }
    let full = plane.call("102400");
    assert_eq!((&full["resp_code"], &full["resp_json"]["error"]["code"]), (&400.into(), &1.into()));
}

#[test]
fn a_failed_notification_is_acknowledged_with_the_status() {
    let plane = Plane::start();
    let server = Site::tcp(|request| match request.text().contains("no/such") {
        true => reply(404, &[], "private"),
        false => plain(request),
    });
    let _client = client(&plane, &server, &[]);
    let post = plane.exchange(&[], r#"{"jsonrpc":"2.0","method":"no/such"}"#);
    assert_eq!((&post["resp_type"], &post["resp_code"]), (&"notify_ack".into(), &404.into()), "{post}");
}

#[test]
fn a_broken_stream_is_resumed_where_it_was() {
    let plane = Plane::start();
    let server = Site::tcp(|request| {
        match request.header("Last-Event-ID") {
        Some(_) => stream(&format!("id: 8\ndata: {}\n\n", r#"{"jsonrpc":"2.0","id":1,"result":{"resumed":true}}"#)),
        None if request.text().contains("tools/call") => Answer::Last(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nMcp-Session-Id: opened\r\n\r\nretry: 20\nid: 7\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n".to_vec(),
        ),
        None => plain(request),
    }
    });
    let _client = client(&plane, &server, &["--mcp.extra-headers", "X-S: 1"]);
    let posts = plane.wait(&plane.send(&[("Authorization", "Bearer user")], &call("cut")));
    assert_eq!(posts.len(), 2, "{posts:?}");
    assert_eq!(posts[1]["resp_json"]["result"]["resumed"], true);
    let resumed = server.seen().into_iter().find(|r| r.header("Last-Event-ID").is_some()).unwrap();
    assert_eq!((resumed.method.as_str(), resumed.header("Last-Event-ID")), ("GET", Some("7")));
    assert_eq!(resumed.header("Mcp-Session-Id"), Some("opened"));
    assert_eq!((resumed.header("X-S"), resumed.header("Authorization")), (Some("1"), Some("Bearer user")));
    assert_eq!(server.with_body("tools/call").len(), 1, "the call itself is never repeated");
}

#[test]
fn answers_that_are_none_end_the_call_with_502() {
    let (plane, server) = asked(|tool, request| match tool {
        "html" => reply(200, &[("Content-Type", "text/html")], "<p>private"),
        "untyped" => reply(200, &[], "private"),
        "accepted" => reply(202, &[], ""),
        "other-id" => json(200, r#"{"jsonrpc":"2.0","id":99,"result":{}}"#),
        "text-id" => json(200, r#"{"jsonrpc":"2.0","id":"1","result":{}}"#),
        "garbage" => json(200, "private"),
        "bad-event" => reply(200, EVENTS, "data: private\n\n"),
        "early" => reply(200, EVENTS, ": nothing\n\n"),
        "half" => reply(200, EVENTS, &format!("data: {}", result(request, "{}"))),
        "large" => json(200, &result(request, &format!(r#""{}""#, "x".repeat(5000)))),
        "large-event" => reply(
            200,
            EVENTS,
            &format!("data: {}\n\n", result(request, &format!(r#""{}""#, "x".repeat(5000)))),
        ),
        _ => plain(request),
    });
    let _client = client(&plane, &server, &["--mcp.max-message-bytes", "4096"]);
    for tool in [
        "html",
        "untyped",
        "accepted",
        "other-id",
        "text-id",
        "garbage",
        "bad-event",
        "early",
        "half",
        "large",
        "large-event",
    ] {
        let post = plane.call(tool);
        assert_eq!(
            (&post["resp_code"], &post["resp_json"]["error"]["code"]),
            (&502.into(), &(-32603).into()),
            "{tool}: {post}"
        );
        assert!(!post.to_string().contains("private"), "{post}");
        assert_eq!(post["resp_json"]["id"], 1);
    }
    for (tool, expected) in
        [("html", "502 protocol/"), ("accepted", "502 protocol/"), ("large", "502 protocol/")]
    {
        let post = plane.call(tool);
        assert!(failure(&post).starts_with(expected), "{tool}: {post}");
    }
    assert_eq!(plane.call("fine")["resp_code"], 200);
    assert!(
        server
            .seen()
            .iter()
            .all(|request| request.method != "DELETE" || request.header("Mcp-Session-Id").is_none())
    );
}

#[test]
fn requests_of_the_server_are_answered_and_the_call_goes_on() {
    let (plane, server) = asked(|_, request| {
        stream(&format!(
            "data: {}\n\ndata: {}\n\ndata: {}\n\n",
            r#"{"jsonrpc":"2.0","id":"s1","method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":2,"method":"roots/list"}"#,
            result(request, "{}")
        ))
    });
    let _client = client(&plane, &server, &[]);
    let post = plane.exchange(&[("Authorization", "Bearer user"), ("Mcp-Session-Id", "s")], &call("asks"));
    assert_eq!(post["resp_json"]["result"], serde_json::json!({}), "{post}");
    eventually("both are answered", || {
        server.with_body(r#""id":"s1""#).len() == 1 && server.with_body("-32601").len() == 1
    });
    let pong = server.with_body(r#""id":"s1""#).remove(0);
    assert_eq!(pong.json()["result"], serde_json::json!({}));
    assert_eq!(
        (pong.header("Authorization"), pong.header("Mcp-Session-Id")),
        (Some("Bearer user"), Some("s"))
    );
}

#[test]
fn a_deadline_ends_the_call_in_silence_and_the_next_is_served() {
    let (plane, server) = asked(|tool, request| if tool == "stall" { Answer::Never } else { plain(request) });
    let client = client(&plane, &server, &["--mcp.max-concurrent-requests", "1"]);
    let stalled = plane.command(&format!(
        r#""command_type":"jsonrpc","response_timeout":"300ms","jsonrpc":{}"#,
        call("stall")
    ));
    client.wait_output("command response deadline reached; dropping without posting a response");
    assert_eq!(plane.call("next")["resp_code"], 200);
    assert_eq!(plane.posts(&stalled), Vec::<serde_json::Value>::new());
    assert!(
        server.seen().iter().all(|r| r.method != "DELETE" || r.header("Mcp-Session-Id").is_none()),
        "no implicit DELETE"
    );
}

#[test]
fn the_ttl_counts_from_the_dispatch_and_is_answered_for() {
    let (plane, server) = asked(|tool, request| match tool {
        "stall" => Answer::Never,
        "open" => {
            Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: open\n\n".to_vec())
        }
        _ => plain(request),
    });
    let _client = client(&plane, &server, &["--mcp.connection-max-ttl", "300ms"]);
    for tool in ["stall", "open"] {
        assert_eq!(failure(&plane.call(tool)), "504 timeout/ttl", "{tool}");
    }
}

#[test]
fn a_session_is_ended_by_one_delete() {
    let plane = Plane::start();
    let server = Site::tcp(|request| match request.header("Mcp-Session-Id") {
        Some("unknown") => reply(404, &[], "private"),
        Some("unwilling") => reply(405, &[("Mcp-Session-Id", "unwilling")], ""),
        _ => plain(request),
    });
    let _client = client(&plane, &server, &["--mcp.extra-headers", "X-S: 1"]);
    for (session, status) in [("s", 204), ("unknown", 404), ("unwilling", 405)] {
        let id = plane.command(&format!(
            r#""command_type":"session_termination","headers":{{"Mcp-Session-Id":["{session}"],"Authorization":["Bearer user"]}}"#
        ));
        let posts = plane.wait(&id);
        assert_eq!(posts.len(), 1);
        assert_eq!(posts[0]["resp_type"], "session_termination_response");
        assert_eq!(posts[0]["resp_code"], status);
        let sent: Vec<_> =
            server.seen().into_iter().filter(|r| r.header("Mcp-Session-Id") == Some(session)).collect();
        assert_eq!(sent.len(), 1);
        assert_eq!(
            (sent[0].method.as_str(), sent[0].path.as_str(), sent[0].body.len()),
            ("DELETE", "/mcp", 0)
        );
        assert_eq!(
            (sent[0].header("Authorization"), sent[0].header("X-S")),
            (Some("Bearer user"), Some("1"))
        );
    }
}

#[test]
fn redirects_that_would_lose_the_message_are_plain_replies() {
    let (plane, server) = asked(|tool, request| {
        let (word, status) = tool.split_once('-').unwrap_or((tool, "307"));
        let status = status.parse().unwrap();
        match word {
            "moved" => reply(status, &[("Location", "/other")], ""),
            "nowhere" => reply(status, &[], ""),
            "loop" => reply(status, &[("Location", request.path.as_str())], ""),
            _ => plain(request),
        }
    });
    let _client = client(&plane, &server, &[]);
    for (tool, status, requests) in [
        ("moved-301", 301, 1),
        ("moved-302", 302, 1),
        ("moved-303", 303, 1),
        ("nowhere-307", 307, 1),
        ("moved-300", 300, 1),
        ("loop-308", 308, 10),
    ] {
        let post = plane.call(tool);
        assert_eq!(post["resp_code"], status, "{tool}: {post}");
        assert_eq!(server.with_body(&format!(r#""name":"{tool}""#)).len(), requests, "{tool}");
    }
}

#[test]
fn a_compressed_reply_is_decoded() {
    // gzip of `{"jsonrpc":"2.0","id":1,"result":{"packed":true}}`, stored without compression.
    let text = br#"{"jsonrpc":"2.0","id":1,"result":{"packed":true}}"#;
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    let length = u16::try_from(text.len()).unwrap();
    packed.extend(length.to_le_bytes());
    packed.extend((!length).to_le_bytes());
    packed.extend(text);
    packed.extend(crc32(text).to_le_bytes());
    packed.extend(u32::from(length).to_le_bytes());
    let (plane, server) = asked(move |_, _| {
        let mut bytes = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
            packed.len()
        )
        .into_bytes();
        bytes.extend(&packed);
        Answer::Bytes(bytes)
    });
    let _client = client(&plane, &server, &["--mcp.extra-headers", "Accept-Encoding: br"]);
    let post = plane.exchange(&[("Accept-Encoding", "zstd")], &call("packed"));
    assert_eq!(post["resp_json"]["result"]["packed"], true, "{post}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn a_header_that_cannot_be_sent_fails_the_call_alone() {
    let (plane, server) = (Plane::start(), Site::tcp(plain));
    let _client = client(&plane, &server, &[]);
    let post = plane.exchange(&[("X-Bad", "a\u{1}b")], &call("bad"));
    assert_eq!(post["resp_code"], 502, "{post}");
    assert_eq!(plane.call("good")["resp_code"], 200);
    assert!(server.with_body("\"bad\"").is_empty());
}

#[test]
fn failures_to_connect_are_classified() {
    let plane = Plane::start();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = format!("channel=refused,url=http://{closed}/mcp");
    let _client =
        start(&plane, &["--mcp.server-url", "http://no-such-host.invalid/mcp", "--mcp.server-url", &refused]);
    assert_eq!(failure(&plane.call("dns")), "502 dns/dns");
    let response = plane.call_on("refused", "x", "{}");
    assert_eq!(response["error"]["data"]["tunnel_failure"]["transport_error_kind"], "connection_refused");
    assert_eq!(response["error"]["message"], "Bad Gateway");
}

#[test]
fn a_unix_socket_is_dialled_whatever_proxies_there_are() {
    let (plane, proxy) = (Plane::start(), Proxy::start(None));
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("mcp.sock");
    let server = Site::unix(&socket, plain);
    let entry = format!("url=http://localhost/mcp,unix-socket={}", socket.display());
    let client = Client::start_with(
        &plane.base_url(),
        &["--mcp.server-url", &entry, "--mcp.http-proxy", &proxy.url()],
        &[("HTTP_PROXY", &proxy.url())],
    );
    client.wait_ready();
    assert_eq!(plane.call("socket")["resp_code"], 200);
    assert_eq!(server.call("socket").header("Host"), Some("localhost"));
    assert_eq!(proxy.lines(), Vec::<String>::new());
    drop(client);
    // A global proxy carries the control plane, still not the socket.
    plane.forget_polls();
    let from_variable = "url=http://localhost/mcp,unix-socket=env:MCP_SOCKET";
    let client = Client::start_with(
        &plane.base_url(),
        &["--mcp.server-url", from_variable, "--http-proxy", &proxy.url()],
        &[("MCP_SOCKET", &socket.display().to_string())],
    );
    client.wait_ready();
    assert_eq!(plane.call("global")["resp_code"], 200);
    assert_eq!(server.call("global").path, "/mcp");
    let lines = proxy.lines();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(plane.host_and_port())), "{lines:?}");
    let text = refused(&["--mcp.server-url", &format!("{entry},http-proxy=http://p:1")]);
    assert!(text.contains("unix-socket cannot be combined with http-proxy"), "{text}");
}

#[test]
fn the_first_proxy_that_is_set_carries_the_channel() {
    let plane = Plane::start();
    let server = Site::tcp(plain);
    let [entry, mcp, environment] = [(); 3].map(|()| Proxy::start(Some(&server.address)));
    let name = "http://mcp.test/mcp";
    let with_entry = format!("url={name},http-proxy=http://us%40er:p%20w@{}", entry.address);
    let plain_entry = format!("channel=tools,url={}", server.url());
    let variables =
        [("HTTP_PROXY", environment.url()), ("NO_PROXY", "*".to_owned()), ("MY_PROXY", mcp.url())];
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let client = Client::start_with(
        &plane.base_url(),
        &[
            "--mcp.server-url",
            &with_entry,
            "--mcp.server-url",
            &plain_entry,
            "--mcp.http-proxy",
            "env:MY_PROXY",
        ],
        &variables,
    );
    assert_eq!(plane.call("by-entry")["resp_code"], 200);
    plane.call_on("tools", "by-mcp", "{}");
    let line = |proxy: &Proxy| proxy.seen().into_iter().find(|r| r.text().contains("by-")).unwrap();
    assert_eq!(line(&entry).path, "http://mcp.test/mcp", "absolute form");
    assert_eq!(line(&entry).header("Proxy-Authorization"), Some("Basic dXNAZXI6cCB3"));
    assert_eq!(line(&entry).header("Host"), Some("mcp.test"));
    assert_eq!(line(&mcp).path, server.url(), "loopback goes through a proxy that is set");
    assert_eq!(server.call("by-entry").header("Proxy-Authorization"), None);
    assert_eq!(environment.lines(), Vec::<String>::new());
    assert!(!client.output().contains("p%20w") && !client.output().contains("p w"), "{}", client.output());
}

#[test]
fn the_environments_proxy_spares_loopback_and_what_is_exempt() {
    let plane = Plane::start();
    let server = Site::tcp(plain);
    let proxy = Proxy::start(Some(&server.address));
    let url = proxy.url();
    let entries =
        ["channel=main,url=http://mcp.test/mcp".to_owned(), format!("channel=local,url={}", server.url())];
    let _client = Client::start_with(
        &plane.base_url(),
        &[
            "--mcp.server-url",
            &entries[0],
            "--mcp.server-url",
            &entries[1],
            "--mcp.server-url",
            "channel=exempt,url=http://a.exempt.test/mcp",
        ],
        &[("http_proxy", &url), ("NO_PROXY", ".exempt.test")],
    );
    assert_eq!(plane.call("proxied")["resp_code"], 200);
    plane.call_on("local", "direct", "{}");
    let exempt = plane.call_on("exempt", "exempt", "{}");
    assert_eq!(exempt["error"]["data"]["tunnel_failure"]["source"], "dns", "{exempt}");
    let lines = proxy.lines();
    assert!(lines.iter().all(|line| line.contains(" http://mcp.test/")), "{lines:?}");
    assert_eq!(server.call("direct").header("Host"), Some(server.address.as_str()));
}

#[test]
fn an_https_target_is_reached_through_a_tunnel_whatever_no_proxy_says() {
    let (plane, authority) = (Plane::start(), Authority::new());
    let server = Site::tls(authority.sign("mcp.test", |_| {}).config(), plain);
    let proxy = Proxy::start(Some(&server.address));
    let entry = format!("url=https://mcp.test/mcp,http-proxy=http://user:pw@{}", proxy.address);
    let client = Client::start_with(
        &plane.base_url(),
        &["--mcp.server-url", &entry, "--ca-bundle", &authority.file("ca.pem")],
        &[("NO_PROXY", "*")],
    );
    assert_eq!(plane.call("tunnelled")["resp_code"], 200, "{}", client.output());
    assert!(proxy.lines().iter().all(|line| line == "CONNECT mcp.test:443"), "{:?}", proxy.lines());
    assert_eq!(proxy.seen()[0].header("Proxy-Authorization"), Some("Basic dXNlcjpwdw=="));
    assert_eq!(server.call("tunnelled").header("Host"), Some("mcp.test"));
    proxy.refuse(Some(407));
    drop(client);
    let client = start(&plane, &["--mcp.server-url", &entry, "--ca-bundle", &authority.file("ca.pem")]);
    assert_eq!(failure(&plane.call("refused")), "502 connect/dial");
    assert!(!client.output().contains("user:pw"));
}

#[test]
fn a_private_authority_is_trusted_only_with_its_bundle() {
    let (plane, authority, second) = (Plane::start(), Authority::new(), Authority::new());
    let good = Site::tls(authority.sign("localhost", |_| {}).config(), plain);
    let other = Site::tls(second.sign("127.0.0.1", |_| {}).config(), plain);
    let expired = authority.sign("localhost", |parameters| {
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2020, 1, 2);
    });
    let expired = Site::tls(expired.config(), plain);
    let misnamed = Site::tls(authority.sign("elsewhere.test", |_| {}).config(), plain);
    let entries = [
        format!("url=https://localhost:{}/mcp", good.port()),
        format!("channel=other,url=https://{}/mcp", other.address),
        format!("channel=expired,url=https://localhost:{}/mcp", expired.port()),
        format!("channel=misnamed,url=https://localhost:{}/mcp", misnamed.port()),
    ];
    let servers: Vec<&str> = entries.iter().flat_map(|entry| ["--mcp.server-url", entry]).collect();
    let kind = |channel: &str| {
        let response = plane.call_on(channel, "x", "{}");
        let data = &response["error"]["data"]["tunnel_failure"];
        format!(
            "{}/{}",
            data["source"].as_str().unwrap_or("ok"),
            data["transport_error_kind"].as_str().unwrap_or("ok")
        )
    };
    let client = start(&plane, &servers);
    assert_eq!(kind("main"), "tls/tls");
    drop(client);
    let both = authority.write("both.pem", &format!("a comment\n{}\n{}", authority.pem(), second.pem()));
    let with_bundle: Vec<&str> = servers.iter().copied().chain(["--ca-bundle", &both]).collect();
    let client = start(&plane, &with_bundle);
    for (channel, expected) in
        [("main", "ok/ok"), ("other", "ok/ok"), ("expired", "tls/tls"), ("misnamed", "tls/tls")]
    {
        assert_eq!(kind(channel), expected, "{channel}: {}", client.output());
    }
    client.wait_output("tls trust summary");
    let line = client.output().lines().find(|line| line.contains("tls trust summary")).unwrap().to_owned();
    assert!(line.contains("cert_count") && line.contains("system cert pool"), "{line}");
    drop(client);
    for (name, text) in [("empty.pem", ""), ("none.pem", "no certificate here")] {
        let file = authority.write(name, text);
        let text = refused(&["--mcp.server-url", &entries[0], "--ca-bundle", &file]);
        assert!(text.contains("PEM bundle contained no certificates"), "{text}");
    }
    refused(&["--mcp.server-url", &entries[0], "--ca-bundle", "/no/such/bundle.pem"]);
}

#[test]
fn a_client_certificate_is_shown_to_its_own_origin_only() {
    let (plane, authority) = (Plane::start(), Authority::new());
    let identity = authority.sign("localhost", |_| {});
    let away = Site::tls(authority.asking(&identity, false), plain);
    let to = format!("https://localhost:{}/mcp", away.port());
    let server = Site::tls(
        authority.asking(&identity, true),
        on_call(move |tool, request| match tool {
            "away" => reply(307, &[("Location", to.as_str())], ""),
            "path" if request.path == "/mcp" => reply(307, &[("Location", "/other")], ""),
            _ => plain(request),
        }),
    );
    let (certificate, key) = authority.client_pair();
    let url = format!("https://localhost:{}/mcp", server.port());
    let pair = format!("url={url},client-cert=file:{certificate},client-key={key}");
    let bundle = authority.file("ca.pem");
    let client = start(&plane, &["--mcp.server-url", &pair, "--ca-bundle", &bundle]);
    for tool in ["own", "path", "away"] {
        let post = plane.call(tool);
        assert_eq!(post["resp_code"], 200, "{tool}: {post}\n{}", client.output());
    }
    assert_eq!(server.call("own").header(SHOWN), Some("yes"));
    assert_eq!(server.with_body("\"path\"")[1].header(SHOWN), Some("yes"), "any path of the origin");
    assert_eq!(away.call("away").header(SHOWN), Some("no"), "offered to another origin");
    drop(client);
    let client = start(&plane, &["--mcp.server-url", &url, "--ca-bundle", &bundle]);
    assert_eq!(failure(&plane.call("bare")), "502 tls/tls", "{}", client.output());
    drop(client);
    let client = start(
        &plane,
        &[
            "--mcp.server-url",
            &url,
            "--ca-bundle",
            &bundle,
            "--mcp.client-cert",
            &certificate,
            "--mcp.client-key",
            &key,
        ],
    );
    assert_eq!(plane.call("default")["resp_code"], 200, "{}", client.output());
    drop(client);
    let half = format!("url={url},client-cert={certificate}");
    let swapped = format!("url={url},client-cert={certificate},client-key={bundle}");
    let missing = format!("url={url},client-cert=/no/such.pem,client-key={key}");
    for entry in [&half, &swapped, &missing] {
        refused(&["--mcp.server-url", entry, "--ca-bundle", &bundle]);
    }
    refused(&["--mcp.command", "cat", "--mcp.client-cert", &certificate, "--mcp.client-key", &key]);
}

#[test]
fn headers_that_contradict_themselves_or_cannot_be_sent_fail_the_start() {
    let target = ["--mcp.server-url", "http://127.0.0.1:9/mcp"];
    for flag in ["--mcp.extra-headers", "--mcp.discovery-extra-headers"] {
        for values in [&["X-A: 1", "x-a: 2"][..], &["X A: 1"], &["X-A: a\u{1}"], &["X-A: env:NOT_SET_AT_ALL"]]
        {
            let mut arguments = target.to_vec();
            values.iter().for_each(|value| arguments.extend([flag, value]));
            let text = refused(&arguments);
            if values.len() == 2 {
                assert!(text.contains("conflicting values for case-insensitive HTTP header"), "{text}");
            }
        }
    }
}

#[test]
fn two_targets_for_one_channel_or_a_reserved_one_fail_the_start() {
    for arguments in [
        &[
            "--mcp.server-url",
            "http://127.0.0.1:9/a",
            "--mcp.server-url",
            "channel= MAIN ,url=http://127.0.0.1:9/b",
        ][..],
        &["--mcp.server-url", "http://127.0.0.1:9/a", "--mcp.command", "cat"],
        &["--mcp.server-url", "channel=harpoon,url=http://127.0.0.1:9/a"],
        &["--mcp.server-url", "channel=tools,url=http://127.0.0.1:9/a"],
        &["--mcp.server-url", "channel=a b,url=http://127.0.0.1:9/a"],
        &["--mcp.server-url", "localhost/mcp"],
    ] {
        refused(arguments);
    }
    let output = run_to_end(&["--mcp.command", "channel=main,command=cat,http-proxy=http://p"], &[]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn raw_logging_shows_everything_and_delays_nothing() {
    let (plane, server) = asked(|_, request| {
        let notify = r#"{"jsonrpc":"2.0","method":"notifications/message"}"#;
        stream(&format!("data: {notify}\n\ndata: {}\n\n", result(request, r#"{"seen":1}"#)))
    });
    let client = client(
        &plane,
        &server,
        &["--log.http-raw-unsafe=true", "--log.level", "debug", "--log.format", "json"],
    );
    let posts = plane.wait(&plane.send(&[("Authorization", "Bearer user")], &call("raw")));
    assert_eq!(posts.len(), 2);
    client.wait_output(r#"{\"seen\":1}"#);
    let output = client.output();
    assert!(!output.contains("Bearer user"), "{output}");
    for part in [
        "raw http request",
        "raw http response",
        "forwarding_rt",
        "Authorization: Bearer [REDACTED]",
        "write: ",
        "read: ",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
}

#[test]
fn an_http_and_a_stdio_channel_serve_side_by_side() {
    let plane = Plane::start();
    let server = Site::tcp(plain);
    let fixture = common::process::stdio_fixture().display().to_string();
    let command = format!("channel=tools,command={fixture}");
    let client = client(&plane, &server, &["--mcp.command", &command]);
    client.wait_ready();
    assert_eq!(plane.call_on("tools", "echo", r#"{"by":"child"}"#)["result"]["by"], "child");
    assert_eq!(plane.call_on("main", "echo", r#"{"by":"server"}"#)["result"]["by"], "server");
    let stranger = plane.call_on("unknown", "echo", "{}");
    assert!(stranger["error"]["code"].is_i64(), "never falls back to main: {stranger}");
    let declared = plane.seen()[0].header("X-Tunnel-MCP-Server-Info").map(str::to_owned);
    assert_eq!(
        declared.as_deref(),
        Some(r#"{"version":1,"channels":[{"name":"main"},{"name":"tools","proc_affinity":true}]}"#)
    );
}
