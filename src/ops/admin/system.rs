//! `/api/system`: whom TLS trusts, and how the proxies are doing.

use serde::Serialize;
use serde_json::{Value, json};

use super::Sources;
use super::channel::probe_status;
use super::document::{Members, local};
use super::status::route;
use crate::ops::{CheckRecord, RouteHealth};

pub(super) fn document(from: &Sources) -> Value {
    let trust = (from.trust)();
    let tls = Members::new()
        .with("system_trust", plain(&trust.system_trust))
        .with_some("extra_bundle", trust.extra_bundle.as_ref().map(plain).unwrap_or_default());
    let identities: Vec<Value> = from.proxy_health.identities().iter().map(plain).collect();
    let health: Vec<Value> = from.proxy_health.routes().iter().map(route_health).collect();
    let probe = from.state.probe().value;
    let (status, error) = probe_status(&probe);
    let system = Members::new()
        .with("tls", tls)
        .with_some("proxy_identity_map", identities)
        .with_some("proxy_health", health)
        .with("main_channel_probe_status", status)
        .with_some("main_channel_probe_error", error);
    system.into()
}

/// The document of something that has a JSON form already.
fn plain(value: &impl Serialize) -> Value {
    serde_json::to_string(value).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn route_health(known: &RouteHealth) -> Value {
    let history: Vec<Value> = known.history.iter().map(check).collect();
    let shown = Members::new()
        .with("route", route(&known.route))
        .with("health_state", known.state.label())
        .with_some("last_check", known.last_check.map(local).unwrap_or_default())
        .with_some("last_success", known.last_success.map(local).unwrap_or_default())
        .with_some("history", history);
    shown.into()
}

fn check(record: &CheckRecord) -> Value {
    let milliseconds = |time: Option<std::time::Duration>| {
        json!(time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    };
    let (phase, reason) = record.failure.unwrap_or_default();
    let shown = Members::new()
        .with("timestamp", local(record.at))
        .with("success", record.success())
        .with_some("tcp_duration_ms", milliseconds(record.tcp))
        .with_some("connect_duration_ms", milliseconds(record.connect))
        .with_some("error_phase", phase)
        .with_some("error_reason", reason)
        .with_some("http_status_category", record.http_status_category().unwrap_or_default());
    shown.into()
}
