//! OAuth discovery: the metadata of the private MCP server and of its authorization server, fetched from
//! inside the network (RFC 9728, RFC 8414, OpenID Connect Discovery).
//!
//! Runs at the start, again while it fails, and for every command that asks for it. Knows nothing of
//! dispatch. Invariant: whatever documents say, only their places are asked, within fixed limits of time
//! and size, and no log or error text holds more of a URL than its origin.

mod asking;
mod bundle;
mod challenge;
mod documents;
mod places;
mod report;
mod resource;
mod server;
mod service;
mod status;

pub use asking::Budget;
pub use bundle::{Entry, INDEX, Register, Registration, Trust};
pub use places::Source;
pub use report::{Attempt, Challenge, Report};
pub use service::{Answer, Discovery, OnChange};
pub use status::{Conclusion, Status};

use std::time::SystemTime;

use crate::mcp::http::HttpBinding;

/// Looks for the metadata of the protected resource behind `binding`, and for those of its
/// authorization server if `with_server`.
pub fn discover(binding: &HttpBinding, budget: Budget, with_server: bool) -> Report {
    let started = SystemTime::now();
    let challenge = resource::challenge(binding, budget);
    let places = places::of_resource(binding.url(), challenge.advertised.as_ref());
    let mut attempts: Vec<Attempt> = places.into_iter().map(Attempt::new).collect();
    let found = resource::find(binding, budget, &mut attempts);
    let servers = found.as_ref().map(|found| found.metadata.authorization_servers.as_slice());
    let server = match servers {
        Some([first, others @ ..]) if with_server => {
            if !others.is_empty() {
                log::info!(target: "oauth", ignored = others.len(); "only the first authorization server is looked at");
            }
            server::find(binding, budget, first)
        }
        _ => None,
    };
    Report { started, challenge, attempts, found, server }
}
