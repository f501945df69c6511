//! The HTTP front under good and bad manners.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

#[path = "support/site.rs"]
mod site;
#[path = "support/wire.rs"]
mod wire;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::Value;

use site::{KEY, LIST, RESULT, Site, TUNNEL, result, send_call, send_poll};
use tunnel_client::ids::TunnelId;
use tunnel_client::secret::Secret;
use tunnel_client::server::{ClientListener, ListenAt, Local, LocalOptions};
use wire::Wire;

/// Sends raw bytes on a fresh connection and reads what comes back, then expects the connection closed.
fn refused(site: &Site, bytes: &[u8]) -> wire::Reply {
    let mut wire = site.caller();
    wire.send_raw(bytes);
    let reply =
        wire.try_read().unwrap_or_else(|error| panic!("{:?}: {error}", String::from_utf8_lossy(bytes)));
    assert!(wire.is_closed(), "still open after {:?}", String::from_utf8_lossy(bytes));
    reply
}

#[test]
fn requests_that_could_be_read_in_two_ways_are_refused_and_the_connection_closed() {
    let site = Site::start();
    let path = format!("/v1/mcp/{TUNNEL}");
    for (fields, status) in [
        ("Content-Length: 5\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Content-Length: 5, 6", 400),
        ("Content-Length: -5", 400),
        ("Transfer-Encoding: chunked, chunked", 501),
        ("Transfer-Encoding : chunked", 400),
        ("Expect: a-miracle", 417),
    ] {
        let bytes =
            format!("POST {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\nhelloGET /readyz HTTP/1.1\r\n\r\n");
        let reply = refused(&site, bytes.as_bytes());
        assert_eq!(reply.status, status, "{fields}");
        assert!(reply.json()["error"]["message"].is_string() && reply.header("X-Request-Id").is_some());
        assert_eq!(reply.header("Connection"), Some("close"));
    }
    for (bytes, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], 400),
        (b"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400),
    ] {
        assert_eq!(refused(&site, bytes).status, status);
    }
}

#[test]
fn heads_beyond_the_bounds_are_refused() {
    let site = Site::start();
    let many: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    assert_eq!(
        refused(&site, format!("GET /readyz HTTP/1.1\r\nHost: h\r\n{many}\r\n").as_bytes()).status,
        431
    );
    let long = "x".repeat(33 * 1024);
    assert_eq!(
        refused(&site, format!("GET /readyz HTTP/1.1\r\nHost: h\r\nX: {long}").as_bytes()).status,
        431
    );
    let mut wire = site.caller();
    let wide = "x".repeat(30 * 1024);
    assert_eq!(wire.call("GET", "/readyz", &[("X-Wide", &wide)], None).status, 200);
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let site = Site::start();
    let mut silent = site.caller();
    let mut slow = site.caller();
    slow.send_raw(b"GET /readyz HTTP/1.1\r\nHo");
    let began = Instant::now();
    assert_eq!(slow.read().status, 408);
    assert!(slow.is_closed());
    assert!(silent.is_closed());
    let took = began.elapsed();
    assert!((Duration::from_millis(4500)..Duration::from_millis(6500)).contains(&took), "{took:?}");
}

