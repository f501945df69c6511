//! `dev proxy`: a local control plane and a client for one MCP server, in one process.
//!
//! Wrappers parse its stdout: nothing but the connection data is ever written there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};
use crossbeam_channel::{after, never, select};

use crate::config::{Config, Environment, FlagValues, load, parse_duration, settings};
use crate::daemon::{Daemon, Material, Options};
use crate::ids::{TunnelId, random_hex};
use crate::net::{Cancel, Deadline};
use crate::ops::Probe;
use crate::ops::listener::OwnFile;
use crate::ops::log::{Fields, Ring, install_on_stderr, redactor};
use crate::secret::Secret;
use crate::server::{ListenAt, Local, LocalOptions, parse_listen};

use super::tree::{Call, Node, Shape, Words};
use super::{Failure, help, signals};

const DEFAULT_LISTEN: &str = "127.0.0.1:0";
const DEFAULT_TUNNEL: &str = "tunnel_22222222222222222222222222222222";
const POLL_TIMEOUT: &str = "500ms";
const POLL_GUARDRAIL: &str = "100ms";
const REDIS_URL: &str = "TUNNEL_ENGINE_REDIS_URL";
/// All of the client's stop has to fit in it.
const STOP_BUDGET: Duration = Duration::from_secs(5);
/// Granularity of the wait for the first poll.
const READY_STEP: Duration = Duration::from_millis(2);

/// Run a local control plane and a client for your MCP server until SIGINT or SIGTERM.
#[derive(ArgsInfo, FromArgs)]
struct DevProxy {
    /// TCP address that connectors call (default 127.0.0.1:0)
    #[argh(option)]
    listen: Option<String>,
    /// unix socket that connectors call, instead of an address
    #[argh(option)]
    listen_unix_socket: Option<PathBuf>,
    /// tunnel id (default tunnel_22222222222222222222222222222222)
    #[argh(option, default = "DEFAULT_TUNNEL.into()")]
    tunnel_id: String,
    /// MCP server over HTTP, as mcp.server-url of run; repeatable
    #[argh(option)]
    mcp_server_url: Vec<String>,
    /// MCP server over stdio, as mcp.command of run; repeatable
    #[argh(option)]
    mcp_command: Vec<String>,
    /// named profile of the client
    #[argh(option)]
    profile: Option<String>,
    /// profile file of the client
    #[argh(option)]
    profile_file: Option<String>,
    /// directory of named profiles
    #[argh(option)]
    profile_dir: Option<String>,
    /// address of the client's health listener (default none)
    #[argh(option)]
    health_listen_addr: Option<String>,
    /// file for the health listener's base URL; opens a listener
    #[argh(option)]
    health_url_file: Option<String>,
    /// file for the connection data
    #[argh(option)]
    url_file: Option<PathBuf>,
    /// engine: auto, go or rust (default auto)
    #[argh(option, default = "String::from(\"auto\")")]
    backend: String,
    /// queue of the engine: inmem or redis (default inmem)
    #[argh(option, default = "String::from(\"inmem\")")]
    engine_queue_backend: String,
    /// redis of the engine (default from TUNNEL_ENGINE_REDIS_URL)
    #[argh(option)]
    engine_redis_url: Option<String>,
    /// print the connection data as JSON
    #[argh(switch)]
    print_json: bool,
    /// stop after this long (default: until a signal)
    #[argh(option, arg_name = "duration", default = "String::from(\"0s\")")]
    duration: String,
    /// how long start, MCP probe and first poll may take (default 10s)
    #[argh(option, arg_name = "duration", default = "String::from(\"10s\")")]
    readiness_timeout: String,
    /// how long a connector waits for a response (default 30s)
    #[argh(option, arg_name = "duration", default = "String::from(\"30s\")")]
    response_timeout: String,
    /// how long a silent client counts as connected (default 20s)
    #[argh(option, arg_name = "duration", default = "String::from(\"20s\")")]
    client_last_seen_timeout: String,
    /// none are taken
    #[argh(positional, hidden_help)]
    extra: Vec<String>,
}

