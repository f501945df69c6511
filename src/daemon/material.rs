//! What is made of a configuration before anything starts: trust, certificates, routes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use crate::config::{
    CertificatePair, Config, INVALID_CA_BUNDLE, INVALID_CONTROL_PLANE_CERTIFICATE, INVALID_MCP_CERTIFICATE,
    Mcp, McpBinding, McpTarget, ProxySetting, Switch,
};
use crate::control_plane::DeclaredChannels;
use crate::ids::Channel;
use crate::mcp::Binding;
use crate::mcp::http::{HttpBinding, HttpObserver, HttpTarget};
use crate::mcp::stdio::{Redactor, StdioBinding, StdioTarget};
use crate::net::{
    Cancel, ClientCertificate, HttpClient, Limits, Origin, OriginCertificate, ProxyPolicy, ProxyUrl, Route,
    Trust, Via, is_no_server_address,
};
use crate::redact;

use super::callouts::{self, Callouts};
use super::routes::{self, KnownRoute};
use super::systemd;

/// Idle connections to the control plane beyond one for each worker: the poll's and the metadata's.
const SPARE_CONNECTIONS: usize = 2;
/// Idle connections kept to authorization servers.
const OUTSIDE_CONNECTIONS: usize = 1;

/// Loaded and checked, nothing opened.
pub struct Material {
    trust: Trust,
    control_plane: Route,
    /// One for each binding of the configuration, in order; none for a child process.
    mcp: Vec<Option<Route>>,
    /// The way to other origins than the server's of the main channel, for OAuth metadata.
    outside: Option<Route>,
    routes: Vec<KnownRoute>,
    callouts: Callouts,
}

/// A binding that is not started yet.
pub(super) struct BuiltBinding {
    pub(super) channel: Channel,
    pub(super) binding: Arc<Binding>,
    /// Whether commands of its channel are polled; if not, its child runs, but nothing is routed to it.
    pub(super) polled: bool,
}

/// A file that the configuration names cannot be used.
#[derive(Debug)]
pub struct MaterialError(String);

impl Material {
    /// Loads trust and certificates. `socket` replaces the way to the control plane.
    pub fn load(config: &Config, socket: Option<PathBuf>) -> Result<Material, MaterialError> {
        let trust = Trust::load(config.ca_bundle.as_deref())
            .map_err(|e| MaterialError(format!("{INVALID_CA_BUNDLE}: {e}")))?;
        let settings = &config.control_plane;
        let via = match socket {
            Some(socket) => Via::Unix(socket),
            None => Via::Proxies(policy(&settings.proxy)?),
        };
        let certificate = settings.client_certificate.as_ref();
        let control_plane = Route {
            client_certificate: certificate
                .map(|pair| origin_certificate(pair, &settings.base_url, INVALID_CONTROL_PLANE_CERTIFICATE))
                .transpose()?,
            limits: limits(config.mcp.max_concurrent_requests.saturating_add(SPARE_CONNECTIONS)),
            ..Route::new(via, trust.clone())
        };
        let mcp = config.mcp.bindings.iter().map(|binding| mcp_route(&binding.target, &config.mcp, &trust));
        let mcp: Vec<_> = mcp.collect::<Result<_, _>>()?;
        let main = config.mcp.bindings.iter().find(|binding| binding.channel.is_main());
        let outside = main.map(|main| outside_route(&main.target, &trust)).transpose()?.flatten();
        let routes = routes::all(config, &control_plane, &mcp)?;
        let callouts = Callouts::load(&config.harpoon)?;
        Ok(Material { trust, control_plane, mcp, outside, routes, callouts })
    }

    /// The embedded caller's targets.
    pub(super) fn callouts(&self) -> &Callouts {
        &self.callouts
    }

    /// The channels that are declared to the control plane, those that may come up included if `all`.
    pub fn declared_channels(&self, config: &Config, all: bool) -> DeclaredChannels {
        let bindings = config.mcp.bindings.iter().filter(|binding| is_polled(config, &binding.channel));
        let mut declared: DeclaredChannels = bindings
            .map(|binding| (binding.channel.clone(), matches!(binding.target, McpTarget::Stdio { .. })))
            .collect();
        if callouts::is_polled(config) && (all || self.callouts.registry().is_routable()) {
            declared.extend(callouts::channel().map(|channel| (channel, true)));
        }
        declared
    }

