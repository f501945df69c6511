//! One request and its reply.

use super::*;

#[test]
fn a_call_leaves_and_its_json_answer_arrives_byte_for_byte() {
    let server = always(reply(
        "201 Created",
        "content-type: Application/JSON; charset=utf-8\r\nMCP-Session-ID: t\r\nX-A: 1\r\nX-A: 2\r\n",
        format!("\n{RESULT}\n"),
    ));
    let answer = answered(call(&own(&server)));
    assert_eq!(answer.json, RESULT);
    assert_eq!(answer.head.status, 201);
    let headers: Vec<_> = answer.head.headers.iter().collect();
    let expected = [("Content-Type", "Application/JSON; charset=utf-8"), ("Mcp-Session-Id", "t")];
    assert_eq!(headers, expected);
    let seen = server.next();
    assert_eq!(seen.line, "POST /mcp HTTP/1.1");
    assert_eq!(seen.body, CALL);
    assert_eq!(seen.get("content-type"), Some("application/json"));
    assert_eq!(seen.get("accept"), Some("application/json, text/event-stream"));
    assert_eq!(seen.get("user-agent"), Some(concat!("tunnel-client-rs/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(seen.get("host"), server.origin.strip_prefix("http://"));
    assert_eq!((seen.get("mcp-session-id"), seen.get("mcp-protocol-version")), (None, None));
}

#[test]
fn the_target_is_the_configured_url_with_its_query() {
    let server = always(json(RESULT));
    let url = server.origin.replace("http://", "http://user:pw@") + "/a%20b/mcp?key=1&x=%2F#fragment";
    answered(call(&binding(&url, &[], &[])));
    let seen = server.next();
    assert_eq!(seen.line, "POST /a%20b/mcp?key=1&x=%2F HTTP/1.1");
    assert_eq!(seen.get("authorization"), Some("Basic dXNlcjpwdw=="));
}

#[test]
fn command_headers_replace_static_ones_and_stay_apart() {
    let server = serve(|_, stream| {
        stream.write_all(&json(RESULT)).unwrap();
        Then::Keep
    });
    let fixed = [("Authorization", "Bearer svc"), ("X-A", "static"), ("Accept", "text/plain")];
    let binding = binding(&format!("{}/mcp", server.origin), &fixed, &[("X-D", "discovery"), ("X-A", "d")]);
    let headers = [
        ("Authorization", "Bearer user"),
        ("X-a", "1"),
        ("x-A", "2"),
        ("Mcp-Session-Id", "s"),
        ("Accept", "application/json"),
        ("User-Agent", "connector/1"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
    ];
    answered(run(&binding, CALL, &headers, PATIENCE).0);
    let seen = server.next();
    assert_eq!(seen.all("authorization"), ["Bearer user"]);
    assert_eq!(seen.all("x-a"), ["1", "2"]);
    assert_eq!(seen.all("mcp-session-id"), ["s"]);
    assert_eq!(seen.all("accept"), ["application/json"]);
    assert_eq!(seen.all("user-agent"), ["connector/1"]);
    assert_eq!((seen.get("x-hop"), seen.get("x-d")), (None, None));
    answered(call(&binding));
    let seen = server.next();
    assert_eq!(seen.all("authorization"), ["Bearer svc"]);
    assert_eq!(seen.all("x-a"), ["static"]);
    assert_eq!(seen.all("accept"), ["application/json, text/event-stream"]);
    assert_eq!(seen.get("mcp-session-id"), None);
}

#[test]
fn a_header_that_cannot_be_sent_fails_the_command_without_contact() {
    let server = always(json(RESULT));
    let (outcome, _) = run(&own(&server), CALL, &[("X-A", "a\nb")], PATIENCE);
    assert_eq!(broken(outcome), ("client_internal/unknown".to_owned(), false));
    assert!(server.seen.is_empty());
}

#[test]
fn a_target_that_cannot_be_reached_is_told_by_its_cause() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = call(&binding(&format!("http://{unused}/mcp"), &[], &[]));
    assert_eq!(broken(refused), ("connect/connection_refused".to_owned(), false));
    let unknown = call(&binding("http://no-such-host.invalid/mcp", &[], &[]));
    assert_eq!(broken(unknown), ("dns/dns".to_owned(), false));
    let closed = call(&own(&serve(|_, _| Then::Close)));
    assert_eq!(broken(closed), ("transport_closed/eof".to_owned(), false));
    let short =
        cut(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{".to_vec());
    assert_eq!(broken(call(&own(&short))), ("transport_closed/unexpected_eof".to_owned(), true));
}

#[test]
fn a_cancelled_exchange_says_so() {
    let (release, held) = bounded::<()>(0);
    let server = serve(move |_, _| {
        let _ = held.recv();
        Then::Close
    });
    let cancel = Cancel::new();
    let target = HttpTarget {
        url: url::Url::parse(&server.origin).unwrap(),
        static_headers: HeaderList::new(),
        discovery_headers: HeaderList::new(),
        max_message_bytes: 1024,
    };
    let binding =
        HttpBinding::new(target, HttpClient::new(&Route::new(Via::Direct, Trust::system()), &cancel));
    let outcome = std::thread::scope(|scope| {
        let run = scope.spawn(|| call(&binding));
        server.next();
        cancel.cancel();
        run.join().unwrap()
    });
    assert_eq!(broken(outcome).0, "client_internal/canceled");
    drop(release);
}

#[test]
fn connections_are_kept_after_every_reply_that_ends() {
    let stream = format!("{}{}", event(&progress(1)), event(RESULT));
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{stream}\r\n",
        stream.len()
    );
    let connections = std::sync::Mutex::new(std::collections::HashSet::new());
    let connections = Arc::new(connections);
    let met = Arc::clone(&connections);
    let server = serve(move |request, connection| {
        met.lock().unwrap().insert(connection.peer_addr().unwrap());
        match request.get("x-kind") {
            Some("json") => connection.write_all(&json(RESULT)).unwrap(),
            Some("note") => connection.write_all(&reply("202 Accepted", "", "dropped")).unwrap(),
            Some("error") => connection.write_all(&reply("500 Oops", "", "text")).unwrap(),
            _ => {
                connection.write_all(chunked.as_bytes()).unwrap();
                connection.write_all(b"0\r\n\r\n").unwrap();
            }
        }
        Then::Keep
    });
    let binding = own(&server);
    for kind in ["json", "stream", "error", "stream", "json"] {
        run(&binding, CALL, &[("X-Kind", kind)], PATIENCE);
    }
    run(&binding, NOTE, &[("X-Kind", "note")], PATIENCE);
    answered(run(&binding, CALL, &[("X-Kind", "json")], PATIENCE).0);
    assert_eq!(connections.lock().unwrap().len(), 1);
}

#[test]
fn a_compressed_answer_is_read_whatever_the_command_accepts() {
    // `{"jsonrpc":"2.0","id":"c1","result":{}}`, by gzip.
    const GZIP: [u8; 56] = [
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 202, 42, 206, 207, 43, 42, 72, 86, 178, 82, 50, 210, 51,
        80, 210, 81, 202, 76, 1, 50, 147, 13, 129, 172, 162, 212, 226, 210, 156, 18, 37, 171, 234, 218, 90,
        0, 147, 64, 35, 249, 39, 0, 0, 0,
    ];
    let server =
        always(reply("200 OK", "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", GZIP));
    let answer = answered(run(&own(&server), CALL, &[("Accept-Encoding", "br")], PATIENCE).0);
    assert_eq!(answer.json, r#"{"jsonrpc":"2.0","id":"c1","result":{}}"#);
    assert_ne!(server.next().get("accept-encoding"), Some("br"));
}

#[test]
fn a_notification_is_accepted_with_any_2xx_and_its_body_is_dropped() {
    for (status, body) in [("202 Accepted", ""), ("204 No Content", ""), ("200 OK", "whatever")] {
        let server = always(reply(status, "Mcp-Session-Id: s\r\n", body));
        let (outcome, _) = run(&own(&server), NOTE, &[], PATIENCE);
        let Outcome::Accepted(head) = outcome else { panic!("{outcome:?}") };
        assert_eq!(Some(head.status), status[..3].parse().ok());
        assert_eq!(head.headers.get("mcp-session-id"), Some("s"));
        let seen = server.next();
        assert_eq!(seen.body, NOTE);
        assert_eq!(seen.get("accept"), Some("application/json, text/event-stream"));
    }
}

#[test]
fn a_notification_whose_reply_never_ends_is_accepted_at_once() {
    let (release, held) = bounded::<()>(0);
    let server = serve(move |_, stream| {
        stream.write_all(STREAM.as_bytes()).unwrap();
        let _ = held.recv();
        Then::Close
    });
    let started = Instant::now();
    let (outcome, _) = run(&own(&server), NOTE, &[], PATIENCE);
    assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
    assert!(started.elapsed() < PATIENCE / 4);
    drop(release);
}

#[test]
fn a_json_body_that_is_not_the_response_is_a_protocol_violation() {
    for body in [
        "",
        "no json",
        "[]",
        &format!("[{RESULT}]"),
        r#"{"jsonrpc":"2.0","id":"c2","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
        r#"{"jsonrpc":"1.0","id":"c1","result":{}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#,
        r#"{"jsonrpc":"2.0","id":"c1","method":"ping"}"#,
        &format!("{RESULT}{RESULT}"),
    ] {
        let server = always(json(body));
        let violation = ("protocol/invalid_protocol_response".to_owned(), true);
        assert_eq!(broken(call(&own(&server))), violation, "{body}");
    }
    let mut broken_text = br#"{"jsonrpc":"2.0","id":"c1","result":""#.to_vec();
    broken_text.extend_from_slice(b"\xff\"}");
    let server = always(reply("200 OK", "Content-Type: application/json\r\n", broken_text));
    assert_eq!(broken(call(&own(&server))).0, "protocol/invalid_protocol_response");
}

#[test]
fn a_body_beyond_the_limit_is_a_protocol_violation() {
    let long = format!(r#"{{"jsonrpc":"2.0","id":"c1","result":"{}"}}"#, "x".repeat(256 * 1024));
    let server = always(json(&long));
    assert_eq!(broken(call(&own(&server))).0, "protocol/invalid_protocol_response");
    let server = always(format!("{STREAM}data: {long}\n\n").into_bytes());
    assert_eq!(broken(call(&own(&server))).0, "protocol/invalid_protocol_response");
}

#[test]
fn a_2xx_of_another_type_is_a_protocol_violation() {
    for bytes in [
        reply("202 Accepted", "", ""),
        reply("200 OK", "Content-Type: text/html\r\n", RESULT),
        reply("200 OK", "Content-Type: application/json-seq\r\n", RESULT),
        b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
    ] {
        let server = always(bytes);
        assert_eq!(broken(call(&own(&server))).0, "protocol/invalid_protocol_response");
    }
}

#[test]
fn a_json_rpc_error_under_2xx_is_an_ordinary_answer() {
    let error = r#"{"jsonrpc":"2.0","id":"c1","error":{"code":-32001,"message":"m","data":{"x":1}}}"#;
    assert_eq!(answered(call(&own(&always(json(error))))).json, error);
}

#[test]
fn an_mcp_error_outside_2xx_is_kept_byte_for_byte() {
    let error = r#"{"jsonrpc":"2.0","id":"c1","error":{"code":-32003,"message":"m"},"extra":1.0}"#;
    for status in ["400 Bad Request", "404 Not Found", "500 Oops"] {
        let server =
            always(reply(status, "Content-Type: text/plain\r\nWWW-Authenticate: Bearer x\r\n", error));
        let answer = answered(call(&own(&server)));
        assert_eq!(answer.json, error);
        assert_eq!(Some(answer.head.status), status[..3].parse().ok());
        assert_eq!(answer.head.headers.get("Www-Authenticate"), Some("Bearer x"));
    }
}

#[test]
fn an_error_body_is_kept_up_to_its_limit() {
    let error = |length: usize| {
        let frame = r#"{"jsonrpc":"2.0","id":"c1","error":{"code":1,"message":""}}"#;
        frame.replace(r#""""#, &format!("\"{}\"", "x".repeat(length - frame.len())))
    };
    let server = always(reply("500 Oops", "", error(102_400)));
    assert_eq!(answered(call(&own(&server))).json.len(), 102_400);
    let server = always(reply("500 Oops", "", error(102_401)));
    assert_eq!(rejected(call(&own(&server))).1, "response_body_too_large");
}

#[test]
fn other_replies_outside_2xx_are_rejections_with_their_head() {
    for (status, body, kind) in [
        ("503 Service Unavailable", "<html>busy</html>", "malformed_json"),
        ("500 Internal Server Error", "", "response_body_missing"),
        (
            "400 Bad Request",
            r#"{"jsonrpc":"2.0","id":"c2","error":{"code":1,"message":"m"}}"#,
            "invalid_mcp_error",
        ),
        ("520 Odd", "{}", "invalid_mcp_error"),
        ("302 Found", "", "response_body_missing"),
    ] {
        let server = always(reply(status, "WWW-Authenticate: Bearer x\r\n", body));
        let (head, seen) = rejected(call(&own(&server)));
        assert_eq!((Some(head.status), seen), (status[..3].parse().ok(), kind));
        assert_eq!(head.headers.get("www-authenticate"), Some("Bearer x"));
    }
    let server = always(reply("500 Oops", "", r#"{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}"#));
    let (outcome, _) = run(&own(&server), NOTE, &[], PATIENCE);
    assert_eq!(rejected(outcome).1, "invalid_mcp_error");
    let server = cut(b"HTTP/1.1 500 Oops\r\nContent-Length: 50\r\n\r\nshort".to_vec());
    assert_eq!(rejected(call(&own(&server))).1, "response_body_unreadable");
}

#[test]
fn an_exchange_whose_deadline_passes_expires_whatever_it_waits_for() {
    for first in [
        "",
        STREAM,
        "HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\n1234",
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n1234",
    ] {
        let (release, held) = bounded::<()>(0);
        let server = serve(move |_, stream| {
            stream.write_all(first.as_bytes()).unwrap();
            let _ = held.recv();
            Then::Close
        });
        let started = Instant::now();
        let (outcome, _) = run(&own(&server), CALL, &[], Duration::from_millis(300));
        assert!(matches!(outcome, Outcome::Expired), "{first:?}: {outcome:?}");
        assert!(started.elapsed() < PATIENCE / 4, "{first:?}");
        drop(release);
    }
}
