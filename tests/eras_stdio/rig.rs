//! A client between a scripted control plane and a scripted server.

use std::path::PathBuf;

use crate::common::process::{Client, client_binary};
use crate::common::scripted_plane::{Post, ScriptedPlane, jsonrpc};
use serde_json::Value;

pub const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"chat","version":"7"},"io.modelcontextprotocol/clientCapabilities":{"extensions":{"a/b":{}}}}"#;
pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
pub const CODEX: &str =
    r#"{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"codex","version":"1.0.0"}}"#;

/// A client before a server of these manners, and what the server has read.
pub struct Rig {
    pub plane: ScriptedPlane,
    pub client: Client,
    pub record: PathBuf,
    pub _directory: tempfile::TempDir,
    pub next: std::cell::Cell<usize>,
}

impl Rig {
    pub fn new(manners: &str, arguments: &[&str]) -> Rig {
        let directory = tempfile::tempdir().unwrap();
        let record = directory.path().join("record");
        let server = PathBuf::from(client_binary()).with_file_name("examples").join("era_server");
        let command = format!("{} {manners} {}", server.display(), record.display());
        let plane = ScriptedPlane::start();
        let all =
            [&["--mcp.command", command.as_str(), "--log.level", "debug", "--log.format", "json"], arguments]
                .concat();
        let client = Client::start(&plane.base_url(), &all);
        Rig { plane, client, record, _directory: directory, next: std::cell::Cell::new(0) }
    }

    pub fn start(&self, payload: &str, more: &str) -> String {
        let name = format!("r{}", self.next.replace(self.next.get() + 1));
        self.plane.send(&[jsonrpc(&name, payload, more)]);
        name
    }

    pub fn send(&self, payload: &str) -> Post {
        self.send_with(payload, "")
    }

    pub fn send_with(&self, payload: &str, more: &str) -> Post {
        self.plane.wait_terminal(&self.start(payload, more))
    }

    /// What the server has read, the number of its process first; its starts left out.
    pub fn seen(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.record).unwrap_or_default();
        text.lines().filter(|line| !line.ends_with(" start")).map(str::to_owned).collect()
    }

    /// The methods of that.
    pub fn methods(&self) -> Vec<String> {
        self.seen()
            .iter()
            .map(|line| {
                let (number, json) = line.split_once(' ').unwrap();
                let message: Value = serde_json::from_str(json).unwrap();
                format!("{number} {}", message["method"].as_str().unwrap_or("-"))
            })
            .collect()
    }
}

pub fn call(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)
}

pub fn modern(id: &str, method: &str, params: &str) -> String {
    let comma = if params.is_empty() { "" } else { "," };
    call(id, method, &format!("{params}{comma}{META}"))
}

pub fn tool(id: &str, name: &str) -> String {
    call(id, "tools/call", &format!(r#""name":"{name}","arguments":{{"n":1.10}}"#))
}

pub fn modern_tool(id: &str, name: &str) -> String {
    modern(id, "tools/call", &format!(r#""name":"{name}","arguments":{{"n":1.10}}"#))
}

pub fn initialize(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{CODEX}}}"#)
}

pub fn discover(id: &str) -> String {
    modern(id, "server/discover", "")
}

pub fn result(post: &Post) -> Value {
    assert_eq!(post.code(), 200, "{}", post.payload());
    let result = post.json["resp_json"]["result"].clone();
    assert!(result.is_object(), "{}", post.payload());
    result
}

pub fn error(post: &Post) -> (u64, i64) {
    (post.code(), post.json["resp_json"]["error"]["code"].as_i64().unwrap())
}
