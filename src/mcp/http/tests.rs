//! The binding against a scripted server: raw bytes in, raw bytes out.

use std::io::Write;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::*;
use crate::jsonrpc::Message;
use crate::mcp::scripted::{PATIENCE, Scripted, Then, reply, serve};
use crate::net::{Route, Trust, Via};

const CALL: &str =
    r#"{"jsonrpc":"2.0","id":"c1","method":"tools/call","params":{"n":1.10,"big":12345678901234567890}}"#;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const RESULT: &str =
    r#"{"jsonrpc":"2.0","id":"c1","result":{"n":1.10,"big":12345678901234567890,"t":"<é>"}}"#;

fn json(body: &str) -> Vec<u8> {
    reply("200 OK", "Content-Type: application/json\r\n", body)
}

/// Head of a stream that ends with its connection.
const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nMcp-Session-Id: s-9\r\n\r\n";

/// Replies to everything with `bytes`; only a reply with a length keeps its connection.
fn always(bytes: Vec<u8>) -> Scripted {
    let keeps = String::from_utf8_lossy(&bytes).contains("Content-Length");
    serve(move |_, stream| {
        stream.write_all(&bytes).unwrap();
        if keeps { Then::Keep } else { Then::Close }
    })
}

/// Replies with `bytes` and closes.
fn cut(bytes: Vec<u8>) -> Scripted {
    serve(move |_, stream| {
        stream.write_all(&bytes).unwrap();
        Then::Close
    })
}

fn own(server: &Scripted) -> HttpBinding {
    binding(&format!("{}/mcp", server.origin), &[], &[])
}

fn client() -> HttpClient {
    HttpClient::new(&Route::new(Via::Direct, Trust::system()), &Cancel::new())
}

fn binding(url: &str, fixed: &[(&str, &str)], discovery: &[(&str, &str)]) -> HttpBinding {
    let target = HttpTarget {
        url: url::Url::parse(url).unwrap(),
        static_headers: fixed.iter().copied().collect(),
        discovery_headers: discovery.iter().copied().collect(),
        max_message_bytes: 256 * 1024,
    };
    HttpBinding::new(target, client())
}

fn list(pairs: &[(&str, &str)]) -> HeaderList {
    pairs.iter().copied().collect()
}

/// Exchanges `message` and keeps the events.
fn run(
    binding: &HttpBinding,
    message: &str,
    headers: &[(&str, &str)],
    time: Duration,
) -> (Outcome, Vec<String>) {
    let message = Message::parse(message).unwrap();
    let headers = list(headers);
    let mut events = Vec::new();
    let exchange = Exchange { message: &message, headers: &headers, deadline: Deadline::after(time) };
    let outcome = binding.exchange(&exchange, &mut |event| events.push(event.json.to_owned()));
    (outcome, events)
}

fn call(binding: &HttpBinding) -> Outcome {
    run(binding, CALL, &[], PATIENCE).0
}

fn answered(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Answered(answer) => answer,
        other => panic!("not answered: {other:?}"),
    }
}

/// `source/kind` of a broken exchange, and whether a head came.
fn broken(outcome: Outcome) -> (String, bool) {
    match outcome {
        Outcome::Failed(Failure::Broken { head, source, kind }) => {
            (format!("{}/{}", source.label(), kind.label()), head.is_some())
        }
        other => panic!("not broken: {other:?}"),
    }
}

fn rejected(outcome: Outcome) -> (Head, &'static str) {
    match outcome {
        Outcome::Failed(Failure::Rejected { head, kind }) => (head, kind.label()),
        other => panic!("not rejected: {other:?}"),
    }
}

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
    let headers: Vec<_> = answer.head.headers.iter().filter(|(name, _)| *name != "Content-Length").collect();
    let expected = [
        ("Content-Type", "Application/JSON; charset=utf-8"),
        ("Mcp-Session-Id", "t"),
        ("X-A", "1"),
        ("X-A", "2"),
    ];
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

fn event(json: &str) -> String {
    format!("event: message\ndata: {json}\n\n")
}

fn progress(n: u32) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"t","progress":{n}}}}}"#
    )
}

