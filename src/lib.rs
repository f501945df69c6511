//! Connects a private MCP server to a control plane over outbound HTTPS only.
//!
//! `ARCHITECTURE.md` tells the story. The rooms, ground floor first, each importing only those before
//! it: `ids`, `order`, `net`, `jsonrpc`, `secret`, `redact`, `config`, `mcp`, `control_plane`, `oauth`, `harpoon`,
//! `dispatch`, `ops`, `server`, `daemon`, `cli`. The invariant that binds them all: every command taken from
//! the control plane ends in exactly one terminal answer, unless its deadline passed.

pub mod cli;
pub mod config;
pub mod control_plane;
pub mod daemon;
pub mod dispatch;
pub mod harpoon;
pub mod ids;
pub mod jsonrpc;
pub mod mcp;
pub mod net;
pub mod oauth;
pub mod ops;
pub mod order;
pub mod redact;
pub mod secret;
pub mod server;

/// Version of this package, as sent in `User-Agent` and shown by `--version`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Stable implementation name, as sent in `X-Tunnel-Client-Name`.
pub const CLIENT_NAME: &str = "tunnel-client-rs";
