//! The running client: wiring, start order, drain.
//!
//! Knows every room, and nothing of command lines. Invariant: what was started is stopped in reverse
//! order, within the budget, on every path out.

mod administration;
mod announce;
mod callouts;
mod discovering;
mod material;
mod observe;
mod probing;
mod proxy_checks;
mod routes;
mod stopping;
mod systemd;

use std::fmt;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use material::{Material, MaterialError};
pub use systemd::Notifier;

use crate::config::{Config, McpTarget};
use crate::control_plane::{
    Client, MetadataFetch, PollState, Poller, PollerHandle, ServerInfo, Settings, render_server_info,
};
use crate::dispatch::{Dispatcher, Setup};
use crate::ids::Channel;
use crate::mcp::Binding;
use crate::net::{Cancel, CancelGuard, Deadline, RouteDescription};
use crate::ops::listener::{Listener, PidFile};
use crate::ops::log::LogHandle;
use crate::ops::{ProxyHealth, State};

use discovering::{Discovering, Subject};
use observe::Observers;
use probing::Probing;
use proxy_checks::ProxyChecks;

/// Workers that the embedded caller's channel adds.
const EMBEDDED_WORKERS: usize = 1;

/// What a caller may change of a client's ways.
#[derive(Clone, Debug)]
pub struct Options {
    /// 32 hexadecimal digits, made once per process.
    pub instance_id: String,
    /// Whether the local listener is opened.
    pub listen: bool,
    /// All of a stop has to fit in it.
    pub stop_budget: Duration,
    /// The log, for the admin API.
    pub log: Option<LogHandle>,
}

/// A client that runs.
pub struct Daemon {
    options: Options,
    state: Arc<State>,
    poll_state: Arc<PollState>,
    observers: Arc<Observers>,
    /// Cuts every exchange with an MCP server.
    mcp_cut: Cancel,
    /// Cuts every request to the control plane.
    control_plane_cut: Cancel,
    listener: Option<Listener>,
    bindings: Vec<Arc<Binding>>,
    dispatcher: Option<Dispatcher>,
    metadata: Option<MetadataFetch>,
    poller: Option<PollerHandle>,
    probing: Option<Probing>,
    discovering: Option<Discovering>,
    pid_file: Option<PidFile>,
    proxy_health: Arc<ProxyHealth>,
    proxy_checks: Option<ProxyChecks>,
    trust_summary: Option<JoinHandle<()>>,
    browser: Option<Child>,
}

/// The client could not be started; what had been started is stopped again.
#[derive(Debug)]
pub struct StartError(String);

/// The client stopped, but not everything went well.
#[derive(Debug)]
pub struct StopError(String);

impl StartError {
    fn new(cause: impl fmt::Display) -> StartError {
        StartError(cause.to_string())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}
impl std::error::Error for StopError {}

impl Daemon {
    /// Starts everything; returns without waiting for the control plane or an MCP server.
    pub fn start(config: &Config, material: Material, options: Options) -> Result<Daemon, StartError> {
        let state = Arc::new(State::new());
        let (tunnel_id, workers) =
            (config.control_plane.tunnel_id.clone(), config.mcp.max_concurrent_requests);
        let observers = Arc::new(Observers::new(tunnel_id, workers, &state));
        let routes: Vec<RouteDescription> =
            material.routes().iter().map(|route| route.description.clone()).collect();
        let mut daemon = Daemon {
            options,
            proxy_health: Arc::new(ProxyHealth::new(&routes, observers.metrics())),
            observers,
            state,
            poll_state: Arc::new(PollState::new()),
            mcp_cut: Cancel::new(),
            control_plane_cut: Cancel::new(),
            listener: None,
            bindings: Vec::new(),
            dispatcher: None,
            metadata: None,
            poller: None,
            probing: None,
            discovering: None,
            pid_file: None,
            proxy_checks: None,
            trust_summary: None,
            browser: None,
        };
        match daemon.start_parts(config, material) {
            Ok(()) => Ok(daemon),
            Err(error) => {
                if let Err(stop) = daemon.stop() {
                    log::error!(target: "process", error:% = stop; "undoing a failed start");
                }
                Err(error)
            }
        }
    }