#[test]
fn notifications_arrive_in_order_before_the_answer_and_while_the_stream_is_open() {
    let (met, go) = bounded::<()>(1);
    let server = serve(move |_, stream| {
        let first = format!("{STREAM}: hello\n\nevent: ping\ndata: ping\n\n{}", event(&progress(1)));
        stream.write_all(first.as_bytes()).unwrap();
        // The rest is sent only once the first notification has been met.
        go.recv_timeout(PATIENCE).unwrap();
        let rest = event(&progress(2)) + &event(&progress(3)) + &event(RESULT) + &event("ignored");
        stream.write_all(rest.as_bytes()).unwrap();
        Then::Close
    });
    let message = Message::parse(CALL).unwrap();
    let headers = HeaderList::new();
    let exchange = Exchange { message: &message, headers: &headers, deadline: Deadline::after(PATIENCE) };
    let mut events = Vec::new();
    let outcome = own(&server).exchange(&exchange, &mut |event| {
        assert_eq!(event.head.headers.get("content-type"), Some("text/event-stream"));
        events.push(event.json.to_owned());
        let _ = met.try_send(());
    });
    let answer = answered(outcome);
    assert_eq!(answer.json, RESULT);
    assert_eq!(answer.head.headers.get("mcp-session-id"), Some("s-9"));
    assert_eq!(events, [progress(1), progress(2), progress(3)]);
}

#[test]
fn a_wrong_message_in_a_stream_is_a_protocol_violation_after_what_came_before_it() {
    for bad in ["no json", r#"{"jsonrpc":"2.0","id":"c2","result":{}}"#, "[]", r#"{"jsonrpc":"2.0"}"#] {
        let server = always(format!("{STREAM}id: 1\n{}{}", event(&progress(1)), event(bad)).into_bytes());
        let (outcome, events) = run(&own(&server), CALL, &[], PATIENCE);
        assert_eq!(broken(outcome), ("protocol/invalid_protocol_response".to_owned(), true));
        assert_eq!(events, [progress(1)]);
    }
}

#[test]
fn a_stream_that_ends_early_without_ids_is_a_closed_transport() {
    for stream in [
        format!("{STREAM}{}", event(&progress(1))),
        format!("{STREAM}{}data: {RESULT}", event(&progress(1))),
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n",
            event(&progress(1)).len(),
            event(&progress(1))
        ),
    ] {
        let server = always(stream.into_bytes());
        let (outcome, events) = run(&own(&server), CALL, &[], PATIENCE);
        assert_eq!(broken(outcome), ("transport_closed/eof".to_owned(), true));
        assert_eq!(events, [progress(1)]);
    }
}

#[test]
fn requests_of_the_server_are_answered_and_do_not_end_the_call() {
    let server = serve(|request, stream| {
        if request.body == CALL {
            let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
            let sampling = r#"{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage","params":{}}"#;
            let bytes = [STREAM, &event(ping), &event(sampling), &event(RESULT)].concat();
            stream.write_all(bytes.as_bytes()).unwrap();
        } else {
            stream.write_all(&reply("202 Accepted", "", "")).unwrap();
        }
        if request.body == CALL { Then::Close } else { Then::Keep }
    });
    let headers = [("Authorization", "Bearer user")];
    let (outcome, events) = run(&own(&server), CALL, &headers, PATIENCE);
    assert_eq!(answered(outcome).json, RESULT);
    assert!(events.is_empty());
    server.next();
    for expected in [
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":"s","error":{"code":-32601,"message":"Method not found"}}"#,
    ] {
        let seen = server.next();
        assert_eq!(seen.body, expected);
        assert_eq!(
            (seen.get("mcp-session-id"), seen.get("authorization")),
            (Some("s-9"), Some("Bearer user"))
        );
    }
}

#[test]
fn a_server_that_does_not_take_its_answer_delays_the_call_once_and_briefly() {
    let (release, held) = bounded::<()>(0);
    let server = serve(move |request, stream| {
        if request.body == CALL {
            let requests =
                (1..=20).map(|id| event(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"roots/list"}}"#)));
            let bytes = STREAM.to_owned() + &requests.collect::<String>() + &event(RESULT);
            stream.write_all(bytes.as_bytes()).unwrap();
        } else {
            let _ = held.recv();
        }
        Then::Close
    });
    let started = Instant::now();
    assert_eq!(answered(call(&own(&server))).json, RESULT);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(server.seen.len(), 2);
    drop(release);
}

