//! The embedded MCP server that calls allow-listed URLs by label.
//!
//! A caller names a label, never a URL; what is reachable is what is in the [`Registry`]. Invariant: no
//! connection is opened to anything but the exact URL of a target, redirects included.

mod binding;
mod call;
mod discovered;
mod headers;
mod history;
mod hosts;
mod json;
mod parts;
mod redirect;
mod registry;
mod rewrite;
mod schema;
mod server;
mod session;
mod tools;
mod url;
pub mod views;

pub use binding::InProcess;
pub use call::{Bounds, Ways};
pub use discovered::{Discovered, OAUTH, Registration, label_of};
pub use history::{Call, History, MAX_CALLS, Payload};
pub use hosts::PrivateHosts;
pub use registry::{MAX_TARGETS, NewTarget, Registry, Rejected, Target};
pub use server::{Answer, Server, Setup};
pub use session::Session;
pub use url::{InvalidUrl, TargetUrl};

use std::time::Duration;

/// Stands for a label that nothing is registered under; can itself be none.
pub const UNKNOWN_LABEL: &str = "__unknown__";

/// Hears of every execution of `call_target`; must not block.
pub trait Observer: Send + Sync {
    /// It ended with `outcome`, the metric's word, after `latency`; `status` and `response_bytes` are the
    /// reply's.
    fn called(
        &self,
        label: &str,
        status: Option<u16>,
        outcome: &'static str,
        latency: Duration,
        response_bytes: u64,
    );
}
