use std::io::Write;
use std::net::TcpListener;
use std::time::Instant;

use crossbeam_channel::unbounded;

use super::*;
use crate::mcp::http::HttpTarget;
use crate::mcp::scripted::{PATIENCE, Scripted, Then, reply, serve, serve_on};
use crate::net::{HttpClient, Route, Trust, Via};

fn binding(origin: &str, cancel: &Cancel) -> HttpBinding {
    let target = HttpTarget {
        url: url::Url::parse(&origin.replace("http://", "http://user:hidden@"))
            .unwrap()
            .join("/secret?key=hidden")
            .unwrap(),
        static_headers: [("X-A", "static"), ("X-S", "1")].into_iter().collect(),
        discovery_headers: [("X-A", "discovery")].into_iter().collect(),
        max_message_bytes: 1 << 20,
    };
    HttpBinding::new(target, HttpClient::new(&Route::new(Via::Direct, Trust::system()), cancel))
}

fn probe(server: &Scripted) -> ProbeResult {
    let result = run_once(&binding(&server.origin, &Cancel::new()), &mut |_| {}).unwrap();
    assert!(!format!("{result:?}").contains("hidden"), "{result:?}");
    result
}

fn initialized(headers: &str) -> Vec<u8> {
    let json = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-03-26","serverInfo":{"name":"demo","version":"1"}}}"#;
    reply("200 OK", &format!("Content-Type: application/json\r\n{headers}"), json)
}

/// A server that answers `initialize` with the given bytes, and everything else with a status.
fn server(first: Vec<u8>, others: &'static str) -> Scripted {
    serve(move |request, stream| {
        let bytes =
            if request.body.contains("\"initialize\"") { first.clone() } else { reply(others, "", "") };
        stream.write_all(&bytes).unwrap();
        Then::Keep
    })
}