#[test]
fn a_stream_that_breaks_is_resumed_after_its_last_id() {
    let server = serve(|request, stream| {
        let bytes = match request.get("last-event-id") {
            None | Some("old") => {
                format!("{STREAM}retry: 1\nid: 7\n{}id: 8\ndata: half", event(&progress(1)))
            }
            Some("7") => format!("{STREAM}id: 9\n{}", event(&progress(2))),
            Some(_) => format!("{STREAM}{}", event(RESULT)),
        };
        stream.write_all(bytes.as_bytes()).unwrap();
        Then::Close
    });
    let headers = [("Authorization", "Bearer user"), ("Last-Event-ID", "old")];
    let (outcome, events) = run(&own(&server), CALL, &headers, PATIENCE);
    assert_eq!(answered(outcome).json, RESULT);
    assert_eq!(events, [progress(1), progress(2)]);
    assert_eq!(server.next().line, "POST /mcp HTTP/1.1");
    for id in ["7", "9"] {
        let seen = server.next();
        assert_eq!(seen.line, "GET /mcp HTTP/1.1");
        assert_eq!(seen.all("last-event-id"), [id]);
        assert_eq!(
            (seen.get("mcp-session-id"), seen.get("authorization")),
            (Some("s-9"), Some("Bearer user"))
        );
        assert_eq!(seen.body, "");
    }
}

#[test]
fn a_resumption_that_is_refused_ends_the_call() {
    let server = serve(|request, stream| {
        let first = format!("{STREAM}retry: 1\nid: 7\n\n");
        let refusal = reply("405 Method Not Allowed", "", "");
        let is_post = request.line.starts_with("POST");
        stream.write_all(if is_post { first.as_bytes() } else { &refusal }).unwrap();
        Then::Close
    });
    assert_eq!(broken(call(&own(&server))), ("transport_closed/eof".to_owned(), true));
    assert_eq!(server.seen.len(), 2);
}

