//! What the tests of the real binaries share: a client process, an engine, scripted MCP servers, a
//! fault-injecting proxy before the engine, and a connector.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod connector;
pub mod fault_proxy;
pub mod http;
pub mod mcp_server;
pub mod process;

use std::time::{Duration, Instant};

/// Bound of every wait for an event. Generous: a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The tunnel that the tests use.
pub const TUNNEL_ID: &str = "tunnel_0123456789abcdef0123456789abcdef";
/// The runtime key that the tests use; no output may ever show it.
pub const API_KEY: &str = "sk-test-0f1e2d3c4b5a";

/// Waits until `condition` holds; panics naming `what` when it does not within [`PATIENCE`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
