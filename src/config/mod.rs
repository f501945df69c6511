//! Settings: one table, four layers (flag, environment, document, default), one typed [`Config`].
//!
//! Knows nothing of how anything runs. Invariant: loading opens no connection and writes no file.

mod certificate;
mod command_line;
mod control_plane;
mod document;
mod duration;
mod environment;
mod error;
pub mod flags;
mod harpoon;
mod headers;
mod load;
mod loader;
mod mcp;
mod proxy;
mod reference;
mod schema;
mod select;
pub mod settings;
#[cfg(test)]
mod tests;
mod types;
mod urls;
mod validate;
mod yaml;

pub use certificate::{INVALID_CA_BUNDLE, INVALID_CONTROL_PLANE_CERTIFICATE, INVALID_MCP_CERTIFICATE};
pub use command_line::{CommandLineError, split_command};
pub use duration::format_duration;
pub use environment::Environment;
pub use error::{ConfigError, ConfigErrors, ErrorKind};
pub use flags::{Extracted, FlagError, FlagValues, OwnFlag, extract};
pub use load::load;
pub use select::{profile_directory, profile_name, profile_path};
pub use types::{
    AdminUi, CertificatePair, Cloudflared, Config, ControlPlane, Document, Harpoon, HarpoonTarget, Health,
    Log, LogFormat, LogLevel, Mcp, McpBinding, McpTarget, ProxySetting, Switch,
};
pub use validate::validate_document;
