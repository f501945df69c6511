//! What each side of the local control plane is told, over real sockets.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

#[path = "support/site.rs"]
mod site;
#[path = "support/wire.rs"]
mod wire;

use std::time::Duration;

use serde_json::{Value, json};

use site::{BOTH, LIST, RESULT, Site, TUNNEL, bearer, notify, result, send_call};

#[test]
fn malformed_responses_are_refused_and_leave_the_command_answerable() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "application/json", LIST);
    let command = site.command();
    for (change, code) in [
        (json!({"resp_code": null}), ""),
        (json!({"resp_json": null}), ""),
        (json!({"resp_json": []}), ""),
        (json!({"resp_type": "other"}), ""),
        (json!({"resp_type": "notify_ack"}), ""),
        (json!({"shard_token": "s"}), ""),
        (json!({"channel": "a b"}), "invalid_channel_format"),
        (json!({"resp_type": "oauth_discovery_response"}), ""),
    ] {
        let mut body = result();
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let reply = site.respond(&command, body);
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{change}");
    }
    let mut unknown = result();
    unknown["extra"] = json!([1]);
    assert_eq!(site.respond(&command, unknown).status, 200, "unknown members are ignored");
    assert_eq!(caller.read().status, 200);
}

#[test]
fn a_caller_that_takes_a_stream_gets_notifications_and_result_as_events() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, BOTH, LIST);
    let command = site.command();
    assert_eq!(site.respond(&command, notify(1)).status, 200);
    let head = caller.read_head().unwrap();
    assert_eq!((head.status, head.header("Content-Type")), (200, Some("text/event-stream")));
    assert_eq!(head.header("Cache-Control"), Some("no-cache"));
    assert_eq!(head.header("Mcp-Session-Id"), Some("s"));
    let first = String::from_utf8(caller.read_chunk().unwrap().unwrap()).unwrap();
    assert!(
        first.starts_with("data: {") && first.contains(r#""progress":1"#) && first.ends_with("\n\n"),
        "{first}"
    );
    assert_eq!(site.respond(&command, notify(2)).status, 200);
    assert_eq!(site.respond(&command, result()).status, 200);
    let mut rest = String::new();
    while let Some(chunk) = caller.read_chunk().unwrap() {
        rest.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let events: Vec<&str> = rest.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(events.len(), 2, "{rest}");
    assert!(events[0].contains(r#""progress":2"#) && events[1].contains(r#""result":{"ok":true}"#), "{rest}");
    // The connection is good for another call.
    send_call(&mut caller, "application/json", LIST);
    let command = site.command();
    site.respond(&command, result());
    assert_eq!(caller.read().status, 200);
}

#[test]
fn a_caller_that_takes_no_stream_gets_one_document() {
    let site = Site::start();
    site.connect();
    for accept in ["application/json", "*/*", "text/event-stream;q=0, application/json"] {
        let mut caller = site.caller();
        send_call(&mut caller, accept, LIST);
        let command = site.command();
        assert_eq!(site.respond(&command, notify(1)).status, 200);
        assert_eq!(site.respond(&command, notify(2)).status, 200);
        let mut labelled = result();
        labelled["resp_headers"] = json!({"Content-Type": ["text/event-stream"]});
        assert_eq!(site.respond(&command, labelled).status, 200);
        let reply = caller.read();
        assert_eq!((reply.status, reply.header("Content-Type")), (200, Some("application/json")), "{accept}");
        assert_eq!(reply.json(), serde_json::from_str::<Value>(RESULT).unwrap());
    }
}

#[test]
fn the_first_terminal_payload_decides_the_form_of_the_answer() {
    let site = Site::start();
    site.connect();
    let sse = json!({"Content-Type": ["text/event-stream"]});
    let plain = json!({"Content-Type": ["application/json; charset=utf-8"]});
    let nominated = json!({"Content-Type": ["text/event-stream"], "Connection": ["content-type"]});
    for (accept, headers, code, status, content_type) in [
        (BOTH, &sse, 200, 200, "text/event-stream"),
        (BOTH, &sse, 500, 500, "application/json"),
        (BOTH, &plain, 200, 200, "application/json; charset=utf-8"),
        (BOTH, &nominated, 200, 200, "application/json"),
        ("text/event-stream", &plain, 200, 200, "text/event-stream"),
        ("text/event-stream", &plain, 404, 404, "application/json; charset=utf-8"),
    ] {
        let mut caller = site.caller();
        send_call(&mut caller, accept, LIST);
        let command = site.command();
        let mut body = result();
        body["resp_headers"] = headers.clone();
        body["resp_code"] = json!(code);
        assert_eq!(site.respond(&command, body).status, 200);
        let reply = caller.read();
        assert_eq!(
            (reply.status, reply.header("Content-Type")),
            (status, Some(content_type)),
            "{accept} {headers}"
        );
        if content_type == "text/event-stream" {
            assert_eq!(reply.text().matches("data: ").count(), 1);
        }
    }
}

#[test]
fn json_with_line_breaks_is_one_line_within_a_stream() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "text/event-stream", LIST);
    let command = site.command();
    let mut client = site.client();
    let (name, value) = bearer();
    let token = command["shard_token"].as_str().unwrap();
    let body = format!(
        "{{\"request_id\":{},\"resp_code\":200,\"resp_json\":{{\r\n \"jsonrpc\":\"2.0\",\n\"id\":7,\"result\":\"a\\nb\"}}}}",
        command["request_id"]
    );
    let target = format!("/v1/tunnels/{TUNNEL}/response");
    let headers = [(name, value.as_str()), ("X-Tunnel-Shard-Token", token)];
    assert_eq!(client.call("POST", &target, &headers, Some(body.as_bytes())).status, 200);
    assert_eq!(caller.read().text(), "data: {   \"jsonrpc\":\"2.0\", \"id\":7,\"result\":\"a\\nb\"}\n\n");
}

#[test]
fn response_headers_are_filtered_and_the_rest_preserved() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "application/json", LIST);
    let command = site.command();
    let mut body = result();
    body["resp_headers"] = json!({
        "Connection": ["Mcp-Session-Id"], "mcp-session-id": ["s"], "X-Preserved": ["1", "2"],
        "Set-Cookie": ["a=b"], "Transfer-Encoding": ["chunked"], "Content-Length": ["99"], "X-Bad": ["a\r\nX-Evil: 1"],
        "WWW-Authenticate": ["Bearer realm=\"x\", resource_metadata=\"https://mcp.corp/meta\", scope=\"s\""],
    });
    assert_eq!(site.respond(&command, body).status, 200);
    let reply = caller.read();
    let values = |name: &str| -> Vec<&str> {
        let same = |(have, _): &&(String, String)| have.eq_ignore_ascii_case(name);
        reply.headers.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(values("X-Preserved"), ["1", "2"]);
    for gone in ["Mcp-Session-Id", "Set-Cookie", "Transfer-Encoding", "X-Bad", "X-Evil"] {
        assert!(values(gone).is_empty(), "{gone}: {reply:?}");
    }
    assert_eq!(values("Content-Length").len(), 1);
    let url = format!("http://test/.well-known/oauth-protected-resource/v1/mcp/{TUNNEL}");
    let challenge = format!("Bearer realm=\"x\", resource_metadata=\"{url}\", scope=\"s\"");
    assert_eq!(values("WWW-Authenticate"), [challenge.as_str()]);
}