pub(super) static COMMAND: Node = Node {
    name: "proxy",
    summary: "Run a local control plane and a client for your MCP server until SIGINT or SIGTERM",
    about: "\
For integration tests. Once the client has polled, the address for MCP callers is printed on stdout,
and nothing else ever is.",
    examples: &[
        "tunnel-client dev proxy --mcp-server-url http://127.0.0.1:3001/mcp",
        "tunnel-client dev proxy --mcp-command 'python server.py' --print-json --duration 2m",
    ],
    declared: Some(DevProxy::get_args_info),
    kind: Shape::Command { words: Words::Any(""), help: None, main },
    ..Node::BLANK
};

fn main(call: &Call) -> Result<(), Failure> {
    let arguments: DevProxy = call.arguments()?;
    check(&arguments)?;
    let ready = Deadline::after(positive(&arguments.readiness_timeout, Duration::from_secs(10))?);
    positive(&arguments.duration, Duration::ZERO)?;
    let stop = Cancel::new();
    let force = Cancel::new();
    let _signals = signals::watch(&stop, &force).map_err(Failure::new)?;
    let api_key = Secret::new(random_hex().map_err(Failure::new)?);
    let local = start_server(&arguments, &api_key)?;
    if let Some(warning) = local.warning() {
        eprintln!("{warning}");
    }
    let (config, listen) = client_config(&arguments, &local, &api_key)?;
    let material =
        Material::load(&config, local.client_socket().map(Path::to_owned)).map_err(Failure::new)?;
    let instance_id = random_hex().map_err(Failure::new)?;
    let fields =
        Fields { client_instance_id: instance_id.clone(), tunnel_id: Some(local.tunnel_id().to_string()) };
    let secrets = config.known_secrets(&Environment::of_process());
    let ring = Ring::new(config.admin_ui.log_buffer_events, redactor(secrets.clone()));
    let log = install_on_stderr(&config.log, fields, Some(Arc::new(ring)), secrets).map_err(Failure::new)?;
    for warning in &config.warnings {
        log::warn!(target: "process", "{warning}");
    }
    let options = Options { instance_id, listen, stop_budget: STOP_BUDGET, log: Some(log) };
    let daemon = Daemon::start(&config, material, options).map_err(Failure::new)?;
    let _force = daemon.kill_on(&force);
    let served = serve(&arguments, &local, &daemon, ready, &stop);
    let stopped = daemon.stop().map_err(|error| Failure::new(format!("stop tunnel-client: {error}")));
    local.stop();
    served.and(stopped)
}

/// From the wait for readiness to the end.
fn serve(
    arguments: &DevProxy,
    local: &Local,
    daemon: &Daemon,
    ready: Deadline,
    stop: &Cancel,
) -> Result<(), Failure> {
    wait_until_ready(local, daemon, ready, stop)?;
    if stop.is_cancelled() {
        return Ok(());
    }
    let json = connection_json(local, daemon.health_url());
    let url_file = match &arguments.url_file {
        None => None,
        Some(path) => {
            let file = OwnFile::write_with_parents(path, json.clone(), 0o644, false);
            Some(file.map_err(|error| Failure::new(format!("write url file {error}")))?)
        }
    };
    let served = announce_and_wait(arguments, local, &json, stop);
    if let Some(Err(error)) = url_file.map(|file| file.remove()) {
        log::warn!(target: "process", error:% = error; "the url file cannot be removed");
    }
    served
}

/// Prints the connection data and waits for the end.
fn announce_and_wait(arguments: &DevProxy, local: &Local, json: &str, stop: &Cancel) -> Result<(), Failure> {
    if arguments.print_json {
        help::print(json)?;
    } else {
        help::print(&connection_text(local))?;
    }
    let end = match positive(&arguments.duration, Duration::ZERO)? {
        Duration::ZERO => never(),
        duration => after(duration),
    };
    select! {
        recv(stop.receiver()) -> _ => Ok(()),
        recv(end) -> _ => Ok(()),
        recv(local.failed()) -> error => {
            let error = error.map_or_else(|e| e.to_string(), |e| e.to_string());
            Err(Failure::new(format!("local control plane: {error}")))
        }
    }
}

