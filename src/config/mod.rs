//! Settings: one table, four layers (flag, environment, document, default), one typed [`Config`].
//!
//! Knows nothing of how anything runs. Invariant: loading opens no connection and writes no file.

mod admin;
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
mod init;
mod load;
mod loader;
mod mcp;
mod mcp_entry;
mod preflight;
mod profiles;
mod proxy;
mod reference;
mod samples;
mod schema;
mod secrets;
mod select;
pub mod settings;
#[cfg(test)]
mod tests;
mod types;
mod urls;
mod validate;
mod yaml;

pub use admin::{AdminEndpoint, admin_endpoint, admin_key, admin_or_runtime_key};
pub use certificate::{INVALID_CA_BUNDLE, INVALID_CONTROL_PLANE_CERTIFICATE, INVALID_MCP_CERTIFICATE};
pub use command_line::{CommandLineError, split_command};
pub use document::document_as_json;
pub use duration::{format_duration, parse_duration};
pub use environment::Environment;
pub use error::{ConfigError, ConfigErrors, ErrorKind};
pub use flags::{Extracted, FlagError, FlagValues, OwnFlag, extract};
pub use init::{InitRequest, SETUP_URLS, init, shell_quoted};
pub use load::{check_stub_flags, load, selected_document};
pub use preflight::{PreflightError, preflight};
pub use profiles::{
    Profile, ProfileError, edit_profile, editor_command, list_profiles, read_profile_source, store_profile,
};
pub use samples::{
    DEFAULT_API_KEY_REFERENCE, SAMPLES, STDIO_LOCAL, Sample, SampleInputs, TargetRule, WITH_DCR,
    list_samples, sample,
};
pub use select::{profile_directory, profile_name, profile_path};
pub use types::{
    AdminUi, CertificatePair, Cloudflared, Config, ControlPlane, Document, Harpoon, HarpoonTarget, Health,
    Log, LogFormat, LogLevel, Mcp, McpBinding, McpTarget, ProxySetting, Switch,
};
pub use validate::validate_document;
