//! Stopping: what is running finishes, what is queued is answered, nothing is left behind.

mod common;

use std::time::{Duration, Instant};

use common::connector::Connector;
use common::mcp_server::McpServer;
use common::process::{Client, stdio_fixture};
use common::{engine, eventually, wait_polled};

#[test]
fn sigterm_finishes_running_calls_and_answers_queued_ones() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let mut client = Client::start(
        &engine.client_base_url(),
        &["--mcp.server-url", &server.url(), "--mcp.max-concurrent-requests", "1"],
    );
    wait_polled(&engine);
    let connector = Connector::new(&engine.mcp_url());
    let running = connector.call_later(1, "slow-1000", r#"{"finished":true}"#);
    let called = || server.seen().iter().filter(|request| request.text().contains("slow-1000")).count();
    eventually("the call runs", || called() == 1);
    let queued: Vec<_> = (2..5).map(|id| connector.call_later(id, "echo", "{}")).collect();
    eventually("the others are in the client's queue", || {
        let gauges = engine.gauges();
        gauges.held == 4 && gauges.queued == 0
    });
    assert_eq!(client.terminate().code(), Some(0), "{}", client.output());
    let running = running.join().expect("the caller").expect("an answer");
    assert_eq!(running.json()["result"]["finished"], true, "{}", running.text());
    for call in queued {
        let reply = call.join().expect("the caller").expect("an answer");
        assert_eq!(reply.status, 502, "{}", reply.text());
        assert_eq!(reply.json()["error"]["data"]["tunnel_failure"]["source"], "client_internal");
    }
}

#[test]
fn an_idle_client_ends_at_once_and_leaves_no_files() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let directory = tempfile::tempdir().expect("a directory");
    let (pid_file, socket) = (directory.path().join("client.pid"), directory.path().join("health.sock"));
    let mut client = Client::start(
        &engine.client_base_url(),
        &[
            "--mcp.server-url",
            &server.url(),
            "--pid.file",
            &pid_file.display().to_string(),
            "--health.unix-socket",
            &socket.display().to_string(),
        ],
    );
    wait_polled(&engine);
    client.wait_output("tunnel-client started");
    assert_eq!(std::fs::read_to_string(&pid_file).expect("the pid file").trim(), client.pid().to_string());
    assert!(socket.exists());
    let started = Instant::now();
    assert_eq!(client.terminate().code(), Some(0), "{}", client.output());
    assert!(started.elapsed() < Duration::from_secs(2), "took {:?}", started.elapsed());
    assert!(!pid_file.exists() && !socket.exists());
    assert!(!client.output().contains("poll failed"), "{}", client.output());
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let mut client = Client::start(&engine.client_base_url(), &["--mcp.server-url", &server.url()]);
    wait_polled(&engine);
    let _held = Connector::new(&engine.mcp_url()).call_later(1, "stall", "{}");
    eventually("the call runs", || server.seen().iter().any(|request| request.text().contains("stall")));
    client.signal(rustix::process::Signal::TERM);
    client.wait_output("a second signal");
    let started = Instant::now();
    assert_eq!(client.terminate().code(), Some(1));
    assert!(started.elapsed() < Duration::from_secs(2), "took {:?}", started.elapsed());
}

#[test]
fn a_stdio_child_ends_with_its_client() {
    let engine = engine();
    let fixture = stdio_fixture();
    let mut client =
        Client::start(&engine.client_base_url(), &["--mcp.command", &fixture.display().to_string()]);
    wait_polled(&engine);
    let reply = Connector::new(&engine.mcp_url()).call(1, "pid", "{}");
    let pid = reply.json()["result"]["pid"].as_u64().expect("a pid");
    assert_eq!(client.terminate().code(), Some(0), "{}", client.output());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "child {pid} lives on");
}