#[test]
fn a_wait_before_resuming_ends_at_the_deadline_or_on_cancellation() {
    let stream = || always(format!("{STREAM}retry: 60000\nid: 7\n\n").into_bytes());
    let started = Instant::now();
    let server = stream();
    let (outcome, _) = run(&own(&server), CALL, &[], Duration::from_millis(300));
    assert!(matches!(outcome, Outcome::Expired), "{outcome:?}");
    let cancel = Cancel::new();
    let server = stream();
    let binding = own(&server).with_cancel(&cancel);
    let outcome = std::thread::scope(|scope| {
        let run = scope.spawn(|| call(&binding));
        server.next();
        cancel.cancel();
        run.join().unwrap()
    });
    assert_eq!(broken(outcome).0, "client_internal/canceled");
    assert!(started.elapsed() < PATIENCE);
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

#[test]
fn a_redirect_within_the_origin_repeats_method_body_and_headers() {
    let server = serve(|request, stream| {
        let bytes = if request.line.starts_with("POST /mcp ") {
            reply("307 Temporary Redirect", "Location: /moved?x=1\r\n", "gone")
        } else {
            json(RESULT)
        };
        stream.write_all(&bytes).unwrap();
        Then::Keep
    });
    let binding = binding(&format!("{}/mcp", server.origin), &[("X-Static", "1")], &[]);
    answered(run(&binding, CALL, &[("Authorization", "Bearer user")], PATIENCE).0);
    assert_eq!(server.next().get("x-static"), Some("1"));
    let seen = server.next();
    assert_eq!((seen.line.as_str(), seen.body.as_str()), ("POST /moved?x=1 HTTP/1.1", CALL));
    assert_eq!((seen.get("authorization"), seen.get("x-static")), (Some("Bearer user"), None));
    assert_eq!(seen.get("referer"), None);
}

#[test]
fn a_redirect_to_another_origin_carries_no_credentials() {
    let other = always(json(RESULT));
    let location = format!("Location: {}/mcp\r\n", other.origin);
    let server = always(reply("308 Permanent Redirect", &location, ""));
    let url = server.origin.replace("http://", "http://user:pw@") + "/mcp";
    let binding = binding(&url, &[("X-Static", "1"), ("Authorization", "Bearer svc")], &[]);
    let headers = [("Authorization", "Bearer user"), ("Cookie", "a=b"), ("Mcp-Session-Id", "s")];
    assert_eq!(answered(run(&binding, CALL, &headers, PATIENCE).0).json, RESULT);
    let seen = other.next();
    for name in ["authorization", "cookie", "mcp-session-id", "x-static", "referer"] {
        assert_eq!(seen.get(name), None, "{name}");
    }
    assert_eq!(seen.body, CALL);
}

#[test]
fn a_post_is_never_turned_into_a_get_and_a_chain_has_an_end() {
    for (status, requests) in [("302 Found", 1), ("303 See Other", 1), ("307 Temporary Redirect", 10)] {
        let server = always(reply(status, "Location: /mcp\r\n", ""));
        let (head, _) = rejected(call(&own(&server)));
        assert_eq!(Some(head.status), status[..3].parse().ok());
        assert_eq!(server.seen.len(), requests, "{status}");
    }
}

#[test]
fn a_session_ends_with_one_delete_whose_status_passes_through() {
    for status in ["204 No Content", "405 Method Not Allowed", "404 Not Found", "500 Oops"] {
        let server = always(reply(status, "", ""));
        let binding = binding(&format!("{}/mcp", server.origin), &[("Authorization", "Bearer svc")], &[]);
        let headers = list(&[("Mcp-Session-Id", "s"), ("Authorization", "Bearer user")]);
        let outcome = binding.terminate_session(&headers, Deadline::after(PATIENCE));
        let Outcome::Accepted(head) = outcome else { panic!("{outcome:?}") };
        assert_eq!(Some(head.status), status[..3].parse().ok());
        let seen = server.next();
        assert_eq!(seen.line, "DELETE /mcp HTTP/1.1");
        assert_eq!(seen.all("authorization"), ["Bearer user"]);
        assert_eq!(seen.get("mcp-session-id"), Some("s"));
        assert_eq!((seen.get("content-type"), seen.body.as_str()), (None, ""));
        assert!(server.seen.is_empty());
    }
}

#[test]
fn discovery_stays_in_its_origin_with_the_operators_headers() {
    let server = serve(|request, stream| {
        let bytes = match request.line.as_str() {
            "GET /away HTTP/1.1" => reply("302 Found", "Location: http://127.0.0.1:1/\r\n", ""),
            "GET /near HTTP/1.1" => reply("302 Found", "Location: /there\r\n", ""),
            _ => reply("404 Not Found", "", "{}"),
        };
        stream.write_all(&bytes).unwrap();
        Then::Keep
    });
    let binding = binding(&format!("{}/mcp", server.origin), &[("X-S", "1"), ("X-A", "s")], &[("X-A", "d")]);
    let headers = list(&[("Accept", "application/json")]);
    let request = |path: &str, scope| {
        let url = url::Url::parse(&server.origin).unwrap().join(path).unwrap();
        let deadline = Deadline::after(PATIENCE);
        binding.discovery_request(&DiscoveryRequest {
            method: Method::GET,
            url: &url,
            headers: &headers,
            body: None,
            scope,
            deadline,
        })
    };
    let mut reply = request("/near", DiscoveryScope::Resource).ok().unwrap();
    assert_eq!(reply.head.status, 404);
    assert_eq!(reply.body.read_to_limit(10).unwrap(), b"{}");
    for path in ["/near", "/there"] {
        let seen = server.next();
        assert_eq!(seen.line, format!("GET {path} HTTP/1.1"));
        assert_eq!((seen.get("x-s"), seen.get("x-a")), (Some("1"), Some("d")));
        assert_eq!(seen.get("accept"), Some("application/json"));
    }
    let blocked = request("/away", DiscoveryScope::Resource).err().unwrap();
    assert!(blocked.message.contains("redirect blocked"), "{blocked}");
    server.next();
    request("/there", DiscoveryScope::AuthorizationServer).ok().unwrap();
    let seen = server.next();
    assert_eq!((seen.get("x-s"), seen.get("x-a")), (None, None));
}
