//! The HTTP client over real sockets: keep-alive, framing, deadlines, cancellation.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod net_support;

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use net_support::*;
use tunnel_client::net::{
    Cancel, Cause, Deadline, Error, HeaderMap, HeaderValue, HttpClient, Method, Request, Route, Trust, Via,
};

#[test]
fn head_and_body_leave_in_one_write_and_nothing_is_added_to_the_headers() {
    let server = Server::new(|peer| {
        while let Some(first) = peer.read_once() {
            peer.note(first);
            peer.send(reply("200 OK", "{}"));
        }
    });
    let client = client(&direct());
    let uri = server.url("/a/b?c=d");
    for size in [0, 1024, 20_000] {
        let body = "x".repeat(size);
        let mut request = post(&uri, body.as_bytes());
        request.headers.insert("x-one", HeaderValue::from_static("1"));
        request.headers.insert("content-length", HeaderValue::from_static("7"));
        request.headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        fetch(&client, request).unwrap();
        let seen = server.next_seen();
        let (head, sent) = seen.split_once("\r\n\r\n").unwrap();
        let mut lines: Vec<_> = head.lines().collect();
        lines[1..].sort_unstable();
        let length = format!("content-length: {size}");
        let host = format!("host: {}", server.address);
        assert_eq!(lines, ["POST /a/b?c=d HTTP/1.1", &length, &host, "x-one: 1"]);
        assert_eq!(sent.len(), size, "the body came with the head");
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_request_longer_than_the_buffer_arrives_whole() {
    let server = Server::answering(reply("200 OK", "ok"));
    let client = client(&direct());
    let uri = server.url("/");
    let body = "0123456789".repeat(100_000);
    fetch(&client, post(&uri, body.as_bytes())).unwrap();
    let seen = server.next_seen();
    assert!(seen.split_once("\r\n\r\n").unwrap().1 == body, "the body arrived changed");
}

#[test]
fn a_header_longer_than_the_buffer_is_sent() {
    let server = Server::answering(reply("200 OK", ""));
    let uri = server.url("/");
    let mut request = get(&uri);
    let long = "v".repeat(60_000);
    request.headers.insert("x-long", HeaderValue::from_str(&long).unwrap());
    fetch(&client(&direct()), request).unwrap();
    assert!(server.next_seen().contains(&format!("x-long: {long}\r\n")));
}

#[test]
fn connections_are_kept_however_the_body_was_framed() {
    let replies = [
        reply("200 OK", "hello"),
        reply("202 Accepted", ""),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
            .to_owned(),
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\n!"
            .to_owned(),
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 4\r\n\r\ngone".to_owned(),
    ];
    let count = replies.len();
    let server = Server::new(move |peer| {
        for reply in &replies {
            peer.request();
            peer.send(reply);
        }
        peer.wait_for_end();
    });
    let client = client(&direct());
    let uri = server.url("/");
    let got: Vec<_> = (0..count).map(|_| fetch(&client, get(&uri)).unwrap()).collect();
    let expected = [
        (200, "hello"),
        (202, ""),
        (204, ""),
        (304, ""),
        (200, "abcde"),
        (500, "!"),
        (200, "ok"),
        (302, "gone"),
    ];
    assert_eq!(got, expected.map(|(status, body)| (status, body.to_owned())));
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_drained_body_keeps_the_connection_and_an_unread_one_does_not() {
    let server = Server::answering(reply("200 OK", &"x".repeat(50_000)));
    let client = client(&direct());
    let uri = server.url("/");
    client.send(get(&uri)).unwrap().body.drain(50_000);
    client.send(get(&uri)).unwrap().body.drain(49_999);
    client.send(get(&uri)).unwrap();
    fetch(&client, get(&uri)).unwrap();
    assert_eq!(server.accepted(), 3);
}

#[test]
fn a_connection_closed_while_idle_is_replaced_without_a_failure() {
    let server = Server::new(|peer| {
        peer.request();
        peer.send(reply("200 OK", "once"));
        let _ = peer.stream.shutdown(std::net::Shutdown::Both);
        peer.note("closed");
    });
    let client = client(&direct());
    let uri = server.url("/");
    for _ in 0..3 {
        assert_eq!(fetch(&client, post(&uri, b"x")).unwrap(), (200, "once".into()));
        while server.next_seen() != "closed" {}
    }
    assert_eq!(server.accepted(), 3);
}

#[test]
fn a_get_whose_kept_connection_is_closed_before_a_reply_is_sent_again_once_and_a_post_is_not() {
    // The second request of a connection is read, and its connection closed.
    let server = Server::new(|peer| {
        if peer.request().is_some() {
            peer.send(reply("200 OK", "first"));
            let _ = peer.request();
        }
    });
    let uri = server.url("/");
    let client = client(&direct());
    for connections in 1..4 {
        assert_eq!(fetch(&client, get(&uri)).unwrap(), (200, "first".into()));
        assert_eq!(server.accepted(), connections);
    }
    let error = fetch(&client, post(&uri, b"body")).unwrap_err();
    assert_eq!((error.cause, error.written), (Cause::Eof, true));
    // On a connection of its own a GET is given up as well.
    let server = Server::new(|peer| {
        let _ = peer.request();
    });
    let error = fetch(&client, get(&server.url("/"))).unwrap_err();
    assert_eq!((error.cause, server.accepted()), (Cause::Eof, 1));
}

#[test]
fn connections_beyond_the_bound_and_beyond_their_age_are_dropped() {
    let server = Server::answering(reply("200 OK", "ok"));
    let uri = server.url("/");
    let mut route = direct();
    route.limits.idle_connections = 1;
    let two_at_once = |client: &HttpClient| {
        let (mut a, mut b) = (client.send(get(&uri)).unwrap(), client.send(get(&uri)).unwrap());
        a.body.read_to_limit(9).unwrap();
        b.body.read_to_limit(9).unwrap();
    };
    let bounded = client(&route);
    two_at_once(&bounded);
    two_at_once(&bounded);
    assert_eq!(server.accepted(), 3, "one of the first two was kept");

    route.limits.idle_age = Duration::ZERO;
    let forgetful = client(&route);
    fetch(&forgetful, get(&uri)).unwrap();
    fetch(&forgetful, get(&uri)).unwrap();
    assert_eq!(server.accepted(), 5);
}

#[test]
fn origins_do_not_share_connections() {
    let (a, b) = (Server::answering(reply("200 OK", "a")), Server::answering(reply("200 OK", "b")));
    let client = client(&direct());
    for _ in 0..2 {
        assert_eq!(fetch(&client, get(&a.url("/"))).unwrap().1, "a");
        assert_eq!(fetch(&client, get(&b.url("/"))).unwrap().1, "b");
    }
    assert_eq!((a.accepted(), b.accepted()), (1, 1));
}

#[test]
fn requests_start_no_threads() {
    let server = Server::answering(reply("200 OK", "ok"));
    let client = client(&direct());
    let uri = server.url("/");
    fetch(&client, get(&uri)).unwrap();
    // Ids of threads are handed out in order: ours and the next one show whether any was started
    // between. Other tests run in threads of this process, so one quiet round proves it.
    let quiet = (0..1000).any(|_| {
        let first = std::thread::spawn(thread_id).join().unwrap();
        fetch(&client, get(&uri)).unwrap();
        std::thread::spawn(thread_id).join().unwrap() == first + 1
    });
    assert!(quiet, "a thread was started for every request");
    assert_eq!(server.accepted(), 1);
}

fn thread_id() -> u64 {
    let text = format!("{:?}", std::thread::current().id());
    text.trim_start_matches("ThreadId(").trim_end_matches(')').parse().unwrap()
}

#[test]
fn a_body_without_length_ends_with_the_connection() {
    let server = Server::new(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nto the end");
    });
    let client = client(&direct());
    assert_eq!(fetch(&client, get(&server.url("/"))).unwrap(), (200, "to the end".into()));
    assert_eq!(fetch(&client, get(&server.url("/"))).unwrap(), (200, "to the end".into()));
    assert_eq!(server.accepted(), 2);
}

#[test]
fn gzip_is_asked_for_on_demand_and_always_decoded() {
    // `printf '{"hello":"world"}' | gzip -n`
    const GZIPPED: &[u8] = &[
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xab, 0x56, 0xca, 0x48, 0xcd, 0xc9, 0xc9,
        0x57, 0xb2, 0x52, 0x2a, 0xcf, 0x2f, 0xca, 0x49, 0x51, 0xaa, 0x05, 0x00, 0xd1, 0x41, 0x09, 0xd8, 0x11,
        0x00, 0x00, 0x00,
    ];
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", GZIPPED.len());
    let server = Server::answering([head.as_bytes(), GZIPPED].concat());
    let uri = server.url("/");
    for accept in [true, false] {
        let mut route = direct();
        route.accept_gzip = accept;
        let client = client(&route);
        for _ in 0..2 {
            let mut response = client.send(get(&uri)).unwrap();
            assert!(response.headers.get("content-encoding").is_none());
            assert_eq!(response.body.read_to_limit(100).unwrap(), br#"{"hello":"world"}"#);
            assert_eq!(server.next_seen().contains("accept-encoding: gzip\r\n"), accept);
        }
    }
    assert_eq!(server.accepted(), 2);
    let limited = client(&direct()).send(get(&uri)).unwrap().body.read_to_limit(16);
    assert_eq!(limited.unwrap_err().cause, Cause::TooLarge, "the limit is on the decoded length");
}

#[test]
fn bodies_over_the_limit_are_refused() {
    let client = client(&direct());
    for reply in [
        reply("200 OK", &"x".repeat(11)),
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\nxx".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n".to_owned(),
    ] {
        let server = Server::answering(reply);
        let mut response = client.send(get(&server.url("/"))).unwrap();
        let error = response.body.read_to_limit(10).unwrap_err();
        assert_eq!((error.cause, error.written), (Cause::TooLarge, true));
    }
    let server = Server::answering(reply("200 OK", &"x".repeat(10)));
    assert!(client.send(get(&server.url("/"))).unwrap().body.read_to_limit(10).is_ok());
}

#[test]
fn each_way_to_lose_a_reply_has_its_cause() {
    let long_head = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(70_000));
    for (script, expected) in [
        ("", Cause::Eof),
        ("HTTP/1.1 20", Cause::UnexpectedEof),
        ("HTTP/1.1 200 OK\r\nContent-Le", Cause::UnexpectedEof),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", Cause::UnexpectedEof),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha", Cause::UnexpectedEof),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5", Cause::UnexpectedEof),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nha", Cause::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n", Cause::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Cause::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf", Cause::Protocol),
        ("garbage\r\n\r\n", Cause::Protocol),
        ("\0\0\0HTTP/1.1 200 OK\r\n\r\n", Cause::Protocol),
        ("SSH-2.0-OpenSSH_9\r\n", Cause::Protocol),
        (long_head.as_str(), Cause::Protocol),
    ] {
        let bytes = script.to_owned();
        let server = Server::new(move |peer| {
            peer.request();
            peer.send(&bytes);
            let _ = peer.stream.shutdown(std::net::Shutdown::Write);
            peer.wait_for_end();
        });
        let error = fetch(&client(&direct()), post(&server.url("/secret"), b"secret")).unwrap_err();
        let script = script.get(..60).unwrap_or(script);
        assert_eq!((error.cause, error.written), (expected, true), "{script:?}: {error}");
        assert!(!error.message.contains("secret") && !error.message.is_empty(), "{error}");
    }
}

