//! `init`: a first profile from a built-in sample.

use argh::{ArgsInfo, FromArgs};

use crate::config::{self, DEFAULT_API_KEY_REFERENCE, Environment, InitRequest, WITH_DCR, settings};

use super::Failure;
use super::tree::{Call, Node, Shape, Words};

/// Write a first profile from a built-in sample.
#[derive(ArgsInfo, FromArgs)]
struct Init {
    /// name of the profile (default sample_mcp_with_dcr)
    #[argh(option, default = "WITH_DCR.into()")]
    profile: String,
    /// sample to start from (default sample_mcp_stdio_local when only a command is given, else sample_mcp_with_dcr)
    #[argh(option, default = "String::new()")]
    sample: String,
    /// directory of named profiles
    #[argh(option, default = "String::new()")]
    profile_dir: String,
    /// replace an existing profile
    #[argh(switch)]
    force: bool,
    /// tunnel to serve (required)
    #[argh(option, default = "String::new()")]
    tunnel_id: String,
    /// control plane (default https://api.openai.com)
    #[argh(option, default = "settings::CONTROL_PLANE_BASE_URL.default.into()")]
    control_plane_base_url: String,
    /// path inserted between the control plane's host and /v1
    #[argh(option, default = "String::new()")]
    control_plane_url_path: String,
    /// where the runtime API key is found: env:NAME or file:PATH (default env:CONTROL_PLANE_API_KEY)
    #[argh(option, default = "DEFAULT_API_KEY_REFERENCE.into()")]
    control_plane_api_key_ref: String,
    /// MCP server over HTTP
    #[argh(option, default = "String::new()")]
    mcp_server_url: String,
    /// MCP server over stdio
    #[argh(option, default = "String::new()")]
    mcp_command: String,
    /// address of the local listener (default 127.0.0.1:8080)
    #[argh(option, default = "settings::HEALTH_LISTEN_ADDR.default.into()")]
    health_listen_addr: String,
    /// open the web UI at start
    #[argh(switch)]
    open_web_ui: bool,
}

pub(super) static COMMAND: Node = Node {
    name: "init",
    summary: "Write a first profile from a built-in sample",
    about: "\
The key itself is never written, only where to find it. `tunnel-client profiles samples list` shows
the samples.",
    examples: &[
        "tunnel-client init --profile lab --tunnel-id tunnel_... --mcp-server-url http://127.0.0.1:3001/mcp",
        "tunnel-client init --profile lab --tunnel-id tunnel_... --mcp-command 'python /path/to/server.py'",
    ],
    declared: Some(Init::get_args_info),
    kind: Shape::Command { words: Words::None, help: None, main },
    ..Node::BLANK
};

fn main(call: &Call) -> Result<(), Failure> {
    let given: Init = call.arguments()?;
    let request = InitRequest {
        profile: given.profile,
        sample: given.sample,
        profile_dir: given.profile_dir,
        force: given.force,
        tunnel_id: given.tunnel_id,
        base_url: given.control_plane_base_url,
        url_path: given.control_plane_url_path,
        api_key_reference: given.control_plane_api_key_ref,
        server_url: given.mcp_server_url,
        command: given.mcp_command,
        health_listen_addr: given.health_listen_addr,
        open_web_ui: given.open_web_ui,
    };
    let mut text = Vec::new();
    config::init(&request, &Environment::of_process(), &mut text).map_err(Failure::new)?;
    super::help::print(&String::from_utf8_lossy(&text))
}