    fn start_parts(&mut self, config: &Config, material: Material) -> Result<(), StartError> {
        let observer = Arc::clone(&self.observers) as _;
        let mut built = material.all_bindings(config, &self.mcp_cut, Some(observer));
        let harpoon = material.callouts().server(config, &material, &self.observers, &self.mcp_cut);
        built.extend(callouts::binding(&harpoon, callouts::is_polled(config)));
        let bindings: Vec<_> = built
            .iter()
            .filter(|built| built.polled)
            .map(|built| (built.channel.clone(), Arc::clone(&built.binding)))
            .collect();
        // First, since it may refuse: nothing is opened or run for channels that cannot be declared.
        let client = Arc::new(self.client(config, &material)?);
        let main =
            bindings.iter().find(|(channel, _)| channel.is_main()).map(|(_, binding)| Arc::clone(binding));
        let wait = config.mcp.startup_wait_timeout;
        let subject = Subject {
            main: main.clone(),
            unix_socket: main_socket(config),
            register: material.callouts().register(),
        };
        let discovering = Discovering::prepare(subject, &self.mcp_cut, &self.state);
        if self.options.listen {
            self.open_listener(config, &material, &built, &harpoon, Arc::clone(discovering.status()))?;
        }
        // A port that is taken is thus told in one line, with nothing before it.
        client.announce();
        routes::log_all(material.routes());
        callouts::announce(&harpoon, config, self.listener.as_ref());
        // Before anything starts: another instance that lives is told by its file.
        if let Some(path) = &config.pid_file {
            self.pid_file = Some(PidFile::write(path).map_err(StartError::new)?);
        }
        for built in built {
            // Kept first: a start that fails halfway is stopped with the others.
            self.bindings.push(Arc::clone(&built.binding));
            built.binding.start().map_err(StartError::new)?;
            self.observers.watch_child(&built.channel, &built.binding);
            self.observers.watch_protocol(&built.channel, &built.binding);
            if built.polled {
                self.gate_readiness(&built.channel, &built.binding);
            }
        }
        let dispatcher = Dispatcher::start(Setup {
            capacity: config.control_plane.max_inflight,
            // The embedded caller has a worker of its own beside those of the MCP servers.
            workers: config.mcp.max_concurrent_requests.saturating_add(EMBEDDED_WORKERS),
            connection_ttl: config.mcp.connection_max_ttl,
            routes: bindings.iter().cloned().collect(),
            discovery: discovering.on_command(),
            poster: Arc::clone(&client) as _,
            observer: Arc::clone(&self.observers) as _,
        })
        .map_err(StartError::new)?;
        let queue = dispatcher.queue().clone();
        self.observers.watch_queue(queue.clone());
        self.dispatcher = Some(dispatcher);
        self.metadata = Some(MetadataFetch::spawn(Arc::clone(&client)).map_err(StartError::new)?);

        let probing = Probing::start(main, wait, &self.mcp_cut, &self.state).map_err(StartError::new)?;
        let gate = probing.gate(wait, &self.state);
        self.probing = Some(probing);
        self.discovering.insert(discovering).start(wait, &self.state).map_err(StartError::new)?;
        let poller = Poller {
            client,
            sink: Arc::new(queue),
            observer: Arc::clone(&self.observers) as _,
            state: Arc::clone(&self.poll_state),
            gate,
        };
        self.poller = Some(poller.spawn().map_err(StartError::new)?);
        // Last: the first poll is on its way.
        let interval = config.proxy_check_interval;
        let checks = ProxyChecks::start(material.routes(), interval, material.trust(), &self.proxy_health);
        self.proxy_checks = Some(checks.map_err(StartError::new)?);
        self.trust_summary = Some(routes::spawn_trust_summary(&material, config).map_err(StartError::new)?);
        Ok(())
    }