#[test]
fn a_reset_is_told_from_an_end() {
    let server = Server::new(|peer| {
        // Closing with bytes unread makes the kernel send a reset.
        let mut one = [0; 1];
        let _ = peer.stream.read_exact(&mut one);
    });
    let error = fetch(&client(&direct()), post(&server.url("/"), &[b'x'; 1000])).unwrap_err();
    assert_eq!((error.cause, error.written), (Cause::ConnectionReset, true), "{error}");
}

#[test]
fn the_reply_of_a_peer_that_does_not_take_the_whole_request_is_read() {
    let server = Server::new(|peer| {
        let _ = peer.read_once();
        peer.send(reply("413 Content Too Large", "less"));
    });
    let client = client(&direct());
    let body = vec![b'x'; 16 * 1024 * 1024];
    for _ in 0..2 {
        assert_eq!(fetch(&client, post(&server.url("/"), &body)).unwrap(), (413, "less".into()));
    }
    assert_eq!(server.accepted(), 2, "such a connection is not used again");
}

#[test]
fn a_peer_that_takes_a_part_of_a_request_and_says_nothing_has_reset_it() {
    let server = Server::new(|peer| {
        let _ = peer.read_once();
    });
    let body = vec![b'x'; 16 * 1024 * 1024];
    let error = fetch(&client(&direct()), post(&server.url("/"), &body)).unwrap_err();
    assert!(matches!(error.cause, Cause::ConnectionReset | Cause::ClosedPipe), "{error}");
    assert!(error.written);
}