/// One budget covers all of it, the start included.
fn wait_until_ready(local: &Local, daemon: &Daemon, until: Deadline, stop: &Cancel) -> Result<(), Failure> {
    // A failed probe is no obstacle: a server that wants authorization refuses ours.
    while daemon.state().probe().value == Probe::Pending && !stop.is_cancelled() {
        if until.is_past() {
            return Err(Failure::new("the MCP probe did not finish within --readiness-timeout"));
        }
        stop.wait(READY_STEP);
    }
    while daemon.poll_state().snapshot().last_success.is_none()
        && local.gauges().parked == 0
        && !stop.is_cancelled()
    {
        if until.is_past() {
            return Err(Failure::new("the client did not poll within --readiness-timeout"));
        }
        stop.wait(READY_STEP);
    }
    Ok(())
}

/// What can be judged before anything is opened.
fn check(arguments: &DevProxy) -> Result<(), Failure> {
    if !arguments.extra.is_empty() {
        return Err(Failure::new(format!("unexpected arguments: {}", arguments.extra.join(" "))));
    }
    if arguments.listen.is_some() && arguments.listen_unix_socket.is_some() {
        return Err(Failure::new("--listen and --listen-unix-socket are mutually exclusive"));
    }
    if arguments.profile.is_some() && arguments.profile_file.is_some() {
        return Err(Failure::new("--profile and --profile-file are mutually exclusive"));
    }
    match arguments.backend.as_str() {
        "auto" | "rust" | "go" => {}
        other => {
            return Err(Failure::new(format!(
                "unknown local proxy backend {other:?} (supported: auto, rust, go)"
            )));
        }
    }
    match (arguments.engine_queue_backend.as_str(), arguments.backend.as_str()) {
        ("inmem", "go") => {
            eprintln!("note: backend go is a compatibility name; the engine of this program serves it");
        }
        ("inmem", _) => {}
        ("redis", "go") => {
            return Err(Failure::new("go local proxy backend does not support redis engine queue backend"));
        }
        ("redis", _) => {
            let url = arguments.engine_redis_url.clone().or_else(|| std::env::var(REDIS_URL).ok());
            return Err(Failure::new(match url.filter(|url| !url.is_empty()) {
                None => {
                    format!("the redis queue backend needs a URL: give --engine-redis-url or set {REDIS_URL}")
                }
                Some(_) => "the redis queue backend is not part of this build; use inmem".to_owned(),
            }));
        }
        (other, _) => {
            return Err(Failure::new(format!(
                "unknown engine queue backend {other:?} (supported: inmem, redis)"
            )));
        }
    }
    let has_source = !arguments.mcp_server_url.is_empty()
        || !arguments.mcp_command.is_empty()
        || arguments.profile.is_some()
        || arguments.profile_file.is_some();
    if has_source {
        Ok(())
    } else {
        Err(Failure::new("set --mcp-server-url, --mcp-command, --profile, or --profile-file"))
    }
}

fn start_server(arguments: &DevProxy, api_key: &Secret<String>) -> Result<Local, Failure> {
    let tunnel_id = TunnelId::parse(arguments.tunnel_id.trim()).map_err(Failure::new)?;
    let ingress = match &arguments.listen_unix_socket {
        Some(path) => ListenAt::Unix(path.clone()),
        None => {
            let text = arguments.listen.as_deref().unwrap_or(DEFAULT_LISTEN);
            parse_listen(text).map_err(|error| Failure::new(format!("--listen: {error}")))?
        }
    };
    let options = LocalOptions {
        ingress,
        response_timeout: positive(&arguments.response_timeout, Duration::from_secs(30))?,
        client_last_seen_timeout: positive(&arguments.client_last_seen_timeout, Duration::from_secs(20))?,
        ..LocalOptions::new(tunnel_id, api_key.clone())
    };
    Local::start(options).map_err(Failure::new)
}

