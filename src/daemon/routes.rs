//! What operators are told about the ways out: each route, each proxy, whom TLS trusts.

use std::io;
use std::thread::JoinHandle;

use super::Material;
use crate::config::Config;
use crate::net::{RouteDescription, proxy_identities};
use crate::ops::log::Json;

/// Logs how the control plane is reached, and the proxies of all routes.
pub(super) fn log_routes(routes: &[RouteDescription]) {
    if let Some(route) = routes.first() {
        log_control_plane(route);
    }
    let proxies = proxy_identities(routes);
    if !proxies.is_empty() {
        let records = serde_json::to_string(&proxies).unwrap_or_default();
        log::info!(target: "proxyhealth", records:% = Json(&records); "proxy identity map");
    }
}

fn log_control_plane(route: &RouteDescription) {
    let (name, target, mode) = (route.name.as_str(), route.target.as_str(), route.route_mode);
    let source = route.proxy_source.as_str();
    if route.proxy_id.is_empty() {
        log::info!(target: "controlplane", route_kind = "control_plane", route_name = name,
            target_host = target, route_mode = mode, proxy_source = source; "route resolved");
    } else {
        log::info!(target: "controlplane", route_kind = "control_plane", route_name = name,
            target_host = target, route_mode = mode, proxy_source = source,
            proxy_url = route.proxy_url.as_str(), proxy_id = route.proxy_id.as_str(); "route resolved");
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