#[test]
fn bytes_after_the_reply_cost_the_connection_only() {
    let server = Server::answering(format!("{}trailing garbage", reply("200 OK", "fine")));
    let client = client(&direct());
    for _ in 0..2 {
        assert_eq!(fetch(&client, get(&server.url("/"))).unwrap(), (200, "fine".into()));
    }
    assert_eq!(server.accepted(), 2);
}

#[test]
fn a_refused_connection_wrote_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let error = fetch(&client(&direct()), get(&uri)).unwrap_err();
    assert_eq!((error.cause, error.written), (Cause::ConnectionRefused, false));
}

#[test]
fn requests_that_are_not_http_are_refused_before_anything_is_opened() {
    let client = client(&direct());
    for uri in ["/path", "ftp://127.0.0.1/", "unix:/x"] {
        let Ok(uri) = uri.parse() else { continue };
        let error = fetch(&client, get(&uri)).unwrap_err();
        assert_eq!((error.cause, error.written), (Cause::InvalidRequest, false), "{uri}");
    }
    let server = Server::answering(reply("200 OK", ""));
    let uri = server.url("/");
    let mut request = get(&uri);
    request.headers.append("host", HeaderValue::from_static("a"));
    request.headers.append("host", HeaderValue::from_static("b"));
    let error = fetch(&client, request).unwrap_err();
    assert_eq!((error.cause, error.written), (Cause::InvalidRequest, false));
}

