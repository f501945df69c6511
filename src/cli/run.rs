//! `run`: the client in the foreground.

use std::time::Duration;

use crate::config::flags::{Extracted, FlagValues, OwnFlag, extract};
use crate::config::settings::{self, Kind};
use crate::config::{Config, Environment, load};
use crate::daemon::{Daemon, Material, Options};
use crate::ids::random_hex;
use crate::mcp::stub::{DEFAULT_LISTEN_ADDR, DEFAULT_NAME, DEFAULT_VERSION, Stub};
use crate::net::Cancel;
use crate::ops::log::{Fields, install};

use super::{Failure, help, signals};

/// All of a stop has to fit in it.
const STOP_BUDGET: Duration = Duration::from_secs(15);

const STUB: &str = "embedded-mcp-stub";
const STUB_ADDR: &str = "embedded-mcp-listen-addr";
const STUB_NAME: &str = "embedded-mcp-server-name";
const STUB_VERSION: &str = "embedded-mcp-server-version";

const OWN_FLAGS: &[OwnFlag] = &[
    OwnFlag { name: STUB, kind: Kind::Bool },
    OwnFlag { name: STUB_ADDR, kind: Kind::Text },
    OwnFlag { name: STUB_NAME, kind: Kind::Text },
    OwnFlag { name: STUB_VERSION, kind: Kind::Text },
];

/// Help of the flags that are no settings.
pub(super) const OWN_HELP: &[(&str, &str)] = &[
    ("embedded-mcp-stub", "Serve a demo MCP server in this process and use it as channel main."),
    ("embedded-mcp-listen-addr string", "Address of the demo MCP server (default 127.0.0.1:0)"),
    ("embedded-mcp-server-name string", "Name of the demo MCP server (default mcp-stub)"),
    ("embedded-mcp-server-version string", "Version of the demo MCP server (default 0.1.0)"),
];

pub(super) fn main(words: &[&str]) -> Result<(), Failure> {
    let Extracted { mut flags, positionals, help } =
        extract(words.iter().copied(), settings::ALL, OWN_FLAGS).map_err(Failure::new)?;
    if help {
        return help::print(&help::run());
    }
    let stop = Cancel::new();
    let force = Cancel::new();
    let _signals = signals::watch(&stop, &force).map_err(Failure::new)?;
    let _stub = embedded_stub(&mut flags)?;
    let config = load(&flags, &Environment::of_process())
        .map_err(|errors| Failure::new(errors.with_prefix("configure tunnel-client: ")))?;
    let material = Material::load(&config, None)
        .map_err(|error| Failure::new(format!("configure tunnel-client: {error}")))?;
    let instance_id = random_hex().map_err(start_failure)?;
    let tunnel_id = config.control_plane.tunnel_id.to_string();
    let fields = Fields { client_instance_id: instance_id.clone(), tunnel_id: Some(tunnel_id) };
    install(&config.log, fields, None).map_err(start_failure)?;
    warn(&config, &positionals);
    let options = Options { instance_id, listen: true, stop_budget: STOP_BUDGET };
    let daemon = Daemon::start(&config, material, options).map_err(start_failure)?;
    let _force = daemon.kill_on(&force);
    daemon.announce(&config, &stop);
    stop.wait_forever();
    daemon.stop().map_err(|error| Failure::new(format!("stop tunnel-client: {error}")))
}

fn start_failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("start tunnel-client: {error}"))
}

/// What the operator should know, before anything is opened.
fn warn(config: &Config, positionals: &[String]) {
    for warning in &config.warnings {
        log::warn!(target: "process", "{warning}");
    }
    if !positionals.is_empty() {
        log::warn!(target: "process", arguments = positionals.len(); "arguments that are no flags are ignored");
    }
    if config.log.http_raw_unsafe {
        log::warn!(target: "process",
            "raw HTTP logging is on: at debug level, log lines hold credentials and payloads");
    }
}

/// Starts the demo MCP server if it is asked for, and makes it channel `main`.
fn embedded_stub(flags: &mut FlagValues) -> Result<Option<Stub>, Failure> {
    if !flags.is_true(STUB) {
        return Ok(None);
    }
    for taken in [settings::MCP_COMMAND.flag, settings::MCP_SERVER_URL.flag] {
        if flags.is_given(taken) {
            return Err(Failure::new(format!(
                "--embedded-mcp-stub cannot be combined with --{taken}; use one main MCP target path"
            )));
        }
    }
    let text = |flag: &str, default: &str| flags.last(flag).unwrap_or(default).to_owned();
    let (address, name, version) = (
        text(STUB_ADDR, DEFAULT_LISTEN_ADDR),
        text(STUB_NAME, DEFAULT_NAME),
        text(STUB_VERSION, DEFAULT_VERSION),
    );
    let stub = Stub::start(&address, &name, &version)
        .map_err(|error| Failure::new(format!("start embedded MCP stub: listen {address}: {error}")))?;
    help::print(&format!(
        "Embedded MCP stub enabled.\n\
         MCP URL: {}\n\
         Protected resource metadata: {}\n\
         Authorization server metadata: {}\n\
         These are the embedded demo MCP/OAuth endpoints; the health URL is logged later.\n\
         Demo tools: server_info, echo, uppercase\n",
        stub.url(),
        stub.resource_metadata_url(),
        stub.server_metadata_url(),
    ))?;
    flags.set(settings::MCP_SERVER_URL.flag, vec![format!("channel=main,url={}", stub.url())]);
    Ok(Some(stub))
}
