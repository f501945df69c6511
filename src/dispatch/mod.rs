//! From a polled command to its terminal response.
//!
//! Knows the control plane's types and the MCP bindings; neither knows it. Invariant: every command
//! that enters ends in exactly one terminal response, whatever fails, worker panics included, unless
//! its deadline has passed, or it has one and its connector took it back: then in none.

mod command;
mod listens;
mod outcome;
mod place;
mod pool;
mod queue;
mod reply;
#[cfg(test)]
mod tests;
mod trace;

pub use place::Place;
pub use pool::{Dispatcher, Setup, StartError};
pub use queue::{Queue, Taken};

use std::collections::HashMap;
use std::sync::Arc;

use crate::control_plane::{Client, Command, Delivery, Posting};
use crate::ids::Channel;
use crate::mcp::Binding;

/// The bindings that commands are routed to, by channel.
pub type Routes = HashMap<Channel, Arc<Binding>>;

/// Delivers responses.
pub trait Poster: Send + Sync {
    /// Posts one response, retries included.
    fn post(&self, posting: &Posting<'_>) -> Delivery;
}

impl Poster for Client {
    fn post(&self, posting: &Posting<'_>) -> Delivery {
        Client::post(self, posting)
    }
}

/// Hears what happens; every method may be called from any worker and must not block.
pub trait Observer: Send + Sync {
    /// A worker took a command.
    fn worker_busy(&self) {}
    /// A worker finished one.
    fn worker_idle(&self) {}
    /// A terminal response was delivered.
    fn delivered(&self, _delivered: &Delivered<'_>) {}
    /// A command named a channel that nothing serves. `command_type` is the wire's.
    fn unsupported_channel(&self, _channel: &Channel, _command_type: &'static str) {}
}

/// A command whose terminal response was delivered.
pub struct Delivered<'a> {
    /// The command.
    pub command: &'a Command,
    /// `call`, `notification`, `session_termination` or `oauth_discovery`.
    pub kind: &'static str,
    /// JSON-RPC method, for the first two.
    pub method: Option<&'a str>,
    /// `resp_code` that was posted.
    pub code: u16,
}
