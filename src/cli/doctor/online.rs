//! `--online`: one request to the control plane, over the route that `run` would take.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, SETUP_URLS, settings};
use crate::control_plane::{Client, MetadataError, ServerInfo, StatusError};
use crate::daemon::{self, Material};
use crate::ids::random_hex;
use crate::net::Cancel;

use super::report::Check;

const ID: &str = "control_plane_online";
/// Time for the request, in two halves as a client counts it.
const HALF_TIME: Duration = Duration::from_secs(5);

pub(super) fn check(config: &Config, material: &Material) -> Check {
    let client = match client(config, material) {
        Ok(client) => client,
        Err(reason) => return Check::fail(ID, reason),
    };
    let base = config.control_plane.base_url.origin().ascii_serialization();
    let (summary, next) = match client.fetch_metadata() {
        Ok(tunnel) => {
            return Check::pass(ID, format!("{base} knows the tunnel and accepts the key (name {:?})", tunnel.name));
        }
        Err(MetadataError::Status(error)) => (format!("HTTP {} from {base}{}", error.status_line(), said(&error)), advice(&error, config)),
        Err(MetadataError::Transport(error)) => (
            format!("{base} is unreachable: {error}"),
            vec![
                format!("Check --{} and whether this host may connect to it.", settings::CONTROL_PLANE_BASE_URL.flag),
                "If a proxy or a private CA is in between, check control_plane.http_proxy, http_proxy and ca_bundle.".to_owned(),
            ],
        ),
        Err(error) => (error.to_string(), vec![format!("Check --{}: what answers is no control plane.", settings::CONTROL_PLANE_BASE_URL.flag)]),
    };
    Check::fail(ID, summary)
        .why("Commands come from the control plane; without it nothing arrives.")
        .with_evidence([format!("GET {base}/v1/tunnels/{}", config.control_plane.tunnel_id)])
        .with_next(next)
}

fn client(config: &Config, material: &Material) -> Result<Client, String> {
    let instance_id = random_hex().map_err(|error| error.to_string())?;
    let settings = daemon::client_settings(config, &instance_id);
    let settings = crate::control_plane::Settings {
        poll_timeout: HALF_TIME,
        poll_deadline_guardrail: HALF_TIME,
        log_raw_http: false,
        ..settings
    };
    let declared = material.declared_channels(config, false);
    let server_info = ServerInfo::new(move || declared.clone());
    Client::new(settings, server_info, material.control_plane_route(), Arc::new(()), &Cancel::new())
        .map_err(|error| error.to_string())
}

fn said(error: &StatusError) -> String {
    match error.message() {
        "" => String::new(),
        message => format!(": {message}"),
    }
}

fn advice(error: &StatusError, config: &Config) -> Vec<String> {
    let hosted =
        config.control_plane.base_url.host_str().is_some_and(|host| host.ends_with("api.openai.com"));
    let key = &config.control_plane.api_key_source;
    let url = |wanted: &str| {
        SETUP_URLS
            .iter()
            .find(|(id, ..)| *id == wanted)
            .map(|(_, label, url)| format!("{label}: {url}"))
            .unwrap_or_default()
    };
    let mut next = vec![match error.status {
        401 if hosted => format!("The key in {key} is not accepted: create a runtime key ({}).", url("runtime_api_keys_url")),
        401 => format!("The key in {key} is not accepted: ask the operator of this control plane for the runtime key of the tunnel."),
        403 | 404 if !hosted => "Compare the tunnel id with those that this control plane serves, and with those that the key may use.".to_owned(),
        403 => "The key is valid but may not use this tunnel: its principal needs Tunnels Read + Use in the tunnel's scope.".to_owned(),
        404 => format!("The tunnel does not exist there: compare the id with {}.", url("tunnels_management_url")),
        _ => "Try again; if it stays, look at the control plane's status.".to_owned(),
    }];
    next.extend(error.detail.mitigation().map(str::to_owned));
    next
}
