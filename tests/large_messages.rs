//! The longest message that passes, the shortest that does not, and what many of them cost.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use common::http::{Request, reply, without_metadata};
use common::matrix_plane::{Plane, Post};
use common::mcp_server::{McpServer, Next};
use common::process::{Client, client_binary};
use common::{PATIENCE, eventually};

const MIB: usize = 1024 * 1024;
const TOO_LARGE: &str = "502 protocol/invalid_protocol_response";

/// A server whose tools `json-BYTES`, `sse-BYTES` and `chunked-BYTES` answer with messages of so many bytes.
fn sized(request: &Request, out: &mut TcpStream) -> Next {
    if let Some(reply) = without_metadata(request) {
        let _ = out.write_all(&reply);
        return Next::KeepAlive;
    }
    let message: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let Some((form, size)) = message["params"]["name"].as_str().and_then(|name| name.split_once('-')) else {
        let result =
            r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"l","version":"1"}}"#;
        let json = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, message["id"]);
        let _ = out.write_all(&reply(200, &[("Content-Type", "application/json")], &json));
        return Next::KeepAlive;
    };
    let text = message_of(size.parse().expect("a size"), &message["id"].to_string());
    let sent = match form {
        "json" => out.write_all(&reply(200, &[("Content-Type", "application/json")], &text)),
        "chunked" => out
            .write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            )
            .and_then(|()| out.write_all(format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len()).as_bytes())),
        _ => {
            out.write_all(&reply(200, &[("Content-Type", "text/event-stream")], &format!("data: {text}\n\n")))
        }
    };
    if sent.is_ok() { Next::KeepAlive } else { Next::Close }
}

/// An answer of exactly `bytes` bytes.
fn message_of(bytes: usize, id: &str) -> String {
    let empty = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":""}}"#);
    empty.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - empty.len())))
}

struct Subject {
    plane: Plane,
    client: Client,
    _server: McpServer,
}

impl Subject {
    fn start(limit: usize, more: &[&str]) -> Subject {
        let (plane, server) = (Plane::start(), McpServer::scripted(sized));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/matrix_child.sh");
        let child = format!("channel=child,command=sh '{}'", script.display());
        let (limit, url, base_url) = (limit.to_string(), server.url(), plane.base_url());
        let fixed = [
            "--control-plane.base-url",
            &base_url,
            "--mcp.max-message-bytes",
            &limit,
            "--mcp.server-url",
            &url,
            "--mcp.command",
            &child,
        ];
        let program = std::env::var("TUNNEL_CLIENT").unwrap_or_else(|_| client_binary().to_owned());
        let arguments: Vec<&str> = fixed.into_iter().chain(more.iter().copied()).collect();
        let client = Client::start_through(&[&program], &arguments, &[]);
        client.wait_ready();
        Subject { plane, client, _server: server }
    }

    fn issue(&self, form: &str, bytes: usize) -> String {
        let (channel, tool) = match form {
            "line" => ("child", format!("fault/sized {bytes}")),
            form => ("main", format!("{form}-{bytes}")),
        };
        let call =
            format!(r#"{{"jsonrpc":"2.0","id":41,"method":"tools/call","params":{{"name":"{tool}"}}}}"#);
        self.plane
            .issue("large", &format!(r#""channel":"{channel}","command_type":"jsonrpc","jsonrpc":{call}"#))
    }

    fn answer(&self, id: &str) -> Post {
        self.plane.answer(id, PATIENCE * 3).expect("an answer")
    }

    fn verdict(&self, form: &str, bytes: usize) -> String {
        let post = self.answer(&self.issue(form, bytes));
        if post.code == 200 {
            assert!(post.text.len() > bytes, "the whole message arrived");
        }
        post.verdict()
    }

    fn kib(&self, field: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.client.pid())).expect("it lives");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    }
}

#[test]
fn a_message_of_the_greatest_length_passes_and_one_byte_more_does_not() {
    let limit = 100_000;
    let subject = Subject::start(limit, &[]);
    for form in ["json", "chunked", "sse", "line"] {
        assert_eq!(subject.verdict(form, limit), "200", "{form}");
        assert_eq!(subject.verdict(form, limit + 1), TOO_LARGE, "{form}");
        assert_eq!(subject.verdict(form, 1000), "200", "{form}");
    }
}

/// Memory that a call may take beyond what it has to keep of its message.
const OVERHEAD_KIB: u64 = 512;

#[test]
fn many_large_answers_at_once_take_two_copies_each_and_are_given_back() {
    let (calls, bytes) = (10, 4 * MIB);
    let subject = Subject::start(64 * MIB, &["--mcp.max-concurrent-requests", "10"]);
    subject.verdict("json", 1000);
    let before = subject.kib("VmHWM:");
    let issued: Vec<_> = (0..calls).map(|_| subject.issue("json", bytes)).collect();
    for id in &issued {
        assert_eq!(subject.answer(id).code, 200);
    }
    let most = before + calls as u64 * (2 * bytes as u64 / 1024 + OVERHEAD_KIB);
    let peak = subject.kib("VmHWM:");
    assert!(peak <= most, "{peak} KiB, at most {most} were expected");
    eventually("memory is given back", || subject.kib("VmRSS:") < before + 16 * 1024);
}

#[test]
#[ignore = "moves gigabytes: build with --release, set TUNNEL_CLIENT and run alone"]
fn messages_around_the_default_limit() {
    let subject = Subject::start(64 * MIB, &["--mcp.max-concurrent-requests", "20"]);
    for form in ["json", "chunked", "sse", "line"] {
        let started = std::time::Instant::now();
        assert_eq!(subject.verdict(form, 64 * MIB), "200", "{form}");
        println!("{form}: 64 MiB in {:?}, peak {} KiB", started.elapsed(), subject.kib("VmHWM:"));
        assert_eq!(subject.verdict(form, 65 * MIB), TOO_LARGE, "{form}");
        println!(
            "{form}: 65 MiB refused, peak {} KiB, now {} KiB",
            subject.kib("VmHWM:"),
            subject.kib("VmRSS:")
        );
    }
    for form in ["json", "sse"] {
        let issued: Vec<_> = (0..20).map(|_| subject.issue(form, 16 * MIB)).collect();
        for id in &issued {
            assert_eq!(subject.answer(id).code, 200);
        }
        println!("20 x 16 MiB as {form}: peak {} KiB", subject.kib("VmHWM:"));
    }
    std::thread::sleep(Duration::from_secs(2));
    println!("afterwards {} KiB", subject.kib("VmRSS:"));
}
