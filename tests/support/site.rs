//! A local control plane with both of its sides at hand.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tunnel_client::ids::TunnelId;
use tunnel_client::secret::Secret;
use tunnel_client::server::{ClientListener, ListenAt, Local, LocalOptions};

use super::wire::{PATIENCE, Reply, Wire};

pub(crate) const TUNNEL: &str = "tunnel_0123456789abcdef0123456789abcdef";
pub(crate) const KEY: &str = "test-key";
pub(crate) const LIST: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
pub(crate) const RESULT: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"ok":true}}"#;

pub(crate) struct Site {
    pub(crate) local: Local,
    pub(crate) ingress: SocketAddr,
    pub(crate) client: SocketAddr,
}

impl Site {
    pub(crate) fn start() -> Site {
        Site::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut LocalOptions)) -> Site {
        let mut options = LocalOptions::new(TunnelId::parse(TUNNEL).unwrap(), Secret::new(KEY.to_owned()));
        options.client = ClientListener::Tcp("127.0.0.1:0".parse().unwrap());
        change(&mut options);
        let local = Local::start(options).unwrap();
        let ingress = match local.ingress() {
            ListenAt::Tcp(address) => *address,
            ListenAt::Unix(_) => "127.0.0.1:0".parse().unwrap(),
        };
        let client = local.client_base_url().strip_prefix("http://").and_then(|a| a.parse().ok());
        let client = client.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        Site { local, ingress, client }
    }

    /// Makes a client known by one poll that finds nothing.
    pub(crate) fn connect(&self) {
        assert_eq!(self.poll("timeout_ms=1").status, 204);
    }

    pub(crate) fn caller(&self) -> Wire {
        Wire::tcp(self.ingress)
    }

    pub(crate) fn client(&self) -> Wire {
        Wire::tcp(self.client)
    }

    pub(crate) fn poll(&self, query: &str) -> Reply {
        let mut wire = self.client();
        send_poll(&mut wire, query);
        wire.read()
    }

    /// Polls until there is one command.
    pub(crate) fn command(&self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.poll("limit=1&timeout_ms=2000");
            if reply.status == 200 {
                let commands = reply.json();
                assert_eq!(commands["commands"].as_array().unwrap().len(), 1);
                return commands["commands"][0].clone();
            }
            assert!(Instant::now() < deadline, "no command came: {reply:?}");
        }
    }

    pub(crate) fn respond(&self, command: &Value, body: Value) -> Reply {
        let mut wire = self.client();
        post_response(&mut wire, TUNNEL, command["shard_token"].as_str().unwrap(), command, body)
    }

    /// Waits until the gauges satisfy `done`.
    pub(crate) fn wait_for(&self, what: &str, done: impl Fn(&tunnel_client::server::Gauges) -> bool) {
        wait_for(what, || done(&self.local.gauges()));
    }
}

/// Waits for a condition that another thread brings about; there is no event to wait on from outside.
pub(crate) fn wait_for(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn bearer() -> (&'static str, String) {
    ("Authorization", format!("Bearer {KEY}"))
}

pub(crate) fn send_poll(wire: &mut Wire, query: &str) {
    let (name, value) = bearer();
    wire.send("GET", &format!("/v1/tunnels/{TUNNEL}/poll?{query}"), &[(name, &value)], None);
}

pub(crate) fn send_call(wire: &mut Wire, accept: &str, body: &str) {
    let headers = [("Accept", accept), ("Content-Type", "application/json")];
    wire.send("POST", &format!("/v1/mcp/{TUNNEL}"), &headers, Some(body.as_bytes()));
}

/// Posts `body`, to which the request id of `command` is added.
pub(crate) fn post_response(
    wire: &mut Wire,
    tunnel: &str,
    token: &str,
    command: &Value,
    mut body: Value,
) -> Reply {
    body["request_id"] = command["request_id"].clone();
    let (name, value) = bearer();
    let headers =
        [(name, value.as_str()), ("Content-Type", "application/json"), ("X-Tunnel-Shard-Token", token)];
    let body = body.to_string();
    wire.call("POST", &format!("/v1/tunnels/{tunnel}/response"), &headers, Some(body.as_bytes()))
}

/// A terminal response with [`RESULT`].
pub(crate) fn result() -> Value {
    json!({"resp_code": 200, "channel": "main", "resp_type": "jsonrpc_response",
           "resp_json": serde_json::from_str::<Value>(RESULT).unwrap(),
           "resp_headers": {"Content-Type": ["application/json"]}})
}

/// What a caller accepts that takes an event stream as well.
pub(crate) const BOTH: &str = "application/json, text/event-stream";

/// A notification of progress.
pub(crate) fn notify(progress: u32) -> Value {
    json!({"resp_code": 200, "resp_type": "jsonrpc_notify",
           "resp_json": {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": progress}},
           "resp_headers": {"Content-Type": ["text/event-stream"], "Mcp-Session-Id": ["s"]}})
}
