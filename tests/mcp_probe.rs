//! The startup probe as it is wired: what the server sees, what `/readyz` says, when polling starts.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;
mod mcp_support;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use common::eventually;
use common::process::Client;
use mcp_support::plane::{Plane, call, failure};
use mcp_support::site::{Answer, Site, json, no_oauth, plain, reply, result};

fn client(plane: &Plane, url: &str, more: &[&str]) -> Client {
    let mut arguments = vec!["--mcp.server-url", url];
    arguments.extend(more);
    Client::start(&plane.base_url(), &arguments)
}

/// The body of `/readyz` once it has this status and start.
fn wait_readyz(client: &Client, status: u16, start: &str) -> String {
    let mut last = (0, String::new());
    let there = || {
        last = client.readyz();
        last.0 == status && last.1.starts_with(start)
    };
    eventually(&format!("/readyz is {status} {start}"), there);
    last.1
}

/// An address that nobody listens on, and the listener that will.
fn unused() -> (String, impl FnOnce() -> TcpListener) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    (format!("http://{address}/mcp"), move || {
        // Somebody else's connection may have taken the port for its own end for a moment.
        let mut listener = None;
        eventually("the port is free", || {
            listener = TcpListener::bind(address).ok();
            listener.is_some()
        });
        listener.unwrap()
    })
}

#[test]
fn a_healthy_server_sees_a_handshake_and_its_session_closed() {
    let plane = Plane::start();
    let server = Site::tcp(|request| {
        match (request.method.as_str(), request.text().contains("initialize\"")) {
            ("POST", true) => {
                let info = r#"{"protocolVersion":"2025-03-26","capabilities":{},"serverInfo":{"name":"s","version":"9"}}"#;
                let json_type = ("Content-Type", "application/json");
                reply(200, &[json_type, ("Mcp-Session-Id", "probe-session")], &result(request, info))
            }
            _ => plain(request),
        }
    });
    let url = format!("http://user:hidden@{}/mcp?token=hidden", server.address);
    let client = client(&plane, &url, &[]);
    assert_eq!(wait_readyz(&client, 200, "ready"), "ready");
    eventually("the session is closed", || server.seen().iter().any(|r| r.method == "DELETE"));
    let seen = server.seen();
    let posts: Vec<_> = seen.iter().filter(|r| r.method == "DELETE" || !r.body.is_empty()).collect();
    assert_eq!(posts.len(), 3, "{posts:?}");
    let first = posts[0].json();
    assert_eq!((&first["method"], &first["id"]), (&"initialize".into(), &1.into()));
    assert_eq!(first["params"]["protocolVersion"], "2025-06-18");
    assert_eq!(first["params"]["clientInfo"]["name"], "tunnel-client");
    assert_eq!(first["params"]["capabilities"]["roots"]["listChanged"], true);
    assert_eq!(posts[1].json()["method"], "notifications/initialized");
    for request in &posts[1..] {
        assert_eq!(request.header("Mcp-Session-Id"), Some("probe-session"));
        assert_eq!(request.header("Mcp-Protocol-Version"), Some("2025-03-26"));
    }
    client.wait_output("mcp session initialized");
    let output = client.output();
    for part in ["Probing MCP server", "protocol_version=2025-03-26", "server_name=s", "server_version=9"] {
        assert!(output.contains(part), "{part}: {output}");
    }
    assert!(
        output.contains(&format!("target=http://{}", server.address)) && !output.contains("hidden"),
        "{output}"
    );
}

