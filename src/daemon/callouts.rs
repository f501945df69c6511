//! The embedded caller of allow-listed targets, as one of this client's channels.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::material::{self, BuiltBinding, Material, MaterialError};
use super::observe::Observers;
use crate::config::{Config, Harpoon};
use crate::harpoon::{
    self, Bounds, Discovered, InProcess, NewTarget, PrivateHosts, Registry, Server, Setup, Ways, views,
};
use crate::ids::Channel;
use crate::mcp::Binding;
use crate::net::{Cancel, ProxyPolicy, RouteDescription, RouteKind};
use crate::oauth::{self, Entry, Registration};
use crate::ops::admin::HarpoonReport;
use crate::ops::harpoon::PATH;
use crate::ops::listener::Listener;
use crate::ops::log::List;

/// Category of targets that an operator configured.
const CONFIGURED: &str = "config";
/// Why a URL on the MCP server's own origin may be called.
const RESOURCE_HOST: &str = "oauth-protected-resource-host";

/// Targets and the way to them, checked, nothing opened.
pub(super) struct Callouts {
    registry: Arc<Registry>,
    proxies: ProxyPolicy,
    hosts: Arc<PrivateHosts>,
}

impl Callouts {
    /// Registers the configured targets.
    pub(super) fn load(config: &Harpoon) -> Result<Callouts, MaterialError> {
        let registry = Registry::new(config.allow_plaintext_http);
        for target in &config.targets {
            let new = NewTarget {
                label: target.label.clone(),
                url: target.spelled.clone(),
                description: target.description.clone(),
                category: CONFIGURED.to_owned(),
                source: CONFIGURED.to_owned(),
                unix_socket: target.unix_socket.clone(),
                ..NewTarget::default()
            };
            registry.register(new).map_err(MaterialError::new)?;
        }
        let (suffixes, patterns) = (&config.hosts_include_suffix, &config.hosts_include_regex);
        let hosts = PrivateHosts::new(
            config.hosts_include_loopback,
            config.hosts_include_private,
            suffixes,
            patterns,
        );
        Ok(Callouts {
            registry: Arc::new(registry),
            proxies: material::policy(&config.proxy)?,
            hosts: Arc::new(hosts),
        })
    }

    /// The allow-list.
    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The server, whose calls end when `cut` fires.
    pub(super) fn server(
        &self,
        config: &Config,
        material: &Material,
        observers: &Arc<Observers>,
        cut: &Cancel,
    ) -> Arc<Server> {
        let setup = Setup {
            bounds: Bounds {
                max_response_bytes: config.harpoon.max_response_bytes,
                max_redirects: config.harpoon.max_redirects,
            },
            ways: Ways { trust: material.trust().clone(), proxies: self.proxies.clone() },
            capture_payloads: config.harpoon.capture_payloads,
            registry: Arc::clone(&self.registry),
            observer: Arc::clone(observers) as _,
        };
        Arc::new(Server::new(setup, cut))
    }

    /// Puts what a discovery found onto the allow-list, as far as it can be trusted.
    pub(super) fn register(&self) -> Box<oauth::Register> {
        let (registry, hosts) = (Arc::clone(&self.registry), Arc::clone(&self.hosts));
        Box::new(move |entries| {
            let mut outcome = Registration::default();
            for entry in entries {
                match register(&registry, &hosts, entry) {
                    Ok(()) => outcome.admitted += 1,
                    Err(refusal) if outcome.refusals.contains(&refusal) => {}
                    Err(refusal) => outcome.refusals.push(refusal),
                }
            }
            outcome
        })
    }
}

/// Whether commands of the caller's channel are polled.
pub(super) fn is_polled(config: &Config) -> bool {
    let allowed = config.control_plane.poll_channels.as_ref();
    allowed.is_none_or(|allowed| allowed.iter().any(|channel| channel.as_str() == Channel::HARPOON))
}