    /// Whom TLS trusts.
    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// All routes of the configuration, as operators see them.
    pub(super) fn routes(&self) -> &[KnownRoute] {
        &self.routes
    }

    /// Whether any target is reached over TLS.
    pub(super) fn uses_tls(&self, config: &Config) -> bool {
        let mcp = config.mcp.bindings.iter().filter_map(|binding| match &binding.target {
            McpTarget::Http { url, .. } => Some(url),
            McpTarget::Stdio { .. } => None,
        });
        mcp.chain([&config.control_plane.base_url]).any(|url| url.scheme() == "https")
    }

    /// The way to the control plane.
    pub fn control_plane_route(&self) -> &Route {
        &self.control_plane
    }

    /// The bindings of the channels that are polled, not started yet. `cut` ends what they do.
    pub fn bindings(&self, config: &Config, cut: &Cancel) -> Vec<(Channel, Arc<Binding>)> {
        let polled = self.all_bindings(config, cut, None).into_iter().filter(|built| built.polled);
        polled.map(|built| (built.channel, built.binding)).collect()
    }

    /// The bindings, not started yet. `cut` ends what they do. A server over HTTP whose channel is not
    /// polled is left out: there is nothing to be done with it.
    /// `observer` hears of their HTTP requests.
    pub(super) fn all_bindings(
        &self,
        config: &Config,
        cut: &Cancel,
        observer: Option<Arc<dyn HttpObserver>>,
    ) -> Vec<BuiltBinding> {
        let polled = |channel: &Channel| is_polled(config, channel);
        let with_routes = config.mcp.bindings.iter().zip(&self.mcp);
        with_routes
            .filter_map(|(McpBinding { channel, target, protocol_bridge }, route)| {
                let bridge = *protocol_bridge == Switch::Auto;
                let polled = polled(channel);
                let binding = match (target, route) {
                    (McpTarget::Http { url, .. }, Some(route)) if polled => {
                        let binding = http_binding((channel, bridge), url, route, config, cut);
                        let binding = match self.outside.as_ref().filter(|_| channel.is_main()) {
                            Some(route) => binding.with_outside(HttpClient::new(route, cut)),
                            None => binding,
                        };
                        let binding = match &observer {
                            Some(observer) => binding.with_observer(Arc::clone(observer)),
                            None => binding,
                        };
                        Binding::Http(binding.shared())
                    }
                    (McpTarget::Http { .. }, _) => return None,
                    (McpTarget::Stdio { command, argv }, _) => {
                        Binding::Stdio(stdio_binding((channel, bridge), command, argv, config, cut))
                    }
                };
                Some(BuiltBinding { channel: channel.clone(), binding: Arc::new(binding), polled })
            })
            .collect()
    }
}

fn is_polled(config: &Config, channel: &Channel) -> bool {
    config.control_plane.poll_channels.as_ref().is_none_or(|allowed| allowed.contains(channel))
}

fn http_binding(
    (channel, bridge): (&Channel, bool),
    url: &Url,
    route: &Route,
    config: &Config,
    cut: &Cancel,
) -> HttpBinding {
    let mcp = &config.mcp;
    let target = HttpTarget {
        url: url.clone(),
        static_headers: mcp.extra_headers.clone(),
        discovery_headers: mcp.discovery_extra_headers.clone(),
        max_message_bytes: mcp.max_message_bytes,
    };
    HttpBinding::new(target, HttpClient::new(route, cut))
        .with_cancel(cut)
        .with_bridge(bridge, channel.as_str(), mcp.protocol_probe_timeout, mcp.handshake_timeout)
        .with_raw_log(config.log.http_raw_unsafe)
}

