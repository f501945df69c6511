//! A small MCP server with OAuth metadata, for demonstrations and first-use checks.
//!
//! Streamable HTTP at `/mcp` in both protocol eras, no authentication anywhere. Invariant: no peer is
//! waited for without a limit, and [`Stub::stop`] joins all threads at once, whatever connections are
//! open.

mod endpoint;
mod metadata;
mod sessions;
mod tools;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use crate::net::Cancel;
use crate::net::front::{Bound, Front, Limits, SMALL_STACK_BYTES, Settings, WhenFull};

use endpoint::Service;

/// Where the stub listens unless told otherwise: an ephemeral port of the loopback interface.
pub const DEFAULT_LISTEN_ADDR: &str = "127.0.0.1:0";
/// The name it gives itself unless told otherwise.
pub const DEFAULT_NAME: &str = "mcp-stub";
/// The version it gives itself unless told otherwise.
pub const DEFAULT_VERSION: &str = "0.1.0";
/// Bounds of its connections.
const LIMITS: Limits = Limits {
    head: Duration::from_secs(5),
    head_bytes: 16 * 1024,
    idle: Duration::from_secs(120),
    body: Duration::from_secs(10),
    discard: Duration::from_secs(1),
    write: Duration::from_secs(5),
    connections: 128,
};
/// Longest time for replies in progress once it stops.
const STOP_TIME: Duration = Duration::from_secs(5);

/// A running stub; dropping it stops it.
pub struct Stub {
    front: Option<Front>,
    service: Arc<Service>,
    cancel: Cancel,
    base: String,
}

impl Stub {
    /// Listens on `listen_addr` and answers as `name` and `version`; blank texts mean the defaults.
    /// Fails if the address is none, or cannot be bound.
    pub fn start(listen_addr: &str, name: &str, version: &str) -> io::Result<Stub> {
        Stub::start_with(listen_addr, name, version, false)
    }

    /// The same with a fourth tool, `countdown`, which reports its progress while it runs.
    pub fn start_demo(listen_addr: &str, name: &str, version: &str) -> io::Result<Stub> {
        Stub::start_with(listen_addr, name, version, true)
    }

    fn start_with(listen_addr: &str, name: &str, version: &str, countdown: bool) -> io::Result<Stub> {
        let or = |text: &str, default: &str| match text.trim() {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        let listener = TcpListener::bind(or(listen_addr, DEFAULT_LISTEN_ADDR))?;
        let address = listener.local_addr()?;
        let cancel = Cancel::new();
        let tools =
            tools::Tools { name: or(name, DEFAULT_NAME), version: or(version, DEFAULT_VERSION), countdown };
        let service = Arc::new(Service::new(tools, cancel.clone()));
        let settings = Settings {
            name: "mcpclient",
            limits: LIMITS,
            when_full: WhenFull::Evict,
            stack_bytes: SMALL_STACK_BYTES,
        };
        let answering: Arc<Service> = Arc::clone(&service);
        let front = Front::start(vec![Bound::tcp(listener)?], settings, answering, |error| {
            log::error!(target: "mcpclient", error:%; "MCP stub cannot accept connections");
        })?;
        Ok(Stub { front: Some(front), service, cancel, base: format!("http://{address}") })
    }

    /// Scheme, host and port.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The MCP endpoint.
    pub fn url(&self) -> String {
        format!("{}/mcp", self.base)
    }

    /// The protected-resource metadata (RFC 9728) of the MCP endpoint.
    pub fn resource_metadata_url(&self) -> String {
        format!("{}{}", self.base, metadata::RESOURCE_PATH)
    }

    /// The authorization-server metadata (RFC 8414).
    pub fn server_metadata_url(&self) -> String {
        format!("{}{}", self.base, metadata::SERVER_PATH)
    }

    /// Stops accepting, finishes what is being answered and joins all threads.
    pub fn stop(&mut self) {
        let Some(mut front) = self.front.take() else { return };
        self.cancel.cancel();
        self.service.close_streams();
        front.drain();
        front.wait_drained(STOP_TIME);
        front.stop();
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