#[test]
fn methods_other_than_post_carry_a_body_only_when_given() {
    let server = Server::answering(reply("200 OK", ""));
    let client = client(&direct());
    let uri = server.url("/");
    for (method, body, expected) in [
        (Method::DELETE, None, None),
        (Method::DELETE, Some(&b"xy"[..]), Some(2)),
        (Method::POST, None, Some(0)),
        (Method::PATCH, None, Some(0)),
        (Method::from_bytes(b"PURGE").unwrap(), None, None),
    ] {
        let request = Request { method: method.clone(), body, ..get(&uri) };
        fetch(&client, request).unwrap();
        let seen = server.next_seen();
        assert!(seen.starts_with(&format!("{method} / HTTP/1.1\r\n")), "{seen}");
        let length = seen.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(length.map(|length| length.parse().unwrap()), expected, "{seen}");
        assert!(!seen.contains("transfer-encoding"), "{seen}");
    }
}

#[test]
fn expect_continue_waits_for_leave_but_not_for_ever() {
    for leave in ["HTTP/1.1 100 Continue\r\n\r\n", ""] {
        let server = Server::new(move |peer| {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                head.push_str(&peer.read_once().unwrap());
            }
            peer.send(leave);
            let body = peer.read_once().unwrap();
            peer.note(body);
            peer.send(reply("200 OK", "ok"));
        });
        let uri = server.url("/");
        let mut request = post(&uri, b"body");
        request.headers.insert("expect", HeaderValue::from_static("100-continue"));
        assert_eq!(fetch(&client(&direct()), request).unwrap().0, 200);
        assert_eq!(server.next_seen(), "body");
    }
}

