//! Outages with the real binaries: killed, frozen, starved of disk, descriptors and patience.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use common::connector::Connector;
use common::http::{self, Reply};
use common::matrix_lane::{children_of, processes_with, wait_gone};
use common::mcp_server::McpServer;
use common::process::{Client, client_binary, stdio_fixture};
use common::{API_KEY, PATIENCE, TUNNEL_ID, address, engine, eventually, wait_polled};

/// A `tunnel-server` on a port that stays the same.
struct Server {
    address: SocketAddr,
    child: Child,
}

impl Server {
    fn start(more: &[&str]) -> Server {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
        let server = Server { address: free, child: Server::spawn(free, more) };
        server.wait_up();
        server
    }

    fn spawn(address: SocketAddr, more: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_tunnel-server"))
            .args(["--listen", &address.to_string(), "--tunnel-id", TUNNEL_ID, "--api-key", "env:KEY"])
            .args(more)
            .env("KEY", API_KEY)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("tunnel-server starts")
    }

    fn wait_up(&self) {
        eventually("the server listens", || TcpStream::connect(self.address).is_ok());
    }

    fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn connector(&self) -> Connector {
        Connector::new(&format!("{}/v1/mcp/{TUNNEL_ID}", self.base_url()))
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server itself refuses: a held call ended, or no client is there.
fn is_refusal(reply: &Reply) -> bool {
    reply.status >= 500 || reply.status == 404 && reply.text().contains("tunnel_client_not_")
}

/// Calls until one succeeds.
fn wait_works(connector: &Connector, client: &Client) {
    let end = Instant::now() + PATIENCE;
    loop {
        let reply = connector.call_later(7, "echo", r#"{"works":1}"#).join().expect("the caller");
        if reply.as_ref().is_ok_and(|reply| reply.status == 200 && reply.json()["result"]["works"] == 1) {
            return;
        }
        assert!(Instant::now() < end, "{reply:?}\n{}", client.output());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_server_that_is_killed_and_comes_back_is_found_again_and_no_call_runs_twice() {
    let mcp = McpServer::by_tool_name();
    let mut server = Server::start(&[]);
    let mut client = Client::start(
        &server.base_url(),
        &["--mcp.server-url", &mcp.url(), "--mcp.max-concurrent-requests", "4"],
    );
    wait_works(&server.connector(), &client);
    let (running, next, works) = (AtomicBool::new(true), AtomicUsize::new(100), AtomicUsize::new(0));
    let connector = server.connector();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while running.load(Ordering::SeqCst) {
                    let id = next.fetch_add(1, Ordering::SeqCst) as u64;
                    let reply = connector.call_later(id, "slow-30", &format!(r#"{{"n":{id}}}"#)).join();
                    match reply.expect("the caller") {
                        // Right, or refused by the server; never another call's answer.
                        Ok(reply) if reply.status == 200 => {
                            assert_eq!(reply.json()["result"]["n"], id, "{}", reply.text());
                            works.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok(reply) => assert!(is_refusal(&reply), "{} {}", reply.status, reply.text()),
                        Err(_) => std::thread::sleep(Duration::from_millis(20)),
                    }
                }
            });
        }
        for _ in 0..3 {
            let before = works.load(Ordering::SeqCst);
            eventually("calls flow", || works.load(Ordering::SeqCst) > before + 5);
            server.kill();
            server.child = Server::spawn(server.address, &[]);
            server.wait_up();
        }
        let before = works.load(Ordering::SeqCst);
        eventually("calls flow again", || works.load(Ordering::SeqCst) > before + 5);
        running.store(false, Ordering::SeqCst);
    });
    assert!(client.is_running());
    client.wait_output("poller recovered");
    let mut ids: Vec<String> = mcp
        .seen()
        .iter()
        .filter(|r| r.text().contains("slow-30"))
        .map(|r| r.json()["id"].to_string())
        .collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "a call ran twice");
    assert_eq!(client.terminate().code(), Some(0));
}

#[test]
fn a_frozen_server_delays_calls_and_loses_none() {
    let mcp = McpServer::by_tool_name();
    let server = Server::start(&[]);
    let mut client = Client::start(&server.base_url(), &["--mcp.server-url", &mcp.url()]);
    wait_works(&server.connector(), &client);
    let connector = server.connector();
    let calls: Vec<_> =
        (0..20).map(|id| connector.call_later(id, "slow-200", &format!(r#"{{"n":{id}}}"#))).collect();
    eventually("the calls run", || mcp.seen().iter().filter(|r| r.text().contains("slow-200")).count() >= 5);
    server.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(2));
    server.signal(Signal::CONT);
    for (id, call) in calls.into_iter().enumerate() {
        let reply = call.join().expect("the caller").expect("an answer");
        assert_eq!((reply.status, &reply.json()["result"]["n"]), (200, &id.into()), "{}", reply.text());
    }
    assert_eq!(client.terminate().code(), Some(0));
}

#[test]
fn callers_of_a_frozen_client_are_told_so_and_it_serves_again_when_it_wakes_up() {
    let mcp = McpServer::by_tool_name();
    let server = Server::start(&["--client-last-seen-timeout", "2s", "--response-timeout", "5s"]);
    let mut client = Client::start(
        &server.base_url(),
        &["--mcp.server-url", &mcp.url(), "--control-plane.poll-timeout", "1s"],
    );
    wait_works(&server.connector(), &client);
    client.signal(Signal::STOP);
    let reply = server.connector().call(1, "echo", r#"{"frozen":1}"#);
    assert!(reply.status >= 500, "{} {}", reply.status, reply.text());
    // What was handed to the client before is awaited; then its silence counts.
    eventually("calls are refused at once", || {
        let reply = server.connector().call(2, "echo", "{}");
        assert!(is_refusal(&reply), "{} {}", reply.status, reply.text());
        reply.text().contains("tunnel_client_not_connected")
    });
    client.signal(Signal::CONT);
    wait_works(&server.connector(), &client);
    assert!(client.is_running());
    assert_eq!(client.terminate().code(), Some(0));
}

#[test]
fn a_child_of_a_killed_client_ends_with_its_input() {
    let engine = engine();
    let command = stdio_fixture().display().to_string();
    let tag = format!("DRILL_TAG=orphan-{}", std::process::id());
    let client = Client::start_with(
        &engine.client_base_url(),
        &["--mcp.command", &command],
        &[tag.split_once('=').expect("a pair")],
    );
    wait_polled(&engine);
    assert_eq!(children_of(client.pid()), 1);
    assert_eq!(processes_with(&tag).len(), 2);
    client.signal(Signal::KILL);
    wait_gone(&tag);
}

#[test]
fn a_full_disk_loses_log_lines_and_nothing_else() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let (engine, mcp) = (engine(), McpServer::by_tool_name());
    let mut client = Client::start(
        &engine.client_base_url(),
        &["--mcp.server-url", &mcp.url(), "--log.file", "/dev/full", "--log.level", "debug"],
    );
    wait_polled(&engine);
    let connector = Connector::new(&engine.mcp_url());
    for id in 0..50 {
        assert_eq!(connector.call(id, "echo", r#"{"n":1}"#).json()["result"]["n"], 1);
        assert_eq!(connector.call(id, "status-500", "{}").status, 500);
    }
    assert_eq!(client.terminate().code(), Some(0));
    assert_eq!(client.output(), "", "the file is the only place for lines");
}

#[test]
fn files_that_cannot_be_written_refuse_the_start_with_one_sentence() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "in the way").expect("written");
    for (flag, words) in
        [("--health.url-file", "url file"), ("--pid.file", "pid file"), ("--log.file", "log file")]
    {
        let output = Command::new(client_binary())
            .args([
                "run",
                "--control-plane.base-url",
                "http://127.0.0.1:9",
                "--control-plane.tunnel-id",
                TUNNEL_ID,
            ])
            .args(["--health.listen-addr", "127.0.0.1:0", "--mcp.server-url", "http://127.0.0.1:9/mcp"])
            .arg(flag)
            .arg(file.join("below"))
            .env("CONTROL_PLANE_API_KEY", API_KEY)
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).to_lowercase()
            + &String::from_utf8_lossy(&output.stdout).to_lowercase();
        assert_eq!(output.status.code(), Some(1), "{flag}: {text}");
        assert!(text.contains(words) && text.contains("below"), "{flag}: {text}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 1);
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").count()
}

#[test]
fn a_thousand_idle_connections_to_the_local_listener_change_nothing() {
    let (engine, mcp) = (engine(), McpServer::by_tool_name());
    let client = Client::start(&engine.client_base_url(), &["--mcp.server-url", &mcp.url()]);
    client.wait_ready();
    let (threads_before, memory_before) = (threads(client.pid()), status_kib(client.pid(), "VmRSS:"));
    let mut idle = Vec::new();
    for number in 0..1000 {
        let mut stream = TcpStream::connect(address(client.health_url())).expect("a connection");
        if number % 2 == 0 {
            std::io::Write::write_all(&mut stream, b"GET /healthz HTTP/1.1\r\nHo").expect("taken");
        }
        idle.push(stream);
        if number % 100 == 0 {
            let reply = http::get(&format!("{}/healthz", client.health_url())).expect("an answer");
            assert_eq!(reply.status, 200);
        }
    }
    assert_eq!(client.readyz().0, 200);
    let (held, memory) = (threads(client.pid()), status_kib(client.pid(), "VmRSS:"));
    // The listener's bound, and the pool's few spare threads.
    assert!(held < threads_before + 512 + 16, "{held} threads, were {threads_before}");
    assert!(memory < memory_before + 16 * 1024, "{memory} KiB, were {memory_before}");
    assert_eq!(Connector::new(&engine.mcp_url()).call(1, "echo", r#"{"n":1}"#).json()["result"]["n"], 1);
    drop(idle);
    eventually("their threads are gone", || threads(client.pid()) <= threads_before + 1);
}

#[test]
fn a_process_without_free_descriptors_answers_every_call_and_recovers() {
    let (engine, mcp) = (engine(), McpServer::by_tool_name());
    let mut client = Client::start(
        &engine.client_base_url(),
        &[
            "--mcp.server-url",
            &mcp.url(),
            "--mcp.max-concurrent-requests",
            "60",
            "--control-plane.max-inflight",
            "100",
        ],
    );
    client.wait_ready();
    let pid = Pid::from_raw(client.pid() as i32).expect("a pid");
    let limit = |current| Rlimit { current: Some(current), maximum: Some(1024) };
    prlimit(Some(pid), Resource::Nofile, limit(48)).expect("a limit");
    let connector = Connector::new(&engine.mcp_url());
    let calls: Vec<_> =
        (0..120).map(|id| connector.call_later(id, "slow-300", &format!(r#"{{"n":{id}}}"#))).collect();
    let mut failed = 0;
    for (id, call) in calls.into_iter().enumerate() {
        let reply = call.join().expect("the caller").expect("an answer");
        match reply.status {
            200 => assert_eq!(reply.json()["result"]["n"], id),
            502 => failed += 1,
            other => panic!("{other}: {}\n{}", reply.text(), client.output()),
        }
    }
    assert!(failed > 0, "the limit was felt");
    assert!(client.is_running());
    prlimit(Some(pid), Resource::Nofile, limit(1024)).expect("a limit");
    wait_works(&connector, &client);
    assert!(!client.output().contains("panicked"), "{}", client.output());
    assert_eq!(client.terminate().code(), Some(0));
}

#[test]
fn idle_connections_to_the_local_listener_leave_descriptors_for_the_road() {
    let (engine, mcp) = (engine(), McpServer::by_tool_name());
    let script = format!("ulimit -n 64; exec '{}' \"$@\"", client_binary());
    let mut client = Client::start_through(
        &["sh", "-c", &script, "sh"],
        &["--control-plane.base-url", &engine.client_base_url(), "--mcp.server-url", &mcp.url()],
        &[],
    );
    client.wait_ready();
    let flood: Vec<_> = (0..150).map(|_| TcpStream::connect(address(client.health_url()))).collect();
    let connector = Connector::new(&engine.mcp_url());
    let calls: Vec<_> =
        (0..30).map(|id| connector.call_later(id, "slow-100", &format!(r#"{{"n":{id}}}"#))).collect();
    for (id, call) in calls.into_iter().enumerate() {
        let reply = call.join().expect("the caller").expect("an answer");
        assert_eq!(reply.json()["result"]["n"], id, "{}\n{}", reply.text(), client.output());
    }
    assert_eq!(client.readyz().0, 200);
    drop(flood);
    assert_eq!(client.terminate().code(), Some(0));
}
