//! `dev mcp-stub`.

use argh::FromArgs;

use crate::config::flags::OwnFlag;
use crate::config::settings::Kind;
use crate::mcp::stub::{DEFAULT_LISTEN_ADDR, DEFAULT_NAME, DEFAULT_VERSION, Stub};
use crate::net::Cancel;

use super::args::{Parsed, flag, parse};
use super::{Failure, help, signals};

/// Serve a small demo MCP server with OAuth metadata until SIGINT or SIGTERM.
#[derive(FromArgs)]
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
    /// ignored
    #[argh(positional, hidden_help)]
    _extra: Vec<String>,
}

const FLAGS: &[OwnFlag] =
    &[flag("listen-addr", Kind::Text), flag("server-name", Kind::Text), flag("server-version", Kind::Text)];

pub(super) fn main(words: &[&str]) -> Result<(), Failure> {
    let arguments: McpStub = match parse("tunnel-client dev mcp-stub", words, FLAGS)? {
        Parsed::Command(arguments) => arguments,
        Parsed::Help(text) => return help::print(&text),
    };
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