    fn client(&self, config: &Config, material: &Material) -> Result<Client, StartError> {
        let now = material.declared_channels(config, false);
        let all = material.declared_channels(config, true);
        // Whatever comes up later must fit as well.
        render_server_info(&all).map_err(StartError::new)?;
        let settings = client_settings(config, &self.options.instance_id);
        let registry = Arc::clone(material.callouts().registry());
        let server_info =
            ServerInfo::new(move || if registry.is_routable() { all.clone() } else { now.clone() });
        let observer = Arc::clone(&self.observers) as _;
        Client::new(settings, server_info, material.control_plane_route(), observer, &self.control_plane_cut)
            .map_err(StartError::new)
    }

    /// While the child behind `main` does not run, the client is not ready.
    fn gate_readiness(&self, channel: &Channel, binding: &Arc<Binding>) {
        if channel.is_main() {
            let binding = Arc::downgrade(binding);
            self.state.watch(move || binding.upgrade().and_then(|binding| binding.not_running()));
        }
    }

    /// What is known about readiness.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// How polling is doing.
    pub fn poll_state(&self) -> &Arc<PollState> {
        &self.poll_state
    }

    /// What is known about the proxies in use.
    pub fn proxy_health(&self) -> &Arc<ProxyHealth> {
        &self.proxy_health
    }

    /// Fires when the local listener is lost: the client must not run on unobserved.
    pub fn lost(&self) -> Cancel {
        self.listener.as_ref().map(Listener::lost).unwrap_or_default()
    }

    /// Base URL of the local listener, if it is open.
    pub fn health_url(&self) -> Option<&str> {
        self.listener.as_ref().map(Listener::base_url)
    }

    /// Kills every child at once when `force` fires, and removes the URL file, which would lead nowhere:
    /// for a process that is about to end without [`Daemon::stop`].
    pub fn kill_on(&self, force: &Cancel) -> CancelGuard {
        let bindings = self.bindings.clone();
        let url_file = self.listener.as_ref().and_then(Listener::url_file).cloned();
        force.on_cancel(move || {
            bindings.iter().for_each(|binding| binding.kill());
            let _ = url_file.map(|file| file.remove());
        })
    }

    /// Stops: no new poll, running exchanges finish and are posted within the budget, queued commands
    /// are answered, children end, files go.
    pub fn stop(self) -> Result<(), StopError> {
        let deadline = Deadline::at(Instant::now() + self.options.stop_budget);
        stopping::stop(self, deadline)
    }
}

/// The socket behind which the server of channel `main` is.
fn main_socket(config: &Config) -> Option<PathBuf> {
    let main = config.mcp.bindings.iter().find(|binding| binding.channel.is_main())?;
    match &main.target {
        McpTarget::Http { unix_socket, .. } => unix_socket.clone(),
        McpTarget::Stdio { .. } => None,
    }
}

/// What the control plane's client is made of.
pub fn client_settings(config: &Config, instance_id: &str) -> Settings {
    let settings = &config.control_plane;
    Settings {
        base_url: settings.base_url.clone(),
        url_path: settings.url_path.clone(),
        tunnel_id: settings.tunnel_id.clone(),
        organization_id: settings.organization_id.clone(),
        api_key: settings.api_key.clone(),
        instance_id: instance_id.to_owned(),
        client_version: crate::VERSION.to_owned(),
        poll_timeout: settings.poll_timeout,
        poll_deadline_guardrail: settings.poll_deadline_guardrail,
        poll_channels: settings.poll_channels.clone(),
        extra_headers: settings.extra_headers.clone(),
        log_raw_http: config.log.http_raw_unsafe,
    }
}