#[test]
fn response_codes_are_mapped_to_statuses() {
    let site = Site::start();
    site.connect();
    for (code, status) in [
        (100, 502),
        (299, 200),
        (499, 502),
        (599, 502),
        (503, 503),
        (418, 418),
        (0, 502),
        (-1, 502),
        (204, 204),
        (304, 304),
    ] {
        let mut caller = site.caller();
        send_call(&mut caller, "application/json", LIST);
        let command = site.command();
        let mut body = result();
        body["resp_code"] = json!(code);
        assert_eq!(site.respond(&command, body).status, 200);
        let reply = caller.read();
        assert_eq!(reply.status, status, "{code}");
        if matches!(status, 204 | 304) {
            assert!(reply.header("Content-Length").is_none());
        }
        // The framing was right: the connection carries another exchange.
        assert_eq!(caller.call("GET", "/readyz", &[], None).status, 200, "{code}");
    }
}

#[test]
fn an_acknowledged_notification_is_202_without_a_body() {
    let site = Site::start();
    site.connect();
    for (code, status) in [(200, 202), (202, 202), (400, 400)] {
        let mut caller = site.caller();
        send_call(&mut caller, BOTH, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let command = site.command();
        assert!(command["jsonrpc"].get("id").is_none());
        let body = json!({"resp_code": code, "resp_type": "notify_ack",
                          "resp_headers": {"Content-Type": ["text/event-stream"]}});
        assert_eq!(site.respond(&command, body).status, 200);
        let reply = caller.read();
        assert_eq!((reply.status, reply.body.len()), (status, 0));
    }
}

#[test]
fn a_stream_without_an_end_ends_with_an_error_event() {
    let site = Site::with(|options| options.response_timeout = Duration::from_millis(600));
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, BOTH, r#"{"jsonrpc":"2.0","id":"abc","method":"m"}"#);
    let command = site.command();
    site.respond(&command, notify(1));
    let reply = caller.read();
    let last = reply.text().lines().rfind(|line| line.starts_with("data: ")).unwrap();
    let event: Value = serde_json::from_str(&last["data: ".len()..]).unwrap();
    assert_eq!(event["id"], "abc");
    assert_eq!(
        (&event["error"]["code"], &event["error"]["message"]),
        (&json!(-32603), &json!("Gateway Timeout"))
    );
    let failure = json!({"version": 1, "source": "timeout", "upstream_response_received": false});
    assert_eq!(event["error"]["data"]["tunnel_failure"], failure);
}

#[test]
fn the_headers_of_a_call_travel_but_for_those_that_end_here() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    let headers = [
        ("Authorization", "Bearer caller"),
        ("mcp-session-id", "s"),
        ("MCP-Protocol-Version", "2025-06-18"),
        ("X-Custom", "1"),
        ("x-custom", "2"),
        ("Accept", BOTH),
        ("Cookie", "a=b"),
        ("User-Agent", "ua"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-OpenAI-Authorization", "x"),
        ("OpenAI-Organization", "org"),
        ("Connection", "X-Hop, keep-alive"),
        ("X-Hop", "1"),
        ("X-Empty", ""),
    ];
    caller.send("POST", &format!("/v1/mcp/{TUNNEL}"), &headers, Some(LIST.as_bytes()));
    let command = site.command();
    let mut have = command["headers"].clone();
    let id = have.as_object_mut().unwrap().remove("X-Request-Id").unwrap();
    let expected = json!({
        "Authorization": ["Bearer caller"], "Mcp-Session-Id": ["s"], "Mcp-Protocol-Version": ["2025-06-18"],
        "X-Custom": ["1", "2"], "Accept": [BOTH],
    });
    assert_eq!(have, expected);
    site.respond(&command, result());
    assert_eq!(caller.read().header("X-Request-Id"), id[0].as_str(), "our own id stands in for the caller's");
}

#[test]
fn bodies_that_are_no_message_are_refused_before_anything_is_queued() {
    let site = Site::start();
    site.connect();
    for body in
        ["", "[]", "\"x\"", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, r#"{"jsonrpc":"2.0","#, "\u{feff}{}"]
    {
        let mut caller = site.caller();
        send_call(&mut caller, "application/json", body);
        let reply = caller.read();
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_json_payload"), "{body}");
    }
    let mut caller = site.caller();
    let huge = vec![b' '; 5 << 20];
    let head = format!("POST /v1/mcp/{TUNNEL} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", huge.len());
    caller.send_raw(head.as_bytes());
    let sent = caller.try_send_raw(&huge);
    let reply = caller.read();
    assert_eq!((reply.status, reply.code().as_str()), (413, "request_body_too_large"), "{sent:?}");
    assert_eq!(site.local.gauges().held, 0);
}

#[test]
fn other_methods_are_refused_with_those_allowed() {
    let site = Site::start();
    let mut caller = site.caller();
    for method in ["GET", "PUT", "OPTIONS"] {
        let reply = caller.call(method, &format!("/v1/mcp/{TUNNEL}"), &[], None);
        assert_eq!((reply.status, reply.header("Allow")), (405, Some("POST, DELETE")), "{method}");
        assert_eq!(reply.json()["error"]["param"], Value::Null);
    }
    caller.send("HEAD", &format!("/v1/mcp/{TUNNEL}"), &[], None);
    assert_eq!(caller.read_head().unwrap().status, 405);
    assert_eq!(caller.call("GET", "/readyz", &[], None).status, 200, "no body followed the HEAD");
}

#[test]
fn paths_are_checked_before_anything_else() {
    let site = Site::start();
    let mut caller = site.caller();
    let unknown = "tunnel_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";
    for (path, status, code) in [
        ("/v1/mcp/short".to_owned(), 400, "invalid_tunnel_id_format"),
        (format!("/v1/mcp/{unknown}"), 404, ""),
        (format!("/v1/mcp/{TUNNEL}/not%20valid"), 400, "invalid_channel_format"),
        (format!("/v1/mcp/{TUNNEL}/a/b"), 404, ""),
        (format!("/v1/tunnels/{TUNNEL}/poll"), 404, ""),
        ("/nothing".to_owned(), 404, ""),
        (format!("/v1/mcp/{TUNNEL}/"), 404, "tunnel_client_not_seen"),
        (format!("/v1/mcp/{TUNNEL}/%20"), 404, "tunnel_client_not_seen"),
    ] {
        let reply = caller.call("POST", &path, &[], Some(LIST.as_bytes()));
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{path}");
    }
    let mut client = site.client();
    let reply = client.call("POST", &format!("/v1/mcp/{TUNNEL}"), &[], Some(LIST.as_bytes()));
    assert_eq!(reply.status, 404, "the client's listener serves no connectors");
}

#[test]
fn a_session_is_ended_through_the_client() {
    let site = Site::start();
    site.connect();
    let target = format!("/v1/mcp/{TUNNEL}");
    let mut caller = site.caller();
    for headers in [&[][..], &[("Mcp-Session-Id", "")]] {
        let reply = caller.call("DELETE", &target, headers, None);
        assert_eq!((reply.status, reply.code().as_str()), (400, "missing_mcp_session_id"));
    }
    for status in [204, 405, 400] {
        caller.send("DELETE", &target, &[("Mcp-Session-Id", "s")], None);
        let command = site.command();
        assert_eq!(command["command_type"], "session_termination");
        assert!(command.get("jsonrpc").is_none());
        assert_eq!(command["headers"]["Mcp-Session-Id"], json!(["s"]));
        let body = json!({"resp_code": status, "resp_type": "session_termination_response"});
        assert_eq!(site.respond(&command, body).status, 200);
        let reply = caller.read();
        assert_eq!((reply.status, reply.body.len()), (status, 0));
    }
}

#[test]
fn the_bearer_key_is_taken_to_the_letter_before_the_path_is_looked_at() {
    let site = Site::start();
    let mut client = site.client();
    let good = bearer().1;
    for target in
        [format!("/v1/tunnels/{TUNNEL}"), "/v1/tunnels/short/poll".to_owned(), "/v1/tunnels/x/y".to_owned()]
    {
        for bad in
            ["", "Bearer wrong", "test-key", &format!("{good} extra"), "Basic test-key", "bearer test-key"]
        {
            let reply = client.call("GET", &target, &[("Authorization", bad)], None);
            assert_eq!((reply.status, reply.code().as_str()), (401, ""), "{target} {bad:?}");
            assert_eq!(reply.json()["error"]["type"], "authentication_error");
            assert_eq!(reply.header("Cache-Control"), Some("no-store"));
        }
        assert_eq!(client.call("GET", &target, &[], None).status, 401);
    }
    let reply = client.call("GET", &format!("/v1/tunnels/{TUNNEL}"), &[("Authorization", &good)], None);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["id"], TUNNEL);
    assert_eq!(reply.json()["name"], "local tunnel-client dev proxy");
    assert!(reply.json()["description"].is_string());
    for (method, target, status, code) in [
        ("GET", "/v1/tunnels/short/poll".to_owned(), 400, "invalid_tunnel_id_format"),
        (
            "GET",
            "/v1/tunnels/tunnel_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz/poll".to_owned(),
            401,
            "tunnel_use_forbidden",
        ),
        (
            "GET",
            "/v1/tunnels/tunnel_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz".to_owned(),
            403,
            "tunnel_use_forbidden",
        ),
        ("POST", format!("/v1/tunnels/{TUNNEL}/poll"), 405, ""),
        ("GET", format!("/v1/tunnels/{TUNNEL}/response"), 405, ""),
        ("GET", format!("/v1/tunnels/{TUNNEL}/cloudflare/runtime"), 404, ""),
        ("GET", format!("/v1/tunnels/{TUNNEL}/other"), 404, ""),
    ] {
        let reply = client.call(method, &target, &[("Authorization", &good)], None);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{method} {target}");
    }
}

#[test]
fn a_response_that_is_too_large_ends_the_call_with_502() {
    let site = Site::with(|options| options.response_bytes = 1 << 20);
    site.connect();
    let mut caller = site.caller();
    send_call(&mut caller, "application/json", LIST);
    let command = site.command();
    let mut big = result();
    big["resp_json"]["result"] = json!("x".repeat(2 << 20));
    let reply = site.respond(&command, big);
    assert_eq!((reply.status, reply.code().as_str()), (413, "request_body_too_large"));
    let reply = caller.read();
    assert_eq!((reply.status, reply.code().as_str()), (502, "request_body_too_large"));
}

#[test]
fn metadata_is_fetched_through_the_client_and_names_the_public_resource() {
    let site = Site::start();
    site.connect();
    let target = format!("/.well-known/oauth-protected-resource/v1/mcp/{TUNNEL}");
    let mut caller = site.caller();
    let headers = [("Authorization", "Bearer caller"), ("Cookie", "a=b"), ("X-Request-Id", "r")];
    for (code, json, status, text) in [
        (
            200,
            r#"{"resource":"http://inside/mcp","n":1.0}"#,
            200,
            format!(r#"{{"resource":"http://test/v1/mcp/{TUNNEL}","n":1.0}}"#),
        ),
        (0, "null", 200, format!(r#"{{"resource":"http://test/v1/mcp/{TUNNEL}"}}"#)),
        (404, r#"{"error":"none"}"#, 404, r#"{"error":"none"}"#.to_owned()),
        (200, "[1]", 502, String::new()),
    ] {
        caller.send("GET", &target, &headers, None);
        let command = site.command();
        assert_eq!(
            (&command["command_type"], &command["channel"]),
            (&json!("oauth_discovery"), &json!("main"))
        );
        assert_eq!(command["headers"], json!({}));
        assert!(command.get("jsonrpc").is_none());
        let body = format!(
            r#"{{"request_id":{},"channel":"main","resp_type":"oauth_discovery_response","resp_code":{code},
                "resp_json":{json},"resp_headers":{{"Content-Type":["text/html"],"Content-Encoding":["gzip"],"X-Kept":["1"]}}}}"#,
            command["request_id"]
        );
        let (name, value) = bearer();
        let post =
            [(name, value.as_str()), ("X-Tunnel-Shard-Token", command["shard_token"].as_str().unwrap())];
        let posted = site.client().call(
            "POST",
            &format!("/v1/tunnels/{TUNNEL}/response"),
            &post,
            Some(body.as_bytes()),
        );
        assert_eq!(posted.status, 200, "{posted:?}");
        let reply = caller.read();
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.header("Content-Type"), Some("application/json"));
        assert_eq!(reply.header("Cache-Control"), Some("no-store"));
        if status != 502 {
            assert_eq!(reply.text(), text);
            assert_eq!((reply.header("X-Kept"), reply.header("Content-Encoding")), (Some("1"), None));
        }
    }
    for (method, path) in
        [("POST", target.clone()), ("GET", format!("{target}/x")), ("GET", target.replace('0', "z"))]
    {
        assert_eq!(caller.call(method, &path, &[], None).status, 404, "{method} {path}");
    }
}

#[test]
fn deeply_nested_payloads_are_carried_like_any_other() {
    let site = Site::start();
    site.connect();
    let mut caller = site.caller();
    let depth = 500_000;
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{}{}}}"#,
        "[".repeat(depth),
        "]".repeat(depth)
    );
    send_call(&mut caller, "application/json", &body);
    let polled = site.poll("timeout_ms=5000");
    assert!(polled.text().contains(&body));
}
