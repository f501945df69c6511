//! `/api/status`: what this client is, what it serves, and how.

use serde_json::{Value, json};

use super::document::{Members, local};
use super::{Sources, channel};
use crate::config::format_duration;
use crate::net::{RouteDescription, RouteKind};

const RAW_LOGGING_WARNING: &str = "Raw HTTP logging is enabled; sensitive data may be exposed.";

pub(super) fn document(from: &Sources) -> Value {
    let facts = &from.facts;
    let time = |duration: std::time::Duration| match duration.is_zero() {
        true => String::new(),
        false => format_duration(duration),
    };
    let harpoon = from.harpoon.as_ref().map(|harpoon| harpoon.status());
    let harpoon = channel::harpoon(harpoon.as_ref(), facts.harpoon_polled);
    let channels = channel::all((from.channels)(), &from.state.probe().value, harpoon);
    let routes = from.proxy_health.routes();
    let of_kind = |kind| routes.iter().map(|known| &known.route).filter(move |route| route.kind == kind);
    let control_plane = of_kind(RouteKind::ControlPlane).next().map(route);
    let mcp: Vec<Value> = of_kind(RouteKind::McpChannel).map(route).collect();
    let warnings: &[&str] = if facts.raw_http_logging { &[RAW_LOGGING_WARNING] } else { &[] };
    let (metadata, metadata_error) = match from.state.metadata() {
        None => (Value::Null, String::new()),
        Some(Err(error)) => (Value::Null, error),
        // Twice: the capitalised names are what existing pages read.
        Some(Ok(known)) => (
            json!({
                "ID": known.id, "Name": known.name, "Description": known.description,
                "id": known.id, "name": known.name, "description": known.description,
            }),
            String::new(),
        ),
    };
    let contact = from.state.contact();
    let (error_at, error) = contact.last_error.map(|(at, error)| (local(at), error)).unwrap_or_default();
    let contact = Members::new()
        .with_some("last_success", contact.last_success.map(local).unwrap_or_default())
        .with_some("last_error", error)
        .with_some("last_error_at", error_at);
    let status = Members::new()
        .with("version", facts.version.as_str())
        .with("client_instance_id", facts.client_instance_id.as_str())
        .with("started_at", local(from.state.started_at()))
        .with("uptime_seconds", from.state.uptime().as_secs())
        .with_some("health_listen_addr", facts.health_listen_addr.as_str())
        .with_some("control_plane_base_url", facts.control_plane_base_url.as_str())
        .with_some("control_plane_tunnel_id", facts.tunnel_id.as_str())
        .with_some("control_plane_max_inflight", facts.max_inflight)
        .with_some("control_plane_poll_timeout", time(facts.poll_timeout))
        .with_some("control_plane_poll_deadline_guardrail", time(facts.poll_deadline_guardrail))
        .with_some("control_plane_contact", contact)
        .with_some("mcp_server_url", facts.mcp_server_url.as_str())
        .with_some("mcp_resource_metadata_urls", facts.resource_metadata_urls.as_slice())
        .with("channels", channels)
        .with_some("control_plane_route", control_plane.unwrap_or_default())
        .with_some("mcp_routes", mcp)
        .with("raw_http_logging_enabled", facts.raw_http_logging)
        .with_some("tunnel_metadata", metadata)
        .with_some("tunnel_metadata_error", metadata_error)
        .with_some("warnings", warnings);
    status.into()
}

/// One route, as every document shows it.
pub(super) fn route(route: &RouteDescription) -> Value {
    let shown = Members::new()
        .with("kind", route.kind.label())
        .with("name", route.name.as_str())
        .with_some("target", route.target.as_str())
        .with("route_mode", route.route_mode)
        .with("proxy_source", route.proxy_source.as_str())
        .with_some("proxy_url", route.proxy_url.as_str())
        .with_some("proxy_id", route.proxy_id.as_str());
    shown.into()
}
