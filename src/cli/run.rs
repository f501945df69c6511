//! `run`: the client in the foreground.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::select;

use crate::config::{Config, Environment, FlagValues, check_stub_flags, load, settings};
use crate::daemon::{Daemon, Material, Notifier, Options};
use crate::ids::random_hex;
use crate::mcp::stub::{DEFAULT_LISTEN_ADDR, DEFAULT_NAME, DEFAULT_VERSION, Stub};
use crate::net::Cancel;
use crate::ops::log::{Fields, Ring, install, install_beside_status, redactor};

use super::tree::{Call, Node, Shape, Words};
use super::{Failure, help, signals, status};

/// All of a stop has to fit in it.
const STOP_BUDGET: Duration = Duration::from_secs(15);

const STUB: &str = "embedded-mcp-stub";

pub(super) static COMMAND: Node = Node {
    name: "run",
    summary: "Run the client in the foreground",
    settings: settings::ALL,
    flags: settings::RUN_FLAGS,
    kind: Shape::Command { words: Words::None, help: Some(help::run), main },
    ..Node::BLANK
};

fn main(call: &Call) -> Result<(), Failure> {
    let mut flags = call.flags.clone();
    let stop = Cancel::new();
    let force = Cancel::new();
    let signals = signals::watch_loading(&stop, &force).map_err(Failure::new)?;
    let environment = Environment::of_process();
    // With a place-holder for the demo server's address, which is known only once it runs: nothing is
    // started for a configuration that is wrong.
    let with_stub = claim_main_for_stub(&mut flags)?;
    let mut config = configure(&flags, &environment)?;
    let _stub = if with_stub { Some(start_stub(&mut flags)?) } else { None };
    if with_stub {
        config = configure(&flags, &environment)?;
    }
    let material = Material::load(&config, None)
        .map_err(|error| Failure::new(format!("configure tunnel-client: {error}")))?;
    signals.loaded();
    let instance_id = random_hex().map_err(start_failure)?;
    let tunnel_id = config.control_plane.tunnel_id.to_string();
    let fields = Fields { client_instance_id: instance_id.clone(), tunnel_id: Some(tunnel_id) };
    let secrets = config.known_secrets(&environment);
    let ring = Ring::new(config.admin_ui.log_buffer_events, redactor(secrets.clone()));
    let human = status::is_wanted(&config.log, &flags, &environment);
    // Nothing is kept from a log file.
    let install = if human && config.log.file.is_none() { install_beside_status } else { install };
    let log = install(&config.log, fields, Some(Arc::new(ring)), secrets).map_err(start_failure)?;
    if log.has_file() {
        let log = log.clone();
        signals.on_hangup(move || log.reopen()).map_err(start_failure)?;
    }
    warn(&config);
    let options = Options { instance_id, listen: true, stop_budget: STOP_BUDGET, log: Some(log) };
    let mut daemon = Daemon::start(&config, material, options).map_err(start_failure)?;
    let _force = daemon.kill_on(&force);
    let systemd = Notifier::start(&daemon);
    let lost = daemon.lost();
    if human {
        status::follow(&config, &mut daemon, &stop, &lost);
    } else {
        daemon.announce(&config, &stop);
    }
    let ended = select! {
        recv(stop.receiver()) -> _ => Ok(()),
        recv(lost.receiver()) -> _ => Err(Failure::new("the local listener was lost; see the log")),
    };
    if let Some(systemd) = &systemd {
        systemd.stopping();
    }
    let stopped = daemon.stop().map_err(|error| Failure::new(format!("stop tunnel-client: {error}")));
    ended.and(stopped)
}

fn start_failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("start tunnel-client: {error}"))
}

/// What the operator should know, before anything is opened.
fn warn(config: &Config) {
    for warning in &config.warnings {
        log::warn!(target: "process", "{warning}");
    }
    if config.mcp.stdio_send_initialized_notification {
        log::info!(target: "mcpclient",
            "--mcp.stdio-send-initialized-notification is accepted and ignored: stdio lifecycle care sends it when it is missing");
    }
    if config.log.http_raw_unsafe {
        log::warn!(target: "process",
            "⚠️  WARNING: Raw HTTP logging enabled — sensitive data may be exposed");
    }
}

fn configure(flags: &FlagValues, environment: &Environment) -> Result<Config, Failure> {
    load(flags, environment).map_err(|errors| Failure::new(errors.with_prefix("configure tunnel-client: ")))
}

/// Makes the demo MCP server channel `main`, if it is asked for.
fn claim_main_for_stub(flags: &mut FlagValues) -> Result<bool, Failure> {
    check_stub_flags(flags).map_err(Failure::new)?;
    let wanted = flags.is_true(STUB);
    if wanted {
        flags.set(settings::MCP_SERVER_URL.flag, vec!["channel=main,url=http://127.0.0.1/mcp".to_owned()]);
    }
    Ok(wanted)
}

fn start_stub(flags: &mut FlagValues) -> Result<Stub, Failure> {
    let text = |flag: &str, default: &str| flags.last(flag).unwrap_or(default).to_owned();
    let address = text("embedded-mcp-listen-addr", DEFAULT_LISTEN_ADDR);
    let name = text("embedded-mcp-server-name", DEFAULT_NAME);
    let version = text("embedded-mcp-server-version", DEFAULT_VERSION);
    let stub = Stub::start(&address, &name, &version)
        .map_err(|error| Failure::new(format!("start embedded MCP stub: listen {address}: {error}")))?;
    help::print(&format!(
        "Embedded MCP stub enabled.\n\
         MCP URL: {}\n\
         Protected resource metadata: {}\n\
         Authorization server metadata: {}\n\
         These are the embedded demo MCP/OAuth endpoints; health and UI URLs are logged later.\n\
         Demo tools: server_info, echo, uppercase\n",
        stub.url(),
        stub.resource_metadata_url(),
        stub.server_metadata_url(),
    ))?;
    flags.set(settings::MCP_SERVER_URL.flag, vec![format!("channel=main,url={}", stub.url())]);
    Ok(stub)
}
