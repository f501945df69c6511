//! The live event stream.

use std::collections::BTreeSet;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::common::mcp_server::McpServer;
use crate::common::process::Client;
use crate::common::{PATIENCE, engine, eventually, http, wait_polled};
use crate::{Events, site};

const LEVEL: &str = r#"{"level":"info"}"#;

#[test]
fn a_stream_says_at_once_that_it_lives_and_sends_what_happens_from_then_on() {
    let site = site(&[]);
    let before = site.events().last().unwrap()["seq"].as_u64().unwrap();
    let mut stream = site.stream(&[]);
    assert_eq!(stream.head.status, 200);
    for (name, value) in [
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-cache"),
        ("Connection", "keep-alive"),
        ("X-Content-Type-Options", "nosniff"),
    ] {
        assert_eq!(stream.head.header(name), Some(value), "{name}");
    }
    assert!(stream.next().unwrap().comment.is_some(), "a comment comes first");
    site.ask("PUT", "/api/log-level", &[], LEVEL);
    let event = stream.next_event().unwrap();
    assert_eq!(
        (event.event.as_str(), event.data["message"].as_str()),
        ("log", Some("runtime log level updated"))
    );
    assert_eq!(event.id, event.data["seq"].as_u64());
    assert!(event.id.unwrap() > before, "no replay without being asked");
}

#[test]
fn what_came_behind_the_last_event_id_is_sent_again() {
    let site = site(&[]);
    let events = site.events();
    let seq = |index: usize| events[index]["seq"].as_u64().unwrap();
    let mut stream = site.stream(&[("Last-Event-ID", &seq(1).to_string())]);
    for (index, expected) in events.iter().enumerate().skip(2) {
        let message = stream.next_event().unwrap();
        assert_eq!((message.id, &message.data), (Some(seq(index)), expected));
    }
    // Of another process: everything is new.
    let mut stream = site.stream(&[("Last-Event-ID", "999999")]);
    assert_eq!(stream.next_event().unwrap().id, Some(1));
}

#[test]
fn events_that_are_gone_are_reported_before_those_that_follow() {
    let site = site(&["--admin-ui.log-buffer-events", "5"]);
    let mut stream = site.stream(&[("Last-Event-ID", "1")]);
    let gap = stream.next_event().unwrap();
    assert_eq!((gap.event.as_str(), &gap.data["first_seq"]), ("gap", &2.into()));
    let last = gap.data["last_seq"].as_u64().unwrap();
    assert_eq!(gap.data["dropped"], last - 1);
    assert_eq!(stream.next_event().unwrap().id, Some(last + 1));
}

#[test]
fn a_stalled_stream_delays_nobody_and_is_told_what_it_missed() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("health.sock");
    // A Unix socket holds little on the way.
    let arguments = [
        "--mcp.server-url",
        &server.url(),
        "--health.unix-socket",
        socket.to_str().unwrap(),
        "--admin-ui.log-buffer-events",
        "50",
    ];
    let client = Client::start(&engine.client_base_url(), &arguments);
    assert!(client.health_url().starts_with("http+unix://"), "{}", client.health_url());
    wait_polled(&engine);
    let connect = || {
        let connection = UnixStream::connect(&socket).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection
    };
    let mut stalled = Events::open(connect(), &[]);
    let start = Instant::now();
    let mut busy = BufReader::new(connect());
    let put =
        format!("PUT /api/log-level HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{LEVEL}", LEVEL.len());
    // More than the socket and the ring hold together.
    for _ in 0..2_000 {
        busy.get_mut().write_all(put.as_bytes()).unwrap();
        assert_eq!(http::read_reply(&mut busy).unwrap().status, 200);
    }
    busy.get_mut().write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(http::read_reply(&mut busy).unwrap().text(), "live");
    assert!(start.elapsed() < PATIENCE);
    busy.get_mut().write_all(b"GET /api/logs?limit=1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let newest = http::read_reply(&mut busy).unwrap().json()["events"][0]["seq"].as_u64().unwrap();
    let (mut seen, mut missed, mut first) = (BTreeSet::new(), 0, None);
    while seen.last().is_none_or(|last| *last < newest) {
        let message = stalled.next_event().expect("the stream goes on");
        if message.event == "gap" {
            missed += message.data["dropped"].as_u64().unwrap();
        } else {
            first.get_or_insert(message.id.unwrap());
            assert!(seen.insert(message.id.unwrap()), "each event once");
        }
    }
    assert!(missed > 0, "something was dropped");
    assert_eq!(seen.len() as u64 + missed, newest - first.unwrap() + 1, "every event was sent or reported");
}

#[test]
fn two_hundred_idle_slow_and_streaming_connections_leave_room_for_health() {
    let site = site(&[]);
    let mut held = Vec::new();
    for number in 0..200 {
        let mut connection = TcpStream::connect(site.address()).unwrap();
        match number % 4 {
            0 => {}
            1 => connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").unwrap(),
            2 => connection
                .write_all(b"PUT /api/log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
                .unwrap(),
            _ => connection.write_all(b"GET /api/logs/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap(),
        }
        held.push(connection);
    }
    for path in ["/healthz", "/readyz", "/metrics", "/api/status"] {
        assert!(site.get(path).status < 504, "{path}");
    }
    let start = Instant::now();
    assert_eq!(site.get("/healthz").text(), "live");
    assert!(start.elapsed().as_secs() < 5);
    drop(held);
}

#[test]
fn streams_are_bounded_and_a_closed_one_makes_room() {
    // 48 descriptors: a quarter of them may be connections.
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let client = Client::start_through(
        &["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\"", crate::common::process::client_binary()],
        &["--control-plane.base-url", &engine.client_base_url(), "--mcp.server-url", &server.url()],
        &[],
    );
    let address = crate::common::address(client.health_url()).to_owned();
    let open = || {
        let connection = TcpStream::connect(&address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        Events::open(connection, &[])
    };
    let mut streams = Vec::new();
    let refused = loop {
        let stream = open();
        match stream.head.status {
            200 => streams.push(stream),
            _ => break stream,
        }
        assert!(streams.len() < 64);
    };
    assert_eq!(refused.head.status, 503);
    drop(refused);
    assert_eq!(http::get(&format!("{}/healthz", client.health_url())).unwrap().text(), "live");
    streams.pop();
    eventually("the place is free", || open().head.status == 200);
}

#[test]
fn a_stop_ends_the_streams_and_the_exit_is_clean() {
    let mut site = site(&[]);
    let mut stream = site.stream(&[]);
    assert!(stream.next().unwrap().comment.is_some());
    assert_eq!(site.client.terminate().code(), Some(0), "{}", site.client.output());
    while stream.next().is_some() {}
}
