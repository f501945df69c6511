//! A client that polls for channel `harpoon` alone, and what is behind its targets.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::common::control_plane::{self, ControlPlane};
use crate::common::http::{self, Request};
use crate::common::mcp_server::{McpServer, Next};
use crate::common::process::{Client, client_binary};

pub struct Site {
    // In this order: the client goes before what it talks to.
    pub client: Client,
    pub plane: ControlPlane,
    next: AtomicUsize,
}

/// What a target answers.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply { status: 200, headers: Vec::new(), body: body.into() }
    }

    pub fn moved(status: u16, location: impl Into<String>) -> Reply {
        Reply { status, headers: vec![("Location".into(), location.into())], body: b"moved".to_vec() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn send(&self, stream: &mut TcpStream) -> Next {
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        let bytes = [head.as_bytes(), &self.body].concat();
        match stream.write_all(&bytes) {
            Ok(()) => Next::KeepAlive,
            Err(_) => Next::Close,
        }
    }
}

/// A target that answers each request as `answer` says.
pub fn target(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> McpServer {
    McpServer::scripted(move |request, stream| answer(request).send(stream))
}

/// A target that tells what it was asked.
pub fn echo() -> McpServer {
    target(|request| Reply::ok(format!("{} {} {}", request.method, request.path, request.text())))
}

/// `http://127.0.0.1:PORT`.
pub fn base(server: &McpServer) -> String {
    server.url().trim_end_matches("/mcp").to_owned()
}

impl Site {
    /// With these targets, plain HTTP allowed, and these arguments; past its handshake.
    pub fn start(targets: &[(&str, &str)], arguments: &[&str]) -> Site {
        let entries: Vec<String> =
            targets.iter().map(|(label, url)| format!("label={label},url={url}")).collect();
        let mut all = vec!["--harpoon.allow-plaintext-http"];
        for entry in &entries {
            all.extend(["--harpoon.target", entry.as_str()]);
        }
        all.extend(arguments);
        let site = Site::bare(&all);
        let answer = site.rpc("initialize", json!({"protocolVersion": "2025-06-18"}));
        assert_eq!(answer["result"]["protocolVersion"], "2025-06-18", "{answer}");
        site
    }

    /// With these arguments, before its handshake.
    pub fn bare(arguments: &[&str]) -> Site {
        Site::bare_with(arguments, &[])
    }

    pub fn bare_with(arguments: &[&str], variables: &[(&str, &str)]) -> Site {
        Site::bare_through(&[client_binary()], arguments, variables)
    }

    /// By a command that ends in running what follows it as the client's arguments.
    pub fn bare_through(command: &[&str], arguments: &[&str], variables: &[(&str, &str)]) -> Site {
        let plane = ControlPlane::start();
        let fixed =
            ["--log.format", "json", "--log.level", "debug", "--control-plane.poll-channel", "harpoon"];
        let base_url = plane.base_url();
        let all = [&["--control-plane.base-url", &base_url], &fixed[..], arguments].concat();
        let client = Client::start_through(command, &all, variables);
        Site { client, plane, next: AtomicUsize::new(1) }
    }

    /// Sends a call with these members of its command; the id of the command.
    pub fn send(&self, method: &str, params: Value, members: &str) -> String {
        let (id, command) = self.command(method, &params, members);
        self.plane.send(&[command]);
        id
    }

    /// Sends the same call many times, several with each poll.
    pub fn send_many(&self, method: &str, params: &Value, times: usize) -> Vec<String> {
        let (ids, commands): (Vec<_>, Vec<_>) = (0..times).map(|_| self.command(method, params, "")).unzip();
        commands.chunks(20).for_each(|batch| self.plane.send(batch));
        ids
    }

    fn command(&self, method: &str, params: &Value, members: &str) -> (String, String) {
        let n = self.next.fetch_add(1, Ordering::SeqCst);
        let id = format!("r{n}");
        let json = json!({"jsonrpc": "2.0", "id": n, "method": method, "params": params});
        let members = format!(r#","channel":"harpoon"{members}"#);
        let command = control_plane::message(&id, &json.to_string(), &members);
        (id, command)
    }

    /// The response that was posted for a command.
    pub fn answer(&self, id: &str) -> Value {
        self.plane.wait_answers(&[id])[0].json()
    }

    /// The JSON-RPC answer to one call.
    pub fn rpc(&self, method: &str, params: Value) -> Value {
        let id = self.send(method, params, "");
        let posted = self.answer(&id);
        assert_eq!(posted["channel"], "harpoon");
        posted["resp_json"].clone()
    }

    /// The JSON-RPC answer to a call of a tool.
    pub fn tool(&self, name: &str, arguments: Value) -> Value {
        self.rpc("tools/call", json!({"name": name, "arguments": arguments}))
    }

    /// The structured result of a call that succeeds.
    pub fn call(&self, arguments: Value) -> Value {
        let answer = self.tool("call_target", arguments);
        let result = &answer["result"];
        assert!(result["isError"].is_null(), "{answer}");
        result["structuredContent"].clone()
    }

    /// The text of a call that fails.
    pub fn failure(&self, arguments: Value) -> String {
        failure_of(&self.tool("call_target", arguments))
    }

    /// A document of the admin API.
    pub fn api(&self, path: &str) -> Value {
        http::get(&format!("{}/api/{path}", self.client.health_url())).unwrap().json()
    }

    /// The log's lines so far with this message.
    pub fn events(&self, message: &str) -> Vec<Value> {
        let output = self.client.output();
        let events = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["msg"] == message).collect()
    }

    pub fn metrics(&self) -> String {
        http::get(&format!("{}/metrics", self.client.health_url())).unwrap().text()
    }
}

/// The text of a tool's error.
pub fn failure_of(answer: &Value) -> String {
    let result = &answer["result"];
    assert_eq!(result["isError"], true, "{answer}");
    assert!(result["structuredContent"].is_null(), "{answer}");
    result["content"][0]["text"].as_str().unwrap().to_owned()
}

/// The bytes of a result's body.
pub fn body_of(result: &Value) -> Vec<u8> {
    let text = result["body_base64"].as_str().unwrap();
    let value = |b: u8| match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = group.iter().fold(0_u32, |bits, b| bits << 6 | u32::from(value(*b)));
        let bits = bits << (6 * (4 - group.len()));
        bytes.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}

/// The same as text.
pub fn text_of(result: &Value) -> String {
    String::from_utf8(body_of(result)).unwrap()
}