/// The client's configuration, and whether it opens a health listener.
fn client_config(
    arguments: &DevProxy,
    local: &Local,
    api_key: &Secret<String>,
) -> Result<(Config, bool), Failure> {
    let mut flags = FlagValues::default();
    let mut set = |setting: &settings::Setting, value: &str| flags.set(setting.flag, vec![value.to_owned()]);
    set(&settings::CONTROL_PLANE_BASE_URL, &local.client_base_url());
    // That of the process belongs to another control plane.
    set(&settings::CONTROL_PLANE_URL_PATH, "/");
    set(&settings::CONTROL_PLANE_TUNNEL_ID, local.tunnel_id().as_str());
    set(&settings::CONTROL_PLANE_POLL_TIMEOUT, POLL_TIMEOUT);
    set(&settings::CONTROL_PLANE_POLL_DEADLINE_GUARDRAIL, POLL_GUARDRAIL);
    let listen_addr = arguments.health_listen_addr.clone().filter(|address| !address.trim().is_empty());
    let optional = [
        (&settings::PROFILE, &arguments.profile),
        (&settings::PROFILE_FILE, &arguments.profile_file),
        (&settings::PROFILE_DIR, &arguments.profile_dir),
        (&settings::HEALTH_LISTEN_ADDR, &listen_addr),
        (&settings::HEALTH_URL_FILE, &arguments.health_url_file),
    ];
    for (setting, value) in optional {
        if let Some(value) = value {
            set(setting, value);
        }
    }
    let listen = listen_addr.is_some() || arguments.health_url_file.is_some();
    if listen_addr.is_none() {
        set(&settings::HEALTH_LISTEN_ADDR, DEFAULT_LISTEN);
    }
    for (setting, values) in [
        (&settings::MCP_SERVER_URL, &arguments.mcp_server_url),
        (&settings::MCP_COMMAND, &arguments.mcp_command),
    ] {
        if !values.is_empty() {
            flags.set(setting.flag, values.clone());
        }
    }
    let mut environment = Environment::of_process();
    environment.set(settings::CONTROL_PLANE_API_KEY.variable, api_key.expose().as_str());
    let config = load(&flags, &environment).map_err(Failure::new)?;
    Ok((config, listen))
}

/// A duration; zero and less mean `default`.
fn positive(text: &str, default: Duration) -> Result<Duration, Failure> {
    let duration = parse_duration(text).ok_or_else(|| Failure::new(format!("invalid duration {text:?}")))?;
    Ok(if duration.is_zero() { default } else { duration })
}

fn connection_text(local: &Local) -> String {
    match local.ingress() {
        ListenAt::Tcp(_) => format!("MCP URL: {}", local.mcp_url()),
        ListenAt::Unix(path) => {
            format!("MCP Unix socket: {}\nMCP URL path: {}", path.display(), local.mcp_url_path())
        }
    }
}

fn connection_json(local: &Local, health_url: Option<&str>) -> String {
    let mut members = vec![("tunnel_id", local.tunnel_id().to_string()), ("mcp_url", local.mcp_url())];
    match local.ingress() {
        ListenAt::Tcp(_) => members.push(("mcp_transport", "tcp".to_owned())),
        ListenAt::Unix(path) => {
            members.push(("mcp_transport", "unix".to_owned()));
            members.push(("mcp_unix_socket", path.display().to_string()));
            members.push(("mcp_url_path", local.mcp_url_path()));
        }
    }
    members.push(("control_plane_base_url", local.client_base_url()));
    match local.client_socket() {
        None => members.push(("control_plane_transport", "tcp".to_owned())),
        Some(path) => {
            members.push(("control_plane_transport", "unix".to_owned()));
            members.push(("control_plane_unix_socket", path.display().to_string()));
        }
    }
    if let Some(url) = health_url {
        members.push(("health_url", format!("{url}/readyz")));
    }
    members.push(("backend", "rust-in-memory".to_owned()));
    let mut json = String::from("{\n");
    for (i, (name, value)) in members.iter().enumerate() {
        let comma = if i + 1 == members.len() { "" } else { "," };
        let _ = writeln!(json, "  \"{name}\": {}{comma}", serde_json::Value::from(value.as_str()));
    }
    json.push_str("}\n");
    json
}