/// The channel of the caller.
pub(super) fn channel() -> Option<Channel> {
    Channel::parse(Channel::HARPOON).ok()
}

/// The binding of `server`'s channel.
pub(super) fn binding(server: &Arc<Server>, polled: bool) -> Option<BuiltBinding> {
    let binding = Arc::new(Binding::InMemory(Box::new(InProcess::new(Arc::clone(server)))));
    channel().map(|channel| BuiltBinding { channel, binding, polled })
}

fn register(registry: &Registry, hosts: &PrivateHosts, entry: &Entry) -> Result<(), String> {
    let origin = crate::redact::origin(&entry.url);
    let host = harpoon::TargetUrl::parse(&entry.url).map(|url| url.host().to_owned()).unwrap_or_default();
    let private = hosts.reason(&host);
    let reason = match entry.trust {
        oauth::Trust::Own { as_private: true, .. } if private.is_some() => private,
        oauth::Trust::Own { as_resource: true, .. } => Some(RESOURCE_HOST.to_owned()),
        _ => {
            let exclusion = if private.is_some() { "private-host-registration-disabled" } else { "" };
            let label = harpoon::label_of(entry.role, oauth::INDEX);
            log::info!(target: "harpoon", label = label.as_str(), url = origin.as_str(),
                source = harpoon::OAUTH, role = entry.role,
                group = entry.group.as_deref().unwrap_or_default(), exclusion_reason = exclusion;
                "discovered URL not registered");
            return Err(format!("{origin} is not vouched for by the origin of the MCP server"));
        }
    };
    let found = Discovered {
        url: entry.url.clone(),
        role: entry.role.to_owned(),
        index: oauth::INDEX,
        group: entry.group.clone().unwrap_or_default(),
        description: entry.description.to_owned(),
        inclusion_reason: reason.unwrap_or_default(),
        unix_socket: entry.unix_socket.clone(),
    };
    registry.register_discovered(found).map(drop).map_err(|error| format!("{origin}: {error}"))
}

/// Says what the caller may do, where there is anything it can do.
pub(super) fn announce(server: &Server, config: &Config, listener: Option<&Listener>) {
    let over_http = config.harpoon.http_streamable && listener.is_some();
    if !server.registry().is_routable() && !over_http {
        return;
    }
    let transports = &["in_memory", "http_streamable"][..1 + usize::from(over_http)];
    let endpoint = listener.filter(|_| over_http).map(|listener| format!("{}{PATH}", listener.base_url()));
    log::info!(target: "harpoon", targets = server.registry().len(), transports:% = List(transports),
        endpoint = endpoint.as_deref().unwrap_or_default(); "harpoon enabled");
}

impl harpoon::Observer for Observers {
    fn called(
        &self,
        label: &str,
        status: Option<u16>,
        outcome: &'static str,
        latency: Duration,
        response_bytes: u64,
    ) {
        self.metrics().harpoon_call(label, status, outcome, latency, response_bytes);
    }
}

/// What the admin API shows of it.
pub(super) struct Report {
    server: Arc<Server>,
    routes: Value,
}

impl Report {
    /// `routes` are all that are known at the start.
    pub(super) fn new<'r>(
        server: &Arc<Server>,
        routes: impl Iterator<Item = &'r RouteDescription>,
    ) -> Report {
        let targets: Vec<_> = routes.filter(|route| route.kind == RouteKind::HarpoonTarget).collect();
        let routes = serde_json::to_value(targets).unwrap_or_default();
        Report { server: Arc::clone(server), routes }
    }
}

impl HarpoonReport for Report {
    fn status(&self) -> Value {
        views::status(&self.server, &self.routes)
    }

    fn targets(&self) -> Value {
        views::targets(self.server.registry())
    }

    fn calls(&self, label: Option<&str>, limit: usize) -> Value {
        views::calls(self.server.history(), label, limit)
    }
}
