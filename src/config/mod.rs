//! Settings: one table, four layers (flag, environment, document, default), one typed [`Config`].
//!
//! Knows nothing of how anything runs. Invariant: loading opens no connection and writes no file.

mod types;

pub use types::{
    AdminUi, CertificatePair, Cloudflared, Config, ControlPlane, Document, Harpoon, HarpoonTarget, Health, Log,
    LogFormat, LogLevel, Mcp, McpBinding, McpTarget, ProxySetting,
};