fn stdio_binding(
    (channel, bridge): (&Channel, bool),
    command: &str,
    argv: &[String],
    config: &Config,
    cut: &Cancel,
) -> StdioBinding {
    let mcp = &config.mcp;
    let own = systemd::VARIABLES.map(str::to_owned);
    let target = StdioTarget {
        hidden_variables: config.secret_variables.iter().cloned().chain(own).collect(),
        max_message_bytes: mcp.max_message_bytes,
        lifecycle_care: mcp.stdio_lifecycle == Switch::Auto,
        bridge,
        probe_window: mcp.protocol_probe_timeout,
        handshake_timeout: mcp.handshake_timeout,
        redactor: Some(redactor(config)),
        log_raw_messages: config.log.http_raw_unsafe,
        // Only shown: the words are what is run.
        ..StdioTarget::new(channel.as_str(), redact::text(command), argv.to_vec())
    };
    StdioBinding::new(target, cut)
}

/// Hides the API key, should a child ever print it.
fn redactor(config: &Config) -> Redactor {
    let key = config.control_plane.api_key.clone();
    Arc::new(move |text| {
        if text.contains(key.expose()) {
            text.replace(key.expose(), "[redacted]").into()
        } else {
            text.into()
        }
    })
}

fn mcp_route(target: &McpTarget, mcp: &Mcp, trust: &Trust) -> Result<Option<Route>, MaterialError> {
    let McpTarget::Http { url, unix_socket, proxy, client_certificate } = target else { return Ok(None) };
    let via = match unix_socket {
        Some(path) => Via::Unix(path.clone()),
        None => Via::Proxies(policy(proxy)?),
    };
    let certificate = client_certificate.as_ref();
    Ok(Some(Route {
        client_certificate: certificate
            .map(|pair| origin_certificate(pair, url, INVALID_MCP_CERTIFICATE))
            .transpose()?,
        accept_gzip: true,
        limits: limits(mcp.max_concurrent_requests),
        ..Route::new(via, trust.clone())
    }))
}

/// The way to the metadata that the server at `target` refers to. Neither its socket nor its client
/// certificate are for them, and nothing but a hostile document would name the host's own surroundings.
fn outside_route(target: &McpTarget, trust: &Trust) -> Result<Option<Route>, MaterialError> {
    let McpTarget::Http { url, proxy, .. } = target else { return Ok(None) };
    let literal = url.host_str().map(|host| host.trim_matches(['[', ']'])).and_then(|host| host.parse().ok());
    Ok(Some(Route {
        accept_gzip: true,
        only_servers: !literal.is_some_and(is_no_server_address),
        limits: limits(OUTSIDE_CONNECTIONS),
        ..Route::new(Via::Proxies(policy(proxy)?), trust.clone())
    }))
}

fn limits(idle_connections: usize) -> Limits {
    Limits { idle_connections, ..Limits::default() }
}

pub(super) fn policy(setting: &ProxySetting) -> Result<ProxyPolicy, MaterialError> {
    match setting {
        ProxySetting::Environment => Ok(ProxyPolicy::environment()),
        ProxySetting::Fixed { url, source } => {
            let proxy = ProxyUrl::from_url(url.expose())
                .map_err(|e| MaterialError(format!("invalid {source}: {e}")))?;
            Ok(ProxyPolicy::Fixed { proxy, source: source.clone() })
        }
    }
}

fn origin_certificate(
    pair: &CertificatePair,
    url: &Url,
    what: &str,
) -> Result<OriginCertificate, MaterialError> {
    let certificate = ClientCertificate::load(&pair.certificate, &pair.key)
        .map_err(|e| MaterialError(format!("{what}: {e}")))?;
    let origin =
        origin_of(url).ok_or_else(|| MaterialError(format!("{what}: the URL is neither http nor https")))?;
    Ok(OriginCertificate { certificate, origin })
}

fn origin_of(url: &Url) -> Option<Origin> {
    url.as_str().parse().ok().and_then(|uri| Origin::of(&uri))
}

impl MaterialError {
    pub(super) fn new(cause: impl fmt::Display) -> MaterialError {
        MaterialError(cause.to_string())
    }
}

impl fmt::Display for MaterialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MaterialError {}
