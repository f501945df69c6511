//! `dev proxy` as scripts use it: connection data, files, budgets.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use common::command::Home;
use common::mcp_server::McpServer;

/// A proxy that has printed its connection data.
struct Proxy {
    child: Child,
    json: Value,
    text: String,
}

impl Proxy {
    fn start(home: &Home, words: &[&str]) -> Proxy {
        let mut command = home.command(&[&["dev", "proxy", "--print-json"], words].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.ends_with("}\n") {
            assert!(stdout.read_line(&mut text).unwrap() > 0, "{text}");
        }
        Proxy { child, json: serde_json::from_str(&text).unwrap(), text }
    }

    fn stop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_url_file_has_what_is_printed_and_goes_with_the_proxy() {
    let (home, server) = (Home::new(), McpServer::by_tool_name());
    let path = home.path("deep/dir/proxy.json");
    let words = ["--url-file", path.to_str().unwrap(), "--mcp-server-url", &server.url()];
    let mut proxy = Proxy::start(&home, &words);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), proxy.text);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    let socket = proxy.json["control_plane_unix_socket"].as_str().unwrap().to_owned();
    proxy.stop();
    assert!(!path.exists() && !std::path::Path::new(&socket).parent().unwrap().exists());
}

#[test]
fn the_path_of_another_control_plane_does_not_lead_the_client_astray() {
    let server = McpServer::by_tool_name();
    let home =
        Home::new().with("CONTROL_PLANE_URL_PATH", "/elsewhere").with("CONTROL_PLANE_API_KEY", "other");
    let mut proxy = Proxy::start(&home, &["--listen=localhost:0", "--mcp-server-url", &server.url()]);
    assert!(proxy.json["mcp_url"].as_str().unwrap().contains("/v1/mcp/tunnel_2222"));
    proxy.stop();
}

#[test]
fn an_empty_health_address_opens_no_listener() {
    let (home, server) = (Home::new(), McpServer::by_tool_name());
    let mut proxy = Proxy::start(&home, &["--health-listen-addr", "", "--mcp-server-url", &server.url()]);
    assert_eq!(proxy.json.get("health_url"), None, "{}", proxy.text);
    proxy.stop();
}

#[test]
fn one_budget_covers_the_whole_start() {
    let home = Home::new();
    // Connects, but is never answered: the probe stays pending.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", silent.local_addr().unwrap());
    let words = ["dev", "proxy", "--readiness-timeout=200ms", "--duration=20s", "--mcp-server-url", &url];
    let run = home.run(&words);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
    assert!(run.stderr.contains("within --readiness-timeout"), "{run:?}");
}
