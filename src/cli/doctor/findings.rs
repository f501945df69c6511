//! What is said about a configuration that does not load.

use crate::config::{ConfigErrors, ErrorKind, SETUP_URLS, settings};
use crate::daemon::MaterialError;

use super::report::Check;

/// Contradicting selectors, a bad profile name.
pub(super) fn selection(errors: &ConfigErrors) -> Check {
    Check::fail("config_source", errors.first().to_string())
        .why("It decides which document is used; `run` would stop with the same error.")
        .with_next([
            "Give at most one of --config, --profile and --profile-file (or one of their variables)."
                .to_owned(),
            "List the profiles there are: tunnel-client profiles list".to_owned(),
        ])
}

/// The selected document cannot be read.
pub(super) fn unreadable(errors: &ConfigErrors) -> Check {
    Check::fail("profile_load", errors.first().message())
        .why("The selected document cannot be read, and there is no default one.")
        .with_next([
            "Check the path and its permissions.".to_owned(),
            "List the profiles there are: tunnel-client profiles list".to_owned(),
            "Or write one: tunnel-client init --help".to_owned(),
        ])
}

/// A certificate or CA bundle cannot be used.
pub(super) fn material(error: &MaterialError) -> Check {
    Check::fail("config_validation", error.to_string())
        .why("`run` loads the same files and would stop with the same error.")
        .with_next([
            "Fix the file that is named, or the setting that names it, then run doctor again.".to_owned()
        ])
}

/// The configuration does not load: one record, about the first error; the others are evidence.
pub(super) fn configuration(errors: &ConfigErrors, run_command: &str) -> Check {
    let first = errors.first();
    let (id, why, next) = match first.kind {
        ErrorKind::TunnelId => (
            "tunnel_id",
            "The tunnel id says which tunnel's commands this client takes.",
            tunnel_id(run_command),
        ),
        ErrorKind::ApiKey => (
            "control_plane_api_key",
            "Every request to the control plane carries this key.",
            api_key(run_command),
        ),
        ErrorKind::BaseUrl => (
            "control_plane_base_url",
            "It is where commands come from.",
            vec![format!(
                "Set --{} or {} to the control plane's address, such as {}.",
                settings::CONTROL_PLANE_BASE_URL.flag,
                settings::CONTROL_PLANE_BASE_URL.variable,
                settings::CONTROL_PLANE_BASE_URL.default
            )],
        ),
        ErrorKind::McpTarget => {
            ("mcp_target", "Commands are forwarded to an MCP server; channel main needs one.", mcp_target())
        }
        ErrorKind::Document | ErrorKind::DocumentUnreadable => (
            "profile_load",
            "The document has to be valid before anything of it is used.",
            vec![
                "Fix the file (tunnel-client profiles edit <name>), then run doctor again.".to_owned(),
                "Compare it with a sample: tunnel-client profiles samples show sample_mcp_with_dcr"
                    .to_owned(),
            ],
        ),
        ErrorKind::Selection | ErrorKind::Other => (
            "config_validation",
            "`run` would stop with the same error.",
            vec![
                "Change the setting that is named; tunnel-client run --help describes all of them."
                    .to_owned(),
                "Then run doctor again.".to_owned(),
            ],
        ),
    };
    let lines = errors
        .iter()
        .flat_map(|error| error.message().lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>());
    let summary = match errors.iter().count() {
        1 => first.message().to_owned(),
        count => format!("{} (and {} more: --explain)", first.message(), count - 1),
    };
    Check::fail(id, summary).why(why).with_evidence(lines).with_next(next)
}

fn url(id: &str) -> String {
    SETUP_URLS
        .iter()
        .find(|(known, ..)| *known == id)
        .map(|(_, label, url)| format!("{label}: {url}"))
        .unwrap_or_default()
}

fn tunnel_id(run_command: &str) -> Vec<String> {
    vec![
        format!("Find the id in {}", url("tunnels_management_url")),
        "With the runtime key you can look one up: tunnel-client admin tunnels get <tunnel_id>".to_owned(),
        format!(
            "With an admin key ({}): tunnel-client admin tunnels create --help, tunnel-client admin tunnels list --help",
            url("admin_api_keys_url")
        ),
        "Write it into a profile: tunnel-client init --sample sample_mcp_with_dcr --profile sample_mcp_with_dcr --tunnel-id tunnel_... --mcp-server-url http://127.0.0.1:3001/mcp".to_owned(),
        format!(
            "Or set --{} or {}.",
            settings::CONTROL_PLANE_TUNNEL_ID.flag,
            settings::CONTROL_PLANE_TUNNEL_ID.variable
        ),
        format!(
            "Create the connector ({}) only while `{run_command}` is running. Keep the daemon up for connector discovery and every MCP call from ChatGPT.",
            url("chatgpt_connector_settings_url")
        ),
        "Read more: tunnel-client help quickstart".to_owned(),
    ]
}

fn api_key(run_command: &str) -> Vec<String> {
    let variable = settings::CONTROL_PLANE_API_KEY.variable;
    vec![
        format!("Create a runtime key: {}", url("runtime_api_keys_url")),
        format!("export {variable}=..."),
        format!("Or map another variable: --{} env:NAME", settings::CONTROL_PLANE_API_KEY.flag),
        format!(
            "The admin key ({}) is not meant here: it is for admin commands only.",
            url("admin_api_keys_url")
        ),
        "Run doctor again.".to_owned(),
        format!("Then: {run_command}"),
    ]
}

fn mcp_target() -> Vec<String> {
    vec![
        format!(
            "Set --{} or {} for a server over HTTP,",
            settings::MCP_SERVER_URL.flag,
            settings::MCP_SERVER_URL.variable
        ),
        format!(
            "or --{} or {} for one over stdio,",
            settings::MCP_COMMAND.flag,
            settings::MCP_COMMAND.variable
        ),
        "or add an entry with channel=main to the profile (mcp.server_urls or mcp.commands).".to_owned(),
        "To try it without a server: tunnel-client run --embedded-mcp-stub".to_owned(),
    ]
}