#[test]
fn a_unix_socket_takes_every_request_and_its_absence_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mcp.sock");
    let route = Route::new(Via::Unix(path.clone()), Trust::system());
    let client = client(&route);
    let uri = "http://any.example:81/mcp".parse().unwrap();
    let error = fetch(&client, get(&uri)).unwrap_err();
    assert_eq!((error.cause, error.written), (Cause::SocketMissing, false));
    assert!(error.message.contains("mcp.sock"), "{error}");

    let listener = UnixListener::bind(&path).unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut buffer = [0; 4096];
            let amount = stream.read(&mut buffer).unwrap();
            seen.push(String::from_utf8_lossy(&buffer[..amount]).into_owned());
            std::io::Write::write_all(&mut stream, reply("200 OK", "unix").as_bytes()).unwrap();
        }
        seen
    });
    for _ in 0..2 {
        assert_eq!(fetch(&client, get(&uri)).unwrap(), (200, "unix".into()));
    }
    for seen in served.join().unwrap() {
        assert!(seen.starts_with("GET /mcp HTTP/1.1\r\n"), "{seen}");
        assert!(seen.contains("host: any.example:81\r\n"), "{seen}");
    }
}

/// Scripts that get stuck in each phase of a reply.
fn stuck_scripts() -> [(&'static str, &'static str); 4] {
    [
        ("before the head", ""),
        ("in the head", "HTTP/1.1 200 OK\r\nContent-Le"),
        ("in the body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        ("in a body that only the end of the connection ends", "HTTP/1.1 200 OK\r\n\r\nhalf"),
    ]
}

fn stuck_server(bytes: &'static str) -> Server {
    Server::new(move |peer| {
        peer.request();
        peer.send(bytes);
        peer.wait_for_end();
    })
}

#[test]
fn the_deadline_ends_every_phase() {
    for (phase, bytes) in stuck_scripts() {
        let server = stuck_server(bytes);
        let deadline = Deadline::after(Duration::from_millis(100));
        let uri = server.url("/");
        let request = Request { deadline, ..get(&uri) };
        let started = Instant::now();
        let error = fetch(&client(&direct()), request).unwrap_err();
        assert_eq!((error.cause, error.written), (Cause::Timeout, true), "{phase}: {error}");
        assert!(deadline.is_past() && started.elapsed() < PATIENCE, "{phase}");
    }
    let server = Server::answering(reply("200 OK", ""));
    let uri = server.url("/");
    let late = Request { deadline: Deadline::after(Duration::ZERO), ..get(&uri) };
    let error = fetch(&client(&direct()), late).unwrap_err();
    assert_eq!((error.cause, error.written), (Cause::Timeout, false), "{error}");
}

#[test]
fn a_peer_that_takes_no_bytes_is_given_up_at_the_deadline() {
    let server = Server::new(|peer| {
        peer.note("accepted");
        std::thread::park_timeout(PATIENCE);
    });
    let body = vec![b'x'; 32 << 20];
    let uri = server.url("/");
    let request = Request { deadline: Deadline::after(Duration::from_millis(200)), ..post(&uri, &body) };
    let error = fetch(&client(&direct()), request).unwrap_err();
    assert_eq!((error.cause, error.written), (Cause::Timeout, true), "{error}");
}

#[test]
fn a_slow_but_steady_reply_is_read_to_its_end() {
    let server = Server::new(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        for byte in ["s", "t", "e", "a", "d"] {
            std::thread::park_timeout(Duration::from_millis(30));
            peer.send(byte);
        }
        peer.wait_for_end();
    });
    let uri = server.url("/");
    let request = Request { deadline: Deadline::NEVER, ..get(&uri) };
    assert_eq!(fetch(&client(&direct()), request).unwrap().1, "stead");
}

