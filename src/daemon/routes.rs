//! The ways to the control plane, the MCP servers and the allow-listed targets, as operators see them.
//!
//! Invariant: a route is described by the same decision that its requests are dialled by.

use std::io;
use std::path::Path;
use std::thread::JoinHandle;

use log::kv::Value;
use url::Url;

use crate::config::{Config, HarpoonTarget, McpTarget, ProxySetting};
use crate::net::{Decision, Origin, ProxyUrl, Route, RouteDescription, RouteKind, Via, proxy_identities};

use crate::ops::log::Json;

use super::material::{self, Material, MaterialError};

/// One way, and what a check of its proxy needs.
#[derive(Clone, Debug)]
pub(super) struct KnownRoute {
    /// What is shown of it.
    pub(super) description: RouteDescription,
    /// Its proxy, unless it is direct.
    pub(super) proxied: Option<Proxied>,
    detail: Detail,
}

/// A proxy and what it is used for.
#[derive(Clone, Debug)]
pub(super) struct Proxied {
    pub(super) proxy: ProxyUrl,
    /// The `host:port` that a tunnel is asked for; none for plain `http`, which needs no tunnel.
    pub(super) tunnel: Option<String>,
}

/// What else the log tells.
#[derive(Clone, Debug, Default)]
struct Detail {
    transport: &'static str,
    certificate: Option<String>,
    unix_socket: Option<String>,
}

/// All routes of a configuration: the control plane's, then the channels' and the targets', in order.
pub(super) fn all(
    config: &Config,
    control_plane: &Route,
    mcp: &[Option<Route>],
) -> Result<Vec<KnownRoute>, MaterialError> {
    let mut routes = vec![KnownRoute::to(
        RouteKind::ControlPlane,
        "control-plane",
        &config.control_plane.base_url,
        &control_plane.via,
    )];
    for (binding, route) in config.mcp.bindings.iter().zip(mcp) {
        let name = binding.channel.as_str();
        let mut known = match (&binding.target, route) {
            (McpTarget::Http { url, .. }, Some(route)) => {
                KnownRoute::to(RouteKind::McpChannel, name, url, &route.via)
            }
            _ => KnownRoute::of_child(name),
        };
        known.detail = Detail::of(&binding.target);
        routes.push(known);
    }
    for target in &config.harpoon.targets {
        let via = harpoon_via(target, &config.harpoon.proxy)?;
        let host = target.url.host_str().unwrap_or_default();
        let name = if target.label.is_empty() { host } else { &target.label };
        routes.push(KnownRoute::to(RouteKind::HarpoonTarget, name, &target.url, &via));
    }
    Ok(routes)
}

/// Logs how the control plane and the channels are reached, and which proxies there are.
pub(super) fn log_all(routes: &[KnownRoute]) {
    for route in routes {
        match route.description.kind {
            RouteKind::ControlPlane => route.log("controlplane", "route resolved"),
            RouteKind::McpChannel => route.log("mcpclient", "mcp channel route resolved"),
            RouteKind::HarpoonTarget => route.log("harpoon", "harpoon route resolved"),
        }
    }
    let descriptions: Vec<_> = routes.iter().map(|route| route.description.clone()).collect();
    let proxies = proxy_identities(&descriptions);
    if !proxies.is_empty()
        && let Ok(records) = serde_json::to_string(&proxies)
    {
        log::info!(target: "proxyhealth", records:% = Json(&records); "proxy identity map");
    }
}

/// Logs whom TLS trusts. On a thread of its own: reading the system's certificates takes milliseconds,
/// which neither a start nor a first poll over plain HTTP has to wait for.
pub(super) fn spawn_trust_summary(material: &Material, config: &Config) -> io::Result<JoinHandle<()>> {
    let (trust, tls) = (material.trust().clone(), material.uses_tls(config));
    std::thread::Builder::new().name("trust".into()).spawn(move || {
        if tls {
            trust.prepare();
        }
        let report = trust.report();
        let system = serde_json::to_string(&report.system_trust).unwrap_or_default();
        match report.extra_bundle.map(|bundle| serde_json::to_string(&bundle).unwrap_or_default()) {
            Some(bundle) => log::info!(target: "process", system_trust:% = Json(&system),
                extra_bundle:% = Json(&bundle); "tls trust summary"),
            None => {
                log::info!(target: "process", system_trust:% = Json(&system); "tls trust summary");
            }
        }
    })
}