#[test]
fn the_reply_to_initialize_alone_decides() {
    for (status, delete, ready, start) in [
        (401, 401, 200, "ready (mcp initialize requires auth"),
        (401, 204, 200, "ready (mcp initialize requires auth"),
        (403, 204, 503, "mcp probe failed"),
        (500, 401, 503, "mcp probe failed"),
    ] {
        let plane = Plane::start();
        let server = Site::tcp(no_oauth(move |request| match request.method.as_str() {
            "DELETE" => reply(delete, &[], ""),
            _ => reply(status, &[("Content-Type", "text/plain")], "private detail"),
        }));
        let url = format!("http://user:hidden@{}/private?q", server.address);
        let client = client(&plane, &url, &[]);
        let body = wait_readyz(&client, ready, start);
        for secret in ["private detail", "hidden"] {
            assert!(!body.contains(secret) && !client.output().contains(secret), "{body}");
        }
        eventually("commands flow whatever the probe says", || plane.polls() > 0);
    }
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_taken_for_slow() {
    let plane = Plane::start();
    let server = Site::tcp(no_oauth(|_| Answer::Never));
    let client = client(&plane, &server.url(), &[]);
    let body = wait_readyz(&client, 200, "ready (mcp startup probe timed out");
    assert!(body.contains("mcp probe timed out after 2s"), "{body}");
    client.wait_output("mcp probe timed out");
}

#[test]
fn an_answer_that_is_no_handshake_is_a_failure_and_a_later_probe_recovers() {
    let plane = Plane::start();
    let good = Arc::new(AtomicBool::new(false));
    let healed = Arc::clone(&good);
    let server = Site::tcp(no_oauth(move |request| match healed.load(Ordering::SeqCst) {
        true => plain(request),
        false => json(500, "{}"),
    }));
    let client = client(&plane, &server.url(), &[]);
    wait_readyz(&client, 503, "mcp probe failed");
    client.wait_output("failed to connect to mcp");
    good.store(true, Ordering::SeqCst);
    assert_eq!(wait_readyz(&client, 200, "ready"), "ready");
}

#[test]
fn with_a_startup_wait_no_command_meets_a_server_that_is_not_there_yet() {
    let plane = Plane::start();
    let (url, listen) = unused();
    let client = client(&plane, &url, &["--mcp.startup-wait-timeout", "60s"]);
    let id = plane.send(&[], &call("early"));
    client.wait_output("retrying MCP startup probe");
    client.wait_output("waiting for MCP startup probe before first control-plane poll");
    eventually("some attempts", || client.output().matches("retrying MCP startup probe").count() >= 3);
    assert_eq!(plane.polls(), 0);
    assert_eq!(client.readyz(), (503, "oauth discovery pending".to_owned()));
    for field in ["attempt=1", "backoff=50ms", "backoff=100ms"] {
        assert!(client.output().contains(field), "{field}: {}", client.output());
    }
    let server = Site::tcp_on(listen(), plain);
    assert_eq!(plane.wait(&id)[0]["resp_code"], 200, "{}", client.output());
    wait_readyz(&client, 200, "ready");
    server.call("early");
}

#[test]
fn without_a_startup_wait_polling_starts_at_once() {
    let plane = Plane::start();
    let (url, _) = unused();
    let client = client(&plane, &url, &[]);
    assert_eq!(failure(&plane.exchange(&[], &call("early"))), "502 connect/connection_refused");
    assert!(!client.output().contains("waiting for MCP startup probe"));
}

#[test]
fn a_startup_wait_that_runs_out_fails_open() {
    let plane = Plane::start();
    let (url, listen) = unused();
    let client = client(&plane, &url, &["--mcp.startup-wait-timeout", "300ms"]);
    // What nobody listens for fails in both ways, and discovery is told first.
    wait_readyz(&client, 503, "oauth discovery failed");
    client.wait_output("mcp startup wait timed out after 300ms");
    eventually("polling starts", || plane.polls() > 0);
    client.wait_output("MCP startup wait timed out");
    client.wait_output(
        "MCP startup probe completed with failure; starting control-plane poller for compatibility",
    );
    let _server = Site::tcp_on(listen(), plain);
    wait_readyz(&client, 200, "ready");
}

#[test]
fn an_http_answer_ends_the_startup_wait_after_one_attempt() {
    for (status, ready) in [(401, 200), (503, 503)] {
        let plane = Plane::start();
        let server = Site::tcp(no_oauth(move |_| reply(status, &[], "")));
        let client = client(&plane, &server.url(), &["--mcp.startup-wait-timeout", "60s"]);
        wait_readyz(&client, ready, "");
        eventually("polling starts", || plane.polls() > 0);
        assert_eq!(server.with_body("initialize").len(), 1);
        assert!(!client.output().contains("retrying MCP startup probe"));
    }
}

#[test]
fn a_socket_file_that_is_missing_is_waited_for() {
    let plane = Plane::start();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("mcp.sock");
    let entry = format!("url=http://localhost/mcp,unix-socket={}", socket.display());
    let client = client(&plane, &entry, &["--mcp.startup-wait-timeout", "60s"]);
    client.wait_output("retrying MCP startup probe");
    assert_eq!(plane.polls(), 0);
    let _server = Site::unix(&socket, plain);
    wait_readyz(&client, 200, "ready");
    eventually("polling starts", || plane.polls() > 0);
    assert!(client.output().contains(&format!("unix_socket_path={}", socket.display())));
}

#[test]
fn other_failures_are_not_waited_for() {
    let plane = Plane::start();
    let url = "http://no-such-host.invalid/mcp";
    let client = client(&plane, url, &["--mcp.startup-wait-timeout", "60s"]);
    wait_readyz(&client, 503, "oauth discovery failed");
    client.wait_output("failed to connect to mcp");
    eventually("polling starts", || plane.polls() > 0);
    assert!(!client.output().contains("retrying MCP startup probe"));
}

#[test]
fn a_stop_during_the_startup_wait_ends_it() {
    let plane = Plane::start();
    let (url, _) = unused();
    let mut client = client(&plane, &url, &["--mcp.startup-wait-timeout", "600s"]);
    client.wait_output("retrying MCP startup probe");
    assert_eq!(client.terminate().code(), Some(0), "{}", client.output());
    assert_eq!(plane.polls(), 0);
    assert!(!client.output().contains("startup wait timed out"), "{}", client.output());
}

#[test]
fn other_channels_are_never_probed() {
    let plane = Plane::start();
    let (main, tools) = (Site::tcp(plain), Site::tcp(plain));
    let entry = format!("channel=tools,url={}", tools.url());
    let client = client(&plane, &main.url(), &["--mcp.server-url", &entry]);
    client.wait_ready();
    plane.call_on("tools", "echo", "{}");
    assert_eq!(tools.seen().len(), 1);
    let lines = client.output().matches("Probing MCP server").count();
    assert_eq!(lines, 1);
}

#[test]
fn a_probe_that_a_redirect_leads_elsewhere_takes_no_headers_along() {
    let plane = Plane::start();
    let status = Arc::new(AtomicU16::new(0));
    let elsewhere = Site::tcp(plain);
    let to = elsewhere.url();
    let seen = Arc::clone(&status);
    let server = Site::tcp(no_oauth(move |_| {
        seen.store(307, Ordering::SeqCst);
        reply(307, &[("Location", to.as_str())], "")
    }));
    let client = client(
        &plane,
        &server.url(),
        &["--mcp.extra-headers", "Authorization: Bearer svc", "--mcp.discovery-extra-headers", "X-D: 1"],
    );
    client.wait_ready();
    let first = elsewhere.with_body("initialize").remove(0);
    assert_eq!((first.header("Authorization"), first.header("X-D")), (None, None));
}
