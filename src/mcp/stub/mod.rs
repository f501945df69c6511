//! A small MCP server with OAuth metadata, for demonstrations and first-use checks.
//!
//! Streamable HTTP at `/mcp` in both protocol eras, no authentication anywhere. Invariant: a fixed
//! number of workers answers, none of them waits on a peer without a limit, and [`Stub::stop`] joins
//! them at once, whatever connections are open.

mod accept;
mod endpoint;
mod metadata;
mod rules;
mod sessions;
mod tools;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout, set_tcp_nodelay};

use crate::net::Cancel;

use accept::Front;
use endpoint::Service;

/// Where the stub listens unless told otherwise: an ephemeral port of the loopback interface.
pub const DEFAULT_LISTEN_ADDR: &str = "127.0.0.1:0";
/// The name it gives itself unless told otherwise.
pub const DEFAULT_NAME: &str = "mcp-stub";
/// The version it gives itself unless told otherwise.
pub const DEFAULT_VERSION: &str = "0.1.0";
/// Requests answered at once; more wait.
const WORKERS: usize = 4;
/// Longest time for one write on a connection.
const SOCKET_TIME: Duration = Duration::from_secs(5);

/// A running stub; dropping it stops it.
pub struct Stub {
    front: Arc<Front>,
    service: Arc<Service>,
    workers: Vec<JoinHandle<()>>,
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
        // Accepted sockets inherit both. A receive time-out would be inherited too, but it also ends the
        // wait for a connection, which tiny_http takes for the end of the listener.
        set_socket_timeout(&listener, Timeout::Send, Some(SOCKET_TIME))?;
        set_tcp_nodelay(&listener, true)?;
        let address: SocketAddr = listener.local_addr()?;
        let cancel = Cancel::new();
        let front = Arc::new(Front::new(listener, WORKERS, cancel.clone())?);
        let tools =
            tools::Tools { name: or(name, DEFAULT_NAME), version: or(version, DEFAULT_VERSION), countdown };
        let service = Arc::new(Service::new(tools, cancel.clone()));
        let mut stub = Stub {
            front: Arc::clone(&front),
            service: Arc::clone(&service),
            workers: Vec::new(),
            cancel,
            base: format!("http://{address}"),
        };
        for number in 1..=WORKERS {
            let (front, service) = (Arc::clone(&front), Arc::clone(&service));
            let worker = std::thread::Builder::new().name(format!("mcp-stub-{number}")).spawn(move || {
                while let Some(request) = front.next() {
                    service.answer(request);
                }
            })?;
            stub.workers.push(worker);
        }
        Ok(stub)
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

    /// Stops answering and joins the workers; requests that are being answered are finished.
    pub fn stop(&mut self) {
        self.cancel.cancel();
        self.front.unblock();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
        self.service.close_streams();
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
