//! `dev mcp-stub`.

use argh::{ArgsInfo, FromArgs};

use crate::mcp::stub::{DEFAULT_LISTEN_ADDR, DEFAULT_NAME, DEFAULT_VERSION, Stub};
use crate::net::Cancel;

use super::tree::{Call, Node, Shape, Words};
use super::{Failure, help, signals};

/// Serve a small demo MCP server with OAuth metadata until SIGINT or SIGTERM.
#[derive(ArgsInfo, FromArgs)]
struct McpStub {
    /// address to listen on (default 127.0.0.1:0)
    #[argh(option, default = "DEFAULT_LISTEN_ADDR.into()")]
    listen_addr: String,
    /// name the server gives itself (default mcp-stub)
    #[argh(option, default = "DEFAULT_NAME.into()")]
    server_name: String,
    /// version the server gives itself (default 0.1.0)
    #[argh(option, default = "DEFAULT_VERSION.into()")]
    server_version: String,
}

pub(super) static COMMAND: Node = Node {
    name: "mcp-stub",
    summary: "Serve a small demo MCP server with OAuth metadata until SIGINT or SIGTERM",
    declared: Some(McpStub::get_args_info),
    kind: Shape::Command { words: Words::None, help: None, main },
    ..Node::BLANK
};

fn main(call: &Call) -> Result<(), Failure> {
    let arguments: McpStub = call.arguments()?;
    let stop = Cancel::new();
    let _signals = signals::watch(&stop, &Cancel::new()).map_err(Failure::new)?;
    let mut stub = Stub::start(&arguments.listen_addr, &arguments.server_name, &arguments.server_version)
        .map_err(|e| Failure::new(format!("start MCP stub: listen {}: {e}", arguments.listen_addr)))?;
    help::print(&format!(
        "MCP stub listening on {base}\n\
         MCP URL: {url}\n\
         Protected resource metadata: {resource}\n\
         Authorization server metadata: {server}\n\
         \n\
         These are demo endpoints only; nothing behind them is protected.\n\
         \n\
         Next:\n  \
           tunnel-client demo --url {url}\n  \
           tunnel-client init --tunnel-id tunnel_... --mcp-server-url {url}\n  \
           tunnel-client doctor --profile sample_mcp_with_dcr --explain\n  \
           tunnel-client run --control-plane.tunnel-id tunnel_... --mcp.server-url {url}\n\
         \n\
         Try asking for:\n  \
           the server's info (server_info), an echo (echo), a text in upper case (uppercase)\n",
        base = stub.base(),
        url = stub.url(),
        resource = stub.resource_metadata_url(),
        server = stub.server_metadata_url(),
    ))?;
    stop.wait_forever();
    stub.stop();
    Ok(())
}