impl KnownRoute {
    /// The way to `url` along `via`.
    fn to(kind: RouteKind, name: &str, url: &Url, via: &Via) -> KnownRoute {
        let Some(origin) = url.as_str().parse().ok().and_then(|uri| Origin::of(&uri)) else {
            // Unreachable: loading accepts http and https URLs with a host only.
            return KnownRoute::of_child(name);
        };
        let proxied = match via {
            Via::Proxies(policy) => match policy.decide(&origin) {
                Decision::Proxy { proxy, .. } => {
                    Some(Proxied { proxy, tunnel: origin.is_https().then(|| origin.host_and_port()) })
                }
                Decision::Direct => None,
            },
            Via::Direct | Via::Unix(_) => None,
        };
        let description = RouteDescription::of(kind, name, &origin, via);
        KnownRoute { description, proxied, detail: Detail::default() }
    }

    fn of_child(name: &str) -> KnownRoute {
        let description = RouteDescription::of_child(RouteKind::McpChannel, name);
        KnownRoute { description, proxied: None, detail: Detail::default() }
    }

    /// One event with the fields of the route; those that say nothing are left out.
    pub(super) fn log(&self, component: &str, message: &str) {
        let (route, detail) = (&self.description, &self.detail);
        let mut fields: Vec<(&str, Value<'_>)> = Vec::new();
        if route.kind == RouteKind::McpChannel {
            fields.push(("channel", route.name.as_str().into()));
            fields.push(("transport", detail.transport.into()));
            fields.push(("mtls_enabled", detail.certificate.is_some().into()));
        }
        fields.push(("route_kind", route.kind.label().into()));
        fields.push(("route_name", route.name.as_str().into()));
        fields.push(("target_host", route.target.as_str().into()));
        let optional = |text: &'static str, value: Option<&str>| {
            value.filter(|value| !value.is_empty()).map(|value| (text, value.to_owned()))
        };
        let paths = [
            optional("mtls_cert_path", detail.certificate.as_deref()),
            optional("unix_socket_path", detail.unix_socket.as_deref()),
        ];
        fields.extend(paths.iter().flatten().map(|(key, value)| (*key, value.as_str().into())));
        fields.push(("route_mode", route.route_mode.into()));
        fields.push(("proxy_source", route.proxy_source.as_str().into()));
        if !route.proxy_id.is_empty() {
            fields.push(("proxy_url", route.proxy_url.as_str().into()));
            fields.push(("proxy_id", route.proxy_id.as_str().into()));
        }
        if log::log_enabled!(target: component, log::Level::Info) {
            log::logger().log(
                &log::Record::builder()
                    .level(log::Level::Info)
                    .target(component)
                    .args(format_args!("{message}"))
                    .key_values(&fields)
                    .build(),
            );
        }
    }
}

impl Detail {
    fn of(target: &McpTarget) -> Detail {
        let text = |path: &Path| path.display().to_string();
        match target {
            McpTarget::Http { unix_socket, client_certificate, .. } => Detail {
                transport: "http-streamable",
                certificate: client_certificate.as_ref().map(|pair| text(&pair.certificate)),
                unix_socket: unix_socket.as_deref().map(text),
            },
            McpTarget::Stdio { .. } => Detail { transport: "stdio", ..Detail::default() },
        }
    }
}

fn harpoon_via(target: &HarpoonTarget, proxy: &ProxySetting) -> Result<Via, MaterialError> {
    Ok(match &target.unix_socket {
        Some(path) => Via::Unix(path.clone()),
        None => Via::Proxies(material::policy(proxy)?),
    })
}