#[test]
fn cancellation_ends_every_phase_at_once() {
    for (phase, bytes) in stuck_scripts() {
        let server = stuck_server(bytes);
        let cancel = Cancel::new();
        let client = HttpClient::new(&direct(), &cancel);
        let uri = server.url("/");
        let error = std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                let mut response = client.send(Request { deadline: Deadline::NEVER, ..get(&uri) })?;
                let mut first = [0; 4];
                response.body.read_exact(&mut first).map_err(Error::from_io)?;
                // The script's bytes are in: from here on there is nothing but the cancellation.
                response.body.read_to_limit(100).map(|_| ())
            });
            cancel_when_seen(&server, &cancel);
            call.join().unwrap().unwrap_err()
        });
        assert_eq!((error.cause, error.written), (Cause::Cancelled, true), "{phase}: {error}");
        let error = fetch(&client, get(&uri)).unwrap_err();
        assert_eq!((error.cause, error.written), (Cause::Cancelled, false), "{phase}");
    }
}

#[test]
fn cancellation_ends_a_write_that_nobody_reads() {
    let server = Server::new(|peer| {
        peer.note("accepted");
        std::thread::park_timeout(PATIENCE);
    });
    let cancel = Cancel::new();
    let client = HttpClient::new(&direct(), &cancel);
    let uri = server.url("/");
    let body = vec![b'x'; 32 << 20];
    let error = std::thread::scope(|scope| {
        let call = scope.spawn(|| fetch(&client, Request { deadline: Deadline::NEVER, ..post(&uri, &body) }));
        cancel_when_seen(&server, &cancel);
        call.join().unwrap().unwrap_err()
    });
    assert_eq!(error.cause, Cause::Cancelled, "{error}");
}

#[test]
fn cancellation_closes_idle_connections() {
    let server = Server::new(|peer| {
        peer.request();
        peer.send(reply("200 OK", "ok"));
        peer.wait_for_end();
        peer.note("end");
    });
    let cancel = Cancel::new();
    let client = HttpClient::new(&direct(), &cancel);
    fetch(&client, get(&server.url("/"))).unwrap();
    cancel.cancel();
    while server.next_seen() != "end" {}
}

#[test]
fn a_body_may_be_read_on_another_thread_under_another_deadline() {
    let server = stuck_server("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    let uri = server.url("/");
    let mut response = client(&direct()).send(Request { deadline: Deadline::NEVER, ..get(&uri) }).unwrap();
    let error = std::thread::spawn(move || {
        response.body.set_deadline(Deadline::after(Duration::from_millis(50)));
        response.body.read_to_limit(100).unwrap_err()
    });
    assert_eq!(error.join().unwrap().cause, Cause::Timeout);
}

#[test]
fn many_threads_share_a_client() {
    let server = Server::answering(reply("200 OK", "ok"));
    let client = client(&direct());
    let uri = server.url("/");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(fetch(&client, post(&uri, b"{}")).unwrap(), (200, "ok".into()));
                }
            });
        }
    });
    assert!(server.accepted() <= 8, "{} connections", server.accepted());
}

#[test]
fn header_values_survive_in_order() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n");
    let uri = server.url("/");
    let mut headers = HeaderMap::new();
    headers.append("x-b", HeaderValue::from_static("1"));
    headers.append("x-b", HeaderValue::from_static("2"));
    let response = client(&direct()).send(Request { headers, ..get(&uri) }).unwrap();
    let values: Vec<_> = response.headers.get_all("x-a").iter().collect();
    assert_eq!(values, ["1", "2"]);
    let seen = server.next_seen();
    assert!(seen.contains("x-b: 1\r\nx-b: 2\r\n"), "{seen}");
}

#[test]
fn user_info_becomes_an_authorization_header_unless_there_is_one() {
    let server = Server::answering(reply("200 OK", ""));
    let client = client(&direct());
    let uri = format!("http://us%40er:p%20w@{}/", server.address).parse().unwrap();
    fetch(&client, get(&uri)).unwrap();
    let seen = server.next_seen();
    assert!(seen.contains("authorization: Basic dXNAZXI6cCB3\r\n"), "{seen}");
    assert!(seen.contains(&format!("host: {}\r\n", server.address)), "{seen}");

    let mut request = get(&uri);
    request.headers.insert("authorization", HeaderValue::from_static("Bearer own"));
    fetch(&client, request).unwrap();
    let seen = server.next_seen();
    assert!(seen.contains("authorization: Bearer own\r\n") && !seen.contains("Basic"), "{seen}");
    assert_eq!(server.accepted(), 1);
}
