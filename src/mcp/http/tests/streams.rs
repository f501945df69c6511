//! Answers that are streams of events.

use super::*;

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
        r#"{"jsonrpc":"2.0","id":"s","error":{"code":-32601,"message":"Method not found: sampling/createMessage is not available through this tunnel"}}"#,
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
fn a_server_that_does_not_take_its_answer_does_not_delay_the_call() {
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
    assert_eq!(answered(call(&own(&server).shared())).json, RESULT);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    server.next();
    server.next();
    assert_eq!(server.seen.len(), 0);
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