#[test]
fn a_healthy_server_sees_the_handshake_and_then_the_end_of_its_session() {
    for others in ["202 Accepted", "401 Unauthorized", "500 Oops"] {
        let server = server(initialized("Mcp-Session-Id: s1\r\n"), others);
        let expected = ServerInfo {
            protocol_version: "2025-03-26".to_owned(),
            name: "demo".to_owned(),
            version: "1".to_owned(),
            supported_versions: Box::default(),
            modern: false,
        };
        assert_eq!(probe(&server), ProbeResult::Ready(expected));
        let first = server.next();
        assert_eq!(first.line, "POST /secret?key=hidden HTTP/1.1");
        assert!(first.body.contains(r#""clientInfo":{"name":"tunnel-client","version":""#), "{}", first.body);
        assert!(first.body.contains(r#""protocolVersion":"2025-06-18""#), "{}", first.body);
        assert_eq!((first.get("mcp-session-id"), first.get("mcp-protocol-version")), (None, None));
        let (second, third) = (server.next(), server.next());
        assert_eq!(second.body, r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":{}}"#);
        assert_eq!(third.line, "DELETE /secret?key=hidden HTTP/1.1");
        for seen in [&second, &third] {
            assert_eq!(seen.get("mcp-session-id"), Some("s1"));
            assert_eq!(seen.get("mcp-protocol-version"), Some("2025-03-26"));
        }
        for seen in [first, second, third] {
            assert_eq!((seen.get("x-a"), seen.get("x-s")), (Some("discovery"), Some("1")));
        }
        assert!(server.seen.is_empty());
    }
}

#[test]
fn a_status_without_handshake_is_told_apart_by_the_reply_to_initialize_alone() {
    for (status, expected, requests) in [
        ("401 Unauthorized", "auth-required", 1),
        ("403 Forbidden", "failed", 1),
        ("500 Oops", "failed", 1),
        ("404 Not Found", "failed", 2),
    ] {
        let server = server(reply(status, "", "no"), "204 No Content");
        let result = probe(&server);
        assert_eq!(result.status(), expected, "{result:?}");
        assert!(result.error().unwrap().contains(&status[..3]), "{result:?}");
        assert_eq!(server.seen.len(), requests, "{status}");
        assert!(server.seen.try_iter().all(|seen| seen.line.starts_with("POST ")));
    }
}

#[test]
fn a_server_without_handshake_is_discovered() {
    let server = serve(|request, stream| {
        let bytes = if request.body.contains("\"initialize\"") {
            let refusal = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"m","data":{"supported":["2026-07-28"]}}}"#;
            reply("400 Bad Request", "", refusal)
        } else {
            let result = r#"{"jsonrpc":"2.0","id":"tc-probe-1","result":{"supportedVersions":["2026-07-28"],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"new"}}}}"#;
            reply("200 OK", "Content-Type: application/json\r\n", result)
        };
        stream.write_all(&bytes).unwrap();
        Then::Keep
    });
    let ProbeResult::Ready(info) = probe(&server) else { panic!("not ready") };
    assert_eq!(
        (info.protocol_version.as_str(), info.name.as_str(), info.modern),
        ("2026-07-28", "new", true)
    );
    server.next();
    let seen = server.next();
    assert_eq!(seen.get("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!(seen.get("mcp-method"), Some("server/discover"));
    assert!(server.seen.is_empty(), "no session was opened, so none is closed");
}

#[test]
fn a_silent_server_is_timed_out_after_two_seconds() {
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let server = serve(move |_, _| {
        let _ = held.recv();
        Then::Close
    });
    let started = Instant::now();
    let result = probe(&server);
    assert!(started.elapsed() >= BUDGET - Duration::from_millis(20) && started.elapsed() < PATIENCE);
    let ProbeResult::TimedOut(text) = result else { panic!("{result:?}") };
    assert_eq!(text, format!("mcp probe timed out after 2s: no answer to initialize from {}", server.origin));
    drop(release);
}

#[test]
fn a_startup_wait_is_settled_by_any_reply_and_a_failed_probe_recovers() {
    let (sender, results) = unbounded();
    let broken = std::sync::atomic::AtomicBool::new(true);
    let server = serve(move |request, stream| {
        let fails = request.body.contains("\"initialize\"")
            && broken.swap(false, std::sync::atomic::Ordering::SeqCst);
        let bytes = match (fails, request.line.starts_with("DELETE")) {
            (true, _) => reply("503 Service Unavailable", "", ""),
            (_, true) => reply("204 No Content", "", ""),
            _ => initialized(""),
        };
        stream.write_all(&bytes).unwrap();
        Then::Keep
    });
    let cancel = Cancel::new();
    let binding = binding(&server.origin, &cancel);
    run(&binding, Duration::from_secs(30), &cancel, &mut |result| sender.send(result.status()).unwrap());
    assert_eq!(results.try_iter().collect::<Vec<_>>(), ["failed", "ok"]);
}

#[test]
fn a_startup_wait_goes_on_until_somebody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let cancel = Cancel::new();
    let binding = binding(&format!("http://{address}"), &cancel);
    let started = Instant::now();
    let result = std::thread::scope(|scope| {
        let wait = scope.spawn(|| wait_for_listener(&binding, PATIENCE, &cancel, &mut |_| {}));
        // Nothing can be observed of a refused connection: the wait has to last through some of them.
        assert!(!cancel.wait(Duration::from_millis(300)) && !wait.is_finished());
        let _server = serve_on(TcpListener::bind(address).unwrap(), |_, stream| {
            stream.write_all(&initialized("")).unwrap();
            Then::Keep
        });
        wait.join().unwrap()
    });
    assert!(result.unwrap().is_ready());
    assert!(started.elapsed() < PATIENCE);
}

#[test]
fn a_startup_wait_that_runs_out_says_for_how_long_and_why() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cancel = Cancel::new();
    let binding = binding(&format!("http://{unused}"), &cancel);
    let result = wait_for_listener(&binding, Duration::from_millis(400), &cancel, &mut |_| {}).unwrap();
    let ProbeResult::WaitExhausted(text) = result else { panic!("{result:?}") };
    let cause = format!("initialize got no usable answer from http://{unused}: connection_refused");
    assert_eq!(text, format!("mcp startup wait timed out after 400ms: {cause}"));
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let silent = serve(move |_, _| {
        let _ = held.recv();
        Then::Close
    });
    let binding = super::tests::binding(&silent.origin, &cancel);
    let result = wait_for_listener(&binding, Duration::from_millis(400), &cancel, &mut |_| {}).unwrap();
    let expected = "mcp startup wait timed out after 400ms: deadline exceeded";
    assert_eq!(result, ProbeResult::WaitExhausted(expected.to_owned()));
    drop(release);
}

#[test]
fn a_missing_socket_file_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hidden.sock");
    let cancel = Cancel::new();
    let target = HttpTarget {
        url: url::Url::parse("http://localhost/mcp").unwrap(),
        static_headers: HeaderList::new(),
        discovery_headers: HeaderList::new(),
        max_message_bytes: 1024,
    };
    let route = Route::new(Via::Unix(path), Trust::system());
    let binding = HttpBinding::new(target, HttpClient::new(&route, &cancel));
    let result = wait_for_listener(&binding, Duration::from_millis(300), &cancel, &mut |_| {}).unwrap();
    let ProbeResult::WaitExhausted(text) = result else { panic!("{result:?}") };
    assert!(text.contains("http://localhost: dial") && !text.contains("hidden"), "{text}");
}

#[test]
fn without_a_startup_wait_a_missing_listener_is_a_failure() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cancel = Cancel::new();
    let result = run_once(&binding(&format!("http://{unused}"), &cancel), &mut |_| {}).unwrap();
    let ProbeResult::Failed(text) = result else { panic!("{result:?}") };
    assert!(text.ends_with("connection_refused"), "{text}");
}

#[test]
fn a_stopping_client_ends_the_wait_without_a_result() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let binding = binding(&format!("http://{unused}"), &cancel);
    let started = Instant::now();
    let mut reported = 0;
    run(&binding, Duration::from_secs(60), &cancel, &mut |result| {
        assert!(!result.is_ready());
        reported += 1;
    });
    assert!(started.elapsed() < PATIENCE);
    assert!(reported <= 1);
}

#[test]
fn durations_are_spelled_for_operators() {
    for (millis, text) in [
        (0, "0s"),
        (50, "50ms"),
        (1_000, "1s"),
        (1_500, "1.5s"),
        (60_000, "1m0s"),
        (90_250, "1m30.25s"),
        (3_600_000, "1h0m0s"),
    ] {
        assert_eq!(spelled(Duration::from_millis(millis)), text);
    }
}