#[test]
fn pieces_however_small_and_requests_in_one_piece_are_understood() {
    let site = Site::start();
    let mut wire = site.caller();
    for byte in b"\r\nGET /readyz HTTP/1.1\r\nHost: h\r\n\r\n" {
        wire.send_raw(&[*byte]);
    }
    assert_eq!(wire.read().status, 200);
    let two = b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\nGET /other HTTP/1.1\r\nHost: h\r\n\r\n";
    wire.send_raw(two);
    assert_eq!((wire.read().status, wire.read().status), (200, 404));
    // A body that nobody wanted does not become a request.
    wire.send("POST", "/readyz", &[], Some(b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(wire.read().status, 405);
    assert_eq!(wire.call("GET", "/readyz", &[], None).status, 200);
}

#[test]
fn bodies_may_be_chunked_and_are_bounded_all_the_same() {
    let site = Site::start();
    site.connect();
    let head = format!("POST /v1/mcp/{TUNNEL} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n");
    let mut caller = site.caller();
    let (first, second) = LIST.split_at(10);
    let body = format!(
        "{:x};ext=1\r\n{first}\r\n{:X}\r\n{second}\r\n0\r\nX-Trailer: 1\r\n\r\n",
        first.len(),
        second.len()
    );
    caller.send_raw(head.as_bytes());
    caller.send_raw(body.as_bytes());
    let command = site.command();
    assert_eq!(command["jsonrpc"], serde_json::from_str::<Value>(LIST).unwrap());
    site.respond(&command, result());
    assert_eq!(caller.read().text().len(), RESULT.len());
    for (body, status) in [("zz\r\n", 400), ("5\nhello", 400), ("ffffffff\r\n", 413)] {
        let reply = refused(&site, format!("{head}{body}").as_bytes());
        assert_eq!(reply.status, status, "{body:?}");
    }
}

#[test]
fn a_caller_that_asks_is_told_to_send_its_body_unless_it_is_too_large() {
    let site = Site::start();
    site.connect();
    let expect = [("Expect", "100-continue")];
    let target = format!("/v1/mcp/{TUNNEL}");
    let mut caller = site.caller();
    let text = format!(
        "POST {target} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        LIST.len()
    );
    caller.send_raw(text.as_bytes());
    assert_eq!(caller.read_head().unwrap().status, 100);
    caller.send_raw(LIST.as_bytes());
    let command = site.command();
    site.respond(&command, result());
    assert_eq!(caller.read().status, 200);
    let text = format!(
        "POST {target} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
    );
    assert_eq!(refused(&site, text.as_bytes()).status, 413);
    let mut caller = site.caller();
    caller.send("GET", "/readyz", &expect, None);
    assert_eq!(caller.read().status, 200, "no body, nothing to continue");
}

#[test]
fn older_clients_get_a_closed_connection_unless_they_ask_to_keep_it() {
    let site = Site::start();
    let mut wire = site.caller();
    wire.send_raw(b"GET /readyz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let kept = wire.read();
    assert_eq!((kept.status, kept.header("Connection")), (200, Some("keep-alive")));
    wire.send_raw(b"GET /readyz HTTP/1.0\r\n\r\n");
    let last = wire.read();
    assert_eq!((last.status, last.header("Connection")), (200, Some("close")));
    assert!(wire.is_closed());
    // A stream for such a client ends with the connection.
    site.connect();
    let mut caller = site.caller();
    let accept = "Accept: text/event-stream, application/json";
    let head =
        format!("POST /v1/mcp/{TUNNEL} HTTP/1.0\r\n{accept}\r\nContent-Length: {}\r\n\r\n{LIST}", LIST.len());
    caller.send_raw(head.as_bytes());
    let command = site.command();
    let mut body = result();
    body["resp_headers"] = serde_json::json!({"Content-Type": ["text/event-stream"]});
    site.respond(&command, body);
    let reply = caller.read();
    assert_eq!(reply.header("Transfer-Encoding"), None);
    assert!(reply.text().starts_with("data: {") && reply.text().ends_with("}\n\n"), "{}", reply.text());
}

#[test]
fn every_response_has_an_id_of_its_own_and_a_date() {
    let site = Site::start();
    let mut wire = site.caller();
    let replies = [
        wire.call("GET", "/readyz", &[], None),
        wire.call("GET", "/x", &[], None),
        refused(&site, b"x\r\n\r\n"),
    ];
    let ids: std::collections::HashSet<_> =
        replies.iter().map(|reply| reply.header("X-Request-Id").unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert!(replies.iter().all(|reply| reply.header("Date").unwrap().ends_with(" GMT")));
}

#[test]
fn connections_beyond_the_limit_are_told_to_come_back() {
    let site = Site::with(|options| options.connections = 3);
    let mut held: Vec<Wire> = (0..3)
        .map(|_| {
            let mut wire = site.caller();
            assert_eq!(wire.call("GET", "/readyz", &[], None).status, 200);
            wire
        })
        .collect();
    for _ in 0..3 {
        let mut wire = site.caller();
        wire.send("GET", "/readyz", &[], None);
        let reply = wire.read();
        assert_eq!((reply.status, reply.header("Retry-After")), (503, Some("1")));
        assert_eq!(reply.header("Connection"), Some("close"));
    }
    held.pop();
    site::wait_for("a free place", || site.caller().call("GET", "/readyz", &[], None).status == 200);
}

#[test]
fn unix_sockets_are_private_and_removed_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let ingress = directory.path().join("new/ingress.sock");
    let mut options = LocalOptions::new(TunnelId::parse(TUNNEL).unwrap(), Secret::new(KEY.to_owned()));
    options.ingress = ListenAt::Unix(ingress.clone());
    let local = Local::start(options.clone()).unwrap();
    assert_eq!((local.mcp_url(), local.client_base_url()), (String::new(), "http://localhost".to_owned()));
    let control = local.client_socket().unwrap().to_owned();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(control.parent().unwrap()), mode(&ingress)), (0o700, 0o600));
    assert_eq!(Wire::unix(&ingress).call("GET", "/readyz", &[], None).status, 200);
    let mut poll = Wire::unix(&control);
    send_poll(&mut poll, "timeout_ms=5000");
    site::wait_for("parked", || local.gauges().parked == 1);
    let mut caller = Wire::unix(&ingress);
    send_call(&mut caller, "application/json", LIST);
    assert_eq!(poll.read().status, 200);
    drop(caller);
    site::wait_for("the departure to be noticed", || local.gauges().held == 0);
    let error = match Local::start(options) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("an occupied socket was taken over"),
    };
    assert!(error.contains("listen on external MCP unix socket"), "{error}");
    assert!(ingress.exists(), "the other's socket was left alone");
    local.stop();
    assert!(!ingress.exists() && !control.exists() && !control.parent().unwrap().exists());
}

#[test]
fn an_ingress_that_other_hosts_reach_is_refused() {
    let mut options = LocalOptions::new(TunnelId::parse(TUNNEL).unwrap(), Secret::new(KEY.to_owned()));
    options.ingress = ListenAt::Tcp("0.0.0.0:0".parse().unwrap());
    options.client = ClientListener::PrivateUnix;
    assert!(Local::start(options).is_err());
}
