//! Load: concurrent calls through `dev proxy` to an echo server. The small run is part of the suite;
//! the other one is for measuring: `cargo test --release --test server_load -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use common::command::Home;
use common::connector::Connector;
use common::mcp_server::McpServer;

/// The knobs of a run.
#[derive(Debug)]
struct Load {
    workers: usize,
    max_inflight: usize,
    mcp_concurrency: usize,
    payload_bytes: usize,
    request_timeout: String,
}

impl Load {
    fn from_environment() -> Load {
        let number = |name: &str, default: usize| match std::env::var(format!("TUNNEL_CLIENT_LOAD_{name}")) {
            Ok(text) => text.parse().ok().filter(|n| *n > 0).unwrap_or_else(|| panic!("{name}={text:?}")),
            Err(_) => default,
        };
        let max_inflight = number("MAX_INFLIGHT", 256);
        assert!(max_inflight <= 10_000, "TUNNEL_CLIENT_LOAD_MAX_INFLIGHT is at most 10000");
        Load {
            workers: number("WORKERS", 64),
            max_inflight,
            mcp_concurrency: number("MCP_CONCURRENCY", 64),
            payload_bytes: number("PAYLOAD_BYTES", 1024),
            request_timeout: std::env::var("TUNNEL_CLIENT_LOAD_REQUEST_TIMEOUT")
                .unwrap_or_else(|_| "30s".to_owned()),
        }
    }

    /// Sends `requests` calls after one to warm up; the latencies, sorted, and the time of all.
    fn run(&self, server: &McpServer, requests: usize) -> (Vec<Duration>, Duration) {
        let home = Home::new()
            .with("CONTROL_PLANE_MAX_INFLIGHT_REQUESTS", &self.max_inflight.to_string())
            .with("MCP_MAX_CONCURRENT_REQUESTS", &self.mcp_concurrency.to_string());
        let proxy = Proxy::start(&home, &server.url(), &self.request_timeout);
        let url = proxy.url.as_str();
        let arguments = format!(r#"{{"text":"{}"}}"#, "x".repeat(self.payload_bytes));
        let call = |id: usize| {
            let began = Instant::now();
            let reply = Connector::new(url).call(id as u64, "echo", &arguments);
            assert!((200..300).contains(&reply.status), "{reply:?}");
            assert!(reply.json()["result"].is_object(), "{}", reply.text());
            began.elapsed()
        };
        call(0);
        let (next, began) = (AtomicUsize::new(1), Instant::now());
        let worker = || {
            let mut times = Vec::new();
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed);
                if id > requests {
                    return times;
                }
                times.push(call(id));
            }
        };
        let mut times: Vec<Duration> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.workers).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        times.sort();
        (times, began.elapsed())
    }
}

/// A running `dev proxy`.
struct Proxy {
    child: Child,
    url: String,
}

impl Proxy {
    fn start(home: &Home, server: &str, timeout: &str) -> Proxy {
        let words =
            ["dev", "proxy", "--print-json", "--mcp-server-url", server, "--response-timeout", timeout];
        let mut child = home.command(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.ends_with("}\n") {
            assert!(stdout.read_line(&mut text).unwrap() > 0, "{text}");
        }
        let json: Value = serde_json::from_str(&text).unwrap();
        Proxy { child, url: json["mcp_url"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

fn echoed(server: &McpServer) -> usize {
    server.seen().iter().filter(|request| request.text().contains(r#""tools/call""#)).count()
}

#[test]
fn four_calls_of_two_workers_reach_the_server_once_each() {
    let server = McpServer::by_tool_name();
    let load = Load { workers: 2, payload_bytes: 16, ..Load::from_environment() };
    let (times, _) = load.run(&server, 4);
    assert_eq!((times.len(), echoed(&server)), (4, 5), "four calls, and one to warm up");
}

#[test]
#[ignore = "measures; takes its time"]
fn many_calls() {
    let server = McpServer::by_tool_name();
    let load = Load::from_environment();
    let (times, all) = load.run(&server, load.workers * 100);
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!("{load:?}");
    println!("req/s {:.0}", times.len() as f64 / all.as_secs_f64());
    println!("p50_ms {:.2} p95_ms {:.2} p99_ms {:.2} max_ms {:.2}", at(50), at(95), at(99), at(100));
}
