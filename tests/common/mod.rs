//! What the tests of the real binaries share: a client process, an engine, scripted MCP servers, a
//! fault-injecting proxy before the engine, and a connector.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod command;
pub mod connector;
pub mod control_plane;
pub mod control_plane_rules;
pub mod fault_proxy;
pub mod gate;
pub mod http;
pub mod matrix_lane;
pub mod matrix_plane;
pub mod matrix_rows;
pub mod matrix_server;
pub mod matrix_subject;
pub mod mcp_server;
pub mod process;
pub mod scripted_plane;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tunnel_client::ids::TunnelId;
use tunnel_client::secret::Secret;
use tunnel_client::server::{ClientListener, Local, LocalOptions};

/// Bound of every wait for an event. Generous: a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The tunnel that the tests use.
pub const TUNNEL_ID: &str = "tunnel_0123456789abcdef0123456789abcdef";
/// The runtime key that the tests use; no output may ever show it.
pub const API_KEY: &str = "sk-test-0f1e2d3c4b5a";

/// The engine with the tests' tunnel and key, both sides on loopback ports of their own.
pub fn engine() -> Local {
    engine_with(|_| {})
}

/// The same with other options.
pub fn engine_with(change: impl FnOnce(&mut LocalOptions)) -> Local {
    let tunnel = TunnelId::parse(TUNNEL_ID).expect("a tunnel id");
    let mut options = LocalOptions::new(tunnel, Secret::new(API_KEY.to_owned()));
    options.client = ClientListener::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    options.response_timeout = PATIENCE;
    change(&mut options);
    Local::start(options).expect("the engine starts")
}

/// Waits until a client polls.
pub fn wait_polled(engine: &Local) {
    eventually("a client polls", || engine.gauges().parked > 0);
}

/// `host:port` of an `http` URL without a path.
pub fn address(url: &str) -> &str {
    url.strip_prefix("http://").expect("an http URL")
}

/// Waits until `condition` holds; panics naming `what` when it does not within [`PATIENCE`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
