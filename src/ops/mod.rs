//! What an operator sees of a running client: logs, readiness, metrics and the local listener.
//!
//! Knows nothing of how commands are dispatched. Invariant: nothing in here can hold up the road of a
//! command for longer than a bounded moment.

pub mod admin;
pub mod bundle;
pub mod harpoon;
pub mod listener;
pub mod log;
mod metrics;
mod proxy_health;
mod state;
pub mod ui;

pub use metrics::{Answered, ChildReport, Metrics, PollEnd, ProtocolReport, ProxyCheck};
pub use proxy_health::{CheckRecord, HISTORY as PROXY_HISTORY, ProxyHealth, RouteHealth, RouteState};
pub use state::{Contact, Discovery, Metadata, Probe, ProbeFailure, Readiness, Reported, State};

/// An I/O error's own words, in lower case and without the error number.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
