//! What a call sends, and what comes back.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use super::rig::{Reply, Site, base, body_of, echo, target, text_of};
use crate::common::eventually;
use crate::common::mcp_server::{McpServer, Next};

#[test]
fn status_headers_and_body_come_back_whatever_the_status() {
    let server = target(|request| match request.path.as_str() {
        "/missing" => {
            Reply { status: 404, ..Reply::ok("no such thing") }.with("x-two", "a").with("X-Two", "b")
        }
        "/binary" => Reply::ok(vec![0, 255, 254, 10]).with("content-type", "Application/Octet-Stream; x=y"),
        "/none" => Reply::ok(""),
        _ => Reply { status: 666, ..Reply::ok("") },
    });
    let url = |path: &str| format!("{}{path}", base(&server));
    let site = Site::start(
        &[
            ("abc", &url("/missing")),
            ("bin", &url("/binary")),
            ("none", &url("/none")),
            ("odd", &url("/odd")),
        ],
        &[],
    );
    let missing = site.call(json!({"label": "abc", "method": "GET"}));
    assert_eq!(missing["status_code"], 404);
    assert_eq!(missing["headers"]["X-Two"], json!(["a", "b"]));
    assert_eq!((&missing["body_size_bytes"], &missing["truncated"]), (&json!(13), &json!(false)));
    assert_eq!(text_of(&missing), "no such thing");
    assert_eq!(body_of(&site.call(json!({"label": "bin", "method": "GET"}))), [0, 255, 254, 10]);
    let none = site.tool("call_target", json!({"label": "none", "method": "GET"}))["result"].clone();
    assert_eq!(none["structuredContent"]["body_base64"], "");
    let text = none["content"][0]["text"].as_str().unwrap();
    assert_eq!(text, r#"{"status_code":200,"headers":{"Content-Length":["0"]},"body_size_bytes":0}"#);
    assert_eq!(
        site.failure(json!({"label": "odd", "method": "GET"})),
        "label odd: unsupported response status"
    );
}

#[test]
fn a_request_is_exactly_what_was_asked_for() {
    let server = echo();
    let url = format!("{}/a%2Fb//c?x=a+b&y=%20", base(&server)).replace("http://", "http://us%20er:p%40ss@");
    let with_fragment = format!("{url}#part");
    let site = Site::start(&[("abc", &with_fragment), ("q", &format!("{}?only", base(&server)))], &[]);
    let result = site.call(json!({"label": "abc", "method": "GET"}));
    assert_eq!(text_of(&result), "GET /a%2Fb//c?x=a+b&y=%20 ");
    site.call(json!({"label": "abc", "method": "POST"}));
    site.call(json!({"label": "abc", "method": "PUT", "body": "é", "headers": {
        "authorization": "Bearer mine", "Content-Type": "text/plain"}}));
    site.call(json!({"label": "q", "method": "GET", "body": "q"}));
    let seen = server.seen();
    let agent = format!("tunnel-client-rs/{}", env!("CARGO_PKG_VERSION"));
    let mut names: Vec<_> = seen[0].headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    names.sort();
    assert_eq!(names, ["accept-encoding", "authorization", "host", "user-agent"]);
    assert_eq!(seen[0].header("User-Agent"), Some(agent.as_str()));
    assert_eq!(seen[0].header("Accept-Encoding"), Some("gzip"));
    assert_eq!(seen[0].header("Authorization"), Some("Basic dXMgZXI6cEBzcw=="));
    assert_eq!((seen[1].method.as_str(), seen[1].header("Content-Length")), ("POST", Some("0")));
    assert_eq!(seen[2].header("Authorization"), Some("Bearer mine"), "the caller's own wins");
    assert_eq!((seen[2].header("Content-Length"), seen[2].text().as_str()), (Some("2"), "é"));
    assert_eq!((seen[3].path.as_str(), seen[3].text().as_str()), ("/?only", "q"), "a GET may have a body");
}

#[test]
fn headers_that_identify_frame_or_route_never_reach_a_target() {
    let server = echo();
    let site = Site::start(&[("abc", &base(&server))], &[]);
    site.call(json!({"label": "abc", "method": "GET", "headers": {
        "Connection": "Authorization, X-API-Key", "Authorization": "Bearer secret-1", "X-API-Key": "secret-2",
        "Cookie": "secret-3", "Host": "evil.example", "X-Forwarded-For": "10.0.0.1", "User-Agent": "evil",
        "X-Safe": "1", "Transfer-Encoding": "chunked", "TE": "trailers", "X-Real-IP": "10.0.0.1",
        "Accept-Encoding": "br", "Content-Length": "99", "Upgrade": "h2c"}}));
    let seen = &server.seen()[0];
    let mut names: Vec<_> = seen.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    names.sort();
    assert_eq!(names, ["accept-encoding", "host", "user-agent", "x-safe"]);
    assert_eq!(seen.header("Host"), Some(crate::common::address(&base(&server))));
    let dropped = &site.events("headers dropped")[0];
    assert_eq!(dropped["dropped_header_count"], 13);
    let classes = json!(["custom", "not-forwardable", "sensitive-name", "user-agent"]);
    assert_eq!(dropped["dropped_header_classifications"], classes);
    let output = site.client.output();
    for secret in ["secret-1", "secret-2", "secret-3"] {
        assert!(!output.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn limits_are_errors_and_never_cut_a_body() {
    let server = target(|_| Reply::ok("x".repeat(20)));
    let site = Site::start(&[("abc", &base(&server))], &["--harpoon.max-response-bytes", "19"]);
    let large = "label abc: response exceeds size limit";
    assert_eq!(site.failure(json!({"label": "abc", "method": "GET"})), large);
    let body = "y".repeat(20);
    let refused = site.failure(json!({"label": "abc", "method": "POST", "body": body}));
    assert_eq!(refused, "label abc: request body exceeds size limit");
    assert_eq!(server.seen().len(), 1, "nothing was sent");
    let exact = Site::start(&[("abc", &base(&server))], &["--harpoon.max-response-bytes", "20"]);
    assert_eq!(exact.call(json!({"label": "abc", "method": "GET"}))["body_size_bytes"], 20);
    let own = json!({"label": "abc", "method": "GET", "max_response_bytes": 5});
    assert_eq!(exact.failure(own), large);
    let small_reply_large_body =
        json!({"label": "abc", "method": "POST", "body": body, "max_response_bytes": 20});
    exact.call(small_reply_large_body);
    let metrics = site.metrics();
    let line = |outcome: &str| {
        metrics.lines().any(|line| line.starts_with("harpoon_call_total{") && line.contains(outcome))
    };
    assert!(
        line(r#"label="abc""#)
            && line(r#"outcome="response_too_large""#)
            && line(r#"outcome="invalid_input""#)
    );
    assert_eq!(site.api("harpoon/calls")["calls"][0]["error"], "response exceeds size limit");
}

#[test]
fn compressed_replies_are_decoded_and_limited_by_what_they_become() {
    // `gzip` of 1000 times "a".
    const GZIP: [u8; 29] = [
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 75, 76, 28, 5, 163, 96, 20, 12, 119, 0, 0, 3, 218, 56, 154, 232, 3,
        0, 0,
    ];
    let server = target(|_| Reply::ok(GZIP).with("Content-Encoding", "gzip"));
    let site = Site::start(&[("abc", &base(&server))], &[]);
    let result = site.call(json!({"label": "abc", "method": "GET"}));
    assert_eq!((result["body_size_bytes"].as_u64(), text_of(&result)), (Some(1000), "a".repeat(1000)));
    assert_eq!(result["headers"], json!({}));
    let small = json!({"label": "abc", "method": "GET", "max_response_bytes": 999});
    assert_eq!(site.failure(small), "label abc: response exceeds size limit");
}

#[test]
fn slow_and_broken_targets_end_in_errors() {
    let server = McpServer::scripted(|request, stream| match request.path.as_str() {
        "/stall" => {
            std::thread::park_timeout(Duration::from_secs(60));
            Next::Close
        }
        "/half" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
            std::thread::park_timeout(Duration::from_secs(60));
            Next::Close
        }
        "/cut" => {
            let _ = stream.write_all(b"HTTP/1.1 201 OK\r\nContent-Length: 9\r\n\r\nhalf");
            Next::Close
        }
        "/garbage" => {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9\r\n");
            Next::Close
        }
        "/split" => {
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nBad Name: 2\r\nContent-Length: 0\r\n\r\n");
            Next::Close
        }
        _ => Next::Close,
    });
    let url = |path: &str| format!("{}{path}", base(&server));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let site = Site::start(
        &[
            ("stall", &url("/stall")),
            ("half", &url("/half")),
            ("cut", &url("/cut")),
            ("garbage", &url("/garbage")),
            ("split", &url("/split")),
            ("close", &url("/close")),
            ("nobody", &format!("http://{nobody}/secret-path")),
            ("name", "http://no-such-host.invalid/secret-path"),
        ],
        &[],
    );
    let failure = |label: &str| site.failure(json!({"label": label, "method": "GET", "timeout_ms": 300}));
    assert_eq!(failure("stall"), "label stall: request timed out");
    assert_eq!(failure("half"), "label half: response read failed");
    assert_eq!(failure("cut"), "label cut: response read failed");
    for label in ["garbage", "split", "close", "nobody"] {
        assert_eq!(failure(label), format!("label {label}: request failed"));
    }
    let name = site.failure(json!({"label": "name", "method": "GET"}));
    assert_eq!(name, "label name: request failed");
    let recorded = site.api("harpoon/calls");
    let errors: Vec<_> =
        recorded["calls"].as_array().unwrap().iter().map(|call| call["error"].clone()).collect();
    assert_eq!(errors[0], "request failed");
    assert_eq!(errors[7], "timeout");
    let cut = &recorded["calls"][5];
    assert_eq!((&cut["status"], &cut["resp_bytes"]), (&json!(201), &json!(4)));
    let metrics = site.metrics();
    let counted = |parts: &[&str]| {
        metrics
            .lines()
            .any(|line| line.starts_with("harpoon_call_total{") && parts.iter().all(|p| line.contains(p)))
    };
    assert!(counted(&[r#"label="cut""#, r#"status_class="2xx""#, r#"outcome="response_read_error""#]));
    assert!(counted(&[r#"label="stall""#, r#"status_class="none""#, r#"outcome="request_error""#]));
    assert!(!site.client.output().contains("secret-path"), "no path is logged");
}

#[test]
fn a_slow_call_delays_no_other_and_is_cut_when_it_is_cancelled_or_its_time_is_over() {
    let gone = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&gone);
    let server = McpServer::scripted(move |request, stream| {
        if request.path == "/fast" {
            let _ = stream.write_all(&crate::common::http::reply(200, &[], "fast"));
            return Next::KeepAlive;
        }
        // Ends when the client closes its connection.
        let _ = std::io::Read::read(stream, &mut [0]);
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Next::Close
    });
    let url = |path: &str| format!("{}{path}", base(&server));
    let site = Site::start(
        &[("slow", &url("/slow")), ("fast", &url("/fast"))],
        &["--mcp.connection-max-ttl", "500ms"],
    );
    let slow = json!({"name": "call_target", "arguments": {"label": "slow", "method": "GET"}});
    let cancelled = site.send("tools/call", slow.clone(), "");
    eventually("the slow call has arrived", || server.seen().len() == 1);
    assert_eq!(text_of(&site.call(json!({"label": "fast", "method": "GET"}))), "fast");
    let number = cancelled.trim_start_matches('r');
    let cancel = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number}}}}}"#
    );
    site.plane.send(&[crate::common::control_plane::message("c", &cancel, r#","channel":"harpoon""#)]);
    let answer = site.answer(&cancelled);
    assert_eq!(super::rig::failure_of(&answer["resp_json"]), "label slow: request failed");
    eventually("its request is cut", || gone.load(std::sync::atomic::Ordering::SeqCst) == 1);

    for round in 0..2 {
        let ttl = site.send("tools/call", slow.clone(), "");
        let deadline = site.send("tools/call", slow.clone(), r#","response_timeout":"200ms""#);
        let answer = site.answer(&ttl);
        assert_eq!(answer["resp_code"], 504, "{answer}");
        let cut = 1 + 2 * (round + 1);
        eventually("both requests are cut", || gone.load(std::sync::atomic::Ordering::SeqCst) == cut);
        let again = site.rpc("initialize", json!({"protocolVersion": "2025-06-18"}));
        assert!(again["result"].is_object());
        assert!(site.plane.responses_to(&deadline).is_empty(), "silence after the command's own deadline");
    }
}

#[test]
fn urls_of_targets_come_back_as_labels() {
    let server = target(|request| {
        let host = request.header("Host").unwrap();
        let base = format!("http://{host}");
        let json = format!(
            r#"{{"issuer":"{base}", "token_endpoint":"{base}/token","registration_endpoint":"{base}/register","n":12345678901234567890,"authorization_endpoint":"{base}/authorize"}}"#
        );
        match request.path.as_str() {
            "/meta" => Reply::ok(json).with("Link", &format!("<{base}/token>; rel=\"x\", <{base}/y>")),
            _ => Reply::ok(r#"{"a" : 1}"#),
        }
    });
    let url = |path: &str| format!("{}{path}", base(&server));
    let site = Site::start(
        &[("meta", &url("/meta")), ("tok", &url("/token")), ("reg", &url("/register"))],
        &["--harpoon.capture-payloads"],
    );
    let result = site.call(json!({"label": "meta", "method": "GET"}));
    let base = base(&server);
    let expected = format!(
        r#"{{"issuer":"{base}", "token_endpoint":"harpoon://tok","registration_endpoint":"harpoon://reg","n":12345678901234567890,"authorization_endpoint":"{base}/authorize"}}"#
    );
    assert_eq!(text_of(&result), expected);
    assert_eq!(result["body_size_bytes"], expected.len());
    assert_eq!(result["headers"]["Content-Length"], json!([expected.len().to_string()]));
    assert_eq!(result["headers"]["Link"], json!([format!("<harpoon://tok>; rel=\"x\", <{base}/y>")]));
    assert_eq!(text_of(&site.call(json!({"label": "tok", "method": "GET"}))), r#"{"a" : 1}"#);
    let call = &site.api("harpoon/calls?label=meta")["calls"][0];
    assert_eq!(call["body_is_base64"], false);
    assert!(call["response_body"].as_str().unwrap().contains("/token"));
    assert!(call["response_body_transformed"].as_str().unwrap().contains("harpoon://tok"));
}
