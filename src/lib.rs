//! Connects a private MCP server to a control plane over outbound HTTPS only.
//!
//! `ARCHITECTURE.md` tells the story; the rooms below are listed ground floor first and import
//! only what stands above them in this list. The invariant that binds them all: every command
//! taken from the control plane ends in exactly one terminal answer, unless its deadline passed.

pub mod ids;
pub mod net;
pub mod jsonrpc;
pub mod secret;
pub mod redact;
pub mod config;
pub mod mcp;
pub mod control_plane;
pub mod dispatch;
pub mod ops;
pub mod server;
pub mod daemon;
pub mod cli;

/// Version of this package, as sent in `User-Agent` and shown by `--version`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Stable implementation name, as sent in `X-Tunnel-Client-Name`.
pub const CLIENT_NAME: &str = "tunnel-client-rs";
